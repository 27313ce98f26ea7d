#include "tests/support/store_flaky.h"

#include <pthread.h>
#include <stdlib.h>

struct exj_flaky_inner {
    exj_store *store;
    exj_store_vtable table;
    pthread_mutex_t mu;
    pthread_cond_t news;
    exj_op *first, **last; /* mu; lost ones, oldest first */
    bool closing;          /* mu */
    uint64_t random;       /* mu */
    pthread_t thread;
};

/* One that is passed on, and whose answer is lost. */
struct flight {
    void (*done)(exj_op *op);
    void *passed;
};

/* ---- chance ------------------------------------------------------------------------------- */

static unsigned roll(exj_flaky *f)
{
    uint64_t x;

    pthread_mutex_lock(&f->in->mu);
    x = f->in->random += 0x9e3779b97f4a7c15u;
    pthread_mutex_unlock(&f->in->mu);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ x >> 31) % 1000);
}

/* ---- operations --------------------------------------------------------------------------- */

/* Whoever looks at what an operation says that was not answered, sees it. */
static void spoil(exj_op *op)
{
    if (op->kind == EXJ_OP_CLAIM)
        op->u.claim.ret_len = SIZE_MAX / 2;
    else if (op->kind == EXJ_OP_INSERT)
        op->u.insert.ret_inserted = SIZE_MAX / 2;
    else if (op->kind == EXJ_OP_REAP)
        op->u.reap.ret_len = SIZE_MAX / 2;
    else if (op->kind == EXJ_OP_PROMOTE)
        op->u.promote.ret_promoted = SIZE_MAX / 2;
    for (size_t i = 0; op->kind == EXJ_OP_INSERT && i < op->u.insert.len; i++)
        op->u.insert.items[i].verdict = EXJ_BUG;
    for (size_t i = 0; op->kind == EXJ_OP_FINISH && i < op->u.finish.len; i++)
        op->u.finish.items[i].verdict = EXJ_FENCED;
    for (size_t i = 0; op->kind == EXJ_OP_RENEW && i < op->u.held.len; i++)
        op->u.held.items[i].verdict = EXJ_FENCED;
}

static void lost_end(exj_op *op)
{
    struct flight *f = op->passed;

    op->done = f->done;
    op->passed = f->passed;
    free(f);
    if (op->kind == EXJ_OP_COMMAND_TAKE)
        exj_buf_release(&op->u.command.ret_body);
    spoil(op);
    exj_err_clear(&op->err);
    op->rc = exj_err_set(&op->err, EXJ_UNKNOWN, "the answer was lost");
    if (op->done)
        op->done(op);
}

/* The last one of the group that `op` begins. */
static exj_op *group_end(exj_op *op)
{
    while (op->with_next && op->next)
        op = op->next;
    return op;
}

static void *answer_lost(void *flaky)
{
    struct exj_flaky_inner *in = ((exj_flaky *)flaky)->in;

    pthread_mutex_lock(&in->mu);
    for (;;) {
        exj_op *op, *next;

        while (!in->first && !in->closing)
            pthread_cond_wait(&in->news, &in->mu);
        op = in->first;
        if (!op)
            break;
        in->first = NULL;
        in->last = &in->first;
        pthread_mutex_unlock(&in->mu);
        for (; op; op = next) {
            next = op->next;
            op->next = NULL;
            if (op->done)
                op->done(op);
        }
        pthread_mutex_lock(&in->mu);
    }
    pthread_mutex_unlock(&in->mu);
    return NULL;
}

static void lose_before(exj_flaky *f, exj_op *first, exj_op *last)
{
    struct exj_flaky_inner *in = f->in;
    exj_code rc = roll(f) % 2 ? EXJ_IO : EXJ_UNKNOWN;

    last->next = NULL;
    for (exj_op *op = first; op; op = op->next) {
        spoil(op);
        exj_err_clear(&op->err);
        op->rc = op == first || rc == EXJ_UNKNOWN
                     ? exj_err_set(&op->err, rc, "the store is away")
                     : EXJ_CANCELLED;
    }
    atomic_fetch_add(&f->count_before[first->kind], 1);
    pthread_mutex_lock(&in->mu);
    *in->last = first;
    in->last = &last->next;
    pthread_cond_signal(&in->news);
    pthread_mutex_unlock(&in->mu);
}

/* False: no memory; then its answer comes. */
static bool lose_after(exj_flaky *f, exj_op *first, const exj_op *last)
{
    for (exj_op *op = first;; op = op->next) {
        struct flight *flight = malloc(sizeof(*flight));

        if (!flight)
            return false; /* those before it are lost */
        *flight = (struct flight){ op->done, op->passed };
        op->passed = flight;
        op->done = lost_end;
        if (op == last)
            break;
    }
    atomic_fetch_add(&f->count_after[first->kind], 1);
    return true;
}

static void flaky_submit(exj_store *s, exj_op *first)
{
    exj_flaky *f = (exj_flaky *)s;
    exj_op *pass = NULL, **end = &pass, *next;

    for (; first; first = next) {
        exj_op *last = group_end(first);
        unsigned n = roll(f), before = atomic_load(&f->lost_before);

        next = last->next;
        if (atomic_load(&f->away) || n < before) {
            lose_before(f, first, last);
            continue;
        }
        if (n < before + atomic_load(&f->lost_after))
            lose_after(f, first, last);
        *end = first;
        end = &last->next;
    }
    *end = NULL;
    if (pass)
        exj_store_submit(f->in->store, pass);
}

/* ---- reads -------------------------------------------------------------------------------- */

static exj_code may_read(exj_flaky *f, exj_err *err)
{
    if (!atomic_load(&f->away) && roll(f) >= atomic_load(&f->reads_lost))
        return EXJ_OK;
    atomic_fetch_add(&f->count_reads, 1);
    return exj_err_set(err, EXJ_IO, "the store is away");
}

#define INNER(s) (((exj_flaky *)(s))->in->store)
/* The parameters of a read, without the store and the error; and how they are passed on. */
#define READ(name, params, args)                                             \
    static exj_code flaky_##name params                                      \
    {                                                                        \
        exj_code rc = may_read((exj_flaky *)s, err);                         \
                                                                             \
        return rc == EXJ_OK ? INNER(s)->v->name args : rc;                   \
    }

READ(load,
     (exj_store *s, const exj_claim *claims, size_t n, exj_loaded *ret, exj_buf *arena,
      exj_err *err),
     (INNER(s), claims, n, ret, arena, err))
READ(doc_get,
     (exj_store *s, exj_doc_kind kind, exj_slice id, exj_doc_visit visit, void *user,
      exj_err *err),
     (INNER(s), kind, id, visit, user, err))
READ(doc_page,
     (exj_store *s, exj_doc_kind kind, exj_slice after, size_t limit, exj_doc_visit visit,
      void *user, exj_err *err),
     (INNER(s), kind, after, limit, visit, user, err))
READ(pools, (exj_store *s, exj_pool_visit visit, void *user, exj_err *err),
     (INNER(s), visit, user, err))
READ(row_get,
     (exj_store *s, exj_slice matrix, exj_slice run, exj_slice graph, exj_slice record,
      exj_row_visit visit, void *user, exj_err *err),
     (INNER(s), matrix, run, graph, record, visit, user, err))
READ(row_page,
     (exj_store *s, const exj_row_filter *filter, exj_row_visit visit, void *user, exj_err *err),
     (INNER(s), filter, visit, user, err))
READ(row_recent,
     (exj_store *s, int64_t pool, exj_status status, size_t limit, exj_row_visit visit,
      void *user, exj_err *err),
     (INNER(s), pool, status, limit, visit, user, err))
READ(row_by_seq, (exj_store *s, int64_t seq, exj_row_visit visit, void *user, exj_err *err),
     (INNER(s), seq, visit, user, err))
READ(step_get, (exj_store *s, int64_t seq, exj_slice key, exj_buf *ret, exj_err *err),
     (INNER(s), seq, key, ret, err))
READ(step_each, (exj_store *s, int64_t seq, exj_step_visit visit, void *user, exj_err *err),
     (INNER(s), seq, visit, user, err))
READ(failure_count, (exj_store *s, int64_t seq, exj_slice code, uint32_t *ret, exj_err *err),
     (INNER(s), seq, code, ret, err))
READ(failure_each,
     (exj_store *s, int64_t seq, size_t limit, exj_failure_visit visit, void *user,
      exj_err *err),
     (INNER(s), seq, limit, visit, user, err))
READ(journal,
     (exj_store *s, int64_t seq, size_t limit, exj_event_visit visit, void *user, exj_err *err),
     (INNER(s), seq, limit, visit, user, err))
READ(events,
     (exj_store *s, int64_t after, size_t limit, exj_event_visit visit, void *user,
      exj_err *err),
     (INNER(s), after, limit, visit, user, err))
READ(events_span, (exj_store *s, int64_t *ret_first, int64_t *ret_last, exj_err *err),
     (INNER(s), ret_first, ret_last, err))
READ(signal_each, (exj_store *s, int64_t seq, exj_signal_visit visit, void *user, exj_err *err),
     (INNER(s), seq, visit, user, err))
READ(ended,
     (exj_store *s, int64_t after, exj_msec created_before, size_t limit, exj_ended_visit visit,
      void *user, exj_err *err),
     (INNER(s), after, created_before, limit, visit, user, err))
READ(kv_get, (exj_store *s, exj_slice graph, exj_slice key, exj_buf *ret, exj_err *err),
     (INNER(s), graph, key, ret, err))
READ(kv_page,
     (exj_store *s, exj_slice graph, exj_slice after, size_t limit, exj_kv_visit visit,
      void *user, exj_err *err),
     (INNER(s), graph, after, limit, visit, user, err))
READ(sink_get, (exj_store *s, exj_slice name, int64_t *ret, exj_err *err),
     (INNER(s), name, ret, err))
READ(undelivered,
     (exj_store *s, exj_slice sink, size_t limit, exj_undelivered_visit visit, void *user,
      exj_err *err),
     (INNER(s), sink, limit, visit, user, err))
READ(dead_page,
     (exj_store *s, exj_slice sink, int64_t after, size_t limit, exj_dead_visit visit,
      void *user, exj_err *err),
     (INNER(s), sink, after, limit, visit, user, err))
READ(schedule_get,
     (exj_store *s, exj_slice id, exj_schedule_visit visit, void *user, exj_err *err),
     (INNER(s), id, visit, user, err))
READ(schedule_page,
     (exj_store *s, exj_slice after, exj_msec due_by, size_t limit, exj_schedule_visit visit,
      void *user, exj_err *err),
     (INNER(s), after, due_by, limit, visit, user, err))
READ(schedule_next, (exj_store *s, exj_msec *ret, exj_err *err), (INNER(s), ret, err))
READ(runs, (exj_store *s, exj_run_visit visit, void *user, exj_err *err),
     (INNER(s), visit, user, err))

static exj_code flaky_health(exj_store *s, exj_store_health *ret)
{
    return INNER(s)->v->health(INNER(s), ret);
}

static exj_msec flaky_now(exj_store *s)
{
    return INNER(s)->v->now(INNER(s));
}

static void flaky_listen(exj_store *s, void (*news)(void *user, int64_t last), void *user)
{
    INNER(s)->v->listen(INNER(s), news, user);
}

/* ---- life --------------------------------------------------------------------------------- */

static void flaky_close(exj_store *s)
{
    exj_flaky *f = (exj_flaky *)s;
    struct exj_flaky_inner *in = f->in;

    pthread_mutex_lock(&in->mu);
    in->closing = true;
    pthread_cond_signal(&in->news);
    pthread_mutex_unlock(&in->mu);
    pthread_join(in->thread, NULL);
    in->store->v->close(in->store);
    pthread_mutex_destroy(&in->mu);
    pthread_cond_destroy(&in->news);
    free(in);
    free(f);
}

static const exj_store_vtable table = {
    .submit = flaky_submit,
    .now = flaky_now,
    .load = flaky_load,
    .doc_get = flaky_doc_get,
    .doc_page = flaky_doc_page,
    .pools = flaky_pools,
    .row_get = flaky_row_get,
    .row_page = flaky_row_page,
    .row_recent = flaky_row_recent,
    .row_by_seq = flaky_row_by_seq,
    .step_get = flaky_step_get,
    .step_each = flaky_step_each,
    .failure_count = flaky_failure_count,
    .failure_each = flaky_failure_each,
    .journal = flaky_journal,
    .events = flaky_events,
    .events_span = flaky_events_span,
    .listen = flaky_listen,
    .signal_each = flaky_signal_each,
    .ended = flaky_ended,
    .kv_get = flaky_kv_get,
    .kv_page = flaky_kv_page,
    .sink_get = flaky_sink_get,
    .undelivered = flaky_undelivered,
    .dead_page = flaky_dead_page,
    .schedule_get = flaky_schedule_get,
    .schedule_page = flaky_schedule_page,
    .schedule_next = flaky_schedule_next,
    .runs = flaky_runs,
    .health = flaky_health,
    .close = flaky_close,
};

exj_flaky *exj_flaky_new(exj_store *inner, uint64_t seed, bool shared)
{
    exj_flaky *f = calloc(1, sizeof(*f));
    struct exj_flaky_inner *in = calloc(1, sizeof(*in));

    if (!f || !in) {
        free(f);
        free(in);
        return NULL;
    }
    in->store = inner;
    in->table = table;
    in->table.name = inner->v->name;
    in->table.shared = shared;
    in->last = &in->first;
    in->random = seed;
    f->in = in;
    f->base.v = &in->table;
    pthread_mutex_init(&in->mu, NULL);
    pthread_cond_init(&in->news, NULL);
    if (pthread_create(&in->thread, NULL, answer_lost, f) != 0) {
        pthread_mutex_destroy(&in->mu);
        pthread_cond_destroy(&in->news);
        free(in);
        free(f);
        return NULL;
    }
    return f;
}
