/* core/store/sqlite/docs.c - documents with a version. [writer] */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

struct doc_statements {
    const char *noun;
    enum exj_sqlite_write version, add, set, drop;
};

static const struct doc_statements kinds[] = {
    [EXJ_DOC_GRAPH] = { "graph", W_GRAPH_VERSION, W_GRAPH_ADD, W_GRAPH_SET, W_GRAPH_DROP },
    [EXJ_DOC_MATRIX] = { "matrix", W_MATRIX_VERSION, W_MATRIX_ADD, W_MATRIX_SET,
                         W_MATRIX_DROP },
    [EXJ_DOC_SCHEDULE] = { "schedule", W_SCHEDULE_VERSION, W_SCHEDULE_ADD, W_SCHEDULE_SET,
                           W_SCHEDULE_DROP },
};

/* One number from a bound statement; 0 when there is no row. */
static bool number(exj_sqlite *s, enum exj_sqlite_write which, int64_t *ret)
{
    sqlite3_stmt *st = s->st[which];
    int rc = sqlite3_step(st);

    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot read a version", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* Sets op->rc when the expected version is not the one that is there. */
static void check_expected(exj_op *op, const char *noun, int64_t current)
{
    int64_t expected = op->u.doc.expected;
    exj_slice id = op->u.doc.id;
    int n = id.n > 200 ? 200 : (int)id.n;

    op->u.doc.ret_version = current;
    if (expected < 0 || expected == current)
        return;
    if (current == 0)
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no %s \"%.*s\"", noun, n, id.p);
    else
        op->rc = exj_err_set(&op->err, EXJ_CONFLICT,
                             "%s \"%.*s\" has version %" PRId64 ", not %" PRId64, noun, n,
                             id.p, current, expected);
}

bool exj_sqlite_doc_put(exj_sqlite *s, exj_op *op)
{
    const struct doc_statements *k = &kinds[op->u.doc.kind];
    sqlite3_stmt *st;
    int64_t current, gone = 0;

    exj_sqlite_bind(s->st[k->version], 1, op->u.doc.id);
    if (!number(s, k->version, &current))
        return false;
    check_expected(op, k->noun, current);
    if (op->rc)
        return true;
    if (!current) {
        /* Versions of one id never repeat, not even over a delete: a claim's guard on
         * version 3 must never hold for another document that is called the same. */
        sqlite3_bind_int64(s->st[W_GONE], 1, (int)op->u.doc.kind);
        exj_sqlite_bind(s->st[W_GONE], 2, op->u.doc.id);
        if (!number(s, W_GONE, &gone))
            return false;
    }
    op->u.doc.ret_version = current + gone + 1;
    st = s->st[current ? k->set : k->add];
    exj_sqlite_bind(st, 1, op->u.doc.id);
    sqlite3_bind_int64(st, 2, op->u.doc.ret_version);
    exj_sqlite_bind(st, 3, op->u.doc.body);
    sqlite3_bind_int64(st, 4, s->now);
    return exj_sqlite_run(s, current ? k->set : k->add, "cannot write a document");
}

bool exj_sqlite_doc_delete(exj_sqlite *s, exj_op *op)
{
    const struct doc_statements *k = &kinds[op->u.doc.kind];
    int64_t current;

    exj_sqlite_bind(s->st[k->version], 1, op->u.doc.id);
    if (!number(s, k->version, &current))
        return false;
    check_expected(op, k->noun, current);
    if (!op->rc && !current)
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no %s \"%.*s\"", k->noun,
                             op->u.doc.id.n > 200 ? 200 : (int)op->u.doc.id.n,
                             op->u.doc.id.p);
    if (op->rc)
        return true;
    sqlite3_bind_int64(s->st[W_GONE_SET], 1, (int)op->u.doc.kind);
    exj_sqlite_bind(s->st[W_GONE_SET], 2, op->u.doc.id);
    sqlite3_bind_int64(s->st[W_GONE_SET], 3, current);
    exj_sqlite_bind(s->st[k->drop], 1, op->u.doc.id);
    if (op->u.doc.kind == EXJ_DOC_SCHEDULE) {
        /* A later schedule of that id is a new one. */
        exj_sqlite_bind(s->st[W_SCHEDULE_FORGET], 1, op->u.doc.id);
        if (!exj_sqlite_run(s, W_SCHEDULE_FORGET, "cannot forget a schedule"))
            return false;
    }
    return exj_sqlite_run(s, W_GONE_SET, "cannot note a deleted document") &&
           exj_sqlite_run(s, k->drop, "cannot delete a document");
}
