#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOT_VARIABLE "EXELLIX_PLUGIN_SOURCE_ROOT"
#define PATH_SHOWN 200

const char *exj_src_path_end(const char *path)
{
    static _Thread_local char shown[4][PATH_SHOWN + 8];
    static _Thread_local unsigned next;
    char *to = shown[next++ % 4];
    size_t n = strlen(path), skip = n > PATH_SHOWN ? n - PATH_SHOWN : 0;

    while (skip && ((unsigned char)path[skip] & 0xc0) == 0x80)
        skip++;
    snprintf(to, sizeof *shown, "%s%s", skip ? "…" : "", path + skip);
    return to;
}

static bool no(char *why, const char *path, const char *what, const char *more)
{
    snprintf(why, EXJ_SRC_WHY_BYTES, "%s: %s%s", exj_src_path_end(path), what, more);
    return false;
}

static bool has_dots(const char *path)
{
    for (const char *at = path; (at = strstr(at, "..")); at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
            return true;
    return false;
}

/* `path` behind `root`, when it lies below it. */
static const char *below(const char *root, const char *path)
{
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);

    if (strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != '\0'))
        return NULL;
    path += n;
    return path + strspn(path, "/");
}

static void trim(char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
}

bool exj_src_place_read(exj_str config, exj_src_place *ret, char why[EXJ_SRC_WHY_BYTES])
{
    const char *outer = getenv(ROOT_VARIABLE);
    exj_json_cursor c = exj_json_members(config);
    exj_str key, value;

    *ret = (exj_src_place){ .setting = ROOT_VARIABLE };
    if (outer && *outer) {
        if (*outer != '/' || strlen(outer) > EXJ_SRC_PATH_BYTES || has_dots(outer))
            return no(why, outer, ROOT_VARIABLE ": wanted an absolute path without \"..\"", "");
        ret->root = strdup(outer);
        if (!ret->root) {
            snprintf(why, EXJ_SRC_WHY_BYTES, EXJ_SRC_NO_MEMORY);
            return false;
        }
        trim(ret->root);
    }
    while (exj_json_next_member(&c, &key, &value)) {
        bool memory;
        char *inner;

        if (!exj_json_string_is(key, "root")) {
            snprintf(why, EXJ_SRC_WHY_BYTES, "config: %.*s is no member; wanted root",
                     key.n < 80 ? (int)key.n : 80, key.p);
            goto refuse;
        }
        inner = exj_src_text_of(value, NULL, &memory);
        if (memory) {
            snprintf(why, EXJ_SRC_WHY_BYTES, EXJ_SRC_NO_MEMORY);
            goto refuse;
        }
        if (!inner || *inner != '/' || strlen(inner) > EXJ_SRC_PATH_BYTES || has_dots(inner)) {
            no(why, inner ? inner : "config.root",
               "wanted the absolute path of a folder without \"..\" as config.root", "");
            free(inner);
            goto refuse;
        }
        trim(inner);
        if (ret->root && !below(ret->root, inner)) {
            no(why, inner, "config.root lies outside of " ROOT_VARIABLE " = ",
               exj_src_path_end(ret->root));
            free(inner);
            goto refuse;
        }
        free(ret->root);
        ret->root = inner;
        ret->setting = "config.root";
    }
    return true;
refuse:
    exj_src_place_release(ret);
    return false;
}

void exj_src_place_release(exj_src_place *p)
{
    free(p->root);
    p->root = NULL;
}

/* What open says, in words that help. */
static int failed(const char *path, int number, bool *ret_missing, char *why)
{
    if (ret_missing)
        *ret_missing = number == ENOENT;
    no(why, path,
       number == ENOENT    ? "no such file or folder"
       : number == EACCES  ? "permission denied: give the worker's user the right to it (on lane "
                             "host also: keep it outside of DATA_DIR)"
       : number == ELOOP   ? "a symbolic link: below a root none is followed; name the file "
                             "itself"
       : number == ENOTDIR ? "a part of the path is no folder"
                           : strerrordesc_np(number),
       "");
    return -1;
}

/* `rest` below `dir`, name by name. */
static int walk(int dir, const char *path, const char *rest, int flags, bool *ret_missing, char *why)
{
    char name[256];
    int at = dir, fd;

    for (;;) {
        size_t n = strcspn(rest, "/");
        const char *next = rest + n + strspn(rest + n, "/");
        bool last = !*next;
        int number;

        if (n >= sizeof name) {
            fd = -1;
            number = ENAMETOOLONG;
        } else {
            memcpy(name, n ? rest : ".", n ? n : 1);
            name[n ? n : 1] = '\0';
            fd = openat(at, name, (last ? flags : O_PATH | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC,
                        0600);
            number = errno;
            /* O_DIRECTORY comes first for a link to a folder */
            if (fd < 0 && number == ENOTDIR) {
                int link = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                char target[2];

                if (link >= 0 && readlinkat(link, "", target, sizeof target) >= 0)
                    number = ELOOP;
                if (link >= 0)
                    close(link);
            }
        }
        if (at != dir)
            close(at);
        if (fd < 0)
            return failed(path, number, ret_missing, why);
        if (last)
            return fd;
        at = fd;
        rest = next;
    }
}

int exj_src_place_open(const exj_src_place *p, const char *path, int flags, bool *ret_missing,
                       char why[EXJ_SRC_WHY_BYTES])
{
    const char *rest = path;
    int root, fd;

    flags |= O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    if (ret_missing)
        *ret_missing = false;
    if (!p->root) {
        if (*path != '/') {
            no(why, path, "wanted an absolute path, or a root that it is below: "
                          "dataSource.config.root", "");
            return -1;
        }
        fd = open(path, flags, 0600);
        return fd < 0 ? failed(path, errno, ret_missing, why) : fd;
    }
    if (has_dots(path)) {
        no(why, path, "\"..\" is refused below a root: ", p->setting);
        return -1;
    }
    if (*path == '/')
        rest = below(p->root, path);
    if (!rest) {
        char more[PATH_SHOWN + 80];

        snprintf(more, sizeof more, "%s = %s", p->setting, exj_src_path_end(p->root));
        no(why, path, "lies outside of ", more);
        return -1;
    }
    root = open(p->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return failed(p->root, errno, ret_missing, why);
    fd = walk(root, path, rest, flags, ret_missing, why);
    close(root);
    return fd;
}
