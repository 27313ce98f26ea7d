/* Cycles: the same record never makes two rows, pages are followed to the end, and an
 * empty pass waits without using the processor. */
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
    exj_daemon_graph(&d, "g", NULL);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(cycles, .init = setup, .fini = teardown);

Test(cycles, the_second_inserts_nothing)
{
    exj_tally t;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":50}",
                      ",\"pollWhenEmptySeconds\":0.1");
    cr_assert(exj_daemon_wait_done(&d, "m", 50, 10000));
    cr_assert(exj_daemon_wait_metric(&d, "matrix_worker_cycles_total", "empty=\"true\"", 3,
                                     10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 50);
    cr_expect_eq(t.completed, 50);
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_rows_materialized_total", NULL), 50, 0.1);
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_claims_started_total", NULL), 50, 0.1);
}

Test(cycles, a_restart_inserts_nothing_again)
{
    exj_tally t;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":20}",
                      ",\"pollWhenEmptySeconds\":0.1");
    cr_assert(exj_daemon_wait_done(&d, "m", 20, 10000));
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_metric(&d, "matrix_worker_cycles_total", NULL, 2, 10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 20);
    cr_expect_leq(exj_daemon_metric(&d, "matrix_rows_materialized_total", NULL), 0);
}

Test(cycles, storage_follows_its_pages_to_the_end)
{
    exj_tally t;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage", "{\"count\":2503,\"page\":250}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 2503, 30000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 2503);
    cr_expect_eq(t.completed, 2503);
}

Test(cycles, records_that_appear_later_are_found_and_only_they)
{
    char input[400], file[256];
    exj_tally t;

    snprintf(file, sizeof(file), "%s", exj_tmp_path(&d.tmp, "count"));
    exj_spit(file, "10");
    snprintf(input, sizeof(input), "{\"countFile\":\"%s\"}", file);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", input, ",\"pollWhenEmptySeconds\":0.1");
    cr_assert(exj_daemon_wait_done(&d, "m", 10, 10000));
    exj_spit(file, "15");
    cr_assert(exj_daemon_wait_done(&d, "m", 15, 10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 15);
    cr_expect_float_eq(exj_daemon_metric(&d, "matrix_claims_started_total", NULL), 15, 0.1);
}

Test(cycles, one_record_makes_one_row_for_each_graph)
{
    exj_tally t;

    exj_daemon_graph(&d, "h", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\",\"h\"]", "record", "{\"count\":7}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 14, 10000));
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.total, 14);
}

Test(cycles, an_idle_daemon_uses_next_to_no_processor)
{
    int64_t before, used;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":5}",
                      ",\"pollWhenEmptySeconds\":1");
    cr_assert(exj_daemon_wait_done(&d, "m", 5, 10000));
    before = exj_prog_cpu_ms(&d.prog);
    cr_assert_eq(exj_prog_wait(&d.prog, 3000), -1); /* three seconds of watching it idle */
    used = exj_prog_cpu_ms(&d.prog) - before;
    cr_expect_leq(used, 60, "%lld ms of processor in 3000 ms", (long long)used);
    cr_expect_leq(exj_daemon_metric(&d, "matrix_worker_cycles_total", NULL), 8,
                  "an empty pass waits pollWhenEmptySeconds");
}

Test(cycles, a_new_config_wakes_the_daemon_at_once)
{
    int64_t began;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":1}",
                      ",\"pollWhenEmptySeconds\":3600");
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 10000));
    began = exj_test_now_ms();
    exj_daemon_matrix(&d, "n", "[\"g\"]", "record", "{\"count\":1}", "");
    cr_assert(exj_daemon_wait_done(&d, "n", 1, 10000));
    cr_expect_lt(exj_test_now_ms() - began, 2000);
}

Test(cycles, a_missing_resolver_is_said_and_disturbs_nobody)
{
    cr_assert_lt(exj_daemon_call(&d, "PUT", "/v1/configs/matrices/lost",
                                 "{\"matrixCatalogId\":\"lost\",\"payload\":{\"graphs\":"
                                 "[\"g\"],\"dataSource\":{\"kind\":\"record\",\"resolver\":"
                                 "\"no-such-source\"}}}", NULL), 300);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":5}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 5, 10000));
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    {
        char *said = exj_slurp(d.prog.err, NULL);

        cr_expect(strstr(said, "no-such-source"), "%s", said);
        free(said);
    }
}
