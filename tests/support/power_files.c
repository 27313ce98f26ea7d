#include "tests/support/power_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/support.h"

#define FDS 1024
#define PATH_BYTES 512

enum change { MADE, RENAMED, DELETED, FOLDER, WRITTEN };

/* Something that a loss of power may take back. */
struct pending {
    enum change what;
    char path[PATH_BYTES]; /* as it is called now */
    char was[PATH_BYTES];  /* RENAMED: its name before; DELETED: where a copy is */
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static exj_power *disk;
static char root[PATH_BYTES];
static uint64_t state, graves;
static struct pending *todo; /* in the order in which it was done */
static size_t todo_len, todo_cap;
static char *names[FDS]; /* of open files below root; owned */

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
ssize_t __real_write(int fd, const void *p, size_t n);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);

static bool is_ours(const char *path)
{
    size_t n = strlen(root);

    return n && strncmp(path, root, n) == 0 && (!path[n] || path[n] == '/');
}

/* The power goes at this change, or has gone. */
static bool refuse(bool sync)
{
    if (exj_power_change(disk, sync))
        return false;
    errno = EIO;
    return true;
}

static void note(enum change what, const char *path, const char *was)
{
    struct pending *p;

    if (todo_len == todo_cap) {
        todo_cap = todo_cap ? todo_cap * 2 : 64;
        todo = realloc(todo, todo_cap * sizeof(*todo));
        if (!todo)
            abort();
    }
    p = &todo[todo_len++];
    p->what = what;
    snprintf(p->path, sizeof(p->path), "%s", path);
    snprintf(p->was, sizeof(p->was), "%s", was ? was : "");
}

/* Is `path` a name in `folder`? */
static bool is_in(const char *folder, const char *path)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

/* A folder is synced with the names in it, or the content of a file. */
static void settle(const char *synced)
{
    char path[PATH_BYTES];
    size_t kept = 0, n;

    snprintf(path, sizeof(path), "%s", synced);
    n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, "/..") == 0) { /* the folder above */
        path[n - 3] = '\0';
        *strrchr(path, '/') = '\0';
    }

    for (size_t i = 0; i < todo_len; i++) {
        bool done = todo[i].what == WRITTEN ? strcmp(todo[i].path, path) == 0
                                            : is_in(path, todo[i].path);

        if (done && todo[i].what == DELETED)
            __real_unlink(todo[i].was);
        if (!done)
            todo[kept++] = todo[i];
    }
    todo_len = kept;
}

/* ---- calls
 * ------------------------------------------------------------------------------- */

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;
    int fd;

    if (flags & O_CREAT) {
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (!is_ours(path))
        return __real_open(path, flags, mode);
    pthread_mutex_lock(&mu);
    if (flags & O_CREAT ? refuse(false) : exj_power_is_off(disk)) {
        errno = EIO;
        fd = -1;
    } else {
        fd = __real_open(path, flags, mode);
    }
    if (fd >= FDS)
        abort();
    if (fd >= 0) {
        free(names[fd]);
        names[fd] = strdup(path);
        if (flags & O_CREAT)
            note(MADE, path, NULL);
    }
    pthread_mutex_unlock(&mu);
    return fd;
}

static bool is_watched(int fd)
{
    bool yes;

    pthread_mutex_lock(&mu);
    yes = fd >= 0 && fd < FDS && names[fd];
    pthread_mutex_unlock(&mu);
    return yes;
}

int __wrap_close(int fd)
{
    pthread_mutex_lock(&mu);
    if (fd >= 0 && fd < FDS) {
        free(names[fd]);
        names[fd] = NULL;
    }
    pthread_mutex_unlock(&mu);
    return __real_close(fd);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    ssize_t done = -1;

    if (!is_watched(fd))
        return __real_write(fd, p, n);
    pthread_mutex_lock(&mu);
    if (!refuse(false)) {
        note(WRITTEN, names[fd], NULL);
        /* A write may be short at any time. */
        done =
            __real_write(fd, p, n > 512 && exj_test_random(&state) % 4 == 0 ? n / 2 : n);
    }
    pthread_mutex_unlock(&mu);
    return done;
}

int __wrap_fsync(int fd)
{
    int rc = -1;

    if (!is_watched(fd))
        return __real_fsync(fd);
    pthread_mutex_lock(&mu);
    if (!refuse(true)) { /* nothing has to be on a real disk */
        settle(names[fd]);
        rc = 0;
    }
    pthread_mutex_unlock(&mu);
    return rc;
}

int __wrap_rename(const char *from, const char *to)
{
    int rc = -1;

    if (!is_ours(from))
        return __real_rename(from, to);
    pthread_mutex_lock(&mu);
    if (!refuse(false))
        rc = __real_rename(from, to);
    if (rc == 0) {
        for (size_t i = 0; i < todo_len; i++)
            if (todo[i].what == WRITTEN && strcmp(todo[i].path, from) == 0)
                snprintf(todo[i].path, sizeof(todo[i].path), "%s", to);
        note(RENAMED, to, from);
    }
    pthread_mutex_unlock(&mu);
    return rc;
}

int __wrap_unlink(const char *path)
{
    char grave[PATH_BYTES];
    int rc = -1;

    if (!is_ours(path))
        return __real_unlink(path);
    pthread_mutex_lock(&mu);
    snprintf(grave, sizeof(grave), "%.400s.grave-%llu", root,
             (unsigned long long)graves++);
    if (!refuse(false))
        rc = __real_rename(path, grave);
    if (rc == 0)
        note(DELETED, path, grave);
    pthread_mutex_unlock(&mu);
    return rc;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    int rc = -1;

    if (!is_ours(path))
        return __real_mkdir(path, mode);
    pthread_mutex_lock(&mu);
    if (!refuse(false))
        rc = __real_mkdir(path, mode);
    if (rc == 0)
        note(FOLDER, path, NULL);
    pthread_mutex_unlock(&mu);
    return rc;
}

/* ---- the cut
 * ------------------------------------------------------------------------------ */

static void remove_all(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char below[PATH_BYTES];

    while (d && (e = readdir(d)) != NULL) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
        remove_all(below);
    }
    if (d)
        closedir(d);
    remove(path);
}

/* Cut short, or some of it zeroes. */
static void tear(const char *path)
{
    struct stat st;
    int fd = __real_open(path, O_WRONLY);
    off_t at;

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        at = (off_t)(exj_test_random(&state) % (uint64_t)st.st_size);
        if (ftruncate(fd, at) == 0 && exj_test_random(&state) % 2)
            at = ftruncate(fd, st.st_size);
    }
    __real_close(fd);
}

static void take_back(const struct pending *p)
{
    switch (p->what) {
    case MADE:
        __real_unlink(p->path);
        break;
    case RENAMED:
        __real_rename(p->path, p->was);
        break;
    case DELETED:
        __real_rename(p->was, p->path);
        break;
    case FOLDER:
        remove_all(p->path);
        break;
    case WRITTEN:
        tear(p->path);
        break;
    }
}

uint64_t exj_files_on(void)
{
    uint64_t n = 0;
    unsigned keep;

    pthread_mutex_lock(&mu);
    keep = (unsigned)(exj_test_random(&state) % 3) * 50;
    /* Contents first: they are found by the names that they have now. */
    for (size_t i = 0; i < todo_len; i++)
        if (todo[i].what == WRITTEN && exj_test_random(&state) % 100 >= keep && ++n)
            take_back(&todo[i]);
    for (size_t i = todo_len; i-- > 0;)
        if (todo[i].what != WRITTEN && exj_test_random(&state) % 100 >= keep && ++n)
            take_back(&todo[i]);
        else if (todo[i].what == DELETED)
            __real_unlink(todo[i].was);
    todo_len = 0;
    pthread_mutex_unlock(&mu);
    return n;
}

void exj_files_watch(exj_power *p, const char *path, uint64_t seed)
{
    pthread_mutex_lock(&mu);
    disk = p;
    state = seed;
    snprintf(root, sizeof(root), "%s", path ? path : "");
    if (!path) {
        free(todo);
        todo = NULL;
        todo_len = todo_cap = 0;
    }
    pthread_mutex_unlock(&mu);
}
