#include "core/plugin/watch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/base/clock.h"

#define MS ((exj_nsec)1000000)
#define SCAN_GAP (20 * MS) /* a storm of events is one scan */
#define LINK_FOLDERS_MAX 64u
#define READS_MAX 64 /* of 16 KiB: whoever makes events faster does not keep us from scanning */
#define EVENTS (IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | \
                IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF)

/* A directory of plugins. */
struct dir {
    char *path;   /* owned, without trailing slashes */
    char *around; /* owned: the folder that holds it */
    const char *name; /* its name in there; borrowed from path */
    int wd, around_wd; /* -1: not watched */
};

/* A folder that a link of ours leads to. */
struct folder {
    char *path; /* owned */
    int wd;
    bool used;  /* by a link that the last scan saw */
};

struct exj_watch {
    struct dir *dirs; /* owned */
    size_t dirs_len;
    struct folder folders[LINK_FOLDERS_MAX];
    size_t folders_len;
    exj_notice *notice; /* owned */
    exj_nsec poll;
    int inotify, event, timer, all; /* all: epoll over the others; -1: none */
    bool dirty;       /* something happened since the last scan */
    exj_nsec scanned; /* when that was */
    atomic_bool woken, look; /* atomic: set by any thread, then the eventfd is written */
    exj_watch_stats stats;
};

/* ---- watching ---------------------------------------------------------------------------- */

static bool is_used(const exj_watch *w, int wd)
{
    for (size_t k = 0; k < w->dirs_len; k++)
        if (w->dirs[k].wd == wd || w->dirs[k].around_wd == wd)
            return true;
    for (size_t k = 0; k < w->folders_len; k++)
        if (w->folders[k].wd == wd)
            return true;
    return false;
}

/* Let `*wd` watch what is at `path` now. The same inode keeps its descriptor, so this is
 * asked before every scan: a directory that was replaced is found without comparing. */
static bool watch_path(exj_watch *w, const char *path, int *wd)
{
    int old = *wd;

    if (w->inotify < 0)
        return false;
    *wd = inotify_add_watch(w->inotify, path, EVENTS | IN_ONLYDIR | IN_MASK_ADD);
    if (old >= 0 && old != *wd && !is_used(w, old))
        inotify_rm_watch(w->inotify, old); /* fails when the kernel dropped it: fine */
    return *wd >= 0 || errno == ENOENT || errno == ENOTDIR;
}

static void watch_dirs(exj_watch *w)
{
    w->stats.polls_only = w->inotify < 0;
    for (size_t k = 0; k < w->dirs_len; k++) {
        if (!watch_path(w, w->dirs[k].path, &w->dirs[k].wd))
            w->stats.polls_only = true;
        watch_path(w, w->dirs[k].around, &w->dirs[k].around_wd);
    }
}

/* A link leads into `real`'s folder: its target may be rewritten there. */
static void watch_target(exj_watch *w, const char *real)
{
    size_t n = (size_t)(strrchr(real, '/') - real);
    struct folder *f = NULL;
    int old;

    for (size_t k = 0; k < w->folders_len && !f; k++)
        if (strncmp(w->folders[k].path, real, n) == 0 && w->folders[k].path[n] == '\0')
            f = &w->folders[k];
    if (!f && (w->folders_len == LINK_FOLDERS_MAX || n == 0))
        return; /* polling finds it */
    if (!f) {
        char *path = strndup(real, n);

        if (!path)
            return;
        f = &w->folders[w->folders_len++];
        *f = (struct folder){ .path = path, .wd = -1 };
    }
    f->used = true;
    old = f->wd;
    watch_path(w, f->path, &f->wd);
    /* what was written after the stat and before the watch began would be missed */
    w->dirty |= f->wd != old;
}

static void drop_folders(exj_watch *w)
{
    for (size_t k = 0; k < w->folders_len;) {
        int wd = w->folders[k].wd;

        if (w->folders[k].used) {
            k++;
            continue;
        }
        free(w->folders[k].path);
        w->folders[k] = w->folders[--w->folders_len];
        if (wd >= 0 && !is_used(w, wd))
            inotify_rm_watch(w->inotify, wd);
    }
}

static void forget_wd(exj_watch *w, int wd)
{
    for (size_t k = 0; k < w->dirs_len; k++) {
        if (w->dirs[k].wd == wd)
            w->dirs[k].wd = -1;
        if (w->dirs[k].around_wd == wd)
            w->dirs[k].around_wd = -1;
    }
    for (size_t k = 0; k < w->folders_len; k++)
        if (w->folders[k].wd == wd)
            w->folders[k].wd = -1;
}

/* Does an event say that a scan may find something? */
static bool concerns(const exj_watch *w, const struct inotify_event *e)
{
    for (size_t k = 0; k < w->dirs_len; k++) {
        const struct dir *d = &w->dirs[k];

        if (d->wd == e->wd)
            return true; /* whatever its name: ..data is moved, not the plugin */
        if (d->around_wd == e->wd && (e->len == 0 || strcmp(e->name, d->name) == 0))
            return true;
    }
    for (size_t k = 0; k < w->folders_len; k++)
        if (w->folders[k].wd == e->wd)
            return true;
    return false;
}

static void drain_events(exj_watch *w)
{
    char buffer[16 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));

    for (int reads = 0; w->inotify >= 0 && reads < READS_MAX; reads++) {
        ssize_t n = read(w->inotify, buffer, sizeof buffer);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *e = (const void *)(buffer + at);

            w->stats.events++;
            if (e->mask & IN_Q_OVERFLOW) {
                w->stats.overflows++;
                w->dirty = true;
            } else if (concerns(w, e)) {
                w->dirty = true;
            }
            if (e->mask & IN_IGNORED)
                forget_wd(w, e->wd);
            at += (ssize_t)(sizeof *e + e->len);
        }
    }
}

/* ---- scanning ---------------------------------------------------------------------------- */

static bool is_plugin_name(const char *name)
{
    size_t n = strlen(name);

    return n > 3 && name[0] != '.' && strcmp(name + n - 3, ".so") == 0;
}

static uint64_t hash_text(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h | 1; /* never 0: that is "no file" together with the rest */
}

static exj_code look_at(exj_watch *w, const char *path, exj_nsec now, exj_err *err)
{
    char real[PATH_MAX];
    struct stat st, link;
    exj_file_id id;

    if (!realpath(path, real) || stat(real, &st) < 0 || lstat(path, &link) < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
            exj_notice_keep(w->notice, path); /* cannot be told now: no news */
        return EXJ_OK;
    }
    if (!S_ISREG(st.st_mode))
        return EXJ_OK;
    if (S_ISLNK(link.st_mode))
        watch_target(w, real);
    id = (exj_file_id){
        .dev = st.st_dev, .ino = st.st_ino, .bytes = (uint64_t)st.st_size,
        .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
        .ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
        .real = hash_text(real),
    };
    w->stats.files++;
    return exj_notice_see(w->notice, path, &id, now, err);
}

static exj_code scan_dir(exj_watch *w, const char *dir, exj_nsec now, exj_err *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    char path[PATH_MAX];
    unsigned files = 0;
    exj_code rc = EXJ_OK;

    if (!d) {
        if (errno != ENOENT && errno != ENOTDIR)
            exj_notice_keep(w->notice, dir);
        return EXJ_OK;
    }
    while (!rc && (errno = 0, e = readdir(d))) {
        if (!is_plugin_name(e->d_name))
            continue;
        if (files++ == EXJ_WATCH_FILES_MAX)
            break;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
            rc = look_at(w, path, now, err);
    }
    if (!rc && (errno || files > EXJ_WATCH_FILES_MAX))
        exj_notice_keep(w->notice, dir); /* not all was seen: nobody is said to be gone */
    closedir(d);
    return rc;
}

static exj_code scan(exj_watch *w, exj_file_changes *ret, exj_err *err)
{
    exj_nsec now;
    exj_code rc = EXJ_OK;

    w->dirty = false;
    w->stats.scans++;
    w->stats.files = 0;
    for (size_t k = 0; k < w->folders_len; k++)
        w->folders[k].used = false;
    watch_dirs(w); /* before looking: what happens from here on is an event */
    now = exj_clock_mono_ns();
    exj_notice_begin(w->notice);
    for (size_t k = 0; !rc && k < w->dirs_len; k++)
        rc = scan_dir(w, w->dirs[k].path, now, err);
    w->scanned = now;
    if (rc) {
        w->dirty = true; /* half a scan says nothing about who is gone */
        return rc;
    }
    drop_folders(w);
    return exj_notice_end(w->notice, now, ret, err);
}

/* ---- waiting ----------------------------------------------------------------------------- */

static exj_nsec earlier(exj_nsec a, exj_nsec b)
{
    return a < b ? a : b;
}

static exj_nsec next_scan(const exj_watch *w)
{
    exj_nsec at = earlier(exj_notice_due(w->notice), w->scanned + w->poll);

    return w->dirty ? earlier(at, w->scanned + SCAN_GAP) : at;
}

static void arm(exj_watch *w)
{
    exj_nsec at = next_scan(w);
    struct itimerspec t = { 0 };

    if (at < 1)
        at = 1; /* 0 would disarm it */
    t.it_value.tv_sec = at / 1000000000;
    t.it_value.tv_nsec = at % 1000000000;
    timerfd_settime(w->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

/* One round without waiting. */
static exj_code step(exj_watch *w, bool *ret_woken, exj_file_changes *ret, exj_err *err)
{
    uint64_t ignored;
    exj_code rc = EXJ_OK;

    while (read(w->event, &ignored, sizeof ignored) < 0 && errno == EINTR)
        continue;
    while (read(w->timer, &ignored, sizeof ignored) < 0 && errno == EINTR)
        continue;
    *ret_woken = atomic_exchange(&w->woken, false);
    drain_events(w);
    if (atomic_exchange(&w->look, false)) {
        w->dirty = true;
        w->scanned = exj_clock_mono_ns() - SCAN_GAP; /* now */
    }
    if (exj_clock_mono_ns() >= next_scan(w))
        rc = scan(w, ret, err);
    arm(w);
    return rc;
}

exj_code exj_watch_wait(exj_watch *w, int timeout_ms, exj_file_changes *ret, exj_err *err)
{
    exj_nsec until = timeout_ms < 0 ? INT64_MAX : exj_clock_mono_ns() + timeout_ms * MS;

    *ret = (exj_file_changes){ 0 };
    for (;;) {
        struct epoll_event e;
        exj_nsec left;
        bool woken;
        int n;
        exj_code rc = step(w, &woken, ret, err);

        if (ret->len)
            return EXJ_OK; /* what failed beside it is due again */
        if (rc || woken)
            return rc;
        left = until - exj_clock_mono_ns();
        if (left <= 0)
            return EXJ_OK;
        left = (left + MS - 1) / MS;
        n = epoll_wait(w->all, &e, 1, timeout_ms < 0 ? -1 : left > INT_MAX ? INT_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return exj_err_set(err, EXJ_IO, "watch: epoll_wait: %s", strerror(errno));
    }
}

int exj_watch_fd(const exj_watch *w)
{
    return w->all;
}

static void ring(exj_watch *w)
{
    static const uint64_t one = 1;
    int was = errno;
    ssize_t n;

    do
        n = write(w->event, &one, sizeof one);
    while (n < 0 && errno == EINTR); /* EAGAIN: it is ringing already */
    errno = was;
}

void exj_watch_wake(exj_watch *w)
{
    atomic_store(&w->woken, true);
    ring(w);
}

void exj_watch_look(exj_watch *w)
{
    atomic_store(&w->look, true);
    ring(w);
}

void exj_watch_again(exj_watch *w, const char *path)
{
    exj_notice_forget(w->notice, path, exj_clock_mono_ns());
    arm(w);
}

void exj_watch_get_stats(const exj_watch *w, exj_watch_stats *ret)
{
    *ret = w->stats;
}

/* ---- life -------------------------------------------------------------------------------- */

static bool add_dir(struct dir *d, const char *path)
{
    size_t n = strlen(path);
    char *slash;

    while (n > 1 && path[n - 1] == '/')
        n--;
    *d = (struct dir){ .path = strndup(path, n), .wd = -1, .around_wd = -1 };
    if (!d->path)
        return false;
    slash = strrchr(d->path, '/');
    d->name = slash ? slash + 1 : d->path;
    if (!slash)
        d->around = strdup(".");
    else /* "/plugins" lies in "/" */
        d->around = strndup(d->path, slash == d->path ? 1 : (size_t)(slash - d->path));
    return d->around != NULL;
}

static bool add_fd(exj_watch *w, int fd)
{
    struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

    return fd >= 0 && epoll_ctl(w->all, EPOLL_CTL_ADD, fd, &e) == 0;
}

exj_code exj_watch_new(const char *const *dirs, const exj_watch_config *config,
                       exj_watch **ret, exj_err *err)
{
    exj_watch_config c = config ? *config : (exj_watch_config){ 0 };
    exj_file_changes first = { 0 };
    exj_watch *w = calloc(1, sizeof *w);
    size_t n = 0;
    exj_code rc;

    if (!w)
        return exj_err_set(err, EXJ_NOMEM, "watch: out of memory");
    w->inotify = w->event = w->timer = w->all = -1;
    while (dirs[n])
        n++;
    w->dirs = calloc(n + 1, sizeof *w->dirs);
    if (!w->dirs)
        goto no_memory;
    for (; w->dirs_len < n; w->dirs_len++)
        if (!add_dir(&w->dirs[w->dirs_len], dirs[w->dirs_len])) {
            w->dirs_len++;
            goto no_memory;
        }
    rc = exj_notice_new((exj_nsec)(c.quiet_ms ? c.quiet_ms : 200) * MS, &w->notice, err);
    if (rc)
        goto out;
    w->poll = (exj_nsec)(c.poll_ms ? c.poll_ms : 5000) * MS;
    w->all = epoll_create1(EPOLL_CLOEXEC);
    w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (w->all < 0 || !add_fd(w, w->event) || !add_fd(w, w->timer)) {
        rc = exj_err_set(err, EXJ_IO, "watch: no descriptor: %s; raise the limit on open files",
                         strerror(errno));
        goto out;
    }
    if (!c.poll_only)
        w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->inotify >= 0 && !add_fd(w, w->inotify)) {
        close(w->inotify);
        w->inotify = -1;
    }
    rc = scan(w, &first, err);
    if (rc)
        goto out;
    if (!c.report_existing)
        exj_notice_settle(w->notice);
    arm(w);
    *ret = w;
    return EXJ_OK;
no_memory:
    rc = exj_err_set(err, EXJ_NOMEM, "watch: out of memory");
out:
    exj_watch_free(w);
    return rc;
}

void exj_watch_free(exj_watch *w)
{
    if (!w)
        return;
    for (size_t k = 0; k < w->dirs_len; k++) {
        free(w->dirs[k].path);
        free(w->dirs[k].around);
    }
    free(w->dirs);
    for (size_t k = 0; k < w->folders_len; k++)
        free(w->folders[k].path);
    exj_notice_free(w->notice);
    if (w->inotify >= 0)
        close(w->inotify);
    if (w->event >= 0)
        close(w->event);
    if (w->timer >= 0)
        close(w->timer);
    if (w->all >= 0)
        close(w->all);
    free(w);
}
