/* The store refuses renewals (a full disk), so the engine claims nothing more and is stopped,
 * while an outcome is on its way. The answer comes, and finds the engine there. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

static exj_engine *engine;
static exj_err err;

/* What the store is asked passes by here. */
static struct gate {
    const exj_store_vtable *real;
    exj_store_vtable v;
    pthread_mutex_t mu;
    exj_op *held; /* mu: an outcome that is not passed on yet */
    atomic_bool holds, refuses;
} gate = { .mu = PTHREAD_MUTEX_INITIALIZER };

static void submit(exj_store *s, exj_op *first)
{
    exj_op *next;

    for (; first; first = next) {
        next = first->next;
        first->next = NULL;
        if (first->kind == EXJ_OP_FINISH && atomic_exchange(&gate.holds, false)) {
            pthread_mutex_lock(&gate.mu);
            gate.held = first;
            pthread_mutex_unlock(&gate.mu);
        } else if (first->kind == EXJ_OP_RENEW && atomic_load(&gate.refuses)) {
            exj_err_clear(&first->err);
            first->rc = exj_err_set(&first->err, EXJ_FULL, "the disk is full");
            first->done(first);
        } else {
            gate.real->submit(s, first);
        }
    }
}

static exj_op *held(void)
{
    exj_op *op;

    pthread_mutex_lock(&gate.mu);
    op = gate.held;
    pthread_mutex_unlock(&gate.mu);
    return op;
}

static bool is_held(void *user)
{
    (void)user;
    return held() != NULL;
}

static bool has_failed(void *user)
{
    exj_engine_counts c;

    (void)user;
    exj_engine_get_counts(engine, &c);
    return c.store_failed;
}

static atomic_bool stopped;

static void *stop(void *user)
{
    (void)user;
    CHECK(exj_engine_stop(engine, 10000) == 0);
    atomic_store(&stopped, true);
    return NULL;
}

static bool is_stopped(void *user)
{
    (void)user;
    return atomic_load(&stopped);
}

static void insert(exj_store *s, const char *id, const char *input)
{
    exj_insert_item item = { .record_id = exj_slice_of(id), .input = exj_slice_of(input) };
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
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "first", .executor = "test-engine",
                             .max_concurrent = 2, .lease_ms = 1000 };
    exj_buf input = EXJ_BUF_INIT;
    pthread_t thread;
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
    insert(o.store, "at once", "{}");
    insert(o.store, "held up", input.p);
    gate.real = o.store->v;
    gate.v = *gate.real;
    gate.v.submit = submit;
    o.store->v = &gate.v;
    atomic_store(&gate.holds, true);
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    CHECK(exj_until(is_held, NULL, -1, 5, 20000));
    atomic_store(&gate.refuses, true);
    CHECK(exj_until(has_failed, NULL, -1, 5, 20000));
    exj_spit(exj_tmp_path(&tmp, "gate"), "open");

    CHECK(pthread_create(&thread, NULL, stop, NULL) == 0);
    CHECK(!exj_until(is_stopped, NULL, -1, 5, 1500)); /* it waits for the answer */
    gate.real->submit(o.store, held());
    pthread_join(thread, NULL);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    exj_buf_release(&input);
    printf("race_stop: the engine was there when its last answer came\n");
    exj_support_clean();
    return 0;
}
