/* core/run/verify.h - are the rows what their journal says (spec 2.3)?
 *
 * A row is read, then the event stream from its beginning, and the row's entries up to the
 * newest that it had when it was read are folded with exj_journal_apply. So rows may go on
 * meanwhile, and a store that is open for reading only will do.
 *
 * Memory:  about 100 bytes a row of one call.
 * Threads: from any; each call reads for itself.
 */
#ifndef EXJ_CORE_RUN_VERIFY_H
#define EXJ_CORE_RUN_VERIFY_H

#include "core/store/store.h"

#define EXJ_VERIFY_ROWS_MAX 250000u

typedef struct exj_verified {
    int64_t rows;      /* looked at */
    int64_t before;    /* of them begun before there was a journal (schema 4): not judged */
    int64_t different;
    int64_t next;      /* go on after this row; 0: these were the last */
} exj_verified;

/* One row that differs; `what` says how. False stops the visits, not the count. */
typedef bool (*exj_verify_visit)(void *user, const exj_row_view *row, const char *what);

/* Rows with a seq above `after`, at most `limit` (1..EXJ_VERIFY_ROWS_MAX). Each call walks the
 * whole stream, so few large calls are better than many small ones.
 * Errors: EXJ_NOMEM and what reading gives. */
exj_code exj_verify_rows(exj_store *s, int64_t after, size_t limit, exj_verify_visit visit,
                          void *user, exj_verified *ret, exj_err *err);

#endif /* EXJ_CORE_RUN_VERIFY_H */
