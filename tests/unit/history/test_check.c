/* The checker against histories of tests/history: each under bad/ breaks the invariant of
 * its name and no other, each under good/ looks wrong at first sight and is right. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/history/check.h"

#define FILES EXJ_SOURCE_DIR "/tests/history/"

struct checked {
    exj_check *check;
    exj_check_report report;
};

static struct checked check_file(const char *path)
{
    struct checked k = { .check = exj_check_new(NULL) };
    char line[EXJ_HIST_LINE_MAX + 1], texts[EXJ_HIST_LINE_MAX];
    FILE *f = fopen(path, "r");
    exj_hist_event e;
    exj_err err = { 0 };

    cr_assert(f && k.check, "%s", path);
    while (fgets(line, sizeof line, f)) {
        exj_slice text = { line, strcspn(line, "\n") };

        cr_assert_eq(exj_hist_parse(text, &e, texts, &err), EXJ_OK, "%s: %s in %s", path,
                     err.text, line);
        cr_assert_eq(exj_check_add(k.check, &e, &err), EXJ_OK, "%s", err.text);
    }
    fclose(f);
    cr_assert_eq(exj_check_finish(k.check, &k.report, &err), EXJ_OK, "%s", err.text);
    return k;
}

static unsigned each_file(const char *folder,
                          void (*judge)(const char *name, const struct checked *k))
{
    char path[512];
    struct dirent *d;
    unsigned n = 0;
    DIR *dir;

    snprintf(path, sizeof path, FILES "%s", folder);
    dir = opendir(path);
    cr_assert(dir, "%s", path);
    while ((d = readdir(dir))) {
        struct checked k;

        if (d->d_name[0] != 'I')
            continue;
        snprintf(path, sizeof path, FILES "%s/%s", folder, d->d_name);
        k = check_file(path);
        judge(d->d_name, &k);
        exj_check_free(k.check);
        n++;
    }
    closedir(dir);
    return n;
}

static bool seen[EXJ_CHECK_LAST + 1];

/* Every name that a finding may have. */
static struct {
    const char *name;
    bool seen;
} anomalies[] = {
    { "lost", false },
    { "renamed", false },
    { "phantom", false },
    { "twin", false },
    { "stuck", false },
    { "resurrected", false },
    { "changed", false },
    { "double-accepted", false },
    { "ended twice", false },
    { "outcome of nobody", false },
    { "another's result", false },
    { "token gap", false },
    { "token reuse", false },
    { "token fell", false },
    { "two holders", false },
    { "stale write", false },
    { "late write", false },
    { "false refusal", false },
    { "done without work", false },
    { "gratuitous duplicate", false },
    { "poison loop", false },
    { "dead too early", false },
    { "attempt not counted", false },
    { "attempt counted", false },
    { "lost cancel", false },
    { "reorder", false },
    { "slow recovery", false },
    { "torn reload", false },
    { "silent loss", false },
    { "order", false },
    { "changed step", false },
    { "command twice", false },
    { "tick twice", false },
};
#define ANOMALIES (sizeof anomalies / sizeof anomalies[0])

static void note_anomaly(const char *name)
{
    for (size_t i = 0; i < ANOMALIES; i++)
        if (strcmp(anomalies[i].name, name) == 0) {
            anomalies[i].seen = true;
            return;
        }
    cr_expect(false, "the anomaly \"%s\" is not in this test's list", name);
}

static void judge_bad(const char *name, const struct checked *k)
{
    unsigned own = (unsigned)strtoul(name + 1, NULL, 10);

    cr_assert(own >= 1 && own <= EXJ_CHECK_LAST, "%s", name);
    seen[own] = true;
    for (size_t i = 0; i < k->report.findings_len; i++) {
        note_anomaly(k->report.findings[i].anomaly);
        cr_expect_eq(k->report.findings[i].invariant, own, "%s: I%u %s: %s", name,
                     k->report.findings[i].invariant, k->report.findings[i].anomaly,
                     k->report.findings[i].text);
    }
    cr_expect(k->report.lines[own].findings > 0, "%s raises nothing", name);
    cr_expect_eq(k->report.verdict, EXJ_CHECK_INVALID, "%s", name);
}

static void judge_good(const char *name, const struct checked *k)
{
    unsigned own = (unsigned)strtoul(name + 1, NULL, 10);

    cr_assert(own >= 1 && own <= EXJ_CHECK_LAST, "%s", name);
    seen[own] = true;
    for (size_t i = 0; i < k->report.findings_len; i++)
        cr_expect(false, "%s: I%u %s: %s", name, k->report.findings[i].invariant,
                  k->report.findings[i].anomaly, k->report.findings[i].text);
    cr_expect_neq(k->report.verdict, EXJ_CHECK_INVALID, "%s", name);
    cr_expect_null(k->report.lines[own].not_tested, "%s does not test I%u: %s", name, own,
                   k->report.lines[own].not_tested);
}

Test(check, names_the_invariant_that_is_broken_and_no_other)
{
    cr_assert(each_file("bad", judge_bad) >= EXJ_CHECK_LAST);
    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++)
        cr_expect(seen[i], "no bad history for I%u", i);
    for (size_t i = 0; i < ANOMALIES; i++)
        cr_expect(anomalies[i].seen, "no bad history with \"%s\"", anomalies[i].name);
}

Test(check, raises_nothing_where_it_only_looks_wrong)
{
    cr_assert(each_file("good", judge_good) >= EXJ_CHECK_LAST);
    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++)
        cr_expect(seen[i], "no good history for I%u", i);
}
