#include "plugins/ffi/library.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exellix/plugin.h"
#include "plugins/ffi/sha256.h"

static exj_ffi_loaded *libraries; /* guarded by the lock of program.c */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool check_digest(const char *path, const char *sha256, struct stat *ret,
                         exj_ffi_trouble *t)
{
    char hex[65];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool good = false;

    if (fd < 0 || fstat(fd, ret) != 0) {
        exj_ffi_trouble_set(t, EXJ_R_FAILED, "LibraryMissing", "library %.300s: %s", path,
                            strerror(errno));
    } else if (!S_ISREG(ret->st_mode)) {
        exj_ffi_trouble_set(t, EXJ_R_FAILED, "LibraryUnfit", "library %.300s is no file",
                            path);
    } else if (!exj_ffi_sha256_fd(fd, hex)) {
        exj_ffi_trouble_set(t, EXJ_R_RETRY, "LibraryUnread", "library %.300s: %s", path,
                            strerror(errno));
    } else if (strcmp(hex, sha256) != 0) {
        exj_ffi_trouble_set(
            t, EXJ_R_FAILED, "LibraryChanged",
            "library %.300s has the SHA-256 %s, the manifest says %s; verify the "
            "manifest against the new file, then write the new digest",
            path, hex, sha256);
    } else {
        good = true;
    }
    if (fd >= 0)
        close(fd);
    return good;
}

static void *map_of(void *dl)
{
    struct link_map *map = NULL;

    return dlinfo(dl, RTLD_DI_LINKMAP, &map) == 0 ? map : NULL;
}

/* The linker finds a path it knows without a look at the file, so a new file under an old
 * name is not what would be called. */
static bool is_stale(const exj_ffi_loaded *l, const struct stat *now, exj_ffi_trouble *t)
{
    if (same_file(&l->file, now))
        return false;
    exj_ffi_trouble_set(
        t, EXJ_R_RETRY, "LibraryChanged",
        "library %.300s was replaced after this plugin host had loaded it; a "
        "new host (exellix-jobs plugin reload exellix.ffi) loads the new one",
        l->name);
    return true;
}

static exj_ffi_loaded *add(const char *name, void *dl, exj_ffi_trouble *t)
{
    exj_ffi_loaded *l = calloc(1, sizeof *l);

    if (!l || !(l->name = strdup(name))) {
        free(l);
        exj_ffi_trouble_set(t, EXJ_R_RETRY, "NoMemory", "no memory");
        return NULL;
    }
    l->dl = dl;
    l->map = map_of(dl);
    pthread_mutex_init(&l->mu, NULL);
    l->next = libraries;
    libraries = l;
    return l;
}

exj_ffi_loaded *exj_ffi_library_open(const char *name, const char *sha256,
                                     exj_ffi_trouble *t)
{
    exj_ffi_loaded *l;
    struct stat before = { 0 }, after = { 0 };
    const char *why;
    void *dl;

    for (l = libraries; l; l = l->next)
        if (strcmp(l->name, name) == 0 && (!sha256 || strcmp(sha256, l->sha256) == 0))
            return l;
    if (sha256 && !check_digest(name, sha256, &before, t))
        return NULL;
    dl = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!dl) {
        why = dlerror();
        exj_ffi_trouble_set(
            t, EXJ_R_FAILED,
            name[0] == '/' && access(name, F_OK) == 0 ? "LibraryUnfit" : "LibraryMissing",
            "library %.200s cannot be loaded: %.300s", name, why ? why : "");
        return NULL;
    }
    if (name[0] == '/')
        (void)stat(name, &after);
    if (sha256 && !same_file(&before, &after)) {
        exj_ffi_trouble_set(t, EXJ_R_RETRY, "LibraryChanged",
                            "library %.300s was replaced while it was loaded", name);
        return NULL; /* stays mapped; never called */
    }
    for (l = libraries; l; l = l->next)
        if (l->map == map_of(dl))
            break; /* two names of one file share a lock */
    if (l && sha256 && is_stale(l, &before, t))
        return NULL;
    if (!l) {
        l = add(name, dl, t);
        if (l)
            l->file = after;
    }
    if (l && sha256)
        snprintf(l->sha256, sizeof l->sha256, "%s", sha256);
    return l;
}

exj_ffi_code exj_ffi_library_find(const exj_ffi_loaded *l, const char *symbol,
                                  exj_ffi_trouble *t)
{
    void *at = dlsym(l->dl, symbol), *extra = NULL;
    exj_ffi_code code;
    Dl_info info;

    if (!at) {
        exj_ffi_trouble_set(
            t, EXJ_R_FAILED, "SymbolMissing",
            "library %.200s has no function %s; 'nm -D --defined-only' lists "
            "what it has",
            l->name, symbol);
        return NULL;
    }
    if (dladdr1(at, &info, &extra, RTLD_DL_LINKMAP) && extra != l->map) {
        exj_ffi_trouble_set(
            t, EXJ_R_FAILED, "SymbolUnfit",
            "%s is not in %.200s but in %.200s, which it uses; name that as the "
            "library",
            symbol, l->name, info.dli_fname);
        return NULL;
    }
    extra = NULL;
    if (dladdr1(at, &info, &extra, RTLD_DL_SYMENT) && extra && info.dli_saddr == at) {
        const ElfW(Sym) *sym = extra;
        int type = ELF64_ST_TYPE(sym->st_info);

        if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) {
            exj_ffi_trouble_set(t, EXJ_R_FAILED, "SymbolUnfit",
                                "%s in %.200s is data, not a function", symbol, l->name);
            return NULL;
        }
    }
    memcpy(&code, &at,
           sizeof code); /* POSIX lets an address of code be copied like this */
    return code;
}

void exj_ffi_library_forget(void)
{
    while (libraries) {
        exj_ffi_loaded *next = libraries->next;

        pthread_mutex_destroy(&libraries->mu);
        free(libraries->name);
        free(libraries);
        libraries = next;
    }
}
