/* core/plugin/check.h - `plugin check FILE`: probe, load, create, self-test and a sample
 * call in a child process with a time limit, so that a crash costs nothing. */
#ifndef EXJ_CORE_PLUGIN_CHECK_H
#define EXJ_CORE_PLUGIN_CHECK_H

#include "core/base/json.h"

/* The report: {"file","ok":bool,"sha256","findings":[{"level":"ok|warn|fail","code",
 * "message","fix"}],"plugins":[{"id","version","kind","flags":[…]}]}. `self_exe` is
 * started with `check_word` FILE and runs exj_plugin_check_child. Errors: EXJ_IO (cannot
 * spawn); a bad plugin is a report with ok=false. */
exj_code exj_plugin_check(const char *self_exe, const char *check_word, const char *file,
                          unsigned timeout_ms, json_t **ret_report, exj_err *err);
/* Inside the child: writes one finding a line (JSON) to fd 1; returns the exit status. */
int exj_plugin_check_child(const char *file);

#endif /* EXJ_CORE_PLUGIN_CHECK_H */
