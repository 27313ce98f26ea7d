/* tests/support/mongo_fail.h - fail points: a server that fails as told.
 *
 * Servers with test commands on (exj_test_mongo_opts.fail_points) have them:
 *   .error_code          the command is not executed and fails with this code (10107
 *                        NotWritablePrimary, 11600, 91, 189, ...)
 *   .close_connection    the connection is closed BEFORE the command is executed (after
 *                        it: EXJ_PROXY_CUT_REPLY)
 *   .write_concern_code  the command is executed; its reply has a writeConcernError with
 *                        this code (64, 79, 91, ...)
 *   .block_ms            so long it waits first, alone or with one of the others
 *
 * A driver that was told 10107, 11600, 91 or 189 does not use the server before it looked
 * at it again: a client alone at once or after 500 ms, a pool after heartbeatFrequencyMS
 * (10 s; a test sets 500).
 *
 * A fail point is the server's, not a client's: where tests share a server, give app_name
 * and have the client under test connect with appName=... of the same text. There is one
 * fail point at a time: the next replaces it, and a test ends with
 * exj_test_mongo_fail_off.
 *
 * Errors:  false: the server cannot do it; stderr says which and what to start it with.
 * Threads: any.
 */
#ifndef EXJ_TESTS_SUPPORT_MONGO_FAIL_H
#define EXJ_TESTS_SUPPORT_MONGO_FAIL_H

#include <stdbool.h>

typedef struct exj_test_mongo_fail {
    const char *commands[8]; /* "insert", "update", "findAndModify", ...; then NULL */
    int times;               /* so many fail; 0: all, until it is off */
    int skip;                /* so many pass first, then all fail; only with times 0 */
    int error_code;
    bool close_connection;
    int write_concern_code;
    int block_ms;
    const char *label;    /* an error label with it, or NULL */
    const char *app_name; /* only connections of that name; NULL: everybody's */
} exj_test_mongo_fail;

bool exj_test_mongo_fail_on(const char *uri, const exj_test_mongo_fail *f);
bool exj_test_mongo_fail_off(const char *uri);

#endif /* EXJ_TESTS_SUPPORT_MONGO_FAIL_H */
