/* tests/support/store_load.h - random operations of every kind, and what they answered.
 *
 * A batch is made from a number and from what is known of a store: the same two give the
 * same batch, so that two stores can be told the same.
 *
 * Memory:  a batch owns all that its operations point to; the texts of answers too.
 * Threads: one at a time; exj_batch_do waits for the writer of the store.
 */
#ifndef EXJ_TESTS_STORE_LOAD_H
#define EXJ_TESTS_STORE_LOAD_H

#include "core/store/store.h"
#include "tests/support/store_look.h"

#define EXJ_BATCH_OPS 48
#define EXJ_BATCH_GROUPS 16

typedef struct exj_batch {
    exj_op *ops[EXJ_BATCH_OPS]; /* owned */
    size_t len;
    size_t group[EXJ_BATCH_GROUPS + 1]; /* where each begins; the last one is `len` */
    size_t groups;
    size_t large; /* bytes from which values may be large; 0: none is */
    /* Caps of concurrency keys go up to this. Above 1 what a claim does depends on what
     * the store remembers since it was opened; so it is for who opens both at once. */
    uint32_t key_caps;
    bool compacts; /* COMPACT is in it */
    char *room;    /* owned */
    size_t used, cap;
    uint64_t random;
    const exj_known *known; /* borrowed while it is made */
} exj_batch;

void exj_batch_init(exj_batch *b, size_t large);
void exj_batch_release(exj_batch *b);
/* Any mix, or operations of one kind among others that it needs (kind below
 * EXJ_OP_COUNT). */
void exj_batch_make(exj_batch *b, uint64_t random, const exj_known *k);
void exj_batch_make_kind(exj_batch *b, uint64_t random, const exj_known *k,
                         exj_op_kind kind);

/* Submit the groups [from, to) at once and wait until all are answered. */
void exj_batch_do(exj_batch *b, exj_store *s, size_t from, size_t to);

/* What a group came to. */
typedef enum exj_fate {
    EXJ_FATE_DONE,    /* answered: applied, or refused for a reason of its own */
    EXJ_FATE_NOTHING, /* EXJ_IO, EXJ_FULL, EXJ_NOMEM: nothing of it is applied */
    EXJ_FATE_UNKNOWN  /* EXJ_UNKNOWN */
} exj_fate;
exj_fate exj_batch_fate(const exj_batch *b, size_t group);
const exj_op *exj_batch_failed(const exj_batch *b,
                               size_t group); /* the op that says why */

/* All that an operation answered, as one number. */
uint64_t exj_op_answer(const exj_op *op);
const char *exj_op_name(exj_op_kind kind); /* "insert" */

#endif /* EXJ_TESTS_STORE_LOAD_H */
