/* core/store/sqlite/kv.c - keys and values of a graph. [writer]
 *
 * exj_kv_graphs counts what a graph has in exj_kv, in the transaction that changes it, so
 * that a bound never costs a walk.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/json.h"

struct standing {
    bool is_there, is_integer;
    int64_t bytes; /* of the value */
    int64_t number;
};

/* A checked JSON integer fits int64; there is no leading zero or plus sign. */
static int64_t number_of(exj_slice text)
{
    bool minus = text.p[0] == '-';
    int64_t v = 0;

    for (size_t i = minus; i < text.n; i++)
        v = v * 10 - (text.p[i] - '0'); /* below zero there is room for INT64_MIN */
    return minus ? v : -v;
}

/* The claim still holds its row, or it is an operator's. False with op->rc set: fenced. */
static bool may_write(exj_sqlite *s, exj_op *op, bool *ret)
{
    exj_live l;
    bool held;

    *ret = true;
    if (op->u.kv.seq == 0)
        return true;
    if (!exj_sqlite_held(s, op->u.kv.seq, op->u.kv.nonce, op->u.kv.token, &l, &held))
        return false;
    *ret = held;
    if (!held)
        op->rc = exj_err_set(&op->err, EXJ_FENCED, "row %" PRId64 ": the claim is over",
                             op->u.kv.seq);
    return true;
}

static bool look(exj_sqlite *s, const exj_op *op, struct standing *ret)
{
    sqlite3_stmt *st = s->st[W_KV_GET];
    exj_json_kind kind;
    int rc;

    *ret = (struct standing){ 0 };
    exj_sqlite_bind(st, 1, op->u.kv.graph);
    exj_sqlite_bind(st, 2, op->u.kv.key);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        exj_slice value = exj_sqlite_column(st, 0);

        ret->is_there = true;
        ret->bytes = (int64_t)value.n;
        if (op->kind == EXJ_OP_KV_ADD &&
            exj_json_check(value, 0, &kind, NULL) == EXJ_OK && kind == EXJ_JSON_INTEGER) {
            ret->is_integer = true;
            while (value.n && (value.p[0] == ' ' || value.p[0] == '\t' ||
                               value.p[0] == '\n' || value.p[0] == '\r'))
                value = (exj_slice){ value.p + 1, value.n - 1 };
            while (value.p[value.n - 1] < '0')
                value.n--;
            ret->number = number_of(value);
        }
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot read a key", &s->err);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool sizes(exj_sqlite *s, exj_slice graph, int64_t *ret_keys, int64_t *ret_bytes)
{
    sqlite3_stmt *st = s->st[W_KV_SIZES];
    int rc;

    *ret_keys = *ret_bytes = 0;
    exj_sqlite_bind(st, 1, graph);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *ret_keys = sqlite3_column_int64(st, 0);
        *ret_bytes = sqlite3_column_int64(st, 1);
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot count keys", &s->err);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool count(exj_sqlite *s, exj_slice graph, int64_t keys, int64_t bytes)
{
    sqlite3_stmt *st = s->st[W_KV_COUNT];

    if (keys == 0 && bytes == 0)
        return true;
    exj_sqlite_bind(st, 1, graph);
    sqlite3_bind_int64(st, 2, keys);
    sqlite3_bind_int64(st, 3, bytes);
    return exj_sqlite_run(s, W_KV_COUNT, "cannot count keys");
}

static bool write_value(exj_sqlite *s, exj_op *op, const struct standing *old, exj_slice value)
{
    sqlite3_stmt *st = s->st[W_KV_PUT];
    exj_slice graph = op->u.kv.graph, key = op->u.kv.key;
    int64_t keys, bytes, more_keys = !old->is_there, more_bytes;

    more_bytes = (int64_t)value.n - old->bytes + (old->is_there ? 0 : (int64_t)key.n);
    if (!sizes(s, graph, &keys, &bytes))
        return false;
    if (keys + more_keys > EXJ_STORE_KV_KEYS && more_keys) {
        op->rc = exj_err_set(&op->err, EXJ_REFUSED,
                             "graph \"%.*s\" has %" PRId64 " keys, the most there may be: "
                             "remove some",
                             graph.n > 200 ? 200 : (int)graph.n, graph.p, keys);
        return true;
    }
    if (bytes + more_bytes > EXJ_STORE_KV_BYTES && more_bytes > 0) {
        op->rc = exj_err_set(&op->err, EXJ_REFUSED,
                             "graph \"%.*s\": its keys and values have %" PRId64 " bytes, "
                             "%" PRId64 " more are over the limit of %d: remove some",
                             graph.n > 200 ? 200 : (int)graph.n, graph.p, bytes, more_bytes,
                             EXJ_STORE_KV_BYTES);
        return true;
    }
    exj_sqlite_bind(st, 1, graph);
    exj_sqlite_bind(st, 2, key);
    exj_sqlite_bind(st, 3, value);
    sqlite3_bind_int64(st, 4, s->now);
    sqlite3_bind_int64(st, 5, op->u.kv.seq);
    return exj_sqlite_run(s, W_KV_PUT, "cannot write a key") &&
           count(s, graph, more_keys, more_bytes);
}

static bool check(exj_op *op)
{
    exj_slice key = op->u.kv.key, value = op->u.kv.value;

    if (key.n == 0 || key.n > EXJ_STORE_KV_KEY_MAX)
        op->rc = exj_err_set(&op->err, EXJ_INVALID, "a key has 1 to %u bytes, not %zu",
                             EXJ_STORE_KV_KEY_MAX, key.n);
    else if (op->kind == EXJ_OP_KV_PUT && (value.n == 0 || value.n > EXJ_STORE_KV_VALUE_MAX))
        op->rc = exj_err_set(&op->err, EXJ_INVALID,
                             "key \"%.*s\": a value has 1 to %u bytes, not %zu", (int)key.n,
                             key.p, EXJ_STORE_KV_VALUE_MAX, value.n);
    return op->rc == EXJ_OK;
}

static bool remove_key(exj_sqlite *s, exj_op *op, const struct standing *old)
{
    exj_slice graph = op->u.kv.graph, key = op->u.kv.key;

    if (!old->is_there) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "graph \"%.*s\" has no key \"%.*s\"",
                             graph.n > 200 ? 200 : (int)graph.n, graph.p, (int)key.n, key.p);
        return true;
    }
    exj_sqlite_bind(s->st[W_KV_DROP], 1, graph);
    exj_sqlite_bind(s->st[W_KV_DROP], 2, key);
    return exj_sqlite_run(s, W_KV_DROP, "cannot remove a key") &&
           count(s, graph, -1, -(int64_t)key.n - old->bytes);
}

static bool add(exj_sqlite *s, exj_op *op, const struct standing *old)
{
    exj_slice key = op->u.kv.key;
    char text[24];
    int64_t sum;

    if (old->is_there && !old->is_integer) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID,
                             "key \"%.*s\" holds no integer, nothing can be added to it",
                             (int)key.n, key.p);
        return true;
    }
    if (__builtin_add_overflow(old->number, op->u.kv.delta, &sum)) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID,
                             "key \"%.*s\" is %" PRId64 ": with %" PRId64
                             " more it does not fit 64 bits",
                             (int)key.n, key.p, old->number, op->u.kv.delta);
        return true;
    }
    op->u.kv.ret_sum = sum;
    return write_value(s, op, old,
                       (exj_slice){ text, (size_t)snprintf(text, sizeof text, "%" PRId64, sum) });
}

bool exj_sqlite_kv(exj_sqlite *s, exj_op *op)
{
    struct standing old;
    bool may;

    if (!check(op))
        return true;
    if (!may_write(s, op, &may))
        return false;
    if (!may)
        return true;
    if (!look(s, op, &old))
        return false;
    if (op->kind == EXJ_OP_KV_PUT)
        return write_value(s, op, &old, op->u.kv.value);
    if (op->kind == EXJ_OP_KV_REMOVE)
        return remove_key(s, op, &old);
    return add(s, op, &old);
}
