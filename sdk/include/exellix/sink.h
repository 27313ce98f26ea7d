/* exellix/sink.h - what an event sink needs beside the ABI: reading a batch, choosing events,
 * answering. C11 and C++17; header only.
 *
 *     exj_sink_batch *b = s->batch;             (about 40 KB: keep it off the stack)
 *     const char *why = exj_sink_read(args->runtime, b);
 *
 *     if (why) …error(…, why); return EXJ_R_INPUT;
 *     for (size_t k = 0; k < b->n; k++)
 *         if (exj_sink_wants(&s->filter, &b->events[k]) && !exj_sink_is_behind(b, k) &&
 *             !send(&b->events[k]))
 *             exj_sink_fail(b, k, "no answer", 0);
 *     return exj_sink_answer(host, call, b);
 *
 * Memory:  texts of a batch point into the runtime text and live as long as the call.
 * Threads: no state; a batch belongs to one thread.
 */
#ifndef EXELLIX_SINK_H
#define EXELLIX_SINK_H

#include "exellix/json.h"

#define EXJ_SINK_ERROR_BYTES 240 /* of the text of one failed event, with its NUL */
#define EXJ_SINK_CHOICE_MAX 100  /* words of one filter list */

typedef struct exj_sink_event {
    exj_str json;             /* all of it */
    exj_str row, kind, graph; /* with quotes; empty: it has none */
    int64_t number;
    int64_t retry_after; /* seconds; 0: not said */
    bool failed;
    char error[EXJ_SINK_ERROR_BYTES];
} exj_sink_event;

typedef struct exj_sink_batch {
    exj_str sink; /* with quotes; empty: none */
    exj_sink_event events[EXJ_SINK_EVENTS];
    size_t n;
} exj_sink_batch;

/* The member of an event when it is a string, else empty. */
static inline exj_str exj_sink_string_(exj_str event, const char *key)
{
    exj_str found = { NULL, 0 }, none = { NULL, 0 };

    return exj_json_find(event, key, &found) && exj_json_type(found) == '"' ? found : none;
}

/* args->runtime as a batch. NULL: it is one; else what is wrong with it. */
static inline const char *exj_sink_read(exj_str runtime, exj_sink_batch *ret)
{
    exj_str events, one, number;
    exj_json_cursor c;

    ret->n = 0;
    ret->sink = exj_sink_string_(runtime, "sink");
    if (!exj_json_find(runtime, "events", &events) || exj_json_type(events) != '[')
        return "runtime.events is missing or no list";
    c = exj_json_elements(events);
    while (exj_json_next_element(&c, &one)) {
        exj_sink_event *e = &ret->events[ret->n];

        if (ret->n == EXJ_SINK_EVENTS)
            return "runtime.events holds more events than one batch may";
        if (exj_json_type(one) != '{' || !exj_json_find(one, "number", &number) ||
            !exj_json_to_i64(number, &e->number))
            return "an event of runtime.events is no object with an integer \"number\"";
        e->json = one;
        e->row = exj_sink_string_(one, "matrixRowId");
        e->kind = exj_sink_string_(one, "kind");
        e->graph = exj_sink_string_(one, "graphId");
        e->retry_after = 0;
        e->failed = false;
        e->error[0] = '\0';
        ret->n++;
    }
    return NULL;
}

/* Note that event `at` was not kept. The text is cut where it is too long. */
static inline void exj_sink_fail(exj_sink_batch *b, size_t at, const char *error,
                                 int64_t retry_after)
{
    exj_sink_event *e = &b->events[at];

    e->failed = true;
    e->retry_after = retry_after;
    snprintf(e->error, sizeof e->error, "%s", error);
}

/* Has an earlier event of the same row failed? Then this one must wait with it. */
static inline bool exj_sink_is_behind(const exj_sink_batch *b, size_t at)
{
    exj_str row = b->events[at].row;
    size_t k;

    for (k = 0; row.n && k < at; k++)
        if (b->events[k].failed && b->events[k].row.n == row.n &&
            memcmp(b->events[k].row.p, row.p, (size_t)row.n) == 0)
            return true;
    return false;
}

/* Emit what failed, if anything did, and the result for execute to return. */
static inline exj_result exj_sink_answer(const exj_host *host, exj_call call,
                                         const exj_sink_batch *b)
{
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_result r = EXJ_R_RETRY;
    bool any = false;
    size_t k;

    exj_json_begin_object(&out);
    exj_json_put_array(&out, "failed");
    for (k = 0; k < b->n; k++) {
        const exj_sink_event *e = &b->events[k];

        if (!e->failed)
            continue;
        any = true;
        exj_json_begin_object(&out);
        exj_json_put_i64(&out, "number", e->number);
        exj_json_put_text(&out, "error", e->error);
        if (e->retry_after > 0)
            exj_json_put_i64(&out, "retryAfterSeconds", e->retry_after);
        exj_json_end_object(&out);
    }
    exj_json_end_array(&out);
    exj_json_end_object(&out);
    if (!any)
        r = EXJ_R_OK;
    else if (!out.failed)
        r = host->emit(host->ctx, call, exj_json_out_text(&out));
    exj_json_out_release(&out);
    return r;
}

/* ---- choosing: "events": ["completed", …] and "graphs": ["g1", …] of a config ------------ */

typedef struct exj_sink_choice {
    char *words[EXJ_SINK_CHOICE_MAX]; /* owned */
    size_t n;
    bool any; /* the config does not say: all */
} exj_sink_choice;

typedef struct exj_sink_filter {
    exj_sink_choice kinds, graphs;
} exj_sink_filter;

static inline void exj_sink_filter_release(exj_sink_filter *f)
{
    size_t k;

    for (k = 0; k < f->kinds.n; k++)
        free(f->kinds.words[k]);
    for (k = 0; k < f->graphs.n; k++)
        free(f->graphs.words[k]);
    memset(f, 0, sizeof *f);
}

static inline const char *exj_sink_choice_read_(exj_str config, const char *key,
                                                exj_sink_choice *ret, const char *why)
{
    exj_str list, one;
    exj_json_cursor c;

    ret->any = !exj_json_find(config, key, &list);
    if (ret->any)
        return NULL;
    if (exj_json_type(list) != '[')
        return why;
    c = exj_json_elements(list);
    while (exj_json_next_element(&c, &one)) {
        if (ret->n == EXJ_SINK_CHOICE_MAX)
            return why;
        ret->words[ret->n] = exj_json_to_text(one, NULL);
        if (!ret->words[ret->n])
            return why;
        ret->n++;
    }
    return NULL;
}

/* NULL: read; release it. Else what is wrong; there is nothing to release. */
static inline const char *exj_sink_filter_read(exj_str config, exj_sink_filter *ret)
{
    const char *why;

    memset(ret, 0, sizeof *ret);
    why = exj_sink_choice_read_(config, "events", &ret->kinds,
                                "config.events: wanted a list of at most 100 kinds of events");
    if (!why)
        why = exj_sink_choice_read_(config, "graphs", &ret->graphs,
                                    "config.graphs: wanted a list of at most 100 graph ids");
    if (why)
        exj_sink_filter_release(ret);
    return why;
}

static inline bool exj_sink_chosen_(const exj_sink_choice *c, exj_str quoted)
{
    size_t k;

    if (c->any)
        return true;
    for (k = 0; k < c->n; k++)
        if (exj_json_string_is(quoted, c->words[k]))
            return true;
    return false;
}

static inline bool exj_sink_wants(const exj_sink_filter *f, const exj_sink_event *e)
{
    return exj_sink_chosen_(&f->kinds, e->kind) && exj_sink_chosen_(&f->graphs, e->graph);
}

#endif /* EXELLIX_SINK_H */
