/* core/host/cage.h - what code in a plugin host cannot do (docs/isolation.md has the table);
 * core/transform closes it around jq too.
 *
 * Closed once, before any code of the plugin's is loaded, by the only thread there is; it
 * cannot be opened again. Each part that the kernel does not offer is left out and missing in
 * the mask: nothing is claimed that was not reached.
 */
#ifndef EXJ_CORE_HOST_CAGE_H
#define EXJ_CORE_HOST_CAGE_H

#include "core/plugin/wire.h"

typedef struct exj_cage {
    bool sandbox;         /* lane SANDBOX, else HOST */
    bool records;         /* a history is open, which may grow: files have no largest size */
    uint32_t memory_mb;   /* RLIMIT_AS; 0: none */
    const char *hidden;   /* folder that must not be opened; NULL: none */
    const char *copy;     /* file that must be readable and executable in any case; NULL: none */
} exj_cage;

/* Of a program that was just started: usual signals, descriptors up to `last_fd` and no others,
 * no core file, the first to go when the machine has no memory left, dies with its parent. */
void exj_cage_begin(int last_fd);

/* Returns what was reached: EXJ_CAGE_*. */
uint32_t exj_cage_close(const exj_cage *c);

/* ---- between the files of the cage ------------------------------------------------------ */
/* `covered`: the folder is not there any more, and needs no rules. False: nothing was
 * restricted. */
bool exj_landlock_close(const exj_cage *c, bool covered);
bool exj_mounts_close(const exj_cage *c);   /* hides the folder; false: it did not work */
/* `writes`: also refuse to open files for writing, where Landlock does not. */
bool exj_seccomp_close(const exj_cage *c, bool writes);

#endif /* EXJ_CORE_HOST_CAGE_H */
