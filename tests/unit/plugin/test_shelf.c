#include "core/plugin/shelf.h"

#include <pthread.h>

#include "tests/unit/plugin/folder.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define NOW 1780000000000

static struct folder dir;
static exj_shelf *s;
static exj_err err;

static exj_shelf *open_shelf(const char *folder)
{
    exj_shelf *ret = NULL;

    exj_err_clear(&err);
    cr_assert_eq(exj_shelf_new(folder, NULL, &ret, &err), EXJ_OK, "%s", err.text);
    return ret;
}

static void begin(void)
{
    dir = folder_make();
    s = open_shelf(in(&dir, "data/plugins"));
}

static void end(void)
{
    exj_shelf_free(s);
    folder_drop(&dir);
}

static void again(void)
{
    exj_shelf_free(s);
    s = open_shelf(in(&dir, "data/plugins"));
}

TestSuite(shelf, .init = begin, .fini = end);

#define OK(call) cr_assert_eq((exj_err_clear(&err), call), EXJ_OK, "%s", err.text)
#define FAILS(call, wanted, part)                                                           \
    do {                                                                                    \
        exj_err_clear(&err);                                                                \
        cr_assert_eq(call, wanted, "%s: %s", exj_code_name(err.code), err.text);              \
        cr_assert_not_null(strstr(err.text, part), "'%s' does not say '%s'", err.text, part); \
    } while (0)

static const char *text(const json_t *list, size_t k, const char *name)
{
    const char *t = json_string_value(json_object_get(json_array_get(list, k), name));

    cr_assert_not_null(t, "no %s in %zu", name, k);
    return t;
}

static bool trusted(const char *sha)
{
    bool yes = true;

    OK(exj_shelf_trust_has(s, sha, &yes, &err));
    return yes;
}

/* ---- trust ------------------------------------------------------------------------------- */

Test(shelf, trust_outlives_the_process_and_can_be_taken_back)
{
    json_t *list = NULL;

    cr_assert_not(trusted(A));
    OK(exj_shelf_trust_add(s, A, "acme.shout 1.0, built by CI", NOW, &err));
    OK(exj_shelf_trust_add(s, B, "other", NOW, &err));
    again();
    cr_assert(trusted(A) && trusted(B));
    OK(exj_shelf_trust_list(s, &list, &err));
    cr_assert_eq(json_array_size(list), 2);
    cr_assert_str_eq(text(list, 0, "sha256"), A);
    cr_assert_str_eq(text(list, 0, "name"), "acme.shout 1.0, built by CI");
    cr_assert_eq(strncmp(text(list, 0, "date"), "2026-05-28T", 11), 0);
    json_decref(list);
    OK(exj_shelf_trust_remove(s, A, &err));
    again();
    cr_assert(!trusted(A) && trusted(B));
    FAILS(exj_shelf_trust_remove(s, A, &err), EXJ_NOT_FOUND, A);
}

Test(shelf, trust_file_may_be_edited_and_keeps_its_comments)
{
    char *now;

    put(in(&dir, "data/plugins/trusted"), "# from the release page\n\n  " A "\t2026-01-31  two  words \n");
    cr_assert(trusted(A));
    OK(exj_shelf_trust_add(s, B, "b", NOW, &err));
    now = get(in(&dir, "data/plugins/trusted"));
    cr_assert_not_null(strstr(now, "# from the release page\n\n  " A), "%s", now);
    free(now);
    OK(exj_shelf_trust_remove(s, A, &err));
    now = get(in(&dir, "data/plugins/trusted"));
    cr_assert_not_null(strstr(now, "# from the release page\n\n" B), "%s", now);
    free(now);
}

Test(shelf, trust_adding_again_renews_name_and_date)
{
    json_t *list = NULL;

    OK(exj_shelf_trust_add(s, A, "one", NOW, &err));
    OK(exj_shelf_trust_add(s, A, "two", NOW, &err));
    OK(exj_shelf_trust_list(s, &list, &err));
    cr_assert_eq(json_array_size(list), 1);
    cr_assert_str_eq(text(list, 0, "name"), "two");
    json_decref(list);
}

Test(shelf, malformed_trust_file_trusts_nobody_and_names_the_line)
{
    static const struct {
        const char *line, *says;
    } bad[] = {
        { "AAAA", "line 3: does not begin with 64 digits" },
        { "zz" A, "line 3: does not begin with 64 digits" },
        { A, "line 3: the date" },
        { A " 2026-1-1 name", "line 3: the date" },
        { A " 2026-01-01", "line 3: the name" },
        { A " 2026-01-01 a\rb", "line 3: the name" },
        { A " 2026-01-01 \xff", "line 3: the name" },
        { B " 2026-01-01 twice", "line 3: a second line" },
    };

    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char all[1000];
        bool yes = true;

        snprintf(all, sizeof all, "%s 2026-01-01 fine\n# comment\n%s\n", B, bad[k].line);
        put(in(&dir, "data/plugins/trusted"), all);
        FAILS(exj_shelf_trust_has(s, B, &yes, &err), EXJ_INVALID, bad[k].says);
        cr_assert_not_null(strstr(err.text, dir.path), "%s", err.text);
        cr_assert_not(yes);
        FAILS(exj_shelf_trust_add(s, A, "name", NOW, &err), EXJ_INVALID, "line 3");
    }
    put(in(&dir, "data/plugins/trusted"), B " 2026-01-01 fine");
    cr_assert(trusted(B));
}

Test(shelf, trust_refuses_what_would_not_read_back)
{
    FAILS(exj_shelf_trust_add(s, "abc", "n", NOW, &err), EXJ_INVALID, "'abc' is no SHA-256");
    FAILS(exj_shelf_trust_add(s, A, "", NOW, &err), EXJ_INVALID, "name ''");
    FAILS(exj_shelf_trust_add(s, A, "two\nlines", NOW, &err), EXJ_INVALID, "name 'two");
    FAILS(exj_shelf_trust_add(s, A, " n", NOW, &err), EXJ_INVALID, "name ' n'");
    FAILS(exj_shelf_trust_add(s, A, NULL, NOW, &err), EXJ_INVALID, "name ''");
    cr_assert_null(get(in(&dir, "data/plugins/trusted")));
}

Test(shelf, trust_list_is_bounded)
{
    FILE *f = fopen(in(&dir, "data/plugins/trusted"), "w");

    for (unsigned k = 0; k < EXJ_SHELF_TRUSTED_MAX; k++)
        fprintf(f, "%064x 2026-01-01 n\n", k);
    fclose(f);
    FAILS(exj_shelf_trust_add(s, A, "n", NOW, &err), EXJ_FULL, "4096");
    shell("echo '%s 2026-01-01 n' >> '%s/data/plugins/trusted'", A, dir.path);
    {
        bool yes = true;

        FAILS(exj_shelf_trust_has(s, A, &yes, &err), EXJ_INVALID, "line 4097: more than 4096");
        cr_assert_not(yes);
    }
}

Test(shelf, file_that_others_may_write_to_is_refused)
{
    bool yes = true;

    OK(exj_shelf_trust_add(s, A, "n", NOW, &err));
    cr_assert_eq(chmod(in(&dir, "data/plugins/trusted"), 0666), 0);
    FAILS(exj_shelf_trust_has(s, A, &yes, &err), EXJ_REFUSED, "chmod 600");
    cr_assert_not(yes);
}

Test(shelf, two_holders_of_a_folder_see_each_others_changes)
{
    exj_shelf *other = open_shelf(in(&dir, "data/plugins"));
    char sha[65];

    cr_assert_not(trusted(A));
    OK(exj_shelf_trust_add(other, A, "n", NOW, &err));
    cr_assert(trusted(A));
    OK(exj_shelf_trust_add(s, B, "n", NOW, &err));
    OK(exj_shelf_trust_remove(other, A, &err));
    cr_assert(!trusted(A) && trusted(B));
    OK(exj_shelf_pin(other, "p", A, NOW, &err));
    OK(exj_shelf_pinned(s, "p", sha, &err));
    cr_assert_str_eq(sha, A);
    exj_shelf_free(other);
}

/* ---- the folder -------------------------------------------------------------------------- */

static unsigned mode_of(const char *path)
{
    struct stat st;

    cr_assert_eq(stat(path, &st), 0, "%s", path);
    return st.st_mode & 0777u;
}

Test(shelf, folder_and_files_are_for_their_owner_only)
{
    exj_shelf_event e = { .at = NOW, .id = "p", .event = EXJ_PE_LOADED };

    OK(exj_shelf_trust_add(s, A, "n", NOW, &err));
    OK(exj_shelf_pin(s, "p", A, NOW, &err));
    OK(exj_shelf_history_add(s, &e, &err));
    cr_assert_eq(mode_of(in(&dir, "data/plugins")), 0700);
    cr_assert_eq(mode_of(in(&dir, "data/plugins/trusted")), 0600);
    cr_assert_eq(mode_of(in(&dir, "data/plugins/pins.json")), 0600);
    cr_assert_eq(mode_of(in(&dir, "data/plugins/history/p.ndjson")), 0600);
    shell("chmod 755 '%s/data/plugins'", dir.path);
    again();
    cr_assert_eq(mode_of(in(&dir, "data/plugins")), 0700);
    /* nothing half-written is left */
    shell("[ -z \"$(find '%s/data' -name '*.new')\" ]", dir.path);
}

Test(shelf, folder_that_others_may_write_to_is_refused)
{
    exj_shelf *other = NULL;

    cr_assert_eq(mkdir(in(&dir, "open"), 0777), 0);
    cr_assert_eq(chmod(in(&dir, "open"), 0777), 0);
    FAILS(exj_shelf_new(in(&dir, "open"), NULL, &other, &err), EXJ_REFUSED, "chmod 700");
    put(in(&dir, "file"), "");
    FAILS(exj_shelf_new(in(&dir, "file/x"), NULL, &other, &err), EXJ_IO, "file/x");
    cr_assert_null(other);
}

Test(shelf, failed_write_changes_nothing)
{
    if (geteuid() == 0) /* root writes anyway: a folder in the way stops it too */
        cr_assert_eq(mkdir(in(&dir, "data/plugins/.trusted.new"), 0700), 0);
    else
        cr_assert_eq(chmod(in(&dir, "data/plugins"), 0500), 0);
    FAILS(exj_shelf_trust_add(s, A, "n", NOW, &err), EXJ_IO, "trusted");
    cr_assert_not(trusted(A));
    shell("chmod 700 '%s/data/plugins'; rm -rf '%s/data/plugins/.trusted.new'", dir.path, dir.path);
    OK(exj_shelf_trust_add(s, A, "n", NOW, &err));
    cr_assert(trusted(A));
}

/* ---- quarantine -------------------------------------------------------------------------- */

Test(shelf, crash_rule_is_k_within_t)
{
    static const exj_msec at[] = { 100, 300, 200, 1000, 1100, 5000 };

    cr_assert(exj_crash_rule(at, 6, 3, 200));
    cr_assert_not(exj_crash_rule(at, 6, 3, 199));
    cr_assert(exj_crash_rule(at, 6, 5, 1000));
    cr_assert_not(exj_crash_rule(at, 6, 6, 4899));
    cr_assert(exj_crash_rule(at, 6, 6, 4900));
    cr_assert(exj_crash_rule(at, 1, 1, 0));
    cr_assert_not(exj_crash_rule(at, 2, 3, 100000));
    cr_assert_not(exj_crash_rule(at, 0, 1, 100));
    cr_assert_not(exj_crash_rule(at, 6, 0, 100));
}

static bool crash(const char *sha, const char *id, exj_msec at)
{
    exj_shelf_crash c = { .sha256 = sha, .id = id, .version = "1.2", .signal = "SIGSEGV",
                          .backtrace = "#0 f\n#1 g \x01\n", .at = at };
    bool aside = false;

    OK(exj_shelf_crash_add(s, &c, &aside, &err));
    return aside;
}

static bool quarantined(const char *sha)
{
    bool yes = false;

    OK(exj_shelf_is_quarantined(s, sha, &yes, NULL, &err));
    return yes;
}

Test(shelf, five_crashes_in_a_minute_are_quarantine)
{
    json_t *list = NULL, *crashes;
    char *why = NULL;
    bool yes = false;

    for (int k = 0; k < 4; k++)
        cr_assert_not(crash(A, "acme.shout", NOW + k * 15000));
    cr_assert_not(crash(B, "acme.other", NOW));
    again();
    cr_assert_not(quarantined(A));
    cr_assert(crash(A, "acme.shout", NOW + 60000));
    again();
    OK(exj_shelf_is_quarantined(s, A, &yes, &why, &err));
    cr_assert(yes);
    cr_assert_str_eq(why, "5 crashes in 60000 ms, the last with SIGSEGV");
    free(why);
    cr_assert_not(quarantined(B));
    OK(exj_shelf_quarantine_list(s, &list, &err));
    cr_assert_eq(json_array_size(list), 1);
    cr_assert_str_eq(text(list, 0, "id"), "acme.shout");
    crashes = json_object_get(json_array_get(list, 0), "crashes");
    cr_assert_eq(json_array_size(crashes), 5);
    cr_assert_str_eq(text(crashes, 0, "backtrace"), "#0 f\n#1 g  \n");
    json_decref(list);
}

Test(shelf, slow_crashes_are_no_quarantine)
{
    for (int k = 0; k < 20; k++)
        cr_assert_not(crash(A, "p", NOW + k * 15001));
    cr_assert_not(quarantined(A));
}

Test(shelf, release_works_by_content_and_by_id_and_forgets_the_crashes)
{
    size_t n = 0;

    for (int k = 0; k < 5; k++) {
        crash(A, "acme.shout", NOW);
        crash(B, "acme.shout", NOW);
    }
    cr_assert(quarantined(A) && quarantined(B));
    OK(exj_shelf_release(s, A, &n, &err));
    cr_assert_eq(n, 1);
    cr_assert(!quarantined(A) && quarantined(B));
    cr_assert_not(crash(A, "acme.shout", NOW)); /* counting begins anew */
    OK(exj_shelf_quarantine(s, A, "acme.shout", "1.2", "by hand", NOW, &err));
    OK(exj_shelf_release(s, "acme.shout", &n, &err));
    cr_assert_eq(n, 2);
    again();
    cr_assert(!quarantined(A) && !quarantined(B));
    FAILS(exj_shelf_release(s, "acme.shout", &n, &err), EXJ_NOT_FOUND, "acme.shout");
}

Test(shelf, crashes_are_bounded_and_the_file_stays_small)
{
    struct stat st;
    exj_shelf_crash c = { .sha256 = A, .id = "p", .version = "1", .signal = "SIGABRT" };
    char *long_text = malloc(100001);
    json_t *list = NULL;

    memset(long_text, 'x', 100000);
    long_text[100000] = '\0';
    c.backtrace = long_text;
    for (int k = 0; k < 60; k++) {
        c.at = NOW + k * 100000;
        OK(exj_shelf_crash_add(s, &c, NULL, &err));
    }
    OK(exj_shelf_quarantine(s, A, "p", NULL, long_text, NOW, &err));
    OK(exj_shelf_quarantine_list(s, &list, &err));
    cr_assert_eq(json_array_size(json_object_get(json_array_get(list, 0), "crashes")),
                 EXJ_SHELF_K_MAX);
    json_decref(list);
    free(long_text);
    cr_assert_eq(stat(in(&dir, "data/plugins/quarantine.json"), &st), 0);
    cr_assert_lt(st.st_size, (off_t)(EXJ_SHELF_K_MAX + 2) * (EXJ_SHELF_BACKTRACE_MAX + 400));
}

Test(shelf, damaged_quarantine_is_an_error_and_everything_counts_as_quarantined)
{
    static const char *const bad[] = {
        "{\"version\":1,\"crashes\":[", "[]", "{\"version\":2,\"crashes\":[],\"quarantined\":[]}",
        "{\"version\":1,\"crashes\":{},\"quarantined\":[]}",
        "{\"version\":1,\"crashes\":[],\"quarantined\":[{\"sha256\":\"x\"}]}",
        "{\"version\":1,\"crashes\":[7],\"quarantined\":[]}",
    };

    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        bool yes = false;

        put(in(&dir, "data/plugins/quarantine.json"), bad[k]);
        FAILS(exj_shelf_is_quarantined(s, A, &yes, NULL, &err), EXJ_CORRUPT, "quarantine.json");
        cr_assert(yes, "%s", bad[k]);
    }
}

Test(shelf, too_large_a_k_is_refused)
{
    exj_shelf_config c = { .crashes = 33 };
    exj_shelf *other = NULL;

    FAILS(exj_shelf_new(NULL, &c, &other, &err), EXJ_INVALID, "at most 32");
}

/* ---- pins -------------------------------------------------------------------------------- */

Test(shelf, pins_outlive_the_process)
{
    char sha[65] = "x";
    json_t *list = NULL;

    OK(exj_shelf_pinned(s, "acme.shout", sha, &err));
    cr_assert_str_eq(sha, "");
    OK(exj_shelf_pin(s, "acme.shout", A, NOW, &err));
    OK(exj_shelf_pin(s, "acme.shout", B, NOW, &err));
    again();
    OK(exj_shelf_pinned(s, "acme.shout", sha, &err));
    cr_assert_str_eq(sha, B);
    OK(exj_shelf_pins(s, &list, &err));
    cr_assert_eq(json_array_size(list), 1);
    cr_assert(json_is_null(json_object_get(json_array_get(list, 0), "path")));
    json_decref(list);
    OK(exj_shelf_unpin(s, "acme.shout", &err));
    FAILS(exj_shelf_unpin(s, "acme.shout", &err), EXJ_NOT_FOUND, "acme.shout");
    FAILS(exj_shelf_pin(s, "", A, NOW, &err), EXJ_INVALID, "plugin id ''");
    FAILS(exj_shelf_pin(s, "p", "A", NOW, &err), EXJ_INVALID, "'A' is no SHA-256");
    put(in(&dir, "data/plugins/pins.json"), "{\"version\":1,\"pins\":{\"p\":{\"sha256\":3}}}");
    FAILS(exj_shelf_pinned(s, "p", sha, &err), EXJ_CORRUPT, "p: sha256: wanted a text");
    cr_assert_str_eq(sha, "");
}

/* ---- history ----------------------------------------------------------------------------- */

static void happened(const char *id, uint64_t generation, exj_plugin_event event)
{
    exj_shelf_event e = { .at = NOW + (exj_msec)generation, .id = id, .version = "1.0",
                          .sha256 = A, .generation = generation, .event = event, .why = "be\ncause" };

    OK(exj_shelf_history_add(s, &e, &err));
}

static json_t *history(const char *id, size_t limit)
{
    json_t *list = NULL;

    OK(exj_shelf_history(s, id, limit, &list, &err));
    return list;
}

static json_int_t generation(const json_t *list, size_t k)
{
    return json_integer_value(json_object_get(json_array_get(list, k), "generation"));
}

Test(shelf, history_is_read_newest_first)
{
    json_t *list, *details = json_pack("{s:i}", "differs", 3);
    exj_shelf_event e = { .at = NOW, .id = "p", .event = EXJ_PE_TRIAL, .details = details };

    happened("p", 1, EXJ_PE_LOADED);
    happened("p", 2, EXJ_PE_ROLLED_BACK);
    happened("q", 9, EXJ_PE_LOADED);
    OK(exj_shelf_history_add(s, &e, &err));
    json_decref(details);
    again();
    list = history("p", 0);
    cr_assert_eq(json_array_size(list), 3);
    cr_assert_str_eq(text(list, 0, "event"), "trial");
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(json_array_get(list, 0),
                                                                    "details"), "differs")), 3);
    cr_assert_str_eq(text(list, 1, "event"), "rolled-back");
    cr_assert_str_eq(text(list, 1, "why"), "be cause");
    cr_assert_eq(generation(list, 2), 1);
    json_decref(list);
    list = history("p", 2);
    cr_assert_eq(json_array_size(list), 2);
    cr_assert_eq(generation(list, 1), 2);
    json_decref(list);
    list = history("never seen", 0);
    cr_assert_eq(json_array_size(list), 0);
    json_decref(list);
}

Test(shelf, history_keeps_the_last_thousand_lines)
{
    json_t *list;

    for (unsigned k = 1; k <= 2600; k++)
        happened("p", k, EXJ_PE_CURRENT);
    list = history("p", 0);
    cr_assert_eq(json_array_size(list), EXJ_SHELF_HISTORY_MAX);
    cr_assert_eq(generation(list, 0), 2600);
    cr_assert_eq(generation(list, 999), 1601);
    json_decref(list);
    shell("[ $(wc -l < '%s/data/plugins/history/p.ndjson') -le 1251 ]", dir.path);
}

Test(shelf, history_survives_a_line_that_was_cut)
{
    json_t *list;

    happened("p", 1, EXJ_PE_LOADED);
    shell("printf '{\"at\":1,\"ev' >> '%s/data/plugins/history/p.ndjson'", dir.path);
    happened("p", 2, EXJ_PE_CURRENT);
    shell("printf '\\n\\n[]\\n{\"a\":1}\\n' >> '%s/data/plugins/history/p.ndjson'", dir.path);
    happened("p", 3, EXJ_PE_RETIRED);
    list = history("p", 0);
    cr_assert_eq(json_array_size(list), 3);
    for (size_t k = 0; k < 3; k++)
        cr_assert_eq(generation(list, k), (json_int_t)(3 - k));
    json_decref(list);
}

Test(shelf, history_of_an_odd_id_stays_in_its_folder)
{
    json_t *list;

    happened("../../escape", 1, EXJ_PE_LOADED);
    happened(".hidden", 2, EXJ_PE_LOADED);
    list = history("../../escape", 0);
    cr_assert_eq(json_array_size(list), 1);
    json_decref(list);
    shell("cd '%s/data/plugins/history' && [ -f '%%2E.%%2F..%%2Fescape.ndjson' ] && "
          "[ -f '%%2Ehidden.ndjson' ] && [ $(ls -A | wc -l) = 2 ]", dir.path);
}

Test(shelf, history_cuts_what_is_too_long)
{
    char *why = malloc(5001);
    json_t *details, *list;
    exj_shelf_event e = { .at = NOW, .id = "p", .why = why, .event = EXJ_PE_REFUSED };

    memset(why, 'y', 5000);
    why[5000] = '\0';
    details = json_pack("{s:s}", "text", why);
    e.details = details;
    OK(exj_shelf_history_add(s, &e, &err));
    list = history("p", 0);
    cr_assert_eq(strlen(text(list, 0, "why")), 1000);
    cr_assert_null(json_object_get(json_array_get(list, 0), "details"));
    json_decref(list);
    json_decref(details);
    free(why);
    e.sha256 = "short";
    FAILS(exj_shelf_history_add(s, &e, &err), EXJ_INVALID, "'short' is no SHA-256");
}

/* ---- in memory --------------------------------------------------------------------------- */

Test(shelf, without_a_folder_everything_but_copies_works)
{
    exj_shelf *m = open_shelf(NULL), *disk = s;
    json_t *list = NULL;
    char sha[65];
    size_t n = 7;

    s = m;
    OK(exj_shelf_trust_add(s, A, "n", NOW, &err));
    OK(exj_shelf_trust_add(s, B, "n", NOW, &err));
    OK(exj_shelf_trust_remove(s, B, &err));
    cr_assert(trusted(A) && !trusted(B));
    for (int k = 0; k < 5; k++)
        crash(A, "p", NOW);
    cr_assert(quarantined(A));
    OK(exj_shelf_release(s, "p", NULL, &err));
    OK(exj_shelf_pin(s, "p", B, NOW, &err));
    OK(exj_shelf_pinned(s, "p", sha, &err));
    cr_assert_str_eq(sha, B);
    for (unsigned k = 1; k <= 1100; k++)
        happened("p", k, EXJ_PE_LOADED);
    list = history("p", 0);
    cr_assert_eq(json_array_size(list), 1000);
    cr_assert_eq(generation(list, 0), 1100);
    json_decref(list);
    FAILS(exj_shelf_keep(s, "/dev/null", A, "p", NOW, &err), EXJ_UNSUPPORTED, "data folder");
    cr_assert_null(exj_shelf_path_of(s, A));
    OK(exj_shelf_prune(s, 0, &n, &err));
    cr_assert_eq(n, 0);
    s = disk;
    exj_shelf_free(m);
}

/* ---- threads ----------------------------------------------------------------------------- */

static void *busy(void *user)
{
    const char *id = user;

    for (unsigned k = 1; k <= 30; k++) {
        exj_shelf_event e = { .at = NOW, .id = "all", .generation = k, .event = EXJ_PE_TRIAL };
        exj_shelf_crash c = { .sha256 = A, .id = id, .version = "", .signal = "", .at = NOW + k * 70000 };

        if (exj_shelf_history_add(s, &e, NULL) || exj_shelf_pin(s, id, A, NOW, NULL) ||
            exj_shelf_crash_add(s, &c, NULL, NULL))
            return user;
    }
    return NULL;
}

Test(shelf, threads_lose_nothing)
{
    char ids[4][8];
    pthread_t t[4];
    json_t *list;
    void *failed;

    for (int k = 0; k < 4; k++) {
        snprintf(ids[k], sizeof ids[k], "id%d", k);
        cr_assert_eq(pthread_create(&t[k], NULL, busy, ids[k]), 0);
    }
    for (int k = 0; k < 4; k++) {
        pthread_join(t[k], &failed);
        cr_assert_null(failed);
    }
    list = history("all", 0);
    cr_assert_eq(json_array_size(list), 120);
    json_decref(list);
    OK(exj_shelf_pins(s, &list, &err));
    cr_assert_eq(json_array_size(list), 4);
    json_decref(list);
}
