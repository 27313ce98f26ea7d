#include "core/base/json.h"

#include "core/base/utf8.h"

/* The scanner holds one bit a level (object or array) on its own stack. */
#define DEPTH_WORDS 16u
#define DEPTH_LIMIT (DEPTH_WORDS * 64u)

struct scan {
    const char *p;
    size_t n, at;
    unsigned depth, max_depth;
    uint64_t in_object[DEPTH_WORDS]; /* bit depth-1 */
    exj_err *err;
};

static exj_code refuse(const struct scan *s, size_t at, const char *cause)
{
    return exj_err_set(s->err, EXJ_INVALID, "not valid JSON at byte %zu: %s", at, cause);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline size_t skip_space(const char *p, size_t n, size_t at)
{
    while (at < n && (p[at] == ' ' || p[at] == '\n' || p[at] == '\t' || p[at] == '\r'))
        at++;
    return at;
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(const char *p, size_t n)
{
    int32_t v = 0;

    if (n < 4)
        return -1;
    for (unsigned i = 0; i < 4; i++) {
        char c = p[i];

        if (is_digit(c))
            v = v * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            v = v * 16 + (c - 'A' + 10);
        else
            return -1;
    }
    return v;
}

/* High bit of each byte that may not be skipped: control, quote, backslash, non-ASCII. */
static inline uint64_t special_bytes(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');

    return ((w - ones * 0x20) | (quote - ones) | (slash - ones) | w) & high;
}

static exj_code scan_escape(struct scan *s)
{
    int32_t unit, low;

    if (s->at + 1 >= s->n)
        return refuse(s, s->at, "the text ends inside a string");
    switch (s->p[s->at + 1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        s->at += 2;
        return EXJ_OK;
    case 'u':
        break;
    default:
        return refuse(s, s->at, "unknown escape in a string");
    }
    unit = hex4(s->p + s->at + 2, s->n - s->at - 2);
    if (unit < 0)
        return refuse(s, s->at, "\\u wants four hexadecimal digits");
    if (unit == 0)
        return refuse(s, s->at, "\\u0000 (NUL) is not allowed");
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return refuse(s, s->at, "lone low surrogate");
    if (unit < 0xd800 || unit > 0xdbff) {
        s->at += 6;
        return EXJ_OK;
    }
    low = s->n - s->at > 8 && s->p[s->at + 6] == '\\' && s->p[s->at + 7] == 'u'
              ? hex4(s->p + s->at + 8, s->n - s->at - 8)
              : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return refuse(s, s->at, "lone high surrogate");
    s->at += 12;
    return EXJ_OK;
}

/* `at` is behind the opening quote; afterwards behind the closing one. */
static exj_code scan_string(struct scan *s)
{
    for (;;) {
        unsigned char c;

        while (s->n - s->at >= 8) {
            uint64_t word;

            memcpy(&word, s->p + s->at, sizeof(word));
            word = special_bytes(word);
            if (word) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
                /* Bytes below the first hit are plain; borrows only run upwards. */
                s->at += (size_t)__builtin_ctzll(word) / 8;
#endif
                break;
            }
            s->at += 8;
        }
        if (s->at >= s->n)
            return refuse(s, s->n, "the text ends inside a string");
        c = (unsigned char)s->p[s->at];
        if (c == '"') {
            s->at++;
            return EXJ_OK;
        }
        if (c == '\\') {
            exj_code rc = scan_escape(s);

            if (rc != EXJ_OK)
                return rc;
        } else if (c < 0x20) {
            return refuse(s, s->at, c ? "raw control byte in a string" : "raw NUL byte");
        } else {
            unsigned len = exj_utf8_len(s->p + s->at, s->n - s->at);

            if (len == 0)
                return refuse(s, s->at, "bytes that are not UTF-8");
            s->at += len;
        }
    }
}

/* Halfway between the largest double and what would follow it, 2^1024 - 2^970, as digits:
 * from here on strtod answers infinity. */
static const char overflow_digits[] =
    "179769313486231580793728971405303415079934132710037826936173"
    "778980444968292764750946649017977587207096330286416692887910"
    "946555547851940402630657488671505820681908902000708383676273"
    "854845817711531764475730270069855571366959622842914819860834"
    "936475292719074168444365510704342711559699508093042880177904"
    "174497792";

/* Is a real that was spelled correctly finite? `exponent` is saturated far outside. */
static bool is_finite(const char *p, size_t n, int64_t exponent)
{
    int64_t point = 0; /* value = 0.d1d2d3… × 10^(point + exponent), d1 not 0 */
    size_t i = 0, first;
    bool after_point = false;

    for (; i < n && (p[i] == '-' || p[i] == '0' || p[i] == '.'); i++) {
        if (p[i] == '.')
            after_point = true;
        else if (after_point)
            point--;
    }
    if (i == n || !is_digit(p[i]))
        return true; /* zero, whatever the exponent */
    first = i;
    if (!after_point) {
        while (i < n && is_digit(p[i]))
            i++;
        point = (int64_t)(i - first);
    }
    if (point + exponent != 309)
        return point + exponent < 309;
    for (size_t k = 0; k < sizeof(overflow_digits) - 1; first++) {
        char d = first < n ? p[first] : 'e';

        if (d == '.')
            continue;
        if (!is_digit(d))
            d = '0', first = n;
        if (d != overflow_digits[k])
            return d < overflow_digits[k];
        k++;
    }
    return false;
}

static exj_code scan_number(struct scan *s, exj_json_kind *ret_kind)
{
    const char *p = s->p;
    size_t start = s->at, at = start, digits, digits_end;
    int64_t exponent = 0;
    bool is_real = false, is_negative = p[at] == '-';

    if (is_negative)
        at++;
    digits = at;
    while (at < s->n && is_digit(p[at]))
        at++;
    digits_end = at;
    if (at == digits)
        return refuse(s, start, is_negative ? "a digit is wanted after -" : "no JSON value");
    if (p[digits] == '0' && at > digits + 1)
        return refuse(s, start, "a number may not begin with 0");
    if (at < s->n && p[at] == '.') {
        size_t from = ++at;

        while (at < s->n && is_digit(p[at]))
            at++;
        if (at == from)
            return refuse(s, start, "a digit is wanted after the point");
        is_real = true;
        digits_end = at;
    }
    if (at < s->n && (p[at] == 'e' || p[at] == 'E')) {
        bool down = false;
        size_t from;

        at++;
        if (at < s->n && (p[at] == '+' || p[at] == '-'))
            down = p[at++] == '-';
        from = at;
        for (; at < s->n && is_digit(p[at]); at++)
            if (exponent < INT64_C(1000000000000000))
                exponent = exponent * 10 + (p[at] - '0');
        if (at == from)
            return refuse(s, start, "a digit is wanted in the exponent");
        if (down)
            exponent = -exponent;
        is_real = true;
    }
    if (is_real && !is_finite(p + start, digits_end - start, exponent))
        return refuse(s, start, "a number too large to be finite");
    if (!is_real) {
        size_t len = at - digits;
        const char *limit = is_negative ? "9223372036854775808" : "9223372036854775807";

        if (len > 19 || (len == 19 && memcmp(p + digits, limit, 19) > 0))
            return refuse(s, start, "an integer outside 64 bits");
    }
    s->at = at;
    *ret_kind = is_real ? EXJ_JSON_REAL : EXJ_JSON_INTEGER;
    return EXJ_OK;
}

static exj_code scan_word(struct scan *s, const char *word, size_t n)
{
    if (s->n - s->at < n || memcmp(s->p + s->at, word, n) != 0)
        return refuse(s, s->at, "no JSON value");
    s->at += n;
    return EXJ_OK;
}

/* A value that holds no other. */
static exj_code scan_scalar(struct scan *s, exj_json_kind *ret_kind)
{
    switch (s->p[s->at]) {
    case '"':
        s->at++;
        *ret_kind = EXJ_JSON_STRING;
        return scan_string(s);
    case 't':
        *ret_kind = EXJ_JSON_TRUE;
        return scan_word(s, "true", 4);
    case 'f':
        *ret_kind = EXJ_JSON_FALSE;
        return scan_word(s, "false", 5);
    case 'n':
        *ret_kind = EXJ_JSON_NULL;
        return scan_word(s, "null", 4);
    default:
        return scan_number(s, ret_kind);
    }
}

static bool inside_object(const struct scan *s)
{
    unsigned bit = s->depth - 1;

    return s->in_object[bit / 64] >> (bit % 64) & 1;
}

static exj_code enter(struct scan *s, bool is_object)
{
    unsigned bit = s->depth;

    if (s->depth >= s->max_depth)
        return exj_err_set(s->err, EXJ_INVALID,
                           "not valid JSON at byte %zu: nested deeper than %u", s->at,
                           s->max_depth);
    s->at++;
    s->depth++;
    s->in_object[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
    s->in_object[bit / 64] |= (uint64_t)is_object << (bit % 64);
    return EXJ_OK;
}

/* `"key" :`, up to where the value begins. */
static exj_code scan_key(struct scan *s)
{
    exj_code rc;

    s->at = skip_space(s->p, s->n, s->at);
    if (s->at >= s->n || s->p[s->at] != '"')
        return refuse(s, s->at, "a key in quotes is wanted");
    s->at++;
    rc = scan_string(s);
    if (rc != EXJ_OK)
        return rc;
    s->at = skip_space(s->p, s->n, s->at);
    if (s->at >= s->n || s->p[s->at] != ':')
        return refuse(s, s->at, "':' is wanted after a key");
    s->at++;
    return EXJ_OK;
}

/* One round a value: enter what opens, else step over it and leave what closes. */
static exj_code scan_value(struct scan *s, exj_json_kind *ret_kind)
{
    exj_json_kind kind;
    exj_code rc;

    for (;;) {
        bool opens;
        char c;

        s->at = skip_space(s->p, s->n, s->at);
        if (s->at >= s->n)
            return refuse(s, s->at, "the text ends where a value is wanted");
        c = s->p[s->at];
        opens = c == '{' || c == '[';
        if (opens) {
            bool is_object = c == '{';

            if (s->depth == 0)
                *ret_kind = is_object ? EXJ_JSON_OBJECT : EXJ_JSON_ARRAY;
            rc = enter(s, is_object);
            if (rc != EXJ_OK)
                return rc;
            s->at = skip_space(s->p, s->n, s->at);
            if (s->at >= s->n || s->p[s->at] != (is_object ? '}' : ']')) {
                rc = is_object ? scan_key(s) : EXJ_OK;
                if (rc != EXJ_OK)
                    return rc;
                continue;
            }
        } else {
            rc = scan_scalar(s, s->depth == 0 ? ret_kind : &kind);
            if (rc != EXJ_OK)
                return rc;
        }
        while (s->depth > 0) {
            bool is_object = inside_object(s);

            s->at = skip_space(s->p, s->n, s->at);
            if (s->at >= s->n)
                return refuse(s, s->at, is_object ? "the text ends inside an object"
                                                  : "the text ends inside an array");
            c = s->p[s->at];
            if (c == (is_object ? '}' : ']')) {
                s->at++;
                s->depth--;
                continue;
            }
            if (c != ',')
                return refuse(s, s->at, is_object ? "',' or '}' is wanted"
                                                  : "',' or ']' is wanted");
            s->at++;
            if (is_object) {
                rc = scan_key(s);
                if (rc != EXJ_OK)
                    return rc;
            }
            break;
        }
        if (s->depth == 0)
            return EXJ_OK;
    }
}

exj_code exj_json_check(exj_slice text, unsigned max_depth, exj_json_kind *ret_kind,
                        exj_err *err)
{
    struct scan s = { .p = text.p, .n = text.n, .err = err };
    exj_json_kind kind = EXJ_JSON_NULL;
    exj_code rc;

    s.max_depth = max_depth < DEPTH_LIMIT ? max_depth : DEPTH_LIMIT;
    rc = scan_value(&s, &kind);
    if (rc != EXJ_OK)
        return rc;
    s.at = skip_space(s.p, s.n, s.at);
    if (s.at < s.n)
        return refuse(&s, s.at, "something follows the value");
    if (ret_kind)
        *ret_kind = kind;
    return EXJ_OK;
}

/* Behind the string whose opening quote is at `at`. Never beyond n, whatever the text. */
static size_t after_string(const char *p, size_t n, size_t at)
{
    for (at++; at < n; at++) {
        while (n - at >= 8) {
            uint64_t word;

            memcpy(&word, p + at, sizeof(word));
            if (special_bytes(word))
                break;
            at += 8;
        }
        if (at >= n)
            break;
        if (p[at] == '"')
            return at + 1;
        if (p[at] == '\\')
            at++;
    }
    return n;
}

static size_t after_value(const char *p, size_t n, size_t at)
{
    size_t depth = 0;

    while (at < n) {
        switch (p[at]) {
        case '"':
            at = after_string(p, n, at);
            break;
        case '{':
        case '[':
            depth++;
            at++;
            continue;
        case '}':
        case ']':
            if (depth == 0)
                return at;
            depth--;
            at++;
            break;
        case ',':
        case ':':
        case ' ':
        case '\n':
        case '\t':
        case '\r':
            if (depth == 0)
                return at;
            at++;
            continue;
        default: /* number, true, false, null: to what ends it */
            at++;
            if (depth == 0)
                while (at < n && !strchr(",:}] \n\t\r", p[at]))
                    at++;
            else
                continue;
            break;
        }
        if (depth == 0)
            return at;
    }
    return n;
}

static exj_json_kind kind_of(exj_slice value)
{
    switch (value.n ? value.p[0] : 'n') {
    case '{':
        return EXJ_JSON_OBJECT;
    case '[':
        return EXJ_JSON_ARRAY;
    case '"':
        return EXJ_JSON_STRING;
    case 't':
        return EXJ_JSON_TRUE;
    case 'f':
        return EXJ_JSON_FALSE;
    case 'n':
        return EXJ_JSON_NULL;
    default:
        break;
    }
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] == '.' || value.p[i] == 'e' || value.p[i] == 'E')
            return EXJ_JSON_REAL;
    return EXJ_JSON_INTEGER;
}

void exj_json_iter_init(exj_json_iter *it, exj_slice checked_object)
{
    *it = (exj_json_iter){ .text = checked_object, .kind = EXJ_JSON_NULL };
    it->at = skip_space(it->text.p, it->text.n, 0);
    if (it->at < it->text.n)
        it->at++; /* the brace */
}

bool exj_json_iter_next(exj_json_iter *it)
{
    const char *p = it->text.p;
    size_t n = it->text.n, at = it->at, from;

    at = skip_space(p, n, at);
    if (at < n && p[at] == ',')
        at = skip_space(p, n, at + 1);
    if (at >= n || p[at] != '"') {
        it->at = n;
        return false;
    }
    from = at + 1;
    at = after_string(p, n, at);
    it->key = (exj_slice){ p + from, at > from ? at - from - 1 : 0 };
    at = skip_space(p, n, at);
    if (at < n)
        at++; /* the colon */
    from = at = skip_space(p, n, at);
    at = after_value(p, n, at);
    it->value = (exj_slice){ p + from, at - from };
    it->kind = kind_of(it->value);
    it->at = at;
    return true;
}

static unsigned utf8_encode(uint32_t c, char ret[4])
{
    if (c < 0x80) {
        ret[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        ret[0] = (char)(0xc0 | c >> 6);
        ret[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        ret[0] = (char)(0xe0 | c >> 12);
        ret[1] = (char)(0x80 | (c >> 6 & 0x3f));
        ret[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    ret[0] = (char)(0xf0 | c >> 18);
    ret[1] = (char)(0x80 | (c >> 12 & 0x3f));
    ret[2] = (char)(0x80 | (c >> 6 & 0x3f));
    ret[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* The meaning of the checked escape at `at` of s; its length into *ret_n. Returns the bytes
 * that it takes up in the text, 0 for what no checked text holds. */
static size_t decode_escape(exj_slice s, size_t at, char ret[4], unsigned *ret_n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    int32_t unit, low;

    if (s.n - at < 2)
        return 0;
    if (s.p[at + 1] != 'u') {
        found = memchr(from, s.p[at + 1], sizeof(from) - 1);
        if (!found)
            return 0;
        ret[0] = to[found - from];
        *ret_n = 1;
        return 2;
    }
    unit = hex4(s.p + at + 2, s.n - at - 2);
    if (unit < 0)
        return 0;
    if (unit < 0xd800 || unit > 0xdfff) {
        *ret_n = utf8_encode((uint32_t)unit, ret);
        return 6;
    }
    low = s.n - at > 8 ? hex4(s.p + at + 8, s.n - at - 8) : -1;
    if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return 0;
    *ret_n = utf8_encode(0x10000u + (((uint32_t)unit & 0x3ff) << 10) + ((uint32_t)low & 0x3ff),
                         ret);
    return 12;
}

bool exj_json_key_is(exj_slice escaped, const char *name)
{
    size_t at = 0, n = strlen(name), k = 0;

    while (at < escaped.n) {
        char c[4];
        unsigned len;
        size_t taken;

        if (escaped.p[at] != '\\') {
            if (k >= n || escaped.p[at++] != name[k++])
                return false;
            continue;
        }
        taken = decode_escape(escaped, at, c, &len);
        if (taken == 0 || n - k < len || memcmp(name + k, c, len) != 0)
            return false;
        at += taken;
        k += len;
    }
    return k == n;
}

bool exj_json_unescape(exj_slice quoted, exj_buf *b)
{
    exj_slice s = quoted;
    size_t at = 0;

    if (s.n < 2)
        return exj_buf_add(b, NULL, 0);
    s.p++;
    s.n -= 2;
    if (!exj_buf_reserve(b, s.n)) /* the meaning is never longer than its spelling */
        return false;
    while (at < s.n) {
        const char *escape = memchr(s.p + at, '\\', s.n - at);
        size_t plain = escape ? (size_t)(escape - s.p) - at : s.n - at;
        char c[4];
        unsigned len;
        size_t taken;

        exj_buf_add(b, s.p + at, plain);
        at += plain;
        if (!escape)
            break;
        taken = decode_escape(s, at, c, &len);
        if (taken == 0)
            return false;
        exj_buf_add(b, c, len);
        at += taken;
    }
    return exj_buf_add(b, NULL, 0);
}
