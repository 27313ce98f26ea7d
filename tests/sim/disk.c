/* A disk for SQLite: files in memory, whose unsynced sectors a power cut keeps, drops or
 * tears.
 *
 * tests/support/power_vfs.h is the fuller model (names that were not synced, several
 * versions of a sector). This one is what a simulated life needs: an access may switch
 * fibers, stop the clock or end the process inside of SQLite, and nothing has to be
 * closed afterwards.
 */
#include "tests/sim/sim.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define REGION 32768
#define REGIONS 16
#define FILES 8

struct sim_file {
    char path[256];
    bool there;
    unsigned char *now, *disk; /* what is read; what is synced */
    int64_t size, disk_size, cap;
    unsigned char *dirty; /* a byte a sector */
    /* of the process */
    int shared, reserved, pending, exclusive;
    char *region[REGIONS];
    int shm_shared[SQLITE_SHM_NLOCK], shm_exclusive[SQLITE_SHM_NLOCK];
    int shm_users;
};

struct handle {
    sqlite3_file base;
    struct sim_file *f;
    int level;
    bool shm, drop; /* drop: on close */
    unsigned held_shared, held_exclusive;
};

/* Memory of the disk outlives the process that writes: it is the C library's. */
void *__real_realloc(void *p, size_t n);

static void *keep(void *p, size_t n)
{
    p = __real_realloc(p, n);
    if (!p)
        abort();
    return p;
}

static void need(struct sim_file *f, int64_t size)
{
    int64_t cap = f->cap ? f->cap : 65536;

    if (size <= f->cap)
        return;
    while (cap < size)
        cap *= 2;
    f->now = keep(f->now, (size_t)cap);
    f->disk = keep(f->disk, (size_t)cap);
    f->dirty = keep(f->dirty, (size_t)(cap / SECTOR));
    memset(f->now + f->cap, 0, (size_t)(cap - f->cap));
    memset(f->disk + f->cap, 0, (size_t)(cap - f->cap));
    memset(f->dirty + f->cap / SECTOR, 0, (size_t)((cap - f->cap) / SECTOR));
    f->cap = cap;
}

static void sync_file(struct sim_file *f)
{
    int64_t most = f->size > f->disk_size ? f->size : f->disk_size;

    for (int64_t s = 0; s * SECTOR < most; s++) {
        if (!f->dirty[s])
            continue;
        memcpy(f->disk + s * SECTOR, f->now + s * SECTOR, SECTOR);
        f->dirty[s] = 0;
    }
    f->disk_size = f->size;
}

static void tear(struct sim_file *f)
{
    uint64_t *r = &sim->rng_disk;
    int64_t most = f->size > f->disk_size ? f->size : f->disk_size;
    unsigned keeps = (unsigned)sim_below(r, 5) * 25;

    for (int64_t s = 0; s * SECTOR < most; s++) {
        if (!f->dirty[s])
            continue;
        if (sim_chance(r, keeps)) {
            memcpy(f->disk + s * SECTOR, f->now + s * SECTOR, SECTOR);
        } else if (sim_chance(r, 20)) {
            size_t n = sim_below(r, SECTOR);

            memcpy(f->disk + s * SECTOR, f->now + s * SECTOR, n);
            sim->t.torn++;
        } else {
            sim->t.dropped++;
        }
        f->dirty[s] = 0;
    }
    if (f->size != f->disk_size && sim_chance(r, 50))
        f->disk_size = f->size;
    memcpy(f->now, f->disk, (size_t)f->cap);
    f->size = f->disk_size;
    memset(f->now + f->size, 0, (size_t)(f->cap - f->size));
    memset(f->disk + f->size, 0, (size_t)(f->cap - f->size));
}

void sim_disk_crash(bool power_cut)
{
    for (unsigned i = 0; i < FILES; i++) {
        struct sim_file *f = sim->files[i];

        if (!f)
            continue;
        if (power_cut && f->there && f->cap)
            tear(f);
        f->shared = f->reserved = f->pending = f->exclusive = f->shm_users = 0;
        memset(f->shm_shared, 0, sizeof(f->shm_shared));
        memset(f->shm_exclusive, 0, sizeof(f->shm_exclusive));
        for (unsigned k = 0; k < REGIONS; k++)
            if (f->region[k])
                memset(f->region[k], 0, REGION);
    }
    sim->io_error = false;
    sim->full_until_ns = 0;
    sqlite3_randomness(0, NULL); /* begins anew */
}

static void empty(struct sim_file *f)
{
    int64_t used = f->size > f->disk_size ? f->size : f->disk_size;

    if (f->cap) {
        used = used + SECTOR < f->cap ? used + SECTOR : f->cap;
        memset(f->now, 0, (size_t)used);
        memset(f->disk, 0, (size_t)used);
        memset(f->dirty, 0, (size_t)(f->cap / SECTOR));
    }
    f->size = f->disk_size = 0;
}

void sim_disk_wipe(void)
{
    sim_disk_crash(false);
    for (unsigned i = 0; i < FILES; i++) {
        if (!sim->files[i])
            continue;
        empty(sim->files[i]);
        sim->files[i]->there = false;
        sim->files[i]->path[0] = '\0';
    }
}

/* Something touches the disk. It takes time, and this is where things happen. */
static void touch(void)
{
    if (!sim->now)
        return;
    sim->t.accesses++;
    sim->mono_ns += 1000;
    sim_fault_point(false);
    if (sim_random(&sim->rng_sched) % 1024 < sim->preempt)
        sim_yield();
}

static bool io_fails(void)
{
    if (!sim->io_error)
        return false;
    sim->io_error = false;
    sim_note("the disk fails a write");
    return true;
}

/* ---- a file
 * --------------------------------------------------------------------------------- */

static int f_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    struct sim_file *f = ((struct handle *)file)->f;
    int64_t got = f->size - at;

    if (got < 0)
        got = 0;
    if (got > n)
        got = n;
    if (got)
        memcpy(to, f->now + at, (size_t)got);
    if (got == n)
        return SQLITE_OK;
    memset((char *)to + got, 0, (size_t)(n - got));
    return SQLITE_IOERR_SHORT_READ;
}

static int f_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    struct sim_file *f = ((struct handle *)file)->f;

    touch();
    if (sim->now && sim->mono_ns < sim->full_until_ns && at + n > f->size) {
        sim_note("the disk is full");
        return SQLITE_FULL;
    }
    if (io_fails())
        return SQLITE_IOERR_WRITE;
    need(f, at + n);
    memcpy(f->now + at, from, (size_t)n);
    for (int64_t s = at / SECTOR; s <= (at + n - 1) / SECTOR; s++)
        f->dirty[s] = 1;
    if (at + n > f->size)
        f->size = at + n;
    return SQLITE_OK;
}

static int f_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct sim_file *f = ((struct handle *)file)->f;

    touch();
    if (size < f->size) {
        memset(f->now + size, 0, (size_t)(f->size - size));
        for (int64_t s = size / SECTOR; s <= (f->size - 1) / SECTOR; s++)
            f->dirty[s] = 1;
        f->size = size;
    }
    return SQLITE_OK;
}

static int f_sync(sqlite3_file *file, int flags)
{
    struct handle *h = (struct handle *)file;
    size_t len = strlen(h->f->path);

    (void)flags;
    touch();
    if (io_fails())
        return SQLITE_IOERR_FSYNC;
    if (sim->now)
        sim->mono_ns += 20000 + (int64_t)sim_below(&sim->rng_sched, 200000);
    sync_file(h->f);
    if (len > 4 && !strcmp(h->f->path + len - 4, "-wal"))
        sim_fault_point(true);
    return SQLITE_OK;
}

static int f_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    *ret = ((struct handle *)file)->f->size;
    return SQLITE_OK;
}

static int f_unlock(sqlite3_file *file, int level)
{
    struct handle *h = (struct handle *)file;
    struct sim_file *f = h->f;

    if (h->level <= level)
        return SQLITE_OK;
    if (h->level >= SQLITE_LOCK_EXCLUSIVE)
        f->exclusive = 0;
    if (h->level >= SQLITE_LOCK_PENDING)
        f->pending = 0;
    if (h->level >= SQLITE_LOCK_RESERVED)
        f->reserved = 0;
    if (level == SQLITE_LOCK_NONE && h->level >= SQLITE_LOCK_SHARED)
        f->shared--;
    h->level = level;
    return SQLITE_OK;
}

static int f_lock(sqlite3_file *file, int level)
{
    struct handle *h = (struct handle *)file;
    struct sim_file *f = h->f;

    if (h->level >= level)
        return SQLITE_OK;
    if (h->level == SQLITE_LOCK_NONE) {
        if (f->pending || f->exclusive)
            return SQLITE_BUSY;
        f->shared++;
        h->level = SQLITE_LOCK_SHARED;
    }
    if (level >= SQLITE_LOCK_RESERVED && h->level < SQLITE_LOCK_RESERVED) {
        if (f->reserved)
            return SQLITE_BUSY;
        f->reserved = 1;
        h->level = SQLITE_LOCK_RESERVED;
    }
    if (level >= SQLITE_LOCK_EXCLUSIVE) {
        f->pending = 1;
        h->level = SQLITE_LOCK_PENDING;
        if (f->shared > 1)
            return SQLITE_BUSY;
        f->exclusive = 1;
        h->level = SQLITE_LOCK_EXCLUSIVE;
    }
    return SQLITE_OK;
}

static int f_reserved(sqlite3_file *file, int *ret)
{
    *ret = ((struct handle *)file)->f->reserved;
    return SQLITE_OK;
}

static int f_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int f_sector(sqlite3_file *file)
{
    (void)file;
    return SECTOR;
}

static int f_traits(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int f_shm_map(sqlite3_file *file, int i, int size, int extend, void volatile **ret)
{
    struct handle *h = (struct handle *)file;

    if (i >= REGIONS || size != REGION)
        return SQLITE_IOERR_SHMMAP;
    if (!h->shm)
        h->f->shm_users++;
    h->shm = true;
    if (!h->f->region[i]) {
        if (!extend) {
            *ret = NULL;
            return SQLITE_OK;
        }
        h->f->region[i] = keep(NULL, REGION);
        memset(h->f->region[i], 0, REGION);
    }
    *ret = h->f->region[i];
    return SQLITE_OK;
}

static int f_shm_lock(sqlite3_file *file, int first, int n, int flags)
{
    struct handle *h = (struct handle *)file;
    struct sim_file *f = h->f;
    bool exclusive = flags & SQLITE_SHM_EXCLUSIVE;

    for (int i = first; i < first + n && flags & SQLITE_SHM_LOCK; i++) {
        int mine = h->held_shared >> i & 1;

        if (exclusive ? f->shm_exclusive[i] || f->shm_shared[i] - mine
                      : f->shm_exclusive[i])
            return SQLITE_BUSY;
    }
    for (int i = first; i < first + n; i++) {
        unsigned bit = 1u << i;

        if (flags & SQLITE_SHM_LOCK) {
            if (exclusive && !(h->held_exclusive & bit)) {
                f->shm_exclusive[i]++;
                h->held_exclusive |= bit;
            } else if (!exclusive && !(h->held_shared & bit)) {
                f->shm_shared[i]++;
                h->held_shared |= bit;
            }
        } else if (exclusive && h->held_exclusive & bit) {
            f->shm_exclusive[i]--;
            h->held_exclusive &= ~bit;
        } else if (!exclusive && h->held_shared & bit) {
            f->shm_shared[i]--;
            h->held_shared &= ~bit;
        }
    }
    return SQLITE_OK;
}

static void f_shm_barrier(sqlite3_file *file)
{
    (void)file;
}

static int f_shm_unmap(sqlite3_file *file, int drop)
{
    struct handle *h = (struct handle *)file;

    (void)drop;
    if (!h->shm)
        return SQLITE_OK;
    f_shm_lock(file, 0, SQLITE_SHM_NLOCK, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED);
    f_shm_lock(file, 0, SQLITE_SHM_NLOCK, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    h->shm = false;
    if (--h->f->shm_users == 0)
        for (unsigned i = 0; i < REGIONS; i++)
            if (h->f->region[i])
                memset(h->f->region[i], 0, REGION);
    return SQLITE_OK;
}

static int f_close(sqlite3_file *file)
{
    struct handle *h = (struct handle *)file;

    f_shm_unmap(file, 0);
    f_unlock(file, SQLITE_LOCK_NONE);
    if (h->drop) {
        empty(h->f);
        h->f->there = false;
    }
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    3,          f_close,       f_read,      f_write,   f_truncate, f_sync,   f_size,
    f_lock,     f_unlock,      f_reserved,  f_control, f_sector,   f_traits, f_shm_map,
    f_shm_lock, f_shm_barrier, f_shm_unmap, NULL,      NULL
};

/* ---- the disk
 * --------------------------------------------------------------------------------- */

/* Find it, or make it. Nobody has more than FILES here. */
static struct sim_file *find(const char *path, bool make)
{
    struct sim_file *f = NULL;

    for (unsigned i = 0; i < FILES && path; i++)
        if (sim->files[i] && !strcmp(sim->files[i]->path, path))
            return sim->files[i];
    for (unsigned i = 0; i < FILES && make; i++) {
        f = sim->files[i];
        if (f && f->there)
            continue;
        if (!f) {
            f = sim->files[i] = keep(NULL, sizeof(*f));
            memset(f, 0, sizeof(*f));
        }
        empty(f);
        snprintf(f->path, sizeof(f->path), "%s", path ? path : "?");
        return f;
    }
    return NULL;
}

static int v_open(sqlite3_vfs *vfs, sqlite3_filename path, sqlite3_file *file, int flags,
                  int *ret_flags)
{
    struct handle *h = (struct handle *)file;
    struct sim_file *f = find(path, flags & SQLITE_OPEN_CREATE);

    (void)vfs;
    memset(h, 0, sizeof(*h));
    if (!f || (!f->there && !(flags & SQLITE_OPEN_CREATE)))
        return SQLITE_CANTOPEN;
    f->there = true;
    h->f = f;
    h->drop = flags & SQLITE_OPEN_DELETEONCLOSE;
    h->base.pMethods = &methods;
    if (ret_flags)
        *ret_flags = flags;
    return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    struct sim_file *f = find(path, false);

    (void)vfs;
    (void)sync;
    touch();
    if (!f || !f->there)
        return SQLITE_IOERR_DELETE_NOENT;
    empty(f);
    f->there = false;
    return SQLITE_OK;
}

static int v_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret)
{
    const struct sim_file *f = find(path, false);

    (void)vfs;
    *ret = f && f->there && (flags != SQLITE_ACCESS_EXISTS || f->size);
    return SQLITE_OK;
}

static int v_full(sqlite3_vfs *vfs, const char *path, int n, char *ret)
{
    (void)vfs;
    return snprintf(ret, (size_t)n, "%s", path) < n ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int v_random(sqlite3_vfs *vfs, int n, char *ret)
{
    (void)vfs;
    for (int i = 0; i < n; i++)
        ret[i] = (char)sim_random(&sim->rng_os);
    return n;
}

static int v_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    if (sim->now)
        sim_sleep((int64_t)us * 1000);
    return us;
}

static int v_time64(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
    (void)vfs;
    *ret = sim_wall_ns() / 1000000 + (sqlite3_int64)24405875 * 8640000;
    return SQLITE_OK;
}

static int v_time(sqlite3_vfs *vfs, double *ret)
{
    sqlite3_int64 ms;

    v_time64(vfs, &ms);
    *ret = (double)ms / 86400000.0;
    return SQLITE_OK;
}

static int v_error(sqlite3_vfs *vfs, int n, char *ret)
{
    (void)vfs;
    (void)n;
    (void)ret;
    return 0;
}

void sim_disk_register(void)
{
    static sqlite3_vfs vfs = {
        .iVersion = 2,
        .szOsFile = sizeof(struct handle),
        .mxPathname = 255,
        .zName = "sim",
        .xOpen = v_open,
        .xDelete = v_delete,
        .xAccess = v_access,
        .xFullPathname = v_full,
        .xRandomness = v_random,
        .xSleep = v_sleep,
        .xCurrentTime = v_time,
        .xGetLastError = v_error,
        .xCurrentTimeInt64 = v_time64,
    };

    if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
        abort();
}
