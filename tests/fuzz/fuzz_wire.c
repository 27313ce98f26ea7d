/* The reader of frames and the reader of fields, on whatever a plugin host might send. The
 * input is cut into two writes at the place its first byte names; its second byte says
 * whether a memfd comes with the first of them, and whether that is sealed. Nothing may be
 * read outside a frame, frames may not be larger than was allowed, no descriptor may stay. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/plugin/wire.h"

#define MAX_BYTES 300000u
#define MEMFD_BYTES 100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fields in an order that the frame's own bytes choose. */
static void read_fields(exj_slice body)
{
    char *copy = malloc(body.n ? body.n : 1); /* of exact length: one byte too far is seen */
    exj_wire_reader r = { .left = { copy, body.n } };
    volatile unsigned char sink = 0;

    if (!copy)
        return;
    if (body.n)
        memcpy(copy, body.p, body.n);
    for (unsigned n = 0; n < 64 && !r.failed && r.left.n; n++) {
        unsigned char what = (unsigned char)r.left.p[0];
        exj_slice text;

        switch (what % 4) {
        case 0:
            exj_wire_get_u32(&r);
            break;
        case 1:
            exj_wire_get_u64(&r);
            break;
        case 2:
            exj_wire_get_f64(&r);
            break;
        default:
            text = exj_wire_get_text(&r);
            for (size_t k = 0; k < text.n; k++)
                sink = (unsigned char)(sink + (unsigned char)text.p[k]);
        }
    }
    if (r.failed && exj_wire_done(&r))
        abort();
    free(copy);
}

static void send_part(int socket, const uint8_t *p, size_t n, int fd)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    char *copy = malloc(n ? n : 1);
    struct iovec iov = { copy, n };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (copy && n) {
        memcpy(copy, p, n);
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
        if (sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            abort(); /* inputs are smaller than a socket's buffer */
    }
    free(copy);
}

static exj_code receive_all(exj_wire *w)
{
    exj_frame f;
    exj_code rc;

    while (!(rc = exj_wire_receive(w, &f, NULL))) {
        if (f.body.n > MAX_BYTES || (!f.map && f.body.n > EXJ_WIRE_INLINE))
            abort();
        read_fields(f.body);
        exj_frame_release(&f);
    }
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2], fd = -1, first_free = dup(0);
    exj_wire *w = NULL;
    exj_code rc;
    size_t cut;

    close(first_free);
    if (size < 2 || size > 60000 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return 0;
    if (exj_wire_new(fds[1], MAX_BYTES, &w, NULL) != EXJ_OK)
        abort();
    if (data[1] & 1) {
        fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, MEMFD_BYTES) < 0)
            abort();
        if (data[1] & 2)
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    }
    cut = data[0] < size - 2 ? data[0] : size - 2;
    send_part(fds[0], data + 2, cut, data[1] & 4 ? fd : -1);
    rc = receive_all(w);
    if (rc == EXJ_BUSY) {
        send_part(fds[0], data + 2 + cut, size - 2 - cut, data[1] & 4 ? -1 : fd);
        rc = receive_all(w);
    }
    if (rc == EXJ_BUSY) {
        close(fds[0]);
        fds[0] = -1;
        rc = receive_all(w);
        if (rc != EXJ_NOT_FOUND && rc != EXJ_IO && rc != EXJ_INVALID)
            abort();
    }
    if (receive_all(w) != rc)
        abort(); /* what broke stays broken */
    exj_wire_free(w);
    if (fds[0] >= 0)
        close(fds[0]);
    if (fd >= 0)
        close(fd);
    fd = dup(0);
    if (fd != first_free)
        abort(); /* a descriptor stayed */
    close(fd);
    return 0;
}
