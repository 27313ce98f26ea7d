/* A graph engine with nothing to do: what is measured beside it is the host. */
#include "exellix/plugin.h"

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    static const exj_str done = EXJ_STR("{\"status\":\"completed\"}");
    const exj_host *h = instance;

    (void)a;
    return h->emit(h->ctx, c, done);
}

static void destroy(void *instance)
{
    (void)instance;
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "noop-engine",
    .version = "1.0.0",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT)
