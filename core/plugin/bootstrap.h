/* core/plugin/bootstrap.h - the host bootstrap: a .so of the operator's that wires the worker.
 *
 * Judged by pread like a plugin, then loaded where it lies: it is trusted as the program is.
 *
 * Threads: main only.
 */
#ifndef EXJ_CORE_PLUGIN_BOOTSTRAP_H
#define EXJ_CORE_PLUGIN_BOOTSTRAP_H

#include "core/plugin/plugin.h"
#include "exellix/jobs.h"

/* Errors: EXJ_NOT_FOUND, EXJ_INVALID (file, field, wanted, found), EXJ_IO. */
exj_code exj_probe_bootstrap(const char *path, exj_probe *ret, exj_err *err);

/* Load it and copy its table into *ret, members it lacks NULL. It stays mapped for ever, even
 * when it is refused. Errors: those of the probe, and EXJ_INVALID. */
exj_code exj_bootstrap_load(const char *path, exj_host_bootstrap *ret, exj_err *err);

#endif /* EXJ_CORE_PLUGIN_BOOTSTRAP_H */
