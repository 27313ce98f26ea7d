/* The rules of single values at the edges: keys, answers, ids, rates, delays, cron. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/base/zone.h"
#include "core/job/cron.h"
#include "core/job/journal.h"
#include "core/job/keys.h"
#include "core/job/outcome.h"
#include "core/job/rate.h"
#include "core/job/record.h"
#include "core/job/retry.h"

/* ---- answers -------------------------------------------------------------------------- */

Test(answer_edges, are_refused_by_name)
{
    static const char *const cases[][2] = {
        { "{\"status\":\"failed\",\"error\":{\"code\":3}}", "`error.code` must be a string" },
        { "{\"status\":\"failed\",\"error\":{\"message\":3}}", "`error.message` must be a string" },
        { "{\"status\":\"failed\",\"error\":{\"code\":\"a\",\"code\":\"b\"}}",
          "`error.code` is there twice" },
        { "{\"status\":\"failed\",\"error\":{\"message\":\"\",\"message\":\"b\"}}",
          "`error.message` is there twice" },
        { "{\"status\":\"suspended\",\"resumeAt\":0}", "`resumeAt` is 0;" },
        { "{\"status\":\"suspended\",\"resumeAt\":-5}", "`resumeAt` is -5;" },
        { "{\"status\":\"suspended\",\"resumeAt\":253402300800000}", "`resumeAt` is 2534" },
        { "{\"status\":\"suspended\",\"resumeAt\":\"soon\"}", "`resumeAt` is \"soon\";" },
        { "{\"status\":\"suspended\",\"signal\":\"\"}", "`signal` has 0 bytes" },
        { "{\"status\":\"blocked\",\"timeoutSeconds\":1,\"signal\":\"s\"}",
          "`timeoutSeconds` goes with" },
        { "{\"status\":\"suspended\",\"timeoutSeconds\":1,\"pollAfter\":1}",
          "`timeoutSeconds` goes with" },
        { "{\"status\":\"blocked\",\"signal\":\"s\",\"pollAfter\":1}",
          "`pollAfter` goes with \"suspended\" only" },
        { "{\"status\":\"blocked\",\"resumeAt\":5}", "`resumeAt` goes with \"suspended\" only" },
        { "{\"status\":\"completed\",\"signal\":\"s\"}",
          "`signal` goes with \"suspended\" and \"blocked\" only" },
        { "{\"status\":\"suspended\",\"pollAfter\":1e300}", "seconds from 0 to a hundred years" },
        { "{\"status\":\"suspended\",\"pollAfter\":-1}", "seconds from 0 to a hundred years" },
        { "{\"status\":\"suspended\",\"pollAfter\":1."
          "000000000000000000000000000000000000000000000000000000000000000000}",
          "`pollAfter` has too many digits" },
        { "{\"status\":\"a status of more than sixty-four bytes is cut where it is quoted in the "
          "message\"}", "found \"a status of" },
    };
    exj_answer a;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_err err = { 0 };

        cr_expect_eq(exj_answer_check(exj_slice_of(cases[i][0]), &a, NULL, NULL, NULL, &err),
                     EXJ_INVALID, "%s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
    }
}

Test(answer_edges, of_signals_are_as_long_as_allowed)
{
    char name[EXJ_SIGNAL_NAME_BYTES + 2], doc[EXJ_SIGNAL_NAME_BYTES + 80];

    for (size_t n = EXJ_SIGNAL_NAME_BYTES; n <= EXJ_SIGNAL_NAME_BYTES + 1; n++) {
        exj_answer_wait w = { 0 };
        exj_answer a;

        memset(name, 's', n);
        name[n] = '\0';
        snprintf(doc, sizeof(doc), "{\"status\":\"blocked\",\"signal\":\"%s\"}", name);
        cr_expect_eq(exj_answer_check(exj_slice_of(doc), &a, NULL, NULL, &w, NULL),
                     n > EXJ_SIGNAL_NAME_BYTES ? EXJ_INVALID : EXJ_OK);
    }
}

Test(answer_edges, are_bounded)
{
    static char text[EXJ_ANSWER_MAX_BYTES + 1];
    exj_err err = { 0 };
    exj_answer a;

    memset(text, ' ', sizeof(text));
    cr_expect_eq(exj_answer_check((exj_slice){ text, sizeof(text) }, &a, NULL, NULL, NULL, &err),
                 EXJ_INVALID);
    cr_expect(strstr(err.text, "bytes; at most"), "%s", err.text);
}

/* ---- ids and names -------------------------------------------------------------------- */

Test(id_edges, with_del_or_a_control_byte_far_behind_are_refused)
{
    char id[100];
    exj_err err = { 0 };

    cr_expect_eq(exj_id_check(EXJ_SLICE_LITERAL("a\x7f"), "id", &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "control byte 0x7f at 1"), "%s", err.text);
    memset(id, 'i', sizeof(id));
    id[90] = '\n';
    err = (exj_err){ 0 };
    cr_expect_eq(exj_id_check((exj_slice){ id, sizeof(id) }, "id", &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "control byte 0x0a at 90"), "%s", err.text);
}

Test(id_edges, escapes_of_names_have_one_spelling)
{
    static const char *const wrong[] = { "m%7|r|g|1", "m%7", "m%g7|r|g|1", "m%7g|r|g|1",
                                         "m%/7|r|g|1", "m%7:|r|g|1", "m%00|r|g|1", "m%41|r|g|1",
                                         "m%7f|r|g|1", "m%7@|r|g|1" };
    exj_row_name n = { 0 };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        cr_expect_eq(exj_row_name_parse(exj_slice_of(wrong[i]), &n, NULL), EXJ_INVALID, "%s",
                     wrong[i]);
    cr_assert_eq(exj_row_name_parse(EXJ_SLICE_LITERAL("m%7F%0A|r|g|%25"), &n, NULL), EXJ_OK);
    cr_expect_str_eq(n.matrix, "m\x7f\n");
    cr_expect_str_eq(n.record, "%");
    exj_row_name_release(&n);
}

/* ---- keys ----------------------------------------------------------------------------- */

Test(key_edges, each_field_may_be_the_only_one)
{
    static const exj_slice record = EXJ_SLICE_LITERAL("{\"f\":1}");
    char f[] = "f";
    exj_key_fields fields[4] = { { .unique = f }, { .concurrency = f }, { .priority = f },
                                 { .run_after = f } };

    for (size_t i = 0; i < 4; i++) {
        exj_row_keys k;

        cr_assert_eq(exj_row_keys_read(&fields[i], record, &k, NULL), EXJ_OK);
        cr_expect_eq(exj_slice_is(k.unique, "1"), i == 0);
        cr_expect_eq(exj_slice_is(k.concurrency, "1"), i == 1);
        cr_expect_eq(k.has_priority, i == 2);
        cr_expect_eq(k.run_after, i == 3);
        exj_row_keys_release(&k);
    }
    cr_assert_eq(exj_row_keys_read(&(exj_key_fields){ 0 }, record, &(exj_row_keys){ 0 }, NULL),
                 EXJ_OK);
}

Test(key_edges, values_are_quoted_no_longer_than_needed)
{
    char value[200];
    exj_slice got;
    char *owned;
    exj_err err = { 0 };
    exj_msec at;
    int32_t priority;

    memset(value, ' ', sizeof(value));
    value[0] = '[';
    value[199] = ']';
    cr_expect_eq(exj_key_of_json((exj_slice){ value, 200 }, EXJ_JSON_ARRAY, "k", &got, &owned,
                                 &err), EXJ_INVALID);
    cr_expect_lt(strlen(err.text), 120, "%s", err.text);
    cr_expect_eq(exj_key_of_json(EXJ_SLICE_LITERAL("1.5"), EXJ_JSON_REAL, "k", &got, &owned,
                                 NULL), EXJ_OK);
    cr_expect(exj_slice_is(got, "1.5"));
    cr_expect_eq(exj_key_of_json(EXJ_SLICE_LITERAL("true"), EXJ_JSON_TRUE, "k", &got, &owned,
                                 NULL), EXJ_INVALID);
    cr_expect_eq(exj_instant_of_text((exj_slice){ 0 }, "t", &at, NULL), EXJ_INVALID);
    cr_expect_eq(exj_instant_of_text(EXJ_SLICE_LITERAL("1234567890123456"), "t", &at, NULL),
                 EXJ_INVALID);
    cr_expect_eq(exj_instant_of_text(EXJ_SLICE_LITERAL("253402300800000"), "t", &at, NULL),
                 EXJ_INVALID);
    cr_expect_eq(exj_instant_of_text(EXJ_SLICE_LITERAL("253402300799999"), "t", &at, NULL),
                 EXJ_OK);
    cr_expect_eq(exj_instant_of_text(EXJ_SLICE_LITERAL("-5"), "t", &at, NULL), EXJ_INVALID);
    cr_expect_eq(exj_priority_of_json(EXJ_SLICE_LITERAL("-1001"), EXJ_JSON_INTEGER, "p",
                                      &priority, NULL), EXJ_INVALID);
    cr_expect_eq(exj_priority_of_json(EXJ_SLICE_LITERAL("-1000"), EXJ_JSON_INTEGER, "p",
                                      &priority, NULL), EXJ_OK);
    cr_expect_eq(priority, -1000);
    cr_expect_eq(exj_priority_of_json(EXJ_SLICE_LITERAL("1001"), EXJ_JSON_INTEGER, "p",
                                      &priority, NULL), EXJ_INVALID);
}

/* ---- rates and delays ----------------------------------------------------------------- */

Test(rate_edges, a_debt_leaves_no_room)
{
    /* 10 a second; 3 seconds of it are taken already. */
    cr_expect_eq(exj_rate_room(INT64_C(3000000000), 0, 10, 1000, 5), 0);
}

Test(retry_edges, an_attempt_that_was_not_counted_waits_the_first_delay)
{
    exj_retry_policy p = { .max_attempts = 3, .initial_ms = 100, .max_ms = 1000, .factor = 3 };

    cr_expect_eq(exj_retry_decide(&p, 0, true, 5, 0).run_after, 105);
    cr_expect_eq(exj_retry_decide(&p, 1, true, 5, 0).run_after, 105);
    cr_expect_eq(exj_retry_decide(&p, 2, true, 5, 0).run_after, 305);
}

/* ---- journal -------------------------------------------------------------------------- */

Test(journal_edges, a_move_that_is_not_allowed_is_corrupt_with_or_without_words)
{
    for (int with = 0; with < 2; with++) {
        exj_journal_view v = { 0 };
        exj_err err = { 0 };

        cr_assert_eq(exj_journal_apply(&v, &(exj_journal_entry){ .number = 1,
                                                                 .kind = EXJ_ENTRY_QUEUED },
                                       NULL), EXJ_OK);
        cr_expect_eq(exj_journal_apply(&v, &(exj_journal_entry){ .number = 2, .previous = 1,
                                                                 .kind = EXJ_ENTRY_COMPLETED },
                                       with ? &err : NULL), EXJ_CORRUPT);
        cr_expect_eq(err.code, with ? EXJ_CORRUPT : EXJ_OK);
        cr_expect_eq(v.last, 1);
    }
}

/* ---- cron ----------------------------------------------------------------------------- */

Test(cron_edges, are_refused_with_the_reason)
{
    static const char *const cases[][2] = {
        { "0 0 LW * *", "W (the nearest working day)" },
        { "0 0 15W * *", "W (the nearest working day)" },
        { "0 0 W * *", "W (the nearest working day)" },
        { "0 0 LX * *", "\"LX\" is not allowed" },
        { "0 0 XW * *", "\"XW\" is not allowed" },
        { "0 0 LLW * *", "\"LLW\" is not allowed" },
        { "0 0 L-3 * *", "L (the last one)" },
        { "0 0 L * *", "L (the last one)" },
        { "0 0 * * 5L", "L (the last one)" },
        { "0 0 * * FRIL", "L (the last one)" },
        { "0 0 XXL * *", "\"XXL\" is not allowed" },
        { "0 0 * * 7-3/9", "the step \"9\" is not allowed" },
        { "0 0 * * 5-3", "runs backwards; write \"5-6,0-3\"" },
        { "0 0 * * 7-7,8", "\"8\" is not allowed" },
        { "12345678901234567890123456789012345678901234567890 * * * *", "minute: \"1234" },
    };
    exj_cron c;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_err err = { 0 };

        cr_expect_eq(exj_cron_parse(exj_slice_of(cases[i][0]), &c, &err), EXJ_INVALID, "%s",
                     cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
    }
}

Test(cron_edges, a_week_may_begin_and_end_with_sunday)
{
    static const struct {
        const char *text;
        uint32_t days;
    } cases[] = {
        { "0 0 * * 7-3", 0x0f }, { "0 0 * * SAT-SUN", 0x41 }, { "0 0 * * 7-7", 0x01 },
        { "0 0 * * SUN-SUN", 0x01 }, { "0 0 * * 0-0", 0x01 }, { "0 0 * * 0-7", 0x7f },
    };
    exj_cron c;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_assert_eq(exj_cron_parse(exj_slice_of(cases[i].text), &c, NULL), EXJ_OK);
        cr_expect_eq(c.weekdays, cases[i].days, "%s: %x", cases[i].text, c.weekdays);
    }
}

Test(cron_edges, one_that_fits_no_day_never_ticks)
{
    exj_zone *zone = NULL;
    exj_msec at;

    cr_assert_eq(exj_zone_open(EXJ_SLICE_LITERAL("UTC"), &zone, NULL), EXJ_OK);
    for (int running = 0; running < 2; running++) {
        exj_cron c = { .running_time = running };

        cr_expect_not(exj_cron_next(&c, zone, 0, &at));
        cr_expect_not(exj_cron_previous(&c, zone, INT64_C(1700000000000), &at));
    }
    exj_zone_free(zone);
}

/* The next tick is behind a change of the clocks, and that is outside already. */
Test(cron_edges, a_change_of_the_clocks_outside_ends_the_search)
{
    exj_zone *berlin = NULL, *new_york = NULL;
    exj_msec at;
    exj_cron c;

    cr_assert_eq(exj_zone_open(EXJ_SLICE_LITERAL("Europe/Berlin"), &berlin, NULL), EXJ_OK);
    cr_assert_eq(exj_zone_open(EXJ_SLICE_LITERAL("America/New_York"), &new_york, NULL), EXJ_OK);
    cr_assert_eq(exj_cron_parse(EXJ_SLICE_LITERAL("* * * 6 *"), &c, NULL), EXJ_OK);
    cr_expect_not(exj_cron_next(&c, berlin, INT64_C(253402300799000) - 86400000, &at));
    cr_expect_not(exj_cron_previous(&c, new_york, 86400000, &at));
    exj_zone_free(berlin);
    exj_zone_free(new_york);
}

Test(cron_edges, nothing_ticks_outside_of_the_calendar)
{
    static const char *const texts[] = { "0 0 0 29 2 *", "59 59 23 31 12 *", "0 0 0 1 1 *",
                                         "*/7 * * * * *" };
    static const char *const zones[] = { "UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago" };
    const exj_msec last = 253402300799000;

    for (size_t z = 0; z < 3; z++) {
        exj_zone *zone = NULL;

        cr_assert_eq(exj_zone_open(exj_slice_of(zones[z]), &zone, NULL), EXJ_OK);
        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
            exj_msec at = 0, back;
            exj_cron c;

            cr_assert_eq(exj_cron_parse(exj_slice_of(texts[i]), &c, NULL), EXJ_OK);
            cr_expect_not(exj_cron_next(&c, zone, last, &at));
            cr_expect_not(exj_cron_previous(&c, zone, 0, &at));
            for (exj_msec near = 0; near <= 40 * INT64_C(86400000); near += INT64_C(43200000)) {
                if (exj_cron_next(&c, zone, last - near, &at))
                    cr_expect(at > last - near && at <= last);
                if (exj_cron_previous(&c, zone, near, &back))
                    cr_expect(back >= 0 && back < near);
                cr_expect(exj_cron_previous(&c, zone, last + near, &back));
                cr_expect_leq(back, last);
            }
        }
        exj_zone_free(zone);
    }
}
