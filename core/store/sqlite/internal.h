/* core/store/sqlite/internal.h - what the files of the embedded store share.
 *
 * One writer connection, owned by one writer thread that is also the only checkpointer;
 * a pool of read-only connections for whoever reads. Nobody opens the file in any other
 * way: closing a stray descriptor would drop SQLite's locks for the whole process.
 *
 *   open.c    directory, lock, connections, close, health      writer.c  queue, commit
 *   schema.c  tables and migrations                            sql.c     what writer says
 *   lock.c    who holds the directory                          docs.c    documents
 *   read*.c   reads                                            events.c  the journal
 *   move.c    one row changes its state                        rows.c    rows come in
 *   claim.c   what a holder does                               keep.c    what a keeper does
 *   order.c   what an operator does                            steps.c   steps, progress
 *   wait.c    waits and signals                                limit.c   keys, rates, overflow
 *   command.c idempotency keys                                 kv.c      keys and values
 *   offload.c large values              retire.c  ended rows leave
 *   db.c      SQLite's codes             backup.c, doctor*.c  (core/store/care.h)
 *
 *   sinks.c   how far sinks are, what they could not deliver
 *   schedules.c  states of schedules, runs they ask for
 *
 * Threads: `writer thread only` unless a field says otherwise.
 */
#ifndef EXJ_CORE_STORE_SQLITE_INTERNAL_H
#define EXJ_CORE_STORE_SQLITE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "core/base/str.h"
#include "core/store/blobs.h"
#include "core/store/store.h"

#define EXJ_SQLITE_FILE "exellix-jobs.db"
#define EXJ_SQLITE_LOCK "exellix-jobs.lock"
#define EXJ_SQLITE_SCHEMA 9 /* recipe for a change: schema.c */
#define EXJ_SQLITE_BLOBS_SINCE 5

/* ---- the seam for tests ----------------------------------------------------------------- */

/* Where a test may stand between the store and the world. NULL members: the real thing. */
typedef struct exj_sqlite_seam {
    exj_msec (*wall_ms)(void *user); /* called from any thread */
    exj_nsec (*mono_ns)(void *user);
    void *user;
    const char *vfs;   /* name of a registered VFS (disk faults) */
    int64_t max_pages; /* the file grows no further: SQLITE_FULL; 0: no limit */
    int64_t wal_bytes; /* a log that long is checkpointed although busy, and none because it is
                          idle: no clock decides; 0: as always */
} exj_sqlite_seam;

/* As exj_sqlite_open; `seam` (copied) may be NULL. */
exj_code exj_sqlite_open_seam(const exj_sqlite_options *o, const exj_sqlite_seam *seam,
                              exj_store **ret, exj_err *err);

/* ---- statements ------------------------------------------------------------------------- */

/* Prepared once, when the store opens. */
enum exj_sqlite_write {
    W_BEGIN, W_COMMIT, W_ROLLBACK, W_CLOCK, W_EVENTS_ADD,
    W_POOL_FIND, W_POOL_ADD, W_POOL_COUNTS,
    W_ROW_ADD, W_ROW_FIND, W_HOT_ADD, W_EXTRAS_ADD, W_EXTRAS,
    W_UNIQUE, W_UNIQUE_SET, W_UNIQUE_KEEP, W_UNIQUE_END, W_UNIQUE_DROP,
    W_CKEY_FIND, W_CKEY_ADD, W_CKEYS_NARROW, W_CKEY, W_CKEY_SET, W_PARKED_POOL, W_PARKED,
    W_OLDEST,
    W_GUARD_GRAPH, W_GUARD_MATRIX, W_HOLDER_FIND, W_HOLDER_ADD, W_RATE, W_RATE_SET,
    W_READY, W_CLAIM, W_LIVE, W_LIVE_SET, W_LAST, W_LEAVE, W_RESULT_ADD, W_FAILURE_ADD,
    W_RESULT_MINE, W_FAILURE_MINE, W_SNAPSHOT_ADD, W_SNAPSHOT_MINE,
    W_RENEW, W_REAPABLE, W_REAPABLE_BUT,
    W_DUE, W_PROMOTE, W_NEXT_DUE, W_ASIDE, W_ASIDE_DROP,
    W_ENDED, W_RESULT_DROP, W_RETRIED,
    W_WAIT_SET, W_WAIT, W_WAIT_DROP, W_SIGNAL_ADD, W_SIGNAL_KEPT, W_SIGNAL_COUNT, W_SIGNAL_DROP,
    W_GRAPH_VERSION, W_GRAPH_ADD, W_GRAPH_SET, W_GRAPH_DROP,
    W_MATRIX_VERSION, W_MATRIX_ADD, W_MATRIX_SET, W_MATRIX_DROP,
    W_GONE, W_GONE_SET,
    W_STEP_ADD, W_STEP_BEGIN, W_STEP_DONE, W_STEP_TIMES, W_STEPS_DROP, W_STEPS_COUNT, W_PROGRESS,
    W_COMMAND, W_COMMAND_TAKE, W_COMMAND_KEEP, W_COMMAND_DROP, W_COMMANDS_OVER,
    W_BLOB, W_BLOB_POINT, W_BLOBS_FREE, W_BLOB_FORGET,
    W_REMOVABLE, W_PAST, W_PAST_ADD, W_PAST_DROP, W_META_MAX, W_ROW_THERE,
    W_PAST_ROW, W_PAST_RESULT, W_PAST_FAILURES, W_PAST_SNAPSHOTS, W_PAST_STEPS, W_PAST_EXTRAS,
    W_PAST_RETRIED, W_PAST_PROGRESS, W_PAST_SIGNALS, W_PAST_STEP_ADD,
    W_EVENTS_NEXT, W_EVENTS_SET, W_EVENTS_DROP,
    W_KV_GET, W_KV_PUT, W_KV_DROP, W_KV_SIZES, W_KV_COUNT,
    W_SCHEDULE_VERSION, W_SCHEDULE_ADD, W_SCHEDULE_SET, W_SCHEDULE_DROP, W_SCHEDULE_FORGET,
    W_TICK_TURN, W_TICK_ADD, W_TICK_SET, W_RUN_ASK, W_RUN_DONE, W_READY_ONE,
    W_SINK_SET, W_HELD_PUT, W_HELD_DROP, W_DEAD_COUNT, W_DEAD_PUT, W_DEAD_REPLAY, W_DEAD_DROP,
    W_COUNT
};
extern const char *const exj_sqlite_texts[W_COUNT]; /* sql.c */

enum exj_sqlite_read {
    R_LOAD, R_GRAPH_GET, R_MATRIX_GET, R_GRAPH_PAGE, R_MATRIX_PAGE, R_POOLS, R_ROW,
    R_PAGE_ANY, R_PAGE_OPEN, R_PAGE_STATUS, R_PAGE_COMPLETED, R_PAGE_ENDED,
    R_PAGE_BLOCKED_CODE, R_RECENT, R_ROW_SEQ, R_ROW_NAME, R_STEP, R_STEPS, R_FAILURE_COUNT,
    R_FAILURES, R_EVENTS, R_BATCH_OF, R_LAST, R_EVENTS_SPAN, R_SIGNALS, R_BLOB, R_ENDED, R_KV, R_KV_PAGE,
    R_SINK, R_HELD, R_DEAD,
    R_SCHEDULE_DOC, R_SCHEDULE_DOCS, R_SCHEDULE, R_SCHEDULES, R_SCHEDULES_DUE, R_SCHEDULE_NEXT,
    R_RUNS_ASKED, R_RUNS_OPEN,
    R_PROBE_CONFIG, R_PROBE_EXECUTION,
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
    uint32_t key_cap; /* its concurrency keys are at least that wide; 0: nobody looked */
} exj_pool_counts;

/* A row of exj_hot. */
typedef struct exj_live {
    int64_t seq, pool;
    exj_status status;
    exj_msec run_after;
    uint32_t attempts, max_attempts;
    int64_t token, nonce, holder;
    exj_msec until;
    uint32_t flags; /* EXJ_LIVE_* */
    int64_t ckey;   /* of exj_ckeys; 0: none */
    int64_t last;   /* number of its newest entry */
    int64_t rank;
} exj_live;
#define EXJ_LIVE_CANCEL 1u /* an operator wants it to stop */
#define EXJ_LIVE_UNIQUE 2u /* has a unique key */
#define EXJ_LIVE_NEVER INT64_MAX /* run_after of a suspended row without a time */

/* Where the packer is: what differences refer to. */
typedef struct exj_events_pack_state {
    int64_t number, seq;
} exj_events_pack_state;

typedef struct exj_events_iter {
    exj_slice rest;
    exj_events_pack_state at;
    int64_t end;
    bool corrupt;
} exj_events_iter;

/* Internal operation: a transaction that writes and changes nothing (health). */
#define EXJ_OP_PING EXJ_OP_COUNT

typedef struct exj_sqlite {
    exj_store base; /* first */

    /* set before start, then read-only */
    char *dir, *path; /* owned */
    exj_sqlite_seam seam;
    bool fast, read_only;
    size_t blob_bytes;
    exj_blobs *blobs; /* owned; any thread */
    int lock_fd; /* -1: none */
    pthread_t thread;
    bool thread_runs;

    /* any thread */
    atomic_int_least64_t skew_ms; /* greatest (wall - monotonic) seen; only ever grows, so
                                     that the sum with the monotonic clock never goes back */
    atomic_int_least64_t commits, ops, wal_bytes;
    atomic_bool has_past;         /* rows were removed; relaxed: the writer sets and asks */
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

    /* guarded by listen_mu, held while it is called */
    pthread_mutex_t listen_mu;
    void (*news)(void *user, int64_t last);
    void *news_user;

    /* writer thread only */
    sqlite3 *db;
    sqlite3_stmt *st[W_COUNT];
    exj_err failure; /* what made it fail */
    exj_err err;     /* of the current transaction */
    exj_msec now;    /* of the current transaction */
    exj_msec clock_saved;
    bool clock_force;
    bool collect;    /* pointers to blobs were dropped */
    int64_t next_seq;
    exj_pool_counts *pools; /* owned; index is the pool's id, 0 unused */
    int64_t pools_len, pools_were, pools_cap;
    int64_t *dirty; /* owned; ids of dirty pools, as many places as pools */
    int64_t dirty_len;
    char *holder; /* owned; the last holder looked up */
    int64_t holder_id;
    exj_outcome **order; /* owned; outcomes of one op in the order of seq */
    size_t order_cap;
    struct exj_picked *picked; /* owned; what a claim looks at */
    size_t picked_cap;
    exj_buf entries;           /* of the current transaction, packed */
    exj_events_pack_state entries_at;
    int64_t next_number, saved_number; /* of the next entry; as committed */
    int64_t packed_number;             /* of the first in `entries` */
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
/* Valid till the next step; needs no memory, and there need not be a zero behind it. */
exj_slice exj_sqlite_column(sqlite3_stmt *st, int i);
exj_msec exj_sqlite_now(exj_sqlite *s);                        /* any thread */

/* ---- lock.c --------------------------------------------------------------------------------- */

exj_code exj_sqlite_lock(const char *dir, const char *note, int *ret_fd, exj_err *err);
void exj_sqlite_unlock(int fd);

/* ---- schema.c ------------------------------------------------------------------------------- */

exj_code exj_sqlite_migrate(exj_sqlite *s, exj_err *err); /* before the writer starts */
/* All steps from version `from` on, in the transaction of the caller. */
exj_code exj_sqlite_make_tables(const exj_sqlite *s, sqlite3 *db, int64_t from, exj_err *err);
exj_code exj_sqlite_check_version(const exj_sqlite *s, sqlite3 *db, int64_t *ret,
                                  exj_err *err);

/* ---- writer.c ------------------------------------------------------------------------------- */

exj_code exj_sqlite_prepare(exj_sqlite *s, exj_err *err);
void *exj_sqlite_writer(void *store);
void exj_sqlite_submit(exj_store *base, exj_op *first);
/* Run a statement that gives no row; false: s->err is set. */
bool exj_sqlite_run(exj_sqlite *s, enum exj_sqlite_write which, const char *what);

/* ---- events.c --------------------------------------------------------------------------- */

/* Append one entry to a batch; `at` begins as { .number = first of the batch }. False: no
 * memory. Pure, as are the iterators. */
bool exj_events_pack(exj_buf *b, exj_events_pack_state *at, const exj_journal_entry *e);
void exj_events_iter_init(exj_events_iter *it, exj_slice body, int64_t first, int64_t n);
/* False at the end, or when the bytes are no batch: `corrupt`. `at` is not filled. */
bool exj_events_iter_next(exj_events_iter *it, exj_journal_entry *ret);

/* Of a text that stands in the database, for its entry: never 0, below 2^27 (four bytes of the
 * journal). 0: none, for the text is empty or names a blob, whose name is its hash. Stored; it
 * never changes. */
int64_t exj_events_digest(exj_slice text);

/* [writer] */
bool exj_sqlite_note(exj_sqlite *s, exj_journal_entry e, int64_t *ret_number);
void exj_sqlite_begin_events(exj_sqlite *s);
bool exj_sqlite_save_events(exj_sqlite *s); /* before the commit */
/* Write what is packed as a record of its own, of the instant `at`. */
bool exj_sqlite_flush_events(exj_sqlite *s, exj_msec at);
void exj_sqlite_tell_events(exj_sqlite *s); /* after it */
/* [any thread] */
void exj_sqlite_listen(exj_store *base, void (*news)(void *user, int64_t last), void *user);
exj_code exj_sqlite_events(exj_store *base, int64_t after, size_t limit, exj_event_visit visit,
                           void *user, exj_err *err);
exj_code exj_sqlite_journal(exj_store *base, int64_t seq, size_t limit, exj_event_visit visit,
                            void *user, exj_err *err);
exj_code exj_sqlite_events_span(exj_store *base, int64_t *ret_first, int64_t *ret_last,
                                exj_err *err);

/* ---- the rest, by file: [writer] false means: roll back, s->err says why ------------------ */

/* rows.c */
bool exj_sqlite_load_pools(exj_sqlite *s);
bool exj_sqlite_save_pools(exj_sqlite *s);
void exj_sqlite_settle_pools(exj_sqlite *s, bool committed);
bool exj_sqlite_has_pool(const exj_sqlite *s, int64_t pool);
void exj_sqlite_count(exj_sqlite *s, int64_t pool, int from, int to, int64_t by);
bool exj_sqlite_pool(exj_sqlite *s, exj_op *op);
bool exj_sqlite_insert(exj_sqlite *s, exj_op *op);
/* move.c: one row changes its state; nothing else does. */
bool exj_sqlite_live(exj_sqlite *s, int64_t seq, exj_live *ret, bool *ret_found);
/* The row, if this claim holds it. */
bool exj_sqlite_held(exj_sqlite *s, int64_t seq, int64_t nonce, int64_t token, exj_live *ret,
                     bool *ret_found);
/* An entry that moves nothing. l->last changes; the caller saves it. */
bool exj_sqlite_tell(exj_sqlite *s, exj_live *l, exj_entry_kind kind, int64_t value,
                     exj_slice key, exj_slice text);
/* As the table says, with its entry, counters and keys; l->status and l->last change. The
 * caller then saves the row, or ends it. A move that the table refuses is our bug. */
bool exj_sqlite_move(exj_sqlite *s, exj_live *l, exj_event event, int64_t value, exj_slice key,
                     exj_slice text);
bool exj_sqlite_save(exj_sqlite *s, const exj_live *l);      /* it stays in exj_hot */
/* A row that is not ready is found through exj_aside; save and move see to it for rows that
 * are there already, an insert does it itself. */
bool exj_sqlite_put_aside(exj_sqlite *s, const exj_live *l);
bool exj_sqlite_drop_aside(exj_sqlite *s, int64_t seq);
bool exj_sqlite_save_last(exj_sqlite *s, const exj_live *l); /* nothing else has changed */
/* It leaves exj_hot for exj_results, as l->status. */
bool exj_sqlite_end(exj_sqlite *s, const exj_live *l, int64_t nonce, exj_slice code,
                    exj_slice text, exj_slice body);
bool exj_sqlite_drop_result(exj_sqlite *s, int64_t seq); /* with what a blocked row waits for */
/* The other way: fills `l` from exj_results as queued with `event`, no attempt counted.
 * *ret_found false: there is no result. op->rc says when the table or a key refuses. */
bool exj_sqlite_come_back(exj_sqlite *s, exj_op *op, int64_t seq, exj_event event,
                          exj_slice key, exj_live *l, bool *ret_found);
bool exj_sqlite_add_failure(exj_sqlite *s, int64_t seq, int64_t token, uint32_t attempt,
                            int64_t nonce, exj_slice code, exj_slice text);
/* claim.c */
bool exj_sqlite_claim(exj_sqlite *s, exj_op *op);
bool exj_sqlite_finish(exj_sqlite *s, exj_op *op);
bool exj_sqlite_renew(exj_sqlite *s, exj_op *op);
bool exj_sqlite_release(exj_sqlite *s, exj_op *op);
/* keep.c */
bool exj_sqlite_reap(exj_sqlite *s, exj_op *op);
bool exj_sqlite_promote(exj_sqlite *s, exj_op *op);
/* order.c */
bool exj_sqlite_retry(exj_sqlite *s, exj_op *op);
bool exj_sqlite_rerun(exj_sqlite *s, exj_op *op);
bool exj_sqlite_cancel(exj_sqlite *s, exj_op *op);
/* wait.c */
bool exj_sqlite_suspend(exj_sqlite *s, exj_live *l, const exj_outcome *o);
bool exj_sqlite_resume_due(exj_sqlite *s, exj_live *l); /* its time has come */
bool exj_sqlite_signal(exj_sqlite *s, exj_op *op);
/* limit.c */
bool exj_sqlite_unique_taken(exj_sqlite *s, int64_t pool, exj_slice key, int64_t seq,
                             int64_t *ret_by); /* 0: it is free */
bool exj_sqlite_unique_take(exj_sqlite *s, int64_t pool, exj_slice key, int64_t seq,
                            exj_msec until); /* 0: as long as the row is not terminal */
bool exj_sqlite_unique_back(exj_sqlite *s, int64_t pool, exj_slice key, int64_t seq);
bool exj_sqlite_unique_end(exj_sqlite *s, const exj_live *l); /* the row is terminal */
bool exj_sqlite_ckey_id(exj_sqlite *s, int64_t pool, exj_slice key, int64_t *ret);
bool exj_sqlite_ckey_enter(exj_sqlite *s, int64_t ckey, uint32_t cap, bool *ret_entered);
bool exj_sqlite_ckey_leave(exj_sqlite *s, int64_t ckey); /* and lets a parked row in */
bool exj_sqlite_ckey_pass(exj_sqlite *s, int64_t ckey); /* one that was let in goes away */
/* The cap may have grown since rows were parked: lets in those that have room now. */
bool exj_sqlite_ckeys_widen(exj_sqlite *s, int64_t pool, uint32_t cap);
bool exj_sqlite_rate(exj_sqlite *s, exj_want *w, uint32_t *ret_room);
bool exj_sqlite_rate_used(exj_sqlite *s, exj_want *w);
/* Is a new row of the pool dropped? Else *ret_oldest may be a row to drop for it. */
void exj_sqlite_overflow(const exj_sqlite *s, const exj_op *op, const int64_t added[2],
                         bool *ret_drop, bool *ret_drop_oldest);
bool exj_sqlite_drop_oldest(exj_sqlite *s, int64_t pool, int64_t *ret_seq); /* 0: none */
/* steps.c */
bool exj_sqlite_step_put(exj_sqlite *s, exj_op *op);
bool exj_sqlite_step_begin(exj_sqlite *s, exj_op *op);
bool exj_sqlite_progress(exj_sqlite *s, exj_op *op);
/* A step that the store writes itself: what a wait ended with. The k-th of a name is
 * "NAME:k". */
bool exj_sqlite_step_heard(exj_sqlite *s, exj_live *l, exj_slice name, exj_slice body);
/* offload.c */
/* [any thread] Before the op enters the queue. Never fails: exj_sqlite_offload_error says. */
void exj_sqlite_offload(exj_sqlite *s, exj_op *op);
exj_code exj_sqlite_offload_error(const exj_op *op, exj_err *err);
/* The op is about to be answered: its values are as they came, and what nothing points to goes. */
void exj_sqlite_offload_end(exj_sqlite *s, exj_op *op);
/* Count a pointer that was just written, if `value` is one. [writer] */
bool exj_sqlite_point(exj_sqlite *s, exj_slice value);
/* Remove what nothing points to any more; outside of a transaction. `durable`: what was committed
 * is on the disk. Else it is put there first, if there is anything to remove. */
void exj_sqlite_collect(exj_sqlite *s, bool durable);
/* Bytes of a value as the store holds it, wherever it is. */
int64_t exj_sqlite_value_bytes(exj_slice text);
/* [any thread] Does anything point to it now? A view may be older. True when in doubt. */
bool exj_sqlite_blob_is_pointed_to(exj_sqlite *s, const exj_blob_ref *ref);
/* [any thread] Append the value that `text`, as the store holds it, stands for. `what`: "the
 * input". Errors: EXJ_CORRUPT (its blob is missing or damaged: row and blob are named), EXJ_BUSY
 * (the view it was read in is over: read again), EXJ_IO, EXJ_NOMEM. */
exj_code exj_sqlite_value(exj_sqlite *s, int64_t seq, const char *what, exj_slice text,
                          exj_buf *ret, exj_err *err);
/* The same in place: a value that is not here is read into `room`. */
exj_code exj_sqlite_value_of(exj_sqlite *s, int64_t seq, const char *what, exj_slice *text,
                             exj_buf *room, exj_err *err);
/* retire.c */
bool exj_sqlite_remove(exj_sqlite *s, exj_op *op);
bool exj_sqlite_compact(exj_sqlite *s, exj_op *op);
bool exj_sqlite_restore(exj_sqlite *s, exj_op *op);
/* Was there a row of that record which was removed? *ret_seq 0: no. */
bool exj_sqlite_is_past(exj_sqlite *s, int64_t pool, exj_slice record_id, int64_t *ret_seq);
/* When the store opens. *ret_last_seq grows to the last one ever removed. */
exj_code exj_sqlite_load_past(exj_sqlite *s, int64_t *ret_last_seq, exj_err *err);
exj_code exj_sqlite_ended(exj_store *base, int64_t after, exj_msec created_before, size_t limit,
                          exj_ended_visit visit, void *user, exj_err *err);
/* command.c */
bool exj_sqlite_command(exj_sqlite *s, exj_op *op);
/* docs.c */
bool exj_sqlite_doc_put(exj_sqlite *s, exj_op *op);
bool exj_sqlite_doc_delete(exj_sqlite *s, exj_op *op);
/* kv.c */
bool exj_sqlite_kv(exj_sqlite *s, exj_op *op);
/* sinks.c */
bool exj_sqlite_sink_save(exj_sqlite *s, exj_op *op);
bool exj_sqlite_dead(exj_sqlite *s, exj_op *op);
exj_code exj_sqlite_sink_get(exj_store *base, exj_slice name, int64_t *ret_position,
                             exj_err *err);
exj_code exj_sqlite_undelivered(exj_store *base, exj_slice sink, size_t limit,
                                exj_undelivered_visit visit, void *user, exj_err *err);
exj_code exj_sqlite_dead_page(exj_store *base, exj_slice sink, int64_t after_id, size_t limit,
                              exj_dead_visit visit, void *user, exj_err *err);

/* schedules.c */
bool exj_sqlite_schedule_tick(exj_sqlite *s, exj_op *op);
bool exj_sqlite_run_change(exj_sqlite *s, exj_op *op);
exj_code exj_sqlite_schedule_get(exj_store *base, exj_slice id, exj_schedule_visit visit,
                                 void *user, exj_err *err);
exj_code exj_sqlite_schedule_page(exj_store *base, exj_slice after_id, exj_msec due_by,
                                  size_t limit, exj_schedule_visit visit, void *user,
                                  exj_err *err);
exj_code exj_sqlite_schedule_next(exj_store *base, exj_msec *ret, exj_err *err);
exj_code exj_sqlite_runs(exj_store *base, exj_run_visit visit, void *user, exj_err *err);

/* ---- read.c ----------------------------------------------------------------------------------- */

extern const exj_store_vtable exj_sqlite_vtable;
/* read_parts.c */
exj_code exj_sqlite_step_get(exj_store *base, int64_t seq, exj_slice key, exj_buf *ret,
                             exj_err *err);
exj_code exj_sqlite_step_each(exj_store *base, int64_t seq, exj_step_visit visit,
                              void *user, exj_err *err);
exj_code exj_sqlite_failure_count(exj_store *base, int64_t seq, exj_slice code,
                                  uint32_t *ret, exj_err *err);
exj_code exj_sqlite_failure_each(exj_store *base, int64_t seq, size_t limit,
                                 exj_failure_visit visit, void *user, exj_err *err);
exj_code exj_sqlite_kv_get(exj_store *base, exj_slice graph, exj_slice key, exj_buf *ret,
                           exj_err *err);
exj_code exj_sqlite_kv_page(exj_store *base, exj_slice graph, exj_slice after_key,
                            size_t limit, exj_kv_visit visit, void *user, exj_err *err);
/* Take a connection and its statement; both go back with read_end. */
exj_code exj_sqlite_read_begin(exj_sqlite *s, enum exj_sqlite_read which, exj_reader **ret,
                               sqlite3_stmt **ret_st, exj_err *err);
/* One more statement of a connection that was taken. */
exj_code exj_sqlite_read_also(exj_sqlite *s, exj_reader *r, enum exj_sqlite_read which,
                              sqlite3_stmt **ret_st, exj_err *err);
/* `step`: what the last step said; anything but ROW and DONE is an error. */
exj_code exj_sqlite_read_end(exj_sqlite *s, exj_reader *r, sqlite3_stmt *st, int step,
                             exj_err *err);
exj_code exj_sqlite_probe(exj_sqlite *s, enum exj_sqlite_read which, exj_err *err);
void exj_sqlite_close_readers(exj_sqlite *s);
exj_code exj_sqlite_health(exj_store *base, exj_store_health *ret); /* open.c */
void exj_sqlite_close(exj_store *base);                             /* open.c */

#endif /* EXJ_CORE_STORE_SQLITE_INTERNAL_H */
