/* core/store/mongo/client_inside.h - between client.c, writing.c and counted.c. */
#ifndef EXJ_CORE_STORE_MONGO_CLIENT_INSIDE_H
#define EXJ_CORE_STORE_MONGO_CLIENT_INSIDE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "core/store/mongo/client.h"

struct exj_mongo_tally {
    atomic_uint_least64_t sent, failed, unknown, took_ns, longest_ns; /* relaxed: only read
                                                                         by people */
};

struct exj_mongo {
    /* set before start, then read-only */
    exj_mongo_uri uri;
    mongoc_client_pool_t *pool; /* has locks of its own */
    pid_t pid;                  /* whose it is: a child of a fork may not use it */
    struct exj_mongo_tally tallies[EXJ_MONGO_COMMANDS];
};

struct exj_mongo_client { /* the thread that took it only */
    exj_mongo *m;
    mongoc_client_t *driver;
    uint32_t code;    /* the server's, of the last failed call */
    char server[128]; /* who answered last */
};

/* The verdict on an error, and its line in `err`. `what`: the command. `reply` may be NULL. */
exj_code exj_mongo_explain(exj_mongo_client *c, const char *what, const char *db,
                           const char *collection, exj_mongo_kind kind,
                           const bson_error_t *why, const bson_t *reply, exj_err *err);
/* The same, and counted where it leaves in doubt. */
exj_code exj_mongo_failed(exj_mongo_client *c, const char *what, const char *db,
                          const char *collection, exj_mongo_kind kind,
                          const bson_error_t *why, const bson_t *reply, exj_err *err);
/* Begin a call: what the driver tells of commands from here on is this client's. */
void exj_mongo_begin(exj_mongo_client *c);
void exj_mongo_end(void);
/* Have the driver tell of each command. Before the pool's first client. */
void exj_mongo_count_commands(exj_mongo *m);
void exj_mongo_count_unknown(exj_mongo *m, const char *command);

#endif /* EXJ_CORE_STORE_MONGO_CLIENT_INSIDE_H */
