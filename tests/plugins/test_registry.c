/* Finding, loading and listing; private copies. */
#include <dirent.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include "tests/plugins/guests.h"

#include "core/base/json.h"

Test(registry, finds_by_id_by_file_name_and_by_path)
{
    struct room r = room_open();
    exj_guest *a = NULL, *b = NULL, *c = NULL, *d = NULL;
    exj_err err = { 0 };
    char path[128];

    shell("cp '%s' '%s/some-name.so'", STUB_SO, r.dir);
    snprintf(path, sizeof path, "%s/some-name.so", r.dir);
    cr_assert_eq(exj_registry_find(r.registry, "exellix.stub", EXJ_KIND_GRAPH_ENGINE, &a, &err),
                 EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_registry_find(r.registry, "some-name", EXJ_KIND_GRAPH_ENGINE, &b, &err), EXJ_OK);
    cr_assert_eq(exj_registry_find(r.registry, "some-name.so", EXJ_KIND_GRAPH_ENGINE, &c, &err), EXJ_OK);
    cr_assert_eq(exj_registry_find(r.registry, path, EXJ_KIND_GRAPH_ENGINE, &d, &err), EXJ_OK);
    cr_assert(a == b && b == c && c == d);
    room_close(&r);
}

Test(registry, another_kind_is_refused_naming_both)
{
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_err err = { 0 };

    shell("cp '%s' '%s'", STUB_SO, r.dir);
    cr_assert_eq(exj_registry_find(r.registry, "exellix.stub", EXJ_KIND_SOURCE_RESOLVER, &g, &err),
                 EXJ_INVALID);
    says(err.text, "wanted source resolver, found graph engine");
    room_close(&r);
}

Test(registry, not_found_lists_folders_and_names)
{
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_err err = { 0 };

    shell("cp '%s' '%s' && echo x > '%s/broken.so'", STUB_SO, r.dir, r.dir);
    cr_assert_eq(exj_registry_find(r.registry, "acme.none", EXJ_KIND_GRAPH_ENGINE, &g, &err),
                 EXJ_NOT_FOUND);
    says(err.text, "acme.none");
    says(err.text, r.dir);
    says(err.text, "stub.so (exellix.stub)");
    says(err.text, "broken.so (refused");
    room_close(&r);
}

Test(registry, source_may_be_overwritten_while_the_plugin_runs)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(4096);
    exj_instance *i;

    shell("cp '%s' '%s'", STUB_SO, r.dir);
    i = instance_of(&r, "stub", EXJ_KIND_GRAPH_ENGINE);
    shell("truncate -s 0 '%s/stub.so'", r.dir);
    cr_assert_eq(run_once(i, s, NULL).result, EXJ_R_OK);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(registry, refused_file_is_tried_again_when_it_changed)
{
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_err err = { 0 };

    shell("echo x > '%s/stub.so'", r.dir);
    refusal(&r, "stub");
    shell("cp '%s' '%s/new' && mv '%s/new' '%s/stub.so'", STUB_SO, r.dir, r.dir, r.dir);
    cr_assert_eq(exj_registry_find(r.registry, "stub", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK,
                 "%s", err.text);
    room_close(&r);
}

Test(registry, second_file_with_the_same_id_is_refused)
{
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_err err = { 0 };

    build(&r, "a", "", ENGINE("0", "", "return " EMIT_OK ";"));
    build(&r, "b", "", ENGINE("0", "/* other bytes */ int x; int x = 1;", "return " EMIT_OK ";"));
    cr_assert_eq(exj_registry_find(r.registry, "a", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK);
    err = refusal(&r, "b");
    says(err.text, "b.so");
    says(err.text, "taken by");
    says(err.text, "a.so");
    room_close(&r);
}

static bool count_one(void *user, const exj_guest_info *i)
{
    unsigned *n = user;

    n[i->error ? 1 : 0]++;
    if (!i->error)
        cr_assert_eq(strlen(i->sha256), 64);
    return true;
}

Test(registry, listing_without_load_runs_no_code)
{
    struct room r = room_open();
    unsigned n[2] = { 0, 0 };
    exj_err err = { 0 };

    build(&r, "boom", "", ENGINE("0", "__attribute__((constructor)) static void boom(void) { abort(); }",
                                 "return EXJ_R_OK;"));
    shell("echo x > '%s/broken.so'", r.dir);
    cr_assert_eq(exj_registry_each(r.registry, false, count_one, n, &err), EXJ_OK);
    cr_assert(n[0] == 1 && n[1] == 1);
    room_close(&r);
}

static unsigned files_in(const char *dir)
{
    DIR *d = opendir(dir);
    unsigned n = 0;

    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

Test(registry, private_folder_is_ours_alone_and_emptied_of_old_copies)
{
    struct room r = room_open();
    const char *none[] = { NULL };
    char dir[128], mine[256];
    exj_registry *second = NULL;
    exj_guest *g = NULL;
    exj_err err = { 0 };
    struct stat st;

    snprintf(dir, sizeof dir, "%s/private", r.dir);
    snprintf(mine, sizeof mine, "%s/keep.so", dir);
    cr_assert_eq(exj_registry_new(none, dir, &second, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(stat(dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
    shell("touch '%s'", mine);
    cr_assert_eq(exj_registry_find(second, STUB_SO, EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK);
    cr_assert_eq(files_in(dir), 2);
    exj_registry_free(second);
    cr_assert_eq(exj_registry_new(none, dir, &second, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(files_in(dir), 1); /* what is no copy stays */
    exj_registry_free(second);
    room_close(&r);
}

Test(registry, private_folder_that_is_a_link_is_refused)
{
    struct room r = room_open();
    const char *none[] = { NULL };
    char dir[128];
    exj_registry *second = NULL;
    exj_err err = { 0 };

    snprintf(dir, sizeof dir, "%s/link", r.dir);
    shell("mkdir '%s/real' && ln -s real '%s'", r.dir, dir);
    cr_assert_eq(exj_registry_new(none, dir, &second, &err), EXJ_REFUSED);
    room_close(&r);
}

/* ---- the stub, spec 1.4 --------------------------------------------------------------- */

static exj_call_end run_stub(struct room *r, exj_call_slot *s, const char *model, const char *runtime)
{
    static const exj_call_ports none = { 0 };
    exj_args a = args_of(model, runtime);
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_call_end end;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r->registry, STUB_SO, EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK,
                 "%s", err.text);
    cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK);
    cr_assert(exj_call_run(i, s, &a, &none, &end, NULL));
    exj_instance_free(i);
    return end;
}

Test(stub, completes_with_the_exact_answer)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(4096);
    exj_call_end end = run_stub(&r, s, "{\"id\":\"g1\",\"nodes\":[]}", RUNTIME);

    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer,
              "{\"status\":\"completed\",\"jobId\":\"j-1\",\"taskId\":\"stub-task\",\"graphId\":\"g1\","
              "\"outputsByNodeId\":{},\"stepsResponses\":[],\"engineSnapshot\":{}}"),
              "%.*s", (int)end.answer.n, end.answer.p);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(stub, refuses_a_top_level_input)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(4096);
    static const char *const models[] = {
        "{\"id\":\"g1\",\"nodes\":[],\"input\":{}}",
        "{\"model\":{},\"runtime\":{},\"input\":{}}",
        "{\"\\u0069nput\":{}}",
    };
    static const char *const runtimes[] = {
        "{\"jobId\":\"j\",\"job\":{}}",
        "{\"jobId\":\"j\",\"input\":{}}",
        "{\"jobId\":\"j\",\"job\":{},\"input\":[]}",
        "{\"model\":{},\"runtime\":{},\"input\":{},\"job\":{}}",
    };

    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        exj_call_end end = run_stub(&r, s, models[k], RUNTIME);

        cr_assert_eq(end.result, EXJ_R_INPUT, "%s", models[k]);
        cr_assert(exj_slice_is(end.error_code, "InvalidRequest"));
        slice_says(end.error_text, "input");
        cr_assert_eq(end.emits, 0);
    }
    for (size_t k = 0; k < sizeof runtimes / sizeof *runtimes; k++)
        cr_assert_eq(run_stub(&r, s, "{}", runtimes[k]).result, EXJ_R_INPUT, "%s", runtimes[k]);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(stub, logs_field_names_when_subnet_or_question_is_there)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(4096);
    char log[128], text[4096] = "";
    FILE *f;

    snprintf(log, sizeof log, "%s/log", r.dir);
    fflush(stderr);
    cr_assert_not_null(freopen(log, "w", stderr));
    run_stub(&r, s, "{}", "{\"jobId\":\"j\",\"job\":{},\"input\":{\"zone\":1,\"secretless\":2}}");
    run_stub(&r, s, "{}", "{\"jobId\":\"j\",\"job\":{},\"input\":{\"question\":\"why?\",\"lang\":2}}");
    fflush(stderr);
    f = fopen(log, "r");
    cr_assert_not_null(f);
    cr_assert_gt(fread(text, 1, sizeof text - 1, f), 0);
    fclose(f);
    says(text, "input fields: question, lang");
    cr_assert_null(strstr(text, "why?"));
    cr_assert_null(strstr(text, "zone"));
    exj_call_slot_free(s);
    room_close(&r);
}

Test(stub, resolves_the_default_model)
{
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r.registry, STUB_SO, EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK);
    cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK);
    cr_assert_eq(exj_instance_model(i, EXJ_SLICE_LITERAL("g\"1"), &b, &err), EXJ_OK, "%s", err.text);
    cr_assert(exj_slice_is(exj_buf_slice(&b), "{\"id\":\"g\\\"1\",\"nodes\":[]}"));
    exj_buf_release(&b);
    room_close(&r);
}

static void quiet_log(void *ctx, exj_call c, int32_t level, exj_str message)
{
    (void)ctx;
    (void)c;
    (void)level;
    (void)message;
}

static exj_result count_emit(void *ctx, exj_call c, exj_str json)
{
    (void)c;
    (void)json;
    ++*(unsigned *)ctx;
    return EXJ_R_OK;
}

/* The table cut to every legal size, its end against a page that must not be read. */
Test(stub, reads_no_further_than_the_host_table_says)
{
    static const uint32_t sizes[] = {
        EXJ_SIZE(exj_host, emit), EXJ_SIZE(exj_host, journal_lookup),
        EXJ_SIZE(exj_host, journal_intent), EXJ_SIZE(exj_host, journal_commit),
        EXJ_SIZE(exj_host, complete), EXJ_SIZE(exj_host, thread_start),
        EXJ_SIZE(exj_host, extension),
    };
    struct room r = room_open();
    exj_guest *g = NULL;
    exj_err err = { 0 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *library = dlopen(STUB_SO, RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        exj_entry entry;
    } symbol;
    const exj_plugin *p;

    cr_assert_neq(pages, MAP_FAILED);
    cr_assert_eq(mprotect(pages + page, page, PROT_NONE), 0);
    cr_assert_not_null(library);
    symbol.object = dlsym(library, "exellix_plugin_v1");
    cr_assert_not_null(symbol.object);
    p = symbol.entry(EXJ_ABI_MINOR)->plugins[0];
    cr_assert_eq(exj_registry_find(r.registry, STUB_SO, EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        exj_host *h = (exj_host *)(void *)(pages + page - sizes[k]);
        exj_args a = args_of("{}", RUNTIME);
        void *instance = NULL;
        unsigned emitted = 0;

        memset(pages, 0, page);
        h->size_of = sizes[k];
        h->ctx = &emitted;
        h->log = quiet_log;
        h->emit = count_emit;
        cr_assert_eq(p->create(h, (exj_str)EXJ_STR("{}"), &instance), EXJ_R_OK);
        cr_assert_eq(p->execute(instance, 1, &a), EXJ_R_OK);
        cr_assert_eq(p->resolve_model(instance, 1, (exj_str)EXJ_STR("g")), EXJ_R_OK);
        cr_assert_eq(p->self_test(instance, 1), EXJ_R_OK);
        cr_assert_eq(emitted, 2);
        p->destroy(instance);
    }
    munmap(pages, 2 * page);
    room_close(&r);
}

Test(stub, shipped_plugins_export_one_symbol)
{
    struct room r = room_open();

    shell("for f in '%s'/bin/plugins/*.so '%s'/examples/plugins/*.so; do [ -e \"$f\" ] || continue;"
          " nm -D --defined-only \"$f\" | awk '{print $3}' | grep -v '^__' > '%s/names';"
          " [ \"$(cat '%s/names')\" = exellix_plugin_v1 ] || { echo \"$f exports:\"; cat '%s/names'; exit 1; };"
          " done", EXJ_BINARY_DIR, EXJ_BINARY_DIR, r.dir, r.dir, r.dir);
    room_close(&r);
}
