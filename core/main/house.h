/* core/main/house.h - the house rules for plugins, from the settings: what may be loaded,
 * where it runs, what is remembered of it.
 *
 * Memory:  a house must not move once it is open, and outlives the registries it opened.
 * Threads: open and close are main's; the rest is asked from any.
 */
#ifndef EXJ_CORE_MAIN_HOUSE_H
#define EXJ_CORE_MAIN_HOUSE_H

#include "core/main/settings.h"
#include "core/plugin/plugin.h"
#include "core/plugin/remote.h"
#include "core/plugin/shelf.h"

typedef struct exj_house {
    const exj_settings *settings; /* borrowed */
    exj_shelf *shelf;             /* DATA_DIR/plugins */
    exj_remote_settings remote;
    char *host_exe, *data_dir;    /* owned; what `remote` points to */
    char *transform_exe;          /* owned */
} exj_house;

/* Errors: EXJ_IO, EXJ_REFUSED (DATA_DIR/plugins is not ours), EXJ_NOMEM. */
exj_code exj_house_open(exj_house *h, const exj_settings *s, exj_err *err);
void exj_house_close(exj_house *h); /* accepts a zeroed one */

/* A registry under these rules. `dirs` NULL: those of the settings. `private_dir` as in
 * exj_registry_options. */
exj_code exj_house_registry(exj_house *h, const char *const *dirs, const char *private_dir,
                            exj_registry **ret, exj_err *err);

#endif /* EXJ_CORE_MAIN_HOUSE_H */
