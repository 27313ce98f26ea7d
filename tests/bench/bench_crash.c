/* tests/bench/bench_crash.c - from a crash in a plugin to the next attempt of the row that was
 * in it, through the real program.
 *
 *   bench_crash [COPIES (default 50)]
 *
 * On each lane COPIES copies of tests/plugins/evil/evil_engine.c crash four times each: the last
 * of ten rows puts the time into its journal, crashes with SIGSEGV, and its next attempt reads
 * what the clock says then. So what is measured holds one durable entry of the journal, the
 * death with its backtrace, the new plugin host, the outcome in the store, and the new claim.
 * Four, because the fifth crash within a minute puts a plugin into quarantine. */
#include <inttypes.h>

#include "tests/daemon/evil_support.h"

static void measure(const char *lane, unsigned copies)
{
    size_t n = (size_t)copies * CRASHES_A_COPY;
    int64_t *ns = calloc(n, sizeof(*ns));
    exj_daemon d;

    NEED(ns != NULL);
    evil_init(&d, lane, copies);
    exj_daemon_set(&d, "EXELLIX_JOBS_LOG_LEVEL", "error");
    NEED(exj_daemon_start(&d));
    time_crashes(&d, copies, ns);
    print_crash_times(lane, ns, n);
    exj_daemon_release(&d);
    free(ns);
}

int main(int argc, char **argv)
{
    long copies = argc > 1 ? strtol(argv[1], NULL, 10) : 50;

    if (copies < 1 || copies > 2000) {
        fprintf(stderr, "usage: bench_crash [COPIES of 1 to 2000]\n");
        return 2;
    }
    measure("host", (unsigned)copies);
    measure("sandbox", (unsigned)copies);
    return 0;
}
