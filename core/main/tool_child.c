/* This program once more, for what may crash. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/main/cmd_plugin.h"

#define SAID_MAX (32u * 1024u * 1024u)
#define ARGS_MAX 8

extern char **environ;

/* False: end of file. */
static bool take(int fd, exj_buf *b)
{
    char part[16384];

    for (;;) {
        ssize_t n = read(fd, part, sizeof(part));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        if (b->n < SAID_MAX)
            exj_buf_add(b, part, (size_t)n);
    }
}

static int left_ms(exj_nsec until)
{
    exj_nsec left = until - exj_clock_mono_ns();

    return left <= 0 ? 0 : (int)(left / 1000000) + 1;
}

/* ---- a folder for what a crash would leave -------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)type, (void)where;
    (void)remove(path);
    return 0;
}

static exj_code make_folder(char *ret, size_t cap, exj_err *err)
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(ret, cap, "%s/exellix-tool-XXXXXX", tmp && *tmp ? tmp : "/tmp");

    if (n < 0 || (size_t)n >= cap || !mkdtemp(ret))
        return exj_err_set(err, EXJ_IO, "cannot make a folder %.300s: %s", ret, strerror(errno));
    return EXJ_OK;
}

/* Our environment, with TMPDIR as given ("TMPDIR=…"). free() it. */
static char **environment_with(char *tmpdir)
{
    size_t n = 0, out = 0;
    char **env;

    while (environ[n])
        n++;
    env = calloc(n + 2, sizeof(*env));
    for (size_t k = 0; env && k < n; k++)
        if (strncmp(environ[k], "TMPDIR=", 7) != 0)
            env[out++] = environ[k];
    if (env)
        env[out] = tmpdir;
    return env;
}

static exj_code start(const char *exe, const char *word, const char *const *args, char *tmpdir,
                      pid_t *ret_pid, int *ret_fd, exj_err *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    char *argv[ARGS_MAX + 3] = { NULL };
    char **env = environment_with(tmpdir);
    size_t n = 0;
    int fds[2], failed;

    if (!env)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    /* posix_spawn does not write to them; its type is older than const. */
    argv[n++] = (char *)(uintptr_t)exe;
    argv[n++] = (char *)(uintptr_t)word;
    for (; *args && n < ARGS_MAX + 2; args++)
        argv[n++] = (char *)(uintptr_t)*args;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        free(env);
        return exj_err_set(err, EXJ_IO, "no pipe to a child: %s", strerror(errno));
    }
    fcntl(fds[1], F_SETFL, 0); /* the child's end blocks */
    sigemptyset(&none);
    sigfillset(&defaults);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    failed = posix_spawn(ret_pid, exe, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    free(env);
    if (failed) {
        close(fds[0]);
        return exj_err_set(err, EXJ_IO, "cannot start %.300s: %s", exe, strerror(failed));
    }
    *ret_fd = fds[0];
    return EXJ_OK;
}

exj_code exj_tool_child(const char *exe, const char *word, const char *const *args,
                        unsigned timeout_ms, exj_tool_end *ret, exj_err *err)
{
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)timeout_ms * 1000000;
    exj_buf said = EXJ_BUF_INIT;
    struct pollfd p[2];
    char tmpdir[512] = "TMPDIR=", *folder = tmpdir + strlen(tmpdir);
    bool open = true;
    pid_t pid = -1;
    int fd = -1, pidfd;
    exj_code rc = make_folder(folder, sizeof(tmpdir) - strlen(tmpdir), err);

    if (rc != EXJ_OK)
        return rc;
    rc = start(exe, word, args, tmpdir, &pid, &fd, err);
    if (rc != EXJ_OK) {
        rmdir(folder);
        return rc;
    }
    *ret = (exj_tool_end){ .in_time = true };
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    p[0] = (struct pollfd){ pidfd, POLLIN, 0 };
    p[1] = (struct pollfd){ fd, POLLIN, 0 };
    while (!(p[0].revents & POLLIN)) {
        int n = poll(p, 2, left_ms(until));

        if (n < 0 && errno != EINTR)
            break;
        if (n == 0 && left_ms(until) == 0) {
            ret->in_time = false;
            kill(pid, SIGKILL);
            break;
        }
        if (n > 0 && p[1].revents && !take(fd, &said)) {
            open = false;
            p[1].fd = -1;
            if (pidfd < 0)
                break; /* an old kernel: the end of the pipe is all there is */
        }
    }
    while (waitpid(pid, &ret->status, 0) < 0 && errno == EINTR)
        ;
    if (open)
        take(fd, &said);
    if (pidfd >= 0)
        close(pidfd);
    close(fd);
    if (!ret->in_time)
        snprintf(ret->text, sizeof(ret->text), "was stopped after %u ms", timeout_ms);
    else if (WIFSIGNALED(ret->status))
        snprintf(ret->text, sizeof(ret->text), "crashed with SIG%s",
                 sigabbrev_np(WTERMSIG(ret->status)) ? sigabbrev_np(WTERMSIG(ret->status)) : "?");
    else
        snprintf(ret->text, sizeof(ret->text), "ended with status %d",
                 WEXITSTATUS(ret->status));
    if (said.n && said.n < SAID_MAX)
        exj_json_parse(exj_buf_slice(&said), &ret->said, NULL); /* cut by a crash: none */
    exj_buf_release(&said);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return EXJ_OK;
}

int exj_tool_take_stdout(void)
{
    int fd = fcntl(1, F_DUPFD_CLOEXEC, 3);

    if (fd < 0)
        return 1;
    dup2(2, 1);
    return fd;
}

void exj_tool_say(int fd, const json_t *value)
{
    exj_buf b = EXJ_BUF_INIT;

    if (value && exj_json_print(value, false, &b, NULL) == EXJ_OK) {
        for (size_t at = 0; at < b.n;) {
            ssize_t n = write(fd, b.p + at, b.n - at);

            if (n < 0 && errno != EINTR)
                break;
            at += n > 0 ? (size_t)n : 0;
        }
    }
    exj_buf_release(&b);
}
