#include "core/http/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define AT_ONCE 200u /* events read from the store in one go */
#define ROW_HISTORY 100000u
#define ROW_PART (1024u * 1024u) /* bytes of a row's history gathered in one go */
#define AWAKE_NS 10000000000LL /* something is sent at least so often */

struct exj_streams {
    exj_store *store;
    exj_news *news;
    exj_news_ear ear;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int64_t last; /* guarded by mu, as all below: number of the newest event */
    bool ending;
    unsigned open;
};

struct exj_stream {
    exj_streams *all;
    int64_t sent;  /* number of the last event that was looked at */
    int64_t seq;
    int64_t history; /* of a row: its journal is shown up to here, then it is followed in the
                        stream of all; 0: it is followed */
    char *matrix, *graph; /* owned; NULL: any */
    bool failed;
    exj_buf out;
    size_t out_at;
};

static void heard(void *user, int64_t last)
{
    exj_streams *all = user;

    pthread_mutex_lock(&all->mu);
    all->last = last;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->mu);
}

exj_code exj_streams_open(exj_store *s, exj_news *news, exj_streams **ret, exj_err *err)
{
    exj_streams *all = calloc(1, sizeof *all);
    pthread_condattr_t monotonic;

    if (!all)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    all->store = s;
    all->news = news;
    all->ear = (exj_news_ear){ .heard = heard, .user = all };
    pthread_mutex_init(&all->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&all->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    exj_news_add(news, &all->ear);
    *ret = all;
    return EXJ_OK;
}

void exj_streams_end(exj_streams *all)
{
    pthread_mutex_lock(&all->mu);
    all->ending = true;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->mu);
}

void exj_streams_close(exj_streams *all)
{
    if (!all)
        return;
    exj_news_remove(all->news, &all->ear);
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->mu);
    free(all);
}

/* ---- one stream --------------------------------------------------------------------------- */

/* What was pruned before the reader came to it is said, once. A row's own journal is never
 * pruned while the row is there. */
static void skip_gap(exj_stream *s, int64_t first)
{
    if (s->seq || s->sent + 1 >= first)
        return;
    exj_buf_printf(&s->out,
                   "id: %" PRId64 "\nevent: gap\ndata: {\"from\":%" PRId64 ",\"to\":%" PRId64
                   "}\n\n",
                   first - 1, s->sent + 1, first - 1);
    s->sent = first - 1;
}

static exj_code begin(exj_stream *s, const exj_stream_wish *wish, exj_err *err)
{
    exj_store *store = s->all->store;
    int64_t first, last;
    exj_code rc = store->v->events_span(store, &first, &last, err);

    if (rc)
        return rc;
    if (wish->after > last)
        return exj_err_set(err, EXJ_INVALID,
                           "event %" PRId64 " has not happened: the newest is %" PRId64
                           "; begin there or at 0",
                           wish->after, last);
    s->sent = wish->after < 0 ? last : wish->after;
    skip_gap(s, first);
    if (s->seq && s->sent < last)
        s->history = last;
    return EXJ_OK;
}

exj_code exj_stream_open(exj_streams *all, const exj_stream_wish *wish, exj_stream **ret,
                         exj_err *err)
{
    exj_stream *s = calloc(1, sizeof *s);
    exj_code rc = EXJ_OK;

    if (!s)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    pthread_mutex_lock(&all->mu);
    if (all->ending)
        rc = exj_err_set(err, EXJ_CANCELLED, "the server stops");
    else if (all->open >= EXJ_STREAMS_MAX)
        rc = exj_err_set(err, EXJ_BUSY, "%u event streams are open already", all->open);
    else
        all->open++;
    pthread_mutex_unlock(&all->mu);
    if (rc) {
        free(s);
        return rc;
    }
    s->all = all;
    s->seq = wish->seq;
    if (wish->matrix.n)
        s->matrix = exj_slice_dup(wish->matrix);
    if (wish->graph.n)
        s->graph = exj_slice_dup(wish->graph);
    if ((wish->matrix.n && !s->matrix) || (wish->graph.n && !s->graph))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (!rc)
        rc = begin(s, wish, err);
    /* The head of the answer goes out with the first bytes: there shall be some at once. */
    if (!rc && !exj_buf_add_text(&s->out, ": exellix-jobs\n\n"))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc) {
        exj_stream_close(s);
        return rc;
    }
    *ret = s;
    return EXJ_OK;
}

void exj_stream_close(exj_stream *s)
{
    pthread_mutex_lock(&s->all->mu);
    s->all->open--;
    pthread_mutex_unlock(&s->all->mu);
    exj_buf_release(&s->out);
    free(s->matrix);
    free(s->graph);
    free(s);
}

static bool is_wanted(const exj_stream *s, const exj_event_view *v)
{
    return v->entry.number > s->sent && (!s->seq || v->entry.seq == s->seq) &&
           (!s->matrix || exj_slice_is(v->matrix, s->matrix)) &&
           (!s->graph || exj_slice_is(v->graph, s->graph));
}

static bool add_event(void *user, const exj_event_view *v)
{
    exj_stream *s = user;

    if (is_wanted(s, v)) {
        exj_buf_printf(&s->out, "id: %" PRId64 "\nevent: %s\ndata: ", v->entry.number,
                       exj_entry_word(v->entry.kind));
        exj_event_add_json(&s->out, v); /* JSON has no line ends of its own */
        exj_buf_add_text(&s->out, "\n\n");
    }
    if (v->entry.number > s->sent)
        s->sent = v->entry.number;
    return !s->out.failed;
}

static bool add_history(void *user, const exj_event_view *v)
{
    exj_stream *s = user;

    return s->out.n < ROW_PART && add_event(s, v);
}

/* The journal of a row reaches further back than the stream of all, which is pruned. */
static exj_code read_history(exj_stream *s, exj_err *err)
{
    exj_store *store = s->all->store;
    exj_code rc = store->v->journal(store, s->seq, ROW_HISTORY, add_history, s, err);

    if (!rc && s->out.n < ROW_PART) {
        if (s->sent < s->history)
            s->sent = s->history;
        s->history = 0;
    }
    return rc;
}

/* Read what has happened since into `out`; all up to `last` is committed. False: the stream
 * cannot go on. */
static bool catch_up(exj_stream *s, int64_t last)
{
    exj_store *store = s->all->store;
    int64_t before = s->sent, first, newest;
    exj_err err = { 0 };
    exj_code rc;

    if (s->history) {
        rc = read_history(s, &err);
    } else {
        rc = store->v->events_span(store, &first, &newest, &err);
        if (!rc)
            skip_gap(s, first);
    }
    if (!rc && !s->history) {
        rc = store->v->events(store, s->sent, AT_ONCE, add_event, s, &err);
        if (s->sent == before && s->sent < last)
            s->sent = last; /* pruned before we came to it */
    }
    if (rc)
        exj_log(EXJ_LOG_WARN, "http", "an event stream ends: %s", err.text);
    return !rc && !s->out.failed;
}

/* Wait for news, or until then. *ret_last: the newest event's number. False: the server stops. */
static bool wait_for_news(exj_stream *s, exj_nsec until, int64_t *ret_last)
{
    exj_streams *all = s->all;
    struct timespec t = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
    bool go_on;
    int rc = 0;

    pthread_mutex_lock(&all->mu);
    while (!all->ending && all->last <= s->sent && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&all->changed, &all->mu, &t);
    go_on = !all->ending;
    *ret_last = all->last;
    pthread_mutex_unlock(&all->mu);
    return go_on;
}

static bool is_ending(exj_streams *all)
{
    bool is;

    pthread_mutex_lock(&all->mu);
    is = all->ending;
    pthread_mutex_unlock(&all->mu);
    return is;
}

ssize_t exj_stream_read(exj_stream *s, char *p, size_t n)
{
    exj_nsec until = exj_clock_mono_ns() + AWAKE_NS;
    int64_t last = 0;

    while (!s->failed && s->out_at == s->out.n) {
        int64_t before = s->sent;

        exj_buf_reset(&s->out);
        s->out_at = 0;
        /* What happened before anybody told us, at first; then what we are told of. */
        s->failed = !catch_up(s, last);
        if (s->failed || s->out.n)
            break;
        /* Events that nobody wants here may come for ever. */
        s->failed = s->sent == before ? !wait_for_news(s, until, &last) : is_ending(s->all);
        if (!s->failed && exj_clock_mono_ns() >= until)
            exj_buf_add_text(&s->out, ": awake\n\n");
    }
    if (s->failed)
        return -1;
    if (n > s->out.n - s->out_at)
        n = s->out.n - s->out_at;
    memcpy(p, s->out.p + s->out_at, n);
    s->out_at += n;
    return (ssize_t)n;
}
