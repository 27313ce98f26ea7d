/* What is reported and when: no disk, no clock. Times are in milliseconds here. */
#include "core/plugin/watch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

#define MS ((exj_nsec)1000000)
#define QUIET 200

static exj_notice *n;
static exj_file_changes got;

static void begin(void)
{
    cr_assert_eq(exj_notice_new(QUIET * MS, &n, NULL), EXJ_OK);
}

static void end(void)
{
    exj_file_changes_release(&got);
    exj_notice_free(n);
}

TestSuite(notice, .init = begin, .fini = end);

/* A look at `ms` that finds the file of that version; version 0: it is not there. */
static size_t look(unsigned ms, uint64_t version)
{
    exj_file_id id = { .dev = 1, .ino = version, .bytes = 100 };

    exj_file_changes_release(&got);
    exj_notice_begin(n);
    if (version)
        cr_assert_eq(exj_notice_see(n, "d/a.so", &id, ms * MS, NULL), EXJ_OK);
    cr_assert_eq(exj_notice_end(n, ms * MS, &got, NULL), EXJ_OK);
    return got.len;
}

static void reports(unsigned ms, uint64_t version, exj_file_news news)
{
    cr_assert_eq(look(ms, version), 1);
    cr_assert_eq(got.items[0].news, news, "%s", exj_file_news_word(got.items[0].news));
    cr_assert_str_eq(got.items[0].path, "d/a.so");
    cr_assert_eq(got.items[0].id.ino, version);
}

Test(notice, new_file_is_reported_once_after_the_quiet_time)
{
    cr_assert_eq(look(1000, 7), 0);
    cr_assert_eq(exj_notice_due(n), 1200 * MS);
    cr_assert_eq(look(1199, 7), 0);
    reports(1200, 7, EXJ_FILE_NEW);
    cr_assert_eq(got.items[0].noticed, 1000 * MS);
    cr_assert_eq(exj_notice_due(n), INT64_MAX);
    cr_assert_eq(look(5000, 7), 0);
}

Test(notice, file_that_goes_on_changing_is_left_alone)
{
    for (unsigned k = 0; k < 20; k++)
        cr_assert_eq(look(1000 + 150 * k, k + 1), 0);
    cr_assert_eq(look(4000, 20), 0);
    reports(4050, 20, EXJ_FILE_NEW);
    cr_assert_eq(got.items[0].noticed, 1000 * MS);
}

Test(notice, change_and_end_are_reported_as_such)
{
    look(0, 1);
    reports(200, 1, EXJ_FILE_NEW);
    look(300, 2);
    reports(500, 2, EXJ_FILE_CHANGED);
    look(600, 0);
    reports(800, 0, EXJ_FILE_GONE);
    cr_assert_eq(look(1200, 0), 0);
    look(1300, 3);
    reports(1500, 3, EXJ_FILE_NEW);
}

Test(notice, delete_and_create_is_one_change)
{
    look(0, 1);
    reports(200, 1, EXJ_FILE_NEW);
    cr_assert_eq(look(300, 0), 0);
    cr_assert_eq(look(310, 2), 0);
    cr_assert_eq(look(500, 2), 0);
    reports(510, 2, EXJ_FILE_CHANGED);
    cr_assert_eq(got.items[0].noticed, 300 * MS);
}

Test(notice, what_came_and_went_unreported_is_no_news)
{
    cr_assert_eq(look(0, 1), 0);
    cr_assert_eq(look(50, 0), 0);
    cr_assert_eq(look(250, 0), 0);
    cr_assert_eq(exj_notice_due(n), INT64_MAX);
}

Test(notice, what_came_back_as_it_was_is_no_news)
{
    look(0, 1);
    reports(200, 1, EXJ_FILE_NEW);
    cr_assert_eq(look(300, 0), 0);
    cr_assert_eq(look(350, 1), 0);
    cr_assert_eq(exj_notice_due(n), INT64_MAX);
    cr_assert_eq(look(900, 1), 0);
}

Test(notice, settled_files_are_known_and_forgotten_ones_are_new)
{
    look(0, 1);
    exj_notice_settle(n);
    cr_assert_eq(look(300, 1), 0);
    exj_notice_forget(n, "d/a.so", 400 * MS);
    exj_notice_forget(n, "d/other.so", 400 * MS);
    cr_assert_eq(look(599, 1), 0);
    reports(600, 1, EXJ_FILE_NEW);
}

Test(notice, forgotten_file_that_is_gone_is_no_news)
{
    look(0, 1);
    exj_notice_settle(n);
    exj_notice_forget(n, "d/a.so", 400 * MS);
    cr_assert_eq(look(500, 0), 0);
    cr_assert_eq(look(900, 0), 0);
    cr_assert_eq(exj_notice_due(n), INT64_MAX);
}

Test(notice, files_of_a_directory_that_cannot_be_read_stay)
{
    exj_file_id id = { .ino = 5 };

    exj_notice_begin(n);
    exj_notice_see(n, "d/a.so", &id, 0, NULL);
    exj_notice_see(n, "d/deep/b.so", &id, 0, NULL);
    exj_notice_see(n, "da/c.so", &id, 0, NULL);
    exj_notice_end(n, 0, &got, NULL);
    exj_notice_settle(n);
    for (unsigned ms = 100; ms <= 300; ms += 200) {
        exj_notice_begin(n);
        exj_notice_keep(n, "d");
        cr_assert_eq(exj_notice_end(n, ms * MS, &got, NULL), EXJ_OK);
    }
    cr_assert_eq(got.len, 2);
    cr_assert_str_eq(got.items[0].path, "d/deep/b.so");
    cr_assert_str_eq(got.items[1].path, "da/c.so");
}

Test(notice, every_member_of_the_identity_counts)
{
    exj_file_id id = { 1, 2, 3, 4, 5, 6 };

    for (int k = 0; k < 7; k++) {
        if (k == 1) id.dev++;
        if (k == 2) id.ino++;
        if (k == 3) id.bytes++;
        if (k == 4) id.mtime_ns++;
        if (k == 5) id.ctime_ns++;
        if (k == 6) id.real++;
        for (int j = 0; j < 2; j++) {
            exj_file_changes_release(&got);
            exj_notice_begin(n);
            exj_notice_see(n, "d/a.so", &id, (k * 1000 + j * QUIET) * MS, NULL);
            exj_notice_end(n, (k * 1000 + j * QUIET) * MS, &got, NULL);
            cr_assert_eq(got.len, (size_t)j, "member %d, look %d", k, j);
        }
    }
}

/* Any history of versions, looked at whenever something happens and when a look is due:
 * what is reported last is what is there, at most 2 * QUIET after the last change, and
 * never while it had not been quiet. */
Test(notice, reports_the_last_state_within_twice_the_quiet_time)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : exj_random_u64();

    fprintf(stderr, "reports_the_last_state: EXJ_TEST_SEED=%llu\n", (unsigned long long)seed);
    srand48((long)seed);
    for (int game = 0; game < 300; game++) {
        uint64_t version = 0, known = 0, next = 1;
        unsigned now = 0, changed = 0, reported_at, stop;

        end();
        begin();
        for (int k = 0; k < 12; k++) { /* changes */
            stop = now + (unsigned)(lrand48() % 500);
            version = lrand48() % 4 ? next++ : 0;
            while (now < stop) { /* looks until the next change happens */
                exj_nsec due = exj_notice_due(n);

                now = due < stop * MS ? (unsigned)(due / MS) : stop;
                if (now < stop && look(now, known) && known) /* each version is unique, 0 is not */
                    cr_assert_geq(now - changed, QUIET);
            }
            if (version == known) /* gone, and gone: nothing changes, and it may be due now */
                continue;
            changed = now;
            known = version;
            if (lrand48() % 2) /* an event was sent */
                cr_assert_eq(look(now, known), 0);
        }
        look(changed + 1, known);
        reported_at = changed + 1;
        while (exj_notice_due(n) != INT64_MAX) {
            reported_at = (unsigned)(exj_notice_due(n) / MS);
            if (look(reported_at, known))
                cr_assert_eq(got.items[0].id.ino, known);
        }
        cr_assert_leq(reported_at - changed, 2 * QUIET);
    }
}

Test(notice, many_files_keep_their_order_and_are_each_reported)
{
    char path[20];

    for (int j = 0; j < 2; j++) {
        exj_notice_begin(n);
        for (int k = 0; k < 500; k++) {
            exj_file_id id = { .ino = (uint64_t)k + 1 };

            snprintf(path, sizeof path, "d/%03d.so", k * 7 % 500);
            cr_assert_eq(exj_notice_see(n, path, &id, j * QUIET * MS, NULL), EXJ_OK);
        }
        cr_assert_eq(exj_notice_end(n, j * QUIET * MS, &got, NULL), EXJ_OK);
    }
    cr_assert_eq(got.len, 500);
    for (size_t k = 0; k < got.len; k++) {
        snprintf(path, sizeof path, "d/%03d.so", (int)k);
        cr_assert_str_eq(got.items[k].path, path);
    }
}

Test(notice, each_kind_of_news_has_a_word)
{
    cr_expect_str_eq(exj_file_news_word(EXJ_FILE_NEW), "new");
    cr_expect_str_eq(exj_file_news_word(EXJ_FILE_CHANGED), "changed");
    cr_expect_str_eq(exj_file_news_word(EXJ_FILE_GONE), "gone");
    cr_expect_str_eq(exj_file_news_word((exj_file_news)9), "?");
}

/* A directory that could not be read keeps its own files, and no others'. */
Test(notice, files_of_a_directory_that_cannot_be_read_are_kept)
{
    static const char *const paths[] = { "d/a.so", "d/sub/b.so", "dd/c.so", "e/f.so", "d" };
    exj_file_id id = { .dev = 1, .ino = 1, .bytes = 100 };

    for (int look_at = 0; look_at < 2; look_at++) {
        exj_notice_begin(n);
        for (size_t i = 0; i < 5; i++)
            cr_assert_eq(exj_notice_see(n, paths[i], &id, look_at * 1000 * MS, NULL), EXJ_OK);
        cr_assert_eq(exj_notice_end(n, look_at * 1000 * MS, &got, NULL), EXJ_OK);
    }
    cr_assert_eq(got.len, 5);
    exj_notice_begin(n);
    exj_notice_keep(n, "d");
    exj_file_changes_release(&got);
    cr_assert_eq(exj_notice_end(n, 2000 * MS, &got, NULL), EXJ_OK);
    exj_notice_begin(n);
    exj_notice_keep(n, "d");
    exj_file_changes_release(&got);
    cr_assert_eq(exj_notice_end(n, 3000 * MS, &got, NULL), EXJ_OK);
    cr_assert_eq(got.len, 3);
    for (size_t i = 0; i < 3; i++) {
        cr_expect_eq(got.items[i].news, EXJ_FILE_GONE);
        cr_expect(strcmp(got.items[i].path, "d/a.so") && strcmp(got.items[i].path, "d"));
    }
}

Test(notice, the_file_that_is_quiet_first_is_due_first)
{
    static const char *const paths[] = { "d/c.so", "d/a.so", "d/b.so" };
    static const unsigned at[] = { 20, 10, 30 };
    exj_file_id id = { .dev = 1, .ino = 1, .bytes = 100 };

    exj_notice_begin(n);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(exj_notice_see(n, paths[i], &id, at[i] * MS, NULL), EXJ_OK);
    cr_assert_eq(exj_notice_end(n, 40 * MS, &got, NULL), EXJ_OK);
    cr_expect_eq(exj_notice_due(n), 210 * MS);
    exj_notice_forget(n, "d/unknown.so", 50 * MS);
    cr_expect_eq(exj_notice_due(n), 210 * MS);
}
