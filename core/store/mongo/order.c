/* core/store/mongo/order.c - what an operator orders of a row: retry, cancel. [writer] */
#include "core/store/mongo/inside.h"

static exj_code decide_retry(void *user, exj_mrow *r, bool *ret_change, exj_err *err)
{
    exj_mstore *s = user;
    exj_code rc = exj_life_retry(r, s->now, err);

    *ret_change = rc == EXJ_OK;
    return rc;
}

exj_code exj_mstore_retry(exj_mstore *s, exj_op *op)
{
    return exj_mstore_change(s, op->u.retry.seq, decide_retry, s, &op->err);
}

struct cancel {
    exj_mstore *s;
    exj_op *op;
};

static exj_code decide_cancel(void *user, exj_mrow *r, bool *ret_change, exj_err *err)
{
    struct cancel *w = user;

    w->op->u.cancel.ret_pool = r->pool;
    return exj_life_cancel(r, w->op->u.cancel.why, w->s->now, &w->op->u.cancel.ret_to, ret_change,
                           err);
}

exj_code exj_mstore_cancel(exj_mstore *s, exj_op *op)
{
    struct cancel w = { .s = s, .op = op };

    return exj_mstore_change(s, op->u.cancel.seq, decide_cancel, &w, &op->err);
}
