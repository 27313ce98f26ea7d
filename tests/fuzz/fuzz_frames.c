/* A plugin host that lies: frames of every kind, well-formed and not, in any order, for calls that
 * run, wait, are over or never were, while the core sends calls. Each call ends at most once, only
 * one that runs is spoken for, the lists of calls stay whole, and a host that broke a rule is
 * heard no more. An input that begins with 'x' is what a crashed one left behind instead.
 *
 * First byte: how the guest is. Then operations: what, a byte, and what it needs. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/plugin/remote_inside.h"
#include "exellix/ext/kv.h"
#include "exellix/ext/metrics.h"

#define CALLS 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* ---- what is left of the input --------------------------------------------------------------- */

static const uint8_t *left;
static size_t left_n;

static uint8_t byte(void)
{
    if (!left_n)
        return 0;
    left_n--;
    return *left++;
}

static exj_slice some(void)
{
    size_t n = byte();
    exj_slice s = { (const char *)left, n < left_n ? n : left_n };

    left += s.n;
    left_n -= s.n;
    return s;
}

/* ---- the core's side of the table -------------------------------------------------------------- */

static struct call {
    bool submitted, over;
    exj_args args;
    char *model; /* owned until the call is over: a later use is seen */
} calls[CALLS];
static unsigned calls_len;
static exj_remote *remote;
static uint8_t answers; /* what the core's own functions say */

static bool is_begun(exj_call c)
{
    if (remote->sent.first && remote->sent.first->id == c)
        return true;
    for (const exj_rcall *k = remote->pending.first; k; k = k->next)
        if (k->id == c)
            return true;
    return false;
}

static void touch(exj_str s)
{
    volatile char sum = 0;

    for (uint64_t i = 0; i < s.n; i++)
        sum = (char)(sum + s.p[i]);
}

static exj_result spoken_for(exj_call c, exj_str text)
{
    static const exj_result said[] = { EXJ_R_OK, EXJ_R_MISS, EXJ_R_INPUT, EXJ_R_CANCELLED };

    must(c != EXJ_RCALL_OWN && is_begun(c));
    touch(text);
    return said[answers & 3];
}

static void on_log(void *ctx, exj_call c, int32_t level, exj_str message)
{
    (void)ctx;
    must(c == 0 && level >= 0 && level <= 255);
    touch(message);
}

static struct call *open_call(exj_call c)
{
    must(c >= 100 && c < 100 + calls_len && !calls[c - 100].over);
    return &calls[c - 100];
}

static void on_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str message)
{
    (void)ctx, (void)r;
    open_call(c);
    touch(code);
    touch(message);
}

static void on_progress(void *ctx, exj_call c, double at, exj_str note)
{
    (void)ctx, (void)at;
    spoken_for(c, note);
}

static exj_result on_emit(void *ctx, exj_call c, exj_str json)
{
    (void)ctx;
    open_call(c);
    touch(json);
    return answers & 4 ? EXJ_R_RETRY : answers & 8 ? EXJ_R_CANCELLED : EXJ_R_OK;
}

static exj_result on_lookup(void *ctx, exj_call c, exj_str step, exj_str *ret)
{
    (void)ctx;
    *ret = (exj_str){ "[1]", 3 };
    return spoken_for(c, step);
}

static exj_result on_key(void *ctx, exj_call c, exj_str key)
{
    (void)ctx;
    return spoken_for(c, key);
}

static exj_result on_pair(void *ctx, exj_call c, exj_str key, exj_str value)
{
    (void)ctx;
    touch(value);
    return spoken_for(c, key);
}

static exj_result on_add(void *ctx, exj_call c, exj_str key, int64_t delta, int64_t *ret)
{
    (void)ctx;
    *ret = delta;
    return spoken_for(c, key);
}

static exj_result on_number(void *ctx, exj_call c, exj_str series, double value)
{
    (void)ctx, (void)value;
    return spoken_for(c, series);
}

static exj_result on_complete(void *ctx, exj_call c, exj_result r)
{
    struct call *k = open_call(c);

    (void)ctx;
    must(r < EXJ_R_CRASHED && !is_begun(c));
    k->over = true;
    free(k->model);
    k->model = NULL;
    return EXJ_R_OK;
}

static const void *on_extension(void *ctx, const char *id)
{
    static const exj_ext_kv kv = { .size_of = sizeof kv, .get = on_lookup, .put = on_pair,
                                   .remove = on_key, .add = on_add };
    static const exj_ext_metrics metrics = { .size_of = sizeof metrics, .counter_add = on_number,
                                             .gauge_set = on_number,
                                             .observe_seconds = on_number };

    (void)ctx;
    if (answers & 16)
        return NULL;
    return strcmp(id, EXJ_EXT_KV) == 0        ? (const void *)&kv
           : strcmp(id, EXJ_EXT_METRICS) == 0 ? (const void *)&metrics
                                              : NULL;
}

/* ---- operations ---------------------------------------------------------------------------------- */

static size_t count(const exj_rcalls *l)
{
    const exj_rcall *before = NULL;
    size_t n = 0;

    for (const exj_rcall *c = l->first; c; before = c, c = c->next, n++)
        must(c->prev == before);
    must(l->last == before && l->n == n);
    return n;
}

static void check_lists(void)
{
    size_t open = 0;

    for (unsigned i = 0; i < calls_len; i++)
        open += calls[i].submitted && !calls[i].over;
    must(count(&remote->waiting) + count(&remote->sent) + count(&remote->pending) == open);
}

static void submit(exj_rcall_kind kind)
{
    exj_rcall *c = remote->spare;
    struct call *k = &calls[calls_len];
    exj_slice model = some();

    if (calls_len == CALLS)
        return;
    if (c)
        remote->spare = c->next;
    else
        c = malloc(sizeof *c);
    k->model = malloc(model.n + 1);
    must(c && k->model);
    if (model.n)
        memcpy(k->model, model.p, model.n);
    k->args = (exj_args){ .size_of = sizeof k->args, .attempt = 1, .deadline_ns = UINT64_MAX,
                          .model = { k->model, model.n }, .runtime = { k->model, model.n },
                          .job_id = { "j", 1 }, .record_id = { "r", 1 }, .token = 7 };
    k->submitted = true;
    *c = (exj_rcall){ .id = 100 + calls_len++, .kind = kind, .args = &k->args,
                      .text = { k->model, model.n } };
    exj_rcalls_add(&remote->waiting, c);
    exj_remote_push(remote);
}

/* The fields that a frame of this type has, from the input. */
static void build(exj_buf *b, unsigned type)
{
    exj_slice text;

    switch (type) {
    case EXJ_F_HOST_HELLO:
        exj_wire_u32(b, byte() & 15 ? EXJ_WIRE_VERSION : byte());
        exj_wire_u32(b, byte());
        exj_wire_u32(b, 1);
        for (int i = 0; i < 2; i++) {
            text = some();
            exj_wire_text(b, text);
        }
        for (int i = 0; i < 4; i++)
            exj_wire_u32(b, byte());
        text = some();
        exj_wire_text(b, text);
        return;
    case EXJ_F_CREATED:
    case EXJ_F_LOG:
        exj_wire_u32(b, (uint32_t)(int8_t)byte());
        break;
    case EXJ_F_RESULT:
        exj_wire_u32(b, (uint32_t)(int8_t)byte());
        exj_wire_u32(b, byte() & 1);
        for (int i = 0; i < 3; i++) {
            text = some();
            exj_wire_text(b, text);
        }
        exj_wire_u64(b, 1000);
        return;
    case EXJ_F_PENDING:
        return;
    case EXJ_F_PROGRESS:
        exj_wire_f64(b, (double)byte() / 100);
        break;
    case EXJ_F_METRIC:
        exj_wire_u32(b, byte() % 5);
        text = some();
        exj_wire_text(b, text);
        exj_wire_f64(b, (double)byte());
        return;
    case EXJ_F_STEP_PUT:
    case EXJ_F_KV_PUT:
        text = some();
        exj_wire_text(b, text);
        break;
    case EXJ_F_KV_ADD:
        text = some();
        exj_wire_text(b, text);
        exj_wire_u64(b, byte());
        return;
    default:
        break;
    }
    text = some();
    exj_wire_text(b, text);
}

/* False: the host is to be ended. */
static bool take_frame(exj_rhost *h, bool well_formed)
{
    unsigned type = byte();
    uint8_t whose = byte();
    exj_buf body = EXJ_BUF_INIT;
    exj_frame f = { .type = (exj_frame_type)(type < 64 ? 64 + type % 18 : type) };
    exj_remote_plugin *plugins = NULL;
    exj_err err = { 0 };
    size_t len = 0;
    uint32_t cage;
    char *copy;
    exj_code rc;

    if (whose < 128) /* mostly the one that runs */
        f.call = remote->sent.first ? remote->sent.first->id : 100;
    else if (whose < 160)
        f.call = remote->pending.first ? remote->pending.first->id : 1;
    else
        f.call = whose - 60u;
    if (well_formed)
        build(&body, f.type);
    else
        exj_buf_add_slice(&body, some());
    copy = malloc(body.n ? body.n : 1); /* of exact length: one byte too far is seen */
    must(copy && !body.failed);
    if (body.n)
        memcpy(copy, body.p, body.n);
    f.body = (exj_slice){ copy, body.n };
    if (f.type == EXJ_F_HOST_HELLO && exj_remote_read_hello(&f, &cage, &plugins, &len, NULL)) {
        must(len <= 64);
        exj_remote_plugins_free(plugins, len);
    }
    rc = exj_remote_take(remote, h, &f, &err);
    must(rc == EXJ_OK || ((rc == EXJ_INVALID || rc == EXJ_REFUSED) && err.text[0]));
    must(rc != EXJ_REFUSED || h->state == EXJ_RHOST_HELLO || h->state == EXJ_RHOST_CREATE);
    free(copy);
    exj_buf_release(&body);
    return rc == EXJ_OK;
}

static void drain(int fd)
{
    static char sink[65536];

    while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
        ;
}

static void operate(exj_rhost *h, int far)
{
    bool lives = true;

    for (unsigned n = 0; n < 300 && left_n && lives; n++) {
        uint8_t what = byte();

        answers = what >> 3;
        switch (what & 7) {
        case 0:
        case 1:
            submit(EXJ_RCALL_EXECUTE);
            break;
        case 2:
            submit((exj_rcall_kind)(what >> 3) % 4);
            break;
        case 3:
            lives = take_frame(h, false);
            break;
        default:
            lives = take_frame(h, true);
        }
        check_lists();
        drain(far);
        if (remote->now == h && h->state == EXJ_RHOST_READY)
            exj_remote_push(remote);
    }
}

static void forget(exj_rcall *c)
{
    while (c) {
        exj_rcall *next = c->next;

        free(c);
        c = next;
    }
}

static void lie(void)
{
    static const exj_remote_settings settings = { .host_exe = "/nowhere", .grace_ms = 1 };
    uint8_t how = byte();
    exj_guest guest = { .id = (char *)"fuzz", .version = (char *)"1", .path = "fuzz.so",
                        .vt = { .kind = how & 1 ? EXJ_KIND_SOURCE_RESOLVER
                                                : EXJ_KIND_GRAPH_ENGINE,
                                .flags = how & 2 ? EXJ_FLAG_ASYNC : 0 } };
    exj_host table = { .size_of = sizeof table, .log = on_log, .error = on_error,
                       .progress = on_progress, .emit = on_emit, .journal_lookup = on_lookup,
                       .journal_intent = on_key, .journal_commit = on_pair,
                       .complete = on_complete, .extension = on_extension };
    exj_instance instance = { .guest = &guest };
    exj_remote r = { .instance = &instance, .guest = &guest, .table = &table,
                     .settings = &settings, .one_call = how & 4, .load_over = true };
    exj_rhost *h = calloc(1, sizeof *h);
    int fds[2];

    must(h && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    r.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->child = EXJ_CHILD_NONE;
    h->state = how & 8 ? EXJ_RHOST_HELLO : EXJ_RHOST_READY;
    must(exj_wire_new(fds[0], EXJ_WIRE_MAX, &h->wire, NULL) == EXJ_OK);
    pthread_mutex_init(&r.mu, NULL);
    pthread_mutex_init(&r.send_mu, NULL);
    pthread_cond_init(&r.loaded, NULL);
    r.now = h;
    remote = &r;
    calls_len = 0;
    memset(calls, 0, sizeof calls);
    operate(h, fds[1]);
    for (unsigned i = 0; i < calls_len; i++)
        free(calls[i].model);
    forget(r.waiting.first);
    forget(r.sent.first);
    forget(r.pending.first);
    forget(r.spare);
    exj_rhost_free(h);
    exj_buf_release(&r.scratch);
    pthread_cond_destroy(&r.loaded);
    pthread_mutex_destroy(&r.mu);
    pthread_mutex_destroy(&r.send_mu);
    close(r.wake);
    close(fds[1]);
}

/* ---- what a dead one leaves --------------------------------------------------------------------- */

static int file_of(const uint8_t *data, size_t n)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    must(fd >= 0 && write(fd, data, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void die(void)
{
    static exj_death d;
    exj_rhost *h = calloc(1, sizeof *h);

    must(h != NULL);
    h->child = EXJ_CHILD_NONE;
    h->child.crash = file_of(left, left_n);
    h->child.log = file_of(left, left_n);
    exj_rhost_autopsy(h, "fuzz", left_n & 1 ? "a rule" : "", &d);
    must(d.trace_n < sizeof d.trace && exj_utf8_is_valid((exj_slice){ d.trace, d.trace_n }));
    must(memchr(d.name, 0, sizeof d.name) && memchr(d.what, 0, sizeof d.what) && d.what[0]);
    exj_rhost_free(h);
}

static void no_misdeed(const char *text)
{
    must(exj_utf8_is_valid(exj_slice_of(text)));
}

static void no_log(exj_log_level level, const char *area, const char *message)
{
    (void)level, (void)area, (void)message;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool quiet;

    if (!quiet) {
        exj_misdeed_divert(no_misdeed);
        exj_log_divert(no_log);
        quiet = true;
    }
    left = data;
    left_n = size;
    if (size && data[0] == 'x') {
        byte();
        die();
    } else if (size) {
        lie();
    }
    return 0;
}
