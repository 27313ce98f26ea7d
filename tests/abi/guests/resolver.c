/* tests/abi/guests/resolver.c - "abi.resolver": yields the records of its model, n of them,
 * and a cursor. Written with what minor 0 has and with plugin.h alone: it is compiled from
 * the header of every minor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/plugin.h"

struct resolver {
    const exj_host *host;
};

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    struct resolver *r = malloc(sizeof *r);

    if (!r)
        return EXJ_R_RETRY;
    if (config.n < 2 || config.p[0] != '{') {
        static const char code[] = "BadConfig", text[] = "wanted an object";

        h->error(h->ctx, 0, EXJ_R_INPUT, (exj_str){ code, sizeof code - 1 },
                 (exj_str){ text, sizeof text - 1 });
        free(r);
        return EXJ_R_INPUT;
    }
    r->host = h;
    *instance = r;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    free(instance);
}

/* {"n":N} and nothing else. */
static unsigned wanted(exj_str model)
{
    unsigned n = 0;

    for (uint64_t k = 0; k < model.n; k++)
        if (model.p[k] >= '0' && model.p[k] <= '9')
            n = n * 10 + (unsigned)(model.p[k] - '0');
    return n;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = ((struct resolver *)instance)->host;
    unsigned n = wanted(a->model);
    exj_result r = EXJ_R_OK;
    char text[128];

    for (unsigned k = 1; k <= n && r == EXJ_R_OK; k++) {
        int w = snprintf(text, sizeof text, "{\"id\":\"%.*s-%u\",\"record\":{\"k\":%u}}",
                         (int)a->record_id.n, a->record_id.p, k, k);

        if (h->cancelled(h->ctx, c))
            return EXJ_R_CANCELLED;
        r = h->emit(h->ctx, c, (exj_str){ text, (uint64_t)w });
        h->progress(h->ctx, c, (double)k / n, (exj_str){ text, (uint64_t)w });
    }
    return r == EXJ_R_CANCELLED ? EXJ_R_OK : r;
}

static const exj_plugin resolver = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "abi.resolver",
    .version = "1.0.0",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &resolver };
static const exj_bundle bundle = {
    .size_of = EXJ_SIZE(exj_bundle, plugins), .abi_minor = EXJ_ABI_MINOR, .n = 1, .plugins = plugins,
};
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, EXJ_FLAG_CONCURRENT)
