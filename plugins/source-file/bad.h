/* plugins/source-file/bad.h - lines that are no records: told, counted, kept aside.
 *
 * A line of the quarantine file:
 *   {"key":"32 hexadecimal digits","at":"…Z","file":"…","line":7,"column":3,"reason":"…",
 *    "bytes":120,"text":"the line"}
 * "key" is the hash of the line and of where it stands: when the file is scanned again, a line
 * that is there already is not added once more. "text" is at most EXJ_SRC_BAD_TEXT bytes of the
 * line, "base64" in its place when it is not UTF-8. A file of EXJ_SRC_BAD_FILE bytes takes no
 * more: the scan stops and says so.
 *
 * Writers in several processes wait for each other (flock), for as long as one write takes.
 * Threads: one user of one struct at a time.
 */
#ifndef EXJ_PLUGINS_SOURCE_FILE_BAD_H
#define EXJ_PLUGINS_SOURCE_FILE_BAD_H

#include <sys/types.h>

#include "place.h"

#define EXJ_SRC_BAD_TEXT 65536u
#define EXJ_SRC_BAD_FILE ((int64_t)64 * 1024 * 1024)

/* What the quarantine file holds: kept between calls, read anew when another has written. */
typedef struct exj_src_kept {
    unsigned char (*keys)[16]; /* owned; open addressing, all zeros: free */
    size_t n, cap;
    dev_t dev;
    ino_t ino;
    int64_t bytes; /* of the file that were read */
} exj_src_kept;

void exj_src_kept_release(exj_src_kept *k);

/* Lines that wait to be written. */
typedef struct exj_src_aside {
    exj_json_out lines;
    exj_json_out one;
    size_t n;
} exj_src_aside;

void exj_src_aside_release(exj_src_aside *a);

/* One more, in memory. `text` is what is there of the line, `bytes` how long it was. False: no
 * memory. */
bool exj_src_aside_add(exj_src_aside *a, const char *file, uint64_t line,
                       const exj_src_trouble *t, exj_str text, uint64_t bytes);
/* All of them into the file, synced; those that it holds already are left out. *ret_new: how many
 * were new. False: `why`; some may be there, and will not be added again. */
bool exj_src_aside_write(exj_src_aside *a, const exj_src_place *place, const char *path,
                         exj_src_kept *kept, size_t *ret_new, char why[EXJ_SRC_WHY_BYTES]);

#endif /* EXJ_PLUGINS_SOURCE_FILE_BAD_H */
