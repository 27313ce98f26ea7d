/* The reloader: one thread that sees plugin files change, tries what is new, gives it its
 * share, watches it, and takes it back when it is worse. It alone changes which deck an
 * executor runs on; workers take a deck with each row (deck.c), so every execution is wholly
 * in one generation. The life of a version: docs/reload.md. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/plugin/remote.h"
#include "core/run/reload.h"

#define TICK_MS 100 /* while something is being watched or drains */
#define REFUSED_MS 1000 /* how often a plugin that may not be loaded is looked at */
#define AGAIN_NS ((exj_nsec)5 * 1000 * 1000 * 1000) /* what was busy is tried again after */
#define SWEEP_NS ((exj_nsec)1000 * 1000 * 1000)
#define SWEEPS 30u
#define TRAFFIC_NS ((exj_nsec)EXJ_CANARY_TRAFFIC_MS * 1000000)
#define KEPT_VERSIONS 5u

/* ---- saying what happens --------------------------------------------------------------------- */

static void note(exj_engine *e, const exj_shelf_event *event)
{
    exj_err err = { 0 };

    exj_series_add(exj_metric_series(e->o.metrics, EXJ_M_RELOADS, exj_slice_of(event->id),
                                     exj_slice_of(exj_plugin_event_word(event->event))),
                   1);
    if (exj_shelf_history_add(e->o.shelf, event, &err) != EXJ_OK)
        exj_log(EXJ_LOG_WARN, "reload", "history of %s: %s", event->id, err.text);
}

void exj_reload_tell(exj_engine *e, const exj_guest *g, exj_plugin_event event, const char *why,
                     json_t *details)
{
    exj_guest_info i;
    bool bad = event == EXJ_PE_REFUSED || event == EXJ_PE_ROLLED_BACK;

    exj_guest_describe(g, &i);
    exj_log(bad ? EXJ_LOG_ERROR : EXJ_LOG_INFO, "reload", "%s %s generation %llu: %s%s%s", i.id,
            i.version, (unsigned long long)i.generation, exj_plugin_event_word(event),
            why ? ": " : "", why ? why : "");
    note(e, &(exj_shelf_event){ .at = exj_clock_wall_ms(), .id = i.id, .version = i.version,
                                .sha256 = i.sha256, .generation = i.generation, .event = event,
                                .why = why, .details = details });
}

/* `x` NULL: of a resolver. */
static void tell_refusal(exj_engine *e, struct executor *x, const exj_guest *current,
                         const char *path, const exj_err *why)
{
    char sha[65] = "";
    exj_guest_info i;
    exj_probe probe;

    exj_guest_describe(current, &i);
    if (exj_probe_file(path ? path : i.path, &probe, NULL) == EXJ_OK)
        snprintf(sha, sizeof(sha), "%s", probe.sha256);
    pthread_mutex_lock(&e->mu);
    if (x)
        x->refusal = *why;
    pthread_mutex_unlock(&e->mu);
    exj_log(EXJ_LOG_ERROR, "reload", "%s stays at %s, generation %llu: the new content is refused: "
            "%s", i.id, i.version, (unsigned long long)i.generation, why->text);
    note(e, &(exj_shelf_event){ .at = exj_clock_wall_ms(), .id = i.id, .sha256 = sha,
                                .event = EXJ_PE_REFUSED, .why = why->text });
}

/* ---- switching ---------------------------------------------------------------------------------- */

static void drain_locked(exj_engine *e, struct executor *x, struct deck *d)
{
    exj_run_record_draining(e, d);
    d->drain_until = exj_clock_mono_ns() + (exj_nsec)e->o.drain_ms * 1000000;
    d->next = x->old;
    x->old = d;
}

static void changed_locked(exj_engine *e, struct executor *x)
{
    x->turn++;
    exj_run_look_again_locked(e); /* models may be others now */
    pthread_cond_broadcast(&e->work);
    pthread_cond_signal(&e->claim);
}

/* `d` takes all rows. `watched`: what was current waits until d is proven. */
static void make_current(exj_engine *e, struct executor *x, struct deck *d, bool watched)
{
    exj_guest_info i;
    exj_err err = { 0 };

    pthread_mutex_lock(&e->mu);
    if (x->before)
        drain_locked(e, x, x->before);
    x->before = NULL;
    if (x->canary == d)
        x->canary = NULL;
    if (x->current && watched)
        x->before = x->current;
    else if (x->current)
        drain_locked(e, x, x->current);
    x->current = d;
    d->since = exj_clock_mono_ns();
    d->count = (exj_canary_count){ 0 };
    x->traffic = x->traffic_next = d->count;
    x->traffic_at = x->traffic_next_at = d->since;
    x->error = (exj_err){ 0 };
    x->refusal = (exj_err){ 0 };
    x->stopped = false;
    changed_locked(e, x);
    pthread_mutex_unlock(&e->mu);
    exj_guest_set_state(d->guest, EXJ_GEN_CURRENT);
    exj_guest_describe(d->guest, &i);
    exj_reload_tell(e, d->guest, EXJ_PE_CURRENT, NULL, NULL);
    if (exj_shelf_keep(e->o.shelf, i.copy, i.sha256, i.id, exj_clock_wall_ms(), &err) != EXJ_OK &&
        err.code != EXJ_UNSUPPORTED && err.code != EXJ_CONFLICT)
        exj_log(EXJ_LOG_WARN, "reload", "%s: no copy is kept for a roll back: %s", i.id, err.text);
    exj_shelf_prune(e->o.shelf, KEPT_VERSIONS, NULL, NULL);
}

/* Stop giving rows to this executor and wait until none runs on `d`. */
static bool hold_still(exj_engine *e, struct executor *x, struct deck *d)
{
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)e->o.drain_ms * 1000000;
    bool still;

    pthread_mutex_lock(&e->mu);
    x->held = true;
    while (d->users && !e->stopping && exj_run_wait_locked(e, &e->calm, until))
        ;
    still = d->users == 0;
    pthread_mutex_unlock(&e->mu);
    return still;
}

static void go_on(exj_engine *e, struct executor *x)
{
    pthread_mutex_lock(&e->mu);
    x->held = false;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->mu);
}

static bool is_stopping(exj_engine *e)
{
    bool stopping;

    pthread_mutex_lock(&e->mu);
    stopping = e->stopping;
    pthread_mutex_unlock(&e->mu);
    return stopping;
}

/* Every instance's state goes to the one of the same place. Held still meanwhile. */
static exj_code carry_state(exj_engine *e, struct executor *x, struct deck *from, struct deck *to,
                            exj_err *err)
{
    exj_buf state = EXJ_BUF_INIT;
    exj_code rc = EXJ_OK;

    if (!hold_still(e, x, from))
        rc = is_stopping(e) ? exj_err_set(err, EXJ_CANCELLED, "the worker stops")
                            : exj_err_set(err, EXJ_BUSY, "its state cannot be carried over: rows "
                                          "still run after %u ms", (unsigned)e->o.drain_ms);
    if (!rc && to->instances_len < from->instances_len)
        rc = exj_err_set(err, EXJ_INVALID, "its state cannot be carried over: %u instances have one, "
                         "and the new version is CONCURRENT and has one instance; stop the worker "
                         "to change that", (unsigned)from->instances_len);
    for (uint32_t i = 0; !rc && i < to->instances_len && i < from->instances_len; i++) {
        exj_buf_reset(&state);
        rc = exj_instance_save_state(from->instances[i], &state, err);
        if (!rc)
            rc = exj_instance_load_state(to->instances[i], exj_guest_state_version(from->guest),
                                         exj_buf_slice(&state), err);
    }
    exj_buf_release(&state);
    return rc;
}

/* ---- a new content -------------------------------------------------------------------------- */

/* Never both a trial guest and a candidate left behind: what is not kept is released. */
exj_code exj_reload_try(exj_engine *e, struct executor *x, const char *path, unsigned rows,
                            json_t **ret_report, exj_err *err)
{
    exj_guest *current = x->current->guest, *guest = NULL;
    exj_guest_info i;
    bool replays;
    exj_code rc;

    exj_guest_describe(current, &i);
    rc = exj_guest_candidate(current, path,
                             exj_registry_has_hosts(e->o.plugins) &&
                                     i.lane == EXJ_LANE_IN_PROCESS
                                 ? EXJ_LANE_HOST
                                 : EXJ_LANE_DEFAULT,
                             &guest, err);
    if (rc)
        return rc;
    exj_guest_describe(guest, &i);
    replays = (i.flags & EXJ_FLAG_REPLAYABLE) != 0;
    rc = exj_run_trial(e, x, guest, EXJ_SLICE_LITERAL("{}"), replays ? rows : 0, ret_report, err);
    if (*ret_report) { /* of what it is */
        json_object_set_new(*ret_report, "version", json_string(i.version));
        json_object_set_new(*ret_report, "sha256", json_string(i.sha256));
    }
    if (!rc)
        exj_reload_tell(e, guest, EXJ_PE_TRIAL, "passed", *ret_report);
    exj_guest_release(guest);
    return rc;
}

static exj_code check_pin(exj_engine *e, const exj_guest *current, const char *path, exj_err *err)
{
    char pinned[65];
    exj_guest_info i;
    exj_probe probe;
    exj_code rc;

    exj_guest_describe(current, &i);
    rc = exj_shelf_pinned(e->o.shelf, i.id, pinned, err);
    if (rc || !pinned[0])
        return rc;
    rc = exj_probe_file(path ? path : i.path, &probe, err);
    if (!rc && strcmp(probe.sha256, pinned))
        rc = exj_err_set(err, EXJ_REFUSED, "plugin %s is pinned to the content %.12s…; `plugin unpin "
                         "%s` lets new ones in", i.id, pinned, i.id);
    return rc;
}

static exj_code install(exj_engine *e, struct executor *x, const char *path, bool by_order,
                        exj_err *err)
{
    struct deck *d = NULL, *old = x->current;
    exj_guest *guest = NULL;
    exj_canary_count recent;
    bool stateful, canary;
    exj_nsec now, window;
    exj_code rc;

    rc = exj_guest_candidate(old->guest, path, EXJ_LANE_DEFAULT, &guest, err);
    if (!rc)
        rc = exj_deck_new(e, guest, &d, err);
    if (rc)
        return rc;
    stateful = exj_guest_saves_state(old->guest);
    if (stateful && (rc = carry_state(e, x, old, d, err)) != EXJ_OK) {
        go_on(e, x);
        exj_deck_free(d);
        return rc;
    }
    pthread_mutex_lock(&e->mu);
    now = exj_clock_mono_ns();
    window = now - x->traffic_at;
    recent = (exj_canary_count){ old->count.calls - x->traffic.calls, 0 };
    canary = !stateful && !by_order && e->o.canary_percent && e->o.canary_percent < 100 &&
             exj_canary_needed(recent.calls, window / 1000000);
    if (x->canary) { /* overtaken before it was judged */
        drain_locked(e, x, x->canary);
        x->canary = NULL;
    }
    if (canary) {
        x->canary = d;
        x->share = e->o.canary_percent;
        x->canary_at = now;
        x->canary_base = old->count;
    }
    pthread_mutex_unlock(&e->mu);
    if (canary) {
        exj_guest_set_state(d->guest, EXJ_GEN_CANARY);
        exj_reload_tell(e, d->guest, EXJ_PE_CANARY, NULL, NULL);
    } else {
        make_current(e, x, d, !by_order);
    }
    if (stateful)
        go_on(e, x);
    return EXJ_OK;
}

/* What is current is what is wanted: a share that another content has ends, and what was refused
 * is no longer what its file holds. */
static void stay(exj_engine *e, struct executor *x, const char *path)
{
    if (x->canary)
        exj_reload_back(e, x, x->canary, "the content before it was put back");
    pthread_mutex_lock(&e->mu);
    if (!path)
        x->refusal = (exj_err){ 0 };
    pthread_mutex_unlock(&e->mu);
}

/* The content that runs is not tried again, nor is one that has its share. */
static exj_code check_news(exj_engine *e, struct executor *x, const char *path, exj_err *err)
{
    exj_guest_info i, c = { .sha256 = "" };
    exj_probe probe;
    exj_code rc;

    exj_guest_describe(x->current->guest, &i);
    if (x->canary)
        exj_guest_describe(x->canary->guest, &c);
    rc = exj_probe_file(path ? path : i.path, &probe, err);
    if (!rc && !strcmp(probe.sha256, i.sha256)) {
        stay(e, x, path);
        return exj_err_set(err, EXJ_CONFLICT, "plugin %s: the content %.12s runs already, as "
                           "generation %llu", i.id, i.sha256, (unsigned long long)i.generation);
    }
    if (!rc && !path && !strcmp(probe.sha256, c.sha256))
        return exj_err_set(err, EXJ_CONFLICT, "plugin %s: the content %.12s has its share of the "
                           "rows already, as generation %llu", i.id, c.sha256,
                           (unsigned long long)c.generation);
    return rc;
}

/* The whole way of one content for one executor. `path` NULL: its own file. */
exj_code exj_reload_take(exj_engine *e, struct executor *x, const char *path, bool by_order,
                         json_t **ret_report, exj_err *err)
{
    exj_code rc = check_news(e, x, path, err);

    if (!rc)
        rc = check_pin(e, x->current->guest, path, err);
    if (!rc)
        rc = exj_reload_try(e, x, path, by_order ? 0 : e->o.trial_rows, ret_report, err);
    if (!rc)
        rc = install(e, x, path, by_order, err);
    if (rc && rc != EXJ_CONFLICT && rc != EXJ_BUSY && rc != EXJ_CANCELLED)
        tell_refusal(e, x, x->current->guest, path, err);
    exj_registry_sweep(e->o.plugins, exj_run_record_gone, e);
    return rc;
}

/* An executor that could not be used: perhaps it can now. */
void exj_reload_look_for(exj_engine *e, struct executor *x)
{
    exj_guest *guest = NULL;
    struct deck *d = NULL;
    exj_err err = { 0 };

    if (exj_run_find_guest(e, x, &guest, &err) == EXJ_OK &&
        exj_deck_new(e, guest, &d, &err) == EXJ_OK) {
        make_current(e, x, d, false);
        return;
    }
    pthread_mutex_lock(&e->mu);
    if (strcmp(x->error.text, err.text)) {
        x->error = err;
        changed_locked(e, x);
    }
    pthread_mutex_unlock(&e->mu);
}

/* By its name, or by another one of the same file. `x` can be used. */
static bool runs_file(const struct executor *x, const char *source)
{
    struct stat mine, its;
    exj_guest_info i;

    exj_guest_describe(x->current->guest, &i);
    return strcmp(i.path, source) == 0 ||
           (stat(i.path, &mine) == 0 && stat(source, &its) == 0 && mine.st_dev == its.st_dev &&
            mine.st_ino == its.st_ino);
}

/* Does a matrix that names its resolver so mean this plugin? */
static bool is_called(const exj_guest_info *i, const char *name)
{
    const char *slash = strrchr(i->path, '/');
    size_t n = strlen(name);

    if (!strcmp(name, i->id) || !strcmp(name, i->path))
        return true;
    return slash && !strncmp(slash + 1, name, n) && (!slash[1 + n] || !strcmp(slash + 1 + n, ".so"));
}

/* The candidate of a resolver, tried with the config that it is used with; held. */
static exj_code try_resolver(exj_engine *e, exj_guest *current, exj_lane lane, exj_guest **ret,
                             exj_err *err)
{
    exj_buf config = EXJ_BUF_INIT;
    json_t *report = NULL;
    exj_guest_info i;
    exj_code rc;

    exj_guest_describe(current, &i);
    pthread_mutex_lock(&e->mu);
    for (const struct matrix *m = e->matrices; m && !config.n; m = m->next)
        if (m->config.resolver && m->config.resolver_config && is_called(&i, m->config.resolver))
            exj_buf_add_text(&config, m->config.resolver_config);
    pthread_mutex_unlock(&e->mu);
    if (!config.n)
        exj_buf_add_text(&config, "{}");
    rc = exj_guest_candidate(current, NULL, lane, ret, err);
    if (!rc) {
        rc = exj_run_trial(e, NULL, *ret, exj_buf_slice(&config), 0, &report, err);
        if (rc)
            exj_guest_release(*ret);
    }
    json_decref(report);
    exj_buf_release(&config);
    return rc;
}

/* Resolvers have no deck: each cycle asks the registry anew. */
static void refresh_resolvers(exj_engine *e, const char *source)
{
    exj_guest *held[8], *fresh;
    size_t n = exj_registry_hold_current(e->o.plugins, source, held, 8);

    for (size_t k = 0; k < n; k++) {
        exj_guest_info i;
        exj_err err = { 0 };
        exj_code rc = check_pin(e, held[k], NULL, &err);

        exj_guest_describe(held[k], &i);
        if (!rc && i.lane == EXJ_LANE_IN_PROCESS && exj_registry_has_hosts(e->o.plugins)) {
            rc = try_resolver(e, held[k], EXJ_LANE_HOST, &fresh, &err);
            if (!rc)
                exj_guest_release(fresh);
        }
        if (!rc)
            rc = try_resolver(e, held[k], EXJ_LANE_DEFAULT, &fresh, &err);
        if (!rc) {
            exj_guest_set_state(fresh, EXJ_GEN_CURRENT);
            exj_reload_tell(e, fresh, EXJ_PE_CURRENT, NULL, NULL);
            exj_guest_release(fresh);
            e->sweeps = SWEEPS;
        }
        if (rc == EXJ_BUSY)
            exj_watch_again(e->watch, source);
        else if (rc && rc != EXJ_CONFLICT && rc != EXJ_CANCELLED)
            tell_refusal(e, NULL, held[k], NULL, &err);
        exj_guest_release(held[k]);
    }
}

/* Executors are never taken away, new ones come first: from here the list can be walked. */
struct executor *exj_first_executor(exj_engine *e)
{
    struct executor *x;

    pthread_mutex_lock(&e->mu);
    x = e->executors;
    pthread_mutex_unlock(&e->mu);
    return x;
}

/* Its file, seen by ourselves. What is busy now is tried again. */
static void take_file(exj_engine *e, struct executor *x)
{
    json_t *report = NULL;
    exj_err err = { 0 };

    x->again_at = 0;
    if (exj_reload_take(e, x, NULL, false, &report, &err) == EXJ_BUSY) {
        x->again_at = exj_clock_mono_ns() + AGAIN_NS;
        exj_log(EXJ_LOG_WARN, "reload", "executor %s: %s; it is tried again", x->name, err.text);
        pthread_mutex_lock(&e->mu);
        x->refusal = err;
        pthread_mutex_unlock(&e->mu);
    }
    json_decref(report);
}

static void file_changed(exj_engine *e, const char *path)
{
    char *source = exj_plugin_source(path);
    bool used = false;

    for (struct executor *x = exj_first_executor(e); x && source; x = x->next) {
        if (!x->current) {
            exj_reload_look_for(e, x);
        } else if (runs_file(x, source)) {
            used = true;
            take_file(e, x);
        }
    }
    if (source && !used)
        refresh_resolvers(e, source);
    free(source);
}

/* ---- watching -------------------------------------------------------------------------------- */

static exj_canary_count since(exj_canary_count now, exj_canary_count then)
{
    return (exj_canary_count){ now.calls - then.calls, now.errors - then.errors };
}

void exj_reload_back(exj_engine *e, struct executor *x, struct deck *bad, const char *why)
{
    exj_reload_tell(e, bad->guest, EXJ_PE_ROLLED_BACK, why, NULL);
    pthread_mutex_lock(&e->mu);
    exj_err_set(&x->refusal, EXJ_INVALID, "rolled back: %s", why);
    if (x->canary == bad) {
        x->canary = NULL;
    } else {
        x->current = x->before;
        x->before = NULL;
        changed_locked(e, x);
    }
    drain_locked(e, x, bad);
    pthread_mutex_unlock(&e->mu);
    exj_guest_set_state(bad->guest, EXJ_GEN_DRAINING);
    exj_guest_set_state(x->current->guest, EXJ_GEN_CURRENT);
}

static bool is_pinned_elsewhere(exj_engine *e, const exj_guest *g)
{
    char pinned[65];
    exj_guest_info i;

    exj_guest_describe(g, &i);
    return exj_shelf_pinned(e->o.shelf, i.id, pinned, NULL) == EXJ_OK && pinned[0] &&
           strcmp(pinned, i.sha256);
}

static void judge(exj_engine *e, struct executor *x)
{
    exj_nsec now = exj_clock_mono_ns();
    exj_canary_count old = { 0 }, fresh = { 0 };
    struct deck *watched = NULL;
    exj_msec elapsed = 0;
    bool canary;
    char why[200];
    exj_err err = { 0 };

    pthread_mutex_lock(&e->mu);
    canary = x->canary != NULL;
    if (canary) {
        watched = x->canary;
        old = since(x->current->count, x->canary_base);
        if (old.calls < 20)
            old = x->current->count;
        elapsed = (now - x->canary_at) / 1000000;
    } else if (x->before) {
        watched = x->current;
        old = x->before->count;
        elapsed = (now - watched->since) / 1000000;
    }
    if (watched)
        fresh = watched->count;
    if (now - x->traffic_next_at >= TRAFFIC_NS && x->current) {
        x->traffic = x->traffic_next;
        x->traffic_at = x->traffic_next_at;
        x->traffic_next = x->current->count;
        x->traffic_next_at = now;
    }
    pthread_mutex_unlock(&e->mu);
    if (!watched)
        return;
    if (exj_guest_may_start(watched->guest, &err) != EXJ_OK) { /* and the one before may */
        exj_reload_back(e, x, watched, err.text);
        return;
    }
    switch (exj_canary_judge(old, fresh, elapsed, NULL)) {
    case EXJ_CANARY_KEEP_WATCHING:
        break;
    case EXJ_CANARY_PROMOTE:
        if (canary && is_pinned_elsewhere(e, watched->guest)) {
            exj_reload_back(e, x, watched, "the plugin was pinned meanwhile");
        } else if (canary) {
            make_current(e, x, watched, false);
        } else {
            pthread_mutex_lock(&e->mu);
            drain_locked(e, x, x->before);
            x->before = NULL;
            pthread_mutex_unlock(&e->mu);
        }
        break;
    case EXJ_CANARY_ROLL_BACK:
        snprintf(why, sizeof(why), "%llu of %llu rows failed; before: %llu of %llu",
                 (unsigned long long)fresh.errors, (unsigned long long)fresh.calls,
                 (unsigned long long)old.errors, (unsigned long long)old.calls);
        exj_reload_back(e, x, watched, why);
        break;
    }
}

/* May it run again? */
static void look_at_stopped(exj_engine *e, struct executor *x)
{
    exj_err why = { 0 };
    bool stopped, may;

    pthread_mutex_lock(&e->mu);
    stopped = x->stopped;
    pthread_mutex_unlock(&e->mu);
    if (!stopped)
        return;
    may = exj_guest_may_start(x->current->guest, &why) == EXJ_OK;
    pthread_mutex_lock(&e->mu);
    if (may) {
        x->stopped = false;
        x->error = (exj_err){ 0 };
        changed_locked(e, x);
    } else if (strcmp(x->error.text, why.text)) {
        x->error = why;
        changed_locked(e, x);
    }
    pthread_mutex_unlock(&e->mu);
}

/* It could not even be loaded because it may not be used: its file does not change when it is
 * released or trusted. */
static void look_at_refused(exj_engine *e, struct executor *x)
{
    exj_nsec now = exj_clock_mono_ns();
    bool due;

    pthread_mutex_lock(&e->mu);
    due = !x->current && x->error.code == EXJ_REFUSED &&
          now - x->traffic_at >= (exj_nsec)REFUSED_MS * 1000000;
    if (due)
        x->traffic_at = now;
    pthread_mutex_unlock(&e->mu);
    if (due)
        exj_reload_look_for(e, x);
}

static void tell_end(void *user, const exj_guest_info *i)
{
    exj_engine *e = user;

    exj_run_record_gone(e, i);
    exj_log(EXJ_LOG_INFO, "reload", "%s %s generation %llu: %s", i->id, i->version,
            (unsigned long long)i->generation, exj_gen_word(i->state));
    exj_shelf_history_add(e->o.shelf,
                          &(exj_shelf_event){ .at = exj_clock_wall_ms(), .id = i->id,
                                              .version = i->version, .sha256 = i->sha256,
                                              .generation = i->generation,
                                              .event = EXJ_PE_RETIRED,
                                              .why = i->state == EXJ_GEN_PINNED
                                                         ? "stays mapped: it cannot be closed"
                                                         : NULL },
                          NULL);
}

/* Free the decks that nobody is on any more. */
static void drain(exj_engine *e, struct executor *x)
{
    struct deck *over = NULL, **at;
    exj_nsec now = exj_clock_mono_ns();

    pthread_mutex_lock(&e->mu);
    for (at = &x->old; *at;) {
        struct deck *d = *at;

        if (d->users && d->drain_until && now >= d->drain_until) {
            d->drain_until = 0; /* once */
            exj_log(EXJ_LOG_WARN, "reload", "%s generation %llu: %u rows still run on it after %u "
                    "ms", d->label, (unsigned long long)d->generation, d->users,
                    (unsigned)e->o.drain_ms);
            for (uint32_t i = 0; d->remote && i < d->instances_len; i++)
                exj_remote_retire(d->instances[i]);
        }
        if (d->users) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        d->next = over;
        over = d;
    }
    pthread_mutex_unlock(&e->mu);
    if (!over)
        return;
    while (over) {
        struct deck *next = over->next;

        exj_reload_tell(e, over->guest, EXJ_PE_DRAINED, NULL, NULL);
        exj_deck_free(over);
        over = next;
    }
    exj_registry_sweep(e->o.plugins, tell_end, e);
}

/* ---- the thread --------------------------------------------------------------------------------- */

/* Until when may the reloader sleep? -1: until something happens. */
static int sleep_ms_locked(const exj_engine *e)
{
    int ms = e->sweeps ? (int)(SWEEP_NS / 1000000) : (int)EXJ_CANARY_TRAFFIC_MS;

    if (e->orders)
        return 0;
    for (const struct executor *x = e->executors; x; x = x->next) {
        if (x->canary || x->before || x->old || x->stopped)
            return TICK_MS;
        if ((!x->current && x->error.code == EXJ_REFUSED) || x->again_at)
            ms = REFUSED_MS;
    }
    return ms;
}

void *exj_run_reloader(void *engine)
{
    exj_engine *e = engine;
    bool stopping = false;
    exj_nsec sweep_at = 0;

    while (!stopping) {
        exj_file_changes changes = { 0 };
        struct executor *x;
        exj_err err = { 0 };
        int ms;

        pthread_mutex_lock(&e->mu);
        ms = sleep_ms_locked(e);
        pthread_mutex_unlock(&e->mu);
        if (exj_watch_wait(e->watch, ms, &changes, &err) != EXJ_OK)
            exj_log(EXJ_LOG_ERROR, "reload", "plugin folders: %s", err.text);
        pthread_mutex_lock(&e->mu);
        stopping = e->stopping;
        x = e->executors;
        pthread_mutex_unlock(&e->mu);
        for (size_t k = 0; !stopping && k < changes.len; k++)
            if (changes.items[k].news != EXJ_FILE_GONE && !e->o.manual_reload)
                file_changed(e, changes.items[k].path);
        exj_file_changes_release(&changes);
        exj_reload_obey(e, stopping);
        for (; x && !stopping; x = x->next) {
            if (x->again_at && exj_clock_mono_ns() >= x->again_at)
                take_file(e, x);
            judge(e, x);
            look_at_stopped(e, x);
            look_at_refused(e, x);
            drain(e, x);
        }
        if (!stopping && exj_clock_mono_ns() >= sweep_at) { /* what a cycle had still in use */
            exj_registry_sweep(e->o.plugins, tell_end, e);
            e->sweeps -= e->sweeps > 0;
            sweep_at = exj_clock_mono_ns() + SWEEP_NS;
        }
    }
    return NULL;
}
