/* Schedules under a clock that is set forward all the while: two that fire at once, an operator
 * who pauses and resumes, one who deletes and writes, and a store that now and then fails the
 * group of a tick and its rows. No tick is lost, none fires twice, and none while it is paused. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/run/engine.h"
#include "core/run/schedules.h"
#include "core/store/sqlite/internal.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

#define STEPS 200
#define LEAST 20u /* of each disturbance */

#define SCHEDULE(id)                                                                        \
    "{\"scheduleId\":\"" id "\",\"payload\":{\"everySeconds\":1,\"missed\":\"all\","        \
    "\"maxMissed\":1000,\"start\":{\"matrixCatalogId\":\"m\"}}}"

static exj_engine *engine;
static exj_store *store;
static const exj_store_vtable *real;
static exj_err err; /* none */
static _Atomic exj_msec moved;
static atomic_bool over;
static atomic_uint groups, failed, pauses, deletes;

static exj_msec wall(void *user)
{
    (void)user;
    return exj_clock_wall_ms() + atomic_load(&moved);
}

static exj_nsec mono(void *user)
{
    (void)user;
    return exj_clock_mono_ns() + atomic_load(&moved) * 1000000;
}

static void submit(exj_store *s, exj_op *first)
{
    exj_op *next;

    if (first->kind != EXJ_OP_SCHEDULE_TICK || !first->with_next ||
        atomic_fetch_add(&groups, 1) % 6 != 5) {
        real->submit(s, first);
        return;
    }
    atomic_fetch_add(&failed, 1);
    for (exj_op *op = first; op; op = next) {
        next = op->next;
        op->rc = exj_err_set(&op->err, op == first ? EXJ_CANCELLED : EXJ_FULL, "told to fail");
        op->done(op);
    }
}

static void *fire(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        exj_fired fired;
        exj_msec next = 0;
        exj_err why = { 0 };
        exj_code rc = exj_schedules_fire(store, NULL, &fired, &next, &why);

        CHECK(rc == EXJ_OK || rc == EXJ_FULL);
        exj_engine_schedules_changed(engine);
        sched_yield();
    }
    return NULL;
}

static uint64_t fired_of(const char *id)
{
    exj_schedule_now now = { 0 };
    uint64_t n;

    CHECK(exj_schedule_now_get(store, exj_slice_of(id), &now, &err) == EXJ_OK);
    n = now.view.fired;
    exj_schedule_now_release(&now);
    return n;
}

static void set_paused(const char *id, bool paused)
{
    exj_code rc;

    do { /* a tick may be faster */
        exj_schedule_now now = { 0 };
        exj_op op;

        CHECK(exj_schedule_now_get(store, exj_slice_of(id), &now, &err) == EXJ_OK);
        CHECK(exj_schedule_pause_op(store, &now, paused, &op, &err) == EXJ_OK);
        rc = exj_store_do(store, &op, NULL);
        CHECK(rc == EXJ_OK || rc == EXJ_CONFLICT);
        exj_schedule_now_release(&now);
    } while (rc == EXJ_CONFLICT);
    exj_engine_schedules_changed(engine);
}

static void *pause_and_resume(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        uint64_t before;

        set_paused("pauses", true);
        before = fired_of("pauses");
        for (int k = 0; k < 20; k++)
            sched_yield();
        CHECK(fired_of("pauses") == before);
        set_paused("pauses", false);
        atomic_fetch_add(&pauses, 1);
        sched_yield();
    }
    return NULL;
}

static void *delete_and_write(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        exj_op op = { .kind = EXJ_OP_DOC_DELETE };

        op.u.doc.kind = EXJ_DOC_SCHEDULE;
        op.u.doc.id = EXJ_SLICE_LITERAL("gone");
        op.u.doc.expected = -1;
        CHECK(exj_store_do(store, &op, &err) == EXJ_OK);
        exj_engine_schedules_changed(engine);
        sched_yield();
        put(store, EXJ_DOC_SCHEDULE, "gone", SCHEDULE("gone"));
        exj_engine_schedules_changed(engine);
        atomic_fetch_add(&deletes, 1);
    }
    return NULL;
}

struct rows {
    const char *prefix;
    int64_t after;
    uint64_t n;
};

static bool count_row(void *user, const exj_row_view *v)
{
    struct rows *r = user;

    r->after = v->seq;
    r->n += v->record_id.n > strlen(r->prefix) &&
            memcmp(v->record_id.p, r->prefix, strlen(r->prefix)) == 0;
    return true;
}

static uint64_t rows_of(const char *prefix)
{
    struct rows r = { .prefix = prefix };
    int64_t before;

    do {
        exj_row_filter f = { .status = -1, .after_seq = before = r.after, .limit = 1000 };

        CHECK(real->row_page(store, &f, count_row, &r, &err) == EXJ_OK);
    } while (r.after != before);
    return r.n;
}

static bool is_a_second_later(void *user)
{
    exj_schedule_now now = { 0 };
    bool is;

    CHECK(exj_schedule_now_get(store, EXJ_SLICE_LITERAL("always"), &now, &err) == EXJ_OK);
    is = now.view.turn > 0 && now.view.next_due > *(exj_msec *)user;
    exj_schedule_now_release(&now);
    return is;
}

/* Every second since it was written has its row, once. */
static void check_whole(const char *id, const char *prefix)
{
    exj_schedule_now now = { 0 };

    CHECK(exj_schedule_now_get(store, exj_slice_of(id), &now, &err) == EXJ_OK);
    CHECK(now.view.skipped == 0);
    CHECK(now.view.fired == (uint64_t)(now.last_tick / 1000 - now.view.created_at / 1000));
    CHECK(rows_of(prefix) == now.view.fired);
    exj_schedule_now_release(&now);
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_engine_options o = { .worker_id = "race", .executor = "noop-engine",
                             .max_concurrent = 2, .lease_ms = 900000 };
    exj_sqlite_seam seam = { .wall_ms = wall, .mono_ns = mono };
    void *(*const jobs[])(void *) = { fire, fire, pause_and_resume, delete_and_write };
    pthread_t threads[4];
    exj_store_vtable spy;
    exj_fired fired;
    exj_msec next;
    exj_tmp tmp;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open_seam(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &seam,
                               &store, &err) == EXJ_OK);
    real = store->v;
    spy = *real;
    spy.submit = submit;
    store->v = &spy;
    o.store = store;
    CHECK(exj_registry_new(dirs, NULL, &o.plugins, &err) == EXJ_OK);
    o.metrics = exj_metrics_new();
    CHECK(o.metrics);
    put(store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"dataSource\":{\"kind\":\"event\"}}}");
    put(store, EXJ_DOC_SCHEDULE, "always", SCHEDULE("always"));
    put(store, EXJ_DOC_SCHEDULE, "pauses", SCHEDULE("pauses"));
    put(store, EXJ_DOC_SCHEDULE, "gone", SCHEDULE("gone"));
    CHECK(exj_engine_start(&o, &engine, &err) == EXJ_OK);
    for (size_t k = 0; k < 4; k++)
        CHECK(!pthread_create(&threads[k], NULL, jobs[k], NULL));
    for (int k = 0; k < STEPS || atomic_load(&failed) < LEAST || atomic_load(&pauses) < LEAST ||
                    atomic_load(&deletes) < LEAST; k++) {
        exj_msec now;

        atomic_fetch_add(&moved, k % 50 == 9 ? 40000 : 1000);
        exj_engine_schedules_changed(engine);
        now = real->now(store) - 2000;
        if (k % 2 == 0) /* the others are left behind now and then */
            CHECK(exj_until(is_a_second_later, &now, -1, 1, 60000));
    }
    atomic_store(&over, true);
    for (size_t k = 0; k < 4; k++)
        pthread_join(threads[k], NULL);
    CHECK(exj_engine_stop(engine, 10000) == 0);
    store->v = real;
    CHECK(exj_schedules_fire(store, NULL, &fired, &next, &err) == EXJ_OK);
    check_whole("always", "always@");
    CHECK(rows_of("pauses@") == fired_of("pauses"));
    printf("race_schedules: %" PRIu64 " ticks, %u groups failed, %u pauses, %u deletes\n",
           fired_of("always"), atomic_load(&failed), atomic_load(&pauses),
           atomic_load(&deletes));
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    store->v->close(store);
    exj_support_clean();
    return 0;
}
