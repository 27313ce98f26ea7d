/* A program that runs short of memory or of threads, and knows nothing of it (LD_PRELOAD):
 * see tests/support/short.h. Every allocation of the process is counted, those of the
 * libraries too; one of them, or each with a probability, gets NULL. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/short.h"

#define SHOWN __attribute__((visibility("default")))
#define FRAMES 24

/* glibc's own: asking for them by dlsym would allocate. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t to, size_t n);

static exj_short *ctl;
static __thread int telling __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void find_control(void)
{
    const char *path = getenv("EXJ_TEST_SHORT"), *of = getenv("EXJ_TEST_SHORT_OF");
    void *frames[2], *at;
    int fd;

    if (!path || strcmp(program_invocation_short_name, of ? of : "exellix-jobs") != 0)
        return;
    backtrace(frames, 2); /* loads what it needs now: later it must not allocate */
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        ctl = at;
}

/* Who was refused: "file+0xoffset" of each frame, for addr2line. */
static void tell(void)
{
    void *frames[FRAMES];
    int n;
    size_t at = 0;

    telling = 1;
    n = backtrace(frames, FRAMES);
    for (int i = 2; i < n && at + 200 < sizeof(ctl->where); i++) {
        Dl_info in = { 0 };
        const char *file = "?";

        if (dladdr(frames[i], &in) && in.dli_fname)
            file = strrchr(in.dli_fname, '/') ? strrchr(in.dli_fname, '/') + 1 : in.dli_fname;
        at += (size_t)snprintf(ctl->where + at, sizeof(ctl->where) - at, " %.60s+0x%zx", file,
                               (size_t)((char *)frames[i] - (char *)in.dli_fbase) - 1);
    }
    telling = 0;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int is_refused(exj_short_of *s)
{
    int64_t nth;
    int rc;

    if (!ctl || telling || !atomic_load_explicit(&s->armed, memory_order_relaxed))
        return 0;
    nth = atomic_fetch_add(&s->seen, 1) + 1;
    if (s->per_million)
        rc = mix(s->seed + (uint64_t)nth * 0x9e3779b97f4a7c15u) % 1000000 < s->per_million;
    else
        rc = nth >= s->nth && nth < s->nth + s->in_a_row;
    if (rc) {
        if (atomic_fetch_add(&s->refused, 1) == 0)
            tell();
        errno = ENOMEM;
    }
    return rc;
}

static int no_memory(void)
{
    return ctl && is_refused(&ctl->memory);
}

SHOWN void *malloc(size_t n)
{
    return no_memory() ? NULL : __libc_malloc(n);
}

SHOWN void *calloc(size_t n, size_t size)
{
    return no_memory() ? NULL : __libc_calloc(n, size);
}

SHOWN void *realloc(void *p, size_t n)
{
    return no_memory() ? NULL : __libc_realloc(p, n);
}

SHOWN void *memalign(size_t to, size_t n)
{
    return no_memory() ? NULL : __libc_memalign(to, n);
}

SHOWN void *aligned_alloc(size_t to, size_t n)
{
    return no_memory() ? NULL : __libc_memalign(to, n);
}

SHOWN int posix_memalign(void **ret, size_t to, size_t n)
{
    void *p = no_memory() ? NULL : __libc_memalign(to, n);

    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}

SHOWN int pthread_create(pthread_t *ret, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (ctl && is_refused(&ctl->threads))
        return EAGAIN;
    if (!real) {
        void *found = dlsym(RTLD_NEXT, "pthread_create");

        memcpy(&real, &found, sizeof(real));
    }
    return real(ret, a, run, arg);
}
