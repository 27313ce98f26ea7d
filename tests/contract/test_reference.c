/* Thousands of random operations against a plain model in memory: every verdict, every
 * counter and every row must agree. EXJ_SEED repeats a run. */
#include "contract.h"

#include <stdlib.h>

#include "core/base/clock.h"

#define ROWS_MAX 400
#define POOLS 3
#define STEPS 20000

struct model_row {
    int64_t seq, pool, token, nonce;
    exj_msec until, run_after;
    int32_t priority;
    uint32_t attempts, most;
    exj_status status;
    int64_t ended_nonce, ended_token; /* of the outcome that ended it */
    int64_t failed_nonce, failed_token;
    int64_t suspended_nonce, suspended_token;
};

static struct model_row model[ROWS_MAX];
static size_t model_len;
static uint64_t state;

static uint32_t chance(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static struct model_row *by_seq(int64_t seq)
{
    for (size_t i = 0; i < model_len; i++)
        if (model[i].seq == seq)
            return &model[i];
    cr_assert(false, "row %" PRId64 " is not in the model", seq);
    return NULL;
}

static struct model_row *first_ready(int64_t p)
{
    struct model_row *best = NULL;

    for (size_t i = 0; i < model_len; i++)
        if (model[i].pool == p && model[i].status == EXJ_QUEUED &&
            (!best || model[i].priority > best->priority))
            best = &model[i];
    return best;
}

static void try_insert(struct fixture *f, int64_t p, exj_msec now)
{
    char id[32];
    struct model_row *r = &model[model_len];
    bool later = chance(3) == 0;

    if (model_len == ROWS_MAX)
        return;
    snprintf(id, sizeof(id), "r%zu", model_len);
    *r = (struct model_row){ .pool = p,
                             .priority = (int32_t)chance(3) - 1,
                             .most = 1 + chance(4),
                             .run_after = later ? now + 1 + chance(5000) : 0 };
    r->status = later ? EXJ_WAITING : EXJ_QUEUED;
    r->seq = insert_as(f, p, id, r->priority, r->most, r->run_after);
    cr_assert(r->seq > 0);
    expect_int(insert(f, p, id), 0);
    model_len++;
}

static void try_claim(struct fixture *f, int64_t p, int64_t nonce, exj_msec now)
{
    exj_claim c[8];
    size_t n = claim(f, p, chance(2) ? "A" : "B", nonce, 1 + chance(8), c);

    for (size_t i = 0; i < n; i++) {
        struct model_row *r = first_ready(p);

        cr_assert(r, "claimed row %" PRId64 ", the model has none", c[i].seq);
        expect_int(c[i].seq, r->seq);
        expect_int(c[i].token, ++r->token);
        expect_int(c[i].attempt, ++r->attempts);
        r->nonce = nonce;
        r->status = EXJ_RUNNING;
        r->until = now + LEASE;
    }
    if (n == 0)
        cr_assert(!first_ready(p));
}

static void try_finish(struct fixture *f, struct model_row *r, const exj_claim *c, exj_msec now)
{
    static const exj_event events[] = { EXJ_EV_SUCCEED, EXJ_EV_FAIL_RETRY, EXJ_EV_FAIL_DEAD,
                                        EXJ_EV_BLOCK, EXJ_EV_SUSPEND };
    exj_event e = events[chance(5)];
    bool fails = e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD;
    exj_msec after = now + 1 + chance(3000);
    exj_code got = finish(f, c, e, after, "\"x\"");
    exj_status to = EXJ_RUNNING;

    exj_state_move(EXJ_RUNNING, e, &to, NULL);
    if (r->status == EXJ_RUNNING && r->nonce == c->nonce && r->token == c->token) {
        expect_code(got, EXJ_OK);
        if (e == EXJ_EV_FAIL_RETRY && r->attempts >= r->most)
            to = EXJ_FAILED;
        r->status = to;
        if (to == EXJ_WAITING || to == EXJ_SUSPENDED)
            r->run_after = after;
        if (to == EXJ_SUSPENDED) {
            r->attempts--;
            r->suspended_nonce = c->nonce;
            r->suspended_token = c->token;
        } else if (to != EXJ_WAITING) {
            r->ended_nonce = c->nonce;
            r->ended_token = c->token;
        }
        if (fails) {
            r->failed_nonce = c->nonce;
            r->failed_token = c->token;
        }
    } else if (fails) {
        bool mine = c->nonce && r->failed_nonce == c->nonce &&
                    r->failed_token == c->token;

        /* Older failures stay known, too; the model remembers only the last. */
        if (mine || c->token >= r->failed_token)
            expect_code(got, mine ? EXJ_OK : EXJ_FENCED);
    } else if (e == EXJ_EV_SUSPEND) {
        bool mine = c->nonce && r->suspended_nonce == c->nonce &&
                    r->suspended_token == c->token;

        /* Older ones stay known, too; the model remembers only the last. */
        if (mine || c->token >= r->suspended_token)
            expect_code(got, mine ? EXJ_OK : EXJ_FENCED);
    } else {
        bool mine = c->nonce && r->status == to && r->ended_nonce == c->nonce &&
                    r->ended_token == c->token;

        expect_code(got, mine ? EXJ_OK : EXJ_FENCED);
    }
}

static void try_reap(struct fixture *f, exj_msec now)
{
    static exj_reaped r[ROWS_MAX];
    size_t n = reap(f, NULL, 0, r, ROWS_MAX), over = 0;

    for (size_t i = 0; i < model_len; i++)
        over += model[i].status == EXJ_RUNNING && model[i].until < now;
    expect_int(n, over);
    for (size_t i = 0; i < n; i++) {
        struct model_row *m = by_seq(r[i].seq);

        cr_assert(m->status == EXJ_RUNNING && m->until < now);
        m->status = m->attempts >= m->most ? EXJ_FAILED : EXJ_QUEUED;
        m->failed_nonce = 0;
        m->failed_token = m->token;
        m->ended_nonce = 0;
        expect_int(r[i].to, m->status);
    }
}

static void try_promote(struct fixture *f, exj_msec now)
{
    exj_msec next, wanted = 0;
    size_t n = promote(f, &next), due = 0;

    for (size_t i = 0; i < model_len; i++) {
        if (model[i].status != EXJ_WAITING && model[i].status != EXJ_SUSPENDED)
            continue;
        if (model[i].run_after <= now) {
            model[i].status = EXJ_QUEUED;
            due++;
        } else if (!wanted || model[i].run_after < wanted) {
            wanted = model[i].run_after;
        }
    }
    expect_int(n, due);
    expect_int(next, wanted);
}

static void try_retry(struct fixture *f, struct model_row *r)
{
    exj_status to = r->status;
    exj_code wanted = exj_state_move(r->status, EXJ_EV_RETRY, &to, NULL);

    expect_code(retry(f, r->seq, NULL), wanted);
    if (wanted == EXJ_OK) {
        r->status = to;
        r->attempts = 0;
        r->ended_nonce = 0;
    }
}

struct scan {
    int64_t last, counts[POOLS][EXJ_STATUS_COUNT];
    int64_t *pools;
    size_t n;
};

static bool scan_row(void *user, const exj_row_view *v)
{
    struct scan *s = user;
    struct model_row *m = by_seq(v->seq);

    expect_int(v->status, m->status);
    expect_int(v->token, m->token);
    expect_int(v->attempts, m->attempts);
    expect_int(v->max_attempts, m->most);
    if (m->status == EXJ_RUNNING)
        expect_int(v->lease_until, m->until);
    for (int i = 0; i < POOLS; i++)
        if (s->pools[i] == v->pool)
            s->counts[i][v->status]++;
    s->last = v->seq;
    s->n++;
    return true;
}

static void compare(struct fixture *f, int64_t *pools)
{
    struct scan s = { .pools = pools };
    exj_row_filter page = { .status = -1, .limit = 100 };
    size_t before;

    do {
        before = s.n;
        page.after_seq = s.last;
        expect_code(f->s->v->row_page(f->s, &page, scan_row, &s, NULL), EXJ_OK);
    } while (s.n > before);
    expect_int(s.n, model_len);
    for (int i = 0; i < POOLS; i++) {
        int64_t kept[EXJ_STATUS_COUNT];

        counts(f, pools[i], kept);
        for (int k = 0; k < EXJ_STATUS_COUNT; k++)
            expect_int(kept[k], s.counts[i][k]);
    }
}

/* spec 2.10: Every inserted row is terminal, suspended, blocked, queued or under one
 * live lease: none is lost.
 * spec 2.10: Tokens of a row strictly grow.
 * spec 2.10: No two live leases on a row.
 * spec 2.2: N workers on N machines may serve the same matrix. */
CONTRACT(reference, random_operations_agree_with_a_plain_model)
{
    const char *given = getenv("EXJ_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : exj_random_u64();
    int64_t pools[POOLS], nonce = 1;
    exj_claim old = { 0 };

    fprintf(stderr, "reference: EXJ_SEED=%" PRIu64 "\n", seed);
    state = seed ? seed : 1;
    model_len = 0;
    for (int i = 0; i < POOLS; i++) {
        char g[8];

        snprintf(g, sizeof(g), "g%d", i);
        pools[i] = pool(f, "m", "", g);
    }
    for (int step = 0; step < STEPS; step++) {
        int64_t p = pools[chance(POOLS)];
        struct model_row *r = model_len ? &model[chance((uint32_t)model_len)] : NULL;
        exj_msec now = f->s->v->now(f->s);
        exj_claim c = { 0 };
        uint32_t what = chance(100);
        bool holds;

        if (r) /* mostly the claim that stands; at times one of long ago */
            c = (exj_claim){ .seq = r->seq, .token = r->token, .nonce = r->nonce,
                             .attempt = r->attempts };
        if (chance(8) == 0 && old.seq && r) {
            c = old;
            r = by_seq(c.seq);
        } else if (chance(4) == 0) {
            old = c;
        }
        holds = r && r->status == EXJ_RUNNING && r->nonce == c.nonce && c.nonce != 0;
        if (what < 15)
            try_insert(f, p, now);
        else if (what < 40)
            try_claim(f, p, nonce++, now);
        else if (!r)
            continue;
        else if (what < 70)
            try_finish(f, r, &c, now);
        else if (what < 76) {
            expect_code(renew(f, &c, LEASE), holds ? EXJ_OK : EXJ_FENCED);
            if (holds)
                r->until = now + LEASE;
        } else if (what < 80) {
            expect_code(release(f, &c), holds ? EXJ_OK : EXJ_FENCED);
            if (holds) {
                r->status = EXJ_QUEUED;
                r->attempts--;
            }
        } else if (what < 84)
            try_reap(f, now);
        else if (what < 88)
            try_promote(f, now);
        else if (what < 95)
            try_retry(f, r);
        else
            advance(f, chance(LEASE / 4));
        if (step == STEPS / 2) {
            fixture_reopen(f);
            compare(f, pools);
        }
    }
    compare(f, pools);
}
