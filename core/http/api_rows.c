/* Rows: a page of them, one with everything, and the operator's retry. */
#include "core/http/exchange.h"
#include "core/job/record.h"

static json_t *row_lease(const exj_row_view *r)
{
    if (r->status != EXJ_RUNNING)
        return json_null();
    return json_pack("{s:o,s:I,s:o}", "holder", exj_json_text(r->holder), "fencingToken",
                     (json_int_t)r->token, "expiresAt", exj_json_instant(r->lease_until));
}

static json_t *row_error(const exj_row_view *r)
{
    if (r->error_code.n == 0 && r->error_text.n == 0)
        return json_null();
    return json_pack("{s:o,s:o}", "code", exj_json_text(r->error_code), "message",
                     exj_json_text(r->error_text));
}

/* New reference; NULL: no memory. */
static json_t *row_shown(const exj_row_view *r)
{
    exj_buf name = EXJ_BUF_INIT;
    json_t *o = NULL;

    if (exj_row_name_add(&name, r->matrix, r->run, r->graph, r->record_id))
        o = json_pack("{s:o,s:o,s:o,s:o,s:o,s:s,s:i,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:o}",
                      "matrixRowId", exj_json_text(exj_buf_slice(&name)), "matrixCatalogId",
                      exj_json_text(r->matrix), "matrixRunId",
                      r->run.n ? exj_json_text(r->run) : json_null(), "graphId",
                      exj_json_text(r->graph), "recordId", exj_json_text(r->record_id),
                      "status", exj_status_word(r->status), "priority", (int)r->priority,
                      "attempts", (json_int_t)r->attempts, "maxAttempts",
                      (json_int_t)r->max_attempts, "lease", row_lease(r), "runAfter",
                      exj_json_instant(r->run_after), "createdAt",
                      exj_json_instant(r->created_at), "finishedAt",
                      exj_json_instant(r->finished_at), "error", row_error(r), "snapshot",
                      r->snapshot.n ? exj_json_text(r->snapshot) : json_null());
    exj_buf_release(&name);
    return o;
}

/* ---- a page ------------------------------------------------------------------------------ */

struct page {
    json_t *rows;
    int64_t last_seq;
    size_t seen;
    bool failed;
};

static bool visit_row(void *user, const exj_row_view *r)
{
    struct page *p = user;

    p->last_seq = r->seq;
    p->seen++;
    if (p->rows && json_array_append_new(p->rows, row_shown(r)))
        p->failed = true;
    return !p->failed;
}

/* An id that narrows a list: absent is any, present must be one. */
static bool take_id(exj_exchange *x, const char *name, exj_slice *ret)
{
    const exj_slice *v = exj_param_find(x, name);
    exj_err err = { 0 };

    *ret = (exj_slice){ NULL, 0 };
    if (!v)
        return true;
    if (exj_id_check(*v, name, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        return false;
    }
    *ret = *v;
    return true;
}

static bool take_filter(exj_exchange *x, exj_row_filter *f)
{
    const exj_slice *word = exj_param_find(x, "status");
    exj_err err = { 0 };
    exj_status status;
    int64_t limit;

    *f = (exj_row_filter){ .status = -1 };
    if (!take_id(x, "matrixCatalogId", &f->matrix) || !take_id(x, "graphId", &f->graph) ||
        !take_id(x, "matrixRunId", &f->run) ||
        !exj_take_i64(x, "after", 0, INT64_MAX, 0, &f->after_seq) ||
        !exj_take_i64(x, "limit", 1, 1000, 100, &limit))
        return false;
    f->limit = (size_t)limit;
    if (word) {
        if (exj_status_parse(*word, &status, &err) != EXJ_OK) {
            exj_answer_failure(x, &err);
            return false;
        }
        f->status = (int)status;
    }
    f->error_code = exj_param_text(x, "errorCode");
    if (exj_param_find(x, "errorCode") && f->error_code.n == 0) {
        exj_answer_error(x, 400, "ValidationError",
                         "errorCode is a code such as Quarantined, not empty");
        return false;
    }
    return true;
}

exj_code exj_rows_page(const exj_api *api, const exj_row_filter *filter, json_t **ret_rows,
                       int64_t *ret_next, exj_err *err)
{
    exj_store *s = api->store;
    exj_row_filter f = *filter;
    struct page p = { .rows = json_array() }, more = { 0 };
    exj_code rc = p.rows ? s->v->row_page(s, &f, visit_row, &p, err)
                         : exj_err_set(err, EXJ_NOMEM, "out of memory");

    if (rc == EXJ_OK && p.failed)
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK && p.seen == f.limit) { /* is there anything behind? */
        f.after_seq = p.last_seq;
        f.limit = 1;
        rc = s->v->row_page(s, &f, visit_row, &more, err);
    }
    if (rc != EXJ_OK) {
        json_decref(p.rows);
        return rc;
    }
    *ret_rows = p.rows;
    *ret_next = more.seen ? p.last_seq : 0;
    return EXJ_OK;
}

void exj_route_rows(exj_exchange *x)
{
    exj_row_filter f;
    exj_err err = { 0 };
    json_t *rows;
    int64_t next;

    if (!take_filter(x, &f))
        return;
    if (exj_rows_page(x->api, &f, &rows, &next, &err) != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, json_pack("{s:o,s:o}", "rows", rows, "next",
                                          next ? json_integer(next) : json_null()));
}

/* ---- one row ------------------------------------------------------------------------------ */

#define FAILURES_SHOWN 50u

struct one_row {
    json_t *shown; /* NULL: no memory */
    int64_t seq;
};

/* Stored JSON as JSON; if it is not any more, at least as text. */
static json_t *stored_value(exj_slice text)
{
    json_t *v = NULL;

    if (text.n == 0)
        return json_null();
    if (exj_json_parse(text, &v, NULL) != EXJ_OK)
        v = exj_json_text(text);
    return v;
}

static bool visit_one_row(void *user, const exj_row_view *r)
{
    struct one_row *one = user;
    json_t *o = row_shown(r);

    one->seq = r->seq;
    if (o && (json_object_set_new(o, "input", stored_value(r->input)) ||
              json_object_set_new(o, "result", stored_value(r->result)))) {
        json_decref(o);
        o = NULL;
    }
    one->shown = o;
    return false;
}

/* False: answered (400, 404, …). */
static bool take_row(exj_exchange *x, struct one_row *ret)
{
    exj_store *s = x->api->store;
    exj_row_name n = { 0 };
    exj_err err = { 0 };
    exj_code rc = exj_row_name_parse(x->id, &n, &err);

    *ret = (struct one_row){ 0 };
    if (rc == EXJ_OK)
        rc = s->v->row_get(s, exj_slice_of(n.matrix), exj_slice_of(n.run),
                           exj_slice_of(n.graph), exj_slice_of(n.record), visit_one_row, ret,
                           &err);
    exj_row_name_release(&n);
    if (rc == EXJ_NOT_FOUND)
        exj_answer_error(x, 404, "RowNotFound", "no row \"%.*s\"", (int)x->id.n, x->id.p);
    else if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    return rc == EXJ_OK;
}

static bool visit_failure(void *user, const exj_failure_view *v)
{
    return json_array_append_new(user, json_pack("{s:I,s:I,s:o,s:o,s:o}", "attempt",
                                                 (json_int_t)v->attempt, "fencingToken",
                                                 (json_int_t)v->token, "at",
                                                 exj_json_instant(v->at), "code",
                                                 exj_json_text(v->code), "message",
                                                 exj_json_text(v->text))) == 0;
}

/* The row as it stands, with its failed attempts, newest first. */
static void answer_row(exj_exchange *x)
{
    exj_store *s = x->api->store;
    json_t *failures = json_array();
    exj_err err = { 0 };
    struct one_row one;

    if (!take_row(x, &one)) {
        json_decref(failures);
    } else if (failures && s->v->failure_each(s, one.seq, FAILURES_SHOWN, visit_failure,
                                              failures, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        json_decref(failures);
        json_decref(one.shown);
    } else if (json_object_set_new(one.shown, "failures", failures)) {
        exj_answer_take(x, 500, NULL);
        json_decref(one.shown);
    } else {
        exj_answer_take(x, 200, one.shown);
    }
}

void exj_route_row(exj_exchange *x)
{
    answer_row(x);
}

void exj_route_row_retry(exj_exchange *x)
{
    exj_op op = { .kind = EXJ_OP_RETRY };
    exj_err err = { 0 };
    struct one_row one;
    exj_code rc;

    if (!take_row(x, &one))
        return;
    json_decref(one.shown);
    op.u.retry.seq = one.seq;
    rc = exj_store_do(x->api->store, &op, &err);
    if (rc == EXJ_REFUSED) {
        exj_answer_error(x, 409, "RowNotRetryable", "%s", err.text);
        return;
    }
    if (rc != EXJ_OK) {
        exj_answer_failure(x, &err);
        return;
    }
    if (x->api->engine)
        exj_engine_wake(x->api->engine);
    answer_row(x);
}
