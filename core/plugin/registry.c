/* core/plugin/registry.c - which plugins there are, each loaded once a lane, by id, file or
 * path. Locks: registry.h. */
#include "core/plugin/registry.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/plugin/lint.h"

/* ---- folders -------------------------------------------------------------------------- */

static char *join(const char *dir, const char *name, const char *tail)
{
    size_t bytes = strlen(dir) + strlen(name) + strlen(tail) + 2;
    char *p = malloc(bytes);

    if (p)
        snprintf(p, bytes, "%s/%s%s", dir, name, tail);
    return p;
}

static bool ends_in_so(const char *name)
{
    size_t n = strlen(name);

    return n > 3 && name[0] != '.' && strcmp(name + n - 3, ".so") == 0;
}

static void empty_copies(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (exj_is_copy_name(e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

static exj_code make_private(exj_registry *r, const char *wanted, exj_err *err)
{
    struct stat st;

    if (!wanted) {
        const char *tmp = getenv("TMPDIR");

        r->private_dir = join(tmp && *tmp ? tmp : "/tmp", "exellix-plugins-XXXXXX", "");
        if (!r->private_dir)
            return exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
        if (!mkdtemp(r->private_dir))
            return exj_err_set(err, EXJ_IO, "%s: %s", r->private_dir, strerror(errno));
        r->private_is_ours = true;
        return EXJ_OK;
    }
    r->private_dir = strdup(wanted);
    if (!r->private_dir)
        return exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
    if (mkdir(wanted, 0700) < 0 && errno != EEXIST)
        return exj_err_set(err, EXJ_IO, "%s: %s", wanted, strerror(errno));
    if (lstat(wanted, &st) < 0)
        return exj_err_set(err, EXJ_IO, "%s: %s", wanted, strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return exj_err_set(err, EXJ_REFUSED, "%s: wanted a folder of our own for the private "
                           "copies of plugins", wanted);
    if ((st.st_mode & 077) && chmod(wanted, 0700) < 0)
        return exj_err_set(err, EXJ_IO, "%s: %s", wanted, strerror(errno));
    empty_copies(wanted);
    return EXJ_OK;
}

exj_code exj_registry_open(const exj_registry_options *o, exj_registry **ret, exj_err *err)
{
    exj_registry *r = calloc(1, sizeof *r);
    size_t n = 0;
    exj_code rc;

    if (!r)
        return exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
    r->o = *o;
    pthread_mutex_init(&r->loading, NULL);
    pthread_mutex_init(&r->mu, NULL);
    while (o->dirs && o->dirs[n])
        n++;
    r->dirs = calloc(n + 1, sizeof *r->dirs);
    rc = r->dirs ? EXJ_OK : EXJ_NOMEM;
    for (size_t k = 0; !rc && k < n; k++) {
        r->dirs[k] = strdup(o->dirs[k]);
        if (!r->dirs[k])
            rc = EXJ_NOMEM;
    }
    if (rc)
        exj_err_set(err, rc, "plugins: out of memory");
    else
        rc = make_private(r, o->private_dir, err);
    if (rc) {
        exj_registry_free(r);
        return rc;
    }
    *ret = r;
    return EXJ_OK;
}

exj_code exj_registry_new(const char *const *dirs, const char *private_dir,
                          exj_registry **ret, exj_err *err)
{
    return exj_registry_open(&(exj_registry_options){ .dirs = dirs, .private_dir = private_dir },
                             ret, err);
}

void exj_registry_free(exj_registry *r)
{
    if (!r)
        return;
    while (r->instances)
        exj_instance_free(r->instances);
    if (r->private_is_ours) {
        empty_copies(r->private_dir);
        rmdir(r->private_dir);
    }
    while (r->files) {
        exj_plugin_file *next = r->files->next;

        exj_plugin_file_free(r->files);
        r->files = next;
    }
    for (size_t k = 0; r->dirs && r->dirs[k]; k++)
        free(r->dirs[k]);
    free(r->dirs);
    free(r->private_dir);
    pthread_mutex_destroy(&r->mu);
    pthread_mutex_destroy(&r->loading);
    free(r);
}

/* ---- lanes ------------------------------------------------------------------------------ */

/* Calls what a manifest says: never in our own process. */
#define FFI_ID "exellix.ffi"
#define FFI_FILE "ffi.so"

static bool is_in(const char *const *list, const char *text, size_t n)
{
    for (; list && *list; list++)
        if (strlen(*list) == n && memcmp(*list, text, n) == 0)
            return true;
    return false;
}

/* The folder counts, not where a link in it leads. */
static bool is_shipped(const exj_registry *r, const char *source)
{
    const char *slash = strrchr(source, '/');
    char *folder, *real;
    bool is;

    if (!slash || !ends_in_so(slash + 1) || !is_in(r->o.shipped, slash + 1, strlen(slash + 1) - 3))
        return false;
    folder = strndup(source, (size_t)(slash - source) + 1);
    real = folder ? realpath(folder, NULL) : NULL;
    is = real && is_in(r->o.shipped_dirs, real, strlen(real));
    free(folder);
    free(real);
    return is;
}

static exj_lane lane_of(const exj_registry *r, const char *source, exj_lane wanted)
{
    const char *slash = strrchr(source, '/');

    if (wanted != EXJ_LANE_DEFAULT)
        return wanted;
    if (r->o.remote && r->o.lane != EXJ_LANE_SANDBOX && slash && !strcmp(slash, "/" FFI_FILE))
        return EXJ_LANE_HOST;
    return r->o.lane == EXJ_LANE_DEFAULT || is_shipped(r, source) ? EXJ_LANE_IN_PROCESS : r->o.lane;
}

/* ---- files ---------------------------------------------------------------------------- */

char *exj_plugin_source(const char *path)
{
    char *here = path[0] == '/' ? strdup("") : getcwd(NULL, 0), *joined = NULL, *to;
    struct stat st;

    if (here && stat(path, &st) == 0 && asprintf(&joined, "%s/%s", here, path) < 0)
        joined = NULL;
    free(here);
    if (!joined)
        return NULL;
    to = joined;
    for (const char *at = joined; *at;) {
        if (at[0] == '/' && (at[1] == '/' || (at[1] == '.' && at[2] == '/')))
            at += at[1] == '/' ? 1 : 2;
        else
            *to++ = *at++;
    }
    *to = '\0';
    return joined;
}

exj_plugin_file *exj_registry_current_locked(exj_registry *r, const char *source, exj_lane lane)
{
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (f->loaded && f->state == EXJ_GEN_CURRENT && (f->lane == lane || f->is_static) &&
            strcmp(f->source, source) == 0)
            return f;
    return NULL;
}

static exj_plugin_file *refused_file(exj_registry *r, const char *source, exj_lane lane)
{
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (f->error && f->lane == lane && strcmp(f->source, source) == 0)
            return f;
    return NULL;
}

/* The same file under another name: a folder that is a link, a link beside it. */
static exj_plugin_file *alias_of(exj_registry *r, const char *source, exj_lane lane)
{
    struct stat mine, its;

    if (stat(source, &mine) < 0)
        return NULL;
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (f->loaded && !f->is_static && f->state == EXJ_GEN_CURRENT && f->lane == lane &&
            stat(f->source, &its) == 0 && its.st_dev == mine.st_dev && its.st_ino == mine.st_ino)
            return f;
    return NULL;
}

/* The same bytes under another path are the same plugins: not loaded twice. */
static exj_plugin_file *twin_of(exj_registry *r, const char *path, exj_lane lane)
{
    exj_probe probe;

    if (exj_probe_file(path, &probe, NULL))
        return NULL;
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (f->loaded && f->state == EXJ_GEN_CURRENT && f->lane == lane &&
            strcmp(f->probe.sha256, probe.sha256) == 0)
            return f;
    return NULL;
}

static bool is_unchanged(const exj_plugin_file *f)
{
    struct stat st;

    return stat(f->source, &st) == 0 && st.st_dev == f->seen.st_dev &&
           st.st_ino == f->seen.st_ino && st.st_size == f->seen.st_size &&
           st.st_mtim.tv_sec == f->seen.st_mtim.tv_sec &&
           st.st_mtim.tv_nsec == f->seen.st_mtim.tv_nsec;
}

/* A second file must not take over an id. */
static exj_code check_ids_are_new(const exj_registry *r, const exj_plugin_file *f, exj_err *err)
{
    for (const exj_plugin_file *o = r->files; o; o = o->next)
        for (size_t k = 0; o->loaded && strcmp(o->source, f->source) && k < o->guests_len; k++)
            for (size_t n = 0; n < f->guests_len; n++)
                if (!strcmp(o->guests[k].id, f->guests[n].id))
                    return exj_err_set(err, EXJ_INVALID,
                                       "%s: plugin %s %s: its id is taken by %s (%s)", f->source,
                                       f->guests[n].id, f->guests[n].version, o->source,
                                       o->guests[k].version);
    return EXJ_OK;
}

/* May it be unmapped some day? What cannot be told may not. */
static bool is_closable(const exj_plugin_file *f)
{
    exj_lint *lint = calloc(1, sizeof *lint);
    bool closable = lint && exj_lint_file(f->copy, lint, NULL) == EXJ_OK &&
                    lint->reload == EXJ_RELOAD_CLOSABLE;

    if (lint && lint->reload == EXJ_RELOAD_ISOLATE_ONLY)
        exj_log(EXJ_LOG_WARN, "plugin", "%s runs in process although it changes what the whole "
                "process shares; `plugin check` tells what; isolation host is safer", f->source);
    free(lint);
    return closable;
}

exj_code exj_registry_load(exj_registry *r, exj_plugin_file *f, const char *from,
                           exj_err *err)
{
    exj_code rc = exj_plugin_file_copy(f, from, r->private_dir, &r->generation, err);

    if (!rc && r->o.may_load)
        rc = r->o.may_load(r->o.user, f->source, f->probe.sha256, err);
    if (!rc && f->lane == EXJ_LANE_IN_PROCESS)
        f->closable = is_closable(f);
    if (!rc)
        rc = exj_plugin_file_load(f, r, r->o.remote, err);
    for (size_t k = 0; !rc && f->lane == EXJ_LANE_IN_PROCESS && !r->o.throw_away && k < f->guests_len;
         k++)
        if (!strcmp(f->guests[k].id, FFI_ID))
            rc = exj_err_set(err, EXJ_REFUSED,
                             "%s: plugin %s calls foreign functions and never runs in process: "
                             "isolation is host or sandbox", f->source, FFI_ID);
    if (!rc)
        rc = check_ids_are_new(r, f, err);
    if (rc && f->copy) {
        unlink(f->copy);
        free(f->copy);
        f->copy = NULL;
    }
    return rc;
}

static void list_file(exj_registry *r, exj_plugin_file *f)
{
    pthread_mutex_lock(&r->mu);
    f->next = r->files;
    r->files = f;
    pthread_mutex_unlock(&r->mu);
}

static void unlist_file(exj_registry *r, exj_plugin_file *f)
{
    exj_plugin_file **at = &r->files;

    pthread_mutex_lock(&r->mu);
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    pthread_mutex_unlock(&r->mu);
}

/* Load the file at `path`, or find it loaded. What was refused stays refused until the file
 * changes; what is loaded stays loaded although it changes: another content is a candidate.
 * Under `loading`. */
static exj_code open_file(exj_registry *r, const char *path, exj_lane lane,
                          exj_plugin_file **ret, exj_err *err)
{
    char *source = exj_plugin_source(path);
    exj_plugin_file *f, *refused;
    exj_err mine = { 0 };
    exj_code rc;

    if (!source)
        return exj_err_set(err, errno == ENOENT || errno == ENOTDIR ? EXJ_NOT_FOUND : EXJ_IO,
                           "%s: %s", path, strerror(errno));
    lane = lane_of(r, source, lane);
    f = exj_registry_current_locked(r, source, lane);
    refused = f ? NULL : refused_file(r, source, lane);
    if (refused && is_unchanged(refused)) {
        free(source);
        return exj_err_set(err, refused->error_code, "%s", refused->error);
    }
    if (!f)
        f = alias_of(r, source, lane);
    if (!f)
        f = twin_of(r, source, lane);
    if (f) {
        free(source);
        *ret = f;
        return EXJ_OK;
    }
    if (refused) {
        unlist_file(r, refused);
        exj_plugin_file_free(refused);
    }
    f = calloc(1, sizeof *f);
    if (!f) {
        free(source);
        return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", path);
    }
    f->source = source;
    f->lane = lane;
    if (stat(source, &f->seen) < 0)
        memset(&f->seen, 0, sizeof f->seen);
    rc = exj_registry_load(r, f, source, &mine);
    if (!rc) {
        f->state = EXJ_GEN_CURRENT;
        list_file(r, f);
        *ret = f;
        return EXJ_OK;
    }
    exj_err_set(err, rc, "%s", mine.text);
    f->loaded = false;
    if (rc == EXJ_INVALID) { /* a verdict about these bytes: keep it */
        f->error = strdup(mine.text);
        f->error_code = rc;
    }
    if (f->error)
        list_file(r, f);
    else
        exj_plugin_file_free(f);
    return rc;
}

exj_code exj_registry_adopt(exj_registry *r, exj_plugin_file *f, exj_err *err)
{
    exj_err mine = { 0 };
    exj_code rc;

    pthread_mutex_lock(&r->loading);
    if (exj_registry_current_locked(r, f->source, f->lane))
        rc = exj_err_set(&mine, EXJ_CONFLICT, "%s: this name is taken", f->source);
    else if ((rc = check_ids_are_new(r, f, &mine)) != EXJ_OK)
        rc = EXJ_CONFLICT;
    if (!rc) {
        f->state = EXJ_GEN_CURRENT;
        list_file(r, f);
    }
    pthread_mutex_unlock(&r->loading);
    return rc ? exj_err_set(err, rc, "%s", mine.text) : EXJ_OK;
}

exj_code exj_registry_open_file(exj_registry *r, const char *path, exj_plugin_file **ret,
                                exj_err *err)
{
    exj_code rc;

    pthread_mutex_lock(&r->loading);
    rc = open_file(r, path, EXJ_LANE_DEFAULT, ret, err);
    pthread_mutex_unlock(&r->loading);
    return rc;
}

/* Visit the paths of all .so of the folders in order; false from `visit` stops. */
static void each_path(const exj_registry *r, bool (*visit)(void *user, const char *path),
                      void *user)
{
    bool go = true;

    for (size_t k = 0; go && r->dirs[k]; k++) {
        struct dirent **names = NULL;
        int n = scandir(r->dirs[k], &names, NULL, alphasort);

        for (int j = 0; j < n; j++) {
            char *path = go && ends_in_so(names[j]->d_name)
                             ? join(r->dirs[k], names[j]->d_name, "")
                             : NULL;

            if (path)
                go = visit(user, path);
            free(path);
            free(names[j]);
        }
        free(names);
    }
}

/* ---- find ----------------------------------------------------------------------------- */

static exj_code pick_kind(exj_plugin_file *f, uint32_t kind, exj_guest **ret, exj_err *err)
{
    const exj_guest *g = &f->guests[0];

    for (size_t k = 0; k < f->guests_len; k++)
        if (f->guests[k].vt.kind == kind) {
            *ret = &f->guests[k];
            return EXJ_OK;
        }
    return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: kind: wanted %s, found %s", f->source,
                       g->id, g->version, exj_kind_name(kind), exj_kind_name(g->vt.kind));
}

/* Among what is loaded: on the lane that is wanted, or on the one that the file has by
 * default. `elsewhere`: of this id there is a file, but not on this lane. */
static exj_code pick_id(exj_registry *r, const char *id, uint32_t kind, exj_lane lane,
                        exj_guest **ret, const char **elsewhere, exj_err *err)
{
    for (exj_plugin_file *f = r->files; f; f = f->next)
        for (size_t k = 0; f->loaded && f->state == EXJ_GEN_CURRENT && k < f->guests_len; k++) {
            exj_guest *g = &f->guests[k];

            if (strcmp(g->id, id) != 0)
                continue;
            if (g->vt.kind != kind)
                return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: kind: wanted %s, found %s",
                                   f->source, g->id, g->version, exj_kind_name(kind),
                                   exj_kind_name(g->vt.kind));
            if (!f->is_static && lane_of(r, f->source, lane) != f->lane) {
                *elsewhere = f->source;
                continue;
            }
            *ret = g;
            return EXJ_OK;
        }
    return EXJ_NOT_FOUND;
}

/* While looking for an id in files that are not loaded yet. */
struct hunt {
    exj_registry *r;
    const char *id;
    exj_lane lane;
    exj_buf names;   /* "a.so, b.so (refused: …)" */
    bool found;
};

static bool hunt_in(void *user, const char *path)
{
    struct hunt *h = user;
    exj_plugin_file *f;
    const char *base;
    exj_err err = { 0 };
    exj_code rc = open_file(h->r, path, h->lane, &f, &err);

    exj_buf_add_text(&h->names, h->names.n ? ", " : "");
    base = strrchr(path, '/');
    exj_buf_add_text(&h->names, base ? base + 1 : path);
    if (rc) {
        exj_buf_printf(&h->names, " (refused: %.100s)", err.text);
        return true;
    }
    exj_buf_add_text(&h->names, " (");
    for (size_t k = 0; k < f->guests_len; k++) {
        exj_buf_printf(&h->names, "%s%s", k ? " " : "", f->guests[k].id);
        h->found |= strcmp(f->guests[k].id, h->id) == 0;
    }
    exj_buf_add_text(&h->names, ")");
    return !h->found;
}

static exj_code say_not_found(const exj_registry *r, const char *name, const struct hunt *h,
                              exj_err *err)
{
    exj_buf text = EXJ_BUF_INIT;
    exj_code rc;

    for (size_t k = 0; r->dirs[k]; k++)
        exj_buf_printf(&text, "%s%s", k ? ", " : "", r->dirs[k]);
    rc = exj_err_set(err, EXJ_NOT_FOUND, "no plugin '%s' in %s; found there: %s", name,
                     text.n ? text.p : "no folder", h->names.n ? h->names.p : "nothing");
    exj_buf_release(&text);
    return rc;
}

/* Under `loading`. */
static exj_code find(exj_registry *r, const char *name, uint32_t kind, exj_lane lane,
                     exj_guest **ret, exj_err *err)
{
    struct hunt h = { r, name, lane, EXJ_BUF_INIT, false };
    const char *elsewhere = NULL;
    exj_plugin_file *f;
    exj_code rc;

    if (strchr(name, '/')) {
        rc = open_file(r, name, lane, &f, err);
        return rc ? rc : pick_kind(f, kind, ret, err);
    }
    rc = pick_id(r, name, kind, lane, ret, &elsewhere, err);
    if (rc == EXJ_NOT_FOUND && elsewhere) {
        rc = open_file(r, elsewhere, lane, &f, err);
        return rc ? rc : pick_id(r, name, kind, lane, ret, &elsewhere, err);
    }
    f = rc == EXJ_NOT_FOUND ? exj_registry_current_locked(r, name, EXJ_LANE_IN_PROCESS) : NULL;
    if (f) /* static: the sources of files have a '/' */
        return pick_kind(f, kind, ret, err);
    for (size_t k = 0; rc == EXJ_NOT_FOUND && *name && r->dirs[k]; k++) {
        char *path = join(r->dirs[k], name, ends_in_so(name) ? "" : ".so");

        if (!path)
            return exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
        if (access(path, F_OK) == 0) {
            rc = open_file(r, path, lane, &f, err);
            if (!rc)
                rc = pick_kind(f, kind, ret, err);
            free(path);
            return rc;
        }
        free(path);
    }
    if (rc != EXJ_NOT_FOUND)
        return rc;
    each_path(r, hunt_in, &h);
    rc = h.found ? pick_id(r, name, kind, lane, ret, &elsewhere, err)
                 : say_not_found(r, name, &h, err);
    exj_buf_release(&h.names);
    return rc;
}

static void hold(exj_registry *r, exj_guest *g)
{
    pthread_mutex_lock(&r->mu);
    g->file->holds++;
    pthread_mutex_unlock(&r->mu);
}

exj_code exj_registry_find_lane(exj_registry *r, const char *name, uint32_t kind,
                                exj_lane lane, exj_guest **ret, exj_err *err)
{
    exj_code rc;

    pthread_mutex_lock(&r->loading);
    rc = find(r, name, kind, lane, ret, err);
    if (!rc)
        hold(r, *ret);
    pthread_mutex_unlock(&r->loading);
    return rc;
}

exj_code exj_registry_find(exj_registry *r, const char *name, uint32_t kind,
                           exj_guest **ret, exj_err *err)
{
    return exj_registry_find_lane(r, name, kind, EXJ_LANE_DEFAULT, ret, err);
}

/* ---- listing -------------------------------------------------------------------------- */

void exj_guest_describe_locked(const exj_guest *g, exj_guest_info *ret)
{
    const exj_plugin_file *f = g->file;

    *ret = (exj_guest_info){ .path = g->path, .id = g->id, .version = g->version,
                             .sha256 = g->sha256, .kind = g->vt.kind, .flags = g->vt.flags,
                             .abi_minor = g->abi_minor, .describe = g->describe,
                             .loaded = true, .generation = f->number, .lane = f->lane,
                             .state = f->state, .uses = f->uses, .copy = f->copy };
    exj_guest_look(g, &ret->stats);
}

void exj_guest_describe(const exj_guest *g, exj_guest_info *ret)
{
    if (g->registry)
        pthread_mutex_lock(&g->registry->mu);
    exj_guest_describe_locked(g, ret);
    if (g->registry)
        pthread_mutex_unlock(&g->registry->mu);
}

struct listing {
    exj_registry *r;
    bool load;
    bool (*visit)(void *user, const exj_guest_info *i);
    void *user;
    exj_buf seen; /* the numbers of generations that were shown */
    bool enough;  /* the visitor said so */
};

#define LISTED_MAX 16u /* generations of one file that are shown */

static bool show(struct listing *l, const exj_guest_info *i)
{
    l->enough = !l->visit(l->user, i);
    return !l->enough;
}

/* The generations of the file at `path`, current ones first, held. */
static size_t take_generations(exj_registry *r, const char *path, exj_plugin_file **ret)
{
    char *source = exj_plugin_source(path);
    size_t n = 0;

    pthread_mutex_lock(&r->mu);
    for (int current = 1; source && current >= 0; current--)
        for (exj_plugin_file *f = r->files; f && n < LISTED_MAX; f = f->next)
            if (f->loaded && (f->state == EXJ_GEN_CURRENT) == current &&
                strcmp(f->source, source) == 0) {
                f->holds++;
                ret[n++] = f;
            }
    pthread_mutex_unlock(&r->mu);
    free(source);
    return n;
}

static bool list_generations(struct listing *l, const char *path, exj_plugin_file **files,
                             size_t n)
{
    bool go = true;

    for (size_t at = 0; at < n; at++) {
        exj_buf_add(&l->seen, (const char *)&files[at]->number, sizeof files[at]->number);
        for (size_t k = 0; go && k < files[at]->guests_len; k++) {
            exj_guest_info info;

            exj_guest_describe(&files[at]->guests[k], &info);
            if (path)
                info.path = path;
            go = show(l, &info);
        }
        exj_guest_release(&files[at]->guests[0]);
    }
    return go;
}

static bool was_shown(const struct listing *l, uint64_t number)
{
    for (size_t at = 0; at + sizeof number <= l->seen.n; at += sizeof number)
        if (memcmp(l->seen.p + at, &number, sizeof number) == 0)
            return true;
    return false;
}

/* What is loaded and stands in no folder: named by its path, or its file is gone. */
static void list_rest(struct listing *l)
{
    exj_plugin_file *files[LISTED_MAX];
    size_t n = 0;

    pthread_mutex_lock(&l->r->mu);
    for (exj_plugin_file *f = l->r->files; f && n < LISTED_MAX; f = f->next)
        if (f->loaded && !f->is_static && !was_shown(l, f->number)) {
            f->holds++;
            files[n++] = f;
        }
    pthread_mutex_unlock(&l->r->mu);
    list_generations(l, NULL, files, n);
}

static bool list_one(void *user, const char *path)
{
    struct listing *l = user;
    exj_guest_info info = { .path = path, .id = "", .version = "", .sha256 = "",
                            .describe = { "", 0 } };
    exj_plugin_file *files[LISTED_MAX + 1], *f = NULL;
    size_t n = take_generations(l->r, path, files);
    exj_probe probe;
    exj_err err = { 0 };
    exj_code rc = EXJ_OK;

    if (n == 0 && l->load) {
        pthread_mutex_lock(&l->r->loading);
        rc = open_file(l->r, path, EXJ_LANE_DEFAULT, &f, &err);
        if (!rc) { /* the generation of this path, or of another path with the same bytes */
            hold(l->r, &f->guests[0]);
            files[n++] = f;
        }
        pthread_mutex_unlock(&l->r->loading);
    }
    if (n)
        return list_generations(l, path, files, n);
    if (!rc)
        rc = exj_probe_file(path, &probe, &err);
    if (rc) {
        info.error = err.text;
        return show(l, &info);
    }
    info.sha256 = probe.sha256;
    info.flags = probe.flags;
    info.abi_minor = probe.abi_minor;
    info.kind = probe.kinds & (1u << EXJ_KIND_GRAPH_ENGINE)      ? EXJ_KIND_GRAPH_ENGINE
                : probe.kinds & (1u << EXJ_KIND_SOURCE_RESOLVER) ? EXJ_KIND_SOURCE_RESOLVER
                                                                 : EXJ_KIND_EVENT_SINK;
    return show(l, &info);
}

/* What is part of the program stands in no folder, and is never swept. False: the visitor has
 * enough. */
static bool list_static(struct listing *l)
{
    exj_plugin_file *files[LISTED_MAX];
    exj_guest_info info;
    size_t n = 0;

    pthread_mutex_lock(&l->r->mu);
    for (exj_plugin_file *f = l->r->files; f && n < LISTED_MAX; f = f->next)
        if (f->is_static)
            files[n++] = f;
    pthread_mutex_unlock(&l->r->mu);
    for (size_t at = 0; at < n; at++)
        for (size_t k = 0; k < files[at]->guests_len; k++) {
            exj_guest_describe(&files[at]->guests[k], &info);
            if (!show(l, &info))
                return false;
        }
    return true;
}

exj_code exj_registry_each(exj_registry *r, bool load,
                           bool (*visit)(void *user, const exj_guest_info *i), void *user,
                           exj_err *err)
{
    struct listing l = { .r = r, .load = load, .visit = visit, .user = user };
    bool failed;

    if (list_static(&l)) {
        each_path(r, list_one, &l);
        if (!l.enough)
            list_rest(&l);
    }
    failed = l.seen.failed;
    exj_buf_release(&l.seen);
    return failed ? exj_err_set(err, EXJ_NOMEM, "plugins: out of memory") : EXJ_OK;
}
