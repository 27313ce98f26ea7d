/* core/store/sqlite/read_parts.c - reads of what hangs on rows and graphs: steps, failures, keys
 * and values. Any thread; see read.c. */
#include <inttypes.h>

#include "core/store/sqlite/internal.h"

exj_code exj_sqlite_step_get(exj_store *base, int64_t seq, exj_slice key, exj_buf *ret,
                         exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    exj_code value = EXJ_OK;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_STEP, &r, &st, err);

    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    exj_sqlite_bind(st, 2, key);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        value = exj_sqlite_value(s, seq, "a step", exj_sqlite_column(st, 0), ret, err);
    rc = exj_sqlite_read_end(s, r, st, step, value ? NULL : err);
    if (value)
        return value;
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "row %" PRId64 " has no step \"%.*s\"", seq,
                         key.n > 200 ? 200 : (int)key.n, key.p);
    return rc;
}

exj_code exj_sqlite_step_each(exj_store *base, int64_t seq, exj_step_visit visit, void *user,
                          exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_buf room = EXJ_BUF_INIT;
    exj_code value = EXJ_OK;
    exj_code rc = exj_sqlite_read_begin(s, R_STEPS, &r, &st, err);

    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_step_view v = { .key = exj_sqlite_column(st, 0),
                            .body = exj_sqlite_column(st, 1),
                            .done = sqlite3_column_int(st, 2),
                            .token = sqlite3_column_int64(st, 3),
                            .number = sqlite3_column_int64(st, 4),
                            .attempt = (uint32_t)sqlite3_column_int64(st, 5),
                            .began_at = sqlite3_column_int64(st, 6),
                            .at = sqlite3_column_int64(st, 7) };

        value = exj_sqlite_value_of(s, seq, "a step", &v.body, &room, err);
        if (value || !visit(user, &v))
            break;
    }
    exj_buf_release(&room);
    rc = exj_sqlite_read_end(s, r, st, step, value ? NULL : err);
    return value ? value : rc;
}

exj_code exj_sqlite_failure_count(exj_store *base, int64_t seq, exj_slice code, uint32_t *ret,
                              exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int64_t n = 0;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_FAILURE_COUNT, &r, &st, err);

    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    exj_sqlite_bind(st, 2, code);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc)
        *ret = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    return rc;
}

exj_code exj_sqlite_failure_each(exj_store *base, int64_t seq, size_t limit,
                             exj_failure_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc;

    if (!limit || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "limit %zu: allowed are 1 to 1000", limit);
    rc = exj_sqlite_read_begin(s, R_FAILURES, &r, &st, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    sqlite3_bind_int64(st, 2, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_failure_view v = { .token = sqlite3_column_int64(st, 0),
                               .attempt = (uint32_t)sqlite3_column_int64(st, 1),
                               .at = sqlite3_column_int64(st, 2),
                               .code = exj_sqlite_column(st, 3),
                               .text = exj_sqlite_column(st, 4) };

        if (!visit(user, &v))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}

/* ---- keys and values ------------------------------------------------------------------------ */

exj_code exj_sqlite_kv_get(exj_store *base, exj_slice graph, exj_slice key, exj_buf *ret,
                       exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    bool added = true;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_KV, &r, &st, err);

    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, graph);
    exj_sqlite_bind(st, 2, key);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        added = exj_buf_add_slice(ret, exj_sqlite_column(st, 0));
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc && !added)
        rc = exj_err_set(err, EXJ_NOMEM, "store %s: no memory for a value", s->path);
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "graph \"%.*s\" has no key \"%.*s\"",
                         graph.n > 200 ? 200 : (int)graph.n, graph.p,
                         key.n > 256 ? 256 : (int)key.n, key.p);
    return rc;
}

exj_code exj_sqlite_kv_page(exj_store *base, exj_slice graph, exj_slice after_key, size_t limit,
                        exj_kv_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc;

    if (limit < 1 || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "a page of %zu keys: 1 to 1000 are allowed", limit);
    rc = exj_sqlite_read_begin(s, R_KV_PAGE, &r, &st, err);
    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, graph);
    exj_sqlite_bind(st, 2, after_key);
    sqlite3_bind_int64(st, 3, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_kv_view v = { .key = exj_sqlite_column(st, 0),
                          .value = exj_sqlite_column(st, 1),
                          .updated_at = sqlite3_column_int64(st, 2),
                          .seq = sqlite3_column_int64(st, 3),
                          .matrix = exj_sqlite_column(st, 4),
                          .run = exj_sqlite_column(st, 5),
                          .graph = exj_sqlite_column(st, 6),
                          .record_id = exj_sqlite_column(st, 7) };

        if (!visit(user, &v))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}
