/* core/store/mongo/batch.h - one batch of the journal: made from what rows have in their logs,
 * read again as entries, and what else follows from it (docs/store-mongo.md, "The drain").
 *
 * Deciding only: nothing here talks to a server.
 *
 * A batch is
 *
 *     { _id: number of the batch, first, end: numbers of its entries, [first, end); at,
 *       rows: [ { s: seq, b, last: number, ids: [of the entries of its log] } ],
 *       e: [ { s, k: kind, t: token, a: attempt, p: number of the row's entry before, at,
 *              v, key, text } ],
 *       c: [ { p: pool, d: [by how many each status changes] } ] }
 *
 * Applying one twice changes nothing the second time: what follows from it has an _id of its own,
 * is counted under its number, or is taken out by the ids in it.
 *
 * Threads: functions only.
 */
#ifndef EXJ_CORE_STORE_MONGO_BATCH_H
#define EXJ_CORE_STORE_MONGO_BATCH_H

#include <bson/bson.h>

#include "core/store/store.h"

#define EXJ_MBATCH_ROWS 512u     /* rows of one batch, */
#define EXJ_MBATCH_ENTRIES 4096u /* and entries, */
#define EXJ_MBATCH_BYTES (4u << 20) /* and bytes, about; whole rows, and one at least */

/* Number the logs of the rows (documents with seq, b, pool, last and log) from `first` on, as the
 * batch `id`. *ret: the batch, appended to; *ret_rows: how many of the rows are in it; *ret_end:
 * the number after its last entry. Moves that no operator sees take no number and are counted all
 * the same, so a batch may have none. Errors: EXJ_CORRUPT: a log that is none; the row is named. */
exj_code exj_mbatch_make(const bson_t *const *rows, size_t len, int64_t id, int64_t first,
                         exj_msec now, bson_t *ret, size_t *ret_rows, int64_t *ret_end,
                         exj_err *err);

/* The entries of a batch, in the order of their numbers; slices point into it. */
typedef struct exj_mbatch_iter {
    bson_iter_t at;
    int64_t number;
    bool corrupt; /* out: what there is, is no entry */
} exj_mbatch_iter;

bool exj_mbatch_iter_init(exj_mbatch_iter *it, const bson_t *batch);
bool exj_mbatch_iter_next(exj_mbatch_iter *it, exj_journal_entry *ret);

/* What an entry of a row's log asks to be kept elsewhere. */
typedef struct exj_mkept {
    int64_t seq, number;     /* the row, the number that the batch gave the entry */
    exj_journal_entry entry; /* without `previous` */
    bson_t body;             /* a view of the entry's body: what it is, is said by its members */
} exj_mkept;
typedef bool (*exj_mbatch_keep)(void *user, const exj_mkept *k); /* false stops */

/* Visit those entries with a body of the row's log that are in the batch. */
void exj_mbatch_kept(const bson_t *batch, const bson_t *row, exj_mbatch_keep visit, void *user);

#endif /* EXJ_CORE_STORE_MONGO_BATCH_H */
