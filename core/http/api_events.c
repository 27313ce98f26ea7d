/* core/http/api_events.c - GET /events and /rows/:id/events: a page of JSON, or a stream. */
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>

#include "core/http/exchange.h"
#include "core/http/stream.h"

#define ROW_HISTORY 100000u /* a page of a row is looked for in its newest entries */

static bool wants_stream(const exj_request *q)
{
    static const char type[] = "text/event-stream";

    for (size_t i = 0; i + sizeof type - 1 <= q->accept.n; i++)
        if (strncasecmp(q->accept.p + i, type, sizeof type - 1) == 0)
            return true;
    return false;
}

/* Where to begin: ?after, else Last-Event-ID, else `fallback`. False: answered. */
static bool take_after(exj_exchange *x, int64_t fallback, int64_t *ret)
{
    exj_slice id = x->q->last_event_id;

    if (id.n && !exj_param_find(x, "after")) {
        int64_t v = 0;

        for (size_t i = 0; i < id.n; i++) {
            if (id.p[i] < '0' || id.p[i] > '9' || i >= 18) {
                exj_answer_error(x, 400, "ValidationError",
                                 "Last-Event-ID is \"%.*s\"; the number of an event is wanted",
                                 (int)(id.n < 64 ? id.n : 64), id.p);
                return false;
            }
            v = v * 10 + (id.p[i] - '0');
        }
        *ret = v;
        return true;
    }
    return exj_take_i64(x, "after", 0, INT64_MAX / 2, fallback, ret);
}

static void answer_stream(exj_exchange *x, exj_stream_wish *wish)
{
    exj_err err = { 0 };

    if (!x->api->streams) {
        exj_answer_error(x, 503, "Unavailable",
                         "events are streamed by a daemon only: exellix-jobs serve");
        return;
    }
    if (exj_stream_open(x->api->streams, wish, &x->ret->stream, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        return;
    }
    x->ret->status = 200;
    x->ret->content_type = "text/event-stream";
}

/* ---- a page --------------------------------------------------------------------------------- */

struct page {
    exj_slice matrix, graph;
    int64_t after, last;
    exj_buf out;
    size_t n, most; /* most: of a row's; 0: as many as there are */
    bool more;
};

static bool add(void *user, const exj_event_view *v)
{
    struct page *p = user;

    if (p->most && v->entry.number <= p->after)
        return true;
    p->more = p->most && p->n == p->most;
    if (p->more)
        return false;
    p->last = v->entry.number;
    if (v->entry.number <= p->after ||
        (p->matrix.n && (v->matrix.n != p->matrix.n ||
                         memcmp(v->matrix.p, p->matrix.p, p->matrix.n) != 0)) ||
        (p->graph.n &&
         (v->graph.n != p->graph.n || memcmp(v->graph.p, p->graph.p, p->graph.n) != 0)))
        return true;
    if (p->n++)
        exj_buf_add_char(&p->out, ',');
    return exj_event_add_json(&p->out, v);
}

/* {"events":[…],"next":N|null,"first":F,"last":L} */
static void answer_page(exj_exchange *x, struct page *p, int64_t seq, size_t limit)
{
    exj_store *s = x->api->store;
    int64_t first = 0, last = 0;
    exj_err err = { 0 };
    exj_code rc = s->v->events_span(s, &first, &last, &err);

    p->last = p->after;
    p->most = seq ? limit : 0;
    exj_buf_add_text(&p->out, "{\"events\":[");
    if (!rc && p->after > last)
        rc = exj_err_set(&err, EXJ_INVALID,
                         "event %" PRId64 " has not happened: the newest is %" PRId64, p->after,
                         last);
    if (!rc)
        rc = seq ? s->v->journal(s, seq, ROW_HISTORY, add, p, &err)
                 : s->v->events(s, p->after, limit, add, p, &err);
    if (rc) {
        exj_answer_failure(x, &err);
        exj_buf_release(&p->out);
        return;
    }
    exj_buf_add_text(&p->out, "],\"next\":");
    /* What was looked for and is pruned has no next page. */
    if (seq ? p->more : p->last > p->after && p->last < last)
        exj_buf_add_i64(&p->out, p->last);
    else
        exj_buf_add_text(&p->out, "null");
    exj_buf_printf(&p->out, ",\"first\":%" PRId64 ",\"last\":%" PRId64 "}", first, last);
    if (p->out.failed) {
        exj_answer_take(x, 500, NULL);
        exj_buf_release(&p->out);
        return;
    }
    x->ret->status = 200;
    x->ret->body = p->out;
}

void exj_route_events(exj_exchange *x)
{
    bool stream = wants_stream(x->q);
    struct page p = { .matrix = exj_param_text(x, "matrixCatalogId"),
                      .graph = exj_param_text(x, "graphId") };
    exj_stream_wish wish = { .matrix = p.matrix, .graph = p.graph };
    int64_t limit;

    if (!take_after(x, stream ? -1 : 0, &p.after) ||
        !exj_take_i64(x, "limit", 1, 1000, 100, &limit))
        return;
    wish.after = p.after;
    if (stream)
        answer_stream(x, &wish);
    else
        answer_page(x, &p, 0, (size_t)limit);
}

void exj_route_row_events(exj_exchange *x)
{
    bool stream = wants_stream(x->q);
    exj_stream_wish wish = { 0 };
    struct page p = { 0 };
    exj_found_row f;
    int64_t limit;

    if (!take_after(x, 0, &p.after) || !exj_take_i64(x, "limit", 1, 1000, 100, &limit) ||
        !exj_take_row(x, &f))
        return;
    wish.after = p.after;
    wish.seq = f.seq;
    if (stream)
        answer_stream(x, &wish);
    else
        answer_page(x, &p, f.seq, (size_t)limit);
    exj_found_row_release(&f);
}
