/* What limits rows: unique keys, concurrency keys, rates, and a queue that is full. */
#include "durable.h"

static exj_code try_insert(struct fixture *f, int64_t p, const char *id, const char *unique,
                           exj_msec unique_ms, int64_t *ret_seq)
{
    exj_insert_item it = { .unique_key = exj_slice_of(unique), .unique_ms = unique_ms };

    *ret_seq = insert_with(f, p, id, &it, (exj_overflow_rule){ 0 });
    return it.verdict;
}

/* ---- unique keys --------------------------------------------------------------------------- */

/* spec 2.8: Rows carry `priority` (higher first; ties oldest first, then by id: deterministic),
 * `runAfter`, optional `uniqueKey` (unique among non-terminal rows of a graph, or for a
 * period), optional `concurrencyKey` with a per-key cap. */
CONTRACT(unique, one_row_of_a_graph_has_the_key_until_it_is_terminal)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "n", "r", "g"), other = pool(f, "m", "", "h");
    int64_t a, b;
    exj_claim c;

    expect_code(try_insert(f, p, "a", "u", 0, &a), EXJ_OK);
    expect_code(try_insert(f, p, "b", "u", 0, &b), EXJ_BUSY);
    expect_int(b, a); /* whose it is */
    expect_code(try_insert(f, q, "b", "u", 0, &b), EXJ_BUSY); /* of the graph, not of a pool */
    expect_code(try_insert(f, other, "b", "u", 0, &b), EXJ_OK);
    expect_code(try_insert(f, p, "c", "v", 0, &b), EXJ_OK);
    fixture_reopen(f);
    c = claim_one(f, p, "w", 1);
    expect_int(c.seq, a);
    expect_code(try_insert(f, q, "b", "u", 0, &b), EXJ_BUSY); /* running */
    expect_code(finish(f, &c, EXJ_EV_FAIL_RETRY, START, "x"), EXJ_OK);
    expect_code(try_insert(f, q, "b", "u", 0, &b), EXJ_BUSY); /* waiting */
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w", 2);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_code(try_insert(f, q, "b", "u", 0, &b), EXJ_BUSY);
    expect_code(signal_to(f, a, "go", "1", NULL, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 3);
    expect_code(block_on(f, &c, NULL), EXJ_OK);
    expect_code(try_insert(f, q, "b", "u", 0, &b), EXJ_BUSY); /* blocked is not terminal */
    expect_code(retry(f, a, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 4);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_code(try_insert(f, q, "b", "u", 0, &b), EXJ_OK);
    cr_assert(b > a);
    expect_code(cancel(f, b, NULL, NULL), EXJ_OK);
    expect_code(try_insert(f, q, "c", "u", 0, &b), EXJ_OK);
}

CONTRACT(unique, a_period_keeps_the_key_beyond_the_rows_end_and_no_longer)
{
    int64_t p = pool(f, "m", "", "g"), a, b;
    exj_claim c;

    expect_code(try_insert(f, p, "a", "u", 1000, &a), EXJ_OK);
    c = claim_one(f, p, "w", 1);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_code(try_insert(f, p, "b", "u", 1000, &b), EXJ_BUSY);
    expect_int(b, a);
    fixture_reopen(f);
    advance(f, 999);
    expect_code(try_insert(f, p, "b", "u", 1000, &b), EXJ_BUSY);
    advance(f, 1);
    expect_code(try_insert(f, p, "b", "u", 1000, &b), EXJ_OK);
    /* The row outlives its period: the key stays its own. */
    advance(f, 5000);
    expect_code(try_insert(f, p, "c", "u", 1000, &a), EXJ_BUSY);
    expect_int(a, b);
}

CONTRACT(unique, the_same_record_again_is_a_conflict_and_no_rival)
{
    int64_t p = pool(f, "m", "", "g"), a, b = 0;

    expect_code(try_insert(f, p, "a", "u", 0, &a), EXJ_OK);
    expect_code(try_insert(f, p, "a", "u", 0, &b), EXJ_CONFLICT);
    expect_int(b, a);
    expect_code(try_insert(f, p, "a", "other", 0, &b), EXJ_CONFLICT);
    expect_code(try_insert(f, p, "b", "other", 0, &b), EXJ_OK); /* and has taken no key */
}

CONTRACT(unique, two_of_a_key_in_one_operation_insert_one)
{
    exj_insert_item it[2] = { { .record_id = EXJ_SLICE_LITERAL("a"),
                                .input = EXJ_SLICE_LITERAL("{}"),
                                .unique_key = EXJ_SLICE_LITERAL("u") },
                              { .record_id = EXJ_SLICE_LITERAL("b"),
                                .input = EXJ_SLICE_LITERAL("{}"),
                                .unique_key = EXJ_SLICE_LITERAL("u") } };
    exj_op op = { .kind = EXJ_OP_INSERT };

    op.u.insert.pool = pool(f, "m", "", "g");
    op.u.insert.max_attempts = 1;
    op.u.insert.items = it;
    op.u.insert.len = 2;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.insert.ret_inserted, 1);
    expect_code(it[1].verdict, EXJ_BUSY);
    expect_int(it[1].seq, it[0].seq);
}

/* ---- concurrency keys ------------------------------------------------------------------------ */

static size_t claim_keyed(struct fixture *f, int64_t p, int64_t nonce, uint32_t want,
                          uint32_t cap, exj_claim *ret)
{
    exj_want w = { .pool = p, .want = want, .key_cap = cap };

    return claim_want(f, &w, nonce, ret);
}

CONTRACT(concurrency, so_many_rows_of_a_key_run_and_the_others_let_the_rest_pass)
{
    int64_t p = pool(f, "m", "", "g"), k[4], free;
    exj_claim c[8];
    char id[8];

    for (int i = 0; i < 4; i++) {
        snprintf(id, sizeof(id), "k%d", i);
        k[i] = insert_keyed(f, p, id, NULL, "k");
    }
    free = insert(f, p, "free");
    expect_int(claim_keyed(f, p, 1, 8, 2, c), 3);
    expect_int(c[0].seq, k[0]);
    expect_int(c[1].seq, k[1]);
    expect_int(c[2].seq, free);
    expect_int(count(f, p, EXJ_PARKED), 2);
    cr_assert_str_eq(exj_status_word(status_of(f, k[3])), "queued");
    expect_words(f, k[2], "queued"); /* no operator sees it */
    fixture_reopen(f);
    expect_int(claim_keyed(f, p, 2, 8, 2, c + 3), 0);
    expect_code(finish(f, &c[0], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(count(f, p, EXJ_PARKED), 1);
    expect_int(claim_keyed(f, p, 3, 8, 2, c + 3), 1);
    expect_int(c[3].seq, k[2]); /* the oldest first */
    expect_code(finish(f, &c[1], EXJ_EV_FAIL_RETRY, START + 5, "x"), EXJ_OK);
    expect_int(claim_keyed(f, p, 4, 8, 2, c + 4), 1);
    expect_int(c[4].seq, k[3]);
    advance(f, 10);
    expect_int(promote(f, NULL), 1);
    expect_int(claim_keyed(f, p, 5, 8, 2, c + 5), 0);
    expect_code(release(f, &c[3]), EXJ_OK);
    expect_int(claim_keyed(f, p, 6, 1, 2, c + 5), 1);
    expect_int(c[5].seq, k[1]);
}

CONTRACT(concurrency, parked_rows_come_by_priority_then_age)
{
    int64_t p = pool(f, "m", "", "g");
    exj_insert_item it = { .concurrency_key = EXJ_SLICE_LITERAL("k"), .has_priority = true };
    exj_claim c[4], one;
    int64_t low, high;

    insert_keyed(f, p, "first", NULL, "k");
    expect_int(claim_keyed(f, p, 1, 1, 1, c), 1);
    it.priority = -1;
    low = insert_with(f, p, "low", &it, (exj_overflow_rule){ 0 });
    it.priority = 5;
    high = insert_with(f, p, "high", &it, (exj_overflow_rule){ 0 });
    expect_int(claim_keyed(f, p, 2, 4, 1, c + 1), 0);
    expect_int(count(f, p, EXJ_PARKED), 2);
    expect_code(finish(f, &c[0], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, p, 3, 4, 1, &one), 1);
    expect_int(one.seq, high);
    expect_code(finish(f, &one, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, p, 4, 4, 1, &one), 1);
    expect_int(one.seq, low);
}

CONTRACT(concurrency, the_cap_may_change_while_rows_run_and_wait)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c[8];
    char id[8];

    for (int i = 0; i < 6; i++) {
        snprintf(id, sizeof(id), "k%d", i);
        insert_keyed(f, p, id, NULL, "k");
    }
    expect_int(claim_keyed(f, p, 1, 8, 3, c), 3);
    /* Smaller: nobody is taken away, nobody comes until there is room under the new cap. */
    expect_code(finish(f, &c[0], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, p, 2, 8, 1, c + 3), 0);
    expect_code(finish(f, &c[1], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, p, 3, 8, 1, c + 3), 0);
    expect_code(finish(f, &c[2], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, p, 4, 8, 1, c + 3), 1);
    expect_int(count(f, p, EXJ_QUEUED), 0);
    /* Larger: those who wait come at the next claim, although nobody ended. */
    expect_int(claim_keyed(f, p, 5, 8, 3, c + 4), 2);
    expect_int(count(f, p, EXJ_PARKED), 0);
}

CONTRACT(concurrency, the_place_of_a_row_that_goes_away_is_given_on)
{
    int64_t p = pool(f, "m", "", "g"), next, last;
    exj_claim c;

    insert_keyed(f, p, "a", NULL, "k");
    expect_int(claim_keyed(f, p, 1, 1, 1, &c), 1);
    next = insert_keyed(f, p, "b", NULL, "k");
    last = insert_keyed(f, p, "c", NULL, "k");
    insert_keyed(f, p, "d", NULL, "k");
    expect_int(claim_keyed(f, p, 2, 4, 1, &c), 0);
    expect_int(count(f, p, EXJ_PARKED), 3);
    c.seq = row(f, "m", "", "g", "a").v.seq;
    c.nonce = c.token = 1;
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(status_of(f, next), EXJ_QUEUED);
    expect_code(cancel(f, next, NULL, NULL), EXJ_OK); /* before anybody claims it */
    expect_int(claim_keyed(f, p, 3, 1, 1, &c), 1);
    expect_int(c.seq, last);
}

CONTRACT(concurrency, a_matrix_that_nobody_claims_from_keeps_no_other_waiting)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "paused", "", "g"), there;
    exj_claim c, none;

    insert_keyed(f, p, "a", NULL, "k");
    expect_int(claim_keyed(f, p, 1, 1, 1, &c), 1);
    there = insert_keyed(f, q, "b", NULL, "k");
    insert_keyed(f, p, "c", NULL, "k");
    expect_int(claim_keyed(f, p, 2, 4, 1, &none), 0);
    expect_int(claim_keyed(f, q, 3, 4, 1, &none), 0);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, p, 4, 4, 1, &c), 1);
    expect_int(claim_keyed(f, q, 5, 4, 1, &none), 0); /* too late: it is parked again */
    expect_int(status_of(f, there), EXJ_PARKED);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_keyed(f, q, 6, 4, 1, &none), 1);
}

CONTRACT(concurrency, each_way_out_of_running_frees_the_key)
{
    int64_t p = pool(f, "m", "", "g");
    exj_reaped r[2];
    exj_claim c;

    for (int i = 0; i < 8; i++) {
        char id[8];
        int64_t seq;

        snprintf(id, sizeof(id), "r%d", i);
        seq = insert_keyed(f, p, id, NULL, "k");
        expect_int(claim_keyed(f, p, 10 + i, 1, 1, &c), 1); /* it was free */
        expect_int(c.seq, seq);
        switch (i) {
        case 0:
            expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
            break;
        case 1:
            expect_code(finish(f, &c, EXJ_EV_BLOCK, 0, "x"), EXJ_OK);
            break;
        case 2:
            expect_code(suspend(f, &c, EXJ_WAIT_TIME, NULL, 0), EXJ_OK);
            break;
        case 3:
            expect_code(finish(f, &c, EXJ_EV_CANCEL, 0, "x"), EXJ_OK);
            break;
        case 4:
            advance(f, LEASE + 1);
            expect_int(reap(f, NULL, 0, r, 2), 1);
            expect_code(cancel(f, seq, NULL, NULL), EXJ_OK);
            break;
        case 5:
            expect_code(release(f, &c), EXJ_OK);
            expect_code(cancel(f, seq, NULL, NULL), EXJ_OK);
            break;
        case 6:
            expect_code(cancel(f, seq, NULL, NULL), EXJ_OK);
            expect_code(release(f, &c), EXJ_OK);
            break;
        default:
            expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
        }
        fixture_reopen(f);
    }
    expect_code(retry(f, c.seq, NULL), EXJ_REFUSED);
    expect_code(rerun(f, c.seq, NULL, NULL, NULL, NULL), EXJ_OK);
    insert_keyed(f, p, "last", NULL, "k"); /* the key came back with the row */
    expect_int(claim_keyed(f, p, 99, 2, 1, &c), 1);
}

/* ---- rates ------------------------------------------------------------------------------------ */

static size_t claim_rated(struct fixture *f, int64_t p, int64_t nonce, uint32_t want,
                          uint32_t rate, exj_msec rate_ms, exj_msec *ret_again)
{
    exj_want w = { .pool = p, .want = want, .rate = rate, .rate_ms = rate_ms };
    exj_claim c[64];
    size_t n = claim_want(f, &w, nonce, c);

    *ret_again = w.ret_again;
    return n;
}

/* spec 2.8: Graphs may carry a rate limit. */
CONTRACT(rate, a_graph_starts_so_many_a_period_over_all_its_pools)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "n", "", "g"), other = pool(f, "m", "", "h");
    exj_msec again;
    char id[8];

    for (int i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
        insert(f, q, id);
        insert(f, other, id);
    }
    expect_int(claim_rated(f, p, 1, 6, 10, 1000, &again), 6);
    expect_int(again, 0);
    expect_int(claim_rated(f, q, 2, 6, 10, 1000, &again), 4); /* a burst of ten is over */
    expect_int(again, START + 100);
    expect_int(claim_rated(f, p, 3, 6, 10, 1000, &again), 0);
    expect_int(again, START + 100);
    expect_int(claim_rated(f, other, 4, 6, 10, 1000, &again), 6);
    fixture_reopen(f);
    advance(f, 99);
    expect_int(claim_rated(f, p, 5, 6, 10, 1000, &again), 0);
    advance(f, 1);
    expect_int(claim_rated(f, p, 6, 6, 10, 1000, &again), 1);
    expect_int(again, START + 200);
    advance(f, 300);
    expect_int(claim_rated(f, p, 7, 6, 10, 1000, &again), 3);
    advance(f, 5000); /* a rest saves up one burst and no more */
    expect_int(claim_rated(f, p, 8, 20, 10, 1000, &again), 10);
}

CONTRACT(rate, nothing_is_used_up_where_no_row_was_and_nobody_is_told_to_wait)
{
    int64_t p = pool(f, "m", "", "g");
    exj_msec again;

    insert(f, p, "a");
    expect_int(claim_rated(f, p, 1, 20, 10, 1000, &again), 1);
    expect_int(again, 0); /* rows ended, not the rate */
    for (int i = 0; i < 9; i++) {
        char id[8];

        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
    }
    expect_int(claim_rated(f, p, 2, 20, 10, 1000, &again), 9);
    insert(f, p, "z");
    expect_int(claim_rated(f, p, 3, 20, 10, 1000, &again), 0);
    cr_assert(again > START);
}

CONTRACT(rate, a_rate_that_is_raised_counts_at_once)
{
    int64_t p = pool(f, "m", "", "g");
    exj_msec again;

    for (int i = 0; i < 20; i++) {
        char id[8];

        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
    }
    expect_int(claim_rated(f, p, 1, 5, 2, 86400000, &again), 2); /* two a day */
    cr_assert(again > START + 40000000);
    expect_int(claim_rated(f, p, 2, 5, 10, 1000, &again), 0);
    cr_assert(again <= START + 1000, "not before %" PRId64 " ms", again - START);
    advance(f, 1000);
    cr_assert(claim_rated(f, p, 3, 20, 10, 1000, &again) >= 9);
}

/* ---- a full queue ------------------------------------------------------------------------------ */

static exj_status try_overflow(struct fixture *f, int64_t p, const char *id,
                               exj_overflow_rule rule, exj_msec run_after)
{
    exj_insert_item it = { .run_after = run_after };
    int64_t seq = insert_with(f, p, id, &it, rule);

    expect_code(it.verdict, EXJ_OK);
    if (it.status != EXJ_DROPPED)
        expect_int(status_of(f, seq), it.status);
    return it.status;
}

CONTRACT(overflow, drop_records_the_new_row_as_dropped)
{
    exj_overflow_rule rule = { .on = true, .drop = true, .cap = 2 };
    int64_t p = pool(f, "m", "", "g"), seq;
    exj_claim c;
    struct seen s;

    expect_int(try_overflow(f, p, "a", rule, 0), EXJ_QUEUED);
    c = claim_one(f, p, "w", 1);
    expect_int(try_overflow(f, p, "b", rule, START + 50), EXJ_WAITING);
    expect_int(try_overflow(f, p, "c", rule, 0), EXJ_DROPPED);
    seq = row(f, "m", "", "g", "c").v.seq;
    s = look(f, seq);
    expect_int(s.v.status, EXJ_DROPPED);
    cr_assert_str_eq(s.code, "Dropped");
    expect_words(f, seq, "queued dropped");
    expect_int(count(f, p, EXJ_DROPPED), 1);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(try_overflow(f, p, "d", rule, 0), EXJ_QUEUED);
    expect_int(try_overflow(f, p, "e", rule, 0), EXJ_DROPPED);
    rule.cap = 9; /* in place */
    expect_int(try_overflow(f, p, "f", rule, 0), EXJ_QUEUED);
    expect_code(retry(f, seq, NULL), EXJ_OK); /* an operator's word goes over it */
}

CONTRACT(overflow, queue_lets_rows_wait_and_drops_the_oldest_beyond_its_length)
{
    exj_overflow_rule rule = { .on = true, .cap = 1, .max_queue = 2 };
    int64_t p = pool(f, "m", "", "g");
    static const char *const ids[] = { "a", "b", "c", "d", "e", "f" };

    expect_int(try_overflow(f, p, "a", rule, 0), EXJ_QUEUED);
    claim_one(f, p, "w", 1);
    for (int i = 1; i < 6; i++)
        expect_int(try_overflow(f, p, ids[i], rule, 0), EXJ_QUEUED);
    expect_int(count(f, p, EXJ_QUEUED), 2);
    expect_int(count(f, p, EXJ_DROPPED), 3);
    for (int i = 1; i < 6; i++)
        expect_int(row(f, "m", "", "g", ids[i]).v.status, i < 4 ? EXJ_DROPPED : EXJ_QUEUED);
    expect_words(f, row(f, "m", "", "g", "b").v.seq, "queued dropped");
    cr_assert(strstr(look(f, row(f, "m", "", "g", "b").v.seq).text, "maxQueue"));
}

CONTRACT(overflow, the_oldest_may_be_one_that_waits_for_its_time_or_its_key)
{
    exj_overflow_rule rule = { .on = true, .cap = 0, .max_queue = 2 };
    int64_t p = pool(f, "m", "", "g"), parked;
    exj_claim c;

    insert_keyed(f, p, "holder", NULL, "k");
    expect_int(claim_keyed(f, p, 1, 1, 1, &c), 1);
    parked = insert_keyed(f, p, "parked", NULL, "k");
    expect_int(claim_keyed(f, p, 2, 1, 1, &c), 0);
    expect_int(status_of(f, parked), EXJ_PARKED);
    expect_int(try_overflow(f, p, "later", rule, START + 999), EXJ_WAITING);
    expect_int(try_overflow(f, p, "new", rule, 0), EXJ_QUEUED);
    expect_int(status_of(f, parked), EXJ_DROPPED);
    expect_int(try_overflow(f, p, "newer", rule, 0), EXJ_QUEUED);
    expect_int(row(f, "m", "", "g", "later").v.status, EXJ_DROPPED);
    expect_int(row(f, "m", "", "g", "new").v.status, EXJ_QUEUED);
    expect_words(f, parked, "queued dropped");
}

CONTRACT(overflow, a_queue_of_none_drops_the_new_row_and_says_so)
{
    exj_overflow_rule rule = { .on = true, .cap = 1, .max_queue = 0 };
    int64_t p = pool(f, "m", "", "g");

    expect_int(try_overflow(f, p, "a", rule, 0), EXJ_QUEUED); /* it has a place to run */
    claim_one(f, p, "w", 1);
    expect_int(try_overflow(f, p, "b", rule, 0), EXJ_DROPPED);
    expect_int(row(f, "m", "", "g", "b").v.status, EXJ_DROPPED);
}
