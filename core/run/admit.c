#include "core/run/admit.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/job/record.h"

struct target { /* one graph of the matrix */
    const char *graph; /* the matrix config's */
    int64_t pool;
    exj_effective eff;
    exj_insert_item *items;
};

struct record {
    exj_slice id, body;
    bool has_priority;
    int32_t priority;
    exj_msec run_after;
    exj_slice unique, concurrency;
};

struct exj_admission {
    exj_store *store;
    exj_engine *engine; /* NULL: none */
    exj_matrix_config matrix;
    struct target *targets;
    size_t targets_len;
    exj_op *ops; /* of the targets; NULL: not made yet */
    struct record *records;
    size_t len, cap;
    char **owned; /* keys that had to be unescaped */
    size_t owned_len, owned_cap;
};

static exj_code nomem(exj_err *err)
{
    return exj_err_set(err, EXJ_NOMEM, "out of memory");
}

/* ---- the configs --------------------------------------------------------------------------- */

struct matrix_doc {
    exj_matrix_config *config;
    exj_code rc;
    exj_err *err;
};

struct graph_doc {
    bool found;
    exj_code rc;
    exj_graph_config config;
    exj_err err;
};

static bool read_graph(void *user, exj_slice id, int64_t version, exj_slice body,
                       exj_msec created, exj_msec updated)
{
    struct graph_doc *d = user;

    (void)id, (void)version, (void)created, (void)updated;
    d->found = true;
    d->rc = exj_graph_config_read(body, &d->config, &d->err);
    return true;
}

static bool read_matrix(void *user, exj_slice id, int64_t version, exj_slice body,
                        exj_msec created, exj_msec updated)
{
    struct matrix_doc *d = user;

    (void)id, (void)version, (void)created, (void)updated;
    d->rc = exj_matrix_config_read(body, d->config, d->err);
    return true;
}

/* Does the graph take rows? Every operational state does: its rows wait. */
static exj_code takes_rows(const exj_graph_config *c, exj_err *err)
{
    return exj_graph_schedulable(c, UINT32_MAX, err);
}

static exj_code find_pool(exj_admission *a, struct target *t, exj_err *err)
{
    exj_slice matrix = exj_slice_of(a->matrix.matrix_id);
    exj_slice run = exj_slice_of(a->matrix.run_id), graph = exj_slice_of(t->graph);
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_code rc = EXJ_OK;

    t->pool = a->engine ? exj_engine_pool(a->engine, matrix, run, graph) : 0;
    if (t->pool)
        return EXJ_OK;
    op.u.pool.matrix = matrix;
    op.u.pool.run = run;
    op.u.pool.graph = graph;
    rc = exj_store_do(a->store, &op, err);
    t->pool = op.u.pool.ret_pool;
    return rc;
}

/* EXJ_REFUSED: the graph takes no rows. */
static exj_code add_target(exj_admission *a, const char *graph, exj_err *err)
{
    struct target *t = &a->targets[a->targets_len];
    struct graph_doc d = { 0 };
    exj_code rc = a->store->v->doc_get(a->store, EXJ_DOC_GRAPH, exj_slice_of(graph), read_graph,
                                       &d, err);

    if (rc == EXJ_NOT_FOUND) {
        exj_err_clear(err);
        rc = EXJ_OK;
    }
    if (rc == EXJ_OK && d.rc != EXJ_OK)
        rc = exj_err_set(err, d.rc, "graph \"%.80s\": %s", graph, d.err.text);
    if (rc == EXJ_OK && d.found)
        rc = takes_rows(&d.config, err);
    if (rc == EXJ_OK) {
        *t = (struct target){ .graph = graph };
        t->eff = exj_effective_of(&a->matrix, d.found ? &d.config : NULL);
        t->eff.final_errors = NULL; /* they go with the config */
        t->eff.final_errors_len = 0;
        rc = find_pool(a, t, err);
    }
    if (rc == EXJ_OK)
        a->targets_len++;
    exj_graph_config_release(&d.config);
    return rc;
}

static exj_code add_targets(exj_admission *a, exj_slice only, exj_err *err)
{
    exj_err refusal = { 0 };
    bool named = false;

    a->targets = calloc(a->matrix.graphs_len, sizeof(*a->targets));
    if (!a->targets)
        return nomem(err);
    for (size_t i = 0; i < a->matrix.graphs_len; i++) {
        exj_err why = { 0 };
        exj_code rc;

        if (only.n && !exj_slice_is(only, a->matrix.graphs[i]))
            continue;
        named = true;
        rc = add_target(a, a->matrix.graphs[i], &why);
        if (rc == EXJ_REFUSED)
            exj_err_set(&refusal, rc, "%s", why.text);
        else if (rc != EXJ_OK)
            return exj_err_set(err, rc, "%s", why.text);
    }
    if (!named)
        return exj_err_set(err, EXJ_NOT_FOUND, "matrix \"%.80s\" has no graph \"%.*s\"",
                           a->matrix.matrix_id, (int)(only.n < 80 ? only.n : 80), only.p);
    if (!a->targets_len)
        return exj_err_set(err, EXJ_REFUSED, "%s", refusal.text);
    return EXJ_OK;
}

exj_code exj_admission_open(exj_store *s, exj_engine *engine, exj_matrix_config *m,
                            exj_slice graph, exj_admission **ret, exj_err *err)
{
    exj_admission *a = calloc(1, sizeof(*a));
    exj_code rc;

    if (!a) {
        exj_matrix_config_release(m);
        return nomem(err);
    }
    a->store = s;
    a->engine = engine;
    a->matrix = *m;
    *m = (exj_matrix_config){ 0 };
    rc = add_targets(a, graph, err);
    if (rc == EXJ_OK)
        *ret = a;
    else
        exj_admission_free(a);
    return rc;
}

exj_code exj_admission_open_id(exj_store *s, exj_engine *engine, exj_slice matrix,
                               exj_slice graph, exj_admission **ret, exj_err *err)
{
    exj_matrix_config m = { 0 };
    struct matrix_doc d = { &m, EXJ_OK, err };
    exj_code rc = s->v->doc_get(s, EXJ_DOC_MATRIX, matrix, read_matrix, &d, err);

    if (rc == EXJ_OK)
        rc = d.rc;
    return rc == EXJ_OK ? exj_admission_open(s, engine, &m, graph, ret, err) : rc;
}

void exj_admission_free(exj_admission *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->targets_len; i++)
        free(a->targets[i].items);
    for (size_t i = 0; i < a->owned_len; i++)
        free(a->owned[i]);
    free(a->targets);
    free(a->ops);
    free(a->records);
    free(a->owned);
    exj_matrix_config_release(&a->matrix);
    free(a);
}

const exj_matrix_config *exj_admission_matrix(const exj_admission *a)
{
    return &a->matrix;
}

size_t exj_admission_graphs(const exj_admission *a)
{
    return a->targets_len;
}

const char *exj_admission_graph(const exj_admission *a, size_t graph)
{
    return a->targets[graph].graph;
}

size_t exj_admission_len(const exj_admission *a)
{
    return a->len;
}

/* ---- records ------------------------------------------------------------------------------- */

static exj_code check_options(const exj_admit_options *o, exj_err *err)
{
    if (o->has_priority &&
        (o->priority < -EXJ_PRIORITY_LIMIT || o->priority > EXJ_PRIORITY_LIMIT))
        return exj_err_set(err, EXJ_INVALID, "priority: found %d; wanted -%d to %d",
                           (int)o->priority, EXJ_PRIORITY_LIMIT, EXJ_PRIORITY_LIMIT);
    if (o->unique_key.n > EXJ_KEY_MAX_BYTES || o->concurrency_key.n > EXJ_KEY_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "%s has more than %u bytes",
                           o->unique_key.n > EXJ_KEY_MAX_BYTES ? "uniqueKey"
                                                               : "concurrencyKey",
                           EXJ_KEY_MAX_BYTES);
    return EXJ_OK;
}

static bool make_room(exj_admission *a)
{
    if (a->len == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 1;
        struct record *more = realloc(a->records, cap * sizeof(*more));

        if (!more)
            return false;
        a->records = more;
        a->cap = cap;
    }
    if (a->owned_len + 2 > a->owned_cap) {
        size_t cap = a->owned_cap ? 2 * a->owned_cap : 2;
        char **more = realloc(a->owned, cap * sizeof(*more));

        if (!more)
            return false;
        a->owned = more;
        a->owned_cap = cap;
    }
    return true;
}

exj_code exj_admission_add(exj_admission *a, exj_slice id, exj_slice record,
                           const exj_admit_options *o, exj_err *err)
{
    static const exj_admit_options none = { 0 };
    exj_row_keys k = { 0 };
    exj_code rc;

    if (!o)
        o = &none;
    if ((a->len + 1) * a->targets_len > EXJ_ADMIT_ROWS_MAX)
        return exj_err_set(err, EXJ_FULL,
                           "more than %u rows at once (%zu graphs a record): send fewer records",
                           EXJ_ADMIT_ROWS_MAX, a->targets_len);
    rc = exj_id_check(id, "id", err);
    if (rc == EXJ_OK)
        rc = exj_record_check(record, err);
    if (rc == EXJ_OK)
        rc = check_options(o, err);
    if (rc == EXJ_OK)
        rc = exj_row_keys_read(&a->matrix.keys, record, &k, err);
    if (rc == EXJ_OK && !make_room(a))
        rc = nomem(err);
    if (rc != EXJ_OK) {
        exj_row_keys_release(&k);
        return rc;
    }
    for (size_t i = 0; i < 2; i++) {
        if (k.owned[i])
            a->owned[a->owned_len++] = k.owned[i];
        k.owned[i] = NULL;
    }
    a->records[a->len++] = (struct record){
        .id = id,
        .body = record,
        .has_priority = o->has_priority || k.has_priority,
        .priority = o->has_priority ? o->priority : k.priority,
        .run_after = o->run_after ? o->run_after : k.run_after,
        .unique = o->unique_key.n ? o->unique_key : k.unique,
        .concurrency = o->concurrency_key.n ? o->concurrency_key : k.concurrency,
    };
    return EXJ_OK;
}

/* ---- operations ----------------------------------------------------------------------------- */

static bool make_items(const exj_admission *a, struct target *t)
{
    free(t->items);
    t->items = calloc(a->len, sizeof(*t->items));
    if (!t->items)
        return false;
    for (size_t i = 0; i < a->len; i++) {
        const struct record *r = &a->records[i];

        t->items[i] = (exj_insert_item){ .record_id = r->id,
                                         .input = r->body,
                                         .run_after = r->run_after,
                                         .has_priority = r->has_priority,
                                         .priority = r->priority,
                                         .unique_key = r->unique,
                                         .unique_ms = r->unique.n ? a->matrix.keys.unique_ms
                                                                  : 0,
                                         .concurrency_key = r->concurrency };
    }
    return true;
}

/* Dropping at a cap needs a cap; waiting needs none: the queue has a length. */
static exj_overflow_rule overflow_of(const exj_matrix_config *m, const exj_effective *eff)
{
    exj_overflow_rule o = { .drop = m->overflow == EXJ_OVERFLOW_DROP,
                            .cap = eff->concurrency,
                            .max_queue = m->max_queue };

    o.on = m->bounded && (!o.drop || o.cap);
    return o;
}

exj_code exj_admission_ops(exj_admission *a, exj_op **ret, exj_err *err)
{
    assert(!a->ops);
    if (!a->len)
        return exj_err_set(err, EXJ_INVALID, "no record to make rows of");
    a->ops = calloc(a->targets_len, sizeof(*a->ops));
    if (!a->ops)
        return nomem(err);
    for (size_t t = 0; t < a->targets_len; t++) {
        struct target *to = &a->targets[t];
        exj_op *op = &a->ops[t];

        if (!make_items(a, to))
            return nomem(err);
        op->kind = EXJ_OP_INSERT;
        op->u.insert.pool = to->pool;
        op->u.insert.priority = to->eff.priority;
        op->u.insert.max_attempts = to->eff.retry.max_attempts;
        op->u.insert.overflow = overflow_of(&a->matrix, &to->eff);
        op->u.insert.find_existing = true;
        op->u.insert.items = to->items;
        op->u.insert.len = a->len;
    }
    *ret = a->ops;
    return EXJ_OK;
}

void exj_admission_landed(exj_admission *a)
{
    exj_msec due = 0;

    if (!a->engine)
        return;
    for (size_t t = 0; t < a->targets_len; t++) {
        const struct target *to = &a->targets[t];

        for (size_t i = 0; i < a->len; i++)
            if (to->items[i].verdict == EXJ_OK && to->items[i].status == EXJ_WAITING &&
                (!due || to->items[i].run_after < due))
                due = to->items[i].run_after;
        if (a->ops[t].u.insert.ret_inserted)
            exj_engine_rows_came(a->engine, to->pool);
    }
    if (due)
        exj_engine_rows_due(a->engine, due);
}

exj_code exj_admission_submit(exj_admission *a, exj_err *err)
{
    exj_op *ops;
    exj_code rc;

    if (!a->len)
        return EXJ_OK;
    rc = exj_admission_ops(a, &ops, err);
    if (rc != EXJ_OK)
        return rc;
    for (size_t t = 0; t < a->targets_len; t++)
        ops[t].next = t + 1 < a->targets_len ? &ops[t + 1] : NULL;
    rc = exj_store_do_group(a->store, ops, err);
    if (rc != EXJ_OK)
        return rc;
    exj_admission_landed(a);
    return EXJ_OK;
}

const exj_insert_item *exj_admission_item(const exj_admission *a, size_t graph, size_t i)
{
    assert(graph < a->targets_len && i < a->len);
    return &a->targets[graph].items[i];
}

size_t exj_admission_dropped_older(const exj_admission *a)
{
    size_t older = 0;

    for (size_t t = 0; t < a->targets_len; t++) {
        size_t own = 0;

        for (size_t i = 0; i < a->len; i++)
            own += a->targets[t].items[i].verdict == EXJ_OK &&
                   a->targets[t].items[i].status == EXJ_DROPPED;
        older += a->ops[t].u.insert.ret_dropped - own;
    }
    return older;
}

void exj_admit_id(char ret[EXJ_ADMIT_ID_BYTES])
{
    snprintf(ret, EXJ_ADMIT_ID_BYTES, "e-%013llx-%016llx",
             (unsigned long long)exj_clock_wall_ms(), (unsigned long long)exj_random_u64());
}
