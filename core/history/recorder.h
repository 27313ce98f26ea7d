/* core/history/recorder.h - writes a history (event.h).
 *
 * A line is written with one write(2) on a descriptor that was opened with O_APPEND: several
 * processes may share a file, and what was written is there after a kill -9. A line that cannot
 * be written is counted, and the first is logged: recording never stops the work.
 *
 * Threads: all functions from any, without locks; a NULL recorder records nothing.
 */
#ifndef EXJ_CORE_HISTORY_RECORDER_H
#define EXJ_CORE_HISTORY_RECORDER_H

#include "core/history/event.h"

typedef struct exj_recorder exj_recorder;

/* Made with 0600 where there is none. Errors: EXJ_INVALID (actor), EXJ_IO, EXJ_NOMEM. */
exj_code exj_recorder_open(const char *path, const char *actor, exj_recorder **ret, exj_err *err);
/* The same on a descriptor that was inherited (O_APPEND). It is closed with the recorder, and
 * stays the caller's on failure. Errors: EXJ_INVALID (actor, no such descriptor), EXJ_NOMEM. */
exj_code exj_recorder_open_fd(int fd, const char *actor, exj_recorder **ret, exj_err *err);
/* The same with a function in place of a file; `e` is whole, valid during the call. */
exj_code exj_recorder_open_sink(void (*sink)(void *user, const exj_hist_event *e), void *user,
                                const char *actor, uint64_t incarnation, exj_recorder **ret,
                                exj_err *err);
void exj_recorder_close(exj_recorder *r);

/* A fresh id of an operation, never 0. NULL: 0. */
uint64_t exj_recorder_id(exj_recorder *r);
/* Sets t, actor and incarnation of `e` and writes it. */
void exj_recorder_write(exj_recorder *r, exj_hist_event *e);

/* Many events at once: `add` formats, `flush` writes what was added; add flushes when there is
 * no more room. The lines end up beside each other, and each has its own t. */
#define EXJ_RECORDER_BATCH_BYTES 16384u
typedef struct exj_recorder_batch {
    char room[EXJ_RECORDER_BATCH_BYTES];
    size_t n, lines; /*0: empty */
} exj_recorder_batch;
void exj_recorder_add(exj_recorder *r, exj_recorder_batch *b, exj_hist_event *e);
void exj_recorder_flush(exj_recorder *r, exj_recorder_batch *b);

/* Lines that could not be written. */
uint64_t exj_recorder_lost(const exj_recorder *r);
/* The descriptor, for a child to inherit; -1: none (a sink, NULL). */
int exj_recorder_fd(const exj_recorder *r);

#endif /* EXJ_CORE_HISTORY_RECORDER_H */
