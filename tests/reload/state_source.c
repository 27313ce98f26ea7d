/* A source resolver for reload_switch: one record, named after its version. Its create wants a
 * configuration. SRC_VERSION: text; SRC_MANNER: good | bad_test | crashes_test | no_create. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "exellix/plugin.h"

#define GOOD 0
#define BAD_TEST 1
#define CRASHES_TEST 2
#define NO_CREATE 3

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    char text[200];

    snprintf(text, sizeof(text), "%.*s", (int)config.n, config.p);
    if (SRC_MANNER == NO_CREATE || !strstr(text, "\"key\""))
        return EXJ_R_INPUT;
    *instance = (void *)(unsigned long)h;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = instance;
    static const exj_str record = EXJ_STR("{\"id\":\"of-" SRC_VERSION "\",\"record\":{\"n\":1}}");

    (void)a;
    return h->emit(h->ctx, c, record);
}

static void destroy(void *instance)
{
    (void)instance;
}

static exj_result self_test(void *instance, exj_call c)
{
    (void)instance;
    (void)c;
    if (SRC_MANNER == CRASHES_TEST)
        raise(SIGSEGV);
    return SRC_MANNER == BAD_TEST ? EXJ_R_FAILED : EXJ_R_OK;
}

static const exj_plugin source = {
    .size_of = EXJ_SIZE(exj_plugin, self_test),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .id = "sw-source",
    .version = SRC_VERSION,
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
};
static const exj_plugin *const plugins[] = { &source };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, 0)
