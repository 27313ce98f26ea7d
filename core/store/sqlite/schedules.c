/* core/store/sqlite/schedules.c - where each schedule stands, and the runs that schedules ask
 * for. What a tick means is decided elsewhere (core/job/schedule.h); here is what makes it
 * happen once: its state changes only while it is as it was read. */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

#define TIMES_MAX 1024u
#define ERROR_MAX 1024u

/* ---- writing [writer] --------------------------------------------------------------------- */

/* 0: there is no row. */
static bool number_of(exj_sqlite *s, enum exj_sqlite_write which, exj_slice id, int64_t *ret)
{
    sqlite3_stmt *st = s->st[which];
    int rc;

    exj_sqlite_bind(st, 1, id);
    rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot read a schedule", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

bool exj_sqlite_schedule_tick(exj_sqlite *s, exj_op *op)
{
    exj_slice id = op->u.tick.id, error = op->u.tick.error;
    enum exj_sqlite_write which;
    int n = id.n > 200 ? 200 : (int)id.n;
    int64_t version, turn;
    sqlite3_stmt *st;

    if (op->u.tick.times.n > TIMES_MAX) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID, "times of %zu bytes: %u are allowed",
                             op->u.tick.times.n, TIMES_MAX);
        return true;
    }
    if (error.n > ERROR_MAX)
        error.n = ERROR_MAX;
    if (!number_of(s, W_SCHEDULE_VERSION, id, &version) || !number_of(s, W_TICK_TURN, id, &turn))
        return false;
    if (!version) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no schedule \"%.*s\"", n, id.p);
        return true;
    }
    if (version != op->u.tick.version || turn != op->u.tick.turn) {
        op->rc = exj_err_set(&op->err, EXJ_CONFLICT,
                             "schedule \"%.*s\" was changed meanwhile (version %" PRId64
                             ", turn %" PRId64 "; read were %" PRId64 " and %" PRId64 ")",
                             n, id.p, version, turn, op->u.tick.version, op->u.tick.turn);
        return true;
    }
    which = turn ? W_TICK_SET : W_TICK_ADD;
    st = s->st[which];
    exj_sqlite_bind(st, 1, id);
    sqlite3_bind_int64(st, 2, version);
    sqlite3_bind_int64(st, 3, op->u.tick.last_tick);
    sqlite3_bind_int64(st, 4, op->u.tick.next_due);
    sqlite3_bind_int64(st, 5, op->u.tick.paused);
    exj_sqlite_bind(st, 6, op->u.tick.times);
    exj_sqlite_bind(st, 7, error);
    sqlite3_bind_int64(st, 8, error.n ? s->now : 0);
    sqlite3_bind_int64(st, 9, (int64_t)op->u.tick.fired);
    sqlite3_bind_int64(st, 10, (int64_t)op->u.tick.skipped);
    sqlite3_bind_int64(st, 11, op->u.tick.last_fired);
    return exj_sqlite_run(s, which, "cannot note a tick");
}

bool exj_sqlite_run_change(exj_sqlite *s, exj_op *op)
{
    enum exj_sqlite_write which = op->kind == EXJ_OP_RUN_ASK ? W_RUN_ASK : W_RUN_DONE;
    sqlite3_stmt *st = s->st[which];

    if (op->u.run.matrix.n == 0 || op->u.run.run.n == 0) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID, "a run needs a matrix and a name");
        return true;
    }
    exj_sqlite_bind(st, 1, op->u.run.matrix);
    exj_sqlite_bind(st, 2, op->u.run.run);
    if (which == W_RUN_ASK)
        sqlite3_bind_int64(st, 3, s->now);
    return exj_sqlite_run(s, which, "cannot note a run");
}

/* ---- reading [any thread] ------------------------------------------------------------------- */

static bool show(sqlite3_stmt *st, exj_schedule_visit visit, void *user)
{
    exj_schedule_view v = { .id = exj_sqlite_column(st, 0),
                            .body = exj_sqlite_column(st, 1),
                            .version = sqlite3_column_int64(st, 2),
                            .created_at = sqlite3_column_int64(st, 3),
                            .updated_at = sqlite3_column_int64(st, 4),
                            .turn = sqlite3_column_int64(st, 5) };

    if (v.turn) {
        v.seen_version = sqlite3_column_int64(st, 6);
        v.last_tick = sqlite3_column_int64(st, 7);
        v.next_due = sqlite3_column_int64(st, 8);
        v.paused = sqlite3_column_int64(st, 9) != 0;
        v.times = exj_sqlite_column(st, 10);
        v.error = exj_sqlite_column(st, 11);
        v.error_at = sqlite3_column_int64(st, 12);
        v.fired = (uint64_t)sqlite3_column_int64(st, 13);
        v.skipped = (uint64_t)sqlite3_column_int64(st, 14);
        v.last_fired = sqlite3_column_int64(st, 15);
    }
    return visit(user, &v);
}

exj_code exj_sqlite_schedule_get(exj_store *base, exj_slice id, exj_schedule_visit visit,
                                 void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_SCHEDULE, &r, &st, err);

    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, id);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        show(st, visit, user);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "no schedule \"%.*s\"",
                         id.n > 200 ? 200 : (int)id.n, id.p);
    return rc;
}

exj_code exj_sqlite_schedule_page(exj_store *base, exj_slice after_id, exj_msec due_by,
                                  size_t limit, exj_schedule_visit visit, void *user,
                                  exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc;

    if (limit < 1 || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "a page of %zu schedules: 1 to 1000 are allowed",
                           limit);
    rc = exj_sqlite_read_begin(s, due_by ? R_SCHEDULES_DUE : R_SCHEDULES, &r, &st, err);
    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, after_id);
    sqlite3_bind_int64(st, 2, (int64_t)limit);
    if (due_by)
        sqlite3_bind_int64(st, 3, due_by);
    while ((step = sqlite3_step(st)) == SQLITE_ROW)
        if (!show(st, visit, user))
            break;
    return exj_sqlite_read_end(s, r, st, step, err);
}

exj_code exj_sqlite_schedule_next(exj_store *base, exj_msec *ret, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_SCHEDULE_NEXT, &r, &st, err);
    exj_msec next = 0;

    if (rc)
        return rc;
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        next = sqlite3_column_int64(st, 0);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc)
        *ret = next;
    return rc;
}

exj_code exj_sqlite_runs(exj_store *base, exj_run_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    bool go_on = true;
    exj_code rc = EXJ_OK;

    for (int asked = 1; asked >= 0 && go_on && !rc; asked--) {
        exj_reader *r;
        sqlite3_stmt *st;
        int step;

        rc = exj_sqlite_read_begin(s, asked ? R_RUNS_ASKED : R_RUNS_OPEN, &r, &st, err);
        if (rc)
            return rc;
        while ((step = sqlite3_step(st)) == SQLITE_ROW) {
            go_on = visit(user, exj_sqlite_column(st, 0), exj_sqlite_column(st, 1), asked != 0);
            if (!go_on)
                break;
        }
        rc = exj_sqlite_read_end(s, r, st, step, err);
    }
    return rc;
}
