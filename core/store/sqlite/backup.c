/* core/store/sqlite/backup.c - a copy of the store beside whoever works with it, and back. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/store/care.h"
#include "core/store/sqlite/internal.h"

#define MANIFEST "backup.json"
#define FORMAT 1
#define PAGES_AT_ONCE 256
#define CHUNK 65536
#define LOOKS 5 /* views of the store tried until every blob of one is had */
#define PATH_BYTES 4400

struct copying {
    exj_care_progress progress;
    void *user;
    exj_backup_info *info;
    exj_err *err;
    exj_blobs *from, *to; /* owned */
    exj_sqlite source;    /* path and seam alone: to open connections */
    int64_t done, total;
};

static bool tell(struct copying *c, const char *what)
{
    return !c->progress || c->progress(c->user, what, c->done, c->total);
}

static exj_code stopped(struct copying *c)
{
    return exj_err_set(c->err, EXJ_CANCELLED, "stopped");
}

static exj_code io_error(const char *what, const char *path, exj_err *err)
{
    return exj_err_set(err, errno == ENOSPC || errno == EDQUOT ? EXJ_FULL : EXJ_IO,
                       "cannot %s %s: %s", what, path, strerror(errno));
}

static exj_code sync_path(const char *path, exj_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    exj_code rc = EXJ_OK;

    if (fd < 0 || fsync(fd) < 0)
        rc = io_error("sync", path, err);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- blobs ----------------------------------------------------------------------------------- */

static exj_code copy_blob(struct copying *c, const exj_blob_ref *ref, exj_err *err)
{
    exj_buf value = EXJ_BUF_INIT;
    exj_blob_ref put;
    exj_code rc = exj_blobs_check(c->to, ref, NULL);

    if (rc == EXJ_OK)
        return EXJ_OK;
    rc = exj_blobs_get(c->from, ref, &value, err);
    if (!rc && (rc = exj_blobs_put(c->to, exj_buf_slice(&value), &put, err)) == EXJ_OK)
        exj_blobs_unpin(c->to, put.hash);
    exj_buf_release(&value);
    return rc;
}

/* A copy of whatever is there now, so that little is left to do after the view is taken. What
 * goes meanwhile is nobody's loss. */
static bool copy_early(void *user, const exj_blob_ref *ref)
{
    struct copying *c = user;
    exj_err why = { 0 };
    exj_code rc = copy_blob(c, ref, &why);

    c->done++;
    c->total = c->done;
    if (rc == EXJ_FULL || rc == EXJ_NOMEM)
        exj_err_set(c->err, rc, "%s", why.text);
    return tell(c, "blobs") ? rc != EXJ_FULL && rc != EXJ_NOMEM : (stopped(c), false);
}

/* Copy what the view points to. *ret_again: a value went meanwhile; another view is needed. */
static exj_code copy_pointed(struct copying *c, sqlite3 *view, bool last, bool *ret_again)
{
    sqlite3_stmt *st = NULL;
    exj_code rc = EXJ_OK;
    int step = SQLITE_DONE;

    *ret_again = false;
    c->info->blobs = c->info->lost = 0;
    c->info->first_lost = (exj_err){ 0 };
    if (sqlite3_prepare_v2(view, "SELECT hash, bytes FROM exj_blobs WHERE refs>0", -1, &st,
                           NULL) != SQLITE_OK)
        return exj_sqlite_fail(&c->source, view, "cannot list blobs", c->err);
    while (!rc && !*ret_again && (step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_slice hash = exj_sqlite_column(st, 0);
        exj_blob_ref ref = { .bytes = sqlite3_column_int64(st, 1) };
        exj_err why = { 0 };

        snprintf(ref.hash, sizeof(ref.hash), "%.*s", (int)hash.n, hash.p);
        rc = copy_blob(c, &ref, &why);
        if (!rc) {
            c->info->blobs++;
            c->info->bytes += ref.bytes;
        } else if (rc == EXJ_CORRUPT) {
            *ret_again = !last && exj_blobs_check(c->from, &ref, NULL) == EXJ_NOT_FOUND;
            c->info->lost++;
            if (!c->info->first_lost.code)
                c->info->first_lost = why;
            rc = EXJ_OK;
        } else {
            exj_err_set(c->err, rc, "%s", why.text);
        }
        c->done = c->info->blobs;
        if (!rc && !tell(c, "blobs"))
            rc = stopped(c);
    }
    if (!rc && !*ret_again && step != SQLITE_DONE)
        rc = exj_sqlite_fail(&c->source, view, "cannot list blobs", c->err);
    sqlite3_finalize(st);
    return rc;
}

struct prune {
    struct copying *c;
    sqlite3_stmt *st;
};

static bool prune_one(void *user, const exj_blob_ref *ref)
{
    struct prune *p = user;

    exj_sqlite_bind(p->st, 1, exj_slice_of(ref->hash));
    if (sqlite3_step(p->st) == SQLITE_DONE)
        exj_blobs_remove(p->c->to, ref->hash, NULL);
    sqlite3_reset(p->st);
    return true;
}

/* Copied early, and nobody's in the view that was taken. */
static exj_code prune(struct copying *c, sqlite3 *view)
{
    struct prune p = { .c = c };
    exj_code rc;

    if (sqlite3_prepare_v2(view, "SELECT 1 FROM exj_blobs WHERE hash=?1 AND refs>0", -1, &p.st,
                           NULL) != SQLITE_OK)
        return exj_sqlite_fail(&c->source, view, "cannot list blobs", c->err);
    rc = exj_blobs_each(c->to, prune_one, &p, c->err);
    sqlite3_finalize(p.st);
    return rc;
}

/* ---- the database ---------------------------------------------------------------------------- */

static exj_code copy_pages(struct copying *c, sqlite3 *view, const char *path)
{
    sqlite3 *to = NULL;
    sqlite3_backup *b = NULL;
    exj_code rc = EXJ_OK;
    int step = SQLITE_OK;

    unlink(path);
    if (sqlite3_open_v2(path, &to,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE,
                        NULL) != SQLITE_OK ||
        !(b = sqlite3_backup_init(to, "main", view, "main"))) {
        rc = exj_err_set(c->err, EXJ_IO, "cannot write %s: %s", path,
                         to ? sqlite3_errmsg(to) : "out of memory");
        goto out;
    }
    while (!rc && (step = sqlite3_backup_step(b, PAGES_AT_ONCE)) == SQLITE_OK) {
        c->total = sqlite3_backup_pagecount(b);
        c->done = c->total - sqlite3_backup_remaining(b);
        if (!tell(c, "database"))
            rc = stopped(c);
    }
    if (!rc && step != SQLITE_DONE)
        rc = exj_err_set(c->err, exj_sqlite_code(step), "cannot copy the store to %s: %s", path,
                         sqlite3_errstr(step));
out:
    if (b)
        sqlite3_backup_finish(b);
    sqlite3_close_v2(to);
    if (!rc)
        rc = sync_path(path, c->err);
    return rc;
}

/* One consistent view: its pages, then its blobs. */
static exj_code copy_view(struct copying *c, const char *path, bool last, bool *ret_again)
{
    sqlite3 *view = NULL;
    int64_t version = 0, blobs = 0;
    exj_code rc = exj_sqlite_connect(&c->source, SQLITE_OPEN_READONLY, &view, c->err);

    c->info->bytes = 0;
    if (!rc)
        rc = exj_sqlite_check_version(&c->source, view, &version, c->err);
    if (!rc && version != EXJ_SQLITE_SCHEMA)
        rc = exj_err_set(c->err, EXJ_REFUSED,
                         "store %s: its schema is version %" PRId64 ", a backup needs %d: start "
                         "the worker once to bring it up to date",
                         c->source.path, version, EXJ_SQLITE_SCHEMA);
    if (!rc)
        rc = exj_sqlite_exec(&c->source, view, "BEGIN", c->err);
    if (!rc)
        rc = exj_sqlite_number(&c->source, view,
                               "SELECT count(*) FROM exellix_execution_matrix_rows",
                               &c->info->rows, c->err);
    if (!rc)
        rc = exj_sqlite_number(&c->source, view, "SELECT count(*) FROM exj_blobs WHERE refs>0",
                               &blobs, c->err);
    if (!rc)
        rc = copy_pages(c, view, path);
    c->done = 0;
    c->total = blobs;
    if (!rc)
        rc = copy_pointed(c, view, last, ret_again);
    if (!rc && !*ret_again)
        rc = prune(c, view);
    sqlite3_close_v2(view);
    c->info->schema = (int)version;
    return rc;
}

/* ---- the manifest ------------------------------------------------------------------------------ */

static exj_code hash_file(const char *path, char ret[65], int64_t *ret_bytes, exj_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *p = malloc(CHUNK);
    exj_sha256 sum;
    ssize_t n = 0;
    exj_code rc = EXJ_OK;

    exj_sha256_init(&sum);
    *ret_bytes = 0;
    if (!p)
        rc = exj_err_set(err, EXJ_NOMEM, "%s: out of memory", path);
    while (!rc && fd >= 0 && (n = read(fd, p, CHUNK)) > 0) {
        exj_sha256_update(&sum, p, (size_t)n);
        *ret_bytes += n;
    }
    if (!rc && (fd < 0 || n < 0))
        rc = io_error("read", path, err);
    exj_sha256_final_hex(&sum, ret);
    if (fd >= 0)
        close(fd);
    free(p);
    return rc;
}

static exj_code write_manifest(struct copying *c, const char *folder, const char *db)
{
    char path[PATH_BYTES], hash[65];
    exj_buf text = EXJ_BUF_INIT;
    int64_t bytes = 0;
    int fd = -1;
    exj_code rc = hash_file(db, hash, &bytes, c->err);

    c->info->bytes += bytes;
    snprintf(path, sizeof(path), "%s/" MANIFEST, folder);
    exj_buf_printf(&text,
                   "{\"format\":%d,\"schema\":%d,\"at\":%" PRId64 ",\"rows\":%" PRId64
                   ",\"blobs\":%" PRId64 ",\"lost\":%" PRId64 ",\"databaseBytes\":%" PRId64
                   ",\"databaseSha256\":\"%s\"}\n",
                   FORMAT, c->info->schema, c->info->at, c->info->rows, c->info->blobs,
                   c->info->lost, bytes, hash);
    if (!rc && text.failed)
        rc = exj_err_set(c->err, EXJ_NOMEM, "%s: out of memory", path);
    if (!rc) {
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n || fsync(fd) < 0)
            rc = io_error("write", path, c->err);
    }
    if (fd >= 0)
        close(fd);
    exj_buf_release(&text);
    return rc ? rc : sync_path(folder, c->err);
}

struct manifest {
    int64_t format, schema, at, rows, lost, bytes;
    char sha256[65];
};

static exj_code read_manifest(const char *folder, struct manifest *ret, exj_err *err)
{
    char path[PATH_BYTES], text[4096];
    json_t *root = NULL;
    const char *sha;
    ssize_t n = -1;
    exj_code rc = EXJ_OK;
    int fd;

    snprintf(path, sizeof(path), "%s/" MANIFEST, folder);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return exj_err_set(err, EXJ_NOT_FOUND,
                           "%s is no backup: it has no " MANIFEST " (a backup is a folder made by "
                           "'exellix-jobs backup')",
                           folder);
    if (fd >= 0)
        n = read(fd, text, sizeof(text));
    if (n < 0)
        rc = io_error("read", path, err);
    if (fd >= 0)
        close(fd);
    if (!rc && exj_json_parse((exj_slice){ text, (size_t)n }, &root, NULL) != EXJ_OK)
        rc = exj_err_set(err, EXJ_CORRUPT, "%s is not JSON", path);
    if (rc)
        return rc;
    sha = json_string_value(json_object_get(root, "databaseSha256"));
    *ret = (struct manifest){
        .format = json_integer_value(json_object_get(root, "format")),
        .schema = json_integer_value(json_object_get(root, "schema")),
        .at = json_integer_value(json_object_get(root, "at")),
        .rows = json_integer_value(json_object_get(root, "rows")),
        .lost = json_integer_value(json_object_get(root, "lost")),
        .bytes = json_integer_value(json_object_get(root, "databaseBytes")),
    };
    if (ret->format > FORMAT || ret->schema > EXJ_SQLITE_SCHEMA)
        rc = exj_err_set(err, EXJ_REFUSED,
                         "%s: format %" PRId64 ", schema %" PRId64 "; this program knows %d and "
                         "%d: use a newer program",
                         path, ret->format, ret->schema, FORMAT, EXJ_SQLITE_SCHEMA);
    else if (ret->format < 1 || ret->schema < 1 || !sha ||
             !exj_blob_hash_is_valid(exj_slice_of(sha)))
        rc = exj_err_set(err, EXJ_CORRUPT,
                         "%s: members format, schema and databaseSha256 are wanted", path);
    else
        snprintf(ret->sha256, sizeof(ret->sha256), "%s", sha);
    json_decref(root);
    return rc;
}

/* ---- there ------------------------------------------------------------------------------------- */

static bool drop_file(void *user, const exj_blob_ref *ref)
{
    exj_blobs_remove(user, ref->hash, NULL);
    return true;
}

/* Nothing of a copy that failed is left: only what we made. */
static void drop_folder(const char *folder, exj_blobs *blobs)
{
    static const char *const files[] = { "/" MANIFEST, "/" EXJ_SQLITE_FILE,
                                         "/" EXJ_SQLITE_FILE "-journal",
                                         "/" EXJ_SQLITE_FILE "-wal", "/" EXJ_SQLITE_FILE "-shm" };
    char path[PATH_BYTES];

    if (blobs)
        exj_blobs_each(blobs, drop_file, blobs, NULL);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(path, sizeof(path), "%s/blobs/%02x", folder, i);
        rmdir(path);
    }
    snprintf(path, sizeof(path), "%s/blobs/new", folder);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/blobs", folder);
    rmdir(path);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        snprintf(path, sizeof(path), "%s%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

static exj_code open_blobs(const char *folder, bool read_only, exj_blobs **ret, exj_err *err)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s/blobs", folder);
    return exj_blobs_new(path, read_only, NULL, ret, err);
}

static exj_code fill(struct copying *c, const char *folder)
{
    char db[PATH_BYTES];
    bool again = true;
    exj_code rc = exj_blobs_each(c->from, copy_early, c, c->err);

    if (!rc && c->err && c->err->code)
        rc = c->err->code;
    snprintf(db, sizeof(db), "%s/" EXJ_SQLITE_FILE, folder);
    for (int i = 1; !rc && again; i++)
        rc = copy_view(c, db, i == LOOKS, &again);
    return rc ? rc : write_manifest(c, folder, db);
}

exj_code exj_sqlite_backup(const char *dir, const char *to, exj_care_progress progress,
                           void *user, exj_backup_info *ret, exj_err *err)
{
    exj_err why = { 0 };
    struct copying *c = calloc(1, sizeof(*c));
    char part[PATH_BYTES], source[PATH_BYTES];
    struct stat st;
    bool made = false;
    exj_code rc = EXJ_OK;

    *ret = (exj_backup_info){ .at = exj_clock_wall_ms() };
    if (!c)
        return exj_err_set(err, EXJ_NOMEM, "backup: out of memory");
    c->progress = progress;
    c->user = user;
    c->info = ret;
    c->err = &why;
    if (strlen(to) > 4000 || strlen(dir) > 4000) {
        rc = exj_err_set(&why, EXJ_INVALID, "the path is too long");
        goto out;
    }
    snprintf(source, sizeof(source), "%s/" EXJ_SQLITE_FILE, dir);
    c->source.path = source;
    snprintf(part, sizeof(part), "%s.part-%08" PRIx32, to, (uint32_t)exj_random_u64());
    if (stat(source, &st) < 0)
        rc = exj_err_set(&why, EXJ_NOT_FOUND, "no store in %s", dir);
    else if (lstat(to, &st) == 0)
        rc = exj_err_set(&why, EXJ_CONFLICT, "%s is there already: name a folder that is not", to);
    else if (mkdir(part, 0700) < 0)
        rc = io_error("make the folder", part, &why);
    else
        made = true;
    if (!rc)
        rc = open_blobs(dir, true, &c->from, &why);
    if (!rc)
        rc = open_blobs(part, false, &c->to, &why);
    if (!rc)
        rc = fill(c, part);
    if (!rc && rename(part, to) < 0)
        rc = errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR
                 ? exj_err_set(&why, EXJ_CONFLICT, "%s is there already", to)
                 : io_error("name the folder", to, &why);
    if (rc && made)
        drop_folder(part, c->to);
    if (!rc) {
        snprintf(part, sizeof(part), "%s/..", to);
        rc = sync_path(part, &why);
    }
out:
    exj_blobs_free(c->from);
    exj_blobs_free(c->to);
    free(c);
    return rc ? exj_err_set(err, rc, "%s", why.text) : EXJ_OK;
}

/* ---- and back ------------------------------------------------------------------------------------ */

static exj_code copy_file(struct copying *c, const char *from, const char *to, char ret_sha256[65])
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
    char *p = malloc(CHUNK);
    exj_sha256 sum;
    struct stat st;
    ssize_t n = 0;
    exj_code rc = EXJ_OK;

    exj_sha256_init(&sum);
    if (!p)
        rc = exj_err_set(c->err, EXJ_NOMEM, "%s: out of memory", from);
    else if (in < 0 || fstat(in, &st) < 0)
        rc = io_error("read", from, c->err);
    else if ((out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) < 0)
        rc = io_error("write", to, c->err);
    c->done = 0;
    c->total = rc ? 0 : st.st_size;
    while (!rc && (n = read(in, p, CHUNK)) > 0) {
        exj_sha256_update(&sum, p, (size_t)n);
        for (ssize_t at = 0, put; !rc && at < n; at += put > 0 ? put : 0) {
            put = write(out, p + at, (size_t)(n - at));
            if (put < 0 && errno != EINTR)
                rc = io_error("write", to, c->err);
        }
        c->done += n;
        if (!rc && !tell(c, "database"))
            rc = stopped(c);
    }
    if (!rc && n < 0)
        rc = io_error("read", from, c->err);
    if (!rc && fsync(out) < 0)
        rc = io_error("sync", to, c->err);
    exj_sha256_final_hex(&sum, ret_sha256);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    free(p);
    return rc;
}

static exj_code make_dir(const char *dir, exj_err *err)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s", dir);
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0700);
            *p = '/';
        }
    return mkdir(path, 0700) < 0 && errno != EEXIST ? io_error("make the folder", path, err)
                                                    : EXJ_OK;
}

static exj_code fill_store(struct copying *c, const char *from, const struct manifest *m,
                           const char *dir)
{
    char source[PATH_BYTES], db[PATH_BYTES], part[PATH_BYTES], hash[65];
    sqlite3 *view = NULL;
    bool again;
    exj_code rc;

    snprintf(source, sizeof(source), "%s/" EXJ_SQLITE_FILE, from);
    snprintf(db, sizeof(db), "%s/" EXJ_SQLITE_FILE, dir);
    snprintf(part, sizeof(part), "%s.part", db);
    rc = copy_file(c, source, part, hash);
    if (!rc && strcmp(hash, m->sha256) != 0)
        rc = exj_err_set(c->err, EXJ_CORRUPT,
                         "%s is damaged: its SHA-256 is %s, " MANIFEST " says %s", source, hash,
                         m->sha256);
    c->source.path = part;
    if (!rc && sqlite3_open_v2(part, &view, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        rc = exj_sqlite_fail(&c->source, view, "cannot open", c->err);
    /* A log beside the part would be lost by the rename. */
    if (!rc)
        rc = exj_sqlite_exec(&c->source, view, "PRAGMA journal_mode=DELETE", c->err);
    if (!rc && m->schema >= EXJ_SQLITE_BLOBS_SINCE)
        rc = copy_pointed(c, view, true, &again);
    sqlite3_close_v2(view);
    c->info->bytes += m->bytes;
    if (!rc && c->info->lost > m->lost) /* others than those that were lost before it */
        rc = exj_err_set(c->err, EXJ_CORRUPT, "%s", c->info->first_lost.text);
    if (!rc)
        rc = sync_path(part, c->err);
    if (!rc && rename(part, db) < 0)
        rc = io_error("name", db, c->err);
    if (rc)
        unlink(part);
    return rc ? rc : sync_path(dir, c->err);
}

exj_code exj_sqlite_restore_backup(const char *from, const char *dir,
                                   exj_care_progress progress, void *user,
                                   exj_backup_info *ret, exj_err *err)
{
    exj_err why = { 0 };
    struct copying *c = calloc(1, sizeof(*c));
    struct manifest m = { 0 };
    char path[PATH_BYTES];
    struct stat st;
    int lock = -1;
    exj_code rc = EXJ_OK;

    *ret = (exj_backup_info){ 0 };
    if (!c)
        return exj_err_set(err, EXJ_NOMEM, "restore: out of memory");
    c->progress = progress;
    c->user = user;
    c->info = ret;
    c->err = &why;
    if (strlen(from) > 4000 || strlen(dir) > 4000)
        rc = exj_err_set(&why, EXJ_INVALID, "the path is too long");
    if (!rc)
        rc = read_manifest(from, &m, &why);
    if (!rc)
        rc = make_dir(dir, &why);
    if (!rc)
        rc = exj_sqlite_lock(dir, "restore of a backup", &lock, &why);
    snprintf(path, sizeof(path), "%.4000s/" EXJ_SQLITE_FILE, dir);
    if (!rc && lstat(path, &st) == 0)
        rc = exj_err_set(&why, EXJ_CONFLICT,
                         "there is a store in %s already: restore into another folder, or move "
                         "that one away",
                         dir);
    ret->schema = (int)m.schema;
    ret->at = m.at;
    ret->rows = m.rows;
    if (!rc)
        rc = open_blobs(from, true, &c->from, &why);
    if (!rc)
        rc = open_blobs(dir, false, &c->to, &why);
    if (!rc)
        rc = fill_store(c, from, &m, dir);
    exj_sqlite_unlock(lock);
    exj_blobs_free(c->from);
    exj_blobs_free(c->to);
    free(c);
    return rc ? exj_err_set(err, rc, "%s", why.text) : EXJ_OK;
}
