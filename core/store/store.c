/* core/store/store.c - waiting for one operation. */
#include "core/store/store.h"

#include <assert.h>
#include <pthread.h>

struct waiter {
    pthread_mutex_t mu;
    pthread_cond_t ended;
    bool is_done; /* guarded by mu */
};

static void wake(exj_op *op)
{
    struct waiter *w = op->user;

    /* Signalled under the lock: the waiter's stack may be gone right after it. */
    pthread_mutex_lock(&w->mu);
    w->is_done = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->mu);
}

exj_code exj_store_do(exj_store *s, exj_op *op, exj_err *err)
{
    struct waiter w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false };
    void (*done)(exj_op *) = op->done;
    void *user = op->user;

    assert(s && op);
    op->done = wake;
    op->user = &w;
    op->next = NULL;
    exj_store_submit(s, op);
    pthread_mutex_lock(&w.mu);
    while (!w.is_done)
        pthread_cond_wait(&w.ended, &w.mu);
    pthread_mutex_unlock(&w.mu);
    pthread_cond_destroy(&w.ended);
    pthread_mutex_destroy(&w.mu);
    op->done = done;
    op->user = user;
    if (op->rc != EXJ_OK)
        exj_err_set(err, op->rc, "%s", op->err.text);
    return op->rc;
}
