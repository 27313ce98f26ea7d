/* tests/contract/reference.h - random operations against a plain model in memory: every verdict,
 * every counter, every row and its steps must agree, and after every operation the entries that
 * it added are folded and give the rows. What is random is the caller's: a generator in a test,
 * the bytes of an input under a fuzzer. One model a process. */
#ifndef EXJ_TESTS_CONTRACT_REFERENCE_H
#define EXJ_TESTS_CONTRACT_REFERENCE_H

#include "durable.h"

/* On an empty store. `draw` gives a number below `below` (1 or more). */
void reference_begin(struct fixture *f, uint32_t (*draw)(uint32_t below));
/* One operation, or none that would be possible now. */
void reference_step(struct fixture *f);
/* Every row of the store against the model. */
void reference_compare(struct fixture *f);
/* Close, open and compare. */
void reference_reopen(struct fixture *f);

#endif /* EXJ_TESTS_CONTRACT_REFERENCE_H */
