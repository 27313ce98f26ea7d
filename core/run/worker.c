/* A worker takes a bite of rows from one pool's ring, executes them one after another and
 * hands all their outcomes to the store in one operation. It never waits for the disk. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/outcome.h"
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
        atomic_load_explicit(&x->engine->abandon, memory_order_relaxed))
        return EXJ_R_CANCELLED;
    if (x->deadline && exj_clock_mono_ns() >= x->deadline)
        return EXJ_R_DEADLINE;
    return 0;
}

static exj_code get_step(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct execution *x = user;

    return x->engine->o.store->v->step_get(x->engine->o.store, x->row->claim.seq, key, ret,
                                           err);
}

static exj_code put_step(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    struct execution *x = user;
    const exj_claim *c = &x->row->claim;
    exj_op op = { .kind = EXJ_OP_STEP_PUT };
    exj_code rc;

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = key;
    op.u.step.body = body;
    rc = exj_store_do(x->engine->o.store, &op, err);
    if (rc == EXJ_OK && op.u.step.verdict == EXJ_FENCED) {
        atomic_store(&x->row->lost, true);
        return exj_err_set(err, EXJ_FENCED, "row %lld: a newer claim exists",
                           (long long)c->seq);
    }
    return rc;
}

/* ---- outcomes ------------------------------------------------------------------------ */

/* One more free outbox; false: no memory. */
static bool box_spare(exj_engine *e)
{
    struct outbox *box = calloc(1, sizeof(*box));

    if (!box)
        return false;
    box->engine = e;
    pthread_mutex_lock(&e->mu);
    box->next = e->outboxes;
    e->outboxes = box;
    pthread_mutex_unlock(&e->mu);
    return true;
}

static void box_give_locked(exj_engine *e, struct outbox *box)
{
    if (!box)
        return;
    exj_buf_reset(&box->text);
    box->len = 0;
    box->next = e->outboxes;
    e->outboxes = box;
}

/* NULL: no memory. Each worker began with a spare one, so one comes back through box_done. */
static struct outbox *box_take_locked(exj_engine *e)
{
    struct outbox *box;

    if (!e->outboxes) {
        pthread_mutex_unlock(&e->mu);
        box_spare(e);
        pthread_mutex_lock(&e->mu);
    }
    box = e->outboxes;
    if (box)
        e->outboxes = box->next;
    return box;
}

static void box_done(exj_op *op)
{
    struct outbox *box = op->user;
    exj_engine *e = box->engine;
    struct pool *p = box->pool;
    uint64_t by_status[EXJ_STATUS_COUNT] = { 0 }, fenced = 0, failed = 0;
    exj_msec due = 0;

    if (op->rc != EXJ_OK)
        exj_run_store_failed(e, "outcomes", op);
    for (uint32_t i = 0; i < box->len; i++) {
        const exj_outcome *o = &box->items[i];

        if (op->rc != EXJ_OK)
            continue;
        if (o->verdict == EXJ_FENCED) {
            fenced++;
            exj_log(EXJ_LOG_WARN, "worker",
                    "row %lld: outcome of token %lld refused, a newer claim exists",
                    (long long)o->seq, (long long)o->token);
            continue;
        }
        by_status[box->to[i]]++;
        if (o->event == EXJ_EV_FAIL_RETRY || o->event == EXJ_EV_FAIL_DEAD)
            failed++;
        if (o->event == EXJ_EV_FAIL_RETRY && (!due || o->run_after < due))
            due = o->run_after;
    }
    for (unsigned s = 0; s < EXJ_STATUS_COUNT; s++)
        if (by_status[s] && p->completed[s])
            exj_series_add(p->completed[s], (double)by_status[s]);
    if (fenced)
        exj_series_add(p->fenced, (double)fenced);
    if (failed)
        exj_series_add(p->failed, (double)failed);
    if (by_status[EXJ_WAITING])
        exj_series_add(p->retries, (double)by_status[EXJ_WAITING]);

    for (uint32_t i = 0; i < box->len; i++)
        exj_batch_row_over(e, box->rows[i]);
    pthread_mutex_lock(&e->mu);
    e->counts.completed += by_status[EXJ_COMPLETED];
    e->counts.failed += by_status[EXJ_FAILED];
    e->counts.blocked += by_status[EXJ_BLOCKED];
    e->counts.suspended += by_status[EXJ_SUSPENDED];
    e->counts.retried += by_status[EXJ_WAITING];
    e->counts.fenced += fenced;
    p->uncommitted -= box->len;
    e->outstanding -= box->len;
    e->answers++;
    if (due && (!e->next_due || due < e->next_due)) {
        e->next_due = due;
        pthread_cond_signal(&e->keep);
    }
    if (p->ready <= p->depth / 2 || e->outstanding == 0)
        pthread_cond_signal(&e->claim);
    if (p->uncommitted == 0) {
        pthread_cond_broadcast(&e->cycle);
        pthread_cond_broadcast(&e->idle);
    }
    box_give_locked(e, box);
    if (e->starved)
        pthread_cond_broadcast(&e->work);
    e->starved = false;
    pthread_mutex_unlock(&e->mu);
}

/* Texts were noted as offsets while the buffer could still move. */
static void box_submit(struct outbox *box)
{
    for (uint32_t i = 0; i < box->len; i++) {
        exj_outcome *o = &box->items[i];
        exj_slice *texts[] = { &o->result, &o->error_code, &o->error_text };

        for (size_t t = 0; t < 3; t++)
            if (texts[t]->n)
                texts[t]->p = box->text.p + (uintptr_t)texts[t]->p;
    }
    box->op = (exj_op){ .kind = EXJ_OP_FINISH, .done = box_done, .user = box };
    box->op.u.finish.items = box->items;
    box->op.u.finish.len = box->len;
    exj_store_submit(box->engine->o.store, &box->op);
}

static exj_slice box_keep(struct outbox *box, const char *prefix, exj_slice text)
{
    size_t at = box->text.n;

    exj_buf_add_text(&box->text, prefix);
    if (!exj_buf_add_slice(&box->text, text))
        return (exj_slice){ 0 };
    return (exj_slice){ (const char *)(uintptr_t)at, box->text.n - at }; /* see box_submit */
}

static const char *result_word(exj_result r)
{
    switch (r) {
    case EXJ_R_FAILED:
        return "ExecutorFailed";
    case EXJ_R_RETRY:
        return "ExecutorRetry";
    case EXJ_R_CANCELLED:
        return "Cancelled";
    case EXJ_R_DEADLINE:
        return "DeadlineExceeded";
    case EXJ_R_INPUT:
        return "InputRefused";
    case EXJ_R_UNSUPPORTED:
        return "Unsupported";
    default:
        return "ExecutorInternal";
    }
}

static exj_msec box_now(const struct outbox *box)
{
    exj_store *s = box->engine->o.store;

    return s->v->now(s);
}

/* A row that killed its plugin host, once more or once too often. */
static exj_event judge_crash(const struct outbox *box, const struct row *r, bool attempts_left)
{
    exj_engine *e = box->engine;
    uint32_t before = 0;
    exj_err err = { 0 };

    if (e->o.store->v->failure_count(e->o.store, r->claim.seq,
                                          EXJ_SLICE_LITERAL("PluginCrashed"), &before, &err) != EXJ_OK)
        exj_log(EXJ_LOG_ERROR, "worker", "crashes of row %lld: %s", (long long)r->claim.seq,
                err.text);
    return attempts_left && before + 1 < e->o.row_crashes ? EXJ_EV_FAIL_RETRY : EXJ_EV_BLOCK;
}

/* The one place where the end of an execution becomes an outcome. Returns whether the plugin
 * is to blame. */
static bool box_add(struct outbox *box, struct row *r, const exj_call_end *end)
{
    const struct spec *spec = r->batch->spec;
    const char *label = r->deck ? r->deck->label : spec->executor->name;
    exj_outcome *o = &box->items[box->len];
    exj_slice code = { 0 }, text = { 0 }, quoted_code = { 0 }, quoted_text = { 0 };
    exj_buf plain = EXJ_BUF_INIT;
    exj_answer answer = EXJ_ANSWER_FAILED;
    exj_err why = { 0 };
    bool failed = true, retryable = true;
    char prefix[160] = "";

    *o = (exj_outcome){ .seq = r->claim.seq,
                        .nonce = r->claim.nonce,
                        .token = r->claim.token };
    if (end->result == EXJ_R_OK && end->emits == 1) {
        if (exj_answer_check(end->answer, &answer, &quoted_code, &quoted_text, &why) ==
            EXJ_OK) {
            failed = answer == EXJ_ANSWER_FAILED;
            code = EXJ_SLICE_LITERAL("GraphFailed");
            if (quoted_code.n && exj_json_unescape(quoted_code, &plain))
                code = box_keep(box, "", exj_buf_slice(&plain));
            else
                code = box_keep(box, "", code);
            exj_buf_reset(&plain);
            if (quoted_text.n && exj_json_unescape(quoted_text, &plain))
                text = box_keep(box, "", exj_buf_slice(&plain));
            o->result = box_keep(box, "", end->answer);
        } else {
            snprintf(prefix, sizeof(prefix), "plugin %s: answer refused: ",
                     label);
            code = box_keep(box, "", EXJ_SLICE_LITERAL("AnswerRefused"));
            text = box_keep(box, prefix, exj_slice_of(why.text));
        }
    } else {
        retryable = end->result != EXJ_R_FAILED && end->result != EXJ_R_INPUT &&
                    end->result != EXJ_R_UNSUPPORTED;
        snprintf(prefix, sizeof(prefix), "plugin %s: ", label);
        if (end->result == EXJ_R_OK) {
            code = box_keep(box, "", EXJ_SLICE_LITERAL("NoAnswer"));
            text = box_keep(box, prefix,
                            end->emits ? EXJ_SLICE_LITERAL("answered more than once")
                                       : EXJ_SLICE_LITERAL("returned without an answer"));
        } else {
            exj_slice said = end->error_code;

            code = box_keep(box, "", said.n ? said : exj_slice_of(result_word(end->result)));
            said = end->error_text;
            if (said.n >= strlen(prefix) && !memcmp(said.p, prefix, strlen(prefix)))
                prefix[0] = '\0'; /* the host's own words name the plugin already */
            text = box_keep(box, prefix,
                            said.n ? said : exj_slice_of(result_word(end->result)));
        }
    }
    if (failed) {
        exj_retry_policy policy = spec->eff.retry;
        exj_retry_verdict v;

        policy.max_attempts = r->claim.max_attempts;
        v = exj_retry_decide(&policy, r->claim.attempt, retryable, box_now(box),
                             exj_random_u64());
        o->event = v.dead ? EXJ_EV_FAIL_DEAD : EXJ_EV_FAIL_RETRY;
        o->run_after = v.dead ? 0 : v.run_after;
        if (end->result == EXJ_R_CRASHED) { /* at once: the number of crashes is the limit */
            o->event = judge_crash(box, r, !v.dead);
            o->run_after = o->event == EXJ_EV_BLOCK ? 0 : box_now(box);
            if (o->event == EXJ_EV_BLOCK)
                code = box_keep(box, "", EXJ_SLICE_LITERAL("Quarantined"));
        }
    } else {
        o->event = answer == EXJ_ANSWER_COMPLETED ? EXJ_EV_SUCCEED
                   : answer == EXJ_ANSWER_BLOCKED ? EXJ_EV_BLOCK
                                                  : EXJ_EV_SUSPEND;
    }
    if (o->event == EXJ_EV_SUCCEED || o->event == EXJ_EV_SUSPEND) {
        o->error_code = (exj_slice){ 0 };
        o->error_text = (exj_slice){ 0 };
    } else {
        o->error_code = code;
        o->error_text = text;
    }
    if (box->text.failed) { /* without its text the outcome would lie: let it be retried */
        *o = (exj_outcome){ .seq = r->claim.seq,
                            .nonce = r->claim.nonce,
                            .token = r->claim.token,
                            .event = EXJ_EV_FAIL_RETRY,
                            .run_after = box_now(box) + 1000 };
        box->text.failed = false;
    }
    exj_state_move(EXJ_RUNNING, o->event, &box->to[box->len], NULL);
    box->rows[box->len++] = r;
    exj_buf_release(&plain);
    return failed && end->result != EXJ_R_INPUT && end->result != EXJ_R_CANCELLED;
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
    if (x)
        x->engine = e;
    if (x)
        x->ports = (exj_call_ports){ .user = x,
                                     .cancelled = is_cancelled,
                                     .step_get = get_step,
                                     .step_put = put_step,
                                     EXJ_RUN_EXTENSION_PORTS };
    return x;
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

static void count_call(const struct pool *p, const struct row *r, const exj_call_end *end,
                       exj_nsec took, bool bad)
{
    exj_series_observe(p->execute, (double)took / 1e9);
    exj_guest_count(r->deck->guest, took, bad, end->result == EXJ_R_CRASHED);
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
    if (started) {
        bad = box_add(box, r, end);
        count_call(p, r, end, exj_clock_mono_ns() - x->began, bad);
    }
    pthread_mutex_lock(&e->mu);
    leave_deck_locked(e, d, started, bad);
    slot_free_locked(e, p);
    if (!started)
        box_give_locked(e, box);
    pthread_mutex_unlock(&e->mu);
    if (started)
        box_submit(box);
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
    x->ports = (exj_call_ports){ .user = x, EXJ_RUN_EXTENSION_PORTS,
                                 .cancelled = is_cancelled,
                                 .step_get = get_step,
                                 .step_put = put_step };
    x->end = (exj_call_end){ 0 };
    x->began = exj_clock_mono_ns();
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

    x->latch = latch;
    if (may_pend) {
        pthread_mutex_lock(&e->mu);
        x->alone = box_take_locked(e);
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
    if (!exj_call_run(instance, x->slot, &args, &x->ports, &x->end,
                      may_pend    ? pending_done
                      : d->remote && !d->pends ? sent_done
                                               : NULL))
        return false;
    x->took = exj_clock_mono_ns() - x->began;
    if (x->alone) {
        pthread_mutex_lock(&e->mu);
        box_give_locked(e, x->alone);
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

        ended[i] = true;
        if (!b->seats[i])
            b->seats[i] = execution_new(e);
        if (!b->seats[i] || !r->deck)
            continue;
        ended[i] = execute(e, b->index, b->seats[i], r, &b->latch);
        if (!ended[i] && r->deck->pends) {
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
    bool ended[BITE_MAX], bad[BITE_MAX] = { false };
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
        bad[i] = box_add(box, r, x ? &x->end : &none);
        if (x)
            count_call(p, r, &x->end, x->took, bad[i]);
    }
    pthread_mutex_lock(&e->mu);
    p->row_ns = (p->row_ns * 7 + (exj_clock_mono_ns() - began) / n) / 8;
    for (uint32_t i = 0; i < n; i++)
        if (decks[i])
            leave_deck_locked(e, decks[i], 1, bad[i]);
    if (!pending)
        slot_free_locked(e, p); /* else pending_done gives the place back */
    if (!box->len)
        box_give_locked(e, box);
    if (n_unstarted)
        stop_executor_locked(e, unstarted[0]->batch->spec->executor);
    pthread_mutex_unlock(&e->mu);
    if (n_unstarted)
        exj_run_return(e, p, unstarted, n_unstarted);
    if (box->len)
        box_submit(box);
}

/* Take rows of the pool, each with the deck it runs on. */
static void bite_take_locked(struct bench *b, struct pool *p, uint32_t want)
{
    exj_engine *e = b->engine;

    for (b->len = 0; b->len < want && p->head; b->len++) {
        struct row *r = p->head;

        b->bite[b->len] = r;
        p->head = r->next;
        r->deck = exj_deck_take_locked(r->batch->spec->executor, r->record_id);
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
        struct outbox *box = box_take_locked(e);
        struct pool *p = box ? choose_locked(e) : NULL;

        if (!p) {
            box_give_locked(e, box);
            e->starved |= !box;
            if (e->stopping && !e->ready)
                break;
            e->sleeping++;
            pthread_cond_wait(&e->work, &e->mu);
            e->sleeping--;
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

    if (b && box_spare(e) && pthread_create(ret, NULL, work, b) == 0)
        return true;
    bench_free(b);
    return false;
}
