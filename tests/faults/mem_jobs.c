/* mem_jobs - a worker in this process, and each allocation of ours (and of jansson for us)
 * fails once, on every way: configs, push, claim to complete, steps, progress, waits,
 * signals, cancels, retries, cycles, snapshots, schedules, orders, reload, sinks, every GET
 * route, start and open.
 *
 *   mem_jobs [--stride K] [--seed S] [--only WAY]
 *
 * For n = 1, 2, ... until a way makes fewer allocations: the nth fails. Then what was answered
 * must be true and all of it must end as it should, without a restart and while nobody helps;
 * what was refused is sent again with its Idempotency-Key. --stride K tries each Kth, from a
 * point of the seed on. Under the address sanitizer what is lost on the way is a leak. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/embed/wiring.h"
#include "core/job/config.h"
#include "tests/support/fault.h"
#include "tests/support/support.h"

#define SETTLE_MS 8000
#define POINTS_MAX 20000

static exj_tmp tmp;
static exj_wiring w;
static exj_wiring_options o;
static bool started;
static char dir_data[300], dir_plugins[300];
static const char *dirs[3];
static const char *way_name;
static long nth, keys, row_no, fed;
static int wrong;
static long points, refused, late;
static int64_t slowest_ms;
static char said[4][300]; /* the last warnings and errors, for messages */
static unsigned said_at;

static void hear(exj_log_level level, const char *area, const char *message)
{
    if (level <= EXJ_LOG_WARN)
        snprintf(said[__atomic_fetch_add(&said_at, 1, __ATOMIC_RELAXED) % 4], sizeof(said[0]),
                 "%s: %s", area, message);
}

static void is_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void is_wrong(const char *format, ...)
{
    va_list ap;

    exj_fault_disarm();
    fprintf(stderr, "mem_jobs: WRONG, %s, allocation %ld: ", way_name, nth);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    for (unsigned i = 0; i < 4; i++)
        if (said[(said_at + i) % 4][0])
            fprintf(stderr, "  it said: %s\n", said[(said_at + i) % 4]);
    exj_fault_tell();
    if (++wrong >= 10) {
        fprintf(stderr, "mem_jobs: too much is wrong: giving up\n");
        _exit(1);
    }
}

/* ---- the worker ------------------------------------------------------------------------------ */

static exj_code open_plugins(void *user, const char *private_dir, exj_registry **ret,
                             exj_err *err)
{
    exj_registry_options r = { .dirs = dirs, .private_dir = private_dir,
                               .lane = EXJ_LANE_IN_PROCESS };

    (void)user;
    return exj_registry_open(&r, ret, err);
}

static void copy(const char *from, const char *name, long salt)
{
    char to[700], beside[720], *p;
    size_t n;
    FILE *f;

    exj_fault_spare(true); /* what the test does itself */
    p = exj_slurp(from, &n);
    snprintf(to, sizeof(to), "%s/%s", dir_plugins, name);
    snprintf(beside, sizeof(beside), "%s.new", to);
    f = fopen(beside, "wb");
    if (!n || !f || fwrite(p, 1, n, f) != n || fprintf(f, "#%ld", salt) < 0 || fclose(f) ||
        rename(beside, to))
        abort();
    free(p);
    exj_fault_spare(false);
}

static void feed(void)
{
    char text[32], beside[300];

    exj_fault_spare(true);
    snprintf(text, sizeof(text), "%ld", ++fed);
    snprintf(beside, sizeof(beside), "%s", exj_tmp_path(&tmp, "count.new"));
    exj_spit(beside, text);
    rename(beside, exj_tmp_path(&tmp, "count"));
    exj_fault_spare(false);
}

static void prepare(void)
{
    static char sinks[600];
    exj_err err = { 0 };

    exj_tmp_make(&tmp);
    setenv("EXJ_TEST_EFFECTS", "/dev/null", 1);
    snprintf(dir_data, sizeof(dir_data), "%s", exj_tmp_path(&tmp, "data"));
    snprintf(dir_plugins, sizeof(dir_plugins), "%s", exj_tmp_path(&tmp, "plugins"));
    if (mkdir(dir_plugins, 0700))
        abort();
    copy(EXJ_BINARY_DIR "/tests/plugins/test-engine.so", "test-engine.so", 0);
    copy(EXJ_BINARY_DIR "/tests/plugins/test-source.so", "test-source.so", 0);
    copy(EXJ_BINARY_DIR "/bin/plugins/sink-file.so", "sink-file.so", 0);
    dirs[0] = dir_plugins;
    snprintf(sinks, sizeof(sinks),
             "{\"sinks\":[{\"name\":\"file\",\"plugin\":\"exellix.sink-file\",\"maxAttempts\":1000,"
             "\"firstRetrySeconds\":0.05,\"maxRetrySeconds\":0.1,\"config\":{\"path\":\"%s\"}}]}",
             exj_tmp_path(&tmp, "events.jsonl"));
    o = (exj_wiring_options){
        .command = "test", .data_dir = dir_data, .fast = true, .open_plugins = open_plugins,
        .worker_id = "mem", .executor = "test-engine", .max_concurrent = 2, .prefetch = 64,
        .running_states = EXJ_RUNNING_STATES_DEFAULT, .lease_ms = 1000, .plugin_dirs = dirs,
        .manual_reload = true, .poll_ms = 60000, .drain_ms = 1000, .grace_ms = 500,
        .prefix = "/v1", .sinks = sinks,
    };
    if (exj_shelf_new(exj_tmp_path(&tmp, "shelf"), NULL, &o.shelf, &err) != EXJ_OK)
        abort();
}

static exj_code open_and_start(exj_err *err)
{
    exj_code rc = exj_wiring_open(&w, &o, err);

    if (rc == EXJ_OK) {
        rc = exj_wiring_start(&w, err);
        started = rc == EXJ_OK;
        if (rc != EXJ_OK)
            exj_wiring_close(&w);
    }
    return rc;
}

static void stop(void)
{
    if (started && exj_wiring_stop(&w, 5000) != 0)
        is_wrong("executions are left at the stop");
    exj_wiring_close(&w);
    started = false;
}

static void must_start(void)
{
    exj_err err = { 0 };

    if (open_and_start(&err) != EXJ_OK) {
        is_wrong("it does not start: %s", err.text);
        exit(1);
    }
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* One request, as it is. *ret may be NULL; the body as JSON, new reference. */
static unsigned ask_once(const char *method, const char *path, const char *body, const char *key,
                         json_t **ret)
{
    const char *question = strchr(path, '?');
    exj_request q = { .method = method, .trusted = true, .body = exj_slice_of(body) };
    exj_response r;
    unsigned status;

    q.path = (exj_slice){ path, question ? (size_t)(question - path) : strlen(path) };
    q.query = exj_slice_of(question ? question + 1 : NULL);
    q.idempotency_key = exj_slice_of(key);
    exj_api_call(&w.api, &q, &r);
    status = r.status;
    if (status < 400 && r.content_type && strstr(r.content_type, "json")) {
        json_t *v;

        exj_fault_spare(true);
        v = json_loadb(r.body.p ? r.body.p : "", r.body.n, JSON_DECODE_ANY, NULL);
        exj_fault_spare(false);
        if (!v)
            is_wrong("%s %s: %u with a body that is no JSON", method, path, status);
        if (ret)
            *ret = v;
        else
            json_decref(v);
    } else if (ret) {
        *ret = NULL;
    }
    exj_response_release(&r);
    return status;
}

/* With a key, again and again without faults until it is definite. The first answer counts. */
static unsigned ask(const char *method, const char *path, const char *body)
{
    char key[32];
    unsigned status;
    int64_t end = exj_test_now_ms() + SETTLE_MS;
    bool first = true;

    snprintf(key, sizeof(key), "k%ld", keys++);
    do {
        status = ask_once(method, path, body, strcmp(method, "GET") ? key : NULL, NULL);
        if (status >= 500 && first) {
            refused++;
            exj_fault_disarm();
        }
        first = false;
    } while (status >= 500 && exj_test_now_ms() < end);
    return status;
}

static void must(const char *method, const char *path, const char *body)
{
    unsigned status = ask(method, path, body);

    if (status != 200 && status != 201)
        is_wrong("%s %s: %u", method, path, status);
}

struct wanted {
    const char *path, *status;
    char is[40];
};

static bool is_row(void *user)
{
    struct wanted *x = user;
    json_t *v = NULL;
    const char *s;

    ask_once("GET", x->path, NULL, NULL, &v);
    s = json_string_value(json_object_get(v, "status"));
    snprintf(x->is, sizeof(x->is), "%s", s ? s : "not there");
    json_decref(v);
    return !strcmp(x->is, x->status);
}

/* Not asked while an allocation is to fail: that one shall hit the worker. */
static void wait_row(const char *row, const char *status)
{
    char path[120];
    struct wanted x = { .path = path, .status = status };
    int64_t began = exj_test_now_ms(), took;

    snprintf(path, sizeof(path), "/v1/rows/%s", row);
    if (!exj_until(is_row, &x, -1, 1, SETTLE_MS))
        is_wrong("row %s is %s, not %s", row, x.is, status);
    took = exj_test_now_ms() - began;
    slowest_ms = took > slowest_ms ? took : slowest_ms;
    late += took > 1000;
    if (took > 1000 && getenv("MEM_JOBS_LATE"))
        fprintf(stderr, "late: %s, allocation %ld: %" PRId64 " ms; %s\n", way_name, nth, took,
                said[(said_at + 3) % 4]);
}

/* As long as the worker needs for it when nothing is short; ended by `left` open rows. */
static bool is_calm(void *user)
{
    exj_engine_counts c;

    exj_engine_get_counts(w.engine, &c);
    return (int64_t)(c.completed + c.failed + c.canceled + c.suspended + c.blocked) >=
           *(int64_t *)user;
}

static int64_t ended(void)
{
    exj_engine_counts c;

    exj_engine_get_counts(w.engine, &c);
    return (int64_t)(c.completed + c.failed + c.canceled + c.suspended + c.blocked);
}

/* Until one more row ended (in whatever way), at most so long: what comes later is waited for
 * when nothing fails any more. */
static void give_time(int64_t rows, unsigned ms)
{
    exj_until(is_calm, &rows, -1, 1, ms);
}

/* ---- ways ------------------------------------------------------------------------------------ */

static char row[80];

static void push(const char *record)
{
    char body[300];

    snprintf(row, sizeof(row), "m%%7C%%7Cg%%7Ce%ld", ++row_no);
    snprintf(body, sizeof(body), "{\"id\":\"e%ld\",\"record\":%s}", row_no, record);
    must("POST", "/v1/matrices/m/events", body);
}

static void row_does(const char *record, const char *end)
{
    int64_t was = ended();

    push(record);
    give_time(was + 1, 60);
    exj_fault_disarm();
    wait_row(row, end);
}

static void way_plain(void)
{
    row_does("{}", "completed");
}

static void way_steps(void)
{
    row_does("{\"steps\":2,\"progress\":2}", "completed");
}

static void way_retry(void)
{
    row_does("{\"failTimes\":1}", "completed");
}

static void way_polls(void)
{
    row_does("{\"polls\":1}", "completed");
}

static void way_timer(void)
{
    row_does("{\"waitMs\":2}", "completed");
}

static void way_fails(void)
{
    row_does("{\"then\":\"final\"}", "failed");
}

static void way_signal(void)
{
    char path[120];

    row_does("{\"waitSignal\":\"go\"}", "suspended");
    snprintf(path, sizeof(path), "/v1/rows/%s/signals/go", row);
    must("POST", path, "{\"n\":1}");
    wait_row(row, "completed");
}

/* The second half alone: the row waits already. */
static void way_delivery(void)
{
    long armed = nth;
    char path[120];
    int64_t was;

    exj_fault_disarm();
    row_does("{\"waitSignal\":\"go\",\"steps\":1}", "suspended");
    snprintf(path, sizeof(path), "/v1/rows/%s/signals/go", row);
    was = ended();
    exj_fault_arm(armed);
    must("POST", path, "{\"n\":1}");
    give_time(was + 1, 60);
    exj_fault_disarm();
    wait_row(row, "completed");
}

static void with_old_row(const char *record, const char *is, const char *order, const char *body,
                         const char *becomes)
{
    long armed = nth;
    char path[120];
    int64_t was;

    exj_fault_disarm();
    row_does(record, is);
    snprintf(path, sizeof(path), "/v1/rows/%s/%s", row, order);
    was = ended();
    exj_fault_arm(armed);
    must("POST", path, body);
    give_time(was + 1, 30);
    exj_fault_disarm();
    wait_row(row, becomes);
}

static void way_cancel(void)
{
    with_old_row("{\"waitSignal\":\"never\"}", "suspended", "cancel", "{\"reason\":\"x\"}",
                 "canceled");
}

static void way_rerun(void)
{
    with_old_row("{\"steps\":2}", "completed", "rerun", "{\"fromStep\":\"s2\"}", "completed");
}

static void way_retry_order(void)
{
    with_old_row("{\"then\":\"final\"}", "failed", "retry", NULL, "failed");
}

static void way_run(void)
{
    with_old_row("{}", "completed", "run", NULL, "completed");
}

static void put_graph(void)
{
    char doc[400];

    snprintf(doc, sizeof(doc),
             "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\",\"execution\":{\"timeoutSeconds\":"
             "%ld,\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}},\"publicationStatus\":"
             "\"Published\",\"operationalState\":\"Running\"}", 100 + keys % 1000);
    must("PUT", "/v1/configs/graphs/g", doc);
}

static void put_matrix(void)
{
    char doc[400];

    snprintf(doc, sizeof(doc),
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"input\":{\"x\":%ld},\"graphs\":[\"g\"],"
             "\"maxAttempts\":50,\"dataSource\":{\"kind\":\"event\"}}}", keys);
    must("PUT", "/v1/configs/matrices/m", doc);
}

static void way_graph(void)
{
    int64_t was = ended();

    put_graph();
    push("{}");
    give_time(was + 1, 100);
    exj_fault_disarm();
    wait_row(row, "completed");
}

static void way_matrix(void)
{
    int64_t was = ended();

    put_matrix();
    push("{}");
    give_time(was + 1, 100);
    exj_fault_disarm();
    wait_row(row, "completed");
}

static void way_new_matrix(void)
{
    char doc[500], path[80];
    int64_t was = ended();

    snprintf(doc, sizeof(doc),
             "{\"matrixCatalogId\":\"n%ld\",\"payload\":{\"input\":{\"count\":1},\"graphs\":[\"g\"],"
             "\"maxAttempts\":50,\"pollWhenEmptySeconds\":0.2,\"dataSource\":{\"kind\":\"storage\","
             "\"resolver\":\"test-source\"}}}", keys);
    snprintf(path, sizeof(path), "/v1/configs/matrices/n%ld", keys);
    snprintf(row, sizeof(row), "n%ld%%7C%%7Cg%%7Cr-0000000", keys);
    must("PUT", path, doc);
    give_time(was + 1, 100);
    exj_fault_disarm();
    wait_row(row, "completed");
    must("DELETE", path, NULL);
}

/* Two sources of one file: records, and a query's snapshot. */
static void way_cycle(void)
{
    int64_t was = ended();

    feed();
    exj_engine_wake(w.engine);
    give_time(was + 2, 150);
    exj_fault_disarm();
    snprintf(row, sizeof(row), "r%%7C%%7Cg%%7Cr-%07ld", fed - 1);
    wait_row(row, "completed");
    snprintf(row, sizeof(row), "q%%7C%%7Cg%%7Cr-%07ld", fed - 1);
    wait_row(row, "completed");
}

static void way_schedule(void)
{
    char doc[400];
    json_t *v = NULL;

    snprintf(doc, sizeof(doc),
             "{\"scheduleId\":\"s\",\"payload\":{\"cron\":\"%ld 0 1 1 *\",\"zone\":\"Europe/Berlin\","
             "\"start\":{\"matrixCatalogId\":\"m\"}}}", keys % 60);
    must("PUT", "/v1/configs/schedules/s", doc);
    must("POST", "/v1/schedules/s/trigger", NULL);
    must("POST", "/v1/schedules/s/pause", NULL);
    must("POST", "/v1/schedules/s/resume", NULL);
    exj_fault_disarm();
    ask_once("GET", "/v1/schedules/s", NULL, NULL, &v);
    if (!json_is_false(json_object_get(v, "paused")))
        is_wrong("the schedule is paused");
    json_decref(v);
}

static void way_trigger(void)
{
    char body[100];
    int64_t was = ended();

    snprintf(row, sizeof(row), "m%%7C%%7Cg%%7Ce%ld", ++row_no);
    snprintf(body, sizeof(body), "{\"id\":\"e%ld\",\"record\":{}}", row_no);
    must("POST", "/v1/matrices/m/trigger", body);
    give_time(was + 1, 60);
    exj_fault_disarm();
    wait_row(row, "completed");
}

static void way_batch(void)
{
    char body[1000] = "[", *at = body + 1;

    for (int i = 0; i < 5; i++)
        at += sprintf(at, "%s{\"id\":\"e%ld\",\"record\":{},\"uniqueKey\":\"u%ld\","
                      "\"concurrencyKey\":\"c\"}", i ? "," : "", row_no + 1 + i, row_no + 1 + i);
    strcpy(at, "]");
    must("POST", "/v1/matrices/m/events?atomic=true", body);
    give_time(ended() + 5, 60);
    exj_fault_disarm();
    for (int i = 0; i < 5; i++) {
        snprintf(row, sizeof(row), "m%%7C%%7Cg%%7Ce%ld", ++row_no);
        wait_row(row, "completed");
    }
}

static void way_patch(void)
{
    json_t *v = NULL;
    char body[100];
    int64_t version;

    ask_once("GET", "/v1/configs/graphs/g", NULL, NULL, &v);
    if (!v) {
        exj_fault_disarm();
        ask_once("GET", "/v1/configs/graphs/g", NULL, NULL, &v);
    }
    version = json_integer_value(json_object_get(v, "version"));
    json_decref(v);
    snprintf(body, sizeof(body), "{\"operationalState\":\"Ready\",\"expectedVersion\":%" PRId64 "}",
             version);
    must("PATCH", "/v1/graphs/g/operational", body);
    exj_fault_disarm();
}

/* New bytes of the engine's file, tried and taken; a row then runs on them. */
static void way_reload(void)
{
    long was = refused;
    unsigned status;

    copy(EXJ_BINARY_DIR "/tests/plugins/test-engine.so", "test-engine.so", ++keys);
    status = ask("POST", "/v1/plugins/test-engine/reload", NULL);
    exj_fault_disarm();
    if (status != 200 && !(status == 409 && refused > was)) /* its report alone was lost */
        is_wrong("the reload: %u", status);
    row_does("{\"steps\":1}", "completed");
}

static void way_pause(void)
{
    must("POST", "/v1/workers/pause", NULL);
    must("POST", "/v1/workers/resume", NULL);
    exj_fault_disarm();
    row_does("{}", "completed");
}

static void way_start(void)
{
    long armed = nth;
    exj_err err = { 0 };
    exj_code rc;

    exj_fault_disarm();
    stop();
    exj_fault_arm(armed);
    rc = open_and_start(&err);
    if (rc == EXJ_OK)
        give_time(1000000, 20); /* discovery's first look */
    exj_fault_disarm();
    if (rc != EXJ_OK) {
        refused++;
        if (rc != EXJ_NOMEM && !strcasestr(err.text, "memory"))
            is_wrong("the start: %s %s", exj_code_name(rc), err.text);
        must_start();
    }
    row_does("{}", "completed");
}

static const char *const looks[] = {
    "/v1/health", "/v1/health?probe=dependencies", "/v1/version", "/v1/openapi.json",
    "/v1/metrics", "/v1/graphs", "/v1/matrices", "/v1/workers/status", "/v1/configs/graphs",
    "/v1/configs/matrices", "/v1/configs/schedules", "/v1/configs/graphs/g",
    "/v1/configs/matrices/m", "/v1/configs/schedules/s", "/v1/schedules",
    "/v1/schedules/s?next=3", "/v1/rows?limit=5",
    "/v1/rows?matrixCatalogId=m&status=completed&limit=5", "/v1/rows/m%7C%7Cg%7Ce1",
    "/v1/rows/m%7C%7Cg%7Ce1/journal", "/v1/rows/m%7C%7Cg%7Ce1/events",
    "/v1/rows/m%7C%7Cg%7Ce1/steps?body=true", "/v1/events?limit=5", "/v1/journal/verify?limit=20",
    "/v1/plugins", "/v1/plugins/test-engine", "/v1/plugins/test-engine?load=true",
    "/v1/plugins/test-engine/history", "/v1/plugins/test-engine/versions", "/v1/dead-letters",
    "/v1/sinks", "/v1/quarantine", "/v1/graphs/g/kv", "/v1/rows?matrixCatalogId=none",
};
static size_t look_at;

/* An answer of 200 holds the same members as without faults, or it is an error. */
static void way_look(void)
{
    static json_t *whole;
    static size_t whole_of = SIZE_MAX;
    json_t *v = NULL;
    unsigned status;
    const char *key;
    json_t *member;
    long armed = nth;

    if (whole_of != look_at) {
        exj_fault_disarm();
        json_decref(whole);
        whole = NULL;
        if (ask_once("GET", looks[look_at], NULL, NULL, &whole) != 200)
            is_wrong("GET %s does not answer 200 when nothing fails", looks[look_at]);
        whole_of = look_at;
        exj_fault_arm(armed);
    }
    status = ask_once("GET", looks[look_at], NULL, NULL, &v);
    if (exj_fault_disarm() < armed)
        nth = -nth; /* told to the loop: no such allocation */
    if (status >= 500)
        refused++;
    else if (status != 200)
        is_wrong("GET %s: %u", looks[look_at], status);
    else if (json_is_object(whole) && v)
        json_object_foreach(whole, key, member)
            if (!json_object_get(v, key))
                is_wrong("GET %s: 200 without its member %s", looks[look_at], key);
    json_decref(v);
    if (status != 200 && ask_once("GET", looks[look_at], NULL, NULL, NULL) != 200)
        is_wrong("GET %s does not answer after it lacked memory", looks[look_at]);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*go)(void);
} ways[] = {
    { "plain", way_plain },       { "steps", way_steps },       { "retry", way_retry },
    { "polls", way_polls },       { "timer", way_timer },       { "fails", way_fails },
    { "signal", way_signal },     { "delivery", way_delivery }, { "cancel", way_cancel },
    { "rerun", way_rerun },       { "order", way_retry_order }, { "run", way_run },
    { "trigger", way_trigger },   { "batch", way_batch },       { "schedule", way_schedule },
    { "patch", way_patch },       { "graph", way_graph },       { "matrix", way_matrix },
    { "new-matrix", way_new_matrix }, { "cycle", way_cycle },   { "reload", way_reload },
    { "pause", way_pause },       { "start", way_start },       { "look", way_look },
};

static void go(size_t k, long stride, uint64_t *seed)
{
    long n = 1 + (long)(exj_test_random(seed) % (uint64_t)stride), tried = 0, quiet = 0;
    int64_t began = exj_test_now_ms();

    for (; n < POINTS_MAX; n += stride) {
        nth = n;
        exj_fault_arm(n);
        ways[k].go();
        exj_fault_disarm();
        /* Threads take turns: only after a few without a hit it is sure that none is left. */
        quiet = nth < 0 || !exj_fault_was_hit() ? quiet + 1 : 0;
        tried += quiet == 0;
        if (quiet >= (ways[k].go == way_look ? 1 : 4))
            break;
    }
    points += tried;
    if (tried && ways[k].go != way_look)
        printf("  %-10s %5ld points, up to allocation %ld, %" PRId64 " ms\n", ways[k].name, tried, n,
               exj_test_now_ms() - began);
}

static void set_up(void)
{
    char doc[500];

    way_name = "set-up";
    must_start();
    put_graph();
    put_matrix();
    for (int k = 0; k < 2; k++) {
        char path[60];

        feed();
        snprintf(doc, sizeof(doc),
                 "{\"matrixCatalogId\":\"%s\",\"payload\":{\"input\":{\"countFile\":\"%s\"},"
                 "\"graphs\":[\"g\"],\"maxAttempts\":50,\"pollWhenEmptySeconds\":0.2,"
                 "\"dataSource\":{\"kind\":\"%s\",\"resolver\":\"test-source\"}}}",
                 k ? "q" : "r", exj_tmp_path(&tmp, "count"), k ? "query-snapshot" : "record");
        snprintf(path, sizeof(path), "/v1/configs/matrices/%s", k ? "q" : "r");
        must("PUT", path, doc);
    }
    way_schedule();
    row_does("{\"steps\":1}", "completed");
}

static bool sink_is_done(void *user)
{
    json_t *s = NULL, *e = NULL;
    int64_t position, last;

    (void)user;
    ask_once("GET", "/v1/sinks", NULL, NULL, &s);
    ask_once("GET", "/v1/events?after=0&limit=1", NULL, NULL, &e);
    position = json_integer_value(
        json_object_get(json_array_get(json_object_get(s, "sinks"), 0), "position"));
    last = json_integer_value(json_object_get(e, "last"));
    json_decref(s);
    json_decref(e);
    return last > 0 && position >= last;
}

static void judge(void)
{
    json_t *v = NULL;

    way_name = "the end";
    if (!exj_until(sink_is_done, NULL, -1, 10, SETTLE_MS))
        is_wrong("the sink does not get to the end");
    if (ask_once("GET", "/v1/journal/verify?limit=250000", NULL, NULL, &v) != 200 ||
        json_integer_value(json_object_get(v, "rows")) < row_no ||
        json_integer_value(json_object_get(v, "different")) != 0)
        is_wrong("the journal does not verify");
    json_decref(v);
}

int main(int argc, char **argv)
{
    int64_t began = exj_test_now_ms();
    long stride = 1;
    const char *only = NULL;
    uint64_t seed = 0, first;
    bool has_seed = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--stride") && atol(argv[i + 1]) > 0)
            stride = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--only"))
            only = argv[i + 1];
        else if (!strcmp(argv[i], "--seed") && (has_seed = true))
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return fprintf(stderr, "mem_jobs: unknown argument '%s'; see the head of "
                           "tests/faults/mem_jobs.c\n", argv[i]), 2;
    }
    seed = first = has_seed ? seed : exj_test_seed("mem_jobs");
    setvbuf(stdout, NULL, _IOLBF, 0);
    exj_log_divert(hear);
    prepare();
    set_up();
    for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]); k++) {
        if (only && strcmp(only, ways[k].name) != 0)
            continue;
        if (ways[k].go != way_look) {
            way_name = ways[k].name;
            go(k, stride, &seed);
            continue;
        }
        for (look_at = 0; look_at < sizeof(looks) / sizeof(looks[0]); look_at++) {
            way_name = looks[look_at];
            go(k, stride > 4 ? 4 : 1, &seed);
        }
    }
    judge();
    stop();
    exj_shelf_free(o.shelf);
    exj_support_clean();
    printf("mem_jobs: seed %" PRIu64 ", %ld points, %ld answers refused, %ld settled after more than "
           "a second (slowest %" PRId64 " ms), %ld rows; %d wrong; %" PRId64 " ms\n", first, points,
           refused, late, slowest_ms, row_no, wrong, exj_test_now_ms() - began);
    return wrong ? 1 : 0;
}
