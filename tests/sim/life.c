/* One seed: the lives of a worker, one after the other, until all that was to happen has
 * happened and every row has ended. */
#include "tests/sim/sim.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/history/recorded_store.h"
#include "core/run/sinks.h"

#define MS ((int64_t)1000000)
#define SECOND ((int64_t)1000000000)
#define SWITCHES 5000000u       /* of one seed: beyond, something spins */
#define DRAIN_NS (600 * SECOND) /* beyond, something is stuck */
#define LIVES 60u

static const char *const executors[] = { "sim.engine", "sim.single", "sim.serial",
                                         "sim.async", "sim.blocking" };

/* ---- a life
 * ------------------------------------------------------------------------------------ */

static bool open_store(exj_err *err)
{
    exj_sqlite_options o = { .dir = sim->o.dir, .lock_note = "simulated" };
    exj_store *real, *recorded;

    if (sim_history_open(err) != EXJ_OK || exj_sqlite_open(&o, &real, err) != EXJ_OK)
        return false;
    if (exj_recorded_store(real, sim->recorder, &recorded, err) != EXJ_OK) {
        real->v->close(real);
        return false;
    }
    sim->store = sim_record_store(recorded);
    return true;
}

static bool open_engines(exj_err *err)
{
    static const char *const none[] = { NULL };
    char loaded[300];
    exj_registry_options plugins = { .dirs = none, .private_dir = loaded };

    snprintf(loaded, sizeof(loaded), "%s/loaded", sim->o.dir);
    sim->metrics = exj_metrics_new();
    if (!sim->metrics || exj_registry_open(&plugins, &sim->plugins, err) != EXJ_OK ||
        sim_guests_add(sim->plugins, err) != EXJ_OK ||
        exj_news_open(sim->store, &sim->news, err) != EXJ_OK ||
        exj_sinks_open(
            sim->store, sim->plugins,
            EXJ_SLICE_LITERAL("{\"sinks\":[{\"name\":\"sink\",\"plugin\":\"sim.sink\","
                              "\"maxAttempts\":1000,\"firstRetrySeconds\":1,"
                              "\"maxRetrySeconds\":2,\"from\":\"start\"}]}"),
            &sim->sinks, err) != EXJ_OK ||
        exj_sinks_start(sim->sinks, sim->news, err) != EXJ_OK)
        return false;
    for (int i = 0; i < sim->engines_wanted; i++) {
        char id[32];
        exj_engine_options o = {
            .store = sim->store,
            .plugins = sim->plugins,
            .metrics = sim->metrics,
            .worker_id = id,
            .record = i ? sim->second_recorder : sim->recorder,
            .executor = executors[sim->executor_kind],
            .max_concurrent = sim->workers,
            .prefetch = sim->prefetch,
            .lease_ms = sim->lease_ms,
            .exclusive_store = sim->engines_wanted == 1,
            .grace_ms = 200,
        };

        snprintf(id, sizeof(id), sim->same_id ? "w-%d" : "w-%d-%u", i, sim->life);
        sim->now->tag = i;
        if (exj_engine_start(&o, &sim->engines[i], err) != EXJ_OK)
            return false;
        sim->now->tag = -1;
        sim->engines_len = i + 1;
    }
    return true;
}

/* Whoever uses the store beside the engines has left. */
static void end_operators(void)
{
    sim->stopping = true;
    while (sim->operators)
        sim_sleep(10 * MS);
}

static void close_all(void)
{
    end_operators();
    sim->deadline_ns = sim->mono_ns + DRAIN_NS;
    for (int i = 0; i < sim->engines_len; i++)
        if (exj_engine_stop(sim->engines[i], (exj_msec)sim_below(&sim->rng_load, 3000)) !=
            0)
            sim_leave(SIM_CRASHED); /* calls do not come back: the process ends, as a
                                       daemon does */
    if (exj_sinks_stop(sim->sinks, 1000) != 0)
        sim_leave(SIM_CRASHED);
    exj_news_close(sim->news);
    exj_registry_free(sim->plugins);
    exj_metrics_free(sim->metrics);
    sim->store->v->close(sim->store);
    exj_recorder_close(sim->executor_recorder);
    exj_recorder_close(sim->second_recorder);
    exj_recorder_close(sim->recorder);
}

static bool store_failed(void)
{
    exj_engine_counts c;

    for (int i = 0; i < sim->engines_len; i++) {
        exj_engine_get_counts(sim->engines[i], &c);
        if (c.store_failed)
            return true;
    }
    return false;
}

/* The last event may be on its way to the sink when its row is at its end. */
static bool sink_has_all(void)
{
    int64_t first, last;

    if (sim->store->v->events_span(sim->store, &first, &last, NULL) != EXJ_OK)
        return false;
    for (int64_t n = first; n <= last && n < (int64_t)sizeof(sim->delivered); n++)
        if (!sim->delivered[n])
            return false;
    return true;
}

static void drain(void)
{
    int64_t until = sim->mono_ns + DRAIN_NS;

    sim->faults_off = true;
    sim->draining = true;
    sim->full_until_ns = 0;
    sim->io_error = false;
    sim_note("faults are over");
    while (sim->operators)
        sim_sleep(10 * MS);
    while (!sim_resume_all(sim->store)) {
        if (store_failed())
            return;
        sim_sleep(SECOND);
    }
    sim_sleep(5 * sim->lease_ms * MS); /* quiet: all leases of the dead are over */
    sim_history_tell(EXJ_HIST_QUIET, "", 0);
    while (!sim_drain(sim->store)) {
        if (store_failed())
            return;
        if (sim->mono_ns > until)
            sim_fail("I15: rows are not at their end 10 minutes after the last fault");
        sim_sleep(SECOND);
    }
    sim_sleep(10 * SECOND); /* events to the sink; ticks that are due */
    if (!sim_drain(sim->store))
        sim_sleep(20 * SECOND);
    while (!(sim_drain(sim->store) && sink_has_all()) && sim->mono_ns < until)
        sim_sleep(100 * MS);
    if (!store_failed()) {
        sim_check_end();
        sim_history_check();
        sim->done = true;
    }
}

static void *life(void *arg)
{
    exj_err err = { 0 };

    (void)arg;
    if (!open_store(&err)) {
        sim_note("no store: %s", err.text);
        if (err.code != EXJ_FULL && err.code != EXJ_IO && err.code != EXJ_BUSY)
            sim_fail("the store does not open: %s", err.text);
        sim->mono_ns += SECOND; /* whoever starts workers tries again */
        return NULL;
    }
    if (!open_engines(&err)) {
        sim_note("no start: %s", err.text);
        sim->mono_ns += SECOND;
        sim_leave(SIM_CRASHED);
    }
    while (!sim->has_documents) {
        sim->has_documents = sim_put_documents(sim->store);
        if (!sim->has_documents && store_failed())
            break;
        if (!sim->has_documents)
            sim_sleep(100 * MS);
    }
    for (int i = 0; i < sim->engines_len; i++)
        exj_engine_wake(sim->engines[i]);
    if (sim->mono_ns < sim->until_ns) {
        sim->operators = 3;
        sim_start("operator", sim_operator, sim->store);
        sim_start("audit", sim_audit, sim->store);
        sim->stale = sim_start("stale", sim_stale, sim->store);
    }
    while (sim->mono_ns < sim->until_ns && !sim->want_restart && !store_failed())
        sim_sleep(100 * MS);
    if (!sim->want_restart && !store_failed())
        drain();
    sim->want_restart = false;
    close_all();
    return NULL;
}

/* ---- a seed
 * --------------------------------------------------------------------------------------
 */

static void deal(void)
{
    uint64_t seed = sim->o.seed, r;

    sim->rng_sched = seed ^ 0x1111;
    sim->rng_load = seed ^ 0x2222;
    sim->rng_disk = seed ^ 0x3333;
    sim->rng_os = seed ^ 0x4444;
    sim->rng_fault = seed ^ 0x5555;
    r = seed ^ 0x6666;
    sim->preempt = (unsigned[]){ 0, 4, 16, 40, 100 }[sim_below(&r, 5)];
    sim->spurious = sim_chance(&r, 30) ? 40 : 0;
    sim->workers = 1 + (unsigned)sim_below(&r, 4);
    sim->prefetch = sim_chance(&r, 50) ? 0 : 1 + (unsigned)sim_below(&r, 6);
    sim->lease_ms = 1000 + 500 * (unsigned)sim_below(&r, 5);
    sim->graphs = 1 + (unsigned)sim_below(&r, 3);
    sim->max_attempts = 1 + (unsigned)sim_below(&r, 4);
    sim->engines_wanted = sim_chance(&r, 50) ? 2 : 1;
    sim->executor_kind = (unsigned)sim_below(&r, 5);
    sim->same_id = sim_chance(&r, 50);
    sim->rows = 2 + (unsigned)sim_below(&r, 28);
    sim->source_rows = (unsigned)sim_below(&r, 8);
    sim->horizon_ns = (int64_t)(5 + sim_below(&r, 25)) * SECOND;
    if (sim->o.rows && sim->o.rows < sim->rows)
        sim->rows = sim->o.rows;
    if (sim->o.horizon_ms && sim->o.horizon_ms * MS < sim->horizon_ns)
        sim->horizon_ns = sim->o.horizon_ms * MS;
}

/* From one seed to the next nothing is left but the totals. */
static void begin(void)
{
    sim_disk_wipe();
    memset((char *)sim + offsetof(struct sim, per_seed), 0,
           offsetof(struct sim, t) - offsetof(struct sim, per_seed));
    sim->why[0] = '\0';
    sim->digest = sim->o.seed;
    sim->mono_ns = 1000 * SECOND;
    sim->wall_off_ns = (int64_t)1800000000 * SECOND;
    sim->switches_left = SWITCHES;
    deal();
    sim_note("seed %llu: %d engines of %u workers, %s, lease %u ms, %u graphs, %u "
             "records, %u of "
             "the source, %lld ms",
             (unsigned long long)sim->o.seed, sim->engines_wanted, sim->workers,
             executors[sim->executor_kind], sim->lease_ms, sim->graphs, sim->rows,
             sim->source_rows, (long long)(sim->horizon_ns / MS));
    sim_faults_plan();
    sim_history_tell(EXJ_HIST_SETTINGS, "", sim->lease_ms);
    sim->until_ns = sim->mono_ns + sim->horizon_ns;
}

static void begin_life(void)
{
    sim_world_drop();
    if (close_range(sim->first_fd, ~0u, 0) < 0)
        abort();
    sim->life++;
    sim->t.lives++;
    sim->engines_len = 0;
    sim->operators = 0;
    sim->stopping = false;
    sim->deadline_ns = 0;
    memset(sim->versions, 0,
           sizeof(sim->versions)); /* what was on its way is not known */
    sim->store = NULL;
    sim_note("life %u", sim->life);
}

bool sim_seed(void)
{
    sim_end end;

    begin();
    while (!sim->done) {
        begin_life();
        end = sim_run(life, NULL);
        if (end == SIM_FAILED)
            break;
        if (end == SIM_CRASHED)
            sim_history_tell(EXJ_HIST_FAULT, "kill", sim_pid());
        sim_disk_crash(end == SIM_CRASHED && sim->crash == SIM_POWER_CUT);
        sim->crash = SIM_CRASH;
        sim->mono_ns += (int64_t)sim_below(&sim->rng_load, 3000) * MS;
        if (sim->life > LIVES)
            sim_fail("no end after %u lives", LIVES);
        if (sim->end == SIM_FAILED)
            break;
    }
    sim->t.seeds++;
    sim->t.virtual_ns += (uint64_t)(sim->mono_ns - 1000 * SECOND);
    sim->t.failed += sim->end == SIM_FAILED;
    return sim->end != SIM_FAILED;
}
