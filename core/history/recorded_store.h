/* core/history/recorded_store.h - a store that passes everything on to another one and records
 * each operation: invoke before it is submitted, an end for each row when it is done.
 *
 * It knows nothing about the store behind it but core/store/store.h. Reads are passed on and
 * not recorded.
 *
 * Threads: as the store's.
 */
#ifndef EXJ_CORE_HISTORY_RECORDED_STORE_H
#define EXJ_CORE_HISTORY_RECORDED_STORE_H

#include "core/history/recorder.h"
#include "core/store/store.h"

/* *ret takes `inner` over and closes it when it is closed; the recorder is borrowed until then.
 * An operation that cannot be recorded for lack of memory is refused with EXJ_NOMEM. */
exj_code exj_recorded_store(exj_store *inner, exj_recorder *recorder, exj_store **ret,
                            exj_err *err);

#endif /* EXJ_CORE_HISTORY_RECORDED_STORE_H */
