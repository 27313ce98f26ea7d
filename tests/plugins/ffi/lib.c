/* tests/plugins/ffi/lib.c - a library as somebody else would write it: one function for every
 * way a manifest can describe a parameter or a result. It knows nothing of exellix. */
#include "tests/plugins/ffi/lib.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int ft_data = 7;

#define ECHO(T, name)                                                                     \
    T name(T a)                                                                           \
    {                                                                                     \
        return a;                                                                         \
    }
ECHO(bool, ft_bool)
ECHO(int8_t, ft_i8)
ECHO(uint8_t, ft_u8)
ECHO(int16_t, ft_i16)
ECHO(uint16_t, ft_u16)
ECHO(int32_t, ft_i32)
ECHO(uint32_t, ft_u32)
ECHO(int64_t, ft_i64)
ECHO(uint64_t, ft_u64)
ECHO(float, ft_f32)
ECHO(double, ft_f64)
ECHO(enum ft_mode, ft_mode)

int8_t ft_negate(int8_t a)
{
    return (int8_t)-a;
}

/* Arguments of every width in one call: some in registers, some on the stack. */
double ft_mix(int8_t a, uint16_t b, float c, int64_t d, double e, bool f, uint32_t g, int16_t h,
              uint8_t i, int32_t j)
{
    return a + b + (double)c + (double)d + e + f + g + h + i + j;
}

size_t ft_strlen(const char *s)
{
    return s ? strlen(s) : 999;
}

uint64_t ft_sum(const unsigned char *p, size_t n)
{
    uint64_t sum = 0;

    for (size_t k = 0; k < n; k++)
        sum += p[k];
    return sum;
}

uint64_t ft_sum_short(const unsigned char *p, uint8_t n)
{
    return ft_sum(p, n);
}

double ft_norm(struct ft_point p)
{
    return sqrt(p.x * p.x + p.y * p.y) * p.weight;
}

struct ft_point ft_mirror(struct ft_point p)
{
    return (struct ft_point){ .x = p.y, .y = p.x, .weight = (int8_t)-p.weight, .mode = p.mode };
}

double ft_norm_at(const struct ft_point *p)
{
    return p ? ft_norm(*p) : -1;
}

void ft_scale(struct ft_point *p, double by)
{
    p->x *= by;
    p->y *= by;
}

struct ft_small ft_small(int8_t a, int16_t b)
{
    return (struct ft_small){ a, b };
}

int ft_divide(int a, int b, int *quotient, int *rest)
{
    if (b == 0) {
        errno = EDOM;
        return -1;
    }
    *quotient = a / b;
    *rest = a % b;
    return 0;
}

int ft_add_to(int64_t *sum, int32_t by)
{
    *sum += by;
    return 0;
}

int ft_describe(const char *text, char *to, size_t *n)
{
    size_t need = strlen(text);

    if (need > *n) {
        *n = need;
        errno = ERANGE;
        return -1;
    }
    memcpy(to, text, need);
    *n = need;
    return 0;
}

int ft_lies(char *to, size_t *n)
{
    to[0] = 'x';
    *n += 100;
    return 0;
}

void ft_overrun(char *to, size_t n)
{
    memset(to, 'x', n + 4);
}

void ft_fill(char *to, size_t n)
{
    memset(to, 'x', n);
}

int ft_copy(char *to, size_t cap, const char *from)
{
    if (strlen(from) + 1 > cap)
        return -1;
    strcpy(to, from);
    return (int)strlen(from);
}

ssize_t ft_read(void *to, size_t cap, int n)
{
    if (n < 0) {
        errno = EAGAIN;
        return -1;
    }
    for (size_t k = 0; k < cap && k < (size_t)n; k++)
        ((unsigned char *)to)[k] = (unsigned char)k;
    return n;
}

static char name[64];

const char *ft_static_name(int which)
{
    if (which < 0)
        return NULL;
    strcpy(name, which == 9 ? "\xff\xfe" : "static name");
    return name;
}

char *ft_new_text(const char *from)
{
    char *s = malloc(strlen(from) + 3);

    ft_alive++;
    strcpy(s, "<");
    strcat(s, from);
    return strcat(s, ">");
}

void ft_free(void *p)
{
    if (p)
        ft_alive--;
    free(p);
}

int ft_alive;

int ft_alive_now(void)
{
    return ft_alive;
}

unsigned char *ft_new_bytes(uint32_t n, uint32_t *len)
{
    unsigned char *p = malloc(n ? n : 1);

    for (uint32_t k = 0; k < n; k++)
        p[k] = (unsigned char)(255 - k);
    ft_alive++;
    *len = n;
    return p;
}

int ft_complain(const char *what, char **why)
{
    *why = ft_new_text(what);
    return what[0] ? 1 : 0;
}

struct ft_counter {
    int n;
};

int ft_open(int start, struct ft_counter **ret)
{
    if (start < 0)
        return 22;
    *ret = malloc(sizeof **ret);
    (*ret)->n = start;
    ft_alive++;
    return 0;
}

struct ft_counter *ft_make(int start)
{
    struct ft_counter *c = NULL;

    return ft_open(start, &c) == 0 ? c : NULL;
}

int ft_count(struct ft_counter *c, int by)
{
    return c->n += by;
}

struct ft_counter *ft_same(struct ft_counter *c)
{
    return c;
}

void ft_shout(char *s)
{
    for (; *s; s++)
        *s = '!';
}

void ft_close(struct ft_counter *c)
{
    ft_free(c);
}

int ft_end(struct ft_counter *c)
{
    ft_free(c);
    return 0;
}

int ft_set_errno(int e)
{
    errno = e;
    return -1;
}

int64_t ft_sum_all(int n, ...)
{
    int64_t sum = 0;
    va_list ap;

    va_start(ap, n);
    for (int k = 0; k < n; k++)
        sum += va_arg(ap, int64_t);
    va_end(ap);
    return sum;
}

double ft_pick(int which, ...)
{
    va_list ap;
    double d;
    int i;
    const char *s;

    va_start(ap, which);
    i = va_arg(ap, int);
    d = va_arg(ap, double);
    s = va_arg(ap, const char *);
    va_end(ap);
    return which == 0 ? i : which == 1 ? d : (double)strlen(s);
}

double ft_infinite(void)
{
    return (double)INFINITY;
}

enum ft_mode ft_result(int n)
{
    return (enum ft_mode)n;
}

void ft_nothing(void)
{
}

static int inside, most;

/* Two callers at once are seen: each waits for a moment with the door open. */
int ft_alone(void)
{
    int now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST), rc;

    for (volatile int k = 0; k < 20000; k++)
        ;
    if (now > __atomic_load_n(&most, __ATOMIC_SEQ_CST))
        __atomic_store_n(&most, now, __ATOMIC_SEQ_CST);
    rc = __atomic_load_n(&most, __ATOMIC_SEQ_CST);
    __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    return rc;
}

union ft_either {
    int i;
    float f;
};

int ft_union(union ft_either e)
{
    return e.i;
}

long double ft_long(long double a)
{
    return a;
}

int ft_bits(struct ft_bits b)
{
    return (int)b.a + (int)b.b;
}
