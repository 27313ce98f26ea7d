#include "tests/support/support.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/inside.h"

#define TMPS_MAX 64

static char tmps[TMPS_MAX][200];
static pid_t tmps_owner; /* a fork inherits the list but not the duty */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    (void)remove(path); /* what cannot be removed must not keep the rest */
    return 0;
}

void exj_support_remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void exj_support_clean(void)
{
    exj_support_kill_all();
    if (tmps_owner != getpid())
        return;
    for (int i = 0; i < TMPS_MAX; i++) {
        if (tmps[i][0])
            exj_support_remove_tree(tmps[i]);
        tmps[i][0] = '\0';
    }
}

void exj_tmp_make(exj_tmp *ret)
{
    const char *base = getenv("TMPDIR");
    int free_slot = -1;

    if (tmps_owner != getpid()) {
        memset(tmps, 0, sizeof(tmps));
        tmps_owner = getpid();
        atexit(exj_support_clean);
    }
    for (int i = 0; i < TMPS_MAX && free_slot < 0; i++)
        if (!tmps[i][0])
            free_slot = i;
    if (free_slot < 0)
        exj_support_die("too many temporary folders");
    snprintf(ret->path, sizeof(ret->path), "%s/exj-test-XXXXXX",
             base && *base && strlen(base) < 100 ? base : "/tmp");
    if (!mkdtemp(ret->path))
        exj_support_die("mkdtemp %s", ret->path);
    memcpy(tmps[free_slot], ret->path, sizeof(ret->path));
}

void exj_support_forget_tmp(const exj_tmp *t)
{
    for (int i = 0; i < TMPS_MAX; i++)
        if (strcmp(tmps[i], t->path) == 0)
            tmps[i][0] = '\0';
}

const char *exj_tmp_path(const exj_tmp *t, const char *name)
{
    static char ring[8][512];
    static unsigned at;
    char *p = ring[at++ % 8];

    snprintf(p, sizeof(ring[0]), "%s/%s", t->path, name);
    return p;
}

void exj_spit(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        exj_support_die("writing %s", path);
}

char *exj_slurp(const char *path, size_t *ret_n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0, cap = 4096;
    char *p = malloc(cap);

    if (!p)
        exj_support_die("out of memory");
    while (fd >= 0) {
        ssize_t got = read(fd, p + n, cap - n - 1);

        if (got <= 0)
            break;
        n += (size_t)got;
        if (n + 1 == cap) {
            char *more = realloc(p, cap *= 2);

            if (!more)
                exj_support_die("out of memory");
            p = more;
        }
    }
    if (fd >= 0)
        close(fd);
    p[n] = '\0';
    if (ret_n)
        *ret_n = n;
    return p;
}

int64_t exj_test_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t exj_test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t exj_test_seed(const char *of)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t seed = 0;

    if (given && *given)
        seed = strtoull(given, NULL, 10);
    else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        exj_support_die("getrandom");
    fprintf(stderr, "%s: EXJ_TEST_SEED=%" PRIu64 "\n", of, seed);
    return seed;
}

bool exj_until(bool (*is)(void *user), void *user, int fd, unsigned step_ms, unsigned ms)
{
    int64_t end = exj_test_now_ms() + (int64_t)ms;

    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        struct timespec step = { .tv_sec = step_ms / 1000,
                                 .tv_nsec = (long)(step_ms % 1000) * 1000000L };

        if (is(user))
            return true;
        if (exj_test_now_ms() >= end)
            return false;
        /* the end of a program is final: ask once more, then give up waiting on it */
        if (ppoll(&p, 1, &step, NULL) > 0)
            fd = -1;
    }
}
