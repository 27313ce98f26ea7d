/* tests/support/wall_clock.h - a program under a wall clock that the test sets: it starts at an
 * instant of the test's choice, goes on by itself, and jumps when it is set anew. The library
 * that does it is <build>/tests/preload/wall-clock.so (docs/testing.md).
 *
 * Threads: one. */
#ifndef EXJ_TESTS_WALL_CLOCK_H
#define EXJ_TESTS_WALL_CLOCK_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/support.h"

#define WALL_CLOCK_LIBRARY EXJ_BINARY_DIR "/tests/preload/wall-clock.so"

struct wall_clock {
    char path[300];
    volatile int64_t *offset; /* nanoseconds */
};

static inline int64_t wall_of(const char *text) /* "2026-03-29T01:00:00Z" */
{
    struct tm tm = { 0 };

    cr_assert(strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm), "%s", text);
    return (int64_t)timegm(&tm) * 1000;
}

/* From now on it is `text` for every program that is told of the clock. A daemon that waits
 * sees it when it next looks at its clock: exj_daemon_call POST /v1/workers/resume makes it. */
static inline void wall_set(struct wall_clock *w, const char *text)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *w->offset = (wall_of(text) - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000)) * 1000000;
}

static inline void wall_forward(struct wall_clock *w, int64_t ms)
{
    *w->offset += ms * 1000000;
}

/* The file of the clock, in `t`. */
static inline void wall_open(struct wall_clock *w, const exj_tmp *t, const char *text)
{
    const char *options = getenv("ASAN_OPTIONS");
    char with[600];
    int fd;

    snprintf(w->path, sizeof(w->path), "%s", exj_tmp_path(t, "clock"));
    fd = open(w->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && ftruncate(fd, 8) == 0);
    w->offset = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(w->offset != MAP_FAILED);
    close(fd);
    wall_set(w, text);
    /* A sanitizer wants to come first, and does not need to. */
    if (!options || !strstr(options, "verify_asan_link_order")) {
        snprintf(with, sizeof(with), "%s%sverify_asan_link_order=0", options ? options : "",
                 options ? ":" : "");
        setenv("ASAN_OPTIONS", with, 1);
    }
}

#endif /* EXJ_TESTS_WALL_CLOCK_H */
