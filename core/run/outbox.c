/* Outcomes on their way to the store: what the end of an execution means for its row, and a
 * box of them for each operation. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/outcome.h"
#include "core/run/inside.h"

bool exj_box_spare(exj_engine *e)
{
    struct outbox *box = calloc(1, sizeof(*box));

    if (!box)
        return false;
    box->engine = e;
    pthread_mutex_lock(&e->mu);
    box->next = e->outboxes;
    e->outboxes = box;
    e->outboxes_len++;
    pthread_mutex_unlock(&e->mu);
    return true;
}

void exj_box_give_locked(exj_engine *e, struct outbox *box)
{
    if (!box)
        return;
    if (e->outboxes_len >= 2 * e->workers_len) { /* more were needed while the disk was slow */
        exj_buf_release(&box->text);
        free(box);
        return;
    }
    exj_buf_reset(&box->text);
    box->len = 0;
    box->next = e->outboxes;
    e->outboxes = box;
    e->outboxes_len++;
}

struct outbox *exj_box_take_locked(exj_engine *e)
{
    struct outbox *box;

    if (!e->outboxes) {
        pthread_mutex_unlock(&e->mu);
        exj_box_spare(e);
        pthread_mutex_lock(&e->mu);
    }
    box = e->outboxes;
    if (box) {
        e->outboxes = box->next;
        e->outboxes_len--;
    }
    return box;
}

/* A shared store did not take it, or nobody knows: it waits for its next try. Its rows are not
 * over, so their leases are renewed, and they count as outstanding, so not too many wait. The
 * same outcomes again are safe: of those that it has the store says so. False: no more tries. */
static bool keep_late(exj_engine *e, struct outbox *box)
{
    bool kept;

    for (uint32_t i = 0; i < box->len; i++)
        atomic_store(&box->rows[i]->late, true);
    pthread_mutex_lock(&e->mu);
    kept = !e->gives_up;
    if (kept) {
        box->next = e->late;
        e->late = box;
    }
    if (kept && !e->late_at) {
        e->late_pause = exj_run_longer_pause(e->late_pause);
        e->late_at = exj_clock_mono_ns() + e->late_pause;
        pthread_cond_signal(&e->keep);
    }
    pthread_mutex_unlock(&e->mu);
    return kept;
}

/* The box comes back, with what became of its rows. */
static void box_end(struct outbox *box)
{
    const exj_op *op = &box->op;
    exj_engine *e = box->engine;
    struct pool *p = box->pool;
    uint64_t by_status[EXJ_STATUS_COUNT] = { 0 }, fenced = 0, failed = 0;
    exj_msec due = 0;
    bool came_back = false, freed;

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
        by_status[o->to]++;
        came_back |= o->to == EXJ_QUEUED; /* the signal that it waits for was there already */
        if (o->to != EXJ_CANCELED &&
            (o->event == EXJ_EV_FAIL_RETRY || o->event == EXJ_EV_FAIL_DEAD))
            failed++;
        if ((o->to == EXJ_WAITING || o->to == EXJ_SUSPENDED) && o->run_after &&
            (!due || o->run_after < due))
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
    e->counts.suspended += by_status[EXJ_SUSPENDED] + by_status[EXJ_QUEUED];
    e->counts.canceled += by_status[EXJ_CANCELED];
    e->counts.retried += by_status[EXJ_WAITING];
    e->counts.fenced += fenced;
    p->uncommitted -= box->len;
    e->outstanding -= box->len;
    e->answers++;
    if (due && (!e->next_due || due < e->next_due)) {
        e->next_due = due;
        pthread_cond_signal(&e->keep);
    }
    freed = exj_run_freed_locked(e, p);
    p->maybe_work |= came_back;
    if (came_back || freed || p->ready <= p->depth / 2 || e->outstanding == 0)
        pthread_cond_signal(&e->claim);
    if (p->uncommitted == 0) {
        pthread_cond_broadcast(&e->cycle);
        pthread_cond_broadcast(&e->idle);
    }
    if (op->rc == EXJ_OK)
        e->late_pause = 0;
    exj_box_give_locked(e, box); /* it may be gone from here on */
    if (e->starved)
        pthread_cond_broadcast(&e->work);
    e->starved = false;
    pthread_mutex_unlock(&e->mu);
}

static void box_done(exj_op *op)
{
    struct outbox *box = op->user;

    if (exj_run_store_said(box->engine, "outcomes", op) == STORE_PASSES &&
        keep_late(box->engine, box))
        return;
    box_end(box);
}

static exj_op *ask(struct outbox *box)
{
    box->op = (exj_op){ .kind = EXJ_OP_FINISH, .done = box_done, .user = box };
    box->op.u.finish.items = box->items;
    box->op.u.finish.len = box->len;
    return &box->op;
}

bool exj_box_retry_locked(exj_engine *e)
{
    exj_op *first = NULL;
    struct outbox *box, *next;

    if (!e->late || e->late_at > exj_clock_mono_ns())
        return false;
    box = e->late;
    e->late = NULL;
    e->late_at = 0;
    pthread_mutex_unlock(&e->mu);
    for (; box; box = next) {
        exj_op *op = ask(box);

        next = box->next;
        op->next = first;
        first = op;
    }
    exj_store_submit(e->o.store, first);
    pthread_mutex_lock(&e->mu);
    return true;
}

void exj_box_give_up(exj_engine *e)
{
    struct outbox *box, *next;
    uint32_t rows = 0;

    pthread_mutex_lock(&e->mu);
    e->gives_up = true;
    box = e->late;
    e->late = NULL;
    e->late_at = 0;
    pthread_mutex_unlock(&e->mu);
    for (; box; box = next) {
        next = box->next;
        rows += box->len;
        box_end(box);
    }
    if (rows)
        exj_log(EXJ_LOG_WARN, "engine",
                "the store did not take the outcomes of %u rows in time: they are left to their "
                "leases and run again",
                rows);
}

/* Texts were noted as offsets while the buffer could still move. */
void exj_box_submit(struct outbox *box)
{
    for (uint32_t i = 0; i < box->len; i++) {
        exj_outcome *o = &box->items[i];
        exj_slice *texts[] = { &o->result, &o->error_code, &o->error_text, &o->signal };

        for (size_t t = 0; t < 4; t++)
            if (texts[t]->n)
                texts[t]->p = box->text.p + (uintptr_t)texts[t]->p;
    }
    exj_store_submit(box->engine->o.store, ask(box));
}

static exj_slice box_keep(struct outbox *box, const char *prefix, exj_slice text)
{
    size_t at = box->text.n;

    exj_buf_add_text(&box->text, prefix);
    if (!exj_buf_add_slice(&box->text, text))
        return (exj_slice){ 0 };
    return (exj_slice){ (const char *)(uintptr_t)at, box->text.n - at }; /* see exj_box_submit */
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

/* Does the text begin as `prefix` ("plugin ID VERSION: ") does, with a colon or a verb? */
static bool names_plugin(exj_slice text, const char *prefix)
{
    size_t n = strlen(prefix) - 2;

    return text.n > n && !memcmp(text.p, prefix, n) && (text.p[n] == ' ' || text.p[n] == ':');
}

/* What a suspended row waits for, and which signal alone releases a blocked one. */
static void add_wait(struct outbox *box, exj_outcome *o, const exj_answer_wait *w)
{
    exj_buf plain = EXJ_BUF_INIT;

    if (w->has_signal) {
        if (exj_json_unescape(w->signal, &plain))
            o->signal = box_keep(box, "", exj_buf_slice(&plain));
        else
            box->text.failed = true;
        exj_buf_release(&plain);
        o->wait = EXJ_WAIT_SIGNAL;
        o->run_after = w->has_timeout ? box_now(box) + w->timeout_ms : 0;
    } else if (w->has_poll) {
        o->wait = EXJ_WAIT_POLL;
        o->run_after = box_now(box) + w->poll_ms;
    } else if (w->has_resume_at) {
        o->wait = EXJ_WAIT_TIME;
        o->run_after = w->resume_at > 0 ? w->resume_at : 1; /* 0 would be never */
    }
}

/* The outcome at the end of the box is r's, unless there was no memory for its texts. */
static void add_checked(struct outbox *box, struct row *r)
{
    if (box->text.failed) { /* without its text the outcome would lie: let it be retried */
        box->items[box->len] = (exj_outcome){ .seq = r->claim.seq,
                                              .nonce = r->claim.nonce,
                                              .token = r->claim.token,
                                              .event = EXJ_EV_FAIL_RETRY,
                                              .run_after = box_now(box) + 1000 };
        box->text.failed = false;
    }
    box->rows[box->len++] = r;
}

void exj_box_add_unreadable(struct outbox *box, struct row *r, const exj_err *why)
{
    exj_outcome *o = &box->items[box->len];

    *o = (exj_outcome){ .seq = r->claim.seq,
                        .nonce = r->claim.nonce,
                        .token = r->claim.token,
                        .event = EXJ_EV_FAIL_DEAD };
    o->error_code = box_keep(box, "", EXJ_SLICE_LITERAL("InputUnreadable"));
    o->error_text = box_keep(box, "the row's input cannot be read: ", exj_slice_of(why->text));
    add_checked(box, r);
}

/* The one place where the end of an execution becomes an outcome. Returns whether the plugin
 * is to blame. */
bool exj_box_add(struct outbox *box, struct row *r, const exj_call_end *end)
{
    const struct spec *spec = r->batch->spec;
    const char *label = r->deck ? r->deck->label : spec->executor->name;
    exj_outcome *o = &box->items[box->len];
    exj_slice code = { 0 }, text = { 0 }, quoted_code = { 0 }, quoted_text = { 0 };
    exj_buf plain = EXJ_BUF_INIT;
    exj_answer answer = EXJ_ANSWER_FAILED;
    exj_answer_wait wait = { 0 };
    exj_err why = { 0 };
    bool failed = true, retryable = true;
    char prefix[160] = "";

    *o = (exj_outcome){ .seq = r->claim.seq,
                        .nonce = r->claim.nonce,
                        .token = r->claim.token };
    if (end->result == EXJ_R_OK && end->emits == 1) {
        if (exj_answer_check(end->answer, &answer, &quoted_code, &quoted_text, &wait, &why) ==
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
            if (names_plugin(said, prefix))
                prefix[0] = '\0'; /* the host's own words name the plugin already */
            text = box_keep(box, prefix,
                            said.n ? said : exj_slice_of(result_word(end->result)));
        }
    }
    if (failed) {
        exj_retry_policy policy = spec->eff.retry;
        exj_retry_verdict v;

        if (code.n) /* its bytes are still an offset into the box */
            retryable &= !exj_effective_is_final(
                &spec->eff, (exj_slice){ box->text.p + (uintptr_t)code.p, code.n });
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
        add_wait(box, o, &wait);
    }
    o->crashed = end->result == EXJ_R_CRASHED;
    if (o->event == EXJ_EV_SUCCEED || o->event == EXJ_EV_SUSPEND) {
        o->error_code = (exj_slice){ 0 };
        o->error_text = (exj_slice){ 0 };
    } else {
        o->error_code = code;
        o->error_text = text;
    }
    add_checked(box, r);
    exj_buf_release(&plain);
    return failed && end->result != EXJ_R_INPUT && end->result != EXJ_R_CANCELLED;
}
