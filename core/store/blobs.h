/* core/store/blobs.h - a directory of large values, each named by the hash of its content.
 *
 *     DIR/ab/abcdef…   one value; the name is its SHA-256, `ab` the first two digits of it
 *     DIR/new/…        values being written; nobody reads there
 *
 * A value is put before anything points to it: written under DIR/new, synced, renamed, its
 * folder synced. So a file under its own name is whole, whatever crashed, and survives loss of
 * power once put has returned. The same content is one file. DIR is made by the first put.
 *
 * What is put is PINNED until exj_blobs_unpin: a pinned value cannot be removed. Whoever puts
 * lets go of it when what points to it is committed, or given up. So a value that is being
 * written again while the last pointer to it goes is not lost.
 *
 * Time:    no clocks.
 * Memory:  everything passed in is borrowed for the call.
 * Threads: any, all functions at once. A directory has one user that writes (the store's lock
 *          sees to that) and any number that read.
 */
#ifndef EXJ_CORE_STORE_BLOBS_H
#define EXJ_CORE_STORE_BLOBS_H

#include <sys/types.h>

#include "core/base/str.h"

#define EXJ_BLOB_HASH_BYTES 65 /* 64 lower-case hexadecimal digits and a NUL */
#define EXJ_BLOB_MAX_BYTES ((int64_t)1 << 30)

typedef struct exj_blobs exj_blobs;

/* What names a value. */
typedef struct exj_blob_ref {
    char hash[EXJ_BLOB_HASH_BYTES];
    int64_t bytes;
} exj_blob_ref;

/* Where a test may stand between here and the disk. NULL members: the real thing. */
typedef struct exj_blobs_seam {
    ssize_t (*write)(int fd, const void *p, size_t n);
    int (*fsync)(int fd);
    int (*rename)(const char *from, const char *to);
} exj_blobs_seam;

/* `dir` and `seam` are copied; `seam` may be NULL. Unless `read_only`, what others left
 * half-written is removed. *ret: end it with exj_blobs_free, when nobody uses it any more.
 * Errors: EXJ_NOMEM, EXJ_IO (DIR/new cannot be looked through). */
exj_code exj_blobs_new(const char *dir, bool read_only, const exj_blobs_seam *seam,
                       exj_blobs **ret, exj_err *err);
void exj_blobs_free(exj_blobs *b);
const char *exj_blobs_dir(const exj_blobs *b);

/* Keep `value` and pin it. A file under its name whose content is something else is put right.
 * Errors, with nothing half visible and nothing pinned: EXJ_FULL (disk or quota), EXJ_IO,
 * EXJ_INVALID (more than EXJ_BLOB_MAX_BYTES), EXJ_REFUSED (read-only), EXJ_NOMEM. */
exj_code exj_blobs_put(exj_blobs *b, exj_slice value, exj_blob_ref *ret, exj_err *err);
/* Once for each put that succeeded. */
void exj_blobs_unpin(exj_blobs *b, const char *hash);

/* Append the value to `ret` (unchanged on failure). Length and hash are checked.
 * Errors: EXJ_CORRUPT (missing, or not what was put: the text names value and file; never an
 * empty value instead), EXJ_IO, EXJ_NOMEM. */
exj_code exj_blobs_get(const exj_blobs *b, const exj_blob_ref *ref, exj_buf *ret, exj_err *err);

/* The same without the value, in little memory.
 * Errors: EXJ_NOT_FOUND (missing), EXJ_CORRUPT (not what was put), EXJ_IO, EXJ_NOMEM. */
exj_code exj_blobs_check(const exj_blobs *b, const exj_blob_ref *ref, exj_err *err);

/* Nothing points to it any more. Not there: fine.
 * Errors: EXJ_BUSY (pinned), EXJ_IO, EXJ_REFUSED (read-only). */
exj_code exj_blobs_remove(exj_blobs *b, const char *hash, exj_err *err);

/* Visit every value (hash and length as the file has it), in no order; what is being put or
 * removed meanwhile may be missed. Files that are no values are not visited. False stops.
 * Errors: EXJ_IO, EXJ_NOMEM. */
typedef bool (*exj_blobs_visit)(void *user, const exj_blob_ref *ref);
exj_code exj_blobs_each(const exj_blobs *b, exj_blobs_visit visit, void *user, exj_err *err);

/* Is it the form of a hash? */
bool exj_blob_hash_is_valid(exj_slice hash);

#endif /* EXJ_CORE_STORE_BLOBS_H */
