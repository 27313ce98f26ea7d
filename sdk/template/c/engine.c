/* @NAME@ - a graph engine: greets the `name` of each record. Change execute to do your work.
 *
 * What each function may do and when is said in exellix/plugin.h. */
#include <stdlib.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

struct engine {
    const exj_host *host; /* valid until destroy returns */
};

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct engine *e = malloc(sizeof *e);

    (void)config; /* the plugin's settings, JSON */
    if (!e)
        return EXJ_R_RETRY;
    e->host = host;
    *instance = e;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    free(instance);
}

static exj_result refuse(const exj_host *host, exj_call call, const char *code, const char *why)
{
    host->error(host->ctx, call, EXJ_R_INPUT, exj_text(code), exj_text(why));
    return EXJ_R_INPUT; /* the record is wrong and will stay wrong: no other attempt */
}

/* One record in runtime.input; one answer. Several threads may be in here at once, because
 * the flags below say EXJ_FLAG_CONCURRENT. */
static exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    const exj_host *host = ((struct engine *)instance)->host;
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_str input, name;
    exj_result r;

    if (!exj_json_find(args->runtime, "input", &input) ||
        !exj_json_find(input, "name", &name) || exj_json_type(name) != '"')
        return refuse(host, call, "NameMissing", "the record has no `name` that is a text");
    r = host->cancelled(host->ctx, call); /* work that takes long asks now and then */
    if (r != EXJ_R_OK)
        return r;

    exj_json_begin_object(&out);
    exj_json_put_text(&out, "status", "completed");
    exj_json_put_object(&out, "outputsByNodeId");
    exj_json_put_object(&out, "hello");
    exj_json_put_raw(&out, "greeted", name);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    r = out.failed ? EXJ_R_RETRY : host->emit(host->ctx, call, exj_json_out_text(&out));
    exj_json_out_release(&out);
    return r;
}

/* Asked before this file takes the place of an older one. */
static exj_result self_test(void *instance, exj_call call)
{
    (void)instance;
    (void)call;
    return EXJ_R_OK;
}

static const exj_plugin plugin = {
    .size_of = EXJ_SIZE(exj_plugin, self_test),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "@NAME@",
    .version = "0.1.0",
    .describe = EXJ_STR("{\"summary\":\"greets each record\",\"config\":{},"
                        "\"input\":{\"name\":\"text\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
};
static const exj_plugin *const plugins[] = { &plugin };
static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT)
