/* core/store/sqlite/order.c - what an operator orders of a row: retry, rerun, cancel.
 * [writer] */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

static const exj_slice none = { NULL, 0 };

/* Sets op->rc for a row that is not in exj_results: it is live, or there is none. */
static bool refuse_live(exj_sqlite *s, exj_op *op, int64_t seq, exj_event event)
{
    exj_status to;
    exj_live l;
    bool found;

    if (!exj_sqlite_live(s, seq, &l, &found))
        return false;
    if (!found) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
        return true;
    }
    op->rc = exj_state_move(l.status, event, &to, &op->err);
    if (!op->rc)
        op->rc = exj_err_set(&op->err, EXJ_BUG, "row %" PRId64 " has no result", seq);
    return true;
}

static bool note_retry(exj_sqlite *s, const exj_live *l)
{
    sqlite3_bind_int64(s->st[W_RETRIED], 1, l->seq);
    sqlite3_bind_int64(s->st[W_RETRIED], 2, l->token);
    return exj_sqlite_run(s, W_RETRIED, "cannot note a retry");
}

bool exj_sqlite_retry(exj_sqlite *s, exj_op *op)
{
    int64_t seq = op->u.retry.seq;
    exj_live l;
    bool found;

    if (!exj_sqlite_come_back(s, op, seq, EXJ_EV_RETRY, none, &l, &found))
        return false;
    if (!found)
        return refuse_live(s, op, seq, EXJ_EV_RETRY);
    return op->rc || note_retry(s, &l);
}

static bool count_steps(exj_sqlite *s, int64_t seq, int64_t *ret)
{
    sqlite3_stmt *st = s->st[W_STEPS_COUNT];
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (rc != SQLITE_ROW)
        exj_sqlite_fail(s, s->db, "cannot count steps", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW;
}

/* The number from which on steps are forgotten: all of them when `step` is empty. */
static bool find_step(exj_sqlite *s, exj_op *op, int64_t seq, int64_t *ret)
{
    sqlite3_stmt *find = s->st[W_STEP_DONE];
    exj_slice step = op->u.rerun.step;
    int rc;

    *ret = 0;
    if (!step.n)
        return true;
    sqlite3_bind_int64(find, 1, seq);
    exj_sqlite_bind(find, 2, step);
    rc = sqlite3_step(find);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(find, 1);
    else if (rc == SQLITE_DONE)
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND,
                             "the row has no step \"%.*s\": journal show lists those it has",
                             step.n > 200 ? 200 : (int)step.n, step.p);
    else
        exj_sqlite_fail(s, s->db, "cannot look for a step", &s->err);
    sqlite3_reset(find);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool drop_steps(exj_sqlite *s, exj_op *op, int64_t seq, int64_t from)
{
    sqlite3_stmt *drop = s->st[W_STEPS_DROP];
    int64_t before = 0, after = 0;

    sqlite3_bind_int64(drop, 1, seq);
    sqlite3_bind_int64(drop, 2, from);
    if (!count_steps(s, seq, &before) || !exj_sqlite_run(s, W_STEPS_DROP, "cannot drop steps") ||
        !count_steps(s, seq, &after))
        return false;
    op->u.rerun.ret_kept = (size_t)after;
    op->u.rerun.ret_dropped = (size_t)(before - after);
    return true;
}

bool exj_sqlite_rerun(exj_sqlite *s, exj_op *op)
{
    int64_t seq = op->u.rerun.seq;
    sqlite3_stmt *st = s->st[W_ENDED];
    exj_status status = EXJ_QUEUED, to;
    int64_t token = 0, from;
    exj_live l;
    bool found;
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        status = (exj_status)sqlite3_column_int(st, 0);
        token = sqlite3_column_int64(st, 1);
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look at an ended row", &s->err);
    }
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        return refuse_live(s, op, seq, EXJ_EV_RERUN);
    if (rc != SQLITE_ROW)
        return false;
    op->rc = exj_state_move(status, EXJ_EV_RERUN, &to, &op->err);
    if (!op->rc && token == 0)
        op->rc = exj_err_set(&op->err, EXJ_REFUSED,
                             "the row has never run: there is nothing to run again; retry it");
    if (op->rc)
        return true;
    if (!find_step(s, op, seq, &from))
        return false;
    if (op->rc)
        return true;
    return exj_sqlite_come_back(s, op, seq, EXJ_EV_RERUN, op->u.rerun.step, &l, &found) &&
           (op->rc || (drop_steps(s, op, seq, from) && note_retry(s, &l)));
}

/* ---- cancel ------------------------------------------------------------------------------- */

static const exj_slice canceled = { "Canceled", 8 };

/* A blocked row has a result already: it becomes another one. */
static bool cancel_ended(exj_sqlite *s, exj_op *op)
{
    int64_t seq = op->u.cancel.seq;
    sqlite3_stmt *st = s->st[W_ENDED];
    exj_live l = { .seq = seq };
    exj_status to;
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        l.status = (exj_status)sqlite3_column_int(st, 0);
        l.token = sqlite3_column_int64(st, 1);
        l.pool = sqlite3_column_int64(st, 2);
        l.last = sqlite3_column_int64(st, 5);
        l.attempts = (uint32_t)sqlite3_column_int64(st, 6);
        l.flags = EXJ_LIVE_UNIQUE; /* perhaps; asked for by its seq */
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look at an ended row", &s->err);
    }
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
    else if (rc == SQLITE_ROW)
        op->rc = exj_state_move(l.status, EXJ_EV_CANCEL, &to, &op->err);
    if (rc != SQLITE_ROW || op->rc)
        return rc == SQLITE_ROW || rc == SQLITE_DONE;
    op->u.cancel.ret_pool = l.pool;
    op->u.cancel.ret_to = EXJ_CANCELED;
    return exj_sqlite_drop_result(s, seq) &&
           exj_sqlite_move(s, &l, EXJ_EV_CANCEL, 0, none, op->u.cancel.why) &&
           exj_sqlite_end(s, &l, 0, canceled, op->u.cancel.why, none);
}

bool exj_sqlite_cancel(exj_sqlite *s, exj_op *op)
{
    exj_slice why = op->u.cancel.why;
    exj_status to;
    exj_live l;
    bool found;

    if (!exj_sqlite_live(s, op->u.cancel.seq, &l, &found))
        return false;
    if (!found)
        return cancel_ended(s, op);
    op->u.cancel.ret_pool = l.pool;
    op->u.cancel.ret_to = EXJ_RUNNING;
    if (l.status == EXJ_RUNNING) {
        if (l.flags & EXJ_LIVE_CANCEL)
            return true; /* asked before */
        l.flags |= EXJ_LIVE_CANCEL;
        return exj_sqlite_move(s, &l, EXJ_EV_CANCEL_ASK, 0, none, why) && exj_sqlite_save(s, &l);
    }
    op->rc = exj_state_move(l.status, EXJ_EV_CANCEL, &to, &op->err);
    if (op->rc)
        return true;
    op->u.cancel.ret_to = to;
    if (l.status == EXJ_SUSPENDED) {
        sqlite3_bind_int64(s->st[W_WAIT_DROP], 1, l.seq);
        if (!exj_sqlite_run(s, W_WAIT_DROP, "cannot drop a wait"))
            return false;
    }
    return exj_sqlite_move(s, &l, EXJ_EV_CANCEL, 0, none, why) &&
           exj_sqlite_end(s, &l, 0, canceled, why, none);
}
