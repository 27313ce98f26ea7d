/* tests/plugins/host_harness.h - start exellix-jobs-plugin-host and be its core. */
#ifndef EXJ_TESTS_PLUGINS_HOST_HARNESS_H
#define EXJ_TESTS_PLUGINS_HOST_HARNESS_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "core/base/clock.h"
#include "core/plugin/wire.h"
#include "tests/plugins/guests.h"

#define HOST_EXE EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host"
#define PATIENCE_MS 20000
#define HOST_ANSWER_MAX (1u << 20)

extern char **environ;

struct kid {
    pid_t pid;
    exj_wire *wire;
    int cancel, crash, log; /* our ends */
    exj_frame frame;        /* the last one of next_of */
    char printed[65536];    /* what it wrote to 1 and 2, once kid_end was called */
    uint32_t cage;          /* of HOST_HELLO */
};

/* Start it with `argv` (without argv[0]) and no word spoken. */
__attribute__((unused)) static void kid_spawn(struct kid *k, const char *lane, const char *memory,
                                              const char *hidden)
{
    char exe[] = HOST_EXE, *l = strdup(lane), *m = strdup(memory), *h = strdup(hidden);
    char *argv[] = { exe, l, m, h, NULL };
    int sockets[2], cancel[2], log[2], moved[4];
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;

    memset(k, 0, sizeof *k);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    cr_assert_eq(pipe2(cancel, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(log, O_CLOEXEC), 0);
    k->crash = memfd_create("crash", MFD_CLOEXEC);
    cr_assert_eq(ftruncate(k->crash, sizeof(exj_crash) + EXJ_CRASH_TEXT), 0);
    moved[0] = fcntl(sockets[1], F_DUPFD_CLOEXEC, 100);
    moved[1] = fcntl(cancel[0], F_DUPFD_CLOEXEC, 100);
    moved[2] = fcntl(k->crash, F_DUPFD_CLOEXEC, 100);
    moved[3] = fcntl(log[1], F_DUPFD_CLOEXEC, 100);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    for (int n = 0; n < 3; n++)
        posix_spawn_file_actions_adddup2(&fa, moved[n], 3 + n);
    posix_spawn_file_actions_adddup2(&fa, moved[3], 1);
    posix_spawn_file_actions_adddup2(&fa, moved[3], 2);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
    cr_assert_eq(posix_spawn(&k->pid, exe, &fa, &attr, argv, environ), 0, "%s", exe);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    for (int n = 0; n < 4; n++)
        close(moved[n]);
    close(sockets[1]);
    close(cancel[0]);
    close(log[1]);
    k->cancel = cancel[1];
    k->log = log[0];
    cr_assert_eq(exj_wire_new(sockets[0], EXJ_WIRE_MAX, &k->wire, NULL), EXJ_OK);
    free(l);
    free(m);
    free(h);
}

/* Wait for its end and for all that it printed. Exit status, or 1000 + signal. */
__attribute__((unused)) static int kid_end(struct kid *k)
{
    int pidfd = (int)syscall(SYS_pidfd_open, k->pid, 0), status = 0;
    struct pollfd p = { .fd = pidfd, .events = POLLIN };
    size_t n = 0;
    ssize_t got;

    exj_frame_release(&k->frame);
    if (poll(&p, 1, PATIENCE_MS) != 1) {
        kill(k->pid, SIGKILL);
        waitpid(k->pid, &status, 0);
        cr_assert_fail("the plugin host did not end");
    }
    waitpid(k->pid, &status, 0);
    close(pidfd);
    while (n < sizeof k->printed - 1 &&
           (got = read(k->log, k->printed + n, sizeof k->printed - 1 - n)) > 0)
        n += (size_t)got;
    k->printed[n] = 0;
    exj_wire_free(k->wire);
    close(k->cancel);
    close(k->log);
    k->wire = NULL;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* The next frame, or NULL when it closed the connection. Log frames are skipped. */
__attribute__((unused)) static const exj_frame *any_of(struct kid *k)
{
    exj_err err = { 0 };
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)PATIENCE_MS * 1000000;
    exj_code rc;

    exj_frame_release(&k->frame);
    while ((rc = exj_wire_receive(k->wire, &k->frame, &err)) == EXJ_BUSY) {
        struct pollfd p = { .fd = exj_wire_fd(k->wire), .events = POLLIN };

        exj_wire_flush(k->wire, NULL);
        poll(&p, 1, 50);
        cr_assert(exj_clock_mono_ns() < until, "the plugin host said nothing for %d ms",
                  PATIENCE_MS);
    }
    cr_assert(rc == EXJ_OK || rc == EXJ_NOT_FOUND, "%s", err.text);
    return rc ? NULL : &k->frame;
}

__attribute__((unused)) static const exj_frame *next_of(struct kid *k, exj_frame_type type)
{
    const exj_frame *f;

    do
        f = any_of(k);
    while (f && f->type == EXJ_F_LOG && type != EXJ_F_LOG);
    if (!f) {
        kid_end(k);
        cr_assert_fail("wanted a frame of type %u, the host ended: %s", type, k->printed);
    }
    cr_assert_eq(f->type, type, "wanted a frame of type %u, found %u: %.*s", type, f->type,
                 (int)(f->body.n < 300 ? f->body.n : 300), f->body.p ? f->body.p : "");
    return f;
}

__attribute__((unused)) static void say(struct kid *k, exj_frame_type type, uint64_t call,
                                        exj_buf *b)
{
    exj_wire_send(k->wire, type, call, exj_buf_slice(b), NULL);
    exj_buf_release(b);
}

__attribute__((unused)) static void say_hello(struct kid *k, uint32_t low, uint32_t high,
                                              const char *copy)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, low);
    exj_wire_u32(&b, high);
    exj_wire_u32(&b, HOST_ANSWER_MAX);
    exj_wire_text(&b, exj_slice_of(copy));
    exj_wire_text(&b, exj_slice_of("shown.so"));
    exj_wire_text(&b, exj_slice_of("test.guest"));
    say(k, EXJ_F_HELLO, 0, &b);
}

__attribute__((unused)) static void say_create(struct kid *k, const char *config)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, 0);
    exj_wire_text(&b, exj_slice_of(config));
    say(k, EXJ_F_CREATE, 0, &b);
}

/* `model` NULL: the same as before. */
__attribute__((unused)) static void say_call(struct kid *k, uint64_t call, const char *model,
                                             const char *runtime, uint64_t timeout_ns)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, 1);
    exj_wire_u64(&b, timeout_ns);
    exj_wire_u64(&b, 77);
    exj_wire_u32(&b, model ? 0 : 1);
    exj_wire_text(&b, exj_slice_of(model));
    exj_wire_text(&b, exj_slice_of(runtime));
    exj_wire_text(&b, exj_slice_of("job-1"));
    exj_wire_text(&b, exj_slice_of("record-1"));
    say(k, EXJ_F_CALL, call, &b);
}

__attribute__((unused)) static void say_reply(struct kid *k, uint64_t call, uint32_t code,
                                              exj_slice text)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, code);
    exj_wire_text(&b, text);
    say(k, EXJ_F_REPLY, call, &b);
}

__attribute__((unused)) static void say_cancel(struct kid *k, uint64_t call, uint64_t reason)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u64(&b, call);
    exj_wire_u64(&b, reason);
    cr_assert_eq(write(k->cancel, b.p, b.n), (ssize_t)b.n);
    exj_buf_release(&b);
}

/* A RESULT that has come; texts lie in k->frame. */
struct result {
    uint64_t call;
    exj_result result;
    uint32_t emits;
    exj_slice code, text, answer;
    uint64_t took_ns;
};

__attribute__((unused)) static struct result read_result(const exj_frame *f)
{
    exj_wire_reader r = { .left = f->body };
    struct result ret = { .call = f->call };

    ret.result = (exj_result)exj_wire_get_u32(&r);
    ret.emits = exj_wire_get_u32(&r);
    ret.code = exj_wire_get_text(&r);
    ret.text = exj_wire_get_text(&r);
    ret.answer = exj_wire_get_text(&r);
    ret.took_ns = exj_wire_get_u64(&r);
    cr_assert(exj_wire_done(&r));
    return ret;
}

__attribute__((unused)) static struct result next_result(struct kid *k)
{
    return read_result(next_of(k, EXJ_F_RESULT));
}

/* Started, greeted and created with the plugin NAME of the room. */
__attribute__((unused)) static void kid_ready(struct kid *k, const struct room *r,
                                              const char *lane, const char *name,
                                              const char *hidden)
{
    exj_wire_reader read;
    char copy[128];

    snprintf(copy, sizeof copy, "%s/%s.so", r->dir, name);
    kid_spawn(k, lane, "2048", hidden ? hidden : "-");
    say_hello(k, 1, EXJ_WIRE_VERSION, copy);
    read = (exj_wire_reader){ .left = next_of(k, EXJ_F_HOST_HELLO)->body };
    cr_assert_eq(exj_wire_get_u32(&read), EXJ_WIRE_VERSION);
    k->cage = exj_wire_get_u32(&read);
    say_create(k, "{}");
    read = (exj_wire_reader){ .left = next_of(k, EXJ_F_CREATED)->body };
    cr_assert_eq(exj_wire_get_u32(&read), EXJ_R_OK);
}

__attribute__((unused)) static void kid_bye(struct kid *k)
{
    exj_buf b = EXJ_BUF_INIT;

    say(k, EXJ_F_BYE, 0, &b);
    cr_assert_null(any_of(k));
    cr_assert_eq(kid_end(k), 0, "%s", k->printed);
    close(k->crash);
}

/* What the crash handler left; text NUL-terminated. */
struct last_words {
    exj_crash head;
    char text[EXJ_CRASH_TEXT + 1];
};

__attribute__((unused)) static struct last_words last_words_of(struct kid *k)
{
    struct last_words w;

    memset(&w, 0, sizeof w);
    cr_assert_eq(pread(k->crash, &w, sizeof w - 1, 0), (ssize_t)(sizeof w.head + EXJ_CRASH_TEXT));
    cr_assert_leq(w.head.bytes, EXJ_CRASH_TEXT);
    w.text[w.head.bytes] = 0;
    return w;
}

#endif /* EXJ_TESTS_PLUGINS_HOST_HARNESS_H */
