#include "core/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

exj_msec exj_clock_wall_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (exj_msec)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

exj_nsec exj_clock_mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (exj_nsec)t.tv_sec * 1000000000 + t.tv_nsec;
}

void exj_clock_format(exj_msec at, char ret[EXJ_TIME_TEXT_BYTES])
{
    int64_t ms = at % 1000, s = at / 1000;
    struct tm tm = { 0 };
    char text[128];
    time_t when;

    if (ms < 0) { /* before 1970: the fraction still counts forward */
        ms += 1000;
        s--;
    }
    when = (time_t)s;
    gmtime_r(&when, &tm);
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ms);
    text[EXJ_TIME_TEXT_BYTES - 1] = '\0'; /* the widest int64 instant has 30 bytes */
    memcpy(ret, text, EXJ_TIME_TEXT_BYTES);
}

/* `n` digits at `at`; -1: they are none. */
static int digits(exj_slice text, size_t at, size_t n)
{
    int v = 0;

    for (size_t i = at; i < at + n; i++) {
        if (i >= text.n || text.p[i] < '0' || text.p[i] > '9')
            return -1;
        v = v * 10 + (text.p[i] - '0');
    }
    return v;
}

bool exj_clock_parse(exj_slice text, exj_msec *ret)
{
    struct tm tm = { .tm_year = digits(text, 0, 4) - 1900,
                     .tm_mon = digits(text, 5, 2) - 1,
                     .tm_mday = digits(text, 8, 2),
                     .tm_hour = digits(text, 11, 2),
                     .tm_min = digits(text, 14, 2),
                     .tm_sec = digits(text, 17, 2) };
    struct tm back;
    size_t end = 19;
    int ms = 0;
    time_t when;

    if (text.n < 20 || text.p[4] != '-' || text.p[7] != '-' || text.p[10] != 'T' ||
        text.p[13] != ':' || text.p[16] != ':' || tm.tm_year < 70 || tm.tm_mon < 0 ||
        tm.tm_mday < 1 || tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
        return false;
    if (text.p[end] == '.') {
        size_t from = ++end;

        while (end < text.n && digits(text, end, 1) >= 0)
            end++;
        if (end == from || end > from + 9)
            return false;
        for (size_t i = from; i < from + 3; i++)
            ms = ms * 10 + (i < end ? digits(text, i, 1) : 0);
    }
    if (end + 1 != text.n || text.p[end] != 'Z')
        return false;
    back = tm;
    when = timegm(&back); /* it would carry a 31st of June over: then the fields differ */
    if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday || back.tm_hour != tm.tm_hour ||
        back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
        return false;
    *ret = (exj_msec)when * 1000 + ms;
    return true;
}

uint64_t exj_random_u64(void)
{
    uint64_t v = 0;

    /* Identities and jitter rest on this: a guess made up in its place would be worse than
     * the end. Once the pool is up, eight bytes are only ever missed for a signal. */
    for (int tries = 0; v == 0; tries++) {
        if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
            v = 0;
        if (tries == 1000)
            abort();
    }
    return v;
}
