/* tests/support/short.h - a real program that runs short of memory or of threads.
 *
 * <build>/tests/preload/short.so, loaded before the C library, counts every allocation (or
 * pthread_create) of the program EXJ_TEST_SHORT_OF (exellix-jobs unless told) and refuses
 * those that the file EXJ_TEST_SHORT says: the nth from the moment it was armed on, several
 * in a row, or each with a probability. The test maps the same file and looks at it while
 * the program runs. Not with a sanitizer: those have allocators of their own.
 *
 * Threads: the fields below are written by one thread of the test while `armed` is 0. */
#ifndef EXJ_TESTS_SHORT_H
#define EXJ_TESTS_SHORT_H

#include <stdatomic.h>
#include <stdint.h>

#define EXJ_SHORT_LIBRARY EXJ_BINARY_DIR "/tests/preload/short.so"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EXJ_SHORT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define EXJ_SHORT_SANITIZED 1
#endif
#endif
#ifndef EXJ_SHORT_SANITIZED
#define EXJ_SHORT_SANITIZED 0
#endif

typedef struct exj_short_of {
    _Atomic int32_t armed;  /* 0: nothing is counted or refused */
    uint32_t per_million;   /* 0: by number */
    int64_t nth, in_a_row;  /* by number: the first that is refused, and how many */
    uint64_t seed;          /* with per_million */
    _Atomic int64_t seen;   /* asked for since it was armed */
    _Atomic int64_t refused;
} exj_short_of;

typedef struct exj_short {
    exj_short_of memory, threads;
    char where[4096]; /* who was refused first: " file+0xoffset" of each frame */
} exj_short;

#endif /* EXJ_TESTS_SHORT_H */
