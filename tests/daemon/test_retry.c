/* Attempts, back-off, dead letters, and the operator's retry. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
    cr_assert(exj_daemon_start(&d));
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(retry, .init = setup, .fini = teardown);

struct expected {
    const char *status, *code;
    int64_t attempts;
    int seen;
};

static bool check_row(void *user, const json_t *row)
{
    struct expected *x = user;
    const char *status = json_string_value(json_object_get(row, "status"));
    const char *code =
        json_string_value(json_object_get(json_object_get(row, "error"), "code"));

    x->seen++;
    cr_expect_str_eq(status, x->status);
    cr_expect_eq(json_integer_value(json_object_get(row, "attempts")), x->attempts);
    if (x->code)
        cr_expect(code && strcmp(code, x->code) == 0, "error code %s", code);
    return true;
}

/* spec 2.5: Per graph: `maxAttempts`, backoff (initial, factor, max, jitter),
 * `timeoutSeconds` per attempt, which error codes are final. */
Test(retry, a_row_that_fails_twice_completes_at_its_third_attempt_after_backing_off)
{
    struct expected x = { "completed", NULL, 3, 0 };
    exj_effects e;

    exj_daemon_graph(&d, "g",
                     "{\"retry\":{\"initialSeconds\":0.2,\"maxSeconds\":5,\"factor\":2,"
                     "\"jitter\":0}}");
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":1,\"record\":{\"failTimes\":2}}", ",\"maxAttempts\":3");
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 20000));
    exj_daemon_rows(&d, "m", check_row, &x);
    cr_expect_eq(x.seen, 1);
    exj_effects_read(&d, &e);
    cr_assert_eq(e.len, 3);
    for (int i = 1; i < 3; i++) {
        cr_expect_eq(e.items[i].attempt, i + 1);
        cr_expect_gt(e.items[i].token, e.items[i - 1].token);
        cr_expect_str_eq(e.items[i].job, e.items[0].job);
        /* 200 ms, then 400 ms; the store's clock has milliseconds */
        cr_expect_geq(e.items[i].at_ns - e.items[i - 1].at_ns, (200 * i - 2) * 1000000LL);
    }
    exj_effects_release(&e);
    cr_expect_float_eq(exj_daemon_metric(&d, "exellix_jobs_retries_total", NULL), 2, 0.1);
}

Test(retry, the_last_attempt_makes_a_dead_letter_with_its_error)
{
    struct expected x = { "failed", "ToldToRetry", 2, 0 };

    exj_daemon_graph(&d, "g", "{\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":5,\"record\":{\"failTimes\":99}}", ",\"maxAttempts\":2");
    cr_assert(exj_daemon_wait_done(&d, "m", 5, 20000));
    exj_daemon_rows(&d, "m", check_row, &x);
    cr_expect_eq(x.seen, 5);
}

/* spec 2.5: Per graph: `maxAttempts`, backoff (initial, factor, max, jitter),
 * `timeoutSeconds` per attempt, which error codes are final. */
Test(retry, a_final_error_is_not_tried_again)
{
    struct expected x = { "failed", "ToldToFail", 1, 0 };

    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":3,\"record\":{\"then\":\"final\"}}", ",\"maxAttempts\":9");
    cr_assert(exj_daemon_wait_done(&d, "m", 3, 20000));
    exj_daemon_rows(&d, "m", check_row, &x);
    cr_expect_eq(x.seen, 3);
}

static bool take_name(void *user, const json_t *row)
{
    snprintf(user, 256, "%s", json_string_value(json_object_get(row, "matrixRowId")));
    return false;
}

Test(retry, an_operator_puts_a_dead_row_back_and_its_token_goes_on_growing)
{
    char name[256] = "", path[1024] = "/v1/rows/";
    size_t n = strlen(path);
    exj_effects e;

    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":1,\"record\":{\"then\":\"final\"}}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 20000));
    exj_daemon_rows(&d, "m", take_name, name);
    for (const char *p = name; *p; p++)
        n += (size_t)snprintf(path + n, sizeof(path) - n, "%%%02X", (unsigned char)*p);
    snprintf(path + n, sizeof(path) - n, "/retry");
    cr_expect_eq(exj_daemon_call(&d, "POST", path, NULL, NULL), 200);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_failed_total", NULL, 2, 10000));
    exj_effects_read(&d, &e);
    cr_assert_eq(e.len, 2);
    cr_expect_eq(e.items[1].attempt, 1, "the attempts begin anew");
    cr_expect_eq(e.items[1].token, e.items[0].token + 1, "the token does not");
    exj_effects_release(&e);
}

Test(retry, blocked_and_suspended_rows_wait_outside_the_queue)
{
    struct expected blocked = { "blocked", NULL, 1, 0 }, suspended = { "suspended", NULL, 0, 0 };

    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "b", "[\"g\"]", "record",
                      "{\"count\":2,\"record\":{\"then\":\"blocked\"}}", "");
    exj_daemon_matrix(&d, "s", "[\"g\"]", "record",
                      "{\"count\":2,\"record\":{\"then\":\"suspended\"}}", "");
    cr_assert(exj_daemon_wait_done(&d, "b", 2, 10000));
    cr_assert(exj_daemon_wait_done(&d, "s", 2, 10000));
    exj_daemon_rows(&d, "b", check_row, &blocked);
    exj_daemon_rows(&d, "s", check_row, &suspended);
    cr_expect_eq(blocked.seen + suspended.seen, 4);
}

Test(retry, a_crash_of_the_host_counts_as_an_attempt_and_the_row_ends)
{
    exj_tally t;

    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":1,\"record\":{\"then\":\"crash\"}}", ",\"maxAttempts\":2");
    cr_assert_gt(exj_prog_wait(&d.prog, 10000), 0, "the first attempt takes the host along");
    exj_daemon_spawn(&d);
    cr_assert_gt(exj_prog_wait(&d.prog, 10000), 0, "so does the second");
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.failed, 1, "a row that kills its host must not do so for ever");
}
