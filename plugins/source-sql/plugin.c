/* exellix.source-sql - the rows of a query of an SQLite file (docs/sources.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/ext/metrics.h"
#include "query.h"

struct source {
    const exj_host *host;
    char *root; /* owned; NULL: none */
};

static void destroy(void *instance)
{
    struct source *s = instance;

    free(s->root);
    free(s);
}

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct source *s = calloc(1, sizeof *s);
    exj_sql_run nobody = { .host = host };
    char why[EXJ_SQL_WHY_BYTES];

    if (!s)
        return EXJ_R_RETRY;
    s->host = host;
    if (exj_sql_root_read(config, &s->root, why)) {
        *instance = s;
        return EXJ_R_OK;
    }
    destroy(s);
    return exj_sql_refuse(&nobody, EXJ_R_INPUT, "InvalidConfig", "%s", why);
}

/* What /metrics has of it. */
static void count(const exj_sql_run *r)
{
    const exj_ext_metrics *m = r->host->extension(r->host->ctx, EXJ_EXT_METRICS);

    if (!m || !EXJ_HAS(m, exj_ext_metrics, counter_add))
        return;
    m->counter_add(r->host->ctx, r->call, exj_text("source_records_total"), (double)r->here);
    m->counter_add(r->host->ctx, r->call, exj_text("source_bad_rows_total"), (double)r->bad);
}

static exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    struct source *s = instance;
    char why[EXJ_SQL_WHY_BYTES];
    exj_sql_ask ask;
    exj_sql_run *run;
    exj_str kind, cursor;
    exj_result result = s->host->cancelled(s->host->ctx, call);

    if (result != EXJ_R_OK)
        return result;
    run = calloc(1, sizeof *run);
    if (!run)
        return EXJ_R_RETRY;
    *run = (exj_sql_run){ .host = s->host, .call = call, .ask = &ask, .root = s->root };
    if (!exj_sql_ask_read(args->model, &ask, why)) {
        result = exj_sql_refuse(run, EXJ_R_INPUT, "InvalidInput", "%s", why);
        free(run);
        return result;
    }
    run->pages = exj_json_find(args->runtime, "kind", &kind) && exj_json_string_is(kind, "storage");
    if (exj_json_find(args->runtime, "cursor", &cursor) && exj_json_type(cursor) == '"')
        run->cursor = cursor;
    result = exj_sql_scan(run);
    count(run);
    exj_sql_close(&run->db);
    exj_json_out_release(&run->out);
    exj_json_out_release(&run->record);
    exj_json_out_release(&run->key);
    exj_sql_ask_release(&ask);
    free(run);
    return result;
}

#define FLAGS EXJ_FLAG_BLOCKING

static const exj_plugin plugin = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = FLAGS,
    .id = "exellix.source-sql",
    .version = "1.0.0",
    .describe = EXJ_STR(
        "{\"summary\":\"Rows of a query of an SQLite file, which is only read\","
        "\"config\":{\"root\":\"absolute path of a folder; no path leads out of it\"},"
        "\"input\":{\"database\":\"path of the file\",\"query\":\"one SELECT\","
        "\"params\":\"values of its parameters\","
        "\"keyColumn\":\"a unique column to page by; without it all rows are one page\","
        "\"idColumn\":\"the column that names a record (keyColumn)\","
        "\"onBadRow\":\"stop or skip\",\"pageRecords\":\"1 to 5000 (1000)\","
        "\"maxRows\":\"1 to 100000000 (10000000)\",\"maxTextBytes\":\"1 to 1048576\","
        "\"timeoutSeconds\":\"of one page, 1 to 3600 (60)\"},\"output\":{}}"),
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

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, FLAGS)
