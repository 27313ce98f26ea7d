/* core/run/snapshot.h - the files of query snapshots (docs/snapshots.md).
 *
 *     DIR/<id>.jsonl       one record a line: {"id","record"}; <id> is the SHA-256 of the file
 *     DIR/<id>.json        where it came from: exj_snapshot_about
 *     DIR/todo-<hash>.json which snapshot a matrix has taken and not wholly made rows of yet
 *     DIR/tmp-*            being written; swept when the worker starts
 *
 * A snapshot is written under tmp-*, synced, renamed, its folder synced; only then may anything
 * point to it, and it is never written again. The same content is the same snapshot.
 *
 * Errors:  EXJ_FULL: the disk, or a bound (named); EXJ_IO; EXJ_NOMEM.
 * Threads: functions of files: any thread, one user of one spool at a time. Nobody else writes in
 *          DIR: the store's lock sees to that.
 */
#ifndef EXJ_CORE_RUN_SNAPSHOT_H
#define EXJ_CORE_RUN_SNAPSHOT_H

#include "core/base/str.h"

#define EXJ_SNAPSHOT_ID_BYTES 65u /* 64 lower-case hexadecimal digits and a NUL */

typedef struct exj_snapshot_about {
    char id[EXJ_SNAPSHOT_ID_BYTES];
    char *matrix, *run;      /* owned: which matrix took it first */
    exj_msec at;
    uint64_t bytes, records; /* of the snapshot */
    uint64_t query_bytes, query_records;         /* of what the resolver gave */
    char query_sha256[EXJ_SNAPSHOT_ID_BYTES];
    bool transformed;        /* false: it is what the resolver gave */
} exj_snapshot_about;

void exj_snapshot_about_release(exj_snapshot_about *a); /* accepts a zeroed struct */

/* ---- lines on their way into a file ---------------------------------------------------- */

typedef struct exj_spool exj_spool;

/* Begin a file in `dir` (made when absent). `what` it is in messages, and `setting` what raises
 * its bound; both static. */
exj_code exj_spool_new(const char *dir, uint64_t max_bytes, const char *what,
                       const char *setting, exj_spool **ret, exj_err *err);
/* One line, without its line break. Hashed and counted as it goes; memory stays flat. */
exj_code exj_spool_add(exj_spool *s, exj_slice line, exj_err *err);
/* All of it is in the file (not yet synced). No more lines; then what was counted may be read. */
exj_code exj_spool_end(exj_spool *s, exj_err *err);
uint64_t exj_spool_bytes(const exj_spool *s);
uint64_t exj_spool_records(const exj_spool *s);
const char *exj_spool_sha256(const exj_spool *s);
/* A descriptor at its beginning, for reading only; the caller closes it. */
exj_code exj_spool_reader(const exj_spool *s, int *ret_fd, exj_err *err);
void exj_spool_free(exj_spool *s); /* the file goes, unless it was kept; accepts NULL */

/* ---- snapshots ------------------------------------------------------------------------- */

/* Make a snapshot of an ended spool, durable when this returns. Fills id, bytes and records of
 * *about and keeps the rest of it beside, unless there is the same snapshot already. */
exj_code exj_snapshot_keep(exj_spool *s, exj_snapshot_about *about, exj_err *err);

bool exj_snapshot_id_is_valid(exj_slice id);
/* Errors: EXJ_NOT_FOUND, EXJ_CORRUPT. */
exj_code exj_snapshot_read(const char *dir, const char *id, exj_snapshot_about *ret, exj_err *err);
/* Is it there, and what it was when it was written? Reads it whole.
 * Errors: EXJ_NOT_FOUND, EXJ_CORRUPT, with a text that names it. */
exj_code exj_snapshot_check(const char *dir, const char *id, exj_err *err);
/* Each line, valid during the visit; false stops with EXJ_OK. Errors: EXJ_NOT_FOUND, EXJ_CORRUPT
 * (a line that is too long). */
exj_code exj_snapshot_each(const char *dir, const char *id,
                           bool (*visit)(void *user, exj_slice line), void *user, exj_err *err);

/* ---- what is still to do ---------------------------------------------------------------- */

/* The matrix goes on with snapshot `id` whatever happens, until it is done. Durable. */
exj_code exj_snapshot_todo_put(const char *dir, const char *matrix, const char *run,
                               const char *id, exj_err *err);
/* EXJ_NOT_FOUND: nothing. */
exj_code exj_snapshot_todo_get(const char *dir, const char *matrix, const char *run,
                               char ret_id[EXJ_SNAPSHOT_ID_BYTES], exj_err *err);
exj_code exj_snapshot_todo_done(const char *dir, const char *matrix, const char *run,
                                exj_err *err);

/* Remove what a worker that died left half written. Before anybody spools. */
void exj_snapshot_sweep(const char *dir);

#endif /* EXJ_CORE_RUN_SNAPSHOT_H */
