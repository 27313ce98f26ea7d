/* core/store/sqlite/sql.c - what the writer says to SQLite, in the order of
 * enum exj_sqlite_write. */
#include "core/store/sqlite/internal.h"

#define ROWS "exellix_execution_matrix_rows"
#define FAILURES "exellix_execution_matrix_failures"
#define SNAPSHOTS "exellix_execution_matrix_snapshots"

/* `status` is a literal in every WHERE: a partial index must not depend on a binding. */
const char *const exj_sqlite_texts[W_COUNT] = {
    [W_BEGIN] = "BEGIN IMMEDIATE",
    [W_COMMIT] = "COMMIT",
    [W_ROLLBACK] = "ROLLBACK",
    [W_CLOCK] = "UPDATE exj_meta SET value=?1 WHERE key='clock'",
    [W_EVENTS_ADD] = "INSERT INTO exj_events(first, n, at, body) VALUES(?1, ?2, ?3, ?4)",

    [W_POOL_FIND] = "SELECT id FROM exj_pools WHERE matrix=?1 AND run=?2 AND graph=?3",
    [W_POOL_ADD] = "INSERT INTO exj_pools(matrix, run, graph) VALUES(?1, ?2, ?3) RETURNING id",
    [W_POOL_COUNTS] = "UPDATE exj_pools SET n0=?2, n1=?3, n2=?4, n3=?5, n4=?6, n5=?7, n6=?8,"
                      " n7=?9, n8=?10, n9=?11 WHERE id=?1",

    [W_ROW_ADD] = "INSERT INTO " ROWS "(seq, pool, record_id, priority,"
                  " max_attempts, created_at, input) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                  " ON CONFLICT(pool, record_id) DO NOTHING",
    [W_ROW_FIND] = "SELECT seq FROM " ROWS " WHERE pool=?1 AND record_id=?2",
    [W_HOT_ADD] = "INSERT INTO exj_hot(seq, pool, status, rank, run_after, attempts,"
                  " max_attempts, fence, nonce, holder, until, last, flags, ckey)"
                  " VALUES(?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, 0, 0, 0, ?8, ?9, ?10)",
    [W_EXTRAS_ADD] = "INSERT INTO exj_extras(seq, ukey, ckey, snapshot) VALUES(?1, ?2, ?3, ?4)",
    [W_EXTRAS] = "SELECT ukey, ckey FROM exj_extras WHERE seq=?1",
    [W_UNIQUE] = "SELECT seq FROM exj_unique WHERE graph=(SELECT graph FROM exj_pools"
                 " WHERE id=?1) AND key=?2 AND seq<>?3 AND (live=1 OR until>?4)",
    [W_UNIQUE_SET] = "INSERT OR REPLACE INTO exj_unique(graph, key, seq, until, live)"
                     " VALUES((SELECT graph FROM exj_pools WHERE id=?1), ?2, ?3, ?4, 1)",
    [W_UNIQUE_KEEP] = "UPDATE exj_unique SET live=1 WHERE graph=(SELECT graph FROM exj_pools"
                      " WHERE id=?1) AND key=?2 AND seq=?3",
    [W_UNIQUE_END] = "UPDATE exj_unique SET live=0 WHERE graph=(SELECT graph FROM exj_pools"
                     " WHERE id=?1) AND key=(SELECT ukey FROM exj_extras WHERE seq=?2)"
                     " AND seq=?2",
    [W_UNIQUE_DROP] = "DELETE FROM exj_unique WHERE graph=(SELECT graph FROM exj_pools"
                      " WHERE id=?1) AND key=(SELECT ukey FROM exj_extras WHERE seq=?2)"
                      " AND seq=?2 AND until<=?3",
    [W_CKEY_FIND] = "SELECT id FROM exj_ckeys WHERE graph=(SELECT graph FROM exj_pools"
                    " WHERE id=?1) AND key=?2",
    [W_CKEY_ADD] = "INSERT INTO exj_ckeys(graph, key, cap, running)"
                   " VALUES((SELECT graph FROM exj_pools WHERE id=?1), ?2, 1, 0) RETURNING id",
    [W_CKEYS_NARROW] = "SELECT id FROM exj_ckeys WHERE graph=(SELECT graph FROM exj_pools"
                       " WHERE id=?1) AND cap<?2 LIMIT ?3",
    [W_CKEY] = "SELECT cap, running FROM exj_ckeys WHERE id=?1",
    [W_CKEY_SET] = "UPDATE exj_ckeys SET cap=?2, running=?3 WHERE id=?1",
    [W_PARKED_POOL] = "SELECT pool FROM exj_aside INDEXED BY exj_aside_parked"
                      " WHERE status=9 AND ckey=?1 AND pool>?2 ORDER BY pool LIMIT 1",
    [W_PARKED] = "SELECT seq FROM exj_aside INDEXED BY exj_aside_parked"
                 " WHERE status=9 AND ckey=?1 AND pool=?2 ORDER BY rank, seq LIMIT 1",
    [W_OLDEST] = "SELECT seq FROM (SELECT min(seq) AS seq FROM exj_hot INDEXED BY exj_hot_ready"
                 " WHERE status=0 AND pool=?1 UNION ALL"
                 " SELECT min(seq) FROM exj_aside INDEXED BY exj_aside_queued"
                 " WHERE status IN (1, 9) AND pool=?1)"
                 " WHERE seq IS NOT NULL ORDER BY seq LIMIT 1",

    [W_GUARD_GRAPH] = "SELECT version FROM exellix_graph_configs WHERE id=?1",
    [W_GUARD_MATRIX] = "SELECT version FROM exellix_matrix_configs WHERE id=?1",
    [W_HOLDER_FIND] = "SELECT id FROM exj_holders WHERE name=?1",
    [W_HOLDER_ADD] = "INSERT INTO exj_holders(name) VALUES(?1) RETURNING id",
    [W_RATE] = "SELECT tat FROM exj_rates WHERE graph=(SELECT graph FROM exj_pools WHERE id=?1)",
    [W_RATE_SET] = "INSERT OR REPLACE INTO exj_rates(graph, tat)"
                   " VALUES((SELECT graph FROM exj_pools WHERE id=?1), ?2)",
    [W_READY] = "SELECT seq, fence, attempts, max_attempts, last, ckey"
                " FROM exj_hot INDEXED BY exj_hot_ready"
                " WHERE status=0 AND pool=?1 ORDER BY rank, seq LIMIT ?2",
    [W_CLAIM] = "UPDATE exj_hot SET status=2, fence=?2, attempts=?3, nonce=?4, holder=?5,"
                " until=?6, last=?7 WHERE seq=?1 AND status=0",
    [W_LIVE] = "SELECT pool, status, run_after, attempts, max_attempts, fence, nonce, holder,"
               " until, flags, ckey, last, rank FROM exj_hot WHERE seq=?1",
    [W_LIVE_SET] = "UPDATE exj_hot SET status=?2, run_after=?3, attempts=?4, fence=?5, nonce=?6,"
                   " holder=?7, until=?8, flags=?9, last=?10 WHERE seq=?1",
    [W_LAST] = "UPDATE exj_hot SET last=?2 WHERE seq=?1",
    [W_LEAVE] = "DELETE FROM exj_hot WHERE seq=?1",
    [W_RESULT_ADD] = "INSERT INTO exj_results(seq, status, attempts, fence, nonce, at,"
                     " error_code, error_text, body, last)"
                     " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    [W_FAILURE_ADD] = "INSERT INTO " FAILURES "(seq, fence, attempt, at,"
                      " code, text, nonce) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [W_RESULT_MINE] = "SELECT status FROM exj_results WHERE seq=?1 AND nonce=?2 AND fence=?3",
    [W_FAILURE_MINE] = "SELECT 1 FROM " FAILURES " WHERE seq=?1 AND nonce=?2 AND fence=?3",
    [W_SNAPSHOT_ADD] = "INSERT OR REPLACE INTO " SNAPSHOTS "(seq, fence, n, at, body, nonce)"
                       " VALUES(?1, ?2, 0, ?3, ?4, ?5)",
    [W_SNAPSHOT_MINE] = "SELECT 1 FROM " SNAPSHOTS " WHERE seq=?1 AND nonce=?2 AND fence=?3",

    [W_RENEW] = "UPDATE exj_hot SET until=?3 WHERE seq=?1 AND status=2 AND nonce=?2"
                " RETURNING flags",
    [W_REAPABLE] = "SELECT seq FROM exj_hot INDEXED BY exj_hot_leases"
                   " WHERE status=2 AND until<?1 ORDER BY until LIMIT ?2",
    [W_REAPABLE_BUT] = "SELECT seq FROM exj_hot INDEXED BY exj_hot_leases"
                       " WHERE status=2 AND (until<?1 OR holder<>?3) ORDER BY until LIMIT ?2",

    [W_DUE] = "SELECT seq, pool, status FROM exj_aside INDEXED BY exj_aside_due"
              " WHERE at<=?1 ORDER BY at, seq LIMIT ?2",
    [W_PROMOTE] = "UPDATE exj_hot SET status=0 WHERE seq=?1 AND status=1",
    [W_NEXT_DUE] = "SELECT at FROM exj_aside INDEXED BY exj_aside_due"
                   " WHERE at>0 ORDER BY at LIMIT 1",
    [W_ASIDE] = "INSERT OR REPLACE INTO exj_aside(seq, pool, status, at, ckey, rank)"
                " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [W_ASIDE_DROP] = "DELETE FROM exj_aside WHERE seq=?1",

    [W_ENDED] = "SELECT t.status, t.fence, r.pool, r.priority, r.max_attempts, t.last, t.attempts"
                " FROM exj_results t JOIN " ROWS " r ON r.seq=t.seq"
                " WHERE t.seq=?1",
    [W_RESULT_DROP] = "DELETE FROM exj_results WHERE seq=?1",
    [W_RETRIED] = "INSERT OR REPLACE INTO exj_retried(seq, fence) VALUES(?1, ?2)",

    [W_WAIT_SET] = "INSERT OR REPLACE INTO exj_waits(seq, kind, signal) VALUES(?1, ?2, ?3)",
    [W_WAIT] = "SELECT kind, signal FROM exj_waits WHERE seq=?1",
    [W_WAIT_DROP] = "DELETE FROM exj_waits WHERE seq=?1",
    [W_SIGNAL_ADD] = "INSERT INTO exj_signals(seq, name, at, body) VALUES(?1, ?2, ?3, ?4)",
    [W_SIGNAL_KEPT] = "SELECT id, body FROM exj_signals WHERE seq=?1 AND name=?2"
                      " ORDER BY id LIMIT 1",
    [W_SIGNAL_COUNT] = "SELECT count(*) FROM exj_signals WHERE seq=?1",
    [W_SIGNAL_DROP] = "DELETE FROM exj_signals WHERE id=?1",

    [W_GRAPH_VERSION] = "SELECT version FROM exellix_graph_configs WHERE id=?1",
    [W_GRAPH_ADD] = "INSERT INTO exellix_graph_configs(id, version, body, created_at,"
                    " updated_at) VALUES(?1, ?2, ?3, ?4, ?4)",
    [W_GRAPH_SET] = "UPDATE exellix_graph_configs SET version=?2, body=?3, updated_at=?4"
                    " WHERE id=?1",
    [W_GRAPH_DROP] = "DELETE FROM exellix_graph_configs WHERE id=?1",
    [W_MATRIX_VERSION] = "SELECT version FROM exellix_matrix_configs WHERE id=?1",
    [W_MATRIX_ADD] = "INSERT INTO exellix_matrix_configs(id, version, body, created_at,"
                     " updated_at) VALUES(?1, ?2, ?3, ?4, ?4)",
    [W_MATRIX_SET] = "UPDATE exellix_matrix_configs SET version=?2, body=?3, updated_at=?4"
                     " WHERE id=?1",
    [W_MATRIX_DROP] = "DELETE FROM exellix_matrix_configs WHERE id=?1",
    [W_GONE] = "SELECT version FROM exj_gone WHERE kind=?1 AND id=?2",
    [W_GONE_SET] = "INSERT OR REPLACE INTO exj_gone(kind, id, version) VALUES(?1, ?2, ?3)",

    [W_STEP_ADD] = "INSERT INTO exj_journal(seq, step, fence, attempt, at, body, done, number,"
                   " began_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, 0)"
                   " ON CONFLICT(seq, step) DO UPDATE SET fence=?3, attempt=?4, at=?5, body=?6,"
                   " done=1, number=?7 WHERE done=0",
    [W_STEP_BEGIN] = "INSERT INTO exj_journal(seq, step, fence, attempt, at, body, done, number,"
                     " began_at) VALUES(?1, ?2, ?3, ?4, 0, '', 0, ?6, ?5)"
                     " ON CONFLICT(seq, step) DO UPDATE SET fence=?3, attempt=?4, began_at=?5,"
                     " number=?6 WHERE done=0",
    [W_STEP_DONE] = "SELECT done, number FROM exj_journal WHERE seq=?1 AND step=?2",
    [W_STEP_TIMES] = "SELECT count(*) FROM exj_journal WHERE seq=?1 AND (step=?2 OR"
                     " (step>=?2 || ':' AND step<?2 || ';'))",
    [W_STEPS_DROP] = "DELETE FROM exj_journal WHERE seq=?1 AND number>=?2",
    [W_STEPS_COUNT] = "SELECT count(*) FROM exj_journal WHERE seq=?1",
    [W_PROGRESS] = "INSERT OR REPLACE INTO exj_progress(seq, fence, at, note)"
                   " VALUES(?1, ?2, ?3, ?4)",

    [W_COMMAND] = "SELECT fingerprint, owner, status, body, until FROM exj_commands WHERE key=?1",
    [W_COMMAND_TAKE] = "INSERT OR REPLACE INTO exj_commands(key, fingerprint, owner, status,"
                       " until, body) VALUES(?1, ?2, ?3, 0, ?4, '')",
    [W_COMMAND_KEEP] = "UPDATE exj_commands SET status=?3, body=?4"
                       " WHERE key=?1 AND owner=?2 AND status=0",
    [W_COMMAND_DROP] = "DELETE FROM exj_commands WHERE key=?1 AND owner=?2 AND status=0",
    [W_COMMANDS_OVER] = "DELETE FROM exj_commands WHERE key IN (SELECT key FROM exj_commands"
                        " WHERE until<=?1 LIMIT 100)",

    [W_BLOB] = "SELECT refs FROM exj_blobs WHERE hash=?1",
    [W_BLOB_POINT] = "INSERT INTO exj_blobs(hash, bytes, refs) VALUES(?1, ?2, 1)"
                     " ON CONFLICT(hash) DO UPDATE SET refs=refs+1",
    [W_BLOBS_FREE] = "SELECT hash FROM exj_blobs INDEXED BY exj_blobs_free WHERE refs<=0 LIMIT ?1",
    [W_BLOB_FORGET] = "DELETE FROM exj_blobs WHERE hash=?1 AND refs<=0",

    [W_REMOVABLE] = "SELECT r.pool, t.status, t.fence, t.at FROM exj_results t JOIN " ROWS " r"
                    " ON r.seq=t.seq WHERE t.seq=?1",
    [W_PAST] = "SELECT seq FROM exj_past WHERE pool=?1 AND record_id=?2",
    [W_PAST_ADD] = "INSERT OR REPLACE INTO exj_past(pool, record_id, seq)"
                   " SELECT pool, record_id, seq FROM " ROWS " WHERE seq=?1",
    [W_PAST_DROP] = "DELETE FROM exj_past WHERE pool=?1 AND record_id=?2",
    [W_META_MAX] = "INSERT INTO exj_meta(key, value) VALUES(?1, ?2)"
                   " ON CONFLICT(key) DO UPDATE SET value=max(value, ?2)",
    [W_ROW_THERE] = "SELECT 1 FROM " ROWS " WHERE seq=?1",
    [W_PAST_ROW] = "DELETE FROM " ROWS " WHERE seq=?1",
    [W_PAST_RESULT] = "DELETE FROM exj_results WHERE seq=?1",
    [W_PAST_FAILURES] = "DELETE FROM " FAILURES " WHERE seq=?1",
    [W_PAST_SNAPSHOTS] = "DELETE FROM " SNAPSHOTS " WHERE seq=?1",
    [W_PAST_STEPS] = "DELETE FROM exj_journal WHERE seq=?1",
    [W_PAST_EXTRAS] = "DELETE FROM exj_extras WHERE seq=?1",
    [W_PAST_RETRIED] = "DELETE FROM exj_retried WHERE seq=?1",
    [W_PAST_PROGRESS] = "DELETE FROM exj_progress WHERE seq=?1",
    [W_PAST_SIGNALS] = "DELETE FROM exj_signals WHERE seq=?1",
    [W_PAST_STEP_ADD] = "INSERT INTO exj_journal(seq, step, fence, attempt, at, body, done,"
                        " number, began_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [W_EVENTS_NEXT] = "SELECT first, n, body FROM exj_events WHERE first>?1"
                      " ORDER BY first LIMIT 1",
    [W_EVENTS_SET] = "UPDATE exj_events SET body=?2 WHERE first=?1",
    [W_EVENTS_DROP] = "DELETE FROM exj_events WHERE first=?1",

    [W_KV_GET] = "SELECT value FROM exj_kv WHERE graph=?1 AND key=?2",
    [W_KV_PUT] = "INSERT INTO exj_kv(graph, key, value, at, seq) VALUES(?1, ?2, ?3, ?4, ?5)"
                 " ON CONFLICT(graph, key) DO UPDATE SET value=?3, at=?4, seq=?5",
    [W_KV_DROP] = "DELETE FROM exj_kv WHERE graph=?1 AND key=?2",
    [W_KV_SIZES] = "SELECT keys, bytes FROM exj_kv_graphs WHERE graph=?1",
    [W_SCHEDULE_VERSION] = "SELECT version FROM exellix_schedule_configs WHERE id=?1",
    [W_SCHEDULE_ADD] = "INSERT INTO exellix_schedule_configs(id, version, body, created_at,"
                       " updated_at) VALUES(?1, ?2, ?3, ?4, ?4)",
    [W_SCHEDULE_SET] = "UPDATE exellix_schedule_configs SET version=?2, body=?3, updated_at=?4"
                       " WHERE id=?1",
    [W_SCHEDULE_DROP] = "DELETE FROM exellix_schedule_configs WHERE id=?1",
    [W_SCHEDULE_FORGET] = "DELETE FROM exj_schedules WHERE id=?1",
    [W_TICK_TURN] = "SELECT turn FROM exj_schedules WHERE id=?1",
    [W_TICK_ADD] = "INSERT INTO exj_schedules(id, turn, version, last_tick, next_due, paused,"
                   " times, error, error_at, fired, skipped, last_fired)"
                   " VALUES(?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    [W_TICK_SET] = "UPDATE exj_schedules SET turn=turn+1, version=?2, last_tick=?3, next_due=?4,"
                   " paused=?5, times=?6, error=?7, error_at=CASE WHEN error=?7 THEN error_at"
                   " ELSE ?8 END, fired=fired+?9, skipped=skipped+?10,"
                   " last_fired=max(last_fired, ?11) WHERE id=?1",
    [W_RUN_ASK] = "INSERT INTO exj_runs(matrix, run, at, done) VALUES(?1, ?2, ?3, 0)"
                  " ON CONFLICT(matrix, run) DO NOTHING",
    [W_RUN_DONE] = "UPDATE exj_runs SET done=1 WHERE matrix=?1 AND run=?2 AND done=0",
    [W_READY_ONE] = "SELECT seq, fence, attempts, max_attempts, last, ckey FROM exj_hot"
                    " WHERE seq=?3 AND status=0 AND pool=?1 LIMIT ?2",
    [W_SINK_SET] = "INSERT INTO exj_sinks(name, position) VALUES(?1, ?2)"
                   " ON CONFLICT(name) DO UPDATE SET position=?2",
    [W_HELD_PUT] = "INSERT INTO exj_held(sink, number, seq, tries, at, error, body)"
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(sink, number)"
                   " DO UPDATE SET tries=?4, at=?5, error=?6",
    [W_HELD_DROP] = "DELETE FROM exj_held WHERE sink=?1 AND number=?2",
    [W_DEAD_COUNT] = "SELECT count(*) FROM (SELECT 1 FROM exj_dead WHERE sink=?1 LIMIT ?2)",
    [W_DEAD_PUT] = "INSERT INTO exj_dead(sink, number, seq, tries, at, error, body)"
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(sink, number)"
                   " DO UPDATE SET tries=?4, at=?5, error=?6",
    [W_DEAD_REPLAY] = "INSERT INTO exj_held(sink, number, seq, tries, at, error, body)"
                      " SELECT sink, number, seq, 0, ?2, error, body FROM exj_dead WHERE id=?1"
                      " ON CONFLICT(sink, number) DO UPDATE SET tries=0, at=?2",
    [W_DEAD_DROP] = "DELETE FROM exj_dead WHERE id=?1",

    [W_KV_COUNT] = "INSERT INTO exj_kv_graphs(graph, keys, bytes) VALUES(?1, ?2, ?3)"
                   " ON CONFLICT(graph) DO UPDATE SET keys=keys+?2, bytes=bytes+?3",
};
