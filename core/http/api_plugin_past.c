/* What the shelf remembers of one plugin: its events, and the copies that are kept. */
#include <stdlib.h>

#include "core/http/exchange.h"

static const char *text_in(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void answer_unknown(exj_exchange *x, const char *id)
{
    exj_answer_error(x, 404, "PluginNotFound", "nothing is remembered of a plugin \"%s\"; "
                     "`exellix-jobs plugin list` names those that run", id);
}

void exj_route_plugin_history(exj_exchange *x)
{
    json_t *events = NULL;
    char *id = NULL;
    exj_err err = { 0 };
    int64_t limit;
    exj_code rc;

    if (!exj_take_shelf(x) ||
        !exj_take_i64(x, "limit", 1, EXJ_SHELF_HISTORY_MAX, 100, &limit) ||
        !exj_take_plugin_id(x, &id))
        return;
    rc = exj_shelf_history(x->api->shelf, id, (size_t)limit, &events, &err);
    if (rc)
        exj_answer_failure(x, &err);
    else if (json_array_size(events) == 0)
        answer_unknown(x, id);
    else
        exj_answer_take(x, 200, exj_at_to_text(events)
                                    ? json_pack("{s:s,s:O}", "plugin", id, "events", events)
                                    : NULL);
    json_decref(events);
    free(id);
}

/* Each content once, with the version it said it was and whether it is pinned or runs. */
static exj_code add_versions(const exj_api *api, const char *id, const json_t *kept,
                             const json_t *events, json_t *ret, exj_err *err)
{
    char pinned[65] = "";
    json_t *copy, *event;
    size_t i, k;
    exj_code rc = exj_shelf_pinned(api->shelf, id, pinned, err);

    json_array_foreach(kept, i, copy) {
        const char *sha256 = text_in(copy, "sha256"), *version = "";
        json_t *o;

        if (rc || strcmp(text_in(copy, "family"), id) != 0)
            continue;
        json_array_foreach(events, k, event)
            if (!*version && !strcmp(text_in(event, "sha256"), sha256))
                version = text_in(event, "version");
        o = json_pack("{s:s,s:o,s:O,s:O,s:b,s:O}", "sha256", sha256, "version",
                      *version ? json_string(version) : json_null(), "at",
                      json_object_get(copy, "at"), "bytes", json_object_get(copy, "bytes"),
                      "pinned", !strcmp(pinned, sha256), "path", json_object_get(copy, "path"));
        if (json_array_append_new(ret, o))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    return rc;
}

void exj_route_plugin_versions(exj_exchange *x)
{
    json_t *kept = NULL, *events = NULL, *list;
    char *id = NULL;
    exj_err err = { 0 };
    exj_code rc;

    if (!exj_take_shelf(x) || !exj_take_plugin_id(x, &id))
        return;
    list = json_array();
    rc = list ? exj_shelf_kept(x->api->shelf, &kept, &err)
              : exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (!rc)
        rc = exj_shelf_history(x->api->shelf, id, 0, &events, &err);
    if (!rc)
        rc = add_versions(x->api, id, kept, events, list, &err);
    if (rc)
        exj_answer_failure(x, &err);
    else if (!json_array_size(list) && !json_array_size(events))
        answer_unknown(x, id);
    else
        exj_answer_take(x, 200, exj_at_to_text(list)
                                    ? json_pack("{s:s,s:O}", "plugin", id, "versions", list)
                                    : NULL);
    json_decref(kept);
    json_decref(events);
    json_decref(list);
    free(id);
}
