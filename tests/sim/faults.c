/* Which faults a seed has, and when they strike. */
#include "tests/sim/sim.h"

#define SECOND ((int64_t)1000000000)

const char *const sim_fault_words[SIM_KINDS] = {
    "crash",        "power-cut",    "lost-reply",  "late-reply", "pause-one",
    "pause-engine", "pause-all",    "disk-full",   "io-error",   "clock-back",
    "clock-ahead",  "clock-frozen", "clock-steps", "restart",
};

/* How often each comes, out of their sum. */
static const unsigned char weights[SIM_KINDS] = {
    6, 6, 5, 4, 8, 6, 5, 2, 2, 1, 1, 1, 1, 3
};

void sim_faults_plan(void)
{
    uint64_t *r = &sim->rng_fault;
    unsigned sum = 0, n = (unsigned)sim_below(r, 13), loud;

    for (unsigned k = 0; k < SIM_KINDS; k++)
        sum += weights[k];
    loud = (unsigned)sim_below(r, SIM_KINDS); /* each seed has a kind that it prefers */
    sim->faults_len = n;
    for (unsigned i = 0; i < n; i++) {
        sim_fault *f = &sim->faults[i];
        unsigned at = (unsigned)sim_below(r, sum), kind = 0;

        while (at >= weights[kind])
            at -= weights[kind++];
        f->kind = sim_chance(r, 30) ? (sim_fault_kind)loud : (sim_fault_kind)kind;
        f->at_ns = (int64_t)sim_below(r, (uint64_t)sim->horizon_ns);
        f->span_ns = (int64_t)(sim->lease_ms * 1000000ull / 4 +
                               sim_below(r, sim->lease_ms * 3000000ull));
        f->after = (uint32_t)sim_below(r, 200);
    }
    for (unsigned i = 1; i < n; i++) /* by time */
        for (unsigned k = i; k && sim->faults[k].at_ns < sim->faults[k - 1].at_ns; k--) {
            sim_fault f = sim->faults[k];

            sim->faults[k] = sim->faults[k - 1];
            sim->faults[k - 1] = f;
        }
    for (unsigned i = 0; i < n; i++)
        sim->faults[i].at_ns += sim->mono_ns;
    sim->next_fault = 0;
    sim->armed = false;
}

static bool is_kept(unsigned i)
{
    return i >= 64 || (sim->o.keep >> i & 1);
}

static void skip(void)
{
    while (sim->next_fault < sim->faults_len && !is_kept(sim->next_fault))
        sim->next_fault++;
}

static void pause_fibers(const sim_fault *f, int tag, unsigned only)
{
    unsigned n = 0;

    for (unsigned i = 0; i < SIM_FIBERS; i++) {
        sim_fiber *b = &sim->fibers[i];

        if (!b->used || b->wait == SIM_OVER || (tag >= 0 && b->tag != tag))
            continue;
        if (only == UINT32_MAX || n == only)
            b->paused_ns = sim->mono_ns + f->span_ns;
        if (n == only)
            sim_note("that is %s", b->name);
        n++;
    }
}

static unsigned count_fibers(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < SIM_FIBERS; i++)
        n += sim->fibers[i].used && sim->fibers[i].wait != SIM_OVER;
    return n;
}

/* True: who is here is to stand still. */
static void strike(const sim_fault *f)
{
    uint64_t *r = &sim->rng_disk;
    int64_t day = 86400 * SECOND;

    sim->t.hit[f->kind]++;
    sim->struck++;
    sim_note("FAULT %s for %lld ms", sim_fault_words[f->kind],
             (long long)(f->span_ns / 1000000));
    switch (f->kind) {
    case SIM_CRASH:
    case SIM_POWER_CUT:
    case SIM_LOST_REPLY:
        sim->crash = f->kind;
        sim_leave(SIM_CRASHED);
    case SIM_LATE_REPLY:
        sim->now->paused_ns = sim->mono_ns + f->span_ns;
        sim_yield();
        break;
    case SIM_PAUSE_ONE:
        pause_fibers(f, -1, (unsigned)sim_below(r, count_fibers()));
        break;
    case SIM_PAUSE_ENGINE:
        pause_fibers(
            f, (int)sim_below(r, (uint64_t)sim->engines_len + (sim->engines_len == 0)),
            UINT32_MAX);
        break;
    case SIM_PAUSE_ALL:
        sim->mono_ns += f->span_ns;
        break;
    case SIM_DISK_FULL:
        sim->full_until_ns = sim->mono_ns + f->span_ns;
        break;
    case SIM_IO_ERROR:
        sim->io_error = true;
        break;
    case SIM_CLOCK_BACK:
        sim->wall_off_ns -= day;
        break;
    case SIM_CLOCK_AHEAD:
        sim->wall_off_ns += day;
        break;
    case SIM_CLOCK_FROZEN:
        sim->frozen_wall_ns = sim_wall_ns();
        sim->frozen_until_ns = sim->mono_ns + 3 * f->span_ns;
        break;
    case SIM_CLOCK_STEPS:
        sim->steps_until_ns = sim->mono_ns + 3 * f->span_ns;
        break;
    case SIM_RESTART:
        sim->want_restart = true;
        break;
    case SIM_KINDS:
        break;
    }
}

void sim_fault_point(bool synced)
{
    const sim_fault *f;

    if (!sim->now || sim->faults_off)
        return;
    skip();
    if (sim->next_fault >= sim->faults_len)
        return;
    f = &sim->faults[sim->next_fault];
    if (sim->mono_ns < f->at_ns)
        return;
    if (!sim->armed) {
        sim->armed = true;
        sim->after = f->after;
    }
    if (sim->after && sim->mono_ns < f->at_ns + SECOND) {
        sim->after--;
        return;
    }
    /* These wait for a commit, but not for ever. */
    if ((f->kind == SIM_LOST_REPLY || f->kind == SIM_LATE_REPLY) && !synced &&
        sim->mono_ns < f->at_ns + 10 * SECOND)
        return;
    sim->armed = false;
    sim->next_fault++;
    if (f->kind == SIM_LATE_REPLY && !synced)
        return;
    strike(f);
}
