/* tests/reload/heap.h - what this program has allocated and not freed, to the byte.
 *
 * Linked into a program it takes the place of malloc and its kin, for libraries and plugins too.
 * The allocator's own report cannot serve: it takes blocks that its caches of each thread keep
 * for the next call (up to 230 kB a thread, filled over hours) for blocks in use. */
#ifndef EXJ_TESTS_RELOAD_HEAP_H
#define EXJ_TESTS_RELOAD_HEAP_H

#include <stdbool.h>

typedef struct exj_heap {
    long bytes, blocks; /* in use, as the allocator sizes them; SQLite's apart */
    long sqlite_bytes;  /* the caches of its connections, which grow with the database up to
                           their limits */
} exj_heap;

/* Once, before SQLite is used: from then on its memory is counted apart. */
void exj_heap_begin(void);
/* False: nothing is counted, because a sanitizer has the allocator. [any thread] */
bool exj_heap_count(exj_heap *ret);

#endif /* EXJ_TESTS_RELOAD_HEAP_H */
