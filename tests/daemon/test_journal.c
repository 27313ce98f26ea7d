/* The history of rows and what an operator orders of one: over HTTP, beside a running daemon,
 * and with the command line, with and without one. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define PROGRAM EXJ_BINARY_DIR "/bin/exellix-jobs"
#define ROW "m||g|r-0000000"
#define ROW_PATH "/v1/rows/m%7C%7Cg%7Cr-0000000"

static exj_daemon d;
static char gate[256];
static char *said, *said_err; /* of the last command */

static void setup(void)
{
    exj_daemon_init(&d);
    snprintf(gate, sizeof(gate), "%s", exj_tmp_path(&d.tmp, "gate"));
}

static void teardown(void)
{
    free(said);
    free(said_err);
    said = said_err = NULL;
    exj_daemon_release(&d);
}

TestSuite(journal, .init = setup, .fini = teardown, .timeout = 60);

/* One row of matrix m, graph g, that does as `record` says. */
static void start_row(const char *record)
{
    char input[600];

    if (!exj_prog_is_running(&d.prog))
        cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    snprintf(input, sizeof(input), "{\"count\":1,\"record\":%s}", record);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", input, ",\"maxAttempts\":3");
}

static json_t *get(const char *path)
{
    json_t *o = NULL;
    int status = exj_daemon_call(&d, "GET", path, NULL, &o);

    cr_assert_eq(status, 200, "GET %s: %d", path, status);
    return o;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static bool is_status(void *user)
{
    json_t *o = NULL;
    bool is;

    exj_daemon_call(&d, "GET", ROW_PATH, NULL, &o);
    is = strcmp(text_of(o, "status"), user) == 0;
    json_decref(o);
    return is;
}

static void wait_status(const char *status)
{
    char word[16];

    snprintf(word, sizeof(word), "%s", status);
    cr_assert(exj_until(is_status, word, d.prog.pidfd, 5, 15000), "the row never became %s",
              status);
}

/* POST below the row; the answer's JSON, new reference. */
static json_t *post(const char *below, const char *body, int wanted)
{
    char path[400];
    json_t *o = NULL;
    int status;

    snprintf(path, sizeof(path), "%s%s", ROW_PATH, below);
    status = exj_daemon_call(&d, "POST", path, body, &o);
    cr_assert_eq(status, wanted, "POST %s: %d %s", below, status, text_of(o, "message"));
    return o;
}

static void expect_refusal(const char *below, const char *body, int status, const char *code,
                           const char *part)
{
    json_t *o = post(below, body, status);

    cr_expect_str_eq(text_of(o, "code"), code);
    cr_expect(strstr(text_of(o, "message"), part), "%s: %s", below, text_of(o, "message"));
    json_decref(o);
}

/* The events of the row's journal, with a blank between. */
static void events(char *ret, size_t cap)
{
    json_t *o = get(ROW_PATH "/journal"), *e;
    size_t i, n = 0;
    int64_t before = 0;

    ret[0] = '\0';
    json_array_foreach(json_object_get(o, "entries"), i, e) {
        int64_t number = json_integer_value(json_object_get(e, "number"));

        n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? " " : "", text_of(e, "event"));
        cr_assert_lt(n, cap);
        cr_expect_gt(number, before, "entry %" PRId64 " follows %" PRId64, number, before);
        cr_expect(json_is_integer(json_object_get(e, "attempt")));
        cr_expect(json_is_integer(json_object_get(e, "fencingToken")));
        cr_expect(json_is_string(json_object_get(e, "at")));
        before = number;
    }
    cr_expect_eq(json_integer_value(json_object_get(o, "lastEvent")), before);
    json_decref(o);
}

static void expect_events(const char *wanted)
{
    char all[1000];

    events(all, sizeof(all));
    cr_expect_str_eq(all, wanted);
}

/* Run the program beside the daemon, or without it. */
static int run_args(const char *const *args)
{
    exj_prog p;
    int status = exj_prog_run(&p, &d.tmp, PROGRAM, (const char *const *)d.env, args, 30000);

    free(said);
    free(said_err);
    said = exj_slurp(p.out, NULL);
    said_err = exj_slurp(p.err, NULL);
    return status;
}
#define RUN(...) run_args((const char *const[]){ __VA_ARGS__, NULL })

static json_t *said_json(void)
{
    json_t *o = json_loads(said, JSON_DECODE_ANY, NULL);

    cr_assert_not_null(o, "not JSON: %s", said);
    return o;
}

/* ---- the journal ------------------------------------------------------------------------- */

/* spec 2.3: Order is kept: the journal of a row reads as its history (`queued`, `claimed`, `step`, `progress`, `suspended`, `resumed`, `lease_expired`, `crashed`, `completed` …). */
Test(journal, of_a_row_reads_as_its_history)
{
    json_t *o, *e, *step;

    start_row("{\"steps\":2,\"failTimes\":1}");
    wait_status("completed");
    expect_events("queued claimed step_begun step step_begun step retrying claimed completed");
    o = get(ROW_PATH "/journal?limit=2");
    cr_expect_eq(json_array_size(json_object_get(o, "entries")), 2, "the newest two");
    e = json_array_get(json_object_get(o, "entries"), 1);
    cr_expect_str_eq(text_of(e, "event"), "completed");
    cr_expect_eq(json_integer_value(json_object_get(e, "attempt")), 2);
    json_decref(o);
    o = get(ROW_PATH "/steps?body=true");
    step = json_array_get(json_object_get(o, "steps"), 1);
    cr_expect_str_eq(text_of(step, "key"), "s2");
    cr_expect_str_eq(text_of(step, "state"), "finished");
    cr_expect_eq(json_integer_value(json_object_get(step, "attempt")), 1);
    cr_expect_eq(json_integer_value(json_object_get(step, "fencingToken")), 1);
    cr_expect_eq(json_integer_value(json_object_get(step, "bytes")), 7);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(step, "body"), "n")), 2);
    cr_expect(json_is_string(json_object_get(step, "beganAt")));
    json_decref(o);
    o = get(ROW_PATH);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(o, "steps"), "finished")), 2);
    json_decref(o);
}

/* A step that began and never finished is shown as what it is: nobody knows. */
Test(journal, shows_a_step_of_which_nobody_knows_whether_it_ran)
{
    json_t *o, *step;

    start_row("{\"steps\":2,\"killAt\":3}"); /* after the effect, before the commit */
    cr_assert_gt(exj_prog_wait(&d.prog, 10000), 0);
    exj_spit(exj_tmp_path(&d.tmp, "g.json"), /* so that it stays as it is */
             "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},\"publicationStatus\":"
             "\"Published\",\"operationalState\":\"Paused\"}");
    cr_assert_eq(RUN("apply", "-f", "g.json"), 0, "%s", said_err);
    cr_assert(exj_daemon_start(&d));
    wait_status("queued");
    o = get(ROW_PATH "/steps");
    step = json_array_get(json_object_get(o, "steps"), 0);
    cr_expect_str_eq(text_of(step, "state"), "unknown");
    cr_expect(json_is_false(json_object_get(step, "done")));
    cr_expect(json_is_null(json_object_get(step, "bytes")));
    json_decref(o);
    o = get(ROW_PATH);
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(o, "steps"), "begun")), 1);
    json_decref(o);
    cr_assert_eq(RUN("rows", "show", ROW), 0, "%s", said_err);
    cr_expect(strstr(said, "step_begun\t1\ts1 - begun at attempt 1, never finished: nobody knows "
                           "whether it ran\n"), "%s", said);
    cr_expect(strstr(said, "status\tqueued\n"), "%s", said);

    cr_assert_eq(exj_daemon_call(&d, "PATCH", "/v1/graphs/g/operational",
                                 "{\"operationalState\":\"Running\",\"expectedVersion\":2}", NULL),
                 200);
    wait_status("completed");
    o = get(ROW_PATH "/steps");
    step = json_array_get(json_object_get(o, "steps"), 0);
    cr_expect_str_eq(text_of(step, "state"), "finished", "it was run again");
    cr_expect_eq(json_integer_value(json_object_get(step, "attempt")), 2);
    json_decref(o);
    cr_assert_eq(RUN("journal", "verify"), 0, "%s%s", said, said_err);
}

/* ---- signals and waits --------------------------------------------------------------------- */

/* spec 2.4: `POST /rows/:id/signals/:name` with a JSON body, or the time, queues the row again; the signal's payload is in the journal. */
Test(journal, a_signal_queues_a_suspended_row_again)
{
    json_t *o, *step;

    start_row("{\"waitSignal\":\"approved\"}");
    wait_status("suspended");
    o = get(ROW_PATH);
    cr_expect_str_eq(text_of(json_object_get(o, "waitsFor"), "signal"), "approved");
    cr_expect(json_is_null(json_object_get(o, "resumeAt")));
    json_decref(o);
    o = post("/signals/approved", "{\"by\":\"Ada\"}", 200);
    cr_expect_str_eq(text_of(o, "outcome"), "delivered");
    cr_expect_str_eq(text_of(o, "status"), "queued");
    json_decref(o);
    wait_status("completed");
    o = get(ROW_PATH "/steps?body=true");
    step = json_array_get(json_object_get(o, "steps"), 0);
    cr_expect_str_eq(text_of(step, "key"), "signal:approved");
    cr_expect_str_eq(text_of(json_object_get(json_object_get(step, "body"), "payload"), "by"),
                     "Ada");
    json_decref(o);
    expect_events("queued claimed suspended signal step resumed claimed completed");
}

/* spec 2.4: Signals that come before the wait are kept. */
Test(journal, a_signal_that_comes_early_is_kept)
{
    json_t *o;

    start_row("{\"waitMs\":1,\"waitSignal\":\"approved\"}");
    wait_status("suspended");
    o = post("/signals/other", "1", 200); /* not what it waits for */
    cr_expect_str_eq(text_of(o, "outcome"), "kept");
    cr_expect_str_eq(text_of(o, "status"), "suspended");
    json_decref(o);
    o = get(ROW_PATH);
    cr_expect_eq(json_array_size(json_object_get(o, "signalsKept")), 1);
    json_decref(o);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL), 200);
    json_decref(post("/signals/approved", NULL, 200)); /* it is queued now, */
    o = post("/signals/approved", "2", 200);           /* and this one comes early */
    cr_expect_str_eq(text_of(o, "outcome"), "kept");
    cr_expect_str_eq(text_of(o, "status"), "queued");
    json_decref(o);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL), 200);
    wait_status("completed");
}

Test(journal, refuses_signals_that_cannot_be_meant)
{
    char *big = malloc(70000), name[300];

    start_row("{}");
    wait_status("completed");
    expect_refusal("/signals/go", "{}", 409, "SignalRefused", "completed");
    expect_refusal("/signals/go", "{\"a\":", 400, "ValidationError", "byte 5");
    memset(big, 'x', 69999);
    big[0] = big[69998] = '"';
    big[69999] = '\0';
    expect_refusal("/signals/go", big, 413, "BodyTooLarge", "65536 bytes, not 69999");
    free(big);
    memset(name, 'n', sizeof(name));
    memcpy(name, "/signals/", 9);
    name[9 + 256] = '\0';
    expect_refusal(name, "{}", 400, "ValidationError", "255 bytes, not 256");
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/rows/m%7C%7Cg%7Cnobody/signals/go", "{}", NULL),
                 404);
    cr_expect_eq(RUN("rows", "signal", "m||g|nobody", "go"), 3, "%s", said_err);
    cr_expect(strstr(said_err, "no row \"m||g|nobody\""), "%s", said_err);
}

/* ---- cancel --------------------------------------------------------------------------------- */

Test(journal, cancel_asks_a_running_row_and_cancels_one_that_waits)
{
    json_t *o;

    start_row("{\"sleepMs\":30000}");
    wait_status("running");
    o = get(ROW_PATH);
    cr_expect(strstr(json_string_value(json_array_get(json_object_get(o, "notes"), 0)),
                     "cannot be enforced"));
    json_decref(o);
    o = post("/cancel", "{\"reason\":\"asked twice\"}", 200);
    cr_expect_str_eq(text_of(o, "outcome"), "asked");
    cr_expect_str_eq(text_of(o, "status"), "running");
    json_decref(o);
    wait_status("canceled");
    expect_events("queued claimed cancel_asked canceled");
    expect_refusal("/cancel", NULL, 409, "RowNotCancelable", "canceled");
    expect_refusal("/cancel", "{\"why\":1}", 400, "ValidationError", "only \"reason\"");
    expect_refusal("/cancel", "{\"reason\":\"\"}", 400, "ValidationError", "1 to 512 bytes");
}

/* spec 2.5: A timeout or cancel is first cooperative (the executor sees `cancelled()` and its deadline); in an isolated host it is then enforced by killing the host after a grace period; in-process it cannot be enforced, and the row's page says so. */
Test(journal, cancel_of_a_row_that_does_not_listen_is_enforced_in_a_host)
{
    json_t *o;

    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_GRACE_SECONDS", "0");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", "{\"isolation\":\"host\"}");
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":1,\"record\":{\"sleepMs\":50000,\"deaf\":true}}", "");
    wait_status("running");
    o = get(ROW_PATH);
    cr_expect_eq(json_array_size(json_object_get(o, "notes")), 0);
    json_decref(o);
    json_decref(post("/cancel", NULL, 200));
    wait_status("canceled");
    exj_daemon_graph(&d, "h", "{\"isolation\":\"in-process\"}");
    exj_daemon_matrix(&d, "n", "[\"h\"]", "record",
                      "{\"count\":1,\"record\":{\"sleepMs\":300}}", "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_started_total", NULL, 2, 10000));
    o = get("/v1/rows/n%7C%7Ch%7Cr-0000000");
    cr_expect(strstr(json_string_value(json_array_get(json_object_get(o, "notes"), 0)),
                     "cannot be enforced"));
    json_decref(o);
}

Test(journal, cancel_ends_a_suspended_row_at_once)
{
    json_t *o, *e;

    start_row("{\"waitSignal\":\"never\"}");
    wait_status("suspended");
    cr_assert_eq(RUN("rows", "cancel", ROW, "--reason", "no longer wanted"), 0, "%s", said_err);
    cr_expect_str_eq(said, ROW " canceled\n");
    o = get(ROW_PATH "/journal");
    e = json_array_get(json_object_get(o, "entries"), 3);
    cr_expect_str_eq(text_of(e, "event"), "canceled");
    cr_expect_str_eq(text_of(e, "reason"), "no longer wanted");
    json_decref(o);
}

/* ---- rerun, run, retry ----------------------------------------------------------------------- */

/* spec 2.3: A terminal row asked to run again without `rerun` answers with its stored receipt (`replayed: true`) and runs nothing. */
Test(journal, run_of_a_terminal_row_answers_its_receipt)
{
    json_t *o;
    exj_effects e;

    start_row("{\"steps\":2}");
    wait_status("completed");
    o = post("/run", NULL, 200);
    cr_expect(json_is_true(json_object_get(o, "replayed")));
    cr_expect_str_eq(text_of(o, "status"), "completed");
    cr_expect(json_is_object(json_object_get(o, "result")));
    json_decref(o);
    expect_events("queued claimed step_begun step step_begun step completed");
    exj_effects_read(&d, &e);
    cr_expect_eq(e.len, 3, "B, S, S: %zu", e.len);
    exj_effects_release(&e);
}

/* spec 2.3: `rerun --from STEP` drops the entries of that step and all later ones, keeps the earlier, raises the token and queues the row. */
/* spec 2.3: Unknown step, or no earlier run: a clear refusal. */
Test(journal, rerun_keeps_the_steps_before)
{
    json_t *o;
    exj_effects e;
    int runs[4] = { 0 };

    start_row("{\"steps\":3}");
    wait_status("completed");
    expect_refusal("/rerun", "{\"fromStep\":\"s9\"}", 404, "StepNotFound", "no step \"s9\"");
    expect_refusal("/rerun", "{\"fromStep\":7}", 400, "ValidationError", "fromStep");
    cr_assert_eq(RUN("rows", "rerun", ROW, "--from", "s2"), 0, "%s", said_err);
    cr_expect_str_eq(said, ROW " queued; 1 finished steps kept, 2 forgotten\n");
    wait_status("completed");
    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++)
        for (int k = 1; k <= 3; k++)
            runs[k] += e.items[i].what == 'S' && strstr(e.items[i].job, "#s") &&
                       strstr(e.items[i].job, "#s")[2] == '0' + k;
    cr_expect(runs[1] == 1 && runs[2] == 2 && runs[3] == 2, "%d %d %d", runs[1], runs[2], runs[3]);
    exj_effects_release(&e);
    o = get(ROW_PATH);
    cr_expect_eq(json_integer_value(json_object_get(o, "fencingToken")), 3, "rerun raises it");
    json_decref(o);
    cr_assert_eq(RUN("journal", "verify"), 0, "%s", said_err);
}

Test(journal, rerun_refuses_a_row_that_never_ran_or_has_not_ended)
{
    char record[400];
    json_t *o;

    snprintf(record, sizeof(record), "{\"gate\":\"%s\"}", gate);
    start_row(record);
    wait_status("running");
    expect_refusal("/rerun", NULL, 409, "RowNotRerunnable", "running");
    exj_spit(gate, "");
    wait_status("completed");
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL), 200);
    json_decref(post("/rerun", NULL, 200));
    o = post("/cancel", NULL, 200);
    cr_expect_str_eq(text_of(o, "outcome"), "canceled");
    json_decref(o);
}

/* spec 2.1: A terminal row never changes status by itself; `retry` and `rerun` are explicit and journalled. */
Test(journal, retry_answers_the_row_and_is_journalled)
{
    json_t *o;

    start_row("{\"then\":\"final\"}");
    wait_status("failed");
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL), 200);
    o = post("/retry", NULL, 200);
    cr_expect_str_eq(text_of(o, "status"), "queued");
    cr_expect_eq(json_integer_value(json_object_get(o, "attempts")), 0);
    cr_expect(json_is_null(json_object_get(o, "error")));
    cr_expect(json_is_object(json_object_get(o, "input")));
    json_decref(o);
    expect_events("queued claimed failed retried");
    expect_refusal("/retry", NULL, 409, "RowNotRetryable", "queued");
}

/* ---- verify ---------------------------------------------------------------------------------- */

/* spec 2.3: The row document is the materialized view of it, written in the same transaction; `exellix-jobs journal verify` rebuilds the view and reports any difference. */
Test(journal, verify_finds_a_row_that_is_not_what_its_journal_says)
{
    sqlite3 *db = NULL;
    json_t *o;

    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":2500}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 2500, 30000));
    cr_assert_eq(RUN("journal", "verify", "--json"), 0, "%s", said_err);
    o = said_json();
    cr_expect_eq(json_integer_value(json_object_get(o, "rows")), 2500);
    cr_expect_eq(json_integer_value(json_object_get(o, "beforeTheJournal")), 0);
    cr_expect_eq(json_array_size(json_object_get(o, "differences")), 0);
    json_decref(o);
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);

    cr_assert_eq(sqlite3_open(exj_tmp_path(&d.tmp, "data/exellix-jobs.db"), &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "UPDATE exj_results SET status=4 WHERE seq=7", NULL, NULL, NULL),
                 SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
    cr_assert_eq(RUN("journal", "verify"), 1, "%s%s", said, said_err);
    cr_expect(strstr(said, "\tthe row is failed, its journal says completed\n"), "%s", said);
    cr_expect(strstr(said_err, "2500 rows") && strstr(said_err, ": 1 differ"), "%s", said_err);
}

/* Rows go on while they are verified: that is no difference. */
Test(journal, verify_beside_a_busy_daemon_finds_nothing)
{
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":20000,\"record\":{\"failTimes\":1}}", ",\"maxAttempts\":3");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 100, 20000));
    cr_expect_eq(RUN("journal", "verify"), 0, "%s%s", said, said_err);
    exj_prog_signal(&d.prog, SIGKILL);
    exj_prog_wait(&d.prog, 10000);
    cr_expect_eq(RUN("journal", "verify"), 0, "after a kill: %s%s", said, said_err);
}

/* ---- the command line ------------------------------------------------------------------------- */

Test(journal, commands_work_without_a_daemon)
{
    json_t *o;

    start_row("{\"waitSignal\":\"approved\"}");
    wait_status("suspended");
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    cr_assert_eq(RUN("rows", "show", ROW), 0, "%s", said_err);
    cr_expect(strstr(said, "status\tsuspended\n"), "%s", said);
    cr_expect(strstr(said, "\tsuspended\t1\tsignal approved\n"), "%s", said);
    exj_spit(exj_tmp_path(&d.tmp, "payload.json"), "{\"by\":\"Ada\"}");
    cr_assert_eq(RUN("rows", "signal", ROW, "approved", "--file", "payload.json"), 0, "%s",
                 said_err);
    cr_expect_str_eq(said, ROW " has signal approved and is queued\n");
    cr_expect_eq(RUN("rows", "signal", ROW, "approved", "--file", "nowhere.json"), 6);
    cr_expect(strstr(said_err, "nowhere.json"), "%s", said_err);
    cr_assert_eq(RUN("rows", "signal", ROW, "more", "--json"), 0, "%s", said_err);
    o = said_json();
    cr_expect_str_eq(text_of(o, "outcome"), "kept");
    json_decref(o);
    cr_assert_eq(RUN("journal", "show", ROW, "--json"), 0, "%s", said_err);
    o = said_json();
    cr_expect_eq(json_array_size(json_object_get(o, "entries")), 7);
    cr_expect_eq(json_array_size(json_object_get(o, "steps")), 1);
    json_decref(o);
    cr_assert_eq(RUN("journal", "show", ROW), 0, "%s", said_err);
    cr_expect(strstr(said, "\tsignal\t0\tsignal approved (12 bytes)\n"), "%s", said);
    cr_expect_eq(RUN("journal", "show", "m||g|nobody"), 3);
    cr_expect_eq(RUN("journal", "show", ROW, "--limit", "0"), 2);
}
