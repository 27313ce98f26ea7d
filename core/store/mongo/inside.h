/* core/store/mongo/inside.h - what the files of the MongoDB store share (docs/store-mongo.md).
 *
 *   store.c   opening, closing, health      writer.c  the queue of operations
 *   schema.c  collections, indexes          rows.c    rows: read many, write many, who won
 *   insert.c  pools, rows come in           claim.c   what a holder does
 *   keep.c    what a keeper does            order.c   what an operator does
 *   drain.c   the journal                   read.c    reads
 *   row.h, life.h, batch.h: what is decided; client.h: what is said to the server
 *
 * Threads: `writer thread only` unless a field says otherwise. Readers take clients of their own.
 */
#ifndef EXJ_CORE_STORE_MONGO_INSIDE_H
#define EXJ_CORE_STORE_MONGO_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/store/mongo/client.h"
#include "core/store/mongo/clock.h"
#include "core/store/mongo/life.h"
#include "core/store/mongo/mongo.h"

#define EXJ_MSTORE_SCHEMA 1

/* Collections of execution_db. */
#define C_ROWS "exellix_execution_matrix_rows"
#define C_FAILURES "exellix_execution_matrix_failures"
#define C_SNAPSHOTS "exellix_execution_matrix_snapshots"
#define C_NAMES "exj_names"
#define C_STEPS "exj_steps"
#define C_EVENTS "exj_events"
#define C_POOLS "exj_pools"
#define C_META "exj_meta"
/* And of config_db. */
#define C_GONE "exj_gone"

typedef struct exj_mpool {
    char *matrix, *run, *graph; /* owned; NULL: no such pool known */
} exj_mpool;

typedef struct exj_mstore {
    exj_store base;
    /* Set before start, then read-only. */
    exj_mongo *m;
    char *exec_db, *config_db; /* owned */
    exj_mstore_seam seam;
    char version[64];
    bool read_only;

    pthread_mutex_t clock_mu;
    exj_mongo_clock clock; /* under clock_mu */

    pthread_mutex_t mu; /* the queue */
    pthread_cond_t work;
    exj_op *head, **tail; /* under mu */
    bool closing;         /* under mu */
    pthread_t thread;
    bool thread_runs;

    exj_mongo_client *c; /* the writer's */
    exj_msec now;        /* when the operation in hand began */
    int64_t write;       /* its id: what it writes says that it did */

    pthread_mutex_t pools_mu;
    exj_mpool *pools; /* by id; under pools_mu; entries never change once they are known */
    size_t pools_len;

    pthread_mutex_t drain_mu; /* one thread of this process drains */
    bool chain_known, chain_applied; /* under drain_mu, with the next two: */
    int64_t chain_id, chain_end;     /* of the last batch, the number after its last entry */

    pthread_mutex_t listen_mu;
    void (*news)(void *user, int64_t last); /* under listen_mu */
    void *news_user;

    atomic_int_least64_t commits, ops;
} exj_mstore;

static inline exj_mstore *exj_mstore_of(exj_store *s)
{
    return (exj_mstore *)s;
}

/* ---- schema.c -------------------------------------------------------------------------------- */

exj_code exj_mstore_init(exj_mstore *s, exj_mongo_client *c, exj_err *err);
exj_code exj_mstore_check(exj_mstore *s, exj_mongo_client *c, exj_err *err);
/* The next `n` numbers of a counter: *ret is the first. Gaps are fine. */
exj_code exj_mstore_next(exj_mstore *s, exj_mongo_client *c, const char *counter, int64_t n,
                         int64_t *ret, exj_err *err);

/* ---- rows.c ---------------------------------------------------------------------------------- */

/* Read rows by seq, or by what `filter` asks for with an index; `visit` may keep the row, which
 * is his then (else it is released). False: no more. */
typedef bool (*exj_mrow_visit)(void *user, exj_mrow *r);
exj_code exj_mstore_find(exj_mstore *s, exj_mongo_client *c, const bson_t *filter,
                         const bson_t *opts, exj_mrow_visit visit, void *user, exj_err *err);
/* ret[i].seq 0: not there. To be released. */
exj_code exj_mstore_rows(exj_mstore *s, exj_mongo_client *c, const int64_t *seqs, size_t n,
                         exj_mrow *ret, exj_err *err);
/* Write what became of rows, each under its guard. verdicts[i]: EXJ_OK; EXJ_CONFLICT: somebody was
 * faster, read and decide again; EXJ_UNKNOWN: it may have landed, or may yet. */
exj_code exj_mstore_save(exj_mstore *s, exj_mongo_client *c, exj_mrow *const *rows, size_t n,
                         exj_code *verdicts, exj_err *err);
/* One row, decided and written, again while somebody is faster. `decide` fills op-like outputs;
 * *ret_change false: nothing is to be written. EXJ_NOT_FOUND: no row. */
typedef exj_code (*exj_mrow_decide)(void *user, exj_mrow *r, bool *ret_change, exj_err *err);
exj_code exj_mstore_change(exj_mstore *s, int64_t seq, exj_mrow_decide decide, void *user,
                           exj_err *err);

/* ---- operations ------------------------------------------------------------------------------ */

void exj_mstore_apply(exj_mstore *s, exj_op *op);
void exj_mstore_submit(exj_store *base, exj_op *first);
void *exj_mstore_writer(void *store);

exj_code exj_mstore_pool(exj_mstore *s, exj_op *op);
exj_code exj_mstore_insert(exj_mstore *s, exj_op *op);
exj_code exj_mstore_claim(exj_mstore *s, exj_op *op);
exj_code exj_mstore_finish(exj_mstore *s, exj_op *op);
exj_code exj_mstore_renew(exj_mstore *s, exj_op *op);
exj_code exj_mstore_release(exj_mstore *s, exj_op *op);
exj_code exj_mstore_reap(exj_mstore *s, exj_op *op);
exj_code exj_mstore_promote(exj_mstore *s, exj_op *op);
exj_code exj_mstore_retry(exj_mstore *s, exj_op *op);
exj_code exj_mstore_cancel(exj_mstore *s, exj_op *op);
exj_code exj_mstore_signal(exj_mstore *s, exj_op *op);

/* Names of a pool; false: there is none. The slices live as long as the store. */
bool exj_mstore_pool_names(exj_mstore *s, exj_mongo_client *c, int64_t pool, exj_slice ret[3]);

/* ---- drain.c --------------------------------------------------------------------------------- */

/* Carry all logs that are there over into the journal. */
exj_code exj_mstore_drain(exj_mstore *s, exj_mongo_client *c, exj_err *err);
/* The newest number there is; 0: none. */
exj_code exj_mstore_chain_end(exj_mstore *s, exj_mongo_client *c, int64_t *ret_last,
                              exj_err *err);

/* ---- read.c ---------------------------------------------------------------------------------- */

exj_msec exj_mstore_now(exj_store *base);
exj_code exj_mstore_load(exj_store *base, const exj_claim *claims, size_t n, exj_loaded *ret,
                         exj_buf *arena, exj_err *err);
exj_code exj_mstore_pools(exj_store *base, exj_pool_visit visit, void *user, exj_err *err);
exj_code exj_mstore_row_get(exj_store *base, exj_slice matrix, exj_slice run, exj_slice graph,
                            exj_slice record_id, exj_row_visit visit, void *user, exj_err *err);
exj_code exj_mstore_row_page(exj_store *base, const exj_row_filter *f, exj_row_visit visit,
                             void *user, exj_err *err);
exj_code exj_mstore_row_recent(exj_store *base, int64_t pool, exj_status status, size_t limit,
                               exj_row_visit visit, void *user, exj_err *err);
exj_code exj_mstore_row_by_seq(exj_store *base, int64_t seq, exj_row_visit visit, void *user,
                               exj_err *err);
exj_code exj_mstore_failure_each(exj_store *base, int64_t seq, size_t limit,
                                 exj_failure_visit visit, void *user, exj_err *err);
exj_code exj_mstore_journal(exj_store *base, int64_t seq, size_t limit, exj_event_visit visit,
                            void *user, exj_err *err);
exj_code exj_mstore_events(exj_store *base, int64_t after, size_t limit, exj_event_visit visit,
                           void *user, exj_err *err);
exj_code exj_mstore_events_span(exj_store *base, int64_t *ret_first, int64_t *ret_last,
                                exj_err *err);
void exj_mstore_listen(exj_store *base, void (*news)(void *user, int64_t last), void *user);

#endif /* EXJ_CORE_STORE_MONGO_INSIDE_H */
