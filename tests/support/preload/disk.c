/* A disk that fails when a test says so, for a program that knows nothing of it (LD_PRELOAD).
 * The file named by EXJ_TEST_DISK holds two int64: 0, or the errno (ENOSPC, EIO) with which
 * writes and syncs of files below EXJ_TEST_DISK_UNDER fail; and how many did. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static _Atomic int64_t *control;
static const char *under;

__attribute__((constructor)) static void find_control(void)
{
    const char *path = getenv("EXJ_TEST_DISK");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at;

    under = getenv("EXJ_TEST_DISK_UNDER");
    if (fd < 0 || !under)
        return;
    at = mmap(NULL, 2 * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        control = at;
}

static bool fails(int fd)
{
    char link[40], path[1000];
    ssize_t n;
    int error = control ? (int)atomic_load(control) : 0;

    if (!error)
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    if (n <= 0)
        return false;
    path[n] = '\0';
    if (strncmp(path, under, strlen(under)) != 0)
        return false;
    atomic_fetch_add(control + 1, 1);
    errno = error;
    return true;
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define CALL(result, name, params, args)                   \
    EXPORT result name params                              \
    {                                                      \
        static result (*real) params;                      \
                                                           \
        if (!real) {                                       \
            void *found = next(#name);                     \
                                                           \
            __builtin_memcpy(&real, &found, sizeof(real)); \
        }                                                  \
        if (fails(fd))                                     \
            return -1;                                     \
        return real args;                                  \
    }

CALL(ssize_t, pwrite64, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
CALL(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
CALL(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
CALL(int, fsync, (int fd), (fd))
CALL(int, fdatasync, (int fd), (fd))
