#include "power_cut.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/store/sqlite/internal.h"

#define START 1700000000000

static exj_msec wall(void *user)
{
    return atomic_load(&((struct rig *)user)->wall_ms);
}

static exj_nsec mono(void *user)
{
    return atomic_load(&((struct rig *)user)->mono_ms) * 1000000;
}

bool rig_wrong(struct rig *r, const char *format, ...)
{
    va_list ap;

    if (r->why[0])
        return false;
    va_start(ap, format);
    vsnprintf(r->why, sizeof(r->why), format, ap);
    va_end(ap);
    return false;
}

const char *blobs_of(const struct side *s)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s/blobs", s->dir);
    return path;
}

exj_code side_open(struct rig *r, struct side *s, exj_err *err)
{
    exj_sqlite_options o = { .dir = s->dir,
                             .lock_note = "power_cut",
                             .fast = r->fast,
                             .blob_bytes = (uint32_t)r->large };
    /* A log that is checkpointed often: cuts shall hit that, too. */
    exj_sqlite_seam seam = {
        .wall_ms = wall, .mono_ns = mono, .user = r, .vfs = s->vfs, .wal_bytes = 400000
    };

    return exj_sqlite_open_seam(&o, &seam, &s->s, err);
}

void side_close(struct side *s)
{
    exj_look_free(s->look);
    s->look = NULL;
    if (s->s)
        s->s->v->close(s->s);
    s->s = NULL;
}

/* Its folder has the lock, the blobs, and an empty file where doctor looks for the
 * database. */
static void side_init(struct rig *r, struct side *s, const char *name, bool as_default,
                      uint64_t seed)
{
    exj_err err = { 0 };

    s->vfs = name;
    s->disk = exj_power_new(name, as_default, seed);
    snprintf(s->dir, sizeof(s->dir), "%s", exj_tmp_path(&r->tmp, name));
    snprintf(s->path, sizeof(s->path), "%s/" EXJ_SQLITE_FILE, s->dir);
    if (side_open(r, s, &err) != EXJ_OK) {
        rig_wrong(r, "no store: %s", err.text);
        return;
    }
    side_close(s);
    exj_spit(s->path, "");
    s->fresh = exj_power_save(s->disk);
}

void rig_init(struct rig *r, uint64_t seed, bool fast)
{
    r->random = seed;
    r->fast = fast;
    atomic_store(&r->wall_ms, START);
    atomic_store(&r->mono_ms, 1000);
    exj_tmp_make(&r->tmp);
    side_init(r, &r->twin, "twin", false, exj_test_random(&r->random));
    side_init(r, &r->real, "real", true, exj_test_random(&r->random));
    exj_batch_init(&r->batch, 0);
    exj_batch_init(&r->same, 0);
}

void rig_release(struct rig *r)
{
    exj_files_watch(NULL, NULL, 0);
    side_close(&r->real);
    side_close(&r->twin);
    exj_power_image_free(r->real.fresh);
    exj_power_image_free(r->twin.fresh);
    exj_power_free(r->real.disk);
    exj_power_free(r->twin.disk);
    exj_batch_release(&r->batch);
    exj_batch_release(&r->same);
}

static int forget(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static bool begin_side(struct rig *r, struct side *s)
{
    exj_err err = { 0 };
    exj_look_sum sum;
    char why[256];

    nftw(blobs_of(s), forget, 16, FTW_DEPTH | FTW_PHYS);
    exj_power_load(s->disk, s->fresh);
    if (side_open(r, s, &err) != EXJ_OK)
        return rig_wrong(r, "a new store: %s", err.text);
    if (s == &r->real)
        return true;
    s->look = exj_look_new(s->vfs, s->path, why);
    if (!s->look || !exj_look_at(s->look, &sum, why))
        return rig_wrong(r, "twin: %s", why);
    r->past[r->past_len++] = sum.all;
    return true;
}

bool rig_begin_world(struct rig *r)
{
    r->total.worlds++;
    r->compacted = false;
    r->past_len = 0;
    r->wide = exj_test_random(&r->random) % 4 == 0;
    /* Large values, on one world of three: they are files, which takes time. */
    r->large = exj_test_random(&r->random) % 3 ? 0 : 256;
    r->batch.large = r->same.large = r->large;
    r->batch.key_caps = r->same.key_caps = r->wide ? 3 : 1;
    memset(r->tokens, 0, sizeof(r->tokens));
    exj_power_cut_after(r->real.disk, EXJ_POWER_NEVER);
    exj_files_watch(r->real.disk, NULL, 0);
    if (!begin_side(r, &r->twin) || !begin_side(r, &r->real))
        return false;
    exj_files_watch(r->real.disk, blobs_of(&r->real), exj_test_random(&r->random));
    return true;
}

void rig_end_world(struct rig *r)
{
    exj_power_cut_after(r->real.disk, EXJ_POWER_NEVER);
    side_close(&r->real);
    side_close(&r->twin);
}
