/* core/store/care.h - looking after the embedded store: copies of it, and doctor.
 *
 * A BACKUP is a folder: exellix-jobs.db (one consistent view of the store), blobs/ (the large
 * values that it points to) and backup.json (what it is, written last). It is taken from a
 * running worker's store as from a resting one: the copy reads, and keeps nobody waiting.
 *
 * DOCTOR holds the parts of a store against each other and tells what does not fit; with `fix`
 * it puts right whatever can be put right without losing anything.
 *
 * Threads: any; one of these at a time on one folder.
 */
#ifndef EXJ_CORE_STORE_CARE_H
#define EXJ_CORE_STORE_CARE_H

#include "core/base/str.h"

/* How far it is; `what` ("database", "blobs", "rows", …) begins anew at 0. False: stop. */
typedef bool (*exj_care_progress)(void *user, const char *what, int64_t done, int64_t total);

typedef struct exj_backup_info {
    int schema;
    exj_msec at;
    int64_t rows, blobs;
    int64_t bytes;      /* of the database and the blobs */
    int64_t lost;       /* blobs that are missing or damaged in the store, and so in the copy */
    exj_err first_lost; /* which, and how */
} exj_backup_info;

/* Copy the store in `dir` into the new folder `to`. On failure `to` is not there.
 * Errors: EXJ_NOT_FOUND (no store), EXJ_CONFLICT (`to` is there), EXJ_REFUSED (its schema is
 * not this program's: a worker has to open it first), EXJ_FULL, EXJ_IO, EXJ_CORRUPT,
 * EXJ_CANCELLED, EXJ_NOMEM. */
exj_code exj_sqlite_backup(const char *dir, const char *to, exj_care_progress progress,
                           void *user, exj_backup_info *ret, exj_err *err);

/* Make a store in `dir` (made when absent; it holds none) from the backup `from`, whose every
 * byte is checked. On failure there is no store in `dir`.
 * Errors: EXJ_NOT_FOUND (no backup), EXJ_CONFLICT (there is a store), EXJ_BUSY (somebody holds
 * `dir`), EXJ_CORRUPT (the backup is damaged: which file), EXJ_REFUSED (newer than this
 * program), EXJ_FULL, EXJ_IO, EXJ_CANCELLED, EXJ_NOMEM. */
exj_code exj_sqlite_restore_backup(const char *from, const char *dir,
                                   exj_care_progress progress, void *user,
                                   exj_backup_info *ret, exj_err *err);

typedef struct exj_finding {
    const char *part; /* "store", "schema", "counters", "rows", "orphans", "blobs", "journal" */
    const char *text; /* valid during the visit */
    bool fixable, fixed;
} exj_finding;

typedef struct exj_doctor_report {
    int64_t rows, entries, blobs; /* looked at */
    int64_t findings, fixable, fixed;
} exj_doctor_report;

typedef struct exj_doctor_options {
    const char *dir;
    bool fix; /* takes the store's lock: no worker may run */
    void (*found)(void *user, const exj_finding *f);
    exj_care_progress progress; /* may be NULL */
    void *user;
} exj_doctor_options;

/* Findings are no error. A look needs no lock and may be taken beside a worker: what is counted
 * is one view of the store; blobs that come and go meanwhile are looked at once more.
 * Errors: EXJ_NOT_FOUND (no store), EXJ_BUSY (`fix`, and somebody holds the store: who),
 * EXJ_REFUSED (its schema is not this program's), EXJ_CORRUPT (no database at all), EXJ_IO,
 * EXJ_CANCELLED, EXJ_NOMEM. */
exj_code exj_sqlite_doctor(const exj_doctor_options *o, exj_doctor_report *ret, exj_err *err);

#endif /* EXJ_CORE_STORE_CARE_H */
