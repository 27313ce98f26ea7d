/* Work that is pushed: events into a matrix of kind event, and triggers into any.
 *
 * The body is one event, a JSON array of them, or one a line (application/x-ndjson). Every good
 * one becomes rows in one transaction, and the answer goes out when that is durable; the bad
 * ones are named with their line and the reason. Ids, records and keys stay where they are, in
 * the body, until they are stored. */
#include <stdlib.h>
#include <strings.h>

#include "core/http/command.h"
#include "core/job/record.h"
#include "core/run/admit.h"

#define BODY_MAX (8u * 1024u * 1024u)
#define EVENTS_MAX 10000u
#define SHOWN_MAX 1000u /* of each list in an answer */

struct intake {
    exj_exchange *x;
    exj_admission *a;
    bool auto_id;     /* an event may lack its id */
    bool auto_record; /* or its record: then it is empty */
    bool brief;       /* no list of events in the answer */
    bool landed;      /* the rows were made by this request, no replay of an earlier one */
    size_t seen, rejected;
    exj_buf rejections; /* JSON objects with commas between them */
    size_t *lines;      /* of the records that were admitted */
    exj_slice *ids;
    size_t len, cap;
    char **owned; /* texts that had to be unescaped or made */
    size_t owned_len, owned_cap;
};

static void intake_release(struct intake *in)
{
    for (size_t i = 0; i < in->owned_len; i++)
        free(in->owned[i]);
    free(in->owned);
    free(in->lines);
    free(in->ids);
    exj_buf_release(&in->rejections);
    exj_admission_free(in->a);
}

/* ---- one event ------------------------------------------------------------------------------ */

static exj_code nomem(exj_err *err)
{
    return exj_err_set(err, EXJ_NOMEM, "out of memory");
}

/* Takes `text`; NULL is nothing to keep. */
static exj_code keep(struct intake *in, char *text, exj_err *err)
{
    if (!text)
        return EXJ_OK;
    if (in->owned_len == in->owned_cap) {
        size_t cap = in->owned_cap ? 2 * in->owned_cap : 8;
        char **more = realloc(in->owned, cap * sizeof(*more));

        if (!more) {
            free(text);
            return nomem(err);
        }
        in->owned = more;
        in->owned_cap = cap;
    }
    in->owned[in->owned_len++] = text;
    return EXJ_OK;
}

static exj_code take_key(struct intake *in, const exj_json_iter *it, const char *what,
                         exj_slice *ret, exj_err *err)
{
    char *owned = NULL;
    exj_code rc = exj_key_of_json(it->value, it->kind, what, ret, &owned, err);

    return rc == EXJ_OK ? keep(in, owned, err) : rc;
}

struct event {
    exj_slice id, record;
    exj_admit_options o;
    unsigned seen; /* bits of members */
};

static exj_code take_id(struct intake *in, const exj_json_iter *it, exj_slice *ret,
                        exj_err *err)
{
    if (it->kind != EXJ_JSON_STRING)
        return exj_err_set(err, EXJ_INVALID, "id: found %.*s; a string is wanted",
                           (int)(it->value.n < 64 ? it->value.n : 64), it->value.p);
    if (it->value.n == 2)
        return exj_err_set(err, EXJ_INVALID, "id is empty; 1 to %u bytes are wanted",
                           EXJ_ID_MAX_BYTES);
    /* Too long: the text itself is shown by who checks ids. */
    if (it->value.n - 2 > EXJ_KEY_MAX_BYTES && !memchr(it->value.p, '\\', it->value.n)) {
        *ret = (exj_slice){ it->value.p + 1, it->value.n - 2 };
        return EXJ_OK;
    }
    return take_key(in, it, "id", ret, err);
}

static exj_code take_member(struct intake *in, const exj_json_iter *it, struct event *e,
                            exj_err *err)
{
    static const char *const names[] = { "id",        "record",         "priority", "runAfter",
                                         "uniqueKey", "concurrencyKey", NULL };
    unsigned which = 0;

    while (names[which] && !exj_json_key_is(it->key, names[which]))
        which++;
    if (!names[which])
        return exj_err_set(err, EXJ_INVALID,
                           "member \"%.*s\" is not known; an event has id, record, priority, "
                           "runAfter, uniqueKey, concurrencyKey",
                           (int)(it->key.n < 64 ? it->key.n : 64), it->key.p);
    if (e->seen & 1u << which)
        return exj_err_set(err, EXJ_INVALID, "member \"%s\" is given twice", names[which]);
    e->seen |= 1u << which;
    if (it->kind == EXJ_JSON_NULL)
        return EXJ_OK;
    switch (which) {
    case 0:
        return take_id(in, it, &e->id, err);
    case 1:
        e->record = it->value;
        return EXJ_OK;
    case 2:
        e->o.has_priority = true;
        return exj_priority_of_json(it->value, it->kind, names[which], &e->o.priority, err);
    case 3:
        return exj_instant_of_json(it->value, it->kind, names[which], &e->o.run_after, err);
    case 4:
        return take_key(in, it, names[which], &e->o.unique_key, err);
    default:
        return take_key(in, it, names[which], &e->o.concurrency_key, err);
    }
}

static exj_code fill_in(struct intake *in, struct event *e, exj_err *err)
{
    static const exj_slice empty = EXJ_SLICE_LITERAL("{}");
    char id[EXJ_ADMIT_ID_BYTES], *copy;
    exj_code rc;

    if (!e->record.n && !in->auto_record)
        return exj_err_set(err, EXJ_INVALID,
                           "record is missing: send {\"id\",\"record\"}, the record being one "
                           "flat object of named fields");
    if (!e->record.n)
        e->record = empty;
    if (e->id.n)
        return EXJ_OK;
    if (!in->auto_id)
        return exj_err_set(err, EXJ_INVALID,
                           "id is missing: it makes a repeated event do nothing; for a fresh "
                           "one each time ask with autoId=true");
    exj_admit_id(id);
    copy = strdup(id);
    if (!copy)
        return nomem(err);
    rc = keep(in, copy, err);
    if (rc == EXJ_OK)
        e->id = exj_slice_of(copy);
    return rc;
}

static bool note_admitted(struct intake *in, exj_slice id, size_t line)
{
    if (in->len == in->cap) {
        size_t cap = in->cap ? 2 * in->cap : 16;
        size_t *lines = realloc(in->lines, cap * sizeof(*lines));
        exj_slice *ids;

        if (!lines)
            return false;
        in->lines = lines;
        ids = realloc(in->ids, cap * sizeof(*ids));
        if (!ids)
            return false;
        in->ids = ids;
        in->cap = cap;
    }
    in->lines[in->len] = line;
    in->ids[in->len++] = id;
    return true;
}

static exj_code take_checked(struct intake *in, exj_slice text, size_t line, exj_err *err)
{
    struct event e = { 0 };
    exj_json_iter it;
    exj_code rc = EXJ_OK;

    exj_json_iter_init(&it, text);
    while (rc == EXJ_OK && exj_json_iter_next(&it))
        rc = take_member(in, &it, &e, err);
    if (rc == EXJ_OK)
        rc = fill_in(in, &e, err);
    if (rc == EXJ_OK && !note_admitted(in, e.id, line))
        return nomem(err);
    if (rc == EXJ_OK) {
        rc = exj_admission_add(in->a, e.id, e.record, &e.o, err);
        if (rc != EXJ_OK)
            in->len--;
    }
    return rc;
}

static void reject(struct intake *in, size_t line, const exj_err *why)
{
    if (in->rejected++ >= SHOWN_MAX)
        return;
    exj_buf_printf(&in->rejections,
                   "%s{\"line\":%zu,\"code\":\"ValidationError\",\"message\":",
                   in->rejections.n ? "," : "", line);
    exj_buf_add_json_string(&in->rejections, exj_slice_of(why->text));
    exj_buf_add_char(&in->rejections, '}');
}

/* False: answered, nothing may be inserted. A bad event alone is no reason. */
static bool take_event(struct intake *in, exj_slice text, size_t line)
{
    exj_json_kind kind = EXJ_JSON_NULL;
    exj_err err = { 0 };
    exj_code rc;

    if (++in->seen > EVENTS_MAX) {
        exj_answer_error(in->x, 413, "TooManyEvents",
                         "more than %u events in one request: send them in several; nothing "
                         "was inserted",
                         EVENTS_MAX);
        return false;
    }
    rc = exj_json_check(text, EXJ_JSON_MAX_DEPTH + 1, &kind, &err);
    if (rc == EXJ_OK && kind != EXJ_JSON_OBJECT)
        rc = exj_err_set(&err, EXJ_INVALID, "an event is a JSON object {\"id\",\"record\"}");
    if (rc == EXJ_OK)
        rc = take_checked(in, text, line, &err);
    if (rc == EXJ_INVALID) {
        reject(in, line, &err);
    } else if (rc == EXJ_FULL) {
        exj_answer_error(in->x, 413, "TooManyEvents", "%s; nothing was inserted", err.text);
        return false;
    } else if (rc != EXJ_OK) {
        exj_answer_failure(in->x, &err);
        return false;
    }
    return true;
}

/* ---- the three forms of a body -------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static exj_slice trim(exj_slice s)
{
    while (s.n && is_space(*s.p))
        s.p++, s.n--;
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

static bool take_lines(struct intake *in, exj_slice body)
{
    for (size_t line = 1; body.n; line++) {
        const char *end = memchr(body.p, '\n', body.n);
        exj_slice text = { body.p, end ? (size_t)(end - body.p) : body.n };

        body.p += text.n + (end != NULL);
        body.n -= text.n + (end != NULL);
        text = trim(text);
        if (text.n && !take_event(in, text, line))
            return false;
    }
    return true;
}

/* The length of the value that begins `rest`, inside a checked array. */
static size_t element_length(exj_slice rest)
{
    unsigned depth = 0;
    bool in_text = false;
    size_t n;

    for (n = 0; n < rest.n; n++) {
        char c = rest.p[n];

        if (in_text) {
            if (c == '\\')
                n++;
            else if (c == '"')
                in_text = false;
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == ']')) {
            break;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return n < rest.n ? n : rest.n;
}

static bool take_array(struct intake *in, exj_slice body)
{
    exj_err err = { 0 };
    size_t at = 1;

    if (exj_json_check(body, EXJ_JSON_MAX_DEPTH + 2, NULL, &err) != EXJ_OK) {
        exj_err_prefix(&err, "the array of events is not JSON; nothing was inserted");
        exj_answer_failure(in->x, &err);
        return false;
    }
    for (size_t line = 1;; line++) {
        exj_slice text;

        while (at < body.n && (is_space(body.p[at]) || body.p[at] == ','))
            at++;
        if (at >= body.n || body.p[at] == ']')
            return true;
        text = (exj_slice){ body.p + at, body.n - at };
        text.n = element_length(text);
        at += text.n;
        if (!take_event(in, trim(text), line))
            return false;
    }
}

static bool is_ndjson(exj_slice type)
{
    static const char *const names[] = { "application/x-ndjson", "application/ndjson",
                                         "application/jsonl" };
    const char *end = type.n ? memchr(type.p, ';', type.n) : NULL;

    type = trim((exj_slice){ type.p, end ? (size_t)(end - type.p) : type.n });
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (type.n == strlen(names[i]) && strncasecmp(type.p, names[i], type.n) == 0)
            return true;
    return false;
}

/* False: answered. */
static bool take_body(struct intake *in)
{
    exj_slice body = trim(in->x->q->body);
    exj_err err = { 0 };

    if (in->x->q->body.n > BODY_MAX) {
        exj_answer_error(in->x, 413, "BodyTooLarge",
                         "the body has %zu bytes; at most %u are taken at once: send the "
                         "events in several requests; nothing was inserted",
                         in->x->q->body.n, BODY_MAX);
        return false;
    }
    if (is_ndjson(in->x->q->content_type))
        return take_lines(in, in->x->q->body);
    if (body.n && *body.p == '[')
        return take_array(in, body);
    if (body.n && exj_json_check(body, EXJ_JSON_MAX_DEPTH + 1, NULL, &err) != EXJ_OK) {
        exj_answer_error(in->x, 400, "ValidationError",
                         "the body is not JSON: %s (one event a line needs Content-Type: "
                         "application/x-ndjson)",
                         err.text);
        return false;
    }
    return !body.n || take_event(in, body, 1);
}

/* ---- the answer ----------------------------------------------------------------------------- */

enum fate { INSERTED, DROPPED, KEY_TAKEN, DUPLICATE, FATES };

static const char *const fate_words[FATES] = { "inserted", "dropped", "uniqueKeyTaken",
                                               "duplicate" };

static enum fate fate_of(const exj_insert_item *it)
{
    if (it->verdict == EXJ_OK)
        return it->status == EXJ_DROPPED ? DROPPED : INSERTED;
    return it->verdict == EXJ_BUSY ? KEY_TAKEN : DUPLICATE;
}

/* An event is what the luckiest of its rows is. */
static enum fate event_fate(const struct intake *in, size_t i)
{
    enum fate best = DUPLICATE;

    for (size_t g = 0; g < exj_admission_graphs(in->a); g++) {
        enum fate f = fate_of(exj_admission_item(in->a, g, i));

        best = f < best ? f : best;
    }
    return best;
}

static void write_rows(const struct intake *in, size_t i, exj_buf *name, exj_buf *b)
{
    const exj_matrix_config *m = exj_admission_matrix(in->a);

    exj_buf_add_text(b, ",\"rows\":[");
    for (size_t g = 0; g < exj_admission_graphs(in->a); g++) {
        const char *graph = exj_admission_graph(in->a, g);

        exj_buf_reset(name);
        exj_row_name_add(name, exj_slice_of(m->matrix_id), exj_slice_of(m->run_id),
                         exj_slice_of(graph), in->ids[i]);
        exj_buf_printf(b, "%s{\"matrixRowId\":", g ? "," : "");
        exj_buf_add_json_string(b, exj_buf_slice(name));
        exj_buf_printf(b, ",\"status\":\"%s\"}",
                       fate_words[fate_of(exj_admission_item(in->a, g, i))]);
    }
    exj_buf_add_char(b, ']');
}

static void write_event(const struct intake *in, size_t i, exj_buf *name, exj_buf *b)
{
    exj_buf_printf(b, "{\"line\":%zu,\"id\":", in->lines[i]);
    exj_buf_add_json_string(b, in->ids[i]);
    exj_buf_printf(b, ",\"status\":\"%s\"", fate_words[event_fate(in, i)]);
    write_rows(in, i, name, b);
    exj_buf_add_char(b, '}');
}

static void write_report(const struct intake *in, exj_buf *b)
{
    size_t counts[FATES] = { 0 }, shown = in->len < SHOWN_MAX ? in->len : SHOWN_MAX;
    exj_buf name = EXJ_BUF_INIT;

    for (size_t i = 0; i < in->len; i++)
        counts[event_fate(in, i)]++;
    exj_buf_add_text(b, "{\"matrixCatalogId\":");
    exj_buf_add_json_string(b, exj_slice_of(exj_admission_matrix(in->a)->matrix_id));
    exj_buf_printf(b,
                   ",\"received\":%zu,\"inserted\":%zu,\"duplicates\":%zu,\"dropped\":%zu,"
                   "\"uniqueKeyTaken\":%zu,\"droppedOlder\":%zu,\"rejectedCount\":%zu,"
                   "\"rejected\":[",
                   in->seen, counts[INSERTED], counts[DUPLICATE], counts[DROPPED],
                   counts[KEY_TAKEN], exj_admission_dropped_older(in->a), in->rejected);
    if (in->rejections.n)
        exj_buf_add_slice(b, exj_buf_slice(&in->rejections));
    exj_buf_add_char(b, ']');
    if (!in->brief) {
        exj_buf_add_text(b, ",\"events\":[");
        for (size_t i = 0; i < shown; i++) {
            if (i)
                exj_buf_add_char(b, ',');
            write_event(in, i, &name, b);
        }
        exj_buf_printf(b, "],\"eventsTruncated\":%s", in->len > shown ? "true" : "false");
    }
    exj_buf_add_char(b, '}');
    b->failed |= name.failed || in->rejections.failed;
    exj_buf_release(&name);
}

static void answer_text(exj_exchange *x, unsigned status, exj_buf *b)
{
    if (b->failed) {
        exj_buf_release(b);
        exj_answer_take(x, 500, NULL);
        return;
    }
    exj_buf_release(&x->ret->body);
    x->ret->body = *b;
    x->ret->status = status;
    x->ret->content_type = EXJ_TYPE_JSON;
}

/* Nothing was inserted because of what was rejected. */
static void answer_rejected(struct intake *in)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_printf(&b,
                   "{\"statusCode\":400,\"error\":\"Bad Request\",\"code\":\"EventsRejected\","
                   "\"message\":\"%zu of %zu events are wrong; nothing was inserted\","
                   "\"rejectedCount\":%zu,\"rejected\":[",
                   in->rejected, in->seen, in->rejected);
    exj_buf_add_slice(&b, exj_buf_slice(&in->rejections));
    exj_buf_add_text(&b, "]}");
    answer_text(in->x, 400, &b);
}

/* ---- the routes ------------------------------------------------------------------------------ */

static void answer_not_admitted(exj_exchange *x, const exj_err *err)
{
    if (err->code == EXJ_REFUSED)
        exj_answer_error(x, 409, "GraphNotSchedulableError", "no row was made: %s", err->text);
    else
        exj_answer_failure(x, err);
}

static const char *kind_word(exj_source_kind kind)
{
    static const char *const words[] = { "record", "storage", "query-snapshot", "event" };

    return words[kind];
}

/* Opens the admission of `matrix`. False: answered. */
static bool open_matrix(exj_exchange *x, exj_slice matrix, exj_slice graph, exj_admission **ret)
{
    exj_err err = { 0 };
    exj_code rc = exj_admission_open_id(x->api->store, x->api->engine, matrix, graph, ret, &err);

    if (rc == EXJ_NOT_FOUND && !graph.n) {
        exj_answer_error(x, 404, "ConfigStoreNotFoundError", "no matrix config \"%.*s\"",
                         (int)matrix.n, matrix.p);
        return false;
    }
    if (rc != EXJ_OK)
        answer_not_admitted(x, &err);
    return rc == EXJ_OK;
}

static void answer_events(exj_exchange *x, const exj_op *ops, void *user)
{
    struct intake *in = user;
    exj_buf b = EXJ_BUF_INIT;

    (void)ops; /* the admission's own */
    in->landed = true;
    write_report(in, &b);
    answer_text(x, in->rejected ? 207 : 200, &b);
}

static void answer_trigger(exj_exchange *x, const exj_op *ops, void *user)
{
    struct intake *in = user;
    exj_buf b = EXJ_BUF_INIT, name = EXJ_BUF_INIT;

    (void)ops;
    in->landed = true;
    exj_buf_add_text(&b, "{\"matrixCatalogId\":");
    exj_buf_add_json_string(&b, exj_slice_of(exj_admission_matrix(in->a)->matrix_id));
    exj_buf_add_text(&b, ",\"id\":");
    exj_buf_add_json_string(&b, in->ids[0]);
    exj_buf_printf(&b, ",\"status\":\"%s\",\"droppedOlder\":%zu",
                   fate_words[event_fate(in, 0)], exj_admission_dropped_older(in->a));
    write_rows(in, 0, &name, &b);
    exj_buf_add_char(&b, '}');
    b.failed |= name.failed;
    exj_buf_release(&name);
    answer_text(x, 200, &b);
}

/* Rows that were made: wake whoever runs them, and count. */
static void landed(const struct intake *in)
{
    exj_metrics *metrics = in->x->api->metrics;
    exj_slice matrix = exj_slice_of(exj_admission_matrix(in->a)->matrix_id);
    size_t inserted = 0;

    exj_admission_landed(in->a);
    for (size_t g = 0; g < exj_admission_graphs(in->a); g++)
        for (size_t i = 0; i < in->len; i++)
            inserted += exj_admission_item(in->a, g, i)->verdict == EXJ_OK;
    if (metrics && inserted)
        exj_series_add(exj_metric_series(metrics, EXJ_M_MATERIALIZED, matrix, (exj_slice){ 0 }),
                       (double)inserted);
}

static void submit(struct intake *in, exj_effect_answer answer)
{
    exj_op *ops = NULL;
    exj_err err = { 0 };
    exj_code rc = exj_admission_ops(in->a, &ops, &err);

    if (rc == EXJ_OK)
        rc = exj_effect(in->x, ops, exj_admission_graphs(in->a), answer, in, &err);
    if (rc != EXJ_OK)
        exj_answer_failure(in->x, &err);
    else if (in->landed)
        landed(in);
}

void exj_route_events_in(exj_exchange *x)
{
    struct intake in = { .x = x };
    bool atomic;

    if (!exj_take_bool(x, "autoId", &in.auto_id) || !exj_take_bool(x, "atomic", &atomic) ||
        !exj_take_bool(x, "brief", &in.brief) || !open_matrix(x, x->id, (exj_slice){ 0 }, &in.a))
        return;
    if (exj_admission_matrix(in.a)->source != EXJ_SOURCE_EVENT)
        exj_answer_error(x, 409, "NotAnEventMatrix",
                         "matrix \"%.*s\" is of kind %s: its rows come from its source; only "
                         "matrices of kind event take events (a trigger makes a row of any)",
                         (int)x->id.n, x->id.p, kind_word(exj_admission_matrix(in.a)->source));
    else if (!take_body(&in))
        ;
    else if (!in.seen)
        exj_answer_error(x, 400, "ValidationError",
                         "no events: send {\"id\",\"record\"}, a JSON array of them, or one a "
                         "line with Content-Type: application/x-ndjson");
    else if (!in.len || (atomic && in.rejected))
        answer_rejected(&in);
    else
        submit(&in, answer_events);
    intake_release(&in);
}

/* ---- triggers -------------------------------------------------------------------------------- */

/* One event, whose id and record may be missing. Ends in->a. */
static void trigger(exj_exchange *x, exj_admission *a)
{
    struct intake in = { .x = x, .a = a, .auto_id = true, .auto_record = true };
    static const exj_slice nothing = EXJ_SLICE_LITERAL("{}");
    exj_slice body = trim(x->q->body);

    if (!take_event(&in, body.n ? body : nothing, 1)) {
        ;
    } else if (in.rejected) { /* its reason alone: there is one */
        json_t *why = NULL;

        exj_json_parse(exj_buf_slice(&in.rejections), &why, NULL);
        exj_answer_error(x, 400, "ValidationError", "%s; nothing was inserted",
                         why ? json_string_value(json_object_get(why, "message")) : "bad body");
        json_decref(why);
    } else {
        submit(&in, answer_trigger);
    }
    intake_release(&in);
}

void exj_route_matrix_trigger(exj_exchange *x)
{
    exj_admission *a;

    if (open_matrix(x, x->id, exj_param_text(x, "graphId"), &a))
        trigger(x, a);
}

struct naming { /* matrices that name a graph */
    exj_slice graph;
    char *matrix; /* owned; the first */
    exj_buf list;
    size_t len;
    bool failed;
};

static bool visit_matrix(void *user, exj_slice id, int64_t version, exj_slice body,
                         exj_msec created, exj_msec updated)
{
    struct naming *n = user;
    exj_matrix_config m = { 0 };

    (void)version, (void)created, (void)updated;
    if (exj_matrix_config_read(body, &m, NULL) != EXJ_OK)
        return true; /* whoever lists matrices tells of it */
    for (size_t i = 0; i < m.graphs_len; i++) {
        if (!exj_slice_is(n->graph, m.graphs[i]))
            continue;
        if (n->len++ == 0)
            n->matrix = exj_slice_dup(id);
        if (n->len <= 8)
            exj_buf_printf(&n->list, "%s%.*s", n->len > 1 ? ", " : "", (int)id.n, id.p);
        n->failed |= !n->matrix || n->list.failed;
        break;
    }
    exj_matrix_config_release(&m);
    return !n->failed;
}

/* A graph alone: of the one matrix that names it. */
void exj_route_graph_trigger(exj_exchange *x)
{
    struct naming n = { .graph = x->id };
    exj_admission *a = NULL;
    exj_err err = { 0 };
    exj_code rc = exj_documents_each(x->api, EXJ_DOC_MATRIX, (exj_slice){ 0 }, SIZE_MAX,
                                     visit_matrix, &n, &err);

    if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    else if (n.failed)
        exj_answer_take(x, 500, NULL);
    else if (n.len == 0)
        exj_answer_error(x, 404, "ConfigStoreNotFoundError", "no matrix names a graph \"%.*s\"",
                         (int)x->id.n, x->id.p);
    else if (n.len > 1)
        exj_answer_error(x, 409, "AmbiguousGraph",
                         "graph \"%.*s\" is in %zu matrices (%s%s): say which, "
                         "/matrices/ID/trigger?graphId=%.*s",
                         (int)x->id.n, x->id.p, n.len, n.list.p, n.len > 8 ? ", …" : "",
                         (int)x->id.n, x->id.p);
    else if (open_matrix(x, exj_slice_of(n.matrix), x->id, &a))
        trigger(x, a);
    free(n.matrix);
    exj_buf_release(&n.list);
}
