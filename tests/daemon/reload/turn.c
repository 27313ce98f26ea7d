/* A graph engine that says which version of it answered, in several manners.
 *
 * TURN_VERSION  text of the version
 * TURN_MANNER   TURN_GOOD, TURN_FAILS_TEST (its self-test refuses), TURN_CRASHES (each row),
 *               TURN_TESTS_LONG (its self-test takes 3 s) */
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "exellix/plugin.h"

#define TURN_GOOD 0
#define TURN_FAILS_TEST 1
#define TURN_CRASHES 2
#define TURN_TESTS_LONG 3

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    static const exj_str done =
        EXJ_STR("{\"status\":\"completed\",\"outputsByNodeId\":{\"version\":\"" TURN_VERSION "\"}}");
    const exj_host *h = instance;

    (void)a;
    if (TURN_MANNER == TURN_CRASHES)
        raise(SIGSEGV);
    return h->emit(h->ctx, c, done);
}

static void destroy(void *instance)
{
    (void)instance;
}

static exj_result self_test(void *instance, exj_call c)
{
    static const exj_str code = EXJ_STR("TwoAndTwo"), text = EXJ_STR("two and two are five");
    const exj_host *h = instance;

    if (TURN_MANNER == TURN_TESTS_LONG)
        poll(NULL, 0, 3000);
    if (TURN_MANNER != TURN_FAILS_TEST)
        return EXJ_R_OK;
    h->error(h->ctx, c, EXJ_R_FAILED, code, text);
    return EXJ_R_FAILED;
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, self_test),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_REPLAYABLE,
    .id = "acme.turn",
    .version = TURN_VERSION,
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_REPLAYABLE)
