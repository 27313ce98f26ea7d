/* tests/bench/bench_lanes.c - what a call costs on each lane, and what the socket alone costs.
 *
 *   bench_lanes [SECONDS a line (default 1) [IN FLIGHT: only lane host, 300 bytes]]
 *
 * The plugin does nothing (tests/support/plugins/noop_engine.c), so what is measured is ours.
 * "limit" is a child that answers frames of the same sizes over the same framing (wire.h) and
 * does nothing else, driven by one thread: the best that could be had from that socket. On
 * lane host ("host") the next call begins where one ended, on the pump's thread; "host+1" is the
 * same with calls handed in by another thread, whose waking is in the figure. One call in
 * flight is waited for by who made it. Every line is the median of three turns, taken in
 * between each other.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/plugin/guest.h"

#define ANSWER "{\"status\":\"completed\"}"
#define HOST_EXE EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host"
#define IN_FLIGHT_MAX 64

static double seconds = 1.0;
static char *record;

static void need(bool good, const char *what, const exj_err *err)
{
    if (good)
        return;
    fprintf(stderr, "bench_lanes: %s: %s\n", what, err ? err->text : "failed");
    exit(1);
}

static double now(void)
{
    return (double)exj_clock_mono_ns() / 1e9;
}

/* Processor time of this process so far, in s. */
static double used(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* That of another process. */
static double used_by(pid_t pid)
{
    struct timespec t = { 0, 0 };
    clockid_t clock;

    if (pid <= 0 || clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
        return 0.0;
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static pid_t host_of(exj_instance *i)
{
    exj_remote_view v;

    exj_remote_look(i, &v);
    return v.pid;
}

struct rate {
    double calls;    /* a second */
    double cpu, its; /* processor time a call in s: ours, and the other process's */
};

static exj_args args_of(size_t bytes)
{
    return (exj_args){ .size_of = EXJ_SIZE(exj_args, token), .attempt = 1,
                       .deadline_ns = UINT64_MAX, .model = EXJ_STR("{\"id\":\"g\"}"),
                       .runtime = { record, bytes }, .job_id = EXJ_STR("job-1"),
                       .record_id = EXJ_STR("record-1"), .token = 1 };
}

/* ---- the limit ---------------------------------------------------------------------------- */

static void put_call(exj_buf *b, size_t bytes)
{
    exj_args a = args_of(bytes);

    exj_buf_reset(b);
    exj_wire_u32(b, a.attempt);
    exj_wire_u64(b, 0);
    exj_wire_u64(b, a.token);
    exj_wire_u32(b, 1);
    exj_wire_text(b, (exj_slice){ "", 0 });
    exj_wire_text(b, (exj_slice){ a.runtime.p, bytes });
    exj_wire_text(b, (exj_slice){ a.job_id.p, a.job_id.n });
    exj_wire_text(b, (exj_slice){ a.record_id.p, a.record_id.n });
}

static void put_result(exj_buf *b)
{
    exj_buf_reset(b);
    exj_wire_u32(b, EXJ_R_OK);
    exj_wire_u32(b, 1);
    exj_wire_text(b, (exj_slice){ "", 0 });
    exj_wire_text(b, (exj_slice){ "", 0 });
    exj_wire_text(b, exj_slice_of(ANSWER));
    exj_wire_u64(b, 1);
}

/* Frames there are, each answered at once, as a plugin host must. */
static void echo(int fd)
{
    exj_wire *w = NULL;
    exj_buf b = EXJ_BUF_INIT;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    exj_frame f;
    exj_code rc;

    if (exj_wire_new(fd, EXJ_WIRE_MAX, &w, NULL))
        _exit(1);
    put_result(&b);
    for (;;) {
        while ((rc = exj_wire_receive(w, &f, NULL)) == EXJ_BUSY)
            poll(&p, 1, -1);
        if (rc || exj_wire_send(w, EXJ_F_RESULT, f.call, exj_buf_slice(&b), NULL) ||
            exj_wire_drain(w, NULL))
            _exit(0);
        exj_frame_release(&f);
    }
}

static struct rate limit(size_t bytes, unsigned in_flight)
{
    struct pollfd p = { .events = POLLIN };
    exj_wire *w = NULL;
    exj_buf b = EXJ_BUF_INIT;
    uint64_t calls = 0;
    unsigned out = 0;
    int pair[2];
    pid_t pid;
    double from, took, cpu, its;
    exj_err err = { 0 };

    need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair", NULL);
    pid = fork();
    need(pid >= 0, "fork", NULL);
    if (pid == 0) {
        close(pair[0]);
        echo(pair[1]);
    }
    close(pair[1]);
    need(exj_wire_new(pair[0], EXJ_WIRE_MAX, &w, &err) == EXJ_OK, "wire", &err);
    p.fd = pair[0];
    put_call(&b, bytes);
    cpu = used();
    its = used_by(pid);
    from = now();
    while (now() - from < seconds) {
        exj_frame f;
        exj_code rc;

        for (; out < in_flight; out++)
            need(exj_wire_queue(w, EXJ_F_CALL, calls + out, exj_buf_slice(&b), &err) == EXJ_OK,
                 "queue", &err);
        rc = exj_wire_flush(w, &err);
        need(rc == EXJ_OK || rc == EXJ_BUSY, "flush", &err);
        p.events = (short)(POLLIN | (rc == EXJ_BUSY ? POLLOUT : 0));
        poll(&p, 1, -1);
        while ((rc = exj_wire_receive(w, &f, &err)) == EXJ_OK) {
            exj_frame_release(&f);
            calls++;
            out--;
        }
        need(rc == EXJ_BUSY, "receive", &err);
    }
    took = now() - from;
    cpu = used() - cpu;
    its = used_by(pid) - its;
    exj_wire_free(w);
    exj_buf_release(&b);
    waitpid(pid, NULL, 0);
    return (struct rate){ (double)calls / took, cpu / (double)calls,
                          its / (double)calls };
}

/* ---- calls -------------------------------------------------------------------------------- */

static exj_result direct_emit(void *ctx, exj_call c, exj_str json)
{
    (void)c;
    *(uint64_t *)ctx += json.n;
    return EXJ_R_OK;
}

/* execute itself, called through a pointer: ns a call. */
static double direct(const exj_guest *g)
{
    uint64_t bytes = 0, n = 0;
    exj_host h = { .size_of = EXJ_SIZE(exj_host, extension), .ctx = &bytes, .emit = direct_emit };
    exj_args a = args_of(300);
    void *self = NULL;
    double from, took;

    g->vt.create(&h, (exj_str){ "{}", 2 }, &self);
    for (from = now(); now() - from < seconds / 4;)
        for (unsigned k = 0; k < 1000; k++, n++)
            g->vt.execute(self, n, &a);
    took = now() - from;
    g->vt.destroy(self);
    need(bytes > n, "direct", NULL);
    return took / (double)n * 1e9;
}

/* One call after the other, waited for: calls a second. */
static struct rate one_by_one(exj_instance *i, size_t bytes)
{
    static const exj_call_ports none = { 0 };
    unsigned turn = i->guest->lane == EXJ_LANE_IN_PROCESS ? 1000 : 1;
    exj_args a = args_of(bytes);
    exj_call_slot *s = NULL;
    exj_call_end end;
    exj_err err = { 0 };
    uint64_t n = 0;
    double from, took, cpu, its;

    need(exj_call_slot_new(1 << 20, &s, &err) == EXJ_OK, "slot", &err);
    exj_call_run(i, s, &a, &none, &end, NULL); /* started, warm */
    cpu = used();
    its = used_by(host_of(i));
    for (from = now(); now() - from < seconds;)
        for (unsigned k = 0; k < turn; k++, n++) {
            exj_call_run(i, s, &a, &none, &end, NULL);
            if (end.result != EXJ_R_OK || end.answer.n != sizeof ANSWER - 1) {
                fprintf(stderr, "bench_lanes: result %d: %.*s\n", end.result,
                        (int)end.error_text.n, end.error_text.p);
                exit(1);
            }
        }
    took = now() - from;
    cpu = used() - cpu;
    its = used_by(host_of(i)) - its;
    exj_call_slot_free(s);
    return (struct rate){ (double)n / took, cpu / (double)n, its / (double)n };
}

struct flight;
struct passenger {
    struct flight *flight;
    struct passenger *next;
    exj_call_slot *slot;
    exj_call_ports ports;
    exj_args args;
};

struct flight {
    pthread_mutex_t mu;
    pthread_cond_t some;
    exj_instance *instance;
    bool chained;
    double until;
    struct passenger *free; /* guarded by mu, as all below */
    unsigned free_n, wanted; /* wake who waits for so many; 0: nobody waits */
    uint64_t done;
    struct passenger all[IN_FLIGHT_MAX];
};

/* One call ended: begin the next, or tell who hands them in. */
static void landed(void *user, exj_call_slot *s, const exj_call_end *end)
{
    struct passenger *p = user;
    struct flight *f = p->flight;
    exj_call_end last = *end;
    unsigned n = 0;
    bool wake;

    do {
        if (last.result != EXJ_R_OK) {
            fprintf(stderr, "bench_lanes: result %d: %.*s\n", last.result,
                    (int)last.error_text.n, last.error_text.p);
            exit(1);
        }
        n++;
        if (!f->chained || now() >= f->until)
            break;
        if (!exj_call_run(f->instance, s, &p->args, &p->ports, &last, landed)) {
            pthread_mutex_lock(&f->mu);
            f->done += n;
            pthread_mutex_unlock(&f->mu);
            return;
        }
    } while (true);
    pthread_mutex_lock(&f->mu);
    f->done += n;
    p->next = f->free;
    f->free = p;
    f->free_n++;
    wake = f->wanted && f->free_n >= f->wanted;
    if (wake)
        f->wanted = 0;
    pthread_mutex_unlock(&f->mu);
    if (wake)
        pthread_cond_signal(&f->some);
}

static struct passenger *take_all(struct flight *f, unsigned at_least)
{
    struct passenger *p;

    pthread_mutex_lock(&f->mu);
    while (f->free_n < at_least) {
        f->wanted = at_least;
        pthread_cond_wait(&f->some, &f->mu);
    }
    f->wanted = 0;
    p = f->free;
    f->free = NULL;
    f->free_n = 0;
    pthread_mutex_unlock(&f->mu);
    return p;
}

static struct rate many(exj_instance *i, size_t bytes, unsigned in_flight, bool chained)
{
    struct flight *f = calloc(1, sizeof *f);
    struct passenger *p, *next;
    exj_call_end end;
    exj_err err = { 0 };
    struct rate ret;
    double from, took, cpu, its;

    need(f != NULL, "memory", NULL);
    pthread_mutex_init(&f->mu, NULL);
    pthread_cond_init(&f->some, NULL);
    for (unsigned k = 0; k < in_flight; k++) {
        p = &f->all[k];
        *p = (struct passenger){ .flight = f, .next = f->free, .ports = { .user = p },
                                 .args = args_of(bytes) };
        need(exj_call_slot_new(1 << 20, &p->slot, &err) == EXJ_OK, "slot", &err);
        f->free = p;
        f->free_n++;
    }
    cpu = used();
    its = used_by(host_of(i));
    from = now();
    f->instance = i;
    f->chained = chained;
    f->until = from + seconds;
    do
        for (p = take_all(f, chained ? in_flight : 1); p; p = next) {
            next = p->next;
            if (exj_call_run(i, p->slot, &p->args, &p->ports, &end, landed))
                landed(p, p->slot, &end);
        }
    while (!chained && now() < f->until);
    take_all(f, in_flight);
    took = now() - from;
    for (unsigned k = 0; k < in_flight; k++)
        exj_call_slot_free(f->all[k].slot);
    ret = (struct rate){ (double)f->done / took, (used() - cpu) / (double)f->done,
                         (used_by(host_of(i)) - its) / (double)f->done };
    pthread_cond_destroy(&f->some);
    pthread_mutex_destroy(&f->mu);
    free(f);
    return ret;
}

/* ---- the table ---------------------------------------------------------------------------- */

static double median(double a, double b, double c)
{
    double low = a < b ? a : b, high = a < b ? b : a;

    return c < low ? low : c > high ? high : c;
}

static struct rate middle(const struct rate r[3])
{
    return (struct rate){ median(r[0].calls, r[1].calls, r[2].calls),
                          median(r[0].cpu, r[1].cpu, r[2].cpu),
                          median(r[0].its, r[1].its, r[2].its) };
}

static void line(const char *lane, size_t bytes, unsigned in_flight, struct rate r, double of)
{
    printf("%-10s %7zu %9u %12.0f %10.2f %10.2f", lane, bytes, in_flight, r.calls, 1e6 / r.calls,
           1e6 * r.cpu);
    if (r.its > 0.0)
        printf(" %10.2f", 1e6 * r.its);
    if (of > 0.0)
        printf(" %8.2f", r.calls / of);
    putchar('\n');
    fflush(stdout);
}

static exj_instance *on_lane(exj_registry *r, exj_lane lane)
{
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_err err = { 0 };

    need(exj_registry_find_lane(r, "noop-engine", EXJ_KIND_GRAPH_ENGINE, lane, &g, &err) ==
             EXJ_OK, "noop-engine", &err);
    need(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err) == EXJ_OK, "create", &err);
    return i;
}

static void host_lines(exj_instance *i, size_t bytes, unsigned only)
{
    static const unsigned flights[] = { 1, 4, 16, 64 };

    for (unsigned k = 0; k < 4; k++) {
        unsigned n = flights[k];
        struct rate l[3], h[3], w[3];

        if (only && only != n)
            continue;
        for (unsigned turn = 0; turn < 3; turn++) {
            l[turn] = limit(bytes, n);
            h[turn] = n == 1 ? one_by_one(i, bytes) : many(i, bytes, n, true);
            if (n > 1)
                w[turn] = many(i, bytes, n, false);
        }
        line("limit", bytes, n, middle(l), 0.0);
        line("host", bytes, n, middle(h), middle(l).calls);
        if (n > 1)
            line("host+1", bytes, n, middle(w), middle(l).calls);
    }
}

int main(int argc, char **argv)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    static const exj_remote_settings settings = { .host_exe = HOST_EXE, .idle_ms = 60000,
                                                  .grace_ms = 2000 };
    static const size_t sizes[] = { 300, 65536 };
    unsigned only = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    exj_registry *r = NULL;
    exj_instance *near, *far, *caged;
    exj_err err = { 0 };

    if (argc > 1 && atof(argv[1]) > 0.0)
        seconds = atof(argv[1]);
    record = calloc(1, 65536);
    need(record != NULL, "memory", NULL);
    memset(record, 'r', 65536);
    need(exj_registry_open(&(exj_registry_options){ .dirs = dirs, .remote = &settings }, &r,
                           &err) == EXJ_OK, "registry", &err);
    near = on_lane(r, EXJ_LANE_IN_PROCESS);
    far = on_lane(r, EXJ_LANE_HOST);
    caged = on_lane(r, EXJ_LANE_SANDBOX);

    printf("%-10s %7s %9s %12s %10s %10s %10s %8s\n", "lane", "bytes", "in flight", "calls/s",
           "us/call", "our cpu us", "its cpu us", "of limit");
    for (size_t k = 0; k < 2 && !only; k++) {
        struct rate n[3];
        double d[3], per;

        for (unsigned turn = 0; turn < 3; turn++) {
            d[turn] = direct(near->guest);
            n[turn] = one_by_one(near, sizes[k]);
        }
        per = middle(n).calls;
        line("in-process", sizes[k], 1, middle(n), 0.0);
        printf("           a direct call takes %.0f ns; the lane adds %.0f ns\n",
               median(d[0], d[1], d[2]), 1e9 / per - median(d[0], d[1], d[2]));
    }
    for (size_t k = 0; k < (only ? 1 : 2); k++)
        host_lines(far, sizes[k], only);
    for (size_t k = 0; k < 2 && !only; k++)
        line("sandbox", sizes[k], 1, one_by_one(caged, sizes[k]), 0.0);
    exj_registry_free(r);
    free(record);
    return 0;
}
