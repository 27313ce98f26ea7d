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
