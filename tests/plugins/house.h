/* tests/plugins/house.h - a room whose plugins run in plugin hosts, and calls to them. */
#ifndef EXJ_TESTS_PLUGINS_HOUSE_H
#define EXJ_TESTS_PLUGINS_HOUSE_H

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

static inline void on_crash(void *user, const exj_guest *g, const char *sig, exj_slice backtrace)
{
    struct house *h = user;

    (void)g;
    pthread_mutex_lock(&h->mu);
    h->crashes++;
    snprintf(h->signal, sizeof h->signal, "%s", sig);
    snprintf(h->trace, sizeof h->trace, "%.*s", (int)backtrace.n, backtrace.p);
    pthread_mutex_unlock(&h->mu);
}

static inline bool may_start(void *user, const exj_guest *g, exj_err *why)
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

static inline void house_registry(struct house *h, exj_lane lane)
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
static inline struct house *house_new(exj_lane lane)
{
    struct house *h = calloc(1, sizeof *h);

    pthread_mutex_init(&h->mu, NULL);
    /* for the hosts: in their cage the leak sanitizer cannot work and says so with its status */
    setenv("LSAN_OPTIONS", "detect_leaks=0", 1);
    h->s = (exj_remote_settings){ .host_exe = HOST_EXE, .idle_ms = 60000, .grace_ms = 300,
                                  .start_ms = 20000, .user = h, .crashed = on_crash,
                                  .may_start = may_start };
    house_registry(h, lane);
    return h;
}

static inline struct house *house_open(exj_lane lane)
{
    struct house *h = house_new(lane);

    build(&h->r, "guest", "-g", PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", FLAGS, MORE, BODY, HOOKS));
    h->i = instance_of(&h->r, "guest", EXJ_KIND_GRAPH_ENGINE);
    return h;
}

static inline void house_close(struct house *h)
{
    room_close(&h->r);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left");
    cr_assert_eq(errno, ECHILD);
    pthread_mutex_destroy(&h->mu);
    free(h);
}

static inline exj_remote_view look(const struct house *h)
{
    exj_remote_view v;

    exj_remote_look(h->i, &v);
    return v;
}

/* Wait until that process is gone. */
static inline void wait_gone(int pid)
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

static inline void one_ended(void *user, exj_call_slot *s, const exj_call_end *end)
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

static inline struct batch *batch_new(unsigned n)
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

static inline void says_runtime(struct one *o, const char *text)
{
    o->args.runtime = (exj_str){ text, strlen(text) };
}

static inline void one_start(const struct house *h, struct one *o)
{
    exj_call_end end;

    if (exj_call_run(h->i, o->slot, &o->args, &o->ports, &end, one_ended))
        one_ended(o, o->slot, &end);
}

static inline void batch_wait(struct batch *b, unsigned n)
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

static inline bool batch_has(struct batch *b, unsigned n)
{
    bool has;

    pthread_mutex_lock(&b->mu);
    has = b->ended >= n;
    pthread_mutex_unlock(&b->mu);
    return has;
}

static inline void batch_wait_for_all(struct batch *b)
{
    batch_wait(b, b->n);
}

static inline void batch_run(const struct house *h, struct batch *b)
{
    for (unsigned k = 0; k < b->n; k++)
        one_start(h, &b->all[k]);
    batch_wait(b, b->n);
}

static inline void batch_free(struct batch *b)
{
    for (unsigned k = 0; k < b->n; k++)
        exj_call_slot_free(b->all[k].slot);
    pthread_cond_destroy(&b->some);
    pthread_mutex_destroy(&b->mu);
    free(b->all);
    free(b);
}

/* One call that is waited for. */
static inline struct one ask_until(const struct house *h, const char *runtime, uint64_t deadline_ns)
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

static inline struct one ask(const struct house *h, const char *runtime)
{
    return ask_until(h, runtime, UINT64_MAX);
}

static inline void is_ok(const struct one *o, const char *answer)
{
    cr_assert_eq(o->result, EXJ_R_OK, "result %d: %s: %s", o->result, o->code, o->text);
    cr_assert_str_eq(o->answer, answer);
}

static inline uint64_t in_ms(unsigned ms)
{
    return (uint64_t)exj_clock_mono_ns() + (uint64_t)ms * 1000000u;
}

#endif /* EXJ_TESTS_PLUGINS_HOUSE_H */
