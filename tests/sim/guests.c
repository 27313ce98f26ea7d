/* The plugins: an engine whose every attempt does what the seed says, a source that has
 * the same records whenever it is asked, and a sink. They check what the host tells them.
 */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "exellix/plugin.h"

#define MS ((int64_t)1000000)

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

/* ---- steps
 * ----------------------------------------------------------------------------------- */

static sim_step *find_step(uint64_t job, uint64_t name)
{
    for (unsigned i = 0; i < sim->steps_len; i++)
        if (sim->steps[i].job == job && sim->steps[i].name == name)
            return &sim->steps[i];
    return NULL;
}

void sim_forget_steps(uint64_t job)
{
    sim->forgot++;
    for (unsigned i = 0; i < sim->steps_len; i++)
        if (sim->steps[i].job == job)
            sim->steps[i--] = sim->steps[--sim->steps_len];
}

void sim_step_dropped(uint64_t job, const char *name)
{
    sim_forget_steps(job);
    if (sim->steps_len < SIM_STEPS)
        sim->steps[sim->steps_len++] = (sim_step){ job, sim_hash(name, strlen(name)), 0 };
}

/* The row's step is done with this value, and will be for ever (but for a rerun). */
static void saw_step(uint64_t job, const char *name, exj_str value, uint32_t forgot)
{
    uint64_t n = sim_hash(name, strlen(name)), v = sim_hash(value.p, value.n);
    sim_step *s = find_step(job, n);

    if (sim->forgot != forgot)
        return;
    if (s && !s->value)
        sim_fail("%s was dropped by a rerun, and is still there", name);
    if (s && s->value != v)
        sim_fail("a step that was done has another value now: %s: %.*s", name,
                 (int)value.n, value.p);
    if (!s && sim->steps_len < SIM_STEPS)
        sim->steps[sim->steps_len++] = (sim_step){ job, n, v };
}

/* ---- the engine
 * ------------------------------------------------------------------------------- */

struct attempt {
    const exj_host *h;
    exj_call c;
    uint64_t job, rng;
    int64_t token;
    uint32_t attempt;
    bool stubborn;   /* does not ask whether it is cancelled */
    uint64_t effect; /* id of it in the history */
    char name[128];
};

static exj_result stopped(struct attempt *a)
{
    return a->stubborn ? EXJ_R_OK : a->h->cancelled(a->h->ctx, a->c);
}

/* Work for so long. */
static exj_result busy(struct attempt *a, int64_t ns)
{
    exj_result r = EXJ_R_OK;

    while (ns > 0 && (r = stopped(a)) == EXJ_R_OK) {
        int64_t part = ns > 200 * MS ? 200 * MS : ns;

        sim_sleep(part);
        ns -= part;
    }
    return r ? r : stopped(a);
}

/* An attempt whose claim is over may see less than its successor did. */
static bool is_newest(const struct attempt *a)
{
    for (unsigned i = 0; i < sim->jobs_len; i++)
        if (sim->jobs[i].job == a->job)
            return sim->jobs[i].token == a->token;
    return false;
}

static void note_token(const struct attempt *a)
{
    unsigned i;

    for (i = 0; i < sim->jobs_len && sim->jobs[i].job != a->job; i++)
        ;
    if (i == SIM_SEQS)
        return;
    if (i == sim->jobs_len)
        sim->jobs_len++;
    sim->jobs[i].job = a->job;
    if (sim->jobs[i].token < a->token)
        sim->jobs[i].token = a->token;
}

static void tell_effect(struct attempt *a, exj_hist_phase phase)
{
    exj_hist_event e = { .op = EXJ_HIST_EFFECT,
                         .phase = phase,
                         .id = a->effect,
                         .job = { a->name, strlen(a->name) },
                         .token = a->token,
                         .attempt = a->attempt };

    exj_recorder_write(sim->executor_recorder, &e);
}

static void effect(struct attempt *a)
{
    if (sim->effects_len == SIM_EFFECTS) {
        sim_fail("no room for more effects");
        return;
    }
    sim->effects[sim->effects_len++] =
        (sim_effect){ a->job, a->token, sim->mono_ns, a->attempt };
    tell_effect(a, EXJ_HIST_OK);
}

static exj_result do_steps(struct attempt *a, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char name[16], value[64];
        uint32_t forgot = sim->forgot;
        exj_str key, found = { 0 };
        sim_step *known;
        exj_result r;

        snprintf(name, sizeof(name), "step-%u", i);
        key = (exj_str){ name, strlen(name) };
        r = a->h->journal_lookup(a->h->ctx, a->c, key, &found);
        if (r == EXJ_R_OK) {
            sim->t.replayed_steps++;
            saw_step(a->job, name, found, forgot);
            continue;
        }
        if (r != EXJ_R_MISS)
            return r;
        known = find_step(a->job, sim_hash(name, strlen(name)));
        if (forgot == sim->forgot && known && known->value && is_newest(a))
            sim_fail("%s is done, and the journal does not know it", name);
        if (known && !known->value)
            *known = sim->steps[--sim->steps_len];
        if (sim_chance(&a->rng, 50))
            a->h->journal_intent(a->h->ctx, a->c, key);
        r = busy(a, (int64_t)sim_below(&a->rng, 50) * MS);
        if (r != EXJ_R_OK)
            return r;
        if (sim_chance(&a->rng, 10))
            return EXJ_R_RETRY;
        snprintf(value, sizeof(value), "{\"by\":%lld}", (long long)a->token);
        r = a->h->journal_commit(a->h->ctx, a->c, key, (exj_str){ value, strlen(value) });
        if (r != EXJ_R_OK)
            return r;
        sim->t.steps++;
        if (a->h->journal_lookup(a->h->ctx, a->c, key, &found) == EXJ_R_OK)
            saw_step(a->job, name, found, forgot);
    }
    return EXJ_R_OK;
}

static exj_result answer(struct attempt *a, const char *text)
{
    return a->h->emit(a->h->ctx, a->c, (exj_str){ text, strlen(text) });
}

static exj_result complete(struct attempt *a)
{
    char text[128];

    effect(a);
    snprintf(text, sizeof(text),
             "{\"status\":\"completed\",\"outputsByNodeId\":{\"n\":{\"by\":%lld}}}",
             (long long)a->token);
    return answer(a, text);
}

static exj_result suspend(struct attempt *a)
{
    char text[128];

    switch (sim_below(&a->rng, 5)) {
    case 0:
        snprintf(
            text, sizeof(text), "{\"status\":\"suspended\",\"resumeAt\":%lld}",
            (long long)(sim_wall_ns() / MS + 100 + (int64_t)sim_below(&a->rng, 4000)));
        break;
    case 1:
        snprintf(text, sizeof(text), "{\"status\":\"suspended\",\"pollAfter\":%u}",
                 (unsigned)sim_below(&a->rng, 3) + 1);
        break;
    case 2:
    case 3:
        snprintf(text, sizeof(text), "{\"status\":\"suspended\",\"signal\":\"go\"}");
        break;
    default:
        snprintf(text, sizeof(text),
                 "{\"status\":\"suspended\",\"signal\":\"go\",\"timeoutSeconds\":2}");
    }
    return answer(a, text);
}

static exj_result attempt(struct attempt *a)
{
    int64_t lease = sim->lease_ms * MS;
    unsigned what = sim->draining ? 0 : (unsigned)sim_below(&a->rng, 100);
    exj_result r;

    a->stubborn = !sim->draining && sim_chance(&a->rng, 15);
    if (what < 40) {
        r = busy(a, (int64_t)sim_below(&a->rng, 20) * MS);
        return r ? r : complete(a);
    }
    if (what < 52) { /* perhaps past its lease */
        r = busy(a, (int64_t)sim_below(&a->rng, 4 * (uint64_t)lease));
        return r ? r : complete(a);
    }
    if (what < 62) {
        busy(a, (int64_t)sim_below(&a->rng, 100) * MS);
        return EXJ_R_RETRY;
    }
    if (what < 65)
        return EXJ_R_FAILED;
    if (what < 80) {
        r = do_steps(a, 1 + (unsigned)sim_below(&a->rng, 4));
        return r ? r : complete(a);
    }
    if (what < 88)
        return suspend(a);
    if (what < 91)
        return answer(a, sim_chance(&a->rng, 50)
                             ? "{\"status\":\"blocked\"}"
                             : "{\"status\":\"blocked\",\"signal\":\"go\"}");
    if (what < 96) {
        for (unsigned i = 0; i < 5; i++) {
            a->h->progress(a->h->ctx, a->c, i / 4.0, (exj_str)EXJ_STR("on its way"));
            r = busy(a, (int64_t)sim_below(&a->rng, 1500) * MS);
            if (r)
                return r;
        }
        return complete(a);
    }
    if (what < 98)
        return answer(
            a, "{\"status\":\"failed\",\"error\":{\"code\":\"Sim\",\"message\":\"x\"}}");
    return what < 99 ? EXJ_R_INPUT : answer(a, "{\"status\":\"nonsense\"}");
}

static void begin(struct attempt *a, const exj_host *h, exj_call c, const exj_args *args)
{
    a->h = h;
    a->c = c;
    a->job = sim_hash(args->job_id.p, args->job_id.n);
    a->token = (int64_t)args->token;
    a->attempt = args->attempt;
    snprintf(a->name, sizeof(a->name), "%.*s", (int)args->job_id.n, args->job_id.p);
    a->effect = exj_recorder_id(sim->executor_recorder);
    tell_effect(a, EXJ_HIST_INVOKE);
    note_token(a);
    a->rng = sim->o.seed ^ a->job ^ args->token * 0x9e3779b97f4a7c15u;
    sim->t.executions++;
    sim_note("execute %.*s token %lld attempt %u", (int)args->job_id.n, args->job_id.p,
             (long long)args->token, args->attempt);
}

static exj_result execute(void *instance, exj_call c, const exj_args *args)
{
    struct attempt a = { 0 };

    begin(&a, instance, c, args);
    return attempt(&a);
}

static void complete_later(void *arg)
{
    struct attempt *a = arg;
    exj_result r = attempt(a);

    a->h->complete(a->h->ctx, a->c, r);
    free(a);
}

static exj_result execute_async(void *instance, exj_call c, const exj_args *args)
{
    struct attempt *a = calloc(1, sizeof(*a));
    const exj_host *h = instance;

    if (!a)
        return EXJ_R_RETRY;
    begin(a, h, c, args);
    if (sim_chance(&a->rng, 30) ||
        h->thread_start(h->ctx, complete_later, a) != EXJ_R_OK) {
        struct attempt here = *a;

        free(a);
        return attempt(&here);
    }
    return EXJ_R_PENDING;
}

/* ---- the source and the sink
 * --------------------------------------------------------------------- */

static exj_result source(void *instance, exj_call c, const exj_args *args)
{
    const exj_host *h = instance;

    (void)args;
    for (unsigned i = 0; i < sim->source_rows; i++) {
        char text[96];
        exj_result r;

        snprintf(text, sizeof(text),
                 "{\"id\":\"s%u\",\"record\":{\"n\":%u,\"k\":\"k%u\"}}", i, i, i % 3);
        r = h->emit(h->ctx, c, (exj_str){ text, strlen(text) });
        if (r != EXJ_R_OK)
            return r;
        if (!sim->draining && sim_random(&sim->rng_load) % 100 < 3)
            return EXJ_R_RETRY; /* the rest another time */
    }
    return EXJ_R_OK;
}

static exj_result sink(void *instance, exj_call c, const exj_args *args)
{
    const exj_host *h = instance;
    const char *at = args->runtime.p, *end = at + args->runtime.n;

    if (!sim->draining && sim_random(&sim->rng_load) % 100 < 10)
        return EXJ_R_RETRY;
    sim_sleep((int64_t)sim_below(&sim->rng_load, 5) * MS);
    while ((at = memmem(at, (size_t)(end - at), "{\"number\":", 10))) {
        uint64_t n = strtoull(at + 10, NULL, 10);

        if (n < sizeof(sim->delivered))
            sim->delivered[n] = true;
        sim->t.sink_events++;
        at += 10;
    }
    (void)h;
    (void)c;
    return EXJ_R_OK;
}

#define PLUGIN(kind_, flags_, id_, execute_)                                             \
    {                                                                                    \
        .size_of = EXJ_SIZE(exj_plugin, destroy), .kind = kind_, .flags = flags_,        \
        .id = id_, .version = "1.0.0", .describe = EXJ_STR("{}"), .create = create,      \
        .execute = execute_, .destroy = destroy                                          \
    }

exj_code sim_guests_add(exj_registry *r, exj_err *err)
{
    static const exj_plugin all[] = {
        PLUGIN(EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT, "sim.engine", execute),
        PLUGIN(EXJ_KIND_GRAPH_ENGINE, 0, "sim.single", execute),
        PLUGIN(EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_SERIAL_ALL, "sim.serial", execute),
        PLUGIN(EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT | EXJ_FLAG_ASYNC, "sim.async",
               execute_async),
        PLUGIN(EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT | EXJ_FLAG_BLOCKING,
               "sim.blocking", execute),
        PLUGIN(EXJ_KIND_SOURCE_RESOLVER, EXJ_FLAG_CONCURRENT, "sim.source", source),
        PLUGIN(EXJ_KIND_EVENT_SINK, EXJ_FLAG_CONCURRENT, "sim.sink", sink),
    };
    static const exj_plugin *const list[] = { &all[0], &all[1], &all[2], &all[3],
                                              &all[4], &all[5], &all[6] };
    static const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 7, 0,
                                       list };

    return exj_registry_add_static(r, "sim", &bundle, err);
}
