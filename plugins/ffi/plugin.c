/* exellix.ffi - functions of shared libraries as the nodes of a graph, by manifest.
 *
 * The graph's model is the manifest (docs/ffi.md). A manifest that is wrong about a
 * library corrupts memory, so this plugin belongs into a plugin host of its own, never
 * into the worker's process. */
#include <stdlib.h>

#include "plugins/ffi/run.h"

#define FLAGS (EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING)

struct engine {
    const exj_host *host;
};

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    struct engine *e = calloc(1, sizeof *e);

    (void)config; /* has no settings */
    if (!e)
        return EXJ_R_RETRY;
    e->host = h;
    exj_ffi_program_arrive();
    *instance = e;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    exj_ffi_program_leave();
    free(instance);
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct engine *e = instance;
    exj_ffi_trouble t = { 0 };
    exj_ffi_program *p = exj_ffi_program_get(a->model.p, (size_t)a->model.n, &t);
    exj_result r;

    if (!p) {
        e->host->error(e->host->ctx, c, t.result, exj_text(t.code), exj_text(t.text));
        return t.result;
    }
    r = exj_ffi_run(e->host, c, p, a);
    exj_ffi_program_put(p);
    return r;
}

/* ---- self test: does libffi pass and widen here what we think it does? ------------- */

struct pair {
    double d;
    int32_t i;
};

static int8_t narrow(int8_t a, uint16_t b, struct pair p)
{
    return (int8_t)(a - b - p.i + (int8_t)p.d);
}

static exj_result self_test(void *instance, exj_call c)
{
    struct engine *e = instance;
    ffi_type *elements[] = { &ffi_type_double, &ffi_type_sint32, NULL };
    ffi_type pair = { .type = FFI_TYPE_STRUCT, .elements = elements };
    ffi_type *types[] = { &ffi_type_sint8, &ffi_type_uint16, &pair };
    const exj_ffi_type i8 = { .kind = EXJ_FFI_I8 };
    int8_t a = -100;
    uint16_t b = 20;
    struct pair p = { 4.0, 1 };
    void *values[] = { &a, &b, &p };
    exj_ffi_arena arena = { 0 };
    exj_ffi_value got = { 0 };
    exj_ffi_trouble t = { 0 };
    ffi_arg slot = 0;
    ffi_cif cif;

    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 3, &ffi_type_sint8, types) == FFI_OK) {
        ffi_call(&cif, FFI_FN(narrow), &slot, values);
        exj_ffi_take_return(&i8, &slot, &arena, &got, &t);
    }
    if (got.form == EXJ_FFI_V_INT && got.i == -117)
        return EXJ_R_OK;
    e->host->error(e->host->ctx, c, EXJ_R_INTERNAL, exj_text("SelfTest"),
                   exj_text("libffi does not pass arguments as this build expects"));
    return EXJ_R_INTERNAL;
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, self_test),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = FLAGS,
    .id = "exellix.ffi",
    .version = "1.0.0",
    .describe =
        EXJ_STR("{\"summary\":\"Calls functions of shared libraries as a manifest says; "
                "the graph's model is the manifest (docs/ffi.md)\","
                "\"config\":{},\"input\":{},\"output\":{}}"),
    .create = create,
    .execute = execute,
    .destroy = destroy,
    .self_test = self_test,
};

static const exj_plugin *const plugins[] = { &engine };

static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins),
    .abi_minor = EXJ_ABI_MINOR,
    .n = 1,
    .plugins = plugins,
};

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, FLAGS)
