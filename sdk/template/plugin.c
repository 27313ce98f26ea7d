/* A graph engine to start from: copy this folder, rename "acme.hello", type make.
 *
 * It answers with a greeting of the record's `name`. */
#include <stdlib.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    (void)config;               /* the plugin's settings, JSON */
    *instance = (void *)host;   /* a real plugin allocates its own struct here */
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    (void)instance;
}

static exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    const exj_host *host = (const exj_host *)instance;
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_str input, name;
    exj_result r = EXJ_R_RETRY;

    if (!exj_json_find(args->runtime, "input", &input) || !exj_json_find(input, "name", &name)) {
        host->error(host->ctx, call, EXJ_R_INPUT, exj_text("NameMissing"),
                    exj_text("the record has no `name`"));
        return EXJ_R_INPUT;
    }
    exj_json_begin_object(&out);
    exj_json_put_text(&out, "status", "completed");
    exj_json_put_object(&out, "outputsByNodeId");
    exj_json_put_object(&out, "hello");
    exj_json_put_raw(&out, "greeted", name);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    if (!out.failed)
        r = host->emit(host->ctx, call, exj_json_out_text(&out));
    exj_json_out_release(&out);
    return r;
}

static const exj_plugin hello = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "acme.hello",
    .version = "0.1.0",
    .describe = EXJ_STR("{\"summary\":\"greets\",\"config\":{},\"input\":{\"name\":\"text\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &hello };
static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins), .abi_minor = EXJ_ABI_MINOR, .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT)
