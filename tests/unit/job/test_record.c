#include "core/job/record.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/job/outcome.h"

static exj_code check(const char *text, exj_err *err)
{
    *err = (exj_err){ 0 };
    return exj_record_check(exj_slice_of(text), err);
}

Test(record, accepts_a_flat_object)
{
    exj_err err;

    cr_expect_eq(check("{}", &err), EXJ_OK);
    cr_expect_eq(check("{\"subnetId\":\"s-1\",\"list\":[1],\"o\":{\"input\":{}},"
                       "\"input\":\"text\",\"raw\":3}", &err), EXJ_OK, "%s", err.text);
}

Test(record, refuses_wrappers_and_says_what_to_send)
{
    exj_err err;

    cr_expect_eq(check("{\"input\":{\"a\":1}}", &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "nested `input`"), "%s", err.text);
    cr_expect_eq(check("{\"\\u0069nput\":{}}", &err), EXJ_INVALID);
    cr_expect_eq(check("{\"raw\":{\"a\":1}}", &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "input.raw"), "%s", err.text);
    cr_expect_eq(check("{\"input.raw\":1}", &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "top level"), "%s", err.text);
    cr_expect_eq(check("{\"\":1}", &err), EXJ_INVALID);
    cr_expect_eq(check("[]", &err), EXJ_INVALID);
    cr_expect_eq(check("{\"a\":1e400}", &err), EXJ_INVALID);
    cr_expect_eq(check("{\"a\":", &err), EXJ_INVALID);
}

Test(record, has_a_limit_of_bytes_and_of_fields)
{
    size_t n = EXJ_RECORD_MAX_BYTES;
    char *text = malloc(n + 1);
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };

    cr_assert(text);
    memset(text, 'x', n);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + n - 2, "\"}", 3);
    cr_expect_eq(exj_record_check((exj_slice){ text, n }, NULL), EXJ_OK);
    cr_expect_eq(exj_record_check((exj_slice){ text, n + 1 }, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "1048576"), "%s", err.text);
    free(text);
    for (unsigned i = 0; i < 1024; i++)
        exj_buf_printf(&b, "%s\"f%u\":1", i ? "," : "{", i);
    size_t open = b.n;
    exj_buf_add_char(&b, '}');
    cr_expect_eq(exj_record_check(exj_buf_slice(&b), NULL), EXJ_OK);
    b.n = open;
    exj_buf_add_text(&b, ",\"one more\":1}");
    cr_expect_eq(exj_record_check(exj_buf_slice(&b), NULL), EXJ_INVALID);
    exj_buf_release(&b);
}

Test(record, ids_are_short_utf8_without_controls)
{
    char big[514];
    exj_err err = { 0 };

    memset(big, 'a', 513);
    cr_expect_eq(exj_id_check((exj_slice){ big, 512 }, "id", NULL), EXJ_OK);
    cr_expect_eq(exj_id_check((exj_slice){ big, 513 }, "id", NULL), EXJ_INVALID);
    cr_expect_eq(exj_id_check((exj_slice){ 0 }, "id", NULL), EXJ_INVALID);
    cr_expect_eq(exj_id_check(exj_slice_of("a\nb"), "graphId", &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "graphId"), "%s", err.text);
    cr_expect_eq(exj_id_check(EXJ_SLICE_LITERAL("a\0"), "id", NULL), EXJ_INVALID);
    cr_expect_eq(exj_id_check(exj_slice_of("\xff"), "id", NULL), EXJ_INVALID);
    cr_expect_eq(exj_id_check(exj_slice_of("\xc3\xa4|%"), "id", NULL), EXJ_OK);
}

Test(record, row_names_go_and_come_back)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_row_name n = { 0 };

    cr_expect(exj_row_name_add(&b, exj_slice_of("m|1"), exj_slice_of(""), exj_slice_of("g%"),
                               exj_slice_of("r\n\xc3\xa4")));
    cr_expect_str_eq(b.p, "m%7C1||g%25|r%0A\xc3\xa4");
    cr_assert_eq(exj_row_name_parse(exj_buf_slice(&b), &n, NULL), EXJ_OK);
    cr_expect_str_eq(n.matrix, "m|1");
    cr_expect_str_eq(n.run, "");
    cr_expect_str_eq(n.graph, "g%");
    cr_expect_str_eq(n.record, "r\n\xc3\xa4");
    exj_row_name_release(&n);
    exj_row_name_release(&n);
    exj_buf_release(&b);
}

Test(record, row_names_have_one_spelling)
{
    static const char *const bad[] = { "", "a", "a||b", "a||b|c|d", "||g|r", "m|||r", "m||g|",
                                       "m||g|%", "m||g|%4", "m||g|%41", "m||g|%7c", "m||g|%00",
                                       "m||g|%ZZ", "m||g|\n", "m||g|\xff" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        exj_row_name n = { 0 };

        cr_expect_eq(exj_row_name_parse(exj_slice_of(bad[i]), &n, NULL), EXJ_INVALID, "%s",
                     bad[i]);
        cr_expect_null(n.matrix);
    }
}

static exj_code answer(const char *text, exj_answer *ret, exj_err *err)
{
    exj_slice code, message;

    *err = (exj_err){ 0 };
    return exj_answer_check(exj_slice_of(text), ret, &code, &message, NULL, err);
}

Test(outcome, accepts_the_four_words_and_the_known_members)
{
    exj_slice code, message;
    exj_answer a;
    exj_err err = { 0 };

    cr_expect_eq(answer("{\"status\":\"completed\"}", &a, &err), EXJ_OK);
    cr_expect_eq(a, EXJ_ANSWER_COMPLETED);
    cr_expect_eq(answer("{\"status\":\"blocked\",\"error\":null,\"jobId\":null}", &a, &err),
                 EXJ_OK);
    cr_expect_eq(a, EXJ_ANSWER_BLOCKED);
    cr_expect_eq(answer("{\"status\":\"suspended\",\"pollAfter\":5}", &a, &err), EXJ_OK);
    cr_expect_eq(a, EXJ_ANSWER_SUSPENDED);
    cr_expect_eq(exj_answer_check(
                     exj_slice_of("{\"status\":\"failed\",\"taskId\":\"t\",\"graphId\":\"g\","
                                  "\"outputsByNodeId\":{},\"stepsResponses\":[],"
                                  "\"engineSnapshot\":{},\"metrics\":{},\"error\":{\"code\":"
                                  "\"E\",\"message\":\"a\\\"b\",\"more\":1}}"),
                     &a, &code, &message, NULL, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect_eq(a, EXJ_ANSWER_FAILED);
    cr_expect(exj_slice_is(code, "\"E\""));
    cr_expect(exj_slice_is(message, "\"a\\\"b\""));
}

/* What *ret borrows is good until the next call. */
static exj_code wait_of(const char *members, exj_answer_wait *ret, exj_err *err)
{
    static char text[512];
    exj_answer a;

    *err = (exj_err){ 0 };
    snprintf(text, sizeof(text), "{\"status\":%s}", members);
    return exj_answer_check(exj_slice_of(text), &a, NULL, NULL, ret, err);
}

/* spec 2.4: A `suspended` result names what it waits for: a time (`resumeAt`), a signal (`signal: NAME`, optional timeout), or a poll (`pollAfter`). */
Test(outcome, a_suspended_answer_names_what_it_waits_for)
{
    static const char *const bad[][2] = {
        { "\"suspended\"", "names nothing to wait for" },
        { "\"suspended\",\"signal\":\"a\",\"pollAfter\":1", "more than one thing" },
        { "\"suspended\",\"pollAfter\":1,\"timeoutSeconds\":1", "`timeoutSeconds` goes with" },
        { "\"suspended\",\"signal\":\"\"", "`signal` has 0 bytes" },
        { "\"suspended\",\"resumeAt\":\"tomorrow\"", "`resumeAt` is \"tomorrow\"" },
        { "\"suspended\",\"resumeAt\":\"2026-02-30T00:00:00Z\"", "`resumeAt` is" },
        { "\"suspended\",\"resumeAt\":-5", "`resumeAt` is -5" },
        { "\"suspended\",\"pollAfter\":-1", "`pollAfter` is -1" },
        { "\"suspended\",\"pollAfter\":1e300", "`pollAfter` is 1e300" },
        { "\"suspended\",\"pollAfter\":\"1\"", "`pollAfter` must be a number" },
        { "\"completed\",\"resumeAt\":5", "`resumeAt` goes with" },
        { "\"blocked\",\"pollAfter\":5", "`pollAfter` goes with" },
        { "\"failed\",\"signal\":\"x\"", "`signal` goes with" },
    };
    exj_answer_wait w;
    exj_err err;

    cr_expect_eq(wait_of("\"suspended\",\"resumeAt\":\"2026-01-02T03:04:05.678901Z\"", &w, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect(w.has_resume_at && w.resume_at == 1767323045678);
    cr_expect_eq(wait_of("\"suspended\",\"resumeAt\":1767323045678", &w, &err), EXJ_OK);
    cr_expect_eq(w.resume_at, 1767323045678);
    cr_expect_eq(wait_of("\"suspended\",\"signal\":\"go\",\"timeoutSeconds\":0.0015", &w, &err),
                 EXJ_OK);
    cr_expect(w.has_signal && exj_slice_is(w.signal, "\"go\"") && w.timeout_ms == 2);
    cr_expect_eq(wait_of("\"suspended\",\"pollAfter\":30", &w, &err), EXJ_OK);
    cr_expect(w.has_poll && w.poll_ms == 30000);
    cr_expect_eq(wait_of("\"blocked\",\"signal\":\"paid\"", &w, &err), EXJ_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect_eq(wait_of(bad[i][0], &w, &err), EXJ_INVALID, "%s", bad[i][0]);
        cr_expect(strstr(err.text, bad[i][1]), "%s: %s", bad[i][0], err.text);
    }
}

Test(outcome, refuses_everything_else_by_name)
{
    static const char *const cases[][2] = {
        { "[]", "must be an object" },
        { "{}", "`status` is missing" },
        { "{\"status\":1}", "`status` must be a string" },
        { "{\"status\":\"done\"}", "\"done\"" },
        { "{\"status\":\"failed\",\"status\":\"completed\"}", "twice" },
        { "{\"status\":\"failed\",\"result\":1}", "`result`" },
        { "{\"status\":\"failed\",\"outputsByNodeId\":[]}", "`outputsByNodeId`" },
        { "{\"status\":\"failed\",\"stepsResponses\":{}}", "found an object" },
        { "{\"status\":\"failed\",\"error\":\"x\"}", "`error`" },
        { "{\"status\":\"failed\",\"error\":{\"code\":1}}", "`error.code`" },
        { "{\"status\":\"failed\"", "byte" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_answer a = EXJ_ANSWER_SUSPENDED;
        exj_err err;

        cr_expect_eq(answer(cases[i][0], &a, &err), EXJ_INVALID, "%s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
        cr_expect_eq(a, EXJ_ANSWER_SUSPENDED);
    }
}
