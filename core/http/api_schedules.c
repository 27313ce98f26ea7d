/* Schedules as they stand: last and next ticks, pause, trigger. Their documents are config
 * documents like others (api_config.c). */
#include <stdio.h>

#include "core/base/clock.h"
#include "core/http/command.h"
#include "core/job/record.h"
#include "core/run/schedules.h"

#define TRIES 5 /* of a change that others keep overtaking */

/* ---- looking --------------------------------------------------------------------------- */

/* {"at": in UTC, "local": as the clocks of the schedule's zone show it}. */
static json_t *tick_json(const exj_schedule *s, exj_msec at)
{
    int64_t seconds = at / 1000;
    int32_t offset = exj_zone_offset(s->zone, seconds);
    char utc[EXJ_TIME_TEXT_BYTES], local[EXJ_TIME_TEXT_BYTES], with[EXJ_TIME_TEXT_BYTES + 8];
    unsigned minutes = (unsigned)(offset < 0 ? -offset : offset) / 60;

    exj_clock_format(at, utc);
    exj_clock_format((seconds + offset) * 1000, local);
    local[19] = '\0'; /* without ".000Z" */
    snprintf(with, sizeof with, "%s%c%02u:%02u", local, offset < 0 ? '-' : '+', minutes / 60,
             minutes % 60);
    return json_pack("{s:s,s:s}", "at", utc, "local", with);
}

static json_t *error_json(const exj_schedule_view *v, const char *unreadable)
{
    if (unreadable)
        return json_pack("{s:s,s:n}", "message", unreadable, "at");
    if (!v->error.n)
        return json_null();
    return json_pack("{s:o,s:o}", "message", exj_json_text(v->error), "at",
                     exj_json_instant(v->error_at));
}

static const char *paused_by(const exj_schedule_now *n)
{
    return n->schedule.paused ? "document" : n->view.paused ? "operator" : NULL;
}

static json_t *next_json(const exj_schedule_now *n, exj_msec now)
{
    exj_msec at;

    if (n->paused ||
        !exj_schedule_next(&n->schedule, now > n->last_tick ? now : n->last_tick, &at))
        return json_null();
    return exj_json_instant(at);
}

/* New reference; NULL: no memory. `unreadable`: why the document cannot be read, or NULL. */
static json_t *schedule_json(const exj_schedule_now *n, exj_msec now, const char *unreadable)
{
    const exj_schedule *s = &n->schedule;
    json_t *o = json_pack("{s:o,s:I,s:b,s:o,s:I,s:I,s:o}", "scheduleId", exj_json_text(n->view.id),
                          "version", (json_int_t)n->view.version, "paused", (int)n->paused,
                          "lastTick", exj_json_instant(n->view.last_fired),
                          "fired", (json_int_t)n->view.fired, "skipped",
                          (json_int_t)n->view.skipped, "error", error_json(&n->view, unreadable));

    if (!o || unreadable)
        return o;
    json_object_set_new(o, "pausedBy",
                        paused_by(n) ? json_string(paused_by(n)) : json_null());
    json_object_set_new(o, "nextTick", next_json(n, now));
    if (s->cron_text)
        json_object_set_new(o, "cron", json_string(s->cron_text));
    else
        json_object_set_new(o, "everySeconds", json_integer(s->every_ms / 1000));
    json_object_set_new(o, "zone", json_string(exj_zone_name(s->zone)));
    json_object_set_new(o, "missed", json_string(exj_missed_word(s->missed)));
    json_object_set_new(o, "matrixCatalogId", json_string(s->matrix_id));
    json_object_set_new(o, "graphId", s->graph_id ? json_string(s->graph_id) : json_null());
    if (json_object_set_new(o, "run", json_boolean(s->run))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

struct listing {
    json_t *list;
    exj_msec now;
    size_t seen;
    exj_buf last;
    exj_code rc;
    exj_err *err;
};

static bool list_one(void *user, const exj_schedule_view *v)
{
    struct listing *l = user;
    exj_schedule_now n;
    exj_err why = { 0 };
    exj_code rc = exj_schedule_now_of(v, &n, &why);

    l->seen++;
    exj_buf_reset(&l->last);
    exj_buf_add_slice(&l->last, v->id);
    if (rc != EXJ_NOMEM)
        rc = json_array_append_new(l->list, schedule_json(&n, l->now, rc ? why.text : NULL))
                 ? EXJ_NOMEM
                 : EXJ_OK;
    exj_schedule_now_release(&n);
    if (rc == EXJ_NOMEM || l->last.failed)
        l->rc = exj_err_set(l->err, EXJ_NOMEM, "out of memory");
    return l->rc == EXJ_OK;
}

void exj_route_schedules(exj_exchange *x)
{
    exj_store *s = x->api->store;
    exj_err err = { 0 };
    struct listing l = { .list = json_array(), .now = s->v->now(s), .err = &err };
    exj_code rc = EXJ_OK;
    int64_t limit;

    if (!exj_take_i64(x, "limit", 1, 1000, 100, &limit)) {
        json_decref(l.list);
        return;
    }
    rc = s->v->schedule_page(s, exj_param_text(x, "after"), 0, (size_t)limit, list_one, &l,
                             &err);
    if (rc == EXJ_OK)
        rc = l.rc;
    if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, json_pack("{s:O,s:o}", "schedules", l.list, "next",
                                          l.seen == (size_t)limit
                                              ? exj_json_text(exj_buf_slice(&l.last))
                                              : json_null()));
    json_decref(l.list);
    exj_buf_release(&l.last);
}

static json_t *next_ticks(const exj_schedule_now *n, exj_msec now, int64_t count)
{
    json_t *list = json_array();
    exj_msec at = now > n->last_tick ? now : n->last_tick;

    for (int64_t i = 0; i < count && exj_schedule_next(&n->schedule, at, &at); i++)
        json_array_append_new(list, tick_json(&n->schedule, at));
    return list;
}

void exj_route_schedule(exj_exchange *x)
{
    exj_store *s = x->api->store;
    exj_msec now = s->v->now(s);
    exj_schedule_now n = { 0 };
    exj_err err = { 0 };
    json_t *o = NULL;
    int64_t count;
    exj_code rc;

    if (!exj_take_i64(x, "next", 0, 1000, 10, &count))
        return;
    rc = exj_schedule_now_get(s, x->id, &n, &err);
    if (rc == EXJ_NOT_FOUND) {
        exj_answer_no_document(x);
    } else if (rc != EXJ_OK && rc != EXJ_CORRUPT) {
        exj_answer_failure(x, &err);
    } else {
        o = schedule_json(&n, now, rc ? err.text : NULL);
        if (o && rc == EXJ_OK)
            json_object_set_new(o, "nextTicks", next_ticks(&n, now, count));
        exj_answer_take(x, 200, o);
    }
    exj_schedule_now_release(&n);
}

/* ---- pause and resume -------------------------------------------------------------------- */

/* False: answered. */
static bool load(exj_exchange *x, exj_schedule_now *n)
{
    exj_err err = { 0 };
    exj_code rc = exj_schedule_now_get(x->api->store, x->id, n, &err);

    if (rc == EXJ_OK)
        return true;
    if (rc == EXJ_NOT_FOUND)
        exj_answer_no_document(x);
    else
        exj_answer_failure(x, &err);
    exj_schedule_now_release(n);
    return false;
}

static void answer_paused(exj_exchange *x, const exj_op *op, void *user)
{
    const exj_schedule_now *n = user;

    exj_answer_take(x, 200,
                    json_pack("{s:o,s:b,s:o}", "scheduleId", exj_json_text(x->id), "paused",
                              (int)(op->u.tick.paused || n->schedule.paused), "nextTick",
                              exj_json_instant(op->u.tick.next_due)));
}

/* Returns whether it is answered; else somebody was faster. */
static bool pause_once(exj_exchange *x, bool paused, bool last)
{
    exj_schedule_now n = { 0 };
    exj_err err = { 0 };
    exj_code rc;
    exj_op op;

    if (!load(x, &n))
        return true;
    rc = exj_schedule_pause_op(x->api->store, &n, paused, &op, &err);
    if (rc == EXJ_REFUSED) {
        exj_answer_error(x, 409, "PausedByDocument", "%s", err.text);
        exj_schedule_now_release(&n);
        return true;
    }
    if (rc == EXJ_OK)
        rc = exj_effect(x, &op, 1, answer_paused, &n, &err);
    exj_schedule_now_release(&n);
    if (rc == EXJ_OK && x->api->engine)
        exj_engine_schedules_changed(x->api->engine);
    if (rc == EXJ_CONFLICT && !last)
        return false;
    if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    return true;
}

static void pause_or_resume(exj_exchange *x, bool paused)
{
    for (int i = 1; i <= TRIES && !pause_once(x, paused, i == TRIES); i++)
        ;
}

void exj_route_schedule_pause(exj_exchange *x)
{
    pause_or_resume(x, true);
}

void exj_route_schedule_resume(exj_exchange *x)
{
    pause_or_resume(x, false);
}

/* ---- trigger ------------------------------------------------------------------------------- */

struct trigger {
    const exj_schedule *schedule;
    exj_slice name;
    exj_start *start;
};

static const char *verdict_word(const exj_insert_item *i)
{
    if (i->verdict == EXJ_BUSY)
        return "uniqueKeyTaken";
    if (i->verdict != EXJ_OK)
        return "duplicate";
    return i->status == EXJ_DROPPED ? "dropped" : "inserted";
}

static json_t *rows_json(const struct trigger *t)
{
    exj_admission *a = exj_start_admission(t->start);
    json_t *rows = json_array();

    for (size_t g = 0; a && g < exj_admission_graphs(a); g++) {
        const exj_matrix_config *m = exj_admission_matrix(a);
        exj_buf name = EXJ_BUF_INIT;

        exj_row_name_add(&name, exj_slice_of(m->matrix_id), exj_slice_of(m->run_id),
                         exj_slice_of(exj_admission_graph(a, g)), t->name);
        json_array_append_new(rows, json_pack("{s:o,s:s}", "matrixRowId",
                                              exj_json_text(exj_buf_slice(&name)), "status",
                                              verdict_word(exj_admission_item(a, g, 0))));
        exj_buf_release(&name);
    }
    return rows;
}

static void answer_triggered(exj_exchange *x, const exj_op *ops, void *user)
{
    const struct trigger *t = user;

    (void)ops;
    exj_answer_take(x, 200, json_pack("{s:o,s:o,s:s,s:o,s:o}", "scheduleId", exj_json_text(x->id),
                                      "name", exj_json_text(t->name), "matrixCatalogId",
                                      t->schedule->matrix_id, "matrixRunId",
                                      t->schedule->run ? exj_json_text(t->name) : json_null(),
                                      "rows", rows_json(t)));
}

/* A paused schedule is triggered, too: an operator says so. */
void exj_route_schedule_trigger(exj_exchange *x)
{
    exj_schedule_now n = { 0 };
    exj_buf name = EXJ_BUF_INIT;
    struct trigger t = { .schedule = &n.schedule };
    exj_err err = { 0 };
    exj_code rc = EXJ_OK;
    exj_op *ops;
    size_t len;

    if (!load(x, &n))
        return;
    if (!exj_schedule_manual_name(&n.schedule, &name))
        rc = exj_err_set(&err, EXJ_NOMEM, "out of memory");
    t.name = exj_buf_slice(&name);
    if (rc == EXJ_OK)
        rc = exj_start_new(x->api->store, x->api->engine, &n.schedule, &t.name, 1, &t.start,
                           &err);
    if (rc == EXJ_OK) {
        ops = exj_start_ops(t.start, &len);
        rc = exj_effect(x, ops, len, answer_triggered, &t, &err);
    }
    if (rc == EXJ_OK)
        exj_start_landed(t.start);
    else if (rc == EXJ_NOT_FOUND || rc == EXJ_REFUSED)
        exj_answer_error(x, 409, "CannotStart", "schedule \"%.*s\" cannot start: %s",
                         (int)x->id.n, x->id.p, err.text);
    else
        exj_answer_failure(x, &err);
    exj_start_free(t.start);
    exj_buf_release(&name);
    exj_schedule_now_release(&n);
}
