/* core/main/cmd_plugin.h - what the commands of plugin authors share.
 *
 * What may crash runs in a child: this program again, its first argument one of the hidden
 * words. The child writes one JSON document to its standard output, which is a pipe; what
 * a plugin prints there goes to standard error instead.
 *
 * Threads: main only.
 */
#ifndef EXJ_CORE_MAIN_CMD_PLUGIN_H
#define EXJ_CORE_MAIN_CMD_PLUGIN_H

#include "core/main/out.h"

/* Make the folders above `path`. Errors: EXJ_IO, EXJ_INVALID (too long). */
exj_code exj_tool_folders(const char *path, exj_err *err);
/* The whole file at once; `fresh`: it must not be there. Errors: EXJ_CONFLICT, EXJ_IO. */
exj_code exj_tool_write(const char *path, exj_slice text, bool fresh, exj_err *err);
/* The whole file. Errors: EXJ_NOT_FOUND, EXJ_INVALID (over `most` bytes), EXJ_IO, EXJ_NOMEM. */
exj_code exj_tool_read(const char *path, size_t most, exj_buf *ret, exj_err *err);
exj_code exj_tool_read_json(const char *path, json_t **ret, exj_err *err);
exj_code exj_tool_write_json(const char *path, const json_t *value, exj_err *err);
exj_code exj_tool_copy(const char *from, const char *to, char ret_sha256[65], exj_err *err);

/* FILE, or a name found in the plugins directories. New text; NULL: not there. */
char *exj_tool_find_plugin(const exj_cli *c, const char *name);
/* By file name, in the plugins directories only. */
char *exj_tool_find_installed(const exj_cli *c, const char *name);
/* A kept copy of what ran as plugin `id` at the instant `at` ("2026-…Z"), when `file` (may be
 * NULL) is not that content any more. `message`: the row's error, may name the content.
 * New text; NULL: `file` is it, or nothing is known. */
char *exj_tool_what_ran(const exj_cli *c, const char *file, const char *id, const char *at,
                        const char *message);

/* How a child ended. */
typedef struct exj_tool_end {
    json_t *said;   /* owned; NULL: it said nothing that is JSON */
    int status;     /* of waitpid */
    bool in_time;   /* false: it was killed when its time was over */
    char text[160]; /* "crashed with SIGSEGV", "ended with status 3", "was stopped after …" */
} exj_tool_end;

/* Run this program with `word` and `args` (NULL-terminated, at most 8). Errors: EXJ_IO. */
exj_code exj_tool_child(const char *exe, const char *word, const char *const *args,
                        unsigned timeout_ms, exj_tool_end *ret, exj_err *err);
/* Inside a child: what is printed from now on goes to standard error; the fd to report to. */
int exj_tool_take_stdout(void);
void exj_tool_say(int fd, const json_t *value);

/* The body of GET /plugins of a worker: a table, and what executors are at. (cmd_reload.c) */
void exj_print_generations(exj_cli *c, const json_t *body);

#define EXJ_TOOL_BENCH_WORD "__plugin-bench"
#define EXJ_TOOL_REPLAY_WORD "__plugin-replay"
int exj_tool_bench_child(const char *const *args, int len);
int exj_tool_replay_child(const char *const *args, int len);

#endif /* EXJ_CORE_MAIN_CMD_PLUGIN_H */
