/* Files that want to be plugins: the probe, which decides whether one may be loaded, and the lint.
 * Neither may read beyond the file, hang on it, or say what is no text.
 * options: -max_len=8192 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/plugin/bootstrap.h"
#include "core/plugin/guest.h"
#include "core/plugin/lint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void must_be_text(const char *s, size_t room)
{
    must(memchr(s, 0, room) != NULL && exj_utf8_is_valid(exj_slice_of(s)));
}

static void judge(int fd, size_t size)
{
    exj_probe p = { .abi_major = 99 };
    exj_err err = { 0 };
    exj_code rc = exj_probe_fd(fd, "it", &p, &err);

    if (rc) {
        must(rc == EXJ_INVALID && err.text[0] && p.abi_major == 99);
        return;
    }
    must(p.abi_major == EXJ_ABI_MAJOR && p.abi_minor <= EXJ_ABI_MINOR && p.kinds);
    must(p.bytes == size && strlen(p.sha256) == 64);
}

static void look(int fd)
{
    static exj_lint l;
    exj_err err = { 0 };
    exj_code rc = exj_lint_fd(fd, "it", &l, &err);
    unsigned worst = EXJ_RELOAD_CLOSABLE;
    bool fails = false;
    char why[40];

    if (rc) {
        must(rc == EXJ_INVALID && err.text[0]);
        return;
    }
    must(l.findings_len <= EXJ_LINT_FINDINGS_MAX && l.needed_len <= EXJ_LINT_NEEDED_MAX);
    for (unsigned i = 0; i < l.findings_len; i++) {
        const exj_lint_finding *f = &l.findings[i];

        must_be_text(f->message, sizeof f->message);
        must(f->level[0] && f->code[0] && f->fix);
        must(f->reload <= EXJ_RELOAD_ISOLATE_ONLY);
        worst = f->reload > worst ? f->reload : worst;
        fails |= strcmp(f->level, "fail") == 0;
    }
    must(l.reload == worst && l.fails == fails);
    for (unsigned i = 0; i < l.needed_len; i++)
        must_be_text(l.needed[i], sizeof l.needed[i]);
    for (size_t n = 1; n <= sizeof why; n += 13) {
        exj_lint_why(&l, why, n);
        must(memchr(why, 0, n) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    exj_probe p;
    char path[64];

    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    judge(fd, size);
    look(fd);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    exj_probe_bootstrap(path, &p, NULL);
    close(fd);
    return 0;
}
