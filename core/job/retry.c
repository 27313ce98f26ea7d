#include "core/job/retry.h"

#include <math.h>

/* 2^62: far beyond any calendar and safely inside exj_msec. */
#define SPAN_LIMIT 4611686018427387904.0

static double clamped(double v, double low, double high)
{
    return v >= low ? (v <= high ? v : high) : low; /* not a number: low */
}

exj_retry_verdict exj_retry_decide(const exj_retry_policy *p, uint32_t attempt,
                                   bool retryable, exj_msec now, uint64_t chance)
{
    exj_retry_verdict v = { .dead = true };
    double delay, share;
    exj_msec span;

    if (!retryable || attempt >= p->max_attempts)
        return v;
    delay = clamped((double)p->initial_ms, 0, SPAN_LIMIT) *
            pow(clamped(p->factor, 1, 1e6), attempt > 0 ? attempt - 1 : 0);
    delay = clamped(delay, 0, clamped((double)p->max_ms, 0, SPAN_LIMIT));
    share = (double)(chance >> 11) / 9007199254740992.0; /* 2^53: in [0, 1) */
    delay -= delay * clamped(p->jitter, 0, 1) * share;

    span = delay >= 1 ? (exj_msec)delay : 1;
    v.dead = false;
    if (__builtin_add_overflow(now, span, &v.run_after))
        v.run_after = INT64_MAX;
    return v;
}
