/* Claims on their way into the rings, one round at a time: the thread's own function, called by
 * the test, ends when it says so. */
#include "tests/support/fault.h"
#include "tests/unit/run/hand_engine.h"

TestSuite(claimer, .init = hand_make, .fini = hand_end, .timeout = 20);

/* ---- the claimer, for some rounds ------------------------------------------------------------ */

static atomic_uint rounds; /* after so many claims or promotions the engine stops */
static uint32_t give;   /* rows a claim gets */
static exj_code verdict;
static bool more, parked;
static exj_msec again;
static size_t promoted;
static exj_msec next_due;
static exj_want last_want;
static int64_t last_nonce;
static void (*meanwhile)(void); /* before an op is answered */

static char why[2][256]; /* code and text of the outcome that came last */

static void answer(exj_op *op)
{
    if (meanwhile)
        meanwhile();
    for (size_t i = 0; op->kind == EXJ_OP_FINISH && i < op->u.finish.len; i++) {
        exj_outcome *o = &op->u.finish.items[i];

        o->to = o->event == EXJ_EV_FAIL_DEAD ? EXJ_FAILED : EXJ_WAITING;
        o->verdict = EXJ_OK;
        snprintf(why[0], sizeof(why[0]), "%.*s", (int)o->error_code.n, o->error_code.p);
        snprintf(why[1], sizeof(why[1]), "%.*s", (int)o->error_text.n, o->error_text.p);
    }
    if (op->kind == EXJ_OP_PROMOTE) {
        op->u.promote.ret_promoted = promoted;
        op->u.promote.ret_next_due = next_due;
        return;
    }
    if (op->kind != EXJ_OP_CLAIM)
        return;
    last_want = *op->u.claim.wants;
    last_nonce = op->u.claim.nonce;
    op->u.claim.wants->verdict = verdict;
    op->u.claim.wants->ret_more = more;
    op->u.claim.wants->ret_parked = parked;
    op->u.claim.wants->ret_again = again;
    op->u.claim.ret_len = give < last_want.want ? give : last_want.want;
    for (size_t i = 0; i < op->u.claim.ret_len; i++)
        op->u.claim.ret[i] = (exj_claim){ .seq = (int64_t)i + 1, .pool = 5, .token = 1,
                                          .nonce = last_nonce, .attempt = 1, .max_attempts = 3 };
}

/* As the store, and stops the engine when that was enough. */
static void submit_some(exj_store *s, exj_op *first)
{
    bool counts = first->kind == EXJ_OP_CLAIM || first->kind == EXJ_OP_PROMOTE;

    hand_submit(s, first);
    if (counts && rounds && atomic_fetch_sub(&rounds, 1) == 1) {
        pthread_mutex_lock(&hand->e.mu);
        hand->e.stopping = true;
        pthread_mutex_unlock(&hand->e.mu);
    }
}

/* Let the claimer make `n` rounds; what it took is given back when it stops. */
static void claim_rounds(unsigned n)
{
    rounds = n;
    hand->answer = answer;
    hand->v.submit = submit_some;
    hand->e.stopping = false;
    exj_run_claimer(&hand->e);
    hand_flush();
}

static void drop_ring(void)
{
    pthread_mutex_lock(&hand->e.mu);
    exj_run_release_locked(&hand->e, &hand->pool);
    pthread_mutex_unlock(&hand->e.mu);
    hand_flush();
    cr_assert_eq(hand->e.outstanding, 0);
}

Test(claimer, asks_for_the_room_there_is_under_the_version_it_knows)
{
    hand->spec.version = 12;
    give = 2;
    claim_rounds(1);
    cr_expect_eq(last_want.pool, 5);
    cr_expect_eq(last_want.guard_version, 12);
    cr_expect_eq(last_want.want, 4); /* the depth of the ring */
    cr_expect(last_nonce);
    /* It stopped meanwhile: they go back at once. */
    cr_expect_eq(hand->seen[EXJ_OP_RELEASE], 1);
    cr_expect_eq(hand->e.outstanding, 0);
    cr_expect_eq(hand->e.counts.claimed, 0);
}

/* In each round the ring is emptied by the test's "workers". */
Test(claimer, a_ring_that_is_used_up_fast_gets_deeper_to_its_limit)
{
    give = 100;
    for (int i = 0; i < 4; i++) {
        claim_rounds(1);
        hand->pool.filled_at = exj_clock_mono_ns();
    }
    cr_expect_eq(hand->pool.depth, 16); /* prefetch */
    hand->pool.filled_at = exj_clock_mono_ns() - (exj_nsec)5000000000;
    claim_rounds(1);
    cr_expect_eq(hand->pool.depth, 8);
    hand->pool.filled_at = exj_clock_mono_ns() - (exj_nsec)500000000;
    claim_rounds(1);
    cr_expect_eq(hand->pool.depth, 8);
    hand->pool.depth = 1;
    hand->pool.filled_at = 0;
    claim_rounds(1);
    cr_expect_eq(hand->pool.depth, 2); /* two a worker */
}

static void pause_now(void)
{
    hand->e.paused = true;
}

static void unwant(void)
{
    hand->pool.wanted = false;
}

static void cannot_run(void)
{
    hand->spec.runnable = false;
}

Test(claimer, what_may_not_start_any_more_is_given_back)
{
    void (*const reasons[])(void) = { pause_now, unwant, cannot_run };

    give = 2;
    for (size_t i = 0; i < 3; i++) {
        unsigned before = hand->seen[EXJ_OP_RELEASE];

        hand->e.paused = false;
        hand->pool.wanted = hand->spec.runnable = hand->pool.maybe_work = true;
        meanwhile = reasons[i];
        claim_rounds(1);
        cr_expect_eq(hand->seen[EXJ_OP_RELEASE], before + 1);
        cr_expect_eq(hand->e.outstanding, 0);
    }
}

Test(claimer, rows_that_cannot_be_read_go_back_unstarted)
{
    give = 2;
    hand->load_rc = EXJ_IO;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_RELEASE], 1);
    cr_expect(strstr(hand->said, "rows of pool 5 could not be read"), "%s", hand->said);
    cr_expect_gt(hand->e.ask_at, exj_clock_mono_ns()); /* not again at once */
}

/* Rows from `damaged_from` to `damaged_to` cannot be read; `broken` says so of all, and of one
 * alone something else. */
static int64_t damaged_from, damaged_to, broken;

static exj_code load_damaged(exj_store *s, const exj_claim *claims, size_t n, exj_loaded *ret,
                             exj_buf *arena, exj_err *err)
{
    static char text[5000];

    (void)s;
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < n; i++) {
        size_t at = arena->n;

        if (claims[i].seq == broken)
            return exj_err_set(err, n > 1 ? EXJ_CORRUPT : EXJ_IO, "no disk");
        if (claims[i].seq >= damaged_from && claims[i].seq <= damaged_to)
            return exj_err_set(err, EXJ_CORRUPT, "row %d has no input", (int)claims[i].seq);
        text[0] = (char)('0' + claims[i].seq);
        exj_buf_add(arena, text, sizeof(text));
        ret[i] = (exj_loaded){ .record_id = { arena->p + at, 1 },
                               .input = { arena->p + at, sizeof(text) } };
    }
    return EXJ_OK;
}

static void *let_it_claim(void *unused);

Test(claimer, a_row_that_cannot_be_read_fails_and_the_others_run)
{
    exj_engine *e = &hand->e;
    pthread_t thread;

    give = 3;
    damaged_from = damaged_to = 2;
    hand->v.load = load_damaged;
    hand->answer = answer;
    hand->v.submit = hand_submit;
    cr_assert_eq(pthread_create(&thread, NULL, let_it_claim, NULL), 0);
    pthread_mutex_lock(&e->mu);
    while (!e->counts.failed) /* nobody is told of it while others are not over */
        exj_run_wait_locked(e, &e->idle, exj_clock_mono_ns() + 1000000);
    e->stopping = true;
    pthread_cond_signal(&e->claim);
    cr_expect_eq(e->outstanding, 2);
    pthread_mutex_unlock(&e->mu);
    pthread_join(thread, NULL);
    cr_assert_eq(hand->pool.ready, 2);
    cr_expect(exj_slice_is(hand->pool.head->record_id, "1"));
    cr_expect(exj_slice_is(hand->pool.tail->record_id, "3"));
    cr_expect_eq(hand->pool.tail->input.n, 5000);
    cr_expect_eq(hand->pool.tail->input.p[4999], 'x');
    cr_expect_eq(hand->seen[EXJ_OP_RELEASE], 0);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 1, "without an end");
    cr_expect_str_eq(why[0], "InputUnreadable");
    cr_expect_str_eq(why[1], "the row's input cannot be read: row 2 has no input");
    cr_expect(strstr(hand->said, "row 2 of graph g fails"), "%s", hand->said);
    drop_ring();
}

Test(claimer, many_rows_that_cannot_be_read_fail_in_some_boxes)
{
    give = 70;
    damaged_from = 1;
    damaged_to = 70;
    hand->v.load = load_damaged;
    hand->pool.depth = hand->e.o.prefetch = 70;
    claim_rounds(1);
    cr_expect_eq(hand->e.counts.failed, 70);
    cr_expect_eq(hand->seen[EXJ_OP_FINISH], 2);
    cr_expect_eq(hand->e.outstanding, 0);
    cr_expect_null(hand->e.batches);
}

Test(claimer, without_memory_or_a_disk_none_of_them_fails)
{
    give = 3;
    damaged_from = damaged_to = 1;
    hand->v.load = load_damaged;
    rounds = 1;
    hand->answer = answer;
    hand->v.submit = submit_some;
    exj_fault_arm(4); /* a batch is three */
    exj_run_claimer(&hand->e);
    exj_fault_disarm();
    hand_flush();
    cr_expect_eq(hand->seen[EXJ_OP_FINISH], 0);
    cr_expect_eq(hand->seen[EXJ_OP_RELEASE], 1);
    cr_expect_eq(hand->e.outstanding, 0);
    hand->e.ask_at = 0;
    hand->pool.maybe_work = true;
    broken = 2;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_FINISH], 0);
    cr_expect_eq(hand->seen[EXJ_OP_RELEASE], 2);
    cr_expect_eq(hand->e.outstanding, 0);
    cr_expect_eq(hand->e.outboxes_len, 1, "the box of the first one is free again");
    cr_expect(strstr(hand->said, "could not be read: no disk"), "%s", hand->said);
}

Test(claimer, a_changed_config_is_looked_at_before_the_next_claim)
{
    verdict = EXJ_CONFLICT;
    give = 0;
    claim_rounds(1);
    cr_expect(hand->pool.stale);
    cr_expect(hand->e.look_now);
    cr_expect_eq(hand->e.outstanding, 0);
}

Test(claimer, a_store_that_fails_ends_claims)
{
    hand->rc = EXJ_IO;
    claim_rounds(1);
    cr_expect(hand->e.failed);
    cr_expect_eq(hand->e.outstanding, 0);
    hand->e.failed = false;
    hand->e.promote = true;
    hand->pool.maybe_work = false;
    claim_rounds(1);
    cr_expect(hand->e.failed);
    cr_expect(strstr(hand->said, "refused promotion"), "%s", hand->said);
}

Test(claimer, a_shared_store_that_fails_has_a_rest_and_is_asked_again)
{
    exj_engine *e = &hand->e;
    exj_nsec began = exj_clock_mono_ns();

    hand->v.shared = true;
    e->poll_at = INT64_MAX;
    hand->rc = EXJ_UNKNOWN;
    give = 2;
    claim_rounds(1);
    cr_expect_not(e->failed);
    cr_expect(hand->pool.maybe_work);
    cr_expect_eq(e->outstanding, 0);
    cr_expect_eq(e->ask_pause, 50000000);
    cr_expect_geq(e->ask_at, began + 50000000);
    cr_expect(strstr(hand->said, "the store did not do claims: the store of the test"), "%s",
              hand->said);
    claim_rounds(1); /* it waited */
    cr_expect_eq(e->ask_pause, 100000000);
    cr_expect_geq(exj_clock_mono_ns(), began + 50000000);
    e->ask_at = 0;
    e->promote = e->promote_due = true;
    hand->pool.maybe_work = false;
    claim_rounds(1);
    cr_expect(e->promote);
    cr_expect(e->promote_due);
    cr_expect_eq(e->ask_pause, 200000000);
    e->ask_at = 0;
    hand->rc = EXJ_OK;
    claim_rounds(1);
    cr_expect_not(e->promote);
    cr_expect_eq(e->ask_pause, 0);
    cr_expect(strstr(hand->said, "does what it is asked again"), "%s", hand->said);
    e->ask_pause = 1;
    hand->pool.maybe_work = true;
    claim_rounds(1);
    cr_expect_eq(e->ask_pause, 0);
    hand->rc = EXJ_CORRUPT; /* this does not pass */
    claim_rounds(1);
    cr_expect(e->failed);
}

Test(claimer, a_shared_store_is_asked_now_and_then_although_nobody_told_of_work)
{
    exj_engine *e = &hand->e;
    exj_nsec began = exj_clock_mono_ns();

    hand->v.shared = true;
    hand->pool.maybe_work = false;
    give = 0;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 1);
    cr_expect_not(hand->pool.maybe_work);
    cr_expect_eq(e->poll_pause, 10000000);
    cr_expect_geq(e->poll_at, began + 7500000, "up to a quarter sooner");
    cr_expect_leq(e->poll_at, exj_clock_mono_ns() + 10000000);
    claim_rounds(1); /* by itself, when it is time */
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 2);
    cr_expect_eq(e->poll_pause, 20000000);
    cr_expect_geq(exj_clock_mono_ns(), began + 7500000);
    e->poll_pause = 600000000;
    e->poll_at = 0;
    claim_rounds(1);
    cr_expect_eq(e->poll_pause, 1000000000);
    cr_expect_gt(e->poll_at, exj_clock_mono_ns() + 500000000);
    hand->pool.maybe_work = true; /* news */
    give = 2;
    claim_rounds(1);
    cr_expect_eq(e->poll_pause, 0);
    cr_expect_leq(e->poll_at, exj_clock_mono_ns() + 10000000, "more may come soon");
}

Test(claimer, a_rate_limit_holds_until_the_store_says_when)
{
    give = 0;
    again = NOW_MS + 3600000;
    claim_rounds(1);
    cr_expect_gt(hand->pool.rate_at, exj_clock_mono_ns());
    cr_expect(hand->pool.maybe_work);
    again = 0;
    more = true;
    hand->pool.rate_at = 0;
    hand->pool.maybe_work = true;
    claim_rounds(1);
    cr_expect_eq(hand->pool.rate_at, 0);
    cr_expect(hand->pool.maybe_work);
}

static void free_a_place(void)
{
    pthread_mutex_lock(&hand->e.mu);
    exj_run_freed_locked(&hand->e, &hand->pool);
    pthread_mutex_unlock(&hand->e.mu);
}

Test(claimer, a_place_that_became_free_meanwhile_is_asked_for)
{
    give = 0;
    parked = true;
    claim_rounds(1);
    cr_expect_not(hand->pool.maybe_work);
    cr_expect_eq(hand->gate.parked, 1);
    hand->pool.maybe_work = true;
    meanwhile = free_a_place;
    claim_rounds(1);
    cr_expect(hand->pool.maybe_work);
    parked = false;
    meanwhile = NULL;
    claim_rounds(1);
    cr_expect_eq(hand->gate.parked, 0);
}

Test(claimer, one_shot_takes_no_more_than_it_may)
{
    hand->e.o.max_rows = 3;
    hand->e.counts.claimed = 1;
    give = 2;
    claim_rounds(1);
    cr_expect_eq(last_want.want, 2);
    hand->e.counts.claimed = 3;
    hand->pool.maybe_work = true;
    hand->e.promote = true; /* else it would wait for ever */
    hand->seen[EXJ_OP_CLAIM] = 0;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 0);
}

Test(claimer, without_room_or_memory_nothing_is_claimed)
{
    hand->e.promote = true;
    hand->e.outstanding = 16 + 4;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 0);
    hand->e.outstanding = 17; /* more than is fetched ahead: one at least */
    hand->pool.ready = 2;
    hand->pool.depth = 4;
    hand->pool.filled_at = exj_clock_mono_ns() - (exj_nsec)5000000000; /* it shrinks to 2 */
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 1);
    cr_expect_eq(last_want.want, 1);
    hand->pool.ready = 0;
    hand->e.outstanding = 0;
    give = 2;
    for (long n = 1; n <= 3; n++) {
        unsigned before = hand->seen[EXJ_OP_CLAIM];

        hand->pool.maybe_work = true;
        hand->e.promote = true;
        rounds = 1;
        hand->answer = answer;
        hand->v.submit = submit_some;
        hand->e.stopping = false;
        exj_fault_arm(n);
        exj_run_claimer(&hand->e);
        exj_fault_disarm();
        cr_expect_eq(hand->seen[EXJ_OP_CLAIM], before, "allocation %ld", n);
        cr_expect_eq(hand->e.outstanding, 0);
    }
}

Test(claimer, what_was_promoted_is_looked_for)
{
    hand->e.promote = true;
    hand->pool.maybe_work = false;
    promoted = 3;
    next_due = 77;
    claim_rounds(1);
    cr_expect(hand->pool.maybe_work);
    cr_expect_eq(hand->e.next_due, 77);
    hand->e.promote = hand->e.promote_due = true; /* known before: pools were told then */
    hand->pool.maybe_work = false;
    hand->e.next_due = 5;
    claim_rounds(1);
    cr_expect_not(hand->pool.maybe_work);
    cr_expect_eq(hand->e.next_due, 5); /* sooner */
    hand->e.promote = hand->e.promote_due = true;
    promoted = 1000; /* as many as one takes: there may be more */
    claim_rounds(1);
    cr_expect(hand->pool.maybe_work);
    cr_expect(hand->e.promote);
    hand->e.next_due = 500;
    promoted = 0;
    next_due = 400;
    hand->pool.maybe_work = false;
    claim_rounds(1);
    cr_expect_eq(hand->e.next_due, 400);
}

/* What each pool lacks to be asked; the promotion makes the round. */
Test(claimer, a_pool_that_wants_no_rows_is_not_asked)
{
    struct pool *p = &hand->pool;

    for (int i = 0; i < 9; i++) {
        *p = (struct pool){ .id = 5, .gate = &hand->gate, .spec = &hand->spec, .wanted = i != 0,
                            .matrix_id = p->matrix_id, .run_id = p->run_id,
                            .graph_id = p->graph_id, .maybe_work = i != 1, .stale = i == 2,
                            .claiming = i == 3, .ready = i == 6 ? 3 : 0, .depth = 4,
                            .rate_at = i == 8 ? INT64_MAX : 0, .started = p->started };
        if (i == 4)
            p->spec = NULL;
        hand->spec.runnable = i != 5;
        hand->e.no_more_claims = i == 7;
        hand->e.promote = true;
        claim_rounds(1);
        cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 0, "case %d", i);
    }
    p->spec = &hand->spec;
}

/* Two pools that may be asked, and two that have to wait for their rates. */
Test(claimer, pools_share_the_room_and_are_asked_in_one_commit)
{
    static const int hours[] = { 0, 2, 1, 3 };
    struct pool more_pools[4];

    for (int i = 0; i < 4; i++) {
        more_pools[i] = hand->pool;
        more_pools[i].id = 6 + i;
        more_pools[i].next = i < 3 ? &more_pools[i + 1] : NULL;
        more_pools[i].rate_at = i ? exj_clock_mono_ns() + hours[i] * (exj_nsec)3600000000000 : 0;
    }
    hand->pool.next = &more_pools[0];
    hand->pool.depth = more_pools[0].depth = 16;
    give = 100;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 2);
    cr_expect_eq(last_want.pool, 6);
    cr_expect_eq(last_want.want, 8); /* 9 for the first, 7 left: all of it, and one */
    cr_expect_eq(hand->e.outstanding, 0);
    hand->pool.next = NULL;
}

Test(claimer, a_commit_has_a_bounded_number_of_claims)
{
    static struct pool many[70];

    for (int i = 0; i < 70; i++) {
        many[i] = hand->pool;
        many[i].next = i < 69 ? &many[i + 1] : NULL;
    }
    hand->e.pools = many;
    hand->e.o.prefetch = 8192;
    give = 0;
    claim_rounds(1);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 64);
    hand->e.pools = &hand->pool;
}

static void *let_it_claim(void *unused)
{
    (void)unused;
    exj_run_claimer(&hand->e);
    return NULL;
}

Test(claimer, waits_while_the_store_failed_or_it_is_paused_or_a_rate_holds)
{
    exj_engine *e = &hand->e;
    pthread_t thread;

    give = 0;
    rounds = 1;
    hand->answer = answer;
    hand->v.submit = submit_some;
    e->failed = e->promote = true;
    cr_assert_eq(pthread_create(&thread, NULL, let_it_claim, NULL), 0);
    wait_for_waiter(&e->claim);
    cr_expect_eq(hand->seen[EXJ_OP_PROMOTE], 0);
    pthread_mutex_lock(&e->mu);
    e->failed = e->promote = false;
    e->paused = true;
    pthread_cond_signal(&e->claim);
    pthread_mutex_unlock(&e->mu);
    wait_for_waiter(&e->claim);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 0);
    pthread_mutex_lock(&e->mu);
    e->paused = false;
    hand->pool.rate_at = exj_clock_mono_ns() + 20000000; /* nobody wakes it for this */
    pthread_cond_signal(&e->claim);
    pthread_mutex_unlock(&e->mu);
    pthread_join(thread, NULL);
    cr_expect_eq(hand->seen[EXJ_OP_CLAIM], 1);
}

/* Neither paused nor stopping: the pool is not wanted any more, or its executor cannot be used. */
Test(claimer, what_came_too_late_for_its_pool_is_given_back_by_a_claimer_that_goes_on)
{
    void (*const reasons[])(void) = { unwant, cannot_run };

    give = 2;
    hand->answer = answer;
    for (size_t i = 0; i < 2; i++) {
        pthread_t thread;

        hand->defer = true; /* so that it waits for the answer */
        hand->e.stopping = false;
        hand->pool.wanted = hand->spec.runnable = hand->pool.maybe_work = true;
        meanwhile = reasons[i];
        cr_assert_eq(pthread_create(&thread, NULL, let_it_claim, NULL), 0);
        for (unsigned n = 0; n < 2;) { /* the claim, and what is given back */
            n += hand_flush();
            sched_yield();
        }
        pthread_mutex_lock(&hand->e.mu);
        cr_expect_eq(hand->e.outstanding, 0);
        hand->e.stopping = true;
        pthread_cond_signal(&hand->e.claim);
        pthread_mutex_unlock(&hand->e.mu);
        pthread_join(thread, NULL);
        hand_flush();
        cr_expect_eq(hand->e.outstanding, 0);
    }
}

Test(claimer, what_it_got_lies_in_the_ring_and_workers_are_woken)
{
    struct batch *older = hand_batch(1);

    give = 2;
    rounds = 0;
    hand->answer = answer;
    hand->v.submit = hand_submit;
    for (int sleeping = 0; sleeping < 2; sleeping++) {
        pthread_t thread;

        hand->e.sleeping = (uint32_t)sleeping;
        hand->e.stopping = false;
        hand->pool.maybe_work = true;
        cr_assert_eq(pthread_create(&thread, NULL, let_it_claim, NULL), 0);
        pthread_mutex_lock(&hand->e.mu);
        while (hand->pool.ready < 2u * ((unsigned)sleeping + 1))
            pthread_cond_wait(&hand->e.idle, &hand->e.mu);
        hand->e.stopping = true;
        pthread_cond_signal(&hand->e.claim);
        pthread_mutex_unlock(&hand->e.mu);
        pthread_join(thread, NULL);
        cr_expect_eq(hand->pool.ready, 2u * ((unsigned)sleeping + 1));
        cr_expect(exj_slice_is(hand->pool.tail->record_id, "r"));
    }
    exj_batch_row_over(&hand->e, &older->rows[0]); /* it lies in the middle of the list */
    hand->e.outstanding--;
    drop_ring();
}

Test(claimer, leases_are_good_until_a_little_before_their_end)
{
    struct batch *b = hand_batch(1);
    exj_nsec now = exj_clock_mono_ns();

    exj_batch_keep(&hand->e, b, 1);
    cr_expect_eq(b->kept_until, 0, "in a store of its own leases do not matter");
    cr_expect_not(exj_batch_is_past(b));
    hand->v.shared = true;
    exj_batch_keep(&hand->e, b, now);
    cr_expect_eq(b->kept_until, now + (exj_nsec)58 * 1000000000);
    cr_expect_not(exj_batch_is_past(b));
    hand->e.o.lease_ms = 1000;
    exj_batch_keep(&hand->e, b, now);
    cr_expect_eq(b->kept_until, now + 900 * (exj_nsec)1000000);
    exj_batch_keep(&hand->e, b, now - (exj_nsec)1000000000);
    cr_expect(exj_batch_is_past(b));
    exj_batch_row_over(&hand->e, &b->rows[0]);
    hand->e.outstanding = 0;
}

/* ---- giving back ------------------------------------------------------------------------------ */

Test(claimer, rows_that_were_taken_for_nothing_go_back_or_are_left_to_their_leases)
{
    for (long n = 0; n <= 2; n++) {
        struct batch *b = hand_batch(2);
        struct row *rows[] = { &b->rows[0], &b->rows[1] };
        unsigned before = hand->seen[EXJ_OP_RELEASE];

        if (n)
            exj_fault_arm(n);
        exj_run_return(&hand->e, &hand->pool, rows, 2);
        exj_fault_disarm();
        hand_flush();
        cr_expect_eq(hand->seen[EXJ_OP_RELEASE], before + !n);
        cr_expect_eq(hand->e.outstanding, 0);
        cr_expect_null(hand->e.batches);
    }
    exj_run_return(&hand->e, &hand->pool, NULL, 0);
    cr_expect_eq(hand->e.outstanding, 0);
}

Test(claimer, a_ring_that_cannot_be_given_back_stays)
{
    struct batch *b = hand_batch(1);

    hand->pool.head = hand->pool.tail = &b->rows[0];
    hand->pool.ready = hand->e.ready = 1;
    pthread_mutex_lock(&hand->e.mu);
    exj_fault_arm(1);
    exj_run_release_locked(&hand->e, &hand->pool);
    exj_fault_disarm();
    cr_expect_eq(hand->pool.ready, 1);
    pthread_mutex_unlock(&hand->e.mu);
    hand->rc = EXJ_IO; /* its lease will run out */
    drop_ring();
    cr_expect_eq(hand->pool.ready, 0);
    cr_expect(strstr(hand->said, "refused releases"), "%s", hand->said);
    drop_ring(); /* empty */
}

/* ---- news ---------------------------------------------------------------------------------------- */

Test(claimer, news_of_rows_reach_their_pool_or_a_look)
{
    exj_engine *e = &hand->e;
    exj_slice m = EXJ_SLICE_LITERAL("m"), g = EXJ_SLICE_LITERAL("g"), none = { 0 };
    struct pool second = { .id = 7, .matrix_id = (char[]){ "m" }, .run_id = (char[]){ "r" },
                           .graph_id = (char[]){ "g" } };

    hand->pool.next = &second;

    cr_expect_eq(exj_engine_pool(e, m, none, g), 5);
    cr_expect_eq(exj_engine_pool(e, m, none, m), 0);
    cr_expect_eq(exj_engine_pool(e, g, none, g), 0);
    cr_expect_eq(exj_engine_pool(e, m, m, g), 0);
    hand->pool.maybe_work = false;
    exj_engine_rows_came(e, 5);
    cr_expect(hand->pool.maybe_work);
    cr_expect_not(e->look_now);
    exj_engine_rows_came(e, 6);
    cr_expect(e->look_now);
    exj_engine_rows_due(e, 50);
    cr_expect_eq(e->next_due, 50);
    exj_engine_rows_due(e, 60);
    cr_expect_eq(e->next_due, 50);
    exj_engine_rows_due(e, 40);
    cr_expect_eq(e->next_due, 40);
    hand->pool.next = NULL;
    hand->pool.maybe_work = false;
    exj_engine_rows_changed(e);
    cr_expect(hand->pool.maybe_work);
    cr_expect_eq(e->next_due, 1);
}

Test(claimer, a_free_place_is_told_to_pools_of_the_same_graph)
{
    struct gate other_gate = { .parked = 1 };
    struct pool others[2] = { hand->pool, hand->pool };

    others[0].gate = &other_gate; /* of another graph */
    others[0].parked = others[1].parked = true;
    others[0].maybe_work = others[1].maybe_work = hand->pool.maybe_work = false;
    others[0].next = &others[1];
    others[1].next = NULL;
    hand->pool.next = &others[0];
    hand->gate.parked = 1;
    free_a_place();
    cr_expect_not(hand->pool.maybe_work); /* none of its rows waits */
    cr_expect_not(others[0].maybe_work);
    cr_expect(others[1].maybe_work);
    hand->pool.next = NULL;
}
