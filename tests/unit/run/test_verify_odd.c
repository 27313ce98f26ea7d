/* Rows held against a journal of the test's own making: what a store in order never shows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/run/verify.h"

#define MANY 10000 /* what one read of the events gives */

static exj_row_view rows[4];
static size_t rows_len;
static exj_journal_entry entries[MANY + 10];
static size_t entries_len;
static exj_code page_rc, span_rc, events_rc, again_rc;
static size_t reads, shown; /* reads of events; rows that were told of */
static char said[EXJ_ERR_TEXT_BYTES];

static exj_code row_page(exj_store *s, const exj_row_filter *f, exj_row_visit visit, void *user,
                         exj_err *err)
{
    size_t n = 0;

    (void)s;
    if (page_rc)
        return exj_err_set(err, page_rc, "no rows");
    for (size_t i = 0; i < rows_len && n < f->limit; i++) {
        if (rows[i].seq <= f->after_seq)
            continue;
        n++;
        if (!visit(user, &rows[i]))
            break;
    }
    return EXJ_OK;
}

static exj_code events_span(exj_store *s, int64_t *ret_first, int64_t *ret_last, exj_err *err)
{
    (void)s;
    *ret_first = 1;
    *ret_last = entries_len ? entries[entries_len - 1].number : 0;
    return span_rc ? exj_err_set(err, span_rc, "no span") : EXJ_OK;
}

static exj_code events(exj_store *s, int64_t after, size_t limit, exj_event_visit visit,
                       void *user, exj_err *err)
{
    size_t n = 0;

    (void)s;
    reads++;
    if (events_rc)
        return exj_err_set(err, events_rc, "no events");
    for (size_t i = 0; i < entries_len && n < limit; i++) {
        exj_event_view v = { .entry = entries[i] };

        if (entries[i].number <= after)
            continue;
        n++;
        if (!visit(user, &v))
            break;
    }
    return EXJ_OK;
}

static exj_code journal(exj_store *s, int64_t seq, size_t limit, exj_event_visit visit, void *user,
                        exj_err *err)
{
    (void)s;
    (void)err;
    for (size_t i = 0; i < entries_len && i < limit; i++) {
        exj_event_view v = { .entry = entries[i] };

        if (entries[i].seq == seq && !visit(user, &v))
            break;
    }
    return EXJ_OK;
}

static exj_code row_by_seq(exj_store *s, int64_t seq, exj_row_visit visit, void *user,
                           exj_err *err)
{
    (void)s;
    if (again_rc)
        return exj_err_set(err, again_rc, "row %lld", (long long)seq);
    for (size_t i = 0; i < rows_len; i++)
        if (rows[i].seq == seq)
            visit(user, &rows[i]);
    return EXJ_OK;
}

static const exj_store_vtable table = { .name = "odd", .row_page = row_page, .events = events,
                                        .events_span = events_span, .journal = journal,
                                        .row_by_seq = row_by_seq };
static exj_store store = { .v = &table };

static void add(int64_t number, int64_t seq, exj_entry_kind kind, int64_t previous, int64_t token,
                uint32_t attempt)
{
    entries[entries_len++] = (exj_journal_entry){ .number = number, .seq = seq, .kind = kind,
                                                  .previous = previous, .token = token,
                                                  .attempt = attempt };
}

static void add_row(int64_t seq, exj_status status, uint32_t attempts, int64_t token, int64_t last)
{
    rows[rows_len++] = (exj_row_view){ .seq = seq, .status = status, .attempts = attempts,
                                       .token = token, .last_entry = last };
}

static bool see(void *user, const exj_row_view *r, const char *what)
{
    (void)r;
    shown++;
    snprintf(said, sizeof(said), "%s", what);
    return user == NULL; /* else it has seen enough */
}

static exj_verified verify(void *user, exj_code wanted)
{
    exj_verified v;
    exj_err err = { 0 };

    reads = shown = 0;
    said[0] = '\0';
    cr_assert_eq(exj_verify_rows(&store, 0, 10, see, user, &v, &err), wanted, "%s", err.text);
    return v;
}

Test(verify_odd, each_difference_has_words_of_its_own)
{
    static const struct {
        exj_status status;
        uint32_t attempts;
        int64_t token, last;
        const char *says; /* NULL: it agrees */
    } cases[] = {
        { EXJ_RUNNING, 1, 1, 2, NULL },
        { EXJ_RUNNING, 1, 1, 3, "its newest entry is 3, its journal ends with 2" },
        { EXJ_QUEUED, 1, 1, 2, "the row is queued, its journal says running" },
        { EXJ_WAITING, 1, 1, 2, "the row is queued, its journal says running" },
        { EXJ_PARKED, 1, 1, 2, "the row is queued, its journal says running" },
        { EXJ_RUNNING, 2, 1, 2, "the row has 2 attempts, its journal 1" },
        { EXJ_RUNNING, 1, 5, 2, "the row has token 5, its journal 1" },
    };

    add(1, 1, EXJ_ENTRY_QUEUED, 0, 0, 0);
    add(2, 1, EXJ_ENTRY_CLAIMED, 1, 1, 1);
    add(9, 1, EXJ_ENTRY_COMPLETED, 2, 1, 1); /* after the row was read: of no matter */
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_verified v;

        rows_len = 0;
        add_row(1, cases[i].status, cases[i].attempts, cases[i].token, cases[i].last);
        v = verify(NULL, EXJ_OK);
        cr_expect_eq(v.rows, 1);
        cr_expect_eq(v.different, cases[i].says != NULL);
        cr_expect_str_eq(said, cases[i].says ? cases[i].says : "");
    }
}

Test(verify_odd, an_entry_that_does_not_fit_is_named)
{
    exj_verified v;

    add(1, 1, EXJ_ENTRY_QUEUED, 0, 0, 0);
    add(2, 1, EXJ_ENTRY_COMPLETED, 1, 0, 0); /* nobody claimed it */
    add(3, 1, EXJ_ENTRY_CLAIMED, 2, 1, 1);   /* and what follows is not looked at */
    add_row(1, EXJ_COMPLETED, 0, 0, 3);
    v = verify(NULL, EXJ_OK);
    cr_expect_eq(v.different, 1);
    cr_expect(strstr(said, "completed: a row that is queued cannot succeed"), "%s", said);
    /* Mended since, as far as its own journal is read again: the first look stands. */
    entries[1].kind = EXJ_ENTRY_PROGRESS;
    entries[1].number = 2;
    entries[2].token = 7;
    v = verify(NULL, EXJ_OK);
    cr_expect_eq(v.different, 1);
}

Test(verify_odd, rows_without_their_first_entries_are_counted_and_not_judged)
{
    exj_verified v;

    add(4, 1, EXJ_ENTRY_QUEUED, 3, 0, 0);  /* not its first */
    add(5, 1, EXJ_ENTRY_CLAIMED, 4, 1, 1);
    add(6, 2, EXJ_ENTRY_CLAIMED, 0, 1, 1); /* its first, and it does not begin a life */
    add(7, 8, EXJ_ENTRY_QUEUED, 0, 0, 0);  /* of a row that nobody asked for */
    add_row(1, EXJ_RUNNING, 1, 1, 5);
    add_row(2, EXJ_RUNNING, 1, 1, 6);
    add_row(3, EXJ_QUEUED, 0, 0, 0); /* from before there was a journal */
    add_row(4, EXJ_QUEUED, 0, 0, 7); /* its entries are lost */
    v = verify(NULL, EXJ_OK);
    cr_expect_eq(v.rows, 4);
    cr_expect_eq(v.before, 3);
    cr_expect_eq(v.different, 1);
    cr_expect_str_eq(said, "its newest entry is 7, and its journal has none");
}

Test(verify_odd, no_rows_need_no_events)
{
    cr_expect_eq(verify(NULL, EXJ_OK).rows, 0);
    cr_expect_eq(reads, 0);
}

Test(verify_odd, a_row_that_begins_with_a_plan_is_whole)
{
    add(1, 1, EXJ_ENTRY_SCHEDULED, 0, 0, 0);
    add_row(1, EXJ_WAITING, 0, 0, 1);
    cr_expect_eq(verify(NULL, EXJ_OK).different, 0);
}

Test(verify_odd, a_row_that_is_gone_meanwhile_is_no_difference)
{
    add_row(1, EXJ_QUEUED, 0, 0, 7);
    again_rc = EXJ_NOT_FOUND;
    cr_expect_eq(verify(NULL, EXJ_OK).different, 0);
    again_rc = EXJ_IO;
    verify(NULL, EXJ_IO);
}

Test(verify_odd, who_has_seen_enough_is_told_no_more)
{
    exj_verified v;
    exj_err err = { 0 };

    add_row(1, EXJ_QUEUED, 0, 0, 7);
    add_row(2, EXJ_QUEUED, 0, 0, 8);
    v = verify(&v, EXJ_OK);
    cr_expect_eq(v.different, 2); /* counted they are */
    cr_expect_eq(shown, 1);
    cr_assert_eq(exj_verify_rows(&store, 0, 10, NULL, NULL, &v, &err), EXJ_OK);
    cr_expect_eq(v.different, 2);
}

Test(verify_odd, a_long_journal_is_read_in_pieces)
{
    exj_verified v;

    add(1, 1, EXJ_ENTRY_QUEUED, 0, 0, 0);
    for (int64_t n = 2; n <= MANY + 5; n++)
        add(n, 1, EXJ_ENTRY_PROGRESS, n - 1, 0, 0);
    add_row(1, EXJ_QUEUED, 0, 0, MANY + 5);
    v = verify(NULL, EXJ_OK);
    cr_expect_eq(v.different, 0, "%s", said);
    cr_expect_eq(reads, 2);
    entries_len = MANY; /* exactly one piece, and that was all */
    rows[0].last_entry = MANY;
    v = verify(NULL, EXJ_OK);
    cr_expect_eq(v.different, 0, "%s", said);
    cr_expect_eq(reads, 1);
}

Test(verify_odd, a_store_that_fails_is_told)
{
    add_row(1, EXJ_QUEUED, 0, 0, 7);
    page_rc = EXJ_IO;
    verify(NULL, EXJ_IO);
    page_rc = EXJ_OK;
    span_rc = EXJ_IO;
    verify(NULL, EXJ_IO);
    cr_expect_eq(reads, 0);
    span_rc = EXJ_OK;
    events_rc = EXJ_CORRUPT;
    verify(NULL, EXJ_CORRUPT);
    cr_expect_eq(reads, 1);
}
