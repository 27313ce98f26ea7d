#include "core/store/mongo/row.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/store/mongo/value.h"

int32_t exj_mrow_bucket(int64_t seq)
{
    return (int32_t)((uint64_t)seq * 0x9e3779b97f4a7c15u >> 60);
}

exj_code exj_mrow_status(exj_slice word, exj_status *ret, bool *ret_staged)
{
    *ret_staged = exj_slice_is(word, "staged");
    *ret = EXJ_QUEUED;
    if (*ret_staged)
        return EXJ_OK;
    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        if (exj_slice_is(word, exj_status_name((exj_status)s))) {
            *ret = (exj_status)s;
            return EXJ_OK;
        }
    return EXJ_INVALID;
}

/* ---- reading ------------------------------------------------------------------------------- */

static void load_claim(const bson_t *d, exj_mrow *r)
{
    r->nonce = exj_bson_i64(d, "claim.id", 0);
    r->holder = exj_bson_text(d, "claim.holder");
    r->claimed_at = exj_bson_msec(d, "claim.at");
    r->until = exj_bson_msec(d, "claim.until");
    r->done_nonce = exj_bson_i64(d, "done.id", 0);
    r->done_token = exj_bson_i64(d, "done.token", 0);
    r->done_at = exj_bson_msec(d, "done.at");
    r->cancel_asked = exj_bson_bool(d, "cancelAsked");
}

static void load_wait(const bson_t *d, exj_mrow *r)
{
    static const char *const kinds[] = { [EXJ_WAIT_TIME] = "time",
                                         [EXJ_WAIT_SIGNAL] = "signal",
                                         [EXJ_WAIT_POLL] = "poll" };
    exj_slice kind = exj_bson_text(d, "wait.kind");

    r->waits = kind.n > 0;
    for (int k = EXJ_WAIT_TIME; k <= EXJ_WAIT_POLL; k++)
        if (exj_slice_is(kind, kinds[k]))
            r->wait = (exj_wait_kind)k;
    r->signal = exj_bson_text(d, "wait.signal");
}

static unsigned log_length(const bson_t *d)
{
    bson_iter_t it, each;
    unsigned n = 0;

    if (exj_bson_find(d, "log", &it) && BSON_ITER_HOLDS_ARRAY(&it) &&
        bson_iter_recurse(&it, &each))
        while (bson_iter_next(&each))
            n++;
    return n;
}

exj_code exj_mrow_load(const bson_t *doc, exj_mrow *ret, exj_err *err)
{
    bson_t *d = bson_copy(doc);
    exj_slice status;
    exj_mrow r = { .doc = d };

    r.seq = exj_bson_i64(d, "seq", 0);
    r.pool = exj_bson_i64(d, "pool", 0);
    r.bucket = (int32_t)exj_bson_i64(d, "b", -1);
    r.rev = exj_bson_i64(d, "rev", 0);
    r.tx = exj_bson_i64(d, "tx", 0);
    status = exj_bson_text(d, "status");
    if (r.seq <= 0 || r.pool <= 0 || r.rev <= 0 || r.bucket != exj_mrow_bucket(r.seq) ||
        exj_mrow_status(status, &r.status, &r.staged)) {
        exj_slice id = exj_bson_text(d, "matrixRowId");

        exj_err_set(err, EXJ_CORRUPT,
                    "the document of row %" PRId64 " (matrixRowId \"%.*s\") is damaged: seq, "
                    "pool, b, rev or status (\"%.*s\") is not what was written",
                    r.seq, (int)(id.n > 100 ? 100 : id.n), id.p ? id.p : "",
                    (int)(status.n > 40 ? 40 : status.n), status.p ? status.p : "");
        bson_destroy(d);
        return EXJ_CORRUPT;
    }
    r.rank = exj_bson_i64(d, "rank", 0);
    r.max_attempts = (uint32_t)exj_bson_i64(d, "maxAttempts", 1);
    r.created_at = exj_bson_msec(d, "createdAt");
    r.matrix = exj_bson_text(d, "matrixCatalogId");
    r.run = exj_bson_text(d, "matrixRunId");
    r.graph = exj_bson_text(d, "graphId");
    r.record_id = exj_bson_text(d, "matrixRowId");
    r.unique_key = exj_bson_text(d, "uniqueKey");
    r.concurrency_key = exj_bson_text(d, "concurrencyKey");
    r.snapshot = exj_bson_text(d, "snapshot");
    r.run_after = exj_bson_msec(d, "runAfter");
    if (r.status == EXJ_SUSPENDED && !r.run_after)
        r.run_after = EXJ_MROW_NEVER;
    r.attempts = (uint32_t)exj_bson_i64(d, "attempts", 0);
    r.token = exj_bson_i64(d, "token", 0);
    r.retried_token = exj_bson_i64(d, "retriedToken", 0);
    r.last = exj_bson_i64(d, "last", 0);
    r.log_len = log_length(d);
    load_claim(d, &r);
    load_wait(d, &r);
    *ret = r;
    return EXJ_OK;
}

void exj_mrow_release(exj_mrow *r)
{
    bson_destroy(r->doc);
    bson_destroy(r->set);
    bson_destroy(r->unset);
    bson_destroy(r->pull);
    bson_destroy(r->add);
    bson_destroy(r->log);
    *r = (exj_mrow){ 0 };
}

/* ---- changing ------------------------------------------------------------------------------ */

bson_t *exj_mrow_set(exj_mrow *r)
{
    if (!r->set)
        r->set = bson_new();
    return r->set;
}

void exj_mrow_unset(exj_mrow *r, const char *name)
{
    if (r->set && bson_has_field(r->set, name)) {
        bson_t *rest = bson_new();

        bson_copy_to_excluding_noinit(r->set, rest, name, NULL);
        bson_destroy(r->set);
        r->set = rest;
    }
    if (!r->unset)
        r->unset = bson_new();
    if (!bson_has_field(r->unset, name))
        bson_append_bool(r->unset, name, -1, true);
}

bson_t *exj_mrow_pull(exj_mrow *r)
{
    if (!r->pull)
        r->pull = bson_new();
    return r->pull;
}

void exj_mrow_add(exj_mrow *r, const char *array, const bson_t *element)
{
    if (!r->add)
        r->add = bson_new();
    BSON_APPEND_DOCUMENT(r->add, array, element);
}

/* What became of the row, for the journal and for the counts of its pool. */
static void push(exj_mrow *r, int kind, int from, int64_t value, exj_slice key,
                 exj_slice text, const bson_t *body, exj_msec now)
{
    char index[16];
    const char *name;
    bson_oid_t id;
    bson_t e;

    if (!r->log)
        r->log = bson_new();
    bson_uint32_to_string(r->log_new++, &name, index, sizeof(index));
    bson_append_document_begin(r->log, name, -1, &e);
    bson_oid_init(&id, NULL);
    BSON_APPEND_OID(&e, "id", &id);
    exj_bson_add_msec(&e, "at", now);
    if (kind >= 0) {
        BSON_APPEND_INT32(&e, "k", kind);
        BSON_APPEND_INT64(&e, "t", r->token);
        BSON_APPEND_INT64(&e, "a", r->attempts);
        if (value)
            BSON_APPEND_INT64(&e, "v", value);
        key = exj_utf8_clip(key, EXJ_ENTRY_KEY_MAX);
        text = exj_utf8_clip(text, EXJ_ENTRY_TEXT_MAX);
        if (key.n)
            exj_bson_add_text(&e, "key", key);
        if (text.n)
            exj_bson_add_text(&e, "text", text);
    }
    if (from != (int)r->status) {
        if (from >= 0)
            BSON_APPEND_INT32(&e, "from", from);
        BSON_APPEND_INT32(&e, "to", (int32_t)r->status);
    }
    if (body)
        BSON_APPEND_DOCUMENT(&e, "body", body);
    bson_append_document_end(r->log, &e);
}

void exj_mrow_come(exj_mrow *r, exj_entry_kind kind, int64_t value, exj_msec now)
{
    static const exj_slice none = { NULL, 0 };

    push(r, (int)kind, -1, value, none, none, NULL, now);
}

void exj_mrow_tell(exj_mrow *r, exj_entry_kind kind, int64_t value, exj_slice key, exj_slice text,
                   const bson_t *body, exj_msec now)
{
    push(r, (int)kind, (int)r->status, value, key, text, body, now);
}

exj_code exj_mrow_move(exj_mrow *r, exj_event event, int64_t value, exj_slice key, exj_slice text,
                       const bson_t *body, exj_msec now, exj_err *err)
{
    exj_status from = r->status, to;
    exj_entry_kind kind;
    exj_code rc = exj_state_move(from, event, &to, err);

    if (rc)
        return rc;
    r->status = to;
    if (exj_entry_of(event, &kind))
        push(r, (int)kind, (int)from, value, key, text, body, now);
    else if (from != to)
        push(r, -1, (int)from, 0, key, text, body, now);
    return EXJ_OK;
}

void exj_mrow_end_claim(exj_mrow *r, exj_msec now)
{
    r->done_nonce = r->nonce;
    r->done_token = r->token;
    r->done_at = now;
    r->nonce = 0;
    r->holder = (exj_slice){ NULL, 0 };
    r->until = r->claimed_at = 0;
    r->cancel_asked = false;
}

/* ---- writing ------------------------------------------------------------------------------- */

void exj_mrow_guard(const exj_mrow *r, bson_t *ret)
{
    BSON_APPEND_INT32(ret, "b", r->bucket);
    BSON_APPEND_INT64(ret, "seq", r->seq);
    BSON_APPEND_INT64(ret, "rev", r->rev);
    if (r->tx)
        BSON_APPEND_INT64(ret, "tx", r->tx);
    else
        BSON_APPEND_NULL(ret, "tx");
    if (r->guard_until)
        exj_bson_add_msec(ret, "claim.until", r->guard_until);
}

static void add_subject(bson_t *d, const char *name, int64_t id, const char *holder_or_token,
                        exj_slice holder, int64_t token, exj_msec at, exj_msec until)
{
    bson_t sub;

    bson_append_document_begin(d, name, -1, &sub);
    BSON_APPEND_INT64(&sub, "id", id);
    if (holder.p)
        exj_bson_add_text(&sub, holder_or_token, holder);
    else
        BSON_APPEND_INT64(&sub, holder_or_token, token);
    exj_bson_add_msec(&sub, "at", at);
    if (until)
        exj_bson_add_msec(&sub, "until", until);
    bson_append_document_end(d, &sub);
}

/* The members of the state: into `set` what is there, into `unset` (may be NULL) what is not. */
static void add_state(const exj_mrow *r, bson_t *set, bson_t *unset)
{
    static const char *const kinds[] = { [EXJ_WAIT_TIME] = "time",
                                         [EXJ_WAIT_SIGNAL] = "signal",
                                         [EXJ_WAIT_POLL] = "poll" };
    static const exj_slice none = { NULL, 0 };
    bson_t sub;

    BSON_APPEND_UTF8(set, "status", r->staged ? "staged" : exj_status_name(r->status));
    BSON_APPEND_INT64(set, "attempts", r->attempts);
    BSON_APPEND_INT64(set, "token", r->token);
    if (r->run_after && r->run_after != EXJ_MROW_NEVER)
        exj_bson_add_msec(set, "runAfter", r->run_after);
    else if (unset)
        BSON_APPEND_BOOL(unset, "runAfter", true);
    if (r->nonce)
        add_subject(set, "claim", r->nonce, "holder", r->holder, 0, r->claimed_at, r->until);
    else if (unset)
        BSON_APPEND_BOOL(unset, "claim", true);
    if (r->done_at)
        add_subject(set, "done", r->done_nonce, "token", none, r->done_token, r->done_at, 0);
    if (r->cancel_asked)
        BSON_APPEND_BOOL(set, "cancelAsked", true);
    else if (unset)
        BSON_APPEND_BOOL(unset, "cancelAsked", true);
    if (r->waits) {
        BSON_APPEND_DOCUMENT_BEGIN(set, "wait", &sub);
        BSON_APPEND_UTF8(&sub, "kind", kinds[r->wait]);
        exj_bson_add_text(&sub, "signal", r->signal);
        bson_append_document_end(set, &sub);
    } else if (unset) {
        BSON_APPEND_BOOL(unset, "wait", true);
    }
    if (r->retried_token)
        BSON_APPEND_INT64(set, "retriedToken", r->retried_token);
}

void exj_mrow_update(exj_mrow *r, bson_t *ret)
{
    bson_t set = BSON_INITIALIZER, unset = BSON_INITIALIZER, inc, push_to, each, ids;
    bson_iter_t it;

    add_state(r, &set, &unset);
    if (r->set)
        bson_concat(&set, r->set);
    if (r->unset && bson_iter_init(&it, r->unset))
        while (bson_iter_next(&it)) /* what was set after it stays */
            if (!r->set || !bson_has_field(r->set, bson_iter_key(&it)))
                BSON_APPEND_BOOL(&unset, bson_iter_key(&it), true);
    if (r->tx)
        BSON_APPEND_BOOL(&unset, "tx", true);
    BSON_APPEND_DOCUMENT(ret, "$set", &set);
    if (!bson_empty(&unset))
        BSON_APPEND_DOCUMENT(ret, "$unset", &unset);
    if (r->pull)
        BSON_APPEND_DOCUMENT(ret, "$pull", r->pull);
    BSON_APPEND_DOCUMENT_BEGIN(ret, "$inc", &inc);
    BSON_APPEND_INT64(&inc, "rev", 1);
    bson_append_document_end(ret, &inc);
    if (r->log || r->add || r->write) {
        BSON_APPEND_DOCUMENT_BEGIN(ret, "$push", &push_to);
        if (r->write) {
            BSON_APPEND_DOCUMENT_BEGIN(&push_to, "w", &each);
            BSON_APPEND_ARRAY_BEGIN(&each, "$each", &ids);
            BSON_APPEND_INT64(&ids, "0", r->write);
            bson_append_array_end(&each, &ids);
            BSON_APPEND_INT32(&each, "$slice", -EXJ_MROW_WRITES);
            bson_append_document_end(&push_to, &each);
        }
        if (r->add)
            bson_concat(&push_to, r->add);
        if (r->log) {
            BSON_APPEND_DOCUMENT_BEGIN(&push_to, "log", &each);
            BSON_APPEND_ARRAY(&each, "$each", r->log);
            bson_append_document_end(&push_to, &each);
        }
        bson_append_document_end(ret, &push_to);
    }
    bson_destroy(&set);
    bson_destroy(&unset);
}

void exj_mrow_document(exj_mrow *r, bson_t *ret)
{
    BSON_APPEND_INT64(ret, "_id", r->seq);
    BSON_APPEND_INT64(ret, "seq", r->seq);
    BSON_APPEND_INT32(ret, "b", exj_mrow_bucket(r->seq));
    BSON_APPEND_INT64(ret, "pool", r->pool);
    exj_bson_add_text(ret, "matrixCatalogId", r->matrix);
    if (r->run.n)
        exj_bson_add_text(ret, "matrixRunId", r->run);
    else
        BSON_APPEND_NULL(ret, "matrixRunId");
    exj_bson_add_text(ret, "graphId", r->graph);
    exj_bson_add_text(ret, "matrixRowId", r->record_id);
    BSON_APPEND_INT64(ret, "rank", r->rank);
    BSON_APPEND_INT64(ret, "maxAttempts", r->max_attempts);
    exj_bson_add_msec(ret, "createdAt", r->created_at);
    if (r->unique_key.n)
        exj_bson_add_text(ret, "uniqueKey", r->unique_key);
    if (r->concurrency_key.n)
        exj_bson_add_text(ret, "concurrencyKey", r->concurrency_key);
    if (r->snapshot.n)
        exj_bson_add_text(ret, "snapshot", r->snapshot);
    BSON_APPEND_INT64(ret, "rev", 1);
    if (r->tx)
        BSON_APPEND_INT64(ret, "tx", r->tx);
    add_state(r, ret, NULL);
    if (r->log)
        BSON_APPEND_ARRAY(ret, "log", r->log);
    if (r->set)
        bson_concat(ret, r->set);
}
