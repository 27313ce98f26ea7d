/* Pause, PATCH, shutdown: new claims stop, what runs finishes, nothing is lost. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static exj_daemon d;
static char gate[256];

static void setup(void)
{
    exj_daemon_init(&d);
    snprintf(gate, sizeof(gate), "%s", exj_tmp_path(&d.tmp, "gate"));
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(control, .init = setup, .fini = teardown);

/* `count` rows that wait until the gate is opened. */
static void start_gated(int count)
{
    char input[400];

    /* few rows are claimed ahead, so that going on means claiming */
    exj_daemon_set(&d, "EXELLIX_JOBS_PREFETCH", "8");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    snprintf(input, sizeof(input), "{\"count\":%d,\"record\":{\"gate\":\"%s\"}}", count, gate);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", input, "");
}

static size_t begun(void)
{
    exj_effects e;
    size_t n;

    exj_effects_read(&d, &e);
    n = e.len;
    exj_effects_release(&e);
    return n;
}

static bool four_began(void *user)
{
    (void)user;
    return begun() >= 4;
}

static bool none_active(void *user)
{
    json_t *o = NULL;
    bool none;

    (void)user;
    exj_daemon_call(&d, "GET", "/v1/workers/status", NULL, &o);
    none = json_is_integer(json_object_get(o, "activeJobs")) &&
           json_integer_value(json_object_get(o, "activeJobs")) == 0;
    json_decref(o);
    return none;
}

/* spec 2.10: A claim never takes a row of a graph whose config, read after the last
 * acknowledged PATCH, is not schedulable. */
Test(control, patch_to_paused_stops_new_claims_and_what_runs_finishes)
{
    exj_tally t;
    double started;

    start_gated(200);
    cr_assert(exj_until(four_began, NULL, d.prog.pidfd, 5, 10000));
    cr_assert_eq(exj_daemon_call(&d, "PATCH", "/v1/graphs/g/operational",
                                 "{\"operationalState\":\"Paused\",\"expectedVersion\":1}",
                                 NULL), 200);
    started = exj_daemon_metric(&d, "matrix_claims_started_total", NULL);
    exj_spit(gate, "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 4, 10000));
    cr_assert(exj_until(none_active, NULL, d.prog.pidfd, 5, 10000));
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_claims_started_total", NULL), started,
                       0.1, "a claim was made after the PATCH was answered");
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 200);
    cr_expect_eq(t.failed, 0);
    cr_expect_geq(t.completed, 4);
    cr_expect_lt(t.completed, 50, "it went on although paused");

    cr_assert_eq(exj_daemon_call(&d, "PATCH", "/v1/graphs/g/operational",
                                 "{\"operationalState\":\"Running\",\"expectedVersion\":2}",
                                 NULL), 200);
    cr_assert(exj_daemon_wait_done(&d, "m", 200, 20000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.completed, 200);
}

Test(control, pause_holds_and_resume_goes_on)
{
    exj_tally t;
    double started;

    start_gated(100);
    cr_assert(exj_until(four_began, NULL, d.prog.pidfd, 5, 10000));
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL), 200);
    started = exj_daemon_metric(&d, "matrix_claims_started_total", NULL);
    exj_spit(gate, "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 4, 10000));
    cr_assert(exj_until(none_active, NULL, d.prog.pidfd, 5, 10000));
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_claims_started_total", NULL), started,
                       0.1);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL), 200);
    cr_assert(exj_daemon_wait_done(&d, "m", 100, 20000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.completed, 100);
}

static bool attempts_are_one(void *user, const json_t *row)
{
    (void)user;
    cr_expect_eq(json_integer_value(json_object_get(row, "attempts")), 1,
                 "%s has %" PRId64 " attempts",
                 json_string_value(json_object_get(row, "matrixRowId")),
                 (int64_t)json_integer_value(json_object_get(row, "attempts")));
    return true;
}

/* spec 2.2: Release on clean shutdown: unstarted prefetched rows are given back at once
 * without counting an attempt. */
Test(control, sigterm_finishes_what_runs_and_gives_the_rest_back_uncounted)
{
    exj_tally t;

    start_gated(300);
    cr_assert(exj_until(four_began, NULL, d.prog.pidfd, 5, 10000));
    exj_prog_signal(&d.prog, SIGTERM);
    cr_expect_eq(exj_prog_wait(&d.prog, 300), -1, "it waits for what runs");
    exj_spit(gate, "");
    cr_assert_eq(exj_prog_wait(&d.prog, 10000), 0);
    cr_expect_lt(begun(), 20, "it went on to start rows: %zu", begun());

    remove(gate); /* the next daemon finds them unstarted, then may run them */
    cr_assert(exj_daemon_start(&d));
    exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL);
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 300);
    cr_expect_geq(t.completed, 4);
    exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL);
    exj_spit(gate, "");
    cr_assert(exj_daemon_wait_done(&d, "m", 300, 20000));
    exj_daemon_rows(&d, "m", attempts_are_one, NULL);
}

Test(control, a_second_signal_ends_it_at_once_and_loses_nothing)
{
    exj_tally t;
    int rc;

    start_gated(50);
    cr_assert(exj_until(four_began, NULL, d.prog.pidfd, 5, 10000));
    exj_prog_signal(&d.prog, SIGTERM);
    cr_expect_eq(exj_prog_wait(&d.prog, 200), -1, "it waits for what runs");
    exj_prog_signal(&d.prog, SIGTERM);
    rc = exj_prog_wait(&d.prog, 3000);
    cr_expect_neq(rc, -1, "it still runs after the second signal");
    if (rc == -1) {
        exj_prog_signal(&d.prog, SIGKILL);
        exj_prog_wait(&d.prog, 3000);
    }
    exj_spit(gate, "");
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", 50, 20000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.completed, 50);
}

Test(control, the_grace_period_bounds_the_wait)
{
    int rc;

    exj_daemon_set(&d, "EXELLIX_JOBS_SHUTDOWN_GRACE_SECONDS", "1");
    start_gated(20);
    cr_assert(exj_until(four_began, NULL, d.prog.pidfd, 5, 10000));
    exj_prog_signal(&d.prog, SIGTERM);
    rc = exj_prog_wait(&d.prog, 5000);
    cr_expect_neq(rc, -1, "it still runs long after its grace period");
}

Test(control, a_matrix_that_is_deleted_stops_its_loop)
{
    double before;

    start_gated(4);
    exj_spit(gate, "");
    cr_assert(exj_daemon_wait_done(&d, "m", 4, 10000));
    cr_assert_eq(exj_daemon_call(&d, "DELETE", "/v1/configs/matrices/m", NULL, NULL), 200);
    exj_daemon_matrix(&d, "other", "[\"g\"]", "record", "{\"count\":1,\"prefix\":\"o\"}",
                      ",\"pollWhenEmptySeconds\":0.1");
    before = exj_daemon_metric(&d, "matrix_worker_cycles_total", "matrix_catalog_id=\"m\"");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_worker_cycles_total",
                                     "matrix_catalog_id=\"other\"", 5, 10000));
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_worker_cycles_total",
                                         "matrix_catalog_id=\"m\""), before, 1.1);
}
