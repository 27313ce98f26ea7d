/* plugins/source-sql/query.h - one call: a page of the query's rows. Inside of the plugin.
 *
 * Threads: one call at a time. */
#ifndef EXJ_PLUGINS_SOURCE_SQL_QUERY_H
#define EXJ_PLUGINS_SOURCE_SQL_QUERY_H

#include "database.h"

typedef struct exj_sql_run {
    const exj_host *host;
    exj_call call;
    const exj_sql_ask *ask;
    const char *root;
    bool pages;              /* kind storage: so many records, then a cursor */
    exj_str cursor;          /* quoted; empty: the beginning */
    exj_sql_database db;
    exj_json_out out, record, key; /* key: of the last row, as a cursor has it */
    uint64_t rows, here, bad;
    int id_at, key_at;       /* columns */
} exj_sql_run;

/* The error of the call, once, and its result. */
exj_result exj_sql_refuse(exj_sql_run *r, exj_result result, const char *code, const char *format,
                          ...) __attribute__((format(printf, 4, 5)));

exj_result exj_sql_scan(exj_sql_run *r);

/* ---- values ------------------------------------------------------------------------------------- */

/* The current row's column `at` as a member of r->record. False: `why` it cannot be one. */
bool exj_sql_put_value(exj_sql_run *r, sqlite3_stmt *s, int at, char why[EXJ_SQL_WHY_BYTES]);
/* Column `at` as the cursor has it, NUL-terminated: "i7", "r0x1.8p+1", "t6162", "b00ff". Two that SQL
 * takes for equal are the same text. False: `why`. */
bool exj_sql_key_write(exj_json_out *ret, sqlite3_stmt *s, int at, char why[EXJ_SQL_WHY_BYTES]);
/* And back. False: it is none, or no memory (*ret_memory). */
bool exj_sql_key_bind(sqlite3_stmt *s, int at, const char *key, bool *ret_memory);
/* A member of input.params. */
int exj_sql_param_bind(sqlite3_stmt *s, int at, exj_str value);

#endif /* EXJ_PLUGINS_SOURCE_SQL_QUERY_H */
