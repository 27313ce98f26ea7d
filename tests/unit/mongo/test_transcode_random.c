/* Both ways of the transcoder over random documents, held against jansson (what the text means),
 * libbson (what the bytes are) and printf (what a double's digits are). */
#include "core/store/mongo/transcode.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

static uint64_t state;

static uint32_t below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 32) * n >> 32);
}

static uint64_t bits64(void)
{
    uint64_t high = below(UINT32_MAX);

    return high << 32 | below(UINT32_MAX);
}

static void seeded(void)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : exj_random_u64();

    fprintf(stderr, "EXJ_TEST_SEED=%" PRIu64 "\n", seed);
    state = seed;
}

/* ---- what the canonical text must be, by other means ----------------------------------------- */

static void add_double(exj_buf *b, double v)
{
    char digits[40], text[80];
    int precision = 1, exponent, n = 0;

    if (v == 0) {
        exj_buf_add_text(b, signbit(v) ? "-0.0" : "0.0");
        return;
    }
    do
        snprintf(text, sizeof(text), "%.*e", precision - 1, fabs(v));
    while (strtod(text, NULL) != fabs(v) && precision++ < 17);
    exponent = atoi(strchr(text, 'e') + 1);
    for (const char *p = text; *p != 'e'; p++)
        if (*p != '.')
            digits[n++] = *p;
    if (signbit(v))
        exj_buf_add_char(b, '-');
    if (exponent < -4 || exponent >= 17) {
        exj_buf_printf(b, "%c%s%.*se%d", digits[0], n > 1 ? "." : "", n - 1, digits + 1, exponent);
    } else if (exponent < 0) {
        exj_buf_printf(b, "0.%.*s%.*s", -exponent - 1, "000", n, digits);
    } else {
        while (n <= exponent + 1)
            digits[n++] = '0';
        exj_buf_printf(b, "%.*s.%.*s", exponent + 1, digits, n - exponent - 1,
                       digits + exponent + 1);
    }
}

static void add_string(exj_buf *b, const char *p, size_t n)
{
    exj_buf_add_char(b, '"');
    for (size_t i = 0; i < n; i++) {
        static const char odd[] = "\"\\\b\f\n\r\t", as[] = "\"\\bfnrt";
        const char *found = p[i] ? strchr(odd, p[i]) : NULL;

        if (found)
            exj_buf_printf(b, "\\%c", as[found - odd]);
        else if ((unsigned char)p[i] < 0x20)
            exj_buf_printf(b, "\\u%04x", (unsigned)p[i]);
        else
            exj_buf_add_char(b, p[i]);
    }
    exj_buf_add_char(b, '"');
}

static void add_canonical(exj_buf *b, json_t *v)
{
    const char *key, *comma = "";
    json_t *item;
    size_t i;

    switch (json_typeof(v)) {
    case JSON_OBJECT:
        exj_buf_add_char(b, '{');
        json_object_foreach(v, key, item) {
            exj_buf_add_text(b, comma);
            add_string(b, key, strlen(key));
            exj_buf_add_char(b, ':');
            add_canonical(b, item);
            comma = ",";
        }
        exj_buf_add_char(b, '}');
        break;
    case JSON_ARRAY:
        exj_buf_add_char(b, '[');
        json_array_foreach(v, i, item) {
            exj_buf_add_text(b, comma);
            add_canonical(b, item);
            comma = ",";
        }
        exj_buf_add_char(b, ']');
        break;
    case JSON_STRING:
        add_string(b, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        exj_buf_printf(b, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        add_double(b, json_real_value(v));
        break;
    default:
        exj_buf_add_text(b, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
    }
}

static void append_by_libbson(bson_t *b, const char *key, json_t *v)
{
    const char *name;
    bson_t child;
    json_t *item;
    size_t i;

    switch (json_typeof(v)) {
    case JSON_OBJECT:
        BSON_APPEND_DOCUMENT_BEGIN(b, key, &child);
        json_object_foreach(v, name, item)
            append_by_libbson(&child, name, item);
        bson_append_document_end(b, &child);
        break;
    case JSON_ARRAY:
        BSON_APPEND_ARRAY_BEGIN(b, key, &child);
        json_array_foreach(v, i, item) {
            char index[16];

            snprintf(index, sizeof(index), "%zu", i);
            append_by_libbson(&child, index, item);
        }
        bson_append_array_end(b, &child);
        break;
    case JSON_STRING:
        bson_append_utf8(b, key, -1, json_string_value(v), (int)json_string_length(v));
        break;
    case JSON_INTEGER:
        BSON_APPEND_INT64(b, key, json_integer_value(v));
        break;
    case JSON_REAL:
        BSON_APPEND_DOUBLE(b, key, json_real_value(v));
        break;
    case JSON_NULL:
        BSON_APPEND_NULL(b, key);
        break;
    default:
        BSON_APPEND_BOOL(b, key, json_is_true(v));
    }
}

/* ---- random texts ---------------------------------------------------------------------------- */

static void add_space(exj_buf *b)
{
    while (below(6) == 0)
        exj_buf_add_char(b, " \t\r\n"[below(4)]);
}

static void add_random_string(exj_buf *b, const char *begin)
{
    static const char *const pieces[] = {
        "a", "Z", " ", "$", ".", "/", "\x7f", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
        "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0001", "\\u001F", "\\u0041",
        "\\u00E4", "\\u20ac", "\\uD83D\\uDE00", "\\uFFFF", "plain text of some length, and more",
    };
    unsigned n = below(4) == 0 ? below(40) : below(5);

    exj_buf_add_char(b, '"');
    exj_buf_add_text(b, begin);
    while (n-- > 0)
        exj_buf_add_text(b, pieces[below(sizeof(pieces) / sizeof(pieces[0]))]);
    exj_buf_add_char(b, '"');
}

static void add_random_digits(exj_buf *b, unsigned n)
{
    while (n-- > 0)
        exj_buf_add_char(b, (char)('0' + below(10)));
}

static double random_double(void)
{
    double v;

    do {
        uint64_t bits = bits64();

        if (below(8) == 0) /* a power of two: its neighbours are not equally far */
            bits &= UINT64_C(0xfff) << 52;
        if (below(8) == 0) /* subnormal */
            bits &= ~(UINT64_C(0x7ff) << 52);
        memcpy(&v, &bits, sizeof(v));
    } while (!isfinite(v));
    return v;
}

static void add_random_number(exj_buf *b)
{
    static const int64_t edges[] = { 0, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1LL << 53 };

    switch (below(6)) {
    case 0:
        exj_buf_add_i64(b, (int64_t)bits64() >> below(64));
        break;
    case 1:
        exj_buf_add_i64(b, edges[below(6)]);
        break;
    case 2:
        exj_buf_printf(b, "%.*e", (int)below(20), random_double());
        break;
    case 3: /* as people write them */
        exj_buf_printf(b, "%s%u.", below(2) ? "-" : "", below(2000));
        add_random_digits(b, 1 + below(6));
        break;
    case 4:
        exj_buf_printf(b, "%s%u.", below(2) ? "-" : "", below(10));
        add_random_digits(b, 1 + below(30));
        exj_buf_printf(b, "%c%s%u", "eE"[below(2)], below(2) ? "-" : "+", below(300));
        break;
    default:
        exj_buf_printf(b, "%s0.", below(2) ? "-" : "");
        for (unsigned n = below(12); n > 0; n--)
            exj_buf_add_char(b, '0');
        add_random_digits(b, 1 + below(25));
    }
}

static void add_random_value(exj_buf *b, unsigned depth);

static void add_random_members(exj_buf *b, unsigned depth)
{
    unsigned n = below(20) == 0 ? below(60) : below(6);
    bool is_object = below(2);

    exj_buf_add_char(b, is_object ? '{' : '[');
    for (unsigned i = 0; i < n; i++) {
        char begin[16];

        if (i > 0)
            exj_buf_add_char(b, ',');
        add_space(b);
        if (is_object) {
            snprintf(begin, sizeof(begin), "%u", i); /* no key twice */
            add_random_string(b, i == 0 && below(2) ? "" : begin);
            add_space(b);
            exj_buf_add_char(b, ':');
            add_space(b);
        }
        add_random_value(b, depth - 1);
        add_space(b);
    }
    exj_buf_add_char(b, is_object ? '}' : ']');
}

static void add_random_value(exj_buf *b, unsigned depth)
{
    static const char *const words[] = { "true", "false", "null" };

    switch (below(depth > 0 ? 8 : 5)) {
    case 0:
        exj_buf_add_text(b, words[below(3)]);
        break;
    case 1:
    case 2:
        add_random_string(b, "");
        break;
    case 3:
    case 4:
        add_random_number(b);
        break;
    default:
        add_random_members(b, depth);
    }
}

/* ---- properties ------------------------------------------------------------------------------ */

static void check_text(exj_slice text)
{
    bson_t got = BSON_INITIALIZER, again = BSON_INITIALIZER, want = BSON_INITIALIZER;
    exj_buf canonical = EXJ_BUF_INIT, out = EXJ_BUF_INIT;
    exj_err err = { 0 };
    json_t *v = NULL;
    bson_iter_t it;
    exj_code rc = exj_json_parse(text, &v, &err);

    /* A first key that begins with a digit may be another one's: then both refuse. */
    cr_assert_eq(exj_bson_append_json(&got, "v", text, NULL, NULL), rc, "%s: %s", text.p, err.text);
    if (rc == EXJ_OK) {
        append_by_libbson(&want, "v", v);
        add_canonical(&canonical, v);
        cr_assert(bson_equal(&want, &got), "other bytes than libbson's: %s", text.p);
        cr_assert(bson_iter_init_find(&it, &got, "v"));
        cr_assert_eq(exj_bson_value_to_json(&it, NULL, &out, &err), EXJ_OK, "%s: %s", text.p,
                     err.text);
        cr_assert_str_eq(out.p, canonical.p, "%s\nwanted %s\ngot    %s", text.p, canonical.p, out.p);
        cr_assert_leq(canonical.n, 4 * text.n + 64, "%s\nbecame %s", text.p, out.p);
        cr_assert_eq(exj_bson_append_json(&again, "v", exj_buf_slice(&out), NULL, &err), EXJ_OK,
                     "%s: %s", out.p, err.text);
        cr_assert(bson_equal(&got, &again), "not the same again: %s", text.p);
    }
    json_decref(v);
    exj_buf_release(&canonical);
    exj_buf_release(&out);
    bson_destroy(&want);
    bson_destroy(&again);
    bson_destroy(&got);
}

Test(transcode_random, texts_come_back_in_canonical_form_and_documents_as_they_were)
{
    exj_buf text = EXJ_BUF_INIT;

    seeded();
    for (unsigned round = 0; round < 4000; round++) {
        exj_buf_reset(&text);
        add_space(&text);
        add_random_value(&text, 1 + below(6));
        add_space(&text);
        check_text(exj_buf_slice(&text));
    }
    exj_buf_release(&text);
}

static void check_double(double v)
{
    exj_buf want = EXJ_BUF_INIT, got = EXJ_BUF_INIT;
    bson_t b = BSON_INITIALIZER, back = BSON_INITIALIZER;

    exj_buf_add_text(&want, "{\"\":");
    add_double(&want, v);
    exj_buf_add_char(&want, '}');
    BSON_APPEND_DOUBLE(&b, "", v);
    cr_assert_eq(exj_bson_to_json(&b, NULL, &got, NULL), EXJ_OK);
    cr_assert_str_eq(got.p, want.p, "%a: wanted %s, got %s", v, want.p, got.p);
    cr_assert_eq(exj_bson_from_json(exj_buf_slice(&got), NULL, &back, NULL), EXJ_OK);
    cr_assert(bson_equal(&b, &back), "%a is not what %s reads as", v, got.p);
    exj_buf_release(&want);
    exj_buf_release(&got);
    bson_destroy(&b);
    bson_destroy(&back);
}

Test(transcode_random, doubles_have_the_fewest_digits_that_read_back)
{
    seeded();
    for (int e = -1074; e < 1024; e++) {
        check_double(ldexp(1, e));
        check_double(nextafter(ldexp(1, e), 0));
    }
    for (int e = -324; e <= 308; e++) {
        double v = pow(10, e);

        check_double(v);
        check_double(nextafter(v, 0));
        check_double(nextafter(v, INFINITY));
        check_double(v / -3);
    }
    for (unsigned round = 0; round < 20000; round++) {
        double plain = (double)(bits64() >> (10 + below(54))) / pow(10, below(20));

        check_double(random_double());
        check_double(plain);
        check_double(nextafter(plain, 0));
    }
}

/* Numbers are read as strtod reads them, in the C locale of this test. */
Test(transcode_random, numbers_read_as_the_nearest_double)
{
    exj_buf text = EXJ_BUF_INIT;

    seeded();
    for (unsigned round = 0; round < 20000; round++) {
        bson_t b = BSON_INITIALIZER;
        bson_iter_t it;
        double v;

        exj_buf_reset(&text);
        add_random_number(&text);
        cr_assert_eq(exj_bson_append_json(&b, "v", exj_buf_slice(&text), NULL, NULL),
                     exj_json_check(exj_buf_slice(&text), 0, NULL, NULL), "%s", text.p);
        if (bson_iter_init_find(&it, &b, "v") && BSON_ITER_HOLDS_DOUBLE(&it)) {
            double want = strtod(text.p, NULL);

            v = bson_iter_double(&it);
            cr_assert_eq(memcmp(&v, &want, sizeof(v)), 0, "%s: %a, not %a", text.p, v, want);
        }
        bson_destroy(&b);
    }
    exj_buf_release(&text);
}
