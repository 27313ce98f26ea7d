/* plugins/source-sql/ask.h - what a matrix asks for: its payload.input, judged once; and the root
 * below which its database must lie.
 *
 * Threads: no state. */
#ifndef EXJ_PLUGINS_SOURCE_SQL_ASK_H
#define EXJ_PLUGINS_SOURCE_SQL_ASK_H

#include "exellix/json.h"

#define EXJ_SQL_WHY_BYTES 500
#define EXJ_SQL_NO_MEMORY "no memory" /* a `why` that another try may end */
#define EXJ_SQL_PATH_BYTES 4095
#define EXJ_SQL_QUERY_BYTES 65536
#define EXJ_SQL_NAME_BYTES 512
#define EXJ_SQL_PARAMS 100

typedef struct exj_sql_ask {
    char *database, *query;   /* owned, as all texts here */
    char *key_column;         /* NULL: the whole result is one page */
    char *id_column;
    exj_str params;           /* borrowed from the input: a list of scalars; may be empty */
    int64_t n_params;
    int64_t page, rows, text_bytes, seconds;
    bool skip;                /* onBadRow */
} exj_sql_ask;

/* False: `why` names the member and what is wanted; there is nothing to release. */
bool exj_sql_ask_read(exj_str input, exj_sql_ask *ret, char why[EXJ_SQL_WHY_BYTES]);
void exj_sql_ask_release(exj_sql_ask *a); /* accepts a zeroed struct */

/* The root: EXELLIX_PLUGIN_SOURCE_ROOT (the operator's) and dataSource.config.root (the matrix's),
 * the latter below the former. *ret: owned, NULL: none. False: `why`. */
bool exj_sql_root_read(exj_str config, char **ret, char why[EXJ_SQL_WHY_BYTES]);

/* As exj_json_to_text; *ret_memory: NULL because there was none. */
char *exj_sql_text_of(exj_str value, size_t *ret_n, bool *ret_memory);

#endif /* EXJ_PLUGINS_SOURCE_SQL_ASK_H */
