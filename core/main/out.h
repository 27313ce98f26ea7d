/* core/main/out.h - what a command prints: data to standard output, one line of trouble to
 * standard error.
 *
 * A table is aligned, with a heading, on a terminal; else it is one line a row, cells split by
 * tabs, nothing cut, no heading. Control bytes never reach a terminal.
 *
 * Threads: main only.
 */
#ifndef EXJ_CORE_MAIN_OUT_H
#define EXJ_CORE_MAIN_OUT_H

#include "core/main/cli.h"

typedef struct exj_table {
    const char *const *heads; /* borrowed */
    size_t columns;
    char **cells; /* owned */
    size_t len, cap;
    bool failed;
} exj_table;

#define EXJ_TABLE(...)                                                                     \
    { .heads = (const char *const[]){ __VA_ARGS__ },                                       \
      .columns = sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *) }

/* Next cell, row by row; NULL or "" prints as "-". */
void exj_table_add(exj_table *t, const char *text);
void exj_table_add_number(exj_table *t, int64_t number);
/* Prints and frees. */
void exj_table_print(exj_table *t, bool color);

/* Level and form of the log, as the settings say. */
void exj_log_from_settings(const exj_settings *s);

/* Does standard output take colours? */
bool exj_out_color(const exj_cli *c);
/* Standard output could not take all? One line, status 1; else `status`. */
exj_exit exj_out_finish(const exj_cli *c, exj_exit status);

/* "exellix-jobs: …", one line (JSON with --json). Returns `status`. */
exj_exit exj_fail(const exj_cli *c, exj_exit status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* From an error: its text, and the exit status that fits its code. */
exj_exit exj_fail_err(const exj_cli *c, const exj_err *err);
exj_exit exj_exit_of(exj_code code);
/* A word to people, to standard error; nothing with --json. */
void exj_tell(const exj_cli *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A JSON value to standard output and a newline; indented on a terminal or `pretty`. */
exj_exit exj_out_json(const exj_cli *c, const json_t *value, bool pretty);

#endif /* EXJ_CORE_MAIN_OUT_H */
