/* Rows set aside, as an operator finds and releases them. */
#include "fixture.h"

TestSuite(quarantine, .init = fixture_open, .fini = fixture_close);

/* A row of m, g that ended so; its name is "m||g|ID". */
static void row_ended(const char *id, int64_t nonce, exj_event event, const char *code)
{
    exj_insert_item it = { .record_id = exj_slice_of(id), .input = EXJ_SLICE_LITERAL("{}") };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_outcome o = { .nonce = nonce, .event = event, .error_code = exj_slice_of(code),
                      .error_text = EXJ_SLICE_LITERAL("SIGSEGV in acme.score 1.2.0") };
    exj_claim c = { 0 };
    exj_want w = { .want = 1 };

    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    exj_store_do(f.store, &op, NULL);
    w.pool = op.u.pool.ret_pool;
    op = (exj_op){ .kind = EXJ_OP_INSERT };
    op.u.insert.pool = w.pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    exj_store_do(f.store, &op, NULL);
    op = (exj_op){ .kind = EXJ_OP_CLAIM };
    op.u.claim.wants = &w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w";
    op.u.claim.nonce = nonce;
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = &c;
    exj_store_do(f.store, &op, NULL);
    cr_assert_eq(op.u.claim.ret_len, 1);
    o.seq = c.seq;
    o.token = c.token;
    op = (exj_op){ .kind = EXJ_OP_FINISH };
    op.u.finish.items = &o;
    op.u.finish.len = 1;
    exj_store_do(f.store, &op, NULL);
    cr_assert_eq(o.verdict, EXJ_OK);
}

static json_t *rows(const char *query, size_t wanted)
{
    char target[200];
    unsigned status;
    json_t *o;

    snprintf(target, sizeof target, "/v1/rows?%s", query);
    o = call("GET", target, NULL, &status);
    cr_assert_eq(status, 200, "%s: %u", target, status);
    cr_assert_eq(json_array_size(json_object_get(o, "rows")), wanted, "%s", target);
    return o;
}

Test(quarantine, rows_are_listed_by_code_and_a_retry_releases_them)
{
    unsigned status;
    json_t *o, *first;

    row_ended("a", 1, EXJ_EV_BLOCK, "NeedsApproval");
    row_ended("b", 2, EXJ_EV_BLOCK, "Quarantined");
    row_ended("c", 3, EXJ_EV_FAIL_DEAD, "Quarantined");
    json_decref(rows("status=blocked", 2));
    o = rows("status=blocked&errorCode=Quarantined", 1);
    first = json_array_get(json_object_get(o, "rows"), 0);
    cr_assert_str_eq(text_of(first, "matrixRowId"), "m||g|b");
    cr_assert_str_eq(text_of(json_object_get(first, "error"), "code"), "Quarantined");
    json_decref(o);
    json_decref(rows("status=failed&errorCode=Quarantined", 1));
    json_decref(rows("status=blocked&errorCode=Quarantined&graphId=other", 0));
    json_decref(call("POST", "/v1/rows/m%7C%7Cg%7Cb/retry", NULL, &status));
    cr_assert_eq(status, 200);
    json_decref(rows("status=blocked&errorCode=Quarantined", 0));
}

Test(quarantine, a_code_without_a_status_that_has_codes_is_refused)
{
    assert_error("GET", "/v1/rows?errorCode=Quarantined", NULL, 400, "Bad Request",
                 "ValidationError", "failed, blocked");
    assert_error("GET", "/v1/rows?status=queued&errorCode=Quarantined", NULL, 400,
                 "Bad Request", "ValidationError", "failed, blocked");
    assert_error("GET", "/v1/rows?status=blocked&errorCode=", NULL, 400, "Bad Request",
                 "ValidationError", "not empty");
}
