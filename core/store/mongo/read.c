/* core/store/mongo/read.c - reads, with clients of their own. [any thread]
 *
 * What is told with numbers of the journal (entries, counts, the newest number of a row) is told
 * after a drain. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/store/mongo/batch.h"
#include "core/store/mongo/inside.h"
#include "core/store/mongo/transcode.h"
#include "core/store/mongo/value.h"

exj_msec exj_mstore_now(exj_store *base)
{
    exj_mstore *s = exj_mstore_of(base);
    exj_msec now;

    if (s->seam.now_ms)
        return s->seam.now_ms(s->seam.user);
    pthread_mutex_lock(&s->clock_mu);
    now = exj_mongo_clock_now(&s->clock, exj_clock_mono_ns());
    pthread_mutex_unlock(&s->clock_mu);
    return now;
}

/* A client, and all that was done until now carried over into the journal, where that is asked. */
static exj_code begin(exj_mstore *s, bool numbers, exj_mongo_client **ret, exj_err *err)
{
    exj_code rc = exj_mongo_client_take(s->m, ret, err);

    if (rc)
        return rc;
    if (numbers)
        rc = exj_mstore_drain(s, *ret, err);
    if (rc)
        exj_mongo_client_give(*ret);
    return rc;
}

/* ---- rows ---------------------------------------------------------------------------------- */

struct show_row {
    exj_mstore *s;
    exj_row_visit visit;
    void *user;
    bool seen, over;
};

static exj_code add_value(const bson_t *doc, const char *name, exj_buf *arena, exj_err *err)
{
    bson_iter_t it;

    return exj_bson_find(doc, name, &it) ? exj_bson_value_to_json(&it, NULL, arena, err) : EXJ_OK;
}

static exj_code show_row(void *user, const bson_t *doc, exj_err *err)
{
    struct show_row *w = user;
    exj_buf input = EXJ_BUF_INIT, result = EXJ_BUF_INIT;
    exj_row_view v;
    exj_mrow r;
    bool live;
    exj_code rc;

    if (w->over)
        return EXJ_OK;
    rc = exj_mrow_load(doc, &r, err);
    if (rc)
        return rc;
    if (r.staged)
        goto out;
    rc = add_value(doc, "input", &input, err);
    if (!rc)
        rc = add_value(doc, "result", &result, err);
    if (rc)
        goto out;
    live = r.status == EXJ_QUEUED || r.status == EXJ_WAITING || r.status == EXJ_RUNNING ||
           r.status == EXJ_SUSPENDED || r.status == EXJ_PARKED;
    v = (exj_row_view){
        .seq = r.seq, .pool = r.pool, .token = r.token, .matrix = r.matrix, .run = r.run,
        .graph = r.graph, .record_id = r.record_id, .input = exj_buf_slice(&input),
        .status = r.status, .priority = (int32_t)-r.rank, .attempts = r.attempts,
        .max_attempts = r.max_attempts, .created_at = r.created_at,
        .run_after = r.run_after == EXJ_MROW_NEVER || !live ? 0 : r.run_after,
        .lease_until = r.until, .finished_at = exj_bson_msec(doc, "finishedAt"),
        .holder = r.holder, .result = exj_buf_slice(&result),
        .error_code = exj_bson_text(doc, live ? "lastErrorCode" : "errorCode"),
        .error_text = exj_bson_text(doc, live ? "lastErrorText" : "errorText"),
        .signal = r.waits ? r.signal : (exj_slice){ NULL, 0 }, .unique_key = r.unique_key,
        .concurrency_key = r.concurrency_key, .snapshot = r.snapshot, .progress = -1,
        .cancel_asked = r.cancel_asked, .last_entry = r.last
    };
    if (exj_bson_i64(doc, "progress.token", -1) == r.token) {
        v.progress = exj_bson_real(doc, "progress.at", -1);
        v.progress_note = exj_bson_text(doc, "progress.note");
    }
    w->seen = true;
    w->over = !w->visit(w->user, &v);
out:
    exj_buf_release(&input);
    exj_buf_release(&result);
    exj_mrow_release(&r);
    return rc;
}

static exj_code show_rows(exj_mstore *s, const bson_t *filter, const bson_t *opts,
                          exj_row_visit visit, void *user, bool *ret_seen, exj_err *err)
{
    struct show_row w = { .s = s, .visit = visit, .user = user };
    exj_mongo_client *c;
    exj_code rc = begin(s, true, &c, err);

    if (rc)
        return rc;
    rc = exj_mongo_find(c, s->exec_db, C_ROWS, filter, opts, show_row, &w, err);
    exj_mongo_client_give(c);
    *ret_seen = w.seen;
    return rc;
}

exj_code exj_mstore_row_by_seq(exj_store *base, int64_t seq, exj_row_visit visit, void *user,
                               exj_err *err)
{
    bson_t *filter = BCON_NEW("b", BCON_INT32(exj_mrow_bucket(seq)), "seq", BCON_INT64(seq));
    bool seen = false;
    exj_code rc = show_rows(exj_mstore_of(base), filter, NULL, visit, user, &seen, err);

    bson_destroy(filter);
    return rc || seen ? rc : exj_err_set(err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
}

exj_code exj_mstore_row_get(exj_store *base, exj_slice matrix, exj_slice run, exj_slice graph,
                            exj_slice record_id, exj_row_visit visit, void *user, exj_err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bool seen = false;
    exj_code rc;

    exj_bson_add_text(&filter, "matrixCatalogId", matrix);
    if (run.n)
        exj_bson_add_text(&filter, "matrixRunId", run);
    else
        BSON_APPEND_NULL(&filter, "matrixRunId");
    exj_bson_add_text(&filter, "graphId", graph);
    exj_bson_add_text(&filter, "matrixRowId", record_id);
    rc = show_rows(exj_mstore_of(base), &filter, NULL, visit, user, &seen, err);
    bson_destroy(&filter);
    return rc || seen ? rc
                      : exj_err_set(err, EXJ_NOT_FOUND, "no row \"%.*s\"",
                                    (int)(record_id.n > 200 ? 200 : record_id.n), record_id.p);
}

static void add_statuses(bson_t *filter, int status)
{
    bson_t in, list;

    if (status < 0) {
        BSON_APPEND_DOCUMENT_BEGIN(filter, "status", &in);
        BSON_APPEND_UTF8(&in, "$ne", "staged");
        bson_append_document_end(filter, &in);
    } else if (status == EXJ_QUEUED) {
        BSON_APPEND_DOCUMENT_BEGIN(filter, "status", &in);
        BSON_APPEND_ARRAY_BEGIN(&in, "$in", &list);
        BSON_APPEND_UTF8(&list, "0", "queued");
        BSON_APPEND_UTF8(&list, "1", "waiting");
        BSON_APPEND_UTF8(&list, "2", "parked");
        bson_append_array_end(&in, &list);
        bson_append_document_end(filter, &in);
    } else {
        BSON_APPEND_UTF8(filter, "status", exj_status_name((exj_status)status));
    }
}

static void by_seq(bson_t *opts, int way, size_t limit)
{
    bson_t sort;

    BSON_APPEND_DOCUMENT_BEGIN(opts, "sort", &sort);
    BSON_APPEND_INT32(&sort, "seq", way);
    bson_append_document_end(opts, &sort);
    BSON_APPEND_INT64(opts, "limit", (int64_t)limit);
}

exj_code exj_mstore_row_page(exj_store *base, const exj_row_filter *f, exj_row_visit visit,
                             void *user, exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, in;
    bool seen;
    exj_code rc;

    if (f->limit < 1 || f->limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "a page of %zu rows: 1 to 1000 are allowed", f->limit);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "seq", &in);
    BSON_APPEND_INT64(&in, "$gt", f->after_seq);
    bson_append_document_end(&filter, &in);
    if (f->matrix.n)
        exj_bson_add_text(&filter, "matrixCatalogId", f->matrix);
    if (f->run.n)
        exj_bson_add_text(&filter, "matrixRunId", f->run);
    if (f->graph.n)
        exj_bson_add_text(&filter, "graphId", f->graph);
    if (f->error_code.n)
        exj_bson_add_text(&filter, "errorCode", f->error_code);
    add_statuses(&filter, f->status);
    by_seq(&opts, 1, f->limit);
    rc = show_rows(exj_mstore_of(base), &filter, &opts, visit, user, &seen, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

exj_code exj_mstore_row_recent(exj_store *base, int64_t pool, exj_status status, size_t limit,
                               exj_row_visit visit, void *user, exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    bool seen;
    exj_code rc;

    if (limit < 1 || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "%zu rows: 1 to 1000 are allowed", limit);
    BSON_APPEND_INT64(&filter, "pool", pool);
    BSON_APPEND_UTF8(&filter, "status", exj_status_name(status));
    by_seq(&opts, -1, limit);
    rc = show_rows(exj_mstore_of(base), &filter, &opts, visit, user, &seen, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

/* ---- inputs of claimed rows ---------------------------------------------------------------- */

struct loading {
    const exj_claim *claims;
    size_t n;
    exj_loaded *ret;
    size_t *at; /* offsets in the arena, which moves: record, input */
    exj_buf *arena;
    size_t found;
};

static exj_code load_one(void *user, const bson_t *doc, exj_err *err)
{
    struct loading *w = user;
    int64_t seq = exj_bson_i64(doc, "seq", 0);
    size_t i = 0;
    exj_code rc;

    while (i < w->n && w->claims[i].seq != seq)
        i++;
    if (i == w->n)
        return EXJ_OK;
    w->at[3 * i] = w->arena->n;
    exj_buf_add_slice(w->arena, exj_bson_text(doc, "matrixRowId"));
    w->at[3 * i + 1] = w->arena->n;
    rc = add_value(doc, "input", w->arena, err);
    w->at[3 * i + 2] = w->arena->n;
    w->found++;
    return rc ? rc
              : (w->arena->failed ? exj_err_set(err, EXJ_NOMEM, "no memory to load rows") : EXJ_OK);
}

exj_code exj_mstore_load(exj_store *base, const exj_claim *claims, size_t n, exj_loaded *ret,
                         exj_buf *arena, exj_err *err)
{
    exj_mstore *s = exj_mstore_of(base);
    struct loading w = { .claims = claims, .n = n, .ret = ret, .arena = arena };
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, list, one, fields;
    exj_mongo_client *c = NULL;
    char index[16];
    const char *key;
    exj_code rc;

    if (!n)
        return EXJ_OK;
    w.at = calloc(3 * n, sizeof(*w.at));
    if (!w.at)
        return exj_err_set(err, EXJ_NOMEM, "no memory to load %zu rows", n);
    BSON_APPEND_ARRAY_BEGIN(&filter, "$or", &list);
    for (size_t i = 0; i < n; i++) {
        bson_uint32_to_string((uint32_t)i, &key, index, sizeof(index));
        bson_append_document_begin(&list, key, -1, &one);
        BSON_APPEND_INT32(&one, "b", exj_mrow_bucket(claims[i].seq));
        BSON_APPEND_INT64(&one, "seq", claims[i].seq);
        bson_append_document_end(&list, &one);
    }
    bson_append_array_end(&filter, &list);
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &fields);
    BSON_APPEND_INT32(&fields, "seq", 1);
    BSON_APPEND_INT32(&fields, "matrixRowId", 1);
    BSON_APPEND_INT32(&fields, "input", 1);
    bson_append_document_end(&opts, &fields);
    rc = begin(s, false, &c, err);
    if (!rc) {
        rc = exj_mongo_find(c, s->exec_db, C_ROWS, &filter, &opts, load_one, &w, err);
        exj_mongo_client_give(c);
    }
    for (size_t i = 0; i < n && !rc; i++) {
        if (w.at[3 * i + 2] == 0)
            rc = exj_err_set(err, EXJ_CORRUPT, "row %" PRId64 " is claimed and not there", claims[i].seq);
        ret[i].record_id = (exj_slice){ arena->p + w.at[3 * i], w.at[3 * i + 1] - w.at[3 * i] };
        ret[i].input = (exj_slice){ arena->p + w.at[3 * i + 1],
                                    w.at[3 * i + 2] - w.at[3 * i + 1] };
    }
    bson_destroy(&filter);
    bson_destroy(&opts);
    free(w.at);
    return rc;
}

/* ---- pools --------------------------------------------------------------------------------- */

struct show_pool {
    exj_pool_visit visit;
    void *user;
    bool over;
};

static exj_code show_pool(void *user, const bson_t *doc, exj_err *err)
{
    struct show_pool *w = user;
    exj_pool_info p = { .pool = exj_bson_i64(doc, "_id", 0),
                        .matrix = exj_bson_text(doc, "matrix"),
                        .run = exj_bson_text(doc, "run"),
                        .graph = exj_bson_text(doc, "graph") };

    (void)err;
    for (int i = 0; i < EXJ_STATUS_COUNT; i++) {
        char name[16];

        snprintf(name, sizeof(name), "n.%d", i);
        p.counts[i] = exj_bson_i64(doc, name, 0);
    }
    if (!w->over)
        w->over = !w->visit(w->user, &p);
    return EXJ_OK;
}

exj_code exj_mstore_pools(exj_store *base, exj_pool_visit visit, void *user, exj_err *err)
{
    exj_mstore *s = exj_mstore_of(base);
    struct show_pool w = { .visit = visit, .user = user };
    bson_t filter = BSON_INITIALIZER, *opts = BCON_NEW("sort", "{", "_id", BCON_INT32(1), "}");
    exj_mongo_client *c;
    exj_code rc = begin(s, true, &c, err);

    if (!rc) {
        rc = exj_mongo_find(c, s->exec_db, C_POOLS, &filter, opts, show_pool, &w, err);
        exj_mongo_client_give(c);
    }
    bson_destroy(&filter);
    bson_destroy(opts);
    return rc;
}

/* ---- the journal --------------------------------------------------------------------------- */

struct show_events {
    exj_mstore *s;
    exj_mongo_client *names; /* a second client: the first one is reading */
    exj_event_visit visit;
    void *user;
    int64_t after, seq; /* seq 0: of all rows */
    size_t limit, shown;
    bool over;
};

static exj_code name_row(void *user, const bson_t *doc, exj_err *err)
{
    (void)err;
    *(bson_t **)user = bson_copy(doc);
    return EXJ_OK;
}

static exj_code show_entry(struct show_events *w, const exj_journal_entry *e, exj_err *err)
{
    bson_t *filter = BCON_NEW("b", BCON_INT32(exj_mrow_bucket(e->seq)), "seq",
                              BCON_INT64(e->seq));
    bson_t *opts = BCON_NEW("projection", "{", "pool", BCON_INT32(1), "matrixCatalogId",
                            BCON_INT32(1), "matrixRunId", BCON_INT32(1), "graphId", BCON_INT32(1),
                            "matrixRowId", BCON_INT32(1), "}");
    exj_event_view v = { .entry = *e };
    bson_t *row = NULL;
    exj_code rc = exj_mongo_find(w->names, w->s->exec_db, C_ROWS, filter, opts, name_row, &row, err);

    if (!rc && row) {
        v.pool = exj_bson_i64(row, "pool", 0);
        v.matrix = exj_bson_text(row, "matrixCatalogId");
        v.run = exj_bson_text(row, "matrixRunId");
        v.graph = exj_bson_text(row, "graphId");
        v.record_id = exj_bson_text(row, "matrixRowId");
    }
    if (!rc)
        w->over = !w->visit(w->user, &v) || ++w->shown == w->limit;
    bson_destroy(row);
    bson_destroy(filter);
    bson_destroy(opts);
    return rc;
}

static exj_code show_batch(void *user, const bson_t *doc, exj_err *err)
{
    struct show_events *w = user;
    exj_mbatch_iter it;
    exj_journal_entry e;
    exj_code rc = EXJ_OK;

    if (w->over)
        return EXJ_OK;
    exj_mbatch_iter_init(&it, doc);
    while (!rc && !w->over && exj_mbatch_iter_next(&it, &e))
        if (e.number > w->after && (!w->seq || e.seq == w->seq))
            rc = show_entry(w, &e, err);
    if (!rc && it.corrupt)
        rc = exj_err_set(err, EXJ_CORRUPT, "batch %" PRId64 " of the journal is damaged",
                         exj_bson_i64(doc, "_id", 0));
    return rc;
}

static exj_code show_all(struct show_events *w, const bson_t *filter, exj_err *err)
{
    bson_t *opts = BCON_NEW("sort", "{", "_id", BCON_INT32(1), "}");
    exj_mongo_client *c;
    exj_code rc = begin(w->s, true, &c, err);

    if (!rc) {
        rc = exj_mongo_client_take(w->s->m, &w->names, err);
        if (!rc) {
            rc = exj_mongo_find(c, w->s->exec_db, C_EVENTS, filter, opts, show_batch, w, err);
            exj_mongo_client_give(w->names);
        }
        exj_mongo_client_give(c);
    }
    bson_destroy(opts);
    return rc;
}

exj_code exj_mstore_events(exj_store *base, int64_t after, size_t limit, exj_event_visit visit,
                           void *user, exj_err *err)
{
    struct show_events w = { .s = exj_mstore_of(base), .visit = visit, .user = user,
                             .after = after, .limit = limit };
    bson_t *filter;
    exj_code rc;

    if (limit < 1 || limit > 10000)
        return exj_err_set(err, EXJ_INVALID, "%zu events: 1 to 10000 are allowed", limit);
    filter = BCON_NEW("end", "{", "$gt", BCON_INT64(after + 1), "}");
    rc = show_all(&w, filter, err);
    bson_destroy(filter);
    return rc;
}

exj_code exj_mstore_journal(exj_store *base, int64_t seq, size_t limit, exj_event_visit visit,
                            void *user, exj_err *err)
{
    struct show_events w = { .s = exj_mstore_of(base), .visit = visit, .user = user, .seq = seq,
                             .limit = limit };
    bson_t *filter;
    exj_code rc;

    if (limit < 1 || limit > 100000)
        return exj_err_set(err, EXJ_INVALID, "%zu entries: 1 to 100000 are allowed", limit);
    filter = BCON_NEW("rows.s", BCON_INT64(seq));
    rc = show_all(&w, filter, err);
    bson_destroy(filter);
    return rc;
}

exj_code exj_mstore_events_span(exj_store *base, int64_t *ret_first, int64_t *ret_last,
                                exj_err *err)
{
    exj_mstore *s = exj_mstore_of(base);
    exj_mongo_client *c;
    exj_code rc = begin(s, true, &c, err);

    *ret_first = 1;
    *ret_last = 0;
    if (rc)
        return rc;
    rc = exj_mstore_chain_end(s, c, ret_last, err);
    exj_mongo_client_give(c);
    return rc;
}

void exj_mstore_listen(exj_store *base, void (*news)(void *user, int64_t last), void *user)
{
    exj_mstore *s = exj_mstore_of(base);

    pthread_mutex_lock(&s->listen_mu);
    s->news = news;
    s->news_user = user;
    pthread_mutex_unlock(&s->listen_mu);
}

/* ---- failures ------------------------------------------------------------------------------ */

struct show_failure {
    exj_failure_visit visit;
    void *user;
    bool over;
};

static exj_code show_failure(void *user, const bson_t *doc, exj_err *err)
{
    struct show_failure *w = user;
    exj_failure_view v = { .token = exj_bson_i64(doc, "token", 0),
                           .attempt = (uint32_t)exj_bson_i64(doc, "attempt", 0),
                           .at = exj_bson_msec(doc, "at"),
                           .code = exj_bson_text(doc, "failure.code"),
                           .text = exj_bson_text(doc, "failure.text") };

    (void)err;
    if (!w->over)
        w->over = !w->visit(w->user, &v);
    return EXJ_OK;
}

exj_code exj_mstore_failure_each(exj_store *base, int64_t seq, size_t limit,
                                 exj_failure_visit visit, void *user, exj_err *err)
{
    exj_mstore *s = exj_mstore_of(base);
    struct show_failure w = { .visit = visit, .user = user };
    exj_mongo_client *c;
    bson_t *filter, *opts;
    exj_code rc;

    if (limit < 1 || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "%zu failures: 1 to 1000 are allowed", limit);
    rc = begin(s, true, &c, err);
    if (rc)
        return rc;
    filter = BCON_NEW("seq", BCON_INT64(seq));
    opts = BCON_NEW("sort", "{", "token", BCON_INT32(-1), "}", "limit", BCON_INT64((int64_t)limit));
    rc = exj_mongo_find(c, s->exec_db, C_FAILURES, filter, opts, show_failure, &w, err);
    exj_mongo_client_give(c);
    bson_destroy(filter);
    bson_destroy(opts);
    return rc;
}
