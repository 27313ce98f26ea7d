/* Nobody reads past the end of what it was given: every struct and every text ends at a
 * page that cannot be read. One byte too far is a signal, and the test crashes. */
#include "tests/plugins/guests.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include "core/plugin/guest.h"
#include "exellix/step.h"

#define GUESTS EXJ_BINARY_DIR "/tests/abi/guests"

/* `n` bytes that end where reading ends; kept until the test is over. */
static void *at_the_edge(const void *from, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    char *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert_neq(p, MAP_FAILED);
    cr_assert_eq(mprotect(p + room, page, PROT_NONE), 0);
    return memcpy(p + room - n, from, n);
}

static exj_str text_at_the_edge(const char *s)
{
    return (exj_str){ at_the_edge(s, strlen(s)), strlen(s) };
}

/* ---- what a host gives: exj_host and exj_args cut to every legal size ------------------- */

static char emitted[4096];
static unsigned lookups, commits;

static void edge_log(void *ctx, exj_call c, int32_t level, exj_str s)
{
    (void)ctx, (void)c, (void)level, (void)s;
}

static void edge_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str s)
{
    (void)ctx, (void)c, (void)r, (void)code, (void)s;
}

static int32_t edge_cancelled(void *ctx, exj_call c)
{
    (void)ctx, (void)c;
    return 0;
}

static void edge_progress(void *ctx, exj_call c, double at, exj_str note)
{
    (void)ctx, (void)c, (void)at, (void)note;
}

static exj_result edge_emit(void *ctx, exj_call c, exj_str json)
{
    (void)ctx, (void)c;
    snprintf(emitted, sizeof emitted, "%.*s", (int)json.n, json.p);
    return EXJ_R_OK;
}

static exj_result edge_lookup(void *ctx, exj_call c, exj_str step, exj_str *ret)
{
    (void)ctx, (void)c;
    lookups++;
    if (step.n == 4 && memcmp(step.p, "done", 4) == 0) {
        *ret = text_at_the_edge("[1,2]");
        return EXJ_R_OK;
    }
    return EXJ_R_MISS;
}

static exj_result edge_intent(void *ctx, exj_call c, exj_str step)
{
    (void)ctx, (void)c, (void)step;
    return EXJ_R_OK;
}

static exj_result edge_commit(void *ctx, exj_call c, exj_str step, exj_str json)
{
    (void)step;
    commits++;
    return edge_emit(ctx, c, json);
}

static exj_result edge_complete(void *ctx, exj_call c, exj_result r)
{
    (void)ctx, (void)c, (void)r;
    return EXJ_R_INTERNAL;
}

static exj_result edge_thread_start(void *ctx, void (*fn)(void *), void *arg)
{
    (void)ctx, (void)fn, (void)arg;
    return EXJ_R_UNSUPPORTED;
}

static const void *edge_extension(void *ctx, const char *id)
{
    (void)ctx, (void)id;
    return NULL;
}

static const exj_host *host_cut_to(uint32_t size)
{
    exj_host h = {
        .size_of = size, .abi_minor = EXJ_ABI_MINOR, .log = edge_log, .error = edge_error,
        .cancelled = edge_cancelled, .progress = edge_progress, .emit = edge_emit,
        .journal_lookup = edge_lookup, .journal_intent = edge_intent,
        .journal_commit = edge_commit, .complete = edge_complete,
        .thread_start = edge_thread_start, .extension = edge_extension,
    };

    return at_the_edge(&h, size);
}

static const exj_args *args_cut_to(uint32_t size, const char *model, const char *runtime)
{
    exj_args a = { .size_of = size, .attempt = 1, .deadline_ns = UINT64_MAX,
                   .model = text_at_the_edge(model), .runtime = text_at_the_edge(runtime),
                   .job_id = text_at_the_edge("j-1"), .record_id = text_at_the_edge("r-1") };

    return at_the_edge(&a, size);
}

static const exj_plugin *stub_loaded(void)
{
    void *library = dlopen(STUB_SO, RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        exj_entry entry;
    } symbol;

    cr_assert_not_null(library, "%s", dlerror());
    symbol.object = dlsym(library, "exellix_plugin_v1");
    cr_assert_not_null(symbol.object);
    return symbol.entry(EXJ_ABI_MINOR)->plugins[0];
}

static void run_stub(const exj_host *h, const exj_args *a)
{
    const exj_plugin *stub = stub_loaded();
    void *instance = NULL;

    emitted[0] = 0;
    cr_assert_eq(stub->create(h, text_at_the_edge("{}"), &instance), EXJ_R_OK);
    cr_assert_eq(stub->execute(instance, 1, a), EXJ_R_OK);
    says(emitted, "\"status\":\"completed\"");
    cr_assert_eq(stub->resolve_model(instance, 1, text_at_the_edge("g9")), EXJ_R_OK);
    says(emitted, "\"g9\"");
    stub->destroy(instance);
}

Test(edge, stub_reads_no_further_than_the_host_table_reaches)
{
    static const uint32_t sizes[] = {
        EXJ_SIZE(exj_host, emit),           EXJ_SIZE(exj_host, journal_lookup),
        EXJ_SIZE(exj_host, journal_intent), EXJ_SIZE(exj_host, journal_commit),
        EXJ_SIZE(exj_host, complete),       EXJ_SIZE(exj_host, thread_start),
        EXJ_SIZE(exj_host, extension),
    };

    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        run_stub(host_cut_to(sizes[k]),
                 args_cut_to(EXJ_SIZE(exj_args, token), "{\"id\":\"g1\",\"nodes\":[]}", RUNTIME));
}

Test(edge, stub_reads_no_further_than_the_arguments_reach)
{
    static const uint32_t sizes[] = { EXJ_SIZE(exj_args, runtime), EXJ_SIZE(exj_args, job_id),
                                      EXJ_SIZE(exj_args, record_id), EXJ_SIZE(exj_args, token) };

    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        run_stub(host_cut_to(EXJ_SIZE(exj_host, extension)),
                 args_cut_to(sizes[k], "{\"id\":\"g1\",\"nodes\":[]}", RUNTIME));
}

/* Broken requests as well: a JSON reader likes to look one byte ahead. */
Test(edge, stub_reads_no_further_than_a_cut_request)
{
    static const char model[] = "{\"id\":\"g1\",\"nodes\":[]}";
    const exj_host *h = host_cut_to(EXJ_SIZE(exj_host, extension));
    const exj_plugin *stub = stub_loaded();
    void *instance = NULL;

    cr_assert_eq(stub->create(h, text_at_the_edge(""), &instance), EXJ_R_OK);
    for (size_t n = 0; n < sizeof RUNTIME - 1; n++) {
        char cut[sizeof RUNTIME];

        snprintf(cut, sizeof cut, "%.*s", (int)n, RUNTIME);
        emitted[0] = 0;
        if (stub->execute(instance, 1, args_cut_to(EXJ_SIZE(exj_args, token), model, cut)) == EXJ_R_OK)
            says(emitted, "completed");
        else
            cr_assert_eq(emitted[0], 0);
    }
    stub->destroy(instance);
}

static exj_result write_seven(void *user, exj_json_out *out)
{
    ++*(unsigned *)user;
    exj_json_put_i64(out, NULL, 7);
    return EXJ_R_OK;
}

Test(edge, step_helper_reads_no_further_than_the_host_table_reaches)
{
    static const uint32_t sizes[] = {
        EXJ_SIZE(exj_host, journal_commit), EXJ_SIZE(exj_host, complete),
        EXJ_SIZE(exj_host, thread_start), EXJ_SIZE(exj_host, extension),
    };

    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const exj_host *h = host_cut_to(sizes[k]);
        exj_json_out out = EXJ_JSON_OUT_INIT;
        unsigned runs = 0;

        lookups = commits = 0;
        cr_assert_eq(exj_step(h, 1, "done", write_seven, &runs, &out), EXJ_R_OK);
        cr_assert_eq(runs, 0);
        cr_assert_eq(exj_step(h, 1, "new", write_seven, &runs, &out), EXJ_R_OK);
        cr_assert_eq(runs, 1);
        cr_assert_eq(commits, 1);
        cr_assert_str_eq(emitted, "7");
        exj_json_out_release(&out);
    }
}

/* ---- what a plugin gives: exj_bundle and exj_plugin cut to every size ------------------- */

/* guests/cut.c puts its structs at the edge, as long as this says. */
static exj_code load_cut(struct room *r, const char *which, unsigned size, exj_guest **ret,
                         exj_err *err)
{
    char words[40];

    *r = room_open();
    shell("ln -s %s/today/cut.so '%s'", GUESTS, r->dir);
    snprintf(words, sizeof words, "%s:%u", which, size);
    setenv("EXJ_TEST_CUT", words, 1);
    return exj_registry_find(r->registry, "cut", EXJ_KIND_GRAPH_ENGINE, ret, err);
}

Test(edge, loader_reads_no_further_than_the_plugin_reaches)
{
    static const struct {
        uint32_t size;
        bool self_test, resolve_model;
    } cases[] = {
        { EXJ_SIZE(exj_plugin, destroy), false, false },
        { EXJ_SIZE(exj_plugin, cancel), false, false },
        { EXJ_SIZE(exj_plugin, self_test), true, false },
        { EXJ_SIZE(exj_plugin, save_state), true, false },
        { EXJ_SIZE(exj_plugin, load_state), true, false },
        { EXJ_SIZE(exj_plugin, extension), true, false },
        { EXJ_SIZE(exj_plugin, resolve_model), true, true },
        { EXJ_SIZE(exj_plugin, resolve_model) + 8, true, true }, /* of a later minor */
        { EXJ_SIZE(exj_plugin, resolve_model) + 800, true, true },
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct room r;
        exj_guest *g = NULL;
        exj_instance *i = NULL;
        exj_buf model = EXJ_BUF_INIT;
        exj_call_slot *s = slot_of(1024);
        exj_err err = { 0 };
        exj_code rc;

        cr_assert_eq(load_cut(&r, "plugin", cases[k].size, &g, &err), EXJ_OK, "%u: %s",
                     cases[k].size, err.text);
        cr_assert_eq(g->vt.self_test != NULL, cases[k].self_test, "%u", cases[k].size);
        cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK);
        cr_assert_eq(run_once(i, s, NULL).result, EXJ_R_OK);
        rc = exj_instance_model(i, EXJ_SLICE_LITERAL("g1"), &model, &err);
        cr_assert_eq(rc, cases[k].resolve_model ? EXJ_OK : EXJ_NOT_FOUND, "%u: %d", cases[k].size,
                     (int)rc);
        exj_buf_release(&model);
        exj_call_slot_free(s);
        room_close(&r);
    }
}

Test(edge, loader_refuses_a_plugin_that_ends_too_early_or_inside_a_member)
{
    for (uint32_t size = 4; size < EXJ_SIZE(exj_plugin, resolve_model); size += 4) {
        struct room r;
        exj_guest *g = NULL;
        exj_err err = { 0 };

        if (size >= EXJ_SIZE(exj_plugin, destroy) &&
            (size - EXJ_SIZE(exj_plugin, destroy)) % sizeof(void *) == 0)
            continue;
        cr_assert_eq(load_cut(&r, "plugin", size, &g, &err), EXJ_INVALID, "%u: accepted", size);
        says(err.text, "cut.so: plugin 0: size_of: wanted");
        cr_assert_null(g);
        room_close(&r);
    }
}

Test(edge, loader_reads_no_further_than_the_bundle_reaches)
{
    for (uint32_t size = 4; size <= EXJ_SIZE(exj_bundle, plugins) + 64; size += 4) {
        struct room r;
        exj_guest *g = NULL;
        exj_err err = { 0 };
        exj_code rc = load_cut(&r, "bundle", size, &g, &err);

        if (size < EXJ_SIZE(exj_bundle, plugins)) {
            cr_assert_eq(rc, EXJ_INVALID, "%u: accepted", size);
            says(err.text, "bundle: size_of: wanted 24 or more");
        } else {
            cr_assert_eq(rc, EXJ_OK, "%u: %s", size, err.text);
        }
        room_close(&r);
    }
}

/* Texts: describe, answers, errors, logs and step names are not NUL-terminated. */
Test(edge, host_reads_no_further_than_the_texts_of_a_plugin_reach)
{
    struct room r;
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_call_slot *s = slot_of(1024);
    exj_guest_info info;
    exj_call_end end;
    exj_err err = { 0 };

    cr_assert_eq(load_cut(&r, "texts", 0, &g, &err), EXJ_OK, "%s", err.text);
    exj_guest_describe(g, &info);
    cr_assert(exj_slice_is(info.describe, "{\"summary\":\"ends at the edge\"}"));
    cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK);
    end = run_once(i, s, NULL);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer, "{\"status\":\"completed\"}"));
    cr_assert(exj_slice_is(end.error_code, "Edge"));
    cr_assert(exj_slice_is(end.error_text, "said at the edge"));
    exj_call_slot_free(s);
    room_close(&r);
}
