#include "core/job/state.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "core/job/retry.h"

#define NO EXJ_STATUS_COUNT

/* The picture of state.h written down a second time, row by row: status x event. */
static const exj_status wanted[EXJ_STATUS_COUNT][EXJ_EV_COUNT] = {
    /* promote claim succeed fail+retry fail-dead block suspend release reap reap-dead
       retry cancel drop resume */
    [EXJ_QUEUED] = { NO, EXJ_RUNNING, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_CANCELED,
                     EXJ_DROPPED, NO },
    [EXJ_WAITING] = { EXJ_QUEUED, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_CANCELED,
                      EXJ_DROPPED, NO },
    [EXJ_RUNNING] = { NO, NO, EXJ_COMPLETED, EXJ_WAITING, EXJ_FAILED, EXJ_BLOCKED,
                      EXJ_SUSPENDED, EXJ_QUEUED, EXJ_QUEUED, EXJ_FAILED, NO, EXJ_CANCELED, NO,
                      NO },
    [EXJ_COMPLETED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO },
    [EXJ_FAILED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_QUEUED, NO, NO, NO },
    [EXJ_BLOCKED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_QUEUED, EXJ_CANCELED, NO,
                      NO },
    [EXJ_SUSPENDED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_CANCELED, NO,
                        EXJ_QUEUED },
    [EXJ_CANCELED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_QUEUED, NO, NO, NO },
    [EXJ_DROPPED] = { NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, EXJ_QUEUED, NO, NO, NO },
};

Test(state, every_pair_of_status_and_event_moves_as_the_table_says)
{
    for (unsigned s = 0; s < EXJ_STATUS_COUNT; s++) {
        for (unsigned e = 0; e < EXJ_EV_COUNT; e++) {
            exj_status to = NO;
            exj_err err = { 0 };
            exj_code rc = exj_state_move((exj_status)s, (exj_event)e, &to, &err);

            cr_expect_eq(to, wanted[s][e], "status %u, %s", s, exj_event_word((exj_event)e));
            cr_expect_eq(rc, wanted[s][e] == NO ? EXJ_REFUSED : EXJ_OK);
            cr_expect_eq(err.code, rc);
        }
    }
}

Test(state, nonsense_is_refused)
{
    exj_status to = NO;

    cr_expect_eq(exj_state_move((exj_status)77, EXJ_EV_CLAIM, &to, NULL), EXJ_REFUSED);
    cr_expect_eq(exj_state_move(EXJ_QUEUED, (exj_event)77, &to, NULL), EXJ_REFUSED);
    cr_expect_eq(to, NO);
}

Test(state, words_go_and_come_back)
{
    for (unsigned s = 0; s < EXJ_STATUS_COUNT; s++) {
        exj_status back = NO;

        cr_expect_eq(exj_status_parse(exj_slice_of(exj_status_word((exj_status)s)), &back, NULL),
                     EXJ_OK);
        cr_expect_eq(back, s == EXJ_WAITING ? EXJ_QUEUED : s);
    }
    exj_err err = { 0 };
    exj_status s;
    cr_expect_eq(exj_status_parse(exj_slice_of("waiting"), &s, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "suspended"), "%s", err.text);
}

Test(retry, delay_grows_to_its_limit_without_jitter)
{
    exj_retry_policy p = { 10, 1000, 5000, 2, 0 };
    static const exj_msec delays[] = { 1000, 2000, 4000, 5000, 5000 };

    for (uint32_t a = 1; a <= 5; a++) {
        exj_retry_verdict v = exj_retry_decide(&p, a, true, 100, 12345);

        cr_expect_not(v.dead);
        cr_expect_eq(v.run_after, 100 + delays[a - 1]);
    }
}

Test(retry, ends_with_the_last_attempt_or_a_final_error)
{
    exj_retry_policy p = EXJ_RETRY_DEFAULT;

    cr_expect_not(exj_retry_decide(&p, 2, true, 0, 0).dead);
    cr_expect(exj_retry_decide(&p, 3, true, 0, 0).dead);
    cr_expect(exj_retry_decide(&p, UINT32_MAX, true, 0, 0).dead);
    cr_expect(exj_retry_decide(&p, 1, false, 0, 0).dead);
}

Test(retry, chance_takes_at_most_its_share_and_never_reaches_now)
{
    exj_retry_policy p = EXJ_RETRY_DEFAULT;

    cr_expect_eq(exj_retry_decide(&p, 1, true, 50, 0).run_after, 1050);
    cr_expect_eq(exj_retry_decide(&p, 1, true, 50, UINT64_MAX).run_after, 51);
    p.jitter = 0.5;
    cr_expect_geq(exj_retry_decide(&p, 1, true, 50, UINT64_MAX).run_after, 550);
    p.initial_ms = 0;
    cr_expect_eq(exj_retry_decide(&p, 1, true, 50, 0).run_after, 51);
}

Test(retry, never_overflows)
{
    exj_retry_policy p = { 1000, INT64_MAX, INT64_MAX, 100, 0 };

    cr_expect_eq(exj_retry_decide(&p, 999, true, INT64_MAX - 5, 0).run_after, INT64_MAX);
    cr_expect_gt(exj_retry_decide(&p, 999, true, 0, 0).run_after, 0);
    p.initial_ms = -5;
    p.max_ms = -7;
    p.factor = -1;
    cr_expect_eq(exj_retry_decide(&p, 5, true, 10, 0).run_after, 11);
}
