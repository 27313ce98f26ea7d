/* A wall clock that a test sets, for a program that knows nothing of it (LD_PRELOAD). The file
 * named by EXJ_TEST_CLOCK holds one int64: nanoseconds that are added to CLOCK_REALTIME. The
 * monotonic clock stays what it is: to the program, somebody sets the clock of the machine. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;

__attribute__((constructor)) static void find_offset(void)
{
    const char *path = getenv("EXJ_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at;

    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        offset = at;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret)
{
    static int (*real)(clockid_t, struct timespec *);
    int64_t ns;
    int rc;

    if (!real) {
        void *found = dlsym(RTLD_NEXT, "clock_gettime");

        __builtin_memcpy(&real, &found, sizeof(real));
    }
    rc = real(clock, ret);
    if (rc != 0 || clock != CLOCK_REALTIME || !offset)
        return rc;
    ns = ret->tv_nsec + *offset % 1000000000;
    ret->tv_sec += *offset / 1000000000 + (ns >= 1000000000) - (ns < 0);
    ret->tv_nsec = ns >= 1000000000 ? ns - 1000000000 : ns < 0 ? ns + 1000000000 : ns;
    return 0;
}
