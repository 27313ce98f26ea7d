/* The whole engine over a store that loses every tenth operation or its answer, and is away for a
 * while: no row is lost, no outcome is forgotten or counted twice, no step fails a row, and the
 * engine does not give up. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/store_flaky.h"
#include "tests/support/support.h"

#define ROWS 600
#define LEASE_MS 4000 /* rows of claims whose answers were lost come back after it */

static exj_err err; /* none */

static bool count(void *user, const exj_pool_info *p)
{
    int64_t *counts = user;

    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        counts[s] += p->counts[s];
    return true;
}

/* The sum of a counter over its labels. */
static long long metric(exj_metrics *metrics, const char *name)
{
    exj_buf text = EXJ_BUF_INIT;
    long long sum = 0;

    CHECK(exj_metrics_render(metrics, &text, &err) == EXJ_OK);
    for (const char *at = text.p; (at = strstr(at, name)); at++)
        if ((at == text.p || at[-1] == '\n') && strchr(" {", at[strlen(name)]))
            sum += strtoll((const char *)memchr(at, ' ', strcspn(at, "\n")) + 1, NULL, 10);
    exj_buf_release(&text);
    return sum;
}

static void wait_some(exj_engine *e, exj_msec ms)
{
    exj_engine_wait_idle(e, exj_clock_mono_ns() + ms * 1000000);
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "race", .executor = "test-engine", .max_concurrent = 4,
                             .lease_ms = LEASE_MS, .one_cycle = true };
    uint64_t seed = exj_random_u64() % 1000000;
    unsigned before = 0, after = 0;
    int64_t counts[EXJ_STATUS_COUNT] = { 0 };
    exj_engine_counts n;
    exj_store *store = NULL;
    exj_engine *engine;
    exj_flaky *flaky;
    exj_tmp tmp;

    printf("race_flaky: seed %llu\n", (unsigned long long)seed);
    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &store, &err) ==
          EXJ_OK);
    put(store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\",\"execution\":{\"concurrency\":4,"
        "\"retry\":{\"maxAttempts\":50}}},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"input\":{\"count\":600,\"page\":50,\"record\":{\"steps\":1}},"
        "\"dataSource\":{\"kind\":\"storage\",\"resolver\":\"test-source\"}}}");
    flaky = exj_flaky_new(store, seed, true);
    CHECK(flaky);
    atomic_store(&flaky->lost_before, 50);
    atomic_store(&flaky->lost_after, 50);
    atomic_store(&flaky->reads_lost, 50);
    o.store = &flaky->base;
    CHECK(exj_registry_new(dirs, NULL, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    CHECK(o.metrics);
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    for (int i = 0; i < 2; i++) { /* longer than some pauses, shorter than a lease */
        wait_some(engine, 100);
        atomic_store(&flaky->away, true);
        wait_some(engine, 600);
        atomic_store(&flaky->away, false);
    }
    CHECK(exj_engine_wait_idle(engine, exj_clock_mono_ns() + 200000000000));
    exj_engine_get_counts(engine, &n);
    CHECK(!n.store_failed);
    CHECK(exj_engine_stop(engine, 20000) == 0);
    CHECK(store->v->pools(store, count, counts, &err) == EXJ_OK);
    for (int k = 0; k < EXJ_OP_COUNT; k++) {
        before += atomic_load(&flaky->count_before[k]);
        after += atomic_load(&flaky->count_after[k]);
    }
    printf("race_flaky: %lld of %d rows completed, %lld executions, %llu outcomes counted, %llu "
           "refused; lost: %u operations (%u outcomes), %u answers (%u of outcomes), %u reads\n",
           (long long)counts[EXJ_COMPLETED], ROWS,
           metric(o.metrics, "matrix_execute_duration_seconds_count"),
           (unsigned long long)n.completed, (unsigned long long)n.fenced, before,
           atomic_load(&flaky->count_before[EXJ_OP_FINISH]), after,
           atomic_load(&flaky->count_after[EXJ_OP_FINISH]), atomic_load(&flaky->count_reads));
    CHECK(counts[EXJ_COMPLETED] == ROWS);
    CHECK(metric(o.metrics, "matrix_execute_duration_seconds_count") == ROWS);
    CHECK(n.completed == ROWS);
    CHECK(n.fenced == 0);
    CHECK(before && after);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    exj_support_clean();
    return 0;
}
