/* The checker without memory: whichever allocation fails, it says so and can be freed. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/history/check.h"
#include "tests/support/fault.h"

static const char *const files[] = { "bad/I4-double-accepted", "bad/I12-reorder",
                                     "bad/I13-slow",           "bad/I14-torn",
                                     "bad/I15-stuck",          "bad/I16-silent-loss",
                                     "bad/I17-overwritten",    "bad/I18-command-twice",
                                     "good/I1-removed" };
#define FILES (sizeof files / sizeof files[0])

/* The report's verdict, or the code of what failed. */
static exj_code run(FILE *f, exj_check_verdict *ret)
{
    char line[EXJ_HIST_LINE_MAX + 1], texts[EXJ_HIST_LINE_MAX];
    exj_check *c = exj_check_new(NULL);
    exj_check_report report;
    exj_hist_event e;
    exj_code rc = c ? EXJ_OK : EXJ_NOMEM;

    while (rc == EXJ_OK && fgets(line, sizeof line, f)) {
        rc = exj_hist_parse((exj_slice){ line, strcspn(line, "\n") }, &e, texts, NULL);
        if (rc == EXJ_OK)
            rc = exj_check_add(c, &e, NULL);
    }
    if (rc == EXJ_OK)
        rc = exj_check_finish(c, &report, NULL);
    if (rc == EXJ_OK)
        *ret = report.verdict;
    exj_check_free(c);
    return rc;
}

Test(check_memory, each_allocation_may_fail)
{
    for (size_t i = 0; i < FILES; i++) {
        exj_check_verdict whole = EXJ_CHECK_UNKNOWN, v = EXJ_CHECK_UNKNOWN;
        exj_code rc = EXJ_NOMEM;
        char path[512];
        FILE *f;

        snprintf(path, sizeof path, EXJ_SOURCE_DIR "/tests/history/%s.jsonl", files[i]);
        f = fopen(path, "r");
        cr_assert(f, "%s", path);
        cr_assert_eq(run(f, &whole), EXJ_OK);
        for (long nth = 1; rc != EXJ_OK; nth++) {
            rewind(f);
            exj_fault_arm(nth);
            rc = run(f, &v);
            exj_fault_disarm();
            cr_assert(rc == EXJ_OK || rc == EXJ_NOMEM, "%s, allocation %ld: %s", files[i], nth,
                      exj_code_name(rc));
            cr_assert_lt(nth, 2000);
        }
        cr_expect_eq(v, whole, "%s", files[i]);
        fclose(f);
    }
}
