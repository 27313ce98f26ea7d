/* kill -9 in the middle of everything: what was answered is there afterwards, once, and the
 * store, its journal and its stream of events agree about it.
 *
 * One client pushes events, sends signals and cancels, each with an Idempotency-Key, while
 * rows with steps, waits, polls and retries run. Now and then the worker is killed while an
 * answer is on its way; the client sends the same again until it is answered. EXJ_TEST_KILLS
 * makes it shorter or longer. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/support.h"

#define ROWS_MOST 2000
#define EVENTS_MOST 60000
#define BATCH 4

enum kind { PLAIN, STEPS, SIGNAL, TIMER, POLLS, RETRIES, SLOW, KINDS };

static const char *const records[KINDS] = {
    [PLAIN] = "{}",
    [STEPS] = "{\"steps\":4}",
    [SIGNAL] = "{\"steps\":2,\"waitSignal\":\"go\"}",
    [TIMER] = "{\"steps\":1,\"waitMs\":40}",
    [POLLS] = "{\"polls\":2}",
    [RETRIES] = "{\"failTimes\":1}",
    [SLOW] = "{\"sleepMs\":30,\"steps\":1}",
};

struct row {
    enum kind kind;
    bool there;    /* its insert was answered so */
    int signals;   /* that were answered 200 */
    bool canceled; /* it was answered that it is; */
    bool asked;    /* or that it shall be */
    bool seen;     /* in the end */
};

struct chaos {
    uint64_t seed;
    int keys; /* used so far */
    int kills, kills_most;
    struct row rows[ROWS_MOST];
    int rows_len;
    char *events[EVENTS_MOST]; /* by number: what was read while it ran */
    int64_t read_to;
};

static exj_daemon d;
static struct chaos c;

static void setup(void)
{
    exj_daemon_init(&d);
    c = (struct chaos){ .seed = exj_test_seed("chaos") };
}

static void teardown(void)
{
    for (int i = 0; i < EVENTS_MOST; i++)
        free(c.events[i]);
    exj_daemon_release(&d);
}

TestSuite(chaos, .init = setup, .fini = teardown, .timeout = 120);

static unsigned any(unsigned n)
{
    return (unsigned)(exj_test_random(&c.seed) % n);
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* ---- sending ---------------------------------------------------------------------------------- */

/* Send the request and kill the worker when an answer begins to come, or a little before. */
static void send_and_kill(const char *path, const char *headers, const char *body)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(d.port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char *request;
    int n;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    n = asprintf(&request,
                 "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s"
                 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                 path, headers, strlen(body), body);
    cr_assert(fd >= 0 && n > 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && write(fd, request, (size_t)n) == n)
        poll(&p, 1, (int)any(6));
    exj_prog_signal(&d.prog, SIGKILL);
    cr_assert_eq(exj_prog_wait(&d.prog, 10000), 1000 + SIGKILL);
    close(fd);
    free(request);
    c.kills++;
    if (any(4) == 0) { /* and again while it starts */
        exj_daemon_spawn(&d);
        poll(NULL, 0, (int)any(40));
        exj_prog_signal(&d.prog, SIGKILL);
        cr_assert_geq(exj_prog_wait(&d.prog, 10000), 0);
        c.kills++;
    }
    cr_assert(exj_daemon_start(&d));
}

/* Send until there is an answer; *ret: the body, a new reference. */
static int ask(const char *path, const char *body, json_t **ret)
{
    char headers[200];
    exj_reply r, again;
    int status;

    snprintf(headers, sizeof(headers), "x-exellix-jobs-api-key: %s\r\nIdempotency-Key: k%d\r\n",
             EXJ_TEST_KEY, c.keys++);
    if (c.kills < c.kills_most && any(14) == 0)
        send_and_kill(path, headers, body);
    exj_http(d.port, "POST", path, headers, body, &r);
    status = r.status;
    cr_assert(status == 200 || status == 404 || status == 409, "POST %s: %d %s", path, status,
              status ? r.body : "(no answer)");
    *ret = exj_reply_json(&r);
    cr_assert(*ret, "%s", r.body);
    if (status == 200 && any(5) == 0) { /* what was answered once is answered so again */
        if (c.kills < c.kills_most && any(3) == 0)
            send_and_kill(path, headers, body);
        exj_http(d.port, "POST", path, headers, body, &again);
        cr_assert_eq(again.status, 200);
        cr_assert_str_eq(again.body, r.body);
        cr_assert(exj_reply_header(&again, "Idempotent-Replayed"));
        exj_reply_release(&again);
    }
    exj_reply_release(&r);
    return status;
}

static void push(void)
{
    int n = 1 + (int)any(BATCH), first = c.rows_len;
    char body[2000], *at = body;
    json_t *o, *e;
    size_t i;

    at += sprintf(at, "[");
    for (int k = 0; k < n; k++) {
        enum kind kind = (enum kind)any(KINDS);

        c.rows[c.rows_len++].kind = kind;
        at += sprintf(at, "%s{\"id\":\"e%d\",\"record\":%s,\"priority\":%u", k ? "," : "",
                      first + k, records[kind], any(3));
        if (any(3) == 0)
            at += sprintf(at, ",\"uniqueKey\":\"u%u\"", any(6));
        if (any(3) == 0)
            at += sprintf(at, ",\"concurrencyKey\":\"c%u\"", any(3));
        at += sprintf(at, "}");
    }
    sprintf(at, "]");
    cr_assert_eq(ask("/v1/matrices/m/events", body, &o), 200);
    cr_assert_eq(json_array_size(json_object_get(o, "events")), (size_t)n);
    json_array_foreach(json_object_get(o, "events"), i, e) {
        const char *status = text_of(e, "status");

        /* Whatever was killed in between, a batch is not there in parts, nor before its answer. */
        cr_assert(!strcmp(status, "inserted") || !strcmp(status, "uniqueKeyTaken"), "e%d: %s",
                  first + (int)i, status);
        c.rows[first + (int)i].there = !strcmp(status, "inserted");
    }
    json_decref(o);
}

static void send_signal(int k)
{
    char path[200], body[40];
    json_t *o;

    snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7Ce%d/signals/go", k);
    snprintf(body, sizeof(body), "{\"n\":%d}", c.keys);
    c.rows[k].signals += ask(path, body, &o) == 200;
    json_decref(o);
}

static void cancel(int k)
{
    char path[200];
    json_t *o;

    snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7Ce%d/cancel", k);
    if (ask(path, "{\"reason\":\"chaos\"}", &o) == 200) {
        if (!strcmp(text_of(o, "outcome"), "canceled"))
            c.rows[k].canceled = true;
        else
            c.rows[k].asked = true;
    }
    json_decref(o);
}

/* ---- the stream of events --------------------------------------------------------------------- */

/* One page behind `*after`. False: there is no more. What was seen of an event before stays. */
static bool read_events(int64_t *after, bool is_end)
{
    char path[80];
    json_t *page = NULL, *e;
    size_t i;
    bool more;

    snprintf(path, sizeof(path), "/v1/events?after=%" PRId64 "&limit=1000", *after);
    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &page), 200);
    json_array_foreach(json_object_get(page, "events"), i, e) {
        int64_t number = json_integer_value(json_object_get(e, "number"));
        char *text = json_dumps(e, JSON_COMPACT | JSON_SORT_KEYS);

        cr_assert_eq(number, *after + 1, "event %" PRId64 " after %" PRId64, number, *after);
        cr_assert(text && number < EVENTS_MOST);
        if (is_end && c.events[number])
            cr_assert_str_eq(text, c.events[number]);
        free(c.events[number]);
        c.events[number] = text;
        *after = number;
    }
    more = json_is_integer(json_object_get(page, "next"));
    json_decref(page);
    return more;
}

/* ---- in the end ------------------------------------------------------------------------------- */

static bool send_missing(void *user, const json_t *row)
{
    int *left = user, k = atoi(text_of(row, "recordId") + 1);
    const char *status = text_of(row, "status");

    cr_assert(k >= 0 && k < c.rows_len, "row %s", text_of(row, "recordId"));
    *left += !strcmp(status, "queued") || !strcmp(status, "running") ||
             !strcmp(status, "suspended");
    if (!strcmp(status, "suspended") && c.rows[k].kind == SIGNAL)
        send_signal(k);
    return true;
}

static bool is_drained(void *user)
{
    int left = 0;

    (void)user;
    exj_daemon_rows(&d, "m", send_missing, &left);
    return left == 0;
}

static bool judge_row(void *user, const json_t *row)
{
    int k = atoi(text_of(row, "recordId") + 1), signals = 0;
    const char *status = text_of(row, "status");
    struct row *r = &c.rows[k];
    json_t *o = NULL, *e;
    char path[200];
    size_t i;

    (void)user;
    cr_expect(r->there && !r->seen, "row e%d is there %s", k, r->seen ? "twice" : "unasked");
    r->seen = true;
    cr_expect(!strcmp(status, "completed") || (!strcmp(status, "canceled") &&
                                               (r->canceled || r->asked)),
              "row e%d (%s) is %s", k, records[r->kind], status);
    cr_expect(!r->canceled || !strcmp(status, "canceled"), "row e%d: answered canceled, is %s", k,
              status);
    snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7Ce%d/journal?limit=10000", k);
    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &o), 200);
    json_array_foreach(json_object_get(o, "entries"), i, e)
        signals += !strcmp(text_of(e, "event"), "signal");
    cr_expect_eq(signals, r->signals, "row e%d has %d signals, %d were answered", k, signals,
                 r->signals);
    json_decref(o);
    if (r->kind == STEPS && !strcmp(status, "completed")) {
        snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7Ce%d", k);
        o = NULL;
        cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &o), 200);
        e = json_object_get(json_object_get(json_object_get(o, "result"), "outputsByNodeId"), "end");
        cr_expect_eq(json_integer_value(json_object_get(e, "sum")), 10, "row e%d", k);
        json_decref(o);
    }
    return true;
}

/* A finished step is not run again: of all lines of a step, at most the last was committed. */
static void judge_effects(void)
{
    exj_effects e;

    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++)
        for (size_t k = i + 1; e.items[i].what == 'S' && k < e.len; k++)
            if (e.items[k].what == 'S' && !strcmp(e.items[i].job, e.items[k].job))
                cr_expect_lt(e.items[i].token, e.items[k].token, "%s ran twice in one claim",
                             e.items[i].job);
    exj_effects_release(&e);
}

static void judge(void)
{
    char program[] = EXJ_BINARY_DIR "/bin/exellix-jobs";
    int64_t after = 0;
    json_t *o = NULL;
    exj_prog doctor;
    int status;

    exj_daemon_rows(&d, "m", judge_row, NULL);
    for (int k = 0; k < c.rows_len; k++)
        cr_expect(c.rows[k].there == c.rows[k].seen, "row e%d was answered and is lost", k);
    judge_effects();
    while (read_events(&after, true))
        ;
    cr_expect_geq(after, c.read_to);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/journal/verify", NULL, &o), 200);
    cr_expect_gt(json_integer_value(json_object_get(o, "rows")), 0);
    cr_expect_eq(json_integer_value(json_object_get(o, "different")), 0);
    json_decref(o);
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
    status = exj_prog_run(&doctor, &d.tmp, program, (const char *const *)d.env,
                          (const char *const[]){ "doctor", NULL }, 60000);
    if (status) {
        char *said = exj_slurp(doctor.out, NULL);

        cr_expect_eq(status, 0, "doctor: %d %s", status, said);
        free(said);
    }
}

/* spec 2.10: Every inserted row is terminal, suspended, blocked, queued or under one live lease: none is lost. */
/* spec 2.10: An acknowledged outcome survives `kill -9` of every process and, with the durable setting, loss of power. */
Test(chaos, what_was_answered_is_there_however_often_the_worker_is_killed)
{
    const char *kills = getenv("EXJ_TEST_KILLS");
    int64_t began = exj_test_now_ms();

    c.kills_most = kills ? atoi(kills) : 60;
    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "6");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", "{\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    exj_daemon_matrix(&d, "m", "[\"g\"]", "event", "{}", ",\"maxAttempts\":500");
    while (c.kills < c.kills_most && c.rows_len + BATCH < ROWS_MOST) {
        unsigned what = c.rows_len ? any(10) : 0;

        if (what < 6)
            push();
        else if (what < 8)
            send_signal((int)any((unsigned)c.rows_len));
        else if (what < 9)
            cancel((int)any((unsigned)c.rows_len));
        else
            read_events(&c.read_to, false);
    }
    cr_assert(exj_until(is_drained, NULL, d.prog.pidfd, 20, 60000), "rows are left");
    fprintf(stderr, "chaos: %d kills, %d rows, %d commands in %" PRId64 " ms\n", c.kills,
            c.rows_len, c.keys, exj_test_now_ms() - began);
    judge();
}
