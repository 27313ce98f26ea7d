/* core/store/sqlite/doctor.c - holds the parts of a store against each other.
 *
 * All checks read one view of the store. What is fixed is fixed by what is told: a row of the
 * tables below counts offenders with one statement and mends them with another. The journal is
 * in doctor_journal.c, blobs are below.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/store/sqlite/doctor.h"

#define ROWS "exellix_execution_matrix_rows"
#define PATH_BYTES 4400

/* ---- telling ---------------------------------------------------------------------------------- */

void exj_doctor_found(struct exj_doctor *d, const char *part, bool fixable, bool fixed,
                      const char *format, ...)
{
    exj_finding f = { .part = part, .fixable = fixable, .fixed = fixed };
    char text[700];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    f.text = text;
    d->report->findings++;
    d->report->fixable += fixable;
    d->report->fixed += fixed;
    if (d->o->found)
        d->o->found(d->o->user, &f);
}

bool exj_doctor_tell(struct exj_doctor *d, const char *what, int64_t done, int64_t total)
{
    if (!d->o->progress || d->o->progress(d->o->user, what, done, total))
        return true;
    exj_err_set(&d->err, EXJ_CANCELLED, "stopped");
    return false;
}

bool exj_doctor_exec(struct exj_doctor *d, const char *sql)
{
    return exj_sqlite_exec(&d->s, d->s.db, sql, &d->err) == EXJ_OK;
}

bool exj_doctor_number(struct exj_doctor *d, const char *sql, int64_t *ret)
{
    *ret = 0;
    return exj_sqlite_number(&d->s, d->s.db, sql, ret, &d->err) == EXJ_OK;
}

/* ---- the file and its tables ---------------------------------------------------------------------- */

/* Damage of the file itself. Indexes are made anew from their tables; nothing else can be. */
static bool check_file(struct exj_doctor *d)
{
    sqlite3_stmt *st = NULL;
    bool indexes = false, good;
    int step;

    if (sqlite3_prepare_v2(d->s.db, "PRAGMA integrity_check(50)", -1, &st, NULL) != SQLITE_OK) {
        exj_sqlite_fail(&d->s, d->s.db, "cannot check the file", &d->err);
        return false;
    }
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_slice text = exj_sqlite_column(st, 0);
        bool index = memmem(text.p, text.n, "index", 5) != NULL;

        if (exj_slice_is(text, "ok"))
            continue;
        exj_doctor_found(d, "store", index, index && d->o->fix, "%.*s", (int)text.n, text.p);
        indexes = indexes || index;
    }
    good = step == SQLITE_DONE;
    if (!good)
        exj_sqlite_fail(&d->s, d->s.db, "cannot check the file", &d->err);
    sqlite3_finalize(st);
    return good && (!indexes || !d->o->fix || exj_doctor_exec(d, "REINDEX"));
}

/* Tables, indexes and triggers as a new store has them: those that are missing. */
static bool check_schema(struct exj_doctor *d)
{
    sqlite3 *fresh = NULL;
    sqlite3_stmt *want = NULL, *have = NULL;
    bool good = sqlite3_open_v2(":memory:", &fresh,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) == SQLITE_OK &&
                exj_sqlite_make_tables(&d->s, fresh, 0, &d->err) == EXJ_OK;

    good = good &&
           sqlite3_prepare_v2(fresh, "SELECT type, name, sql FROM sqlite_schema"
                              " WHERE sql IS NOT NULL ORDER BY type DESC", -1, &want,
                              NULL) == SQLITE_OK &&
           sqlite3_prepare_v2(d->s.db, "SELECT sql FROM sqlite_schema WHERE type=?1 AND name=?2",
                              -1, &have, NULL) == SQLITE_OK;
    while (good && sqlite3_step(want) == SQLITE_ROW) {
        exj_slice type = exj_sqlite_column(want, 0), name = exj_sqlite_column(want, 1);
        bool table = exj_slice_is(type, "table"), there;

        exj_sqlite_bind(have, 1, type);
        exj_sqlite_bind(have, 2, name);
        there = sqlite3_step(have) == SQLITE_ROW;
        if (!there)
            exj_doctor_found(d, "schema", !table, !table && d->o->fix, "%.*s %.*s is missing",
                             (int)type.n, type.p, (int)name.n, name.p);
        else if (!exj_slice_equal(exj_sqlite_column(have, 0), exj_sqlite_column(want, 2)))
            exj_doctor_found(d, "schema", false, false, "%.*s %.*s is not as this program makes it",
                             (int)type.n, type.p, (int)name.n, name.p);
        sqlite3_reset(have);
        if (!there && !table && d->o->fix)
            good = exj_doctor_exec(d, (const char *)sqlite3_column_text(want, 2));
        d->no_table = d->no_table || (!there && table);
    }
    if (!good && !d->err.code)
        exj_err_set(&d->err, EXJ_NOMEM, "doctor: cannot compare the schema");
    sqlite3_finalize(want);
    sqlite3_finalize(have);
    sqlite3_close_v2(fresh);
    return good;
}

/* ---- what one statement finds ------------------------------------------------------------------- */

struct rule {
    const char *part, *text; /* after the number */
    const char *count, *fix; /* fix NULL: cannot be mended */
};

#define ORPHANS(table, what)                                                                   \
    { "orphans", what " of rows that are not there",                                           \
      "SELECT count(*) FROM " table " WHERE seq NOT IN (SELECT seq FROM " ROWS ")",            \
      "DELETE FROM " table " WHERE seq NOT IN (SELECT seq FROM " ROWS ")" }

#define LIVE_UNIQUE                                                                            \
    " FROM exj_hot UNION ALL SELECT seq FROM exj_results WHERE status=5"

#define ASIDE "seq, pool, status, at, ckey, rank FROM exj_aside"
#define ASIDE_OF_HOT                                                                           \
    "seq, pool, status, CASE WHEN status=9 OR run_after=9223372036854775807 THEN NULL"         \
    " ELSE run_after END, ckey, rank FROM exj_hot WHERE status IN (1, 6, 9)"

static const struct rule rules[] = {
    { "rows", "rows belong to a pool that is not there",
      "SELECT count(*) FROM " ROWS " WHERE pool NOT IN (SELECT id FROM exj_pools)", NULL },
    { "rows", "rows are both queued and ended",
      "SELECT count(*) FROM exj_hot h JOIN exj_results t ON t.seq=h.seq", NULL },
    { "rows", "rows are marked as removed and are there",
      "SELECT count(*) FROM exj_past p JOIN " ROWS " r ON r.pool=p.pool"
      " AND r.record_id=p.record_id",
      "DELETE FROM exj_past WHERE (pool, record_id) IN (SELECT pool, record_id FROM " ROWS ")" },
    ORPHANS("exj_hot", "queue entries"),
    ORPHANS("exj_results", "results"),
    ORPHANS("exellix_execution_matrix_failures", "failures"),
    ORPHANS("exellix_execution_matrix_snapshots", "snapshots"),
    ORPHANS("exj_journal", "steps"),
    ORPHANS("exj_extras", "keys"),
    ORPHANS("exj_retried", "notes of retries"),
    ORPHANS("exj_progress", "notes of progress"),
    ORPHANS("exj_waits", "waits"),
    ORPHANS("exj_signals", "signals"),
    { "rows", "rows that are not ready are not found by what they wait for",
      "SELECT (SELECT count(*) FROM (SELECT " ASIDE_OF_HOT " EXCEPT SELECT " ASIDE "))"
      " + (SELECT count(*) FROM (SELECT " ASIDE " EXCEPT SELECT " ASIDE_OF_HOT "))",
      "DELETE FROM exj_aside; INSERT INTO exj_aside(seq, pool, status, at, ckey, rank)"
      " SELECT " ASIDE_OF_HOT },
    { "counters", "unique keys are held for rows that are over",
      "SELECT count(*) FROM exj_unique WHERE live=1 AND seq NOT IN (SELECT seq" LIVE_UNIQUE ")",
      "UPDATE exj_unique SET live=0 WHERE live=1 AND seq NOT IN (SELECT seq" LIVE_UNIQUE ")" },
    { "counters", "concurrency keys count other rows than run under them",
      "SELECT count(*) FROM exj_ckeys k WHERE running<>(SELECT count(*) FROM exj_hot"
      " WHERE ckey=k.id AND status=2)",
      "UPDATE exj_ckeys SET running=(SELECT count(*) FROM exj_hot WHERE ckey=exj_ckeys.id"
      " AND status=2)" },
    { "counters", "graphs count other keys and values than they have",
      "SELECT count(*) FROM exj_kv_graphs g WHERE keys<>(SELECT count(*) FROM exj_kv"
      " WHERE graph=g.graph) OR bytes<>(SELECT coalesce(sum(length(CAST(key AS BLOB))"
      "+length(CAST(value AS BLOB))), 0) FROM exj_kv WHERE graph=g.graph)",
      "UPDATE exj_kv_graphs SET keys=(SELECT count(*) FROM exj_kv WHERE"
      " graph=exj_kv_graphs.graph), bytes=(SELECT coalesce(sum(length(CAST(key AS BLOB))"
      "+length(CAST(value AS BLOB))), 0) FROM exj_kv WHERE graph=exj_kv_graphs.graph)" },
};

static bool check_rule(struct exj_doctor *d, const char *part, const char *text,
                       const char *count, const char *fix)
{
    int64_t n;

    if (!exj_doctor_number(d, count, &n))
        return false;
    if (!n)
        return true;
    if (fix && d->o->fix && !exj_doctor_exec(d, fix))
        return false;
    exj_doctor_found(d, part, fix != NULL, fix && d->o->fix, "%" PRId64 " %s", n, text);
    return true;
}

/* The counters of pools, after rows were mended. */
static bool check_pools(struct exj_doctor *d)
{
    static const char tally[] =
        "CREATE TEMP TABLE tally(pool INTEGER, status INTEGER, n INTEGER,"
        " PRIMARY KEY(pool, status)) WITHOUT ROWID;"
        "INSERT INTO tally SELECT r.pool, coalesce(h.status, t.status), count(*) FROM " ROWS " r"
        " LEFT JOIN exj_hot h ON h.seq=r.seq LEFT JOIN exj_results t ON t.seq=r.seq"
        " WHERE h.seq IS NOT NULL OR t.seq IS NOT NULL GROUP BY 1, 2";
    bool good = exj_doctor_exec(d, tally);

    for (int i = 0; good && i < EXJ_STATUS_COUNT; i++) {
        char text[80], count[200], fix[200];

        snprintf(text, sizeof(text), "pools count their rows that are %s wrongly",
                 exj_status_name((exj_status)i));
        snprintf(count, sizeof(count),
                 "SELECT count(*) FROM exj_pools WHERE n%d<>coalesce((SELECT n FROM tally"
                 " WHERE pool=id AND status=%d), 0)", i, i);
        snprintf(fix, sizeof(fix),
                 "UPDATE exj_pools SET n%d=coalesce((SELECT n FROM tally WHERE pool=id"
                 " AND status=%d), 0)", i, i);
        good = check_rule(d, "counters", text, count, fix);
    }
    return good;
}

/* ---- blobs ---------------------------------------------------------------------------------------- */

#define POINTERS(table, column)                                                                \
    "SELECT seq, " column " AS v FROM " table " WHERE " column ">='@' AND " column "<'A'"

static bool check_counts(struct exj_doctor *d)
{
    static const char collect[] =
        "CREATE TEMP TABLE pointers(hash TEXT PRIMARY KEY, bytes INTEGER, refs INTEGER,"
        " seq INTEGER) WITHOUT ROWID;"
        "INSERT INTO pointers SELECT substr(v, 2, 64), max(CAST(substr(v, 67) AS INTEGER)),"
        " count(*), min(seq) FROM (" POINTERS(ROWS, "input") " UNION ALL "
        POINTERS("exj_results", "body") " UNION ALL "
        POINTERS("exellix_execution_matrix_snapshots", "body") " UNION ALL "
        POINTERS("exj_journal", "body") ") GROUP BY 1";

    return exj_doctor_exec(d, collect) &&
           check_rule(d, "blobs", "blobs are counted otherwise than they are pointed to",
                      "SELECT count(*) FROM (SELECT hash, bytes, refs FROM pointers EXCEPT"
                      " SELECT hash, bytes, refs FROM exj_blobs)",
                      "INSERT OR REPLACE INTO exj_blobs(hash, bytes, refs)"
                      " SELECT hash, bytes, refs FROM pointers") &&
           check_rule(d, "blobs", "blobs are counted although nothing points to them",
                      "SELECT count(*) FROM exj_blobs WHERE refs>0 AND hash NOT IN"
                      " (SELECT hash FROM pointers)",
                      "UPDATE exj_blobs SET refs=0 WHERE hash NOT IN (SELECT hash FROM pointers)");
}

/* What somebody points to has to be there, and whole. */
static bool check_values(struct exj_doctor *d)
{
    sqlite3_stmt *st = NULL;
    int64_t total = 0;
    bool good = exj_doctor_number(d, "SELECT count(*) FROM pointers", &total);
    int step = SQLITE_DONE;

    if (good && sqlite3_prepare_v2(d->s.db, "SELECT hash, bytes, seq FROM pointers", -1, &st,
                                   NULL) != SQLITE_OK)
        good = false;
    while (good && (step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_slice hash = exj_sqlite_column(st, 0);
        exj_blob_ref ref = { .bytes = sqlite3_column_int64(st, 1) };
        exj_err why = { 0 };
        exj_code rc;

        snprintf(ref.hash, sizeof(ref.hash), "%.*s", (int)hash.n, hash.p);
        rc = exj_blobs_check(d->s.blobs, &ref, &why);
        /* Beside a worker it may have gone since our view was taken. */
        if (rc && rc != EXJ_CORRUPT && rc != EXJ_NOT_FOUND) {
            exj_err_set(&d->err, rc, "%s", why.text);
            good = false;
        } else if (rc && (d->o->fix || exj_sqlite_blob_is_pointed_to(&d->s, &ref))) {
            exj_doctor_found(d, "blobs", false, false, "row %" PRId64 ": %s",
                             (int64_t)sqlite3_column_int64(st, 2), why.text);
        }
        d->report->blobs++;
        good = good && exj_doctor_tell(d, "blobs", d->report->blobs, total);
    }
    if (good && step != SQLITE_DONE)
        good = false;
    if (!good && !d->err.code)
        exj_sqlite_fail(&d->s, d->s.db, "cannot list blobs", &d->err);
    sqlite3_finalize(st);
    return good;
}

struct strays {
    struct exj_doctor *d;
    sqlite3_stmt *st;
    int64_t n, bytes;
};

static bool is_stray(void *user, const exj_blob_ref *ref)
{
    struct strays *x = user;
    int step;

    exj_sqlite_bind(x->st, 1, exj_slice_of(ref->hash));
    step = sqlite3_step(x->st);
    sqlite3_reset(x->st);
    if (step != SQLITE_DONE)
        return true;
    x->n++;
    x->bytes += ref->bytes;
    return !x->d->o->fix ||
           exj_blobs_remove(x->d->s.blobs, ref->hash, &x->d->err) == EXJ_OK;
}

/* Files that nobody points to. Beside a worker they may be on their way into the store: only
 * who has the store alone can tell. */
static bool check_strays(struct exj_doctor *d)
{
    struct strays x = { .d = d };
    bool good;

    if (!d->alone)
        return true;
    good = sqlite3_prepare_v2(d->s.db, "SELECT 1 FROM pointers WHERE hash=?1", -1, &x.st, NULL) ==
               SQLITE_OK &&
           exj_blobs_each(d->s.blobs, is_stray, &x, &d->err) == EXJ_OK && !d->err.code;
    sqlite3_finalize(x.st);
    if (x.n)
        exj_doctor_found(d, "blobs", true, good && d->o->fix,
                         "%" PRId64 " files of %" PRId64 " bytes that nothing points to", x.n,
                         x.bytes);
    if (!good && !d->err.code)
        exj_sqlite_fail(&d->s, d->s.db, "cannot look for stray files", &d->err);
    return good && (!d->o->fix || exj_doctor_exec(d, "DELETE FROM exj_blobs WHERE refs<=0"));
}

/* ---- all of it -------------------------------------------------------------------------------------- */

static bool check_all(struct exj_doctor *d)
{
    if (!exj_doctor_tell(d, "file", 0, 1) || !check_file(d) || !check_schema(d))
        return false;
    if (d->no_table) /* nothing below could be said */
        return true;
    if (!exj_doctor_number(d, "SELECT count(*) FROM " ROWS, &d->report->rows))
        return false;
    for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
        if (!exj_doctor_tell(d, "tables", (int64_t)i, sizeof(rules) / sizeof(*rules)) ||
            !check_rule(d, rules[i].part, rules[i].text, rules[i].count, rules[i].fix))
            return false;
    return exj_doctor_journal(d) && check_pools(d) && check_counts(d) && check_values(d) &&
           check_strays(d);
}

static exj_code open_all(struct exj_doctor *d, char *path, const char *dir)
{
    char blobs[PATH_BYTES];
    exj_buf note = EXJ_BUF_INIT;
    int64_t version = 0;
    struct stat st;
    exj_code rc;

    if (strlen(dir) > 4000)
        return exj_err_set(&d->err, EXJ_INVALID, "the path is too long");
    snprintf(path, PATH_BYTES, "%s/" EXJ_SQLITE_FILE, dir);
    if (stat(path, &st) < 0)
        return exj_err_set(&d->err, EXJ_NOT_FOUND, "no store in %s", dir);
    d->s.path = path;
    /* Who only looks takes no lock: a worker that starts meanwhile must not find it taken. */
    rc = d->o->fix ? exj_sqlite_lock(dir, "doctor --fix", &d->s.lock_fd, &d->err) : EXJ_OK;
    if (rc)
        return rc;
    d->alone = d->o->fix || exj_sqlite_holder(dir, &note, NULL) == EXJ_NOT_FOUND;
    exj_buf_release(&note);
    snprintf(blobs, sizeof(blobs), "%s/blobs", dir);
    rc = exj_sqlite_connect(&d->s, d->o->fix ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY,
                            &d->s.db, &d->err);
    if (!rc)
        rc = exj_sqlite_check_version(&d->s, d->s.db, &version, &d->err);
    if (!rc && version != EXJ_SQLITE_SCHEMA)
        rc = exj_err_set(&d->err, EXJ_REFUSED,
                         "store %s: its schema is version %" PRId64 ", doctor looks at %d: start "
                         "the worker once to bring it up to date",
                         path, version, EXJ_SQLITE_SCHEMA);
    if (!rc)
        rc = exj_blobs_new(blobs, !d->o->fix, NULL, &d->s.blobs, &d->err);
    return rc;
}

exj_code exj_sqlite_doctor(const exj_doctor_options *o, exj_doctor_report *ret, exj_err *err)
{
    struct exj_doctor *d = calloc(1, sizeof(*d));
    char path[PATH_BYTES];
    exj_code rc;

    *ret = (exj_doctor_report){ 0 };
    if (!d)
        return exj_err_set(err, EXJ_NOMEM, "doctor: out of memory");
    d->o = o;
    d->report = ret;
    d->s.lock_fd = -1;
    pthread_mutex_init(&d->s.readers_mu, NULL);
    rc = open_all(d, path, o->dir);
    if (!rc)
        rc = exj_sqlite_exec(&d->s, d->s.db, o->fix ? "BEGIN IMMEDIATE" : "BEGIN", &d->err);
    if (!rc && (!check_all(d) || !exj_doctor_exec(d, o->fix ? "COMMIT" : "ROLLBACK")))
        rc = d->err.code ? d->err.code : EXJ_BUG;
    exj_sqlite_close_readers(&d->s);
    sqlite3_close_v2(d->s.db);
    exj_blobs_free(d->s.blobs);
    exj_sqlite_unlock(d->s.lock_fd);
    pthread_mutex_destroy(&d->s.readers_mu);
    if (rc)
        exj_err_set(err, rc, "%s", d->err.text);
    free(d);
    return rc;
}
