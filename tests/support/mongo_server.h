/* tests/support/mongo_server.h - a MongoDB server for tests.
 *
 * The first of these that is there is taken:
 *   1. EXELLIX_TEST_MONGODB_URI: somebody's server; nothing of it is started, stopped or
 *      killed, and tests leave no database behind;
 *   2. EXELLIX_TEST_MONGOD (a path), or mongod on PATH: a replica set of one or three;
 *   3. EXELLIX_TEST_SECANTUSD (a path), or what tests/mongo/install_server.sh made:
 *      SecantusDB, one node.
 * None: the start fails and says so; tests that need a server fail, they do not skip.
 *
 * A server takes one to three seconds to start, so that a test program shares one:
 * with_mongo starts it and runs the program (exj_mongo_test in CMake), which finds it by
 * exj_test_mongo_shared; each test takes a database of its own (exj_test_mongo_database).
 * What kills or stops its server starts one for itself (exj_test_mongo_start).
 *
 * Servers listen on 127.0.0.1, keep their data in a temporary folder, and die with the
 * thread that started them (PR_SET_PDEATHSIG): start and restart from the main thread, or
 * from one that outlives the server. exj_support_clean leaves them alone;
 * exj_test_mongo_end or the end of the program removes them.
 *
 * Errors:  a function that returns false has printed why to stderr; what fails for
 *          reasons that are not the subject of a test (no fork, no folder) aborts.
 * Memory:  an exj_test_mongo is the caller's storage; texts in it live as long.
 * Threads: one thread at a time uses an exj_test_mongo; the functions on URIs need
 *          nothing.
 */
#ifndef EXJ_TESTS_SUPPORT_MONGO_SERVER_H
#define EXJ_TESTS_SUPPORT_MONGO_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/support/support.h"

#define EXJ_TEST_MONGO_NODES 3
#define EXJ_TEST_MONGO_URI_MAX 512 /* bytes, with the NUL */

typedef enum exj_test_mongo_kind {
    EXJ_TEST_MONGO_OWN, /* the operator's, by URI */
    EXJ_TEST_MONGO_MONGOD,
    EXJ_TEST_MONGO_SECANTUS,
} exj_test_mongo_kind;

typedef struct exj_test_mongo_opts {
    int nodes;        /* 0 and 1: one; 3: a replica set of three where there is a mongod,
                       * elsewhere one (can_elect tells) */
    bool fail_points; /* test commands on (tests/support/mongo_fail.h) */
    bool sync_on_commit; /* SecantusDB: a write is on disk before it is acknowledged
                          * (slow); a mongod does so for w:majority anyhow */
    bool auth; /* a user EXJ_TEST_MONGO_USER who may do everything; the URI has it */
} exj_test_mongo_opts;

#define EXJ_TEST_MONGO_USER "exj"
#define EXJ_TEST_MONGO_PASSWORD "exj-test-secret"

typedef struct exj_test_mongo_node {
    exj_prog prog; /* pid 0: not running, or not ours */
    uint16_t port;
    bool stopped; /* SIGSTOP */
} exj_test_mongo_node;

typedef struct exj_test_mongo {
    exj_test_mongo_kind kind;
    exj_test_mongo_opts opts;
    /* Ready for a client; no database in it. One node: directConnection=true, so that a
     * proxy's port can take the place of the server's. */
    char uri[EXJ_TEST_MONGO_URI_MAX];
    char server[160]; /* "SecantusDB 0.7.0b3 (speaks as MongoDB 8.2.11), one node" */
    char version[40]; /* of the server program; "8.2.11" for a mongod */
    bool can_kill;    /* it is ours: kill -9, SIGSTOP, restart */
    bool can_elect;   /* ours, three nodes */
    bool fail_points; /* it has configureFailPoint: asked, not assumed */
    int n_nodes;      /* 0: EXJ_TEST_MONGO_OWN */
    exj_test_mongo_node nodes[EXJ_TEST_MONGO_NODES];
    int64_t start_ms; /* how long the start took */
    exj_tmp tmp;
    char program[300];
} exj_test_mongo;

/* Start it and wait (60 s at most) until it takes writes. `opts` may be NULL. On false
 * nothing is left behind, and stderr has the reason with the end of the server's log. */
bool exj_test_mongo_start(exj_test_mongo *m, const exj_test_mongo_opts *opts);
/* Ends the server and removes its folder. Does nothing to an operator's. */
void exj_test_mongo_end(exj_test_mongo *m);

/* Only where can_kill. `node` counts from 0. SecantusDB without sync_on_commit loses what
 * it acknowledged with w:majority when it is killed (some of the last writes; not those
 * with j:true): a test that counts on them asks for it. */
void exj_test_mongo_kill_9(exj_test_mongo *m, int node); /* and waits for its end */
void exj_test_mongo_stop(exj_test_mongo *m, int node);   /* SIGSTOP, until it is still */
void exj_test_mongo_cont(exj_test_mongo *m, int node);   /* SIGCONT */
/* Starts a killed node again, same port and folder, and waits until it answers; with one
 * node: takes writes. False: it did not. */
bool exj_test_mongo_restart(exj_test_mongo *m, int node);
/* The node that takes writes, or -1. Asks each. */
int exj_test_mongo_primary(exj_test_mongo *m);
bool exj_test_mongo_wait_primary(exj_test_mongo *m, unsigned ms);

/* ---- the server of a whole test program ------------------------------------------- */

/* Its URI, as with_mongo told it (EXJ_TEST_MONGO_URI), else of one started now with
 * `opts`, which lives as long as this process. NULL: there is none; stderr says why. The
 * text lives as long as the process. */
const char *exj_test_mongo_shared(const exj_test_mongo_opts *opts);
/* A name that no other test uses, on any machine: "exjt_<of>_<hex>". `of`: at most 20 of
 * [a-z0-9_] are taken. */
void exj_test_mongo_database(const char *of, char ret[static 64]);
/* `uri` with a database and more options ("a=b&c=d" or NULL). False: it does not fit or
 * is not a URI. */
bool exj_test_mongo_uri(const char *uri, const char *database, const char *options,
                        char ret[static EXJ_TEST_MONGO_URI_MAX]);
/* `uri` with host and port replaced by 127.0.0.1:`port`, connecting directly. */
bool exj_test_mongo_via(const char *uri, uint16_t port,
                        char ret[static EXJ_TEST_MONGO_URI_MAX]);
/* Drops a database; for the end of a test. False: the server did not. */
bool exj_test_mongo_drop(const char *uri, const char *database);
/* "SecantusDB 0.7.0b3 (speaks as MongoDB 8.2.11)" by asking the server. */
bool exj_test_mongo_ask(const char *uri, char *ret, size_t ret_n);

#endif /* EXJ_TESTS_SUPPORT_MONGO_SERVER_H */
