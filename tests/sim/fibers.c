/* Threads that are none: one runs at a time, and who is next is drawn. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NEVER INT64_MAX

/* What is kept inside of the C library's types; zeroed, as by their initialisers, is
 * right. */
struct mutex {
    uint32_t owner; /* index of a fiber and 1; 0: free */
};
struct cond {
    uint32_t realtime;
};

static uint32_t me(void)
{
    return (uint32_t)(sim->now - sim->fibers) + 1;
}

/* ---- switching
 * ------------------------------------------------------------------------------ */

static void to_host(void)
{
    sim_fiber *f = sim->now;

    f->saved_errno = errno;
    swapcontext(&f->context, &sim->host);
    errno = f->saved_errno;
}

void sim_leave(sim_end end)
{
    sim->end = end;
    setcontext(&sim->host);
    abort();
}

void sim_fail(const char *format, ...)
{
    va_list ap;

    if (!sim->why[0]) {
        va_start(ap, format);
        vsnprintf(sim->why, sizeof(sim->why), format, ap);
        va_end(ap);
        sim_note("FAILED: %s", sim->why);
    }
    sim->end = SIM_FAILED;
    if (sim->now)
        sim_leave(SIM_FAILED);
}

static void entry(void)
{
    sim_fiber *f = sim->now;

    f->ret = f->fn(f->arg);
    f = sim->now;
    f->wait = SIM_OVER;
    for (unsigned i = 0; i < SIM_FIBERS; i++)
        if (sim->fibers[i].used && sim->fibers[i].wait == SIM_JOIN &&
            sim->fibers[i].on == f)
            sim->fibers[i].wait = SIM_READY;
    if (f->detached)
        f->used = false;
    if (f == &sim->fibers[0])
        sim_leave(SIM_MAIN_OVER);
    setcontext(&sim->host);
}

static __attribute__((noinline)) void give_stack(sim_fiber *f, char *stack)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = SIM_STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, entry, 0);
}

sim_fiber *sim_start(const char *name, void *(*fn)(void *), void *arg)
{
    sim_fiber *f = NULL;
    unsigned i;

    for (i = 0; i < SIM_FIBERS && sim->fibers[i].used; i++)
        ;
    if (i == SIM_FIBERS)
        return NULL;
    f = &sim->fibers[i];
    memset(f, 0, sizeof(*f));
    f->used = true;
    f->fn = fn;
    f->arg = arg;
    f->tag = sim->now ? sim->now->tag : -1;
    f->number = ++sim->fibers_made;
    if (name)
        snprintf(f->name, sizeof(f->name), "%s", name);
    else
        snprintf(f->name, sizeof(f->name), "t%u", f->number);
    give_stack(f, sim->stacks + (size_t)i * SIM_STACK_BYTES);
    return f;
}

/* The next to run; NULL: nobody can. */
static sim_fiber *choose(void)
{
    sim_fiber *able[SIM_FIBERS];
    unsigned n = 0;

    for (unsigned i = 0; i < SIM_FIBERS; i++) {
        sim_fiber *f = &sim->fibers[i];

        if (!f->used || f->wait == SIM_OVER || f->paused_ns > sim->mono_ns)
            continue;
        if ((f->wait == SIM_SLEEP || f->wait == SIM_COND) &&
            f->until_ns <= sim->mono_ns) {
            f->timed_out = true;
            f->wait = SIM_READY;
        }
        if (f->wait == SIM_READY)
            able[n++] = f;
    }
    return n ? able[n == 1 ? 0 : sim_below(&sim->rng_sched, n)] : NULL;
}

/* Nobody can run: let time pass up to the next thing that happens. False: nothing will.
 */
static bool pass_time(void)
{
    int64_t next = NEVER;

    for (unsigned i = 0; i < SIM_FIBERS; i++) {
        const sim_fiber *f = &sim->fibers[i];
        int64_t at = f->wait == SIM_READY                          ? f->paused_ns
                     : f->wait == SIM_SLEEP || f->wait == SIM_COND ? f->until_ns
                                                                   : NEVER;

        if (!f->used || f->wait == SIM_OVER)
            continue;
        if (at < f->paused_ns)
            at = f->paused_ns;
        if (at < next)
            next = at;
    }
    if (next == NEVER)
        return false;
    if (next > sim->mono_ns)
        sim->mono_ns = next;
    return true;
}

void sim_dump(FILE *to)
{
    static const char *const words[] = { "ready", "mutex",     "cond", "sleep",
                                         "join",  "semaphore", "over" };

    for (unsigned i = 0; i < SIM_FIBERS; i++) {
        const sim_fiber *f = &sim->fibers[i];
        uint32_t owner = f->wait == SIM_MUTEX ? ((const struct mutex *)f->on)->owner : 0;

        if (f->used)
            fprintf(to, "  %-16s engine %d %s%s%s until %lld paused %lld\n", f->name,
                    f->tag, words[f->wait], owner ? " of " : "",
                    owner ? sim->fibers[owner - 1].name : "",
                    (long long)(f->until_ns / 1000000),
                    (long long)(f->paused_ns / 1000000));
    }
}

/* Let somebody run until he waits. Who leaves for good comes back here, too. */
static void turn(void)
{
    sim_fiber *f;

    if (!sim->switches_left) {
        sim_fail("no end: %s", "too many switches, something spins");
        return;
    }
    sim->switches_left--;
    if (sim->deadline_ns && sim->mono_ns > sim->deadline_ns) {
        sim_fail("I15: a stop has not come back after 10 minutes");
        return;
    }
    f = choose();
    if (!f) {
        if (!pass_time())
            sim_fail("deadlock: nobody can run and no time is waited for");
        return;
    }
    sim->t.switches++;
    sim->mono_ns += 200 + (int64_t)(sim_random(&sim->rng_sched) % 8000);
    sim_mix(f->number, (uint64_t)sim->mono_ns);
    sim->now = f;
    sim->inside = true;
    swapcontext(&sim->host, &f->context);
}

sim_end sim_run(void *(*fn)(void *), void *arg)
{
    memset(sim->fibers, 0, sizeof(sim->fibers));
    sim->now = NULL;
    sim->fibers_made = 0;
    sim->end = SIM_GOES_ON;
    sim_start("main", fn, arg);
    while (sim->end == SIM_GOES_ON) {
        sim->now = NULL;
        sim->inside = false;
        turn();
    }
    sim->now = NULL;
    sim->inside = false;
    return sim->end;
}

void sim_yield(void)
{
    if (!sim->now)
        return;
    to_host();
    sim_fault_point(false);
}

void sim_point(void)
{
    if (sim->now && sim_random(&sim->rng_sched) % 256 < sim->preempt)
        sim_yield();
}

void sim_sleep(int64_t ns)
{
    sim->now->wait = SIM_SLEEP;
    sim->now->until_ns = sim->mono_ns + (ns > 0 ? ns : 0);
    sim_yield();
}

/* ---- the C library's calls
 * ---------------------------------------------------------------------- */

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    sim_fiber *f = sim_start(NULL, fn, arg);
    int state = PTHREAD_CREATE_JOINABLE;

    if (!f)
        return EAGAIN;
    if (attr)
        pthread_attr_getdetachstate(attr, &state);
    f->detached = state == PTHREAD_CREATE_DETACHED;
    *ret = (pthread_t)(uintptr_t)f;
    sim_point();
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret);
int __wrap_pthread_join(pthread_t thread, void **ret)
{
    sim_fiber *f = (sim_fiber *)(uintptr_t)thread;

    while (f->wait != SIM_OVER) {
        sim->now->wait = SIM_JOIN;
        sim->now->on = f;
        sim_yield();
    }
    if (ret)
        *ret = f->ret;
    f->used = false;
    return 0;
}

int __wrap_pthread_detach(pthread_t thread);
int __wrap_pthread_detach(pthread_t thread)
{
    sim_fiber *f = (sim_fiber *)(uintptr_t)thread;

    f->detached = true;
    if (f->wait == SIM_OVER)
        f->used = false;
    return 0;
}

pthread_t __wrap_pthread_self(void);
pthread_t __wrap_pthread_self(void)
{
    return (pthread_t)(uintptr_t)sim->now;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    sim_fiber *f = (sim_fiber *)(uintptr_t)thread;

    snprintf(f->name, sizeof(f->name), "%s", name);
    return 0;
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    (void)how;
    (void)set;
    (void)old;
    return 0;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mu, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *mu, const pthread_mutexattr_t *attr)
{
    (void)attr;
    memset(mu, 0, sizeof(*mu));
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mu);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mu)
{
    if (((struct mutex *)mu)->owner)
        sim_fail("a mutex is destroyed that %s holds",
                 sim->fibers[((struct mutex *)mu)->owner - 1].name);
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mu);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mu)
{
    struct mutex *m = (struct mutex *)mu;

    if (!sim->now)
        return 0;
    sim_point();
    if (m->owner == me())
        sim_fail("deadlock: %s takes a mutex that it holds", sim->now->name);
    while (m->owner) {
        sim->now->wait = SIM_MUTEX;
        sim->now->on = m;
        sim_yield();
    }
    m->owner = me();
    return 0;
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mu);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mu)
{
    struct mutex *m = (struct mutex *)mu;

    sim_point();
    if (m->owner)
        return EBUSY;
    m->owner = me();
    return 0;
}

static void unlock(struct mutex *m)
{
    if (m->owner != me())
        sim_fail("%s gives a mutex back that it does not hold", sim->now->name);
    m->owner = 0;
    for (unsigned i = 0; i < SIM_FIBERS; i++)
        if (sim->fibers[i].wait == SIM_MUTEX && sim->fibers[i].on == m)
            sim->fibers[i].wait = SIM_READY;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mu);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mu)
{
    if (!sim->now)
        return 0;
    unlock((struct mutex *)mu);
    sim_point();
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
    clockid_t clock = CLOCK_REALTIME;

    memset(c, 0, sizeof(*c));
    if (attr)
        pthread_condattr_getclock(attr, &clock);
    ((struct cond *)c)->realtime = clock == CLOCK_REALTIME;
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
    for (unsigned i = 0; i < SIM_FIBERS; i++)
        if (sim->fibers[i].used && sim->fibers[i].wait == SIM_COND &&
            sim->fibers[i].on == c)
            sim_fail("a condition is destroyed that %s waits for", sim->fibers[i].name);
    return 0;
}

static int wait_until(pthread_cond_t *c, pthread_mutex_t *mu, int64_t until)
{
    sim_fiber *f = sim->now;
    bool timed_out;

    f->wait = SIM_COND;
    f->on = c;
    f->until_ns = until;
    f->timed_out = false;
    if (sim_random(&sim->rng_sched) % 4096 < sim->spurious)
        f->wait = SIM_READY;
    unlock((struct mutex *)mu);
    sim_yield();
    timed_out = f->timed_out;
    f->timed_out = false;
    __wrap_pthread_mutex_lock(mu);
    return timed_out ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *mu);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *mu)
{
    return wait_until(c, mu, NEVER);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *mu,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *mu,
                                  const struct timespec *until)
{
    int64_t at = until->tv_sec > 9000000000
                     ? NEVER
                     : (int64_t)until->tv_sec * 1000000000 + until->tv_nsec;

    if (((struct cond *)c)->realtime && at != NEVER)
        at = sim->mono_ns + (at - sim_wall_ns());
    return wait_until(c, mu, at);
}

static int wake(pthread_cond_t *c, bool all)
{
    sim_fiber *waiting[SIM_FIBERS];
    unsigned n = 0;

    for (unsigned i = 0; i < SIM_FIBERS; i++) {
        sim_fiber *f = &sim->fibers[i];

        if (f->used && f->wait == SIM_COND && f->on == c)
            waiting[n++] = f;
    }
    if (!all && n > 1) {
        waiting[0] = waiting[sim_below(&sim->rng_sched, n)];
        n = 1;
    }
    for (unsigned i = 0; i < n; i++)
        waiting[i]->wait = SIM_READY;
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    return sim->now ? wake(c, false) : 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    return sim->now ? wake(c, true) : 0;
}

struct semaphore {
    uint32_t value;
};

int __wrap_sem_init(sem_t *s, int shared, unsigned value);
int __wrap_sem_init(sem_t *s, int shared, unsigned value)
{
    (void)shared;
    memset(s, 0, sizeof(*s));
    ((struct semaphore *)s)->value = value;
    return 0;
}

int __wrap_sem_destroy(sem_t *s);
int __wrap_sem_destroy(sem_t *s)
{
    (void)s;
    return 0;
}

int __wrap_sem_post(sem_t *s);
int __wrap_sem_post(sem_t *s)
{
    ((struct semaphore *)s)->value++;
    for (unsigned i = 0; i < SIM_FIBERS; i++)
        if (sim->fibers[i].wait == SIM_SEMAPHORE && sim->fibers[i].on == s)
            sim->fibers[i].wait = SIM_READY;
    return 0;
}

int __wrap_sem_wait(sem_t *s);
int __wrap_sem_wait(sem_t *s)
{
    sim_point();
    while (!((struct semaphore *)s)->value) {
        sim->now->wait = SIM_SEMAPHORE;
        sim->now->on = s;
        sim_yield();
    }
    ((struct semaphore *)s)->value--;
    return 0;
}

int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
    sim_yield();
    return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    (void)fds;
    if (n)
        sim_fail("poll on %lu descriptors: nothing here has any", (unsigned long)n);
    sim_sleep((int64_t)timeout_ms * 1000000);
    return 0;
}
