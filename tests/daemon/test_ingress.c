/* Events pushed into a running worker, and the commands that push. */
#include <signal.h>
#include <time.h>

#include "cli_support.h"

static exj_daemon d;

static void setup(void)
{
    size_t n = 0;

    exj_daemon_init(&d);
    tmp = d.tmp; /* commands run beside the daemon */
    for (size_t i = 0; d.env[i]; i++)
        if (strncmp(d.env[i], "EXELLIX_JOBS_DATA_DIR=", 22) == 0 ||
            strncmp(d.env[i], "EXELLIX_JOBS_PLUGINS_DIR=", 25) == 0)
            env[n++] = d.env[i];
}

static void teardown(void)
{
    exj_daemon_release(&d);
    exj_support_clean();
}

TestSuite(ingress, .init = setup, .fini = teardown);

static void matrix(const char *more)
{
    char all[256];

    snprintf(all, sizeof(all), ",\"pollWhenEmptySeconds\":3600%s", more);
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "event", "{}", all);
}

static json_t *push(const char *body, int wanted)
{
    json_t *o = NULL;
    int status = exj_daemon_call(&d, "POST", "/v1/matrices/m/events", body, &o);

    cr_assert_eq(status, wanted, "%s: %d %s", body, status,
                 json_string_value(json_object_get(o, "message")));
    return o;
}

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

Test(ingress, a_pushed_event_runs_at_once_though_its_matrix_polls_once_an_hour)
{
    int64_t began;

    cr_assert(exj_daemon_start(&d));
    matrix("");
    json_decref(push("{\"id\":\"first\",\"record\":{}}", 200));
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 10000));
    began = exj_test_now_ms();
    json_decref(push("[{\"id\":\"a\",\"record\":{}},{\"id\":\"b\",\"record\":{}}]", 200));
    cr_assert(exj_daemon_wait_done(&d, "m", 3, 10000));
    cr_expect_lt(exj_test_now_ms() - began, 3000);
    cr_expect_eq(exj_daemon_tally(&d, "m").completed, 3);
}

/* spec 2.8: Rows carry `priority` (higher first; ties oldest first, then by id: deterministic), `runAfter`, optional `uniqueKey` (unique among non-terminal rows of a graph, or for a period), optional `concurrencyKey` with a per-key cap. */
Test(ingress, an_event_with_a_time_waits_for_it)
{
    exj_effects e;
    char body[128];
    int64_t began;

    cr_assert(exj_daemon_start(&d));
    matrix("");
    json_decref(push("{\"id\":\"now\",\"record\":{}}", 200));
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 10000));
    began = exj_test_now_ms();
    {
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        snprintf(body, sizeof(body), "{\"id\":\"later\",\"record\":{},\"runAfter\":%lld}",
                 (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000 + 700);
    }
    json_decref(push(body, 200));
    cr_assert(exj_daemon_wait_done(&d, "m", 2, 10000));
    cr_expect_geq(exj_test_now_ms() - began, 690);
    cr_expect_lt(exj_test_now_ms() - began, 4000);
    exj_effects_read(&d, &e);
    cr_expect_eq(e.len, 2);
    exj_effects_release(&e);
}

Test(ingress, what_was_answered_survives_a_kill_right_after_it)
{
    for (int i = 0; i < 5; i++) {
        char body[128], path[64];
        json_t *o = NULL;

        cr_assert(exj_daemon_start(&d));
        if (i == 0)
            matrix("");
        snprintf(body, sizeof(body), "[{\"id\":\"e%d\",\"record\":{\"sleepMs\":20}},"
                                     "{\"id\":\"f%d\",\"record\":{}}]", i, i);
        json_decref(push(body, 200));
        exj_prog_signal(&d.prog, SIGKILL);
        cr_assert_eq(exj_prog_wait(&d.prog, 5000), 1000 + SIGKILL);
        cr_assert(exj_daemon_start(&d));
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7C%c%d", k ? 'f' : 'e', i);
            cr_expect_eq(exj_daemon_call(&d, "GET", path, NULL, &o), 200, "%s is lost", path);
            json_decref(o);
            o = NULL;
        }
        /* Sent again, because nobody knows whether the answer came: no second row. */
        o = push(body, 200);
        cr_expect_eq(number(o, "duplicates"), 2);
        json_decref(o);
        cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    }
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", 10, 20000));
    cr_expect_eq(exj_daemon_tally(&d, "m").completed, 10);
}

Test(ingress, takes_lines_over_tcp_with_the_key_and_no_line_without)
{
    static const char lines[] = "{\"id\":\"a\",\"record\":{}}\n{\"id\":\"b\"}\n"
                                "{\"id\":\"c\",\"record\":{}}\n";
    exj_reply r;
    json_t *o;

    cr_assert(exj_daemon_start(&d));
    matrix("");
    exj_http(d.port, "POST", "/v1/matrices/m/events",
             "Content-Type: application/x-ndjson; charset=utf-8\r\n", lines, &r);
    cr_expect_eq(r.status, 401);
    exj_reply_release(&r);
    exj_http(d.port, "POST", "/v1/matrices/m/events",
             "Content-Type: application/x-ndjson; charset=utf-8\r\n"
             "Authorization: Bearer " EXJ_TEST_KEY "\r\n", lines, &r);
    cr_expect_eq(r.status, 207);
    o = exj_reply_json(&r);
    cr_expect_eq(number(o, "inserted"), 2);
    cr_expect_eq(number(json_array_get(json_object_get(o, "rejected"), 0), "line"), 2);
    json_decref(o);
    exj_reply_release(&r);
    cr_assert(exj_daemon_wait_done(&d, "m", 2, 10000));
    cr_expect_geq(exj_daemon_metric(&d, "matrix_rows_materialized_total", "\"m\""), 2);
}

/* ---- the commands, with a daemon and without ----------------------------------------------------- */

static void write_events(const char *name, unsigned n, unsigned bad_every)
{
    FILE *f = fopen(exj_tmp_path(&d.tmp, name), "we");

    cr_assert(f);
    for (unsigned i = 0; i < n; i++) {
        if (bad_every && i % bad_every == bad_every - 1)
            fprintf(f, "{\"id\":\"e%u\"}\n", i);
        else
            fprintf(f, "%s{\"id\":\"e%u\",\"record\":{\"n\":%u}}\n", i % 7 ? "" : "\n", i, i);
    }
    fclose(f);
}

Test(ingress, the_commands_push_and_trigger_without_a_daemon)
{
    json_t *o;

    exj_spit(exj_tmp_path(&d.tmp, "docs.ndjson"),
             "{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"operationalState\":"
             "\"Ready\"}\n{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
             "\"dataSource\":{\"kind\":\"event\"}}}\n");
    exj_spit(exj_tmp_path(&d.tmp, "r.json"), "{\"a\":1}");
    expect_refusal(RUN("trigger", "m"), 3, "no store");
    cr_assert_eq(RUN("apply", "-f", "docs.ndjson"), 0, "%s", said_err);

    cr_expect_eq(RUN("trigger", "m", "--input", "r.json", "--id", "t", "--priority", "-7",
                      "--run-after", "2100-01-01T00:00:00Z"), 0, "%s", said_err);
    cr_expect_str_eq(said_out, "m||g|t\tinserted\n");
    cr_assert_eq(RUN("rows", "show", "m||g|t", "--json"), 0);
    o = said_json();
    cr_expect_eq(number(o, "priority"), -7);
    cr_expect_eq(number(json_object_get(o, "input"), "a"), 1);
    cr_expect_str_eq(json_string_value(json_object_get(o, "runAfter")),
                     "2100-01-01T00:00:00.000Z");
    json_decref(o);
    cr_expect_eq(RUN("trigger", "g", "--id", "t", "--json"), 0, "%s", said_err);
    o = said_json();
    cr_expect_str_eq(json_string_value(json_object_get(o, "status")), "duplicate");
    json_decref(o);
    cr_expect_eq(RUN("trigger", "m", "--unique-key", "k"), 0, "%s", said_err);
    cr_expect_eq(RUN("trigger", "m", "--unique-key", "k"), 5, "%s", said_err);
    cr_expect(strstr(said_out, "uniqueKeyTaken"), "%s", said_out);

    expect_refusal(RUN("trigger", "none"), 3, "no matrix \"none\"");
    expect_refusal(RUN("trigger", "m", "--priority", "high"), 2, "--priority=high");
    expect_refusal(RUN("trigger", "m", "--run-after", "soon"), 2, "--run-after");
    expect_refusal(RUN("trigger", "m", "--input", "none.json"), 3, "none.json");
    exj_spit(exj_tmp_path(&d.tmp, "bad.json"), "{\"a\":");
    expect_refusal(RUN("trigger", "m", "--input", "bad.json"), 6, "bad.json");

    write_events("e.ndjson", 2500, 0);
    cr_expect_eq(RUN("events", "push", "m", "--file", "e.ndjson"), 0, "%s", said_err);
    cr_expect(strstr(said_out, "2500 events: 2500 inserted, 0 duplicate"), "%s", said_out);
    cr_expect_eq(RUN("events", "push", "m", "--file", "e.ndjson", "--json"), 0);
    o = said_json();
    cr_expect_eq(number(o, "duplicates"), 2500);
    cr_expect_eq(number(o, "rejectedCount"), 0);
    json_decref(o);
    expect_refusal(RUN("events", "push", "m"), 2, "--file");
    expect_refusal(RUN("events", "push", "m", "--file", "none"), 3, "none");
}

Test(ingress, wrong_lines_of_a_file_are_named_by_their_line_and_the_others_are_stored)
{
    json_t *o, *bad;

    cr_assert(exj_daemon_start(&d));
    matrix("");
    write_events("e.ndjson", 3000, 1500);
    cr_expect_eq(RUN("events", "push", "m", "--file", "e.ndjson"), 6, "%s", said_err);
    cr_expect(strstr(said_out, "3000 events: 2998 inserted"), "%s", said_out);
    cr_expect(strstr(said_err, ": record is missing"), "%s", said_err);
    cr_expect_eq(lines_of(said_err), 2, "%s", said_err);
    cr_expect_eq(RUN("events", "push", "m", "--file", "e.ndjson", "--json"), 6);
    o = said_json();
    bad = json_object_get(o, "rejected");
    cr_expect_eq(json_array_size(bad), 2);
    /* Blank lines count: one before every seventh event. */
    cr_expect_eq(number(json_array_get(bad, 0), "line"), 1500 + 215);
    cr_expect_eq(number(json_array_get(bad, 1), "line"), 3000 + 429);
    json_decref(o);
    cr_assert(exj_daemon_wait_done(&d, "m", 2998, 30000));
    cr_expect_eq(RUN("trigger", "m", "--id", "t"), 0, "%s", said_err);
    cr_assert(exj_daemon_wait_done(&d, "m", 2999, 10000));
    cr_expect_eq(RUN("events", "push", "none", "--file", "e.ndjson"), 3, "%s", said_err);
    cr_expect(strstr(said_err, "no matrix config \"none\""), "%s", said_err);
}

Test(ingress, a_run_until_idle_waits_for_rates_and_for_concurrency_keys)
{
    json_t *o;

    exj_spit(exj_tmp_path(&d.tmp, "docs.ndjson"),
             "{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"operationalState\":"
             "\"Ready\",\"payload\":{\"execution\":{\"rateLimit\":{\"count\":10,"
             "\"perSeconds\":0.5}}}}\n{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":"
             "[\"g\"],\"dataSource\":{\"kind\":\"event\"},\"keys\":{\"concurrency\":"
             "\"who\"}}}\n");
    exj_spit(exj_tmp_path(&d.tmp, "e.ndjson"), "");
    cr_assert_eq(RUN("apply", "-f", "docs.ndjson"), 0, "%s", said_err);
    for (int i = 0; i < 3; i++) {
        FILE *f = fopen(exj_tmp_path(&d.tmp, "e.ndjson"), "ae");

        cr_assert(f);
        for (int k = 0; k < 10; k++)
            fprintf(f, "{\"id\":\"e%d-%d\",\"record\":{\"who\":\"w%d\"}}\n", i, k, i);
        fclose(f);
    }
    cr_assert_eq(RUN("events", "push", "m", "--file", "e.ndjson"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle", "--executor", "test-engine", "--json"), 0, "%s",
                 said_err);
    o = said_json();
    cr_expect_eq(number(o, "completed"), 30, "%s", said_out);
    cr_expect_eq(number(o, "open"), 0);
    json_decref(o);
}
