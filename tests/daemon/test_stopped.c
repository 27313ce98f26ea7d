/* A daemon that stood still for longer than its leases, and two daemons on one store. */
#include <criterion/criterion.h>
#include <signal.h>
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

TestSuite(stopped, .init = setup, .fini = teardown);

static bool count_completed(void *user, const json_t *row)
{
    int *n = user;
    const char *status = json_string_value(json_object_get(row, "status"));

    cr_assert(status && strcmp(status, "completed") == 0, "a row is %s", status);
    ++*n;
    return true;
}

/* spec 2.2: What is promised: a row's outcome is accepted exactly once; an executor may
 * start more than once (crash, expiry) and is told the attempt number and an idempotency
 * key (`jobId`) that stays the same over attempts. */
Test(stopped, for_longer_than_its_leases_ends_every_row_once)
{
    exj_effects e;
    int n = 0;

    exj_daemon_set(&d, "EXELLIX_JOBS_LEASE_SECONDS", "1");
    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":400,\"record\":{\"sleepMs\":100}}",
                      ",\"maxAttempts\":100");
    for (int i = 1; i <= 3; i++) {
        cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, i * 50,
                                         20000));
        exj_prog_signal(&d.prog, SIGSTOP);
        cr_assert_eq(exj_prog_wait(&d.prog, 1700), -1); /* the leases run out meanwhile */
        exj_prog_signal(&d.prog, SIGCONT);
    }
    cr_assert(exj_daemon_wait_done(&d, "m", 400, 60000));
    exj_daemon_rows(&d, "m", count_completed, &n);
    cr_expect_eq(n, 400);
    /* one accepted outcome a row: the counter counts accepted ones only */
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_claims_completed_total",
                                         "status=\"completed\""), 400, 0.1);
    exj_effects_read(&d, &e);
    cr_expect_geq(e.len, 400);
    exj_effects_release(&e);
    cr_expect_eq(exj_daemon_stop(&d, 30000), 0);
}

Test(stopped, a_second_daemon_on_the_same_store_refuses_and_says_who_holds_it)
{
    static const char *const args[] = { "serve", NULL };
    exj_prog second;
    char pid[32], *said;
    int rc;

    cr_assert(exj_daemon_start(&d));
    exj_daemon_set(&d, "PORT", "%u", (unsigned)exj_free_port());
    rc = exj_prog_run(&second, &d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                      (const char *const *)d.env, args, 20000);
    said = exj_slurp(second.err, NULL);
    snprintf(pid, sizeof(pid), "%d", (int)d.prog.pid);
    cr_expect_gt(rc, 0);
    cr_expect_lt(rc, 128, "it must refuse, not crash: %d", rc);
    cr_expect(strstr(said, pid), "names the holder's pid %s: %s", pid, said);
    /* the first one is not disturbed */
    cr_expect(exj_daemon_wait_ready(&d, 1000));
    cr_expect_eq(exj_daemon_stop(&d, 10000), 0);
    /* and once it is gone the store is free */
    d.port = (uint16_t)strtoul(strchr(d.env[0], '=') + 1, NULL, 10);
    cr_expect(exj_daemon_start(&d));
    cr_expect_eq(exj_daemon_stop(&d, 10000), 0);
    free(said);
}
