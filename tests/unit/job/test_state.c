#include "core/job/state.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/job/retry.h"

#define NO EXJ_STATUS_COUNT
#define TO(status) ((status) + 1) /* 0: no such move */

/* The picture of state.h written down a second time, status by status. */
static const int wanted[EXJ_STATUS_COUNT][EXJ_EV_COUNT] = {
    [EXJ_QUEUED] = { [EXJ_EV_CLAIM] = TO(EXJ_RUNNING), [EXJ_EV_CANCEL] = TO(EXJ_CANCELED),
                     [EXJ_EV_DROP] = TO(EXJ_DROPPED), [EXJ_EV_PARK] = TO(EXJ_PARKED) },
    [EXJ_WAITING] = { [EXJ_EV_PROMOTE] = TO(EXJ_QUEUED), [EXJ_EV_CANCEL] = TO(EXJ_CANCELED),
                      [EXJ_EV_DROP] = TO(EXJ_DROPPED) },
    [EXJ_PARKED] = { [EXJ_EV_UNPARK] = TO(EXJ_QUEUED), [EXJ_EV_CANCEL] = TO(EXJ_CANCELED),
                     [EXJ_EV_DROP] = TO(EXJ_DROPPED) },
    [EXJ_RUNNING] = { [EXJ_EV_SUCCEED] = TO(EXJ_COMPLETED),
                      [EXJ_EV_FAIL_RETRY] = TO(EXJ_WAITING),
                      [EXJ_EV_FAIL_DEAD] = TO(EXJ_FAILED), [EXJ_EV_BLOCK] = TO(EXJ_BLOCKED),
                      [EXJ_EV_SUSPEND] = TO(EXJ_SUSPENDED), [EXJ_EV_RELEASE] = TO(EXJ_QUEUED),
                      [EXJ_EV_REAP] = TO(EXJ_QUEUED), [EXJ_EV_REAP_DEAD] = TO(EXJ_FAILED),
                      [EXJ_EV_CANCEL] = TO(EXJ_CANCELED),
                      [EXJ_EV_CANCEL_ASK] = TO(EXJ_RUNNING) },
    [EXJ_COMPLETED] = { [EXJ_EV_RERUN] = TO(EXJ_QUEUED) },
    [EXJ_FAILED] = { [EXJ_EV_RETRY] = TO(EXJ_QUEUED), [EXJ_EV_RERUN] = TO(EXJ_QUEUED) },
    [EXJ_BLOCKED] = { [EXJ_EV_RETRY] = TO(EXJ_QUEUED), [EXJ_EV_CANCEL] = TO(EXJ_CANCELED),
                      [EXJ_EV_UNBLOCK] = TO(EXJ_QUEUED) },
    [EXJ_SUSPENDED] = { [EXJ_EV_CANCEL] = TO(EXJ_CANCELED), [EXJ_EV_RESUME] = TO(EXJ_QUEUED) },
    [EXJ_CANCELED] = { [EXJ_EV_RETRY] = TO(EXJ_QUEUED), [EXJ_EV_RERUN] = TO(EXJ_QUEUED) },
    [EXJ_DROPPED] = { [EXJ_EV_RETRY] = TO(EXJ_QUEUED), [EXJ_EV_RERUN] = TO(EXJ_QUEUED) },
};

Test(state, every_pair_of_status_and_event_moves_as_the_table_says)
{
    for (unsigned s = 0; s < EXJ_STATUS_COUNT; s++) {
        for (unsigned e = 0; e < EXJ_EV_COUNT; e++) {
            exj_status to = NO;
            exj_err err = { 0 };
            exj_code rc = exj_state_move((exj_status)s, (exj_event)e, &to, &err);

            int move = wanted[s][e];

            cr_expect_eq((int)to, move ? move - 1 : (int)NO, "status %u, %s", s,
                         exj_event_word((exj_event)e));
            cr_expect_eq(rc, move ? EXJ_OK : EXJ_REFUSED);
            cr_expect_eq(err.code, rc);
            /* a refusal says what it is about */
            cr_expect(move || (strstr(err.text, exj_status_name((exj_status)s)) &&
                               strstr(err.text, exj_event_word((exj_event)e))),
                      "%s", err.text);
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
        cr_expect_eq(back, s == EXJ_WAITING || s == EXJ_PARKED ? EXJ_QUEUED : s);
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
