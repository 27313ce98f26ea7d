#include "tests/support/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/inside.h"

#define HTTP_MS 30000

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

uint16_t exj_free_port(void)
{
    struct sockaddr_in a = loopback(0);
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        exj_support_die("free port");
    close(fd);
    return ntohs(a.sin_port);
}

static bool send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* Everything until the peer closes. NULL: nothing came. */
static char *receive(int fd, size_t *ret_n)
{
    size_t n = 0, cap = 65536;
    char *p = malloc(cap);
    int64_t end = exj_test_now_ms() + HTTP_MS;

    while (p) {
        struct pollfd w = { .fd = fd, .events = POLLIN };
        int64_t left = end - exj_test_now_ms();
        ssize_t got;

        if (left <= 0 || poll(&w, 1, (int)left) <= 0)
            break;
        got = recv(fd, p + n, cap - n - 1, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        if (n + 1 == cap) {
            char *more = realloc(p, cap *= 2);

            if (!more)
                exj_support_die("out of memory");
            p = more;
        }
    }
    if (p)
        p[n] = '\0';
    *ret_n = n;
    return p;
}

void exj_http(uint16_t port, const char *method, const char *path, const char *headers,
              const char *body, exj_reply *ret)
{
    struct sockaddr_in a = loopback(port);
    size_t body_n = body ? strlen(body) : 0, n = 0;
    char *all = NULL, *request = NULL, *end;
    int fd, len;

    *ret = (exj_reply){ 0 };
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        goto out;
    len = asprintf(&request,
                   "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n"
                   "%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   method, path, (unsigned)port, headers ? headers : "", body_n,
                   body ? body : "");
    if (len < 0)
        exj_support_die("out of memory");
    if (!send_all(fd, request, (size_t)len))
        goto out;
    all = receive(fd, &n);
    end = all ? strstr(all, "\r\n\r\n") : NULL;
    if (!end || strncmp(all, "HTTP/1.", 7) != 0)
        goto out;
    ret->status = atoi(all + 9);
    ret->head = strndup(all, (size_t)(end - all) + 2);
    ret->body_n = n - (size_t)(end + 4 - all);
    ret->body = malloc(ret->body_n + 1);
    if (!ret->head || !ret->body)
        exj_support_die("out of memory");
    memcpy(ret->body, end + 4, ret->body_n + 1);
out:
    if (fd >= 0)
        close(fd);
    free(request);
    free(all);
}

void exj_reply_release(exj_reply *r)
{
    free(r->head);
    free(r->body);
    *r = (exj_reply){ 0 };
}

const char *exj_reply_header(const exj_reply *r, const char *name)
{
    static char ring[4][512];
    static unsigned at;
    size_t n = strlen(name);

    for (const char *line = r->head; line && *line;) {
        const char *end = strstr(line, "\r\n");

        if (!end)
            return NULL;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            char *p = ring[at++ % 4];

            line += n + 1;
            line += strspn(line, " ");
            snprintf(p, sizeof(ring[0]), "%.*s", (int)(end - line), line);
            return p;
        }
        line = end + 2;
    }
    return NULL;
}

json_t *exj_reply_json(const exj_reply *r)
{
    return r->body ? json_loadb(r->body, r->body_n, JSON_DECODE_ANY, NULL) : NULL;
}
