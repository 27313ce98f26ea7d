/* examples/audit/json.h - the little JSON that these two plugins need.
 *
 * Writing: text grows by itself; when memory runs out it remembers that (`failed`) and
 * goes on doing nothing, so that callers ask once, at the end.
 * Reading: the host hands over checked JSON, so a value is found by walking to it; nothing
 * is built in memory. Every step stays within the text, whatever it holds.
 */
#ifndef AUDIT_JSON_H
#define AUDIT_JSON_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/plugin.h"

struct text {
    char *p; /* owned; NUL-terminated when n > 0 */
    size_t n, cap;
    bool failed;
};

static inline void text_free(struct text *t)
{
    free(t->p);
    *t = (struct text){ 0 };
}

static inline bool text_room(struct text *t, size_t more)
{
    size_t cap = t->cap ? t->cap : 256;
    char *p;

    if (t->failed || more > SIZE_MAX / 4 - t->n)
        return !(t->failed = true);
    if (t->n + more < t->cap)
        return true;
    while (cap <= t->n + more)
        cap *= 2;
    p = realloc(t->p, cap);
    if (!p)
        return !(t->failed = true);
    t->p = p;
    t->cap = cap;
    return true;
}

static inline void text_add_bytes(struct text *t, const char *p, size_t n)
{
    if (!text_room(t, n))
        return;
    if (n)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

static inline void text_add(struct text *t, const char *s)
{
    text_add_bytes(t, s, strlen(s));
}

__attribute__((format(printf, 2, 3)))
static inline void text_addf(struct text *t, const char *format, ...)
{
    char small[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(small))
        t->failed = true; /* only numbers and short words are written this way */
    else
        text_add_bytes(t, small, (size_t)n);
}

static inline exj_str text_str(const struct text *t)
{
    return (exj_str){ t->p, t->n };
}

/* Bytes of the UTF-8 character at p, or 0 when there is none (RFC 3629). */
static inline size_t utf8_length(const unsigned char *p, size_t n)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t length, i;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        length = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        length = 3;
        low = p[0] == 0xe0 ? 0xa0 : low;
        high = p[0] == 0xed ? 0x9f : high;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        length = 4;
        low = p[0] == 0xf0 ? 0x90 : low;
        high = p[0] == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (length > n || p[1] < low || p[1] > high)
        return 0;
    for (i = 2; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return length;
}

/* A JSON string of any bytes: a file name may hold what is not UTF-8, JSON may not, so each
 * such byte becomes U+FFFD. */
static inline void text_add_quoted(struct text *t, const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i, length;

    text_add_bytes(t, "\"", 1);
    for (i = 0; i < n; i += length) {
        length = utf8_length(p + i, n - i);
        if (length == 0) {
            text_add(t, "\xef\xbf\xbd");
            length = 1;
        } else if (p[i] == '"' || p[i] == '\\') {
            text_add_bytes(t, "\\", 1);
            text_add_bytes(t, s + i, 1);
        } else if (p[i] < 0x20) {
            text_addf(t, "\\u%04x", p[i]);
        } else {
            text_add_bytes(t, s + i, length);
        }
    }
    text_add_bytes(t, "\"", 1);
}

/* `"name":"value"` with `before` ("{" or ",") in front. */
static inline void text_add_member(struct text *t, const char *before, const char *name,
                                   const char *value)
{
    text_add(t, before);
    text_add_quoted(t, name, strlen(name));
    text_add(t, ":");
    text_add_quoted(t, value, strlen(value));
}

/* ---- reading ---------------------------------------------------------------------------- */

static inline const char *json_blank(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* After the string that begins at p. */
static inline const char *json_after_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && p + 1 < end)
            p++;
    }
    return p < end ? p + 1 : end;
}

/* After the value that begins at p. Counts brackets: no recursion, so no depth to fear. */
static inline const char *json_after_value(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        if (*p == '"') {
            p = json_after_string(p, end);
            if (depth == 0)
                return p;
            continue;
        }
        if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            if (depth == 0)
                return p; /* end of the object around a number or word */
            if (--depth == 0)
                return p + 1;
        } else if (depth == 0 && (*p == ',' || *p == ' ' || *p == '\n' || *p == '\t' ||
                                  *p == '\r')) {
            return p;
        }
        p++;
    }
    return p;
}

/* The value of member `name` of the object `object`, as it is written; p is NULL when
 * there is none. Names are compared as written: ours hold nothing to escape. */
static inline exj_str json_member(exj_str object, const char *name)
{
    const char *end = object.p ? object.p + object.n : NULL;
    const char *p = object.p ? json_blank(object.p, end) : NULL;
    const char *key, *value;
    size_t key_bytes;

    if (!p || p >= end || *p != '{')
        return (exj_str){ NULL, 0 };
    for (p = json_blank(p + 1, end); p < end && *p == '"'; p = json_blank(p + 1, end)) {
        key = p + 1;
        p = json_after_string(p, end);
        key_bytes = (size_t)(p - key) - (p > key ? 1 : 0);
        p = json_blank(p, end);
        if (p >= end || *p != ':')
            break;
        value = json_blank(p + 1, end);
        p = json_after_value(value, end);
        if (key_bytes == strlen(name) && memcmp(key, name, key_bytes) == 0)
            return (exj_str){ value, (uint64_t)(p - value) };
        p = json_blank(p, end);
        if (p >= end || *p != ',')
            break;
    }
    return (exj_str){ NULL, 0 };
}

/* The items of an array, one a call, with *at NULL at first; p is NULL after the last. */
static inline exj_str json_item(exj_str array, const char **at)
{
    const char *end = array.p ? array.p + array.n : NULL;
    const char *p = *at ? *at : array.p, *value;

    if (!p || p >= end || (!*at && *p != '['))
        return (exj_str){ NULL, 0 };
    p = json_blank(*at ? p : p + 1, end);
    if (*at && p < end && *p == ',')
        p = json_blank(p + 1, end);
    if (p >= end || *p == ']')
        return (exj_str){ NULL, 0 };
    value = p;
    *at = json_after_value(value, end);
    return (exj_str){ value, (uint64_t)(*at - value) };
}

static inline unsigned json_hex4(const char *p, const char *end)
{
    unsigned u = 0;
    int i;

    for (i = 0; i < 4 && p + i < end; i++) {
        char c = p[i];
        u = u * 16 + (unsigned)(c >= '0' && c <= '9'   ? c - '0'
                                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                       : 0);
    }
    return u;
}

static inline void text_add_utf8(struct text *t, unsigned u)
{
    char b[4];

    if (u < 0x80) {
        b[0] = (char)u;
        text_add_bytes(t, b, 1);
    } else if (u < 0x800) {
        b[0] = (char)(0xc0 | u >> 6);
        b[1] = (char)(0x80 | (u & 0x3f));
        text_add_bytes(t, b, 2);
    } else if (u < 0x10000) {
        b[0] = (char)(0xe0 | u >> 12);
        b[1] = (char)(0x80 | (u >> 6 & 0x3f));
        b[2] = (char)(0x80 | (u & 0x3f));
        text_add_bytes(t, b, 3);
    } else {
        b[0] = (char)(0xf0 | u >> 18);
        b[1] = (char)(0x80 | (u >> 12 & 0x3f));
        b[2] = (char)(0x80 | (u >> 6 & 0x3f));
        b[3] = (char)(0x80 | (u & 0x3f));
        text_add_bytes(t, b, 4);
    }
}

/* The text of a JSON string, malloc'ed; of anything else, or when it holds a NUL, NULL. */
static inline char *json_string(exj_str value)
{
    const char *p = value.p, *end = value.p ? value.p + value.n : NULL;
    struct text t = { 0 };
    unsigned u, low;

    if (!p || value.n < 2 || *p != '"')
        return NULL;
    text_add_bytes(&t, "", 0);
    for (p++; p < end && *p != '"'; p++) {
        if (*p != '\\' || p + 1 >= end) {
            text_add_bytes(&t, p, 1);
            continue;
        }
        switch (*++p) {
        case 'n':
            text_add(&t, "\n");
            break;
        case 't':
            text_add(&t, "\t");
            break;
        case 'r':
            text_add(&t, "\r");
            break;
        case 'b':
            text_add(&t, "\b");
            break;
        case 'f':
            text_add(&t, "\f");
            break;
        case 'u':
            if (end - p <= 5)
                goto refuse;
            u = json_hex4(p + 1, end);
            p += 4;
            if (u >= 0xd800 && u < 0xdc00 && end - p > 6 && p[1] == '\\' && p[2] == 'u') {
                low = json_hex4(p + 3, end);
                u = 0x10000 + ((u - 0xd800) << 10) + ((low - 0xdc00) & 0x3ff);
                p += 6;
            }
            if (u == 0)
                goto refuse;
            text_add_utf8(&t, u);
            break;
        default:
            text_add_bytes(&t, p, 1);
        }
    }
    if (!t.failed)
        return t.p;
refuse:
    text_free(&t);
    return NULL;
}

/* A whole number within low..high; `otherwise` when absent or anything else. */
static inline long json_whole(exj_str value, long low, long high, long otherwise)
{
    char digits[24];
    char *end;
    long n;

    if (!value.p || value.n == 0 || value.n >= sizeof(digits))
        return otherwise;
    memcpy(digits, value.p, value.n);
    digits[value.n] = '\0';
    n = strtol(digits, &end, 10);
    return *end || n < low || n > high ? otherwise : n;
}

static inline bool json_is(exj_str value, const char *word)
{
    size_t n = strlen(word);

    return value.p && value.n == n + 2 && memcmp(value.p + 1, word, n) == 0;
}

#endif /* AUDIT_JSON_H */
