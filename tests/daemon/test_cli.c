/* The command line: what each command prints, with and without a daemon, and its statuses. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/daemon/cli_support.h"

TestSuite(cli, .init = cli_setup, .fini = cli_teardown);

#define GRAPH                                                                              \
    "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\"},"                                \
    "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}"
#define MATRIX(count, record) MATRIX_TRIES(count, record, 1)
#define MATRIX_TRIES(count, record, tries)                                                              \
    "{\"matrixCatalogId\":\"m1\",\"payload\":{\"input\":{\"count\":" #count                \
    ",\"record\":" record "},\"graphs\":[\"g1\"],\"maxAttempts\":" #tries ","                       \
    "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"test-source\"}}}"

static void apply_text(const char *text)
{
    exj_spit(exj_tmp_path(&tmp, "apply.json"), text);
    cr_assert_eq(RUN("apply", "-f", "apply.json"), 0, "%s", said_err);
}

/* ---- words, flags, help ----------------------------------------------------------------- */

Test(cli, a_wrong_command_line_is_one_line_with_the_nearest_match)
{
    static const struct {
        const char *args[5], *part;
    } cases[] = {
        { { "serv" }, "did you mean 'serve'" },
        { { "rows", "lst" }, "did you mean 'rows list'" },
        { { "rows" }, "needs one of: list, show, retry" },
        { { "xyzzyx" }, "'exellix-jobs help' lists them" },
        { { "run", "--mx", "3" }, "did you mean '--max'" },
        { { "graphs", "--jsn" }, "did you mean '--json'" },
        { { "serve", "--prt=1" }, "did you mean '--port'" },
        { { "rows", "list", "--max", "3" }, "'rows list' has no flag '--max'" },
        { { "rows", "show" }, "'rows show' needs ID" },
        { { "get", "graph", "a", "b" }, "'b' is too much" },
        { { "graphs", "--json=yes" }, "'--json' takes no value" },
        { { "serve", "--port" }, "'--port' needs a value" },
        { { "serve", "--port=" }, "--port: an empty value" },
        { { "rows", "list", "--limit", "0" }, "--limit=0: wanted a whole number" },
        { { "run", "--max", "-1" }, "--max=-1: wanted a whole number" },
        { { "run", "--until-idle", "--max=1" }, "exclude each other" },
        { { "apply" }, "needs -f" },
        { { "delete", "graph", "g" }, "needs --yes" },
        { { "-x" }, "unknown flag '-x'" },
        { { "help", "rowz" }, "did you mean 'rows'" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        expect_refusal(run_args(cases[i].args), 2, cases[i].part);
    expect_refusal(run_args((const char *const[]){ NULL }), 2, "no command given");
}

Test(cli, help_is_data_and_shows_two_examples)
{
    cr_expect_eq(RUN("help"), 0);
    cr_expect_not_null(strstr(said_out, "rows retry"));
    cr_expect_str_empty(said_err);
    cr_expect_eq(RUN("rows", "list", "--help"), 0);
    cr_expect_not_null(strstr(said_out, "--status"));
    cr_expect_not_null(strstr(said_out, "Examples:\n  exellix-jobs rows list"));
    cr_expect_eq(RUN("help", "rows", "list"), 0);
    cr_expect_not_null(strstr(said_out, "--status"));
    cr_expect_eq(RUN("-h"), 0);
    cr_expect_not_null(strstr(said_out, "Usage:"));
}

Test(cli, flags_may_stand_anywhere_and_two_dashes_end_them)
{
    apply_text(GRAPH);
    cr_expect_eq(RUN("--json", "get", "graph", "g1"), 0);
    cr_expect_eq(said_out[0], '{');
    cr_expect_eq(RUN("get", "--json", "graph", "--", "g1"), 0);
    expect_refusal(RUN("get", "graph", "--", "--json"), 3, "--json");
}

Test(cli, version_needs_nothing_and_a_full_standard_output_is_told)
{
    exj_prog p;
    static const char *const full[] = { "-c", PROGRAM " version > /dev/full", NULL };

    env[2] = "PORT=abc";
    cr_expect_eq(RUN("version"), 0);
    cr_expect_eq(strncmp(said_out, "exellix-jobs ", 13), 0);
    cr_expect_eq(exj_prog_run(&p, &tmp, "/bin/sh", env, full, 30000), 1);
}

/* ---- documents --------------------------------------------------------------------------- */

Test(cli, apply_refuses_bad_documents_with_one_line_and_writes_nothing)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        { "{", "not valid JSON" },
        { "", "empty" },
        { "{\"graphId\":\"g1\"} x", "not valid JSON" },
        { "{\"a\":1}", "none of graphId" },
        { "7", "wanted an object" },
        { "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g2\"}}", "payload.graphId" },
        { "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\"},\"publicatonStatus\":\"Draft\"}",
          "publicationStatus" },
        { "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":"
          "{\"concurrency\":-1}}}", "concurrency" },
        { "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":"
          "{\"priority\":1e400}}}", "number" },
        { "{\"graphId\":\"g\\u0000\",\"payload\":{\"graphId\":\"g\"}}", "" },
        { "{\"graphId\":\"\xff\"}", "UTF-8" },
        { "{\"graphId\":\"a\",\"graphId\":\"b\"}", "" },
        { "{\"graphId\":\"g\",\"matrixCatalogId\":\"m\"}", "which one" },
        { "[" GRAPH "," GRAPH "]", "is also in" },
        { "{\"kind\":\"thing\",\"items\":[]}", "kind: wanted graph, matrix or schedule" },
        { GRAPH "\n{\"graphId\":3}\n", ":2: graphId: wanted a string" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[],\"dataSource\":"
          "{\"kind\":\"event\"}}}", "payload.graphs" },
    };
    char *deep = malloc(3000);

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_spit(exj_tmp_path(&tmp, "bad.json"), cases[i].text);
        expect_refusal(RUN("apply", "-f", "bad.json"), 6, cases[i].part);
        cr_expect(strstr(said_err, "bad.json") != NULL, "%s", said_err);
    }
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    deep[2000] = '\0';
    exj_spit(exj_tmp_path(&tmp, "bad.json"), deep);
    free(deep);
    expect_refusal(RUN("apply", "-f", "bad.json"), 6, "deep");
    expect_refusal(RUN("apply", "-f", "absent.json"), 3, "absent.json");
    expect_refusal(RUN("graphs"), 3, "no store in"); /* not even a store was made */
}

Test(cli, apply_is_all_or_nothing_when_one_document_is_wrong)
{
    apply_text(GRAPH);
    exj_spit(exj_tmp_path(&tmp, "two.json"),
             "[{\"graphId\":\"g2\",\"payload\":{\"graphId\":\"g2\"}},"
             "{\"graphId\":\"g3\",\"payload\":{\"graphId\":\"other\"}}]");
    expect_refusal(RUN("apply", "-f", "two.json"), 6, "two.json#2");
    expect_refusal(RUN("get", "graph", "g2"), 3, "g2");
}

Test(cli, apply_takes_an_array_lines_a_list_a_folder_and_standard_input)
{
    exj_prog p;
    static const char *const piped[] = { "-c", "echo '" GRAPH "' | " PROGRAM " apply -f -",
                                         NULL };

    exj_spit(exj_tmp_path(&tmp, "a.json"),
             "[{\"graphId\":\"a1\",\"payload\":{\"graphId\":\"a1\"}}]");
    cr_expect_eq(RUN("apply", "-f", "a.json"), 0, "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "a.json"),
             "{\"graphId\":\"a2\",\"payload\":{\"graphId\":\"a2\"}}\n"
             "{\"graphId\":\"a3\",\"payload\":{\"graphId\":\"a3\"}}\n");
    cr_expect_eq(RUN("apply", "-fa.json"), 0, "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "a.json"),
             "{\"kind\":\"graph\",\"items\":[{\"graphId\":\"a4\",\"payload\":"
             "{\"graphId\":\"a4\"}}]}");
    cr_expect_eq(RUN("apply", "--file=a.json"), 0, "%s", said_err);
    cr_expect_eq(mkdir(exj_tmp_path(&tmp, "dir"), 0700), 0);
    exj_spit(exj_tmp_path(&tmp, "dir/m.json"), MATRIX(1, "{}"));
    exj_spit(exj_tmp_path(&tmp, "dir/z.json"), GRAPH);
    exj_spit(exj_tmp_path(&tmp, "dir/notes.txt"), "not JSON");
    cr_expect_eq(RUN("apply", "-f", "dir"), 0, "%s", said_err);
    cr_expect_eq(exj_prog_run(&p, &tmp, "/bin/sh", env, piped, 30000), 0);
    cr_expect_eq(RUN("get", "graph"), 0);
    cr_expect_eq(lines_of(said_out), 5, "%s", said_out);
    cr_expect_eq(RUN("get", "matrix"), 0);
    cr_expect_eq(strncmp(said_out, "m1\t1\t", 5), 0, "%s", said_out);
}

Test(cli, dry_run_shows_the_difference_and_changes_nothing)
{
    apply_text(GRAPH);
    exj_spit(exj_tmp_path(&tmp, "new.json"),
             "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":"
             "{\"priority\":7}}}");
    cr_expect_eq(RUN("apply", "-f", "new.json", "--dry-run"), 0);
    cr_expect_not_null(strstr(said_out, "graph g1 updated (version 2) (dry run)"), "%s",
                       said_out);
    cr_expect_not_null(strstr(said_out, "/payload/execution"), "%s", said_out);
    cr_expect_eq(RUN("graphs"), 0);
    cr_expect_str_eq(said_out, "g1\tPublished\tRunning\t1\t-\n");
    cr_expect_eq(RUN("delete", "graph", "g1", "--dry-run"), 0);
    cr_expect_eq(RUN("delete", "graph", "g1", "--yes"), 0);
    expect_refusal(RUN("delete", "graph", "g1", "--yes"), 3, "g1");
}

/* ---- run and rows -------------------------------------------------------------------------- */

Test(cli, run_does_what_is_there_and_sums_it_up)
{
    json_t *o;

    apply_text("[" GRAPH "," MATRIX(10, "{}") "]");
    cr_assert_eq(RUN("run", "--executor", "test-engine", "--max", "4", "--json"), 0, "%s",
                 said_err);
    o = said_json();
    cr_expect_eq(json_integer_value(json_object_get(o, "materialized")), 10);
    cr_expect_eq(json_integer_value(json_object_get(o, "completed")), 4);
    json_decref(o);
    cr_assert_eq(RUN("run", "--executor", "test-engine"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "0 new rows, 6 completed"), "%s", said_out);
    cr_assert_eq(RUN("rows", "list", "--status", "completed", "--limit", "3"), 0);
    cr_expect_eq(lines_of(said_out), 3, "%s", said_out);
    cr_expect_not_null(strstr(said_err, "--after "), "%s", said_err);
    expect_refusal(RUN("rows", "list", "--status", "done"), 6, "done");
    cr_assert_eq(RUN("matrices"), 0);
    cr_expect_str_eq(said_out, "m1\trecord\t1\tg1\t0\t0\t10\t0\t0\n");
}

Test(cli, run_with_dead_rows_says_so_and_they_can_be_retried)
{
    apply_text("[" GRAPH "," MATRIX(2, "{\"then\":\"failed\"}") "]");
    cr_assert_eq(RUN("run", "--executor", "test-engine"), 8, "%s", said_err);
    cr_assert_eq(RUN("rows", "show", "m1||g1|r-0000001", "--json"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "\"failed\""));
    cr_assert_eq(RUN("rows", "retry", "m1||g1|r-0000001"), 0, "%s", said_err);
    cr_assert_eq(RUN("rows", "list", "--status", "queued"), 0);
    cr_expect_eq(lines_of(said_out), 1);
    expect_refusal(RUN("rows", "show", "m1||g1|none"), 3, "none");
    expect_refusal(RUN("rows", "show", "nonsense"), 6, "nonsense");
}

Test(cli, run_refuses_a_matrix_or_an_executor_that_is_not_there)
{
    apply_text(GRAPH);
    expect_refusal(RUN("run", "--matrix", "none"), 3, "no matrix \"none\"");
    cr_expect_eq(RUN("run", "--executor", "nope"), 3);
    cr_expect_not_null(strstr(said_err, "nope"));
}

Test(cli, a_data_folder_that_cannot_be_is_one_line)
{
    exj_spit(exj_tmp_path(&tmp, "file"), "");
    env[0] = "EXELLIX_JOBS_DATA_DIR=file/data";
    expect_refusal(RUN("serve", "--port", "0"), 1, "file/data");
    expect_refusal(RUN("status"), 3, "no store in file/data");
}

Test(cli, errors_are_json_when_json_is_wanted)
{
    json_t *o;

    apply_text(GRAPH);
    cr_expect_eq(RUN("get", "graph", "none", "--json"), 3);
    o = json_loads(said_err, 0, NULL);
    cr_expect_not_null(o, "%s", said_err);
    cr_expect_str_eq(json_string_value(json_object_get(o, "code")), "ConfigStoreNotFoundError");
    json_decref(o);
}

static bool three_run(void *user)
{
    (void)user;
    return RUN("status") == 0 && strstr(said_out, "activeJobs\t3\n");
}

Test(cli, run_ends_with_130_at_a_signal_and_at_once_at_the_second)
{
    static const char *const args[] = { "run", "--executor=test-engine", NULL };
    exj_prog p;

    apply_text("[" GRAPH "," MATRIX_TRIES(3, "{\"gate\":\"gate\"}", 2) "]");
    exj_prog_start(&p, &tmp, PROGRAM, env, args);
    cr_assert(exj_until(three_run, NULL, p.pidfd, 20, 20000)); /* asks the one that runs */
    exj_prog_signal(&p, SIGINT);
    cr_expect_eq(exj_prog_wait(&p, 300), -1, "it waits for what runs");
    exj_prog_signal(&p, SIGTERM);
    cr_expect_eq(exj_prog_wait(&p, 5000), 130);
    exj_spit(exj_tmp_path(&tmp, "gate"), "");
    cr_expect_eq(RUN("run", "--executor=test-engine"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "3 completed"), "%s", said_out);
}

/* ---- plugins -------------------------------------------------------------------------------- */

Test(cli, plugin_commands_need_no_store)
{
    cr_assert_eq(RUN("plugin", "list"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "test-engine\t7.8.9\tgraph-engine"), "%s", said_out);
    cr_expect_not_null(strstr(said_out, "exellix.stub"), "%s", said_out);
    cr_assert_eq(RUN("plugin", "inspect", "stub"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "exellix.stub"));
    cr_assert_eq(RUN("plugin", "inspect", EXJ_BINARY_DIR "/bin/plugins/stub.so"), 0, "%s",
                 said_err);
    cr_assert_eq(RUN("plugin", "check", "stub"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "ok\t"));
    expect_refusal(RUN("plugin", "inspect", "nope"), 3, "nope");
    expect_refusal(RUN("plugin", "check", "./nope.so"), 3, "nope.so");
    exj_spit(exj_tmp_path(&tmp, "bad.so"), "not ELF");
    cr_expect_eq(RUN("plugin", "check", "./bad.so"), 6, "%s", said_err);
    cr_expect_eq(access(exj_tmp_path(&tmp, "data"), F_OK), -1);
}

/* ---- beside a daemon ------------------------------------------------------------------------ */

static exj_daemon d;

static void daemon_setup(void)
{
    exj_daemon_init(&d);
    tmp = d.tmp;
    snprintf(env_data, sizeof(env_data), "EXELLIX_JOBS_DATA_DIR=%s",
             exj_tmp_path(&tmp, "data"));
    snprintf(env_plugins, sizeof(env_plugins), "EXELLIX_JOBS_PLUGINS_DIR=%s",
             EXJ_BINARY_DIR "/tests/plugins");
    env[0] = env_data;
    env[1] = env_plugins;
}

static void daemon_teardown(void)
{
    free(said_out);
    free(said_err);
    exj_daemon_release(&d);
    exj_support_clean();
}

TestSuite(cli_daemon, .init = daemon_setup, .fini = daemon_teardown);

Test(cli_daemon, every_command_works_beside_it)
{
    cr_assert(exj_daemon_start(&d));
    apply_text("[" GRAPH "," MATRIX(5, "{}") "]");
    cr_assert(exj_daemon_wait_done(&d, "m1", 5, 20000));
    cr_expect_eq(RUN("graphs"), 0);
    cr_expect_str_eq(said_out, "g1\tPublished\tRunning\t1\tm1\n");
    cr_expect_eq(RUN("matrices"), 0);
    cr_expect_str_eq(said_out, "m1\trecord\t1\tg1\t0\t0\t5\t0\t0\n");
    cr_expect_eq(RUN("status"), 0);
    cr_expect_not_null(strstr(said_out, "paused\tfalse"), "%s", said_out);
    cr_expect_eq(RUN("pause"), 0);
    cr_expect_eq(RUN("status", "--json"), 0);
    cr_expect_not_null(strstr(said_out, "\"paused\":true"), "%s", said_out);
    cr_expect_eq(RUN("resume"), 0);
    cr_expect_eq(RUN("rows", "list"), 0);
    cr_expect_eq(lines_of(said_out), 5);
    cr_expect_eq(RUN("rows", "show", "m1||g1|r-0000001"), 0);
    expect_refusal(RUN("rows", "retry", "m1||g1|none"), 3, "none");
    cr_expect_eq(RUN("get", "matrix", "m1"), 0);
    cr_expect_eq(RUN("delete", "matrix", "m1", "--yes"), 0);
    expect_refusal(RUN("get", "matrix", "m1"), 3, "m1");
    cr_expect_eq(exj_daemon_stop(&d, 20000), 0);
    /* and the same store without it */
    cr_expect_eq(RUN("graphs"), 0);
    cr_expect_str_eq(said_out, "g1\tPublished\tRunning\t1\t-\n");
    expect_refusal(RUN("pause"), 7, "no worker runs on");
}

Test(cli_daemon, a_second_worker_is_told_who_holds_the_store)
{
    char pid[32];

    cr_assert(exj_daemon_start(&d));
    snprintf(pid, sizeof(pid), "pid %ld ", (long)d.prog.pid);
    expect_refusal(RUN("run"), 7, pid);
    expect_refusal(RUN("serve", "--port=0"), 7, pid);
    cr_expect_eq(exj_daemon_stop(&d, 20000), 0);
}

Test(cli_daemon, http_off_leaves_the_local_socket)
{
    static const char *const args[] = { "serve", "--http=false", NULL };
    exj_prog p;

    exj_prog_start(&p, &tmp, PROGRAM, env, args);
    for (int i = 0; i < 2000 && RUN("pause") != 0 && exj_prog_is_running(&p); i++)
        ;
    cr_expect_eq(RUN("resume"), 0, "%s", said_err);
    exj_prog_signal(&p, SIGINT);
    cr_expect_eq(exj_prog_wait(&p, 20000), 0);
}
