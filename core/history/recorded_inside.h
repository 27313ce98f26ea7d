/* core/history/recorded_inside.h - what the two halves of the recorded store share. */
#ifndef EXJ_CORE_HISTORY_RECORDED_INSIDE_H
#define EXJ_CORE_HISTORY_RECORDED_INSIDE_H

#include <pthread.h>

#include "core/history/recorded_store.h"

/* One of a table: a claim that its holder has not ended (a: row, b: nonce), or a pool (a: its
 * number). */
typedef struct exj_recorded_entry {
    struct exj_recorded_entry *next;
    uint64_t a, b;
    int64_t token; /* claim */
    char *prefix;  /* pool: "matrix|run|graph|", owned */
} exj_recorded_entry;

#define EXJ_RECORDED_BUCKETS 4096u

typedef struct exj_recorded_table {
    exj_recorded_entry *buckets[EXJ_RECORDED_BUCKETS];
} exj_recorded_table;

typedef struct exj_recorded {
    exj_store base;
    exj_store_vtable table; /* base.v */
    exj_store *inner;       /* owned */
    exj_recorder *recorder; /* borrowed, unless */
    bool owns_recorder;
    pthread_mutex_t mu;
    exj_recorded_table claims, pools; /* guarded by mu */
} exj_recorded;

/* What the operation is in a history, as far as it is known before it is submitted. False: it is
 * not recorded. Takes r->mu. */
bool exj_recorded_describe(exj_recorded *r, const exj_op *op, exj_hist_event *ret);
/* Its ends, [writer], after rc and verdicts are known; `e` as describe gave it, with its id. */
void exj_recorded_end(exj_recorded *r, const exj_op *op, exj_hist_event *e);
/* The pool now has a name; for lack of memory its rows have none. Takes r->mu. */
void exj_recorded_note_pool(exj_recorded *r, int64_t pool, exj_slice matrix, exj_slice run,
                            exj_slice graph);

void exj_recorded_put_locked(exj_recorded_table *t, exj_recorded_entry *e);
exj_recorded_entry **exj_recorded_find_locked(exj_recorded_table *t, uint64_t a, uint64_t b);
exj_recorded_entry *exj_recorded_take_locked(exj_recorded_table *t, uint64_t a, uint64_t b);

#endif /* EXJ_CORE_HISTORY_RECORDED_INSIDE_H */
