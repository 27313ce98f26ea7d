/* A worker takes a bite of rows from one pool's ring, executes them one after another and
 * hands all their outcomes to the store in one operation. It never waits for the disk. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/record.h"
#include "core/run/inside.h"

#define BITE_NS 2000000 /* a bite should last about 2 ms */

/* A worker's own. */
struct bench {
    exj_engine *engine;
    uint32_t index;
    struct latch latch;
    struct execution *seats[BITE_MAX]; /* made when first needed */
    struct row *bite[BITE_MAX];
    uint32_t len;
};

static int32_t is_cancelled(void *user)
{
    struct execution *x = user;

    if (atomic_load_explicit(&x->row->lost, memory_order_relaxed) ||
        atomic_load_explicit(&x->row->cancel, memory_order_relaxed) ||
        atomic_load_explicit(&x->engine->abandon, memory_order_relaxed) ||
        exj_batch_is_past(x->row->batch))
        return EXJ_R_CANCELLED;
    if (x->deadline && exj_clock_mono_ns() >= x->deadline)
        return EXJ_R_DEADLINE;
    return 0;
}

bool exj_run_rest_in_call(struct execution *x, exj_nsec *pause)
{
    exj_engine *e = x->engine;
    exj_nsec until;

    *pause = exj_run_longer_pause(*pause);
    until = exj_clock_mono_ns() + *pause;
    pthread_mutex_lock(&e->mu);
    while (!is_cancelled(x) && exj_run_wait_locked(e, &e->idle, until))
        ;
    pthread_mutex_unlock(&e->mu);
    return !is_cancelled(x);
}

/* The bit of a step in execution.put. */
static uint64_t *put_bit(struct execution *x, exj_slice key, uint64_t *ret_mask)
{
    uint64_t h = 14695981039346656037u;

    for (size_t i = 0; i < key.n; i++)
        h = (h ^ (unsigned char)key.p[i]) * 1099511628211u;
    h ^= h >> 32;
    *ret_mask = (uint64_t)1 << (h % 64);
    return &x->put[h / 64 % (sizeof(x->put) / sizeof(x->put[0]))];
}

static exj_code get_step(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct execution *x = user;
    exj_store *s = x->engine->o.store;
    uint64_t mask, *bits = put_bit(x, key, &mask);
    size_t had = ret->n;
    exj_nsec pause = 0;
    exj_err why;
    exj_code rc;

    /* A row that nobody claimed before has no steps but those that this call put. */
    if (x->row->claim.token == 1 && !(*bits & mask))
        return exj_err_set(err, EXJ_NOT_FOUND, "row %lld has no step \"%.*s\"",
                           (long long)x->row->claim.seq, (int)key.n, key.p);
    do {
        exj_err_clear(&why);
        ret->n = had;
        rc = s->v->step_get(s, x->row->claim.seq, key, ret, &why);
    } while (exj_run_passes(x->engine, rc) && exj_run_rest_in_call(x, &pause));
    return rc == EXJ_OK ? EXJ_OK : exj_err_set(err, rc, "%s", why.text);
}

/* Do one journal op of the row. */
static exj_code step_op(struct execution *x, exj_op *op, exj_slice key, exj_err *err)
{
    const exj_claim *c = &x->row->claim;
    exj_nsec pause = 0;
    exj_code rc;

    op->u.step.seq = c->seq;
    op->u.step.nonce = c->nonce;
    op->u.step.token = c->token;
    op->u.step.attempt = c->attempt;
    op->u.step.key = key;
    /* Done twice is done once: of a step that is there already the store says so, and that is as
     * good. */
    while (exj_run_passes(x->engine, exj_store_do(x->engine->o.store, op, NULL)) &&
           exj_run_rest_in_call(x, &pause))
        exj_err_clear(&op->err);
    rc = op->rc == EXJ_OK ? EXJ_OK : exj_err_set(err, op->rc, "%s", op->err.text);
    if (rc == EXJ_OK && op->u.step.verdict == EXJ_FENCED) {
        atomic_store(&x->row->lost, true);
        return exj_err_set(err, EXJ_FENCED, "row %lld: a newer claim exists",
                           (long long)c->seq);
    }
    return rc;
}

static exj_code put_step(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_STEP_PUT };
    uint64_t mask, *bits = put_bit(user, key, &mask);

    *bits |= mask;
    op.u.step.body = body;
    return step_op(user, &op, key, err);
}

static exj_code begin_step(void *user, exj_slice key, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_STEP_BEGIN };

    return step_op(user, &op, key, err);
}

/* A note on its way to the journal; nobody waits for it. */
struct note {
    exj_op op;
    char text[];
};

static void note_done(exj_op *op)
{
    free(op->user);
}

/* At most one entry a second, and the end at once, though once: a journal is no progress bar,
 * and nobody waits for what is submitted here. */
#define PROGRESS_NS 1000000000

static void note_progress(void *user, double at, exj_slice text)
{
    struct execution *x = user;
    const exj_claim *c = &x->row->claim;
    exj_nsec now = exj_clock_mono_ns();
    struct note *n;

    if (x->told && now - x->told < PROGRESS_NS && (at < 1 || x->told_end))
        return;
    n = calloc(1, sizeof(*n) + text.n);
    if (!n)
        return; /* the row goes on; only its bar stands still */
    x->told = now;
    x->told_end |= at >= 1;
    memcpy(n->text, text.p ? text.p : "", text.n);
    n->op = (exj_op){ .kind = EXJ_OP_PROGRESS, .done = note_done, .user = n };
    n->op.u.progress.seq = c->seq;
    n->op.u.progress.nonce = c->nonce;
    n->op.u.progress.token = c->token;
    n->op.u.progress.at = at;
    n->op.u.progress.note = (exj_slice){ n->text, text.n };
    exj_store_submit(x->engine->o.store, &n->op);
}

/* ---- executing ------------------------------------------------------------------------ */

bool exj_run_request(const struct spec *spec, const struct pool *p, exj_slice record_id,
                     exj_slice input, uint32_t attempt, exj_buf *name, exj_buf *runtime)
{
    exj_buf *b = runtime;

    exj_buf_reset(name);
    exj_row_name_add(name, exj_slice_of(p->matrix_id), exj_slice_of(p->run_id),
                     exj_slice_of(p->graph_id), record_id);
    exj_buf_reset(b);
    exj_buf_add_text(b, "{\"jobId\":");
    exj_buf_add_json_string(b, exj_buf_slice(name));
    exj_buf_add_text(b, ",\"job\":{\"matrixRowId\":");
    exj_buf_add_json_string(b, exj_buf_slice(name));
    exj_buf_add_text(b, spec->job_fields);
    exj_buf_add_i64(b, attempt);
    exj_buf_add_text(b, "},\"input\":");
    exj_buf_add_slice(b, input);
    exj_buf_add_text(b, ",\"executionMemory\":");
    if (spec->graph.memory_needs_record) {
        if (exj_memory_seed_add(&spec->graph, input, b, NULL) != EXJ_OK)
            return false;
    } else {
        exj_buf_add_text(b, spec->graph.memory ? spec->graph.memory : "{}");
    }
    exj_buf_add_char(b, '}');
    return !b->failed && !name->failed;
}

static void execution_free(struct execution *x)
{
    if (!x)
        return;
    exj_call_slot_free(x->slot);
    exj_buf_release(&x->runtime);
    exj_buf_release(&x->name);
    free(x);
}

static struct execution *execution_new(exj_engine *e)
{
    struct execution *x = calloc(1, sizeof(*x));

    if (x && exj_call_slot_new(ANSWER_MAX, &x->slot, NULL) != EXJ_OK) {
        free(x);
        return NULL;
    }
    if (!x)
        return NULL;
    x->engine = e;
    x->ports = (exj_call_ports){ .user = x,
                                 .cancelled = is_cancelled,
                                 .step_get = get_step,
                                 .step_put = put_step,
                                 .step_begin = begin_step,
                                 .progress = note_progress,
                                 EXJ_RUN_EXTENSION_PORTS };
    return x;
}

/* It came back after all. */
static void came_back_locked(exj_engine *e, struct row *r)
{
    atomic_store(&r->overdue_at, 0);
    if (r->written_off)
        e->stuck--;
    r->written_off = false;
}

/* One row less on its deck. */
static void leave_deck_locked(exj_engine *e, struct deck *d, uint32_t calls, uint32_t errors)
{
    d->count.calls += calls;
    d->count.errors += errors;
    exj_deck_leave_locked(e, d);
}

/* The place of an execution is free again: another row may start. */
static void slot_free_locked(exj_engine *e, struct pool *p)
{
    p->executing--;
    p->gate->executing--;
    e->executing--;
    if (e->sleeping)
        pthread_cond_broadcast(&e->work);
    if (!e->executing)
        pthread_cond_broadcast(&e->idle);
}

static void count_call(exj_engine *e, const struct pool *p, const struct row *r,
                       const exj_call_end *end, exj_nsec took, bool bad)
{
    exj_series_observe(p->execute, (double)took / 1e9);
    exj_guest_count(r->deck->guest, took, bad, end->result == EXJ_R_CRASHED);
    if (end->result == EXJ_R_CRASHED) {
        exj_guest_info i;

        exj_guest_describe(r->deck->guest, &i);
        exj_series_add(exj_metric_series(e->o.metrics, EXJ_M_CRASHES, exj_slice_of(i.id),
                                         (exj_slice){ 0 }),
                       1);
    }
}

/* A PENDING execution ended, on a thread of the plugin's. */
static void pending_done(void *user, exj_call_slot *slot, const exj_call_end *end)
{
    struct execution *x = user;
    exj_engine *e = x->engine;
    struct row *r = x->row;
    struct pool *p = r->batch->pool;
    struct deck *d = r->deck;
    struct outbox *box = x->alone;
    bool started = end->result != EXJ_R_NOT_STARTED, bad = false;

    (void)slot;
    exj_run_record_call_end(x, end);
    if (started) {
        bad = exj_box_add(box, r, end);
        count_call(e, p, r, end, exj_clock_mono_ns() - x->began, bad);
    }
    pthread_mutex_lock(&e->mu);
    came_back_locked(e, r);
    leave_deck_locked(e, d, started, bad);
    slot_free_locked(e, p);
    if (!started)
        exj_box_give_locked(e, box);
    pthread_mutex_unlock(&e->mu);
    if (started)
        exj_box_submit(box);
    else
        exj_run_return(e, p, &r, 1);
    execution_free(x);
}

/* A call of a bite ended, on the thread of its lane. */
static void sent_done(void *user, exj_call_slot *slot, const exj_call_end *end)
{
    struct execution *x = user;
    struct latch *l = x->latch;
    exj_nsec now = exj_clock_mono_ns();

    (void)slot;
    exj_run_record_call_end(x, end);
    x->end = *end;
    pthread_mutex_lock(&l->mu);
    x->took = now - (l->last > x->began ? l->last : x->began); /* not the wait behind others */
    l->last = now;
    if (--l->left == 0)
        pthread_cond_signal(&l->over);
    pthread_mutex_unlock(&l->mu);
}

/* Begin one row. True: it ended, x->end says how. False: sent_done or pending_done tells. */
static bool execute(exj_engine *e, uint32_t index, struct execution *x, struct row *r,
                    struct latch *latch)
{
    const struct spec *spec = r->batch->spec;
    const struct deck *d = r->deck;
    exj_instance *instance = d->instances[d->instances_len > 1 ? index : 0];
    exj_args args = { .size_of = EXJ_SIZE(exj_args, token) };
    bool may_pend = d->pends;

    x->row = r;
    x->end = (exj_call_end){ 0 };
    x->told = 0;
    x->told_end = false;
    memset(x->put, 0, sizeof(x->put));
    x->began = exj_clock_mono_ns();
    if (atomic_load_explicit(&r->cancel, memory_order_relaxed)) {
        x->end.result = EXJ_R_CANCELLED; /* before it began */
        return true;
    }
    x->deadline = spec->eff.timeout_ms ? x->began + spec->eff.timeout_ms * 1000000 : 0;
    if (!exj_run_request(spec, r->batch->pool, r->record_id, r->input, r->claim.attempt,
                         &x->name, &x->runtime)) {
        x->end.result = EXJ_R_INTERNAL;
        x->end.error_code = EXJ_SLICE_LITERAL("OutOfMemory");
        x->end.error_text = EXJ_SLICE_LITERAL("the request could not be built");
        return true;
    }
    args.attempt = r->claim.attempt;
    args.deadline_ns = x->deadline ? (uint64_t)x->deadline : UINT64_MAX;
    args.model = (exj_str){ spec->model, strlen(spec->model) };
    args.runtime = (exj_str){ x->runtime.p, x->runtime.n };
    args.job_id = (exj_str){ x->name.p, x->name.n };
    args.record_id = (exj_str){ r->record_id.p, r->record_id.n };
    args.token = (uint64_t)r->claim.token;

    if (d->remote)
        x->deadline = 0; /* that lane keeps the time itself: from when the call begins there, */
    else if (x->deadline) /* so that no row pays for the one that it waits behind */
        atomic_store(&r->overdue_at, x->deadline + (exj_nsec)e->o.grace_ms * 1000000);
    x->latch = latch;
    if (may_pend) {
        pthread_mutex_lock(&e->mu);
        x->alone = exj_box_take_locked(e);
        pthread_mutex_unlock(&e->mu);
        if (x->alone)
            x->alone->pool = r->batch->pool;
        else
            may_pend = false; /* then the worker waits for it */
    } else if (d->remote) {
        pthread_mutex_lock(&latch->mu);
        latch->left++;
        pthread_mutex_unlock(&latch->mu);
    }
    exj_run_record_call(x);
    if (!exj_call_run(instance, x->slot, &args, &x->ports, &x->end,
                      may_pend    ? pending_done
                      : d->remote && !d->pends ? sent_done
                                               : NULL))
        return false;
    exj_run_record_call_end(x, &x->end);
    x->took = exj_clock_mono_ns() - x->began;
    if (x->alone) {
        pthread_mutex_lock(&e->mu);
        exj_box_give_locked(e, x->alone);
        pthread_mutex_unlock(&e->mu);
        x->alone = NULL;
    } else if (d->remote && !d->pends) {
        pthread_mutex_lock(&latch->mu);
        latch->left--;
        pthread_mutex_unlock(&latch->mu);
    }
    return true;
}

/* ---- taking ---------------------------------------------------------------------------- */

static bool may_start_locked(const struct pool *p)
{
    const struct spec *s = p->spec;

    if (!p->head || p->head->batch->spec->executor->held)
        return false;
    if (s->graph.concurrency) /* the graph's own cap, over all its matrices */
        return p->gate->executing < s->graph.concurrency;
    return !s->eff.concurrency || p->executing < s->eff.concurrency;
}

/* The next pool in turn that has rows and room; NULL: none. */
static struct pool *choose_locked(exj_engine *e)
{
    struct pool *start = e->turn ? e->turn : e->pools, *p = start;

    if (!p || e->executing >= e->o.max_concurrent)
        return NULL;
    do {
        if (may_start_locked(p)) {
            e->turn = p->next; /* NULL: from the front */
            return p;
        }
        p = p->next ? p->next : e->pools;
    } while (p != start);
    return NULL;
}

/* How many rows at once: as many as fit into BITE_NS, and never more than a fair share of
 * what is ready, so that no row waits behind another while a worker is free. */
static uint32_t bite_locked(const exj_engine *e, const struct pool *p)
{
    const struct deck *d = p->head->batch->spec->executor->current;
    exj_nsec n = p->row_ns > 0 ? BITE_NS / p->row_ns : 1;
    uint32_t share = p->ready / (2 * e->workers_len) + 1;

    if (n > BITE_MAX)
        n = BITE_MAX;
    /* Each PENDING execution counts for itself. */
    if (n < 1 || !d || (d->flags & EXJ_FLAG_BLOCKING) || d->pends)
        n = 1;
    return (uint32_t)n < share ? (uint32_t)n : share;
}

/* Begin the rows of the bite; those in another process are sent without waiting for each
 * other. Returns how many left the worker (PENDING). */
static uint32_t bite_begin(struct bench *b, bool *ended)
{
    exj_engine *e = b->engine;
    uint32_t left = 0;

    b->latch.last = 0;
    for (uint32_t i = 0; i < b->len; i++) {
        struct row *r = b->bite[i];
        bool pends;

        ended[i] = true;
        if (!b->seats[i])
            b->seats[i] = execution_new(e);
        if (!b->seats[i] || !r->deck)
            continue;
        pends = r->deck->pends;
        ended[i] = execute(e, b->index, b->seats[i], r, &b->latch);
        if (!ended[i] && pends) { /* r may be gone: its call may be over by now */
            b->seats[i] = NULL; /* its own master now */
            b->bite[i] = NULL;
            left++;
        }
    }
    pthread_mutex_lock(&b->latch.mu);
    while (b->latch.left)
        pthread_cond_wait(&b->latch.over, &b->latch.mu);
    pthread_mutex_unlock(&b->latch.mu);
    return left;
}

/* Its plugin may not run now: nothing more is claimed for it until the reloader finds that it
 * may again. */
static void stop_executor_locked(exj_engine *e, struct executor *x)
{
    if (x->current && !x->error.code) {
        x->stopped = true;
        exj_err_set(&x->error, EXJ_REFUSED, "plugin %s may not run now", x->current->label);
        x->turn++;
        if (e->watch)
            exj_watch_wake(e->watch);
    }
    exj_run_look_again_locked(e);
}

/* Execute the rows of a bite, all of one pool; `box` is used up. */
static void bite_run(struct bench *b, struct outbox *box)
{
    exj_engine *e = b->engine;
    struct pool *p = box->pool;
    exj_nsec began = exj_clock_mono_ns();
    struct deck *decks[BITE_MAX];
    struct row *unstarted[BITE_MAX];
    bool ended[BITE_MAX], bad[BITE_MAX] = { false }, filled;
    uint32_t pending = bite_begin(b, ended), n_unstarted = 0, n = b->len;

    for (uint32_t i = 0; i < n; i++) {
        struct row *r = b->bite[i];
        struct execution *x = b->seats[i];
        exj_call_end none = { .result = EXJ_R_INTERNAL,
                              .error_code = EXJ_SLICE_LITERAL("OutOfMemory"),
                              .error_text = EXJ_SLICE_LITERAL("no memory for an execution") };

        decks[i] = r ? r->deck : NULL;
        if (!r)
            continue;
        if (!r->deck || (x && x->end.result == EXJ_R_NOT_STARTED)) {
            unstarted[n_unstarted++] = r;
            continue;
        }
        bad[i] = exj_box_add(box, r, x ? &x->end : &none);
        if (x)
            count_call(e, p, r, &x->end, x->took, bad[i]);
    }
    filled = box->len > 0;
    pthread_mutex_lock(&e->mu);
    p->row_ns = (p->row_ns * 7 + (exj_clock_mono_ns() - began) / n) / 8;
    for (uint32_t i = 0; i < n; i++) {
        if (!b->bite[i])
            continue;
        came_back_locked(e, b->bite[i]);
        if (decks[i])
            leave_deck_locked(e, decks[i], 1, bad[i]);
    }
    if (!pending)
        slot_free_locked(e, p); /* else pending_done gives the place back */
    if (!filled) /* from here on it is somebody else's */
        exj_box_give_locked(e, box);
    if (n_unstarted)
        stop_executor_locked(e, unstarted[0]->batch->spec->executor);
    pthread_mutex_unlock(&e->mu);
    if (n_unstarted)
        exj_run_return(e, p, unstarted, n_unstarted);
    if (filled)
        exj_box_submit(box);
}

/* Take rows of the pool, each with the deck it runs on. */
static void bite_take_locked(struct bench *b, struct pool *p, uint32_t want)
{
    exj_engine *e = b->engine;

    for (b->len = 0; b->len < want && p->head; b->len++) {
        struct row *r = p->head;
        struct executor *x = r->batch->spec->executor;

        if (b->len && x->held)
            break;
        r->deck = exj_deck_take_locked(x, r->record_id);
        if (r->deck && r->deck->pends) { /* a bite of its own: it may leave the worker */
            if (b->len) {
                exj_deck_leave_locked(e, r->deck);
                break;
            }
            want = 1;
        }
        b->bite[b->len] = r;
        p->head = r->next;
        atomic_store_explicit(&r->phase, ROW_TAKEN, memory_order_relaxed);
    }
    if (!p->head)
        p->tail = NULL;
    p->ready -= b->len;
    e->ready -= b->len;
    p->executing++;
    p->gate->executing++;
    e->executing++;
    if (p->ready <= p->depth / 2)
        pthread_cond_signal(&e->claim);
}

static struct bench *bench_new(exj_engine *e, uint32_t index)
{
    struct bench *b = calloc(1, sizeof(*b));

    if (!b)
        return NULL;
    b->engine = e;
    b->index = index;
    pthread_mutex_init(&b->latch.mu, NULL);
    pthread_cond_init(&b->latch.over, NULL);
    return b;
}

static void bench_free(struct bench *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < BITE_MAX; i++)
        execution_free(b->seats[i]);
    pthread_cond_destroy(&b->latch.over);
    pthread_mutex_destroy(&b->latch.mu);
    free(b);
}

static void *work(void *start)
{
    struct bench *b = start;
    exj_engine *e = b->engine;

    pthread_mutex_lock(&e->mu);
    for (;;) {
        struct outbox *box = exj_box_take_locked(e);
        struct pool *p = box ? choose_locked(e) : NULL;

        if (!p) {
            exj_box_give_locked(e, box);
            e->starved |= !box;
            if (e->stopping && !e->ready)
                break;
            e->sleeping++;
            pthread_cond_wait(&e->work, &e->mu);
            e->sleeping--;
            continue;
        }
        /* The store has not answered for a lease: others may run these rows by now. */
        if (exj_batch_is_past(p->head->batch))
            exj_run_release_locked(e, p);
        if (!p->head) {
            exj_box_give_locked(e, box);
            continue;
        }
        bite_take_locked(b, p, bite_locked(e, p));
        pthread_mutex_unlock(&e->mu);
        box->pool = p;
        bite_run(b, box);
        pthread_mutex_lock(&e->mu);
    }
    pthread_mutex_unlock(&e->mu);
    bench_free(b);
    return NULL;
}

bool exj_run_start_worker(exj_engine *e, pthread_t *ret, uint32_t index)
{
    struct bench *b = bench_new(e, index);

    if (b && exj_box_spare(e) && pthread_create(ret, NULL, work, b) == 0)
        return true;
    bench_free(b);
    return false;
}
