/* examples/checksum/source/plugin.c - checksum.files: one record for each file below a
 * folder.
 *
 * Input (the matrix's payload.input): {"root":"/absolute/folder"}. Emits
 *   {"id":"NAME@SIZE-MTIME","record":{"path":"/absolute/folder/NAME","name":"NAME","size":N}}
 * for every regular file; links are not followed. The id holds size and time of change: a
 * file has one row, and a new one when it was changed. Names that are not UTF-8 cannot be
 * JSON; they are left out and logged.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

struct walk {
    const exj_host *h;
    exj_call c;
    size_t root_n; /* of path: what is above it is not part of a name */
    char path[PATH_MAX];
    exj_json_out out;
};

static exj_result fail(const exj_host *h, exj_call c, exj_result r, const char *code,
                       const char *what, const char *path)
{
    char text[PATH_MAX + 200];

    snprintf(text, sizeof text, "%s%s%s", what, *path ? ": " : "", path);
    h->error(h->ctx, c, r, exj_text(code), exj_text(text));
    return r;
}

static bool is_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    while (*p) {
        int more = *p < 0x80   ? 0
                   : *p < 0xc2 ? -1
                   : *p < 0xe0 ? 1
                   : *p < 0xf0 ? 2
                   : *p < 0xf5 ? 3
                               : -1;

        /* Too long a form, a surrogate, beyond U+10FFFF. */
        if (more < 0 || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
            return false;
        for (p++; more > 0; more--, p++)
            if ((*p & 0xc0) != 0x80)
                return false;
    }
    return true;
}

static exj_result emit_file(struct walk *w, const struct stat *st)
{
    const char *name = w->path + w->root_n + 1;
    char id[PATH_MAX + 64];

    if (!is_utf8(w->path)) {
        w->h->log(w->h->ctx, w->c, EXJ_LOG_LEVEL_WARN, exj_text(w->path));
        return EXJ_R_OK;
    }
    snprintf(id, sizeof id, "%s@%lld-%lld.%09ld", name, (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    exj_json_out_reset(&w->out);
    exj_json_begin_object(&w->out);
    exj_json_put_text(&w->out, "id", id);
    exj_json_put_object(&w->out, "record");
    exj_json_put_text(&w->out, "path", w->path);
    exj_json_put_text(&w->out, "name", name);
    exj_json_put_i64(&w->out, "size", st->st_size);
    exj_json_end_object(&w->out);
    exj_json_end_object(&w->out);
    if (w->out.failed)
        return fail(w->h, w->c, EXJ_R_RETRY, "NoMemory", "no memory", "");
    return w->h->emit(w->h->ctx, w->c, exj_json_out_text(&w->out));
}

static exj_result walk_folder(struct walk *w, size_t n);

static exj_result visit(struct walk *w, size_t n, const char *name)
{
    int len = snprintf(w->path + n, sizeof w->path - n, "/%s", name);
    exj_result r = w->h->cancelled(w->h->ctx, w->c);
    struct stat st;

    if (r != EXJ_R_OK)
        return r;
    if (len < 0 || (size_t)len >= sizeof w->path - n) {
        w->path[n] = '\0';
        return fail(w->h, w->c, EXJ_R_FAILED, "PathTooLong", "a name below is too long",
                    w->path);
    }
    if (lstat(w->path, &st) != 0)
        return errno == ENOENT ? EXJ_R_OK /* gone since the folder was read */
                               : fail(w->h, w->c, EXJ_R_FAILED, "Unreadable",
                                      strerror(errno), w->path);
    if (S_ISDIR(st.st_mode))
        return walk_folder(w, n + (size_t)len);
    return S_ISREG(st.st_mode) ? emit_file(w, &st) : EXJ_R_OK;
}

static exj_result walk_folder(struct walk *w, size_t n)
{
    struct dirent **names = NULL;
    exj_result r = EXJ_R_OK;
    int count;

    w->path[n] = '\0';
    count = scandir(n ? w->path : "/", &names, NULL, alphasort);
    if (count < 0)
        return fail(w->h, w->c, EXJ_R_FAILED, "Unreadable", strerror(errno), w->path);
    for (int k = 0; k < count; k++) {
        const char *name = names[k]->d_name;

        if (r == EXJ_R_OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            r = visit(w, n, name);
        free(names[k]);
    }
    free(names);
    return r;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct walk w = { .h = instance, .c = c, .out = EXJ_JSON_OUT_INIT };
    exj_str value;
    char *root = NULL;
    exj_result r;
    size_t n;

    if (exj_json_find(a->model, "root", &value))
        root = exj_json_to_text(value, NULL);
    n = root ? strlen(root) : 0;
    if (n == 0 || root[0] != '/' || n >= sizeof w.path) {
        r = fail(w.h, c, EXJ_R_INPUT, "InputInvalid",
                 "payload.input.root must be an absolute path", root ? root : "");
    } else {
        while (n > 0 && root[n - 1] == '/')
            n--;
        memcpy(w.path, root, n);
        w.root_n = n;
        r = walk_folder(&w, n);
    }
    exj_json_out_release(&w.out);
    free(root);
    return r;
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h; /* nothing else to remember */
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    (void)instance;
}

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING)

static const exj_plugin files = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = FLAGS,
    .id = "checksum.files",
    .version = "1.0.0",
    .describe = EXJ_STR("{\"summary\":\"the regular files below a folder\","
                        "\"input\":{\"root\":\"string\"}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
};

static const exj_plugin *const plugins[] = { &files };
static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, FLAGS)
