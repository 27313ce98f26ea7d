#include "core/base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/utf8.h"

void exj_buf_release(exj_buf *b)
{
    free(b->p);
    *b = EXJ_BUF_INIT;
}

void exj_buf_reset(exj_buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = '\0';
}

bool exj_buf_reserve(exj_buf *b, size_t more)
{
    size_t need, cap;
    char *p;

    if (b->failed)
        return false;
    if (__builtin_add_overflow(b->n, more, &need) || need > SIZE_MAX / 4) {
        b->failed = true;
        return false;
    }
    need++; /* the NUL */
    if (need <= b->cap)
        return true;
    cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    p = realloc(b->p, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    p[b->n] = '\0';
    b->p = p;
    b->cap = cap;
    return true;
}

bool exj_buf_add(exj_buf *b, const char *p, size_t n)
{
    if (!exj_buf_reserve(b, n))
        return false;
    if (n > 0)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
    return true;
}

bool exj_buf_add_slice(exj_buf *b, exj_slice s)
{
    return exj_buf_add(b, s.p, s.n);
}

bool exj_buf_add_text(exj_buf *b, const char *text)
{
    return exj_buf_add_slice(b, exj_slice_of(text));
}

bool exj_buf_add_char(exj_buf *b, char c)
{
    return exj_buf_add(b, &c, 1);
}

size_t exj_i64_text(int64_t v, char ret[EXJ_I64_BYTES])
{
    char digits[EXJ_I64_BYTES];
    size_t at = sizeof(digits);
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do {
        digits[--at] = (char)('0' + u % 10);
        u /= 10;
    } while (u > 0);
    if (v < 0)
        digits[--at] = '-';
    memcpy(ret, digits + at, sizeof(digits) - at);
    return sizeof(digits) - at;
}

bool exj_buf_add_i64(exj_buf *b, int64_t v)
{
    char digits[EXJ_I64_BYTES];

    return exj_buf_add(b, digits, exj_i64_text(v, digits));
}

bool exj_buf_printf(exj_buf *b, const char *format, ...)
{
    va_list ap, again;
    int n;

    if (!exj_buf_reserve(b, 0))
        return false;
    va_start(ap, format);
    va_copy(again, ap);
    n = vsnprintf(b->p + b->n, b->cap - b->n, format, ap);
    if (n >= 0 && (size_t)n >= b->cap - b->n) {
        b->p[b->n] = '\0';
        if (exj_buf_reserve(b, (size_t)n))
            n = vsnprintf(b->p + b->n, b->cap - b->n, format, again);
        else
            n = -1;
    }
    va_end(again);
    va_end(ap);
    if (n < 0) {
        b->p[b->n] = '\0';
        b->failed = true;
        return false;
    }
    b->n += (size_t)n;
    return true;
}

static bool add_escape(exj_buf *b, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        return exj_buf_add(b, text, 2);
    case '\n':
        return exj_buf_add(b, "\\n", 2);
    case '\r':
        return exj_buf_add(b, "\\r", 2);
    case '\t':
        return exj_buf_add(b, "\\t", 2);
    default:
        return exj_buf_add(b, text, sizeof(text));
    }
}

bool exj_buf_add_json_string(exj_buf *b, exj_slice s)
{
    size_t done = 0, i = 0; /* bytes [done, i) are plain and not yet copied */

    exj_buf_add_char(b, '"');
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i];
        unsigned len = exj_utf8_len(s.p + i, s.n - i);

        if (len > 1 || (len == 1 && c >= 0x20 && c != 0x7f && c != '"' && c != '\\')) {
            i += len;
            continue;
        }
        exj_buf_add(b, s.p + done, i - done);
        if (len == 0)
            exj_buf_add(b, "\xef\xbf\xbd", 3);
        else
            add_escape(b, c);
        done = ++i;
    }
    exj_buf_add(b, s.p ? s.p + done : NULL, i - done);
    return exj_buf_add_char(b, '"');
}

exj_slice exj_buf_slice(const exj_buf *b)
{
    return (exj_slice){ b->p, b->n };
}

char *exj_buf_take(exj_buf *b)
{
    char *p = b->p;

    *b = EXJ_BUF_INIT;
    return p;
}

char *exj_slice_dup(exj_slice s)
{
    char *p = s.n < SIZE_MAX ? malloc(s.n + 1) : NULL;

    if (!p)
        return NULL;
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

bool exj_utf8_is_valid(exj_slice s)
{
    for (size_t i = 0; i < s.n;) {
        unsigned len = exj_utf8_len(s.p + i, s.n - i);

        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

exj_slice exj_utf8_clip(exj_slice s, size_t most)
{
    if (s.n > most) {
        s.n = most;
        while (s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80)
            s.n--;
    }
    return s;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned exj_edit_distance(const char *a, const char *b)
{
    unsigned rows[3][64]; /* of the matrix: two back, one back, this one */
    size_t na = strlen(a), nb = strlen(b);

    if (na > 63 || nb > 63)
        return 64;
    for (unsigned j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= na; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *back = rows[(i + 2) % 3], *back2 = rows[(i + 1) % 3];

        now[0] = i;
        for (unsigned j = 1; j <= nb; j++) {
            unsigned d = back[j - 1] + (a[i - 1] != b[j - 1]);

            d = least(d, least(back[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d = least(d, back2[j - 2] + 1);
            now[j] = d;
        }
    }
    return rows[na % 3][nb];
}
