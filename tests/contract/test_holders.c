/* Two holders of one row, in every order of claim, expiry, renewal and outcome. */
#include "contract.h"

#define A 101
#define B 202

static exj_reaped reaped[16];

/* Everything that A's old claim may try, and what must stand afterwards: nothing of it. */
static void old_claim_is_powerless(struct fixture *f, const exj_claim *a)
{
    struct row before = row(f, "m", "", "g", "a"), after;
    exj_buf step = EXJ_BUF_INIT;

    expect_code(finish(f, a, EXJ_EV_SUCCEED, 0, "\"of A\""), EXJ_FENCED);
    expect_code(finish(f, a, EXJ_EV_FAIL_RETRY, START, "text of A"), EXJ_FENCED);
    expect_code(finish(f, a, EXJ_EV_FAIL_DEAD, 0, "text of A"), EXJ_FENCED);
    expect_code(finish(f, a, EXJ_EV_BLOCK, 0, "text of A"), EXJ_FENCED);
    expect_code(finish(f, a, EXJ_EV_SUSPEND, 0, "\"of A\""), EXJ_FENCED);
    expect_code(renew(f, a, 10 * LEASE), EXJ_FENCED);
    expect_code(release(f, a), EXJ_FENCED);
    expect_code(step_put(f, a, "late", "\"of A\""), EXJ_FENCED);
    expect_code(f->s->v->step_get(f->s, a->seq, exj_slice_of("late"), &step, NULL),
                EXJ_NOT_FOUND);
    after = row(f, "m", "", "g", "a");
    expect_int(after.v.status, before.v.status);
    expect_int(after.v.token, before.v.token);
    expect_int(after.v.attempts, before.v.attempts);
    expect_int(after.v.lease_until, before.v.lease_until);
    cr_assert_str_eq(after.result, before.result);
    cr_assert_str_eq(after.holder, before.holder);
    cr_assert_str_eq(after.text, before.text);
    cr_assert(!strstr(after.text, "of A"));
    exj_buf_release(&step);
}

static exj_claim expired_claim(struct fixture *f, int64_t p)
{
    exj_claim a;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, reaped, 16), 1);
    expect_int(reaped[0].seq, a.seq);
    expect_int(reaped[0].token, a.token);
    expect_int(reaped[0].to, EXJ_QUEUED);
    return a;
}

/* spec 2.2: EVERY write of an outcome, a journal entry or a heartbeat names the token,
 * and is refused when the row's token is newer. */
CONTRACT(holders, nothing_of_an_expired_claim_is_accepted_while_the_row_is_queued)
{
    exj_claim a = expired_claim(f, pool(f, "m", "", "g"));

    old_claim_is_powerless(f, &a);
}

/* spec 2.2: EVERY write of an outcome, a journal entry or a heartbeat names the token,
 * and is refused when the row's token is newer.
 * spec 2.10: At most one accepted outcome per attempt chain; no outcome from a token
 * older than the newest. */
CONTRACT(holders, nothing_of_an_expired_claim_is_accepted_while_another_runs_it)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a = expired_claim(f, p), b = claim_one(f, p, "B", B);

    expect_int(b.token, a.token + 1);
    expect_int(b.attempt, 2);
    old_claim_is_powerless(f, &a);
    expect_code(renew(f, &b, LEASE), EXJ_OK);
    expect_code(step_put(f, &b, "s", "1"), EXJ_OK);
    expect_code(finish(f, &b, EXJ_EV_SUCCEED, 0, "\"of B\""), EXJ_OK);
    cr_assert_str_eq(row(f, "m", "", "g", "a").result, "\"of B\"");
}

/* spec 2.2: What is promised: a row's outcome is accepted exactly once; an executor may
 * start more than once (crash, expiry) and is told the attempt number and an idempotency
 * key (`jobId`) that stays the same over attempts.
 * spec 2.10: At most one accepted outcome per attempt chain; no outcome from a token
 * older than the newest. */
CONTRACT(holders, nothing_of_an_expired_claim_is_accepted_after_each_outcome_of_another)
{
    static const exj_event events[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_RETRY, EXJ_EV_FAIL_DEAD,
                                        EXJ_EV_BLOCK, EXJ_EV_SUSPEND };

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        int64_t p = pool(f, "m", "", "g");
        exj_claim a = expired_claim(f, p), b = claim_one(f, p, "B", B);

        expect_code(finish(f, &b, events[i], START + 10 * LEASE, "\"by B\""), EXJ_OK);
        old_claim_is_powerless(f, &a);
        fixture_close(f);
        fixture_open(f, f->maker);
    }
}

CONTRACT(holders, the_same_holder_claiming_again_is_another_claim)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a = expired_claim(f, p), again = claim_one(f, p, "A", B);

    old_claim_is_powerless(f, &a);
    expect_code(finish(f, &again, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
}

CONTRACT(holders, a_released_claim_is_over)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a, b;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    expect_code(release(f, &a), EXJ_OK);
    b = claim_one(f, p, "B", B);
    old_claim_is_powerless(f, &a);
    expect_code(finish(f, &b, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    old_claim_is_powerless(f, &a);
}

CONTRACT(holders, an_expired_claim_may_still_finish_before_the_reaper)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    advance(f, 5 * LEASE);
    expect_code(finish(f, &a, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(reap(f, NULL, 0, reaped, 16), 0);
}

CONTRACT(holders, a_renewal_that_is_late_still_keeps_the_row)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    advance(f, 2 * LEASE);
    expect_code(renew(f, &a, LEASE), EXJ_OK);
    expect_int(row(f, "m", "", "g", "a").v.lease_until, START + 3 * LEASE);
    expect_int(reap(f, NULL, 0, reaped, 16), 0);
    advance(f, LEASE - 1);
    expect_int(reap(f, NULL, 0, reaped, 16), 0);
    advance(f, 2);
    expect_int(reap(f, NULL, 5, reaped, 16), 0);
    expect_int(reap(f, NULL, 0, reaped, 16), 1);
    expect_code(renew(f, &a, LEASE), EXJ_FENCED);
}

CONTRACT(holders, a_wrong_token_or_nonce_is_fenced)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a, wrong;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    wrong = a;
    wrong.nonce = B;
    old_claim_is_powerless(f, &wrong);
    wrong = a;
    wrong.token++;
    expect_code(finish(f, &wrong, EXJ_EV_SUCCEED, 0, "1"), EXJ_FENCED);
    expect_code(step_put(f, &wrong, "s", "1"), EXJ_FENCED);
    wrong = a;
    wrong.nonce = 0;
    old_claim_is_powerless(f, &wrong);
    expect_code(finish(f, &a, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
}

CONTRACT(holders, a_row_whose_attempts_are_used_up_ends_with_its_lease)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a;
    struct row r;

    insert_as(f, p, "a", 0, 1, 0);
    a = claim_one(f, p, "A", A);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, reaped, 16), 1);
    expect_int(reaped[0].to, EXJ_FAILED);
    r = row(f, "m", "", "g", "a");
    expect_int(r.v.status, EXJ_FAILED);
    expect_int(r.v.attempts, 1);
    expect_int(r.v.token, a.token);
    cr_assert_str_eq(r.code, "LEASE_EXPIRED");
    old_claim_is_powerless(f, &a);
    expect_int(count(f, p, EXJ_FAILED), 1);
    expect_int(count(f, p, EXJ_RUNNING), 0);
}

/* Where other workers may be at work, nobody takes their rows before their time. */
CONTRACT(holders, at_start_the_rows_of_all_others_are_taken_back_at_once_if_it_is_alone)
{
    exj_op op = { .kind = EXJ_OP_REAP, .u.reap = { .all_but = "B", .ret = reaped, .limit = 16 } };
    int64_t p = pool(f, "m", "", "g");
    exj_claim a, b;

    insert(f, p, "a");
    insert(f, p, "b");
    a = claim_one(f, p, "A", A);
    b = claim_one(f, p, "B", B);
    if (f->maker->shared) {
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_REFUSED);
        expect_int(count(f, p, EXJ_RUNNING), 2);
        expect_code(renew(f, &a, LEASE), EXJ_OK);
        return;
    }
    expect_int(reap(f, "B", 0, reaped, 16), 1);
    expect_int(reaped[0].seq, a.seq);
    expect_code(renew(f, &b, LEASE), EXJ_OK);
    expect_int(reap(f, "never seen", 0, reaped, 16), 1);
    expect_int(reaped[0].seq, b.seq);
}

CONTRACT_SHARED(holders, a_second_worker_takes_what_is_left_and_what_is_over_and_nothing_else)
{
    int64_t p = pool(f, "m", "", "g"), only;
    exj_store *other, *mine = f->s;
    exj_claim a, b;

    insert(f, p, "a");
    only = insert(f, p, "b");
    a = claim_one(f, p, "A", A);
    other = fixture_second(f);
    f->s = other;
    expect_int(pool(f, "m", "", "g"), p);
    expect_int(claim(f, p, "B", B, 5, &b), 1); /* to open a store takes nothing from anybody */
    expect_int(b.seq, only);
    expect_int(reap(f, NULL, 0, reaped, 16), 0);
    advance(f, LEASE - 1);
    f->s = mine;
    expect_code(renew(f, &a, LEASE), EXJ_OK);
    advance(f, 2);
    expect_int(reap(f, NULL, 0, reaped, 16), 1);
    expect_int(reaped[0].seq, b.seq);
    f->s = other;
    expect_code(finish(f, &b, EXJ_EV_SUCCEED, 0, "\"of B\""), EXJ_FENCED);
    expect_int(row(f, "m", "", "g", "b").v.status, EXJ_QUEUED);
    b = claim_one(f, p, "B", B + 1);
    expect_int(b.token, 2);
    f->s = mine;
    other->v->close(other); /* and to close one ends nobody's claims */
    expect_code(finish(f, &a, EXJ_EV_SUCCEED, 0, "\"of A\""), EXJ_OK);
    expect_int(count(f, p, EXJ_COMPLETED), 1);
    expect_int(count(f, p, EXJ_RUNNING), 1);
}

/* spec 2.2: Expired leases are reaped by any worker, bounded per tick, and the row
 * becomes claimable. */
CONTRACT(holders, reaping_stops_at_its_limit)
{
    int64_t p = pool(f, "m", "", "g");
    unsigned n = scaled(f, 600), bite = n > 512 ? 256 : n / 2; /* as many as it takes at once */
    exj_claim c[600];
    static exj_reaped many[600];
    char id[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "r%u", i);
        insert(f, p, id);
    }
    expect_int(claim(f, p, "A", A, n, c), n);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, many, bite), bite);
    expect_int(reap(f, NULL, 0, many, 600), n - bite);
    expect_int(reap(f, NULL, 0, many, 600), 0);
    expect_int(count(f, p, EXJ_QUEUED), n);
}

/* spec 2.3: An entry is written once: a second writer of the same key gets the first
 * writer's entry. */
CONTRACT(holders, a_step_is_written_once_and_read_by_the_next_attempt)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a, b;
    exj_buf step = EXJ_BUF_INIT;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    expect_code(step_put(f, &a, "fetch", "\"first\""), EXJ_OK);
    expect_code(step_put(f, &a, "fetch", "\"second\""), EXJ_CONFLICT);
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, reaped, 16), 1);
    b = claim_one(f, p, "B", B);
    expect_code(step_put(f, &b, "fetch", "\"third\""), EXJ_CONFLICT);
    expect_code(f->s->v->step_get(f->s, b.seq, exj_slice_of("fetch"), &step, NULL), EXJ_OK);
    cr_assert(exj_slice_is(exj_buf_slice(&step), "\"first\""));
    exj_buf_release(&step);
}

struct steps_seen {
    char text[200];
    size_t len, most;
};

static bool note_step(void *user, const exj_step_view *v)
{
    exj_slice key = v->key, body = v->body;
    struct steps_seen *seen = user;
    size_t n = strlen(seen->text);

    snprintf(seen->text + n, sizeof(seen->text) - n, "%.*s=%.*s;", (int)key.n, key.p,
             (int)body.n, body.p);
    return ++seen->len < seen->most;
}

CONTRACT(holders, all_steps_of_a_row_are_visited_in_order_and_no_other_rows)
{
    int64_t p = pool(f, "m", "", "g");
    struct steps_seen seen = { .most = 100 };
    exj_claim a, b;

    insert(f, p, "a");
    insert(f, p, "b");
    a = claim_one(f, p, "A", A);
    b = claim_one(f, p, "B", B);
    expect_code(f->s->v->step_each(f->s, a.seq, note_step, &seen, NULL), EXJ_OK);
    expect_int((int64_t)seen.len, 0);
    expect_code(step_put(f, &a, "send", "2"), EXJ_OK);
    expect_code(step_put(f, &a, "fetch", "{\"x\":1}"), EXJ_OK);
    expect_code(step_put(f, &b, "other", "3"), EXJ_OK);
    expect_code(f->s->v->step_each(f->s, a.seq, note_step, &seen, NULL), EXJ_OK);
    cr_assert_str_eq(seen.text, "send=2;fetch={\"x\":1};");
    seen = (struct steps_seen){ .most = 1 };
    expect_code(f->s->v->step_each(f->s, a.seq, note_step, &seen, NULL), EXJ_OK);
    cr_assert_str_eq(seen.text, "send=2;");
}

/* spec 2.2: Time that decides expiry comes from the store (MongoDB's server clock; the
 * embedded store's single host clock), never compared across hosts. */
CONTRACT(holders, a_clock_that_steps_back_neither_reaps_nor_revives)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a;

    insert(f, p, "a");
    a = claim_one(f, p, "A", A);
    f->time.wall_ms -= 3600 * 1000;
    expect_int(reap(f, NULL, 0, reaped, 16), 0);
    cr_assert(f->s->v->now(f->s) >= START);
    expect_code(renew(f, &a, LEASE), EXJ_OK);
    expect_int(row(f, "m", "", "g", "a").v.lease_until, START + LEASE);
    /* Time goes on at the other clock's pace: the lease still ends. A server's stands still until
     * it has caught up. */
    if (f->maker->shared)
        f->time.wall_ms += 3600 * 1000;
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, reaped, 16), 1);
    if (f->maker->shared)
        return;
    /* And a restart under the old wall clock does not go back behind what was stored. */
    a = claim_one(f, p, "A", B);
    fixture_reopen(f);
    cr_assert(f->s->v->now(f->s) >= START + LEASE - 1000, "%" PRId64, f->s->v->now(f->s));
}
