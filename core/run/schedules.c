#include "core/run/schedules.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/record.h"
#include "core/run/inside.h"

#define PAGE 100u
#define RETRY_MS 30000 /* until a tick that could not start is tried again */
#define AGAIN_MS 1000 /* after a look that failed; twice as long each time, RETRY_MS at most */
/* The store's clock may be set forward while we wait by another one. */
#define WAIT_MOST_MS 60000

static exj_code nomem(exj_err *err)
{
    return exj_err_set(err, EXJ_NOMEM, "schedules: out of memory");
}

/* ---- one schedule as it stands -------------------------------------------------------------- */

/* What the ticks follow from. As long as this text stays the same, so do they. */
static bool add_times(const exj_schedule *s, exj_buf *b)
{
    if (s->cron_text)
        exj_buf_printf(b, "cron %s", s->cron_text);
    else
        exj_buf_printf(b, "every %lld from %lld", (long long)s->every_ms,
                       (long long)s->anchor_ms);
    exj_buf_printf(b, " %s%s", exj_zone_name(s->zone), s->paused ? " paused" : "");
    return !b->failed;
}

static exj_slice keep(exj_buf *b, exj_slice text)
{
    exj_buf_reset(b);
    exj_buf_add_slice(b, text);
    return exj_buf_slice(b);
}

void exj_schedule_now_release(exj_schedule_now *n)
{
    exj_schedule_release(&n->schedule);
    exj_buf_release(&n->id);
    exj_buf_release(&n->body);
    exj_buf_release(&n->times);
    exj_buf_release(&n->error);
    *n = (exj_schedule_now){ 0 };
}

exj_code exj_schedule_now_of(const exj_schedule_view *v, exj_schedule_now *ret, exj_err *err)
{
    exj_err why = { 0 };
    bool changed;
    exj_code rc;

    *ret = (exj_schedule_now){ .view = *v };
    ret->view.id = keep(&ret->id, v->id);
    ret->view.body = keep(&ret->body, v->body);
    ret->view.error = keep(&ret->error, v->error);
    if (ret->id.failed || ret->body.failed || ret->error.failed) {
        exj_schedule_now_release(ret);
        return nomem(err);
    }
    rc = exj_schedule_read(v->body, &ret->schedule, &why);
    if (rc == EXJ_OK && !add_times(&ret->schedule, &ret->times))
        rc = nomem(&why);
    if (rc == EXJ_NOMEM) {
        exj_schedule_now_release(ret);
        return exj_err_set(err, rc, "%s", why.text);
    }
    if (rc != EXJ_OK) {
        ret->view.times = keep(&ret->times, v->times);
        ret->last_tick = v->turn ? v->last_tick : v->updated_at;
        ret->paused = v->paused;
        return exj_err_set(err, EXJ_CORRUPT, "schedule \"%.*s\": %s",
                           (int)(v->id.n < 200 ? v->id.n : 200), v->id.p, why.text);
    }
    changed = v->turn && !exj_slice_equal(v->times, exj_buf_slice(&ret->times));
    ret->view.times = exj_buf_slice(&ret->times);
    ret->last_tick = v->last_tick;
    if (!v->turn || (changed && v->updated_at > v->last_tick))
        ret->last_tick = v->updated_at;
    ret->paused = ret->schedule.paused || v->paused;
    return EXJ_OK;
}

struct getting {
    exj_schedule_now *ret;
    exj_err *err;
    exj_code rc;
};

static bool get_one(void *user, const exj_schedule_view *v)
{
    struct getting *g = user;

    g->rc = exj_schedule_now_of(v, g->ret, g->err);
    return false;
}

exj_code exj_schedule_now_get(exj_store *s, exj_slice id, exj_schedule_now *ret, exj_err *err)
{
    struct getting g = { ret, err, EXJ_OK };
    exj_code rc = s->v->schedule_get(s, id, get_one, &g, err);

    return rc ? rc : g.rc;
}

/* An operation that leaves everything as it is; the caller changes what is to change. */
static exj_op state_op(const exj_schedule_now *n)
{
    exj_op op = { .kind = EXJ_OP_SCHEDULE_TICK };

    op.u.tick.id = n->view.id;
    op.u.tick.version = n->view.version;
    op.u.tick.turn = n->view.turn;
    op.u.tick.last_tick = n->last_tick;
    op.u.tick.next_due = n->view.next_due;
    op.u.tick.paused = n->view.paused;
    op.u.tick.times = n->view.times;
    op.u.tick.error = n->view.error;
    return op;
}

exj_code exj_schedule_pause_op(exj_store *s, exj_schedule_now *n, bool paused, exj_op *ret,
                               exj_err *err)
{
    exj_schedule_verdict v;
    exj_msec now = s->v->now(s), tick;

    if (!paused && n->schedule.paused)
        return exj_err_set(err, EXJ_REFUSED,
                           "schedule \"%s\" is paused by its document: apply it with "
                           "payload.paused false",
                           n->schedule.schedule_id);
    *ret = state_op(n);
    ret->u.tick.paused = paused;
    ret->u.tick.error = (exj_slice){ 0 };
    if (paused) {
        ret->u.tick.next_due = 0;
        return EXJ_OK;
    }
    if (n->view.paused) { /* what passed meanwhile is skipped for good */
        n->schedule.paused = true;
        exj_schedule_due(&n->schedule, n->last_tick, now, &tick, 1, &v);
        n->schedule.paused = false;
        ret->u.tick.skipped = v.skipped;
        ret->u.tick.last_tick = now > n->last_tick ? now : n->last_tick;
    }
    ret->u.tick.next_due = 0;
    if (exj_schedule_next(&n->schedule, ret->u.tick.last_tick, &tick))
        ret->u.tick.next_due = tick;
    return EXJ_OK;
}

bool exj_schedule_manual_name(const exj_schedule *s, exj_buf *b)
{
    static_assert(EXJ_SCHEDULE_ID_BYTES + sizeof("@manual-0123456789abcdef") - 1 <=
                      EXJ_ID_MAX_BYTES,
                  "the name of a trigger is an id");
    exj_buf_printf(b, "%s@manual-%016llx", s->schedule_id,
                   (unsigned long long)exj_random_u64());
    return !b->failed;
}

/* ---- what ticks start ------------------------------------------------------------------------- */

struct exj_start {
    exj_engine *engine;
    bool is_run;
    exj_admission *admission; /* rows */
    exj_op *ops;              /* rows: the admission's; runs: ours */
    size_t n;
    exj_op runs[EXJ_START_MOST];
};

static bool visit_any(void *user, exj_slice id, int64_t version, exj_slice body,
                      exj_msec created, exj_msec updated)
{
    (void)user, (void)id, (void)version, (void)body, (void)created, (void)updated;
    return false;
}

static exj_code start_runs(exj_start *st, exj_store *s, const exj_schedule *schedule,
                           const exj_slice *names, size_t n, exj_err *err)
{
    exj_slice matrix = exj_slice_of(schedule->matrix_id);
    exj_code rc = s->v->doc_get(s, EXJ_DOC_MATRIX, matrix, visit_any, NULL, err);

    if (rc != EXJ_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        st->runs[i] = (exj_op){ .kind = EXJ_OP_RUN_ASK };
        st->runs[i].u.run.matrix = matrix;
        st->runs[i].u.run.run = names[i];
    }
    st->ops = st->runs;
    st->n = n;
    return EXJ_OK;
}

static exj_code start_rows(exj_start *st, exj_store *s, const exj_schedule *schedule,
                           const exj_slice *names, size_t n, exj_err *err)
{
    exj_slice graph = { 0 }, input = exj_slice_of(schedule->input);
    exj_code rc;

    if (schedule->graph_id)
        graph = exj_slice_of(schedule->graph_id);
    rc = exj_admission_open_id(s, st->engine, exj_slice_of(schedule->matrix_id), graph,
                               &st->admission, err);
    for (size_t i = 0; rc == EXJ_OK && i < n; i++)
        rc = exj_admission_add(st->admission, names[i], input, NULL, err);
    if (rc == EXJ_OK)
        rc = exj_admission_ops(st->admission, &st->ops, err);
    if (rc == EXJ_OK)
        st->n = exj_admission_graphs(st->admission);
    return rc;
}

exj_code exj_start_new(exj_store *s, exj_engine *engine, const exj_schedule *schedule,
                       const exj_slice *names, size_t n, exj_start **ret, exj_err *err)
{
    exj_start *st = calloc(1, sizeof(*st));
    exj_code rc;

    assert(n >= 1 && n <= EXJ_START_MOST);
    if (!st)
        return nomem(err);
    st->engine = engine;
    st->is_run = schedule->run;
    rc = schedule->run ? start_runs(st, s, schedule, names, n, err)
                       : start_rows(st, s, schedule, names, n, err);
    if (rc == EXJ_OK)
        *ret = st;
    else
        exj_start_free(st);
    return rc;
}

exj_op *exj_start_ops(exj_start *st, size_t *ret_n)
{
    *ret_n = st->n;
    return st->ops;
}

void exj_start_landed(exj_start *st)
{
    if (st->admission)
        exj_admission_landed(st->admission);
    else if (st->engine)
        exj_engine_runs_came(st->engine);
}

exj_admission *exj_start_admission(exj_start *st)
{
    return st->admission;
}

uint64_t exj_start_rows(const exj_start *st)
{
    uint64_t rows = 0;

    for (size_t i = 0; !st->is_run && i < st->n; i++)
        rows += st->ops[i].u.insert.ret_inserted;
    return rows;
}

void exj_start_free(exj_start *st)
{
    if (!st)
        return;
    exj_admission_free(st->admission);
    free(st);
}

/* ---- groups ------------------------------------------------------------------------------------ */

/* `first` and the `n` of `rest` (may be none), all or nothing. The error of whichever failed. */
static exj_code do_group(exj_store *s, exj_op *first, exj_op *rest, size_t n, exj_err *err)
{
    first->next = n ? rest : NULL;
    for (size_t i = 0; i < n; i++)
        rest[i].next = i + 1 < n ? &rest[i + 1] : NULL;
    return exj_store_do_group(s, first, err);
}

/* ---- firing ------------------------------------------------------------------------------------- */

struct firing {
    exj_store *store;
    exj_engine *engine;
    exj_msec now;
    exj_fired *count;
};

/* Somebody else was faster: what is left to do is found with the next look. */
static exj_code allow_race(exj_code rc, exj_err *err)
{
    if (rc != EXJ_CONFLICT && rc != EXJ_NOT_FOUND)
        return rc;
    exj_err_clear(err);
    return EXJ_OK;
}

/* Whether an error is about what the schedule names, and not about us. */
static bool is_about_the_schedule(exj_code rc)
{
    return rc == EXJ_NOT_FOUND || rc == EXJ_REFUSED || rc == EXJ_INVALID || rc == EXJ_CORRUPT ||
           rc == EXJ_FULL || rc == EXJ_CONFLICT || rc == EXJ_UNSUPPORTED;
}

static exj_code note_failure(struct firing *f, const exj_schedule_now *n, const exj_err *why,
                             exj_err *err)
{
    exj_op op = state_op(n);
    exj_code rc;

    f->count->failed++;
    if (!exj_slice_is(n->view.error, why->text))
        exj_log(EXJ_LOG_ERROR, "schedules", "schedule %.*s: its tick waits: %s",
                (int)n->view.id.n, n->view.id.p, why->text);
    op.u.tick.next_due = f->now + RETRY_MS;
    op.u.tick.error = exj_slice_of(why->text);
    rc = do_group(f->store, &op, NULL, 0, err);
    return allow_race(rc, err);
}

/* Names of the ticks, one behind the other in `b`. */
static bool name_ticks(const exj_schedule *s, const exj_msec *ticks, size_t n, exj_buf *b,
                       exj_slice *ret)
{
    size_t from = 0;

    for (size_t i = 0; i < n; i++) {
        if (!exj_schedule_tick_name(s, ticks[i], b))
            return false;
        ret[i].n = b->n - from;
        from = b->n;
    }
    from = 0;
    for (size_t i = 0; i < n; i++) {
        ret[i].p = b->p + from;
        from += ret[i].n;
    }
    return true;
}

static exj_code fire_some(struct firing *f, exj_schedule_now *n, bool *ret_more, exj_err *err)
{
    exj_msec ticks[EXJ_START_MOST];
    exj_slice names[EXJ_START_MOST];
    exj_schedule_verdict v;
    exj_buf text = EXJ_BUF_INIT;
    exj_start *st = NULL;
    exj_op tick = state_op(n), *ops = NULL;
    exj_err why = { 0 };
    size_t ops_len = 0;
    exj_code rc = EXJ_OK;

    *ret_more = false;
    exj_schedule_due(&n->schedule, n->last_tick, f->now, ticks, EXJ_START_MOST, &v);
    if (v.fire && !name_ticks(&n->schedule, ticks, v.fire, &text, names))
        rc = nomem(err);
    if (rc == EXJ_OK && v.fire) {
        rc = exj_start_new(f->store, f->engine, &n->schedule, names, v.fire, &st, &why);
        if (rc != EXJ_OK) {
            rc = is_about_the_schedule(rc) ? note_failure(f, n, &why, err)
                                           : exj_err_set(err, rc, "%s", why.text);
            goto out;
        }
        ops = exj_start_ops(st, &ops_len);
    }
    if (rc != EXJ_OK)
        goto out;
    tick.u.tick.last_tick = v.last_tick;
    tick.u.tick.next_due = v.more ? f->now : v.has_next ? v.next_tick : 0;
    tick.u.tick.error = (exj_slice){ 0 };
    tick.u.tick.fired = v.fire;
    tick.u.tick.last_fired = v.fire ? ticks[v.fire - 1] : 0;
    tick.u.tick.skipped = v.skipped;
    rc = do_group(f->store, &tick, ops, ops_len, err);
    if (rc != EXJ_OK) {
        rc = allow_race(rc, err);
        goto out;
    }
    if (st) {
        exj_start_landed(st);
        f->count->ticks += v.fire;
        f->count->rows += exj_start_rows(st);
        f->count->runs += n->schedule.run ? v.fire : 0;
    }
    f->count->skipped += v.skipped;
    if (v.skipped)
        exj_log(EXJ_LOG_WARN, "schedules", "schedule %s: %s%llu missed ticks are skipped",
                n->schedule.schedule_id, v.skipped_is_least ? "at least " : "",
                (unsigned long long)v.skipped);
    n->view.turn++;
    n->last_tick = v.last_tick;
    n->view.error = (exj_slice){ 0 };
    *ret_more = v.more;
out:
    exj_start_free(st);
    exj_buf_release(&text);
    return rc;
}

static exj_code fire_one(struct firing *f, exj_schedule_now *n, exj_err *err)
{
    bool more = true;
    exj_code rc = EXJ_OK;

    if (n->paused) { /* what passes is counted when it is resumed */
        exj_op op = state_op(n);

        op.u.tick.next_due = 0;
        return allow_race(do_group(f->store, &op, NULL, 0, err), err);
    }
    while (more && rc == EXJ_OK)
        rc = fire_some(f, n, &more, err);
    return rc;
}

struct due_list {
    struct due {
        struct due *next;
        exj_schedule_now now;
        exj_err err; /* its document cannot be read */
    } *first, **last;
    exj_buf last_id;
    size_t len;
    bool failed;
};

static bool note_due(void *user, const exj_schedule_view *v)
{
    struct due_list *l = user;
    struct due *d = calloc(1, sizeof(*d));

    exj_buf_reset(&l->last_id);
    if (!d || !exj_buf_add_slice(&l->last_id, v->id)) {
        free(d);
        l->failed = true;
        return false;
    }
    *l->last = d;
    l->last = &d->next;
    l->len++;
    if (exj_schedule_now_of(v, &d->now, &d->err) == EXJ_NOMEM) {
        l->failed = true;
        return false;
    }
    return true;
}

static void free_due(struct due_list *l)
{
    struct due *d, *next;

    for (d = l->first; d; d = next) {
        next = d->next;
        exj_schedule_now_release(&d->now);
        free(d);
    }
    l->first = NULL;
    l->last = &l->first;
    l->len = 0;
}

exj_code exj_schedules_fire(exj_store *s, exj_engine *engine, exj_fired *ret,
                            exj_msec *ret_next, exj_err *err)
{
    struct firing f = { s, engine, s->v->now(s), ret };
    struct due_list l = { 0 };
    exj_buf after = EXJ_BUF_INIT;
    bool more = true;
    exj_code rc = EXJ_OK;

    *ret = (exj_fired){ 0 };
    l.last = &l.first;
    while (more && rc == EXJ_OK) {
        rc = s->v->schedule_page(s, exj_buf_slice(&after), f.now, PAGE, note_due, &l, err);
        if (rc == EXJ_OK && l.failed)
            rc = nomem(err);
        more = l.len == PAGE;
        for (struct due *d = l.first; d && rc == EXJ_OK; d = d->next) {
            /* One that cannot be read (its zone is gone, say) is looked at again, too. */
            rc = d->err.code ? note_failure(&f, &d->now, &d->err, err)
                             : fire_one(&f, &d->now, err);
        }
        free_due(&l);
        exj_buf_reset(&after);
        exj_buf_add_slice(&after, exj_buf_slice(&l.last_id));
        if (after.failed && rc == EXJ_OK)
            rc = nomem(err);
    }
    exj_buf_release(&after);
    exj_buf_release(&l.last_id);
    if (rc == EXJ_OK)
        rc = s->v->schedule_next(s, ret_next, err);
    return rc;
}

/* ---- the thread ------------------------------------------------------------------------------- */

void exj_engine_runs_came(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    exj_run_look_again_locked(e);
    pthread_mutex_unlock(&e->mu);
}

void exj_engine_schedules_changed(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    e->schedules_changed = true;
    pthread_cond_signal(&e->schedule);
    pthread_mutex_unlock(&e->mu);
}

static void tell_fired(const exj_fired *n)
{
    if (n->ticks)
        exj_log(EXJ_LOG_DEBUG, "schedules", "%llu ticks: %llu new rows, %llu cycles",
                (unsigned long long)n->ticks, (unsigned long long)n->rows,
                (unsigned long long)n->runs);
}

void *exj_run_scheduler(void *engine)
{
    exj_engine *e = engine;
    exj_msec pause = 0; /* after looks that failed */

    pthread_mutex_lock(&e->mu);
    while (!e->stopping && !e->failed) {
        exj_nsec until = exj_clock_mono_ns() + (exj_nsec)WAIT_MOST_MS * 1000000;
        exj_msec next = 0, wait;
        exj_fired fired;
        exj_err err = { 0 };
        exj_code rc;

        e->schedules_changed = false;
        pthread_mutex_unlock(&e->mu);
        rc = exj_schedules_fire(e->o.store, e, &fired, &next, &err);
        tell_fired(&fired);
        if (rc != EXJ_OK) {
            if (!pause || pause == RETRY_MS)
                exj_log(EXJ_LOG_ERROR, "schedules", "ticks could not be fired: %s", err.text);
            pause = !pause ? AGAIN_MS : 2 * pause < RETRY_MS ? 2 * pause : RETRY_MS;
            next = e->o.store->v->now(e->o.store) + pause;
        } else {
            pause = 0;
        }
        pthread_mutex_lock(&e->mu);
        wait = next ? next - e->o.store->v->now(e->o.store) : WAIT_MOST_MS;
        if (wait < WAIT_MOST_MS)
            until = exj_clock_mono_ns() + (wait > 0 ? wait : 0) * 1000000;
        /* Whoever wakes us for nothing costs a look at the clock, which may have been set. */
        if (wait > 0 && !e->stopping && !e->failed && !e->schedules_changed)
            exj_run_wait_locked(e, &e->schedule, until);
    }
    pthread_mutex_unlock(&e->mu);
    return NULL;
}
