/* tests/support/power_files.h - plain files that lose power together with a disk of
 * power_vfs.h.
 *
 * Linked with --wrap: what this program's own code (not libraries) does to files below
 * one folder goes to real files, and is remembered until it is synced. Its changes count
 * to the disk's cut; once the disk is off, calls fail with EIO. exj_files_on then leaves
 * what a loss of power would have: content that was not synced is cut short or torn;
 * names that were made, renamed, deleted, and folders that were made, whose folder was
 * not synced, may be as before.
 *
 * Wrapped: open, close, write, fsync, rename, unlink, mkdir. Others go through and are
 * durable.
 *
 * Threads: any; watch and on while nobody uses the files.
 */
#ifndef EXJ_TESTS_POWER_FILES_H
#define EXJ_TESTS_POWER_FILES_H

#include "tests/support/power_vfs.h"

/* Files below `root` (copied; NULL: no more) belong to `disk`. `seed` decides what a cut
 * leaves. */
void exj_files_watch(exj_power *disk, const char *root, uint64_t seed);
/* After a cut, before exj_power_on. How many changes it has taken back. */
uint64_t exj_files_on(void);

#endif /* EXJ_TESTS_POWER_FILES_H */
