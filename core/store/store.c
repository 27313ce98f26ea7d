/* core/store/store.c - waiting for operations. */
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

/* `last` ends the list: its ops are given back in order. */
static void submit_and_wait(exj_store *s, exj_op *first, exj_op *last)
{
    sem_t ended;

    sem_init(&ended, 0, 0);
    last->done = wake;
    last->user = &ended;
    last->next = NULL;
    exj_store_submit(s, first);
    while (sem_wait(&ended) != 0 && errno == EINTR)
        ;
    sem_destroy(&ended);
}

exj_code exj_store_do(exj_store *s, exj_op *op, exj_err *err)
{
    void (*done)(exj_op *) = op->done;
    void *user = op->user;

    assert(s && op);
    submit_and_wait(s, op, op);
    op->done = done;
    op->user = user;
    if (op->rc != EXJ_OK)
        exj_err_set(err, op->rc, "%s", op->err.text);
    return op->rc;
}

/* One of a group, answered. */
struct verdict {
    exj_code rc;
    exj_err err; /* of the one that failed by itself */
};

static void note_verdict(exj_op *op)
{
    struct verdict *v = op->user;

    if (op->rc != EXJ_OK && (v->rc == EXJ_OK || v->rc == EXJ_CANCELLED)) {
        v->rc = op->rc;
        v->err = op->err;
    }
}

exj_code exj_store_do_group(exj_store *s, exj_op *first, exj_err *err)
{
    struct verdict v = { .rc = EXJ_OK };
    exj_op *last = first;

    assert(s && first);
    for (; last->next; last = last->next) {
        last->with_next = true;
        last->done = note_verdict;
        last->user = &v;
    }
    last->with_next = false;
    submit_and_wait(s, first, last);
    last->user = &v;
    note_verdict(last);
    return v.rc ? exj_err_set(err, v.rc, "%s", v.err.text) : EXJ_OK;
}
