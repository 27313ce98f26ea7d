/* core/store/sqlite/schema.c - tables, and the way from any older version to this one.
 *
 * Recipe for changing the stored format: raise EXJ_SQLITE_SCHEMA, append ONE step below,
 * never touch an older step, add a file of the version before to the contract suite's
 * migration test, describe the change in docs/store-format.md. A new store takes every
 * step from 0, so each step runs on each new store. All steps of one opening are one
 * transaction: a crash leaves the old version.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdio.h>

#define STR2(x) #x
#define STR(x) STR2(x)

/* Only references begin with '@' (offload.c). */
#define IS_POINTER(value) "(" value ">='@' AND " value "<'A')"
#define POINTED(value) "substr(" value ", 2, 64), CAST(substr(" value ", 67) AS INTEGER), 1"
#define POINTERS(name, table, column)                                                          \
    "CREATE TRIGGER exj_blobs_add_" name " AFTER INSERT ON " table " WHEN "                    \
    IS_POINTER("NEW." column) " BEGIN INSERT INTO exj_blobs(hash, bytes, refs) VALUES("        \
    POINTED("NEW." column) ") ON CONFLICT(hash) DO UPDATE SET refs=refs+1; END;"               \
    "CREATE TRIGGER exj_blobs_drop_" name " AFTER DELETE ON " table " WHEN "                   \
    IS_POINTER("OLD." column) " BEGIN UPDATE exj_blobs SET refs=refs-1"                        \
    " WHERE hash=substr(OLD." column ", 2, 64); END;"

static const char *const steps[EXJ_SQLITE_SCHEMA] = {
    /* 0 -> 1 */
    "CREATE TABLE exj_meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exellix_graph_configs(id TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " body TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
    "CREATE TABLE exellix_matrix_configs(id TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " body TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
    /* nS: rows of the pool whose status is S (core/job/state.h). */
    "CREATE TABLE exj_pools(id INTEGER PRIMARY KEY, matrix TEXT NOT NULL, run TEXT NOT NULL,"
    " graph TEXT NOT NULL, n0 INTEGER NOT NULL DEFAULT 0, n1 INTEGER NOT NULL DEFAULT 0,"
    " n2 INTEGER NOT NULL DEFAULT 0, n3 INTEGER NOT NULL DEFAULT 0,"
    " n4 INTEGER NOT NULL DEFAULT 0, n5 INTEGER NOT NULL DEFAULT 0,"
    " n6 INTEGER NOT NULL DEFAULT 0, n7 INTEGER NOT NULL DEFAULT 0,"
    " n8 INTEGER NOT NULL DEFAULT 0, UNIQUE(matrix, run, graph)) STRICT;"
    "CREATE TABLE exellix_execution_matrix_rows(seq INTEGER PRIMARY KEY,"
    " pool INTEGER NOT NULL, record_id TEXT NOT NULL, priority INTEGER NOT NULL,"
    " max_attempts INTEGER NOT NULL, created_at INTEGER NOT NULL, input TEXT NOT NULL,"
    " UNIQUE(pool, record_id)) STRICT;"
    /* rank is -priority, so that the claim order is the index's order. */
    "CREATE TABLE exj_hot(seq INTEGER PRIMARY KEY, pool INTEGER NOT NULL,"
    " status INTEGER NOT NULL, rank INTEGER NOT NULL, run_after INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, max_attempts INTEGER NOT NULL, fence INTEGER NOT NULL,"
    " nonce INTEGER NOT NULL, holder INTEGER NOT NULL, until INTEGER NOT NULL) STRICT;"
    "CREATE INDEX exj_hot_ready ON exj_hot(pool, rank) WHERE status=0;"
    "CREATE INDEX exj_hot_waiting ON exj_hot(run_after) WHERE status=1;"
    "CREATE INDEX exj_hot_leases ON exj_hot(until) WHERE status=2;"
    "CREATE TABLE exj_results(seq INTEGER PRIMARY KEY, status INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, fence INTEGER NOT NULL, nonce INTEGER NOT NULL,"
    " at INTEGER NOT NULL, error_code TEXT NOT NULL, error_text TEXT NOT NULL,"
    " body TEXT NOT NULL) STRICT;"
    "CREATE TABLE exellix_execution_matrix_failures(seq INTEGER NOT NULL,"
    " fence INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL,"
    " code TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY(seq, fence)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exellix_execution_matrix_snapshots(seq INTEGER NOT NULL,"
    " fence INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL,"
    " PRIMARY KEY(seq, fence, n)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exj_journal(seq INTEGER NOT NULL, step TEXT NOT NULL,"
    " fence INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL,"
    " body TEXT NOT NULL, PRIMARY KEY(seq, step)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exj_holders(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;",

    /* 1 -> 2: a failure knows its claim, so that a holder who repeats the report of a failed
     * attempt is told that it landed; deleted documents leave their version behind, so that
     * a guard on a version can never mean a later document of the same id; rows that ended
     * otherwise than well are found without a walk over all results. */
    "ALTER TABLE exellix_execution_matrix_failures ADD COLUMN nonce INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE exj_gone(kind INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,"
    " PRIMARY KEY(kind, id)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX exj_results_ended ON exj_results(status) WHERE status<>3;",

    /* 2 -> 3: keys and values of a graph, counted; the token at an operator's last retry of
     * a row, from which on its failures count; blocked rows are found by why they are. */
    "CREATE TABLE exj_kv(id INTEGER PRIMARY KEY, graph TEXT NOT NULL, key TEXT NOT NULL,"
    " value TEXT NOT NULL, at INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " UNIQUE(graph, key)) STRICT;"
    "CREATE TABLE exj_kv_graphs(graph TEXT PRIMARY KEY, keys INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE exj_retried(seq INTEGER PRIMARY KEY, fence INTEGER NOT NULL) STRICT;"
    "CREATE INDEX exj_results_blocked ON exj_results(error_code) WHERE status=5;",

    /* 3 -> 4: the journal of all rows (events.c has the format of a batch); what rows may
     * carry and wait for. Rows that were suspended come back into the queue: they had no way
     * out before, and wait for a signal now. */
    "CREATE TABLE exj_events(first INTEGER PRIMARY KEY, n INTEGER NOT NULL,"
    " at INTEGER NOT NULL, body BLOB NOT NULL) STRICT;"
    "ALTER TABLE exj_pools ADD COLUMN n9 INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE exj_hot ADD COLUMN last INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE exj_hot ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE exj_hot ADD COLUMN ckey INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE exj_results ADD COLUMN last INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX exj_hot_suspended ON exj_hot(run_after) WHERE status=6;"
    "CREATE INDEX exj_hot_parked ON exj_hot(ckey, pool, rank) WHERE status=9;"
    /* What a row carries beyond its record; only rows that carry something have one. */
    "CREATE TABLE exj_extras(seq INTEGER PRIMARY KEY, ukey TEXT NOT NULL, ckey TEXT NOT NULL,"
    " snapshot TEXT NOT NULL) STRICT;"
    "CREATE TABLE exj_unique(graph TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL,"
    " until INTEGER NOT NULL, live INTEGER NOT NULL, PRIMARY KEY(graph, key)) STRICT,"
    " WITHOUT ROWID;"
    "CREATE TABLE exj_ckeys(id INTEGER PRIMARY KEY, graph TEXT NOT NULL, key TEXT NOT NULL,"
    " cap INTEGER NOT NULL, running INTEGER NOT NULL, UNIQUE(graph, key)) STRICT;"
    "CREATE TABLE exj_rates(graph TEXT PRIMARY KEY, tat INTEGER NOT NULL) STRICT,"
    " WITHOUT ROWID;"
    "CREATE TABLE exj_waits(seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
    " signal TEXT NOT NULL) STRICT;"
    "CREATE TABLE exj_signals(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
    " name TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;"
    "CREATE INDEX exj_signals_row ON exj_signals(seq);"
    "ALTER TABLE exellix_execution_matrix_snapshots ADD COLUMN nonce INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE exj_progress(seq INTEGER PRIMARY KEY, fence INTEGER NOT NULL,"
    " at REAL NOT NULL, note TEXT NOT NULL) STRICT;"
    "ALTER TABLE exj_journal ADD COLUMN done INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE exj_journal ADD COLUMN number INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE exj_journal ADD COLUMN began_at INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE exj_commands(key TEXT PRIMARY KEY, fingerprint BLOB NOT NULL,"
    " owner INTEGER NOT NULL, status INTEGER NOT NULL, until INTEGER NOT NULL,"
    " body TEXT NOT NULL) STRICT;"
    "CREATE INDEX exj_commands_until ON exj_commands(until);"
    "INSERT INTO exj_hot(seq, pool, status, rank, run_after, attempts, max_attempts, fence,"
    " nonce, holder, until) SELECT t.seq, r.pool, 6, -r.priority, 9223372036854775807,"
    " max(t.attempts-1, 0), r.max_attempts, t.fence, 0, 0, 0 FROM exj_results t"
    " JOIN exellix_execution_matrix_rows r ON r.seq=t.seq WHERE t.status=6;"
    "DELETE FROM exj_results WHERE status=6;",

    /* 4 -> 5: large values in the blob directory: "@HASH:BYTES" stands for one, triggers count
     * who points to it (offload.c); names of rows that were removed. */
    "CREATE TABLE exj_blobs(hash TEXT PRIMARY KEY, bytes INTEGER NOT NULL,"
    " refs INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX exj_blobs_free ON exj_blobs(hash) WHERE refs<=0;"
    POINTERS("rows", "exellix_execution_matrix_rows", "input")
    POINTERS("results", "exj_results", "body")
    POINTERS("snapshots", "exellix_execution_matrix_snapshots", "body")
    POINTERS("steps", "exj_journal", "body")
    "CREATE TRIGGER exj_blobs_set_steps AFTER UPDATE OF body ON exj_journal"
    " WHEN " IS_POINTER("NEW.body") " OR " IS_POINTER("OLD.body")
    " BEGIN INSERT INTO exj_blobs(hash, bytes, refs) SELECT " POINTED("NEW.body")
    " WHERE " IS_POINTER("NEW.body") " ON CONFLICT(hash) DO UPDATE SET refs=refs+1;"
    " UPDATE exj_blobs SET refs=refs-1 WHERE " IS_POINTER("OLD.body")
    " AND hash=substr(OLD.body, 2, 64); END;"
    "CREATE TABLE exj_past(pool INTEGER NOT NULL, record_id TEXT NOT NULL,"
    " seq INTEGER NOT NULL, PRIMARY KEY(pool, record_id)) STRICT, WITHOUT ROWID;",

    /* 5 -> 6: how far each event sink is, what it has still to deliver, what it gave up. */
    "CREATE TABLE exj_sinks(name TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT,"
    " WITHOUT ROWID;"
    "CREATE TABLE exj_held(sink TEXT NOT NULL, number INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " tries INTEGER NOT NULL, at INTEGER NOT NULL, error TEXT NOT NULL, body TEXT NOT NULL,"
    " PRIMARY KEY(sink, number)) STRICT, WITHOUT ROWID;"
    /* An operator names a dead letter by its id: it must never mean another one. */
    "CREATE TABLE exj_dead(id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL,"
    " number INTEGER NOT NULL, seq INTEGER NOT NULL, tries INTEGER NOT NULL,"
    " at INTEGER NOT NULL, error TEXT NOT NULL, body TEXT NOT NULL, UNIQUE(sink, number))"
    " STRICT;"
    /* Rows that count as queued and are not ready: the oldest of them may be dropped. */
    "CREATE INDEX exj_hot_aside ON exj_hot(pool) WHERE status IN (1, 9);",

    /* 6 -> 7: schedules with their states, the runs they ask for, pools with open rows. */
    "CREATE TABLE exellix_schedule_configs(id TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " body TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
    "CREATE TABLE exj_schedules(id TEXT PRIMARY KEY, turn INTEGER NOT NULL,"
    " version INTEGER NOT NULL, last_tick INTEGER NOT NULL, next_due INTEGER NOT NULL,"
    " paused INTEGER NOT NULL, times TEXT NOT NULL, error TEXT NOT NULL,"
    " error_at INTEGER NOT NULL, fired INTEGER NOT NULL, skipped INTEGER NOT NULL) STRICT,"
    " WITHOUT ROWID;"
    "CREATE INDEX exj_schedules_due ON exj_schedules(next_due) WHERE next_due<>0;"
    "CREATE TABLE exj_runs(id INTEGER PRIMARY KEY, matrix TEXT NOT NULL, run TEXT NOT NULL,"
    " at INTEGER NOT NULL, done INTEGER NOT NULL, UNIQUE(matrix, run)) STRICT;"
    "CREATE INDEX exj_runs_asked ON exj_runs(id) WHERE done=0;"
    "CREATE INDEX exj_pools_open ON exj_pools(matrix, run)"
    " WHERE run<>'' AND n0+n1+n2+n6+n9>0;",

    /* 7 -> 8: what every row passes through got cheaper. Rows that are not ready (waiting,
     * suspended, parked) are found through a table of their own: each index of exj_hot costs
     * each row three times, whether it is in it or not. And who writes a pointer counts it,
     * for a trigger that does nothing costs as much as the statement that fires it. `at` is
     * when the row goes on by itself; NULL: never. */
    "CREATE TABLE exj_aside(seq INTEGER PRIMARY KEY, pool INTEGER NOT NULL,"
    " status INTEGER NOT NULL, at INTEGER, ckey INTEGER NOT NULL, rank INTEGER NOT NULL) STRICT;"
    "INSERT INTO exj_aside(seq, pool, status, at, ckey, rank) SELECT seq, pool, status,"
    " CASE WHEN status=9 OR run_after=9223372036854775807 THEN NULL ELSE run_after END, ckey,"
    " rank FROM exj_hot WHERE status IN (1, 6, 9);"
    "CREATE INDEX exj_aside_due ON exj_aside(at);"
    "CREATE INDEX exj_aside_parked ON exj_aside(ckey, pool, rank) WHERE status=9;"
    "CREATE INDEX exj_aside_queued ON exj_aside(pool) WHERE status IN (1, 9);"
    "DROP INDEX exj_hot_waiting; DROP INDEX exj_hot_suspended; DROP INDEX exj_hot_parked;"
    "DROP INDEX exj_hot_aside;"
    "DROP TRIGGER exj_blobs_add_rows; DROP TRIGGER exj_blobs_add_results;"
    "DROP TRIGGER exj_blobs_add_steps; DROP TRIGGER exj_blobs_set_steps;",

    /* 8 -> 9: when a schedule last started something. */
    "ALTER TABLE exj_schedules ADD COLUMN last_fired INTEGER NOT NULL DEFAULT 0;",
};

exj_code exj_sqlite_check_version(const exj_sqlite *s, sqlite3 *db, int64_t *ret,
                                  exj_err *err)
{
    int64_t tables = 0, meta = 0, version = 0;
    exj_code rc;

    rc = exj_sqlite_number(s, db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (!rc)
        rc = exj_sqlite_number(
            s, db, "SELECT count(*) FROM sqlite_schema WHERE name='exj_meta'", &meta, err);
    if (!rc && meta)
        rc = exj_sqlite_number(s, db, "SELECT value FROM exj_meta WHERE key='schema'",
                               &version, err);
    if (rc)
        return rc;
    if (tables && version < 1)
        return exj_err_set(err, EXJ_REFUSED,
                           "store %s: a database, but not a store of exellix-jobs", s->path);
    if (version > EXJ_SQLITE_SCHEMA)
        return exj_err_set(err, EXJ_REFUSED,
                           "store %s: its schema is version %" PRId64
                           ", this program knows versions up to %d: use a newer program",
                           s->path, version, EXJ_SQLITE_SCHEMA);
    *ret = version;
    return EXJ_OK;
}

exj_code exj_sqlite_make_tables(const exj_sqlite *s, sqlite3 *db, int64_t from, exj_err *err)
{
    exj_code rc = EXJ_OK;

    for (int64_t v = from; !rc && v < EXJ_SQLITE_SCHEMA; v++) {
        rc = exj_sqlite_exec(s, db, steps[v], err);
        if (rc)
            exj_err_prefix(err, "schema %" PRId64 " to %" PRId64, v, v + 1);
    }
    return rc;
}

exj_code exj_sqlite_migrate(exj_sqlite *s, exj_err *err)
{
    int64_t version = 0;
    exj_code rc = exj_sqlite_check_version(s, s->db, &version, err);

    if (rc || version == EXJ_SQLITE_SCHEMA)
        return rc;
    rc = exj_sqlite_exec(s, s->db, "BEGIN IMMEDIATE", err);
    if (!rc)
        rc = exj_sqlite_make_tables(s, s->db, version, err);
    if (!rc)
        rc = exj_sqlite_exec(s, s->db,
                             "INSERT OR REPLACE INTO exj_meta(key, value)"
                             " VALUES('schema', " STR(EXJ_SQLITE_SCHEMA) ");"
                             "INSERT OR IGNORE INTO exj_meta(key, value) VALUES('clock', 0)",
                             err);
    if (!rc)
        rc = exj_sqlite_exec(s, s->db, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}
