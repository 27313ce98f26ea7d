/* Rows that count into one key of their graph from several workers while somebody reads keys
 * and numbers, for TSan: nothing is lost, and the sum is whole at every look. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

#define ROWS 600

static exj_engine_options o = { .worker_id = "race", .executor = "kv-engine",
                                .max_concurrent = 4, .one_cycle = true,
                                .exclusive_store = true };
static atomic_bool over;

static long long sum_now(void)
{
    exj_err err = { 0 };
    exj_buf text = EXJ_BUF_INIT;
    exj_code rc = o.store->v->kv_get(o.store, EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("rows"),
                                     &text, &err);
    long long n = rc == EXJ_OK ? strtoll(text.p, NULL, 10) : 0;

    CHECK(rc == EXJ_OK || rc == EXJ_NOT_FOUND);
    exj_buf_release(&text);
    return n;
}

static bool one_key(void *user, const exj_kv_view *v)
{
    *(int *)user += v->key.n && v->value.n ? 1 : 99;
    return true;
}

static void *look(void *unused)
{
    exj_err err = { 0 };
    long long before = 0;

    (void)unused;
    while (!atomic_load(&over)) {
        exj_buf text = EXJ_BUF_INIT;
        long long n = sum_now();
        int keys = 0;

        CHECK(n >= before);
        before = n;
        CHECK(o.store->v->kv_page(o.store, EXJ_SLICE_LITERAL("g"), (exj_slice){ 0 }, 10, one_key,
                                  &keys, &err) == EXJ_OK);
        CHECK(keys <= 1);
        CHECK(exj_metrics_render(o.metrics, &text, &err) == EXJ_OK);
        exj_buf_release(&text);
        sched_yield();
    }
    return NULL;
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_buf text = EXJ_BUF_INIT;
    exj_engine *engine;
    pthread_t looker;
    exj_err err = { 0 };
    exj_tmp tmp;
    bool idle;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &o.store,
                          &err) == EXJ_OK);
    CHECK(exj_registry_new(dirs, NULL, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    CHECK(o.metrics);
    put(o.store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(o.store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"input\":{\"count\":600,\"page\":100},"
        "\"dataSource\":{\"kind\":\"storage\",\"resolver\":\"test-source\"}}}");
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    CHECK(!pthread_create(&looker, NULL, look, NULL));
    idle = exj_engine_wait_idle(engine, exj_clock_mono_ns() + 240000000000);
    atomic_store(&over, true);
    pthread_join(looker, NULL);
    CHECK(idle);
    CHECK(exj_engine_stop(engine, 10000) == 0);
    CHECK(sum_now() == ROWS);
    CHECK(exj_metrics_render(o.metrics, &text, &err) == EXJ_OK);
    CHECK(strstr(text.p,
                 "exellix_plugin_records_total{plugin=\"kv-engine\",kind=\"plain\"} 600\n"));
    exj_buf_release(&text);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    printf("race_extension: %d rows counted themselves\n", ROWS);
    exj_support_clean();
    return 0;
}
