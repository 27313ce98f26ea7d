#include "tests/support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/inside.h"

#define PROGS_MAX 64

static pid_t progs[PROGS_MAX];
static pid_t progs_owner;

void exj_support_die(const char *format, ...)
{
    int saved = errno;
    va_list ap;

    fputs("tests/support: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fprintf(stderr, ": %s\n", strerror(saved));
    exj_support_clean();
    abort();
}

static void remember(pid_t pid)
{
    if (progs_owner != getpid()) {
        memset(progs, 0, sizeof(progs));
        progs_owner = getpid();
    }
    for (int i = 0; i < PROGS_MAX; i++) {
        if (!progs[i]) {
            progs[i] = pid;
            return;
        }
    }
    exj_support_die("too many programs");
}

void exj_support_forget(pid_t pid)
{
    for (int i = 0; i < PROGS_MAX; i++)
        if (progs[i] == pid)
            progs[i] = 0;
}

void exj_support_kill_all(void)
{
    if (progs_owner != getpid())
        return;
    for (int i = 0; i < PROGS_MAX; i++) {
        if (progs[i]) {
            kill(progs[i], SIGKILL);
            while (waitpid(progs[i], NULL, 0) < 0 && errno == EINTR)
                ;
            progs[i] = 0;
        }
    }
}

/* [child] Only what is safe after fork. */
static _Noreturn void become(const exj_prog *p, const exj_tmp *t, const char *file,
                             char *const *argv, char *const *envp, pid_t parent)
{
    int in, out, err;
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    in = open("/dev/null", O_RDONLY);
    out = open(p->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    err = open(p->err, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (in < 0 || out < 0 || err < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 ||
        dup2(err, 2) < 0 || chdir(t->path) != 0)
        _exit(126);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    execve(file, argv, envp);
    _exit(127);
}

void exj_prog_start(exj_prog *p, const exj_tmp *t, const char *file, const char *const *env,
                    const char *const *args)
{
    static const char *const kept[] = { "PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS",
                                        "LSAN_OPTIONS", "TSAN_OPTIONS", "EXJ_MUTANT" };
    static unsigned number;
    char pairs[8][512];
    char *argv[64], *envp[64];
    size_t n_arg = 0, n_env = 0, n_pair = 0;
    pid_t parent = getpid();

    *p = (exj_prog){ .pidfd = -1 };
    number++;
    snprintf(p->out, sizeof(p->out), "%s/out.%u", t->path, number);
    snprintf(p->err, sizeof(p->err), "%s/err.%u", t->path, number);

    argv[n_arg++] = (char *)(uintptr_t)file;
    for (size_t i = 0; args && args[i] && n_arg < 63; i++)
        argv[n_arg++] = (char *)(uintptr_t)args[i];
    argv[n_arg] = NULL;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        const char *value = getenv(kept[i]);

        if (value) {
            snprintf(pairs[n_pair], sizeof(pairs[0]), "%s=%s", kept[i], value);
            envp[n_env++] = pairs[n_pair++];
        }
    }
    snprintf(pairs[n_pair], sizeof(pairs[0]), "TMPDIR=%s", t->path);
    envp[n_env++] = pairs[n_pair++];
    snprintf(pairs[n_pair], sizeof(pairs[0]), "HOME=%s", t->path);
    envp[n_env++] = pairs[n_pair++];
    for (size_t i = 0; env && env[i] && n_env < 63; i++)
        envp[n_env++] = (char *)(uintptr_t)env[i];
    envp[n_env] = NULL;

    p->pid = fork();
    if (p->pid < 0)
        exj_support_die("fork");
    if (p->pid == 0)
        become(p, t, file, argv, envp, parent);
    remember(p->pid);
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (p->pidfd < 0)
        exj_support_die("pidfd_open");
}

bool exj_prog_is_running(exj_prog *p)
{
    struct pollfd fd = { .fd = p->pidfd, .events = POLLIN };

    return p->pid > 0 && poll(&fd, 1, 0) == 0;
}

void exj_prog_signal(exj_prog *p, int sig)
{
    if (p->pid > 0)
        kill(p->pid, sig);
}

int exj_prog_wait(exj_prog *p, unsigned ms)
{
    struct pollfd fd = { .fd = p->pidfd, .events = POLLIN };
    int64_t end = exj_test_now_ms() + (int64_t)ms;
    int status = 0, n;

    if (p->pid <= 0)
        return -1;
    do {
        int64_t left = end - exj_test_now_ms();

        n = poll(&fd, 1, left > 0 ? (int)left : 0);
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        return -1;
    while (waitpid(p->pid, &status, 0) < 0)
        if (errno != EINTR)
            exj_support_die("waitpid");
    exj_support_forget(p->pid);
    close(p->pidfd);
    p->pid = 0;
    p->pidfd = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int exj_prog_run(exj_prog *p, const exj_tmp *t, const char *file, const char *const *env,
                 const char *const *args, unsigned ms)
{
    int rc;

    exj_prog_start(p, t, file, env, args);
    rc = exj_prog_wait(p, ms);
    if (rc == -1) {
        exj_prog_signal(p, SIGKILL);
        exj_prog_wait(p, 10000);
    }
    return rc;
}

static int64_t status_kb(const exj_prog *p, const char *field)
{
    char path[64], *text, *at;
    int64_t kb = -1;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)p->pid);
    text = exj_slurp(path, NULL);
    at = strstr(text, field);
    if (at)
        kb = strtoll(at + strlen(field), NULL, 10);
    free(text);
    return kb;
}

int64_t exj_prog_rss_kb(const exj_prog *p)
{
    return status_kb(p, "VmRSS:");
}

int64_t exj_prog_peak_rss_kb(const exj_prog *p)
{
    return status_kb(p, "VmHWM:");
}

int64_t exj_prog_cpu_ms(const exj_prog *p)
{
    char path[64], *text, *at;
    int64_t user = 0, sys = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)p->pid);
    text = exj_slurp(path, NULL);
    at = strrchr(text, ')'); /* the name may hold spaces; utime is the 12th word after it */
    for (int i = 0; at && i < 12; i++)
        at = strchr(at + 1, ' ');
    if (at) {
        user = strtoll(at, &at, 10);
        sys = strtoll(at, NULL, 10);
    }
    free(text);
    return (user + sys) * 1000 / sysconf(_SC_CLK_TCK);
}
