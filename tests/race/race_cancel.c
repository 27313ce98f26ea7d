/* Rows are cancelled from many threads while the engine claims, runs and finishes them, and
 * while they tell how far they are; then the engine is stopped in the middle of it. A row that
 * was cancelled before it ran never ends otherwise, and nothing is told after a row's end. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/run/engine.h"
#include "tests/race/rows.h"
#include "tests/support/support.h"

#define GROUPS 15
#define ROWS (GROUPS * ROWS_AT_ONCE) /* of each half */
#define CANCELLERS 3

static exj_engine *engine;
static exj_store *store;
static exj_err err; /* none */
static atomic_bool over;
static atomic_int at_once, asked;
static atomic_bool is_canceled[2 * ROWS + 1];
static bool is_over[2 * ROWS + 1];

static void insert_rows(int64_t pool, int from, int n, const char *input)
{
    exj_insert_item items[ROWS_AT_ONCE];
    char ids[ROWS_AT_ONCE][20];
    exj_op op = { .kind = EXJ_OP_INSERT };

    for (int k = 0; k < n; k++) {
        snprintf(ids[k], sizeof(ids[k]), "r%d", from + k);
        items[k] = (exj_insert_item){ .record_id = exj_slice_of(ids[k]),
                                      .input = exj_slice_of(input) };
    }
    op.u.insert.pool = pool;
    op.u.insert.max_attempts = 1000;
    op.u.insert.items = items;
    op.u.insert.len = (size_t)n;
    CHECK(exj_store_do(store, &op, &err) == EXJ_OK);
    exj_engine_rows_came(engine, pool);
}

/* As the command does it: the store first, then whoever runs it. */
static void *cancel(void *arg)
{
    uint64_t seed = (uint64_t)(intptr_t)arg;

    while (!atomic_load(&over)) {
        int64_t seq = 1 + (int64_t)(exj_test_random(&seed) % (2 * ROWS));
        exj_op op = { .kind = EXJ_OP_CANCEL };

        op.u.cancel.seq = seq;
        op.u.cancel.why = EXJ_SLICE_LITERAL("a race");
        if (exj_store_do(store, &op, NULL) == EXJ_OK) {
            atomic_fetch_add(op.u.cancel.ret_to == EXJ_CANCELED ? &at_once : &asked, 1);
            if (op.u.cancel.ret_to == EXJ_CANCELED)
                atomic_store(&is_canceled[seq], true);
        }
        exj_engine_cancel_row(engine, seq);
        for (int y = 0; y < 20; y++)
            sched_yield();
    }
    return NULL;
}

struct sum {
    int64_t ended, open;
};

static bool add_pool(void *user, const exj_pool_info *p)
{
    struct sum *s = user;

    s->ended += p->counts[EXJ_COMPLETED] + p->counts[EXJ_CANCELED];
    for (int k = 0; k < EXJ_STATUS_COUNT; k++)
        if (k != EXJ_COMPLETED && k != EXJ_CANCELED)
            s->open += p->counts[k];
    return true;
}

static bool have_all_ended(void *user)
{
    struct sum s = { 0 };

    CHECK(store->v->pools(store, add_pool, &s, &err) == EXJ_OK);
    return s.ended >= *(int64_t *)user;
}

struct told {
    int64_t last;
    uint64_t progress;
};

static bool check_event(void *user, const exj_event_view *v)
{
    struct told *t = user;
    int64_t seq = v->entry.seq;

    t->last = v->entry.number;
    t->progress += v->entry.kind == EXJ_ENTRY_PROGRESS;
    CHECK(!is_over[seq]);
    is_over[seq] = v->entry.kind == EXJ_ENTRY_COMPLETED || v->entry.kind == EXJ_ENTRY_CANCELED;
    if (v->entry.kind == EXJ_ENTRY_COMPLETED)
        CHECK(!atomic_load(&is_canceled[seq]));
    return true;
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "race", .executor = "test-engine",
                             .max_concurrent = 6, .prefetch = 50 };
    pthread_t threads[CANCELLERS];
    struct told told = { 0 };
    struct sum sum = { 0 };
    int64_t pool, wanted = ROWS, before = -1;
    uint64_t seed = exj_test_seed("race_cancel");
    exj_tmp tmp;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &o.store,
                          &err) == EXJ_OK);
    store = o.store;
    CHECK(exj_registry_new(dirs, NULL, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    CHECK(o.metrics);
    put(store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"dataSource\":{\"kind\":\"event\"}}}");
    pool = rows_pool(store, "g");
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    for (intptr_t k = 0; k < CANCELLERS; k++)
        CHECK(!pthread_create(&threads[k], NULL, cancel,
                              (void *)(intptr_t)(exj_test_random(&seed) >> 1)));
    for (int k = 0; k < GROUPS; k++) {
        insert_rows(pool, k * ROWS_AT_ONCE, ROWS_AT_ONCE,
                    k % 2 ? "{\"progress\":3}" : "{\"progress\":2,\"sleepMs\":2}");
        exj_engine_pause(engine);
        sched_yield();
        exj_engine_resume(engine);
    }
    CHECK(exj_until(have_all_ended, &wanted, -1, 5, 120000));

    /* Now it is stopped while they run, tell and are cancelled. */
    for (int k = 0; k < GROUPS; k++)
        insert_rows(pool, ROWS + k * ROWS_AT_ONCE, ROWS_AT_ONCE,
                    "{\"progress\":4,\"sleepMs\":1}");
    wanted += 20;
    CHECK(exj_until(have_all_ended, &wanted, -1, 1, 60000));
    atomic_store(&over, true);
    exj_engine_pause(engine);
    for (int k = 0; k < CANCELLERS; k++)
        pthread_join(threads[k], NULL);
    exj_engine_resume(engine);
    CHECK(exj_engine_stop(engine, 20000) == 0);

    while (told.last != before) {
        before = told.last;
        CHECK(store->v->events(store, before, 1000, check_event, &told, &err) == EXJ_OK);
    }
    CHECK(store->v->pools(store, add_pool, &sum, &err) == EXJ_OK);
    CHECK(sum.ended + sum.open == 2 * ROWS);
    CHECK(told.progress > 0 && atomic_load(&at_once) + atomic_load(&asked) > 0);
    for (int64_t k = 1; k <= 2 * ROWS; k++)
        CHECK(!atomic_load(&is_canceled[k]) || is_over[k]);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    store->v->close(store);
    printf("race_cancel: %" PRId64 " ended, %" PRId64 " left; %d cancelled, %d asked to stop; "
           "%" PRIu64 " notes\n",
           sum.ended, sum.open, atomic_load(&at_once), atomic_load(&asked), told.progress);
    exj_support_clean();
    return 0;
}
