/* core/store/sqlite/lock.c - one holder of a data directory at a time.
 *
 * The lock belongs to the open file (F_OFD_SETLK), so it ends with its holder whatever
 * happens, a second opening in the same process is refused too, and looking at it
 * (F_OFD_GETLK) never takes it. The file's content is the holder's note.
 */
#include "core/store/sqlite/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NOTE_BYTES 512

static char *lock_path(const char *dir)
{
    char *path = NULL;

    return asprintf(&path, "%s/" EXJ_SQLITE_LOCK, dir) < 0 ? NULL : path;
}

static size_t read_note(int fd, char ret[NOTE_BYTES])
{
    ssize_t n = pread(fd, ret, NOTE_BYTES - 1, 0);
    size_t len = n > 0 ? (size_t)n : 0;

    while (len && (ret[len - 1] == '\n' || ret[len - 1] == '\0'))
        len--;
    ret[len] = '\0';
    return len;
}

exj_code exj_sqlite_lock(const char *dir, const char *note, int *ret_fd, exj_err *err)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char *path = lock_path(dir);
    char held_by[NOTE_BYTES];
    size_t n = strlen(note);
    int fd = -1;
    exj_code rc = EXJ_OK;

    if (!path) {
        rc = exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", dir);
        goto out;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        rc = exj_err_set(err, EXJ_IO, "store: cannot open %s: %s", path, strerror(errno));
        goto out;
    }
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
        if (errno != EAGAIN && errno != EACCES) {
            rc = exj_err_set(err, EXJ_IO, "store: cannot lock %s: %s", path,
                             strerror(errno));
        } else {
            n = read_note(fd, held_by);
            rc = exj_err_set(err, EXJ_BUSY, "store %s is held by %s", dir,
                             n ? held_by : "somebody who left no note");
        }
        goto out;
    }
    if (ftruncate(fd, 0) < 0 || pwrite(fd, note, n, 0) != (ssize_t)n) {
        rc = exj_err_set(err, EXJ_IO, "store: cannot write %s: %s", path,
                         strerror(errno));
        goto out;
    }
    *ret_fd = fd;
    fd = -1;
out:
    if (fd >= 0)
        close(fd);
    free(path);
    return rc;
}

void exj_sqlite_unlock(int fd)
{
    if (fd < 0)
        return;
    /* An empty note is only tidier: who holds it is said by the lock. */
    if (ftruncate(fd, 0) < 0)
        errno = 0;
    close(fd);
}

exj_code exj_sqlite_holder(const char *dir, exj_buf *ret_note, exj_err *err)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char *path = lock_path(dir);
    char note[NOTE_BYTES];
    size_t n;
    int fd = -1;
    exj_code rc = EXJ_OK;

    if (!path) {
        rc = exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", dir);
        goto out;
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && (errno == EACCES || errno == EROFS)) {
        whole.l_type = F_RDLCK; /* a reader's descriptor may only ask for this one */
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        rc = errno == ENOENT || errno == ENOTDIR
                 ? exj_err_set(err, EXJ_NOT_FOUND, "nobody holds the store %s", dir)
                 : exj_err_set(err, EXJ_IO, "store: cannot open %s: %s", path,
                               strerror(errno));
        goto out;
    }
    if (fcntl(fd, F_OFD_GETLK, &whole) < 0) {
        rc = exj_err_set(err, EXJ_IO, "store: cannot look at %s: %s", path,
                         strerror(errno));
        goto out;
    }
    if (whole.l_type == F_UNLCK) {
        rc = exj_err_set(err, EXJ_NOT_FOUND, "nobody holds the store %s", dir);
        goto out;
    }
    n = read_note(fd, note);
    if (!exj_buf_add(ret_note, note, n))
        rc = exj_err_set(err, EXJ_NOMEM, "store %s: out of memory", dir);
out:
    if (fd >= 0)
        close(fd);
    free(path);
    return rc;
}
