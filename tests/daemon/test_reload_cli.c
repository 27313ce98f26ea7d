/* What an operator sees and does of a plugin's versions, with the real program, on two lanes. */
#include "cli_support.h"

#include <sys/stat.h>
#include <unistd.h>

#define VARIANTS EXJ_BINARY_DIR "/tests/daemon/reload"
#define ID "acme.turn"

static exj_daemon d;
static unsigned made; /* matrices */

static void copy(const char *from, const char *to)
{
    size_t n;
    char *p = exj_slurp(from, &n);
    FILE *f = fopen(to, "wb");

    cr_assert(f && n, "%s", from);
    cr_assert_eq(fwrite(p, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
    free(p);
}

/* Copy beside and rename. */
static void drop(const char *version)
{
    char from[400], beside[300], at[300];

    snprintf(from, sizeof(from), VARIANTS "/turn-%s.so", version);
    snprintf(beside, sizeof(beside), "%s", exj_tmp_path(&d.tmp, "plugins/.turn.so.new"));
    snprintf(at, sizeof(at), "%s", exj_tmp_path(&d.tmp, "plugins/turn.so"));
    copy(from, beside);
    cr_assert_eq(rename(beside, at), 0);
}

static void start(const char *lane, const char *version)
{
    exj_daemon_init(&d);
    tmp = d.tmp; /* commands work in the same folder, with the same data */
    cr_assert_eq(mkdir(exj_tmp_path(&d.tmp, "plugins"), 0700), 0);
    copy(EXJ_BINARY_DIR "/tests/plugins/test-source.so",
         exj_tmp_path(&d.tmp, "plugins/test-source.so"));
    drop(version);
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_DIR", "%s", exj_tmp_path(&d.tmp, "plugins"));
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "%s", lane);
    exj_daemon_set(&d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", ID);
    snprintf(env_data, sizeof(env_data), "EXELLIX_JOBS_DATA_DIR=%s",
             exj_tmp_path(&d.tmp, "data"));
    snprintf(env_plugins, sizeof(env_plugins), "EXELLIX_JOBS_PLUGINS_DIR=%s",
             exj_tmp_path(&d.tmp, "plugins"));
    env[0] = env_data;
    env[1] = env_plugins;
    made = 0;
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
}

static void end(void)
{
    int status = d.prog.pid > 0 ? exj_daemon_stop(&d, 20000) : 0;

    cr_expect_eq(status, 0, "the daemon ended with %d", status);
    free(said_out);
    free(said_err);
    said_out = said_err = NULL;
    exj_daemon_release(&d);
}

/* One body, on two lanes. */
#define ON_BOTH_LANES(name, version)         \
    static void name(void);                  \
    Test(reload_cli, name##_in_process)      \
    {                                        \
        start("in-process", version);        \
        name();                              \
        end();                               \
    }                                        \
    Test(reload_cli, name##_in_a_host)       \
    {                                        \
        start("host", version);              \
        name();                              \
        end();                               \
    }                                        \
    static void name(void)

/* ---- looking ------------------------------------------------------------------------------------- */

static json_t *get(const char *path)
{
    json_t *o = NULL;
    int status = exj_daemon_call(&d, "GET", path, NULL, &o);

    cr_assert_eq(status, 200, "%s: %d", path, status);
    return o;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void add_rows(int count, char ret_matrix[32])
{
    char input[60];

    snprintf(ret_matrix, 32, "m%u", made++);
    snprintf(input, sizeof(input), "{\"count\":%d,\"record\":{}}", count);
    exj_daemon_matrix(&d, ret_matrix, "[\"g\"]", "record", input, "");
}

/* The version that answered the next new row. */
static void next_version(char ret[16])
{
    char matrix[32], path[100];
    json_t *row;

    add_rows(1, matrix);
    cr_assert(exj_daemon_wait_done(&d, matrix, 1, 20000));
    snprintf(path, sizeof(path), "/v1/rows/%s%%7C%%7Cg%%7Cr-0000000", matrix);
    row = get(path);
    snprintf(ret, 16, "%s", text_of(json_object_get(json_object_get(row, "result"),
                                                    "outputsByNodeId"), "version"));
    json_decref(row);
}

static bool is_answered_by(void *version)
{
    char now[16];

    next_version(now);
    return strcmp(now, version) == 0;
}

static void wait_version(const char *version)
{
    int64_t began = exj_test_now_ms();
    char wanted[16];

    snprintf(wanted, sizeof(wanted), "%s", version);
    cr_assert(exj_until(is_answered_by, wanted, d.prog.pidfd, 5, 5000),
              "no new row is answered by %s within 5 s", version);
    fprintf(stderr, "new rows are answered by %s after %lld ms\n", version,
            (long long)(exj_test_now_ms() - began));
}

static void expect_version(const char *version)
{
    char now[16];

    next_version(now);
    cr_expect_str_eq(now, version);
}

/* The executor of this plugin, as GET /plugins shows it. New reference. */
static json_t *executor(void)
{
    json_t *body = get("/v1/plugins"), *x, *found = NULL;
    size_t i;

    json_array_foreach(json_object_get(body, "executors"), i, x)
        if (!strcmp(text_of(x, "plugin"), ID))
            found = json_incref(x);
    json_decref(body);
    cr_assert_not_null(found);
    return found;
}

/* The first generation of the plugin in this state. New reference; NULL: none. */
static json_t *generation_in(const char *state)
{
    json_t *body = get("/v1/plugins"), *p, *found = NULL;
    size_t i;

    json_array_foreach(json_object_get(body, "plugins"), i, p)
        if (!found && !strcmp(text_of(p, "id"), ID) && !strcmp(text_of(p, "state"), state))
            found = json_incref(p);
    json_decref(body);
    return found;
}

static bool is_refused(void *unused)
{
    json_t *x = executor();
    bool refused = *text_of(x, "refusal");

    (void)unused;
    json_decref(x);
    return refused;
}

static bool is_proven(void *unused)
{
    json_t *x = executor();
    bool proven = !strcmp(text_of(x, "state"), "current") &&
                  !json_array_size(json_object_get(x, "draining"));

    (void)unused;
    json_decref(x);
    return proven;
}

/* 50 good rows prove a version that is watched. These are more, so that there is the traffic for
 * a canary: an order is not content with a share. */
static void prove(void)
{
    char matrix[32];

    add_rows(200, matrix);
    cr_assert(exj_daemon_wait_done(&d, matrix, 200, 20000));
    cr_assert(exj_until(is_proven, NULL, d.prog.pidfd, 20, 10000), "it is still watched");
}

/* Does the history name this event of this version? Through the command. */
static bool history_has(const char *event, const char *version)
{
    char part[80];

    cr_assert_eq(RUN("plugin", "history", ID), 0, "%s", said_err);
    snprintf(part, sizeof(part), "\t%s\t%s\t", event, version);
    return strstr(said_out, part) != NULL;
}

static char *detail_of_health(int *ret_status)
{
    json_t *o = NULL;
    char *text;

    *ret_status = exj_daemon_call(&d, "GET", "/v1/health?probe=dependencies", NULL, &o);
    text = strdup(text_of(json_object_get(json_object_get(o, "checks"), "plugins"), "detail"));
    json_decref(o);
    return text;
}

/* ---- the day of an operator -------------------------------------------------------------------------- */

ON_BOTH_LANES(a_new_version_is_taken_shown_and_rolled_back, "1.0.0")
{
    json_t *g, *o;
    char sha[65];

    wait_version("1.0.0");
    g = generation_in("current");
    cr_assert_not_null(g);
    cr_expect_eq(exj_daemon_metric(&d, "exellix_jobs_plugin_info", "version=\"1.0.0\""), 1);
    cr_expect_eq(exj_daemon_metric(&d, "exellix_jobs_plugin_generations", "\"current\""), 1);
    cr_expect_str_eq(text_of(g, "version"), "1.0.0");
    cr_expect_eq(strlen(text_of(g, "sha256")), 64);
    cr_expect_geq(json_integer_value(json_object_get(g, "calls")), 1);
    cr_expect_eq(json_integer_value(json_object_get(g, "errors")), 0);
    cr_expect_gt(json_number_value(json_object_get(g, "p50Ms")), 0);
    cr_expect_geq(json_number_value(json_object_get(g, "p99Ms")),
                  json_number_value(json_object_get(g, "p50Ms")));
    cr_expect_gt(json_integer_value(json_object_get(g, "uses")), 0);
    snprintf(sha, sizeof(sha), "%s", text_of(g, "sha256"));
    json_decref(g);

    drop("2.0.0");
    wait_version("2.0.0");
    cr_assert_eq(RUN("plugin", "list"), 0, "%s", said_err);
    cr_expect(strstr(said_out, ID "\t1.0.0\t"), "the old one is still there: %s", said_out);
    cr_expect(strstr(said_out, ID "\t2.0.0\t"), "%s", said_out);
    cr_expect(history_has("loaded", "1.0.0"), "%s", said_out);
    cr_expect(history_has("trial", "2.0.0"), "%s", said_out);
    cr_expect(history_has("current", "2.0.0"), "%s", said_out);

    /* Not proven yet: the old one is there to go back to. */
    cr_assert_eq(RUN("plugin", "rollback", ID), 0, "%s", said_err);
    cr_expect(strstr(said_out, ID " 1.0.0 ") == said_out, "%s", said_out);
    expect_version("1.0.0");
    cr_expect(history_has("rolled-back", "2.0.0"), "%s", said_out);
    cr_expect(history_has("pinned", "1.0.0"), "%s", said_out);

    /* Pinned: neither the file nor an order gets past it. */
    expect_refusal(RUN("plugin", "reload", ID), 4, "plugin unpin " ID);
    expect_version("1.0.0");
    cr_assert_eq(RUN("plugin", "unpin", ID), 0, "%s", said_err);
    expect_refusal(RUN("plugin", "unpin", ID), 3, "is not pinned");
    cr_assert_eq(RUN("plugin", "reload", ID), 0, "%s", said_err);
    cr_expect(strstr(said_out, "self-test: passed"), "%s", said_out);
    cr_expect(strstr(said_out, "  after:  {"), "the outputs differ, and are shown: %s", said_out);
    expect_version("2.0.0");
    expect_refusal(RUN("plugin", "reload", ID), 5, "runs already");

    /* Proven, the old one has gone: the way back leads over the copy that was kept. */
    prove();
    cr_assert_eq(RUN("plugin", "rollback", ID, "--json"), 0, "%s", said_err);
    o = said_json();
    cr_expect_str_eq(text_of(o, "version"), "1.0.0");
    cr_expect_str_eq(text_of(o, "sha256"), sha);
    cr_expect_str_eq(text_of(o, "state"), "current");
    json_decref(o);
    expect_version("1.0.0");
    /* Not forward again to what was left because it was bad. */
    expect_refusal(RUN("plugin", "rollback", ID), 5, "no earlier version");
    expect_version("1.0.0");
}

ON_BOTH_LANES(a_version_that_fails_its_own_test_is_refused_and_said_so, "1.0.0")
{
    json_t *x;
    char *detail;
    int status;

    wait_version("1.0.0");
    drop("4.0.0");
    cr_assert(exj_until(is_refused, NULL, d.prog.pidfd, 10, 5000), "nothing was refused");
    expect_version("1.0.0");
    x = executor();
    cr_expect(strstr(text_of(x, "refusal"), "two and two are five"), "%s",
              text_of(x, "refusal"));
    json_decref(x);
    cr_assert_eq(RUN("plugin", "list"), 0, "%s", said_err);
    cr_expect(strstr(said_err, "last refusal: "), "%s", said_err);
    cr_expect(strstr(said_err, "two and two are five"), "%s", said_err);
    detail = detail_of_health(&status);
    cr_expect_eq(status, 200, "an older version serves");
    cr_expect(strstr(detail, "two and two are five"), "%s", detail);
    free(detail);
    cr_expect(history_has("refused", "-"), "%s", said_out);
    cr_expect_geq(exj_daemon_metric(&d, "exellix_jobs_plugin_reloads_total",
                                    "result=\"refused\""), 1);
    expect_refusal(RUN("plugin", "reload", ID), 6, "two and two are five");
    expect_refusal(RUN("plugin", "trial", ID), 6, "two and two are five");
    expect_version("1.0.0");
    drop("2.0.0");
    wait_version("2.0.0");
    x = executor();
    cr_expect_str_empty(text_of(x, "refusal"));
    json_decref(x);
}

ON_BOTH_LANES(a_trial_takes_nothing_and_a_pin_switches, "1.0.0")
{
    json_t *o, *versions;
    char sha1[65], sha2[65];

    wait_version("1.0.0");
    cr_assert_eq(RUN("plugin", "trial", ID, VARIANTS "/turn-2.0.0.so", "--json"), 0, "%s",
                 said_err);
    o = said_json();
    cr_expect_str_eq(text_of(o, "version"), "1.0.0", "what stays");
    cr_expect_str_eq(text_of(json_object_get(o, "trial"), "version"), "2.0.0");
    cr_expect_str_eq(text_of(json_object_get(o, "trial"), "selfTest"), "passed");
    cr_expect_geq(json_integer_value(json_object_get(json_object_get(o, "trial"), "different")), 1);
    json_decref(o);
    expect_version("1.0.0");
    expect_refusal(RUN("plugin", "trial", ID, "none.so"), 3, "no file");

    drop("2.0.0");
    wait_version("2.0.0");
    cr_assert_eq(RUN("plugin", "versions", ID, "--json"), 0, "%s", said_err);
    o = said_json();
    versions = json_object_get(o, "versions");
    cr_assert_eq(json_array_size(versions), 2);
    snprintf(sha2, sizeof(sha2), "%s", text_of(json_array_get(versions, 0), "sha256"));
    snprintf(sha1, sizeof(sha1), "%s", text_of(json_array_get(versions, 1), "sha256"));
    cr_expect_str_eq(text_of(json_array_get(versions, 1), "version"), "1.0.0");
    json_decref(o);

    expect_refusal(RUN("plugin", "pin", ID, "abc"), 6, "hexadecimal");
    expect_refusal(RUN("plugin", "pin", ID, "0123456789abcdef"), 3, "plugin versions");
    expect_refusal(RUN("plugin", "pin", "acme.none"), 3, "acme.none");
    sha1[12] = '\0';
    cr_assert_eq(RUN("plugin", "pin", ID, sha1), 0, "%s", said_err);
    cr_expect(strstr(said_out, sha1), "%s", said_out);
    expect_version("1.0.0");
    cr_assert_eq(RUN("plugin", "list"), 0);
    cr_expect(strstr(said_err, "is pinned to"), "%s", said_err);

    /* Without a worker: what is remembered, and what the next one will do. */
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    expect_refusal(RUN("plugin", "reload", ID), 7, "no worker");
    cr_assert(history_has("pinned", "-"), "%s", said_out);
    cr_assert_eq(RUN("plugin", "unpin", ID), 0, "%s", said_err);
    cr_assert_eq(RUN("plugin", "pin", ID, sha2), 0, "%s", said_err);
    cr_assert_eq(RUN("plugin", "versions", ID), 0, "%s", said_err);
    cr_expect(strstr(said_out, "\tpinned\n"), "%s", said_out);
    expect_refusal(RUN("plugin", "history", "acme.none"), 3, "nothing is remembered");
    cr_assert_eq(RUN("plugin", "list"), 0, "%s", said_err);
    cr_expect(strstr(said_out, "graph-engine"), "what lies on the disk: %s", said_out);
}

/* ---- other ways to put a file in place ------------------------------------------------------------ */

/* As a config map does it: turn.so -> ..data/turn.so, ..data -> ..VERSION, and ..data is turned
 * over. */
static void turn_over(const char *version)
{
    char folder[300], to[340], from[400], link[300], beside[300];

    snprintf(from, sizeof(from), VARIANTS "/turn-%s.so", version);
    snprintf(folder, sizeof(folder), "%s/plugins/..%s", d.tmp.path, version);
    cr_assert_eq(mkdir(folder, 0700), 0);
    snprintf(to, sizeof(to), "%s/turn.so", folder);
    copy(from, to);
    snprintf(beside, sizeof(beside), "%s/plugins/..data_new", d.tmp.path);
    snprintf(link, sizeof(link), "%s/plugins/..data", d.tmp.path);
    cr_assert_eq(symlink(strrchr(folder, '/') + 1, beside), 0);
    cr_assert_eq(rename(beside, link), 0);
}

ON_BOTH_LANES(a_link_that_is_turned_over_is_a_new_version, "1.0.0")
{
    char link[300];

    wait_version("1.0.0");
    turn_over("2.0.0");
    snprintf(link, sizeof(link), "%s/plugins/turn.so.link", d.tmp.path);
    cr_assert_eq(symlink("..data/turn.so", link), 0);
    cr_assert_eq(rename(link, exj_tmp_path(&d.tmp, "plugins/turn.so")), 0);
    wait_version("2.0.0"); /* a link in the place of the file */
    turn_over("3.0.0");
    wait_version("3.0.0"); /* a link on its way is turned over */
    cr_assert_eq(RUN("plugin", "list"), 0, "%s", said_err);
    cr_expect(strstr(said_out, ID "\t3.0.0\t"), "%s", said_out);
    cr_assert_eq(RUN("plugin", "rollback", ID), 0, "%s", said_err);
    expect_version("2.0.0");
}

Test(reload_cli, what_stands_in_no_folder_is_shown_all_the_same)
{
    json_t *g;

    start("host", "1.0.0");
    wait_version("1.0.0");
    cr_assert_eq(remove(exj_tmp_path(&d.tmp, "plugins/turn.so")), 0);
    g = generation_in("current");
    cr_expect_str_eq(text_of(g, "version"), "1.0.0", "its file is gone, it runs on");
    json_decref(g);
    expect_version("1.0.0");
    drop("2.0.0");
    wait_version("2.0.0");
    end();
}

Test(reload_cli, a_long_trial_keeps_nobody_waiting_at_the_doors)
{
    static const char *const words[] = { "plugin", "trial", ID, VARIANTS "/turn-6.0.0.so", NULL };
    exj_prog trial;
    unsigned asked = 0;

    start("host", "1.0.0");
    wait_version("1.0.0");
    exj_prog_start(&trial, &tmp, PROGRAM, env, words);
    while (exj_prog_is_running(&trial)) {
        int64_t began = exj_test_now_ms();

        for (int i = 0; i < 4; i++) /* as many as to meet any door's thread */
            json_decref(get("/v1/health"));
        cr_expect_lt(exj_test_now_ms() - began, 2000, "at the TCP door");
        began = exj_test_now_ms();
        cr_expect_eq(RUN("status"), 0, "%s", said_err);
        cr_expect_lt(exj_test_now_ms() - began, 2000, "at the local door");
        asked++;
    }
    cr_expect_eq(exj_prog_wait(&trial, 1000), 0);
    cr_expect_geq(asked, 2);
    expect_version("1.0.0");
    end();
}

/* ---- what crashes -------------------------------------------------------------------------------------- */

static bool is_quarantined(void *unused)
{
    json_t *o = get("/v1/quarantine");
    bool in = json_array_size(json_object_get(o, "plugins")) > 0;

    (void)unused;
    json_decref(o);
    return in;
}

static bool is_usable(void *unused)
{
    json_t *x = executor();
    bool usable = !*text_of(x, "error");

    (void)unused;
    json_decref(x);
    return usable;
}

static bool is_unusable(void *unused)
{
    return !is_usable(unused);
}

static bool row_is_out(void *matrix)
{
    exj_tally t = exj_daemon_tally(&d, matrix);

    return t.blocked == 1;
}

Test(reload_cli, what_crashes_is_set_aside_shown_and_released)
{
    char first[32], second[32], row[64], path[100];
    json_t *o, *failures;
    char *detail;
    int status;

    start("host", "5.0.0");
    add_rows(1, first);
    cr_assert(exj_until(row_is_out, first, d.prog.pidfd, 10, 20000), "the row is not set aside");
    snprintf(row, sizeof(row), "%s||g|r-0000000", first);
    cr_assert_eq(RUN("quarantine", "list"), 0, "%s", said_err);
    cr_expect(strstr(said_out, row), "%s", said_out);
    snprintf(path, sizeof(path), "/v1/rows/%s%%7C%%7Cg%%7Cr-0000000", first);
    o = get(path);
    cr_expect_str_eq(text_of(json_object_get(o, "error"), "code"), "Quarantined");
    failures = json_object_get(o, "failures");
    cr_expect_geq(json_array_size(failures), 2);
    cr_expect(strstr(text_of(json_array_get(failures, 0), "message"), "SIGSEGV"), "%s",
              text_of(json_array_get(failures, 0), "message"));
    cr_expect(strstr(text_of(json_array_get(failures, 0), "message"), ID), "%s",
              text_of(json_array_get(failures, 0), "message"));
    json_decref(o);
    cr_expect_geq(exj_daemon_metric(&d, "exellix_jobs_plugin_crashes_total", ID), 3);

    add_rows(1, second); /* two crashes more make five */
    cr_assert(exj_until(is_quarantined, NULL, d.prog.pidfd, 10, 20000), "no quarantine");
    cr_assert_eq(RUN("quarantine", "list"), 0, "%s", said_err);
    cr_expect(strstr(said_out, "plugin\t" ID "\t5.0.0\t") == said_out, "%s", said_out);
    cr_assert(exj_until(is_unusable, NULL, d.prog.pidfd, 10, 5000), "it runs on");
    detail = detail_of_health(&status);
    cr_expect_eq(status, 503, "nothing can run");
    cr_expect(strstr(detail, "in quarantine: " ID), "%s", detail);
    free(detail);

    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL), 200);
    expect_refusal(RUN("quarantine", "release"), 2, "--row");
    expect_refusal(RUN("plugin", "release", "acme.none"), 3, "acme.none");
    cr_assert_eq(RUN("plugin", "release", ID), 0, "%s", said_err);
    cr_expect(strstr(said_out, ID " 5.0.0 ") == said_out, "%s", said_out);
    expect_refusal(RUN("quarantine", "release", ID), 3, "is in quarantine");
    cr_assert(exj_until(is_usable, NULL, d.prog.pidfd, 10, 5000), "it is not looked at again");
    cr_expect(history_has("released", "5.0.0"), "%s", said_out);

    /* Another content is free to run, and the rows too. */
    drop("1.0.0");
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL), 200);
    wait_version("1.0.0");
    cr_assert_eq(RUN("quarantine", "release", "--row", row), 0, "%s", said_err);
    cr_expect_str_eq(said_out + strlen(said_out) - 8, " queued\n");
    cr_assert(exj_daemon_wait_done(&d, first, 1, 20000));
    cr_expect_eq(exj_daemon_tally(&d, first).completed, 1);
    end();
}
