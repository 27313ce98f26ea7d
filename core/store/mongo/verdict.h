/* core/store/mongo/verdict.h - what an error of the driver or of the server means for us.
 *
 * The rule: a write whose fate is not known for sure is EXJ_UNKNOWN. Only what is listed as
 * refused, or as turned away before anything was done, is something else.
 *
 * Threads: any; nothing is shared.
 */
#ifndef EXJ_CORE_STORE_MONGO_VERDICT_H
#define EXJ_CORE_STORE_MONGO_VERDICT_H

#include "core/base/err.h"

typedef enum exj_mongo_kind {
    EXJ_MONGO_READ,
    EXJ_MONGO_WRITE_ONE, /* one document in one step: all or nothing */
    EXJ_MONGO_WRITE_MANY /* several statements, or one that changes several documents: an
                            error may come when some are done */
} exj_mongo_kind;

#define EXJ_MONGO_LABEL_RETRYABLE (1u << 0) /* RetryableWriteError */
#define EXJ_MONGO_LABEL_NO_WRITES (1u << 1) /* NoWritesPerformed */
#define EXJ_MONGO_LABEL_HINT (1u << 2)      /* ours: the message is about a hint */

/* `domain` and `code` of a bson_error_t (error API 2), the labels of the reply.
 *   EXJ_CONFLICT  a duplicate key
 *   EXJ_UNKNOWN   it may have been applied; never for a read
 *   EXJ_IO        nothing was applied, and it may go well another time: no server, not the
 *                 primary, not logged in; for a read: anything that may pass
 *   EXJ_REFUSED   nothing was applied, and it will be so next time: not allowed, a missing
 *                 index, too big, too old
 *   EXJ_BUG       the driver finds our arguments wrong
 * Never EXJ_OK. */
exj_code exj_mongo_verdict(uint32_t domain, uint32_t code, uint32_t labels,
                           exj_mongo_kind kind);

/* What a person can do about it, as the end of a sentence; NULL: nothing to say. */
const char *exj_mongo_advice(uint32_t domain, uint32_t code, uint32_t labels);

/* The graver one, for several verdicts of one call: UNKNOWN, BUG, REFUSED, IO, CONFLICT, OK. */
exj_code exj_mongo_graver(exj_code a, exj_code b);

#endif /* EXJ_CORE_STORE_MONGO_VERDICT_H */
