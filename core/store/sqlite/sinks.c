/* core/store/sqlite/sinks.c - how far event sinks are, and what they could not deliver. */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

/* ---- writing [writer] --------------------------------------------------------------------- */

/* How many more dead letters the sink may have. */
static bool dead_room(exj_sqlite *s, const exj_op *op, int64_t *ret)
{
    sqlite3_stmt *st = s->st[W_DEAD_COUNT];
    int64_t most = op->u.sink.dead_most ? op->u.sink.dead_most : EXJ_STORE_DEAD_MOST;
    int rc;

    exj_sqlite_bind(st, 1, op->u.sink.name);
    sqlite3_bind_int64(st, 2, most);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = most - sqlite3_column_int64(st, 0);
    else
        exj_sqlite_fail(s, s->db, "cannot count the dead letters of a sink", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW;
}

/* `dead`: to the dead letters, where it has room there. */
static bool save_item(exj_sqlite *s, exj_slice sink, const exj_sink_item *i, bool dead)
{
    bool kept = i->fate == EXJ_SINK_DEAD && !dead;
    sqlite3_stmt *st;

    if (i->fate != EXJ_SINK_HOLD && !kept) { /* what was never held is not there: no matter */
        st = s->st[W_HELD_DROP];
        exj_sqlite_bind(st, 1, sink);
        sqlite3_bind_int64(st, 2, i->number);
        if (!exj_sqlite_run(s, W_HELD_DROP, "cannot let go of an event"))
            return false;
        if (!dead)
            return true;
    }
    st = s->st[dead ? W_DEAD_PUT : W_HELD_PUT];
    exj_sqlite_bind(st, 1, sink);
    sqlite3_bind_int64(st, 2, i->number);
    sqlite3_bind_int64(st, 3, i->seq);
    sqlite3_bind_int64(st, 4, i->tries);
    sqlite3_bind_int64(st, 5, dead   ? s->now
                              : kept ? s->now + EXJ_STORE_DEAD_AGAIN_MS
                                     : i->at);
    exj_sqlite_bind(st, 6, i->error);
    exj_sqlite_bind(st, 7, i->body);
    return exj_sqlite_run(s, dead ? W_DEAD_PUT : W_HELD_PUT, "cannot keep an event of a sink");
}

bool exj_sqlite_sink_save(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st = s->st[W_SINK_SET];
    exj_slice name = op->u.sink.name;
    int64_t room = -1; /* -1: not yet counted */

    op->u.sink.ret_kept = 0;
    if (name.n == 0 || name.n > 64) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID, "a sink's name has 1 to 64 bytes, not %zu",
                             name.n);
        return true;
    }
    exj_sqlite_bind(st, 1, name);
    sqlite3_bind_int64(st, 2, op->u.sink.position);
    if (!exj_sqlite_run(s, W_SINK_SET, "cannot save how far a sink is"))
        return false;
    for (size_t k = 0; k < op->u.sink.len; k++) {
        const exj_sink_item *i = &op->u.sink.items[k];
        bool dead = i->fate == EXJ_SINK_DEAD;

        if (dead && room < 0 && !dead_room(s, op, &room))
            return false;
        if (dead && room == 0) {
            op->u.sink.ret_kept++;
            dead = false;
        } else if (dead) {
            room--;
        }
        if (!save_item(s, name, i, dead))
            return false;
    }
    return true;
}

bool exj_sqlite_dead(exj_sqlite *s, exj_op *op)
{
    sqlite3_stmt *st;

    if (op->kind == EXJ_OP_DEAD_REPLAY) {
        st = s->st[W_DEAD_REPLAY];
        sqlite3_bind_int64(st, 1, op->u.dead.id);
        sqlite3_bind_int64(st, 2, s->now);
        if (!exj_sqlite_run(s, W_DEAD_REPLAY, "cannot replay a dead letter"))
            return false;
    }
    sqlite3_bind_int64(s->st[W_DEAD_DROP], 1, op->u.dead.id);
    if (!exj_sqlite_run(s, W_DEAD_DROP, "cannot drop a dead letter"))
        return false;
    if (!sqlite3_changes(s->db))
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no dead letter %" PRId64, op->u.dead.id);
    return true;
}

/* ---- reading [any thread] ------------------------------------------------------------------- */

exj_code exj_sqlite_sink_get(exj_store *base, exj_slice name, int64_t *ret_position,
                             exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_SINK, &r, &st, err);

    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, name);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        *ret_position = sqlite3_column_int64(st, 0);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "no sink \"%.*s\" has saved anything",
                         name.n > 64 ? 64 : (int)name.n, name.p);
    return rc;
}

exj_code exj_sqlite_undelivered(exj_store *base, exj_slice sink, size_t limit,
                                exj_undelivered_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc;

    if (limit < 1 || limit > 100000)
        return exj_err_set(err, EXJ_INVALID, "%zu events: 1 to 100000 are allowed", limit);
    rc = exj_sqlite_read_begin(s, R_HELD, &r, &st, err);
    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, sink);
    sqlite3_bind_int64(st, 2, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_undelivered_view v = { .number = sqlite3_column_int64(st, 0),
                                   .seq = sqlite3_column_int64(st, 1),
                                   .tries = (uint32_t)sqlite3_column_int64(st, 2),
                                   .at = sqlite3_column_int64(st, 3),
                                   .error = exj_sqlite_column(st, 4),
                                   .body = exj_sqlite_column(st, 5) };

        if (!visit(user, &v))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}

exj_code exj_sqlite_dead_page(exj_store *base, exj_slice sink, int64_t after_id, size_t limit,
                              exj_dead_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc;

    if (limit < 1 || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "a page of %zu dead letters: 1 to 1000 are allowed",
                           limit);
    rc = exj_sqlite_read_begin(s, R_DEAD, &r, &st, err);
    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, sink);
    sqlite3_bind_int64(st, 2, after_id);
    sqlite3_bind_int64(st, 3, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_dead_view v = { .id = sqlite3_column_int64(st, 0),
                            .number = sqlite3_column_int64(st, 1),
                            .seq = sqlite3_column_int64(st, 2),
                            .tries = (uint32_t)sqlite3_column_int64(st, 3),
                            .at = sqlite3_column_int64(st, 4),
                            .sink = exj_sqlite_column(st, 5),
                            .error = exj_sqlite_column(st, 6),
                            .body = exj_sqlite_column(st, 7) };

        if (!visit(user, &v))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}
