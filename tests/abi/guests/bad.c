/* tests/abi/guests/bad.c - "abi.bad": misbehaves in the way that its model names. Written
 * with what minor 0 has: it is compiled from the header of every minor. */
#include <stdlib.h>
#include <string.h>

#include "exellix/plugin.h"

static const exj_host *host;
static exj_call old;

static exj_str text(const char *s)
{
    return (exj_str){ s, strlen(s) };
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

static exj_result good(exj_call c)
{
    return host->emit(host->ctx, c, text("{\"status\":\"completed\"}"));
}

static exj_result huge(exj_call c)
{
    uint64_t n = 4u << 20;
    char *p = malloc(n);
    exj_result r;

    if (!p)
        return EXJ_R_RETRY;
    memset(p, ' ', n);
    r = host->emit(host->ctx, c, (exj_str){ p, n });
    free(p);
    return r == EXJ_R_INPUT ? EXJ_R_OK : EXJ_R_FAILED;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
#define ASKED(word) (a->model.n == sizeof(word) - 1 && memcmp(a->model.p, word, sizeof(word) - 1) == 0)
    (void)instance;
    if (ASKED("silent"))
        return EXJ_R_OK;
    if (ASKED("nonsense"))
        return 77;
    if (ASKED("pending"))
        return EXJ_R_PENDING;
    if (ASKED("twice")) {
        good(c);
        return host->emit(host->ctx, c, text("{}")) == EXJ_R_INTERNAL ? EXJ_R_OK : EXJ_R_FAILED;
    }
    if (ASKED("completes")) {
        good(c);
        host->complete(host->ctx, c, EXJ_R_OK);
        return EXJ_R_OK;
    }
    if (ASKED("made-up"))
        return host->emit(host->ctx, c + 4096, text("{}")) == EXJ_R_INTERNAL ? good(c) : EXJ_R_FAILED;
    if (ASKED("late"))
        return host->emit(host->ctx, old, text("{}")) == EXJ_R_INTERNAL ? good(c) : EXJ_R_FAILED;
    if (ASKED("huge"))
        return huge(c);
    if (ASKED("text")) {
        host->error(host->ctx, c, EXJ_R_FAILED, text("Code\xc0"), text("t\xe4st"));
        return EXJ_R_FAILED;
    }
    old = c;
    return good(c);
}

static const exj_plugin bad = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .id = "abi.bad",
    .version = "6.6.6",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &bad };
static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins), .abi_minor = EXJ_ABI_MINOR, .n = 1, .plugins = plugins,
};
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, 0)
