/* clock_daemon - the whole worker under a wall clock that jumps, stands and steps.
 *
 *   clock_daemon [--seconds N] [--clock own|faketime] [--seed S]
 *
 * Beside the load of mem_load.h a schedule fires each second and slow rows outlast their lease
 * of one second while the clock goes a day forward, a day back, an hour, a few seconds, or
 * stands. Half the time nothing else happens: then no lease may be taken from the living, every
 * slow row begins once. In the other half the worker is stopped for longer than its leases
 * and killed. In the end nothing is lost, no tick came twice, the journal agrees.
 *
 * `own` is wall-clock.so (tests/support/wall_clock.h): clock_gettime(CLOCK_REALTIME). `faketime`
 * is libfaketime (Debian package faketime), which moves time(), gettimeofday and the times of
 * files, too; the monotonic clock stays the machine's with both. */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/faults/mem_load.h"

#define DAY_MS 86400000LL
#define SETTLE_MS 20000
#define SLOW_MAX 400
#define FAKETIME "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

static load l;
static bool faketime;
static volatile int64_t *offset_ns; /* of wall-clock.so */
static int64_t offset_ms;
static int slow, slow_of_first_half;
static int64_t jumps, freezes, stops, kills;

static void set_clock(int64_t ms)
{
    char text[40], beside[300];

    offset_ms = ms;
    if (!faketime) {
        *offset_ns = ms * 1000000;
        return;
    }
    snprintf(text, sizeof(text), "%+.3f", (double)ms / 1000);
    snprintf(beside, sizeof(beside), "%s", exj_tmp_path(&l.d.tmp, "clock.new"));
    exj_spit(beside, text);
    rename(beside, exj_tmp_path(&l.d.tmp, "clock"));
}

static void open_clock(void)
{
    char path[300];
    int fd;

    snprintf(path, sizeof(path), "%s", exj_tmp_path(&l.d.tmp, "clock"));
    if (faketime) {
        exj_daemon_set(&l.d, "LD_PRELOAD", "%s", FAKETIME);
        exj_daemon_set(&l.d, "FAKETIME_TIMESTAMP_FILE", "%s", path);
        exj_daemon_set(&l.d, "FAKETIME_NO_CACHE", "1");
        exj_daemon_set(&l.d, "FAKETIME_DONT_FAKE_MONOTONIC", "1");
        exj_daemon_set(&l.d, "DONT_FAKE_MONOTONIC", "1");
    } else {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, 8) != 0)
            abort();
        offset_ns = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (offset_ns == MAP_FAILED)
            abort();
        exj_daemon_set(&l.d, "LD_PRELOAD", "%s", EXJ_BINARY_DIR "/tests/preload/wall-clock.so");
        exj_daemon_set(&l.d, "EXJ_TEST_CLOCK", "%s", path);
    }
    set_clock(0);
}

/* The clock stands still for so long, as far as the worker can see. */
static void freeze(int64_t ms)
{
    int64_t began = exj_test_now_ms(), at = offset_ms, now;

    while ((now = exj_test_now_ms()) < began + ms) {
        set_clock(at - (now - began));
        poll(NULL, 0, 1);
    }
    freezes++;
}

static void jump(load *unused)
{
    static const int64_t spans[] = { DAY_MS, -DAY_MS, 3600000, -3600000, 7000, -7000, 250, -250 };

    (void)unused;
    if (load_any(&l, 5) == 0)
        freeze(150);
    else
        set_clock(offset_ms + spans[load_any(&l, 8)]);
    jumps++;
}

static void push_slow(void)
{
    char body[200];

    if (slow == SLOW_MAX)
        return;
    snprintf(body, sizeof(body), "{\"id\":\"s%d\",\"record\":{\"sleepMs\":2300,\"deaf\":true}}",
             slow++);
    if (load_ask(&l, "POST", "/v1/matrices/m/events", body, NULL) != 200)
        load_wrong(&l, "a slow row was not taken");
}

static void half(int64_t ms, bool harder)
{
    int64_t end = exj_test_now_ms() + ms, next_slow = 0;

    while (exj_test_now_ms() < end) {
        if (exj_test_now_ms() >= next_slow) {
            push_slow();
            next_slow = exj_test_now_ms() + 700;
        }
        load_round(&l, jump);
        if (harder && load_any(&l, 12) == 0) {
            exj_prog_signal(&l.d.prog, SIGSTOP);
            if (exj_prog_wait(&l.d.prog, 1500) != -1) /* longer than its leases */
                load_wrong(&l, "it ended while it was stopped");
            jump(&l);
            exj_prog_signal(&l.d.prog, SIGCONT);
            stops++;
        } else if (harder && load_any(&l, 12) == 0) {
            exj_prog_signal(&l.d.prog, SIGKILL);
            exj_prog_wait(&l.d.prog, 10000);
            jump(&l);
            load_start(&l);
            kills++;
        }
    }
}

/* Slow rows up to `len` have begun once each; tokens of a row never come again. */
static void judge_slow(int len)
{
    exj_effects e;
    char name[40];

    exj_effects_read(&l.d, &e);
    for (int k = 0; k < len; k++) {
        int begins = 0;

        snprintf(name, sizeof(name), "m||g|s%d", k);
        for (size_t i = 0; i < e.len; i++)
            begins += e.items[i].what == 'B' && !strcmp(e.items[i].job, name);
        if (begins != 1)
            load_wrong(&l, "slow row s%d began %d times although only the clock jumped", k, begins);
    }
    exj_effects_release(&e);
}

struct ticks {
    int64_t rows;
    char names[8192][32];
};

static bool see_tick(void *user, const json_t *row)
{
    struct ticks *t = user;
    const char *id = json_string_value(json_object_get(row, "recordId"));

    if (!id || strncmp(id, "t@", 2) || t->rows == 8192)
        return true;
    for (int64_t i = 0; i < t->rows; i++)
        if (!strcmp(t->names[i], id))
            load_wrong(&l, "tick %s came twice", id);
    snprintf(t->names[t->rows++], sizeof(t->names[0]), "%s", id);
    return true;
}

static int64_t judge_ticks(void)
{
    static struct ticks t;
    json_t *o = NULL;
    int64_t fired;

    exj_daemon_rows(&l.d, "m", see_tick, &t);
    exj_daemon_call(&l.d, "GET", "/v1/schedules/t", NULL, &o);
    fired = json_integer_value(json_object_get(o, "fired"));
    json_decref(o);
    if (fired != t.rows)
        load_wrong(&l, "%" PRId64 " ticks fired, %" PRId64 " rows are there", fired, t.rows);
    if (fired < 1)
        load_wrong(&l, "no tick fired");
    return fired;
}

int main(int argc, char **argv)
{
    int64_t began = exj_test_now_ms(), seconds = 6, fired;
    uint64_t seed = 0;
    bool has_seed = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seconds") && atoll(argv[i + 1]) > 0)
            seconds = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--clock") &&
                 (!strcmp(argv[i + 1], "own") || !strcmp(argv[i + 1], "faketime")))
            faketime = !strcmp(argv[i + 1], "faketime");
        else if (!strcmp(argv[i], "--seed") && (has_seed = true))
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return fprintf(stderr, "clock_daemon: unknown argument '%s'; see the head of "
                           "tests/faults/clock_daemon.c\n", argv[i]), 2;
    }
    if (EXJ_SHORT_SANITIZED)
        return printf("SKIPPED: clock_daemon: not with a sanitizer\n"), 0;
    if (faketime && access(FAKETIME, R_OK) != 0)
        return printf("SKIPPED: clock_daemon: no %s (Debian package faketime)\n", FAKETIME), 0;
    load_init(&l, "clock_daemon", has_seed ? seed : exj_test_seed("clock_daemon"), false);
    l.reload_every = 0;
    exj_daemon_set(&l.d, "EXELLIX_JOBS_LEASE_SECONDS", "1");
    exj_daemon_set(&l.d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "12");
    open_clock();
    l.case_text = "the clock jumps";
    load_start(&l);
    load_configs(&l);
    if (load_ask(&l, "PUT", "/v1/configs/schedules/t",
                 "{\"scheduleId\":\"t\",\"payload\":{\"everySeconds\":1,\"start\":"
                 "{\"matrixCatalogId\":\"m\"}}}", NULL) >= 300)
        load_wrong(&l, "the schedule was not taken");
    half(seconds * 500, false);
    slow_of_first_half = slow;
    exj_prog_wait(&l.d.prog, 2600); /* the last of them */
    judge_slow(slow_of_first_half);
    l.case_text = "the clock jumps, it is stopped and killed";
    half(seconds * 500, true);

    load_ask(&l, "POST", "/v1/schedules/t/pause", NULL, NULL);
    set_clock((offset_ms > 0 ? offset_ms : 0) + 40 * DAY_MS); /* every timer is over */
    load_ask(&l, "POST", "/v1/workers/resume", NULL, NULL);
    load_settle(&l, SETTLE_MS);
    fired = judge_ticks();
    load_judge(&l);
    printf("clock_daemon: seed %" PRIu64 ", clock %s: %" PRId64 " jumps, %" PRId64 " freezes, %" PRId64
           " stops past the lease, %" PRId64 " kills; %d slow rows, %" PRId64 " ticks, %" PRId64
           " rows, %d rounds; %d wrong; %" PRId64 " ms\n", l.first_seed,
           faketime ? "libfaketime" : "own", jumps, freezes, stops, kills, slow, fired, l.rows_len,
           l.round, l.wrong, exj_test_now_ms() - began);
    load_release(&l);
    return l.wrong ? 1 : 0;
}
