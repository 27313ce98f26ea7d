#include "core/job/canary.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

#define GAMES 2000

static uint64_t seed_of(const char *test)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : exj_random_u64();

    fprintf(stderr, "%s: EXJ_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

static bool happens(uint64_t *state, double p)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0 < p;
}

static exj_canary_count history(uint64_t *seed, uint64_t calls, double rate)
{
    exj_canary_count c = { .calls = calls };

    for (uint64_t k = 0; k < calls; k++)
        c.errors += happens(seed, rate);
    return c;
}

/* Let a new version of that rate be judged after each call; how it ended, and when. */
static exj_canary_verdict play(uint64_t *seed, exj_canary_count old, double rate,
                               uint64_t *ret_calls)
{
    exj_canary_count fresh = { 0 };
    exj_canary_verdict v = EXJ_CANARY_KEEP_WATCHING;

    while (v == EXJ_CANARY_KEEP_WATCHING && fresh.calls < 100000) {
        fresh.calls++;
        fresh.errors += happens(seed, rate);
        v = exj_canary_judge(old, fresh, 0, NULL);
    }
    if (ret_calls)
        *ret_calls = fresh.calls;
    return v;
}

static unsigned takers(unsigned percent)
{
    unsigned taken = 0;
    char name[40];

    for (int k = 0; k < 20000; k++) {
        snprintf(name, sizeof name, "matrix/%d", k);
        taken += exj_canary_takes(exj_slice_of(name), percent);
    }
    return taken;
}

Test(canary, share_is_close_to_what_was_asked_for)
{
    cr_assert_eq(takers(0), 0);
    cr_assert_eq(takers(100), 20000);
    cr_assert_eq(takers(4000000000u), 20000);
    cr_assert(takers(10) > 1800 && takers(10) < 2200, "%u of 20000", takers(10));
    cr_assert(takers(50) > 9600 && takers(50) < 10400, "%u of 20000", takers(50));
}

Test(canary, share_is_the_same_in_every_process)
{
    /* written down: another answer would move rows between versions at an upgrade */
    static const bool wanted[10] = { 0, 1, 1, 1, 1, 0, 0, 1, 1, 1 };
    char name[20];

    for (int k = 0; k < 10; k++) {
        snprintf(name, sizeof name, "row-%d", k);
        cr_expect_eq(exj_canary_takes(exj_slice_of(name), 50), wanted[k], "%s", name);
    }
}

Test(canary, share_that_grows_keeps_its_rows)
{
    char name[40];

    for (int k = 0; k < 2000; k++)
        for (unsigned p = 1; p <= 100; p++) {
            snprintf(name, sizeof name, "r%d", k);
            cr_assert(!exj_canary_takes(exj_slice_of(name), p - 1) ||
                          exj_canary_takes(exj_slice_of(name), p), "%s at %u", name, p);
        }
}

Test(canary, is_needed_from_a_hundred_calls_in_ten_seconds)
{
    cr_assert(exj_canary_needed(100, 10000));
    cr_assert_not(exj_canary_needed(99, 10000));
    cr_assert_not(exj_canary_needed(50, 1000)); /* a short look proves no traffic */
    cr_assert(exj_canary_needed(100, 1000));
    cr_assert_not(exj_canary_needed(599, 60000));
    cr_assert(exj_canary_needed(600, 60000));
    cr_assert_not(exj_canary_needed(0, 0));
    cr_assert_not(exj_canary_needed(0, -5));
    cr_assert(exj_canary_needed(UINT64_MAX, 10000));
}

Test(canary, wilson_bounds_are_those_of_the_tables)
{
    exj_canary_count ten = { 10, 1 };

    /* 1 of 10 at z = 1.96: 0.0179 .. 0.4042 */
    cr_assert_float_eq(exj_wilson_lower(ten, 1.96), 0.0179, 0.0001);
    cr_assert_float_eq(exj_wilson_upper(ten, 1.96), 0.4042, 0.0001);
    cr_assert_float_eq(exj_wilson_upper((exj_canary_count){ 20, 0 }, 2.58), 0.2497, 0.0001);
    cr_assert_float_eq(exj_wilson_lower((exj_canary_count){ 3, 3 }, 2.58), 0.3107, 0.0001);
    cr_assert_eq(exj_wilson_lower((exj_canary_count){ 0, 0 }, 2.58), 0);
    cr_assert_eq(exj_wilson_upper((exj_canary_count){ 0, 0 }, 2.58), 1);
    cr_assert_float_eq(exj_wilson_upper((exj_canary_count){ 3, 9 }, 2.58), 1, 1e-9);
}

Test(canary, two_errors_never_roll_back_and_three_do)
{
    exj_canary_count old = { 1000, 0 };

    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 2, 2 }, 0, NULL),
                 EXJ_CANARY_KEEP_WATCHING);
    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 3, 3 }, 0, NULL),
                 EXJ_CANARY_ROLL_BACK);
}

Test(canary, old_version_without_history_counts_as_none_of_twenty)
{
    exj_canary_count none = { 0, 0 }, one = { 1, 1 };

    cr_assert_eq(exj_canary_judge(none, (exj_canary_count){ 3, 3 }, 0, NULL),
                 EXJ_CANARY_ROLL_BACK);
    /* 3 of 10: lower bound 0.08, below 0.25 */
    cr_assert_eq(exj_canary_judge(none, (exj_canary_count){ 10, 3 }, 0, NULL),
                 EXJ_CANARY_KEEP_WATCHING);
    /* one failed call is no history of failing: 1 of 20, upper bound 0.33 */
    cr_assert_eq(exj_canary_judge(one, (exj_canary_count){ 5, 5 }, 0, NULL),
                 EXJ_CANARY_ROLL_BACK);
}

Test(canary, promotes_after_fifty_good_calls_or_ten_seconds)
{
    exj_canary_count old = { 1000, 10 };

    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 49, 0 }, 9999, NULL),
                 EXJ_CANARY_KEEP_WATCHING);
    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 50, 0 }, 0, NULL),
                 EXJ_CANARY_PROMOTE);
    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 50, 1 }, 0, NULL),
                 EXJ_CANARY_KEEP_WATCHING);
    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 51, 1 }, 0, NULL),
                 EXJ_CANARY_PROMOTE);
    cr_assert_eq(exj_canary_judge(old, (exj_canary_count){ 0, 0 }, 10000, NULL),
                 EXJ_CANARY_PROMOTE);
}

Test(canary, version_that_only_failed_is_not_promoted_by_time)
{
    exj_canary_count fails = { 2, 2 }, good = { 100, 0 }, bad = { 100, 100 };

    cr_assert_eq(exj_canary_judge(good, fails, 10000, NULL), EXJ_CANARY_KEEP_WATCHING);
    cr_assert_eq(exj_canary_judge(good, fails, 59999, NULL), EXJ_CANARY_KEEP_WATCHING);
    cr_assert_eq(exj_canary_judge(good, fails, 60000, NULL), EXJ_CANARY_ROLL_BACK);
    cr_assert_eq(exj_canary_judge(bad, fails, 10000, NULL), EXJ_CANARY_PROMOTE);
}

Test(canary, errors_over_calls_do_not_upset_it)
{
    cr_assert_eq(exj_canary_judge((exj_canary_count){ 5, 90 }, (exj_canary_count){ 1, 7 }, 0, NULL),
                 EXJ_CANARY_KEEP_WATCHING);
}

Test(canary, same_rates_are_rarely_rolled_back)
{
    static const double rates[] = { 0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5 };
    uint64_t seed = seed_of("same_rates");

    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        unsigned wrong = 0;

        for (int g = 0; g < GAMES; g++)
            wrong += play(&seed, history(&seed, 1000, rates[r]), rates[r], NULL) ==
                     EXJ_CANARY_ROLL_BACK;
        fprintf(stderr, "rate %.3f: rolled back %u of %d\n", rates[r], wrong, GAMES);
        cr_expect_leq(wrong, GAMES * 5 / 100, "rate %.3f", rates[r]);
        cr_expect(rates[r] > 0 || wrong == 0);
    }
}

Test(canary, one_that_always_fails_is_caught_within_ten_calls)
{
    static const double rates[] = { 0, 0.01, 0.1, 0.2 };
    uint64_t seed = seed_of("always_fails");

    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
        for (int g = 0; g < GAMES; g++) {
            uint64_t calls = 0;
            exj_canary_count old = history(&seed, (uint64_t)g % 2 ? 1000 : 100, rates[r]);

            cr_assert_eq(play(&seed, old, 1, &calls), EXJ_CANARY_ROLL_BACK);
            cr_assert_leq(calls, 10, "after %llu calls; old: %llu of %llu",
                          (unsigned long long)calls, (unsigned long long)old.errors,
                          (unsigned long long)old.calls);
        }
}

Test(canary, much_worse_version_is_mostly_rolled_back)
{
    uint64_t seed = seed_of("much_worse");
    unsigned caught = 0;

    for (int g = 0; g < GAMES; g++)
        caught += play(&seed, history(&seed, 1000, 0.01), 0.4, NULL) == EXJ_CANARY_ROLL_BACK;
    cr_assert_geq(caught, GAMES * 98 / 100, "caught %u of %d", caught, GAMES);
}

Test(canary, table_of_the_document_is_true)
{
    static const struct {
        exj_canary_count old, fresh;
        exj_canary_verdict verdict;
    } row[] = {
        { { 1000, 0 }, { 3, 3 }, EXJ_CANARY_ROLL_BACK },
        { { 0, 0 }, { 3, 3 }, EXJ_CANARY_ROLL_BACK },
        { { 0, 0 }, { 10, 3 }, EXJ_CANARY_KEEP_WATCHING },
        { { 1000, 100 }, { 10, 8 }, EXJ_CANARY_ROLL_BACK },
        { { 1000, 10 }, { 51, 1 }, EXJ_CANARY_PROMOTE },
    };

    for (size_t k = 0; k < sizeof row / sizeof *row; k++)
        cr_expect_eq(exj_canary_judge(row[k].old, row[k].fresh, 0, NULL), row[k].verdict,
                     "row %zu of docs/reload.md", k + 1);
}
