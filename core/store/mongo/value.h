/* core/store/mongo/value.h - reading members of documents, ours and those of other tools.
 *
 * Whole numbers are taken from int32, int64 and double (a double with a fraction counts as not
 * there); instants from a date, an ISO 8601 text or a number of milliseconds; texts from UTF-8 and
 * symbols. A dot in a name goes down one level. What is not there, or of another kind, is the
 * value for "nothing": whoever needs it says so to the user, who knows what he wrote.
 *
 * Memory:  slices point into the document.
 * Threads: functions only.
 */
#ifndef EXJ_CORE_STORE_MONGO_VALUE_H
#define EXJ_CORE_STORE_MONGO_VALUE_H

#include <bson/bson.h>

#include "core/base/str.h"

bool exj_bson_find(const bson_t *d, const char *name, bson_iter_t *ret);
bool exj_bson_has(const bson_t *d, const char *name); /* there, and not null */
int64_t exj_bson_i64(const bson_t *d, const char *name, int64_t nothing);
exj_msec exj_bson_msec(const bson_t *d, const char *name); /* 0: nothing */
double exj_bson_real(const bson_t *d, const char *name, double nothing);
bool exj_bson_bool(const bson_t *d, const char *name);     /* false: nothing */
exj_slice exj_bson_text(const bson_t *d, const char *name); /* empty: nothing */
/* The same of a value that an iterator is at. */
bool exj_bson_iter_i64(const bson_iter_t *it, int64_t *ret);
exj_slice exj_bson_iter_text(const bson_iter_t *it);

/* Appending never fails here: libbson ends the process when it has no memory. */
void exj_bson_add_text(bson_t *d, const char *name, exj_slice text);
void exj_bson_add_msec(bson_t *d, const char *name, exj_msec at);

#endif /* EXJ_CORE_STORE_MONGO_VALUE_H */
