/* The claimer fills the pools' rings: one claim a pool, all pools' claims in one commit, behind
 * the promotion of what is due; each guarded by the version of the graph's config that made
 * the pool runnable. */
#include <assert.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/inside.h"

#define CLAIMS_AT_ONCE 64u
#define PROMOTE_LIMIT 1000u
#define SHARED_POLL_LEAST_NS 10000000 /* 10 ms after rows were found, */
#define SHARED_POLL_MOST_NS 1000000000 /* growing to 1 s while there are none */

/* ---- batches ---------------------------------------------------------------------------- */

static struct batch *batch_new(struct pool *p, struct spec *spec, uint32_t want)
{
    struct batch *b = calloc(1, sizeof(*b) + want * sizeof(struct row));

    if (!b)
        return NULL;
    b->claims = malloc(want * sizeof(*b->claims));
    b->loaded = malloc(want * sizeof(*b->loaded));
    if (!b->claims || !b->loaded) {
        free(b->claims);
        free(b->loaded);
        free(b);
        return NULL;
    }
    b->pool = p;
    b->spec = exj_spec_ref(spec);
    atomic_init(&b->open, 1);
    return b;
}

void exj_batch_unref(exj_engine *e, struct batch *b)
{
    if (atomic_fetch_sub_explicit(&b->open, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&e->mu);
    if (b->prev)
        b->prev->next = b->next;
    else if (e->batches == b)
        e->batches = b->next;
    if (b->next)
        b->next->prev = b->prev;
    pthread_mutex_unlock(&e->mu);
    exj_spec_unref(b->spec);
    exj_buf_release(&b->arena);
    free(b->claims);
    free(b->loaded);
    free(b);
}

void exj_batch_keep(const exj_engine *e, struct batch *b, exj_nsec sent)
{
    exj_msec margin = e->o.lease_ms / 10 < 2000 ? e->o.lease_ms / 10 : 2000;

    if (e->o.store->v->shared)
        atomic_store(&b->kept_until, sent + (e->o.lease_ms - margin) * 1000000);
}

bool exj_batch_is_past(const struct batch *b)
{
    int64_t until = atomic_load_explicit(&b->kept_until, memory_order_relaxed);

    return until && exj_clock_mono_ns() >= until;
}

void exj_batch_row_over(exj_engine *e, struct row *r)
{
    atomic_store_explicit(&r->phase, ROW_OVER, memory_order_release);
    exj_batch_unref(e, r->batch);
}

/* ---- giving back -------------------------------------------------------------------------- */

struct giving_back {
    exj_engine *engine;
    struct pool *pool;
    exj_op op;
    uint32_t len;
    struct row **rows;
    exj_held items[];
};

static void given_back(exj_op *op)
{
    struct giving_back *g = op->user;
    exj_engine *e = g->engine;
    struct pool *p = g->pool;

    exj_run_store_said(e, "releases", op); /* if not, they are left to their leases */
    for (uint32_t i = 0; i < g->len; i++)
        exj_batch_row_over(e, g->rows[i]);
    pthread_mutex_lock(&e->mu);
    p->uncommitted -= g->len;
    e->outstanding -= g->len;
    e->answers++;
    e->counts.claimed -= g->len;
    p->maybe_work = true;
    exj_run_freed_locked(e, p);
    pthread_cond_signal(&e->claim);
    pthread_cond_broadcast(&e->cycle);
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
    free(g->rows);
    free(g);
}

/* NULL: no memory. */
static struct giving_back *giving_back_new(exj_engine *e, struct pool *p, uint32_t room)
{
    struct giving_back *g = calloc(1, sizeof(*g) + room * sizeof(g->items[0]));

    if (!g)
        return NULL;
    g->engine = e;
    g->pool = p;
    g->rows = malloc(room * sizeof(*g->rows));
    if (!g->rows) {
        free(g);
        return NULL;
    }
    return g;
}

static void give_back(struct giving_back *g)
{
    g->op = (exj_op){ .kind = EXJ_OP_RELEASE, .done = given_back, .user = g };
    g->op.u.held.items = g->items;
    g->op.u.held.len = g->len;
    exj_store_submit(g->engine->o.store, &g->op);
}

static void add_row(struct giving_back *g, struct row *r)
{
    g->rows[g->len] = r;
    g->items[g->len++] = (exj_held){ .seq = r->claim.seq, .nonce = r->claim.nonce };
}

void exj_run_release_locked(exj_engine *e, struct pool *p)
{
    struct giving_back *g;

    if (!p->ready)
        return;
    g = giving_back_new(e, p, p->ready);
    if (!g)
        return; /* they stay in the ring: executed, not lost */
    for (struct row *r = p->head; r; r = r->next)
        add_row(g, r);
    assert(g->len == p->ready);
    e->ready -= p->ready;
    p->ready = 0;
    p->head = p->tail = NULL;
    give_back(g);
}

void exj_run_return(exj_engine *e, struct pool *p, struct row **rows, uint32_t n)
{
    struct giving_back *g = n ? giving_back_new(e, p, n) : NULL;

    if (g) {
        for (uint32_t i = 0; i < n; i++)
            add_row(g, rows[i]);
        give_back(g);
        return;
    }
    for (uint32_t i = 0; i < n; i++) /* no memory: left to their leases */
        exj_batch_row_over(e, rows[i]);
    pthread_mutex_lock(&e->mu);
    p->uncommitted -= n;
    e->outstanding -= n;
    e->answers++;
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
}

/* ---- claiming ----------------------------------------------------------------------------- */

struct round { /* claims that were submitted together */
    exj_engine *engine;
    uint32_t len, answered; /* answered: under mu, the promotion too */
    struct batch *batches[CLAIMS_AT_ONCE];
    bool promotes, due; /* rows that are due are promoted first; some are, as far as we know */
    exj_op promotion;
};

static void claim_done(exj_op *op)
{
    struct round *round = op->user;

    pthread_mutex_lock(&round->engine->mu);
    round->answered++;
    pthread_cond_signal(&round->engine->claim);
    pthread_mutex_unlock(&round->engine->mu);
}

static bool wants_claim_locked(const exj_engine *e, const struct pool *p)
{
    return p->wanted && p->maybe_work && !p->stale && !p->claiming && p->spec &&
           p->spec->runnable && p->ready <= p->depth / 2 && !e->no_more_claims;
}

static bool may_claim_locked(const exj_engine *e, const struct pool *p, exj_nsec now)
{
    return wants_claim_locked(e, p) && p->rate_at <= now;
}

/* Rows that were used up within a tenth of a second want a deeper ring; rows that lay for
 * longer than a second a shallower one. */
static void adapt_depth_locked(exj_engine *e, struct pool *p, exj_nsec now)
{
    uint32_t least = 2 * e->workers_len;

    if (p->filled_at && now - p->filled_at < 100000000)
        p->depth *= 2;
    else if (p->filled_at && now - p->filled_at > 1000000000)
        p->depth /= 2;
    if (p->depth < least)
        p->depth = least;
    if (p->depth > e->o.prefetch)
        p->depth = e->o.prefetch;
}

/* Rows that others put into a shared store come without our hearing of it: all pools are asked
 * from time to time, sooner where rows were found, and not by all workers at the same moment.
 * Returns when the next time is (monotonic); 0: the store is ours, never. */
static exj_nsec poll_locked(exj_engine *e)
{
    exj_nsec now = exj_clock_mono_ns(), pause = e->poll_pause;

    if (!e->o.store->v->shared)
        return 0;
    if (e->poll_at > now)
        return e->poll_at;
    for (struct pool *p = e->pools; p; p = p->next)
        p->maybe_work = true;
    pause = !pause                           ? SHARED_POLL_LEAST_NS
            : pause >= SHARED_POLL_MOST_NS / 2 ? SHARED_POLL_MOST_NS
                                               : 2 * pause;
    e->poll_pause = pause;
    e->poll_at = now + pause - (exj_nsec)(exj_random_u64() % (uint64_t)(pause / 4));
    return e->poll_at;
}

/* Choose pools and make their batches. Returns when to look again (monotonic): `again`, or when
 * the first rate limit allows more; 0: there is no such time. */
static exj_nsec plan_locked(exj_engine *e, struct round *round, exj_nsec again)
{
    exj_nsec now = exj_clock_mono_ns();
    uint32_t candidates = 0;
    uint64_t left = UINT64_MAX;

    for (struct pool *p = e->pools; p; p = p->next) {
        if (!wants_claim_locked(e, p))
            continue;
        if (p->rate_at <= now)
            candidates++;
        else if (!again || p->rate_at < again)
            again = p->rate_at;
    }
    if (e->o.max_rows)
        left = e->o.max_rows > e->counts.claimed ? e->o.max_rows - e->counts.claimed : 0;
    for (struct pool *p = e->pools; p && round->len < CLAIMS_AT_ONCE && left; p = p->next) {
        uint32_t room = e->o.prefetch > e->outstanding ? e->o.prefetch - e->outstanding : 0;
        uint32_t want;
        struct batch *b;

        if (!may_claim_locked(e, p, now))
            continue;
        room = room / candidates + 1; /* this one is among them */
        if (candidates > 1)
            candidates--;
        if (e->outstanding >= e->o.prefetch + e->o.max_concurrent)
            break;
        adapt_depth_locked(e, p, now);
        want = p->depth > p->ready ? p->depth - p->ready : 1;
        want = want < room ? want : room;
        want = want < BATCH_MAX ? want : BATCH_MAX;
        want = want < left ? want : (uint32_t)left;
        b = batch_new(p, p->spec, want);
        if (!b)
            break;
        exj_batch_keep(e, b, now);
        p->claiming = true;
        p->maybe_work = false; /* an insert from here on sets it again */
        p->freed = p->gate->freed;
        p->uncommitted += want;
        e->outstanding += want;
        left -= want;
        e->counts.claimed += want;
        b->want = (exj_want){ .pool = p->id,
                              .want = want,
                              .guard_id = exj_slice_of(p->graph_id),
                              .guard_kind = EXJ_DOC_GRAPH,
                              .guard_version = p->spec->version,
                              .only_seq = e->o.only_seq,
                              .key_cap = p->spec->eff.per_key,
                              .rate = p->spec->eff.rate,
                              .rate_ms = p->spec->eff.rate_ms };
        b->op = (exj_op){ .kind = EXJ_OP_CLAIM, .done = claim_done, .user = round };
        b->op.u.claim.wants = &b->want;
        b->op.u.claim.wants_len = 1;
        b->op.u.claim.holder = e->o.worker_id;
        b->op.u.claim.nonce = (int64_t)(exj_random_u64() >> 1) | 1;
        b->op.u.claim.lease_ms = e->o.lease_ms;
        b->op.u.claim.ret = b->claims;
        round->batches[round->len++] = b;
    }
    return again;
}

/* One row of b is beyond reading: into a box. False: no memory. */
static bool set_aside(exj_engine *e, struct row *r, const exj_err *why, struct outbox **boxes)
{
    struct outbox *box = *boxes;

    if (!box || box->len == BITE_MAX) {
        pthread_mutex_lock(&e->mu);
        box = exj_box_take_locked(e);
        pthread_mutex_unlock(&e->mu);
        if (!box)
            return false;
        box->pool = r->batch->pool;
        box->next = *boxes;
        *boxes = box;
    }
    exj_box_add_unreadable(box, r, why);
    r->unreadable = true;
    exj_log(EXJ_LOG_ERROR, "claimer", "row %lld of graph %s fails, its input cannot be read: %s",
            (long long)r->claim.seq, r->batch->pool->graph_id, why->text);
    return true;
}

static void move_texts(exj_loaded *l, uintptr_t by)
{
    l->record_id.p = (const char *)((uintptr_t)l->record_id.p + by);
    l->input.p = (const char *)((uintptr_t)l->input.p + by);
}

/* One by one, because one of them is damaged: the others are not held up by it. */
static exj_code load_singly(exj_engine *e, struct batch *b, struct outbox **boxes, exj_err *err)
{
    exj_store *s = e->o.store;
    exj_code rc = EXJ_OK;

    exj_buf_reset(&b->arena);
    for (uint32_t i = 0; i < b->len && rc == EXJ_OK; i++) {
        b->loaded[i] = (exj_loaded){ 0 };
        exj_err_clear(err);
        rc = s->v->load(s, &b->claims[i], 1, &b->loaded[i], &b->arena, err);
        if (rc == EXJ_CORRUPT)
            rc = set_aside(e, &b->rows[i], err, boxes) ? EXJ_OK : EXJ_NOMEM;
        else /* as offsets: the arena may move with the next one */
            move_texts(&b->loaded[i], -(uintptr_t)b->arena.p);
    }
    for (uint32_t i = 0; rc == EXJ_OK && i < b->len; i++)
        if (!b->rows[i].unreadable)
            move_texts(&b->loaded[i], (uintptr_t)b->arena.p);
    return rc;
}

static void drop_boxes(exj_engine *e, struct outbox *boxes)
{
    struct outbox *next;

    pthread_mutex_lock(&e->mu);
    for (; boxes; boxes = next) {
        next = boxes->next;
        exj_box_give_locked(e, boxes);
    }
    pthread_mutex_unlock(&e->mu);
}

/* Inputs of what was won. Without them the rows go back unstarted. *boxes: rows that have none. */
static bool load(exj_engine *e, struct batch *b, struct outbox **boxes)
{
    exj_err err = { 0 };
    exj_code rc = e->o.store->v->load(e->o.store, b->claims, b->len, b->loaded, &b->arena, &err);

    if (rc == EXJ_CORRUPT)
        rc = load_singly(e, b, boxes, &err);
    for (uint32_t i = 0; rc == EXJ_OK && i < b->len; i++) {
        b->rows[i].record_id = b->loaded[i].record_id;
        b->rows[i].input = b->loaded[i].input;
    }
    if (rc == EXJ_OK)
        return true;
    drop_boxes(e, *boxes);
    *boxes = NULL;
    for (uint32_t i = 0; i < b->len; i++)
        b->rows[i].unreadable = false;
    exj_log(EXJ_LOG_ERROR, "claimer", "rows of pool %lld could not be read: %s",
            (long long)b->pool->id, err.text);
    return false;
}

/* Rows of b that have their inputs, or are to go back, lie in the ring now. */
static void put_in_ring_locked(exj_engine *e, struct batch *b)
{
    struct pool *p = b->pool;

    for (uint32_t i = 0; i < b->len; i++) {
        struct row *r = &b->rows[i];

        if (r->unreadable)
            continue;
        r->next = NULL;
        if (p->tail)
            p->tail->next = r;
        else
            p->head = r;
        p->tail = r;
        p->ready++;
        e->ready++;
    }
}

static void list_locked(exj_engine *e, struct batch *b)
{
    b->renew_at = exj_clock_mono_ns() + e->o.lease_ms * 1000000 / 3;
    b->next = e->batches;
    if (b->next)
        b->next->prev = b;
    e->batches = b;
}

/* What the store said about rows that it did not give. */
static void note_held_back_locked(struct pool *p, const exj_want *w, exj_nsec rate_at)
{
    p->gate->parked += (uint32_t)w->ret_parked - (uint32_t)p->parked;
    p->parked = w->ret_parked;
    p->rate_at = w->ret_again ? rate_at : 0;
    /* A place that became free while this answer was on its way may be theirs already. */
    if (w->ret_again || w->ret_more || (w->ret_parked && p->freed != p->gate->freed))
        p->maybe_work = true;
}

bool exj_run_freed_locked(exj_engine *e, const struct pool *p)
{
    p->gate->freed++;
    if (!p->gate->parked)
        return false;
    for (struct pool *o = e->pools; o; o = o->next)
        if (o->parked && o->gate == p->gate)
            o->maybe_work = true;
    return true;
}

/* The store answered a claim or a promotion, or what was won could be read; or not: then it has
 * a rest, as long as nothing else is heard of it. */
static void rest(exj_engine *e)
{
    e->ask_pause = exj_run_longer_pause(e->ask_pause);
    e->ask_at = exj_clock_mono_ns() + e->ask_pause;
}

/* One answered claim: into the ring, or back. */
static void take_in(exj_engine *e, struct batch *b)
{
    struct pool *p = b->pool;
    uint32_t want = b->want.want;
    exj_nsec rate_at = 0;
    enum store_said said = exj_run_store_said(e, "claims", &b->op);
    struct outbox *unreadable = NULL, *next;
    bool loaded;

    b->len = b->op.rc == EXJ_OK && b->want.verdict == EXJ_OK ? (uint32_t)b->op.u.claim.ret_len
                                                           : 0;
    if (b->len) {
        atomic_fetch_add(&b->open, b->len);
        exj_series_add(p->started, (double)b->len);
        for (uint32_t i = 0; i < b->len; i++) {
            b->rows[i].claim = b->claims[i];
            b->rows[i].batch = b;
        }
    }
    loaded = b->len ? load(e, b, &unreadable) : true;
    if (said == STORE_PASSES || !loaded)
        rest(e);
    else
        e->ask_pause = 0;

    if (b->want.ret_again)
        rate_at = exj_clock_mono_ns() +
                  (b->want.ret_again - e->o.store->v->now(e->o.store)) * 1000000;
    pthread_mutex_lock(&e->mu);
    p->claiming = false;
    if (b->op.rc == EXJ_OK)
        note_held_back_locked(p, &b->want, rate_at);
    else
        p->maybe_work = true;
    p->uncommitted -= want - b->len;
    e->outstanding -= want - b->len;
    e->counts.claimed -= want - b->len;
    p->claimed_total += b->len;
    if (b->op.rc == EXJ_OK && b->want.verdict == EXJ_CONFLICT) {
        p->stale = true; /* the graph's config changed: ask again before claiming */
        p->maybe_work = true;
        e->look_now = true;
        pthread_cond_signal(&e->look);
    }
    if (b->len == want)
        p->maybe_work = true;
    if (b->len) {
        list_locked(e, b);
        put_in_ring_locked(e, b);
        p->filled_at = exj_clock_mono_ns();
        e->poll_pause = 0;
        e->poll_at = p->filled_at + SHARED_POLL_LEAST_NS;
        if (!loaded || e->paused || e->stopping || !p->wanted || !p->spec->runnable)
            exj_run_release_locked(e, p);
        else if (e->sleeping)
            pthread_cond_broadcast(&e->work);
    } else {
        pthread_cond_broadcast(&e->cycle);
    }
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
    for (; unreadable; unreadable = next) {
        next = unreadable->next;
        exj_box_submit(unreadable);
    }
    exj_batch_unref(e, b);
}

/* ---- news of rows that others inserted ------------------------------------------------------ */

int64_t exj_engine_pool(exj_engine *e, exj_slice matrix, exj_slice run, exj_slice graph)
{
    int64_t id = 0;

    pthread_mutex_lock(&e->mu);
    for (struct pool *p = e->pools; p && !id; p = p->next)
        if (exj_slice_is(graph, p->graph_id) && exj_slice_is(matrix, p->matrix_id) &&
            exj_slice_is(run, p->run_id))
            id = p->id;
    pthread_mutex_unlock(&e->mu);
    return id;
}

void exj_engine_rows_came(exj_engine *e, int64_t pool)
{
    struct pool *p;

    pthread_mutex_lock(&e->mu);
    for (p = e->pools; p && p->id != pool; p = p->next)
        ;
    if (p) {
        p->maybe_work = true;
        pthread_cond_signal(&e->claim);
    } else {
        exj_run_look_again_locked(e);
    }
    pthread_mutex_unlock(&e->mu);
}

void exj_engine_rows_due(exj_engine *e, exj_msec at)
{
    pthread_mutex_lock(&e->mu);
    if (!e->next_due || at < e->next_due) {
        e->next_due = at;
        pthread_cond_signal(&e->keep);
    }
    pthread_mutex_unlock(&e->mu);
}

/* ---- rounds -------------------------------------------------------------------------------- */

/* What is due, before the claims of the same list: one commit promotes and claims. */
static void take_promotion_locked(exj_engine *e, struct round *round)
{
    if (!e->promote)
        return;
    round->promotes = true;
    round->due = e->promote_due;
    e->promote = e->promote_due = false;
    round->promotion =
        (exj_op){ .kind = EXJ_OP_PROMOTE, .done = claim_done, .user = round };
    round->promotion.u.promote.limit = PROMOTE_LIMIT;
}

static void promoted(exj_engine *e, const struct round *round)
{
    exj_msec due = round->promotion.u.promote.ret_next_due;
    size_t n = round->promotion.u.promote.ret_promoted;

    if (exj_run_store_said(e, "promotion", &round->promotion) != STORE_OK) {
        pthread_mutex_lock(&e->mu);
        e->promote = true;
        e->promote_due |= round->due;
        pthread_mutex_unlock(&e->mu);
        rest(e);
        return;
    }
    e->ask_pause = 0;
    pthread_mutex_lock(&e->mu);
    /* Nobody knew, so pools that had nothing to do were not asked; or it is not known whose the
     * rest is. */
    for (struct pool *p = e->pools; n && (!round->due || n == PROMOTE_LIMIT) && p; p = p->next)
        p->maybe_work = true;
    if (n == PROMOTE_LIMIT)
        e->promote = e->promote_due = true;
    else if (due && (!e->next_due || due < e->next_due)) {
        e->next_due = due;
        pthread_cond_signal(&e->keep);
    }
    pthread_mutex_unlock(&e->mu);
}

static void submit(exj_engine *e, struct round *round)
{
    exj_op *first = round->len ? &round->batches[0]->op : NULL;

    for (uint32_t i = 0; i + 1 < round->len; i++)
        round->batches[i]->op.next = &round->batches[i + 1]->op;
    if (round->promotes) {
        round->promotion.next = first;
        first = &round->promotion;
    }
    exj_store_submit(e->o.store, first);
}

void *exj_run_claimer(void *engine)
{
    exj_engine *e = engine;

    pthread_mutex_lock(&e->mu);
    while (!e->stopping) {
        struct round round = { .engine = e };
        exj_nsec again = e->ask_at > exj_clock_mono_ns() ? e->ask_at : 0;
        bool asks = !e->failed && !again;

        if (asks)
            take_promotion_locked(e, &round);
        if (asks && !e->paused)
            again = plan_locked(e, &round, poll_locked(e));
        if (!round.len && !round.promotes) {
            exj_run_wait_locked(e, &e->claim, again);
            continue;
        }
        pthread_mutex_unlock(&e->mu);
        submit(e, &round);
        pthread_mutex_lock(&e->mu);
        while (round.answered < round.len + round.promotes)
            pthread_cond_wait(&e->claim, &e->mu);
        pthread_mutex_unlock(&e->mu);
        if (round.promotes)
            promoted(e, &round);
        for (uint32_t i = 0; i < round.len; i++)
            take_in(e, round.batches[i]);
        pthread_mutex_lock(&e->mu);
    }
    pthread_mutex_unlock(&e->mu);
    return NULL;
}
