/* core/job/config.h - graph and matrix config documents (spec 1.2), parsed once.
 *
 * Documents come as JSON text, are checked against a closed schema (unknown key: error
 * with the nearest known one, except below payload.model, payload.input, mappedInput,
 * graphEntry and metadata, which are free), and become plain structs. Every message names
 * the path ("payload.graphs[1]"), the value and what is allowed.
 *
 * Graph:  graphId, version?, payload{graphId, mappedInput?, graphEntry?, model?,
 *         execution{priority?, timeoutSeconds?, concurrency?, maxAttempts?, isolation?,
 *         executor?, retry{initialSeconds?, maxSeconds?, factor?, jitter?},
 *         rateLimit{count, perSeconds?}, concurrencyPerKey?, finalErrors[]?}, metadata?},
 *         publicationStatus?, operationalState?, createdAt?, updatedAt?, deletedAt?,
 *         tombstoneId?
 * Matrix: matrixCatalogId, version?, payload{input?, graphs[], dataSource{kind,
 *         resolver?, config?, transform{jq, memoryMB?, timeoutSeconds?, maxBytes?,
 *         maxRecords?}?, maxBytes?}, pollWhenEmptySeconds?, maxAttempts?, overflow?,
 *         concurrency?, maxQueue?, retry?, matrixRunId?, priority?, retention{days? |
 *         seconds?, failedDays? | failedSeconds?}?, metadata?,
 *         keys{unique?, uniqueSeconds?, concurrency?, priority?, runAfter?}, trigger?},
 *         createdAt?, updatedAt?
 * Effective config = defaults < matrix payload < per-graph payload.execution.
 */
#ifndef EXJ_CORE_JOB_CONFIG_H
#define EXJ_CORE_JOB_CONFIG_H

#include "core/base/json.h"
#include "core/job/keys.h"
#include "core/job/retry.h"
#include "core/job/snapshot_rule.h"

typedef enum exj_publication { EXJ_DRAFT, EXJ_PUBLISHED, EXJ_ARCHIVED } exj_publication;
typedef enum exj_operational {
    EXJ_NOT_OPERATIONAL, EXJ_READY, EXJ_OP_RUNNING, EXJ_PAUSED, EXJ_OP_FAILED
} exj_operational;

const char *exj_publication_word(exj_publication p);
const char *exj_operational_word(exj_operational o);
/* Errors: EXJ_INVALID listing the allowed words. */
exj_code exj_publication_parse(exj_slice word, exj_publication *ret, exj_err *err);
exj_code exj_operational_parse(exj_slice word, exj_operational *ret, exj_err *err);

/* Where the executor of a graph runs; unset: the worker's setting decides. */
typedef enum exj_isolation {
    EXJ_ISOLATION_UNSET, EXJ_ISOLATION_IN_PROCESS, EXJ_ISOLATION_HOST, EXJ_ISOLATION_SANDBOX
} exj_isolation;

#define EXJ_RETRY_HAS_INITIAL 1u
#define EXJ_RETRY_HAS_MAX 2u
#define EXJ_RETRY_HAS_FACTOR 4u
#define EXJ_RETRY_HAS_JITTER 8u

typedef struct exj_graph_config {
    char *graph_id;             /* owned, as are all pointers here */
    exj_publication publication;
    exj_operational operational;
    bool tombstoned;            /* deletedAt or tombstoneId present */
    bool id_mismatch;           /* payload.graphId differs: never executed */
    char *model;                /* JSON text; payload.model, else {"id":…,"nodes":[]} */
    char *memory;               /* JSON object text: seed of executionMemory; see
                                   exj_memory_seed_add below */
    bool memory_needs_record;   /* memory names fields of the record (mappedInput `from`) */
    json_t *mapped_input;       /* NULL, or the array/object as given */
    bool has_priority, has_timeout, has_max_attempts, has_retry;
    uint32_t retry_set;         /* which members of `retry` the document names: EXJ_RETRY_HAS_* */
    int32_t priority;           /* higher first; -1000..1000 */
    exj_msec timeout_ms;        /* 0: none */
    uint32_t concurrency;       /* 0: none */
    exj_retry_policy retry;
    char *executor;             /* NULL: the worker's */
    exj_isolation isolation;    /* "in-process", "host", "sandbox" */
    uint32_t rate;              /* rows that may start in rate_ms; 0: no limit */
    exj_msec rate_ms;
    uint32_t per_key;           /* rows of one concurrency key at once; 0: one */
    char **final_errors;        /* error codes after which no attempt follows */
    size_t final_errors_len;
} exj_graph_config;

typedef enum exj_source_kind {
    EXJ_SOURCE_RECORD, EXJ_SOURCE_STORAGE, EXJ_SOURCE_SNAPSHOT, EXJ_SOURCE_EVENT
} exj_source_kind;
typedef enum exj_overflow { EXJ_OVERFLOW_QUEUE, EXJ_OVERFLOW_DROP } exj_overflow;

typedef struct exj_matrix_config {
    char *matrix_id;
    char *run_id;               /* "" when none */
    char **graphs;
    size_t graphs_len;          /* >= 1, no duplicates */
    exj_source_kind source;
    char *resolver;             /* NULL: none named */
    char *resolver_config;      /* JSON object text */
    exj_snapshot_rule snapshot;
    char *input;                /* JSON object text */
    exj_msec poll_ms;           /* 100..86400000; default 5000 */
    exj_retry_policy retry;     /* with maxAttempts inside */
    int32_t priority;
    uint32_t concurrency;       /* 0: none */
    exj_overflow overflow;
    uint32_t max_queue;         /* default 100 */
    /* How long rows that ended are kept; 0: for ever. Dead ones (failed) have a time of their
     * own, so that none goes unseen. */
    exj_msec retention_ms, retention_failed_ms;
    bool scheduled;             /* "trigger": "schedule": its source is asked when a schedule
                                   says so, never of its own; default "scan" */
    bool bounded;               /* the document says overflow or maxQueue: the overflow rule
                                   holds for rows that are pushed. Scanned sources never drop:
                                   their cycle waits until there is room */
    exj_key_fields keys;
} exj_matrix_config;

/* What one graph of one matrix runs with. */
typedef struct exj_effective {
    exj_retry_policy retry;
    int32_t priority;
    exj_msec timeout_ms;
    uint32_t concurrency;
    uint32_t rate, per_key; /* rate 0: none; per_key: at least 1 */
    exj_msec rate_ms;
    char *const *final_errors; /* the graph config's */
    size_t final_errors_len;
} exj_effective;

/* Parse for WRITING: everything is checked. *ret_canonical (may be NULL) gets the document
 * as it will be stored (compact JSON without version/createdAt/updatedAt, which the store
 * owns). `id_expected` empty: taken from the document. Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_graph_config_parse(exj_slice doc, exj_slice id_expected, exj_graph_config *ret,
                                exj_buf *ret_canonical, exj_err *err);
exj_code exj_matrix_config_parse(exj_slice doc, exj_slice id_expected,
                                 exj_matrix_config *ret, exj_buf *ret_canonical,
                                 exj_err *err);
/* Parse for READING what is stored: unknown keys are let through, a payload.graphId that
 * differs sets id_mismatch. */
exj_code exj_graph_config_read(exj_slice doc, exj_graph_config *ret, exj_err *err);
exj_code exj_matrix_config_read(exj_slice doc, exj_matrix_config *ret, exj_err *err);
void exj_graph_config_release(exj_graph_config *c);   /* accepts a zeroed struct */
void exj_matrix_config_release(exj_matrix_config *c);

/* Bit i set: operational state i counts as running. Default READY and RUNNING. */
#define EXJ_RUNNING_STATES_DEFAULT ((1u << EXJ_READY) | (1u << EXJ_OP_RUNNING))
/* May it run? Errors: EXJ_REFUSED, text begins "GraphNotSchedulableError: " + reason. */
exj_code exj_graph_schedulable(const exj_graph_config *c, uint32_t running_states,
                               exj_err *err);
/* NULL graph: defaults and matrix only; NULL matrix: defaults and graph only. */
exj_effective exj_effective_of(const exj_matrix_config *m, const exj_graph_config *g);
/* Is no attempt to follow a failure with this error code? (spec 2.5) */
bool exj_effective_is_final(const exj_effective *e, exj_slice code);
/* Append the executionMemory object for one record: graphEntry.inputs (object) and
 * mappedInput: an object is copied; array items are a field name "f" (copies that field of
 * the record), {"name","value"} or {"name","from"}. */
exj_code exj_memory_seed_add(const exj_graph_config *g, exj_slice record, exj_buf *b,
                             exj_err *err);

#endif /* EXJ_CORE_JOB_CONFIG_H */
