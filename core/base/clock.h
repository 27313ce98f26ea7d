/* core/base/clock.h - the only place that reads a clock or the system's randomness. */
#ifndef EXJ_CORE_BASE_CLOCK_H
#define EXJ_CORE_BASE_CLOCK_H

#include "core/base/types.h"

exj_msec exj_clock_wall_ms(void);
exj_nsec exj_clock_mono_ns(void);
/* "2026-01-02T03:04:05.678Z" and its NUL into ret. */
#define EXJ_TIME_TEXT_BYTES 32
void exj_clock_format(exj_msec at, char ret[EXJ_TIME_TEXT_BYTES]);
/* The other way: "2026-01-02T03:04:05Z", with 1 to 9 digits of a fraction if wanted (cut to
 * milliseconds); years 1970 to 9999. False: it is no such text. */
bool exj_clock_parse(exj_slice text, exj_msec *ret);
/* 64 bits from getrandom(2); never 0. */
uint64_t exj_random_u64(void);

#endif /* EXJ_CORE_BASE_CLOCK_H */
