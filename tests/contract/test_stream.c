/* The event stream: every change of every row, once, in order, with its commit. */
#include "stream.h"

static void live(struct fixture *f, int64_t p)
{
    exj_claim c[20];
    exj_reaped r[20];
    char id[16];

    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
    }
    expect_int(claim(f, p, "w", 1, 20, c), 20);
    for (int i = 0; i < 20; i++) {
        expect_code(step_put(f, &c[i], "s", "1"), EXJ_OK);
        if (i % 5 == 0)
            expect_code(suspend(f, &c[i], EXJ_WAIT_SIGNAL, "go", START + 10), EXJ_OK);
        else if (i % 5 == 1)
            expect_code(finish(f, &c[i], EXJ_EV_FAIL_RETRY, START + 5, "x"), EXJ_OK);
        else if (i % 5 == 2)
            expect_code(progress(f, &c[i], 0.5, "half"), EXJ_OK);
        else if (i % 5 == 3)
            expect_code(finish(f, &c[i], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
        else
            expect_code(cancel(f, c[i].seq, NULL, NULL), EXJ_OK);
    }
    advance(f, LEASE + 1);
    promote(f, NULL);
    reap(f, NULL, 0, r, 20);
}

static bool stop_at_five(void *user, const exj_event_view *v)
{
    (void)v;
    return ++*(int *)user < 5;
}

/* spec 2.7: Every state change appends an event to the outbox in the same transaction as the
 * change.
 * spec 2.10: The event stream contains every state change once or more, in order per row, none
 * missing. */
CONTRACT(stream, numbers_have_no_gaps_and_rows_are_told_in_order)
{
    int64_t p = pool(f, "m", "", "g"), first, last;
    int n = 0;

    expect_code(f->s->v->events_span(f->s, &first, &last, NULL), EXJ_OK);
    expect_int(first, 1); /* there is none */
    expect_int(last, 0);
    live(f, p);
    expect_stream(f, 10000);
    expect_stream(f, 7);
    fixture_reopen(f);
    expect_stream(f, 1);
    insert(f, p, "one more");
    expect_stream(f, 10000); /* numbering goes on after a restart */
    expect_code(f->s->v->events(f->s, 0, 10000, stop_at_five, &n, NULL), EXJ_OK);
    expect_int(n, 5); /* a visitor may stop */
}

/* spec 2.3: Order is kept: the journal of a row reads as its history (`queued`, `claimed`,
 * `step`, `progress`, `suspended`, `resumed`, `lease_expired`, `crashed`, `completed` …). */
CONTRACT(stream, a_journal_reads_as_the_history_of_its_row)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert_as(f, p, "a", 0, 9, START + 5);
    exj_reaped r[1];
    exj_claim c;

    advance(f, 5);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w-7", 1);
    expect_code(release(f, &c), EXJ_OK);
    c = claim_one(f, p, "w-7", 2);
    expect_code(step_begin(f, &c, "s", NULL), EXJ_OK);
    expect_code(step_put(f, &c, "s", "1"), EXJ_OK);
    expect_code(progress(f, &c, 0.5, "half"), EXJ_OK);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, r, 1), 1);
    c = claim_one(f, p, "w-8", 3);
    expect_code(suspend(f, &c, EXJ_WAIT_TIME, NULL, START + 5 * LEASE), EXJ_OK);
    advance(f, 5 * LEASE);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w-8", 4);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_code(rerun(f, seq, NULL, NULL, NULL, NULL), EXJ_OK);
    expect_words(f, seq,
                 "scheduled claimed released claimed step_begun step progress lease_expired "
                 "claimed suspended step resumed claimed completed rerun");
    fixture_reopen(f);
    expect_stream(f, 3);
}

CONTRACT(stream, a_long_journal_shows_its_newest_entries)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a"), seen[2] = { 0, 0 };
    exj_claim c = claim_one(f, p, "w", 1);
    int most = (int)scaled(f, 300);

    for (int i = 0; i < most; i++)
        expect_code(progress(f, &c, (double)i / most, "on"), EXJ_OK);
    expect_code(f->s->v->journal(f->s, seq, 10, count_entry, seen, NULL), EXJ_OK);
    expect_int(seen[0], 10);
    expect_int(seen[1], look(f, seq).v.last_entry);
    expect_folds(f, seq);
    seen[0] = 0;
    expect_code(f->s->v->journal(f->s, NO_ROW, 10, count_entry, seen, NULL), EXJ_OK);
    expect_int(seen[0], 0);
}

CONTRACT(stream, long_texts_are_clipped_at_a_whole_character)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    char note[2001] = "x";
    exj_claim c = claim_one(f, p, "w", 1);

    for (int i = 1; i < 1999; i += 2)
        memcpy(note + i, "\xc3\xa9", 3);
    expect_code(progress(f, &c, 0.5, note), EXJ_OK);
    expect_int(strlen(newest(f, seq).text), 511);
    cr_assert(exj_utf8_is_valid(exj_slice_of(newest(f, seq).text)));
}

/* ---- who listens -------------------------------------------------------------------------- */

CONTRACT(stream, whoever_listens_hears_of_new_entries_and_of_nothing_else)
{
    int64_t p = pool(f, "m", "", "g"), seq, calls;
    struct news n = { .s = f->s, HEARD_NOTHING };
    exj_claim c;

    f->s->v->listen(f->s, hear, &n);
    seq = insert(f, p, "a");
    expect_heard(f, &n, look(f, seq).v.last_entry);
    expect_int(n.calls, 1); /* one commit */
    c = claim_one(f, p, "w", 1);
    expect_heard(f, &n, look(f, seq).v.last_entry);
    calls = n.calls;
    expect_code(renew(f, &c, LEASE), EXJ_OK); /* no entry: no news */
    expect_code(put(f, EXJ_DOC_GRAPH, "g", 0, "{}", NULL), EXJ_OK);
    expect_code(retry(f, seq, NULL), EXJ_REFUSED);
    expect_int(n.calls, calls);
    expect_code(progress(f, &c, 0.5, "half"), EXJ_OK);
    expect_heard(f, &n, look(f, seq).v.last_entry);
    calls = n.calls;
    f->s->v->listen(f->s, NULL, NULL);
    insert(f, p, "b");
    expect_int(n.calls, calls);
    expect_int(n.unread, 0);
}

CONTRACT_SHARED(stream, whoever_listens_hears_of_what_another_worker_did)
{
    struct news n = { .s = f->s, HEARD_NOTHING };
    exj_store *other, *mine = f->s;
    int64_t p, seq;

    other = fixture_second(f);
    f->s->v->listen(f->s, hear, &n);
    f->s = other;
    p = pool(f, "m", "", "g");
    seq = insert(f, p, "a");
    f->s = mine;
    expect_heard(f, &n, look(f, seq).v.last_entry);
    expect_stream(f, 100);
    f->s->v->listen(f->s, NULL, NULL);
    expect_int(n.unread, 0);
    other->v->close(other);
}
