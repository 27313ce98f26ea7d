/* A graph engine that does what the field "deed" of its record says, when "n" of the record is
 * "at" and the graph's id begins with "g"; every other record is simply completed. Rows that
 * survive their deed are completed, and what was tried stands in outputsByNodeId.deed.
 *
 * ONE source for all deeds: tests/daemon/evil_support.h makes copies with another id, so that
 * each has a content (and a quarantine) of its own. Used on lanes host and sandbox only. */
#include "exellix/plugin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ID "evil-engine-0000" /* the digits are changed in copies */

struct evil {
    const exj_host *h;
    exj_call call;
    const exj_args *a;
    char text[16384]; /* what was tried: "name=ERRNO " */
    size_t n;
};

/* ---- telling ------------------------------------------------------------------------------ */

static void note(struct evil *e, const char *what, long result)
{
    const char *word = result >= 0 ? "OK" : strerrorname_np(errno);
    int n = snprintf(e->text + e->n, sizeof(e->text) - e->n, "%s=%s ", what,
                     word ? word : "?");

    if (n > 0 && (size_t)n < sizeof(e->text) - e->n)
        e->n += (size_t)n;
}

static exj_result complete_with(struct evil *e, const char *number)
{
    char json[sizeof(e->text) + 128];
    int n = snprintf(json, sizeof(json),
                     "{\"status\":\"completed\",\"outputsByNodeId\":{\"deed\":{\"tried\":\"%s\","
                     "\"number\":%s}}}",
                     e->text, number);

    return e->h->emit(e->h->ctx, e->call, (exj_str){ json, (uint64_t)n });
}

static const char *value_of(const struct evil *e, const char *key, char *ret, size_t cap)
{
    char quoted[48];
    const char *at;
    size_t n = (size_t)snprintf(quoted, sizeof(quoted), "\"%s\":", key);

    *ret = '\0';
    at = memmem(e->a->runtime.p, e->a->runtime.n, quoted, n);
    if (!at)
        return ret;
    at += n;
    at += *at == '"';
    snprintf(ret, cap, "%.*s", (int)strcspn(at, "\",}"), at);
    return ret;
}

/* ---- dying -------------------------------------------------------------------------------- */

static volatile char *nowhere = (volatile char *)16;
static char *volatile last_of_many;

static exj_result deed_segv(struct evil *e)
{
    *nowhere = 1;
    return complete_with(e, "0");
}

static exj_result deed_abort(struct evil *e)
{
    (void)e;
    abort();
}

static exj_result deed_exit0(struct evil *e)
{
    (void)e;
    exit(0);
}

static exj_result deed_exit3(struct evil *e)
{
    (void)e;
    exit(3);
}

static exj_result deed__exit(struct evil *e)
{
    (void)e;
    _exit(7);
}

static int deep(volatile char *above)
{
    volatile char here[4096];

    here[0] = above ? (char)(*above + 1) : 1;
    return deep(here) + here[0];
}

static exj_result deed_stack(struct evil *e)
{
    char number[16];

    snprintf(number, sizeof(number), "%d", deep(NULL));
    return complete_with(e, number);
}

/* Take all there is, use it, and do not look whether malloc had any. */
static exj_result deed_oom(struct evil *e)
{
    while (e) {
        last_of_many = malloc(1 << 20);
        memset(last_of_many, 1, 1 << 20);
    }
    return EXJ_R_OK;
}

/* The same by somebody who looks, and gives back. */
static exj_result deed_hunger(struct evil *e)
{
    void **first = NULL, **block;
    long n = 0;
    char number[24];

    while ((block = malloc(1 << 20))) {
        memset(block, 1, 1 << 20);
        *block = first;
        first = block;
        n++;
    }
    note(e, "malloc", -1);
    while (first) {
        block = *first;
        free(first);
        first = block;
    }
    snprintf(number, sizeof(number), "%ld", n);
    return complete_with(e, number);
}

static exj_result deed_double_free(struct evil *e)
{
    char *volatile p = malloc(64);

    (void)e;
    free(p);
    free(p);
    abort(); /* an allocator that does not notice */
}

static exj_result deed_usr1(struct evil *e)
{
    raise(SIGUSR1);
    return complete_with(e, "0");
}

static exj_result deed_kill9(struct evil *e)
{
    kill(getpid(), SIGKILL);
    return complete_with(e, "0");
}

/* A crash with every signal blocked, and handlers that hide it. */
static exj_result deed_masked_segv(struct evil *e)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int sig = 1; sig < 65; sig++)
        signal(sig, SIG_IGN);
    return deed_segv(e);
}

/* Once: says when, in the journal, and dies; the next attempt tells how long that took, the
 * disk's time for that entry included. */
static exj_result deed_once(struct evil *e)
{
    exj_str step = EXJ_STR("crash"), found = { 0 };
    struct timespec ts;
    int64_t now;
    char text[32];

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    if (e->h->journal_lookup(e->h->ctx, e->call, step, &found) == EXJ_R_OK) {
        snprintf(text, sizeof(text), "%.*s", (int)found.n, found.p);
        snprintf(text, sizeof(text), "%lld", (long long)now - strtoll(text, NULL, 10));
        return complete_with(e, text);
    }
    snprintf(text, sizeof(text), "%lld", (long long)now);
    e->h->journal_commit(e->h->ctx, e->call, step, (exj_str){ text, strlen(text) });
    return deed_segv(e);
}

/* ---- not coming back ---------------------------------------------------------------------- */

static exj_result deed_loop(struct evil *e)
{
    volatile unsigned turns = 0;

    while (e)
        turns++;
    return EXJ_R_OK;
}

static exj_result deed_deaf(struct evil *e)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return deed_loop(e);
}

static exj_result deed_pending(struct evil *e)
{
    (void)e;
    return EXJ_R_PENDING;
}

/* ---- the wire ----------------------------------------------------------------------------- */

static exj_result deed_close(struct evil *e)
{
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    return complete_with(e, "0");
}

static exj_result deed_close_and_wait(struct evil *e)
{
    for (int fd = 0; fd < 256; fd++)
        close(fd);
    return deed_loop(e);
}

/* The core sees that the socket is closed long before it can see the exit status. */
static exj_result deed_close_and_exit(struct evil *e)
{
    (void)e;
    for (int fd = 0; fd < 256; fd++)
        close(fd);
    poll(NULL, 0, 300);
    _exit(9);
}

static exj_result deed_garbage(struct evil *e)
{
    char bytes[4096];

    memset(bytes, 0xA5, sizeof(bytes));
    if (write(3, bytes, sizeof(bytes)) < 0)
        abort();
    return deed_loop(e);
}

static exj_result deed_huge(struct evil *e)
{
    size_t n = (size_t)1 << 30;
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    exj_result r;

    if (p == MAP_FAILED)
        return EXJ_R_FAILED;
    r = e->h->emit(e->h->ctx, e->call, (exj_str){ p, n });
    munmap(p, n);
    return r;
}

static exj_result deed_nonsense(struct evil *e)
{
    exj_str text = EXJ_STR("{\"status\":\"completed\"]} and more");

    return e->h->emit(e->h->ctx, e->call, text);
}

static exj_result deed_print(struct evil *e)
{
    char line[101];

    memset(line, 'x', 100);
    line[100] = '\n';
    for (int k = 0; k < 5200; k++) { /* 2 x 525,200 bytes */
        if (write(1, line, sizeof(line)) < 0 || write(2, line, sizeof(line)) < 0)
            break;
    }
    memset(line, 'y', sizeof(line));
    for (int k = 0; k < 1000; k++) /* a line without an end */
        if (write(2, line, sizeof(line)) < 0)
            break;
    return complete_with(e, "0");
}

static exj_result deed_log(struct evil *e)
{
    for (int k = 0; k < 10000; k++) {
        char text[256];
        int n = snprintf(text, sizeof(text), "line %d of \x01\xff\n\"ten\" thousand %0*d", k, 100, 0);

        e->h->log(e->h->ctx, e->call, k % 6, (exj_str){ text, (uint64_t)n });
        e->h->progress(e->h->ctx, e->call, k / 1e4, (exj_str){ text, (uint64_t)n });
    }
    return complete_with(e, "0");
}

/* ---- signals and other processes ------------------------------------------------------------ */

static volatile sig_atomic_t seen;

static void count(int sig)
{
    (void)sig;
    seen++;
}

static exj_result deed_storm(struct evil *e)
{
    static const int signals[] = { SIGTERM, SIGHUP, SIGUSR1, SIGSTOP, SIGCONT, SIGKILL };
    char number[24];

    for (size_t k = 0; k < sizeof(signals) / sizeof(signals[0]); k++) {
        note(e, "parent", kill(getppid(), signals[k]));
        note(e, "all", kill(-1, signals[k]));
        note(e, "init", kill(1, signals[k]));
        note(e, "queue", sigqueue(getppid(), signals[k], (union sigval){ 0 }));
        note(e, "tgkill", syscall(SYS_tgkill, getppid(), getppid(), signals[k]));
        note(e, "group", kill(0, signals[k]));
    }
    signal(SIGUSR2, count);
    for (int k = 0; k < 20000; k++)
        raise(SIGUSR2);
    signal(SIGUSR2, SIG_DFL);
    snprintf(number, sizeof(number), "%d", (int)seen);
    return complete_with(e, number);
}

static exj_result deed_fds(struct evil *e)
{
    long n = 0;
    char number[24];

    while (dup(0) >= 0)
        n++;
    note(e, "dup", -1);
    snprintf(number, sizeof(number), "%ld", n);
    return complete_with(e, number);
}

static void try_fork(struct evil *e, const char *what, long pid)
{
    note(e, what, pid);
    if (pid == 0) /* it worked: there shall be something to find */
        for (;;)
            pause();
}

static exj_result deed_forks(struct evil *e)
{
    for (int k = 0; k < 50; k++) {
        try_fork(e, "fork", fork());
        try_fork(e, "clone", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
#ifdef SYS_fork
        try_fork(e, "SYS_fork", syscall(SYS_fork));
#endif
    }
    note(e, "popen", popen("true", "r") ? 0 : -1);
    return complete_with(e, "0");
}

static void *wait_for_ever(void *none)
{
    for (;;)
        pause();
    return none;
}

static exj_result deed_threads(struct evil *e)
{
    pthread_attr_t attr;
    pthread_t id;
    long n = 0;
    char number[24];

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    while (n < 1000 && pthread_create(&id, &attr, wait_for_ever, NULL) == 0)
        n++;
    pthread_attr_destroy(&attr);
    snprintf(number, sizeof(number), "%ld", n);
    return complete_with(e, number);
}

static exj_result deed_ptrace(struct evil *e)
{
    char here[16] = "";
    struct iovec mine = { here, sizeof(here) }, theirs = { here, sizeof(here) };
    char path[64];

    note(e, "attach", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
    note(e, "seize", ptrace(PTRACE_SEIZE, getppid(), NULL, NULL));
    note(e, "traceme", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    note(e, "readv", process_vm_readv(getppid(), &mine, 1, &theirs, 1, 0));
    note(e, "writev", process_vm_writev(getppid(), &mine, 1, &theirs, 1, 0));
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)getppid());
    note(e, "mem", open(path, O_RDWR));
    return complete_with(e, "0");
}

static exj_result deed_exec(struct evil *e)
{
    execl("/bin/sh", "sh", "-c", "sleep 60", (char *)NULL);
    note(e, "execve", -1);
    syscall(SYS_execveat, -100, "/bin/sh", NULL, NULL, 0);
    note(e, "execveat", -1);
    return complete_with(e, "0");
}

/* ---- manners ------------------------------------------------------------------------------ */

static exj_result deed_manners(struct evil *e)
{
    sigset_t all;

    note(e, "setlocale", setlocale(LC_ALL, "C.UTF-8") ? 0 : -1);
    umask(0);
    note(e, "chdir", chdir("/"));
    setenv("TZ", "Mars/Olympus", 1);
    clearenv();
    tzset();
    srand(1);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int sig = 1; sig < 65; sig++)
        signal(sig, SIG_IGN);
    atexit(abort);
    return complete_with(e, "0");
}

/* ---- files -------------------------------------------------------------------------------- */

static void try_file(struct evil *e, const char *path)
{
    int fd = open(path, O_RDONLY);

    note(e, path, fd);
    if (fd >= 0)
        close(fd);
    fd = open(path, O_RDWR);
    note(e, path, fd);
    if (fd >= 0)
        close(fd);
}

/* Every descriptor of another process, by way of /proc. To list them is no secret, to open
 * one would be. */
static void try_fds_of(struct evil *e, const char *who)
{
    char path[64], name[16];
    int folder;

    snprintf(path, sizeof(path), "/proc/%s/fd", who);
    folder = open(path, O_RDONLY | O_DIRECTORY);
    for (int fd = 3; fd < 40; fd++) {
        snprintf(path, sizeof(path), "/proc/%s/fd/%d", who, fd);
        note(e, "fd", open(path, O_RDONLY));
        snprintf(name, sizeof(name), "%d", fd);
        note(e, "fd-at", openat(folder, name, O_RDWR));
    }
}

static exj_result deed_store(struct evil *e)
{
    static const char *const names[] = { "exellix-jobs.db", "exellix-jobs.db-wal",
                                         "exellix-jobs.db-shm" };
    char store[256], link[256], path[1024], parent[16];
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int s;

    value_of(e, "store", store, sizeof(store));
    value_of(e, "link", link, sizeof(link));
    snprintf(parent, sizeof(parent), "%d", (int)getppid());
    for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
        snprintf(path, sizeof(path), "%s/%s", store, names[k]);
        try_file(e, path);
        snprintf(path, sizeof(path), "%s/../data/./%s", store, names[k]);
        try_file(e, path);
        snprintf(path, sizeof(path), "/proc/%s/root%s/%s", parent, store, names[k]);
        try_file(e, path);
        snprintf(path, sizeof(path), "/proc/self/root%s/%s", store, names[k]);
        try_file(e, path);
        snprintf(path, sizeof(path), "/proc/%s/cwd/data/%s", parent, names[k]);
        try_file(e, path);
    }
    try_file(e, link);
    if (chdir(store) == 0) {
        snprintf(path, sizeof(path), "%s", names[0]);
        try_file(e, path);
    }
    snprintf(path, sizeof(path), "%s/%s", store, names[0]);
    note(e, "unlink", unlink(path));
    note(e, "truncate", truncate(path, 0));
    snprintf(path, sizeof(path), "%s/new", store);
    note(e, "create", open(path, O_WRONLY | O_CREAT, 0600));
    snprintf(path, sizeof(path), "%s.stolen", store);
    note(e, "rename", rename(store, path));
    try_fds_of(e, parent);
    snprintf(to.sun_path, sizeof(to.sun_path), "%.80s/exellix-jobs.sock", store);
    s = socket(AF_UNIX, SOCK_STREAM, 0);
    note(e, "socket-of-the-worker", s < 0 ? s : connect(s, (struct sockaddr *)&to, sizeof(to)));
    return complete_with(e, "0");
}

/* ---- the plugin --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    exj_result (*act)(struct evil *e);
} deeds[] = {
    { "segv", deed_segv },
    { "abort", deed_abort },
    { "exit0", deed_exit0 },
    { "exit3", deed_exit3 },
    { "_exit", deed__exit },
    { "stack", deed_stack },
    { "oom", deed_oom },
    { "hunger", deed_hunger },
    { "double-free", deed_double_free },
    { "usr1", deed_usr1 },
    { "kill9", deed_kill9 },
    { "masked-segv", deed_masked_segv },
    { "once", deed_once },
    { "loop", deed_loop },
    { "deaf", deed_deaf },
    { "pending", deed_pending },
    { "close", deed_close },
    { "close-and-wait", deed_close_and_wait },
    { "close-and-exit", deed_close_and_exit },
    { "garbage", deed_garbage },
    { "huge", deed_huge },
    { "nonsense", deed_nonsense },
    { "print", deed_print },
    { "log", deed_log },
    { "storm", deed_storm },
    { "fds", deed_fds },
    { "forks", deed_forks },
    { "threads", deed_threads },
    { "ptrace", deed_ptrace },
    { "exec", deed_exec },
    { "manners", deed_manners },
    { "store", deed_store },
};

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    static const exj_str done = EXJ_STR("{\"status\":\"completed\"}");
    struct evil e = { .h = instance, .call = c, .a = a };
    char deed[32], graph[64], n[24], at[24];

    value_of(&e, "deed", deed, sizeof(deed));
    value_of(&e, "graphId", graph, sizeof(graph));
    value_of(&e, "n", n, sizeof(n));
    value_of(&e, "at", at, sizeof(at));
    for (size_t k = 0; graph[0] == 'g' && k < sizeof(deeds) / sizeof(deeds[0]); k++)
        if (strcmp(deed, deeds[k].name) == 0 && strcmp(n, at) == 0)
            return deeds[k].act(&e);
    return e.h->emit(e.h->ctx, c, done);
}

static void destroy(void *instance)
{
    (void)instance;
}

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_ASYNC)

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = FLAGS,
    .id = ID,
    .version = "6.6.6",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, FLAGS)
