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
        else if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot find a holder", &s->err);
        sqlite3_reset(find);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return false;
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

/* No operator sees this move, so it has no entry: only the status and the counters. */
static bool promote_one(exj_sqlite *s, int64_t seq, int64_t pool)
{
    bool moved;

    sqlite3_bind_int64(s->st[W_PROMOTE], 1, seq);
    if (!exj_sqlite_run(s, W_PROMOTE, "cannot queue a row that is due"))
        return false;
    moved = sqlite3_changes(s->db) > 0;
    if (!exj_sqlite_drop_aside(s, seq))
        return false;
    if (moved) /* else the entry was wrong: nobody waits behind it */
        exj_sqlite_count(s, pool, EXJ_WAITING, EXJ_QUEUED, 1);
    return true;
}

static bool resume_one(exj_sqlite *s, int64_t seq)
{
    exj_live l;
    bool found;

    if (!exj_sqlite_live(s, seq, &l, &found))
        return false;
    if (!found || l.status != EXJ_SUSPENDED)
        return exj_sqlite_drop_aside(s, seq); /* as above */
    return exj_sqlite_resume_due(s, &l);
}

static bool go_on(exj_sqlite *s, size_t limit, size_t *done)
{
    sqlite3_stmt *due = s->st[W_DUE];
    struct {
        int64_t seq, pool;
        exj_status status;
    } rows[PROMOTE_AT_ONCE];
    size_t n;
    int rc;

    do {
        size_t left = limit - *done;

        n = 0;
        sqlite3_bind_int64(due, 1, s->now);
        sqlite3_bind_int64(due, 2, left < PROMOTE_AT_ONCE ? (int64_t)left : PROMOTE_AT_ONCE);
        while ((rc = sqlite3_step(due)) == SQLITE_ROW) {
            rows[n].seq = sqlite3_column_int64(due, 0);
            rows[n].pool = sqlite3_column_int64(due, 1);
            rows[n++].status = (exj_status)sqlite3_column_int(due, 2);
        }
        if (rc != SQLITE_DONE)
            exj_sqlite_fail(s, s->db, "cannot look for rows that are due", &s->err);
        sqlite3_reset(due);
        if (rc != SQLITE_DONE)
            return false;
        for (size_t i = 0; i < n; i++)
            if (!(rows[i].status == EXJ_WAITING ? promote_one(s, rows[i].seq, rows[i].pool)
                                                : resume_one(s, rows[i].seq)))
                return false;
        *done += n;
    } while (n == PROMOTE_AT_ONCE && *done < limit);
    return true;
}

bool exj_sqlite_promote(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *next = s->st[W_NEXT_DUE];
    size_t done = 0;
    int rc;

    op->u.promote.ret_next_due = 0;
    if (!go_on(s, op->u.promote.limit, &done))
        return false;
    op->u.promote.ret_promoted = done;
    rc = sqlite3_step(next);
    if (rc == SQLITE_ROW)
        op->u.promote.ret_next_due = sqlite3_column_int64(next, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for the next row that is due", &s->err);
    sqlite3_reset(next);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}
