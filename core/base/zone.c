#include "core/base/zone.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/str.h"

#define DAY 86400
#define TIME_MOST (INT64_C(1) << 59) /* RFC 8536, 3.2: seconds; room to calculate beyond it */
#define OFFSET_MOST (26 * 3600)         /* of a zone: RFC 9636 allows a little less */
#define RULE_TIME_MOST (167 * 3600)     /* of a rule's day: a week less an hour, either way */
#define HEADER_BYTES 44
#define TYPES_MOST 256                  /* an index into them is one byte */
#define INDEX_BYTES (256u * 1024u)      /* of the list of names that hints come from */

/* One day of the year, and the time on it, of a footer such as "CET-1CEST,M3.5.0,M10.5.0/3". */
struct rule {
    char kind; /* 'M' month.week.weekday, 'J' day 1..365 without February 29, 'n' day 0..365 */
    int32_t month, week, day;
    int32_t time; /* seconds since local midnight, maybe negative or beyond the day */
};

struct exj_zone {
    char name[EXJ_ZONE_NAME_BYTES];
    int64_t *at;      /* owned: len instants of change, ascending */
    int32_t *after;   /* same memory: the offset from at[i] on */
    size_t len;
    int32_t before;   /* before at[0] */
    bool has_rule;    /* from the last change on (or always) */
    bool has_summer;
    int32_t winter_offset, summer_offset;
    struct rule start, end; /* of summer time */
};

/* ---- the calendar -------------------------------------------------------------------- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Years are counted from March, so that the leap day is the last of its year. */
int64_t exj_days_of_date(int64_t year, int32_t month, int32_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = floor_div(y, 400), in_era = y - era * 400;
    int64_t months = (month + 9) % 12;
    int64_t in_year = (153 * months + 2) / 5 + day - 1;

    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

exj_date exj_date_of_days(int64_t days)
{
    int64_t d = days + 719468; /* since 0000-03-01 */
    int64_t era = floor_div(d, 146097), in_era = d - era * 146097;
    int64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * year + year / 4 - year / 100);
    int64_t months = (5 * in_year + 2) / 153;
    exj_date ret = { .year = era * 400 + year,
                     .month = (int32_t)(months < 10 ? months + 3 : months - 9),
                     .day = (int32_t)(in_year - (153 * months + 2) / 5 + 1) };

    if (ret.month <= 2)
        ret.year++;
    return ret;
}

int32_t exj_month_length(int64_t year, int32_t month)
{
    static const int32_t lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    return month == 2 && is_leap(year) ? 29 : lengths[month - 1];
}

int32_t exj_weekday_of_days(int64_t days)
{
    return (int32_t)(days + 4 - floor_div(days + 4, 7) * 7); /* 1970-01-01: a Thursday */
}

/* ---- the rule of the footer ---------------------------------------------------------- */

struct text {
    const char *p, *end;
};

static bool take_char(struct text *t, char c)
{
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static bool take_number(struct text *t, int32_t least, int32_t most, int32_t *ret)
{
    int32_t v = 0;
    const char *from = t->p;

    while (t->p < t->end && isdigit((unsigned char)*t->p) && t->p - from < 4)
        v = v * 10 + (*t->p++ - '0');
    *ret = v;
    return t->p > from && v >= least && v <= most;
}

/* [+-]h[h[h]][:mm[:ss]] */
static bool take_time(struct text *t, int32_t hours_most, int32_t *ret)
{
    bool minus = take_char(t, '-');
    int32_t h, m = 0, s = 0;

    if (!minus)
        take_char(t, '+');
    if (!take_number(t, 0, hours_most, &h))
        return false;
    if (take_char(t, ':')) {
        if (!take_number(t, 0, 59, &m))
            return false;
        if (take_char(t, ':') && !take_number(t, 0, 59, &s))
            return false;
    }
    *ret = h * 3600 + m * 60 + s;
    if (minus)
        *ret = -*ret;
    return true;
}

static bool skip_designation(struct text *t)
{
    const char *from;
    bool quoted = take_char(t, '<');

    for (from = t->p; t->p < t->end; t->p++) {
        unsigned char c = (unsigned char)*t->p;

        if (!isalpha(c) && !(quoted && (isdigit(c) || c == '+' || c == '-')))
            break;
    }
    return t->p - from >= 3 && (!quoted || take_char(t, '>'));
}

static bool take_rule(struct text *t, struct rule *ret)
{
    *ret = (struct rule){ .kind = 'n', .time = 2 * 3600 };
    if (!take_char(t, ','))
        return false;
    if (take_char(t, 'M')) {
        ret->kind = 'M';
        if (!take_number(t, 1, 12, &ret->month) || !take_char(t, '.') ||
            !take_number(t, 1, 5, &ret->week) || !take_char(t, '.') ||
            !take_number(t, 0, 6, &ret->day))
            return false;
    } else if (take_char(t, 'J')) {
        ret->kind = 'J';
        if (!take_number(t, 1, 365, &ret->day))
            return false;
    } else if (!take_number(t, 0, 365, &ret->day)) {
        return false;
    }
    return !take_char(t, '/') || take_time(t, RULE_TIME_MOST / 3600, &ret->time);
}

static bool read_footer(struct exj_zone *z, struct text t)
{
    int32_t v;

    if (t.p == t.end)
        return true; /* nothing is said about later times: the last change stays */
    if (!skip_designation(&t) || !take_time(&t, 24, &v))
        return false;
    z->winter_offset = -v; /* POSIX counts west of Greenwich */
    z->has_rule = true;
    if (t.p == t.end)
        return true;
    if (!skip_designation(&t))
        return false;
    z->has_summer = true;
    z->summer_offset = z->winter_offset + 3600;
    if (t.p < t.end && *t.p != ',') {
        if (!take_time(&t, 24, &v))
            return false;
        z->summer_offset = -v;
    }
    return take_rule(&t, &z->start) && take_rule(&t, &z->end) && t.p == t.end;
}

/* Seconds since the epoch on the wall clock before the change. */
static int64_t local_of_rule(const struct rule *r, int64_t year)
{
    int64_t day;

    if (r->kind == 'M') {
        int64_t first = exj_days_of_date(year, r->month, 1);
        int32_t ahead = (r->day - exj_weekday_of_days(first) + 7) % 7 + (r->week - 1) * 7;

        if (ahead >= exj_month_length(year, r->month))
            ahead -= 7; /* week 5: the last one */
        day = first + ahead;
    } else {
        day = exj_days_of_date(year, 1, 1) + r->day;
        if (r->kind == 'J' && !(is_leap(year) && r->day >= 60))
            day--; /* counted from 1, and February 29 has no number */
    }
    return day * DAY + r->time;
}

static exj_zone_span span_of_rule(const struct exj_zone *z, int64_t utc)
{
    exj_zone_span s = { INT64_MIN, INT64_MAX, z->winter_offset };
    struct {
        int64_t at;
        int32_t offset;
    } change[8], swap;
    int64_t year;

    if (!z->has_summer)
        return s;
    /* A change may be a week off its year, hence a year more than seems needed. */
    year = exj_date_of_days(floor_div(utc + z->winter_offset, DAY)).year - 2;
    for (size_t i = 0; i < 8; i += 2, year++) {
        change[i].at = local_of_rule(&z->start, year) - z->winter_offset;
        change[i].offset = z->summer_offset;
        change[i + 1].at = local_of_rule(&z->end, year) - z->summer_offset;
        change[i + 1].offset = z->winter_offset;
    }
    for (size_t i = 1; i < 8; i++) { /* stable: one year's end before the next one's start */
        for (size_t k = i; k > 0 && change[k - 1].at > change[k].at; k--) {
            swap = change[k];
            change[k] = change[k - 1];
            change[k - 1] = swap;
        }
    }
    for (size_t i = 0; i < 8; i++) {
        if (change[i].at > utc) {
            s.until = change[i].at;
            break;
        }
        s.from = change[i].at;
        s.offset = change[i].offset;
    }
    return s;
}

/* ---- asking a zone ------------------------------------------------------------------- */

static int64_t bounded(int64_t seconds)
{
    if (seconds > EXJ_ZONE_SECONDS_MOST)
        return EXJ_ZONE_SECONDS_MOST;
    return seconds < -EXJ_ZONE_SECONDS_MOST ? -EXJ_ZONE_SECONDS_MOST : seconds;
}

exj_zone_span exj_zone_span_at(const exj_zone *z, int64_t utc)
{
    exj_zone_span s = { INT64_MIN, INT64_MAX, z->before };
    size_t low = 0, high = z->len;

    utc = bounded(utc);
    while (low < high) { /* how many changes are at or before utc */
        size_t middle = low + (high - low) / 2;

        if (z->at[middle] <= utc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < z->len) {
        s.until = z->at[low];
    } else if (z->has_rule) {
        s = span_of_rule(z, utc);
        if (low > 0 && s.from < z->at[low - 1])
            s.from = z->at[low - 1];
        return s;
    }
    if (low > 0) {
        s.from = z->at[low - 1];
        s.offset = z->after[low - 1];
    }
    return s;
}

int32_t exj_zone_offset(const exj_zone *z, int64_t utc)
{
    return exj_zone_span_at(z, utc).offset;
}

exj_local_found exj_zone_find_local(const exj_zone *z, int64_t local)
{
    exj_local_found f = { .kind = EXJ_LOCAL_GAP };
    int64_t gap_end = INT64_MIN;
    exj_zone_span s;
    unsigned found = 0;

    local = bounded(local);
    s = exj_zone_span_at(z, local - OFFSET_MOST);
    for (;;) {
        int64_t utc = local - s.offset;
        int32_t before = s.offset;

        if (utc >= s.from && utc < s.until) {
            if (found++ == 0)
                f.first = utc;
            f.last = utc;
        }
        if (s.until > local + OFFSET_MOST)
            break;
        s = exj_zone_span_at(z, s.until);
        if (gap_end == INT64_MIN && s.from + before <= local && local < s.from + s.offset)
            gap_end = s.from;
    }
    if (found == 0) {
        /* With changes a few hours apart a local time may be jumped over by several. */
        f.first = f.last = gap_end != INT64_MIN ? gap_end : local - s.offset;
        return f;
    }
    f.kind = f.first == f.last ? EXJ_LOCAL_UNIQUE : EXJ_LOCAL_TWICE;
    return f;
}

const char *exj_zone_name(const exj_zone *z)
{
    return z->name;
}

void exj_zone_free(exj_zone *z)
{
    if (!z)
        return;
    free(z->at);
    free(z);
}

/* ---- reading a file ------------------------------------------------------------------ */

static uint64_t big_endian(const unsigned char *p, size_t bytes)
{
    uint64_t v = 0;

    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static int64_t signed_of(uint64_t v, unsigned bits)
{
    return v >> (bits - 1) ? -(int64_t)(~v & (UINT64_MAX >> (64 - bits))) - 1 : (int64_t)v;
}

struct block {
    uint32_t isut, isstd, leap, time, type, chars;
    const unsigned char *body;
};

/* Read a header at `at` and find the end of the block behind it; 0 when it does not fit. */
static size_t read_block(exj_slice file, size_t at, size_t time_bytes, struct block *b)
{
    const unsigned char *p = (const unsigned char *)file.p + at;
    uint64_t size;

    if (file.n - at < HEADER_BYTES || memcmp(p, "TZif", 4) != 0)
        return 0;
    b->isut = (uint32_t)big_endian(p + 20, 4);
    b->isstd = (uint32_t)big_endian(p + 24, 4);
    b->leap = (uint32_t)big_endian(p + 28, 4);
    b->time = (uint32_t)big_endian(p + 32, 4);
    b->type = (uint32_t)big_endian(p + 36, 4);
    b->chars = (uint32_t)big_endian(p + 40, 4);
    b->body = p + HEADER_BYTES;
    size = (uint64_t)b->time * (time_bytes + 1) + (uint64_t)b->type * 6 + b->chars +
           (uint64_t)b->leap * (time_bytes + 4) + b->isstd + b->isut;
    if (size > file.n - at - HEADER_BYTES)
        return 0;
    return at + HEADER_BYTES + (size_t)size;
}

/* What is wrong with the table, or NULL. */
static const char *read_table(struct exj_zone *z, const struct block *b)
{
    const unsigned char *times = b->body, *index = times + (size_t)b->time * 8;
    const unsigned char *types = index + b->time;
    int32_t offsets[TYPES_MOST];

    if (b->leap > 0)
        return "it counts leap seconds, which clocks here do not: name the zone without "
               "\"right/\"";
    if (b->type == 0 || b->type > TYPES_MOST || (b->isut != 0 && b->isut != b->type) ||
        (b->isstd != 0 && b->isstd != b->type) || b->chars == 0)
        return "its counts contradict each other";
    for (uint32_t i = 0; i < b->type; i++) {
        const unsigned char *t = types + (size_t)i * 6;
        int64_t offset = signed_of(big_endian(t, 4), 32);

        if (offset < -OFFSET_MOST || offset > OFFSET_MOST || t[4] > 1 || t[5] >= b->chars)
            return "a kind of time in it has an impossible offset or name";
        offsets[i] = (int32_t)offset;
    }
    z->before = offsets[0];
    for (uint32_t i = 0; i < b->time; i++) {
        int64_t at = signed_of(big_endian(times + (size_t)i * 8, 8), 64);

        if ((i > 0 && at <= z->at[i - 1]) || index[i] >= b->type)
            return "its changes are not in order, or name a kind of time that is not there";
        if (at < -TIME_MOST || at > TIME_MOST)
            return "one of its changes is older than the universe, or as far ahead";
        z->at[i] = at;
        z->after[i] = offsets[index[i]];
    }
    z->len = b->time;
    return NULL;
}

static const char *read_file(struct exj_zone *z, exj_slice file, exj_code *rc)
{
    const char *broken = "it is cut off, or longer than its counts say", *wrong;
    struct block b;
    struct text footer;
    size_t end;

    *rc = EXJ_CORRUPT;
    end = read_block(file, 0, 4, &b);
    if (end == 0)
        return broken;
    if (file.p[4] < '2')
        return "it is of version 1, which knows no time after 2037; version 2 or later is "
               "wanted";
    end = read_block(file, end, 8, &b);
    if (end == 0)
        return broken;
    /* One piece of memory, the wider numbers first. */
    z->at = calloc((size_t)b.time + 1, sizeof(*z->at) + sizeof(*z->after));
    if (!z->at) {
        *rc = EXJ_NOMEM;
        return "out of memory";
    }
    z->after = (int32_t *)(void *)(z->at + b.time + 1);
    wrong = read_table(z, &b);
    if (wrong)
        return wrong;
    if (file.n - end < 2 || file.p[end] != '\n')
        return broken;
    footer.p = file.p + end + 1;
    footer.end = memchr(footer.p, '\n', file.n - end - 1);
    if (!footer.end)
        return broken;
    if (!read_footer(z, footer))
        return "the rule in its last line cannot be read";
    return NULL;
}

exj_code exj_zone_parse(exj_slice name, exj_slice file, exj_zone **ret, exj_err *err)
{
    int n = (int)(name.n < EXJ_ZONE_NAME_BYTES - 1 ? name.n : EXJ_ZONE_NAME_BYTES - 1);
    const char *wrong, *p = name.n ? name.p : "";
    struct exj_zone *z;
    exj_code rc;

    if (file.n < 5 || memcmp(file.p, "TZif", 4) != 0)
        return exj_err_set(err, EXJ_INVALID, "\"%.*s\" is not a time zone", n, p);
    if (file.n > EXJ_ZONE_FILE_BYTES)
        return exj_err_set(err, EXJ_CORRUPT,
                           "the file of time zone \"%.*s\" has %zu bytes; at most %u are "
                           "allowed",
                           n, p, file.n, EXJ_ZONE_FILE_BYTES);
    z = calloc(1, sizeof(*z));
    if (!z)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    memcpy(z->name, p, (size_t)n);
    wrong = read_file(z, file, &rc);
    if (wrong) {
        exj_zone_free(z);
        return exj_err_set(err, rc, "the file of time zone \"%.*s\" cannot be used: %s", n, p,
                           wrong);
    }
    *ret = z;
    return EXJ_OK;
}

/* ---- finding a file ------------------------------------------------------------------ */

/* All of a file of at most `most` bytes. Errors: EXJ_NOT_FOUND (not there, not a file),
 * EXJ_FULL (longer), EXJ_IO, EXJ_NOMEM. */
static exj_code load(int folder, const char *path, size_t most, exj_buf *b, exj_err *err)
{
    /* O_NONBLOCK: a pipe somebody put there does not hold us up before fstat. */
    int fd = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    exj_code rc = EXJ_OK;
    struct stat st;
    ssize_t n = 0;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                   ? EXJ_NOT_FOUND
                   : exj_err_set(err, EXJ_IO, "cannot open the file of time zone \"%s\": %s",
                                 path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        rc = EXJ_NOT_FOUND;
    while (rc == EXJ_OK) {
        if (!exj_buf_reserve(b, 8192)) {
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
            break;
        }
        n = read(fd, b->p + b->n, 8192);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = exj_err_set(err, EXJ_IO, "cannot read the file of time zone \"%s\": %s", path,
                             strerror(errno));
        if (n <= 0)
            break;
        b->n += (size_t)n;
        if (b->n > most)
            rc = EXJ_FULL;
    }
    close(fd);
    return rc;
}

static bool is_name(exj_slice name)
{
    bool at_start = true;

    if (name.n == 0 || name.n >= EXJ_ZONE_NAME_BYTES || name.p[name.n - 1] == '/')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];

        /* No component is empty or starts with a dot: neither "/etc" nor "..". */
        if (at_start ? !isalnum(c) : !isalnum(c) && !strchr("_+-./", c))
            return false;
        if (c == 0)
            return false;
        at_start = c == '/';
    }
    return true;
}

/* How far `known` is from what was asked: 0 differs in case only. */
static unsigned distance(const char *asked, const char *known)
{
    const char *city = strrchr(known, '/');

    if (strcasecmp(asked, known) == 0)
        return 0;
    if (city && strcasecmp(asked, city + 1) == 0)
        return 1;
    return 1 + exj_edit_distance(asked, known);
}

/* The nearest name that the database's own list has ("Z NAME …" and "L TARGET NAME" lines);
 * empty when none is near or there is no list. */
static void find_nearest(int folder, const char *asked, char ret[EXJ_ZONE_NAME_BYTES])
{
    exj_buf list = EXJ_BUF_INIT;
    unsigned best = 5;
    char *line, *rest;

    ret[0] = '\0';
    if (load(folder, "tzdata.zi", INDEX_BYTES, &list, NULL) != EXJ_OK ||
        !exj_buf_add_char(&list, '\n')) {
        exj_buf_release(&list);
        return;
    }
    for (line = strtok_r(list.p, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char target[EXJ_ZONE_NAME_BYTES], name[EXJ_ZONE_NAME_BYTES];
        unsigned d;

        if (sscanf(line, "Z %63s", name) != 1 && sscanf(line, "L %63s %63s", target, name) != 2)
            continue;
        d = distance(asked, name);
        if (d < best) {
            best = d;
            memcpy(ret, name, sizeof(name));
        }
    }
    exj_buf_release(&list);
}

static exj_code open_utc(exj_zone **ret, exj_err *err)
{
    exj_zone *z = calloc(1, sizeof(*z));

    if (!z)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    memcpy(z->name, "UTC", 4);
    *ret = z;
    return EXJ_OK;
}

exj_code exj_zone_open_in(const char *folder, exj_slice name, exj_zone **ret, exj_err *err)
{
    char path[EXJ_ZONE_NAME_BYTES] = { 0 }, nearest[EXJ_ZONE_NAME_BYTES];
    exj_buf file = EXJ_BUF_INIT;
    exj_code rc;
    int dir;

    if (exj_slice_is(name, "UTC"))
        return open_utc(ret, err);
    if (!is_name(name))
        return exj_err_set(err, EXJ_INVALID,
                           "\"%.*s\" is not the name of a time zone; wanted one such as "
                           "\"UTC\" or \"Europe/Berlin\"",
                           (int)(name.n < 64 ? name.n : 64), name.n ? name.p : "");
    memcpy(path, name.p, name.n);
    dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return exj_err_set(err, EXJ_INVALID,
                           "time zone \"%s\" is unknown: there is no tz database in %s (%s); "
                           "install the package tzdata, or use \"UTC\"",
                           path, folder, strerror(errno));
    rc = load(dir, path, EXJ_ZONE_FILE_BYTES, &file, err);
    if (rc == EXJ_OK)
        rc = exj_zone_parse(name, exj_buf_slice(&file), ret, err);
    if (rc == EXJ_FULL)
        rc = exj_err_set(err, EXJ_CORRUPT,
                         "the file of time zone \"%s\" has more than %u bytes: it is none of "
                         "the tz database",
                         path, EXJ_ZONE_FILE_BYTES);
    if (rc == EXJ_NOT_FOUND) {
        find_nearest(dir, path, nearest);
        rc = exj_err_set(err, EXJ_INVALID, "time zone \"%s\" is unknown%s%s%s", path,
                         nearest[0] ? "; did you mean \"" : "", nearest,
                         nearest[0] ? "\"?" : ": names are such as \"Europe/Berlin\"");
    }
    close(dir);
    exj_buf_release(&file);
    return rc;
}

exj_code exj_zone_open(exj_slice name, exj_zone **ret, exj_err *err)
{
    return exj_zone_open_in(EXJ_ZONE_FOLDER, name, ret, err);
}
