/* tests/support/power_vfs.h - a disk in memory for SQLite, whose power can go, and whose
 * calls can fail.
 *
 * Each disk is a SQLite VFS of its own. What is written stays in a cache, sector by
 * sector (512 bytes), until the file is synced. When the power goes, each unsynced sector
 * is as it was at the last sync, as it was after one of the writes since, or torn: a part
 * of each, or noise within the bytes that were written. A length that was not synced may
 * be the old or the new one, or lie between. A name that was made or deleted and whose
 * folder was not synced may or may not be there. From the cut on every call fails (but
 * those that let go: unlock, unmap, close), until all files are closed and exj_power_on
 * gives the disk what remained.
 *
 * What it takes from real disks and their drivers: bytes of a sector that were synced and
 * not written since keep their value (SQLite's POWERSAFE_OVERWRITE, which its own VFS
 * reports too), and a sync that says it succeeded did. It does not model disks that lie,
 * or that lose sectors nobody wrote. The first sync of a write-ahead log or journal that
 * was just made syncs its folder, as SQLite's own VFS does.
 *
 * A log's index (shared memory) is heap of this process: any number of connections of one
 * process work, two processes do not.
 *
 * Time:    the wall clock is only what SQLite asks for; xSleep returns at once.
 * Memory:  paths are copied. Out of memory ends the program.
 * Threads: any, all functions at once; wipe, on, load and put want all files closed.
 */
#ifndef EXJ_TESTS_POWER_VFS_H
#define EXJ_TESTS_POWER_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct exj_power exj_power;

/* Registers the VFS under `vfs`; `as_default`: connections that name no VFS get it. The
 * disk is empty and has power. `seed` decides what a cut leaves, and SQLite's random
 * numbers. */
exj_power *exj_power_new(const char *vfs, bool as_default, uint64_t seed);
void exj_power_free(exj_power *p); /* wants all files closed */

/* ---- the power ------------------------------------------------------------------------
 */

#define EXJ_POWER_NEVER UINT64_MAX

/* The power goes instead of the call after the next `changes` calls that change the disk
 * (write, truncate, sync, delete, making a file). EXJ_POWER_NEVER: it stays. */
void exj_power_cut_after(exj_power *p, uint64_t changes);
/* The power goes instead of the first sync after that: where most is at stake. */
void exj_power_cut_at_sync_after(exj_power *p, uint64_t changes);
void exj_power_cut(exj_power *p); /* now */
bool exj_power_is_off(exj_power *p);
uint64_t
exj_power_changes(exj_power *p); /* calls that changed the disk, since it was made */
/* Power again, over what remained. Aborts when a file is still open. */
void exj_power_on(exj_power *p);

/* Something else than SQLite changes something that this disk's power keeps (`sync`: makes it
 * durable). False: there is none, or it goes now. */
bool exj_power_change(exj_power *p, bool sync);

/* What cuts did, since the disk was made. */
typedef struct exj_power_tally {
    uint64_t cuts, empty;         /* empty: nothing was unsynced */
    uint64_t kept, dropped, torn; /* sectors */
    uint64_t lengths, names;      /* that are not what the last call made them */
} exj_power_tally;
exj_power_tally exj_power_tell(exj_power *p);

/* ---- calls that fail ------------------------------------------------------------------
 */

#define EXJ_POWER_OPEN 1u
#define EXJ_POWER_READ 2u
#define EXJ_POWER_WRITE 4u
#define EXJ_POWER_TRUNCATE 8u
#define EXJ_POWER_SYNC 16u
#define EXJ_POWER_DELETE 32u
#define EXJ_POWER_SIZE 64u
#define EXJ_POWER_ACCESS 128u
#define EXJ_POWER_LOCK 256u /* of files and of the log's index */
#define EXJ_POWER_MAP 512u  /* of the log's index */
#define EXJ_POWER_ANY 1023u

typedef enum exj_power_how {
    EXJ_POWER_IOERR, /* SQLITE_IOERR_READ, _WRITE, …; an open: SQLITE_CANTOPEN */
    EXJ_POWER_FULL,  /* SQLITE_FULL, of writes; IOERR of the rest */
    EXJ_POWER_SHORT  /* the first half of a write is made, then SQLITE_FULL */
} exj_power_how;

/* The nth call (1: the next) among those of `calls` fails as said, once or from then on.
 */
void exj_power_fail(exj_power *p, unsigned calls, uint64_t nth, bool from_then_on,
                    exj_power_how how);
/* No more; how many calls of those there were since exj_power_fail. It failed if >= nth.
 */
uint64_t exj_power_heal(exj_power *p);

/* ---- what is on it
 * ---------------------------------------------------------------------- */

void exj_power_wipe(exj_power *p); /* no files, power on; what is armed stays */

/* All files as they are, synced. */
typedef struct exj_power_image exj_power_image;
exj_power_image *exj_power_save(exj_power *p);
void exj_power_load(exj_power *p,
                    const exj_power_image *image); /* instead of what was there */
void exj_power_image_free(exj_power_image *image);

/* One file's bytes: a copy to free(), NULL: there is no such file. */
unsigned char *exj_power_get(exj_power *p, const char *path, size_t *ret_n);
void exj_power_put(exj_power *p, const char *path, const void *bytes, size_t n);

#endif /* EXJ_TESTS_POWER_VFS_H */
