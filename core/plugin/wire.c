/* core/plugin/wire.c - see wire.h.
 *
 * RECEIVING. One buffer, two frames large. The kernel ends a read behind the message that
 * carried a descriptor and hands the descriptor out with that message's first byte; so a
 * descriptor waits, with the place in the stream where its read ended, until a frame with
 * EXJ_WIRE_FD takes it. A frame that reaches that place without taking it is an error: the
 * peer sent a descriptor that belongs to nothing.
 */
#include "core/plugin/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#define TMPFS 0x01021994 /* what memfds are made of; one of huge pages could fault when read */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define IN_BYTES (2 * (EXJ_WIRE_HEAD + EXJ_WIRE_INLINE))
#define UNSENT_MAX (64u * 1024u * 1024u)
#define FDS_WAITING 8 /* received and not taken yet: each read brings one at most */

struct fd_at {
    uint64_t at; /* place in the stream */
    size_t bytes;
    int fd;
};

struct exj_wire {
    int fd;
    size_t max;
    /* the sending side's */
    exj_buf out;       /* [sent, n) is to be sent */
    size_t sent;
    uint64_t out_base; /* place in the stream of out.p[0] */
    size_t in_memfds;  /* bytes that lie in memfds of `out_fds` */
    struct fd_at *out_fds; /* owned; `out_fds_n` of them, in order */
    size_t out_fds_n, out_fds_cap;
    exj_err out_broken; /* what made sending impossible for ever */
    /* the receiving side's */
    char *in; /* owned; [in_at, in_n) is not parsed */
    size_t in_at, in_n;
    uint64_t in_base; /* place in the stream of in[0] */
    struct fd_at in_fds[FDS_WAITING];
    size_t in_fds_n;
    bool in_eof;
    exj_err in_broken;
};

/* ---- fields ------------------------------------------------------------------------------- */

static void put_le(char *to, uint64_t v, size_t bytes)
{
    for (size_t k = 0; k < bytes; k++)
        to[k] = (char)(unsigned char)(v >> (8 * k));
}

static uint64_t get_le(const char *from, size_t bytes)
{
    uint64_t v = 0;

    for (size_t k = 0; k < bytes; k++)
        v |= (uint64_t)(unsigned char)from[k] << (8 * k);
    return v;
}

void exj_wire_u32(exj_buf *b, uint32_t v)
{
    char le[4];

    put_le(le, v, sizeof le);
    exj_buf_add(b, le, sizeof le);
}

void exj_wire_u64(exj_buf *b, uint64_t v)
{
    char le[8];

    put_le(le, v, sizeof le);
    exj_buf_add(b, le, sizeof le);
}

void exj_wire_f64(exj_buf *b, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    exj_wire_u64(b, bits);
}

void exj_wire_text(exj_buf *b, exj_slice s)
{
    if (s.n > EXJ_WIRE_MAX) {
        b->failed = true;
        return;
    }
    exj_wire_u32(b, (uint32_t)s.n);
    exj_buf_add_slice(b, s);
}

static const char *take(exj_wire_reader *r, size_t n)
{
    const char *p = r->left.p;

    if (r->failed || r->left.n < n) {
        r->failed = true;
        return NULL;
    }
    r->left.p += n;
    r->left.n -= n;
    return p;
}

uint32_t exj_wire_get_u32(exj_wire_reader *r)
{
    const char *p = take(r, 4);

    return p ? (uint32_t)get_le(p, 4) : 0;
}

uint64_t exj_wire_get_u64(exj_wire_reader *r)
{
    const char *p = take(r, 8);

    return p ? get_le(p, 8) : 0;
}

double exj_wire_get_f64(exj_wire_reader *r)
{
    uint64_t bits = exj_wire_get_u64(r);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

exj_slice exj_wire_get_text(exj_wire_reader *r)
{
    uint32_t n = exj_wire_get_u32(r);
    const char *p = n ? take(r, n) : "";

    return p ? (exj_slice){ p, n } : (exj_slice){ "", 0 };
}

bool exj_wire_done(const exj_wire_reader *r)
{
    return !r->failed && r->left.n == 0;
}

/* ---- a connection -------------------------------------------------------------------------- */

exj_code exj_wire_new(int fd, size_t max, exj_wire **ret, exj_err *err)
{
    exj_wire *w = calloc(1, sizeof *w);

    if (w)
        w->in = malloc(IN_BYTES);
    if (!w || !w->in) {
        free(w);
        return exj_err_set(err, EXJ_NOMEM, "plugin host connection: out of memory");
    }
    w->fd = fd;
    w->max = max < EXJ_WIRE_MAX ? max : EXJ_WIRE_MAX;
    *ret = w;
    return EXJ_OK;
}

void exj_wire_free(exj_wire *w)
{
    if (!w)
        return;
    for (size_t k = 0; k < w->out_fds_n; k++)
        close(w->out_fds[k].fd);
    for (size_t k = 0; k < w->in_fds_n; k++)
        close(w->in_fds[k].fd);
    close(w->fd);
    exj_buf_release(&w->out);
    free(w->out_fds);
    free(w->in);
    free(w);
}

int exj_wire_fd(const exj_wire *w)
{
    return w->fd;
}

/* ---- sending -------------------------------------------------------------------------------- */

static exj_code send_broken(exj_wire *w, exj_err *err, int error)
{
    exj_err_set(&w->out_broken, EXJ_IO, "plugin host connection: send: %s", strerror(error));
    return exj_err_set(err, w->out_broken.code, "%s", w->out_broken.text);
}

/* One sendmsg, `fd` with its first byte (-1: none). Returns bytes, 0 (later), -1 (errno). */
static ssize_t send_some(int socket, struct iovec *iov, size_t n, int fd)
{
    union {
        struct cmsghdr head; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
    ssize_t sent;

    if (fd >= 0) {
        struct cmsghdr *c;

        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    do
        sent = sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    /* ETOOMANYREFS: too many descriptors of this user are on their way; they arrive soon */
    if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS))
        return 0;
    return sent;
}

/* A sealed memfd of `body`, or -1 with errno. */
static int memfd_of(exj_slice body)
{
    int fd = memfd_create("exj-frame", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    size_t at = 0;

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("exj-frame", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    while (at < body.n) {
        ssize_t n = pwrite(fd, body.p + at, body.n - at, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            goto failed;
        at += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) == 0)
        return fd;
failed:
    at = (size_t)errno;
    close(fd);
    errno = (int)at;
    return -1;
}

static bool room_for_fd(exj_wire *w)
{
    struct fd_at *more;
    size_t cap = w->out_fds_cap ? w->out_fds_cap * 2 : 8;

    if (w->out_fds_n < w->out_fds_cap)
        return true;
    more = realloc(w->out_fds, cap * sizeof *more);
    if (!more)
        return false;
    w->out_fds = more;
    w->out_fds_cap = cap;
    return true;
}

static exj_code queue_in_memfd(exj_wire *w, const char *head, exj_slice body, exj_err *err)
{
    int fd;

    if (!room_for_fd(w) || !exj_buf_reserve(&w->out, EXJ_WIRE_HEAD)) {
        w->out.failed = false; /* what is queued is whole */
        return exj_err_set(err, EXJ_NOMEM, "plugin host connection: out of memory");
    }
    fd = memfd_of(body);
    if (fd < 0)
        return exj_err_set(err, errno == EMFILE || errno == ENFILE ? EXJ_FULL : EXJ_NOMEM,
                           "plugin host connection: %zu bytes in a memfd: %s", body.n,
                           strerror(errno));
    w->out_fds[w->out_fds_n++] =
        (struct fd_at){ .at = w->out_base + w->out.n, .bytes = body.n, .fd = fd };
    w->in_memfds += body.n;
    exj_buf_add(&w->out, head, EXJ_WIRE_HEAD); /* reserved */
    return EXJ_OK;
}

exj_code exj_wire_queue(exj_wire *w, exj_frame_type type, uint64_t call, exj_slice body,
                        exj_err *err)
{
    char head[EXJ_WIRE_HEAD] = { 0 };
    bool in_memfd = body.n > EXJ_WIRE_INLINE;

    if (w->out_broken.code)
        return exj_err_set(err, w->out_broken.code, "%s", w->out_broken.text);
    if (body.n > EXJ_WIRE_MAX)
        return exj_err_set(err, EXJ_FULL, "plugin host connection: a frame of %zu bytes; at most "
                           "%u are sent", body.n, EXJ_WIRE_MAX);
    if (w->out.n - w->sent + w->in_memfds + body.n > UNSENT_MAX)
        return exj_err_set(err, EXJ_FULL, "plugin host connection: %zu bytes wait to be sent and "
                           "%zu more are too many", w->out.n - w->sent + w->in_memfds, body.n);
    if (w->out.p && w->sent == w->out.n) {
        w->out_base += w->sent;
        w->sent = 0;
        exj_buf_reset(&w->out);
    } else if (w->sent > IN_BYTES && w->sent > w->out.n / 2) {
        w->out.n -= w->sent;
        memmove(w->out.p, w->out.p + w->sent, w->out.n);
        w->out_base += w->sent;
        w->sent = 0;
    }
    put_le(head, body.n, 4);
    head[4] = (char)(unsigned char)type;
    head[5] = in_memfd ? (char)EXJ_WIRE_FD : 0;
    put_le(head + 8, call, 8);
    if (in_memfd)
        return queue_in_memfd(w, head, body, err);
    if (!exj_buf_reserve(&w->out, EXJ_WIRE_HEAD + body.n)) {
        w->out.failed = false; /* what is queued is whole */
        return exj_err_set(err, EXJ_NOMEM, "plugin host connection: out of memory");
    }
    exj_buf_add(&w->out, head, EXJ_WIRE_HEAD);
    exj_buf_add_slice(&w->out, body);
    return EXJ_OK;
}

exj_code exj_wire_send(exj_wire *w, exj_frame_type type, uint64_t call, exj_slice body,
                       exj_err *err)
{
    exj_code rc = exj_wire_queue(w, type, call, body, err);

    if (!rc)
        rc = exj_wire_flush(w, err);
    return rc == EXJ_BUSY ? EXJ_OK : rc;
}

exj_code exj_wire_flush(exj_wire *w, exj_err *err)
{
    if (w->out_broken.code)
        return exj_err_set(err, w->out_broken.code, "%s", w->out_broken.text);
    while (w->sent < w->out.n) {
        uint64_t at = w->out_base + w->sent;
        size_t upto = w->out.n;
        int fd = -1;
        struct iovec iov;
        ssize_t n;

        /* as far as the next descriptor, which goes with the first byte of a message */
        for (size_t k = 0; k < 2 && k < w->out_fds_n; k++) {
            if (w->out_fds[k].at == at) {
                fd = w->out_fds[k].fd;
                continue;
            }
            upto = (size_t)(w->out_fds[k].at - w->out_base);
            break;
        }
        iov = (struct iovec){ w->out.p + w->sent, upto - w->sent };
        n = send_some(w->fd, &iov, 1, fd);
        if (n < 0)
            return send_broken(w, err, errno);
        if (n == 0)
            return EXJ_BUSY;
        w->sent += (size_t)n;
        if (fd >= 0) {
            close(fd);
            w->in_memfds -= w->out_fds[0].bytes;
            w->out_fds_n--;
            memmove(w->out_fds, w->out_fds + 1, w->out_fds_n * sizeof *w->out_fds);
        }
    }
    if (w->out.cap > 4 * IN_BYTES) { /* a rare pile gives its memory back */
        w->out_base += w->sent;
        w->sent = 0;
        exj_buf_release(&w->out);
    }
    return EXJ_OK;
}

exj_code exj_wire_drain(exj_wire *w, exj_err *err)
{
    exj_code rc;

    while ((rc = exj_wire_flush(w, err)) == EXJ_BUSY) {
        struct pollfd p = { .fd = w->fd, .events = POLLOUT };

        /* the time-out is for ETOOMANYREFS, which POLLOUT does not know of */
        if (poll(&p, 1, 1000) > 0 && w->out_fds_n)
            poll(NULL, 0, 1);
    }
    return rc;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static exj_code receive_broken(exj_wire *w, exj_err *err)
{
    return exj_err_set(err, w->in_broken.code, "%s", w->in_broken.text);
}

#define BREAK(w, err, ...) \
    (exj_err_set(&(w)->in_broken, __VA_ARGS__), receive_broken((w), (err)))

/* Keep one descriptor of a read, close the others. False: there were more, or no place. */
static bool take_descriptors(exj_wire *w, struct msghdr *m)
{
    bool good = !(m->msg_flags & MSG_CTRUNC);
    size_t kept = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t k = 0; k < n; k++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + k * sizeof fd, sizeof fd);
            if (kept++ == 0 && w->in_fds_n < FDS_WAITING) {
                w->in_fds[w->in_fds_n++] = (struct fd_at){ .fd = fd };
            } else {
                close(fd);
                good = false;
            }
        }
    }
    return good;
}

/* One read. EXJ_BUSY: nothing there; EXJ_OK: more bytes, or in_eof. */
static exj_code fill(exj_wire *w, exj_err *err)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec iov;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes };
    size_t fds_before = w->in_fds_n;
    bool good;
    ssize_t n;

    if (w->in_at > 0) {
        w->in_n -= w->in_at;
        memmove(w->in, w->in + w->in_at, w->in_n);
        w->in_base += w->in_at;
        w->in_at = 0;
    }
    iov = (struct iovec){ w->in + w->in_n, IN_BYTES - w->in_n };
    do {
        m.msg_controllen = sizeof control.bytes;
        n = recvmsg(w->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return EXJ_BUSY;
    if (n < 0 && errno != ECONNRESET)
        return BREAK(w, err, EXJ_IO, "plugin host connection: receive: %s", strerror(errno));
    if (n <= 0) {
        w->in_eof = true;
        return EXJ_OK;
    }
    w->in_n += (size_t)n;
    good = take_descriptors(w, &m);
    for (size_t k = fds_before; k < w->in_fds_n; k++)
        w->in_fds[k].at = w->in_base + w->in_n;
    if (!good)
        return BREAK(w, err, EXJ_INVALID,
                     "plugin host connection: more descriptors than frames that need one");
    return EXJ_OK;
}

/* Map the payload of `bytes` that the descriptor at the front holds. */
static exj_code map_payload(exj_wire *w, size_t bytes, exj_frame *ret, exj_err *err)
{
    int fd = w->in_fds[0].fd, seals = fcntl(fd, F_GET_SEALS);
    struct statfs fs;
    struct stat st;
    void *map;

    if (seals < 0 || (seals & SEALS) != SEALS || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS)
        return BREAK(w, err, EXJ_INVALID, "plugin host connection: the payload of a frame is not "
                     "in a memfd that is sealed against shrinking, growing and writing");
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size != bytes)
        return BREAK(w, err, EXJ_INVALID, "plugin host connection: a frame of %zu bytes came with "
                     "a memfd of %lld", bytes, (long long)st.st_size);
    map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) /* the frame stays where it is: another try is allowed */
        return exj_err_set(err, EXJ_NOMEM, "plugin host connection: mapping a frame of %zu bytes: "
                           "%s", bytes, strerror(errno));
    close(fd);
    w->in_fds_n--;
    memmove(w->in_fds, w->in_fds + 1, w->in_fds_n * sizeof *w->in_fds);
    ret->body = (exj_slice){ map, bytes };
    ret->map = map;
    ret->map_bytes = bytes;
    return EXJ_OK;
}

static bool type_is_known(unsigned type)
{
    return (type >= EXJ_F_HELLO && type <= EXJ_F_CORE_LAST) ||
           (type >= EXJ_F_HOST_HELLO && type <= EXJ_F_HOST_LAST);
}

/* The frame at the front of the buffer. EXJ_BUSY: it is not all there. */
static exj_code parse(exj_wire *w, exj_frame *ret, exj_err *err)
{
    const char *head = w->in + w->in_at;
    size_t there = w->in_n - w->in_at, bytes, whole = EXJ_WIRE_HEAD;
    unsigned type, flags;
    exj_frame f = { 0 };
    exj_code rc;

    if (there < EXJ_WIRE_HEAD)
        return EXJ_BUSY;
    bytes = (size_t)get_le(head, 4);
    type = (unsigned char)head[4];
    flags = (unsigned char)head[5];
    if (!type_is_known(type))
        return BREAK(w, err, EXJ_INVALID, "plugin host connection: a frame of unknown type %u",
                     type);
    if ((flags & ~EXJ_WIRE_FD) || head[6] || head[7])
        return BREAK(w, err, EXJ_INVALID, "plugin host connection: a frame of type %u has unknown "
                     "flags 0x%02x", type, flags);
    if (bytes > w->max)
        return BREAK(w, err, EXJ_INVALID, "plugin host connection: a frame of type %u has %zu "
                     "bytes; at most %zu are accepted", type, bytes, w->max);
    f.type = (exj_frame_type)type;
    f.call = get_le(head + 8, 8);
    if (flags & EXJ_WIRE_FD) {
        if (w->in_fds_n == 0 || bytes == 0)
            return BREAK(w, err, EXJ_INVALID, "plugin host connection: a frame of type %u and %zu "
                         "bytes names a memfd %s", type, bytes,
                         bytes ? "and none came with it" : "for nothing");
        rc = map_payload(w, bytes, &f, err);
        if (rc)
            return rc;
    } else {
        if (bytes > EXJ_WIRE_INLINE)
            return BREAK(w, err, EXJ_INVALID, "plugin host connection: a frame of type %u has %zu "
                         "bytes and is not in a memfd; above %u it must be", type, bytes,
                         EXJ_WIRE_INLINE);
        if (there - EXJ_WIRE_HEAD < bytes)
            return EXJ_BUSY;
        f.body = (exj_slice){ head + EXJ_WIRE_HEAD, bytes };
        whole += bytes;
    }
    w->in_at += whole;
    if (w->in_fds_n && w->in_fds[0].at <= w->in_base + w->in_at) {
        exj_frame_release(&f);
        return BREAK(w, err, EXJ_INVALID, "plugin host connection: a descriptor came with a frame "
                     "of type %u that names none", type);
    }
    *ret = f;
    return EXJ_OK;
}

exj_code exj_wire_receive(exj_wire *w, exj_frame *ret, exj_err *err)
{
    exj_code rc;

    if (w->in_broken.code)
        return receive_broken(w, err);
    for (;;) {
        rc = parse(w, ret, err);
        if (rc != EXJ_BUSY)
            return rc;
        if (w->in_eof && w->in_n == w->in_at && w->in_fds_n == 0)
            return exj_err_set(err, EXJ_NOT_FOUND, "plugin host connection: closed by the peer");
        if (w->in_eof)
            return BREAK(w, err, EXJ_IO, "plugin host connection: closed within a frame");
        rc = fill(w, err);
        if (rc)
            return rc;
    }
}

void exj_frame_release(exj_frame *f)
{
    if (f->map)
        munmap(f->map, f->map_bytes);
    *f = (exj_frame){ 0 };
}
