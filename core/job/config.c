#include "core/job/config.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/job/config_limits.h"
#include "core/job/config_memory.h"
#include "core/job/field.h"
#include "core/job/record.h"

#define PRIORITY_LIMIT EXJ_PRIORITY_LIMIT
#define CONCURRENCY_LIMIT 100000
#define TIMEOUT_LIMIT_SECONDS (366.0 * 86400)
#define BACKOFF_LIMIT_SECONDS (366.0 * 86400)

#define WORDS_LEN(a) (sizeof(a) / sizeof((a)[0]))

static const char *const publication_words[] = { "Draft", "Published", "Archived" };
static const char *const operational_words[] = { "NotOperational", "Ready", "Running",
                                                 "Paused", "Failed" };
static const char *const source_words[] = { "record", "storage", "query-snapshot", "event" };
static const char *const trigger_words[] = { "scan", "schedule" };
static const char *const overflow_words[] = { "queue", "drop" };

/* Find `word`; else name it and list what is allowed. */
static exj_code parse_word(exj_slice word, const char *name, const char *const *words,
                           size_t words_len, unsigned *ret, exj_err *err)
{
    char allowed[128];
    int at = 0;

    for (unsigned i = 0; i < words_len; i++) {
        if (exj_slice_is(word, words[i])) {
            *ret = i;
            return EXJ_OK;
        }
    }
    for (size_t i = 0; i < words_len; i++)
        at += snprintf(allowed + at, sizeof(allowed) - (size_t)at, "%s%s", i ? ", " : "",
                       words[i]);
    return exj_err_set(err, EXJ_INVALID, "%s: \"%.*s\" is not allowed; allowed: %s", name,
                       (int)(word.n < 64 ? word.n : 64), word.n ? word.p : "", allowed);
}

const char *exj_publication_word(exj_publication p)
{
    return (size_t)p < WORDS_LEN(publication_words) ? publication_words[p] : "unknown";
}

const char *exj_operational_word(exj_operational o)
{
    return (size_t)o < WORDS_LEN(operational_words) ? operational_words[o] : "unknown";
}

exj_code exj_publication_parse(exj_slice word, exj_publication *ret, exj_err *err)
{
    unsigned i;
    exj_code rc = parse_word(word, "publicationStatus", publication_words,
                             WORDS_LEN(publication_words), &i, err);

    if (rc == EXJ_OK)
        *ret = (exj_publication)i;
    return rc;
}

exj_code exj_operational_parse(exj_slice word, exj_operational *ret, exj_err *err)
{
    unsigned i;
    exj_code rc = parse_word(word, "operationalState", operational_words,
                             WORDS_LEN(operational_words), &i, err);

    if (rc == EXJ_OK)
        *ret = (exj_operational)i;
    return rc;
}

/* A member that is one of some words; `*ret` stays when it is absent. */
static void read_word(exj_field_reader *r, const json_t *object, const char *path,
                      const char *name, const char *const *words, size_t words_len,
                      unsigned *ret)
{
    exj_slice word = exj_field_text(r, object, path, name);
    char where[EXJ_FIELD_PATH_BYTES];

    if (word.n == 0)
        return;
    snprintf(where, sizeof(where), "%s%s%s", path, *path ? "." : "", name);
    r->code = parse_word(word, where, words, words_len, ret, r->err);
}

static void read_retry(exj_field_reader *r, const json_t *parent, const char *parent_path,
                       exj_retry_policy *policy, uint32_t *ret_set)
{
    static const char *const known[] = { "initialSeconds", "maxSeconds", "factor", "jitter",
                                         NULL };
    const json_t *o = exj_field_object(r, parent, parent_path, "retry");
    char path[EXJ_FIELD_PATH_BYTES];
    uint32_t set = 0;

    if (!o)
        return;
    snprintf(path, sizeof(path), "%s.retry", parent_path);
    exj_field_known(r, o, path, known);
    if (exj_field_seconds(r, o, path, "initialSeconds", 0, BACKOFF_LIMIT_SECONDS,
                          &policy->initial_ms))
        set |= EXJ_RETRY_HAS_INITIAL;
    if (exj_field_seconds(r, o, path, "maxSeconds", 0, BACKOFF_LIMIT_SECONDS,
                          &policy->max_ms))
        set |= EXJ_RETRY_HAS_MAX;
    if (exj_field_real(r, o, path, "factor", 1, 100, &policy->factor))
        set |= EXJ_RETRY_HAS_FACTOR;
    if (exj_field_real(r, o, path, "jitter", 0, 1, &policy->jitter))
        set |= EXJ_RETRY_HAS_JITTER;
    if (r->code != EXJ_OK)
        return;
    if (policy->max_ms < policy->initial_ms) {
        if ((set & EXJ_RETRY_HAS_MAX) && (set & EXJ_RETRY_HAS_INITIAL)) {
            exj_field_wrong(r, path, "maxSeconds", json_object_get(o, "maxSeconds"),
                            "at least initialSeconds");
            return;
        }
        /* Only one was named: it wins over the other's default. */
        if (set & EXJ_RETRY_HAS_MAX)
            policy->initial_ms = policy->max_ms;
        else
            policy->max_ms = policy->initial_ms;
    }
    *ret_set = set;
}

static void read_isolation(exj_field_reader *r, const json_t *execution, const char *path,
                           exj_graph_config *c)
{
    static const char *const words[] = { "in-process", "host", "sandbox" };
    exj_slice word = exj_field_text(r, execution, path, "isolation");

    for (unsigned i = 0; word.n && i < sizeof(words) / sizeof(*words); i++)
        if (exj_slice_is(word, words[i]))
            c->isolation = (exj_isolation)(EXJ_ISOLATION_IN_PROCESS + i);
    if (word.n && c->isolation == EXJ_ISOLATION_UNSET)
        exj_field_wrong(r, path, "isolation", json_object_get(execution, "isolation"),
                        "in-process, host or sandbox");
}

static void read_execution(exj_field_reader *r, const json_t *payload, exj_graph_config *c)
{
    static const char path[] = "payload.execution";
    static const char *const known[] = { "priority",  "timeoutSeconds", "concurrency",
                                         "maxAttempts", "isolation",    "executor",
                                         "retry",     "rateLimit", "concurrencyPerKey",
                                         "finalErrors", NULL };
    const json_t *o = exj_field_object(r, payload, "payload", "execution");
    int64_t v;

    if (!o)
        return;
    exj_field_known(r, o, path, known);
    if (exj_field_int(r, o, path, "priority", -PRIORITY_LIMIT, PRIORITY_LIMIT, &v)) {
        c->priority = (int32_t)v;
        c->has_priority = true;
    }
    c->has_timeout = exj_field_seconds(r, o, path, "timeoutSeconds", 0, TIMEOUT_LIMIT_SECONDS,
                                       &c->timeout_ms);
    if (exj_field_int(r, o, path, "concurrency", 1, CONCURRENCY_LIMIT, &v))
        c->concurrency = (uint32_t)v;
    if (exj_field_int(r, o, path, "maxAttempts", 1, 1000, &v)) {
        c->retry.max_attempts = (uint32_t)v;
        c->has_max_attempts = true;
    }
    read_isolation(r, o, path, c);
    c->executor = exj_field_id(r, o, path, "executor");
    read_retry(r, o, path, &c->retry, &c->retry_set);
    c->has_retry = c->retry_set != 0;
    exj_limits_read(r, o, c);
}

static void read_model(exj_field_reader *r, const json_t *payload, exj_graph_config *c)
{
    const json_t *model = exj_field_object(r, payload, "payload", "model");
    exj_buf b = EXJ_BUF_INIT;

    if (r->code != EXJ_OK)
        return;
    if (model) {
        c->model = exj_field_print(r, model);
        return;
    }
    exj_buf_add_text(&b, "{\"id\":");
    exj_buf_add_json_string(&b, exj_slice_of(c->graph_id));
    exj_buf_add_text(&b, ",\"nodes\":[]}");
    if (b.failed) {
        exj_buf_release(&b);
        exj_field_nomem(r);
    } else {
        c->model = exj_buf_take(&b);
    }
}

static bool is_present(const json_t *root, const char *name)
{
    const json_t *value = json_object_get(root, name);

    return value && json_typeof(value) != JSON_NULL;
}

/* The document's own id; it must be the one that was asked for. */
static char *read_id(exj_field_reader *r, const json_t *root, const char *name,
                     exj_slice expected)
{
    char *id = exj_field_id(r, root, "", name);

    if (r->code != EXJ_OK)
        return NULL;
    if (!id && expected.n > 0) {
        r->code = exj_id_check(expected, name, r->err);
        if (r->code != EXJ_OK)
            return NULL;
        id = exj_slice_dup(expected);
        if (!id)
            exj_field_nomem(r);
        return id;
    }
    if (!id) {
        r->code = exj_err_set(r->err, EXJ_INVALID, "%s: missing; a string is wanted", name);
        return NULL;
    }
    if (expected.n > 0 && !exj_slice_is(expected, id)) {
        r->code = exj_err_set(r->err, EXJ_INVALID, "%s: found \"%.80s\"; wanted \"%.*s\"",
                              name, id, (int)(expected.n < 80 ? expected.n : 80), expected.p);
        free(id);
        return NULL;
    }
    return id;
}

static void check_times(exj_field_reader *r, const json_t *root)
{
    static const char *const names[] = { "createdAt", "updatedAt", "deletedAt",
                                         "tombstoneId" };

    /* What is stored may come from another store's hand: a date there is no text. */
    for (size_t i = 0; r->strict && i < WORDS_LEN(names); i++)
        exj_field_text(r, root, "", names[i]);
}

static void read_graph(exj_field_reader *r, const json_t *root, exj_slice id_expected,
                       exj_graph_config *c)
{
    static const char *const known[] = { "graphId",   "version",   "payload",
                                         "publicationStatus", "operationalState",
                                         "createdAt", "updatedAt", "deletedAt",
                                         "tombstoneId", NULL };
    static const char *const known_payload[] = { "graphId", "mappedInput", "graphEntry",
                                                 "model", "execution", "metadata", NULL };
    unsigned publication = EXJ_DRAFT, operational = EXJ_NOT_OPERATIONAL;
    const json_t *payload;
    exj_slice inner;
    int64_t version;

    exj_field_known(r, root, "", known);
    c->graph_id = read_id(r, root, "graphId", id_expected);
    exj_field_int(r, root, "", "version", 0, INT64_MAX, &version);
    check_times(r, root);
    c->tombstoned = is_present(root, "deletedAt") || is_present(root, "tombstoneId");
    read_word(r, root, "", "publicationStatus", publication_words,
              WORDS_LEN(publication_words), &publication);
    read_word(r, root, "", "operationalState", operational_words,
              WORDS_LEN(operational_words), &operational);
    c->publication = (exj_publication)publication;
    c->operational = (exj_operational)operational;

    payload = exj_field_object(r, root, "", "payload");
    if (payload)
        exj_field_known(r, payload, "payload", known_payload);
    inner = exj_field_text(r, payload, "payload", "graphId");
    if (r->code == EXJ_OK && inner.n > 0 && !exj_slice_is(inner, c->graph_id)) {
        c->id_mismatch = true;
        if (r->strict)
            r->code = exj_err_set(r->err, EXJ_INVALID,
                                  "payload.graphId: found \"%.80s\"; it must equal graphId, "
                                  "\"%.80s\"",
                                  inner.p, c->graph_id);
    }
    exj_field_object(r, payload, "payload", "metadata");
    read_execution(r, payload, c);
    read_model(r, payload, c);
    exj_memory_read(r, payload, c);
}

static void read_graph_list(exj_field_reader *r, const json_t *payload, exj_matrix_config *c)
{
    const json_t *graphs = exj_field_array(r, payload, "payload", "graphs");
    size_t n = json_array_size(graphs);
    json_t *seen = NULL;

    if (r->code != EXJ_OK)
        return;
    if (n == 0) {
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "payload.graphs: %s; a non-empty list of graph ids is wanted",
                              graphs ? "empty" : "missing");
        return;
    }
    seen = json_object();
    c->graphs = calloc(n, sizeof(*c->graphs));
    if (!seen || !c->graphs)
        exj_field_nomem(r);
    for (size_t i = 0; i < n && r->code == EXJ_OK; i++) {
        const json_t *item = json_array_get(graphs, i);
        exj_slice id = { json_string_value(item), json_string_length(item) };
        char where[48];

        snprintf(where, sizeof(where), "graphs[%zu]", i);
        if (json_typeof(item) != JSON_STRING) {
            exj_field_wrong(r, "payload", where, item, "a graph id (string)");
        } else if (json_object_get(seen, id.p)) {
            exj_field_wrong(r, "payload", where, item, "each graph once");
        } else {
            snprintf(where, sizeof(where), "payload.graphs[%zu]", i);
            r->code = exj_id_check(id, where, r->err);
            if (r->code != EXJ_OK)
                break;
            c->graphs[i] = exj_slice_dup(id);
            if (!c->graphs[i] || json_object_set_new(seen, id.p, json_true()) != 0)
                exj_field_nomem(r);
            c->graphs_len = i + 1;
        }
    }
    json_decref(seen);
}

static void read_source(exj_field_reader *r, const json_t *payload, exj_matrix_config *c)
{
    static const char path[] = "payload.dataSource";
    static const char *const known[] = { "kind", "resolver", "config", "transform", "maxBytes",
                                         NULL };
    const json_t *o = exj_field_object(r, payload, "payload", "dataSource");
    unsigned kind = WORDS_LEN(source_words);
    const json_t *config;

    if (o)
        exj_field_known(r, o, path, known);
    read_word(r, o, path, "kind", source_words, WORDS_LEN(source_words), &kind);
    if (r->code != EXJ_OK)
        return;
    if (kind == WORDS_LEN(source_words)) {
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "payload.dataSource.kind: missing; allowed: record, storage, "
                              "query-snapshot, event");
        return;
    }
    c->source = (exj_source_kind)kind;
    exj_snapshot_rule_read(r, o, c->source == EXJ_SOURCE_SNAPSHOT, &c->snapshot);
    c->resolver = exj_field_id(r, o, path, "resolver");
    config = exj_field_object(r, o, path, "config");
    c->resolver_config = exj_field_print(r, config);
}

/* One time in days or in seconds, not both. */
static void read_keep(exj_field_reader *r, const json_t *o, const char *path, const char *days,
                      const char *seconds, exj_msec *ret)
{
    double n;

    if (json_object_get(o, days) && json_object_get(o, seconds))
        exj_field_wrong(r, path, seconds, json_object_get(o, seconds),
                        "days or seconds are wanted, not both");
    if (exj_field_real(r, o, path, days, 1e-5, 36500, &n))
        *ret = (exj_msec)(n * 86400000.0);
    exj_field_seconds(r, o, path, seconds, 1, 3153600000.0, ret);
}

static void read_retention(exj_field_reader *r, const json_t *payload, exj_matrix_config *c)
{
    static const char *const known[] = { "days", "seconds", "failedDays", "failedSeconds", NULL };
    static const char path[] = "payload.retention";
    const json_t *o = exj_field_object(r, payload, "payload", "retention");

    if (!o)
        return;
    exj_field_known(r, o, path, known);
    read_keep(r, o, path, "days", "seconds", &c->retention_ms);
    read_keep(r, o, path, "failedDays", "failedSeconds", &c->retention_failed_ms);
}

static void read_matrix(exj_field_reader *r, const json_t *root, exj_slice id_expected,
                        exj_matrix_config *c)
{
    static const char *const known[] = { "matrixCatalogId", "version", "payload", "createdAt",
                                         "updatedAt", NULL };
    static const char *const known_payload[] = {
        "input", "graphs", "dataSource", "pollWhenEmptySeconds", "maxAttempts", "overflow",
        "concurrency", "maxQueue", "retry", "matrixRunId", "priority", "retention", "metadata",
        "keys", "trigger", NULL
    };
    static const char path[] = "payload";
    unsigned overflow = EXJ_OVERFLOW_QUEUE, trigger = 0;
    const json_t *payload, *input;
    uint32_t retry_set = 0;
    int64_t v;

    exj_field_known(r, root, "", known);
    c->matrix_id = read_id(r, root, "matrixCatalogId", id_expected);
    exj_field_int(r, root, "", "version", 0, INT64_MAX, &v);
    check_times(r, root);
    payload = exj_field_object(r, root, "", path);
    if (r->code == EXJ_OK && !payload)
        r->code = exj_err_set(r->err, EXJ_INVALID, "payload: missing; an object is wanted");
    if (r->code != EXJ_OK)
        return;
    exj_field_known(r, payload, path, known_payload);
    read_graph_list(r, payload, c);
    read_source(r, payload, c);
    exj_field_seconds(r, payload, path, "pollWhenEmptySeconds", 0.1, 86400, &c->poll_ms);
    if (exj_field_int(r, payload, path, "maxAttempts", 1, 1000, &v))
        c->retry.max_attempts = (uint32_t)v;
    read_word(r, payload, path, "overflow", overflow_words, WORDS_LEN(overflow_words),
              &overflow);
    c->overflow = (exj_overflow)overflow;
    if (exj_field_int(r, payload, path, "concurrency", 1, CONCURRENCY_LIMIT, &v))
        c->concurrency = (uint32_t)v;
    read_word(r, payload, path, "trigger", trigger_words, WORDS_LEN(trigger_words), &trigger);
    c->scheduled = trigger == 1;
    c->bounded = json_object_get(payload, "overflow") || json_object_get(payload, "maxQueue");
    exj_key_fields_read(r, payload, &c->keys);
    if (exj_field_int(r, payload, path, "maxQueue", 1, INT32_MAX, &v))
        c->max_queue = (uint32_t)v;
    read_retry(r, payload, path, &c->retry, &retry_set);
    read_retention(r, payload, c);
    if (exj_field_int(r, payload, path, "priority", -PRIORITY_LIMIT, PRIORITY_LIMIT, &v))
        c->priority = (int32_t)v;
    exj_field_object(r, payload, path, "metadata");
    c->run_id = exj_field_id(r, payload, path, "matrixRunId");
    if (r->code == EXJ_OK && !c->run_id) {
        c->run_id = exj_slice_dup((exj_slice){ 0 });
        if (!c->run_id)
            exj_field_nomem(r);
    }
    input = exj_field_object(r, payload, path, "input");
    c->input = exj_field_print(r, input);
}

static exj_code load(exj_slice doc, json_t **ret, exj_err *err)
{
    exj_code rc = exj_json_parse(doc, ret, err);

    if (rc == EXJ_OK && json_typeof(*ret) != JSON_OBJECT) {
        json_decref(*ret);
        *ret = NULL;
        return exj_err_set(err, EXJ_INVALID, "the document is not a JSON object");
    }
    return rc;
}

/* The document as it is stored: what the store itself writes is taken out, the id put in
 * (first, where a reader looks for it). */
static exj_code print_canonical(json_t *root, const char *id_name, const char *id,
                                bool id_in_payload, exj_buf *b, exj_err *err)
{
    json_t *out = json_object(), *payload = json_object_get(root, "payload");
    exj_code rc;

    json_object_del(root, "version");
    json_object_del(root, "createdAt");
    json_object_del(root, "updatedAt");
    if (!out || json_object_set_new(out, id_name, json_string(id)) != 0 ||
        json_object_update(out, root) != 0)
        goto nomem;
    if (id_in_payload && !json_is_object(payload)) {
        payload = json_object();
        if (json_object_set_new(out, "payload", payload) != 0)
            goto nomem;
    }
    if (id_in_payload && json_object_set_new(payload, id_name, json_string(id)) != 0)
        goto nomem;
    rc = exj_json_print(out, false, b, err);
    json_decref(out);
    return rc;
nomem:
    json_decref(out);
    return exj_err_set(err, EXJ_NOMEM, "out of memory while printing a document");
}

static exj_code graph_from(exj_slice doc, exj_slice id_expected, bool strict,
                           exj_graph_config *ret, exj_buf *ret_canonical, exj_err *err)
{
    exj_graph_config c = { .retry = EXJ_RETRY_DEFAULT };
    exj_field_reader r = { .err = err, .strict = strict };
    json_t *root = NULL;

    r.code = load(doc, &root, err);
    if (r.code == EXJ_OK)
        read_graph(&r, root, id_expected, &c);
    if (r.code == EXJ_OK && ret_canonical)
        r.code = print_canonical(root, "graphId", c.graph_id, true, ret_canonical, err);
    json_decref(root);
    if (r.code == EXJ_OK)
        *ret = c;
    else
        exj_graph_config_release(&c);
    return r.code;
}

static exj_code matrix_from(exj_slice doc, exj_slice id_expected, bool strict,
                            exj_matrix_config *ret, exj_buf *ret_canonical, exj_err *err)
{
    exj_matrix_config c = { .retry = EXJ_RETRY_DEFAULT, .poll_ms = 5000, .max_queue = 100 };
    exj_field_reader r = { .err = err, .strict = strict };
    json_t *root = NULL;

    r.code = load(doc, &root, err);
    if (r.code == EXJ_OK)
        read_matrix(&r, root, id_expected, &c);
    if (r.code == EXJ_OK && ret_canonical)
        r.code = print_canonical(root, "matrixCatalogId", c.matrix_id, false, ret_canonical,
                                 err);
    json_decref(root);
    if (r.code == EXJ_OK)
        *ret = c;
    else
        exj_matrix_config_release(&c);
    return r.code;
}

exj_code exj_graph_config_parse(exj_slice doc, exj_slice id_expected, exj_graph_config *ret,
                                exj_buf *ret_canonical, exj_err *err)
{
    return graph_from(doc, id_expected, true, ret, ret_canonical, err);
}

exj_code exj_matrix_config_parse(exj_slice doc, exj_slice id_expected,
                                 exj_matrix_config *ret, exj_buf *ret_canonical, exj_err *err)
{
    return matrix_from(doc, id_expected, true, ret, ret_canonical, err);
}

exj_code exj_graph_config_read(exj_slice doc, exj_graph_config *ret, exj_err *err)
{
    return graph_from(doc, (exj_slice){ 0 }, false, ret, NULL, err);
}

exj_code exj_matrix_config_read(exj_slice doc, exj_matrix_config *ret, exj_err *err)
{
    return matrix_from(doc, (exj_slice){ 0 }, false, ret, NULL, err);
}

void exj_graph_config_release(exj_graph_config *c)
{
    free(c->graph_id);
    free(c->model);
    free(c->memory);
    json_decref(c->mapped_input);
    free(c->executor);
    for (size_t i = 0; i < c->final_errors_len; i++)
        free(c->final_errors[i]);
    free(c->final_errors);
    *c = (exj_graph_config){ 0 };
}

void exj_matrix_config_release(exj_matrix_config *c)
{
    free(c->matrix_id);
    free(c->run_id);
    for (size_t i = 0; i < c->graphs_len; i++)
        free(c->graphs[i]);
    free(c->graphs);
    free(c->resolver);
    free(c->resolver_config);
    free(c->snapshot.jq);
    free(c->input);
    exj_key_fields_release(&c->keys);
    *c = (exj_matrix_config){ 0 };
}

exj_code exj_graph_schedulable(const exj_graph_config *c, uint32_t running_states,
                               exj_err *err)
{
    static const char name[] = "GraphNotSchedulableError";

    if (c->tombstoned)
        return exj_err_set(err, EXJ_REFUSED, "%s: graph \"%s\" is deleted", name, c->graph_id);
    if (c->id_mismatch)
        return exj_err_set(err, EXJ_REFUSED,
                           "%s: payload.graphId of graph \"%s\" names another graph", name,
                           c->graph_id);
    if (c->publication != EXJ_PUBLISHED)
        return exj_err_set(err, EXJ_REFUSED,
                           "%s: graph \"%s\": publicationStatus is %s, Published is wanted",
                           name, c->graph_id, exj_publication_word(c->publication));
    if (!(running_states >> c->operational & 1))
        return exj_err_set(err, EXJ_REFUSED,
                           "%s: graph \"%s\": operationalState is %s, which does not run", name,
                           c->graph_id, exj_operational_word(c->operational));
    return EXJ_OK;
}

exj_effective exj_effective_of(const exj_matrix_config *m, const exj_graph_config *g)
{
    exj_effective e = { .retry = EXJ_RETRY_DEFAULT, .per_key = 1 };

    if (m) {
        e.retry = m->retry;
        e.priority = m->priority;
        e.concurrency = m->concurrency;
    }
    if (!g)
        return e;
    if (g->has_priority)
        e.priority = g->priority;
    if (g->has_timeout)
        e.timeout_ms = g->timeout_ms;
    if (g->concurrency > 0)
        e.concurrency = g->concurrency;
    e.rate = g->rate;
    e.rate_ms = g->rate_ms;
    if (g->per_key > 0)
        e.per_key = g->per_key;
    e.final_errors = g->final_errors;
    e.final_errors_len = g->final_errors_len;
    if (g->has_max_attempts)
        e.retry.max_attempts = g->retry.max_attempts;
    if (g->retry_set & EXJ_RETRY_HAS_FACTOR)
        e.retry.factor = g->retry.factor;
    if (g->retry_set & EXJ_RETRY_HAS_JITTER)
        e.retry.jitter = g->retry.jitter;
    if (g->retry_set & EXJ_RETRY_HAS_INITIAL)
        e.retry.initial_ms = g->retry.initial_ms;
    if (g->retry_set & EXJ_RETRY_HAS_MAX)
        e.retry.max_ms = g->retry.max_ms;
    /* The two may come from different documents: the graph's word stands. */
    if (e.retry.max_ms < e.retry.initial_ms) {
        if (g->retry_set & EXJ_RETRY_HAS_INITIAL)
            e.retry.max_ms = e.retry.initial_ms;
        else
            e.retry.initial_ms = e.retry.max_ms;
    }
    return e;
}
