/* `plugin check` names every misdeed: one fixture a misdeed, each judged in a child with a
 * time limit, each with the finding that a person is told. This very program is the child
 * when its first word is `check-child`. */
#include "tests/plugins/guests.h"

#include "core/plugin/check.h"

#define SOON_MS 700
#define LONG_MS 20000

struct bad {
    const char *name, *flags, *source;
    const char *level, *code, *says;
    unsigned limit_ms;
};

__attribute__((constructor)) static void be_the_child(int argc, char **argv)
{
#ifdef EXJ_CHECK_LEVELS
    if (argc == 5 && strcmp(argv[1], "check-child") == 0)
        _exit(exj_plugin_check_child(argv[2], atoi(argv[3]), argv[4]));
#else
    if (argc == 3 && strcmp(argv[1], "check-child") == 0)
        _exit(exj_plugin_check_child(argv[2]));
#endif
}

static json_t *check(const char *file, unsigned timeout_ms)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    json_t *report = NULL;
    exj_err err = { 0 };

    cr_assert_gt(n, 0);
    self[n] = 0;
#ifdef EXJ_CHECK_LEVELS
    cr_assert_eq(exj_plugin_check(self, "check-child", file, EXJ_CHECK_LEVELS, NULL, timeout_ms,
                                  &report, &err), EXJ_OK, "%s", err.text);
#else
    cr_assert_eq(exj_plugin_check(self, "check-child", file, timeout_ms, &report, &err), EXJ_OK,
                 "%s", err.text);
#endif
    return report;
}

static bool finds(const json_t *report, const struct bad *b)
{
    size_t k;
    json_t *f;

    json_array_foreach(json_object_get(report, "findings"), k, f)
        if (strcmp(json_string_value(json_object_get(f, "level")), b->level) == 0 &&
            strcmp(json_string_value(json_object_get(f, "code")), b->code) == 0 &&
            strstr(json_string_value(json_object_get(f, "message")), b->says))
            return true;
    return false;
}

/* Each is built, checked, found out, and refused when its finding is a `fail`. */
static void all_found(const struct bad *cases, size_t n)
{
    struct room r = room_open();

    setenv("TMPDIR", r.dir, 1);
    for (size_t k = 0; k < n; k++) {
        const struct bad *b = &cases[k];
        char path[128];
        json_t *report;
        bool found, fails = strcmp(b->level, "fail") == 0;

        build(&r, b->name, b->flags ? b->flags : "", b->source);
        snprintf(path, sizeof path, "%s/%s.so", r.dir, b->name);
        report = check(path, b->limit_ms ? b->limit_ms : LONG_MS);
        found = finds(report, b);
        if (!found)
            json_dumpf(report, stderr, JSON_INDENT(1));
        cr_expect(found, "%s: wanted %s %s: %s", b->name, b->level, b->code, b->says);
        cr_expect_eq(json_is_false(json_object_get(report, "ok")), fails, "%s: ok is not %d",
                     b->name, !fails);
        json_decref(report);
    }
    /* nothing is left behind, whatever the child died of */
    shell("[ \"$(ls -d '%s'/exellix-* 2>/dev/null)\" = '' ]", r.dir);
    room_close(&r);
}
#define ALL_FOUND(cases) all_found(cases, sizeof(cases) / sizeof *(cases))

/* The engine that answers well, with members put over its own. */
#define WITH(more, hooks)                                                                   \
    PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", "0", more, "return " EMIT_OK ";", hooks)
#define BODY(body) ENGINE("0", "#include <signal.h>\n#include <unistd.h>\n", body)
/* A file whose bundle is what `bundle` says; p is a good plugin, ps holds it. */
#define BUNDLE(more, bundle)                                                                \
    "#include \"exellix/plugin.h\"\n"                                                       \
    "static exj_result create(const exj_host *h, exj_str c, void **i)"                      \
    "{ (void)c; *i = (void *)h; return 0; }\n"                                              \
    "static exj_result execute(void *i, exj_call c, const exj_args *a)"                     \
    "{ (void)i; (void)c; (void)a; return 0; }\n"                                            \
    "static void destroy(void *i) { (void)i; }\n"                                           \
    "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy), .kind = 1,"    \
    " .id = \"test.guest\", .version = \"1\", .create = create, .execute = execute,"        \
    " .destroy = destroy };\n"                                                              \
    "static const exj_plugin *const ps[] = { &p, &p };\n" more "\n"                         \
    "static const exj_bundle b = { .size_of = EXJ_SIZE(exj_bundle, plugins),"               \
    " .abi_minor = EXJ_ABI_MINOR, .n = 1, .plugins = ps, " bundle " };\n"                   \
    "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n"
#define NEVER_RUNS "#include <stdlib.h>\n__attribute__((constructor)) static void boom(void) { abort(); }\n"

Test(check_bad, a_good_plugin_is_not_found_guilty)
{
    static const struct bad cases[] = {
        { "good", NULL, WITH("", ""), "ok", "SampleCall", "answers an empty record", 0 },
        { "text", NULL, BODY("h->error(h->ctx, c, EXJ_R_INPUT, exj_text(\"No\\xff\"), exj_text(\"no \\xfe\"));"
                             "return EXJ_R_INPUT;"),
          "ok", "SampleCall", "refuses an empty record: No? no ?", 0 },
    };

    ALL_FOUND(cases);
}

Test(check_bad, identity_is_refused_before_any_code_runs)
{
    static const struct bad cases[] = {
        { "major", NULL, "#include \"exellix/plugin.h\"\n#undef EXJ_ABI_MAJOR\n#define EXJ_ABI_MAJOR 2u\n"
          NEVER_RUNS BUNDLE("", ""), "fail", "Refused", "ABI major: wanted 1, found 2", 0 },
        { "minor", NULL, "#include \"exellix/plugin.h\"\n#undef EXJ_ABI_MINOR\n#define EXJ_ABI_MINOR 99u\n"
          NEVER_RUNS BUNDLE("", ""), "fail", "Refused", "found 1.99", 0 },
        { "nonote", NULL, NEVER_RUNS "int exellix_plugin_v1(void); int exellix_plugin_v1(void) { return 0; }\n",
          "fail", "Refused", "no exellix note", 0 },
        { "nosymbol", "-fvisibility=hidden", "#define exellix_plugin_v1 some_other_name\n" BUNDLE("", ""),
          "fail", "Refused", "exports no exellix_plugin_v1", 0 },
        { "undefined", "-fvisibility=hidden", "extern int nowhere_at_all(void);\n"
          BUNDLE("int use(void); int use(void) { return nowhere_at_all(); }", ""),
          "fail", "Refused", "nowhere_at_all", 0 },
        { "textrel", "-Wl,-z,notext", BUNDLE("__asm__(\".text\\n.quad exellix_plugin_v1\\n\");", ""),
          "fail", "Refused", "text relocations", 0 },
    };

    ALL_FOUND(cases);
}

Test(check_bad, bundles_are_refused_with_the_field)
{
    static const struct bad cases[] = {
        { "nobundle", NULL, "#include \"exellix/plugin.h\"\n#define b *(const exj_bundle *)NULL\n"
          "EXJ_PLUGIN_EXPORT(b, 2u, 0)\n", "fail", "Refused", "returned NULL", 0 },
        { "short", NULL, BUNDLE("", ".size_of = 16"), "fail", "Refused", "bundle: size_of: wanted 24 or more, found 16", 0 },
        { "newer", NULL, BUNDLE("", ".abi_minor = 77"), "fail", "Refused", "bundle: ABI minor: wanted at most", 0 },
        { "empty", NULL, BUNDLE("", ".n = 0"), "fail", "Refused", "bundle: n: wanted 1 to", 0 },
        { "many", NULL, BUNDLE("", ".n = 100000"), "fail", "Refused", "found 100000", 0 },
        { "null", NULL, BUNDLE("", ".plugins = NULL"), "fail", "Refused", "plugins is NULL", 0 },
        { "hole", NULL, BUNDLE("static const exj_plugin *const none[] = { NULL };", ".plugins = none"),
          "fail", "Refused", "plugin 0 of the bundle is NULL", 0 },
        { "twins", NULL, BUNDLE("", ".n = 2"), "fail", "Refused", "two plugins are named test.guest", 0 },
    };

    ALL_FOUND(cases);
}

Test(check_bad, plugins_are_refused_with_the_member)
{
    static const struct bad cases[] = {
        { "size", NULL, WITH("", ".size_of = 8"), "fail", "Refused", "size_of: wanted 72 or more, found 8", 0 },
        { "half", NULL, WITH("", ".size_of = 76"), "fail", "Refused", "size_of: wanted the end of a member", 0 },
        { "create", NULL, WITH("", ".create = NULL"), "fail", "Refused", "create is NULL", 0 },
        { "execute", NULL, WITH("", ".execute = NULL"), "fail", "Refused", "execute is NULL", 0 },
        { "destroy", NULL, WITH("", ".destroy = NULL"), "fail", "Refused", "destroy is NULL", 0 },
        { "noid", NULL, WITH("", ".id = NULL"), "fail", "Refused", "id is NULL", 0 },
        { "upper", NULL, WITH("", ".id = \"Test.Guest\""), "fail", "Refused", "wanted [a-z0-9._-]", 0 },
        { "longid", NULL, WITH("", ".id = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""),
          "fail", "Refused", "id: wanted 1 to 64 bytes, found more", 0 },
        { "utf8", NULL, WITH("", ".id = \"caf\\xe9\""), "fail", "Refused", "0xe9", 0 },
        { "noversion", NULL, WITH("", ".version = NULL"), "fail", "Refused", "version is NULL", 0 },
        { "version", NULL, WITH("", ".version = \"1.\\xff\""), "fail", "Refused", "is not UTF-8", 0 },
        { "kind", NULL, WITH("", ".kind = 7"), "fail", "Refused", "kind: wanted 1", 0 },
        { "other", NULL, WITH("", ".kind = EXJ_KIND_SOURCE_RESOLVER"), "fail", "Refused", "not among those of the note", 0 },
        { "flags", NULL, WITH("", ".flags = 1u << 20"), "fail", "Refused", "flags: wanted some of", 0 },
        { "describe", NULL, WITH("", ".describe = EXJ_STR(\"{\\\"summary\\\":\")"), "fail", "Refused", "describe", 0 },
        { "list", NULL, WITH("", ".describe = EXJ_STR(\"[]\")"), "fail", "Refused", "wanted an object", 0 },
    };

    ALL_FOUND(cases);
}

/* A default action first: a sanitizer would turn the signal into a report of its own. */
#define SEGV "signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); "

Test(check_bad, crashes_are_named_with_the_signal_and_the_place)
{
    static const struct bad cases[] = {
        { "ctor", NULL, "#include <signal.h>\n" WITH("__attribute__((constructor)) static void boom(void)"
          "{ signal(SIGABRT, SIG_DFL); abort(); }", ""), "fail", "Crash", "SIGABRT in load", 0 },
        { "create", NULL, "#include <signal.h>\n" WITH("static exj_result die(const exj_host *h, exj_str s, void **i)"
          "{ (void)h; (void)s; (void)i; " SEGV "return 0; }", ".create = die"),
          "fail", "Crash", "SIGSEGV in create of test.guest", 0 },
        { "selftest", NULL, "#include <signal.h>\n" WITH("static exj_result die(void *i, exj_call c)"
          "{ (void)i; (void)c; " SEGV "return 0; }", ".self_test = die"),
          "fail", "Crash", "SIGSEGV in self_test of test.guest", 0 },
        { "destroy", NULL, "#include <signal.h>\n" WITH("static void die(void *i) { (void)i; " SEGV "}",
          ".destroy = die"), "fail", "Crash", "SIGSEGV in destroy of test.guest", 0 },
        { "stack", "-O0", ENGINE("0", "#include <signal.h>\nstatic int deep(volatile char *p)"
          "{ volatile char more[65536]; more[0] = p[0]; return deep(more) + more[1]; }",
          "char c0 = 1; signal(SIGSEGV, SIG_DFL); return deep(&c0);"),
          "fail", "Crash", "SIGSEGV in execute of test.guest", 0 },
        { "trap", NULL, BODY("signal(SIGILL, SIG_DFL); raise(SIGILL); return 0;"), "fail", "Crash",
          "SIGILL in execute", 0 },
        { "kill", NULL, BODY("kill(getpid(), SIGKILL); return 0;"), "fail", "Crash", "SIGKILL in execute", 0 },
        { "thread", NULL, ENGINE("0", "#include <signal.h>\nstatic void *die(void *p) { (void)p; " SEGV
          "return NULL; }", "pthread_t t; pthread_create(&t, NULL, die, NULL); pthread_join(t, NULL); return 0;"),
          "fail", "Crash", "SIGSEGV in execute", 0 },
#ifndef __SANITIZE_ADDRESS__ /* which would write the report that this is about */
        { "twice", "-O0", BODY("void *volatile p = malloc(64); free(p); free(p); return 0;"), "fail",
          "Crash", "SIGABRT in execute", 0 },
        { "null", "-O0", BODY("return *(volatile int *)NULL;"), "fail", "Crash", "SIGSEGV in execute", 0 },
#endif
    };

    ALL_FOUND(cases);
}

Test(check_bad, leaving_the_process_is_found)
{
    static const struct bad cases[] = {
        { "exits", NULL, BODY("_exit(0);"), "fail", "Exit", "status 0 in execute of test.guest", 0 },
        { "ctor", NULL, WITH("#include <unistd.h>\n__attribute__((constructor)) static void go(void)"
          "{ _exit(3); }", ""), "fail", "Exit", "status 3 in load", 0 },
        { "closes", NULL, BODY("for (int fd = 3; fd < 256; fd++) close(fd); return " EMIT_OK ";"), "fail",
          "Exit", "in execute of test.guest", 0 },
    };

    ALL_FOUND(cases);
}

#define FOREVER "for (;;) pause(); "

Test(check_bad, waiting_for_ever_is_stopped_and_named)
{
    static const struct bad cases[] = {
        { "ctor", NULL, WITH("#include <unistd.h>\n__attribute__((constructor)) static void go(void)"
          "{ " FOREVER "}", ""), "fail", "TimeLimit", "in load", SOON_MS },
        { "create", NULL, WITH("#include <unistd.h>\nstatic exj_result stay(const exj_host *h, exj_str s, void **i)"
          "{ (void)h; (void)s; (void)i; " FOREVER "return 0; }", ".create = stay"),
          "fail", "TimeLimit", "in create of test.guest", SOON_MS },
        { "selftest", NULL, WITH("#include <unistd.h>\nstatic exj_result stay(void *i, exj_call c)"
          "{ (void)i; (void)c; " FOREVER "return 0; }", ".self_test = stay"),
          "fail", "TimeLimit", "in self_test of test.guest", SOON_MS },
        { "pending", NULL, ENGINE("EXJ_FLAG_ASYNC", "", "return EXJ_R_PENDING;"), "fail", "TimeLimit",
          "in execute of test.guest", SOON_MS },
        { "deaf", NULL, BODY("signal(SIGTERM, SIG_IGN); signal(SIGALRM, SIG_IGN);" FOREVER), "fail",
          "TimeLimit", "in execute of test.guest", SOON_MS },
        { "destroy", NULL, WITH("#include <unistd.h>\nstatic void stay(void *i) { (void)i; " FOREVER "}",
          ".destroy = stay"), "fail", "TimeLimit", "in destroy of test.guest", SOON_MS },
    };

    ALL_FOUND(cases);
}

Test(check_bad, broken_rules_of_a_call_are_found)
{
    static const struct bad cases[] = {
        { "silent", NULL, BODY("return EXJ_R_OK;"), "fail", "SampleCall", "NoAnswer", 0 },
        { "nonsense", NULL, BODY("return 77;"), "fail", "SampleCall", "UnknownResult", 0 },
        { "unflagged", NULL, BODY("return EXJ_R_PENDING;"), "fail", "SampleCall", "PendingNotFlagged", 0 },
        { "completes", NULL, ENGINE("EXJ_FLAG_ASYNC", "", EMIT_OK "; h->complete(h->ctx, c, EXJ_R_OK);"
          "return EXJ_R_OK;"), "fail", "SampleCall", "DoubleCompletion", 0 },
        { "again", NULL, ENGINE("EXJ_FLAG_ASYNC", "", EMIT_OK "; h->complete(h->ctx, c, EXJ_R_OK);"
          "h->complete(h->ctx, c, EXJ_R_FAILED); return EXJ_R_PENDING;"), "fail", "Misbehaves", "things that the ABI forbids", 0 },
        { "twoanswers", NULL, BODY(EMIT_OK "; " EMIT_OK "; return EXJ_R_OK;"), "fail", "Misbehaves", "", 0 },
        { "madeup", NULL, BODY("h->emit(h->ctx, 99, exj_text(ok)); return " EMIT_OK ";"), "fail",
          "Misbehaves", "", 0 },
        { "late", NULL, WITH("static const exj_host *kept; static exj_call old;\n"
          "static exj_result run(void *i, exj_call c, const exj_args *a)"
          "{ const exj_host *h = i; (void)a; kept = h; old = c; return " EMIT_OK "; }\n"
          "static void late(void *i) { (void)i; if (kept) kept->emit(kept->ctx, old, exj_text(ok)); }",
          ".execute = run, .destroy = late"), "fail", "Misbehaves", "", 0 },
        { "huge", NULL, BODY("uint64_t n = 9u << 20; char *t = calloc(1, n); exj_str s; s.p = t; s.n = n;"
          "memset(t, ' ', n); h->emit(h->ctx, c, s); free(t); return EXJ_R_OK;"), "fail", "SampleCall",
          "AnswerTooLarge", 0 },
        { "notjson", NULL, BODY("return h->emit(h->ctx, c, exj_text(\"done!\"));"), "fail", "AnswerNotJson", "", 0 },
        { "bytes", NULL, BODY("return h->emit(h->ctx, c, exj_text(\"{\\\"status\\\":\\\"\\xff\\\"}\"));"),
          "fail", "AnswerNotJson", "", 0 },
        { "status", NULL, BODY("return h->emit(h->ctx, c, exj_text(\"{\\\"status\\\":\\\"fine\\\"}\"));"),
          "fail", "AnswerStatus", "fine", 0 },
        { "selftest", NULL, WITH("static exj_result no(void *i, exj_call c)"
          "{ const exj_host *h = i; h->error(h->ctx, c, EXJ_R_FAILED, exj_text(\"NoModel\"), exj_text(\"x.bin is gone\"));"
          "return EXJ_R_FAILED; }", ".self_test = no"), "fail", "SelfTest", "NoModel: x.bin is gone", 0 },
        { "nocreate", NULL, WITH("static exj_result no(const exj_host *h, exj_str s, void **i)"
          "{ (void)s; (void)i; h->error(h->ctx, 0, EXJ_R_INPUT, exj_text(\"NoModel\"), exj_text(\"set path\"));"
          "return EXJ_R_INPUT; }", ".create = no"), "warn", "CreateFails", "NoModel: set path", 0 },
        { "nodescribe", NULL, WITH("", ""), "warn", "NoDescription", "test.guest", 0 },
    };

    ALL_FOUND(cases);
}

Test(check_bad, wrong_records_of_a_resolver_are_found)
{
#define RESOLVER(body) PLUGIN_AROUND("EXJ_KIND_SOURCE_RESOLVER", "0", "", body, "")
#define YIELD(text) RESOLVER("return h->emit(h->ctx, c, exj_text(\"" text "\"));")
    static const struct bad cases[] = {
        { "good", NULL, YIELD("{\\\"id\\\":\\\"1\\\",\\\"record\\\":{}}"), "ok", "SampleCall", "yields 1 records", 0 },
        { "endless", NULL, RESOLVER("while (h->emit(h->ctx, c, exj_text("
          "\"{\\\"id\\\":\\\"1\\\",\\\"record\\\":{}}\")) == EXJ_R_OK) {} return EXJ_R_OK;"), "ok", "SampleCall",
          "yields 10 records", 0 },
        { "noid", NULL, YIELD("{\\\"record\\\":{}}"), "fail", "RecordWrong", "wanted", 0 },
        { "flat", NULL, YIELD("{\\\"id\\\":\\\"1\\\",\\\"record\\\":5}"), "fail", "RecordWrong", "wanted", 0 },
        { "list", NULL, YIELD("[]"), "fail", "RecordWrong", "wanted an object", 0 },
        { "cut", NULL, YIELD("{\\\"id\\\":"), "fail", "RecordWrong", "not valid JSON", 0 },
    };

    ALL_FOUND(cases);
}

Test(check_bad, what_hinders_unloading_is_found_in_the_file)
{
    static const struct bad cases[] = {
        { "stray", NULL, WITH("int stray_one; int stray_one = 1;", ""), "warn", "StrayExport", "stray_one", 0 },
        { "unique", NULL, WITH("__asm__(\".data\\n.globl only_one\\n.type only_one, @gnu_unique_object\\n"
          ".size only_one, 8\\nonly_one: .quad 0\\n.text\\n\");", ""), "warn", "GnuUnique", "", 0 },
        { "tls", "-ftls-model=initial-exec", WITH("__thread int mine; int *where(void);"
          "int *where(void) { return &mine; }", ""), "warn", "StaticTls", "", 0 },
    };

    ALL_FOUND(cases);
}
