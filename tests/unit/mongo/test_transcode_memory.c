/* The transcoder without memory: each allocation fails once, and nothing has changed. */
#include <criterion/criterion.h>

#include "core/store/mongo/transcode.h"
#include "tests/support/fault.h"

/* Long enough that every buffer grows; more than a few keys; a number for strtod. */
static void make_text(exj_buf *text)
{
    exj_buf_add_text(text, "{\"number\":0.1234567890123456789012345678901234567890123456789012345"
                           "678901234567890123456789,\"escaped\":\"\\u00e4\\n\\\"0123456789\"");
    for (unsigned i = 0; i < 40; i++)
        exj_buf_printf(text, ",\"key %u\":[{\"a\":%u,\"b\":\"a string of some length\"},1.5]", i, i);
    exj_buf_add_char(text, '}');
}

enum { ENCODE, FROM_JSON, APPEND, TO_JSON, CALLS };

static exj_code call(unsigned which, exj_slice text, const bson_t *doc, bson_t *b, exj_buf *out,
                     exj_err *err)
{
    switch (which) {
    case ENCODE:
        return exj_bson_encode(text, NULL, out, err);
    case FROM_JSON:
        return exj_bson_from_json(text, NULL, b, err);
    case APPEND:
        return exj_bson_append_json(b, "v", text, NULL, err);
    default:
        return exj_bson_to_json(doc, NULL, out, err);
    }
}

Test(transcode_memory, each_failed_allocation_is_told_and_changes_nothing)
{
    exj_buf text = EXJ_BUF_INIT;
    bson_t doc = BSON_INITIALIZER;

    make_text(&text);
    cr_assert_eq(exj_bson_from_json(exj_buf_slice(&text), NULL, &doc, NULL), EXJ_OK);
    for (unsigned which = 0; which < CALLS; which++) {
        long n;

        for (n = 1; n < 1000; n++) {
            bson_t b = BSON_INITIALIZER;
            exj_buf out = EXJ_BUF_INIT;
            exj_err err = { 0 };
            exj_code rc;

            cr_assert(exj_buf_add_text(&out, "kept"));
            exj_fault_arm(n);
            rc = call(which, exj_buf_slice(&text), &doc, &b, &out, &err);
            if (exj_fault_disarm() < n) {
                cr_expect_eq(rc, EXJ_OK, "call %u: %s", which, err.text);
                n += 1000;
            } else {
                cr_expect_eq(rc, EXJ_NOMEM, "call %u, allocation %ld: %d", which, n, (int)rc);
                cr_expect_eq(err.code, EXJ_NOMEM);
                cr_expect_str_eq(out.p, "kept");
                cr_expect_eq(b.len, 5u);
            }
            exj_buf_release(&out);
            bson_destroy(&b);
        }
        cr_expect_gt(n, 1005, "call %u: only %ld allocations were tried", which, n - 1001);
    }
    bson_destroy(&doc);
    exj_buf_release(&text);
}

Test(transcode_memory, a_decimal_is_told_too)
{
    bson_decimal128_t decimal;
    bson_t b = BSON_INITIALIZER;
    long n;

    cr_assert(bson_decimal128_from_string("123456789012345678.9E+3", &decimal));
    BSON_APPEND_DECIMAL128(&b, "v", &decimal);
    for (n = 1; n < 1000; n++) {
        exj_buf out = EXJ_BUF_INIT;
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_bson_to_json(&b, NULL, &out, NULL);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_OK);
            cr_expect_str_eq(out.p, "{\"v\":\"1.234567890123456789E+20\"}");
            exj_buf_release(&out);
            break;
        }
        cr_expect_eq(rc, EXJ_NOMEM);
        exj_buf_release(&out);
    }
    cr_expect_gt(n, 2);
    bson_destroy(&b);
}
