#include "core/store/mongo/clock.h"

#define NS_PER_MS 1000000
#define STRAY 2000 /* a monotonic clock is that good, in one part of so many */
#define YEAR_10000_MS ((exj_msec)253402300800000)

static exj_msec shown_at(const exj_mongo_clock *c, exj_nsec mono)
{
    return c->server_ms + (mono - c->at) / NS_PER_MS;
}

/* How far off shown_at(c, mono) may be. */
static exj_nsec error_at(const exj_mongo_clock *c, exj_nsec mono)
{
    return c->trip / 2 + (mono > c->at ? (mono - c->at) / STRAY : 0);
}

bool exj_mongo_clock_observe(exj_mongo_clock *c, exj_nsec sent, exj_nsec received,
                             exj_msec server_ms)
{
    exj_nsec trip = received - sent, middle = sent + trip / 2;

    if (trip < 0 || server_ms < 0 || server_ms >= YEAR_10000_MS)
        return false;
    c->asked_at = received;
    if (c->known && trip / 2 > error_at(c, received)) {
        exj_msec apart = server_ms - shown_at(c, middle);
        exj_msec most = (trip / 2 + error_at(c, middle)) / NS_PER_MS + 1;

        if (apart <= most && -apart <= most)
            return false;
    }
    c->known = true;
    c->server_ms = server_ms;
    c->at = middle;
    c->trip = trip;
    return true;
}

exj_msec exj_mongo_clock_now(exj_mongo_clock *c, exj_nsec mono)
{
    exj_msec now;

    if (!c->known)
        return 0;
    now = shown_at(c, mono);
    if (now > c->told_ms)
        c->told_ms = now;
    return c->told_ms;
}

bool exj_mongo_clock_is_due(const exj_mongo_clock *c, exj_nsec mono)
{
    return !c->known || mono - c->asked_at >= EXJ_MONGO_CLOCK_FRESH_NS;
}

exj_msec exj_mongo_clock_offset(const exj_mongo_clock *c, exj_nsec mono, exj_msec wall_ms)
{
    return c->known ? shown_at(c, mono) - wall_ms : 0;
}
