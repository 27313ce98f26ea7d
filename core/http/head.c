#include "core/http/head.h"

#include <arpa/inet.h>
#include <strings.h>

static exj_head_state refuse(exj_head *h, unsigned status, const char *code, const char *text)
{
    h->status = status;
    h->code = code;
    h->text = text;
    return EXJ_HEAD_REFUSED;
}

static exj_head_state bad(exj_head *h, const char *text)
{
    return refuse(h, 400, "BadRequest", text);
}

static bool is_token_char(char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c && strchr("!#$%&'*+-.^_`|~", c);
}

static bool slice_is_nocase(exj_slice s, const char *word)
{
    return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* The line at *at without its CRLF; *at moves behind it. MORE: its end is not there yet. */
static exj_head_state take_line(exj_slice bytes, size_t *at, exj_slice *ret, exj_head *h)
{
    const char *start = bytes.p + *at, *end = bytes.p + bytes.n;

    for (const char *p = start; p < end; p++) {
        unsigned char c = (unsigned char)*p;

        if (c == '\r') {
            if (p + 1 == end)
                return EXJ_HEAD_MORE;
            if (p[1] != '\n')
                return bad(h, "bare carriage return in the request head");
            *ret = (exj_slice){ start, (size_t)(p - start) };
            *at += ret->n + 2;
            return EXJ_HEAD_GOOD;
        }
        if (c == '\n')
            return bad(h, "bare line feed in the request head");
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return bad(h, "control byte in the request head");
    }
    return EXJ_HEAD_MORE;
}

static exj_head_state judge_request_line(exj_slice line, exj_head *h, bool *ret_is_11)
{
    size_t i = 0, start;
    exj_slice version;

    while (i < line.n && is_token_char(line.p[i]))
        i++;
    h->method = (exj_slice){ line.p, i };
    if (i == 0 || i > 32 || i == line.n || line.p[i] != ' ')
        return bad(h, "malformed request line");
    start = ++i;
    while (i < line.n && line.p[i] > ' ' && line.p[i] < 0x7f)
        i++;
    h->target = (exj_slice){ line.p + start, i - start };
    if (h->target.n > EXJ_TARGET_MAX_BYTES)
        return refuse(h, 414, "TargetTooLong", "the request target is too long");
    if (i == line.n || line.p[i] != ' ')
        return bad(h, "malformed request line");
    if (h->target.n == 0 || h->target.p[0] != '/')
        return bad(h, "the request target must begin with /");
    if (memchr(h->target.p, '#', h->target.n))
        return bad(h, "the request target must not have a fragment");
    version = (exj_slice){ line.p + i + 1, line.n - i - 1 };
    *ret_is_11 = exj_slice_is(version, "HTTP/1.1");
    if (!*ret_is_11 && !exj_slice_is(version, "HTTP/1.0")) {
        if (version.n == 8 && memcmp(version.p, "HTTP/", 5) == 0)
            return refuse(h, 505, "VersionNotSupported", "only HTTP/1.1 and HTTP/1.0");
        return bad(h, "malformed request line");
    }
    return EXJ_HEAD_GOOD;
}

static exj_head_state judge_length(exj_slice value, exj_head *h)
{
    if (h->has_length)
        return bad(h, "more than one Content-Length");
    if (value.n == 0 || value.n > 18)
        return bad(h, "Content-Length is not a length");
    h->has_length = true;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return bad(h, "Content-Length is not a length");
        h->length = h->length * 10 + (uint64_t)(value.p[i] - '0');
    }
    return EXJ_HEAD_GOOD;
}

static exj_head_state judge_field(exj_slice line, exj_head *h)
{
    size_t i = 0;
    exj_slice name, value;

    if (line.p[0] == ' ' || line.p[0] == '\t')
        return bad(h, "folded header line");
    while (i < line.n && is_token_char(line.p[i]))
        i++;
    if (i == 0 || i == line.n || line.p[i] != ':')
        return bad(h, "malformed header name");
    name = (exj_slice){ line.p, i };
    value = (exj_slice){ line.p + i + 1, line.n - i - 1 };
    while (value.n && (value.p[0] == ' ' || value.p[0] == '\t'))
        value.p++, value.n--;
    while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;

    if (slice_is_nocase(name, "content-length"))
        return judge_length(value, h);
    if (slice_is_nocase(name, "transfer-encoding")) {
        if (h->chunked)
            return bad(h, "more than one Transfer-Encoding");
        if (!slice_is_nocase(value, "chunked"))
            return bad(h, "only chunked is taken as Transfer-Encoding");
        h->chunked = true;
    } else if (slice_is_nocase(name, "host")) {
        if (h->host.p)
            return bad(h, "more than one Host");
        h->host = value;
    } else if (slice_is_nocase(name, "expect") && !slice_is_nocase(value, "100-continue")) {
        return refuse(h, 417, "ExpectationFailed", "only 100-continue can be expected");
    }
    return EXJ_HEAD_GOOD;
}

/* What only the whole head can tell. */
static exj_head_state judge_whole(exj_head *h, bool is_11, size_t body_max)
{
    if (is_11 && h->host.n == 0)
        return bad(h, "a Host header is required");
    if (h->chunked && h->has_length)
        return bad(h, "both Content-Length and Transfer-Encoding");
    if (h->chunked && !is_11)
        return bad(h, "Transfer-Encoding in HTTP/1.0");
    if (h->length > body_max)
        return refuse(h, 413, "BodyTooLarge", "the body is too large");
    return EXJ_HEAD_GOOD;
}

static exj_head_state judge(exj_slice bytes, size_t body_max, exj_head *h)
{
    size_t at = 0, fields = 0;
    bool is_11 = false;
    exj_slice line;
    exj_head_state s = take_line(bytes, &at, &line, h);

    if (s != EXJ_HEAD_GOOD)
        return s;
    s = judge_request_line(line, h, &is_11);
    while (s == EXJ_HEAD_GOOD) {
        s = take_line(bytes, &at, &line, h);
        if (s != EXJ_HEAD_GOOD)
            return s;
        if (line.n == 0)
            break;
        if (++fields > EXJ_HEAD_MAX_FIELDS)
            return refuse(h, 431, "TooManyFields", "too many header fields");
        s = judge_field(line, h);
    }
    if (s == EXJ_HEAD_GOOD)
        s = judge_whole(h, is_11, body_max);
    h->bytes = at;
    return s;
}

exj_head_state exj_head_judge(exj_slice bytes, size_t body_max, exj_head *ret)
{
    exj_head_state s;

    *ret = (exj_head){ 0 };
    if (bytes.n > EXJ_HEAD_MAX_BYTES)
        bytes.n = EXJ_HEAD_MAX_BYTES;
    s = judge(bytes, body_max, ret);
    if (s == EXJ_HEAD_MORE && bytes.n == EXJ_HEAD_MAX_BYTES)
        s = refuse(ret, 431, "HeadTooLarge", "the request head is too large");
    return s;
}

/* ---- where it comes from ------------------------------------------------------------------ */

/* Host without its port; brackets stay. False: not a host. */
static bool host_name(exj_slice host, exj_slice *ret)
{
    size_t end = 0, i;

    if (host.n && host.p[0] == '[') {
        const char *close = memchr(host.p, ']', host.n);

        if (!close)
            return false;
        end = (size_t)(close - host.p) + 1;
    } else {
        while (end < host.n && host.p[end] != ':')
            end++;
    }
    if (end == 0 || (end < host.n && host.p[end] != ':'))
        return false;
    for (i = end + 1; i < host.n; i++) {
        if (host.p[i] < '0' || host.p[i] > '9')
            return false;
    }
    *ret = (exj_slice){ host.p, end };
    return true;
}

static bool is_address_literal(exj_slice name)
{
    unsigned char address[16];
    char text[64];

    if (name.n >= sizeof text)
        return false;
    if (name.p[0] == '[') {
        memcpy(text, name.p + 1, name.n - 2);
        text[name.n - 2] = '\0';
        return inet_pton(AF_INET6, text, address) == 1;
    }
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    return inet_pton(AF_INET, text, address) == 1;
}

bool exj_host_is_allowed(exj_slice host, const char *bind, const char *machine)
{
    exj_slice name;

    if (!host_name(host, &name))
        return false;
    if (slice_is_nocase(name, "localhost") || exj_slice_is(name, "127.0.0.1") ||
        exj_slice_is(name, "[::1]") || slice_is_nocase(name, bind))
        return true;
    if (name.p[0] == '[' && strchr(bind, ':') && name.n == strlen(bind) + 2 &&
        strncasecmp(name.p + 1, bind, name.n - 2) == 0)
        return true;
    if (strcmp(bind, "0.0.0.0") != 0 && strcmp(bind, "::") != 0)
        return false;
    return is_address_literal(name) || (machine && slice_is_nocase(name, machine));
}

bool exj_request_is_cross_site(exj_slice origin, exj_slice sec_fetch_site, exj_slice host)
{
    if (sec_fetch_site.n && !exj_slice_is(sec_fetch_site, "same-origin") &&
        !exj_slice_is(sec_fetch_site, "none"))
        return true;
    if (origin.n == 0)
        return false;
    if (origin.n > 7 && memcmp(origin.p, "http://", 7) == 0)
        origin.p += 7, origin.n -= 7;
    else if (origin.n > 8 && memcmp(origin.p, "https://", 8) == 0)
        origin.p += 8, origin.n -= 8;
    else
        return true;
    return !(origin.n == host.n && strncasecmp(origin.p, host.p, host.n) == 0);
}
