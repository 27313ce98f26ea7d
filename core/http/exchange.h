/* core/http/exchange.h - one call on its way from the router to its answer. Private to
 * core/http: api.c finds the route, checks the key and decodes; api_*.c answer.
 *
 * Every route function answers exactly once, through exj_answer*. Functions named
 * exj_take_* answer 400 themselves and return false when what was sent is wrong.
 *
 * Threads: an exchange belongs to one caller.
 */
#ifndef EXJ_CORE_HTTP_EXCHANGE_H
#define EXJ_CORE_HTTP_EXCHANGE_H

#include "core/http/api.h"

#define EXJ_PARAMS_MAX 16u

typedef struct exj_param {
    exj_slice name, value; /* decoded */
} exj_param;

typedef struct exj_exchange {
    const exj_api *api;
    const exj_request *q;
    exj_response *ret;
    exj_doc_kind kind; /* routes of config documents: which */
    exj_slice id;      /* the variable part of the path, decoded; empty: none */
    exj_slice name;    /* the second one */
    struct exj_command *command; /* NULL: no Idempotency-Key (core/http/command.h) */
    exj_param params[EXJ_PARAMS_MAX];
    size_t params_len;
    exj_buf arena;     /* holds the decoded texts; never moves once filled */
} exj_exchange;

typedef void (*exj_route_fn)(exj_exchange *x);

/* ---- answering ------------------------------------------------------------------------ */
#define EXJ_TYPE_JSON "application/json; charset=utf-8"
#define EXJ_TYPE_METRICS "text/plain; version=0.0.4"

/* `body` is taken; NULL means that building it failed for lack of memory (500). */
void exj_answer_take(exj_exchange *x, unsigned status, json_t *body);
void exj_answer_error(exj_exchange *x, unsigned status, const char *code,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
/* 409 with the version that stands now. */
void exj_answer_stale(exj_exchange *x, int64_t current_version);
/* 404 ConfigStoreNotFoundError for the document of the path. */
void exj_answer_no_document(exj_exchange *x);
/* What a lower room said: the code chooses the status. */
void exj_answer_failure(exj_exchange *x, const exj_err *err);
/* The whole error body, for doors that refuse before there is an exchange. */
void exj_response_refuse(exj_response *ret, unsigned status, const char *code,
                         const char *message);
const char *exj_status_reason(unsigned status); /* "Not Found" */

/* ---- what was sent -------------------------------------------------------------------- */
/* NULL when absent. */
const exj_slice *exj_param_find(const exj_exchange *x, const char *name);
/* The empty slice when absent. */
exj_slice exj_param_text(const exj_exchange *x, const char *name);
bool exj_take_i64(exj_exchange *x, const char *name, int64_t least, int64_t most,
                  int64_t fallback, int64_t *ret);
bool exj_take_bool(exj_exchange *x, const char *name, bool *ret);
/* The body as a JSON object; *ret: new reference. */
bool exj_take_object(exj_exchange *x, json_t **ret);
/* Is the caller allowed to change things? Answers 501 or 401 when not. */
bool exj_take_permission(exj_exchange *x);
/* Is it the configured key? False when none is configured. Constant time. */
bool exj_key_fits(const exj_api *api, exj_slice sent);

/* Decode %XX (and '+' as a space in queries) into `arena`, which has the room. False: not
 * a well-formed encoding of UTF-8 without control bytes. */
bool exj_percent_decode(exj_slice raw, bool query, exj_buf *arena, exj_slice *ret);

/* ---- JSON that several routes write ---------------------------------------------------- */
json_t *exj_json_instant(exj_msec at);   /* RFC 3339, or null for 0 */
/* {"number","at","event","attempt","fencingToken", and what its kind has}; docs/rows.md. New
 * reference; NULL: no memory. (api_journal.c) */
json_t *exj_json_entry(const exj_journal_entry *e);

/* ---- config documents (api_config.c) ---------------------------------------------------- */
typedef struct exj_document {
    json_t *json; /* owned; as stored, without what the store owns */
    int64_t version;
    exj_msec created_at, updated_at;
} exj_document;

const char *exj_kind_word(exj_doc_kind kind); /* "graph" */
void exj_document_release(exj_document *d);
/* Errors: EXJ_NOT_FOUND and what reading gives. */
exj_code exj_document_load(const exj_api *api, exj_doc_kind kind, exj_slice id,
                           exj_document *ret, exj_err *err);
/* Write the one of the path while the stored one has `expected`, answer with `answer` (see
 * exj_effect; it finds the new version in ops[0].u.doc.ret_version), then wake the engine. On
 * EXJ_CONFLICT *ret_version is the current version. */
exj_code exj_document_save(exj_exchange *x, int64_t expected, const json_t *json,
                           void (*answer)(exj_exchange *x, const exj_op *ops, void *user),
                           void *user, int64_t *ret_version, exj_err *err);
/* Every document in the order of ids. `visit` returns false to stop. */
exj_code exj_documents_each(const exj_api *api, exj_doc_kind kind, exj_slice after,
                            size_t limit, exj_doc_visit visit, void *user, exj_err *err);

/* ---- one row (api_rows.c) ------------------------------------------------------------------ */
/* The row of the path, found and printed as in a list. False: answered (400, 404, …).
 * exj_found_row_release it, found or not. */
typedef struct exj_found_row {
    json_t *shown, *details, *input, *result; /* owned; details: what only its page says */
    int64_t seq, token, last_entry;
    exj_status status;
} exj_found_row;
bool exj_take_row(exj_exchange *x, exj_found_row *ret);
/* Its failed attempts, newest first, at most 50. Errors: those of the store. */
exj_code exj_row_failures(exj_exchange *x, int64_t seq, json_t **ret, exj_err *err);
void exj_found_row_release(exj_found_row *r);

/* ---- pages of rows (api_rows.c) ----------------------------------------------------------- */
/* One page of what `f` (limit 1..1000) lets through. *ret_rows: new reference, as in GET
 * /rows; *ret_next: of the page behind it, 0: there is none. */
exj_code exj_rows_page(const exj_api *api, const exj_row_filter *f, json_t **ret_rows,
                       int64_t *ret_next, exj_err *err);

/* ---- plugins (api_plugin_orders.c) --------------------------------------------------------- */
/* False: answered 503: nothing is remembered here (core/plugin/shelf.h). */
bool exj_take_shelf(exj_exchange *x);
/* What the shelf remembers, kept as milliseconds: as RFC 3339, in place, wherever it is called
 * "at" in a list of objects. False: no memory. */
bool exj_at_to_text(json_t *list);
/* The id of the path: a plugin's, or the name an executor is configured with. *ret_id: the
 * plugin's, owned. False: answered. */
bool exj_take_plugin_id(exj_exchange *x, char **ret_id);
/* The entry of `list` (objects with "sha256") whose content begins with `prefix`, at least 8
 * hexadecimal digits of either case; borrowed. Errors: EXJ_INVALID (no such digits, or several
 * begin so), EXJ_NOT_FOUND. */
exj_code exj_sha_find(const json_t *list, exj_slice prefix, json_t **ret, exj_err *err);
bool exj_is_sha_prefix(exj_slice text);

/* ---- the routes -------------------------------------------------------------------------- */
void exj_route_health(exj_exchange *x);           /* api_workers.c */
void exj_route_version(exj_exchange *x);
void exj_route_metrics(exj_exchange *x);
void exj_route_workers_status(exj_exchange *x);
void exj_route_workers_pause(exj_exchange *x);
void exj_route_workers_resume(exj_exchange *x);
void exj_route_graphs(exj_exchange *x);           /* api_graphs.c */
void exj_route_matrices(exj_exchange *x);
void exj_route_operational(exj_exchange *x);
void exj_route_publication(exj_exchange *x);
void exj_route_documents(exj_exchange *x);        /* api_config.c */
void exj_route_document(exj_exchange *x);
void exj_route_document_put(exj_exchange *x);
void exj_route_document_delete(exj_exchange *x);
void exj_route_events(exj_exchange *x);           /* api_events.c */
void exj_route_row_events(exj_exchange *x);
void exj_route_schedules(exj_exchange *x);        /* api_schedules.c */
void exj_route_schedule(exj_exchange *x);
void exj_route_schedule_pause(exj_exchange *x);
void exj_route_schedule_resume(exj_exchange *x);
void exj_route_schedule_trigger(exj_exchange *x);
void exj_route_snapshot(exj_exchange *x);         /* api_snapshots.c */
void exj_route_kv(exj_exchange *x);               /* api_kv.c */
void exj_route_kv_delete(exj_exchange *x);
void exj_route_events_in(exj_exchange *x);        /* api_events_in.c */
void exj_route_matrix_trigger(exj_exchange *x);
void exj_route_graph_trigger(exj_exchange *x);
void exj_route_rows(exj_exchange *x);             /* api_rows.c */
void exj_route_row(exj_exchange *x);
void exj_route_row_retry(exj_exchange *x);
void exj_route_row_cancel(exj_exchange *x);       /* api_row_orders.c */
void exj_route_row_rerun(exj_exchange *x);
void exj_route_row_run(exj_exchange *x);
void exj_route_row_signal(exj_exchange *x);
void exj_route_row_journal(exj_exchange *x);      /* api_journal.c */
void exj_route_row_steps(exj_exchange *x);
void exj_route_journal_verify(exj_exchange *x);
void exj_route_plugins(exj_exchange *x);          /* api_plugins.c */
void exj_route_plugin(exj_exchange *x);
void exj_route_plugin_reload(exj_exchange *x);    /* api_plugin_orders.c */
void exj_route_plugin_rollback(exj_exchange *x);
void exj_route_plugin_trial(exj_exchange *x);
void exj_route_plugin_pin(exj_exchange *x);
void exj_route_plugin_unpin(exj_exchange *x);
void exj_route_plugin_history(exj_exchange *x);   /* api_plugin_past.c */
void exj_route_plugin_versions(exj_exchange *x);
void exj_route_quarantine(exj_exchange *x);       /* api_quarantine.c */
void exj_route_quarantine_release(exj_exchange *x);
void exj_route_dead_letters(exj_exchange *x);     /* api_dead_letters.c */
void exj_route_dead_letter(exj_exchange *x);
void exj_route_dead_letter_replay(exj_exchange *x);
void exj_route_dead_letter_drop(exj_exchange *x);
void exj_route_sinks(exj_exchange *x);
void exj_route_openapi(exj_exchange *x);          /* openapi.c */

#endif /* EXJ_CORE_HTTP_EXCHANGE_H */
