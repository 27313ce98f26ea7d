/* exellix.sink-file - events as lines of JSON in a file (docs/sinks.md).
 *
 * What it has accepted is on the disk: written and fsynced, a batch at a time. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/json.h"
#include "exellix/plugin.h"
#include "exellix/sink.h"
#include "journal.h"

#define MAX_BYTES_DEFAULT ((int64_t)64 * 1024 * 1024)
#define MAX_BYTES_LEAST 4096
#define KEEP_DEFAULT 5
#define KEEP_MOST 1000

struct sink {
    const exj_host *host;
    exj_file_journal journal;
    exj_sink_filter filter;
    exj_sink_batch batch;
    char *lines; /* owned */
    size_t lines_n, lines_cap;
};

static void refuse(const exj_host *h, exj_call c, exj_result r, const char *code, const char *why)
{
    h->error(h->ctx, c, r, exj_text(code), exj_text(why));
}

/* ---- config ----------------------------------------------------------------------------- */

static const char *take_number(exj_str value, int64_t least, int64_t most, const char *why,
                               int64_t *ret)
{
    return exj_json_to_i64(value, ret) && (*ret == 0 || *ret >= least) && *ret <= most ? NULL
                                                                                       : why;
}

/* NULL: taken. */
static const char *take_member(struct sink *s, exj_str key, exj_str value)
{
    int64_t n = 0;
    const char *why = NULL;

    if (exj_json_string_is(key, "path")) {
        free(s->journal.path);
        s->journal.path = exj_json_to_text(value, NULL);
        return s->journal.path && s->journal.path[0] == '/'
                   ? NULL
                   : "config.path: wanted an absolute path";
    }
    if (exj_json_string_is(key, "maxBytes")) {
        why = take_number(value, MAX_BYTES_LEAST, INT64_MAX / 2,
                          "config.maxBytes: wanted 0 (never set aside) or 4096 and more", &n);
        s->journal.max_bytes = n;
        return why;
    }
    if (exj_json_string_is(key, "keep")) {
        why = take_number(value, 1, KEEP_MOST, "config.keep: wanted 1 to 1000", &n);
        s->journal.keep = (unsigned)n;
        return why || n ? why : "config.keep: wanted 1 to 1000";
    }
    if (exj_json_string_is(key, "events") || exj_json_string_is(key, "graphs"))
        return NULL; /* the filter's */
    return "config: unknown member; wanted path, maxBytes, keep, events, graphs";
}

static const char *take_config(struct sink *s, exj_str config)
{
    exj_json_cursor c = exj_json_members(config);
    exj_str key, value;
    const char *why = NULL;

    s->journal.max_bytes = MAX_BYTES_DEFAULT;
    s->journal.keep = KEEP_DEFAULT;
    while (!why && exj_json_next_member(&c, &key, &value))
        why = take_member(s, key, value);
    if (!why && !s->journal.path)
        why = "config.path is missing: wanted the absolute path of a file";
    return why ? why : exj_sink_filter_read(config, &s->filter);
}

/* ---- the plugin --------------------------------------------------------------------------- */

static void destroy(void *instance)
{
    struct sink *s = instance;

    exj_sink_filter_release(&s->filter);
    free(s->journal.path);
    free(s->lines);
    free(s);
}

static exj_result create(const exj_host *host, exj_str config, void **instance)
{
    struct sink *s = calloc(1, sizeof *s);
    char text[EXJ_FILE_WHY_BYTES] = "";
    const char *why;

    if (!s)
        return EXJ_R_RETRY;
    s->host = host;
    why = take_config(s, config);
    if (!why && !exj_file_journal_look(&s->journal, text))
        why = text;
    if (why) {
        refuse(host, 0, EXJ_R_INPUT, "InvalidConfig", why);
        destroy(s);
        return EXJ_R_INPUT;
    }
    *instance = s;
    return EXJ_R_OK;
}

/* An event and its '\n'. Line ends between its members become blanks. */
static bool add_line(struct sink *s, exj_str json)
{
    size_t n = (size_t)json.n + 1;
    char *to;

    if (s->lines_cap - s->lines_n < n) {
        size_t cap = (s->lines_cap + n) * 2;
        char *grown = realloc(s->lines, cap);

        if (!grown)
            return false;
        s->lines = grown;
        s->lines_cap = cap;
    }
    to = s->lines + s->lines_n;
    for (size_t k = 0; k < n - 1; k++)
        to[k] = json.p[k] == '\n' || json.p[k] == '\r' ? ' ' : json.p[k];
    to[n - 1] = '\n';
    s->lines_n += n;
    return true;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct sink *s = instance;
    const char *why = exj_sink_read(a->runtime, &s->batch);
    char text[EXJ_FILE_WHY_BYTES];
    int32_t stop = s->host->cancelled(s->host->ctx, c);

    if (why) {
        refuse(s->host, c, EXJ_R_INPUT, "InvalidRequest", why);
        return EXJ_R_INPUT;
    }
    if (stop)
        return stop;
    s->lines_n = 0;
    for (size_t k = 0; k < s->batch.n; k++)
        if (exj_sink_wants(&s->filter, &s->batch.events[k]) &&
            !add_line(s, s->batch.events[k].json))
            return EXJ_R_RETRY;
    if (s->lines_n && !exj_file_journal_append(&s->journal, s->lines, s->lines_n, text)) {
        refuse(s->host, c, EXJ_R_RETRY, "NotWritten", text);
        return EXJ_R_RETRY;
    }
    return EXJ_R_OK;
}

#define FLAGS EXJ_FLAG_BLOCKING

static const exj_plugin plugin = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_EVENT_SINK,
    .flags = FLAGS,
    .id = "exellix.sink-file",
    .version = "1.0.0",
    .describe = EXJ_STR(
        "{\"summary\":\"Appends events to a file, one JSON object a line, fsynced\",\"config\":{"
        "\"path\":\"absolute path of the file; outside of DATA_DIR on lane host\","
        "\"maxBytes\":\"a larger file becomes PATH.1 first; 0: never (67108864)\","
        "\"keep\":\"how many of those stay, 1 to 1000 (5)\","
        "\"events\":\"only these kinds: [\\\"completed\\\"] (all)\","
        "\"graphs\":\"only of these graphs: [\\\"g1\\\"] (all)\"},"
        "\"input\":{},\"output\":{}}"),
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

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_EVENT_SINK, FLAGS)
