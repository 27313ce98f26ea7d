/* mem_daemon - the whole worker, with allocations that fail: each point is one allocation of
 * the process, of ours or of a library, chosen by chance among all that a round of work
 * makes (mem_load.h), and among all that a start makes.
 *
 *   mem_daemon [--points N|all] [--seed S] [--in-a-row N]
 *
 * After each point: the worker serves on, or it ended and said what it was short of and does
 * everything after a restart; what it had answered stands. The last line says what was tried.
 * --points all goes through them one after the other, every allocation once. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/faults/mem_load.h"

#define SETTLE_MS 10000

static load l;
static char text[160];

/* One point in a start. */
static void try_start(int64_t nth, int64_t in_a_row)
{
    int status;

    snprintf(text, sizeof(text), "allocation %" PRId64 " of a start", nth);
    l.case_text = text;
    if (l.d.prog.pid && (status = exj_daemon_stop(&l.d, 20000)) != 0)
        load_ended(&l, status); /* it was about to end by itself: it must have said why */
    load_arm(&l.ctl->memory, nth, in_a_row);
    exj_daemon_spawn(&l.d);
    if (!exj_daemon_wait_ready(&l.d, 10000)) {
        load_disarm(&l.ctl->memory);
        status = exj_prog_wait(&l.d.prog, 1);
        if (status == -1) {
            load_wrong(&l, "it neither got ready nor ended");
            exj_prog_signal(&l.d.prog, SIGKILL);
            exj_prog_wait(&l.d.prog, 10000);
        } else {
            load_ended(&l, status);
        }
        load_start(&l);
    }
    load_disarm(&l.ctl->memory);
}

static void try_round(int64_t nth, int64_t in_a_row)
{
    snprintf(text, sizeof(text), "allocation %" PRId64 " of a round", nth);
    l.case_text = text;
    l.ctl->where[0] = '\0';
    load_arm(&l.ctl->memory, nth, in_a_row);
    load_round(&l, NULL);
    load_disarm(&l.ctl->memory);
    load_settle(&l, SETTLE_MS);
}

/* How many allocations there are when nothing fails: INT64_MAX is never reached. */
static int64_t count_round(void)
{
    int64_t most = 0;

    for (int i = 0; i < 5; i++) { /* one of them reloads */
        load_arm(&l.ctl->memory, INT64_MAX - 1, 1);
        load_round(&l, NULL);
        load_settle(&l, SETTLE_MS);
        most = l.ctl->memory.seen > most ? l.ctl->memory.seen : most;
    }
    return most;
}

static int64_t count_start(void)
{
    load_arm(&l.ctl->memory, INT64_MAX - 1, 1);
    load_start(&l);
    load_disarm(&l.ctl->memory);
    return l.ctl->memory.seen;
}

int main(int argc, char **argv)
{
    int64_t points = 80, in_a_row = 1, starts, rounds, tried_starts = 0, tried_rounds = 0;
    int64_t began = exj_test_now_ms(), hit = 0;
    uint64_t seed = 0;
    bool all = false, has_seed = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--points") && !strcmp(argv[i + 1], "all"))
            all = true;
        else if (!strcmp(argv[i], "--points"))
            points = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--in-a-row"))
            in_a_row = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed") && (has_seed = true))
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return fprintf(stderr, "mem_daemon: unknown argument '%s'; see the head of "
                           "tests/faults/mem_daemon.c\n", argv[i]), 2;
    }
    if (EXJ_SHORT_SANITIZED)
        return printf("SKIPPED: mem_daemon: a sanitizer has an allocator of its own\n"), 0;
    if (!has_seed)
        seed = exj_test_seed("mem_daemon");
    load_init(&l, "mem_daemon", seed, true);
    starts = count_start();
    load_configs(&l);
    rounds = count_round();
    printf("mem_daemon: seed %" PRIu64 ", %" PRId64 " allocations in a start, %" PRId64
           " in a round\n", seed, starts, rounds);
    if (starts < 100 || rounds < 1000)
        load_wrong(&l, "too few allocations were counted: is short.so loaded?");
    if (all)
        points = starts + rounds;
    for (int64_t i = 0; i < points && l.rows_len + LOAD_KINDS <= LOAD_ROWS_MAX; i++) {
        bool is_start = all ? i < starts : i % 4 == 0;
        int64_t nth = all ? is_start ? i + 1 : i - starts + 1
                          : 1 + load_any(&l, (unsigned)(is_start ? starts : rounds));

        if (is_start)
            try_start(nth, in_a_row);
        else
            try_round(nth, in_a_row);
        tried_starts += is_start;
        tried_rounds += !is_start;
        hit += l.ctl->memory.refused > 0;
        if (l.wrong > 20)
            break;
    }
    load_settle(&l, SETTLE_MS);
    load_judge(&l);
    printf("mem_daemon: %" PRId64 " points in rounds, %" PRId64 " in starts, %" PRId64
           " of them hit; %" PRId64 " requests, %" PRId64 " answered with 5xx, %" PRId64
           " not answered; the worker ended %" PRId64 " times and said why; %" PRId64
           " rows; %d wrong; %" PRId64 " ms\n", tried_rounds, tried_starts, hit, l.requests,
           l.refused_5xx, l.unanswered, l.ended, l.rows_len, l.wrong,
           exj_test_now_ms() - began);
    load_release(&l);
    return l.wrong ? 1 : 0;
}
