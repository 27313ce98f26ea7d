/* A source resolver that makes up records. The matrix's payload.input:
 *   {"count":N, "prefix":"r", "record":{…}, "pad":BYTES, "page":ROWS, "badAt":N}
 * gives ids r-0000001 … and records with "n", the members of "record", and "pad" filled so
 * that a record is about that many bytes. Kind storage: `page` records a call and a cursor.
 * A file named by "countFile" holds a number that takes the place of count, so that a
 * source may grow. "badAt":N makes record N one with a nested input.
 */
#include "exellix/plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ask {
    const char *text; /* payload.input, NUL-terminated */
    long count, page, pad, bad_at;
    char prefix[64], extra[2048];
};

static const char *value_of(const char *text, const char *key)
{
    char quoted[40];
    const char *at;

    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    at = strstr(text, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static long number_of(const char *text, const char *key, long otherwise)
{
    const char *at = value_of(text, key);

    return at ? strtol(at, NULL, 10) : otherwise;
}

static void word_of(const char *text, const char *key, char *ret, size_t cap)
{
    const char *at = value_of(text, key);

    if (at && *at == '"')
        snprintf(ret, cap, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

/* The members of the object "record", with a comma in front. */
static void members_of(const char *text, char *ret, size_t cap)
{
    const char *at = value_of(text, "record"), *end = at;
    int depth = 0, quoted = 0;

    *ret = '\0';
    if (!at || *at != '{')
        return;
    do {
        if (*end == '"' && end[-1] != '\\')
            quoted = !quoted;
        if (!quoted)
            depth += *end == '{' ? 1 : *end == '}' ? -1 : 0;
    } while (*++end && depth > 0);
    if (end - at > 2)
        snprintf(ret, cap, ",%.*s", (int)(end - at - 2), at + 1);
}

static void read_ask(struct ask *q, const char *text)
{
    char path[512] = "";
    FILE *f;

    *q = (struct ask){ .text = text, .prefix = "r" };
    q->count = number_of(text, "count", 0);
    q->page = number_of(text, "page", 1000);
    q->pad = number_of(text, "pad", 0);
    q->bad_at = number_of(text, "badAt", -1);
    word_of(text, "prefix", q->prefix, sizeof(q->prefix));
    word_of(text, "countFile", path, sizeof(path));
    members_of(text, q->extra, sizeof(q->extra));
    f = *path ? fopen(path, "re") : NULL;
    if (f) {
        if (fscanf(f, "%ld", &q->count) != 1)
            q->count = 0;
        fclose(f);
    }
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static exj_result emit_one(const exj_host *h, exj_call c, const struct ask *q, long n)
{
    char json[8192];
    int len = snprintf(json, sizeof(json) - 1200, "{\"id\":\"%s-%07ld\",\"record\":{\"n\":%ld%s",
                       q->prefix, n, n, q->extra);
    long pad = q->pad - len > 1000 ? 1000 : q->pad - len;

    if (n == q->bad_at)
        len += sprintf(json + len, ",\"input\":{\"x\":1}");
    if (pad > 0)
        len += sprintf(json + len, ",\"pad\":\"%0*d\"", (int)pad, 0);
    len += sprintf(json + len, "}}");
    return h->emit(h->ctx, c, (exj_str){ json, (uint64_t)len });
}

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = instance;
    char *input = strndup(a->model.p, a->model.n);
    char *runtime = strndup(a->runtime.p, a->runtime.n);
    char kind[32] = "", cursor[32] = "";
    exj_result r = EXJ_R_INTERNAL;
    struct ask q;
    long from, to;

    if (!input || !runtime)
        goto out;
    read_ask(&q, input);
    word_of(runtime, "kind", kind, sizeof(kind));
    word_of(runtime, "cursor", cursor, sizeof(cursor));
    from = strtol(cursor, NULL, 10);
    to = strcmp(kind, "storage") == 0 && from + q.page < q.count ? from + q.page : q.count;
    r = EXJ_R_OK;
    for (long n = from; n < to && r == EXJ_R_OK; n++)
        r = emit_one(h, c, &q, n);
    if (r == EXJ_R_OK && to < q.count) {
        char next[64];
        int len = snprintf(next, sizeof(next), "{\"next\":\"%ld\"}", to);

        r = h->emit(h->ctx, c, (exj_str){ next, (uint64_t)len });
    }
out:
    free(input);
    free(runtime);
    return r;
}

static void destroy(void *instance)
{
    (void)instance;
}

static const exj_plugin source = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "test-source",
    .version = "1.0.0",
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &source };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, EXJ_FLAG_CONCURRENT)
