/* Files of the plugin authors' commands. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"
#include "core/main/cmd_plugin.h"

#define PLUGIN_MAX_BYTES ((size_t)1 << 30)

exj_code exj_tool_folders(const char *path, exj_err *err)
{
    char folder[PATH_MAX];
    size_t n = strlen(path);

    if (n >= sizeof(folder))
        return exj_err_set(err, EXJ_INVALID, "%.100s…: the path has over %d bytes", path,
                           PATH_MAX - 1);
    memcpy(folder, path, n + 1);
    for (char *s = folder + 1; *s; s++) {
        if (*s != '/')
            continue;
        *s = '\0';
        if (mkdir(folder, 0777) != 0 && errno != EEXIST)
            return exj_err_set(err, EXJ_IO, "cannot make the folder %.300s: %s", folder,
                               strerror(errno));
        *s = '/';
    }
    return EXJ_OK;
}

static exj_code write_all(int fd, const char *path, const char *p, size_t n, exj_err *err)
{
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return exj_err_set(err, EXJ_IO, "cannot write %.300s: %s", path, strerror(errno));
        p += w;
        n -= (size_t)w;
    }
    return EXJ_OK;
}

exj_code exj_tool_write(const char *path, exj_slice text, bool fresh, exj_err *err)
{
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (fresh ? O_EXCL : O_TRUNC);
    int fd = open(path, flags, 0666);
    exj_code rc;

    if (fd < 0)
        return exj_err_set(err, errno == EEXIST ? EXJ_CONFLICT : EXJ_IO,
                           "cannot write %.300s: %s", path, strerror(errno));
    rc = write_all(fd, path, text.p, text.n, err);
    if (close(fd) != 0 && rc == EXJ_OK)
        rc = exj_err_set(err, EXJ_IO, "cannot write %.300s: %s", path, strerror(errno));
    return rc;
}

exj_code exj_tool_read(const char *path, size_t most, exj_buf *ret, exj_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    exj_code rc = EXJ_OK;
    char part[65536];
    ssize_t n;

    if (fd < 0)
        return exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%.300s: %s", path,
                           strerror(errno));
    while (rc == EXJ_OK && (n = read(fd, part, sizeof(part))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = exj_err_set(err, EXJ_IO, "%.300s: %s", path, strerror(errno));
        else if (ret->n + (size_t)n > most)
            rc = exj_err_set(err, EXJ_INVALID, "%.300s: over %zu bytes", path, most);
        else if (!exj_buf_add(ret, part, (size_t)n))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    close(fd);
    return rc;
}

exj_code exj_tool_read_json(const char *path, json_t **ret, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc = exj_tool_read(path, EXJ_JSON_MAX_BYTES, &b, err);

    if (rc == EXJ_OK && (rc = exj_json_parse(exj_buf_slice(&b), ret, err)) != EXJ_OK)
        exj_err_prefix(err, "%.300s", path);
    exj_buf_release(&b);
    return rc;
}

exj_code exj_tool_write_json(const char *path, const json_t *value, exj_err *err)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    exj_code rc;

    if (!text)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    rc = exj_tool_write(path, exj_slice_of(text), false, err);
    free(text);
    return rc;
}

/* Beside, then renamed: a copy that somebody maps is never changed under him. */
exj_code exj_tool_copy(const char *from, const char *to, char ret_sha256[65], exj_err *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
    char beside[PATH_MAX], part[65536];
    exj_code rc = EXJ_OK;
    exj_sha256 sha;
    size_t total = 0;
    ssize_t n;

    if (in < 0)
        return exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%.300s: %s", from,
                           strerror(errno));
    snprintf(beside, sizeof(beside), "%s.new", to);
    out = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (out < 0)
        rc = exj_err_set(err, EXJ_IO, "cannot write %.300s: %s", beside, strerror(errno));
    exj_sha256_init(&sha);
    while (rc == EXJ_OK && (n = read(in, part, sizeof(part))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = exj_err_set(err, EXJ_IO, "%.300s: %s", from, strerror(errno));
        } else if ((total += (size_t)n) > PLUGIN_MAX_BYTES) {
            rc = exj_err_set(err, EXJ_INVALID, "%.300s: over 1 GiB", from);
        } else {
            exj_sha256_update(&sha, part, (size_t)n);
            rc = write_all(out, beside, part, (size_t)n, err);
        }
    }
    if (out >= 0 && close(out) != 0 && rc == EXJ_OK)
        rc = exj_err_set(err, EXJ_IO, "cannot write %.300s: %s", beside, strerror(errno));
    if (rc == EXJ_OK && rename(beside, to) != 0)
        rc = exj_err_set(err, EXJ_IO, "cannot write %.300s: %s", to, strerror(errno));
    if (rc == EXJ_OK)
        exj_sha256_final_hex(&sha, ret_sha256);
    close(in);
    return rc;
}

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

char *exj_tool_find_plugin(const exj_cli *c, const char *name)
{
    if (strchr(name, '/') || is_file(name))
        return is_file(name) ? realpath(name, NULL) : NULL;
    return exj_tool_find_installed(c, name);
}

char *exj_tool_find_installed(const exj_cli *c, const char *name)
{
    for (char **dir = c->settings.plugin_dirs; *dir; dir++)
        for (int so = 0; so < 2; so++) {
            char path[4200];

            snprintf(path, sizeof(path), "%s/%s%s", *dir, name, so ? ".so" : "");
            if (is_file(path))
                return realpath(path, NULL);
        }
    return NULL;
}
