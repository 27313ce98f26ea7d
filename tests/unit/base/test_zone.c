#include "core/base/zone.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

static uint64_t state;

static void seed(void)
{
    const char *given = getenv("EXJ_TEST_SEED");

    state = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    printf("EXJ_TEST_SEED=%llu\n", (unsigned long long)state);
    fflush(stdout);
}

static uint64_t below(uint64_t n) /* xorshift: good enough to choose instants */
{
    state += 0x9e3779b97f4a7c15u;
    uint64_t x = state;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (x ^ x >> 31) % n;
}

static exj_zone *zone(const char *name)
{
    exj_zone *z = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_zone_open(exj_slice_of(name), &z, &err), EXJ_OK, "%s", err.text);
    return z;
}

static int64_t at(int64_t year, int32_t month, int32_t day, int h, int m, int s)
{
    return exj_days_of_date(year, month, day) * DAY + h * 3600 + m * 60 + s;
}

Test(calendar, agrees_with_libc_in_both_directions)
{
    seed();
    for (int i = 0; i < 200000; i++) {
        int64_t days = (int64_t)below(4000000) - 1500000; /* years -2100 to 8800 */
        time_t t = (time_t)days * DAY;
        exj_date d = exj_date_of_days(days);
        struct tm tm;

        gmtime_r(&t, &tm);
        cr_assert(d.year == tm.tm_year + 1900 && d.month == tm.tm_mon + 1 &&
                      d.day == tm.tm_mday && exj_weekday_of_days(days) == tm.tm_wday,
                  "day %lld", (long long)days);
        cr_assert_eq(exj_days_of_date(d.year, d.month, d.day), days);
    }
    cr_expect_eq(exj_month_length(2000, 2), 29);
    cr_expect_eq(exj_month_length(2100, 2), 28);
    cr_expect_eq(exj_month_length(2024, 2), 29);
    cr_expect_eq(exj_month_length(2023, 12), 31);
}

Test(zone, utc_needs_no_file)
{
    exj_zone *z = NULL;

    cr_assert_eq(exj_zone_open_in("/nonexistent", exj_slice_of("UTC"), &z, NULL), EXJ_OK);
    cr_expect_str_eq(exj_zone_name(z), "UTC");
    cr_expect_eq(exj_zone_offset(z, 0), 0);
    cr_expect_eq(exj_zone_offset(z, INT64_MAX), 0);
    cr_expect_eq(exj_zone_find_local(z, 5).first, 5);
    exj_zone_free(z);
    exj_zone_free(NULL);
}

Test(zone, local_times_are_unique_jumped_over_or_shown_twice)
{
    static const struct {
        const char *zone;
        int at[6];
        exj_local_kind kind;
        int32_t first_offset, last_offset; /* GAP: both the one after the gap */
        int32_t into;                      /* GAP: seconds past the start of the gap */
    } cases[] = {
        { "Europe/Berlin", { 2026, 1, 1, 0, 0, 0 }, EXJ_LOCAL_UNIQUE, 3600, 3600, 0 },
        { "Europe/Berlin", { 2026, 7, 1, 0, 0, 0 }, EXJ_LOCAL_UNIQUE, 7200, 7200, 0 },
        { "Europe/Berlin", { 2026, 3, 29, 1, 59, 59 }, EXJ_LOCAL_UNIQUE, 3600, 3600, 0 },
        { "Europe/Berlin", { 2026, 3, 29, 2, 30, 0 }, EXJ_LOCAL_GAP, 7200, 7200, 1800 },
        { "Europe/Berlin", { 2026, 3, 29, 3, 0, 0 }, EXJ_LOCAL_UNIQUE, 7200, 7200, 0 },
        { "Europe/Berlin", { 2026, 10, 25, 2, 0, 0 }, EXJ_LOCAL_TWICE, 7200, 3600, 0 },
        { "Europe/Berlin", { 2026, 10, 25, 3, 0, 0 }, EXJ_LOCAL_UNIQUE, 3600, 3600, 0 },
        /* after the table: by the rule in the last line of the file */
        { "Europe/Berlin", { 2090, 3, 26, 2, 30, 0 }, EXJ_LOCAL_GAP, 7200, 7200, 1800 },
        { "Europe/Berlin", { 2090, 10, 29, 2, 59, 59 }, EXJ_LOCAL_TWICE, 7200, 3600, 0 },
        { "Australia/Lord_Howe", { 2026, 10, 4, 2, 15, 0 }, EXJ_LOCAL_GAP, 39600, 39600, 900 },
        { "Australia/Lord_Howe", { 2026, 4, 5, 1, 45, 0 }, EXJ_LOCAL_TWICE, 39600, 37800, 0 },
        { "Pacific/Apia", { 2011, 12, 30, 12, 0, 0 }, EXJ_LOCAL_GAP, 50400, 50400, DAY / 2 },
        { "America/New_York", { 2026, 11, 1, 1, 30, 0 }, EXJ_LOCAL_TWICE, -14400, -18000, 0 },
        { "Africa/Cairo", { 2026, 4, 24, 0, 30, 0 }, EXJ_LOCAL_GAP, 10800, 10800, 1800 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const int *p = cases[i].at;
        int64_t local = at(p[0], p[1], p[2], p[3], p[4], p[5]);
        exj_zone *z = zone(cases[i].zone);
        exj_local_found f = exj_zone_find_local(z, local);

        cr_expect_eq(f.kind, cases[i].kind, "case %zu", i);
        if (cases[i].kind == EXJ_LOCAL_GAP) {
            /* The first instant after the gap: the clock jumped there to its end. */
            cr_expect_eq(f.first, f.last, "case %zu", i);
            cr_expect_eq(exj_zone_span_at(z, f.first).from, f.first, "case %zu", i);
            cr_expect_eq(f.first + exj_zone_offset(z, f.first - 1), local - cases[i].into,
                         "case %zu", i);
        } else {
            cr_expect_eq(f.first, local - cases[i].first_offset, "case %zu", i);
            cr_expect_eq(f.last, local - cases[i].last_offset, "case %zu", i);
        }
        cr_expect_eq(exj_zone_offset(z, f.first), cases[i].first_offset, "case %zu", i);
        exj_zone_free(z);
    }
}

Test(zone, local_times_are_what_a_search_through_all_instants_finds)
{
    static const char *const names[] = { "Europe/Berlin", "America/New_York", "Africa/Cairo",
                                         "Australia/Lord_Howe", "Pacific/Apia", "Asia/Tehran",
                                         "Africa/Casablanca", "Europe/Dublin", "America/Nuuk" };
    exj_zone *zones[9];

    seed();
    for (size_t i = 0; i < 9; i++)
        zones[i] = zone(names[i]);
    for (int i = 0; i < 300; i++) {
        size_t which = (size_t)below(9);
        const exj_zone *z = zones[which];
        int64_t t = at(1975, 1, 1, 0, 0, 0) + (int64_t)below(150 * UINT64_C(31556952));
        exj_zone_span s = exj_zone_span_at(z, t);
        /* Most are near a change, where it matters. */
        int64_t near = s.until == INT64_MAX || below(5) == 0 ? t : s.until;
        int64_t local = (near + (int64_t)below(2 * DAY) - DAY) / 60 * 60, first = 0, last = 0;
        exj_local_found f = exj_zone_find_local(z, local);
        unsigned found = 0;

        for (int64_t u = local - 26 * 3600; u <= local + 26 * 3600; u += 60) {
            if (u + exj_zone_offset(z, u) != local)
                continue;
            if (found++ == 0)
                first = u;
            last = u;
        }
        cr_assert_eq(f.kind,
                     found == 0   ? EXJ_LOCAL_GAP
                     : found == 1 ? EXJ_LOCAL_UNIQUE
                                  : EXJ_LOCAL_TWICE,
                     "%s local %lld", names[which], (long long)local);
        if (found > 0)
            cr_assert(f.first == first && f.last == last, "%s local %lld", names[which],
                      (long long)local);
        else
            cr_assert(f.first + exj_zone_offset(z, f.first) > local &&
                          f.first - 1 + exj_zone_offset(z, f.first - 1) < local,
                      "%s local %lld", names[which], (long long)local);
    }
    for (size_t i = 0; i < 9; i++)
        exj_zone_free(zones[i]);
}

/* ---- against libc, which keeps its zone in the state of a process: so in another one --- */

#define TIMES 400

struct sample {
    char name[EXJ_ZONE_NAME_BYTES];
    int64_t times[TIMES];
};

static void answer_as_libc(int in, int out)
{
    struct sample s;

    while (read(in, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
        int32_t offsets[TIMES];

        setenv("TZ", s.name, 1);
        tzset();
        for (int i = 0; i < TIMES; i++) {
            time_t t = (time_t)s.times[i];
            struct tm tm = { 0 };

            localtime_r(&t, &tm);
            offsets[i] = (int32_t)tm.tm_gmtoff;
        }
        if (write(out, offsets, sizeof(offsets)) != (ssize_t)sizeof(offsets))
            break;
    }
    _exit(0);
}

Test(zone, every_zone_has_the_offsets_that_libc_gives)
{
    FILE *list = fopen(EXJ_ZONE_FOLDER "/tzdata.zi", "re");
    int ask[2], tell[2], status, zones = 0;
    char line[512];
    pid_t child;

    seed();
    cr_assert(list, "tzdata is not installed");
    cr_assert(pipe(ask) == 0 && pipe(tell) == 0);
    child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        close(ask[1]);
        answer_as_libc(ask[0], tell[1]);
    }
    close(ask[0]);
    close(tell[1]);
    while (fgets(line, sizeof(line), list)) {
        struct sample s = { 0 };
        int32_t offsets[TIMES];
        size_t have = 0;
        ssize_t n;
        exj_zone *z;

        if (sscanf(line, "Z %63s", s.name) != 1 && sscanf(line, "L %*s %63s", s.name) != 1)
            continue;
        z = zone(s.name);
        for (int i = 0; i < TIMES; i++) { /* 1905 to 2300, half of them at a change */
            s.times[i] = (int64_t)below(395 * UINT64_C(31556952)) - INT64_C(2051000000);
            if (i % 2 && exj_zone_span_at(z, s.times[i]).until < at(2300, 1, 1, 0, 0, 0))
                s.times[i] = exj_zone_span_at(z, s.times[i]).until - (int64_t)below(2);
        }
        cr_assert_eq(write(ask[1], &s, sizeof(s)), (ssize_t)sizeof(s));
        while (have < sizeof(offsets)) {
            n = read(tell[0], (char *)offsets + have, sizeof(offsets) - have);
            cr_assert_gt(n, 0);
            have += (size_t)n;
        }
        for (int i = 0; i < TIMES; i++)
            cr_assert_eq(exj_zone_offset(z, s.times[i]), offsets[i], "%s at %lld: %d, libc %d",
                         s.name, (long long)s.times[i], exj_zone_offset(z, s.times[i]),
                         offsets[i]);
        exj_zone_free(z);
        zones++;
    }
    fclose(list);
    close(ask[1]);
    close(tell[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
    cr_expect_gt(zones, 300);
}

/* ---- names and files --------------------------------------------------------------------- */

Test(zone, bad_and_unknown_names_are_refused_with_a_hint)
{
    static const char *const cases[][2] = {
        { "", "not the name of a time zone" },
        { "../../etc/passwd", "not the name of a time zone" },
        { "Europe/../Europe/Berlin", "not the name of a time zone" },
        { "/etc/passwd", "not the name of a time zone" },
        { "Europe//Berlin", "not the name of a time zone" },
        { "Europe/", "not the name of a time zone" },
        { "Europe/Ber lin", "not the name of a time zone" },
        { "A23456789012345678901234567890123456789012345678901234567890123456789",
          "not the name of a time zone" },
        { "Europe", "time zone \"Europe\" is unknown" },
        { "Europe/Berlni", "did you mean \"Europe/Berlin\"?" },
        { "europe/berlin", "did you mean \"Europe/Berlin\"?" },
        { "berlin", "did you mean \"Europe/Berlin\"?" },
        { "Middle/Earth", "names are such as \"Europe/Berlin\"" },
        { "zone.tab", "is not a time zone" },
        { "Europe/Berlin/x", "is unknown" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_zone *z = NULL;
        exj_err err = { 0 };

        cr_expect_eq(exj_zone_open(exj_slice_of(cases[i][0]), &z, &err), EXJ_INVALID, "%s",
                     cases[i][0]);
        cr_expect_null(z);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
    }
    cr_expect_eq(exj_zone_open((exj_slice){ "UT\0", 3 }, &(exj_zone *){ NULL }, NULL),
                 EXJ_INVALID);
}

static size_t load(const char *name, char *ret, size_t size)
{
    char path[128];
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), EXJ_ZONE_FOLDER "/%s", name);
    f = fopen(path, "re");
    cr_assert(f);
    n = fread(ret, 1, size, f);
    fclose(f);
    return n;
}

static exj_code parse(const char *p, size_t n, exj_err *err)
{
    char *copy = malloc(n); /* of its exact size: a read beyond it is seen by sanitizers */
    exj_zone *z = NULL;
    exj_code rc;

    *err = (exj_err){ 0 };
    memcpy(copy, p, n);
    rc = exj_zone_parse(exj_slice_of("X/Y"), (exj_slice){ copy, n }, &z, err);
    free(copy);
    exj_zone_free(z);
    return rc;
}

/* Found by fuzz_cron: sums with such a time were beyond 64 bits. */
Test(zone, a_change_beyond_all_time_is_refused)
{
    static const unsigned char firsts[][8] = {
        { 0x80, 0, 0, 0, 0, 0, 2, 0 },
        { 0xf7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, /* -2^59 - 1 */
    };
    char file[8192];
    size_t n = load("Europe/Berlin", file, sizeof(file)), second = 1;
    exj_err err;

    while (second + 52 < n && memcmp(file + second, "TZif", 4) != 0)
        second++;
    for (size_t i = 0; i < 2; i++) {
        memcpy(file + second + 44, firsts[i], 8);
        cr_expect_eq(parse(file, n, &err), EXJ_CORRUPT);
        cr_expect(strstr(err.text, "universe"), "%s", err.text);
    }
    memcpy(file + second + 44, "\xf8\0\0\0\0\0\0\0", 8); /* -2^59 */
    cr_expect_eq(parse(file, n, &err), EXJ_OK, "%s", err.text);
}

Test(zone, a_file_cut_off_anywhere_is_refused)
{
    char file[8192];
    size_t n = load("Europe/Berlin", file, sizeof(file));
    exj_err err;

    cr_assert_eq(parse(file, n, &err), EXJ_OK, "%s", err.text);
    for (size_t cut = 1; cut < n; cut++) {
        exj_code rc = parse(file, cut, &err);

        cr_assert_eq(rc, cut < 5 ? EXJ_INVALID : EXJ_CORRUPT, "%zu of %zu", cut, n);
        cr_assert(strstr(err.text, "X/Y"), "%s", err.text);
    }
}

Test(zone, a_damaged_file_never_does_more_than_give_wrong_times)
{
    char file[8192], spoilt[8192];
    size_t n = load("Europe/Berlin", file, sizeof(file));

    seed();
    for (int i = 0; i < 20000; i++) {
        exj_zone *z = NULL;

        memcpy(spoilt, file, n);
        for (uint64_t k = below(4) + 1; k > 0; k--)
            spoilt[below(4) ? below(n) : n - 1 - below(40)] = (char)below(256);
        if (exj_zone_parse(exj_slice_of("X"), (exj_slice){ spoilt, n }, &z, NULL) != EXJ_OK)
            continue;
        for (int k = 0; k < 20; k++) {
            int64_t t = (int64_t)below(UINT64_MAX);
            exj_zone_span s = exj_zone_span_at(z, t);

            cr_assert_lt(s.from, s.until);
            exj_zone_find_local(z, t);
            exj_zone_find_local(z, t % INT64_C(10000000000));
        }
        exj_zone_free(z);
    }
}

/* A file with one kind of time (UTC+1) and the given last line. */
static size_t make_file(char *ret, char version, unsigned char leaps, const char *footer)
{
    char *p = ret;

    for (int block = 0; block < 2; block++) {
        memset(p, 0, 44);
        memcpy(p, "TZif", 4);
        p[4] = version;
        p[31] = block ? (char)leaps : 0;
        p[39] = 1;
        p[43] = 4;
        p += 44;
        memcpy(p, "\0\0\x0e\x10\0\0ABC", 10); /* offset 3600, winter, name 0; "ABC" */
        p += 10;
        if (block)
            p = (char *)memset(p, 0, leaps * 12u) + leaps * 12u;
    }
    return (size_t)(p + sprintf(p, "\n%s\n", footer) - ret);
}

Test(zone, the_last_line_is_read_as_rfc_9636_wants_it)
{
    static const struct {
        const char *footer;
        exj_code rc;
        int32_t january, july; /* offsets in 2026 */
    } cases[] = {
        { "", EXJ_OK, 3600, 3600 },
        { "XXX-2", EXJ_OK, 7200, 7200 },
        { "<+0530>-5:30", EXJ_OK, 19800, 19800 },
        { "EST5EDT,M3.2.0,M11.1.0", EXJ_OK, -18000, -14400 },
        { "AEST-10AEDT,M10.1.0,M4.1.0/3", EXJ_OK, 39600, 36000 },
        { "IST-1GMT0,M10.5.0,M3.5.0/1", EXJ_OK, 0, 3600 },
        { "XXX3EDT4,0/0,J365/23", EXJ_OK, -14400, -14400 }, /* summer all year */
        { "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", EXJ_OK, -7200, -3600 },
        { "ABC0DEF,J60/0,J300/0", EXJ_OK, 0, 3600 },
        { "ABC0DEF,59/0,299/0:0:1", EXJ_OK, 0, 3600 },
        { "CET-1CEST", EXJ_CORRUPT, 0, 0 },
        { "CET-1CEST,M3.5.0", EXJ_CORRUPT, 0, 0 },
        { "CET-1CEST,M13.5.0,M10.5.0/3", EXJ_CORRUPT, 0, 0 },
        { "CET-1CEST,M3.5.0,M10.5.0/3x", EXJ_CORRUPT, 0, 0 },
        { "CET-25", EXJ_CORRUPT, 0, 0 },
        { "C-1", EXJ_CORRUPT, 0, 0 },
        { "<CET-1", EXJ_CORRUPT, 0, 0 },
        { "CET-1:60", EXJ_CORRUPT, 0, 0 },
        { "CET-1CEST,J0,J365", EXJ_CORRUPT, 0, 0 },
        { "CET-1CEST,M3.5.0/168,M10.5.0", EXJ_CORRUPT, 0, 0 },
    };
    char file[512];
    exj_err err;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        size_t n = make_file(file, '3', 0, cases[i].footer);
        exj_zone *z = NULL;
        exj_code rc;

        err = (exj_err){ 0 };
        rc = exj_zone_parse(exj_slice_of("X"), (exj_slice){ file, n }, &z, &err);
        cr_expect_eq(rc, cases[i].rc, "%s: %s", cases[i].footer, err.text);
        if (rc == EXJ_OK) {
            cr_expect_eq(exj_zone_offset(z, at(2026, 1, 15, 0, 0, 0)), cases[i].january, "%s",
                         cases[i].footer);
            cr_expect_eq(exj_zone_offset(z, at(2026, 7, 15, 0, 0, 0)), cases[i].july, "%s",
                         cases[i].footer);
        }
        exj_zone_free(z);
    }
    cr_expect_eq(parse(file, make_file(file, '\0', 0, ""), &err), EXJ_CORRUPT);
    cr_expect(strstr(err.text, "version 1"), "%s", err.text);
    cr_expect_eq(parse(file, make_file(file, '2', 1, ""), &err), EXJ_CORRUPT);
    cr_expect(strstr(err.text, "leap seconds"), "%s", err.text);
}

static void put(const char *folder, const char *name, size_t bytes)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "we");
    cr_assert(f);
    fputs("TZif2", f);
    for (size_t i = 5; i < bytes; i++)
        putc(0, f);
    fclose(f);
}

Test(zone, what_is_no_file_of_a_sane_size_is_refused_at_once)
{
    char folder[] = "/tmp/exj-zone-XXXXXX", path[256];
    static const char *const names[] = { "big", "fits", "fifo", "loop" };
    exj_zone *z = NULL;
    exj_err err = { 0 };

    cr_assert(mkdtemp(folder));
    put(folder, "big", EXJ_ZONE_FILE_BYTES + 1);
    put(folder, "fits", EXJ_ZONE_FILE_BYTES);
    snprintf(path, sizeof(path), "%s/fifo", folder);
    cr_assert_eq(mkfifo(path, 0600), 0);
    snprintf(path, sizeof(path), "%s/loop", folder);
    cr_assert_eq(symlink("loop", path), 0);

    cr_expect_eq(exj_zone_open_in(folder, exj_slice_of("big"), &z, &err), EXJ_CORRUPT);
    cr_expect(strstr(err.text, "more than 65536 bytes"), "%s", err.text);
    cr_expect_eq(exj_zone_open_in(folder, exj_slice_of("fits"), &z, NULL), EXJ_CORRUPT);
    cr_expect_eq(exj_zone_open_in(folder, exj_slice_of("fifo"), &z, NULL), EXJ_INVALID);
    cr_expect_eq(exj_zone_open_in(folder, exj_slice_of("loop"), &z, NULL), EXJ_INVALID);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_zone_open_in(folder, exj_slice_of("Europe/Berlin"), &z, &err),
                 EXJ_INVALID);
    cr_expect(strstr(err.text, "install the package tzdata"), "%s", err.text);
    cr_expect_null(z);
}
