/* The history of rows: their journal, their steps, and whether the rows are what their
 * journal says (spec 2.3). */
#include "core/http/exchange.h"
#include "core/job/record.h"
#include "core/run/verify.h"

#define JOURNAL_MOST 10000

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

#define STEPS_MOST 10000u
#define BODIES_MOST (16u * 1024u * 1024u) /* of all steps together */

struct steps {
    json_t *list;
    const exj_found_row *row;
    bool bodies, failed, more; /* more: there are more steps than are shown */
    size_t room; /* for bodies */
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
    bool fits = v->body.n <= s->room;
    json_t *o;

    s->more = json_array_size(s->list) == STEPS_MOST;
    if (s->more)
        return false;
    o = json_pack("{s:o,s:b,s:s,s:I,s:I,s:I,s:o,s:o,s:o}", "key", exj_json_text(v->key), "done",
                  (int)v->done, "state", step_state(s, v), "attempt", (json_int_t)v->attempt,
                  "fencingToken", (json_int_t)v->token, "event", (json_int_t)v->number, "beganAt",
                  exj_json_instant(v->began_at), "at",
                  v->done ? exj_json_instant(v->at) : json_null(), "bytes",
                  v->done ? json_integer((json_int_t)v->body.n) : json_null());

    if (o && v->done && s->bodies && (fits ? json_object_set_new(o, "body", step_body(v->body))
                                           : json_object_set_new(o, "bodyLeftOut", json_true()))) {
        json_decref(o);
        o = NULL;
    }
    s->room -= s->bodies && fits ? v->body.n : 0;
    s->failed = json_array_append_new(s->list, o) != 0;
    return !s->failed;
}

void exj_route_row_steps(exj_exchange *x)
{
    exj_store *store = x->api->store;
    exj_found_row f;
    struct steps s = { .row = &f, .room = BODIES_MOST };
    exj_err err = { 0 };

    if (!exj_take_bool(x, "body", &s.bodies) || !exj_take_row(x, &f))
        return;
    s.list = json_array();
    if (s.list && store->v->step_each(store, f.seq, visit_step, &s, &err) != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, s.list && !s.failed
                                    ? json_pack("{s:o,s:s,s:O,s:b}", "matrixRowId",
                                                exj_json_text(x->id), "status",
                                                exj_status_word(f.status), "steps", s.list,
                                                "truncated", (int)s.more)
                                    : NULL);
    json_decref(s.list);
    exj_found_row_release(&f);
}

/* ---- verify --------------------------------------------------------------------------------- */

#define DIFFERENCES_SHOWN 1000u

static bool visit_difference(void *user, const exj_row_view *r, const char *what)
{
    json_t *list = user;
    exj_buf name = EXJ_BUF_INIT;
    bool good = exj_row_name_add(&name, r->matrix, r->run, r->graph, r->record_id) &&
                !json_array_append_new(list, json_pack("{s:o,s:s}", "matrixRowId",
                                                       exj_json_text(exj_buf_slice(&name)),
                                                       "what", what));

    exj_buf_release(&name);
    return good && json_array_size(list) < DIFFERENCES_SHOWN;
}

void exj_route_journal_verify(exj_exchange *x)
{
    json_t *differences = NULL;
    exj_verified v;
    exj_err err = { 0 };
    int64_t after, limit;

    if (!exj_take_i64(x, "after", 0, INT64_MAX, 0, &after) ||
        !exj_take_i64(x, "limit", 1, EXJ_VERIFY_ROWS_MAX, 100000, &limit))
        return;
    differences = json_array();
    if (differences && exj_verify_rows(x->api->store, after, (size_t)limit, visit_difference,
                                        differences, &v, &err) != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200,
                        differences
                            ? json_pack("{s:I,s:I,s:I,s:O,s:o}", "rows", (json_int_t)v.rows,
                                        "beforeTheJournal", (json_int_t)v.before, "different",
                                        (json_int_t)v.different, "differences", differences,
                                        "next", v.next ? json_integer(v.next) : json_null())
                            : NULL);
    json_decref(differences);
}
