/* tests/abi/old_host.c - the smallest host, compiled from the header of each minor.
 *
 *   old_host [--any-minor] FILE.so MODEL
 *
 * Loads the file, makes one instance of each of its plugins and runs one call. Prints what
 * was emitted and how the call ended. Its tables are as long as its header says and end at
 * a page that cannot be read: a plugin that reads more than size_of promises dies.
 * Exit status: 0 it ran; 3 the plugin wants a newer minor; 1 anything else. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "exellix/plugin.h"

static exj_str text(const char *s)
{
    return (exj_str){ s, strlen(s) };
}

/* `n` bytes that end where reading ends. */
static void *at_the_edge(const void *from, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED || mprotect(p + page, page, PROT_NONE) != 0)
        return NULL;
    return memcpy(p + page - n, from, n);
}

static void say(const char *what, exj_str s)
{
    printf("%s: %.*s\n", what, (int)s.n, s.p);
}

static void host_log(void *ctx, exj_call c, int32_t level, exj_str s)
{
    (void)ctx, (void)c, (void)level;
    say("log", s);
}

static void host_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str s)
{
    (void)ctx, (void)c;
    printf("error %d: %.*s: %.*s\n", (int)r, (int)code.n, code.p, (int)s.n, s.p);
}

static int32_t host_cancelled(void *ctx, exj_call c)
{
    (void)ctx, (void)c;
    return 0;
}

static void host_progress(void *ctx, exj_call c, double at, exj_str note)
{
    (void)ctx, (void)c, (void)at, (void)note;
}

static exj_result host_emit(void *ctx, exj_call c, exj_str json)
{
    (void)ctx;
    if (c != 42)
        return EXJ_R_INTERNAL;
    say("emit", json);
    return EXJ_R_OK;
}

static exj_result host_lookup(void *ctx, exj_call c, exj_str step, exj_str *ret)
{
    (void)ctx, (void)c, (void)step, (void)ret;
    return EXJ_R_UNSUPPORTED;
}

static exj_result host_intent(void *ctx, exj_call c, exj_str step)
{
    (void)ctx, (void)c, (void)step;
    return EXJ_R_UNSUPPORTED;
}

static exj_result host_commit(void *ctx, exj_call c, exj_str step, exj_str json)
{
    (void)ctx, (void)c, (void)step, (void)json;
    return EXJ_R_UNSUPPORTED;
}

static exj_result host_complete(void *ctx, exj_call c, exj_result r)
{
    (void)ctx, (void)c, (void)r;
    return EXJ_R_INTERNAL;
}

static exj_result host_thread_start(void *ctx, void (*fn)(void *), void *arg)
{
    (void)ctx, (void)fn, (void)arg;
    return EXJ_R_UNSUPPORTED;
}

static const void *host_extension(void *ctx, const char *id)
{
    (void)ctx, (void)id;
    return NULL;
}

static int run(const exj_plugin *p, const exj_host *host, const char *model)
{
    static const char runtime[] =
        "{\"jobId\":\"j-1\",\"job\":{\"graphId\":\"g1\"},\"input\":{\"question\":\"?\"}}";
    exj_args a = { .size_of = EXJ_SIZE(exj_args, token), .attempt = 1, .deadline_ns = UINT64_MAX,
                   .model = text(model), .runtime = { runtime, sizeof runtime - 1 },
                   .job_id = text("j-1"), .record_id = text("r-1"), .token = 1 };
    const exj_args *args = at_the_edge(&a, a.size_of);
    void *instance = NULL;
    exj_result r;

    if (!args)
        return 1;
    printf("plugin: %s %s\n", p->id, p->version);
    r = p->create(host, text("{}"), &instance);
    if (r != EXJ_R_OK) {
        printf("create: %d\n", (int)r);
        return 1;
    }
    if (EXJ_HAS(p, exj_plugin, self_test))
        printf("self_test: %d\n", (int)p->self_test(instance, 42));
    printf("execute: %d\n", (int)p->execute(instance, 42, args));
    if (EXJ_HAS(p, exj_plugin, resolve_model))
        printf("resolve_model: %d\n", (int)p->resolve_model(instance, 42, text("g1")));
    p->destroy(instance);
    return 0;
}

int main(int argc, char **argv)
{
    exj_host table = {
        .size_of = EXJ_SIZE(exj_host, extension), .abi_minor = EXJ_ABI_MINOR, .log = host_log,
        .error = host_error, .cancelled = host_cancelled, .progress = host_progress,
        .emit = host_emit, .journal_lookup = host_lookup, .journal_intent = host_intent,
        .journal_commit = host_commit, .complete = host_complete,
        .thread_start = host_thread_start, .extension = host_extension,
    };
    int any = argc > 1 && strcmp(argv[1], "--any-minor") == 0;
    const exj_host *host = at_the_edge(&table, table.size_of);
    const exj_bundle *b;
    union {
        void *object;
        exj_entry entry;
    } symbol;
    void *library;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 3 + any || !host) {
        fprintf(stderr, "old_host [--any-minor] FILE.so MODEL\n");
        return 1;
    }
    library = dlopen(argv[1 + any], RTLD_NOW | RTLD_LOCAL);
    symbol.object = library ? dlsym(library, "exellix_plugin_v1") : NULL;
    if (!symbol.object) {
        fprintf(stderr, "%s: %s\n", argv[1 + any], dlerror());
        return 1;
    }
    b = symbol.entry(EXJ_ABI_MINOR);
    if (!b || b->size_of < EXJ_SIZE(exj_bundle, plugins))
        return 1;
    if (b->abi_minor > EXJ_ABI_MINOR) {
        printf("minor: wanted at most %u, found %u\n", EXJ_ABI_MINOR, b->abi_minor);
        if (!any)
            return 3;
    }
    for (uint32_t k = 0; k < b->n; k++) {
        int rc = b->plugins[k]->size_of < EXJ_SIZE(exj_plugin, destroy)
                     ? 1
                     : run(b->plugins[k], host, argv[2 + any]);

        if (rc)
            return rc;
    }
    return 0;
}
