/* core/store/sqlite/doctor.h - what the files of doctor share. One thread. */
#ifndef EXJ_CORE_STORE_SQLITE_DOCTOR_H
#define EXJ_CORE_STORE_SQLITE_DOCTOR_H

#include "core/store/care.h"
#include "core/store/sqlite/internal.h"

struct exj_doctor {
    const exj_doctor_options *o;
    exj_doctor_report *report;
    exj_sqlite s; /* path, db, blobs, lock_fd and readers alone */
    exj_err err;
    bool alone;    /* we have the lock: no worker */
    bool no_table; /* one is missing */
};

void exj_doctor_found(struct exj_doctor *d, const char *part, bool fixable, bool fixed,
                      const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The rest: false means stop, d->err says why. */
bool exj_doctor_tell(struct exj_doctor *d, const char *what, int64_t done, int64_t total);
bool exj_doctor_exec(struct exj_doctor *d, const char *sql);
bool exj_doctor_number(struct exj_doctor *d, const char *sql, int64_t *ret);
/* doctor_journal.c: every row against its entries. */
bool exj_doctor_journal(struct exj_doctor *d);

#endif /* EXJ_CORE_STORE_SQLITE_DOCTOR_H */
