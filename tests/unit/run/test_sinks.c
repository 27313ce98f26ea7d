/* Event sinks when memory is short: every event arrives at least once, those of a row in order,
 * whatever allocation fails. */
#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/run/sinks.h"
#include "core/store/sqlite/internal.h"
#include "tests/support/fault.h"

#define EVENTS_MOST 20000

static char dir[64];
static exj_store *store;
static exj_registry *plugins;
static exj_msec now = 1800000000000;
static int64_t pool, rows;

static exj_msec wall(void *user)
{
    (void)user;
    return now;
}

static exj_nsec mono(void *user)
{
    (void)user;
    return now * 1000000;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void setup(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/race-plugins", NULL };
    exj_sqlite_seam seam = { .wall_ms = wall, .mono_ns = mono };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };

    snprintf(dir, sizeof(dir), "/tmp/exj-sinks-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(exj_sqlite_open_seam(&(exj_sqlite_options){ .dir = dir, .fast = true }, &seam,
                                      &store, &err),
                 EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_registry_new(dirs, NULL, &plugins, &err), EXJ_OK, "%s", err.text);
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
    pool = op.u.pool.ret_pool;
}

static void teardown(void)
{
    exj_registry_free(plugins);
    store->v->close(store);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(sinks, .init = setup, .fini = teardown);

/* Three rows with two events each: they come, and are cancelled. */
static void make_events(void)
{
    for (int k = 0; k < 3; k++) {
        char id[20];
        exj_insert_item item = { .input = EXJ_SLICE_LITERAL("{}") };
        exj_op op = { .kind = EXJ_OP_INSERT }, cancel = { .kind = EXJ_OP_CANCEL };
        exj_err err = { 0 };

        snprintf(id, sizeof(id), "r%lld", (long long)++rows);
        item.record_id = exj_slice_of(id);
        op.u.insert.pool = pool;
        op.u.insert.max_attempts = 1;
        op.u.insert.items = &item;
        op.u.insert.len = 1;
        cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
        cancel.u.cancel.seq = item.seq;
        cr_assert_eq(exj_store_do(store, &cancel, &err), EXJ_OK, "%s", err.text);
    }
}

static exj_code open_sinks(exj_sinks **ret)
{
    char config[600];
    exj_err err = { 0 };

    snprintf(config, sizeof(config),
             "{\"sinks\":[{\"name\":\"a\",\"plugin\":\"race-sink\",\"isolation\":\"in-process\","
             "\"maxAttempts\":1000,\"maxRetrySeconds\":2,"
             "\"config\":{\"log\":\"%s/log\",\"cure\":\"%s/cure\"}}]}",
             dir, dir);
    return exj_sinks_open(store, plugins, exj_slice_of(config), ret, &err);
}

static bool is_done(exj_sinks *s)
{
    json_t *list = exj_sinks_status(s), *o = json_array_get(list, 0);
    bool done = json_integer_value(json_object_get(o, "position")) == 2 * rows &&
                json_integer_value(json_object_get(o, "held")) == 0;

    json_decref(list);
    return done;
}

static bool note_row(void *user, const exj_event_view *v)
{
    int64_t **at = user;

    *(*at)++ = v->entry.seq;
    return true;
}

/* Both events of each row are in the log, the second not before the first. */
static void check_log(void)
{
    static bool came[EVENTS_MOST + 1];
    static int64_t row[EVENTS_MOST + 1];
    int64_t *at = &row[1];
    char path[80];
    long long n;
    FILE *f;

    cr_assert_leq(2 * rows, 10000);
    cr_assert_eq(store->v->events(store, 0, 10000, note_row, &at, NULL), EXJ_OK);
    cr_assert_eq(at, &row[1 + 2 * rows]);
    snprintf(path, sizeof(path), "%s/log", dir);
    f = fopen(path, "r");
    cr_assert(f);
    while (fscanf(f, "%lld", &n) == 1) {
        cr_assert(n >= 1 && n <= 2 * rows);
        came[n] = true;
        for (long long b = n - 1; b >= 1 && b >= n - 6; b--)
            cr_assert(row[b] != row[n] || came[b], "%lld came before %lld", n, b);
    }
    fclose(f);
    for (n = 1; n <= 2 * rows; n++)
        cr_assert(came[n], "event %lld never came", n);
}

Test(sinks, every_event_arrives_in_order_although_memory_is_short, .timeout = 100)
{
    exj_sinks *s = NULL;
    long n;
    bool tried = true;

    for (n = 1; tried && n < 1000; n++) {
        exj_code rc;

        make_events();
        now += 10000;
        exj_fault_arm(n);
        rc = open_sinks(&s);
        if (rc == EXJ_OK) {
            exj_sinks_flush(s, 0);
            cr_assert_eq(exj_sinks_stop(s, 0), 0u);
        }
        tried = exj_fault_disarm() >= n;
        cr_assert(rc == EXJ_OK || rc == EXJ_NOMEM, "%ld: %d", n, rc);
    }
    cr_assert_gt(n, 20);
    cr_assert_eq(open_sinks(&s), EXJ_OK);
    for (int k = 0; k < 5000 && !is_done(s); k++) {
        now += 10000;
        exj_sinks_flush(s, 0);
    }
    cr_assert(is_done(s));
    cr_assert_eq(exj_sinks_stop(s, 0), 0u);
    check_log();
}

static const exj_store_vtable *real;
static unsigned turns;

static void fail_saves(exj_store *s, exj_op *first)
{
    if (first->kind != EXJ_OP_SINK_SAVE || turns++ % 2) {
        real->submit(s, first);
        return;
    }
    first->rc = exj_err_set(&first->err, EXJ_IO, "the disk is bad");
    first->done(first);
}

Test(sinks, what_could_not_be_saved_comes_again)
{
    exj_store_vtable broken;
    exj_sinks *s = NULL;

    real = store->v;
    broken = *real;
    broken.submit = fail_saves;
    store->v = &broken;
    for (int k = 0; k < 20; k++)
        make_events();
    cr_assert_eq(open_sinks(&s), EXJ_OK);
    for (int k = 0; k < 1000 && !is_done(s); k++) {
        now += 10000;
        exj_sinks_flush(s, 0);
    }
    cr_assert(is_done(s));
    cr_assert_eq(exj_sinks_stop(s, 0), 0u);
    store->v = real;
    check_log();
    cr_assert_gt(turns, 2u);
}
