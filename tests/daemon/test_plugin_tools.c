/* The commands of plugin authors, through the real program: what `plugin new` writes builds
 * and passes, `plugin bench` measures, `plugin replay` gives a row again what it had. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/daemon/cli_support.h"

static void tools_setup(void)
{
    static char plugins[400];

    cli_setup();
    cr_assert_eq(mkdir(exj_tmp_path(&tmp, "plugins"), 0700), 0);
    snprintf(plugins, sizeof(plugins),
             "EXELLIX_JOBS_PLUGINS_DIR=%s:" EXJ_BINARY_DIR "/tests/plugins",
             exj_tmp_path(&tmp, "plugins"));
    env[1] = plugins;
}

TestSuite(plugin_tools, .init = tools_setup, .fini = cli_teardown);

/* A shell command in the test's folder, with our own HOME (cargo's toolchain is found by it).
 * Its output is shown when it fails. */
static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *format, ...)
{
    char command[1500], line[2000];
    va_list ap;
    int rc;

    va_start(ap, format);
    vsnprintf(command, sizeof(command), format, ap);
    va_end(ap);
    setenv("EXELLIX_JOBS", PROGRAM, 1);
    setenv("TMPDIR", tmp.path, 1);
    snprintf(line, sizeof(line), "cd '%s' && (%s) >shell.log 2>&1", tmp.path, command);
    rc = system(line);
    if (rc != 0) {
        char *said = exj_slurp(exj_tmp_path(&tmp, "shell.log"), NULL);

        fprintf(stderr, "%s\n", said);
        free(said);
    }
    cr_assert_eq(rc, 0, "%s: %d", command, rc);
}

static bool holds(const char *name, const char *part)
{
    char *text = exj_slurp(exj_tmp_path(&tmp, name), NULL);
    bool found = strstr(text, part) != NULL;

    free(text);
    return found;
}

#define expect_in(name, part) cr_expect(holds(name, part), "%s: wanted \"%s\"", name, part)

static const char *said_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "(none)";
}

static int64_t said_number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* ---- plugin new -------------------------------------------------------------------------- */

static void new_builds_and_passes(const char *kind, const char *lang)
{
    cr_assert_eq(RUN("plugin", "new", kind, "acme.first-1", "--lang", lang), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "acme.first-1/Makefile\n"), "%s", said_out);
    cr_expect_not_null(strstr(said_err, "make && make test"), "%s", said_err);
    shell("cd acme.first-1 && make");
    cr_expect_eq(access(exj_tmp_path(&tmp, "acme.first-1/acme.first-1.so"), R_OK), 0);
    cr_expect(!holds("shell.log", "warning"), "a new plugin compiles without a warning");
    shell("cd acme.first-1 && make test");
    expect_in("shell.log", "SampleCall");
    shell("cd acme.first-1 && make install PLUGINS_DIR=../plugins");
    cr_assert_eq(RUN("plugin", "inspect", "acme.first-1"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, strcmp(kind, "engine") == 0 ? "graph-engine"
                                                                    : "source-resolver"));
    cr_expect(!holds("acme.first-1/README.md", "@"), "every word of the template is filled");
}

Test(plugin_tools, a_new_engine_in_c_builds_and_passes_its_test)
{
    new_builds_and_passes("engine", "c");
}

Test(plugin_tools, a_new_resolver_in_c_builds_and_passes_its_test)
{
    new_builds_and_passes("resolver", "c");
}

Test(plugin_tools, a_new_engine_in_cxx_builds_and_passes_its_test)
{
    new_builds_and_passes("engine", "c++");
}

Test(plugin_tools, a_new_resolver_in_cxx_builds_and_passes_its_test)
{
    new_builds_and_passes("resolver", "c++");
}

static void needs_cargo(void)
{
    if (system("cargo --version >/dev/null 2>&1") != 0) {
        fprintf(stderr, "SKIPPED: no cargo here: new plugins in Rust are not built\n");
        cr_skip_test("no cargo here: new plugins in Rust are not built");
    }
}

Test(plugin_tools, a_new_engine_in_rust_builds_and_passes_its_test)
{
    needs_cargo();
    new_builds_and_passes("engine", "rust");
}

Test(plugin_tools, a_new_resolver_in_rust_builds_and_passes_its_test)
{
    needs_cargo();
    new_builds_and_passes("resolver", "rust");
}

Test(plugin_tools, the_test_of_a_new_plugin_can_fail)
{
    cr_assert_eq(RUN("plugin", "new", "engine", "acme.wrong"), 0, "%s", said_err);
    shell("cd acme.wrong && sed -i 's/\"completed\"/\"done\"/' plugin.c && ! make unit");
    expect_in("shell.log", "not so: exj_json_find(answer, \"status\"");
    shell("cd acme.wrong && make && ! make test");
}

Test(plugin_tools, a_new_engine_and_a_new_resolver_work_together)
{
    json_t *o;

    cr_assert_eq(RUN("plugin", "new", "engine", "acme.hello"), 0, "%s", said_err);
    cr_assert_eq(RUN("plugin", "new", "resolver", "acme.names", "--dir=names/src"), 0, "%s",
                 said_err);
    shell("make -C acme.hello install PLUGINS_DIR=../plugins && "
          "make -C names/src install PLUGINS_DIR=../../plugins");
    exj_spit(exj_tmp_path(&tmp, "c.json"),
             "[{\"graphId\":\"hello\",\"payload\":{\"graphId\":\"hello\"},"
             "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"},"
             "{\"matrixCatalogId\":\"names\",\"payload\":{\"input\":{\"names\":[\"Ada\","
             "\"Grace\"]},\"graphs\":[\"hello\"],\"dataSource\":{\"kind\":\"record\","
             "\"resolver\":\"acme.names\"}}}]");
    cr_assert_eq(RUN("apply", "-f", "c.json"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle", "--executor", "acme.hello", "--json"), 0, "%s",
                 said_err);
    o = said_json();
    cr_expect_eq(said_number(o, "completed"), 2);
    json_decref(o);
    cr_assert_eq(RUN("rows", "show", "names||hello|Ada"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "greeted"), "%s", said_out);
}

Test(plugin_tools, new_refuses_names_kinds_languages_and_full_folders)
{
    static const struct {
        const char *args[8];
        int status;
        const char *part;
    } cases[] = {
        { { "plugin", "new", "engine", "Acme" }, 2, "name 'Acme': wanted 1 to 64" },
        { { "plugin", "new", "engine", "a/b" }, 2, "name 'a/b'" },
        { { "plugin", "new", "engine", "" }, 2, "name ''" },
        { { "plugin", "new", "engine", ".." }, 2, "name '..'" },
        { { "plugin", "new", "engine",
            "a2345678901234567890123456789012345678901234567890123456789012345" }, 2, "1 to 64" },
        { { "plugin", "new", "motor", "a" }, 2, "kind 'motor': wanted engine or resolver" },
        { { "plugin", "new", "engine", "a", "--lang", "go" }, 2, "--lang=go: wanted c, c++ or" },
        { { "plugin", "new", "engine", "a", "--dir=" }, 2, "--dir" },
        { { "plugin", "new", "engine" }, 2, "'plugin new' needs engine|resolver NAME" },
        { { "plugin", "new", "engine", "a", "--dir", "plugins" }, 5, "not empty" },
        { { "plugin", "new", "engine", "a", "--dir", "file" }, 5, "no folder" },
        { { "plugin", "new", "engine", "a", "--dir", "file/a" }, 5, "file/a" },
        { { "plugin", "new", "engine", "a", "--dir", "/proc/a" }, 1, "cannot make the folder /proc/a" },
    };

    exj_spit(exj_tmp_path(&tmp, "plugins/x"), "");
    exj_spit(exj_tmp_path(&tmp, "file"), "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        expect_refusal(run_args(cases[i].args), cases[i].status, cases[i].part);
    cr_expect_neq(access(exj_tmp_path(&tmp, "a"), F_OK), 0, "a refusal makes no folder");
}

Test(plugin_tools, new_takes_an_empty_folder_and_answers_json)
{
    json_t *o;

    cr_assert_eq(mkdir(exj_tmp_path(&tmp, "empty"), 0700), 0);
    cr_assert_eq(RUN("plugin", "new", "resolver", "9lives", "--lang=rust", "--dir=empty", "--json"),
                 0, "%s", said_err);
    o = said_json();
    cr_expect_str_eq(said_text(o, "dir"), "empty");
    cr_expect_gt(json_array_size(json_object_get(o, "files")), 5);
    json_decref(o);
    expect_in("empty/Cargo.toml", "name = \"plugin-9lives\"");
    cr_expect_str_empty(said_err);
}

/* ---- plugin bench ------------------------------------------------------------------------- */

Test(plugin_tools, bench_measures_a_small_and_a_large_record)
{
    json_t *o, *runs;

    cr_assert_eq(RUN("plugin", "bench", "stub", "--calls", "50", "--json", "--lane", "in-process"),
                 0, "%s", said_err);
    o = said_json();
    runs = json_object_get(o, "runs");
    cr_expect_str_eq(said_text(o, "id"), "exellix.stub");
    cr_assert_eq(json_array_size(runs), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *run = json_array_get(runs, i);
        double p50 = json_number_value(json_object_get(run, "p50us"));

        cr_expect_eq(said_number(run, "bytes"), i ? 65536 : 300);
        cr_expect_str_eq(said_text(run, "lane"), "in-process");
        cr_expect_eq(said_number(run, "calls"), 50);
        cr_expect_eq(said_number(run, "failed"), 0);
        cr_expect_gt(json_number_value(json_object_get(run, "callsPerSecond")), 0);
        cr_expect_gt(p50, 0);
        cr_expect_geq(json_number_value(json_object_get(run, "p99us")), p50);
    }
    json_decref(o);
    cr_assert_eq(RUN("plugin", "bench", "stub", "--calls=20", "--lane=in-process", "--record",
                     "{\"a\":1}"), 0);
    cr_expect_eq(strncmp(said_out, "in-process\t7\t20\t", 16), 0, "%s", said_out);
    exj_spit(exj_tmp_path(&tmp, "r.json"), "{\"a\":12}");
    cr_assert_eq(RUN("plugin", "bench", "stub", "--calls=20", "--lane=in-process",
                     "--record=r.json"), 0);
    cr_expect_eq(strncmp(said_out, "in-process\t8\t20\t", 16), 0, "%s", said_out);
    cr_assert_eq(RUN("plugin", "bench", "test-source", "--calls=5", "--lane=in-process",
                     "--record", "{\"count\":3}"), 0, "%s", said_err);
}

Test(plugin_tools, bench_measures_each_lane)
{
    static const char *const lanes[] = { "in-process", "host", "sandbox" };
    json_t *o, *runs;

    cr_assert_eq(RUN("plugin", "bench", "stub", "--calls", "10", "--json"), 0, "%s", said_err);
    o = said_json();
    runs = json_object_get(o, "runs");
    cr_assert_eq(json_array_size(runs), 6, "%s", said_out);
    for (size_t i = 0; i < 6; i++) {
        const json_t *run = json_array_get(runs, i);

        cr_expect_str_eq(said_text(run, "lane"), lanes[i / 2]);
        cr_expect_eq(said_number(run, "calls"), 10);
        cr_expect_eq(said_number(run, "failed"), 0, "%s", said_text(run, "error"));
    }
    json_decref(o);
}

Test(plugin_tools, bench_says_what_it_cannot_measure)
{
    expect_refusal(RUN("plugin", "bench", "nowhere"), 3, "no file \"nowhere\"");
    expect_refusal(RUN("plugin", "bench", "stub", "--calls=0"), 2, "--calls=0");
    expect_refusal(RUN("plugin", "bench", "stub", "--lane", "fast"), 2, "--lane=fast: wanted");
    expect_refusal(RUN("plugin", "bench", "stub", "--record", "{\"a\":"), 6, "--record");
    expect_refusal(RUN("plugin", "bench", "stub", "--record", "absent.json"), 3, "absent.json");
    expect_refusal(RUN("plugin", "bench", PROGRAM), 6, "wanted a shared object");
    cr_expect_eq(RUN("plugin", "bench", "test-engine", "--calls=3", "--lane=in-process",
                     "--record", "{\"then\":\"final\"}"), 1);
    cr_expect_not_null(strstr(said_err, "every call failed"), "%s", said_err);
    /* abort() of the plugin ends the child only. */
    expect_refusal(RUN("plugin", "bench", "test-engine", "--calls=3", "--lane=in-process",
                       "--record", "{\"then\":\"crash\"}"), 1, "crashed with SIGABRT");
    shell("ls -d exellix-* 2>/dev/null; [ \"$(ls -d exellix-* 2>/dev/null)\" = '' ]");
}

/* ---- plugin replay -------------------------------------------------------------------------- */

/* Step "fetch" writes a line to effects and commits; then the record decides. */
#define STEPS_ENGINE                                                                         \
    "#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n"                         \
    "#include \"exellix/step.h\"\n"                                                          \
    "static exj_result create(const exj_host *h, exj_str c, void **i)\n"                     \
    "{ (void)c; *i = (void *)h; return EXJ_R_OK; }\n"                                        \
    "static void destroy(void *i) { (void)i; }\n"                                            \
    "static exj_result fetch(void *u, exj_json_out *out)\n"                                  \
    "{ FILE *f = fopen(\"effects\", \"a\"); (void)u; if (f) { fputs(\"fetched\\n\", f); "    \
    "fclose(f); } exj_json_begin_object(out); exj_json_put_i64(out, \"n\", 17); "            \
    "exj_json_end_object(out); return EXJ_R_OK; }\n"                                         \
    "static exj_result send(void *u, exj_json_out *out)\n"                                   \
    "{ (void)u; exj_json_put_text(out, NULL, \"sent\"); return EXJ_R_OK; }\n"                \
    "static exj_result execute(void *i, exj_call c, const exj_args *a)\n"                    \
    "{ const exj_host *h = i; exj_json_out got = EXJ_JSON_OUT_INIT; exj_result r; (void)a;\n" \
    "r = exj_step(h, c, \"fetch\", fetch, NULL, &got);\n" MIDDLE                             \
    "if (r == EXJ_R_OK) r = exj_step(h, c, \"send\", send, NULL, &got);\n"                   \
    "exj_json_out_release(&got);\n"                                                          \
    "if (r != EXJ_R_OK) return r;\n"                                                         \
    "return h->emit(h->ctx, c, exj_text(\"{\\\"status\\\":\\\"completed\\\"}\")); }\n"       \
    "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy), "               \
    ".kind = EXJ_KIND_GRAPH_ENGINE, .id = \"acme.steps\", .version = \"1.0.0\", "            \
    ".create = create, .execute = execute, .destroy = destroy };\n"                          \
    "static const exj_plugin *const ps[] = { &p };\n"                                        \
    "static const exj_bundle b = { EXJ_SIZE(exj_bundle, plugins), 0, 1, 0, ps };\n"          \
    "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n"
#define MIDDLE "AFTER_FETCH\n"

static void build_engine(const char *output, const char *after_fetch)
{
    exj_spit(exj_tmp_path(&tmp, "steps.c"), STEPS_ENGINE);
    shell("cc -g -std=c11 -D_GNU_SOURCE -I" EXJ_SOURCE_DIR "/include -I" EXJ_SOURCE_DIR
          "/sdk/include -shared -fPIC -fvisibility=hidden -DAFTER_FETCH='%s' steps.c -o %s",
          after_fetch, output);
}

#define SEND_FAILS                                                                           \
    "{ h->error(h->ctx, c, EXJ_R_FAILED, exj_text(\"SendFails\"), exj_text(\"no line\")); "  \
    "r = EXJ_R_FAILED; }"
#define ROW "m1||g1|r-0000000"

/* One failed row whose step "fetch" is in the journal. In process: the engine writes a file
 * into the working folder. */
static void fail_one_row(void)
{
    env[2] = "EXELLIX_JOBS_PLUGINS_ISOLATION=in-process";
    build_engine("plugins/steps.so", SEND_FAILS);
    exj_spit(exj_tmp_path(&tmp, "c.json"),
             "[{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"model\":{\"id\":\"g1\","
             "\"nodes\":[7]},\"execution\":{\"executor\":\"acme.steps\"}},"
             "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"},"
             "{\"matrixCatalogId\":\"m1\",\"payload\":{\"input\":{\"count\":1,\"record\":"
             "{\"a\":\"b\"}},\"graphs\":[\"g1\"],\"maxAttempts\":1,\"dataSource\":{\"kind\":"
             "\"record\",\"resolver\":\"test-source\"}}}]");
    cr_assert_eq(RUN("apply", "-f", "c.json"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle"), 8, "%s", said_err);
    cr_assert(holds("effects", "fetched\n"));
}

static bool answers(void *user)
{
    (void)user;
    return RUN("pause") == 0; /* needs a worker */
}

Test(plugin_tools, replay_gives_a_failed_row_what_it_had)
{
    json_t *o;

    fail_one_row();
    /* What a config names is looked for among the plugins, not in the working folder. */
    shell("mkdir acme.steps && cp " EXJ_BINARY_DIR "/bin/plugins/stub.so steps");
    cr_expect_eq(RUN("plugin", "replay", ROW, "--bundle", "b", "--json"), 1, "%s", said_err);
    o = said_json();
    cr_expect_str_eq(said_text(o, "status"), "failed");
    cr_expect_str_eq(said_text(json_object_get(o, "error"), "code"), "SendFails");
    cr_expect_str_eq(said_text(json_object_get(json_object_get(o, "recorded"), "error"), "code"),
                     "SendFails");
    cr_expect_str_eq(said_text(json_object_get(o, "plugin"), "id"), "acme.steps");
    cr_expect_str_eq(said_text(json_object_get(o, "plugin"), "sha256"),
                     said_text(json_object_get(json_object_get(o, "recorded"), "plugin"),
                               "sha256"));
    cr_expect_eq(said_number(o, "stepsGiven"), 1);
    cr_expect_eq(said_number(o, "stepsCommitted"), 0);
    json_decref(o);
    expect_in("b/input.json", "\"a\":\"b\"");
    expect_in("b/model.json", "\"nodes\":[7]");
    expect_in("b/runtime.json", "\"matrixRowId\":\"" ROW "\"");
    expect_in("b/runtime.json", "\"attempt\":1}");
    expect_in("b/steps.json", "\"n\": 17");
    expect_in("b/bundle.json", "plugin replay --bundle b");
    shell("cmp b/plugin.so plugins/steps.so && [ $(wc -l <effects) = 1 ]");
}

Test(plugin_tools, replay_takes_the_content_that_ran_when_the_file_has_changed)
{
    fail_one_row();
    shell("cp plugins/steps.so ran.so");
    build_engine("fixed.so", ";");
    shell("cp fixed.so plugins/.new && mv plugins/.new plugins/steps.so");
    cr_expect_eq(RUN("plugin", "replay", ROW, "--bundle", "b"), 1, "%s", said_err);
    cr_expect_not_null(strstr(said_err, "the copy of what ran is taken"), "%s", said_err);
    shell("cmp b/plugin.so ran.so");
    /* Nothing is kept, nothing is left of it: the file that is there, and it is said. */
    shell("rm -rf data/plugins/kept data/plugins/kept.json");
    cr_expect_eq(RUN("plugin", "replay", ROW, "--bundle", "b"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_err, "this is another build"), "%s", said_err);
    shell("cmp b/plugin.so fixed.so");
}

Test(plugin_tools, replay_finds_a_plugin_that_is_gone_from_its_folder)
{
    fail_one_row();
    shell("mv plugins/steps.so ran.so");
    cr_expect_eq(RUN("plugin", "replay", ROW, "--bundle", "b"), 1, "%s", said_err);
    shell("cmp b/plugin.so ran.so");
    cr_expect_not_null(strstr(said_out, "replayed\tfailed\tSendFails\t"), "%s", said_out);
}

Test(plugin_tools, replay_of_a_row_that_killed_its_host_crashes_again)
{
    exj_spit(exj_tmp_path(&tmp, "c.json"),
             "[{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":{\"executor\":"
             "\"test-engine\",\"isolation\":\"host\"}},\"publicationStatus\":\"Published\","
             "\"operationalState\":\"Running\"},{\"matrixCatalogId\":\"m1\",\"payload\":{\"input\":"
             "{\"count\":1,\"record\":{\"then\":\"crash\"}},\"graphs\":[\"g1\"],\"maxAttempts\":1,"
             "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"test-source\"}}}]");
    cr_assert_eq(RUN("apply", "-f", "c.json"), 0, "%s", said_err);
    cr_assert_eq(RUN("run", "--until-idle"), 0, "%s", said_err); /* blocked is not dead */
    cr_expect_eq(RUN("plugin", "replay", ROW, "--bundle=b"), 1, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "PluginCrashed\tcrashed with SIGABRT\n"), "%s", said_out);
    shell("cmp b/plugin.so " EXJ_BINARY_DIR "/tests/plugins/test-engine.so");
}

Test(plugin_tools, replay_works_beside_a_worker)
{
    static const char *const serve[] = { "serve", "--http=false", NULL };
    exj_prog worker;

    fail_one_row();
    exj_prog_start(&worker, &tmp, PROGRAM, env, serve);
    cr_assert(exj_until(answers, NULL, worker.pidfd, 20, 20000));
    cr_expect_eq(RUN("plugin", "replay", ROW, "--bundle", "b", "--json"), 1, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "\"stepsGiven\":1"), "%s", said_out);
    cr_expect_not_null(strstr(said_out, "\"stepsNotRead\":null"), "%s", said_out);
    exj_prog_signal(&worker, SIGTERM);
    cr_expect_eq(exj_prog_wait(&worker, 20000), 0);
}

Test(plugin_tools, replay_of_another_build_keeps_its_commits_in_the_bundle)
{
    json_t *o;

    fail_one_row();
    build_engine("fixed.so", ";");
    cr_expect_eq(RUN("plugin", "replay", ROW, "--plugin", "./fixed.so", "--bundle=b"), 0, "%s",
                 said_err);
    cr_expect_not_null(strstr(said_out, "recorded\tfailed\tSendFails\t"), "%s", said_out);
    cr_expect_not_null(strstr(said_out, "replayed\tcompleted\t-\t-\n"), "%s", said_out);
    expect_in("b/commits.json", "\"send\": \"sent\"");
    shell("[ $(wc -l <effects) = 1 ]");
    /* Neither the row nor its journal knows of it. */
    cr_assert_eq(RUN("rows", "show", ROW), 0);
    cr_expect_not_null(strstr(said_out, "SendFails"), "%s", said_out);
    cr_expect_eq(RUN("plugin", "replay", ROW, "--plugin", "./fixed.so", "--bundle=b", "--json"), 0);
    o = said_json();
    cr_expect_eq(said_number(o, "stepsGiven"), 1);
    cr_expect_eq(said_number(o, "stepsCommitted"), 1);
    json_decref(o);
}

Test(plugin_tools, replay_survives_a_crash_and_runs_a_bundle_without_its_store)
{
    fail_one_row();
    build_engine("crash.so", "signal(SIGSEGV, SIG_DFL), raise(SIGSEGV);");
    cr_expect_eq(RUN("plugin", "replay", ROW, "--plugin=./crash.so", "--bundle=b"), 1);
    cr_expect_not_null(strstr(said_err, "crashed with SIGSEGV"), "%s", said_err);
    cr_expect_not_null(strstr(said_err, "--gdb"), "%s", said_err);
    expect_in("b/result.json", "PluginCrashed");
    shell("rm -rf data plugins crash.so steps.c && mv b elsewhere");
    cr_expect_eq(RUN("plugin", "replay", "--bundle", "elsewhere", "--json"), 1, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "\"crashed with SIGSEGV\""), "%s", said_out);
}

Test(plugin_tools, replay_starts_gdb_on_the_child_or_says_how_to_get_it)
{
    char path[2000];
    const char *old = getenv("PATH");

    fail_one_row();
    cr_assert_eq(RUN("plugin", "replay", ROW, "--bundle=b"), 1, "%s", said_err);
    shell("mkdir bin && printf '#!/bin/sh\\necho \"$@\"\\n' >bin/gdb && chmod +x bin/gdb");
    snprintf(path, sizeof(path), "%s:%s", exj_tmp_path(&tmp, "bin"), old ? old : "/usr/bin:/bin");
    setenv("PATH", path, 1);
    cr_expect_eq(RUN("plugin", "replay", "--bundle=b", "--gdb"), 0, "%s", said_err);
    cr_expect_not_null(strstr(said_out, "--args " PROGRAM " __plugin-replay b no-deadline"), "%s",
                       said_out);
    setenv("PATH", tmp.path, 1);
    expect_refusal(RUN("plugin", "replay", "--bundle=b", "--gdb"), 3, "apt-get install gdb");
}

Test(plugin_tools, replay_says_what_is_missing)
{
    expect_refusal(RUN("plugin", "replay"), 2, "needs ROW");
    expect_refusal(RUN("plugin", "replay", "--bundle="), 2, "--bundle=");
    expect_refusal(RUN("plugin", "replay", "--bundle=x", "--plugin=y"), 2, "--plugin goes with");
    expect_refusal(RUN("plugin", "replay", "--bundle=nowhere"), 3, "no bundle in nowhere");
    expect_refusal(RUN("plugin", "replay", ROW), 3, "no store");
    fail_one_row();
    expect_refusal(RUN("plugin", "replay", "m1||g1|none"), 3, "no row \"m1||g1|none\"");
    expect_refusal(RUN("plugin", "replay", "nonsense"), 6, "nonsense");
    expect_refusal(RUN("plugin", "replay", ROW, "--plugin=./absent.so"), 3, "./absent.so");
    expect_refusal(RUN("plugin", "replay", ROW, "--bundle=plugins"), 5, "not empty");
    expect_refusal(RUN("plugin", "replay", ROW, "--bundle=steps.c/b"), 1, "steps.c");
    expect_refusal(RUN("plugin", "replay", ROW, "--plugin=plugins"), 3, "plugins");
    expect_refusal(RUN("plugin", "replay", ROW, "--bundle=/proc/b"), 1, "/proc/b");
    exj_spit(exj_tmp_path(&tmp, "bundle.json"), "{\"format\":2}");
    expect_refusal(RUN("plugin", "replay", "--bundle=."), 6, "format: wanted 1");
    exj_spit(exj_tmp_path(&tmp, "bundle.json"), "{");
    expect_refusal(RUN("plugin", "replay", "--bundle=."), 6, "bundle.json");
    exj_spit(exj_tmp_path(&tmp, "bundle.json"), "{\"format\":1}");
    expect_refusal(RUN("plugin", "replay", "--bundle=."), 3, "steps.json");
}

/* ---- plugin trust --------------------------------------------------------------------------- */

Test(plugin_tools, trust_lists_contents_and_forgets_them)
{
    char first[65];
    json_t *o, *list;

    cr_assert_eq(RUN("plugin", "trust", "list"), 0, "%s", said_err);
    cr_expect_str_empty(said_out);
    cr_assert_eq(RUN("plugin", "trust", "add", "stub"), 0, "%s", said_err);
    cr_assert_eq(strncmp(said_out, "trusted ", 8), 0, "%s", said_out);
    snprintf(first, sizeof(first), "%.64s", said_out + 8);
    cr_expect_str_eq(said_out + 8 + 64, " stub.so\n");
    cr_assert_eq(RUN("plugin", "trust", "add", EXJ_BINARY_DIR "/tests/plugins/test-engine.so",
                     "--json"), 0, "%s", said_err);
    cr_assert_eq(RUN("plugin", "trust", "add", "stub"), 0, "twice is once");
    cr_assert_eq(RUN("plugin", "trust", "list", "--json"), 0, "%s", said_err);
    o = said_json();
    list = json_object_get(o, "trusted");
    cr_assert_eq(json_array_size(list), 2);
    cr_expect_eq(strlen(said_text(json_array_get(list, 1), "sha256")), 64);
    json_decref(o);
    first[12] = '\0'; /* enough digits */
    cr_assert_eq(RUN("plugin", "trust", "remove", first), 0, "%s", said_err);
    cr_expect_eq(strncmp(said_out, "removed ", 8), 0, "%s", said_out);
    expect_refusal(RUN("plugin", "trust", "remove", first), 3, first);
    cr_assert_eq(RUN("plugin", "trust", "list"), 0, "%s", said_err);
    cr_expect_eq(lines_of(said_out), 1, "%s", said_out);
    cr_expect_not_null(strstr(said_out, "\ttest-engine.so\n"), "%s", said_out);
}

Test(plugin_tools, trust_refuses_what_is_no_plugin_and_no_digest)
{
    expect_refusal(RUN("plugin", "trust"), 2, "needs add FILE|list|remove SHA256");
    expect_refusal(RUN("plugin", "trust", "all"), 2, "'plugin trust all': wanted add FILE");
    expect_refusal(RUN("plugin", "trust", "add"), 2, "needs FILE");
    expect_refusal(RUN("plugin", "trust", "remove"), 2, "needs SHA256");
    expect_refusal(RUN("plugin", "trust", "list", "x"), 2, "takes no 'x'");
    expect_refusal(RUN("plugin", "trust", "add", "absent"), 3, "\"absent\"");
    expect_refusal(RUN("plugin", "trust", "add", PROGRAM), 6, "wanted a shared object");
    expect_refusal(RUN("plugin", "trust", "remove", "12ab"), 2, "first 8 lower-case digits");
    expect_refusal(RUN("plugin", "trust", "remove", "stub.so.."), 2, "'stub.so..'");
    cr_assert_eq(RUN("plugin", "trust", "add", "stub"), 0, "%s", said_err);
    exj_spit(exj_tmp_path(&tmp, "data/plugins/trusted"), "nonsense\n");
    cr_expect_eq(RUN("plugin", "trust", "list"), 6, "%s", said_err);
    cr_expect_not_null(strstr(said_err, "trusted"), "%s", said_err);
}
