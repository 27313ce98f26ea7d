/* Linked with --wrap: see fake_clock.h. */
#include "tests/support/fake_clock.h"

#include <stdatomic.h>

static _Atomic bool fake;
static _Atomic exj_msec wall_ms;
static _Atomic exj_nsec mono_ns;

exj_msec __real_exj_clock_wall_ms(void);
exj_nsec __real_exj_clock_mono_ns(void);
exj_msec __wrap_exj_clock_wall_ms(void);
exj_nsec __wrap_exj_clock_mono_ns(void);

exj_msec __wrap_exj_clock_wall_ms(void)
{
    return fake ? wall_ms : __real_exj_clock_wall_ms();
}

exj_nsec __wrap_exj_clock_mono_ns(void)
{
    return fake ? mono_ns : __real_exj_clock_mono_ns();
}

void exj_fake_clock_set(exj_msec wall, exj_nsec mono)
{
    wall_ms = wall;
    mono_ns = mono;
    fake = true;
}

void exj_fake_clock_advance(exj_msec by)
{
    wall_ms += by;
    if (by > 0)
        mono_ns += by * 1000000;
}

void exj_fake_clock_step_wall(exj_msec by)
{
    wall_ms += by;
}

void exj_fake_clock_real(void)
{
    fake = false;
}
