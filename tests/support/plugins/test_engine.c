/* A graph engine that does what the row's record says, and writes down that it did.
 *
 * Before anything else it appends "B <job> <token> <attempt> <ns>" to the file named by
 * the environment variable EXJ_TEST_EFFECTS, with one write. Fields of the record:
 *   "sleepMs":N     work for so long (ends early, CANCELLED, when asked to stop)
 *   "ends":true     append "E …" when done
 *   "failTimes":N   attempts 1..N answer EXJ_R_RETRY
 *   "then":"…"      what comes after: "completed" (default), "failed", "blocked",
 *                   "suspended" (answers), "final", "input" (results), "crash" (abort),
 *                   "schema", "none", "twice", "huge", "latin1" (bad manners)
 *   "gate":"PATH"   wait until a file of this name exists
 *   "deaf":true     do not look whether it is to stop
 *   "steps":N       durable steps s1 … sN first: one that is in the journal is not run; running
 *                   one appends "S <job>#sK …", its result is {"n":K}; the answer then says
 *                   {"sum": of all n}
 *   "killAt":P      in attempt 1 kill the process at durable point P of the steps: 4 points a
 *                   step: before its intent, after it, before its commit, after it
 *   "progress":N    tell 0, 1/N … 1; "progressEnds":N tell 1 so many times more
 *   "waitSignal":"…" be suspended until the signal came ("waitSeconds":N: at most so long)
 *   "waitMs":N      be suspended for so long; "waitAt":"…" until then; "polls":N be polled so often, every 10 ms
 *   "blockSignal":"…" be blocked until the signal came
 * EXJ_TEST_ENGINE_CREATE=fail makes create fail.
 *
 * EXELLIX_PLUGIN_RECORD names a history (docs/history.md; hosts are given variables of this
 * name only): after steps and waits, around the work itself, a line "effect" says that it
 * begins and one that it is done ("ok") or was not done ("fail").
 */
#include "exellix/plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#ifndef TEST_ENGINE_VERSION
#define TEST_ENGINE_VERSION "7.8.9"
#endif
#ifndef TEST_ENGINE_ID
#define TEST_ENGINE_ID "test-engine"
#endif

struct engine {
    const exj_host *host;
    int fd; /* -1: nothing is written down */
    int record; /* the same of the history */
    unsigned long long incarnation, id; /* in the history: of this instance, of this call */
    exj_result bad; /* of one call: what the host could not do, such as for lack of memory */
};

static exj_str str(const char *s)
{
    return (exj_str){ s, strlen(s) };
}

/* Where the value of `key` begins in the runtime object; NULL: not there. */
static const char *value_of(const char *text, const char *key)
{
    char quoted[40];
    const char *at;

    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    at = strstr(text, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static long number_of(const char *text, const char *key)
{
    const char *at = value_of(text, key);

    return at ? strtol(at, NULL, 10) : 0;
}

static void word_of(const char *text, const char *key, char *ret, size_t cap)
{
    const char *at = value_of(text, key);

    *ret = '\0';
    if (at && *at == '"')
        snprintf(ret, cap, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

static long long now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (long long)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int note(struct engine *e, char what, const exj_args *a)
{
    char line[1024];
    int n;

    if (e->fd < 0)
        return 0;
    n = snprintf(line, sizeof(line), "%c %.*s %llu %u %lld\n", what, (int)a->job_id.n,
                 a->job_id.p, (unsigned long long)a->token, a->attempt, now_ns());
    return write(e->fd, line, (size_t)n) == n ? 0 : -1;
}

/* One line of a history, in one write. */
static void record(struct engine *e, const char *phase, const exj_args *a)
{
    char job[2100], line[2600];
    size_t n = 0;
    int len;

    if (e->record < 0)
        return;
    for (size_t i = 0; i < a->job_id.n && n + 2 < sizeof(job); i++) {
        if (a->job_id.p[i] == '"' || a->job_id.p[i] == '\\')
            job[n++] = '\\';
        job[n++] = a->job_id.p[i]; /* control bytes are escaped in it already */
    }
    job[n] = '\0';
    len = snprintf(line, sizeof(line),
                   "{\"t\":%lld,\"actor\":\"executor\",\"incarnation\":\"%016llx\","
                   "\"op\":\"effect\",\"phase\":\"%s\",\"id\":%llu,\"token\":%llu,"
                   "\"attempt\":%u,\"job\":\"%s\"}\n",
                   now_ns(), e->incarnation, phase, e->id, (unsigned long long)a->token,
                   a->attempt, job);
    if (write(e->record, line, (size_t)len) != len)
        perror("test-engine: the history");
}

static exj_result answer(struct engine *e, exj_call c, const char *json)
{
    exj_result r = e->host->emit(e->host->ctx, c, str(json));

    if (r == EXJ_R_RETRY)
        e->bad = r;
    return r;
}

static exj_result fail(struct engine *e, exj_call c, exj_result r, const char *code)
{
    e->host->error(e->host->ctx, c, r, str(code), str("the record asked for it"));
    return r;
}

static exj_result huge(struct engine *e, exj_call c)
{
    static const char head[] = "{\"status\":\"completed\",\"taskId\":\"";
    size_t n = 64u << 20;
    char *p = malloc(n);

    if (!p)
        return EXJ_R_INTERNAL;
    memset(p, 'x', n);
    memcpy(p, head, sizeof(head) - 1);
    memcpy(p + n - 2, "\"}", 2);
    (void)e->host->emit(e->host->ctx, c, (exj_str){ p, n });
    free(p);
    return EXJ_R_OK;
}

static exj_result end_as(struct engine *e, exj_call c, const char *then)
{
    static const char *const words[] = { "completed", "failed", "blocked", "suspended" };
    char json[256];

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(then, words[i]) != 0)
            continue;
        snprintf(json, sizeof(json), "{\"status\":\"%s\",\"taskId\":\"test\"%s}", then,
                 i == 1   ? ",\"error\":{\"code\":\"AnswerFailed\",\"message\":\"as told\"}"
                 : i == 3 ? ",\"signal\":\"go\""
                          : "");
        answer(e, c, json);
        return EXJ_R_OK;
    }
    if (strcmp(then, "final") == 0)
        return fail(e, c, EXJ_R_FAILED, "ToldToFail");
    if (strcmp(then, "input") == 0)
        return fail(e, c, EXJ_R_INPUT, "ToldToRefuse");
    if (strcmp(then, "crash") == 0)
        abort();
    if (strcmp(then, "schema") == 0)
        answer(e, c, "{\"status\":\"completed\",\"surprise\":1}");
    else if (strcmp(then, "latin1") == 0)
        answer(e, c, "{\"status\":\"completed\",\"taskId\":\"caf\xe9\"}");
    else if (strcmp(then, "huge") == 0)
        return huge(e, c);
    else if (strcmp(then, "twice") == 0) {
        answer(e, c, "{\"status\":\"completed\"}");
        answer(e, c, "{\"status\":\"failed\"}");
    }
    return EXJ_R_OK; /* "none": nothing was emitted */
}

static int has_step(struct engine *e, exj_call c, const char *name, exj_str *ret)
{
    exj_result r = e->host->journal_lookup(e->host->ctx, c, str(name), ret);

    if (r != EXJ_R_OK && r != EXJ_R_MISS)
        e->bad = r; /* nobody knows: whoever asked must not go on */
    return r == EXJ_R_OK;
}

/* The answer that rests on all steps of the row. */
static exj_result answer_sum(struct engine *e, exj_call c, long n)
{
    char name[32], json[128];
    long sum = 0;
    exj_str old;

    for (long k = 1; k <= n; k++) {
        snprintf(name, sizeof(name), "s%ld", k);
        if (!has_step(e, c, name, &old))
            return e->bad ? e->bad : fail(e, c, EXJ_R_FAILED, "StepMissing");
        sum += strtol(old.p + strlen("{\"n\":"), NULL, 10);
    }
    snprintf(json, sizeof(json),
             "{\"status\":\"completed\",\"outputsByNodeId\":{\"end\":{\"sum\":%ld}}}", sum);
    return answer(e, c, json);
}

/* Waits for the time or the gate. False: asked to stop. */
static int work(struct engine *e, exj_call c, long ms, const char *gate, int deaf)
{
    long long end = now_ns() + ms * 1000000LL;

    while (now_ns() < end || (*gate && access(gate, F_OK) != 0)) {
        long long left = (end - now_ns()) / 1000000;

        if (!deaf && e->host->cancelled(e->host->ctx, c))
            return 0;
        poll(NULL, 0, left > 0 && left < 5 ? (int)left : 5);
    }
    return 1;
}

static void kill_at(const exj_args *a, long wanted, long point)
{
    if (a->attempt == 1 && wanted == point)
        raise(SIGKILL);
}

/* Run step `name` unless it ran before. */
static exj_result step(struct engine *e, exj_call c, const exj_args *a, const char *name, long n,
                       long at)
{
    char job[1024], json[64];
    exj_args named = *a;
    exj_str old;
    exj_result r;

    if (has_step(e, c, name, &old))
        return EXJ_R_OK;
    if (e->bad)
        return e->bad;
    kill_at(a, at, 4 * n - 3);
    r = e->host->journal_intent(e->host->ctx, c, str(name));
    if (r != EXJ_R_OK)
        return r;
    kill_at(a, at, 4 * n - 2);
    snprintf(job, sizeof(job), "%.*s#%s", (int)a->job_id.n, a->job_id.p, name);
    named.job_id = str(job);
    if (note(e, 'S', &named) != 0)
        return EXJ_R_INTERNAL;
    snprintf(json, sizeof(json), "{\"n\":%ld}", n);
    kill_at(a, at, 4 * n - 1);
    r = e->host->journal_commit(e->host->ctx, c, str(name), str(json));
    kill_at(a, at, 4 * n);
    return r;
}

static exj_result steps(struct engine *e, exj_call c, const exj_args *a, const char *text)
{
    long n = number_of(text, "steps"), parts = number_of(text, "progress");
    exj_result r = EXJ_R_OK;
    char name[32];

    for (long k = 1; k <= n && r == EXJ_R_OK; k++) {
        snprintf(name, sizeof(name), "s%ld", k);
        r = step(e, c, a, name, k, number_of(text, "killAt"));
    }
    for (long k = 0; parts && k <= parts; k++)
        e->host->progress(e->host->ctx, c, (double)k / (double)parts, str("as told"));
    for (long k = number_of(text, "progressEnds"); k > 0; k--)
        e->host->progress(e->host->ctx, c, 1, str("again"));
    return r;
}

static int lacks_step(struct engine *e, exj_call c, const char *name)
{
    exj_str old;

    return !e->bad && !has_step(e, c, name, &old) && !e->bad;
}

/* What the record waits for, if that has not come yet. False: nothing (any more). */
static int wait(struct engine *e, exj_call c, const char *text)
{
    char name[64], step_name[80], json[256];
    long polls = number_of(text, "polls"), ms = number_of(text, "waitMs");

    word_of(text, "waitSignal", name, sizeof(name));
    snprintf(step_name, sizeof(step_name), "signal:%s", name);
    if (*name && lacks_step(e, c, step_name)) {
        long seconds = number_of(text, "waitSeconds");

        if (seconds)
            snprintf(json, sizeof(json),
                     "{\"status\":\"suspended\",\"signal\":\"%s\",\"timeoutSeconds\":%ld}",
                     name, seconds);
        else
            snprintf(json, sizeof(json), "{\"status\":\"suspended\",\"signal\":\"%s\"}", name);
        return answer(e, c, json) == EXJ_R_OK;
    }
    word_of(text, "blockSignal", name, sizeof(name));
    snprintf(step_name, sizeof(step_name), "signal:%s", name);
    if (*name && lacks_step(e, c, step_name)) {
        snprintf(json, sizeof(json), "{\"status\":\"blocked\",\"signal\":\"%s\"}", name);
        return answer(e, c, json) == EXJ_R_OK;
    }
    if (ms && lacks_step(e, c, "timer")) {
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        snprintf(json, sizeof(json), "{\"status\":\"suspended\",\"resumeAt\":%lld}",
                 (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + ms);
        return answer(e, c, json) == EXJ_R_OK;
    }
    word_of(text, "waitAt", name, sizeof(name));
    if (*name && lacks_step(e, c, "timer")) {
        snprintf(json, sizeof(json), "{\"status\":\"suspended\",\"resumeAt\":\"%s\"}", name);
        return answer(e, c, json) == EXJ_R_OK;
    }
    for (long k = 1; k <= polls; k++) {
        snprintf(step_name, sizeof(step_name), "poll%ld", k);
        if (!lacks_step(e, c, step_name))
            continue;
        e->bad = e->host->journal_commit(e->host->ctx, c, str(step_name), str("true"));
        if (e->bad)
            return 0;
        return answer(e, c, "{\"status\":\"suspended\",\"pollAfter\":0.01}") == EXJ_R_OK;
    }
    return 0;
}

static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    const char *fails = getenv("EXJ_TEST_ENGINE_CREATE");
    const char *path = getenv("EXJ_TEST_EFFECTS");
    const char *history = getenv("EXELLIX_PLUGIN_RECORD");
    struct engine *e;

    (void)config;
    if (fails && strcmp(fails, "fail") == 0) {
        h->error(h->ctx, 0, EXJ_R_FAILED, str("NoLicence"), str("told to fail in create"));
        return EXJ_R_FAILED;
    }
    e = calloc(1, sizeof(*e));
    if (!e)
        return EXJ_R_INTERNAL;
    e->host = h;
    e->fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    e->record = history ? open(history, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (history && e->record < 0)
        perror("test-engine: the history");
    if (e->record >= 0 && getrandom(&e->incarnation, sizeof(e->incarnation), 0) < 0)
        e->incarnation = (unsigned long long)now_ns();
    *instance = e;
    return EXJ_R_OK;
}

static atomic_ullong ids;

static exj_result execute(void *instance, exj_call c, const exj_args *a)
{
    struct engine mine = *(struct engine *)instance, *e = &mine;
    char then[32], gate[256], *text = strndup(a->runtime.p, a->runtime.n);
    exj_result r = EXJ_R_INTERNAL;

    if (!text)
        return EXJ_R_INTERNAL;
    if (note(e, 'B', a) != 0)
        goto out;
    r = steps(e, c, a, text);
    if (r != EXJ_R_OK || wait(e, c, text) || e->bad)
        goto out;
    r = EXJ_R_INTERNAL;
    word_of(text, "then", then, sizeof(then));
    word_of(text, "gate", gate, sizeof(gate));
    e->id = atomic_fetch_add(&ids, 1) + 1;
    record(e, "invoke", a);
    if (!work(e, c, number_of(text, "sleepMs"), gate,
              value_of(text, "deaf") != NULL)) {
        r = EXJ_R_CANCELLED;
        record(e, "fail", a);
        goto out;
    }
    if (value_of(text, "ends") && note(e, 'E', a) != 0)
        goto out;
    record(e, (long)a->attempt <= number_of(text, "failTimes") ? "fail" : "ok", a);
    if ((long)a->attempt <= number_of(text, "failTimes"))
        r = fail(e, c, EXJ_R_RETRY, "ToldToRetry");
    else if (value_of(text, "steps") && !*then)
        r = answer_sum(e, c, number_of(text, "steps"));
    else
        r = end_as(e, c, *then ? then : "completed");
out:
    free(text);
    return r == EXJ_R_OK ? e->bad : r;
}

static void destroy(void *instance)
{
    struct engine *e = instance;

    if (e->fd >= 0)
        close(e->fd);
    if (e->record >= 0)
        close(e->record);
    free(e);
}

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING,
    .id = TEST_ENGINE_ID,
    .version = TEST_ENGINE_VERSION,
    .create = create,
    .execute = execute,
    .destroy = destroy,
};
static const exj_plugin *const plugins[] = { &engine };
static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0,
                                   plugins };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE,
                  EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING)
