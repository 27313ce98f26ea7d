/* `plugin check`: the fixture is judged in a child; this very program is the child when its
 * first word is `check-child`. */
#include "tests/plugins/guests.h"

#include "core/plugin/check.h"

__attribute__((constructor)) static void be_the_child(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "check-child") == 0)
        _exit(exj_plugin_check_child(argv[2]));
}

static json_t *check(const char *file, unsigned timeout_ms)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    json_t *report = NULL;
    exj_err err = { 0 };

    cr_assert_gt(n, 0);
    self[n] = 0;
    cr_assert_eq(exj_plugin_check(self, "check-child", file, timeout_ms, &report, &err), EXJ_OK,
                 "%s", err.text);
    return report;
}

static bool has(const json_t *report, const char *level, const char *code, const char *part)
{
    size_t k;
    json_t *f;

    json_array_foreach(json_object_get(report, "findings"), k, f)
        if (strcmp(json_string_value(json_object_get(f, "level")), level) == 0 &&
            strcmp(json_string_value(json_object_get(f, "code")), code) == 0 &&
            strstr(json_string_value(json_object_get(f, "message")), part))
            return true;
    json_dumpf(report, stderr, JSON_INDENT(1));
    return false;
}

static json_t *check_built(const struct room *r, const char *name, unsigned timeout_ms)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s.so", r->dir, name);
    return check(path, timeout_ms);
}

Test(check, stub_passes)
{
    json_t *r = check(STUB_SO, 20000), *p;

    cr_assert(json_is_true(json_object_get(r, "ok")));
    cr_assert(has(r, "ok", "Exports", "exellix_plugin_v1 only"));
    cr_assert(has(r, "ok", "SampleCall", "exellix.stub"));
    cr_assert(has(r, "ok", "SelfTest", "passes"));
    p = json_array_get(json_object_get(r, "plugins"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(p, "id")), "exellix.stub");
    cr_assert_str_eq(json_string_value(json_object_get(p, "kind")), "graph-engine");
    cr_assert_eq(strlen(json_string_value(json_object_get(r, "sha256"))), 64);
    json_decref(r);
}

Test(check, crash_is_a_finding_with_the_signal_and_the_place)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "crash", "", ENGINE("0", "#include <signal.h>\n",
          "signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); return EXJ_R_OK;"));
    setenv("TMPDIR", room.dir, 1);
    r = check_built(&room, "crash", 20000);
    cr_assert(json_is_false(json_object_get(r, "ok")));
    cr_assert(has(r, "fail", "Crash", "SIGSEGV in execute of test.guest"));
    json_decref(r);
    /* the copies that the crash left are gone with their folder */
    shell("[ \"$(ls -d '%s'/exellix-* 2>/dev/null)\" = '' ]", room.dir);
    room_close(&room);
}

Test(check, endless_call_is_stopped)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "endless", "", ENGINE("0", "#include <unistd.h>\n", "for (;;) pause();"));
    r = check_built(&room, "endless", 1500);
    cr_assert(has(r, "fail", "TimeLimit", "in execute of test.guest"));
    json_decref(r);
    room_close(&room);
}

Test(check, exit_inside_a_plugin_is_a_finding)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "exits", "", ENGINE("0", "#include <unistd.h>\n", "_exit(0);"));
    r = check_built(&room, "exits", 20000);
    cr_assert(has(r, "fail", "Exit", "execute of test.guest"));
    json_decref(r);
    room_close(&room);
}

Test(check, misdeeds_wrong_answers_and_stray_exports_are_findings)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "status", "", ENGINE("0", "int stray_one; int stray_one = 1;",
          "puts(\"{\\\"finding\\\":{}}\"); h->emit(h->ctx, 99, exj_text(ok));"
          "return h->emit(h->ctx, c, exj_text(\"{\\\"status\\\":\\\"fine\\\"}\"));"));
    r = check_built(&room, "status", 20000);
    cr_assert(json_is_false(json_object_get(r, "ok")));
    cr_assert(has(r, "warn", "StrayExport", "stray_one"));
    cr_assert(has(r, "fail", "AnswerStatus", "fine"));
    cr_assert(has(r, "fail", "Misbehaves", "1 things"));
    json_decref(r);
    room_close(&room);
}

Test(check, refused_and_missing_files_are_findings)
{
    struct room room = room_open();
    json_t *r;

    shell("echo text > '%s/text.so'", room.dir);
    r = check_built(&room, "text", 20000);
    cr_assert(json_is_false(json_object_get(r, "ok")));
    cr_assert(has(r, "fail", "Refused", "text.so"));
    json_decref(r);
    r = check_built(&room, "absent", 20000);
    cr_assert(has(r, "fail", "Unreadable", "absent.so"));
    json_decref(r);
    room_close(&room);
}
