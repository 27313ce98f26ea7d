/* How a plugin's file is called, however it was named. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/plugin/plugin.h"

static char dir[64], file[100], link_path[100];

static void setup(void)
{
    FILE *f;

    snprintf(dir, sizeof dir, "/tmp/exj-source-XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/a.so", dir);
    snprintf(link_path, sizeof link_path, "%s/b.so", dir);
    f = fopen(file, "w");
    cr_assert(f && fclose(f) == 0);
    cr_assert_eq(symlink("a.so", link_path), 0);
    cr_assert_eq(chdir(dir), 0);
}

static void teardown(void)
{
    cr_assert_eq(chdir("/"), 0);
    unlink(link_path);
    unlink(file);
    rmdir(dir);
}

TestSuite(source, .init = setup, .fini = teardown);

static void expect(const char *path, const char *wanted)
{
    char *s = exj_plugin_source(path);

    cr_assert_not_null(s, "%s", path);
    cr_expect_str_eq(s, wanted);
    free(s);
}

Test(source, is_absolute_and_plain)
{
    char path[200];

    expect(file, file);
    expect("a.so", file);
    expect("./a.so", file);
    expect(".//././a.so", file);
    snprintf(path, sizeof path, "/%s/.//./a.so", dir);
    expect(path, file);
}

Test(source, does_not_follow_a_link)
{
    expect("b.so", link_path);
    expect(link_path, link_path);
}

Test(source, is_none_of_what_is_not_there)
{
    cr_expect_null(exj_plugin_source("none.so"));
    cr_expect_eq(errno, ENOENT);
    cr_expect_null(exj_plugin_source("a.so/b.so"));
    cr_expect_eq(errno, ENOTDIR);
    cr_assert_eq(unlink(file), 0);
    cr_expect_null(exj_plugin_source("b.so"), "a link that leads nowhere");
}
