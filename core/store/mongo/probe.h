/* core/store/mongo/probe.h - what a server is and can do, asked and tried, not assumed.
 *
 * Servers that speak MongoDB's protocol differ in silence. So each thing that the store would
 * use is tried once at start, on one document of our own in the collection exj_probe of each
 * database. The document is deleted afterwards; where a crash leaves one, its TTL index ends
 * it within hours. The empty collection stays: dropping it would disturb another worker's
 * probe.
 */
#ifndef EXJ_CORE_STORE_MONGO_PROBE_H
#define EXJ_CORE_STORE_MONGO_PROBE_H

#include "core/base/str.h"
#include "core/store/mongo/client.h"
#include "core/store/mongo/clock.h"

#define EXJ_MONGO_PROBE_COLLECTION "exj_probe"
#define EXJ_MONGO_WIRE_LEAST 8 /* MongoDB 4.2: pipeline updates, $$NOW */

typedef struct exj_mongo_probed {
    char version[40];  /* "8.2.11"; "unknown" where the server does not tell */
    char server[128];  /* "h:27017" */
    char set_name[64]; /* "": no replica set */
    int32_t wire;      /* maxWireVersion */
    bool sharded;      /* a mongos answers */
    bool old_hello;    /* knows isMaster only */
    bool pipeline;     /* updates may be pipelines */
    bool now;          /* ... and use $$NOW */
    bool hint_checked; /* a hint at an index that is not there is an error */
    bool partial;      /* partial indexes */
    bool ttl;          /* indexes that end documents */
    bool explain;      /* explain counts the keys that were looked at */
    bool change_streams;
    exj_mongo_clock clock; /* as of hello */
} exj_mongo_probed;

/* Ask and try. Errors as of client.h, in one line each:
 *   EXJ_REFUSED  the server is older than 4.2, a secondary or read-only; the user may not
 *                write: named with the database and the role that he needs
 *   EXJ_IO       no server; wrong password; a majority of the servers did not acknowledge
 *                within wtimeoutMS */
exj_code exj_mongo_probe(exj_mongo_client *c, const char *execution_db, const char *config_db,
                         exj_mongo_probed *ret, exj_err *err);
/* Only ask the time: observe the answer on a clock that the caller guards. `old_hello` as
 * probed. */
exj_code exj_mongo_probe_time(exj_mongo_client *c, bool old_hello, exj_nsec *ret_sent,
                              exj_nsec *ret_received, exj_msec *ret_server_ms, exj_err *err);
/* Lines "what: found" for people (`store check`, health), with the URI's notes. `wall_ms` and
 * `mono`: our clocks now. False: lack of memory. */
bool exj_mongo_probe_show(const exj_mongo_probed *p, const exj_mongo_uri *uri, exj_nsec mono,
                          exj_msec wall_ms, exj_buf *ret);

#endif /* EXJ_CORE_STORE_MONGO_PROBE_H */
