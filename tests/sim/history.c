/* What the recorder and the guests write is kept, over all lives of a seed, and given to
 * the history checker after the drain. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/history/check.h"

#define RESTART_MS                                                                       \
    3600000 /* pauses and further faults lengthen a recovery: not judged here */
#define SECOND_ENGINE ((uint64_t)1 << 40)

/* An event as it is kept: its texts stand behind it. */
struct kept {
    exj_hist_event e;
    uint32_t bytes; /* of all, with this struct */
};

static exj_slice *const *texts_of(exj_hist_event *e, exj_slice *ret[8])
{
    ret[0] = &e->actor;
    ret[1] = &e->job;
    ret[2] = &e->worker;
    ret[3] = &e->outcome;
    ret[4] = &e->to;
    ret[5] = &e->code;
    ret[6] = &e->key;
    ret[7] = &e->digest;
    return ret;
}

/* The memory outlives the life that writes. */
void *__real_realloc(void *p, size_t n);

void sim_history_add(const exj_hist_event *e)
{
    struct kept k = { *e, sizeof(k) };
    exj_slice *texts[8];
    char *to;

    texts_of(&k.e, texts);
    for (unsigned i = 0; i < 8; i++)
        k.bytes += (uint32_t)texts[i]->n;
    k.bytes = (k.bytes + 15) & ~15u;
    if (sim->history_len + k.bytes > sim->history_cap) {
        sim->history_cap = 2 * sim->history_cap + 1048576;
        sim->history = __real_realloc(sim->history, sim->history_cap);
        if (!sim->history)
            abort();
    }
    to = sim->history + sim->history_len;
    memcpy(to, &k, sizeof(k));
    to += sizeof(k);
    for (unsigned i = 0; i < 8; i++) {
        if (texts[i]->n)
            memcpy(to, texts[i]->p, texts[i]->n);
        to += texts[i]->n;
    }
    sim->history_len += k.bytes;
}

int64_t sim_pid(void)
{
    return 1000 + sim->life;
}

static void from_recorder(void *user, const exj_hist_event *e)
{
    exj_hist_event core = *e;

    (void)user;
    if (e->op == EXJ_HIST_CORE)
        core.value = sim_pid();
    sim_history_add(&core);
}

/* Of a second engine: it is the same process, whose start, end and plugins the first
 * tells. */
static void from_second(void *user, const exj_hist_event *e)
{
    exj_hist_event other = *e;

    (void)user;
    if (e->op == EXJ_HIST_CORE || e->op == EXJ_HIST_GENERATION)
        return;
    other.id += SECOND_ENGINE;
    sim_history_add(&other);
}

exj_code sim_history_open(exj_err *err)
{
    exj_code rc = exj_recorder_open_sink(from_recorder, NULL, "worker", 2 * sim->life,
                                         &sim->recorder, err);

    if (rc == EXJ_OK)
        rc = exj_recorder_open_sink(from_second, NULL, "worker", 2 * sim->life,
                                    &sim->second_recorder, err);
    if (rc == EXJ_OK)
        rc = exj_recorder_open_sink(from_recorder, NULL, "executor", 2 * sim->life + 1,
                                    &sim->executor_recorder, err);
    return rc;
}

/* Of who drives the simulation. */
void sim_history_tell(exj_hist_op op, const char *outcome, int64_t value)
{
    exj_hist_event e = { .t = sim->mono_ns,
                         .actor = EXJ_SLICE_LITERAL("driver"),
                         .incarnation = 1,
                         .op = op,
                         .phase = EXJ_HIST_OK,
                         .value = value,
                         .outcome = exj_slice_of(outcome) };

    sim_history_add(&e);
}

static void add_all(exj_check *c)
{
    exj_err err = { 0 };

    for (size_t at = 0; at < sim->history_len;) {
        struct kept k;
        exj_slice *texts[8];
        const char *p = sim->history + at + sizeof(k);

        memcpy(&k, sim->history + at, sizeof(k));
        texts_of(&k.e, texts);
        for (unsigned i = 0; i < 8; i++) {
            texts[i]->p = p;
            p += texts[i]->n;
        }
        if (exj_check_add(c, &k.e, &err) != EXJ_OK)
            sim_fail("history: %s", err.text);
        at += k.bytes;
    }
}

void sim_history_check(void)
{
    exj_check_options o = { .lease_ms = sim->lease_ms, .restart_ms = RESTART_MS };
    exj_check *c = exj_check_new(&o);
    exj_check_report r;
    exj_err err = { 0 };

    if (!c)
        abort();
    add_all(c);
    if (exj_check_finish(c, &r, &err) != EXJ_OK)
        sim_fail("history: %s", err.text);
    for (size_t i = 0; i < r.findings_len; i++)
        sim_note("finding I%u %s: %s", r.findings[i].invariant, r.findings[i].anomaly,
                 r.findings[i].text);
    if (r.findings_len)
        sim_fail("history: I%u %s: row %" PRId64 ": %s", r.findings[0].invariant,
                 r.findings[0].anomaly, r.findings[0].row, r.findings[0].text);
    for (unsigned i = 1; i <= EXJ_CHECK_LAST; i++)
        sim->t.tried[i] += r.lines[i].tried;
    exj_check_free(c);
}
