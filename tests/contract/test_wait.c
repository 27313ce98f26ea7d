/* Suspended and blocked rows: what they wait for, and the signals that come early, late or to
 * somebody who does not wait. */
#include "durable.h"

/* A row that was claimed; the claim is the n-th of the test. */
static exj_claim begun(struct fixture *f, int64_t p, const char *id, int64_t nonce)
{
    exj_claim c;

    insert(f, p, id);
    c = claim_one(f, p, "w", nonce);
    return c;
}

/* spec 2.4: A `suspended` result names what it waits for: a time (`resumeAt`), a signal
 * (`signal: NAME`, optional timeout), or a poll (`pollAfter`). */
CONTRACT(wait, a_time_a_signal_and_a_poll_each_bring_the_row_back)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim t = begun(f, p, "time", 1), s = begun(f, p, "signal", 2),
              q = begun(f, p, "poll", 3);
    exj_msec next;
    bool delivered;

    expect_code(suspend(f, &t, EXJ_WAIT_TIME, NULL, START + 1000), EXJ_OK);
    expect_code(suspend(f, &s, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_code(suspend(f, &q, EXJ_WAIT_POLL, NULL, START + 2000), EXJ_OK);
    expect_int(count(f, p, EXJ_SUSPENDED), 3);
    cr_assert_str_eq(look(f, s.seq).signal, "go");
    expect_int(promote(f, &next), 0);
    expect_int(next, START + 1000);
    fixture_reopen(f);
    advance(f, 999);
    expect_int(promote(f, NULL), 0);
    advance(f, 1);
    expect_int(promote(f, &next), 1);
    expect_int(next, START + 2000);
    expect_words(f, t.seq, "queued claimed suspended step resumed");
    cr_assert_str_eq(newest(f, t.seq).text, "time");
    cr_assert_str_eq(step_body(f, t.seq, "timer"), "{\"resumeAt\":1700000001000}");
    advance(f, 1000);
    expect_int(promote(f, &next), 1);
    expect_int(next, 0); /* the signal has no time */
    expect_words(f, q.seq, "queued claimed suspended resumed");
    cr_assert_str_eq(newest(f, q.seq).text, "poll");
    cr_assert_str_eq(steps_of(f, q.seq), "");
    expect_code(signal_to(f, s.seq, "go", "{\"by\":\"me\"}", &delivered, NULL), EXJ_OK);
    cr_assert(delivered);
    expect_words(f, s.seq, "queued claimed suspended signal step resumed");
    cr_assert_str_eq(newest(f, s.seq).text, "signal");
    cr_assert_str_eq(newest(f, s.seq).key, "go");
    expect_int(count(f, p, EXJ_QUEUED), 3);
    expect_int(count(f, p, EXJ_SUSPENDED), 0);
}

/* spec 2.4: `POST /rows/:id/signals/:name` with a JSON body, or the time, queues the row
 * again; the signal's payload is in the journal. */
CONTRACT(wait, the_payload_is_a_step_of_the_next_attempt)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = begun(f, p, "a", 1);

    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "approve", 0), EXJ_OK);
    expect_code(signal_to(f, c.seq, "approve", "{\"yes\":true}", NULL, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 2);
    cr_assert_str_eq(step_body(f, c.seq, "signal:approve"), "{\"payload\":{\"yes\":true}}");
    /* Once more the same name: each wait has a step of its own. */
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "approve", 0), EXJ_OK);
    expect_code(signal_to(f, c.seq, "approve", "2", NULL, NULL), EXJ_OK);
    fixture_reopen(f);
    c = claim_one(f, p, "w", 3);
    cr_assert_str_eq(steps_of(f, c.seq), "signal:approve signal:approve:2");
    cr_assert_str_eq(step_body(f, c.seq, "signal:approve"), "{\"payload\":{\"yes\":true}}");
    cr_assert_str_eq(step_body(f, c.seq, "signal:approve:2"), "{\"payload\":2}");
    expect_folds(f, c.seq);
}

/* Names that look like the number of another name, and steps of the executor's own. */
CONTRACT(wait, no_payload_is_lost_to_a_name_that_is_taken)
{
    static const char *const names[] = { "a", "a:2", "a", "a:2", "a:3", "a", "a" };
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = begun(f, p, "r", 1);
    char payload[16], want[64];

    expect_code(step_put(f, &c, "signal:a:4", "\"mine\""), EXJ_OK);
    expect_code(step_put(f, &c, "timer:2", "\"mine\""), EXJ_OK);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char last[64];

        snprintf(payload, sizeof(payload), "%zu", i);
        snprintf(want, sizeof(want), "{\"payload\":%zu}", i);
        expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, names[i], 0), EXJ_OK);
        expect_code(signal_to(f, c.seq, names[i], payload, NULL, NULL), EXJ_OK);
        c = claim_one(f, p, "w", 2 + (int64_t)i);
        snprintf(last, sizeof(last), "%s", strrchr(steps_of(f, c.seq), ' ') + 1);
        cr_assert(strcmp(step_body(f, c.seq, last), want) == 0, "%s: %s is not %s", last,
                  step_body(f, c.seq, last), want);
    }
    cr_assert_str_eq(step_body(f, c.seq, "signal:a:4"), "\"mine\"");
    for (int64_t i = 0; i < 2; i++) {
        expect_code(suspend(f, &c, EXJ_WAIT_TIME, NULL, START + i), EXJ_OK);
        advance(f, 10);
        expect_int(promote(f, NULL), 1);
        c = claim_one(f, p, "w", 50 + i);
    }
    cr_assert_str_eq(step_body(f, c.seq, "timer:2"), "\"mine\"");
    cr_assert(strstr(steps_of(f, c.seq), "timer:3"), "%s", steps_of(f, c.seq));
}

/* spec 2.4: Signals that come before the wait are kept. */
CONTRACT(wait, a_signal_that_comes_early_is_kept_and_taken_oldest_first)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    bool delivered = true;
    exj_claim c;

    expect_code(signal_to(f, seq, "go", "1", &delivered, NULL), EXJ_OK); /* queued */
    cr_assert(!delivered);
    c = claim_one(f, p, "w", 1);
    expect_code(signal_to(f, seq, "other", "2", NULL, NULL), EXJ_OK); /* running */
    expect_code(signal_to(f, seq, "go", "3", NULL, NULL), EXJ_OK);
    fixture_reopen(f);
    expect_int(look(f, seq).v.status, EXJ_RUNNING);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", START + 9), EXJ_OK);
    expect_int(status_of(f, seq), EXJ_QUEUED);
    expect_words(f, seq, "queued signal claimed signal signal suspended step resumed");
    cr_assert_str_eq(step_body(f, seq, "signal:go"), "{\"payload\":1}");
    c = claim_one(f, p, "w", 2);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    cr_assert_str_eq(step_body(f, seq, "signal:go:2"), "{\"payload\":3}");
    c = claim_one(f, p, "w", 3);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_int(status_of(f, seq), EXJ_SUSPENDED); /* none is left */
    expect_code(signal_to(f, seq, "else", "4", &delivered, NULL), EXJ_OK);
    cr_assert(!delivered); /* it waits for another one */
    expect_int(status_of(f, seq), EXJ_SUSPENDED);
    expect_code(signal_to(f, seq, "go", "5", &delivered, NULL), EXJ_OK);
    cr_assert(delivered);
    cr_assert_str_eq(step_body(f, seq, "signal:go:3"), "{\"payload\":5}");
}

static bool name_signal(void *user, const exj_signal_view *v)
{
    char *to = user;
    size_t n = strlen(to);

    snprintf(to + n, 256 - n, "%s%.*s=%.*s", n ? " " : "", (int)v->name.n, v->name.p,
             (int)v->body.n, v->body.p);
    return true;
}

CONTRACT(wait, kept_signals_are_shown_and_are_so_many_and_no_more)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a"), last;
    char all[256] = "";
    exj_err err = { 0 };
    exj_claim c;

    expect_code(signal_to(f, seq, "x", "1", NULL, NULL), EXJ_OK);
    expect_code(signal_to(f, seq, "y", "2", NULL, NULL), EXJ_OK);
    expect_code(f->s->v->signal_each(f->s, seq, name_signal, all, NULL), EXJ_OK);
    cr_assert_str_eq(all, "x=1 y=2");
    for (int i = 2; i < EXJ_STORE_SIGNALS_KEPT; i++)
        expect_code(signal_to(f, seq, "x", "3", NULL, NULL), EXJ_OK);
    last = look(f, seq).v.last_entry;
    expect_code(signal_to(f, seq, "x", "4", NULL, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "100 signals"), "%s", err.text);
    expect_int(look(f, seq).v.last_entry, last);
    c = claim_one(f, p, "w", 1);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "x", 0), EXJ_OK); /* takes one */
    expect_code(signal_to(f, seq, "x", "4", NULL, NULL), EXJ_OK);
    expect_folds(f, seq);
}

CONTRACT(wait, a_signal_that_does_not_come_times_out_and_a_late_one_is_kept)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = begun(f, p, "a", 1);
    bool delivered = true;

    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", START + 1000), EXJ_OK);
    advance(f, 1000);
    expect_int(promote(f, NULL), 1);
    expect_words(f, c.seq, "queued claimed suspended step resumed");
    cr_assert_str_eq(newest(f, c.seq).text, "timeout");
    cr_assert_str_eq(step_body(f, c.seq, "signal:go"), "{\"timeout\":true}");
    expect_code(signal_to(f, c.seq, "go", "1", &delivered, NULL), EXJ_OK);
    cr_assert(!delivered);
    c = claim_one(f, p, "w", 2);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    cr_assert_str_eq(step_body(f, c.seq, "signal:go:2"), "{\"payload\":1}");
    expect_int(status_of(f, c.seq), EXJ_QUEUED);
}

/* spec 2.4: It holds no slot. */
CONTRACT(wait, a_suspended_row_has_no_lease_no_attempt_and_no_room_of_its_key)
{
    int64_t p = pool(f, "m", "", "g"), a, b;
    exj_want w = { .pool = p, .want = 2, .key_cap = 1 };
    exj_claim c, d, none[2];
    exj_reaped r[2];
    struct seen s;

    a = insert_keyed(f, p, "a", NULL, "k");
    b = insert_keyed(f, p, "b", NULL, "k");
    expect_int(claim_want(f, &w, 1, none), 1);
    c = none[0];
    expect_int(c.seq, a);
    expect_int(status_of(f, b), EXJ_PARKED);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    s = look(f, a);
    expect_int(s.v.attempts, 0);
    expect_int(s.v.lease_until, 0);
    cr_assert_str_eq(s.holder, "");
    expect_int(claim_want(f, &w, 2, none), 1); /* the key is free */
    d = none[0];
    expect_int(d.seq, b);
    advance(f, LEASE * 10);
    expect_code(renew(f, &c, LEASE), EXJ_FENCED);
    expect_code(renew(f, &d, LEASE), EXJ_OK);
    expect_int(reap(f, NULL, 0, r, 2), 0);
    expect_code(step_put(f, &c, "late", "1"), EXJ_FENCED);
    expect_int(status_of(f, a), EXJ_SUSPENDED);
    /* It goes on with attempt 1: a wait is no failure. */
    expect_code(signal_to(f, a, "go", "1", NULL, NULL), EXJ_OK);
    expect_code(finish(f, &d, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_int(claim_want(f, &w, 3, none), 1);
    expect_int(none[0].attempt, 1);
    expect_int(none[0].token, 2);
}

CONTRACT(wait, a_blocked_row_is_released_by_any_signal_or_by_the_one_it_names)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim any = begun(f, p, "any", 1), one = begun(f, p, "one", 2);
    exj_err err = { 0 };
    bool delivered;

    expect_code(block_on(f, &any, NULL), EXJ_OK);
    expect_code(block_on(f, &one, "disk"), EXJ_OK);
    fixture_reopen(f);
    cr_assert_str_eq(look(f, one.seq).signal, "disk");
    expect_code(signal_to(f, any.seq, "whatever", "1", &delivered, NULL), EXJ_OK);
    cr_assert(delivered);
    expect_words(f, any.seq, "queued claimed blocked unblocked step");
    expect_code(signal_to(f, one.seq, "whatever", "1", NULL, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "\"disk\""), "%s", err.text);
    expect_words(f, one.seq, "queued claimed blocked");
    expect_code(signal_to(f, one.seq, "disk", "{}", &delivered, NULL), EXJ_OK);
    cr_assert(delivered);
    cr_assert_str_eq(step_body(f, one.seq, "signal:disk"), "{\"payload\":{}}");
    expect_int(count(f, p, EXJ_QUEUED), 2);
    expect_int(count(f, p, EXJ_BLOCKED), 0);
    expect_int(claim_one(f, p, "w", 9).attempt, 1);
}

CONTRACT(wait, a_terminal_row_takes_no_signal)
{
    static const exj_event events[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_DEAD, EXJ_EV_CANCEL };
    int64_t p = pool(f, "m", "", "g");

    for (int i = 0; i < 3; i++) {
        char id[8];
        exj_claim c;
        exj_err err = { 0 };

        snprintf(id, sizeof(id), "r%d", i);
        c = begun(f, p, id, 1 + i);
        expect_code(finish(f, &c, events[i], 0, "1"), EXJ_OK);
        expect_code(signal_to(f, c.seq, "go", "1", NULL, &err), EXJ_REFUSED);
        cr_assert(strstr(err.text, exj_status_name(status_of(f, c.seq))), "%s", err.text);
    }
}

CONTRACT(wait, a_lost_answer_to_a_suspension_is_given_again)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = begun(f, p, "a", 1);

    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_words(f, c.seq, "queued claimed suspended");
    expect_code(signal_to(f, c.seq, "go", "1", NULL, NULL), EXJ_OK);
    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_int(status_of(f, c.seq), EXJ_QUEUED); /* and does not suspend it anew */
    expect_words(f, c.seq, "queued claimed suspended signal step resumed");
}

CONTRACT(wait, many_rows_resume_each_at_its_time_and_within_the_limit)
{
    int64_t p = pool(f, "m", "", "g");
    exj_op op = { .kind = EXJ_OP_PROMOTE };
    unsigned n = scaled(f, 600) & ~1u;
    unsigned bite = n > 512 ? 256 : n / 2 - 1; /* as many as it takes at once */
    exj_claim c[600];
    char id[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "r%u", i);
        insert(f, p, id);
    }
    expect_int(claim(f, p, "w", 1, n, c), n);
    for (unsigned i = 0; i < n; i++)
        expect_code(suspend(f, &c[i], EXJ_WAIT_TIME, NULL, START + 1000 + i % 2 * 5000),
                    EXJ_OK);
    advance(f, 1000);
    op.u.promote.limit = bite;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.promote.ret_promoted, bite);
    expect_int(op.u.promote.ret_next_due, START + 1000);
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.promote.ret_promoted, n / 2 - bite);
    expect_int(op.u.promote.ret_next_due, START + 6000);
    expect_int(count(f, p, EXJ_SUSPENDED), n / 2);
    expect_int(count(f, p, EXJ_QUEUED), n / 2);
    advance(f, 5000);
    op.u.promote.limit = n;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.promote.ret_promoted, n / 2);
    expect_int(count(f, p, EXJ_QUEUED), n);
}
