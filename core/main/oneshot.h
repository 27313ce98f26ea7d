/* core/main/oneshot.h - what the one-shot commands (tick, exec) share: what a keeper would do
 * if there were a daemon. Threads: main only. */
#ifndef EXJ_CORE_MAIN_ONESHOT_H
#define EXJ_CORE_MAIN_ONESHOT_H

#include "core/store/store.h"

typedef struct exj_kept {
    uint64_t reaped;  /* leases that were over: queued again */
    uint64_t dead;    /* of these: without an attempt left */
    uint64_t queued;  /* rows whose time came: waiting or suspended ones */
    exj_msec next_due; /* of a row; 0: none waits for a time */
} exj_kept;

/* Take back all leases that are over and, unless others share the store, those of every holder
 * but `worker`; queue what is due. Errors: those of the store; EXJ_NOMEM. */
exj_code exj_oneshot_keep(exj_store *s, const char *worker, exj_kept *ret, exj_err *err);

#endif /* EXJ_CORE_MAIN_ONESHOT_H */
