/* Executors and their decks: what a row runs on. See struct executor in inside.h. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/inside.h"

/* ---- decks ------------------------------------------------------------------------------- */

void exj_deck_free(struct deck *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->instances_len; i++)
        exj_instance_free(d->instances[i]);
    if (d->control && !(d->instances_len && d->control == d->instances[0]))
        exj_instance_free(d->control);
    exj_guest_release(d->guest);
    free(d->instances);
    free(d->label);
    free(d);
}

static exj_code make_instances(const exj_engine *e, struct deck *d, exj_err *err)
{
    bool shared = (d->flags & EXJ_FLAG_CONCURRENT) && !(d->remote && !d->pends);
    uint32_t n = shared ? 1 : e->workers_len;
    exj_code rc;

    d->instances = calloc(n, sizeof(*d->instances));
    if (!d->instances)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    for (; d->instances_len < n; d->instances_len++) {
        rc = exj_instance_new(d->guest, EXJ_SLICE_LITERAL("{}"),
                              &d->instances[d->instances_len], err);
        if (rc)
            return rc;
    }
    if (!shared)
        return exj_instance_new(d->guest, EXJ_SLICE_LITERAL("{}"), &d->control, err);
    d->control = d->instances[0];
    return EXJ_OK;
}

exj_code exj_deck_new(exj_engine *e, exj_guest *guest, struct deck **ret, exj_err *err)
{
    struct deck *d = calloc(1, sizeof(*d));
    exj_buf label = EXJ_BUF_INIT;
    exj_guest_info info;
    exj_code rc;

    if (!d) {
        exj_guest_release(guest);
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    exj_guest_describe(guest, &info);
    d->guest = guest;
    d->flags = info.flags;
    d->generation = info.generation;
    d->remote = info.lane != EXJ_LANE_IN_PROCESS;
    d->pends = (info.flags & EXJ_FLAG_ASYNC) && (info.flags & EXJ_FLAG_CONCURRENT);
    d->since = exj_clock_mono_ns();
    exj_buf_printf(&label, "%s %s", info.id, info.version);
    d->label = exj_buf_take(&label);
    rc = d->label ? make_instances(e, d, err) : exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc) {
        exj_deck_free(d);
        return rc;
    }
    exj_run_record_ready(e, d);
    *ret = d;
    return EXJ_OK;
}

struct deck *exj_deck_take_locked(struct executor *x, exj_slice record_id)
{
    struct deck *d = x->canary && exj_canary_takes(record_id, x->share) ? x->canary : x->current;

    if (d)
        d->users++;
    return d;
}

void exj_deck_leave_locked(exj_engine *e, struct deck *d)
{
    if (--d->users == 0)
        pthread_cond_broadcast(&e->calm);
}

/* ---- executors --------------------------------------------------------------------------- */

void exj_executor_free(struct executor *x)
{
    if (!x)
        return;
    exj_deck_free(x->current);
    exj_deck_free(x->canary);
    exj_deck_free(x->before);
    while (x->old) {
        struct deck *next = x->old->next;

        exj_deck_free(x->old);
        x->old = next;
    }
    free(x->name);
    free(x);
}

static bool holds(const char *path, const char *sha256)
{
    exj_probe probe;

    return path && exj_probe_file(path, &probe, NULL) == EXJ_OK && !strcmp(probe.sha256, sha256);
}

exj_code exj_run_find_guest(exj_engine *e, const struct executor *x, exj_guest **ret, exj_err *err)
{
    exj_guest *found = NULL, *pinned = NULL;
    exj_err why = { 0 };
    char sha[65], *path;
    exj_guest_info i;
    exj_code rc = exj_registry_find_lane(e->o.plugins, x->name, EXJ_KIND_GRAPH_ENGINE, x->lane,
                                         &found, err);

    if (rc)
        return rc;
    exj_guest_describe(found, &i);
    *ret = found;
    if (!e->o.shelf || !i.copy)
        return EXJ_OK;
    if (exj_shelf_pinned(e->o.shelf, i.id, sha, &why) == EXJ_OK &&
        (!sha[0] || !strcmp(sha, i.sha256)))
        return EXJ_OK;
    path = why.code ? NULL : exj_shelf_path_of(e->o.shelf, sha);
    if (!holds(path, sha)) { /* perhaps its file was put in place after `found` was loaded */
        free(path);
        path = holds(i.path, sha) ? strdup(i.path) : NULL;
    }
    if (path && exj_guest_candidate(found, path, x->lane, &pinned, &why) == EXJ_OK) {
        exj_guest_set_state(pinned, EXJ_GEN_CURRENT);
        *ret = pinned;
    } else {
        rc = why.code ? exj_err_set(err, EXJ_REFUSED, "plugin %s is pinned: %s", i.id, why.text)
                      : exj_err_set(err, EXJ_REFUSED, "plugin %s is pinned to the content %.12s…, of "
                                    "which no whole copy is kept; put that file in place, or "
                                    "`plugin unpin %s`", i.id, sha, i.id);
    }
    free(path);
    exj_guest_release(found);
    exj_registry_sweep(e->o.plugins, exj_run_record_gone, e);
    return rc;
}

struct executor *exj_run_executor(exj_engine *e, const char *name, exj_lane lane)
{
    struct executor *x;
    exj_guest *guest = NULL;

    for (x = e->executors; x; x = x->next)
        if (x->lane == lane && !strcmp(x->name, name))
            return x;
    x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->name = strdup(name);
    if (!x->name) {
        free(x);
        return NULL;
    }
    x->lane = lane;
    x->traffic_at = x->traffic_next_at = exj_clock_mono_ns();
    if (exj_run_find_guest(e, x, &guest, &x->error) == EXJ_OK) {
        x->found = true;
        exj_deck_new(e, guest, &x->current, &x->error);
    }
    if (x->error.code == EXJ_NOMEM) { /* no judgement of the plugin: another time */
        exj_executor_free(x);
        return NULL;
    }
    exj_run_note_first(e, x);
    if (x->error.code)
        exj_log(EXJ_LOG_ERROR, "discovery", "executor %s: %s", name, x->error.text);
    pthread_mutex_lock(&e->mu);
    x->next = e->executors;
    e->executors = x;
    pthread_mutex_unlock(&e->mu);
    return x;
}
