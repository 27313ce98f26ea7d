/* Four rows of one claim run for two terms of their lease. Whoever holds them renews all of
 * them in one operation, a third of the term after the last time, so that no lease ever ends. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

#define ROWS 4
#define LEASE_MS 1500
#define TIMES 6

static exj_engine *engine;
static exj_err err;
static const exj_store_vtable *real;
static _Atomic exj_nsec claimed_at, renewed_at[TIMES];
static atomic_uint renewals, smallest = ROWS;

/* Stands between the engine and its store. */
static void watch(exj_store *s, exj_op *first)
{
    exj_nsec now = exj_clock_mono_ns();

    for (exj_op *op = first; op; op = op->next) {
        if (op->kind == EXJ_OP_CLAIM && !atomic_load(&renewals))
            atomic_store(&claimed_at, now);
        if (op->kind == EXJ_OP_RENEW) {
            unsigned n = atomic_fetch_add(&renewals, 1);

            if (n >= TIMES) /* rows end now */
                continue;
            atomic_store(&renewed_at[n], now);
            if (op->u.held.len < atomic_load(&smallest))
                atomic_store(&smallest, (unsigned)op->u.held.len);
        }
    }
    real->submit(s, first);
}

static bool is_renewed_often(void *user)
{
    (void)user;
    return atomic_load(&renewals) >= TIMES;
}

static bool are_over(void *user)
{
    exj_engine_counts c;

    (void)user;
    exj_engine_get_counts(engine, &c);
    return c.completed == ROWS;
}

static void insert_rows(exj_store *s, exj_slice input)
{
    static const char *const ids[ROWS] = { "a", "b", "c", "d" };
    exj_insert_item items[ROWS];
    exj_op pool = { .kind = EXJ_OP_POOL }, op = { .kind = EXJ_OP_INSERT };

    pool.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    pool.u.pool.run = EXJ_SLICE_LITERAL("");
    pool.u.pool.graph = EXJ_SLICE_LITERAL("g");
    CHECK(exj_store_do(s, &pool, &err) == EXJ_OK);
    for (int i = 0; i < ROWS; i++)
        items[i] = (exj_insert_item){ .record_id = exj_slice_of(ids[i]), .input = input };
    op.u.insert.pool = pool.u.pool.ret_pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = items;
    op.u.insert.len = ROWS;
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK && op.u.insert.ret_inserted == ROWS);
}

/* spec 2.2: The holder renews well before expiry (a third of the term), in batches. */
int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "w", .executor = "test-engine",
                             .max_concurrent = ROWS, .lease_ms = LEASE_MS };
    exj_store_vtable spy;
    exj_buf input = EXJ_BUF_INIT;
    exj_nsec before;
    exj_tmp tmp;

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
    insert_rows(o.store, exj_buf_slice(&input));
    real = o.store->v;
    spy = *real;
    spy.submit = watch;
    o.store->v = &spy;
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    CHECK(exj_until(is_renewed_often, NULL, -1, 5, 60000));
    exj_spit(exj_tmp_path(&tmp, "gate"), "open");
    CHECK(exj_until(are_over, NULL, -1, 5, 20000));

    before = atomic_load(&claimed_at);
    for (int i = 0; i < TIMES; i++) {
        exj_nsec at = atomic_load(&renewed_at[i]);

        /* Never early; late only as far as the machine is slow, and the lease allows. */
        if (i > 0)
            CHECK(at - before >= LEASE_MS * (exj_nsec)1000000 / 3 - 5000000);
        CHECK(at - before < LEASE_MS * (exj_nsec)1000000);
        before = at;
    }
    CHECK(atomic_load(&smallest) == ROWS);

    CHECK(exj_engine_stop(engine, 10000) == 0);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    exj_buf_release(&input);
    printf("race_renew: %u renewals of %d rows each\n", atomic_load(&renewals), ROWS);
    exj_support_clean();
    return 0;
}
