/* core/store/sqlite/db.c - SQLite's codes, connections and the store's clock. */
#include "core/store/sqlite/internal.h"

#include "core/base/clock.h"

exj_code exj_sqlite_code(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return EXJ_OK;
    case SQLITE_NOMEM:
        return EXJ_NOMEM;
    case SQLITE_FULL:
        return EXJ_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EXJ_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return EXJ_CORRUPT;
    case SQLITE_TOOBIG:
        return EXJ_INVALID;
    case SQLITE_IOERR:
        /* An allocation that failed inside the VFS is still only lack of memory. */
        return rc == SQLITE_IOERR_NOMEM ? EXJ_NOMEM : EXJ_IO;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL:
        return EXJ_IO;
    default:
        return EXJ_BUG;
    }
}

exj_code exj_sqlite_fail(const exj_sqlite *s, sqlite3 *db, const char *what, exj_err *err)
{
    int rc = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    int cause = db && (rc & 0xff) == SQLITE_CANTOPEN ? sqlite3_system_errno(db) : 0;
    exj_code code = exj_sqlite_code(rc);

    return exj_err_set(err, code ? code : EXJ_BUG, "store %s: %s: %s%s%s (SQLite code %d)",
                       s->path, what, db ? sqlite3_errmsg(db) : "out of memory",
                       cause ? ": " : "", cause ? strerror(cause) : "", rc);
}

exj_code exj_sqlite_exec(const exj_sqlite *s, sqlite3 *db, const char *sql, exj_err *err)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return EXJ_OK;
    return exj_sqlite_fail(s, db, sql, err);
}

exj_code exj_sqlite_connect(const exj_sqlite *s, int flags, sqlite3 **ret, exj_err *err)
{
    sqlite3 *db = NULL;
    exj_code rc = EXJ_OK;

    flags |= SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(s->path, &db, flags, s->seam.vfs) != SQLITE_OK) {
        rc = exj_sqlite_fail(s, db, "cannot open", err);
        goto out;
    }
    sqlite3_busy_timeout(db, 10000);
    rc = exj_sqlite_exec(s, db,
                         "PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;"
                         "PRAGMA secure_delete=OFF; PRAGMA trusted_schema=OFF",
                         err);
    if (rc)
        goto out;
    *ret = db;
    db = NULL;
out:
    sqlite3_close_v2(db);
    return rc;
}

exj_code exj_sqlite_number(const exj_sqlite *s, sqlite3 *db, const char *sql, int64_t *ret,
                           exj_err *err)
{
    sqlite3_stmt *st = NULL;
    exj_code code = EXJ_OK;
    int rc;

    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        return exj_sqlite_fail(s, db, sql, err);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        code = exj_sqlite_fail(s, db, sql, err);
    sqlite3_finalize(st);
    return code;
}

void exj_sqlite_bind(sqlite3_stmt *st, int i, exj_slice text)
{
    /* An empty text must not become NULL, whatever its pointer. */
    sqlite3_bind_text64(st, i, text.n ? text.p : "", text.n, SQLITE_STATIC, SQLITE_UTF8);
}

/* As a blob, which is the text as it stands: sqlite3_column_text may want memory to put a zero
 * behind it, and without that would give nothing, which looks like an empty text. */
exj_slice exj_sqlite_column(sqlite3_stmt *st, int i)
{
    bool is_text = sqlite3_column_type(st, i) == SQLITE_TEXT;
    const void *p = sqlite3_column_blob(st, i); /* first: it settles the length */

    if (!p)
        return (exj_slice){ is_text ? "" : NULL, 0 };
    return (exj_slice){ p, (size_t)sqlite3_column_bytes(st, i) };
}

exj_msec exj_sqlite_now(exj_sqlite *s)
{
    exj_msec wall = s->seam.wall_ms ? s->seam.wall_ms(s->seam.user) : exj_clock_wall_ms();
    exj_nsec ns = s->seam.mono_ns ? s->seam.mono_ns(s->seam.user) : exj_clock_mono_ns();
    exj_msec mono = ns / 1000000;
    int64_t seen = atomic_load_explicit(&s->skew_ms, memory_order_relaxed);

    /* A wall clock that steps back lowers wall - mono: it is ignored and time goes on at
     * the monotonic clock's pace, so leases still end. */
    while (wall - mono > seen)
        if (atomic_compare_exchange_weak_explicit(&s->skew_ms, &seen, wall - mono,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed)) {
            seen = wall - mono;
            break;
        }
    return mono + seen;
}
