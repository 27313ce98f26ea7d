#include "core/base/json.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

static const char *const good[] = {
    "{}", "[]", " [1 , 2]\n", "0", "-0", "-1.5e-3", "9223372036854775807",
    "-9223372036854775808", "1e308", "1.7976931348623157e308", "0e99999999999999999999999",
    "1e-99999999999999999999999", "0.00001e312", "\"\"", "\"\\uD83D\\uDE00\"", "true", "false",
    "null", "\"\xc3\xa4 \xf0\x9f\x98\x80\"", "{\"a\":{\"b\":[[],{},\"]\",{\"c\":null}]}}",
    "\"0123456789abcdef\\\"01234567\"", "\"\x7f\"",
};

static const char *const bad[] = {
    "", " ", "{", "}", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}",
    "{,}", "[1 2]", "{\"a\":1 \"b\":2}", "1 2", "{}x", "[}", "{]", "01", "-", "+1", ".5", "1.",
    "1e", "1e+", "0x1", "tru", "nulll", "NaN", "Infinity", "'a'", "\"", "\"\\", "\"\\x\"",
    "\"\\u12\"", "\"\\u12g4\"", "\"\\u0000\"", "\"\\uD800\"", "\"\\uDC00\"",
    "\"\\uD800\\u0041\"", "\"\\uD800\\uD800\"", "\"\\uD800", "\"a\nb\"", "\"\x01\"",
    "9223372036854775808", "-9223372036854775809", "99999999999999999999", "1e400", "-1e400",
    "1e309", "1.7976931348623159e308", "17976931348623159e292", "0.00001e314",
    "1e99999999999999999999999", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"", "\"01234567\xe2\x82\"", "\xef\xbb\xbf{}", "{\"a\":1}}", "\xa0[]",
};

Test(json, accepts_what_is_valid_in_check_and_in_parse)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        exj_err err = { 0 };
        json_t *v = NULL;

        cr_expect_eq(exj_json_check(exj_slice_of(good[i]), 64, NULL, &err), EXJ_OK, "%s: %s",
                     good[i], err.text);
        cr_expect_eq(exj_json_parse(exj_slice_of(good[i]), &v, &err), EXJ_OK, "%s: %s",
                     good[i], err.text);
        json_decref(v);
    }
}

Test(json, refuses_what_is_malformed_in_check_and_in_parse)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        exj_err err = { 0 };
        json_t *v = NULL;

        cr_expect_eq(exj_json_check(exj_slice_of(bad[i]), 64, NULL, &err), EXJ_INVALID, "%s",
                     bad[i]);
        cr_expect_eq(err.code, EXJ_INVALID);
        cr_expect_eq(exj_json_parse(exj_slice_of(bad[i]), &v, NULL), EXJ_INVALID, "%s",
                     bad[i]);
        cr_expect_null(v);
    }
}

Test(json, refuses_a_raw_nul)
{
    cr_expect_eq(exj_json_check(EXJ_SLICE_LITERAL("\"a\0b\""), 64, NULL, NULL), EXJ_INVALID);
    cr_expect_eq(exj_json_check(EXJ_SLICE_LITERAL("{}\0"), 64, NULL, NULL), EXJ_INVALID);
}

Test(json, refuses_what_is_nested_deeper_than_allowed)
{
    static const unsigned depths[] = { 1, 64, 65, 1000, 100000 };

    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        unsigned d = depths[i];
        char *text = malloc(2 * (size_t)d);
        exj_err err = { 0 };
        json_t *v = NULL;

        cr_assert(text);
        memset(text, '[', d);
        memset(text + d, ']', d);
        exj_slice s = { text, 2 * (size_t)d };
        cr_expect_eq(exj_json_check(s, 64, NULL, &err), d <= 64 ? EXJ_OK : EXJ_INVALID);
        cr_expect_eq(exj_json_check(s, 2000, NULL, NULL), d <= 1024 ? EXJ_OK : EXJ_INVALID);
        cr_expect_eq(exj_json_parse(s, &v, NULL), d <= 64 ? EXJ_OK : EXJ_INVALID);
        if (d > 64)
            cr_expect(strstr(err.text, "deeper than 64"), "%s", err.text);
        json_decref(v);
        free(text);
    }
}

Test(json, parse_refuses_duplicate_keys_however_they_are_spelled)
{
    json_t *v = NULL;
    exj_err err = { 0 };

    cr_expect_eq(exj_json_parse(exj_slice_of("{\"a\":1,\"\\u0061\":2}"), &v, &err),
                 EXJ_INVALID);
    cr_expect(strstr(err.text, "duplicate"), "%s", err.text);
}

Test(json, tells_the_kind_and_the_byte)
{
    exj_json_kind kind;
    exj_err err = { 0 };

    cr_expect_eq(exj_json_check(exj_slice_of(" [{}]"), 64, &kind, NULL), EXJ_OK);
    cr_expect_eq(kind, EXJ_JSON_ARRAY);
    cr_expect_eq(exj_json_check(exj_slice_of("1.0"), 64, &kind, NULL), EXJ_OK);
    cr_expect_eq(kind, EXJ_JSON_REAL);
    exj_json_check(exj_slice_of("[1,x]"), 64, NULL, &err);
    cr_expect(strstr(err.text, "byte 3"), "%s", err.text);
}

Test(json, never_reads_beyond_the_text_when_it_is_cut_or_changed)
{
    static const char whole[] = "{\"k\\u00e9\":[1.5e3,-7,true,null,\"\\uD83D\\uDE00 \xc3\xa4\"],"
                                "\"long name of a field\":{\"x\":false}}";
    uint64_t seed = exj_random_u64(), state = seed;

    fprintf(stderr, "seed %" PRIu64 "\n", seed);
    for (size_t n = 0; n < sizeof(whole) - 1; n++) {
        char *cut = malloc(n + 1); /* its own block: a reader that goes on is caught */

        cr_assert(cut);
        memcpy(cut, whole, n);
        cut = realloc(cut, n ? n : 1);
        cr_expect_eq(exj_json_check((exj_slice){ cut, n }, 64, NULL, NULL), EXJ_INVALID);
        exj_json_iter it;

        exj_json_iter_init(&it, (exj_slice){ cut, n });
        while (exj_json_iter_next(&it))
            ;
        free(cut);
    }
    for (unsigned round = 0; round < 20000; round++) {
        char text[sizeof(whole)];
        json_error_t why;
        json_t *v, *ours = NULL;

        memcpy(text, whole, sizeof(whole));
        for (unsigned k = 0; k < 2; k++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[(state >> 33) % (sizeof(whole) - 1)] =
                "{}[]\",:\\u0019eE+-. \x80\xc3"[(state >> 20) % 21];
        }
        exj_slice s = { text, sizeof(whole) - 1 };
        v = json_loadb(text, s.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
        exj_code rc = exj_json_parse(s, &ours, NULL);
        cr_assert_eq(rc == EXJ_OK, v != NULL, "%s", text);
        json_decref(v);
        json_decref(ours);
    }
}

Test(json, walks_the_members_of_an_object)
{
    exj_json_iter it;
    exj_buf b = EXJ_BUF_INIT;

    exj_json_iter_init(&it, exj_slice_of(" { \"a\" : \"x,}\\\"\" , \"b\\u0063\":[1,{\"z\":\"]\"}] "
                                         ",\"d\":-1 ,\"\":1e2,\"n\":null}"));
    cr_assert(exj_json_iter_next(&it));
    cr_expect(exj_slice_is(it.key, "a"));
    cr_expect(exj_slice_is(it.value, "\"x,}\\\"\""));
    cr_expect_eq(it.kind, EXJ_JSON_STRING);
    cr_expect(exj_json_unescape(it.value, &b));
    cr_expect_str_eq(b.p, "x,}\"");
    cr_assert(exj_json_iter_next(&it));
    cr_expect(exj_json_key_is(it.key, "bc"));
    cr_expect_not(exj_json_key_is(it.key, "b"));
    cr_expect_not(exj_json_key_is(it.key, "bcd"));
    cr_expect(exj_slice_is(it.value, "[1,{\"z\":\"]\"}]"));
    cr_assert(exj_json_iter_next(&it));
    cr_expect(exj_slice_is(it.value, "-1"));
    cr_expect_eq(it.kind, EXJ_JSON_INTEGER);
    cr_assert(exj_json_iter_next(&it));
    cr_expect_eq(it.key.n, 0);
    cr_expect_eq(it.kind, EXJ_JSON_REAL);
    cr_assert(exj_json_iter_next(&it));
    cr_expect_eq(it.kind, EXJ_JSON_NULL);
    cr_expect_not(exj_json_iter_next(&it));
    cr_expect_not(exj_json_iter_next(&it));
    exj_buf_release(&b);
}

Test(json, unescapes_every_escape)
{
    exj_buf b = EXJ_BUF_INIT;

    cr_expect(exj_json_unescape(
        exj_slice_of("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\u20ac\\uD83D\\uDE00\""), &b));
    cr_expect_str_eq(b.p, "\"\\/\b\f\n\r\t\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    exj_buf_release(&b);
}

Test(json, prints_in_order_and_sorted)
{
    exj_buf b = EXJ_BUF_INIT;
    json_t *v = NULL;

    cr_assert_eq(exj_json_parse(exj_slice_of("{ \"b\":1, \"a\":[true] }"), &v, NULL), EXJ_OK);
    cr_expect_eq(exj_json_print(v, false, &b, NULL), EXJ_OK);
    cr_expect_str_eq(b.p, "{\"b\":1,\"a\":[true]}");
    exj_buf_reset(&b);
    cr_expect_eq(exj_json_print(v, true, &b, NULL), EXJ_OK);
    cr_expect_str_eq(b.p, "{\"a\":[true],\"b\":1}");
    json_decref(v);
    exj_buf_release(&b);
}

/* Our reader against jansson's, which is right as long as it has memory. */
Test(json, reads_what_jansson_reads)
{
    static const char *const texts[] = {
        " { } ", "[ ]", "[[],{},[{}]]", "{\"\":{\"\":\"\"}}", " null ", "-0", "0", "-0.0", "1e3",
        "1E-400", "9223372036854775807", "-9223372036854775808", "12.5e+2", "2.2250738585072014e-308",
        "\"\\u00e9\\uD83D\\uDE00\\\\\\\"\\/\\b\\f\\n\\r\\t\"", "[1 , 2,\t3\r\n]",
        "{\"a\\u0062\" : [true , false,null ] , \"a\":\"\xc3\xa4\", \"\\\\\":{\"x\" :-1.5}}",
        "{\"a\":1,\"a\":2}", "[{\"b\":{},\"\\u0062\":0}]", "18446744073709551616", "1e999",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *ours = NULL;
        json_t *theirs = json_loads(texts[i], JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
        exj_code rc = exj_json_parse(exj_slice_of(texts[i]), &ours, NULL);

        cr_expect_eq(rc == EXJ_OK, theirs != NULL, "%s", texts[i]);
        cr_expect(!theirs || json_equal(ours, theirs), "%s", texts[i]);
        cr_expect(!theirs || json_typeof(ours) == json_typeof(theirs), "%s", texts[i]);
        json_decref(ours);
        json_decref(theirs);
    }
}
