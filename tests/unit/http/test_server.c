/* The two doors with raw sockets: what libmicrohttpd is kept from, and the client. */
#include "fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/http/server.h"
#include "tests/support/fault.h"

static exj_server *server;
static char socket_path[128];

static void doors_open(void)
{
    exj_server_options o = { .api = &f.api, .tcp = true, .bind = "127.0.0.1",
                             .body_max = 100000 };
    exj_err err = { 0 };

    fixture_open();
    snprintf(socket_path, sizeof socket_path, "%s/s", f.dir);
    o.unix_path = socket_path;
    cr_assert_eq(exj_server_start(&o, &server, &err), EXJ_OK, "%s", err.text);
}

static void doors_close(void)
{
    exj_server_stop(server);
    fixture_close();
}

TestSuite(server, .init = doors_open, .fini = doors_close);

static int dial(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(exj_server_port(server)) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void send_text(int fd, const char *text, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return; /* refused early: the answer is there to read */
        text += sent;
        n -= (size_t)sent;
    }
}

/* What comes until the other side closes, within `ms`. */
static char *read_all(int fd, int ms)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_nsec until = exj_clock_mono_ns() + (exj_nsec)ms * 1000000;

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        int left = (int)((until - exj_clock_mono_ns()) / 1000000);
        char part[4096];
        ssize_t n;

        cr_assert(left > 0 && poll(&p, 1, left) > 0, "no answer in %d ms; so far: %s", ms,
                  b.p ? b.p : "");
        n = recv(fd, part, sizeof part, 0);
        if (n <= 0)
            break;
        exj_buf_add(&b, part, (size_t)n);
    }
    close(fd);
    exj_buf_add(&b, "", 0);
    return b.p ? b.p : strdup("");
}

static char *ask(const char *text)
{
    int fd = dial();

    send_text(fd, text, strlen(text));
    return read_all(fd, 10000);
}

static void expect_answer(const char *request, const char *begins, const char *has)
{
    char *a = ask(request);

    cr_expect_eq(strncmp(a, begins, strlen(begins)), 0, "to %s: %s", request, a);
    cr_expect(strstr(a, has), "to %s: %s", request, a);
    free(a);
}

#define H "Host: localhost\r\n"

Test(server, answers_health_with_its_headers)
{
    char *a = ask("GET /v1/health HTTP/1.1\r\n" H "X-Request-Id: abc-1\r\n\r\n");

    cr_expect_eq(strncmp(a, "HTTP/1.1 200 ", 13), 0, "%s", a);
    cr_expect(strcasestr(a, "\r\nContent-Type: application/json; charset=utf-8\r\n"));
    cr_expect(strcasestr(a, "\r\nX-Content-Type-Options: nosniff\r\n"));
    cr_expect(strcasestr(a, "\r\nCache-Control: no-store\r\n"));
    cr_expect(strcasestr(a, "\r\nConnection: close\r\n"));
    cr_expect(strcasestr(a, "\r\nX-Request-Id: abc-1\r\n"));
    cr_expect(strstr(a, "\"ok\":true"));
    free(a);
}

Test(server, head_is_get_without_the_body)
{
    char *a = ask("HEAD /v1/health HTTP/1.1\r\n" H "\r\n");

    cr_expect_eq(strncmp(a, "HTTP/1.1 200 ", 13), 0, "%s", a);
    cr_expect(strcasestr(a, "\r\nContent-Length: "));
    cr_expect_eq(strcmp(strstr(a, "\r\n\r\n"), "\r\n\r\n"), 0, "%s", a);
    free(a);
}

Test(server, wrong_paths_and_methods_are_told_as_they_came)
{
    expect_answer("PATCH /v1/graphs/g1 HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 404 ",
                  "\"message\":\"Route PATCH:/v1/graphs/g1 not found\"");
    expect_answer("GET /v1/a%20b?c=d HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 404 ",
                  "Route GET:/v1/a%20b not found");
    expect_answer("POST /v1/health HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n",
                  "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n");
}

Test(server, takes_the_key_from_either_header)
{
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 401 ",
                  "\"message\":\"Unauthorized\"");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "X-Exellix-Jobs-Api-Key: no\r\n\r\n",
                  "HTTP/1.1 401 ", "Unauthorized");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "x-exellix-jobs-api-key: " KEY
                  "\r\n\r\n", "HTTP/1.1 503 ", "WorkerNotRunning");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "Authorization: bearer " KEY
                  "\r\n\r\n", "HTTP/1.1 503 ", "WorkerNotRunning");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "Authorization: Basic " KEY
                  "\r\n\r\n", "HTTP/1.1 401 ", "Unauthorized");
}

Test(server, takes_bodies_by_length_and_in_chunks)
{
    expect_answer("PATCH /v1/graphs/g1/operational HTTP/1.1\r\n" H "X-Exellix-Jobs-Api-Key: " KEY
                  "\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 400 ",
                  "\"message\":\"expectedVersion (number) is required\"");
    expect_answer("PATCH /v1/graphs/g1/operational HTTP/1.1\r\n" H "X-Exellix-Jobs-Api-Key: " KEY
                  "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
                  "HTTP/1.1 400 ", "expectedVersion (number) is required");
}

Test(server, refuses_ambiguous_requests_itself)
{
    expect_answer("POST /v1/health HTTP/1.1\r\n" H "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
                  "HTTP/1.1 400 ", "more than one Content-Length");
    expect_answer("POST /v1/health HTTP/1.1\r\n" H "Content-Length: 5\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 ",
                  "both Content-Length and Transfer-Encoding");
    expect_answer("GET /v1/health HTTP/1.1\n" H "\n", "HTTP/1.1 400 ", "bare line feed");
    expect_answer("GET /v1/health HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "Host");
}

Test(server, answers_one_request_a_connection)
{
    char *a = ask("GET /v1/health HTTP/1.1\r\n" H "\r\nGET /v1/health HTTP/1.1\r\n" H "\r\n");

    cr_expect_null(strstr(a + 1, "HTTP/1.1 200"), "%s", a);
    free(a);
}

Test(server, refuses_foreign_hosts_and_pages)
{
    expect_answer("GET /v1/graphs HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 421 ",
                  "HostNotAllowed");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "Origin: http://evil.example\r\n"
                  "X-Exellix-Jobs-Api-Key: " KEY "\r\n\r\n", "HTTP/1.1 403 ", "CrossSiteRefused");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "Sec-Fetch-Site: cross-site\r\n"
                  "X-Exellix-Jobs-Api-Key: " KEY "\r\n\r\n", "HTTP/1.1 403 ", "CrossSiteRefused");
    expect_answer("POST /v1/workers/pause HTTP/1.1\r\n" H "Origin: http://localhost\r\n"
                  "X-Exellix-Jobs-Api-Key: " KEY "\r\n\r\n", "HTTP/1.1 503 ", "WorkerNotRunning");
}

Test(server, bounds_bodies)
{
    char head[300], *a;
    exj_buf b = EXJ_BUF_INIT;
    int fd;

    expect_answer("PUT /v1/configs/graphs/g1 HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n",
                  "HTTP/1.1 413 ", "BodyTooLarge");
    /* in chunks nobody knows before */
    fd = dial();
    snprintf(head, sizeof head, "PUT /v1/configs/graphs/g1 HTTP/1.1\r\n" H
             "X-Exellix-Jobs-Api-Key: " KEY "\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n");
    exj_buf_add_text(&b, head);
    for (int i = 0; i < 0x30000; i++)
        exj_buf_add_char(&b, ' ');
    exj_buf_add_text(&b, "\r\n0\r\n\r\n");
    send_text(fd, b.p, b.n);
    a = read_all(fd, 10000);
    cr_expect_eq(strncmp(a, "HTTP/1.1 413 ", 13), 0, "%s", a);
    free(a);
    exj_buf_release(&b);
}

/* Each allocation of ours around a request fails once: whoever sent it is not to blame. */
Test(server, lack_of_memory_is_no_fault_of_the_request)
{
    static const char text[] =
        "PUT /v1/configs/graphs/g9 HTTP/1.1\r\n" H "X-Exellix-Jobs-Api-Key: " KEY "\r\n"
        "Content-Type: application/json\r\nContent-Length: 104\r\n\r\n"
        "{\"graphId\":\"g9\",\"payload\":{\"graphId\":\"g9\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}";
    bool tried = true;
    long n, refused = 0;

    exj_fault_spare(true);
    for (n = 1; tried && n < 10000; n++) {
        char *a;

        exj_fault_arm(n);
        a = ask(text);
        tried = exj_fault_disarm() >= n;
        cr_expect(!*a || !strncmp(a, "HTTP/1.1 2", 10) || !strncmp(a, "HTTP/1.1 5", 10),
                  "allocation %ld: %s", n, a);
        refused += !strncmp(a, "HTTP/1.1 5", 10);
        cr_expect(tried || !strncmp(a, "HTTP/1.1 200 ", 13), "%s", a);
        free(a);
    }
    cr_expect_gt(refused, 3);
}

Test(server, a_dribbling_client_holds_nobody_up)
{
    int slow[200];

    for (int i = 0; i < 200; i++) {
        slow[i] = dial();
        send_text(slow[i], "GET /v1", 7);
    }
    for (int i = 0; i < 20; i++)
        expect_answer("GET /v1/health HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 200 ", "\"ok\":true");
    for (int i = 0; i < 200; i++)
        close(slow[i]);
}

Test(server, a_head_that_does_not_end_is_cut_off)
{
    int fd = dial();
    char *a;

    send_text(fd, "GET /v1/health HTTP/1.1\r\n", 25);
    a = read_all(fd, 15000);
    cr_expect_eq(strncmp(a, "HTTP/1.1 408 ", 13), 0, "%s", a);
    free(a);
}

Test(server, a_head_in_pieces_is_read)
{
    static const char text[] = "GET /v1/health HTTP/1.1\r\n" H "\r\n";
    int fd = dial();
    char *a;

    for (size_t i = 0; i < sizeof text - 1; i++)
        send_text(fd, text + i, 1);
    a = read_all(fd, 10000);
    cr_expect_eq(strncmp(a, "HTTP/1.1 200 ", 13), 0, "%s", a);
    free(a);
}

/* ---- the Unix socket ------------------------------------------------------------------------- */

Test(server, the_unix_socket_is_the_operators_alone_and_trusted)
{
    exj_request q = { .method = "PUT", .path = EXJ_SLICE_LITERAL("/v1/configs/graphs/g1"),
                      .query = EXJ_SLICE_LITERAL("dryRun=false"),
                      .body = EXJ_SLICE_LITERAL(GRAPH_G1) };
    exj_response r = { 0 };
    exj_err err = { 0 };
    struct stat st;

    cr_assert_eq(stat(socket_path, &st), 0);
    cr_expect_eq(st.st_mode & 0777, 0600);
    f.api.api_key = NULL;
    cr_assert_eq(exj_client_call(socket_path, &q, 10000, &r, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(r.status, 201, "%.*s", (int)r.body.n, r.body.p);
    cr_expect(strstr(r.body.p, "\"action\":\"created\""));
    cr_expect_eq(strncmp(r.content_type, "application/json", 16), 0);
    exj_response_release(&r);
    q = (exj_request){ .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/metrics") };
    cr_assert_eq(exj_client_call(socket_path, &q, 10000, &r, &err), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(r.content_type, "text/plain; version=0.0.4");
    exj_response_release(&r);
}

Test(server, large_answers_come_whole)
{
    exj_request q = { .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/rows"),
                      .query = EXJ_SLICE_LITERAL("limit=1000") };
    exj_response r = { 0 };
    exj_err err = { 0 };
    json_t *o;

    insert_rows("", 1000);
    cr_assert_eq(exj_client_call(socket_path, &q, 20000, &r, &err), EXJ_OK, "%s", err.text);
    o = json_loadb(r.body.p, r.body.n, 0, NULL);
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 1000);
    json_decref(o);
    exj_response_release(&r);
}

Test(server, the_client_says_when_nobody_listens)
{
    exj_request q = { .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/health") };
    exj_response r = { 0 };
    exj_err err = { 0 };
    char path[200];

    snprintf(path, sizeof path, "%s/none", f.dir);
    cr_expect_eq(exj_client_call(path, &q, 1000, &r, &err), EXJ_NOT_FOUND);
    cr_expect(strstr(err.text, path));
}

/* A listener that takes the connection and says `text`, or nothing. */
static exj_code call_mute(const char *text, exj_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    exj_request q = { .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/health") };
    exj_response r = { 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    pid_t child;
    exj_code rc;

    snprintf(a.sun_path, sizeof a.sun_path, "%.64s/mute", f.dir);
    unlink(a.sun_path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(listen(fd, 1), 0);
    child = text ? fork() : 0;
    if (text && child == 0) {
        int one = accept(fd, NULL, NULL);
        char drop[1000];

        if (recv(one, drop, sizeof drop, 0) > 0)
            send_text(one, text, strlen(text));
        _exit(0);
    }
    rc = exj_client_call(a.sun_path, &q, 300, &r, err);
    close(fd);
    exj_response_release(&r);
    return rc;
}

Test(server, the_client_keeps_its_deadline_and_trusts_no_answer)
{
    static const struct {
        const char *text;
        exj_code rc;
    } t[] = {
        { NULL, EXJ_IO },
        { "", EXJ_IO },
        { "SSH-2.0-x\r\n\r\n", EXJ_INVALID },
        { "HTTP/1.1 2x0 OK\r\nContent-Length: 1\r\n\r\n", EXJ_INVALID },
        { "HTTP/1.1 200 OK\r\n\r\nbody", EXJ_INVALID },
        { "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", EXJ_IO },
        { "HTTP/1.1 200 OK\r\nContent-Length: 9x\r\n\r\n", EXJ_INVALID },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", EXJ_INVALID },
    };

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        exj_err err = { 0 };

        cr_expect_eq(call_mute(t[i].text, &err), t[i].rc, "%zu: %s", i, err.text);
    }
}

/* ---- opening and closing ------------------------------------------------------------------------ */

static exj_code open_another(exj_server_options o, exj_err *err)
{
    exj_server *s = NULL;
    exj_code rc;

    o.api = &f.api;
    rc = exj_server_start(&o, &s, err);
    if (rc == EXJ_OK)
        exj_server_stop(s);
    return rc;
}

Test(server, says_what_keeps_it_from_listening)
{
    exj_err err = { 0 };
    char path[200];
    FILE *file;

    cr_expect_eq(open_another((exj_server_options){ .tcp = true, .bind = "127.0.0.1",
                                                    .port = exj_server_port(server) }, &err),
                 EXJ_BUSY);
    cr_expect(strstr(err.text, "127.0.0.1"), "%s", err.text);
    exj_err_clear(&err);
    f.api.api_key = NULL;
    cr_expect_eq(open_another((exj_server_options){ .tcp = true, .bind = "0.0.0.0" }, &err),
                 EXJ_REFUSED);
    exj_err_clear(&err);
    cr_expect_eq(open_another((exj_server_options){ .tcp = true, .bind = "nonsense" }, &err),
                 EXJ_INVALID);
    exj_err_clear(&err);
    cr_expect_eq(open_another((exj_server_options){ .unix_path = socket_path }, &err), EXJ_BUSY);
    exj_err_clear(&err);
    snprintf(path, sizeof path, "%s/file", f.dir);
    file = fopen(path, "w");
    fclose(file);
    cr_expect_eq(open_another((exj_server_options){ .unix_path = path }, &err), EXJ_BUSY);
    cr_expect_eq(access(path, F_OK), 0); /* not ours to remove */
}

Test(server, replaces_a_stale_socket_and_takes_long_paths)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    exj_err err = { 0 };
    char path[400];
    size_t n;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.64s/stale", f.dir);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    cr_expect_eq(open_another((exj_server_options){ .unix_path = a.sun_path }, &err), EXJ_OK,
                 "%s", err.text);
    cr_expect_neq(access(a.sun_path, F_OK), 0); /* removed at the end */

    n = (size_t)snprintf(path, sizeof path, "%s/", f.dir);
    memset(path + n, 'd', 150);
    path[n + 150] = '\0';
    cr_assert_eq(mkdir(path, 0700), 0);
    strcat(path, "/socket");
    cr_expect_eq(open_another((exj_server_options){ .unix_path = path }, &err), EXJ_OK, "%s",
                 err.text);
}

Test(server, stopping_leaves_nothing_open)
{
    int half = dial();
    char *a;

    send_text(half, "GET /v1/he", 10);
    expect_answer("GET /v1/health HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 200 ", "\"ok\":true");
    exj_server_stop(server);
    a = read_all(half, 5000);
    free(a);
    cr_expect_neq(access(socket_path, F_OK), 0);
    server = NULL;
}
