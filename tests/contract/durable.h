/* tests/contract/durable.h - shorthands for what rows live through: waits, steps, orders,
 * keys, and the journal that tells of it all. */
#ifndef EXJ_TESTS_CONTRACT_DURABLE_H
#define EXJ_TESTS_CONTRACT_DURABLE_H

#include "contract.h"

/* A row by its number, texts copied. */
struct seen {
    exj_row_view v;
    char signal[64], code[64], text[600], result[512], note[600], holder[64];
};
struct seen look(struct fixture *f, int64_t seq);
exj_status status_of(struct fixture *f, int64_t seq);

/* The words of the row's journal, parted by blanks; borrowed until the next call. */
const char *words_of(struct fixture *f, int64_t seq);
/* The journal has exactly these words, and folding it gives the row. */
void expect_words(struct fixture *f, int64_t seq, const char *wanted);
/* exj_journal_apply over the row's entries gives the row: status, attempts, token, last. */
void expect_folds(struct fixture *f, int64_t seq);
/* The row's steps in order, "a b?": the ? has begun and is not finished. Borrowed. */
const char *steps_of(struct fixture *f, int64_t seq);
/* The body of a finished step, "" when there is none. Borrowed. */
const char *step_body(struct fixture *f, int64_t seq, const char *key);
/* The newest entry of the row; key and text copied. */
struct newest {
    exj_journal_entry e;
    char key[600], text[600];
};
struct newest newest(struct fixture *f, int64_t seq);

exj_code suspend(struct fixture *f, const exj_claim *c, exj_wait_kind kind, const char *signal,
                 exj_msec at);
exj_code block_on(struct fixture *f, const exj_claim *c, const char *signal);
exj_code signal_to(struct fixture *f, int64_t seq, const char *name, const char *body,
                   bool *ret_delivered, exj_err *err);
exj_code cancel(struct fixture *f, int64_t seq, exj_status *ret_to, exj_err *err);
exj_code rerun(struct fixture *f, int64_t seq, const char *step, size_t *ret_dropped,
               size_t *ret_kept, exj_err *err);
exj_code step_begin(struct fixture *f, const exj_claim *c, const char *key, bool *ret_again);
exj_code progress(struct fixture *f, const exj_claim *c, double at, const char *note);
/* One row with keys, its verdict in *it. Returns its seq. */
int64_t insert_with(struct fixture *f, int64_t pool, const char *id, exj_insert_item *it,
                    exj_overflow_rule overflow);
int64_t insert_keyed(struct fixture *f, int64_t pool, const char *id, const char *unique,
                     const char *concurrency);
size_t claim_want(struct fixture *f, exj_want *w, int64_t nonce, exj_claim *ret);
/* Submit linked operations (`n` of them, next and done are set here) and wait for all. */
void do_all(struct fixture *f, exj_op *ops, size_t n);

#endif /* EXJ_TESTS_CONTRACT_DURABLE_H */
