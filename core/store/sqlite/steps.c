/* core/store/sqlite/steps.c - durable steps and progress. [writer] */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

static const exj_slice none = { NULL, 0 };

/* Is the step finished? */
static bool step_done(exj_sqlite *s, int64_t seq, exj_slice key, bool *ret_there, bool *ret_done)
{
    sqlite3_stmt *st = s->st[W_STEP_DONE];
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    exj_sqlite_bind(st, 2, key);
    rc = sqlite3_step(st);
    *ret_there = rc == SQLITE_ROW;
    *ret_done = rc == SQLITE_ROW && sqlite3_column_int(st, 0);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for a step", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* *ret_added false: it is finished already. */
static bool step_add(exj_sqlite *s, const exj_live *l, uint32_t attempt, exj_slice key,
                     exj_slice body, bool *ret_added)
{
    sqlite3_stmt *st = s->st[W_STEP_ADD];

    sqlite3_bind_int64(st, 1, l->seq);
    exj_sqlite_bind(st, 2, key);
    sqlite3_bind_int64(st, 3, l->token);
    sqlite3_bind_int64(st, 4, attempt);
    sqlite3_bind_int64(st, 5, s->now);
    exj_sqlite_bind(st, 6, body);
    sqlite3_bind_int64(st, 7, s->next_number); /* of the entry that follows */
    if (!exj_sqlite_run(s, W_STEP_ADD, "cannot write a step"))
        return false;
    *ret_added = sqlite3_changes(s->db) > 0;
    return !*ret_added || exj_sqlite_point(s, body);
}

bool exj_sqlite_step_put(exj_sqlite *s, exj_op *op)
{
    exj_live l;
    bool held, added;

    if (!exj_sqlite_held(s, op->u.step.seq, op->u.step.nonce, op->u.step.token, &l, &held))
        return false;
    if (!held) {
        op->u.step.verdict = EXJ_FENCED;
        return true;
    }
    if (!step_add(s, &l, op->u.step.attempt, op->u.step.key, op->u.step.body, &added))
        return false;
    op->u.step.verdict = added ? EXJ_OK : EXJ_CONFLICT;
    if (op->u.step.verdict != EXJ_OK)
        return true;
    return exj_sqlite_tell(s, &l, EXJ_ENTRY_STEP,
                           exj_sqlite_value_bytes(op->u.step.body), op->u.step.key, none) &&
           exj_sqlite_save_last(s, &l);
}

bool exj_sqlite_step_begin(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_STEP_BEGIN];
    bool held, there, done;
    exj_live l;

    op->u.step.ret_again = false;
    if (!exj_sqlite_held(s, op->u.step.seq, op->u.step.nonce, op->u.step.token, &l, &held))
        return false;
    if (!held) {
        op->u.step.verdict = EXJ_FENCED;
        return true;
    }
    if (!step_done(s, l.seq, op->u.step.key, &there, &done))
        return false;
    op->u.step.verdict = done ? EXJ_CONFLICT : EXJ_OK;
    op->u.step.ret_again = there && !done;
    if (done)
        return true;
    sqlite3_bind_int64(st, 1, l.seq);
    exj_sqlite_bind(st, 2, op->u.step.key);
    sqlite3_bind_int64(st, 3, l.token);
    sqlite3_bind_int64(st, 4, op->u.step.attempt);
    sqlite3_bind_int64(st, 5, s->now);
    sqlite3_bind_int64(st, 6, s->next_number); /* of the entry that follows */
    return exj_sqlite_run(s, W_STEP_BEGIN, "cannot begin a step") &&
           exj_sqlite_tell(s, &l, EXJ_ENTRY_STEP_BEGUN, 0, op->u.step.key, none) &&
           exj_sqlite_save_last(s, &l);
}

bool exj_sqlite_step_heard(exj_sqlite *s, exj_live *l, exj_slice name, exj_slice body)
{
    sqlite3_stmt *st = s->st[W_STEP_TIMES];
    exj_buf key = EXJ_BUF_INIT;
    int64_t times = 0;
    bool good, added = false;
    int rc;

    sqlite3_bind_int64(st, 1, l->seq);
    exj_sqlite_bind(st, 2, name);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        times = sqlite3_column_int64(st, 0);
    else
        exj_sqlite_fail(s, s->db, "cannot count waits", &s->err);
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return false;
    /* The count may be off where other names look like numbers of this one: no step that is
     * there may swallow what was heard. */
    do {
        exj_buf_reset(&key);
        exj_buf_add_slice(&key, name);
        if (times++)
            exj_buf_printf(&key, ":%" PRId64, times);
        good = !key.failed;
        if (!good)
            exj_err_set(&s->err, EXJ_NOMEM, "store %s: no memory for a step", s->path);
        good = good && step_add(s, l, l->attempts, exj_buf_slice(&key), body, &added);
    } while (good && !added);
    good = good &&
           exj_sqlite_tell(s, l, EXJ_ENTRY_STEP, (int64_t)body.n, exj_buf_slice(&key), none);
    exj_buf_release(&key);
    return good;
}

bool exj_sqlite_progress(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_PROGRESS];
    double at = op->u.progress.at;
    exj_live l;
    bool held;

    if (!exj_sqlite_held(s, op->u.progress.seq, op->u.progress.nonce, op->u.progress.token, &l,
                         &held))
        return false;
    op->u.progress.verdict = held ? EXJ_OK : EXJ_FENCED;
    if (!held)
        return true;
    if (!(at >= 0))
        at = -1;
    if (at > 1)
        at = 1;
    sqlite3_bind_int64(st, 1, l.seq);
    sqlite3_bind_int64(st, 2, l.token);
    sqlite3_bind_double(st, 3, at);
    exj_sqlite_bind(st, 4, op->u.progress.note);
    return exj_sqlite_run(s, W_PROGRESS, "cannot note progress") &&
           exj_sqlite_tell(s, &l, EXJ_ENTRY_PROGRESS, at < 0 ? -1 : (int64_t)(at * 1e6), none,
                           op->u.progress.note) &&
           exj_sqlite_save_last(s, &l);
}
