/* The whole engine in process, for TSan: a resolver, workers, a keeper, and threads that
 * pause, resume, wake and look at it all the while. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

#define ROWS 3000

static exj_engine *engine;
static atomic_bool over;

static void *disturb(void *arg)
{
    exj_metrics *metrics = arg;
    exj_err err = { 0 };

    while (!atomic_load(&over)) {
        exj_engine_counts c, now;
        exj_buf text = EXJ_BUF_INIT;
        char why[256];
        json_t *status;

        exj_engine_pause(engine);
        exj_engine_get_counts(engine, &c);
        exj_engine_resume(engine);
        exj_engine_wake(engine);
        do { /* a pause gives claims back: without a while of running nothing would end */
            sched_yield();
            exj_engine_get_counts(engine, &now);
        } while (!atomic_load(&over) && now.completed == c.completed);
        status = exj_engine_status(engine, (exj_slice){ 0 });
        CHECK(status);
        json_decref(status);
        exj_engine_health(engine, why, sizeof(why));
        CHECK(exj_metrics_render(metrics, &text, &err) == EXJ_OK);
        exj_buf_release(&text);
    }
    return NULL;
}

static bool count(void *user, const exj_pool_info *p)
{
    int64_t *completed = user;

    *completed += p->counts[EXJ_COMPLETED];
    return true;
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "race", .executor = "noop-engine",
                             .max_concurrent = 4, .one_cycle = true,
                             .exclusive_store = true };
    pthread_t disturber;
    exj_err err = { 0 };
    int64_t completed = 0;
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
    put(o.store, EXJ_DOC_GRAPH, "h",
        "{\"graphId\":\"h\",\"payload\":{\"graphId\":\"h\",\"execution\":{\"concurrency\":1}},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Ready\"}");
    put(o.store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\",\"h\"],"
        "\"input\":{\"count\":3000,\"page\":200},"
        "\"dataSource\":{\"kind\":\"storage\",\"resolver\":\"test-source\"}}}");
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    CHECK(!pthread_create(&disturber, NULL, disturb, o.metrics));
    idle = exj_engine_wait_idle(engine, exj_clock_mono_ns() + 240000000000);
    atomic_store(&over, true);
    pthread_join(disturber, NULL);
    CHECK(idle);
    CHECK(exj_engine_stop(engine, 10000) == 0);
    CHECK(o.store->v->pools(o.store, count, &completed, &err) == EXJ_OK);
    CHECK(completed == 2 * ROWS);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    printf("race_engine: %d rows completed while it was disturbed\n", 2 * ROWS);
    exj_support_clean();
    return 0;
}
