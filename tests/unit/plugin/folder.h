/* tests/unit/plugin/folder.h - a temporary folder, and small files in it, for the tests of
 * this room, which link nothing else. */
#ifndef EXJ_TESTS_UNIT_PLUGIN_FOLDER_H
#define EXJ_TESTS_UNIT_PLUGIN_FOLDER_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
    char path[100];
};

static inline struct folder folder_make(void)
{
    const char *tmp = getenv("TMPDIR");
    struct folder f;

    snprintf(f.path, sizeof f.path, "%s/exj-unit-XXXXXX", tmp && strlen(tmp) < 60 ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(f.path));
    return f;
}

static int folder_drop_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static inline void folder_drop(const struct folder *f)
{
    nftw(f->path, folder_drop_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* "<folder>/<name>" in one of eight buffers that are used in turn. */
static inline const char *in(const struct folder *f, const char *name)
{
    static char buffers[8][300];
    static unsigned next;
    char *b = buffers[next++ % 8];

    snprintf(b, sizeof buffers[0], "%s/%s", f->path, name);
    return b;
}

__attribute__((unused)) static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f, "%s", path);
    cr_assert(fputs(text, f) >= 0);
    cr_assert_eq(fclose(f), 0);
}

/* owned; NULL when there is none */
__attribute__((unused)) static char *get(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t n = 0;

    if (!f)
        return NULL;
    if (getdelim(&text, &n, EOF, f) < 0) {
        free(text);
        text = strdup("");
    }
    fclose(f);
    return text;
}

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2), unused));
static void shell(const char *format, ...)
{
    char line[2000];
    va_list ap;

    va_start(ap, format);
    vsnprintf(line, sizeof line, format, ap);
    va_end(ap);
    cr_assert_eq(system(line), 0, "%s", line);
}

#endif /* EXJ_TESTS_UNIT_PLUGIN_FOLDER_H */
