/* Reads of keys and failures when our own allocations fail, one after the other. (SQLite's own
 * are tried in tests/contract/test_sqlite.c, with its heap limit.) */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/store/store.h"
#include "tests/support/fault.h"

static char dir[64];
static exj_store *s;
static char value[4000];

static void setup(void)
{
    exj_op op = { .kind = EXJ_OP_KV_PUT };
    exj_err err = { 0 };

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
