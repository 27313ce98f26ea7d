/* tests/support/store_flaky.h - a store over another one that loses what is asked of it, or the
 * answer, as a server behind a network does that is away for a while and then well again.
 *
 * An operation (or group) is lost before it is applied: it answers EXJ_IO, or EXJ_UNKNOWN as its
 * owner cannot know; or after it was applied: EXJ_UNKNOWN, and what the answer would have said is
 * overwritten with nonsense. Reads fail with EXJ_IO. Operations that are lost before are answered
 * by a thread of its own, never inside submit.
 *
 * Threads: any; the rates may be changed at any time. */
#ifndef EXJ_TESTS_STORE_FLAKY_H
#define EXJ_TESTS_STORE_FLAKY_H

#include <stdatomic.h>

#include "core/store/store.h"

typedef struct exj_flaky {
    exj_store base; /* give this to whoever is to suffer */
    /* Of a thousand operations (groups) and reads so many. */
    atomic_uint lost_before, lost_after, reads_lost;
    atomic_bool away; /* all of them: lost before */
    /* How many were, by kind of operation (of a group: of its first); the last counts reads. */
    atomic_uint count_before[EXJ_OP_COUNT], count_after[EXJ_OP_COUNT], count_reads;
    struct exj_flaky_inner *in;
} exj_flaky;

/* `inner` is closed with it. `shared`: what the table says of it. NULL: no memory or thread. */
exj_flaky *exj_flaky_new(exj_store *inner, uint64_t seed, bool shared);

#endif /* EXJ_TESTS_STORE_FLAKY_H */
