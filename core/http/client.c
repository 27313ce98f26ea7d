/* The client of the Unix socket: one request, one answer, one deadline. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/http/exchange.h"
#include "core/http/server.h"
#include "core/http/unix_path.h"

#define ANSWER_MAX_BYTES (64u * 1024u * 1024u)
#define ANSWER_HEAD_MAX_BYTES 16384u

struct call {
    int fd;
    exj_nsec until;
    exj_err *err;
};

/* Milliseconds left, at least 1 while there is any; 0: time is over. */
static int time_left_ms(const struct call *c)
{
    exj_nsec left = c->until - exj_clock_mono_ns();

    if (left <= 0)
        return 0;
    return left > 2000000000LL * 1000 ? 2000000 : (int)((left + 999999) / 1000000);
}

static exj_code wait_for(const struct call *c, short events)
{
    struct pollfd p = { c->fd, events, 0 };

    for (;;) {
        int left = time_left_ms(c), n;

        if (left == 0)
            return exj_err_set(c->err, EXJ_IO, "the daemon did not answer in time");
        n = poll(&p, 1, left);
        if (n > 0)
            return EXJ_OK;
        if (n < 0 && errno != EINTR)
            return exj_err_set(c->err, EXJ_IO, "poll: %s", strerror(errno));
    }
}

static exj_code dial(struct call *c, const char *path)
{
    struct sockaddr_un address;
    int dir = -1, left = time_left_ms(c), failed;
    struct timeval tv = { left / 1000, (left % 1000) * 1000 };
    exj_code rc = exj_unix_address(path, &address, &dir, c->err);

    if (rc != EXJ_OK)
        return rc;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        rc = exj_err_set(c->err, EXJ_IO, "socket: %s", strerror(errno));
        goto out;
    }
    /* A full backlog makes connect wait, and this bounds the wait. */
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    do
        failed = connect(c->fd, (const struct sockaddr *)&address, sizeof address);
    while (failed && errno == EINTR);
    if (failed && (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR))
        rc = exj_err_set(c->err, EXJ_NOT_FOUND, "nobody listens at %s", path);
    else if (failed)
        rc = exj_err_set(c->err, EXJ_IO, "%s: %s", path, strerror(errno));
out:
    if (dir >= 0)
        close(dir);
    return rc;
}

/* The daemon may answer and close before it took everything: then reading tells more. */
static exj_code send_all(const struct call *c, exj_slice bytes)
{
    while (bytes.n) {
        ssize_t n = send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            bytes.p += n;
            bytes.n -= (size_t)n;
        } else if (errno == EAGAIN) {
            exj_code rc = wait_for(c, POLLOUT);

            if (rc != EXJ_OK)
                return rc;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return EXJ_OK;
        } else if (errno != EINTR) {
            return exj_err_set(c->err, EXJ_IO, "send: %s", strerror(errno));
        }
    }
    return EXJ_OK;
}

/* Until the daemon closes. */
static exj_code receive_all(const struct call *c, exj_buf *b)
{
    for (;;) {
        ssize_t n;
        exj_code rc = wait_for(c, POLLIN);

        if (rc != EXJ_OK)
            return rc;
        if (!exj_buf_reserve(b, 65536))
            return exj_err_set(c->err, EXJ_NOMEM, "out of memory");
        n = recv(c->fd, b->p + b->n, 65536, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return EXJ_OK; /* whether it is whole, the length tells */
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return exj_err_set(c->err, EXJ_IO, "recv: %s", strerror(errno));
        if (n > 0)
            b->n += (size_t)n;
        if (b->n > ANSWER_MAX_BYTES + ANSWER_HEAD_MAX_BYTES)
            return exj_err_set(c->err, EXJ_INVALID, "the answer is over %u bytes",
                               ANSWER_MAX_BYTES);
    }
}

/* ---- the answer --------------------------------------------------------------------------- */

static exj_slice field_value(exj_slice line, const char *name)
{
    size_t n = strlen(name);

    if (line.n <= n || line.p[n] != ':' || strncasecmp(line.p, name, n) != 0)
        return (exj_slice){ NULL, 0 };
    line.p += n + 1;
    line.n -= n + 1;
    while (line.n && *line.p == ' ')
        line.p++, line.n--;
    return line;
}

static exj_code not_http(const struct call *c, const char *what)
{
    return exj_err_set(c->err, EXJ_INVALID, "the answer is not HTTP as expected: %s", what);
}

static exj_code parse_answer(const struct call *c, exj_slice all, bool head_only,
                             exj_response *ret)
{
    const char *end = all.n ? memmem(all.p, all.n, "\r\n\r\n", 4) : NULL;
    exj_slice rest, body, value;
    bool has_length = false;
    size_t length = 0;

    if (all.n == 0)
        return exj_err_set(c->err, EXJ_IO, "the daemon closed without an answer");
    if (!end || (size_t)(end - all.p) > ANSWER_HEAD_MAX_BYTES)
        return not_http(c, "no end of the head");
    if (end - all.p < 12 || memcmp(all.p, "HTTP/1.", 7) != 0 || all.p[8] != ' ')
        return not_http(c, "status line");
    for (int i = 9; i < 12; i++) {
        if (all.p[i] < '0' || all.p[i] > '9')
            return not_http(c, "status");
        ret->status = ret->status * 10 + (unsigned)(all.p[i] - '0');
    }
    ret->content_type = "application/octet-stream";
    rest = (exj_slice){ all.p, (size_t)(end - all.p) + 2 };
    while (rest.n) {
        const char *eol = memmem(rest.p, rest.n, "\r\n", 2);
        exj_slice line = { rest.p, eol ? (size_t)(eol - rest.p) : rest.n };

        rest.p += line.n + 2;
        rest.n -= line.n + 2;
        value = field_value(line, "content-type");
        if (exj_slice_is(value, EXJ_TYPE_JSON))
            ret->content_type = EXJ_TYPE_JSON;
        else if (exj_slice_is(value, EXJ_TYPE_METRICS))
            ret->content_type = EXJ_TYPE_METRICS;
        if (field_value(line, "transfer-encoding").n)
            return not_http(c, "a transfer encoding");
        value = field_value(line, "content-length");
        for (size_t i = 0; i < value.n; i++) {
            if (value.p[i] < '0' || value.p[i] > '9' || length > ANSWER_MAX_BYTES)
                return not_http(c, "its length");
            length = length * 10 + (size_t)(value.p[i] - '0');
            has_length = true;
        }
    }
    body = (exj_slice){ end + 4, all.n - (size_t)(end + 4 - all.p) };
    if (!has_length)
        return not_http(c, "no length");
    if (head_only)
        return EXJ_OK;
    if (body.n < length)
        return exj_err_set(c->err, EXJ_IO, "the answer was cut off: %zu of %zu bytes", body.n,
                           length);
    body.n = length;
    if (!exj_buf_add_slice(&ret->body, body))
        return exj_err_set(c->err, EXJ_NOMEM, "out of memory");
    return EXJ_OK;
}

exj_code exj_client_call(const char *unix_path, const exj_request *q, unsigned timeout_ms,
                         exj_response *ret, exj_err *err)
{
    struct call c = { -1, exj_clock_mono_ns() + (exj_nsec)timeout_ms * 1000000, err };
    exj_buf out = EXJ_BUF_INIT, in = EXJ_BUF_INIT;
    exj_response answer = { 0 };
    exj_slice type = q->content_type;
    exj_code rc;

    if (!type.n)
        type = EXJ_SLICE_LITERAL("application/json");
    exj_buf_printf(&out, "%s ", q->method);
    exj_buf_add_slice(&out, q->path);
    if (q->query.n) {
        exj_buf_add_char(&out, '?');
        exj_buf_add_slice(&out, q->query);
    }
    exj_buf_add_text(&out, " HTTP/1.1\r\nHost: localhost\r\n");
    if (q->idempotency_key.p) {
        exj_buf_add_text(&out, "Idempotency-Key: ");
        exj_buf_add_slice(&out, q->idempotency_key);
        exj_buf_add_text(&out, "\r\n");
    }
    exj_buf_printf(&out, "Connection: close\r\n"
                         "Content-Type: %.*s\r\nContent-Length: %zu\r\n\r\n",
                   (int)type.n, type.p, q->body.n);
    exj_buf_add_slice(&out, q->body);
    if (out.failed) {
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        goto out;
    }
    rc = dial(&c, unix_path);
    if (rc == EXJ_OK)
        rc = send_all(&c, exj_buf_slice(&out));
    if (rc == EXJ_OK)
        rc = receive_all(&c, &in);
    if (rc == EXJ_OK)
        rc = parse_answer(&c, exj_buf_slice(&in), strcmp(q->method, "HEAD") == 0, &answer);
    if (rc == EXJ_OK) {
        *ret = answer;
        answer = (exj_response){ 0 };
    }
out:
    if (c.fd >= 0)
        close(c.fd);
    exj_response_release(&answer);
    exj_buf_release(&out);
    exj_buf_release(&in);
    return rc;
}
