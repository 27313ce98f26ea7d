/* A daemon that is killed again and again records what it does; check-history finds
 * nothing broken in it, and finds what is then broken in the record by hand. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/history/recorder.h"
#include "tests/support/support.h"

#define PROGRAM EXJ_BINARY_DIR "/bin/exellix-jobs"
#define ROWS 3000
#define KILLS 12

static exj_daemon d;
static exj_recorder *driver;
static char history[300], driven[300], data[300];

static void setup(void)
{
    exj_err err = { 0 };

    exj_daemon_init(&d);
    snprintf(history, sizeof history, "%s", exj_tmp_path(&d.tmp, "history.jsonl"));
    snprintf(driven, sizeof driven, "%s", exj_tmp_path(&d.tmp, "driver.jsonl"));
    snprintf(data, sizeof data, "%s", exj_tmp_path(&d.tmp, "data"));
    exj_daemon_set(&d, "EXELLIX_JOBS_RECORD", "%s", history);
    cr_assert_eq(exj_recorder_open(driven, "driver", &driver, &err), EXJ_OK, "%s",
                 err.text);
}

static void teardown(void)
{
    exj_recorder_close(driver);
    exj_daemon_release(&d);
    exj_support_clean();
}

TestSuite(check_history, .init = setup, .fini = teardown, .timeout = 100);

static void tell(exj_hist_op op, const char *outcome, int64_t value)
{
    exj_hist_event e = {
        .op = op, .phase = EXJ_HIST_OK, .outcome = exj_slice_of(outcome), .value = value
    };

    exj_recorder_write(driver, &e);
}

/* The report, to be released; *ret_status: how the command ended. */
static json_t *check(int *ret_status)
{
    const char *args[] = { "check-history", history, driven, "--data-dir", data,
                           "--json",        NULL };
    const char *env[] = { NULL };
    exj_prog p;
    json_t *report = NULL;
    exj_err err = { 0 };
    char *out, *said;

    *ret_status = exj_prog_run(&p, &d.tmp, PROGRAM, env, args, 60000);
    out = exj_slurp(p.out, NULL);
    said = exj_slurp(p.err, NULL);
    cr_assert_eq(exj_json_parse(exj_slice_of(out), &report, &err), EXJ_OK, "%s: %s%s",
                 err.text, out, said);
    free(out);
    free(said);
    return report;
}

static int64_t count(const json_t *report, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(report, "counts"), name));
}

static void kill_often(uint64_t seed)
{
    for (int i = 0; i < KILLS; i++) {
        if (d.prog.pid == 0)
            exj_daemon_spawn(&d);
        cr_assert(exj_daemon_wait_ready(&d, 20000), "restart %d: not ready", i);
        cr_assert_eq(
            exj_prog_wait(&d.prog, 10 + (unsigned)(exj_test_random(&seed) % 100)), -1);
        tell(EXJ_HIST_FAULT, "kill", d.prog.pid);
        exj_prog_signal(&d.prog, SIGKILL);
        cr_assert_eq(exj_prog_wait(&d.prog, 10000), 1000 + SIGKILL);
    }
}

static void work(void)
{
    char input[128];

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
    exj_daemon_set(&d, "EXELLIX_JOBS_PREFETCH", "64");
    tell(EXJ_HIST_SETTINGS, "", 60000);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", "{\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    snprintf(input, sizeof input,
             "{\"count\":%d,\"page\":500,\"record\":{\"sleepMs\":3}}", ROWS);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage", input, ",\"maxAttempts\":1000");
    kill_often(exj_test_seed("check_history"));
    tell(EXJ_HIST_QUIET, "", 0);
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", ROWS, 60000), "rows are left");
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
}

/* Writes `to` in place of `from` in the last line that has `where`. */
static void break_line(const char *where, const char *from, const char *to)
{
    size_t n;
    char *all = exj_slurp(history, &n), *line = NULL, *at;
    FILE *f;

    cr_assert_eq(strlen(from), strlen(to));
    for (at = all; (at = strstr(at, where)); at++)
        line = at;
    cr_assert(line, "no %s", where);
    while (line > all && line[-1] != '\n')
        line--;
    at = strstr(line, from);
    cr_assert(at, "no %s in %.300s", from, line);
    memcpy(at, to, strlen(to));
    f = fopen(history, "w");
    cr_assert(f && fwrite(all, 1, n, f) == n && fclose(f) == 0);
    free(all);
}

Test(check_history, finds_nothing_broken_in_what_a_killed_daemon_recorded)
{
    json_t *report;
    char *findings;
    int status;

    work();
    report = check(&status);
    findings = json_dumps(json_object_get(report, "findings"), JSON_INDENT(1));
    cr_expect_str_eq(json_string_value(json_object_get(report, "verdict")), "valid", "%s",
                     findings);
    cr_expect_eq(status, 0);
    cr_expect_eq(count(report, "finalRows"), ROWS);
    cr_expect_geq(count(report, "enqueued"), ROWS / 2); /* others' enqueuer was killed */
    cr_expect_eq(count(report, "kills"), KILLS);
    cr_expect_geq(count(report, "completed"), ROWS / 2);
    cr_expect_gt(count(report, "expiries"), 0, "no kill hit a claim");
    fprintf(stderr, "check_history: %lld events, %lld expiries, %lld unknown\n",
            (long long)count(report, "events"), (long long)count(report, "expiries"),
            (long long)count(report, "unknownOutcomes"));
    free(findings);
    json_decref(report);

    break_line("\"to\":\"completed\"", "\"to\":\"completed\"", "\"to\":\"cancelled\"");
    break_line("\"op\":\"complete\",\"phase\":\"ok\"", "\"digest\":\"", "\"dIgest\":\"");
    report = check(&status);
    cr_expect_eq(status, 1, "a completion that nobody was told of is not found");
    json_decref(report);
}

Test(check_history, says_where_a_file_is_broken)
{
    const char *args[] = { "check-history", history, NULL }, *env[] = { NULL };
    exj_prog p;
    char *said;

    exj_spit(history, "{\"t\":1,\"actor\":\"a\",\"incarnation\":\"1\",\"op\":\"quiet\","
                      "\"phase\":\"ok\"}\n"
                      "{\"x\":2}\n");
    cr_expect_eq(exj_prog_run(&p, &d.tmp, PROGRAM, env, args, 20000), 6);
    said = exj_slurp(p.err, NULL);
    cr_expect(strstr(said, "history.jsonl:2"), "%s", said);
    free(said);
    exj_spit(history, "{\"t\":1,\"actor\":\"a\",\"incarnation\":\"1\",\"op\":\"quiet\","
                      "\"phase\":\"ok\"}\n"
                      "{\"t\":2,\"act\n"
                      "{\"t\":3,\"actor\":\"ho{\"t\":4,\"actor\":\"a\",\"incarnation\":\"1\","
                      "\"op\":\"quiet\",\"phase\":\"ok\"}\n"
                      "{\"t\":5,\"act");
    cr_expect_eq(exj_prog_run(&p, &d.tmp, PROGRAM, env, args, 20000), 8);
    said = exj_slurp(p.out, NULL);
    cr_expect(strstr(said, "incompleteLines\t3"), "%s", said);
    cr_expect(strstr(said, "events\t2"), "%s", said);
    free(said);
    args[1] = "nowhere.jsonl";
    cr_expect_eq(exj_prog_run(&p, &d.tmp, PROGRAM, env, args, 20000), 3);
}
