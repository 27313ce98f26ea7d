/* A long backlog costs disk, not memory. The bench goes to a million rows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

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

TestSuite(backlog, .init = setup, .fini = teardown);

static long rows_wanted(void)
{
    const char *v = getenv("EXJ_TEST_BACKLOG");

    return v && *v ? atol(v) : 100000;
}

Test(backlog, of_many_rows_stays_under_64_mib_of_memory)
{
    long rows = rows_wanted();
    char input[128];
    int64_t rss, peak;

    exj_daemon_set(&d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "noop-engine");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL);
    exj_daemon_graph(&d, "g", NULL);
    snprintf(input, sizeof(input), "{\"count\":%ld,\"page\":5000,\"pad\":300}", rows);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage", input, "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_rows_materialized_total", NULL, (double)rows,
                                     90000));
    rss = exj_prog_rss_kb(&d.prog);
    exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL);
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, (double)rows,
                                     90000));
    peak = exj_prog_peak_rss_kb(&d.prog);
    fprintf(stderr, "backlog: %ld rows, RSS %lld kB, peak %lld kB\n", rows, (long long)rss,
            (long long)peak);
#if !defined(__SANITIZE_ADDRESS__)
    cr_expect_lt(rss, 64 * 1024, "RSS %lld kB with the backlog", (long long)rss);
    cr_expect_lt(peak, 64 * 1024, "peak RSS %lld kB", (long long)peak);
#endif
}
