#include <criterion/criterion.h>
#include <stdio.h>

#include "core/http/head.h"

#define H "Host: localhost\r\n"

struct sample {
    const char *bytes;
    unsigned status; /* 0: good; 1: more is awaited */
};

static unsigned verdict(exj_slice bytes, exj_head *h)
{
    switch (exj_head_judge(bytes, 1000, h)) {
    case EXJ_HEAD_MORE: return 1;
    case EXJ_HEAD_GOOD: return 0;
    default: return h->status;
    }
}

static const struct sample samples[] = {
    { "GET / HTTP/1.1\r\n" H "\r\n", 0 },
    { "GET /v1/rows?a=%20&b HTTP/1.1\r\n" H "Accept: */*\r\n\r\n", 0 },
    { "GET / HTTP/1.0\r\n\r\n", 0 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\nx", 0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 0 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\tCHUNKED \r\n\r\n", 0 },
    { "PUT / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n", 0 },
    { "", 1 },
    { "GET", 1 },
    { "GET / HTTP/1.1\r\n" H, 1 },
    { "GET / HTTP/1.1\r\n" H "\r", 1 },
    /* request line */
    { "GET  / HTTP/1.1\r\n" H "\r\n", 400 },
    { " GET / HTTP/1.1\r\n" H "\r\n", 400 },
    { "\r\nGET / HTTP/1.1\r\n" H "\r\n", 400 },
    { "GET / HTTP/1.1 \r\n" H "\r\n", 400 },
    { "GET /\r\n", 400 },
    { "GET / HTTP/2.0\r\n" H "\r\n", 505 },
    { "GET / http/1.1\r\n" H "\r\n", 400 },
    { "GET http://localhost/ HTTP/1.1\r\n" H "\r\n", 400 },
    { "OPTIONS * HTTP/1.1\r\n" H "\r\n", 400 },
    { "GET /a b HTTP/1.1\r\n" H "\r\n", 400 },
    { "GET /#x HTTP/1.1\r\n" H "\r\n", 400 },
    { "GET /\x7f HTTP/1.1\r\n" H "\r\n", 400 },
    { "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", 400 },
    { "G@T / HTTP/1.1\r\n" H "\r\n", 400 },
    { "\x16\x03\x01\x02\x00\x01", 400 }, /* TLS */
    /* line ends */
    { "GET / HTTP/1.1\n" H "\r\n", 400 },
    { "GET / HTTP/1.1\r\nHost: localhost\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H "\n", 400 },
    { "GET / HTTP/1.1\r" H "\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H "X: a\r\n folded\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H "X: a\r\n\tfolded\r\n\r\n", 400 },
    /* names */
    { "GET / HTTP/1.1\r\n" H "X : a\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H ": a\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H "no colon\r\n\r\n", 400 },
    /* Host */
    { "GET / HTTP/1.1\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400 },
    { "GET / HTTP/1.1\r\n" H H "\r\n", 400 },
    /* lengths */
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n", 413 },
    { "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
      400 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 400 },
    { "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400 },
    { "POST / HTTP/1.1\r\n" H "Expect: 200-maybe\r\n\r\n", 417 },
};

Test(head, judges_each_request_as_the_table_says)
{
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        exj_head h;
        unsigned got = verdict(exj_slice_of(samples[i].bytes), &h);

        cr_expect_eq(got, samples[i].status, "sample %zu %s: %u (%s)", i, samples[i].bytes,
                     got, h.text ? h.text : "");
    }
}

Test(head, asks_for_more_at_every_cut_of_a_good_one)
{
    const char good[] = "POST /v1/x?y=1 HTTP/1.1\r\n" H "Content-Length: 5\r\nA: b\r\n\r\n";
    exj_head h;

    for (size_t n = 0; n < sizeof good - 1; n++)
        cr_expect_eq(verdict((exj_slice){ good, n }, &h), 1, "cut at %zu", n);
    cr_expect_eq(verdict((exj_slice){ good, sizeof good - 1 }, &h), 0);
    cr_expect_eq(h.bytes, sizeof good - 1);
    cr_expect(exj_slice_is(h.method, "POST") && exj_slice_is(h.target, "/v1/x?y=1"));
    cr_expect(exj_slice_is(h.host, "localhost") && h.length == 5);
}

Test(head, refuses_a_zero_byte_and_what_is_too_much)
{
    char big[EXJ_HEAD_MAX_BYTES + 100];
    exj_head h;
    size_t n;

    cr_expect_eq(verdict(EXJ_SLICE_LITERAL("GET /\0 HTTP/1.1\r\n"), &h), 400);
    n = (size_t)snprintf(big, sizeof big, "GET / HTTP/1.1\r\n" H "X: ");
    memset(big + n, 'a', sizeof big - n);
    cr_expect_eq(verdict((exj_slice){ big, sizeof big }, &h), 431);
    n = (size_t)snprintf(big, sizeof big, "GET /");
    memset(big + n, 'a', sizeof big - n);
    memcpy(big + 9000, " HTTP/1.1\r\n", 11);
    cr_expect_eq(verdict((exj_slice){ big, 9011 }, &h), 414);
    n = (size_t)snprintf(big, sizeof big, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < 70; i++)
        n += (size_t)snprintf(big + n, sizeof big - n, "X-%d: y\r\n", i);
    cr_expect_eq(verdict((exj_slice){ big, n }, &h), 431);
}

Test(head, answers_only_hosts_that_are_ours)
{
    static const struct {
        const char *host, *bind;
        bool allowed;
    } t[] = {
        { "localhost", "127.0.0.1", true },      { "LOCALHOST:8080", "127.0.0.1", true },
        { "127.0.0.1:1", "127.0.0.1", true },    { "[::1]:8080", "127.0.0.1", true },
        { "evil.example", "127.0.0.1", false },  { "localhost.evil.example", "127.0.0.1", false },
        { "evil.example:8080", "0.0.0.0", false }, { "10.1.2.3:80", "10.1.2.3", true },
        { "10.1.2.4:80", "10.1.2.3", false },    { "10.1.2.4:80", "0.0.0.0", true },
        { "[fe80::1]", "::", true },             { "[fe80::1]:9", "fe80::1", true },
        { "box:80", "0.0.0.0", true },           { "box:80", "127.0.0.1", false },
        { "localhost:x", "127.0.0.1", false },   { "[::1", "127.0.0.1", false },
        { "[]", "0.0.0.0", false },              { "", "127.0.0.1", false },
        { ":80", "127.0.0.1", false },           { "a@localhost", "127.0.0.1", false },
    };

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        cr_expect_eq(exj_host_is_allowed(exj_slice_of(t[i].host), t[i].bind, "box"),
                     t[i].allowed, "%s at %s", t[i].host, t[i].bind);
}

Test(head, tells_pages_of_other_sites)
{
    exj_slice host = EXJ_SLICE_LITERAL("localhost:8080"), none = { NULL, 0 };

    cr_expect_not(exj_request_is_cross_site(none, none, host));
    cr_expect_not(exj_request_is_cross_site(EXJ_SLICE_LITERAL("http://localhost:8080"),
                                            EXJ_SLICE_LITERAL("same-origin"), host));
    cr_expect(exj_request_is_cross_site(EXJ_SLICE_LITERAL("http://evil.example"), none, host));
    cr_expect(exj_request_is_cross_site(EXJ_SLICE_LITERAL("http://localhost:8081"), none, host));
    cr_expect(exj_request_is_cross_site(EXJ_SLICE_LITERAL("null"), none, host));
    cr_expect(exj_request_is_cross_site(none, EXJ_SLICE_LITERAL("cross-site"), host));
    cr_expect(exj_request_is_cross_site(none, EXJ_SLICE_LITERAL("same-site"), host));
}
