/* core/store/mongo/rows.c - rows: read many, write many, and know who won. */
#include "core/store/mongo/inside.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/store/mongo/value.h"

#define AGAIN_MOST 20

/* ---- reading ------------------------------------------------------------------------------- */

struct reading {
    exj_mrow_visit visit;
    void *user;
    bool over;
};

static exj_code read_one(void *user, const bson_t *doc, exj_err *err)
{
    struct reading *w = user;
    exj_mrow r;
    exj_code rc;

    if (w->over)
        return EXJ_OK;
    rc = exj_mrow_load(doc, &r, err);
    if (rc)
        return rc;
    w->over = !w->visit(w->user, &r);
    exj_mrow_release(&r);
    return EXJ_OK;
}

exj_code exj_mstore_find(exj_mstore *s, exj_mongo_client *c, const bson_t *filter,
                         const bson_t *opts, exj_mrow_visit visit, void *user, exj_err *err)
{
    struct reading w = { .visit = visit, .user = user };

    return exj_mongo_find(c, s->exec_db, C_ROWS, filter, opts, read_one, &w, err);
}

/* {b: {$in}, seq: {$in}} */
static void by_seqs(const int64_t *seqs, size_t n, bson_t *filter)
{
    bool used[16] = { false };
    bson_t in, list;
    char index[16];
    const char *name;
    uint32_t k = 0;

    for (size_t i = 0; i < n; i++)
        used[exj_mrow_bucket(seqs[i])] = true;
    BSON_APPEND_DOCUMENT_BEGIN(filter, "b", &in);
    BSON_APPEND_ARRAY_BEGIN(&in, "$in", &list);
    for (int32_t b = 0; b < 16; b++)
        if (used[b]) {
            bson_uint32_to_string(k++, &name, index, sizeof(index));
            bson_append_int32(&list, name, -1, b);
        }
    bson_append_array_end(&in, &list);
    bson_append_document_end(filter, &in);
    BSON_APPEND_DOCUMENT_BEGIN(filter, "seq", &in);
    BSON_APPEND_ARRAY_BEGIN(&in, "$in", &list);
    for (size_t i = 0; i < n; i++) {
        bson_uint32_to_string((uint32_t)i, &name, index, sizeof(index));
        bson_append_int64(&list, name, -1, seqs[i]);
    }
    bson_append_array_end(&in, &list);
    bson_append_document_end(filter, &in);
}

struct by_seq {
    const int64_t *seqs;
    size_t n;
    exj_mrow *ret;
};

static bool sort_in(void *user, exj_mrow *r)
{
    struct by_seq *w = user;

    for (size_t i = 0; i < w->n; i++)
        if (w->seqs[i] == r->seq && !w->ret[i].seq) {
            w->ret[i] = *r;
            *r = (exj_mrow){ 0 }; /* moved */
            break;
        }
    return true;
}

exj_code exj_mstore_rows(exj_mstore *s, exj_mongo_client *c, const int64_t *seqs, size_t n,
                         exj_mrow *ret, exj_err *err)
{
    struct by_seq w = { .seqs = seqs, .n = n, .ret = ret };
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    exj_code rc;

    memset(ret, 0, n * sizeof(*ret));
    if (!n)
        return EXJ_OK;
    by_seqs(seqs, n, &filter);
    BSON_APPEND_UTF8(&opts, "hint", "exj_seq");
    rc = exj_mstore_find(s, c, &filter, &opts, sort_in, &w, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    if (rc)
        for (size_t i = 0; i < n; i++)
            exj_mrow_release(&ret[i]);
    return rc;
}

/* ---- writing ------------------------------------------------------------------------------- */

struct landed {
    exj_mrow *const *rows;
    size_t n;
    int64_t write;
    exj_code *verdicts;
};

static bool has_write(const bson_t *doc, int64_t write)
{
    bson_iter_t it, each;
    int64_t v;

    if (!exj_bson_find(doc, "w", &it) || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &each))
        return false;
    while (bson_iter_next(&each))
        if (exj_bson_iter_i64(&each, &v) && v == write)
            return true;
    return false;
}

/* A document says of our write: it is in; it cannot come any more, for the row went on without
 * it; nothing. */
static exj_code look_at(void *user, const bson_t *doc, exj_err *err)
{
    struct landed *l = user;
    int64_t seq = exj_bson_i64(doc, "seq", 0), rev = exj_bson_i64(doc, "rev", 0);

    (void)err;
    for (size_t i = 0; i < l->n; i++) {
        if (l->rows[i]->seq != seq)
            continue;
        if (has_write(doc, l->write))
            l->verdicts[i] = EXJ_OK;
        else if (rev > l->rows[i]->rev && rev <= l->rows[i]->rev + EXJ_MROW_WRITES)
            l->verdicts[i] = EXJ_CONFLICT;
        break;
    }
    return EXJ_OK;
}

/* Who of those whose fate is not known has won? */
static exj_code read_back(exj_mstore *s, exj_mongo_client *c, exj_mrow *const *rows, size_t n,
                          exj_code *verdicts, exj_err *err)
{
    struct landed l = { .rows = rows, .n = n, .write = s->write, .verdicts = verdicts };
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, fields;
    int64_t *seqs = calloc(n, sizeof(*seqs));
    exj_code rc;

    if (!seqs)
        return exj_err_set(err, EXJ_NOMEM, "no memory to look at %zu rows", n);
    for (size_t i = 0; i < n; i++)
        seqs[i] = rows[i]->seq;
    by_seqs(seqs, n, &filter);
    BSON_APPEND_UTF8(&opts, "hint", "exj_seq");
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &fields);
    BSON_APPEND_INT32(&fields, "seq", 1);
    BSON_APPEND_INT32(&fields, "rev", 1);
    BSON_APPEND_INT32(&fields, "w", 1);
    bson_append_document_end(&opts, &fields);
    rc = exj_mongo_find(c, s->exec_db, C_ROWS, &filter, &opts, look_at, &l, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    free(seqs);
    return rc;
}

exj_code exj_mstore_save(exj_mstore *s, exj_mongo_client *c, exj_mrow *const *rows, size_t n,
                         exj_code *verdicts, exj_err *err)
{
    exj_mongo_change *changes = calloc(n ? n : 1, sizeof(*changes));
    bson_t **filters = calloc(n ? n : 1, sizeof(*filters)),
           **updates = calloc(n ? n : 1, sizeof(*updates));
    exj_mongo_changed changed = { 0 };
    exj_err why = { 0 };
    exj_code rc = EXJ_OK, sent;

    if (!changes || !filters || !updates) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory to write %zu rows", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        filters[i] = bson_new();
        updates[i] = bson_new();
        rows[i]->write = s->write;
        exj_mrow_guard(rows[i], filters[i]);
        exj_mrow_update(rows[i], updates[i]);
        changes[i] = (exj_mongo_change){ .filter = filters[i], .update = updates[i],
                                         .hint = "exj_seq" };
    }
    sent = exj_mongo_update(c, s->exec_db, C_ROWS, changes, n, EXJ_MONGO_MAJORITY, &changed,
                            verdicts, &why);
    for (size_t i = 0; i < n && sent == EXJ_OK; i++)
        verdicts[i] = changed.matched == (int64_t)n ? EXJ_OK : EXJ_UNKNOWN;
    if (sent == EXJ_OK && changed.matched == 0)
        for (size_t i = 0; i < n; i++)
            verdicts[i] = EXJ_CONFLICT;
    else if (sent == EXJ_UNKNOWN || (sent == EXJ_OK && changed.matched != (int64_t)n)) {
        for (size_t i = 0; i < n; i++)
            verdicts[i] = EXJ_UNKNOWN;
        rc = read_back(s, c, rows, n, verdicts, sent ? NULL : err);
        /* All was answered: nothing comes later. */
        for (size_t i = 0; i < n && !rc && !sent; i++)
            if (verdicts[i] == EXJ_UNKNOWN)
                verdicts[i] = EXJ_CONFLICT;
        if (rc && sent)
            rc = exj_err_set(err, EXJ_UNKNOWN, "%s", why.text);
    } else if (sent != EXJ_OK) {
        rc = exj_err_set(err, sent, "%s", why.text);
    }
out:
    for (size_t i = 0; i < n; i++) {
        if (filters)
            bson_destroy(filters[i]);
        if (updates)
            bson_destroy(updates[i]);
    }
    free(changes);
    free(filters);
    free(updates);
    return rc;
}

exj_code exj_mstore_change(exj_mstore *s, int64_t seq, exj_mrow_decide decide, void *user,
                           exj_err *err)
{
    exj_code rc = EXJ_OK, verdict = EXJ_CONFLICT;

    for (int i = 0; !rc && verdict == EXJ_CONFLICT && i < AGAIN_MOST; i++) {
        exj_mrow r, *one = &r;
        bool change = false;

        rc = exj_mstore_rows(s, s->c, &seq, 1, &r, err);
        if (rc)
            return rc;
        if (!r.seq || r.staged)
            rc = exj_err_set(err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
        else
            rc = decide(user, &r, &change, err);
        verdict = EXJ_OK;
        if (!rc && change)
            rc = exj_mstore_save(s, s->c, &one, 1, &verdict, err);
        exj_mrow_release(&r);
    }
    if (!rc && verdict == EXJ_CONFLICT)
        return exj_err_set(err, EXJ_IO, "row %" PRId64 ": others were faster %d times", seq,
                           AGAIN_MOST);
    if (!rc && verdict)
        return exj_err_set(err, verdict, "row %" PRId64 ": nobody knows whether it was written",
                           seq);
    return rc;
}
