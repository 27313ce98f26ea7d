#include "core/run/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/inside.h"

bool exj_run_wait_locked(exj_engine *e, pthread_cond_t *c, exj_nsec until)
{
    struct timespec ts;

    if (!until) {
        pthread_cond_wait(c, &e->mu);
        return true;
    }
    ts.tv_sec = until / 1000000000;
    ts.tv_nsec = until % 1000000000;
    return pthread_cond_timedwait(c, &e->mu, &ts) != ETIMEDOUT;
}

static void wake_all_locked(exj_engine *e)
{
    pthread_cond_broadcast(&e->work);
    pthread_cond_broadcast(&e->claim);
    pthread_cond_broadcast(&e->keep);
    pthread_cond_broadcast(&e->look);
    pthread_cond_broadcast(&e->cycle);
    pthread_cond_broadcast(&e->idle);
    pthread_cond_broadcast(&e->calm);
    pthread_cond_broadcast(&e->retire);
    pthread_cond_broadcast(&e->schedule);
}

static void store_failed(exj_engine *e, const char *what, const exj_op *op)
{
    bool first;

    pthread_mutex_lock(&e->mu);
    first = !e->failed;
    e->failed = true;
    wake_all_locked(e);
    pthread_mutex_unlock(&e->mu);
    if (first)
        exj_log(EXJ_LOG_ERROR, "engine",
                "the store refused %s: %s; no new claims, restart to go on", what,
                op->err.text);
}

#define UNWELL_TOLD_NS (10 * (exj_nsec)1000000000) /* not more often: it may come and go */
#define UNWELL_SICK_NS 1000000000                  /* shorter than that is nobody's business */

static void note_unwell(exj_engine *e, const char *what, const exj_op *op)
{
    exj_nsec now = exj_clock_mono_ns();
    bool tell;

    pthread_mutex_lock(&e->mu);
    if (!e->unwell_since)
        e->unwell_since = now;
    exj_err_clear(&e->unwell_error);
    exj_err_set(&e->unwell_error, op->rc, "%s", op->err.text);
    tell = !e->unwell_open && (!e->unwell_told || now - e->unwell_told >= UNWELL_TOLD_NS);
    if (tell) {
        e->unwell_open = true;
        e->unwell_told = now;
    }
    atomic_store(&e->unwell, true);
    pthread_mutex_unlock(&e->mu);
    if (tell)
        exj_log(EXJ_LOG_WARN, "engine", "the store did not do %s: %s; it is asked again", what,
                op->err.text);
}

static void note_well(exj_engine *e)
{
    exj_nsec lasted;
    bool tell;

    if (!atomic_load_explicit(&e->unwell, memory_order_relaxed))
        return;
    pthread_mutex_lock(&e->mu);
    lasted = e->unwell_since ? exj_clock_mono_ns() - e->unwell_since : 0;
    tell = e->unwell_since && e->unwell_open;
    e->unwell_since = 0;
    e->unwell_open = false;
    atomic_store(&e->unwell, false);
    pthread_mutex_unlock(&e->mu);
    if (tell)
        exj_log(EXJ_LOG_INFO, "engine", "the store does what it is asked again, after %.1f s",
                (double)lasted / 1e9);
}

bool exj_run_passes(const exj_engine *e, exj_code rc)
{
    return e->o.store->v->shared && (rc == EXJ_IO || rc == EXJ_UNKNOWN || rc == EXJ_BUSY ||
                                     rc == EXJ_FULL || rc == EXJ_NOMEM);
}

enum store_said exj_run_store_said(exj_engine *e, const char *what, const exj_op *op)
{
    if (op->rc == EXJ_OK) {
        note_well(e);
        return STORE_OK;
    }
    if (exj_run_passes(e, op->rc)) {
        note_unwell(e, what, op);
        return STORE_PASSES;
    }
    store_failed(e, what, op);
    return STORE_FAILED;
}

#define UNREADABLE_MOST 10 /* about five seconds of them */

void exj_run_note_read(exj_engine *e, unsigned *times, const char *what, const exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_POOL };
    bool enough;

    pthread_mutex_lock(&e->mu);
    *times = err ? *times + 1 : 0;
    enough = *times >= UNREADABLE_MOST;
    pthread_mutex_unlock(&e->mu);
    if (!e->o.one_cycle || e->o.store->v->shared || !enough)
        return;
    op.rc = err->code;
    exj_err_set(&op.err, err->code, "%s", err->text);
    store_failed(e, what, &op);
}

#define PAUSE_LEAST_NS 50000000
#define PAUSE_MOST_NS 2000000000

exj_nsec exj_run_longer_pause(exj_nsec pause)
{
    return !pause ? PAUSE_LEAST_NS : pause >= PAUSE_MOST_NS / 2 ? PAUSE_MOST_NS : 2 * pause;
}

/* ---- start and stop ------------------------------------------------------------------------ */

static void engine_free(exj_engine *e)
{
    struct outbox *box, *next_box;

    while (e->pools) {
        struct pool *p = e->pools;

        e->pools = p->next;
        exj_pool_free(p);
    }
    while (e->gates) {
        struct gate *g = e->gates;

        e->gates = g->next;
        free(g->graph_id);
        free(g);
    }
    while (e->matrices) {
        struct matrix *m = e->matrices;

        e->matrices = m->next;
        exj_matrix_free(m);
    }
    while (e->executors) {
        struct executor *x = e->executors;

        e->executors = x->next;
        exj_executor_free(x);
    }
    for (box = e->outboxes; box; box = next_box) {
        next_box = box->next;
        exj_buf_release(&box->text);
        free(box);
    }
    pthread_mutex_destroy(&e->mu);
    pthread_cond_destroy(&e->work);
    pthread_cond_destroy(&e->claim);
    pthread_cond_destroy(&e->keep);
    pthread_cond_destroy(&e->look);
    pthread_cond_destroy(&e->cycle);
    pthread_cond_destroy(&e->idle);
    pthread_cond_destroy(&e->calm);
    pthread_cond_destroy(&e->retire);
    pthread_cond_destroy(&e->schedule);
    pthread_cond_destroy(&e->ordered);
    exj_watch_free(e->watch);
    free(e->workers);
    free((void *)(uintptr_t)e->o.worker_id);
    free((void *)(uintptr_t)e->o.executor);
    free((void *)(uintptr_t)e->o.only_matrix);
    free((void *)(uintptr_t)e->o.only_run);
    free(e);
}

static void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

static exj_engine *engine_new(const exj_engine_options *o)
{
    exj_engine *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->o = *o;
    e->o.worker_id = strdup(o->worker_id);
    e->o.executor = o->executor ? strdup(o->executor) : NULL;
    e->o.only_matrix = o->only_matrix ? strdup(o->only_matrix) : NULL;
    e->o.only_run = o->only_run ? strdup(o->only_run) : NULL;
    if (!e->o.prefetch)
        e->o.prefetch = 4096;
    if (!e->o.drain_ms)
        e->o.drain_ms = 60000;
    if (!e->o.row_crashes)
        e->o.row_crashes = 3;
    if (!e->o.lease_ms)
        e->o.lease_ms = 60000;
    e->workers_len = o->max_concurrent;
    if (!e->o.running_states)
        e->o.running_states = EXJ_RUNNING_STATES_DEFAULT;
    pthread_mutex_init(&e->mu, NULL);
    cond_init(&e->work);
    cond_init(&e->claim);
    cond_init(&e->keep);
    cond_init(&e->look);
    cond_init(&e->cycle);
    cond_init(&e->idle);
    cond_init(&e->calm);
    cond_init(&e->retire);
    cond_init(&e->schedule);
    cond_init(&e->ordered);
    e->m_expiries = exj_metric_series(o->metrics, EXJ_M_LEASE_EXPIRIES, (exj_slice){ 0 },
                                      (exj_slice){ 0 });
    e->workers = calloc(o->max_concurrent, sizeof(*e->workers));
    if (!e->o.worker_id || (o->executor && !e->o.executor) ||
        (o->only_matrix && !e->o.only_matrix) || (o->only_run && !e->o.only_run) || !e->workers) {
        engine_free(e);
        return NULL;
    }
    return e;
}

static exj_code check_options(const exj_engine_options *o, exj_err *err)
{
    if (!o->max_concurrent || o->max_concurrent > 1024)
        return exj_err_set(err, EXJ_INVALID, "max concurrent claims %u: allowed are 1 to 1024",
                           o->max_concurrent);
    if (o->prefetch > 8192)
        return exj_err_set(err, EXJ_INVALID, "prefetch %u: allowed are 0 to 8192",
                           o->prefetch);
    if (o->lease_ms && (o->lease_ms < 1000 || o->lease_ms > 900000))
        return exj_err_set(err, EXJ_INVALID, "lease of %lld ms: allowed are 1000 to 900000",
                           (long long)o->lease_ms);
    return EXJ_OK;
}

static bool start_workers(exj_engine *e)
{
    while (e->workers_started < e->workers_len) {
        if (!exj_run_start_worker(e, &e->workers[e->workers_started], e->workers_started))
            return false;
        e->workers_started++;
    }
    return true;
}

exj_code exj_engine_start(const exj_engine_options *o, exj_engine **ret, exj_err *err)
{
    exj_engine *e = NULL;
    struct executor *x;
    exj_code rc = check_options(o, err);

    assert(o->store && o->plugins && o->metrics && o->worker_id);
    if (rc != EXJ_OK)
        return rc;
    e = engine_new(o);
    if (!e)
        return exj_err_set(err, EXJ_NOMEM, "engine: out of memory");
    /* Before anything is loaded: a change that comes meanwhile is seen. */
    if (o->shelf && o->plugin_dirs) {
        exj_watch_config watch = { .poll_ms = o->poll_ms };

        rc = exj_watch_new(o->plugin_dirs, &watch, &e->watch, err);
        if (rc != EXJ_OK) {
            engine_free(e);
            return rc;
        }
    }
    x = exj_run_executor(e, o->executor ? o->executor : "stub", EXJ_LANE_DEFAULT);
    /* A plugin that cannot be had is a mistake in the settings. One whose create fails, or
     * that may not run (quarantine, trust), may be well tomorrow: its rows wait, and health says
     * why. A plugin that crashes must not keep the worker from starting. */
    if (!x || (!x->found && (x->error.code != EXJ_REFUSED || !e->watch || o->one_cycle))) {
        rc = exj_err_set(err, x ? x->error.code : EXJ_NOMEM, "executor %s: %s",
                         o->executor ? o->executor : "stub",
                         x ? x->error.text : "out of memory");
        engine_free(e);
        return rc;
    }
    if (!o->executor)
        exj_log(EXJ_LOG_WARN, "engine",
                "NO EXECUTOR IS CONFIGURED: the stub answers \"completed\" to every row and "
                "does nothing; set EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP");
    exj_run_record_core(e, "start"); /* before anything is claimed */
    if (!start_workers(e) ||
        pthread_create(&e->claimer_thread, NULL, exj_run_claimer, e) != 0)
        goto fail;
    e->has_claimer = true;
    if (pthread_create(&e->keeper_thread, NULL, exj_run_keeper, e) != 0)
        goto fail;
    e->has_keeper = true;
    if (pthread_create(&e->discovery_thread, NULL, exj_run_discovery, e) != 0)
        goto fail;
    e->has_discovery = true;
    if (!o->one_cycle) { /* `tick` is for hosts without a daemon */
        if (pthread_create(&e->retirer_thread, NULL, exj_run_retirer, e) != 0)
            goto fail;
        e->has_retirer = true;
        if (pthread_create(&e->scheduler_thread, NULL, exj_run_scheduler, e) != 0)
            goto fail;
        e->has_scheduler = true;
    }
    if (e->watch) {
        if (pthread_create(&e->reloader_thread, NULL, exj_run_reloader, e) != 0)
            goto fail;
        pthread_mutex_lock(&e->mu);
        e->has_reloader = true;
        pthread_mutex_unlock(&e->mu);
    }
    *ret = e;
    return EXJ_OK;
fail:
    exj_engine_stop(e, 0);
    return exj_err_set(err, EXJ_FULL, "engine: a thread could not be started");
}

static void join(pthread_t thread, bool *has)
{
    if (*has)
        pthread_join(thread, NULL);
    *has = false;
}

/* Loops that are not over: their resolvers may not have come back yet. */
static uint32_t loops_locked(const exj_engine *e)
{
    uint32_t n = 0;

    for (const struct matrix *m = e->matrices; m; m = m->next)
        n += m->has_thread && !m->ended;
    return n;
}

/* Loops that wait, and outcomes on their way, need a moment although no grace was given. */
#define SETTLE_MS 1000

uint32_t exj_engine_stop(exj_engine *e, exj_msec grace_ms)
{
    exj_nsec now = exj_clock_mono_ns(), until = now + grace_ms * 1000000;
    exj_nsec settled = now + (grace_ms > SETTLE_MS ? grace_ms : SETTLE_MS) * 1000000;
    uint32_t left;

    pthread_mutex_lock(&e->mu);
    e->stopping = true;
    for (struct pool *p = e->pools; p; p = p->next)
        exj_run_release_locked(e, p);
    wake_all_locked(e);
    pthread_mutex_unlock(&e->mu);
    if (e->watch)
        exj_watch_wake(e->watch);
    join(e->reloader_thread, &e->has_reloader);
    /* Those that could put rows into rings end first; then what is left there goes back. */
    join(e->discovery_thread, &e->has_discovery);
    join(e->claimer_thread, &e->has_claimer);
    join(e->retirer_thread, &e->has_retirer);
    join(e->scheduler_thread, &e->has_scheduler);

    pthread_mutex_lock(&e->mu);
    while (e->ordering) /* their orders are over; now they leave */
        pthread_cond_wait(&e->ordered, &e->mu);
    for (struct pool *p = e->pools; p; p = p->next)
        exj_run_release_locked(e, p);
    wake_all_locked(e);
    while (e->executing || loops_locked(e) || e->outstanding)
        if (!exj_run_wait_locked(e, &e->idle, e->executing ? until : settled))
            break;
    left = e->executing + loops_locked(e);
    if (left)
        atomic_store(&e->abandon, true);
    pthread_mutex_unlock(&e->mu);
    if (left) {
        /* Their threads cannot be taken away from the plugins: the caller exits now, the
         * leases run out, and the rows are claimed again. */
        exj_log(EXJ_LOG_WARN, "engine",
                "%u calls into plugins did not end in time; their rows are left to their "
                "leases",
                left);
        return left;
    }
    for (uint32_t i = 0; i < e->workers_started; i++)
        pthread_join(e->workers[i], NULL);
    for (struct matrix *m = e->matrices; m; m = m->next)
        join(m->thread, &m->has_thread);
    if (e->o.store->v->shared) /* it had its time; each answer that is still to come is near */
        exj_box_give_up(e);
    pthread_mutex_lock(&e->mu);
    while (e->outstanding) /* a store that failed answers too, and it answers us */
        pthread_cond_wait(&e->idle, &e->mu);
    wake_all_locked(e);
    pthread_mutex_unlock(&e->mu);
    join(e->keeper_thread, &e->has_keeper);
    exj_run_record_core(e, "stop");
    engine_free(e);
    return 0;
}

void exj_run_look_again_locked(exj_engine *e)
{
    e->look_now = true;
    pthread_cond_signal(&e->look);
}

/* ---- switches --------------------------------------------------------------------------------- */

static bool is_claiming_locked(const exj_engine *e)
{
    for (const struct pool *p = e->pools; p; p = p->next)
        if (p->claiming)
            return true;
    return false;
}

void exj_engine_pause(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    e->paused = true;
    for (struct pool *p = e->pools; p; p = p->next)
        exj_run_release_locked(e, p);
    wake_all_locked(e);
    /* A claim that is on its way comes in and goes back before we say that we are paused. */
    while (e->paused && is_claiming_locked(e))
        pthread_cond_wait(&e->idle, &e->mu);
    pthread_mutex_unlock(&e->mu);
}

void exj_engine_resume(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    e->paused = false;
    for (struct matrix *m = e->matrices; m; m = m->next)
        m->poked = true;
    wake_all_locked(e);
    pthread_mutex_unlock(&e->mu);
}

bool exj_engine_is_paused(exj_engine *e)
{
    bool paused;

    pthread_mutex_lock(&e->mu);
    paused = e->paused;
    pthread_mutex_unlock(&e->mu);
    return paused;
}

void exj_engine_wake(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    e->look_now = true;
    e->discovered = false; /* nobody is idle before what changed was seen */
    e->schedules_changed = true;
    for (struct pool *p = e->pools; p; p = p->next)
        p->maybe_work = true;
    for (struct matrix *m = e->matrices; m; m = m->next)
        m->poked = true;
    wake_all_locked(e);
    pthread_mutex_unlock(&e->mu);
}

/* ---- one-shot ------------------------------------------------------------------------------------ */

static bool add_open(void *user, const exj_pool_info *i)
{
    struct open_count {
        exj_engine *e;
        int64_t open;
    } *o = user;

    pthread_mutex_lock(&o->e->mu);
    for (const struct pool *p = o->e->pools; p; p = p->next)
        if (p->id == i->pool && p->wanted && p->spec && p->spec->runnable)
            o->open += i->counts[EXJ_QUEUED] + i->counts[EXJ_WAITING] +
                       i->counts[EXJ_PARKED] + i->counts[EXJ_RUNNING];
    pthread_mutex_unlock(&o->e->mu);
    return true;
}

/* Below 0: that cannot be read. */
static int64_t count_open(exj_engine *e, exj_err *ret_err)
{
    struct {
        exj_engine *e;
        int64_t open;
    } o = { e, 0 };

    if (e->o.store->v->pools(e->o.store, add_open, &o, ret_err) != EXJ_OK)
        return -1;
    return o.open;
}

static bool is_quiet_locked(const exj_engine *e)
{
    if (!e->discovered || e->look_now || e->outstanding || e->executing)
        return false;
    if (e->o.max_rows && e->counts.claimed >= e->o.max_rows)
        return true;
    for (const struct matrix *m = e->matrices; m; m = m->next) {
        for (const struct asked *k = m->asked; k && !e->o.one_cycle; k = k->next)
            if (!k->done && !k->not_before) /* what failed is tried again some day */
                return false;
        if (e->o.one_cycle ? !m->ended
                           : m->scanning || !m->idle || m->poked || (m->has_next && !m->ended))
            return false;
    }
    return true;
}

#define COUNT_AGAIN_NS 500000000
#define OTHERS_NS 1000000000

bool exj_engine_wait_idle(exj_engine *e, exj_nsec until)
{
    bool idle = false;

    for (;;) {
        bool quiet, over;
        exj_nsec again = 0;
        exj_err err = { 0 };
        int64_t open;
        uint64_t seen;

        pthread_mutex_lock(&e->mu);
        while (!(quiet = is_quiet_locked(e)) && !e->failed)
            if (!exj_run_wait_locked(e, &e->idle, until))
                break;
        over = e->o.max_rows && e->counts.claimed >= e->o.max_rows;
        over |= e->failed;
        idle = quiet || e->failed;
        seen = e->answers;
        pthread_mutex_unlock(&e->mu);
        if (!quiet || over)
            return idle;
        /* Quiet, and nothing waits for its next attempt either? */
        open = count_open(e, &err);
        exj_run_note_read(e, &e->uncounted, "to count open rows", open < 0 ? &err : NULL);
        if (open == 0)
            return true;
        if (until && exj_clock_mono_ns() >= until)
            return false;
        /* What others do with their rows is not said here. */
        if (open < 0 || e->o.store->v->shared)
            again = exj_clock_mono_ns() + (open < 0 ? COUNT_AGAIN_NS : OTHERS_NS);
        if (!again || (until && until < again))
            again = until;
        pthread_mutex_lock(&e->mu);
        /* Every answer of the store to a row signals `idle`. */
        while (seen == e->answers && !e->failed && exj_run_wait_locked(e, &e->idle, again))
            ;
        pthread_mutex_unlock(&e->mu);
    }
}

/* ---- looking ---------------------------------------------------------------------------------- */

void exj_engine_get_counts(exj_engine *e, exj_engine_counts *ret)
{
    int64_t open = count_open(e, NULL);

    pthread_mutex_lock(&e->mu);
    *ret = e->counts;
    ret->in_flight = e->executing;
    ret->ready = e->ready;
    ret->open = open < 0 ? 0 : open;
    ret->store_failed = e->failed;
    ret->scanning = !e->discovered;
    for (const struct matrix *m = e->matrices; m; m = m->next)
        ret->scanning |= m->scanning;
    pthread_mutex_unlock(&e->mu);
}

static json_t *time_json(exj_msec at)
{
    char text[EXJ_TIME_TEXT_BYTES];

    if (!at)
        return json_null();
    exj_clock_format(at, text);
    return json_string(text);
}

static json_t *matrix_json(const struct matrix *m)
{
    return json_pack("{s:s, s:I, s:b, s:b, s:o, s:o, s:o}", "matrixCatalogId", m->id, "cycles",
                     (json_int_t)m->cycles, "scanning", m->scanning, "idle", m->idle,
                     "lastCycleStartedAt", time_json(m->last_started), "lastCycleEndedAt",
                     time_json(m->last_ended), "lastError",
                     m->last_error.code ? json_string(m->last_error.text) : json_null());
}

/* "acme.score 1.2.0", or how it is configured when it cannot be used. */
static const char *executor_label(const struct executor *x)
{
    return !x ? "" : x->current ? x->current->label : x->name;
}

static json_t *pool_json(const struct pool *p)
{
    return json_pack("{s:s, s:s, s:o, s:i, s:i, s:i, s:b, s:o, s:s}", "graphId", p->graph_id,
                     "matrixCatalogId", p->matrix_id, "matrixRunId",
                     p->run_id[0] ? json_string(p->run_id) : json_null(), "inFlight",
                     (int)p->executing, "ready", (int)p->ready, "concurrency",
                     p->spec ? (int)p->spec->eff.concurrency : 0, "schedulable",
                     p->spec && p->spec->runnable, "reason",
                     p->spec && !p->spec->runnable ? json_string(p->spec->why_not.text)
                                                   : json_null(),
                     "executor", p->spec ? executor_label(p->spec->executor) : "");
}

json_t *exj_engine_status(exj_engine *e, exj_slice matrix)
{
    json_t *graphs = json_array(), *matrices = json_array(), *pools = json_array();
    uint32_t active = 0, stuck;

    pthread_mutex_lock(&e->mu);
    for (const struct matrix *m = e->matrices; m; m = m->next)
        if (!matrix.n || exj_slice_is(matrix, m->id))
            json_array_append_new(matrices, matrix_json(m));
    for (const struct pool *p = e->pools; p; p = p->next) {
        if (!p->wanted || (matrix.n && !exj_slice_is(matrix, p->matrix_id)))
            continue;
        json_array_append_new(pools, pool_json(p));
        active += p->executing;
        if (p->spec && p->spec->runnable) {
            size_t i;
            json_t *known;
            bool have = false;

            json_array_foreach (graphs, i, known)
                have |= !strcmp(json_string_value(known), p->graph_id);
            if (!have)
                json_array_append_new(graphs, json_string(p->graph_id));
        }
    }
    stuck = e->stuck;
    pthread_mutex_unlock(&e->mu);
    return json_pack("{s:s, s:o, s:i, s:i, s:i, s:b, s:b, s:o, s:o}", "workerId", e->o.worker_id,
                     "assignedGraphIds", graphs, "activeJobs", (int)active, "maxConcurrency",
                     (int)e->o.max_concurrent, "writtenOff", (int)stuck, "paused", exj_engine_is_paused(e), "drained",
                     exj_engine_is_paused(e) && !active, "graphs", pools, "matrices",
                     matrices);
}

bool exj_engine_health(exj_engine *e, char *ret_text, size_t cap)
{
    bool ok = true;

    snprintf(ret_text, cap, "ok");
    pthread_mutex_lock(&e->mu);
    if (e->failed) {
        snprintf(ret_text, cap, "the store failed: no new claims until a restart");
        ok = false;
    } else if (e->unwell_since && exj_clock_mono_ns() - e->unwell_since >= UNWELL_SICK_NS) {
        snprintf(ret_text, cap, "the store has not done what it was asked for %lld s: %s",
                 (long long)((exj_clock_mono_ns() - e->unwell_since) / 1000000000),
                 e->unwell_error.text);
        ok = false;
    }
    if (e->stuck && e->stuck >= e->workers_len) {
        snprintf(ret_text, cap, "all %u worker threads are in calls of plugins that do not come back; "
                 "restart the worker, and choose isolation host", e->workers_len);
        ok = false;
    }
    for (const struct executor *x = e->executors; x && ok; x = x->next) {
        if (!x->error.code)
            continue;
        snprintf(ret_text, cap, "executor %s: %s", x->name, x->error.text);
        ok = false;
    }
    pthread_mutex_unlock(&e->mu);
    return ok;
}

void exj_engine_executor(exj_engine *e, exj_buf *ret, bool *ret_is_stub)
{
    const char *name = e->o.executor ? e->o.executor : "stub";

    pthread_mutex_lock(&e->mu);
    for (const struct executor *x = e->executors; x; x = x->next)
        if (x->lane == EXJ_LANE_DEFAULT && !strcmp(x->name, name))
            exj_buf_add_text(ret, executor_label(x));
    pthread_mutex_unlock(&e->mu);
    *ret_is_stub = !e->o.executor;
}
