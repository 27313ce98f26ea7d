/* core/host/landlock.c - which files may be opened.
 *
 * Landlock allows what lies beneath a folder, it cannot take away from that. So "all but one
 * folder" is written as: everything beside it, at each step of the way to it. The folders on
 * the way can be walked through, not listed, and what is made in them later cannot be opened.
 * Where a mount covers the folder already, this is not needed; what stays is that other
 * processes (their /proc/PID/root), abstract sockets, raw disks and settings of the kernel are
 * out of reach.
 */
#include "core/host/cage.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/landlock.h> of Debian 12 is older than most kernels: the numbers are written out. */
#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_MAKE_CHAR (1ull << 6)
#define FS_MAKE_BLOCK (1ull << 11)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_TCP 3ull /* bind, connect */
#define SCOPE_ALL 3ull /* abstract Unix sockets, signals */
#define OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define READING (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define ABI_NOW 6 /* the newest whose rights are known here */
#define BESIDE_MAX 8192u /* entries of one folder that are allowed one by one */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct __attribute__((packed)) beneath_attr {
    uint64_t access;
    int32_t fd;
};

static uint64_t rights_of_abi(int abi)
{
    uint64_t all = (1ull << 13) - 1;

    if (abi >= 2)
        all |= 1ull << 13; /* REFER */
    if (abi >= 3)
        all |= FS_TRUNCATE;
    if (abi >= 5)
        all |= FS_IOCTL_DEV;
    return all;
}

/* Allow `rights` on what `fd` is. */
static bool allow_fd(int rules, int fd, uint64_t rights)
{
    struct beneath_attr b = { .access = rights, .fd = fd };
    struct stat st;

    if (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode) || S_ISBLK(st.st_mode))
        return true; /* a block device may hold the hidden folder: not for plugins */
    if (!S_ISDIR(st.st_mode))
        b.access &= OF_FILES;
    return syscall(SYS_landlock_add_rule, rules, 1 /* path beneath */, &b, 0) == 0;
}

static bool allow(int rules, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    bool good;

    if (fd < 0)
        return true; /* what is not there needs no rule */
    good = allow_fd(rules, fd, rights);
    close(fd);
    return good;
}

/* Is `path` the folder `hidden` (1), on the way to it (2), or neither (0)? */
static int place_of(const char *path, const char *hidden)
{
    size_t n = strlen(path);

    if (!hidden || strncmp(path, hidden, n) != 0)
        return 0;
    return hidden[n] == 0 ? 1 : hidden[n] == '/' ? 2 : 0;
}

/* Allow everything beneath `path` save `hidden`. "" is the root. */
static bool allow_around(int rules, const char *path, const char *hidden, uint64_t rights)
{
    bool good = true, is_root = path[0] == 0, is_dev = strcmp(path, "/dev") == 0;
    unsigned n = 0;
    struct dirent *e;
    DIR *d;

    if (!is_root && place_of(path, hidden) == 1)
        return true;
    if (!is_root && !is_dev && place_of(path, hidden) == 0)
        return allow(rules, path, rights);
    d = opendir(is_root ? "/" : path);
    if (!d)
        return true; /* may not be listed: nothing beneath it is allowed */
    while (good && (e = readdir(d)) && n++ < BESIDE_MAX) {
        char below[PATH_MAX];
        uint64_t of_it = rights;
        int fd;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (snprintf(below, sizeof below, "%s/%s", path, e->d_name) >= (int)sizeof below)
            continue;
        if (is_dev && (strcmp(e->d_name, "mem") == 0 || strcmp(e->d_name, "port") == 0))
            continue;
        if (is_root && (strcmp(e->d_name, "proc") == 0 || strcmp(e->d_name, "sys") == 0))
            of_it &= READING; /* settings of the kernel are not for plugins */
        if (place_of(below, hidden) || (is_root && strcmp(e->d_name, "dev") == 0)) {
            good = allow_around(rules, below, hidden, of_it);
            continue;
        }
        fd = openat(dirfd(d), e->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            continue;
        good = allow_fd(rules, fd, of_it);
        close(fd);
    }
    closedir(d);
    return good;
}

/* The folder's real path, also when its last parts are not there yet. free() it. */
static char *real_path_of(const char *path)
{
    char *copy = strdup(path), *rest, *real, *ret = NULL;
    size_t n = copy ? strlen(copy) : 0;

    if (!copy || copy[0] != '/')
        goto out;
    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = 0;
    real = realpath(copy, NULL);
    if (real) {
        ret = real;
        goto out;
    }
    rest = strrchr(copy, '/');
    if (rest == copy) {
        ret = strdup(copy);
        goto out;
    }
    *rest = 0;
    real = real_path_of(copy);
    if (real && asprintf(&ret, "%s/%s", strcmp(real, "/") ? real : "", rest + 1) < 0)
        ret = NULL;
    free(real);
out:
    free(copy);
    return ret;
}

/* One folder of libraries, if it is one; what the operator names, never what the plugin does. */
static bool allow_folder(int rules, const char *path, const char *hidden)
{
    char *real = *path == '/' ? realpath(path, NULL) : NULL;
    bool good = !real || strcmp(real, "/") == 0 || allow_around(rules, real, hidden, READING);

    free(real);
    return good;
}

/* The folders that /etc/ld.so.conf or a file that it includes names, a line each. */
static bool allow_configured(int rules, const char *path, const char *hidden)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    bool good = true;

    while (good && f && getline(&line, &cap, f) > 0) {
        line[strcspn(line, " \t\r\n#=")] = 0;
        good = allow_folder(rules, line, hidden);
    }
    free(line);
    if (f)
        fclose(f);
    return good;
}

static bool allow_libraries(int rules, const char *hidden)
{
    static const char *const folders[] = { "/usr", "/lib", "/lib64", "/lib32", NULL };
    static const char *const files[] = { "/etc/ld.so.cache", "/etc/ld.so.preload", "/dev/urandom",
                                         "/dev/random", "/dev/zero", "/proc/self", NULL };
    const char *more = getenv("LD_LIBRARY_PATH");
    char *list = strdup(more ? more : ""), *left = list, *one;
    bool good = list != NULL;
    struct dirent *e;
    DIR *d;

    for (size_t k = 0; good && folders[k]; k++)
        good = allow_folder(rules, folders[k], hidden);
    for (size_t k = 0; good && files[k]; k++)
        good = allow(rules, files[k], READING);
    good = good && allow(rules, "/dev/null", FS_READ_FILE | FS_WRITE_FILE);
    while (good && (one = strsep(&left, ":;")))
        good = allow_folder(rules, one, hidden);
    free(list);
    good = good && allow_configured(rules, "/etc/ld.so.conf", hidden);
    d = opendir("/etc/ld.so.conf.d");
    while (good && d && (e = readdir(d))) {
        char path[PATH_MAX];

        if (e->d_name[0] != '.' &&
            snprintf(path, sizeof path, "/etc/ld.so.conf.d/%s", e->d_name) < (int)sizeof path)
            good = allow_configured(rules, path, hidden);
    }
    if (d)
        closedir(d);
    return good;
}

bool exj_landlock_close(const exj_cage *c, bool covered)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* which version? */);
    struct ruleset_attr attr = { 0 };
    size_t bytes = sizeof attr.fs;
    char *hidden = c->hidden ? real_path_of(c->hidden) : NULL;
    bool good = false;
    int rules = -1;

    if (abi < 1 || (c->hidden && (!hidden || strcmp(hidden, "/") == 0)))
        goto out;
    if (abi > ABI_NOW)
        abi = ABI_NOW;
    attr.fs = rights_of_abi((int)abi);
    if (abi >= 4) {
        bytes = 2 * sizeof attr.fs;
        attr.net = c->sandbox ? NET_TCP : 0;
    }
    if (abi >= 6) {
        bytes = sizeof attr;
        attr.scoped = SCOPE_ALL;
    }
    rules = (int)syscall(SYS_landlock_create_ruleset, &attr, bytes, 0);
    if (rules < 0)
        goto out;
    if (c->sandbox)
        good = allow_libraries(rules, hidden);
    else
        good = allow_around(rules, "", covered ? NULL : hidden, attr.fs & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK));
    good = good && (!c->copy || allow(rules, c->copy, FS_READ_FILE | FS_EXECUTE)) &&
           syscall(SYS_landlock_restrict_self, rules, 0) == 0;
out:
    if (rules >= 0)
        close(rules);
    free(hidden);
    return good;
}
