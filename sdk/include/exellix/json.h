/* exellix/json.h - enough JSON for a plugin, in one header without dependencies.
 * C11 and C++17.
 *
 * READING works on texts in place: a value is an exj_str that points into the text, a
 * string with its quotes and escapes. What the host hands to a plugin is valid JSON; texts
 * from elsewhere may be anything: a reader never leaves the text, and where it is not JSON
 * it stops ("not found", "no more") rather than guess.
 *
 *     exj_str input, name;
 *     if (exj_json_find(args->runtime, "input", &input) &&
 *         exj_json_find(input, "name", &name)) …
 *
 * WRITING appends to a buffer that grows; lack of memory is kept in `failed`, so that it
 * is asked once, at the end. Commas are put where they belong.
 *
 *     exj_json_out out = EXJ_JSON_OUT_INIT;
 *     exj_json_begin_object(&out);
 *     exj_json_put_text(&out, "status", "completed");
 *     exj_json_end_object(&out);
 *     if (!out.failed) host->emit(host->ctx, call, exj_json_out_text(&out));
 *     exj_json_out_release(&out);
 *
 * Threads: no state; a buffer belongs to one thread.
 */
#ifndef EXELLIX_JSON_H
#define EXELLIX_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/plugin.h"

#define EXJ_JSON_DEPTH_MAX 64

static inline exj_str exj_text(const char *s) /* of a NUL-terminated string */
{
    exj_str t;

    t.p = s ? s : "";
    t.n = s ? strlen(s) : 0;
    return t;
}

/* ---- reading -------------------------------------------------------------------------- */

static inline uint64_t exj_json_space_(exj_str t, uint64_t at)
{
    while (at < t.n && (t.p[at] == ' ' || t.p[at] == '\t' || t.p[at] == '\n' || t.p[at] == '\r'))
        at++;
    return at;
}

/* Offset after the string that begins at `at`; 0: there is none. */
static inline uint64_t exj_json_skip_string_(exj_str t, uint64_t at)
{
    if (at >= t.n || t.p[at] != '"')
        return 0;
    for (at++; at < t.n; at++) {
        if (t.p[at] == '"')
            return at + 1;
        if (t.p[at] == '\\')
            at++;
    }
    return 0;
}

/* Offset after the value that begins at `at`; 0: there is none. Brackets are balanced by
 * count: whether an object closes with ']' is for a validator to say. */
static inline uint64_t exj_json_skip_value_(exj_str t, uint64_t at)
{
    uint64_t depth = 0, start = at;

    if (at >= t.n)
        return 0;
    if (t.p[at] == '"')
        return exj_json_skip_string_(t, at);
    if (t.p[at] != '{' && t.p[at] != '[') {
        while (at < t.n && t.p[at] != ',' && t.p[at] != '}' && t.p[at] != ']' &&
               t.p[at] != ':' && t.p[at] != '"' && t.p[at] != ' ' && t.p[at] != '\t' &&
               t.p[at] != '\n' && t.p[at] != '\r')
            at++;
        return at > start ? at : 0;
    }
    while (at < t.n) {
        char c = t.p[at];

        if (c == '"') {
            at = exj_json_skip_string_(t, at);
            if (at == 0)
                return 0;
            continue;
        }
        at++;
        if (c == '{' || c == '[')
            depth++;
        if ((c == '}' || c == ']') && --depth == 0)
            return at;
    }
    return 0;
}

/* What a value is, by its first byte: '{' '[' '"' 't' 'f' 'n' (null) '0' (number), or 0. */
static inline char exj_json_type(exj_str value)
{
    uint64_t at = exj_json_space_(value, 0);
    char c = at < value.n ? value.p[at] : '\0';

    if (c == '-' || (c >= '0' && c <= '9'))
        return '0';
    return c == '{' || c == '[' || c == '"' || c == 't' || c == 'f' || c == 'n' ? c : '\0';
}

/* A walk over the members of an object or the elements of an array. */
typedef struct exj_json_cursor {
    exj_str text;
    uint64_t at; /* 0: over */
    bool first;
} exj_json_cursor;

static inline exj_json_cursor exj_json_walk_(exj_str value, char open)
{
    exj_json_cursor c;
    uint64_t at = exj_json_space_(value, 0);

    c.text = value;
    c.at = at < value.n && value.p[at] == open ? at + 1 : 0;
    c.first = true;
    return c;
}

static inline exj_json_cursor exj_json_members(exj_str object)
{
    return exj_json_walk_(object, '{');
}

static inline exj_json_cursor exj_json_elements(exj_str array)
{
    return exj_json_walk_(array, '[');
}

/* To the next key or element; false: the end, or not JSON. */
static inline bool exj_json_advance_(exj_json_cursor *c)
{
    uint64_t at;

    if (c->at == 0)
        return false;
    at = exj_json_space_(c->text, c->at);
    if (!c->first) {
        if (at >= c->text.n || c->text.p[at] != ',') {
            c->at = 0;
            return false;
        }
        at = exj_json_space_(c->text, at + 1);
    }
    c->first = false;
    c->at = at;
    return true;
}

/* The next element, until false. */
static inline bool exj_json_next_element(exj_json_cursor *c, exj_str *value)
{
    uint64_t end;

    if (!exj_json_advance_(c))
        return false;
    end = exj_json_skip_value_(c->text, c->at);
    if (end == 0) {
        c->at = 0;
        return false;
    }
    value->p = c->text.p + c->at;
    value->n = end - c->at;
    c->at = end;
    return true;
}

/* The next member, until false. `key` with its quotes, still escaped. */
static inline bool exj_json_next_member(exj_json_cursor *c, exj_str *key, exj_str *value)
{
    uint64_t end, at;

    if (!exj_json_advance_(c))
        return false;
    end = exj_json_skip_string_(c->text, c->at);
    at = end ? exj_json_space_(c->text, end) : 0;
    if (end == 0 || at >= c->text.n || c->text.p[at] != ':') {
        c->at = 0;
        return false;
    }
    key->p = c->text.p + c->at;
    key->n = end - c->at;
    at = exj_json_space_(c->text, at + 1);
    end = exj_json_skip_value_(c->text, at);
    if (end == 0) {
        c->at = 0;
        return false;
    }
    value->p = c->text.p + at;
    value->n = end - at;
    c->at = end;
    return true;
}

static inline int exj_json_hex4_(const char *p, const char *end)
{
    int v = 0, i;

    if (end - p < 4)
        return -1;
    for (i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;

        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* One character of a string's inside at *p as UTF-8 into to[4]; its length, 0: broken. */
static inline int exj_json_char_(const char **p, const char *end, char to[4])
{
    const char *s = *p;
    long u;

    if (*s != '\\') {
        to[0] = *s;
        *p = s + 1;
        return 1;
    }
    if (++s == end)
        return 0;
    *p = s + 1;
    switch (*s) {
    case '"':
    case '\\':
    case '/':
        to[0] = *s;
        return 1;
    case 'b':
        to[0] = '\b';
        return 1;
    case 'f':
        to[0] = '\f';
        return 1;
    case 'n':
        to[0] = '\n';
        return 1;
    case 'r':
        to[0] = '\r';
        return 1;
    case 't':
        to[0] = '\t';
        return 1;
    case 'u':
        break;
    default:
        return 0;
    }
    u = exj_json_hex4_(s + 1, end);
    if (u < 0)
        return 0;
    s += 5;
    if (u >= 0xd800 && u < 0xdc00 && end - s >= 6 && s[0] == '\\' && s[1] == 'u') {
        long low = exj_json_hex4_(s + 2, end);

        if (low < 0xdc00 || low > 0xdfff)
            return 0;
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
        s += 6;
    } else if (u >= 0xd800 && u <= 0xdfff) {
        return 0;
    }
    *p = s;
    if (u < 0x80) {
        to[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        to[0] = (char)(0xc0 | (u >> 6));
        to[1] = (char)(0x80 | (u & 0x3f));
        return 2;
    }
    if (u < 0x10000) {
        to[0] = (char)(0xe0 | (u >> 12));
        to[1] = (char)(0x80 | ((u >> 6) & 0x3f));
        to[2] = (char)(0x80 | (u & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | (u >> 18));
    to[1] = (char)(0x80 | ((u >> 12) & 0x3f));
    to[2] = (char)(0x80 | ((u >> 6) & 0x3f));
    to[3] = (char)(0x80 | (u & 0x3f));
    return 4;
}

/* Does the quoted string spell `text`? Understands escapes. */
static inline bool exj_json_string_is(exj_str quoted, const char *text)
{
    const char *p, *end;
    size_t left = strlen(text);
    char c[4];

    if (quoted.n < 2 || quoted.p[0] != '"')
        return false;
    p = quoted.p + 1;
    end = quoted.p + quoted.n - 1;
    while (p < end) {
        int n = exj_json_char_(&p, end, c);

        if (n == 0 || (size_t)n > left || memcmp(c, text, (size_t)n) != 0)
            return false;
        text += n;
        left -= (size_t)n;
    }
    return left == 0;
}

/* The member `key` of an object. False: absent, or `object` is none. */
static inline bool exj_json_find(exj_str object, const char *key, exj_str *value)
{
    exj_json_cursor c = exj_json_members(object);
    exj_str k, v;

    while (exj_json_next_member(&c, &k, &v))
        if (exj_json_string_is(k, key)) {
            *value = v;
            return true;
        }
    return false;
}

/* A number as an integer. False: no number, a fraction, or out of range. */
static inline bool exj_json_to_i64(exj_str value, int64_t *ret)
{
    uint64_t at = 0, v = 0, max = (uint64_t)INT64_MAX;
    bool minus = value.n && value.p[0] == '-';

    at = minus ? 1 : 0;
    max += minus ? 1 : 0;
    if (at >= value.n)
        return false;
    for (; at < value.n; at++) {
        uint64_t d = (uint64_t)(unsigned char)value.p[at] - '0';

        if (value.p[at] < '0' || value.p[at] > '9' || v > (max - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *ret = minus ? (v == max ? INT64_MIN : -(int64_t)v) : (int64_t)v;
    return true;
}

static inline bool exj_json_to_bool(exj_str value, bool *ret)
{
    *ret = value.n == 4 && memcmp(value.p, "true", 4) == 0;
    return *ret || (value.n == 5 && memcmp(value.p, "false", 5) == 0);
}

/* The meaning of a quoted string, NUL-terminated; free() it. NULL: no string, broken, no
 * memory, or a NUL inside. *ret_n may be NULL. */
static inline char *exj_json_to_text(exj_str quoted, size_t *ret_n)
{
    const char *p, *end;
    char *text;
    size_t n = 0;

    if (quoted.n < 2 || quoted.p[0] != '"' || quoted.p[quoted.n - 1] != '"')
        return NULL;
    text = (char *)malloc((size_t)quoted.n + 3);
    if (!text)
        return NULL;
    for (p = quoted.p + 1, end = quoted.p + quoted.n - 1; p < end;) {
        int len = exj_json_char_(&p, end, text + n);

        if (len == 0 || (len == 1 && text[n] == '\0')) {
            free(text);
            return NULL;
        }
        n += (size_t)len;
    }
    text[n] = '\0';
    if (ret_n)
        *ret_n = n;
    return text;
}

/* ---- writing -------------------------------------------------------------------------- */

typedef struct exj_json_out {
    char *p; /* owned */
    size_t n, cap;
    bool failed; /* no memory, or nested too deep */
    unsigned depth;
    uint64_t comma; /* bit d: something was written at depth d */
} exj_json_out;

#define EXJ_JSON_OUT_INIT { NULL, 0, 0, false, 0, 0 }

static inline void exj_json_out_release(exj_json_out *o)
{
    free(o->p);
    memset(o, 0, sizeof *o);
}

static inline void exj_json_out_reset(exj_json_out *o) /* keeps the memory */
{
    o->n = 0;
    o->failed = false;
    o->depth = 0;
    o->comma = 0;
}

static inline exj_str exj_json_out_text(const exj_json_out *o)
{
    exj_str t;

    t.p = o->p ? o->p : "";
    t.n = o->n;
    return t;
}

static inline void exj_json_add_(exj_json_out *o, const char *p, size_t n)
{
    if (o->failed || n == 0)
        return;
    if (n > o->cap - o->n) {
        size_t cap = o->cap ? o->cap : 256;
        char *grown = NULL;

        while (cap - o->n < n && cap <= SIZE_MAX / 2)
            cap *= 2;
        if (cap - o->n >= n)
            grown = (char *)realloc(o->p, cap);
        if (!grown) {
            o->failed = true;
            return;
        }
        o->p = grown;
        o->cap = cap;
    }
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

static inline void exj_json_add_string_(exj_json_out *o, exj_str s)
{
    static const char hex[] = "0123456789abcdef";
    uint64_t from = 0, at;

    exj_json_add_(o, "\"", 1);
    for (at = 0; at < s.n; at++) {
        unsigned char c = (unsigned char)s.p[at];
        char escaped[6] = { '\\', 'u', '0', '0', 0, 0 };

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        exj_json_add_(o, s.p + from, (size_t)(at - from));
        from = at + 1;
        if (c == '"' || c == '\\') {
            escaped[1] = (char)c;
            exj_json_add_(o, escaped, 2);
        } else {
            escaped[4] = hex[c >> 4];
            escaped[5] = hex[c & 15];
            exj_json_add_(o, escaped, 6);
        }
    }
    exj_json_add_(o, s.p + from, (size_t)(s.n - from));
    exj_json_add_(o, "\"", 1);
}

/* Comma and key in front of a value; `key` NULL: an element or the whole text. */
static inline void exj_json_lead_(exj_json_out *o, const char *key)
{
    uint64_t bit = (uint64_t)1 << (o->depth & 63);

    if (o->comma & bit)
        exj_json_add_(o, ",", 1);
    o->comma |= bit;
    if (key) {
        exj_json_add_string_(o, exj_text(key));
        exj_json_add_(o, ":", 1);
    }
}

static inline void exj_json_open_(exj_json_out *o, const char *key, const char *bracket)
{
    exj_json_lead_(o, key);
    exj_json_add_(o, bracket, 1);
    if (++o->depth >= EXJ_JSON_DEPTH_MAX)
        o->failed = true;
    o->comma &= ~((uint64_t)1 << (o->depth & 63));
}

static inline void exj_json_close_(exj_json_out *o, const char *bracket)
{
    if (o->depth == 0) {
        o->failed = true;
        return;
    }
    o->depth--;
    exj_json_add_(o, bracket, 1);
}

/* An object or array as the whole text or an element… */
static inline void exj_json_begin_object(exj_json_out *o) { exj_json_open_(o, NULL, "{"); }
static inline void exj_json_begin_array(exj_json_out *o) { exj_json_open_(o, NULL, "["); }
/* …or as a member… */
static inline void exj_json_put_object(exj_json_out *o, const char *key)
{
    exj_json_open_(o, key, "{");
}
static inline void exj_json_put_array(exj_json_out *o, const char *key)
{
    exj_json_open_(o, key, "[");
}
/* …and its end. */
static inline void exj_json_end_object(exj_json_out *o) { exj_json_close_(o, "}"); }
static inline void exj_json_end_array(exj_json_out *o) { exj_json_close_(o, "]"); }

/* Values; `key` NULL within an array. Strings must be UTF-8 (the host refuses others). */
static inline void exj_json_put_string(exj_json_out *o, const char *key, exj_str s)
{
    exj_json_lead_(o, key);
    exj_json_add_string_(o, s);
}

static inline void exj_json_put_text(exj_json_out *o, const char *key, const char *s)
{
    exj_json_put_string(o, key, exj_text(s));
}

/* A value that is JSON already. */
static inline void exj_json_put_raw(exj_json_out *o, const char *key, exj_str json)
{
    exj_json_lead_(o, key);
    exj_json_add_(o, json.p, (size_t)json.n);
}

static inline void exj_json_put_i64(exj_json_out *o, const char *key, int64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v);

    exj_json_lead_(o, key);
    exj_json_add_(o, digits, n > 0 ? (size_t)n : 0);
}

static inline void exj_json_put_bool(exj_json_out *o, const char *key, bool v)
{
    exj_json_put_raw(o, key, exj_text(v ? "true" : "false"));
}

static inline void exj_json_put_null(exj_json_out *o, const char *key)
{
    exj_json_put_raw(o, key, exj_text("null"));
}

#endif /* EXELLIX_JSON_H */
