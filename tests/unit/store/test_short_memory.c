/* Reads of keys and failures when our own allocations fail, one after the other; then reads of
 * values when one of SQLite's does. (tests/contract/test_sqlite.c tries its heap limit.) */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/store/store.h"
#include "tests/support/fault.h"

static char dir[64];
static exj_store *s;
static char value[4000], long_value[20008]; /* the latter: see put_long_ones */

/* ---- SQLite's allocations ----------------------------------------------------------- */

static sqlite3_mem_methods inner;
static atomic_long left = -1, seen; /* as in tests/support/fault.c */

static bool fails(void)
{
    if (atomic_load(&left) < 0)
        return false;
    atomic_fetch_add(&seen, 1);
    return atomic_fetch_sub(&left, 1) == 1;
}

static void *short_malloc(int n)
{
    return fails() ? NULL : inner.xMalloc(n);
}

static void *short_realloc(void *p, int n)
{
    return fails() ? NULL : inner.xRealloc(p, n);
}

static void watch_sqlite(void) /* before anybody uses it; each test is a process of its own */
{
    sqlite3_mem_methods ours;

    cr_assert_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &inner), SQLITE_OK);
    ours = inner;
    ours.xMalloc = short_malloc;
    ours.xRealloc = short_realloc;
    cr_assert_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &ours), SQLITE_OK);
}

/* ---- the store ---------------------------------------------------------------------- */

static void setup(void)
{
    exj_op op = { .kind = EXJ_OP_KV_PUT };
    exj_err err = { 0 };

    watch_sqlite();
    snprintf(dir, sizeof dir, "/tmp/exj-memory-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(exj_sqlite_open(&(exj_sqlite_options){ .dir = dir, .fast = true }, &s, &err),
                 EXJ_OK, "%s", err.text);
    memset(value, '7', sizeof value - 1);
    op.u.kv.graph = EXJ_SLICE_LITERAL("g");
    op.u.kv.key = EXJ_SLICE_LITERAL("k");
    op.u.kv.value = (exj_slice){ value, sizeof value - 1 };
    cr_assert_eq(exj_store_do(s, &op, NULL), EXJ_OK);
}

static void teardown(void)
{
    static const char *const files[] = { "exellix-jobs.db", "exellix-jobs.db-wal",
                                         "exellix-jobs.db-shm", "exellix-jobs.lock" };
    char path[128];

    s->v->close(s);
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[k]);
        unlink(path);
    }
    rmdir(dir);
}

TestSuite(short_memory, .init = setup, .fini = teardown);

static exj_code get(exj_err *err)
{
    exj_buf got = EXJ_BUF_INIT;
    exj_code rc = s->v->kv_get(s, EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("k"), &got, err);

    if (rc == EXJ_OK)
        cr_assert(exj_slice_is(exj_buf_slice(&got), value));
    exj_buf_release(&got);
    return rc;
}

static bool ignore(void *user, const exj_kv_view *v)
{
    (void)user;
    return v->key.n == 1;
}

static exj_code page(exj_err *err)
{
    return s->v->kv_page(s, EXJ_SLICE_LITERAL("g"), (exj_slice){ 0 }, 10, ignore, NULL, err);
}

static exj_code failures(exj_err *err)
{
    uint32_t n = 99;
    exj_code rc = s->v->failure_count(s, 1, EXJ_SLICE_LITERAL("PluginCrashed"), &n, err);

    cr_assert_eq(n, rc == EXJ_OK ? 0 : 99);
    return rc;
}

static bool ignore_failure(void *user, const exj_failure_view *v)
{
    (void)user;
    return v->code.n > 0;
}

static exj_code each_failure(exj_err *err)
{
    return s->v->failure_each(s, 1, 10, ignore_failure, NULL, err);
}

/* Every allocation of the first read (which opens a connection) and of a later one fails once:
 * the text says where and the next try is good. */
static void fails_and_passes(exj_code (*read)(exj_err *))
{
    long tried = 0;

    for (long n = 1;; n++) {
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = read(&err);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK, "%s", err.text);
            break;
        }
        tried++;
        cr_assert_eq(rc, EXJ_NOMEM, "%s", err.text);
        cr_assert(strstr(err.text, dir), "%s", err.text);
    }
    cr_assert_gt(tried, 0);
    cr_assert_eq(read(NULL), EXJ_OK);
}

Test(short_memory, a_value_is_given_whole_or_not)
{
    fails_and_passes(get);
}

Test(short_memory, a_page_of_keys_says_so)
{
    fails_and_passes(page);
}

Test(short_memory, a_count_of_failures_says_so)
{
    fails_and_passes(failures);
}

Test(short_memory, the_failures_of_a_row_say_so)
{
    fails_and_passes(each_failure);
}

/* ---- without memory for SQLite ------------------------------------------------------ */

static exj_claim claim;

/* A claimed row with a long input and a long step; a long value of a key. Long: on several pages
 * of the file, and so that no room is left for more than one byte behind it (SQLite rounds what
 * it allocates up to 8). */
static void put_long_ones(void)
{
    exj_op pool = { .kind = EXJ_OP_POOL }, row = { .kind = EXJ_OP_INSERT },
           take = { .kind = EXJ_OP_CLAIM }, step = { .kind = EXJ_OP_STEP_PUT },
           kv = { .kind = EXJ_OP_KV_PUT };
    exj_insert_item item = { .record_id = EXJ_SLICE_LITERAL("1") };
    exj_want want = { .want = 1 };

    memset(long_value, '7', sizeof(long_value) - 1);
    item.input = exj_slice_of(long_value);
    pool.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    pool.u.pool.graph = EXJ_SLICE_LITERAL("g");
    cr_assert_eq(exj_store_do(s, &pool, NULL), EXJ_OK);
    row.u.insert.pool = want.pool = pool.u.pool.ret_pool;
    row.u.insert.max_attempts = 3;
    row.u.insert.items = &item;
    row.u.insert.len = 1;
    cr_assert_eq(exj_store_do(s, &row, NULL), EXJ_OK);
    take.u.claim.wants = &want;
    take.u.claim.wants_len = 1;
    take.u.claim.holder = "h";
    take.u.claim.nonce = 5;
    take.u.claim.lease_ms = 60000;
    take.u.claim.ret = &claim;
    cr_assert_eq(exj_store_do(s, &take, NULL), EXJ_OK);
    cr_assert_eq(take.u.claim.ret_len, 1);
    step.u.step.seq = claim.seq;
    step.u.step.nonce = claim.nonce;
    step.u.step.token = claim.token;
    step.u.step.attempt = claim.attempt;
    step.u.step.key = EXJ_SLICE_LITERAL("s");
    step.u.step.body = exj_slice_of(long_value);
    cr_assert_eq(exj_store_do(s, &step, NULL), EXJ_OK);
    kv.u.kv.graph = EXJ_SLICE_LITERAL("g");
    kv.u.kv.key = EXJ_SLICE_LITERAL("long");
    kv.u.kv.value = exj_slice_of(long_value);
    cr_assert_eq(exj_store_do(s, &kv, NULL), EXJ_OK);
}

/* Each of SQLite's allocations of a first read (which opens a connection), then of a later one,
 * fails once: the value comes whole or not at all. */
static void gives_all_or_nothing(exj_code (*read)(exj_buf *ret))
{
    int passes = 0;

    put_long_ones();
    for (long n = 1; passes < 2; n++) {
        exj_buf got = EXJ_BUF_INIT;
        exj_code rc;

        atomic_store(&seen, 0);
        atomic_store(&left, n);
        rc = read(&got);
        atomic_store(&left, -1);
        if (rc == EXJ_OK)
            cr_assert(exj_slice_is(exj_buf_slice(&got), long_value),
                      "pass %d, allocation %ld: %zu bytes are said to be all", passes, n, got.n);
        else
            cr_assert_eq(rc, EXJ_NOMEM, "pass %d, allocation %ld: %s", passes, n,
                         exj_code_name(rc));
        exj_buf_release(&got);
        if (atomic_load(&seen) < n) {
            cr_assert_eq(rc, EXJ_OK);
            cr_assert_gt(n, 1);
            passes++;
            n = 0;
        }
    }
}

static exj_code get_step(exj_buf *ret)
{
    return s->v->step_get(s, claim.seq, EXJ_SLICE_LITERAL("s"), ret, NULL);
}

Test(short_memory, a_step_is_given_whole_or_not_by_sqlite)
{
    gives_all_or_nothing(get_step);
}

static exj_code get_value(exj_buf *ret)
{
    return s->v->kv_get(s, EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("long"), ret, NULL);
}

Test(short_memory, a_value_is_given_whole_or_not_by_sqlite)
{
    gives_all_or_nothing(get_value);
}

static bool copy_input(void *user, const exj_row_view *v)
{
    return exj_buf_add_slice(user, v->input);
}

static exj_code get_row(exj_buf *ret)
{
    return s->v->row_by_seq(s, claim.seq, copy_input, ret, NULL);
}

Test(short_memory, the_input_of_a_row_is_given_whole_or_not_by_sqlite)
{
    gives_all_or_nothing(get_row);
}
