/* test/host.h - a host for one plugin, small enough to read: one call at a time, a journal
 * in memory, everything that was said kept to be looked at. `plugin check` is stricter. */
#ifndef TEST_HOST_H
#define TEST_HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exellix/json.h"
#include "exellix/plugin.h"

#ifdef __cplusplus
extern "C"
#endif
const exj_bundle *exellix_plugin_v1(uint32_t host_minor);

#define TEST_MOST 64

struct test_step {
    char *name, *json; /* NUL-terminated */
};

struct test_host {
    exj_host table;
    char *emitted[TEST_MOST];   /* what emit was given, in order */
    unsigned emits, emits_most; /* after emits_most records: no more is wanted; 0: no limit */
    char error_code[100], error_text[500];
    int32_t cancel;             /* what cancelled() answers */
    struct test_step steps[TEST_MOST];
    unsigned steps_len;
};

static char *test_copy(exj_str s)
{
    char *p = (char *)malloc((size_t)s.n + 1);

    if (!p)
        abort();
    if (s.n)
        memcpy(p, s.p, (size_t)s.n);
    p[s.n] = '\0';
    return p;
}

static void test_log(void *ctx, exj_call c, int32_t level, exj_str text)
{
    (void)ctx, (void)c;
    fprintf(stderr, "  log %d: %.*s\n", (int)level, (int)text.n, text.p);
}

static void test_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str text)
{
    struct test_host *h = (struct test_host *)ctx;

    (void)c, (void)r;
    snprintf(h->error_code, sizeof h->error_code, "%.*s", (int)code.n, code.p);
    snprintf(h->error_text, sizeof h->error_text, "%.*s", (int)text.n, text.p);
}

static int32_t test_cancelled(void *ctx, exj_call c)
{
    (void)c;
    return ((struct test_host *)ctx)->cancel;
}

static void test_progress(void *ctx, exj_call c, double at, exj_str note)
{
    (void)ctx, (void)c, (void)at, (void)note;
}

static exj_result test_emit(void *ctx, exj_call c, exj_str json)
{
    struct test_host *h = (struct test_host *)ctx;

    (void)c;
    if (h->emits == TEST_MOST || (h->emits_most && h->emits == h->emits_most))
        return EXJ_R_CANCELLED;
    h->emitted[h->emits++] = test_copy(json);
    return EXJ_R_OK;
}

static exj_result test_lookup(void *ctx, exj_call c, exj_str step, exj_str *ret)
{
    struct test_host *h = (struct test_host *)ctx;

    (void)c;
    for (unsigned i = 0; i < h->steps_len; i++)
        if (strlen(h->steps[i].name) == step.n && !memcmp(h->steps[i].name, step.p, step.n)) {
            *ret = exj_text(h->steps[i].json);
            return EXJ_R_OK;
        }
    return EXJ_R_MISS;
}

static exj_result test_intent(void *ctx, exj_call c, exj_str step)
{
    (void)ctx, (void)c, (void)step;
    return EXJ_R_OK;
}

static exj_result test_commit(void *ctx, exj_call c, exj_str step, exj_str json)
{
    struct test_host *h = (struct test_host *)ctx;
    exj_str there;

    if (test_lookup(ctx, c, step, &there) == EXJ_R_OK)
        return EXJ_R_OK; /* the first one stands */
    if (h->steps_len == TEST_MOST)
        return EXJ_R_RETRY;
    h->steps[h->steps_len].name = test_copy(step);
    h->steps[h->steps_len++].json = test_copy(json);
    return EXJ_R_OK;
}

static exj_result test_complete(void *ctx, exj_call c, exj_result r)
{
    (void)ctx, (void)c, (void)r;
    return EXJ_R_INTERNAL; /* no call of this host is ever pending */
}

static exj_result test_thread_start(void *ctx, void (*fn)(void *), void *arg)
{
    (void)ctx, (void)fn, (void)arg;
    return EXJ_R_UNSUPPORTED;
}

static const void *test_extension(void *ctx, const char *id)
{
    (void)ctx, (void)id;
    return NULL;
}

static void test_host_init(struct test_host *h)
{
    memset(h, 0, sizeof *h);
    h->table.size_of = EXJ_SIZE(exj_host, extension);
    h->table.abi_minor = EXJ_ABI_MINOR;
    h->table.ctx = h;
    h->table.log = test_log;
    h->table.error = test_error;
    h->table.cancelled = test_cancelled;
    h->table.progress = test_progress;
    h->table.emit = test_emit;
    h->table.journal_lookup = test_lookup;
    h->table.journal_intent = test_intent;
    h->table.journal_commit = test_commit;
    h->table.complete = test_complete;
    h->table.thread_start = test_thread_start;
    h->table.extension = test_extension;
}

/* Forget what was said; the journal stays, as it does between two attempts of a row. */
static void test_host_next_attempt(struct test_host *h)
{
    while (h->emits)
        free(h->emitted[--h->emits]);
    h->error_code[0] = h->error_text[0] = '\0';
}

static void test_host_release(struct test_host *h)
{
    test_host_next_attempt(h);
    while (h->steps_len) {
        free(h->steps[--h->steps_len].name);
        free(h->steps[h->steps_len].json);
    }
}

/* create, one execute, destroy. `model` and `runtime` are JSON, see exellix/plugin.h. */
static exj_result test_run(struct test_host *h, const exj_plugin *p, const char *model,
                           const char *runtime)
{
    exj_args args;
    void *instance = NULL;
    exj_result r;

    memset(&args, 0, sizeof args);
    args.size_of = EXJ_SIZE(exj_args, token);
    args.attempt = 1;
    args.deadline_ns = UINT64_MAX;
    args.model = exj_text(model);
    args.runtime = exj_text(runtime);
    args.job_id = exj_text("test||test|r-1");
    args.record_id = exj_text("r-1");
    args.token = 1;
    r = p->create(&h->table, exj_text("{}"), &instance);
    if (r != EXJ_R_OK)
        return r;
    r = p->execute(instance, 1, &args);
    p->destroy(instance);
    return r;
}

/* The text of a file, NUL-terminated; free() it. */
static char *test_file(const char *path)
{
    static const size_t most = 1 << 20;
    FILE *f = fopen(path, "rb");
    char *text = (char *)malloc(most + 1);
    size_t n;

    if (!f || !text) {
        fprintf(stderr, "cannot read %s\n", path);
        abort();
    }
    n = fread(text, 1, most, f);
    fclose(f);
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    text[n] = '\0';
    return text;
}

static int test_failures;

#define EXPECT(what)                                                                       \
    do {                                                                                   \
        if (!(what)) {                                                                     \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);             \
            test_failures++;                                                               \
        }                                                                                  \
    } while (0)

#endif /* TEST_HOST_H */
