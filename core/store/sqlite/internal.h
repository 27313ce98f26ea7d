/* core/store/sqlite/internal.h - what the files of the embedded store share.
 *
 * One writer connection, owned by one writer thread that is also the only checkpointer;
 * a pool of read-only connections for whoever reads. Nobody opens the file in any other
 * way: closing a stray descriptor would drop SQLite's locks for the whole process.
 *
 *   open.c    directory, lock, connections, close, health      writer.c  queue, commit
 *   schema.c  tables and migrations                            rows.c    the life of rows
 *   lock.c    who holds the directory                          docs.c    documents, steps
 *   read.c    everything that reads                            kv.c      keys and values
 *   db.c      SQLite's codes
 *
 * Threads: `writer thread only` unless a field says otherwise.
 */
#ifndef EXJ_CORE_STORE_SQLITE_INTERNAL_H
#define EXJ_CORE_STORE_SQLITE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "core/store/store.h"

#define EXJ_SQLITE_FILE "exellix-jobs.db"
#define EXJ_SQLITE_LOCK "exellix-jobs.lock"
#define EXJ_SQLITE_SCHEMA 3 /* recipe for a change: schema.c */

/* ---- the seam for tests ----------------------------------------------------------------- */

/* Where a test may stand between the store and the world. NULL members: the real thing. */
typedef struct exj_sqlite_seam {
    exj_msec (*wall_ms)(void *user); /* called from any thread */
    exj_nsec (*mono_ns)(void *user);
    void *user;
    const char *vfs;   /* name of a registered VFS (disk faults) */
    int64_t max_pages; /* the file grows no further: SQLITE_FULL; 0: no limit */
} exj_sqlite_seam;

/* As exj_sqlite_open; `seam` (copied) may be NULL. */
exj_code exj_sqlite_open_seam(const exj_sqlite_options *o, const exj_sqlite_seam *seam,
                              exj_store **ret, exj_err *err);

/* ---- statements ------------------------------------------------------------------------- */

/* Prepared once, when the store opens. The texts stand in rows.c's order in writer.c. */
enum exj_sqlite_write {
    W_BEGIN, W_COMMIT, W_ROLLBACK, W_CLOCK,
    W_POOL_FIND, W_POOL_ADD, W_POOL_COUNTS,
    W_ROW_ADD, W_HOT_ADD,
    W_GUARD_GRAPH, W_GUARD_MATRIX, W_HOLDER_FIND, W_HOLDER_ADD,
    W_READY, W_CLAIM, W_HELD, W_LEAVE, W_RESULT_ADD, W_WAIT, W_FAILURE_ADD,
    W_RESULT_MINE, W_FAILURE_MINE,
    W_RENEW, W_RELEASE, W_REAPABLE, W_REAPABLE_BUT, W_REQUEUE,
    W_DUE, W_PROMOTE, W_NEXT_DUE,
    W_ENDED, W_HOT_STATUS, W_RESULT_DROP, W_RETRIED,
    W_GRAPH_VERSION, W_GRAPH_ADD, W_GRAPH_SET, W_GRAPH_DROP,
    W_MATRIX_VERSION, W_MATRIX_ADD, W_MATRIX_SET, W_MATRIX_DROP,
    W_GONE, W_GONE_SET,
    W_STEP_ADD,
    W_KV_GET, W_KV_PUT, W_KV_DROP, W_KV_SIZES, W_KV_COUNT,
    W_COUNT
};

enum exj_sqlite_read {
    R_LOAD, R_GRAPH_GET, R_MATRIX_GET, R_GRAPH_PAGE, R_MATRIX_PAGE, R_POOLS, R_ROW,
    R_PAGE_ANY, R_PAGE_OPEN, R_PAGE_STATUS, R_PAGE_COMPLETED, R_PAGE_ENDED,
    R_PAGE_BLOCKED_CODE, R_RECENT, R_STEP, R_STEPS, R_FAILURE_COUNT, R_FAILURES, R_KV,
    R_KV_PAGE, R_PROBE_CONFIG, R_PROBE_EXECUTION,
    R_COUNT
};

typedef struct exj_reader {
    sqlite3 *db;
    sqlite3_stmt *st[R_COUNT]; /* prepared when first used */
    struct exj_reader *next;   /* in the free list */
} exj_reader;

/* ---- the store ---------------------------------------------------------------------------- */

/* Rows of one pool by status: kept here and written for dirty pools in the transaction that
 * changes them. `was` is what the last commit left, for a roll-back: one must be possible
 * without memory and without the disk. */
typedef struct exj_pool_counts {
    int64_t n[EXJ_STATUS_COUNT], was[EXJ_STATUS_COUNT];
    bool dirty;
} exj_pool_counts;

/* Internal operation: a transaction that writes and changes nothing (health). */
#define EXJ_OP_PING ((exj_op_kind)(EXJ_OP_KV_ADD + 1))

typedef struct exj_sqlite {
    exj_store base; /* first */

    /* set before start, then read-only */
    char *dir, *path; /* owned */
    exj_sqlite_seam seam;
    bool fast, read_only;
    int lock_fd; /* -1: none */
    pthread_t thread;
    bool thread_runs;

    /* any thread */
    atomic_int_least64_t skew_ms; /* greatest (wall - monotonic) seen; only ever grows, so
                                     that the sum with the monotonic clock never goes back */
    atomic_int_least64_t commits, ops, wal_bytes;
    atomic_bool failed;           /* set once; relaxed: only a hint before the queue */

    /* guarded by mu */
    pthread_mutex_t mu;
    pthread_cond_t work;
    exj_op *head, **tail;
    bool closing;

    /* guarded by readers_mu */
    pthread_mutex_t readers_mu;
    exj_reader *readers; /* idle ones */
    unsigned readers_idle;

    /* writer thread only */
    sqlite3 *db;
    sqlite3_stmt *st[W_COUNT];
    exj_err failure; /* what made it fail */
    exj_err err;     /* of the current transaction */
    exj_msec now;    /* of the current transaction */
    exj_msec clock_saved;
    bool clock_force;
    int64_t next_seq;
    exj_pool_counts *pools; /* owned; index is the pool's id, 0 unused */
    int64_t pools_len, pools_were, pools_cap;
    int64_t *dirty; /* owned; ids of dirty pools, as many places as pools */
    int64_t dirty_len;
    char *holder; /* owned; the last holder looked up */
    int64_t holder_id;
    exj_outcome **order; /* owned; outcomes of one op in the order of seq */
    size_t order_cap;
} exj_sqlite;

/* ---- db.c ----------------------------------------------------------------------------------- */

exj_code exj_sqlite_code(int rc);
/* Set err from the connection's last error; `what` says what was being done. */
exj_code exj_sqlite_fail(const exj_sqlite *s, sqlite3 *db, const char *what, exj_err *err);
exj_code exj_sqlite_exec(const exj_sqlite *s, sqlite3 *db, const char *sql, exj_err *err);
/* Opens and sets what every connection needs. */
exj_code exj_sqlite_connect(const exj_sqlite *s, int flags, sqlite3 **ret, exj_err *err);
/* One number from a query without parameters; *ret untouched when there is no row. */
exj_code exj_sqlite_number(const exj_sqlite *s, sqlite3 *db, const char *sql, int64_t *ret,
                           exj_err *err);
void exj_sqlite_bind(sqlite3_stmt *st, int i, exj_slice text); /* borrowed till reset */
exj_slice exj_sqlite_column(sqlite3_stmt *st, int i);          /* valid till the next step */
exj_msec exj_sqlite_now(exj_sqlite *s);                        /* any thread */

/* ---- lock.c --------------------------------------------------------------------------------- */

exj_code exj_sqlite_lock(const char *dir, const char *note, int *ret_fd, exj_err *err);
void exj_sqlite_unlock(int fd);

/* ---- schema.c ------------------------------------------------------------------------------- */

exj_code exj_sqlite_migrate(exj_sqlite *s, exj_err *err); /* before the writer starts */
exj_code exj_sqlite_check_version(const exj_sqlite *s, sqlite3 *db, int64_t *ret,
                                  exj_err *err);

/* ---- writer.c ------------------------------------------------------------------------------- */

exj_code exj_sqlite_prepare(exj_sqlite *s, exj_err *err);
void *exj_sqlite_writer(void *store);
void exj_sqlite_submit(exj_store *base, exj_op *first);
/* Run a statement that gives no row; false: s->err is set. */
bool exj_sqlite_run(exj_sqlite *s, enum exj_sqlite_write which, const char *what);

/* ---- rows.c, claim.c, docs.c, kv.c: [writer] false means: roll back, s->err says why ----------------- */

bool exj_sqlite_load_pools(exj_sqlite *s);
bool exj_sqlite_save_pools(exj_sqlite *s);
void exj_sqlite_settle_pools(exj_sqlite *s, bool committed);
bool exj_sqlite_has_pool(const exj_sqlite *s, int64_t pool);
void exj_sqlite_count(exj_sqlite *s, int64_t pool, int from, int to, int64_t by);
bool exj_sqlite_pool(exj_sqlite *s, exj_op *op);
bool exj_sqlite_insert(exj_sqlite *s, exj_op *op);
bool exj_sqlite_claim(exj_sqlite *s, exj_op *op);
bool exj_sqlite_finish(exj_sqlite *s, exj_op *op);
bool exj_sqlite_renew(exj_sqlite *s, exj_op *op);
bool exj_sqlite_release(exj_sqlite *s, exj_op *op);
bool exj_sqlite_reap(exj_sqlite *s, exj_op *op);
bool exj_sqlite_promote(exj_sqlite *s, exj_op *op);
bool exj_sqlite_retry(exj_sqlite *s, exj_op *op);
bool exj_sqlite_doc_put(exj_sqlite *s, exj_op *op);
bool exj_sqlite_doc_delete(exj_sqlite *s, exj_op *op);
bool exj_sqlite_step_put(exj_sqlite *s, exj_op *op);
bool exj_sqlite_kv(exj_sqlite *s, exj_op *op); /* kv.c */

/* ---- read.c ----------------------------------------------------------------------------------- */

extern const exj_store_vtable exj_sqlite_vtable;
exj_code exj_sqlite_probe(exj_sqlite *s, enum exj_sqlite_read which, exj_err *err);
void exj_sqlite_close_readers(exj_sqlite *s);
exj_code exj_sqlite_health(exj_store *base, exj_store_health *ret); /* open.c */
void exj_sqlite_close(exj_store *base);                             /* open.c */

#endif /* EXJ_CORE_STORE_SQLITE_INTERNAL_H */
