/* Ended rows leave when their matrix says so, and not a moment before. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/run/retire.h"
#include "core/store/sqlite/internal.h"

#define DAY 86400000LL

static char dir[64];
static exj_store *s;
static exj_msec now;

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

static void setup(void)
{
    exj_sqlite_seam seam = { .wall_ms = wall, .mono_ns = mono };
    exj_err err = { 0 };

    now = 100 * DAY;
    snprintf(dir, sizeof dir, "/tmp/exj-retire-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(exj_sqlite_open_seam(&(exj_sqlite_options){ .dir = dir, .fast = true }, &seam,
                                      &s, &err),
                 EXJ_OK, "%s", err.text);
}

static void teardown(void)
{
    char command[128];

    s->v->close(s);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(retire, .init = setup, .fini = teardown);

static void go(exj_op *op)
{
    exj_err err = { 0 };

    cr_assert_eq(exj_store_do(s, op, &err), EXJ_OK, "%s", err.text);
}

static void matrix(const char *id, const char *retention)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    char doc[400];

    snprintf(doc, sizeof doc,
             "{\"matrixCatalogId\":\"%s\",\"payload\":{\"graphs\":[\"g\"],\"dataSource\":"
             "{\"kind\":\"record\"}%s%s}}",
             id, *retention ? ",\"retention\":" : "", retention);
    op.u.doc.kind = EXJ_DOC_MATRIX;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(doc);
    go(&op);
}

static int64_t pool(const char *id)
{
    exj_op op = { .kind = EXJ_OP_POOL };

    op.u.pool.matrix = exj_slice_of(id);
    op.u.pool.graph = exj_slice_of("g");
    go(&op);
    return op.u.pool.ret_pool;
}

/* `n` rows that end as `event`. */
static void rows(int64_t p, const char *prefix, int n, exj_event event)
{
    static int64_t nonce;

    for (int i = 0; i < n; i++) {
        char id[40];
        exj_insert_item it = { .input = exj_slice_of("1") };
        exj_op insert = { .kind = EXJ_OP_INSERT }, claim = { .kind = EXJ_OP_CLAIM };
        exj_op finish = { .kind = EXJ_OP_FINISH };
        exj_want w = { .pool = p, .want = 1 };
        exj_claim c;
        exj_outcome o = { .event = event };

        snprintf(id, sizeof id, "%s%d", prefix, i);
        it.record_id = exj_slice_of(id);
        insert.u.insert.pool = p;
        insert.u.insert.max_attempts = 1;
        insert.u.insert.items = &it;
        insert.u.insert.len = 1;
        go(&insert);
        claim.u.claim.wants = &w;
        claim.u.claim.wants_len = 1;
        claim.u.claim.holder = "w";
        claim.u.claim.nonce = ++nonce;
        claim.u.claim.lease_ms = 1000;
        claim.u.claim.ret = &c;
        go(&claim);
        cr_assert_eq(claim.u.claim.ret_len, 1);
        o.seq = c.seq;
        o.nonce = c.nonce;
        o.token = c.token;
        finish.u.finish.items = &o;
        finish.u.finish.len = 1;
        go(&finish);
    }
}

struct counting {
    int64_t pool, n[EXJ_STATUS_COUNT];
};

static bool count(void *user, const exj_pool_info *p)
{
    struct counting *c = user;

    if (p->pool == c->pool)
        memcpy(c->n, p->counts, sizeof c->n);
    return true;
}

static int64_t left(int64_t p, exj_status status)
{
    struct counting c = { .pool = p };

    cr_assert_eq(s->v->pools(s, count, &c, NULL), EXJ_OK);
    return c.n[status];
}

static size_t pass(void)
{
    exj_retired gone = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_retire_rows(s, NULL, NULL, &gone, &err), EXJ_OK, "%s", err.text);
    return gone.rows;
}

Test(retire, rows_are_kept_for_ever_unless_their_matrix_says_otherwise)
{
    int64_t p, q;

    matrix("forever", "");
    p = pool("forever");
    q = pool("no-such-matrix");
    rows(p, "r", 3, EXJ_EV_SUCCEED);
    rows(q, "r", 3, EXJ_EV_SUCCEED);
    now += 10000 * DAY;
    cr_assert_eq(pass(), 0);
    cr_assert_eq(left(p, EXJ_COMPLETED), 3);
    cr_assert_eq(left(q, EXJ_COMPLETED), 3);
}

Test(retire, rows_go_when_their_time_is_over_and_not_before)
{
    int64_t p, other;

    matrix("m", "{\"days\":7}");
    matrix("other", "{\"days\":8}");
    p = pool("m");
    other = pool("other");
    rows(p, "a", 1, EXJ_EV_SUCCEED);
    rows(other, "a", 1, EXJ_EV_SUCCEED);
    now += DAY;
    rows(p, "b", 1, EXJ_EV_SUCCEED);
    now += 6 * DAY - 1;
    cr_assert_eq(pass(), 0);
    now += 1;
    cr_assert_eq(pass(), 1);
    cr_assert_eq(left(p, EXJ_COMPLETED), 1);
    cr_assert_eq(left(other, EXJ_COMPLETED), 1);
    now += DAY;
    cr_assert_eq(pass(), 2);
    cr_assert_eq(left(other, EXJ_COMPLETED), 0);
}

Test(retire, dead_rows_have_a_time_of_their_own)
{
    int64_t p, q;

    matrix("m", "{\"seconds\":60}");
    matrix("both", "{\"seconds\":60,\"failedSeconds\":600}");
    p = pool("m");
    q = pool("both");
    rows(p, "f", 1, EXJ_EV_FAIL_DEAD);
    rows(q, "f", 1, EXJ_EV_FAIL_DEAD);
    rows(q, "b", 1, EXJ_EV_BLOCK);
    rows(q, "c", 1, EXJ_EV_SUCCEED);
    now += 60000;
    cr_assert_eq(pass(), 1);
    cr_assert_eq(left(q, EXJ_FAILED), 1);
    now += 540000;
    cr_assert_eq(pass(), 1);
    cr_assert_eq(left(q, EXJ_FAILED), 0);
    now += 10000 * DAY;
    cr_assert_eq(pass(), 0);
    cr_assert_eq(left(p, EXJ_FAILED), 1, "nobody said when dead rows go");
    cr_assert_eq(left(q, EXJ_BLOCKED), 1, "a blocked row is not over");
}

Test(retire, many_rows_go_in_batches_and_a_pass_can_be_stopped)
{
    int64_t p;
    exj_retired gone = { 0 };

    matrix("m", "{\"seconds\":60}");
    p = pool("m");
    rows(p, "r", 250, EXJ_EV_SUCCEED);
    now += 60000;
    cr_assert_eq(pass(), 250);
    cr_assert_eq(left(p, EXJ_COMPLETED), 0);
    cr_assert_eq(exj_retire_entries(s, NULL, NULL, &gone, NULL), EXJ_OK);
    cr_assert_eq(gone.entries, 750, "%zu", gone.entries); /* queued, claimed, completed */
    cr_assert_eq(exj_retire_entries(s, NULL, NULL, &gone, NULL), EXJ_OK);
    cr_assert_eq(gone.entries, 0);
}

static bool twice(void *user)
{
    return ++*(int *)user <= 2;
}

Test(retire, a_pass_that_is_stopped_has_removed_whole_batches)
{
    exj_retired gone = { 0 };
    int64_t p;
    int asked = 0;

    matrix("m", "{\"seconds\":60}");
    p = pool("m");
    rows(p, "r", 250, EXJ_EV_SUCCEED);
    now += 60000;
    cr_assert_eq(exj_retire_rows(s, twice, &asked, &gone, NULL), EXJ_CANCELLED);
    cr_assert_eq(gone.rows, 200);
    cr_assert_eq(left(p, EXJ_COMPLETED), 50);
    asked = 2;
    cr_assert_eq(exj_retire_entries(s, twice, &asked, &gone, NULL), EXJ_CANCELLED);
    cr_assert_eq(pass(), 50);
}
