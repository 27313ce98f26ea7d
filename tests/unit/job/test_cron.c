#include "core/job/cron.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"

#define DAY 86400

static exj_cron cron(const char *text)
{
    exj_cron c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_cron_parse(exj_slice_of(text), &c, &err), EXJ_OK, "%s", err.text);
    return c;
}

static exj_zone *zone(const char *name)
{
    exj_zone *z = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_zone_open(exj_slice_of(name), &z, &err), EXJ_OK, "%s", err.text);
    return z;
}

/* Milliseconds of "2026-01-02T03:04:05". */
static exj_msec utc(const char *text)
{
    int y, mo, d, h, mi, s;

    cr_assert_eq(sscanf(text, "%d-%d-%dT%d:%d:%d", &y, &mo, &d, &h, &mi, &s), 6, "%s", text);
    return (exj_days_of_date(y, mo, d) * DAY + h * 3600 + mi * 60 + s) * 1000;
}

struct walk {
    const char *zone, *cron, *after; /* UTC */
    const char *ticks[6];            /* UTC; the ticks after it, one by one */
};

/* Forwards from `after`, and backwards from the last tick to the first. */
static void check_walk(const struct walk *w)
{
    exj_zone *z = zone(w->zone);
    exj_cron c = cron(w->cron);
    exj_msec t = utc(w->after), found = 0;
    char text[EXJ_TIME_TEXT_BYTES];
    size_t n = 0;

    for (; n < 6 && w->ticks[n]; n++) {
        cr_assert(exj_cron_next(&c, z, t, &found), "%s", w->cron);
        exj_clock_format(found, text);
        cr_expect_eq(found, utc(w->ticks[n]), "%s %s: tick %zu is %s, not %s", w->zone, w->cron,
                     n, text, w->ticks[n]);
        t = found;
    }
    while (n-- > 1) {
        cr_assert(exj_cron_previous(&c, z, t, &found), "%s", w->cron);
        exj_clock_format(found, text);
        cr_expect_eq(found, utc(w->ticks[n - 1]), "%s %s: back from %zu to %s, not %s", w->zone,
                     w->cron, n, text, w->ticks[n - 1]);
        t = found;
    }
    exj_zone_free(z);
}

Test(cron, next_times_follow_the_fields)
{
    static const struct walk walks[] = {
        { "UTC", "0 3 * * *", "2026-01-01T03:00:00",
          { "2026-01-02T03:00:00", "2026-01-03T03:00:00" } },
        { "UTC", "*/15 9-10 * * *", "2026-01-01T09:40:00",
          { "2026-01-01T09:45:00", "2026-01-01T10:00:00", "2026-01-01T10:15:00" } },
        { "UTC", "10-59/20 * * * * *", "2026-12-31T23:59:30",
          { "2026-12-31T23:59:50", "2027-01-01T00:00:10", "2027-01-01T00:00:30" } },
        { "UTC", "0 12 * jan,Dec MoN-fri", "2026-11-28T00:00:00",
          { "2026-12-01T12:00:00", "2026-12-02T12:00:00", "2026-12-03T12:00:00",
            "2026-12-04T12:00:00", "2026-12-07T12:00:00" } },
        { "UTC", "0 0 31 * *", "2026-01-31T00:00:00",
          { "2026-03-31T00:00:00", "2026-05-31T00:00:00", "2026-07-31T00:00:00" } },
        { "UTC", "0 0 * * 7", "2026-11-21T00:00:00", { "2026-11-22T00:00:00",
                                                      "2026-11-29T00:00:00" } },
        { "UTC", "0 0 * * sat-sun", "2026-11-20T00:00:00",
          { "2026-11-21T00:00:00", "2026-11-22T00:00:00", "2026-11-28T00:00:00" } },
        { "UTC", "\t5  4 * * 5-7 ", "2026-11-21T04:05:00",
          { "2026-11-22T04:05:00", "2026-11-27T04:05:00" } },
        { "UTC", "@hourly", "2026-01-01T00:00:00", { "2026-01-01T01:00:00" } },
        { "UTC", "@Daily", "2026-01-01T00:00:00", { "2026-01-02T00:00:00" } },
        { "UTC", "@weekly", "2026-01-01T00:00:00", { "2026-01-04T00:00:00" } },
        { "UTC", "@monthly", "2026-01-01T00:00:00", { "2026-02-01T00:00:00" } },
        { "UTC", "@yearly", "2026-01-01T00:00:00", { "2027-01-01T00:00:00" } },
        /* leap days: 2100 has none */
        { "UTC", "0 0 29 2 *", "2024-02-29T00:00:00",
          { "2028-02-29T00:00:00", "2032-02-29T00:00:00" } },
        { "UTC", "0 0 29 2 *", "2096-02-29T00:00:00", { "2104-02-29T00:00:00" } },
        /* both days restricted: either fits */
        { "UTC", "0 0 13 * FRI", "2026-11-01T00:00:00",
          { "2026-11-06T00:00:00", "2026-11-13T00:00:00", "2026-11-20T00:00:00",
            "2026-11-27T00:00:00", "2026-12-04T00:00:00" } },
        { "UTC", "0 0 1,15 2 MON", "2026-02-01T00:00:00",
          { "2026-02-02T00:00:00", "2026-02-09T00:00:00", "2026-02-15T00:00:00" } },
        { "UTC", "0 0 30 2 MON", "2026-01-01T00:00:00", { "2026-02-02T00:00:00" } },
        /* one begins with a star: both must fit */
        { "UTC", "0 0 */2 * MON", "2026-11-01T00:00:00",
          { "2026-11-09T00:00:00", "2026-11-23T00:00:00" } },
        /* a leap day that is a Sunday or a Saturday comes twice in 28 years */
        { "UTC", "0 0 29 2 */6", "2026-01-01T00:00:00",
          { "2032-02-29T00:00:00", "2048-02-29T00:00:00" } },
    };

    for (size_t i = 0; i < sizeof(walks) / sizeof(*walks); i++)
        check_walk(&walks[i]);
}

Test(cron, fixed_times_fire_once_when_the_clocks_are_moved)
{
    static const struct walk walks[] = {
        /* Berlin: 2026-03-29 02:00 -> 03:00 at 01:00 UTC, 2026-10-25 03:00 -> 02:00 */
        { "Europe/Berlin", "30 2 * * *", "2026-03-27T12:00:00",
          { "2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00" } },
        { "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00",
          { "2026-10-25T00:30:00", "2026-10-26T01:30:00" } },
        /* all in the gap: one tick, the same as the one just after it */
        { "Europe/Berlin", "10,20,50 2,3 29 3 *", "2026-03-28T00:00:00",
          { "2026-03-29T01:00:00", "2026-03-29T01:10:00", "2026-03-29T01:20:00",
            "2026-03-29T01:50:00" } },
        { "Europe/Berlin", "0 2-3 * * *", "2026-03-28T12:00:00",
          { "2026-03-29T01:00:00", "2026-03-30T00:00:00", "2026-03-30T01:00:00" } },
        { "Europe/Berlin", "10,40 2 * * *", "2026-03-29T00:30:00",
          { "2026-03-29T01:00:00", "2026-03-30T00:10:00" } },
        { "Europe/Berlin", "10,40 2 * * *", "2026-10-24T23:30:00",
          { "2026-10-25T00:10:00", "2026-10-25T00:40:00", "2026-10-26T01:10:00" } },
        /* after the table of the file, by its rule */
        { "Europe/Berlin", "30 2 26 3 *", "2090-01-01T00:00:00", { "2090-03-26T01:00:00" } },
        { "America/New_York", "30 2 8 3 *", "2026-01-01T00:00:00", { "2026-03-08T07:00:00" } },
        { "America/New_York", "30 1 * * *", "2026-10-31T12:00:00",
          { "2026-11-01T05:30:00", "2026-11-02T06:30:00" } },
        /* Lord Howe moves by half an hour */
        { "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00:00",
          { "2026-10-03T15:30:00", "2026-10-04T15:15:00" } },
        { "Australia/Lord_Howe", "45 1 * * *", "2026-04-03T20:00:00",
          { "2026-04-04T14:45:00", "2026-04-05T15:15:00" } },
        /* Apia had no 2011-12-30: it goes to the first instant of the 31st */
        { "Pacific/Apia", "0 12 * * *", "2011-12-29T00:00:00",
          { "2011-12-29T22:00:00", "2011-12-30T10:00:00", "2011-12-30T22:00:00" } },
        { "Pacific/Apia", "0 12 30 12 *", "2011-01-01T00:00:00",
          { "2011-12-30T10:00:00", "2012-12-29T22:00:00" } },
        { "Pacific/Apia", "0 0 * * *", "2011-12-29T12:00:00",
          { "2011-12-30T10:00:00", "2011-12-31T10:00:00" } },
    };

    for (size_t i = 0; i < sizeof(walks) / sizeof(*walks); i++)
        check_walk(&walks[i]);
}

Test(cron, in_the_second_pass_of_an_hour_all_its_fixed_times_are_past)
{
    exj_zone *z = zone("Europe/Berlin");
    exj_cron c = cron("10,40 2 * * *");
    exj_msec second_pass = utc("2026-10-25T01:20:00"), t; /* 02:20 CET */

    cr_assert(exj_cron_previous(&c, z, second_pass, &t));
    cr_expect_eq(t, utc("2026-10-25T00:40:00"));
    cr_assert(exj_cron_next(&c, z, second_pass, &t));
    cr_expect_eq(t, utc("2026-10-26T01:10:00"));
    exj_zone_free(z);
}

Test(cron, running_times_follow_the_time_that_passes)
{
    static const struct walk walks[] = {
        { "Europe/Berlin", "0 * * * *", "2026-03-28T23:30:00",
          { "2026-03-29T00:00:00", "2026-03-29T01:00:00", "2026-03-29T02:00:00" } },
        { "Europe/Berlin", "0 * * * *", "2026-10-24T23:30:00",
          { "2026-10-25T00:00:00", "2026-10-25T01:00:00", "2026-10-25T02:00:00" } },
        { "Europe/Berlin", "*/30 2 * * *", "2026-10-24T12:00:00",
          { "2026-10-25T00:00:00", "2026-10-25T00:30:00", "2026-10-25T01:00:00",
            "2026-10-25T01:30:00", "2026-10-26T01:00:00" } },
        { "Europe/Berlin", "*/30 2 * * *", "2026-03-28T01:00:00",
          { "2026-03-28T01:30:00", "2026-03-30T00:00:00" } },
        { "Europe/Berlin", "*/20 0 2 * * *", "2026-10-25T00:00:20",
          { "2026-10-25T00:00:40", "2026-10-25T01:00:00", "2026-10-25T01:00:20" } },
        { "America/New_York", "30 */1 * * *", "2026-11-01T05:00:00",
          { "2026-11-01T05:30:00", "2026-11-01T06:30:00", "2026-11-01T07:30:00" } },
        { "Australia/Lord_Howe", "*/30 * * * *", "2026-10-03T15:00:00",
          { "2026-10-03T15:30:00", "2026-10-03T16:00:00" } },
        { "Pacific/Apia", "0 */12 * * *", "2011-12-29T11:00:00",
          { "2011-12-29T22:00:00", "2011-12-30T10:00:00", "2011-12-30T22:00:00" } },
        { "UTC", "*/30 2 29 2 *", "2026-01-01T00:00:00",
          { "2028-02-29T02:00:00", "2028-02-29T02:30:00" } },
        { "Europe/Berlin", "0 0-12/6 29 2 *", "2026-01-01T00:00:00",
          { "2028-02-28T23:00:00", "2028-02-29T05:00:00" } },
    };

    for (size_t i = 0; i < sizeof(walks) / sizeof(*walks); i++)
        check_walk(&walks[i]);
}

Test(cron, a_fraction_of_a_second_counts_as_later)
{
    exj_zone *z = zone("UTC");
    exj_cron c = cron("* * * * * *");
    exj_msec t;

    cr_assert(exj_cron_next(&c, z, 5999, &t) && t == 6000);
    cr_assert(exj_cron_next(&c, z, 6000, &t) && t == 7000);
    cr_assert(exj_cron_previous(&c, z, 6000, &t) && t == 5000);
    cr_assert(exj_cron_previous(&c, z, 6001, &t) && t == 6000);
    exj_zone_free(z);
}

Test(cron, no_tick_is_before_1970_or_after_9999)
{
    exj_zone *z = zone("Europe/Berlin");
    exj_cron c = cron("* * * * *");
    exj_msec t;

    cr_assert(exj_cron_next(&c, z, INT64_MIN, &t) && t == 0);
    cr_expect_not(exj_cron_previous(&c, z, 0, &t));
    cr_expect_not(exj_cron_previous(&c, z, INT64_MIN, &t));
    cr_expect_not(exj_cron_next(&c, z, INT64_MAX, &t));
    cr_assert(exj_cron_previous(&c, z, INT64_MAX, &t) && t == utc("9999-12-31T23:59:00"));
    cr_expect_not(exj_cron_next(&c, z, t, &t));
    c = cron("0 0 29 2 *");
    cr_expect_not(exj_cron_next(&c, z, utc("9998-01-01T00:00:00"), &t));
    cr_expect_not(exj_cron_previous(&c, z, utc("1971-01-01T00:00:00"), &t));
    exj_zone_free(z);
}

Test(cron, what_is_wrong_is_named_with_field_value_and_range)
{
    static const char *const cases[][2] = {
        { "61 * * * *", "cron \"61 * * * *\": minute: \"61\" is not allowed; allowed: 0-59" },
        { "* * 30 2 *", "it never fires: day of month: 30 is not a day of FEB; allowed there: "
                        "1-29" },
        { "0 0 31 4,6,9,11 *", "31 is not a day of APR, JUN, SEP, NOV; allowed there: 1-30" },
        { "0 0 30 2 */2", "it never fires" },
        { "* 24 * * *", "hour: \"24\" is not allowed; allowed: 0-23" },
        { "* * 0 * *", "day of month: \"0\" is not allowed; allowed: 1-31" },
        { "* * 32 * *", "day of month: \"32\"" },
        { "* * * 13 *", "month: \"13\" is not allowed; allowed: 1-12 or JAN-DEC" },
        { "* * * 0 *", "month: \"0\"" },
        { "* * * * 8", "day of week: \"8\" is not allowed; allowed: 0-7 (0 and 7 are Sunday) or "
                       "SUN-SAT" },
        { "60 0 * * * *", "second: \"60\" is not allowed; allowed: 0-59" },
        { "* * * APRIL *", "month: \"APRIL\" is not allowed" },
        { "* * * MON *", "month: \"MON\" is not allowed" },
        { "MON * * * *", "minute: \"MON\" is not allowed" },
        { "-1 * * * *", "minute: \"\" is not allowed" },
        { "1.5 * * * *", "minute: \"1.5\"" },
        { "99999999999 * * * *", "minute: \"99999999999\"" },
        { "5- * * * *", "minute: \"\" is not allowed" },
        { ", * * * *", "minute: a value is missing" },
        { "1,,2 * * * *", "minute: a value is missing" },
        { "/5 * * * *", "minute: a value is missing in \"/5\"" },
        { "*/0 * * * *", "minute: the step \"0\" is not allowed; allowed: 1-59" },
        { "*/60 * * * *", "minute: the step \"60\"" },
        { "*/ * * * *", "minute: the step \"\"" },
        { "*/2/3 * * * *", "minute: the step \"2/3\"" },
        { "5/15 * * * *", "minute: the step in \"5/15\" has no range; write \"5-59/15\"" },
        { "0 22-2 * * *", "hour: the range \"22-2\" runs backwards; write \"22-23,0-2\"" },
        { "0 0 * * FRI-MON", "the range \"FRI-MON\" runs backwards; write \"5-6,0-1\"" },
        { "0 0 L * *", "day of month: \"L\": L (the last one) is not supported: write 1" },
        { "0 0 L-3 * *", "day of month: \"L-3\": L (the last one)" },
        { "0 0 * * 5L", "day of week: \"5L\": L (the last one)" },
        { "0 0 * * friL", "day of week: \"friL\": L (the last one)" },
        { "0 0 15W * *", "day of month: \"15W\": W (the nearest working day) is not supported: "
                         "write MON-FRI" },
        { "0 0 LW * *", "day of month: \"LW\": W" },
        { "0 0 * * FRI#2", "day of week: \"FRI#2\": # (the n-th weekday of a month) is not "
                           "supported: write the weekday alone" },
        { "0 0 ? * MON", "day of month: \"?\": ? is not supported: write *" },
        { "", "found 0 fields; wanted 5" },
        { "* * * *", "found 4 fields" },
        { "0 0 12 * * MON 2026", "found 7 fields" },
        { "@reboot", "allowed: @hourly, @daily" },
        { "@daily 5", "found 2 fields" },
    };
    char longer[400];
    exj_err err;
    exj_cron c;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        err = (exj_err){ 0 };
        cr_expect_eq(exj_cron_parse(exj_slice_of(cases[i][0]), &c, &err), EXJ_INVALID, "%s",
                     cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
    }
    memset(longer, '*', sizeof(longer));
    err = (exj_err){ 0 };
    cr_expect_eq(exj_cron_parse((exj_slice){ longer, sizeof(longer) }, &c, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "it has 400 bytes; at most 256"), "%s", err.text);
    cr_expect_eq(exj_cron_parse((exj_slice){ 0 }, &c, NULL), EXJ_INVALID);
    cr_expect_eq(exj_cron_parse((exj_slice){ "0\0 * * * *", 10 }, &c, NULL), EXJ_INVALID);
}

Test(cron, names_that_end_in_l_or_w_are_names)
{
    exj_cron c = cron("0 0 * JUL wed");

    cr_expect_eq(c.months, 1u << 7);
    cr_expect_eq(c.weekdays, 1u << 3);
}

/* ---- against a walk through every second or minute ---------------------------------------- */

static uint64_t state;

static unsigned below(unsigned n)
{
    uint64_t x = state += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ x >> 31) % n);
}

/* A field's text and which values it allows, made without the parser. */
struct made {
    char text[64];
    bool fits[64], star, wild;
};

static void make_field(struct made *m, int least, int most, unsigned star_in)
{
    int at = 0;

    memset(m, 0, sizeof(*m));
    if (below(star_in) == 0) {
        int step = below(2) ? 1 : 1 + (int)below((unsigned)most);

        at = snprintf(m->text, sizeof(m->text), step > 1 ? "*/%d" : "*", step);
        for (int v = least; v <= most; v += step)
            m->fits[v] = true;
        m->star = m->wild = true;
        return;
    }
    for (unsigned items = 1 + below(3); items > 0; items--) {
        int low = least + (int)below((unsigned)(most - least + 1)), high = low, step = 1;

        if (below(3) == 0)
            high = low + (int)below((unsigned)(most - low + 1));
        if (high > low && below(3) == 0)
            step = 1 + (int)below(7 > most ? (unsigned)most : 7);
        at += snprintf(m->text + at, sizeof(m->text) - (size_t)at, at ? ",%d" : "%d", low);
        if (high > low)
            at += snprintf(m->text + at, sizeof(m->text) - (size_t)at, "-%d", high);
        if (step > 1) {
            at += snprintf(m->text + at, sizeof(m->text) - (size_t)at, "/%d", step);
            m->wild = true;
        }
        for (int v = low; v <= high; v += step)
            m->fits[v] = true;
    }
}

static bool fits(const struct made f[6], int64_t local)
{
    time_t t = (time_t)local;
    struct tm tm;
    bool day, week;

    gmtime_r(&t, &tm);
    day = f[3].fits[tm.tm_mday];
    week = f[5].fits[tm.tm_wday];
    return f[0].fits[tm.tm_sec] && f[1].fits[tm.tm_min] && f[2].fits[tm.tm_hour] &&
           f[4].fits[tm.tm_mon + 1] &&
           (f[3].star || f[5].star ? day && week : day || week);
}

/* What the header says, word by word: walk through a window of time and expect a tick where
 * the clocks show, or have just jumped over, a fitting time that they had not shown before. */
static void walk_naively(const struct made f[6], const char *text, const exj_cron *c,
                         const exj_zone *z, int64_t from, int64_t until, int64_t pace)
{
    bool wild = f[0].wild || f[1].wild || f[2].wild;
    int64_t warm_up = from - 2 * DAY, unseen = warm_up + exj_zone_offset(z, warm_up);
    exj_msec expected = 0, last = -1;

    cr_assert(exj_cron_next(c, z, from * 1000 - 1, &expected), "%s", text);
    for (int64_t u = warm_up; u < until; u += pace) {
        int64_t local = u + exj_zone_offset(z, u);
        bool tick = false;

        if (wild) {
            tick = fits(f, local);
        } else {
            for (; unseen <= local; unseen += pace)
                tick |= fits(f, unseen);
        }
        if (!tick || u < from) {
            exj_msec back = -1, next = -1;

            /* The same two from in between, in the second pass of an hour too. */
            if (last < 0 || u % (11 * pace) != 0)
                continue;
            cr_assert(exj_cron_previous(c, z, u * 1000, &back) && back == last,
                      "%s in %s: before %lld is %lld, the walk had %lld", text,
                      exj_zone_name(z), (long long)u, (long long)back / 1000,
                      (long long)last / 1000);
            cr_assert(exj_cron_next(c, z, u * 1000, &next) && next == expected,
                      "%s in %s: after %lld is %lld, not %lld", text, exj_zone_name(z),
                      (long long)u, (long long)next / 1000, (long long)expected / 1000);
            continue;
        }
        cr_assert_eq(expected, u * 1000, "%s in %s: next is %lld, the walk came to %lld", text,
                     exj_zone_name(z), (long long)expected / 1000, (long long)u);
        if (last >= 0) {
            exj_msec back = -1;

            cr_assert(exj_cron_previous(c, z, u * 1000, &back));
            cr_assert_eq(back, last, "%s in %s: before %lld is %lld, the walk had %lld", text,
                         exj_zone_name(z), (long long)u, (long long)back / 1000,
                         (long long)last / 1000);
        }
        last = u * 1000;
        cr_assert(exj_cron_next(c, z, last, &expected), "%s", text);
    }
    cr_assert_geq(expected, until * 1000, "%s in %s: the walk did not come to %lld", text,
                  exj_zone_name(z), (long long)expected / 1000);
}

Test(cron, ticks_are_what_a_walk_through_all_instants_finds)
{
    static const char *const names[] = { "UTC", "Europe/Berlin", "America/New_York",
                                         "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo",
                                         "Africa/Casablanca", "America/Sao_Paulo" };
    const char *given = getenv("EXJ_TEST_SEED");
    exj_zone *zones[8];

    state = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    fprintf(stderr, "cron: EXJ_TEST_SEED=%llu\n", (unsigned long long)state);
    for (size_t i = 0; i < 8; i++)
        zones[i] = zone(names[i]);
    for (int round = 0; round < 200; round++) {
        const exj_zone *z = zones[below(8)];
        bool by_second = round % 20 == 0;
        int64_t from = INT64_C(347155200) + (int64_t)below(3600000000u); /* 1981 to 2095 */
        exj_zone_span s = exj_zone_span_at(z, from);
        struct made f[6];
        char text[400];
        exj_cron c;
        exj_err err = { 0 };

        if (s.until != INT64_MAX && below(4))
            from = s.until - DAY; /* a change is in the window */
        from -= from % 60;
        make_field(&f[0], 0, 59, 3);
        make_field(&f[1], 0, 59, 4);
        make_field(&f[2], 0, 23, 4);
        make_field(&f[3], 1, 31, 2);
        make_field(&f[4], 1, 12, 1);
        make_field(&f[5], 0, 6, 2);
        if (!by_second) {
            memset(&f[0], 0, sizeof(f[0]));
            f[0].fits[0] = true;
        }
        snprintf(text, sizeof(text), "%s %s %s %s %s %s", f[0].text, f[1].text, f[2].text,
                 f[3].text, f[4].text, f[5].text);
        cr_assert_eq(exj_cron_parse(exj_slice_of(text), &c, &err), EXJ_OK, "%s", err.text);
        walk_naively(f, text, &c, z, from, from + (by_second ? 2 : 11) * DAY,
                     by_second ? 1 : 60);
    }
    for (size_t i = 0; i < 8; i++)
        exj_zone_free(zones[i]);
}
