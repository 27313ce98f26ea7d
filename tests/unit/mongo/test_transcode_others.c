/* Documents that other tools wrote: every type of BSON as JSON, and what is refused. */
#include "core/store/mongo/transcode.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

/* `b` (destroyed) as `want`, whole and as the value of each of its members. */
static void expect_text(bson_t *b, const char *want)
{
    exj_buf out = EXJ_BUF_INIT, parts = EXJ_BUF_INIT;
    json_t *parsed = NULL;
    exj_err err = { 0 };
    bson_iter_t it;

    cr_expect_eq(exj_bson_to_json(b, NULL, &out, &err), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(out.p ? out.p : "nothing", want, "wanted %s\n   got %s", want, out.p);
    cr_expect_eq(exj_json_parse(exj_buf_slice(&out), &parsed, &err), EXJ_OK, "%s: %s", want,
                 err.text);
    exj_buf_add_char(&parts, '{');
    cr_assert(bson_iter_init(&it, b));
    while (bson_iter_next(&it)) {
        if (parts.n > 1)
            exj_buf_add_char(&parts, ',');
        exj_buf_add_json_string(&parts, exj_slice_of(bson_iter_key(&it)));
        exj_buf_add_char(&parts, ':');
        cr_expect_eq(exj_bson_value_to_json(&it, NULL, &parts, &err), EXJ_OK, "%s", err.text);
    }
    exj_buf_add_char(&parts, '}');
    cr_expect_str_eq(parts.p, want);
    json_decref(parsed);
    exj_buf_release(&parts);
    exj_buf_release(&out);
    bson_destroy(b);
}

Test(transcode_others, numbers)
{
    bson_t b = BSON_INITIALIZER;

    BSON_APPEND_INT32(&b, "a", -5);
    BSON_APPEND_INT32(&b, "b", INT32_MAX);
    BSON_APPEND_INT64(&b, "c", INT64_MIN);
    BSON_APPEND_DOUBLE(&b, "d", 3);
    BSON_APPEND_DOUBLE(&b, "e", 0.1);
    BSON_APPEND_DOUBLE(&b, "f", -0.0);
    BSON_APPEND_DOUBLE(&b, "g", 1.7976931348623157e308);
    expect_text(&b, "{\"a\":-5,\"b\":2147483647,\"c\":-9223372036854775808,\"d\":3.0,\"e\":0.1,"
                    "\"f\":-0.0,\"g\":1.7976931348623157e308}");
}

Test(transcode_others, dates)
{
    static const struct {
        int64_t ms;
        const char *text;
    } table[] = {
        { 0, "1970-01-01T00:00:00.000Z" },
        { 1767323045678, "2026-01-02T03:04:05.678Z" },
        { -1, "1969-12-31T23:59:59.999Z" },
        { 253402300799999, "9999-12-31T23:59:59.999Z" },
        { 253402300800000, "10000-01-01T00:00:00.000Z" },
        { -62167219200000, "0000-01-01T00:00:00.000Z" },
        { INT64_MAX, "292278994-08-17T07:12:55.807Z" },
        { INT64_MIN, "-292275055-05-16T16:47:04.192Z" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        bson_t b = BSON_INITIALIZER;
        char want[80];

        BSON_APPEND_DATE_TIME(&b, "at", table[i].ms);
        snprintf(want, sizeof(want), "{\"at\":\"%s\"}", table[i].text);
        expect_text(&b, want);
    }
}

Test(transcode_others, decimals)
{
    static const char *const table[][2] = {
        { "5", "5" },
        { "-17", "-17" },
        { "9223372036854775807", "9223372036854775807" },
        { "9223372036854775808", "\"9223372036854775808\"" },
        { "-0", "-0.0" },
        { "0.0", "0.0" },
        { "0E+6000", "0.0" },
        { "-0E-6000", "-0.0" },
        { "1.50", "1.5" },
        { "0.1", "0.1" },
        { "1E+3", "1000.0" },
        { "1.7E-300", "1.7e-300" },
        { "123456789.012345", "123456789.012345" },
        { "123456789.0123450000", "123456789.012345" },
        { "123456789.0123456", "\"123456789.0123456\"" }, /* 16 digits: a double may lose one */
        { "1234567890123456789012345678901234", "\"1234567890123456789012345678901234\"" },
        { "1E+400", "\"1E+400\"" },
        { "1E-310", "\"1E-310\"" },
        { "1E-6000", "\"1E-6000\"" },
        { "NaN", "\"NaN\"" },
        { "-Infinity", "\"-Infinity\"" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        bson_decimal128_t decimal;
        bson_t b = BSON_INITIALIZER;
        char want[80];

        cr_assert(bson_decimal128_from_string(table[i][0], &decimal));
        BSON_APPEND_DECIMAL128(&b, "v", &decimal);
        snprintf(want, sizeof(want), "{\"v\":%s}", table[i][1]);
        expect_text(&b, want);
    }
}

Test(transcode_others, bytes_and_names)
{
    static const uint8_t bytes[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                       0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
    bson_t b = BSON_INITIALIZER;
    bson_oid_t oid;

    bson_oid_init_from_string(&oid, "0123456789abcdef01234567");
    BSON_APPEND_OID(&b, "oid", &oid);
    BSON_APPEND_BINARY(&b, "none", BSON_SUBTYPE_BINARY, bytes, 0);
    BSON_APPEND_BINARY(&b, "one", BSON_SUBTYPE_BINARY, bytes + 15, 1);
    BSON_APPEND_BINARY(&b, "two", BSON_SUBTYPE_USER, bytes + 14, 2);
    BSON_APPEND_BINARY(&b, "three", BSON_SUBTYPE_MD5, bytes + 13, 3);
    BSON_APPEND_BINARY(&b, "uuid", BSON_SUBTYPE_UUID, bytes, 16);
    BSON_APPEND_BINARY(&b, "short uuid", BSON_SUBTYPE_UUID, bytes, 4);
    BSON_APPEND_BINARY(&b, "old uuid", BSON_SUBTYPE_UUID_DEPRECATED, bytes, 16);
    BSON_APPEND_BINARY(&b, "old binary", BSON_SUBTYPE_BINARY_DEPRECATED, bytes, 4);
    expect_text(&b, "{\"oid\":\"0123456789abcdef01234567\",\"none\":\"\",\"one\":\"/w==\","
                    "\"two\":\"7v8=\",\"three\":\"3e7/\","
                    "\"uuid\":\"00112233-4455-6677-8899-aabbccddeeff\","
                    "\"short uuid\":\"ABEiMw==\",\"old uuid\":\"ABEiM0RVZneImaq7zN3u/w==\","
                    "\"old binary\":\"ABEiMw==\"}");
}

Test(transcode_others, what_json_has_no_word_for)
{
    bson_t b = BSON_INITIALIZER, scope = BSON_INITIALIZER;
    bson_oid_t oid;

    bson_oid_init_from_string(&oid, "0123456789abcdef01234567");
    BSON_APPEND_TIMESTAMP(&b, "ts", 4294967295u, 7);
    BSON_APPEND_REGEX(&b, "re", "^a\"\\d", "im");
    BSON_APPEND_CODE(&b, "code", "f(\"x\")");
    BSON_APPEND_CODE_WITH_SCOPE(&b, "no scope", "g()", &scope);
    BSON_APPEND_INT32(&scope, "x", 1);
    BSON_APPEND_CODE_WITH_SCOPE(&b, "scope", "h(x)", &scope);
    BSON_APPEND_SYMBOL(&b, "sym", "s");
    BSON_APPEND_DBPOINTER(&b, "ptr", "db.c", &oid);
    BSON_APPEND_MINKEY(&b, "min");
    BSON_APPEND_MAXKEY(&b, "max");
    BSON_APPEND_UNDEFINED(&b, "undef");
    BSON_APPEND_NULL(&b, "null");
    expect_text(&b, "{\"ts\":{\"$timestamp\":{\"t\":4294967295,\"i\":7}},"
                    "\"re\":{\"$regularExpression\":{\"pattern\":\"^a\\\"\\\\d\",\"options\":\"im\"}},"
                    "\"code\":{\"$code\":\"f(\\\"x\\\")\"},"
                    "\"no scope\":{\"$code\":\"g()\",\"$scope\":{}},"
                    "\"scope\":{\"$code\":\"h(x)\",\"$scope\":{\"x\":1}},\"sym\":\"s\","
                    "\"ptr\":{\"$dbPointer\":{\"$ref\":\"db.c\",\"$id\":\"0123456789abcdef01234567\"}},"
                    "\"min\":{\"$minKey\":1},\"max\":{\"$maxKey\":1},\"undef\":null,\"null\":null}");
    bson_destroy(&scope);
}

Test(transcode_others, items_of_arrays_come_in_their_order_whatever_their_keys)
{
    bson_t b = BSON_INITIALIZER, array;

    BSON_APPEND_ARRAY_BEGIN(&b, "a", &array);
    BSON_APPEND_INT32(&array, "7", 1);
    BSON_APPEND_INT32(&array, "7", 2);
    BSON_APPEND_INT32(&array, "", 3);
    BSON_APPEND_INT32(&array, "\xff", 4);
    bson_append_array_end(&b, &array);
    expect_text(&b, "{\"a\":[1,2,3,4]}");
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void expect_refused(bson_t *b, exj_code code, const char *want)
{
    exj_buf out = EXJ_BUF_INIT;
    exj_err err = { 0 };

    cr_assert(exj_buf_add_text(&out, "kept"));
    cr_expect_eq(exj_bson_to_json(b, NULL, &out, &err), code, "%s", want);
    cr_expect(strstr(err.text, want), "wanted '%s', got '%s'", want, err.text);
    cr_expect(exj_utf8_is_valid(exj_slice_of(err.text)));
    cr_expect_str_eq(out.p, "kept", "a failure changed the output");
    exj_buf_release(&out);
    bson_destroy(b);
}

Test(transcode_others, numbers_that_are_not_finite_are_refused_with_their_path)
{
    static const double odd[] = { NAN, -NAN, INFINITY, -INFINITY };

    for (size_t i = 0; i < 4; i++) {
        bson_t b = BSON_INITIALIZER, child, array;

        BSON_APPEND_DOCUMENT_BEGIN(&b, "input", &child);
        BSON_APPEND_ARRAY_BEGIN(&child, "items", &array);
        BSON_APPEND_DOUBLE(&array, "0", 1);
        BSON_APPEND_DOUBLE(&array, "1", odd[i]);
        bson_append_array_end(&child, &array);
        bson_append_document_end(&b, &child);
        expect_refused(&b, EXJ_INVALID,
                       i < 2 ? "member 'input.items.1': NaN is no number of JSON"
                             : "member 'input.items.1': an infinite number");
    }
}

Test(transcode_others, strings_and_keys_that_are_no_text_are_refused_with_their_path)
{
    bson_t b = BSON_INITIALIZER, child;

    bson_append_utf8(&b, "good", -1, "\xc3\xa4", 2);
    bson_append_utf8(&b, "bad", -1, "x\xc3", 2);
    expect_refused(&b, EXJ_INVALID, "member 'bad': bytes that are not UTF-8");
    bson_init(&b);
    bson_append_utf8(&b, "v", -1, "x\0y", 3);
    expect_refused(&b, EXJ_INVALID, "member 'v': a NUL in a string");
    bson_init(&b);
    BSON_APPEND_DOCUMENT_BEGIN(&b, "o\n", &child);
    BSON_APPEND_NULL(&child, "k\xff");
    bson_append_document_end(&b, &child);
    expect_refused(&b, EXJ_INVALID, "member 'o?.k?': bytes that are not UTF-8");
    bson_init(&b);
    BSON_APPEND_CODE(&b, "c", "\xed\xa0\x80");
    expect_refused(&b, EXJ_INVALID, "member 'c': bytes that are not UTF-8");
    bson_init(&b);
    BSON_APPEND_DOCUMENT_BEGIN(&b, "o", &child);
    BSON_APPEND_NULL(&child, "k");
    BSON_APPEND_NULL(&child, "l");
    BSON_APPEND_NULL(&child, "k");
    bson_append_document_end(&b, &child);
    expect_refused(&b, EXJ_INVALID, "member 'o.k': two members of that name");
}

Test(transcode_others, a_path_that_is_long_is_cut)
{
    bson_t b = BSON_INITIALIZER, child;
    char key[1000];

    for (size_t i = 0; i + 2 < sizeof(key); i += 2)
        memcpy(key + i, "\xc3\xa4", 2);
    key[998] = '\0';
    BSON_APPEND_DOCUMENT_BEGIN(&b, key, &child);
    BSON_APPEND_DOUBLE(&child, "x", NAN);
    bson_append_document_end(&b, &child);
    expect_refused(&b, EXJ_INVALID, "\xc3\xa4\xe2\x80\xa6': NaN");
}

/* What stands for a type of BSON is nested itself: the text is within the bound, too. */
Test(transcode_others, depth_counts_the_levels_of_the_text)
{
    for (unsigned depth = 62; depth <= 65; depth++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            unsigned adds = kind == 0 ? 0 : kind == 3 ? 1 : 2;
            exj_buf out = EXJ_BUF_INIT;
            exj_err err = { 0 };
            bson_t *b = bson_new(), scope = BSON_INITIALIZER;

            BSON_APPEND_INT32(&scope, "x", 1);
            if (kind == 0)
                BSON_APPEND_NULL(b, "v");
            else if (kind == 1)
                BSON_APPEND_TIMESTAMP(b, "v", 1, 1);
            else if (kind == 2)
                BSON_APPEND_CODE_WITH_SCOPE(b, "v", "x", &scope);
            else
                BSON_APPEND_MINKEY(b, "v");
            for (unsigned i = 1; i < depth; i++) {
                bson_t *outer = bson_new();

                BSON_APPEND_DOCUMENT(outer, "a", b);
                bson_destroy(b);
                b = outer;
            }
            cr_expect_eq(exj_bson_to_json(b, NULL, &out, &err),
                         depth + adds <= 64 ? EXJ_OK : EXJ_INVALID, "depth %u kind %u: %s", depth,
                         kind, err.text);
            if (depth + adds <= 64)
                cr_expect_eq(exj_json_check(exj_buf_slice(&out), 64, NULL, NULL), EXJ_OK);
            else
                cr_expect(strstr(err.text, "nested deeper than 64"));
            bson_destroy(&scope);
            bson_destroy(b);
            exj_buf_release(&out);
        }
    }
}

Test(transcode_others, what_was_closed_is_no_depth_any_more)
{
    bson_t b = BSON_INITIALIZER, scope = BSON_INITIALIZER;
    exj_buf out = EXJ_BUF_INIT;
    exj_err err = { 0 };
    char key[8];

    BSON_APPEND_INT32(&scope, "x", 1);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof(key), "%u", i);
        if (i % 3 == 0)
            BSON_APPEND_CODE_WITH_SCOPE(&b, key, "x", &scope);
        else if (i % 3 == 1)
            BSON_APPEND_DOCUMENT(&b, key, &scope);
        else
            BSON_APPEND_TIMESTAMP(&b, key, 1, 1);
    }
    cr_expect_eq(exj_bson_to_json(&b, NULL, &out, &err), EXJ_OK, "%s", err.text);
    exj_buf_release(&out);
    bson_destroy(&scope);
    bson_destroy(&b);
}

/* ---- bytes that are no BSON ------------------------------------------------------------------ */

static void add_every_type(bson_t *b)
{
    bson_t child = BSON_INITIALIZER, array;
    bson_decimal128_t decimal;
    bson_oid_t oid;

    bson_oid_init_from_string(&oid, "0123456789abcdef01234567");
    bson_decimal128_from_string("1.25", &decimal);
    BSON_APPEND_INT32(&child, "i", 1);
    BSON_APPEND_DOUBLE(b, "d", 1.5);
    BSON_APPEND_UTF8(b, "s", "text");
    BSON_APPEND_DOCUMENT(b, "o", &child);
    BSON_APPEND_ARRAY_BEGIN(b, "a", &array);
    BSON_APPEND_INT64(&array, "0", 1);
    bson_append_array_end(b, &array);
    BSON_APPEND_BINARY(b, "b", BSON_SUBTYPE_BINARY, (const uint8_t *)"abc", 3);
    BSON_APPEND_BINARY(b, "b2", BSON_SUBTYPE_BINARY_DEPRECATED, (const uint8_t *)"abc", 3);
    BSON_APPEND_OID(b, "oid", &oid);
    BSON_APPEND_BOOL(b, "t", true);
    BSON_APPEND_DATE_TIME(b, "at", 1);
    BSON_APPEND_REGEX(b, "re", "x", "i");
    BSON_APPEND_DBPOINTER(b, "p", "c", &oid);
    BSON_APPEND_CODE(b, "c", "x");
    BSON_APPEND_CODE_WITH_SCOPE(b, "cs", "x", &child);
    BSON_APPEND_SYMBOL(b, "y", "z");
    BSON_APPEND_TIMESTAMP(b, "ts", 1, 2);
    BSON_APPEND_DECIMAL128(b, "dec", &decimal);
    BSON_APPEND_MINKEY(b, "min");
    BSON_APPEND_NULL(b, "n");
    bson_destroy(&child);
}

/* In a block of its own size: a reader that goes on is caught by valgrind or a sanitizer. */
static exj_code read_copy(const uint8_t *data, size_t n, exj_err *err)
{
    uint8_t *copy = malloc(n);
    exj_buf out = EXJ_BUF_INIT;
    exj_code rc = EXJ_CORRUPT;
    bson_t b;

    cr_assert(copy);
    memcpy(copy, data, n);
    if (bson_init_static(&b, copy, n)) {
        rc = exj_bson_to_json(&b, NULL, &out, err);
        if (rc == EXJ_OK) {
            json_t *parsed = NULL;

            cr_expect_eq(exj_json_parse(exj_buf_slice(&out), &parsed, err), EXJ_OK, "%s: %s", out.p,
                         err->text);
            json_decref(parsed);
        } else {
            cr_expect_eq(out.n, 0u);
        }
    }
    exj_buf_release(&out);
    free(copy);
    return rc;
}

Test(transcode_others, damaged_bytes_are_refused_or_read_never_believed)
{
    uint64_t seed = exj_random_u64(), state = seed;
    unsigned corrupt = 0, invalid = 0, good = 0;
    bson_t b = BSON_INITIALIZER;
    uint8_t *data;
    size_t n;

    fprintf(stderr, "seed %" PRIu64 "\n", seed);
    add_every_type(&b);
    n = b.len;
    data = malloc(n);
    cr_assert(data);
    for (unsigned round = 0; round < 20000; round++) {
        exj_err err = { 0 };
        exj_code rc;

        memcpy(data, bson_get_data(&b), n);
        for (unsigned i = 0; i <= round % 3; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            if (round < n && i == 0) /* each byte once, at least */
                data[round] = (uint8_t)(state >> 56);
            else
                data[4 + (state >> 33) % (n - 5)] = (uint8_t)(state >> 56);
        }
        rc = read_copy(data, n, &err);
        cr_expect(rc == EXJ_OK || rc == EXJ_INVALID || rc == EXJ_CORRUPT, "%d: %s", (int)rc,
                  err.text);
        corrupt += rc == EXJ_CORRUPT;
        invalid += rc == EXJ_INVALID;
        good += rc == EXJ_OK;
    }
    cr_expect(corrupt > 100 && invalid > 100 && good > 100, "%u corrupt, %u invalid, %u good",
              corrupt, invalid, good);
    free(data);
    bson_destroy(&b);
}

Test(transcode_others, bytes_that_are_no_bson_are_named)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *want;
    } table[] = {
#define BYTES(s) s, sizeof(s) - 1
        { BYTES("\x08\0\0\0\x55" "a\0\0"), "the document: bytes that are no BSON, or a value of an" },
        { BYTES("\x0b\0\0\0\x10" "a\0\1\0\0\0"), "the document: bytes that are no BSON" },
        { BYTES("\x09\0\0\0\0\0\0\0\0"), "the document: bytes that are no BSON" },
        /* The inner document's length and its end do not agree. */
        { BYTES("\x0d\0\0\0\x03" "a\0\4\0\0\0\0\0"), "member 'a': bytes that are no BSON document" },
        { BYTES("\x0e\0\0\0\x03" "a\0\5\0\0\0\x10\0\0"), "" },
        { BYTES("\x10\0\0\0\x03" "o\0\x08\0\0\0\x0a" "kk\0"), "" },
        { BYTES("\x11\0\0\0\x03" "o\0\x09\0\0\0\x08k\0\2\0\0"), "member 'o': bytes that are no BSON" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        exj_err err = { 0 };

        cr_expect_eq(read_copy((const uint8_t *)table[i].bytes, table[i].n, &err), EXJ_CORRUPT,
                     "line %zu", i);
        cr_expect(strstr(err.text, table[i].want), "line %zu: %s", i, err.text);
    }
}
