/* Several workers at once: threads on one store, and, where a store is shared, every other one on
 * a store that was opened on its own. Whoever comes first, the sum is what one would have done. */
#include <pthread.h>

#include "stream.h"

#define WORKERS 4
#define TRIES 100000 /* of a loop that ends when the others have done their part */

struct crew {
    struct fixture f[WORKERS]; /* the test's, but for the store */
    pthread_barrier_t start;
    int64_t pool;
    unsigned each; /* how much one of them does */
    atomic_uint done, now, most;
    exj_store *other;
};

struct worker {
    struct crew *crew;
    struct fixture *f;
    int64_t nonce; /* the first of its own */
    unsigned nth, won;
    int64_t seen;
};

static struct crew *crew_of(struct fixture *f, unsigned each)
{
    static struct crew c;

    memset(&c, 0, sizeof(c));
    c.each = each;
    c.pool = pool(f, "m", "", "g");
    c.other = f->maker->shared ? fixture_second(f) : NULL;
    for (int i = 0; i < WORKERS; i++) {
        memcpy(&c.f[i], f, sizeof(*f));
        if (c.other && i % 2)
            c.f[i].s = c.other;
    }
    cr_assert_eq(pthread_barrier_init(&c.start, NULL, WORKERS), 0);
    return &c;
}

static void work(struct crew *c, void *(*body)(void *), struct worker ret[WORKERS])
{
    pthread_t threads[WORKERS];

    for (unsigned i = 0; i < WORKERS; i++) {
        ret[i] = (struct worker){ .crew = c, .f = &c->f[i], .nth = i,
                                  .nonce = 1 + 1000000 * (int64_t)i };
        cr_assert_eq(pthread_create(&threads[i], NULL, body, &ret[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&c->start);
    if (c->other)
        c->other->v->close(c->other);
}

static unsigned won(const struct worker w[WORKERS])
{
    unsigned n = 0;

    for (int i = 0; i < WORKERS; i++)
        n += w[i].won;
    return n;
}

static void name(char ret[32], const struct worker *w, unsigned i)
{
    snprintf(ret, 32, "w%u-%u", w->nth, i);
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Each puts rows in, and takes whatever there is until all rows are done. */
static void *live(void *user)
{
    struct worker *w = user;
    struct crew *c = w->crew;
    exj_claim got[3];
    char id[32];

    pthread_barrier_wait(&c->start);
    for (unsigned i = 0; i < TRIES && atomic_load(&c->done) < WORKERS * c->each; i++) {
        size_t n;

        if (i < c->each) {
            name(id, w, i);
            cr_assert(insert(w->f, c->pool, id) > 0);
        }
        n = claim(w->f, c->pool, "w", w->nonce + i, 3, got);
        for (size_t k = 0; k < n; k++) {
            expect_code(finish(w->f, &got[k], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
            expect_int(got[k].token, 1);
            atomic_fetch_add(&c->done, 1);
        }
    }
    return NULL;
}

CONTRACT(workers, each_row_is_claimed_once_and_told_of_in_order)
{
    struct crew *c = crew_of(f, STREAM_ROWS / WORKERS);
    struct worker w[WORKERS];

    work(c, live, w);
    expect_int(atomic_load(&c->done), STREAM_ROWS);
    expect_int(count(f, c->pool, EXJ_COMPLETED), STREAM_ROWS);
    expect_int(count(f, c->pool, EXJ_QUEUED), 0);
    expect_stream(f, 50);
}

/* The same records from all of them. */
static void *insert_alike(void *user)
{
    struct worker *w = user;
    char id[32];

    pthread_barrier_wait(&w->crew->start);
    for (unsigned i = 0; i < w->crew->each; i++) {
        exj_insert_item it = { .has_priority = false };

        snprintf(id, sizeof(id), "r%u", i);
        w->seen += insert_with(w->f, w->crew->pool, id, &it, (exj_overflow_rule){ 0 }) % 1000003;
        w->won += it.verdict == EXJ_OK;
        cr_assert(it.verdict == EXJ_OK || it.verdict == EXJ_CONFLICT);
    }
    return NULL;
}

CONTRACT(workers, a_record_that_several_put_in_is_one_row)
{
    struct crew *c = crew_of(f, 20);
    struct worker w[WORKERS];

    work(c, insert_alike, w);
    expect_int(won(w), 20);
    expect_int(count(f, c->pool, EXJ_QUEUED), 20);
    for (int i = 1; i < WORKERS; i++)
        expect_int(w[i].seen, w[0].seen); /* and they are told the same numbers */
}

static void *ask_for_pool(void *user)
{
    struct worker *w = user;

    pthread_barrier_wait(&w->crew->start);
    w->seen = pool(w->f, "m", "of all", "g");
    return NULL;
}

CONTRACT(workers, a_pool_that_several_ask_for_is_one)
{
    struct crew *c = crew_of(f, 0);
    struct worker w[WORKERS];

    work(c, ask_for_pool, w);
    for (int i = 0; i < WORKERS; i++)
        expect_int(w[i].seen, pool(f, "m", "of all", "g"));
}

/* ---- what limits rows ------------------------------------------------------------------------- */

/* A key after the other; each wants it for a row of its own. */
static void *want_unique(void *user)
{
    struct worker *w = user;
    char id[32], key[32];

    for (unsigned i = 0; i < w->crew->each; i++) {
        exj_insert_item it = { .has_priority = false };

        name(id, w, i);
        snprintf(key, sizeof(key), "key %u", i);
        it.unique_key = exj_slice_of(key);
        pthread_barrier_wait(&w->crew->start);
        insert_with(w->f, w->crew->pool, id, &it, (exj_overflow_rule){ 0 });
        cr_assert(it.verdict == EXJ_OK || it.verdict == EXJ_BUSY);
        w->won += it.verdict == EXJ_OK;
        w->seen += it.seq % 1000003; /* the row that has the key, whoever put it in */
    }
    return NULL;
}

CONTRACT(workers, one_of_those_who_want_a_unique_key_has_it)
{
    struct crew *c = crew_of(f, 12);
    struct worker w[WORKERS];

    work(c, want_unique, w);
    expect_int(won(w), 12);
    expect_int(count(f, c->pool, EXJ_QUEUED), 12);
    for (int i = 1; i < WORKERS; i++)
        expect_int(w[i].seen, w[0].seen);
}

static void *run_keyed(void *user)
{
    struct worker *w = user;
    struct crew *c = w->crew;
    char id[32];

    for (unsigned i = 0; i < c->each; i++) {
        name(id, w, i);
        insert_keyed(w->f, c->pool, id, NULL, "k");
    }
    pthread_barrier_wait(&c->start);
    for (unsigned i = 0; i < TRIES && atomic_load(&c->done) < WORKERS * c->each; i++) {
        exj_want want = { .pool = c->pool, .want = 2, .key_cap = 2 };
        exj_claim got[2];
        size_t n = claim_want(w->f, &want, w->nonce + i, got);
        unsigned now = atomic_fetch_add(&c->now, (unsigned)n) + (unsigned)n,
                 most = atomic_load(&c->most);

        while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
            continue;
        for (size_t k = 0; k < n; k++) {
            atomic_fetch_sub(&c->now, 1); /* before it is told: it runs at least as long */
            expect_code(finish(w->f, &got[k], EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
            atomic_fetch_add(&c->done, 1);
        }
    }
    return NULL;
}

CONTRACT(workers, a_key_runs_no_more_than_its_cap_whoever_claims)
{
    struct crew *c = crew_of(f, 10);
    struct worker w[WORKERS];

    work(c, run_keyed, w);
    expect_int(atomic_load(&c->done), 10 * WORKERS);
    cr_assert(atomic_load(&c->most) >= 1 && atomic_load(&c->most) <= 2, "%u ran at once",
              atomic_load(&c->most));
    expect_int(count(f, c->pool, EXJ_COMPLETED), 10 * WORKERS);
    expect_int(count(f, c->pool, EXJ_PARKED), 0);
}

static void *claim_rated(void *user)
{
    struct worker *w = user;
    char id[32];

    for (unsigned i = 0; i < w->crew->each; i++) {
        name(id, w, i);
        insert(w->f, w->crew->pool, id);
    }
    pthread_barrier_wait(&w->crew->start);
    for (unsigned i = 0; i < w->crew->each; i++) {
        exj_want want = { .pool = w->crew->pool, .want = 1, .rate = 7, .rate_ms = 1000 };
        exj_claim got;

        w->won += (unsigned)claim_want(w->f, &want, w->nonce + i, &got);
    }
    return NULL;
}

CONTRACT(workers, a_rate_is_of_all_of_them_together)
{
    struct crew *c = crew_of(f, 8);
    struct worker w[WORKERS];

    work(c, claim_rated, w);
    expect_int(won(w), 7); /* the clock stands still */
}

static void *crowd(void *user)
{
    struct worker *w = user;
    exj_overflow_rule rule = { .on = true, .drop = true, .cap = 5 };
    char id[32];

    pthread_barrier_wait(&w->crew->start);
    for (unsigned i = 0; i < w->crew->each; i++) {
        exj_insert_item it = { .has_priority = false };

        name(id, w, i);
        insert_with(w->f, w->crew->pool, id, &it, rule);
        expect_code(it.verdict, EXJ_OK);
        w->won += it.status == EXJ_QUEUED;
    }
    return NULL;
}

CONTRACT(workers, a_queue_holds_no_more_than_its_bound_whoever_inserts)
{
    struct crew *c = crew_of(f, 8);
    struct worker w[WORKERS];

    work(c, crowd, w);
    expect_int(won(w), 5);
    expect_int(count(f, c->pool, EXJ_QUEUED), 5);
    expect_int(count(f, c->pool, EXJ_DROPPED), 8 * WORKERS - 5);
}

/* ---- documents, keys and values, commands ------------------------------------------------------- */

static void *count_up(void *user)
{
    struct worker *w = user;

    pthread_barrier_wait(&w->crew->start);
    for (unsigned i = 0; i < w->crew->each; i++) {
        exj_op op = { .kind = EXJ_OP_KV_ADD };

        op.u.kv.graph = EXJ_SLICE_LITERAL("g");
        op.u.kv.key = EXJ_SLICE_LITERAL("n");
        op.u.kv.delta = 1;
        expect_code(exj_store_do(w->f->s, &op, NULL), EXJ_OK);
        cr_assert(op.u.kv.ret_sum > w->seen);
        w->seen = op.u.kv.ret_sum;
    }
    return NULL;
}

CONTRACT(workers, no_addition_is_lost)
{
    struct crew *c = crew_of(f, 25);
    exj_buf sum = EXJ_BUF_INIT;
    struct worker w[WORKERS];

    work(c, count_up, w);
    expect_code(f->s->v->kv_get(f->s, EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("n"), &sum, NULL),
                EXJ_OK);
    cr_assert(exj_slice_is(exj_buf_slice(&sum), "100"), "%.*s", (int)sum.n, sum.p);
    exj_buf_release(&sum);
}

/* Each version is written by one, and those who lose are told which one stands. */
static void *write_versions(void *user)
{
    struct worker *w = user;
    int64_t version = 0, now;

    pthread_barrier_wait(&w->crew->start);
    for (unsigned i = 0; i < TRIES && version < (int64_t)w->crew->each; i++) {
        exj_code rc = put(w->f, EXJ_DOC_GRAPH, "d", version, "{}", &now);

        cr_assert(rc == EXJ_OK || rc == EXJ_CONFLICT, "%s", exj_code_name(rc));
        cr_assert(now > version);
        if (rc == EXJ_OK)
            expect_int(now, version + 1);
        w->won += rc == EXJ_OK;
        version = now;
    }
    return NULL;
}

CONTRACT(workers, a_version_of_a_document_is_written_by_one)
{
    struct crew *c = crew_of(f, 30);
    struct worker w[WORKERS];
    int64_t version;

    work(c, write_versions, w);
    expect_code(put(f, EXJ_DOC_GRAPH, "d", -1, "{}", &version), EXJ_OK);
    expect_int(won(w), version - 1);
}

static void *take_keys(void *user)
{
    struct worker *w = user;
    char key[32];

    for (unsigned i = 0; i < w->crew->each; i++) {
        exj_op op = { .kind = EXJ_OP_COMMAND_TAKE };
        exj_code rc;

        snprintf(key, sizeof(key), "key %u", i);
        op.u.command.key = exj_slice_of(key);
        op.u.command.owner = w->nonce + i;
        op.u.command.keep_ms = 86400000;
        pthread_barrier_wait(&w->crew->start);
        rc = exj_store_do(w->f->s, &op, NULL);
        cr_assert(rc == EXJ_OK || rc == EXJ_BUSY, "%s", exj_code_name(rc));
        w->won += rc == EXJ_OK;
    }
    return NULL;
}

CONTRACT(workers, a_command_is_taken_by_one)
{
    struct crew *c = crew_of(f, 20);
    struct worker w[WORKERS];

    work(c, take_keys, w);
    expect_int(won(w), 20);
}
