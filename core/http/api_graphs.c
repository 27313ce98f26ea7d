/* Graphs and matrices as an operator looks at them, and the two PATCH routes. */
#include <stdlib.h>

#include "core/http/exchange.h"
#include "core/job/config.h"

/* ---- graphs ------------------------------------------------------------------------------ */

struct graph_list {
    const exj_api *api;
    json_t *by_graph; /* graphId -> [matrixCatalogId] */
    json_t *list;
    bool failed;
};

/* The value of a member that is a string, or `otherwise`. */
static const char *text_member(const json_t *o, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : otherwise;
}

/* Note for each graph that this matrix names it. A document that cannot be read names
 * none; GET /configs/matrices says what is wrong with it. */
static bool visit_matrix_names(void *user, exj_slice id, int64_t version, exj_slice body,
                               exj_msec created_at, exj_msec updated_at)
{
    struct graph_list *g = user;
    json_t *doc = NULL, *graph;
    size_t i;

    (void)version, (void)created_at, (void)updated_at;
    if (exj_json_parse(body, &doc, NULL) != EXJ_OK)
        return true;
    json_array_foreach(json_object_get(json_object_get(doc, "payload"), "graphs"), i, graph)
    {
        const char *name = json_string_value(graph);
        json_t *ids = name ? json_object_get(g->by_graph, name) : NULL;

        if (!name)
            continue;
        if (!ids) {
            ids = json_array();
            if (json_object_set_new(g->by_graph, name, ids))
                g->failed = true;
        }
        if (json_array_append_new(ids, exj_json_text(id)))
            g->failed = true;
    }
    json_decref(doc);
    return !g->failed;
}

/* {"schedulable":true} or {"schedulable":false,"reason":…}, from the rule that decides. */
static bool add_schedulable(json_t *o, const exj_api *api, exj_slice body)
{
    exj_graph_config c = { 0 };
    exj_err err = { 0 };
    bool runs = exj_graph_config_read(body, &c, &err) == EXJ_OK &&
                exj_graph_schedulable(&c, api->running_states ? api->running_states
                                                              : EXJ_RUNNING_STATES_DEFAULT,
                                      &err) == EXJ_OK;

    exj_graph_config_release(&c);
    return json_object_set_new(o, "schedulable", json_boolean(runs)) == 0 &&
           (runs ||
            json_object_set_new(o, "reason", exj_json_text(exj_slice_of(err.text))) == 0);
}

static json_t *graph_line(exj_slice id, const json_t *doc, int64_t version)
{
    return json_pack("{s:o,s:s,s:s,s:I}", "graphId", exj_json_text(id), "publicationStatus",
                     text_member(doc, "publicationStatus", exj_publication_word(EXJ_DRAFT)),
                     "operationalState",
                     text_member(doc, "operationalState",
                                 exj_operational_word(EXJ_NOT_OPERATIONAL)),
                     "version", (json_int_t)version);
}

static bool visit_graph(void *user, exj_slice id, int64_t version, exj_slice body,
                        exj_msec created_at, exj_msec updated_at)
{
    struct graph_list *g = user;
    json_t *doc = NULL, *o, *ids;
    char *name = exj_slice_dup(id);

    (void)created_at;
    if (exj_json_parse(body, &doc, NULL) != EXJ_OK)
        doc = NULL; /* still listed: `reason` says what is wrong */
    o = graph_line(id, doc, version);
    ids = name ? json_object_get(g->by_graph, name) : NULL;
    if (!name || !o ||
        json_object_set_new(o, "matrixCatalogIds", ids ? json_incref(ids) : json_array()) ||
        !add_schedulable(o, g->api, body) ||
        json_object_set_new(o, "updatedAt", exj_json_instant(updated_at)) ||
        json_array_append(g->list, o))
        g->failed = true;
    json_decref(o);
    json_decref(doc);
    free(name);
    return !g->failed;
}

void exj_route_graphs(exj_exchange *x)
{
    exj_err err = { 0 };
    exj_slice all = { NULL, 0 };
    struct graph_list g = { x->api, json_object(), json_array(), false };

    if (exj_documents_each(x->api, EXJ_DOC_MATRIX, all, SIZE_MAX, visit_matrix_names, &g,
                           &err) != EXJ_OK ||
        exj_documents_each(x->api, EXJ_DOC_GRAPH, all, SIZE_MAX, visit_graph, &g, &err) !=
            EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, g.failed ? NULL : json_pack("{s:O}", "graphs", g.list));
    json_decref(g.by_graph);
    json_decref(g.list);
}

/* ---- matrices ---------------------------------------------------------------------------- */

struct matrix_list {
    json_t *counts; /* matrixCatalogId -> {status: rows} */
    json_t *list;
    bool failed;
};

/* Zero for every word an operator can see. */
static json_t *empty_counts(void)
{
    json_t *o = json_object();

    for (int s = 0; o && s < EXJ_STATUS_COUNT; s++) {
        if (json_object_set_new(o, exj_status_word((exj_status)s), json_integer(0))) {
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

static bool visit_pool(void *user, const exj_pool_info *p)
{
    struct matrix_list *m = user;
    char *name = exj_slice_dup(p->matrix);
    json_t *counts = name ? json_object_get(m->counts, name) : NULL;

    if (name && !counts) {
        counts = empty_counts();
        if (json_object_set_new(m->counts, name, counts))
            counts = NULL;
    }
    for (int s = 0; counts && s < EXJ_STATUS_COUNT; s++) {
        json_t *n = json_object_get(counts, exj_status_word((exj_status)s));

        json_integer_set(n, json_integer_value(n) + p->counts[s]);
    }
    if (!counts)
        m->failed = true;
    free(name);
    return !m->failed;
}

static bool visit_matrix(void *user, exj_slice id, int64_t version, exj_slice body,
                         exj_msec created_at, exj_msec updated_at)
{
    struct matrix_list *m = user;
    json_t *doc = NULL, *payload, *graphs, *counts, *o;
    char *name = exj_slice_dup(id);

    (void)created_at;
    if (exj_json_parse(body, &doc, NULL) != EXJ_OK)
        doc = NULL;
    payload = json_object_get(doc, "payload");
    graphs = json_object_get(payload, "graphs");
    counts = name ? json_object_get(m->counts, name) : NULL;
    o = json_pack("{s:o,s:I,s:o,s:s?,s:o,s:o}", "matrixCatalogId", exj_json_text(id),
                  "version", (json_int_t)version, "graphs",
                  json_is_array(graphs) ? json_incref(graphs) : json_array(), "kind",
                  text_member(json_object_get(payload, "dataSource"), "kind", NULL),
                  "counts", counts ? json_incref(counts) : empty_counts(), "updatedAt",
                  exj_json_instant(updated_at));
    if (json_array_append_new(m->list, o))
        m->failed = true;
    json_decref(doc);
    free(name);
    return !m->failed;
}

void exj_route_matrices(exj_exchange *x)
{
    exj_err err = { 0 };
    struct matrix_list m = { json_object(), json_array(), false };

    if (x->api->store->v->pools(x->api->store, visit_pool, &m, &err) != EXJ_OK ||
        exj_documents_each(x->api, EXJ_DOC_MATRIX, (exj_slice){ NULL, 0 }, SIZE_MAX,
                           visit_matrix, &m, &err) != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, m.failed ? NULL : json_pack("{s:O}", "matrices", m.list));
    json_decref(m.counts);
    json_decref(m.list);
}

/* ---- PATCH ------------------------------------------------------------------------------- */

static exj_code check_operational(exj_slice word, exj_err *err)
{
    exj_operational ignored;

    return exj_operational_parse(word, &ignored, err);
}

static exj_code check_publication(exj_slice word, exj_err *err)
{
    exj_publication ignored;

    return exj_publication_parse(word, &ignored, err);
}

/* The two members of a PATCH body, and no other. False: answered 400. */
static bool take_patch(exj_exchange *x, json_t *body, const char *member,
                       exj_code (*check)(exj_slice, exj_err *), json_int_t *ret_expected)
{
    const json_t *expected = json_object_get(body, "expectedVersion");
    const json_t *value = json_object_get(body, member);
    exj_err err = { 0 };
    const char *key;
    json_t *ignored;
    double number;

    if (!json_is_number(expected)) {
        exj_answer_error(x, 400, "ValidationError", "expectedVersion (number) is required");
        return false;
    }
    number = json_number_value(expected);
    if (number < 0 || number > 9007199254740992.0 ||
        number != (double)(json_int_t)number) {
        exj_answer_error(x, 400, "ValidationError",
                         "expectedVersion must be a whole number, 0 or more");
        return false;
    }
    *ret_expected = (json_int_t)number;
    if (!json_is_string(value)) {
        /* An empty word never fits, so this lists the allowed ones. */
        check((exj_slice){ NULL, 0 }, &err);
        exj_answer_error(x, 400, "ValidationError", "%s (string) is required: %s", member,
                         err.text);
        return false;
    }
    if (check((exj_slice){ json_string_value(value), json_string_length(value) }, &err) !=
        EXJ_OK) {
        exj_answer_failure(x, &err);
        return false;
    }
    json_object_foreach(body, key, ignored) {
        if (strcmp(key, member) != 0 && strcmp(key, "expectedVersion") != 0) {
            exj_answer_error(x, 400, "ValidationError",
                             "unknown member \"%s\"; allowed: %s, expectedVersion", key,
                             member);
            return false;
        }
    }
    return true;
}

static void answer_patch(exj_exchange *x, const exj_op *op, void *user)
{
    exj_answer_take(x, 200, graph_line(x->id, user, op->u.doc.ret_version));
}

static void patch(exj_exchange *x, const char *member,
                  exj_code (*check)(exj_slice, exj_err *))
{
    exj_err err = { 0 };
    exj_document d = { 0 };
    json_t *body = NULL;
    json_int_t expected;
    int64_t version = 0;
    exj_code rc;

    if (!exj_take_object(x, &body))
        return;
    if (!take_patch(x, body, member, check, &expected))
        goto out;
    rc = exj_document_load(x->api, EXJ_DOC_GRAPH, x->id, &d, &err);
    if (rc == EXJ_OK && expected != d.version) {
        exj_answer_stale(x, d.version);
        goto out;
    }
    if (rc == EXJ_OK) {
        /* The rest of the document stays as it is, known to us or not. */
        if (json_object_set(d.json, member, json_object_get(body, member)))
            rc = exj_err_set(&err, EXJ_NOMEM, "out of memory");
        else
            rc = exj_document_save(x, d.version, d.json, answer_patch, d.json, &version, &err);
    }
    if (rc == EXJ_OK)
        ; /* answered */
    else if (rc == EXJ_NOT_FOUND || (rc == EXJ_CONFLICT && version == 0))
        exj_answer_no_document(x);
    else if (rc == EXJ_CONFLICT)
        exj_answer_stale(x, version);
    else
        exj_answer_failure(x, &err);
out:
    exj_document_release(&d);
    json_decref(body);
}

void exj_route_operational(exj_exchange *x)
{
    patch(x, "operationalState", check_operational);
}

void exj_route_publication(exj_exchange *x)
{
    patch(x, "publicationStatus", check_publication);
}
