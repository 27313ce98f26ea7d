/* tests/faults/power_cut/power_cut.h - two stores told the same, one of which loses
 * power.
 *
 * REAL is the embedded store on a disk whose power goes (tests/support/power_vfs.h); TWIN
 * is the same code on a disk where nothing happens. TWIN gets what REAL has acknowledged.
 * After a cut REAL is opened again and its tables have to be TWIN's; or, where operations
 * were answered with EXJ_UNKNOWN, TWIN's after these, too. So every acknowledged effect
 * is there, of every kind and in every table, and nothing that was answered with a
 * failure is.
 */
#ifndef EXJ_TESTS_POWER_CUT_H
#define EXJ_TESTS_POWER_CUT_H

#include <stdatomic.h>

#include "core/store/store.h"
#include "tests/support/power_files.h"
#include "tests/support/power_vfs.h"
#include "tests/support/store_load.h"
#include "tests/support/store_look.h"
#include "tests/support/support.h"

#define PAST_MOST 4096

struct side {
    exj_power *disk;
    const char *vfs;
    char dir[240], path[300];
    exj_store *s;
    exj_look *look;
    exj_power_image *fresh; /* an empty store */
};

struct totals {
    uint64_t cuts, worlds, batches, acked, unknown, unknown_applied, refused;
    uint64_t idle_cuts, load_cuts, close_cuts, open_cuts; /* where the power went */
    uint64_t files_back, values; /* changes of files taken back; large values looked at */
    uint64_t lost_cuts, lost_groups, corrupt, wrong;
    uint64_t kinds[EXJ_OP_COUNT]; /* operations acknowledged */
};

struct rig {
    exj_tmp tmp;
    struct side real, twin;
    exj_batch batch, same; /* the same operations, for real and for twin */
    exj_known known;
    atomic_int_least64_t wall_ms, mono_ms;
    uint64_t random;
    bool fast;
    size_t large;   /* bytes above which a value is a file, in this world; 0: none is */
    bool stale;     /* closing and opening twin would change what it does next */
    bool wide;      /* concurrency keys of several widths: twin is always stale */
    bool compacted; /* in this world: numbers of the journal may be missing */
    struct totals total;
    int64_t tokens[EXJ_KNOWN_MOST * 8]; /* newest acknowledged token by seq */
    uint64_t past[PAST_MOST]; /* fast: sums of twin after each group of this world */
    size_t past_len;
    char why[1200]; /* the first thing that went wrong; "" none */
};

/* rig.c */
void rig_init(struct rig *r, uint64_t seed, bool fast);
void rig_release(struct rig *r);
bool rig_begin_world(struct rig *r);
void rig_end_world(struct rig *r);
const char *
blobs_of(const struct side *s); /* its folder; in a buffer that is used again */
exj_code side_open(struct rig *r, struct side *s, exj_err *err);
void side_close(struct side *s);
/* Notes the first failure, with printf's arguments. False. */
bool rig_wrong(struct rig *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* round.c: one cut and what is left of the store. False: this world is over. */
bool rig_round(struct rig *r);

#endif /* EXJ_TESTS_POWER_CUT_H */
