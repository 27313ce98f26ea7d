/* core/store/mongo/insert.c - pools, and rows coming in. [writer]
 *
 * A record's name comes first (exj_names, whose _id says once for ever that it was seen), then its
 * row. A name without a row is a crash between: whoever brings the record again makes the row.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/sha256.h"
#include "core/store/mongo/inside.h"
#include "core/store/mongo/value.h"

/* ---- pools --------------------------------------------------------------------------------- */

static exj_code know_pool(exj_mstore *s, int64_t id, exj_slice matrix, exj_slice run,
                          exj_slice graph, exj_err *err)
{
    exj_code rc = EXJ_OK;

    if (id <= 0 || id > 1 << 20)
        return exj_err_set(err, EXJ_CORRUPT, "pool %" PRId64 " in " C_POOLS ": no such number",
                           id);
    pthread_mutex_lock(&s->pools_mu);
    if ((size_t)id >= s->pools_len) {
        size_t len = (size_t)id + 64;
        exj_mpool *more = realloc(s->pools, len * sizeof(*more));

        if (more) {
            memset(more + s->pools_len, 0, (len - s->pools_len) * sizeof(*more));
            s->pools = more;
            s->pools_len = len;
        } else {
            rc = exj_err_set(err, EXJ_NOMEM, "no memory for a pool");
        }
    }
    if (!rc && !s->pools[id].matrix) {
        exj_mpool p = { exj_slice_dup(matrix), exj_slice_dup(run), exj_slice_dup(graph) };

        if (p.matrix && p.run && p.graph) {
            s->pools[id] = p;
        } else {
            free(p.matrix);
            free(p.run);
            free(p.graph);
            rc = exj_err_set(err, EXJ_NOMEM, "no memory for a pool");
        }
    }
    pthread_mutex_unlock(&s->pools_mu);
    return rc;
}

struct found_pool {
    exj_mstore *s;
    int64_t id;
};

static exj_code see_pool(void *user, const bson_t *doc, exj_err *err)
{
    struct found_pool *f = user;

    f->id = exj_bson_i64(doc, "_id", 0);
    return know_pool(f->s, f->id, exj_bson_text(doc, "matrix"), exj_bson_text(doc, "run"),
                     exj_bson_text(doc, "graph"), err);
}

bool exj_mstore_pool_names(exj_mstore *s, exj_mongo_client *c, int64_t pool, exj_slice ret[3])
{
    struct found_pool f = { .s = s };
    bool known = false;

    for (int i = 0; i < 2 && !known; i++) {
        pthread_mutex_lock(&s->pools_mu);
        known = pool > 0 && (size_t)pool < s->pools_len && s->pools[pool].matrix;
        if (known) {
            ret[0] = exj_slice_of(s->pools[pool].matrix);
            ret[1] = exj_slice_of(s->pools[pool].run);
            ret[2] = exj_slice_of(s->pools[pool].graph);
        }
        pthread_mutex_unlock(&s->pools_mu);
        if (!known && i == 0) {
            bson_t *filter = BCON_NEW("_id", BCON_INT64(pool));

            exj_mongo_find(c, s->exec_db, C_POOLS, filter, NULL, see_pool, &f, NULL);
            bson_destroy(filter);
        }
    }
    return known;
}

exj_code exj_mstore_pool(exj_mstore *s, exj_op *op)
{
    struct found_pool f = { .s = s };
    bson_t filter = BSON_INITIALIZER, doc = BSON_INITIALIZER, counts;
    const bson_t *one = &doc;
    exj_err why = { 0 };
    exj_code rc;

    exj_bson_add_text(&filter, "matrix", op->u.pool.matrix);
    exj_bson_add_text(&filter, "run", op->u.pool.run);
    exj_bson_add_text(&filter, "graph", op->u.pool.graph);
    rc = exj_mongo_find(s->c, s->exec_db, C_POOLS, &filter, NULL, see_pool, &f, &op->err);
    if (!rc && !f.id) {
        rc = exj_mstore_next(s, s->c, "pool", 1, &f.id, &op->err);
        if (!rc) {
            BSON_APPEND_INT64(&doc, "_id", f.id);
            bson_concat(&doc, &filter);
            BSON_APPEND_INT64(&doc, "upto", 0);
            BSON_APPEND_DOCUMENT_BEGIN(&doc, "n", &counts);
            for (int i = 0; i < EXJ_STATUS_COUNT; i++) {
                char name[8];

                snprintf(name, sizeof(name), "%d", i);
                BSON_APPEND_INT64(&counts, name, 0);
            }
            bson_append_document_end(&doc, &counts);
            rc = exj_mongo_insert(s->c, s->exec_db, C_POOLS, &one, 1, NULL, &why);
            /* Another worker was faster, or our answer was lost: it is there. */
            f.id = 0;
            if (!rc || rc == EXJ_CONFLICT || rc == EXJ_UNKNOWN)
                rc = exj_mongo_find(s->c, s->exec_db, C_POOLS, &filter, NULL, see_pool, &f,
                                    &op->err);
            else
                exj_err_set(&op->err, rc, "%s", why.text);
        }
        if (!rc && !f.id)
            rc = exj_err_set(&op->err, EXJ_UNKNOWN, "%s",
                             why.code ? why.text : "the new pool is not to be seen yet");
    }
    op->u.pool.ret_pool = f.id;
    bson_destroy(&filter);
    bson_destroy(&doc);
    return rc;
}

/* ---- rows ---------------------------------------------------------------------------------- */

#define NAME_BYTES 300u /* longer ones by their hash */

static void name_of(int64_t pool, exj_slice record, char ret[NAME_BYTES + 100])
{
    int n = snprintf(ret, 32, "%" PRId64 ":", pool);

    if (record.n <= NAME_BYTES) {
        memcpy(ret + n, record.p, record.n);
        ret[(size_t)n + record.n] = '\0';
    } else {
        ret[n - 1] = '#';
        exj_sha256_hex(record.p, record.n, ret + n);
    }
}

struct coming {
    exj_insert_item *it;
    int64_t seq;   /* of its name */
    bool is_new;   /* the name is ours */
    bool has_row;
    bool removed;
    char name[NAME_BYTES + 100];
};

struct names {
    exj_mstore *s;
    struct coming *at;
    size_t n;
};

static exj_code see_name(void *user, const bson_t *doc, exj_err *err)
{
    struct names *w = user;
    exj_slice name = exj_bson_text(doc, "_id");

    (void)err;
    for (size_t i = 0; i < w->n; i++)
        if (!w->at[i].seq && exj_slice_is(name, w->at[i].name)) {
            w->at[i].seq = exj_bson_i64(doc, "seq", 0);
            w->at[i].is_new = exj_bson_i64(doc, "w", 0) == w->s->write;
            w->at[i].removed = exj_bson_bool(doc, "removed");
        }
    return EXJ_OK;
}

/* Names of those that are new; the seq of those that are not. */
static exj_code take_names(exj_mstore *s, struct coming *at, size_t n, int64_t first, exj_err *err)
{
    struct names w = { .s = s, .at = at, .n = n };
    bson_t **docs = calloc(n, sizeof(*docs)), filter = BSON_INITIALIZER, in, list;
    exj_code *verdicts = calloc(n, sizeof(*verdicts)), rc;
    exj_err why = { 0 };
    uint32_t known = 0;

    if (!docs || !verdicts) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for %zu names", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        docs[i] = BCON_NEW("_id", BCON_UTF8(at[i].name), "seq", BCON_INT64(first + (int64_t)i), "w",
                           BCON_INT64(s->write));
    rc = exj_mongo_insert(s->c, s->exec_db, C_NAMES, (const bson_t *const *)docs, n, verdicts,
                          &why);
    if (rc && rc != EXJ_CONFLICT && rc != EXJ_UNKNOWN) {
        exj_err_set(err, rc, "%s", why.text);
        goto out;
    }
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &in);
    BSON_APPEND_ARRAY_BEGIN(&in, "$in", &list);
    for (size_t i = 0; i < n; i++) {
        char index[16];
        const char *key;

        if (verdicts[i] == EXJ_OK) {
            at[i].seq = first + (int64_t)i;
            at[i].is_new = true;
            continue;
        }
        bson_uint32_to_string(known++, &key, index, sizeof(index));
        bson_append_utf8(&list, key, -1, at[i].name, -1);
    }
    bson_append_array_end(&in, &list);
    bson_append_document_end(&filter, &in);
    rc = known ? exj_mongo_find(s->c, s->exec_db, C_NAMES, &filter, NULL, see_name, &w, err)
               : EXJ_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        if (!at[i].seq)
            rc = exj_err_set(err, EXJ_UNKNOWN, "%s", why.text);
        /* The same record twice in one operation: the first is the row. */
        else if (at[i].is_new && at[i].seq != first + (int64_t)i)
            at[i].is_new = !(at[i].has_row = true);
    }
out:
    for (size_t i = 0; i < n && docs; i++)
        bson_destroy(docs[i]);
    bson_destroy(&filter);
    free(docs);
    free(verdicts);
    return rc;
}

/* Which of the names that were there have a row? */
static exj_code find_rows(exj_mstore *s, struct coming *at, size_t n, exj_err *err)
{
    int64_t *seqs = calloc(n, sizeof(*seqs));
    exj_mrow *rows = calloc(n, sizeof(*rows));
    size_t old = 0;
    exj_code rc = EXJ_OK;

    if (!seqs || !rows) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for %zu rows", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        if (!at[i].is_new && !at[i].removed)
            seqs[old++] = at[i].seq;
    rc = exj_mstore_rows(s, s->c, seqs, old, rows, err);
    for (size_t k = 0; k < old && !rc; k++)
        for (size_t i = 0; i < n; i++)
            if (rows[k].seq == at[i].seq && rows[k].seq)
                at[i].has_row = true;
    for (size_t k = 0; k < old && !rc; k++)
        exj_mrow_release(&rows[k]);
out:
    free(seqs);
    free(rows);
    return rc;
}

static exj_code make_row(exj_mstore *s, const exj_op *op, const exj_slice names[3],
                         struct coming *c, bson_t *ret, exj_err *err)
{
    exj_insert_item *it = c->it;
    bool later = it->run_after > s->now;
    exj_mvalue input = { .text = it->input };
    exj_mrow r = { .seq = c->seq, .pool = op->u.insert.pool, .created_at = s->now,
                   .rank = -(int64_t)(it->has_priority ? it->priority : op->u.insert.priority),
                   .max_attempts = op->u.insert.max_attempts, .matrix = names[0],
                   .run = names[1], .graph = names[2], .record_id = it->record_id,
                   .concurrency_key = it->concurrency_key, .unique_key = it->unique_key,
                   .snapshot = op->u.insert.snapshot, .run_after = it->run_after,
                   .status = later ? EXJ_WAITING : EXJ_QUEUED };
    exj_code rc;

    exj_mrow_come(&r, later ? EXJ_ENTRY_SCHEDULED : EXJ_ENTRY_QUEUED, later ? it->run_after : 0,
                  s->now);
    exj_mrow_document(&r, ret);
    rc = exj_mvalue_add(ret, "input", &input, err);
    it->status = r.status;
    exj_mrow_release(&r);
    return rc;
}

static exj_code add_rows(exj_mstore *s, exj_op *op, const exj_slice names[3], struct coming *at,
                         size_t n)
{
    bson_t **docs = calloc(n, sizeof(*docs));
    exj_code rc = EXJ_OK;
    exj_err why = { 0 };
    size_t len = 0;

    if (!docs)
        return exj_err_set(&op->err, EXJ_NOMEM, "no memory for %zu rows", n);
    for (size_t i = 0; i < n && !rc; i++) {
        at[i].it->seq = at[i].seq;
        at[i].it->verdict = at[i].is_new || !(at[i].has_row || at[i].removed) ? EXJ_OK : EXJ_CONFLICT;
        if (at[i].it->verdict)
            continue;
        docs[len] = bson_new();
        rc = make_row(s, op, names, &at[i], docs[len++], &op->err);
    }
    if (!rc) {
        rc = exj_mongo_insert(s->c, s->exec_db, C_ROWS, (const bson_t *const *)docs, len, NULL,
                              &why);
        if (rc == EXJ_CONFLICT) /* our own, whose answer was lost; or of who found the name, too */
            rc = EXJ_OK;
        if (rc)
            exj_err_set(&op->err, rc, "%s", why.text);
    }
    op->u.insert.ret_inserted = rc ? 0 : len;
    for (size_t i = 0; i < len; i++)
        bson_destroy(docs[i]);
    free(docs);
    return rc;
}

exj_code exj_mstore_insert(exj_mstore *s, exj_op *op)
{
    size_t n = op->u.insert.len;
    struct coming *at;
    exj_slice names[3];
    int64_t first = 0;
    exj_code rc;

    op->u.insert.ret_inserted = op->u.insert.ret_dropped = 0;
    if (!exj_mstore_pool_names(s, s->c, op->u.insert.pool, names))
        return exj_err_set(&op->err, EXJ_NOT_FOUND, "no pool %" PRId64, op->u.insert.pool);
    if (!n)
        return EXJ_OK;
    at = calloc(n, sizeof(*at));
    if (!at)
        return exj_err_set(&op->err, EXJ_NOMEM, "no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++) {
        at[i].it = &op->u.insert.items[i];
        name_of(op->u.insert.pool, at[i].it->record_id, at[i].name);
    }
    rc = exj_mstore_next(s, s->c, "seq", (int64_t)n, &first, &op->err);
    if (!rc)
        rc = take_names(s, at, n, first, &op->err);
    if (!rc)
        rc = find_rows(s, at, n, &op->err);
    if (!rc)
        rc = add_rows(s, op, names, at, n);
    free(at);
    return rc;
}
