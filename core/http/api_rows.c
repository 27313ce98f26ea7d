/* Rows: a page of them, and one with everything. */
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

static json_t *text_or_null(exj_slice s)
{
    return s.n ? exj_json_text(s) : json_null();
}

/* What a row that is not running stands still for. */
static json_t *row_wait(const exj_row_view *r)
{
    if (!r->signal.n || (r->status != EXJ_SUSPENDED && r->status != EXJ_BLOCKED))
        return json_null();
    return json_pack("{s:o,s:o}", "signal", exj_json_text(r->signal), "until",
                     r->status == EXJ_SUSPENDED ? exj_json_instant(r->run_after) : json_null());
}

static json_t *row_progress(const exj_row_view *r)
{
    if (r->progress < 0 && !r->progress_note.n)
        return json_null();
    return json_pack("{s:o,s:o}", "at", r->progress < 0 ? json_null() : json_real(r->progress),
                     "note", text_or_null(r->progress_note));
}

/* What only the page of one row says. */
static json_t *row_details(const exj_row_view *r)
{
    return json_pack("{s:b,s:o,s:o,s:o,s:o,s:o,s:I,s:I}", "cancelAsked",
                     (int)r->cancel_asked, "waitsFor", row_wait(r), "resumeAt",
                     r->status == EXJ_SUSPENDED ? exj_json_instant(r->run_after) : json_null(),
                     "progress", row_progress(r), "uniqueKey", text_or_null(r->unique_key),
                     "concurrencyKey", text_or_null(r->concurrency_key),
                     "fencingToken", (json_int_t)r->token, "lastEvent",
                     (json_int_t)r->last_entry);
}

static bool visit_found(void *user, const exj_row_view *r)
{
    exj_found_row *f = user;

    f->seq = r->seq;
    f->token = r->token;
    f->status = r->status;
    f->last_entry = r->last_entry;
    f->shown = row_shown(r);
    f->details = row_details(r);
    f->input = stored_value(r->input);
    f->result = stored_value(r->result);
    return false;
}

void exj_found_row_release(exj_found_row *f)
{
    json_decref(f->shown);
    json_decref(f->details);
    json_decref(f->input);
    json_decref(f->result);
    *f = (exj_found_row){ 0 };
}

bool exj_take_row(exj_exchange *x, exj_found_row *ret)
{
    exj_store *s = x->api->store;
    exj_row_name n = { 0 };
    exj_err err = { 0 };
    exj_code rc = exj_row_name_parse(x->id, &n, &err);

    *ret = (exj_found_row){ 0 };
    if (rc == EXJ_OK)
        rc = s->v->row_get(s, exj_slice_of(n.matrix), exj_slice_of(n.run),
                           exj_slice_of(n.graph), exj_slice_of(n.record), visit_found, ret,
                           &err);
    exj_row_name_release(&n);
    if (rc == EXJ_OK && (!ret->shown || !ret->details || !ret->input || !ret->result))
        rc = exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK)
        return true;
    if (rc == EXJ_NOT_FOUND)
        exj_answer_error(x, 404, "RowNotFound", "no row \"%.*s\"", (int)x->id.n, x->id.p);
    else
        exj_answer_failure(x, &err);
    exj_found_row_release(ret);
    return false;
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

exj_code exj_row_failures(exj_exchange *x, int64_t seq, json_t **ret, exj_err *err)
{
    exj_store *s = x->api->store;
    json_t *list = json_array();
    exj_code rc = list ? s->v->failure_each(s, seq, FAILURES_SHOWN, visit_failure, list, err)
                       : exj_err_set(err, EXJ_NOMEM, "out of memory");

    if (rc != EXJ_OK) {
        json_decref(list);
        list = NULL;
    }
    *ret = list;
    return rc;
}

static bool count_step(void *user, const exj_step_view *v)
{
    json_int_t *n = user;

    n[v->done ? 0 : 1]++;
    return true;
}

static bool visit_signal(void *user, const exj_signal_view *v)
{
    return json_array_append_new(user, json_pack("{s:o,s:o,s:I}", "signal",
                                                 exj_json_text(v->name), "at",
                                                 exj_json_instant(v->at), "bytes",
                                                 (json_int_t)v->body.n)) == 0;
}

/* Does the graph's executor run in this process? Its config may say; else the engine knows.
 * The engine's own executor is the first it made, and so the last of its list. */
static bool runs_in_process(const exj_api *api, const json_t *execution)
{
    const char *lane = json_string_value(json_object_get(execution, "isolation"));
    const char *name = json_string_value(json_object_get(execution, "executor"));
    json_t *list, *item;
    bool in_process = lane && strcmp(lane, "in-process") == 0;
    size_t i;

    if (lane || !api->engine)
        return in_process;
    list = exj_engine_executors(api->engine);
    json_array_foreach(list, i, item) {
        const char *executor = json_string_value(json_object_get(item, "executor"));

        lane = json_string_value(json_object_get(item, "isolation"));
        if (lane && (name ? executor && strcmp(name, executor) == 0
                          : i + 1 == json_array_size(list)))
            in_process = strcmp(lane, "in-process") == 0;
    }
    json_decref(list);
    return in_process;
}

/* What an operator should know who sets limits (spec 2.5). NULL: no memory. */
static json_t *row_notes(exj_exchange *x, const exj_found_row *f)
{
    const char *graph = json_string_value(json_object_get(f->shown, "graphId"));
    json_t *notes = json_array(), *execution;
    exj_document d = { 0 };

    if (!notes || exj_status_is_terminal(f->status) || !graph)
        return notes;
    exj_document_load(x->api, EXJ_DOC_GRAPH, exj_slice_of(graph), &d, NULL);
    execution = json_object_get(json_object_get(d.json, "payload"), "execution");
    if (runs_in_process(x->api, execution) &&
        json_array_append_new(notes, json_string("its executor runs in-process: a time limit or "
                                                 "a cancel is asked for, it cannot be enforced"))) {
        json_decref(notes);
        notes = NULL;
    }
    exj_document_release(&d);
    return notes;
}

/* The row as it stands, with its failed attempts, newest first. */
void exj_route_row(exj_exchange *x)
{
    exj_store *s = x->api->store;
    json_t *failures = NULL, *signals = json_array(), *notes = NULL;
    json_int_t steps[2] = { 0, 0 };
    exj_err err = { 0 };
    exj_found_row f;
    bool good;

    if (!exj_take_row(x, &f))
        goto out;
    if (!signals || !(notes = row_notes(x, &f))) {
        exj_answer_take(x, 500, NULL);
        goto out;
    }
    if (exj_row_failures(x, f.seq, &failures, &err) ||
        s->v->step_each(s, f.seq, count_step, steps, &err) ||
        s->v->signal_each(s, f.seq, visit_signal, signals, &err)) {
        exj_answer_failure(x, &err);
        goto out;
    }
    good = !json_object_update(f.shown, f.details) &&
           !json_object_set(f.shown, "input", f.input) &&
           !json_object_set(f.shown, "result", f.result) &&
           !json_object_set(f.shown, "failures", failures) &&
           !json_object_set(f.shown, "signalsKept", signals) &&
           !json_object_set(f.shown, "notes", notes) &&
           !json_object_set_new(f.shown, "steps",
                                json_pack("{s:I,s:I}", "finished", steps[0], "begun", steps[1]));
    exj_answer_take(x, 200, good ? json_incref(f.shown) : NULL);
out:
    exj_found_row_release(&f);
    json_decref(failures);
    json_decref(signals);
    json_decref(notes);
}
