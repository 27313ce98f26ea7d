/* core/embed/wiring.h - how a worker is put together: store, plugins, metrics, engine and
 * doors, opened in that order and closed the other way round. The daemon and the embedding
 * library (include/exellix/jobs.h) are its two users.
 *
 * Memory:  texts in the options are borrowed until exj_wiring_close. A wiring must not move
 *          once it is open: its doors point into it.
 * Threads: one owner; exj_wiring_call and exj_wiring_apply from any once it is open, as long
 *          as the owner neither starts nor closes it meanwhile.
 */
#ifndef EXJ_CORE_EMBED_WIRING_H
#define EXJ_CORE_EMBED_WIRING_H

#include "core/http/server.h"
#include "core/run/sinks.h"

typedef struct exj_wiring_options {
    /* store */
    const char *command; /* "serve", for the note of the lock */
    const char *data_dir;
    bool fast;
    const char *record; /* a history of all that is done is appended to this file; NULL: none */
    /* plugins: called when the store is locked, so that DIR is ours alone */
    exj_code (*open_plugins)(void *user, const char *private_dir, exj_registry **ret,
                             exj_err *err);
    void *user;
    const char *private_dir; /* NULL: DATA_DIR/loaded */
    const char *transform_exe; /* exellix-jobs-transform; NULL: no transforms */
    /* engine: as exj_engine_options */
    const char *worker_id, *executor, *only_matrix;
    uint32_t max_concurrent, prefetch, running_states;
    exj_msec lease_ms;
    struct exj_shelf *shelf;        /* NULL: nothing is reloaded */
    const char *const *plugin_dirs; /* watched */
    bool manual_reload;
    uint32_t poll_ms, canary_percent, trial_rows, drain_ms, grace_ms, row_crashes;
    uint64_t max_rows;
    bool strict, one_cycle;
    int64_t only_seq;
    const char *only_run;
    /* doors */
    const char *socket;    /* NULL: none */
    bool tcp, must_listen; /* must_listen: a door that cannot be opened ends the start */
    const char *bind, *prefix, *api_key;
    uint16_t port;
    bool scheduler_probe;
    uint32_t idempotency_hours; /* 0: 24 */
    const char *sinks; /* event sinks, as exj_sinks_open takes them; NULL: none */
} exj_wiring_options;

typedef struct exj_wiring {
    exj_wiring_options o;
    exj_store *store;
    exj_recorder *record;    /* NULL: none */
    exj_registry *plugins;
    exj_metrics *metrics;
    exj_engine *engine;      /* NULL: not started */
    exj_sinks *sinks;        /* NULL: none */
    exj_server *server;      /* NULL: no doors */
    struct exj_news *news;   /* who hears of commits: sinks, streams */
    exj_api api;
    exj_store_health health; /* as found at open */
    char *snapshots_dir;     /* owned: DATA_DIR/snapshots */
    uint32_t left;           /* executions that outlasted the grace */
} exj_wiring;

/* Store, plugins, metrics. On failure everything that was opened is closed again. */
exj_code exj_wiring_open(exj_wiring *w, const exj_wiring_options *o, exj_err *err);

/* Engine and doors. On failure the wiring is as before. */
exj_code exj_wiring_start(exj_wiring *w, exj_err *err);

/* One operation of the API, trusted; `path` below the prefix. Release *ret. Errors: EXJ_NOMEM. */
exj_code exj_wiring_call(exj_wiring *w, const char *method, const char *path,
                         const char *query, exj_slice body, exj_response *ret, exj_err *err);

/* Append `text` so that it can stand in a path or a query. */
void exj_add_encoded(exj_buf *b, const char *text);

/* Apply the documents in `text`: all are checked by the store before the first is written.
 * Errors: EXJ_INVALID, EXJ_CONFLICT, EXJ_REFUSED, EXJ_IO, EXJ_NOMEM. */
exj_code exj_wiring_apply(exj_wiring *w, exj_slice text, exj_err *err);

/* Doors, then the engine, waiting for what runs up to the grace. Returns how many executions
 * were left to their leases; then the store stays open, because they may still use it, and
 * the process must end soon. */
uint32_t exj_wiring_stop(exj_wiring *w, exj_msec grace_ms);

/* The rest, unless executions were left. Accepts one that is not open. */
void exj_wiring_close(exj_wiring *w);

#endif /* EXJ_CORE_EMBED_WIRING_H */
