/* tests/plugins/guests.h - compile small plugins during a test and load them.
 *
 * Every fixture is C text built with the compiler on the machine, so that a test shows the
 * whole plugin it talks about. Folders are temporary and removed. */
#ifndef EXJ_TESTS_PLUGINS_GUESTS_H
#define EXJ_TESTS_PLUGINS_GUESTS_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/plugin/plugin.h"

#define STUB_SO EXJ_BINARY_DIR "/bin/plugins/stub.so"

struct room {
    char dir[64];
    exj_registry *registry;
};

static int run_shell(const char *format, va_list ap) __attribute__((format(printf, 1, 0)));
static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int try_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int run_shell(const char *format, va_list ap)
{
    char *line = NULL;
    int status;

    cr_assert(vasprintf(&line, format, ap) > 0);
    status = system(line);
    if (status != 0)
        fprintf(stderr, "status %d of: %s\n", status, line);
    free(line);
    return status;
}

__attribute__((unused)) static void shell(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    cr_assert_eq(run_shell(format, ap), 0);
    va_end(ap);
}

__attribute__((unused)) static int try_shell(const char *format, ...)
{
    va_list ap;
    int status;

    va_start(ap, format);
    status = run_shell(format, ap);
    va_end(ap);
    return status;
}

static inline struct room room_open(void)
{
    const char *tmp = getenv("TMPDIR");
    struct room r = { 0 };
    exj_err err = { 0 };

    snprintf(r.dir, sizeof r.dir, "%s/exj-test-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(r.dir));
    {
        const char *dirs[] = { r.dir, NULL };

        cr_assert_eq(exj_registry_new(dirs, NULL, &r.registry, &err), EXJ_OK, "%s", err.text);
    }
    return r;
}

static inline void room_close(struct room *r)
{
    exj_registry_free(r->registry);
    shell("rm -rf '%s'", r->dir);
}

/* Write `source` and build it as NAME.so in the room. `flags` go to the compiler. */
__attribute__((unused)) static void build(const struct room *r, const char *name,
                                          const char *flags, const char *source)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.c", r->dir, name);
    f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(source, f);
    fclose(f);
    shell("cc -std=gnu11 -shared -fPIC -pthread -I%s/include -I%s/sdk/include %s '%s' -o '%s/%s.so'",
          EXJ_SOURCE_DIR, EXJ_SOURCE_DIR, flags, path, r->dir, name);
}

/* A whole plugin "test.NAME" 9.8.7 around a body of execute, which sees h, c and a. `more`
 * stands before the functions; HOOKS adds members. */
#define PLUGIN_AROUND(kind, flags, more, body, hooks)                                       \
    "#include <pthread.h>\n#include <stdlib.h>\n#include <string.h>\n#include <time.h>\n"   \
    "#include \"exellix/json.h\"\n#include \"exellix/plugin.h\"\n"                          \
    "static const char ok[] = \"{\\\"status\\\":\\\"completed\\\"}\";\n" more "\n"          \
    "static exj_result create(const exj_host *h, exj_str config, void **i)"                 \
    "{ (void)config; *i = (void *)h; return EXJ_R_OK; }\n"                                  \
    "static void destroy(void *i) { (void)i; }\n"                                           \
    "static exj_result execute(void *i, exj_call c, const exj_args *a)\n"                   \
    "{ const exj_host *h = i; (void)h; (void)c; (void)a; (void)ok;\n" body "\n}\n"          \
    "static const exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, resolve_model),"         \
    " .kind = " kind ", .flags = " flags ", .id = \"test.guest\", .version = \"9.8.7\","    \
    " .create = create, .execute = execute, .destroy = destroy, " hooks "};\n"              \
    "static const exj_plugin *const ps[] = { &p };\n"                                       \
    "static const exj_bundle b = { .size_of = EXJ_SIZE(exj_bundle, plugins),"               \
    " .abi_minor = EXJ_ABI_MINOR, .n = 1, .plugins = ps };\n"                               \
    "EXJ_PLUGIN_EXPORT(b, 1u << (" kind "), " flags ")\n"
#define ENGINE(flags, more, body) PLUGIN_AROUND("EXJ_KIND_GRAPH_ENGINE", flags, more, body, "")
#define EMIT_OK "h->emit(h->ctx, c, exj_text(ok))"

__attribute__((unused)) static exj_instance *instance_of(const struct room *r, const char *name,
                                                         uint32_t kind)
{
    exj_guest *g = NULL;
    exj_instance *i = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r->registry, name, kind, &g, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &i, &err), EXJ_OK, "%s", err.text);
    return i;
}

__attribute__((unused)) static exj_call_slot *slot_of(size_t answer_max)
{
    exj_call_slot *s = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_call_slot_new(answer_max, &s, &err), EXJ_OK, "%s", err.text);
    return s;
}

#define RUNTIME                                                                             \
    "{\"jobId\":\"j-1\",\"job\":{\"matrixRowId\":\"1\",\"graphId\":\"g1\",\"attempt\":1},"  \
    "\"input\":{\"subnetId\":\"s-1\"},\"executionMemory\":{}}"

__attribute__((unused)) static exj_args args_of(const char *model, const char *runtime)
{
    return (exj_args){ .size_of = sizeof(exj_args), .attempt = 1, .deadline_ns = UINT64_MAX,
                       .model = { model, strlen(model) }, .runtime = { runtime, strlen(runtime) },
                       .job_id = EXJ_STR("j-1"), .record_id = EXJ_STR("r-1"), .token = 1 };
}

/* One call, waited for. The end's texts live in the slot. */
__attribute__((unused)) static exj_call_end run_once(exj_instance *i, exj_call_slot *s,
                                                     const exj_call_ports *ports)
{
    static const exj_call_ports none = { 0 };
    exj_args a = args_of("{\"id\":\"g1\",\"nodes\":[]}", RUNTIME);
    exj_call_end end = { 0 };

    cr_assert(exj_call_run(i, s, &a, ports ? ports : &none, &end, NULL));
    return end;
}

/* What find says about the plugin NAME of the room, which must be refused. */
__attribute__((unused)) static exj_err refusal(const struct room *r, const char *name)
{
    exj_guest *g = NULL;
    exj_err err = { 0 };
    exj_code rc = exj_registry_find(r->registry, name, EXJ_KIND_GRAPH_ENGINE, &g, &err);

    cr_assert_neq(rc, EXJ_OK, "%s was accepted", name);
    cr_assert_null(g);
    return err;
}

static inline void says(const char *text, const char *part)
{
    cr_assert_not_null(strstr(text, part), "'%s' does not say '%s'", text, part);
}

__attribute__((unused)) static void slice_says(exj_slice text, const char *part)
{
    char *copy = exj_slice_dup(text);

    says(copy, part);
    free(copy);
}

#endif /* EXJ_TESTS_PLUGINS_GUESTS_H */
