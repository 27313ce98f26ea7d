/* Lanes host and sandbox: guests in other processes, with all the ways in which those end. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/plugin/guest.h"
#include "core/plugin/wire.h"
#include "tests/plugins/guests.h"

#define HOST_EXE EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host"
#define LATE_MS 30000

/* ---- a plugin that does what its record says ------------------------------------------------ */

#define MORE                                                                                \
    "#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/mman.h>\n"  \
    "struct job { const exj_host *h; exj_call c; };"                                        \
    "static void later(void *p) { struct job j = *(struct job *)p; free(p);"                \
    " j.h->emit(j.h->ctx, j.c, exj_text(ok));"                                              \
    " if (j.h->complete(j.h->ctx, j.c, EXJ_R_OK) != EXJ_R_OK) abort(); }"                   \
    "static void later_crash(void *p) { free(p); *(volatile int *)8 = 1; }"                 \
    "static int deep(volatile char *p) { volatile char a[4096]; a[0] = p ? *p : 1;"         \
    " return deep(a) + a[0]; }"                                                             \
    "static exj_result self_test(void *i, exj_call c) { (void)i; (void)c; return EXJ_R_OK; }" \
    "static char state[64] = \"new\";"                                                      \
    "static exj_result save(void *i, exj_call c) { const exj_host *h = i;"                  \
    " return h->emit(h->ctx, c, exj_text(state)); }"                                        \
    "static exj_result load(void *i, uint32_t v, exj_str s) { (void)i;"                     \
    " if (v != 7 || s.n >= sizeof state) return EXJ_R_INPUT;"                               \
    " memcpy(state, s.p, s.n); state[s.n] = 0; return EXJ_R_OK; }"                          \
    "static exj_result model(void *i, exj_call c, exj_str g) { const exj_host *h = i;"      \
    " if (g.n == 4 && memcmp(g.p, \"none\", 4) == 0) return EXJ_R_MISS;"                    \
    " return h->emit(h->ctx, c, exj_text(\"{\\\"id\\\":\\\"g9\\\"}\")); }"                  \
    "static exj_call hinted; static void hint(void *i, exj_call c) { const exj_host *h = i;" \
    " if (c == hinted) { hinted = 0; h->complete(h->ctx, c, EXJ_R_CANCELLED); } }"          \
    "static int is(const exj_args *a, const char *s)"                                       \
    "{ return a->runtime.n >= strlen(s) && memcmp(a->runtime.p, s, strlen(s)) == 0; }"

#define BODY                                                                                \
    "char text[256]; struct job *j;"                                                        \
    "if (is(a, \"echo\")) return h->emit(h->ctx, c, a->runtime);"                           \
    "if (is(a, \"pid\")) { snprintf(text, sizeof text, \"%d\", (int)getpid());"             \
    " return h->emit(h->ctx, c, exj_text(text)); }"                                         \
    "if (is(a, \"model\")) { snprintf(text, sizeof text, \"%llu %c\","                      \
    " (unsigned long long)a->model.n, a->model.n ? a->model.p[a->model.n - 1] : '-');"      \
    " return h->emit(h->ctx, c, exj_text(text)); }"                                         \
    "if (is(a, \"args\")) { snprintf(text, sizeof text, \"%u %llu %.*s %.*s %d\", a->attempt," \
    " (unsigned long long)a->token, (int)a->job_id.n, a->job_id.p, (int)a->record_id.n,"    \
    " a->record_id.p, a->deadline_ns != UINT64_MAX); return h->emit(h->ctx, c, exj_text(text)); }" \
    "if (is(a, \"state\")) return h->emit(h->ctx, c, exj_text(state));"                     \
    "if (is(a, \"segv\")) *(volatile int *)16 = 1;"                                         \
    "if (is(a, \"abort\")) abort();"                                                        \
    "if (is(a, \"exit\")) exit(3);"                                                         \
    "if (is(a, \"stack\")) return deep(0);"                                                 \
    "if (is(a, \"kill\")) kill(getpid(), SIGKILL);"                                         \
    "if (is(a, \"deaf\")) { signal(SIGTERM, SIG_IGN); for (;;) pause(); }"                  \
    "if (is(a, \"hang\")) for (volatile int k = 0;;) k++;"                                  \
    "if (is(a, \"close\")) { close(3); for (;;) pause(); }"                                 \
    "if (is(a, \"garbage\")) { memset(text, 'x', sizeof text);"                             \
    " if (write(3, text, sizeof text) < 0) abort(); for (;;) pause(); }"                    \
    "if (is(a, \"huge\")) { size_t n = (size_t)1 << 30; void *p = mmap(NULL, n, PROT_READ," \
    " MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); exj_result r;"                   \
    " if (p == MAP_FAILED) return EXJ_R_RETRY;"                                             \
    " r = h->emit(h->ctx, c, (exj_str){ p, n }); munmap(p, n); return r; }"                 \
    "if (is(a, \"polite\")) { struct timespec t = { 0, 1000000 }; int32_t r;"               \
    " while (!(r = h->cancelled(h->ctx, c))) nanosleep(&t, NULL); return r; }"              \
    "if (is(a, \"wait\")) { hinted = c; return EXJ_R_PENDING; }"                            \
    "if (is(a, \"later\")) { j = malloc(sizeof *j); j->h = h; j->c = c;"                    \
    " if (h->thread_start(h->ctx, a->runtime.n > 5 ? later_crash : later, j)) return EXJ_R_RETRY;" \
    " return EXJ_R_PENDING; }"                                                              \
    "if (is(a, \"step\")) { exj_str s = { 0 }; exj_result r ="                              \
    " h->journal_lookup(h->ctx, c, exj_text(\"one\"), &s);"                                 \
    " if (r == EXJ_R_OK) return h->emit(h->ctx, c, s); if (r != EXJ_R_MISS) return r;"      \
    " r = h->journal_intent(h->ctx, c, exj_text(\"one\")); if (r) return r;"                \
    " r = h->journal_commit(h->ctx, c, exj_text(\"one\"), exj_text(\"{\\\"k\\\":1}\"));"    \
    " if (r) return r; return h->emit(h->ctx, c, exj_text(\"stored\")); }"                  \
    "if (is(a, \"print\")) { puts(\"hello from inside\"); fflush(stdout);"                  \
    " for (int k = 0; k < 5000; k++) fputc('y', stderr); fputc('\\n', stderr);"             \
    " for (int k = 0; k < 1000; k++) fprintf(stderr, \"line %d\\n\", k);"                   \
    " return h->emit(h->ctx, c, exj_text(ok)); }"                                           \
    "if (is(a, \"error\")) { h->error(h->ctx, c, EXJ_R_FAILED, exj_text(\"NoGood\"),"       \
    " exj_text(\"it is bad\")); return EXJ_R_FAILED; }"                                     \
    "if (is(a, \"rows\")) { for (int k = 0; k < 10000; k++) { exj_result r;"                \
    " int n = snprintf(text, sizeof text, \"{\\\"id\\\":\\\"%d\\\"}\", k);"                 \
    " r = h->emit(h->ctx, c, (exj_str){ text, (uint64_t)n }); if (r) return r; } return EXJ_R_OK; }" \
    "return EXJ_R_UNSUPPORTED;"

#define HOOKS                                                                               \
    ".state_version = 7, .cancel = hint, .self_test = self_test, .save_state = save,"       \
    " .load_state = load, .resolve_model = model"
#define FLAGS "(EXJ_FLAG_ASYNC | EXJ_FLAG_CONCURRENT)"

/* ---- a room with plugin hosts ---------------------------------------------------------------- */

struct house {
    struct room r;
    exj_remote_settings s;
    exj_instance *i;
    pthread_mutex_t mu;
    unsigned crashes; /* guarded by mu, as all below */
    char signal[32], trace[2048];
    bool quarantined;
};

static void on_crash(void *user, const exj_guest *g, const char *sig, exj_slice backtrace)
{
    struct house *h = user;

    (void)g;
    pthread_mutex_lock(&h->mu);
    h->crashes++;
    snprintf(h->signal, sizeof h->signal, "%s", sig);
    snprintf(h->trace, sizeof h->trace, "%.*s", (int)backtrace.n, backtrace.p);
    pthread_mutex_unlock(&h->mu);
}

static bool may_start(void *user, const exj_guest *g, exj_err *why)
{
    struct house *h = user;
    bool no;

    (void)g;
    pthread_mutex_lock(&h->mu);
    no = h->quarantined;
    pthread_mutex_unlock(&h->mu);
    if (no)
        exj_err_set(why, EXJ_REFUSED, "it is in quarantine");
    return !no;
}

static void house_registry(struct house *h, exj_lane lane)
{
    const char *tmp = getenv("TMPDIR");
    exj_err err = { 0 };

    snprintf(h->r.dir, sizeof h->r.dir, "%s/exj-test-XXXXXX",
             tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(h->r.dir));
    {
        const char *dirs[] = { h->r.dir, NULL };

        cr_assert_eq(exj_registry_open(&(exj_registry_options){ .dirs = dirs, .lane = lane,
                                                                .remote = &h->s },
                                       &h->r.registry, &err), EXJ_OK, "%s", err.text);
    }
}

/* A new house on the heap: settings must not move. */
static struct house *house_new(exj_lane lane)
{
    struct house *h = calloc(1, sizeof *h);

    pthread_mutex_init(&h->mu, NULL);
    h->s = (exj_remote_settings){ .host_exe = HOST_EXE, .idle_ms = 60000, .grace_ms = 300,
                                  .start_ms = 20000, .user = h, .crashed = on_crash,
                                  .may_start = may_start };
    house_registry(h, lane);
    return h;
}

static struct house *house_open(exj_lane lane)
{
    struct house *h = house_new(lane);

    build(&h->r, "guest", "-g", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", FLAGS, MORE, BODY, HOOKS));
    h->i = instance_of(&h->r, "guest", EXJ_KIND_GRAPH_ENGINE);
    return h;
}

static void house_close(struct house *h)
{
    room_close(&h->r);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left");
    cr_assert_eq(errno, ECHILD);
    pthread_mutex_destroy(&h->mu);
    free(h);
}

static exj_remote_view look(const struct house *h)
{
    exj_remote_view v;

    exj_remote_look(h->i, &v);
    return v;
}

/* Wait until that process is gone. */
static void wait_gone(int pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = { .fd = fd, .events = POLLIN };

    if (fd < 0)
        return; /* already */
    cr_assert_eq(poll(&p, 1, LATE_MS), 1, "process %d goes on", pid);
    close(fd);
}

/* ---- calls ----------------------------------------------------------------------------------- */

struct batch;
struct one {
    struct batch *b;
    exj_call_slot *slot;
    exj_args args;
    exj_call_ports ports;
    exj_result result;
    char answer[64], code[64], text[2200];
    unsigned ends, order;
};

struct batch {
    struct one *all;
    unsigned n, ended;
    pthread_mutex_t mu;
    pthread_cond_t some;
};

static void one_ended(void *user, exj_call_slot *s, const exj_call_end *end)
{
    struct one *o = user;

    (void)s;
    pthread_mutex_lock(&o->b->mu);
    o->result = end->result;
    o->ends++;
    o->order = o->b->ended++;
    snprintf(o->answer, sizeof o->answer, "%.*s", (int)end->answer.n, end->answer.p);
    snprintf(o->code, sizeof o->code, "%.*s", (int)end->error_code.n, end->error_code.p);
    snprintf(o->text, sizeof o->text, "%.*s", (int)end->error_text.n, end->error_text.p);
    pthread_cond_broadcast(&o->b->some);
    pthread_mutex_unlock(&o->b->mu);
}

static struct batch *batch_new(unsigned n)
{
    struct batch *b = calloc(1, sizeof *b);

    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->some, NULL);
    b->all = calloc(n, sizeof *b->all);
    b->n = n;
    for (unsigned k = 0; k < n; k++) {
        b->all[k].b = b;
        b->all[k].slot = slot_of(1 << 20);
        b->all[k].ports.user = &b->all[k];
        b->all[k].args = args_of("{\"id\":\"g1\",\"nodes\":[]}", "echo");
    }
    return b;
}

static void says_runtime(struct one *o, const char *text)
{
    o->args.runtime = (exj_str){ text, strlen(text) };
}

static void one_start(const struct house *h, struct one *o)
{
    exj_call_end end;

    if (exj_call_run(h->i, o->slot, &o->args, &o->ports, &end, one_ended))
        one_ended(o, o->slot, &end);
}

static void batch_wait(struct batch *b, unsigned n)
{
    struct timespec until;
    int late = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LATE_MS / 1000;
    pthread_mutex_lock(&b->mu);
    while (b->ended < n && !late)
        late = pthread_cond_timedwait(&b->some, &b->mu, &until);
    pthread_mutex_unlock(&b->mu);
    cr_assert_geq(b->ended, n, "%u of %u calls ended", b->ended, n);
}

static bool batch_has(struct batch *b, unsigned n)
{
    bool has;

    pthread_mutex_lock(&b->mu);
    has = b->ended >= n;
    pthread_mutex_unlock(&b->mu);
    return has;
}

static void batch_wait_for_all(struct batch *b)
{
    batch_wait(b, b->n);
}

static void batch_run(const struct house *h, struct batch *b)
{
    for (unsigned k = 0; k < b->n; k++)
        one_start(h, &b->all[k]);
    batch_wait(b, b->n);
}

static void batch_free(struct batch *b)
{
    for (unsigned k = 0; k < b->n; k++)
        exj_call_slot_free(b->all[k].slot);
    pthread_cond_destroy(&b->some);
    pthread_mutex_destroy(&b->mu);
    free(b->all);
    free(b);
}

/* One call that is waited for. */
static struct one ask_until(const struct house *h, const char *runtime, uint64_t deadline_ns)
{
    struct batch *b = batch_new(1);
    struct one o;

    says_runtime(&b->all[0], runtime);
    b->all[0].args.deadline_ns = deadline_ns;
    batch_run(h, b);
    o = b->all[0];
    batch_free(b);
    return o;
}

static struct one ask(const struct house *h, const char *runtime)
{
    return ask_until(h, runtime, UINT64_MAX);
}

static void is_ok(const struct one *o, const char *answer)
{
    cr_assert_eq(o->result, EXJ_R_OK, "result %d: %s: %s", o->result, o->code, o->text);
    cr_assert_str_eq(o->answer, answer);
}

/* ---- the happy path -------------------------------------------------------------------------- */

Test(remote, call_crosses_with_all_its_arguments)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o = ask(h, "args");
    exj_remote_view v = look(h);

    is_ok(&o, "1 1 j-1 r-1 0");
    o = ask_until(h, "args", (uint64_t)exj_clock_mono_ns() + 60000000000u);
    is_ok(&o, "1 1 j-1 r-1 1");
    cr_assert_gt(v.pid, 0);
    cr_assert_neq(v.pid, getpid());
    cr_assert_eq(v.starts, 1);
    cr_assert_eq(v.open, 0);
    o = ask(h, "error");
    cr_assert_eq(o.result, EXJ_R_FAILED);
    cr_assert_str_eq(o.code, "NoGood");
    cr_assert_str_eq(o.text, "it is bad");
    cr_assert_eq(ask(h, "what").result, EXJ_R_UNSUPPORTED);
    house_close(h);
}

Test(remote, call_without_done_is_waited_for)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    exj_call_slot *s = slot_of(1024);
    exj_args a = args_of("{}", "echo this");
    exj_call_ports none = { 0 };
    exj_call_end end = { 0 };

    for (unsigned k = 0; k < 100; k++) {
        cr_assert(exj_call_run(h->i, s, &a, &none, &end, NULL));
        cr_assert_eq(end.result, EXJ_R_OK);
        cr_assert(exj_slice_is(end.answer, "echo this"));
    }
    exj_call_slot_free(s);
    house_close(h);
}

Test(remote, thousand_pipelined_calls_are_answered_in_their_order)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(1000);
    char texts[1000][16];

    for (unsigned k = 0; k < b->n; k++) {
        snprintf(texts[k], sizeof texts[k], "echo %u", k);
        says_runtime(&b->all[k], texts[k]);
    }
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++) {
        is_ok(&b->all[k], texts[k]);
        cr_assert_eq(b->all[k].ends, 1);
        cr_assert_eq(b->all[k].order, k);
    }
    cr_assert_eq(look(h).starts, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, crash_ends_exactly_the_call_that_was_in_it)
{
    struct house *h = house_open(EXJ_LANE_HOST);

    for (unsigned which = 0; which < 20; which += 19 / 2) {
        struct batch *b = batch_new(20);

        says_runtime(&b->all[which], "segv");
        batch_run(h, b);
        for (unsigned k = 0; k < b->n; k++) {
            struct one *o = &b->all[k];

            cr_assert_eq(o->ends, 1);
            if (k != which) {
                is_ok(o, "echo");
                continue;
            }
            cr_assert_eq(o->result, EXJ_R_CRASHED);
            cr_assert_str_eq(o->code, "PluginCrashed");
            says(o->text, "plugin test.guest 9.8.7 crashed with SIGSEGV in execute (sha256 ");
        }
        batch_free(b);
    }
    cr_assert_eq(h->crashes, 3);
    cr_assert_str_eq(h->signal, "SIGSEGV");
    says(h->trace, "guest-1-"); /* the file whose frame it is */
    cr_assert_eq(look(h).crashes, 3);
    cr_assert_eq(look(h).starts, 4);
    house_close(h);
}

Test(remote, every_way_to_die_is_named_and_the_next_call_is_unharmed)
{
    static const struct {
        const char *how, *says;
    } ways[] = { { "abort", "crashed with SIGABRT" },
                 { "exit", "ended with exit status 3" },
                 { "stack", "crashed with SIGSEGV" },
                 { "kill", "was killed by SIGKILL (out of memory?)" },
                 { "close", "closed its connection to the core" },
                 { "garbage", "broke the rules of its connection" } };
    struct house *h = house_open(EXJ_LANE_HOST);

    for (unsigned k = 0; k < sizeof ways / sizeof *ways; k++) {
        struct one o = ask(h, ways[k].how);

        cr_assert_eq(o.result, EXJ_R_CRASHED, "%s: %d %s", ways[k].how, o.result, o.text);
        says(o.text, ways[k].says);
        o = ask(h, "echo");
        is_ok(&o, "echo");
        cr_assert_eq(h->crashes, k + 1);
    }
    house_close(h);
}

/* ---- time and cancelling ---------------------------------------------------------------------- */

static uint64_t in_ms(unsigned ms)
{
    return (uint64_t)exj_clock_mono_ns() + (uint64_t)ms * 1000000u;
}

Test(remote, call_that_hangs_is_ended_at_its_deadline)
{
    static const char *const ways[] = { "hang", "deaf" };
    struct house *h = house_open(EXJ_LANE_HOST);

    for (unsigned k = 0; k < 2; k++) {
        exj_nsec from = exj_clock_mono_ns();
        struct one o = ask_until(h, ways[k], in_ms(200));

        cr_assert_eq(o.result, EXJ_R_DEADLINE, "%s: %d %s", ways[k], o.result, o.text);
        cr_assert_str_eq(o.code, "DeadlineExceeded");
        says(o.text, "did not stop within 300 ms of its deadline");
        cr_assert_lt(exj_clock_mono_ns() - from, 10000000000);
        o = ask(h, "echo");
        is_ok(&o, "echo");
    }
    cr_assert_eq(h->crashes, 0, "a deadline is no crash");
    house_close(h);
}

static int32_t gone(void *user)
{
    (void)user;
    return EXJ_R_CANCELLED;
}

Test(remote, call_that_nobody_wants_is_asked_and_then_forced)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(3);
    int pid;

    for (unsigned k = 0; k < 2; k++)
        b->all[k].ports.cancelled = gone;
    says_runtime(&b->all[0], "polite");
    says_runtime(&b->all[1], "hang");
    one_start(h, &b->all[0]);
    batch_wait(b, 1);
    pid = look(h).pid;
    cr_assert_eq(b->all[0].result, EXJ_R_CANCELLED);
    cr_assert_str_eq(b->all[0].code, "");
    cr_assert_gt(pid, 0, "who stops in time keeps the host");
    one_start(h, &b->all[1]);
    one_start(h, &b->all[2]);
    batch_wait(b, 3);
    cr_assert_eq(b->all[1].result, EXJ_R_CANCELLED);
    cr_assert_str_eq(b->all[1].code, "Cancelled");
    is_ok(&b->all[2], "echo");
    cr_assert_neq(look(h).pid, pid);
    batch_free(b);
    house_close(h);
}

Test(remote, deadline_begins_when_the_call_begins)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(3);

    /* each waits for its own deadline, 300 ms after it began */
    for (unsigned k = 0; k < 3; k++) {
        says_runtime(&b->all[k], "polite");
        b->all[k].args.deadline_ns = in_ms(300);
    }
    batch_run(h, b);
    for (unsigned k = 0; k < 3; k++) {
        cr_assert_eq(b->all[k].result, EXJ_R_DEADLINE);
        cr_assert_eq(b->all[k].order, k);
    }
    cr_assert_eq(look(h).starts, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, cancel_hint_crosses)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(2);

    says_runtime(&b->all[0], "wait");
    one_start(h, &b->all[0]);
    one_start(h, &b->all[1]); /* when this one has ended, the first is PENDING */
    batch_wait(b, 1);
    is_ok(&b->all[1], "echo");
    exj_call_cancel(b->all[0].slot);
    batch_wait(b, 2);
    cr_assert_eq(b->all[0].result, EXJ_R_CANCELLED);
    cr_assert_eq(look(h).starts, 1);
    batch_free(b);
    house_close(h);
}

/* ---- PENDING --------------------------------------------------------------------------------- */

Test(remote, pending_calls_complete_from_threads)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(100);

    for (unsigned k = 0; k < b->n; k++)
        says_runtime(&b->all[k], "later");
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++)
        is_ok(&b->all[k], "{\"status\":\"completed\"}");
    batch_free(b);
    house_close(h);
}

Test(remote, of_several_pending_calls_the_named_one_is_to_blame)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(3);
    unsigned retried = 0, crashed = 0;

    says_runtime(&b->all[0], "wait");
    says_runtime(&b->all[1], "wait");
    says_runtime(&b->all[2], "segv");
    batch_run(h, b);
    for (unsigned k = 0; k < 3; k++) {
        crashed += b->all[k].result == EXJ_R_CRASHED;
        retried += b->all[k].result == EXJ_R_RETRY && strcmp(b->all[k].code, "HostDied") == 0;
    }
    cr_assert_eq(b->all[2].result, EXJ_R_CRASHED);
    cr_assert_eq(crashed, 1);
    cr_assert_eq(retried, 2);
    cr_assert_eq(h->crashes, 1);
    batch_free(b);
    house_close(h);
}

/* ---- what a call may ask ---------------------------------------------------------------------- */

struct rows {
    struct one *o; /* first: ports.user */
    unsigned seen, until;
};

static exj_result take_row(void *user, exj_slice json)
{
    struct rows *w = user;
    char wanted[32];

    snprintf(wanted, sizeof wanted, "{\"id\":\"%u\"}", w->seen);
    if (!exj_slice_is(json, wanted))
        return EXJ_R_INPUT;
    return ++w->seen == w->until ? EXJ_R_CANCELLED : EXJ_R_OK;
}

Test(remote, resolver_emits_ten_thousand_rows_or_as_many_as_are_wanted)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_call_slot *s = slot_of(1 << 20);
    struct rows w = { .until = 0 };
    exj_call_ports ports = { .user = &w, .emit = take_row };
    exj_args a = args_of("{}", "rows");
    exj_call_end end = { 0 };

    build(&h->r, "guest", "", PLUGIN_AROUND("EXJ_KIND_SOURCE_RESOLVER", FLAGS, MORE, BODY, HOOKS));
    h->i = instance_of(&h->r, "guest", EXJ_KIND_SOURCE_RESOLVER);
    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert_eq(w.seen, 10000);
    cr_assert_eq(end.emits, 10000);
    w = (struct rows){ .until = 5000 };
    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_CANCELLED);
    cr_assert_eq(w.seen, 5000);
    exj_call_slot_free(s);
    house_close(h);
}

struct journal {
    char body[64];
    unsigned gets, puts;
};

static exj_code step_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct journal *j = user;

    j->gets++;
    if (!exj_slice_is(key, "one") || !j->body[0])
        return exj_err_set(err, EXJ_NOT_FOUND, "no such step");
    return exj_buf_add_text(ret, j->body) ? EXJ_OK : EXJ_NOMEM;
}

static exj_code step_put(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    struct journal *j = user;

    (void)err;
    j->puts++;
    cr_assert(exj_slice_is(key, "one"));
    snprintf(j->body, sizeof j->body, "%.*s", (int)body.n, body.p);
    return EXJ_OK;
}

Test(remote, journal_steps_cross)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    exj_call_slot *s = slot_of(1024);
    struct journal j = { "", 0, 0 };
    exj_call_ports ports = { .user = &j, .step_get = step_get, .step_put = step_put };
    exj_args a = args_of("{}", "step");
    exj_call_end end = { 0 };

    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    cr_assert_eq(end.result, EXJ_R_OK);
    slice_says(end.answer, "stored");
    cr_assert_str_eq(j.body, "{\"k\":1}");
    cr_assert(exj_call_run(h->i, s, &a, &ports, &end, NULL));
    slice_says(end.answer, "{\"k\":1}");
    cr_assert_eq(j.gets, 2);
    cr_assert_eq(j.puts, 1);
    exj_call_slot_free(s);
    house_close(h);
}

Test(remote, model_of_a_megabyte_is_the_same_until_it_changes)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(30);
    size_t n = 1 << 20;
    char *first = malloc(n), *second = malloc(n);

    memset(first, 'a', n);
    memset(second, 'b', n);
    for (unsigned k = 0; k < b->n; k++) {
        says_runtime(&b->all[k], k == 10 ? "segv" : "model");
        b->all[k].args.model = (exj_str){ k < 20 ? first : second, n };
    }
    b->all[29].args.model.n = 0;
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++)
        if (k == 10) /* the next host knows no model yet */
            cr_assert_eq(b->all[k].result, EXJ_R_CRASHED);
        else
            is_ok(&b->all[k], k < 20 ? "1048576 a" : k < 29 ? "1048576 b" : "0 -");
    batch_free(b);
    free(first);
    free(second);
    house_close(h);
}

Test(remote, answer_of_a_gibibyte_is_refused_and_harms_nobody)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o = ask(h, "huge");

    cr_assert_eq(o.result, EXJ_R_FAILED, "%d %s %s", o.result, o.code, o.text);
    cr_assert_str_eq(o.code, "AnswerTooLarge");
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_eq(look(h).starts, 1);
    house_close(h);
}

Test(remote, record_that_is_too_large_is_refused_before_it_is_sent)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(1);
    char *text = calloc(1, EXJ_WIRE_MAX);

    b->all[0].args.runtime = (exj_str){ text, EXJ_WIRE_MAX };
    batch_run(h, b);
    cr_assert_eq(b->all[0].result, EXJ_R_INPUT);
    cr_assert_str_eq(b->all[0].code, "RecordTooLarge");
    cr_assert_eq(look(h).starts, 0);
    free(text);
    batch_free(b);
    house_close(h);
}

/* ---- other functions ---------------------------------------------------------------------------- */

static exj_result call_self_test(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.self_test(i->self, c);
}

static exj_result call_save(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.save_state(i->self, c);
}

Test(remote, optional_functions_work_from_afar)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    static const exj_call_ports none = { 0 };
    exj_call_slot *s = slot_of(1024);
    const exj_plugin *vt = &exj_instance_guest(h->i)->vt;
    exj_buf model = EXJ_BUF_INIT;
    exj_call_end end = { 0 };
    exj_err err = { 0 };
    struct one o;

    cr_assert_eq(exj_instance_model(h->i, EXJ_SLICE_LITERAL("g9"), &model, &err), EXJ_OK, "%s",
                 err.text);
    cr_assert(exj_slice_is(exj_buf_slice(&model), "{\"id\":\"g9\"}"));
    exj_buf_release(&model);
    cr_assert_eq(exj_instance_model(h->i, EXJ_SLICE_LITERAL("none"), &model, &err), EXJ_NOT_FOUND);
    exj_call_other(h->i, s, &none, call_self_test, NULL, &end);
    cr_assert_eq(end.result, EXJ_R_OK);
    exj_call_other(h->i, s, &none, call_save, NULL, &end);
    cr_assert_eq(end.result, EXJ_R_OK);
    slice_says(end.answer, "new");
    cr_assert_eq(vt->load_state(h->i->self, 6, (exj_str)EXJ_STR("old")), EXJ_R_INPUT);
    cr_assert_eq(vt->load_state(h->i->self, 7, (exj_str)EXJ_STR("kept")), EXJ_R_OK);
    o = ask(h, "state");
    is_ok(&o, "kept");
    cr_assert_eq(ask(h, "abort").result, EXJ_R_CRASHED);
    o = ask(h, "state"); /* each host that follows is given it */
    is_ok(&o, "kept");
    exj_call_slot_free(s);
    house_close(h);
}

/* ---- hosts come and go --------------------------------------------------------------------------- */

Test(remote, host_killed_from_outside_is_replaced)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct batch *b = batch_new(2);
    struct one o = ask(h, "echo");
    int pid = look(h).pid;

    is_ok(&o, "echo");
    kill(pid, SIGKILL);
    wait_gone(pid);
    for (unsigned k = 0; look(h).pid == pid && k < 1000; k++)
        poll(NULL, 0, 5);
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_eq(h->crashes, 0, "no call was in it");

    says_runtime(&b->all[0], "wait");
    one_start(h, &b->all[0]);
    one_start(h, &b->all[1]);
    batch_wait(b, 1);
    kill(look(h).pid, SIGKILL);
    batch_wait(b, 2);
    cr_assert_eq(b->all[0].result, EXJ_R_CRASHED);
    says(b->all[0].text, "SIGKILL");
    cr_assert_eq(h->crashes, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, idle_host_goes_and_comes_again)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o;
    int pid;

    h->s.idle_ms = 20;
    o = ask(h, "pid");
    pid = atoi(o.answer);
    cr_assert_gt(pid, 0);
    wait_gone(pid);
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_eq(look(h).starts, 2);
    cr_assert_eq(look(h).crashes, 0);
    house_close(h);
}

Test(remote, sandbox_is_one_process_a_call)
{
    struct house *h = house_open(EXJ_LANE_SANDBOX);
    struct batch *b = batch_new(10);

    for (unsigned k = 0; k < b->n; k++)
        says_runtime(&b->all[k], k == 4 ? "segv" : k == 7 ? "later" : "pid");
    batch_run(h, b);
    for (unsigned k = 0; k < b->n; k++) {
        if (k == 4) {
            cr_assert_eq(b->all[k].result, EXJ_R_CRASHED);
            continue;
        }
        cr_assert_eq(b->all[k].result, EXJ_R_OK, "%s", b->all[k].text);
        for (unsigned m = 0; m < k; m++)
            cr_assert_str_neq(b->all[m].answer, b->all[k].answer);
    }
    cr_assert_eq(h->crashes, 1);
    batch_free(b);
    house_close(h);
}

Test(remote, sandbox_is_started_ahead)
{
    struct house *h = house_open(EXJ_LANE_SANDBOX);
    struct one o;
    int pid;

    exj_remote_warm(h->i);
    for (unsigned k = 0; look(h).pid == 0 && k < 1000; k++)
        poll(NULL, 0, 5);
    pid = look(h).pid;
    cr_assert_gt(pid, 0);
    o = ask(h, "pid");
    cr_assert_eq(atoi(o.answer), pid);
    house_close(h);
}

Test(remote, host_that_cannot_be_started_says_why_and_gives_rows_back)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o;

    h->s.host_exe = "/nowhere/exellix-jobs-plugin-host";
    for (unsigned k = 0; k < 4; k++) {
        o = ask(h, "echo");
        cr_assert_eq(o.result, k < 2 ? EXJ_R_RETRY : EXJ_R_NOT_STARTED);
        cr_assert_str_eq(o.code, "HostStart");
        says(o.text, "/nowhere/exellix-jobs-plugin-host");
        says(o.text, "No such file");
    }
    h->s.host_exe = HOST_EXE;
    o = ask(h, "echo");
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, plugin_in_quarantine_is_not_started)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    struct one o;

    h->quarantined = true;
    o = ask(h, "echo");
    cr_assert_eq(o.result, EXJ_R_NOT_STARTED);
    cr_assert_str_eq(o.code, "Quarantined");
    says(o.text, "it is in quarantine");
    cr_assert_eq(look(h).starts, 0);
    h->quarantined = false;
    o = ask(h, "echo");
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, crashes_in_a_row_make_the_next_start_wait)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    exj_nsec from;
    struct one o;

    for (unsigned k = 0; k < 5; k++)
        cr_assert_eq(ask(h, "abort").result, EXJ_R_CRASHED);
    from = exj_clock_mono_ns(); /* at most 20 ms of these 80 are over */
    o = ask(h, "echo");
    is_ok(&o, "echo");
    cr_assert_gt(exj_clock_mono_ns() - from, 40000000);
    cr_assert_eq(ask(h, "abort").result, EXJ_R_CRASHED);
    o = ask(h, "echo"); /* a good call was between them */
    is_ok(&o, "echo");
    house_close(h);
}

Test(remote, create_that_fails_is_told)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct one o;

    build(&h->r, "sad", "",
          "#include <string.h>\n#include \"exellix/json.h\"\n#include \"exellix/plugin.h\"\n"
          "static exj_result create(const exj_host *h, exj_str config, void **i)"
          "{ (void)config; (void)i; h->error(h->ctx, 0, EXJ_R_INPUT, exj_text(\"NoUrl\"),"
          " exj_text(\"url is missing\")); return EXJ_R_INPUT; }\n"
          "static void destroy(void *i) { (void)i; }\n"
          "static exj_result execute(void *i, exj_call c, const exj_args *a)"
          "{ (void)i; (void)c; (void)a; return EXJ_R_OK; }\n"
          "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy),"
          " .kind = EXJ_KIND_GRAPH_ENGINE, .id = \"test.sad\", .version = \"1\","
          " .create = create, .execute = execute, .destroy = destroy };\n"
          "static const exj_plugin *const ps[] = { &p };\n"
          "static const exj_bundle b = { .size_of = EXJ_SIZE(exj_bundle, plugins),"
          " .abi_minor = EXJ_ABI_MINOR, .n = 1, .plugins = ps };\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n");
    h->i = instance_of(&h->r, "sad", EXJ_KIND_GRAPH_ENGINE);
    o = ask(h, "echo");
    cr_assert_eq(o.result, EXJ_R_RETRY);
    cr_assert_str_eq(o.code, "HostStart");
    says(o.text, "url is missing");
    cr_assert_eq(h->crashes, 0);
    house_close(h);
}

Test(remote, file_whose_constructor_crashes_is_refused)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_err err;

    build(&h->r, "boom", "",
          ENGINE("0", "__attribute__((constructor)) static void boom(void)"
                      "{ *(volatile int *)16 = 1; }", "return " EMIT_OK ";"));
    err = refusal(&h->r, "boom");
    says(err.text, "boom");
    says(err.text, "SIGSEGV");
    house_close(h);
}

/* ---- what a plugin prints -------------------------------------------------------------------- */

static unsigned lines_seen, long_lines, hellos, dropped_notes;
static pthread_mutex_t lines_mu = PTHREAD_MUTEX_INITIALIZER;

static void count_line(exj_log_level level, const char *area, const char *message)
{
    (void)level;
    (void)area;
    pthread_mutex_lock(&lines_mu);
    lines_seen += strncmp(message, "test.guest: line ", 17) == 0;
    hellos += strcmp(message, "test.guest: hello from inside") == 0;
    dropped_notes += strstr(message, "more lines were printed") != NULL;
    if (strncmp(message, "test.guest: yyyy", 16) == 0) {
        long_lines++;
        cr_assert_lt(strlen(message), 1100);
        says(message, "…");
    }
    pthread_mutex_unlock(&lines_mu);
}

Test(remote, lines_that_a_plugin_prints_are_logged_within_bounds)
{
    struct house *h;
    struct one o;

    exj_log_divert(count_line);
    h = house_open(EXJ_LANE_HOST);
    o = ask(h, "print");
    is_ok(&o, "{\"status\":\"completed\"}");
    house_close(h);
    cr_assert_eq(hellos, 1);
    cr_assert_eq(long_lines, 1);
    cr_assert_gt(lines_seen, 50);
    cr_assert_leq(lines_seen, 300); /* 100 a second */
    exj_log_divert(NULL);
}

/* ---- hosts that lie -------------------------------------------------------------------------- */

/* With EXELLIX_PLUGIN_FAKE set this program, started as a plugin host, is one that misbehaves. */
static exj_wire *fake;

static exj_frame fake_next(void)
{
    struct pollfd p = { .fd = exj_wire_fd(fake), .events = POLLIN };
    exj_frame f;
    exj_code rc;

    while ((rc = exj_wire_receive(fake, &f, NULL)) == EXJ_BUSY)
        poll(&p, 1, LATE_MS);
    if (rc)
        _exit(0);
    return f;
}

static void fake_say(exj_frame_type type, uint64_t call, const exj_buf *b)
{
    exj_slice body = b ? exj_buf_slice(b) : (exj_slice){ "", 0 };

    if (exj_wire_send(fake, type, call, body, NULL) || exj_wire_drain(fake, NULL))
        _exit(0);
}

static void fake_result(uint64_t call, uint32_t result)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, result);
    exj_wire_u32(&b, 1);
    exj_wire_text(&b, exj_slice_of(""));
    exj_wire_text(&b, exj_slice_of(""));
    exj_wire_text(&b, exj_slice_of("fake"));
    exj_wire_u64(&b, 1);
    fake_say(EXJ_F_RESULT, call, &b);
    exj_buf_release(&b);
}

static void fake_texts(exj_frame_type type, uint64_t call, const char *one, const char *two)
{
    exj_buf b = EXJ_BUF_INIT;

    if (type == EXJ_F_LOG)
        exj_wire_u32(&b, 0);
    exj_wire_text(&b, exj_slice_of(one));
    if (two)
        exj_wire_text(&b, exj_slice_of(two));
    fake_say(type, call, &b);
    exj_buf_release(&b);
}

static void fake_start(bool good)
{
    exj_buf b = EXJ_BUF_INIT;

    fake_next();
    exj_wire_u32(&b, good ? EXJ_WIRE_VERSION : 9);
    exj_wire_u32(&b, 0);
    exj_wire_u32(&b, 0);
    fake_say(EXJ_F_HOST_HELLO, 0, &b);
    fake_next();
    exj_buf_reset(&b);
    exj_wire_u32(&b, EXJ_R_OK);
    exj_wire_text(&b, exj_slice_of(""));
    fake_say(EXJ_F_CREATED, 0, &b);
    exj_buf_release(&b);
}

static void fake_raw(const void *bytes, size_t n)
{
    if (send(EXJ_HOST_FD_SOCKET, bytes, n, MSG_NOSIGNAL) < 0)
        _exit(0);
}

static void fake_random(uint64_t x)
{
    for (;;) {
        unsigned char bytes[64];

        for (size_t k = 0; k < sizeof bytes; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            bytes[k] = (unsigned char)(x >> 33) & (x >> 60 ? 0xff : 0);
        }
        if (x >> 63) { /* a head that is well-formed but for its call */
            memset(bytes, 0, EXJ_WIRE_HEAD);
            bytes[0] = 8;
            bytes[4] = (unsigned char)(EXJ_F_HOST_HELLO + (x >> 40) % 20);
        }
        fake_raw(bytes, EXJ_WIRE_HEAD + 8);
    }
}

static void fake_play(const char *mode)
{
    uint64_t first;

    if (!strcmp(mode, "silent"))
        for (;;)
            fake_next();
    if (!strcmp(mode, "early"))
        fake_result(1, EXJ_R_OK);
    if (!strcmp(mode, "refuse")) {
        fake_texts(EXJ_F_REFUSED, 0, "it does not load: no thanks", NULL);
        return;
    }
    fake_start(strcmp(mode, "version") != 0);
    first = fake_next().call;
    if (!strcmp(mode, "unknown"))
        fake_raw("\0\0\0\0\x32\0\0\0\0\0\0\0\0\0\0\0", EXJ_WIRE_HEAD);
    else if (!strcmp(mode, "core"))
        fake_say(EXJ_F_BYE, first, NULL);
    else if (!strcmp(mode, "stranger"))
        fake_result(first ^ 4096, EXJ_R_OK);
    else if (!strcmp(mode, "short"))
        fake_say(EXJ_F_RESULT, first, NULL);
    else if (!strcmp(mode, "large"))
        fake_raw("\xff\xff\xff\xff\x43\0\0\0\0\0\0\0\0\0\0\0", EXJ_WIRE_HEAD);
    else if (!strcmp(mode, "pending"))
        fake_say(EXJ_F_PENDING, first ^ 4096, NULL);
    else if (!strcmp(mode, "emit"))
        fake_texts(EXJ_F_EMIT, first ^ 4096, "{}", NULL);
    else if (!strcmp(mode, "step"))
        fake_texts(EXJ_F_STEP_PUT, 0, "one", "{}");
    else if (!strcmp(mode, "order"))
        fake_result(fake_next().call, EXJ_R_OK);
    else if (!strcmp(mode, "half"))
        fake_raw("\x08\0\0\0\x43\0\0", 7);
    else if (!strcmp(mode, "random"))
        fake_random(strtoull(getenv("EXELLIX_PLUGIN_SEED"), NULL, 0));
    else if (!strcmp(mode, "lie"))
        for (;; first = fake_next().call)
            fake_result(first, EXJ_R_CRASHED);
    else if (!strcmp(mode, "twice"))
        for (;; fake_result(first, EXJ_R_OK))
            ;
    else if (!strcmp(mode, "flood"))
        for (;;)
            fake_texts(EXJ_F_LOG, 0, "again and again", NULL);
    else if (!strcmp(mode, "deaf"))
        for (;;)
            pause();
    else if (!strcmp(mode, "fork")) {
        if (fork() == 0) {
            int fd = open(getenv("EXELLIX_PLUGIN_FIFO"), O_WRONLY);

            for (;;)
                if (fd >= 0)
                    pause();
        }
        fake_result(first, EXJ_R_OK);
        fake_next();
        abort();
    }
    if (!strcmp(mode, "half"))
        return;
    for (;;)
        fake_next();
}

__attribute__((constructor)) static void play_host(int argc, char **argv)
{
    const char *mode = getenv("EXELLIX_PLUGIN_FAKE");

    if (argc != 4 || !mode || (strcmp(argv[1], "host") && strcmp(argv[1], "sandbox")))
        return;
    if (exj_wire_new(EXJ_HOST_FD_SOCKET, EXJ_WIRE_MAX, &fake, NULL) == EXJ_OK)
        fake_play(mode);
    _exit(0);
}

static struct house *house_with(const char *mode)
{
    struct house *h = house_open(EXJ_LANE_HOST);

    cr_assert_eq(setenv("EXELLIX_PLUGIN_FAKE", mode, 1), 0);
    h->s.host_exe = "/proc/self/exe";
    return h;
}

Test(remote, host_that_breaks_a_rule_is_ended_and_named)
{
    static const struct {
        const char *mode, *says;
    } lies[] = { { "unknown", "unknown type 50" },
                 { "core", "is not a plugin host's to send" },
                 { "stranger", "a RESULT of a call that does not run" },
                 { "short", "a RESULT is cut short" },
                 { "large", "4294967295 bytes" },
                 { "pending", "PENDING of a call that does not run" },
                 { "emit", "for a call that does not run" },
                 { "step", "for a call that does not run" },
                 { "order", "a RESULT of a call that does not run" } };
    struct house *h = house_with("none");

    for (unsigned k = 0; k < sizeof lies / sizeof *lies; k++) {
        bool order = strcmp(lies[k].mode, "order") == 0;
        struct batch *b = batch_new(order ? 2 : 1);

        setenv("EXELLIX_PLUGIN_FAKE", lies[k].mode, 1);
        for (unsigned m = 0; m < b->n; m++)
            one_start(h, &b->all[m]);
        batch_wait(b, 1);
        cr_assert_eq(b->all[0].result, EXJ_R_CRASHED, "%s: %d", lies[k].mode, b->all[0].result);
        says(b->all[0].text, "broke the rules of its connection");
        says(b->all[0].text, lies[k].says);
        while (order && !batch_has(b, 2)) { /* the next host waits for another call for ever */
            exj_remote_kill(h->i);
            poll(NULL, 0, 5);
        }
        batch_free(b);
    }
    house_close(h);
}

Test(remote, result_that_is_the_cores_to_give_is_not_believed)
{
    struct house *h = house_with("lie");
    struct one o = ask(h, "echo");

    cr_assert_eq(o.result, EXJ_R_INTERNAL);
    cr_assert_str_eq(o.code, "UnknownResult");
    cr_assert_eq(h->crashes, 0);
    house_close(h);
}

Test(remote, second_result_ends_the_host_and_not_the_call)
{
    struct house *h = house_with("twice");
    struct one o = ask(h, "echo");

    is_ok(&o, "fake");
    for (unsigned k = 0; look(h).crashes == 0 && k < 1000; k++)
        poll(NULL, 0, 5);
    cr_assert_eq(look(h).crashes, 1);
    cr_assert_eq(h->crashes, 0, "no call was in it");
    house_close(h);
}

Test(remote, host_that_ends_within_a_frame_has_crashed)
{
    struct house *h = house_with("half");
    struct one o = ask(h, "echo");

    cr_assert_eq(o.result, EXJ_R_CRASHED);
    says(o.text, "ended with exit status 0");
    house_close(h);
}

Test(remote, host_that_is_never_ready_is_named)
{
    static const struct {
        const char *mode, *says;
    } lies[] = { { "silent", "not ready after 200 ms" },
                 { "version", "it speaks version 9" },
                 { "early", "while it is started" },
                 { "refuse", "no thanks" } };

    for (unsigned k = 0; k < sizeof lies / sizeof *lies; k++) {
        struct house *h = house_with(lies[k].mode);
        struct one o;

        h->s.start_ms = 200;
        o = ask(h, "echo");
        cr_assert_eq(o.result, EXJ_R_RETRY);
        cr_assert_str_eq(o.code, "HostStart");
        says(o.text, lies[k].says);
        house_close(h);
    }
}

Test(remote, random_bytes_end_the_host_and_nothing_else)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000003u;
    struct house *h = house_with("random");
    char text[32];

    if (getenv("EXJ_TEST_SEED"))
        seed = strtoull(getenv("EXJ_TEST_SEED"), NULL, 0);
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    for (unsigned k = 0; k < 40; k++) {
        struct one o;

        snprintf(text, sizeof text, "%llu", (unsigned long long)seed + k);
        setenv("EXELLIX_PLUGIN_SEED", text, 1);
        o = ask_until(h, "echo", in_ms(5000));
        cr_assert_eq(o.result, EXJ_R_CRASHED, "%d %s", o.result, o.text);
    }
    house_close(h);
}

Test(remote, host_that_floods_or_does_not_listen_is_ended_at_the_deadline)
{
    static const char *const modes[] = { "flood", "deaf" };

    for (unsigned k = 0; k < 2; k++) {
        struct house *h = house_with(modes[k]);
        struct batch *b = batch_new(40);
        size_t n = 60000;
        char *text = calloc(1, n);

        exj_log_setup(EXJ_LOG_INFO, true);
        for (unsigned m = 0; m < b->n; m++) {
            b->all[m].args.runtime = (exj_str){ text, n };
            b->all[m].args.deadline_ns = in_ms(300);
        }
        for (unsigned m = 0; m < b->n; m++)
            one_start(h, &b->all[m]);
        batch_wait(b, 1);
        cr_assert_eq(b->all[0].result, EXJ_R_DEADLINE);
        setenv("EXELLIX_PLUGIN_FAKE", "lie", 1); /* who waited behind it is answered */
        batch_wait_for_all(b);
        cr_assert_eq(b->all[39].result, EXJ_R_INTERNAL);
        batch_free(b);
        free(text);
        house_close(h);
    }
}

Test(remote, children_of_a_dead_host_die_with_it)
{
    struct house *h = house_with("fork");
    char fifo[128];
    struct pollfd p;
    struct one o;

    snprintf(fifo, sizeof fifo, "%s/fifo", h->r.dir);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    p = (struct pollfd){ .fd = open(fifo, O_RDONLY | O_NONBLOCK), .events = POLLIN };
    setenv("EXELLIX_PLUGIN_FIFO", fifo, 1);
    o = ask(h, "echo");
    is_ok(&o, "fake");
    {
        int w = open(fifo, O_WRONLY); /* so that there is a writer from now on */

        o = ask(h, "echo"); /* the host dies of it */
        cr_assert_eq(o.result, EXJ_R_CRASHED);
        close(w);
    }
    p.events = 0;
    cr_assert_eq(poll(&p, 1, LATE_MS), 1, "what it forked goes on");
    cr_assert(p.revents & POLLHUP);
    close(p.fd);
    house_close(h);
}
