/* What the store answers, held against what it answered before. `done` of operations
 * comes in the order of commits, so within a life this is the order of what happened;
 * what a crash left unanswered counts for and against nobody. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct told {
    void (*done)(exj_op *op);
    void *user;
};

static sim_seq *seq_of(int64_t seq)
{
    static const char *const too_many = "more rows than a simulation has room for";

    if (seq < 1 || seq >= SIM_SEQS) {
        sim_fail("row %" PRId64 ": %s", seq, too_many);
        return &sim->seqs[0];
    }
    if (seq > sim->seqs_most)
        sim->seqs_most = seq;
    return &sim->seqs[seq];
}

static bool is_over(exj_status s)
{
    return s == EXJ_COMPLETED || s == EXJ_FAILED || s == EXJ_CANCELED || s == EXJ_DROPPED;
}

/* The store's time may fall back a little at a restart, when the wall clock is behind:
 * then a row that had become due may be claimed before its time, as it were. */
static void set_due(sim_seq *r, exj_status status, exj_msec run_after)
{
    r->due = status == EXJ_WAITING ? run_after : 0;
    r->due_life = sim->life;
}

static void claimed(const exj_op *op)
{
    for (size_t i = 0; i < op->u.claim.ret_len; i++) {
        const exj_claim *c = &op->u.claim.ret[i];
        sim_seq *r = seq_of(c->seq);

        sim_note("claim row %" PRId64 " token %" PRId64 " attempt %u by %s", c->seq,
                 c->token, c->attempt, op->u.claim.holder);
        if (c->token <= r->token)
            sim_fail("I5: row %" PRId64 ": token %" PRId64 " is granted after %" PRId64,
                     c->seq, c->token, r->token);
        if (c->attempt > c->max_attempts)
            sim_fail("I10: row %" PRId64 ": attempt %u of %u", c->seq, c->attempt,
                     c->max_attempts);
        if (r->over && !r->reset_pending)
            sim_fail("%s: row %" PRId64 ": token %" PRId64
                     " is granted although it is %s",
                     r->status == EXJ_CANCELED ? "I11" : "I3", c->seq, c->token,
                     exj_status_word(r->status));
        if (r->holds && !r->reset_pending && r->life == sim->life)
            sim_fail("I5: row %" PRId64 ": token %" PRId64 " is granted while %" PRId64
                     " is held",
                     c->seq, c->token, r->token);
        if (op->u.claim.ret_until &&
            op->u.claim.ret_until - op->u.claim.lease_ms < r->due && !r->reset_pending &&
            r->due_life == sim->life)
            sim_fail("row %" PRId64 " is claimed %lld ms before it is due", c->seq,
                     (long long)(r->due - op->u.claim.ret_until + op->u.claim.lease_ms));
        r->due = 0;
        r->token = c->token;
        r->nonce = c->nonce;
        r->holds = true;
        r->life = sim->life;
        r->over = false;
        sim->old[sim_below(&sim->rng_load, SIM_OLD)] =
            (sim_old){ c->seq, c->nonce, c->token, false };
    }
}

/* A write that was let through must be of the newest claim, one that was not must not. */
static void judge(const char *what, int64_t seq, int64_t nonce, exj_code verdict,
                  bool again)
{
    const sim_seq *r = seq_of(seq);
    bool mine = nonce == r->nonce;

    if (verdict == EXJ_FENCED) {
        sim->t.fenced++;
        if (mine && r->holds && r->life == sim->life)
            sim_fail("I7: row %" PRId64 ": %s of its holder (token %" PRId64
                     ") is refused",
                     seq, what, r->token);
    } else if (verdict == EXJ_OK && !mine && r->nonce && !again) {
        sim_fail("I6: row %" PRId64
                 ": %s with the nonce of a claim that is over is accepted "
                 "(newest token %" PRId64 ")",
                 seq, what, r->token);
    } else if (verdict == EXJ_OK && mine && !r->holds && !again && r->life == sim->life) {
        sim_fail("I6: row %" PRId64 ": %s of a claim that is over (token %" PRId64
                 ") is accepted",
                 seq, what, r->token);
    }
}

static void finished(const exj_op *op)
{
    for (size_t i = 0; i < op->u.finish.len; i++) {
        const exj_outcome *o = &op->u.finish.items[i];
        sim_seq *r = seq_of(o->seq);
        bool again = r->accepted_nonce == o->nonce;

        sim_note("finish row %" PRId64 " token %" PRId64 " %s: %s %s", o->seq, o->token,
                 exj_event_word(o->event), exj_code_name(o->verdict),
                 o->verdict ? "" : exj_status_name(o->to));
        judge("an outcome", o->seq, o->nonce, o->verdict, again);
        if (o->verdict || again)
            continue;
        if (o->token != r->token && r->nonce)
            sim_fail("I6: row %" PRId64 ": an outcome of token %" PRId64
                     " is accepted, the newest is %" PRId64,
                     o->seq, o->token, r->token);
        r->accepted_nonce = o->nonce;
        r->holds = false;
        r->status = o->to;
        r->over = is_over(o->to);
        set_due(r, o->to, o->run_after);
        if (o->event == EXJ_EV_SUSPEND && exj_slice_is(o->signal, "go") && r->kept) {
            if (o->to == EXJ_SUSPENDED && !r->reset_pending)
                sim_fail("row %" PRId64 ": waits for a signal that was kept for it",
                         o->seq);
            r->kept--;
        }
        if (r->over)
            r->kept = 0;
        sim->t.suspended += o->to == EXJ_SUSPENDED;
    }
}

static void held(const exj_op *op)
{
    for (size_t i = 0; i < op->u.held.len; i++) {
        const exj_held *h = &op->u.held.items[i];

        judge(op->kind == EXJ_OP_RENEW ? "a renewal" : "a release", h->seq, h->nonce,
              h->verdict, false);
        if (op->kind == EXJ_OP_RELEASE && h->verdict == EXJ_OK) {
            sim_note("release row %" PRId64, h->seq);
            seq_of(h->seq)->holds = false;
        }
    }
}

static void reaped(const exj_op *op)
{
    for (size_t i = 0; i < op->u.reap.ret_len; i++) {
        const exj_reaped *p = &op->u.reap.ret[i];
        sim_seq *r = seq_of(p->seq);

        sim->t.reaped++;
        if (!sim->struck && !sim->has_timeouts)
            sim_fail("row %" PRId64
                     ": its lease is over, and nothing happened to its holder",
                     p->seq);
        sim_note("reap row %" PRId64 " token %" PRId64 " to %s", p->seq, p->token,
                 exj_status_name(p->to));
        r->holds = false;
        r->status = p->to;
        r->over = is_over(p->to);
    }
}

static void inserted(const exj_op *op)
{
    for (size_t i = 0; i < op->u.insert.len; i++) {
        const exj_insert_item *it = &op->u.insert.items[i];

        if (it->verdict != EXJ_OK)
            continue;
        sim_note("row %" PRId64 " of pool %" PRId64 " is %.*s", it->seq,
                 op->u.insert.pool, (int)it->record_id.n, it->record_id.p);
        seq_of(it->seq)->acked = true;
        set_due(seq_of(it->seq), it->status, it->run_after);
    }
}

/* Retry and rerun: an end is an end no more. */
static int64_t resets(const exj_op *op)
{
    return op->kind == EXJ_OP_RETRY   ? op->u.retry.seq
           : op->kind == EXJ_OP_RERUN ? op->u.rerun.seq
                                      : 0;
}

static void ordered(const exj_op *op)
{
    int64_t seq = resets(op);
    sim_seq *r;

    if (op->kind == EXJ_OP_CANCEL) {
        r = seq_of(op->u.cancel.seq);
        if (op->rc == EXJ_OK) {
            sim->t.cancels++;
            sim_note("cancel row %" PRId64 ": %s", op->u.cancel.seq,
                     exj_status_name(op->u.cancel.ret_to));
            if (op->u.cancel.ret_to == EXJ_CANCELED) {
                r->over = true;
                r->holds = false;
                r->status = EXJ_CANCELED;
            }
        }
        return;
    }
    r = seq_of(seq);
    if (op->rc != EXJ_UNKNOWN && op->rc != EXJ_IO)
        r->reset_pending--;
    if (op->rc != EXJ_OK)
        return;
    sim_note("%s row %" PRId64, op->kind == EXJ_OP_RETRY ? "retry" : "rerun", seq);
    sim->t.retries += op->kind == EXJ_OP_RETRY;
    sim->t.reruns += op->kind == EXJ_OP_RERUN;
    r->over = false;
    r->holds = false;
    r->due = 0;
    r->kept = 0;
}

static void signalled(const exj_op *op)
{
    sim_seq *r = seq_of(op->u.signal.seq);

    r->kept += !op->u.signal.ret_delivered && !r->reset_pending;
    if (op->u.signal.ret_delivered)
        r->due = 0;
}

/* A graph's document: its newest version, where it is known. */
static int64_t *version_of(exj_slice id)
{
    unsigned n = id.n == 2 && id.p[0] == 'g' ? (unsigned)(id.p[1] - '0') : SIM_GRAPHS;

    return n < SIM_GRAPHS ? &sim->versions[n] : NULL;
}

static void judge_guards(const exj_op *op)
{
    for (size_t i = 0; i < op->u.claim.wants_len; i++) {
        const exj_want *w = &op->u.claim.wants[i];
        const int64_t *v = version_of(w->guard_id);

        if (v && *v && w->got && w->guard_version != *v)
            sim_fail("2.10.8: rows are claimed under version %" PRId64
                     " of a graph's config, the newest is %" PRId64,
                     w->guard_version, *v);
    }
}

static void told_done(exj_op *op)
{
    struct told *t = op->user;

    op->done = t->done;
    op->user = t->user;
    free(t);
    sim->t.ops++;
    if (op->rc && op->rc != EXJ_REFUSED)
        sim_note("op %d: %s: %s", (int)op->kind, exj_code_name(op->rc), op->err.text);
    switch (op->kind) {
    case EXJ_OP_RETRY:
    case EXJ_OP_RERUN:
    case EXJ_OP_CANCEL:
        ordered(op);
        break;
    case EXJ_OP_STEP_BEGIN:
    case EXJ_OP_STEP_PUT:
        if (op->rc == EXJ_OK)
            judge("a step", op->u.step.seq, op->u.step.nonce, op->u.step.verdict, false);
        break;
    case EXJ_OP_PROGRESS:
        if (op->rc == EXJ_OK)
            judge("progress", op->u.progress.seq, op->u.progress.nonce,
                  op->u.progress.verdict, false);
        break;
    case EXJ_OP_CLAIM:
        if (op->rc == EXJ_OK) {
            judge_guards(op);
            claimed(op);
        }
        break;
    case EXJ_OP_SIGNAL:
        if (op->rc == EXJ_OK)
            signalled(op);
        break;
    case EXJ_OP_DOC_PUT:
        if (op->u.doc.kind == EXJ_DOC_GRAPH && version_of(op->u.doc.id))
            *version_of(op->u.doc.id) = op->rc == EXJ_OK ? op->u.doc.ret_version : 0;
        break;
    case EXJ_OP_FINISH:
        if (op->rc == EXJ_OK)
            finished(op);
        break;
    case EXJ_OP_RENEW:
    case EXJ_OP_RELEASE:
        if (op->rc == EXJ_OK)
            held(op);
        break;
    case EXJ_OP_REAP:
        if (op->rc == EXJ_OK)
            reaped(op);
        break;
    case EXJ_OP_INSERT:
        if (op->rc == EXJ_OK)
            inserted(op);
        break;
    default:
        break;
    }
    if (op->done)
        op->done(op);
}

static void told_of(const exj_op *op)
{
    for (size_t i = 0; i < op->u.finish.len; i++)
        for (unsigned k = 0; k < SIM_OLD; k++)
            if (sim->old[k].nonce == op->u.finish.items[i].nonce)
                sim->old[k].told = true;
}

static void submit(exj_store *s, exj_op *first)
{
    for (exj_op *op = first; op; op = op->next) {
        struct told *t = malloc(sizeof(*t));

        if (!t)
            abort();
        *t = (struct told){ op->done, op->user };
        op->done = told_done;
        op->user = t;
        if (op->kind == EXJ_OP_FINISH && sim->now != sim->stale)
            told_of(op);
        if (resets(op))
            seq_of(resets(op))->reset_pending++;
    }
    ((const exj_store_vtable *)sim->real_vtable)->submit(s, first);
}

exj_store *sim_record_store(exj_store *real)
{
    exj_store_vtable *v = malloc(sizeof(*v));

    if (!v)
        abort();
    sim->real_vtable = real->v;
    *v = *real->v;
    v->submit = submit;
    real->v = v;
    return real;
}
