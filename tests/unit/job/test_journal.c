#include "core/job/journal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

static uint64_t state;

static uint32_t chance(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static void seed(const char *who)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t n = given ? strtoull(given, NULL, 10) : exj_random_u64();

    fprintf(stderr, "%s: EXJ_TEST_SEED=%llu\n", who, (unsigned long long)n);
    state = n ? n : 1;
}

Test(journal, words_go_and_come_back)
{
    exj_err err = { 0 };
    exj_entry_kind k = EXJ_ENTRY_COUNT;

    for (unsigned i = 0; i < EXJ_ENTRY_COUNT; i++) {
        const char *word = exj_entry_word((exj_entry_kind)i);

        cr_expect_eq(exj_entry_parse(exj_slice_of(word), &k, NULL), EXJ_OK, "%s", word);
        cr_expect_eq((unsigned)k, i);
    }
    cr_expect_str_eq(exj_entry_word((exj_entry_kind)99), "unknown");
    cr_expect_eq(exj_entry_parse(EXJ_SLICE_LITERAL("exploded"), &k, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "\"exploded\"") && strstr(err.text, "lease_expired") &&
                  strstr(err.text, "crashed"),
              "%s", err.text);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_entry_parse((exj_slice){ NULL, 0 }, &k, &err), EXJ_INVALID);
}

Test(journal, every_move_an_operator_sees_has_one_entry_and_no_other_has)
{
    for (unsigned i = 0; i < EXJ_EV_COUNT; i++) {
        exj_event e = (exj_event)i, back = EXJ_EV_COUNT;
        exj_entry_kind k;
        bool seen = e != EXJ_EV_PROMOTE && e != EXJ_EV_PARK && e != EXJ_EV_UNPARK;

        cr_expect_eq(exj_entry_of(e, &k), seen, "%s", exj_event_word(e));
        if (seen) {
            cr_expect(exj_entry_event(k, &back));
            cr_expect_eq(back, e);
        }
    }
    cr_expect_not(exj_entry_event(EXJ_ENTRY_STEP, &(exj_event){ 0 }));
    cr_expect_not(exj_entry_event((exj_entry_kind)99, &(exj_event){ 0 }));
    cr_expect_not(exj_entry_of(EXJ_EV_COUNT, &(exj_entry_kind){ 0 }));
}

/* ---- folding -------------------------------------------------------------------------------- */

struct teller {
    exj_journal_view v;
    int64_t number;
};

static exj_code tell(struct teller *t, exj_entry_kind kind, int64_t token, uint32_t attempt,
                     exj_err *err)
{
    exj_journal_entry e = { .kind = kind, .number = t->number + 1, .previous = t->v.last,
                            .token = token, .attempt = attempt };
    exj_code rc = exj_journal_apply(&t->v, &e, err);

    t->number++;
    return rc;
}

Test(journal, a_life_is_folded_into_its_row)
{
    struct teller t = { 0 };

    cr_assert_eq(tell(&t, EXJ_ENTRY_SCHEDULED, 0, 0, NULL), EXJ_OK);
    cr_assert(t.v.known && t.v.status == EXJ_QUEUED);
    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 1, 1, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_RELEASED, 1, 1, NULL), EXJ_OK);
    cr_assert_eq(t.v.attempts, 0); /* it did not count */
    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 2, 1, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_CRASHED, 2, 1, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_RETRYING, 2, 1, NULL), EXJ_OK);
    cr_assert_eq(t.v.status, EXJ_QUEUED); /* waiting is queued */
    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 3, 2, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_STEP, 3, 2, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_SUSPENDED, 3, 2, NULL), EXJ_OK);
    cr_assert_eq(t.v.status, EXJ_SUSPENDED);
    cr_assert_eq(tell(&t, EXJ_ENTRY_SIGNAL, 3, 1, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_RESUMED, 3, 1, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 4, 2, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_CANCEL_ASKED, 4, 2, NULL), EXJ_OK);
    cr_assert_eq(t.v.status, EXJ_RUNNING);
    cr_assert_eq(tell(&t, EXJ_ENTRY_COMPLETED, 4, 2, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_RERUN, 5, 0, NULL), EXJ_OK);
    cr_assert(t.v.status == EXJ_QUEUED && t.v.token == 5 && t.v.attempts == 0);
    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 6, 1, NULL), EXJ_OK);
    cr_assert_eq(t.v.last, t.number);
}

/* spec 2.10: Tokens of a row strictly grow. */
Test(journal, what_does_not_fit_is_named_and_changes_nothing)
{
    static const struct {
        exj_entry_kind kind;
        int64_t token;
        uint32_t attempt;
        const char *why;
    } wrong[] = {
        { EXJ_ENTRY_QUEUED, 1, 1, "inserted before" },
        { EXJ_ENTRY_CLAIMED, 2, 2, "claim" }, /* it is running */
        { EXJ_ENTRY_RETRIED, 1, 0, "retry" },
        { EXJ_ENTRY_UNBLOCKED, 1, 0, "released by a signal" },
        { EXJ_ENTRY_COMPLETED, 2, 1, "token" },
        { EXJ_ENTRY_COMPLETED, 0, 1, "token" },
        { EXJ_ENTRY_COMPLETED, 1, 2, "attempt" },
        { EXJ_ENTRY_STEP, 2, 1, "token" },
        { EXJ_ENTRY_RELEASED, 1, 0, "attempt" },
        { EXJ_ENTRY_SUSPENDED, 1, 3, "attempt" },
    };
    struct teller t = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 1, 1, &err), EXJ_CORRUPT);
    cr_assert(strstr(err.text, "begins with"), "%s", err.text);
    cr_assert_not(t.v.known);
    cr_assert_eq(tell(&t, EXJ_ENTRY_QUEUED, 0, 0, NULL), EXJ_OK);
    cr_assert_eq(tell(&t, EXJ_ENTRY_CLAIMED, 1, 1, NULL), EXJ_OK);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct teller copy = t;

        err = (exj_err){ 0 };
        cr_expect_eq(tell(&copy, wrong[i].kind, wrong[i].token, wrong[i].attempt, &err),
                     EXJ_CORRUPT, "%zu", i);
        cr_expect(strstr(err.text, wrong[i].why), "%zu: %s", i, err.text);
        cr_expect_eq(err.code, EXJ_CORRUPT);
        cr_expect_eq(copy.v.status, t.v.status);
        cr_expect_eq(copy.v.token, t.v.token);
        cr_expect_eq(copy.v.last, t.v.last);
    }
    for (int i = 0; i < 3; i++) { /* the chain */
        exj_journal_entry e = { .kind = EXJ_ENTRY_STEP, .number = 9, .previous = t.v.last,
                                .token = 1, .attempt = 1 };
        exj_journal_view v = t.v;

        if (i == 0)
            e.previous = 0;
        if (i == 1)
            e.previous = t.v.last + 1;
        if (i == 2)
            e.number = t.v.last;
        err = (exj_err){ 0 };
        cr_expect_eq(exj_journal_apply(&v, &e, &err), EXJ_CORRUPT);
        cr_expect(strstr(err.text, "does not follow"), "%s", err.text);
    }
}

/* Any entries at all: the view is one the table can give, and errors have a text. */
Test(journal, nonsense_never_leads_out_of_the_table)
{
    seed("journal");
    for (int life = 0; life < 2000; life++) {
        struct teller t = { 0 };
        int64_t newest = 0;

        for (int i = 0; i < 60; i++) {
            exj_entry_kind k = (exj_entry_kind)chance(EXJ_ENTRY_COUNT + 2);
            int64_t token = t.v.token + (int64_t)chance(3) - (chance(4) == 0);
            uint32_t attempt = t.v.attempts + chance(3) - (chance(4) == 0);
            exj_journal_view before = t.v;
            exj_err err = { 0 };

            if (chance(2)) { /* most entries fit */
                token = t.v.token + (k == EXJ_ENTRY_CLAIMED || k == EXJ_ENTRY_RERUN);
                attempt = k == EXJ_ENTRY_CLAIMED ? t.v.attempts + 1
                          : k == EXJ_ENTRY_RETRIED || k == EXJ_ENTRY_RERUN ||
                                  k == EXJ_ENTRY_UNBLOCKED
                              ? 0
                              : t.v.attempts;
            }
            if (tell(&t, k, token, attempt, &err)) {
                cr_assert(err.text[0] && err.code == EXJ_CORRUPT);
                t.v = before; /* as whoever verifies goes on with the next row */
                continue;
            }
            cr_assert(t.v.status != EXJ_WAITING && t.v.status != EXJ_PARKED);
            cr_assert(t.v.token >= newest);
            newest = t.v.token;
        }
    }
}
