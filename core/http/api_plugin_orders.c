/* What an operator orders of a plugin: reload, roll back, try, pin. The engine does it and says
 * how it went; a pin alone is a matter of the shelf and needs no engine. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/http/exchange.h"

#define PREFIX_MIN 8u
#define ID_MAX 80u /* core/plugin/shelf.h */
#define PATH_MAX_BYTES 4095u

static const char *text_in(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* ---- shared with the other files about plugins ----------------------------------------------- */

bool exj_take_shelf(exj_exchange *x)
{
    if (!x->api->shelf)
        exj_answer_error(x, 503, "Unavailable", "nothing is remembered of plugins here: there is "
                                                "no data folder");
    return x->api->shelf != NULL;
}

bool exj_at_to_text(json_t *list)
{
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        json_t *at = json_object_get(item, "at");

        if (json_is_integer(at) &&
            json_object_set_new(item, "at", exj_json_instant(json_integer_value(at))))
            return false;
    }
    return true;
}

bool exj_take_plugin_id(exj_exchange *x, char **ret_id)
{
    json_t *list = x->api->engine ? exj_engine_executors(x->api->engine) : NULL, *item;
    char *id = NULL;
    size_t i;

    json_array_foreach(list, i, item) {
        if (*text_in(item, "plugin") && exj_slice_is(x->id, text_in(item, "executor"))) {
            id = strdup(text_in(item, "plugin"));
            break;
        }
    }
    json_decref(list);
    if (!id && x->id.n > ID_MAX) {
        exj_answer_error(x, 400, "ValidationError", "a plugin's id has at most %u bytes, not %zu",
                         ID_MAX, x->id.n);
        return false;
    }
    if (!id && !(id = exj_slice_dup(x->id))) {
        exj_answer_take(x, 500, NULL);
        return false;
    }
    *ret_id = id;
    return true;
}

bool exj_is_sha_prefix(exj_slice text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!strchr("0123456789abcdefABCDEF", text.p[i]) || !text.p[i])
            return false;
    return text.n >= PREFIX_MIN && text.n <= 64;
}

exj_code exj_sha_find(const json_t *list, exj_slice prefix, json_t **ret, exj_err *err)
{
    json_t *found = NULL, *item;
    size_t i;

    if (!exj_is_sha_prefix(prefix))
        return exj_err_set(err, EXJ_INVALID, "\"%.*s\" is no SHA-256: send its %u to 64 first "
                           "hexadecimal digits", (int)(prefix.n < 80 ? prefix.n : 80), prefix.p,
                           PREFIX_MIN);
    json_array_foreach(list, i, item) {
        if (strncasecmp(text_in(item, "sha256"), prefix.p, prefix.n) != 0)
            continue;
        if (found && strcmp(text_in(found, "sha256"), text_in(item, "sha256")) != 0)
            return exj_err_set(err, EXJ_INVALID, "several contents begin with %.*s, among them "
                               "%.16s and %.16s: send more digits", (int)prefix.n, prefix.p,
                               text_in(found, "sha256"), text_in(item, "sha256"));
        found = item;
    }
    if (!found)
        return exj_err_set(err, EXJ_NOT_FOUND, "no content begins with %.*s", (int)prefix.n,
                           prefix.p);
    *ret = found;
    return EXJ_OK;
}

/* ---- orders to the engine --------------------------------------------------------------------- */

static void answer_order_failure(exj_exchange *x, const exj_err *err)
{
    switch (err->code) {
    case EXJ_NOT_FOUND:
        exj_answer_error(x, 404, "PluginNotFound", "%s", err->text);
        break;
    case EXJ_INVALID:
        exj_answer_error(x, 422, "PluginRefused", "%s", err->text);
        break;
    case EXJ_CONFLICT:
        exj_answer_error(x, 409, "NothingToDo", "%s", err->text);
        break;
    default:
        exj_answer_failure(x, err);
    }
}

static void obey(exj_exchange *x, exj_plugin_order order, const char *what)
{
    char *plugin = NULL;
    json_t *report = NULL;
    exj_err err = { 0 };

    if (!x->api->engine) {
        exj_answer_error(x, 503, "WorkerNotRunning",
                         "no worker runs here: start one with exellix-jobs serve");
        return;
    }
    plugin = exj_slice_dup(x->id);
    if (!plugin)
        exj_answer_take(x, 500, NULL);
    else if (exj_engine_order(x->api->engine, order, plugin, what, &report, &err) != EXJ_OK)
        answer_order_failure(x, &err);
    else
        exj_answer_take(x, 200, report);
    free(plugin);
}

void exj_route_plugin_reload(exj_exchange *x)
{
    obey(x, EXJ_ORDER_RELOAD, NULL);
}

void exj_route_plugin_rollback(exj_exchange *x)
{
    obey(x, EXJ_ORDER_ROLL_BACK, NULL);
}

/* A body with at most the member `name`, a text. False: answered 400. *ret: borrowed from
 * *ret_body (owned, may be NULL); NULL: it was not sent. */
static bool take_one_text(exj_exchange *x, const char *name, json_t **ret_body, const char **ret)
{
    const json_t *value;
    const char *key;
    json_t *member;

    *ret = NULL;
    *ret_body = NULL;
    if (x->q->body.n == 0)
        return true;
    if (!exj_take_object(x, ret_body))
        return false;
    json_object_foreach(*ret_body, key, member) {
        if (strcmp(key, name) == 0)
            continue;
        exj_answer_error(x, 400, "ValidationError", "the body has no member \"%.80s\"; only \"%s\"",
                         key, name);
        return false;
    }
    value = json_object_get(*ret_body, name);
    *ret = json_string_value(value);
    if (value && (!*ret || !**ret)) {
        exj_answer_error(x, 400, "ValidationError", "%s must be a text that is not empty", name);
        return false;
    }
    return true;
}

void exj_route_plugin_trial(exj_exchange *x)
{
    json_t *body = NULL;
    const char *path;

    if (!take_one_text(x, "path", &body, &path))
        ; /* answered */
    else if (path && (path[0] != '/' || strlen(path) > PATH_MAX_BYTES))
        exj_answer_error(x, 400, "ValidationError", "path must be absolute and of at most %u "
                         "bytes, not \"%.200s\"", PATH_MAX_BYTES, path);
    else
        obey(x, EXJ_ORDER_TRIAL, path);
    json_decref(body);
}

/* ---- pins --------------------------------------------------------------------------------------- */

struct current {
    const char *id;
    char sha256[65];
};

static bool visit_current(void *user, const exj_guest_info *i)
{
    struct current *c = user;

    if (i->loaded && i->state == EXJ_GEN_CURRENT && !strcmp(i->id, c->id))
        snprintf(c->sha256, sizeof c->sha256, "%s", i->sha256);
    return !c->sha256[0];
}

/* What runs now; without a worker, what ran last. ret[0] is 0 when nothing is known. */
static exj_code current_content(const exj_api *api, const char *id, char ret[65], exj_err *err)
{
    json_t *list = api->engine ? exj_engine_executors(api->engine) : NULL, *item;
    struct current c = { .id = id };
    size_t i;
    exj_code rc = EXJ_OK;

    json_array_foreach(list, i, item)
        if (!strcmp(text_in(item, "plugin"), id))
            snprintf(c.sha256, sizeof c.sha256, "%s",
                     text_in(json_object_get(item, "current"), "sha256"));
    json_decref(list);
    if (!c.sha256[0] && api->engine && api->plugins) /* a resolver has no executor */
        rc = exj_registry_each(api->plugins, false, visit_current, &c, err);
    if (!rc && !c.sha256[0] && !api->engine) {
        list = NULL;
        rc = exj_shelf_history(api->shelf, id, 0, &list, err);
        json_array_foreach(list, i, item) {
            const char *event = text_in(item, "event");

            if (!c.sha256[0] && (!strcmp(event, "current") || !strcmp(event, "loaded")))
                snprintf(c.sha256, sizeof c.sha256, "%s", text_in(item, "sha256"));
        }
        json_decref(list);
    }
    memcpy(ret, c.sha256, 65);
    return rc;
}

/* The kept copies of one plugin. New reference. */
static exj_code kept_of(const exj_api *api, const char *id, json_t **ret, exj_err *err)
{
    json_t *all = NULL, *mine = json_array(), *item;
    size_t i;
    exj_code rc = mine ? exj_shelf_kept(api->shelf, &all, err)
                       : exj_err_set(err, EXJ_NOMEM, "out of memory");

    json_array_foreach(all, i, item)
        if (!rc && !strcmp(text_in(item, "family"), id) && json_array_append(mine, item))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    json_decref(all);
    if (rc) {
        json_decref(mine);
        return rc;
    }
    *ret = mine;
    return EXJ_OK;
}

/* The content to pin: `wanted`, or what runs. False: answered. */
static bool take_content(exj_exchange *x, const char *id, const char *wanted,
                         const char *current, char ret[65])
{
    json_t *kept = NULL, *found = NULL;
    exj_err err = { 0 };
    exj_code rc;

    if (!wanted && !current[0]) {
        exj_answer_error(x, 404, "PluginNotFound", "no content of a plugin \"%s\" is known here: it "
                         "never ran; send the sha256 of a kept copy", id);
        return false;
    }
    if (!wanted || (exj_is_sha_prefix(exj_slice_of(wanted)) &&
                    !strncasecmp(current, wanted, strlen(wanted)))) {
        memcpy(ret, current, 65);
        return true;
    }
    rc = kept_of(x->api, id, &kept, &err);
    if (!rc)
        rc = exj_sha_find(kept, exj_slice_of(wanted), &found, &err);
    if (!rc)
        snprintf(ret, 65, "%s", text_in(found, "sha256"));
    json_decref(kept);
    if (rc == EXJ_NOT_FOUND)
        exj_answer_error(x, 404, "VersionNotFound", "no kept copy of plugin %s begins with %s; "
                         "`exellix-jobs plugin versions %s` lists them", id, wanted, id);
    else if (rc)
        exj_answer_failure(x, &err);
    return rc == EXJ_OK;
}

static void remember(const exj_api *api, const char *id, const char *sha256,
                     exj_plugin_event event)
{
    exj_shelf_history_add(api->shelf,
                          &(exj_shelf_event){ .at = exj_clock_wall_ms(), .id = id,
                                              .sha256 = sha256, .event = event,
                                              .why = "by order" },
                          NULL);
}

/* As it was before. */
static void undo_pin(const exj_api *api, const char *id, const char *before)
{
    if (before[0])
        exj_shelf_pin(api->shelf, id, before, exj_clock_wall_ms(), NULL);
    else
        exj_shelf_unpin(api->shelf, id, NULL);
}

static void pin(exj_exchange *x, const char *id, const char *wanted)
{
    const exj_api *api = x->api;
    char current[65] = "", before[65] = "", sha256[65] = "";
    json_t *report = NULL;
    exj_err err = { 0 };
    exj_code rc = current_content(api, id, current, &err);

    if (!rc)
        rc = exj_shelf_pinned(api->shelf, id, before, &err);
    if (rc) {
        exj_answer_failure(x, &err);
        return;
    }
    if (!take_content(x, id, wanted, current, sha256))
        return;
    rc = exj_shelf_pin(api->shelf, id, sha256, exj_clock_wall_ms(), &err);
    if (!rc && api->engine && strcmp(sha256, current)) {
        rc = exj_engine_order(api->engine, EXJ_ORDER_SWITCH, id, sha256, &report, &err);
        if (rc)
            undo_pin(api, id, before);
    }
    if (rc) {
        answer_order_failure(x, &err);
        return;
    }
    if (strcmp(before, sha256))
        remember(api, id, sha256, EXJ_PE_PINNED);
    exj_answer_take(x, 200, json_pack("{s:s,s:s,s:b,s:o}", "plugin", id, "sha256", sha256,
                                      "switched", report != NULL, "report",
                                      report ? report : json_null()));
}

void exj_route_plugin_pin(exj_exchange *x)
{
    json_t *body = NULL;
    const char *wanted;
    char *id = NULL;

    if (exj_take_shelf(x) && take_one_text(x, "sha256", &body, &wanted) &&
        exj_take_plugin_id(x, &id))
        pin(x, id, wanted);
    json_decref(body);
    free(id);
}

void exj_route_plugin_unpin(exj_exchange *x)
{
    char *id = NULL, before[65] = "";
    exj_err err = { 0 };
    exj_code rc;

    if (!exj_take_shelf(x) || !exj_take_plugin_id(x, &id))
        return;
    rc = exj_shelf_pinned(x->api->shelf, id, before, &err);
    if (!rc)
        rc = exj_shelf_unpin(x->api->shelf, id, &err);
    if (rc == EXJ_NOT_FOUND) {
        exj_answer_error(x, 404, "NotPinned", "plugin \"%s\" is not pinned", id);
    } else if (rc) {
        exj_answer_failure(x, &err);
    } else {
        remember(x->api, id, before, EXJ_PE_UNPINNED);
        exj_answer_take(x, 200, json_pack("{s:s,s:s}", "plugin", id, "sha256", before));
    }
    free(id);
}
