/* core/plugin/registry.h - what registry.c and generation.c share; nobody else's.
 *
 * Locks: `loading` is held while a file is copied, judged and loaded (its constructors may run
 * under it, which is one more reason to have none); `mu` is never held over anything that takes
 * time. The list of files and their states change under both, so either is enough to look at
 * them; holds, uses and instances are guarded by `mu`. Order: loading, then mu. Neither is held during create,
 * execute, destroy or a visit.
 */
#ifndef EXJ_CORE_PLUGIN_REGISTRY_H
#define EXJ_CORE_PLUGIN_REGISTRY_H

#include "core/plugin/load.h"

struct exj_registry {
    pthread_mutex_t loading, mu;
    exj_registry_options o; /* dirs and private_dir are the copies below */
    char **dirs;            /* owned, NULL-terminated */
    char *private_dir;      /* owned */
    bool private_is_ours;
    uint64_t generation;    /* loading */
    exj_plugin_file *files; /* mu; every generation that is not retired, and every refusal,
                               newest first */
    exj_instance *instances; /* mu */
    uint32_t pinned;        /* mu */
};

/* The current generation of this source and lane; NULL. */
exj_plugin_file *exj_registry_current_locked(exj_registry *r, const char *source,
                                             exj_lane lane);
void exj_guest_describe_locked(const exj_guest *g, exj_guest_info *ret);
/* Copy the file `from`, judge and load it as `f` (source and lane set). Under `loading`. */
exj_code exj_registry_load(exj_registry *r, exj_plugin_file *f, const char *from, exj_err *err);

#endif /* EXJ_CORE_PLUGIN_REGISTRY_H */
