/* JSON without memory: a value is whole, or the lack of memory is told. */
#include <criterion/criterion.h>

#include "core/base/json.h"
#include "tests/support/fault.h"

static const char text[] =
    "{\"graphId\":\"a name that is longer than the first piece of any buffer, and then some\","
    "\"payload\":{\"x\":[1,2.5,true,null],\"a key that is long, too, as keys may be\":12345678901},"
    "\"escaped\":\"\\u00e4\\n\\\"0123456789abcdef0123456789abcdef\\\"\"}";

/* jansson 2.14 by itself drops a character of the text here, and says nothing. */
Test(json_memory, a_value_is_parsed_whole_or_not_at_all)
{
    json_t *whole = NULL, *v;
    long n;

    cr_assert_eq(exj_json_parse(exj_slice_of(text), &whole, NULL), EXJ_OK);
    for (n = 1; n < 1000; n++) {
        exj_err err = { 0 };
        exj_code rc;

        v = NULL;
        exj_fault_arm(n);
        rc = exj_json_parse(exj_slice_of(text), &v, &err);
        if (exj_fault_disarm() < n)
            break;
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %d %s", n, (int)rc, err.text);
        cr_assert_null(v);
    }
    cr_expect_gt(n, 15, "only %ld allocations were tried", n);
    cr_expect(json_equal(v, whole));
    json_decref(v);
    json_decref(whole);
}

/* Nobody looks at each call that adds a member: the print tells. */
Test(json_memory, a_value_that_lost_a_member_is_not_printed)
{
    exj_buf b = EXJ_BUF_INIT;
    long n;

    for (n = 1; n < 1000; n++) {
        exj_err err = { 0 };
        exj_code rc;
        json_t *o;

        exj_buf_reset(&b);
        exj_fault_arm(n);
        o = json_object();
        json_object_set_new(o, "first", json_integer(1));
        json_object_set_new(o, "second", json_string("two"));
        rc = o ? exj_json_print(o, false, &b, &err) : EXJ_NOMEM;
        if (!o)
            cr_expect_eq(exj_json_print(o, false, &b, NULL), EXJ_NOMEM);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_OK);
            json_decref(o);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %d %s %s", n, (int)rc, err.text, b.p);
        cr_expect_eq(b.n, 0);
        json_decref(o);
    }
    cr_expect_str_eq(b.p, "{\"first\":1,\"second\":\"two\"}");
    cr_expect_gt(n, 5);
    exj_buf_release(&b);
}

/* Who reads without asking why takes "no value" for an answer: what is printed then is not whole. */
Test(json_memory, a_parse_that_told_nobody_is_told_by_the_next_print)
{
    exj_buf b = EXJ_BUF_INIT;
    json_t *v = NULL;
    exj_err err = { 0 };

    exj_fault_arm(2);
    cr_expect_eq(exj_json_parse(exj_slice_of(text), &v, NULL), EXJ_NOMEM);
    exj_fault_disarm();
    cr_expect_eq(exj_json_print(json_true(), false, &b, &err), EXJ_NOMEM);
    cr_expect_eq(exj_json_print(json_true(), false, &b, NULL), EXJ_OK, "it is told once");
    exj_buf_release(&b);
}
