/* Caps hold, and no graph starves another. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(limits, .init = setup, .fini = teardown);

#define BUSY "{\"count\":%d,\"prefix\":\"%s\",\"record\":{\"sleepMs\":%d,\"ends\":true}}"

static void matrix_of_busy(const char *matrix, const char *graphs, int count, int sleep_ms)
{
    char input[256];

    snprintf(input, sizeof(input), BUSY, count, matrix, sleep_ms);
    exj_daemon_matrix(&d, matrix, graphs, "record", input, "");
}

Test(limits, the_global_cap_is_never_exceeded_and_is_used)
{
    exj_effects e;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "5");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g1", NULL);
    exj_daemon_graph(&d, "g2", NULL);
    matrix_of_busy("a", "[\"g1\"]", 150, 5);
    matrix_of_busy("b", "[\"g2\"]", 150, 5);
    cr_assert(exj_daemon_wait_done(&d, "a", 150, 20000));
    cr_assert(exj_daemon_wait_done(&d, "b", 150, 20000));
    exj_effects_read(&d, &e);
    cr_expect_eq(exj_effects_most_at_once(&e, ""), 5);
    exj_effects_release(&e);
}

Test(limits, a_graphs_own_cap_holds_inside_the_global_one)
{
    exj_effects e;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "6");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "narrow", "{\"concurrency\":2}");
    exj_daemon_graph(&d, "wide", NULL);
    matrix_of_busy("m", "[\"narrow\",\"wide\"]", 120, 5);
    cr_assert(exj_daemon_wait_done(&d, "m", 240, 20000));
    exj_effects_read(&d, &e);
    cr_expect_eq(exj_effects_most_at_once(&e, "narrow"), 2);
    cr_expect_geq(exj_effects_most_at_once(&e, "wide"), 4);
    cr_expect_leq(exj_effects_most_at_once(&e, ""), 6);
    exj_effects_release(&e);
}

Test(limits, a_cap_holds_over_two_matrices_of_one_graph)
{
    exj_effects e;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "narrow", "{\"concurrency\":2}");
    matrix_of_busy("a", "[\"narrow\"]", 80, 5);
    matrix_of_busy("b", "[\"narrow\"]", 80, 5);
    cr_assert(exj_daemon_wait_done(&d, "a", 80, 20000));
    cr_assert(exj_daemon_wait_done(&d, "b", 80, 20000));
    exj_effects_read(&d, &e);
    cr_expect_eq(exj_effects_most_at_once(&e, "narrow"), 2, "%d at once",
                 exj_effects_most_at_once(&e, "narrow"));
    exj_effects_release(&e);
}

Test(limits, a_long_backlog_of_one_graph_does_not_starve_another)
{
    exj_effects e;
    size_t greedy = 0, modest = 0;

    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "greedy", "{\"priority\":5}");
    exj_daemon_graph(&d, "modest", NULL);
    matrix_of_busy("a", "[\"greedy\"]", 5000, 5);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", "greedy", 100, 10000));
    matrix_of_busy("b", "[\"modest\"]", 20, 5);
    cr_assert(exj_daemon_wait_done(&d, "b", 20, 20000), "the modest graph starves");
    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++) {
        if (e.items[i].what != 'B')
            continue;
        greedy += strstr(e.items[i].job, "greedy") != NULL;
        modest += strstr(e.items[i].job, "modest") != NULL;
    }
    cr_expect_eq(modest, 20);
    cr_expect_lt(greedy, 3000, "%zu of the other ran before", greedy);
    exj_effects_release(&e);
}

Test(limits, rows_of_a_graph_that_no_config_knows_are_refused_when_strict)
{
    exj_tally t;
    exj_reply r;

    exj_daemon_set(&d, "EXELLIX_JOBS_GRAPH_SCHEDULABILITY_STRICT", "true");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "known", NULL);
    matrix_of_busy("m", "[\"unknown\",\"known\"]", 3, 0);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", "\"known\"", 3,
                                     10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.completed, 3);
    cr_expect_eq(exj_daemon_metric(&d, "matrix_claims_started_total", "\"unknown\"") > 0, 0);
    exj_http(d.port, "GET", "/v1/workers/status", NULL, NULL, &r);
    cr_expect_eq(r.status, 200);
    exj_reply_release(&r);
}

/* spec 2.8: Rows carry `priority` (higher first; ties oldest first, then by id:
 * deterministic), `runAfter`, optional `uniqueKey` (unique among non-terminal rows of a
 * graph, or for a period), optional `concurrencyKey` with a per-key cap. */
Test(limits, a_higher_priority_runs_first)
{
    exj_effects e;
    bool low_seen = false;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "1");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL);
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":30,\"prefix\":\"low\",\"record\":{\"sleepMs\":1}}",
                      ",\"priority\":1");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_rows_materialized_total", NULL, 30, 10000));
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":30,\"prefix\":\"high\",\"record\":{\"sleepMs\":1}}",
                      ",\"priority\":9");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_rows_materialized_total", NULL, 60, 10000));
    exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL);
    cr_assert(exj_daemon_wait_done(&d, "m", 60, 20000));
    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++) {
        bool low = strstr(e.items[i].job, "low") != NULL;

        cr_expect(low || !low_seen, "a high one ran after a low one");
        low_seen = low_seen || low;
    }
    exj_effects_release(&e);
}

/* In process nothing can end it: it is said, the row is tried elsewhere, the others go on. */
Test(limits, a_call_that_never_comes_back_costs_its_worker_and_nothing_else)
{
    char input[400];
    exj_reply r;
    bool told = false;
    int64_t until;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "4");
    exj_daemon_set(&d, "EXELLIX_JOBS_LEASE_SECONDS", "1");
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_GRACE_SECONDS", "0");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", "{\"timeoutSeconds\":1}");
    snprintf(input, sizeof(input),
             "{\"count\":1,\"prefix\":\"deaf\",\"record\":{\"deaf\":true,\"gate\":\"%s\"}}",
             exj_tmp_path(&d.tmp, "gate"));
    exj_daemon_matrix(&d, "stuck", "[\"g\"]", "record", input, ",\"maxAttempts\":2");
    until = exj_test_now_ms() + 30000;
    while (!told && exj_test_now_ms() < until) {
        exj_http(d.port, "GET", "/v1/workers/status", NULL, NULL, &r);
        told = strstr(r.body, "\"writtenOff\":2") != NULL;
        exj_reply_release(&r);
    }
    cr_assert(told, "both attempts took a worker with them");
    matrix_of_busy("others", "[\"g\"]", 20, 1);
    cr_assert(exj_daemon_wait_done(&d, "others", 20, 20000));
    cr_expect_eq(exj_daemon_tally(&d, "others").completed, 20);
    fclose(fopen(exj_tmp_path(&d.tmp, "gate"), "w"));
    cr_assert(exj_daemon_wait_done(&d, "stuck", 1, 20000));
    /* The second call's answer counts if it comes before its lease was reaped. */
    cr_expect_eq(exj_daemon_tally(&d, "stuck").failed + exj_daemon_tally(&d, "stuck").completed, 1);
    for (told = false; !told && exj_test_now_ms() < until;) {
        exj_http(d.port, "GET", "/v1/workers/status", NULL, NULL, &r);
        told = strstr(r.body, "\"writtenOff\":0") != NULL;
        exj_reply_release(&r);
    }
    cr_expect(told, "they came back and are counted again");
}
