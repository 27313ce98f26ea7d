#include "core/history/recorded_store.h"

#include <stdlib.h>

#include "core/history/recorded_inside.h"

/* ---- tables ------------------------------------------------------------------------- */

static exj_recorded_entry **bucket(exj_recorded_table *t, uint64_t a, uint64_t b)
{
    uint64_t h = (a ^ b * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;

    return &t->buckets[h >> 32 & (EXJ_RECORDED_BUCKETS - 1)];
}

void exj_recorded_put_locked(exj_recorded_table *t, exj_recorded_entry *e)
{
    exj_recorded_entry **at = bucket(t, e->a, e->b);

    e->next = *at;
    *at = e;
}

exj_recorded_entry **exj_recorded_find_locked(exj_recorded_table *t, uint64_t a, uint64_t b)
{
    exj_recorded_entry **at = bucket(t, a, b);

    while (*at && ((*at)->a != a || (*at)->b != b))
        at = &(*at)->next;
    return *at ? at : NULL;
}

exj_recorded_entry *exj_recorded_take_locked(exj_recorded_table *t, uint64_t a, uint64_t b)
{
    exj_recorded_entry **at = exj_recorded_find_locked(t, a, b), *e = at ? *at : NULL;

    if (e)
        *at = e->next;
    return e;
}

static void release_table(exj_recorded_table *t)
{
    for (size_t i = 0; i < EXJ_RECORDED_BUCKETS; i++)
        while (t->buckets[i]) {
            exj_recorded_entry *e = t->buckets[i];

            t->buckets[i] = e->next;
            free(e->prefix);
            free(e);
        }
}

/* ---- operations ----------------------------------------------------------------------- */

/* An operation on its way. Its `user` stays the owner's all the time: the answer of a command
 * is called with the operation inside the transaction. */
struct flight {
    exj_recorded *r;
    void (*done)(exj_op *op); /* the owner's; may be NULL */
    void *passed;             /* as it was: there may be one more store above */
    uint64_t id;
};

static void note_end(exj_op *op)
{
    struct flight *f = op->passed;
    exj_recorded *r = f->r;
    exj_hist_event e;

    op->done = f->done;
    op->passed = f->passed;
    if (op->kind == EXJ_OP_POOL) {
        if (op->rc == EXJ_OK)
            exj_recorded_note_pool(r, op->u.pool.ret_pool, op->u.pool.matrix, op->u.pool.run,
                                   op->u.pool.graph);
    } else if (exj_recorded_describe(r, op, &e)) {
        e.id = f->id;
        exj_recorded_end(r, op, &e);
    }
    free(f);
    if (op->done)
        op->done(op); /* from here on it may be gone */
}

static void submit(exj_store *s, exj_op *first)
{
    exj_recorded *r = (exj_recorded *)s;
    exj_recorder_batch batch; /* large: its room is not cleared */

    batch.n = batch.lines = 0;
    for (exj_op *op = first; op; op = op->next) {
        bool is_pool = op->kind == EXJ_OP_POOL;
        struct flight *f;
        exj_hist_event e;

        if (!is_pool && !exj_recorded_describe(r, op, &e))
            continue;
        f = malloc(sizeof(*f));
        e.id = is_pool ? 0 : exj_recorder_id(r->recorder);
        if (f) {
            *f = (struct flight){ r, op->done, op->passed, e.id };
            op->done = note_end;
            op->passed = f;
        }
        if (!is_pool)
            exj_recorder_add(r->recorder, &batch, &e);
    }
    exj_recorder_flush(r->recorder, &batch);
    r->inner->v->submit(r->inner, first);
}

static void close_recorded(exj_store *s)
{
    exj_recorded *r = (exj_recorded *)s;

    r->inner->v->close(r->inner); /* answers what was submitted: until here all is needed */
    if (r->owns_recorder)
        exj_recorder_close(r->recorder);
    release_table(&r->claims);
    release_table(&r->pools);
    pthread_mutex_destroy(&r->mu);
    free(r);
}

/* ---- what is passed on as it is --------------------------------------------------------- */

static exj_store *inner_of(exj_store *s)
{
    return ((exj_recorded *)s)->inner;
}

static exj_msec pass_now(exj_store *s)
{
    return inner_of(s)->v->now(inner_of(s));
}

static exj_code pass_load(exj_store *s, const exj_claim *claims, size_t n,
                          exj_loaded *ret, exj_buf *arena, exj_err *err)
{
    return inner_of(s)->v->load(inner_of(s), claims, n, ret, arena, err);
}

static exj_code pass_doc_get(exj_store *s, exj_doc_kind kind, exj_slice id,
                             exj_doc_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->doc_get(inner_of(s), kind, id, visit, user, err);
}

static exj_code pass_doc_page(exj_store *s, exj_doc_kind kind, exj_slice after_id,
                              size_t limit, exj_doc_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->doc_page(inner_of(s), kind, after_id, limit, visit, user, err);
}

static exj_code pass_pools(exj_store *s, exj_pool_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->pools(inner_of(s), visit, user, err);
}

static exj_code pass_row_get(exj_store *s, exj_slice matrix, exj_slice run,
                             exj_slice graph, exj_slice record_id, exj_row_visit visit,
                             void *user, exj_err *err)
{
    return inner_of(s)->v->row_get(inner_of(s), matrix, run, graph, record_id, visit,
                                   user, err);
}

static exj_code pass_row_page(exj_store *s, const exj_row_filter *f, exj_row_visit visit,
                              void *user, exj_err *err)
{
    return inner_of(s)->v->row_page(inner_of(s), f, visit, user, err);
}

static exj_code pass_row_recent(exj_store *s, int64_t pool, exj_status status,
                                size_t limit, exj_row_visit visit, void *user,
                                exj_err *err)
{
    return inner_of(s)->v->row_recent(inner_of(s), pool, status, limit, visit, user, err);
}

static exj_code pass_row_by_seq(exj_store *s, int64_t seq, exj_row_visit visit,
                                void *user, exj_err *err)
{
    return inner_of(s)->v->row_by_seq(inner_of(s), seq, visit, user, err);
}

static exj_code pass_step_get(exj_store *s, int64_t seq, exj_slice key, exj_buf *ret,
                              exj_err *err)
{
    return inner_of(s)->v->step_get(inner_of(s), seq, key, ret, err);
}

static exj_code pass_step_each(exj_store *s, int64_t seq, exj_step_visit visit,
                               void *user, exj_err *err)
{
    return inner_of(s)->v->step_each(inner_of(s), seq, visit, user, err);
}

static exj_code pass_failure_count(exj_store *s, int64_t seq, exj_slice code,
                                   uint32_t *ret, exj_err *err)
{
    return inner_of(s)->v->failure_count(inner_of(s), seq, code, ret, err);
}

static exj_code pass_failure_each(exj_store *s, int64_t seq, size_t limit,
                                  exj_failure_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->failure_each(inner_of(s), seq, limit, visit, user, err);
}

static exj_code pass_journal(exj_store *s, int64_t seq, size_t limit,
                             exj_event_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->journal(inner_of(s), seq, limit, visit, user, err);
}

static exj_code pass_events(exj_store *s, int64_t after, size_t limit,
                            exj_event_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->events(inner_of(s), after, limit, visit, user, err);
}

static exj_code pass_events_span(exj_store *s, int64_t *ret_first, int64_t *ret_last,
                                 exj_err *err)
{
    return inner_of(s)->v->events_span(inner_of(s), ret_first, ret_last, err);
}

static void pass_listen(exj_store *s, void (*news)(void *user, int64_t last), void *user)
{
    inner_of(s)->v->listen(inner_of(s), news, user);
}

static exj_code pass_signal_each(exj_store *s, int64_t seq, exj_signal_visit visit,
                                 void *user, exj_err *err)
{
    return inner_of(s)->v->signal_each(inner_of(s), seq, visit, user, err);
}

static exj_code pass_ended(exj_store *s, int64_t after, exj_msec created_before,
                           size_t limit, exj_ended_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->ended(inner_of(s), after, created_before, limit, visit, user,
                                 err);
}

static exj_code pass_kv_get(exj_store *s, exj_slice graph, exj_slice key, exj_buf *ret,
                            exj_err *err)
{
    return inner_of(s)->v->kv_get(inner_of(s), graph, key, ret, err);
}

static exj_code pass_kv_page(exj_store *s, exj_slice graph, exj_slice after_key,
                             size_t limit, exj_kv_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->kv_page(inner_of(s), graph, after_key, limit, visit, user,
                                   err);
}

static exj_code pass_sink_get(exj_store *s, exj_slice name, int64_t *ret_position,
                              exj_err *err)
{
    return inner_of(s)->v->sink_get(inner_of(s), name, ret_position, err);
}

static exj_code pass_undelivered(exj_store *s, exj_slice sink, size_t limit,
                                 exj_undelivered_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->undelivered(inner_of(s), sink, limit, visit, user, err);
}

static exj_code pass_dead_page(exj_store *s, exj_slice sink, int64_t after_id,
                               size_t limit, exj_dead_visit visit, void *user,
                               exj_err *err)
{
    return inner_of(s)->v->dead_page(inner_of(s), sink, after_id, limit, visit, user,
                                     err);
}

static exj_code pass_schedule_get(exj_store *s, exj_slice id, exj_schedule_visit visit,
                                  void *user, exj_err *err)
{
    return inner_of(s)->v->schedule_get(inner_of(s), id, visit, user, err);
}

static exj_code pass_schedule_page(exj_store *s, exj_slice after_id, exj_msec due_by,
                                   size_t limit, exj_schedule_visit visit, void *user,
                                   exj_err *err)
{
    return inner_of(s)->v->schedule_page(inner_of(s), after_id, due_by, limit, visit,
                                         user, err);
}

static exj_code pass_schedule_next(exj_store *s, exj_msec *ret, exj_err *err)
{
    return inner_of(s)->v->schedule_next(inner_of(s), ret, err);
}

static exj_code pass_runs(exj_store *s, exj_run_visit visit, void *user, exj_err *err)
{
    return inner_of(s)->v->runs(inner_of(s), visit, user, err);
}

static exj_code pass_health(exj_store *s, exj_store_health *ret)
{
    return inner_of(s)->v->health(inner_of(s), ret);
}

static const exj_store_vtable passing = {
    .submit = submit,
    .close = close_recorded,
    .now = pass_now,
    .load = pass_load,
    .doc_get = pass_doc_get,
    .doc_page = pass_doc_page,
    .pools = pass_pools,
    .row_get = pass_row_get,
    .row_page = pass_row_page,
    .row_recent = pass_row_recent,
    .row_by_seq = pass_row_by_seq,
    .step_get = pass_step_get,
    .step_each = pass_step_each,
    .failure_count = pass_failure_count,
    .failure_each = pass_failure_each,
    .journal = pass_journal,
    .events = pass_events,
    .events_span = pass_events_span,
    .listen = pass_listen,
    .signal_each = pass_signal_each,
    .ended = pass_ended,
    .kv_get = pass_kv_get,
    .kv_page = pass_kv_page,
    .sink_get = pass_sink_get,
    .undelivered = pass_undelivered,
    .dead_page = pass_dead_page,
    .schedule_get = pass_schedule_get,
    .schedule_page = pass_schedule_page,
    .schedule_next = pass_schedule_next,
    .runs = pass_runs,
    .health = pass_health,
};

static bool note_pool(void *user, const exj_pool_info *p)
{
    exj_recorded_note_pool(user, p->pool, p->matrix, p->run, p->graph);
    return true;
}

exj_code exj_recorded_store(exj_store *inner, exj_recorder *recorder, exj_store **ret,
                            exj_err *err)
{
    exj_recorded *r = calloc(1, sizeof(*r));
    exj_code rc;

    if (!r)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    r->table = passing;
    r->table.name = inner->v->name; /* nobody else is to see a difference */
    r->table.shared = inner->v->shared;
    r->base.v = &r->table;
    r->inner = inner;
    r->recorder = recorder;
    pthread_mutex_init(&r->mu, NULL);
    rc = inner->v->pools(inner, note_pool, r, err);
    if (rc != EXJ_OK) {
        release_table(&r->pools);
        pthread_mutex_destroy(&r->mu);
        free(r);
        return rc;
    }
    *ret = &r->base;
    return EXJ_OK;
}

exj_code exj_recorded_store_to(exj_store *inner, const char *path, const char *actor,
                               exj_store **ret, exj_err *err)
{
    exj_recorder *recorder = NULL;
    exj_code rc = exj_recorder_open(path, actor, &recorder, err);

    if (rc == EXJ_OK)
        rc = exj_recorded_store(inner, recorder, ret, err);
    if (rc == EXJ_OK)
        ((exj_recorded *)*ret)->owns_recorder = true;
    else
        exj_recorder_close(recorder);
    return rc;
}
