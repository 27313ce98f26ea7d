/* core/plugin/shelf_keep.c - copies of the files that ran, so that there is a way back. */
#include "core/plugin/shelf_inside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/sha256.h"

#define CHUNK (64u * 1024u)
#define NEW_COPY ".copy.new"
#define COPY_NAME_BYTES 72

exj_code exj_shelf_parse_kept(exj_shelf_doc *d, exj_slice text, exj_err *err)
{
    static const char *const members[] = { "family", "at", "bytes", NULL };
    json_t *root = NULL, *e;
    const char *sha;
    exj_code rc = exj_shelf_parse_root(d, text, &root, err);

    if (!rc && !root && !(root = json_pack("{s:i,s:{}}", "version", 1, "kept")))
        rc = exj_shelf_no_memory(err);
    if (!rc && !json_is_object(json_object_get(root, "kept")))
        rc = exj_err_set(err, EXJ_CORRUPT, "%s: wanted an object \"kept\"; move the file away to "
                         "begin anew", d->name);
    json_object_foreach(json_object_get(root, "kept"), sha, e) {
        if (!rc && !exj_is_sha256(sha))
            rc = exj_err_set(err, EXJ_CORRUPT, "%s: '%.80s' is no SHA-256", d->name, sha);
        if (!rc)
            rc = exj_shelf_check_entry(d, sha, e, members, "sii", err);
    }
    if (rc)
        json_decref(root);
    else
        d->root = root;
    return rc;
}

static json_t *kept_of(const exj_shelf *s)
{
    return json_object_get(s->kept.root, "kept");
}

static void copy_name(const char *sha256, char ret[COPY_NAME_BYTES])
{
    snprintf(ret, COPY_NAME_BYTES, "%.64s.so", sha256);
}

static bool is_here(const exj_shelf *s, const char *sha256)
{
    char name[COPY_NAME_BYTES];
    struct stat st;

    copy_name(sha256, name);
    return s->folder && fstatat(s->kept_dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode);
}

char *exj_shelf_path_locked(exj_shelf *s, const char *sha256)
{
    char *path = NULL;

    if (!exj_is_sha256(sha256) || !is_here(s, sha256) ||
        asprintf(&path, "%s/kept/%s.so", s->folder, sha256) < 0)
        return NULL;
    return path;
}

char *exj_shelf_path_of(exj_shelf *s, const char *sha256)
{
    char *path;

    pthread_mutex_lock(&s->mu);
    path = exj_shelf_path_locked(s, sha256);
    pthread_mutex_unlock(&s->mu);
    return path;
}

/* Copy `from` to `to`; what came through is hashed. */
static exj_code copy(int from, int to, const char *file, const char *folder, char ret_sha256[65],
                     uint64_t *ret_bytes, exj_err *err)
{
    char *p = malloc(CHUNK);
    exj_sha256 sum;
    exj_code rc = p ? EXJ_OK : exj_shelf_no_memory(err);

    exj_sha256_init(&sum);
    *ret_bytes = 0;
    while (!rc) {
        ssize_t n = read(from, p, CHUNK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = exj_err_set(err, EXJ_IO, "%s: read: %s", file, strerror(errno));
        if (n <= 0)
            break;
        exj_sha256_update(&sum, p, (size_t)n);
        *ret_bytes += (uint64_t)n;
        if (*ret_bytes > EXJ_SHELF_COPY_MAX)
            rc = exj_err_set(err, EXJ_INVALID, "%s: wanted at most %u bytes", file,
                             EXJ_SHELF_COPY_MAX);
        for (ssize_t at = 0, put; !rc && at < n; at += put > 0 ? put : 0) {
            put = write(to, p + at, (size_t)(n - at));
            if (put < 0 && errno != EINTR)
                rc = exj_err_set(err, EXJ_IO, "%s/kept: write: %s", folder, strerror(errno));
        }
    }
    if (!rc && fsync(to) < 0)
        rc = exj_err_set(err, EXJ_IO, "%s/kept: fsync: %s", folder, strerror(errno));
    exj_sha256_final_hex(&sum, ret_sha256);
    free(p);
    return rc;
}

static exj_code copy_in(exj_shelf *s, const char *file, const char *sha256, uint64_t *ret_bytes,
                        exj_err *err)
{
    char name[COPY_NAME_BYTES], found[65];
    struct stat st;
    exj_code rc = EXJ_OK;
    int to = -1, from = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    copy_name(sha256, name);
    if (from < 0 || fstat(from, &st) < 0)
        rc = exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%s: %s", file,
                         strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = exj_err_set(err, EXJ_INVALID, "%s: not a regular file", file);
    if (!rc) {
        unlinkat(s->kept_dir, NEW_COPY, 0); /* of somebody who did not finish */
        to = openat(s->kept_dir, NEW_COPY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    0600);
        if (to < 0)
            rc = exj_err_set(err, EXJ_IO, "%s/kept/" NEW_COPY ": %s", s->folder, strerror(errno));
    }
    if (!rc)
        rc = copy(from, to, file, s->folder, found, ret_bytes, err);
    if (!rc && strcmp(found, sha256) != 0)
        rc = exj_err_set(err, EXJ_CONFLICT, "%s: its content is %s: wanted %s; it was changed",
                         file, found, sha256);
    if (!rc && (renameat(s->kept_dir, NEW_COPY, s->kept_dir, name) < 0 || fsync(s->kept_dir) < 0))
        rc = exj_err_set(err, EXJ_IO, "%s/kept/%s: %s", s->folder, name, strerror(errno));
    if (rc && to >= 0)
        unlinkat(s->kept_dir, NEW_COPY, 0);
    if (to >= 0)
        close(to);
    if (from >= 0)
        close(from);
    return rc;
}

exj_code exj_shelf_keep(exj_shelf *s, const char *file, const char *sha256, const char *family,
                        exj_msec now, exj_err *err)
{
    uint64_t bytes = 0;
    json_t *kept;
    const json_t *old;
    exj_code rc = exj_shelf_check_sha(sha256, err);

    if (!rc)
        rc = exj_shelf_check_id(family, err);
    if (!rc && !s->folder)
        rc = exj_err_set(err, EXJ_UNSUPPORTED, "%s: no copy is kept without a data folder", file);
    if (!rc)
        rc = exj_shelf_enter(s, true, &s->kept, err);
    if (rc)
        return rc;
    kept = kept_of(s);
    old = json_object_get(kept, sha256);
    if (old && is_here(s, sha256))
        bytes = (uint64_t)json_integer_value(json_object_get(old, "bytes"));
    else if (!old && json_object_size(kept) >= EXJ_SHELF_KEPT_MAX)
        rc = exj_err_set(err, EXJ_FULL, "%u copies are kept; prune them", EXJ_SHELF_KEPT_MAX);
    else
        rc = copy_in(s, file, sha256, &bytes, err);
    if (!rc && json_object_set_new(kept, sha256,
                                   json_pack("{s:s,s:I,s:I}", "family", family, "at",
                                             (json_int_t)now, "bytes", (json_int_t)bytes)))
        rc = exj_shelf_undo(s, &s->kept, err);
    else if (!rc)
        rc = exj_shelf_save(s, &s->kept, err);
    exj_shelf_leave(s, true);
    return rc;
}

/* ---- lists -------------------------------------------------------------------------------- */

struct copy_info {
    const char *sha256, *family;
    exj_msec at;
    json_int_t bytes;
};

static int newest_first(const void *a, const void *b)
{
    const struct copy_info *x = a, *y = b;

    return x->at != y->at ? (x->at < y->at) - (x->at > y->at) : strcmp(x->sha256, y->sha256);
}

/* All copies, newest first; texts are borrowed from the document. free() it. */
static struct copy_info *sorted_copies(const exj_shelf *s, size_t *ret_n)
{
    json_t *kept = kept_of(s), *e;
    struct copy_info *list = calloc(json_object_size(kept) + 1, sizeof *list);
    const char *sha;
    size_t n = 0;

    if (list)
        json_object_foreach(kept, sha, e)
            list[n++] = (struct copy_info){
                sha, json_string_value(json_object_get(e, "family")),
                json_integer_value(json_object_get(e, "at")),
                json_integer_value(json_object_get(e, "bytes")),
            };
    if (list)
        qsort(list, n, sizeof *list, newest_first);
    *ret_n = n;
    return list;
}

exj_code exj_shelf_kept(exj_shelf *s, json_t **ret, exj_err *err)
{
    exj_code rc = exj_shelf_enter(s, false, &s->kept, err);
    struct copy_info *all;
    json_t *list;
    size_t n = 0;

    if (rc)
        return rc;
    all = sorted_copies(s, &n);
    list = all ? json_array() : NULL;
    for (size_t k = 0; list && k < n && !rc; k++) {
        char *path = exj_shelf_path_locked(s, all[k].sha256);

        if (path && json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:s}", "sha256",
                                                          all[k].sha256, "family", all[k].family,
                                                          "at", (json_int_t)all[k].at, "bytes",
                                                          all[k].bytes, "path", path)))
            rc = EXJ_NOMEM;
        free(path);
    }
    exj_shelf_leave(s, false);
    free(all);
    if (rc || !list) {
        json_decref(list);
        return exj_shelf_no_memory(err);
    }
    *ret = list;
    return EXJ_OK;
}

/* Remove the files of which the list says nothing. */
static size_t sweep(exj_shelf *s)
{
    int fd = openat(s->kept_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    char sha[65];
    size_t removed = 0;

    if (!d) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while ((e = readdir(d))) {
        size_t n = strlen(e->d_name);

        if (n == 67 && strcmp(e->d_name + 64, ".so") == 0) {
            memcpy(sha, e->d_name, 64);
            sha[64] = '\0';
            if (exj_is_sha256(sha) && !json_object_get(kept_of(s), sha))
                removed += unlinkat(s->kept_dir, e->d_name, 0) == 0;
        }
    }
    closedir(d);
    return removed;
}

static bool is_pinned(const exj_shelf *s, const char *sha256)
{
    json_t *e;
    const char *id;

    json_object_foreach(json_object_get(s->pins.root, "pins"), id, e)
        if (strcmp(json_string_value(json_object_get(e, "sha256")), sha256) == 0)
            return true;
    return false;
}

exj_code exj_shelf_prune(exj_shelf *s, unsigned newest, size_t *ret_removed, exj_err *err)
{
    struct copy_info *all = NULL;
    size_t n = 0, removed = 0;
    bool changed = false;
    exj_code rc;

    if (ret_removed)
        *ret_removed = 0;
    if (!s->folder)
        return EXJ_OK;
    rc = exj_shelf_enter(s, true, &s->kept, err);
    if (rc)
        return rc;
    rc = exj_shelf_refresh(s, &s->pins, err); /* who is pinned must be known */
    if (!rc && !(all = sorted_copies(s, &n)))
        rc = exj_shelf_no_memory(err);
    for (size_t k = 0; !rc && k < n; k++) {
        unsigned before = 0;

        for (size_t j = 0; j < k; j++) /* few hundred at most */
            before += all[j].family && strcmp(all[j].family, all[k].family) == 0;
        if (before >= newest && !is_pinned(s, all[k].sha256))
            all[k].bytes = -1;
    }
    for (size_t k = 0; !rc && k < n; k++)
        if (all[k].bytes < 0)
            changed |= json_object_del(kept_of(s), all[k].sha256) == 0;
    if (!rc) {
        removed = sweep(s); /* before the list is written and read anew */
        if (changed)
            rc = exj_shelf_save(s, &s->kept, err);
    }
    exj_shelf_leave(s, true);
    free(all);
    if (!rc && ret_removed)
        *ret_removed = removed;
    return rc;
}
