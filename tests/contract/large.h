/* tests/contract/large.h - values that a store keeps apart from their rows. */
#ifndef EXJ_TESTS_CONTRACT_LARGE_H
#define EXJ_TESTS_CONTRACT_LARGE_H

#include "durable.h"

size_t large_of(const struct fixture *f); /* bytes of a value that is large for sure */
/* A JSON text of `n` bytes; the same letter gives the same text. Borrowed: the last eight stay. */
exj_slice text_of(char letter, size_t n);
exj_slice large_text(const struct fixture *f, char letter);

/* The verdict is in *it; returns op->rc. */
exj_code insert_large(struct fixture *f, int64_t pool, const char *id, exj_slice input,
                      exj_insert_item *it, exj_err *err);
/* An outcome and its verdict. */
exj_code end_large(struct fixture *f, const exj_claim *c, exj_event event, exj_slice result);
exj_code finish_large(struct fixture *f, const exj_claim *c, exj_slice result);
exj_code step_large(struct fixture *f, const exj_claim *c, const char *key, exj_slice body);

/* Input and result of the row that was visited last. */
struct texts {
    exj_buf input, result;
    int rows;
};
bool keep_texts(void *user, const exj_row_view *r);
/* The row has these, by number and in a page. */
void expect_texts(struct fixture *f, int64_t seq, exj_slice input, exj_slice result);
/* Appends the body to an exj_buf. */
bool keep_body(void *user, const exj_step_view *v);

#endif /* EXJ_TESTS_CONTRACT_LARGE_H */
