/* tests/abi/guests/cut.c - "abi.cut": a plugin whose structs and texts end at a page that
 * cannot be read. EXJ_TEST_CUT says which and how long: "plugin:72", "bundle:24", "texts:0". */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "exellix/plugin.h"

static const exj_host *host;
static int texts;

static void *at_the_edge(const void *from, size_t n, size_t room)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED || mprotect(p + page, page, PROT_NONE) != 0)
        abort();
    memset(p, 0xee, page); /* what a later minor may have there */
    return memcpy(p + page - room, from, n < room ? n : room);
}

/* A struct begins where structs may begin. */
static size_t aligned(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static exj_str text(const char *s)
{
    return (exj_str){ texts ? at_the_edge(s, strlen(s), strlen(s)) : s, strlen(s) };
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    host = h;
    *instance = &host;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    (void)instance;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    exj_str none = { NULL, 0 };

    (void)instance;
    (void)a;
    if (texts) {
        host->log(host->ctx, c, EXJ_LOG_LEVEL_INFO, text("logged at the edge"));
        host->error(host->ctx, c, EXJ_R_FAILED, text("Edge"), text("said at the edge"));
        host->progress(host->ctx, c, 0.5, text("half"));
        host->journal_lookup(host->ctx, c, text("step"), &none);
    }
    return host->emit(host->ctx, c, text("{\"status\":\"completed\"}"));
}

static void cancel(void *instance, exj_call c)
{
    (void)instance;
    (void)c;
}

static exj_result self_test(void *instance, exj_call c)
{
    (void)instance;
    (void)c;
    return EXJ_R_OK;
}

static exj_result resolve_model(void *instance, exj_call c, exj_str graph_id)
{
    (void)instance;
    (void)graph_id;
    return host->emit(host->ctx, c, text("{\"id\":\"g\",\"nodes\":[]}"));
}

EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE const exj_bundle *exellix_plugin_v1(uint32_t host_minor);

EXJ_NOTE_SECTION static const exj_note note = {
    8u, 24u, EXJ_NOTE_TYPE, { 'e', 'x', 'e', 'l', 'l', 'i', 'x', 0 },
    EXJ_ABI_MAJOR, EXJ_ABI_MINOR, 1u << EXJ_KIND_GRAPH_ENGINE, 0u, 1u, 0u
};

const exj_bundle *exellix_plugin_v1(uint32_t host_minor)
{
    exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, resolve_model), .kind = EXJ_KIND_GRAPH_ENGINE,
                     .id = "abi.cut", .version = "1.0.0", .create = create, .execute = execute,
                     .destroy = destroy, .cancel = cancel, .self_test = self_test,
                     .resolve_model = resolve_model };
    exj_bundle b = { .size_of = EXJ_SIZE(exj_bundle, plugins), .abi_minor = EXJ_ABI_MINOR, .n = 1 };
    const exj_plugin *list[1];
    const char *cut = getenv("EXJ_TEST_CUT");
    unsigned size = 0;

    (void)host_minor;
    if (cut && sscanf(cut, "plugin:%u", &size) == 1)
        p.size_of = size;
    else if (cut && sscanf(cut, "bundle:%u", &size) == 1)
        b.size_of = size;
    else if (cut && strncmp(cut, "texts", 5) == 0)
        texts = 1;
    p.describe = text("{\"summary\":\"ends at the edge\"}");
    list[0] = at_the_edge(&p, sizeof p, aligned(p.size_of));
    b.plugins = at_the_edge(list, sizeof list, sizeof list);
    return at_the_edge(&b, sizeof b, aligned(b.size_of));
}
