/* Hosts without a daemon: tick, run, exec, and the files of examples/oneshot that use them. */
#include <poll.h>
#include <signal.h>

#include "cli_support.h"
#include "tests/support/wall_clock.h"

#define EXAMPLES EXJ_SOURCE_DIR "/examples/oneshot/"

static struct wall_clock wall;
static char env_clock[400], env_engine[100], env_preload[400], env_sinks[400], env_lane[60];

static void setup(void)
{
    cli_setup();
    wall_open(&wall, &tmp, "2026-03-01T00:10:00Z");
    snprintf(env_clock, sizeof(env_clock), "EXJ_TEST_CLOCK=%s", wall.path);
    snprintf(env_preload, sizeof(env_preload), "LD_PRELOAD=%s", WALL_CLOCK_LIBRARY);
    snprintf(env_engine, sizeof(env_engine), "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP=test-engine");
    snprintf(env_lane, sizeof(env_lane), "EXELLIX_JOBS_PLUGINS_ISOLATION=in-process");
    env[2] = env_clock;
    env[3] = env_preload;
    env[4] = env_engine;
    env[5] = env_lane;
    env[6] = NULL;
}

TestSuite(oneshot, .init = setup, .fini = cli_teardown, .timeout = 100);

/* A graph, a matrix of rows that are pushed, and a schedule each full hour. */
static void apply(const char *retry, const char *input)
{
    char text[1500];

    snprintf(text, sizeof(text),
             "[{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"operationalState\":"
             "\"Ready\",\"payload\":{\"graphId\":\"g\",\"execution\":{%s}}},"
             "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"dataSource\":{"
             "\"kind\":\"event\"}}},"
             "{\"scheduleId\":\"s\",\"payload\":{\"cron\":\"0 * * * *\",\"missed\":\"all\","
             "\"start\":{\"matrixCatalogId\":\"m\",\"input\":%s}}}]",
             retry, input);
    exj_spit(exj_tmp_path(&tmp, "c.json"), text);
    cr_assert_eq(RUN("apply", "-f", exj_tmp_path(&tmp, "c.json")), 0, "%s", said_err);
}

static int64_t said(const char *key)
{
    json_t *o = said_json();
    int64_t n = json_integer_value(json_object_get(o, key));

    cr_assert(json_is_integer(json_object_get(o, key)), "no %s in %s", key, said_out);
    json_decref(o);
    return n;
}

/* ---- tick ---------------------------------------------------------------------------------- */

/* spec 2.9: The same engine runs one-shot, for cron jobs and functions:
 * `exellix-jobs run --max 100` (claim and execute what is there, then exit),
 * `exellix-jobs tick` (reap leases, resume due rows, flush the outbox, fire due schedules, once),
 * `exellix-jobs exec ROW` (one row). Each prints counts, and JSON with `--json`. */
Test(oneshot, tick_fires_what_is_due_once_and_run_executes_it)
{
    json_t *o;

    apply("", "{}");
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("ticks"), 0);
    o = said_json();
    cr_expect_str_eq(json_string_value(json_object_get(o, "nextDue")),
                     "2026-03-01T01:00:00.000Z");
    json_decref(o);
    wall_set(&wall, "2026-03-01T03:00:30Z");
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("ticks"), 3);
    cr_expect_eq(said("rows"), 3);
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("ticks"), 0);
    cr_assert_eq(RUN("run", "--max", "2", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("claimed"), 2);
    cr_expect_eq(said("completed"), 2);
    cr_assert_eq(RUN("run", "--max", "100", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("claimed"), 1);
    cr_expect_eq(said("open"), 0);
    cr_assert_eq(RUN("tick"), 0);
    cr_expect(strstr(said_out, "0 ticks"), "%s", said_out);
    cr_expect_eq(lines_of(said_out), 1);
}

Test(oneshot, tick_queues_rows_whose_time_has_come)
{
    apply("\"retry\":{\"initialSeconds\":7200,\"maxSeconds\":7200,\"factor\":1,\"jitter\":0}",
          "{\"failTimes\":1}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick"), 0, "%s", said_err);
    cr_assert_eq(RUN("schedules", "pause", "s"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--max", "1", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("retried"), 1);
    wall_set(&wall, "2026-03-01T02:50:00Z");
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("due"), 0);
    wall_set(&wall, "2026-03-01T03:10:00Z");
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("due"), 1);
    cr_expect_eq(said("ticks"), 0);
    cr_assert_eq(RUN("run", "--max", "1", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("completed"), 1);
}

static bool has_effect(void *user)
{
    char *text = exj_slurp(user, NULL);
    bool has = strstr(text, "B ") != NULL;

    free(text);
    return has;
}

Test(oneshot, tick_takes_back_the_rows_of_a_run_that_was_killed)
{
    static const char *const args[] = { "run", "--max", "1", NULL };
    char effects[400];
    exj_prog p;

    apply("", "{\"sleepMs\":60000}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick"), 0, "%s", said_err);
    snprintf(effects, sizeof(effects), "EXJ_TEST_EFFECTS=%s", exj_tmp_path(&tmp, "effects"));
    env[6] = effects;
    exj_prog_start(&p, &tmp, PROGRAM, env, args);
    cr_assert(exj_until(has_effect, effects + strlen("EXJ_TEST_EFFECTS="), p.pidfd, 5, 20000));
    cr_expect_eq(RUN("tick", "--json"), 7); /* the store is held: its holder does this */
    exj_prog_signal(&p, SIGKILL);
    exj_prog_wait(&p, 10000);
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("reaped"), 1);
    cr_expect_eq(said("dead"), 0);
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("reaped"), 0);
}

Test(oneshot, tick_delivers_events_once)
{
    char sinks[1000], *text;

    apply("", "{}");
    snprintf(sinks, sizeof(sinks),
             "{\"sinks\":[{\"name\":\"file\",\"plugin\":\"%s\",\"from\":\"start\",\"isolation\":"
             "\"in-process\",\"config\":{\"path\":\"%s\"}}]}",
             EXJ_BINARY_DIR "/bin/plugins/sink-file.so", exj_tmp_path(&tmp, "events.jsonl"));
    exj_spit(exj_tmp_path(&tmp, "sinks.json"), sinks);
    snprintf(env_sinks, sizeof(env_sinks), "EXELLIX_JOBS_SINKS=%s",
             exj_tmp_path(&tmp, "sinks.json"));
    env[6] = env_sinks;
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("delivered"), 1);
    text = exj_slurp(exj_tmp_path(&tmp, "events.jsonl"), NULL);
    cr_expect_eq(lines_of(text), 1, "%s", text);
    cr_expect(strstr(text, "s@2026-03-01T01:00:00Z"), "%s", text);
    free(text);
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("delivered"), 0);
}

Test(oneshot, tick_tells_of_a_schedule_that_cannot_start)
{
    exj_spit(exj_tmp_path(&tmp, "s.json"),
             "{\"scheduleId\":\"s\",\"payload\":{\"cron\":\"0 * * * *\",\"start\":{"
             "\"matrixCatalogId\":\"none\"}}}");
    cr_assert_eq(RUN("apply", "-f", exj_tmp_path(&tmp, "s.json")), 0, "%s", said_err);
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_expect_eq(RUN("tick", "--json"), 1);
    cr_expect_eq(said("schedulesFailed"), 1);
    cr_expect_eq(RUN("schedules", "list"), 0);
    cr_expect(strstr(said_out, "none"), "%s", said_out);
}

/* ---- exec ------------------------------------------------------------------------------------ */

Test(oneshot, exec_runs_one_row_and_no_other)
{
    static const char id[] = "m||g|s@2026-03-01T02:00:00Z";
    json_t *all, *o;

    apply("", "{}");
    wall_set(&wall, "2026-03-01T03:00:30Z");
    cr_assert_eq(RUN("tick"), 0, "%s", said_err);
    cr_assert_eq(RUN("exec", id, "--json"), 0, "%s", said_err);
    cr_expect_eq(said("claimed"), 1);
    cr_expect_eq(said("completed"), 1);
    all = said_json();
    o = json_object_get(all, "row");
    cr_expect_str_eq(json_string_value(json_object_get(o, "matrixRowId")), id);
    cr_expect_str_eq(json_string_value(json_object_get(o, "status")), "completed");
    cr_expect(json_is_false(json_object_get(o, "replayed")));
    json_decref(all);
    cr_assert_eq(RUN("rows", "list", "--status", "queued"), 0);
    cr_expect_eq(lines_of(said_out), 2, "%s", said_out);
    /* Again: its receipt, and nothing runs. */
    cr_assert_eq(RUN("exec", id, "--json"), 0, "%s", said_err);
    cr_expect_eq(said("claimed"), 0);
    all = said_json();
    cr_expect(json_is_true(json_object_get(json_object_get(all, "row"), "replayed")));
    json_decref(all);
}

Test(oneshot, exec_tells_how_a_row_ended)
{
    apply("\"maxAttempts\":1", "{\"then\":\"failed\"}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick"), 0, "%s", said_err);
    cr_expect_eq(RUN("exec", "m||g|s@2026-03-01T01:00:00Z"), 8);
    cr_expect(strstr(said_out, "failed"), "%s", said_out);
}

Test(oneshot, exec_refuses_what_is_not_queued_with_the_tables_reason)
{
    apply("\"retry\":{\"initialSeconds\":7200,\"maxSeconds\":7200,\"factor\":1,\"jitter\":0}",
          "{\"failTimes\":1}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick"), 0, "%s", said_err);
    cr_assert_eq(RUN("exec", "m||g|s@2026-03-01T01:00:00Z"), 8, "%s", said_err);
    expect_refusal(RUN("exec", "m||g|s@2026-03-01T01:00:00Z"), 5, "is waiting: ");
    expect_refusal(RUN("exec", "m||g|none"), 3, "none");
    expect_refusal(RUN("exec", "not-a-row"), 6, "not-a-row");
}

Test(oneshot, exec_says_why_a_graph_cannot_run)
{
    apply("", "{}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick"), 0, "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "g.json"),
             "{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"operationalState\":"
             "\"Paused\"}");
    cr_assert_eq(RUN("apply", "-f", exj_tmp_path(&tmp, "g.json")), 0, "%s", said_err);
    cr_expect_eq(RUN("exec", "m||g|s@2026-03-01T01:00:00Z"), 1);
    cr_expect(strstr(said_err, "Paused"), "%s", said_err);
}

/* ---- cycles that schedules ask for --------------------------------------------------------- */

Test(oneshot, a_cycle_that_tick_asks_for_is_done_by_run_and_its_rows_too)
{
    exj_spit(exj_tmp_path(&tmp, "c.json"),
             "[{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"operationalState\":"
             "\"Ready\"},{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
             "\"input\":{\"count\":4},\"trigger\":\"schedule\",\"dataSource\":{\"kind\":"
             "\"record\",\"resolver\":\"test-source\"}}},{\"scheduleId\":\"s\",\"payload\":{"
             "\"cron\":\"0 * * * *\",\"start\":{\"matrixCatalogId\":\"m\",\"run\":true}}}]");
    cr_assert_eq(RUN("apply", "-f", exj_tmp_path(&tmp, "c.json")), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("scanned"), 0);
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_assert_eq(RUN("tick", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("cycles"), 1);
    cr_assert_eq(RUN("run", "--max", "3", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("completed"), 3);
    cr_assert_eq(RUN("run", "--json"), 0, "%s", said_err);
    cr_expect_eq(said("scanned"), 0);
    cr_expect_eq(said("completed"), 1);
    cr_assert_eq(RUN("rows", "list", "--run", "s@2026-03-01T01:00:00Z"), 0);
    cr_expect_eq(lines_of(said_out), 4, "%s", said_out);
}

/* ---- the files of the example ---------------------------------------------------------------- */

/* Run `command` as cron or systemd would, with our program on the PATH. */
static int shell(const char *command)
{
    const char *args[] = { "-c", NULL, NULL };
    char script[2000];
    exj_prog p;
    int status;

    snprintf(script, sizeof(script), "PATH=%s/bin:$PATH; export PATH; %s", EXJ_BINARY_DIR,
             command);
    args[1] = script;
    status = exj_prog_run(&p, &tmp, "/bin/sh", env, args, 60000);
    free(said_out);
    free(said_err);
    said_out = exj_slurp(p.out, NULL);
    said_err = exj_slurp(p.err, NULL);
    return status;
}

static void expect_a_pass(void)
{
    cr_expect(strstr(said_out, "\"ticks\":1"), "%s%s", said_out, said_err);
    cr_expect(strstr(said_out, "\"completed\":1"), "%s%s", said_out, said_err);
    cr_expect_eq(lines_of(said_out), 2, "%s", said_out);
}

Test(oneshot, the_line_of_the_crontab_does_a_pass)
{
    char *text = exj_slurp(EXAMPLES "crontab", NULL), *line = strstr(text, "\n* * * * *");
    char *command;

    cr_assert(line);
    command = strstr(line, " exellix-jobs "); /* behind the five fields: the user */
    cr_assert(command);
    command += strlen(" exellix-jobs ");
    command[strcspn(command, "\n")] = '\0';
    cr_expect(!strchr(command, '%'), "cron takes %% for a line break");
    apply("", "{}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_expect_eq(shell(command), 0, "%s", said_err);
    expect_a_pass();
    free(text);
}

Test(oneshot, the_lines_of_the_systemd_service_do_a_pass)
{
    char *text = exj_slurp(EXAMPLES "exellix-jobs-oneshot.service", NULL), all[1000] = "";

    for (char *at = text; (at = strstr(at, "\nExecStart=")) != NULL;) {
        at += strlen("\nExecStart=");
        at += *at == '-';
        cr_assert(strncmp(at, "/usr/bin/", 9) == 0);
        at += 9;
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%.*s; ",
                 (int)strcspn(at, "\n"), at);
    }
    apply("", "{}");
    wall_set(&wall, "2026-03-01T01:00:30Z");
    cr_expect_eq(shell(all), 0, "%s", said_err);
    expect_a_pass();
    free(text);
}

/* Where there is systemd. The program is not installed where the unit looks for it: a copy of
 * the unit names ours. */
Test(oneshot, systemd_finds_nothing_wrong_with_the_units)
{
    static const char script[] =
        "command -v systemd-analyze >/dev/null || exit 0; mkdir units && cd units && "
        "cp " EXAMPLES "*.timer . && sed 's|/usr/bin/exellix-jobs|" PROGRAM "|; s|^User=.*||' "
        EXAMPLES "exellix-jobs-oneshot.service >exellix-jobs-oneshot.service && "
        "systemd-analyze verify ./exellix-jobs-oneshot.service ./exellix-jobs-oneshot.timer";

    env[2] = NULL; /* its own clock */
    cr_expect_eq(shell(script), 0, "%s%s", said_out, said_err);
    cr_expect(!strstr(said_err, "exellix-jobs-oneshot"), "%s", said_err);
}
