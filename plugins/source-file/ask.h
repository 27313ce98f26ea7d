/* plugins/source-file/ask.h - what a matrix asks for: its payload.input, judged once.
 *
 * Threads: no state. */
#ifndef EXJ_PLUGINS_SOURCE_FILE_ASK_H
#define EXJ_PLUGINS_SOURCE_FILE_ASK_H

#include "text.h"

#define EXJ_SRC_WHY_BYTES 500
#define EXJ_SRC_NO_MEMORY "no memory" /* a `why` that another try may end */
#define EXJ_SRC_PATH_BYTES 4095
#define EXJ_SRC_PAGE_MOST 5000
#define EXJ_SRC_TEXT_MOST 524288 /* of a file as a member of its record */

typedef enum exj_src_format { EXJ_SRC_JSONL, EXJ_SRC_CSV, EXJ_SRC_DIRECTORY } exj_src_format;
typedef enum exj_src_policy { EXJ_SRC_STOP, EXJ_SRC_SKIP, EXJ_SRC_QUARANTINE } exj_src_policy;
/* What a record is called where no field says so. */
typedef enum exj_src_ids {
    EXJ_SRC_BY_CONTENT, /* the hash of its content */
    EXJ_SRC_BY_LINE,    /* file:line */
    EXJ_SRC_BY_NAME,    /* directory: the file's name */
    EXJ_SRC_BY_VERSION, /* directory: name, size and time of change */
} exj_src_ids;
typedef enum exj_src_type {
    EXJ_SRC_STRING, EXJ_SRC_NUMBER, EXJ_SRC_INTEGER, EXJ_SRC_BOOLEAN
} exj_src_type;

typedef struct exj_src_column {
    char *name;        /* owned */
    exj_src_type type; /* of `types` only */
} exj_src_column;

typedef struct exj_src_columns {
    exj_src_column *at; /* owned */
    size_t n;
} exj_src_columns;

typedef struct exj_src_ask {
    exj_src_format format;
    exj_src_policy on_bad;
    exj_src_ids ids;
    char *path;            /* owned, as all texts here */
    char *id_field;        /* NULL: `ids` says */
    char *quarantine;      /* NULL: path.bad.jsonl */
    char *glob;            /* directory */
    int64_t page;          /* records */
    int64_t line_bytes;    /* the most of one */
    exj_src_csv_rule csv;
    bool header;           /* the first row names the columns */
    exj_src_columns columns, types;
    bool text;             /* directory: with the text of small files */
    int64_t text_bytes;
} exj_src_ask;

/* False: `why` names the member and what is wanted; there is nothing to release. */
bool exj_src_ask_read(exj_str input, exj_src_ask *ret, char why[EXJ_SRC_WHY_BYTES]);
/* As exj_json_to_text; *ret_memory: NULL because there was none. */
char *exj_src_text_of(exj_str value, size_t *ret_n, bool *ret_memory);
void exj_src_ask_release(exj_src_ask *a); /* accepts a zeroed struct */

#endif /* EXJ_PLUGINS_SOURCE_FILE_ASK_H */
