#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/power_inside.h"

static bool is_dead(const struct handle *h)
{
    return h->disk->off || h->era != h->disk->era;
}

/* ---- methods of files
 * ----------------------------------------------------------------------- */

static void drop_shm(struct handle *h)
{
    struct shm *m = h->shm;

    if (!m)
        return;
    h->shm = NULL;
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        if (h->shm_mine & 1u << i)
            m->writer[i] = false;
        if (h->shm_shared & 1u << i)
            m->readers[i]--;
    }
    h->shm_mine = h->shm_shared = 0;
    if (--m->users)
        return;
    if (h->node->shm == m)
        h->node->shm = NULL;
    for (int i = 0; i < EXJ_POWER_REGIONS; i++)
        free(m->region[i]);
    free(m);
}

static void unlock_to(struct handle *h, int level)
{
    struct inode *n = h->node;

    if (level >= h->lock)
        return;
    if (n->exclusive == h && level < SQLITE_LOCK_EXCLUSIVE)
        n->exclusive = NULL;
    if (n->reserved == h && level < SQLITE_LOCK_RESERVED)
        n->reserved = NULL;
    if (level == SQLITE_LOCK_NONE && h->lock > SQLITE_LOCK_NONE)
        n->shared--;
    h->lock = level;
}

static int f_close(sqlite3_file *file)
{
    struct handle *h = (struct handle *)file;
    exj_power *p = h->disk;

    pthread_mutex_lock(&p->mu);
    drop_shm(h);
    unlock_to(h, SQLITE_LOCK_NONE);
    if (h->delete_on_close && h->path && !is_dead(h)) {
        struct name *n = exj_power_find(p, h->path);

        if (n) {
            exj_power_point(&n->now, NULL);
            exj_power_forget_name(n);
        }
    }
    exj_power_let_go(h->node);
    p->open--;
    pthread_mutex_unlock(&p->mu);
    free(h->path);
    return SQLITE_OK;
}

static int f_read(sqlite3_file *file, void *to, int len, sqlite3_int64 at)
{
    struct handle *h = (struct handle *)file;
    int rc = SQLITE_OK;
    int64_t there;

    pthread_mutex_lock(&h->disk->mu);
    if (is_dead(h) || exj_power_fails(h->disk, EXJ_POWER_READ)) {
        rc = SQLITE_IOERR_READ;
    } else {
        there = h->node->size - at;
        there = there < 0 ? 0 : there > len ? len : there;
        if (there)
            memcpy(to, h->node->data + at, (size_t)there);
        if (there < len) {
            memset((char *)to + there, 0, (size_t)(len - there));
            rc = SQLITE_IOERR_SHORT_READ;
        }
    }
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

static int f_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    struct handle *h = (struct handle *)file;
    exj_power *p = h->disk;
    int rc = SQLITE_OK;

    pthread_mutex_lock(&p->mu);
    if (is_dead(h) || !exj_power_may_change(p, EXJ_POWER_WRITE)) {
        rc = SQLITE_IOERR_WRITE;
    } else if (exj_power_fails(p, EXJ_POWER_WRITE)) {
        rc = p->fail_how == EXJ_POWER_IOERR ? SQLITE_IOERR_WRITE : SQLITE_FULL;
        if (p->fail_how == EXJ_POWER_SHORT)
            exj_power_write_bytes(p, h->node, bytes, at, len / 2);
    } else {
        exj_power_write_bytes(p, h->node, bytes, at, len);
    }
    pthread_mutex_unlock(&p->mu);
    return rc;
}

static int f_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct handle *h = (struct handle *)file;
    int rc = SQLITE_OK;

    pthread_mutex_lock(&h->disk->mu);
    if (is_dead(h) || !exj_power_may_change(h->disk, EXJ_POWER_TRUNCATE) ||
        exj_power_fails(h->disk, EXJ_POWER_TRUNCATE))
        rc = SQLITE_IOERR_TRUNCATE;
    else
        exj_power_set_size(h->disk, h->node, size);
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

static int f_sync(sqlite3_file *file, int flags)
{
    struct handle *h = (struct handle *)file;
    int rc = SQLITE_OK;

    (void)flags;
    pthread_mutex_lock(&h->disk->mu);
    if (is_dead(h) || !exj_power_may_change(h->disk, EXJ_POWER_SYNC) ||
        exj_power_fails(h->disk, EXJ_POWER_SYNC)) {
        rc = SQLITE_IOERR_FSYNC;
    } else {
        exj_power_sync_bytes(h->node);
        if (h->sync_folder && h->path)
            exj_power_sync_folder(h->disk, h->path);
        h->sync_folder = false;
    }
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

static int f_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    struct handle *h = (struct handle *)file;
    int rc = SQLITE_OK;

    pthread_mutex_lock(&h->disk->mu);
    if (is_dead(h) || exj_power_fails(h->disk, EXJ_POWER_SIZE))
        rc = SQLITE_IOERR_FSTAT;
    else
        *ret = h->node->size;
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

/* PENDING is passed through on the way to EXCLUSIVE, which keeps new readers out. */
static int lock_to(struct handle *h, int level)
{
    struct inode *n = h->node;

    if (h->lock >= level)
        return SQLITE_OK;
    if (h->lock == SQLITE_LOCK_NONE) {
        if (n->exclusive)
            return SQLITE_BUSY;
        n->shared++;
        h->lock = SQLITE_LOCK_SHARED;
        if (level == SQLITE_LOCK_SHARED)
            return SQLITE_OK;
    }
    if ((n->reserved && n->reserved != h) || (n->exclusive && n->exclusive != h))
        return SQLITE_BUSY;
    n->reserved = h;
    if (level == SQLITE_LOCK_RESERVED) {
        h->lock = level;
        return SQLITE_OK;
    }
    n->exclusive = h;
    h->lock = n->shared > 1 ? SQLITE_LOCK_PENDING : SQLITE_LOCK_EXCLUSIVE;
    return n->shared > 1 ? SQLITE_BUSY : SQLITE_OK;
}

static int f_lock(sqlite3_file *file, int level)
{
    struct handle *h = (struct handle *)file;
    int rc;

    pthread_mutex_lock(&h->disk->mu);
    rc = is_dead(h) || exj_power_fails(h->disk, EXJ_POWER_LOCK) ? SQLITE_IOERR_LOCK
                                                                : lock_to(h, level);
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

static int f_unlock(sqlite3_file *file, int level)
{
    struct handle *h = (struct handle *)file;

    pthread_mutex_lock(&h->disk->mu);
    unlock_to(h, level);
    pthread_mutex_unlock(&h->disk->mu);
    return SQLITE_OK;
}

static int f_reserved(sqlite3_file *file, int *ret)
{
    struct handle *h = (struct handle *)file;

    pthread_mutex_lock(&h->disk->mu);
    *ret = h->node->reserved != NULL;
    pthread_mutex_unlock(&h->disk->mu);
    return SQLITE_OK;
}

static int f_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int f_sector_size(sqlite3_file *file)
{
    (void)file;
    return EXJ_POWER_SECTOR;
}

static int f_traits(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int f_shm_map(sqlite3_file *file, int region, int size, int extend,
                     void volatile **ret)
{
    struct handle *h = (struct handle *)file;
    int rc = SQLITE_OK;

    *ret = NULL;
    pthread_mutex_lock(&h->disk->mu);
    if (is_dead(h) || exj_power_fails(h->disk, EXJ_POWER_MAP) ||
        region >= EXJ_POWER_REGIONS) {
        rc = SQLITE_IOERR_SHMMAP;
    } else {
        if (!h->shm) {
            if (!h->node->shm)
                h->node->shm = exj_power_need(calloc(1, sizeof(*h->node->shm)));
            h->shm = h->node->shm;
            h->shm->users++;
        }
        if (!h->shm->region[region] && extend)
            h->shm->region[region] = exj_power_need(calloc(1, (size_t)size));
        *ret = h->shm->region[region];
    }
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

/* All of them or none; `mask` are the locks asked for. */
static int shm_take(struct handle *h, unsigned mask, bool alone)
{
    struct shm *m = h->shm;

    for (int i = 0; i < SQLITE_SHM_NLOCK; i++)
        if (mask & 1u << i && ((m->writer[i] && !(h->shm_mine & 1u << i)) ||
                               (alone && m->readers[i] > (int)(h->shm_shared >> i & 1))))
            return SQLITE_BUSY;
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        if (!(mask & 1u << i))
            continue;
        if (alone)
            m->writer[i] = true;
        else if (!(h->shm_shared & 1u << i))
            m->readers[i]++;
    }
    if (alone)
        h->shm_mine |= mask;
    else
        h->shm_shared |= mask;
    return SQLITE_OK;
}

static void shm_release(struct handle *h, unsigned mask)
{
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        if (mask & h->shm_mine & 1u << i)
            h->shm->writer[i] = false;
        if (mask & h->shm_shared & 1u << i)
            h->shm->readers[i]--;
    }
    h->shm_mine &= ~mask;
    h->shm_shared &= ~mask;
}

static int f_shm_lock(sqlite3_file *file, int first, int n, int flags)
{
    struct handle *h = (struct handle *)file;
    unsigned mask = (1u << (first + n)) - (1u << first);
    int rc = SQLITE_OK;

    pthread_mutex_lock(&h->disk->mu);
    if (flags & SQLITE_SHM_UNLOCK) {
        if (h->shm)
            shm_release(h, mask);
    } else if (is_dead(h) || !h->shm || exj_power_fails(h->disk, EXJ_POWER_LOCK)) {
        rc = SQLITE_IOERR_SHMLOCK;
    } else {
        rc = shm_take(h, mask, (flags & SQLITE_SHM_EXCLUSIVE) != 0);
    }
    pthread_mutex_unlock(&h->disk->mu);
    return rc;
}

static void f_shm_barrier(sqlite3_file *file)
{
    struct handle *h = (struct handle *)file;

    /* The lock also tells thread checkers what SQLite's barrier means. */
    pthread_mutex_lock(&h->disk->mu);
    pthread_mutex_unlock(&h->disk->mu);
}

static int f_shm_unmap(sqlite3_file *file, int delete_it)
{
    struct handle *h = (struct handle *)file;

    (void)delete_it; /* it goes with its last user */
    pthread_mutex_lock(&h->disk->mu);
    drop_shm(h);
    pthread_mutex_unlock(&h->disk->mu);
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector_size,
    .xDeviceCharacteristics = f_traits,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

/* ---- methods of the disk
 * --------------------------------------------------------------------- */

/* The file of `path`, made if it may be. NULL: why is in *ret_rc. [mu] */
static struct inode *open_node(exj_power *p, const char *path, int flags, bool *ret_made,
                               int *ret_rc)
{
    struct name *n = path ? exj_power_find(p, path) : NULL;
    struct inode *node;

    *ret_rc = SQLITE_CANTOPEN;
    if (p->off || exj_power_fails(p, EXJ_POWER_OPEN))
        return NULL;
    if (n && n->now) {
        n->now->refs++;
        return n->now;
    }
    if (path &&
        (!(flags & SQLITE_OPEN_CREATE) || !exj_power_may_change(p, EXJ_POWER_OPEN)))
        return NULL;
    node = exj_power_need(calloc(1, sizeof(*node)));
    node->refs = 1;
    if (path)
        exj_power_point(&exj_power_find_or_add(p, path)->now, node);
    *ret_made = true;
    return node;
}

static int v_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags,
                  int *ret_flags)
{
    exj_power *p = vfs->pAppData;
    struct handle *h = (struct handle *)file;
    bool made = false;
    int rc;

    memset(h, 0, sizeof(*h));
    pthread_mutex_lock(&p->mu);
    h->node = open_node(p, path, flags, &made, &rc);
    if (h->node) {
        h->base.pMethods = &methods;
        h->disk = p;
        h->era = p->era;
        h->path = path ? exj_power_need(strdup(path)) : NULL;
        h->delete_on_close = flags & SQLITE_OPEN_DELETEONCLOSE;
        h->sync_folder = made && flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL |
                                          SQLITE_OPEN_SUPER_JOURNAL);
        p->open++;
        rc = SQLITE_OK;
        if (ret_flags)
            *ret_flags = flags;
    }
    pthread_mutex_unlock(&p->mu);
    return rc;
}

static int v_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    exj_power *p = vfs->pAppData;
    int rc = SQLITE_OK;
    struct name *n;

    pthread_mutex_lock(&p->mu);
    n = exj_power_find(p, path);
    if (p->off)
        rc = SQLITE_IOERR_DELETE;
    else if (!n || !n->now)
        rc = SQLITE_IOERR_DELETE_NOENT;
    else if (!exj_power_may_change(p, EXJ_POWER_DELETE) ||
             exj_power_fails(p, EXJ_POWER_DELETE))
        rc = SQLITE_IOERR_DELETE;
    if (rc == SQLITE_OK) {
        exj_power_point(&n->now, NULL);
        if (sync)
            exj_power_sync_folder(p, path);
        else
            exj_power_forget_name(n);
    }
    pthread_mutex_unlock(&p->mu);
    return rc;
}

static int v_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret)
{
    exj_power *p = vfs->pAppData;
    struct name *n;
    int rc = SQLITE_OK;

    (void)flags;
    pthread_mutex_lock(&p->mu);
    n = exj_power_find(p, path);
    /* As with SQLite's own VFS, a file without bytes counts as none. */
    *ret = n && n->now && (flags != SQLITE_ACCESS_EXISTS || n->now->size > 0);
    if (p->off || exj_power_fails(p, EXJ_POWER_ACCESS))
        rc = SQLITE_IOERR_ACCESS;
    pthread_mutex_unlock(&p->mu);
    return rc;
}

static int v_full_path(sqlite3_vfs *vfs, const char *path, int cap, char *ret)
{
    (void)vfs;
    return snprintf(ret, (size_t)cap, "%s", path) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int v_randomness(sqlite3_vfs *vfs, int n, char *ret)
{
    exj_power *p = vfs->pAppData;

    pthread_mutex_lock(&p->mu);
    for (int i = 0; i < n; i++)
        ret[i] = (char)exj_power_draw(p, 256);
    pthread_mutex_unlock(&p->mu);
    return n;
}

static int v_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return us;
}

static int v_time64(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
    struct timespec t;

    (void)vfs;
    clock_gettime(CLOCK_REALTIME, &t);
    *ret = 210866760000000 + (sqlite3_int64)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    return SQLITE_OK;
}

static int v_time(sqlite3_vfs *vfs, double *ret)
{
    sqlite3_int64 ms;

    v_time64(vfs, &ms);
    *ret = (double)ms / 86400000.0;
    return SQLITE_OK;
}

static int v_last_error(sqlite3_vfs *vfs, int n, char *ret)
{
    (void)vfs;
    (void)n;
    (void)ret;
    return 0;
}

void exj_power_methods(exj_power *p)
{
    p->vfs = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct handle),
        .mxPathname = 4096,
        .pAppData = p,
        .xOpen = v_open,
        .xDelete = v_delete,
        .xAccess = v_access,
        .xFullPathname = v_full_path,
        .xRandomness = v_randomness,
        .xSleep = v_sleep,
        .xCurrentTime = v_time,
        .xCurrentTimeInt64 = v_time64,
        .xGetLastError = v_last_error,
    };
}
