/* core/store/store.h - the one way to rows: batches of operations, answered when durable.
 *
 * WRITES are operations (exj_op) handed to exj_store_submit. The store groups whatever is
 * waiting into one transaction and calls each op's `done` on its writer thread after the
 * commit. Each op has a guard; each item of an op has a verdict of its own: EXJ_OK (won),
 * EXJ_FENCED (the claim named is over), EXJ_CONFLICT (somebody changed it first),
 * EXJ_NOT_FOUND. op->rc is the fate of the op as a whole: EXJ_OK, EXJ_UNKNOWN (the commit
 * failed half-way: may be applied), EXJ_IO/EXJ_FULL (disk; nothing applied), EXJ_NOMEM.
 * After an EXJ_IO/EXJ_UNKNOWN at commit the store is failed: every later op answers EXJ_IO
 * and the owner must restart; a retried fsync proves nothing. A shared store (see `shared` of
 * the table) is never failed: each op is answered within bounded time, for itself.
 *
 * READS are synchronous, on connections of their own, from any thread.
 *
 * Time:    the store judges due times and leases by its own clock (exj_store_now): the
 *          embedded one takes max(highest seen, wall clock), so a clock that steps back
 *          neither revives nor reaps.
 * Memory:  an op and all it points to belong to the store from submit until done; results
 *          are written into memory of the op's owner.
 * Threads: submit and reads from any; `done` runs on the writer thread, must be short, may
 *          submit, must not wait for another op.
 *
 * The store knows pools (small integers for matrix+run+graph), rows and documents; it knows
 * nothing of graphs' meaning, plugins or HTTP.
 */
#ifndef EXJ_CORE_STORE_STORE_H
#define EXJ_CORE_STORE_STORE_H

#include "core/base/str.h"
#include "core/job/journal.h"

typedef struct exj_store exj_store;
typedef struct exj_op exj_op;

typedef enum exj_doc_kind { EXJ_DOC_GRAPH, EXJ_DOC_MATRIX, EXJ_DOC_SCHEDULE } exj_doc_kind;

/* ---- items of operations ------------------------------------------------------------ */

typedef struct exj_insert_item {
    exj_slice record_id; /* unique within the pool, for ever */
    exj_slice input;     /* the record, checked JSON */
    exj_msec run_after;  /* 0: at once */
    bool has_priority;
    int32_t priority;    /* higher first; else the operation's */
    /* Unique among the graph's rows that are not terminal, and for unique_ms after the
     * insert (0: no longer than that). Empty: none. At most 512 bytes, as the next. */
    exj_slice unique_key;
    exj_msec unique_ms;
    exj_slice concurrency_key; /* rows of the graph with it: at most exj_want.key_cap run */
    exj_code verdict;    /* out: EXJ_OK inserted; EXJ_CONFLICT the record was there already;
                            EXJ_BUSY another row has the unique key */
    exj_status status;   /* out, when inserted: QUEUED, WAITING, or DROPPED by the policy */
    int64_t seq;         /* out: of the row, or of the one that was there before it */
} exj_insert_item;

/* The overflow policy of spec 3.2. */
typedef struct exj_overflow_rule {
    bool on;
    bool drop;           /* with `cap` rows queued or running a new one is dropped; */
    uint32_t cap;        /* else it waits, and beyond `max_queue` queued rows the oldest */
    uint32_t max_queue;  /* queued one is dropped */
} exj_overflow_rule;

typedef struct exj_want {
    int64_t pool;
    uint32_t want;
    /* Guard: claim only while this document has this version (0: while it is absent),
     * compared inside the claiming transaction. NULL id: no guard. */
    exj_slice guard_id;
    exj_doc_kind guard_kind;
    int64_t guard_version;
    int64_t only_seq;    /* claim this row of the pool and no other; 0: any */
    uint32_t key_cap;    /* rows of one concurrency key at once; 0 counts as 1 */
    /* Rate limit of the graph, over all its pools and workers: `rate` claims a `rate_ms`,
     * evenly spread with bursts up to `rate` (core/job/rate.h). 0: none. */
    uint32_t rate;
    exj_msec rate_ms;
    exj_code verdict; /* out: EXJ_OK, or EXJ_CONFLICT when the guard failed */
    uint32_t got;     /* out */
    exj_msec ret_again; /* out: when the rate allows more; 0: it did not limit this claim */
    bool ret_more;      /* out: fewer were got than there may be: ask again */
    bool ret_parked;    /* out: rows of the pool wait for a place of their concurrency key */
} exj_want;

typedef struct exj_claim { /* one granted claim */
    int64_t seq;          /* the row */
    int64_t pool;
    int64_t token;        /* fencing token: grows by one with every claim of the row */
    int64_t nonce;        /* of this claim; what later writes must name */
    uint32_t attempt;     /* first is 1 */
    uint32_t max_attempts;
} exj_claim;

typedef enum exj_wait_kind { EXJ_WAIT_TIME, EXJ_WAIT_SIGNAL, EXJ_WAIT_POLL } exj_wait_kind;

typedef struct exj_outcome {
    int64_t seq, nonce, token; /* in: the claim */
    exj_event event;      /* SUCCEED, FAIL_RETRY, FAIL_DEAD, BLOCK, SUSPEND, CANCEL. Where an
                             operator asked the row to stop, all but SUCCEED count as CANCEL */
    exj_msec run_after;   /* FAIL_RETRY: first instant of the next attempt; SUSPEND: when it
                             resumes by itself (resumeAt, the signal's timeout, the poll);
                             0: never */
    exj_slice signal;     /* SUSPEND: the signal that resumes it; BLOCK: the only one that
                             releases it. Empty: none; any */
    exj_wait_kind wait;   /* SUSPEND */
    bool crashed;         /* its plugin host died: the journal says so too */
    exj_status to;        /* out, with verdict EXJ_OK: what the row became */
    exj_slice result;     /* JSON text or empty */
    exj_slice error_code, error_text; /* plain text; empty unless FAIL_* or BLOCK */
    exj_code verdict;     /* out: EXJ_OK also when this very outcome had landed before;
                             EXJ_FENCED */
} exj_outcome;

typedef struct exj_held {
    int64_t seq, nonce;
    exj_code verdict; /* out: EXJ_OK, EXJ_FENCED */
    bool ret_cancel;  /* out, RENEW: an operator wants the row to stop */
} exj_held;

typedef struct exj_reaped {
    int64_t seq, pool, token;
    uint32_t attempt;
    exj_status to; /* QUEUED, FAILED, or CANCELED when it had been asked to stop */
} exj_reaped;

/* What became of one event that a sink was given, or that must wait. */
typedef enum exj_sink_fate {
    EXJ_SINK_HOLD, /* failed, or stands behind one that did: it is kept for another try */
    EXJ_SINK_DONE, /* delivered: it is not held any more */
    EXJ_SINK_DEAD  /* it had its tries: to the dead letters, held no more */
} exj_sink_fate;

typedef struct exj_sink_item {
    exj_sink_fate fate;
    int64_t number, seq;   /* of the event, of its row */
    uint32_t tries;        /* how often it was tried; HOLD, DEAD */
    exj_msec at;           /* HOLD: not before; DEAD: ignored (now) */
    exj_slice error, body; /* why; the event as the sink is given it; HOLD, DEAD */
} exj_sink_item;

typedef struct exj_removal {
    int64_t seq, token;    /* the row; of its last claim */
    exj_msec finished_at;
    exj_code verdict; /* out: EXJ_OK gone; EXJ_CONFLICT (no longer that result, or never a
                         terminal one), EXJ_NOT_FOUND */
} exj_removal;

/* A row that ended, whole. */
typedef struct exj_archived exj_archived;

/* ---- operations --------------------------------------------------------------------- */

typedef enum exj_op_kind {
    EXJ_OP_POOL,    /* find or make the pool of (matrix, run, graph) */
    EXJ_OP_INSERT,  /* rows of one pool; idempotent by record_id */
    EXJ_OP_CLAIM,
    EXJ_OP_FINISH,
    EXJ_OP_RENEW,   /* until = now + lease_ms; allowed although past, while still held */
    EXJ_OP_RELEASE, /* not started: back to queued, the attempt is not counted */
    EXJ_OP_REAP,    /* leases over: back to queued, or failed when attempts are used up
                       (error code LEASE_EXPIRED) */
    EXJ_OP_PROMOTE, /* waiting rows that are due become queued, suspended ones resume */
    EXJ_OP_RETRY,   /* an operator's: failed, blocked, canceled, dropped -> queued,
                       attempts = 0, token kept */
    EXJ_OP_RERUN,   /* an operator's: completed, failed, canceled, dropped -> queued; forgets
                       the steps from one on; the token grows */
    EXJ_OP_CANCEL,  /* an operator's: at once, or asked of whoever runs the row */
    EXJ_OP_SIGNAL,  /* to a row: resumes or releases it, else kept until it waits for it */
    EXJ_OP_DOC_PUT, EXJ_OP_DOC_DELETE,
    EXJ_OP_STEP_BEGIN, /* a step begins now: what shows the window in which nobody knows */
    EXJ_OP_STEP_PUT, /* journal a finished step once; the first writer's entry stands */
    EXJ_OP_PROGRESS, /* journal how far a row is */
    /* A command with an idempotency key (spec 2.6): COMMAND_TAKE first and COMMAND_KEEP last
     * in one group with the operations of its effect; or, for an effect outside the store,
     * each alone, and COMMAND_DROP when it failed. */
    EXJ_OP_COMMAND_TAKE, EXJ_OP_COMMAND_KEEP, EXJ_OP_COMMAND_DROP,
    /* Keys and values of a graph. A writer names its claim (EXJ_FENCED when it is over) or,
     * an operator, seq 0. rc EXJ_REFUSED: the graph's room is used up; EXJ_INVALID: key or
     * value too long, or no integer to add to; EXJ_NOT_FOUND: KV_REMOVE of what is not there.
     * Each with a text. */
    EXJ_OP_KV_PUT, EXJ_OP_KV_REMOVE,
    EXJ_OP_KV_ADD, /* to an integer; absent counts as 0 */
    /* Event sinks (spec 2.7): what became of a batch, all at once. */
    EXJ_OP_SINK_SAVE,
    EXJ_OP_DEAD_REPLAY, /* back among what its sink still has to deliver, tries = 0 */
    EXJ_OP_DEAD_DROP,
    /* Ended rows leave; the names stay, so that their records do not run again. */
    EXJ_OP_REMOVE,  /* with results, steps, failures and signals; entries stay till compacted */
    EXJ_OP_COMPACT, /* entries of rows that are gone leave the journal */
    EXJ_OP_RESTORE, /* a row comes back from an archive */
    /* Schedules (spec 2.8). A tick goes in one group with the inserts of its rows, or with
     * the runs it asks for: so it fires once, and is not lost. */
    EXJ_OP_SCHEDULE_TICK, /* the state of a schedule becomes another */
    EXJ_OP_RUN_ASK,  /* a cycle of a matrix is wanted under a name; asked twice: once */
    EXJ_OP_RUN_DONE, /* its source was asked to the end; not asked for: no matter */
    EXJ_OP_COUNT
} exj_op_kind;

#define EXJ_STORE_SIGNALS_KEPT 100 /* of one row, not yet waited for */
#define EXJ_STORE_DEAD_MOST 100000      /* dead letters of one sink */
#define EXJ_STORE_DEAD_AGAIN_MS 300000  /* beyond that: when an event is tried again */
#define EXJ_STORE_KV_KEY_MAX 256u       /* bytes */
#define EXJ_STORE_KV_VALUE_MAX 65536u   /* bytes */
#define EXJ_STORE_KV_KEYS 10000         /* of one graph */
#define EXJ_STORE_KV_BYTES 67108864     /* of one graph's keys and values */

struct exj_op {
    exj_op_kind kind;
    void (*done)(exj_op *op); /* [writer]; from here on the op is its owner's again */
    void *user;
    exj_code rc;  /* out */
    exj_err err;  /* out, when rc is not EXJ_OK */
    exj_op *next; /* the store's, until done */
    void *kept;   /* the same */
    void *passed; /* of a store that passes ops on to another one (core/history), until done */
    /* This op and the next one in the list are one group: all of a group is applied, or
     * nothing of it. The first whose rc is not EXJ_OK (verdicts of items do not count) ends
     * it: those before it answer EXJ_CANCELLED, as do those after it. */
    bool with_next;
    union {
        struct {
            exj_slice matrix, run, graph;
            int64_t ret_pool;
        } pool;
        struct {
            int64_t pool;
            int32_t priority; /* higher first */
            uint32_t max_attempts;
            exj_overflow_rule overflow;
            bool find_existing; /* tell the seq of records that were there already */
            exj_slice snapshot; /* kept on the rows: the snapshot they were made from; empty: none */
            exj_insert_item *items;
            size_t len;
            size_t ret_inserted, ret_dropped; /* dropped: new ones and older ones */
        } insert;
        struct {
            exj_want *wants;
            size_t wants_len;
            const char *holder; /* worker id; kept on the row */
            int64_t nonce;      /* fresh and random, never 0 */
            exj_msec lease_ms;
            exj_claim *ret;     /* room for the sum of wants */
            size_t ret_len;     /* in claim order: priority high first, oldest first */
            exj_msec ret_until;
        } claim;
        struct {
            exj_outcome *items;
            size_t len;
        } finish;
        struct {
            exj_held *items;
            size_t len;
            exj_msec lease_ms; /* RENEW */
        } held;                /* RENEW, RELEASE */
        struct {
            const char *all_but; /* NULL, or: rows of every other holder are over, whatever
                                    their time (exclusive store, at start) */
            exj_msec grace_ms;
            exj_reaped *ret; /* room for `limit` */
            size_t limit, ret_len;
        } reap;
        struct {
            size_t limit, ret_promoted;
            exj_msec ret_next_due; /* 0: none waits */
        } promote;
        struct {
            int64_t seq;
        } retry; /* EXJ_REFUSED with the table's reason; EXJ_NOT_FOUND */
        struct {
            int64_t seq;
            exj_slice step; /* forget this and those that were finished after it; empty: all */
            size_t ret_dropped, ret_kept;
        } rerun; /* EXJ_REFUSED: the table's reason; EXJ_NOT_FOUND: no row, or no such step */
        struct {
            int64_t seq;
            exj_slice why;
            exj_status ret_to;  /* CANCELED; RUNNING: its holder was asked */
            int64_t ret_pool;
        } cancel; /* EXJ_REFUSED, EXJ_NOT_FOUND */
        struct {
            int64_t seq;
            exj_slice name, body; /* body: checked JSON */
            bool ret_delivered;   /* false: kept until the row waits for it */
            int64_t ret_pool;
            exj_status ret_to;    /* of the row, after it */
        } signal; /* EXJ_REFUSED: the row is terminal, or too many are kept; EXJ_NOT_FOUND */
        struct {
            int64_t seq, nonce, token;
            double at;          /* 0..1; below 0: unknown */
            exj_slice note;
            exj_code verdict;   /* EXJ_OK, EXJ_FENCED */
        } progress;
        struct {
            exj_slice key;         /* 1..255 bytes */
            uint8_t fingerprint[32]; /* of the request: method, path, body */
            exj_msec keep_ms;      /* TAKE: how long the key is remembered */
            int64_t owner;         /* TAKE, KEEP, DROP: random, never 0; who works on it */
            unsigned status;       /* KEEP: the answer; */
            exj_slice body;
            /* KEEP: fills status and body from what the group's operations gave, inside the
             * transaction; not NULL: status and body above are ignored until it ran. The body
             * must stay until done. False: no memory. It runs again when the transaction is
             * done again without another's group. */
            bool (*answer)(exj_op *op);
            bool ret_replay;       /* TAKE: it was answered before: */
            unsigned ret_status;
            exj_buf ret_body;      /* the caller's to release */
        } command; /* TAKE: EXJ_OK taken; EXJ_CANCELLED with ret_replay; EXJ_BUSY: somebody works
                      on it; EXJ_CONFLICT: the key came with another request. KEEP, DROP:
                      EXJ_FENCED: it is not ours */
        struct {
            exj_removal *items;
            size_t len, ret_removed;
        } remove;
        struct {
            int64_t after; /* go on behind this record; 0: from the first on */
            size_t limit;  /* entries to look at, about */
            int64_t ret_after;
            bool ret_end;  /* all is looked at, but for what event sinks still have to deliver */
            size_t ret_dropped;
        } compact;
        struct {
            int64_t pool;
            exj_archived *row; /* its numbers of entries are overwritten */
            int64_t ret_seq;   /* 0: there is a row of that record */
        } restore; /* EXJ_NOT_FOUND: no such pool; EXJ_INVALID: not a terminal status */
        struct {
            exj_doc_kind kind;
            exj_slice id;
            int64_t expected; /* version; 0: must be absent; -1: whatever it is */
            exj_slice body;   /* DOC_PUT: JSON text */
            int64_t ret_version; /* new one; on EXJ_CONFLICT the current one (0: absent) */
        } doc; /* rc EXJ_CONFLICT, EXJ_NOT_FOUND (expected > 0 and absent) */
        struct {
            int64_t seq, nonce, token;
            uint32_t attempt;
            exj_slice key, body; /* BEGIN: no body */
            exj_code verdict; /* EXJ_OK, EXJ_CONFLICT (finished already: read it), EXJ_FENCED */
            bool ret_again;   /* BEGIN: it had begun before and was not finished */
        } step;
        struct {
            exj_slice graph, key;
            int64_t seq, nonce, token; /* the claim; seq 0: an operator, nothing to fence */
            exj_slice value;           /* KV_PUT: checked JSON text */
            int64_t delta, ret_sum;    /* KV_ADD */
        } kv;
        struct {
            exj_slice name;   /* 1..64 bytes */
            int64_t position; /* every event up to this number is delivered, held or dead */
            const exj_sink_item *items;
            size_t len;
            int64_t dead_most; /* 0: EXJ_STORE_DEAD_MOST. Where the sink has so many dead letters,
                                  another DEAD item is held and tried again later */
            size_t ret_kept;   /* so many were */
        } sink;
        struct {
            int64_t id;
        } dead; /* EXJ_NOT_FOUND */
        struct {
            exj_slice id;
            /* Guards, as read (exj_schedule_view): the document's version, the state's turn
             * (0: there is no state yet), which grows with every change. */
            int64_t version, turn;
            /* What the state becomes. */
            exj_msec last_tick, next_due; /* next_due 0: never */
            exj_msec last_fired; /* the newest tick that started something; 0: as it was */
            bool paused;
            exj_slice times;  /* what the ticks follow from: opaque to the store */
            exj_slice error;  /* why the last tick that was due could not start; empty: none */
            uint64_t fired, skipped; /* added */
        } tick; /* EXJ_CONFLICT: another was faster; EXJ_NOT_FOUND: no such document */
        struct {
            exj_slice matrix, run;
        } run; /* RUN_ASK, RUN_DONE */
    } u;
};

/* ---- what reads give ------------------------------------------------------------------ */

typedef struct exj_pool_info {
    int64_t pool;
    exj_slice matrix, run, graph; /* valid during the visit */
    int64_t counts[EXJ_STATUS_COUNT]; /* rows now in each status; kept at each commit,
                                         never counted by a scan */
} exj_pool_info;

typedef struct exj_row_view {
    int64_t seq, pool, token;
    exj_slice matrix, run, graph, record_id, input; /* valid during the visit */
    exj_status status;
    int32_t priority;
    uint32_t attempts, max_attempts;
    exj_msec created_at, run_after, lease_until, finished_at; /* 0: none */
    exj_slice holder, result, error_code, error_text;
    exj_slice signal;      /* what a suspended or blocked row waits for; empty: none; any */
    exj_slice unique_key, concurrency_key, snapshot; /* empty: none */
    exj_slice progress_note; /* empty: none */
    double progress;         /* 0..1, of this attempt; below 0: unknown */
    bool cancel_asked;
    int64_t last_entry;    /* number of its newest journal entry */
} exj_row_view;

typedef struct exj_row_filter {
    exj_slice matrix, run, graph; /* empty: any (run: any) */
    int status;                   /* -1: any; EXJ_QUEUED includes WAITING */
    exj_slice error_code;         /* empty: any; else the status is one that ended otherwise
                                     than well. "Quarantined" with EXJ_BLOCKED is a seek, not
                                     a walk */
    int64_t after_seq;            /* keyset: rows with a larger seq, ascending */
    size_t limit;                 /* 1..1000 */
} exj_row_filter;

typedef struct exj_loaded {
    exj_slice record_id, input; /* inside the caller's buffer */
} exj_loaded;

/* A visitor returns false to stop. */
typedef bool (*exj_doc_visit)(void *user, exj_slice id, int64_t version, exj_slice body,
                              exj_msec created_at, exj_msec updated_at);
typedef bool (*exj_pool_visit)(void *user, const exj_pool_info *p);
typedef bool (*exj_row_visit)(void *user, const exj_row_view *r);

typedef struct exj_step_view {
    exj_slice key, body;   /* valid during the visit; body empty while it is not finished */
    bool done;             /* false: begun, and nobody knows whether it ran */
    int64_t token, number; /* of the claim and of the entry that finished (began) it */
    uint32_t attempt;
    exj_msec began_at, at; /* 0: not said; not finished */
} exj_step_view;
typedef bool (*exj_step_visit)(void *user, const exj_step_view *v);

/* One entry of the event stream, with the name of its row (empty: the row is gone). */
typedef struct exj_event_view {
    exj_journal_entry entry;
    int64_t pool;
    exj_slice matrix, run, graph, record_id; /* valid during the visit */
} exj_event_view;
typedef bool (*exj_event_visit)(void *user, const exj_event_view *v);

typedef struct exj_signal_view {
    exj_slice name, body; /* valid during the visit */
    exj_msec at;
} exj_signal_view;
typedef bool (*exj_signal_visit)(void *user, const exj_signal_view *v);

typedef struct exj_failure_view {
    int64_t token; /* of the claim */
    uint32_t attempt;
    exj_msec at;
    exj_slice code, text; /* valid during the visit */
} exj_failure_view;
typedef bool (*exj_failure_visit)(void *user, const exj_failure_view *v);

typedef struct exj_kv_view {
    exj_slice key, value; /* valid during the visit */
    exj_msec updated_at;
    int64_t seq;          /* the row that wrote it; 0: an operator */
    exj_slice matrix, run, graph, record_id; /* of that row; empty: an operator */
} exj_kv_view;
typedef bool (*exj_kv_visit)(void *user, const exj_kv_view *v);

/* An event that a sink has still to deliver, although its position is behind it. */
typedef struct exj_undelivered_view {
    int64_t number, seq;
    uint32_t tries;
    exj_msec at;           /* not before */
    exj_slice error, body; /* valid during the visit */
} exj_undelivered_view;
typedef bool (*exj_undelivered_visit)(void *user, const exj_undelivered_view *v);

typedef struct exj_dead_view {
    int64_t id;            /* never used twice */
    int64_t number, seq;
    uint32_t tries;
    exj_msec at;           /* since when it is dead */
    exj_slice sink, error, body; /* valid during the visit */
} exj_dead_view;
typedef bool (*exj_dead_visit)(void *user, const exj_dead_view *v);

/* A schedule's document and its state. The state of a deleted document goes with it. */
typedef struct exj_schedule_view {
    exj_slice id, body;    /* valid during the visit, as all texts */
    int64_t version;
    exj_msec created_at, updated_at;
    int64_t turn;          /* 0: no state yet, and nothing below is set */
    int64_t seen_version;  /* of the document, when the state was last changed */
    exj_msec last_tick, next_due; /* last_tick: all up to it are settled */
    exj_msec last_fired;   /* 0: none has */
    bool paused;
    exj_slice times, error;
    exj_msec error_at;     /* 0: none; of the first of equal errors in a row */
    uint64_t fired, skipped;
} exj_schedule_view;
typedef bool (*exj_schedule_visit)(void *user, const exj_schedule_view *v);

/* A run that was asked for; asked: its source has still to be asked; else rows of it are
 * not at their end. */
typedef bool (*exj_run_visit)(void *user, exj_slice matrix, exj_slice run, bool asked);

typedef struct exj_store_health {
    bool config_ok, execution_ok;
    char text[256]; /* what failed, or "ok" */
    char where[512], backend[64]; /* "…/store.db", "SQLite 3.40.1" */
    int schema_version;
    int64_t wal_bytes, commits, ops;
} exj_store_health;

typedef struct exj_ended_view {
    int64_t seq, pool, token;
    exj_status status; /* BLOCKED too, which is not terminal */
    exj_msec created_at, finished_at;
} exj_ended_view;
typedef bool (*exj_ended_visit)(void *user, const exj_ended_view *v);

/* As a row, its steps, failed attempts (newest first) and journal (oldest first) were read. The
 * entries come back with new numbers. */
struct exj_archived {
    exj_slice record_id, input, result, error_code, error_text;
    exj_slice unique_key, concurrency_key, snapshot;
    exj_status status; /* terminal */
    int32_t priority;
    uint32_t attempts, max_attempts;
    int64_t token;
    exj_msec created_at, finished_at;
    exj_step_view *steps;
    size_t steps_len;
    exj_failure_view *failures;
    size_t failures_len;
    exj_journal_entry *entries;
    size_t entries_len;
};

/* ---- the table behind which stores stand ------------------------------------------- */

typedef struct exj_store_vtable {
    const char *name;                                    /* "sqlite" */
    /* Others use the store, too, and it is reached over a network: EXJ_IO, EXJ_UNKNOWN, EXJ_BUSY,
     * EXJ_FULL and EXJ_NOMEM of an operation pass by themselves, so its owner asks again (the
     * engine: core/run/inside.h); rows appear, and leases end, without our doing; REAP with
     * all_but is refused. False: we are its only user, and what the top of this file says of a
     * store that failed holds. A store that passes operations on to another one says the same
     * as that. */
    bool shared;
    void (*submit)(exj_store *s, exj_op *first);          /* linked by `next`; any thread */
    exj_msec (*now)(exj_store *s);                        /* any thread */
    /* Fill `ret[i]` for claims[i]; texts are appended to `arena`, which must be kept. */
    exj_code (*load)(exj_store *s, const exj_claim *claims, size_t n, exj_loaded *ret,
                     exj_buf *arena, exj_err *err);
    exj_code (*doc_get)(exj_store *s, exj_doc_kind kind, exj_slice id, exj_doc_visit visit,
                        void *user, exj_err *err); /* EXJ_NOT_FOUND */
    exj_code (*doc_page)(exj_store *s, exj_doc_kind kind, exj_slice after_id, size_t limit,
                         exj_doc_visit visit, void *user, exj_err *err); /* by id, ascending */
    exj_code (*pools)(exj_store *s, exj_pool_visit visit, void *user, exj_err *err);
    exj_code (*row_get)(exj_store *s, exj_slice matrix, exj_slice run, exj_slice graph,
                        exj_slice record_id, exj_row_visit visit, void *user, exj_err *err);
    exj_code (*row_page)(exj_store *s, const exj_row_filter *f, exj_row_visit visit,
                         void *user, exj_err *err);
    /* The newest rows of one pool that ended with `status` (EXJ_COMPLETED, EXJ_FAILED, …), newest
     * first; limit 1..1000. */
    exj_code (*row_recent)(exj_store *s, int64_t pool, exj_status status, size_t limit,
                           exj_row_visit visit, void *user, exj_err *err);
    exj_code (*row_by_seq)(exj_store *s, int64_t seq, exj_row_visit visit, void *user,
                           exj_err *err); /* EXJ_NOT_FOUND */
    exj_code (*step_get)(exj_store *s, int64_t seq, exj_slice key, exj_buf *ret, exj_err *err);
    /* Every step of a row, finished and begun, in the order of their entries. A row without:
     * no visit. */
    exj_code (*step_each)(exj_store *s, int64_t seq, exj_step_visit visit, void *user,
                          exj_err *err);
    /* How many attempts of the row failed with this error code ("PluginCrashed") since it
     * was inserted or an operator last retried it. A row that is not there has none. */
    exj_code (*failure_count)(exj_store *s, int64_t seq, exj_slice code, uint32_t *ret,
                              exj_err *err);
    /* The failed attempts of a row, newest first, those before an operator's retry included;
     * limit 1..1000. A row that is not there has none. */
    exj_code (*failure_each)(exj_store *s, int64_t seq, size_t limit, exj_failure_visit visit,
                             void *user, exj_err *err);
    /* The entries of a row, oldest first: its newest `limit` (1..100000). */
    exj_code (*journal)(exj_store *s, int64_t seq, size_t limit, exj_event_visit visit,
                        void *user, exj_err *err);
    /* The event stream: entries with a number above `after`, ascending; limit 1..10000. Numbers
     * may be missing where rows are gone. */
    exj_code (*events)(exj_store *s, int64_t after, size_t limit, exj_event_visit visit,
                       void *user, exj_err *err);
    /* *ret_first: from this number on none is missing; *ret_last: the newest. 1 and 0: none. */
    exj_code (*events_span)(exj_store *s, int64_t *ret_first, int64_t *ret_last, exj_err *err);
    /* Calls `news` after each commit that added entries, on the writer thread; must be short.
     * One listener at most; NULL: no more, and none runs once this has returned. */
    void (*listen)(exj_store *s, void (*news)(void *user, int64_t last), void *user);
    /* Signals that were kept for a row, oldest first. */
    exj_code (*signal_each)(exj_store *s, int64_t seq, exj_signal_visit visit, void *user,
                            exj_err *err);
    /* Rows that ended, by seq, from behind `after` on, as long as they were created before
     * `created_before`; limit 1..10000. */
    exj_code (*ended)(exj_store *s, int64_t after, exj_msec created_before, size_t limit,
                      exj_ended_visit visit, void *user, exj_err *err);
    exj_code (*kv_get)(exj_store *s, exj_slice graph, exj_slice key, exj_buf *ret,
                       exj_err *err); /* appends the value; EXJ_NOT_FOUND */
    /* By key (bytes), ascending; limit 1..1000. A graph without keys: no visit. */
    exj_code (*kv_page)(exj_store *s, exj_slice graph, exj_slice after_key, size_t limit,
                        exj_kv_visit visit, void *user, exj_err *err);
    /* EXJ_NOT_FOUND: such a sink has never saved anything. */
    exj_code (*sink_get)(exj_store *s, exj_slice name, int64_t *ret_position, exj_err *err);
    /* By number, ascending; limit 1..100000. */
    exj_code (*undelivered)(exj_store *s, exj_slice sink, size_t limit,
                            exj_undelivered_visit visit, void *user, exj_err *err);
    /* Dead letters by id, ascending; `sink` empty: of all; limit 1..1000. */
    exj_code (*dead_page)(exj_store *s, exj_slice sink, int64_t after_id, size_t limit,
                          exj_dead_visit visit, void *user, exj_err *err);
    /* EXJ_NOT_FOUND: no such document. */
    exj_code (*schedule_get)(exj_store *s, exj_slice id, exj_schedule_visit visit, void *user,
                             exj_err *err);
    /* By id, ascending; limit 1..1000. `due_by` not 0: those alone whose next_due is not later,
     * or whose document is newer than their state. */
    exj_code (*schedule_page)(exj_store *s, exj_slice after_id, exj_msec due_by, size_t limit,
                              exj_schedule_visit visit, void *user, exj_err *err);
    /* The earliest next_due of all states; 0: none is ever due. */
    exj_code (*schedule_next)(exj_store *s, exj_msec *ret, exj_err *err);
    /* Runs that were asked for by schedules: those still asked first, oldest first, then those
     * with rows that are queued, waiting, parked, running or suspended. */
    exj_code (*runs)(exj_store *s, exj_run_visit visit, void *user, exj_err *err);
    exj_code (*health)(exj_store *s, exj_store_health *ret); /* a real round trip */
    void (*close)(exj_store *s); /* finishes what was submitted, then checkpoints */
} exj_store_vtable;

struct exj_store {
    const exj_store_vtable *v;
};

static inline void exj_store_submit(exj_store *s, exj_op *first)
{
    s->v->submit(s, first);
}

/* Submit one op and wait for it. Not from `done`. Returns op->rc, copies op->err. */
exj_code exj_store_do(exj_store *s, exj_op *op, exj_err *err);
/* Submit the ops linked by `next` as one group (with_next is set here) and wait for all; done
 * and user of each are used. Not from `done`. Returns the rc of the one that failed by itself
 * (the others say EXJ_CANCELLED), and copies its err. */
exj_code exj_store_do_group(exj_store *s, exj_op *first, exj_err *err);

/* ---- the embedded store ---------------------------------------------------------------- */

typedef struct exj_sqlite_options {
    const char *dir;     /* data directory; made (0700) when absent */
    const char *lock_note; /* written into the lock file, e.g. "pid 12 worker w-1 socket …" */
    bool fast;           /* synchronous=NORMAL: may lose the last commits at power loss */
    uint32_t blob_bytes; /* inputs, results and steps above it go to DIR/blobs; 0: 64 KiB */
    bool read_only;      /* open without the lock, for looking only; EXJ_NOT_FOUND when there is
                            no store; writes: EXJ_REFUSED, answered before submit returns */
} exj_sqlite_options;

/* For a program that is ours alone, before anything else of this and before any thread: SQLite
 * stops counting its memory, which takes a lock at each of its allocations. A program that
 * embeds a worker may use SQLite itself and is left as it is. */
void exj_sqlite_own_process(void);

/* Opens DIR/exellix-jobs.db, making or migrating it, under an exclusive lock on
 * DIR/exellix-jobs.lock held until close. *ret: end it with v->close.
 * Errors: EXJ_BUSY (text says who holds it: the lock file's note), EXJ_REFUSED (schema
 * newer than this program: both numbers), EXJ_CORRUPT, EXJ_IO (directory not writable,
 * disk full; the text names path and cause), EXJ_NOMEM. */
exj_code exj_sqlite_open(const exj_sqlite_options *o, exj_store **ret, exj_err *err);
/* Reads the note of whoever holds DIR's lock. EXJ_NOT_FOUND: nobody does. */
exj_code exj_sqlite_holder(const char *dir, exj_buf *ret_note, exj_err *err);

#endif /* EXJ_CORE_STORE_STORE_H */
