/* core/run/snapshot.c - see snapshot.h. */
#include "core/run/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/job/record.h"

#define CHUNK 65536u
#define NAME_MAX_BYTES 128u
#define DOC_MAX_BYTES 65536u
#define LINE_MAX_BYTES (2u * EXJ_RECORD_MAX_BYTES)

struct exj_spool {
    char *dir, *path; /* owned; path NULL: kept, or never made */
    const char *what, *setting;
    uint64_t max_bytes, bytes, records;
    exj_sha256 sum;
    char hash[EXJ_SNAPSHOT_ID_BYTES];
    int fd;
    size_t len;
    char chunk[CHUNK];
};

static exj_code failed(exj_err *err, const char *what, const char *path)
{
    exj_code rc = errno == ENOSPC || errno == EDQUOT ? EXJ_FULL
                  : errno == ENOENT                  ? EXJ_NOT_FOUND
                                                     : EXJ_IO;

    return exj_err_set(err, rc, "%s %s: %s%s", what, path, strerror(errno),
                       rc == EXJ_FULL ? ": make room" : "");
}

static char *path_of(const char *dir, const char *name, const char *ending)
{
    char *path;

    return asprintf(&path, "%s/%s%s", dir, name, ending) < 0 ? NULL : path;
}

static exj_code nomem(exj_err *err)
{
    return exj_err_set(err, EXJ_NOMEM, "snapshots: out of memory");
}

static exj_code sync_dir(const char *dir, exj_err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    exj_code rc = fd >= 0 && fsync(fd) == 0 ? EXJ_OK : failed(err, "cannot sync", dir);

    if (fd >= 0)
        close(fd);
    return rc;
}

static exj_code write_all(int fd, const char *path, const char *p, size_t n, exj_err *err)
{
    while (n) {
        ssize_t wrote = write(fd, p, n);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return failed(err, "cannot write", path);
        p += wrote;
        n -= (size_t)wrote;
    }
    return EXJ_OK;
}

/* ---- spools ---------------------------------------------------------------------------- */

static exj_code make_temporary(const char *dir, char **ret_path, int *ret_fd, exj_err *err)
{
    char *path = path_of(dir, "tmp-XXXXXX", "");

    if (!path)
        return nomem(err);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        free(path);
        return failed(err, "cannot make", dir);
    }
    *ret_fd = mkostemp(path, O_CLOEXEC);
    if (*ret_fd < 0) {
        free(path);
        return failed(err, "cannot make a file in", dir);
    }
    *ret_path = path;
    return EXJ_OK;
}

exj_code exj_spool_new(const char *dir, uint64_t max_bytes, const char *what,
                       const char *setting, exj_spool **ret, exj_err *err)
{
    exj_spool *s = malloc(sizeof *s);
    exj_code rc;

    if (!s)
        return nomem(err);
    memset(s, 0, offsetof(exj_spool, chunk));
    s->fd = -1;
    s->what = what;
    s->setting = setting;
    s->max_bytes = max_bytes;
    exj_sha256_init(&s->sum);
    s->dir = strdup(dir);
    rc = s->dir ? make_temporary(dir, &s->path, &s->fd, err) : nomem(err);
    if (rc) {
        exj_spool_free(s);
        return rc;
    }
    *ret = s;
    return EXJ_OK;
}

static exj_code empty_chunk(exj_spool *s, exj_err *err)
{
    exj_code rc = write_all(s->fd, s->path, s->chunk, s->len, err);

    s->len = 0;
    return rc;
}

exj_code exj_spool_add(exj_spool *s, exj_slice line, exj_err *err)
{
    exj_slice parts[2] = { line, EXJ_SLICE_LITERAL("\n") };
    exj_code rc = EXJ_OK;

    if (line.n + 1 > s->max_bytes - s->bytes)
        return exj_err_set(err, EXJ_FULL, "%s has more than %" PRIu64 " bytes: let it be smaller, "
                           "or raise %s", s->what, s->max_bytes, s->setting);
    s->bytes += line.n + 1;
    s->records++;
    for (size_t k = 0; k < 2 && !rc; k++) {
        exj_sha256_update(&s->sum, parts[k].p, parts[k].n);
        while (parts[k].n && !rc) {
            size_t fits = CHUNK - s->len < parts[k].n ? CHUNK - s->len : parts[k].n;

            memcpy(s->chunk + s->len, parts[k].p, fits);
            s->len += fits;
            parts[k].p += fits;
            parts[k].n -= fits;
            if (s->len == CHUNK)
                rc = empty_chunk(s, err);
        }
    }
    return rc;
}

exj_code exj_spool_end(exj_spool *s, exj_err *err)
{
    exj_code rc = empty_chunk(s, err);

    if (!rc)
        exj_sha256_final_hex(&s->sum, s->hash);
    return rc;
}

uint64_t exj_spool_bytes(const exj_spool *s)
{
    return s->bytes;
}

uint64_t exj_spool_records(const exj_spool *s)
{
    return s->records;
}

const char *exj_spool_sha256(const exj_spool *s)
{
    return s->hash;
}

exj_code exj_spool_reader(const exj_spool *s, int *ret_fd, exj_err *err)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return failed(err, "cannot read", s->path);
    *ret_fd = fd;
    return EXJ_OK;
}

void exj_spool_free(exj_spool *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    if (s->path)
        unlink(s->path);
    free(s->path);
    free(s->dir);
    free(s);
}

/* ---- small documents --------------------------------------------------------------------- */

/* `doc` is taken. Durable when it returns. */
static exj_code write_doc(const char *dir, const char *name, json_t *doc, exj_err *err)
{
    exj_buf text = EXJ_BUF_INIT;
    char *path = path_of(dir, name, ".json"), *temporary = NULL;
    exj_code rc = doc && path ? EXJ_OK : nomem(err);
    int fd = -1;

    if (!rc)
        rc = exj_json_print(doc, false, &text, err);
    if (!rc && !exj_buf_add_char(&text, '\n'))
        rc = nomem(err);
    if (!rc)
        rc = make_temporary(dir, &temporary, &fd, err);
    if (!rc)
        rc = write_all(fd, temporary, text.p, text.n, err);
    if (!rc && fsync(fd) < 0)
        rc = failed(err, "cannot sync", temporary);
    if (!rc && rename(temporary, path) < 0)
        rc = failed(err, "cannot make", path);
    if (!rc)
        rc = sync_dir(dir, err);
    if (fd >= 0)
        close(fd);
    if (rc && temporary)
        unlink(temporary);
    free(temporary);
    free(path);
    exj_buf_release(&text);
    json_decref(doc);
    return rc;
}

static exj_code read_doc(const char *dir, const char *name, json_t **ret, exj_err *err)
{
    char *path = path_of(dir, name, ".json"), *text = malloc(DOC_MAX_BYTES);
    exj_code rc = path && text ? EXJ_OK : nomem(err);
    int fd = rc ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    exj_err why = { 0 };

    if (!rc && (fd < 0 || (n = read(fd, text, DOC_MAX_BYTES)) < 0))
        rc = failed(err, "cannot read", path);
    if (!rc && exj_json_parse((exj_slice){ text, (size_t)n }, ret, &why))
        rc = exj_err_set(err, why.code == EXJ_NOMEM ? EXJ_NOMEM : EXJ_CORRUPT, "%s: %s", path,
                         why.text);
    if (fd >= 0)
        close(fd);
    free(text);
    free(path);
    return rc;
}

/* ---- snapshots --------------------------------------------------------------------------- */

void exj_snapshot_about_release(exj_snapshot_about *a)
{
    free(a->matrix);
    free(a->run);
    *a = (exj_snapshot_about){ 0 };
}

bool exj_snapshot_id_is_valid(exj_slice id)
{
    if (id.n != EXJ_SNAPSHOT_ID_BYTES - 1)
        return false;
    for (size_t k = 0; k < id.n; k++)
        if (!((id.p[k] >= '0' && id.p[k] <= '9') || (id.p[k] >= 'a' && id.p[k] <= 'f')))
            return false;
    return true;
}

static json_t *about_shown(const exj_snapshot_about *a)
{
    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:s,s:b}", "snapshot", a->id,
                     "matrixCatalogId", a->matrix ? a->matrix : "", "matrixRunId",
                     a->run ? a->run : "", "atMs", (json_int_t)a->at, "bytes",
                     (json_int_t)a->bytes, "records", (json_int_t)a->records, "queryBytes",
                     (json_int_t)a->query_bytes, "queryRecords", (json_int_t)a->query_records,
                     "querySha256", a->query_sha256, "transformed", (int)a->transformed);
}

exj_code exj_snapshot_keep(exj_spool *s, exj_snapshot_about *about, exj_err *err)
{
    char *path = path_of(s->dir, s->hash, ".jsonl"), *beside = path_of(s->dir, s->hash, ".json");
    exj_code rc = path && beside ? EXJ_OK : nomem(err);

    memcpy(about->id, s->hash, sizeof about->id);
    about->bytes = s->bytes;
    about->records = s->records;
    if (!rc && fsync(s->fd) < 0)
        rc = failed(err, "cannot sync", s->path);
    /* Over the same content, if it is there: a file that was harmed since is put right. */
    if (!rc && rename(s->path, path) < 0)
        rc = failed(err, "cannot make", path);
    if (!rc) {
        free(s->path);
        s->path = NULL;
        chmod(path, 0400);
        rc = access(beside, F_OK) == 0 ? sync_dir(s->dir, err)
                                       : write_doc(s->dir, s->hash, about_shown(about), err);
    }
    free(path);
    free(beside);
    return rc;
}

static uint64_t count_of(const json_t *doc, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(doc, name));

    return n > 0 ? (uint64_t)n : 0;
}

static char *text_of(const json_t *doc, const char *name)
{
    const char *text = json_string_value(json_object_get(doc, name));

    return strdup(text ? text : "");
}

exj_code exj_snapshot_read(const char *dir, const char *id, exj_snapshot_about *ret, exj_err *err)
{
    exj_snapshot_about a = { 0 };
    json_t *doc = NULL;
    exj_err why = { 0 };
    exj_code rc = read_doc(dir, id, &doc, &why);
    const char *sum;

    if (rc == EXJ_NOT_FOUND)
        return exj_err_set(err, rc, "there is no snapshot %s", id);
    if (rc)
        return exj_err_set(err, rc, "%s", why.text);
    snprintf(a.id, sizeof a.id, "%s", id);
    a.matrix = text_of(doc, "matrixCatalogId");
    a.run = text_of(doc, "matrixRunId");
    a.at = json_integer_value(json_object_get(doc, "atMs"));
    a.bytes = count_of(doc, "bytes");
    a.records = count_of(doc, "records");
    a.query_bytes = count_of(doc, "queryBytes");
    a.query_records = count_of(doc, "queryRecords");
    sum = json_string_value(json_object_get(doc, "querySha256"));
    snprintf(a.query_sha256, sizeof a.query_sha256, "%s", sum ? sum : "");
    a.transformed = json_is_true(json_object_get(doc, "transformed"));
    json_decref(doc);
    if (!a.matrix || !a.run) {
        exj_snapshot_about_release(&a);
        return nomem(err);
    }
    *ret = a;
    return EXJ_OK;
}

static exj_code open_snapshot(const char *dir, const char *id, int *ret, exj_err *err)
{
    char *path = path_of(dir, id, ".jsonl");
    exj_code rc = EXJ_OK;

    if (!path)
        return nomem(err);
    *ret = open(path, O_RDONLY | O_CLOEXEC);
    if (*ret < 0 && errno == ENOENT)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "snapshot %s is missing: there is no file %s", id, path);
    else if (*ret < 0)
        rc = failed(err, "cannot read", path);
    free(path);
    return rc;
}

/* The next bytes; *ret_n 0: the end. */
static exj_code read_chunk(int fd, const char *id, char *chunk, size_t *ret_n, exj_err *err)
{
    ssize_t n;

    do
        n = read(fd, chunk, CHUNK);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return failed(err, "cannot read snapshot", id);
    *ret_n = (size_t)n;
    return EXJ_OK;
}

exj_code exj_snapshot_check(const char *dir, const char *id, exj_err *err)
{
    char hash[EXJ_SNAPSHOT_ID_BYTES], *chunk = malloc(CHUNK);
    exj_sha256 sum;
    int fd = -1;
    size_t n = 1;
    exj_code rc = chunk ? open_snapshot(dir, id, &fd, err) : nomem(err);

    exj_sha256_init(&sum);
    while (!rc && n) {
        rc = read_chunk(fd, id, chunk, &n, err);
        if (!rc)
            exj_sha256_update(&sum, chunk, n);
    }
    exj_sha256_final_hex(&sum, hash);
    if (!rc && strcmp(hash, id) != 0)
        rc = exj_err_set(err, EXJ_CORRUPT, "snapshot %s is not what was written: its file has the "
                         "SHA-256 %s", id, hash);
    if (fd >= 0)
        close(fd);
    free(chunk);
    return rc;
}

exj_code exj_snapshot_each(const char *dir, const char *id,
                           bool (*visit)(void *user, exj_slice line), void *user, exj_err *err)
{
    exj_buf line = EXJ_BUF_INIT;
    char *chunk = malloc(CHUNK);
    int fd = -1;
    size_t n = 1;
    bool more = true;
    exj_code rc = chunk ? open_snapshot(dir, id, &fd, err) : nomem(err);

    while (!rc && n && more) {
        exj_slice left;

        rc = read_chunk(fd, id, chunk, &n, err);
        left = (exj_slice){ chunk, rc ? 0 : n };
        while (left.n && more && !rc) {
            const char *stop = memchr(left.p, '\n', left.n);
            size_t take = stop ? (size_t)(stop - left.p) : left.n;

            if (line.n + take > LINE_MAX_BYTES)
                rc = exj_err_set(err, EXJ_CORRUPT, "snapshot %s has a line of more than %u bytes",
                                 id, LINE_MAX_BYTES);
            else if ((!stop || line.n) && !exj_buf_add(&line, left.p, take))
                rc = nomem(err);
            else if (stop) {
                more = visit(user, line.n ? exj_buf_slice(&line) : (exj_slice){ left.p, take });
                exj_buf_reset(&line);
                take++;
            }
            left.p += take;
            left.n -= take;
        }
    }
    if (fd >= 0)
        close(fd);
    free(chunk);
    exj_buf_release(&line);
    return rc;
}

/* ---- what is still to do ------------------------------------------------------------------ */

static void todo_name(const char *matrix, const char *run, char ret[NAME_MAX_BYTES])
{
    char hash[65];
    exj_sha256 sum;

    exj_sha256_init(&sum);
    exj_sha256_update(&sum, matrix, strlen(matrix) + 1); /* its NUL keeps the two apart */
    exj_sha256_update(&sum, run, strlen(run));
    exj_sha256_final_hex(&sum, hash);
    snprintf(ret, NAME_MAX_BYTES, "todo-%.32s", hash);
}

exj_code exj_snapshot_todo_put(const char *dir, const char *matrix, const char *run,
                               const char *id, exj_err *err)
{
    char name[NAME_MAX_BYTES];

    todo_name(matrix, run, name);
    return write_doc(dir, name,
                     json_pack("{s:s,s:s,s:s}", "snapshot", id, "matrixCatalogId", matrix,
                               "matrixRunId", run), err);
}

exj_code exj_snapshot_todo_get(const char *dir, const char *matrix, const char *run,
                               char ret_id[EXJ_SNAPSHOT_ID_BYTES], exj_err *err)
{
    char name[NAME_MAX_BYTES];
    json_t *doc = NULL;
    const char *id;
    exj_code rc;

    todo_name(matrix, run, name);
    rc = read_doc(dir, name, &doc, err);
    if (rc)
        return rc;
    id = json_string_value(json_object_get(doc, "snapshot"));
    if (!id || !exj_snapshot_id_is_valid(exj_slice_of(id)))
        rc = exj_err_set(err, EXJ_CORRUPT, "%s/%s.json names no snapshot", dir, name);
    else
        memcpy(ret_id, id, EXJ_SNAPSHOT_ID_BYTES);
    json_decref(doc);
    return rc;
}

exj_code exj_snapshot_todo_done(const char *dir, const char *matrix, const char *run,
                                exj_err *err)
{
    char name[NAME_MAX_BYTES];
    char *path;
    exj_code rc = EXJ_OK;

    todo_name(matrix, run, name);
    path = path_of(dir, name, ".json");
    if (!path)
        return nomem(err);
    if (unlink(path) < 0 && errno != ENOENT)
        rc = failed(err, "cannot remove", path);
    free(path);
    return rc;
}

void exj_snapshot_sweep(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (strncmp(e->d_name, "tmp-", 4) == 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}
