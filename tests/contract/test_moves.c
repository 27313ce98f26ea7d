/* Each pair of a state and an operation: what the table of core/job/state.h allows happens,
 * everything else is refused with the table's reason and changes nothing. */
#include "durable.h"

enum deed {
    PROMOTE, CLAIM, CLAIM_FULL, LET_IN, SUCCEED, FAIL_RETRY, FAIL_DEAD, BLOCK, SUSPEND,
    CANCEL_BY_HOLDER, RELEASE, REAP, REAP_LAST, RETRY, RERUN, CANCEL, SIGNAL, OVERFLOW, DEEDS
};

/* The event of the table that the operation is, for a row of this status. */
static exj_event event_of(enum deed d, exj_status s)
{
    static const exj_event events[DEEDS] = {
        [PROMOTE] = EXJ_EV_PROMOTE,   [CLAIM] = EXJ_EV_CLAIM,
        [CLAIM_FULL] = EXJ_EV_PARK,   [LET_IN] = EXJ_EV_UNPARK,
        [SUCCEED] = EXJ_EV_SUCCEED,   [FAIL_RETRY] = EXJ_EV_FAIL_RETRY,
        [FAIL_DEAD] = EXJ_EV_FAIL_DEAD, [BLOCK] = EXJ_EV_BLOCK,
        [SUSPEND] = EXJ_EV_SUSPEND,   [CANCEL_BY_HOLDER] = EXJ_EV_CANCEL,
        [RELEASE] = EXJ_EV_RELEASE,   [REAP] = EXJ_EV_REAP,
        [REAP_LAST] = EXJ_EV_REAP_DEAD, [RETRY] = EXJ_EV_RETRY,
        [RERUN] = EXJ_EV_RERUN,       [CANCEL] = EXJ_EV_CANCEL,
        [SIGNAL] = EXJ_EV_UNBLOCK,    [OVERFLOW] = EXJ_EV_DROP,
    };

    if (s == EXJ_SUSPENDED && (d == PROMOTE || d == SIGNAL))
        return EXJ_EV_RESUME;
    if (s == EXJ_RUNNING && d == CANCEL)
        return EXJ_EV_CANCEL_ASK;
    return events[d];
}

struct scene {
    struct fixture *f;
    int64_t pool, seq, holder_row;
    exj_claim c, holder; /* the row's newest claim; of the row that has the key */
    int64_t nonce;
};

static size_t claim_in(struct scene *s, uint32_t want, exj_claim *ret)
{
    exj_want w = { .pool = s->pool, .want = want, .key_cap = 1 };

    return claim_want(s->f, &w, s->nonce++, ret);
}

/* A row before the one we look at takes the concurrency key. */
static void take_key(struct scene *s)
{
    exj_insert_item it = { .concurrency_key = EXJ_SLICE_LITERAL("k"),
                           .has_priority = true, .priority = 9 };

    s->holder_row = insert_with(s->f, s->pool, "holder", &it, (exj_overflow_rule){ 0 });
    expect_int(claim_in(s, 1, &s->holder), 1);
    expect_int(s->holder.seq, s->holder_row);
}

static void bring_to(struct scene *s, struct fixture *f, const char *graph, exj_status to,
                     uint32_t max_attempts)
{
    exj_msec now = f->s->v->now(f->s);
    exj_insert_item it = { .concurrency_key = EXJ_SLICE_LITERAL("k"),
                           .record_id = EXJ_SLICE_LITERAL("row"),
                           .input = EXJ_SLICE_LITERAL("{}") };
    exj_op op = { .kind = EXJ_OP_INSERT };
    exj_claim none;

    *s = (struct scene){ .f = f, .pool = pool(f, "m", "", graph), .nonce = 100 };
    op.u.insert.pool = s->pool;
    op.u.insert.max_attempts = max_attempts;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    s->seq = it.seq;
    expect_int(claim_in(s, 1, &s->c), 1); /* each row has run: it has an old claim */
    if (to != EXJ_RUNNING && to != EXJ_WAITING && to != EXJ_COMPLETED && to != EXJ_FAILED &&
        to != EXJ_BLOCKED && to != EXJ_SUSPENDED)
        expect_code(release(f, &s->c), EXJ_OK);
    switch (to) {
    case EXJ_WAITING:
        expect_code(finish(f, &s->c, EXJ_EV_FAIL_RETRY, now + 5000, "x"), EXJ_OK);
        break;
    case EXJ_COMPLETED:
        expect_code(finish(f, &s->c, EXJ_EV_SUCCEED, 0, "{}"), EXJ_OK);
        break;
    case EXJ_FAILED:
        expect_code(finish(f, &s->c, EXJ_EV_FAIL_DEAD, 0, "x"), EXJ_OK);
        break;
    case EXJ_BLOCKED:
        expect_code(finish(f, &s->c, EXJ_EV_BLOCK, 0, "x"), EXJ_OK);
        break;
    case EXJ_SUSPENDED:
        expect_code(suspend(f, &s->c, EXJ_WAIT_SIGNAL, "go", now + 5000), EXJ_OK);
        break;
    case EXJ_CANCELED:
        expect_code(cancel(f, s->seq, NULL, NULL), EXJ_OK);
        break;
    case EXJ_DROPPED:
        insert_with(f, s->pool, "newer", &(exj_insert_item){ .status = 0 },
                    (exj_overflow_rule){ .on = true, .max_queue = 1 });
        break;
    case EXJ_PARKED:
        take_key(s);
        expect_int(claim_in(s, 1, &none), 0);
        break;
    default:
        break;
    }
    expect_int(status_of(f, s->seq), to);
}

/* Does it; what the store answered to whoever asked. */
static exj_code act(struct scene *s, enum deed d, exj_err *err)
{
    struct fixture *f = s->f;
    exj_reaped r[8];
    exj_claim c;

    switch (d) {
    case PROMOTE:
        advance(f, 6000);
        promote(f, NULL);
        return EXJ_OK;
    case CLAIM:
        claim_in(s, 1, &c);
        return EXJ_OK;
    case CLAIM_FULL:
        if (!s->holder_row && status_of(f, s->seq) != EXJ_RUNNING)
            take_key(s);
        claim_in(s, 1, &c);
        return EXJ_OK;
    case LET_IN:
        if (!s->holder_row)
            return EXJ_OK;
        return finish(f, &s->holder, EXJ_EV_SUCCEED, 0, "{}");
    case SUCCEED:
        return finish(f, &s->c, EXJ_EV_SUCCEED, 0, "{\"late\":1}");
    case FAIL_RETRY:
        return finish(f, &s->c, EXJ_EV_FAIL_RETRY, f->s->v->now(f->s) + 5000, "late");
    case FAIL_DEAD:
        return finish(f, &s->c, EXJ_EV_FAIL_DEAD, 0, "late");
    case BLOCK:
        return finish(f, &s->c, EXJ_EV_BLOCK, 0, "late");
    case SUSPEND:
        return suspend(f, &s->c, EXJ_WAIT_SIGNAL, "go", 0);
    case CANCEL_BY_HOLDER:
        return finish(f, &s->c, EXJ_EV_CANCEL, 0, "{}");
    case RELEASE:
        return release(f, &s->c);
    case REAP:
    case REAP_LAST:
        advance(f, LEASE + 1);
        if (s->holder_row)
            renew(f, &s->holder, LEASE);
        reap(f, NULL, 0, r, 8);
        return EXJ_OK;
    case RETRY:
        return retry(f, s->seq, err);
    case RERUN:
        return rerun(f, s->seq, NULL, NULL, NULL, err);
    case CANCEL:
        return cancel(f, s->seq, NULL, err);
    case SIGNAL:
        return signal_to(f, s->seq, "go", "1", NULL, err);
    case OVERFLOW:
        insert_with(f, s->pool, "one more", &(exj_insert_item){ .status = 0 },
                    (exj_overflow_rule){ .on = true, .max_queue = 1 });
        return EXJ_OK;
    default:
        return EXJ_BUG;
    }
}

static bool is_operators(enum deed d)
{
    return d == RETRY || d == RERUN || d == CANCEL || d == SIGNAL;
}

static bool is_holders(enum deed d)
{
    return d >= SUCCEED && d <= RELEASE;
}

/* An outcome repeated by the claim whose outcome stands is told that it landed; a failure is
 * a failure, whatever its holder thinks should follow. */
static bool is_repeated(enum deed d, exj_status s)
{
    return (d == SUCCEED && s == EXJ_COMPLETED) || (d == BLOCK && s == EXJ_BLOCKED) ||
           (d == SUSPEND && s == EXJ_SUSPENDED) ||
           ((d == FAIL_RETRY || d == FAIL_DEAD) && (s == EXJ_WAITING || s == EXJ_FAILED));
}

static void expect_same(const struct seen *a, const struct seen *b, const char *what)
{
    cr_assert(a->v.status == b->v.status && a->v.token == b->v.token &&
                  a->v.attempts == b->v.attempts && a->v.run_after == b->v.run_after &&
                  a->v.lease_until == b->v.lease_until &&
                  a->v.finished_at == b->v.finished_at &&
                  a->v.cancel_asked == b->v.cancel_asked && strcmp(a->result, b->result) == 0 &&
                  strcmp(a->code, b->code) == 0 && strcmp(a->text, b->text) == 0 &&
                  strcmp(a->holder, b->holder) == 0 && strcmp(a->signal, b->signal) == 0,
              "%s changed a row", what);
}

static void try_pair(struct fixture *f, exj_status s, enum deed d)
{
    struct scene at;
    struct seen before, after;
    exj_event event = event_of(d, s);
    exj_status to = s;
    exj_err want = { 0 }, err = { 0 };
    exj_code may = exj_state_move(s, event, &to, &want), got;
    char graph[32], what[96];
    bool kept;

    snprintf(what, sizeof(what), "operation %d (%s) on a row that is %s", (int)d,
             exj_event_word(event), exj_status_name(s));
    snprintf(graph, sizeof(graph), "g%d-%d", (int)s, (int)d);
    bring_to(&at, f, graph, s, d == REAP_LAST ? 1 + (s == EXJ_WAITING) : 3);
    before = look(f, at.seq);
    got = act(&at, d, &err);
    after = look(f, at.seq);
    if (is_holders(d) && s != EXJ_RUNNING)
        may = EXJ_FENCED; /* nobody holds it */
    /* A live row keeps a signal: its journal tells of it, the row stays. */
    kept = d == SIGNAL && !exj_status_is_terminal(s) && s != EXJ_SUSPENDED && s != EXJ_BLOCKED;
    if (may == EXJ_OK) {
        cr_assert(got == EXJ_OK, "%s: %s %s", what, exj_code_name(got), err.text);
        cr_assert(after.v.status == to, "%s made it %s", what, exj_status_name(after.v.status));
    } else {
        expect_same(&before, &after, what);
        if (kept)
            cr_assert(got == EXJ_OK && after.v.last_entry > before.v.last_entry);
        else
            cr_assert(after.v.last_entry == before.v.last_entry, "%s is in the journal", what);
        if (is_operators(d) && !kept) {
            cr_assert(got == EXJ_REFUSED, "%s: %s", what, exj_code_name(got));
            cr_assert(strstr(err.text, want.text), "%s: \"%s\" without \"%s\"", what, err.text,
                      want.text);
        }
        if (is_holders(d))
            cr_assert(got == (is_repeated(d, s) ? EXJ_OK : EXJ_FENCED), "%s: %s", what,
                      exj_code_name(got));
    }
    expect_folds(f, at.seq);
    if (!exj_status_is_terminal(after.v.status))
        cancel(f, at.seq, NULL, NULL); /* out of the way of the next pair */
    if (at.holder_row && status_of(f, at.holder_row) == EXJ_RUNNING)
        finish(f, &at.holder, EXJ_EV_SUCCEED, 0, "{}");
}

/* spec 2.1: `completed`, dead `failed`, `canceled`, `dropped` are terminal. A terminal row
 * never changes status by itself; `retry` and `rerun` are explicit and journalled. */
CONTRACT(moves, every_pair_of_a_state_and_an_operation_is_what_the_table_says)
{
    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        for (int d = 0; d < DEEDS; d++)
            try_pair(f, (exj_status)s, (enum deed)d);
}

/* Ask first, then each outcome: only success stands against the wish. */
CONTRACT(moves, a_row_that_was_asked_to_stop_is_canceled_by_every_outcome_but_success)
{
    static const exj_event events[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_RETRY, EXJ_EV_FAIL_DEAD,
                                        EXJ_EV_BLOCK, EXJ_EV_SUSPEND, EXJ_EV_CANCEL };
    int64_t p = pool(f, "m", "", "g");

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        exj_status to = EXJ_QUEUED,
                   want = events[i] == EXJ_EV_SUCCEED ? EXJ_COMPLETED : EXJ_CANCELED;
        exj_msec later = f->s->v->now(f->s) + 5000;
        char id[16];
        int64_t seq;
        exj_claim c;

        snprintf(id, sizeof(id), "r%zu", i);
        seq = insert(f, p, id);
        c = claim_one(f, p, "w", 10 + (int64_t)i);
        expect_code(cancel(f, seq, &to, NULL), EXJ_OK);
        expect_int(to, EXJ_RUNNING);
        cr_assert(look(f, seq).v.cancel_asked);
        expect_code(cancel(f, seq, NULL, NULL), EXJ_OK); /* once more: the same wish */
        expect_words(f, seq, "queued claimed cancel_asked");
        expect_code(finish(f, &c, events[i], later, "\"x\""), EXJ_OK);
        expect_int(status_of(f, seq), want);
        expect_words(f, seq,
                     want == EXJ_COMPLETED ? "queued claimed cancel_asked completed"
                                           : "queued claimed cancel_asked canceled");
        /* The answer may get lost: the very outcome again had landed, success never did. */
        expect_code(finish(f, &c, events[i], later, "\"x\""), EXJ_OK);
        if (events[i] != EXJ_EV_SUCCEED)
            expect_code(finish(f, &c, EXJ_EV_SUCCEED, 0, "\"x\""), EXJ_FENCED);
    }
}

/* spec 2.5: A timeout or cancel is first cooperative (the executor sees `cancelled()` and its
 * deadline); in an isolated host it is then enforced by killing the host after a grace period;
 * in-process it cannot be enforced, and the row's page says so. */
CONTRACT(moves, a_holder_hears_of_the_wish_with_its_renewal)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    exj_claim c = claim_one(f, p, "w", 1);
    exj_held h = { .seq = c.seq, .nonce = c.nonce };
    exj_op op = { .kind = EXJ_OP_RENEW };

    op.u.held.items = &h;
    op.u.held.len = 1;
    op.u.held.lease_ms = LEASE;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    cr_assert(h.verdict == EXJ_OK && !h.ret_cancel);
    expect_code(cancel(f, seq, NULL, NULL), EXJ_OK);
    fixture_reopen(f);
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    cr_assert(h.verdict == EXJ_OK && h.ret_cancel);
}

CONTRACT(moves, a_row_that_was_asked_to_stop_does_not_go_back_into_the_queue)
{
    int64_t p = pool(f, "m", "", "g"), a = insert(f, p, "a"), b = insert(f, p, "b");
    exj_claim c[2];
    exj_reaped r[4];

    expect_int(claim(f, p, "w", 1, 2, c), 2);
    expect_code(cancel(f, a, NULL, NULL), EXJ_OK);
    expect_code(cancel(f, b, NULL, NULL), EXJ_OK);
    expect_code(release(f, &c[0]), EXJ_OK);
    expect_int(status_of(f, a), EXJ_CANCELED);
    expect_words(f, a, "queued claimed cancel_asked canceled");
    advance(f, LEASE + 1);
    expect_int(reap(f, NULL, 0, r, 4), 1);
    expect_int(r[0].seq, b);
    expect_int(r[0].to, EXJ_CANCELED);
    expect_words(f, b, "queued claimed cancel_asked canceled");
    expect_int(count(f, p, EXJ_CANCELED), 2);
    /* The wish ends with the row: it does not follow it into its next life. */
    expect_code(retry(f, a, NULL), EXJ_OK);
    cr_assert(!look(f, a).v.cancel_asked);
    expect_int(claim_one(f, p, "w", 2).seq, a);
}

CONTRACT(moves, a_lost_answer_tells_what_the_row_became)
{
    int64_t p = pool(f, "m", "", "g");
    int64_t dead = insert_as(f, p, "dead", 0, 1, 0), asked = insert_as(f, p, "asked", 0, 3, 0);
    exj_claim c[2];

    expect_int(claim(f, p, "w", 7, 2, c), 2);
    expect_code(cancel(f, asked, NULL, NULL), EXJ_OK);
    for (int again = 0; again < 2; again++)
        for (int i = 0; i < 2; i++) {
            exj_outcome o = { .seq = c[i].seq, .nonce = 7, .token = 1,
                              .event = EXJ_EV_FAIL_RETRY, .run_after = START + 99,
                              .error_code = EXJ_SLICE_LITERAL("E") };
            exj_op op = { .kind = EXJ_OP_FINISH };

            op.u.finish.items = &o;
            op.u.finish.len = 1;
            expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
            expect_code(o.verdict, EXJ_OK);
            expect_int(o.to, i ? EXJ_CANCELED : EXJ_FAILED);
        }
    expect_int(status_of(f, dead), EXJ_FAILED);
}

/* spec 2.1: `crashed` is an event (a host died while running the row), not a state: the row
 * goes back to `queued` or, with no attempt left, to dead. */
CONTRACT(moves, a_crash_is_an_entry_and_the_row_goes_on_or_dies)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert_as(f, p, "a", 0, 2, 0);

    for (int i = 1; i <= 2; i++) {
        exj_claim c = claim_one(f, p, "w", i);
        exj_outcome o = { .seq = seq, .nonce = i, .token = i, .event = EXJ_EV_FAIL_RETRY,
                          .run_after = START, .crashed = true,
                          .error_code = EXJ_SLICE_LITERAL("PluginCrashed") };
        exj_op op = { .kind = EXJ_OP_FINISH };

        expect_int(c.attempt, i);
        op.u.finish.items = &o;
        op.u.finish.len = 1;
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        expect_int(promote(f, NULL), i == 1);
    }
    expect_int(status_of(f, seq), EXJ_FAILED);
    expect_words(f, seq, "queued claimed crashed retrying claimed crashed failed");
}

CONTRACT(moves, orders_for_a_row_that_is_not_there_say_so)
{
    exj_err err = { 0 };

    expect_code(cancel(f, NO_ROW, NULL, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, "4711"));
    expect_code(rerun(f, NO_ROW, NULL, NULL, NULL, NULL), EXJ_NOT_FOUND);
    err = (exj_err){ 0 };
    expect_code(signal_to(f, NO_ROW, "go", "1", NULL, &err), EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, "4711"));
}
