/* core/base/types.h - the few words every folder shares.
 *
 * Instants of the store and of documents are exj_msec (wall clock, milliseconds since
 * the epoch, UTC); spans inside the process are exj_nsec (CLOCK_MONOTONIC). Texts that
 * are not ours to free travel as exj_slice.
 */
#ifndef EXJ_CORE_BASE_TYPES_H
#define EXJ_CORE_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int64_t exj_msec; /* wall clock, or a span, in milliseconds */
typedef int64_t exj_nsec; /* monotonic clock, or a span, in nanoseconds */

/* A borrowed run of bytes; not NUL-terminated. `p` may be NULL only when n is 0. */
typedef struct exj_slice {
    const char *p;
    size_t n;
} exj_slice;

#define EXJ_SLICE_LITERAL(s) ((exj_slice){ (s), sizeof(s) - 1 })

static inline exj_slice exj_slice_of(const char *s) /* NULL gives the empty slice */
{
    return (exj_slice){ s, s ? strlen(s) : 0 };
}

static inline bool exj_slice_equal(exj_slice a, exj_slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool exj_slice_is(exj_slice a, const char *s)
{
    return exj_slice_equal(a, exj_slice_of(s));
}

#endif /* EXJ_CORE_BASE_TYPES_H */
