/* exellix/jobs.h says [any]: counts, questions, documents, pause and waiting, all beside each
 * other on a worker that works. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exellix/jobs.h"

#define ROUNDS 40

#define HOLDS(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);      \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

static exj_jobs *jobs;
static atomic_uint executed;

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    (void)instance;
}

static exj_result work(void *instance, exj_call c, const exj_args *a)
{
    static const char answer[] = "{\"status\":\"completed\"}";
    const exj_host *h = instance;

    (void)a;
    atomic_fetch_add(&executed, 1);
    return h->emit(h->ctx, c, (exj_str){ answer, sizeof answer - 1 });
}

static exj_result yield_rows(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = instance;
    char *input = strndup(a->model.p, a->model.n), json[64];
    const char *digits = input ? strpbrk(input, "0123456789") : NULL;
    long n = digits ? strtol(digits, NULL, 10) : 0;
    exj_result r = EXJ_R_OK;

    free(input);
    for (long i = 0; i < n && r == EXJ_R_OK; i++) {
        int len = snprintf(json, sizeof json, "{\"id\":\"r%ld\",\"record\":{\"i\":%ld}}", i, i);

        r = h->emit(h->ctx, c, (exj_str){ json, (uint64_t)len });
    }
    return r;
}

#define PLUGIN(id_, kind_, execute_)                                                       \
    {                                                                                      \
        .size_of = EXJ_SIZE(exj_plugin, destroy), .kind = kind_,                           \
        .flags = EXJ_FLAG_CONCURRENT, .id = id_, .version = "1", .create = create,         \
        .execute = execute_, .destroy = destroy                                            \
    }
static const exj_plugin engine = PLUGIN("own.engine", EXJ_KIND_GRAPH_ENGINE, work);
static const exj_plugin source = PLUGIN("own.source", EXJ_KIND_SOURCE_RESOLVER, yield_rows);
static const exj_plugin *const both[] = { &engine, &source };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 2, 0, both };

static void apply(int rows)
{
    char json[512];

    snprintf(json, sizeof json,
             "[{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},\"publicationStatus\":"
             "\"Published\",\"operationalState\":\"Running\"},{\"matrixCatalogId\":\"m\","
             "\"payload\":{\"input\":{\"n\":%d},\"graphs\":[\"g\"],\"pollWhenEmptySeconds\":60,"
             "\"dataSource\":{\"kind\":\"record\",\"resolver\":\"own.source\"}}}]", rows);
    HOLDS(exj_jobs_apply(jobs, json, strlen(json), NULL, 0) == EXJ_JOBS_OK);
}

static void take(void *user, uint32_t status, const char *answer, size_t bytes)
{
    (void)user, (void)answer;
    HOLDS(status == 200 && bytes > 0);
}

static void *ask(void *path)
{
    char why[200];

    for (int i = 0; i < ROUNDS; i++) {
        HOLDS(exj_jobs_ask(jobs, "GET", path, NULL, NULL, 0, take, NULL, NULL, 0) == EXJ_JOBS_OK);
        HOLDS(exj_jobs_health(jobs, why, sizeof why) == EXJ_JOBS_OK);
    }
    return NULL;
}

static void *count(void *unused)
{
    exj_jobs_counts n = EXJ_JOBS_COUNTS_INIT;

    for (int i = 0; i < ROUNDS * 4; i++) {
        exj_jobs_get_counts(jobs, &n);
        HOLDS(n.completed <= n.claimed && n.failed == 0);
    }
    return unused;
}

static void *pause_and_go_on(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        exj_jobs_pause(jobs);
        exj_jobs_wait_idle(jobs, 1); /* an error that another may ask for */
        exj_jobs_resume(jobs);
    }
    return unused;
}

static void *change(void *unused)
{
    char text[200];

    for (int i = 1; i <= ROUNDS; i++) {
        apply(i * 10);
        exj_jobs_error(jobs, text, sizeof text);
    }
    return unused;
}

int main(void)
{
    static char status[] = "/workers/status", rows[] = "/rows";
    exj_jobs_options o = EXJ_JOBS_OPTIONS_INIT;
    exj_jobs_counts n = EXJ_JOBS_COUNTS_INIT;
    const char *tmp = getenv("TMPDIR");
    char dir[200], line[300];
    pthread_t t[6];

    snprintf(dir, sizeof dir, "%s/exj-race-XXXXXX", tmp && strlen(tmp) < 150 ? tmp : "/tmp");
    HOLDS(mkdtemp(dir));
    o.data_dir = dir;
    o.executor = "own.engine";
    o.max_concurrent = 4;
    HOLDS(exj_jobs_open(&o, &jobs, NULL, 0) == EXJ_JOBS_OK);
    HOLDS(exj_jobs_add_plugins(jobs, "own", &bundle, NULL, 0) == EXJ_JOBS_OK);
    HOLDS(exj_jobs_start(jobs, NULL, 0) == EXJ_JOBS_OK);
    HOLDS(pthread_create(&t[0], NULL, ask, status) == 0);
    HOLDS(pthread_create(&t[1], NULL, ask, rows) == 0);
    HOLDS(pthread_create(&t[2], NULL, count, NULL) == 0);
    HOLDS(pthread_create(&t[3], NULL, pause_and_go_on, NULL) == 0);
    HOLDS(pthread_create(&t[4], NULL, change, NULL) == 0);
    HOLDS(pthread_create(&t[5], NULL, count, NULL) == 0);
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    HOLDS(exj_jobs_wait_idle(jobs, 60000) == EXJ_JOBS_OK);
    exj_jobs_get_counts(jobs, &n);
    HOLDS(n.completed == ROUNDS * 10 && n.materialized == ROUNDS * 10);
    HOLDS(atomic_load(&executed) == ROUNDS * 10);
    HOLDS(exj_jobs_stop(jobs, 30000, NULL) == EXJ_JOBS_OK);
    exj_jobs_free(jobs);
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    return system(line);
}
