#include "core/job/cron.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAY 86400
#define YEARS_AHEAD 400                     /* after which the calendar repeats itself */
#define LAST_TICK INT64_C(253402300799)     /* 9999-12-31T23:59:59Z */
#define TRIES_MOST 200000                   /* a guard against zones nobody has seen */
#define QUOTE_BYTES 40

enum { SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK, FIELDS };

static const char *const month_names[] = { "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL",
                                           "AUG", "SEP", "OCT", "NOV", "DEC" };
static const char *const weekday_names[] = { "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT" };

static const struct field {
    const char *name;
    int least, most;
    const char *const *names; /* of least, least + 1, ... */
    int names_len;
    const char *also;         /* allowed besides numbers */
} fields[FIELDS] = {
    [SECOND] = { "second", 0, 59, NULL, 0, "" },
    [MINUTE] = { "minute", 0, 59, NULL, 0, "" },
    [HOUR] = { "hour", 0, 23, NULL, 0, "" },
    [DAY_OF_MONTH] = { "day of month", 1, 31, NULL, 0, "" },
    [MONTH] = { "month", 1, 12, month_names, 12, " or JAN-DEC" },
    [DAY_OF_WEEK] = { "day of week", 0, 7, weekday_names, 7, " (0 and 7 are Sunday) or SUN-SAT" },
};

static const struct {
    const char *name, *text;
} macros[] = {
    { "@hourly", "0 * * * *" },  { "@daily", "0 0 * * *" },   { "@midnight", "0 0 * * *" },
    { "@weekly", "0 0 * * 0" },  { "@monthly", "0 0 1 * *" }, { "@yearly", "0 0 1 1 *" },
    { "@annually", "0 0 1 1 *" },
};

/* ---- the text ------------------------------------------------------------------------ */

static int quote_len(exj_slice s)
{
    return (int)(s.n < QUOTE_BYTES ? s.n : QUOTE_BYTES);
}

/* Cut `s` at the first `c`: what is before it; *rest is what is behind, NULL p without. */
static exj_slice cut(exj_slice s, char c, exj_slice *rest)
{
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;

    *rest = (exj_slice){ 0 };
    if (!at)
        return s;
    *rest = (exj_slice){ at + 1, s.n - (size_t)(at - s.p) - 1 };
    return (exj_slice){ s.p, (size_t)(at - s.p) };
}

static exj_code wrong_value(const struct field *f, exj_slice value, exj_err *err)
{
    return exj_err_set(err, EXJ_INVALID, "%s: \"%.*s\" is not allowed; allowed: %d-%d%s",
                       f->name, quote_len(value), value.n ? value.p : "", f->least, f->most,
                       f->also);
}

static bool read_digits(exj_slice s, int *ret)
{
    int v = 0;

    if (s.n == 0 || s.n > 4)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!isdigit((unsigned char)s.p[i]))
            return false;
        v = v * 10 + (s.p[i] - '0');
    }
    *ret = v;
    return true;
}

/* The name's place in the field's list, or -1. */
static int find_name(const struct field *f, exj_slice s)
{
    for (int i = 0; s.n == 3 && i < f->names_len; i++)
        if (strncasecmp(s.p, f->names[i], 3) == 0)
            return i;
    return -1;
}

/* Forms of other programs that would need a calendar of their own: say what to do instead. */
static exj_code refuse_form(const struct field *f, exj_slice value, exj_err *err)
{
    exj_slice head = { value.p, value.n - 1 };
    char first = (char)toupper((unsigned char)value.p[0]);
    char last = (char)toupper((unsigned char)value.p[value.n - 1]);
    bool is_bare = head.n == 0 || read_digits(head, &(int){ 0 }) || find_name(f, head) >= 0;
    const char *instead = NULL;

    if (find_name(f, value) >= 0)
        return EXJ_OK;
    if (memchr(value.p, '?', value.n))
        instead = "? is not supported: write * where any value is meant";
    else if (memchr(value.p, '#', value.n))
        instead = "# (the n-th weekday of a month) is not supported: write the weekday alone "
                  "and let the work look at the date (the second one falls on the 8th-14th)";
    else if (last == 'W' && (is_bare || (first == 'L' && head.n == 1)))
        instead = "W (the nearest working day) is not supported: write MON-FRI as day of week "
                  "and let the work look at the date";
    else if ((last == 'L' && is_bare) || (first == 'L' && value.p[1] == '-'))
        instead = "L (the last one) is not supported: write 1 for the first day of the next "
                  "month, or 28-31 and let the work look at the date";
    if (!instead)
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID, "%s: \"%.*s\": %s", f->name, quote_len(value),
                       value.p, instead);
}

static exj_code read_value(const struct field *f, exj_slice s, int *ret, exj_err *err)
{
    int name = find_name(f, s);

    if (name >= 0) {
        *ret = f->least + name;
        return EXJ_OK;
    }
    if (!read_digits(s, ret) || *ret < f->least || *ret > f->most)
        return wrong_value(f, s, err);
    return EXJ_OK;
}

static exj_code read_range(const struct field *f, exj_slice s, int *ret_low, int *ret_high,
                           exj_err *err)
{
    exj_slice high_text, low_text = cut(s, '-', &high_text);
    bool is_week = f->names == weekday_names;
    int low, high;
    exj_code rc = read_value(f, low_text, &low, err);

    if (rc == EXJ_OK)
        rc = read_value(f, high_text, &high, err);
    if (rc != EXJ_OK)
        return rc;
    if (is_week && low == 7 && high < 7)
        low = 0;
    if (is_week && high == 0 && low > 0)
        high = 7; /* SAT-SUN */
    if (low > high)
        return exj_err_set(err, EXJ_INVALID,
                           "%s: the range \"%.*s\" runs backwards; write \"%d-%d,%d-%d\"",
                           f->name, quote_len(s), s.p, low, is_week ? 6 : f->most, f->least,
                           high);
    *ret_low = low;
    *ret_high = high;
    return EXJ_OK;
}

/* One item of a field's list. */
static exj_code read_item(const struct field *f, exj_slice s, uint64_t *ret, exj_err *err)
{
    exj_slice step_text, range = cut(s, '/', &step_text);
    int low = f->least, high = f->most, step = 1;
    exj_code rc = EXJ_OK;

    if (range.n == 0)
        return exj_err_set(err, EXJ_INVALID,
                           "%s: a value is missing in \"%.*s\"; allowed: %d-%d%s", f->name,
                           quote_len(s), s.n ? s.p : "", f->least, f->most, f->also);
    if (exj_slice_is(range, "*")) {
        if (f->names == weekday_names)
            high = 6;
    } else if (memchr(range.p, '-', range.n) && toupper((unsigned char)range.p[0]) != 'L') {
        rc = read_range(f, range, &low, &high, err);
    } else {
        rc = refuse_form(f, range, err);
        if (rc == EXJ_OK)
            rc = read_value(f, range, &low, err);
        high = low;
        if (rc == EXJ_OK && step_text.p)
            return exj_err_set(err, EXJ_INVALID,
                               "%s: the step in \"%.*s\" has no range; write \"%d-%d/%.*s\"",
                               f->name, quote_len(s), s.p, low, f->most, quote_len(step_text),
                               step_text.p);
    }
    if (rc != EXJ_OK)
        return rc;
    if (step_text.p && (!read_digits(step_text, &step) || step < 1 || step > f->most))
        return exj_err_set(err, EXJ_INVALID, "%s: the step \"%.*s\" is not allowed; allowed: "
                                             "1-%d",
                           f->name, quote_len(step_text), step_text.p, f->most);
    for (int v = low; v <= high; v += step)
        *ret |= UINT64_C(1) << v;
    return EXJ_OK;
}

static exj_code read_field(const struct field *f, exj_slice s, uint64_t *ret, exj_err *err)
{
    exj_slice rest = s;
    exj_code rc = EXJ_OK;

    *ret = 0;
    do {
        exj_slice item = cut(rest, ',', &rest);

        /* Before anything else, or "5#2" and "?" would only be wrong numbers. */
        if (item.n > 0 && (memchr(item.p, '?', item.n) || memchr(item.p, '#', item.n)))
            rc = refuse_form(f, item, err);
        if (rc == EXJ_OK)
            rc = read_item(f, item, ret, err);
    } while (rc == EXJ_OK && rest.p);
    return rc;
}

/* A day that none of the months has would be waited for for ever. */
static exj_code check_day_comes(const exj_cron *c, exj_err *err)
{
    int32_t longest = 0, first = 1;
    char months[64];
    int at = 0;

    if (c->either_day)
        return EXJ_OK;
    while (!(c->days >> first & 1))
        first++;
    for (int32_t m = 1; m <= 12; m++) {
        if (!(c->months >> m & 1))
            continue;
        if (exj_month_length(2000, m) > longest)
            longest = exj_month_length(2000, m);
        if (at < 48)
            at += snprintf(months + at, sizeof(months) - (size_t)at, "%s%s", at ? ", " : "",
                           month_names[m - 1]);
    }
    if (first <= longest)
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID,
                       "it never fires: day of month: %d is not a day of %s; allowed there: "
                       "1-%d",
                       first, months, longest);
}

static bool is_wild(exj_slice s)
{
    return memchr(s.p, '*', s.n) || memchr(s.p, '/', s.n);
}

static exj_code read_fields(exj_slice *texts, size_t len, exj_cron *c, exj_err *err)
{
    static const exj_slice zero = { "0", 1 };
    uint64_t bits[FIELDS];
    exj_slice *text;
    exj_code rc;

    if (len == FIELDS - 1) {
        memmove(texts + 1, texts, len * sizeof(*texts));
        texts[0] = zero;
    }
    for (int i = 0; i < FIELDS; i++) {
        rc = read_field(&fields[i], texts[i], &bits[i], err);
        if (rc != EXJ_OK)
            return rc;
    }
    text = texts;
    *c = (exj_cron){ .seconds = bits[SECOND],
                     .minutes = bits[MINUTE],
                     .hours = (uint32_t)bits[HOUR],
                     .days = (uint32_t)bits[DAY_OF_MONTH],
                     .months = (uint32_t)bits[MONTH],
                     .weekdays = (uint32_t)((bits[DAY_OF_WEEK] | bits[DAY_OF_WEEK] >> 7) &
                                            0x7f) };
    c->either_day = text[DAY_OF_MONTH].p[0] != '*' && text[DAY_OF_WEEK].p[0] != '*';
    c->running_time = is_wild(text[SECOND]) || is_wild(text[MINUTE]) || is_wild(text[HOUR]);
    return check_day_comes(c, err);
}

/* The words of `text`; how many there are, the first FIELDS of them in ret. */
static size_t split(exj_slice text, exj_slice ret[FIELDS])
{
    size_t len = 0, at = 0;

    while (at < text.n) {
        size_t from = at;

        while (at < text.n && text.p[at] != ' ' && text.p[at] != '\t')
            at++;
        if (at > from) {
            if (len < FIELDS)
                ret[len] = (exj_slice){ text.p + from, at - from };
            len++;
        }
        at++;
    }
    return len;
}

static exj_code read_text(exj_slice text, exj_cron *ret, exj_err *err)
{
    exj_slice texts[FIELDS];
    size_t len;

    if (text.n > EXJ_CRON_TEXT_BYTES)
        return exj_err_set(err, EXJ_INVALID, "it has %zu bytes; at most %u are allowed",
                           text.n, EXJ_CRON_TEXT_BYTES);
    len = split(text, texts);
    if (len == 1 && texts[0].p[0] == '@') {
        for (size_t i = 0; i < sizeof(macros) / sizeof(*macros); i++)
            if (strlen(macros[i].name) == texts[0].n &&
                strncasecmp(macros[i].name, texts[0].p, texts[0].n) == 0) {
                len = split(exj_slice_of(macros[i].text), texts);
                return read_fields(texts, len, ret, err);
            }
        return exj_err_set(err, EXJ_INVALID,
                           "unknown word; allowed: @hourly, @daily, @midnight, @weekly, "
                           "@monthly, @yearly, @annually");
    }
    if (len != FIELDS && len != FIELDS - 1)
        return exj_err_set(err, EXJ_INVALID,
                           "found %zu fields; wanted 5 (minute, hour, day of month, month, day "
                           "of week), or 6 with the second in front",
                           len);
    return read_fields(texts, len, ret, err);
}

exj_code exj_cron_parse(exj_slice text, exj_cron *ret, exj_err *err)
{
    exj_cron c = { 0 };
    exj_code rc = read_text(text, &c, err);

    if (rc != EXJ_OK) {
        exj_err_prefix(err, "cron \"%.*s\"", (int)(text.n < 80 ? text.n : 80),
                       text.n ? text.p : "");
        return rc;
    }
    *ret = c;
    return EXJ_OK;
}

/* ---- fitting local times ------------------------------------------------------------- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* The lowest bit at or above `from` (0..63), or -1. */
static int lowest(uint64_t bits, int from)
{
    bits &= UINT64_MAX << from;
    return bits ? __builtin_ctzll(bits) : -1;
}

/* The highest bit at or below `from`, or -1. */
static int highest(uint64_t bits, int from)
{
    bits = from < 0 ? 0 : bits & (UINT64_MAX >> (63 - from));
    return bits ? 63 - __builtin_clzll(bits) : -1;
}

/* The first fitting second of a day at or after `from` (0..86399), or -1. */
static int first_time(const exj_cron *c, int from)
{
    int h = from / 3600, m = from / 60 % 60, s = from % 60;
    int hour = lowest(c->hours, h), minute, second;

    if (hour == h) {
        minute = lowest(c->minutes, m);
        if (minute == m) {
            second = lowest(c->seconds, s);
            if (second >= 0)
                return hour * 3600 + minute * 60 + second;
            minute = lowest(c->minutes, m + 1);
        }
        if (minute >= 0)
            return hour * 3600 + minute * 60 + lowest(c->seconds, 0);
        hour = lowest(c->hours, h + 1);
    }
    if (hour < 0)
        return -1;
    return hour * 3600 + lowest(c->minutes, 0) * 60 + lowest(c->seconds, 0);
}

/* The last fitting second of a day at or before `from`, or -1. */
static int last_time(const exj_cron *c, int from)
{
    int h = from / 3600, m = from / 60 % 60, s = from % 60;
    int hour = highest(c->hours, h), minute, second;

    if (hour == h) {
        minute = highest(c->minutes, m);
        if (minute == m) {
            second = highest(c->seconds, s);
            if (second >= 0)
                return hour * 3600 + minute * 60 + second;
            minute = highest(c->minutes, m - 1);
        }
        if (minute >= 0)
            return hour * 3600 + minute * 60 + highest(c->seconds, 59);
        hour = highest(c->hours, h - 1);
    }
    if (hour < 0)
        return -1;
    return hour * 3600 + highest(c->minutes, 59) * 60 + highest(c->seconds, 59);
}

static bool day_fits(const exj_cron *c, int32_t day, int32_t weekday)
{
    bool month_day = c->days >> day & 1, week_day = c->weekdays >> weekday & 1;

    return c->either_day ? month_day || week_day : month_day && week_day;
}

/* The first fitting local second at or after `from`. */
static bool first_local(const exj_cron *c, int64_t from, int64_t *ret)
{
    int64_t days = floor_div(from, DAY), month_start;
    int time = first_time(c, (int)(from - days * DAY));
    exj_date d = exj_date_of_days(days);
    int64_t last_year = d.year + YEARS_AHEAD;

    if (time < 0) { /* nothing left of that day */
        d = exj_date_of_days(++days);
        time = first_time(c, 0);
    }
    while (d.year <= last_year) {
        int32_t length = exj_month_length(d.year, d.month), weekday;

        month_start = exj_days_of_date(d.year, d.month, 1);
        weekday = exj_weekday_of_days(month_start + d.day - 1);
        for (; (c->months >> d.month & 1) && d.day <= length; d.day++) {
            if (day_fits(c, d.day, weekday)) {
                if (month_start + d.day - 1 != days)
                    time = first_time(c, 0);
                *ret = (month_start + d.day - 1) * DAY + time;
                return true;
            }
            weekday = weekday == 6 ? 0 : weekday + 1;
        }
        d.day = 1;
        d.year += d.month == 12;
        d.month = d.month == 12 ? 1 : d.month + 1;
    }
    return false;
}

/* The last fitting local second at or before `from`. */
static bool last_local(const exj_cron *c, int64_t from, int64_t *ret)
{
    int64_t days = floor_div(from, DAY), month_start;
    int time = last_time(c, (int)(from - days * DAY));
    exj_date d = exj_date_of_days(days);
    int64_t first_year = d.year - YEARS_AHEAD;

    if (time < 0) {
        d = exj_date_of_days(--days);
        time = last_time(c, DAY - 1);
    }
    while (d.year >= first_year) {
        int32_t weekday;

        month_start = exj_days_of_date(d.year, d.month, 1);
        weekday = exj_weekday_of_days(month_start + d.day - 1);
        for (; (c->months >> d.month & 1) && d.day >= 1; d.day--) {
            if (day_fits(c, d.day, weekday)) {
                if (month_start + d.day - 1 != days)
                    time = last_time(c, DAY - 1);
                *ret = (month_start + d.day - 1) * DAY + time;
                return true;
            }
            weekday = weekday == 0 ? 6 : weekday - 1;
        }
        d.year -= d.month == 1;
        d.month = d.month == 1 ? 12 : d.month - 1;
        d.day = exj_month_length(d.year, d.month);
    }
    return false;
}

/* ---- ticks --------------------------------------------------------------------------- */

/* The latest local second the clocks had shown by `utc`: in the second pass of an hour that
 * comes twice, the end of the first. */
static int64_t shown_by(const exj_zone *z, int64_t utc)
{
    exj_zone_span s = exj_zone_span_at(z, utc);
    int64_t local = utc + s.offset, end;

    if (s.from == INT64_MIN || utc - s.from > 3 * DAY)
        return local;
    end = s.from + exj_zone_offset(z, s.from - 1) - 1;
    return end > local ? end : local;
}

static bool next_fixed(const exj_cron *c, const exj_zone *z, int64_t after, int64_t *ret)
{
    int64_t local = shown_by(z, after), utc;

    for (int i = 0; i < TRIES_MOST; i++) {
        if (!first_local(c, local + 1, &local))
            return false;
        utc = exj_zone_find_local(z, local).first;
        if (utc > after) {
            *ret = utc;
            return true;
        }
    }
    return false;
}

static bool previous_fixed(const exj_cron *c, const exj_zone *z, int64_t before, int64_t *ret)
{
    int64_t local = shown_by(z, before - 1) + 1, utc;

    for (int i = 0; i < TRIES_MOST; i++) {
        if (!last_local(c, local - 1, &local))
            return false;
        utc = exj_zone_find_local(z, local).first;
        if (utc < before) {
            *ret = utc;
            return true;
        }
    }
    return false;
}

/* One stretch with one offset after the other; in each a look at the calendar. */
static bool next_running(const exj_cron *c, const exj_zone *z, int64_t after, int64_t *ret)
{
    int64_t from = after + 1, local;

    for (int i = 0; i < TRIES_MOST && from <= LAST_TICK; i++) {
        exj_zone_span s = exj_zone_span_at(z, from);

        if (!first_local(c, from + s.offset, &local))
            return false;
        if (local - s.offset < s.until) {
            *ret = local - s.offset;
            return true;
        }
        from = s.until;
    }
    return false;
}

static bool previous_running(const exj_cron *c, const exj_zone *z, int64_t before,
                             int64_t *ret)
{
    int64_t until = before, local;

    for (int i = 0; i < TRIES_MOST && until > 0; i++) {
        exj_zone_span s = exj_zone_span_at(z, until - 1);

        if (!last_local(c, until - 1 + s.offset, &local))
            return false;
        if (local - s.offset >= s.from) {
            *ret = local - s.offset;
            return true;
        }
        until = s.from;
    }
    return false;
}

bool exj_cron_next(const exj_cron *c, const exj_zone *z, int64_t after_ms, int64_t *ret_ms)
{
    int64_t after = floor_div(after_ms, 1000), tick;

    if (after < -1)
        after = -1; /* the epoch itself may be the first tick */
    if (after >= LAST_TICK)
        return false;
    if (!(c->running_time ? next_running : next_fixed)(c, z, after, &tick) ||
        tick > LAST_TICK)
        return false;
    *ret_ms = tick * 1000;
    return true;
}

bool exj_cron_previous(const exj_cron *c, const exj_zone *z, int64_t before_ms,
                       int64_t *ret_ms)
{
    int64_t before = floor_div(before_ms, 1000) + (before_ms % 1000 != 0), tick;

    if (before > LAST_TICK + 1)
        before = LAST_TICK + 1;
    if (before <= 0)
        return false;
    if (!(c->running_time ? previous_running : previous_fixed)(c, z, before, &tick) ||
        tick < 0)
        return false;
    *ret_ms = tick * 1000;
    return true;
}
