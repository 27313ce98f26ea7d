/* Leases on their way to their end: the thread's own function, called by the test, ends when it
 * says so. */
#include "tests/support/fault.h"
#include "tests/unit/run/hand_engine.h"

TestSuite(keeper, .init = hand_make, .fini = hand_end, .timeout = 20);

static exj_code renewed[4];
static bool asked_to_stop[4];
static exj_reaped reaped[600];
static size_t reaped_len, reaped_at;
static unsigned stop_at; /* the engine has no row any more at this renewal */
static unsigned last_reap; /* nor from this look for what is over on: it finds `reaped_late`, and
                            * until then no pool is known to have work */
static size_t reaped_late;

static void end_rows(struct batch *b)
{
    uint32_t len = b->len; /* with its last row the batch is gone */

    for (uint32_t i = 0; i < len; i++)
        exj_batch_row_over(&hand->e, &b->rows[i]);
    pthread_mutex_lock(&hand->e.mu);
    hand->e.outstanding = 0;
    hand->e.stopping = true;
    pthread_mutex_unlock(&hand->e.mu);
}

static void keep(exj_op *op)
{
    if (op->kind == EXJ_OP_RENEW)
        for (size_t i = 0; i < op->u.held.len; i++) {
            op->u.held.items[i].verdict = renewed[op->u.held.items[i].seq - 1];
            op->u.held.items[i].ret_cancel = asked_to_stop[op->u.held.items[i].seq - 1];
        }
    if (op->kind == EXJ_OP_REAP && last_reap && --last_reap == 0) {
        hand->pool.maybe_work = false;
        hand->e.outstanding = 0;
        hand->e.stopping = true;
        reaped_len = reaped_late;
    }
    if (op->kind == EXJ_OP_REAP) {
        op->u.reap.ret_len = reaped_len < op->u.reap.limit ? reaped_len : op->u.reap.limit;
        memcpy(op->u.reap.ret, reaped + reaped_at, op->u.reap.ret_len * sizeof(*reaped));
        reaped_len -= op->u.reap.ret_len;
        reaped_at += op->u.reap.ret_len;
    }
}

static void submit_kept(exj_store *s, exj_op *first)
{
    exj_op_kind kind = first->kind;

    hand_submit(s, first);
    if (kind == EXJ_OP_RENEW && stop_at && --stop_at == 0)
        hand->e.failed = true; /* ends the loop; the rows are looked at by the test */
}

static void keep_until(unsigned renewals)
{
    stop_at = renewals;
    hand->answer = keep;
    hand->v.submit = submit_kept;
    hand->e.failed = false;
    exj_run_keeper(&hand->e);
}

Test(keeper, renews_what_runs_and_sees_what_is_lost_or_to_stop)
{
    struct batch *b = hand_batch(4), *later = hand_batch(1);

    atomic_store(&b->rows[3].phase, ROW_OVER);
    later->renew_at = exj_clock_mono_ns() + (exj_nsec)3600 * 1000000000;
    renewed[1] = EXJ_FENCED;
    asked_to_stop[2] = true;
    hand->e.stopping = true;
    keep_until(1);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 1);
    cr_expect_not(atomic_load(&b->rows[0].lost));
    cr_expect(atomic_load(&b->rows[1].lost));
    cr_expect(atomic_load(&b->rows[2].cancel));
    cr_expect_eq(hand->e.counts.fenced, 1);
    cr_expect(strstr(hand->said, "1 leases of g are lost"), "%s", hand->said);
    cr_expect_gt(b->renew_at, exj_clock_mono_ns());
    exj_engine_cancel_row(&hand->e, 1);
    cr_expect(atomic_load(&b->rows[0].cancel));
    end_rows(b);
    end_rows(later);
}

Test(keeper, leaves_the_lease_of_a_call_that_does_not_come_back)
{
    struct deck deck = { .label = (char[]){ "stuck 1.0" }, .generation = 4 };
    struct batch *b = hand_batch(3);

    for (int i = 0; i < 3; i++)
        b->rows[i].deck = &deck;
    atomic_store(&b->rows[0].overdue_at, 1);                     /* long ago */
    atomic_store(&b->rows[1].overdue_at, INT64_MAX);             /* not yet */
    atomic_store(&b->rows[2].overdue_at, 1);
    b->rows[2].written_off = true; /* said before */
    hand->e.stopping = true;
    keep_until(1);
    cr_expect(atomic_load(&b->rows[0].lost));
    cr_expect(b->rows[0].written_off);
    cr_expect_not(atomic_load(&b->rows[1].lost));
    cr_expect(atomic_load(&b->rows[2].lost));
    cr_expect_eq(hand->e.stuck, 1);
    cr_expect(strstr(hand->said, "plugin stuck 1.0 does not come back from row r"), "%s",
              hand->said);
    /* All of them: there is nothing left to renew. */
    atomic_store(&b->rows[1].overdue_at, 1);
    b->renew_at = 0;
    hand->e.failed = true;
    hand->answer = keep;
    exj_run_keeper(&hand->e);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 1);
    cr_expect_eq(hand->e.stuck, 2);
    end_rows(b);
}

Test(keeper, a_store_that_fails_or_no_memory_renews_nothing)
{
    struct batch *b = hand_batch(1);

    hand->e.stopping = true;
    for (long n = 2; n <= 3; n++) { /* the first is of the reaping at the start */
        b->renew_at = 0;
        hand->e.failed = true;
        exj_fault_arm(n);
        exj_run_keeper(&hand->e);
        exj_fault_disarm();
        cr_expect_eq(hand->seen[EXJ_OP_RENEW], 0);
        cr_expect(strstr(hand->said, "no memory to renew 1 leases"), "%s", hand->said);
    }
    b->renew_at = 0;
    hand->rc = EXJ_IO;
    exj_run_keeper(&hand->e);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 1);
    cr_expect_not(atomic_load(&b->rows[0].lost));
    end_rows(b);
}

/* The other batch would wait for the same. */
Test(keeper, a_shared_store_that_fails_is_asked_again_with_the_next_step)
{
    struct batch *b = hand_batch(1), *other = hand_batch(1);
    exj_nsec began = exj_clock_mono_ns();

    hand->e.stopping = hand->v.shared = true;
    hand->rc = EXJ_IO;
    keep_until(1);
    cr_expect_eq(hand->seen[EXJ_OP_REAP], 2);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 1);
    cr_expect_eq(b->renew_at, 0);
    cr_expect_eq(other->renew_at, 0);
    cr_expect_eq(b->kept_until, 0);
    cr_expect_not(atomic_load(&b->rows[0].lost));
    cr_expect(strstr(hand->said, "the store did not do reaping"), "%s", hand->said);
    hand->rc = EXJ_OK;
    keep_until(2);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 3);
    cr_expect_gt(b->renew_at, exj_clock_mono_ns());
    cr_expect_gt(other->renew_at, exj_clock_mono_ns());
    cr_expect(strstr(hand->said, "does what it is asked again"), "%s", hand->said);
    cr_expect_geq(b->kept_until, began + (exj_nsec)58 * 1000000000);
    cr_expect_leq(b->kept_until, exj_clock_mono_ns() + (exj_nsec)58 * 1000000000);
    cr_expect_not(exj_batch_is_past(b));
    end_rows(b);
    end_rows(other);
}

Test(keeper, what_it_takes_back_counts_and_is_asked_for_again)
{
    exj_engine *e = &hand->e;

    for (int i = 0; i < 600; i++)
        reaped[i] = (exj_reaped){ .seq = i + 1, .pool = 5, .to = EXJ_QUEUED };
    reaped[1].to = EXJ_FAILED;
    reaped[2].pool = 9; /* of another worker's */
    reaped[3].pool = 9;
    reaped[3].to = EXJ_FAILED;
    reaped_len = 600;
    hand->pool.maybe_work = false;
    hand->answer = keep;
    e->stopping = true; /* with nothing outstanding: one look, at the start */
    e->o.exclusive_store = true;
    exj_run_keeper(e);
    cr_expect_eq(hand->seen[EXJ_OP_REAP], 2);
    cr_expect_eq(e->counts.failed, 2);
    cr_expect(hand->pool.maybe_work);
    cr_expect(strstr(hand->said, "their holders are gone"), "%s", hand->said);
    e->o.exclusive_store = false;
    reaped_len = 1;
    reaped_at = 0;
    exj_run_keeper(e);
    cr_expect_null(strstr(hand->said, "their holders are gone"), "%s", hand->said);
    exj_fault_arm(1); /* no memory: another time */
    exj_run_keeper(e);
    exj_fault_disarm();
    hand->rc = EXJ_IO;
    exj_run_keeper(e);
    cr_expect(e->failed);
}

/* After the look at the start all pools are told of work; after those that follow only pools
 * that got rows back. */
Test(keeper, what_it_takes_back_while_it_keeps_is_work_for_its_pool)
{
    reaped[0] = (exj_reaped){ .seq = 1, .pool = 5, .to = EXJ_QUEUED };
    hand->answer = keep;
    for (reaped_late = 0; reaped_late <= 1; reaped_late++) {
        hand->e.stopping = false;
        hand->e.outstanding = 1;
        last_reap = 2;
        exj_run_keeper(&hand->e);
        cr_expect_eq(last_reap, 0);
        cr_expect_eq(hand->pool.maybe_work, reaped_late == 1);
    }
}

static void *let_it_keep(void *unused)
{
    (void)unused;
    exj_run_keeper(&hand->e);
    return NULL;
}

/* What is due is promoted when it is due, and no sooner; rows are renewed until the last is over. */
Test(keeper, waits_for_what_is_due_and_for_the_last_row)
{
    static const exj_msec dues[] = { 0, NOW_MS - 1, NOW_MS + 1, NOW_MS + 3600000,
                                     NOW_MS + 10000000 };
    exj_engine *e = &hand->e;
    struct batch *b = hand_batch(1);
    pthread_t thread;

    hand->answer = keep;
    e->o.lease_ms = 240; /* a step is 20 ms */
    cr_assert_eq(pthread_create(&thread, NULL, let_it_keep, NULL), 0);
    for (size_t i = 0; i < sizeof(dues) / sizeof(*dues); i++) {
        pthread_mutex_lock(&e->mu);
        e->promote = e->promote_due = false;
        e->next_due = dues[i];
        pthread_cond_signal(&e->keep);
        while (!e->promote) /* the step is over, or it is due */
            pthread_cond_wait(&e->claim, &e->mu);
        if (i == 1)
            cr_expect(e->promote_due);
        if (i != 1)
            cr_expect_not(e->promote_due, "case %zu", i);
        pthread_mutex_unlock(&e->mu);
    }
    pthread_mutex_lock(&e->mu);
    e->stopping = true;
    e->next_due = NOW_MS + 10;
    pthread_cond_signal(&e->keep);
    pthread_mutex_unlock(&e->mu);
    wait_for_waiter(&e->keep);
    end_rows(b);
    pthread_mutex_lock(&e->mu);
    pthread_cond_signal(&e->keep);
    pthread_mutex_unlock(&e->mu);
    pthread_join(thread, NULL);
    cr_expect_geq(hand->seen[EXJ_OP_REAP], 2);
}

/* Its rows are looked at by a restart. */
Test(keeper, ends_when_the_store_failed)
{
    exj_engine *e = &hand->e;
    pthread_t thread;

    hand->answer = keep;
    cr_assert_eq(pthread_create(&thread, NULL, let_it_keep, NULL), 0);
    wait_for_waiter(&e->keep);
    pthread_mutex_lock(&e->mu);
    e->failed = true;
    pthread_cond_signal(&e->keep);
    pthread_mutex_unlock(&e->mu);
    pthread_join(thread, NULL);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 0);
}

/* With steps that are longer, and shorter, than the rest of what is late. */
Test(keeper, brings_late_outcomes_to_the_store_until_it_takes_them)
{
    hand->v.shared = true;
    for (exj_msec lease_ms = 60000; lease_ms; lease_ms = lease_ms == 60000 ? 240 : 0) {
        exj_call_end end = { .result = EXJ_R_FAILED };
        struct batch *b = hand_batch(1);
        struct outbox *box;

        hand->e.o.lease_ms = lease_ms;
        hand->e.stopping = false;
        hand->rc = EXJ_IO;
        hand->answer = keep;
        pthread_mutex_lock(&hand->e.mu);
        box = exj_box_take_locked(&hand->e);
        pthread_mutex_unlock(&hand->e.mu);
        box->pool = &hand->pool;
        exj_box_add(box, &b->rows[0], &end);
        exj_box_submit(box);
        cr_assert_eq(hand->e.outstanding, 1);
        hand->rc = EXJ_OK;
        hand->e.stopping = true;
        hand->v.submit = hand_submit;
        hand->seen[EXJ_OP_FINISH] = 0;
        exj_run_keeper(&hand->e);
        cr_expect_eq(hand->seen[EXJ_OP_FINISH], 1);
        cr_expect_eq(hand->e.outstanding, 0);
        cr_expect_null(hand->e.batches);
    }
}

static struct batch *ends_meanwhile;

static void end_one_meanwhile(exj_op *op)
{
    keep(op);
    if (op->kind == EXJ_OP_RENEW)
        atomic_store(&ends_meanwhile->rows[0].phase, ROW_OVER);
}

/* Its outcome was stored while the renewal was on its way: nothing is lost. */
Test(keeper, a_row_that_ended_meanwhile_is_not_lost)
{
    struct batch *b = hand_batch(2);

    ends_meanwhile = b;
    renewed[0] = renewed[1] = EXJ_FENCED;
    atomic_store(&b->rows[1].late, true); /* it was stored, as far as anybody knows */
    hand->e.stopping = hand->e.failed = true;
    hand->answer = end_one_meanwhile;
    exj_run_keeper(&hand->e);
    cr_expect_not(atomic_load(&b->rows[0].lost));
    cr_expect_not(atomic_load(&b->rows[1].lost));
    cr_expect_eq(hand->e.counts.fenced, 0);
    end_rows(b);
}

/* The last row of a batch is over and somebody waits to free it: it is left alone. */
Test(keeper, a_batch_that_is_about_to_go_is_not_touched)
{
    struct batch *b = hand_batch(1);

    atomic_store(&b->open, 0);
    hand->e.stopping = hand->e.failed = true;
    hand->answer = keep;
    exj_run_keeper(&hand->e);
    cr_expect_eq(hand->seen[EXJ_OP_RENEW], 0);
    atomic_store(&b->open, 1);
    end_rows(b);
}

static exj_op_kind jumps_at;

static void jump(exj_op *op)
{
    keep(op);
    if (op->kind == jumps_at && !atomic_load(&hand->ahead_ms))
        atomic_store(&hand->ahead_ms, 3600000);
}

/* At the start, or while it renews: nothing is taken back before all of ours is renewed. */
Test(keeper, a_clock_that_is_set_forward_has_all_leases_renewed_first)
{
    for (int k = 0; k < 2; k++) {
        struct batch *b = hand_batch(1), *later = hand_batch(1);

        later->renew_at = exj_clock_mono_ns() + (exj_nsec)3600 * 1000000000;
        jumps_at = k ? EXJ_OP_RENEW : EXJ_OP_REAP;
        atomic_store(&hand->ahead_ms, 0);
        hand->seen[EXJ_OP_RENEW] = hand->seen[EXJ_OP_REAP] = 0;
        hand->e.stopping = hand->e.failed = false;
        hand->answer = jump;
        hand->v.submit = submit_kept;
        stop_at = k ? 3 : 2;
        exj_run_keeper(&hand->e);
        cr_expect_eq(hand->seen[EXJ_OP_RENEW], k ? 3 : 2);
        cr_expect_lt(later->renew_at, exj_clock_mono_ns() + (exj_nsec)60 * 1000000000);
        end_rows(b);
        end_rows(later);
    }
}
