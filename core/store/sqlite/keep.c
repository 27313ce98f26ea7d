/* core/store/sqlite/keep.c - what a keeper does: reap, promote; and an operator: retry.
 * [writer] */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

static bool find_over(exj_sqlite *s, exj_op *op, uint32_t *most, size_t cap)
{
    const char *all_but = op->u.reap.all_but;
    sqlite3_stmt *st = s->st[all_but ? W_REAPABLE_BUT : W_REAPABLE];
    sqlite3_stmt *find = s->st[W_HOLDER_FIND];
    int64_t mine = 0; /* a holder never seen holds nothing: all rows are over */
    size_t n = 0;
    int rc;

    if (all_but) {
        exj_sqlite_bind(find, 1, exj_slice_of(all_but));
        rc = sqlite3_step(find);
        if (rc == SQLITE_ROW)
            mine = sqlite3_column_int64(find, 0);
        sqlite3_reset(find);
        sqlite3_bind_int64(st, 3, mine);
    }
    sqlite3_bind_int64(st, 1, s->now - op->u.reap.grace_ms);
    sqlite3_bind_int64(st, 2, (int64_t)cap);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        most[n] = (uint32_t)sqlite3_column_int64(st, 4);
        op->u.reap.ret[n++] =
            (exj_reaped){ .seq = sqlite3_column_int64(st, 0),
                          .pool = sqlite3_column_int64(st, 1),
                          .token = sqlite3_column_int64(st, 2),
                          .attempt = (uint32_t)sqlite3_column_int64(st, 3) };
    }
    if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for ended leases", &s->err);
    sqlite3_reset(st);
    op->u.reap.ret_len = n;
    return rc == SQLITE_DONE;
}

static bool reap_one(exj_sqlite *s, exj_reaped *r, uint32_t most)
{
    static const exj_slice code = { "LEASE_EXPIRED", 13 };
    static const exj_slice text = { "the holder's lease ended before an outcome came", 47 };
    exj_event event = r->attempt >= most ? EXJ_EV_REAP_DEAD : EXJ_EV_REAP;
    sqlite3_stmt *failure = s->st[W_FAILURE_ADD], *result = s->st[W_RESULT_ADD];

    if (exj_state_move(EXJ_RUNNING, event, &r->to, &s->err))
        return false;
    /* nonce 0: no holder may take this for an outcome of its own. */
    sqlite3_bind_int64(failure, 1, r->seq);
    sqlite3_bind_int64(failure, 2, r->token);
    sqlite3_bind_int64(failure, 3, r->attempt);
    sqlite3_bind_int64(failure, 4, s->now);
    exj_sqlite_bind(failure, 5, code);
    exj_sqlite_bind(failure, 6, text);
    sqlite3_bind_int64(failure, 7, 0);
    if (!exj_sqlite_run(s, W_FAILURE_ADD, "cannot write a failure"))
        return false;
    exj_sqlite_count(s, r->pool, EXJ_RUNNING, (int)r->to, 1);
    if (r->to == EXJ_QUEUED) {
        sqlite3_bind_int64(s->st[W_REQUEUE], 1, r->seq);
        return exj_sqlite_run(s, W_REQUEUE, "cannot queue a row again");
    }
    sqlite3_bind_int64(result, 1, r->seq);
    sqlite3_bind_int64(result, 2, (int)r->to);
    sqlite3_bind_int64(result, 3, r->attempt);
    sqlite3_bind_int64(result, 4, r->token);
    sqlite3_bind_int64(result, 5, 0);
    sqlite3_bind_int64(result, 6, s->now);
    exj_sqlite_bind(result, 7, code);
    exj_sqlite_bind(result, 8, text);
    exj_sqlite_bind(result, 9, (exj_slice){ NULL, 0 });
    if (!exj_sqlite_run(s, W_RESULT_ADD, "cannot write a result"))
        return false;
    sqlite3_bind_int64(s->st[W_LEAVE], 1, r->seq);
    return exj_sqlite_run(s, W_LEAVE, "cannot take a row out of the queue");
}

#define REAP_AT_ONCE 256

bool exj_sqlite_reap(exj_sqlite *s, exj_op *op)
{
    uint32_t most[REAP_AT_ONCE];
    exj_reaped *all = op->u.reap.ret;
    size_t n = 0, len;

    op->u.reap.ret_len = 0;
    do {
        size_t cap = op->u.reap.limit - n < REAP_AT_ONCE ? op->u.reap.limit - n : REAP_AT_ONCE;
        bool good;

        op->u.reap.ret = all + n;
        good = find_over(s, op, most, cap);
        len = op->u.reap.ret_len;
        op->u.reap.ret = all;
        for (size_t i = 0; good && i < len; i++)
            good = reap_one(s, &all[n + i], most[i]);
        if (!good) {
            op->u.reap.ret_len = 0;
            return false;
        }
        n += len;
    } while (len == REAP_AT_ONCE && n < op->u.reap.limit);
    op->u.reap.ret_len = n;
    return true;
}

#define PROMOTE_AT_ONCE 256

bool exj_sqlite_promote(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *due = s->st[W_DUE], *st = s->st[W_PROMOTE], *next = s->st[W_NEXT_DUE];
    int64_t seq[PROMOTE_AT_ONCE], pool[PROMOTE_AT_ONCE];
    size_t done = 0, n;
    int rc;

    op->u.promote.ret_promoted = 0;
    op->u.promote.ret_next_due = 0;
    do {
        size_t left = op->u.promote.limit - done;

        n = 0;
        sqlite3_bind_int64(due, 1, s->now);
        sqlite3_bind_int64(due, 2, left < PROMOTE_AT_ONCE ? (int)left : PROMOTE_AT_ONCE);
        while ((rc = sqlite3_step(due)) == SQLITE_ROW) {
            seq[n] = sqlite3_column_int64(due, 0);
            pool[n++] = sqlite3_column_int64(due, 1);
        }
        if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot look for rows that are due", &s->err);
        sqlite3_reset(due);
        if (rc != SQLITE_DONE)
            return false;
        for (size_t i = 0; i < n; i++) {
            sqlite3_bind_int64(st, 1, seq[i]);
            if (!exj_sqlite_run(s, W_PROMOTE, "cannot queue a row that is due"))
                return false;
            exj_sqlite_count(s, pool[i], EXJ_WAITING, EXJ_QUEUED, 1);
        }
        done += n;
    } while (n == PROMOTE_AT_ONCE && done < op->u.promote.limit);

    op->u.promote.ret_promoted = done;
    rc = sqlite3_step(next);
    if (rc == SQLITE_ROW)
        op->u.promote.ret_next_due = sqlite3_column_int64(next, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for the next row that is due", &s->err);
    sqlite3_reset(next);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

bool exj_sqlite_retry(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *ended = s->st[W_ENDED], *live = s->st[W_HOT_STATUS], *hot = s->st[W_HOT_ADD];
    int64_t seq = op->u.retry.seq, pool = 0;
    exj_status from = EXJ_QUEUED, to;
    bool is_ended, is_live = false;
    int64_t fence = 0;
    int rc;

    sqlite3_bind_int64(ended, 1, seq);
    rc = sqlite3_step(ended);
    is_ended = rc == SQLITE_ROW;
    if (is_ended) {
        from = (exj_status)sqlite3_column_int(ended, 0);
        fence = sqlite3_column_int64(ended, 1);
        pool = sqlite3_column_int64(ended, 2);
        sqlite3_bind_int64(hot, 4, -sqlite3_column_int64(ended, 3));
        sqlite3_bind_int64(hot, 6, sqlite3_column_int64(ended, 4));
    }
    sqlite3_reset(ended);
    if (rc == SQLITE_DONE) {
        sqlite3_bind_int64(live, 1, seq);
        rc = sqlite3_step(live);
        is_live = rc == SQLITE_ROW;
        if (is_live)
            from = (exj_status)sqlite3_column_int(live, 0);
        sqlite3_reset(live);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look at a row", &s->err);
        return false;
    }
    if (!is_ended && !is_live) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
        return true;
    }
    op->rc = exj_state_move(from, EXJ_EV_RETRY, &to, &op->err);
    if (op->rc)
        return true;
    if (!is_ended || !exj_sqlite_has_pool(s, pool)) {
        exj_err_set(&s->err, EXJ_BUG, "row %" PRId64 " may be retried but has no result", seq);
        return false;
    }
    sqlite3_bind_int64(hot, 1, seq);
    sqlite3_bind_int64(hot, 2, pool);
    sqlite3_bind_int64(hot, 3, (int)to);
    sqlite3_bind_int64(hot, 5, 0);
    sqlite3_bind_int64(hot, 7, fence);
    sqlite3_bind_int64(s->st[W_RESULT_DROP], 1, seq);
    sqlite3_bind_int64(s->st[W_RETRIED], 1, seq);
    sqlite3_bind_int64(s->st[W_RETRIED], 2, fence);
    if (!exj_sqlite_run(s, W_RESULT_DROP, "cannot drop an old result") ||
        !exj_sqlite_run(s, W_RETRIED, "cannot note a retry") ||
        !exj_sqlite_run(s, W_HOT_ADD, "cannot queue a row again"))
        return false;
    exj_sqlite_count(s, pool, (int)from, (int)to, 1);
    return true;
}
