/* tests/daemon/test_audit.c - the audit's two plugins find what `dpkg --verify` finds.
 *
 * The plugins are opened as a host would, without the daemon: a tree that is made up here,
 * with everything planted that dpkg has an opinion on, and the machine the test runs on.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exellix/plugin.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define REAL_PACKAGES_MAX 40 /* so built it reads a whole machine too slowly */
#else
#define REAL_PACKAGES_MAX 100000
#endif

/* ---- lists of lines --------------------------------------------------------------------- */

struct lines {
    char **p;
    size_t n, cap;
};

static void lines_add(struct lines *l, const char *s)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->p = realloc(l->p, l->cap * sizeof(*l->p));
        cr_assert(l->p != NULL);
    }
    l->p[l->n] = strdup(s);
    cr_assert(l->p[l->n] != NULL);
    l->n++;
}

static void lines_free(struct lines *l)
{
    size_t i;

    for (i = 0; i < l->n; i++)
        free(l->p[i]);
    free(l->p);
    *l = (struct lines){ 0 };
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lines_sort(struct lines *l)
{
    if (l->n)
        qsort(l->p, l->n, sizeof(*l->p), by_text);
}

static void lines_assert_equal(struct lines *ours, struct lines *theirs)
{
    size_t i, j, wrong = 0;

    lines_sort(ours);
    lines_sort(theirs);
    for (i = 0, j = 0; (i < ours->n || j < theirs->n) && wrong < 20;) {
        int d = i == ours->n ? 1 : j == theirs->n ? -1 : strcmp(ours->p[i], theirs->p[j]);

        if (d)
            cr_log_error("%s: %s", d < 0 ? "only ours" : "only dpkg's",
                         d < 0 ? ours->p[i] : theirs->p[j]);
        wrong += d != 0;
        i += d <= 0;
        j += d >= 0;
    }
    cr_assert(wrong == 0, "the findings differ from those of dpkg --verify");
}

__attribute__((format(printf, 2, 3)))
static int run_lines(struct lines *ret, const char *format, ...)
{
    char command[4096], *line = NULL;
    size_t cap = 0;
    ssize_t n;
    va_list args;
    FILE *f;

    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    f = popen(command, "r");
    cr_assert(f != NULL);
    while ((n = getline(&line, &cap, f)) > 0) {
        line[n - (line[n - 1] == '\n')] = '\0';
        lines_add(ret, line);
    }
    free(line);
    return pclose(f);
}

/* ---- a host of our own ------------------------------------------------------------------ */

struct run {
    struct lines emitted;
    char code[64];
    int32_t cancel;
};

static void on_log(void *ctx, exj_call c, int32_t level, exj_str message)
{
    (void)ctx, (void)c, (void)level, (void)message;
}

static void on_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str message)
{
    struct run *run = (struct run *)(uintptr_t)c;

    (void)ctx, (void)r;
    if (run)
        snprintf(run->code, sizeof(run->code), "%.*s", (int)code.n, code.p);
    cr_assert(message.n > 0);
}

static int32_t on_cancelled(void *ctx, exj_call c)
{
    (void)ctx;
    return ((struct run *)(uintptr_t)c)->cancel;
}

static exj_result on_emit(void *ctx, exj_call c, exj_str json)
{
    char *copy = strndup(json.p, json.n);

    (void)ctx;
    lines_add(&((struct run *)(uintptr_t)c)->emitted, copy);
    free(copy);
    return EXJ_R_OK;
}

static const exj_host host = {
    .size_of = EXJ_SIZE(exj_host, emit),
    .abi_minor = EXJ_ABI_MINOR,
    .log = on_log,
    .error = on_error,
    .cancelled = on_cancelled,
    .emit = on_emit,
};

struct guest {
    const exj_plugin *plugin;
    void *instance;
};

static struct guest open_guest(const char *name, uint32_t kind)
{
    struct guest g;
    char path[4096];
    void *library, *symbol;
    exj_entry entry;

    snprintf(path, sizeof(path), EXJ_BINARY_DIR "/examples/plugins/%s.so", name);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert(library != NULL, "%s", dlerror());
    symbol = dlsym(library, "exellix_plugin_v1");
    cr_assert(symbol != NULL);
    memcpy(&entry, &symbol, sizeof(entry));
    g.plugin = entry(EXJ_ABI_MINOR)->plugins[0];
    cr_assert_eq(g.plugin->kind, kind);
    cr_assert(g.plugin->create(&host, (exj_str)EXJ_STR("{}"), &g.instance) == EXJ_R_OK);
    return g;
}

static exj_str str_of(const char *s)
{
    return (exj_str){ s, strlen(s) };
}

static exj_result run_guest(const struct guest *g, struct run *run, const char *model,
                            const char *runtime)
{
    exj_args a = { .size_of = sizeof(a), .attempt = 1, .deadline_ns = UINT64_MAX };

    a.model = str_of(model);
    a.runtime = str_of(runtime);
    a.job_id = (exj_str)EXJ_STR("job");
    return g->plugin->execute(g->instance, (exj_call)(uintptr_t)run, &a);
}

static void run_release(struct run *r)
{
    lines_free(&r->emitted);
    memset(r, 0, sizeof(*r));
}

/* All records, page by page; returns how many pages. */
static size_t all_records(const struct guest *source, const char *kind, const char *root,
                          const char *admin_dir, int page, struct lines *ret)
{
    char model[3000], runtime[1000], next[600] = "null";
    struct run run = { 0 };
    size_t pages = 0, i;

    snprintf(model, sizeof(model), "{\"root\":\"%s\",\"adminDir\":\"%s\",\"pageSize\":%d}",
             root, admin_dir, page);
    for (bool more = true; more; pages++) {
        snprintf(runtime, sizeof(runtime),
                 "{\"matrixCatalogId\":\"m\",\"matrixRunId\":null,\"kind\":\"%s\","
                 "\"cursor\":%s,\"config\":{}}", kind, next);
        cr_assert(run_guest(source, &run, model, runtime) == EXJ_R_OK, "%s", run.code);
        more = false;
        for (i = 0; i < run.emitted.n; i++) {
            json_t *j = json_loads(run.emitted.p[i], 0, NULL);
            const char *cursor = json_string_value(json_object_get(j, "next"));

            cr_assert(json_is_object(j), "%s", run.emitted.p[i]);
            if (cursor) {
                cr_assert(i + 1 == run.emitted.n, "the cursor ends the page");
                snprintf(next, sizeof(next), "\"%s\"", cursor);
                more = true;
            } else {
                lines_add(ret, run.emitted.p[i]);
            }
            json_decref(j);
        }
        run_release(&run);
    }
    return pages;
}

/* Verify one emitted record. The answer's "verify" object; decref the root in *ret. */
static json_t *verify_record(const struct guest *engine, const char *emitted, json_t **ret)
{
    json_t *j = json_loads(emitted, 0, NULL), *runtime, *verify;
    struct run run = { 0 };
    char *text;

    runtime = json_pack("{s:s,s:{s:s},s:O,s:{}}", "jobId", "job", "job", "graphId", "g",
                        "input", json_object_get(j, "record"), "executionMemory");
    text = json_dumps(runtime, JSON_COMPACT);
    cr_assert(run_guest(engine, &run, "{\"maxListed\":100000}", text) == EXJ_R_OK, "%s: %s",
              emitted, run.code);
    cr_assert(run.emitted.n == 1);
    *ret = json_loads(run.emitted.p[0], 0, NULL);
    cr_assert(*ret != NULL, "%s", run.emitted.p[0]);
    cr_assert_str_eq(json_string_value(json_object_get(*ret, "status")), "completed");
    verify = json_object_get(json_object_get(*ret, "outputsByNodeId"), "verify");
    cr_assert(json_is_object(verify));
    free(text);
    run_release(&run);
    json_decref(runtime);
    json_decref(j);
    return verify;
}

static void add_finding_lines(json_t *verify, struct lines *ret)
{
    json_t *line;
    size_t i;

    cr_assert(json_is_false(json_object_get(verify, "truncated")));
    json_array_foreach(json_object_get(verify, "lines"), i, line)
        lines_add(ret, json_string_value(line));
    cr_assert(json_array_size(json_object_get(verify, "changed")) +
                  json_array_size(json_object_get(verify, "missing")) +
                  json_array_size(json_object_get(verify, "unreadable")) ==
              json_array_size(json_object_get(verify, "lines")));
}

static long long count_of(json_t *verify, const char *name)
{
    return (long long)json_integer_value(json_object_get(verify, name));
}

/* ---- the made-up tree ------------------------------------------------------------------- */

static char tree[64];

__attribute__((format(printf, 2, 3)))
static void put(const char *path, const char *format, ...)
{
    char full[512];
    va_list args;
    FILE *f;

    snprintf(full, sizeof(full), "%s/%s", tree, path);
    f = fopen(full, "w");
    cr_assert(f != NULL, "%s", full);
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    fclose(f);
}

__attribute__((format(printf, 1, 2)))
static void in_tree(const char *format, ...)
{
    char command[2048];
    int n = snprintf(command, sizeof(command), "cd %s && ", tree);
    va_list args;

    va_start(args, format);
    vsnprintf(command + n, sizeof(command) - (size_t)n, format, args);
    va_end(args);
    cr_assert(system(command) == 0, "%s", command);
}

#define DB "var/lib/dpkg/"

static void plant_tree(void)
{
    static const int sizes[] = { 0, 1, 55, 56, 63, 64, 65, 119, 120, 65535, 65536, 65537 };
    size_t i;

    strcpy(tree, "/tmp/exj-audit-XXXXXX");
    cr_assert(mkdtemp(tree) != NULL);
    in_tree("chmod 755 . && mkdir -p " DB "info " DB "updates usr/bin usr/share/x etc");
    put(DB "info/format", "1\n");
    put(DB "available", "%s", "");

    /* Contents of every length that MD5 treats differently, unchanged. */
    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        in_tree("head -c %d /dev/zero | tr '\\0' 'x' > usr/share/x/%d", sizes[i], sizes[i]);
    in_tree("ln -s 64 usr/share/x/link && mkdir usr/share/x/empty");
    in_tree("echo one > usr/bin/changed && echo one > usr/bin/gone && "
            "echo one > usr/bin/tolink && echo one > usr/bin/todangling && "
            "echo one > usr/bin/tofifo && echo one > usr/bin/secret && "
            "echo one > 'usr/bin/with blank' && mkdir usr/bin/closed && "
            "echo one > usr/bin/closed/inside && echo one > usr/bin/tool");
    in_tree("{ echo /.; find usr etc -printf '/%%p\\n' | sort; echo /etc/plain; "
            "echo /etc/kept; echo '/etc/old one'; echo /etc/lost; echo /usr/bin/tool/deep; "
            "echo /usr/share/doc/excluded; echo /etc/dir/; } > " DB "info/main.list");
    in_tree("find usr -type f | sort | xargs -d '\\n' md5sum > " DB "info/main.md5sums");
    in_tree("mkdir etc/dir && echo kept > etc/kept && echo edited > etc/plain && "
            "echo edited > 'etc/old one'");
    in_tree("echo two > usr/bin/changed && rm usr/bin/gone && "
            "mv usr/bin/tolink usr/bin/real && ln -s real usr/bin/tolink && "
            "ln -sf nowhere usr/bin/todangling && rm usr/bin/tofifo && "
            "ln -s changed usr/bin/tofifo && "
            "chmod 000 usr/bin/secret && chmod 000 usr/bin/closed");

    /* `other` diverts main's tool; the administrator diverts another file of main. */
    put(DB "diversions", "/usr/bin/tool\n/usr/bin/tool.main\nother\n"
                         "/usr/share/x/1\n/usr/share/x/1.local\n:\n"
                         "/usr/share/x/64\n/usr/share/x/64.lost\n:\n");
    in_tree("mv usr/bin/tool usr/bin/tool.main && echo other > usr/bin/tool && "
            "mv usr/share/x/1 usr/share/x/1.local");
    put(DB "info/other.list", "/.\n/usr\n/usr/bin\n/usr/bin/tool\n/usr/bin/other\n");
    put(DB "info/other.md5sums", "00000000000000000000000000000000  usr/bin/tool\n"
                                 "00000000000000000000000000000000  ./usr/bin/other\n");
    put("usr/bin/other", "x\n");
    /* Multi-Arch: same: files under info/NAME:ARCH. */
    put(DB "info/lib:amd64.list", "/usr/share/x/lib-amd64\n");
    put(DB "info/lib:amd64.md5sums", "00000000000000000000000000000000  usr/share/x/lib-amd64\n");
    put("usr/share/x/lib-amd64", "lib\n");
    put(DB "info/lib:i386.list", "/usr/share/x/lib-i386\n");
    /* Removed but for its conffiles, one of which is gone. */
    put(DB "info/rc.list", "/etc\n/etc/rc\n/etc/rc.gone\n");
    put("etc/rc", "rc\n");
    put(DB "status",
        "Package: main\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\n"
        "Version: 1:2.0-1\nDescription: x\n more\n .\nConffiles:\n"
        " /etc/plain 00000000000000000000000000000000\n"
        " /etc/kept 62ac1b4feb0c4c5f5b8c2a5b1a4a9b6a\n"
        " /etc/old one 00000000000000000000000000000000 obsolete\n"
        " /etc/lost 00000000000000000000000000000000 obsolete remove-on-upgrade\n\n"
        "Package: other\nStatus: hold ok unpacked\nMaintainer: x\nArchitecture: amd64\n"
        "Version: 2\nDescription: x\n\n"
        "Package: lib\nStatus: install ok installed\nMaintainer: x\nArchitecture: amd64\n"
        "Multi-Arch: same\nVersion: 3\nDescription: x\n\n"
        "Package: lib\nStatus: install ok installed\nMaintainer: x\nArchitecture: i386\n"
        "Multi-Arch: same\nVersion: 3\nDescription: x\n\n"
        "Package: rc\nStatus: deinstall ok config-files\nMaintainer: x\n"
        "Architecture: amd64\nVersion: 4\nConfig-Version: 4\nDescription: x\nConffiles:\n"
        " /etc/rc 00000000000000000000000000000000\n"
        " /etc/rc.gone 00000000000000000000000000000000\n\n"
        "Package: nothing\nStatus: purge ok not-installed\nArchitecture: amd64\n");
    in_tree("sum=$(md5sum < etc/kept | cut -c1-32) && "
            "sed -i \"s/62ac1b4feb0c4c5f5b8c2a5b1a4a9b6a/$sum/\" " DB "status");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *w)
{
    (void)st, (void)kind, (void)w;
    return remove(path);
}

static void fell_tree(void)
{
    char closed[128];

    if (!tree[0])
        return;

    snprintf(closed, sizeof(closed), "%s/usr/bin/closed", tree);
    chmod(closed, 0700);
    nftw(tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void compare_tree(void)
{
    struct guest source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    struct guest engine = open_guest("audit-engine", EXJ_KIND_GRAPH_ENGINE);
    struct lines records = { 0 }, ours = { 0 }, theirs = { 0 };
    char admin_dir[128];
    json_t *root;
    size_t i;

    snprintf(admin_dir, sizeof(admin_dir), "%s/" DB, tree);
    all_records(&source, "storage", tree, admin_dir, 2, &records);
    cr_assert_eq(records.n, 5);
    for (i = 0; i < records.n; i++) {
        add_finding_lines(verify_record(&engine, records.p[i], &root), &ours);
        json_decref(root);
    }
    run_lines(&theirs, "HOME=/ LC_ALL=C dpkg --root=%s --verify", tree);
    cr_assert(theirs.n >= 12, "dpkg itself found only %zu", theirs.n);
    lines_assert_equal(&ours, &theirs);
    lines_free(&ours);
    lines_free(&theirs);
    lines_free(&records);
    engine.plugin->destroy(engine.instance);
    source.plugin->destroy(source.instance);
}

TestSuite(audit, .fini = fell_tree);

Test(audit, a_made_up_tree_gives_the_findings_of_dpkg)
{
    plant_tree();
    compare_tree();
}

Test(audit, an_ordinary_user_gets_the_findings_dpkg_gives_him)
{
    /* Mapped while we may still read the build folder, which may lie in a closed home. */
    struct guest source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    struct guest engine = open_guest("audit-engine", EXJ_KIND_GRAPH_ENGINE);

    if (geteuid() == 0)
        cr_assert(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    plant_tree();
    compare_tree();
    engine.plugin->destroy(engine.instance);
    source.plugin->destroy(source.instance);
}

Test(audit, a_directory_in_the_place_of_a_file_is_reported_and_the_rest_checked)
{
    struct guest source, engine;
    struct lines records = { 0 };
    json_t *root, *verify;
    char admin_dir[128];

    plant_tree(); /* dpkg itself gives up here: nothing to compare with */
    in_tree("rm usr/bin/other && mkdir usr/bin/other");
    source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    engine = open_guest("audit-engine", EXJ_KIND_GRAPH_ENGINE);
    snprintf(admin_dir, sizeof(admin_dir), "%s/" DB, tree);
    all_records(&source, "record", tree, admin_dir, 200, &records);
    verify = verify_record(&engine, records.p[3], &root);
    cr_assert_str_eq(json_string_value(json_object_get(verify, "package")), "other");
    cr_assert_eq(count_of(verify, "unreadableCount"), 1);
    cr_assert_eq(count_of(verify, "changedCount"), 1);
    cr_assert_eq(count_of(verify, "paths"), 5);
    json_decref(root);
    lines_free(&records);
    engine.plugin->destroy(engine.instance);
    source.plugin->destroy(source.instance);
}

Test(audit, a_changed_database_is_seen_and_an_upgraded_package_is_superseded)
{
    struct guest source, engine;
    struct lines before = { 0 }, after = { 0 };
    char admin_dir[128];
    json_t *root, *verify;

    plant_tree();
    source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    engine = open_guest("audit-engine", EXJ_KIND_GRAPH_ENGINE);
    snprintf(admin_dir, sizeof(admin_dir), "%s/" DB, tree);
    all_records(&source, "storage", tree, admin_dir, 200, &before);
    verify = verify_record(&engine, before.p[3], &root);
    cr_assert(json_object_get(verify, "superseded") == NULL);
    json_decref(root);

    /* Not merged into status yet: dpkg and we read it from updates. */
    put(DB "updates/0001", "Package: other\nStatus: install ok installed\nMaintainer: x\n"
                           "Architecture: amd64\nVersion: 2.1\nDescription: x\n");
    all_records(&source, "storage", tree, admin_dir, 200, &after);
    cr_assert_eq(after.n, before.n);
    cr_assert(strstr(after.p[3], "\"id\":\"other:amd64=2.1\"") != NULL, "%s", after.p[3]);
    verify = verify_record(&engine, before.p[3], &root);
    cr_assert_str_eq(json_string_value(json_object_get(verify, "superseded")), "2.1");
    json_decref(root);
    verify = verify_record(&engine, after.p[3], &root);
    cr_assert(json_object_get(verify, "superseded") == NULL);
    json_decref(root);
    lines_free(&before);
    lines_free(&after);
    engine.plugin->destroy(engine.instance);
    source.plugin->destroy(source.instance);
}

Test(audit, bad_input_is_named_and_a_stop_is_obeyed)
{
    struct guest source, engine;
    struct run run = { 0 };
    char runtime[512];

    plant_tree();
    source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    engine = open_guest("audit-engine", EXJ_KIND_GRAPH_ENGINE);
    cr_expect(run_guest(&source, &run, "{\"root\":5}", "{\"kind\":\"record\"}") == EXJ_R_INPUT);
    cr_expect_str_eq(run.code, "InputInvalid");
    cr_expect(run_guest(&source, &run, "{\"root\":\"/nowhere\"}", "{\"kind\":\"record\"}") ==
              EXJ_R_FAILED);
    cr_expect_str_eq(run.code, "DatabaseUnreadable");
    cr_expect(run_guest(&engine, &run, "{}", "{\"input\":{\"package\":\"x\"}}") == EXJ_R_INPUT);
    cr_expect_str_eq(run.code, "RecordIncomplete");

    snprintf(runtime, sizeof(runtime),
             "{\"input\":{\"package\":\"other\",\"architecture\":\"amd64\",\"version\":\"2\","
             "\"root\":\"%s\",\"adminDir\":\"%s/var/lib/dpkg\"}}", tree, tree);
    run.cancel = EXJ_R_DEADLINE;
    cr_expect(run_guest(&engine, &run, "{}", runtime) == EXJ_R_DEADLINE);
    run.cancel = 0;
    cr_expect_eq(run.emitted.n, 0);
    cr_expect(run_guest(&engine, &run, "{\"maxListed\":1}", runtime) == EXJ_R_OK);
    cr_expect_eq(run.emitted.n, 1);
    cr_expect(strstr(run.emitted.p[0], "\"changedCount\":2") != NULL, "%s", run.emitted.p[0]);
    cr_expect(strstr(run.emitted.p[0], "\"truncated\":true") != NULL);
    put(DB "info/other.md5sums", "0000 usr/bin/tool\n");
    cr_expect(run_guest(&engine, &run, "{}", runtime) == EXJ_R_FAILED);
    cr_expect_str_eq(run.code, "DatabaseDamaged");
    run_release(&run);
    engine.plugin->destroy(engine.instance);
    source.plugin->destroy(source.instance);
}

/* Run a command of the real program on the store in the tree; what it printed in *ret. */
static int worker(struct lines *ret, const char *arguments)
{
    return run_lines(ret,
                     "cd %s && EXELLIX_JOBS_DATA_DIR=%s/data EXELLIX_JOBS_LOG_LEVEL=warn "
                     "EXELLIX_JOBS_PLUGINS_DIR=" EXJ_BINARY_DIR "/examples/plugins "
                     "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP=audit-engine " EXJ_BINARY_DIR
                     "/bin/%s 2>&1",
                     tree, tree, arguments);
}

static void report_equals_dpkg(const char *expected)
{
    struct lines said = { 0 }, ours = { 0 }, theirs = { 0 };
    bool found = false;

    cr_assert(worker(&said, "audit-report " EXJ_BINARY_DIR "/bin/exellix-jobs debian-audit "
                            "'' . 2000-01-01T00:00:00.000Z 1000") == 0,
              "%s", said.n ? said.p[said.n - 1] : "");
    for (size_t i = 0; i < said.n; i++)
        found = found || strcmp(said.p[i], expected) == 0;
    cr_assert(found, "the report does not say \"%s\"", expected);
    run_lines(&ours, "cat %s/findings.txt", tree);
    run_lines(&theirs, "HOME=/ LC_ALL=C dpkg --root=%s --verify", tree);
    lines_assert_equal(&ours, &theirs);
    lines_free(&said);
    lines_free(&ours);
    lines_free(&theirs);
}

Test(audit, the_worker_stores_the_findings_and_checks_only_what_is_new)
{
    struct lines said = { 0 };

    plant_tree();
    in_tree("mkdir config && cp " EXJ_SOURCE_DIR "/examples/audit/config/graph.json config/ && "
            "sed 's|\"root\": \"/\", \"adminDir\": \"/|\"root\": \"%s\", \"adminDir\": \"%s/|' "
            EXJ_SOURCE_DIR "/examples/audit/config/matrix.json > config/matrix.json", tree, tree);
    cr_assert(worker(&said, "exellix-jobs apply -f config") == 0, "%s", said.p[0]);
    cr_assert(worker(&said, "exellix-jobs run --until-idle") == 0, "%s", said.p[said.n - 1]);
    cr_assert(strstr(said.p[said.n - 1], " 5 new rows, 5 completed"), "%s",
              said.p[said.n - 1]);
    report_equals_dpkg("  this run    5 rows in 1.0 s: 5.0 rows/s");

    /* An upgrade that repairs the package: one new row, and the old one counts no more. */
    in_tree("sed -i 's/^Version: 2$/Version: 2.1/' " DB "status && : > " DB
            "info/other.md5sums");
    cr_assert(worker(&said, "exellix-jobs run --until-idle") == 0, "%s", said.p[said.n - 1]);
    cr_assert(strstr(said.p[said.n - 1], " 1 new rows, 1 completed"), "%s",
              said.p[said.n - 1]);
    report_equals_dpkg("  packages    5");

    cr_assert(worker(&said, "exellix-jobs run --until-idle") == 0, "%s", said.p[said.n - 1]);
    cr_assert(strstr(said.p[said.n - 1], " 0 new rows, 0 completed"), "%s",
              said.p[said.n - 1]);
    lines_free(&said);
}

/* ---- the machine itself ----------------------------------------------------------------- */

Test(audit, pages_and_one_pass_name_the_packages_dpkg_names)
{
    struct guest source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    struct lines paged = { 0 }, whole = { 0 }, theirs = { 0 }, ours = { 0 };
    size_t i, pages;

    if (access("/var/lib/dpkg/status", R_OK) != 0)
        cr_skip("no dpkg database here");
    pages = all_records(&source, "storage", "/", "/var/lib/dpkg", 50, &paged);
    all_records(&source, "record", "/", "/var/lib/dpkg", 50, &whole);
    cr_assert_eq(paged.n, whole.n);
    cr_assert_eq(pages, (paged.n + 49) / 50);
    run_lines(&theirs, "dpkg-query -W -f '${Package}:${Architecture}=${Version} "
                       "${db:Status-Status}\\n' | sed -n 's/ [a-z-]*$//p'");
    for (i = 0; i < paged.n; i++) {
        json_t *j = json_loads(paged.p[i], 0, NULL);

        cr_assert_str_eq(paged.p[i], whole.p[i]);
        lines_add(&ours, json_string_value(json_object_get(j, "id")));
        json_decref(j);
    }
    lines_assert_equal(&ours, &theirs);
    lines_free(&paged);
    lines_free(&whole);
    lines_free(&ours);
    lines_free(&theirs);
    source.plugin->destroy(source.instance);
}

struct share {
    const struct guest *engine;
    const struct lines *records;
    size_t first, step;
    struct lines found;
    long long bytes;
};

static void *verify_share(void *arg)
{
    struct share *s = arg;
    json_t *root, *verify;
    size_t i;

    for (i = s->first; i < s->records->n; i += s->step) {
        verify = verify_record(s->engine, s->records->p[i], &root);
        add_finding_lines(verify, &s->found);
        s->bytes += count_of(verify, "bytes");
        json_decref(root);
    }
    return NULL;
}

Test(audit, this_machine_gives_the_findings_of_dpkg, .timeout = 900)
{
    struct guest source = open_guest("audit-source", EXJ_KIND_SOURCE_RESOLVER);
    struct guest engine = open_guest("audit-engine", EXJ_KIND_GRAPH_ENGINE);
    struct lines records = { 0 }, ours = { 0 }, theirs = { 0 };
    struct share shares[2];
    pthread_t threads[2];
    size_t i, j;

    if (access("/var/lib/dpkg/status", R_OK) != 0)
        cr_skip("no dpkg database here");
    all_records(&source, "storage", "/", "/var/lib/dpkg", 200, &records);
    while (records.n > REAL_PACKAGES_MAX)
        free(records.p[--records.n]);
    /* Two threads on one instance, as the flag EXJ_FLAG_CONCURRENT promises. */
    for (i = 0; i < 2; i++) {
        shares[i] = (struct share){ &engine, &records, i, 2, { 0 }, 0 };
        cr_assert(pthread_create(&threads[i], NULL, verify_share, &shares[i]) == 0);
    }
    if (REAL_PACKAGES_MAX >= 100000) {
        run_lines(&theirs, "LC_ALL=C dpkg --verify");
    } else {
        for (i = 0; i < records.n; i++) {
            json_t *r = json_loads(records.p[i], 0, NULL);
            const char *id = json_string_value(json_object_get(r, "id"));

            run_lines(&theirs, "LC_ALL=C dpkg --verify '%.*s'", (int)strcspn(id, "="), id);
            json_decref(r);
        }
    }
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        for (j = 0; j < shares[i].found.n; j++)
            lines_add(&ours, shares[i].found.p[j]);
        cr_expect(shares[i].bytes > 0);
        lines_free(&shares[i].found);
    }
    lines_assert_equal(&ours, &theirs);
    lines_free(&ours);
    lines_free(&theirs);
    lines_free(&records);
    engine.plugin->destroy(engine.instance);
    source.plugin->destroy(source.instance);
}
