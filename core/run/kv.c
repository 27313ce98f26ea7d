/* core/run/kv.c - the ports of the extensions: a graph's keys and a plugin's numbers.
 *
 * What comes here was checked by core/plugin/extension.c. Writes wait for their commit, as a
 * journal's do; the worker's other rows wait with it.
 */
#include "core/run/inside.h"

#include "exellix/ext/kv.h"

_Static_assert(EXJ_STORE_KV_KEY_MAX == EXJ_KV_KEY_MAX && EXJ_STORE_KV_VALUE_MAX == EXJ_KV_VALUE_MAX &&
                   EXJ_STORE_KV_KEYS == EXJ_KV_GRAPH_KEYS && EXJ_STORE_KV_BYTES == EXJ_KV_GRAPH_BYTES,
               "the store keeps what the header promises");

static exj_slice graph_of(const struct row *r)
{
    return exj_slice_of(r->batch->pool->graph_id);
}

static exj_code put(struct execution *x, exj_op *op, exj_slice key, exj_err *err)
{
    const exj_claim *c = &x->row->claim;
    exj_nsec pause = 0;
    exj_code rc;

    op->u.kv.graph = graph_of(x->row);
    op->u.kv.key = key;
    op->u.kv.seq = c->seq;
    op->u.kv.nonce = c->nonce;
    op->u.kv.token = c->token;
    /* What may have been done is not done again: an addition would count twice. */
    do {
        exj_err_clear(&op->err);
        rc = exj_store_do(x->engine->o.store, op, NULL);
    } while (rc != EXJ_UNKNOWN && exj_run_passes(x->engine, rc) && exj_run_rest_in_call(x, &pause));
    if (rc == EXJ_FENCED)
        atomic_store(&x->row->lost, true);
    return rc == EXJ_OK ? EXJ_OK : exj_err_set(err, rc, "%s", op->err.text);
}

exj_code exj_run_kv_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct execution *x = user;
    exj_store *s = x->engine->o.store;
    size_t had = ret->n;
    exj_nsec pause = 0;
    exj_err why;
    exj_code rc;

    do {
        exj_err_clear(&why);
        ret->n = had;
        rc = s->v->kv_get(s, graph_of(x->row), key, ret, &why);
    } while (exj_run_passes(x->engine, rc) && exj_run_rest_in_call(x, &pause));
    return rc == EXJ_OK ? EXJ_OK : exj_err_set(err, rc, "%s", why.text);
}

exj_code exj_run_kv_put(void *user, exj_slice key, exj_slice json, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_KV_PUT };

    op.u.kv.value = json;
    return put(user, &op, key, err);
}

exj_code exj_run_kv_remove(void *user, exj_slice key, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_KV_REMOVE };

    return put(user, &op, key, err);
}

exj_code exj_run_kv_add(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_KV_ADD };
    exj_code rc;

    op.u.kv.delta = delta;
    rc = put(user, &op, key, err);
    if (rc == EXJ_OK)
        *ret = op.u.kv.ret_sum;
    return rc;
}

exj_code exj_run_metric(void *user, const exj_plugin_sample *m, exj_err *err)
{
    struct execution *x = user;

    return exj_metrics_guest(x->engine->o.metrics, m, err);
}
