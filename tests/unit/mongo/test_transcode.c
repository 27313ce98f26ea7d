/* JSON to BSON and back: what each text and each type of BSON becomes, and what is refused. */
#include "core/store/mongo/transcode.h"

#include <criterion/criterion.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* `text` as a member of a document, and back. */
static exj_code through(const char *text, exj_buf *out, exj_err *err)
{
    bson_t b = BSON_INITIALIZER;
    bson_iter_t it;
    exj_code rc = exj_bson_append_json(&b, "v", exj_slice_of(text), NULL, err);

    if (rc == EXJ_OK) {
        cr_assert(bson_iter_init_find(&it, &b, "v"));
        rc = exj_bson_value_to_json(&it, NULL, out, err);
    }
    bson_destroy(&b);
    return rc;
}

static void expect_canonical(const char *text, const char *canonical)
{
    exj_buf out = EXJ_BUF_INIT;
    exj_err err = { 0 };

    cr_expect_eq(through(text, &out, &err), EXJ_OK, "%s: %s", text, err.text);
    cr_expect_str_eq(out.p ? out.p : "nothing", canonical, "%s became %s", text, out.p);
    exj_buf_reset(&out);
    cr_expect_eq(through(canonical, &out, NULL), EXJ_OK);
    cr_expect_str_eq(out.p ? out.p : "nothing", canonical, "canonical, but became %s", out.p);
    exj_buf_release(&out);
}

Test(transcode, a_text_comes_back_in_canonical_form)
{
    static const char *const table[][2] = {
        { " null ", "null" },
        { "true", "true" },
        { "false", "false" },
        { "{ }", "{}" },
        { "[ ]", "[]" },
        { "[1 , 2,\n3]", "[1,2,3]" },
        { "{ \"b\" : 1 , \"a\" : 2 }", "{\"b\":1,\"a\":2}" },
        { "{\"a\":{\"b\":[[],{},\"]\",{\"c\":null}]},\"d\":[{}]}",
          "{\"a\":{\"b\":[[],{},\"]\",{\"c\":null}]},\"d\":[{}]}" },
        { "[0,1,2,3,4,5,6,7,8,9,10,11,[12]]", "[0,1,2,3,4,5,6,7,8,9,10,11,[12]]" },
        /* Strings. */
        { "\"\"", "\"\"" },
        { "\"a\\/b\"", "\"a/b\"" },
        { "\"\\u0041\\u00e4\\uD83D\\uDE00\"", "\"A\xc3\xa4\xf0\x9f\x98\x80\"" },
        { "\"\\\"\\\\\\b\\f\\n\\r\\t\"", "\"\\\"\\\\\\b\\f\\n\\r\\t\"" },
        { "\"\\u0022\\u005C\\u0008\\u000C\\u000A\\u000D\\u0009\"",
          "\"\\\"\\\\\\b\\f\\n\\r\\t\"" },
        { "\"\\u001F\\u0001\\u007f\\u2028\"", "\"\\u001f\\u0001\x7f\xe2\x80\xa8\"" },
        { "\"\\\\\\\"\\\\\"", "\"\\\\\\\"\\\\\"" },
        /* Keys that mean something to others. */
        { "{\"$set\":{\"a.b\":1},\"\":2,\"$date\":\"x\",\"a.$.b\":3}",
          "{\"$set\":{\"a.b\":1},\"\":2,\"$date\":\"x\",\"a.$.b\":3}" },
        { "{\"$oid\":\"0123456789abcdef01234567\"}", "{\"$oid\":\"0123456789abcdef01234567\"}" },
        { "{\"\\u00e4\\\"\\n\":1}", "{\"\xc3\xa4\\\"\\n\":1}" },
        { "{\"a\":1,\"A\":2,\"a \":3}", "{\"a\":1,\"A\":2,\"a \":3}" },
        /* Integers. */
        { "0", "0" },
        { "-0", "0" },
        { "5", "5" },
        { "-7", "-7" },
        { "2147483648", "2147483648" },
        { "9007199254740993", "9007199254740993" },
        { "9223372036854775807", "9223372036854775807" },
        { "-9223372036854775808", "-9223372036854775808" },
        /* Doubles. */
        { "0.0", "0.0" },
        { "-0.0", "-0.0" },
        { "-0e7", "-0.0" },
        { "5.0", "5.0" },
        { "1e3", "1000.0" },
        { "1E+3", "1000.0" },
        { "0.1", "0.1" },
        { "0.10000000000000001", "0.1" },
        { "0.30000000000000004", "0.30000000000000004" },
        { "-12.50", "-12.5" },
        { "100.25", "100.25" },
        { "0.0001", "0.0001" },
        { "0.000123456789012345", "0.000123456789012345" },
        { "0.00099999999999999999", "0.001" },
        { "0.00001", "1e-5" },
        { "1.5e-7", "1.5e-7" },
        { "999999999999999.0", "999999999999999.0" },
        { "99999999999999.95", "99999999999999.95" },
        { "1e15", "1000000000000000.0" },
        { "1e16", "10000000000000000.0" },
        { "9007199254740993.0", "9007199254740992.0" },
        { "12345678901234567.0", "12345678901234568.0" },
        { "99999999999999990.0", "99999999999999980.0" }, /* nearest: …84, 16 digits */
        { "1e17", "1e17" },
        { "123456789012345678.0", "1.2345678901234568e17" },
        { "1e22", "1e22" },
        { "1e23", "1e23" },
        { "1e300", "1e300" },
        { "1.7976931348623157e308", "1.7976931348623157e308" },
        { "2.2250738585072014e-308", "2.2250738585072014e-308" },
        { "2.2250738585072011e-308", "2.225073858507201e-308" },
        { "5e-324", "5e-324" },
        { "4.9e-324", "5e-324" },
        { "1e-400", "0.0" },
        { "-1e-400", "-0.0" },
        { "0.00001e312", "1e307" },
        { "0e99999999999999999999999", "0.0" },
        { "1e-99999999999999999999999", "0.0" },
        { "123456789012345678.901234567890e2", "1.2345678901234567e19" },
    };

    for (size_t i = 0; i < COUNT(table); i++)
        expect_canonical(table[i][0], table[i][1]);
}

Test(transcode, integers_are_int64_and_other_numbers_doubles)
{
    bson_t b = BSON_INITIALIZER;
    bson_iter_t it;

    cr_assert_eq(exj_bson_from_json(EXJ_SLICE_LITERAL("{\"i\":5,\"d\":5.0,\"e\":5e0}"), NULL, &b,
                                    NULL), EXJ_OK);
    cr_assert(bson_iter_init_find(&it, &b, "i") && BSON_ITER_HOLDS_INT64(&it));
    cr_expect_eq(bson_iter_int64(&it), 5);
    cr_assert(bson_iter_init_find(&it, &b, "d") && BSON_ITER_HOLDS_DOUBLE(&it));
    cr_expect(bson_iter_double(&it) == 5.0);
    cr_assert(bson_iter_init_find(&it, &b, "e") && BSON_ITER_HOLDS_DOUBLE(&it));
    bson_destroy(&b);
}

/* Byte for byte what libbson makes of the same members. */
Test(transcode, the_bytes_are_those_of_libbson)
{
    static const char text[] = "{\"s\":\"x\\ny\",\"o\":{\"n\":null,\"t\":true},\"a\":[1,[],-2.5]}";
    bson_t want = BSON_INITIALIZER, got = BSON_INITIALIZER, child, inner;
    exj_buf bytes = EXJ_BUF_INIT;

    BSON_APPEND_UTF8(&want, "s", "x\ny");
    BSON_APPEND_DOCUMENT_BEGIN(&want, "o", &child);
    BSON_APPEND_NULL(&child, "n");
    BSON_APPEND_BOOL(&child, "t", true);
    bson_append_document_end(&want, &child);
    BSON_APPEND_ARRAY_BEGIN(&want, "a", &child);
    BSON_APPEND_INT64(&child, "0", 1);
    BSON_APPEND_ARRAY_BEGIN(&child, "1", &inner);
    bson_append_array_end(&child, &inner);
    BSON_APPEND_DOUBLE(&child, "2", -2.5);
    bson_append_array_end(&want, &child);

    cr_assert_eq(exj_bson_from_json(exj_slice_of(text), NULL, &got, NULL), EXJ_OK);
    cr_expect(bson_equal(&want, &got));
    cr_assert(exj_buf_add_text(&bytes, "in front"));
    cr_assert_eq(exj_bson_encode(exj_slice_of(text), NULL, &bytes, NULL), EXJ_OK);
    cr_assert_eq(bytes.n, 8 + want.len);
    cr_expect_eq(memcmp(bytes.p, "in front", 8), 0);
    cr_expect_eq(memcmp(bytes.p + 8, bson_get_data(&want), want.len), 0);
    exj_buf_release(&bytes);
    bson_destroy(&got);
    bson_destroy(&want);
}

Test(transcode, what_is_appended_stands_behind_what_was_there)
{
    bson_t b = BSON_INITIALIZER;
    exj_buf out = EXJ_BUF_INIT;

    BSON_APPEND_INT32(&b, "first", 1);
    cr_assert_eq(exj_bson_from_json(EXJ_SLICE_LITERAL("{\"a\":1,\"b\":[]}"), NULL, &b, NULL),
                 EXJ_OK);
    cr_assert_eq(exj_bson_append_json(&b, "last", EXJ_SLICE_LITERAL("[\"x\"]"), NULL, NULL), EXJ_OK);
    cr_assert_eq(exj_bson_from_json(EXJ_SLICE_LITERAL("{}"), NULL, &b, NULL), EXJ_OK);
    cr_assert(exj_buf_add_text(&out, "> "));
    cr_assert_eq(exj_bson_to_json(&b, NULL, &out, NULL), EXJ_OK);
    cr_expect_str_eq(out.p, "> {\"first\":1,\"a\":1,\"b\":[],\"last\":[\"x\"]}");
    exj_buf_release(&out);
    bson_destroy(&b);
}

/* ---- texts that are refused ------------------------------------------------------------------ */

static void expect_refused(exj_slice text, const exj_bson_limits *limits, const char *words)
{
    bson_t b = BSON_INITIALIZER;
    exj_buf bytes = EXJ_BUF_INIT;
    exj_err err = { 0 };

    cr_expect_eq(exj_bson_from_json(text, limits, &b, &err), EXJ_INVALID, "%.60s", text.p);
    cr_expect(strstr(err.text, words), "%.60s: wanted '%s', got '%s'", text.p, words, err.text);
    cr_expect_eq(b.len, 5u, "a failure changed the document");
    cr_assert(exj_buf_add_text(&bytes, "kept"));
    cr_expect_eq(exj_bson_encode(text, limits, &bytes, NULL), EXJ_INVALID);
    cr_expect_str_eq(bytes.p, "kept");
    exj_buf_release(&bytes);
    bson_destroy(&b);
}

Test(transcode, a_refused_text_says_where)
{
    static const char *const table[][2] = {
        { "{\"a\":1,\"a\":2}", "byte 7: duplicate object key" },
        { "{\"a\":1,\"b\":{\"x\":0,\"\\u0078\":2}}", "byte 18: duplicate object key" },
        { "{\"\":1,\"\":2}", "byte 6: duplicate object key" },
        { "[{\"a\":1}]", "a document must be a JSON object, not an array" },
        { "\"x\"", "not a string" },
        { "12", "not a number" },
        { "{\"a\":\"x\\u0000y\"}", "byte 7: \\u0000 (NUL) is not allowed" },
        { "{\"a\\u0000\":1}", "byte 3: \\u0000 (NUL) is not allowed" },
        { "{\"a\":9223372036854775808}", "byte 5: an integer outside 64 bits" },
        { "{\"a\":1e400}", "byte 5: a number too large to be finite" },
        { "{\"a\":\"\xff\"}", "byte 6: bytes that are not UTF-8" },
        { "{\"a\":1", "byte 6: the text ends inside an object" },
        { "{} {}", "byte 3: something follows the value" },
    };
    static const char raw_nul[] = "{\"a\":\"x\0y\"}";

    for (size_t i = 0; i < COUNT(table); i++)
        expect_refused(exj_slice_of(table[i][0]), NULL, table[i][1]);
    expect_refused((exj_slice){ raw_nul, sizeof(raw_nul) - 1 }, NULL, "byte 7: raw NUL byte");
    expect_refused((exj_slice){ NULL, 0 }, NULL, "byte 0: the text ends where a value is wanted");
}

/* Many keys are compared otherwise than few. */
Test(transcode, a_duplicate_among_many_keys_is_found)
{
    for (unsigned n = 2; n <= 300; n += n < 30 ? 1 : 27) {
        exj_buf text = EXJ_BUF_INIT;
        exj_err err = { 0 };
        bson_t b = BSON_INITIALIZER;
        char words[60];

        exj_buf_add_char(&text, '{');
        for (unsigned i = 0; i < n; i++)
            exj_buf_printf(&text, "%s\"key %u\":%u", i ? "," : "", i * 7919 % 1000, i);
        exj_buf_add_char(&text, '}');
        cr_expect_eq(exj_bson_from_json(exj_buf_slice(&text), NULL, &b, &err), EXJ_OK, "%u: %s", n,
                     err.text);
        text.n--;
        /* The first that was there before is told. */
        snprintf(words, sizeof(words), "byte %zu: duplicate object key", text.n + 1);
        for (unsigned i = n; i-- > 0;)
            exj_buf_printf(&text, ",\"key %u\":[]", i * 7919 % 1000);
        exj_buf_add_char(&text, '}');
        expect_refused(exj_buf_slice(&text), NULL, words);
        bson_destroy(&b);
        exj_buf_release(&text);
    }
}

static void nest(exj_buf *text, unsigned depth, bool in_arrays)
{
    exj_buf_add_text(text, "{\"a\":");
    for (unsigned i = 1; i < depth; i++)
        exj_buf_add_text(text, in_arrays ? "[" : "{\"a\":");
    exj_buf_add_char(text, '1');
    for (unsigned i = 1; i < depth; i++)
        exj_buf_add_char(text, in_arrays ? ']' : '}');
    exj_buf_add_char(text, '}');
}

Test(transcode, depth_is_bounded_both_ways)
{
    for (unsigned in_arrays = 0; in_arrays < 2; in_arrays++) {
        exj_buf text = EXJ_BUF_INIT, out = EXJ_BUF_INIT;
        exj_bson_limits lower = { .depth = 63 };
        exj_err err = { 0 };
        bson_t b = BSON_INITIALIZER, outer = BSON_INITIALIZER;
        bson_iter_t it;

        nest(&text, 64, in_arrays);
        cr_assert_eq(exj_bson_from_json(exj_buf_slice(&text), NULL, &b, NULL), EXJ_OK);
        cr_assert_eq(exj_bson_to_json(&b, NULL, &out, &err), EXJ_OK, "%s", err.text);
        cr_expect_str_eq(out.p, text.p);
        cr_expect_eq(exj_bson_to_json(&b, &lower, &out, &err), EXJ_INVALID);
        cr_expect(strstr(err.text, "nested deeper than 63"), "%s", err.text);
        cr_expect_str_eq(out.p, text.p, "a failure changed the output");

        /* Under a key the value has 64 levels of its own; the document around it is one more. */
        cr_assert_eq(exj_bson_append_json(&outer, "v", exj_buf_slice(&text), NULL, NULL), EXJ_OK);
        cr_assert(bson_iter_init_find(&it, &outer, "v"));
        cr_expect_eq(exj_bson_value_to_json(&it, NULL, &out, NULL), EXJ_OK);
        cr_expect_eq(exj_bson_to_json(&outer, NULL, &out, NULL), EXJ_INVALID);
        expect_refused(exj_buf_slice(&text), &lower, "nested deeper than 63");
        exj_buf_reset(&text);
        nest(&text, 65, in_arrays);
        expect_refused(exj_buf_slice(&text), NULL, "nested deeper than 64");
        bson_destroy(&outer);
        bson_destroy(&b);
        exj_buf_release(&out);
        exj_buf_release(&text);
    }
}

Test(transcode, the_size_of_the_document_is_bounded)
{
    static const char text[] = "{\"a\":\"0123456789\",\"b\":[1,2]}";
    bson_t b = BSON_INITIALIZER, full = BSON_INITIALIZER;
    exj_bson_limits limits = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_bson_from_json(exj_slice_of(text), NULL, &b, NULL), EXJ_OK);
    limits.bson_bytes = b.len;
    cr_expect_eq(exj_bson_from_json(exj_slice_of(text), &limits, &full, &err), EXJ_OK, "%s",
                 err.text);
    /* What is there counts. */
    cr_expect_eq(exj_bson_append_json(&full, "c", EXJ_SLICE_LITERAL("null"), &limits, &err),
                 EXJ_INVALID);
    cr_expect(strstr(err.text, "as BSON it would have more than"), "%s", err.text);
    limits.bson_bytes = b.len + 3;
    cr_expect_eq(exj_bson_append_json(&full, "c", EXJ_SLICE_LITERAL("null"), &limits, NULL), EXJ_OK);
    for (size_t most = 1; most < b.len; most++) {
        limits.bson_bytes = most;
        expect_refused(exj_slice_of(text), &limits, "as BSON it would have more than");
    }
    bson_destroy(&full);
    bson_destroy(&b);
}

Test(transcode, large_texts_are_taken_up_to_the_limits)
{
    size_t n = EXJ_BSON_MAX_BYTES - 5 - 3 - 4 - 1;
    exj_buf text = EXJ_BUF_INIT, out = EXJ_BUF_INIT;
    exj_bson_limits limits = { 0 };
    bson_t b = BSON_INITIALIZER;
    exj_err err = { 0 };

    cr_assert(exj_buf_reserve(&text, n + 64));
    exj_buf_add_text(&text, "{\"a\":\"");
    memset(text.p + text.n, 'x', n);
    text.n += n;
    exj_buf_add_text(&text, "\"}");
    cr_assert_eq(exj_bson_from_json(exj_buf_slice(&text), NULL, &b, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(b.len, EXJ_BSON_MAX_BYTES);
    cr_assert_eq(exj_bson_to_json(&b, NULL, &out, NULL), EXJ_OK);
    cr_expect(exj_slice_equal(exj_buf_slice(&out), exj_buf_slice(&text)));
    limits.text_bytes = text.n;
    cr_expect_eq(exj_bson_to_json(&b, &limits, &out, NULL), EXJ_OK);
    limits.text_bytes--;
    cr_expect_eq(exj_bson_to_json(&b, &limits, &out, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "the JSON has more than"), "%s", err.text);
    text.n -= 2;
    exj_buf_add_text(&text, "y\"}");
    expect_refused(exj_buf_slice(&text), NULL, "as BSON it would have more than 15728640 bytes");
    exj_buf_reset(&text);
    cr_assert(exj_buf_reserve(&text, EXJ_JSON_MAX_BYTES + 1));
    memset(text.p, ' ', EXJ_JSON_MAX_BYTES + 1);
    memcpy(text.p, "{}", 2);
    text.n = EXJ_JSON_MAX_BYTES + 1;
    expect_refused(exj_buf_slice(&text), NULL, "JSON of 16777217 bytes");
    bson_destroy(&b);
    exj_buf_release(&out);
    exj_buf_release(&text);
}

/* Texts in which looking twice at each byte would take minutes. */
Test(transcode, hostile_texts_take_linear_time, .timeout = 60)
{
    static const char *const pieces[] = { "\\\"", "\\n", "\\\\", "0", "x" };
    size_t n = 2000000;

    for (size_t i = 0; i < COUNT(pieces); i++) {
        bool is_number = pieces[i][0] == '0';
        exj_buf text = EXJ_BUF_INIT;
        exj_err err = { 0 };
        bson_t b = BSON_INITIALIZER;

        for (unsigned d = 0; d < 64; d++)
            exj_buf_add_text(&text, "{\"a\":");
        exj_buf_add_text(&text, is_number ? "1." : "\"");
        for (size_t k = 0; k < n; k++)
            exj_buf_add_text(&text, pieces[i]);
        exj_buf_add_text(&text, is_number ? "1" : "\"");
        for (unsigned d = 0; d < 64; d++)
            exj_buf_add_char(&text, '}');
        cr_expect_eq(exj_bson_from_json(exj_buf_slice(&text), NULL, &b, &err), EXJ_OK, "%s",
                     err.text);
        bson_destroy(&b);
        exj_buf_release(&text);
    }
}

Test(transcode, an_object_of_very_many_keys_takes_no_minutes, .timeout = 60)
{
    exj_buf text = EXJ_BUF_INIT, out = EXJ_BUF_INIT;
    bson_t b = BSON_INITIALIZER;
    exj_err err = { 0 };

    for (unsigned i = 0; i < 400000; i++)
        exj_buf_printf(&text, "%c\"%x\":null", i ? ',' : '{', i * 2654435761u);
    exj_buf_add_char(&text, '}');
    cr_assert_eq(exj_bson_from_json(exj_buf_slice(&text), NULL, &b, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_bson_to_json(&b, NULL, &out, &err), EXJ_OK, "%s", err.text);
    cr_expect(exj_slice_equal(exj_buf_slice(&out), exj_buf_slice(&text)));
    exj_buf_release(&text);
    exj_buf_release(&out);
    bson_destroy(&b);
}

Test(transcode, a_locale_with_a_decimal_comma_changes_nothing)
{
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "ps_AF.UTF-8", "de_DE" };
    size_t i = 0;

    while (i < COUNT(names) && !setlocale(LC_NUMERIC, names[i]))
        i++;
    if (i == COUNT(names))
        cr_skip_test("this machine has no such locale");
    expect_canonical("1.2345678901234567e-300", "1.2345678901234567e-300");
    expect_canonical("0.30000000000000004", "0.30000000000000004");
    expect_canonical("12345678901234567.5", "12345678901234568.0");
}
