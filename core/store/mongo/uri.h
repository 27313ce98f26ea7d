/* core/store/mongo/uri.h - MONGO_URI, judged before anything connects.
 *
 * The driver takes many a mistake in silence (an unknown option, a bare '@' in a password
 * that makes another host of its rest) and quotes the password of a URI that it refuses. So
 * every part is looked at here first: the scheme, the user's part, each host, each option.
 * Then what the store needs is set; what the URI says wins where that is safe, and is refused
 * with the reason where it is not.
 *
 * Threads: any; nothing is shared. Memory: the driver aborts where it gets none.
 */
#ifndef EXJ_CORE_STORE_MONGO_URI_H
#define EXJ_CORE_STORE_MONGO_URI_H

#include <mongoc/mongoc.h>

#include "core/base/err.h"

#define EXJ_MONGO_APPNAME "exellix-jobs"

typedef struct exj_mongo_uri {
    mongoc_uri_t *uri; /* owned; holds the password: never print mongoc_uri_get_string */
    char *shown;       /* owned; the URI without its password, for every text */
    char *hosts;       /* owned; "h:27017,i:27017", or the SRV name */
    char *user;        /* owned; decoded; NULL: none */
    char *notes;       /* owned; what `store check` says of it, one line each ending in '\n';
                          "" when there is nothing to say */
    exj_msec select_ms;  /* until a server must be found */
    exj_msec connect_ms; /* until a connection must stand */
    exj_msec socket_ms;  /* until an answer must have come */
    exj_msec wtimeout_ms; /* until enough servers must have a write; below socket_ms, so that
                             it is the server that says so */
    uint32_t clients;    /* most clients at once */
} exj_mongo_uri;

/* Judge `text` and fill *ret (end it with exj_mongo_uri_release) for a store whose leases last
 * `lease_ms` and which keeps `clients` clients.
 * Defaults: appName exellix-jobs; w=majority; serverSelectionTimeoutMS and waitQueueTimeoutMS
 * 5000, connectTimeoutMS 3000, socketTimeoutMS a third of the lease and at least 5000,
 * wtimeoutMS 2000 less than that; retryReads=false. retryWrites is always false: a retried
 * write is applied twice by some servers, and every answer that is lost is read back anyway.
 * Errors: EXJ_INVALID with one line that names the URI without its password, the part of it
 * that is wrong and what is allowed; EXJ_NOMEM. */
exj_code exj_mongo_uri_judge(const char *text, exj_msec lease_ms, uint32_t clients,
                             exj_mongo_uri *ret, exj_err *err);
void exj_mongo_uri_release(exj_mongo_uri *u); /* accepts a zeroed struct */

#endif /* EXJ_CORE_STORE_MONGO_URI_H */
