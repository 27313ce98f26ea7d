/* @NAME@ - a source resolver: yields a record for each of `names` in the matrix's
 * payload.input. Change execute to read your files, tables or pages.
 *
 * What each function may do and when is said in exellix/plugin.h. */
#include <stdlib.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

struct resolver {
    const exj_host *host; /* valid until destroy returns */
};

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct resolver *s = malloc(sizeof *s);

    (void)config; /* the plugin's settings, JSON */
    if (!s)
        return EXJ_R_RETRY;
    s->host = host;
    *instance = s;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    free(instance);
}

static exj_result refuse(const exj_host *host, exj_call call, const char *why)
{
    host->error(host->ctx, call, EXJ_R_INPUT, exj_text("NamesWrong"), exj_text(why));
    return EXJ_R_INPUT;
}

/* {"id":NAME,"record":{"name":NAME}}. The id is what makes a record new or known: unique
 * within the matrix, for ever. */
static exj_result yield_one(const exj_host *host, exj_call call, exj_str name)
{
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_result r;

    exj_json_begin_object(&out);
    exj_json_put_raw(&out, "id", name);
    exj_json_put_object(&out, "record");
    exj_json_put_raw(&out, "name", name);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    r = out.failed ? EXJ_R_RETRY : host->emit(host->ctx, call, exj_json_out_text(&out));
    exj_json_out_release(&out);
    return r;
}

/* All records of one cycle. emit may wait; when it does not answer OK, return that. */
static exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    const exj_host *host = ((struct resolver *)instance)->host;
    exj_str names = EXJ_STR("[\"Ada\",\"Grace\"]"), name;
    exj_json_cursor at;
    exj_result r = EXJ_R_OK;

    if (exj_json_find(args->model, "names", &names) && exj_json_type(names) != '[')
        return refuse(host, call, "`names` is no array");
    at = exj_json_elements(names);
    while (r == EXJ_R_OK && exj_json_next_element(&at, &name))
        r = exj_json_type(name) == '"' ? yield_one(host, call, name)
                                       : refuse(host, call, "a name is no text");
    return r;
}

static const exj_plugin plugin = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "@NAME@",
    .version = "0.1.0",
    .describe = EXJ_STR("{\"summary\":\"yields a record for each name\",\"config\":{},"
                        "\"input\":{\"names\":\"array of text\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &plugin };
static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, EXJ_FLAG_CONCURRENT)
