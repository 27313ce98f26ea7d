/* core/host/link.c - see link.h. Two locks, never held together except send_mu before mu (an
 * ask takes its place in the row of asks and is sent in one go). */
#include "core/host/link.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static exj_wire *wire;
static pthread_mutex_t send_mu = PTHREAD_MUTEX_INITIALIZER; /* the wire's sending side */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
/* guarded by mu */
static bool leading; /* somebody is at the wire's receiving side */
static exj_ask *asks, **asks_end = &asks;
static exj_order *orders, **orders_end = &orders;

void exj_die(const char *format, ...)
{
    char text[600];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(text, sizeof text - 1, format, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n > sizeof text - 2)
        n = (int)sizeof text - 2;
    text[n] = '\n';
    if (write(STDERR_FILENO, "exellix-jobs-plugin-host: ", 26) < 0 ||
        write(STDERR_FILENO, text, (size_t)n + 1) < 0)
        _exit(1);
    _exit(1);
}

/* ---- memory --------------------------------------------------------------------------- */

/* Takes over the frame's mapping; copies what lies in the wire's buffer. */
static exj_mem *keep(exj_frame *f)
{
    size_t copied = f->map ? 0 : f->body.n;
    exj_mem *m = malloc(sizeof *m + copied);

    if (!m)
        exj_die("out of memory for a frame of %zu bytes", f->body.n);
    atomic_init(&m->refs, 1);
    m->frame = *f;
    m->body = f->body;
    if (!f->map) {
        if (copied)
            memcpy(m->bytes, f->body.p, copied);
        m->body.p = m->bytes;
    }
    *f = (exj_frame){ 0 };
    return m;
}

exj_mem *exj_mem_ref(exj_mem *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void exj_mem_unref(exj_mem *m)
{
    if (m && atomic_fetch_sub(&m->refs, 1) == 1) {
        exj_frame_release(&m->frame);
        free(m);
    }
}

void exj_order_free(exj_order *o)
{
    exj_mem_unref(o->mem);
    free(o);
}

/* ---- receiving ------------------------------------------------------------------------ */

static void take_order_locked(exj_frame *f)
{
    exj_order *o = malloc(sizeof *o);

    if (!o)
        exj_die("out of memory for an order");
    o->next = NULL;
    o->type = f->type;
    o->call = f->call;
    o->mem = keep(f);
    *orders_end = o;
    orders_end = &o->next;
}

static void take_reply_locked(const exj_frame *f)
{
    exj_wire_reader r = { .left = f->body };
    exj_ask **at = &asks, *a;
    exj_slice text;

    while (*at && (*at)->call != f->call)
        at = &(*at)->next;
    a = *at;
    if (!a)
        exj_die("the core answered a question of call %llx, which asked nothing",
                (unsigned long long)f->call);
    a->code = exj_wire_get_u32(&r);
    text = exj_wire_get_text(&r);
    if (!exj_wire_done(&r))
        exj_die("the core sent a malformed REPLY of %zu bytes", f->body.n);
    if (!exj_buf_add_slice(&a->text, text))
        exj_die("out of memory for an answer of %zu bytes", text.n);
    *at = a->next;
    if (!*at)
        asks_end = at;
    a->done = true;
}

static void take_locked(exj_frame *f)
{
    switch (f->type) {
    case EXJ_F_REPLY:
        take_reply_locked(f);
        exj_frame_release(f);
        return;
    case EXJ_F_CREATE:
    case EXJ_F_CALL:
    case EXJ_F_MODEL:
    case EXJ_F_TEST:
    case EXJ_F_SAVE:
    case EXJ_F_LOAD:
    case EXJ_F_BYE:
        take_order_locked(f);
        return;
    default:
        exj_die("the core sent a frame of type %u, which it may not send now", f->type);
    }
}

/* The next frame, waiting for it. */
static exj_frame receive(void)
{
    exj_frame f = { 0 };
    exj_err err = { 0 };
    exj_code rc;

    while ((rc = exj_wire_receive(wire, &f, &err)) == EXJ_BUSY) {
        struct pollfd p = { .fd = exj_wire_fd(wire), .events = POLLIN };

        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            exj_die("poll: %s", strerror(errno));
        if (p.revents & POLLNVAL)
            exj_die("descriptor %d was closed; was it by the plugin?", p.fd);
    }
    if (rc == EXJ_NOT_FOUND)
        _exit(0);
    if (rc)
        exj_die("%s", err.text);
    return f;
}

/* Wait until *flag, or orders are there when `flag` is NULL. With mu held. */
static void await_locked(const bool *flag)
{
    while (flag ? !*flag : !orders) {
        exj_frame f;

        if (leading) {
            pthread_cond_wait(&moved, &mu);
            continue;
        }
        leading = true;
        pthread_mutex_unlock(&mu);
        f = receive();
        pthread_mutex_lock(&mu);
        leading = false;
        take_locked(&f);
        pthread_cond_broadcast(&moved);
    }
}

exj_order *exj_link_next(void)
{
    exj_order *o;

    pthread_mutex_lock(&mu);
    await_locked(NULL);
    o = orders;
    orders = o->next;
    if (!orders)
        orders_end = &orders;
    pthread_mutex_unlock(&mu);
    return o;
}

/* ---- sending -------------------------------------------------------------------------- */

void exj_link_start(exj_wire *w)
{
    wire = w;
}

/* A thread that is cancelled by the plugin must not take our locks with it. */
static __thread int cancel_state;

void exj_link_lock(void)
{
    int before;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_mutex_lock(&send_mu);
    cancel_state = before;
}

void exj_link_unlock(void)
{
    int before = cancel_state;

    pthread_mutex_unlock(&send_mu);
    pthread_setcancelstate(before, NULL);
}

void exj_link_say_locked(exj_frame_type type, uint64_t call, exj_slice body)
{
    exj_err err = { 0 };
    exj_code rc = exj_wire_queue(wire, type, call, body, &err);

    if (!rc)
        rc = exj_wire_drain(wire, &err);
    if (rc == EXJ_IO)
        _exit(0); /* the core is gone */
    if (rc)
        exj_die("%s", err.text);
}

void exj_link_say(exj_frame_type type, uint64_t call, exj_slice body)
{
    exj_link_lock();
    exj_link_say_locked(type, call, body);
    exj_link_unlock();
}

void exj_link_post(exj_ask *a, exj_frame_type type, uint64_t call, exj_slice body)
{
    int before;

    *a = (exj_ask){ .call = call };
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_mutex_lock(&send_mu);
    pthread_mutex_lock(&mu);
    *asks_end = a;
    asks_end = &a->next;
    pthread_mutex_unlock(&mu);
    exj_link_say_locked(type, call, body);
    pthread_mutex_unlock(&send_mu);
    pthread_setcancelstate(before, NULL);
}

uint32_t exj_link_wait(exj_ask *a)
{
    int before;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_mutex_lock(&mu);
    await_locked(&a->done);
    pthread_mutex_unlock(&mu);
    pthread_setcancelstate(before, NULL);
    return a->code;
}

uint32_t exj_link_ask(exj_frame_type type, uint64_t call, exj_slice body, exj_buf *ret,
                      exj_err *err)
{
    exj_ask a;

    exj_link_post(&a, type, call, body);
    exj_link_wait(&a);
    if (a.code)
        exj_err_set(err, (exj_code)a.code, "%.*s", (int)(a.text.n < 500 ? a.text.n : 500),
                    a.text.n ? a.text.p : "");
    else if (ret && !exj_buf_add_slice(ret, exj_buf_slice(&a.text)))
        a.code = exj_err_set(err, EXJ_NOMEM, "out of memory for an answer of %zu bytes", a.text.n);
    exj_buf_release(&a.text);
    return a.code;
}
