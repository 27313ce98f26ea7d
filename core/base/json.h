/* core/base/json.h - JSON at the border: one strict check without allocation for the hot
 * path, and jansson behind one door for everything else.
 *
 * Both refuse the same things: bytes that are not UTF-8, NUL (raw or \u0000), depth over
 * the limit, duplicate keys (parse only; the check compares no keys), numbers that do not
 * fit (integers outside int64, reals that are not finite), lone surrogates, anything after
 * the value. Messages name the byte offset and the cause.
 *
 * Memory:  jansson's allocations are watched from the program's start on: where one failed, a
 *          value may have lost a part and nobody was told.
 * Threads: functions only; no state but whether this thread was short of memory. A json_t
 *          belongs to one thread at a time.
 */
#ifndef EXJ_CORE_BASE_JSON_H
#define EXJ_CORE_BASE_JSON_H

#include <jansson.h>

#include "core/base/err.h"
#include "core/base/str.h"

#define EXJ_JSON_MAX_DEPTH 64u                      /* documents, records, answers */
#define EXJ_JSON_MAX_BYTES (16u * 1024u * 1024u)    /* the most any parse accepts */

typedef enum exj_json_kind {
    EXJ_JSON_OBJECT, EXJ_JSON_ARRAY, EXJ_JSON_STRING, EXJ_JSON_INTEGER,
    EXJ_JSON_REAL, EXJ_JSON_TRUE, EXJ_JSON_FALSE, EXJ_JSON_NULL
} exj_json_kind;

/* Is `text` exactly one JSON value? No allocation; linear. `ret_kind` may be NULL. A scalar
 * has depth 0; a max_depth over 1024 counts as 1024.
 * Errors: EXJ_INVALID. */
exj_code exj_json_check(exj_slice text, unsigned max_depth, exj_json_kind *ret_kind,
                        exj_err *err);

/* Walk the members of a CHECKED object: init with the text, then next until false.
 * Slices point into the text: `key` without its quotes and still escaped, `value` whole
 * (a string with its quotes). */
typedef struct exj_json_iter {
    exj_slice text;
    size_t at;
    exj_slice key, value;
    exj_json_kind kind;
} exj_json_iter;

void exj_json_iter_init(exj_json_iter *it, exj_slice checked_object);
bool exj_json_iter_next(exj_json_iter *it);
/* Does the escaped key spell `name`? Understands escapes. */
bool exj_json_key_is(exj_slice escaped, const char *name);
/* Append the meaning of a checked JSON string (`quoted` with its quotes) to b. */
bool exj_json_unescape(exj_slice quoted, exj_buf *b);

/* A value of jansson, under the rules above. *ret: new reference, json_decref it.
 * Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_json_parse(exj_slice text, json_t **ret, exj_err *err);
/* Print compactly, keys in insertion order (sorted when `sorted`). Errors: EXJ_NOMEM, also when
 * an allocation of this thread's values has failed and nobody was told since (an exj_err was set
 * to EXJ_NOMEM; a parse without one tells nobody): what would be printed may have lost a part. EXJ_BUG: no value. */
exj_code exj_json_print(const json_t *value, bool sorted, exj_buf *b, exj_err *err);

/* For exj_err_set: somebody learns of the lack of memory. */
void exj_json_told_short(void);

/* A JSON string of `s`; broken UTF-8 becomes U+FFFD. New reference; NULL: no memory. */
json_t *exj_json_text(exj_slice s);

#endif /* EXJ_CORE_BASE_JSON_H */
