/* A batch of the journal: made from rows' logs, read again, applied once. */
#include <criterion/criterion.h>

#include "core/store/mongo/batch.h"
#include "core/store/mongo/row.h"
#include "core/store/mongo/value.h"

#define NOW 1700000000000

static const exj_slice none = { NULL, 0 };

/* A row's document with what `tell` puts into its log. */
static bson_t *row_with(int64_t seq, int64_t pool, int64_t last, void (*tell)(exj_mrow *r))
{
    exj_mrow r = { .seq = seq, .pool = pool, .max_attempts = 3, .created_at = NOW,
                   .matrix = EXJ_SLICE_LITERAL("m"), .graph = EXJ_SLICE_LITERAL("g"),
                   .record_id = EXJ_SLICE_LITERAL("a") };
    bson_t *d = bson_new();

    tell(&r);
    exj_mrow_document(&r, d);
    BSON_APPEND_INT64(d, "last", last);
    exj_mrow_release(&r);
    return d;
}

static void comes_in_and_is_claimed(exj_mrow *r)
{
    exj_mrow_tell(r, EXJ_ENTRY_QUEUED, 11, none, none, NULL, NOW);
    r->token = r->attempts = 1;
    cr_assert_eq(exj_mrow_move(r, EXJ_EV_CLAIM, 3, none, none, NULL, NOW + 1, NULL), EXJ_OK);
}

static void is_promoted(exj_mrow *r)
{
    r->status = EXJ_WAITING;
    cr_assert_eq(exj_mrow_move(r, EXJ_EV_PROMOTE, 0, none, none, NULL, NOW, NULL), EXJ_OK);
}

static void has_steps(exj_mrow *r)
{
    bson_t body = BSON_INITIALIZER;

    r->token = r->attempts = 2;
    exj_mrow_tell(r, EXJ_ENTRY_STEP_BEGUN, 0, EXJ_SLICE_LITERAL("one"), none, NULL, NOW);
    BSON_APPEND_UTF8(&body, "step", "{}");
    exj_mrow_tell(r, EXJ_ENTRY_STEP, 2, EXJ_SLICE_LITERAL("one"), none, &body, NOW);
    exj_mrow_tell(r, EXJ_ENTRY_PROGRESS, 500000, none, EXJ_SLICE_LITERAL("half"), NULL, NOW);
    bson_destroy(&body);
}

struct made {
    bson_t *rows[3], batch;
    size_t in;
    int64_t end;
};

static void make(struct made *m)
{
    exj_err err = { 0 };

    m->rows[0] = row_with(5, 1, 0, comes_in_and_is_claimed);
    m->rows[1] = row_with(6, 1, 40, is_promoted);
    m->rows[2] = row_with(7, 2, 41, has_steps);
    bson_init(&m->batch);
    cr_assert_eq(exj_mbatch_make((const bson_t *const *)m->rows, 3, 12, 100, NOW, &m->batch, &m->in,
                                 &m->end, &err), EXJ_OK, "%s", err.text);
}

static void drop(struct made *m)
{
    for (int i = 0; i < 3; i++)
        bson_destroy(m->rows[i]);
    bson_destroy(&m->batch);
}

Test(mongo_batch, entries_get_numbers_in_order_and_know_the_one_before)
{
    static const struct {
        exj_entry_kind kind;
        int64_t seq, number, previous;
    } want[] = { { EXJ_ENTRY_QUEUED, 5, 100, 0 },     { EXJ_ENTRY_CLAIMED, 5, 101, 100 },
                 { EXJ_ENTRY_STEP_BEGUN, 7, 102, 41 }, { EXJ_ENTRY_STEP, 7, 103, 102 },
                 { EXJ_ENTRY_PROGRESS, 7, 104, 103 } };
    exj_journal_entry e;
    exj_mbatch_iter it;
    struct made m;
    size_t n = 0;

    make(&m);
    cr_expect_eq(m.in, 3);
    cr_expect_eq(m.end, 105);
    cr_expect_eq(exj_bson_i64(&m.batch, "_id", 0), 12);
    cr_assert(exj_mbatch_iter_init(&it, &m.batch));
    for (; exj_mbatch_iter_next(&it, &e); n++) {
        cr_assert(n < sizeof(want) / sizeof(*want));
        cr_expect(e.kind == want[n].kind && e.seq == want[n].seq && e.number == want[n].number &&
                      e.previous == want[n].previous,
                  "entry %zu: kind %d, row %d, number %d, previous %d", n, (int)e.kind,
                  (int)e.seq, (int)e.number, (int)e.previous);
    }
    cr_expect_eq(n, 5);
    cr_expect(!it.corrupt);
    cr_expect_eq(exj_bson_i64(&m.batch, "rows.0.last", 0), 101);
    cr_expect_eq(exj_bson_i64(&m.batch, "rows.1.last", 0), 40, "nothing new is to be seen of it");
    cr_expect_eq(exj_bson_i64(&m.batch, "rows.2.last", 0), 104);
    drop(&m);
}

Test(mongo_batch, moves_are_counted_by_pool_also_those_that_nobody_sees)
{
    struct made m;

    make(&m);
    cr_expect_eq(exj_bson_i64(&m.batch, "c.0.p", 0), 1);
    cr_expect_eq(exj_bson_i64(&m.batch, "c.0.d.0", 9), 0, "one came, one went");
    cr_expect_eq(exj_bson_i64(&m.batch, "c.0.d.1", 0), -1);
    cr_expect_eq(exj_bson_i64(&m.batch, "c.0.d.2", 0), 1);
    cr_expect(!exj_bson_has(&m.batch, "c.1"), "nothing moved in pool 2");
    drop(&m);
}

struct seen {
    int n;
    exj_mkept last;
};

static bool see(void *user, const exj_mkept *k)
{
    struct seen *s = user;

    s->n++;
    s->last = *k;
    cr_expect(exj_slice_is(exj_bson_text(&k->body, "step"), "{}"));
    return true;
}

Test(mongo_batch, what_is_to_be_kept_is_found_again_with_its_number)
{
    struct seen s = { 0 };
    struct made m;

    make(&m);
    for (int i = 0; i < 3; i++)
        exj_mbatch_kept(&m.batch, m.rows[i], see, &s);
    cr_expect_eq(s.n, 1);
    cr_expect_eq(s.last.seq, 7);
    cr_expect_eq(s.last.number, 103);
    cr_expect(exj_slice_is(s.last.entry.key, "one"));
    drop(&m);
}

/* Its author died after the row had gone on: the newer entries are of the next batch. */
Test(mongo_batch, entries_that_came_later_are_not_of_it)
{
    struct seen s = { 0 };
    bson_t *later;
    struct made m;

    make(&m);
    later = row_with(7, 2, 41, has_steps);
    exj_mbatch_kept(&m.batch, later, see, &s);
    cr_expect_eq(s.n, 0);
    bson_destroy(later);
    drop(&m);
}

Test(mongo_batch, a_batch_is_bounded_and_takes_whole_rows)
{
    static bson_t *rows[EXJ_MBATCH_ROWS + 5];
    bson_t batch = BSON_INITIALIZER;
    exj_err err = { 0 };
    int64_t end = 0;
    size_t in = 0;

    for (size_t i = 0; i < EXJ_MBATCH_ROWS + 5; i++)
        rows[i] = row_with((int64_t)i + 1, 1, 0, comes_in_and_is_claimed);
    cr_assert_eq(exj_mbatch_make((const bson_t *const *)rows, EXJ_MBATCH_ROWS + 5, 1, 1, NOW,
                                 &batch, &in, &end, &err), EXJ_OK);
    cr_expect_eq(in, EXJ_MBATCH_ROWS);
    cr_expect_eq(end, 1 + 2 * (int64_t)EXJ_MBATCH_ROWS);
    for (size_t i = 0; i < EXJ_MBATCH_ROWS + 5; i++)
        bson_destroy(rows[i]);
    bson_destroy(&batch);
}

Test(mongo_batch, a_log_that_is_none_is_refused)
{
    static const char *const bad[] = {
        "{\"seq\": 3, \"pool\": 1}",
        "{\"seq\": 3, \"pool\": 1, \"log\": 5}",
        "{\"seq\": 3, \"pool\": 1, \"log\": [5]}",
        "{\"seq\": 3, \"pool\": 1, \"log\": [{\"k\": 1}]}",
        ("{\"seq\": 3, \"pool\": 1, \"log\": [{\"id\": {\"$oid\": \"0123456789abcdef01234567\"},"
         " \"k\": 99}]}"),
        "{\"seq\": 3, \"pool\": 0, \"log\": []}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        bson_t *d = bson_new_from_json((const uint8_t *)bad[i], -1, NULL), batch = BSON_INITIALIZER;
        exj_err err = { 0 };
        int64_t end;
        size_t in;

        cr_assert_not_null(d);
        cr_expect_eq(exj_mbatch_make((const bson_t *const *)&d, 1, 1, 1, NOW, &batch, &in, &end,
                                     &err), EXJ_CORRUPT, "%s", bad[i]);
        cr_expect(strstr(err.text, "row 3"), "%s", err.text);
        bson_destroy(d);
        bson_destroy(&batch);
    }
}

Test(mongo_batch, a_damaged_batch_is_told)
{
    static const char *const bad[] = { "{\"_id\": 1, \"first\": 0, \"e\": []}",
                                       "{\"_id\": 1, \"first\": 1}",
                                       "{\"_id\": 1, \"first\": 1, \"e\": [5]}",
                                       "{\"_id\": 1, \"first\": 1, \"e\": [{\"k\": 99}]}" };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        bson_t *d = bson_new_from_json((const uint8_t *)bad[i], -1, NULL);
        exj_journal_entry e;
        exj_mbatch_iter it;

        cr_assert_not_null(d);
        if (exj_mbatch_iter_init(&it, d))
            cr_expect(!exj_mbatch_iter_next(&it, &e));
        cr_expect(it.corrupt, "%s", bad[i]);
        bson_destroy(d);
    }
}
