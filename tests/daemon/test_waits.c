/* Rows that wait for a time, a signal, a poll or an operator, through the whole program: what
 * resumes them, and that nothing is kept busy meanwhile. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define SUSPENDED "matrix_claims_completed_total", "status=\"suspended\""
#define ROW "m%7C%7Cg%7Cr-0000000"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(waits, .init = setup, .fini = teardown, .timeout = 60);

/* `count` rows of matrix m and graph g that do as `record` says. */
static void start_rows(int count, const char *record, const char *execution)
{
    char input[600];

    if (!exj_prog_is_running(&d.prog))
        cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", execution);
    snprintf(input, sizeof(input), "{\"count\":%d,\"record\":%s}", count, record);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", input, ",\"maxAttempts\":3");
}

/* GET below the row; new reference. */
static json_t *look(const char *row, const char *below)
{
    char path[300];
    json_t *o = NULL;
    int status;

    snprintf(path, sizeof(path), "/v1/rows/%s%s", row, below);
    status = exj_daemon_call(&d, "GET", path, NULL, &o);
    cr_assert_eq(status, 200, "GET %s: %d", path, status);
    return o;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

struct awaited {
    const char *row, *status;
};

static bool is_status(void *user)
{
    struct awaited *a = user;
    char path[300];
    json_t *o = NULL;
    bool is;

    snprintf(path, sizeof(path), "/v1/rows/%s", a->row);
    exj_daemon_call(&d, "GET", path, NULL, &o);
    is = strcmp(text_of(o, "status"), a->status) == 0;
    json_decref(o);
    return is;
}

static void wait_row(const char *row, const char *status)
{
    struct awaited a = { row, status };

    cr_assert(exj_until(is_status, &a, d.prog.pidfd, 5, 15000), "row %s never became %s", row,
              status);
}

struct many {
    int64_t completed, suspended;
};

static bool are_there(void *user)
{
    struct many *m = user;
    exj_tally t = exj_daemon_tally(&d, "m");

    return t.completed == m->completed && t.suspended == m->suspended;
}

static void wait_rows(int64_t completed, int64_t suspended)
{
    struct many m = { completed, suspended };

    cr_assert(exj_until(are_there, &m, d.prog.pidfd, 20, 15000),
              "never %" PRId64 " completed and %" PRId64 " suspended", completed, suspended);
}

/* Send a signal; "delivered", "kept", or the code of the refusal. */
static const char *send_signal(const char *row, const char *name, const char *body)
{
    static char word[64];
    char path[300];
    json_t *o = NULL;
    int status;

    snprintf(path, sizeof(path), "/v1/rows/%s/signals/%s", row, name);
    status = exj_daemon_call(&d, "POST", path, body, &o);
    snprintf(word, sizeof(word), "%s", text_of(o, status == 200 ? "outcome" : "code"));
    json_decref(o);
    return word;
}

static void expect_events(const char *row, const char *wanted)
{
    json_t *o = look(row, "/journal"), *e;
    char all[1000] = "";
    size_t i, n = 0;

    json_array_foreach(json_object_get(o, "entries"), i, e)
    {
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", n ? " " : "", text_of(e, "event"));
        cr_assert_lt(n, sizeof(all));
    }
    cr_expect_str_eq(all, wanted);
    json_decref(o);
}

/* The stored result of a step, as compact JSON; "" when there is none. */
static const char *step_of(const char *row, const char *name)
{
    static char text[200];
    json_t *o = look(row, "/steps?body=true"), *s;
    size_t i;

    text[0] = '\0';
    json_array_foreach(json_object_get(o, "steps"), i, s)
    {
        char *body;

        if (strcmp(text_of(s, "key"), name) != 0)
            continue;
        body = json_dumps(json_object_get(s, "body"), JSON_COMPACT | JSON_ENCODE_ANY);
        snprintf(text, sizeof(text), "%s", body ? body : "");
        free(body);
    }
    json_decref(o);
    return text;
}

/* How often rows whose name has `part` began. */
static int begins(const char *part)
{
    exj_effects e;
    int n = 0;

    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++)
        n += e.items[i].what == 'B' && strstr(e.items[i].job, part);
    exj_effects_release(&e);
    return n;
}

/* ---- what resumes a row -------------------------------------------------------------------- */

/* spec 2.4: A `suspended` result names what it waits for: a time (`resumeAt`), a signal (`signal: NAME`, optional timeout), or a poll (`pollAfter`). */
Test(waits, a_row_goes_on_when_its_time_has_come_and_not_before)
{
    exj_effects e;
    json_t *o;

    start_rows(1, "{\"waitMs\":700}", NULL);
    wait_row(ROW, "suspended");
    o = look(ROW, "");
    cr_expect(json_is_string(json_object_get(o, "resumeAt")));
    cr_expect(json_is_null(json_object_get(o, "waitsFor")), "it waits for no signal");
    json_decref(o);
    wait_row(ROW, "completed");
    exj_effects_read(&d, &e);
    cr_assert_eq(e.len, 2);
    cr_expect_eq(e.items[1].token, 2);
    cr_expect_eq(e.items[1].attempt, 1, "a wait is no failed attempt");
    cr_expect_geq(e.items[1].at_ns - e.items[0].at_ns, 698 * 1000000LL);
    exj_effects_release(&e);
    expect_events(ROW, "queued claimed suspended step resumed claimed completed");
    cr_expect(strstr(step_of(ROW, "timer"), "resumeAt"), "%s", step_of(ROW, "timer"));
}

/* spec 2.4: `POST /rows/:id/signals/:name` with a JSON body, or the time, queues the row again; the signal's payload is in the journal. */
Test(waits, its_signal_resumes_a_row_and_another_does_not)
{
    json_t *o;

    start_rows(1, "{\"waitSignal\":\"approve\"}", NULL);
    wait_row(ROW, "suspended");
    o = look(ROW, "");
    cr_expect_str_eq(text_of(json_object_get(o, "waitsFor"), "signal"), "approve");
    cr_expect(json_is_null(json_object_get(json_object_get(o, "waitsFor"), "until")));
    json_decref(o);
    cr_expect_str_eq(send_signal(ROW, "other", "1"), "kept");
    wait_row(ROW, "suspended");
    cr_expect_str_eq(send_signal(ROW, "approve", "{\"by\":\"me\"}"), "delivered");
    wait_row(ROW, "completed");
    cr_expect_str_eq(step_of(ROW, "signal:approve"), "{\"payload\":{\"by\":\"me\"}}");
    expect_events(ROW, "queued claimed suspended signal signal step resumed claimed completed");
    cr_expect_eq(begins("m|"), 2);
}

/* spec 2.4: Signals that come before the wait are kept. */
Test(waits, a_signal_that_was_there_before_the_wait_is_taken_at_once)
{
    cr_assert(exj_daemon_start(&d));
    exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL);
    start_rows(1, "{\"waitSignal\":\"go\"}", NULL);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_rows_materialized_total", NULL, 1, 10000));
    cr_expect_str_eq(send_signal(ROW, "go", "[1,2]"), "kept");
    cr_expect_str_eq(send_signal(ROW, "go", "3"), "kept");
    exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL);
    wait_row(ROW, "completed");
    cr_expect_str_eq(step_of(ROW, "signal:go"), "{\"payload\":[1,2]}");
    expect_events(ROW, "queued signal signal claimed suspended step resumed claimed completed");
}

Test(waits, a_signal_that_does_not_come_in_time_is_a_timeout)
{
    json_t *o;

    start_rows(1, "{\"waitSignal\":\"go\",\"waitSeconds\":1}", NULL);
    wait_row(ROW, "suspended");
    o = look(ROW, "");
    cr_expect(json_is_string(json_object_get(json_object_get(o, "waitsFor"), "until")));
    json_decref(o);
    wait_row(ROW, "completed");
    cr_expect_str_eq(step_of(ROW, "signal:go"), "{\"timeout\":true}");
    cr_expect_str_eq(send_signal(ROW, "go", "1"), "SignalRefused");
}

Test(waits, a_row_that_polls_begins_once_more_for_each_poll)
{
    start_rows(1, "{\"polls\":4}", NULL);
    wait_row(ROW, "completed");
    cr_expect_eq(begins("m|"), 5);
}

Test(waits, a_blocked_row_is_released_by_the_signal_it_names_and_by_no_other)
{
    start_rows(1, "{\"blockSignal\":\"disk\"}", NULL);
    wait_row(ROW, "blocked");
    cr_expect_str_eq(send_signal(ROW, "other", "1"), "SignalRefused");
    wait_row(ROW, "blocked");
    cr_expect_eq(begins("m|"), 1);
    cr_expect_str_eq(send_signal(ROW, "disk", "{\"gb\":5}"), "delivered");
    wait_row(ROW, "completed");
    cr_expect_str_eq(step_of(ROW, "signal:disk"), "{\"payload\":{\"gb\":5}}");
    expect_events(ROW, "queued claimed blocked unblocked step claimed completed");
}

/* ---- what a row holds meanwhile --------------------------------------------------------------- */

/* spec 2.4: It holds no slot. */
Test(waits, rows_that_wait_leave_the_only_slot_to_another)
{
    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "1");
    exj_daemon_set(&d, "EXELLIX_JOBS_PREFETCH", "8"); /* nor a place among the claimed ones */
    start_rows(60, "{\"waitSignal\":\"never\"}", "{\"concurrency\":1}");
    wait_rows(0, 60);
    exj_daemon_matrix(&d, "other", "[\"g\"]", "record",
                      "{\"count\":3,\"record\":{\"sleepMs\":5}}", "");
    cr_assert(exj_daemon_wait_done(&d, "other", 3, 15000));
    wait_rows(0, 60);
    cr_expect_eq(begins("m|"), 60);
    cr_expect_eq(begins("other|"), 3);
}

/* spec 2.10: Every inserted row is terminal, suspended, blocked, queued or under one live lease: none is lost. */
Test(waits, rows_that_wait_survive_a_killed_worker_and_have_no_lease_to_lose)
{
    start_rows(20, "{\"waitSignal\":\"go\"}", NULL);
    exj_daemon_matrix(&d, "timed", "[\"g\"]", "record",
                      "{\"count\":20,\"record\":{\"waitMs\":2500}}", "");
    wait_rows(0, 20);
    wait_row("timed%7C%7Cg%7Cr-0000019", "suspended");
    exj_prog_signal(&d.prog, SIGKILL);
    cr_assert_gt(exj_prog_wait(&d.prog, 10000), 0);
    cr_assert(exj_daemon_start(&d));
    wait_rows(0, 20);
    cr_expect_leq(exj_daemon_metric(&d, "exellix_jobs_lease_expiries_total", NULL), 0);
    for (int i = 0; i < 20; i++) {
        char row[64];

        snprintf(row, sizeof(row), "m%%7C%%7Cg%%7Cr-%07d", i);
        cr_expect_str_eq(send_signal(row, "go", "1"), "delivered");
    }
    wait_rows(20, 0);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 40, 15000));
    expect_events(ROW, "queued claimed suspended signal step resumed claimed completed");
    expect_events("timed%7C%7Cg%7Cr-0000019",
                  "queued claimed suspended step resumed claimed completed");
    cr_expect_eq(begins("m|"), 40);
    cr_expect_eq(begins("timed|"), 40);
}

/* More than one promotion takes, and nobody was there when most of them were due. */
Test(waits, rows_that_were_due_while_no_worker_ran_all_go_on)
{
    start_rows(2500, "{\"waitMs\":1500}", NULL);
    cr_assert(exj_daemon_wait_metric(&d, SUSPENDED, 2500, 30000));
    exj_prog_signal(&d.prog, SIGKILL);
    cr_assert_gt(exj_prog_wait(&d.prog, 10000), 0);
    cr_assert(exj_daemon_start(&d));
    wait_rows(2500, 0);
    cr_expect_geq(begins("m|"), 5000);
}

/* Twenty thousand of them cost what the first ones do. */
Test(waits, memory_does_not_grow_with_the_rows_that_wait)
{
    int64_t few, many;

    start_rows(1000, "{\"waitSignal\":\"never\",\"waitSeconds\":3600}", NULL);
    cr_assert(exj_daemon_wait_metric(&d, SUSPENDED, 1000, 30000));
    few = exj_prog_rss_kb(&d.prog);
    exj_daemon_matrix(&d, "n", "[\"g\"]", "storage",
                      "{\"count\":20000,\"page\":1000,\"record\":{\"waitSignal\":\"never\","
                      "\"waitSeconds\":3600}}", "");
    cr_assert(exj_daemon_wait_metric(&d, SUSPENDED, 21000, 50000));
    many = exj_prog_rss_kb(&d.prog);
    fprintf(stderr, "waits: RSS %" PRId64 " kB with 1,000 rows, %" PRId64 " with 21,000\n", few,
            many);
#if !defined(__SANITIZE_ADDRESS__)
    /* Caches of the store fill up to their 12 MiB meanwhile, and where the disk is slow some
     * thousand rows are on their way at once: 13 to 25 MiB were seen. A kilobyte a row shows. */
    cr_expect_lt(many - few, 30 * 1024);
    cr_expect_lt(many, 64 * 1024);
#endif
}

/* ---- time limits, cancel, final errors -------------------------------------------------------- */

/* `code`: "Cancelled" is what the engine answers when it is told to stop. */
static void times_out(const char *lane, const char *deaf, const char *code)
{
    char execution[200], record[100];
    json_t *o;

    snprintf(execution, sizeof(execution),
             "{\"isolation\":\"%s\",\"timeoutSeconds\":1,\"retry\":{\"initialSeconds\":0,"
             "\"maxSeconds\":0}}", lane);
    snprintf(record, sizeof(record), "{\"sleepMs\":30000%s}", deaf);
    if (*deaf) /* else it has to have the time to answer */
        exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_GRACE_SECONDS", "0");
    start_rows(1, record, execution);
    wait_row(ROW, "failed");
    o = look(ROW, "");
    cr_expect_eq(json_array_size(json_object_get(o, "failures")), 3);
    cr_expect_str_eq(text_of(json_object_get(o, "error"), "code"), code);
    json_decref(o);
    expect_events(ROW, "queued claimed retrying claimed retrying claimed failed");
}

/* spec 2.5: Per graph: `maxAttempts`, backoff (initial, factor, max, jitter), `timeoutSeconds` per attempt, which error codes are final. */
Test(waits, each_attempt_in_process_has_the_time_limit_of_its_graph)
{
    times_out("in-process", "", "Cancelled");
}

/* spec 2.5: Per graph: `maxAttempts`, backoff (initial, factor, max, jitter), `timeoutSeconds` per attempt, which error codes are final. */
Test(waits, each_attempt_in_a_host_has_the_time_limit_of_its_graph)
{
    times_out("host", "", "Cancelled");
}

/* spec 2.5: in an isolated host it is then enforced by killing the host after a grace period */
Test(waits, an_attempt_in_a_host_that_does_not_listen_is_ended_when_its_time_is_over)
{
    times_out("host", ",\"deaf\":true", "DeadlineExceeded");
}

/* spec 2.5: Per graph: `maxAttempts`, backoff (initial, factor, max, jitter), `timeoutSeconds` per attempt, which error codes are final. */
Test(waits, an_error_code_that_is_final_is_not_tried_again)
{
    json_t *o;

    start_rows(1, "{\"failTimes\":9}",
               "{\"finalErrors\":[\"Other\",\"ToldToRetry\"],\"retry\":{\"initialSeconds\":0,"
               "\"maxSeconds\":0}}");
    wait_row(ROW, "failed");
    o = look(ROW, "");
    cr_expect_str_eq(text_of(json_object_get(o, "error"), "code"), "ToldToRetry");
    cr_expect_eq(json_integer_value(json_object_get(o, "attempts")), 1);
    json_decref(o);
    cr_expect_eq(begins("m|"), 1);
    expect_events(ROW, "queued claimed failed");
    /* The same answer under a graph that does not say so is tried three times. */
    exj_daemon_graph(&d, "h", "{\"finalErrors\":[\"Other\"],\"retry\":{\"initialSeconds\":0,"
                              "\"maxSeconds\":0}}");
    exj_daemon_matrix(&d, "n", "[\"h\"]", "record",
                      "{\"count\":1,\"record\":{\"failTimes\":9}}", ",\"maxAttempts\":3");
    wait_row("n%7C%7Ch%7Cr-0000000", "failed");
    cr_expect_eq(begins("n|"), 3);
}

/* spec 2.5: in-process it cannot be enforced, and the row's page says so. */
Test(waits, a_row_in_process_that_does_not_listen_ends_when_it_likes)
{
    char record[400];
    const char *gate = exj_tmp_path(&d.tmp, "gate");
    json_t *o;

    snprintf(record, sizeof(record), "{\"deaf\":true,\"gate\":\"%s\"}", gate);
    start_rows(1, record, NULL);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_started_total", NULL, 1, 10000));
    wait_row(ROW, "running");
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/rows/" ROW "/cancel", NULL, &o), 200);
    cr_expect_str_eq(text_of(o, "outcome"), "asked");
    json_decref(o);
    o = look(ROW, "");
    cr_expect_str_eq(text_of(o, "status"), "running");
    cr_expect(json_is_true(json_object_get(o, "cancelAsked")));
    cr_expect(strstr(json_string_value(json_array_get(json_object_get(o, "notes"), 0)),
                     "cannot be enforced"));
    json_decref(o);
    exj_spit(gate, "");
    /* It did its work whole: that is what counts. */
    wait_row(ROW, "completed");
    expect_events(ROW, "queued claimed cancel_asked completed");
}

static bool never(void *user)
{
    (void)user;
    return false;
}

/* Its distance in nanoseconds is more than 64 bits hold. */
Test(waits, a_row_that_waits_for_the_year_9999_keeps_nothing_busy)
{
    int64_t before;

    start_rows(1, "{\"waitAt\":\"9999-11-30T00:00:00Z\"}", NULL);
    wait_row(ROW, "suspended");
    before = exj_prog_cpu_ms(&d.prog);
    cr_expect_not(exj_until(never, NULL, d.prog.pidfd, 100, 1500));
    cr_expect_lt(exj_prog_cpu_ms(&d.prog) - before, 150);
}

Test(waits, a_time_at_the_very_beginning_is_over_and_not_never)
{
    start_rows(1, "{\"waitAt\":\"1970-01-01T00:00:00Z\"}", NULL);
    wait_row(ROW, "completed");
}

/* What is told is queued for the store, and nobody waits for it. */
Test(waits, a_plugin_that_tells_its_end_without_end_is_heard_once)
{
    json_t *o, *list, *entry;
    size_t i, n = 0;

    start_rows(1, "{\"progressEnds\":20000}", NULL);
    wait_row(ROW, "completed");
    o = look(ROW, "/journal?limit=10000");
    list = json_object_get(o, "entries");
    json_array_foreach(list, i, entry)
        n += strcmp(text_of(entry, "event"), "progress") == 0;
    json_decref(o);
    cr_expect_geq(n, 1);
    cr_expect_leq(n, 30, "%zu entries", n); /* one a second at the most */
}
