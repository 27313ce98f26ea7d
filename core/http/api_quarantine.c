/* What was set aside because it crashes: plugins by their content, rows by what they did to their
 * plugin's host. Rows are released by a retry (api_rows.c). */
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/http/exchange.h"

static const char *text_in(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

void exj_route_quarantine(exj_exchange *x)
{
    exj_row_filter f = { .status = EXJ_BLOCKED,
                         .error_code = EXJ_SLICE_LITERAL("Quarantined") };
    json_t *plugins = NULL, *rows = NULL, *item;
    exj_err err = { 0 };
    int64_t limit, next = 0;
    bool good;
    size_t i;
    exj_code rc = EXJ_OK;

    if (!exj_take_i64(x, "after", 0, INT64_MAX, 0, &f.after_seq) ||
        !exj_take_i64(x, "limit", 1, 1000, 100, &limit))
        return;
    f.limit = (size_t)limit;
    if (x->api->shelf)
        rc = exj_shelf_quarantine_list(x->api->shelf, &plugins, &err);
    else
        plugins = json_array();
    if (!rc)
        rc = exj_rows_page(x->api, &f, &rows, &next, &err);
    if (rc) {
        exj_answer_failure(x, &err);
        json_decref(plugins);
        return;
    }
    good = exj_at_to_text(plugins);
    json_array_foreach(plugins, i, item)
        good = good && exj_at_to_text(json_object_get(item, "crashes"));
    exj_answer_take(x, 200, good ? json_pack("{s:O,s:O,s:o}", "plugins", plugins, "rows", rows,
                                             "next", next ? json_integer(next) : json_null())
                                 : NULL);
    json_decref(plugins);
    json_decref(rows);
}

/* The contents of a plugin of this id, else the one content that begins so. New array. */
static exj_code find_contents(const exj_api *api, exj_slice what, json_t **ret, exj_err *err)
{
    json_t *all = NULL, *mine = json_array(), *item;
    size_t i;
    exj_code rc = mine ? exj_shelf_quarantine_list(api->shelf, &all, err)
                       : exj_err_set(err, EXJ_NOMEM, "out of memory");

    json_array_foreach(all, i, item)
        if (exj_slice_is(what, text_in(item, "id")) && json_array_append(mine, item))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (!rc && !json_array_size(mine)) {
        rc = exj_is_sha_prefix(what) ? exj_sha_find(all, what, &item, err) : EXJ_NOT_FOUND;
        if (!rc && json_array_append(mine, item))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    json_decref(all);
    if (rc) {
        json_decref(mine);
        return rc;
    }
    *ret = mine;
    return EXJ_OK;
}

static exj_code release(const exj_api *api, const json_t *contents, json_t *ret, exj_err *err)
{
    json_t *item;
    size_t i;

    json_array_foreach(contents, i, item) {
        const char *sha256 = text_in(item, "sha256"), *id = text_in(item, "id");
        exj_code rc = exj_shelf_release(api->shelf, sha256, NULL, err);

        if (rc == EXJ_NOT_FOUND) /* somebody was faster */
            continue;
        if (rc)
            return rc;
        exj_shelf_history_add(api->shelf,
                              &(exj_shelf_event){ .at = exj_clock_wall_ms(), .id = id,
                                                  .version = text_in(item, "version"),
                                                  .sha256 = sha256, .event = EXJ_PE_RELEASED,
                                                  .why = "by order" },
                              NULL);
        if (json_array_append_new(ret, json_pack("{s:s,s:s,s:s}", "plugin", id, "version",
                                                 text_in(item, "version"), "sha256", sha256)))
            return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    return EXJ_OK;
}

void exj_route_quarantine_release(exj_exchange *x)
{
    json_t *contents = NULL, *released;
    exj_err err = { 0 };
    char *id = NULL;
    exj_code rc;

    if (!exj_take_shelf(x) || !exj_take_plugin_id(x, &id))
        return;
    released = json_array();
    rc = released ? find_contents(x->api, exj_slice_of(id), &contents, &err)
                  : exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_NOT_FOUND) {
        exj_answer_error(x, 404, "NotQuarantined", "no plugin or content \"%s\" is in quarantine; "
                         "`exellix-jobs quarantine list` names them", id);
    } else {
        if (!rc)
            rc = release(x->api, contents, released, &err);
        if (rc)
            exj_answer_failure(x, &err);
        else
            exj_answer_take(x, 200, json_pack("{s:O}", "released", released));
    }
    json_decref(contents);
    json_decref(released);
    free(id);
}
