/* The guest of the soak. It stamps its answer with the version that began the execution and the
 * one that ended it, and with a check of its instance: were a call torn between two generations,
 * or run in one that is gone, the stamps would tell, or nothing at all.
 *
 * SOAK_VERSION  text of the version
 * SOAK_MANNER   good | slow | leaks | fails_test | fails_create | fails_rows | ctor_crashes */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "exellix/plugin.h"

#define GOOD 0
#define SLOW 1
#define LEAKS 2
#define FAILS_TEST 3
#define FAILS_CREATE 4
#define FAILS_ROWS 5
#define CTOR_CRASHES 6

static const char version[] = SOAK_VERSION; /* of this generation's data, not of its text */
static volatile const char *stamp = version;

struct instance {
    const exj_host *h;
    const char *version;
    unsigned calls;
};

#if SOAK_MANNER == CTOR_CRASHES
__attribute__((constructor)) static void crash(void)
{
    raise(SIGSEGV);
}
#endif

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    static const exj_str code = EXJ_STR("SoakRefuses");
    struct instance *i = calloc(1, sizeof(*i));

    (void)config;
    if (!i)
        return EXJ_R_RETRY;
    i->h = h;
    i->version = version;
    if (SOAK_MANNER == FAILS_CREATE) {
        h->error(h->ctx, 0, EXJ_R_INPUT, code, code);
        free(i);
        return EXJ_R_INPUT;
    }
    *instance = i;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct instance *i = instance;
    const volatile char *began = stamp;
    char text[200];
    int n;

    (void)a;
    if (SOAK_MANNER == SLOW) {
        struct timespec t = { 0, 300000 };

        nanosleep(&t, NULL);
    }
    if (SOAK_MANNER == LEAKS) {
        char *volatile lost = malloc(64);

        if (lost)
            lost[0] = 1;
    }
    if (SOAK_MANNER == FAILS_ROWS)
        return EXJ_R_RETRY;
    i->calls++;
    n = snprintf(text, sizeof(text),
                 "{\"status\":\"completed\",\"outputsByNodeId\":{\"began\":\"%s\",\"ended\":\"%s\","
                 "\"instance\":\"%s\"}}",
                 (const char *)(unsigned long)began, (const char *)(unsigned long)stamp, i->version);
    return i->h->emit(i->h->ctx, c, (exj_str){ text, (uint64_t)n });
}

static void destroy(void *instance)
{
    free(instance);
}

static exj_result self_test(void *instance, exj_call c)
{
    (void)instance;
    (void)c;
    return SOAK_MANNER == FAILS_TEST ? EXJ_R_FAILED : EXJ_R_OK;
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, self_test),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_REPLAYABLE,
    .id = "soak",
    .version = version,
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_REPLAYABLE)
