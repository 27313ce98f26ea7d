/* The keeper renews leases in batches, takes back those that are over, and has waiting rows
 * promoted when they are due. Off the workers' way; it waits for a time or a wake-up. */
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/inside.h"

#define REAP_LIMIT 500u
#define WAIT_MOST_MS 60000 /* in one go: a row may be due in the year 9999 */

/* The store's clock is the machine's, which somebody may set forward: then leases of ours look
 * over that are not. It has gone away from the monotonic clock since the last call: renew all of
 * them before any is taken back. */
static bool clock_jumped(exj_engine *e, exj_msec *skew)
{
    exj_msec is = e->o.store->v->now(e->o.store) - exj_clock_mono_ns() / 1000000;
    bool jumped = is - *skew > e->o.lease_ms / 12;

    if (jumped || is < *skew)
        *skew = is;
    return jumped;
}

static void renew_all_now(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    for (struct batch *b = e->batches; b; b = b->next)
        b->renew_at = 0;
    pthread_mutex_unlock(&e->mu);
}

/* A batch whose renewal is due, pinned; NULL: none. */
static struct batch *due_batch(exj_engine *e, exj_nsec now)
{
    struct batch *b;

    pthread_mutex_lock(&e->mu);
    for (b = e->batches; b && b->renew_at > now; b = b->next)
        ;
    if (b) {
        b->renew_at = now + e->o.lease_ms * 1000000 / 3;
        /* 0 means that the last row is over and somebody waits for mu to free it. */
        unsigned open = atomic_load(&b->open);

        while (open && !atomic_compare_exchange_weak(&b->open, &open, open + 1))
            ;
        if (!open) {
            pthread_mutex_unlock(&e->mu);
            return due_batch(e, now);
        }
    }
    pthread_mutex_unlock(&e->mu);
    return b;
}

/* Nothing can end a call in this process. What can be done when it is long overdue: its lease
 * is left to run out, so that the row is tried again, and we say that a worker is missing. */
static bool is_overdue(exj_engine *e, struct row *r)
{
    int64_t at = atomic_load(&r->overdue_at);
    const struct deck *d = r->deck;
    bool first = false;
    uint32_t stuck = 0;

    if (!at || exj_clock_mono_ns() < at)
        return false;
    pthread_mutex_lock(&e->mu);
    if (!r->written_off && atomic_load(&r->overdue_at)) { /* else it came back just now */
        r->written_off = first = true;
        stuck = ++e->stuck;
    }
    pthread_mutex_unlock(&e->mu);
    atomic_store(&r->lost, true);
    if (first)
        exj_log(EXJ_LOG_ERROR, "keeper",
                "plugin %s does not come back from row %.*s although its time limit and grace are "
                "over: the lease is left to run out, %u of %u worker threads are written off, "
                "generation %llu stays mapped; isolation host can end such calls",
                d->label, (int)r->record_id.n, r->record_id.p, stuck, e->workers_len,
                (unsigned long long)d->generation);
    return true;
}

/* False: the store does not do it now; the others would wait for the same. */
static bool renew_batch(exj_engine *e, struct batch *b)
{
    exj_op op = { .kind = EXJ_OP_RENEW };
    exj_held *items = malloc(b->len * sizeof(*items));
    struct row **rows = malloc(b->len * sizeof(struct row *));
    uint32_t n = 0, lost = 0;
    enum store_said said = STORE_OK;
    exj_nsec sent = exj_clock_mono_ns();

    if (!items || !rows) {
        exj_log(EXJ_LOG_ERROR, "keeper", "no memory to renew %u leases", b->len);
        goto out;
    }
    for (uint32_t i = 0; i < b->len; i++) {
        struct row *r = &b->rows[i];

        if (atomic_load_explicit(&r->phase, memory_order_acquire) == ROW_OVER || is_overdue(e, r))
            continue;
        items[n] = (exj_held){ .seq = r->claim.seq, .nonce = r->claim.nonce };
        rows[n++] = r;
    }
    if (!n)
        goto out;
    op.u.held.items = items;
    op.u.held.len = n;
    op.u.held.lease_ms = e->o.lease_ms;
    exj_store_do(e->o.store, &op, NULL);
    said = exj_run_store_said(e, "renewals", &op);
    if (said != STORE_OK) {
        b->renew_at = 0; /* with the next step, and some more before the lease is over */
        goto out;
    }
    exj_batch_keep(e, b, sent);
    for (uint32_t i = 0; i < n; i++) {
        if (items[i].ret_cancel)
            atomic_store(&rows[i]->cancel, true);
        if (items[i].verdict != EXJ_FENCED || atomic_load(&rows[i]->late) ||
            atomic_load_explicit(&rows[i]->phase, memory_order_acquire) == ROW_OVER)
            continue;
        /* Over, and its outcome has not been stored: somebody else claimed the row. */
        atomic_store(&rows[i]->lost, true);
        lost++;
    }
    if (lost) {
        exj_series_add(b->pool->fenced, lost);
        exj_log(EXJ_LOG_WARN, "keeper", "%u leases of %s are lost: a newer claim exists",
                lost, b->pool->graph_id);
        pthread_mutex_lock(&e->mu);
        e->counts.fenced += lost;
        pthread_mutex_unlock(&e->mu);
    }
out:
    free(items);
    free(rows);
    return said == STORE_OK;
}

/* Rows became claimable, we do not know whose. */
static void news(exj_engine *e)
{
    pthread_mutex_lock(&e->mu);
    for (struct pool *p = e->pools; p; p = p->next)
        p->maybe_work = true;
    pthread_cond_signal(&e->claim);
    pthread_mutex_unlock(&e->mu);
}

void exj_engine_rows_changed(exj_engine *e)
{
    news(e);
    pthread_mutex_lock(&e->mu);
    e->next_due = 1; /* look when the next row is due */
    pthread_cond_signal(&e->keep);
    pthread_mutex_unlock(&e->mu);
}

void exj_engine_cancel_row(exj_engine *e, int64_t seq)
{
    pthread_mutex_lock(&e->mu);
    for (struct batch *b = e->batches; b; b = b->next)
        for (uint32_t i = 0; i < b->len; i++)
            if (b->rows[i].claim.seq == seq)
                atomic_store(&b->rows[i].cancel, true);
    pthread_mutex_unlock(&e->mu);
}

/* A lease that ended with the last attempt makes a dead row: it counts like any other. */
static void count_reaped(exj_engine *e, const exj_reaped *rows, size_t n)
{
    pthread_mutex_lock(&e->mu);
    for (size_t i = 0; i < n; i++) {
        struct pool *p;

        for (p = e->pools; p && p->id != rows[i].pool; p = p->next)
            ;
        if (p) /* dead or not: its place of a concurrency key is free */
            exj_run_freed_locked(e, p);
        if (rows[i].to == EXJ_FAILED) {
            e->counts.failed++;
            if (p) {
                exj_series_add(p->completed[EXJ_FAILED], 1);
                exj_series_add(p->failed, 1);
            }
        } else if (p) {
            p->maybe_work = true;
        }
    }
    e->answers++;
    pthread_cond_signal(&e->claim);
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
}

static void reap(exj_engine *e, const char *all_but)
{
    exj_reaped *rows = malloc(REAP_LIMIT * sizeof(*rows));
    exj_op op;

    if (!rows)
        return;
    do {
        exj_msec grace = e->o.lease_ms / 4;

        op = (exj_op){ .kind = EXJ_OP_REAP };
        op.u.reap.all_but = all_but;
        op.u.reap.grace_ms = grace < 2000 ? grace : 2000;
        op.u.reap.ret = rows;
        op.u.reap.limit = REAP_LIMIT;
        exj_store_do(e->o.store, &op, NULL);
        if (exj_run_store_said(e, "reaping", &op) != STORE_OK || !op.u.reap.ret_len)
            break;
        exj_series_add(e->m_expiries, (double)op.u.reap.ret_len);
        exj_log(EXJ_LOG_WARN, "keeper", "%zu leases without an outcome are over%s",
                op.u.reap.ret_len,
                all_but ? ": their holders are gone (this store has one)" : "");
        count_reaped(e, rows, op.u.reap.ret_len);
    } while (op.u.reap.ret_len == REAP_LIMIT);
    free(rows);
}

/* The claimer does it, so that a row that is due is promoted and claimed in one commit. It says
 * when the next one is due. `due`: a time has come; else it is only to look. */
static void promote_locked(exj_engine *e, bool due)
{
    for (struct pool *p = e->pools; due && p; p = p->next)
        p->maybe_work = true;
    e->next_due = 0;
    e->promote = true;
    e->promote_due |= due;
    pthread_cond_signal(&e->claim);
}

void *exj_run_keeper(void *engine)
{
    exj_engine *e = engine;
    exj_nsec step = e->o.lease_ms * 1000000 / 12, reap_at = 0;
    exj_msec skew = e->o.store->v->now(e->o.store) - exj_clock_mono_ns() / 1000000;

    reap(e, e->o.exclusive_store ? e->o.worker_id : NULL);
    news(e);
    pthread_mutex_lock(&e->mu);
    /* Leases are kept until the last row is over, also while stopping. */
    while (!e->stopping || e->outstanding) {
        exj_nsec now = exj_clock_mono_ns(), until = now + step;
        exj_msec wait;
        struct batch *b;

        promote_locked(e, e->next_due && e->next_due <= e->o.store->v->now(e->o.store));
        pthread_mutex_unlock(&e->mu);
        if (clock_jumped(e, &skew))
            renew_all_now(e);
        for (bool answers = true; answers && (b = due_batch(e, now)) != NULL;) {
            answers = renew_batch(e, b);
            exj_batch_unref(e, b);
        }
        if (now >= reap_at && clock_jumped(e, &skew)) {
            renew_all_now(e); /* while we renewed */
            until = now;
        } else if (now >= reap_at) {
            reap(e, NULL);
            reap_at = now + e->o.lease_ms * 1000000 / 4;
        }
        pthread_mutex_lock(&e->mu);
        if (e->failed)
            break;
        while ((!e->stopping || e->outstanding) && !e->failed) {
            exj_nsec wake = until;

            if (exj_box_retry_locked(e))
                continue;
            if (e->late_at && e->late_at < wake)
                wake = e->late_at;
            if (e->next_due) {
                wait = e->next_due - e->o.store->v->now(e->o.store);
                if (wait <= 0)
                    break;
                if (wait > WAIT_MOST_MS)
                    wait = WAIT_MOST_MS;
                if (exj_clock_mono_ns() + wait * 1000000 < wake)
                    wake = exj_clock_mono_ns() + wait * 1000000;
            }
            exj_run_wait_locked(e, &e->keep, wake);
            if (exj_clock_mono_ns() >= until)
                break;
        }
    }
    pthread_mutex_unlock(&e->mu);
    return NULL;
}
