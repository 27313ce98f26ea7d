#include "core/job/canary.h"

#include <math.h>

#define SHARES 10000u

bool exj_canary_takes(exj_slice row_name, unsigned percent)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t k = 0; k < row_name.n; k++)
        h = (h ^ (unsigned char)row_name.p[k]) * 0x100000001b3u;
    /* names that differ in their last character only differ in few bits of FNV */
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    h ^= h >> 31;
    return h % SHARES < (uint64_t)(percent > 100 ? 100 : percent) * (SHARES / 100);
}

bool exj_canary_needed(uint64_t calls, exj_msec window_ms)
{
    if (window_ms < EXJ_CANARY_TRAFFIC_MS)
        window_ms = EXJ_CANARY_TRAFFIC_MS;
    return (double)calls * EXJ_CANARY_TRAFFIC_MS >=
           (double)EXJ_CANARY_TRAFFIC * (double)window_ms;
}

exj_canary_config exj_canary_defaults(void)
{
    return (exj_canary_config){ .z = 2.58, .errors_min = 3, .old_floor = 20, .good_calls = 50,
                                .watch_ms = 10000, .longest_ms = 60000 };
}

static exj_canary_count sane(exj_canary_count c)
{
    if (c.errors > c.calls)
        c.errors = c.calls;
    return c;
}

static double wilson(exj_canary_count c, double z, double sign)
{
    double n = (double)c.calls, p = (double)c.errors / n, zz = z * z;
    double at = (p + zz / (2 * n) + sign * z * sqrt(p * (1 - p) / n + zz / (4 * n * n))) /
                (1 + zz / n);

    return at < 0 ? 0 : at > 1 ? 1 : at;
}

double exj_wilson_lower(exj_canary_count c, double z)
{
    return c.calls ? wilson(sane(c), z, -1) : 0;
}

double exj_wilson_upper(exj_canary_count c, double z)
{
    return c.calls ? wilson(sane(c), z, 1) : 1;
}

exj_canary_verdict exj_canary_judge(exj_canary_count old, exj_canary_count fresh,
                                    exj_msec elapsed_ms, const exj_canary_config *config)
{
    exj_canary_config c = config ? *config : exj_canary_defaults();
    bool only_failed;

    old = sane(old);
    fresh = sane(fresh);
    only_failed = fresh.calls > 0 && fresh.errors == fresh.calls &&
                  (old.calls == 0 || old.errors < old.calls);
    if (old.calls < c.old_floor)
        old.calls = c.old_floor;

    if (fresh.errors >= c.errors_min &&
        exj_wilson_lower(fresh, c.z) > exj_wilson_upper(old, c.z))
        return EXJ_CANARY_ROLL_BACK;
    if (fresh.calls - fresh.errors >= c.good_calls)
        return EXJ_CANARY_PROMOTE;
    if (only_failed)
        return elapsed_ms >= c.longest_ms ? EXJ_CANARY_ROLL_BACK : EXJ_CANARY_KEEP_WATCHING;
    return elapsed_ms >= c.watch_ms ? EXJ_CANARY_PROMOTE : EXJ_CANARY_KEEP_WATCHING;
}

const char *exj_canary_verdict_word(exj_canary_verdict v)
{
    switch (v) {
    case EXJ_CANARY_KEEP_WATCHING:
        return "keep-watching";
    case EXJ_CANARY_PROMOTE:
        return "promote";
    case EXJ_CANARY_ROLL_BACK:
        return "roll-back";
    }
    return "?";
}
