/* Rows wait for a place of their concurrency key. Whatever frees it, they are claimed: the end of
 * a row of another matrix of the graph; a lease that ends with the last attempt; an outcome that
 * lands while the claim that found the place taken is being answered. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

#define ROUNDS 60

static exj_engine *engine;
static exj_err err;

static int64_t pool_of(exj_store *s, const char *matrix)
{
    exj_op op = { .kind = EXJ_OP_POOL };

    op.u.pool.matrix = exj_slice_of(matrix);
    op.u.pool.run = EXJ_SLICE_LITERAL("");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK);
    return op.u.pool.ret_pool;
}

static void insert(exj_store *s, int64_t pool, const char *id, const char *input,
                   uint32_t max_attempts)
{
    exj_insert_item item = { .record_id = exj_slice_of(id),
                             .input = exj_slice_of(input),
                             .concurrency_key = EXJ_SLICE_LITERAL("k") };
    exj_op op = { .kind = EXJ_OP_INSERT };

    op.u.insert.pool = pool;
    op.u.insert.max_attempts = max_attempts;
    op.u.insert.items = &item;
    op.u.insert.len = 1;
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK && item.verdict == EXJ_OK);
    if (engine)
        exj_engine_rows_came(engine, pool);
}

/* Somebody else holds the only row, and will never end it. */
static void claim_for_a_dead_one(exj_store *s, int64_t pool)
{
    exj_want want = { .pool = pool, .want = 1 };
    exj_claim claim;
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "dead";
    op.u.claim.nonce = 4711;
    op.u.claim.lease_ms = 1500;
    op.u.claim.ret = &claim;
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK && op.u.claim.ret_len == 1);
}

static uint64_t wanted;

static bool are_completed(void *user)
{
    exj_engine_counts c;

    (void)user;
    exj_engine_get_counts(engine, &c);
    return c.completed >= wanted;
}

static bool runs_one(void *user)
{
    exj_engine_counts c;

    (void)user;
    exj_engine_get_counts(engine, &c);
    return c.in_flight == 1;
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    static const char event[] = ",\"dataSource\":{\"kind\":\"event\"}}}";
    exj_engine_options o = { .worker_id = "living", .executor = "test-engine",
                             .max_concurrent = 2, .lease_ms = 1500 };
    exj_buf text = EXJ_BUF_INIT;
    exj_tmp tmp;
    int64_t one, two;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path }, &o.store, &err) == EXJ_OK);
    CHECK(exj_registry_new(dirs, NULL, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    CHECK(o.metrics);
    put(o.store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    for (int i = 1; i <= 2; i++) {
        char id[8];

        snprintf(id, sizeof(id), "m%d", i);
        exj_buf_reset(&text);
        exj_buf_printf(&text, "{\"matrixCatalogId\":\"%s\",\"payload\":{\"graphs\":[\"g\"]%s", id,
                       event);
        put(o.store, EXJ_DOC_MATRIX, id, text.p);
    }
    one = pool_of(o.store, "m1");
    two = pool_of(o.store, "m2");

    /* A lease that ends with the last attempt. */
    insert(o.store, one, "dies", "{}", 1);
    claim_for_a_dead_one(o.store, one);
    insert(o.store, one, "waits", "{}", 1);
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    wanted = 1;
    CHECK(exj_until(are_completed, NULL, -1, 5, 20000));

    /* The end of a row of another matrix. */
    exj_buf_reset(&text);
    exj_buf_printf(&text, "{\"gate\":\"%s\"}", exj_tmp_path(&tmp, "gate"));
    insert(o.store, one, "first", text.p, 3);
    CHECK(exj_until(runs_one, NULL, -1, 5, 20000));
    insert(o.store, two, "second", "{}", 3);
    exj_spit(exj_tmp_path(&tmp, "gate"), "open");
    wanted = 3;
    CHECK(exj_until(are_completed, NULL, -1, 5, 20000));

    /* Both at once, again and again: the second is claimed while the first one ends. */
    for (int i = 0; i < ROUNDS; i++) {
        char id[16];

        snprintf(id, sizeof(id), "r%d", i);
        insert(o.store, one, id, "{}", 3);
        insert(o.store, i % 2 ? one : two, i % 2 ? strcat(id, "+") : id, "{}", 3);
        wanted += 2;
        CHECK(exj_until(are_completed, NULL, -1, 1, 20000));
    }

    CHECK(exj_engine_stop(engine, 10000) == 0);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    exj_buf_release(&text);
    printf("race_parked: every row that waited for its key was claimed\n");
    exj_support_clean();
    return 0;
}
