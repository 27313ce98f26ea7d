/* Bad manners of plugins, seen from a row: it stays whole and says who did what. */
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

TestSuite(manners, .init = setup, .fini = teardown);

struct blame {
    const char *code; /* NULL: any */
    const char *says; /* in the message */
    int seen;
};

static bool blames(void *user, const json_t *row)
{
    struct blame *b = user;
    const json_t *error = json_object_get(row, "error");
    const char *status = json_string_value(json_object_get(row, "status"));
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));

    b->seen++;
    cr_expect_str_eq(status, "failed");
    cr_assert(code && message, "the row carries no error");
    if (b->code)
        cr_expect_str_eq(code, b->code);
    cr_expect(strstr(message, "test-engine"), "names the plugin: %s", message);
    cr_expect(strstr(message, "7.8.9"), "names its version: %s", message);
    cr_expect(strstr(message, b->says), "says \"%s\": %s", b->says, message);
    return true;
}

static bool intact(void *user, const json_t *row)
{
    (void)user;
    cr_expect_str_eq(json_string_value(json_object_get(row, "status")), "completed");
    return true;
}

/* Two rows behave badly and two well; the bad ones carry the blame, the others are done. */
static void check(const char *then, const char *code, const char *says)
{
    struct blame b = { code, says, 0 };
    char input[256];

    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    snprintf(input, sizeof(input), "{\"count\":2,\"record\":{\"then\":\"%s\"}}", then);
    exj_daemon_matrix(&d, "bad", "[\"g\"]", "record", input, ",\"maxAttempts\":1");
    exj_daemon_matrix(&d, "good", "[\"g\"]", "record", "{\"count\":2}", "");
    cr_assert(exj_daemon_wait_done(&d, "bad", 2, 20000));
    cr_assert(exj_daemon_wait_done(&d, "good", 2, 20000));
    exj_daemon_rows(&d, "bad", blames, &b);
    cr_expect_eq(b.seen, 2);
    exj_daemon_rows(&d, "good", intact, NULL);
    cr_expect_eq(exj_daemon_stop(&d, 10000), 0);
}

Test(manners, an_answer_that_breaks_the_schema_is_on_the_row)
{
    check("schema", "AnswerRefused", "surprise");
}

Test(manners, an_answer_that_is_not_utf8_is_on_the_row)
{
    check("latin1", NULL, "");
}

Test(manners, no_answer_is_on_the_row)
{
    check("none", "NoAnswer", "emitted no answer");
}

Test(manners, two_answers_are_on_the_row)
{
    check("twice", NULL, "");
}

Test(manners, an_answer_of_64_mib_is_refused_and_not_stored)
{
    check("huge", "AnswerTooLarge", "");
}

Test(manners, an_answer_of_64_mib_costs_no_memory_of_the_daemon_afterwards)
{
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":8,\"record\":{\"then\":\"huge\"}}", ",\"maxAttempts\":1");
    cr_assert(exj_daemon_wait_done(&d, "m", 8, 30000));
#ifndef __SANITIZE_ADDRESS__
    cr_expect_lt(exj_prog_rss_kb(&d.prog), 64 * 1024);
#endif
}

Test(manners, an_executor_whose_create_fails_leaves_its_rows_queued_and_says_so)
{
    exj_tally t;
    char *said;
    exj_reply r;

    exj_daemon_set(&d, "EXJ_TEST_ENGINE_CREATE", "fail");
    cr_assert(exj_daemon_start(&d), "one bad executor must not keep the daemon down");
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":3}", "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_rows_materialized_total", NULL, 3, 10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 3);
    cr_expect_eq(t.completed + t.running, 0);
    exj_http(d.port, "GET", "/v1/health?probe=dependencies", NULL, NULL, &r);
    cr_expect_eq(r.status, 503);
    cr_expect(r.body && strstr(r.body, "test-engine"), "%s", r.body);
    exj_reply_release(&r);
    cr_expect_eq(exj_daemon_stop(&d, 10000), 0);
    said = exj_slurp(d.prog.err, NULL);
    cr_expect(strstr(said, "test-engine") && strstr(said, "7.8.9") &&
              strstr(said, "told to fail in create"), "plugin, version and cause: %s", said);
    free(said);

    /* repaired, the same rows run */
    exj_daemon_set(&d, "EXJ_TEST_ENGINE_CREATE", "works");
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", 3, 10000));
    exj_daemon_rows(&d, "m", intact, NULL);
}

Test(manners, a_record_with_a_nested_input_is_refused_and_the_rest_of_the_source_is_not_lost)
{
    char *said;
    exj_reply r;

    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":5,\"badAt\":3}",
                      ",\"pollWhenEmptySeconds\":0.1");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_worker_cycles_total", NULL, 2, 10000));
    exj_http(d.port, "GET", "/v1/workers/status", NULL, NULL, &r);
    said = exj_slurp(d.prog.err, NULL);
    cr_expect(strstr(said, "input") || (r.body && strstr(r.body, "nested")),
              "the operator is told: %s", said);
    exj_reply_release(&r);
    free(said);
}
