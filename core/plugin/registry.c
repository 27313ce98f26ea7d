/* core/plugin/registry.c - which plugins there are, each loaded once, by id, file or path.
 *
 * Lock: `mu` guards everything here and is held while a file is loaded (its constructors
 * run under it, which is one more reason to have none) and while each() visits; never
 * during create, execute or destroy.
 */
#include "core/plugin/load.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct exj_registry {
    pthread_mutex_t mu;
    char **dirs; /* owned, NULL-terminated */
    char *private_dir; /* owned */
    bool private_is_ours;
    uint64_t generation;
    exj_plugin_file *files; /* every file that was ever loaded or refused, newest first */
    exj_instance *instances;
};

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

exj_code exj_registry_new(const char *const *dirs, const char *private_dir,
                          exj_registry **ret, exj_err *err)
{
    exj_registry *r = calloc(1, sizeof *r);
    size_t n = 0;
    exj_code rc;

    if (!r)
        return exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
    pthread_mutex_init(&r->mu, NULL);
    while (dirs && dirs[n])
        n++;
    r->dirs = calloc(n + 1, sizeof *r->dirs);
    rc = r->dirs ? EXJ_OK : EXJ_NOMEM;
    for (size_t k = 0; !rc && k < n; k++) {
        r->dirs[k] = strdup(dirs[k]);
        if (!r->dirs[k])
            rc = EXJ_NOMEM;
    }
    if (rc)
        exj_err_set(err, rc, "plugins: out of memory");
    else
        rc = make_private(r, private_dir, err);
    if (rc) {
        exj_registry_free(r);
        return rc;
    }
    *ret = r;
    return EXJ_OK;
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
    free(r);
}

void exj_registry_add_instance(exj_registry *r, exj_instance *i)
{
    if (!r)
        return; /* inside a plugin host */
    pthread_mutex_lock(&r->mu);
    i->next = r->instances;
    i->link = &r->instances;
    if (i->next)
        i->next->link = &i->next;
    r->instances = i;
    pthread_mutex_unlock(&r->mu);
}

void exj_registry_drop_instance(exj_registry *r, exj_instance *i)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mu);
    *i->link = i->next;
    if (i->next)
        i->next->link = i->link;
    pthread_mutex_unlock(&r->mu);
}

/* ---- files ---------------------------------------------------------------------------- */

/* The newest we know under this path. */
static exj_plugin_file *known_file(exj_registry *r, const char *real)
{
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (strcmp(f->source, real) == 0)
            return f;
    return NULL;
}

/* The same bytes under another path are the same plugins: not loaded twice. */
static exj_plugin_file *twin_of(exj_registry *r, const char *path)
{
    exj_probe probe;

    if (exj_probe_file(path, &probe, NULL))
        return NULL;
    for (exj_plugin_file *f = r->files; f; f = f->next)
        if (f->loaded && strcmp(f->probe.sha256, probe.sha256) == 0)
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

static const exj_guest *guest_by_id(const exj_registry *r, const char *id)
{
    for (const exj_plugin_file *f = r->files; f; f = f->next)
        for (size_t k = 0; f->loaded && k < f->guests_len; k++)
            if (strcmp(f->guests[k].id, id) == 0)
                return &f->guests[k];
    return NULL;
}

/* A second file must not take over an id. */
static exj_code check_ids_are_new(exj_registry *r, const exj_plugin_file *f, exj_err *err)
{
    for (size_t k = 0; k < f->guests_len; k++) {
        const exj_guest *first = guest_by_id(r, f->guests[k].id);

        if (first)
            return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: its id is taken by %s (%s)",
                               f->source, f->guests[k].id, f->guests[k].version, first->path,
                               first->version);
    }
    return EXJ_OK;
}

/* Load the file at `path`, or find it loaded. What was refused stays refused until the
 * file changes; what is loaded stays loaded although it changes. */
static exj_code open_file_locked(exj_registry *r, const char *path, exj_plugin_file **ret,
                                 exj_err *err)
{
    char *real = realpath(path, NULL);
    exj_plugin_file *f;
    exj_err mine = { 0 };
    exj_code rc;

    if (!real)
        return exj_err_set(err, errno == ENOENT || errno == ENOTDIR ? EXJ_NOT_FOUND : EXJ_IO,
                           "%s: %s", path, strerror(errno));
    f = known_file(r, real);
    if (f && (f->loaded || is_unchanged(f))) {
        free(real);
        *ret = f;
        return f->loaded ? EXJ_OK : exj_err_set(err, f->error_code, "%s", f->error);
    }
    f = twin_of(r, real);
    if (f) {
        free(real);
        *ret = f;
        return EXJ_OK;
    }
    f = calloc(1, sizeof *f);
    if (!f) {
        free(real);
        return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", path);
    }
    f->source = real;
    if (stat(real, &f->seen) < 0)
        memset(&f->seen, 0, sizeof f->seen);
    rc = exj_plugin_file_load(f, r, r->private_dir, &r->generation, &mine);
    if (!rc)
        rc = check_ids_are_new(r, f, &mine);
    if (!rc) {
        f->next = r->files;
        r->files = f;
        *ret = f;
        return EXJ_OK;
    }
    exj_err_set(err, rc, "%s", mine.text);
    if (rc == EXJ_INVALID) { /* a verdict about these bytes: keep it */
        f->loaded = false;
        f->error = strdup(mine.text);
        f->error_code = rc;
    }
    if (f->error) {
        f->next = r->files;
        r->files = f;
    } else {
        exj_plugin_file_free(f);
    }
    return rc;
}

exj_code exj_registry_adopt(exj_registry *r, exj_plugin_file *f, exj_err *err)
{
    exj_err mine = { 0 };
    exj_code rc;

    pthread_mutex_lock(&r->mu);
    if (known_file(r, f->source))
        rc = exj_err_set(&mine, EXJ_CONFLICT, "%s: this name is taken", f->source);
    else if ((rc = check_ids_are_new(r, f, &mine)) != EXJ_OK)
        rc = EXJ_CONFLICT;
    if (!rc) {
        f->next = r->files;
        r->files = f;
    }
    pthread_mutex_unlock(&r->mu);
    return rc ? exj_err_set(err, rc, "%s", mine.text) : EXJ_OK;
}

exj_code exj_registry_open(exj_registry *r, const char *path, exj_plugin_file **ret,
                           exj_err *err)
{
    exj_code rc;

    pthread_mutex_lock(&r->mu);
    rc = open_file_locked(r, path, ret, err);
    pthread_mutex_unlock(&r->mu);
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

static exj_code pick_id(exj_registry *r, const char *id, uint32_t kind, exj_guest **ret,
                        exj_err *err)
{
    for (exj_plugin_file *f = r->files; f; f = f->next)
        for (size_t k = 0; f->loaded && k < f->guests_len; k++) {
            exj_guest *g = &f->guests[k];

            if (strcmp(g->id, id) != 0)
                continue;
            if (g->vt.kind != kind)
                return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: kind: wanted %s, found %s",
                                   f->source, g->id, g->version, exj_kind_name(kind),
                                   exj_kind_name(g->vt.kind));
            *ret = g;
            return EXJ_OK;
        }
    return EXJ_NOT_FOUND;
}

/* While looking for an id in files that are not loaded yet. */
struct hunt {
    exj_registry *r;
    const char *id;
    exj_buf names;   /* "a.so, b.so (refused: …)" */
    bool found;
};

static bool hunt_in(void *user, const char *path)
{
    struct hunt *h = user;
    exj_plugin_file *f;
    const char *base;
    exj_err err = { 0 };
    exj_code rc = open_file_locked(h->r, path, &f, &err);

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

static exj_code find_locked(exj_registry *r, const char *name, uint32_t kind, exj_guest **ret,
                            exj_err *err)
{
    struct hunt h = { r, name, EXJ_BUF_INIT, false };
    exj_plugin_file *f;
    exj_code rc;

    if (strchr(name, '/')) {
        rc = open_file_locked(r, name, &f, err);
        return rc ? rc : pick_kind(f, kind, ret, err);
    }
    rc = pick_id(r, name, kind, ret, err);
    f = rc == EXJ_NOT_FOUND ? known_file(r, name) : NULL; /* static: files have a '/' */
    if (f)
        return pick_kind(f, kind, ret, err);
    for (size_t k = 0; rc == EXJ_NOT_FOUND && *name && r->dirs[k]; k++) {
        char *path = join(r->dirs[k], name, ends_in_so(name) ? "" : ".so");

        if (!path)
            return exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
        if (access(path, F_OK) == 0) {
            rc = open_file_locked(r, path, &f, err);
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
    rc = h.found ? pick_id(r, name, kind, ret, err) : say_not_found(r, name, &h, err);
    exj_buf_release(&h.names);
    return rc;
}

exj_code exj_registry_find(exj_registry *r, const char *name, uint32_t kind,
                           exj_guest **ret, exj_err *err)
{
    exj_code rc;

    pthread_mutex_lock(&r->mu);
    rc = find_locked(r, name, kind, ret, err);
    pthread_mutex_unlock(&r->mu);
    return rc;
}

/* ---- listing -------------------------------------------------------------------------- */

void exj_guest_describe(const exj_guest *g, exj_guest_info *ret)
{
    *ret = (exj_guest_info){ .path = g->path, .id = g->id, .version = g->version,
                             .sha256 = g->sha256, .kind = g->vt.kind, .flags = g->vt.flags,
                             .abi_minor = g->abi_minor, .describe = g->describe };
}

struct listing {
    exj_registry *r;
    bool load;
    bool (*visit)(void *user, const exj_guest_info *i);
    void *user;
};

static bool list_one(void *user, const char *path)
{
    struct listing *l = user;
    exj_guest_info info = { .path = path, .id = "", .version = "", .sha256 = "",
                            .describe = { "", 0 } };
    exj_plugin_file *f = NULL;
    exj_probe probe;
    exj_err err = { 0 };
    exj_code rc;

    if (l->load) {
        rc = open_file_locked(l->r, path, &f, &err);
    } else {
        char *real = realpath(path, NULL);

        f = real ? known_file(l->r, real) : NULL;
        free(real);
        if (f && !f->loaded)
            f = NULL; /* ask the file again */
        rc = f ? EXJ_OK : exj_probe_file(path, &probe, &err);
    }
    if (rc) {
        info.error = err.text;
        return l->visit(l->user, &info);
    }
    if (!f) {
        info.sha256 = probe.sha256;
        info.flags = probe.flags;
        info.abi_minor = probe.abi_minor;
        info.kind = probe.kinds & (1u << EXJ_KIND_GRAPH_ENGINE) ? EXJ_KIND_GRAPH_ENGINE
                                                                : EXJ_KIND_SOURCE_RESOLVER;
        return l->visit(l->user, &info);
    }
    for (size_t k = 0; k < f->guests_len; k++) {
        exj_guest_describe(&f->guests[k], &info);
        info.path = path;
        if (!l->visit(l->user, &info))
            return false;
    }
    return true;
}

/* What is part of the program stands in no folder. False: the visitor has enough. */
static bool list_static(struct listing *l)
{
    exj_guest_info info;

    for (const exj_plugin_file *f = l->r->files; f; f = f->next)
        for (size_t k = 0; f->is_static && k < f->guests_len; k++) {
            exj_guest_describe(&f->guests[k], &info);
            if (!l->visit(l->user, &info))
                return false;
        }
    return true;
}

exj_code exj_registry_each(exj_registry *r, bool load,
                           bool (*visit)(void *user, const exj_guest_info *i), void *user,
                           exj_err *err)
{
    struct listing l = { r, load, visit, user };

    (void)err;
    pthread_mutex_lock(&r->mu);
    if (list_static(&l))
        each_path(r, list_one, &l);
    pthread_mutex_unlock(&r->mu);
    return EXJ_OK;
}
