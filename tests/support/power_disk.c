#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/power_inside.h"

void *exj_power_need(void *p)
{
    if (!p) {
        fprintf(stderr, "power_vfs: out of memory\n");
        abort();
    }
    return p;
}

uint64_t exj_power_draw(exj_power *p, uint64_t below)
{
    uint64_t z = p->random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return below ? z % below : z;
}

/* ---- files
 * ---------------------------------------------------------------------------------- */

void exj_power_let_go(struct inode *n)
{
    if (!n || --n->refs)
        return;
    free(n->data);
    free(n->todo);
    free(n->at);
    free(n);
}

struct name *exj_power_find(exj_power *p, const char *path)
{
    for (int i = 0; i < EXJ_POWER_FILES; i++)
        if (p->names[i].path && strcmp(p->names[i].path, path) == 0)
            return &p->names[i];
    return NULL;
}

struct name *exj_power_find_or_add(exj_power *p, const char *path)
{
    struct name *n = exj_power_find(p, path);

    for (int i = 0; i < EXJ_POWER_FILES && !n; i++)
        if (!p->names[i].path) {
            n = &p->names[i];
            n->path = exj_power_need(strdup(path));
        }
    if (!n) {
        fprintf(stderr, "power_vfs: more than %d files\n", EXJ_POWER_FILES);
        abort();
    }
    return n;
}

void exj_power_forget_name(struct name *n)
{
    if (n->now || n->synced)
        return;
    free(n->path);
    n->path = NULL;
}

void exj_power_point(struct inode **at, struct inode *to)
{
    if (to)
        to->refs++;
    exj_power_let_go(*at);
    *at = to;
}

static void reserve(struct inode *n, int64_t size)
{
    int64_t cap = n->cap ? n->cap : 8192;

    if (size <= n->cap)
        return;
    while (cap < size)
        cap *= 2;
    n->data = exj_power_need(realloc(n->data, (size_t)cap));
    memset(n->data + n->cap, 0, (size_t)(cap - n->cap));
    n->cap = cap;
}

/* Before bytes [lo, hi) of a sector change. */
static void keep_sector(exj_power *p, struct inode *n, int64_t sector, int lo, int hi)
{
    struct unsynced *u;

    reserve(n, (sector + 1) * EXJ_POWER_SECTOR);
    if (sector >= n->at_len) {
        int64_t more = n->cap / EXJ_POWER_SECTOR;

        n->at = exj_power_need(realloc(n->at, (size_t)more * sizeof(*n->at)));
        memset(n->at + n->at_len, 0, (size_t)(more - n->at_len) * sizeof(*n->at));
        n->at_len = more;
    }
    if (n->at[sector]) {
        u = &n->todo[n->at[sector] - 1];
        u->lo = lo < u->lo ? lo : u->lo;
        u->hi = hi > u->hi ? hi : u->hi;
        /* The system may have written it out between the two writes. */
        if (exj_power_draw(p, 2))
            memcpy(u->was, n->data + sector * EXJ_POWER_SECTOR, EXJ_POWER_SECTOR);
        return;
    }
    if (n->todo_len == n->todo_cap) {
        n->todo_cap = n->todo_cap ? n->todo_cap * 2 : 64;
        n->todo =
            exj_power_need(realloc(n->todo, (size_t)n->todo_cap * sizeof(*n->todo)));
    }
    u = &n->todo[n->todo_len++];
    *u = (struct unsynced){ .sector = sector, .lo = lo, .hi = hi };
    memcpy(u->was, n->data + sector * EXJ_POWER_SECTOR, EXJ_POWER_SECTOR);
    n->at[sector] = (int32_t)n->todo_len;
}

static void keep_range(exj_power *p, struct inode *n, int64_t from, int64_t to)
{
    for (int64_t s = from / EXJ_POWER_SECTOR; s * EXJ_POWER_SECTOR < to; s++)
        keep_sector(p, n, s,
                    (int)(from > s * EXJ_POWER_SECTOR ? from - s * EXJ_POWER_SECTOR : 0),
                    (int)(to < (s + 1) * EXJ_POWER_SECTOR ? to - s * EXJ_POWER_SECTOR
                                                          : EXJ_POWER_SECTOR));
}

void exj_power_write_bytes(exj_power *p, struct inode *n, const void *bytes, int64_t at,
                           int64_t len)
{
    if (!len)
        return;
    keep_range(p, n, at, at + len);
    memcpy(n->data + at, bytes, (size_t)len);
    if (at + len > n->size)
        n->size = at + len;
}

void exj_power_set_size(exj_power *p, struct inode *n, int64_t size)
{
    if (size < n->size) {
        keep_range(p, n, size, n->size);
        memset(n->data + size, 0, (size_t)(n->size - size));
    } else {
        reserve(n, size);
    }
    n->size = size;
}

void exj_power_sync_bytes(struct inode *n)
{
    for (int64_t i = 0; i < n->todo_len; i++)
        n->at[n->todo[i].sector] = 0;
    n->todo_len = 0;
    n->synced_size = n->size;
}

void exj_power_sync_folder(exj_power *p, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + 1 : 0;

    for (int i = 0; i < EXJ_POWER_FILES; i++) {
        struct name *n = &p->names[i];

        if (!n->path || strncmp(n->path, path, len) != 0 || strchr(n->path + len, '/'))
            continue;
        exj_power_point(&n->synced, n->now);
        exj_power_forget_name(n);
    }
}

/* ---- the cut
 * --------------------------------------------------------------------------------- */

static void leave_sector(exj_power *p, struct inode *n, const struct unsynced *u,
                         unsigned keep)
{
    unsigned char *now = n->data + u->sector * EXJ_POWER_SECTOR;
    int cut = u->lo + (int)exj_power_draw(p, (uint64_t)(u->hi - u->lo) + 1);

    if (exj_power_draw(p, 100) < keep) {
        p->tally.kept++;
        return;
    }
    if (exj_power_draw(p, 4)) {
        memcpy(now, u->was, EXJ_POWER_SECTOR);
        p->tally.dropped++;
        return;
    }
    switch (exj_power_draw(p, 3)) {
    case 0: /* the beginning was written */
        memcpy(now + cut, u->was + cut, (size_t)(EXJ_POWER_SECTOR - cut));
        break;
    case 1: /* the end was */
        memcpy(now, u->was, (size_t)cut);
        break;
    default:
        for (int i = u->lo; i < u->hi; i++)
            now[i] = (unsigned char)exj_power_draw(p, 256);
        break;
    }
    p->tally.torn++;
}

static void leave_file(exj_power *p, struct inode *n, unsigned keep)
{
    int64_t wanted = n->size;

    reserve(n, n->synced_size);
    for (int64_t i = 0; i < n->todo_len; i++)
        leave_sector(p, n, &n->todo[i], keep);
    if (n->size != n->synced_size && exj_power_draw(p, 100) >= keep) {
        int64_t low = n->size < n->synced_size ? n->size : n->synced_size;
        int64_t high = n->size + n->synced_size - low;

        n->size = exj_power_draw(p, 2)
                      ? n->synced_size
                      : low + (int64_t)exj_power_draw(p, (uint64_t)(high - low) + 1);
        if (exj_power_draw(p, 2)) /* lengths mostly grow by blocks */
            n->size = n->size / EXJ_POWER_SECTOR * EXJ_POWER_SECTOR;
        n->size = n->size < low ? low : n->size;
        p->tally.lengths += n->size != wanted;
    }
    if (n->size < n->cap)
        memset(n->data + n->size, 0, (size_t)(n->cap - n->size));
    exj_power_sync_bytes(n);
}

static void cut(exj_power *p)
{
    static const unsigned keeps[] = { 0, 10, 50, 50, 90, 100 };
    unsigned keep = keeps[exj_power_draw(p, sizeof(keeps) / sizeof(*keeps))];
    exj_power_tally before = p->tally;
    bool any = false;

    for (int i = 0; i < EXJ_POWER_FILES; i++) {
        struct name *n = &p->names[i];

        if (!n->path)
            continue;
        any = any || n->now != n->synced;
        if (n->now != n->synced && exj_power_draw(p, 100) >= keep) {
            exj_power_point(&n->now, n->synced);
            p->tally.names++;
        }
        exj_power_point(&n->synced, n->now);
        if (n->now && (n->now->todo_len || n->now->size != n->now->synced_size)) {
            any = true;
            leave_file(p, n->now, keep);
        }
        exj_power_forget_name(n);
    }
    p->tally.cuts = before.cuts + 1;
    p->tally.empty += !any;
    p->off = true;
    p->era++;
}

/* Is it this call that fails? Counts it. [mu] */
bool exj_power_fails(exj_power *p, unsigned call)
{
    if (!(p->fail_calls & call))
        return false;
    p->fail_seen++;
    return p->fail_on ? p->fail_seen >= p->fail_nth : p->fail_seen == p->fail_nth;
}

/* A call that changes the disk: is there power for it? [mu] */
bool exj_power_may_change(exj_power *p, unsigned call)
{
    if (p->off)
        return false;
    if (p->left != EXJ_POWER_NEVER && p->left)
        p->left--;
    else if (p->left != EXJ_POWER_NEVER && (!p->at_sync || call == EXJ_POWER_SYNC)) {
        p->left = EXJ_POWER_NEVER;
        cut(p);
        return false;
    }
    p->changes++;
    return true;
}

/* ---- for tests
 * ------------------------------------------------------------------------------- */

exj_power *exj_power_new(const char *vfs, bool as_default, uint64_t seed)
{
    exj_power *p = exj_power_need(calloc(1, sizeof(*p)));

    p->random = seed;
    p->left = EXJ_POWER_NEVER;
    pthread_mutex_init(&p->mu, NULL);
    exj_power_methods(p);
    p->vfs.zName = exj_power_need(strdup(vfs));
    if (sqlite3_vfs_register(&p->vfs, as_default) != SQLITE_OK) {
        fprintf(stderr, "power_vfs: SQLite does not take the VFS %s\n", vfs);
        abort();
    }
    return p;
}

static void must_be_closed(const exj_power *p, const char *what)
{
    if (!p->open)
        return;
    fprintf(stderr, "power_vfs: %s with %d files open; close the store first\n", what,
            p->open);
    abort();
}

static void wipe(exj_power *p)
{
    for (int i = 0; i < EXJ_POWER_FILES; i++) {
        struct name *n = &p->names[i];

        if (!n->path)
            continue;
        exj_power_point(&n->now, NULL);
        exj_power_point(&n->synced, NULL);
        exj_power_forget_name(n);
    }
}

void exj_power_free(exj_power *p)
{
    if (!p)
        return;
    must_be_closed(p, "free");
    sqlite3_vfs_unregister(&p->vfs);
    wipe(p);
    pthread_mutex_destroy(&p->mu);
    free((void *)(uintptr_t)p->vfs.zName);
    free(p);
}

void exj_power_cut_after(exj_power *p, uint64_t changes)
{
    pthread_mutex_lock(&p->mu);
    p->left = changes;
    p->at_sync = false;
    pthread_mutex_unlock(&p->mu);
}

void exj_power_cut_at_sync_after(exj_power *p, uint64_t changes)
{
    pthread_mutex_lock(&p->mu);
    p->left = changes;
    p->at_sync = true;
    pthread_mutex_unlock(&p->mu);
}

void exj_power_cut(exj_power *p)
{
    pthread_mutex_lock(&p->mu);
    p->left = EXJ_POWER_NEVER;
    if (!p->off)
        cut(p);
    pthread_mutex_unlock(&p->mu);
}

bool exj_power_change(exj_power *p, bool sync)
{
    bool may;

    pthread_mutex_lock(&p->mu);
    may = exj_power_may_change(p, sync ? EXJ_POWER_SYNC : EXJ_POWER_WRITE);
    pthread_mutex_unlock(&p->mu);
    return may;
}

bool exj_power_is_off(exj_power *p)
{
    bool off;

    pthread_mutex_lock(&p->mu);
    off = p->off;
    pthread_mutex_unlock(&p->mu);
    return off;
}

uint64_t exj_power_changes(exj_power *p)
{
    uint64_t n;

    pthread_mutex_lock(&p->mu);
    n = p->changes;
    pthread_mutex_unlock(&p->mu);
    return n;
}

void exj_power_on(exj_power *p)
{
    pthread_mutex_lock(&p->mu);
    must_be_closed(p, "power on");
    p->off = false;
    pthread_mutex_unlock(&p->mu);
}

exj_power_tally exj_power_tell(exj_power *p)
{
    exj_power_tally t;

    pthread_mutex_lock(&p->mu);
    t = p->tally;
    pthread_mutex_unlock(&p->mu);
    return t;
}

void exj_power_fail(exj_power *p, unsigned calls, uint64_t nth, bool from_then_on,
                    exj_power_how how)
{
    pthread_mutex_lock(&p->mu);
    p->fail_calls = calls;
    p->fail_nth = nth;
    p->fail_seen = 0;
    p->fail_on = from_then_on;
    p->fail_how = how;
    pthread_mutex_unlock(&p->mu);
}

uint64_t exj_power_heal(exj_power *p)
{
    uint64_t seen;

    pthread_mutex_lock(&p->mu);
    p->fail_calls = 0;
    seen = p->fail_seen;
    pthread_mutex_unlock(&p->mu);
    return seen;
}

void exj_power_wipe(exj_power *p)
{
    pthread_mutex_lock(&p->mu);
    must_be_closed(p, "wipe");
    wipe(p);
    p->off = false;
    pthread_mutex_unlock(&p->mu);
}

/* ---- bytes
 * ----------------------------------------------------------------------------------- */

struct picture {
    char *path;
    unsigned char *bytes;
    size_t n;
};

struct exj_power_image {
    struct picture files[EXJ_POWER_FILES];
    int len;
};

static void put(exj_power *p, const char *path, const void *bytes, size_t n)
{
    struct inode *node = exj_power_need(calloc(1, sizeof(*node)));
    struct name *name = exj_power_find_or_add(p, path);

    reserve(node, (int64_t)n);
    if (n)
        memcpy(node->data, bytes, n);
    node->size = node->synced_size = (int64_t)n;
    exj_power_point(&name->now, node);
    exj_power_point(&name->synced, node);
}

exj_power_image *exj_power_save(exj_power *p)
{
    exj_power_image *image = exj_power_need(calloc(1, sizeof(*image)));

    pthread_mutex_lock(&p->mu);
    for (int i = 0; i < EXJ_POWER_FILES; i++) {
        const struct name *n = &p->names[i];
        struct picture *f = &image->files[image->len];

        if (!n->path || !n->now)
            continue;
        f->path = exj_power_need(strdup(n->path));
        f->n = (size_t)n->now->size;
        f->bytes = exj_power_need(malloc(f->n + 1));
        memcpy(f->bytes, n->now->data, f->n);
        image->len++;
    }
    pthread_mutex_unlock(&p->mu);
    return image;
}

void exj_power_load(exj_power *p, const exj_power_image *image)
{
    pthread_mutex_lock(&p->mu);
    must_be_closed(p, "load");
    wipe(p);
    p->off = false;
    for (int i = 0; i < image->len; i++)
        put(p, image->files[i].path, image->files[i].bytes, image->files[i].n);
    pthread_mutex_unlock(&p->mu);
}

void exj_power_image_free(exj_power_image *image)
{
    for (int i = 0; image && i < image->len; i++) {
        free(image->files[i].path);
        free(image->files[i].bytes);
    }
    free(image);
}

unsigned char *exj_power_get(exj_power *p, const char *path, size_t *ret_n)
{
    unsigned char *copy = NULL;
    struct name *n;

    pthread_mutex_lock(&p->mu);
    n = exj_power_find(p, path);
    if (n && n->now) {
        *ret_n = (size_t)n->now->size;
        copy = exj_power_need(malloc(*ret_n + 1));
        if (*ret_n)
            memcpy(copy, n->now->data, *ret_n);
    }
    pthread_mutex_unlock(&p->mu);
    return copy;
}

void exj_power_put(exj_power *p, const char *path, const void *bytes, size_t n)
{
    pthread_mutex_lock(&p->mu);
    must_be_closed(p, "put");
    put(p, path, bytes, n);
    pthread_mutex_unlock(&p->mu);
}
