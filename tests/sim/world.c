/* Clocks, randomness, memory and the program's own variables, as the code under test sees
 * them. */
#include "tests/sim/sim.h"

#include <jansson.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/base/log.h"

#define ARENA_BYTES ((size_t)4 << 30) /* of addresses */
#define WALL_START_NS ((int64_t)1800000000 * 1000000000)

struct sim *sim; /* set before sim_world_mark, so a crash leaves it */

/* ---- randomness and the digest
 * ------------------------------------------------------------ */

uint64_t sim_random(uint64_t *stream)
{
    uint64_t z = (*stream += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t *stream, uint64_t n)
{
    return sim_random(stream) % n;
}

bool sim_chance(uint64_t *stream, unsigned percent)
{
    return sim_below(stream, 100) < percent;
}

uint64_t sim_hash(const void *p, size_t n)
{
    const unsigned char *c = p;
    uint64_t h = 14695981039346656037u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ c[i]) * 1099511628211u;
    return h;
}

void sim_mix(uint64_t a, uint64_t b)
{
    uint64_t h = sim->digest ^ a * 0x9e3779b97f4a7c15u;

    h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u ^ b;
    sim->digest = (h ^ (h >> 32)) * 0x94d049bb133111ebu;
}

static void note(const char *area, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));
static void note(const char *area, const char *format, va_list ap)
{
    char text[SIM_WORDS];
    int n = vsnprintf(text, sizeof(text), format, ap);

    if (n < 0)
        n = 0;
    if (n >= (int)sizeof(text))
        n = (int)sizeof(text) - 1;
    sim_mix((uint64_t)sim->mono_ns, sim_hash(text, (size_t)n));
    if (sim->trace)
        fprintf(sim->trace, "%lld.%09lld %u:%s%s%s %.*s\n",
                (long long)(sim->mono_ns / 1000000000),
                (long long)(sim->mono_ns % 1000000000), sim->life,
                sim->now ? sim->now->name : "host", area ? " " : "", area ? area : "", n,
                text);
}

void sim_note(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    note(NULL, format, ap);
    va_end(ap);
}

void __wrap_exj_log(exj_log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap_exj_log(exj_log_level level, const char *area, const char *format, ...)
{
    va_list ap;

    (void)level;
    va_start(ap, format);
    note(area, format, ap);
    va_end(ap);
}

/* ---- clocks
 * ------------------------------------------------------------------------------- */

int64_t sim_wall_ns(void)
{
    if (sim->mono_ns < sim->frozen_until_ns)
        return sim->frozen_wall_ns;
    if (sim->mono_ns < sim->steps_until_ns) /* a second to and fro */
        return sim->mono_ns + sim->wall_off_ns +
               ((sim->mono_ns / 100000000) % 2 ? 1000000000 : -1000000000);
    return sim->mono_ns + sim->wall_off_ns;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    int64_t ns;

    sim->mono_ns += 40; /* so that whoever looks at it again and again gets on */
    ns = clock == CLOCK_REALTIME ? sim_wall_ns() : sim->mono_ns;
    ret->tv_sec = ns / 1000000000;
    ret->tv_nsec = ns % 1000000000;
    return 0;
}

ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags)
{
    char *to = buf;

    (void)flags;
    for (size_t i = 0; i < n; i++)
        to[i] = (char)sim_random(&sim->rng_os);
    return (ssize_t)n;
}

/* ---- memory: what is given inside comes from an arena that a crash forgets
 * ----------------- */

#define HEAD 16u

/* Four classes to each doubling. */
static unsigned class_of(size_t n, size_t *ret_size)
{
    unsigned c = 0;
    size_t size = 32;

    while (size < n) {
        size_t step = size / 4;

        for (unsigned i = 0; i < 4; i++) {
            if (size + i * step >= n) {
                *ret_size = size + i * step;
                return c + i;
            }
        }
        size *= 2;
        c += 4;
    }
    *ret_size = size;
    return c;
}

static void *arena_alloc(size_t n)
{
    size_t size;
    unsigned c = class_of(n ? n : 1, &size);
    char *p;

    if (c < 64 && sim->free_lists[c]) {
        p = sim->free_lists[c];
        memcpy(&sim->free_lists[c], p, sizeof(void *));
    } else {
        if ((size_t)(sim->arena_end - sim->arena_at) < size + HEAD)
            return NULL;
        p = sim->arena_at + HEAD;
        sim->arena_at += (size + HEAD + 15) & ~(size_t)15;
        memcpy(p - HEAD, &(uint64_t){ c }, 8);
    }
    memcpy(p - 8, &(uint64_t){ n }, 8);
    return p;
}

static bool is_ours(const void *p)
{
    return (const char *)p >= sim->arena && (const char *)p < sim->arena_end;
}

static size_t arena_size(const void *p)
{
    uint64_t n;

    memcpy(&n, (const char *)p - 8, 8);
    return (size_t)n;
}

static void arena_free(void *p)
{
    uint64_t c;

    memcpy(&c, (char *)p - HEAD, 8);
    if (c >= 64)
        return;
    memcpy(p, &sim->free_lists[c], sizeof(void *));
    sim->free_lists[c] = p;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
int __wrap_vasprintf(char **ret, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));
int __wrap_asprintf(char **ret, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int __wrap___vasprintf_chk(char **ret, int flag, const char *format, va_list ap)
    __attribute__((format(printf, 3, 0)));
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void *__wrap_malloc(size_t n)
{
    return sim && sim->inside ? arena_alloc(n) : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    size_t all;
    void *p;

    if (!sim || !sim->inside)
        return __real_calloc(n, size);
    if (__builtin_mul_overflow(n, size, &all))
        return NULL;
    p = arena_alloc(all);
    if (p)
        memset(p, 0, all);
    return p;
}

void __wrap_free(void *p)
{
    if (p && sim && is_ours(p))
        arena_free(p);
    else
        __real_free(p);
}

void *__wrap_realloc(void *p, size_t n)
{
    size_t size, old;
    void *to;

    if (!p)
        return __wrap_malloc(n);
    if (!sim || !is_ours(p))
        return __real_realloc(p, n);
    old = arena_size(p);
    class_of(old ? old : 1, &size);
    if (n && n <= size && n >= size / 2) {
        memcpy((char *)p - 8, &(uint64_t){ n }, 8);
        return p;
    }
    to = arena_alloc(n);
    if (!to)
        return NULL;
    memcpy(to, p, old < n ? old : n);
    arena_free(p);
    return to;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

char *__wrap_strndup(const char *text, size_t n)
{
    size_t len = strnlen(text, n);
    char *p = __wrap_malloc(len + 1);

    if (p) {
        memcpy(p, text, len);
        p[len] = '\0';
    }
    return p;
}

int __wrap_vasprintf(char **ret, const char *format, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n < 0 || !(*ret = __wrap_malloc((size_t)n + 1)))
        return -1;
    return vsnprintf(*ret, (size_t)n + 1, format, ap);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
    va_list ap;
    int n;

    va_start(ap, format);
    n = __wrap_vasprintf(ret, format, ap);
    va_end(ap);
    return n;
}

int __wrap___vasprintf_chk(char **ret, int flag, const char *format, va_list ap)
{
    (void)flag;
    return __wrap_vasprintf(ret, format, ap);
}

int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...)
{
    va_list ap;
    int n;

    (void)flag;
    va_start(ap, format);
    n = __wrap_vasprintf(ret, format, ap);
    va_end(ap);
    return n;
}

/* SQLite asks how large a block is, also of one from outside. */
static void *lite_malloc(int n)
{
    char *p;

    if (sim->inside)
        return arena_alloc((size_t)n);
    p = __real_malloc((size_t)n + HEAD);
    if (!p)
        return NULL;
    memcpy(p + 8, &(uint64_t){ (uint64_t)n }, 8);
    return p + HEAD;
}

static void lite_free(void *p)
{
    if (is_ours(p))
        arena_free(p);
    else
        __real_free((char *)p - HEAD);
}

static int lite_size(void *p)
{
    return p ? (int)arena_size(p) : 0;
}

static void *lite_realloc(void *p, int n)
{
    void *to;

    if (is_ours(p) && sim->inside)
        return __wrap_realloc(p, (size_t)n);
    to = lite_malloc(n);
    if (to) {
        memcpy(to, p, (size_t)(lite_size(p) < n ? lite_size(p) : n));
        lite_free(p);
    }
    return to;
}

static int lite_round(int n)
{
    return (n + 7) & ~7;
}

static int lite_init(void *data)
{
    (void)data;
    return SQLITE_OK;
}

static void lite_shutdown(void *data)
{
    (void)data;
}

/* ---- the program's own variables
 * ------------------------------------------------------------ */

extern char __data_start[], _edata[], _end[];

#define PAGE 4096u

static char *bss_pages(void)
{
    return (char *)(((uintptr_t)_edata + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
}

static bool is_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* What is set is kept: variables with a value, and those pages without that have got one
 * by now (each behind its address). The others become zero again by being given back. */
void sim_world_mark(void)
{
    size_t head = (size_t)(bss_pages() - __data_start), used = head;

    for (char *p = bss_pages(); p < _end; p += PAGE)
        if (!is_zero(p, p + PAGE <= _end ? PAGE : (size_t)(_end - p)))
            used += PAGE + sizeof(char *);
    sim->image = mmap(NULL, used + PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sim->image == MAP_FAILED)
        abort();
    memcpy(sim->image, __data_start, head);
    sim->image_len = head;
    for (char *p = bss_pages(); p < _end; p += PAGE) {
        size_t n = p + PAGE <= _end ? PAGE : (size_t)(_end - p);

        if (is_zero(p, n))
            continue;
        memcpy(sim->image + sim->image_len, &p, sizeof(p));
        memcpy(sim->image + sim->image_len + sizeof(p), p, n);
        sim->image_len += sizeof(p) + PAGE;
    }
}

void sim_world_drop(void)
{
    size_t head = (size_t)(bss_pages() - __data_start),
           pages = (size_t)(_end - bss_pages());
    struct sim *const s = sim;

    if (_end > bss_pages() &&
        madvise(bss_pages(), pages & ~(size_t)(PAGE - 1), MADV_DONTNEED))
        abort();
    if (_end > bss_pages() && pages % PAGE)
        memset(bss_pages() + (pages & ~(size_t)(PAGE - 1)), 0, pages % PAGE);
    memcpy(__data_start, s->image, head);
    for (size_t i = head; i < s->image_len; i += sizeof(char *) + PAGE) {
        char *p;

        memcpy(&p, s->image + i, sizeof(p));
        memcpy(p, s->image + i + sizeof(p), p + PAGE <= _end ? PAGE : (size_t)(_end - p));
    }
    s->arena_at = s->arena;
    memset(s->free_lists, 0, sizeof(s->free_lists));
    s->inside = false;
}

/* ---- once
 * ----------------------------------------------------------------------------------- */

static void *map(void *where, size_t n)
{
    void *p = mmap(where, n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
                       (where ? MAP_FIXED_NOREPLACE : 0),
                   -1, 0);

    if (p == MAP_FAILED) {
        perror("exj_sim: mmap");
        abort();
    }
    return p;
}

void sim_world_open(void)
{
    static const sqlite3_mem_methods memory = { lite_malloc,   lite_free,  lite_realloc,
                                                lite_size,     lite_round, lite_init,
                                                lite_shutdown, NULL };
    struct sim *s = map(NULL, sizeof(*s));

    sim = s;
    /* At the same address in every run: nobody may depend on it, but a run that does is
     * to be the same again. */
    s->arena = map((void *)0x100000000000, ARENA_BYTES);
    s->arena_at = s->arena;
    s->arena_end = s->arena + ARENA_BYTES;
    s->stacks = map((void *)0x200000000000, (size_t)SIM_FIBERS * SIM_STACK_BYTES);
    for (unsigned i = 0; i < SIM_FIBERS; i++) /* the lowest page of each: to fall on */
        mprotect(s->stacks + (size_t)i * SIM_STACK_BYTES, PAGE, PROT_NONE);
    s->mono_ns = WALL_START_NS; /* until a seed begins */
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    json_object_seed(4711);
    if (sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) ||
        sqlite3_config(SQLITE_CONFIG_MALLOC, &memory) ||
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) || sqlite3_initialize()) {
        fprintf(stderr, "exj_sim: SQLite cannot be set up\n");
        abort();
    }
    sim_disk_register();
}
