/* The files of a folder: each is a record. They come in the order of their names; the cursor is the
 * last name. Memory holds one page of names, however many there are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define ENTRIES_MOST 1000000u

struct folder {
    exj_src_run *r;
    DIR *dir;
    char *after;  /* owned: names up to this one have been */
    char **names; /* owned: a heap, the greatest first, then sorted */
    size_t n, cap;
    char *text;   /* owned: of one file */
};

static exj_result no_memory(struct folder *f)
{
    return exj_src_refuse(f->r, EXJ_R_RETRY, "NoMemory", EXJ_SRC_NO_MEMORY);
}

/* ---- names ------------------------------------------------------------------------------------- */

static void swap(char **a, char **b)
{
    char *t = *a;

    *a = *b;
    *b = t;
}

static void sink(struct folder *f)
{
    for (size_t at = 0;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < f->n && strcmp(f->names[child + 1], f->names[child]) > 0)
            child++;
        if (child >= f->n || strcmp(f->names[child], f->names[at]) <= 0)
            return;
        swap(&f->names[child], &f->names[at]);
        at = child;
    }
}

/* Keeps the `cap` smallest. False: no memory. */
static bool add_name(struct folder *f, const char *name)
{
    char *own;

    if (f->n == f->cap && strcmp(name, f->names[0]) >= 0)
        return true;
    own = strdup(name);
    if (!own)
        return false;
    if (f->n == f->cap) {
        free(f->names[0]);
        f->names[0] = own;
        sink(f);
        return true;
    }
    f->names[f->n] = own;
    for (size_t at = f->n++; at && strcmp(f->names[at], f->names[(at - 1) / 2]) > 0;
         at = (at - 1) / 2)
        swap(&f->names[at], &f->names[(at - 1) / 2]);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The next names, sorted. */
static exj_result next_names(struct folder *f)
{
    const char *glob = f->r->ask->glob ? f->r->ask->glob : "*";
    unsigned entries = 0;
    exj_result result;
    struct dirent *d;

    rewinddir(f->dir);
    while ((errno = 0, d = readdir(f->dir))) {
        result = exj_src_stopped(f->r);
        if (result != EXJ_R_OK)
            return result;
        if (++entries > ENTRIES_MOST)
            return exj_src_refuse(f->r, EXJ_R_INPUT, "FolderTooLarge", "%s: more than %u names: "
                                  "divide it into several folders",
                                  exj_src_path_end(f->r->ask->path), ENTRIES_MOST);
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
            (f->after && strcmp(d->d_name, f->after) <= 0) ||
            fnmatch(glob, d->d_name, FNM_PERIOD) != 0)
            continue;
        if (!add_name(f, d->d_name))
            return no_memory(f);
    }
    if (errno)
        return exj_src_refuse(f->r, EXJ_R_RETRY, "ReadFailed", "%s: %s",
                              exj_src_path_end(f->r->ask->path), strerrordesc_np(errno));
    qsort(f->names, f->n, sizeof *f->names, by_name);
    return EXJ_R_OK;
}

/* ---- files ------------------------------------------------------------------------------------- */

static void put_time(exj_json_out *o, const struct timespec *at)
{
    char text[40] = "";
    struct tm tm;
    size_t n = gmtime_r(&at->tv_sec, &tm) ? strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) : 0;

    snprintf(text + n, sizeof text - n, ".%03ldZ", at->tv_nsec / 1000000);
    exj_json_put_text(o, "modifiedAt", text);
}

/* Its text, or null where it is large, none, or cannot be read. */
static exj_result put_text(struct folder *f, int fd, int64_t size)
{
    size_t most = (size_t)f->r->ask->text_bytes, n = 0, bad;
    ssize_t got = 1;

    if (!f->text && !(f->text = malloc(most + 1)))
        return no_memory(f);
    while (size <= (int64_t)most && n <= most && got > 0) {
        got = pread(fd, f->text + n, most + 1 - n, (off_t)n);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            n += (size_t)got;
    }
    if (size > (int64_t)most || got < 0 || n > most || !exj_src_is_text(f->text, n, &bad))
        exj_json_put_null(&f->r->record, "text");
    else
        exj_json_put_string(&f->r->record, "text", (exj_str){ f->text, n });
    return EXJ_R_OK;
}

static exj_result yield_file(struct folder *f, const char *name, int fd, const struct stat *st)
{
    exj_json_out *o = &f->r->record;
    const char *path = f->r->ask->path;
    char id[EXJ_SRC_ID_BYTES + 1], full[EXJ_SRC_PATH_BYTES + 300];
    exj_result result = EXJ_R_OK;

    snprintf(full, sizeof full, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", name);
    if (f->r->ask->ids == EXJ_SRC_BY_VERSION)
        snprintf(id, sizeof id, "%s@%lld.%09ld-%lld", name, (long long)st->st_mtim.tv_sec,
                 st->st_mtim.tv_nsec, (long long)st->st_size);
    else
        snprintf(id, sizeof id, "%s", name);
    exj_json_out_reset(o);
    exj_json_begin_object(o);
    exj_json_put_text(o, "path", full);
    exj_json_put_text(o, "name", name);
    exj_json_put_i64(o, "size", st->st_size);
    put_time(o, &st->st_mtim);
    if (f->r->ask->text)
        result = put_text(f, fd, st->st_size);
    exj_json_end_object(o);
    if (result != EXJ_R_OK)
        return result;
    return o->failed ? no_memory(f)
                     : exj_src_yield(f->r, exj_text(id), exj_json_out_text(o), 0);
}

/* Regular files only; what is gone meanwhile is no record and no mistake. */
static exj_result take_file(struct folder *f, const char *name)
{
    exj_src_trouble t = { 0 };
    exj_result result;
    struct stat st;
    size_t bad;
    int fd = -1;

    if (fstatat(dirfd(f->dir), name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return EXJ_R_OK;
    for (const char *c = name; *c && !*t.reason; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            snprintf(t.reason, sizeof t.reason, "the name of a file holds the control byte 0x%02x",
                     (unsigned)(unsigned char)*c);
    if (!exj_src_is_text(name, strlen(name), &bad))
        snprintf(t.reason, sizeof t.reason, "the name of a file is not UTF-8");
    if (*t.reason)
        return exj_src_bad_line(f->r, 0, &t, exj_text(name), strlen(name));
    if (f->r->ask->text) {
        fd = openat(dirfd(f->dir), name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ENOENT)
            return EXJ_R_OK;
        if (fd < 0) {
            snprintf(t.reason, sizeof t.reason, "%.120s: %s", name, strerrordesc_np(errno));
            return exj_src_bad_line(f->r, 0, &t, exj_text(name), strlen(name));
        }
    }
    result = yield_file(f, name, fd, &st);
    if (fd >= 0)
        close(fd);
    return result;
}

/* The quarantine file is none of the folder's files. */
static bool is_ours(const exj_src_run *r, const char *name)
{
    const char *last = strrchr(r->aside_path, '/');

    return r->ask->on_bad == EXJ_SRC_QUARANTINE && strcmp(last ? last + 1 : r->aside_path, name) == 0;
}

static exj_result take_names(struct folder *f)
{
    exj_result result = EXJ_R_OK;

    for (size_t k = 0; k < f->n && result == EXJ_R_OK; k++) {
        result = exj_src_stopped(f->r);
        if (result == EXJ_R_OK && !is_ours(f->r, f->names[k]))
            result = take_file(f, f->names[k]);
    }
    if (f->n) {
        free(f->after);
        f->after = f->names[f->n - 1];
        f->names[f->n - 1] = NULL;
    }
    for (size_t k = 0; k < f->n; k++)
        free(f->names[k]);
    f->n = 0;
    return result;
}

static exj_result give_cursor(struct folder *f)
{
    exj_json_out_reset(&f->r->out);
    exj_json_begin_object(&f->r->out);
    exj_json_put_string(&f->r->out, "next", exj_text(f->after));
    exj_json_end_object(&f->r->out);
    return f->r->out.failed ? no_memory(f)
                            : f->r->host->emit(f->r->host->ctx, f->r->call,
                                               exj_json_out_text(&f->r->out));
}

static exj_result scan(struct folder *f)
{
    char why[EXJ_SRC_WHY_BYTES];
    exj_result result;
    bool missing, full;
    size_t n;
    int fd = exj_src_place_open(f->r->place, f->r->ask->path, O_RDONLY | O_DIRECTORY, &missing, why);

    f->dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!f->dir) {
        if (fd >= 0)
            close(fd);
        return exj_src_refuse(f->r, EXJ_R_FAILED, missing ? "FileMissing" : "FileNotOpened", "%s",
                              fd >= 0 ? EXJ_SRC_NO_MEMORY : why);
    }
    if (f->r->cursor.n) {
        bool memory;

        f->after = exj_src_text_of(f->r->cursor, &n, &memory);
        if (!f->after)
            return memory ? no_memory(f)
                          : exj_src_refuse(f->r, EXJ_R_INPUT, "BadCursor",
                                           "the cursor %.*s is none of this plugin's",
                                           f->r->cursor.n < 100 ? (int)f->r->cursor.n : 100,
                                           f->r->cursor.p);
    }
    f->cap = (size_t)f->r->ask->page;
    f->names = calloc(f->cap, sizeof *f->names);
    if (!f->names)
        return no_memory(f);
    do {
        result = next_names(f);
        full = f->n == f->cap;
        if (result == EXJ_R_OK)
            result = take_names(f);
    } while (result == EXJ_R_OK && full && !f->r->pages);
    if (result == EXJ_R_OK)
        result = exj_src_settle(f->r);
    return result == EXJ_R_OK && full ? give_cursor(f) : result;
}

exj_result exj_src_scan_folder(exj_src_run *r)
{
    struct folder f = { .r = r };
    exj_result result = scan(&f);

    if (f.dir)
        closedir(f.dir);
    for (size_t k = 0; k < f.n; k++)
        free(f.names[k]);
    free(f.names);
    free(f.after);
    free(f.text);
    return result;
}
