/* Old plugins on the host of today, today's plugins on old hosts. What is old is compiled
 * from the kept headers (tests/abi/frozen) when the tests are built: no binary is kept. */
#include "tests/plugins/guests.h"

#define GUESTS EXJ_BINARY_DIR "/tests/abi/guests"
#define OLD_HOST EXJ_BINARY_DIR "/tests/abi/old_host_1_"

static struct room room_of_minor(unsigned minor)
{
    struct room r = room_open();

    shell("ln -s %s/1_%u/*.so '%s'", GUESTS, minor, r.dir);
    return r;
}

static exj_call_end call(exj_instance *i, exj_call_slot *s, const char *model,
                         const exj_call_ports *ports)
{
    static const exj_call_ports none = { 0 };
    exj_args a = args_of(model, RUNTIME);
    exj_call_end end = { 0 };

    cr_assert(exj_call_run(i, s, &a, ports ? ports : &none, &end, NULL));
    return end;
}

/* ---- old guests, new host ------------------------------------------------------------- */

Test(minors, stub_of_each_minor_answers_on_this_host)
{
    for (unsigned minor = 0; minor <= EXJ_ABI_MINOR; minor++) {
        struct room r = room_of_minor(minor);
        exj_instance *i = instance_of(&r, "exellix.stub", EXJ_KIND_GRAPH_ENGINE);
        exj_call_slot *s = slot_of(4096);
        exj_guest_info info;
        exj_call_end end;
        exj_buf model = EXJ_BUF_INIT;

        exj_guest_describe(exj_instance_guest(i), &info);
        cr_assert_eq(info.abi_minor, minor);
        end = call(i, s, "{\"id\":\"g1\",\"nodes\":[]}", NULL);
        cr_assert_eq(end.result, EXJ_R_OK);
        slice_says(end.answer, "\"status\":\"completed\"");
        slice_says(end.answer, "\"graphId\":\"g1\"");
        cr_assert_eq(exj_instance_model(i, EXJ_SLICE_LITERAL("g7"), &model, NULL), EXJ_OK);
        slice_says((exj_slice){ model.p, model.n }, "\"g7\"");
        exj_buf_release(&model);
        exj_call_slot_free(s);
        room_close(&r);
    }
}

struct seen {
    unsigned records, stop_at;
    char last[128];
};

static exj_result take_record(void *user, exj_slice json)
{
    struct seen *s = user;

    if (++s->records == s->stop_at)
        return EXJ_R_CANCELLED;
    snprintf(s->last, sizeof s->last, "%.*s", (int)json.n, json.p);
    return EXJ_R_OK;
}

Test(minors, resolver_of_each_minor_yields_on_this_host)
{
    for (unsigned minor = 0; minor <= EXJ_ABI_MINOR; minor++) {
        struct room r = room_of_minor(minor);
        exj_instance *i = instance_of(&r, "abi.resolver", EXJ_KIND_SOURCE_RESOLVER);
        exj_call_slot *s = slot_of(4096);
        struct seen seen = { 0, 0, "" };
        exj_call_ports ports = { .user = &seen, .emit = take_record };

        cr_assert_eq(call(i, s, "{\"n\":5}", &ports).result, EXJ_R_OK);
        cr_assert_eq(seen.records, 5);
        cr_assert_str_eq(seen.last, "{\"id\":\"r-1-5\",\"record\":{\"k\":5}}");
        seen = (struct seen){ 0, 3, "" };
        cr_assert_eq(call(i, s, "{\"n\":5}", &ports).result, EXJ_R_OK);
        cr_assert_eq(seen.records, 3);
        exj_call_slot_free(s);
        room_close(&r);
    }
}

Test(minors, misbehaving_guest_of_each_minor_is_contained_by_this_host)
{
    static const struct {
        const char *model;
        exj_result result;
        const char *code;
        unsigned misdeeds;
    } cases[] = {
        { "good", EXJ_R_OK, "", 0 },
        { "late", EXJ_R_OK, "", 1 },
        { "silent", EXJ_R_INTERNAL, "NoAnswer", 1 },
        { "nonsense", EXJ_R_INTERNAL, "UnknownResult", 1 },
        { "pending", EXJ_R_INTERNAL, "PendingNotFlagged", 1 },
        { "twice", EXJ_R_OK, "", 1 },
        { "completes", EXJ_R_OK, "", 1 },
        { "made-up", EXJ_R_OK, "", 1 },
        { "huge", EXJ_R_FAILED, "AnswerTooLarge", 1 },
        { "text", EXJ_R_FAILED, "Code?", 0 },
        { "good", EXJ_R_OK, "", 0 },
    };

    for (unsigned minor = 0; minor <= EXJ_ABI_MINOR; minor++) {
        struct room r = room_of_minor(minor);
        exj_instance *i = instance_of(&r, "abi.bad", EXJ_KIND_GRAPH_ENGINE);
        exj_call_slot *s = slot_of(64 * 1024);

        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            uint64_t before = exj_plugin_misdeeds();
            exj_call_end end = call(i, s, cases[k].model, NULL);

            cr_assert_eq(end.result, cases[k].result, "1.%u %s: %d", minor, cases[k].model,
                         (int)end.result);
            cr_assert(exj_slice_is(end.error_code, cases[k].code), "1.%u %s: %.*s", minor,
                      cases[k].model, (int)end.error_code.n, end.error_code.p);
            cr_assert_eq(exj_plugin_misdeeds() - before >= 1, cases[k].misdeeds >= 1,
                         "1.%u %s: %u misdeeds", minor, cases[k].model,
                         (unsigned)(exj_plugin_misdeeds() - before));
        }
        exj_call_slot_free(s);
        room_close(&r);
    }
}

/* ---- new guests, old hosts ------------------------------------------------------------ */

/* Run a host of `minor`; what it prints into `ret`, how it ended as the result: the exit
 * status, or 1000 and the signal. A crash that is wanted shall leave no sanitizer report. */
static int old_host(unsigned minor, const char *words, char *ret, size_t cap)
{
    char *line = NULL;
    FILE *out;
    size_t n;
    int status;

    cr_assert(asprintf(&line, "exec env ASAN_OPTIONS=handle_segv=0:detect_leaks=0 %s%u %s 2>&1",
                       OLD_HOST, minor, words) > 0);
    out = popen(line, "r");
    cr_assert_not_null(out);
    n = fread(ret, 1, cap - 1, out);
    ret[n] = 0;
    status = pclose(out);
    free(line);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

Test(minors, plugins_of_today_run_on_each_old_host)
{
    char said[4096];

    for (unsigned minor = 0; minor <= EXJ_ABI_MINOR; minor++) {
        cr_assert_eq(old_host(minor, "--any-minor '" STUB_SO "' '{}'", said, sizeof said), 0, "%s",
                     said);
        says(said, "plugin: exellix.stub");
        says(said, "self_test: 0");
        says(said, "emit: {\"status\":\"completed\",\"jobId\":\"j-1\"");
        says(said, "execute: 0");
        says(said, "emit: {\"id\":\"g1\",\"nodes\":[]}");
        cr_assert_eq(old_host(minor, "--any-minor " GUESTS "/today/resolver.so '{\"n\":2}'", said,
                              sizeof said), 0, "%s", said);
        says(said, "emit: {\"id\":\"r-1-2\",\"record\":{\"k\":2}}");
        says(said, "execute: 0");
    }
}

Test(minors, guests_of_each_minor_run_on_each_host_that_is_not_older)
{
    char words[512], said[4096];

    for (unsigned host = 0; host <= EXJ_ABI_MINOR; host++)
        for (unsigned guest = 0; guest <= EXJ_ABI_MINOR; guest++) {
            int rc;

            snprintf(words, sizeof words, "%s/1_%u/stub.so '{}'", GUESTS, guest);
            rc = old_host(host, words, said, sizeof said);
            if (guest <= host) {
                cr_assert_eq(rc, 0, "host 1.%u, guest 1.%u: %s", host, guest, said);
                says(said, "execute: 0");
            } else {
                char wanted[80];

                snprintf(wanted, sizeof wanted, "minor: wanted at most %u, found %u", host, guest);
                cr_assert_eq(rc, 3, "host 1.%u, guest 1.%u: %s", host, guest, said);
                says(said, wanted);
            }
        }
}

/* A header of the future, whose host table has one function more, and two plugins that use
 * it: one asks EXJ_HAS first, the other does not. */
static void build_future(const struct room *r, const char *name, const char *guard)
{
    shell("mkdir -p '%s/future/exellix' && sed 's|^} exj_host;|    exj_result (*not_yet)(void *ctx, "
          "exj_call c);\\n&|' %s/include/exellix/plugin.h > '%s/future/exellix/plugin.h' && "
          "grep -q '(\\*not_yet)' '%s/future/exellix/plugin.h'", r->dir, EXJ_SOURCE_DIR, r->dir, r->dir);
    shell("cat > '%s/%s.c' <<'END'\n"
          "#include \"exellix/plugin.h\"\n"
          "static exj_result create(const exj_host *h, exj_str config, void **i)\n"
          "{ (void)config; *i = (void *)(uintptr_t)h; return EXJ_R_OK; }\n"
          "static void destroy(void *i) { (void)i; }\n"
          "static exj_result execute(void *i, exj_call c, const exj_args *a)\n"
          "{ const exj_host *h = i; exj_str s = EXJ_STR(\"{}\"); (void)a;\n"
          "if (%s) return h->not_yet(h->ctx, c);\n"
          "return h->emit(h->ctx, c, s); }\n"
          "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy),\n"
          ".kind = EXJ_KIND_GRAPH_ENGINE, .id = \"abi.future\", .version = \"1\",\n"
          ".create = create, .execute = execute, .destroy = destroy };\n"
          "static const exj_plugin *const ps[] = { &p };\n"
          "static const exj_bundle b = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, ps };\n"
          "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\nEND\n"
          "cc -std=c11 -shared -fPIC -I'%s/future' '%s/%s.c' -o '%s/%s.so'",
          r->dir, name, guard, r->dir, r->dir, name, r->dir, name);
}

Test(minors, plugin_that_asks_has_runs_and_one_that_forgets_is_caught)
{
    struct room r = room_open();
    char words[512], said[4096];

    build_future(&r, "asks", "EXJ_HAS(h, exj_host, not_yet)");
    build_future(&r, "forgets", "h->not_yet");
    snprintf(words, sizeof words, "'%s/asks.so' '{}'", r.dir);
    cr_assert_eq(old_host(EXJ_ABI_MINOR, words, said, sizeof said), 0, "%s", said);
    says(said, "emit: {}");
    snprintf(words, sizeof words, "'%s/forgets.so' '{}'", r.dir);
    cr_assert_eq(old_host(EXJ_ABI_MINOR, words, said, sizeof said), 1000 + SIGSEGV, "%s", said);
    says(said, "plugin: abi.future");
    room_close(&r);
}
