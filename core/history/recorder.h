/* core/history/recorder.h - writes a history (event.h).
 *
 * Each event is one write(2) on a descriptor that was opened with O_APPEND: several processes
 * may share a file, and what was written is there after a kill -9. A line that cannot be
 * written is counted, and the first is logged: recording never stops the work.
 *
 * Threads: all functions from any; a NULL recorder records nothing.
 */
#ifndef EXJ_CORE_HISTORY_RECORDER_H
#define EXJ_CORE_HISTORY_RECORDER_H

#include "core/history/event.h"

typedef struct exj_recorder exj_recorder;

/* Made with 0600 where there is none. Errors: EXJ_INVALID (actor), EXJ_IO, EXJ_NOMEM. */
exj_code exj_recorder_open(const char *path, const char *actor, exj_recorder **ret, exj_err *err);
/* The same with a function in place of a file; `e` is whole, valid during the call. */
exj_code exj_recorder_open_sink(void (*sink)(void *user, const exj_hist_event *e), void *user,
                                const char *actor, uint64_t incarnation, exj_recorder **ret,
                                exj_err *err);
void exj_recorder_close(exj_recorder *r);

/* A fresh id of an operation, never 0. NULL: 0. */
uint64_t exj_recorder_id(exj_recorder *r);
/* Sets t, actor and incarnation of `e` and writes it. */
void exj_recorder_write(exj_recorder *r, exj_hist_event *e);
/* Lines that could not be written. */
uint64_t exj_recorder_lost(const exj_recorder *r);

#endif /* EXJ_CORE_HISTORY_RECORDER_H */
