/* core/store/sqlite/wait.c - rows that wait for something outside, and signals. [writer]
 *
 * A suspended row stays in exj_hot, under an index of its own by when it resumes: no thread,
 * no slot, no lease, and nothing in memory. What ended a wait is a step of the row that the
 * store writes ("signal:NAME", "timer"; the second of a name "signal:NAME:2", …), so the next
 * attempt finds it where it finds its own steps:
 *
 *     {"payload":…}      the signal came
 *     {"timeout":true}   its time ran out
 *     {"resumeAt":ms}    the time came
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdio.h>

static const exj_slice none = { NULL, 0 };

struct wait {
    exj_wait_kind kind;
    exj_buf signal; /* owned */
};

static bool wait_of(exj_sqlite *s, int64_t seq, struct wait *ret, bool *ret_found)
{
    sqlite3_stmt *st = s->st[W_WAIT];
    bool good = true;
    int rc;

    *ret = (struct wait){ .kind = EXJ_WAIT_TIME, .signal = EXJ_BUF_INIT };
    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    *ret_found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        ret->kind = (exj_wait_kind)sqlite3_column_int(st, 0);
        exj_buf_add_slice(&ret->signal, exj_sqlite_column(st, 1));
        if (ret->signal.failed) {
            exj_err_set(&s->err, EXJ_NOMEM, "store %s: no memory for a wait", s->path);
            good = false;
        }
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look at a wait", &s->err);
        good = false;
    }
    sqlite3_reset(st);
    return good;
}

static bool drop_wait(exj_sqlite *s, int64_t seq)
{
    sqlite3_bind_int64(s->st[W_WAIT_DROP], 1, seq);
    return exj_sqlite_run(s, W_WAIT_DROP, "cannot drop a wait");
}

static bool set_wait(exj_sqlite *s, int64_t seq, exj_wait_kind kind, exj_slice signal)
{
    sqlite3_stmt *st = s->st[W_WAIT_SET];

    sqlite3_bind_int64(st, 1, seq);
    sqlite3_bind_int64(st, 2, (int)kind);
    exj_sqlite_bind(st, 3, signal);
    return exj_sqlite_run(s, W_WAIT_SET, "cannot note a wait");
}

/* Write what ended a wait as a step: `prefix` + name -> {"`member`":`value`}. */
static bool heard(exj_sqlite *s, exj_live *l, const char *prefix, exj_slice name,
                  const char *member, exj_slice value)
{
    exj_buf key = EXJ_BUF_INIT, body = EXJ_BUF_INIT;
    bool good;

    exj_buf_add_text(&key, prefix);
    exj_buf_add_slice(&key, name);
    exj_buf_printf(&body, "{\"%s\":", member);
    exj_buf_add_slice(&body, value);
    exj_buf_add_char(&body, '}');
    good = !key.failed && !body.failed;
    if (!good)
        exj_err_set(&s->err, EXJ_NOMEM, "store %s: no memory for a signal", s->path);
    good = good && exj_sqlite_step_heard(s, l, exj_buf_slice(&key), exj_buf_slice(&body));
    exj_buf_release(&key);
    exj_buf_release(&body);
    return good;
}

/* The row goes on: queued, at once. */
static bool go_on(exj_sqlite *s, exj_live *l, exj_slice signal, const char *why)
{
    l->run_after = 0;
    return drop_wait(s, l->seq) &&
           exj_sqlite_move(s, l, EXJ_EV_RESUME, 0, signal, exj_slice_of(why));
}

/* The oldest signal of that name which was kept for the row. *ret_id 0: none. The body lives
 * until the statement is reset. */
static bool kept_signal(exj_sqlite *s, int64_t seq, exj_slice name, int64_t *ret_id,
                        exj_slice *ret_body)
{
    sqlite3_stmt *st = s->st[W_SIGNAL_KEPT];
    int rc;

    sqlite3_bind_int64(st, 1, seq);
    exj_sqlite_bind(st, 2, name);
    rc = sqlite3_step(st);
    *ret_id = 0;
    if (rc == SQLITE_ROW) {
        *ret_id = sqlite3_column_int64(st, 0);
        *ret_body = exj_sqlite_column(st, 1);
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look for a signal", &s->err);
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

bool exj_sqlite_suspend(exj_sqlite *s, exj_live *l, const exj_outcome *o)
{
    exj_msec due = o->run_after ? o->run_after : EXJ_LIVE_NEVER;
    exj_slice body = none;
    int64_t kept = 0;
    bool good;

    if (!exj_sqlite_move(s, l, EXJ_EV_SUSPEND, o->run_after, o->signal, none))
        return false;
    if (l->attempts)
        l->attempts--; /* it did not fail: the attempt does not count */
    l->nonce = 0;
    l->holder = 0;
    l->until = 0;
    l->run_after = due;
    if (o->signal.n) {
        good = kept_signal(s, l->seq, o->signal, &kept, &body);
        if (good && kept)
            good = heard(s, l, "signal:", o->signal, "payload", body);
        sqlite3_reset(s->st[W_SIGNAL_KEPT]);
        if (!good)
            return false;
    }
    if (kept) {
        sqlite3_bind_int64(s->st[W_SIGNAL_DROP], 1, kept);
        return exj_sqlite_run(s, W_SIGNAL_DROP, "cannot drop a signal") &&
               go_on(s, l, o->signal, "signal") && exj_sqlite_save(s, l);
    }
    return set_wait(s, l->seq, o->wait, o->signal) && exj_sqlite_save(s, l);
}

bool exj_sqlite_resume_due(exj_sqlite *s, exj_live *l)
{
    static const char *const words[] = { [EXJ_WAIT_TIME] = "time",
                                         [EXJ_WAIT_SIGNAL] = "timeout",
                                         [EXJ_WAIT_POLL] = "poll" };
    exj_slice name;
    char at[24];
    struct wait w;
    bool found, good = wait_of(s, l->seq, &w, &found);

    name = exj_buf_slice(&w.signal);
    snprintf(at, sizeof(at), "%" PRId64, l->run_after);
    if (good && w.kind == EXJ_WAIT_SIGNAL)
        good = heard(s, l, "signal:", name, "timeout", EXJ_SLICE_LITERAL("true"));
    else if (good && w.kind == EXJ_WAIT_TIME)
        good = heard(s, l, "timer", none, "resumeAt", exj_slice_of(at));
    good = good && go_on(s, l, name, words[w.kind]) && exj_sqlite_save(s, l);
    exj_buf_release(&w.signal);
    return good;
}

/* ---- a signal comes ------------------------------------------------------------------------ */

static bool keep(exj_sqlite *s, exj_op *op, exj_live *l)
{
    sqlite3_stmt *count = s->st[W_SIGNAL_COUNT], *add = s->st[W_SIGNAL_ADD];
    int64_t kept = 0;
    int rc;

    sqlite3_bind_int64(count, 1, l->seq);
    rc = sqlite3_step(count);
    if (rc == SQLITE_ROW)
        kept = sqlite3_column_int64(count, 0);
    else
        exj_sqlite_fail(s, s->db, "cannot count signals", &s->err);
    sqlite3_reset(count);
    if (rc != SQLITE_ROW)
        return false;
    if (kept >= EXJ_STORE_SIGNALS_KEPT) {
        op->rc = exj_err_set(&op->err, EXJ_REFUSED,
                             "%d signals are kept for the row already: it has to wait for some "
                             "of them first",
                             EXJ_STORE_SIGNALS_KEPT);
        return true;
    }
    sqlite3_bind_int64(add, 1, l->seq);
    exj_sqlite_bind(add, 2, op->u.signal.name);
    sqlite3_bind_int64(add, 3, s->now);
    exj_sqlite_bind(add, 4, op->u.signal.body);
    return exj_sqlite_run(s, W_SIGNAL_ADD, "cannot keep a signal") &&
           exj_sqlite_tell(s, l, EXJ_ENTRY_SIGNAL, (int64_t)op->u.signal.body.n,
                           op->u.signal.name, none) &&
           exj_sqlite_save_last(s, l);
}

/* A blocked row is among the results. */
static bool release_blocked(exj_sqlite *s, exj_op *op)
{
    int64_t seq = op->u.signal.seq;
    struct wait w;
    exj_live l = { 0 };
    exj_slice only;
    bool found = false, good = wait_of(s, seq, &w, &found);

    only = exj_buf_slice(&w.signal);
    if (good && found && only.n &&
        (only.n != op->u.signal.name.n || memcmp(only.p, op->u.signal.name.p, only.n) != 0))
        op->rc = exj_err_set(&op->err, EXJ_REFUSED, "the row waits for the signal \"%.*s\"",
                             only.n > 100 ? 100 : (int)only.n, only.p);
    exj_buf_release(&w.signal);
    if (!good || op->rc)
        return good;
    if (!exj_sqlite_come_back(s, op, seq, EXJ_EV_UNBLOCK, op->u.signal.name, &l, &found))
        return false;
    if (!found)
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
    if (op->rc)
        return true;
    op->u.signal.ret_delivered = true;
    op->u.signal.ret_pool = l.pool;
    op->u.signal.ret_to = l.status;
    return heard(s, &l, "signal:", op->u.signal.name, "payload", op->u.signal.body) &&
           exj_sqlite_save_last(s, &l);
}

bool exj_sqlite_signal(exj_sqlite *s, exj_op *op)
{
    exj_slice name = op->u.signal.name;
    bool found, waits, mine, good;
    struct wait w;
    exj_live l;

    op->u.signal.ret_delivered = false;
    if (!exj_sqlite_live(s, op->u.signal.seq, &l, &found))
        return false;
    if (!found)
        return release_blocked(s, op);
    op->u.signal.ret_pool = l.pool;
    op->u.signal.ret_to = l.status;
    if (l.status != EXJ_SUSPENDED)
        return keep(s, op, &l);
    good = wait_of(s, l.seq, &w, &waits);
    /* A row from before version 4 waits for nothing in particular: any signal will do. */
    mine = !waits || (w.kind == EXJ_WAIT_SIGNAL && w.signal.n == name.n &&
                      memcmp(w.signal.p, name.p, name.n) == 0);
    exj_buf_release(&w.signal);
    if (!good || !mine)
        return good && keep(s, op, &l);
    op->u.signal.ret_delivered = true;
    good = exj_sqlite_tell(s, &l, EXJ_ENTRY_SIGNAL, (int64_t)op->u.signal.body.n, name, none) &&
           heard(s, &l, "signal:", name, "payload", op->u.signal.body) &&
           go_on(s, &l, name, "signal") && exj_sqlite_save(s, &l);
    op->u.signal.ret_to = l.status;
    return good;
}
