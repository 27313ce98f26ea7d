/* core/run/retire.h - ended rows leave the store when their matrix says so.
 *
 * payload.retention of a matrix says how long its ended rows are kept (core/job/config.h); without
 * it they are kept for ever. A pass walks the ended rows once, oldest first, and removes what is
 * over in small batches. Their entries stay in the journal until that is compacted, and longer
 * where an event sink has not delivered them yet. The names of removed rows stay, so that a record that is
 * still in its source does not run again.
 *
 * Threads: any; one pass at a time.
 */
#ifndef EXJ_CORE_RUN_RETIRE_H
#define EXJ_CORE_RUN_RETIRE_H

#include "core/store/store.h"

typedef struct exj_retired {
    size_t rows, entries; /* removed */
} exj_retired;

/* Asked before each batch, without a lock held; it may wait, so that others come first. False
 * ends the pass. */
typedef bool (*exj_retire_go_on)(void *user);

/* One pass. `go_on` may be NULL. *ret is filled also on failure.
 * Errors: those of the store; EXJ_CANCELLED (go_on). */
exj_code exj_retire_rows(exj_store *s, exj_retire_go_on go_on, void *user, exj_retired *ret,
                         exj_err *err);
/* Take the entries of removed rows out of the journal; reads all of it. */
exj_code exj_retire_entries(exj_store *s, exj_retire_go_on go_on, void *user, exj_retired *ret,
                            exj_err *err);

#endif /* EXJ_CORE_RUN_RETIRE_H */
