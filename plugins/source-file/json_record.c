/* Is a line a record? Strict JSON, as the worker itself would judge it, with the column at hand. */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>

bool exj_src_wrong(exj_src_trouble *t, const char *record, size_t at, const char *format, ...)
{
    size_t from = 0;
    va_list ap;

    t->line = 0;
    for (size_t k = 0; k < at; k++)
        if (record[k] == '\n') {
            t->line++;
            from = k + 1;
        }
    t->column = at - from + 1;
    va_start(ap, format);
    vsnprintf(t->reason, sizeof t->reason, format, ap);
    va_end(ap);
    return false;
}

/* Length of the character at p; 0: not UTF-8, or a NUL. */
static size_t char_at(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (len == 0 || len > n || p[0] == 0)
        return 0;
    for (size_t k = 1; k < len; k++)
        if ((p[k] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

bool exj_src_is_text(const char *text, size_t n, size_t *ret_at)
{
    const unsigned char *p = (const unsigned char *)text;

    for (size_t at = 0; at < n;) {
        size_t len = char_at(p + at, n - at);

        if (len == 0) {
            *ret_at = at;
            return false;
        }
        at += len;
    }
    return true;
}

struct reader {
    const char *p;
    size_t n, at;
    exj_src_trouble *t;
};

#define WRONG(r, where, ...) exj_src_wrong((r)->t, (r)->p, (where), __VA_ARGS__)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_space(struct reader *r)
{
    while (r->at < r->n && (r->p[r->at] == ' ' || r->p[r->at] == '\t' || r->p[r->at] == '\r' ||
                            r->p[r->at] == '\n'))
        r->at++;
}

/* `at` behind the backslash. */
static bool read_escape(struct reader *r)
{
    size_t from = r->at - 1;
    char decoded[4];
    const char *p = r->p + from;
    int len;

    if (r->at >= r->n)
        return WRONG(r, from, "the text ends inside a string");
    len = exj_json_char_(&p, r->p + r->n, decoded);
    if (len == 0)
        return WRONG(r, from, "an escape that is none of \\\" \\\\ \\/ \\b \\f \\n \\r \\t "
                              "\\uXXXX (a pair for what is beyond U+FFFF)");
    if (len == 1 && decoded[0] == '\0')
        return WRONG(r, from, "\\u0000 (NUL) is not allowed");
    r->at = (size_t)(p - r->p);
    return true;
}

static bool read_string(struct reader *r)
{
    size_t from = r->at++;

    while (r->at < r->n) {
        unsigned char c = (unsigned char)r->p[r->at];
        size_t len;

        if (c == '"') {
            r->at++;
            return true;
        }
        if (c == '\\') {
            r->at++;
            if (!read_escape(r))
                return false;
            continue;
        }
        if (c < 0x20)
            return WRONG(r, r->at, "the control byte 0x%02x in a string: escape it", c);
        len = char_at((const unsigned char *)r->p + r->at, r->n - r->at);
        if (len == 0)
            return WRONG(r, r->at, "the byte 0x%02x is not UTF-8", c);
        r->at += len;
    }
    return WRONG(r, from, "a string that begins here has no end");
}

/* Is a number that is spelled correctly one that a double holds? `exponent` is saturated. */
static bool is_finite(exj_str s, int64_t exponent)
{
    static const char most[] = "17976931348623157"; /* the largest double, ×10^292 */
    int64_t point = 0;
    bool after = false;
    size_t k = 0, from;

    for (; k < s.n && (s.p[k] == '-' || s.p[k] == '0' || s.p[k] == '.'); k++) {
        point -= after && s.p[k] == '0';
        after |= s.p[k] == '.';
    }
    from = k;
    if (k == s.n || !is_digit(s.p[k]))
        return true; /* zero */
    for (; !after && k < s.n && is_digit(s.p[k]); k++)
        point++;
    if (point + exponent != 309)
        return point + exponent < 309;
    for (size_t m = 0; m < sizeof most - 1; from++) {
        char d = from < s.n && (is_digit(s.p[from]) || s.p[from] == '.') ? s.p[from] : 'e';

        if (d == '.')
            continue;
        if (d != most[m])
            return d == 'e' || d < most[m];
        m++;
    }
    return true;
}

/* At a number; false: *why, `at` where. */
static bool read_digits(exj_str s, size_t *at, bool *ret_whole, const char **why)
{
    size_t k = *at, from;
    int64_t exponent = 0;
    bool down = false;

    *ret_whole = true;
    if (k < s.n && s.p[k] == '-')
        k++;
    from = k;
    while (k < s.n && is_digit(s.p[k]))
        k++;
    *why = "no JSON value";
    if (k == from || (s.p[from] == '0' && k > from + 1)) {
        if (k > from)
            *why = "a number may not begin with 0";
        return false;
    }
    if (k < s.n && s.p[k] == '.') {
        *ret_whole = false;
        *why = "a digit is wanted after the point";
        for (from = ++k; k < s.n && is_digit(s.p[k]);)
            k++;
        if (k == from)
            return false;
    }
    if (k < s.n && (s.p[k] == 'e' || s.p[k] == 'E')) {
        *ret_whole = false;
        *why = "a digit is wanted in the exponent";
        k++;
        if (k < s.n && (s.p[k] == '+' || s.p[k] == '-'))
            down = s.p[k++] == '-';
        for (from = k; k < s.n && is_digit(s.p[k]); k++)
            if (exponent < INT64_C(1000000000000))
                exponent = exponent * 10 + (s.p[k] - '0');
        if (k == from)
            return false;
    }
    *why = "a number too large for a double: send it as text";
    if (!*ret_whole && !is_finite((exj_str){ s.p + *at, k - *at }, down ? -exponent : exponent))
        return false;
    if (*ret_whole) {
        exj_str number = { s.p + *at, k - *at };
        int64_t value;

        *why = "an integer outside 64 bits: send it as text";
        if (!exj_json_to_i64(number, &value))
            return false;
    }
    *at = k;
    return true;
}

bool exj_src_is_number(exj_str text, bool whole)
{
    size_t at = 0;
    const char *why;
    bool is_whole;

    return read_digits(text, &at, &is_whole, &why) && at == text.n && (is_whole || !whole);
}

static bool read_word(struct reader *r, const char *word)
{
    size_t n = strlen(word);

    if (r->n - r->at < n || memcmp(r->p + r->at, word, n) != 0)
        return WRONG(r, r->at, "no JSON value");
    r->at += n;
    return true;
}

static bool read_value(struct reader *r, unsigned depth);

/* `"name" :` */
static bool read_key(struct reader *r)
{
    skip_space(r);
    if (r->at >= r->n || r->p[r->at] != '"')
        return WRONG(r, r->at, "a name in quotes is wanted");
    if (!read_string(r))
        return false;
    skip_space(r);
    if (r->at >= r->n || r->p[r->at] != ':')
        return WRONG(r, r->at, "':' is wanted after a name");
    r->at++;
    return true;
}

static bool read_many(struct reader *r, unsigned depth)
{
    char close = r->p[r->at] == '{' ? '}' : ']';

    if (depth >= EXJ_SRC_DEPTH)
        return WRONG(r, r->at, "nested deeper than %u", EXJ_SRC_DEPTH);
    r->at++;
    skip_space(r);
    if (r->at < r->n && r->p[r->at] == close) {
        r->at++;
        return true;
    }
    for (;;) {
        if ((close == '}' && !read_key(r)) || !read_value(r, depth + 1))
            return false;
        skip_space(r);
        if (r->at >= r->n)
            return WRONG(r, r->at, "the text ends where ',' or '%c' is wanted", close);
        if (r->p[r->at] == close) {
            r->at++;
            return true;
        }
        if (r->p[r->at] != ',')
            return WRONG(r, r->at, "',' or '%c' is wanted", close);
        r->at++;
    }
}

static bool read_value(struct reader *r, unsigned depth)
{
    const char *why;
    bool whole;

    skip_space(r);
    if (r->at >= r->n)
        return WRONG(r, r->at, "the text ends where a value is wanted");
    switch (r->p[r->at]) {
    case '"':
        return read_string(r);
    case '{':
    case '[':
        return read_many(r, depth);
    case 't':
        return read_word(r, "true");
    case 'f':
        return read_word(r, "false");
    case 'n':
        return read_word(r, "null");
    default:
        return read_digits((exj_str){ r->p, r->n }, &r->at, &whole, &why) ||
               WRONG(r, r->at, "%s", why);
    }
}

/* What is JSON, but no record. */
static bool is_flat(struct reader *r, exj_str record)
{
    exj_json_cursor c = exj_json_members(record);
    exj_str names[EXJ_SRC_FIELDS], key, value;
    size_t n = 0;

    while (exj_json_next_member(&c, &key, &value)) {
        size_t at = (size_t)(key.p - r->p);
        bool object = exj_json_type(value) == '{';

        if (n == EXJ_SRC_FIELDS)
            return WRONG(r, at, "more than %u fields", EXJ_SRC_FIELDS);
        if (key.n == 2)
            return WRONG(r, at, "a field without a name");
        for (size_t k = 0; k < n; k++)
            if (names[k].n == key.n && memcmp(names[k].p, key.p, (size_t)key.n) == 0)
                return WRONG(r, at, "the field %.*s comes twice", key.n < 60 ? (int)key.n : 60,
                             key.p);
        if ((object && (exj_json_string_is(key, "input") || exj_json_string_is(key, "raw"))) ||
            exj_json_string_is(key, "input.raw"))
            return WRONG(r, at, "the wrapper %.*s: a record is flat, its fields stand at the top "
                                "level", (int)key.n, key.p);
        names[n++] = key;
    }
    return true;
}

bool exj_src_json_record(exj_str text, exj_str *ret, exj_src_trouble *t)
{
    struct reader r = { .p = text.p, .n = (size_t)text.n, .t = t };
    size_t from, to;

    skip_space(&r);
    from = r.at;
    if (r.at >= r.n || r.p[r.at] != '{')
        return WRONG(&r, r.at, "no JSON object: a line is one record, {\"name\": value, …}");
    if (!read_value(&r, 0))
        return false;
    to = r.at;
    skip_space(&r);
    if (r.at < r.n)
        return WRONG(&r, r.at, "something stands behind the object: one record a line");
    *ret = (exj_str){ text.p + from, to - from };
    if (ret->n > EXJ_SRC_RECORD_BYTES)
        return WRONG(&r, from, "a record of more than %u bytes", EXJ_SRC_RECORD_BYTES);
    return is_flat(&r, *ret);
}
