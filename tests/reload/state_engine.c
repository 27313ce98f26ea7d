/* The guest of reload_switch: what it is told by macros, and by its records.
 *
 * SW_VERSION  text of the version
 * SW_STATE    0: none; 1, 2: saves "WHO COUNT" in that version's writing, and loads both
 * SW_MANNER   good | fails_rows | picky | crashes | other_answer | test_hangs | load_fails
 *
 * A record with "hold":"FIFO" waits until a byte comes out of that FIFO. Its answer has the
 * version that began it, who the instance is (its state's first owner) and its count. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exellix/plugin.h"

#define GOOD 0
#define FAILS_ROWS 1
#define PICKY 2
#define CRASHES 3
#define OTHER_ANSWER 4
#define TEST_HANGS 5
#define LOAD_FAILS 6

struct instance {
    const exj_host *h;
    unsigned long who, count;
};

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    static atomic_uint made;
    struct instance *i = calloc(1, sizeof(*i));

    (void)config;
    if (!i)
        return EXJ_R_RETRY;
    i->h = h;
    i->who = (unsigned long)getpid() * 1000 + atomic_fetch_add(&made, 1);
    *instance = i;
    return EXJ_R_OK;
}

/* Until somebody writes into the FIFO that the record names, or nobody wants it any more. */
static void wait_as_told(struct instance *i, exj_call c, const exj_args *a)
{
    char path[600] = "", byte;
    char *text = strndup(a->runtime.p, a->runtime.n);
    const char *at = text ? strstr(text, "\"hold\":\"") : NULL;
    struct pollfd p = { .events = POLLIN };

    if (at)
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(at + 8, "\""), at + 8);
    free(text);
    if (!*path || (p.fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK)) < 0)
        return;
    while (!i->h->cancelled(i->h->ctx, c) && (poll(&p, 1, 20) < 1 || read(p.fd, &byte, 1) != 1))
        ;
    close(p.fd);
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct instance *i = instance;
    char text[300];
    int n;

    wait_as_told(i, c, a);
    if (SW_MANNER == FAILS_ROWS)
        return EXJ_R_RETRY;
    if (SW_MANNER == PICKY)
        return EXJ_R_FAILED;
    if (SW_MANNER == CRASHES)
        raise(SIGSEGV);
    i->count++;
    n = snprintf(text, sizeof(text),
                 "{\"status\":\"completed\",\"outputsByNodeId\":{\"answer\":\"%s\"},"
                 "\"engineSnapshot\":{\"version\":\"%s\",\"who\":%lu,\"count\":%lu}}",
                 SW_MANNER == OTHER_ANSWER ? "other" : "same", SW_VERSION, i->who, i->count);
    return i->h->emit(i->h->ctx, c, (exj_str){ text, (uint64_t)n });
}

static void destroy(void *instance)
{
    free(instance);
}

static exj_result self_test(void *instance, exj_call c)
{
    struct instance *i = instance;

    while (SW_MANNER == TEST_HANGS && !i->h->cancelled(i->h->ctx, c))
        poll(NULL, 0, 20);
    return EXJ_R_OK;
}

static exj_result save_state(void *instance, exj_call sink)
{
    struct instance *i = instance;
    char text[100];
    int n = snprintf(text, sizeof(text), SW_STATE == 2 ? "{\"who\":%lu,\"count\":%lu}" : "[%lu,%lu]",
                     i->who, i->count);

    return i->h->emit(i->h->ctx, sink, (exj_str){ text, (uint64_t)n });
}

static exj_result load_state(void *instance, uint32_t from, exj_str state)
{
    struct instance *i = instance;
    char text[100];

    snprintf(text, sizeof(text), "%.*s", (int)state.n, state.p);
    if (SW_MANNER == LOAD_FAILS)
        return EXJ_R_INPUT;
    return sscanf(text, from == 2 ? "{\"who\":%lu,\"count\":%lu}" : "[%lu,%lu]", &i->who,
                  &i->count) == 2
               ? EXJ_R_OK
               : EXJ_R_INPUT;
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, load_state),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_REPLAYABLE,
    .state_version = SW_STATE,
    .id = "sw",
    .version = SW_VERSION,
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
    .save_state = SW_STATE ? save_state : NULL,
    .load_state = SW_STATE ? load_state : NULL,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_REPLAYABLE)
