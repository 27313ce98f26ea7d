/* core/job/retry.h - what follows a failed attempt. Pure: time and chance are arguments. */
#ifndef EXJ_CORE_JOB_RETRY_H
#define EXJ_CORE_JOB_RETRY_H

#include "core/base/types.h"

typedef struct exj_retry_policy {
    uint32_t max_attempts; /* 1..1000; default 3 */
    exj_msec initial_ms;   /* >= 0; default 1000 */
    exj_msec max_ms;       /* >= initial; default 300000 */
    double factor;         /* 1..100; default 2 */
    double jitter;         /* 0..1, the share of the delay that chance takes away; default 1
                              ("full jitter", AWS Architecture Blog, Brooker 2015) */
} exj_retry_policy;

#define EXJ_RETRY_DEFAULT ((exj_retry_policy){ 3, 1000, 300000, 2.0, 1.0 })

typedef struct exj_retry_verdict {
    bool dead;          /* no attempt follows */
    exj_msec run_after; /* when not dead: first instant of the next attempt, >= now + 1 */
} exj_retry_verdict;

/* `attempt` just failed (first is 1); `retryable` is false for an error declared final.
 * `chance` is uniform over all 64-bit values. Never overflows. */
exj_retry_verdict exj_retry_decide(const exj_retry_policy *p, uint32_t attempt,
                                   bool retryable, exj_msec now, uint64_t chance);

#endif /* EXJ_CORE_JOB_RETRY_H */
