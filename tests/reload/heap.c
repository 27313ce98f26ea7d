/* See heap.h. The functions of glibc below its names are called, so nothing is looked up. */
#include "tests/reload/heap.h"

#ifdef SOAK_COUNTS

#include <errno.h>
#include <malloc.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#define HEAD ((long)sizeof(size_t)) /* of each block, before what is usable of it */
#define SEEN __attribute__((visibility("default")))

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static atomic_long bytes, blocks; /* relaxed: they are read when all is at rest */

static void *came(void *p)
{
    if (p) {
        atomic_fetch_add_explicit(&bytes, (long)malloc_usable_size(p) + HEAD, memory_order_relaxed);
        atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
    }
    return p;
}

static void goes(void *p)
{
    if (p) {
        atomic_fetch_sub_explicit(&bytes, (long)malloc_usable_size(p) + HEAD, memory_order_relaxed);
        atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
    }
}

SEEN void *malloc(size_t n)
{
    return came(__libc_malloc(n));
}

SEEN void *calloc(size_t n, size_t size)
{
    return came(__libc_calloc(n, size));
}

SEEN void free(void *p)
{
    goes(p);
    __libc_free(p);
}

SEEN void *realloc(void *p, size_t n)
{
    void *moved;

    goes(p);
    moved = __libc_realloc(p, n);
    if (!moved && n)
        came(p); /* it stayed */
    return came(moved);
}

SEEN void *memalign(size_t align, size_t n)
{
    return came(__libc_memalign(align, n));
}

SEEN void *aligned_alloc(size_t align, size_t n)
{
    return came(__libc_memalign(align, n));
}

SEEN int posix_memalign(void **ret, size_t align, size_t n)
{
    void *p = came(__libc_memalign(align, n));

    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}

/* ---- SQLite, past the count -------------------------------------------------------------------- */

static void *sqlite_malloc(int n)
{
    return __libc_malloc((size_t)n);
}

static void *sqlite_realloc(void *p, int n)
{
    return __libc_realloc(p, (size_t)n);
}

static int sqlite_size(void *p)
{
    return (int)malloc_usable_size(p);
}

static int sqlite_roundup(int n)
{
    return (n + 7) & ~7;
}

static int sqlite_init(void *user)
{
    (void)user;
    return SQLITE_OK;
}

static void sqlite_end(void *user)
{
    (void)user;
}

void exj_heap_begin(void)
{
    static const sqlite3_mem_methods methods = {
        .xMalloc = sqlite_malloc, .xFree = __libc_free, .xRealloc = sqlite_realloc,
        .xSize = sqlite_size, .xRoundup = sqlite_roundup, .xInit = sqlite_init,
        .xShutdown = sqlite_end,
    };

    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
        abort();
}

bool exj_heap_count(exj_heap *ret)
{
    *ret = (exj_heap){ .bytes = atomic_load(&bytes), .blocks = atomic_load(&blocks),
                       .sqlite_bytes = (long)sqlite3_memory_used() };
    return true;
}

#else

void exj_heap_begin(void)
{
}

bool exj_heap_count(exj_heap *ret)
{
    *ret = (exj_heap){ 0 };
    return false;
}
#endif
