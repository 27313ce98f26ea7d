/* fd_daemon - the whole worker without descriptors and without threads.
 *
 *   fd_daemon [--seed S] [--step N]
 *
 * 1. It is started with 4, 4 + N, ... descriptors: it ends and says what it lacks, or it serves
 *    and stops as told.
 * 2. While it works its limit is lowered to what it has open, and a few more, and more clients
 *    come than can be served: it goes on afterwards, has lost nothing and holds no descriptor
 *    of them.
 * 3. Each thread of a start, and threads of rounds of work (mem_load.h), cannot be had. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/faults/mem_load.h"

#define CLIENTS 40
#define SETTLE_MS 10000
#define FDS_ENOUGH 160 /* a start needs no more than this */

static load l;
static char text[160];

static int count_fds(void)
{
    char path[64];
    struct dirent *e;
    int n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)l.d.prog.pid);
    d = opendir(path);
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* ---- 1: from the start ------------------------------------------------------------------------ */

/* 1: it served. */
static int start_with(int fds)
{
    char limit[40];
    const char *args[] = { limit, EXJ_BINARY_DIR "/bin/exellix-jobs", "serve", NULL };
    int status;

    snprintf(limit, sizeof(limit), "--nofile=%d:%d", fds, fds);
    snprintf(text, sizeof(text), "started with %d descriptors", fds);
    l.case_text = text;
    exj_prog_start(&l.d.prog, &l.d.tmp, "/usr/bin/prlimit", (const char *const *)l.d.env, args);
    if (exj_daemon_wait_ready(&l.d, 10000)) {
        exj_prog_wait(&l.d.prog, 20); /* a little work */
        if (exj_prog_is_running(&l.d.prog) && (status = exj_daemon_stop(&l.d, 15000)) != 0)
            load_wrong(&l, "the stop: %d", status);
        if (l.d.prog.pid)
            exj_prog_signal(&l.d.prog, SIGKILL), exj_prog_wait(&l.d.prog, 10000);
        return 1;
    }
    status = exj_prog_wait(&l.d.prog, 1);
    if (status == -1) {
        load_wrong(&l, "it neither got ready nor ended");
        exj_prog_signal(&l.d.prog, SIGKILL);
        exj_prog_wait(&l.d.prog, 10000);
    } else {
        load_ended(&l, status);
    }
    return 0;
}

/* ---- 2: while it works ------------------------------------------------------------------------ */

static void limit_to(rlim_t fds)
{
    struct rlimit r = { fds, 0 };
    struct rlimit was;

    if (prlimit(l.d.prog.pid, RLIMIT_NOFILE, NULL, &was) != 0)
        return;
    r.rlim_max = was.rlim_max;
    prlimit(l.d.prog.pid, RLIMIT_NOFILE, &r, NULL);
}

/* More clients than can be served. Returns how many were answered; the others are given up. */
static int crowd(void)
{
    static const char ask[] = "GET /v1/rows?limit=1 HTTP/1.1\r\nHost: localhost\r\n"
                              "Connection: close\r\n\r\n";
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(l.d.port) };
    struct pollfd p[CLIENTS];
    int answered = 0;
    int64_t end = exj_test_now_ms() + 150;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < CLIENTS; i++) {
        p[i] = (struct pollfd){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                                .events = POLLIN };
        if (connect(p[i].fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
            send(p[i].fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) < 0)
            p[i].events = 0;
    }
    for (int64_t left; (left = end - exj_test_now_ms()) > 0;) {
        char some[20];
        int open = 0;

        for (int i = 0; i < CLIENTS; i++)
            open += p[i].events != 0;
        if (!open || poll(p, CLIENTS, (int)left) <= 0)
            break;
        for (int i = 0; i < CLIENTS; i++) {
            if (!p[i].events || !p[i].revents)
                continue;
            answered += recv(p[i].fd, some, sizeof(some), 0) > 12 && !memcmp(some + 9, "200", 3);
            p[i].events = 0;
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        close(p[i].fd);
    return answered;
}

static int most; /* descriptors that may be open */

static bool has_let_go(void *user)
{
    (void)user;
    return !exj_prog_is_running(&l.d.prog) || count_fds() <= most;
}

static void work_with(int fds, int more, int64_t *answered)
{
    snprintf(text, sizeof(text), "%d descriptors more than in use", more);
    l.case_text = text;
    load_round(&l, NULL); /* rows are on their way */
    limit_to((rlim_t)(fds + more));
    *answered += crowd();
    limit_to(1024);
    load_settle(&l, SETTLE_MS);
    most = fds + 12; /* readers of the store are kept */
    if (!exj_until(has_let_go, NULL, l.d.prog.pidfd, 20, 10000))
        load_wrong(&l, "%d descriptors were open before, now %d", fds, count_fds());
}

/* ---- 3: threads ------------------------------------------------------------------------------- */

static int64_t threads_of_start(void)
{
    load_arm(&l.ctl->threads, INT64_MAX - 9, 1);
    load_start(&l);
    load_disarm(&l.ctl->threads);
    return l.ctl->threads.seen;
}

static void start_without(int64_t nth)
{
    int status = 0;

    snprintf(text, sizeof(text), "thread %" PRId64 " of a start", nth);
    l.case_text = text;
    if (l.d.prog.pid && (status = exj_daemon_stop(&l.d, 20000)) != 0)
        load_wrong(&l, "the stop before it: %d", status);
    load_arm(&l.ctl->threads, nth, 1);
    exj_daemon_spawn(&l.d);
    if (!exj_daemon_wait_ready(&l.d, 10000)) {
        load_disarm(&l.ctl->threads);
        status = exj_prog_wait(&l.d.prog, 2000);
        if (status == -1) {
            load_wrong(&l, "it neither got ready nor ended");
            exj_prog_signal(&l.d.prog, SIGKILL);
            exj_prog_wait(&l.d.prog, 10000);
        } else {
            load_ended(&l, status);
        }
        load_start(&l);
    }
    load_disarm(&l.ctl->threads);
}

static void round_without(int64_t nth, int64_t in_a_row)
{
    snprintf(text, sizeof(text), "%" PRId64 " threads from %" PRId64 " on of a round", in_a_row,
             nth);
    l.case_text = text;
    load_arm(&l.ctl->threads, nth, in_a_row);
    load_round(&l, NULL);
    load_disarm(&l.ctl->threads);
    load_settle(&l, SETTLE_MS);
}

int main(int argc, char **argv)
{
    int64_t began = exj_test_now_ms(), answered = 0, threads, hit = 0;
    int step = 3, served = 0, starts = 0, least = 0, fds;
    uint64_t seed = 0;
    bool has_seed = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--step") && atoi(argv[i + 1]) > 0)
            step = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed") && (has_seed = true))
            seed = strtoull(argv[i + 1], NULL, 10);
        else
            return fprintf(stderr, "fd_daemon: unknown argument '%s'; see the head of "
                           "tests/faults/fd_daemon.c\n", argv[i]), 2;
    }
    if (EXJ_SHORT_SANITIZED)
        return printf("SKIPPED: fd_daemon: a sanitizer has threads and files of its own\n"), 0;
    load_init(&l, "fd_daemon", has_seed ? seed : exj_test_seed("fd_daemon"), true);
    l.reload_every = 0;
    load_start(&l);
    load_configs(&l);
    load_settle(&l, SETTLE_MS);
    if (exj_daemon_stop(&l.d, 20000) != 0)
        load_wrong(&l, "the first stop");
    for (int n = 4 + (int)load_any(&l, (unsigned)step); n < FDS_ENOUGH && served < 6; n += step) {
        int now = start_with(n);

        starts++;
        served += now;
        least = now && !least ? n : least;
        if (served && !now)
            load_wrong(&l, "it served with fewer");
    }
    if (!served)
        load_wrong(&l, "%d descriptors are not enough for a start", FDS_ENOUGH);
    printf("fd_daemon: %d starts; it serves from %d descriptors on\n", starts, least);

    threads = threads_of_start();
    load_settle(&l, SETTLE_MS);
    crowd(); /* what many clients need once, such as readers of the store, is there now */
    load_round(&l, NULL);
    load_settle(&l, SETTLE_MS);
    for (int more = 0; more <= 12; more += 1 + more / 3) {
        fds = count_fds();
        work_with(fds, more, &answered);
    }
    printf("fd_daemon: %" PRId64 " clients of %d a time were answered while descriptors were "
           "short; now %d are open\n", answered, CLIENTS, count_fds());

    for (int64_t n = 1; n <= threads; n++) {
        start_without(n);
        hit += l.ctl->threads.refused > 0;
    }
    load_settle(&l, SETTLE_MS);
    for (int i = 0; i < 12; i++) {
        round_without(1 + load_any(&l, 45), i % 3 ? 1 : 6);
        hit += l.ctl->threads.refused > 0;
    }
    load_judge(&l);
    printf("fd_daemon: seed %" PRIu64 "; %" PRId64 " threads in a start, each refused once; %" PRId64
           " points hit; %" PRId64 " requests, %" PRId64 " answered with 5xx, %" PRId64
           " not answered; the worker ended %" PRId64 " times and said why; %" PRId64
           " rows; %d wrong; %" PRId64 " ms\n", l.first_seed, threads, hit, l.requests,
           l.refused_5xx, l.unanswered, l.ended, l.rows_len, l.wrong,
           exj_test_now_ms() - began);
    load_release(&l);
    return l.wrong ? 1 : 0;
}
