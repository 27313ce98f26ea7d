/* What goes across rows: order (I12), recovery (I13), generations (I14), standing still
 * (I15), commands and ticks (I18, I19). */
#include <inttypes.h>
#include <stdlib.h>

#include "core/history/check_inside.h"

struct first { /* the first claim of a row that could be claimed at once */
    uint32_t pool, row;
    int64_t seq;
    const check_rec *claim;
};

struct ready { /* a row could be claimed all this time, and was not */
    exj_nsec from, to;
    uint32_t row;
    const check_rec *since;
};

struct check_across {
    struct first *firsts;
    size_t firsts_len, firsts_cap;
    struct ready *readies;
    size_t readies_len, readies_cap;
    uint64_t *recovery, *reclaim; /* us */
    size_t recovery_len, recovery_cap, reclaim_len, reclaim_cap;
};

void exj_check_across_free(exj_check *c)
{
    if (!c->across)
        return;
    free(c->across->firsts);
    free(c->across->readies);
    free(c->across->recovery);
    free(c->across->reclaim);
    free(c->across);
    c->across = NULL;
}

/* ---- what a row leaves ------------------------------------------------------------ */

static const check_rec *claim_after(const check_life *l, size_t token_at)
{
    for (size_t i = token_at; i < l->tokens_len; i++)
        if (l->tokens[i].claim)
            return l->tokens[i].claim;
    return NULL;
}

static bool leave_first(const check_life *l, struct check_across *a)
{
    const check_rec *e = l->enqueue, *claim = claim_after(l, 0);

    if (!e || !claim || claim->token != 1 || e->outcome == W_EXISTING || !l->row->job ||
        (e->to != TO_QUEUED && e->to != TO_NONE))
        return true;
    if (!exj_check_room((void **)&a->firsts, a->firsts_len, &a->firsts_cap,
                        sizeof *a->firsts))
        return false;
    a->firsts[a->firsts_len++] = (struct first){ .pool = l->c->graph_of_job[l->row->job],
                                                 .row = (uint32_t)(l->row - l->c->rows),
                                                 .seq = l->row->seq,
                                                 .claim = claim };
    return true;
}

/* When was the row last told to stay away? Nothing is expected of it from then on. */
static bool was_taken_away(const check_life *l)
{
    for (size_t i = 0; i < l->orders; i++)
        if ((l->recs[i]->op == EXJ_HIST_CANCEL || l->recs[i]->op == EXJ_HIST_REMOVE) &&
            check_maybe(l->recs[i]))
            return true;
    return l->row->removed || (l->final && l->final->to != TO_QUEUED);
}

static bool leave_ready(const check_life *l, struct check_across *a,
                        const check_rec *since, const check_rec *claim)
{
    exj_check *c = l->c;
    exj_nsec to = claim ? claim->t0 : c->last_t,
             from = since->t1 > c->quiet ? since->t1 : c->quiet;

    if (to < from || to - from <= 3 * c->lease || (!claim && was_taken_away(l)))
        return true;
    if (!exj_check_room((void **)&a->readies, a->readies_len, &a->readies_cap,
                        sizeof *a->readies))
        return false;
    a->readies[a->readies_len++] = (struct ready){
        .from = from, .to = to, .since = since, .row = (uint32_t)(l->row - c->rows)
    };
    return true;
}

static bool leave_readies(const check_life *l, struct check_across *a)
{
    const check_rec *e = l->enqueue;

    if (l->c->quiet == CHECK_NEVER || !l->c->lease)
        return true;
    if (e && e->outcome != W_EXISTING && (e->to == TO_QUEUED || e->to == TO_NONE) &&
        !leave_ready(l, a, e, claim_after(l, 0)))
        return false;
    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_rec *end = l->tokens[i].end;

        if (end && (end->op == EXJ_HIST_REAP || end->op == EXJ_HIST_RELEASE) &&
            (end->to == TO_QUEUED || end->to == TO_NONE) &&
            !leave_ready(l, a, end, claim_after(l, i + 1)))
            return false;
    }
    return true;
}

static bool leave_gap(uint64_t **list, size_t *len, size_t *cap, exj_nsec gap)
{
    if (!exj_check_room((void **)list, *len, cap, sizeof **list))
        return false;
    (*list)[(*len)++] = gap > 0 ? (uint64_t)gap / 1000 : 0;
    return true;
}

/* The last kill or restart before the row was taken back: only from then on time counts.
 */
static exj_nsec last_disturbance(const exj_check *c, exj_nsec from, exj_nsec to)
{
    exj_nsec last = from;

    for (uint32_t i = 0; i < c->incs_len; i++) {
        if (c->incs[i].killed_at < to && c->incs[i].killed_at > last)
            last = c->incs[i].killed_at;
        if (c->incs[i].started_at < to && c->incs[i].started_at > last)
            last = c->incs[i].started_at;
    }
    return last;
}

static bool leave_recovery(const check_life *l, struct check_across *a)
{
    exj_check *c = l->c;

    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_token *k = &l->tokens[i];
        exj_nsec killed = k->claim ? c->incs[k->claim->inc].killed_at : CHECK_NEVER, back,
                 most;
        const check_rec *next = claim_after(l, i + 1);

        if (killed == CHECK_NEVER || k->claim->t1 > killed ||
            (k->end && (k->end->op != EXJ_HIST_REAP || k->end->t1 <= killed)) ||
            (!k->end && !next))
            continue;
        if (next &&
            !leave_gap(&a->reclaim, &a->reclaim_len, &a->reclaim_cap, next->t1 - killed))
            return false;
        /* Perhaps somebody took it back at once and was killed before he could tell; then it
         * waited its turn. */
        if (!k->end && exj_check_wild(c, EXJ_HIST_REAP, killed, next->t0))
            continue;
        back = k->end ? k->end->t1 : next->t1;
        if (!leave_gap(&a->recovery, &a->recovery_len, &a->recovery_cap, back - killed))
            return false;
        if (!c->lease)
            continue;
        check_try(c, 13);
        most = 2 * c->lease + c->o.restart_ms * 1000000;
        if (back - last_disturbance(c, killed, back) > most)
            exj_check_broken(
                c, 13, "slow recovery", l->row, k->claim, k->end ? k->end : next,
                "its worker was killed at %" PRId64 ", and it was taken back %" PRId64
                " ms later; %" PRId64 " ms were allowed",
                killed, (back - killed) / 1000000, most / 1000000);
    }
    return true;
}

bool exj_check_across(const check_life *l)
{
    struct check_across *a = l->c->across;

    if (!a) {
        a = l->c->across = calloc(1, sizeof *a);
        if (!a)
            return false;
    }
    return leave_first(l, a) && leave_readies(l, a) && leave_recovery(l, a);
}

/* ---- I12 -------------------------------------------------------------------------- */

static int by_pool(const void *a, const void *b)
{
    const struct first *x = a, *y = b;

    if (x->pool != y->pool)
        return x->pool < y->pool ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static int by_end(const void *a, const void *b)
{
    const struct first *x = *(const struct first *const *)a,
                       *y = *(const struct first *const *)b;

    return (x->claim->t1 > y->claim->t1) - (x->claim->t1 < y->claim->t1);
}

static int by_begin(const void *a, const void *b)
{
    const struct first *x = *(const struct first *const *)a,
                       *y = *(const struct first *const *)b;

    return (x->claim->t0 > y->claim->t0) - (x->claim->t0 < y->claim->t0);
}

struct order_room { /* for all pools */
    const struct first **ends, **begins;
    uint32_t *tree; /* Fenwick: how many of the claimed rows stand at or behind a place */
    uint64_t *overtaken;
    size_t overtaken_len;
};

/* How many rows of the pool that came later were surely claimed before each. */
static void check_pool_order(exj_check *c, const struct first *f, size_t n,
                             struct order_room *o)
{
    size_t done = 0;

    for (size_t i = 0; i < n; i++)
        o->ends[i] = o->begins[i] = &f[i];
    qsort(o->ends, n, sizeof *o->ends, by_end);
    qsort(o->begins, n, sizeof *o->begins, by_begin);
    memset(o->tree, 0, (n + 1) * sizeof *o->tree);
    for (size_t i = 0; i < n; i++) {
        const struct first *r = o->begins[i];
        uint64_t before_me = 0;

        for (; done < n && o->ends[done]->claim->t1 < r->claim->t0; done++)
            for (size_t p = (size_t)(o->ends[done] - f) + 1; p <= n; p += p & (0 - p))
                o->tree[p]++;
        for (size_t p = (size_t)(r - f) + 1; p > 0; p -= p & (0 - p))
            before_me += o->tree[p];
        before_me = done - before_me;
        o->overtaken[o->overtaken_len++] = before_me;
        if (!c->in_flight || (c->ordered && r->pool != c->ordered))
            continue;
        check_try(c, 12);
        if (before_me > c->in_flight)
            exj_check_broken(c, 12, "reorder", &c->rows[r->row], r->claim, NULL,
                             "%" PRIu64
                             " rows of its pool that came later were claimed before; "
                             "%" PRIu64 " may be in flight",
                             before_me, c->in_flight);
    }
}

static void check_order(exj_check *c, struct check_across *a)
{
    struct order_room o = { 0 };
    size_t n = a->firsts_len, from = 0;

    if (!n)
        return;
    qsort(a->firsts, n, sizeof *a->firsts, by_pool);
    o.ends = malloc(n * sizeof *o.ends);
    o.begins = malloc(n * sizeof *o.begins);
    o.tree = malloc((n + 1) * sizeof *o.tree);
    o.overtaken = malloc(n * sizeof *o.overtaken);
    if (!o.ends || !o.begins || !o.tree || !o.overtaken)
        c->failed = true;
    for (size_t i = 1; i <= n && !c->failed; i++)
        if (i == n || a->firsts[i].pool != a->firsts[from].pool) {
            check_pool_order(c, a->firsts + from, i - from, &o);
            from = i;
        }
    if (!c->failed)
        exj_check_spread_of(o.overtaken, o.overtaken_len, &c->report.overtaken);
    free(o.ends);
    free(o.begins);
    free(o.tree);
    free(o.overtaken);
}

/* ---- I14 -------------------------------------------------------------------------- */

static int by_generation(const void *a, const void *b)
{
    const check_rec *x = *(const check_rec *const *)a, *y = *(const check_rec *const *)b;

    if (x->inc != y->inc)
        return x->inc < y->inc ? -1 : 1;
    if (x->generation != y->generation)
        return x->generation < y->generation ? -1 : 1;
    return (x->op != EXJ_HIST_GENERATION) - (y->op != EXJ_HIST_GENERATION);
}

/* Every record of the operations in `ops`; NULL: none, or no memory. The caller frees. */
static check_rec **take_all(exj_check *c, uint64_t ops, size_t *ret_n)
{
    check_rec **list;
    size_t n = 0;

    *ret_n = 0;
    for (size_t i = 0; i < c->recs_len; i++)
        n += ops >> check_at(c, i)->op & 1;
    if (!n)
        return NULL;
    list = malloc(n * sizeof *list);
    if (!list) {
        c->failed = true;
        return NULL;
    }
    for (size_t i = 0; i < c->recs_len; i++)
        if (ops >> check_at(c, i)->op & 1)
            list[(*ret_n)++] = check_at(c, i);
    return list;
}

static void check_execution(exj_check *c, const check_rec *e, const check_rec *unmapped)
{
    const check_row *row = e->row_at == CHECK_NONE ? NULL : &c->rows[e->row_at];

    if (e->phase == EXJ_HIST_OK && e->value && (uint64_t)e->value != e->generation)
        exj_check_broken(c, 14, "torn reload", row, e, NULL,
                         "it began in generation %" PRIu64 " and ended in %" PRIu64,
                         e->generation, (uint64_t)e->value);
    if (!unmapped)
        return;
    check_try(c, 14);
    if (e->t0 > unmapped->t0)
        exj_check_broken(c, 14, "torn reload", row, unmapped, e,
                         "generation %" PRIu64 " was called after it was unmapped",
                         e->generation);
    else if (e->phase != EXJ_HIST_INVOKE && e->t1 > unmapped->t0 && e->t1 != CHECK_NEVER)
        exj_check_broken(c, 14, "torn reload", row, unmapped, e,
                         "generation %" PRIu64 " was unmapped while it ran",
                         e->generation);
}

static void check_generations(exj_check *c)
{
    size_t n;
    check_rec **list = take_all(
        c, UINT64_C(1) << EXJ_HIST_EXECUTE | UINT64_C(1) << EXJ_HIST_GENERATION, &n);
    const check_rec *unmapped = NULL;

    if (!list)
        return;
    qsort(list, n, sizeof *list, by_generation);
    for (size_t i = 0; i < n; i++) {
        const check_rec *r = list[i];
        bool same = i > 0 && list[i - 1]->inc == r->inc &&
                    list[i - 1]->generation == r->generation;

        if (!same)
            unmapped = NULL;
        if (r->op == EXJ_HIST_GENERATION) {
            if (r->outcome == W_UNMAPPED && (!unmapped || r->t0 < unmapped->t0))
                unmapped = r;
            c->report.counts.reloads += r->outcome == W_DRAINING;
        } else if (r->generation) {
            check_execution(c, r, unmapped);
        }
    }
    free(list);
}

/* ---- I15 -------------------------------------------------------------------------- */

static bool is_progress(const check_rec *r)
{
    if (r->op == EXJ_HIST_FAULT || r->op == EXJ_HIST_CORE || r->op == EXJ_HIST_HOST)
        return true; /* no progress, but a reason to begin to count anew */
    return r->phase == EXJ_HIST_OK && r->row &&
           (r->op == EXJ_HIST_CLAIM || r->op == EXJ_HIST_RENEW || check_ends(r->op));
}

static int by_instant(const void *a, const void *b)
{
    exj_nsec x = *(const exj_nsec *)a, y = *(const exj_nsec *)b;

    return (x > y) - (x < y);
}

/* Was one worker at least started all this time? Where nobody tells of starts, yes. */
static bool was_alive(const exj_check *c, exj_nsec from, exj_nsec to)
{
    if (!c->report.counts.cores)
        return true;
    for (uint32_t i = 0; i < c->incs_len; i++) {
        const check_inc *n = &c->incs[i];
        exj_nsec end = n->killed_at < n->stopped_at ? n->killed_at : n->stopped_at;

        if (end == CHECK_NEVER)
            end = n->last_t; /* killed by someone who did not say so, perhaps */
        if (n->started && n->started_at <= from && end >= to)
            return true;
    }
    return false;
}

static void check_gap_of_progress(exj_check *c, const struct check_across *a,
                                  exj_nsec from, exj_nsec to)
{
    for (size_t i = 0; i < a->readies_len; i++) {
        const struct ready *r = &a->readies[i];
        exj_nsec low = r->from > from ? r->from : from, high = r->to < to ? r->to : to;

        if (high <= low || high - low <= 3 * c->lease || !was_alive(c, low, high))
            continue;
        exj_check_broken(c, 15, "stuck", &c->rows[r->row], r->since, NULL,
                         "no row moved from %" PRId64 " to %" PRId64 ", %" PRId64
                         " ms, while this one was ready",
                         low, high, (high - low) / 1000000);
        return;
    }
}

static void check_progress(exj_check *c, const struct check_across *a)
{
    exj_nsec *t, last = c->quiet;
    size_t n = 0;

    if (c->quiet == CHECK_NEVER || !c->lease || c->last_t - c->quiet <= 3 * c->lease)
        return;
    check_try(c, 15);
    if (!a || !a->readies_len)
        return;
    for (size_t i = 0; i < c->recs_len; i++)
        n += is_progress(check_at(c, i));
    t = malloc((n + 1) * sizeof *t);
    if (!t) {
        c->failed = true;
        return;
    }
    n = 0;
    for (size_t i = 0; i < c->recs_len; i++)
        if (is_progress(check_at(c, i)))
            t[n++] = check_at(c, i)->t1;
    t[n++] = c->last_t;
    qsort(t, n, sizeof *t, by_instant);
    for (size_t i = 0; i < n; i++) {
        if (t[i] > last && t[i] - last > 3 * c->lease)
            check_gap_of_progress(c, a, last, t[i]);
        if (t[i] > last)
            last = t[i];
    }
    free(t);
}

/* ---- I18, I19 --------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const check_rec *x = *(const check_rec *const *)a, *y = *(const check_rec *const *)b;

    if (x->op != y->op)
        return x->op < y->op ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->op == EXJ_HIST_TICK && x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->t0 > y->t0) - (x->t0 < y->t0);
}

#define KEY_FORGOTTEN                                                                    \
    (INT64_C(3600) * 1000000000) /* the least time a key is remembered */

/* Records of one key. A key that was dropped, or taken by a process that may have died
 * with it, may be taken again; one whose answer was kept may not. */
static void check_command(exj_check *c, check_rec *const *r, size_t n)
{
    const check_rec *taken = NULL, *kept = NULL;
    bool dropped = false;

    for (size_t i = 0; i < n; i++) {
        if (r[i]->outcome == W_REPLAYED)
            check_try(c, 18);
        if (r[i]->outcome == W_KEY_DROPPED || check_unknown(r[i]))
            dropped = true; /* perhaps */
        if (r[i]->phase != EXJ_HIST_OK)
            continue;
        if (r[i]->outcome == W_TAKEN) {
            bool again = taken && !dropped && (taken->inc == r[i]->inc || kept);

            if (again && r[i]->t1 - taken->t0 < KEY_FORGOTTEN)
                exj_check_broken(c, 18, "command twice", NULL, taken, r[i],
                                 "one key was taken twice");
            taken = r[i];
            kept = NULL;
            dropped = false;
        }
        if (r[i]->outcome == W_KEPT)
            kept = r[i];
    }
}

static void check_tick(exj_check *c, check_rec *const *r, size_t n)
{
    const check_rec *fired = NULL;

    for (size_t i = 0; i < n; i++) {
        if (r[i]->phase != EXJ_HIST_OK || !r[i]->value)
            continue;
        check_try(c, 19);
        if (fired) {
            exj_check_broken(c, 19, "tick twice", NULL, fired, r[i],
                             "the tick %" PRId64 " fired twice", r[i]->value);
            return;
        }
        fired = r[i];
    }
}

static void check_once(exj_check *c)
{
    size_t n, from = 0;
    check_rec **list =
        take_all(c, UINT64_C(1) << EXJ_HIST_COMMAND | UINT64_C(1) << EXJ_HIST_TICK, &n);

    if (!list)
        return;
    qsort(list, n, sizeof *list, by_name);
    for (size_t i = 1; i <= n; i++) {
        const check_rec *r = list[from];

        if (i < n && list[i]->op == r->op && list[i]->key == r->key &&
            (r->op != EXJ_HIST_TICK || list[i]->value == r->value))
            continue;
        if (r->op == EXJ_HIST_COMMAND)
            check_command(c, list + from, i - from);
        else
            check_tick(c, list + from, i - from);
        from = i;
    }
    free(list);
}

void exj_check_world(exj_check *c)
{
    struct check_across *a = c->across;

    if (a) {
        check_order(c, a);
        exj_check_spread_of(a->recovery, a->recovery_len, &c->report.recovery_us);
        exj_check_spread_of(a->reclaim, a->reclaim_len, &c->report.reclaim_us);
    }
    if (!c->failed)
        check_generations(c);
    if (!c->failed)
        check_progress(c, a);
    if (!c->failed)
        check_once(c);
}
