/* Rows held against their journal: what differs is found, what cannot be judged is counted. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/run/verify.h"
#include "tests/support/fault.h"

#define ROWS 40

static char dir[64];
static exj_store *s;
static int64_t pool, seqs[ROWS];

static void do_op(exj_op *op)
{
    exj_err err = { 0 };

    cr_assert_eq(exj_store_do(s, op, &err), EXJ_OK, "%s", err.text);
}

static void insert_rows(void)
{
    exj_op op = { .kind = EXJ_OP_INSERT };
    exj_insert_item items[ROWS] = { 0 };
    char ids[ROWS][16];

    for (int i = 0; i < ROWS; i++) {
        snprintf(ids[i], sizeof(ids[i]), "r%02d", i);
        items[i].record_id = exj_slice_of(ids[i]);
        items[i].input = EXJ_SLICE_LITERAL("{}");
    }
    op.u.insert.pool = pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = items;
    op.u.insert.len = ROWS;
    do_op(&op);
    for (int i = 0; i < ROWS; i++)
        seqs[i] = items[i].seq;
}

static void setup(void)
{
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };

    snprintf(dir, sizeof(dir), "/tmp/exj-verify-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(exj_sqlite_open(&(exj_sqlite_options){ .dir = dir, .fast = true }, &s, &err),
                 EXJ_OK, "%s", err.text);
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.run = EXJ_SLICE_LITERAL("");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    do_op(&op);
    pool = op.u.pool.ret_pool;
    insert_rows();
}

static void teardown(void)
{
    static const char *const files[] = { "exellix-jobs.db", "exellix-jobs.db-wal",
                                         "exellix-jobs.db-shm", "exellix-jobs.lock" };
    char path[128];

    s->v->close(s);
    for (size_t k = 0; k < sizeof(files) / sizeof(*files); k++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[k]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/blobs", dir);
    rmdir(path);
    rmdir(dir);
}

TestSuite(verify, .init = setup, .fini = teardown);

static void tamper(const char *sql)
{
    char path[128];
    sqlite3 *db = NULL;

    snprintf(path, sizeof(path), "%s/exellix-jobs.db", dir);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

/* Claim `n` rows, and end them: the first ones well, the last one for good. */
static void run_rows(uint32_t n)
{
    exj_want want = { .pool = pool, .want = n };
    exj_claim claims[ROWS];
    exj_outcome outcomes[ROWS] = { 0 };
    exj_op claim = { .kind = EXJ_OP_CLAIM }, finish = { .kind = EXJ_OP_FINISH };

    claim.u.claim.wants = &want;
    claim.u.claim.wants_len = 1;
    claim.u.claim.holder = "w";
    claim.u.claim.nonce = 7;
    claim.u.claim.lease_ms = 60000;
    claim.u.claim.ret = claims;
    do_op(&claim);
    cr_assert_eq(claim.u.claim.ret_len, n);
    for (uint32_t i = 0; i < n; i++) {
        outcomes[i].seq = claims[i].seq;
        outcomes[i].nonce = claims[i].nonce;
        outcomes[i].token = claims[i].token;
        outcomes[i].event = i + 1 == n ? EXJ_EV_FAIL_DEAD : EXJ_EV_SUCCEED;
    }
    finish.u.finish.items = outcomes;
    finish.u.finish.len = n;
    do_op(&finish);
}

struct seen {
    int n;
    char name[32], what[EXJ_ERR_TEXT_BYTES];
};

static bool visit(void *user, const exj_row_view *row, const char *what)
{
    struct seen *seen = user;

    seen->n++;
    snprintf(seen->name, sizeof(seen->name), "%.*s", (int)row->record_id.n, row->record_id.p);
    snprintf(seen->what, sizeof(seen->what), "%s", what);
    return true;
}

static exj_verified verify(struct seen *seen)
{
    exj_verified v;
    exj_err err = { 0 };

    *seen = (struct seen){ 0 };
    cr_assert_eq(exj_verify_rows(s, 0, 1000, visit, seen, &v, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(v.rows, ROWS);
    cr_expect_eq(v.next, 0);
    cr_expect_eq(v.different, seen->n);
    return v;
}

Test(verify, finds_nothing_where_nothing_differs)
{
    struct seen seen;

    run_rows(10);
    cr_expect_eq(verify(&seen).different, 0, "%s: %s", seen.name, seen.what);
}

Test(verify, goes_on_from_page_to_page)
{
    exj_verified v = { 0 };
    int64_t rows = 0;
    int pages = 0;

    run_rows(10);
    do {
        cr_assert_eq(exj_verify_rows(s, v.next, 7, NULL, NULL, &v, NULL), EXJ_OK);
        cr_expect_eq(v.different, 0);
        rows += v.rows;
        pages++;
    } while (v.next);
    cr_expect_eq(rows, ROWS);
    cr_expect_eq(pages, 6);
    cr_expect_eq(exj_verify_rows(s, 0, 0, NULL, NULL, &v, NULL), EXJ_INVALID);
    cr_expect_eq(exj_verify_rows(s, 0, EXJ_VERIFY_ROWS_MAX + 1, NULL, NULL, &v, NULL),
                 EXJ_INVALID);
}

static const struct {
    const char *sql, *what;
} lies[] = {
    { "UPDATE exj_hot SET status=6 WHERE seq=(SELECT max(seq) FROM exj_hot)",
      "the row is suspended, its journal says queued" },
    { "UPDATE exj_hot SET attempts=2 WHERE seq=(SELECT max(seq) FROM exj_hot)",
      "the row has 2 attempts, its journal 0" },
    { "UPDATE exj_hot SET fence=9 WHERE seq=(SELECT max(seq) FROM exj_hot)",
      "the row has token 9, its journal 0" },
    { "UPDATE exj_hot SET last=999999 WHERE seq=(SELECT max(seq) FROM exj_hot)",
      "its newest entry is 999999, its journal ends with " },
    { "UPDATE exj_results SET status=4 WHERE seq=(SELECT min(seq) FROM exj_results)",
      "the row is failed, its journal says completed" },
};

Test(verify, says_what_differs)
{
    for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
        struct seen seen;

        if (i) { /* a new store for each */
            teardown();
            setup();
        }
        run_rows(5);
        tamper(lies[i].sql);
        verify(&seen);
        cr_expect_eq(seen.n, 1, "%s: %d", lies[i].sql, seen.n);
        cr_expect(strstr(seen.what, lies[i].what) == seen.what, "%s: %s", lies[i].sql, seen.what);
    }
}

/* Rows that were there before the store had a journal have no first entry. */
Test(verify, counts_rows_from_before_the_journal)
{
    struct seen seen;
    exj_verified v;

    tamper("UPDATE exj_hot SET last=0; DELETE FROM exj_events");
    run_rows(1); /* one of them goes on: its journal begins with "claimed" */
    v = verify(&seen);
    cr_expect_eq(v.before, ROWS, "%d", (int)v.before);
    cr_expect_eq(v.different, 0, "%s: %s", seen.name, seen.what);
}

Test(verify, without_memory_it_says_so)
{
    exj_verified v;

    run_rows(5);
    for (long n = 1;; n++) {
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_verify_rows(s, 0, 1000, NULL, NULL, &v, &err);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK, "%s", err.text);
            cr_assert_gt(n, 2);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %s", n, err.text);
    }
}
