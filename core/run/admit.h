/* core/run/admit.h - how a record that somebody pushed becomes rows: one for each graph of a
 * matrix, all of them or none.
 *
 * An admission reads the matrix and its graphs once, takes records, and gives the operations
 * that insert their rows as ONE group, so that a command may wrap them. Who calls: the ingress
 * of events, triggers, schedules.
 *
 *   open ─▶ add, add, … ─▶ submit (or: ops ─▶ the caller's group ─▶ landed) ─▶ look ─▶ free
 *
 * A graph takes rows while it is published; one that is paused or not ready takes them too, they
 * wait. A graph without a config takes rows. Deleted, draft and archived ones take none.
 * The overflow rule (spec 3.2) holds here when the matrix says `overflow` or `concurrency`.
 * What the config's payload.keys finds in a record counts where the options say nothing.
 *
 * Memory:  ids, records and keys that are given are borrowed until exj_admission_free.
 * Threads: an admission belongs to one caller.
 */
#ifndef EXJ_CORE_RUN_ADMIT_H
#define EXJ_CORE_RUN_ADMIT_H

#include "core/job/config.h"
#include "core/run/engine.h"

#define EXJ_ADMIT_ROWS_MAX 100000u /* of one admission: records times graphs */

typedef struct exj_admission exj_admission;

typedef struct exj_admit_options {
    bool has_priority;
    int32_t priority;           /* -1000..1000 */
    exj_msec run_after;         /* 0: what the record says, else at once */
    exj_slice unique_key, concurrency_key; /* empty: what the record says; checked by `add` */
} exj_admit_options;

/* Read the configs, find or make the pools. `graph`: rows of this one only; empty: of all.
 * `engine` may be NULL: then nobody is woken. `m` is the matrix as it was read (taken, also on
 * failure).
 * Errors: EXJ_NOT_FOUND (the matrix has no such graph), EXJ_REFUSED (no graph takes rows: the
 * text says why), and what the store gives. */
exj_code exj_admission_open(exj_store *s, exj_engine *engine, exj_matrix_config *m,
                            exj_slice graph, exj_admission **ret, exj_err *err);
/* The same, by the matrix's id. EXJ_NOT_FOUND: also when there is no such matrix. */
exj_code exj_admission_open_id(exj_store *s, exj_engine *engine, exj_slice matrix,
                               exj_slice graph, exj_admission **ret, exj_err *err);
void exj_admission_free(exj_admission *a); /* accepts NULL */

const exj_matrix_config *exj_admission_matrix(const exj_admission *a);
size_t exj_admission_graphs(const exj_admission *a);
const char *exj_admission_graph(const exj_admission *a, size_t graph);

/* One more record. `o` may be NULL. Nothing is added when it fails.
 * Errors: EXJ_INVALID (id, record, a key: the text says what to send instead), EXJ_FULL (too
 * many rows for one admission), EXJ_NOMEM. */
exj_code exj_admission_add(exj_admission *a, exj_slice id, exj_slice record,
                           const exj_admit_options *o, exj_err *err);
size_t exj_admission_len(const exj_admission *a); /* records added */

/* The operations, to be applied as one group: an array of exj_admission_graphs(a), owned by the
 * admission; `done`, `user`, `next` and `with_next` are the caller's to set. Once at most.
 * Errors: EXJ_INVALID (nothing was added), EXJ_NOMEM. */
exj_code exj_admission_ops(exj_admission *a, exj_op **ret, exj_err *err);
/* The caller's group was committed: wake whoever may run the rows now. */
void exj_admission_landed(exj_admission *a);
/* ops, submitted and waited for, and landed; nothing added: nothing done. Errors: those of the
 * operations. */
exj_code exj_admission_submit(exj_admission *a, exj_err *err);

/* After that: what became of record `i` in `graph` (both as they were added, from 0). */
const exj_insert_item *exj_admission_item(const exj_admission *a, size_t graph, size_t i);
/* How many older rows the overflow rule dropped to make room. */
size_t exj_admission_dropped_older(const exj_admission *a);

/* A fresh id for a record that came without one; NUL included. */
#define EXJ_ADMIT_ID_BYTES 40
void exj_admit_id(char ret[EXJ_ADMIT_ID_BYTES]);

#endif /* EXJ_CORE_RUN_ADMIT_H */
