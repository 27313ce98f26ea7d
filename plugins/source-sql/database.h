/* plugins/source-sql/database.h - an SQLite file that can only be read.
 *
 * Opened read-only, with query_only, defensive and without extensions; an authorizer lets nothing
 * but reads pass: no write, no PRAGMA, no ATTACH. The worker's own store is refused.
 *
 * Threads: one user of one struct at a time. */
#ifndef EXJ_PLUGINS_SOURCE_SQL_DATABASE_H
#define EXJ_PLUGINS_SOURCE_SQL_DATABASE_H

#include <sqlite3.h>
#include <sys/types.h>

#include "ask.h"

typedef struct exj_sql_database {
    sqlite3 *db;
    char path[EXJ_SQL_PATH_BYTES + 1]; /* as it is opened */
    const char *name;                  /* its end, for messages */
    dev_t dev;
    ino_t ino;
    /* the progress handler's */
    const exj_host *host;
    exj_call call;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    int32_t stopped;      /* why the statement was ended; EXJ_R_OK: it was not */
    bool denied;          /* the authorizer's: it wanted more than to read */
} exj_sql_database;

/* Close it whatever this returns. False: *ret_result, *ret_code and `why`. */
bool exj_sql_open(exj_sql_database *d, const char *root, const char *path, exj_result *ret_result,
                  const char **ret_code, char why[EXJ_SQL_WHY_BYTES]);
void exj_sql_close(exj_sql_database *d); /* accepts a zeroed struct */

#endif /* EXJ_PLUGINS_SOURCE_SQL_DATABASE_H */
