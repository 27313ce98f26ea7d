/* Ended rows leave the store, their names stay, their journal is compacted, and they come back. */
#include "contract.h"

struct ended {
    exj_ended_view v[50];
    size_t len;
};

static bool keep_ended(void *user, const exj_ended_view *v)
{
    struct ended *e = user;

    e->v[e->len++] = *v;
    return e->len < 50;
}

static struct ended look(struct fixture *f, int64_t after, exj_msec created_before)
{
    struct ended e = { .len = 0 };

    expect_code(f->s->v->ended(f->s, after, created_before, 50, keep_ended, &e, NULL), EXJ_OK);
    return e;
}

static exj_code remove_it(struct fixture *f, int64_t seq, int64_t token, exj_msec finished_at)
{
    exj_removal it = { .seq = seq, .token = token, .finished_at = finished_at };
    exj_op op = { .kind = EXJ_OP_REMOVE };

    op.u.remove.items = &it;
    op.u.remove.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.remove.ret_removed, it.verdict == EXJ_OK);
    return it.verdict;
}

static void remove_all(struct fixture *f)
{
    struct ended e = look(f, 0, INT64_MAX);

    for (size_t i = 0; i < e.len; i++)
        expect_code(remove_it(f, e.v[i].seq, e.v[i].token, e.v[i].finished_at), EXJ_OK);
}

static size_t compact(struct fixture *f, size_t limit)
{
    int64_t after = 0;
    size_t dropped = 0;
    exj_op op;

    do {
        op = (exj_op){ .kind = EXJ_OP_COMPACT };
        op.u.compact.after = after;
        op.u.compact.limit = limit;
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        cr_assert(op.u.compact.ret_end || op.u.compact.ret_after > after);
        after = op.u.compact.ret_after;
        dropped += op.u.compact.ret_dropped;
    } while (!op.u.compact.ret_end);
    return dropped;
}

/* One row from its insert to its end. */
static exj_claim run(struct fixture *f, int64_t p, const char *id, exj_event end)
{
    static int64_t nonce = 1000;
    exj_claim c;

    cr_assert(insert(f, p, id));
    c = claim_one(f, p, "w", ++nonce);
    expect_code(step_put(f, &c, "one", "1"), EXJ_OK);
    expect_code(step_put(f, &c, "two", "2"), EXJ_OK);
    expect_code(finish(f, &c, end, 0, "\"done\""), EXJ_OK);
    return c;
}

static bool ignore_row(void *user, const exj_row_view *r)
{
    (void)user;
    (void)r;
    return true;
}

static bool count_steps(void *user, const exj_step_view *v)
{
    (void)v;
    ++*(int *)user;
    return true;
}

CONTRACT(retire, ended_rows_are_seen_by_seq_and_time_of_insert)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a = run(f, p, "a", EXJ_EV_SUCCEED), b;
    struct ended e;

    insert(f, p, "open");
    claim_one(f, p, "w", 7);
    advance(f, 1000);
    b = run(f, p, "b", EXJ_EV_FAIL_DEAD);
    e = look(f, 0, INT64_MAX);
    expect_int(e.len, 2);
    expect_int(e.v[0].seq, a.seq);
    expect_int(e.v[0].pool, p);
    expect_int(e.v[0].token, a.token);
    expect_int(e.v[0].status, EXJ_COMPLETED);
    expect_int(e.v[0].created_at, START);
    expect_int(e.v[0].finished_at, START);
    expect_int(e.v[1].seq, b.seq);
    expect_int(e.v[1].status, EXJ_FAILED);
    expect_int(e.v[1].finished_at, START + 1000);
    expect_int(look(f, a.seq, INT64_MAX).len, 1);
    expect_int(look(f, 0, START + 1000).len, 1);
    expect_code(f->s->v->ended(f->s, 0, 0, 0, keep_ended, &e, NULL), EXJ_INVALID);
}

CONTRACT(retire, a_removed_row_is_gone_with_all_that_hung_on_it)
{
    int64_t p = pool(f, "m", "", "g"), other;
    exj_claim a = run(f, p, "a", EXJ_EV_FAIL_DEAD);
    uint32_t failures = 9;
    int steps = 0;

    other = run(f, p, "b", EXJ_EV_SUCCEED).seq;
    expect_code(remove_it(f, a.seq, a.token, START), EXJ_OK);
    expect_code(f->s->v->row_by_seq(f->s, a.seq, ignore_row, NULL, NULL), EXJ_NOT_FOUND);
    expect_code(f->s->v->step_each(f->s, a.seq, count_steps, &steps, NULL), EXJ_OK);
    expect_int(steps, 0);
    expect_code(f->s->v->failure_count(f->s, a.seq, EXJ_SLICE_LITERAL("E_TEST"), &failures, NULL),
                EXJ_OK);
    expect_int(failures, 0);
    expect_int(count(f, p, EXJ_FAILED), 0);
    expect_int(count(f, p, EXJ_COMPLETED), 1);
    expect_code(f->s->v->row_by_seq(f->s, other, ignore_row, NULL, NULL), EXJ_OK);
    expect_code(remove_it(f, a.seq, a.token, START), EXJ_NOT_FOUND);
    fixture_reopen(f);
    expect_int(count(f, p, EXJ_FAILED), 0);
}

CONTRACT(retire, only_the_very_result_that_was_looked_at_is_removed)
{
    int64_t p = pool(f, "m", "", "g"), open;
    exj_claim a = run(f, p, "a", EXJ_EV_SUCCEED), blocked = run(f, p, "b", EXJ_EV_BLOCK);
    exj_code rc;

    open = insert(f, p, "open");
    expect_code(remove_it(f, a.seq, a.token + 1, START), EXJ_CONFLICT);
    expect_code(remove_it(f, a.seq, a.token, START + 1), EXJ_CONFLICT);
    expect_code(remove_it(f, blocked.seq, blocked.token, START), EXJ_CONFLICT);
    rc = remove_it(f, open, 0, 0); /* nothing of it has ended: that is no result */
    cr_assert(rc == EXJ_CONFLICT || rc == EXJ_NOT_FOUND, "%s", exj_code_name(rc));
    expect_int(count(f, p, EXJ_COMPLETED), 1);
    expect_int(count(f, p, EXJ_BLOCKED), 1);
    expect_int(count(f, p, EXJ_QUEUED), 1);
}

CONTRACT(retire, the_record_of_a_removed_row_does_not_run_again)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "m", "2", "g");
    exj_claim a = run(f, p, "a", EXJ_EV_SUCCEED);

    remove_all(f);
    for (int i = 0; i < 2; i++) {
        expect_int(insert(f, p, "a"), 0);
        expect_int(count(f, p, EXJ_QUEUED), 0);
        fixture_reopen(f);
    }
    cr_assert(insert(f, p, "b") > a.seq, "the number of a removed row is given again");
    cr_assert(insert(f, q, "a"), "another run is another row");
}

CONTRACT(retire, a_unique_key_is_free_when_its_row_is_gone)
{
    exj_insert_item it = { .record_id = EXJ_SLICE_LITERAL("a"), .input = EXJ_SLICE_LITERAL("1"),
                           .unique_key = EXJ_SLICE_LITERAL("key") };
    exj_op op = { .kind = EXJ_OP_INSERT };
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    op.u.insert.pool = p;
    op.u.insert.max_attempts = 1;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 1);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    remove_all(f);
    it.record_id = EXJ_SLICE_LITERAL("b");
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_code(it.verdict, EXJ_OK);
}

/* ---- the journal --------------------------------------------------------------------------- */

struct stream {
    int64_t numbers[400], seqs[400];
    exj_entry_kind kinds[400];
    exj_msec at[400];
    size_t len;
};

static bool keep_event(void *user, const exj_event_view *v)
{
    struct stream *s = user;

    s->numbers[s->len] = v->entry.number;
    s->seqs[s->len] = v->entry.seq;
    s->at[s->len] = v->entry.at;
    s->kinds[s->len++] = v->entry.kind;
    return s->len < 400;
}

static struct stream events(struct fixture *f)
{
    struct stream s = { .len = 0 };

    expect_code(f->s->v->events(f->s, 0, 400, keep_event, &s, NULL), EXJ_OK);
    return s;
}

/* What the store says of its span, and that it is true. */
static void span(struct fixture *f, int64_t first, int64_t last)
{
    int64_t from = -1, to = -1;
    struct stream s = { .len = 0 };

    expect_code(f->s->v->events_span(f->s, &from, &to, NULL), EXJ_OK);
    expect_int(from, first);
    expect_int(to, last);
    expect_code(f->s->v->events(f->s, first - 1, 400, keep_event, &s, NULL), EXJ_OK);
    expect_int(s.len, last - first + 1);
}

CONTRACT(retire, compacting_takes_entries_of_gone_rows_and_no_others)
{
    int64_t p = pool(f, "m", "", "g");
    struct stream before, after;
    exj_claim a, b;
    size_t k = 0, of_a = 0;

    a = run(f, p, "a", EXJ_EV_SUCCEED);
    b = run(f, p, "b", EXJ_EV_SUCCEED);
    before = events(f);
    expect_int(compact(f, 100), 0);
    span(f, before.numbers[0], before.numbers[before.len - 1]);
    expect_code(remove_it(f, a.seq, a.token, START), EXJ_OK);
    expect_int(events(f).len, before.len);
    for (size_t i = 0; i < before.len; i++)
        of_a += before.seqs[i] == a.seq;
    expect_int(compact(f, 1), of_a);
    expect_int(compact(f, 1), 0);
    after = events(f);
    expect_int(after.len, before.len - of_a);
    for (size_t i = 0; i < before.len; i++) {
        if (before.seqs[i] == a.seq)
            continue;
        expect_int(after.numbers[k], before.numbers[i]);
        expect_int(after.kinds[k], before.kinds[i]);
        expect_int(after.seqs[k++], b.seq);
    }
    span(f, after.numbers[0], before.numbers[before.len - 1]); /* one row after the other */
    /* The journal of who stayed is whole. */
    after.len = 0;
    expect_code(f->s->v->journal(f->s, b.seq, 100, keep_event, &after, NULL), EXJ_OK);
    expect_int(after.len, before.len - of_a);
}

CONTRACT(retire, numbers_of_entries_never_come_twice)
{
    int64_t p = pool(f, "m", "", "g"), last;
    struct stream s;

    run(f, p, "a", EXJ_EV_SUCCEED);
    s = events(f);
    last = s.numbers[s.len - 1];
    remove_all(f);
    compact(f, 100);
    expect_int(events(f).len, 0);
    span(f, last + 1, last);
    fixture_reopen(f);
    span(f, last + 1, last);
    insert(f, p, "b");
    s = events(f);
    expect_int(s.numbers[0], last + 1);
    /* An empty record that is no longer the newest goes as well. */
    run(f, p, "c", EXJ_EV_SUCCEED);
    expect_int(compact(f, 100), 0);
}

/* What a sink has not delivered yet may be told by nothing but the journal. */
CONTRACT(retire, compacting_leaves_what_a_sink_has_still_to_deliver)
{
    exj_op op = { .kind = EXJ_OP_SINK_SAVE };
    int64_t p = pool(f, "m", "", "g");
    struct stream before, after;
    size_t k = 0, half;

    run(f, p, "a", EXJ_EV_SUCCEED);
    run(f, p, "b", EXJ_EV_SUCCEED);
    before = events(f);
    half = before.len / 2;
    op.u.sink.name = EXJ_SLICE_LITERAL("slow");
    op.u.sink.position = before.numbers[half - 1];
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    op.u.sink.name = EXJ_SLICE_LITERAL("quick");
    op.u.sink.position = before.numbers[before.len - 1];
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    remove_all(f);
    compact(f, 100);
    after = events(f);
    while (k < after.len && after.numbers[k] < before.numbers[half])
        k++;
    expect_int(after.len - k, before.len - half);
    for (size_t i = half; i < before.len; i++) {
        expect_int(after.numbers[k], before.numbers[i]);
        expect_int(after.kinds[k++], before.kinds[i]);
    }
    op.u.sink.name = EXJ_SLICE_LITERAL("slow");
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    compact(f, 100);
    expect_int(events(f).len, 0);
}

/* ---- back from an archive ------------------------------------------------------------------- */

CONTRACT(retire, an_archived_row_comes_back_with_steps_failures_and_journal)
{
    exj_step_view steps[] = { { .key = EXJ_SLICE_LITERAL("one"), .body = EXJ_SLICE_LITERAL("1"),
                                .done = true, .token = 1, .number = 503, .attempt = 1, .at = 70 },
                              { .key = EXJ_SLICE_LITERAL("two"), .body = EXJ_SLICE_LITERAL("2"),
                                .done = true, .token = 1, .number = 504, .attempt = 1, .at = 80 } };
    exj_failure_view failure = { .token = 1, .attempt = 1, .at = 85,
                                 .code = EXJ_SLICE_LITERAL("E"),
                                 .text = EXJ_SLICE_LITERAL("why") };
    exj_journal_entry entries[] = {
        { .kind = EXJ_ENTRY_QUEUED, .number = 501, .at = 50 },
        { .kind = EXJ_ENTRY_CLAIMED, .number = 502, .at = 60, .token = 1, .attempt = 1 },
        { .kind = EXJ_ENTRY_STEP, .number = 503, .at = 70, .token = 1, .attempt = 1,
          .key = EXJ_SLICE_LITERAL("one") },
        { .kind = EXJ_ENTRY_STEP, .number = 504, .at = 70, .token = 1, .attempt = 1,
          .key = EXJ_SLICE_LITERAL("two") },
        { .kind = EXJ_ENTRY_FAILED, .number = 505, .at = 90, .token = 1, .attempt = 1,
          .key = EXJ_SLICE_LITERAL("E"), .text = EXJ_SLICE_LITERAL("why") },
    };
    exj_archived a = { .record_id = EXJ_SLICE_LITERAL("a"),
                       .input = EXJ_SLICE_LITERAL("{\"in\":1}"),
                       .error_code = EXJ_SLICE_LITERAL("E"),
                       .error_text = EXJ_SLICE_LITERAL("why"),
                       .snapshot = EXJ_SLICE_LITERAL("snap"),
                       .status = EXJ_FAILED, .priority = 5, .attempts = 1, .max_attempts = 3,
                       .token = 1, .created_at = 50, .finished_at = 90,
                       .steps = steps, .steps_len = 2, .failures = &failure, .failures_len = 1,
                       .entries = entries, .entries_len = 5 };
    int64_t p = pool(f, "m", "", "g"), seq;
    exj_journal_view view = { 0 };
    exj_op op = { .kind = EXJ_OP_RESTORE };
    struct stream s = { .len = 0 };
    uint32_t failures = 0;
    struct row r;

    run(f, p, "before", EXJ_EV_SUCCEED);
    op.u.restore.pool = p;
    op.u.restore.row = &a;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    seq = op.u.restore.ret_seq;
    cr_assert(seq > 0);
    r = row(f, "m", "", "g", "a");
    expect_int(r.v.seq, seq);
    expect_int(r.v.status, EXJ_FAILED);
    expect_int(r.v.priority, 5);
    expect_int(r.v.attempts, 1);
    expect_int(r.v.token, 1);
    expect_int(r.v.created_at, 50);
    expect_int(r.v.finished_at, 90);
    cr_assert_str_eq(r.input, "{\"in\":1}");
    cr_assert_str_eq(r.code, "E");
    cr_assert_str_eq(r.text, "why");
    expect_int(count(f, p, EXJ_FAILED), 1);
    expect_code(f->s->v->failure_count(f->s, seq, EXJ_SLICE_LITERAL("E"), &failures, NULL), EXJ_OK);
    expect_int(failures, 1);
    expect_code(f->s->v->journal(f->s, seq, 100, keep_event, &s, NULL), EXJ_OK);
    expect_int(s.len, 5);
    for (size_t i = 0; i < 5; i++) {
        exj_journal_entry e = entries[i];

        expect_int(s.kinds[i], e.kind);
        expect_int(s.at[i], e.at);
        e.number = s.numbers[i];
        e.previous = i ? s.numbers[i - 1] : 0;
        e.seq = seq;
        expect_code(exj_journal_apply(&view, &e, NULL), EXJ_OK);
    }
    expect_int(view.status, EXJ_FAILED);
    expect_int(view.last, r.v.last_entry);

    /* A second time, or over a row that is there: nothing. */
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.restore.ret_seq, 0);
    /* It is a row like any other: from its second step on, it can run again. */
    op = (exj_op){ .kind = EXJ_OP_RERUN };
    op.u.rerun.seq = seq;
    op.u.rerun.step = EXJ_SLICE_LITERAL("two");
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.rerun.ret_kept, 1);
    expect_int(op.u.rerun.ret_dropped, 1);
}

CONTRACT(retire, a_removed_row_that_comes_back_may_be_removed_again)
{
    int64_t p = pool(f, "m", "", "g");
    exj_archived a = { .record_id = EXJ_SLICE_LITERAL("a"), .input = EXJ_SLICE_LITERAL("1"),
                       .result = EXJ_SLICE_LITERAL("2"), .status = EXJ_COMPLETED,
                       .attempts = 1, .max_attempts = 3, .token = 1, .finished_at = START };
    exj_op op = { .kind = EXJ_OP_RESTORE };

    run(f, p, "a", EXJ_EV_SUCCEED);
    remove_all(f);
    op.u.restore.pool = p;
    op.u.restore.row = &a;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    cr_assert(op.u.restore.ret_seq > 0);
    expect_int(count(f, p, EXJ_COMPLETED), 1);
    expect_int(insert(f, p, "a"), 0);
    remove_all(f);
    expect_int(count(f, p, EXJ_COMPLETED), 0);
    expect_int(insert(f, p, "a"), 0);
    a.status = EXJ_QUEUED;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_INVALID);
    a.status = EXJ_COMPLETED;
    op.u.restore.pool = NO_POOL;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_NOT_FOUND);
}
