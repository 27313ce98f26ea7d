#include "core/store/mongo/clock.h"

#include <criterion/criterion.h>

#define MS ((exj_nsec)1000000)
#define SECOND (1000 * MS)
#define DAY ((exj_msec)86400000)

static exj_mongo_clock c;

Test(mongo_clock, knows_nothing_before_the_first_answer)
{
    cr_expect_eq(exj_mongo_clock_now(&c, 5 * SECOND), 0);
    cr_expect(exj_mongo_clock_is_due(&c, 5 * SECOND));
    cr_expect_eq(exj_mongo_clock_offset(&c, 5 * SECOND, 1), 0);
}

Test(mongo_clock, takes_the_middle_of_the_round_trip_and_goes_on)
{
    cr_expect(exj_mongo_clock_observe(&c, 100 * MS, 140 * MS, 1000000));
    cr_expect_eq(exj_mongo_clock_now(&c, 120 * MS), 1000000);
    cr_expect_eq(exj_mongo_clock_now(&c, 140 * MS), 1000020);
    cr_expect_eq(exj_mongo_clock_now(&c, 120 * MS + 7 * SECOND), 1007000);
}

Test(mongo_clock, our_own_wall_clock_plays_no_part)
{
    exj_msec server = 1700000000000;

    cr_expect(exj_mongo_clock_observe(&c, SECOND, SECOND, server));
    cr_expect_eq(exj_mongo_clock_now(&c, SECOND), server);
    cr_expect_eq(exj_mongo_clock_offset(&c, SECOND, server - DAY), DAY);
    cr_expect_eq(exj_mongo_clock_offset(&c, SECOND, server + DAY), -DAY);
}

Test(mongo_clock, the_server_is_asked_again_after_ten_seconds)
{
    exj_mongo_clock_observe(&c, SECOND, SECOND + MS, 5000);
    cr_expect_not(exj_mongo_clock_is_due(&c, SECOND + MS + 10 * SECOND - 1));
    cr_expect(exj_mongo_clock_is_due(&c, SECOND + MS + 10 * SECOND));
    exj_mongo_clock_observe(&c, 12 * SECOND, 15 * SECOND, 17500); /* slow: not used, but asked */
    cr_expect_not(exj_mongo_clock_is_due(&c, 20 * SECOND));
}

Test(mongo_clock, never_goes_back)
{
    exj_mongo_clock_observe(&c, 0, 0, 100000);
    cr_expect_eq(exj_mongo_clock_now(&c, 2 * SECOND), 102000);
    cr_expect(exj_mongo_clock_observe(&c, 3 * SECOND, 3 * SECOND, 98000)); /* 5 s behind */
    cr_expect_eq(exj_mongo_clock_now(&c, 3 * SECOND), 102000);
    cr_expect_eq(exj_mongo_clock_now(&c, 6 * SECOND), 102000);
    cr_expect_eq(exj_mongo_clock_now(&c, 8 * SECOND), 103000);
    cr_expect_eq(exj_mongo_clock_now(&c, 7 * SECOND), 103000); /* nor with an older mono */
}

Test(mongo_clock, jumps_forward_with_the_server)
{
    exj_mongo_clock_observe(&c, 0, 0, 100000);
    cr_expect(exj_mongo_clock_observe(&c, SECOND, SECOND, 100000 + DAY));
    cr_expect_eq(exj_mongo_clock_now(&c, SECOND), 100000 + DAY);
}

Test(mongo_clock, a_slow_answer_does_not_push_out_a_better_one)
{
    exj_mongo_clock_observe(&c, 0, MS, 100000);
    cr_expect_not(exj_mongo_clock_observe(&c, 10 * SECOND, 14 * SECOND, 110000));
    cr_expect_eq(exj_mongo_clock_now(&c, 14 * SECOND), 113999);
    /* A better one does. */
    cr_expect(exj_mongo_clock_observe(&c, 20 * SECOND, 20 * SECOND + MS, 120003));
    cr_expect_eq(exj_mongo_clock_now(&c, 21 * SECOND), 121002);
}

Test(mongo_clock, a_slow_answer_that_contradicts_is_believed)
{
    exj_mongo_clock_observe(&c, 0, MS, 100000);
    cr_expect(exj_mongo_clock_observe(&c, 10 * SECOND, 12 * SECOND, 500000));
    cr_expect_eq(exj_mongo_clock_now(&c, 11 * SECOND), 500000);
}

Test(mongo_clock, an_impossible_answer_is_not_used)
{
    cr_expect_not(exj_mongo_clock_observe(&c, 2, 1, 5));
    cr_expect_not(exj_mongo_clock_observe(&c, 1, 2, -1));
    cr_expect_not(exj_mongo_clock_observe(&c, 1, 2, INT64_MAX));
    cr_expect(exj_mongo_clock_is_due(&c, 3));
}

Test(mongo_clock, stays_within_half_a_trip_whatever_the_network_does)
{
    uint64_t seed = 0x9e3779b97f4a7c15u;
    exj_nsec mono = 0;
    exj_msec told = 0;

    for (int i = 0; i < 20000; i++) { /* server = 1e9 + mono, exactly */
        exj_nsec there, back;
        exj_msec now, truth;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        there = (exj_nsec)(seed >> 33) % (200 * MS);
        back = (exj_nsec)(seed >> 20) % (200 * MS);
        exj_mongo_clock_observe(&c, mono, mono + there + back,
                                1000000000 + (mono + there) / MS);
        mono += there + back + SECOND;
        now = exj_mongo_clock_now(&c, mono);
        truth = 1000000000 + mono / MS;
        cr_assert(now >= told && now - truth <= 202 && truth - now <= 202, "step %d: %ld", i,
                  (long)(now - truth));
        told = now;
    }
}
