/* core/plugin/lint.h - what can be said of a plugin file without running any of it.
 *
 * Reads with pread only and holds every offset against the size of the file. It looks at
 * what the loader looks at (the dynamic segment), and takes the symbols from the section
 * that the dynamic segment points to. This is advice for honest files and no wall against
 * hostile ones: those belong into a lane of their own whatever the lint says.
 *
 * The reload class says what may become of an old generation:
 *   closable      unmapped when it is idle: nothing was found that outlives it
 *   pinned        never unmapped, because something may call into it later: a thread-local
 *                 destructor, a thread, a key's destructor, on_exit; or because the loader
 *                 would keep it anyway: GNU_UNIQUE, NODELETE
 *   isolate-only  changes or needs something that a whole process shares (signal handlers,
 *                 the stack's protection, exit, the working directory, static TLS that is
 *                 never given back): run it in a process of its own
 *
 * Threads: functions only; no state.
 */
#ifndef EXJ_CORE_PLUGIN_LINT_H
#define EXJ_CORE_PLUGIN_LINT_H

#include "core/base/err.h"

typedef enum exj_reload_class {
    EXJ_RELOAD_CLOSABLE, EXJ_RELOAD_PINNED, EXJ_RELOAD_ISOLATE_ONLY
} exj_reload_class;
const char *exj_reload_class_word(exj_reload_class c); /* "closable" "pinned" "isolate-only" */

typedef struct exj_lint_finding {
    const char *level;    /* "ok", "warn" or "fail"; static, as are code and fix */
    const char *code;     /* CamelCase, stable */
    const char *fix;      /* what to change; "" when nothing */
    exj_reload_class reload; /* what this finding alone would make of it */
    char message[320];    /* printable UTF-8 */
} exj_lint_finding;

#define EXJ_LINT_FINDINGS_MAX 24u
#define EXJ_LINT_NEEDED_MAX 32u
#define EXJ_LINT_NAME_BYTES 96u

/* About 14 KB: keep it off small stacks. */
typedef struct exj_lint {
    exj_reload_class reload;
    unsigned findings_len, needed_len;
    exj_lint_finding findings[EXJ_LINT_FINDINGS_MAX];
    char needed[EXJ_LINT_NEEDED_MAX][EXJ_LINT_NAME_BYTES]; /* DT_NEEDED, cleaned */
    bool needed_more;  /* there are more than fit */
    bool fails;        /* a finding has level "fail" */
} exj_lint;

/* `fd` is an open file, best one that exj_probe_fd has accepted; `shown` its name in
 * messages. What is found in a readable file is a finding, not an error.
 * Errors: EXJ_INVALID (not an ELF file that can be looked at), EXJ_IO, EXJ_NOMEM. */
exj_code exj_lint_fd(int fd, const char *shown, exj_lint *ret, exj_err *err);
exj_code exj_lint_file(const char *path, exj_lint *ret, exj_err *err);

/* "pinned: ThreadLocalDestructor, GnuUnique", "closable". `ret` always holds a text. */
void exj_lint_why(const exj_lint *l, char *ret, size_t bytes);

#endif /* EXJ_CORE_PLUGIN_LINT_H */
