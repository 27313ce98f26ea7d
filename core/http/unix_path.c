#include "core/http/unix_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

exj_code exj_unix_address(const char *path, struct sockaddr_un *ret, int *ret_dir_fd,
                          exj_err *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(path);
    char *dir;

    *ret_dir_fd = -1;
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    if (n > 0 && n < sizeof ret->sun_path) {
        memcpy(ret->sun_path, path, n + 1);
        return EXJ_OK;
    }
    /* "/proc/self/fd/" and ten digits leave this much */
    if (!name[0] || !slash || strlen(name) > sizeof ret->sun_path - 27)
        return exj_err_set(err, EXJ_INVALID, "\"%s\" cannot be a socket's path", path);
    dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!dir)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    *ret_dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (*ret_dir_fd < 0)
        return exj_err_set(err, EXJ_NOT_FOUND, "%s: %s", path, strerror(errno));
    snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%.80s", *ret_dir_fd, name);
    return EXJ_OK;
}
