/* So much and no more: what operations refuse, how much one of them does, where reads end. */
#include "durable.h"

#include <stdlib.h>

static void add_rows(struct fixture *f, int64_t p, const char *prefix, size_t len,
                     const exj_insert_item *like)
{
    exj_insert_item *items = calloc(len, sizeof(*items));
    char (*ids)[32] = calloc(len, sizeof(*ids));
    exj_op op = { .kind = EXJ_OP_INSERT };

    for (size_t i = 0; i < len; i++) {
        snprintf(ids[i], sizeof(ids[i]), "%s%zu", prefix, i);
        items[i] = *like;
        items[i].record_id = exj_slice_of(ids[i]);
        items[i].input = EXJ_SLICE_LITERAL("{}");
    }
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 2;
    op.u.insert.items = items;
    op.u.insert.len = len;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.insert.ret_inserted, len);
    free(items);
    free(ids);
}

static exj_code claim_as(struct fixture *f, exj_want *w, int64_t nonce, exj_msec lease_ms,
                         exj_claim *ret, size_t *ret_len)
{
    exj_op op = { .kind = EXJ_OP_CLAIM };
    exj_code rc;

    op.u.claim.wants = w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "h";
    op.u.claim.nonce = nonce;
    op.u.claim.lease_ms = lease_ms;
    op.u.claim.ret = ret;
    rc = exj_store_do(f->s, &op, NULL);
    *ret_len = op.u.claim.ret_len;
    return rc;
}

CONTRACT(bounds, a_claim_without_nonce_or_lease_is_refused)
{
    exj_want w = { .pool = pool(f, "m", "", "g"), .want = 1 };
    exj_claim c;
    size_t n;

    insert(f, w.pool, "1");
    expect_code(claim_as(f, &w, 0, LEASE, &c, &n), EXJ_INVALID);
    expect_code(claim_as(f, &w, 1, 0, &c, &n), EXJ_INVALID);
    expect_int(count(f, w.pool, EXJ_QUEUED), 1);
    w.want = 0;
    expect_code(claim_as(f, &w, 1, LEASE, &c, &n), EXJ_OK);
    expect_int(n, 0);
}

/* So many rows of a full key that one claim need not set them all aside: then it says so. */
CONTRACT(bounds, a_claim_that_does_not_set_all_aside_says_that_there_is_more)
{
    const exj_insert_item keyed = { .concurrency_key = EXJ_SLICE_LITERAL("k") };
    exj_want w = { .pool = pool(f, "m", "", "g"), .want = 2000, .key_cap = 1 };
    exj_claim *c = calloc(w.want, sizeof(*c));
    unsigned rows = scaled(f, 9000);
    int64_t nonce = 1;
    size_t n;

    add_rows(f, w.pool, "k", rows, &keyed);
    expect_code(claim_as(f, &w, nonce, LEASE, c, &n), EXJ_OK);
    expect_int(n, 1);
    if (!f->maker->shared) { /* 4096 at once, in a store of one's own */
        cr_expect(w.ret_more);
        cr_expect_gt(count(f, w.pool, EXJ_QUEUED), 0);
        cr_expect_gt(count(f, w.pool, EXJ_PARKED), 4095);
    }
    while (w.ret_more) {
        cr_assert_lt(nonce, 1000, "there is always more");
        expect_code(claim_as(f, &w, ++nonce, LEASE, c, &n), EXJ_OK);
        expect_int(n, 0);
    }
    expect_int(count(f, w.pool, EXJ_QUEUED), 0);
    expect_int(count(f, w.pool, EXJ_PARKED), rows - 1);
    free(c);
}

CONTRACT(bounds, keepers_take_more_than_one_bite_and_no_more_than_asked)
{
    const exj_insert_item plain = { 0 };
    static exj_claim c[1000];
    static exj_reaped r[1000];
    exj_want w = { .pool = pool(f, "m", "", "g"), .want = 1000 };
    exj_op op = { .kind = EXJ_OP_PROMOTE };
    unsigned rows = scaled(f, 300), bite = rows - rows / 7;
    size_t n;

    add_rows(f, w.pool, "p", rows, &plain);
    expect_code(claim_as(f, &w, 1, LEASE, c, &n), EXJ_OK);
    expect_int(n, rows);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, r, bite), bite);
    expect_int(reap(f, NULL, 0, r, 1000), rows - bite);
    expect_code(claim_as(f, &w, 2, LEASE, c, &n), EXJ_OK);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, r, 1000), rows);
    add_rows(f, w.pool, "l", rows,
             &(exj_insert_item){ .run_after = f->s->v->now(f->s) + 10 * LEASE });
    advance(f, 20 * LEASE);
    op.u.promote.limit = bite;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.promote.ret_promoted, bite);
    op.u.promote.limit = 1000;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.promote.ret_promoted, rows - bite);
}

CONTRACT(bounds, progress_is_between_nothing_and_all)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;

    insert(f, p, "1");
    c = claim_one(f, p, "h", 3);
    for (double at = -1; at < 3; at++) {
        exj_op op = { .kind = EXJ_OP_PROGRESS };

        op.u.progress.seq = c.seq;
        op.u.progress.nonce = c.nonce;
        op.u.progress.token = c.token;
        op.u.progress.at = at;
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        expect_code(op.u.progress.verdict, EXJ_OK);
        op.u.progress.token++;
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        expect_code(op.u.progress.verdict, EXJ_FENCED);
    }
}

/* The key is quoted no longer than needed. */
CONTRACT(bounds, a_row_whose_key_is_another_rows_does_not_come_back)
{
    char key[200], says[60];
    exj_insert_item it = { .unique_key = { key, sizeof(key) } };
    exj_op op = { .kind = EXJ_OP_RETRY };
    int64_t p = pool(f, "m", "", "g"), by;
    exj_claim c;

    memset(key, 'u', sizeof(key));
    insert_with(f, p, "1", &it, (exj_overflow_rule){ 0 });
    c = claim_one(f, p, "h", 3);
    expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "no"), EXJ_OK);
    by = insert_with(f, p, "2", &it, (exj_overflow_rule){ 0 });
    expect_code(it.verdict, EXJ_OK);
    snprintf(says, sizeof(says), "belongs to row %" PRId64 " now", by);
    op.u.retry.seq = c.seq;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_REFUSED);
    cr_expect(strstr(op.err.text, says), "%s", op.err.text);
    cr_expect_lt(strlen(op.err.text), 200);
}

/* ---- reads ---------------------------------------------------------------------------------- */

static bool count_event(void *user, const exj_event_view *v)
{
    ++*(int64_t *)user;
    return v->record_id.n > 0;
}

static bool stop_at_two(void *user, const exj_event_view *v)
{
    (void)v;
    return ++*(int *)user < 2;
}

CONTRACT(bounds, reads_of_the_journal_end_where_the_reader_wants)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "1"), all = 0;
    int n = 0;

    for (int64_t k = 1; k < 100; k++) { /* more than one piece of what is remembered */
        exj_claim c = claim_one(f, p, "h", k);

        expect_code(release(f, &c), EXJ_OK);
    }
    expect_code(f->s->v->journal(f->s, seq, 0, count_event, &all, NULL), EXJ_INVALID);
    expect_code(f->s->v->journal(f->s, seq, 100001, count_event, &all, NULL), EXJ_INVALID);
    expect_code(f->s->v->events(f->s, 0, 0, count_event, &all, NULL), EXJ_INVALID);
    expect_code(f->s->v->events(f->s, 0, 10001, count_event, &all, NULL), EXJ_INVALID);
    expect_code(f->s->v->journal(f->s, seq, 1000, count_event, &all, NULL), EXJ_OK);
    expect_int(all, 199);
    all = 0;
    expect_code(f->s->v->journal(f->s, seq, 3, count_event, &all, NULL), EXJ_OK);
    expect_int(all, 3);
    expect_code(f->s->v->journal(f->s, seq, 1000, stop_at_two, &n, NULL), EXJ_OK);
    expect_int(n, 2);
    n = 0;
    expect_code(f->s->v->events(f->s, 0, 1000, stop_at_two, &n, NULL), EXJ_OK);
    expect_int(n, 2);
    expect_code(f->s->v->journal(f->s, NO_ROW, 1000, count_event, &all, NULL), EXJ_OK);
    expect_int(all, 3);
}
