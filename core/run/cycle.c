/* One matrix's loop: ask the source resolver, insert what is missing (gather.c), wait until
 * nothing of it is claimable, wait pollWhenEmptySeconds after an empty pass, and again. */
#include "core/run/gather.h"

#include <string.h>

#include "core/base/clock.h"

#define ASK_AGAIN_MS 5000 /* at least, after a cycle that a schedule asked for failed */

bool exj_run_must_end_locked(const struct matrix *m)
{
    return m->engine->stopping || m->gone || m->engine->failed;
}

bool exj_run_must_end(struct matrix *m)
{
    bool end;

    pthread_mutex_lock(&m->engine->mu);
    end = exj_run_must_end_locked(m);
    pthread_mutex_unlock(&m->engine->mu);
    return end;
}

bool exj_run_pool_is_ours(const struct matrix *m, const struct pool *p)
{
    return p->wanted && !strcmp(p->matrix_id, m->id);
}

static bool is_busy_locked(const struct matrix *m)
{
    for (const struct pool *p = m->engine->pools; p; p = p->next) {
        if (!exj_run_pool_is_ours(m, p))
            continue;
        if (p->uncommitted || p->executing || p->claiming)
            return true;
        if (p->maybe_work && p->spec && p->spec->runnable && !m->engine->paused &&
            !m->engine->no_more_claims)
            return true;
    }
    return false;
}

static uint64_t claimed_locked(const struct matrix *m)
{
    uint64_t n = 0;

    for (const struct pool *p = m->engine->pools; p; p = p->next)
        n += exj_run_pool_is_ours(m, p) ? p->claimed_total : 0;
    return n;
}

void exj_run_take_config_locked(struct matrix *m)
{
    if (!m->has_next)
        return;
    exj_matrix_config_release(&m->config);
    m->config = m->config_next;
    m->config_next = (exj_matrix_config){ 0 };
    m->has_next = false;
}

/* The first cycle that a schedule asked for and that may begin; NULL: none. *ret_at: when the
 * first of the others may; 0: there is none. */
static struct asked *next_asked_locked(const struct matrix *m, exj_nsec *ret_at)
{
    exj_nsec now = exj_clock_mono_ns();

    *ret_at = 0;
    for (struct asked *a = m->asked; a; a = a->next) {
        if (a->done)
            continue;
        if (a->not_before <= now)
            return a;
        if (!*ret_at || a->not_before < *ret_at)
            *ret_at = a->not_before;
    }
    return NULL;
}

/* One cycle that was asked for. It is done when its source was asked to the end: its rows find
 * their way by themselves. Else it is tried again: after a crash, too. */
static void do_asked(struct matrix *m, struct asked *a)
{
    exj_engine *e = m->engine;
    exj_op op = { .kind = EXJ_OP_RUN_DONE };
    uint64_t inserted;
    bool good = exj_run_gather(m, a->run, &inserted);
    exj_msec pause;

    if (good) {
        op.u.run.matrix = exj_slice_of(m->id);
        op.u.run.run = exj_slice_of(a->run);
        exj_store_do(e->o.store, &op, NULL);
        good = exj_run_store_said(e, "the end of a cycle", &op) == STORE_OK;
    }
    pthread_mutex_lock(&e->mu);
    pause = m->config.poll_ms > ASK_AGAIN_MS ? m->config.poll_ms : ASK_AGAIN_MS;
    a->done = good;
    a->not_before = good ? 0 : exj_clock_mono_ns() + pause * 1000000;
    m->cycles += good;
    m->last_ended = exj_clock_wall_ms();
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
    exj_series_add(m->m_cycles[!inserted], 1);
}

/* All that may begin now. */
static void do_all_asked(struct matrix *m)
{
    struct asked *a;
    exj_nsec at;

    do {
        pthread_mutex_lock(&m->engine->mu);
        a = exj_run_must_end_locked(m) ? NULL : next_asked_locked(m, &at);
        pthread_mutex_unlock(&m->engine->mu);
        if (a) /* only discovery frees it, and not before it is done */
            do_asked(m, a);
    } while (a);
}

static bool has_asked(struct matrix *m)
{
    exj_nsec at;
    bool has;

    pthread_mutex_lock(&m->engine->mu);
    has = next_asked_locked(m, &at) != NULL;
    pthread_mutex_unlock(&m->engine->mu);
    return has;
}

/* One pass. Returns whether it was empty. */
static bool pass(struct matrix *m)
{
    exj_engine *e = m->engine;
    uint64_t claimed_before, inserted_now;
    bool empty;
    exj_nsec at;

    pthread_mutex_lock(&e->mu);
    claimed_before = claimed_locked(m);
    pthread_mutex_unlock(&e->mu);
    exj_run_gather(m, NULL, &inserted_now);
    pthread_mutex_lock(&e->mu);
    while (is_busy_locked(m) && !exj_run_must_end_locked(m)) {
        if (!next_asked_locked(m, &at)) {
            exj_run_wait_locked(e, &e->cycle, at);
            continue;
        }
        pthread_mutex_unlock(&e->mu);
        do_all_asked(m);
        pthread_mutex_lock(&e->mu);
    }
    empty = !inserted_now && claimed_locked(m) == claimed_before;
    m->cycles++;
    m->last_ended = exj_clock_wall_ms();
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
    exj_series_add(m->m_cycles[empty], 1);
    return empty;
}

void *exj_run_cycle(void *matrix)
{
    struct matrix *m = matrix;
    exj_engine *e = m->engine;

    while (!exj_run_must_end(m) && !e->o.only_seq) {
        bool scheduled, empty = true;
        exj_nsec began, until, at;

        pthread_mutex_lock(&e->mu);
        exj_run_take_config_locked(m);
        scheduled = m->config.scheduled;
        pthread_mutex_unlock(&e->mu);
        do_all_asked(m);
        if (!scheduled)
            empty = pass(m);
        if (e->o.one_cycle && has_asked(m))
            continue;
        if (e->o.one_cycle)
            break;
        if (!empty)
            continue;
        began = exj_clock_mono_ns();
        pthread_mutex_lock(&e->mu);
        until = began + m->config.poll_ms * 1000000;
        m->idle = true;
        pthread_cond_broadcast(&e->idle);
        /* Woken early by a new config, a poke, or the end. Retries need no new pass: the
         * claimer takes them by itself. */
        while (!exj_run_must_end_locked(m) && !m->has_next && !m->poked && !next_asked_locked(m, &at)) {
            exj_nsec wake = scheduled ? at : at && at < until ? at : until;

            if (!exj_run_wait_locked(e, &e->cycle, wake) && wake == until)
                break;
        }
        m->idle = false;
        m->poked = false;
        pthread_mutex_unlock(&e->mu);
        exj_series_add(m->m_idle, (double)(exj_clock_mono_ns() - began) / 1e9);
    }
    pthread_mutex_lock(&e->mu);
    m->ended = true;
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
    return NULL;
}
