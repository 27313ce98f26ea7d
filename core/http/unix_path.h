/* core/http/unix_path.h - Unix socket addresses of any length. Private to core/http.
 *
 * sun_path takes 107 bytes, a data directory may be deeper: then its folder is opened and
 * named through /proc/self/fd.
 */
#ifndef EXJ_CORE_HTTP_UNIX_PATH_H
#define EXJ_CORE_HTTP_UNIX_PATH_H

#include <sys/un.h>

#include "core/base/err.h"

/* *ret_dir_fd: -1, or open until the address was used; close it then.
 * Errors: EXJ_INVALID (even the file's name is too long), EXJ_NOT_FOUND (no such folder). */
exj_code exj_unix_address(const char *path, struct sockaddr_un *ret, int *ret_dir_fd,
                          exj_err *err);

#endif /* EXJ_CORE_HTTP_UNIX_PATH_H */
