/* core/host/cage.c - see cage.h. The order matters: Landlock and seccomp can be had without
 * privileges only after no_new_privs, and seccomp forbids what the others need. */
#include "core/host/cage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/capability.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define THREADS_OF_USER 16384u
#define CPU_SECONDS 3600u

/* Lower a limit; one that is lower already stays. */
static bool limit(int what, rlim_t value)
{
    struct rlimit l;

    if (getrlimit((__rlimit_resource_t)what, &l) < 0)
        return false;
    if (l.rlim_max == RLIM_INFINITY || l.rlim_max > value)
        l.rlim_max = value;
    l.rlim_cur = l.rlim_max;
    return setrlimit((__rlimit_resource_t)what, &l) == 0;
}

static bool set_limits(const exj_cage *c)
{
    bool good = limit(RLIMIT_CORE, 1); /* 0 would still start a program that takes cores */

    good &= limit(RLIMIT_NOFILE, c->sandbox ? 64 : 256);
    /* of the user, not of the process, and not for root: seccomp forbids processes */
    limit(RLIMIT_NPROC, THREADS_OF_USER);
    /* a sanitizer maps terabytes and uses few of them */
    if (c->memory_mb && !SANITIZED)
        good &= limit(RLIMIT_AS, (rlim_t)c->memory_mb * 1024 * 1024);
    if (c->sandbox) {
        good &= limit(RLIMIT_CPU, CPU_SECONDS);
        if (!c->records)
            good &= limit(RLIMIT_FSIZE, EXJ_WIRE_MAX); /* 0 would forbid the memfds of the wire */
    }
    return good;
}

/* ---- capabilities ----------------------------------------------------------------------- */

/* What root is refused by seccomp, or has no use for. With the first two gone neither our own
 * mounts nor those of another process can be got at. And with any that the worker keeps gone,
 * its memory is closed to us, Landlock or not: what /proc says of a process with more
 * capabilities than ours is not for us. */
static bool drop_capabilities(void)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    uint32_t gone = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE | 1u << CAP_SYS_CHROOT |
                    1u << CAP_MKNOD | 1u << CAP_SYS_MODULE | 1u << CAP_SYS_RAWIO |
                    1u << CAP_SYS_BOOT | 1u << CAP_SYS_TIME;

    if (syscall(SYS_capget, &head, data) < 0)
        return false;
    data[0].effective &= ~gone;
    data[0].permitted &= ~gone;
    data[0].inheritable &= ~gone;
    return syscall(SYS_capset, &head, data) == 0;
}

/* ---- without Landlock ------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t n = strlen(text);
    bool good = fd >= 0 && write(fd, text, n) == (ssize_t)n;

    if (fd >= 0)
        close(fd);
    return good;
}

static bool own_mounts(void)
{
    char map[64];
    unsigned uid = geteuid(), gid = getegid();

    if (unshare(CLONE_NEWNS) == 0)
        return true;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    snprintf(map, sizeof map, "%u %u 1", uid, uid);
    if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", map))
        return false;
    snprintf(map, sizeof map, "%u %u 1", gid, gid);
    return write_file("/proc/self/gid_map", map);
}

/* In a chroot "/" is no mount point: nothing can be said about it, and what is mounted beneath
 * it might be seen outside. So the whole tree is bound once more, onto /proc, which is a mount
 * point everywhere, and that becomes the root. */
static bool move_into_own_root(void)
{
    char *here = realpath(".", NULL);
    bool good = false;

    if (mount(NULL, "/proc", NULL, MS_SLAVE, NULL) < 0 ||
        mount("/", "/proc", NULL, MS_BIND | MS_REC, NULL) < 0)
        goto out;
    good = mount(NULL, "/proc", NULL, MS_REC | MS_SLAVE, NULL) == 0 && chroot("/proc") == 0;
    if (!good)
        umount2("/proc", MNT_DETACH);
    else if (chdir("/") < 0 || (here && chdir(here) < 0)) /* the old one has no cover */
        good = chdir("/") == 0;
out:
    free(here);
    return good;
}

/* What is mounted from here on is seen by nobody else. */
static bool keep_mounts_to_ourselves(void)
{
    return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 ||
           (errno == EINVAL && move_into_own_root());
}

/* Bind what `copy` was, open as `fd`, to its old name in the now empty folder. */
static bool put_back(const char *hidden, const char *copy, int fd)
{
    size_t n = strlen(hidden);
    char *path = strdup(copy), from[40];
    bool good = path != NULL;
    int made;

    for (char *p = good ? path + n + 1 : NULL; good && (p = strchr(p, '/')); p++) {
        *p = 0;
        good = mkdir(path, 0755) == 0 || errno == EEXIST;
        *p = '/';
    }
    made = good ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    good = made >= 0 && mount(from, path, NULL, MS_BIND, NULL) == 0;
    if (made >= 0)
        close(made);
    free(path);
    return good;
}

/* The working folder must not lie beneath the cover: names that begin there would pass it. */
static bool leave(const char *hidden, size_t n)
{
    char *here = realpath(".", NULL);
    bool inside = !here || (strncmp(here, hidden, n) == 0 && (here[n] == '/' || here[n] == 0));

    free(here);
    return !inside || chdir("/") == 0;
}

bool exj_mounts_close(const exj_cage *c)
{
    char *hidden = realpath(c->hidden, NULL), *copy = realpath(c->copy, NULL);
    bool good = hidden && copy && strcmp(hidden, "/") != 0, covered = false;
    size_t n = good ? strlen(hidden) : 0;
    int fd = -1;

    good = good && own_mounts() && keep_mounts_to_ourselves();
    good = good && leave(hidden, n);
    if (good) /* in the new namespace: what was opened in the old one cannot be bound */
        fd = open(copy, O_PATH | O_CLOEXEC);
    good = good && fd >= 0 &&
           mount("none", hidden, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k") == 0;
    covered = good;
    if (good && strncmp(copy, hidden, n) == 0 && copy[n] == '/')
        good = put_back(hidden, copy, fd);
    good = good &&
           mount(NULL, hidden, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV,
                 "mode=755,size=64k") == 0 &&
           drop_capabilities();
    if (covered && !good) /* without its copy the plugin cannot be loaded */
        umount2(hidden, MNT_DETACH);
    if (fd >= 0)
        close(fd);
    free(hidden);
    free(copy);
    return good;
}

/* ---- before ----------------------------------------------------------------------------- */

void exj_cage_begin(int last_fd)
{
    struct rlimit no_core = { 1, 1 }; /* no file has one byte, and no program gets it either */
    struct sigaction usual = { .sa_handler = SIG_DFL };
    sigset_t none;
    int fd;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* who died before it closed the socket: we see that */
    umask(077);
    for (int sig = 1; sig < 65; sig++)
        sigaction(sig, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    close_range((unsigned)last_fd + 1, ~0u, 0);
    setrlimit(RLIMIT_CORE, &no_core);
    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "1000", 4) < 0)
            (void)0; /* then the kernel chooses by size */
        close(fd);
    }
}

/* ---- together --------------------------------------------------------------------------- */

uint32_t exj_cage_close(const exj_cage *c)
{
    /* for tests, and for a kernel where one of them is not to be trusted */
    bool landlock = !getenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK");
    bool mounts = c->hidden && !getenv("EXELLIX_PLUGIN_HOST_NO_MOUNTS");
    uint32_t reached = 0;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        reached |= EXJ_CAGE_NO_NEW_PRIVS;
    /* Landlock knows nothing of connect(2): the worker's own socket lies in the folder, and
     * asks who may open it for no key. It also cannot take one folder away without taking from
     * its parents. The sandbox has no sockets, and no parents that matter. */
    if (mounts && !c->sandbox && exj_mounts_close(c))
        reached |= EXJ_CAGE_MOUNT;
    if (landlock && exj_landlock_close(c, reached & EXJ_CAGE_MOUNT))
        reached |= EXJ_CAGE_LANDLOCK;
    else if (mounts && c->sandbox && exj_mounts_close(c))
        reached |= EXJ_CAGE_MOUNT;
    drop_capabilities();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of who we are may have taken it away */
    if (set_limits(c))
        reached |= EXJ_CAGE_LIMITS;
    if (exj_seccomp_close(c, !(reached & EXJ_CAGE_LANDLOCK)))
        reached |= EXJ_CAGE_SECCOMP;
    return reached;
}
