#include "core/http/acceptor.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/str.h"
#include "core/http/exchange.h"
#include "core/http/head.h"

#define SLOTS 128u
#define LOOKS_MAX 256u                /* a head in more pieces than this is an attack */
#define LINGER_NS 1000000000LL        /* a refused one is read empty for so long, */
#define LINGER_BYTES (1024u * 1024u)  /* and so far, so that it sees the answer */
#define MUTED_NS 100000000LL          /* out of descriptors: listen again after */

enum slot_state { SLOT_FREE, SLOT_HEAD, SLOT_LINGER };

struct slot {
    enum slot_state state;
    int fd;
    unsigned door, looks;
    size_t drained;
    exj_nsec until;
    struct sockaddr_storage from;
    socklen_t from_len;
};

struct exj_acceptor {
    exj_acceptor_options o;
    pthread_t thread;
    int epoll, wake;
    exj_nsec muted_until; /* 0: listening */
    struct slot slots[SLOTS];
    char peeked[EXJ_HEAD_MAX_BYTES];
};

/* What epoll tells: a slot's number, or one of these. */
#define TAG_WAKE 1000u
#define TAG_LISTENER 2000u

static void slot_close(struct slot *s)
{
    close(s->fd); /* leaves epoll too: nobody else has this descriptor */
    s->state = SLOT_FREE;
}

/* Answer, say that nothing more follows, and let the client read it before it is reset. */
static void slot_refuse(struct slot *s, exj_nsec now, unsigned status, const char *code,
                        const char *text)
{
    exj_response r = { 0 };
    exj_buf out = EXJ_BUF_INIT;

    exj_response_refuse(&r, status, code, text);
    exj_buf_printf(&out, "HTTP/1.1 %u %s\r\nContent-Type: " EXJ_TYPE_JSON "\r\n"
                         "Content-Length: %zu\r\nConnection: close\r\n"
                         "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n",
                   status, exj_status_reason(status), r.body.n);
    exj_buf_add_slice(&out, exj_buf_slice(&r.body));
    if (out.failed ||
        send(s->fd, out.p, out.n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)out.n ||
        shutdown(s->fd, SHUT_WR)) {
        slot_close(s);
    } else {
        s->state = SLOT_LINGER;
        s->drained = 0;
        s->until = now + LINGER_NS;
    }
    exj_response_release(&r);
    exj_buf_release(&out);
}

static void slot_drain(struct slot *s, char *scratch, size_t cap)
{
    for (;;) {
        ssize_t n = recv(s->fd, scratch, cap, MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN))
            return;
        if (n > 0)
            s->drained += (size_t)n;
        if (n <= 0 || s->drained > LINGER_BYTES) {
            slot_close(s);
            return;
        }
    }
}

static void slot_look(exj_acceptor *a, struct slot *s, exj_nsec now)
{
    exj_head head;
    ssize_t n;

    do
        n = recv(s->fd, a->peeked, sizeof a->peeked, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN))
        return;
    if (n <= 0) { /* gone before its head was whole */
        slot_close(s);
        return;
    }
    switch (exj_head_judge((exj_slice){ a->peeked, (size_t)n }, a->o.body_max, &head)) {
    case EXJ_HEAD_MORE:
        if (++s->looks > LOOKS_MAX)
            slot_refuse(s, now, 408, "RequestTimeout", "the request head came in too slowly");
        break;
    case EXJ_HEAD_REFUSED:
        slot_refuse(s, now, head.status, head.code, head.text);
        if (s->state == SLOT_LINGER)
            slot_drain(s, a->peeked, sizeof a->peeked);
        break;
    case EXJ_HEAD_GOOD:
        epoll_ctl(a->epoll, EPOLL_CTL_DEL, s->fd, NULL);
        s->state = SLOT_FREE;
        a->o.admit(a->o.user, s->door, s->fd, (const struct sockaddr *)&s->from, s->from_len);
        break;
    }
}

static struct slot *slot_take(exj_acceptor *a)
{
    struct slot *oldest = &a->slots[0];

    for (unsigned i = 0; i < SLOTS; i++) {
        if (a->slots[i].state == SLOT_FREE)
            return &a->slots[i];
        if (a->slots[i].until < oldest->until)
            oldest = &a->slots[i];
    }
    slot_close(oldest);
    return oldest;
}

/* With EPOLLET a head that is peeked at and left does not wake us until more arrives. */
static bool watch(exj_acceptor *a, int fd, uint32_t events, uint32_t tag)
{
    struct epoll_event e = { .events = events, .data.u32 = tag };

    return epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

static void listeners_mute(exj_acceptor *a, bool muted)
{
    for (unsigned i = 0; i < a->o.doors; i++) {
        struct epoll_event e = { .events = muted ? 0 : EPOLLIN,
                                 .data.u32 = TAG_LISTENER + i };

        epoll_ctl(a->epoll, EPOLL_CTL_MOD, a->o.listeners[i], &e);
    }
}

static void accept_one(exj_acceptor *a, unsigned door, exj_nsec now)
{
    struct sockaddr_storage from = { 0 };
    socklen_t from_len = sizeof from;
    int fd = accept4(a->o.listeners[door], (struct sockaddr *)&from, &from_len,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct slot *s;

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            exj_log(EXJ_LOG_WARN, "http", "accept: %s", strerror(errno));
            listeners_mute(a, true);
            a->muted_until = now + MUTED_NS;
        }
        return;
    }
    if (from_len > sizeof from)
        from_len = sizeof from;
    s = slot_take(a);
    *s = (struct slot){ .state = SLOT_HEAD, .fd = fd, .door = door, .from = from,
                        .from_len = from_len, .until = now + a->o.head_time };
    if (!watch(a, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, (uint32_t)(s - a->slots)))
        slot_close(s);
}

/* Milliseconds until something is due; -1: nothing is. */
static int next_wait(exj_acceptor *a)
{
    exj_nsec now = exj_clock_mono_ns(), next = a->o.sweep(a->o.user, now);

    if (a->muted_until && now >= a->muted_until) {
        a->muted_until = 0;
        listeners_mute(a, false);
    }
    if (a->muted_until && (!next || a->muted_until < next))
        next = a->muted_until;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &a->slots[i];

        if (s->state == SLOT_HEAD && s->until <= now)
            slot_refuse(s, now, 408, "RequestTimeout",
                        "the request head did not come in time");
        else if (s->state == SLOT_LINGER && s->until <= now)
            slot_close(s);
        if (s->state != SLOT_FREE && (!next || s->until < next))
            next = s->until;
    }
    if (!next)
        return -1;
    return next <= now ? 0 : (int)((next - now) / 1000000 + 1);
}

static void *acceptor_main(void *user)
{
    exj_acceptor *a = user;
    struct epoll_event events[32];

    pthread_setname_np(pthread_self(), "exj-accept");
    for (;;) {
        int n = epoll_wait(a->epoll, events, 32, next_wait(a));
        exj_nsec now = exj_clock_mono_ns();

        for (int i = 0; i < n; i++) {
            uint32_t tag = events[i].data.u32;

            if (tag == TAG_WAKE)
                return NULL;
            if (tag >= TAG_LISTENER)
                accept_one(a, tag - TAG_LISTENER, now);
            else if (a->slots[tag].state == SLOT_HEAD)
                slot_look(a, &a->slots[tag], now);
            else if (a->slots[tag].state == SLOT_LINGER)
                slot_drain(&a->slots[tag], a->peeked, sizeof a->peeked);
        }
    }
}

exj_code exj_acceptor_start(const exj_acceptor_options *o, exj_acceptor **ret, exj_err *err)
{
    exj_acceptor *a = calloc(1, sizeof *a);
    exj_code rc = EXJ_OK;
    bool watched = true;

    if (!a)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    a->o = *o;
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->epoll >= 0 && a->wake >= 0)
        watched = watch(a, a->wake, EPOLLIN, TAG_WAKE);
    for (unsigned i = 0; i < o->doors && watched && a->epoll >= 0; i++)
        watched = watch(a, o->listeners[i], EPOLLIN, TAG_LISTENER + i);
    if (a->epoll < 0 || a->wake < 0 || !watched)
        rc = exj_err_set(err, EXJ_IO, "http: %s", strerror(errno));
    else if (pthread_create(&a->thread, NULL, acceptor_main, a))
        rc = exj_err_set(err, EXJ_NOMEM, "http: no thread to be had");
    if (rc != EXJ_OK) {
        if (a->epoll >= 0)
            close(a->epoll);
        if (a->wake >= 0)
            close(a->wake);
        free(a);
        return rc;
    }
    *ret = a;
    return EXJ_OK;
}

void exj_acceptor_stop(exj_acceptor *a)
{
    uint64_t one = 1;

    if (!a)
        return;
    while (write(a->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(a->thread, NULL);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (a->slots[i].state != SLOT_FREE)
            slot_close(&a->slots[i]);
    }
    for (unsigned i = 0; i < a->o.doors; i++)
        close(a->o.listeners[i]);
    close(a->epoll);
    close(a->wake);
    free(a);
}
