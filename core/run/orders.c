/* What an operator orders of a plugin, and what he is shown of it. Orders are carried out by
 * the reloader, one after the other; who gave one waits for its end. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/plugin/shelf.h"
#include "core/run/reload.h"

struct order {
    struct order *next;
    exj_plugin_order kind;
    const char *plugin, *what; /* of who waits */
    json_t *report;
    exj_err err;
    bool over;                 /* mu */
};

/* ---- orders ----------------------------------------------------------------------------------- */

/* The executor that an operator means: by the plugin's id, or as it is configured. */
static struct executor *find_executor(exj_engine *e, const char *plugin)
{
    for (struct executor *x = exj_first_executor(e); x; x = x->next) {
        exj_guest_info i;

        if (!strcmp(x->name, plugin))
            return x;
        if (!x->current)
            continue;
        exj_guest_describe(x->current->guest, &i);
        if (!strcmp(i.id, plugin))
            return x;
    }
    return NULL;
}

static exj_code switch_to(exj_engine *e, struct executor *x, const char *sha256,
                          json_t **ret_report, exj_err *err)
{
    char *path = exj_shelf_path_of(e->o.shelf, sha256);
    exj_code rc;

    if (!path)
        return exj_err_set(err, EXJ_NOT_FOUND, "no copy of the content %.12s… is kept", sha256);
    rc = exj_reload_take(e, x, path, true, ret_report, err);
    free(path);
    return rc;
}

/* The content that was current before this one and has not been rolled back since. */
static exj_code content_before(exj_engine *e, const char *id, const char *now, char ret[65],
                               exj_err *err)
{
    json_t *list = NULL, *bad = json_object(), *item;
    size_t i;
    exj_code rc = bad ? exj_shelf_history(e->o.shelf, id, 0, &list, err)
                      : exj_err_set(err, EXJ_NOMEM, "out of memory");

    ret[0] = '\0';
    json_array_foreach(list, i, item) { /* newest first */
        const char *event = json_string_value(json_object_get(item, "event"));
        const char *sha = json_string_value(json_object_get(item, "sha256"));

        if (!event || !sha || !*sha || !strcmp(sha, now) || json_object_get(bad, sha))
            continue;
        if (!strcmp(event, "rolled-back"))
            json_object_set_new(bad, sha, json_true());
        else if (!strcmp(event, "current") || !strcmp(event, "loaded")) {
            snprintf(ret, 65, "%s", sha);
            break;
        }
    }
    json_decref(list);
    json_decref(bad);
    if (rc)
        return rc;
    return ret[0] ? EXJ_OK
                  : exj_err_set(err, EXJ_CONFLICT, "plugin %s: no earlier version is known", id);
}

static exj_code order_back(exj_engine *e, struct executor *x, json_t **ret_report, exj_err *err)
{
    char sha[65], pinned[65];
    const exj_guest *left;
    exj_guest_info i;
    exj_code rc;

    exj_guest_describe(x->current->guest, &i);
    rc = exj_shelf_pinned(e->o.shelf, i.id, pinned, err);
    if (rc)
        return rc;
    if (x->before || x->canary) { /* not proven yet: what was there still is */
        struct deck *bad = x->canary ? x->canary : x->current;

        exj_guest_describe(bad->guest, &i);
        exj_reload_back(e, x, bad, "by order");
        exj_guest_describe(x->current->guest, &i);
        rc = exj_shelf_pin(e->o.shelf, i.id, i.sha256, exj_clock_wall_ms(), err);
        if (!rc && strcmp(pinned, i.sha256))
            exj_reload_tell(e, x->current->guest, EXJ_PE_PINNED, "by a roll back", NULL);
        return rc;
    }
    rc = content_before(e, i.id, i.sha256, sha, err);
    if (!rc)
        rc = exj_shelf_pin(e->o.shelf, i.id, sha, exj_clock_wall_ms(), err);
    if (rc)
        return rc;
    left = x->current->guest; /* it drains until this thread sweeps it */
    rc = switch_to(e, x, sha, ret_report, err);
    if (rc == EXJ_OK) {
        exj_reload_tell(e, left, EXJ_PE_ROLLED_BACK, "by order", NULL);
        if (strcmp(pinned, sha))
            exj_reload_tell(e, x->current->guest, EXJ_PE_PINNED, "by a roll back", NULL);
    } else if (pinned[0]) {
        exj_shelf_pin(e->o.shelf, i.id, pinned, exj_clock_wall_ms(), NULL);
    } else {
        exj_shelf_unpin(e->o.shelf, i.id, NULL);
    }
    return rc;
}

/* What runs now, the share of a new one included, and what a trial found. */
static void show(struct executor *x, struct order *o)
{
    exj_guest_info i;

    exj_guest_describe(x->canary ? x->canary->guest : x->current->guest, &i);
    o->report = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "plugin", i.id, "version", i.version,
                          "sha256", i.sha256, "generation", (json_int_t)i.generation, "state",
                          exj_gen_word(i.state), "trial", o->report ? o->report : json_null());
    if (!o->report)
        exj_err_set(&o->err, EXJ_UNKNOWN, "%s %s runs; there was no memory for the report", i.id,
                    i.version);
}

static void obey(exj_engine *e, struct order *o)
{
    struct executor *x = find_executor(e, o->plugin);

    if (!x) {
        exj_err_set(&o->err, EXJ_NOT_FOUND, "no executor runs a plugin \"%s\"", o->plugin);
        return;
    }
    if (!x->current) {
        exj_reload_look_for(e, x);
        if (!x->current)
            exj_err_set(&o->err, x->error.code, "%s", x->error.text);
        else
            show(x, o);
        return;
    }
    switch (o->kind) {
    case EXJ_ORDER_RELOAD:
        exj_reload_take(e, x, NULL, false, &o->report, &o->err);
        break;
    case EXJ_ORDER_ROLL_BACK:
        order_back(e, x, &o->report, &o->err);
        break;
    case EXJ_ORDER_TRIAL:
        exj_reload_try(e, x, o->what, e->o.trial_rows, &o->report, &o->err);
        exj_registry_sweep(e->o.plugins, exj_run_record_gone, e);
        break;
    case EXJ_ORDER_SWITCH:
        switch_to(e, x, o->what, &o->report, &o->err);
        break;
    }
    if (!o->err.code)
        show(x, o);
}

static struct order *next_order(exj_engine *e, bool *ret_stopping)
{
    struct order *o;

    pthread_mutex_lock(&e->mu);
    *ret_stopping |= e->stopping;
    o = e->orders;
    if (o)
        e->orders = o->next;
    pthread_mutex_unlock(&e->mu);
    return o;
}

static void end_order(exj_engine *e, struct order *o)
{
    pthread_mutex_lock(&e->mu);
    o->over = true;
    pthread_cond_broadcast(&e->ordered);
    pthread_mutex_unlock(&e->mu);
}

void exj_reload_obey(exj_engine *e, bool stopping)
{
    struct order *o;

    while ((o = next_order(e, &stopping))) {
        if (stopping)
            exj_err_set(&o->err, EXJ_CANCELLED, "the worker stops");
        else
            obey(e, o);
        end_order(e, o);
    }
}

exj_code exj_engine_order(exj_engine *e, exj_plugin_order kind, const char *plugin,
                          const char *what, json_t **ret, exj_err *err)
{
    struct order o = { .kind = kind, .plugin = plugin, .what = what }, **at;

    pthread_mutex_lock(&e->mu);
    if (e->stopping || !e->has_reloader) {
        pthread_mutex_unlock(&e->mu);
        return exj_err_set(err, EXJ_CANCELLED, "plugins are not reloaded here%s",
                           e->stopping ? ": the worker stops" : "");
    }
    for (at = &e->orders; *at; at = &(*at)->next)
        ;
    *at = &o;
    e->ordering++;
    exj_watch_wake(e->watch);
    while (!o.over)
        pthread_cond_wait(&e->ordered, &e->mu);
    if (--e->ordering == 0 && e->stopping)
        pthread_cond_broadcast(&e->ordered);
    pthread_mutex_unlock(&e->mu);
    if (o.err.code) {
        json_decref(o.report);
        return exj_err_set(err, o.err.code, "%s", o.err.text);
    }
    *ret = o.report;
    return EXJ_OK;
}

/* ---- looking ---------------------------------------------------------------------------------- */

static json_t *deck_shown(const struct deck *d)
{
    exj_guest_info i;

    if (!d)
        return json_null();
    exj_guest_describe(d->guest, &i);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:i}", "version", i.version, "sha256", i.sha256,
                     "generation", (json_int_t)i.generation, "calls",
                     (json_int_t)d->count.calls, "errors", (json_int_t)d->count.errors,
                     "running", (int)d->users);
}

json_t *exj_engine_executors(exj_engine *e)
{
    json_t *list = json_array();

    pthread_mutex_lock(&e->mu);
    for (const struct executor *x = e->executors; x; x = x->next) {
        json_t *draining = json_array();
        exj_guest_info i = { .id = "" };

        for (const struct deck *d = x->old; d; d = d->next)
            json_array_append_new(draining, deck_shown(d));
        if (x->current)
            exj_guest_describe(x->current->guest, &i);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:i, s:o, s:o, s:o}", "executor",
                            x->name, "isolation",
                            x->current ? exj_lane_word(i.lane) : exj_lane_word(x->lane), "plugin",
                            i.id, "state",
                            x->error.code  ? "unusable"
                            : x->held      ? "switching"
                            : x->canary    ? "canary"
                            : x->before    ? "watched"
                                           : "current",
                            "current", deck_shown(x->current), "canary", deck_shown(x->canary),
                            "canaryPercent", x->canary ? (int)x->share : 0, "draining", draining,
                            "error", x->error.code ? json_string(x->error.text) : json_null(),
                            "refusal",
                            x->refusal.code ? json_string(x->refusal.text) : json_null()));
    }
    pthread_mutex_unlock(&e->mu);
    return list;
}

void exj_run_note_first(exj_engine *e, const struct executor *x)
{
    exj_guest_info i;

    if (!e->o.shelf || !x->current)
        return;
    exj_guest_describe(x->current->guest, &i);
    exj_reload_tell(e, x->current->guest, EXJ_PE_LOADED, NULL, NULL);
    exj_shelf_keep(e->o.shelf, i.copy, i.sha256, i.id, exj_clock_wall_ms(), NULL);
}
