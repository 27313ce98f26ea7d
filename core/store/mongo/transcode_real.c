/* Doubles as texts, and back. printf and strtod know the locale's decimal point, so neither is ever
 * shown one: digits and exponent go separately. */
#include "core/store/mongo/transcode_inside.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 1
#error "exact products and quotients of doubles are relied upon"
#endif

#define DIGITS_MAX 17u /* as many are always enough */
#define FEW_DECIMALS 4u
#define DECIMALS_MAX 19u /* from 0.0001 on there are no more before there are 15 digits */

static const double tens[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

/* ---- writing --------------------------------------------------------------------------------- */

struct decimal { /* 0.d1d2d3… × 10^point */
    char digits[32];
    int n, point;
};

static size_t put_exponent(char *to, int e)
{
    char text[EXJ_I64_BYTES];
    size_t n = exj_i64_text(e, text);

    to[0] = 'e';
    memcpy(to + 1, text, n);
    return n + 1;
}

/* The `precision` digits nearest to `v`, without zeros at the end. */
static void print_digits(double v, int precision, struct decimal *ret)
{
    char text[64];
    const char *p = text;

    snprintf(text, sizeof(text), "%.*e", precision - 1, v);
    ret->n = 0;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            ret->digits[ret->n++] = *p;
    ret->point = (int)strtol(p + 1, NULL, 10) + 1;
    while (ret->n > 1 && ret->digits[ret->n - 1] == '0')
        ret->n--;
}

/* The same out of all 17, which costs less. Where what goes is just a half, those were rounded
 * themselves: false. */
static bool round_digits(const struct decimal *all, int precision, struct decimal *ret)
{
    int n = precision;

    *ret = *all;
    if (all->n <= precision)
        return true;
    if (all->digits[n] == '5' && all->n == n + 1)
        return false;
    if (all->digits[n] >= '5') {
        while (n > 0 && ret->digits[n - 1] == '9')
            n--;
        if (n == 0) { /* 99… */
            ret->digits[0] = '1';
            ret->n = 1;
            ret->point++;
            return true;
        }
        ret->digits[n - 1]++;
    }
    while (n > 1 && ret->digits[n - 1] == '0')
        n--;
    ret->n = n;
    return true;
}

static bool reads_back(const struct decimal *d, double v)
{
    char text[64];

    memcpy(text, d->digits, (size_t)d->n);
    text[(size_t)d->n + put_exponent(text + d->n, d->point - d->n)] = '\0';
    return strtod(text, NULL) == v;
}

/* The fewest digits, at least `precision`, that read back as v. */
static void find_digits(double v, int precision, struct decimal *ret)
{
    struct decimal all;

    print_digits(v, (int)DIGITS_MAX, &all);
    for (; precision < (int)DIGITS_MAX; precision++) {
        if (!round_digits(&all, precision, ret))
            print_digits(v, precision, ret);
        if (reads_back(ret, v))
            return;
    }
    *ret = all;
}

/* The layout of %.17g with the digits that are there. */
static size_t lay_out(const struct decimal *d, char *to)
{
    size_t n = (size_t)d->n, at = 0, whole;

    if (d->point < -3 || d->point > (int)DIGITS_MAX) {
        to[at++] = d->digits[0];
        if (n > 1) {
            to[at++] = '.';
            memcpy(to + at, d->digits + 1, n - 1);
            at += n - 1;
        }
        return at + put_exponent(to + at, d->point - 1);
    }
    if (d->point <= 0) {
        memcpy(to, "0.000", 5);
        at = 2 + (size_t)-d->point;
        memcpy(to + at, d->digits, n);
        return at + n;
    }
    whole = (size_t)d->point;
    for (size_t i = 0; i < whole; i++)
        to[at++] = i < n ? d->digits[i] : '0';
    to[at++] = '.';
    if (n <= whole) {
        to[at++] = '0';
        return at;
    }
    memcpy(to + at, d->digits + whole, n - whole);
    return at + n - whole;
}

/* v is the double nearest to r / 10^k: both are exact, so their quotient is rounded once. */
static bool is_quotient(double v, unsigned k, uint64_t *ret)
{
    *ret = (uint64_t)(v * tens[k] + 0.5); /* below 10^15 the error of that is too small to matter */
    return (double)*ret / tens[k] == v;
}

/* Of at most 15 digits and neither large nor small, as most numbers that people write are. */
static bool is_plain(double v, struct decimal *ret)
{
    char text[EXJ_I64_BYTES];
    unsigned k = 0;
    uint64_t r = 0;

    while (k < FEW_DECIMALS && v * tens[k] < 1e15 && !is_quotient(v, k, &r))
        k++;
    if (k == FEW_DECIMALS || v * tens[k] >= 1e15) {
        /* With all 15, then; if not even those, then none. */
        k = v < 1 ? DECIMALS_MAX : 15;
        while (v * tens[k] >= 1e15)
            k--;
        if (!is_quotient(v, k, &r))
            return false;
        for (; r % 10 == 0; r /= 10)
            k--;
    }
    ret->n = (int)exj_i64_text((int64_t)r, text);
    memcpy(ret->digits, text, (size_t)ret->n);
    ret->point = ret->n - (int)k;
    return true;
}

size_t exj_real_text(double v, char ret[EXJ_REAL_TEXT_BYTES])
{
    struct decimal d;
    size_t at = 0;
    int precision = 15; /* as many are given back by any double, if it came of so many */
    bool is_middling;

    if (__builtin_signbit(v)) {
        ret[at++] = '-';
        v = -v;
    }
    if (v == 0) {
        memcpy(ret + at, "0.0", 3);
        return at + 3;
    }
    is_middling = v >= 1e-4 && v < 1e15;
    if (!is_middling || !is_plain(v, &d)) {
        if (is_middling)
            precision = 16; /* fewer were tried */
        else if (v < DBL_MIN)
            precision = 1; /* there the digits become fewer */
        find_digits(v, precision, &d);
    }
    return at + lay_out(&d, ret + at);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct number { /* ± digits × 10^exponent; the digits are where they stand, a point between them */
    bool is_negative;
    const char *p, *end; /* from the first that is not 0, to behind the last */
    int64_t exponent;
    uint64_t value; /* of the digits, while they are at most 19 */
    size_t n;       /* how many */
};

static struct number split(exj_slice s)
{
    struct number r = { 0 };
    const char *p = s.p, *end = s.p + s.n;
    int64_t exponent = 0;
    bool after_point = false, down = false;

    if (p < end && *p == '-') {
        r.is_negative = true;
        p++;
    }
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            after_point = true;
            continue;
        }
        r.exponent -= after_point;
        if (r.n == 0 && *p == '0')
            continue;
        if (!r.p)
            r.p = p;
        if (r.n++ < 19)
            r.value = r.value * 10 + (uint64_t)(*p - '0');
    }
    r.end = p;
    if (p < end)
        p++;
    if (p < end && (*p == '+' || *p == '-'))
        down = *p++ == '-';
    for (; p < end; p++) /* saturated: the digits are far fewer than that */
        if (exponent < INT64_C(1000000000000))
            exponent = exponent * 10 + (*p - '0');
    r.exponent += down ? -exponent : exponent;
    return r;
}

/* "digits e exponent" for strtod. */
static bool read_slowly(const struct number *r, exj_buf *spare, double *ret)
{
    const char *dot = memchr(r->p, '.', (size_t)(r->end - r->p));
    const char *whole_end = dot ? dot : r->end;

    exj_buf_reset(spare);
    exj_buf_add(spare, r->p, (size_t)(whole_end - r->p));
    if (dot)
        exj_buf_add(spare, dot + 1, (size_t)(r->end - dot - 1));
    exj_buf_add_char(spare, 'e');
    if (!exj_buf_add_i64(spare, r->exponent))
        return false;
    *ret = strtod(spare->p, NULL);
    return true;
}

bool exj_real_parse(exj_slice checked, exj_buf *spare, double *ret)
{
    struct number r = split(checked);
    double v;

    if (r.n == 0) {
        v = 0;
    } else if (r.n <= 15 && r.exponent >= -22 && r.exponent <= 22) {
        /* Both are exact, so there is one rounding. */
        v = (double)r.value;
        v = r.exponent < 0 ? v / tens[-r.exponent] : v * tens[r.exponent];
    } else if (!read_slowly(&r, spare, &v)) {
        return false;
    }
    *ret = r.is_negative ? -v : v;
    return true;
}
