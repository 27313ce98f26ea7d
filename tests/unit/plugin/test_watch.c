/* Real directories, once with events only (it would poll in a minute) and once by polling
 * only. Each pattern is one that people and programs use to put a plugin into place. */
#include "core/plugin/watch.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "core/base/clock.h"
#include "tests/unit/plugin/folder.h"

#define QUIET 60
#define PATIENCE 10000 /* nothing takes so long unless it is never reported */

static struct folder dir;
static exj_watch *w;
static exj_file_changes got;

static void begin(void)
{
    dir = folder_make();
    cr_assert_eq(mkdir(in(&dir, "plugins"), 0755), 0);
    cr_assert_eq(mkdir(in(&dir, "away"), 0755), 0);
}

static void end(void)
{
    exj_file_changes_release(&got);
    exj_watch_free(w);
    folder_drop(&dir);
}

TestSuite(watch, .init = begin, .fini = end);

static const exj_watch_config by_event = { .quiet_ms = QUIET, .poll_ms = 60000 };
static const exj_watch_config by_poll = { .quiet_ms = QUIET, .poll_ms = 30, .poll_only = true };

static void watch(const exj_watch_config *c)
{
    const char *dirs[] = { in(&dir, "plugins"), NULL };
    exj_err err = { 0 };

    cr_assert_eq(exj_watch_new(dirs, c, &w, &err), EXJ_OK, "%s", err.text);
}

/* Clocks of file systems tick: what is written within one tick looks the same. */
static void next_tick(void)
{
    struct timespec from, now;

    clock_gettime(CLOCK_REALTIME_COARSE, &from);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec == from.tv_sec && now.tv_nsec == from.tv_nsec);
}

static void wait_for(exj_file_news news, const char *name)
{
    exj_err err = { 0 };

    exj_file_changes_release(&got);
    cr_assert_eq(exj_watch_wait(w, PATIENCE, &got, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(got.len, 1, "%zu changes", got.len);
    cr_assert_eq(got.items[0].news, news, "%s", exj_file_news_word(got.items[0].news));
    cr_assert_str_eq(got.items[0].path, in(&dir, name));
}

static void nothing_more(void)
{
    exj_file_changes more = { 0 };

    cr_assert_eq(exj_watch_wait(w, 3 * QUIET, &more, NULL), EXJ_OK);
    cr_assert_eq(more.len, 0, "%s %s", exj_file_news_word(more.items[0].news), more.items[0].path);
}

/* ---- the patterns: `before` is there when the watch begins, `act` happens after ---------- */

static void none(void)
{
}
static void old_file(void)
{
    put(in(&dir, "plugins/a.so"), "old");
    put(in(&dir, "away/a.so"), "new one");
}
static void elsewhere(void)
{
    put(in(&dir, "away/a.so"), "new one");
}
static void linked(void)
{
    put(in(&dir, "away/one.so"), "one");
    put(in(&dir, "away/two.so"), "the second");
    cr_assert_eq(symlink(in(&dir, "away/one.so"), in(&dir, "plugins/a.so")), 0);
}
static void config_map(void)
{
    shell("cd '%s/plugins' && mkdir ..1 ..2 && echo one > ..1/a.so && echo another > ..2/a.so && "
          "ln -s ..1 ..data && ln -s ..data/a.so a.so", dir.path);
}

static void cp(void)
{
    shell("cp '%s/away/a.so' '%s/plugins/a.so'", dir.path, dir.path);
}
static void mv(void)
{
    shell("mv '%s/away/a.so' '%s/plugins/a.so'", dir.path, dir.path);
}
static void tmp_rename(void)
{
    put(in(&dir, "plugins/.a.tmp"), "new one");
    cr_assert_eq(rename(in(&dir, "plugins/.a.tmp"), in(&dir, "plugins/a.so")), 0);
}
static void install(void)
{
    shell("install -m 644 '%s/away/a.so' '%s/plugins/a.so'", dir.path, dir.path);
}
static void lld(void)
{
    int fd = open(in(&dir, "plugins/a.so.tmp1234"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    cr_assert_eq(write(fd, "linked", 6), 6);
    cr_assert_eq(rename(in(&dir, "plugins/a.so.tmp1234"), in(&dir, "plugins/a.so")), 0);
    close(fd); /* the name is there before the writer has closed */
}
static void touch(void)
{
    shell("touch '%s/plugins/a.so'", dir.path);
}
static void ln_s(void)
{
    shell("ln -s '%s/away/a.so' '%s/plugins/a.so'", dir.path, dir.path);
}
static void ln_sfn(void)
{
    shell("ln -sfn '%s/away/two.so' '%s/plugins/a.so'", dir.path, dir.path);
}
static void rewrite_target(void)
{
    put(in(&dir, "away/one.so"), "one, written anew");
}
static void swap_data(void)
{
    shell("cd '%s/plugins' && ln -s ..2 ..data_tmp && mv -T ..data_tmp ..data", dir.path);
}
static void mmap_write(void)
{
    int fd = open(in(&dir, "plugins/a.so"), O_RDWR | O_CLOEXEC);
    char *p = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    cr_assert(p != MAP_FAILED);
    memcpy(p, "NEW", 3);
    cr_assert_eq(msync(p, 3, MS_SYNC), 0);
    munmap(p, 3);
    close(fd);
}
static void replace_dir(void)
{
    shell("cd '%s' && mkdir next && echo replaced > next/a.so && mv plugins past && "
          "mv next plugins", dir.path);
}
static void drop(void)
{
    cr_assert_eq(unlink(in(&dir, "plugins/a.so")), 0);
}
static void truncated(void)
{
    shell("truncate -s 1 '%s/plugins/a.so'", dir.path);
}

static void pattern(void (*before)(void), void (*act)(void), exj_file_news news)
{
    static const exj_watch_config *const how[] = { &by_event, &by_poll };

    for (int k = 0; k < 2; k++) {
        before();
        watch(how[k]);
        next_tick();
        act();
        wait_for(news, "plugins/a.so");
        nothing_more();
        if (news != EXJ_FILE_GONE) { /* it still sees: the watch was not lost on the way */
            next_tick();
            shell("rm -f '%s/plugins/a.so'", dir.path);
            wait_for(EXJ_FILE_GONE, "plugins/a.so");
        }
        end();
        w = NULL;
        begin();
    }
}

#define PATTERN(name, before, act, news)                                                    \
    Test(watch, name)                                                                       \
    {                                                                                       \
        pattern(before, act, news);                                                         \
    }

PATTERN(sees_cp, elsewhere, cp, EXJ_FILE_NEW)
PATTERN(sees_cp_over_a_file, old_file, cp, EXJ_FILE_CHANGED)
PATTERN(sees_mv, elsewhere, mv, EXJ_FILE_NEW)
PATTERN(sees_mv_over_a_file, old_file, mv, EXJ_FILE_CHANGED)
PATTERN(sees_a_rename_in_the_directory, none, tmp_rename, EXJ_FILE_NEW)
PATTERN(sees_install, old_file, install, EXJ_FILE_CHANGED)
PATTERN(sees_a_rename_before_the_close, none, lld, EXJ_FILE_NEW)
PATTERN(sees_touch, old_file, touch, EXJ_FILE_CHANGED)
PATTERN(sees_a_new_link, elsewhere, ln_s, EXJ_FILE_NEW)
PATTERN(sees_a_link_that_leads_elsewhere, linked, ln_sfn, EXJ_FILE_CHANGED)
PATTERN(sees_the_target_of_a_link_rewritten, linked, rewrite_target, EXJ_FILE_CHANGED)
PATTERN(sees_a_config_map_swapped, config_map, swap_data, EXJ_FILE_CHANGED)
PATTERN(sees_a_write_through_mmap, old_file, mmap_write, EXJ_FILE_CHANGED)
PATTERN(sees_the_directory_replaced, old_file, replace_dir, EXJ_FILE_CHANGED)
PATTERN(sees_a_file_deleted, old_file, drop, EXJ_FILE_GONE)
PATTERN(sees_a_file_truncated, old_file, truncated, EXJ_FILE_CHANGED)

/* ---- the rest ------------------------------------------------------------------------------ */

Test(watch, directory_may_come_later)
{
    cr_assert_eq(rmdir(in(&dir, "plugins")), 0);
    watch(&by_event);
    shell("mkdir '%s/plugins' && echo text > '%s/plugins/a.so'", dir.path, dir.path);
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
}

Test(watch, directory_whose_parents_come_later_is_found_by_polling)
{
    const char *dirs[] = { in(&dir, "not/yet/there"), NULL };
    exj_watch_config c = { .quiet_ms = QUIET, .poll_ms = 50 };

    cr_assert_eq(exj_watch_new(dirs, &c, &w, NULL), EXJ_OK);
    shell("mkdir -p '%s/not/yet/there' && echo text > '%s/not/yet/there/a.so'", dir.path, dir.path);
    wait_for(EXJ_FILE_NEW, "not/yet/there/a.so");
}

Test(watch, existing_files_are_known_unless_asked_for)
{
    exj_watch_config c = by_event;

    old_file();
    watch(&by_event);
    nothing_more();
    exj_watch_free(w);
    c.report_existing = true;
    watch(&c);
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
}

Test(watch, other_names_and_kinds_are_no_news)
{
    watch(&by_event);
    shell("cd '%s/plugins' && echo x > a.txt && echo x > .b.so && mkdir c.so && mkfifo d.so && "
          "ln -s nowhere e.so && ln -s f.so f.so && echo x > .so", dir.path);
    nothing_more();
}

Test(watch, copy_under_way_is_left_alone_and_reported_whole)
{
    int fd = open(in(&dir, "plugins/a.so"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    struct pollfd p;

    watch(&by_poll);
    for (int k = 0; k < 20; k++) { /* a piece every 20 ms, over 400 ms: longer than quiet */
        exj_file_changes some = { 0 };

        cr_assert_eq(write(fd, "piece", 5), 5);
        cr_assert_eq(exj_watch_wait(w, 20, &some, NULL), EXJ_OK);
        if (some.len) /* this machine stood still for so long that it looked finished */
            cr_skip_test("too slow a machine to tell");
    }
    close(fd);
    p = (struct pollfd){ exj_watch_fd(w), POLLIN, 0 };
    cr_assert_eq(poll(&p, 1, PATIENCE), 1);
    wait_for(EXJ_FILE_CHANGED, "plugins/a.so");
    cr_assert_eq(got.items[0].id.bytes, 100);
}

Test(watch, is_reported_within_400_ms_by_default)
{
    exj_nsec best = INT64_MAX;

    watch(NULL);
    for (int k = 0; k < 5 && best > 400000000; k++) { /* a busy machine gets more chances */
        exj_nsec from;

        next_tick();
        tmp_rename();
        from = exj_clock_mono_ns();
        exj_file_changes_release(&got);
        cr_assert_eq(exj_watch_wait(w, PATIENCE, &got, NULL), EXJ_OK);
        cr_assert_eq(got.len, 1);
        from = exj_clock_mono_ns() - from;
        cr_assert_geq(from, 190000000); /* and not before it was quiet */
        best = from < best ? from : best;
    }
    cr_assert_leq(best, 400000000, "%lld ns", (long long)best);
}

Test(watch, queue_that_ran_over_loses_nothing)
{
    exj_watch_stats st;

    watch(&by_event);
    for (int k = 0; k < 9000; k++) {
        char name[40];

        snprintf(name, sizeof name, "plugins/%d", k);
        put(in(&dir, name), "");
        unlink(in(&dir, name));
    }
    put(in(&dir, "plugins/a.so"), "text");
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
    exj_watch_get_stats(w, &st);
    if (st.overflows == 0)
        cr_skip_test("the queue of this machine holds %llu events",
                     (unsigned long long)st.events);
    cr_assert_leq(st.scans, 100); /* a storm is not a scan each */
}

static void *wake_it(void *user)
{
    exj_watch_wake(user);
    return NULL;
}

Test(watch, another_thread_wakes_it)
{
    pthread_t t;
    exj_nsec from = exj_clock_mono_ns();

    watch(&by_event);
    cr_assert_eq(pthread_create(&t, NULL, wake_it, w), 0);
    cr_assert_eq(exj_watch_wait(w, -1, &got, NULL), EXJ_OK);
    cr_assert_eq(got.len, 0);
    pthread_join(t, NULL);
    exj_watch_wake(w); /* before the wait counts too, once */
    cr_assert_eq(exj_watch_wait(w, -1, &got, NULL), EXJ_OK);
    cr_assert_lt(exj_clock_mono_ns() - from, (exj_nsec)PATIENCE * 1000000);
    nothing_more();
}

Test(watch, look_scans_without_an_event)
{
    exj_watch_config c = { .quiet_ms = 1, .poll_ms = 3600000, .poll_only = true };

    watch(&c);
    put(in(&dir, "plugins/a.so"), "text");
    exj_watch_look(w);
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
}

Test(watch, again_reports_a_file_anew)
{
    old_file();
    watch(&by_event);
    exj_watch_again(w, in(&dir, "plugins/a.so"));
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
    nothing_more();
}

Test(watch, fd_is_readable_when_there_is_something_to_do)
{
    struct pollfd p;

    watch(&by_event);
    p = (struct pollfd){ exj_watch_fd(w), POLLIN, 0 };
    cr_assert_eq(poll(&p, 1, 0), 0);
    put(in(&dir, "plugins/a.so"), "text");
    for (int k = 0; k < 100 && !got.len; k++) { /* events, then the timer of the quiet time */
        cr_assert_eq(poll(&p, 1, PATIENCE), 1);
        exj_file_changes_release(&got);
        cr_assert_eq(exj_watch_wait(w, 0, &got, NULL), EXJ_OK);
    }
    cr_assert_eq(got.len, 1);
    cr_assert_eq(poll(&p, 1, 0), 0);
}

Test(watch, same_directory_twice_and_a_slash_too_many_do_no_harm)
{
    char slashed[300];
    const char *dirs[] = { slashed, in(&dir, "away"), NULL };

    snprintf(slashed, sizeof slashed, "%s/plugins//", dir.path);
    cr_assert_eq(exj_watch_new(dirs, &by_event, &w, NULL), EXJ_OK);
    put(in(&dir, "plugins/a.so"), "text");
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
    put(in(&dir, "away/b.so"), "text");
    wait_for(EXJ_FILE_NEW, "away/b.so");
}

Test(watch, directory_inside_another_is_watched_with_it)
{
    const char *dirs[] = { in(&dir, "plugins"), in(&dir, "plugins/more"), NULL };

    cr_assert_eq(mkdir(in(&dir, "plugins/more"), 0755), 0);
    cr_assert_eq(exj_watch_new(dirs, &by_event, &w, NULL), EXJ_OK);
    put(in(&dir, "plugins/a.so"), "text");
    wait_for(EXJ_FILE_NEW, "plugins/a.so");
    shell("rm -r '%s/plugins/more' && mkdir '%s/plugins/more'", dir.path, dir.path);
    put(in(&dir, "plugins/more/b.so"), "text");
    wait_for(EXJ_FILE_NEW, "plugins/more/b.so");
}
