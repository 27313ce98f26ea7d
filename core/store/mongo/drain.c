/* core/store/mongo/drain.c - what rows have in their logs becomes the journal.
 *
 * A batch is inserted under the number after the last one, so whoever read an older end is told
 * by the server; before the next one is inserted the last one is applied. Applying may be done by
 * several, and twice (batch.h). [any thread, one at a time in a process: drain_mu]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/store/mongo/batch.h"
#include "core/store/mongo/inside.h"
#include "core/store/mongo/value.h"

struct logs {
    bson_t **docs; /* owned */
    size_t len;
    size_t bytes;
};

static exj_code keep_log(void *user, const bson_t *doc, exj_err *err)
{
    struct logs *l = user;

    (void)err;
    l->docs[l->len++] = bson_copy(doc);
    l->bytes += doc->len;
    return EXJ_OK;
}

static void drop_logs(struct logs *l)
{
    for (size_t i = 0; i < l->len; i++)
        bson_destroy(l->docs[i]);
    l->len = l->bytes = 0;
}

static void log_fields(bson_t *opts)
{
    static const char *const names[] = { "seq", "b", "pool", "last", "log" };
    bson_t fields;

    BSON_APPEND_DOCUMENT_BEGIN(opts, "projection", &fields);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        BSON_APPEND_INT32(&fields, names[i], 1);
    bson_append_document_end(opts, &fields);
}

static exj_code find_logs(exj_mstore *s, exj_mongo_client *c, struct logs *l, exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sub;
    exj_code rc;

    BSON_APPEND_DOCUMENT_BEGIN(&filter, "log.at", &sub);
    BSON_APPEND_BOOL(&sub, "$exists", true);
    bson_append_document_end(&filter, &sub);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "status", &sub);
    BSON_APPEND_UTF8(&sub, "$ne", "staged");
    bson_append_document_end(&filter, &sub);
    BSON_APPEND_INT64(&opts, "limit", EXJ_MBATCH_ROWS);
    log_fields(&opts);
    rc = exj_mongo_find(c, s->exec_db, C_ROWS, &filter, &opts, keep_log, l, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

/* ---- applying ------------------------------------------------------------------------------ */

struct keeping {
    exj_mstore *s;
    bson_t *failures[EXJ_MBATCH_ENTRIES], *steps[EXJ_MBATCH_ENTRIES];
    size_t failures_len, steps_len;
};

static bool keep_one(void *user, const exj_mkept *k)
{
    struct keeping *w = user;
    bson_iter_t it;
    char id[600];

    if (exj_bson_find(&k->body, "failure", &it) && w->failures_len < EXJ_MBATCH_ENTRIES) {
        snprintf(id, sizeof(id), "%" PRId64 ":%" PRId64, k->seq, k->entry.token);
        w->failures[w->failures_len++] = BCON_NEW(
            "_id", BCON_UTF8(id), "seq", BCON_INT64(k->seq), "token", BCON_INT64(k->entry.token),
            "attempt", BCON_INT64(k->entry.attempt), "at", BCON_DATE_TIME(k->entry.at));
        bson_append_iter(w->failures[w->failures_len - 1], "failure", -1, &it);
    }
    return true;
}

static exj_code insert_kept(exj_mstore *s, exj_mongo_client *c, const char *collection,
                            bson_t **docs, size_t n, exj_err *err)
{
    exj_err why = { 0 };
    exj_code rc = n ? exj_mongo_insert(c, s->exec_db, collection, (const bson_t *const *)docs, n, NULL,
                                       &why)
                    : EXJ_OK;

    for (size_t i = 0; i < n; i++)
        bson_destroy(docs[i]);
    if (rc == EXJ_CONFLICT) /* it was applied before */
        return EXJ_OK;
    return rc ? exj_err_set(err, rc, "%s", why.text) : EXJ_OK;
}

static exj_code count_all(exj_mstore *s, exj_mongo_client *c, const bson_t *batch, exj_err *err)
{
    int64_t id = exj_bson_i64(batch, "_id", 0);
    exj_mongo_change *changes = NULL;
    bson_t **docs = NULL;
    bson_iter_t it, each, by;
    size_t n = 0, cap = 0;
    exj_mongo_changed changed;
    exj_code rc = EXJ_OK;

    if (!exj_bson_find(batch, "c", &it) || !bson_iter_recurse(&it, &each))
        return EXJ_OK;
    while (bson_iter_next(&each))
        cap++;
    if (!cap)
        return EXJ_OK;
    changes = calloc(cap, sizeof(*changes));
    docs = calloc(2 * cap, sizeof(*docs));
    if (!changes || !docs) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory to count rows");
        goto out;
    }
    bson_iter_recurse(&it, &each);
    while (bson_iter_next(&each) && n < cap) {
        bson_t one, inc, set;
        const uint8_t *p;
        uint32_t len;
        int64_t v;

        bson_iter_document(&each, &len, &p);
        if (!bson_init_static(&one, p, len) || !exj_bson_find(&one, "d", &by) ||
            !bson_iter_recurse(&by, &by))
            continue;
        docs[2 * n] = BCON_NEW("_id", BCON_INT64(exj_bson_i64(&one, "p", 0)), "upto", "{", "$lt",
                               BCON_INT64(id), "}");
        docs[2 * n + 1] = bson_new();
        BSON_APPEND_DOCUMENT_BEGIN(docs[2 * n + 1], "$inc", &inc);
        for (int k = 0; bson_iter_next(&by) && k < EXJ_STATUS_COUNT; k++) {
            char name[16];

            snprintf(name, sizeof(name), "n.%d", k);
            if (exj_bson_iter_i64(&by, &v) && v)
                BSON_APPEND_INT64(&inc, name, v);
        }
        bson_append_document_end(docs[2 * n + 1], &inc);
        BSON_APPEND_DOCUMENT_BEGIN(docs[2 * n + 1], "$set", &set);
        BSON_APPEND_INT64(&set, "upto", id);
        bson_append_document_end(docs[2 * n + 1], &set);
        changes[n] = (exj_mongo_change){ .filter = docs[2 * n], .update = docs[2 * n + 1] };
        n++;
    }
    rc = exj_mongo_update(c, s->exec_db, C_POOLS, changes, n, EXJ_MONGO_MAJORITY, &changed, NULL,
                          err);
out:
    for (size_t i = 0; i < 2 * n && docs; i++)
        bson_destroy(docs[i]);
    free(changes);
    free(docs);
    return rc;
}

/* Take out of each row's log what is in the batch, and let it know its newest number. */
static exj_code take_out(exj_mstore *s, exj_mongo_client *c, const bson_t *batch, exj_err *err)
{
    exj_mongo_change *changes = calloc(EXJ_MBATCH_ROWS, sizeof(*changes));
    bson_t **docs = calloc(2 * EXJ_MBATCH_ROWS, sizeof(*docs));
    bson_iter_t it, each, ids;
    exj_mongo_changed changed;
    exj_code rc = EXJ_OK;
    size_t n = 0;

    if (!changes || !docs) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for a batch of the journal");
        goto out;
    }
    if (!exj_bson_find(batch, "rows", &it) || !bson_iter_recurse(&it, &each))
        goto out;
    while (bson_iter_next(&each) && n < EXJ_MBATCH_ROWS) {
        bson_t row, pull, log, id, max;
        const uint8_t *p;
        uint32_t len;

        bson_iter_document(&each, &len, &p);
        if (!bson_init_static(&row, p, len) || !exj_bson_find(&row, "ids", &ids))
            continue;
        docs[2 * n] = BCON_NEW("b", BCON_INT32((int32_t)exj_bson_i64(&row, "b", 0)), "seq",
                               BCON_INT64(exj_bson_i64(&row, "s", 0)));
        docs[2 * n + 1] = bson_new();
        BSON_APPEND_DOCUMENT_BEGIN(docs[2 * n + 1], "$pull", &pull);
        BSON_APPEND_DOCUMENT_BEGIN(&pull, "log", &log);
        BSON_APPEND_DOCUMENT_BEGIN(&log, "id", &id);
        bson_append_iter(&id, "$in", -1, &ids);
        bson_append_document_end(&log, &id);
        bson_append_document_end(&pull, &log);
        bson_append_document_end(docs[2 * n + 1], &pull);
        BSON_APPEND_DOCUMENT_BEGIN(docs[2 * n + 1], "$max", &max);
        BSON_APPEND_INT64(&max, "last", exj_bson_i64(&row, "last", 0));
        bson_append_document_end(docs[2 * n + 1], &max);
        changes[n] = (exj_mongo_change){ .filter = docs[2 * n], .update = docs[2 * n + 1],
                                         .hint = "exj_seq" };
        n++;
    }
    rc = exj_mongo_update(c, s->exec_db, C_ROWS, changes, n, EXJ_MONGO_MAJORITY, &changed, NULL, err);
out:
    for (size_t i = 0; i < 2 * n && docs; i++)
        bson_destroy(docs[i]);
    free(changes);
    free(docs);
    return rc;
}

/* `l`: the rows of the batch with their logs, as far as they have them. */
static exj_code apply(exj_mstore *s, exj_mongo_client *c, const bson_t *batch,
                      const struct logs *l, exj_err *err)
{
    struct keeping *w = calloc(1, sizeof(*w));
    exj_code rc;

    if (!w)
        return exj_err_set(err, EXJ_NOMEM, "no memory for a batch of the journal");
    w->s = s;
    for (size_t i = 0; i < l->len; i++)
        exj_mbatch_kept(batch, l->docs[i], keep_one, w);
    rc = insert_kept(s, c, C_FAILURES, w->failures, w->failures_len, err);
    free(w);
    if (!rc)
        rc = count_all(s, c, batch, err);
    return rc ? rc : take_out(s, c, batch, err);
}

/* ---- the chain ----------------------------------------------------------------------------- */

struct end {
    bson_t *batch; /* owned; NULL: none */
};

static exj_code keep_batch(void *user, const bson_t *doc, exj_err *err)
{
    struct end *e = user;

    (void)err;
    e->batch = bson_copy(doc);
    return EXJ_OK;
}

static exj_code logs_of(exj_mstore *s, exj_mongo_client *c, const bson_t *batch, struct logs *l,
                        exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, list, one;
    bson_iter_t it, each;
    char index[16];
    const char *key;
    uint32_t n = 0;
    exj_code rc = EXJ_OK;

    BSON_APPEND_ARRAY_BEGIN(&filter, "$or", &list);
    if (exj_bson_find(batch, "rows", &it) && bson_iter_recurse(&it, &each))
        while (bson_iter_next(&each)) {
            bson_t row;
            const uint8_t *p;
            uint32_t len;

            bson_iter_document(&each, &len, &p);
            if (!bson_init_static(&row, p, len))
                continue;
            bson_uint32_to_string(n++, &key, index, sizeof(index));
            bson_append_document_begin(&list, key, -1, &one);
            BSON_APPEND_INT32(&one, "b", (int32_t)exj_bson_i64(&row, "b", 0));
            BSON_APPEND_INT64(&one, "seq", exj_bson_i64(&row, "s", 0));
            bson_append_document_end(&list, &one);
        }
    bson_append_array_end(&filter, &list);
    log_fields(&opts);
    if (n)
        rc = exj_mongo_find(c, s->exec_db, C_ROWS, &filter, &opts, keep_log, l, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

/* Know where the chain ends; what stands there may have been left half done by its author. */
static exj_code find_end(exj_mstore *s, exj_mongo_client *c, struct logs *l, exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sort;
    struct end e = { 0 };
    exj_code rc;

    BSON_APPEND_DOCUMENT_BEGIN(&opts, "sort", &sort);
    BSON_APPEND_INT32(&sort, "_id", -1);
    bson_append_document_end(&opts, &sort);
    BSON_APPEND_INT64(&opts, "limit", 1);
    rc = exj_mongo_find(c, s->exec_db, C_EVENTS, &filter, &opts, keep_batch, &e, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    if (rc)
        return rc;
    if (!e.batch) {
        s->chain_id = 0;
        s->chain_end = 1;
    } else {
        s->chain_id = exj_bson_i64(e.batch, "_id", 0);
        s->chain_end = exj_bson_i64(e.batch, "end", 0);
        if (s->chain_id <= 0 || s->chain_end <= 0)
            rc = exj_err_set(err, EXJ_CORRUPT, "the last batch of %s.%s is damaged", s->exec_db,
                             C_EVENTS);
        if (!rc)
            rc = logs_of(s, c, e.batch, l, err);
        if (!rc)
            rc = apply(s, c, e.batch, l, err);
        drop_logs(l);
        bson_destroy(e.batch);
    }
    s->chain_known = rc == EXJ_OK;
    return rc;
}

exj_code exj_mstore_chain_end(exj_mstore *s, exj_mongo_client *c, int64_t *ret_last, exj_err *err)
{
    struct logs l = { .docs = calloc(EXJ_MBATCH_ROWS, sizeof(*l.docs)) };
    exj_code rc = EXJ_OK;

    if (!l.docs)
        return exj_err_set(err, EXJ_NOMEM, "no memory to look at the journal");
    pthread_mutex_lock(&s->drain_mu);
    rc = find_end(s, c, &l, err); /* others may have added to it */
    *ret_last = rc ? 0 : s->chain_end - 1;
    pthread_mutex_unlock(&s->drain_mu);
    free(l.docs);
    return rc;
}

static exj_code add_batch(exj_mstore *s, exj_mongo_client *c, struct logs *l, bool *ret_added,
                          exj_err *err)
{
    bson_t batch = BSON_INITIALIZER;
    const bson_t *one = &batch;
    exj_err why = { 0 };
    int64_t end = 0;
    size_t rows = 0;
    exj_code rc = exj_mbatch_make((const bson_t *const *)l->docs, l->len, s->chain_id + 1,
                                  s->chain_end, exj_mstore_now(&s->base), &batch, &rows, &end, err);

    *ret_added = false;
    if (!rc) {
        rc = exj_mongo_insert(c, s->exec_db, C_EVENTS, &one, 1, NULL, &why);
        if (rc == EXJ_CONFLICT || rc == EXJ_UNKNOWN) {
            s->chain_known = false; /* somebody was faster, or perhaps it was us: look */
            rc = rc == EXJ_CONFLICT ? EXJ_OK : exj_err_set(err, rc, "%s", why.text);
        } else if (rc) {
            exj_err_set(err, rc, "%s", why.text);
        } else {
            s->chain_known = false; /* until it is applied */
            rc = apply(s, c, &batch, l, err);
            if (!rc) {
                s->chain_id++;
                s->chain_end = end;
                s->chain_known = *ret_added = true;
            }
        }
    }
    bson_destroy(&batch);
    return rc;
}

exj_code exj_mstore_drain(exj_mstore *s, exj_mongo_client *c, exj_err *err)
{
    struct logs l = { .docs = calloc(EXJ_MBATCH_ROWS, sizeof(*l.docs)) };
    int64_t told = 0;
    exj_code rc = EXJ_OK;
    bool added, more = true;

    if (!l.docs)
        return exj_err_set(err, EXJ_NOMEM, "no memory for a batch of the journal");
    pthread_mutex_lock(&s->drain_mu);
    for (int again = 0; !rc && more; ) {
        rc = find_logs(s, c, &l, err);
        more = !rc && l.len > 0;
        if (more && !s->chain_known) {
            drop_logs(&l);
            rc = find_end(s, c, &l, err);
            if (++again > 100)
                rc = exj_err_set(err, EXJ_IO, "the journal: others were faster 100 times");
            continue; /* what was found may be in the batch that was just applied */
        }
        if (more) {
            rc = add_batch(s, c, &l, &added, err);
            if (!rc && added)
                told = s->chain_end - 1;
        }
        drop_logs(&l);
    }
    pthread_mutex_unlock(&s->drain_mu);
    free(l.docs);
    if (told) {
        pthread_mutex_lock(&s->listen_mu);
        if (s->news)
            s->news(s->news_user, told);
        pthread_mutex_unlock(&s->listen_mu);
    }
    return rc;
}
