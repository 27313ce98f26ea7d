/* core/store/store.c - waiting for one operation. */
#include "core/store/store.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>

/* A semaphore costs one wake-up and one wait; a condition's waiter is woken to find the lock
 * taken. And its memory may go as soon as the wait is over, as it does here. */
static void wake(exj_op *op)
{
    sem_post(op->user);
}

exj_code exj_store_do(exj_store *s, exj_op *op, exj_err *err)
{
    sem_t ended;
    void (*done)(exj_op *) = op->done;
    void *user = op->user;

    assert(s && op);
    sem_init(&ended, 0, 0);
    op->done = wake;
    op->user = &ended;
    op->next = NULL;
    exj_store_submit(s, op);
    while (sem_wait(&ended) != 0 && errno == EINTR)
        ;
    sem_destroy(&ended);
    op->done = done;
    op->user = user;
    if (op->rc != EXJ_OK)
        exj_err_set(err, op->rc, "%s", op->err.text);
    return op->rc;
}
