/* core/job/record.h - the flat record and the names of rows. */
#ifndef EXJ_CORE_JOB_RECORD_H
#define EXJ_CORE_JOB_RECORD_H

#include "core/base/err.h"
#include "core/base/str.h"

#define EXJ_RECORD_MAX_BYTES (1024u * 1024u) /* whole record */
#define EXJ_RECORD_MAX_FIELDS 1024u
#define EXJ_ID_MAX_BYTES 512u                /* any id: 1..512 bytes UTF-8, no control bytes */

/* A record is a JSON object of named fields. Refused: not an object, more than the limits,
 * an empty key, a field `input` that is an object (nested input), a field `raw` that is an
 * object or a key "input.raw" (wrapper), anything exj_json_check refuses. Field values
 * other than these may be any JSON. No allocation.
 * Errors: EXJ_INVALID; the text says what to send instead. */
exj_code exj_record_check(exj_slice record, exj_err *err);

/* Errors: EXJ_INVALID naming `what` and the value. */
exj_code exj_id_check(exj_slice id, const char *what, exj_err *err);

/* The row's global name "matrix|run|graph|record" with % | and control bytes as %XX;
 * `run` may be empty. It is matrixRowId and jobId, the same over all attempts. */
bool exj_row_name_add(exj_buf *b, exj_slice matrix, exj_slice run, exj_slice graph,
                      exj_slice record);
typedef struct exj_row_name {
    char *matrix, *run, *graph, *record; /* owned, one piece of memory: end all at once */
} exj_row_name;
/* Only the one spelling that exj_row_name_add gives. Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_row_name_parse(exj_slice name, exj_row_name *ret, exj_err *err);
void exj_row_name_release(exj_row_name *n);

#endif /* EXJ_CORE_JOB_RECORD_H */
