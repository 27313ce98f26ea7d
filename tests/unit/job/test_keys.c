/* What a record says about its own row. */
#include <criterion/criterion.h>

#include "core/job/keys.h"

static char unique[] = "order", concurrency[] = "customer", priority[] = "rank", after[] = "at";
static const exj_key_fields fields = { .unique = unique, .concurrency = concurrency,
                                       .priority = priority, .run_after = after };

static exj_code take(const char *record, exj_row_keys *ret, exj_err *err)
{
    *err = (exj_err){ 0 };
    return exj_row_keys_read(&fields, exj_slice_of(record), ret, err);
}

Test(keys, are_read_from_the_named_fields)
{
    exj_row_keys k;
    exj_err err;

    cr_assert_eq(take("{\"order\":\"o-1\",\"customer\":77,\"rank\":-5,"
                      "\"at\":\"2026-01-02T03:04:05Z\",\"other\":{}}", &k, &err), EXJ_OK, "%s",
                 err.text);
    cr_expect(exj_slice_is(k.unique, "o-1"));
    cr_expect(exj_slice_is(k.concurrency, "77"));
    cr_expect(k.has_priority);
    cr_expect_eq(k.priority, -5);
    cr_expect_eq(k.run_after, 1767323045000);
    exj_row_keys_release(&k);
}

Test(keys, that_are_absent_or_null_say_nothing)
{
    exj_row_keys k;
    exj_err err;

    cr_assert_eq(take("{\"order\":null,\"rank\":null,\"at\":null}", &k, &err), EXJ_OK);
    cr_expect_eq(k.unique.n, 0);
    cr_expect_eq(k.concurrency.n, 0);
    cr_expect_not(k.has_priority);
    cr_expect_eq(k.run_after, 0);
    exj_row_keys_release(&k);
}

Test(keys, spelled_differently_mean_the_same)
{
    exj_row_keys k;
    exj_err err;

    cr_assert_eq(take("{\"order\":\"\\u00e9\\\"x\",\"customer\":\"a\\/b\"}", &k, &err), EXJ_OK);
    cr_expect(exj_slice_is(k.unique, "\xc3\xa9\"x"));
    cr_expect(exj_slice_is(k.concurrency, "a/b"));
    exj_row_keys_release(&k);
}

Test(keys, take_milliseconds_as_an_instant)
{
    exj_row_keys k;
    exj_err err;

    cr_assert_eq(take("{\"at\":1767323045123}", &k, &err), EXJ_OK);
    cr_expect_eq(k.run_after, 1767323045123);
    exj_row_keys_release(&k);
}

Test(keys, that_are_wrong_are_refused_with_the_field_and_what_is_wanted)
{
    static const char *const cases[][2] = {
        { "{\"order\":\"\"}", "order is empty" },
        { "{\"order\":{\"a\":1}}", "order: found {\"a\":1}; a text or a number" },
        { "{\"customer\":true}", "customer: found true" },
        { "{\"rank\":1001}", "rank: found 1001; a whole number from -1000 to 1000" },
        { "{\"rank\":\"high\"}", "rank: found \"high\"" },
        { "{\"rank\":1.5}", "rank: found 1.5" },
        { "{\"at\":\"tomorrow\"}", "at: found \"tomorrow\"; wanted an instant such as" },
        { "{\"at\":-1}", "at: found \"-1\"" },
        { "{\"at\":\"2026-13-01T00:00:00Z\"}", "at: found \"2026-13-01" },
        { "{\"at\":[]}", "at: found []" },
        { "{\"at\":999999999999999999}", "at: found" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_row_keys k;
        exj_err err;

        cr_expect_eq(take(cases[i][0], &k, &err), EXJ_INVALID, "%s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
        exj_row_keys_release(&k);
    }
}

Test(keys, over_512_bytes_are_refused)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_row_keys k;
    exj_err err = { 0 };

    exj_buf_add_text(&b, "{\"order\":\"");
    for (unsigned i = 0; i < EXJ_KEY_MAX_BYTES + 1; i++)
        exj_buf_add_char(&b, 'x');
    exj_buf_add_text(&b, "\"}");
    cr_expect_eq(exj_row_keys_read(&fields, exj_buf_slice(&b), &k, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "513 bytes; at most 512"), "%s", err.text);
    exj_row_keys_release(&k);
    exj_buf_release(&b);
}
