/* Every allocation of the watch, the lint and the shelf fails once: the call says so, nothing
 * changes, and nothing leaks (the sanitizer build looks for that). */
#include "tests/support/fault.h"

#include "core/base/sha256.h"
#include "core/plugin/lint.h"
#include "core/plugin/shelf.h"
#include "core/plugin/watch.h"
#include "tests/unit/plugin/folder.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NOW 1780000000000
#define MOST 300

static struct folder dir;

static void begin(void)
{
    dir = folder_make();
}

static void end(void)
{
    folder_drop(&dir);
}

TestSuite(short_memory, .init = begin, .fini = end);

/* Run `call` with the 1st, 2nd, ... allocation failing until it needs no more. `again` runs
 * after each failure, with memory. */
#define EACH_ALLOCATION(call, ...)                                                          \
    do {                                                                                    \
        long n_ = 1;                                                                        \
        for (;; n_++) {                                                                     \
            exj_err err = { 0 };                                                            \
            exj_code rc_;                                                                   \
                                                                                            \
            cr_assert_lt(n_, MOST);                                                         \
            exj_fault_arm(n_);                                                              \
            rc_ = call;                                                                     \
            if (exj_fault_disarm() < n_) {                                                  \
                cr_assert_eq(rc_, EXJ_OK, "%s", err.text);                                  \
                break;                                                                      \
            }                                                                               \
            cr_assert_eq(rc_, EXJ_NOMEM, "allocation %ld: %s", n_, exj_code_name(rc_));     \
            cr_assert_eq(err.code, EXJ_NOMEM);                                              \
            __VA_ARGS__;                                                                    \
        }                                                                                   \
        cr_assert_gt(n_, 1, "it needs no memory: nothing was tested");                      \
    } while (0)

Test(short_memory, notice_reports_later_what_it_could_not_report)
{
    exj_file_id id = { .ino = 1 };
    exj_file_changes got = { 0 };
    exj_notice *n = NULL;

    EACH_ALLOCATION(exj_notice_new(100, &n, &err));
    exj_notice_begin(n);
    EACH_ALLOCATION(exj_notice_see(n, "d/a.so", &id, 0, &err));
    for (int fail = 1; fail <= 2; fail++) { /* the list, then the path in it */
        exj_code rc;

        exj_notice_begin(n);
        cr_assert_eq(exj_notice_see(n, "d/a.so", &id, fail * 1000, NULL), EXJ_OK);
        exj_fault_arm(fail);
        rc = exj_notice_end(n, fail * 1000, &got, NULL);
        cr_assert_eq(exj_fault_disarm(), fail);
        cr_assert_eq(rc, EXJ_NOMEM);
        cr_assert_eq(got.len, 0);
        cr_assert_eq(exj_notice_due(n), fail * 1000 + 100); /* not at once */
        exj_file_changes_release(&got);
    }
    exj_notice_begin(n);
    exj_notice_see(n, "d/a.so", &id, 5000, NULL);
    cr_assert_eq(exj_notice_end(n, 5000, &got, NULL), EXJ_OK);
    cr_assert_eq(got.len, 1);
    exj_file_changes_release(&got);
    exj_notice_free(n);
}

Test(short_memory, watch_begins_whole_or_not_at_all)
{
    const char *dirs[] = { dir.path, "elsewhere", NULL };
    exj_watch *w = NULL;

    put(in(&dir, "a.so"), "text");
    EACH_ALLOCATION(exj_watch_new(dirs, NULL, &w, &err), cr_assert_null(w));
    exj_watch_free(w);
}

Test(short_memory, lint_says_so)
{
    exj_lint lint;

    put(in(&dir, "a.c"), "int f(void); int f(void) { return 1; }");
    shell("cc -shared -fPIC -o '%s/a.so' '%s/a.c'", dir.path, dir.path);
    for (long n = 1;; n++) { /* the text of a message is all that may be lost without a word */
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_lint_file(in(&dir, "a.so"), &lint, &err);
        if (exj_fault_disarm() < n)
            break;
        cr_assert(rc == EXJ_NOMEM || (rc == EXJ_OK && lint.findings_len > 0));
        cr_assert_lt(n, MOST);
    }
}

static exj_shelf *s;

static bool trusted(void)
{
    bool yes = true;

    cr_assert_eq(exj_shelf_trust_has(s, A, &yes, NULL), EXJ_OK);
    return yes;
}

static void shelf_calls(const char *folder)
{
    exj_shelf_crash crash = { .sha256 = A, .id = "p", .version = "1", .signal = "SIGSEGV",
                              .backtrace = "#0 f\n", .at = NOW };
    exj_shelf_event event = { .at = NOW, .id = "p", .event = EXJ_PE_LOADED };
    bool yes = false;
    char *why = NULL;
    json_t *list = NULL;

    EACH_ALLOCATION(exj_shelf_new(folder, NULL, &s, &err), cr_assert_null(s));
    EACH_ALLOCATION(exj_shelf_trust_add(s, A, "n", NOW, &err), cr_assert_not(trusted()));
    cr_assert(trusted());
    EACH_ALLOCATION(exj_shelf_trust_remove(s, A, &err), cr_assert(trusted()));
    for (int k = 0; k < 4; k++)
        cr_assert_eq(exj_shelf_crash_add(s, &crash, NULL, NULL), EXJ_OK);
    exj_fault_arm(1000000);
    cr_assert_eq(exj_shelf_crash_add(s, &crash, &yes, NULL), EXJ_OK);
    exj_fault_disarm();
    cr_assert(yes);
    exj_fault_arm(1); /* the answer stays the careful one */
    yes = false;
    exj_shelf_is_quarantined(s, A, &yes, &why, NULL);
    exj_fault_disarm();
    cr_assert(yes);
    free(why);
    cr_assert_eq(exj_shelf_history_add(s, &event, NULL), EXJ_OK);
    cr_assert_eq(exj_shelf_pin(s, "p", A, NOW, NULL), EXJ_OK);
    cr_assert_eq(exj_shelf_history(s, "p", 0, &list, NULL), EXJ_OK);
    cr_assert_eq(json_array_size(list), 1);
    json_decref(list);
    exj_shelf_free(s);
    s = NULL;
}

Test(short_memory, shelf_on_disk_keeps_what_it_has)
{
    shelf_calls(in(&dir, "plugins"));
}

Test(short_memory, shelf_in_memory_keeps_what_it_has)
{
    shelf_calls(NULL);
}

Test(short_memory, copy_is_made_whole_or_not_at_all)
{
    char sha[65];

    exj_sha256_hex("text", 4, sha);
    put(in(&dir, "a.so"), "text");
    cr_assert_eq(exj_shelf_new(in(&dir, "plugins"), NULL, &s, NULL), EXJ_OK);
    EACH_ALLOCATION(exj_shelf_keep(s, in(&dir, "a.so"), sha, "f", NOW, &err), {
        json_t *list = NULL;

        cr_assert_eq(exj_shelf_kept(s, &list, NULL), EXJ_OK);
        cr_assert_leq(json_array_size(list), 1);
        json_decref(list);
    });
    exj_shelf_free(s);
}
