/* What a store keeps of schedules: a tick is noted with what it starts, once; runs that were
 * asked for are found until they are over. */
#include "contract.h"

#include <pthread.h>
#include <stdlib.h>

struct seen {
    exj_schedule_view v;
    char id[64], times[64], error[64];
};

static bool copy(void *user, const exj_schedule_view *v)
{
    struct seen *s = user;

    s->v = *v;
    snprintf(s->id, sizeof(s->id), "%.*s", (int)v->id.n, v->id.p);
    snprintf(s->times, sizeof(s->times), "%.*s", (int)v->times.n, v->times.p ? v->times.p : "");
    snprintf(s->error, sizeof(s->error), "%.*s", (int)v->error.n, v->error.p ? v->error.p : "");
    return true;
}

static struct seen look(struct fixture *f, const char *id)
{
    struct seen s = { 0 };

    expect_code(f->s->v->schedule_get(f->s, exj_slice_of(id), copy, &s, NULL), EXJ_OK);
    return s;
}

static exj_op tick_op(const struct seen *s, exj_msec last, exj_msec next)
{
    exj_op op = { .kind = EXJ_OP_SCHEDULE_TICK };

    op.u.tick.id = exj_slice_of(s->id);
    op.u.tick.version = s->v.version;
    op.u.tick.turn = s->v.turn;
    op.u.tick.last_tick = last;
    op.u.tick.next_due = next;
    op.u.tick.paused = s->v.paused;
    op.u.tick.times = exj_slice_of("0 * * * *");
    return op;
}

static exj_code tick(struct fixture *f, const struct seen *s, exj_msec last, exj_msec next)
{
    exj_op op = tick_op(s, last, next);

    return exj_store_do(f->s, &op, NULL);
}

/* "id=next;" */
static bool list(void *user, const exj_schedule_view *v)
{
    char *text = user;

    sprintf(text + strlen(text), "%.*s=%d;", (int)v->id.n, v->id.p,
            v->next_due ? (int)(v->next_due - START) : -1);
    return true;
}

static void page_is(struct fixture *f, const char *after, exj_msec due_by, size_t limit,
                    const char *wanted)
{
    char text[500] = "";

    expect_code(f->s->v->schedule_page(f->s, exj_slice_of(after), due_by, limit, list, text, NULL),
                EXJ_OK);
    cr_assert_str_eq(text, wanted);
}

static exj_msec next(struct fixture *f)
{
    exj_msec at = -1;

    expect_code(f->s->v->schedule_next(f->s, &at, NULL), EXJ_OK);
    return at;
}

CONTRACT(schedules, a_document_comes_without_a_state_and_a_state_survives_a_restart)
{
    struct seen s;

    expect_code(f->s->v->schedule_get(f->s, exj_slice_of("a"), copy, &s, NULL), EXJ_NOT_FOUND);
    expect_code(put(f, EXJ_DOC_SCHEDULE, "a", 0, "{}", NULL), EXJ_OK);
    s = look(f, "a");
    expect_int(s.v.turn, 0);
    expect_int(s.v.created_at, START);
    expect_code(tick(f, &s, START + 1, START + 60), EXJ_OK);
    fixture_reopen(f);
    s = look(f, "a");
    cr_assert(s.v.turn > 0);
    expect_int(s.v.seen_version, s.v.version);
    expect_int(s.v.last_tick, START + 1);
    expect_int(s.v.next_due, START + 60);
    cr_assert_str_eq(s.times, "0 * * * *");
    expect_int(next(f), START + 60);
}

CONTRACT(schedules, a_state_changes_only_while_it_is_as_it_was_read)
{
    struct seen s, late;

    put(f, EXJ_DOC_SCHEDULE, "a", 0, "{}", NULL);
    s = late = look(f, "a");
    expect_code(tick(f, &s, 1, 2), EXJ_OK);
    expect_code(tick(f, &late, 1, 2), EXJ_CONFLICT);
    s = late = look(f, "a");
    expect_code(put(f, EXJ_DOC_SCHEDULE, "a", 1, "{\"b\":1}", NULL), EXJ_OK);
    expect_code(tick(f, &late, 3, 4), EXJ_CONFLICT);
    expect_int(look(f, "a").v.last_tick, 1);
    expect_code(drop(f, EXJ_DOC_SCHEDULE, "a", -1, NULL), EXJ_OK);
    expect_code(tick(f, &late, 3, 4), EXJ_NOT_FOUND);
}

CONTRACT(schedules, a_deleted_schedule_takes_its_state_along)
{
    struct seen s;

    put(f, EXJ_DOC_SCHEDULE, "a", 0, "{}", NULL);
    s = look(f, "a");
    tick(f, &s, 1, START + 2);
    expect_code(drop(f, EXJ_DOC_SCHEDULE, "a", -1, NULL), EXJ_OK);
    expect_int(next(f), 0);
    put(f, EXJ_DOC_SCHEDULE, "a", 0, "{}", NULL);
    s = look(f, "a");
    expect_int(s.v.turn, 0);
    expect_int(s.v.version, 2);
}

CONTRACT(schedules, those_that_are_due_are_found_and_those_whose_document_is_newer)
{
    static const char *const ids[] = { "a", "b", "c", "d" };

    for (int i = 0; i < 4; i++)
        put(f, EXJ_DOC_SCHEDULE, ids[i], 0, "{}", NULL);
    for (int i = 0; i < 3; i++) {
        struct seen s = look(f, ids[i]);

        expect_code(tick(f, &s, START, i == 1 ? 0 : START + 10 * (i + 1)), EXJ_OK);
    }
    page_is(f, "", 0, 10, "a=10;b=-1;c=30;d=-1;");
    page_is(f, "a", 0, 2, "b=-1;c=30;");
    page_is(f, "", START + 9, 10, "d=-1;");
    page_is(f, "", START + 10, 10, "a=10;d=-1;");
    page_is(f, "", START + 30, 10, "a=10;c=30;d=-1;");
    put(f, EXJ_DOC_SCHEDULE, "b", 1, "{\"x\":1}", NULL);
    page_is(f, "", START + 9, 10, "b=-1;d=-1;");
    expect_int(next(f), START + 10);
}

CONTRACT(schedules, an_error_is_kept_with_the_time_of_its_first)
{
    struct seen s;
    exj_op op;

    put(f, EXJ_DOC_SCHEDULE, "a", 0, "{}", NULL);
    for (int i = 0; i < 2; i++) {
        s = look(f, "a");
        op = tick_op(&s, 1, 2);
        op.u.tick.error = exj_slice_of("no matrix \"m\"");
        expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
        advance(f, 1000);
    }
    s = look(f, "a");
    cr_assert_str_eq(s.error, "no matrix \"m\"");
    expect_int(s.v.error_at, START);
    op = tick_op(&s, 1, 2);
    op.u.tick.fired = 3;
    op.u.tick.skipped = 4;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    s = look(f, "a");
    expect_int(s.v.error_at, 0);
    expect_int(s.v.fired, 3);
    expect_int(s.v.skipped, 4);
}

/* ---- one tick, many workers ---------------------------------------------------------------- */

#define WORKERS 8

struct racer {
    exj_store *s;
    int64_t pool, ticks;
    int won;
};

struct both {
    pthread_mutex_t mu;
    pthread_cond_t over;
    int left;
};

static void one_over(exj_op *op)
{
    struct both *b = op->user;

    pthread_mutex_lock(&b->mu);
    if (--b->left == 0)
        pthread_cond_signal(&b->over);
    pthread_mutex_unlock(&b->mu);
}

/* The tick after the one that was read, and a row of a name of its own for it. */
static void *race(void *user)
{
    struct racer *r = user;

    for (;;) {
        struct both b = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 2 };
        struct seen s = { 0 };
        exj_insert_item item = { .input = exj_slice_of("{}") };
        char name[64];
        exj_op ops[2];

        if (r->s->v->schedule_get(r->s, exj_slice_of("a"), copy, &s, NULL) != EXJ_OK)
            return NULL;
        if (s.v.last_tick == r->ticks)
            return NULL;
        /* The worker is in the name: were a tick to fire twice, there would be two rows. */
        snprintf(name, sizeof(name), "a@%d-%p", (int)s.v.last_tick + 1, (void *)r);
        item.record_id = exj_slice_of(name);
        ops[0] = tick_op(&s, s.v.last_tick + 1, s.v.last_tick + 2);
        ops[1] = (exj_op){ .kind = EXJ_OP_INSERT, .done = one_over, .user = &b };
        ops[1].u.insert.pool = r->pool;
        ops[1].u.insert.max_attempts = 1;
        ops[1].u.insert.items = &item;
        ops[1].u.insert.len = 1;
        ops[0].done = one_over;
        ops[0].user = &b;
        ops[0].next = &ops[1];
        ops[0].with_next = true;
        exj_store_submit(r->s, ops);
        pthread_mutex_lock(&b.mu);
        while (b.left)
            pthread_cond_wait(&b.over, &b.mu);
        pthread_mutex_unlock(&b.mu);
        r->won += ops[1].rc == EXJ_OK;
    }
}

/* spec 2.8: one tick never fires twice over N workers. */
CONTRACT(schedules, of_workers_that_fire_a_tick_one_wins_and_none_is_lost)
{
    struct racer racers[WORKERS];
    pthread_t threads[WORKERS];
    struct seen s;
    int64_t p = pool(f, "m", "", "g");
    exj_store *other = f->maker->shared ? fixture_second(f) : f->s;
    int won = 0, ticks = (int)scaled(f, 40);

    put(f, EXJ_DOC_SCHEDULE, "a", 0, "{}", NULL);
    s = look(f, "a");
    expect_code(tick(f, &s, 0, 1), EXJ_OK);
    for (int i = 0; i < WORKERS; i++) {
        racers[i] = (struct racer){ .s = i % 2 ? other : f->s, .pool = p, .ticks = ticks };
        cr_assert(pthread_create(&threads[i], NULL, race, &racers[i]) == 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        won += racers[i].won;
    }
    expect_int(won, ticks);
    expect_int(count(f, p, EXJ_QUEUED), ticks);
    if (f->maker->shared)
        other->v->close(other);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static exj_code run_op(struct fixture *f, exj_op_kind kind, const char *matrix, const char *run)
{
    exj_op op = { .kind = kind };

    op.u.run.matrix = exj_slice_of(matrix);
    op.u.run.run = exj_slice_of(run);
    return exj_store_do(f->s, &op, NULL);
}

static bool list_run(void *user, exj_slice matrix, exj_slice run, bool asked)
{
    char *text = user;

    sprintf(text + strlen(text), "%.*s/%.*s%s;", (int)matrix.n, matrix.p, (int)run.n, run.p,
            asked ? "?" : "");
    return true;
}

static void runs_are(struct fixture *f, const char *wanted)
{
    char text[500] = "";

    expect_code(f->s->v->runs(f->s, list_run, text, NULL), EXJ_OK);
    cr_assert_str_eq(text, wanted);
}

CONTRACT(schedules, a_run_is_asked_for_once_and_found_while_it_or_a_row_of_it_is_open)
{
    exj_claim c;
    int64_t p;

    expect_code(run_op(f, EXJ_OP_RUN_ASK, "m", "r2"), EXJ_OK);
    advance(f, 1); /* the oldest first */
    expect_code(run_op(f, EXJ_OP_RUN_ASK, "m", "r1"), EXJ_OK);
    expect_code(run_op(f, EXJ_OP_RUN_ASK, "m", "r2"), EXJ_OK);
    expect_code(run_op(f, EXJ_OP_RUN_ASK, "m", ""), EXJ_INVALID);
    runs_are(f, "m/r2?;m/r1?;");
    p = pool(f, "m", "r2", "g");
    insert(f, p, "x");
    insert(f, pool(f, "m", "config", "g"), "x"); /* of a run that no schedule asked for */
    expect_code(run_op(f, EXJ_OP_RUN_DONE, "m", "r2"), EXJ_OK);
    expect_code(run_op(f, EXJ_OP_RUN_ASK, "m", "r2"), EXJ_OK); /* not again */
    runs_are(f, "m/r1?;m/r2;");
    fixture_reopen(f);
    runs_are(f, "m/r1?;m/r2;");
    c = claim_one(f, p, "w", 1);
    runs_are(f, "m/r1?;m/r2;");
    finish(f, &c, EXJ_EV_SUCCEED, 0, "{}");
    runs_are(f, "m/r1?;");
    expect_code(run_op(f, EXJ_OP_RUN_DONE, "m", "never"), EXJ_OK);
}

/* ---- one row --------------------------------------------------------------------------------- */

CONTRACT(schedules, a_claim_may_name_its_row)
{
    int64_t p = pool(f, "m", "", "g"), first = insert(f, p, "a"), second = insert(f, p, "b");
    exj_claim c = { 0 };
    exj_want w = { .pool = p, .want = 1, .only_seq = second };
    exj_op op = { .kind = EXJ_OP_CLAIM };

    (void)first;
    op.u.claim.wants = &w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w";
    op.u.claim.nonce = 7;
    op.u.claim.lease_ms = LEASE;
    op.u.claim.ret = &c;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(w.got, 1);
    expect_int(c.seq, second);
    op.u.claim.nonce = 8; /* it runs: there is nothing to claim, and the other one stays */
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(w.got, 0);
    expect_int(count(f, p, EXJ_QUEUED), 1);
}
