#include "core/base/str.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/sha256.h"

Test(str, appends_and_stays_terminated)
{
    exj_buf b = EXJ_BUF_INIT;

    cr_expect(exj_buf_add(&b, NULL, 0));
    cr_expect_not_null(exj_buf_slice(&b).p);
    exj_buf_add_i64(&b, INT64_MIN);
    exj_buf_add_char(&b, ' ');
    exj_buf_add_i64(&b, INT64_MAX);
    exj_buf_add_text(&b, " ");
    exj_buf_add_i64(&b, 0);
    cr_expect_str_eq(b.p, "-9223372036854775808 9223372036854775807 0");
    exj_buf_reset(&b);
    cr_expect(exj_buf_printf(&b, "%0500d", 7));
    cr_expect_eq(b.n, 500);
    cr_expect_eq(b.p[499], '7');
    char *p = exj_buf_take(&b);
    cr_expect_null(b.p);
    free(p);
}

Test(str, lack_of_memory_stays_until_reset)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_add_text(&b, "x");
    cr_expect_not(exj_buf_reserve(&b, SIZE_MAX));
    cr_expect_not(exj_buf_add_text(&b, "y"));
    cr_expect(b.failed);
    cr_expect_str_eq(b.p, "x");
    exj_buf_reset(&b);
    cr_expect(exj_buf_add_text(&b, "y"));
    exj_buf_release(&b);
}

Test(str, json_strings_escape_controls_and_repair_utf8)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_add_json_string(&b, EXJ_SLICE_LITERAL("a\"\\\n\r\t\x01\0\xff\xc3\xa4z"));
    cr_expect_str_eq(b.p, "\"a\\\"\\\\\\n\\r\\t\\u0001\\u0000\xef\xbf\xbd\xc3\xa4z\"");
    exj_buf_reset(&b);
    exj_buf_add_json_string(&b, (exj_slice){ 0 });
    cr_expect_str_eq(b.p, "\"\"");
    exj_buf_release(&b);
}

Test(str, tells_utf8_from_other_bytes)
{
    cr_expect(exj_utf8_is_valid(exj_slice_of("a\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80")));
    cr_expect(exj_utf8_is_valid((exj_slice){ 0 }));
    static const char *const bad[] = { "\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xbf\xbf",
                                       "\xf0\x8f\xbf\xbf", "\xf5\x80\x80\x80", "\xc3" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_not(exj_utf8_is_valid(exj_slice_of(bad[i])), "%zu", i);
}

Test(str, counts_edits)
{
    cr_expect_eq(exj_edit_distance("", ""), 0);
    cr_expect_eq(exj_edit_distance("kitten", "sitting"), 3);
    cr_expect_eq(exj_edit_distance("priroity", "priority"), 1);
    cr_expect_eq(exj_edit_distance("", "abc"), 3);
    char longest[65];
    memset(longest, 'a', 64);
    longest[64] = '\0';
    cr_expect_eq(exj_edit_distance(longest, "a"), 64);
    longest[63] = '\0';
    cr_expect_eq(exj_edit_distance(longest, longest), 0);
    cr_expect_eq(exj_edit_distance("", longest), 63);
}

Test(err, first_error_wins_and_may_be_prefixed)
{
    exj_err e = { 0 };

    cr_expect_eq(exj_err_prefix(&e, "x"), EXJ_OK);
    cr_expect_eq(exj_err_set(&e, EXJ_FULL, "one %d", 1), EXJ_FULL);
    cr_expect_eq(exj_err_set(&e, EXJ_IO, "two"), EXJ_IO);
    cr_expect_eq(exj_err_prefix(&e, "at %s", "home"), EXJ_FULL);
    cr_expect_str_eq(e.text, "at home: one 1");
    exj_err_clear(&e);
    cr_expect_eq(e.code, EXJ_OK);
    cr_expect_eq(exj_err_set(NULL, EXJ_IO, "x"), EXJ_IO);
    cr_expect_str_eq(exj_code_name(EXJ_FENCED), "EXJ_FENCED");
    cr_expect_not_null(exj_code_name((exj_code)99));
}

Test(err, texts_are_cut_between_characters_and_stay_utf8)
{
    exj_err e = { 0 };
    char text[1200];

    for (size_t i = 0; i < 1199; i++)
        text[i] = i % 3 == 0 ? '\xe2' : i % 3 == 1 ? '\x82' : '\xac';
    text[1199] = '\0';
    exj_err_set(&e, EXJ_INVALID, "%s", text);
    cr_expect(exj_utf8_is_valid(exj_slice_of(e.text)));
    cr_expect_geq(strlen(e.text), 500);
    cr_expect_null(strchr(e.text, '?'));
    exj_err_prefix(&e, "front");
    cr_expect(exj_utf8_is_valid(exj_slice_of(e.text)));
    exj_err_clear(&e);
    exj_err_set(&e, EXJ_INVALID, "a\xff" "b");
    cr_expect_str_eq(e.text, "a?b");
}

Test(clock, prints_instants)
{
    char t[EXJ_TIME_TEXT_BYTES];

    exj_clock_format(0, t);
    cr_expect_str_eq(t, "1970-01-01T00:00:00.000Z");
    exj_clock_format(-1, t);
    cr_expect_str_eq(t, "1969-12-31T23:59:59.999Z");
    exj_clock_format(1767323045678, t);
    cr_expect_str_eq(t, "2026-01-02T03:04:05.678Z");
    exj_clock_format(INT64_MAX, t);
    exj_clock_format(INT64_MIN, t);
    cr_expect_lt(strlen(t), EXJ_TIME_TEXT_BYTES);
    cr_expect_neq(exj_random_u64(), exj_random_u64());
    cr_expect_leq(exj_clock_mono_ns(), exj_clock_mono_ns());
}

Test(log, levels_have_names)
{
    exj_log_level level;

    cr_expect(exj_log_parse_level("warn", &level));
    cr_expect_eq(level, EXJ_LOG_WARN);
    cr_expect_not(exj_log_parse_level("loud", &level));
    cr_expect_not(exj_log_parse_level(NULL, &level));
}

Test(str, clipping_ends_at_a_whole_character)
{
    exj_slice s = EXJ_SLICE_LITERAL("a\xc3\xa9\xe2\x82\xac");
    static const size_t wanted[] = { 0, 1, 1, 3, 3, 3, 6, 6 };

    for (size_t most = 0; most < 8; most++) {
        exj_slice got = exj_utf8_clip(s, most);

        cr_expect_eq(got.n, wanted[most], "%zu bytes: %zu", most, got.n);
        cr_expect(exj_utf8_is_valid(got));
    }
}

Test(sha256, gives_the_known_sums)
{
    char hex[65], again[65];
    exj_sha256 s;
    char bytes[300];

    exj_sha256_hex("", 0, hex);
    cr_expect_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    exj_sha256_hex("abc", 3, hex);
    cr_expect_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    exj_sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    cr_expect_str_eq(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)i;
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        exj_sha256_hex(bytes, n, hex);
        exj_sha256_init(&s);
        for (size_t at = 0; at < n; at += 7)
            exj_sha256_update(&s, bytes + at, n - at < 7 ? n - at : 7);
        exj_sha256_final_hex(&s, again);
        cr_expect_str_eq(hex, again);
    }
}
