/* life_daemon - the worker's whole life once, without faults: start, documents, work of every
 * manner (mem_load.h), reloads, every GET route, stop. For valgrind.sh.
 *
 *   EXJ_TEST_WRAPPER="valgrind ..." life_daemon [--isolation LANE] [--rounds N]
 *
 * EXJ_TEST_WRAPPER: words in front of the worker's command line. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/faults/mem_load.h"

#define WORDS 40

static load l;

static void start(char *wrapper)
{
    const char *args[WORDS + 3], *path = "/usr/bin/env";
    size_t n = 0;

    for (char *word; n < WORDS && (word = strsep(&wrapper, " \n\t"));)
        if (*word)
            args[n++] = word;
    args[n++] = EXJ_BINARY_DIR "/bin/exellix-jobs";
    args[n++] = "serve";
    args[n] = NULL;
    exj_prog_start(&l.d.prog, &l.d.tmp, path, (const char *const *)l.d.env, args);
    if (!exj_daemon_wait_ready(&l.d, 60000)) {
        char *said = exj_slurp(l.d.prog.err, NULL);

        fprintf(stderr, "life_daemon: it does not get ready; it said:\n%s\n", said);
        free(said);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const char *lane = "in-process", *wrapper = getenv("EXJ_TEST_WRAPPER");
    int64_t began = exj_test_now_ms();
    int rounds = 4;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--isolation"))
            lane = argv[i + 1];
        else if (!strcmp(argv[i], "--rounds") && atoi(argv[i + 1]) > 0)
            rounds = atoi(argv[i + 1]);
        else
            return fprintf(stderr, "life_daemon: unknown argument '%s'; see the head of "
                           "tests/faults/life_daemon.c\n", argv[i]), 2;
    }
    load_init(&l, "life_daemon", 1, false);
    l.reload_every = 2;
    exj_daemon_set(&l.d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "%s", lane);
    exj_daemon_set(&l.d, "EXELLIX_JOBS_PLUGINS_MEMORY_MB", "0"); /* who watches needs some, too */
    exj_daemon_set(&l.d, "EXELLIX_JOBS_LEASE_SECONDS", "60");
    exj_daemon_set(&l.d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "2"); /* so many hosts */
    exj_daemon_set(&l.d, "EXELLIX_JOBS_SHUTDOWN_GRACE_SECONDS", "30");
    if (wrapper) /* valgrind does not know pidfd_open */
        exj_daemon_set(&l.d, "LD_PRELOAD", "%s", EXJ_BINARY_DIR "/tests/preload/pidfd.so");
    start(wrapper ? strdup(wrapper) : NULL);
    load_configs(&l);
    for (int i = 0; i < rounds; i++) {
        load_round(&l, NULL);
        load_settle(&l, 60000);
    }
    load_judge(&l);
    printf("life_daemon: lane %s, %d rounds, %" PRId64 " rows, %" PRId64 " requests; %d wrong; %" PRId64
           " ms\n", lane, rounds, l.rows_len, l.requests, l.wrong, exj_test_now_ms() - began);
    load_release(&l);
    return l.wrong ? 1 : 0;
}
