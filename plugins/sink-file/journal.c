#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TORN_MAX (2 * 1024 * 1024) /* no line of ours is longer */
#define PART 65536
#define OPEN_TRIES 10

static bool say(char *why, const char *path, const char *what, int number)
{
    snprintf(why, EXJ_FILE_WHY_BYTES, "%.250s: %s%s%s", path, what, number ? ": " : "",
             number ? strerrordesc_np(number) : "");
    return false;
}

/* A new name, or one that went, is only kept once the folder is. */
static bool sync_folder(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash && slash > path ? (size_t)(slash - path) : 1;
    bool done;
    int fd;

    if (n >= sizeof dir)
        return false;
    memcpy(dir, path, n);
    dir[n] = '\0';
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    done = fsync(fd) == 0;
    close(fd);
    return done;
}

/* ---- opening ---------------------------------------------------------------------------- */

/* After the last '\n' among the last TORN_MAX bytes; -1: there is none there; -2: errno. */
static int64_t last_line_end(int fd, int64_t size)
{
    int64_t at = size, low = size > TORN_MAX ? size - TORN_MAX : 0;
    char part[PART];

    while (at > low) {
        size_t want = at - low < PART ? (size_t)(at - low) : PART;
        ssize_t got = pread(fd, part, want, at - (int64_t)want);

        if (got != (ssize_t)want) {
            if (got >= 0)
                errno = EIO;
            return -2;
        }
        for (size_t k = want; k > 0; k--)
            if (part[k - 1] == '\n')
                return at - (int64_t)want + (int64_t)k;
        at -= (int64_t)want;
    }
    return low == 0 ? 0 : -1;
}

/* Cut off a last line without its end, if it can be ours: a line of a crash. */
static bool cut_torn(int fd, const char *path, int64_t *size, char *why)
{
    char last = '\n', first = '{';
    int64_t end;

    if (*size == 0)
        return true;
    if (pread(fd, &last, 1, *size - 1) != 1)
        return say(why, path, "cannot read its last byte", errno);
    if (last == '\n')
        return true;
    end = last_line_end(fd, *size);
    if (end == -2)
        return say(why, path, "cannot read its last line", errno);
    if (end < 0 || pread(fd, &first, 1, end) != 1 || first != '{')
        return say(why, path, "its last line has no end and is none of ours; name another file",
                   0);
    if (ftruncate(fd, end) != 0)
        return say(why, path, "cannot cut off a half-written last line", errno);
    *size = end;
    return true;
}

/* Opened, ours alone until it is closed, whole. -1: `why`. */
static int open_whole(const exj_file_journal *j, int64_t *ret_size, char *why)
{
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        struct stat here, named;
        int fd = open(j->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                      0600);

        if (fd < 0) {
            say(why, j->path, "cannot open it", errno);
            return -1;
        }
        if (fstat(fd, &here) != 0 || !S_ISREG(here.st_mode)) {
            say(why, j->path, "wanted a regular file", 0);
        } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            say(why, j->path, "somebody else writes to it", errno);
        } else if (stat(j->path, &named) != 0 || named.st_ino != here.st_ino ||
                   named.st_dev != here.st_dev) {
            close(fd); /* set aside by another between open and lock */
            continue;
        } else if (fstat(fd, &here) != 0) {
            say(why, j->path, "cannot ask for its size", errno);
        } else {
            *ret_size = here.st_size;
            if ((*ret_size > 0 || sync_folder(j->path) ||
                 say(why, j->path, "cannot sync its folder", errno)) &&
                cut_torn(fd, j->path, ret_size, why))
                return fd;
        }
        close(fd);
        return -1;
    }
    say(why, j->path, "it is renamed again and again", 0);
    return -1;
}

bool exj_file_journal_look(const exj_file_journal *j, char why[EXJ_FILE_WHY_BYTES])
{
    int64_t size;
    int fd = open_whole(j, &size, why);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* ---- setting aside ----------------------------------------------------------------------- */

static bool name_of(const exj_file_journal *j, unsigned nth, char ret[PATH_MAX])
{
    int n = nth ? snprintf(ret, PATH_MAX, "%s.%u", j->path, nth)
                : snprintf(ret, PATH_MAX, "%s", j->path);

    return n > 0 && n < PATH_MAX;
}

/* NAME becomes NAME.1, and so on. Only up to the first number that is free: after a crash in
 * the middle of this nothing is thrown away before its time. */
static bool set_aside(const exj_file_journal *j, char *why)
{
    char from[PATH_MAX], to[PATH_MAX];
    unsigned free_at = 1;

    for (; free_at < j->keep; free_at++)
        if (!name_of(j, free_at, to))
            return say(why, j->path, "the path is too long", 0);
        else if (access(to, F_OK) != 0)
            break;
    for (unsigned k = free_at; k > 0; k--) {
        if (!name_of(j, k - 1, from) || !name_of(j, k, to))
            return say(why, j->path, "the path is too long", 0);
        if (rename(from, to) != 0)
            return say(why, from, "cannot be renamed", errno);
    }
    return sync_folder(j->path) || say(why, j->path, "cannot sync its folder", errno);
}

/* ---- appending --------------------------------------------------------------------------- */

static bool write_all(int fd, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = write(fd, text + at, n - at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            if (w == 0)
                errno = ENOSPC;
            return false;
        }
        at += (size_t)w;
    }
    return true;
}

bool exj_file_journal_append(const exj_file_journal *j, const char *text, size_t n,
                             char why[EXJ_FILE_WHY_BYTES])
{
    int64_t size = 0;
    int fd = open_whole(j, &size, why);

    if (fd < 0)
        return false;
    if (j->max_bytes && size > 0 && size + (int64_t)n > j->max_bytes) {
        bool aside = set_aside(j, why);

        close(fd);
        fd = aside ? open_whole(j, &size, why) : -1;
        if (fd < 0)
            return false;
    }
    if (!write_all(fd, text, n) || fsync(fd) != 0) {
        say(why, j->path, "cannot be written", errno);
        /* What cannot be cut off now is, as a torn line or a line told twice, no loss. */
        if (ftruncate(fd, size) == 0)
            (void)fsync(fd);
        close(fd);
        return false;
    }
    close(fd);
    return true;
}
