/* tests/mongo/proxy.c - the chaos proxy (tests/support/chaos_proxy.h) as a program.
 *
 *   mongo_proxy --server PORT [--listen PORT] [--seed N]
 *
 * Prints "port N seed N" and then answers each line of its input with one line, "ok ..."
 * or "error ...": rule FAULT COMMAND [skip=N] [times=N] [permille=N] [ms=N]   ok NUMBER;
 * COMMAND - : any hits NUMBER | clear | cut | refuse on|off | mute on|off | stats The end
 * of the input ends it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/chaos_proxy.h"
#include "tests/support/support.h"

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);

    if (end == text || *end || n > max || *text == '-')
        return false;
    *ret = n;
    return true;
}

static bool member(exj_proxy_rule *r, char *word)
{
    struct {
        const char *name;
        unsigned *value;
    } const members[] = { { "skip", &r->skip },
                          { "times", &r->times },
                          { "permille", &r->permille },
                          { "ms", &r->ms } };
    char *value = strchr(word, '=');
    uint64_t n;

    if (!value || !number(value + 1, 100000000, &n))
        return false;
    *value = '\0';
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (strcmp(word, members[i].name) == 0) {
            *members[i].value = (unsigned)n;
            return true;
        }
    }
    return false;
}

static void add_rule(exj_proxy *p, char **rest)
{
    const char *fault = strtok_r(NULL, " ", rest), *command = strtok_r(NULL, " ", rest);
    exj_proxy_rule r = { 0 };
    char *word;
    int id;

    r.fault = fault ? exj_proxy_fault_by_name(fault) : EXJ_PROXY_FAULTS;
    if (r.fault == EXJ_PROXY_FAULTS || !command || strlen(command) >= sizeof(r.command)) {
        printf("error rule: faults are");
        for (int f = 0; f < EXJ_PROXY_FAULTS; f++)
            printf(" %s", exj_proxy_fault_name((exj_proxy_fault)f));
        printf("; then a command of at most %zu bytes, or -\n", sizeof(r.command) - 1);
        return;
    }
    if (strcmp(command, "-") != 0)
        strcpy(r.command, command);
    while ((word = strtok_r(NULL, " ", rest))) {
        if (!member(&r, word)) {
            printf("error rule: \"%s\": skip, times, permille or ms, = and a number\n",
                   word);
            return;
        }
    }
    id = exj_proxy_add(p, &r);
    if (id < 0)
        printf("error rule: %d are there; clear first\n", EXJ_PROXY_RULES);
    else
        printf("ok %d\n", id);
}

static void turn(exj_proxy *p, const char *what, const char *how)
{
    void (*set)(exj_proxy *, bool) =
        strcmp(what, "refuse") == 0 ? exj_proxy_refuse : exj_proxy_mute;

    if (!how || (strcmp(how, "on") != 0 && strcmp(how, "off") != 0)) {
        printf("error %s: on or off\n", what);
        return;
    }
    set(p, strcmp(how, "on") == 0);
    printf("ok\n");
}

static void tell_stats(exj_proxy *p)
{
    exj_proxy_stats s = exj_proxy_look(p);

    printf("ok connections=%" PRIu64 " open=%" PRIu64 " requests=%" PRIu64
           " replies=%" PRIu64,
           s.connections, s.open, s.requests, s.replies);
    for (int f = 0; f < EXJ_PROXY_FAULTS; f++)
        printf(" %s=%" PRIu64, exj_proxy_fault_name((exj_proxy_fault)f), s.faults[f]);
    printf("\n");
}

static void obey(exj_proxy *p, char *line)
{
    char *rest = NULL, *word, *more;
    uint64_t id;

    line[strcspn(line, "\n")] = '\0';
    word = strtok_r(line, " ", &rest);
    if (!word) {
        printf("error an empty line\n");
    } else if (strcmp(word, "rule") == 0) {
        add_rule(p, &rest);
    } else if (strcmp(word, "hits") == 0) {
        more = strtok_r(NULL, " ", &rest);
        if (more && number(more, EXJ_PROXY_RULES - 1, &id))
            printf("ok %" PRIu64 "\n", exj_proxy_hits(p, (int)id));
        else
            printf("error hits: the number of a rule\n");
    } else if (strcmp(word, "clear") == 0) {
        exj_proxy_clear(p);
        printf("ok\n");
    } else if (strcmp(word, "cut") == 0) {
        exj_proxy_cut_all(p);
        printf("ok\n");
    } else if (strcmp(word, "refuse") == 0 || strcmp(word, "mute") == 0) {
        turn(p, word, strtok_r(NULL, " ", &rest));
    } else if (strcmp(word, "stats") == 0) {
        tell_stats(p);
    } else {
        printf("error \"%s\": rule, hits, clear, cut, refuse, mute or stats\n", word);
    }
}

static int usage(const char *word)
{
    fprintf(stderr,
            "mongo_proxy: \"%s\" is not understood\n"
            "usage: mongo_proxy --server PORT [--listen PORT] [--seed N]\n",
            word);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t server = 0, listen = 0, seed = 0;
    bool seeded = false;
    exj_proxy *p;
    char line[256];

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return usage(argv[i]);
        if (strcmp(argv[i], "--server") == 0 && number(argv[i + 1], 65535, &server))
            continue;
        if (strcmp(argv[i], "--listen") == 0 && number(argv[i + 1], 65535, &listen))
            continue;
        if (strcmp(argv[i], "--seed") == 0 && number(argv[i + 1], UINT64_MAX, &seed)) {
            seeded = true;
            continue;
        }
        return usage(argv[i]);
    }
    if (!server)
        return usage("no --server");
    if (!seeded)
        seed = exj_test_seed("mongo_proxy");
    setvbuf(stdout, NULL, _IOLBF, 0);
    p = exj_proxy_start((uint16_t)server, (uint16_t)listen, seed);
    printf("port %u seed %" PRIu64 "\n", (unsigned)exj_proxy_port(p), seed);
    while (fgets(line, sizeof(line), stdin))
        obey(p, line);
    exj_proxy_end(p);
    return 0;
}
