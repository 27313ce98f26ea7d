/* core/store/mongo/transcode_inside.h - what the two ways of the transcoder share. */
#ifndef EXJ_CORE_STORE_MONGO_TRANSCODE_INSIDE_H
#define EXJ_CORE_STORE_MONGO_TRANSCODE_INSIDE_H

#include "core/store/mongo/transcode.h"

/* ---- doubles (transcode_real.c) -------------------------------------------------------------- */

#define EXJ_REAL_TEXT_BYTES 32u /* "-1.2345678901234567e-308" has 24 */

/* The canonical text of `v`, which is finite, without a NUL; how many bytes. */
size_t exj_real_text(double v, char ret[EXJ_REAL_TEXT_BYTES]);

/* The double nearest to a number that exj_json_check has let through. `spare` is scratch. False: no
 * memory. */
bool exj_real_parse(exj_slice checked, exj_buf *spare, double *ret);

/* ---- the keys of objects that are not closed yet --------------------------------------------- */

typedef struct exj_bson_key {
    uint32_t at, n; /* of its bytes, from a base that the owner knows */
    uint32_t told;  /* where messages say that it is */
} exj_bson_key;

typedef struct exj_bson_keys {
    exj_bson_key *all; /* owned */
    size_t len, cap;
} exj_bson_keys;

bool exj_bson_keys_add(exj_bson_keys *k, exj_bson_key key);
/* Is a key twice among those from `from` on (in the order in which they came)? Then *ret is the
 * first that was there before. Forgets them. */
bool exj_bson_keys_close(exj_bson_keys *k, size_t from, const char *base, exj_bson_key *ret);

/* Every 0 replaced, and what is over the bounds brought down to them. */
exj_bson_limits exj_bson_limits_of(const exj_bson_limits *given);

#endif /* EXJ_CORE_STORE_MONGO_TRANSCODE_INSIDE_H */
