/* core/run/engine.h - the worker: every thread of the core that moves rows.
 *
 * discovery (configs -> pools), one cycle loop a matrix (resolver -> materialize), one
 * claimer, W workers, one keeper (renew, reap, promote). Rows move one way: claimed in
 * batches, wait in a bounded ring per pool, are executed, their outcomes join the next
 * commit. docs/threads.md has threads, locks and their order.
 *
 * Memory: the engine borrows store, registry and recorder; all outlive it.
 * Threads: all functions from any thread.
 */
#ifndef EXJ_CORE_RUN_ENGINE_H
#define EXJ_CORE_RUN_ENGINE_H

#include "core/base/json.h"
#include "core/history/recorder.h"
#include "core/plugin/plugin.h"
#include "core/plugin/shelf.h"
#include "core/run/metrics.h"
#include "core/store/store.h"

typedef struct exj_engine exj_engine;

typedef struct exj_engine_options {
    exj_store *store;
    exj_registry *plugins;
    exj_metrics *metrics;
    const char *worker_id;     /* copied, as are all texts */
    const char *executor;      /* plugin name or path; NULL: the stub, said loudly */
    uint32_t max_concurrent;   /* executions at once, 1..1024; also the worker threads */
    uint32_t prefetch;         /* rows claimed ahead, 1..8192; 0: 4096 */
    exj_msec lease_ms;         /* 1000..900000; 0: 60000 */
    uint32_t running_states;   /* 0: EXJ_RUNNING_STATES_DEFAULT */
    bool strict;               /* a row whose graph has no config is refused */
    exj_recorder *record;      /* what is executed, by which generations; NULL: nobody wants it */
    bool exclusive_store;      /* at start, reap all rows of other holders at once */
    uint32_t row_crashes;      /* a row that killed its plugin host so often is set aside; 0: 3 */
    /* Reloading. Borrowed for the engine's life; without a shelf nothing is reloaded. */
    struct exj_shelf *shelf;
    const char *const *plugin_dirs; /* NULL-terminated; watched unless manual_reload */
    /* Query snapshots. Borrowed for the engine's life; NULL: none can be taken here. */
    const char *snapshots_dir; /* DATA_DIR/snapshots; this engine is the only one to write there */
    const char *transform_exe; /* exellix-jobs-transform; NULL: only without a transform */
    bool manual_reload;
    uint32_t poll_ms;          /* 0: 5000 */
    uint32_t canary_percent;   /* share of a new version where there is traffic; 0: none, it
                                  takes all rows at once */
    uint32_t trial_rows;       /* completed rows that a new version is tried with */
    uint32_t drain_ms;         /* 0: 60000 */
    uint32_t grace_ms;         /* from a row's deadline to the end of patience */
    uint64_t max_rows;         /* one-shot: stop claiming after so many; 0: no limit */
    bool one_cycle;            /* one-shot: each matrix runs one cycle, then no more */
    const char *only_matrix;   /* NULL: all */
    /* One row alone (with only_matrix, max_rows 1 and one_cycle): no source is asked. */
    int64_t only_seq;          /* 0: all rows */
    const char *only_run;      /* its run; NULL: none */
} exj_engine_options;

exj_code exj_engine_start(const exj_engine_options *o, exj_engine **ret, exj_err *err);

void exj_engine_pause(exj_engine *e);  /* no new claims once it returns; what runs goes on */
void exj_engine_resume(exj_engine *e);
bool exj_engine_is_paused(exj_engine *e);
/* Configs changed (a PATCH, an apply): look again now. Returns at once. */
void exj_engine_wake(exj_engine *e);

/* An operator wants a running row to stop (the store knows it already: EXJ_OP_CANCEL). If we
 * run it, its executor sees cancelled() at once; in a host the end is enforced after the
 * grace period. Rows that we do not run: nothing happens. */
void exj_engine_cancel_row(exj_engine *e, int64_t seq);
/* The store has rows that may be claimable, and maybe a sooner time to wake: a signal came, a
 * row was queued again. Returns at once. */
void exj_engine_rows_changed(exj_engine *e);
/* Rows were inserted beside the engine's own cycles (core/run/admit.h): into this pool; and one
 * of them is to wait until `at` (the store's time). Both return at once. */
void exj_engine_rows_came(exj_engine *e, int64_t pool);
void exj_engine_rows_due(exj_engine *e, exj_msec at);
/* A schedule or its state changed; a schedule asked for a cycle of a matrix. Return at once. */
void exj_engine_schedules_changed(exj_engine *e);
void exj_engine_runs_came(exj_engine *e);
/* The store's number of a pool that the engine knows; 0: it does not. */
int64_t exj_engine_pool(exj_engine *e, exj_slice matrix, exj_slice run, exj_slice graph);

/* One-shot: wait until every matrix did its cycle and no row is claimable, waiting or in
 * flight (or max_rows are done), the store failed, or `until` (monotonic; 0: for ever)
 * passed. True: idle. */
bool exj_engine_wait_idle(exj_engine *e, exj_nsec until);

typedef struct exj_engine_counts {
    uint64_t claimed, completed, failed, blocked, suspended, canceled, retried, fenced,
        materialized, scanned, result_bytes;
    uint32_t in_flight, ready; /* executing now; claimed and waiting in the ring */
    int64_t open;              /* rows queued, waiting or running in known pools */
    uint64_t cycle_errors;     /* cycles that could not ask their resolver to the end */
    bool scanning;             /* some cycle is still asking its resolver */
    bool store_failed;
} exj_engine_counts;
void exj_engine_get_counts(exj_engine *e, exj_engine_counts *ret);

/* The body of GET /workers/status; `matrix` empty: all. New reference. */
json_t *exj_engine_status(exj_engine *e, exj_slice matrix);
/* Parts of the dependency probe: executor found, cycles alive. text: what fails. */
bool exj_engine_health(exj_engine *e, char *ret_text, size_t cap);
/* Name and version of the executor in use, and whether it is the fallback stub. */
void exj_engine_executor(exj_engine *e, exj_buf *ret, bool *ret_is_stub);

/* What an operator orders of a plugin (by id, or by the name an executor is configured with).
 * RELOAD: look at its file now; ROLL_BACK: back to the content that was current before, and
 * pin it; TRIAL: only try the file (or `what`, a path) and report; SWITCH: to the kept content
 * `what` (a sha256). Waits for the end. *ret: the report, new reference.
 * Errors: EXJ_NOT_FOUND (no executor runs it), EXJ_CONFLICT (nothing to do: the text says
 * why), EXJ_INVALID (the new content was refused), EXJ_REFUSED (pinned, quarantined, not
 * trusted), EXJ_CANCELLED (the engine stops), EXJ_NOMEM. */
typedef enum exj_plugin_order {
    EXJ_ORDER_RELOAD, EXJ_ORDER_ROLL_BACK, EXJ_ORDER_TRIAL, EXJ_ORDER_SWITCH
} exj_plugin_order;
exj_code exj_engine_order(exj_engine *e, exj_plugin_order order, const char *plugin,
                          const char *what, json_t **ret, exj_err *err);
/* [{"executor","isolation","plugin","version","generation","state","canary":{…}|null,
 * "draining":N,"refusal":text|null}] of all executors. New reference. */
json_t *exj_engine_executors(exj_engine *e);

/* Stop claiming, give unstarted rows back, wait for what runs up to grace_ms, then leave
 * the rest to its leases; end all threads; free. Returns how many were left running. */
uint32_t exj_engine_stop(exj_engine *e, exj_msec grace_ms);

#endif /* EXJ_CORE_RUN_ENGINE_H */
