/* The event stream over HTTP: pages, Server-Sent Events, and going on where a reader was. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/support.h"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(events, .init = setup, .fini = teardown, .timeout = 60);

struct stream {
    int fd;
    size_t n;
    char text[262144];
};

static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct stream *stream_open(const char *path, const char *last_id)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(d.port) };
    struct stream *s = calloc(1, sizeof(*s));
    char head[512];
    int n;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    n = snprintf(head, sizeof(head),
                 "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s%s%s\r\n",
                 path, last_id ? "Last-Event-ID: " : "", last_id ? last_id : "",
                 last_id ? "\r\n" : "");
    cr_assert_eq(write(s->fd, head, (size_t)n), n);
    return s;
}

/* Read until `text` has come. False: the stream ended, or 20 s. */
static bool stream_until(struct stream *s, const char *text)
{
    long end = now_ms() + 20000;

    while (!strstr(s->text, text)) {
        struct pollfd p = { .fd = s->fd, .events = POLLIN };
        ssize_t got;

        if (now_ms() > end || s->n + 1 >= sizeof(s->text))
            return false;
        if (poll(&p, 1, 100) <= 0)
            continue;
        got = read(s->fd, s->text + s->n, sizeof(s->text) - 1 - s->n);
        if (got <= 0)
            return false;
        s->n += (size_t)got;
        s->text[s->n] = '\0';
    }
    return true;
}

static void stream_close(struct stream *s)
{
    close(s->fd);
    free(s);
}

static size_t times(const char *text, const char *part)
{
    size_t n = 0;

    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

/* The number of the last event in the text. */
static long last_id(const char *text)
{
    long id = -1;

    for (const char *at = text; (at = strstr(at, "\nid: ")); at += 5)
        id = strtol(at + 5, NULL, 10);
    return id;
}

/* spec 2.7: The same stream feeds Server-Sent Events at `GET /events` with `Last-Event-ID` resumption. */
/* spec 2.10: The event stream contains every state change once or more, in order per row, none missing. */
Test(events, a_stream_has_every_change_and_goes_on_after_the_last_one_seen)
{
    struct stream *s = stream_open("/v1/events", NULL), *again;
    char id[32];

    cr_assert(stream_until(s, ": exellix-jobs"));
    cr_expect(strstr(s->text, "Content-Type: text/event-stream"));
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":20}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 20, 20000));
    exj_daemon_matrix(&d, "end", "[\"g\"]", "record", "{\"count\":1,\"prefix\":\"last\"}", "");
    cr_assert(stream_until(s, "end||g|last-0000000\",\"matrixCatalogId\":\"end\",\"matrixRunId\":null,"
                              "\"graphId\":\"g\",\"status\":\"completed\""));
    cr_expect_eq(times(s->text, "event: queued\n"), 21);
    cr_expect_eq(times(s->text, "event: claimed\n"), 21);
    cr_expect_eq(times(s->text, "event: completed\n"), 21);

    snprintf(id, sizeof(id), "%ld", last_id(s->text) - 2);
    again = stream_open("/v1/events", id);
    cr_assert(stream_until(again, "event: completed\n"));
    cr_expect_eq(times(again->text, "\nid: "), 2, "%s", again->text);
    stream_close(again);
    stream_close(s);
}

Test(events, a_row_streams_its_history_and_what_comes)
{
    struct stream *s;
    const char *gate = exj_tmp_path(&d.tmp, "gate");
    char input[512];

    snprintf(input, sizeof(input), "{\"count\":1,\"record\":{\"gate\":\"%s\",\"steps\":1}}", gate);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", input, "");
    exj_daemon_matrix(&d, "other", "[\"g\"]", "record", "{\"count\":3}", "");
    cr_assert(exj_daemon_wait_done(&d, "other", 3, 10000));
    s = stream_open("/v1/rows/m%7C%7Cg%7Cr-0000000/events", NULL);
    cr_assert(stream_until(s, "event: step\n"), "%s", s->text);
    cr_expect(strstr(s->text, "event: queued\n") && strstr(s->text, "event: step_begun\n"));
    exj_spit(gate, "");
    cr_assert(stream_until(s, "event: completed\n"));
    cr_expect_null(strstr(s->text, "other"));
    stream_close(s);
}

Test(events, a_last_event_of_the_future_or_none_at_all_is_refused)
{
    static const char *const bad[][2] = { { "99999", "has not happened" },
                                          { "12x", "the number of an event is wanted" } };

    for (size_t i = 0; i < 2; i++) {
        struct stream *s = stream_open("/v1/events", bad[i][0]);

        cr_expect(stream_until(s, bad[i][1]), "%s", s->text);
        cr_expect(strstr(s->text, "HTTP/1.1 400"));
        stream_close(s);
    }
}

Test(events, a_page_says_where_the_next_one_begins)
{
    json_t *page = NULL;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":5}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 5, 10000));
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/events?limit=4", NULL, &page), 200);
    cr_expect_eq(json_array_size(json_object_get(page, "events")), 4);
    cr_expect_eq(json_integer_value(json_object_get(page, "next")), 4);
    cr_expect_eq(json_integer_value(json_object_get(page, "last")), 15);
    json_decref(page);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/events?after=12", NULL, &page), 200);
    cr_expect_eq(json_array_size(json_object_get(page, "events")), 3);
    cr_expect(json_is_null(json_object_get(page, "next")));
    json_decref(page);
}

/* From where the reader was on, page by page, until there is no next one. */
Test(events, the_pages_of_a_row_leave_nothing_out)
{
    long long after = 0, seen = 0, pages = 0, number;
    char path[200];
    json_t *page = NULL, *e, *next;
    size_t i;

    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":3,\"record\":{\"steps\":5}}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 3, 10000));
    do {
        snprintf(path, sizeof(path), "/v1/rows/m%%7C%%7Cg%%7Cr-0000001/events?after=%lld&limit=4",
                 after);
        cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &page), 200);
        json_array_foreach(json_object_get(page, "events"), i, e) {
            number = json_integer_value(json_object_get(e, "number"));
            cr_expect_gt(number, after);
            after = number;
            seen++;
        }
        next = json_object_get(page, "next");
        cr_expect(json_is_null(next) || json_integer_value(next) == after);
        pages = json_is_null(next) ? -pages - 1 : pages + 1;
        json_decref(page);
    } while (pages > 0 && pages < 20);
    cr_expect_eq(seen, 13); /* queued, claimed, five steps begun and finished, completed */
    cr_expect_eq(pages, -4);
}

Test(events, the_end_of_the_daemon_ends_its_streams)
{
    struct stream *s = stream_open("/v1/events", NULL);

    cr_assert(stream_until(s, ": exellix-jobs"));
    cr_assert_eq(exj_daemon_stop(&d, 10000), 0);
    cr_expect_not(stream_until(s, "never"));
    stream_close(s);
}
