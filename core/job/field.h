/* core/job/field.h - reading one object of a config document, member by member.
 *
 * Every reader treats an absent member and null alike (`ret` untouched, false or NULL) and
 * reports a wrong one as "path.name: found …; wanted …". The first error stays in `code`;
 * readers after it do nothing, so that a run of reads is checked once at its end.
 *
 * Threads: one owner at a time. Private to core/job.
 */
#ifndef EXJ_CORE_JOB_FIELD_H
#define EXJ_CORE_JOB_FIELD_H

#include "core/base/json.h"

#define EXJ_FIELD_PATH_BYTES 96

typedef struct exj_field_reader {
    exj_err *err; /* may be NULL */
    exj_code code;
    bool strict;  /* unknown members are errors */
} exj_field_reader;

/* Refuse members of `object` that `known` (NULL-terminated) does not list. */
void exj_field_known(exj_field_reader *r, const json_t *object, const char *path,
                     const char *const *known);
/* Borrowed; NULL when absent. */
json_t *exj_field_object(exj_field_reader *r, const json_t *object, const char *path,
                         const char *name);
json_t *exj_field_array(exj_field_reader *r, const json_t *object, const char *path,
                        const char *name);
/* The empty slice when absent. */
exj_slice exj_field_text(exj_field_reader *r, const json_t *object, const char *path,
                         const char *name);
/* A text that is an id (exj_id_check), copied; NULL when absent. */
char *exj_field_id(exj_field_reader *r, const json_t *object, const char *path,
                   const char *name);
bool exj_field_int(exj_field_reader *r, const json_t *object, const char *path,
                   const char *name, int64_t least, int64_t most, int64_t *ret);
bool exj_field_real(exj_field_reader *r, const json_t *object, const char *path,
                    const char *name, double least, double most, double *ret);
/* Seconds in the document, milliseconds here; rounded up. */
bool exj_field_seconds(exj_field_reader *r, const json_t *object, const char *path,
                       const char *name, double least, double most, exj_msec *ret);

/* Report: "path.name: found <value>; <wanted>". An empty path gives "name: …". */
void exj_field_wrong(exj_field_reader *r, const char *path, const char *name,
                     const json_t *value, const char *wanted);
void exj_field_nomem(exj_field_reader *r);
/* Compact text of `value` (NULL: of an empty object), to free(); NULL on lack of memory,
 * reported, and after an error. */
char *exj_field_print(exj_field_reader *r, const json_t *value);

#endif /* EXJ_CORE_JOB_FIELD_H */
