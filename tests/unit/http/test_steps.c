/* GET /rows/:id/steps of rows with more steps than fit into an answer. */
#include <string.h>

#include "fixture.h"

#define BIG (1u << 20)

static exj_claim claim;
static char big[BIG];

static void store_do(exj_op *op)
{
    exj_err err = { 0 };

    cr_assert_eq(exj_store_do(f.store, op, &err), EXJ_OK, "%s", err.text);
}

/* One row, claimed. */
static void setup(void)
{
    exj_insert_item it = { .record_id = EXJ_SLICE_LITERAL("r"), .input = EXJ_SLICE_LITERAL("{}") };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_want want = { .want = 1 };

    fixture_open();
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    store_do(&op);
    want.pool = op.u.pool.ret_pool;
    op = (exj_op){ .kind = EXJ_OP_INSERT };
    op.u.insert.pool = want.pool;
    op.u.insert.max_attempts = 1;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    store_do(&op);
    op = (exj_op){ .kind = EXJ_OP_CLAIM };
    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w";
    op.u.claim.nonce = 7;
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = &claim;
    store_do(&op);
    cr_assert_eq(op.u.claim.ret_len, 1);
}

TestSuite(steps, .init = setup, .fini = fixture_close);

static void put_steps(size_t n, exj_slice body)
{
    exj_op *ops = calloc(n, sizeof(*ops));
    char(*names)[16] = calloc(n, sizeof(*names));

    cr_assert(ops && names);
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "s%zu", i);
        ops[i] = (exj_op){ .kind = EXJ_OP_STEP_PUT, .next = i + 2 < n ? &ops[i + 1] : NULL };
        ops[i].u.step.seq = claim.seq;
        ops[i].u.step.nonce = claim.nonce;
        ops[i].u.step.token = claim.token;
        ops[i].u.step.attempt = 1;
        ops[i].u.step.key = exj_slice_of(names[i]);
        ops[i].u.step.body = body;
    }
    exj_store_submit(f.store, ops);
    store_do(&ops[n - 1]); /* the last: all others are answered before it */
    free(names);
    free(ops);
}

static json_t *ask(const char *target)
{
    unsigned status;
    json_t *o = call_as("GET", target, NULL, true, NULL, &status, NULL);

    cr_assert_eq(status, 200);
    return o;
}

Test(steps, more_bodies_than_fit_into_an_answer_are_left_out)
{
    size_t i, shown = 0, left_out = 0;
    json_t *o, *list, *s;

    memset(big, '1', sizeof(big));
    big[0] = big[BIG - 1] = '"';
    put_steps(20, (exj_slice){ big, BIG });
    o = ask("/v1/rows/m%7C%7Cg%7Cr/steps?body=true");
    list = json_object_get(o, "steps");
    cr_expect_eq(json_array_size(list), 20);
    json_array_foreach(list, i, s) {
        shown += json_object_get(s, "body") != NULL;
        left_out += json_is_true(json_object_get(s, "bodyLeftOut"));
        cr_expect_eq(json_integer_value(json_object_get(s, "bytes")), BIG);
    }
    cr_expect_eq(shown, 16);
    cr_expect_eq(left_out, 4);
    cr_expect(json_is_false(json_object_get(o, "truncated")));
    json_decref(o);
}

Test(steps, more_steps_than_fit_into_an_answer_are_told_of)
{
    json_t *o;

    put_steps(10001, EXJ_SLICE_LITERAL("1"));
    o = ask("/v1/rows/m%7C%7Cg%7Cr/steps");
    cr_expect_eq(json_array_size(json_object_get(o, "steps")), 10000);
    cr_expect(json_is_true(json_object_get(o, "truncated")));
    json_decref(o);
}
