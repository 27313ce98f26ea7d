/* A graph engine that keeps books (exellix.kv/1, exellix.metrics/1). For each record it adds 1
 * to the key "rows" of its graph and counts the record in its own metrics, then does what the
 * record's "then" says:
 *   "keep"   writes {"record":ID} under the key "last" and reads it back (for one row a graph)
 *   "fail"   fails after the add, to be tried again
 *   "flood"  gives 100 series, of which the host takes 64
 * Whatever kv refuses makes the row fail. The answer holds the sum.
 */
#include "exellix/ext/kv.h"
#include "exellix/ext/metrics.h"

#include <stdio.h>
#include <string.h>

struct engine {
    const exj_host *host;
    const exj_ext_kv *kv;
    const exj_ext_metrics *metrics;
};

static struct engine engines[64];
static int used;

static exj_str text(const char *s)
{
    return (exj_str){ s, strlen(s) };
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    int k = __atomic_fetch_add(&used, 1, __ATOMIC_SEQ_CST);
    struct engine *e = &engines[k % 64];

    (void)config;
    e->host = h;
    e->kv = h->extension(h->ctx, EXJ_EXT_KV);
    e->metrics = h->extension(h->ctx, EXJ_EXT_METRICS);
    if (!e->kv || !e->metrics || h->extension(h->ctx, "exellix.none/1")) {
        h->error(h->ctx, 0, EXJ_R_UNSUPPORTED, text("NoExtension"),
                 text("this host has not the extensions it should have"));
        return EXJ_R_UNSUPPORTED;
    }
    *instance = e;
    return EXJ_R_OK;
}

static int says(const exj_args *a, const char *then)
{
    char wanted[40];

    snprintf(wanted, sizeof(wanted), "\"then\":\"%s\"", then);
    return memmem(a->runtime.p, a->runtime.n, wanted, strlen(wanted)) != NULL;
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    static const exj_str rows = EXJ_STR("rows"), last = EXJ_STR("last"),
                         total = EXJ_STR("records_total{kind=\"plain\"}"),
                         busy = EXJ_STR("busy_seconds"), level = EXJ_STR("attempt");
    struct engine *e = instance;
    const exj_host *h = e->host;
    exj_result result = EXJ_R_OK;
    int64_t sum = 0;
    char answer[160], value[160];

    result = e->kv->add(h->ctx, c, rows, 1, &sum);
    e->metrics->counter_add(h->ctx, c, total, 1);
    e->metrics->observe_seconds(h->ctx, c, busy, 0.25);
    e->metrics->gauge_set(h->ctx, c, level, (double)a->attempt);
    if (result == EXJ_R_OK && says(a, "keep")) {
        exj_str got = EXJ_STR("");

        snprintf(value, sizeof(value), "{\"record\":\"%.*s\"}", (int)a->record_id.n,
                 a->record_id.p);
        result = e->kv->put(h->ctx, c, last, text(value));
        if (result == EXJ_R_OK)
            result = e->kv->get(h->ctx, c, last, &got);
        if (result == EXJ_R_OK && (got.n != strlen(value) || memcmp(got.p, value, got.n) != 0))
            result = EXJ_R_INTERNAL;
    }
    for (int k = 0; k < 100 && says(a, "flood"); k++) {
        snprintf(value, sizeof(value), "flood_total{id=\"%03d\"}", k);
        e->metrics->counter_add(h->ctx, c, text(value), 1);
    }
    if (result != EXJ_R_OK) {
        h->error(h->ctx, c, EXJ_R_FAILED, text("KvRefused"), text("kv did not do what it should"));
        return EXJ_R_FAILED;
    }
    if (says(a, "fail") && a->attempt == 1) {
        h->error(h->ctx, c, EXJ_R_RETRY, text("ToldToFail"), text("after the add"));
        return EXJ_R_RETRY;
    }
    snprintf(answer, sizeof(answer),
             "{\"status\":\"completed\",\"outputsByNodeId\":{\"rows\":%lld}}", (long long)sum);
    return h->emit(h->ctx, c, text(answer));
}

static void destroy(void *instance)
{
    (void)instance;
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .id = "kv-engine",
    .version = "1.0.0",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, 0u)
