/* core/http/api.h - every operation an operator has, as request -> response.
 *
 * One router for all doors: TCP (needs the key for mutations), the daemon's Unix socket
 * (0600: whoever may open it is the operator; `trusted`), and the command line without a
 * daemon, which calls exj_api_call itself. So a command does the same with and without a
 * daemon. Paths below the prefix (default /v1); bodies are JSON.
 *
 *   GET  /health[?probe=dependencies]   GET /metrics        GET /version
 *   GET  /graphs                        GET /matrices
 *   PATCH /graphs/:id/operational       PATCH /graphs/:id/publication
 *   GET  /graphs/:id/kv[?after=&limit=]  GET, DELETE /graphs/:id/kv?key=
 *          what plugins keep for the graph (exellix.kv/1)
 *   POST /matrices/:id/events[?autoId=true&atomic=true&brief=true]   (api_events_in.c)
 *          body: {"id","record","priority"?,"runAfter"?,"uniqueKey"?,"concurrencyKey"?}, an
 *          array of such, or one a line (application/x-ndjson); at most 10000, 8 MiB
 *   POST /matrices/:id/trigger[?graphId=]  POST /graphs/:id/trigger
 *          body: one event, all members optional; or none
 *   GET  /workers/status[?matrixCatalogId=]
 *   POST /workers/pause                 POST /workers/resume
 *   GET  /configs/graphs[/:id]          GET /configs/matrices[/:id]      the documents
 *   PUT  /configs/graphs/:id            PUT /configs/matrices/:id
 *          body: the document; ?dryRun=true checks and answers the difference;
 *          ?expectedVersion=N (else: whatever it is)
 *          -> {"kind","id","action":"created|updated|unchanged","version","dryRun",
 *              "changes":[{"path","from","to"}]}
 *   DELETE /configs/graphs/:id          DELETE /configs/matrices/:id  [?dryRun=true]
 *   GET, PUT, DELETE /configs/schedules[/:id]            the same for schedules
 *   GET  /schedules[?after=&limit=]     where each stands -> {"schedules":[…],"next"}
 *   GET  /schedules/:id[?next=N]        and its next N ticks (10)
 *   POST /schedules/:id/pause, /resume  /trigger: what a tick starts, now
 *   GET  /rows?matrixCatalogId&graphId&matrixRunId&status&errorCode&after&limit
 *          -> {"rows":[…],"next":N|null}
 *   GET  /rows/:matrixRowId  (percent-encoded once)   POST /rows/:matrixRowId/retry
 *   GET  /snapshots/:id[?limit=]        a query snapshot and its first records
 *   GET  /rows/:matrixRowId/journal[?limit=]  /steps[?body=true]   its history (spec 2.3)
 *   POST /rows/:matrixRowId/signals/:name     body: any JSON up to 64 KiB
 *   POST /rows/:matrixRowId/cancel {"reason"?}  /rerun {"fromStep"?}
 *   POST /rows/:matrixRowId/run         a terminal row answers its stored receipt
 *   GET  /journal/verify[?after=&limit=]      rows held against their journal, a page at once
 *   GET  /plugins[?load=true]           GET /plugins/:id   (load needs the key)
 *          -> {"plugins":[every file and every generation of it],"executors":[…]}
 *   POST /plugins/:id/reload, /rollback  /trial, body {"path"?}: tried, not taken
 *   POST /plugins/:id/pin, body {"sha256"?}              /unpin
 *          :id is a plugin's id or what an executor is configured with
 *   GET  /plugins/:id/history[?limit=]  GET /plugins/:id/versions     the kept copies
 *   GET  /quarantine[?after=&limit=]    -> {"plugins":[…],"rows":[…],"next":N|null}
 *   POST /quarantine/plugins/:idOrSha256/release          (rows: POST /rows/:id/retry)
 *   GET  /events?after&matrixCatalogId&graphId&limit     GET /rows/:id/events?after&limit
 *          -> {"events":[…],"next":N|null,"first":N,"last":N}, or with Accept:
 *             text/event-stream the stream, from Last-Event-ID or `after` on
 *   GET  /dead-letters[?sink=&after=&limit=]  -> {"deadLetters":[…],"next":N|null}
 *   GET, DELETE /dead-letters/:id       POST /dead-letters/:id/replay
 *   GET  /sinks                         -> {"sinks":[…]}: how they do (docs/sinks.md)
 *   GET  /openapi.json
 *
 * Every change takes Idempotency-Key (core/http/command.h).
 * Errors: {"statusCode","error","code","message"} (spec 1.7).
 * Threads: exj_api_call from any thread.
 */
#ifndef EXJ_CORE_HTTP_API_H
#define EXJ_CORE_HTTP_API_H

#include "core/run/engine.h"

typedef struct exj_api {
    exj_store *store;         /* borrowed */
    exj_engine *engine;       /* NULL without a daemon: workers routes answer 503 */
    exj_registry *plugins;
    struct exj_sinks *sinks;  /* NULL: none */
    exj_metrics *metrics;     /* may be NULL */
    struct exj_shelf *shelf;  /* what is remembered of plugins; may be NULL */
    struct exj_streams *streams; /* NULL: no daemon; events cannot be streamed */
    const char *snapshots_dir; /* DATA_DIR/snapshots; NULL: none are kept */
    const char *prefix;       /* "/v1" */
    const char *api_key;      /* NULL: mutations over TCP answer 501 */
    const char *worker_id, *build_id;
    uint32_t running_states;
    bool scheduler_probe;
    uint32_t idempotency_hours; /* how long an Idempotency-Key is remembered; 0: 24 */
    exj_nsec started;
} exj_api;

typedef struct exj_request {
    const char *method; /* "GET" */
    exj_slice path;     /* raw, still percent-encoded, without the query */
    exj_slice query;    /* raw, without '?' */
    exj_slice body;
    exj_slice content_type; /* as sent; empty: JSON */
    bool trusted;       /* Unix socket or in process: no key needed */
    exj_slice api_key;  /* x-exellix-jobs-api-key or Bearer; empty: none */
    exj_slice idempotency_key; /* p NULL: none was sent */
    exj_slice accept, last_event_id; /* headers; empty: not sent */
} exj_request;

typedef struct exj_response {
    unsigned status;
    const char *content_type; /* static */
    const char *allow;        /* static; 405 only, else NULL */
    bool replayed;            /* the stored answer of a command that was done before */
    struct exj_stream *stream; /* NULL; else the body, from exj_stream_read; whoever sends it
                                 takes it away (core/http/stream.h) */
    exj_buf body;
} exj_response;

/* Always fills *ret (500 on lack of memory); exj_response_release it. */
void exj_api_call(const exj_api *api, const exj_request *q, exj_response *ret);
void exj_response_release(exj_response *r);

#endif /* EXJ_CORE_HTTP_API_H */
