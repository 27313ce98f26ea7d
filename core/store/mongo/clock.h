/* core/store/mongo/clock.h - what the server's clock shows, without asking it each time.
 *
 * Leases and due times are judged by the server's clock, for it is the one that all workers
 * share. `hello` tells it (localTime); between two askings it goes on with our monotonic
 * clock. Our own wall clock plays no part: it may be a day off.
 *
 * An answer tells the time of some moment between asking and answering; the middle is taken,
 * and the error is at most half of the round trip (and what the monotonic clock strays since,
 * taken as 1/2000). A later answer that took long does not push out a better one with which it
 * agrees; one that contradicts it does (a failover, a machine that slept). The time never goes
 * back: where an answer is behind what was told already, it stands still until the server has
 * caught up.
 *
 * Pure: no clock is read and nothing is asked here.
 * Threads: none of its own; the owner serialises all calls on one clock.
 */
#ifndef EXJ_CORE_STORE_MONGO_CLOCK_H
#define EXJ_CORE_STORE_MONGO_CLOCK_H

#include "core/base/err.h"

#define EXJ_MONGO_CLOCK_FRESH_NS ((exj_nsec)10000000000) /* then it is asked again */

typedef struct exj_mongo_clock {
    bool known;
    exj_msec server_ms; /* the server's clock ... */
    exj_nsec at;        /* ... when our monotonic clock showed this */
    exj_nsec trip;      /* how long that observation took: twice its greatest error */
    exj_nsec asked_at;  /* when the last observation came, used or not */
    exj_msec told_ms;   /* the latest that was told */
} exj_mongo_clock; /* zeroed: knows nothing */

/* The server said `server_ms` in an answer to what was sent at `sent` and came at `received`
 * (monotonic). False: it was not used (received before sent, a time before 1970 or beyond
 * year 9999, or what is known agrees with it and is more exact). */
bool exj_mongo_clock_observe(exj_mongo_clock *c, exj_nsec sent, exj_nsec received,
                             exj_msec server_ms);
/* The server's clock at monotonic `mono`; 0 before the first observation. */
exj_msec exj_mongo_clock_now(exj_mongo_clock *c, exj_nsec mono);
/* True when the server should be asked. */
bool exj_mongo_clock_is_due(const exj_mongo_clock *c, exj_nsec mono);
/* Server's clock less `wall_ms` (our own) at `mono`; for people: `store check`, metrics. */
exj_msec exj_mongo_clock_offset(const exj_mongo_clock *c, exj_nsec mono, exj_msec wall_ms);

#endif /* EXJ_CORE_STORE_MONGO_CLOCK_H */
