/* tests/support/fake_clock.h - a test that links `exj_fake_clock` owns core/base/clock.h.
 * Until the first set, the real clocks are read. */
#ifndef EXJ_TESTS_FAKE_CLOCK_H
#define EXJ_TESTS_FAKE_CLOCK_H

#include "core/base/clock.h"

void exj_fake_clock_set(exj_msec wall, exj_nsec mono);
void exj_fake_clock_advance(exj_msec by); /* both clocks; may be negative for the wall's */
void exj_fake_clock_step_wall(exj_msec by); /* the wall clock alone, as an operator would */
void exj_fake_clock_real(void);

#endif /* EXJ_TESTS_FAKE_CLOCK_H */
