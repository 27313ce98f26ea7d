#include "core/http/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/http/command.h"
#include "core/http/exchange.h"
#include "core/http/stream.h"
#include "core/job/record.h"

/* ---- the table of routes ---------------------------------------------------------------- */

enum method { M_GET, M_POST, M_PUT, M_PATCH, M_DELETE, M_COUNT, M_OTHER = M_COUNT };

static const char *const method_words[M_COUNT] = { "GET", "POST", "PUT", "PATCH", "DELETE" };

/* Query names are closed where a mistyped one would silently widen what is shown or done;
 * NULL lets any through (probes and scrapers like to add their own). */
static const char *const params_list[] = { "after", "limit", NULL };
static const char *const params_change[] = { "dryRun", "expectedVersion", NULL };
static const char *const params_workers[] = { "matrixCatalogId", NULL };
static const char *const params_plugins[] = { "load", NULL };
static const char *const params_limit[] = { "limit", NULL };
static const char *const params_steps[] = { "body", NULL };
static const char *const params_events[] = { "after", "matrixCatalogId", "graphId", "limit",
                                             NULL };
static const char *const params_none[] = { NULL };
static const char *const params_kv[] = { "key", "after", "limit", NULL };
static const char *const params_events_in[] = { "autoId", "atomic", "brief", NULL };
static const char *const params_trigger[] = { "graphId", NULL };
static const char *const params_next[] = { "next", NULL };
static const char *const params_key[] = { "key", NULL };
static const char *const params_dead[] = { "sink", "after", "limit", NULL };
static const char *const params_rows[] = { "matrixCatalogId", "graphId", "matrixRunId",
                                           "status", "errorCode", "after", "limit", NULL };

struct route {
    const char *pattern; /* below the prefix; ':' stands for one segment */
    const char *allow;
    exj_route_fn on[M_COUNT];
    const char *const *params_read, *const *params_write;
    exj_doc_kind kind;
    const char *id_name; /* how errors call the variable segment */
};

#define READ_ONLY "GET, HEAD"

static const struct route routes[] = {
    { "/health", READ_ONLY, { [M_GET] = exj_route_health }, NULL, NULL, 0, NULL },
    { "/version", READ_ONLY, { [M_GET] = exj_route_version }, NULL, NULL, 0, NULL },
    { "/metrics", READ_ONLY, { [M_GET] = exj_route_metrics }, NULL, NULL, 0, NULL },
    { "/openapi.json", READ_ONLY, { [M_GET] = exj_route_openapi }, NULL, NULL, 0, NULL },
    { "/graphs", READ_ONLY, { [M_GET] = exj_route_graphs }, NULL, NULL, 0, NULL },
    { "/matrices", READ_ONLY, { [M_GET] = exj_route_matrices }, NULL, NULL, 0, NULL },
    { "/graphs/:/operational", "PATCH", { [M_PATCH] = exj_route_operational }, NULL,
      params_none, EXJ_DOC_GRAPH, "graphId" },
    { "/graphs/:/publication", "PATCH", { [M_PATCH] = exj_route_publication }, NULL,
      params_none, EXJ_DOC_GRAPH, "graphId" },
    { "/graphs/:/kv", "GET, HEAD, DELETE",
      { [M_GET] = exj_route_kv, [M_DELETE] = exj_route_kv_delete }, params_kv, params_key,
      EXJ_DOC_GRAPH, "graphId" },
    { "/graphs/:/trigger", "POST", { [M_POST] = exj_route_graph_trigger }, NULL, params_none,
      EXJ_DOC_GRAPH, "graphId" },
    { "/matrices/:/trigger", "POST", { [M_POST] = exj_route_matrix_trigger }, NULL,
      params_trigger, EXJ_DOC_MATRIX, "matrixCatalogId" },
    { "/matrices/:/events", "POST", { [M_POST] = exj_route_events_in }, NULL, params_events_in,
      EXJ_DOC_MATRIX, "matrixCatalogId" },
    { "/workers/status", READ_ONLY, { [M_GET] = exj_route_workers_status }, params_workers,
      NULL, 0, NULL },
    { "/workers/pause", "POST", { [M_POST] = exj_route_workers_pause }, NULL, params_none,
      0, NULL },
    { "/workers/resume", "POST", { [M_POST] = exj_route_workers_resume }, NULL, params_none,
      0, NULL },
    { "/configs/graphs", READ_ONLY, { [M_GET] = exj_route_documents }, params_list, NULL,
      EXJ_DOC_GRAPH, NULL },
    { "/configs/matrices", READ_ONLY, { [M_GET] = exj_route_documents }, params_list, NULL,
      EXJ_DOC_MATRIX, NULL },
    { "/configs/schedules", READ_ONLY, { [M_GET] = exj_route_documents }, params_list, NULL,
      EXJ_DOC_SCHEDULE, NULL },
    { "/configs/schedules/:", "GET, HEAD, PUT, DELETE",
      { [M_GET] = exj_route_document, [M_PUT] = exj_route_document_put,
        [M_DELETE] = exj_route_document_delete },
      params_none, params_change, EXJ_DOC_SCHEDULE, "scheduleId" },
    { "/schedules", READ_ONLY, { [M_GET] = exj_route_schedules }, params_list, NULL, 0, NULL },
    { "/schedules/:", READ_ONLY, { [M_GET] = exj_route_schedule }, params_next, NULL,
      EXJ_DOC_SCHEDULE, "scheduleId" },
    { "/schedules/:/pause", "POST", { [M_POST] = exj_route_schedule_pause }, NULL, params_none,
      EXJ_DOC_SCHEDULE, "scheduleId" },
    { "/schedules/:/resume", "POST", { [M_POST] = exj_route_schedule_resume }, NULL,
      params_none, EXJ_DOC_SCHEDULE, "scheduleId" },
    { "/schedules/:/trigger", "POST", { [M_POST] = exj_route_schedule_trigger }, NULL,
      params_none, EXJ_DOC_SCHEDULE, "scheduleId" },
    { "/configs/graphs/:", "GET, HEAD, PUT, DELETE",
      { [M_GET] = exj_route_document, [M_PUT] = exj_route_document_put,
        [M_DELETE] = exj_route_document_delete },
      params_none, params_change, EXJ_DOC_GRAPH, "graphId" },
    { "/configs/matrices/:", "GET, HEAD, PUT, DELETE",
      { [M_GET] = exj_route_document, [M_PUT] = exj_route_document_put,
        [M_DELETE] = exj_route_document_delete },
      params_none, params_change, EXJ_DOC_MATRIX, "matrixCatalogId" },
    { "/rows", READ_ONLY, { [M_GET] = exj_route_rows }, params_rows, NULL, 0, NULL },
    { "/rows/:", READ_ONLY, { [M_GET] = exj_route_row }, params_none, NULL, 0,
      "matrixRowId" },
    { "/rows/:/retry", "POST", { [M_POST] = exj_route_row_retry }, NULL, params_none, 0,
      "matrixRowId" },
    { "/snapshots/:", READ_ONLY, { [M_GET] = exj_route_snapshot }, params_limit, NULL, 0,
      "snapshot id" },
    { "/rows/:/rerun", "POST", { [M_POST] = exj_route_row_rerun }, NULL, params_none, 0,
      "matrixRowId" },
    { "/rows/:/cancel", "POST", { [M_POST] = exj_route_row_cancel }, NULL, params_none, 0,
      "matrixRowId" },
    { "/rows/:/run", "POST", { [M_POST] = exj_route_row_run }, NULL, params_none, 0,
      "matrixRowId" },
    { "/rows/:/signals/:", "POST", { [M_POST] = exj_route_row_signal }, NULL, params_none, 0,
      "matrixRowId" },
    { "/rows/:/journal", READ_ONLY, { [M_GET] = exj_route_row_journal }, params_limit, NULL, 0,
      "matrixRowId" },
    { "/rows/:/steps", READ_ONLY, { [M_GET] = exj_route_row_steps }, params_steps, NULL, 0,
      "matrixRowId" },
    { "/rows/:/events", READ_ONLY, { [M_GET] = exj_route_row_events }, params_events, NULL, 0,
      "matrixRowId" },
    { "/events", READ_ONLY, { [M_GET] = exj_route_events }, params_events, NULL, 0, NULL },
    { "/journal/verify", READ_ONLY, { [M_GET] = exj_route_journal_verify }, params_list, NULL, 0,
      NULL },
    { "/plugins", READ_ONLY, { [M_GET] = exj_route_plugins }, params_plugins, NULL, 0,
      NULL },
    { "/plugins/:", READ_ONLY, { [M_GET] = exj_route_plugin }, params_plugins, NULL, 0,
      "plugin id" },
    { "/plugins/:/reload", "POST", { [M_POST] = exj_route_plugin_reload }, NULL, params_none, 0,
      "plugin id" },
    { "/plugins/:/rollback", "POST", { [M_POST] = exj_route_plugin_rollback }, NULL,
      params_none, 0, "plugin id" },
    { "/plugins/:/trial", "POST", { [M_POST] = exj_route_plugin_trial }, NULL, params_none, 0,
      "plugin id" },
    { "/plugins/:/pin", "POST", { [M_POST] = exj_route_plugin_pin }, NULL, params_none, 0,
      "plugin id" },
    { "/plugins/:/unpin", "POST", { [M_POST] = exj_route_plugin_unpin }, NULL, params_none, 0,
      "plugin id" },
    { "/plugins/:/history", READ_ONLY, { [M_GET] = exj_route_plugin_history }, params_limit,
      NULL, 0, "plugin id" },
    { "/plugins/:/versions", READ_ONLY, { [M_GET] = exj_route_plugin_versions }, params_none,
      NULL, 0, "plugin id" },
    { "/dead-letters", READ_ONLY, { [M_GET] = exj_route_dead_letters }, params_dead, NULL, 0,
      NULL },
    { "/dead-letters/:", "GET, HEAD, DELETE",
      { [M_GET] = exj_route_dead_letter, [M_DELETE] = exj_route_dead_letter_drop }, params_none,
      params_none, 0, "dead letter id" },
    { "/dead-letters/:/replay", "POST", { [M_POST] = exj_route_dead_letter_replay }, NULL,
      params_none, 0, "dead letter id" },
    { "/sinks", READ_ONLY, { [M_GET] = exj_route_sinks }, params_none, NULL, 0, NULL },
    { "/quarantine", READ_ONLY, { [M_GET] = exj_route_quarantine }, params_list, NULL, 0, NULL },
    { "/quarantine/plugins/:/release", "POST", { [M_POST] = exj_route_quarantine_release }, NULL,
      params_none, 0, "plugin id or SHA-256" },
};

/* Changes whose whole effect is one exj_effect; of any other one the key is taken first and
 * the answer kept afterwards (core/http/command.h). */
static const exj_route_fn in_store[] = {
    exj_route_operational, exj_route_publication,     exj_route_kv_delete,
    exj_route_document_put, exj_route_document_delete, exj_route_row_retry,
    exj_route_row_rerun,   exj_route_row_run,         exj_route_row_cancel,
    exj_route_row_signal,  exj_route_events_in,       exj_route_matrix_trigger,
    exj_route_graph_trigger, exj_route_schedule_pause, exj_route_schedule_resume,
    exj_route_schedule_trigger,
};

static bool is_in_store(exj_route_fn route)
{
    for (size_t i = 0; i < sizeof in_store / sizeof in_store[0]; i++)
        if (in_store[i] == route)
            return true;
    return false;
}

#define VARIABLE_MAX 2

/* Does `path` (raw) spell `pattern`? The segments in place of ':' go to ret_ids. */
static bool route_fits(const char *pattern, exj_slice path, exj_slice ret_ids[VARIABLE_MAX])
{
    size_t at = 0, seen = 0;

    for (; *pattern; pattern++) {
        if (*pattern == ':') {
            size_t start = at;

            while (at < path.n && path.p[at] != '/')
                at++;
            if (at == start)
                return false;
            ret_ids[seen++] = (exj_slice){ path.p + start, at - start };
        } else if (at >= path.n || path.p[at++] != *pattern) {
            return false;
        }
    }
    return at == path.n;
}

static const struct route *route_find(const exj_api *api, exj_slice path,
                                      exj_slice ret_ids[VARIABLE_MAX])
{
    exj_slice prefix = exj_slice_of(api->prefix);

    while (prefix.n && prefix.p[prefix.n - 1] == '/')
        prefix.n--;
    if (path.n < prefix.n || (prefix.n && memcmp(path.p, prefix.p, prefix.n) != 0))
        return NULL;
    path.p += prefix.n;
    path.n -= prefix.n;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        memset(ret_ids, 0, VARIABLE_MAX * sizeof *ret_ids);
        if (route_fits(routes[i].pattern, path, ret_ids))
            return &routes[i];
    }
    return NULL;
}

static enum method method_of(const char *word)
{
    if (strcmp(word, "HEAD") == 0)
        return M_GET;
    for (unsigned i = 0; i < M_COUNT; i++) {
        if (strcmp(word, method_words[i]) == 0)
            return (enum method)i;
    }
    return M_OTHER;
}

/* ---- answering ------------------------------------------------------------------------ */

const char *exj_status_reason(unsigned status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Payload Too Large";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Internal Server Error";
    }
}

static void write_error(exj_response *ret, unsigned status, const char *code,
                        exj_slice message, const int64_t *current_version)
{
    exj_buf *b = &ret->body;

    exj_buf_reset(b);
    ret->status = status;
    ret->content_type = EXJ_TYPE_JSON;
    exj_buf_printf(b, "{\"statusCode\":%u,\"error\":\"%s\",\"code\":\"%s\",\"message\":",
                   status, exj_status_reason(status), code);
    exj_buf_add_json_string(b, message);
    if (current_version) {
        exj_buf_add_text(b, ",\"currentVersion\":");
        exj_buf_add_i64(b, *current_version);
    }
    exj_buf_add_char(b, '}');
    if (b->failed) { /* the status alone must do */
        exj_buf_release(b);
        ret->status = 500;
    }
}

void exj_response_refuse(exj_response *ret, unsigned status, const char *code,
                         const char *message)
{
    write_error(ret, status, code, exj_slice_of(message), NULL);
}

void exj_answer_error(exj_exchange *x, unsigned status, const char *code,
                      const char *format, ...)
{
    char stack[1024], *text = NULL;
    va_list ap, again;
    int n;

    va_start(ap, format);
    va_copy(again, ap);
    n = vsnprintf(stack, sizeof stack, format, ap);
    if (n >= (int)sizeof stack && vasprintf(&text, format, again) < 0)
        text = NULL; /* cut then */
    va_end(again);
    va_end(ap);
    write_error(x->ret, status, code, exj_slice_of(text ? text : stack), NULL);
    free(text);
}

void exj_answer_stale(exj_exchange *x, int64_t current_version)
{
    char text[EXJ_ERR_TEXT_BYTES];

    if (current_version > 0)
        snprintf(text, sizeof text,
                 "%s \"%.*s\" is at version %lld now: read it again",
                 exj_kind_word(x->kind), (int)x->id.n, x->id.p,
                 (long long)current_version);
    else
        snprintf(text, sizeof text, "%s \"%.*s\" is gone: read it again",
                 exj_kind_word(x->kind), (int)x->id.n, x->id.p);
    write_error(x->ret, 409, "ConfigStoreConcurrencyError", exj_slice_of(text),
                &current_version);
}

void exj_answer_no_document(exj_exchange *x)
{
    exj_answer_error(x, 404, "ConfigStoreNotFoundError", "no %s config \"%.*s\"",
                     exj_kind_word(x->kind), (int)x->id.n, x->id.p);
}

void exj_answer_failure(exj_exchange *x, const exj_err *err)
{
    unsigned status = 500;
    const char *code = "InternalError";

    switch (err->code) {
    case EXJ_INVALID: status = 400, code = "ValidationError"; break;
    case EXJ_NOT_FOUND: status = 404, code = "NotFound"; break;
    case EXJ_CONFLICT:
    case EXJ_FENCED: status = 409, code = "ConflictError"; break;
    case EXJ_REFUSED: status = 403, code = "Refused"; break;
    case EXJ_UNSUPPORTED: status = 501, code = "Unsupported"; break;
    case EXJ_FULL:
    case EXJ_BUSY:
    case EXJ_CANCELLED: status = 503, code = "Unavailable"; break;
    case EXJ_IO: status = 503, code = "StoreUnavailable"; break;
    case EXJ_CORRUPT: code = "StoreCorrupt"; break;
    case EXJ_UNKNOWN: code = "OutcomeUnknown"; break;
    case EXJ_NOMEM: code = "OutOfMemory"; break;
    case EXJ_OK:
    case EXJ_BUG: break;
    }
    write_error(x->ret, status, code,
                exj_slice_of(err->text[0] ? err->text : exj_code_name(err->code)), NULL);
}

void exj_answer_take(exj_exchange *x, unsigned status, json_t *body)
{
    exj_err err = { 0 };

    exj_buf_reset(&x->ret->body);
    if (!body || exj_json_print(body, false, &x->ret->body, &err) != EXJ_OK) {
        exj_json_told_short();
        write_error(x->ret, 500, "OutOfMemory", EXJ_SLICE_LITERAL("out of memory"), NULL);
    } else {
        x->ret->status = status;
        x->ret->content_type = EXJ_TYPE_JSON;
    }
    json_decref(body);
}

/* ---- what was sent -------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool exj_percent_decode(exj_slice raw, bool query, exj_buf *arena, exj_slice *ret)
{
    size_t start = arena->n;

    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];

        if (c == '%') {
            int high, low;

            if (raw.n - i < 3)
                return false;
            high = hex_value(raw.p[i + 1]);
            low = hex_value(raw.p[i + 2]);
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return false;
        if (!exj_buf_add_char(arena, c))
            return false;
    }
    *ret = (exj_slice){ arena->p ? arena->p + start : "", arena->n - start };
    return exj_utf8_is_valid(*ret);
}

static bool is_one_of(const char *const *names, exj_slice name)
{
    for (; *names; names++) {
        if (exj_slice_is(name, *names))
            return true;
    }
    return false;
}

static void answer_unknown_param(exj_exchange *x, exj_slice name, const char *const *names)
{
    char list[256] = "none is taken here";
    size_t n = 0;

    for (; *names && n < sizeof list; names++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s",
                              n ? ", " : "allowed: ", *names);
    exj_answer_error(x, 400, "ValidationError", "unknown query parameter \"%.*s\"; %s",
                     (int)name.n, name.p, list);
}

/* Split the query into params. False: answered 400. `names` NULL: any. */
static bool take_query(exj_exchange *x, const char *const *names)
{
    exj_slice rest = x->q->query;

    while (rest.n) {
        const char *amp = memchr(rest.p, '&', rest.n), *eq;
        exj_slice part = { rest.p, amp ? (size_t)(amp - rest.p) : rest.n };
        exj_slice value = { "", 0 };
        exj_param *p;

        rest.p += part.n + (amp ? 1 : 0);
        rest.n -= part.n + (amp ? 1 : 0);
        if (part.n == 0)
            continue;
        if (x->params_len == EXJ_PARAMS_MAX) {
            exj_answer_error(x, 400, "ValidationError", "more than %u query parameters",
                             EXJ_PARAMS_MAX);
            return false;
        }
        p = &x->params[x->params_len];
        eq = memchr(part.p, '=', part.n);
        if (eq) {
            value = (exj_slice){ eq + 1, part.n - (size_t)(eq - part.p) - 1 };
            part.n = (size_t)(eq - part.p);
        }
        if (!exj_percent_decode(part, true, &x->arena, &p->name) ||
            !exj_percent_decode(value, true, &x->arena, &p->value)) {
            exj_answer_error(x, 400, "ValidationError",
                             "query parameter \"%.*s\" is not percent-encoded UTF-8",
                             (int)part.n, part.p);
            return false;
        }
        if (names && !is_one_of(names, p->name)) {
            answer_unknown_param(x, p->name, names);
            return false;
        }
        for (size_t i = 0; i < x->params_len; i++) {
            if (exj_slice_equal(x->params[i].name, p->name)) {
                exj_answer_error(x, 400, "ValidationError",
                                 "query parameter \"%.*s\" is given twice",
                                 (int)p->name.n, p->name.p);
                return false;
            }
        }
        x->params_len++;
    }
    return true;
}

const exj_slice *exj_param_find(const exj_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->params_len; i++) {
        if (exj_slice_is(x->params[i].name, name))
            return &x->params[i].value;
    }
    return NULL;
}

exj_slice exj_param_text(const exj_exchange *x, const char *name)
{
    const exj_slice *v = exj_param_find(x, name);

    return v ? *v : (exj_slice){ NULL, 0 };
}

bool exj_take_i64(exj_exchange *x, const char *name, int64_t least, int64_t most,
                  int64_t fallback, int64_t *ret)
{
    const exj_slice *v = exj_param_find(x, name);
    int64_t sum = 0;
    bool good;

    if (!v) {
        *ret = fallback;
        return true;
    }
    good = v->n > 0;
    for (size_t i = 0; i < v->n && good; i++)
        good = v->p[i] >= '0' && v->p[i] <= '9' &&
               !__builtin_mul_overflow(sum, 10, &sum) &&
               !__builtin_add_overflow(sum, v->p[i] - '0', &sum);
    if (!good || sum < least || sum > most) {
        exj_answer_error(x, 400, "ValidationError",
                         "%s must be a whole number from %lld to %lld, not \"%.*s\"", name,
                         (long long)least, (long long)most, (int)v->n, v->p);
        return false;
    }
    *ret = sum;
    return true;
}

bool exj_take_bool(exj_exchange *x, const char *name, bool *ret)
{
    const exj_slice *v = exj_param_find(x, name);

    *ret = v && exj_slice_is(*v, "true");
    if (v && !*ret && !exj_slice_is(*v, "false")) {
        exj_answer_error(x, 400, "ValidationError",
                         "%s must be true or false, not \"%.*s\"", name, (int)v->n, v->p);
        return false;
    }
    return true;
}

bool exj_take_object(exj_exchange *x, json_t **ret)
{
    exj_err err = { 0 };

    if (x->q->body.n == 0) {
        exj_answer_error(x, 400, "ValidationError", "a JSON object is required as body");
        return false;
    }
    if (exj_json_parse(x->q->body, ret, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        return false;
    }
    if (!json_is_object(*ret)) {
        json_decref(*ret);
        *ret = NULL;
        exj_answer_error(x, 400, "ValidationError", "the body must be a JSON object");
        return false;
    }
    return true;
}

/* The time taken depends on the length of what was sent, never on how much of it fits. */
static bool key_is(const char *want, exj_slice got)
{
    size_t n = strlen(want);
    volatile unsigned char differs = n != got.n;

    for (size_t i = 0; i < got.n; i++)
        differs = (unsigned char)(differs | (unsigned char)(got.p[i] ^ want[i % n]));
    return differs == 0;
}

bool exj_key_fits(const exj_api *api, exj_slice sent)
{
    return api->api_key && api->api_key[0] && key_is(api->api_key, sent);
}

bool exj_take_permission(exj_exchange *x)
{
    if (x->q->trusted)
        return true;
    if (!x->api->api_key || !x->api->api_key[0]) {
        exj_answer_error(x, 501, "MutationsDisabled",
                         "Mutations are disabled until EXELLIX_JOBS_API_KEY is configured");
        return false;
    }
    if (!exj_key_fits(x->api, x->q->api_key)) {
        exj_answer_error(x, 401, "Unauthorized", "Unauthorized");
        return false;
    }
    return true;
}

/* ---- JSON that several routes write ---------------------------------------------------- */

json_t *exj_json_instant(exj_msec at)
{
    char text[EXJ_TIME_TEXT_BYTES];

    if (at == 0)
        return json_null();
    exj_clock_format(at, text);
    return json_string(text);
}

/* ---- the call -------------------------------------------------------------------------- */

/* False: answered 400. */
static bool decode_segment(exj_exchange *x, const char *what, exj_slice raw, exj_slice *ret)
{
    if (exj_percent_decode(raw, false, &x->arena, ret))
        return true;
    exj_answer_error(x, 400, "ValidationError",
                     "%s \"%.*s\" is not percent-encoded UTF-8 without control bytes", what,
                     (int)raw.n, raw.p);
    return false;
}

static void run_route(exj_exchange *x, const struct route *r, enum method m,
                      const exj_slice raw_ids[VARIABLE_MAX])
{
    if (m != M_GET && !exj_take_permission(x))
        return;
    if (r->id_name) {
        exj_err err = { 0 };

        if (!decode_segment(x, r->id_name, raw_ids[0], &x->id) ||
            (raw_ids[1].n && !decode_segment(x, "name", raw_ids[1], &x->name)))
            return;
        /* A row's name holds four ids; it is checked where it is taken apart. */
        if (strcmp(r->id_name, "matrixRowId") != 0 &&
            exj_id_check(x->id, r->id_name, &err) != EXJ_OK) {
            exj_answer_failure(x, &err);
            return;
        }
    }
    if (!take_query(x, m == M_GET ? r->params_read : r->params_write))
        return;
    if (m == M_GET)
        r->on[m](x);
    else
        exj_command_run(x, r->on[m], is_in_store(r->on[m]));
}

void exj_api_call(const exj_api *api, const exj_request *q, exj_response *ret)
{
    exj_exchange x = { .api = api, .q = q, .ret = ret };
    const struct route *r;
    enum method m = method_of(q->method);
    exj_slice raw_ids[VARIABLE_MAX];

    *ret = (exj_response){ .status = 500, .content_type = EXJ_TYPE_JSON };
    exj_json_told_short(); /* what another answer lacked is not about this one */
    r = route_find(api, q->path, raw_ids);
    if (!r) {
        exj_answer_error(&x, 404, "RouteNotFound", "Route %s:%.*s not found", q->method,
                         (int)q->path.n, q->path.p);
        return;
    }
    if (m == M_OTHER || !r->on[m]) {
        ret->allow = r->allow;
        exj_answer_error(&x, 405, "MethodNotAllowed", "%s is not allowed here; allowed: %s",
                         q->method, r->allow);
        return;
    }
    x.kind = r->kind;
    /* Decoding never grows a text: with this room the arena stays where it is. */
    if (!exj_buf_reserve(&x.arena, q->path.n + q->query.n + 1))
        exj_answer_take(&x, 500, NULL);
    else
        run_route(&x, r, m, raw_ids);
    exj_buf_release(&x.arena);
}

void exj_response_release(exj_response *r)
{
    exj_buf_release(&r->body);
    if (r->stream)
        exj_stream_close(r->stream);
    *r = (exj_response){ 0 };
}
