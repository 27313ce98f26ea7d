/* core/plugin/static.c - plugins without a file: a bundle of the program itself. It is judged
 * as the entry of a file is; what a note would tell is taken from the bundle. */
#include "core/plugin/load.h"

#include <stdlib.h>

#define NAME_MAX_BYTES 64

/* A name may stand where a file's does, so it must not look like a path. */
static exj_code check_name(const char *name, exj_err *err)
{
    size_t n = name ? strnlen(name, NAME_MAX_BYTES + 1) : 0;
    char shown[80];

    if (n < 1 || n > NAME_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "static plugins: name: wanted 1 to %d bytes, found "
                           "%s", NAME_MAX_BYTES, n ? "more" : "none");
    for (size_t k = 0; k < n; k++) {
        char c = name[k];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '.' || c == '_' || c == '-')
            continue;
        exj_clean_text(name, n, shown, sizeof shown);
        return exj_err_set(err, EXJ_INVALID, "static plugins '%s': name: wanted [A-Za-z0-9._-], "
                           "found byte 0x%02x", shown, (unsigned char)c);
    }
    return EXJ_OK;
}

exj_code exj_registry_add_static(exj_registry *r, const char *name, const exj_bundle *b,
                                 exj_err *err)
{
    const exj_probe probe = {
        .abi_major = EXJ_ABI_MAJOR,
        .abi_minor = b && b->size_of >= EXJ_SIZE(exj_bundle, abi_minor) ? b->abi_minor : 0,
        .kinds = 1u << EXJ_KIND_GRAPH_ENGINE | 1u << EXJ_KIND_SOURCE_RESOLVER |
                 1u << EXJ_KIND_EVENT_SINK,
    };
    exj_plugin_file *f = NULL;
    exj_code rc = check_name(name, err);

    if (rc)
        return rc;
    f = calloc(1, sizeof *f);
    if (!f || !(f->source = strdup(name))) {
        free(f);
        return exj_err_set(err, EXJ_NOMEM, "static plugins %s: out of memory", name);
    }
    f->is_static = true;
    f->lane = EXJ_LANE_IN_PROCESS;
    if (!b)
        rc = exj_err_set(err, EXJ_INVALID, "static plugins %s: the bundle is NULL", name);
    else
        rc = exj_plugin_file_take(f, r, &probe, b, err);
    if (!rc) {
        f->loaded = true;
        rc = exj_registry_adopt(r, f, err);
    }
    if (rc)
        exj_plugin_file_free(f);
    return rc;
}
