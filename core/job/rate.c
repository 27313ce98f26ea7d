#include "core/job/rate.h"

static int64_t gap(uint32_t rate, exj_msec rate_ms)
{
    return rate_ms * 1000000 / rate;
}

int64_t exj_rate_settle(int64_t tat, int64_t now, exj_msec rate_ms)
{
    int64_t most = now + rate_ms * 1000000;

    return tat > most ? most : tat;
}

uint32_t exj_rate_room(int64_t tat, int64_t now, uint32_t rate, exj_msec rate_ms, uint32_t want)
{
    int64_t t = gap(rate, rate_ms), room;

    if (tat < now)
        tat = now;
    room = (now + t * rate - tat) / t;
    if (room < 0)
        room = 0;
    return room < (int64_t)want ? (uint32_t)room : want;
}

int64_t exj_rate_take(int64_t tat, int64_t now, uint32_t rate, exj_msec rate_ms, uint32_t n)
{
    return (tat < now ? now : tat) + gap(rate, rate_ms) * n;
}

int64_t exj_rate_next(int64_t tat, uint32_t rate, exj_msec rate_ms)
{
    int64_t t = gap(rate, rate_ms);

    return tat + t - t * rate;
}
