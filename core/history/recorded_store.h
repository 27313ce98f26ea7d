/* core/history/recorded_store.h - a store that passes everything on to another one and records
 * each operation: invoke before it is submitted, an end for each row when it is done.
 *
 * It knows nothing about the store behind it but core/store/store.h. Reads are passed on and
 * not recorded; neither are operations that no promise of a row hangs on: pools, documents,
 * promotions, sinks and dead letters, compaction, RUN_ASK and RUN_DONE. What is passed on are
 * the owner's operations themselves, with `done` alone replaced until they are done.
 *
 * How an operation ends: "ok" or "fail" by the verdict of each of its rows; where the operation
 * failed as a whole one "fail", or "info" after EXJ_UNKNOWN, EXJ_IO and EXJ_CORRUPT, with the
 * code. An end for which there is no memory is not written, which says the same as "info".
 *
 * Threads: as the store's. Besides: a lock of its own, held for no call of anybody else's.
 */
#ifndef EXJ_CORE_HISTORY_RECORDED_STORE_H
#define EXJ_CORE_HISTORY_RECORDED_STORE_H

#include "core/history/recorder.h"
#include "core/store/store.h"

/* *ret takes `inner` over and closes it when it is closed; the recorder is borrowed until then.
 * On failure `inner` stays the caller's. Reads the pools.
 * Errors: EXJ_NOMEM, and those of the store's `pools`. */
exj_code exj_recorded_store(exj_store *inner, exj_recorder *recorder, exj_store **ret,
                            exj_err *err);

/* The same with a recorder of its own that appends to the file `path`.
 * Errors: besides, those of exj_recorder_open. */
exj_code exj_recorded_store_to(exj_store *inner, const char *path, const char *actor,
                               exj_store **ret, exj_err *err);

#endif /* EXJ_CORE_HISTORY_RECORDED_STORE_H */
