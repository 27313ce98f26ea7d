/* core/store/mongo/client.h - talking to MongoDB: every call of the driver that the store
 * makes is made here, so that each has one meaning when it fails.
 *
 * Codes of all calls that talk to a server (err says which command, on which collection, at
 * which server, what it said and what to do; never a password):
 *   EXJ_OK        answered, all of it applied, by a majority where that was asked
 *   EXJ_CONFLICT  a duplicate key
 *   EXJ_UNKNOWN   it may have been applied, or may yet be: read back (never from a read)
 *   EXJ_IO        nothing was applied; it may go well another time (a read may have shown some)
 *   EXJ_REFUSED   nothing was applied, and never will be
 *   EXJ_NOMEM, EXJ_BUG (arguments that the driver refuses)
 * verdict.h has the rule. The driver never sends a write twice.
 *
 * Time:    a call ends within serverSelectionTimeoutMS + connectTimeoutMS + 2 x
 *          socketTimeoutMS of uri.h; a find within that for each batch.
 * Memory:  documents are borrowed. The bson_t behind a `ret_reply` or `ret_value` need not be
 *          initialised; it is after every call, failed ones too (empty then): bson_destroy it.
 *          A bson_t lives on the stack or behind bson_new, never inside of our structs.
 * Threads: exj_mongo: any. A client belongs to the thread that took it, until it is given back.
 *          Nothing of it survives a fork: the child gets EXJ_BUG.
 */
#ifndef EXJ_CORE_STORE_MONGO_CLIENT_H
#define EXJ_CORE_STORE_MONGO_CLIENT_H

#include "core/store/mongo/uri.h"
#include "core/store/mongo/verdict.h"

typedef struct exj_mongo exj_mongo;               /* one a process and URI */
typedef struct exj_mongo_client exj_mongo_client; /* one a thread, kept */

/* Nothing is connected yet, but the name of a mongodb+srv:// URI is looked up.
 * Errors: EXJ_INVALID (the URI), EXJ_IO (no such SRV name), EXJ_NOMEM. */
exj_code exj_mongo_open(const char *uri, exj_msec lease_ms, uint32_t clients, exj_mongo **ret,
                        exj_err *err);
void exj_mongo_close(exj_mongo *m); /* all clients were given back; NULL is fine */
const exj_mongo_uri *exj_mongo_settings(const exj_mongo *m); /* borrowed, lives as long */

/* Waits at most waitQueueTimeoutMS for one. Errors: EXJ_BUSY (all are taken), EXJ_NOMEM,
 * EXJ_BUG (after a fork). */
exj_code exj_mongo_client_take(exj_mongo *m, exj_mongo_client **ret, exj_err *err);
void exj_mongo_client_give(exj_mongo_client *c); /* NULL is fine */
const exj_mongo_uri *exj_mongo_client_settings(const exj_mongo_client *c); /* borrowed */
/* The server's number for the last failed call of this client; 0: it had none. */
uint32_t exj_mongo_client_code(const exj_mongo_client *c);
/* "h:27017", who answered last; "" before that. */
const char *exj_mongo_client_server(const exj_mongo_client *c);

typedef enum exj_mongo_w {
    EXJ_MONGO_MAJORITY, /* survives a failover; wtimeoutMS of the URI */
    EXJ_MONGO_W1        /* the primary has it: enough for what is written again anyway */
} exj_mongo_w;

/* ---- commands ---------------------------------------------------------------------------- */

/* One command that changes nothing, on the primary. */
exj_code exj_mongo_read(exj_mongo_client *c, const char *db, const bson_t *command,
                        bson_t *ret_reply, exj_err *err);
/* One that does; without writeConcern in it. `kind`: what an error of it leaves in doubt. The
 * reply is there even when the code is EXJ_UNKNOWN because of the write concern. An error of
 * one statement ("writeErrors") is an error of the call. */
exj_code exj_mongo_write(exj_mongo_client *c, const char *db, const bson_t *command,
                         exj_mongo_kind kind, exj_mongo_w w, bson_t *ret_reply, exj_err *err);

/* ---- reading ----------------------------------------------------------------------------- */

/* Shown one document, borrowed for the call. Anything but EXJ_OK ends the reading and is its
 * result. */
typedef exj_code (*exj_mongo_visit)(void *user, const bson_t *doc, exj_err *err);

/* `opts` as of mongoc_collection_find_with_opts (sort, limit, hint by name, projection,
 * batchSize, maxTimeMS, readConcern), may be NULL. Without maxTimeMS it is a second less than
 * socketTimeoutMS. Some documents may have been shown before an error. */
exj_code exj_mongo_find(exj_mongo_client *c, const char *db, const char *collection,
                        const bson_t *filter, const bson_t *opts, exj_mongo_visit visit,
                        void *user, exj_err *err);
/* `pipeline`: an array-shaped document. It must not write ($out, $merge). */
exj_code exj_mongo_aggregate(exj_mongo_client *c, const char *db, const char *collection,
                             const bson_t *pipeline, const bson_t *opts,
                             exj_mongo_visit visit, void *user, exj_err *err);
/* `hint`: an index's name, or NULL. */
exj_code exj_mongo_count(exj_mongo_client *c, const char *db, const char *collection,
                         const bson_t *filter, const char *hint, int64_t *ret, exj_err *err);

/* ---- writing ----------------------------------------------------------------------------- */

/* All in one command, unordered: each is tried whatever becomes of the others. ret_items (may
 * be NULL) has n verdicts; the result is the gravest (exj_mongo_graver). All of it must fit in
 * 16 MiB, else EXJ_REFUSED and nothing is sent: split before. n = 0: EXJ_OK. */
exj_code exj_mongo_insert(exj_mongo_client *c, const char *db, const char *collection,
                          const bson_t *const *docs, size_t n, exj_code *ret_items,
                          exj_err *err);

typedef struct exj_mongo_change {
    const bson_t *filter;
    const bson_t *update; /* a document of operators, or the array of a pipeline */
    bool pipeline;
    bool many;            /* all that match, not the first */
    const char *hint;     /* an index's name, or NULL */
} exj_mongo_change;

typedef struct exj_mongo_changed {
    int64_t matched, modified; /* summed: only matched == n tells of each */
} exj_mongo_changed;

/* As exj_mongo_insert: one command, unordered, a verdict for each. A statement that matches
 * nothing is EXJ_OK. Never upserts: rows come by insert. *ret is filled whenever there was an
 * answer, zeroed else. */
exj_code exj_mongo_update(exj_mongo_client *c, const char *db, const char *collection,
                          const exj_mongo_change *changes, size_t n, exj_mongo_w w,
                          exj_mongo_changed *ret, exj_code *ret_items, exj_err *err);
/* `most`: 0 all that match, 1 the first. *ret: how many, as far as was answered. */
exj_code exj_mongo_delete(exj_mongo_client *c, const char *db, const char *collection,
                          const bson_t *filter, const char *hint, uint32_t most, exj_mongo_w w,
                          int64_t *ret, exj_err *err);

typedef struct exj_mongo_modify {
    exj_mongo_change change; /* never many */
    const bson_t *sort;      /* or NULL */
    const bson_t *fields;    /* projection, or NULL */
    bool give_new;           /* the document as it is after the change */
} exj_mongo_modify;

/* findAndModify. ret_value: the document, empty where none matched. With EXJ_UNKNOWN because
 * of the write concern the document is there as well. */
exj_code exj_mongo_find_and_modify(exj_mongo_client *c, const char *db, const char *collection,
                                   const exj_mongo_modify *m, exj_mongo_w w,
                                   bson_t *ret_value, exj_err *err);

/* ---- counts ------------------------------------------------------------------------------ */

typedef struct exj_mongo_count_of {
    const char *command; /* "find"; the last is "other" */
    uint64_t sent;       /* answered or not */
    uint64_t failed;     /* answered with an error, or not answered */
    uint64_t unknown;    /* left in doubt */
    exj_nsec took, longest;
} exj_mongo_count_of;

#define EXJ_MONGO_COMMANDS 12
/* Since exj_mongo_open, of all clients. Threads: any. */
void exj_mongo_counts(const exj_mongo *m, exj_mongo_count_of ret[EXJ_MONGO_COMMANDS]);

#endif /* EXJ_CORE_STORE_MONGO_CLIENT_H */
