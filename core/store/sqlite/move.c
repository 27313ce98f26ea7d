/* core/store/sqlite/move.c - one row changes its state. [writer]
 *
 * Every move goes through exj_sqlite_move, which asks the table of core/job/state.h, writes
 * the entry of the journal and keeps the counters. Then the row is saved where it belongs:
 * in exj_hot while something may still happen to it by itself, in exj_results otherwise.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

bool exj_sqlite_live(exj_sqlite *s, int64_t seq, exj_live *ret, bool *ret_found)
{
    sqlite3_stmt *st = s->st[W_LIVE];
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = (exj_live){ .seq = seq,
                           .pool = sqlite3_column_int64(st, 0),
                           .status = (exj_status)sqlite3_column_int(st, 1),
                           .run_after = sqlite3_column_int64(st, 2),
                           .attempts = (uint32_t)sqlite3_column_int64(st, 3),
                           .max_attempts = (uint32_t)sqlite3_column_int64(st, 4),
                           .token = sqlite3_column_int64(st, 5),
                           .nonce = sqlite3_column_int64(st, 6),
                           .holder = sqlite3_column_int64(st, 7),
                           .until = sqlite3_column_int64(st, 8),
                           .flags = (uint32_t)sqlite3_column_int64(st, 9),
                           .ckey = sqlite3_column_int64(st, 10),
                           .last = sqlite3_column_int64(st, 11),
                           .rank = sqlite3_column_int64(st, 12) };
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look at a row", &s->err);
    sqlite3_reset(st);
    *ret_found = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

bool exj_sqlite_held(exj_sqlite *s, int64_t seq, int64_t nonce, int64_t token, exj_live *ret,
                     bool *ret_found)
{
    if (!exj_sqlite_live(s, seq, ret, ret_found))
        return false;
    *ret_found = *ret_found && ret->status == EXJ_RUNNING && ret->nonce == nonce &&
                 nonce != 0 && ret->token == token;
    return true;
}

bool exj_sqlite_tell(exj_sqlite *s, exj_live *l, exj_entry_kind kind, int64_t value,
                     exj_slice key, exj_slice text)
{
    exj_journal_entry e = { .kind = kind,
                    .previous = l->last,
                    .seq = l->seq,
                    .token = l->token,
                    .attempt = l->attempts,
                    .value = value,
                    .key = key,
                    .text = text };

    return exj_sqlite_note(s, e, &l->last);
}

static bool is_aside(exj_status s)
{
    return s == EXJ_WAITING || s == EXJ_SUSPENDED || s == EXJ_PARKED;
}

bool exj_sqlite_put_aside(exj_sqlite *s, const exj_live *l)
{
    sqlite3_stmt *st = s->st[W_ASIDE];

    sqlite3_bind_int64(st, 1, l->seq);
    sqlite3_bind_int64(st, 2, l->pool);
    sqlite3_bind_int64(st, 3, (int)l->status);
    if (l->status == EXJ_PARKED || l->run_after == EXJ_LIVE_NEVER)
        sqlite3_bind_null(st, 4);
    else
        sqlite3_bind_int64(st, 4, l->run_after);
    sqlite3_bind_int64(st, 5, l->ckey);
    sqlite3_bind_int64(st, 6, l->rank);
    return exj_sqlite_run(s, W_ASIDE, "cannot put a row aside");
}

bool exj_sqlite_drop_aside(exj_sqlite *s, int64_t seq)
{
    sqlite3_bind_int64(s->st[W_ASIDE_DROP], 1, seq);
    return exj_sqlite_run(s, W_ASIDE_DROP, "cannot take a row back");
}

bool exj_sqlite_move(exj_sqlite *s, exj_live *l, exj_event event, int64_t value, exj_slice key,
                     exj_slice text)
{
    exj_status from = l->status;
    exj_entry_kind kind;

    if (exj_state_move(from, event, &l->status, &s->err) != EXJ_OK) {
        s->err.code = EXJ_BUG; /* whoever lets an operator do this asks the table before */
        return false;
    }
    if (l->status != from)
        exj_sqlite_count(s, l->pool, (int)from, (int)l->status, 1);
    if (is_aside(from) && !exj_sqlite_drop_aside(s, l->seq))
        return false;
    if (exj_entry_of(event, &kind) && !exj_sqlite_tell(s, l, kind, value, key, text))
        return false;
    if (!l->ckey)
        return true;
    if (from == EXJ_RUNNING && l->status != EXJ_RUNNING)
        return exj_sqlite_ckey_leave(s, l->ckey);
    /* Perhaps it had been let in for a place that another may have now. */
    return from != EXJ_QUEUED || l->status == EXJ_PARKED || exj_sqlite_ckey_pass(s, l->ckey);
}

bool exj_sqlite_save(exj_sqlite *s, const exj_live *l)
{
    sqlite3_stmt *st = s->st[W_LIVE_SET];

    sqlite3_bind_int64(st, 1, l->seq);
    sqlite3_bind_int64(st, 2, (int)l->status);
    sqlite3_bind_int64(st, 3, l->run_after);
    sqlite3_bind_int64(st, 4, l->attempts);
    sqlite3_bind_int64(st, 5, l->token);
    sqlite3_bind_int64(st, 6, l->nonce);
    sqlite3_bind_int64(st, 7, l->holder);
    sqlite3_bind_int64(st, 8, l->until);
    sqlite3_bind_int64(st, 9, l->flags);
    sqlite3_bind_int64(st, 10, l->last);
    return exj_sqlite_run(s, W_LIVE_SET, "cannot change a row") &&
           (!is_aside(l->status) || exj_sqlite_put_aside(s, l));
}

bool exj_sqlite_save_last(exj_sqlite *s, const exj_live *l)
{
    sqlite3_bind_int64(s->st[W_LAST], 1, l->seq);
    sqlite3_bind_int64(s->st[W_LAST], 2, l->last);
    return exj_sqlite_run(s, W_LAST, "cannot change a row");
}

bool exj_sqlite_end(exj_sqlite *s, const exj_live *l, int64_t nonce, exj_slice code,
                    exj_slice text, exj_slice body)
{
    sqlite3_stmt *st = s->st[W_RESULT_ADD];

    sqlite3_bind_int64(st, 1, l->seq);
    sqlite3_bind_int64(st, 2, (int)l->status);
    sqlite3_bind_int64(st, 3, l->attempts);
    sqlite3_bind_int64(st, 4, l->token);
    sqlite3_bind_int64(st, 5, nonce);
    sqlite3_bind_int64(st, 6, s->now);
    exj_sqlite_bind(st, 7, code);
    exj_sqlite_bind(st, 8, text);
    exj_sqlite_bind(st, 9, body);
    sqlite3_bind_int64(st, 10, l->last);
    if (!exj_sqlite_run(s, W_RESULT_ADD, "cannot write a result") || !exj_sqlite_point(s, body))
        return false;
    sqlite3_bind_int64(s->st[W_LEAVE], 1, l->seq);
    if (!exj_sqlite_run(s, W_LEAVE, "cannot take a row out of the queue"))
        return false;
    return !(l->flags & EXJ_LIVE_UNIQUE) || !exj_status_is_terminal(l->status) ||
           exj_sqlite_unique_end(s, l);
}

bool exj_sqlite_add_failure(exj_sqlite *s, int64_t seq, int64_t token, uint32_t attempt,
                            int64_t nonce, exj_slice code, exj_slice text)
{
    sqlite3_stmt *st = s->st[W_FAILURE_ADD];

    sqlite3_bind_int64(st, 1, seq);
    sqlite3_bind_int64(st, 2, token);
    sqlite3_bind_int64(st, 3, attempt);
    sqlite3_bind_int64(st, 4, s->now);
    exj_sqlite_bind(st, 5, code);
    exj_sqlite_bind(st, 6, text);
    sqlite3_bind_int64(st, 7, nonce);
    return exj_sqlite_run(s, W_FAILURE_ADD, "cannot write a failure");
}

/* The keys that the row carries; both empty when it carries none. Texts live until the
 * statement is used again. */
static bool extras(exj_sqlite *s, int64_t seq, exj_slice *ret_ukey, exj_slice *ret_ckey)
{
    sqlite3_stmt *st = s->st[W_EXTRAS];
    int rc;

    sqlite3_reset(st);
    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    *ret_ukey = *ret_ckey = (exj_slice){ NULL, 0 };
    if (rc == SQLITE_ROW) {
        *ret_ukey = exj_sqlite_column(st, 0);
        *ret_ckey = exj_sqlite_column(st, 1);
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look at a row's keys", &s->err);
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool take_keys(exj_sqlite *s, exj_op *op, exj_live *l)
{
    exj_slice ukey, ckey;
    int64_t by = 0;
    bool good = extras(s, l->seq, &ukey, &ckey);

    if (good && ukey.n) {
        good = exj_sqlite_unique_taken(s, l->pool, ukey, l->seq, &by);
        if (good && by)
            op->rc = exj_err_set(&op->err, EXJ_REFUSED,
                                 "row %" PRId64 " cannot come back: its unique key \"%.*s\" "
                                 "belongs to row %" PRId64 " now",
                                 l->seq, ukey.n > 100 ? 100 : (int)ukey.n, ukey.p, by);
        else if (good)
            good = exj_sqlite_unique_back(s, l->pool, ukey, l->seq);
        l->flags |= EXJ_LIVE_UNIQUE;
    }
    if (good && !op->rc && ckey.n)
        good = exj_sqlite_ckey_id(s, l->pool, ckey, &l->ckey);
    sqlite3_reset(s->st[W_EXTRAS]);
    return good;
}

bool exj_sqlite_drop_result(exj_sqlite *s, int64_t seq)
{
    s->collect = true; /* its value, and of a rerun those of its steps, may be nobody's now */
    sqlite3_bind_int64(s->st[W_RESULT_DROP], 1, seq);
    sqlite3_bind_int64(s->st[W_WAIT_DROP], 1, seq);
    return exj_sqlite_run(s, W_RESULT_DROP, "cannot drop an old result") &&
           exj_sqlite_run(s, W_WAIT_DROP, "cannot drop a wait");
}

bool exj_sqlite_come_back(exj_sqlite *s, exj_op *op, int64_t seq, exj_event event,
                          exj_slice key, exj_live *l, bool *ret_found)
{
    sqlite3_stmt *st = s->st[W_ENDED], *hot = s->st[W_HOT_ADD];
    exj_status to;
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *l = (exj_live){ .seq = seq,
                         .status = (exj_status)sqlite3_column_int(st, 0),
                         .token = sqlite3_column_int64(st, 1),
                         .pool = sqlite3_column_int64(st, 2),
                         .rank = -sqlite3_column_int64(st, 3),
                         .max_attempts = (uint32_t)sqlite3_column_int64(st, 4),
                         .last = sqlite3_column_int64(st, 5) };
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look at an ended row", &s->err);
    sqlite3_reset(st);
    *ret_found = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE;
    op->rc = exj_state_move(l->status, event, &to, &op->err);
    if (op->rc)
        return true;
    if (!take_keys(s, op, l))
        return false;
    if (op->rc)
        return true;
    if (event == EXJ_EV_RERUN)
        l->token++; /* whoever ran it before is fenced from here on */
    if (!exj_sqlite_drop_result(s, seq) ||
        !exj_sqlite_move(s, l, event, 0, key, (exj_slice){ NULL, 0 }))
        return false;
    sqlite3_bind_int64(hot, 1, seq);
    sqlite3_bind_int64(hot, 2, l->pool);
    sqlite3_bind_int64(hot, 3, (int)l->status);
    sqlite3_bind_int64(hot, 4, l->rank);
    sqlite3_bind_int64(hot, 5, 0);
    sqlite3_bind_int64(hot, 6, l->max_attempts);
    sqlite3_bind_int64(hot, 7, l->token);
    sqlite3_bind_int64(hot, 8, l->last);
    sqlite3_bind_int64(hot, 9, l->flags);
    sqlite3_bind_int64(hot, 10, l->ckey);
    return exj_sqlite_run(s, W_HOT_ADD, "cannot queue a row again");
}
