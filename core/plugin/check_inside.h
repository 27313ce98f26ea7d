/* core/plugin/check_inside.h - what the files of `plugin check`'s child share.
 *
 * Grades: 1 the file is a plugin for this machine; 2 it loads and says who it is; 3 the lint,
 * and loading and creating it over and over; 4 calls: good, empty, wrong, cancelled, late.
 *
 * Threads: the child's main thread.
 */
#ifndef EXJ_CORE_PLUGIN_CHECK_INSIDE_H
#define EXJ_CORE_PLUGIN_CHECK_INSIDE_H

#include "core/plugin/guest.h"

/* What is tried from now on; a crash is reported as one "in NAME of ID". */
void exj_check_phase(const char *name, const char *id);
/* `level`: "ok", "warn", "fail". */
void exj_check_find(const char *level, const char *code, const char *fix, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));
/* Grade 4, on a fresh instance. */
void exj_check_calls(exj_instance *i, exj_call_slot *slot);

#endif /* EXJ_CORE_PLUGIN_CHECK_INSIDE_H */
