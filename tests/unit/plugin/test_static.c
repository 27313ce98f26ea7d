/* Plugins that are part of the program: judged like a file's, found by id and by name. */
#include <criterion/criterion.h>

#include "core/plugin/load.h"

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    static const char answer[] = "{\"status\":\"completed\"}";
    const exj_host *h = instance;

    (void)a;
    return h->emit(h->ctx, c, (exj_str){ answer, sizeof answer - 1 });
}

static void destroy(void *instance)
{
    (void)instance;
}

#define PLUGIN(name_, kind_)                                                               \
    {                                                                                      \
        .size_of = EXJ_SIZE(exj_plugin, destroy), .kind = kind_, .id = name_,              \
        .version = "1.0.0", .create = create, .execute = execute, .destroy = destroy       \
    }
#define BUNDLE(n_, list_)                                                                  \
    { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, n_, 0, list_ }

static const exj_plugin engine = PLUGIN("own.engine", EXJ_KIND_GRAPH_ENGINE);
static const exj_plugin source = PLUGIN("own.source", EXJ_KIND_SOURCE_RESOLVER);
static const exj_plugin *const both[] = { &engine, &source };
static const exj_bundle bundle = BUNDLE(2, both);

static exj_registry *r;

static void setup(void)
{
    static const char *const none[] = { NULL };
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_new(none, NULL, &r, &err), EXJ_OK, "%s", err.text);
}

static void teardown(void)
{
    exj_registry_free(r);
}

TestSuite(statics, .init = setup, .fini = teardown);

static void refused(const char *name, const exj_bundle *b, exj_code code, const char *part)
{
    exj_err err = { 0 };

    cr_expect_eq(exj_registry_add_static(r, name, b, &err), code, "%s", err.text);
    cr_expect_not_null(strstr(err.text, part), "wanted '%s' in: %s", part, err.text);
}

Test(statics, are_found_by_id_and_by_the_name_of_their_bundle_and_run_in_process)
{
    exj_guest *by_id = NULL, *by_name = NULL, *other = NULL;
    exj_call_slot *s = NULL;
    exj_instance *i = NULL;
    exj_call_end end = { 0 };
    exj_call_ports none = { 0 };
    exj_args a = { .size_of = sizeof a, .attempt = 1, .deadline_ns = UINT64_MAX };
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_add_static(r, "mine", &bundle, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_registry_find(r, "own.engine", EXJ_KIND_GRAPH_ENGINE, &by_id, &err), EXJ_OK);
    cr_assert_eq(exj_registry_find(r, "mine", EXJ_KIND_GRAPH_ENGINE, &by_name, &err), EXJ_OK);
    cr_assert_eq(exj_registry_find(r, "mine", EXJ_KIND_SOURCE_RESOLVER, &other, &err), EXJ_OK);
    cr_expect_eq(by_id, by_name);
    cr_expect_neq(by_id, other);
    cr_expect_eq(by_id->lane, EXJ_LANE_IN_PROCESS);
    cr_assert_eq(exj_instance_new(by_id, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK);
    cr_assert_eq(exj_call_slot_new(4096, &s, &err), EXJ_OK);
    cr_assert(exj_call_run(i, s, &a, &none, &end, NULL));
    cr_expect_eq(end.result, EXJ_R_OK);
    cr_expect(exj_slice_is(end.answer, "{\"status\":\"completed\"}"));
    exj_call_slot_free(s);
    exj_instance_free(i);
}

static bool count(void *user, const exj_guest_info *i)
{
    cr_expect_str_eq(i->path, "mine");
    cr_expect_str_eq(i->sha256, "");
    cr_expect_null(i->error);
    ++*(int *)user;
    return true;
}

Test(statics, are_listed)
{
    int n = 0;

    cr_assert_eq(exj_registry_add_static(r, "mine", &bundle, NULL), EXJ_OK);
    cr_assert_eq(exj_registry_each(r, false, count, &n, NULL), EXJ_OK);
    cr_expect_eq(n, 2);
}

Test(statics, a_name_or_an_id_that_is_taken_is_refused)
{
    static const exj_plugin *const one[] = { &engine };
    static const exj_bundle again = BUNDLE(1, one);

    cr_assert_eq(exj_registry_add_static(r, "mine", &bundle, NULL), EXJ_OK);
    refused("mine", &again, EXJ_CONFLICT, "mine: this name is taken");
    refused("yours", &again, EXJ_CONFLICT, "own.engine");
}

Test(statics, a_bad_name_is_refused)
{
    char longest[66];

    memset(longest, 'a', sizeof longest - 1);
    longest[65] = 0;
    refused(NULL, &bundle, EXJ_INVALID, "found none");
    refused("", &bundle, EXJ_INVALID, "found none");
    refused(longest, &bundle, EXJ_INVALID, "found more");
    refused("../x", &bundle, EXJ_INVALID, "found byte 0x2f");
}

Test(statics, a_bundle_that_lies_is_refused_and_leaves_nothing_behind)
{
    static const exj_plugin headless = { .size_of = EXJ_SIZE(exj_plugin, destroy),
                                         .kind = EXJ_KIND_GRAPH_ENGINE, .id = "own.engine",
                                         .version = "1", .create = create,
                                         .destroy = destroy };
    static const exj_plugin *const list[] = { &headless };
    static const exj_plugin *const holes[] = { NULL };
    exj_bundle b = BUNDLE(1, list);

    refused("mine", NULL, EXJ_INVALID, "mine: the bundle is NULL");
    refused("mine", &b, EXJ_INVALID, "execute is NULL");
    b.plugins = holes;
    refused("mine", &b, EXJ_INVALID, "plugin 0 of the bundle is NULL");
    b.plugins = both;
    b.abi_minor = EXJ_ABI_MINOR + 1;
    refused("mine", &b, EXJ_INVALID, "ABI minor");
    b.abi_minor = EXJ_ABI_MINOR;
    b.size_of = 8;
    refused("mine", &b, EXJ_INVALID, "size_of");
    cr_assert_eq(exj_registry_add_static(r, "mine", &bundle, NULL), EXJ_OK);
}
