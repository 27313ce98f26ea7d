/* examples/audit/dpkg_db.h - dpkg's database, read without dpkg.
 *
 * What is read of an administration directory (usually /var/lib/dpkg):
 *   status, updates/NNNN   one paragraph a package; updates not yet merged come after
 *   diversions             three lines each: contested path, path used instead, package
 *   info/format            "1": packages that are Multi-Arch: same keep their files under
 *                          info/NAME:ARCH.*; without it every name is info/NAME.*
 * A snapshot never changes once it is built. A cache builds one again when a file it came
 * from has changed, so thousands of rows cost one reading.
 *
 * Memory:  a snapshot owns all its texts; let go of it with dpkg_db_unref.
 * Threads: dpkg_cache_get and dpkg_db_unref from any thread.
 */
#ifndef AUDIT_DPKG_DB_H
#define AUDIT_DPKG_DB_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct db_package {
    const char *name, *architecture, *version; /* "" when there is none */
    const char *status;                        /* last word: "installed", "config-files" */
    char *conffiles;                           /* the field as written, or NULL */
    bool same;                                 /* Multi-Arch: same */
    size_t order;                              /* the later paragraph wins */
};

struct db_diversion {
    const char *from, *to; /* without the first slash */
    const char *package;   /* ":" when the administrator diverted it */
};

struct db_stamp {
    struct timespec changed[4];
    ino_t inode[4];
    off_t bytes[4];
};

struct dpkg_db {
    atomic_uint refs;
    char *admin_dir;
    struct db_stamp stamp;
    bool multiarch_names; /* info/format is 1 */
    char **texts;         /* what everything below points into */
    size_t texts_len;
    struct db_package *packages; /* by name, then architecture */
    size_t packages_len, packages_cap;
    struct db_diversion *diversions; /* by from */
    size_t diversions_len;
};

struct db_error {
    int number; /* errno, or 0: the content is wrong */
    char text[512];
};

#define DPKG_CACHE_SLOTS 8
struct dpkg_cache {
    pthread_mutex_t mu;
    struct dpkg_db *slots[DPKG_CACHE_SLOTS]; /* guarded by mu */
    size_t next;                             /* guarded by mu: the slot to give up */
};

static inline bool db_fail(struct db_error *e, int number, const char *what,
                           const char *path)
{
    const char *reason = number ? strerrordesc_np(number) : NULL;

    e->number = number;
    snprintf(e->text, sizeof(e->text), "%s %.300s%s%s", what, path, reason ? ": " : "",
             reason ? reason : "");
    return false;
}

/* What path_skip_slash_dotslash of dpkg does: names in its files begin with "/", "./" or
 * neither. */
static inline char *db_bare_path(char *path)
{
    while (path[0] == '/' || (path[0] == '.' && path[1] == '/'))
        path++;
    return path;
}

/* The whole file, NUL-terminated and malloc'ed. False with errno set. */
static inline bool db_slurp(const char *path, char **ret, size_t *ret_bytes)
{
    struct stat st;
    char *p = NULL, *bigger;
    size_t n = 0, cap;
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC), saved;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) < 0)
        goto fail;
    cap = (st.st_size > 0 ? (size_t)st.st_size : 0) + 4096;
    p = malloc(cap + 2);
    if (!p)
        goto fail;
    while ((got = read(fd, p + n, cap - n)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            goto fail;
        n += (size_t)got;
        if (n == cap) {
            cap *= 2;
            bigger = realloc(p, cap + 2);
            if (!bigger)
                goto fail;
            p = bigger;
        }
    }
    p[n] = '\0';
    close(fd);
    *ret = p;
    *ret_bytes = n;
    return true;
fail:
    saved = errno;
    free(p);
    close(fd);
    errno = saved;
    return false;
}

static inline void dpkg_db_unref(struct dpkg_db *db)
{
    size_t i;

    if (!db || atomic_fetch_sub(&db->refs, 1) != 1)
        return;
    for (i = 0; i < db->texts_len; i++)
        free(db->texts[i]);
    free(db->texts);
    free(db->packages);
    free(db->diversions);
    free(db->admin_dir);
    free(db);
}

static inline bool db_keep_text(struct dpkg_db *db, char *text)
{
    char **texts = realloc(db->texts, (db->texts_len + 1) * sizeof(*texts));

    if (!texts)
        return false;
    db->texts = texts;
    texts[db->texts_len++] = text;
    return true;
}

/* Status: "want flag state"; the state is the last word. */
static inline const char *db_last_word(const char *s)
{
    const char *blank = strrchr(s, ' ');

    return blank ? blank + 1 : s;
}

static inline bool db_add_package(struct dpkg_db *db, const struct db_package *p)
{
    struct db_package *list;
    size_t cap;

    if (db->packages_len == db->packages_cap) {
        cap = db->packages_cap ? db->packages_cap * 2 : 1024;
        list = realloc(db->packages, cap * sizeof(*list));
        if (!list)
            return false;
        db->packages = list;
        db->packages_cap = cap;
    }
    db->packages[db->packages_len] = *p;
    db->packages[db->packages_len].order = db->packages_len;
    db->packages_len++;
    return true;
}

/* Cut `text` into paragraphs and keep what is asked of each. Works in place. */
static inline bool db_read_paragraphs(struct dpkg_db *db, char *text)
{
    static const struct db_package none = { "", "", "", "not-installed", NULL, false, 0 };
    struct db_package p = none;
    char *line = text, *end, *value, *more;
    bool last = false;

    while (!last) {
        end = strchr(line, '\n');
        last = !end;
        if (!end)
            end = line + strlen(line);
        if (end == line) { /* between paragraphs, or at the end */
            if (p.name[0] && !db_add_package(db, &p))
                return false;
            p = none;
            line = last ? end : end + 1;
            continue;
        }
        /* The field goes on as long as lines begin with a blank. */
        more = end;
        while (*more == '\n' && (more[1] == ' ' || more[1] == '\t')) {
            more = strchr(more + 1, '\n');
            if (!more)
                more = line + strlen(line);
        }
        last = *more == '\0';
        *more = '\0';
        value = strchr(line, ':');
        if (value) {
            *value++ = '\0';
            if (strcasecmp(line, "Conffiles") == 0) {
                p.conffiles = value;
            } else {
                value += strspn(value, " \t");
                value[strcspn(value, "\n")] = '\0';
                if (strcasecmp(line, "Package") == 0)
                    p.name = value;
                else if (strcasecmp(line, "Architecture") == 0)
                    p.architecture = value;
                else if (strcasecmp(line, "Version") == 0)
                    p.version = value;
                else if (strcasecmp(line, "Status") == 0)
                    p.status = db_last_word(value);
                else if (strcasecmp(line, "Multi-Arch") == 0)
                    p.same = strcmp(value, "same") == 0;
            }
        }
        if (last && p.name[0] && !db_add_package(db, &p))
            return false;
        line = more + 1;
    }
    return true;
}

static inline int db_by_name(const void *a, const void *b)
{
    const struct db_package *x = a, *y = b;
    int d = strcmp(x->name, y->name);

    return d ? d : strcmp(x->architecture, y->architecture);
}

static inline int db_by_name_and_order(const void *a, const void *b)
{
    const struct db_package *x = a, *y = b;
    int d = db_by_name(a, b);

    return d ? d : x->order < y->order ? -1 : x->order > y->order;
}

static inline int db_by_from(const void *a, const void *b)
{
    return strcmp(((const struct db_diversion *)a)->from,
                  ((const struct db_diversion *)b)->from);
}

/* Later paragraphs replace earlier ones; what is not installed has no files. A name with a
 * slash is none, and would lead out of info/. */
static inline void db_settle(struct dpkg_db *db)
{
    struct db_package *p = db->packages;
    size_t i, n = 0;

    if (!p)
        return;
    qsort(p, db->packages_len, sizeof(*p), db_by_name_and_order);
    for (i = 0; i < db->packages_len; i++) {
        if (i + 1 < db->packages_len && db_by_name(&p[i], &p[i + 1]) == 0)
            continue;
        if (strcmp(p[i].status, "not-installed") != 0 && !strchr(p[i].name, '/') &&
            !strchr(p[i].architecture, '/'))
            p[n++] = p[i];
    }
    db->packages_len = n;
}

static inline bool db_path(const char *dir, const char *name, char *ret, size_t bytes)
{
    int n = snprintf(ret, bytes, "%s/%s", dir, name);

    return n > 0 && (size_t)n < bytes;
}

static inline int db_is_update(const struct dirent *d)
{
    return d->d_name[0] && strspn(d->d_name, "0123456789") == strlen(d->d_name);
}

static inline bool db_read_updates(struct dpkg_db *db, struct db_error *e)
{
    struct dirent **names = NULL;
    char dir[4096], path[4400], *text;
    bool ok = true;
    size_t bytes;
    int i, n;

    if (!db_path(db->admin_dir, "updates", dir, sizeof(dir)))
        return db_fail(e, ENAMETOOLONG, "cannot read", db->admin_dir);
    n = scandir(dir, &names, db_is_update, alphasort);
    for (i = 0; i < n; i++) {
        if (ok) {
            snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
            ok = db_slurp(path, &text, &bytes);
            if (!ok && errno == ENOENT) {
                ok = true; /* merged into status meanwhile */
            } else if (!ok) {
                db_fail(e, errno, "cannot read", path);
            } else if (!db_keep_text(db, text)) {
                free(text);
                ok = db_fail(e, ENOMEM, "cannot read", path);
            } else if (!db_read_paragraphs(db, text)) {
                ok = db_fail(e, ENOMEM, "cannot read", path);
            }
        }
        free(names[i]);
    }
    free(names);
    return ok;
}

static inline bool db_read_diversions(struct dpkg_db *db, struct db_error *e)
{
    char path[4096], *text, *p, *lines[3];
    size_t bytes, count = 0, i;

    if (!db_path(db->admin_dir, "diversions", path, sizeof(path)))
        return db_fail(e, ENAMETOOLONG, "cannot read", db->admin_dir);
    if (!db_slurp(path, &text, &bytes))
        return errno == ENOENT ? true : db_fail(e, errno, "cannot read", path);
    if (!db_keep_text(db, text)) {
        free(text);
        return db_fail(e, ENOMEM, "cannot read", path);
    }
    for (p = text; *p; p++)
        count += *p == '\n';
    if (count == 0)
        return true;
    db->diversions = calloc(count / 3 + 1, sizeof(*db->diversions));
    if (!db->diversions)
        return db_fail(e, ENOMEM, "cannot read", path);
    for (p = text; *p;) {
        for (i = 0; i < 3; i++) {
            lines[i] = p;
            p = strchr(p, '\n');
            if (!p)
                return db_fail(e, 0, "the last diversion is cut short:", path);
            *p++ = '\0';
        }
        db->diversions[db->diversions_len++] = (struct db_diversion){
            db_bare_path(lines[0]), db_bare_path(lines[1]), lines[2]
        };
    }
    qsort(db->diversions, db->diversions_len, sizeof(*db->diversions), db_by_from);
    return true;
}

/* Which files a snapshot comes from, and how they look now. */
static inline void db_stamp_take(const char *admin_dir, struct db_stamp *ret)
{
    static const char *const names[4] = { "status", "updates", "diversions", "info/format" };
    struct stat st;
    char path[4096];
    size_t i;

    memset(ret, 0, sizeof(*ret));
    for (i = 0; i < 4; i++) {
        if (!db_path(admin_dir, names[i], path, sizeof(path)) || stat(path, &st) < 0)
            continue;
        ret->changed[i] = st.st_mtim;
        ret->inode[i] = st.st_ino;
        ret->bytes[i] = st.st_size;
    }
}

static inline bool db_stamp_equal(const struct db_stamp *a, const struct db_stamp *b)
{
    size_t i;

    for (i = 0; i < 4; i++) {
        if (a->changed[i].tv_sec != b->changed[i].tv_sec ||
            a->changed[i].tv_nsec != b->changed[i].tv_nsec ||
            a->inode[i] != b->inode[i] || a->bytes[i] != b->bytes[i])
            return false;
    }
    return true;
}

static inline struct dpkg_db *dpkg_db_new(const char *admin_dir, const struct db_stamp *stamp,
                                          struct db_error *e)
{
    struct dpkg_db *db = calloc(1, sizeof(*db));
    char path[4096], *text;
    size_t bytes;

    if (!db || !(db->admin_dir = strdup(admin_dir))) {
        free(db);
        db_fail(e, ENOMEM, "cannot read", admin_dir);
        return NULL;
    }
    atomic_init(&db->refs, 1);
    db->stamp = *stamp;
    if (!db_path(admin_dir, "status", path, sizeof(path)) ||
        !db_slurp(path, &text, &bytes)) {
        db_fail(e, errno, "cannot read", path);
        goto fail;
    }
    if (!db_keep_text(db, text)) {
        free(text);
        goto nomem;
    }
    if (strlen(text) != bytes) {
        db_fail(e, 0, "there is a NUL byte in", path);
        goto fail;
    }
    if (!db_read_paragraphs(db, text))
        goto nomem;
    if (!db_read_updates(db, e) || !db_read_diversions(db, e))
        goto fail;
    db_settle(db);
    db_path(admin_dir, "info/format", path, sizeof(path));
    if (db_slurp(path, &text, &bytes)) {
        db->multiarch_names = atoi(text) == 1;
        free(text);
    }
    return db;
nomem:
    db_fail(e, ENOMEM, "cannot read", path);
fail:
    dpkg_db_unref(db);
    return NULL;
}

static inline void dpkg_cache_init(struct dpkg_cache *c)
{
    memset(c, 0, sizeof(*c));
    pthread_mutex_init(&c->mu, NULL);
}

static inline void dpkg_cache_release(struct dpkg_cache *c)
{
    size_t i;

    for (i = 0; i < DPKG_CACHE_SLOTS; i++)
        dpkg_db_unref(c->slots[i]);
    pthread_mutex_destroy(&c->mu);
}

/* The database as it is now; one reference is the caller's. NULL with *e filled. The lock
 * is held while a snapshot is built: whoever else asks would only build the same one. */
static inline struct dpkg_db *dpkg_cache_get(struct dpkg_cache *c, const char *admin_dir,
                                             struct db_error *e)
{
    struct db_stamp now;
    struct dpkg_db *db = NULL;
    size_t i, slot = DPKG_CACHE_SLOTS;

    pthread_mutex_lock(&c->mu);
    /* Taken before reading: what changes while we read is seen at the next call. */
    db_stamp_take(admin_dir, &now);
    for (i = 0; i < DPKG_CACHE_SLOTS; i++) {
        if (c->slots[i] && strcmp(c->slots[i]->admin_dir, admin_dir) == 0)
            slot = i;
    }
    if (slot < DPKG_CACHE_SLOTS && db_stamp_equal(&c->slots[slot]->stamp, &now)) {
        db = c->slots[slot];
        atomic_fetch_add(&db->refs, 1);
    } else {
        db = dpkg_db_new(admin_dir, &now, e);
        if (db) {
            if (slot == DPKG_CACHE_SLOTS)
                slot = c->next++ % DPKG_CACHE_SLOTS;
            dpkg_db_unref(c->slots[slot]);
            c->slots[slot] = db;
            atomic_fetch_add(&db->refs, 1);
        }
    }
    pthread_mutex_unlock(&c->mu);
    return db;
}

/* NULL: no such package. */
static inline const struct db_package *dpkg_db_find(const struct dpkg_db *db,
                                                    const char *name,
                                                    const char *architecture)
{
    struct db_package key = { .name = name, .architecture = architecture };

    return db->packages_len ? bsearch(&key, db->packages, db->packages_len, sizeof(key),
                                      db_by_name)
                            : NULL;
}

/* Where the package's file `path` (without its first slash) really lies. */
static inline const char *dpkg_db_placed(const struct dpkg_db *db, const char *package,
                                         const char *path)
{
    struct db_diversion key = { .from = path };
    const struct db_diversion *d = NULL;

    if (db->diversions_len)
        d = bsearch(&key, db->diversions, db->diversions_len, sizeof(key), db_by_from);
    return d && strcmp(d->package, package) != 0 ? d->to : path;
}

/* info/NAME.<kind> or info/NAME:ARCH.<kind>. */
static inline bool dpkg_db_info_path(const struct dpkg_db *db, const struct db_package *p,
                                     const char *kind, char *ret, size_t bytes)
{
    bool with = p->same && db->multiarch_names;
    int n = snprintf(ret, bytes, "%s/info/%s%s%s.%s", db->admin_dir, p->name,
                     with ? ":" : "", with ? p->architecture : "", kind);

    return n > 0 && (size_t)n < bytes;
}

#endif /* AUDIT_DPKG_DB_H */
