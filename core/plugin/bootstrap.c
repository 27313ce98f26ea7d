#include "core/plugin/bootstrap.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "core/plugin/guest.h"

static exj_code take_table(const char *path, const exj_host_bootstrap *b,
                           exj_host_bootstrap *ret, exj_err *err)
{
    exj_host_bootstrap t = { 0 };

    if (!b)
        return exj_err_set(err, EXJ_INVALID, "%s: exellix_host_v1(%u) returned NULL", path,
                           EXJ_HOST_MINOR);
    if (b->size_of < EXJ_SIZE(exj_host_bootstrap, configure))
        return exj_err_set(err, EXJ_INVALID, "%s: size_of: wanted %u or more, found %u", path,
                           EXJ_SIZE(exj_host_bootstrap, configure), b->size_of);
    if (b->abi_minor > EXJ_HOST_MINOR)
        return exj_err_set(err, EXJ_INVALID, "%s: ABI minor: wanted at most %u.%u, found %u.%u; "
                           "the host bootstrap needs a newer exellix-jobs", path, EXJ_HOST_MAJOR,
                           EXJ_HOST_MINOR, EXJ_HOST_MAJOR, b->abi_minor);
    memcpy(&t, b, b->size_of < sizeof t ? b->size_of : sizeof t);
    if (!t.configure)
        return exj_err_set(err, EXJ_INVALID, "%s: member configure is NULL: wanted a function",
                           path);
    *ret = t;
    return EXJ_OK;
}

exj_code exj_bootstrap_load(const char *path, exj_host_bootstrap *ret, exj_err *err)
{
    char *real = realpath(path, NULL);
    void *library;
    exj_probe probe;
    union {
        void *object;
        exj_host_entry entry;
    } symbol; /* as in load.c */
    exj_code rc;

    if (!real)
        return exj_err_set(err, errno == ENOENT || errno == ENOTDIR ? EXJ_NOT_FOUND : EXJ_IO,
                           "%s: %s", path, strerror(errno));
    rc = exj_probe_bootstrap(real, &probe, err);
    if (rc)
        goto out;
    library = dlopen(real, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        char shown[300];

        exj_clean_text(why ? why : "unknown", why ? strlen(why) : 7, shown, sizeof shown);
        rc = exj_err_set(err, EXJ_INVALID, "%s: does not load: %s", real, shown);
        goto out;
    }
    symbol.object = dlsym(library, "exellix_host_v1");
    rc = symbol.object
             ? take_table(real, symbol.entry(EXJ_HOST_MINOR), ret, err)
             : exj_err_set(err, EXJ_INVALID, "%s: exports no exellix_host_v1 (wanted "
                           "EXJ_HOST_EXPORT in one of its files)", real);
out:
    free(real);
    return rc;
}
