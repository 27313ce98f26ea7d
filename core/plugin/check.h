/* core/plugin/check.h - `plugin check FILE`: what can be said of a file, in grades, from a
 * child process with a time limit, so that a crash costs nothing.
 *
 *   1  ELF, architecture, note, the one exported function; none of its code runs
 *   2  it loads; id, version and description are sane
 *   3  the lint; loaded and unloaded, created and destroyed over and over
 *   4  its self_test, an empty record, wrong ones, a cancelled and a late call, many at once
 */
#ifndef EXJ_CORE_PLUGIN_CHECK_H
#define EXJ_CORE_PLUGIN_CHECK_H

#include "core/base/json.h"

#define EXJ_CHECK_LEVELS 4

/* The report: {"file","ok":bool,"level","sha256","findings":[{"grade":1..4,
 * "level":"ok|warn|fail","code","message","fix"}],"plugins":[{"id","version","kind","flags":[…]}]}. `self_exe` is
 * started with `check_word` FILE LEVEL CONFIG and runs exj_plugin_check_child. `config` (checked
 * JSON) is what create is given; NULL: {}. Errors: EXJ_IO (cannot spawn); a bad plugin is a
 * report with ok=false. */
exj_code exj_plugin_check(const char *self_exe, const char *check_word, const char *file,
                          int level, const char *config, unsigned timeout_ms,
                          json_t **ret_report, exj_err *err);
/* Inside the child: writes one finding a line (JSON) to fd 1; returns the exit status. */
int exj_plugin_check_child(const char *file, int level, const char *config);

#endif /* EXJ_CORE_PLUGIN_CHECK_H */
