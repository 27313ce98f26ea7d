/* Plugins: what lies in the folders, which generations of it are loaded, and what each executor
 * runs on. */
#include <stdio.h>

#include "core/http/exchange.h"

static const char *kind_word(uint32_t kind)
{
    switch (kind) {
    case EXJ_KIND_GRAPH_ENGINE: return "graph-engine";
    case EXJ_KIND_SOURCE_RESOLVER: return "source-resolver";
    case EXJ_KIND_EVENT_SINK: return "event-sink";
    default: return "unknown";
    }
}

static const struct {
    uint32_t bit;
    const char *word;
} flag_words[] = {
    { EXJ_FLAG_CONCURRENT, "concurrent" },   { EXJ_FLAG_SERIAL_ALL, "serial-all" },
    { EXJ_FLAG_BLOCKING, "blocking" },       { EXJ_FLAG_OWN_THREADS, "own-threads" },
    { EXJ_FLAG_ASYNC, "async" },             { EXJ_FLAG_REPLAYABLE, "replayable" },
};

static json_t *flags_shown(uint32_t flags)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < sizeof flag_words / sizeof flag_words[0]; i++) {
        if ((flags & flag_words[i].bit) &&
            json_array_append_new(list, json_string(flag_words[i].word))) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *text_or_null(const char *s)
{
    return s && s[0] ? exj_json_text(exj_slice_of(s)) : json_null();
}

/* The file's name without folder and ".so": what it is called before it is loaded. */
static exj_slice file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    exj_slice s = exj_slice_of(slash ? slash + 1 : path);

    if (s.n > 3 && memcmp(s.p + s.n - 3, ".so", 3) == 0)
        s.n -= 3;
    return s;
}

/* 1.25 ms; null before the first call. */
static json_t *ms_or_null(uint64_t ns)
{
    return ns ? json_real((double)ns / 1e6) : json_null();
}

/* What a loaded generation has beside what the file says; nulls of a file that is not loaded. */
static json_t *generation_shown(const exj_guest_info *i)
{
    if (!i->loaded)
        return json_pack("{s:n,s:n,s:s,s:i,s:i,s:i,s:n,s:n,s:i}", "generation", "lane", "state",
                         i->error ? "refused" : "found", "calls", 0, "errors", 0, "crashes", 0,
                         "p50Ms", "p99Ms", "uses", 0);
    return json_pack("{s:I,s:s,s:s,s:I,s:I,s:I,s:o,s:o,s:i}", "generation",
                     (json_int_t)i->generation, "lane", exj_lane_word(i->lane), "state",
                     exj_gen_word(i->state), "calls", (json_int_t)i->stats.calls, "errors",
                     (json_int_t)i->stats.errors, "crashes", (json_int_t)i->stats.crashes,
                     "p50Ms", ms_or_null(i->stats.p50_ns), "p99Ms",
                     ms_or_null(i->stats.p99_ns), "uses", (int)i->uses);
}

/* The content that the plugin may not leave; null: it is not pinned. */
static json_t *pin_shown(const exj_api *api, const char *id)
{
    char sha256[65] = "";

    if (api->shelf && id && id[0])
        exj_shelf_pinned(api->shelf, id, sha256, NULL);
    return text_or_null(sha256);
}

static json_t *plugin_shown(const exj_api *api, const exj_guest_info *i, bool whole)
{
    json_t *o = json_pack("{s:o,s:o,s:o,s:s,s:o,s:i,s:o,s:o,s:o,s:o}", "name",
                          exj_json_text(file_name(i->path)), "id", text_or_null(i->id),
                          "version", text_or_null(i->version), "kind", kind_word(i->kind),
                          "flags", flags_shown(i->flags), "abiMinor", (int)i->abi_minor,
                          "path", text_or_null(i->path), "sha256", text_or_null(i->sha256),
                          "error", text_or_null(i->error), "pinnedTo", pin_shown(api, i->id));
    json_t *describe = NULL;

    if (o && json_object_update_new(o, generation_shown(i))) {
        json_decref(o);
        return NULL;
    }
    if (!o || !whole)
        return o;
    if (i->describe.n == 0 || exj_json_parse(i->describe, &describe, NULL) != EXJ_OK)
        describe = i->describe.n ? exj_json_text(i->describe) : json_null();
    if (json_object_set_new(o, "describe", describe)) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

/* Showing runs no code of theirs, unless one who may change things says load=true. */
static bool take_load(exj_exchange *x, bool *ret)
{
    return exj_take_bool(x, "load", ret) && (!*ret || exj_take_permission(x));
}

struct plugin_search {
    const exj_api *api;
    exj_slice wanted; /* empty: all */
    json_t *list;
    bool failed;
};

static bool visit_plugin(void *user, const exj_guest_info *i)
{
    struct plugin_search *s = user;

    if (s->wanted.n && !exj_slice_is(s->wanted, i->id ? i->id : "") &&
        !exj_slice_equal(s->wanted, file_name(i->path)))
        return true;
    if (json_array_append_new(s->list, plugin_shown(s->api, i, s->wanted.n > 0)))
        s->failed = true;
    return !s->failed;
}

static void plugins(exj_exchange *x)
{
    struct plugin_search s = { .api = x->api, .wanted = x->id };
    exj_err err = { 0 };
    bool load;

    if (!take_load(x, &load))
        return;
    s.list = json_array();
    if (x->api->plugins && exj_registry_each(x->api->plugins, load, visit_plugin, &s, &err) !=
                               EXJ_OK)
        exj_answer_failure(x, &err);
    else if (!s.list || s.failed)
        exj_answer_take(x, 500, NULL);
    else if (!x->id.n)
        exj_answer_take(x, 200, json_pack("{s:O,s:o}", "plugins", s.list, "executors",
                                          x->api->engine ? exj_engine_executors(x->api->engine)
                                                         : json_array()));
    else if (json_array_size(s.list) == 0)
        exj_answer_error(x, 404, "PluginNotFound", "no plugin \"%.*s\"", (int)x->id.n,
                         x->id.p);
    else
        exj_answer_take(x, 200, json_incref(json_array_get(s.list, 0)));
    json_decref(s.list);
}

void exj_route_plugins(exj_exchange *x)
{
    plugins(x);
}

void exj_route_plugin(exj_exchange *x)
{
    plugins(x);
}
