/* Heads of HTTP requests against a small strict reader of the whole head: both say the same, and
 * the verdict does not depend on how the bytes come: a part of the head is MORE, or what the whole
 * will be. */
#include <stdlib.h>
#include <strings.h>

#include "core/http/head.h"

#define BODY_MAX 100000u
#define TOKEN "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* ---- the reference ---------------------------------------------------------------------- */

struct whole {
    size_t bytes;
    char method[EXJ_HEAD_MAX_BYTES], target[EXJ_HEAD_MAX_BYTES], host[EXJ_HEAD_MAX_BYTES];
    unsigned fields, lengths, hosts, codings;
    unsigned long long length;
    bool is_11;
};

/* One line without its end into `ret`; -1: none yet, 0: never will be, 1: here it is. */
static int line_at(const char *p, size_t n, size_t from, char *ret)
{
    size_t i = from;

    while (i < n && ((unsigned char)p[i] >= ' ' || p[i] == '\t') && p[i] != 0x7f)
        i++;
    if (i == n || (p[i] == '\r' && i + 1 == n))
        return -1;
    if (p[i] != '\r' || p[i + 1] != '\n')
        return 0;
    memcpy(ret, p + from, i - from);
    ret[i - from] = '\0';
    return 1;
}

static bool request_line(struct whole *w, const char *line)
{
    size_t method = strspn(line, TOKEN), target = 0;
    const char *at = line + method;

    if (method < 1 || method > 32 || *at != ' ' || at[1] != '/')
        return false;
    at++;
    while (at[target] > ' ' && at[target] != 0x7f && at[target] != '#')
        target++;
    if (target > EXJ_TARGET_MAX_BYTES)
        return false;
    w->is_11 = strcmp(at + target, " HTTP/1.1") == 0;
    if (!w->is_11 && strcmp(at + target, " HTTP/1.0") != 0)
        return false;
    memcpy(w->method, line, method);
    memcpy(w->target, at, target);
    w->method[method] = w->target[target] = '\0';
    return true;
}

static bool field_line(struct whole *w, char *line)
{
    char *value = line + strspn(line, TOKEN), *end;

    if (value == line || *value != ':' || ++w->fields > EXJ_HEAD_MAX_FIELDS)
        return false;
    *value++ = '\0';
    value += strspn(value, " \t");
    for (end = value + strlen(value); end > value && strchr(" \t", end[-1]); end--)
        end[-1] = '\0';
    if (strcasecmp(line, "host") == 0) {
        strcpy(w->host, value);
        return ++w->hosts == 1;
    }
    if (strcasecmp(line, "content-length") == 0) {
        w->length = strtoull(value, NULL, 10);
        return ++w->lengths == 1 && *value && strlen(value) <= 18 &&
               strspn(value, "0123456789") == strlen(value);
    }
    if (strcasecmp(line, "transfer-encoding") == 0)
        return ++w->codings == 1 && strcasecmp(value, "chunked") == 0;
    return strcasecmp(line, "expect") != 0 || strcasecmp(value, "100-continue") == 0;
}

static exj_head_state judge_whole(const char *p, size_t n, struct whole *w)
{
    static char line[EXJ_HEAD_MAX_BYTES + 1];
    bool first = true;
    size_t at = 0;

    if (n > EXJ_HEAD_MAX_BYTES)
        n = EXJ_HEAD_MAX_BYTES;
    memset(w, 0, sizeof *w);
    for (;;) {
        int got = line_at(p, n, at, line);

        if (got <= 0)
            return got < 0 && n < EXJ_HEAD_MAX_BYTES ? EXJ_HEAD_MORE : EXJ_HEAD_REFUSED;
        at += strlen(line) + 2;
        if (!first && !*line)
            break;
        if (first ? !request_line(w, line) : !field_line(w, line))
            return EXJ_HEAD_REFUSED;
        first = false;
    }
    w->bytes = at;
    if ((w->is_11 && !w->host[0]) || (w->codings && (w->lengths || !w->is_11)) ||
        w->length > BODY_MAX)
        return EXJ_HEAD_REFUSED;
    return EXJ_HEAD_GOOD;
}

/* ---- the target -------------------------------------------------------------------------- */

/* On a copy of exact length, so that one byte too far is seen. */
static exj_head_state judge(const uint8_t *data, size_t n, exj_head *h)
{
    char *copy = malloc(n ? n : 1);
    exj_head_state s;

    must(copy != NULL);
    if (n)
        memcpy(copy, data, n);
    s = exj_head_judge((exj_slice){ copy, n }, BODY_MAX, h);
    free(copy); /* the slices are gone; lengths and texts stay */
    return s;
}

static void look_at_host(exj_slice host)
{
    char *copy = malloc(host.n ? host.n : 1);
    exj_slice h = { copy, host.n };

    must(copy != NULL);
    if (host.n)
        memcpy(copy, host.p, host.n);
    if (exj_host_is_allowed(h, "127.0.0.1", "machine"))
        must((h.n >= 9 && strncasecmp(h.p, "localhost", 9) == 0) ||
             (h.n >= 9 && memcmp(h.p, "127.0.0.1", 9) == 0) ||
             (h.n >= 5 && memcmp(h.p, "[::1]", 5) == 0));
    exj_host_is_allowed(h, "0.0.0.0", "machine");
    exj_host_is_allowed(h, "::", NULL);
    exj_host_is_allowed(h, "fe80::1", NULL);
    must(!exj_request_is_cross_site((exj_slice){ NULL, 0 }, EXJ_SLICE_LITERAL("none"), h));
    exj_request_is_cross_site(h, (exj_slice){ NULL, 0 }, h);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct whole w;
    const char *p = (const char *)data;
    exj_head h, part;
    exj_head_state s = exj_head_judge((exj_slice){ p, size }, BODY_MAX, &h);
    size_t step = size < 200 ? 1 : size / 50;

    must(s == judge_whole(p, size, &w));
    if (s == EXJ_HEAD_GOOD) {
        must(h.bytes == w.bytes && h.bytes <= size && h.length == w.length);
        must(h.has_length == w.lengths && h.chunked == w.codings);
        must(exj_slice_is(h.method, w.method) && exj_slice_is(h.target, w.target) &&
             exj_slice_equal(h.host, exj_slice_of(w.host)));
    } else if (s == EXJ_HEAD_REFUSED) {
        must(h.status >= 400 && h.status < 600 && h.code[0] && h.text[0]);
    }
    look_at_host(s == EXJ_HEAD_GOOD ? h.host : (exj_slice){ p, size });
    for (size_t n = 0; n <= size; n += step) {
        exj_head_state early = judge(data, n, &part);

        must(early == EXJ_HEAD_MORE || early == s);
        if (early == EXJ_HEAD_GOOD)
            must(part.bytes == h.bytes && n >= h.bytes && part.length == h.length);
        else if (early == EXJ_HEAD_REFUSED)
            must(part.status == h.status && part.text == h.text);
    }
    return 0;
}
