/* core/run/gather.h - what the two files of a matrix's loop share: cycle.c knows when its source is
 * to be asked, gather.c asks. Private to core/run. */
#ifndef EXJ_CORE_RUN_GATHER_H
#define EXJ_CORE_RUN_GATHER_H

#include "core/run/inside.h"

/* Ask the source once, for `run` (NULL: the config's). Returns whether it was asked to the end;
 * *ret_inserted: new rows. Threads: the matrix's own, without engine.mu. */
bool exj_run_gather(struct matrix *m, char *run, uint64_t *ret_inserted);

/* In cycle.c. Those with _locked want engine.mu held. */
bool exj_run_must_end(struct matrix *m);
bool exj_run_must_end_locked(const struct matrix *m);
bool exj_run_pool_is_ours(const struct matrix *m, const struct pool *p);
void exj_run_take_config_locked(struct matrix *m);

#endif /* EXJ_CORE_RUN_GATHER_H */
