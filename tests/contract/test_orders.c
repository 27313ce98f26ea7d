/* What operators order, and the steps that rerun keeps or forgets. */
#include "durable.h"

static exj_claim ran(struct fixture *f, int64_t p, const char *id, int64_t nonce)
{
    static const char *const keys[] = { "a", "b", "c" };
    exj_claim c;

    insert(f, p, id);
    c = claim_one(f, p, "w", nonce);
    for (int i = 0; i < 3; i++) {
        expect_code(step_begin(f, &c, keys[i], NULL), EXJ_OK);
        expect_code(step_put(f, &c, keys[i], "1"), EXJ_OK);
    }
    return c;
}

/* spec 2.3: `rerun --from STEP` drops the entries of that step and all later ones, keeps the
 * earlier, raises the token and queues the row. */
CONTRACT(orders, rerun_from_a_step_keeps_the_earlier_ones_and_raises_the_token)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = ran(f, p, "r", 1), d;
    size_t dropped = 0, kept = 0;

    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "\"one\""), EXJ_OK);
    expect_code(rerun(f, c.seq, "b", &dropped, &kept, NULL), EXJ_OK);
    expect_int(dropped, 2);
    expect_int(kept, 1);
    expect_int(look(f, c.seq).v.token, 2);
    expect_int(look(f, c.seq).v.attempts, 0);
    expect_int(status_of(f, c.seq), EXJ_QUEUED);
    cr_assert_str_eq(look(f, c.seq).result, "");
    cr_assert_str_eq(steps_of(f, c.seq), "a");
    cr_assert_str_eq(newest(f, c.seq).key, "b");
    fixture_reopen(f);
    /* The claim of before is over: nothing of it is taken. */
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "\"one\""), EXJ_FENCED);
    expect_code(step_put(f, &c, "b", "9"), EXJ_FENCED);
    expect_code(renew(f, &c, LEASE), EXJ_FENCED);
    d = claim_one(f, p, "w", 2);
    expect_int(d.token, 3);
    expect_int(d.attempt, 1);
    expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_FENCED);
    expect_code(step_put(f, &d, "b", "2"), EXJ_OK);
    expect_code(finish(f, &d, EXJ_EV_SUCCEED, 0, "\"two\""), EXJ_OK);
    cr_assert_str_eq(step_body(f, c.seq, "b"), "2");
    expect_words(f, c.seq,
                 "queued claimed step_begun step step_begun step step_begun step completed "
                 "rerun claimed step completed");
}

CONTRACT(orders, rerun_from_the_start_forgets_all_steps_and_what_a_wait_heard)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = ran(f, p, "r", 1);
    size_t dropped = 0, kept = 9;

    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", 0), EXJ_OK);
    expect_code(signal_to(f, c.seq, "go", "1", NULL, NULL), EXJ_OK);
    c = claim_one(f, p, "w", 2);
    expect_code(step_begin(f, &c, "d", NULL), EXJ_OK); /* begun, never finished */
    expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
    cr_assert_str_eq(steps_of(f, c.seq), "a b c signal:go d?");
    expect_code(rerun(f, c.seq, NULL, &dropped, &kept, NULL), EXJ_OK);
    expect_int(dropped, 5);
    expect_int(kept, 0);
    cr_assert_str_eq(steps_of(f, c.seq), "");
    expect_folds(f, c.seq);
}

/* spec 2.3: Unknown step, or no earlier run: a clear refusal. */
CONTRACT(orders, rerun_of_an_unknown_step_or_of_a_row_that_never_ran_is_refused)
{
    int64_t p = pool(f, "m", "", "g"), never = insert(f, p, "never"), last;
    exj_err err = { 0 };
    exj_claim c;

    expect_code(cancel(f, never, NULL, NULL), EXJ_OK);
    expect_code(rerun(f, never, NULL, NULL, NULL, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "never run"), "%s", err.text);
    expect_words(f, never, "queued canceled");
    c = ran(f, p, "r", 1);
    err = (exj_err){ 0 };
    expect_code(rerun(f, c.seq, "a", NULL, NULL, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "running"), "%s", err.text);
    expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    last = look(f, c.seq).v.last_entry;
    err = (exj_err){ 0 };
    expect_code(rerun(f, c.seq, "z", NULL, NULL, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, "\"z\""), "%s", err.text);
    expect_int(look(f, c.seq).v.last_entry, last);
    expect_int(status_of(f, c.seq), EXJ_COMPLETED);
    cr_assert_str_eq(look(f, c.seq).result, "1");
}

CONTRACT(orders, rerun_and_retry_wait_for_a_unique_key_that_was_taken_meanwhile)
{
    int64_t p = pool(f, "m", "", "g"), a = insert_keyed(f, p, "a", "u", NULL), b;
    exj_claim c = claim_one(f, p, "w", 1);
    exj_err err = { 0 };

    expect_code(step_put(f, &c, "s", "1"), EXJ_OK);
    expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
    b = insert_keyed(f, p, "b", "u", NULL);
    expect_code(rerun(f, a, NULL, NULL, NULL, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, "\"u\""), "%s", err.text);
    expect_code(retry(f, a, NULL), EXJ_REFUSED);
    expect_words(f, a, "queued claimed step failed");
    cr_assert_str_eq(steps_of(f, a), "s");
    expect_int(look(f, a).v.token, 1);
    expect_code(cancel(f, b, NULL, NULL), EXJ_OK);
    expect_code(rerun(f, a, NULL, NULL, NULL, NULL), EXJ_OK);
    /* It has the key again. */
    expect_code(retry(f, b, NULL), EXJ_REFUSED);
    expect_words(f, a, "queued claimed step failed rerun");
}

CONTRACT(orders, a_failure_before_a_rerun_does_not_count_after_it)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert_as(f, p, "a", 0, 1, 0);
    exj_claim c = claim_one(f, p, "w", 1);
    uint32_t n = 9;

    expect_code(finish(f, &c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
    expect_code(rerun(f, seq, NULL, NULL, NULL, NULL), EXJ_OK);
    expect_code(f->s->v->failure_count(f->s, seq, EXJ_SLICE_LITERAL("E_TEST"), &n, NULL),
                EXJ_OK);
    expect_int(n, 0);
    c = claim_one(f, p, "w", 2);
    expect_int(c.attempt, 1);
}

CONTRACT(orders, cancel_tells_why_in_the_row_and_its_journal)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    exj_status to = EXJ_QUEUED;
    struct seen s;

    expect_code(cancel(f, seq, &to, NULL), EXJ_OK);
    expect_int(to, EXJ_CANCELED);
    fixture_reopen(f);
    s = look(f, seq);
    expect_int(s.v.status, EXJ_CANCELED);
    expect_int(s.v.finished_at, START);
    cr_assert_str_eq(s.code, "Canceled");
    cr_assert_str_eq(s.text, "no longer wanted");
    cr_assert_str_eq(newest(f, seq).text, "no longer wanted");
    expect_int(count(f, p, EXJ_CANCELED), 1);
    expect_int(count(f, p, EXJ_QUEUED), 0);
}

CONTRACT(orders, a_canceled_wait_is_over)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim c = ran(f, p, "a", 1), d;

    expect_code(suspend(f, &c, EXJ_WAIT_SIGNAL, "go", START + 100), EXJ_OK);
    expect_code(cancel(f, c.seq, NULL, NULL), EXJ_OK);
    advance(f, 1000);
    expect_int(promote(f, NULL), 0);
    expect_code(signal_to(f, c.seq, "go", "1", NULL, NULL), EXJ_REFUSED);
    cr_assert_str_eq(look(f, c.seq).signal, "");
    expect_code(retry(f, c.seq, NULL), EXJ_OK);
    d = claim_one(f, p, "w", 2);
    expect_code(block_on(f, &d, "disk"), EXJ_OK);
    expect_code(cancel(f, d.seq, NULL, NULL), EXJ_OK);
    cr_assert_str_eq(look(f, d.seq).signal, "");
    expect_words(f, d.seq,
                 "queued claimed step_begun step step_begun step step_begun step suspended "
                 "canceled retried claimed blocked canceled");
}

/* ---- steps ------------------------------------------------------------------------------- */

/* spec 2.3: Executors record finished steps: `step_get(key)` / `step_put(key, result)`; on a
 * later attempt the stored result is returned and the step is not run again. An entry is
 * written once: a second writer of the same key gets the first writer's entry.
 * spec 2.10: A completed step's result is what every later attempt sees. */
CONTRACT(steps, what_is_finished_stays_and_what_had_begun_is_told)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    exj_claim c = claim_one(f, p, "w", 1), d;
    bool again = true;

    expect_code(step_begin(f, &c, "pay", &again), EXJ_OK);
    cr_assert(!again);
    expect_code(step_put(f, &c, "pay", "\"first\""), EXJ_OK);
    expect_code(step_put(f, &c, "pay", "\"second\""), EXJ_CONFLICT);
    expect_code(step_begin(f, &c, "pay", &again), EXJ_CONFLICT);
    cr_assert(!again);
    expect_code(step_begin(f, &c, "mail", &again), EXJ_OK);
    cr_assert_str_eq(steps_of(f, seq), "pay mail?");
    fixture_reopen(f);
    expect_code(release(f, &c), EXJ_OK); /* it is gone; nobody knows whether it sent the mail */
    d = claim_one(f, p, "w", 2);
    expect_code(step_begin(f, &c, "mail", NULL), EXJ_FENCED);
    expect_code(step_put(f, &c, "mail", "1"), EXJ_FENCED);
    expect_code(step_begin(f, &d, "mail", &again), EXJ_OK);
    cr_assert(again);
    expect_code(step_put(f, &d, "mail", "2"), EXJ_OK);
    cr_assert_str_eq(step_body(f, seq, "pay"), "\"first\"");
    cr_assert_str_eq(step_body(f, seq, "mail"), "2");
    cr_assert_str_eq(steps_of(f, seq), "pay mail");
    expect_words(f, seq,
                 "queued claimed step_begun step step_begun released claimed step_begun step");
}

struct one_step {
    exj_step_view v;
    char body[64];
};

static bool keep_step(void *user, const exj_step_view *v)
{
    struct one_step *s = user;

    s->v = *v;
    snprintf(s->body, sizeof(s->body), "%.*s", (int)v->body.n, v->body.n ? v->body.p : "");
    return true;
}

/* spec 2.3: Journal entries carry attempt, token, times, size, and a reference when the
 * payload is offloaded. */
CONTRACT(steps, an_entry_carries_attempt_token_times_and_size)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    exj_claim c = claim_one(f, p, "w", 1);
    struct one_step s = { 0 };
    struct newest n;

    expect_code(finish(f, &c, EXJ_EV_FAIL_RETRY, START, "x"), EXJ_OK);
    expect_int(promote(f, NULL), 1);
    c = claim_one(f, p, "w", 2);
    advance(f, 100);
    expect_code(step_begin(f, &c, "s", NULL), EXJ_OK);
    n = newest(f, seq);
    expect_int(n.e.kind, EXJ_ENTRY_STEP_BEGUN);
    expect_int(n.e.at, START + 100);
    advance(f, 50);
    expect_code(step_put(f, &c, "s", "[1,2]"), EXJ_OK);
    n = newest(f, seq);
    expect_int(n.e.kind, EXJ_ENTRY_STEP);
    expect_int(n.e.at, START + 150);
    expect_int(n.e.token, 2);
    expect_int(n.e.attempt, 2);
    expect_int(n.e.value, 5);
    cr_assert_str_eq(n.key, "s");
    expect_code(f->s->v->step_each(f->s, seq, keep_step, &s, NULL), EXJ_OK);
    cr_assert(s.v.done);
    expect_int(s.v.began_at, START + 100);
    expect_int(s.v.at, START + 150);
    expect_int(s.v.token, 2);
    expect_int(s.v.attempt, 2);
    expect_int(s.v.number, n.e.number);
    cr_assert_str_eq(s.body, "[1,2]");
}

CONTRACT(steps, progress_is_of_this_attempt_and_of_its_holder)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    exj_claim c = claim_one(f, p, "w", 1);

    cr_assert(look(f, seq).v.progress < 0);
    expect_code(progress(f, &c, 0.25, "a quarter"), EXJ_OK);
    cr_assert(look(f, seq).v.progress == 0.25);
    cr_assert_str_eq(look(f, seq).note, "a quarter");
    expect_int(newest(f, seq).e.value, 250000);
    expect_code(progress(f, &c, 7, "too far"), EXJ_OK);
    cr_assert(look(f, seq).v.progress == 1);
    expect_code(progress(f, &c, 0.0 / 0.0, "who knows"), EXJ_OK);
    cr_assert(look(f, seq).v.progress < 0);
    expect_int(newest(f, seq).e.value, -1);
    expect_code(progress(f, &c, 0.5, ""), EXJ_OK);
    fixture_reopen(f);
    cr_assert(look(f, seq).v.progress == 0.5);
    expect_code(release(f, &c), EXJ_OK);
    expect_code(progress(f, &c, 0.9, "late"), EXJ_FENCED);
    claim_one(f, p, "w", 2);
    cr_assert(look(f, seq).v.progress < 0); /* of the attempt before */
    expect_words(f, seq,
                 "queued claimed progress progress progress progress released claimed");
}
