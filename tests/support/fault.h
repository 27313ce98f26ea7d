/* tests/support/fault.h - an allocator that fails the 1st, 2nd, ... time.
 *
 * A test that links `exj_fault` has every malloc, calloc, realloc, strdup and strndup of
 * OUR code (not of the libraries) pass through here. The way to use it:
 *
 *     for (long n = 1;; n++) {
 *         exj_fault_arm(n);
 *         rc = the_call(...);
 *         if (exj_fault_disarm() < n)   // the nth was never asked for: all were tried
 *             break;
 *         cr_assert_eq(rc, EXJ_NOMEM);  // and nothing changed, and nothing leaks
 *     }
 */
#ifndef EXJ_TESTS_FAULT_H
#define EXJ_TESTS_FAULT_H

#include <stdbool.h>

void exj_fault_arm(long nth); /* the nth allocation from now on fails, once */
long exj_fault_disarm(void);  /* how many there were up to and including the failed one */

#endif /* EXJ_TESTS_FAULT_H */
