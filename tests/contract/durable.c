#include "durable.h"

#include <pthread.h>

static void copy(char *to, size_t cap, exj_slice from)
{
    snprintf(to, cap, "%.*s", (int)from.n, from.n ? from.p : "");
}

static bool keep_seen(void *user, const exj_row_view *v)
{
    struct seen *r = user;

    r->v = *v;
    copy(r->signal, sizeof(r->signal), v->signal);
    copy(r->code, sizeof(r->code), v->error_code);
    copy(r->text, sizeof(r->text), v->error_text);
    copy(r->result, sizeof(r->result), v->result);
    copy(r->note, sizeof(r->note), v->progress_note);
    copy(r->holder, sizeof(r->holder), v->holder);
    return true;
}

struct seen look(struct fixture *f, int64_t seq)
{
    struct seen r = { .v.seq = -1 };
    exj_err err = { 0 };
    exj_code rc = f->s->v->row_by_seq(f->s, seq, keep_seen, &r, &err);

    cr_assert(rc == EXJ_OK, "row %" PRId64 ": %s", seq, err.text);
    return r;
}

exj_status status_of(struct fixture *f, int64_t seq)
{
    return look(f, seq).v.status;
}

/* ---- journal --------------------------------------------------------------------------- */

struct folding {
    char words[65536];
    size_t at;
    exj_journal_view view;
    exj_err err;
    struct newest last;
};

static bool fold(void *user, const exj_event_view *v)
{
    struct folding *g = user;

    if (g->at < sizeof(g->words))
        g->at += (size_t)snprintf(g->words + g->at, sizeof(g->words) - g->at, "%s%s",
                                  g->at ? " " : "", exj_entry_word(v->entry.kind));
    g->last.e = v->entry;
    copy(g->last.key, sizeof(g->last.key), v->entry.key);
    copy(g->last.text, sizeof(g->last.text), v->entry.text);
    return exj_journal_apply(&g->view, &v->entry, &g->err) == EXJ_OK;
}

static struct folding *fold_row(struct fixture *f, int64_t seq)
{
    static struct folding g;
    exj_err err = { 0 };
    exj_code rc;

    memset(&g, 0, sizeof(g));
    rc = f->s->v->journal(f->s, seq, 100000, fold, &g, &err);
    cr_assert(rc == EXJ_OK, "journal of row %" PRId64 ": %s", seq, err.text);
    cr_assert(!g.err.code, "row %" PRId64 ": %s; so far: %s", seq, g.err.text, g.words);
    return &g;
}

const char *words_of(struct fixture *f, int64_t seq)
{
    return fold_row(f, seq)->words;
}

struct newest newest(struct fixture *f, int64_t seq)
{
    return fold_row(f, seq)->last;
}

void expect_folds(struct fixture *f, int64_t seq)
{
    struct folding *g = fold_row(f, seq);
    struct seen r = look(f, seq);
    exj_status s = r.v.status;

    if (s == EXJ_WAITING || s == EXJ_PARKED)
        s = EXJ_QUEUED;
    cr_assert(g->view.known);
    cr_assert(g->view.status == s && g->view.attempts == r.v.attempts &&
                  g->view.token == r.v.token && g->view.last == r.v.last_entry,
              "row %" PRId64 " is %s, attempts %u, token %" PRId64 ", last %" PRId64
              "; its journal says %s, %u, %" PRId64 ", %" PRId64 ": %s",
              seq, exj_status_name(s), r.v.attempts, r.v.token, r.v.last_entry,
              exj_status_name(g->view.status), g->view.attempts, g->view.token, g->view.last,
              g->words);
}

void expect_words(struct fixture *f, int64_t seq, const char *wanted)
{
    const char *got = words_of(f, seq);

    cr_assert(strcmp(got, wanted) == 0, "journal of row %" PRId64 ":\n  %s\nnot:\n  %s", seq,
              got, wanted);
    expect_folds(f, seq);
}

/* ---- steps ----------------------------------------------------------------------------- */

static bool list_step(void *user, const exj_step_view *v)
{
    char *to = user;
    size_t n = strlen(to);

    cr_assert(v->done || v->body.n == 0);
    snprintf(to + n, 4096 - n, "%s%.*s%s", n ? " " : "", (int)v->key.n, v->key.p,
             v->done ? "" : "?");
    return true;
}

const char *steps_of(struct fixture *f, int64_t seq)
{
    static char all[4096];

    all[0] = '\0';
    expect_code(f->s->v->step_each(f->s, seq, list_step, all, NULL), EXJ_OK);
    return all;
}

const char *step_body(struct fixture *f, int64_t seq, const char *key)
{
    static char body[65536];
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc = f->s->v->step_get(f->s, seq, exj_slice_of(key), &b, NULL);

    cr_assert(rc == EXJ_OK || rc == EXJ_NOT_FOUND);
    copy(body, sizeof(body), exj_buf_slice(&b));
    exj_buf_release(&b);
    return body;
}

/* ---- operations -------------------------------------------------------------------------- */

static void go(struct fixture *f, exj_op *op)
{
    exj_err err = { 0 };
    exj_code rc = exj_store_do(f->s, op, &err);

    cr_assert(rc == EXJ_OK, "op %d: %s: %s", (int)op->kind, exj_code_name(rc), err.text);
}

static exj_code end(struct fixture *f, exj_outcome o)
{
    exj_op op = { .kind = EXJ_OP_FINISH };

    op.u.finish.items = &o;
    op.u.finish.len = 1;
    go(f, &op);
    return o.verdict;
}

exj_code suspend(struct fixture *f, const exj_claim *c, exj_wait_kind kind, const char *signal,
                 exj_msec at)
{
    return end(f, (exj_outcome){ .seq = c->seq,
                                 .nonce = c->nonce,
                                 .token = c->token,
                                 .event = EXJ_EV_SUSPEND,
                                 .wait = kind,
                                 .signal = exj_slice_of(signal),
                                 .run_after = at });
}

exj_code block_on(struct fixture *f, const exj_claim *c, const char *signal)
{
    return end(f, (exj_outcome){ .seq = c->seq,
                                 .nonce = c->nonce,
                                 .token = c->token,
                                 .event = EXJ_EV_BLOCK,
                                 .signal = exj_slice_of(signal),
                                 .error_code = EXJ_SLICE_LITERAL("E_BLOCK"),
                                 .error_text = EXJ_SLICE_LITERAL("not yet") });
}

exj_code signal_to(struct fixture *f, int64_t seq, const char *name, const char *body,
                   bool *ret_delivered, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_SIGNAL };
    exj_code rc;

    op.u.signal.seq = seq;
    op.u.signal.name = exj_slice_of(name);
    op.u.signal.body = exj_slice_of(body);
    rc = exj_store_do(f->s, &op, err);
    if (ret_delivered)
        *ret_delivered = op.u.signal.ret_delivered;
    if (!rc)
        expect_int(op.u.signal.ret_to, status_of(f, seq));
    return rc;
}

exj_code cancel(struct fixture *f, int64_t seq, exj_status *ret_to, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_CANCEL };
    exj_code rc;

    op.u.cancel.seq = seq;
    op.u.cancel.why = EXJ_SLICE_LITERAL("no longer wanted");
    rc = exj_store_do(f->s, &op, err);
    if (ret_to && !rc)
        *ret_to = op.u.cancel.ret_to;
    return rc;
}

exj_code rerun(struct fixture *f, int64_t seq, const char *step, size_t *ret_dropped,
               size_t *ret_kept, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_RERUN };
    exj_code rc;

    op.u.rerun.seq = seq;
    op.u.rerun.step = exj_slice_of(step);
    rc = exj_store_do(f->s, &op, err);
    if (ret_dropped)
        *ret_dropped = op.u.rerun.ret_dropped;
    if (ret_kept)
        *ret_kept = op.u.rerun.ret_kept;
    return rc;
}

exj_code step_begin(struct fixture *f, const exj_claim *c, const char *key, bool *ret_again)
{
    exj_op op = { .kind = EXJ_OP_STEP_BEGIN };

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = exj_slice_of(key);
    go(f, &op);
    if (ret_again)
        *ret_again = op.u.step.ret_again;
    return op.u.step.verdict;
}

exj_code progress(struct fixture *f, const exj_claim *c, double at, const char *note)
{
    exj_op op = { .kind = EXJ_OP_PROGRESS };

    op.u.progress.seq = c->seq;
    op.u.progress.nonce = c->nonce;
    op.u.progress.token = c->token;
    op.u.progress.at = at;
    op.u.progress.note = exj_slice_of(note);
    go(f, &op);
    return op.u.progress.verdict;
}

int64_t insert_with(struct fixture *f, int64_t in, const char *id, exj_insert_item *it,
                    exj_overflow_rule overflow)
{
    exj_op op = { .kind = EXJ_OP_INSERT };

    it->record_id = exj_slice_of(id);
    it->input = EXJ_SLICE_LITERAL("{}");
    op.u.insert.pool = in;
    op.u.insert.max_attempts = 3;
    op.u.insert.overflow = overflow;
    op.u.insert.find_existing = true;
    op.u.insert.items = it;
    op.u.insert.len = 1;
    go(f, &op);
    expect_int(op.u.insert.ret_inserted, it->verdict == EXJ_OK);
    return it->seq;
}

int64_t insert_keyed(struct fixture *f, int64_t in, const char *id, const char *unique,
                     const char *concurrency)
{
    exj_insert_item it = { .unique_key = exj_slice_of(unique),
                           .concurrency_key = exj_slice_of(concurrency) };
    int64_t seq = insert_with(f, in, id, &it, (exj_overflow_rule){ 0 });

    expect_code(it.verdict, EXJ_OK);
    return seq;
}

size_t claim_want(struct fixture *f, exj_want *w, int64_t nonce, exj_claim *ret)
{
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.wants = w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w";
    op.u.claim.nonce = nonce;
    op.u.claim.lease_ms = LEASE;
    op.u.claim.ret = ret;
    go(f, &op);
    expect_code(w->verdict, EXJ_OK);
    expect_int(w->got, op.u.claim.ret_len);
    return w->got;
}

struct waiter {
    pthread_mutex_t mu;
    pthread_cond_t more;
    size_t left;
};

static void one_less(exj_op *op)
{
    struct waiter *w = op->user;

    pthread_mutex_lock(&w->mu);
    w->left--;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->mu);
}

void do_all(struct fixture *f, exj_op *ops, size_t n)
{
    struct waiter w = { .left = n };

    pthread_mutex_init(&w.mu, NULL);
    pthread_cond_init(&w.more, NULL);
    for (size_t i = 0; i < n; i++) {
        ops[i].user = &w;
        ops[i].done = one_less;
        ops[i].next = i + 1 < n ? &ops[i + 1] : NULL;
    }
    exj_store_submit(f->s, ops);
    pthread_mutex_lock(&w.mu);
    while (w.left)
        pthread_cond_wait(&w.more, &w.mu);
    pthread_mutex_unlock(&w.mu);
    pthread_cond_destroy(&w.more);
    pthread_mutex_destroy(&w.mu);
}
