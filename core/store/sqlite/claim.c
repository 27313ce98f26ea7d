/* core/store/sqlite/claim.c - what a holder does: claim, finish, renew, release. [writer]
 *
 * Every write of a holder asks for status=running AND its nonce (a finish for its token
 * too), so a claim that is over changes nothing, whatever the clocks said.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* The holder's small number; the last one is remembered: a daemon has one holder. */
static bool find_holder(exj_sqlite *s, const char *name, int64_t *ret)
{
    static const enum exj_sqlite_write order[] = { W_HOLDER_FIND, W_HOLDER_ADD };
    int64_t id = 0;
    char *copy;

    if (!name)
        name = "";
    if (s->holder && s->holder[0] && strcmp(s->holder, name) == 0) {
        *ret = s->holder_id;
        return true;
    }
    copy = strdup(name);
    if (!copy) {
        exj_err_set(&s->err, EXJ_NOMEM, "store %s: out of memory", s->path);
        return false;
    }
    for (size_t i = 0; i < 2 && id == 0; i++) {
        sqlite3_stmt *st = s->st[order[i]];
        int rc;

        exj_sqlite_bind(st, 1, exj_slice_of(name));
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            id = sqlite3_column_int64(st, 0);
            rc = sqlite3_step(st);
        }
        if (rc != SQLITE_DONE) {
            exj_sqlite_fail(s, s->db, "cannot name a holder", &s->err);
            sqlite3_reset(st);
            free(copy);
            return false;
        }
        sqlite3_reset(st);
    }
    free(s->holder);
    s->holder = copy;
    s->holder_id = id;
    *ret = id;
    return true;
}

static bool guard_holds(exj_sqlite *s, const exj_want *w, bool *ret)
{
    enum exj_sqlite_write which =
        w->guard_kind == EXJ_DOC_GRAPH ? W_GUARD_GRAPH : W_GUARD_MATRIX;
    sqlite3_stmt *st = s->st[which];
    int64_t version = 0;
    int rc;

    exj_sqlite_bind(st, 1, w->guard_id);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        version = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot read a claim's guard", &s->err);
    sqlite3_reset(st);
    *ret = version == w->guard_version;
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* The first `want` ready rows of the pool into `c`, as they will be once claimed. */
static bool pick(exj_sqlite *s, const exj_want *w, int64_t nonce, exj_claim *c, uint32_t *ret)
{
    sqlite3_stmt *st = s->st[W_READY];
    uint32_t n = 0;
    int rc;

    sqlite3_bind_int64(st, 1, w->pool);
    sqlite3_bind_int64(st, 2, w->want);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        c[n++] = (exj_claim){ .seq = sqlite3_column_int64(st, 0),
                              .pool = w->pool,
                              .token = sqlite3_column_int64(st, 1) + 1,
                              .nonce = nonce,
                              .attempt = (uint32_t)sqlite3_column_int64(st, 2) + 1,
                              .max_attempts = (uint32_t)sqlite3_column_int64(st, 3) };
    if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for ready rows", &s->err);
    sqlite3_reset(st);
    *ret = n;
    return rc == SQLITE_DONE;
}

bool exj_sqlite_claim(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_CLAIM];
    int64_t nonce = op->u.claim.nonce, holder = 0;
    size_t n = 0;

    op->u.claim.ret_len = 0;
    op->u.claim.ret_until = 0;
    if (nonce == 0 || op->u.claim.lease_ms <= 0) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID,
                             "a claim needs a nonce and a lease, got %" PRId64
                             " and %" PRId64 " ms",
                             nonce, op->u.claim.lease_ms);
        return true;
    }
    op->u.claim.ret_until = s->now + op->u.claim.lease_ms;
    sqlite3_bind_int64(st, 4, nonce);
    sqlite3_bind_int64(st, 6, op->u.claim.ret_until);
    for (size_t i = 0; i < op->u.claim.wants_len; i++) {
        exj_want *w = &op->u.claim.wants[i];
        exj_claim *c = op->u.claim.ret + n;
        bool allowed = true;

        w->got = 0;
        w->verdict = EXJ_OK;
        if (!exj_sqlite_has_pool(s, w->pool)) {
            w->verdict = EXJ_NOT_FOUND;
            continue;
        }
        if (w->guard_id.p && !guard_holds(s, w, &allowed))
            return false;
        if (!allowed) {
            w->verdict = EXJ_CONFLICT;
            continue;
        }
        /* The counter spares an index walk for every pool that has nothing. */
        if (w->want == 0 || s->pools[w->pool].n[EXJ_QUEUED] == 0)
            continue;
        if (!pick(s, w, nonce, c, &w->got))
            return false;
        if (w->got && !holder && !find_holder(s, op->u.claim.holder, &holder))
            return false;
        sqlite3_bind_int64(st, 5, holder);
        for (uint32_t k = 0; k < w->got; k++) {
            sqlite3_bind_int64(st, 1, c[k].seq);
            sqlite3_bind_int64(st, 2, c[k].token);
            sqlite3_bind_int64(st, 3, c[k].attempt);
            if (!exj_sqlite_run(s, W_CLAIM, "cannot claim a row"))
                return false;
        }
        exj_sqlite_count(s, w->pool, EXJ_QUEUED, EXJ_RUNNING, w->got);
        n += w->got;
    }
    op->u.claim.ret_len = n;
    return true;
}

/* ---- finish ------------------------------------------------------------------------------- */

static bool is_failure(exj_event e)
{
    return e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD;
}

static bool is_outcome(exj_event e)
{
    return is_failure(e) || e == EXJ_EV_SUCCEED || e == EXJ_EV_BLOCK || e == EXJ_EV_SUSPEND;
}

/* The claim is over. Did this very outcome end it, in an answer that was lost? */
static bool judge_late(exj_sqlite *s, exj_outcome *o, exj_status to)
{
    enum exj_sqlite_write which = is_failure(o->event) ? W_FAILURE_MINE : W_RESULT_MINE;
    sqlite3_stmt *st = s->st[which];
    int rc;

    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, o->nonce);
    sqlite3_bind_int64(st, 3, o->token);
    if (which == W_RESULT_MINE)
        sqlite3_bind_int64(st, 4, (int)to);
    rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for an earlier outcome", &s->err);
    sqlite3_reset(st);
    o->verdict = rc == SQLITE_ROW && o->nonce != 0 ? EXJ_OK : EXJ_FENCED;
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool add_failure(exj_sqlite *s, const exj_outcome *o, int64_t attempt)
{
    sqlite3_stmt *st = s->st[W_FAILURE_ADD];

    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, o->token);
    sqlite3_bind_int64(st, 3, attempt);
    sqlite3_bind_int64(st, 4, s->now);
    exj_sqlite_bind(st, 5, o->error_code);
    exj_sqlite_bind(st, 6, o->error_text);
    sqlite3_bind_int64(st, 7, o->nonce);
    return exj_sqlite_run(s, W_FAILURE_ADD, "cannot write a failure");
}

static bool end_row(exj_sqlite *s, const exj_outcome *o, int64_t attempts, exj_status to)
{
    sqlite3_stmt *st = s->st[W_RESULT_ADD];

    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, (int)to);
    sqlite3_bind_int64(st, 3, attempts);
    sqlite3_bind_int64(st, 4, o->token);
    sqlite3_bind_int64(st, 5, o->nonce);
    sqlite3_bind_int64(st, 6, s->now);
    exj_sqlite_bind(st, 7, o->error_code);
    exj_sqlite_bind(st, 8, o->error_text);
    exj_sqlite_bind(st, 9, o->result);
    if (!exj_sqlite_run(s, W_RESULT_ADD, "cannot write a result"))
        return false;
    sqlite3_bind_int64(s->st[W_LEAVE], 1, o->seq);
    return exj_sqlite_run(s, W_LEAVE, "cannot take a row out of the queue");
}

static bool finish_one(exj_sqlite *s, exj_outcome *o)
{
    sqlite3_stmt *st = s->st[W_HELD];
    int64_t pool, attempts, most;
    exj_event event = o->event;
    exj_status to = EXJ_RUNNING;
    int rc;

    exj_state_move(EXJ_RUNNING, event, &to, NULL); /* checked by the caller */
    sqlite3_bind_int64(st, 1, o->seq);
    sqlite3_bind_int64(st, 2, o->nonce);
    sqlite3_bind_int64(st, 3, o->token);
    rc = sqlite3_step(st);
    pool = sqlite3_column_int64(st, 0);
    attempts = sqlite3_column_int64(st, 1);
    most = sqlite3_column_int64(st, 2);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look at a claim", &s->err);
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        return judge_late(s, o, to);
    if (rc != SQLITE_ROW)
        return false;

    /* A row never gets more attempts than it was inserted with. */
    if (event == EXJ_EV_FAIL_RETRY && attempts >= most)
        exj_state_move(EXJ_RUNNING, EXJ_EV_FAIL_DEAD, &to, NULL);
    if (is_failure(event) && !add_failure(s, o, attempts))
        return false;
    if (to == EXJ_WAITING) {
        sqlite3_bind_int64(s->st[W_WAIT], 1, o->seq);
        sqlite3_bind_int64(s->st[W_WAIT], 2, o->run_after);
        if (!exj_sqlite_run(s, W_WAIT, "cannot make a row wait"))
            return false;
    } else if (!end_row(s, o, attempts, to)) {
        return false;
    }
    exj_sqlite_count(s, pool, EXJ_RUNNING, (int)to, 1);
    o->verdict = EXJ_OK;
    return true;
}

static int by_seq(const void *a, const void *b)
{
    int64_t x = (*(exj_outcome *const *)a)->seq, y = (*(exj_outcome *const *)b)->seq;

    return (x > y) - (x < y);
}

/* Neighbouring rows share pages: results are written in the order of seq, however they
 * came in. *ret stays NULL when they came in order. */
static bool sort_outcomes(exj_sqlite *s, exj_outcome *items, size_t len, exj_outcome ***ret)
{
    size_t i = 1;

    while (i < len && items[i - 1].seq < items[i].seq)
        i++;
    if (i >= len)
        return true;
    if (s->order_cap < len) {
        exj_outcome **order = realloc(s->order, len * sizeof(exj_outcome *));

        if (!order) {
            exj_err_set(&s->err, EXJ_NOMEM, "store %s: out of memory", s->path);
            return false;
        }
        s->order = order;
        s->order_cap = len;
    }
    for (i = 0; i < len; i++)
        s->order[i] = &items[i];
    qsort(s->order, len, sizeof(exj_outcome *), by_seq);
    *ret = s->order;
    return true;
}

bool exj_sqlite_finish(exj_sqlite *s, exj_op *op)
{
    exj_outcome *items = op->u.finish.items, **order = NULL;
    size_t len = op->u.finish.len;

    for (size_t i = 0; i < len; i++)
        if (!is_outcome(items[i].event)) {
            op->rc = exj_err_set(&op->err, EXJ_INVALID, "\"%s\" is no outcome of an attempt",
                                 exj_event_word(items[i].event));
            return true;
        }
    if (!sort_outcomes(s, items, len, &order))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!finish_one(s, order ? order[i] : &items[i]))
            return false;
    return true;
}

/* ---- renew, release ------------------------------------------------------------------------- */

bool exj_sqlite_renew(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_RENEW];

    sqlite3_bind_int64(st, 3, s->now + op->u.held.lease_ms);
    for (size_t i = 0; i < op->u.held.len; i++) {
        exj_held *h = &op->u.held.items[i];

        sqlite3_bind_int64(st, 1, h->seq);
        sqlite3_bind_int64(st, 2, h->nonce);
        if (!exj_sqlite_run(s, W_RENEW, "cannot renew a lease"))
            return false;
        h->verdict = sqlite3_changes(s->db) ? EXJ_OK : EXJ_FENCED;
    }
    return true;
}

bool exj_sqlite_release(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_RELEASE];

    for (size_t i = 0; i < op->u.held.len; i++) {
        exj_held *h = &op->u.held.items[i];
        int64_t pool = 0;
        int rc;

        sqlite3_bind_int64(st, 1, h->seq);
        sqlite3_bind_int64(st, 2, h->nonce);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            pool = sqlite3_column_int64(st, 0);
            rc = sqlite3_step(st);
        }
        if (rc != SQLITE_DONE) {
            exj_sqlite_fail(s, s->db, "cannot release a row", &s->err);
            sqlite3_reset(st);
            return false;
        }
        sqlite3_reset(st);
        h->verdict = pool ? EXJ_OK : EXJ_FENCED;
        if (pool)
            exj_sqlite_count(s, pool, EXJ_RUNNING, EXJ_QUEUED, 1);
    }
    return true;
}
