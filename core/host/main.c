/* core/host/main.c - the program exellix-jobs-plugin-host: one plugin file in a process of its
 * own (docs/isolation.md). Started by the core only, with the descriptors of
 * core/plugin/wire.h:
 *
 *     exellix-jobs-plugin-host host|sandbox MEMORY_MB HIDDEN_DIR|- [record]
 *
 * First HELLO; then the cage is closed; only then is the file looked at and loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/host/cage.h"
#include "core/host/crash.h"
#include "core/host/serve.h"

#define ANSWER_MAX (EXJ_WIRE_MAX - 65536u) /* with its frame it must fit into one */

struct hello {
    uint32_t answer_max;
    char *copy, *shown, *id; /* owned */
};

static int explain(const char *program)
{
    fprintf(stderr,
            "%s runs one plugin for a worker of exellix-jobs and is started by the worker, not by "
            "hand.\nTo look at a plugin: exellix-jobs plugin check FILE\n",
            program);
    return 2;
}

static bool is_socket(int fd)
{
    int type = 0;
    socklen_t n = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM;
}

/* Nothing that we were born with may reach the plugin or stop us. */
static void begin_afresh(bool records)
{
    int last = records ? EXJ_HOST_FD_RECORD : EXJ_HOST_FD_CRASH;

    exj_cage_begin(last);
    for (int fd = EXJ_HOST_FD_SOCKET; fd <= last; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* what a plugin prints is logged line by line */
}

static void refuse(const char *text)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_text(&b, exj_slice_of(text));
    exj_link_say(EXJ_F_REFUSED, 0, exj_buf_slice(&b));
    exj_buf_release(&b);
}

/* False: it was refused. */
static bool hear_hello(exj_wire *w, struct hello *ret)
{
    struct pollfd p = { .fd = EXJ_HOST_FD_SOCKET, .events = POLLIN };
    exj_frame f = { 0 };
    exj_wire_reader r;
    exj_err err = { 0 };
    uint32_t lowest, highest;
    exj_code rc;

    while ((rc = exj_wire_receive(w, &f, &err)) == EXJ_BUSY)
        poll(&p, 1, -1);
    if (rc == EXJ_NOT_FOUND)
        _exit(0);
    if (rc)
        exj_die("%s", err.text);
    if (f.type != EXJ_F_HELLO)
        exj_die("the core began with a frame of type %u; wanted HELLO (%u)", f.type, EXJ_F_HELLO);
    r = (exj_wire_reader){ .left = f.body };
    lowest = exj_wire_get_u32(&r);
    highest = exj_wire_get_u32(&r);
    if (r.failed)
        exj_die("the core sent a malformed HELLO of %zu bytes", f.body.n);
    /* what follows is ours to read only in a version that we know */
    if (lowest > EXJ_WIRE_VERSION || highest < EXJ_WIRE_VERSION) {
        char text[200];

        snprintf(text, sizeof text, "the worker speaks versions %u to %u with its plugin host, "
                 "the plugin host speaks version %u: install both from one release",
                 lowest, highest, EXJ_WIRE_VERSION);
        refuse(text);
        exj_frame_release(&f);
        return false;
    }
    ret->answer_max = exj_wire_get_u32(&r);
    ret->copy = exj_slice_dup(exj_wire_get_text(&r));
    ret->shown = exj_slice_dup(exj_wire_get_text(&r));
    ret->id = exj_slice_dup(exj_wire_get_text(&r));
    if (!exj_wire_done(&r) || !ret->copy || !ret->shown || !ret->id)
        exj_die("the core sent a malformed HELLO of %zu bytes", f.body.n);
    if (ret->copy[0] != '/')
        exj_die("the core named the file '%s'; wanted an absolute path", ret->copy);
    if (ret->answer_max > ANSWER_MAX)
        ret->answer_max = ANSWER_MAX;
    exj_frame_release(&f);
    return true;
}

static uint32_t has_of(const exj_plugin *p)
{
    return (p->cancel ? EXJ_VT_CANCEL : 0) | (p->self_test ? EXJ_VT_SELF_TEST : 0) |
           (p->save_state ? EXJ_VT_SAVE_STATE : 0) | (p->load_state ? EXJ_VT_LOAD_STATE : 0) |
           (p->resolve_model ? EXJ_VT_RESOLVE_MODEL : 0);
}

static void say_hello(const exj_plugin_file *f, uint32_t cage)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, EXJ_WIRE_VERSION);
    exj_wire_u32(&b, cage);
    exj_wire_u32(&b, (uint32_t)f->guests_len);
    for (size_t k = 0; k < f->guests_len; k++) {
        const exj_guest *g = &f->guests[k];

        exj_wire_text(&b, exj_slice_of(g->id));
        exj_wire_text(&b, exj_slice_of(g->version));
        exj_wire_u32(&b, g->vt.kind);
        exj_wire_u32(&b, g->vt.flags);
        exj_wire_u32(&b, g->vt.state_version);
        exj_wire_u32(&b, has_of(&g->vt));
        exj_wire_text(&b, g->describe);
    }
    if (b.failed || b.n > EXJ_WIRE_MAX)
        refuse("its plugins describe themselves in more than one frame can hold");
    else
        exj_link_say(EXJ_F_HOST_HELLO, 0, exj_buf_slice(&b));
    exj_buf_release(&b);
}

/* It has a history of its own: it knows what was executed, though the core never hears of it. */
static exj_recorder *open_record(void)
{
    exj_recorder *r = NULL;
    exj_err err = { 0 };

    if (exj_recorder_open_fd(EXJ_HOST_FD_RECORD, "host", &r, &err) != EXJ_OK)
        exj_die("%s", err.text);
    return r;
}

static void record_life(exj_recorder *r, const char *id, const char *outcome)
{
    exj_hist_event e = { .op = EXJ_HIST_HOST, .phase = EXJ_HIST_OK, .value = getpid(),
                         .key = exj_slice_of(id), .outcome = exj_slice_of(outcome) };

    exj_recorder_write(r, &e);
}

/* The only ways out: what is left (threads, atexit) is the plugin's, and is not waited for. */
static void end(int status)
{
    fflush(stdout);
    _exit(status);
}

#ifdef __SANITIZE_ADDRESS__
/* The leak check at exit() starts a process, which the cage forbids; what leaks in a host that a
 * plugin ends is the plugin's business. */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"))) int __lsan_is_turned_off(void)
{
    return 1;
}
#endif

int main(int argc, char **argv)
{
    exj_plugin_file *file = calloc(1, sizeof *file);
    struct hello hello = { 0 };
    exj_cage cage = { 0 };
    exj_recorder *record = NULL;
    exj_wire *wire = NULL;
    exj_err err = { 0 };
    uint32_t reached;
    char *rest = NULL;

    cage.records = argc == 5 && strcmp(argv[4], "record") == 0;
    if ((argc != 4 && !cage.records) || (strcmp(argv[1], "host") != 0 && strcmp(argv[1], "sandbox") != 0) ||
        !is_socket(EXJ_HOST_FD_SOCKET)) {
        free(file);
        return explain(argv[0] ? argv[0] : "exellix-jobs-plugin-host");
    }
    begin_afresh(cage.records);
    if (cage.records)
        record = open_record();
    cage.sandbox = strcmp(argv[1], "sandbox") == 0;
    cage.memory_mb = (uint32_t)strtoul(argv[2], &rest, 10);
    cage.hidden = strcmp(argv[3], "-") != 0 ? argv[3] : NULL;
    if (!file || *rest || !*argv[2])
        exj_die("MEMORY_MB is a number, not '%s'", argv[2]);
    if (exj_wire_new(EXJ_HOST_FD_SOCKET, EXJ_WIRE_MAX, &wire, &err))
        exj_die("%s", err.text);
    exj_link_start(wire);
    if (!hear_hello(wire, &hello))
        end(0);
    record_life(record, hello.id, "start");
    cage.copy = hello.copy;
    exj_crash_setup();
    reached = exj_cage_close(&cage);
    if (exj_plugin_file_adopt(file, hello.copy, hello.shown, &err)) {
        refuse(err.text);
        end(0);
    }
    say_hello(file, reached);
    exj_serve_divert();
    exj_serve_cancels();
    exj_serve(file, hello.answer_max, record);
    record_life(record, hello.id, "exit");
    end(0);
}
