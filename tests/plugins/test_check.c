/* `plugin check`: the fixture is judged in a child; this very program is the child when its
 * first word is `check-child`. */
#include "tests/plugins/guests.h"

#include "core/plugin/check.h"

__attribute__((constructor)) static void be_the_child(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "check-child") == 0)
        _exit(exj_plugin_check_child(argv[2], atoi(argv[3]), argv[4]));
}

static json_t *check_at(const char *file, int level, unsigned timeout_ms)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    json_t *report = NULL;
    exj_err err = { 0 };

    cr_assert_gt(n, 0);
    self[n] = 0;
    cr_assert_eq(exj_plugin_check(self, "check-child", file, level, NULL, timeout_ms, &report, &err),
                 EXJ_OK, "%s", err.text);
    return report;
}

static json_t *check(const char *file, unsigned timeout_ms)
{
    return check_at(file, EXJ_CHECK_LEVELS, timeout_ms);
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
    cr_assert(has(r, "fail", "Misbehaves", "things that the ABI forbids"));
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

/* ---- grades ------------------------------------------------------------------------------ */

static int highest_grade(const json_t *report)
{
    int most = 0;
    size_t k;
    json_t *f;

    json_array_foreach(json_object_get(report, "findings"), k, f)
        if (json_integer_value(json_object_get(f, "grade")) > most)
            most = (int)json_integer_value(json_object_get(f, "grade"));
    return most;
}

Test(check, each_level_asks_more_and_no_more)
{
    for (int level = 1; level <= EXJ_CHECK_LEVELS; level++) {
        json_t *r = check_at(STUB_SO, level, 20000);

        cr_assert(json_is_true(json_object_get(r, "ok")));
        cr_assert_eq(json_integer_value(json_object_get(r, "level")), level);
        cr_assert_eq(highest_grade(r), level);
        json_decref(r);
    }
}

Test(check, level_1_runs_none_of_its_code)
{
    struct room room = room_open();
    char path[128];
    json_t *r;

    build(&room, "early", "", ENGINE("0", "#include <signal.h>\n__attribute__((constructor)) "
          "static void early(void) { signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); }",
          "return EXJ_R_OK;"));
    snprintf(path, sizeof path, "%s/early.so", room.dir);
    r = check_at(path, 1, 20000);
    cr_assert(json_is_true(json_object_get(r, "ok")));
    json_decref(r);
    r = check_at(path, 2, 20000);
    cr_assert(has(r, "fail", "Crash", "SIGSEGV in load"));
    json_decref(r);
    room_close(&room);
}

/* An engine whose create, or what else `hooks` names, is the one in `more`. */
#define WITH(flags, more, body, hooks)                                                      \
    PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", flags, more, body, hooks)

Test(check, what_create_leaves_behind_is_a_finding)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "leaks", "",
          WITH("0",
               "#include <unistd.h>\n"
               "static void *wait_for_ever(void *arg) { (void)arg; for (;;) pause(); }\n"
               "static exj_result leaky(const exj_host *h, exj_str config, void **i) {\n"
               "char *p = malloc(65536); static int n; pthread_t t; (void)config;\n"
               "if (!p || dup(2) < 0) return EXJ_R_RETRY; memset(p, n, 65536);\n"
               "if (n++ == 50) pthread_create(&t, NULL, wait_for_ever, NULL);\n"
               "*i = (void *)h; return EXJ_R_OK; }",
               "return " EMIT_OK ";", ".create = leaky,"));
    r = check_built(&room, "leaks", 20000);
    cr_assert(has(r, "warn", "KeepsDescriptors", "90 file descriptors"));
    cr_assert(has(r, "warn", "KeepsThreads", "leaves 1 threads"));
    cr_assert(has(r, "warn", "KeepsMemory", "KiB"));
    json_decref(r);
    room_close(&room);
}

Test(check, create_that_succeeds_only_once_is_a_finding)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "once", "",
          WITH("0",
               "static exj_result once(const exj_host *h, exj_str config, void **i) {\n"
               "static int n; (void)config; *i = (void *)h;\n"
               "return n++ < 3 ? EXJ_R_OK : EXJ_R_FAILED; }",
               "return " EMIT_OK ";", ".create = once,"));
    r = check_built(&room, "once", 20000);
    cr_assert(has(r, "fail", "CreateAgain", "create number 3"));
    json_decref(r);
    room_close(&room);
}

Test(check, a_description_that_is_no_json_object_is_a_finding)
{
    static const struct {
        const char *describe, *level, *code;
    } cases[] = {
        { "{\\\"summary\\\":\\\"x\\\",", "fail", "Refused" },
        { "{\\\"summary\\\":\\\"x\\\",\\\"summary\\\":\\\"y\\\"}", "fail", "DescribeNotJson" },
        { "{\\\"summary\\\":\\\"x\\\",\\\"config\\\":7}", "fail", "DescribeForm" },
        { "{\\\"config\\\":{}}", "warn", "NoSummary" },
    };
    struct room room = room_open();

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char source[6000], name[16];
        json_t *r;

        snprintf(source, sizeof source,
                 "#define SAID \"%s\"\n" WITH("0", "", "return " EMIT_OK ";",
                                             ".describe = EXJ_STR(SAID),"),
                 cases[k].describe);
        snprintf(name, sizeof name, "said%zu", k);
        build(&room, name, "", source);
        r = check_built(&room, name, 20000);
        cr_assert(has(r, cases[k].level, cases[k].code, "test.guest"), "%s", cases[k].describe);
        json_decref(r);
    }
    room_close(&room);
}

Test(check, wrong_input_that_crashes_or_gets_no_answer_is_a_finding)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "trusts", "", ENGINE("0", "#include <signal.h>\n",
          "exj_str in; if (!exj_json_find(a->runtime, \"input\", &in)) "
          "{ signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); } return " EMIT_OK ";"));
    r = check_built(&room, "trusts", 20000);
    cr_assert(has(r, "ok", "SampleCall", ""));
    cr_assert(has(r, "fail", "Crash", "SIGSEGV in wrong input of test.guest"));
    json_decref(r);
    build(&room, "silent", "", ENGINE("0", "",
          "exj_str in, n; if (exj_json_find(a->runtime, \"input\", &in) && "
          "exj_json_find(in, \"name\", &n)) return EXJ_R_OK; return " EMIT_OK ";"));
    r = check_built(&room, "silent", 20000);
    cr_assert(has(r, "fail", "WrongInput", "with wrong input 2: NoAnswer"));
    json_decref(r);
    room_close(&room);
}

Test(check, a_call_that_does_not_stop_when_asked_is_a_finding)
{
    struct room room = room_open();
    json_t *r;

    build(&room, "deaf", "", ENGINE("0", "",
          "if (h->cancelled(h->ctx, c)) { struct timespec t = { 1, 100000000 };"
          " nanosleep(&t, NULL); } return " EMIT_OK ";"));
    r = check_built(&room, "deaf", 20000);
    cr_assert(json_is_true(json_object_get(r, "ok")));
    cr_assert(has(r, "warn", "Cancel", "ms to end a call that was cancelled"));
    cr_assert(has(r, "warn", "Deadline", "ms to end a call that was late"));
    json_decref(r);
    build(&room, "endless", "", ENGINE("0", "",
          "if (h->cancelled(h->ctx, c)) for (;;) { struct timespec t = { 1, 0 };"
          " nanosleep(&t, NULL); } return " EMIT_OK ";"));
    r = check_built(&room, "endless", 1500);
    cr_assert(has(r, "fail", "TimeLimit", "in a cancelled call of test.guest"));
    json_decref(r);
    room_close(&room);
}

Test(check, calls_at_once_that_fail_are_a_finding)
{
    struct room room = room_open();
    json_t *r;

    /* The second of two that meet gives no answer. */
    build(&room, "alone", "", ENGINE("EXJ_FLAG_CONCURRENT", "static int inside;",
          "struct timespec t = { 0, 1000000 }; exj_result r = EXJ_R_OK;"
          "if (__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST) == 0)"
          " { nanosleep(&t, NULL); r = " EMIT_OK "; }"
          "__atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST); return r;"));
    r = check_built(&room, "alone", 20000);
    cr_assert(has(r, "fail", "Concurrent", "fail that succeed alone"));
    json_decref(r);
    room_close(&room);
}
