/* core/job/canary.h - a new version beside the old one: who gets it, and is it worse?
 *
 * Share: a row belongs to the canary's share by a stable hash of its name (FNV-1a of 64
 * bits, mixed once more, modulo 10,000). The same row gives the same answer in every
 * process and at every attempt, and a share that grows keeps the rows it had.
 *
 * Judgement: an error rate is seen through its Wilson score interval. For e errors in n
 * calls, p = e / n:
 *
 *     (p + z^2/2n  ±  z * sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
 *
 * with z = 2.58 (99 % of the mass inside). ROLL BACK when the new version has at least 3
 * errors and the LOWER bound of its rate is above the UPPER bound of the old one's. Calls
 * of the old version that are missing to 20 count as good ones: a version without history
 * is 0 errors in 20, upper bound 0.25. So one that always fails is caught at its third call
 * (lower bound of 3 in 3: 0.31) when the old one does not, and within 10 calls when the
 * upper bound of the old one's is below 0.6.
 * The test is asked after every call, so it errs more often than a single look would. Both
 * versions with the same true rate, the old one known by 1,000 calls: rolled back 0 of 100
 * times when they never fail, 0.5 at a rate of 0.01, 3 at the worst rate, which is 0.1 (the
 * unit test measures it and fails above 5).
 *
 * PROMOTE after 50 calls without error (errors may lie between them), or 10 s after the
 * begin. But a version that has only ever failed, where the old one has not, is watched up
 * to 60 s and then rolled back.
 *
 * A version that became current at once, for lack of traffic, is judged in the same way;
 * PROMOTE then means that the watch is over. What counts as an error is the caller's
 * business: crashes and EXJ_R_INTERNAL do, a refused record does not.
 *
 * Threads: functions only; no state, no clock.
 */
#ifndef EXJ_CORE_JOB_CANARY_H
#define EXJ_CORE_JOB_CANARY_H

#include "core/base/types.h"

#define EXJ_CANARY_PERCENT 10u         /* the share, unless told otherwise */
#define EXJ_CANARY_TRAFFIC 100u        /* calls ... */
#define EXJ_CANARY_TRAFFIC_MS 10000    /* ... in this time make a share worth while */

/* Does this row go to the new version? `percent` over 100 counts as 100. */
bool exj_canary_takes(exj_slice row_name, unsigned percent);

/* Is there traffic enough for a share: at least 100 calls in 10 s? `calls` were seen in the
 * last `window_ms`; a window shorter than 10 s counts as 10 s, a longer one by its rate.
 * False: make the new version current at once and watch it. */
bool exj_canary_needed(uint64_t calls, exj_msec window_ms);

typedef struct exj_canary_count {
    uint64_t calls;  /* that ended */
    uint64_t errors; /* of them; more than calls counts as calls */
} exj_canary_count;

typedef struct exj_canary_config {
    double z;            /* 2.58 */
    uint32_t errors_min; /* 3 */
    uint32_t old_floor;  /* 20 */
    uint32_t good_calls; /* 50 */
    exj_msec watch_ms;   /* 10,000 */
    exj_msec longest_ms; /* 60,000 */
} exj_canary_config;

exj_canary_config exj_canary_defaults(void);

typedef enum exj_canary_verdict {
    EXJ_CANARY_KEEP_WATCHING, EXJ_CANARY_PROMOTE, EXJ_CANARY_ROLL_BACK
} exj_canary_verdict;

/* Judge after `elapsed_ms`. `config` NULL: the defaults. */
exj_canary_verdict exj_canary_judge(exj_canary_count old, exj_canary_count fresh,
                                    exj_msec elapsed_ms, const exj_canary_config *config);
/* "keep-watching", "promote", "roll-back". */
const char *exj_canary_verdict_word(exj_canary_verdict v);

/* The bounds, for messages ("4 of 5 calls failed, at least 0.31; before: at most 0.02"). */
double exj_wilson_lower(exj_canary_count c, double z); /* 0 without calls */
double exj_wilson_upper(exj_canary_count c, double z); /* 1 without calls */

#endif /* EXJ_CORE_JOB_CANARY_H */
