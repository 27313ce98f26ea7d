/* core/store/mongo/claim.c - what a holder does: claim, finish, renew, release. [writer]
 *
 * Every write of a holder asks for his nonce, so a claim that is over changes nothing.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/store/mongo/inside.h"
#include "core/store/mongo/value.h"

#define AGAIN_MOST 20

/* ---- claim --------------------------------------------------------------------------------- */

struct picking {
    exj_mrow *rows; /* owned */
    size_t len, cap;
};

static bool pick(void *user, exj_mrow *r)
{
    struct picking *p = user;

    p->rows[p->len++] = *r;
    *r = (exj_mrow){ 0 }; /* moved */
    return p->len < p->cap;
}

/* The first ready rows of the pool, in claim order. */
static exj_code look_at_ready(exj_mstore *s, const exj_want *w, size_t most, struct picking *p,
                              exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sub;
    exj_code rc;

    p->rows = calloc(most, sizeof(*p->rows));
    if (!p->rows)
        return exj_err_set(err, EXJ_NOMEM, "no memory to claim %zu rows", most);
    p->cap = most;
    if (w->only_seq) {
        BSON_APPEND_INT32(&filter, "b", exj_mrow_bucket(w->only_seq));
        BSON_APPEND_INT64(&filter, "seq", w->only_seq);
    }
    BSON_APPEND_UTF8(&filter, "status", "queued");
    BSON_APPEND_INT64(&filter, "pool", w->pool);
    BSON_APPEND_UTF8(&opts, "hint", w->only_seq ? "exj_seq" : "exj_ready");
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "sort", &sub);
    BSON_APPEND_INT32(&sub, "rank", 1);
    BSON_APPEND_INT32(&sub, "seq", 1);
    bson_append_document_end(&opts, &sub);
    BSON_APPEND_INT64(&opts, "limit", (int64_t)most);
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &sub);
    BSON_APPEND_INT32(&sub, "input", 0); /* what was won is loaded */
    bson_append_document_end(&opts, &sub);
    rc = exj_mstore_find(s, s->c, &filter, &opts, pick, p, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

static exj_code claim_some(exj_mstore *s, exj_op *op, exj_want *w, exj_claim *ret, exj_err *err)
{
    struct picking p = { 0 };
    exj_mrow **rows = NULL;
    exj_code *verdicts = NULL;
    exj_code rc = look_at_ready(s, w, w->want, &p, err);

    rows = calloc(p.len + 1, sizeof(exj_mrow *));
    verdicts = calloc(p.len + 1, sizeof(*verdicts));
    if (!rc && (!rows || !verdicts))
        rc = exj_err_set(err, EXJ_NOMEM, "no memory to claim %zu rows", p.len);
    for (size_t i = 0; i < p.len && !rc; i++) {
        rows[i] = &p.rows[i];
        rc = exj_life_claim(rows[i], op->u.claim.nonce, exj_slice_of(op->u.claim.holder), s->now,
                            op->u.claim.ret_until, err);
    }
    if (!rc && p.len)
        rc = exj_mstore_save(s, s->c, rows, p.len, verdicts, err);
    for (size_t i = 0; i < p.len && !rc; i++) {
        if (verdicts[i] == EXJ_UNKNOWN)
            rc = exj_err_set(err, EXJ_UNKNOWN, "nobody knows whether row %" PRId64 " was claimed",
                             rows[i]->seq);
        if (verdicts[i] != EXJ_OK)
            continue;
        ret[w->got++] = (exj_claim){ .seq = rows[i]->seq, .pool = w->pool, .token = rows[i]->token,
                                     .nonce = op->u.claim.nonce, .attempt = rows[i]->attempts,
                                     .max_attempts = rows[i]->max_attempts };
    }
    w->ret_more = p.len > w->got; /* somebody else was faster */
    for (size_t i = 0; i < p.len; i++)
        exj_mrow_release(&p.rows[i]);
    free(p.rows);
    free(rows);
    free(verdicts);
    return rc;
}

exj_code exj_mstore_claim(exj_mstore *s, exj_op *op)
{
    exj_slice names[3];
    size_t n = 0;
    exj_code rc = EXJ_OK;

    op->u.claim.ret_len = 0;
    op->u.claim.ret_until = 0;
    if (op->u.claim.nonce == 0 || op->u.claim.lease_ms <= 0)
        return exj_err_set(&op->err, EXJ_INVALID,
                           "a claim needs a nonce and a lease, got %" PRId64 " and %" PRId64 " ms",
                           op->u.claim.nonce, op->u.claim.lease_ms);
    op->u.claim.ret_until = s->now + op->u.claim.lease_ms;
    for (size_t i = 0; i < op->u.claim.wants_len && !rc; i++) {
        exj_want *w = &op->u.claim.wants[i];

        w->got = 0;
        w->verdict = EXJ_OK;
        w->ret_again = 0;
        w->ret_more = w->ret_parked = false;
        if (!exj_mstore_pool_names(s, s->c, w->pool, names)) {
            w->verdict = EXJ_NOT_FOUND;
            continue;
        }
        if (w->want)
            rc = claim_some(s, op, w, op->u.claim.ret + n, &op->err);
        n += w->got;
    }
    op->u.claim.ret_len = n;
    return rc;
}

/* ---- finish -------------------------------------------------------------------------------- */

static bool has_no_step(void *user, exj_slice key)
{
    (void)user;
    (void)key;
    return false;
}

static bool is_outcome(exj_event e)
{
    return e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD || e == EXJ_EV_SUCCEED ||
           e == EXJ_EV_BLOCK || e == EXJ_EV_SUSPEND || e == EXJ_EV_CANCEL;
}

/* A batch of rows of holders, decided and written; again those with which somebody was faster. */
typedef exj_code (*judge_row)(exj_mstore *s, exj_mrow *r, void *item, exj_code *verdict,
                              bool *ret_change, exj_err *err);

static exj_code each_held(exj_mstore *s, size_t len, size_t size, void *items,
                          int64_t (*seq_of)(const void *item), exj_code *(*verdict_of)(void *item),
                          judge_row judge, exj_err *err)
{
    int64_t *seqs = calloc(len ? len : 1, sizeof(*seqs));
    size_t *which = calloc(len ? len : 1, sizeof(*which)), left = len;
    exj_mrow *rows = calloc(len ? len : 1, sizeof(*rows));
    exj_mrow **changed = calloc(len ? len : 1, sizeof(exj_mrow *));
    exj_code *verdicts = calloc(len ? len : 1, sizeof(*verdicts)), rc = EXJ_OK;

    if (!seqs || !which || !rows || !changed || !verdicts) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for %zu rows", len);
        goto out;
    }
    for (size_t i = 0; i < len; i++)
        which[i] = i;
    for (int again = 0; left && !rc; again++) {
        size_t n = 0, rest = 0, did[2] = { left, 0 };

        if (again == AGAIN_MOST) {
            rc = exj_err_set(err, EXJ_IO, "others were faster %d times", AGAIN_MOST);
            break;
        }
        for (size_t i = 0; i < left; i++)
            seqs[i] = seq_of((char *)items + which[i] * size);
        rc = exj_mstore_rows(s, s->c, seqs, left, rows, err);
        if (rc)
            break;
        for (size_t i = 0; i < left && !rc; i++) {
            void *item = (char *)items + which[i] * size;
            bool change = false;

            rc = judge(s, &rows[i], item, verdict_of(item), &change, err);
            if (change && !rc) {
                changed[n++] = &rows[i];
                which[did[1]++] = which[i];
            }
        }
        if (!rc && n)
            rc = exj_mstore_save(s, s->c, changed, n, verdicts, err);
        for (size_t i = 0; i < n && !rc; i++) {
            if (verdicts[i] == EXJ_UNKNOWN)
                rc = exj_err_set(err, EXJ_UNKNOWN,
                                 "nobody knows whether row %" PRId64 " was written",
                                 changed[i]->seq);
            else if (verdicts[i] != EXJ_OK)
                which[rest++] = which[i];
        }
        for (size_t i = 0; i < did[0]; i++)
            exj_mrow_release(&rows[i]);
        left = rest;
    }
out:
    free(seqs);
    free(which);
    free(rows);
    free(changed);
    free(verdicts);
    return rc;
}

static int64_t outcome_seq(const void *item)
{
    return ((const exj_outcome *)item)->seq;
}

static exj_code *outcome_verdict(void *item)
{
    return &((exj_outcome *)item)->verdict;
}

static exj_code judge_outcome(exj_mstore *s, exj_mrow *r, void *item, exj_code *verdict,
                              bool *ret_change, exj_err *err)
{
    static const exj_msteps steps = { .has = has_no_step };
    exj_outcome *o = item;
    exj_mvalue value = { .text = o->result };

    (void)verdict;
    *ret_change = exj_life_holds(r, o->nonce, o->token);
    if (*ret_change)
        return exj_life_finish(r, o, &value, &steps, s->now, err);
    exj_life_finished(r, o);
    return EXJ_OK;
}

exj_code exj_mstore_finish(exj_mstore *s, exj_op *op)
{
    exj_outcome *items = op->u.finish.items;

    for (size_t i = 0; i < op->u.finish.len; i++)
        if (!is_outcome(items[i].event))
            return exj_err_set(&op->err, EXJ_INVALID, "\"%s\" is no outcome of an attempt",
                               exj_event_word(items[i].event));
    return each_held(s, op->u.finish.len, sizeof(*items), items, outcome_seq, outcome_verdict,
                     judge_outcome, &op->err);
}

/* ---- release, renew ------------------------------------------------------------------------ */

static int64_t held_seq(const void *item)
{
    return ((const exj_held *)item)->seq;
}

static exj_code *held_verdict(void *item)
{
    return &((exj_held *)item)->verdict;
}

static exj_code judge_release(exj_mstore *s, exj_mrow *r, void *item, exj_code *verdict,
                              bool *ret_change, exj_err *err)
{
    exj_held *h = item;

    *ret_change = r->status == EXJ_RUNNING && h->nonce && r->nonce == h->nonce;
    *verdict = *ret_change ? EXJ_OK : EXJ_FENCED;
    return *ret_change ? exj_life_release(r, s->now, err) : EXJ_OK;
}

exj_code exj_mstore_release(exj_mstore *s, exj_op *op)
{
    return each_held(s, op->u.held.len, sizeof(*op->u.held.items), op->u.held.items, held_seq,
                     held_verdict, judge_release, &op->err);
}

exj_code exj_mstore_renew(exj_mstore *s, exj_op *op)
{
    size_t n = op->u.held.len;
    exj_held *items = op->u.held.items;
    exj_mongo_change *changes = calloc(n ? n : 1, sizeof(*changes));
    int64_t *seqs = calloc(n ? n : 1, sizeof(*seqs));
    exj_mrow *rows = calloc(n ? n : 1, sizeof(*rows));
    bson_t **filters = calloc(n ? n : 1, sizeof(*filters)), update = BSON_INITIALIZER, set;
    exj_mongo_changed changed;
    exj_err why = { 0 };
    exj_code rc = EXJ_OK, sent;

    if (!changes || !filters || !seqs || !rows) {
        rc = exj_err_set(&op->err, EXJ_NOMEM, "no memory to renew %zu leases", n);
        goto out;
    }
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &set);
    exj_bson_add_msec(&set, "claim.until", s->now + op->u.held.lease_ms);
    bson_append_document_end(&update, &set);
    for (size_t i = 0; i < n; i++) {
        seqs[i] = items[i].seq;
        filters[i] = BCON_NEW("b", BCON_INT32(exj_mrow_bucket(items[i].seq)), "seq",
                              BCON_INT64(items[i].seq), "status", "running", "claim.id",
                              BCON_INT64(items[i].nonce), "tx", BCON_NULL);
        changes[i] = (exj_mongo_change){ .filter = filters[i], .update = &update,
                                         .hint = "exj_seq" };
    }
    sent = exj_mongo_update(s->c, s->exec_db, C_ROWS, changes, n, EXJ_MONGO_MAJORITY, &changed, NULL,
                            &why);
    if (sent && sent != EXJ_UNKNOWN) {
        rc = exj_err_set(&op->err, sent, "%s", why.text);
        goto out;
    }
    /* Who is still held, and who was asked to stop? */
    rc = exj_mstore_rows(s, s->c, seqs, n, rows, &op->err);
    for (size_t i = 0; i < n && !rc; i++) {
        bool mine = items[i].nonce && rows[i].status == EXJ_RUNNING &&
                    rows[i].nonce == items[i].nonce;

        items[i].verdict = mine ? EXJ_OK : EXJ_FENCED;
        items[i].ret_cancel = mine && rows[i].cancel_asked;
        if (mine && rows[i].until < s->now + op->u.held.lease_ms && sent)
            rc = exj_err_set(&op->err, EXJ_UNKNOWN, "%s", why.text);
        exj_mrow_release(&rows[i]);
    }
out:
    for (size_t i = 0; i < n && filters; i++)
        bson_destroy(filters[i]);
    bson_destroy(&update);
    free(changes);
    free(filters);
    free(seqs);
    free(rows);
    return rc;
}
