/* exellix.source-file - the records of a file of JSON lines, of a CSV file, of a folder
 * (docs/sources.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/ext/metrics.h"
#include "run.h"

struct source {
    const exj_host *host;
    exj_src_place place;
    exj_src_kept kept;
};

static void destroy(void *instance)
{
    struct source *s = instance;

    exj_src_place_release(&s->place);
    exj_src_kept_release(&s->kept);
    free(s);
}

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct source *s = calloc(1, sizeof *s);
    exj_src_run nobody = { .host = host };
    char why[EXJ_SRC_WHY_BYTES];
    exj_result result;

    if (!s)
        return EXJ_R_RETRY;
    s->host = host;
    if (exj_src_place_read(config, &s->place, why)) {
        *instance = s;
        return EXJ_R_OK;
    }
    result = exj_src_refuse(&nobody, EXJ_R_INPUT, "InvalidConfig", "%s", why);
    destroy(s);
    return result;
}

/* What /metrics has of it. */
static void count(exj_src_run *r)
{
    const exj_ext_metrics *m = r->host->extension(r->host->ctx, EXJ_EXT_METRICS);

    if (!m || !EXJ_HAS(m, exj_ext_metrics, counter_add))
        return;
    m->counter_add(r->host->ctx, r->call, exj_text("source_records_total"), (double)r->here);
    m->counter_add(r->host->ctx, r->call, exj_text("source_bad_lines_total"), (double)r->bad_here);
}

static void tell_bad(exj_src_run *r)
{
    char text[EXJ_SRC_WHY_BYTES];

    snprintf(text, sizeof text, "%s: %llu bad lines so far, %s%s; %llu records",
             exj_src_path_end(r->ask->path), (unsigned long long)r->bad,
             r->ask->on_bad == EXJ_SRC_SKIP ? "skipped" : "put aside into ",
             r->ask->on_bad == EXJ_SRC_SKIP ? "" : exj_src_path_end(r->aside_path),
             (unsigned long long)r->records);
    r->host->log(r->host->ctx, r->call, EXJ_LOG_LEVEL_WARN, exj_text(text));
}

static exj_result look(exj_src_run *r, exj_str runtime)
{
    exj_str kind, cursor;
    exj_result result;

    r->pages = exj_json_find(runtime, "kind", &kind) && exj_json_string_is(kind, "storage");
    if (exj_json_find(runtime, "cursor", &cursor) && exj_json_type(cursor) == '"')
        r->cursor = cursor;
    result = r->ask->format == EXJ_SRC_DIRECTORY ? exj_src_scan_folder(r) : exj_src_scan_lines(r);
    if (result != EXJ_R_OK && r->aside.n) { /* what was found before it failed is kept, too */
        size_t fresh;
        char why[EXJ_SRC_WHY_BYTES];

        if (!exj_src_aside_write(&r->aside, r->place, r->aside_path, r->kept, &fresh, why))
            r->host->log(r->host->ctx, r->call, EXJ_LOG_LEVEL_ERROR, exj_text(why));
    }
    count(r);
    if (r->bad_here && result == EXJ_R_OK)
        tell_bad(r);
    return result;
}

static exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    static const char ending[] = ".bad.jsonl";
    struct source *s = instance;
    char why[EXJ_SRC_WHY_BYTES], aside[EXJ_SRC_PATH_BYTES + sizeof ending];
    exj_src_ask ask;
    exj_src_run run = { .host = s->host, .call = call, .ask = &ask, .place = &s->place,
                        .kept = &s->kept };
    exj_result result = s->host->cancelled(s->host->ctx, call);

    if (result != EXJ_R_OK)
        return result;
    if (!exj_src_ask_read(args->model, &ask, why))
        return exj_src_refuse(&run, EXJ_R_INPUT, "InvalidInput", "%s", why);
    if (ask.quarantine)
        snprintf(aside, sizeof aside, "%s", ask.quarantine);
    else
        snprintf(aside, sizeof aside, "%.*s%s", (int)EXJ_SRC_PATH_BYTES, ask.path, ending);
    run.aside_path = aside;
    result = look(&run, args->runtime);
    exj_src_aside_release(&run.aside);
    exj_json_out_release(&run.out);
    exj_json_out_release(&run.record);
    exj_src_ask_release(&ask);
    return result;
}

#define FLAGS EXJ_FLAG_BLOCKING

static const exj_plugin plugin = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = FLAGS,
    .id = "exellix.source-file",
    .version = "1.0.0",
    .describe = EXJ_STR(
        "{\"summary\":\"Records of a file of JSON lines, of a CSV file, or of a folder's files\","
        "\"config\":{\"root\":\"absolute path of a folder; no path leads out of it\"},"
        "\"input\":{\"path\":\"of the file or folder\",\"format\":\"jsonl, csv or directory\","
        "\"idField\":\"the field that names a record\","
        "\"ids\":\"where no field does: content or line; directory: name or version\","
        "\"onBadLine\":\"stop, skip or quarantine\","
        "\"quarantineFile\":\"where bad lines go (path.bad.jsonl)\","
        "\"maxLineBytes\":\"16 to 1048576\",\"pageRecords\":\"1 to 5000 (1000)\","
        "\"delimiter\":\"csv: (,)\",\"quote\":\"csv: (\\\")\",\"header\":\"csv: (true)\","
        "\"columns\":\"csv: a list of names\","
        "\"types\":\"csv: {column: string, number, integer or boolean}\","
        "\"glob\":\"directory: (*)\",\"text\":\"directory: with the text of small files\","
        "\"maxTextBytes\":\"directory: 1 to 524288 (65536)\"},\"output\":{}}"),
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
