/* core/job/rate.h - how many may start now? The generic cell rate algorithm (ITU-T I.371):
 * one number, the theoretical arrival time (tat), stands for a whole token bucket.
 *
 * `rate` starts a `rate_ms`, evenly spread, after a rest up to `rate` at once. Pure: time and
 * state are arguments. Times here are nanoseconds since the epoch.
 */
#ifndef EXJ_CORE_JOB_RATE_H
#define EXJ_CORE_JOB_RATE_H

#include "core/base/types.h"

#define EXJ_RATE_MAX 1000000u           /* starts a period */
#define EXJ_RATE_MS_MAX 86400000        /* a day */

/* The tat to go on with when the rate may have been changed since: a debt under the old one
 * is at most one period of the new one. Otherwise the tat as it is. */
int64_t exj_rate_settle(int64_t tat, int64_t now, exj_msec rate_ms);
/* How many may start at `now`, at most `want`. */
uint32_t exj_rate_room(int64_t tat, int64_t now, uint32_t rate, exj_msec rate_ms, uint32_t want);
/* The new tat after `n` starts at `now`. */
int64_t exj_rate_take(int64_t tat, int64_t now, uint32_t rate, exj_msec rate_ms, uint32_t n);
/* When the next one may start: at or before `now` means at once. */
int64_t exj_rate_next(int64_t tat, uint32_t rate, exj_msec rate_ms);

#endif /* EXJ_CORE_JOB_RATE_H */
