/* The life of a row: in, claimed, ended, waiting, retried. */
#include "contract.h"

CONTRACT(rows, insert_is_idempotent_by_record_id)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "m", "r1", "g");

    cr_assert(p != q);
    expect_int(pool(f, "m", "", "g"), p);
    cr_assert(insert(f, p, "a") > 0);
    expect_int(insert(f, p, "a"), 0);
    cr_assert(insert(f, q, "a") > 0);
    expect_int(count(f, p, EXJ_QUEUED), 1);
    expect_int(count(f, q, EXJ_QUEUED), 1);
    cr_assert_str_eq(row(f, "m", "", "g", "a").input, "{\"id\":\"a\"}");
}

CONTRACT(rows, insert_twice_in_one_op_inserts_once)
{
    exj_insert_item it[3] = { { .record_id = EXJ_SLICE_LITERAL("a"),
                                .input = EXJ_SLICE_LITERAL("{}") },
                              { .record_id = EXJ_SLICE_LITERAL("a"),
                                .input = EXJ_SLICE_LITERAL("{\"other\":1}") },
                              { .record_id = EXJ_SLICE_LITERAL("b"),
                                .input = EXJ_SLICE_LITERAL("{}") } };
    exj_op op = { .kind = EXJ_OP_INSERT };

    op.u.insert.pool = pool(f, "m", "", "g");
    op.u.insert.max_attempts = 3;
    op.u.insert.items = it;
    op.u.insert.len = 3;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.insert.ret_inserted, 2);
    expect_code(it[0].verdict, EXJ_OK);
    expect_code(it[1].verdict, EXJ_CONFLICT);
    expect_code(it[2].verdict, EXJ_OK);
    cr_assert_str_eq(row(f, "m", "", "g", "a").input, "{}");
}

CONTRACT(rows, insert_into_no_pool_is_not_found)
{
    exj_insert_item it = { .record_id = EXJ_SLICE_LITERAL("a"),
                           .input = EXJ_SLICE_LITERAL("{}") };
    exj_op op = { .kind = EXJ_OP_INSERT };

    op.u.insert.pool = NO_POOL;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_NOT_FOUND);
}

/* spec 2.8: Rows carry `priority` (higher first; ties oldest first, then by id:
 * deterministic), `runAfter`, optional `uniqueKey` (unique among non-terminal rows of a
 * graph, or for a period), optional `concurrencyKey` with a per-key cap. */
CONTRACT(rows, claims_go_by_priority_then_age)
{
    int64_t p = pool(f, "m", "", "g");
    int64_t low1 = insert_as(f, p, "l1", -5, 3, 0), mid1 = insert_as(f, p, "m1", 0, 3, 0);
    int64_t high1 = insert_as(f, p, "h1", 7, 3, 0), low2 = insert_as(f, p, "l2", -5, 3, 0);
    int64_t high2 = insert_as(f, p, "h2", 7, 3, 0);
    int64_t wanted[] = { high1, high2, mid1, low1, low2 };
    exj_claim c[8];

    expect_int(claim(f, p, "w", 1, 2, c), 2);
    expect_int(claim(f, p, "w", 2, 6, c + 2), 3);
    for (int i = 0; i < 5; i++) {
        expect_int(c[i].seq, wanted[i]);
        expect_int(c[i].token, 1);
        expect_int(c[i].attempt, 1);
        expect_int(c[i].max_attempts, 3);
        expect_int(c[i].pool, p);
    }
    expect_int(claim(f, p, "w", 3, 5, c), 0);
    expect_int(count(f, p, EXJ_RUNNING), 5);
}

/* spec 2.2: A claim stores `{ holder, token, expiresAt }` on the row in the same atomic
 * write that turns it `running`. */
CONTRACT(rows, a_claim_serves_many_pools_at_once)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "m", "", "h"), none = NO_POOL;
    exj_claim c[4];
    exj_want w[3] = { { .pool = q, .want = 2 }, { .pool = none, .want = 1 },
                      { .pool = p, .want = 1 } };
    exj_op op = { .kind = EXJ_OP_CLAIM };

    insert(f, p, "a");
    insert(f, p, "b");
    insert(f, q, "c");
    op.u.claim.wants = w;
    op.u.claim.wants_len = 3;
    op.u.claim.holder = "w";
    op.u.claim.nonce = 5;
    op.u.claim.lease_ms = LEASE;
    op.u.claim.ret = c;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.claim.ret_len, 2);
    expect_int(op.u.claim.ret_until, START + LEASE);
    expect_int(w[0].got, 1);
    expect_int(w[1].got, 0);
    expect_code(w[1].verdict, EXJ_NOT_FOUND);
    expect_int(w[2].got, 1);
    expect_int(c[0].pool, q);
    expect_int(c[1].pool, p);
    expect_int(row(f, "m", "", "g", "a").v.lease_until, START + LEASE);
    cr_assert_str_eq(row(f, "m", "", "g", "a").holder, "w");
}

CONTRACT(rows, load_gives_the_inputs_in_the_order_of_the_claims)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "m", "", "h");
    char id[16], want[32];
    int64_t seq[200];
    exj_claim c[128];
    exj_loaded l[128];
    exj_buf arena = EXJ_BUF_INIT;

    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        seq[i] = insert_as(f, i % 3 ? q : p, id, i % 2, 3, 0);
    }
    expect_int(claim(f, p, "w", 5, 60, c), 60);
    expect_int(claim(f, q, "w", 6, 60, c + 60), 60);
    expect_code(f->s->v->load(f->s, c, 120, l, &arena, NULL), EXJ_OK);
    for (int i = 0; i < 120; i++) {
        int k = 0;

        while (k < 200 && seq[k] != c[i].seq)
            k++;
        snprintf(id, sizeof(id), "r%d", k);
        snprintf(want, sizeof(want), "{\"id\":\"%.*s\"}", (int)l[i].record_id.n,
                 l[i].record_id.p);
        cr_assert(exj_slice_is(l[i].input, want));
        cr_assert(exj_slice_is(l[i].record_id, id), "claim %d: %.*s is not %s", i,
                  (int)l[i].record_id.n, l[i].record_id.p, id);
    }
    exj_buf_release(&arena);
}

CONTRACT(rows, load_of_a_row_that_is_not_there_is_corrupt)
{
    exj_claim c = { .seq = NO_ROW };
    exj_loaded l;
    exj_buf arena = EXJ_BUF_INIT;

    expect_code(f->s->v->load(f->s, &c, 1, &l, &arena, NULL), EXJ_CORRUPT);
    exj_buf_release(&arena);
}

CONTRACT(rows, every_outcome_leads_where_the_table_says)
{
    static const struct {
        exj_event event;
        exj_status to;
    } cases[] = { { EXJ_EV_SUCCEED, EXJ_COMPLETED }, { EXJ_EV_FAIL_DEAD, EXJ_FAILED },
                  { EXJ_EV_BLOCK, EXJ_BLOCKED },     { EXJ_EV_SUSPEND, EXJ_SUSPENDED },
                  { EXJ_EV_FAIL_RETRY, EXJ_WAITING } };
    int64_t p = pool(f, "m", "", "g");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char id[16];
        exj_claim c;
        struct row r;

        snprintf(id, sizeof(id), "r%zu", i);
        insert(f, p, id);
        c = claim_one(f, p, "w", 10 + (int64_t)i);
        expect_code(finish(f, &c, cases[i].event, START + 5000, "{\"x\":1}"), EXJ_OK);
        r = row(f, "m", "", "g", id);
        expect_int(r.v.status, cases[i].to);
        expect_int(r.v.token, 1);
        bool live = cases[i].to == EXJ_WAITING || cases[i].to == EXJ_SUSPENDED;

        expect_int(r.v.attempts, cases[i].to == EXJ_SUSPENDED ? 0 : 1);
        expect_int(r.v.finished_at, live ? 0 : START);
        expect_int(r.v.run_after, live ? START + 5000 : 0);
        expect_int(count(f, p, cases[i].to), 1);
        /* The very outcome again: it had landed. Another one: over. */
        expect_code(finish(f, &c, cases[i].event, START + 5000, "{\"x\":1}"), EXJ_OK);
        expect_code(finish(f, &c,
                           cases[i].event == EXJ_EV_SUCCEED ? EXJ_EV_BLOCK : EXJ_EV_SUCCEED, 0,
                           "{\"x\":2}"),
                    EXJ_FENCED);
        expect_int(row(f, "m", "", "g", id).v.status, cases[i].to);
    }
    expect_int(count(f, p, EXJ_RUNNING), 0);
    cr_assert_str_eq(row(f, "m", "", "g", "r0").result, "{\"x\":1}");
    cr_assert_str_eq(row(f, "m", "", "g", "r1").code, "E_TEST");
    cr_assert_str_eq(row(f, "m", "", "g", "r1").text, "{\"x\":1}");
}

CONTRACT(rows, an_event_that_is_no_outcome_is_refused_whole)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;
    exj_outcome o[2] = { { 0 } };
    exj_op op = { .kind = EXJ_OP_FINISH };

    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    o[0] = (exj_outcome){
        .seq = c.seq, .nonce = c.nonce, .token = c.token, .event = EXJ_EV_SUCCEED
    };
    o[1] = o[0];
    o[1].event = EXJ_EV_REAP;
    op.u.finish.items = o;
    op.u.finish.len = 2;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_INVALID);
    expect_int(row(f, "m", "", "g", "a").v.status, EXJ_RUNNING);
}

CONTRACT(rows, outcomes_in_any_order_are_each_judged)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c[50];
    exj_outcome o[50];
    exj_op op = { .kind = EXJ_OP_FINISH };
    char id[16];

    for (int i = 0; i < 50; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
    }
    expect_int(claim(f, p, "w", 9, 50, c), 50);
    for (int i = 0; i < 50; i++)
        o[(i * 7) % 50] = (exj_outcome){ .seq = c[i].seq,
                                         .nonce = i % 5 ? 9 : 8,
                                         .token = 1,
                                         .event = EXJ_EV_SUCCEED,
                                         .result = EXJ_SLICE_LITERAL("1") };
    op.u.finish.items = o;
    op.u.finish.len = 50;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    for (int i = 0; i < 50; i++)
        expect_code(o[(i * 7) % 50].verdict, i % 5 ? EXJ_OK : EXJ_FENCED);
    expect_int(count(f, p, EXJ_COMPLETED), 40);
    expect_int(count(f, p, EXJ_RUNNING), 10);
}

CONTRACT(rows, waiting_rows_are_claimed_only_after_their_promotion)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c[4];
    exj_msec next;

    insert_as(f, p, "later", 0, 3, START + 1000);
    insert_as(f, p, "much later", 0, 3, START + 9000);
    expect_int(count(f, p, EXJ_WAITING), 2);
    expect_int(promote(f, &next), 0);
    expect_int(next, START + 1000);
    expect_int(claim(f, p, "w", 1, 4, c), 0);
    advance(f, 1000);
    expect_int(promote(f, &next), 1);
    expect_int(next, START + 9000);
    expect_int(claim(f, p, "w", 2, 4, c), 1);
    advance(f, 8000);
    expect_int(promote(f, &next), 1);
    expect_int(next, 0);
    expect_int(count(f, p, EXJ_WAITING), 0);
    expect_int(count(f, p, EXJ_QUEUED), 1);
}

/* spec 2.2: `token` grows by one with every claim of that row, for ever. */
CONTRACT(rows, attempts_end_with_the_last_one)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    insert_as(f, p, "a", 0, 2, 0);
    c = claim_one(f, p, "w", 1);
    expect_code(finish(f, &c, EXJ_EV_FAIL_RETRY, START + 1, "once"), EXJ_OK);
    advance(f, 10);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w", 2);
    expect_int(c.attempt, 2);
    expect_int(c.token, 2);
    /* Whatever the holder believes, no third attempt follows. */
    expect_code(finish(f, &c, EXJ_EV_FAIL_RETRY, START + 20, "twice"), EXJ_OK);
    expect_int(row(f, "m", "", "g", "a").v.status, EXJ_FAILED);
    expect_int(row(f, "m", "", "g", "a").v.attempts, 2);
    cr_assert_str_eq(row(f, "m", "", "g", "a").text, "twice");
}

CONTRACT(rows, a_row_that_waits_for_its_next_attempt_shows_the_last_failure)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    insert_as(f, p, "a", 0, 3, 0);
    c = claim_one(f, p, "w", 1);
    expect_code(finish(f, &c, EXJ_EV_FAIL_RETRY, START + 1, "once"), EXJ_OK);
    expect_int(row(f, "m", "", "g", "a").v.status, EXJ_WAITING);
    cr_assert_str_eq(row(f, "m", "", "g", "a").text, "once");
    advance(f, 10);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w", 2);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "{}"), EXJ_OK);
    cr_assert_str_eq(row(f, "m", "", "g", "a").text, "");
}

/* spec 2.2: Release on clean shutdown: unstarted prefetched rows are given back at once
 * without counting an attempt.
 * spec 2.2: `token` grows by one with every claim of that row, for ever. */
CONTRACT(rows, release_does_not_count_the_attempt)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c, d;

    insert(f, p, "a");
    c = claim_one(f, p, "w", 1);
    expect_code(release(f, &c), EXJ_OK);
    expect_code(release(f, &c), EXJ_FENCED);
    expect_int(count(f, p, EXJ_QUEUED), 1);
    d = claim_one(f, p, "w", 2);
    expect_int(d.attempt, 1);
    expect_int(d.token, 2);
}

/* spec 2.1: A terminal row never changes status by itself; `retry` and `rerun` are
 * explicit and journalled.
 * spec 2.10: Tokens of a row strictly grow. */
CONTRACT(rows, retry_starts_anew_and_keeps_the_token)
{
    int64_t p = pool(f, "m", "", "g");
    int64_t seq = insert_as(f, p, "a", 4, 1, 0);
    exj_claim c = claim_one(f, p, "w", 1);
    exj_err err = { 0 };

    expect_code(retry(f, seq, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "running"), "%s", err.text);
    expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "no"), EXJ_OK);
    expect_code(retry(f, seq, NULL), EXJ_OK);
    expect_int(count(f, p, EXJ_QUEUED), 1);
    expect_int(count(f, p, EXJ_FAILED), 0);
    expect_int(row(f, "m", "", "g", "a").v.priority, 4);
    /* The old claim's success is worth nothing now. */
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "{}"), EXJ_FENCED);
    c = claim_one(f, p, "w", 2);
    expect_int(c.attempt, 1);
    expect_int(c.token, 2);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "{}"), EXJ_OK);
    expect_code(retry(f, seq, NULL), EXJ_REFUSED);
    expect_code(retry(f, NO_ROW, NULL), EXJ_NOT_FOUND);
}

static bool collect(void *user, const exj_row_view *v)
{
    int64_t *seen = user;

    seen[++seen[0]] = v->seq;
    return true;
}

CONTRACT(rows, pages_filter_and_go_on_after_a_seq)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "n", "r", "h"), seen[16], seq[10];
    exj_claim c[4];
    exj_row_filter all = { .status = -1, .limit = 4 }, one = { .status = EXJ_QUEUED,
                                                               .limit = 10 };
    char id[16];

    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        seq[i] = insert_as(f, i < 5 ? p : q, id, 0, 3, i == 9 ? START + 99 : 0);
    }
    expect_int(claim(f, p, "w", 1, 4, c), 4);
    expect_code(finish(f, &c[0], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_code(finish(f, &c[1], EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);

    seen[0] = 0;
    expect_code(f->s->v->row_page(f->s, &all, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 4);
    all.after_seq = seen[4];
    seen[0] = 0;
    expect_code(f->s->v->row_page(f->s, &all, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 4);
    expect_int(seen[1], seq[4]);

    seen[0] = 0; /* queued shows what waits, too */
    expect_code(f->s->v->row_page(f->s, &one, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 6);
    one.matrix = exj_slice_of("n");
    one.run = exj_slice_of("r");
    one.graph = exj_slice_of("h");
    seen[0] = 0;
    expect_code(f->s->v->row_page(f->s, &one, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 5);
    one = (exj_row_filter){ .status = EXJ_FAILED, .limit = 10 };
    seen[0] = 0;
    expect_code(f->s->v->row_page(f->s, &one, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 1);
    expect_int(seen[1], seq[1]);
    one.status = EXJ_COMPLETED;
    seen[0] = 0;
    expect_code(f->s->v->row_page(f->s, &one, collect, seen, NULL), EXJ_OK);
    expect_int(seen[1], seq[0]);
    one.status = EXJ_RUNNING;
    seen[0] = 0;
    expect_code(f->s->v->row_page(f->s, &one, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 2);
    one.limit = 0;
    expect_code(f->s->v->row_page(f->s, &one, collect, seen, NULL), EXJ_INVALID);
}

CONTRACT(rows, the_newest_of_a_pool_that_ended_so_come_first)
{
    int64_t p = pool(f, "m", "", "g"), q = pool(f, "m", "r", "g"), seen[16], seq[5];
    exj_claim c[5];
    char id[16];

    for (int i = 0; i < 5; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        seq[i] = insert(f, i < 4 ? p : q, id);
    }
    expect_int(claim(f, p, "w", 1, 4, c), 4);
    expect_int(claim(f, q, "w", 2, 1, c + 4), 1);
    for (int i = 0; i < 5; i++) {
        expect_code(finish(f, &c[i], i == 2 ? EXJ_EV_FAIL_DEAD : EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
        advance(f, 10);
    }
    seen[0] = 0;
    expect_code(f->s->v->row_recent(f->s, p, EXJ_COMPLETED, 10, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 3);
    expect_int(seen[1], seq[3]);
    expect_int(seen[2], seq[1]);
    expect_int(seen[3], seq[0]);
    seen[0] = 0;
    expect_code(f->s->v->row_recent(f->s, p, EXJ_COMPLETED, 1, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 1);
    expect_int(seen[1], seq[3]);
    seen[0] = 0;
    expect_code(f->s->v->row_recent(f->s, p, EXJ_FAILED, 10, collect, seen, NULL), EXJ_OK);
    expect_int(seen[0], 1);
    expect_int(seen[1], seq[2]);
    for (size_t limit = 0; limit <= 1001; limit += 1001)
        expect_code(f->s->v->row_recent(f->s, p, EXJ_FAILED, limit, collect, seen, NULL),
                    EXJ_INVALID);
    expect_int(seen[0], 1);
}

CONTRACT(rows, a_store_that_works_says_so)
{
    exj_store_health h = { .schema_version = -1 };

    expect_code(f->s->v->health(f->s, &h), EXJ_OK);
    cr_assert(h.config_ok && h.execution_ok);
    cr_assert_str_eq(h.text, "ok");
    cr_assert(h.where[0] && h.backend[0]);
    cr_assert(h.schema_version > 0);
}
