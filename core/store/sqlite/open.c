/* core/store/sqlite/open.c - opening, health, closing. */
#include "core/store/sqlite/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"

#define BLOB_BYTES 65536 /* values up to here stay in the database */

/* Make `dir` and what is missing above it, for the owner only. */
static exj_code make_dir(const char *dir, exj_err *err)
{
    char *path = strdup(dir);
    struct stat st;
    exj_code rc = EXJ_OK;

    if (!path)
        return exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", dir);
    for (char *p = path; *p && !rc; p++) {
        char *slash = p[1] == '/' || p[1] == '\0' ? p + 1 : NULL;
        char kept;

        if (!slash)
            continue;
        kept = *slash;
        *slash = '\0';
        if (stat(path, &st) < 0 && mkdir(path, 0700) < 0 && errno != EEXIST)
            rc = exj_err_set(err, EXJ_IO, "store: cannot make the directory %s: %s", path,
                             strerror(errno));
        *slash = kept;
    }
    if (!rc && (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)))
        rc = exj_err_set(err, EXJ_IO, "store: %s is not a directory", dir);
    free(path);
    return rc;
}

void exj_sqlite_own_process(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* refused once SQLite is in use: then it counts */
}

static exj_code start_clock(exj_sqlite *s, exj_err *err)
{
    int64_t high = 0;
    exj_nsec ns = s->seam.mono_ns ? s->seam.mono_ns(s->seam.user) : exj_clock_mono_ns();
    exj_code rc = exj_sqlite_number(s, s->db, "SELECT value FROM exj_meta WHERE key='clock'",
                                    &high, err);

    if (rc)
        return rc;
    /* Go on where the store's time had come to, even if the wall clock is behind it. */
    atomic_store(&s->skew_ms, high - ns / 1000000);
    s->clock_saved = high;
    return EXJ_OK;
}

static exj_code open_blobs(exj_sqlite *s, exj_err *err)
{
    char *path = NULL;
    exj_code rc;

    if (asprintf(&path, "%s/blobs", s->dir) < 0)
        return exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", s->dir);
    rc = exj_blobs_new(path, s->read_only, NULL, &s->blobs, err);
    free(path);
    return rc;
}

static exj_code open_writer(exj_sqlite *s, exj_err *err)
{
    char sql[200];
    int64_t last = 0;
    exj_code rc;

    rc = exj_sqlite_connect(s, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &s->db, err);
    if (rc)
        return rc;
    snprintf(sql, sizeof(sql),
             "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=%s;"
             "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864;"
             "PRAGMA cache_size=-12288; PRAGMA recursive_triggers=ON",
             s->fast ? "NORMAL" : "FULL");
    rc = exj_sqlite_exec(s, s->db, sql, err);
    if (!rc && s->seam.max_pages) {
        snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%" PRId64, s->seam.max_pages);
        rc = exj_sqlite_exec(s, s->db, sql, err);
    }
    if (!rc)
        rc = exj_sqlite_migrate(s, err);
    if (!rc)
        rc = exj_sqlite_prepare(s, err);
    if (!rc)
        rc = exj_sqlite_number(s, s->db, "SELECT max(seq) FROM exellix_execution_matrix_rows",
                               &last, err);
    if (!rc)
        rc = exj_sqlite_load_past(s, &last, err);
    if (!rc)
        rc = start_clock(s, err);
    if (rc)
        return rc;
    s->next_seq = last + 1;
    rc = exj_sqlite_number(s, s->db,
                           "SELECT first + n FROM exj_events ORDER BY first DESC LIMIT 1",
                           &s->saved_number, err);
    /* Nobody works on a command any more: its key is free again. */
    if (!rc)
        rc = exj_sqlite_exec(s, s->db, "DELETE FROM exj_commands WHERE status=0", err);
    if (rc)
        return rc;
    if (s->saved_number == 0)
        s->saved_number = 1;
    s->next_number = s->saved_number;
    exj_sqlite_collect(s, false); /* what a crash left to do */
    if (!exj_sqlite_load_pools(s)) {
        rc = s->err.code;
        return exj_err_set(err, rc, "%s", s->err.text);
    }
    return EXJ_OK;
}

static exj_code open_read_only(exj_sqlite *s, exj_err *err)
{
    sqlite3 *db = NULL;
    struct stat st;
    int64_t version = 0;
    exj_code rc;

    if (stat(s->path, &st) < 0)
        return exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "store %s: %s",
                           s->path, strerror(errno));
    rc = exj_sqlite_connect(s, SQLITE_OPEN_READONLY, &db, err);
    if (!rc)
        rc = exj_sqlite_check_version(s, db, &version, err);
    if (!rc && version < EXJ_SQLITE_SCHEMA)
        rc = exj_err_set(err, EXJ_REFUSED,
                         "store %s: its schema is version %" PRId64 ", reading needs %d: "
                         "start the worker once to bring it up to date",
                         s->path, version, EXJ_SQLITE_SCHEMA);
    sqlite3_close_v2(db);
    return rc;
}

static void release(exj_sqlite *s)
{
    exj_sqlite_close_readers(s);
    for (int i = 0; i < W_COUNT; i++)
        sqlite3_finalize(s->st[i]);
    sqlite3_close_v2(s->db); /* the last connection: it checkpoints and drops the log */
    exj_sqlite_unlock(s->lock_fd);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mu);
    pthread_mutex_destroy(&s->readers_mu);
    pthread_mutex_destroy(&s->listen_mu);
    exj_buf_release(&s->entries);
    free(s->picked);
    free(s->order);
    free(s->holder);
    free(s->dirty);
    free(s->pools);
    exj_blobs_free(s->blobs);
    free(s->path);
    free(s->dir);
    free(s);
}

exj_code exj_sqlite_open_seam(const exj_sqlite_options *o, const exj_sqlite_seam *seam,
                              exj_store **ret, exj_err *err)
{
    exj_sqlite *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;
    exj_code rc;

    if (!s)
        return exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", o->dir);
    s->base.v = &exj_sqlite_vtable;
    s->lock_fd = -1;
    s->tail = &s->head;
    s->fast = o->fast;
    s->read_only = o->read_only;
    s->blob_bytes = o->blob_bytes ? o->blob_bytes : BLOB_BYTES;
    if (seam)
        s->seam = *seam;
    atomic_store(&s->skew_ms, INT64_MIN / 2);
    pthread_mutex_init(&s->mu, NULL);
    pthread_mutex_init(&s->readers_mu, NULL);
    pthread_mutex_init(&s->listen_mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_condattr_destroy(&attr);
    s->dir = strdup(o->dir);
    if (!s->dir || asprintf(&s->path, "%s/" EXJ_SQLITE_FILE, o->dir) < 0) {
        s->path = NULL;
        rc = exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", o->dir);
        goto out;
    }
    if (o->read_only) {
        rc = open_read_only(s, err);
        if (!rc)
            rc = open_blobs(s, err);
    } else {
        rc = make_dir(o->dir, err);
        if (!rc)
            rc = exj_sqlite_lock(o->dir, o->lock_note ? o->lock_note : "", &s->lock_fd, err);
        if (!rc)
            rc = open_blobs(s, err);
        if (!rc)
            rc = open_writer(s, err);
    }
    if (rc)
        goto out;
    if (!o->read_only) {
        int failed = pthread_create(&s->thread, NULL, exj_sqlite_writer, s);

        if (failed) {
            rc = exj_err_set(err, EXJ_NOMEM, "store %s: cannot start the writer: %s", s->path,
                             strerror(failed));
            goto out;
        }
        s->thread_runs = true;
    }
    *ret = &s->base;
    s = NULL;
    rc = EXJ_OK;
out:
    if (s)
        release(s);
    return rc;
}

exj_code exj_sqlite_open(const exj_sqlite_options *o, exj_store **ret, exj_err *err)
{
    return exj_sqlite_open_seam(o, NULL, ret, err);
}

void exj_sqlite_close(exj_store *base)
{
    exj_sqlite *s = (exj_sqlite *)base;

    if (!base)
        return;
    if (s->thread_runs) {
        pthread_mutex_lock(&s->mu);
        s->closing = true;
        pthread_cond_signal(&s->work);
        pthread_mutex_unlock(&s->mu);
        pthread_join(s->thread, NULL);
    }
    release(s);
}

exj_code exj_sqlite_health(exj_store *base, exj_store_health *ret)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_err err = { 0 };
    exj_op ping = { .kind = EXJ_OP_PING };
    exj_code rc;

    *ret = (exj_store_health){ .schema_version = EXJ_SQLITE_SCHEMA };
    snprintf(ret->where, sizeof(ret->where), "%s", s->path);
    snprintf(ret->backend, sizeof(ret->backend), "SQLite %s", sqlite3_libversion());
    ret->config_ok = exj_sqlite_probe(s, R_PROBE_CONFIG, &err) == EXJ_OK;
    ret->execution_ok = exj_sqlite_probe(s, R_PROBE_EXECUTION, &err) == EXJ_OK;
    rc = s->read_only ? EXJ_OK : exj_store_do(base, &ping, &err);
    if (rc)
        ret->execution_ok = false;
    snprintf(ret->text, sizeof(ret->text), "%.*s", (int)sizeof(ret->text) - 1,
             err.code ? err.text : "ok");
    ret->wal_bytes = atomic_load(&s->wal_bytes);
    ret->commits = atomic_load(&s->commits);
    ret->ops = atomic_load(&s->ops);
    return err.code;
}
