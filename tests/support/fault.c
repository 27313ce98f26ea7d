/* Linked with --wrap: see fault.h. */
#include "tests/support/fault.h"

#include <execinfo.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define FRAMES 20

static atomic_long left = -1; /* calls until the failing one; < 0: never */
static atomic_long seen;
static atomic_bool hit;
static __thread bool spared;
static void *frames[FRAMES]; /* of the one that failed last */
static int frames_len;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void exj_fault_arm(long nth)
{
    atomic_store(&seen, 0);
    atomic_store(&hit, false);
    atomic_store(&left, nth);
}

void exj_fault_tell(void)
{
    if (atomic_load(&hit))
        backtrace_symbols_fd(frames, frames_len, 2);
}

void exj_fault_spare(bool spare)
{
    spared = spare;
}

bool exj_fault_was_hit(void)
{
    return atomic_load(&hit);
}

long exj_fault_disarm(void)
{
    atomic_store(&left, -1);
    return atomic_load(&seen);
}

/* Counts down to zero once: exactly one call fails, whichever thread makes it. */
static bool fails(void)
{
    if (atomic_load(&left) < 0 || spared)
        return false;
    atomic_fetch_add(&seen, 1);
    if (atomic_fetch_sub(&left, 1) != 1)
        return false;
    frames_len = backtrace(frames, FRAMES);
    atomic_store(&hit, true);
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = __wrap_malloc(len + 1);

    if (p) {
        memcpy(p, s, len);
        p[len] = '\0';
    }
    return p;
}

char *__wrap_strdup(const char *s)
{
    return __wrap_strndup(s, strlen(s));
}
