/* tests/unit/run/hand_engine.h - an engine without threads, put together by hand, over a store
 * that answers at once what the test wants. One pool, one executor; not more than is asked. */
#ifndef EXJ_TESTS_HAND_ENGINE_H
#define EXJ_TESTS_HAND_ENGINE_H

#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/inside.h"

#define NOW_MS 1700000000000

struct hand {
    exj_engine e;
    exj_store store;
    exj_store_vtable v;
    exj_metrics *metrics;
    struct pool pool;
    struct gate gate;
    struct executor x;
    struct spec spec;
    /* What the store saw, and says. */
    void (*answer)(exj_op *op); /* fills the outputs; NULL: nothing more than rc */
    exj_code rc;                /* of every op */
    exj_code load_rc, count_rc;
    uint32_t crashes;           /* failure_count */
    _Atomic exj_msec ahead_ms;  /* somebody set the store's clock so far forward */
    unsigned seen[EXJ_OP_COUNT];
    bool defer;                 /* ops of all kinds are answered by hand_flush alone */
    exj_op *releases;           /* not answered yet; guarded by mu */
    pthread_mutex_t mu;
    char said[1024];            /* what was logged last */
};
static struct hand *hand;

static inline void hand_say(exj_op *op)
{
    exj_err_clear(&op->err);
    op->rc = hand->rc;
    if (op->rc)
        exj_err_set(&op->err, op->rc, "the store of the test");
    else if (hand->answer)
        hand->answer(op);
    op->done(op);
}

static inline void hand_submit(exj_store *s, exj_op *first)
{
    (void)s;
    while (first) {
        exj_op *op = first;

        first = op->next;
        op->next = NULL;
        hand->seen[op->kind]++;
        if (op->kind == EXJ_OP_RELEASE || hand->defer) {
            /* A release is given under the lock that its end takes. */
            pthread_mutex_lock(&hand->mu);
            op->next = hand->releases;
            hand->releases = op;
            pthread_mutex_unlock(&hand->mu);
        } else {
            hand_say(op);
        }
    }
}

/* How many were answered. */
static inline unsigned hand_flush(void)
{
    for (unsigned n = 0;; n++) {
        exj_op *op;

        pthread_mutex_lock(&hand->mu);
        op = hand->releases;
        if (op)
            hand->releases = op->next;
        pthread_mutex_unlock(&hand->mu);
        if (!op)
            return n;
        op->next = NULL;
        hand_say(op);
    }
}

static inline exj_msec hand_now(exj_store *s)
{
    (void)s;
    return NOW_MS + atomic_load(&hand->ahead_ms);
}

static inline exj_code hand_load(exj_store *s, const exj_claim *claims, size_t n,
                                 exj_loaded *ret, exj_buf *arena, exj_err *err)
{
    (void)s;
    (void)claims;
    (void)arena;
    if (hand->load_rc)
        return exj_err_set(err, hand->load_rc, "cannot read rows");
    for (size_t i = 0; i < n; i++)
        ret[i] = (exj_loaded){ .record_id = EXJ_SLICE_LITERAL("r"),
                               .input = EXJ_SLICE_LITERAL("{}") };
    return EXJ_OK;
}

static inline exj_code hand_failures(exj_store *s, int64_t seq, exj_slice code, uint32_t *ret,
                                     exj_err *err)
{
    (void)s;
    (void)seq;
    (void)code;
    if (hand->count_rc)
        return exj_err_set(err, hand->count_rc, "cannot count");
    *ret = hand->crashes;
    return EXJ_OK;
}

static inline void hand_log(exj_log_level level, const char *area, const char *message)
{
    (void)level;
    (void)area;
    snprintf(hand->said, sizeof(hand->said), "%s", message);
}

static inline void hand_make(void)
{
    static char x_name[] = "x", matrix[] = "m", run[] = "", graph[] = "g";
    struct hand *h = calloc(1, sizeof(*h));
    exj_engine *e = &h->e;
    exj_series *series;
    pthread_cond_t *conds[] = { &e->work, &e->claim, &e->keep, &e->look, &e->cycle, &e->idle,
                                &e->retire, &e->schedule, &e->calm, &e->ordered };

    hand = h;
    h->v = (exj_store_vtable){ .name = "hand", .submit = hand_submit, .now = hand_now,
                               .load = hand_load, .failure_count = hand_failures };
    h->store.v = &h->v;
    h->metrics = exj_metrics_new();
    series = exj_metric_series(h->metrics, (exj_metric)0, EXJ_SLICE_LITERAL("a"),
                               EXJ_SLICE_LITERAL("b"));
    e->o = (exj_engine_options){ .store = &h->store, .worker_id = "w", .prefetch = 16,
                                 .max_concurrent = 4, .lease_ms = 60000, .row_crashes = 3 };
    e->workers_len = 1;
    e->m_expiries = series;
    pthread_mutex_init(&e->mu, NULL);
    pthread_mutex_init(&h->mu, NULL);
    for (size_t i = 0; i < sizeof(conds) / sizeof(*conds); i++) {
        pthread_condattr_t a;

        pthread_condattr_init(&a);
        pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
        pthread_cond_init(conds[i], &a);
        pthread_condattr_destroy(&a);
    }
    h->x.name = x_name;
    h->spec.executor = &h->x;
    h->spec.eff.retry = (exj_retry_policy)EXJ_RETRY_DEFAULT;
    h->spec.runnable = true;
    h->pool = (struct pool){ .id = 5, .gate = &h->gate, .spec = &h->spec, .wanted = true,
                             .matrix_id = matrix, .run_id = run,
                             .graph_id = graph, .maybe_work = true, .depth = 4,
                             .started = series, .failed = series, .fenced = series,
                             .retries = series, .execute = series };
    for (int i = 0; i < EXJ_STATUS_COUNT; i++)
        h->pool.completed[i] = series;
    h->spec.refs = 1000; /* of the test */
    h->gate.graph_id = h->pool.graph_id;
    e->pools = &h->pool;
    exj_log_divert(hand_log);
}

static inline void hand_end(void)
{
    while (hand->e.outboxes) {
        struct outbox *box = hand->e.outboxes;

        hand->e.outboxes = box->next;
        exj_buf_release(&box->text);
        free(box);
    }
    cr_assert_null(hand->e.batches);
    exj_log_divert(NULL);
    exj_metrics_free(hand->metrics);
    free(hand);
}

/* A batch of `len` rows that are running; attempt 1 of 3. */
static inline struct batch *hand_batch(uint32_t len)
{
    struct batch *b = calloc(1, sizeof(*b) + len * sizeof(struct row));

    b->claims = calloc(len, sizeof(*b->claims));
    b->loaded = calloc(len, sizeof(*b->loaded));
    b->pool = &hand->pool;
    b->spec = exj_spec_ref(&hand->spec);
    b->len = len;
    atomic_init(&b->open, len);
    for (uint32_t i = 0; i < len; i++) {
        b->rows[i].claim = (exj_claim){ .seq = i + 1, .pool = 5, .token = 1, .nonce = 7,
                                        .attempt = 1, .max_attempts = 3 };
        b->rows[i].batch = b;
        b->rows[i].record_id = EXJ_SLICE_LITERAL("r");
    }
    b->next = hand->e.batches;
    if (b->next)
        b->next->prev = b;
    hand->e.batches = b;
    hand->pool.uncommitted += len;
    hand->e.outstanding += len;
    return b;
}

/* Until somebody waits there: glibc counts them in eights. */
static inline void wait_for_waiter(pthread_cond_t *c)
{
    for (bool there = false; !there;) {
        pthread_mutex_lock(&hand->e.mu);
        there = c->__data.__wrefs >= 8;
        pthread_mutex_unlock(&hand->e.mu);
        sched_yield();
    }
}

#endif /* EXJ_TESTS_HAND_ENGINE_H */
