/* plugins/source-file/place.h - opening files, below a root where there is one.
 *
 * Below a root a path is walked name by name: "..", and symbolic links, are refused, and nobody
 * who renames folders meanwhile can lead the walk out of it. Without a root a path is absolute
 * and symbolic links are followed.
 *
 * Threads: no state. Descriptors are the caller's to close. */
#ifndef EXJ_PLUGINS_SOURCE_FILE_PLACE_H
#define EXJ_PLUGINS_SOURCE_FILE_PLACE_H

#include "ask.h"

typedef struct exj_src_place {
    char *root;         /* owned, absolute; NULL: none */
    const char *setting; /* which one said so, static */
} exj_src_place;

/* The root: EXELLIX_PLUGIN_SOURCE_ROOT (the operator's) and dataSource.config.root (the
 * matrix's), the latter below the former. False: `why`. */
bool exj_src_place_read(exj_str config, exj_src_place *ret, char why[EXJ_SRC_WHY_BYTES]);
void exj_src_place_release(exj_src_place *p);

/* A descriptor, or -1 and `why`: the path, what is wrong, what to do. *ret_missing (may be NULL):
 * it is not there. `flags` as for open; a file that is made is made with mode 0600. */
int exj_src_place_open(const exj_src_place *p, const char *path, int flags, bool *ret_missing,
                       char why[EXJ_SRC_WHY_BYTES]);

/* The last bytes of a path, for a message; in one of four buffers of this thread. */
const char *exj_src_path_end(const char *path);

#endif /* EXJ_PLUGINS_SOURCE_FILE_PLACE_H */
