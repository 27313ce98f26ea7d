/* tests/plugins/ffi/host.h - opens ffi.so as a plugin host does and asks it for one row. */
#ifndef EXJ_TESTS_PLUGINS_FFI_HOST_H
#define EXJ_TESTS_PLUGINS_FFI_HOST_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

#define LIB EXJ_BINARY_DIR "/tests/plugins/ffi/libffitest-full.so"
#define BARE EXJ_BINARY_DIR "/tests/plugins/ffi/libffitest-bare.so"

/* A manifest: `more` are members with a comma behind each, or nothing. */
#define MANIFEST(more, functions)                                                         \
    "{\"exellixFfi\":1,\"library\":\"" LIB "\"," more "\"functions\":[" functions "]}"
/* One node "n". */
#define NODE(symbol, args, returns)                                                       \
    "{\"node\":\"n\",\"symbol\":\"" symbol "\",\"args\":[" args "],\"returns\":{" returns "}}"
#define ONE(symbol, args, returns) MANIFEST("", NODE(symbol, args, returns))
/* One argument from input.a and the result, both of one type. */
#define ECHO(symbol, type)                                                                \
    ONE(symbol, "{\"from\":\"input.a\",\"type\":\"" type "\"}", "\"type\":\"" type "\"")

#define POINT                                                                             \
    "\"enums\":{\"mode\":{\"type\":\"u32\",\"names\":{\"fast\":0,\"safe\":1,\"odd\":40}}}," \
    "\"structs\":{\"point\":{\"size\":24,\"fields\":["                                     \
    "{\"name\":\"x\",\"type\":\"f64\",\"offset\":0},"                                      \
    "{\"name\":\"y\",\"type\":\"f64\",\"offset\":8},"                                      \
    "{\"name\":\"weight\",\"type\":\"i8\",\"offset\":16},"                                 \
    "{\"name\":\"mode\",\"type\":\"enum:mode\",\"offset\":20}]}},"

struct said {
    exj_result result;
    char code[64], text[1024];
    char *answer; /* of completed: the object below outputsByNodeId */
    unsigned emitted, logged, asked;
    unsigned cancel_from; /* 0: never; else the n-th question is answered with a yes */
    exj_result refuse;    /* what emit answers */
};

static inline void on_log(void *ctx, exj_call c, int32_t level, exj_str message)
{
    (void)ctx, (void)level;
    cr_assert(message.n > 0);
    ((struct said *)(uintptr_t)c)->logged++;
}

static inline void on_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str message)
{
    struct said *s = (struct said *)(uintptr_t)c;

    (void)ctx;
    s->result = r;
    snprintf(s->code, sizeof s->code, "%.*s", (int)code.n, code.p);
    snprintf(s->text, sizeof s->text, "%.*s", (int)message.n, message.p);
}

static inline int32_t on_cancelled(void *ctx, exj_call c)
{
    struct said *s = (struct said *)(uintptr_t)c;

    (void)ctx;
    return s->cancel_from && ++s->asked >= s->cancel_from ? EXJ_R_CANCELLED : 0;
}

static inline exj_result on_emit(void *ctx, exj_call c, exj_str json)
{
    static const char head[] = "{\"status\":\"completed\",\"outputsByNodeId\":";
    struct said *s = (struct said *)(uintptr_t)c;

    (void)ctx;
    s->emitted++;
    if (s->refuse)
        return s->refuse;
    cr_assert(json.n > sizeof head && memcmp(json.p, head, sizeof head - 1) == 0, "%.*s",
              (int)json.n, json.p);
    free(s->answer);
    /* Not strndup: test_memory.c makes that fail, and it is not the engine's. */
    cr_assert(asprintf(&s->answer, "%.*s", (int)(json.n - sizeof head), json.p + sizeof head - 1) >= 0);
    return EXJ_R_OK;
}

static const exj_host test_host = {
    .size_of = EXJ_SIZE(exj_host, emit), .abi_minor = 0, .log = on_log, .error = on_error,
    .cancelled = on_cancelled, .emit = on_emit,
};

static inline const exj_plugin *open_plugin(void)
{
    void *dl = dlopen(EXJ_BINARY_DIR "/bin/plugins/ffi.so", RTLD_NOW | RTLD_LOCAL), *at;
    exj_entry entry;

    cr_assert(dl, "%s", dlerror());
    at = dlsym(dl, "exellix_plugin_v1");
    memcpy(&entry, &at, sizeof entry);
    return entry(EXJ_ABI_MINOR)->plugins[0];
}

struct guest {
    const exj_plugin *plugin;
    void *instance;
};

static inline struct guest guest_open(void)
{
    struct guest g = { .plugin = open_plugin() };

    cr_assert_eq(g.plugin->create(&test_host, exj_text("{}"), &g.instance), EXJ_R_OK);
    return g;
}

static inline void guest_close(struct guest *g)
{
    g->plugin->destroy(g->instance);
}

/* `s` may have cancel_from and refuse set. */
static inline void ask_into(const struct guest *g, const char *model, const char *input,
                            struct said *s)
{
    exj_args a = { .size_of = sizeof a, .attempt = 1, .deadline_ns = UINT64_MAX };
    char *runtime = NULL;
    exj_result r;

    cr_assert(asprintf(&runtime, "{\"jobId\":\"j\",\"job\":{},\"input\":%s,"
                                 "\"executionMemory\":{\"m\":\"memo\"}}", input) > 0);
    a.model = exj_text(model);
    a.runtime = exj_text(runtime);
    r = g->plugin->execute(g->instance, (exj_call)(uintptr_t)s, &a);
    cr_assert_eq(r, s->code[0] ? s->result : EXJ_R_OK, "returned %d, said %d %s", r, s->result,
                 s->code);
    s->result = r;
    free(runtime);
}

static inline struct said ask(const char *model, const char *input)
{
    struct guest g = guest_open();
    struct said s = { 0 };

    ask_into(&g, model, input, &s);
    guest_close(&g);
    return s;
}

/* outputsByNodeId, exactly. */
static inline void gives(const char *model, const char *input, const char *outputs)
{
    struct said s = ask(model, input);

    cr_assert_eq(s.result, EXJ_R_OK, "%s: %s", s.code, s.text);
    cr_assert_eq(s.emitted, 1);
    cr_assert_str_eq(s.answer, outputs);
    free(s.answer);
}

/* Refused: result, code, a part of the text; nothing emitted. */
static inline void refuses(const char *model, const char *input, exj_result result,
                           const char *code, const char *part)
{
    struct said s = ask(model, input);

    cr_assert_eq(s.emitted, 0, "answered %s", s.answer);
    cr_assert_str_eq(s.code, code, "%s: %s", s.code, s.text);
    cr_assert_eq(s.result, result, "%d: %s: %s", s.result, s.code, s.text);
    cr_assert(strstr(s.text, part), "'%s' does not say '%s'", s.text, part);
    free(s.answer);
}

#endif /* EXJ_TESTS_PLUGINS_FFI_HOST_H */
