/* tests/race/rows.h - rows without an engine: they come, are claimed and end. */
#ifndef EXJ_TESTS_RACE_ROWS_H
#define EXJ_TESTS_RACE_ROWS_H

#include "core/base/clock.h"
#include "tests/race/check.h"

#define ROWS_AT_ONCE 40

static inline int64_t rows_pool(exj_store *s, const char *graph)
{
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };

    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.run = EXJ_SLICE_LITERAL("");
    op.u.pool.graph = exj_slice_of(graph);
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK);
    return op.u.pool.ret_pool;
}

/* Insert `n` (ROWS_AT_ONCE at most) rows "<prefix>-<from + k>". */
static inline void rows_insert(exj_store *s, int64_t pool, const char *prefix, int from, int n)
{
    exj_insert_item items[ROWS_AT_ONCE];
    char ids[ROWS_AT_ONCE][40];
    exj_op op = { .kind = EXJ_OP_INSERT };
    exj_err err = { 0 };

    for (int k = 0; k < n; k++) {
        snprintf(ids[k], sizeof(ids[k]), "%s-%d", prefix, from + k);
        items[k] = (exj_insert_item){ .record_id = exj_slice_of(ids[k]),
                                      .input = EXJ_SLICE_LITERAL("{}") };
    }
    op.u.insert.pool = pool;
    op.u.insert.max_attempts = 1000;
    op.u.insert.items = items;
    op.u.insert.len = (size_t)n;
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK && op.u.insert.ret_inserted == (size_t)n);
}

/* Claim some rows of the pool and finish them. Returns how many. */
static inline size_t rows_finish(exj_store *s, int64_t pool)
{
    exj_want want = { .pool = pool, .want = ROWS_AT_ONCE };
    exj_claim claims[ROWS_AT_ONCE];
    exj_outcome out[ROWS_AT_ONCE];
    exj_op claim = { .kind = EXJ_OP_CLAIM }, finish = { .kind = EXJ_OP_FINISH };
    exj_err err = { 0 };

    claim.u.claim.wants = &want;
    claim.u.claim.wants_len = 1;
    claim.u.claim.holder = "race";
    claim.u.claim.nonce = (int64_t)(exj_random_u64() >> 1 | 1);
    claim.u.claim.lease_ms = 60000000;
    claim.u.claim.ret = claims;
    CHECK(exj_store_do(s, &claim, &err) == EXJ_OK);
    for (size_t k = 0; k < claim.u.claim.ret_len; k++)
        out[k] = (exj_outcome){ .seq = claims[k].seq, .nonce = claims[k].nonce,
                                .token = claims[k].token, .event = EXJ_EV_SUCCEED };
    finish.u.finish.items = out;
    finish.u.finish.len = claim.u.claim.ret_len;
    if (finish.u.finish.len)
        CHECK(exj_store_do(s, &finish, &err) == EXJ_OK);
    return claim.u.claim.ret_len;
}

/* The number of the newest event. */
static inline int64_t rows_newest_event(exj_store *s)
{
    int64_t first = 0, last = 0;
    exj_err err = { 0 };

    CHECK(s->v->events_span(s, &first, &last, &err) == EXJ_OK);
    return last;
}

#endif /* EXJ_TESTS_RACE_ROWS_H */
