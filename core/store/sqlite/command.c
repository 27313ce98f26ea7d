/* core/store/sqlite/command.c - idempotency keys of commands (spec 2.6). [writer] */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

static bool take(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *over = s->st[W_COMMANDS_OVER], *st = s->st[W_COMMAND];
    exj_slice key = op->u.command.key;
    bool there, ours, same = false;
    int status = 0, rc;

    op->u.command.ret_replay = false;
    exj_buf_reset(&op->u.command.ret_body); /* the transaction may be done a second time */
    sqlite3_bind_int64(over, 1, s->now);
    if (!exj_sqlite_run(s, W_COMMANDS_OVER, "cannot forget old commands"))
        return false;
    exj_sqlite_bind(st, 1, key);
    rc = sqlite3_step(st);
    there = rc == SQLITE_ROW && sqlite3_column_int64(st, 4) > s->now;
    if (there) {
        same = sqlite3_column_bytes(st, 0) == 32 &&
               memcmp(sqlite3_column_blob(st, 0), op->u.command.fingerprint, 32) == 0;
        status = sqlite3_column_int(st, 2);
        ours = sqlite3_column_int64(st, 1) == op->u.command.owner;
        if (!same) {
            op->rc = exj_err_set(&op->err, EXJ_CONFLICT,
                                 "Idempotency-Key \"%.*s\" came with another request before: "
                                 "use a new key",
                                 (int)key.n, key.p);
        } else if (status) {
            op->u.command.ret_replay = true;
            op->u.command.ret_status = (unsigned)status;
            if (!exj_buf_add_slice(&op->u.command.ret_body, exj_sqlite_column(st, 3)))
                op->rc = exj_err_set(&op->err, EXJ_NOMEM, "no memory for a stored answer");
            else
                op->rc = EXJ_CANCELLED;
        } else if (!ours) {
            op->rc = exj_err_set(&op->err, EXJ_BUSY,
                                 "the command with Idempotency-Key \"%.*s\" is still in progress",
                                 (int)key.n, key.p);
        }
    } else if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look for a command", &s->err);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return false;
    if (op->rc)
        return true;
    st = s->st[W_COMMAND_TAKE];
    exj_sqlite_bind(st, 1, key);
    sqlite3_bind_blob(st, 2, op->u.command.fingerprint, 32, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, op->u.command.owner);
    sqlite3_bind_int64(st, 4, s->now + op->u.command.keep_ms);
    return exj_sqlite_run(s, W_COMMAND_TAKE, "cannot take a command's key");
}

bool exj_sqlite_command(exj_sqlite *s, exj_op *op)
{
    enum exj_sqlite_write which = W_COMMAND_DROP;
    sqlite3_stmt *st;

    if (op->kind == EXJ_OP_COMMAND_TAKE)
        return take(s, op);
    if (op->kind == EXJ_OP_COMMAND_KEEP) {
        which = W_COMMAND_KEEP;
        if (op->u.command.answer && !op->u.command.answer(op)) {
            exj_err_set(&s->err, EXJ_NOMEM, "no memory for a command's answer");
            return false;
        }
        sqlite3_bind_int64(s->st[which], 3, op->u.command.status);
        exj_sqlite_bind(s->st[which], 4, op->u.command.body);
    }
    st = s->st[which];
    exj_sqlite_bind(st, 1, op->u.command.key);
    sqlite3_bind_int64(st, 2, op->u.command.owner);
    if (!exj_sqlite_run(s, which, "cannot end a command"))
        return false;
    if (!sqlite3_changes(s->db))
        op->rc = exj_err_set(&op->err, EXJ_FENCED,
                             "the command's key is somebody else's by now");
    return true;
}
