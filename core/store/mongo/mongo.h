/* core/store/mongo/mongo.h - the store of core/store/store.h on a MongoDB server, replica set or
 * sharded cluster, shared by any number of workers (docs/store-mongo.md).
 *
 * Time:    the server's clock, estimated (clock.h).
 * Threads: as store.h says. One store a process and URI is enough.
 */
#ifndef EXJ_CORE_STORE_MONGO_MONGO_H
#define EXJ_CORE_STORE_MONGO_MONGO_H

#include "core/store/store.h"

typedef struct exj_mstore_options {
    const char *uri;
    const char *execution_db, *config_db; /* NULL: "exellix-runtime", "exellix" */
    exj_msec lease_ms;  /* what workers use: calls are given up well before it ends */
    uint32_t readers;   /* clients for reads at once; 0: 4 */
    bool init;          /* make what is missing: collections, indexes, counters */
} exj_mstore_options;

/* Where a test may stand between the store and the world. NULL members: the real thing. */
typedef struct exj_mstore_seam {
    exj_msec (*now_ms)(void *user); /* in place of the server's clock; any thread */
    void *user;
} exj_mstore_seam;

/* Connects, checks version, rights, indexes. *ret: end it with v->close.
 * Errors: EXJ_INVALID (the URI), EXJ_IO (no server), EXJ_REFUSED (rights, version, indexes are
 * missing and `init` is false: what, and how to make it), EXJ_NOMEM. No text has the password. */
exj_code exj_mstore_open(const exj_mstore_options *o, const exj_mstore_seam *seam,
                         exj_store **ret, exj_err *err);

#endif /* EXJ_CORE_STORE_MONGO_MONGO_H */
