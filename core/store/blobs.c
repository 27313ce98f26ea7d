#include "core/store/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/sha256.h"

#define BUCKETS 256u
#define CHUNK (64u * 1024u)
#define PATH_BYTES 4200

struct pin {
    char hash[EXJ_BLOB_HASH_BYTES];
    size_t holders;
    struct pin *next;
};

struct exj_blobs {
    char *dir; /* owned */
    bool read_only;
    exj_blobs_seam seam;

    pthread_mutex_t mu;
    struct pin *pins[BUCKETS]; /* guarded by mu; owned; by the first byte of the hash */
    bool made[BUCKETS];        /* guarded by mu: that folder is there, durably */
    bool made_new;             /* guarded by mu: DIR and DIR/new are there, durably */
};

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool exj_blob_hash_is_valid(exj_slice hash)
{
    if (hash.n != EXJ_BLOB_HASH_BYTES - 1)
        return false;
    for (size_t i = 0; i < hash.n; i++)
        if (hex(hash.p[i]) < 0)
            return false;
    return true;
}

static unsigned bucket_of(const char *hash)
{
    return (unsigned)hex(hash[0]) << 4 | (unsigned)hex(hash[1]);
}

static exj_code io_error(const char *what, const char *path, int error, exj_err *err)
{
    bool full = error == ENOSPC || error == EDQUOT;

    return exj_err_set(err, full ? EXJ_FULL : EXJ_IO, "blobs: cannot %s %s: %s", what, path,
                       strerror(error));
}

static bool path_of(const exj_blobs *b, const char *hash, char ret[PATH_BYTES])
{
    return snprintf(ret, PATH_BYTES, "%s/%.2s/%s", b->dir, hash, hash) < PATH_BYTES;
}

/* ---- the directory ------------------------------------------------------------------------- */

static int real_fsync(const exj_blobs *b, int fd)
{
    return b->seam.fsync ? b->seam.fsync(fd) : fsync(fd);
}

static exj_code sync_dir(const exj_blobs *b, const char *path, exj_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    exj_code rc = EXJ_OK;

    if (fd < 0)
        return io_error("open", path, errno, err);
    if (real_fsync(b, fd) < 0)
        rc = io_error("sync", path, errno, err);
    close(fd);
    return rc;
}

/* Make a folder and sync the one it is in, even if it is there: who made it may have crashed
 * before the sync. */
static exj_code make_dir(const exj_blobs *b, const char *path, const char *above, exj_err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return io_error("make the folder", path, errno, err);
    return sync_dir(b, above, err);
}

static exj_code make_dirs(exj_blobs *b, const char *hash, exj_err *err)
{
    unsigned bucket = bucket_of(hash);
    char path[PATH_BYTES];
    exj_code rc = EXJ_OK;

    pthread_mutex_lock(&b->mu);
    if (!b->made_new) {
        snprintf(path, sizeof(path), "%s/..", b->dir);
        rc = mkdir(b->dir, 0700) < 0 && errno != EEXIST
                 ? io_error("make the folder", b->dir, errno, err)
                 : sync_dir(b, path, err);
        snprintf(path, sizeof(path), "%s/new", b->dir);
        if (!rc)
            rc = make_dir(b, path, b->dir, err);
        b->made_new = !rc;
    }
    if (!rc && !b->made[bucket]) {
        snprintf(path, sizeof(path), "%s/%.2s", b->dir, hash);
        rc = make_dir(b, path, b->dir, err);
        b->made[bucket] = !rc;
    }
    pthread_mutex_unlock(&b->mu);
    return rc;
}

/* Remove what was being written when somebody crashed. */
static exj_code sweep_new(const exj_blobs *b, exj_err *err)
{
    char path[PATH_BYTES];
    struct dirent *e;
    exj_code rc = EXJ_OK;
    DIR *d;

    snprintf(path, sizeof(path), "%s/new", b->dir);
    d = opendir(path);
    if (!d)
        return errno == ENOENT ? EXJ_OK : io_error("look through", path, errno, err);
    while (!rc && (errno = 0, e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' && unlinkat(dirfd(d), e->d_name, 0) < 0 && errno != ENOENT)
            rc = io_error("tidy", path, errno, err);
    if (!rc && errno)
        rc = io_error("look through", path, errno, err);
    closedir(d);
    return rc;
}

exj_code exj_blobs_new(const char *dir, bool read_only, const exj_blobs_seam *seam,
                       exj_blobs **ret, exj_err *err)
{
    exj_blobs *b = calloc(1, sizeof(*b));
    exj_code rc = EXJ_OK;

    if (b)
        b->dir = strdup(dir);
    if (!b || !b->dir) {
        free(b);
        return exj_err_set(err, EXJ_NOMEM, "blobs %s: out of memory", dir);
    }
    pthread_mutex_init(&b->mu, NULL);
    b->read_only = read_only;
    if (seam)
        b->seam = *seam;
    if (strlen(dir) > PATH_BYTES - 100)
        rc = exj_err_set(err, EXJ_IO, "blobs %.200s…: the path is too long", dir);
    else if (!read_only)
        rc = sweep_new(b, err);
    if (rc) {
        exj_blobs_free(b);
        return rc;
    }
    *ret = b;
    return EXJ_OK;
}

void exj_blobs_free(exj_blobs *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct pin *p = b->pins[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    pthread_mutex_destroy(&b->mu);
    free(b->dir);
    free(b);
}

const char *exj_blobs_dir(const exj_blobs *b)
{
    return b->dir;
}

/* ---- pins ------------------------------------------------------------------------------------ */

static struct pin **find_pin_locked(exj_blobs *b, const char *hash)
{
    struct pin **at = &b->pins[bucket_of(hash)];

    while (*at && memcmp((*at)->hash, hash, EXJ_BLOB_HASH_BYTES - 1) != 0)
        at = &(*at)->next;
    return at;
}

static exj_code pin(exj_blobs *b, const char *hash, exj_err *err)
{
    struct pin **at;
    exj_code rc = EXJ_OK;

    pthread_mutex_lock(&b->mu);
    at = find_pin_locked(b, hash);
    if (!*at && (*at = calloc(1, sizeof(**at))) != NULL)
        memcpy((*at)->hash, hash, EXJ_BLOB_HASH_BYTES - 1);
    if (*at)
        (*at)->holders++;
    else
        rc = exj_err_set(err, EXJ_NOMEM, "blob %s: out of memory", hash);
    pthread_mutex_unlock(&b->mu);
    return rc;
}

void exj_blobs_unpin(exj_blobs *b, const char *hash)
{
    struct pin **at, *gone = NULL;

    pthread_mutex_lock(&b->mu);
    at = find_pin_locked(b, hash);
    if (*at && --(*at)->holders == 0) {
        gone = *at;
        *at = gone->next;
    }
    pthread_mutex_unlock(&b->mu);
    free(gone);
}

/* ---- reading --------------------------------------------------------------------------------- */

static exj_code open_value(const exj_blobs *b, const exj_blob_ref *ref, char path[PATH_BYTES],
                           int *ret_fd, exj_err *err)
{
    exj_slice hash = { ref->hash, strnlen(ref->hash, EXJ_BLOB_HASH_BYTES) };
    struct stat st = { 0 };
    int fd;

    if (!exj_blob_hash_is_valid(hash) || ref->bytes < 0 || ref->bytes > EXJ_BLOB_MAX_BYTES)
        return exj_err_set(err, EXJ_CORRUPT,
                           "blob '%.*s' of %" PRId64 " bytes: no such name is ever given",
                           (int)hash.n, hash.p, ref->bytes);
    if (!path_of(b, ref->hash, path))
        return exj_err_set(err, EXJ_IO, "blobs %.200s…: the path is too long", b->dir);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? exj_err_set(err, EXJ_NOT_FOUND,
                                 "blob %s (%" PRId64 " bytes) is missing: no file %s; bring it "
                                 "back from a backup",
                                 ref->hash, ref->bytes, path)
                   : io_error("open", path, errno, err);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != ref->bytes) {
        close(fd);
        return exj_err_set(err, EXJ_CORRUPT,
                           "blob %s is damaged: file %s has %" PRId64 " bytes, not %" PRId64
                           "; bring it back from a backup",
                           ref->hash, path, (int64_t)st.st_size, ref->bytes);
    }
    *ret_fd = fd;
    return EXJ_OK;
}

/* Read up to `n` bytes; less only at the end of the file. -1: errno. */
static ssize_t read_all(int fd, char *p, size_t n)
{
    size_t got = 0;

    while (got < n) {
        ssize_t some = read(fd, p + got, n - got);

        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0)
            return -1;
        if (some == 0)
            break;
        got += (size_t)some;
    }
    return (ssize_t)got;
}

static exj_code is_damaged(const exj_blob_ref *ref, const char *path, exj_err *err)
{
    return exj_err_set(err, EXJ_CORRUPT,
                       "blob %s is damaged: the content of file %s is not what was written; "
                       "bring it back from a backup",
                       ref->hash, path);
}

exj_code exj_blobs_get(const exj_blobs *b, const exj_blob_ref *ref, exj_buf *ret, exj_err *err)
{
    char path[PATH_BYTES], found[EXJ_BLOB_HASH_BYTES];
    size_t n = (size_t)ref->bytes;
    ssize_t got;
    int fd = -1;
    exj_code rc = open_value(b, ref, path, &fd, err);

    if (rc) { /* not EXJ_NOT_FOUND: who reads a row would take that for a row that is not there */
        if (rc == EXJ_NOT_FOUND && err && err->code == EXJ_NOT_FOUND)
            err->code = EXJ_CORRUPT;
        return rc == EXJ_NOT_FOUND ? EXJ_CORRUPT : rc;
    }
    if (!exj_buf_reserve(ret, n + 1)) {
        close(fd);
        return exj_err_set(err, EXJ_NOMEM, "blob %s: no memory for %" PRId64 " bytes",
                           ref->hash, ref->bytes);
    }
    got = read_all(fd, ret->p + ret->n, n);
    if (got < 0) {
        rc = io_error("read", path, errno, err);
    } else {
        exj_sha256_hex(ret->p + ret->n, (size_t)got, found);
        if ((size_t)got != n || strcmp(found, ref->hash) != 0)
            rc = is_damaged(ref, path, err);
    }
    close(fd);
    if (!rc)
        ret->n += n;
    if (ret->p)
        ret->p[ret->n] = '\0';
    return rc;
}

exj_code exj_blobs_check(const exj_blobs *b, const exj_blob_ref *ref, exj_err *err)
{
    char path[PATH_BYTES], found[EXJ_BLOB_HASH_BYTES];
    int64_t seen = 0;
    exj_sha256 sum;
    char *p = NULL;
    ssize_t got;
    int fd = -1;
    exj_code rc = open_value(b, ref, path, &fd, err);

    if (rc)
        return rc;
    p = malloc(CHUNK);
    if (!p) {
        rc = exj_err_set(err, EXJ_NOMEM, "blob %s: out of memory", ref->hash);
        goto out;
    }
    exj_sha256_init(&sum);
    while ((got = read_all(fd, p, CHUNK)) > 0) {
        exj_sha256_update(&sum, p, (size_t)got);
        seen += got;
    }
    exj_sha256_final_hex(&sum, found);
    if (got < 0)
        rc = io_error("read", path, errno, err);
    else if (seen != ref->bytes || strcmp(found, ref->hash) != 0)
        rc = is_damaged(ref, path, err);
out:
    free(p);
    close(fd);
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------- */

static exj_code write_all(const exj_blobs *b, int fd, const char *path, exj_slice value,
                          exj_err *err)
{
    while (value.n) {
        ssize_t n = b->seam.write ? b->seam.write(fd, value.p, value.n)
                                  : write(fd, value.p, value.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return io_error("write", path, n < 0 ? errno : ENOSPC, err);
        value.p += n;
        value.n -= (size_t)n;
    }
    return EXJ_OK;
}

static exj_code write_value(const exj_blobs *b, const char *hash, exj_slice value, exj_err *err)
{
    char temp[PATH_BYTES], path[PATH_BYTES];
    exj_code rc;
    int fd;

    snprintf(temp, sizeof(temp), "%s/new/%016" PRIx64, b->dir, exj_random_u64());
    if (!path_of(b, hash, path))
        return exj_err_set(err, EXJ_IO, "blobs %.200s…: the path is too long", b->dir);
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_error("make", temp, errno, err);
    rc = write_all(b, fd, temp, value, err);
    if (!rc && real_fsync(b, fd) < 0)
        rc = io_error("sync", temp, errno, err);
    if (close(fd) < 0 && !rc)
        rc = io_error("close", temp, errno, err);
    if (!rc && (b->seam.rename ? b->seam.rename(temp, path) : rename(temp, path)) < 0)
        rc = io_error("rename", path, errno, err);
    if (rc)
        unlink(temp);
    return rc;
}

exj_code exj_blobs_put(exj_blobs *b, exj_slice value, exj_blob_ref *ret, exj_err *err)
{
    exj_blob_ref ref = { .bytes = (int64_t)value.n };
    char folder[PATH_BYTES];
    exj_code rc;

    if (b->read_only)
        return exj_err_set(err, EXJ_REFUSED, "blobs %s: open for reading only", b->dir);
    if (value.n > (size_t)EXJ_BLOB_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "a value of %zu bytes: at most %" PRId64
                           " are kept", value.n, EXJ_BLOB_MAX_BYTES);
    exj_sha256_hex(value.p, value.n, ref.hash);
    rc = pin(b, ref.hash, err);
    if (rc)
        return rc;
    rc = make_dirs(b, ref.hash, err);
    /* Whatever is wrong with a file that is there, writing it anew puts it right. */
    if (!rc && exj_blobs_check(b, &ref, NULL) != EXJ_OK)
        rc = write_value(b, ref.hash, value, err);
    /* Also when it was there: who renamed it may not have come to this. */
    snprintf(folder, sizeof(folder), "%s/%.2s", b->dir, ref.hash);
    if (!rc)
        rc = sync_dir(b, folder, err);
    if (rc)
        exj_blobs_unpin(b, ref.hash);
    else
        *ret = ref;
    return rc;
}

exj_code exj_blobs_remove(exj_blobs *b, const char *hash, exj_err *err)
{
    char path[PATH_BYTES];
    exj_code rc = EXJ_OK;

    if (b->read_only)
        return exj_err_set(err, EXJ_REFUSED, "blobs %s: open for reading only", b->dir);
    if (!exj_blob_hash_is_valid(exj_slice_of(hash)) || !path_of(b, hash, path))
        return exj_err_set(err, EXJ_CORRUPT, "blob '%.80s': no such name is ever given", hash);
    /* With the lock held: whoever pins it next finds that it is gone, and writes it. */
    pthread_mutex_lock(&b->mu);
    if (*find_pin_locked(b, hash))
        rc = exj_err_set(err, EXJ_BUSY, "blob %s is being put", hash);
    else if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
        rc = io_error("remove", path, errno, err);
    pthread_mutex_unlock(&b->mu);
    return rc;
}

/* *ret_more false: the visitor said stop. */
static exj_code each_in(const exj_blobs *b, unsigned bucket, exj_blobs_visit visit, void *user,
                        bool *ret_more, exj_err *err)
{
    char path[PATH_BYTES], prefix[3];
    struct dirent *e;
    struct stat st;
    exj_code rc = EXJ_OK;
    DIR *d;

    snprintf(prefix, sizeof(prefix), "%02x", bucket & 0xffu);
    snprintf(path, sizeof(path), "%s/%s", b->dir, prefix);
    d = opendir(path);
    if (!d)
        return errno == ENOENT || errno == ENOTDIR ? EXJ_OK
                                                   : io_error("look through", path, errno, err);
    while (*ret_more && (errno = 0, e = readdir(d)) != NULL) {
        exj_blob_ref ref;

        if (!exj_blob_hash_is_valid(exj_slice_of(e->d_name)) ||
            memcmp(e->d_name, prefix, 2) != 0 ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        memcpy(ref.hash, e->d_name, sizeof(ref.hash));
        ref.bytes = st.st_size;
        *ret_more = visit(user, &ref);
    }
    if (*ret_more && errno)
        rc = io_error("look through", path, errno, err);
    closedir(d);
    return rc;
}

exj_code exj_blobs_each(const exj_blobs *b, exj_blobs_visit visit, void *user, exj_err *err)
{
    bool more = true;
    exj_code rc = EXJ_OK;

    for (unsigned i = 0; i < BUCKETS && more && !rc; i++)
        rc = each_in(b, i, visit, user, &more, err);
    return rc;
}
