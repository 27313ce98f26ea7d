#include "core/job/schedule.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/job/record.h"
#include "tests/support/fault.h"

#define START "\"start\":{\"matrixCatalogId\":\"m\"}"

/* `payload` without its braces; start is added. */
static exj_schedule schedule(const char *payload)
{
    exj_schedule s = { 0 };
    exj_err err = { 0 };
    char doc[1024];

    snprintf(doc, sizeof(doc), "{\"scheduleId\":\"s\",\"payload\":{%s," START "}}", payload);
    cr_assert_eq(exj_schedule_parse(exj_slice_of(doc), (exj_slice){ 0 }, &s, NULL, &err), EXJ_OK,
                 "%s", err.text);
    return s;
}

static exj_msec utc(const char *text)
{
    int y, mo, d, h, mi, s;

    cr_assert_eq(sscanf(text, "%d-%d-%dT%d:%d:%d", &y, &mo, &d, &h, &mi, &s), 6, "%s", text);
    return (exj_days_of_date(y, mo, d) * 86400 + h * 3600 + mi * 60 + s) * 1000;
}

Test(schedule, omitted_fields_have_their_defaults)
{
    exj_schedule s = schedule("\"everySeconds\":60");

    cr_expect_str_eq(s.schedule_id, "s");
    cr_expect_null(s.cron_text);
    cr_expect_eq(s.every_ms, 60000);
    cr_expect_eq(s.anchor_ms, 0);
    cr_expect_eq(s.missed, EXJ_MISSED_ONCE);
    cr_expect_eq(s.max_missed, 100);
    cr_expect_eq(s.grace_ms, 60000);
    cr_expect_not(s.paused);
    cr_expect_str_eq(s.matrix_id, "m");
    cr_expect_null(s.graph_id);
    cr_expect_str_eq(s.input, "{}");
    cr_expect_not(s.run);
    exj_schedule_release(&s);
    s = schedule("\"cron\":\"0 3 * * *\"");
    cr_expect_str_eq(exj_zone_name(s.zone), "UTC");
    cr_expect_str_eq(s.cron_text, "0 3 * * *");
    cr_expect_eq(s.every_ms, 0);
    exj_schedule_release(&s);
    exj_schedule_release(&s);
}

Test(schedule, every_field_is_read_and_the_canonical_text_reads_the_same)
{
    static const char doc[] =
        "{\"version\":4,\"createdAt\":\"x\",\"updatedAt\":\"y\",\"payload\":{"
        "\"cron\":\"*/5 8-17 * * MON-FRI\",\"zone\":\"Europe/Berlin\",\"missed\":\"all\","
        "\"maxMissed\":7,\"graceSeconds\":1.5,\"paused\":true,\"start\":{"
        "\"matrixCatalogId\":\"m\",\"graphId\":\"g\",\"input\":{\"a\":[1]},\"run\":false}}}";
    exj_buf first = EXJ_BUF_INIT, second = EXJ_BUF_INIT;
    exj_schedule s = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_schedule_parse(exj_slice_of(doc), exj_slice_of("night"), &s, &first, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect_str_eq(first.p,
                     "{\"scheduleId\":\"night\",\"payload\":{\"cron\":\"*/5 8-17 * * MON-FRI\","
                     "\"zone\":\"Europe/Berlin\",\"missed\":\"all\",\"maxMissed\":7,"
                     "\"graceSeconds\":1.5,\"paused\":true,\"start\":{\"matrixCatalogId\":\"m\","
                     "\"graphId\":\"g\",\"input\":{\"a\":[1]},\"run\":false}}}");
    cr_expect_eq(s.missed, EXJ_MISSED_ALL);
    cr_expect_eq(s.max_missed, 7);
    cr_expect_eq(s.grace_ms, 1500);
    cr_expect(s.paused);
    cr_expect_str_eq(s.graph_id, "g");
    cr_expect_str_eq(s.input, "{\"a\":[1]}");
    cr_expect_str_eq(exj_zone_name(s.zone), "Europe/Berlin");
    exj_schedule_release(&s);
    cr_assert_eq(exj_schedule_parse(exj_buf_slice(&first), (exj_slice){ 0 }, &s, &second, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect_str_eq(second.p, first.p);
    exj_schedule_release(&s);
    exj_buf_release(&first);
    exj_buf_release(&second);
}

Test(schedule, what_is_wrong_is_named_with_path_value_and_what_is_wanted)
{
#define DOC(payload) "{\"scheduleId\":\"s\",\"payload\":{" payload "}}"
#define CRON "\"cron\":\"0 3 * * *\""
    static const char *const cases[][2] = {
        { "[]", "not a JSON object" },
        { "{", "not valid JSON" },
        { "{}", "scheduleId: missing" },
        { "{\"scheduleId\":\"s\"}", "payload: missing" },
        { "{\"scheduleId\":\"s\",\"Payload\":{}}", "did you mean \"payload\"" },
        { DOC(""), "payload.cron: missing; wanted cron (\"0 3 * * *\") or everySeconds" },
        { DOC(CRON), "payload.start: missing" },
        { DOC(CRON ",\"crom\":1," START), "payload.crom: unknown key; did you mean \"cron\"" },
        { DOC(CRON ",\"everySeconds\":5," START), "payload.everySeconds: found beside cron" },
        { DOC("\"cron\":\"61 * * * *\"," START),
          "payload.cron: cron \"61 * * * *\": minute: \"61\" is not allowed; allowed: 0-59" },
        { DOC("\"cron\":\"* * 30 2 *\"," START), "payload.cron: cron \"* * 30 2 *\": it never" },
        { DOC("\"cron\":5," START), "payload.cron: found 5" },
        { DOC(CRON ",\"zone\":\"Europe/Berlni\"," START),
          "payload.zone: time zone \"Europe/Berlni\" is unknown; did you mean \"Europe/Berlin\"" },
        { DOC(CRON ",\"zone\":\"../etc/passwd\"," START), "payload.zone: \"../etc/passwd\" is not" },
        { DOC("\"everySeconds\":0," START), "payload.everySeconds: found 0; wanted a whole number "
                                            "from 1 to 31536000" },
        { DOC("\"everySeconds\":1.5," START), "payload.everySeconds: found 1.5" },
        { DOC("\"everySeconds\":5,\"zone\":\"Europe/Berlin\"," START), "payload.zone: found beside" },
        { DOC(CRON ",\"anchor\":\"2026-01-01T00:00:00Z\"," START), "payload.anchor: found beside" },
        { DOC("\"everySeconds\":5,\"anchor\":\"tomorrow\"," START), "payload.anchor: found "
                                                                  "\"tomorrow\"; wanted a time" },
        { DOC("\"everySeconds\":5,\"anchor\":\"2026-02-29T00:00:00Z\"," START), "payload.anchor" },
        { DOC("\"everySeconds\":5,\"anchor\":\"2026-01-01T00:00:00\"," START), "payload.anchor" },
        { DOC("\"everySeconds\":5,\"anchor\":\"2026-01-01T00:00:00.5Z\"," START), "payload.anchor" },
        { DOC("\"everySeconds\":5,\"anchor\":\"2026-01-01T00:00:00Z \"," START), "payload.anchor" },
        { DOC("\"everySeconds\":5,\"anchor\":\"1969-01-01T00:00:00Z\"," START), "payload.anchor" },
        { DOC(CRON ",\"missed\":\"none\"," START), "payload.missed: found \"none\"; wanted \"skip\", "
                                                 "\"once\" or \"all\"" },
        { DOC(CRON ",\"maxMissed\":1001," START), "payload.maxMissed: found 1001" },
        { DOC(CRON ",\"graceSeconds\":-1," START), "payload.graceSeconds: found -1" },
        { DOC(CRON ",\"paused\":\"yes\"," START), "payload.paused: found \"yes\"; wanted true" },
        { DOC(CRON ",\"start\":{}"), "payload.start.matrixCatalogId: missing" },
        { DOC(CRON ",\"start\":{\"matrixId\":\"m\"}"), "payload.start.matrixId: unknown key" },
        { DOC(CRON ",\"start\":{\"matrixCatalogId\":\"m\",\"run\":1}"), "payload.start.run: found 1" },
        { DOC(CRON ",\"start\":{\"matrixCatalogId\":\"m\",\"run\":true,\"graphId\":\"g\"}"),
          "payload.start.graphId: found beside run" },
        { DOC(CRON ",\"start\":{\"matrixCatalogId\":\"m\",\"run\":true,\"input\":{}}"),
          "payload.start.input: found beside run" },
        { DOC(CRON ",\"start\":{\"matrixCatalogId\":\"m\",\"input\":{\"input\":{}}}"),
          "payload.start.input: nested `input` is refused" },
        { DOC(CRON ",\"start\":{\"matrixCatalogId\":\"m\",\"input\":[]}"),
          "payload.start.input: found []" },
    };
    exj_schedule s = { 0 };
    char id[600], doc[800];
    exj_err err;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        err = (exj_err){ 0 };
        cr_expect_eq(exj_schedule_parse(exj_slice_of(cases[i][0]), (exj_slice){ 0 }, &s, NULL,
                                        &err),
                     EXJ_INVALID, "%s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
    }
    memset(id, 'i', sizeof(id));
    snprintf(doc, sizeof(doc), "{\"scheduleId\":\"%.481s\",\"payload\":{" CRON "," START "}}", id);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_schedule_parse(exj_slice_of(doc), (exj_slice){ 0 }, &s, NULL, &err),
                 EXJ_INVALID);
    cr_expect(strstr(err.text, "scheduleId: found 481 bytes; wanted at most 480"), "%s", err.text);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_schedule_parse(EXJ_SLICE_LITERAL(DOC(CRON "," START)), exj_slice_of("other"),
                                    &s, NULL, &err),
                 EXJ_INVALID);
    cr_expect_str_eq(err.text, "scheduleId: found \"s\"; wanted \"other\"");
    cr_expect_null(s.schedule_id);
}

Test(schedule, what_is_stored_may_have_keys_of_later_versions)
{
    exj_schedule s = { 0 };

    cr_assert_eq(exj_schedule_read(EXJ_SLICE_LITERAL(DOC(CRON ",\"later\":1," START)), &s, NULL),
                 EXJ_OK);
    cr_expect_str_eq(s.cron_text, "0 3 * * *");
    exj_schedule_release(&s);
    cr_expect_eq(exj_schedule_read(EXJ_SLICE_LITERAL(DOC("\"cron\":\"x\"," START)), &s, NULL),
                 EXJ_INVALID);
}

Test(schedule, an_anchor_is_the_first_tick_of_an_interval)
{
    exj_schedule s =
        schedule("\"everySeconds\":90000,\"anchor\":\"2026-01-01T02:30:00.000+02:30\"");
    exj_msec t = 0, anchor = utc("2026-01-01T00:00:00");

    cr_expect_eq(s.anchor_ms, anchor);
    cr_assert(exj_schedule_next(&s, INT64_MIN, &t) && t == anchor);
    cr_assert(exj_schedule_next(&s, anchor - 1, &t) && t == anchor);
    cr_assert(exj_schedule_next(&s, anchor, &t) && t == anchor + 90000000);
    cr_assert(exj_schedule_next(&s, anchor + 90000000 * INT64_C(1000) + 1, &t) &&
              t == anchor + 90000000 * INT64_C(1001));
    cr_expect_not(exj_schedule_next(&s, INT64_MAX, &t));
    exj_schedule_release(&s);
}

/* Hours of 2026-01-02 as "1:30"; a negative number is an hour of the day before. */
static exj_msec clock_of(const char *text)
{
    int h, m = 0;

    cr_assert_geq(sscanf(text, "%d:%d", &h, &m), 1);
    return utc("2026-01-02T00:00:00") + (h * 60 + m) * 60000;
}

struct outage {
    const char *more, *last, *now; /* members of the payload, beside an hourly cron */
    const char *fire[5];
    unsigned skipped;
    const char *last_tick, *next_tick;
};

static void check_outages(const char *times, const struct outage *outages, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const struct outage *o = &outages[i];
        exj_schedule_verdict v;
        exj_msec ticks[8];
        char payload[256];
        exj_schedule s;
        size_t n = 0;

        snprintf(payload, sizeof(payload), "%s%s", times, o->more);
        s = schedule(payload);
        exj_schedule_due(&s, clock_of(o->last), clock_of(o->now), ticks, 8, &v);
        while (n < 5 && o->fire[n])
            n++;
        cr_expect_eq(v.fire, n, "%zu: %zu fire", i, v.fire);
        for (size_t k = 0; k < n && k < v.fire; k++)
            cr_expect_eq(ticks[k], clock_of(o->fire[k]), "%zu: tick %zu", i, k);
        cr_expect_eq(v.skipped, o->skipped, "%zu: %u skipped", i, (unsigned)v.skipped);
        cr_expect_eq(v.last_tick, clock_of(o->last_tick), "%zu: last tick", i);
        cr_expect(v.has_next && v.next_tick == clock_of(o->next_tick), "%zu: next tick", i);
        cr_expect_not(v.more || v.skipped_is_least, "%zu", i);
        exj_schedule_release(&s);
    }
}

/* spec 2.8: Cron schedules create rows or run matrix cycles; missed ticks follow a stated policy; one tick never fires twice over N workers. */
Test(schedule, missed_ticks_follow_the_policy)
{
    static const struct outage outages[] = {
        /* nothing missed */
        { "", "1:00", "1:30", { 0 }, 0, "1:00", "2:00" },
        { "", "1:00", "2:00", { "2:00" }, 0, "2:00", "3:00" },
        { "", "1:20", "2:01", { "2:00" }, 0, "2:00", "3:00" },
        { "", "2:00", "2:00", { 0 }, 0, "2:00", "3:00" },
        /* a minute late is on time, whatever the policy; two are not */
        { ",\"missed\":\"skip\"", "1:00", "2:01", { "2:00" }, 0, "2:00", "3:00" },
        { ",\"missed\":\"skip\"", "1:00", "2:02", { 0 }, 1, "2:00", "3:00" },
        { ",\"missed\":\"skip\",\"graceSeconds\":120", "1:00", "2:02", { "2:00" }, 0, "2:00",
          "3:00" },
        { ",\"missed\":\"skip\",\"graceSeconds\":0", "1:00", "2:00", { "2:00" }, 0, "2:00",
          "3:00" },
        { ",\"missed\":\"skip\"", "1:00", "5:30", { 0 }, 4, "5:00", "6:00" },
        { ",\"missed\":\"skip\"", "1:00", "5:01", { "5:00" }, 3, "5:00", "6:00" },
        { ",\"missed\":\"once\"", "1:00", "2:02", { "2:00" }, 0, "2:00", "3:00" },
        { ",\"missed\":\"once\"", "1:00", "5:30", { "5:00" }, 3, "5:00", "6:00" },
        { ",\"missed\":\"once\"", "1:00", "5:00", { "5:00" }, 3, "5:00", "6:00" },
        { ",\"missed\":\"all\"", "1:00", "5:30", { "2:00", "3:00", "4:00", "5:00" }, 0, "5:00",
          "6:00" },
        { ",\"missed\":\"all\",\"maxMissed\":2", "1:00", "5:30", { "4:00", "5:00" }, 2, "5:00",
          "6:00" },
        { ",\"missed\":\"all\",\"maxMissed\":2", "1:00", "5:00", { "3:00", "4:00", "5:00" }, 1,
          "5:00", "6:00" },
        { ",\"missed\":\"all\",\"maxMissed\":3", "-20:00", "0:30", { "-2:00", "-1:00", "0:00" },
          17, "0:00", "1:00" },
        /* paused: none fires, nor later on */
        { ",\"missed\":\"all\",\"paused\":true", "1:00", "5:00", { 0 }, 4, "5:00", "6:00" },
        { ",\"paused\":true", "1:00", "1:30", { 0 }, 0, "1:00", "2:00" },
        /* the clock went back: nothing comes again */
        { ",\"missed\":\"all\"", "5:00", "1:30", { 0 }, 0, "5:00", "6:00" },
    };

    check_outages("\"cron\":\"0 * * * *\"", outages, sizeof(outages) / sizeof(*outages));
    check_outages("\"everySeconds\":3600", outages, sizeof(outages) / sizeof(*outages));
}

Test(schedule, ticks_that_do_not_fit_come_with_the_next_call)
{
    exj_schedule s = schedule("\"cron\":\"* * * * *\",\"missed\":\"all\",\"maxMissed\":10");
    exj_msec now = utc("2026-01-02T00:00:30"), last = now - 3600000, ticks[4];
    exj_msec expected = utc("2026-01-01T23:50:00");
    exj_schedule_verdict v;
    size_t fired = 0;

    do {
        exj_schedule_due(&s, last, now, ticks, 4, &v);
        cr_expect_eq(v.skipped, fired ? 0u : 49u);
        cr_assert_leq(v.fire, 4);
        for (size_t i = 0; i < v.fire; i++, fired++, expected += 60000)
            cr_expect_eq(ticks[i], expected);
        cr_expect_eq(v.more, expected <= now);
        if (v.more)
            cr_expect_eq(v.next_tick, expected);
        last = v.last_tick;
    } while (v.more);
    cr_expect_eq(fired, 11); /* ten missed, one on time */
    cr_expect_eq(last, utc("2026-01-02T00:00:00"));
    exj_schedule_release(&s);
}

Test(schedule, years_of_absence_cost_no_more_than_days)
{
    exj_schedule every = schedule("\"everySeconds\":1,\"missed\":\"all\",\"maxMissed\":1000,"
                                  "\"graceSeconds\":0");
    exj_schedule cron = schedule("\"cron\":\"* * * * * *\",\"zone\":\"Europe/Berlin\","
                                 "\"missed\":\"all\",\"maxMissed\":1000,\"graceSeconds\":0");
    exj_msec last = utc("2001-01-01T00:00:00"), now = utc("2051-01-01T00:00:00"), ticks[1001];
    struct timespec a, b;
    exj_schedule_verdict v;

    exj_schedule_due(&every, last, now, ticks, 1001, &v);
    cr_expect_eq(v.fire, 1001);
    cr_expect_eq(v.skipped, (uint64_t)(now - last) / 1000 - 1001);
    cr_expect_not(v.skipped_is_least);
    cr_expect_eq(v.last_tick, now);

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    exj_schedule_due(&cron, last, now, ticks, 1001, &v);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    cr_expect_eq(v.fire, 1001);
    cr_expect_eq(v.skipped, EXJ_SCHEDULE_COUNT_MOST);
    cr_expect(v.skipped_is_least);
    cr_expect_eq(v.last_tick, now);
    /* 1.6 billion ticks passed; to walk through them takes minutes. */
    cr_expect_lt((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 2000);
    exj_schedule_release(&every);
    exj_schedule_release(&cron);
}

Test(schedule, instants_at_the_edges_do_no_harm)
{
    static const exj_msec edges[] = { INT64_MIN, INT64_MIN + 1, -1, 0, 1,
                                      INT64_C(253402300799000), INT64_C(253402300799001),
                                      INT64_MAX - 1, INT64_MAX };
    static const char *const payloads[] = { "\"cron\":\"* * * * *\",\"missed\":\"all\"",
                                            "\"everySeconds\":7,\"missed\":\"once\"",
                                            "\"cron\":\"0 0 29 2 *\",\"paused\":true" };

    for (size_t p = 0; p < 3; p++) {
        exj_schedule s = schedule(payloads[p]);

        for (size_t i = 0; i < 81; i++) {
            exj_schedule_verdict v;
            exj_msec tick[1];

            exj_schedule_due(&s, edges[i / 9], edges[i % 9], tick, 1, &v);
            cr_expect_leq(v.fire, 1);
            cr_expect_geq(v.last_tick, edges[i / 9]);
            if (v.has_next)
                cr_expect_gt(v.next_tick, v.last_tick);
        }
        exj_schedule_release(&s);
    }
}

/* spec 2.8: Cron schedules create rows or run matrix cycles; missed ticks follow a stated policy; one tick never fires twice over N workers. */
Test(schedule, no_tick_comes_twice_and_none_is_lost_however_often_it_is_asked)
{
    const char *given = getenv("EXJ_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0)
                          : (unsigned)time(NULL) ^ (unsigned)getpid() << 8;

    fprintf(stderr, "schedule: EXJ_TEST_SEED=%u\n", seed);
    for (int round = 0; round < 60; round++) {
        exj_schedule s = schedule(round % 2 ? "\"cron\":\"*/7 * * * *\",\"zone\":"
                                              "\"Europe/Berlin\",\"missed\":\"all\","
                                              "\"maxMissed\":5"
                                            : "\"everySeconds\":420,\"missed\":\"once\"");
        exj_msec start = utc("2026-03-28T00:00:00"), now = start, last = start, t = start;
        uint64_t all = 0, seen = 0;
        exj_msec newest = start;

        while (now < start + 3 * 86400000) {
            exj_schedule_verdict v;
            exj_msec ticks[3];

            exj_schedule_due(&s, last, now, ticks, 1 + (size_t)rand_r(&seed) % 3, &v);
            for (size_t i = 0; i < v.fire; i++) {
                cr_assert_gt(ticks[i], newest);
                cr_assert_leq(ticks[i], now);
                newest = ticks[i];
            }
            seen += v.fire + v.skipped;
            cr_assert_geq(v.last_tick, last);
            last = v.last_tick;
            if (!v.more)
                now += rand_r(&seed) % 5 ? rand_r(&seed) % 60000 : rand_r(&seed) % 7200000;
        }
        while (exj_schedule_next(&s, t, &t) && t <= last)
            all++;
        cr_assert_eq(seen, all, "round %d: %u of %u", round, (unsigned)seen, (unsigned)all);
        exj_schedule_release(&s);
    }
}

Test(schedule, the_name_of_a_tick_is_an_id_of_its_own)
{
    exj_schedule s = schedule("\"cron\":\"0 3 * * *\",\"zone\":\"Europe/Berlin\"");
    exj_buf b = EXJ_BUF_INIT;
    char id[EXJ_SCHEDULE_ID_BYTES + 1];

    cr_assert(exj_schedule_tick_name(&s, utc("2026-07-01T01:00:00"), &b));
    cr_expect_str_eq(b.p, "s@2026-07-01T01:00:00Z");
    exj_schedule_release(&s);
    memset(id, 'i', sizeof(id));
    id[EXJ_SCHEDULE_ID_BYTES] = '\0';
    exj_buf_reset(&b);
    cr_assert(exj_schedule_tick_name(&(exj_schedule){ .schedule_id = id },
                                     utc("9999-12-31T23:59:59"), &b));
    cr_expect_eq(exj_id_check(exj_buf_slice(&b), "record id", NULL), EXJ_OK);
    exj_buf_release(&b);
}

Test(schedule, lack_of_memory_is_reported_wherever_it_strikes)
{
    static const char doc[] = DOC("\"cron\":\"0 3 * * *\",\"zone\":\"Europe/Berlin\",\"start\":{"
                                  "\"matrixCatalogId\":\"m\",\"graphId\":\"g\",\"input\":{}}");
    long n = 1;

    for (;; n++) {
        exj_buf canonical = EXJ_BUF_INIT;
        exj_schedule s = { 0 };
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_schedule_parse(exj_slice_of(doc), (exj_slice){ 0 }, &s, &canonical, &err);
        exj_buf_release(&canonical);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_OK, "%s", err.text);
            exj_schedule_release(&s);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %s", n, err.text);
        cr_assert_null(s.schedule_id);
    }
    cr_expect_gt(n, 5);
}
