#include "core/job/rate.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

#define MS 1000000 /* nanoseconds */

static uint64_t state;

static uint32_t chance(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

Test(rate, a_rest_allows_one_burst_and_then_one_by_one)
{
    int64_t tat = 0, now = 1000 * (int64_t)MS;

    cr_assert_eq(exj_rate_room(tat, now, 10, 1000, 99), 10);
    cr_assert_eq(exj_rate_room(tat, now, 10, 1000, 3), 3);
    tat = exj_rate_take(tat, now, 10, 1000, 10);
    cr_assert_eq(exj_rate_room(tat, now, 10, 1000, 99), 0);
    cr_assert_eq(exj_rate_next(tat, 10, 1000), now + 100 * MS);
    cr_assert_eq(exj_rate_room(tat, now + 100 * MS - 1, 10, 1000, 99), 0);
    cr_assert_eq(exj_rate_room(tat, now + 100 * MS, 10, 1000, 99), 1);
    cr_assert_eq(exj_rate_room(tat, now + 250 * MS, 10, 1000, 99), 2);
    cr_assert_eq(exj_rate_room(tat, now + 9999 * (int64_t)MS, 10, 1000, 99), 10);
}

Test(rate, a_debt_of_an_old_rate_is_at_most_one_period_of_the_new)
{
    int64_t now = 1000 * (int64_t)MS, tat = exj_rate_take(0, now, 1, EXJ_RATE_MS_MAX, 1);

    cr_assert_eq(exj_rate_settle(tat, now, EXJ_RATE_MS_MAX), tat);
    cr_assert_eq(exj_rate_settle(tat, now, 1000), now + 1000 * (int64_t)MS);
    cr_assert_eq(exj_rate_settle(0, now, 1000), 0);
}

Test(rate, the_extremes_do_not_overflow_or_stand_still)
{
    int64_t now = 4102444800000 * (int64_t)MS; /* the year 2100 */

    for (int i = 0; i < 4; i++) {
        uint32_t rate = i & 1 ? EXJ_RATE_MAX : 1;
        exj_msec ms = i & 2 ? EXJ_RATE_MS_MAX : 1;
        int64_t tat = 0;

        cr_assert_eq(exj_rate_room(tat, now, rate, ms, UINT32_MAX), rate);
        tat = exj_rate_take(tat, now, rate, ms, rate);
        cr_assert_eq(exj_rate_room(tat, now, rate, ms, UINT32_MAX), 0);
        cr_assert_gt(exj_rate_next(tat, rate, ms), now);
        cr_assert_leq(exj_rate_next(tat, rate, ms), now + ms * MS);
    }
}

/* A bucket of `rate` places that fills evenly, counted in units of 1/period of a place. The
 * periods are chosen so that a gap is a whole number of nanoseconds. */
struct bucket {
    __int128 units; /* of 1/(rate_ms * MS) of a start */
    int64_t at;
};

static uint32_t bucket_room(struct bucket *b, int64_t now, uint32_t rate, exj_msec rate_ms)
{
    __int128 whole = (__int128)rate_ms * MS, full = whole * rate;

    b->units += (__int128)(now - b->at) * rate;
    b->at = now;
    if (b->units > full)
        b->units = full;
    return (uint32_t)(b->units / whole);
}

Test(rate, agrees_with_a_bucket_at_random_times)
{
    static const struct {
        uint32_t rate;
        exj_msec ms;
    } rates[] = { { 1, 1 }, { 1, 1000 }, { 10, 1000 }, { 100, 1000 }, { 4, 86400000 },
                  { 1000, 1 }, { 1000000, 1000 }, { 5, 7 }, { 50, 60000 } };
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t n = given ? strtoull(given, NULL, 10) : exj_random_u64();

    fprintf(stderr, "rate: EXJ_TEST_SEED=%llu\n", (unsigned long long)n);
    state = n ? n : 1;
    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        uint32_t rate = rates[r].rate;
        exj_msec ms = rates[r].ms;
        int64_t now = 1700000000000 * (int64_t)MS, tat = 0, gap = ms * MS / rate;
        struct bucket b = { (__int128)ms * MS * rate, now };
        int64_t started = 0, from = now;

        cr_assert_eq(ms * MS % rate, 0);
        for (int i = 0; i < 20000; i++) {
            uint32_t most, want = 1 + chance(rate < 20 ? 2 * rate : 40), room;

            now += chance(3) ? (int64_t)chance(1000) * gap / 250 : chance(2) ? gap : 0;
            if (chance(500) == 0)
                now += 2 * ms * MS;
            most = bucket_room(&b, now, rate, ms);
            room = exj_rate_room(tat, now, rate, ms, want);
            cr_assert_eq(room, most < want ? most : want, "%u a %lld ms, turn %d: %u, not %u",
                         rate, (long long)ms, i, room, most < want ? most : want);
            if (!most) { /* the next one is told to the nanosecond */
                struct bucket later = b;
                int64_t next = exj_rate_next(tat, rate, ms);

                cr_assert_gt(next, now);
                cr_assert_eq(bucket_room(&later, next, rate, ms), 1);
                cr_assert_eq(exj_rate_room(tat, next - 1, rate, ms, 1), 0);
            }
            cr_assert_eq(exj_rate_settle(tat, now, ms), tat);
            room = room ? chance(room + 1) : 0;
            tat = exj_rate_take(tat, now, rate, ms, room);
            b.units -= (__int128)room * ms * MS;
            started += room;
        }
        cr_assert_leq(started, rate + (now - from) / gap + 1);
    }
}
