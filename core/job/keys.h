/* core/job/keys.h - what a record says about its own row: priority, first instant, the key
 * that makes it unique and the key it shares its concurrency with (spec 2.8).
 *
 * A matrix names the fields (payload.keys); a record that lacks one, or holds null there, says
 * nothing about it. Keys are texts or numbers, of 1 to 512 bytes.
 *
 * Threads: no state.
 */
#ifndef EXJ_CORE_JOB_KEYS_H
#define EXJ_CORE_JOB_KEYS_H

#include "core/base/json.h"

#define EXJ_KEY_MAX_BYTES 512u
#define EXJ_PRIORITY_LIMIT 1000 /* a priority is -1000..1000 */

typedef struct exj_key_fields {
    char *unique, *concurrency, *priority, *run_after; /* names of fields, owned; NULL: none */
    exj_msec unique_ms; /* how long a unique key stays taken after the insert, though its row
                           may be over; 0: as long as the row is not terminal */
} exj_key_fields;

void exj_key_fields_release(exj_key_fields *f); /* accepts a zeroed one */

typedef struct exj_row_keys {
    bool has_priority;
    int32_t priority;
    exj_msec run_after;            /* 0: at once */
    exj_slice unique, concurrency; /* empty: none; in the record, or in `owned` */
    char *owned[2];
} exj_row_keys;

void exj_row_keys_release(exj_row_keys *k); /* accepts a zeroed one */

/* Read what `record` (checked) says. Release *ret also after an error.
 * Errors: EXJ_INVALID naming the field, EXJ_NOMEM. */
exj_code exj_row_keys_read(const exj_key_fields *f, exj_slice record, exj_row_keys *ret,
                           exj_err *err);

/* ---- one value each; `what` names it in messages ------------------------------------------ */

/* A checked JSON text or number as a key. *ret_owned: memory that *ret needs (free() it), or
 * NULL: it lies in `value`. Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_key_of_json(exj_slice value, exj_json_kind kind, const char *what, exj_slice *ret,
                         char **ret_owned, exj_err *err);
/* A whole number from -1000 to 1000. Errors: EXJ_INVALID. */
exj_code exj_priority_of_json(exj_slice value, exj_json_kind kind, const char *what,
                              int32_t *ret, exj_err *err);
/* An instant: milliseconds since the epoch, or a text such as "2026-01-02T03:04:05Z".
 * Errors: EXJ_INVALID. */
exj_code exj_instant_of_json(exj_slice value, exj_json_kind kind, const char *what,
                             exj_msec *ret, exj_err *err);
/* The same from a text of the command line. */
exj_code exj_instant_of_text(exj_slice text, const char *what, exj_msec *ret, exj_err *err);

#endif /* EXJ_CORE_JOB_KEYS_H */
