/* core/plugin/load.c - see load.h. The copy is what runs: a source that is overwritten
 * later changes nothing, and a source that changes while it is copied is copied again. */
#include "core/plugin/load.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/json.h"

#define COPY_TRIES 5
#define STEM_MAX 40
#define HASH_CHARS 16
#define DESCRIBE_MAX (1024u * 1024u)
#define FLAGS_KNOWN                                                                        \
    (EXJ_FLAG_CONCURRENT | EXJ_FLAG_SERIAL_ALL | EXJ_FLAG_BLOCKING | EXJ_FLAG_OWN_THREADS | \
     EXJ_FLAG_ASYNC | EXJ_FLAG_REPLAYABLE)

const char *exj_kind_name(uint32_t kind)
{
    return kind == EXJ_KIND_GRAPH_ENGINE      ? "graph engine"
           : kind == EXJ_KIND_SOURCE_RESOLVER ? "source resolver"
           : kind == EXJ_KIND_EVENT_SINK      ? "event sink"
                                              : "unknown kind";
}

/* ---- the copy: STEM-GENERATION-HASH.so ------------------------------------------------ */

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

bool exj_is_copy_name(const char *name)
{
    size_t n = strlen(name), at;

    if (n < HASH_CHARS + 6 || strcmp(name + n - 3, ".so") != 0)
        return false;
    at = n - 3 - HASH_CHARS;
    for (size_t k = 0; k < HASH_CHARS; k++)
        if (!is_hex(name[at + k]))
            return false;
    if (name[--at] != '-')
        return false;
    n = at;
    while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9')
        at--;
    return at < n && at > 1 && name[at - 1] == '-';
}

static void stem_of(const char *path, char ret[STEM_MAX + 1])
{
    const char *base = strrchr(path, '/');
    size_t n = 0;

    base = base ? base + 1 : path;
    for (; *base && n < STEM_MAX && strcmp(base, ".so") != 0; base++) {
        char c = *base;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9') || c == '_' || c == '.';

        ret[n++] = plain ? c : '_';
    }
    if (n == 0)
        ret[n++] = '_';
    ret[n] = 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static exj_code copy_bytes(int from, int to, uint64_t bytes, const char *shown, exj_err *err)
{
    static const size_t chunk = 64 * 1024;
    char *p = malloc(chunk);
    exj_code rc = EXJ_OK;
    uint64_t at = 0;

    if (!p)
        return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", shown);
    while (!rc && at < bytes) {
        ssize_t n = pread(from, p, chunk, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = exj_err_set(err, EXJ_IO, "%s: read: %s", shown, strerror(errno));
        } else if (n == 0) {
            rc = exj_err_set(err, EXJ_BUSY, "%s: shrank while it was copied", shown);
        } else {
            for (ssize_t done = 0; !rc && done < n;) {
                ssize_t w = write(to, p + done, (size_t)(n - done));

                if (w < 0 && errno != EINTR)
                    rc = exj_err_set(err, EXJ_IO, "private copy of %s: write: %s", shown,
                                     strerror(errno));
                else if (w > 0)
                    done += w;
            }
            at += (uint64_t)n;
        }
    }
    free(p);
    return rc;
}

/* One attempt. EXJ_BUSY: the source moved meanwhile. *ret_path is owned by the caller. */
static exj_code copy_once(const char *source, const char *private_dir, uint64_t *generation,
                          struct stat *ret_seen, exj_probe *ret, char **ret_path, exj_err *err)
{
    char stem[STEM_MAX + 1];
    struct stat before, after, by_name;
    exj_probe first, copy;
    char *path = NULL;
    int from, to = -1;
    exj_code rc;

    from = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return exj_err_set(err, EXJ_IO, "%s: %s", source, strerror(errno));
    if (fstat(from, &before) < 0) {
        rc = exj_err_set(err, EXJ_IO, "%s: %s", source, strerror(errno));
        goto out;
    }
    rc = exj_probe_fd(from, source, &first, err); /* refuse before anything is written */
    if (rc)
        goto out;
    stem_of(source, stem);
    while (to < 0) {
        free(path);
        path = NULL;
        if (asprintf(&path, "%s/%s-%" PRIu64 "-%.*s.so", private_dir, stem, ++*generation,
                     HASH_CHARS, first.sha256) < 0) {
            path = NULL;
            rc = exj_err_set(err, EXJ_NOMEM, "%s: out of memory", source);
            goto out;
        }
        to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
        if (to < 0 && errno != EEXIST) {
            rc = exj_err_set(err, EXJ_IO, "%s: %s", path, strerror(errno));
            goto out;
        }
    }
    rc = copy_bytes(from, to, (uint64_t)before.st_size, source, err);
    if (rc)
        goto out;
    close(to);
    to = -1;
    if (fstat(from, &after) < 0 || stat(source, &by_name) < 0 ||
        !same_file(&before, &after) || !same_file(&before, &by_name)) {
        rc = exj_err_set(err, EXJ_BUSY, "%s: changes while it is read; write beside it and "
                         "rename", source);
        goto out;
    }
    rc = exj_probe_file(path, &copy, err);
    if (!rc && strcmp(copy.sha256, first.sha256) != 0)
        rc = exj_err_set(err, EXJ_BUSY, "%s: changed while it was read", source);
    if (!rc) {
        *ret_seen = before;
        *ret = copy;
        *ret_path = path;
        path = NULL;
    }
out:
    if (to >= 0)
        close(to);
    if (path && rc)
        unlink(path);
    free(path);
    close(from);
    return rc;
}

exj_code exj_plugin_file_copy(exj_plugin_file *f, const char *from, const char *private_dir,
                              uint64_t *generation, exj_err *err)
{
    exj_err mine = { 0 };
    exj_code rc = EXJ_BUSY;

    for (int t = 0; rc == EXJ_BUSY && t < COPY_TRIES; t++) {
        exj_err_clear(&mine);
        rc = copy_once(from, private_dir, generation, &f->seen, &f->probe, &f->copy, &mine);
    }
    if (rc)
        return exj_err_set(err, rc, "%s", mine.text);
    f->number = *generation;
    return EXJ_OK;
}

/* ---- judging what the entry returned -------------------------------------------------- */

/* Length of a text of a plugin, `max` + 1 when longer: it may lack its NUL. */
static size_t length(const char *s, size_t max)
{
    return strnlen(s, max + 1);
}

static exj_code check_id(const char *file, size_t nth, const char *id, exj_err *err)
{
    size_t n;

    if (!id)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %zu: id is NULL", file, nth);
    n = length(id, 64);
    if (n < 1 || n > 64)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %zu: id: wanted 1 to 64 bytes, found "
                           "%s", file, nth, n ? "more" : "none");
    for (size_t k = 0; k < n; k++) {
        char c = id[k], shown[80];

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')
            continue;
        exj_clean_text(id, n, shown, sizeof shown);
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %zu: id '%s': wanted [a-z0-9._-], "
                           "found byte 0x%02x", file, nth, shown, (unsigned char)c);
    }
    return EXJ_OK;
}

static exj_code check_version(const char *file, const char *id, const char *version, exj_err *err)
{
    char shown[200];
    size_t n;

    if (!version)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s: version is NULL", file, id);
    n = length(version, 64);
    if (n < 1 || n > 64)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s: version: wanted 1 to 64 bytes, "
                           "found %s", file, id, n ? "more" : "none");
    exj_clean_text(version, n, shown, sizeof shown);
    if (!exj_utf8_is_valid((exj_slice){ version, n }))
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s: version '%s' is not UTF-8", file, id,
                           shown);
    if (memcmp(shown, version, n + 1) != 0)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s: version '%s' has control bytes",
                           file, id, shown);
    return EXJ_OK;
}

static exj_code check_describe(const char *file, const exj_plugin *vt, exj_err *err)
{
    exj_json_kind kind;
    exj_slice text = { vt->describe.p, (size_t)vt->describe.n };
    exj_code rc;

    if (vt->describe.n == 0)
        return EXJ_OK;
    if (!vt->describe.p || vt->describe.n > DESCRIBE_MAX)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: describe: wanted at most %u bytes "
                           "of JSON, found %llu at %s", file, vt->id, vt->version, DESCRIBE_MAX,
                           (unsigned long long)vt->describe.n, vt->describe.p ? "a text" : "NULL");
    rc = exj_json_check(text, EXJ_JSON_MAX_DEPTH, &kind, err);
    if (!rc && kind != EXJ_JSON_OBJECT)
        rc = exj_err_set(err, EXJ_INVALID, "wanted an object");
    if (rc)
        exj_err_prefix(err, "%s: plugin %s %s: describe", file, vt->id, vt->version);
    return rc;
}

/* Judge the nth plugin and copy it into *ret, members it lacks NULL. */
static exj_code take_plugin(const char *file, const exj_probe *probe, const exj_plugin *p,
                            size_t nth, exj_guest *ret, exj_err *err)
{
    exj_plugin vt = { 0 };
    const char *missing;
    exj_code rc;

    if (!p)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %zu of the bundle is NULL", file, nth);
    if (p->size_of < EXJ_SIZE(exj_plugin, destroy))
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %zu: size_of: wanted %u or more, found "
                           "%u", file, nth, EXJ_SIZE(exj_plugin, destroy), p->size_of);
    /* All that is optional is a pointer: half of one would be a jump to nowhere. */
    if ((p->size_of - EXJ_SIZE(exj_plugin, destroy)) % sizeof vt.cancel != 0)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %zu: size_of: wanted the end of a member "
                           "(EXJ_SIZE), found %u", file, nth, p->size_of);
    memcpy(&vt, p, p->size_of < sizeof vt ? p->size_of : sizeof vt);
    rc = check_id(file, nth, vt.id, err);
    if (!rc)
        rc = check_version(file, vt.id, vt.version, err);
    if (rc)
        return rc;
    missing = !vt.create ? "create" : !vt.execute ? "execute" : !vt.destroy ? "destroy" : NULL;
    if (missing)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: member %s is NULL: wanted a "
                           "function", file, vt.id, vt.version, missing);
    if (vt.kind < EXJ_KIND_GRAPH_ENGINE || vt.kind > EXJ_KIND_EVENT_SINK)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: kind: wanted 1 (graph engine), 2 "
                           "(source resolver) or 3 (event sink), found %u", file, vt.id,
                           vt.version, vt.kind);
    if (!(probe->kinds & (1u << vt.kind)))
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: kind %u (%s) is not among those "
                           "of the note (0x%x)", file, vt.id, vt.version, vt.kind,
                           exj_kind_name(vt.kind), probe->kinds);
    if (vt.flags & ~FLAGS_KNOWN)
        return exj_err_set(err, EXJ_INVALID, "%s: plugin %s %s: flags: wanted some of 0x%x, "
                           "found 0x%x", file, vt.id, vt.version, FLAGS_KNOWN, vt.flags);
    rc = check_describe(file, &vt, err);
    if (rc)
        return rc;
    ret->id = strdup(vt.id);
    ret->version = strdup(vt.version);
    ret->describe = (exj_slice){ exj_slice_dup((exj_slice){ vt.describe.p, (size_t)vt.describe.n }),
                                 (size_t)vt.describe.n };
    if (!ret->id || !ret->version || !ret->describe.p)
        return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", file);
    vt.id = ret->id;
    vt.version = ret->version;
    ret->vt = vt;
    return EXJ_OK;
}

static void free_guests(exj_guest *guests, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        union {
            const char *in;
            char *out;
        } describe = { guests[k].describe.p };

        free(describe.out);
        free(guests[k].id);
        free(guests[k].version);
        pthread_cond_destroy(&guests[k].serial_free);
        pthread_mutex_destroy(&guests[k].serial_mu);
    }
    free(guests);
}

exj_code exj_plugin_file_take(exj_plugin_file *f, exj_registry *owner, const exj_probe *probe,
                              const exj_bundle *b, exj_err *err)
{
    exj_guest *guests;
    exj_code rc = EXJ_OK;

    if (!b)
        return exj_err_set(err, EXJ_INVALID, "%s: exellix_plugin_v1 returned NULL", f->source);
    if (b->size_of < EXJ_SIZE(exj_bundle, plugins))
        return exj_err_set(err, EXJ_INVALID, "%s: bundle: size_of: wanted %u or more, found %u",
                           f->source, EXJ_SIZE(exj_bundle, plugins), b->size_of);
    if (b->abi_minor > EXJ_ABI_MINOR)
        return exj_err_set(err, EXJ_INVALID, "%s: bundle: ABI minor: wanted at most %u, found %u",
                           f->source, EXJ_ABI_MINOR, b->abi_minor);
    if (b->n < 1 || b->n > EXJ_BUNDLE_MAX)
        return exj_err_set(err, EXJ_INVALID, "%s: bundle: n: wanted 1 to %u, found %u", f->source,
                           EXJ_BUNDLE_MAX, b->n);
    if (!b->plugins)
        return exj_err_set(err, EXJ_INVALID, "%s: bundle: plugins is NULL", f->source);
    guests = calloc(b->n, sizeof *guests);
    if (!guests)
        return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", f->source);
    for (size_t k = 0; k < b->n; k++) {
        pthread_mutex_init(&guests[k].serial_mu, NULL);
        pthread_cond_init(&guests[k].serial_free, NULL);
    }
    for (size_t k = 0; !rc && k < b->n; k++) {
        rc = take_plugin(f->source, probe, b->plugins[k], k, &guests[k], err);
        guests[k].registry = owner;
        guests[k].path = f->source;
        guests[k].sha256 = f->probe.sha256;
        guests[k].abi_minor = b->abi_minor;
        guests[k].file = f;
        guests[k].copy = f->copy;
        guests[k].lane = f->lane;
        guests[k].index = (uint32_t)k;
        for (size_t other = 0; !rc && other < k; other++)
            if (strcmp(guests[other].id, guests[k].id) == 0)
                rc = exj_err_set(err, EXJ_INVALID, "%s: two plugins are named %s", f->source,
                                 guests[k].id);
    }
    if (rc) {
        free_guests(guests, b->n);
        return rc;
    }
    f->guests = guests;
    f->guests_len = b->n;
    f->probe = *probe;
    return EXJ_OK;
}

/* ---- together ------------------------------------------------------------------------- */

/* Why a library did not load, when the reason is known and not in what the loader says. */
static void add_cause(const char *copy, char *text, size_t cap)
{
    const char *slash = strrchr(copy, '/');
    size_t n = strlen(text);
    struct statvfs fs;

    if (slash && statvfs(copy, &fs) == 0 && (fs.f_flag & ST_NOEXEC))
        snprintf(text + n, cap - n, ": %.*s, where copies of plugins are kept, is mounted noexec; "
                 "mount it with exec or choose another folder", (int)(slash - copy), copy);
}

/* Map the copy and take what its entry gives. A refused library stays mapped: its threads, if
 * any, would fall otherwise. */
static exj_code map_copy(exj_plugin_file *f, exj_registry *owner, exj_err *err)
{
    void *library = dlopen(f->copy, RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        exj_entry entry;
    } symbol; /* POSIX promises that a function fits; C has no cast for it */
    exj_code rc;

    if (!library) {
        const char *why = dlerror();
        char shown[300];

        exj_clean_text(why ? why : "unknown", why ? strlen(why) : 7, shown, sizeof shown);
        add_cause(f->copy, shown, sizeof shown);
        return exj_err_set(err, EXJ_INVALID, "%s: does not load: %s", f->source, shown);
    }
    symbol.object = dlsym(library, "exellix_plugin_v1");
    if (!symbol.object)
        return exj_err_set(err, EXJ_INVALID, "%s: exports no exellix_plugin_v1 (wanted "
                           "EXJ_PLUGIN_EXPORT in one of its files)", f->source);
    rc = exj_plugin_file_take(f, owner, &f->probe, symbol.entry(EXJ_ABI_MINOR), err);
    if (!rc)
        f->library = library;
    return rc;
}

/* Let a plugin host load the copy and take what it tells of it. */
static exj_code ask_host(exj_plugin_file *f, exj_registry *owner,
                         const exj_remote_settings *remote, exj_err *err)
{
    exj_remote_plugin *told = NULL;
    exj_plugin *tables = NULL;
    const exj_plugin **list = NULL;
    exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), f->probe.abi_minor, 0, 0, NULL };
    size_t n = 0;
    exj_code rc;

    if (!remote)
        return exj_err_set(err, EXJ_UNSUPPORTED, "%s: isolation %s: there is no plugin host here",
                           f->source, exj_lane_word(f->lane));
    rc = exj_remote_describe(remote, f->lane, f->copy, f->source, &told, &n, err);
    if (rc)
        return rc;
    tables = calloc(n + 1, sizeof *tables);
    list = calloc(n + 1, sizeof *list);
    if (!tables || !list) {
        rc = exj_err_set(err, EXJ_NOMEM, "%s: out of memory", f->source);
        goto out;
    }
    for (size_t k = 0; k < n; k++) {
        exj_plugin *p = &tables[k];

        exj_remote_vt(told[k].has, p);
        p->size_of = EXJ_SIZE(exj_plugin, resolve_model);
        p->kind = told[k].kind;
        p->flags = told[k].flags;
        p->state_version = told[k].state_version;
        p->id = told[k].id;
        p->version = told[k].version;
        p->describe = (exj_str){ told[k].describe.p, told[k].describe.n };
        list[k] = p;
    }
    bundle.n = (uint32_t)n;
    bundle.plugins = list;
    rc = exj_plugin_file_take(f, owner, &f->probe, &bundle, err);
    for (size_t k = 0; !rc && k < f->guests_len; k++)
        f->guests[k].remote = remote;
out:
    free(tables);
    free(list);
    exj_remote_plugins_free(told, n);
    return rc;
}

exj_code exj_plugin_file_load(exj_plugin_file *f, exj_registry *owner,
                              const exj_remote_settings *remote, exj_err *err)
{
    exj_code rc = f->lane == EXJ_LANE_IN_PROCESS ? map_copy(f, owner, err)
                                                 : ask_host(f, owner, remote, err);

    f->loaded = rc == EXJ_OK;
    return rc;
}

exj_code exj_plugin_file_adopt(exj_plugin_file *f, const char *copy, const char *shown,
                               exj_err *err)
{
    exj_code rc;

    f->source = strdup(shown);
    f->copy = strdup(copy);
    f->lane = EXJ_LANE_IN_PROCESS;
    if (!f->source || !f->copy)
        return exj_err_set(err, EXJ_NOMEM, "%s: out of memory", shown);
    rc = exj_probe_file(copy, &f->probe, err);
    if (!rc)
        rc = map_copy(f, NULL, err);
    f->loaded = rc == EXJ_OK;
    return rc;
}

void exj_plugin_file_free(exj_plugin_file *f)
{
    if (!f)
        return;
    free_guests(f->guests, f->guests_len);
    free(f->source);
    free(f->copy);
    free(f->error);
    free(f);
}
