/* Event sinks: how they do, and the events they gave up (docs/sinks.md). */
#include <inttypes.h>
#include <stdlib.h>

#include "core/http/exchange.h"
#include "core/run/sinks.h"

struct page {
    json_t *list;
    int64_t last;
    size_t limit, seen;
    bool whole, failed;
};

/* Bodies are written by us; what is broken since is shown as text. */
static json_t *event_of(exj_slice body)
{
    json_t *o = NULL;

    return exj_json_parse(body, &o, NULL) == EXJ_OK ? o : exj_json_text(body);
}

static json_t *shown(const exj_dead_view *v, bool whole)
{
    json_t *event = event_of(v->body), *o;

    o = json_pack("{s:I,s:o,s:I,s:O?,s:O?,s:I,s:o,s:o}", "id", (json_int_t)v->id, "sink",
                  exj_json_text(v->sink), "number", (json_int_t)v->number, "kind",
                  json_object_get(event, "kind"), "matrixRowId",
                  json_object_get(event, "matrixRowId"), "tries", (json_int_t)v->tries, "since",
                  exj_json_instant(v->at), "error", exj_json_text(v->error));
    if (o && whole && json_object_set(o, "event", event)) {
        json_decref(o);
        o = NULL;
    }
    json_decref(event);
    return o;
}

static bool visit_dead(void *user, const exj_dead_view *v)
{
    struct page *p = user;

    if (p->seen++ == p->limit)
        return false; /* one more than fits: there is a next page */
    p->last = v->id;
    p->failed = json_array_append_new(p->list, shown(v, p->whole)) != 0;
    return !p->failed;
}

void exj_route_dead_letters(exj_exchange *x)
{
    exj_store *s = x->api->store;
    struct page p = { 0 };
    exj_err err = { 0 };
    int64_t after, limit;
    exj_code rc;

    if (!exj_take_i64(x, "after", 0, INT64_MAX, 0, &after) ||
        !exj_take_i64(x, "limit", 1, 999, 100, &limit))
        return;
    p.limit = (size_t)limit;
    p.list = json_array();
    rc = p.list ? s->v->dead_page(s, exj_param_text(x, "sink"), after, p.limit + 1, visit_dead,
                                  &p, &err)
                : exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (!rc && p.failed)
        rc = exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, json_pack("{s:O,s:o}", "deadLetters", p.list, "next",
                                          p.seen > p.limit ? json_integer(p.last)
                                                           : json_null()));
    json_decref(p.list);
}

/* False: answered 400. */
static bool take_number(exj_exchange *x, int64_t *ret)
{
    int64_t v = 0;
    size_t i;

    for (i = 0; i < x->id.n && x->id.p[i] >= '0' && x->id.p[i] <= '9' && i < 18; i++)
        v = v * 10 + (x->id.p[i] - '0');
    *ret = v;
    if (i == x->id.n && v > 0)
        return true;
    exj_answer_error(x, 400, "ValidationError",
                     "the id of a dead letter is a number, not \"%.*s\"",
                     x->id.n > 100 ? 100 : (int)x->id.n, x->id.p);
    return false;
}

static void answer_none(exj_exchange *x, int64_t id)
{
    exj_answer_error(x, 404, "DeadLetterNotFound",
                     "no dead letter %" PRId64 "; it may have been replayed or dropped", id);
}

void exj_route_dead_letter(exj_exchange *x)
{
    exj_store *s = x->api->store;
    struct page p = { .limit = 1, .whole = true };
    exj_err err = { 0 };
    int64_t id;
    exj_code rc;

    if (!take_number(x, &id))
        return;
    p.list = json_array();
    rc = p.list ? s->v->dead_page(s, (exj_slice){ 0 }, id - 1, 1, visit_dead, &p, &err)
                : exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc)
        exj_answer_failure(x, &err);
    else if (p.last != id)
        answer_none(x, id);
    else
        exj_answer_take(x, 200, json_incref(json_array_get(p.list, 0)));
    json_decref(p.list);
}

static void order(exj_exchange *x, exj_op_kind kind, const char *word)
{
    exj_op op = { .kind = kind };
    exj_err err = { 0 };
    exj_code rc;

    if (!take_number(x, &op.u.dead.id))
        return;
    rc = exj_store_do(x->api->store, &op, &err);
    if (rc == EXJ_NOT_FOUND) {
        answer_none(x, op.u.dead.id);
    } else if (rc) {
        exj_answer_failure(x, &err);
    } else {
        exj_sinks_wake(x->api->sinks);
        exj_answer_take(x, 200, json_pack("{s:I,s:s}", "id", (json_int_t)op.u.dead.id, "action",
                                          word));
    }
}

void exj_route_dead_letter_replay(exj_exchange *x)
{
    order(x, EXJ_OP_DEAD_REPLAY, "replayed");
}

void exj_route_dead_letter_drop(exj_exchange *x)
{
    order(x, EXJ_OP_DEAD_DROP, "dropped");
}

void exj_route_sinks(exj_exchange *x)
{
    exj_answer_take(x, 200, json_pack("{s:o}", "sinks", exj_sinks_status(x->api->sinks)));
}
