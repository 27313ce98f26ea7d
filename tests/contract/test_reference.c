/* Thousands of random operations against a plain model in memory. EXJ_SEED repeats a run. */
#include "reference.h"

#include <stdlib.h>

#include "core/base/clock.h"

#define STEPS 20000

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

/* spec 2.2: N workers on N machines may serve the same matrix.
 * spec 2.3: The row document is the materialized view of it, written in the same transaction;
 * spec 2.10: Every inserted row is terminal, suspended, blocked, queued or under one live
 * lease: none is lost. Tokens of a row strictly grow. No two live leases on a row. */
CONTRACT(reference, random_operations_agree_with_a_plain_model)
{
    const char *given = getenv("EXJ_SEED");
    unsigned steps = scaled(f, STEPS);
    uint64_t seed = given ? strtoull(given, NULL, 10) : exj_random_u64();

    fprintf(stderr, "reference: EXJ_SEED=%" PRIu64 "\n", seed);
    state = seed ? seed : 1;
    reference_begin(f, draw);
    for (unsigned step = 0; step < steps; step++) {
        reference_step(f);
        if (step % (steps / 4) == steps / 4 - 1)
            reference_reopen(f);
    }
    reference_compare(f);
}
