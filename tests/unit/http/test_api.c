/* The router over a real store: every row of the table in spec 1.7, to the letter. */
#include "fixture.h"

TestSuite(api, .init = fixture_open, .fini = fixture_close);

/* ---- routes, methods, keys ------------------------------------------------------------------ */

Test(api, wrong_path_names_method_and_path)
{
    assert_error("PATCH", "/v1/graphs/g1", "{}", 404, "Not Found", "RouteNotFound",
                 "Route PATCH:/v1/graphs/g1 not found");
    assert_error("GET", "/", NULL, 404, "Not Found", "RouteNotFound", "Route GET:/ not found");
    assert_error("GET", "/v1", NULL, 404, "Not Found", "RouteNotFound",
                 "Route GET:/v1 not found");
    assert_error("GET", "/health", NULL, 404, "Not Found", "RouteNotFound",
                 "Route GET:/health not found");
    assert_error("GET", "/v1/health/", NULL, 404, "Not Found", "RouteNotFound",
                 "Route GET:/v1/health/ not found");
    assert_error("GET", "/v1/graphs//operational", NULL, 404, "Not Found", "RouteNotFound", "");
    assert_error("GET", "/v1/n\"x?y=1", NULL, 404, "Not Found", "RouteNotFound",
                 "Route GET:/v1/n\"x not found");
}

Test(api, wrong_method_says_which_are_allowed)
{
    static const struct {
        const char *method, *target, *allow;
    } t[] = {
        { "POST", "/v1/health", "GET, HEAD" },
        { "DELETE", "/v1/graphs", "GET, HEAD" },
        { "GET", "/v1/graphs/g1/operational", "PATCH" },
        { "PUT", "/v1/graphs/g1/publication", "PATCH" },
        { "GET", "/v1/workers/pause", "POST" },
        { "POST", "/v1/configs/graphs/g1", "GET, HEAD, PUT, DELETE" },
        { "OPTIONS", "/v1/rows", "GET, HEAD" },
        { "BREW", "/v1/metrics", "GET, HEAD" },
    };

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        const char *allow = NULL;
        unsigned status;
        json_t *o = call_as(t[i].method, t[i].target, NULL, true, NULL, &status, &allow);

        cr_expect_eq(status, 405, "%s: %u", t[i].target, status);
        cr_expect_str_eq(allow ? allow : "", t[i].allow, "%s", t[i].target);
        cr_expect_str_eq(text_of(o, "error"), "Method Not Allowed");
        json_decref(o);
    }
}

static void expect_key(const char *method, const char *target, const char *key,
                       unsigned want_status, const char *want_message)
{
    unsigned status;
    json_t *o = call_as(method, target, "{}", false, key, &status, NULL);

    cr_expect_eq(status, want_status, "%s %s: %u", method, target, status);
    if (want_message)
        cr_expect_str_eq(text_of(o, "message"), want_message);
    json_decref(o);
}

static const struct {
    const char *method, *target;
} mutations[] = {
    { "PATCH", "/v1/graphs/g1/operational" }, { "PATCH", "/v1/graphs/g1/publication" },
    { "POST", "/v1/workers/pause" },          { "POST", "/v1/workers/resume" },
    { "PUT", "/v1/configs/graphs/g1" },       { "DELETE", "/v1/configs/graphs/g1" },
    { "PUT", "/v1/configs/matrices/m1" },     { "DELETE", "/v1/configs/matrices/m1" },
    { "POST", "/v1/rows/m1%7C%7Cg1%7Cr/retry" },
};

Test(api, without_a_configured_key_mutations_are_disabled)
{
    f.api.api_key = NULL;
    for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++)
        expect_key(mutations[i].method, mutations[i].target, KEY, 501,
                   "Mutations are disabled until EXELLIX_JOBS_API_KEY is configured");
    f.api.api_key = "";
    expect_key("POST", "/v1/workers/pause", "", 501,
               "Mutations are disabled until EXELLIX_JOBS_API_KEY is configured");
    expect_key("GET", "/v1/graphs", NULL, 200, NULL);
}

Test(api, a_wrong_or_missing_key_is_unauthorized)
{
    static const char *const wrong[] = { NULL, "", "x", KEY "x", "correct horse battery stapl",
                                         "Correct horse battery staple", KEY KEY };

    for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++) {
        for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++)
            expect_key(mutations[i].method, mutations[i].target, wrong[k], 401, "Unauthorized");
    }
    expect_key("PATCH", "/v1/graphs/g1/operational", KEY, 400, NULL); /* the body is wrong */
    expect_key("GET", "/v1/graphs", "wrong", 200, NULL);        /* reads need none */
}

/* ---- health, version, metrics ----------------------------------------------------------------- */

Test(api, health_is_liveness)
{
    unsigned status;
    json_t *o = call("GET", "/v1/health", NULL, &status);

    cr_expect_eq(status, 200);
    cr_expect(json_is_true(json_object_get(o, "ok")));
    cr_expect_str_eq(text_of(o, "buildId"), "b-1");
    cr_expect_str_eq(text_of(o, "workerId"), "w-1");
    cr_expect_geq(number_of(o, "uptimeSeconds"), 0);
    cr_expect(json_is_string(json_object_get(o, "version")));
    cr_expect(json_object_get(o, "executor") && json_object_get(o, "paused"));
    json_decref(o);
    assert_error("GET", "/v1/health?probe=x", NULL, 400, "Bad Request", "ValidationError",
                 "probe must be dependencies, not \"x\"");
}

Test(api, readiness_names_the_part_that_fails)
{
    unsigned status;
    json_t *o = call("GET", "/v1/health?probe=dependencies", NULL, &status), *checks;

    checks = json_object_get(o, "checks");
    cr_expect_eq(status, 503); /* there is no engine here */
    cr_expect(json_is_false(json_object_get(o, "ok")));
    cr_expect(json_is_true(json_object_get(json_object_get(checks, "config_db"), "ok")));
    cr_expect(json_is_true(json_object_get(json_object_get(checks, "execution_db"), "ok")));
    cr_expect(json_is_true(json_object_get(json_object_get(checks, "plugins"), "ok")));
    cr_expect(json_is_false(json_object_get(json_object_get(checks, "engine"), "ok")));
    cr_expect_null(json_object_get(checks, "scheduler"));
    cr_expect_eq(json_array_size(json_object_get(o, "failing")), 1);
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(o, "failing"), 0)),
                     "engine");
    cr_expect_eq(strncmp(text_of(o, "message"), "engine: ", 8), 0);
    json_decref(o);

    f.api.scheduler_probe = true;
    o = call("GET", "/v1/health?probe=dependencies", NULL, &status);
    cr_expect_not_null(json_object_get(json_object_get(o, "checks"), "scheduler"));
    json_decref(o);
}

Test(api, metrics_are_prometheus_text)
{
    exj_request q = { .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/metrics") };
    exj_response r;

    f.api.build_id = "a\"b\\c\nd";
    exj_api_call(&f.api, &q, &r);
    cr_expect_eq(r.status, 200);
    cr_expect_str_eq(r.content_type, "text/plain; version=0.0.4");
    cr_expect(strstr(r.body.p, "# TYPE matrix_claims_started_total counter"));
    cr_expect(strstr(r.body.p, "build_id=\"a\\\"b\\\\c\\nd\"} 1\n"));
    exj_response_release(&r);
}

Test(api, workers_routes_say_when_no_worker_runs)
{
    assert_error("GET", "/v1/workers/status", NULL, 503, "Service Unavailable",
                 "WorkerNotRunning", "no worker runs here");
    assert_error("POST", "/v1/workers/pause", NULL, 503, "Service Unavailable",
                 "WorkerNotRunning", "no worker runs here");
    assert_error("POST", "/v1/workers/resume", NULL, 503, "Service Unavailable",
                 "WorkerNotRunning", "no worker runs here");
}

/* ---- graphs, matrices ------------------------------------------------------------------------- */

Test(api, graphs_are_listed_with_the_matrices_that_name_them)
{
    unsigned status;
    json_t *o, *list, *g1, *g2;

    put("/v1/configs/graphs/g1", GRAPH_G1);
    put("/v1/configs/graphs/g2", "{\"graphId\":\"g2\",\"payload\":{\"graphId\":\"g2\"}}");
    put("/v1/configs/matrices/m1", MATRIX_M1);
    put("/v1/configs/matrices/m2", "{\"matrixCatalogId\":\"m2\",\"payload\":{\"graphs\":"
                                   "[\"g1\",\"absent\"],\"dataSource\":{\"kind\":\"event\"}}}");
    o = call("GET", "/v1/graphs", NULL, &status);
    list = json_object_get(o, "graphs");
    cr_assert_eq(json_array_size(list), 2);
    g1 = json_array_get(list, 0);
    g2 = json_array_get(list, 1);
    cr_expect_str_eq(text_of(g1, "graphId"), "g1");
    cr_expect_str_eq(text_of(g1, "publicationStatus"), "Published");
    cr_expect_str_eq(text_of(g1, "operationalState"), "Running");
    cr_expect_eq(number_of(g1, "version"), 1);
    cr_expect_eq(json_array_size(json_object_get(g1, "matrixCatalogIds")), 2);
    cr_expect(json_is_true(json_object_get(g1, "schedulable")));
    cr_expect_str_eq(text_of(g2, "publicationStatus"), "Draft");
    cr_expect_str_eq(text_of(g2, "operationalState"), "NotOperational");
    cr_expect(json_is_array(json_object_get(g2, "matrixCatalogIds")));
    cr_expect_eq(json_array_size(json_object_get(g2, "matrixCatalogIds")), 0);
    cr_expect(json_is_false(json_object_get(g2, "schedulable")));
    cr_expect(strstr(text_of(g2, "reason"), "GraphNotSchedulableError"));
    json_decref(o);
}

Test(api, lists_go_over_many_pages)
{
    char target[64], body[128];
    unsigned status;
    json_t *o;

    for (int i = 0; i < 450; i++) {
        snprintf(target, sizeof target, "/v1/configs/graphs/g%d", i);
        snprintf(body, sizeof body, "{\"graphId\":\"g%d\",\"payload\":{\"graphId\":\"g%d\"}}",
                 i, i);
        put(target, body);
    }
    o = call("GET", "/v1/graphs", NULL, &status);
    cr_expect_eq(json_array_size(json_object_get(o, "graphs")), 450);
    json_decref(o);
    o = call("GET", "/v1/configs/graphs", NULL, &status);
    cr_expect_eq(json_array_size(json_object_get(o, "documents")), 450);
    cr_expect(json_is_null(json_object_get(o, "next")));
    json_decref(o);
    o = call("GET", "/v1/configs/graphs?limit=2&after=g10", NULL, &status);
    cr_expect_eq(json_array_size(json_object_get(o, "documents")), 2);
    cr_expect_str_eq(text_of(o, "next"), "g101");
    json_decref(o);
}

Test(api, matrices_are_listed_with_their_counts)
{
    unsigned status;
    json_t *o, *m;

    put("/v1/configs/matrices/m1", MATRIX_M1);
    insert_rows("", 3);
    insert_rows("run-2", 2);
    o = call("GET", "/v1/matrices", NULL, &status);
    m = json_array_get(json_object_get(o, "matrices"), 0);
    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(m, "matrixCatalogId"), "m1");
    cr_expect_eq(number_of(m, "version"), 1);
    cr_expect_str_eq(text_of(m, "kind"), "event");
    cr_expect_eq(json_array_size(json_object_get(m, "graphs")), 1);
    cr_expect_eq(number_of(json_object_get(m, "counts"), "queued"), 5);
    cr_expect_eq(number_of(json_object_get(m, "counts"), "completed"), 0);
    json_decref(o);
}

/* ---- PATCH ------------------------------------------------------------------------------------ */

#define OPERATIONAL "/v1/graphs/g1/operational"
#define PUBLICATION "/v1/graphs/g1/publication"

Test(api, patch_changes_one_member_and_keeps_the_rest)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };
    unsigned status;
    json_t *o;

    /* as somebody else's tool stored it: with members unknown to us */
    op.u.doc.kind = EXJ_DOC_GRAPH;
    op.u.doc.id = EXJ_SLICE_LITERAL("g1");
    op.u.doc.body = EXJ_SLICE_LITERAL("{\"graphId\":\"g1\",\"future\":{\"a\":[1]},\"payload\":"
                                      "{\"graphId\":\"g1\"},\"operationalState\":\"Ready\"}");
    cr_assert_eq(exj_store_do(f.store, &op, &err), EXJ_OK, "%s", err.text);

    o = call("PATCH", OPERATIONAL, "{\"operationalState\":\"Paused\",\"expectedVersion\":1}",
             &status);
    cr_expect_eq(status, 200, "%s", text_of(o, "message"));
    cr_expect_str_eq(text_of(o, "operationalState"), "Paused");
    cr_expect_eq(number_of(o, "version"), 2);
    json_decref(o);
    o = call("PATCH", PUBLICATION, "{\"publicationStatus\":\"Archived\",\"expectedVersion\":2}",
             &status);
    cr_expect_eq(status, 200, "%s", text_of(o, "message"));
    cr_expect_eq(number_of(o, "version"), 3);
    json_decref(o);
    o = call("GET", "/v1/configs/graphs/g1", NULL, &status);
    cr_expect_str_eq(text_of(o, "operationalState"), "Paused");
    cr_expect_str_eq(text_of(o, "publicationStatus"), "Archived");
    cr_expect_eq(json_array_size(json_object_get(json_object_get(o, "future"), "a")), 1);
    cr_expect_eq(number_of(o, "version"), 3);
    json_decref(o);
}

Test(api, patch_wants_expected_version_as_a_number)
{
    static const char *const bodies[] = {
        "{\"operationalState\":\"Paused\"}",
        "{\"operationalState\":\"Paused\",\"expectedVersion\":\"1\"}",
        "{\"operationalState\":\"Paused\",\"expectedVersion\":null}",
        "{\"operationalState\":\"Paused\",\"expectedVersion\":true}",
        "{}",
    };

    put("/v1/configs/graphs/g1", GRAPH_G1);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        unsigned status;
        json_t *o = call("PATCH", OPERATIONAL, bodies[i], &status);

        cr_expect_eq(status, 400);
        cr_expect_str_eq(text_of(o, "message"), "expectedVersion (number) is required");
        json_decref(o);
    }
    assert_error("PATCH", OPERATIONAL, "{\"operationalState\":\"Paused\",\"expectedVersion\":1.5}",
                 400, "Bad Request", "ValidationError", "whole number");
    assert_error("PATCH", OPERATIONAL, "{\"operationalState\":\"Paused\",\"expectedVersion\":-1}",
                 400, "Bad Request", "ValidationError", "whole number");
}

Test(api, patch_lists_the_allowed_values)
{
    unsigned status;
    json_t *o;

    put("/v1/configs/graphs/g1", GRAPH_G1);
    o = call("PATCH", OPERATIONAL, "{\"operationalState\":\"Runing\",\"expectedVersion\":1}",
             &status);
    cr_expect_eq(status, 400);
    for (int i = 0; i <= EXJ_OP_FAILED; i++)
        cr_expect(strstr(text_of(o, "message"), exj_operational_word((exj_operational)i)), "%s",
                  text_of(o, "message"));
    json_decref(o);
    o = call("PATCH", PUBLICATION, "{\"expectedVersion\":1}", &status);
    cr_expect_eq(status, 400);
    for (int i = 0; i <= EXJ_ARCHIVED; i++)
        cr_expect(strstr(text_of(o, "message"), exj_publication_word((exj_publication)i)), "%s",
                  text_of(o, "message"));
    json_decref(o);
    assert_error("PATCH", OPERATIONAL,
                 "{\"operationalState\":\"Paused\",\"expectedVersion\":1,\"x\":1}", 400,
                 "Bad Request", "ValidationError", "unknown member \"x\"");
}

Test(api, patch_of_a_stale_version_conflicts_with_the_current_one)
{
    unsigned status;
    json_t *o;

    put("/v1/configs/graphs/g1", GRAPH_G1);
    o = call("PATCH", OPERATIONAL, "{\"operationalState\":\"Paused\",\"expectedVersion\":7}",
             &status);
    cr_expect_eq(status, 409);
    cr_expect_eq(number_of(o, "statusCode"), 409);
    cr_expect_str_eq(text_of(o, "error"), "Conflict");
    cr_expect_str_eq(text_of(o, "code"), "ConfigStoreConcurrencyError");
    cr_expect_eq(number_of(o, "currentVersion"), 1);
    json_decref(o);
    o = call("GET", "/v1/configs/graphs/g1", NULL, &status);
    cr_expect_str_eq(text_of(o, "operationalState"), "Running");
    json_decref(o);
}

Test(api, patch_of_no_graph_is_not_found)
{
    assert_error("PATCH", "/v1/graphs/none/operational",
                 "{\"operationalState\":\"Paused\",\"expectedVersion\":1}", 404, "Not Found",
                 "ConfigStoreNotFoundError", "none");
    assert_error("PATCH", "/v1/graphs/none/publication",
                 "{\"publicationStatus\":\"Draft\",\"expectedVersion\":0}", 404, "Not Found",
                 "ConfigStoreNotFoundError", "none");
}

Test(api, bodies_are_strict_json)
{
    assert_error("PATCH", OPERATIONAL, NULL, 400, "Bad Request", "ValidationError",
                 "a JSON object is required");
    assert_error("PATCH", OPERATIONAL, "[]", 400, "Bad Request", "ValidationError",
                 "must be a JSON object");
    assert_error("PATCH", OPERATIONAL, "{\"a\":1,}", 400, "Bad Request", "ValidationError", "");
    assert_error("PATCH", OPERATIONAL, "{\"expectedVersion\":1,\"expectedVersion\":2}", 400,
                 "Bad Request", "ValidationError", "");
    assert_error("PATCH", OPERATIONAL, "{\"expectedVersion\":1e999}", 400, "Bad Request",
                 "ValidationError", "");
    assert_error("PATCH", OPERATIONAL, "{\"operationalState\":\"\xff\"}", 400, "Bad Request",
                 "ValidationError", "");
}

/* ---- config documents --------------------------------------------------------------------------- */

#define G1 "/v1/configs/graphs/g1"

Test(api, put_creates_updates_and_knows_the_unchanged)
{
    unsigned status;
    json_t *o = call("PUT", G1, GRAPH_G1, &status), *changes;

    cr_expect_eq(status, 201);
    cr_expect_str_eq(text_of(o, "kind"), "graph");
    cr_expect_str_eq(text_of(o, "id"), "g1");
    cr_expect_str_eq(text_of(o, "action"), "created");
    cr_expect_eq(number_of(o, "version"), 1);
    json_decref(o);
    o = call("PUT", G1, GRAPH_G1, &status);
    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(o, "action"), "unchanged");
    cr_expect_eq(number_of(o, "version"), 1);
    cr_expect_eq(json_array_size(json_object_get(o, "changes")), 0);
    json_decref(o);
    o = call("PUT", G1, "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":"
                        "{\"priority\":21}},\"publicationStatus\":\"Published\"}", &status);
    changes = json_object_get(o, "changes");
    cr_expect_str_eq(text_of(o, "action"), "updated");
    cr_expect_eq(number_of(o, "version"), 2);
    cr_assert_eq(json_array_size(changes), 2);
    cr_expect_str_eq(text_of(json_array_get(changes, 0), "path"), "/payload/execution/priority");
    cr_expect_eq(number_of(json_array_get(changes, 0), "from"), 20);
    cr_expect_eq(number_of(json_array_get(changes, 0), "to"), 21);
    cr_expect_str_eq(text_of(json_array_get(changes, 1), "path"), "/operationalState");
    cr_expect(json_is_null(json_object_get(json_array_get(changes, 1), "to")));
    json_decref(o);
}

Test(api, dry_run_changes_nothing)
{
    unsigned status;
    json_t *o = call("PUT", G1 "?dryRun=true", GRAPH_G1, &status);

    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(o, "action"), "created");
    cr_expect(json_is_true(json_object_get(o, "dryRun")));
    json_decref(o);
    assert_error("GET", G1, NULL, 404, "Not Found", "ConfigStoreNotFoundError", "g1");
    put(G1, GRAPH_G1);
    o = call("DELETE", G1 "?dryRun=true", NULL, &status);
    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(o, "action"), "deleted");
    json_decref(o);
    o = call("GET", G1, NULL, &status);
    cr_expect_eq(status, 200);
    json_decref(o);
    assert_error("PUT", G1 "?dryRun=yes", GRAPH_G1, 400, "Bad Request", "ValidationError",
                 "dryRun must be true or false, not \"yes\"");
}

Test(api, put_refuses_what_the_schema_refuses)
{
    assert_error("PUT", G1, "{\"graphId\":\"g2\",\"payload\":{\"graphId\":\"g2\"}}", 400,
                 "Bad Request", "ValidationError", "g2");
    assert_error("PUT", G1, "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g2\"}}", 400,
                 "Bad Request", "ValidationError", "payload.graphId");
    assert_error("PUT", G1, "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\"},\"opperationalState\":1}",
                 400, "Bad Request", "ValidationError", "operationalState");
    assert_error("PUT", "/v1/configs/matrices/m1",
                 "{\"matrixCatalogId\":\"m1\",\"payload\":{\"graphs\":[]}}", 400, "Bad Request",
                 "ValidationError", "graphs");
    assert_error("GET", G1, NULL, 404, "Not Found", "ConfigStoreNotFoundError", "g1");
}

Test(api, put_and_delete_respect_the_expected_version)
{
    unsigned status;
    json_t *o;

    assert_error("PUT", G1 "?expectedVersion=3", GRAPH_G1, 404, "Not Found",
                 "ConfigStoreNotFoundError", "g1");
    put(G1 "?expectedVersion=0", GRAPH_G1);
    assert_error("PUT", G1 "?expectedVersion=0", GRAPH_G1, 409, "Conflict",
                 "ConfigStoreConcurrencyError", "version 1");
    assert_error("PUT", G1 "?expectedVersion=x", GRAPH_G1, 400, "Bad Request",
                 "ValidationError", "expectedVersion must be a whole number");
    assert_error("DELETE", G1 "?expectedVersion=2", NULL, 409, "Conflict",
                 "ConfigStoreConcurrencyError", "version 1");
    o = call("DELETE", G1 "?expectedVersion=1", NULL, &status);
    cr_expect_eq(status, 200, "%s", text_of(o, "message"));
    json_decref(o);
    assert_error("DELETE", G1, NULL, 404, "Not Found", "ConfigStoreNotFoundError", "g1");
}

Test(api, documents_show_version_and_times)
{
    unsigned status;
    json_t *o;

    put(G1, GRAPH_G1);
    o = call("GET", G1, NULL, &status);
    cr_expect_eq(status, 200);
    cr_expect_eq(number_of(o, "version"), 1);
    cr_expect_eq(strlen(text_of(o, "createdAt")), 24);
    cr_expect_eq(text_of(o, "updatedAt")[23], 'Z');
    json_decref(o);
    put("/v1/configs/matrices/m1", MATRIX_M1);
    o = call("GET", "/v1/configs/matrices", NULL, &status);
    cr_expect_eq(json_array_size(json_object_get(o, "documents")), 1);
    json_decref(o);
}

Test(api, ids_are_percent_decoded_once_and_strictly)
{
    unsigned status;
    json_t *o;

    put("/v1/configs/graphs/a%2Fb%2520+c",
        "{\"graphId\":\"a/b%20+c\",\"payload\":{\"graphId\":\"a/b%20+c\"}}");
    o = call("GET", "/v1/configs/graphs/a%2fb%2520+c", NULL, &status);
    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(o, "graphId"), "a/b%20+c");
    json_decref(o);
    assert_error("GET", "/v1/configs/graphs/a%2", NULL, 400, "Bad Request", "ValidationError",
                 "percent-encoded");
    assert_error("GET", "/v1/configs/graphs/a%zz", NULL, 400, "Bad Request", "ValidationError",
                 "percent-encoded");
    assert_error("GET", "/v1/configs/graphs/a%00", NULL, 400, "Bad Request", "ValidationError",
                 "percent-encoded");
    assert_error("GET", "/v1/configs/graphs/%ff", NULL, 400, "Bad Request", "ValidationError",
                 "percent-encoded");
}

/* ---- rows -------------------------------------------------------------------------------------- */

Test(api, rows_are_paged_by_key)
{
    unsigned status, pages = 0, seen = 0;
    char target[128] = "/v1/rows?matrixCatalogId=m1&limit=3";

    insert_rows("", 7);
    insert_rows("run-2", 2);
    for (;;) {
        json_t *o = call("GET", target, NULL, &status);
        json_t *next = json_object_get(o, "next");

        cr_assert_eq(status, 200, "%s", text_of(o, "message"));
        seen += (unsigned)json_array_size(json_object_get(o, "rows"));
        pages++;
        snprintf(target, sizeof target, "/v1/rows?matrixCatalogId=m1&limit=3&after=%lld",
                 (long long)json_integer_value(next));
        status = json_is_null(next) ? 0 : 1;
        json_decref(o);
        if (!status)
            break;
    }
    cr_expect_eq(seen, 9);
    cr_expect_eq(pages, 3); /* the last full page knows that it is the last */
}

Test(api, rows_are_filtered)
{
    static const struct {
        const char *target;
        size_t rows;
    } t[] = {
        { "/v1/rows", 5 },
        { "/v1/rows?matrixRunId=run-2", 2 },
        { "/v1/rows?graphId=g1&status=queued", 5 },
        { "/v1/rows?graphId=none", 0 },
        { "/v1/rows?status=failed", 0 },
    };

    insert_rows("", 3);
    insert_rows("run-2", 2);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        unsigned status;
        json_t *o = call("GET", t[i].target, NULL, &status);

        cr_expect_eq(json_array_size(json_object_get(o, "rows")), t[i].rows, "%s", t[i].target);
        json_decref(o);
    }
}

Test(api, bad_filters_are_named)
{
    static const struct {
        const char *query, *says;
    } t[] = {
        { "limit=0", "limit must be a whole number from 1 to 1000, not \"0\"" },
        { "limit=1001", "limit must be" },
        { "limit=", "limit must be" },
        { "limit=-1", "limit must be" },
        { "limit=1e3", "limit must be" },
        { "after=-1", "after must be" },
        { "after=99999999999999999999", "after must be" },
        { "status=waiting", "waiting" },
        { "status=", "queued" },
        { "graphid=g1", "unknown query parameter \"graphid\"" },
        { "limit=1&limit=2", "given twice" },
        { "graphId=%ff", "percent-encoded" },
        { "graphId=", "graphId" },
    };

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char target[128];

        snprintf(target, sizeof target, "/v1/rows?%s", t[i].query);
        assert_error("GET", target, NULL, 400, "Bad Request", "ValidationError", t[i].says);
    }
}

#define ROW "/v1/rows/m1%7C%7Cg1%7Cr%2F0"

Test(api, a_row_shows_its_whole_life)
{
    int64_t pool = insert_rows("", 1);
    unsigned status;
    json_t *o = call("GET", ROW, NULL, &status), *lease;
    exj_claim c;

    cr_assert_eq(status, 200, "%s", text_of(o, "message"));
    cr_expect_str_eq(text_of(o, "matrixRowId"), "m1||g1|r/0");
    cr_expect_str_eq(text_of(o, "matrixCatalogId"), "m1");
    cr_expect(json_is_null(json_object_get(o, "matrixRunId")));
    cr_expect_str_eq(text_of(o, "graphId"), "g1");
    cr_expect_str_eq(text_of(o, "recordId"), "r/0");
    cr_expect_str_eq(text_of(o, "status"), "queued");
    cr_expect_eq(number_of(o, "attempts"), 0);
    cr_expect_eq(number_of(o, "maxAttempts"), 3);
    cr_expect(json_is_null(json_object_get(o, "lease")));
    cr_expect(json_is_null(json_object_get(o, "error")));
    cr_expect(json_is_null(json_object_get(o, "finishedAt")));
    cr_expect(json_is_null(json_object_get(o, "result")));
    cr_expect_str_eq(text_of(json_object_get(o, "input"), "question"), "why?");
    json_decref(o);

    c = claim_one(pool);
    o = call("GET", ROW, NULL, &status);
    lease = json_object_get(o, "lease");
    cr_expect_str_eq(text_of(o, "status"), "running");
    cr_expect_str_eq(text_of(lease, "holder"), "w-1");
    cr_expect_eq(number_of(lease, "fencingToken"), c.token);
    cr_expect_eq(strlen(text_of(lease, "expiresAt")), 24);
    json_decref(o);

    finish(&c, EXJ_EV_FAIL_DEAD, "{\"status\":\"failed\"}", "E1", "it \"broke\"");
    o = call("GET", ROW, NULL, &status);
    cr_expect_str_eq(text_of(o, "status"), "failed");
    cr_expect_str_eq(text_of(json_object_get(o, "error"), "code"), "E1");
    cr_expect_str_eq(text_of(json_object_get(o, "error"), "message"), "it \"broke\"");
    cr_expect_eq(strlen(text_of(o, "finishedAt")), 24);
    json_decref(o);
}

Test(api, retry_queues_a_failed_row_and_no_other)
{
    int64_t pool = insert_rows("", 1);
    unsigned status;
    exj_claim c;
    json_t *o;

    assert_error("POST", ROW "/retry", NULL, 409, "Conflict", "RowNotRetryable", "");
    c = claim_one(pool);
    finish(&c, EXJ_EV_FAIL_DEAD, NULL, "E1", "broke");
    o = call("POST", ROW "/retry", NULL, &status);
    cr_expect_eq(status, 200, "%s", text_of(o, "message"));
    cr_expect_str_eq(text_of(o, "status"), "queued");
    cr_expect_eq(number_of(o, "attempts"), 0);
    json_decref(o);
}

Test(api, rows_that_are_not_there_are_not_found)
{
    insert_rows("", 1);
    assert_error("GET", "/v1/rows/m1%7C%7Cg1%7Cnone", NULL, 404, "Not Found", "RowNotFound",
                 "m1||g1|none");
    assert_error("POST", "/v1/rows/m9%7C%7Cg1%7Cx/retry", NULL, 404, "Not Found", "RowNotFound",
                 "m9");
    assert_error("GET", "/v1/rows/nonsense", NULL, 400, "Bad Request", "ValidationError", "");
}

/* ---- plugins ------------------------------------------------------------------------------------- */

Test(api, plugins_without_a_registry_are_none)
{
    unsigned status;
    json_t *o = call("GET", "/v1/plugins", NULL, &status);

    cr_expect_eq(status, 200);
    cr_expect_eq(json_array_size(json_object_get(o, "plugins")), 0);
    json_decref(o);
    assert_error("GET", "/v1/plugins/x", NULL, 404, "Not Found", "PluginNotFound", "x");
    o = call_as("GET", "/v1/plugins?load=true", NULL, false, NULL, &status, NULL);
    cr_expect_eq(status, 401); /* code would run */
    json_decref(o);
}

/* ---- the machine-readable form ------------------------------------------------------------------- */

Test(api, openapi_is_served_as_it_lies_in_the_tree)
{
    exj_request q = { .method = "GET", .path = EXJ_SLICE_LITERAL("/v1/openapi.json") };
    json_t *served, *file = json_load_file(EXJ_SOURCE_DIR "/core/http/openapi.json", 0, NULL);
    exj_response r;

    cr_assert_not_null(file);
    exj_api_call(&f.api, &q, &r);
    cr_expect_eq(r.status, 200);
    served = json_loadb(r.body.p, r.body.n, 0, NULL);
    cr_expect(json_equal(served, file), "make core/http/openapi.c anew, as it says");
    cr_expect_not_null(json_object_get(json_object_get(file, "paths"), "/rows/{matrixRowId}"));
    json_decref(served);
    json_decref(file);
    exj_response_release(&r);
}

/* Every documented operation is routed: neither 404 RouteNotFound nor 405. */
Test(api, every_operation_of_the_openapi_document_is_routed)
{
    json_t *file = json_load_file(EXJ_SOURCE_DIR "/core/http/openapi.json", 0, NULL), *path;
    const char *pattern;

    json_object_foreach(json_object_get(file, "paths"), pattern, path) {
        const char *method;
        json_t *operation;

        json_object_foreach(path, method, operation) {
            char target[200] = "/v1", upper[16] = "";
            size_t n = strlen(target);
            unsigned status;
            json_t *o;

            for (const char *p = pattern; *p; p++) {
                if (*p == '{') {
                    p = strchr(p, '}');
                    target[n++] = 'x';
                } else {
                    target[n++] = *p;
                }
            }
            for (size_t i = 0; method[i]; i++)
                upper[i] = (char)(method[i] - 'a' + 'A');
            o = call(upper, target, "{}", &status);
            cr_expect_str_neq(text_of(o, "code"), "RouteNotFound", "%s %s", upper, target);
            cr_expect_str_neq(text_of(o, "code"), "MethodNotAllowed", "%s %s", upper, target);
            json_decref(o);
        }
    }
    json_decref(file);
}
