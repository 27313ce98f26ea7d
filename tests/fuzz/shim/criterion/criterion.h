/* What the helpers of tests/contract use of Criterion, for a fuzz target: a failed assertion is an
 * abort, which the fuzzer catches. */
#ifndef EXJ_TESTS_FUZZ_SHIM_CRITERION_H
#define EXJ_TESTS_FUZZ_SHIM_CRITERION_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct criterion_test_set;

__attribute__((noreturn, format(printf, 4, 5))) static inline void
shim_fail(const char *file, int line, const char *what, const char *format, ...)
{
    va_list ap;

    fprintf(stderr, "%s:%d: %s: ", file, line, what);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

#define cr_assert(holds, ...)                                                              \
    do {                                                                                   \
        if (!(holds))                                                                      \
            shim_fail(__FILE__, __LINE__, #holds, "" __VA_ARGS__);                         \
    } while (0)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), "" __VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), "" __VA_ARGS__)
#define cr_assert_str_eq(a, b) cr_assert(strcmp(a, b) == 0, "\"%s\" and \"%s\"", a, b)

#endif /* EXJ_TESTS_FUZZ_SHIM_CRITERION_H */
