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
void exj_fault_spare(bool spare); /* this thread's are not counted and do not fail */
void exj_fault_tell(void); /* on stderr: who asked for the one that failed last, for addr2line */
bool exj_fault_was_hit(void);  /* since it was armed last, one has failed */

#endif /* EXJ_TESTS_FAULT_H */
