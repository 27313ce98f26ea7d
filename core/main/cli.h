/* core/main/cli.h - the command line: one table of commands, one of flags, one parser.
 *
 * Flags may stand anywhere; --flag=value and --flag value are the same; "--" ends them.
 * Every setting that has a flag takes it with every command.
 *
 * Memory:  texts point into argv.
 * Threads: main only.
 */
#ifndef EXJ_CORE_MAIN_CLI_H
#define EXJ_CORE_MAIN_CLI_H

#include "core/main/exits.h"
#include "core/main/settings.h"

/* id, name, short name (0: none), name of its value (NULL: a switch), help */
#define EXJ_FLAGS_TABLE(X)                                                                 \
    X(HELP, "help", 'h', NULL, "show help for the command")                                \
    X(JSON, "json", 0, NULL, "print JSON")                                                 \
    X(NO_COLOR, "no-color", 0, NULL, "no colours (so does NO_COLOR)")                      \
    X(FILE, "file", 'f', "FILE|DIR|-", "what to apply or send; - reads standard input")       \
    X(DRY_RUN, "dry-run", 0, NULL, "check and show what would change; change nothing")     \
    X(YES, "yes", 'y', NULL, "do not ask")                                                 \
    X(UNTIL_IDLE, "until-idle", 0, NULL, "until nothing is left to do (the default)")      \
    X(MAX, "max", 0, "N", "stop after N rows")                                             \
    X(MATRIX, "matrix", 0, "ID", "only this matrix")                                       \
    X(GRAPH, "graph", 0, "ID", "only this graph")                                          \
    X(RUN, "run", 0, "ID", "only this matrix run")                                         \
    X(STATUS, "status", 0, "WORD", "only rows in this status")                             \
    X(LIMIT, "limit", 0, "N", "at most N rows, 1 to 1000 (100)")                           \
    X(AFTER, "after", 0, "N", "go on where the last page ended")                           \
    X(LANG, "lang", 0, "c|c++|rust", "language of the new plugin (c)")                     \
    X(DIR, "dir", 0, "DIR", "folder to make (the name)")                                   \
    X(LEVEL, "level", 0, "N", "how much is asked of it, 1 to 4 (3)")                       \
    X(RECORD, "record", 0, "JSON|FILE", "the record to call it with (300 B and 64 KiB)")   \
    X(CALLS, "calls", 0, "N", "at most N calls a record, 3 s at most (20000)")             \
    X(LANE, "lane", 0, "WORD", "in-process, host or sandbox (all three)")                  \
    X(PLUGIN, "plugin", 0, "FILE", "this plugin instead of the graph's")                   \
    X(BUNDLE, "bundle", 0, "DIR", "folder of the bundle; without ROW: run what is in it")  \
    X(GDB, "gdb", 0, NULL, "under gdb")                                                    \
    X(NO_DWARF, "no-dwarf", 0, NULL, "check the manifest alone")                           \
    X(FIX, "fix", 0, NULL, "mend what can be mended")                                      \
    X(BEFORE, "before", 0, "TIME", "rows that ended before: 2026-01-31, …T12:00:00Z, or 30d")\
    X(RESTORE, "restore", 0, NULL, "bring the rows of the file back")                      \
    X(INPUT, "input", 0, "FILE|-", "the record, a JSON object; - reads standard input")    \
    X(ID, "id", 0, "ID", "of the record; the same id again makes no second row")           \
    X(PRIORITY, "priority", 0, "N", "-1000 to 1000, higher first")                         \
    X(RUN_AFTER, "run-after", 0, "TIME", "not before: 2026-01-31T12:00:00Z, or ms since 1970") \
    X(UNIQUE_KEY, "unique-key", 0, "KEY", "no second row with it while one is not over")   \
    X(AUTO_ID, "auto-id", 0, NULL, "events without an id get a fresh one")                 \
    X(ROW, "row", 0, "ID", "this row instead of a plugin")                                 \
    X(CONFIG, "config", 0, "JSON|FILE", "what the plugin is created with ({})")                \
    X(FROM, "from", 0, "STEP", "forget this step and those after it; without: all")        \
    X(REASON, "reason", 0, "TEXT", "why, for the row's journal")                          \
    X(LEASE_MS, "lease-ms", 0, "N", "the lease that the workers had (as the history says)")

typedef enum exj_flag {
#define EXJ_X(id, ...) EXJ_CLI_##id,
    EXJ_FLAGS_TABLE(EXJ_X)
#undef EXJ_X
    EXJ_CLI_COUNT
} exj_flag;

#define EXJ_CLI_MAX_ARGS 256 /* files of check-history */

typedef struct exj_cli exj_cli;

typedef struct exj_command {
    const char *words;   /* "rows list" */
    const char *args;    /* "ID", "[ID]", "" */
    unsigned min_args, max_args;
    uint64_t flags;      /* bits of exj_flag; HELP, JSON, NO_COLOR go with every one */
    const char *help;    /* one line */
    const char *examples[2];
    bool no_settings;    /* works without them: help, version */
    exj_exit (*run)(exj_cli *c);
} exj_command;

struct exj_cli {
    const exj_command *command;       /* NULL: none was named */
    const char *flags[EXJ_CLI_COUNT]; /* NULL: not given; switches: "" */
    const char *args[EXJ_CLI_MAX_ARGS];
    unsigned args_len;
    exj_settings settings;
    bool json, color; /* color: only for standard output */
};

/* Fills *ret from argv. Errors: EXJ_INVALID, one line with the nearest match. */
exj_code exj_cli_parse(int argc, char **argv, exj_cli *ret, exj_err *err);
/* Help for the command, or for all of them when NULL, to standard output. */
void exj_cli_help(const exj_command *command);
const exj_command *exj_cli_find(const char *const *words, unsigned len);
/* A whole number a flag gave. EXJ_INVALID; `fallback` when the flag is absent. */
exj_code exj_cli_number(const exj_cli *c, exj_flag flag, int64_t low, int64_t high,
                        int64_t fallback, int64_t *ret, exj_err *err);

/* The commands, each in the file of its subject (cmd_*.c). */
exj_exit exj_cmd_serve(exj_cli *c);
exj_exit exj_cmd_run(exj_cli *c);
exj_exit exj_cmd_apply(exj_cli *c);
exj_exit exj_cmd_delete_graph(exj_cli *c);
exj_exit exj_cmd_delete_matrix(exj_cli *c);
exj_exit exj_cmd_get_graph(exj_cli *c);
exj_exit exj_cmd_get_matrix(exj_cli *c);
exj_exit exj_cmd_rows_rerun(exj_cli *c);
exj_exit exj_cmd_rows_cancel(exj_cli *c);
exj_exit exj_cmd_rows_signal(exj_cli *c);
exj_exit exj_cmd_journal_show(exj_cli *c);
exj_exit exj_cmd_journal_verify(exj_cli *c);
exj_exit exj_cmd_check_history(exj_cli *c);
exj_exit exj_cmd_get_schedule(exj_cli *c);
exj_exit exj_cmd_delete_schedule(exj_cli *c);
exj_exit exj_cmd_schedules_list(exj_cli *c);
exj_exit exj_cmd_schedules_show(exj_cli *c);
exj_exit exj_cmd_schedules_pause(exj_cli *c);
exj_exit exj_cmd_schedules_resume(exj_cli *c);
exj_exit exj_cmd_schedules_trigger(exj_cli *c);
exj_exit exj_cmd_tick(exj_cli *c);
exj_exit exj_cmd_exec(exj_cli *c);
exj_exit exj_cmd_graphs(exj_cli *c);
exj_exit exj_cmd_matrices(exj_cli *c);
exj_exit exj_cmd_rows_list(exj_cli *c);
exj_exit exj_cmd_rows_show(exj_cli *c);
exj_exit exj_cmd_rows_retry(exj_cli *c);
exj_exit exj_cmd_snapshots_show(exj_cli *c);
exj_exit exj_cmd_trigger(exj_cli *c);
exj_exit exj_cmd_events_push(exj_cli *c);
exj_exit exj_cmd_kv_list(exj_cli *c);
exj_exit exj_cmd_kv_get(exj_cli *c);
exj_exit exj_cmd_kv_delete(exj_cli *c);
exj_exit exj_cmd_archive(exj_cli *c);
exj_exit exj_cmd_backup(exj_cli *c);
exj_exit exj_cmd_restore(exj_cli *c);
exj_exit exj_cmd_doctor(exj_cli *c);
exj_exit exj_cmd_status(exj_cli *c);
exj_exit exj_cmd_pause(exj_cli *c);
exj_exit exj_cmd_resume(exj_cli *c);
exj_exit exj_cmd_plugin_list(exj_cli *c);
exj_exit exj_cmd_plugin_inspect(exj_cli *c);
exj_exit exj_cmd_plugin_check(exj_cli *c);
exj_exit exj_cmd_plugin_new(exj_cli *c);
exj_exit exj_cmd_plugin_bench(exj_cli *c);
exj_exit exj_cmd_plugin_replay(exj_cli *c);
exj_exit exj_cmd_plugin_trust(exj_cli *c);
exj_exit exj_cmd_plugin_reload(exj_cli *c);
exj_exit exj_cmd_plugin_rollback(exj_cli *c);
exj_exit exj_cmd_plugin_trial(exj_cli *c);
exj_exit exj_cmd_plugin_pin(exj_cli *c);
exj_exit exj_cmd_plugin_unpin(exj_cli *c);
exj_exit exj_cmd_plugin_history(exj_cli *c);
exj_exit exj_cmd_plugin_versions(exj_cli *c);
exj_exit exj_cmd_plugin_release(exj_cli *c);
exj_exit exj_cmd_quarantine_list(exj_cli *c);
exj_exit exj_cmd_quarantine_release(exj_cli *c);
exj_exit exj_cmd_dead_letters_list(exj_cli *c);
exj_exit exj_cmd_dead_letters_show(exj_cli *c);
exj_exit exj_cmd_dead_letters_replay(exj_cli *c);
exj_exit exj_cmd_dead_letters_drop(exj_cli *c);
exj_exit exj_cmd_ffi_verify(exj_cli *c);
exj_exit exj_cmd_config(exj_cli *c);
exj_exit exj_cmd_version(exj_cli *c);
exj_exit exj_cmd_help(exj_cli *c);

/* The hidden word that runs exj_plugin_check_child. */
#define EXJ_PLUGIN_CHECK_WORD "__plugin-check"

#endif /* EXJ_CORE_MAIN_CLI_H */
