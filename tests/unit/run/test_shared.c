/* A store that others share: what passes, and what is said of it. */
#include "tests/unit/run/hand_engine.h"

TestSuite(shared, .init = hand_make, .fini = hand_end);

static enum store_said say(exj_code rc)
{
    exj_op op = { .kind = EXJ_OP_RENEW, .rc = rc };

    exj_err_set(&op.err, rc, "no primary");
    return exj_run_store_said(&hand->e, "renewals", &op);
}

Test(shared, some_errors_of_a_shared_store_pass_and_none_of_our_own)
{
    static const exj_code passes[] = { EXJ_IO, EXJ_UNKNOWN, EXJ_BUSY, EXJ_FULL, EXJ_NOMEM };
    static const exj_code stay[] = { EXJ_CORRUPT, EXJ_BUG, EXJ_INVALID, EXJ_NOT_FOUND };

    hand->v.shared = true;
    for (size_t i = 0; i < sizeof(passes) / sizeof(*passes); i++) {
        cr_expect_eq(say(passes[i]), STORE_PASSES, "%s", exj_code_name(passes[i]));
        cr_expect_not(hand->e.failed);
    }
    cr_expect_eq(say(EXJ_OK), STORE_OK);
    for (size_t i = 0; i < sizeof(stay) / sizeof(*stay); i++) {
        hand->e.failed = false;
        cr_expect_eq(say(stay[i]), STORE_FAILED, "%s", exj_code_name(stay[i]));
        cr_expect(hand->e.failed);
    }
    hand->v.shared = false;
    for (size_t i = 0; i < sizeof(passes) / sizeof(*passes); i++) {
        hand->e.failed = false;
        cr_expect_eq(say(passes[i]), STORE_FAILED, "%s", exj_code_name(passes[i]));
        cr_expect(hand->e.failed);
    }
}

Test(shared, health_says_since_when_it_does_not_answer_and_the_log_is_not_flooded)
{
    exj_engine *e = &hand->e;
    char text[256];

    hand->v.shared = true;
    say(EXJ_IO);
    cr_expect(strstr(hand->said, "the store did not do renewals: no primary"), "%s", hand->said);
    cr_expect(exj_engine_health(e, text, sizeof(text)), "a moment is nothing: %s", text);
    e->unwell_since -= (exj_nsec)7 * 1000000000;
    cr_expect_not(exj_engine_health(e, text, sizeof(text)));
    cr_expect(strstr(text, "has not done what it was asked for 7 s: no primary"), "%s", text);
    hand->said[0] = '\0';
    say(EXJ_IO);
    cr_expect_str_empty(hand->said);
    say(EXJ_OK);
    cr_expect(strstr(hand->said, "what it is asked again, after 7."), "%s", hand->said);
    cr_expect(exj_engine_health(e, text, sizeof(text)));
    hand->said[0] = '\0';
    say(EXJ_OK);
    say(EXJ_IO); /* soon after: neither this nor its end is said */
    say(EXJ_OK);
    cr_expect_str_empty(hand->said);
    e->unwell_told -= (exj_nsec)11 * 1000000000;
    say(EXJ_IO);
    cr_expect(strstr(hand->said, "renewals"), "%s", hand->said);
}

Test(shared, rests_grow_to_two_seconds)
{
    exj_nsec pause = 0;

    for (int i = 0; i < 10; i++) {
        exj_nsec longer = exj_run_longer_pause(pause);

        cr_expect_eq(longer, pause == 0            ? 50000000
                             : pause >= 1000000000 ? 2000000000
                                                   : 2 * pause);
        pause = longer;
    }
    cr_expect_eq(pause, 2000000000);
}
