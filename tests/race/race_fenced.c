/* A row is taken away from a running engine and claimed by somebody else. What the engine
 * says of it afterwards is refused, counted and logged; the newer claim's outcome stands. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

static exj_engine *engine;
static exj_err err;

static int64_t insert_one(exj_store *s, const char *input)
{
    exj_insert_item item = { .record_id = EXJ_SLICE_LITERAL("r"),
                             .input = exj_slice_of(input) };
    exj_op pool = { .kind = EXJ_OP_POOL }, op = { .kind = EXJ_OP_INSERT };

    pool.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    pool.u.pool.run = EXJ_SLICE_LITERAL("");
    pool.u.pool.graph = EXJ_SLICE_LITERAL("g");
    CHECK(exj_store_do(s, &pool, &err) == EXJ_OK);
    op.u.insert.pool = pool.u.pool.ret_pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = &item;
    op.u.insert.len = 1;
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK && item.verdict == EXJ_OK);
    return pool.u.pool.ret_pool;
}

static bool is_executing(void *user)
{
    exj_engine_counts c;

    (void)user;
    exj_engine_get_counts(engine, &c);
    return c.in_flight == 1;
}

static bool is_fenced(void *user)
{
    exj_engine_counts c;

    (void)user;
    exj_engine_get_counts(engine, &c);
    return c.fenced == 1 && c.in_flight == 0;
}

/* Reap it from under the engine, and claim it under another name. */
static exj_claim take_away(exj_store *s, int64_t pool)
{
    exj_reaped reaped;
    exj_want want = { .pool = pool, .want = 1 };
    exj_claim claim = { 0 };
    exj_op reap = { .kind = EXJ_OP_REAP }, op = { .kind = EXJ_OP_CLAIM };

    reap.u.reap.all_but = "nobody";
    reap.u.reap.ret = &reaped;
    reap.u.reap.limit = 1;
    CHECK(exj_store_do(s, &reap, &err) == EXJ_OK && reap.u.reap.ret_len == 1);
    CHECK(reaped.token == 1 && reaped.to == EXJ_QUEUED);
    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "other";
    op.u.claim.nonce = 4711;
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = &claim;
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK && op.u.claim.ret_len == 1);
    CHECK(claim.token == 2);
    return claim;
}

static bool check_row(void *user, const exj_row_view *r)
{
    exj_status wanted = *(const exj_status *)user;

    CHECK(r->status == wanted && r->token == 2);
    CHECK(wanted != EXJ_COMPLETED || exj_slice_is(r->result, "\"newer\""));
    return true;
}

static void expect_row(exj_store *s, exj_status wanted)
{
    CHECK(s->v->row_get(s, EXJ_SLICE_LITERAL("m"), EXJ_SLICE_LITERAL(""),
                        EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("r"), check_row, &wanted,
                        &err) == EXJ_OK);
}

/* spec 2.2: A stale holder's result is never stored: it is counted, logged and shown
 * (`matrix_claims_fenced_total`).
 * spec 2.10: At most one accepted outcome per attempt chain; no outcome from a token
 * older than the newest. */
int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "first", .executor = "test-engine",
                             .max_concurrent = 1 };
    exj_outcome newer = { .event = EXJ_EV_SUCCEED, .result = EXJ_SLICE_LITERAL("\"newer\"") };
    exj_op finish = { .kind = EXJ_OP_FINISH };
    exj_buf input = EXJ_BUF_INIT;
    exj_claim claim;
    exj_tmp tmp;
    int64_t pool;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path }, &o.store, &err) == EXJ_OK);
    CHECK(exj_registry_new(dirs, NULL, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    CHECK(o.metrics);
    put(o.store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(o.store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"dataSource\":{\"kind\":\"event\"}}}");
    exj_buf_printf(&input, "{\"gate\":\"%s\"}", exj_tmp_path(&tmp, "gate"));
    pool = insert_one(o.store, input.p);
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    CHECK(exj_until(is_executing, NULL, -1, 5, 20000));

    exj_engine_pause(engine); /* so that it does not claim the row again itself */
    claim = take_away(o.store, pool);
    exj_spit(exj_tmp_path(&tmp, "gate"), "open");
    CHECK(exj_until(is_fenced, NULL, -1, 5, 20000));
    CHECK(exj_series_value(exj_metric_series(o.metrics, EXJ_M_CLAIMS_FENCED,
                                             EXJ_SLICE_LITERAL("g"), (exj_slice){ 0 })) == 1);
    CHECK(exj_series_value(exj_metric_series(o.metrics, EXJ_M_CLAIMS_COMPLETED,
                                             EXJ_SLICE_LITERAL("g"),
                                             EXJ_SLICE_LITERAL("completed"))) == 0);
    expect_row(o.store, EXJ_RUNNING);

    newer.seq = claim.seq;
    newer.nonce = claim.nonce;
    newer.token = claim.token;
    finish.u.finish.items = &newer;
    finish.u.finish.len = 1;
    CHECK(exj_store_do(o.store, &finish, &err) == EXJ_OK && newer.verdict == EXJ_OK);
    expect_row(o.store, EXJ_COMPLETED);

    CHECK(exj_engine_stop(engine, 10000) == 0);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    exj_buf_release(&input);
    printf("race_fenced: the older token's outcome was refused and counted\n");
    exj_support_clean();
    return 0;
}
