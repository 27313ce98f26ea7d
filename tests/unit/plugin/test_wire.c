/* What core and plugin host say to each other: frames arrive as they were sent, however the
 * stream is cut, and nothing that breaks the rules is believed. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/plugin/wire.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct pair {
    exj_wire *a, *b; /* either may be NULL: then `raw` is that side */
    int raw;
};

static struct pair two_wires(void)
{
    struct pair p = { .raw = -1 };
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(exj_wire_new(fds[0], EXJ_WIRE_MAX, &p.a, NULL), EXJ_OK);
    cr_assert_eq(exj_wire_new(fds[1], EXJ_WIRE_MAX, &p.b, NULL), EXJ_OK);
    return p;
}

/* `b` receives what the test writes into `raw`. */
static struct pair raw_and_wire(size_t max)
{
    struct pair p = { 0 };
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    p.raw = fds[0];
    cr_assert_eq(exj_wire_new(fds[1], max, &p.b, NULL), EXJ_OK);
    return p;
}

static void done(struct pair *p)
{
    exj_wire_free(p->a);
    exj_wire_free(p->b);
    if (p->raw >= 0)
        close(p->raw);
}

static unsigned open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    cr_assert_not_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void head_of(char head[EXJ_WIRE_HEAD], uint32_t bytes, unsigned type, unsigned flags,
                    unsigned zero, uint64_t call)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, bytes);
    exj_wire_u32(&b, type | flags << 8 | zero << 16);
    exj_wire_u64(&b, call);
    cr_assert_eq(b.n, EXJ_WIRE_HEAD);
    memcpy(head, b.p, b.n);
    exj_buf_release(&b);
}

/* Bytes with descriptors, as a stranger would send them. */
static void send_raw(int socket, const void *bytes, size_t n, const int *fds, size_t fds_n)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } control = { .bytes = { 0 } };
    union {
        const void *in;
        void *out;
    } from = { .in = bytes };
    struct iovec iov = { from.out, n };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fds_n) {
        struct cmsghdr *c;

        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(fds_n * sizeof(int));
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds_n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fds_n * sizeof(int));
    }
    cr_assert_eq(sendmsg(socket, &m, MSG_NOSIGNAL), (ssize_t)n);
}

static int memfd(size_t bytes, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    cr_assert(fd >= 0);
    cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static exj_frame next(exj_wire *w)
{
    exj_frame f = { 0 };
    exj_err err = { 0 };
    exj_code rc;

    while ((rc = exj_wire_receive(w, &f, &err)) == EXJ_BUSY) {
        struct pollfd p = { .fd = exj_wire_fd(w), .events = POLLIN };

        cr_assert_eq(poll(&p, 1, 10000), 1, "nothing came");
    }
    cr_assert_eq(rc, EXJ_OK, "%s", err.text);
    return f;
}

static void refuses(struct pair *p, exj_code code, const char *says)
{
    exj_frame f = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_wire_receive(p->b, &f, &err), code, "%s", err.text);
    cr_assert_not_null(strstr(err.text, says), "'%s' does not say '%s'", err.text, says);
    exj_err_clear(&err); /* and for ever */
    cr_assert_eq(exj_wire_receive(p->b, &f, &err), code);
    cr_assert_not_null(strstr(err.text, says));
}

/* ---- fields --------------------------------------------------------------------------- */

Test(wire, fields_are_read_as_they_were_written)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_wire_reader r;
    double at;

    exj_wire_u32(&b, 0xfedcba98u);
    exj_wire_u64(&b, 0x0123456789abcdefu);
    exj_wire_f64(&b, -0.125);
    exj_wire_text(&b, EXJ_SLICE_LITERAL("a\0b"));
    exj_wire_text(&b, (exj_slice){ 0 });
    cr_assert_eq((unsigned char)b.p[0], 0x98, "little-endian");
    r = (exj_wire_reader){ .left = exj_buf_slice(&b) };
    cr_assert_eq(exj_wire_get_u32(&r), 0xfedcba98u);
    cr_assert_eq(exj_wire_get_u64(&r), 0x0123456789abcdefu);
    at = exj_wire_get_f64(&r);
    cr_assert(at >= -0.125 && at <= -0.125);
    cr_assert(exj_slice_equal(exj_wire_get_text(&r), EXJ_SLICE_LITERAL("a\0b")));
    cr_assert_not(exj_wire_done(&r), "one text is left");
    cr_assert_eq(exj_wire_get_text(&r).n, 0);
    cr_assert(exj_wire_done(&r));
    exj_buf_release(&b);
}

Test(wire, a_field_that_is_not_there_fails_and_stays_failed)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, 7);
    exj_wire_text(&b, EXJ_SLICE_LITERAL("xyz"));
    for (size_t n = 0; n < b.n; n++) {
        exj_wire_reader r = { .left = { b.p, n } };

        exj_wire_get_u32(&r);
        exj_wire_get_text(&r);
        cr_assert(r.failed, "cut at %zu", n);
        cr_assert_not(exj_wire_done(&r));
        r.left = exj_buf_slice(&b);
        cr_assert_eq(exj_wire_get_u32(&r), 0, "a failure is sticky");
    }
    exj_buf_release(&b);
}

Test(wire, a_text_longer_than_what_is_left_is_not_believed)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_wire_reader r;

    exj_wire_u32(&b, UINT32_MAX);
    exj_buf_add_text(&b, "abc");
    r = (exj_wire_reader){ .left = exj_buf_slice(&b) };
    cr_assert_eq(exj_wire_get_text(&r).n, 0);
    cr_assert(r.failed);
    exj_buf_release(&b);
}

/* ---- frames --------------------------------------------------------------------------- */

Test(wire, a_frame_arrives_with_type_call_and_body)
{
    struct pair p = two_wires();
    exj_frame f;

    cr_assert_eq(exj_wire_send(p.a, EXJ_F_RESULT, 42, EXJ_SLICE_LITERAL("hello"), NULL), EXJ_OK);
    f = next(p.b);
    cr_assert_eq(f.type, EXJ_F_RESULT);
    cr_assert_eq(f.call, 42);
    cr_assert(exj_slice_is(f.body, "hello"));
    cr_assert_null(f.map);
    exj_frame_release(&f);
    cr_assert_eq(exj_wire_receive(p.b, &f, NULL), EXJ_BUSY);
    done(&p);
}

Test(wire, an_empty_frame_is_a_frame)
{
    struct pair p = two_wires();
    exj_frame f;

    cr_assert_eq(exj_wire_send(p.a, EXJ_F_BYE, 0, (exj_slice){ 0 }, NULL), EXJ_OK);
    f = next(p.b);
    cr_assert_eq(f.type, EXJ_F_BYE);
    cr_assert_eq(f.body.n, 0);
    done(&p);
}

Test(wire, queued_frames_are_sent_by_one_flush_in_order)
{
    struct pair p = two_wires();
    exj_frame f;

    for (uint64_t k = 0; k < 100; k++)
        cr_assert_eq(exj_wire_queue(p.a, EXJ_F_CALL, k, EXJ_SLICE_LITERAL("body"), NULL), EXJ_OK);
    cr_assert_eq(exj_wire_receive(p.b, &f, NULL), EXJ_BUSY, "nothing was sent yet");
    cr_assert_eq(exj_wire_flush(p.a, NULL), EXJ_OK);
    for (uint64_t k = 0; k < 100; k++) {
        f = next(p.b);
        cr_assert_eq(f.call, k);
        cr_assert(exj_slice_is(f.body, "body"));
    }
    done(&p);
}

Test(wire, a_frame_cut_at_every_byte_is_whole_when_its_last_byte_came)
{
    static const char body[] = "0123456789abcdef0123";
    char whole[2 * (EXJ_WIRE_HEAD + sizeof body)];
    size_t half = EXJ_WIRE_HEAD + sizeof body - 1;

    for (size_t k = 0; k < 2; k++) {
        head_of(whole + k * half, sizeof body - 1, EXJ_F_EMIT, 0, 0, 100 + k);
        memcpy(whole + k * half + EXJ_WIRE_HEAD, body, sizeof body - 1);
    }
    for (size_t cut = 1; cut < 2 * half; cut++) {
        struct pair p = raw_and_wire(EXJ_WIRE_MAX);
        exj_frame f = { 0 };

        send_raw(p.raw, whole, cut, NULL, 0);
        if (cut < half) {
            cr_assert_eq(exj_wire_receive(p.b, &f, NULL), EXJ_BUSY, "cut at %zu", cut);
        } else {
            f = next(p.b);
            cr_assert_eq(f.call, 100);
            cr_assert_eq(exj_wire_receive(p.b, &f, NULL), EXJ_BUSY, "cut at %zu", cut);
        }
        send_raw(p.raw, whole + cut, 2 * half - cut, NULL, 0);
        for (uint64_t k = cut < half ? 0 : 1; k < 2; k++) {
            f = next(p.b);
            cr_assert_eq(f.call, 100 + k);
            cr_assert(exj_slice_is(f.body, body));
        }
        cr_assert_eq(exj_wire_receive(p.b, &f, NULL), EXJ_BUSY);
        done(&p);
    }
}

Test(wire, a_close_between_frames_is_an_end_and_within_one_an_error)
{
    char head[EXJ_WIRE_HEAD];

    head_of(head, 4, EXJ_F_EMIT, 0, 0, 1);
    for (size_t n = 0; n <= EXJ_WIRE_HEAD + 3; n++) {
        struct pair p = raw_and_wire(EXJ_WIRE_MAX);

        if (n)
            send_raw(p.raw, head, n < EXJ_WIRE_HEAD ? n : EXJ_WIRE_HEAD, NULL, 0);
        if (n > EXJ_WIRE_HEAD)
            send_raw(p.raw, "abc", n - EXJ_WIRE_HEAD, NULL, 0);
        close(p.raw);
        p.raw = -1;
        if (n == 0) {
            exj_frame f;
            exj_err err = { 0 };

            cr_assert_eq(exj_wire_receive(p.b, &f, &err), EXJ_NOT_FOUND, "%s", err.text);
        } else {
            refuses(&p, EXJ_IO, "within a frame");
        }
        done(&p);
    }
}

Test(wire, what_came_before_the_close_is_still_received)
{
    struct pair p = two_wires();
    exj_frame f;

    exj_wire_send(p.a, EXJ_F_RESULT, 1, EXJ_SLICE_LITERAL("x"), NULL);
    exj_wire_send(p.a, EXJ_F_RESULT, 2, EXJ_SLICE_LITERAL("y"), NULL);
    exj_wire_free(p.a);
    p.a = NULL;
    cr_assert_eq(next(p.b).call, 1);
    cr_assert_eq(next(p.b).call, 2);
    cr_assert_eq(exj_wire_receive(p.b, &f, NULL), EXJ_NOT_FOUND);
    done(&p);
}

/* ---- memfds ----------------------------------------------------------------------------- */

static char *pattern(size_t n, unsigned seed)
{
    char *p = malloc(n);

    cr_assert_not_null(p);
    for (size_t k = 0; k < n; k++)
        p[k] = (char)(k * 31 + seed + (k >> 8));
    return p;
}

Test(wire, large_and_small_payloads_arrive_in_order_and_no_descriptor_stays)
{
    static const size_t sizes[] = { 0,      1,      EXJ_WIRE_INLINE, EXJ_WIRE_INLINE + 1, 5,
                                    200000, 300000, 0,               EXJ_WIRE_INLINE,     100000 };
    unsigned before = open_fds();
    struct pair p = two_wires();

    for (unsigned round = 0; round < 30; round++) {
        for (unsigned k = 0; k < 10; k++) {
            char *body = pattern(sizes[k] + 1, k);

            cr_assert_eq(exj_wire_send(p.a, EXJ_F_CALL, k, (exj_slice){ body, sizes[k] }, NULL),
                         EXJ_OK);
            free(body);
        }
        for (unsigned k = 0; k < 10; k++) {
            char *body = pattern(sizes[k] + 1, k);
            exj_frame f = { 0 };
            exj_code rc;

            /* the sender's buffer may be full: both sides move */
            while ((rc = exj_wire_receive(p.b, &f, NULL)) == EXJ_BUSY)
                exj_wire_flush(p.a, NULL);
            cr_assert_eq(rc, EXJ_OK);
            cr_assert_eq(f.call, k);
            cr_assert(exj_slice_equal(f.body, (exj_slice){ body, sizes[k] }));
            cr_assert_eq(f.map != NULL, sizes[k] > EXJ_WIRE_INLINE);
            exj_frame_release(&f);
            free(body);
        }
    }
    done(&p);
    cr_assert_eq(open_fds(), before);
}

Test(wire, what_lies_in_a_memfd_cannot_be_changed_by_who_sent_it)
{
    struct pair p = two_wires();
    char *body = pattern(100000, 3);
    char control[CMSG_SPACE(sizeof(int))], head[64];
    struct iovec iov = { head, sizeof head };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                        .msg_controllen = sizeof control };
    int fd;

    exj_wire_send(p.a, EXJ_F_CALL, 1, (exj_slice){ body, 100000 }, NULL);
    cr_assert_eq(recvmsg(exj_wire_fd(p.b), &m, 0), EXJ_WIRE_HEAD, "the head alone");
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    cr_assert_eq(fcntl(fd, F_GET_SEALS) & SEALS, SEALS);
    cr_assert_lt(pwrite(fd, "x", 1, 0), 0);
    cr_assert_lt(ftruncate(fd, 0), 0);
    close(fd);
    free(body);
    done(&p);
}

Test(wire, a_descriptor_without_the_flag_is_refused)
{
    unsigned before = open_fds();
    struct pair p = raw_and_wire(EXJ_WIRE_MAX);
    char frame[EXJ_WIRE_HEAD + 3];
    int fd = memfd(100000, SEALS);

    head_of(frame, 3, EXJ_F_EMIT, 0, 0, 1);
    memcpy(frame + EXJ_WIRE_HEAD, "abc", 3);
    send_raw(p.raw, frame, sizeof frame, &fd, 1);
    refuses(&p, EXJ_INVALID, "names none");
    close(fd);
    done(&p);
    cr_assert_eq(open_fds(), before);
}

Test(wire, a_descriptor_is_not_lent_to_a_later_frame)
{
    struct pair p = raw_and_wire(EXJ_WIRE_MAX);
    char head[EXJ_WIRE_HEAD];
    int fd = memfd(100000, SEALS);

    head_of(head, 0, EXJ_F_PENDING, 0, 0, 1);
    send_raw(p.raw, head, sizeof head, &fd, 1);
    head_of(head, 100000, EXJ_F_EMIT, EXJ_WIRE_FD, 0, 1);
    send_raw(p.raw, head, sizeof head, NULL, 0);
    refuses(&p, EXJ_INVALID, "names none");
    close(fd);
    done(&p);
}

Test(wire, the_flag_without_a_descriptor_is_refused)
{
    struct pair p = raw_and_wire(EXJ_WIRE_MAX);
    char head[EXJ_WIRE_HEAD];

    head_of(head, 100000, EXJ_F_EMIT, EXJ_WIRE_FD, 0, 1);
    send_raw(p.raw, head, sizeof head, NULL, 0);
    refuses(&p, EXJ_INVALID, "none came with it");
    done(&p);
}

Test(wire, surplus_descriptors_are_closed_and_refused)
{
    for (size_t n = 2; n <= 16; n += 7) {
        unsigned before = open_fds();
        struct pair p = raw_and_wire(EXJ_WIRE_MAX);
        char head[EXJ_WIRE_HEAD];
        int fds[16];

        fds[0] = memfd(100000, SEALS);
        for (size_t k = 1; k < n; k++)
            fds[k] = fds[0];
        head_of(head, 100000, EXJ_F_EMIT, EXJ_WIRE_FD, 0, 1);
        send_raw(p.raw, head, sizeof head, fds, n);
        refuses(&p, EXJ_INVALID, "more descriptors");
        close(fds[0]);
        done(&p);
        cr_assert_eq(open_fds(), before, "%zu descriptors", n);
    }
}

Test(wire, a_descriptor_at_the_very_end_is_not_a_frame)
{
    struct pair p = raw_and_wire(EXJ_WIRE_MAX);
    int fd = memfd(100000, SEALS);

    send_raw(p.raw, "\x01", 1, &fd, 1);
    close(p.raw);
    p.raw = -1;
    refuses(&p, EXJ_IO, "within a frame");
    close(fd);
    done(&p);
}

static void refuses_memfd(int fd, uint32_t bytes, const char *says)
{
    struct pair p = raw_and_wire(EXJ_WIRE_MAX);
    char head[EXJ_WIRE_HEAD];

    head_of(head, bytes, EXJ_F_EMIT, EXJ_WIRE_FD, 0, 1);
    send_raw(p.raw, head, sizeof head, &fd, 1);
    refuses(&p, EXJ_INVALID, says);
    close(fd);
    done(&p);
}

Test(wire, a_memfd_without_each_of_its_seals_is_refused)
{
    refuses_memfd(memfd(100000, 0), 100000, "sealed");
    refuses_memfd(memfd(100000, F_SEAL_GROW | F_SEAL_WRITE), 100000, "sealed");
    refuses_memfd(memfd(100000, F_SEAL_SHRINK | F_SEAL_WRITE), 100000, "sealed");
    refuses_memfd(memfd(100000, F_SEAL_SHRINK | F_SEAL_GROW), 100000, "sealed");
}

Test(wire, another_kind_of_descriptor_is_refused)
{
    int fds[2];

    refuses_memfd(open("/dev/zero", O_RDONLY | O_CLOEXEC), 100000, "sealed");
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    refuses_memfd(fds[0], 100000, "sealed");
    close(fds[1]);
    refuses_memfd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 100000, "sealed");
}

Test(wire, a_lie_about_the_size_of_a_memfd_is_refused)
{
    refuses_memfd(memfd(100000, SEALS), 100001, "came with a memfd of 100000");
    refuses_memfd(memfd(100000, SEALS), 99999, "came with a memfd of 100000");
    refuses_memfd(memfd(0, SEALS), 4096, "came with a memfd of 0");
    refuses_memfd(memfd(4096, SEALS), 0, "for nothing");
}

/* ---- bounds ------------------------------------------------------------------------------ */

static void refuses_head(size_t max, uint32_t bytes, unsigned type, unsigned flags, unsigned zero,
                         const char *says)
{
    struct pair p = raw_and_wire(max);
    char head[EXJ_WIRE_HEAD];

    head_of(head, bytes, type, flags, zero, 1);
    send_raw(p.raw, head, sizeof head, NULL, 0);
    refuses(&p, EXJ_INVALID, says);
    done(&p);
}

Test(wire, heads_that_break_the_rules_are_refused_before_their_payload)
{
    refuses_head(EXJ_WIRE_MAX, 1, 0, 0, 0, "unknown type 0");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_CORE_LAST + 1, 0, 0, "unknown type");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_HOST_HELLO - 1, 0, 0, "unknown type 63");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_HOST_LAST + 1, 0, 0, "unknown type");
    refuses_head(EXJ_WIRE_MAX, 1, 255, 0, 0, "unknown type 255");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_EMIT, 2, 0, "unknown flags 0x02");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_EMIT, 0x80, 0, "unknown flags 0x80");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_EMIT, 0, 1, "unknown flags");
    refuses_head(EXJ_WIRE_MAX, 1, EXJ_F_EMIT, 0, 0x100, "unknown flags");
    refuses_head(EXJ_WIRE_MAX, EXJ_WIRE_INLINE + 1, EXJ_F_EMIT, 0, 0, "not in a memfd");
    refuses_head(EXJ_WIRE_MAX, EXJ_WIRE_MAX + 1, EXJ_F_EMIT, EXJ_WIRE_FD, 0, "at most");
    refuses_head(EXJ_WIRE_MAX, UINT32_MAX, EXJ_F_EMIT, 0, 0, "at most");
    refuses_head(1000, 1001, EXJ_F_EMIT, 0, 0, "at most 1000");
}

Test(wire, a_payload_of_exactly_the_bound_is_accepted)
{
    struct pair p = raw_and_wire(1000);
    char frame[EXJ_WIRE_HEAD + 1000] = { 0 };

    head_of(frame, 1000, EXJ_F_EMIT, 0, 0, 1);
    send_raw(p.raw, frame, sizeof frame, NULL, 0);
    cr_assert_eq(next(p.b).body.n, 1000);
    done(&p);
}

Test(wire, sending_is_bounded_by_frame_and_by_what_waits)
{
    struct pair p = two_wires();
    char *body = calloc(1, EXJ_WIRE_MAX + 1);
    exj_err err = { 0 };
    exj_code rc = EXJ_OK;
    unsigned n = 0;

    cr_assert_not_null(body);
    cr_assert_eq(exj_wire_send(p.a, EXJ_F_CALL, 1, (exj_slice){ body, EXJ_WIRE_MAX + 1 }, &err),
                 EXJ_FULL);
    cr_assert_not_null(strstr(err.text, "at most"), "%s", err.text);
    exj_err_clear(&err);
    while (!(rc = exj_wire_send(p.a, EXJ_F_CALL, n, (exj_slice){ body, EXJ_WIRE_INLINE }, &err)))
        cr_assert_lt(++n, 1100, "64 MiB may wait, no more");
    cr_assert_eq(rc, EXJ_FULL);
    cr_assert_not_null(strstr(err.text, "wait to be sent"), "%s", err.text);
    cr_assert_geq(n, 1000);
    cr_assert_eq(exj_wire_flush(p.a, NULL), EXJ_BUSY);
    for (unsigned k = 0; k < n;) { /* nothing of it is lost */
        exj_frame f;

        rc = exj_wire_receive(p.b, &f, NULL);
        if (rc == EXJ_BUSY)
            exj_wire_flush(p.a, NULL);
        else
            cr_assert_eq(rc, EXJ_OK);
        if (!rc) {
            cr_assert_eq(f.call, k);
            k++;
        }
    }
    cr_assert_eq(exj_wire_flush(p.a, NULL), EXJ_OK);
    free(body);
    done(&p);
}

Test(wire, sending_to_a_peer_that_is_gone_fails_and_stays_failed)
{
    struct pair p = two_wires();
    exj_err err = { 0 };

    exj_wire_free(p.b);
    p.b = NULL;
    cr_assert_eq(exj_wire_send(p.a, EXJ_F_CALL, 1, EXJ_SLICE_LITERAL("x"), &err), EXJ_IO);
    cr_assert_not_null(strstr(err.text, "send: "), "%s", err.text);
    cr_assert_eq(exj_wire_flush(p.a, NULL), EXJ_IO);
    cr_assert_eq(exj_wire_drain(p.a, NULL), EXJ_IO);
    cr_assert_eq(exj_wire_queue(p.a, EXJ_F_CALL, 1, EXJ_SLICE_LITERAL("x"), NULL), EXJ_IO);
    done(&p);
}

Test(wire, what_was_queued_and_never_sent_leaves_no_descriptor)
{
    unsigned before = open_fds();
    struct pair p = two_wires();
    char *body = pattern(100000, 1);

    for (unsigned k = 0; k < 20; k++)
        cr_assert_eq(exj_wire_queue(p.a, EXJ_F_CALL, k, (exj_slice){ body, 100000 }, NULL), EXJ_OK);
    cr_assert_gt(open_fds(), before + 20);
    free(body);
    done(&p);
    cr_assert_eq(open_fds(), before);
}
