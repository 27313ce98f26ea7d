/* The history of rows: their journal, their steps, and whether the rows are what their
 * journal says (spec 2.3). */
#include <stdio.h>
#include <stdlib.h>

#include "core/http/exchange.h"
#include "core/job/record.h"

#define JOURNAL_MOST 10000
#define VERIFY_MOST 5000
#define VERIFY_ENTRIES 100000u
#define VERIFY_TRIES 8

/* ---- the journal of one row ---------------------------------------------------------------- */

static bool set(json_t *o, const char *key, json_t *value)
{
    return json_object_set_new(o, key, value) == 0;
}

static bool set_text(json_t *o, const char *key, exj_slice value)
{
    return value.n == 0 || set(o, key, exj_json_text(value));
}

/* What the entry's own members mean depends on its kind (core/job/journal.h). */
static bool add_members(json_t *o, const exj_journal_entry *e)
{
    switch (e->kind) {
    case EXJ_ENTRY_SCHEDULED:
        return set(o, "runAfter", exj_json_instant(e->value));
    case EXJ_ENTRY_RETRYING:
        return set(o, "runAfter", exj_json_instant(e->value)) && set_text(o, "code", e->key) &&
               set_text(o, "message", e->text);
    case EXJ_ENTRY_FAILED:
    case EXJ_ENTRY_BLOCKED:
        return set_text(o, "code", e->key) && set_text(o, "message", e->text);
    case EXJ_ENTRY_SUSPENDED:
        return (!e->value || set(o, "until", exj_json_instant(e->value))) &&
               set_text(o, "signal", e->key);
    case EXJ_ENTRY_RESUMED:
        return set_text(o, "signal", e->key) && set_text(o, "by", e->text);
    case EXJ_ENTRY_UNBLOCKED:
        return set_text(o, "signal", e->key);
    case EXJ_ENTRY_SIGNAL:
        return set_text(o, "signal", e->key) && set(o, "bytes", json_integer(e->value));
    case EXJ_ENTRY_RERUN:
        return set_text(o, "fromStep", e->key);
    case EXJ_ENTRY_STEP_BEGUN:
        return set_text(o, "step", e->key);
    case EXJ_ENTRY_STEP:
        return set_text(o, "step", e->key) && set(o, "bytes", json_integer(e->value));
    case EXJ_ENTRY_PROGRESS:
        return (e->value < 0 || set(o, "progress", json_real((double)e->value / 1e6))) &&
               set_text(o, "note", e->text);
    case EXJ_ENTRY_CANCEL_ASKED:
    case EXJ_ENTRY_CANCELED:
    case EXJ_ENTRY_DROPPED:
        return set_text(o, "reason", e->text);
    default:
        return set_text(o, "text", e->text);
    }
}

json_t *exj_json_entry(const exj_journal_entry *e)
{
    json_t *o = json_pack("{s:I,s:o,s:s,s:I,s:I}", "number", (json_int_t)e->number, "at",
                          exj_json_instant(e->at), "event", exj_entry_word(e->kind), "attempt",
                          (json_int_t)e->attempt, "fencingToken", (json_int_t)e->token);

    if (o && !add_members(o, e)) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

static bool visit_entry(void *user, const exj_event_view *v)
{
    return json_array_append_new(user, exj_json_entry(&v->entry)) == 0;
}

void exj_route_row_journal(exj_exchange *x)
{
    exj_store *s = x->api->store;
    json_t *list = NULL;
    exj_err err = { 0 };
    exj_found_row f;
    int64_t limit;

    if (!exj_take_i64(x, "limit", 1, JOURNAL_MOST, 1000, &limit) || !exj_take_row(x, &f))
        return;
    list = json_array();
    if (list && s->v->journal(s, f.seq, (size_t)limit, visit_entry, list, &err) != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200,
                        list ? json_pack("{s:o,s:s,s:I,s:O}", "matrixRowId",
                                         exj_json_text(x->id), "status",
                                         exj_status_word(f.status), "lastEvent",
                                         (json_int_t)f.last_entry, "entries", list)
                             : NULL);
    json_decref(list);
    exj_found_row_release(&f);
}

/* ---- the steps of one row ------------------------------------------------------------------- */

struct steps {
    json_t *list;
    const exj_found_row *row;
    bool bodies, failed;
};

/* Begun by the claim that runs it now: it may still finish. Begun by an older one: nobody
 * knows whether it ran. */
static const char *step_state(const struct steps *s, const exj_step_view *v)
{
    if (v->done)
        return "finished";
    return s->row->status == EXJ_RUNNING && s->row->token == v->token ? "running" : "unknown";
}

static json_t *step_body(exj_slice text)
{
    json_t *v = NULL;

    return exj_json_parse(text, &v, NULL) == EXJ_OK ? v : exj_json_text(text);
}

static bool visit_step(void *user, const exj_step_view *v)
{
    struct steps *s = user;
    json_t *o = json_pack("{s:o,s:b,s:s,s:I,s:I,s:I,s:o,s:o,s:o}", "key", exj_json_text(v->key),
                          "done", (int)v->done, "state", step_state(s, v), "attempt",
                          (json_int_t)v->attempt, "fencingToken", (json_int_t)v->token, "event",
                          (json_int_t)v->number, "beganAt", exj_json_instant(v->began_at), "at",
                          v->done ? exj_json_instant(v->at) : json_null(), "bytes",
                          v->done ? json_integer((json_int_t)v->body.n) : json_null());

    if (o && v->done && s->bodies && json_object_set_new(o, "body", step_body(v->body))) {
        json_decref(o);
        o = NULL;
    }
    s->failed = json_array_append_new(s->list, o) != 0;
    return !s->failed;
}

void exj_route_row_steps(exj_exchange *x)
{
    exj_store *store = x->api->store;
    exj_found_row f;
    struct steps s = { .row = &f };
    exj_err err = { 0 };

    if (!exj_take_bool(x, "body", &s.bodies) || !exj_take_row(x, &f))
        return;
    s.list = json_array();
    if (s.list && store->v->step_each(store, f.seq, visit_step, &s, &err) != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, s.list && !s.failed
                                    ? json_pack("{s:o,s:s,s:O}", "matrixRowId",
                                                exj_json_text(x->id), "status",
                                                exj_status_word(f.status), "steps", s.list)
                                    : NULL);
    json_decref(s.list);
    exj_found_row_release(&f);
}

/* ---- verify ---------------------------------------------------------------------------------
 *
 * A row and its journal are read one after the other, and rows go on meanwhile. So a row is
 * judged only when it had the same newest entry before and after its journal was read. */

struct checked {
    int64_t seq, token, last;
    exj_status status;
    uint32_t attempts;
};

static struct checked checked_of(const exj_row_view *r)
{
    exj_status s = r->status == EXJ_WAITING || r->status == EXJ_PARKED ? EXJ_QUEUED : r->status;

    return (struct checked){ r->seq, r->token, r->last_entry, s, r->attempts };
}

struct verify_page {
    struct checked *rows; /* owned; room for VERIFY_MOST */
    size_t len;
};

static bool visit_checked(void *user, const exj_row_view *r)
{
    struct verify_page *p = user;

    p->rows[p->len++] = checked_of(r);
    return p->len < VERIFY_MOST;
}

struct fold {
    exj_journal_view view;
    int64_t entries;
    bool before, wrong; /* not from its beginning; an entry does not fit */
    exj_err why;
};

static bool visit_fold(void *user, const exj_event_view *v)
{
    struct fold *f = user;
    const exj_journal_entry *e = &v->entry;

    if (f->entries++ == 0 &&
        (e->previous != 0 || (e->kind != EXJ_ENTRY_QUEUED && e->kind != EXJ_ENTRY_SCHEDULED)))
        f->before = true;
    else if (exj_journal_apply(&f->view, e, &f->why) != EXJ_OK)
        f->wrong = true;
    return !f->before && !f->wrong;
}

struct one_again {
    struct checked row;
    exj_buf name;
};

static bool visit_again(void *user, const exj_row_view *r)
{
    struct one_again *o = user;

    o->row = checked_of(r);
    exj_buf_reset(&o->name);
    exj_row_name_add(&o->name, r->matrix, r->run, r->graph, r->record_id);
    return false;
}

struct verdicts {
    json_t *differences;
    int64_t rows, before, changing;
};

static exj_code add_difference(struct verdicts *v, const struct one_again *o,
                               const struct fold *f, exj_err *err)
{
    const exj_journal_view *j = &f->view;
    char what[EXJ_ERR_TEXT_BYTES];

    if (f->wrong)
        snprintf(what, sizeof what, "%s", f->why.text);
    else if (j->status != o->row.status)
        snprintf(what, sizeof what, "the row is %s, its journal says %s",
                 exj_status_word(o->row.status), exj_status_word(j->status));
    else if (j->attempts != o->row.attempts)
        snprintf(what, sizeof what, "the row has %u attempts, its journal %u", o->row.attempts,
                 j->attempts);
    else if (j->token != o->row.token)
        snprintf(what, sizeof what, "the row has token %lld, its journal %lld",
                 (long long)o->row.token, (long long)j->token);
    else
        snprintf(what, sizeof what, "the row's newest entry is %lld, its journal ends with %lld",
                 (long long)o->row.last, (long long)j->last);
    if (json_array_append_new(v->differences,
                              json_pack("{s:o,s:s,s:I}", "matrixRowId",
                                        exj_json_text(exj_buf_slice(&o->name)), "what", what,
                                        "lastEvent", (json_int_t)o->row.last)))
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    return EXJ_OK;
}

static bool agree(const struct checked *r, const struct fold *f)
{
    return !f->wrong && f->view.known && f->view.status == r->status &&
           f->view.attempts == r->attempts && f->view.token == r->token &&
           f->view.last == r->last;
}

static exj_code verify_row(exj_store *s, struct checked r, struct verdicts *v, exj_err *err)
{
    struct one_again again = { .row = r };
    struct fold f = { .entries = 0 };
    exj_code rc = EXJ_OK;
    int tries = 0;

    v->rows++;
    for (; tries < VERIFY_TRIES; tries++) {
        f = (struct fold){ .entries = 0 };
        rc = s->v->journal(s, r.seq, VERIFY_ENTRIES, visit_fold, &f, err);
        if (rc != EXJ_OK || (!f.before && f.entries && agree(&r, &f)))
            break;
        rc = s->v->row_by_seq(s, r.seq, visit_again, &again, err);
        if (rc != EXJ_OK || again.row.last == r.last)
            break;
        r = again.row; /* it moved on meanwhile */
    }
    if (rc == EXJ_NOT_FOUND) { /* gone, and its journal with it */
        exj_err_clear(err);
        rc = EXJ_OK;
    } else if (rc == EXJ_OK && tries == VERIFY_TRIES) {
        v->changing++;
    } else if (rc == EXJ_OK && (f.before || (!f.entries && !r.last))) {
        v->before++;
    } else if (rc == EXJ_OK && !agree(&r, &f)) {
        rc = add_difference(v, &again, &f, err);
    }
    exj_buf_release(&again.name);
    return rc;
}

static exj_code verify_page(exj_store *s, int64_t after, size_t limit, struct verdicts *v,
                            int64_t *ret_next, exj_err *err)
{
    exj_row_filter filter = { .status = -1, .after_seq = after };
    struct verify_page p = { calloc(VERIFY_MOST, sizeof *p.rows), 0 };
    exj_code rc = p.rows ? EXJ_OK : exj_err_set(err, EXJ_NOMEM, "out of memory");
    size_t more = 1;

    while (rc == EXJ_OK && p.len < limit && more) {
        size_t len = p.len;

        filter.limit = limit - p.len < 1000 ? limit - p.len : 1000;
        rc = s->v->row_page(s, &filter, visit_checked, &p, err);
        more = p.len - len;
        if (p.len)
            filter.after_seq = p.rows[p.len - 1].seq;
    }
    for (size_t i = 0; rc == EXJ_OK && i < p.len; i++)
        rc = verify_row(s, p.rows[i], v, err);
    *ret_next = rc == EXJ_OK && p.len == limit ? filter.after_seq : 0;
    free(p.rows);
    return rc;
}

void exj_route_journal_verify(exj_exchange *x)
{
    struct verdicts v = { .differences = json_array() };
    exj_err err = { 0 };
    int64_t after, limit, next = 0;

    if (!exj_take_i64(x, "after", 0, INT64_MAX, 0, &after) ||
        !exj_take_i64(x, "limit", 1, VERIFY_MOST, 1000, &limit))
        goto out;
    if (v.differences &&
        verify_page(x->api->store, after, (size_t)limit, &v, &next, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        goto out;
    }
    exj_answer_take(x, v.differences ? 200 : 500,
                    v.differences
                        ? json_pack("{s:I,s:I,s:I,s:O,s:o}", "rows", (json_int_t)v.rows,
                                    "beforeTheJournal", (json_int_t)v.before, "changing",
                                    (json_int_t)v.changing, "differences", v.differences,
                                    "next", next ? json_integer(next) : json_null())
                        : NULL);
out:
    json_decref(v.differences);
}
