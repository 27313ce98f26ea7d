/* core/plugin/notice.c - which files are to be reported: the part of watch.h without disk
 * and clock. */
#include "core/plugin/watch.h"

#include <stdlib.h>

struct file {
    char *path;               /* owned */
    exj_file_id reported;     /* zero: as if there were none */
    exj_file_id latest;       /* what the last look found; zero: nothing there */
    exj_nsec steady;          /* first look that found `latest` */
    exj_nsec noticed;         /* first look that found something not reported */
    bool seen;                /* in the scan that goes on */
};

struct exj_notice {
    exj_nsec quiet;
    struct file *files; /* owned, sorted by path */
    size_t len, cap;
};

static bool same(const exj_file_id *a, const exj_file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->bytes == b->bytes &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns && a->real == b->real;
}

static bool is_there(const exj_file_id *id)
{
    static const exj_file_id none;

    return !same(id, &none);
}

static bool unsettled(const struct file *f)
{
    return !same(&f->reported, &f->latest);
}

const char *exj_file_news_word(exj_file_news n)
{
    static const char *const words[] = { "new", "changed", "gone" };

    return (unsigned)n < 3 ? words[n] : "?";
}

void exj_file_changes_release(exj_file_changes *c)
{
    for (size_t k = 0; k < c->len; k++)
        free(c->items[k].path);
    free(c->items);
    *c = (exj_file_changes){ 0 };
}

exj_code exj_notice_new(exj_nsec quiet_ns, exj_notice **ret, exj_err *err)
{
    exj_notice *n = calloc(1, sizeof *n);

    if (!n)
        return exj_err_set(err, EXJ_NOMEM, "watch: out of memory");
    n->quiet = quiet_ns;
    *ret = n;
    return EXJ_OK;
}

void exj_notice_free(exj_notice *n)
{
    if (!n)
        return;
    for (size_t k = 0; k < n->len; k++)
        free(n->files[k].path);
    free(n->files);
    free(n);
}

/* Where `path` is, or would be inserted. */
static size_t place_of(const exj_notice *n, const char *path, bool *ret_found)
{
    size_t lo = 0, hi = n->len;

    *ret_found = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(n->files[mid].path, path);

        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void exj_notice_begin(exj_notice *n)
{
    for (size_t k = 0; k < n->len; k++)
        n->files[k].seen = false;
}

static exj_code insert(exj_notice *n, size_t at, const char *path, exj_err *err)
{
    struct file *p;
    char *copy;

    if (n->len == n->cap) {
        size_t cap = n->cap ? 2 * n->cap : 16;

        p = realloc(n->files, cap * sizeof *p);
        if (!p)
            return exj_err_set(err, EXJ_NOMEM, "watch: %s: out of memory", path);
        n->files = p;
        n->cap = cap;
    }
    copy = strdup(path);
    if (!copy)
        return exj_err_set(err, EXJ_NOMEM, "watch: %s: out of memory", path);
    p = n->files + at;
    memmove(p + 1, p, (n->len++ - at) * sizeof *p);
    *p = (struct file){ .path = copy };
    return EXJ_OK;
}

static void found(struct file *f, const exj_file_id *id, exj_nsec now)
{
    f->seen = true;
    if (same(&f->latest, id))
        return;
    if (!unsettled(f))
        f->noticed = now;
    f->latest = *id;
    f->steady = now;
}

exj_code exj_notice_see(exj_notice *n, const char *path, const exj_file_id *id, exj_nsec now,
                        exj_err *err)
{
    bool known;
    size_t at = place_of(n, path, &known);
    exj_code rc = known ? EXJ_OK : insert(n, at, path, err);

    if (!rc)
        found(&n->files[at], id, now);
    return rc;
}

void exj_notice_keep(exj_notice *n, const char *directory)
{
    size_t len = strlen(directory);

    for (size_t k = 0; k < n->len; k++) {
        const char *p = n->files[k].path;

        if (strncmp(p, directory, len) == 0 &&
            (p[len] == '\0' || (p[len] == '/' && !strchr(p + len + 1, '/'))))
            n->files[k].seen = true;
    }
}

/* Append a change; the path is copied. */
static bool report(exj_file_changes *c, const struct file *f)
{
    exj_file_change *items = realloc(c->items, (c->len + 1) * sizeof *items);
    char *path;

    if (!items)
        return false;
    c->items = items;
    path = strdup(f->path);
    if (!path)
        return false;
    items[c->len++] = (exj_file_change){
        .news = !is_there(&f->reported) ? EXJ_FILE_NEW
                : is_there(&f->latest)  ? EXJ_FILE_CHANGED
                                        : EXJ_FILE_GONE,
        .path = path, .id = f->latest, .noticed = f->noticed,
    };
    return true;
}

exj_code exj_notice_end(exj_notice *n, exj_nsec now, exj_file_changes *ret, exj_err *err)
{
    static const exj_file_id none;
    size_t left = 0;
    bool lost = false;

    for (size_t k = 0; k < n->len; k++) {
        struct file *f = &n->files[k];

        if (!f->seen)
            found(f, &none, now);
        if (unsettled(f) && now - f->steady >= n->quiet) {
            if (report(ret, f)) {
                f->reported = f->latest;
            } else {
                lost = true;
                f->steady = now; /* and not at once, or the caller would spin */
            }
        }
        if (!unsettled(f) && !is_there(&f->latest))
            free(f->path); /* gone, and everybody knows */
        else
            n->files[left++] = *f;
    }
    n->len = left;
    return lost ? exj_err_set(err, EXJ_NOMEM, "watch: out of memory") : EXJ_OK;
}

void exj_notice_settle(exj_notice *n)
{
    for (size_t k = 0; k < n->len; k++)
        n->files[k].reported = n->files[k].latest;
}

void exj_notice_forget(exj_notice *n, const char *path, exj_nsec now)
{
    bool known;
    size_t at = place_of(n, path, &known);

    if (!known)
        return;
    n->files[at].reported = (exj_file_id){ 0 };
    n->files[at].steady = n->files[at].noticed = now;
}

exj_nsec exj_notice_due(const exj_notice *n)
{
    exj_nsec due = INT64_MAX;

    for (size_t k = 0; k < n->len; k++)
        if (unsettled(&n->files[k]) && n->files[k].steady + n->quiet < due)
            due = n->files[k].steady + n->quiet;
    return due;
}
