/* Which events a sink is given next, what became of them, and what is saved of that. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/sinks_inside.h"

#define READ_AT_ONCE 1000u
#define TAIL_BYTES 64u /* what closes the runtime text */

/* ---- rows --------------------------------------------------------------------------------- */

static void rows_clear(struct rows *r)
{
    if (r->len)
        memset(r->seq, 0, sizeof(r->seq));
    r->len = 0;
}

static size_t rows_at(const struct rows *r, int64_t seq)
{
    size_t at = (size_t)((uint64_t)seq * 0x9e3779b97f4a7c15u >> 51);

    while (r->seq[at] && r->seq[at] != seq)
        at = (at + 1) % EXJ_SEQ_SLOTS;
    return at;
}

/* Is it in? Then *ret_blocked tells. */
static bool rows_find(const struct rows *r, int64_t seq, bool *ret_blocked)
{
    size_t at = rows_at(r, seq);

    *ret_blocked = r->seq[at] && r->blocked[at];
    return r->seq[at] != 0;
}

static void rows_set(struct rows *r, int64_t seq, bool blocked)
{
    size_t at = rows_at(r, seq);

    if (!r->seq[at]) {
        if (r->len >= EXJ_SEQ_SLOTS / 2)
            return; /* more rows than may be held or in a batch: cannot be */
        r->len++;
    }
    r->seq[at] = seq;
    r->blocked[at] = blocked;
}

/* ---- loading -------------------------------------------------------------------------------- */

struct loading {
    struct sink *s;
    bool failed;
};

static bool take_held(void *user, const exj_undelivered_view *v)
{
    struct loading *l = user;
    struct sink *s = l->s;
    char *body = exj_slice_dup(v->body);

    if (s->held_len == s->held_cap) {
        size_t cap = s->held_cap ? s->held_cap * 2 : 64;
        struct held *grown = realloc(s->held, cap * sizeof(*grown));

        if (grown) {
            s->held = grown;
            s->held_cap = cap;
        }
    }
    if (!body || s->held_len == s->held_cap) {
        free(body);
        l->failed = true;
        return false;
    }
    s->held[s->held_len++] = (struct held){ v->number, v->seq, v->tries, v->at, body, v->body.n };
    return true;
}

static exj_code place(struct sink *s, exj_err *err)
{
    exj_store *store = s->all->store;
    exj_op op = { .kind = EXJ_OP_SINK_SAVE };
    int64_t first, last;
    exj_code rc = store->v->sink_get(store, exj_slice_of(s->name), &s->position, NULL);

    if (rc == EXJ_NOT_FOUND) {
        rc = store->v->events_span(store, &first, &last, err);
        if (!rc)
            s->position = s->from_now ? last : first - 1;
        op.u.sink.name = exj_slice_of(s->name);
        op.u.sink.position = s->position;
        if (!rc) /* "now" is now, and not the next start */
            rc = exj_store_do(store, &op, err);
    } else if (rc) {
        exj_err_set(err, rc, "cannot read how far the sink is");
    }
    return rc;
}

exj_code exj_sink_load(struct sink *s, exj_err *err)
{
    exj_store *store = s->all->store;
    struct loading l = { .s = s };
    exj_code rc = s->placed ? EXJ_OK : place(s, err);

    if (rc)
        return rc;
    s->placed = true;
    for (size_t k = 0; k < s->held_len; k++)
        free(s->held[k].body);
    s->held_len = 0;
    s->loaded = false;
    rc = store->v->undelivered(store, exj_slice_of(s->name), EXJ_HELD_MOST, take_held, &l, err);
    if (!rc && l.failed)
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for held events");
    s->loaded = rc == EXJ_OK;
    return rc;
}

exj_msec exj_sink_next_due(struct sink *s)
{
    exj_msec due = 0;
    bool blocked;

    rows_clear(&s->rows);
    for (size_t k = 0; k < s->held_len; k++) {
        const struct held *h = &s->held[k];

        if (rows_find(&s->rows, h->seq, &blocked))
            continue;
        rows_set(&s->rows, h->seq, true);
        if (!due || h->at < due)
            due = h->at > 0 ? h->at : 1;
    }
    return due;
}

/* ---- gathering ------------------------------------------------------------------------------ */

/* False: no room (or no memory: runtime.failed). */
static bool add_event(struct sink *s, int64_t number, int64_t seq, uint32_t tries, bool was_held,
                      exj_slice body)
{
    struct event *e = &s->events[s->events_len];

    if (s->events_len >= s->width || s->runtime.n + body.n + TAIL_BYTES > EXJ_SINK_BYTES)
        return false;
    if (s->events_len)
        exj_buf_add_char(&s->runtime, ',');
    *e = (struct event){ .number = number, .seq = seq, .tries = tries, .was_held = was_held,
                         .body_at = s->runtime.n, .body_n = body.n };
    if (!exj_buf_add_slice(&s->runtime, body))
        return false;
    s->events_len++;
    return true;
}

/* The first held event of each row, when it is due, and what stands behind it. */
static void gather_held(struct sink *s, exj_msec now)
{
    rows_clear(&s->rows);
    for (size_t k = 0; k < s->held_len; k++) {
        const struct held *h = &s->held[k];
        bool blocked, known = rows_find(&s->rows, h->seq, &blocked);

        if (!known)
            blocked = h->at > now;
        if (!blocked)
            blocked = !add_event(s, h->number, h->seq, h->tries, true,
                                 (exj_slice){ h->body, h->body_n });
        rows_set(&s->rows, h->seq, blocked);
    }
}

struct gathering {
    struct sink *s;
    bool failed;
};

static bool hold_behind(struct sink *s, const exj_journal_entry *e, size_t body_at)
{
    if (s->behind_len == s->behind_cap) {
        size_t cap = s->behind_cap ? s->behind_cap * 2 : 64;
        struct behind *grown = realloc(s->behind, cap * sizeof(*grown));

        if (!grown)
            return false;
        s->behind = grown;
        s->behind_cap = cap;
    }
    s->behind[s->behind_len++] =
        (struct behind){ e->number, e->seq, body_at, s->bodies.n - body_at };
    return true;
}

/* The result of a completed row, into its event: {…} becomes {…,"result":…}. */
struct wanted_result {
    struct sink *s;
    int64_t token;
};

static bool add_result(void *user, const exj_row_view *v)
{
    const struct wanted_result *w = user;
    exj_buf *b = &w->s->bodies;

    if (v->status != EXJ_COMPLETED || v->token != w->token)
        return false; /* it was run again since: that attempt has an event of its own */
    b->n--;           /* the closing brace */
    if (v->result.n > EXJ_SINK_RESULT_MAX) {
        exj_buf_printf(b, ",\"resultBytes\":%zu}", v->result.n);
    } else {
        exj_buf_add_text(b, ",\"result\":");
        exj_buf_add_slice(b, v->result.n ? v->result : EXJ_SLICE_LITERAL("null"));
        exj_buf_add_char(b, '}');
    }
    return false;
}

static bool add_body(struct sink *s, const exj_event_view *v)
{
    struct wanted_result w = { s, v->entry.token };
    exj_store *store = s->all->store;
    exj_err err = { 0 };
    exj_code rc;

    if (!exj_event_add_json(&s->bodies, v))
        return false;
    if (!s->results || v->entry.kind != EXJ_ENTRY_COMPLETED)
        return true;
    rc = store->v->row_by_seq(store, v->entry.seq, add_result, &w, &err);
    if (rc && rc != EXJ_NOT_FOUND) /* damaged: the event goes without it, and says nothing false */
        exj_log(EXJ_LOG_WARN, "sinks", "sink %s: the result of event %" PRId64 ": %s", s->name,
                v->entry.number, err.text);
    return !s->bodies.failed;
}

static bool take_new(void *user, const exj_event_view *v)
{
    struct gathering *g = user;
    struct sink *s = g->s;
    size_t at = s->bodies.n;
    bool blocked, known = rows_find(&s->rows, v->entry.seq, &blocked);

    if (known && s->held_len + s->behind_len >= EXJ_HELD_MOST)
        return false;
    if (!known && s->events_len >= s->width)
        return false;
    if (!add_body(s, v)) {
        g->failed = true;
        return false;
    }
    if (known) {
        g->failed = !hold_behind(s, &v->entry, at);
    } else {
        exj_slice body = { s->bodies.p + at, s->bodies.n - at };
        bool added = add_event(s, v->entry.number, v->entry.seq, 0, false, body);

        s->bodies.n = at; /* it is in runtime now, or comes again */
        g->failed = s->runtime.failed;
        if (!added)
            return false;
    }
    if (!g->failed)
        s->read_to = v->entry.number;
    return !g->failed;
}

/* New events of rows of which nothing is held. The mark in `rows` is only for held ones: rows of
 * this batch may have several events in it. */
static exj_code gather_new(struct sink *s, exj_err *err)
{
    exj_store *store = s->all->store;
    struct gathering g = { .s = s };
    exj_code rc;

    if (s->held_len >= EXJ_HELD_MOST)
        return EXJ_OK;
    rows_clear(&s->rows);
    for (size_t k = 0; k < s->held_len; k++)
        rows_set(&s->rows, s->held[k].seq, true);
    rc = store->v->events(store, s->position, READ_AT_ONCE, take_new, &g, err);
    if (!rc && g.failed)
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for a batch of events");
    return rc;
}

exj_code exj_sink_gather(struct sink *s, exj_msec now, exj_err *err)
{
    exj_code rc = EXJ_OK;

    s->events_len = s->behind_len = 0;
    s->read_to = s->position;
    exj_buf_reset(&s->runtime);
    exj_buf_reset(&s->bodies);
    exj_buf_printf(&s->runtime, "{\"sink\":\"%s\",\"events\":[", s->name);
    /* In turns: rows that fail again and again hold up no others. */
    if (!s->held_came)
        gather_held(s, now);
    if (!s->events_len)
        rc = gather_new(s, err);
    if (!rc && !s->events_len && s->held_came)
        gather_held(s, now);
    s->held_came = s->events_len && s->events[0].was_held;
    exj_buf_add_text(&s->runtime, "]}");
    if (!rc && s->runtime.failed)
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for a batch of events");
    return rc;
}

/* ---- judging -------------------------------------------------------------------------------- */

static struct event *event_of(struct sink *s, int64_t number)
{
    for (size_t k = 0; k < s->events_len; k++)
        if (s->events[k].number == number)
            return &s->events[k];
    return NULL;
}

exj_code exj_sink_judge(struct sink *s, exj_slice answer, exj_err *err)
{
    json_t *o = NULL, *f;
    exj_code rc = EXJ_OK;
    size_t k;

    for (k = 0; k < s->events_len; k++)
        s->events[k].fate = DELIVERED;
    if (!answer.n)
        return EXJ_OK;
    rc = exj_json_parse(answer, &o, err);
    if (rc)
        return exj_err_prefix(err, "its answer");
    if (!json_is_object(o) || (json_object_get(o, "failed") &&
                               !json_is_array(json_object_get(o, "failed"))))
        rc = exj_err_set(err, EXJ_INVALID, "its answer: wanted {\"failed\":[…]}, found %.*s",
                         answer.n > 100 ? 100 : (int)answer.n, answer.p);
    json_array_foreach(json_object_get(o, "failed"), k, f) {
        const char *why = json_string_value(json_object_get(f, "error"));
        json_int_t after = json_integer_value(json_object_get(f, "retryAfterSeconds"));
        struct event *e = json_is_integer(json_object_get(f, "number"))
                              ? event_of(s, json_integer_value(json_object_get(f, "number")))
                              : NULL;
        exj_slice said;

        if (!e) {
            rc = exj_err_set(err, EXJ_INVALID,
                             "its answer: failed[%zu].number is not of an event it was given", k);
            continue;
        }
        e->fate = FAILED;
        said = exj_utf8_clip(exj_slice_of(why && *why ? why : "no reason given"),
                             sizeof(e->error) - 1);
        snprintf(e->error, sizeof(e->error), "%.*s", (int)said.n, said.p);
        e->retry_after = after > 0 && after <= 86400 ? after * 1000 : 0;
    }
    json_decref(o);
    return rc;
}

void exj_sink_hold_rows(struct sink *s)
{
    for (size_t k = 0; k < s->events_len; k++)
        for (size_t n = 0; n < k; n++)
            if (s->events[n].seq == s->events[k].seq && s->events[n].fate != DELIVERED)
                s->events[k].fate = AGAIN;
}

/* ---- saving --------------------------------------------------------------------------------- */

/* One more try is over. */
static exj_sink_item charge(struct sink *s, const struct event *e, exj_msec now)
{
    exj_retry_verdict v = exj_retry_decide(&s->retry, e->tries + 1, true, now, exj_random_u64());
    exj_msec at = e->retry_after && v.run_after < now + e->retry_after ? now + e->retry_after
                                                                        : v.run_after;

    return (exj_sink_item){ .fate = v.dead ? EXJ_SINK_DEAD : EXJ_SINK_HOLD, .number = e->number,
                            .seq = e->seq, .tries = e->tries + 1, .at = at,
                            .error = exj_slice_of(e->error),
                            .body = { s->runtime.p + e->body_at, e->body_n } };
}

exj_code exj_sink_save(struct sink *s, exj_msec now, uint64_t *ret_dead, exj_err *err)
{
    exj_sink_item *items = malloc((s->events_len + s->behind_len + 1) * sizeof(*items));
    exj_op op = { .kind = EXJ_OP_SINK_SAVE };
    size_t n = 0;
    exj_code rc;

    *ret_dead = 0;
    if (!items)
        return exj_err_set(err, EXJ_NOMEM, "no memory to save a batch");
    for (size_t k = 0; k < s->events_len; k++) {
        const struct event *e = &s->events[k];

        if (e->fate == FAILED) {
            items[n] = charge(s, e, now);
            *ret_dead += items[n++].fate == EXJ_SINK_DEAD;
        } else if (e->fate == DELIVERED && e->was_held) {
            items[n++] = (exj_sink_item){ .fate = EXJ_SINK_DONE, .number = e->number };
        } else if (e->fate == AGAIN && !e->was_held) {
            items[n++] = (exj_sink_item){ .fate = EXJ_SINK_HOLD, .number = e->number,
                                          .seq = e->seq,
                                          .body = { s->runtime.p + e->body_at, e->body_n } };
        }
    }
    for (size_t k = 0; k < s->behind_len; k++) {
        const struct behind *b = &s->behind[k];

        items[n++] = (exj_sink_item){ .fate = EXJ_SINK_HOLD, .number = b->number, .seq = b->seq,
                                      .body = { s->bodies.p + b->body_at, b->body_n } };
    }
    op.u.sink.name = exj_slice_of(s->name);
    op.u.sink.position = s->read_to;
    op.u.sink.items = items;
    op.u.sink.len = n;
    rc = exj_store_do(s->all->store, &op, err);
    *ret_dead -= rc ? 0 : op.u.sink.ret_kept;
    if (!rc && op.u.sink.ret_kept && !s->dead_full)
        exj_log(EXJ_LOG_ERROR, "sinks",
                "sink %s has %d dead letters: what fails from now on is held and tried again; "
                "`exellix-jobs dead-letters replay` or `drop` makes room",
                s->name, EXJ_STORE_DEAD_MOST);
    if (!rc && (*ret_dead || op.u.sink.ret_kept))
        s->dead_full = op.u.sink.ret_kept > 0;
    if (!rc) {
        s->position = s->read_to;
        s->loaded = s->loaded && n == 0; /* else what is held has changed */
    }
    free(items);
    return rc;
}
