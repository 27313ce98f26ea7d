/* core/plugin/check.c - the half of `plugin check` that outlives a crash. */
#include "core/plugin/check.h"

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

#define REPORT_MAX (1024u * 1024u)

extern char **environ;

struct report {
    json_t *findings, *plugins;
    char phase[128];
    char sha256[65];
    int grade; /* of the last finding */
    bool fails;
};

static void add_finding(struct report *r, const char *level, const char *code,
                        const char *message, const char *fix)
{
    r->fails |= strcmp(level, "fail") == 0;
    json_array_append_new(r->findings, json_pack("{s:i,s:s,s:s,s:s,s:s}", "grade", r->grade, "level", level, "code", code,
                                                 "message", message, "fix", fix));
}

static void take_line(struct report *r, exj_slice line)
{
    const char *level = NULL, *text;
    json_t *v = NULL, *part;

    if (exj_json_parse(line, &v, NULL) != EXJ_OK || !json_is_object(v)) {
        json_decref(v);
        return; /* cut by a crash */
    }
    part = json_object_get(v, "finding");
    if (json_is_object(part)) {
        level = json_string_value(json_object_get(part, "level"));
        r->grade = (int)json_integer_value(json_object_get(part, "grade"));
        r->fails |= level && strcmp(level, "fail") == 0;
        json_array_append(r->findings, part);
    }
    part = json_object_get(v, "plugin");
    if (json_is_object(part))
        json_array_append(r->plugins, part);
    text = json_string_value(json_object_get(v, "phase"));
    if (text)
        snprintf(r->phase, sizeof r->phase, "%s", text);
    text = json_string_value(json_object_get(v, "sha256"));
    if (text)
        snprintf(r->sha256, sizeof r->sha256, "%s", text);
    json_decref(v);
}

static void take_lines(struct report *r, const exj_buf *b)
{
    size_t from = 0;

    for (size_t at = 0; at < b->n; at++)
        if (b->p[at] == '\n') {
            take_line(r, (exj_slice){ b->p + from, at - from });
            from = at + 1;
        }
}

/* Append what can be read now. False: end of file. */
static bool drain(int fd, exj_buf *b)
{
    char part[4096];

    for (;;) {
        ssize_t n = read(fd, part, sizeof part);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        if (b->n < REPORT_MAX)
            exj_buf_add(b, part, (size_t)n);
    }
}

static int left_ms(exj_nsec until)
{
    exj_nsec left = until - exj_clock_mono_ns();

    return left <= 0 ? 0 : (int)(left / 1000000) + 1;
}

/* Read until the child is gone or its time is over. False: its time was over. */
static bool wait_child(pid_t pid, int fd, unsigned timeout_ms, exj_buf *b, int *ret_status)
{
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)timeout_ms * 1000000;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p[2] = { { pidfd, POLLIN, 0 }, { fd, POLLIN, 0 } };
    bool in_time = true;

    while (!(p[0].revents & POLLIN)) {
        int ms = left_ms(until);
        int n = poll(p, 2, ms);

        if (n < 0 && errno != EINTR)
            break;
        if (n == 0 && left_ms(until) == 0) {
            in_time = false;
            kill(pid, SIGKILL);
            break;
        }
        if (n > 0 && p[1].revents && !drain(fd, b)) {
            p[1].fd = -1;
            if (pidfd < 0)
                break; /* an old kernel: the end of the pipe is all there is */
        }
    }
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    if (p[1].fd >= 0)
        drain(fd, b);
    if (pidfd >= 0)
        close(pidfd);
    return in_time;
}

/* ---- a folder for what a crash would leave -------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

static void remove_folder(const char *dir)
{
    if (*dir)
        nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Our environment with `tmpdir` ("TMPDIR=…") in it. free() it. */
static char **environment_with(char *tmpdir)
{
    size_t n = 0, out = 0;
    char **env;

    while (environ[n])
        n++;
    env = calloc(n + 2, sizeof *env);
    for (size_t k = 0; env && k < n; k++)
        if (strncmp(environ[k], "TMPDIR=", 7) != 0)
            env[out++] = environ[k];
    if (env)
        env[out] = tmpdir;
    return env;
}

static exj_code start_child(const char *self_exe, const char *word, const char *file,
                            int level, const char *config, char *tmpdir, pid_t *ret_pid,
                            int *ret_fd, exj_err *err)
{
    char **env = environment_with(tmpdir);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;
    char number[2] = { (char)('0' + level), '\0' };
    char *argv[6] = { strdup(self_exe), strdup(word), strdup(file), strdup(number),
                      strdup(config ? config : "{}"), NULL };
    int fds[2] = { -1, -1 };
    exj_code rc = EXJ_OK;
    int failed;

    if (!argv[0] || !argv[1] || !argv[2] || !argv[3] || !argv[4] || !env) {
        rc = exj_err_set(err, EXJ_NOMEM, "plugin check: out of memory");
        goto out;
    }
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        rc = exj_err_set(err, EXJ_IO, "plugin check: pipe: %s", strerror(errno));
        goto out;
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
    failed = posix_spawn(ret_pid, self_exe, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        rc = exj_err_set(err, EXJ_IO, "plugin check: cannot start %s: %s", self_exe,
                         strerror(failed));
        goto out;
    }
    *ret_fd = fds[0];
    fds[0] = -1;
out:
    free(env);
    for (int k = 0; k < 5; k++)
        free(argv[k]);
    for (int k = 0; k < 2; k++)
        if (fds[k] >= 0)
            close(fds[k]);
    return rc;
}

exj_code exj_plugin_check(const char *self_exe, const char *check_word, const char *file,
                          int level, const char *config, unsigned timeout_ms,
                          json_t **ret_report, exj_err *err)
{
    struct report r = { .findings = json_array(), .plugins = json_array(), .phase = "start",
                        .grade = 1 };
    exj_buf lines = EXJ_BUF_INIT;
    const char *tmp = getenv("TMPDIR");
    char text[400], tmpdir[512], *dir;
    int fd = -1, status = 0;
    bool in_time;
    pid_t pid;
    exj_code rc;

    snprintf(tmpdir, sizeof tmpdir, "TMPDIR=%s/exellix-check-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    dir = tmpdir + strlen("TMPDIR=");
    if (strlen(tmpdir) == sizeof tmpdir - 1 || !mkdtemp(dir)) {
        rc = exj_err_set(err, EXJ_IO, "plugin check: %s: %s", dir, strerror(errno));
        *dir = 0; /* nothing to remove */
        goto out;
    }
    rc = start_child(self_exe, check_word, file, level, config, tmpdir, &pid, &fd, err);
    if (rc)
        goto out;
    in_time = wait_child(pid, fd, timeout_ms, &lines, &status);
    take_lines(&r, &lines);
    if (!in_time) {
        snprintf(text, sizeof text, "was stopped after %u ms in %s", timeout_ms, r.phase);
        add_finding(&r, "fail", "TimeLimit", text, "return from every function in finite time");
    } else if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));

        snprintf(text, sizeof text, "crashed with SIG%s in %s", name ? name : "?", r.phase);
        add_finding(&r, "fail", "Crash", text, "run it under a debugger or a sanitizer");
    } else if (strcmp(r.phase, "exit") != 0 && !r.fails) {
        snprintf(text, sizeof text, "ended the process with status %d in %s",
                 WEXITSTATUS(status), r.phase);
        add_finding(&r, "fail", "Exit", text, "a plugin must not call exit");
    }
    *ret_report = json_pack("{s:s,s:b,s:i,s:s,s:O,s:O}", "file", file, "ok", !r.fails, "level",
                            level, "sha256",
                            r.sha256, "findings", r.findings, "plugins", r.plugins);
    if (!*ret_report)
        rc = exj_err_set(err, EXJ_NOMEM, "plugin check: out of memory");
out:
    remove_folder(dir);
    if (fd >= 0)
        close(fd);
    exj_buf_release(&lines);
    json_decref(r.findings);
    json_decref(r.plugins);
    return rc;
}
