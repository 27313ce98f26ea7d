/* Every statement and every allocation of what holders and keepers do fails once: the op says
 * so, nothing of it is there, the next one is as if nothing had been.
 *
 * SQLite is made to fail in front of it (--wrap): a full disk, told by each of its calls in
 * turn. What it does itself when the disk or memory fails is tried in test_sqlite.c. */
#include "contract.h"

#include <stdlib.h>

#include "core/store/sqlite/internal.h"
#include "tests/support/fault.h"

/* ---- SQLite that fails ------------------------------------------------------------------ */

static atomic_long left = -1, seen; /* as in tests/support/fault.c */
static _Thread_local bool refused;  /* the last call of this thread */

int __real_sqlite3_step(sqlite3_stmt *st);
int __real_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags,
                              sqlite3_stmt **ret, const char **tail);
int __real_sqlite3_exec(sqlite3 *db, const char *sql, int (*show)(void *, int, char **, char **),
                        void *user, char **ret_error);
int __real_sqlite3_extended_errcode(sqlite3 *db);
int __wrap_sqlite3_step(sqlite3_stmt *st);
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags,
                              sqlite3_stmt **ret, const char **tail);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*show)(void *, int, char **, char **),
                        void *user, char **ret_error);
int __wrap_sqlite3_extended_errcode(sqlite3 *db);

static atomic_bool exec_too; /* the sqlite3_exec after it fails as well */

static bool fails(void)
{
    refused = false;
    if (atomic_load(&left) < 0)
        return false;
    atomic_fetch_add(&seen, 1);
    refused = atomic_fetch_sub(&left, 1) == 1;
    return refused;
}

static atomic_bool committed, after_commit; /* what failed came after a COMMIT */

int __wrap_sqlite3_step(sqlite3_stmt *st)
{
    int rc;

    if (fails()) {
        atomic_store(&after_commit, atomic_load(&committed));
        return SQLITE_FULL;
    }
    rc = __real_sqlite3_step(st);
    if (rc == SQLITE_DONE && strcmp(sqlite3_sql(st), "COMMIT") == 0)
        atomic_store(&committed, true);
    return rc;
}

int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags,
                              sqlite3_stmt **ret, const char **tail)
{
    return fails() ? SQLITE_FULL : __real_sqlite3_prepare_v3(db, sql, n, flags, ret, tail);
}

int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*show)(void *, int, char **, char **),
                        void *user, char **ret_error)
{
    if (atomic_load(&exec_too) && atomic_load(&left) == 0 && atomic_load(&seen) > 0)
        return SQLITE_FULL;
    return fails() ? SQLITE_FULL : __real_sqlite3_exec(db, sql, show, user, ret_error);
}

int __wrap_sqlite3_extended_errcode(sqlite3 *db)
{
    return refused ? SQLITE_FULL : __real_sqlite3_extended_errcode(db);
}

/* ---- one thing after the other fails -------------------------------------------------------- */

enum fault { STATEMENT, ALLOCATION };

static enum fault fault;
static long tried;

static void arm(long nth)
{
    if (fault == ALLOCATION) {
        exj_fault_arm(nth);
        return;
    }
    atomic_store(&seen, 0);
    atomic_store(&committed, false);
    atomic_store(&after_commit, false);
    atomic_store(&left, nth);
}

static bool was_reached(long nth)
{
    long n = atomic_load(&seen);

    if (fault == ALLOCATION)
        return exj_fault_disarm() >= nth;
    atomic_store(&left, -1);
    return n >= nth;
}

static exj_code wanted_code(void)
{
    return fault == ALLOCATION ? EXJ_NOMEM : EXJ_FULL;
}

static bool hash_row(void *user, const exj_row_view *v)
{
    uint64_t *sum = user;

    *sum = *sum * 31 + (uint64_t)v->seq * 7 + (uint64_t)v->status * 5 +
           (uint64_t)v->attempts * 3 + (uint64_t)v->token;
    return true;
}

/* Something of everything that a client can see: two sums differ when an op did something. */
static uint64_t sum_of(struct fixture *f)
{
    int64_t first, last, n[EXJ_STATUS_COUNT];
    uint64_t sum = 0;
    exj_sqlite *s = (exj_sqlite *)f->s;

    cr_assert_eq(f->s->v->events_span(f->s, &first, &last, NULL), EXJ_OK);
    for (int64_t p = 1; p < s->pools_len; p++) {
        counts(f, p, n);
        for (int i = 0; i < EXJ_STATUS_COUNT; i++)
            sum = sum * 31 + (uint64_t)n[i];
    }
    for (int64_t seq = 1; seq < s->next_seq && seq < 40; seq++)
        f->s->v->row_by_seq(f->s, seq, hash_row, &sum, NULL);
    return sum * 31 + (uint64_t)last;
}

/* The op, first with each of its parts failing. */
static void endure(struct fixture *f, exj_op *op)
{
    for (long n = 1;; n++) {
        exj_err err = { 0 };
        uint64_t before = sum_of(f);
        exj_code rc;

        if (fault == ALLOCATION) /* so that the first entry needs memory again */
            exj_buf_release(&((exj_sqlite *)f->s)->entries);
        arm(n);
        rc = exj_store_do(f->s, op, &err);
        /* After the commit files that nobody needs are removed: that may fail. */
        if (!was_reached(n) || atomic_load(&after_commit)) {
            cr_assert_eq(rc, EXJ_OK, "op %d: %s", (int)op->kind, err.text);
            return;
        }
        tried++;
        cr_assert_eq(rc, wanted_code(), "op %d, call %ld: %s: %s", (int)op->kind, n,
                     exj_code_name(rc), err.text);
        cr_assert(err.text[0]);
        cr_assert_eq(sum_of(f), before, "op %d, call %ld: something is left", (int)op->kind, n);
    }
}

/* A read, first with each of its parts failing. */
static void endure_read(struct fixture *f, exj_code (*read)(struct fixture *, exj_err *))
{
    for (long n = 1;; n++) {
        exj_err err = { 0 };
        exj_code rc;

        arm(n);
        rc = read(f, &err);
        if (!was_reached(n)) {
            cr_assert_eq(rc, EXJ_OK, "%s", err.text);
            return;
        }
        tried++;
        if (rc != EXJ_OK) /* what only tidies up (ROLLBACK of a read) may fail */
            cr_assert_eq(rc, wanted_code(), "call %ld: %s", n, err.text);
    }
}

/* ---- the life of rows ------------------------------------------------------------------------ */

static exj_claim got[64];

static size_t take(struct fixture *f, exj_want *w, const char *holder, int64_t nonce)
{
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.wants = w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = holder;
    op.u.claim.nonce = nonce;
    op.u.claim.lease_ms = LEASE;
    op.u.claim.ret = got;
    endure(f, &op);
    return op.u.claim.ret_len;
}

static exj_claim take_one(struct fixture *f, int64_t p, const char *holder, int64_t nonce)
{
    exj_want w = { .pool = p, .want = 1, .key_cap = 1 };

    expect_int(take(f, &w, holder, nonce), 1);
    return got[0];
}

/* So large that it goes to a file of its own (when statements fail). */
static exj_slice large(void)
{
    static char text[70000];

    if (!text[0]) {
        memset(text, 'x', sizeof(text));
        text[0] = text[sizeof(text) - 1] = '"';
    }
    return fault == STATEMENT ? (exj_slice){ text, sizeof(text) } : EXJ_SLICE_LITERAL("1");
}

static exj_outcome outcome(const exj_claim *c, exj_event e)
{
    exj_outcome o = { .seq = c->seq, .nonce = c->nonce, .token = c->token, .event = e };

    if (e == EXJ_EV_SUCCEED || e == EXJ_EV_SUSPEND)
        o.result = EXJ_SLICE_LITERAL("{\"r\":1}");
    else
        o.error_code = EXJ_SLICE_LITERAL("E");
    return o;
}

static exj_code finish_as(struct fixture *f, exj_outcome *items, size_t len)
{
    exj_op op = { .kind = EXJ_OP_FINISH };

    op.u.finish.items = items;
    op.u.finish.len = len;
    endure(f, &op);
    return items[0].verdict;
}

static int64_t one_row(struct fixture *f, int64_t p, const char *id, const exj_insert_item *like)
{
    exj_insert_item it = *like;
    exj_op op = { .kind = EXJ_OP_INSERT };

    it.record_id = exj_slice_of(id);
    it.input = EXJ_SLICE_LITERAL("{}");
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 2;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    endure(f, &op);
    expect_code(it.verdict, EXJ_OK);
    return it.seq;
}

static void order(struct fixture *f, exj_op_kind kind, int64_t seq)
{
    exj_op op = { .kind = kind };

    if (kind == EXJ_OP_CANCEL)
        op.u.cancel.seq = seq;
    else if (kind == EXJ_OP_RETRY)
        op.u.retry.seq = seq;
    else
        op.u.rerun.seq = seq;
    endure(f, &op);
}

static void hold(struct fixture *f, exj_op_kind kind, const exj_claim *c)
{
    exj_held h = { .seq = c->seq, .nonce = c->nonce };
    exj_op op = { .kind = kind };

    op.u.held.items = &h;
    op.u.held.len = 1;
    op.u.held.lease_ms = LEASE;
    endure(f, &op);
    expect_code(h.verdict, EXJ_OK);
}

static void step(struct fixture *f, exj_op_kind kind, const exj_claim *c, const char *key,
                 exj_code verdict)
{
    exj_op op = { .kind = kind };

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = exj_slice_of(key);
    if (kind == EXJ_OP_STEP_PUT)
        op.u.step.body = verdict == EXJ_OK ? large() : EXJ_SLICE_LITERAL("{}");
    endure(f, &op);
    expect_code(op.u.step.verdict, verdict);
}

static void progress(struct fixture *f, const exj_claim *c, double at)
{
    exj_op op = { .kind = EXJ_OP_PROGRESS };

    op.u.progress.seq = c->seq;
    op.u.progress.nonce = c->nonce;
    op.u.progress.token = c->token;
    op.u.progress.at = at;
    op.u.progress.note = EXJ_SLICE_LITERAL("half");
    endure(f, &op);
    expect_code(op.u.progress.verdict, EXJ_OK);
}

static void signal_to(struct fixture *f, int64_t seq, const char *name)
{
    exj_op op = { .kind = EXJ_OP_SIGNAL };

    op.u.signal.seq = seq;
    op.u.signal.name = exj_slice_of(name);
    op.u.signal.body = EXJ_SLICE_LITERAL("{\"heard\":1}");
    endure(f, &op);
}

static size_t go_on(struct fixture *f)
{
    exj_op op = { .kind = EXJ_OP_PROMOTE };

    op.u.promote.limit = 100;
    endure(f, &op);
    return op.u.promote.ret_promoted;
}

static size_t reap_as(struct fixture *f, const char *all_but)
{
    exj_reaped ret[8];
    exj_op op = { .kind = EXJ_OP_REAP };

    op.u.reap.all_but = all_but;
    op.u.reap.ret = ret;
    op.u.reap.limit = 8;
    endure(f, &op);
    return op.u.reap.ret_len;
}

static bool count_event(void *user, const exj_event_view *v)
{
    ++*(int64_t *)user;
    return v->record_id.n > 0;
}

static exj_code read_events(struct fixture *f, exj_err *err)
{
    int64_t n = 0;

    return f->s->v->events(f->s, 0, 1000, count_event, &n, err);
}

static int64_t told_of; /* the row whose journal is read */

static exj_code read_journal(struct fixture *f, exj_err *err)
{
    int64_t n = 0;

    return f->s->v->journal(f->s, told_of, 1000, count_event, &n, err);
}

static exj_code read_span(struct fixture *f, exj_err *err)
{
    int64_t first, last;

    return f->s->v->events_span(f->s, &first, &last, err);
}

static void live(struct fixture *f, enum fault what)
{
    static const exj_insert_item plain = { 0 };
    const exj_insert_item keyed = { .concurrency_key = EXJ_SLICE_LITERAL("k"),
                                    .unique_key = EXJ_SLICE_LITERAL("u") };
    const exj_insert_item keyed2 = { .concurrency_key = EXJ_SLICE_LITERAL("k") };
    exj_want w = { .want = 5, .key_cap = 1, .rate = 100, .rate_ms = 1000,
                   .guard_id = EXJ_SLICE_LITERAL("g"), .guard_kind = EXJ_DOC_GRAPH,
                   .guard_version = 1 };
    exj_outcome o, many[3];
    exj_claim c, d;
    int64_t p = pool(f, "m", "", "g"), version, seq;

    fault = what;
    tried = 0;
    expect_code(put(f, EXJ_DOC_GRAPH, "g", 0, "{}", &version), EXJ_OK);
    w.pool = p;

    /* Success, a retry, an end without attempts left. */
    one_row(f, p, "1", &plain);
    one_row(f, p, "2", &plain);
    one_row(f, p, "3", &plain);
    expect_int(take(f, &w, "h", 7), 3);
    for (int i = 0; i < 3; i++)
        many[i] = outcome(&got[2 - i], EXJ_EV_SUCCEED); /* not in the order of seq */
    many[0].crashed = true;
    many[0].event = EXJ_EV_FAIL_RETRY;
    many[0].run_after = START + 1000;
    many[1].event = EXJ_EV_FAIL_DEAD;
    c = got[2];
    expect_code(finish_as(f, many, 3), EXJ_OK);
    expect_code(finish_as(f, many, 3), EXJ_OK); /* the answer was lost: asked again */
    o = outcome(&c, EXJ_EV_FAIL_RETRY);
    o.nonce = 99;
    expect_code(finish_as(f, &o, 1), EXJ_FENCED);
    advance(f, 2000);
    expect_int(go_on(f), 1);
    c = take_one(f, p, "other", 8);
    o = outcome(&c, EXJ_EV_FAIL_RETRY);
    o.crashed = true;
    expect_code(finish_as(f, &o, 1), EXJ_OK);
    expect_int(o.to, EXJ_FAILED);
    order(f, EXJ_OP_RETRY, c.seq);
    c = take_one(f, p, NULL, 9);

    /* Steps and progress; then it suspends itself, by time and by signal. */
    step(f, EXJ_OP_STEP_BEGIN, &c, "a", EXJ_OK);
    step(f, EXJ_OP_STEP_PUT, &c, "a", EXJ_OK);
    step(f, EXJ_OP_STEP_PUT, &c, "a", EXJ_CONFLICT);
    step(f, EXJ_OP_STEP_BEGIN, &c, "a", EXJ_CONFLICT);
    progress(f, &c, 0.5);
    o = outcome(&c, EXJ_EV_SUSPEND);
    o.run_after = START + 10000;
    o.wait = EXJ_WAIT_TIME;
    expect_code(finish_as(f, &o, 1), EXJ_OK);
    expect_code(finish_as(f, &o, 1), EXJ_OK);
    advance(f, 10000);
    expect_int(go_on(f), 1);
    c = take_one(f, p, "h", 10);
    o = outcome(&c, EXJ_EV_SUSPEND);
    o.signal = EXJ_SLICE_LITERAL("s");
    o.wait = EXJ_WAIT_SIGNAL;
    expect_code(finish_as(f, &o, 1), EXJ_OK);
    signal_to(f, c.seq, "s");
    c = take_one(f, p, "h", 11);
    o = outcome(&c, EXJ_EV_BLOCK);
    o.signal = EXJ_SLICE_LITERAL("s");
    expect_code(finish_as(f, &o, 1), EXJ_OK);
    signal_to(f, c.seq, "s");
    c = take_one(f, p, "h", 12);

    /* Leases: renewed, given back, over. */
    hold(f, EXJ_OP_RENEW, &c);
    hold(f, EXJ_OP_RELEASE, &c);
    c = take_one(f, p, "h", 13);
    order(f, EXJ_OP_CANCEL, c.seq);
    hold(f, EXJ_OP_RELEASE, &c);
    order(f, EXJ_OP_RERUN, c.seq);
    c = take_one(f, p, "h", 14);
    advance(f, LEASE + 1);
    expect_int(reap_as(f, NULL), 1);
    c = take_one(f, p, "h", 15);
    expect_int(reap_as(f, "somebody else"), 1); /* it had its attempts */
    order(f, EXJ_OP_RERUN, c.seq);
    c = take_one(f, p, "h", 16);
    order(f, EXJ_OP_CANCEL, c.seq);
    advance(f, LEASE + 1);
    expect_int(reap_as(f, NULL), 1);

    /* Keys: one runs, the other is set aside and comes back. */
    w.guard_kind = EXJ_DOC_MATRIX;
    w.guard_id = EXJ_SLICE_LITERAL("m");
    w.guard_version = 0;
    seq = one_row(f, p, "k1", &keyed);
    one_row(f, p, "k2", &keyed2);
    expect_int(take(f, &w, "h", 20), 1);
    expect_int(count(f, p, EXJ_PARKED), 1);
    c = got[0];
    expect_int(c.seq, seq);
    w.key_cap = 2;
    expect_int(take(f, &w, "h", 21), 1);
    d = got[0];
    o = outcome(&c, EXJ_EV_SUCCEED);
    o.result = large();
    expect_code(finish_as(f, &o, 1), EXJ_OK);
    order(f, EXJ_OP_RERUN, seq);
    hold(f, EXJ_OP_RELEASE, &d);
    order(f, EXJ_OP_CANCEL, seq);
    order(f, EXJ_OP_CANCEL, d.seq);

    /* The journal. */
    told_of = seq;
    endure_read(f, read_events);
    endure_read(f, read_journal);
    endure_read(f, read_span);
}

/* What was answered is there, and what was refused is not, whichever statement fails. */
CONTRACT(failing, each_statement_of_each_op)
{
    live(f, STATEMENT);
    cr_assert_gt(tried, 300);
}

CONTRACT(failing, each_allocation_of_each_op)
{
    live(f, ALLOCATION);
    cr_assert_gt(tried, 3);
}

/* A large result that nobody points to any more is removed after the commit. Where that fails
 * twice over, the next write knows nothing of it. */
CONTRACT(failing, a_collection_that_fails_does_not_keep_the_writer)
{
    static char big[300000] = "\"";
    int64_t p = pool(f, "m", "", "g");
    exj_op rerun = { .kind = EXJ_OP_RERUN };
    bool reached = true;

    memset(big + 1, 'x', sizeof(big) - 3);
    big[sizeof(big) - 2] = '"';
    rerun.u.rerun.seq = insert(f, p, "1");
    insert(f, p, "2");
    fault = STATEMENT;
    for (long n = 1; reached; n++) {
        exj_claim c = claim_one(f, p, "h", n);
        exj_op next = { .kind = EXJ_OP_PROMOTE };

        expect_int(c.seq, rerun.u.rerun.seq);
        expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, big), EXJ_OK);
        arm(n);
        atomic_store(&exec_too, true);
        exj_store_do(f->s, &rerun, NULL);
        next.u.promote.limit = 1;
        exj_store_do(f->s, &next, NULL);
        atomic_store(&exec_too, false);
        reached = was_reached(n);
        cr_assert(next.rc == EXJ_OK || next.rc == EXJ_FULL, "call %ld: %s", n, next.err.text);
        if (rerun.rc != EXJ_OK)
            expect_code(exj_store_do(f->s, &rerun, NULL), EXJ_OK);
    }
}

/* A look at the journal whose end fails leaves no view behind: a step that was not seen would be
 * done once more, or end its row. */
CONTRACT(failing, a_step_is_seen_after_a_look_that_failed)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c;
    bool reached = true;
    int64_t events = 0;
    char key[24];

    insert(f, p, "1");
    c = claim_one(f, p, "h", 1);
    fault = STATEMENT;
    for (long n = 1; reached; n++) {
        exj_buf body = EXJ_BUF_INIT;

        arm(n);
        f->s->v->events(f->s, 0, 1, count_event, &events, NULL);
        reached = was_reached(n);
        snprintf(key, sizeof(key), "s%ld", n);
        expect_code(step_put(f, &c, key, "1"), EXJ_OK);
        cr_assert_eq(f->s->v->step_get(f->s, c.seq, exj_slice_of(key), &body, NULL), EXJ_OK,
                     "after call %ld of a look failed", n);
        exj_buf_release(&body);
    }
}
