/* Those who give orders, each with an Idempotency-Key, until they are answered; and one who
 * reads the stream of events and writes down what he was told. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/chaos.h"

#define BATCH 4u
#define PATIENCE_MS 90000

const char *chaos_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* What rows do. The last two end their plugin host: they are not for a plugin in the worker's
 * process. */
static const char *const records[] = {
    "",
    "\"steps\":4",
    "\"steps\":2,\"waitSignal\":\"go\"",
    "\"steps\":1,\"waitMs\":40",
    "\"polls\":2",
    "\"failTimes\":1",
    "\"sleepMs\":30,\"steps\":1",
    "\"sleepMs\":300",
    "\"progress\":3",
    "\"then\":\"final\"",
    "\"steps\":2,\"killAt\":3",
    "\"steps\":3,\"killAt\":6",
};
#define NEAR_RECORDS 10u
#define FAR_RECORDS 12u

int chaos_ask(struct client *l, const char *method, const char *path, const char *body, json_t **ret)
{
    int64_t until = exj_test_now_ms() + PATIENCE_MS;
    char headers[200];
    exj_reply r;
    int status;

    *ret = NULL;
    snprintf(headers, sizeof(headers),
             "x-exellix-jobs-api-key: %s\r\nIdempotency-Key: k%u-%" PRIu64 "\r\n", EXJ_TEST_KEY,
             l->number, l->commands++);
    for (;;) {
        exj_http(l->c->d.port, method, path, headers, body, &r);
        status = r.status;
        /* 409 with this code: the one before is still at work. 5xx: nothing was applied, or
         * nobody knows; the same key makes it safe to ask again. */
        if (status && status < 500 && !(status == 409 && strstr(r.body, "CommandInProgress")))
            break;
        exj_reply_release(&r);
        if (exj_test_now_ms() > until) {
            snprintf(l->wrong, sizeof(l->wrong), "%s %.100s: no answer in %d s, the last was %d",
                     method, path, PATIENCE_MS / 1000, status);
            return 0;
        }
        poll(NULL, 0, 10);
    }
    l->replays += exj_reply_header(&r, "Idempotent-Replayed") != NULL;
    *ret = exj_reply_json(&r);
    exj_reply_release(&r);
    return status;
}

static void push(struct client *l)
{
    unsigned n = 1 + (unsigned)chaos_any(&l->seed, BATCH), first = l->rows_len;
    static const char matrices[] = "nnnffo";
    char matrix = matrices[chaos_any(&l->seed, sizeof(matrices) - 1)];
    bool far = matrix == 'f', plain = matrix == 'o';
    json_t *o, *e;
    char path[60], body[4096], *at = body, *end = body + sizeof(body);
    size_t i;
    int status;

    at += snprintf(at, (size_t)(end - at), "[");
    for (unsigned k = 0; k < n; k++) {
        at += snprintf(at, (size_t)(end - at), 
                       "%s{\"id\":\"c%u-%u\",\"record\":{%s}", k ? "," : "", l->number, first + k,
                       records[chaos_any(&l->seed, far ? FAR_RECORDS : NEAR_RECORDS)]);
        if (!plain)
            at += snprintf(at, (size_t)(end - at), ",\"priority\":%u",
                           (unsigned)chaos_any(&l->seed, 3));
        if (!plain && chaos_any(&l->seed, 4) == 0)
            at += snprintf(at, (size_t)(end - at), ",\"uniqueKey\":\"u%u\"",
                           (unsigned)chaos_any(&l->seed, 6));
        if (!plain && chaos_any(&l->seed, 4) == 0)
            at += snprintf(at, (size_t)(end - at), ",\"concurrencyKey\":\"k%u\"",
                           (unsigned)chaos_any(&l->seed, 3));
        at += snprintf(at, (size_t)(end - at), "}");
    }
    snprintf(at, (size_t)(end - at), "]");
    l->rows_len += n;
    snprintf(path, sizeof(path), "/v1/matrices/%c/events", matrix);
    status = chaos_ask(l, "POST", path, body, &o);
    if (status != 200)
        snprintf(l->wrong, sizeof(l->wrong), "events were answered %d", status);
    json_array_foreach(json_object_get(o, "events"), i, e) {
        const char *said = chaos_text(e, "status");

        /* Whatever was killed in between, a batch is not there in parts, nor before its answer. */
        if (strcmp(said, "inserted") != 0 && strcmp(said, "uniqueKeyTaken") != 0)
            snprintf(l->wrong, sizeof(l->wrong), "event c%u-%u was answered \"%s\"", l->number,
                     first + (unsigned)i, said);
        l->rows[first + i].matrix = matrix;
        l->rows[first + i].there = !strcmp(said, "inserted");
        atomic_fetch_add(&l->c->rows, l->rows[first + i].there);
    }
    json_decref(o);
}

static void order(struct client *l, const char *what, const char *body)
{
    unsigned k = (unsigned)chaos_any(&l->seed, l->rows_len), most = l->rows_len - 1;
    char path[200];
    json_t *o;
    int status;

    if (most - k > 200) /* rather one of the last */
        k = most - (unsigned)chaos_any(&l->seed, 200);
    if (!l->rows[k].there) /* its unique key was taken */
        return;
    snprintf(path, sizeof(path), "/v1/rows/%c%%7C%%7C%s%%7Cc%u-%u/%s", l->rows[k].matrix,
             l->rows[k].matrix == 'f' ? "far" : "near", l->number, k, what);
    if (strcmp(what, "signals/go") != 0)
        l->rows[k].ordered = true;
    status = chaos_ask(l, "POST", path, body, &o);
    l->refused += status == 409;
    if (status == 200)
        l->rows[k].canceled = !strcmp(chaos_text(o, "outcome"), "canceled");
    else if (status != 409 && strcmp(chaos_text(o, "code"), "StepNotFound") != 0 && !l->wrong[0])
        snprintf(l->wrong, sizeof(l->wrong), "POST %.150s was answered %d", path, status);
    json_decref(o);
}

void *chaos_client(void *client)
{
    struct client *l = client;

    while (!atomic_load(&l->c->orders_over) && !l->wrong[0]) {
        uint64_t what = l->rows_len ? chaos_any(&l->seed, 20) : 0;

        if (what < 11 && l->rows_len + BATCH < l->rows_most &&
            (!l->rows_len || atomic_load(&l->c->rows) < atomic_load(&l->c->ended) + OPEN_MOST))
            push(l);
        else if (what < 15)
            order(l, "signals/go", "{\"n\":1}");
        else if (what < 17)
            order(l, "cancel", "{\"reason\":\"chaos\"}");
        else if (what < 18)
            order(l, "retry", "{}");
        else if (what < 19)
            order(l, "rerun", chaos_any(&l->seed, 2) ? "{}" : "{\"fromStep\":\"s1\"}");
        else
            poll(NULL, 0, (int)chaos_any(&l->seed, 20));
    }
    return NULL;
}

/* ---- the reader ------------------------------------------------------------------------------ */

/* How many rows of clients have ended, and not come back since. */
static void count_ended(struct chaos *c, const char *row, const char *kind)
{
    bool ends = !strcmp(kind, "completed") || !strcmp(kind, "failed") || !strcmp(kind, "canceled");
    bool back = !strcmp(kind, "retried") || !strcmp(kind, "rerun");
    const char *record = strrchr(row, '|');
    unsigned l, k;

    if (!(ends || back) || !record || sscanf(record, "|c%u-%u", &l, &k) != 2 ||
        l >= c->clients_len || k >= c->clients[l].rows_most || c->has_ended[l][k] == ends)
        return;
    c->has_ended[l][k] = ends;
    if (ends)
        atomic_fetch_add(&c->ended, 1);
    else
        atomic_fetch_sub(&c->ended, 1);
}

/* One page; false: nothing more is there now. */
static bool read_page(struct chaos *c, exj_recorder *r, bool *ret_answered)
{
    int64_t after = atomic_load(&c->read_to);
    json_t *page = NULL, *e;
    char path[80];
    size_t i;
    bool more;

    snprintf(path, sizeof(path), "/v1/events?after=%" PRId64 "&limit=1000", after);
    *ret_answered = exj_daemon_call(&c->d, "GET", path, NULL, &page) == 200;
    json_array_foreach(json_object_get(page, "events"), i, e) {
        int64_t number = json_integer_value(json_object_get(e, "number"));
        exj_hist_event line = { .op = EXJ_HIST_EVENT,
                                .phase = EXJ_HIST_OK,
                                .token = json_integer_value(json_object_get(e, "token")),
                                .value = number };

        line.job = (exj_slice){ chaos_text(e, "matrixRowId"), strlen(chaos_text(e, "matrixRowId")) };
        line.key = (exj_slice){ chaos_text(e, "kind"), strlen(chaos_text(e, "kind")) };
        exj_recorder_write(r, &line);
        count_ended(c, line.job.p, line.key.p);
        if (number != after + 1 && !c->reader_wrong[0])
            snprintf(c->reader_wrong, sizeof(c->reader_wrong),
                     "event %" PRId64 " follows %" PRId64, number, after);
        after = number;
    }
    atomic_store(&c->read_to, after);
    more = json_is_integer(json_object_get(page, "next"));
    json_decref(page);
    return more;
}

void *chaos_reader(void *chaos)
{
    struct chaos *c = chaos;
    exj_recorder *r = NULL;
    bool answered = false, more;

    if (exj_recorder_open(c->history_path, "reader", &r, NULL) != EXJ_OK)
        return NULL;
    do {
        more = read_page(c, r, &answered);
        if (!more)
            poll(NULL, 0, 20);
    } while (more || !answered || !atomic_load(&c->over));
    while (read_page(c, r, &answered))
        ;
    exj_recorder_close(r);
    return NULL;
}
