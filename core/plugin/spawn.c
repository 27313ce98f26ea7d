/* core/plugin/spawn.c - see spawn.h. */
#include "core/plugin/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"

extern char **environ;

#define FD_LOW 16 /* above the numbers that a child is born with: none is overwritten */

/* What one start needs; lives on the stack of who asked. */
struct order {
    struct order *next;
    const char *exe;
    char *const *argv;
    int fds[EXJ_SPAWN_FDS]; /* at FD_LOW and above; -1: /dev/null */
    size_t fds_len;
    int pid, error;
    bool done;
};

static struct {
    pthread_mutex_t mu;
    pthread_cond_t come, gone;
    struct order *first, **last; /* guarded by mu, as all below */
    bool running;
} spawner = { .mu = PTHREAD_MUTEX_INITIALIZER,
              .come = PTHREAD_COND_INITIALIZER,
              .gone = PTHREAD_COND_INITIALIZER,
              .last = &spawner.first };

/* ---- the spawner ------------------------------------------------------------------ */

static bool may_inherit(const char *variable)
{
    static const char *const names[] = { "PATH=",         "LANG=",
                                         "TZ=",           "HOME=",
                                         "TMPDIR=",       "LD_LIBRARY_PATH=",
                                         "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
                                         "LSAN_OPTIONS=", "TSAN_OPTIONS=" };

    if (strncmp(variable, "LC_", 3) == 0 || strncmp(variable, "EXELLIX_PLUGIN_", 15) == 0)
        return true;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strncmp(variable, names[k], strlen(names[k])) == 0)
            return true;
    return false;
}

/* The allowed part of the environment; free() the array. NULL: no memory. */
static char **environment(void)
{
    size_t n = 0, kept = 0;
    char **ret;

    while (environ && environ[n])
        n++;
    ret = calloc(n + 1, sizeof *ret);
    for (size_t k = 0; ret && k < n; k++)
        if (may_inherit(environ[k]))
            ret[kept++] = environ[k];
    return ret;
}

static int set_descriptors(const struct order *o, posix_spawn_file_actions_t *actions)
{
    int failed = 0;

    for (size_t k = 0; k < o->fds_len && !failed; k++)
        failed = o->fds[k] < 0
                     ? posix_spawn_file_actions_addopen(actions, (int)k, "/dev/null",
                                                        k ? O_WRONLY : O_RDONLY, 0)
                     : posix_spawn_file_actions_adddup2(actions, o->fds[k], (int)k);
    if (!failed) /* ours have O_CLOEXEC; those of who embeds us may not */
        failed = posix_spawn_file_actions_addclosefrom_np(actions, (int)o->fds_len);
    return failed;
}

static int spawn_with(struct order *o, posix_spawn_file_actions_t *actions,
                      posix_spawnattr_t *attr)
{
    char **env = environment();
    sigset_t all, empty;
    int failed = env ? 0 : ENOMEM;

    sigfillset(&all);
    sigemptyset(&empty);
    if (!failed)
        failed = posix_spawnattr_setsigdefault(attr, &all);
    if (!failed)
        failed = posix_spawnattr_setsigmask(attr, &empty);
    if (!failed)
        failed = posix_spawnattr_setflags(
            attr,
            (short)(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK));
    if (!failed)
        failed = set_descriptors(o, actions);
    if (!failed)
        failed = posix_spawn(&o->pid, o->exe, actions, attr, o->argv, env);
    free(env);
    return failed;
}

static int spawn(struct order *o)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int failed = posix_spawn_file_actions_init(&actions);

    if (failed)
        return failed;
    failed = posix_spawnattr_init(&attr);
    if (!failed) {
        failed = spawn_with(o, &actions, &attr);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

static void *run_spawner(void *none)
{
    (void)none;
    pthread_setname_np(pthread_self(), "exj-spawn");
    pthread_mutex_lock(&spawner.mu);
    for (;;) {
        struct order *o = spawner.first;

        if (!o) {
            pthread_cond_wait(&spawner.come, &spawner.mu);
            continue;
        }
        spawner.first = o->next;
        if (!spawner.first)
            spawner.last = &spawner.first;
        pthread_mutex_unlock(&spawner.mu);
        o->error = spawn(o);
        pthread_mutex_lock(&spawner.mu);
        o->done = true;
        pthread_cond_broadcast(&spawner.gone);
    }
    return NULL;
}

/* Start the thread if it does not run. Returns an errno. */
static int wake_spawner_locked(void)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t id;
    int failed;

    if (spawner.running)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for others */
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&id, &attr, run_spawner, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    spawner.running = !failed;
    return failed;
}

static int have_spawned(struct order *o)
{
    int failed;

    pthread_mutex_lock(&spawner.mu);
    failed = wake_spawner_locked();
    if (!failed) {
        *spawner.last = o;
        spawner.last = &o->next;
        pthread_cond_signal(&spawner.come);
        while (!o->done)
            pthread_cond_wait(&spawner.gone, &spawner.mu);
        failed = o->error;
    }
    pthread_mutex_unlock(&spawner.mu);
    return failed;
}

/* ---- descriptors ------------------------------------------------------------------ */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static bool open_ends(exj_child *c, int theirs[4])
{
    int socket[2] = { -1, -1 }, cancel[2] = { -1, -1 }, log[2] = { -1, -1 };
    int saved;
    bool good;

    /* `cancel` is a pipe to the child; a socket because writing to it when the other end
     * is closed must not raise SIGPIPE */
    good = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socket) == 0 &&
           socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, cancel) == 0 &&
           pipe2(log, O_CLOEXEC) == 0;
    saved = errno;
    c->socket = socket[0];
    theirs[0] = socket[1];
    theirs[1] = cancel[1];
    c->cancel = cancel[0];
    c->log = log[0];
    theirs[3] = log[1];
    if (good) {
        c->crash = memfd_create("exellix-crash", MFD_CLOEXEC);
        theirs[2] = c->crash < 0 ? -1 : fcntl(c->crash, F_DUPFD_CLOEXEC, FD_LOW);
        good = theirs[2] >= 0 &&
               ftruncate(c->crash, (off_t)(sizeof(exj_crash) + EXJ_CRASH_TEXT)) == 0 &&
               fcntl(c->log, F_SETFL, O_NONBLOCK) == 0;
        saved = errno;
    }
    errno = saved;
    return good;
}

/* Copies at numbers that no child's descriptor has: dup2 overwrites none of them. */
static bool lift(struct order *o, const int *fds)
{
    bool good = true;

    for (size_t k = 0; k < o->fds_len; k++) {
        o->fds[k] = fds[k] < 0 ? -1 : fcntl(fds[k], F_DUPFD_CLOEXEC, FD_LOW);
        good &= o->fds[k] >= 0 || fds[k] < 0;
    }
    return good;
}

exj_code exj_spawn(const char *what, const char *exe, char *const *argv, const int *fds,
                   size_t fds_len, exj_child *ret, exj_err *err)
{
    struct order o = { .exe = exe, .argv = argv, .fds_len = fds_len };
    exj_code rc = EXJ_OK;
    int failed;

    assert(fds_len <= EXJ_SPAWN_FDS);
    failed = lift(&o, fds) ? have_spawned(&o) : errno;
    for (size_t k = 0; k < fds_len; k++)
        close_fd(&o.fds[k]);
    if (failed)
        return exj_err_set(err, failed == ENOMEM ? EXJ_NOMEM : EXJ_IO,
                           "cannot start the %s '%s': %s%s", what, exe, strerror(failed),
                           failed == ENOENT || failed == EACCES
                               ? " (it is installed beside exellix-jobs)"
                           : failed == EMFILE || failed == ENFILE
                               ? " (raise the limit of open files?)"
                               : "");
    ret->pid = o.pid;
    ret->pidfd = (int)syscall(SYS_pidfd_open, o.pid, 0);
    if (ret->pidfd < 0) {
        rc = exj_err_set(err, EXJ_IO, "cannot watch a %s: pidfd_open: %s", what,
                         strerror(errno));
        exj_child_reap(ret, 0);
    }
    return rc;
}

exj_code exj_spawn_host(const exj_remote_settings *s, exj_lane lane, exj_child *ret,
                        exj_err *err)
{
    char memory[16], sandbox[] = "sandbox", host[] = "host", none[] = "-", record[] = "record";
    char *exe = strdup(s->host_exe), *hidden = s->hidden_dir ? strdup(s->hidden_dir) : none;
    char *argv[] = { exe, lane == EXJ_LANE_SANDBOX ? sandbox : host, memory, hidden,
                     s->record_fd > 0 ? record : NULL, NULL };
    int theirs[4] = { -1, -1, -1, -1 }; /* socket, cancel, crash, log */
    exj_child c = EXJ_CHILD_NONE;
    exj_code rc = EXJ_OK;

    snprintf(memory, sizeof memory, "%u", s->memory_mb);
    if (!exe || !hidden) {
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    } else if (!open_ends(&c, theirs)) {
        rc = exj_err_set(err, EXJ_IO,
                         "cannot start a plugin host: %s (raise the limit of open "
                         "files?)",
                         strerror(errno));
    } else {
        int fds[EXJ_HOST_FD_RECORD + 1] = { -1, theirs[3], theirs[3] };
        size_t n = s->record_fd > 0 ? EXJ_HOST_FD_RECORD + 1 : EXJ_HOST_FD_CRASH + 1;

        fds[EXJ_HOST_FD_SOCKET] = theirs[0];
        fds[EXJ_HOST_FD_CANCEL] = theirs[1];
        fds[EXJ_HOST_FD_CRASH] = theirs[2];
        fds[EXJ_HOST_FD_RECORD] = s->record_fd;
        rc = exj_spawn("plugin host", exe, argv, fds, n, &c, err);
    }
    for (size_t k = 0; k < 4; k++)
        close_fd(&theirs[k]);
    free(exe);
    if (hidden != none)
        free(hidden);
    if (rc) {
        exj_child_end(&c);
        return rc;
    }
    *ret = c;
    return EXJ_OK;
}

/* ---- ends ------------------------------------------------------------------------- */

void exj_child_signal(const exj_child *c, int sig)
{
    if (c->pid > 0)
        kill(-c->pid, sig);
}

static bool has_ended(const exj_child *c, int ms)
{
    struct pollfd p = { .fd = c->pidfd, .events = POLLIN };
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)ms * 1000000, left;
    int n;

    if (c->pidfd < 0)
        return false;
    do {
        left = (until - exj_clock_mono_ns() + 999999) / 1000000;
        n = poll(&p, 1, left > 0 ? (int)left : 0);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

exj_child_fate exj_child_reap(exj_child *c, int ms)
{
    exj_child_fate fate = { 0 };
    siginfo_t si;
    int rc;

    if (c->pid <= 0)
        return fate;
    fate.forced = !has_ended(c, ms);
    kill(-c->pid,
         SIGKILL); /* its children too; while it is not reaped the group is its own */
    memset(&si, 0, sizeof si);
    do
        rc = waitid(P_PID, (id_t)c->pid, &si, WEXITED);
    while (rc < 0 && errno == EINTR);
    fate.exited = rc == 0 && si.si_code == CLD_EXITED;
    fate.status = rc == 0 ? si.si_status : SIGKILL;
    c->pid = 0;
    return fate;
}

void exj_child_end(exj_child *c)
{
    exj_child_reap(c, 0);
    close_fd(&c->pidfd);
    close_fd(&c->socket);
    close_fd(&c->cancel);
    close_fd(&c->log);
    close_fd(&c->crash);
}

void exj_signal_name(int sig, char *ret, size_t cap)
{
    const char *name = sigabbrev_np(sig);

    if (name)
        snprintf(ret, cap, "SIG%s", name);
    else
        snprintf(ret, cap, "signal %d", sig);
}
