/* core/store/mongo/writer.c - operations, in the order in which they came. [writer]
 *
 *   submit ──▶ queue ──▶ each operation ──▶ done of each ──▶ drain, when nothing waits
 */
#include <assert.h>

#include "core/base/clock.h"
#include "core/store/mongo/inside.h"

static exj_code apply(exj_mstore *s, exj_op *op)
{
    switch (op->kind) {
    case EXJ_OP_POOL:
        return exj_mstore_pool(s, op);
    case EXJ_OP_INSERT:
        return exj_mstore_insert(s, op);
    case EXJ_OP_CLAIM:
        return exj_mstore_claim(s, op);
    case EXJ_OP_FINISH:
        return exj_mstore_finish(s, op);
    case EXJ_OP_RENEW:
        return exj_mstore_renew(s, op);
    case EXJ_OP_RELEASE:
        return exj_mstore_release(s, op);
    case EXJ_OP_REAP:
        return exj_mstore_reap(s, op);
    case EXJ_OP_PROMOTE:
        return exj_mstore_promote(s, op);
    case EXJ_OP_RETRY:
        return exj_mstore_retry(s, op);
    case EXJ_OP_CANCEL:
        return exj_mstore_cancel(s, op);
    default:
        return exj_err_set(&op->err, EXJ_UNSUPPORTED,
                           "operation %d is not offered by this store yet", (int)op->kind);
    }
}

void exj_mstore_apply(exj_mstore *s, exj_op *op)
{
    exj_err_clear(&op->err);
    s->now = exj_mstore_now(&s->base);
    s->write = (int64_t)(exj_random_u64() >> 1) | 1;
    op->rc = apply(s, op);
    atomic_fetch_add_explicit(&s->ops, 1, memory_order_relaxed);
}

static exj_op *take(exj_mstore *s)
{
    exj_op *first;

    pthread_mutex_lock(&s->mu);
    while (!s->head && !s->closing)
        pthread_cond_wait(&s->work, &s->mu);
    first = s->head;
    s->head = NULL;
    s->tail = &s->head;
    pthread_mutex_unlock(&s->mu);
    return first;
}

void *exj_mstore_writer(void *store)
{
    exj_mstore *s = store;
    exj_op *todo, *op;

    while ((todo = take(s)) != NULL) {
        while (todo) {
            op = todo;
            todo = op->next; /* the op may be gone after done */
            exj_mstore_apply(s, op);
            op->next = NULL;
            if (op->done)
                op->done(op);
        }
        exj_mstore_drain(s, s->c, NULL); /* what fails now is done by the next, or by a reader */
    }
    return NULL;
}

void exj_mstore_submit(exj_store *base, exj_op *first)
{
    exj_mstore *s = exj_mstore_of(base);
    exj_op *last = first;

    assert(first);
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&s->mu);
    *s->tail = first;
    s->tail = &last->next;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mu);
}
