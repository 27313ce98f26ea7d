/* Ticks of schedules become rows and cycles: once, whoever fires them, and whatever fails. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/run/schedules.h"
#include "core/store/sqlite/internal.h"
#include "tests/support/fault.h"

#define HOUR 3600000LL
#define BEGIN (500000 * HOUR + HOUR / 6) /* ten past a full hour */

static char dir[64];
static exj_store *s;
static atomic_int_least64_t now;

static exj_msec wall(void *user)
{
    (void)user;
    return atomic_load(&now);
}

static exj_nsec mono(void *user)
{
    (void)user;
    return 1;
}

static void open_with(int64_t max_pages)
{
    exj_sqlite_seam seam = { .wall_ms = wall, .mono_ns = mono, .max_pages = max_pages };
    exj_err err = { 0 };

    cr_assert_eq(exj_sqlite_open_seam(&(exj_sqlite_options){ .dir = dir, .fast = true }, &seam,
                                      &s, &err),
                 EXJ_OK, "%s", err.text);
}

static void setup(void)
{
    atomic_store(&now, BEGIN);
    snprintf(dir, sizeof dir, "/tmp/exj-schedules-XXXXXX");
    cr_assert(mkdtemp(dir));
    open_with(0);
}

static void teardown(void)
{
    char command[128];

    s->v->close(s);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(schedules, .init = setup, .fini = teardown, .timeout = 60);

static void put(exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    cr_assert_eq(exj_store_do(s, &op, NULL), EXJ_OK);
}

static void matrix(void)
{
    put(EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\",\"h\"],\"dataSource\":{"
        "\"kind\":\"event\"}}}");
}

static void schedule(const char *id, const char *members, const char *start)
{
    char body[600];

    snprintf(body, sizeof body, "{\"scheduleId\":\"%s\",\"payload\":{%s,\"start\":{%s}}}", id,
             members, start);
    put(EXJ_DOC_SCHEDULE, id, body);
}

#define HOURLY "\"cron\":\"0 * * * *\",\"missed\":\"all\",\"maxMissed\":1000"
#define STARTS "\"matrixCatalogId\":\"m\",\"graphId\":\"g\""

static exj_fired fire(exj_msec *ret_next)
{
    exj_fired n;
    exj_msec next = 0;
    exj_err err = { 0 };

    cr_assert_eq(exj_schedules_fire(s, NULL, &n, &next, &err), EXJ_OK, "%s", err.text);
    if (ret_next)
        *ret_next = next;
    return n;
}

static bool add_queued(void *user, const exj_pool_info *p)
{
    *(int64_t *)user += p->counts[EXJ_QUEUED];
    return true;
}

static int64_t queued(void)
{
    int64_t n = 0;

    cr_assert_eq(s->v->pools(s, add_queued, &n, NULL), EXJ_OK);
    return n;
}

static bool copy_view(void *user, const exj_schedule_view *v)
{
    exj_schedule_view *ret = user;

    *ret = *v;
    ret->error.p = v->error.n ? "some" : NULL; /* only its length is looked at */
    return true;
}

static exj_schedule_view view(const char *id)
{
    exj_schedule_view v = { 0 };

    cr_assert_eq(s->v->schedule_get(s, exj_slice_of(id), copy_view, &v, NULL), EXJ_OK);
    return v;
}

/* ---- what is fired ------------------------------------------------------------------------- */

Test(schedules, a_tick_makes_a_row_of_each_graph_and_says_when_the_next_is)
{
    exj_msec next;
    exj_fired n;

    matrix();
    schedule("s", HOURLY, "\"matrixCatalogId\":\"m\"");
    n = fire(&next);
    cr_expect_eq(n.ticks, 0);
    cr_expect_eq(next, BEGIN - HOUR / 6 + HOUR);
    atomic_store(&now, next);
    n = fire(&next);
    cr_expect_eq(n.ticks, 1);
    cr_expect_eq(n.rows, 2);
    cr_expect_eq(next, BEGIN - HOUR / 6 + 2 * HOUR);
    n = fire(NULL);
    cr_expect_eq(n.ticks, 0);
    cr_expect_eq(queued(), 2);
}

Test(schedules, more_ticks_than_fit_in_a_group_are_fired_in_groups)
{
    exj_msec next;
    exj_fired n;

    matrix();
    schedule("s", HOURLY, STARTS);
    fire(NULL);
    atomic_fetch_add(&now, 333 * HOUR);
    n = fire(&next);
    cr_expect_eq(n.ticks, 333);
    cr_expect_eq(queued(), 333);
    cr_expect_gt(next, atomic_load(&now));
    cr_expect_eq(view("s").fired, 333);
}

static bool count_run(void *user, exj_slice m, exj_slice run, bool asked)
{
    cr_expect(exj_slice_is(m, "m") && asked && run.n > 2 && run.p[0] == 's');
    ++*(int *)user;
    return true;
}

Test(schedules, a_cycle_is_asked_for_and_makes_no_row_here)
{
    int runs = 0;
    exj_fired n;

    matrix();
    schedule("s", HOURLY, "\"matrixCatalogId\":\"m\",\"run\":true");
    fire(NULL);
    atomic_fetch_add(&now, 3 * HOUR);
    n = fire(NULL);
    cr_expect_eq(n.runs, 3);
    cr_expect_eq(queued(), 0);
    cr_assert_eq(s->v->runs(s, count_run, &runs, NULL), EXJ_OK);
    cr_expect_eq(runs, 3);
}

/* ---- documents that change ------------------------------------------------------------------ */

Test(schedules, other_times_count_from_the_change_and_the_same_times_go_on)
{
    matrix();
    schedule("s", HOURLY, STARTS);
    schedule("t", HOURLY, STARTS);
    fire(NULL);
    atomic_fetch_add(&now, 2 * HOUR);
    schedule("s", "\"cron\":\"*/30 * * * *\",\"missed\":\"all\"", STARTS); /* times */
    schedule("t", HOURLY ",\"graceSeconds\":1", STARTS);                   /* not times */
    atomic_fetch_add(&now, HOUR / 2);
    fire(NULL);
    cr_expect_eq(view("s").fired, 1);
    cr_expect_eq(view("t").fired, 2);
    cr_expect_eq(queued(), 3);
}

Test(schedules, a_schedule_that_is_deleted_and_made_again_is_a_new_one)
{
    exj_op op = { .kind = EXJ_OP_DOC_DELETE };

    matrix();
    schedule("s", HOURLY, STARTS);
    fire(NULL);
    atomic_fetch_add(&now, 2 * HOUR);
    op.u.doc.kind = EXJ_DOC_SCHEDULE;
    op.u.doc.id = exj_slice_of("s");
    op.u.doc.expected = -1;
    cr_assert_eq(exj_store_do(s, &op, NULL), EXJ_OK);
    schedule("s", HOURLY, STARTS);
    cr_expect_eq(fire(NULL).ticks, 0);
    cr_expect_eq(queued(), 0);
}

Test(schedules, a_document_that_cannot_be_read_does_not_hold_up_the_others)
{
    exj_msec next;
    exj_fired n;

    matrix();
    put(EXJ_DOC_SCHEDULE, "a", "{\"scheduleId\":\"a\",\"payload\":{\"cron\":\"0 * * * *\","
                               "\"zone\":\"No/Where\",\"start\":{\"matrixCatalogId\":\"m\"}}}");
    schedule("s", HOURLY, STARTS);
    fire(NULL);
    atomic_fetch_add(&now, HOUR);
    n = fire(&next);
    cr_expect_eq(n.failed, 1);
    cr_expect_eq(n.ticks, 1);
    cr_expect_gt(next, atomic_load(&now)); /* and nobody spins */
    cr_expect(view("a").error.n > 0);
    schedule("a", HOURLY, STARTS);
    cr_expect_eq(fire(NULL).failed, 0);
    cr_expect(view("a").error.n == 0);
}

Test(schedules, a_tick_whose_matrix_is_missing_waits_for_it_as_the_policy_allows)
{
    exj_msec next;

    schedule("s", "\"cron\":\"0 * * * *\",\"missed\":\"once\"", STARTS);
    schedule("k", "\"cron\":\"0 * * * *\",\"missed\":\"skip\"", STARTS);
    fire(NULL);
    atomic_fetch_add(&now, HOUR * 5 / 6);
    cr_expect_eq(fire(&next).failed, 2);
    cr_expect_eq(next, atomic_load(&now) + 30000);
    matrix();
    atomic_fetch_add(&now, HOUR / 2);
    cr_expect_eq(fire(NULL).ticks, 1);
    cr_expect_eq(view("s").fired, 1);
    cr_expect_eq(view("k").fired, 0);
    cr_expect_eq(view("k").skipped, 1);
}

/* ---- several who fire ------------------------------------------------------------------------- */

#define WORKERS 4

static void *fire_on(void *user)
{
    uint64_t *fired = user;

    for (int i = 0; i < 60; i++) {
        exj_fired n = { 0 };
        exj_msec next;

        if (exj_schedules_fire(s, NULL, &n, &next, NULL) != EXJ_OK)
            return NULL;
        *fired += n.ticks;
        atomic_fetch_add(&now, HOUR / 4);
    }
    return NULL;
}

/* spec 2.8: one tick never fires twice over N workers. */
Test(schedules, workers_that_fire_at_once_fire_each_tick_once)
{
    pthread_t threads[WORKERS];
    uint64_t fired[WORKERS] = { 0 }, sum = 0;

    matrix();
    schedule("s", HOURLY, STARTS);
    fire(NULL);
    for (int i = 0; i < WORKERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, fire_on, &fired[i]), 0);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        sum += fired[i];
    }
    sum += fire(NULL).ticks;
    cr_expect_eq(sum, WORKERS * 60 / 4);
    cr_expect_eq(queued(), WORKERS * 60 / 4);
    cr_expect_eq(view("s").fired, WORKERS * 60 / 4);
}

/* ---- what fails ---------------------------------------------------------------------------------- */

Test(schedules, without_memory_no_tick_is_lost_or_fired_twice)
{
    uint64_t ticks = 0;
    long n;

    matrix();
    schedule("s", HOURLY, STARTS);
    schedule("r", HOURLY, "\"matrixCatalogId\":\"m\",\"run\":true");
    fire(NULL);
    for (n = 1; n < 2000; n++) {
        exj_fired f;
        exj_msec next;
        exj_err err = { 0 };
        exj_code rc;

        atomic_fetch_add(&now, HOUR);
        ticks++;
        exj_fault_arm(n);
        rc = exj_schedules_fire(s, NULL, &f, &next, &err);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_OK, "%s", err.text);
            break;
        }
        cr_expect(rc == EXJ_OK || rc == EXJ_NOMEM, "%s: %s", exj_code_name(rc), err.text);
    }
    cr_assert_lt(n, 2000);
    fire(NULL);
    cr_expect_eq(view("s").fired, ticks);
    cr_expect_eq(view("r").fired, ticks);
    cr_expect_eq(queued(), (int64_t)ticks);
}

Test(schedules, a_full_disk_leaves_the_tick_due)
{
    exj_fired n;
    exj_msec next;
    exj_err err = { 0 };
    exj_code rc = EXJ_OK;
    uint64_t ticks = 0, fired = 0;

    matrix();
    schedule("s", HOURLY, STARTS);
    fire(NULL);
    s->v->close(s);
    open_with(120); /* pages: some hundred rows more */
    while (rc == EXJ_OK && ticks < 100000) {
        atomic_fetch_add(&now, 100 * HOUR);
        ticks += 100;
        rc = exj_schedules_fire(s, NULL, &n, &next, &err);
        fired += n.ticks;
    }
    cr_assert_eq(rc, EXJ_FULL, "%s: %s", exj_code_name(rc), err.text);
    s->v->close(s);
    open_with(0);
    fired += fire(NULL).ticks;
    cr_expect_eq(fired, ticks);
    cr_expect_eq(view("s").fired, ticks);
    cr_expect_eq(queued(), (int64_t)ticks);
}
