/* core/store/mongo/row.h - a row's document: read, moved by the table of core/job/state.h, and
 * written as one conditional update (docs/store-mongo.md).
 *
 *     read ──▶ exj_mrow_load ──▶ exj_mrow_move, exj_mrow_tell, … ──▶ exj_mrow_update ──▶ guard
 *
 * Deciding only: nothing here talks to a server, time comes as an argument.
 *
 * Memory:  exj_mrow_load copies the document; slices of the row point into the copy, or are the
 *          caller's where he set them, until exj_mrow_release.
 * Threads: a row belongs to one caller.
 */
#ifndef EXJ_CORE_STORE_MONGO_ROW_H
#define EXJ_CORE_STORE_MONGO_ROW_H

#include <bson/bson.h>

#include "core/store/store.h"

#define EXJ_MROW_WRITES 4 /* writes that a row remembers: by them it is known who wrote it */
#define EXJ_MROW_NEVER INT64_MAX /* runAfter of a suspended row that only a signal resumes */

typedef struct exj_mrow {
    bson_t *doc;      /* owned; NULL: a new row */
    /* Never changes. */
    int64_t seq, pool;
    int32_t bucket;
    int64_t rank;     /* minus the priority */
    uint32_t max_attempts;
    exj_msec created_at;
    exj_slice matrix, run, graph, record_id;
    exj_slice unique_key, concurrency_key, snapshot;
    /* Its state, as read and as it is to become. */
    int64_t rev, tx;  /* as read; tx 0: not locked */
    bool staged;
    exj_status status;
    exj_msec run_after;
    uint32_t attempts;
    int64_t token;
    int64_t nonce;    /* of the claim; 0: none */
    exj_slice holder;
    exj_msec claimed_at, until;
    int64_t done_nonce, done_token; /* of what ended it last */
    exj_msec done_at;
    bool cancel_asked, waits;
    exj_wait_kind wait;
    exj_slice signal;
    int64_t retried_token;
    int64_t last;     /* number of its newest drained entry */
    unsigned log_len; /* entries that are not drained */
    /* Besides: what exj_mrow_update adds to it. Owned. */
    bson_t *set, *unset, *pull, *add, *log;
    uint32_t log_new;
    exj_msec guard_until; /* not 0: only while its lease ends then, too */
    int64_t write;    /* which write this is: kept in `w`, by which it is known again; 0: none */
} exj_mrow;

/* hash(seq) mod 16. */
int32_t exj_mrow_bucket(int64_t seq);

/* Errors: EXJ_CORRUPT: a document of ours that lacks what every row has; it is named. */
exj_code exj_mrow_load(const bson_t *doc, exj_mrow *ret, exj_err *err);
void exj_mrow_release(exj_mrow *r);

/* One move of the table, told in the row's log. The members of the state that the move means are
 * the caller's to set. `body` (may be NULL): what the drain has to keep besides the entry.
 * Errors: EXJ_REFUSED with the table's reason; nothing changed. */
exj_code exj_mrow_move(exj_mrow *r, exj_event event, int64_t value, exj_slice key, exj_slice text,
                       const bson_t *body, exj_msec now, exj_err *err);
/* A new row: its first entry, QUEUED or SCHEDULED. */
void exj_mrow_come(exj_mrow *r, exj_entry_kind kind, int64_t value, exj_msec now);
/* An entry that is no move. */
void exj_mrow_tell(exj_mrow *r, exj_entry_kind kind, int64_t value, exj_slice key, exj_slice text,
                   const bson_t *body, exj_msec now);
/* The claim is over: claim and cancelAsked go. */
void exj_mrow_end_claim(exj_mrow *r, exj_msec now);

/* What changes besides the state: $set, $unset, $pull, $push; made when first asked for. A member stands
 * in one of them, once. */
bson_t *exj_mrow_set(exj_mrow *r);
void exj_mrow_unset(exj_mrow *r, const char *name);
bson_t *exj_mrow_pull(exj_mrow *r);
/* Push one element to an array besides `log`; one array, one element a change. */
void exj_mrow_add(exj_mrow *r, const char *array, const bson_t *element);

/* {seq, b, rev: as read, tx: null}, or with the transaction that holds it. */
void exj_mrow_guard(const exj_mrow *r, bson_t *ret);
/* {$set, $unset, $pull, $inc: {rev: 1}, $push: {log}}: what makes the document what the row is. */
void exj_mrow_update(exj_mrow *r, bson_t *ret);
/* The whole document of a new row, but `input`, which the caller adds. */
void exj_mrow_document(exj_mrow *r, bson_t *ret);

/* The word that is stored: exj_status_name, or "staged". */
exj_code exj_mrow_status(exj_slice word, exj_status *ret, bool *ret_staged);

#endif /* EXJ_CORE_STORE_MONGO_ROW_H */
