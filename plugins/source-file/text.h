/* plugins/source-file/text.h - records in the text of a file: lines of JSON, rows of CSV.
 *
 * A reader is given what stands in the file from the beginning of a record, as much of it as is
 * in memory, and says where the record ends, or what is wrong with it and where the next begins.
 *
 * Threads: no state. Memory: nothing is allocated but by exj_json_out; what is returned points
 * into the text.
 */
#ifndef EXJ_PLUGINS_SOURCE_FILE_TEXT_H
#define EXJ_PLUGINS_SOURCE_FILE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exellix/json.h"

#define EXJ_SRC_FIELDS 1024u         /* of one record: the worker's own bound */
#define EXJ_SRC_RECORD_BYTES 1048576u /* the same */
#define EXJ_SRC_ID_BYTES 512u        /* the same */
#define EXJ_SRC_DEPTH 60u            /* of values in a record; the worker allows 64 around it */
#define EXJ_SRC_REASON_BYTES 200

/* Where in a record something is wrong, and what. */
typedef struct exj_src_trouble {
    uint64_t line; /* lines after the one in which the record begins */
    size_t column; /* bytes, the first is 1; 0: the record as a whole */
    char reason[EXJ_SRC_REASON_BYTES];
} exj_src_trouble;

/* Puts line and column of byte `at` of a record, and a reason, into *t. False always. */
bool exj_src_wrong(exj_src_trouble *t, const char *record, size_t at, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Is `text` UTF-8 without NUL? Else *ret_at is the first byte that is not. */
bool exj_src_is_text(const char *text, size_t n, size_t *ret_at);

/* ---- JSON --------------------------------------------------------------------------------- */

/* Is `text` one flat record that the worker takes (spec 1.3): a JSON object, no name twice, no
 * nested input, no raw? *ret: without the blanks around it. */
bool exj_src_json_record(exj_str text, exj_str *ret, exj_src_trouble *t);
/* Is `text` a JSON number? `whole`: without fraction and exponent, within 64 bits. */
bool exj_src_is_number(exj_str text, bool whole);

/* ---- CSV (RFC 4180) ------------------------------------------------------------------------- */

typedef struct exj_src_csv_rule {
    char delimiter;
    char quote; /* 0: none */
} exj_src_csv_rule;

typedef struct exj_src_field {
    size_t at, n; /* in the row, without its quotes */
    bool doubled; /* quotes inside are doubled */
} exj_src_field;

typedef struct exj_src_csv_row {
    exj_src_field fields[EXJ_SRC_FIELDS];
    size_t n;     /* of fields; 1 empty one: an empty line */
    size_t used;  /* bytes up to the next record */
    bool is_open; /* the text ended before the row's line did, or inside a quote */
} exj_src_csv_row;

typedef enum exj_src_got {
    EXJ_SRC_ROW,  /* a row, or an empty line */
    EXJ_SRC_BAD,  /* *t; the next begins after `used` */
    EXJ_SRC_MORE, /* its end is not among these n bytes */
} exj_src_got;

/* The row that begins at p. `whole`: nothing follows these n bytes. */
exj_src_got exj_src_csv_read(const exj_src_csv_rule *rule, const char *p, size_t n, bool whole,
                             exj_src_csv_row *ret, exj_src_trouble *t);
/* What a field says: in *buf where quotes were doubled, else in the row itself. *buf must hold
 * f->n bytes. */
exj_str exj_src_csv_text(const exj_src_csv_rule *rule, const char *row, const exj_src_field *f,
                         char *buf);

#endif /* EXJ_PLUGINS_SOURCE_FILE_TEXT_H */
