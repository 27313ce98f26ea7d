/* What an operation says in a history. That the recorded store is a store like any other is
 * tried by tests/contract; here the store behind it answers what the test wants. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/history/recorded_store.h"
#include "tests/support/fault.h"

#define MOST 64

static struct {
    exj_store base;
    void (*act)(exj_op *op); /* sets what the store would have answered */
    size_t closed, submitted;
    exj_op *held; /* not answered yet, where `hold` */
    bool hold;
} back;

struct line {
    exj_hist_event e;
    char job[128], worker[32], outcome[32], to[32], code[32], key[64], digest[32];
};

static struct line lines[MOST];
static size_t lines_len;

static void copy(char *to, size_t cap, exj_slice s)
{
    snprintf(to, cap, "%.*s", (int)s.n, s.n ? s.p : "");
}

static void keep(void *user, const exj_hist_event *e)
{
    struct line *l = &lines[lines_len++];

    (void)user;
    cr_assert_leq(lines_len, MOST);
    l->e = *e;
    copy(l->job, sizeof(l->job), e->job);
    copy(l->worker, sizeof(l->worker), e->worker);
    copy(l->outcome, sizeof(l->outcome), e->outcome);
    copy(l->to, sizeof(l->to), e->to);
    copy(l->code, sizeof(l->code), e->code);
    copy(l->key, sizeof(l->key), e->key);
    copy(l->digest, sizeof(l->digest), e->digest);
}

static void answer(exj_op *op)
{
    while (op) {
        exj_op *next = op->next;

        op->next = NULL;
        if (back.act)
            back.act(op);
        if (op->done)
            op->done(op);
        op = next;
    }
}

static void back_submit(exj_store *s, exj_op *first)
{
    (void)s;
    back.submitted++;
    if (back.hold)
        back.held = first;
    else
        answer(first);
}

static exj_code back_pools(exj_store *s, exj_pool_visit visit, void *user, exj_err *err)
{
    exj_pool_info p = { .pool = 7, .matrix = EXJ_SLICE_LITERAL("m|x"),
                        .graph = EXJ_SLICE_LITERAL("g") };

    (void)s, (void)err;
    visit(user, &p);
    return EXJ_OK;
}

static void back_close(exj_store *s)
{
    (void)s;
    back.closed++;
}

static exj_msec back_now(exj_store *s)
{
    (void)s;
    return 4711;
}

static const exj_store_vtable back_table = { .name = "back", .submit = back_submit,
                                             .pools = back_pools, .now = back_now,
                                             .close = back_close };
static exj_recorder *recorder;
static exj_store *s;

static void setup(void)
{
    back.base.v = &back_table;
    cr_assert_eq(exj_recorder_open_sink(keep, NULL, "test", 1, &recorder, NULL), EXJ_OK);
    cr_assert_eq(exj_recorded_store(&back.base, recorder, &s, NULL), EXJ_OK);
}

static void teardown(void)
{
    s->v->close(s);
    cr_expect_eq(back.closed, 1);
    exj_recorder_close(recorder);
}

TestSuite(recorded_store, .init = setup, .fini = teardown);

static int dones;

static void note_done(exj_op *op)
{
    cr_expect_eq(op->user, &dones);
    cr_expect_eq(op->done, note_done);
    cr_expect_null(op->passed);
    dones++;
}

static void submit(exj_op *op, void (*act)(exj_op *op))
{
    op->done = note_done;
    op->user = &dones;
    back.act = act;
    lines_len = 0;
    exj_store_submit(s, op);
}

#define expect_line(i, what, how)                                                            \
    do {                                                                                     \
        cr_assert_gt(lines_len, (size_t)(i));                                                \
        cr_expect_eq(lines[i].e.op, what, "line %d is of %s", (int)(i),                      \
                     exj_hist_op_word(lines[i].e.op));                                       \
        cr_expect_eq(lines[i].e.phase, how, "line %d: %s", (int)(i),                         \
                     exj_hist_phase_word(lines[i].e.phase));                                 \
        cr_expect_eq(lines[i].e.id, lines[0].e.id);                                          \
    } while (0)

/* ---- inserts ------------------------------------------------------------------------ */

static void act_insert(exj_op *op)
{
    op->u.insert.items[0].verdict = EXJ_OK;
    op->u.insert.items[0].seq = 41;
    op->u.insert.items[0].status = EXJ_WAITING;
    op->u.insert.items[1].verdict = EXJ_CONFLICT;
    op->u.insert.items[1].seq = 40;
    op->u.insert.items[2].verdict = EXJ_BUSY;
    op->u.insert.items[2].seq = 39;
}

Test(recorded_store, an_insert_ends_for_each_row)
{
    exj_insert_item items[3] = { { .record_id = EXJ_SLICE_LITERAL("a") },
                                 { .record_id = EXJ_SLICE_LITERAL("b%") },
                                 { .record_id = EXJ_SLICE_LITERAL("c") } };
    exj_op op = { .kind = EXJ_OP_INSERT };

    op.u.insert.pool = 7;
    op.u.insert.max_attempts = 5;
    op.u.insert.find_existing = true;
    op.u.insert.items = items;
    op.u.insert.len = 3;
    submit(&op, act_insert);
    cr_assert_eq(lines_len, 4);
    expect_line(0, EXJ_HIST_ENQUEUE, EXJ_HIST_INVOKE);
    cr_expect_eq(lines[0].e.row, 0);
    expect_line(1, EXJ_HIST_ENQUEUE, EXJ_HIST_OK);
    cr_expect_eq(lines[1].e.row, 41);
    cr_expect_eq(lines[1].e.value, 5);
    cr_expect_str_eq(lines[1].job, "m%7Cx||g|a");
    cr_expect_str_eq(lines[1].outcome, "new");
    cr_expect_str_eq(lines[1].to, "queued");
    expect_line(2, EXJ_HIST_ENQUEUE, EXJ_HIST_OK);
    cr_expect_eq(lines[2].e.row, 40);
    cr_expect_str_eq(lines[2].job, "m%7Cx||g|b%25");
    cr_expect_str_eq(lines[2].outcome, "existing");
    cr_expect_str_eq(lines[2].to, "");
    expect_line(3, EXJ_HIST_ENQUEUE, EXJ_HIST_FAIL);
    cr_expect_str_eq(lines[3].code, "busy");
    cr_expect_eq(dones, 1);
    op.u.insert.find_existing = false;
    submit(&op, act_insert);
    cr_expect_eq(lines[2].e.row, 0, "nobody asked which row it is");
}

static void act_pool(exj_op *op)
{
    if (op->kind == EXJ_OP_POOL)
        op->u.pool.ret_pool = 8;
}

Test(recorded_store, a_pool_names_the_rows_that_are_inserted_after_it)
{
    exj_insert_item item = { .record_id = EXJ_SLICE_LITERAL("r") };
    exj_op pool = { .kind = EXJ_OP_POOL }, op = { .kind = EXJ_OP_INSERT };

    op.u.insert.pool = 8;
    op.u.insert.items = &item;
    op.u.insert.len = 1;
    submit(&op, NULL);
    cr_expect_str_eq(lines[1].job, "", "the pool is not known");
    pool.u.pool.matrix = EXJ_SLICE_LITERAL("m2");
    pool.u.pool.run = EXJ_SLICE_LITERAL("run");
    pool.u.pool.graph = EXJ_SLICE_LITERAL("g2");
    submit(&pool, act_pool);
    cr_expect_eq(lines_len, 0, "a pool is not recorded");
    submit(&op, NULL);
    cr_expect_str_eq(lines[1].job, "m2|run|g2|r");
}

/* ---- claims ------------------------------------------------------------------------- */

static exj_claim grants[2] = { { .seq = 3, .token = 9, .nonce = 77, .attempt = 2 },
                               { .seq = 4, .token = 1, .nonce = 77, .attempt = 1 } };

static void act_claim(exj_op *op)
{
    memcpy(op->u.claim.ret, grants, sizeof(grants));
    op->u.claim.ret_len = 2;
}

static void claim(void)
{
    exj_claim got[2];
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.holder = "w-1";
    op.u.claim.ret = got;
    submit(&op, act_claim);
}

static void act_held(exj_op *op)
{
    op->u.held.items[0].verdict = EXJ_FENCED;
    op->u.held.items[0].ret_cancel = true; /* means nothing then */
    op->u.held.items[1].verdict = EXJ_OK;
    op->u.held.items[1].ret_cancel = op->kind == EXJ_OP_RENEW;
}

static void act_fenced(exj_op *op)
{
    op->u.finish.items[0].verdict = EXJ_FENCED;
    op->u.finish.items[1].verdict = EXJ_OK;
    op->u.finish.items[1].to = EXJ_COMPLETED;
}

Test(recorded_store, what_is_done_under_a_claim_names_its_token)
{
    exj_held held[2] = { { .seq = 3, .nonce = 77 }, { .seq = 4, .nonce = 77 } };
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.holder = "w-1";
    submit(&op, NULL);
    cr_assert_eq(lines_len, 2);
    expect_line(1, EXJ_HIST_CLAIM, EXJ_HIST_OK);
    cr_expect_eq(lines[1].e.row, 0, "nothing was granted");
    claim();
    cr_assert_eq(lines_len, 3);
    expect_line(2, EXJ_HIST_CLAIM, EXJ_HIST_OK);
    cr_expect_str_eq(lines[0].worker, "w-1");
    cr_expect_eq(lines[1].e.row, 3);
    cr_expect_eq(lines[1].e.token, 9);
    cr_expect_eq(lines[1].e.attempt, 2);
    cr_expect_str_eq(lines[1].worker, "w-1");

    op = (exj_op){ .kind = EXJ_OP_RENEW };
    op.u.held.items = held;
    op.u.held.len = 2;
    submit(&op, act_held);
    cr_assert_eq(lines_len, 3);
    expect_line(1, EXJ_HIST_RENEW, EXJ_HIST_FAIL);
    cr_expect_eq(lines[1].e.token, 9);
    cr_expect_str_eq(lines[1].code, "fenced");
    cr_expect_str_eq(lines[1].outcome, "");
    expect_line(2, EXJ_HIST_RENEW, EXJ_HIST_OK);
    cr_expect_eq(lines[2].e.token, 1);
    cr_expect_str_eq(lines[2].outcome, "cancel");

    op.kind = EXJ_OP_RELEASE;
    op.u.held.items = held + 1;
    op.u.held.len = 1;
    submit(&op, NULL);
    expect_line(0, EXJ_HIST_RELEASE, EXJ_HIST_INVOKE);
    cr_expect_eq(lines[0].e.row, 4, "one row alone is named before");
    cr_expect_eq(lines[0].e.token, 1);
    cr_expect_eq(lines[1].e.token, 1);
    submit(&op, NULL);
    cr_expect_eq(lines[1].e.token, 0, "the claim was given back");
}

Test(recorded_store, an_outcome_says_what_the_row_became)
{
    exj_outcome items[2] = { { .seq = 3, .nonce = 77, .token = 9, .event = EXJ_EV_FAIL_RETRY,
                               .error_code = EXJ_SLICE_LITERAL("PluginCrashed") },
                             { .seq = 4, .nonce = 77, .token = 1, .event = EXJ_EV_SUCCEED,
                               .result = EXJ_SLICE_LITERAL("abc") } };
    exj_op op = { .kind = EXJ_OP_FINISH };

    claim();
    op.u.finish.items = items;
    op.u.finish.len = 2;
    submit(&op, act_fenced);
    cr_assert_eq(lines_len, 3);
    cr_expect_eq(lines[0].e.row, 0);
    expect_line(1, EXJ_HIST_COMPLETE, EXJ_HIST_FAIL);
    cr_expect_str_eq(lines[1].outcome, "fail_retry");
    cr_expect_str_eq(lines[1].key, "PluginCrashed");
    cr_expect_str_eq(lines[1].to, "");
    cr_expect_str_eq(lines[1].code, "fenced");
    expect_line(2, EXJ_HIST_COMPLETE, EXJ_HIST_OK);
    cr_expect_eq(lines[2].e.row, 4);
    cr_expect_eq(lines[2].e.token, 1);
    cr_expect_str_eq(lines[2].outcome, "succeed");
    cr_expect_str_eq(lines[2].to, "completed");
    cr_expect_str_eq(lines[2].digest, "ba7816bf8f01cfea");
    cr_expect_str_eq(lines[2].code, "");
}

/* ---- what failed as a whole ------------------------------------------------------------ */

static exj_code fate;

static void act_fate(exj_op *op)
{
    op->rc = fate;
}

Test(recorded_store, an_operation_of_unknown_fate_is_neither_done_nor_refused)
{
    static const struct { exj_code rc; exj_hist_phase phase; const char *code; } cases[] = {
        { EXJ_UNKNOWN, EXJ_HIST_INFO, "unknown" }, { EXJ_IO, EXJ_HIST_INFO, "io" },
        { EXJ_CORRUPT, EXJ_HIST_INFO, "corrupt" }, { EXJ_FULL, EXJ_HIST_FAIL, "full" },
        { EXJ_NOMEM, EXJ_HIST_FAIL, "nomem" },     { EXJ_CANCELLED, EXJ_HIST_FAIL, "cancelled" },
        { EXJ_NOT_FOUND, EXJ_HIST_FAIL, "not_found" },
    };
    exj_outcome items[2] = { { .seq = 3 }, { .seq = 4 } };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_op op = { .kind = EXJ_OP_FINISH };

        op.u.finish.items = items;
        op.u.finish.len = 2;
        fate = cases[i].rc;
        submit(&op, act_fate);
        cr_assert_eq(lines_len, 2, "verdicts say nothing then");
        expect_line(1, EXJ_HIST_COMPLETE, cases[i].phase);
        cr_expect_str_eq(lines[1].code, cases[i].code);
    }
}

/* ---- one row, no row ---------------------------------------------------------------------- */

static void act_one(exj_op *op)
{
    if (op->kind == EXJ_OP_CANCEL)
        op->u.cancel.ret_to = EXJ_RUNNING;
    if (op->kind == EXJ_OP_SIGNAL)
        op->u.signal.ret_to = EXJ_SUSPENDED;
    if (op->kind == EXJ_OP_STEP_PUT)
        op->u.step.verdict = EXJ_CONFLICT;
    if (op->kind == EXJ_OP_PROGRESS)
        op->u.progress.verdict = EXJ_FENCED;
    if (op->kind == EXJ_OP_COMMAND_TAKE) {
        op->rc = EXJ_CANCELLED;
        op->u.command.ret_replay = true;
        op->u.command.ret_status = 201;
    }
}

Test(recorded_store, operations_on_one_row_say_it_before_and_after)
{
    exj_op op = { .kind = EXJ_OP_CANCEL };

    op.u.cancel.seq = 5;
    submit(&op, act_one);
    cr_assert_eq(lines_len, 2);
    expect_line(0, EXJ_HIST_CANCEL, EXJ_HIST_INVOKE);
    cr_expect_eq(lines[0].e.row, 5);
    cr_expect_str_eq(lines[0].to, "");
    cr_expect_str_eq(lines[1].to, "running");

    op = (exj_op){ .kind = EXJ_OP_SIGNAL };
    op.u.signal.seq = 6;
    op.u.signal.name = EXJ_SLICE_LITERAL("go");
    submit(&op, act_one);
    expect_line(1, EXJ_HIST_SIGNAL, EXJ_HIST_OK);
    cr_expect_str_eq(lines[1].key, "go");
    cr_expect_str_eq(lines[1].to, "suspended");
    cr_expect_str_eq(lines[1].outcome, "kept");

    op = (exj_op){ .kind = EXJ_OP_STEP_PUT };
    op.u.step.seq = 6;
    op.u.step.token = 2;
    op.u.step.key = EXJ_SLICE_LITERAL("s1");
    op.u.step.body = EXJ_SLICE_LITERAL("abc");
    submit(&op, act_one);
    expect_line(1, EXJ_HIST_STEP, EXJ_HIST_FAIL);
    cr_expect_str_eq(lines[1].code, "conflict");
    cr_expect_str_eq(lines[1].digest, "ba7816bf8f01cfea");
    cr_expect_eq(lines[1].e.token, 2);

    op = (exj_op){ .kind = EXJ_OP_PROGRESS };
    op.u.progress.seq = 6;
    op.u.progress.token = 2;
    submit(&op, act_one);
    expect_line(1, EXJ_HIST_WRITE, EXJ_HIST_FAIL);
    cr_expect_str_eq(lines[1].outcome, "progress");

    op = (exj_op){ .kind = EXJ_OP_SCHEDULE_TICK };
    op.u.tick.id = EXJ_SLICE_LITERAL("nightly");
    op.u.tick.last_tick = 1000;
    submit(&op, act_one);
    cr_expect_eq(lines[1].e.value, 0, "it started nothing");
    op.u.tick.last_fired = 1000;
    submit(&op, act_one);
    expect_line(1, EXJ_HIST_TICK, EXJ_HIST_OK);
    cr_expect_eq(lines[1].e.value, 1000);
    cr_expect_str_eq(lines[1].key, "nightly");

    op = (exj_op){ .kind = EXJ_OP_COMMAND_TAKE };
    op.u.command.key = EXJ_SLICE_LITERAL("k");
    submit(&op, act_one);
    expect_line(1, EXJ_HIST_COMMAND, EXJ_HIST_OK);
    cr_expect_str_eq(lines[1].outcome, "replayed");
    cr_expect_eq(lines[1].e.value, 201);
}

Test(recorded_store, passes_on_what_it_does_not_record)
{
    static const exj_op_kind kinds[] = { EXJ_OP_PROMOTE, EXJ_OP_DOC_PUT, EXJ_OP_DOC_DELETE,
                                         EXJ_OP_SINK_SAVE, EXJ_OP_DEAD_REPLAY, EXJ_OP_DEAD_DROP,
                                         EXJ_OP_COMPACT, EXJ_OP_RUN_ASK, EXJ_OP_RUN_DONE };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        exj_op op = { .kind = kinds[i] };

        submit(&op, NULL);
        cr_expect_eq(lines_len, 0);
        cr_expect_eq(dones, (int)i + 1);
    }
    cr_expect_eq(s->v->now(s), 4711);
    cr_expect_str_eq(s->v->name, "back");
    for (const char *p = (const char *)&s->v->submit, *e = (const char *)(s->v + 1); p < e;
         p += sizeof(void *))
        cr_assert_not_null(*(void *const *)(const void *)p, "slot %zu is not passed on",
                           (size_t)(p - (const char *)s->v) / sizeof(void *));
}

/* ---- groups, user, memory -------------------------------------------------------------- */

Test(recorded_store, begins_before_the_store_and_keeps_list_and_user)
{
    exj_op ops[3] = { { .kind = EXJ_OP_RETRY, .next = &ops[1], .with_next = true },
                      { .kind = EXJ_OP_PROMOTE, .next = &ops[2], .with_next = true },
                      { .kind = EXJ_OP_RERUN } };

    back.hold = true;
    for (int i = 0; i < 3; i++) {
        ops[i].done = note_done;
        ops[i].user = &dones;
    }
    ops[1].done = NULL; /* nobody waits for that one */
    exj_store_submit(s, ops);
    cr_expect_eq(back.submitted, 1);
    cr_expect_eq(back.held, &ops[0], "the owner's own operations are passed on");
    cr_expect_eq(ops[0].next, &ops[1]);
    cr_expect_eq(ops[1].next, &ops[2]);
    cr_expect(ops[0].with_next && ops[1].with_next);
    cr_expect_eq(ops[2].user, &dones, "an answer inside the transaction finds its user");
    cr_expect_eq(lines_len, 2);
    expect_line(0, EXJ_HIST_RETRY, EXJ_HIST_INVOKE);
    cr_expect_eq(lines[1].e.phase, EXJ_HIST_INVOKE);
    cr_expect_eq(dones, 0);
    answer(back.held);
    cr_expect_eq(dones, 2);
    cr_expect_eq(lines_len, 4);
}

Test(recorded_store, may_have_a_recorder_of_its_own)
{
    exj_op op = { .kind = EXJ_OP_RETRY };
    exj_store *other = NULL;
    exj_err err = { 0 };

    cr_expect_eq(exj_recorded_store_to(&back.base, "/nowhere/at/all", "command", &other, &err),
                 EXJ_IO);
    cr_expect_null(other);
    cr_assert_eq(exj_recorded_store_to(s, "/dev/null", "command", &other, NULL), EXJ_OK);
    op.done = note_done;
    op.user = &dones;
    exj_store_submit(other, &op); /* two of them above one store */
    cr_expect_eq(dones, 1);
    cr_expect_eq(lines_len, 2);
    other->v->close(other); /* and with it `s` */
    cr_expect_eq(back.closed, 1);
    back.closed = 0;
    cr_assert_eq(exj_recorded_store(&back.base, recorder, &s, NULL), EXJ_OK);
}

Test(recorded_store, what_is_shared_is_shared_behind_it)
{
    exj_store_vtable others_too = back_table;
    exj_store shared = { .v = &others_too };
    exj_store *other = NULL;

    cr_expect_not(s->v->shared);
    cr_expect_str_eq(s->v->name, "back");
    others_too.shared = true;
    cr_assert_eq(exj_recorded_store(&shared, recorder, &other, NULL), EXJ_OK);
    cr_expect(other->v->shared);
    other->v->close(other);
    back.closed = 0;
}

Test(recorded_store, without_memory_an_end_is_missing_and_the_work_goes_on)
{
    exj_op op = { .kind = EXJ_OP_RETRY };
    exj_store *other = NULL;

    exj_fault_arm(1);
    submit(&op, NULL);
    exj_fault_disarm();
    cr_expect_eq(dones, 1);
    cr_assert_eq(lines_len, 1, "nobody knows how it ended");
    cr_expect_eq(lines[0].e.phase, EXJ_HIST_INVOKE);
    for (long n = 1;; n++) { /* a claim whose token cannot be kept */
        exj_fault_arm(n);
        claim();
        if (exj_fault_disarm() < n)
            break;
        cr_expect_geq(lines_len, 1);
    }
    exj_fault_arm(1);
    cr_expect_eq(exj_recorded_store(&back.base, recorder, &other, NULL), EXJ_NOMEM);
    exj_fault_disarm();
    cr_expect_null(other);
    cr_expect_eq(back.closed, 0);
}
