/* chaos - one worker, everything it can do, and every fault, for a while; then quiet, and a
 * verdict (README.md). */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/chaos.h"

uint64_t chaos_any(uint64_t *seed, uint64_t n)
{
    return exj_test_random(seed) % n;
}

void chaos_tell(struct chaos *c, exj_hist_op op, const char *outcome, const char *key, int64_t value)
{
    exj_hist_event e = { .op = op,
                         .phase = EXJ_HIST_OK,
                         .value = value,
                         .outcome = { outcome, strlen(outcome) },
                         .key = { key, strlen(key) } };

    exj_recorder_write(c->history, &e);
}

struct options {
    int64_t ms;
    unsigned kills, clients;
    uint64_t seed;
    bool has_seed, keep, is_tty;
};

static const char usage[] =
    "usage: chaos [--minutes N | --seconds N] [--kills N] [--clients N] [--seed S] [--keep]\n"
    "  --minutes N, --seconds N  how long there are faults (1 minute)\n"
    "  --kills N                 end them earlier, after so many kills of the worker\n"
    "  --clients N               who give orders at once, 1 to 8 (3)\n"
    "  --seed S                  what is tried and when; the machine decides the rest\n"
    "  --keep                    leave the folder with store, history and logs\n";

static bool number(const char *text, uint64_t most, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 0);
    return *text && !*end && !errno && *ret <= most;
}

static int read_options(int argc, char **argv, struct options *o)
{
    *o = (struct options){ .clients = 3 };
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        uint64_t n = 0;

        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            printf("%s", usage);
            return 0;
        }
        if (!strcmp(word, "--keep")) {
            o->keep = true;
            continue;
        }
        if (strcmp(word, "--minutes") && strcmp(word, "--seconds") && strcmp(word, "--kills") &&
            strcmp(word, "--clients") && strcmp(word, "--seed")) {
            fprintf(stderr, "chaos: unknown argument '%s'\n%s", word, usage);
            return 2;
        }
        if (!number(value, !strcmp(word, "--seed") ? UINT64_MAX : 10000000, &n) ||
            (strcmp(word, "--seed") != 0 && n == 0) ||
            (!strcmp(word, "--clients") && n > CLIENTS_MOST)) {
            fprintf(stderr, "chaos: %s wants a number, not '%s'\n", word, value);
            return 2;
        }
        i++;
        if (!strcmp(word, "--minutes"))
            o->ms = (int64_t)n * 60000;
        else if (!strcmp(word, "--seconds"))
            o->ms = (int64_t)n * 1000;
        else if (!strcmp(word, "--kills"))
            o->kills = (unsigned)n;
        else if (!strcmp(word, "--clients"))
            o->clients = (unsigned)n;
        else {
            o->seed = n;
            o->has_seed = true;
        }
    }
    if (!o->ms)
        o->ms = o->kills ? 600 * 1000 + 1000 * (int64_t)o->kills : 60000;
    return -1;
}

/* A worker that is killed every tenth of a second comes to nothing that takes longer: a reload has
 * to be noticed, checked and drained. So storms of kills take turns with times in which it lives. */
#define STORM_KILLS 40u
#define STORM_MS 12000
#define LIFE_MS 2000

struct phase {
    bool is_storm;
    int64_t since;
    unsigned kills; /* as it began */
};

static void next_phase(struct chaos *c, struct phase *p, int64_t now)
{
    if (p->is_storm ? c->faults[F_KILL] - p->kills < STORM_KILLS && now - p->since < STORM_MS
                    : now - p->since < LIFE_MS)
        return;
    *p = (struct phase){ .is_storm = !p->is_storm, .since = now, .kills = c->faults[F_KILL] };
    if (!p->is_storm) { /* once surely, and not often: it takes longer than a lease */
        chaos_fault(c, F_STOP);
        p->since = exj_test_now_ms();
    }
}

static enum fault choose(struct chaos *c, bool is_storm)
{
    static const unsigned shares[2][F_COUNT] = { /* in a hundred */
        { [F_KILL_HOST] = 26, [F_STOP_HOST] = 12, [F_RELOAD] = 46, [F_CLOCK] = 8, [F_PAUSE] = 8 },
        { [F_KILL] = 60, [F_STOP] = 1, [F_KILL_HOST] = 17, [F_STOP_HOST] = 4, [F_CLOCK] = 6,
          [F_FULL] = 5, [F_IO] = 5, [F_PAUSE] = 2 }
    };
    uint64_t at = chaos_any(&c->seed, 100);
    unsigned f = 0;

    while (f + 1 < F_COUNT && at >= shares[is_storm][f])
        at -= shares[is_storm][f++];
    return (enum fault)f;
}

static bool faults(struct chaos *c, const struct options *o)
{
    int64_t began = exj_test_now_ms(), now = began, told = began;
    struct phase phase = { .since = began };

    while (now - began < o->ms && (!o->kills || c->faults[F_KILL] < o->kills)) {
        poll(NULL, 0, (int)chaos_any(&c->seed, 120));
        if (!chaos_keep_running(c))
            return false;
        if (chaos_any(&c->seed, 8) == 0)
            chaos_release_plugin(c);
        next_phase(c, &phase, now);
        chaos_fault(c, choose(c, phase.is_storm));
        now = exj_test_now_ms();
        if (o->is_tty || now - told > 60000) {
            printf("%s%3" PRId64 " s  %u kills  %" PRIu64 " rows  %" PRId64 " events%s",
                   o->is_tty ? "\r" : "", (now - began) / 1000, c->faults[F_KILL],
                   atomic_load(&c->rows), atomic_load(&c->read_to), o->is_tty ? "  " : "\n");
            fflush(stdout);
            told = now;
        }
    }
    if (o->is_tty)
        printf("\n");
    return true;
}

static void report(const struct chaos *c, const struct options *o, int64_t ms, unsigned wrong)
{
    uint64_t commands = 0, replays = 0, refused = 0;

    for (unsigned i = 0; i < c->clients_len; i++) {
        commands += c->clients[i].commands;
        replays += c->clients[i].replays;
        refused += c->clients[i].refused;
    }
    printf("seed %" PRIu64 "  %" PRId64 ".%" PRId64 " s\n", o->seed, ms / 1000, ms % 1000 / 100);
    printf("faults  ");
    for (unsigned f = 0; f < F_COUNT; f++)
        printf("%s%u %s", f ? ", " : "", c->faults[f], fault_words[f]);
    printf("; %" PRId64 " calls of the disk failed; the worker was started %u times, %u times it "
           "ended by itself\n",
           c->disk[1], c->starts, c->deaths);
    printf("orders  %" PRIu64 " commands, %" PRIu64 " answered again, %" PRIu64 " refused; %" PRIu64
           " rows, %" PRId64 " events read\n",
           commands, replays, refused, atomic_load(&c->rows), atomic_load(&c->read_to));
    printf("chaos: %s\n", wrong ? "WRONG" : "nothing was lost, nothing was done that must not be");
    if (wrong)
        printf("again: chaos --seed %" PRIu64 " --kills %u --seconds %" PRId64
               " --clients %u --keep\n",
               o->seed, o->kills ? o->kills : 10000000, o->ms / 1000, o->clients);
}

int main(int argc, char **argv)
{
    static struct chaos c;
    struct options o;
    unsigned wrong = 1;
    int64_t began = exj_test_now_ms();
    int status = read_options(argc, argv, &o);

    if (status >= 0)
        return status;
    setvbuf(stdout, NULL, _IOLBF, 0);
    c.seed = o.has_seed ? o.seed : (o.seed = exj_test_seed("chaos"));
    printf("seed %" PRIu64 "\n", o.seed);
    c.clients_len = o.clients;
    chaos_prepare(&c);
    if (!chaos_keep_running(&c)) {
        printf("WRONG: the worker does not start\n");
        goto out;
    }
    chaos_configure(&c);
    for (unsigned i = 0; i < c.clients_len; i++)
        if (!(c.has_ended[i] = calloc(ROWS_MOST, sizeof(bool))))
            abort();
    for (unsigned i = 0; i < c.clients_len; i++) {
        struct client *l = &c.clients[i];

        *l = (struct client){ .c = &c, .number = i, .rows_most = ROWS_MOST,
                              .seed = exj_test_random(&c.seed) };
        l->rows = calloc(l->rows_most, sizeof(*l->rows));
        if (!l->rows || pthread_create(&l->thread, NULL, chaos_client, l) != 0)
            abort();
    }
    pthread_create(&c.reader, NULL, chaos_reader, &c);
    if (!faults(&c, &o)) {
        printf("WRONG: the worker does not start again\n");
        o.keep = true;
    }
    chaos_calm(&c);
    atomic_store(&c.orders_over, true);
    if (chaos_keep_running(&c)) {
        for (unsigned i = 0; i < c.clients_len; i++)
            pthread_join(c.clients[i].thread, NULL);
        exj_daemon_call(&c.d, "POST", "/v1/schedules/s/pause", NULL, NULL);
        exj_daemon_call(&c.d, "POST", "/v1/workers/resume", NULL, NULL);
        chaos_tell(&c, EXJ_HIST_QUIET, "", "", 0);
        wrong = !chaos_drain(&c, 120000);
        wrong += chaos_judge(&c);
    }
    report(&c, &o, exj_test_now_ms() - began, wrong);
out:
    if (o.keep) {
        printf("kept: %s\n", c.d.tmp.path);
        fflush(stdout);
        _Exit(wrong != 0); /* or else the folder is removed */
    }
    for (unsigned i = 0; i < c.clients_len; i++) {
        free(c.clients[i].rows);
        free(c.has_ended[i]);
    }
    exj_recorder_close(c.history);
    exj_daemon_release(&c.d);
    return wrong != 0;
}
