/* core/job/cron.h - cron expressions: read once, then asked for the next or previous tick.
 *
 * Text:  5 fields, "minute hour day-of-month month day-of-week" (seconds are 0), or 6 with
 *        the second in front; or one of @yearly @annually @monthly @weekly @daily @midnight
 *        @hourly. A field is a list ("1,15") of: a value, a range "9-17", "*", and a step
 *        behind a range or "*" ("9-17/2"). Months and days of the week may be named by their
 *        first three English letters in any case; 0 and 7 are Sunday. L, W, # and ? are
 *        refused.
 * Days:  (the rule of Vixie cron) when day-of-month and day-of-week are both restricted, a
 *        day fits that fits EITHER; a field that begins with "*" restricts nothing of the
 *        kind: then a day must fit both ("*" + "/2" with MON: Mondays on odd days).
 * Ticks: are instants of whole seconds. In a zone that moves its clocks it depends:
 *        - FIXED TIMES: second, minute and hour hold neither "*" nor a step ("30 2 * * *",
 *          "0 8-17 * * MON-FRI"). Each fitting local time is a tick once: one that the
 *          clocks jump over at the first instant after the gap (several in one gap, or one
 *          that falls on that instant anyway: one tick), one that they show twice at the
 *          first of the two.
 *        - RUNNING TIME: any of the three holds "*" or a step: a tick is each instant at
 *          which the clocks show a fitting local time: both times in an hour that comes
 *          twice, not at all in one that is jumped over.
 *        No tick is later than 9999-12-31T23:59:59Z.
 * Threads: a struct without pointers; nothing here reads a clock.
 */
#ifndef EXJ_CORE_JOB_CRON_H
#define EXJ_CORE_JOB_CRON_H

#include "core/base/zone.h"

#define EXJ_CRON_TEXT_BYTES 256u /* longest text */

typedef struct exj_cron {
    uint64_t seconds, minutes; /* bit v: value v fits */
    uint32_t hours, days;      /* days: bits 1..31 */
    uint32_t months, weekdays; /* bits 1..12; bits 0..6, 0 is Sunday */
    bool either_day;           /* day-of-month OR day-of-week; else both */
    bool running_time;         /* see above */
} exj_cron;

/* Errors: EXJ_INVALID naming the field, the value and what is allowed; also for a day that
 * none of the months has ("* * 30 2 *"). */
exj_code exj_cron_parse(exj_slice text, exj_cron *ret, exj_err *err);
/* The first tick later than `after`, or false when there is none. Looks at most 400 years
 * ahead, months and days that do not fit skipped whole: some microseconds. */
bool exj_cron_next(const exj_cron *c, const exj_zone *z, int64_t after_ms, int64_t *ret_ms);
/* The last tick earlier than `before`; none is earlier than 1970-01-01. */
bool exj_cron_previous(const exj_cron *c, const exj_zone *z, int64_t before_ms,
                       int64_t *ret_ms);

#endif /* EXJ_CORE_JOB_CRON_H */
