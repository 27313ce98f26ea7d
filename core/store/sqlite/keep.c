/* core/store/sqlite/keep.c - what a keeper does: reap, promote, resume. [writer] */
#include "core/store/sqlite/internal.h"

#define REAP_AT_ONCE 256u

static bool find_over(exj_sqlite *s, const exj_op *op, int64_t *seq, size_t cap, size_t *ret)
{
    const char *all_but = op->u.reap.all_but;
    sqlite3_stmt *st = s->st[all_but ? W_REAPABLE_BUT : W_REAPABLE];
    sqlite3_stmt *find = s->st[W_HOLDER_FIND];
    int64_t mine = 0; /* a holder never seen holds nothing: all rows are over */
    int rc;

    *ret = 0;
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
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        seq[(*ret)++] = sqlite3_column_int64(st, 0);
    if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for ended leases", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_DONE;
}

static bool reap_one(exj_sqlite *s, int64_t seq, exj_reaped *r)
{
    static const exj_slice code = EXJ_SLICE_LITERAL("LEASE_EXPIRED");
    static const exj_slice text =
        EXJ_SLICE_LITERAL("the holder's lease ended before an outcome came");
    exj_event event = EXJ_EV_REAP;
    exj_live l;
    bool found;

    if (!exj_sqlite_live(s, seq, &l, &found))
        return false;
    if (l.flags & EXJ_LIVE_CANCEL)
        event = EXJ_EV_CANCEL;
    else if (l.attempts >= l.max_attempts)
        event = EXJ_EV_REAP_DEAD;
    /* nonce 0: no holder may take this for an outcome of its own. */
    if (!exj_sqlite_add_failure(s, seq, l.token, l.attempts, 0, code, text) ||
        !exj_sqlite_move(s, &l, event, 0, code, text))
        return false;
    *r = (exj_reaped){ .seq = seq,
                       .pool = l.pool,
                       .token = l.token,
                       .attempt = l.attempts,
                       .to = l.status };
    if (l.status != EXJ_QUEUED)
        return exj_sqlite_end(s, &l, 0, code, text, (exj_slice){ NULL, 0 });
    l.nonce = 0;
    l.holder = 0;
    l.until = 0;
    return exj_sqlite_save(s, &l);
}

bool exj_sqlite_reap(exj_sqlite *s, exj_op *op)
{
    int64_t seq[REAP_AT_ONCE];
    size_t n = 0, len, cap;

    op->u.reap.ret_len = 0;
    do {
        cap = op->u.reap.limit - n < REAP_AT_ONCE ? op->u.reap.limit - n : REAP_AT_ONCE;
        if (!find_over(s, op, seq, cap, &len))
            return false;
        for (size_t i = 0; i < len; i++)
            if (!reap_one(s, seq[i], &op->u.reap.ret[n + i]))
                return false;
        n += len;
    } while (len == REAP_AT_ONCE && n < op->u.reap.limit);
    op->u.reap.ret_len = n;
    return true;
}

#define PROMOTE_AT_ONCE 256u

static bool promote_due(exj_sqlite *s, size_t limit, size_t *done)
{
    sqlite3_stmt *due = s->st[W_DUE], *st = s->st[W_PROMOTE];
    int64_t seq[PROMOTE_AT_ONCE], pool[PROMOTE_AT_ONCE];
    size_t n;
    int rc;

    do {
        size_t left = limit - *done;

        n = 0;
        sqlite3_bind_int64(due, 1, s->now);
        sqlite3_bind_int64(due, 2, left < PROMOTE_AT_ONCE ? (int64_t)left : PROMOTE_AT_ONCE);
        while ((rc = sqlite3_step(due)) == SQLITE_ROW) {
            seq[n] = sqlite3_column_int64(due, 0);
            pool[n++] = sqlite3_column_int64(due, 1);
        }
        if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot look for rows that are due", &s->err);
        sqlite3_reset(due);
        if (rc != SQLITE_DONE)
            return false;
        /* No operator sees this move, so it has no entry: only the status and the counters. */
        for (size_t i = 0; i < n; i++) {
            sqlite3_bind_int64(st, 1, seq[i]);
            if (!exj_sqlite_run(s, W_PROMOTE, "cannot queue a row that is due"))
                return false;
            exj_sqlite_count(s, pool[i], EXJ_WAITING, EXJ_QUEUED, 1);
        }
        *done += n;
    } while (n == PROMOTE_AT_ONCE && *done < limit);
    return true;
}

static bool resume_due(exj_sqlite *s, size_t limit, size_t *done)
{
    sqlite3_stmt *due = s->st[W_RESUMABLE];
    int64_t seq[PROMOTE_AT_ONCE];
    size_t n;
    int rc;

    do {
        size_t left = limit - *done;

        n = 0;
        sqlite3_bind_int64(due, 1, s->now);
        sqlite3_bind_int64(due, 2, left < PROMOTE_AT_ONCE ? (int64_t)left : PROMOTE_AT_ONCE);
        while ((rc = sqlite3_step(due)) == SQLITE_ROW)
            seq[n++] = sqlite3_column_int64(due, 0);
        if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot look for rows that resume", &s->err);
        sqlite3_reset(due);
        if (rc != SQLITE_DONE)
            return false;
        for (size_t i = 0; i < n; i++) {
            exj_live l;
            bool found;

            if (!exj_sqlite_live(s, seq[i], &l, &found) || !exj_sqlite_resume_due(s, &l))
                return false;
        }
        *done += n;
    } while (n == PROMOTE_AT_ONCE && *done < limit);
    return true;
}

/* The smaller of *ret and what the statement says; 0 and LIVE_NEVER: none. */
static bool next_due(exj_sqlite *s, enum exj_sqlite_write which, exj_msec *ret)
{
    sqlite3_stmt *st = s->st[which];
    exj_msec at = EXJ_LIVE_NEVER;
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        at = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for the next row that is due", &s->err);
    sqlite3_reset(st);
    if (at != EXJ_LIVE_NEVER && (!*ret || at < *ret))
        *ret = at;
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

bool exj_sqlite_promote(exj_sqlite *s, exj_op *op)
{
    size_t done = 0;

    op->u.promote.ret_next_due = 0;
    if (!promote_due(s, op->u.promote.limit, &done) ||
        (done < op->u.promote.limit && !resume_due(s, op->u.promote.limit, &done)))
        return false;
    op->u.promote.ret_promoted = done;
    return next_due(s, W_NEXT_DUE, &op->u.promote.ret_next_due) &&
           next_due(s, W_NEXT_RESUME, &op->u.promote.ret_next_due);
}
