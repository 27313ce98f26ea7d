/* docs/rows.md says what core/job/state.c does: its tables are drawn here and compared.
 * EXJ_DOCS_ACCEPT=1 writes them into the page. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/str.h"
#include "core/job/journal.h"

#define PAGE EXJ_SOURCE_DIR "/docs/rows.md"

static exj_buf page;

static void read_page(void)
{
    FILE *f = fopen(PAGE, "re");
    char part[4096];
    size_t n;

    cr_assert_not_null(f, "%s", PAGE);
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        exj_buf_add(&page, part, n);
    fclose(f);
    cr_assert(exj_buf_add_char(&page, '\0'));
}

static void forget_page(void)
{
    exj_buf_release(&page);
}

TestSuite(rows_page, .init = read_page, .fini = forget_page);

static bool may(exj_status from, exj_event event, exj_status *ret)
{
    return exj_state_move(from, event, ret, NULL) == EXJ_OK;
}

/* Compare what stands between the marks with `wanted`, or write it there. */
static void hold(const char *mark, const exj_buf *wanted)
{
    char begin[40], end[40], *from, *to;
    FILE *f;

    snprintf(begin, sizeof(begin), "<!-- %s -->\n", mark);
    snprintf(end, sizeof(end), "<!-- /%s -->", mark);
    from = strstr(page.p, begin);
    cr_assert_not_null(from, "%s has no mark %s", PAGE, begin);
    from += strlen(begin);
    to = strstr(from, end);
    cr_assert_not_null(to, "%s has no mark %s", PAGE, end);
    if (!getenv("EXJ_DOCS_ACCEPT")) {
        cr_expect((size_t)(to - from) == wanted->n && memcmp(from, wanted->p, wanted->n) == 0,
                  "docs/rows.md (%s) is not what core/job/state.c does; EXJ_DOCS_ACCEPT=1 with "
                  "-j1 writes it:\n%.*s", mark, (int)wanted->n, wanted->p);
        return;
    }
    f = fopen(PAGE, "we");
    cr_assert_not_null(f);
    fwrite(page.p, 1, (size_t)(from - page.p), f);
    fwrite(wanted->p, 1, wanted->n, f);
    fputs(to, f);
    cr_assert_eq(fclose(f), 0);
}

Test(rows_page, has_each_move_of_the_table)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_add_text(&b, "| event | from | to | entry |\n|---|---|---|---|\n");
    for (int e = 0; e < EXJ_EV_COUNT; e++) {
        exj_status to = EXJ_QUEUED, found;
        exj_entry_kind entry;
        int n = 0;

        exj_buf_printf(&b, "| %s | ", exj_event_word((exj_event)e));
        for (int s = 0; s < EXJ_STATUS_COUNT; s++) {
            if (!may((exj_status)s, (exj_event)e, &found))
                continue;
            exj_buf_printf(&b, "%s%s", n++ ? ", " : "", exj_status_name((exj_status)s));
            cr_expect(n == 1 || found == to, "%s leads to two states",
                      exj_event_word((exj_event)e));
            to = found;
        }
        exj_buf_printf(&b, " | %s | ", exj_status_name(to));
        if (exj_entry_of((exj_event)e, &entry))
            exj_buf_printf(&b, "`%s` |\n", exj_entry_word(entry));
        else
            exj_buf_add_text(&b, "none |\n");
    }
    hold("moves", &b);
    exj_buf_release(&b);
}

/* spec 2.1: `completed`, dead `failed`, `canceled`, `dropped` are terminal. */
Test(rows_page, has_what_may_happen_in_each_state)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_add_text(&b, "| state | terminal | events |\n|---|---|---|\n");
    for (int s = 0; s < EXJ_STATUS_COUNT; s++) {
        bool terminal = exj_status_is_terminal((exj_status)s);
        exj_status to;
        int n = 0;

        exj_buf_printf(&b, "| %s | %s | ", exj_status_name((exj_status)s), terminal ? "yes" : "");
        for (int e = 0; e < EXJ_EV_COUNT; e++) {
            if (!may((exj_status)s, (exj_event)e, &to))
                continue;
            exj_buf_printf(&b, "%s%s", n++ ? ", " : "", exj_event_word((exj_event)e));
            cr_expect(!terminal || e == EXJ_EV_RETRY || e == EXJ_EV_RERUN,
                      "%s by itself leaves a terminal state", exj_event_word((exj_event)e));
        }
        exj_buf_add_text(&b, " |\n");
    }
    hold("states", &b);
    exj_buf_release(&b);
}

Test(rows_page, names_each_kind_of_entry)
{
    for (int k = 0; k < EXJ_ENTRY_COUNT; k++) {
        char word[64];

        snprintf(word, sizeof(word), "`%s`", exj_entry_word((exj_entry_kind)k));
        cr_expect(strstr(strstr(page.p, "| event | when |"), word), "%s", word);
    }
}
