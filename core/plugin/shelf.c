/* core/plugin/shelf.c - the folder, its files and their lock. */
#include "core/plugin/shelf_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/plugin/guest.h"

#define LOCK_TRIES 300 /* of 10 ms: others hold it for the time of a write */

exj_code exj_shelf_no_memory(exj_err *err)
{
    return exj_err_set(err, EXJ_NOMEM, "plugin shelf: out of memory");
}

bool exj_is_sha256(const char *text)
{
    size_t n = 0;

    if (!text)
        return false;
    while (n < 65 && ((text[n] >= '0' && text[n] <= '9') || (text[n] >= 'a' && text[n] <= 'f')))
        n++;
    return n == 64 && text[n] == '\0';
}

exj_code exj_shelf_check_sha(const char *sha256, exj_err *err)
{
    if (exj_is_sha256(sha256))
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID, "'%.80s' is no SHA-256: wanted 64 digits of 0-9 and a-f",
                       sha256 ? sha256 : "");
}

exj_code exj_shelf_check_id(const char *id, exj_err *err)
{
    size_t n = id ? strlen(id) : 0;

    if (n >= 1 && n <= EXJ_SHELF_ID_MAX && exj_utf8_is_valid((exj_slice){ id, n }))
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID, "plugin id '%.80s': wanted 1 to %u bytes of UTF-8",
                       id ? id : "", EXJ_SHELF_ID_MAX);
}

json_t *exj_shelf_text(const char *text, size_t most, bool lines)
{
    exj_buf b = EXJ_BUF_INIT;
    json_t *ret = NULL;

    if (!text)
        text = "";
    while (*text && b.n < most) {
        size_t n = lines ? strcspn(text, "\n") : strlen(text);
        size_t room = n < most - b.n ? n : most - b.n;

        if (!exj_buf_reserve(&b, room + 2))
            break;
        b.n += exj_clean_text(text, n, b.p + b.n, room + 1);
        text += n;
        if (*text == '\n') {
            exj_buf_add_char(&b, '\n');
            text++;
        }
    }
    if (!b.failed)
        ret = json_stringn(b.p ? b.p : "", b.n);
    exj_buf_release(&b);
    return ret;
}

/* ---- files -------------------------------------------------------------------------------- */

exj_code exj_shelf_read_fd(int fd, const char *shown, size_t most, exj_buf *b, exj_err *err)
{
    off_t at = 0;

    for (;;) {
        ssize_t n;

        if (!exj_buf_reserve(b, 64 * 1024))
            return exj_shelf_no_memory(err);
        n = pread(fd, b->p + b->n, 64 * 1024 - 1, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return exj_err_set(err, EXJ_IO, "%s: read: %s", shown, strerror(errno));
        if (n == 0)
            return EXJ_OK;
        b->n += (size_t)n;
        b->p[b->n] = '\0';
        at += n;
        if (b->n > most)
            return exj_err_set(err, EXJ_INVALID, "%s: more than %zu bytes", shown, most);
    }
}

static bool write_all(int fd, exj_slice text)
{
    while (text.n) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text.p += n;
        text.n -= (size_t)n;
    }
    return true;
}

exj_code exj_shelf_replace(const exj_shelf *s, int dir, const char *name, exj_slice text,
                           exj_err *err)
{
    char temp[3 * EXJ_SHELF_ID_MAX + 40];
    exj_code rc = EXJ_OK;
    int fd, was;

    snprintf(temp, sizeof temp, ".%s.new", name); /* one at a time: we hold the lock */
    fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return exj_err_set(err, EXJ_IO, "%s/%s: %s", s->folder, temp, strerror(errno));
    if (!write_all(fd, text) || fsync(fd) < 0 || renameat(dir, temp, dir, name) < 0) {
        was = errno;
        rc = exj_err_set(err, EXJ_IO, "%s/%s: cannot be written: %s; it is as it was", s->folder,
                         name, strerror(was));
        unlinkat(dir, temp, 0);
    } else if (fsync(dir) < 0) {
        rc = exj_err_set(err, EXJ_UNKNOWN, "%s: fsync: %s", s->folder, strerror(errno));
    }
    close(fd);
    return rc;
}

static void drop(exj_shelf_doc *d)
{
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
    json_decref(d->root);
    d->root = NULL;
    free(d->text);
    d->text = NULL;
}

exj_code exj_shelf_undo(exj_shelf *s, exj_shelf_doc *d, exj_err *err)
{
    if (s->folder)
        drop(d);
    return exj_shelf_no_memory(err);
}

static bool is_current(const exj_shelf_doc *d, const struct stat *st)
{
    return d->root && d->fd >= 0 && st->st_dev == d->was.st_dev && st->st_ino == d->was.st_ino &&
           st->st_size == d->was.st_size &&
           memcmp(&st->st_mtim, &d->was.st_mtim, sizeof st->st_mtim) == 0 &&
           memcmp(&st->st_ctim, &d->was.st_ctim, sizeof st->st_ctim) == 0;
}

/* Bring d up to date with the disk. */
exj_code exj_shelf_refresh(exj_shelf *s, exj_shelf_doc *d, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    struct stat st;
    exj_code rc;

    if (!s->folder)
        return d->root ? EXJ_OK : d->parse(d, (exj_slice){ "", 0 }, err);
    if (fstatat(s->dir, d->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return exj_err_set(err, EXJ_IO, "%s/%s: %s", s->folder, d->name, strerror(errno));
        if (d->root && d->fd < 0)
            return EXJ_OK; /* empty, and still not there */
        drop(d);
        return d->parse(d, (exj_slice){ "", 0 }, err);
    }
    if (is_current(d, &st))
        return EXJ_OK;
    drop(d);
    d->fd = openat(s->dir, d->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (d->fd < 0 || fstat(d->fd, &d->was) < 0)
        rc = exj_err_set(err, EXJ_IO, "%s/%s: %s", s->folder, d->name, strerror(errno));
    else if (!S_ISREG(d->was.st_mode) || d->was.st_mode & (S_IWGRP | S_IWOTH))
        rc = exj_err_set(err, EXJ_REFUSED, "%s/%s: wanted a file that nobody else may write to, "
                         "found mode %o; chmod 600 it", s->folder, d->name,
                         (unsigned)d->was.st_mode & 07777u);
    else
        rc = exj_shelf_read_fd(d->fd, d->name, EXJ_SHELF_FILE_MAX, &b, err);
    if (!rc)
        rc = d->parse(d, (exj_slice){ b.p ? b.p : "", b.n }, err);
    if (rc) {
        exj_err_prefix(err, "%s", s->folder);
        drop(d);
    }
    exj_buf_release(&b);
    return rc;
}

exj_code exj_shelf_save(exj_shelf *s, exj_shelf_doc *d, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc = EXJ_OK;

    if (!s->folder)
        return EXJ_OK;
    if (!d->text) {
        rc = exj_json_print(d->root, false, &b, err);
        if (!rc && !exj_buf_add_char(&b, '\n'))
            rc = exj_shelf_no_memory(err);
    }
    if (!rc)
        rc = exj_shelf_replace(s, s->dir, d->name,
                               d->text ? exj_slice_of(d->text) : exj_buf_slice(&b), err);
    drop(d); /* read anew: what counts is what the disk holds */
    exj_buf_release(&b);
    return rc;
}

exj_code exj_shelf_enter(exj_shelf *s, bool change, exj_shelf_doc *d, exj_err *err)
{
    exj_code rc = EXJ_OK;

    pthread_mutex_lock(&s->mu);
    if (change && s->folder) {
        int tries = 0, n;

        while ((n = flock(s->lock, LOCK_EX | LOCK_NB)) < 0 &&
               (errno == EINTR || (errno == EWOULDBLOCK && tries++ < LOCK_TRIES)))
            poll(NULL, 0, 10);
        if (n < 0) {
            rc = exj_err_set(err, errno == EWOULDBLOCK ? EXJ_BUSY : EXJ_IO,
                             "%s/lock: %s", s->folder,
                             errno == EWOULDBLOCK ? "another process holds it" : strerror(errno));
            pthread_mutex_unlock(&s->mu);
            return rc;
        }
    }
    if (d)
        rc = exj_shelf_refresh(s, d, err);
    if (rc)
        exj_shelf_leave(s, change);
    return rc;
}

void exj_shelf_leave(exj_shelf *s, bool change)
{
    if (change && s->folder)
        flock(s->lock, LOCK_UN);
    pthread_mutex_unlock(&s->mu);
}

/* ---- JSON --------------------------------------------------------------------------------- */

exj_code exj_shelf_parse_root(const exj_shelf_doc *d, exj_slice text, json_t **ret, exj_err *err)
{
    json_t *root = NULL;
    exj_code rc;

    *ret = NULL;
    if (text.n == 0)
        return EXJ_OK;
    rc = exj_json_parse(text, &root, err);
    if (rc) {
        exj_err_prefix(err, "%s", d->name);
        if (rc == EXJ_INVALID) { /* of ours, not of who asks */
            rc = EXJ_CORRUPT;
            if (err)
                err->code = rc;
        }
        return rc;
    }
    if (json_integer_value(json_object_get(root, "version")) != 1) {
        json_decref(root);
        return exj_err_set(err, EXJ_CORRUPT, "%s: wanted \"version\":1; move the file away to "
                           "begin anew", d->name);
    }
    *ret = root;
    return EXJ_OK;
}

exj_code exj_shelf_check_entry(const exj_shelf_doc *d, const char *place, const json_t *o,
                               const char *const *names, const char *types, exj_err *err)
{
    for (size_t k = 0; names[k]; k++) {
        const json_t *v = json_object_get(o, names[k]);

        if (types[k] == 's' ? !json_is_string(v) : !json_is_integer(v))
            return exj_err_set(err, EXJ_CORRUPT, "%s: %s: %s: wanted %s; move the file away to "
                               "begin anew", d->name, place, names[k],
                               types[k] == 's' ? "a text" : "an integer");
        if (strcmp(names[k], "sha256") == 0 && !exj_is_sha256(json_string_value(v)))
            return exj_err_set(err, EXJ_CORRUPT, "%s: %s: '%.80s' is no SHA-256", d->name, place,
                               json_string_value(v));
    }
    return EXJ_OK;
}

/* ---- life --------------------------------------------------------------------------------- */

static exj_code refuse_folder(const char *folder, const char *why, exj_err *err)
{
    return exj_err_set(err, EXJ_REFUSED, "%s: %s: what it says about trust could be anybody's",
                       folder, why);
}

static exj_code make_folder(const char *folder, int *ret_fd, exj_err *err)
{
    char *path = strdup(folder);
    struct stat st;
    exj_code rc = EXJ_OK;
    int fd = -1;

    if (!path)
        return exj_shelf_no_memory(err);
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0700); /* what fails here shows below */
            *p = '/';
        }
    mkdir(path, 0700);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        rc = exj_err_set(err, EXJ_IO, "%s: %s", folder, strerror(errno));
    else if (st.st_uid != geteuid())
        rc = refuse_folder(folder, "belongs to another user", err);
    else if (st.st_mode & (S_IWGRP | S_IWOTH))
        rc = refuse_folder(folder, "others may write to it (chmod 700 it)", err);
    else if ((st.st_mode & 077) && fchmod(fd, 0700) < 0)
        rc = exj_err_set(err, EXJ_IO, "%s: chmod 700: %s", folder, strerror(errno));
    free(path);
    if (rc && fd >= 0)
        close(fd);
    else if (!rc)
        *ret_fd = fd;
    return rc;
}

static exj_code make_inner(exj_shelf *s, const char *name, int *ret_fd, exj_err *err)
{
    if (mkdirat(s->dir, name, 0700) < 0 && errno != EEXIST)
        return exj_err_set(err, EXJ_IO, "%s/%s: %s", s->folder, name, strerror(errno));
    *ret_fd = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*ret_fd < 0)
        return exj_err_set(err, EXJ_IO, "%s/%s: %s", s->folder, name, strerror(errno));
    return EXJ_OK;
}

exj_code exj_shelf_new(const char *folder, const exj_shelf_config *config, exj_shelf **ret,
                       exj_err *err)
{
    exj_shelf *s = calloc(1, sizeof *s);
    exj_code rc = EXJ_OK;

    if (!s)
        return exj_shelf_no_memory(err);
    if (config)
        s->config = *config;
    if (s->config.crashes == 0)
        s->config.crashes = 5;
    if (s->config.within_ms <= 0)
        s->config.within_ms = 60000;
    s->dir = s->kept_dir = s->history_dir = s->lock = -1;
    pthread_mutex_init(&s->mu, NULL);
    s->trusted = (exj_shelf_doc){ .name = "trusted", .fd = -1, .parse = exj_shelf_parse_trusted };
    s->quarantine = (exj_shelf_doc){ .name = "quarantine.json", .fd = -1,
                                     .parse = exj_shelf_parse_quarantine };
    s->pins = (exj_shelf_doc){ .name = "pins.json", .fd = -1, .parse = exj_shelf_parse_pins };
    s->kept = (exj_shelf_doc){ .name = "kept.json", .fd = -1, .parse = exj_shelf_parse_kept };
    s->history = json_object();
    if (!s->history || (folder && !(s->folder = strdup(folder))))
        rc = exj_shelf_no_memory(err);
    else if (s->config.crashes > EXJ_SHELF_K_MAX)
        rc = exj_err_set(err, EXJ_INVALID, "%u crashes until quarantine: wanted at most %u",
                         s->config.crashes, EXJ_SHELF_K_MAX);
    if (!rc && folder) {
        rc = make_folder(folder, &s->dir, err);
        if (!rc)
            rc = make_inner(s, "kept", &s->kept_dir, err);
        if (!rc)
            rc = make_inner(s, "history", &s->history_dir, err);
        if (!rc) {
            s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
            if (s->lock < 0)
                rc = exj_err_set(err, EXJ_IO, "%s/lock: %s", folder, strerror(errno));
        }
    }
    if (rc)
        exj_shelf_free(s);
    else
        *ret = s;
    return rc;
}

void exj_shelf_free(exj_shelf *s)
{
    if (!s)
        return;
    drop(&s->trusted);
    drop(&s->quarantine);
    drop(&s->pins);
    drop(&s->kept);
    json_decref(s->history);
    if (s->lock >= 0)
        close(s->lock);
    if (s->history_dir >= 0)
        close(s->history_dir);
    if (s->kept_dir >= 0)
        close(s->kept_dir);
    if (s->dir >= 0)
        close(s->dir);
    pthread_mutex_destroy(&s->mu);
    free(s->folder);
    free(s);
}
