/* `ffi verify`: the verifier is a program of its own, because it needs libdw and this one
 * does not. It lies beside this one. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "core/main/out.h"

#define VERIFIER "exellix-jobs-ffi-verify"

exj_exit exj_cmd_ffi_verify(exj_cli *c)
{
    char path[PATH_MAX + sizeof(VERIFIER)], json[] = "--json", no_dwarf[] = "--no-dwarf",
                                            end[] = "--", file[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    char *slash, *argv[6], **at = argv;

    if (n <= 0 || n >= PATH_MAX)
        return exj_fail(c, EXJ_EXIT_FAILED, "cannot tell where this program lies: %s",
                        strerror(errno));
    path[n] = '\0';
    slash = strrchr(path, '/');
    memcpy(slash ? slash + 1 : path, VERIFIER, sizeof(VERIFIER));
    if (strlen(c->args[0]) >= sizeof(file))
        return exj_fail(c, EXJ_EXIT_NOT_FOUND, "the name of the manifest has %zu bytes",
                        strlen(c->args[0]));
    strcpy(file, c->args[0]);
    *at++ = path;
    if (c->json)
        *at++ = json;
    if (c->flags[EXJ_CLI_NO_DWARF])
        *at++ = no_dwarf;
    *at++ = end;
    *at++ = file;
    *at = NULL;
    execv(path, argv);
    if (errno == ENOENT)
        return exj_fail(
            c, EXJ_EXIT_NOT_FOUND,
            "%s is not there; it is built where libdw (libdw-dev) is installed", path);
    return exj_fail(c, EXJ_EXIT_FAILED, "%s: %s", path, strerror(errno));
}
