/* The example program that embeds a worker, as built and as built from an install prefix; and
 * host bootstraps: the example, and some that are wrong. */
#include "tests/daemon/cli_support.h"

#include <sys/stat.h>
#include <unistd.h>

#define EMBED EXJ_BINARY_DIR "/examples/embed-words"
#define HOST_SO EXJ_BINARY_DIR "/examples/host.so"
#define TEXT EXJ_SOURCE_DIR "/LICENSE"

static char env_host[300];

static void setup(void)
{
    cli_setup();
    env[2] = "EXELLIX_JOBS_LOG_LEVEL=warn";
}

TestSuite(embed, .init = setup, .fini = cli_teardown);

static int run_file(const char *file, const char *const *args)
{
    exj_prog p;
    int status = exj_prog_run(&p, &tmp, file, env, args, 60000);

    free(said_out);
    free(said_err);
    said_out = exj_slurp(p.out, NULL);
    said_err = exj_slurp(p.err, NULL);
    return status;
}

#define EMBED_RUN(program, ...) run_file(program, (const char *const[]){ __VA_ARGS__, NULL })

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char line[4096];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    cr_assert(n > 0 && (size_t)n < sizeof(line));
    cr_assert_eq(system(line), 0, "%s", line);
}

static void says(const char *text, const char *part)
{
    cr_expect(strstr(text, part) != NULL, "wanted \"%s\" in: %s", part, text);
}

/* ---- the program ------------------------------------------------------------------------------- */

/* The words of TEXT with their numbers, most frequent first, as other programs find them. */
static char *words_by_others(size_t *ret_distinct)
{
    char *text;

    shell("LC_ALL=C tr -cs 'A-Za-z' '\\n' <'%s' | LC_ALL=C tr A-Z a-z | grep . | LC_ALL=C sort |"
          " uniq -c | LC_ALL=C sort -k1,1nr -k2 >'%s'", TEXT, exj_tmp_path(&tmp, "words"));
    text = exj_slurp(exj_tmp_path(&tmp, "words"), NULL);
    *ret_distinct = lines_of(text);
    cr_assert_gt(*ret_distinct, 100);
    return text;
}

static void check_report(size_t distinct, size_t fresh)
{
    char head[200];

    snprintf(head, sizeof(head), "%zu words, %zu new: %zu completed, 0 failed\n", distinct,
             fresh, fresh);
    cr_expect_eq(strncmp(said_out, head, strlen(head)), 0, "wanted %s, found %s%s", head,
                 said_out, said_err);
    cr_expect_eq(lines_of(said_out), 11, "%s", said_out);
}

/* How often, line by line: words that are as frequent may stand in any order. */
static void check_top(const char *ours, const char *theirs)
{
    ours = strchr(ours, '\n') + 1;
    for (int i = 0; i < 10; i++) {
        long a = strtol(ours, NULL, 10), b = strtol(theirs, NULL, 10);

        cr_expect_eq(a, b, "line %d: %ld and %ld", i + 1, a, b);
        cr_expect_gt(a, 0);
        ours = strchr(ours, '\n') + 1;
        theirs = strchr(theirs, '\n') + 1;
    }
}

Test(embed, the_example_counts_the_words_of_a_file)
{
    size_t distinct;
    char *words = words_by_others(&distinct);

    cr_assert_eq(EMBED_RUN(EMBED, TEXT), 0, "%s", said_err);
    cr_expect_str_empty(said_err, "%s", said_err);
    check_report(distinct, distinct);
    check_top(said_out, words);
    says(said_out, "  the               3 letters  eht\n");
    shell("test -z \"$(find '%s' -name 'embed-*')\"", tmp.path); /* its folder is gone */
    free(words);
}

Test(embed, the_example_does_only_what_is_new_in_a_folder_that_stays)
{
    const char *data = exj_tmp_path(&tmp, "kept");
    size_t distinct;

    free(words_by_others(&distinct));
    cr_assert_eq(EMBED_RUN(EMBED, TEXT, data), 0, "%s", said_err);
    check_report(distinct, distinct);
    shell("(cat '%s'; echo zzyzx) >'%s'", TEXT, exj_tmp_path(&tmp, "more.txt"));
    cr_assert_eq(EMBED_RUN(EMBED, exj_tmp_path(&tmp, "more.txt"), data), 0, "%s", said_err);
    check_report(distinct + 1, 1);
}

Test(embed, the_example_says_what_it_cannot_do)
{
    cr_expect_eq(EMBED_RUN(EMBED, "absent.txt"), 1);
    says(said_err, "absent.txt: No such file");
    exj_spit(exj_tmp_path(&tmp, "file"), "x");
    cr_expect_eq(EMBED_RUN(EMBED, TEXT, "file"), 1);
    says(said_err, "embed: cannot open: ");
    cr_expect_eq(EMBED_RUN(EMBED, tmp.path), 1); /* a folder: the source cannot read it */
    says(said_err, "not every word was done");
}

/* As a stranger builds it: sources, headers, library and .pc of the prefix, nothing of ours. */
Test(embed, the_example_builds_and_runs_from_an_install_prefix)
{
    const char *sanitize = *EXJ_SANITIZE ? "-fsanitize=" EXJ_SANITIZE : "";
    char program[300];
    size_t distinct;

    free(words_by_others(&distinct));
    shell("cd '%s' && { DESTDIR= cmake --install '%s' --component embed --prefix '%s/prefix' &&"
          " DESTDIR= cmake -DCMAKE_INSTALL_PREFIX='%s/prefix' -P '%s/sdk/cmake_install.cmake'; }"
          " >install.log", tmp.path, EXJ_BINARY_DIR, tmp.path, tmp.path, EXJ_BINARY_DIR);
    shell("cd '%s' && mv prefix moved &&" /* a tree that was moved works as well */
          " export PKG_CONFIG_PATH=$(dirname $(find $PWD/moved -name exellix-jobs.pc)) &&"
          " cp -r moved/share/exellix-jobs/examples/embed src && cd src &&"
          " cc -std=c11 -Wall -Wextra -Werror %s embed.c words.c"
          " $(pkg-config --cflags --libs exellix-jobs) -o ../installed-embed &&"
          " cc -std=c11 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden host.c words.c"
          " $(pkg-config --cflags exellix-plugin) -o ../installed-host.so",
          tmp.path, sanitize);
    snprintf(program, sizeof(program), "%s/installed-embed", tmp.path);
    cr_assert_eq(EMBED_RUN(program, TEXT), 0, "%s", said_err);
    check_report(distinct, distinct);
    snprintf(env_host, sizeof(env_host), "EXELLIX_JOBS_HOST_BOOTSTRAP=%s/installed-host.so",
             tmp.path);
    env[3] = env_host;
    env[4] = "WORDS_FILE=" TEXT;
    cr_assert_eq(RUN("run"), 0, "%s", said_err);
    says(said_out, " 0 failed");
}

/* ---- host bootstraps ----------------------------------------------------------------------------- */

static void use_host(const char *so)
{
    snprintf(env_host, sizeof(env_host), "EXELLIX_JOBS_HOST_BOOTSTRAP=%s", so);
    env[3] = env_host;
}

/* Build `body` (functions, and the end of the file) into NAME.so and set it. */
static void build_host(const char *body)
{
    char so[300];

    exj_spit(exj_tmp_path(&tmp, "host.c"),
             "#include <stdio.h>\n#include <string.h>\n#include \"exellix/jobs.h\"\n"
             "#define S(t) (exj_str){ t, strlen(t) }\n");
    shell("cat >>'%s/host.c' <<'END'\n%s\nEND", tmp.path, body);
    shell("cd '%s' && cc -std=gnu11 -shared -fPIC -fvisibility=hidden -I'%s/include' host.c"
          " -o host.so", tmp.path, EXJ_SOURCE_DIR);
    snprintf(so, sizeof(so), "%s/host.so", tmp.path);
    use_host(so);
}

#define TABLE(members)                                                                     \
    "static const exj_host_bootstrap table = { .size_of = EXJ_SIZE(exj_host_bootstrap, "   \
    "stopping), .abi_minor = EXJ_HOST_MINOR, " members " };\n"
#define EXPORT "EXJ_HOST_EXPORT(table)"
#define CONFIGURE_BEGINS                                                                   \
    "static exj_jobs_code configure(void *ctx, const exj_host_config_api *api)\n"          \
    "{ (void)ctx; (void)api; "
#define CONFIGURE_ENDS                                                                     \
    " }\n"                                                                                 \
    "static void started(void *ctx, const exj_host_worker *w)\n"                           \
    "{ (void)ctx; fprintf(stderr, \"started on %u as %s in %s\\n\", w->port, "             \
    "w->worker_id, w->data_dir); }\n"                                                      \
    "static void stopping(void *ctx) { (void)ctx; fprintf(stderr, \"stopping\\n\"); }\n"   \
    TABLE(".configure = configure, .started = started, .stopping = stopping") EXPORT
#define CONFIGURE(body) CONFIGURE_BEGINS body CONFIGURE_ENDS

Test(embed, the_example_bootstrap_brings_plugins_and_documents_into_the_daemon)
{
    size_t distinct;
    char wanted[100];

    free(words_by_others(&distinct));
    use_host(HOST_SO);
    env[4] = "WORDS_FILE=" TEXT;
    cr_assert_eq(RUN("run"), 0, "%s", said_err);
    snprintf(wanted, sizeof(wanted), "%zu completed, 0 failed", distinct);
    says(said_out, wanted);
    says(said_err, "words: worker ");
    says(said_err, "words: stopping\n");
    env[4] = NULL;
    expect_refusal(RUN("run"), 6, "configure answered 2: WORDS_FILE: wanted the file");
    env[3] = NULL; /* what it applied stays in the store */
    cr_expect_eq(RUN("get", "matrix", "words"), 0, "%s", said_err);
    says(said_out, "words.source");
}

Test(embed, a_bootstrap_sets_what_the_operator_set_and_beats_it)
{
    char line[400];

    build_host(CONFIGURE(
        "const char *port = api->setting(api->ctx, \"PORT\");\n"
        "char dir[300]; snprintf(dir, sizeof dir, \"%s-of-the-bootstrap\", "
        "api->setting(api->ctx, \"EXELLIX_JOBS_DATA_DIR\"));\n"
        "if (!port || strcmp(port, \"8080\") || api->setting(api->ctx, \"NONE\")) return 14;\n"
        "if (api->set(api->ctx, \"EXELLIX_JOBS_DATA_DIR\", dir)) return 14;\n"
        "return api->set(api->ctx, \"MATRIX_WORKER_ID\", \"wired\");"));
    cr_assert_eq(RUN("run", "--worker-id", "of-the-flag"), 0, "%s", said_err);
    snprintf(line, sizeof(line), "started on 0 as wired in %s-of-the-bootstrap\nstopping\n",
             exj_tmp_path(&tmp, "data"));
    says(said_err, line);
    cr_expect_eq(access(exj_tmp_path(&tmp, "data"), F_OK), -1);
    cr_expect_eq(access(exj_tmp_path(&tmp, "data-of-the-bootstrap/exellix-jobs.db"), F_OK), 0);
}

Test(embed, a_bootstrap_watches_the_start_and_stop_of_a_daemon)
{
    exj_daemon d;
    char line[100], *text;

    exj_daemon_init(&d);
    build_host(CONFIGURE("return EXJ_JOBS_OK;"));
    exj_daemon_set(&d, "EXELLIX_JOBS_HOST_BOOTSTRAP", "%s/host.so", tmp.path);
    cr_assert(exj_daemon_start(&d));
    cr_expect_eq(exj_daemon_stop(&d, 20000), 0);
    text = exj_slurp(d.prog.err, NULL);
    snprintf(line, sizeof(line), "started on %u as ", d.port);
    says(text, line);
    says(text, "\nstopping\n");
    free(text);
    exj_daemon_release(&d);
}

Test(embed, a_start_that_fails_tells_the_bootstrap_nothing)
{
    build_host(CONFIGURE(
        "return api->set(api->ctx, \"EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP\", \"absent\");"));
    cr_expect_eq(RUN("run"), 3);
    says(said_err, "executor absent: no plugin 'absent'");
    cr_expect_null(strstr(said_err, "started"), "%s", said_err);
    cr_expect_null(strstr(said_err, "stopping"), "%s", said_err);
}

Test(embed, what_configure_does_wrong_ends_the_start_with_its_text)
{
    static const struct {
        const char *body;
        int status;
        const char *part;
    } bad[] = {
        { "api->error(api->ctx, S(\"the vault is closed\")); return EXJ_JOBS_BUSY;", 7,
          "/host.so: configure answered 7: the vault is closed" },
        { "return api->set(api->ctx, \"PROT\", \"1\");", 6, "PROT is no setting; did you mean PORT?" },
        { "return api->set(api->ctx, \"PORT\", \"x\");", 6,
          "PORT=x (host bootstrap): wanted a whole number" },
        { "return api->set(api->ctx, \"PORT\", \"\");", 6, "PORT: an empty value" },
        { "return api->set(api->ctx, \"EXELLIX_JOBS_HOST_BOOTSTRAP\", \"b.so\");", 6, "too late" },
        { "return api->set(api->ctx, NULL, NULL);", 6, " is no setting" },
        { "return api->apply(api->ctx, \"{\", 1);", 6, "apply: " },
        { "return api->apply(api->ctx, NULL, 9);", 6, "apply: wanted" },
        { "return api->add_plugins(api->ctx, \"a\", NULL);", 6, "found NULL" },
        { "static const exj_bundle b = { EXJ_SIZE(exj_bundle, plugins), 0, 0, 0, 0 };"
          "return api->add_plugins(api->ctx, \"empty\", &b);", 6, "empty: bundle: n: wanted" },
        { "return -7;", 6, "configure answered -7" },
        { "return api->set(api->ctx, \"MONGO_URI\", \"mongodb://h/d\");", 1, "MONGO_URI is set" },
    };
    char body[2000];

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(body, sizeof(body), "%s%s%s", CONFIGURE_BEGINS, bad[i].body, CONFIGURE_ENDS);
        build_host(body);
        expect_refusal(RUN("run"), bad[i].status, bad[i].part);
        cr_expect_null(strstr(said_err, "stopping"), "%s", said_err);
    }
}

Test(embed, a_file_that_is_no_bootstrap_is_refused_before_it_is_loaded)
{
    char path[300];

    snprintf(path, sizeof(path), "%s/absent.so", tmp.path);
    use_host(path);
    expect_refusal(RUN("run"), 3, "EXELLIX_JOBS_HOST_BOOTSTRAP: ");
    says(said_err, "absent.so: No such file");
    snprintf(path, sizeof(path), "%s/text.so", tmp.path);
    exj_spit(path, "no library");
    use_host(path);
    expect_refusal(RUN("run"), 6, "text.so: cut short: wanted 64 bytes");
    use_host(tmp.path);
    expect_refusal(RUN("run"), 6, "not a regular file");
    use_host(EXJ_BINARY_DIR "/bin/plugins/stub.so");
    expect_refusal(RUN("run"), 6,
                   "stub.so: no exellix note: not a host bootstrap (wanted EXJ_HOST_EXPORT");
}

#define NOTE(major, minor)                                                                 \
    "EXJ_NOTE_SECTION static const exj_note n = { 8u, 24u, EXJ_HOST_NOTE_TYPE, "           \
    "\"exellix\", " major ", " minor ", 0, 0, 0, 0 };\n"                                   \
    "__attribute__((constructor)) static void ran(void) { fputs(\"RAN\\n\", stderr); }\n"

Test(embed, a_bootstrap_for_another_release_is_refused_by_its_note)
{
    build_host(NOTE("2u", "0u"));
    expect_refusal(RUN("run"), 6, "host.so: ABI major: wanted 1, found 2");
    build_host(NOTE("1u", "99u"));
    expect_refusal(RUN("run"), 6,
                   "ABI minor: wanted at most 1.0, found 1.99; the host bootstrap needs a newer");
    cr_expect_null(strstr(said_err, "RAN"), "%s", said_err);
}

Test(embed, an_entry_or_table_that_is_wrong_is_refused)
{
    static const char note[] = "EXJ_NOTE_SECTION static const exj_note n = { 8u, 24u, "
                               "EXJ_HOST_NOTE_TYPE, \"exellix\", 1u, 0u, 0, 0, 0, 0 };\n";
    static const char entry[] = "EXJ_PLUGIN_VISIBLE const exj_host_bootstrap "
                                "*exellix_host_v1(uint32_t m)\n{ (void)m; ";
    char body[3000];

    build_host(note);
    expect_refusal(RUN("run"), 6, "host.so: exports no exellix_host_v1 (wanted EXJ_HOST_EXPORT");
    snprintf(body, sizeof(body), "%s%sreturn 0; }", note, entry);
    build_host(body);
    expect_refusal(RUN("run"), 6, "exellix_host_v1(0) returned NULL");
    build_host(TABLE("0") EXPORT);
    expect_refusal(RUN("run"), 6, "member configure is NULL: wanted a function");
    snprintf(body, sizeof(body),
             "%s%sstatic const exj_host_bootstrap t = { 8, 0, 0, 0, 0, 0, 0, 0 }; return &t; }",
             note, entry);
    build_host(body);
    expect_refusal(RUN("run"), 6, "size_of: wanted 40 or more, found 8");
    snprintf(body, sizeof(body),
             "%s%sstatic const exj_host_bootstrap t = { 56, 7, 0, 0, 0, 0, 0, 0 }; return &t; }",
             note, entry);
    build_host(body);
    expect_refusal(RUN("run"), 6, "ABI minor: wanted at most 1.0, found 1.7");
    snprintf(body, sizeof(body), "extern int absent(void);\n%s%sabsent(); return 0; }", note,
             entry);
    build_host(body);
    expect_refusal(RUN("run"), 6, "host.so: does not load: ");
}

/* What only looks needs no wiring, and must not run the operator's code. */
Test(embed, commands_that_are_no_worker_leave_the_bootstrap_alone)
{
    build_host(NOTE("1u", "0u") TABLE("0") EXPORT);
    cr_expect_eq(RUN("config"), 0, "%s", said_err);
    says(said_out, "host.so");
    cr_expect_eq(RUN("plugin", "list"), 0, "%s", said_err);
    cr_expect_null(strstr(said_err, "RAN"), "%s", said_err);
}
