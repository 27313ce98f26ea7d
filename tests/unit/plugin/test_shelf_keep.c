/* Copies that are kept for the way back. */
#include "core/plugin/shelf.h"

#include "core/base/sha256.h"
#include "tests/unit/plugin/folder.h"

#define NOW 1780000000000

static struct folder dir;
static exj_shelf *s;
static exj_err err;

static void begin(void)
{
    dir = folder_make();
    cr_assert_eq(exj_shelf_new(in(&dir, "plugins"), NULL, &s, &err), EXJ_OK, "%s", err.text);
}

static void end(void)
{
    exj_shelf_free(s);
    folder_drop(&dir);
}

TestSuite(shelf_keep, .init = begin, .fini = end);

#define OK(call) cr_assert_eq((exj_err_clear(&err), call), EXJ_OK, "%s", err.text)

static const char *sha_of(const char *text)
{
    static char shas[8][65];
    static unsigned next;
    char *sha = shas[next++ % 8];

    exj_sha256_hex(text, strlen(text), sha);
    return sha;
}

static void keep(const char *content, const char *family, exj_msec at)
{
    put(in(&dir, "file.so"), content);
    OK(exj_shelf_keep(s, in(&dir, "file.so"), sha_of(content), family, at, &err));
}

static bool is_kept(const char *content)
{
    char *path = exj_shelf_path_of(s, sha_of(content)), *now;
    bool same = false;

    if (path) {
        now = get(path);
        same = now && strcmp(now, content) == 0;
        cr_assert(same, "%s holds something else", path);
        free(now);
    }
    free(path);
    return same;
}

Test(shelf_keep, copy_outlives_the_file_and_the_process)
{
    struct stat st;

    cr_assert_not(is_kept("version 1"));
    keep("version 1", "shout", NOW);
    put(in(&dir, "file.so"), "overwritten");
    exj_shelf_free(s);
    cr_assert_eq(exj_shelf_new(in(&dir, "plugins"), NULL, &s, &err), EXJ_OK);
    cr_assert(is_kept("version 1"));
    {
        char *path = exj_shelf_path_of(s, sha_of("version 1"));

        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_mode & 0777u, 0600);
        free(path);
    }
}

Test(shelf_keep, content_that_is_not_what_was_said_is_refused_and_leaves_nothing)
{
    put(in(&dir, "file.so"), "one thing");
    exj_err_clear(&err);
    cr_assert_eq(exj_shelf_keep(s, in(&dir, "file.so"), sha_of("another"), "f", NOW, &err),
                 EXJ_CONFLICT);
    cr_assert_not_null(strstr(err.text, sha_of("one thing")), "%s", err.text);
    cr_assert_not(is_kept("another"));
    shell("[ -z \"$(ls -A '%s/plugins/kept')\" ]", dir.path);
    exj_err_clear(&err);
    cr_assert_eq(exj_shelf_keep(s, in(&dir, "none.so"), sha_of("x"), "f", NOW, &err), EXJ_NOT_FOUND);
    exj_err_clear(&err);
    cr_assert_eq(exj_shelf_keep(s, dir.path, sha_of("x"), "f", NOW, &err), EXJ_INVALID);
}

Test(shelf_keep, copy_that_was_lost_is_made_again)
{
    keep("text", "f", NOW);
    shell("rm '%s/plugins/kept/'*.so", dir.path);
    cr_assert_not(is_kept("text"));
    keep("text", "f", NOW);
    cr_assert(is_kept("text"));
}

Test(shelf_keep, prune_leaves_the_newest_of_each_family_and_the_pinned)
{
    size_t removed = 0;
    json_t *list = NULL;

    keep("a1", "a", NOW + 1);
    keep("a2", "a", NOW + 2);
    keep("a3", "a", NOW + 3);
    keep("a4", "a", NOW + 4);
    keep("b1", "b", NOW);
    keep("a2", "a", NOW + 5); /* used again: now the newest */
    OK(exj_shelf_pin(s, "acme.a", sha_of("a1"), NOW, &err));
    OK(exj_shelf_prune(s, 2, &removed, &err));
    cr_assert_eq(removed, 1);
    cr_assert(is_kept("a1") && is_kept("a2") && is_kept("a4") && is_kept("b1"));
    cr_assert_not(is_kept("a3"));
    OK(exj_shelf_kept(s, &list, &err));
    cr_assert_eq(json_array_size(list), 4);
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "sha256")),
                     sha_of("a2"));
    json_decref(list);
    OK(exj_shelf_pins(s, &list, &err));
    cr_assert_not_null(json_string_value(json_object_get(json_array_get(list, 0), "path")));
    json_decref(list);
    OK(exj_shelf_unpin(s, "acme.a", &err));
    OK(exj_shelf_prune(s, 0, &removed, &err));
    cr_assert_eq(removed, 4);
}

Test(shelf_keep, prune_removes_copies_that_no_list_names)
{
    size_t removed = 0;

    keep("kept", "f", NOW);
    shell("cd '%s/plugins/kept' && echo x > %s.so && echo x > note.txt", dir.path,
          sha_of("nobody's"));
    OK(exj_shelf_prune(s, 5, &removed, &err));
    cr_assert_eq(removed, 1);
    cr_assert(is_kept("kept"));
    shell("[ -f '%s/plugins/kept/note.txt' ]", dir.path);
}

Test(shelf_keep, nothing_is_pruned_while_the_pins_cannot_be_read)
{
    size_t removed = 7;

    keep("text", "f", NOW);
    put(in(&dir, "plugins/pins.json"), "{");
    exj_err_clear(&err);
    cr_assert_eq(exj_shelf_prune(s, 0, &removed, &err), EXJ_CORRUPT);
    cr_assert_eq(removed, 0);
    cr_assert(is_kept("text"));
}
