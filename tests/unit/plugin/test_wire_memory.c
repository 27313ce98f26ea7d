/* The wire without memory: what fails says so, and what was queued before it arrives whole. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/plugin/wire.h"
#include "tests/support/fault.h"

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

Test(wire_memory, a_connection_without_memory_is_refused_and_the_socket_stays_the_callers)
{
    int fds[2];
    long n;

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    for (n = 1;; n++) {
        exj_wire *w = NULL;
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_wire_new(fds[0], EXJ_WIRE_MAX, &w, NULL);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK);
            exj_wire_free(w);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM);
        cr_assert_null(w);
        cr_assert_eq(write(fds[0], "x", 1), 1, "the socket was closed");
    }
    cr_assert_geq(n, 3, "two allocations were expected to be tried");
    close(fds[1]);
}

Test(wire_memory, frames_that_cannot_be_queued_leave_those_before_them_whole)
{
    static const size_t sizes[] = { 0, 10, EXJ_WIRE_INLINE, EXJ_WIRE_INLINE + 1, 200000 };
    char *body = calloc(1, 200000);
    unsigned failed = 0;

    cr_assert_not_null(body);
    for (long nth = 1; nth <= 24; nth++) {
        unsigned before = open_fds(), sent = 0, k = 0;
        exj_wire *a = NULL, *b = NULL;
        uint64_t calls[5];
        int fds[2];

        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        cr_assert_eq(exj_wire_new(fds[0], EXJ_WIRE_MAX, &a, NULL), EXJ_OK);
        cr_assert_eq(exj_wire_new(fds[1], EXJ_WIRE_MAX, &b, NULL), EXJ_OK);
        exj_fault_arm((nth + 1) / 2);
        for (uint64_t turn = 0; turn < 5; turn++) { /* small ones first, large ones first */
            uint64_t n = nth % 2 ? turn : 4 - turn;
            exj_code rc = exj_wire_queue(a, EXJ_F_CALL, n, (exj_slice){ body, sizes[n] }, NULL);

            cr_assert(rc == EXJ_OK || rc == EXJ_NOMEM);
            failed += rc == EXJ_NOMEM;
            if (!rc)
                calls[sent++] = n;
        }
        exj_fault_disarm();
        while (k < sent) {
            exj_frame f = { 0 };
            exj_code rc = exj_wire_receive(b, &f, NULL);

            if (rc == EXJ_BUSY) {
                exj_wire_flush(a, NULL);
                continue;
            }
            cr_assert_eq(rc, EXJ_OK);
            cr_assert_eq(f.call, calls[k]);
            cr_assert_eq(f.body.n, sizes[calls[k]]);
            exj_frame_release(&f);
            k++;
        }
        exj_wire_free(a);
        exj_wire_free(b);
        cr_assert_eq(open_fds(), before);
    }
    cr_assert_gt(failed, 1, "no allocation was made to fail");
    free(body);
}

Test(wire_memory, a_text_without_memory_marks_its_buffer)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_fault_arm(1);
    exj_wire_text(&b, EXJ_SLICE_LITERAL("abc"));
    exj_wire_u64(&b, 1);
    exj_fault_disarm();
    cr_assert(b.failed);
    exj_buf_release(&b);
}

/* No descriptor left: large payloads are refused for now, small ones go on. */
Test(wire_memory, a_large_payload_without_descriptors_is_refused_for_now)
{
    struct rlimit was, none;
    char *body = calloc(1, 100000);
    exj_wire *a = NULL, *b = NULL;
    exj_err err = { 0 };
    exj_frame f = { 0 };
    int fds[2];

    cr_assert_not_null(body);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(exj_wire_new(fds[0], EXJ_WIRE_MAX, &a, NULL), EXJ_OK);
    cr_assert_eq(exj_wire_new(fds[1], EXJ_WIRE_MAX, &b, NULL), EXJ_OK);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){ 3, was.rlim_max };
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    cr_assert_eq(exj_wire_send(a, EXJ_F_CALL, 1, (exj_slice){ body, 100000 }, &err), EXJ_FULL);
    cr_assert_not_null(strstr(err.text, "memfd"), "%s", err.text);
    cr_assert_eq(exj_wire_send(a, EXJ_F_CALL, 2, (exj_slice){ body, 100 }, NULL), EXJ_OK);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    cr_assert_eq(exj_wire_send(a, EXJ_F_CALL, 3, (exj_slice){ body, 100000 }, NULL), EXJ_OK);
    cr_assert_eq(exj_wire_receive(b, &f, NULL), EXJ_OK);
    cr_assert_eq(f.call, 2);
    cr_assert_eq(exj_wire_receive(b, &f, NULL), EXJ_OK);
    cr_assert_eq(f.call, 3);
    exj_frame_release(&f);
    exj_wire_free(a);
    exj_wire_free(b);
    free(body);
}
