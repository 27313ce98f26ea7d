/* Spec 1.7 and 1.8 over real HTTP: every route, status, text and error body. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/support/support.h"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(http, .init = setup, .fini = teardown);

static void start_with_two_graphs(void)
{
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g1", NULL);
    exj_daemon_graph(&d, "lonely", NULL);
    exj_daemon_matrix(&d, "m1", "[\"g1\"]", "record", "{\"count\":5}", "");
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "(none)";
}

/* The answer must be an error body of spec 1.7 with exactly this. `message` may be NULL. */
static void expect_error(const char *method, const char *path, const char *headers,
                         const char *body, int status, const char *error, const char *code,
                         const char *message)
{
    exj_reply r;
    json_t *o;

    exj_http(d.port, method, path, headers, body, &r);
    o = exj_reply_json(&r);
    cr_expect_eq(r.status, status, "%s %s: %d %s", method, path, r.status, r.body);
    cr_expect_eq(json_integer_value(json_object_get(o, "statusCode")), status);
    cr_expect_str_eq(text_of(o, "error"), error);
    if (code)
        cr_expect_str_eq(text_of(o, "code"), code);
    if (message)
        cr_expect_str_eq(text_of(o, "message"), message);
    json_decref(o);
    exj_reply_release(&r);
}

#define WITH_KEY "x-exellix-jobs-api-key: " EXJ_TEST_KEY "\r\n"
#define WITH_BEARER "Authorization: Bearer " EXJ_TEST_KEY "\r\n"

Test(http, health_says_who_lives_and_for_how_long)
{
    json_t *o = NULL;

    exj_daemon_set(&d, "MATRIX_WORKER_ID", "worker-of-the-test");
    cr_assert(exj_daemon_start(&d));
    cr_expect_eq(exj_daemon_call(&d, "GET", "/v1/health", NULL, &o), 200);
    cr_expect(json_is_true(json_object_get(o, "ok")));
    cr_expect_str_eq(text_of(o, "workerId"), "worker-of-the-test");
    cr_expect(json_is_string(json_object_get(o, "buildId")));
    cr_expect(json_is_number(json_object_get(o, "uptimeSeconds")));
    json_decref(o);
    cr_expect_eq(exj_daemon_call(&d, "GET", "/v1/health?probe=dependencies", NULL, &o), 200);
    cr_expect(json_is_true(json_object_get(o, "ok")));
    json_decref(o);
}

Test(http, dependencies_name_the_part_that_fails)
{
    exj_reply r;

    exj_daemon_set(&d, "EXJ_TEST_ENGINE_CREATE", "fail");
    cr_assert(exj_daemon_start(&d));
    exj_http(d.port, "GET", "/v1/health?probe=dependencies", NULL, NULL, &r);
    cr_expect_eq(r.status, 503, "%d %s", r.status, r.body);
    cr_expect(r.body && strstr(r.body, "test-engine"), "names the plugin: %s", r.body);
    exj_reply_release(&r);
    exj_http(d.port, "GET", "/v1/health", NULL, NULL, &r);
    cr_expect_eq(r.status, 200, "liveness asks no dependency: %d", r.status);
    exj_reply_release(&r);
}

Test(http, graphs_lists_states_versions_and_the_matrices_that_name_them)
{
    json_t *o = NULL, *graphs, *g;

    start_with_two_graphs();
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/graphs", NULL, &o), 200);
    graphs = json_is_array(o) ? o : json_object_get(o, "graphs");
    cr_assert_eq(json_array_size(graphs), 2);
    g = json_array_get(graphs, 0);
    cr_expect_str_eq(text_of(g, "graphId"), "g1");
    cr_expect_str_eq(text_of(g, "publicationStatus"), "Published");
    cr_expect_str_eq(text_of(g, "operationalState"), "Running");
    cr_expect_eq(json_integer_value(json_object_get(g, "version")), 1);
    cr_expect_str_eq(
        json_string_value(json_array_get(json_object_get(g, "matrixCatalogIds"), 0)), "m1");
    g = json_array_get(graphs, 1);
    cr_expect_str_eq(text_of(g, "graphId"), "lonely");
    cr_expect(json_is_array(json_object_get(g, "matrixCatalogIds")));
    cr_expect_eq(json_array_size(json_object_get(g, "matrixCatalogIds")), 0);
    json_decref(o);
}

Test(http, mutations_without_a_configured_key_are_501)
{
    exj_daemon_set(&d, "EXELLIX_JOBS_API_KEY", "%s", "");
    cr_assert(exj_daemon_start(&d));
    expect_error("PATCH", "/v1/graphs/g1/operational", WITH_KEY,
                 "{\"operationalState\":\"Paused\",\"expectedVersion\":1}", 501,
                 "Not Implemented", NULL,
                 "Mutations are disabled until EXELLIX_JOBS_API_KEY is configured");
    expect_error("POST", "/v1/workers/pause", NULL, NULL, 501, "Not Implemented", NULL,
                 "Mutations are disabled until EXELLIX_JOBS_API_KEY is configured");
}

Test(http, mutations_with_a_wrong_key_or_none_are_401)
{
    start_with_two_graphs();
    expect_error("POST", "/v1/workers/pause", NULL, NULL, 401, "Unauthorized", NULL,
                 "Unauthorized");
    expect_error("POST", "/v1/workers/pause", "x-exellix-jobs-api-key: test-kez\r\n", NULL, 401,
                 "Unauthorized", NULL, "Unauthorized");
    expect_error("POST", "/v1/workers/pause", "Authorization: Bearer test-key2\r\n", NULL, 401,
                 "Unauthorized", NULL, "Unauthorized");
    expect_error("PATCH", "/v1/graphs/g1/operational", "Authorization: Basic test-key\r\n",
                 "{\"operationalState\":\"Paused\",\"expectedVersion\":1}", 401,
                 "Unauthorized", NULL, "Unauthorized");
}

Test(http, either_header_carries_the_key)
{
    exj_reply r;

    start_with_two_graphs();
    exj_http(d.port, "POST", "/v1/workers/pause", WITH_KEY, NULL, &r);
    cr_expect_eq(r.status, 200, "%s", r.body);
    exj_reply_release(&r);
    exj_http(d.port, "POST", "/v1/workers/resume", WITH_BEARER, NULL, &r);
    cr_expect_eq(r.status, 200, "%s", r.body);
    exj_reply_release(&r);
}

Test(http, a_wrong_path_is_404_with_method_colon_path)
{
    start_with_two_graphs();
    expect_error("PATCH", "/v1/graphs/g1", WITH_KEY, "{}", 404, "Not Found", NULL,
                 "Route PATCH:/v1/graphs/g1 not found");
    expect_error("GET", "/nothing", NULL, NULL, 404, "Not Found", NULL,
                 "Route GET:/nothing not found");
    expect_error("GET", "/v1", NULL, NULL, 404, "Not Found", NULL, "Route GET:/v1 not found");
}

Test(http, a_known_path_with_another_method_is_405_with_allow)
{
    static const struct {
        const char *method, *path, *allow;
    } cases[] = { { "POST", "/v1/health", "GET" },
                  { "DELETE", "/v1/graphs", "GET" },
                  { "GET", "/v1/graphs/g1/operational", "PATCH" },
                  { "PUT", "/v1/graphs/g1/publication", "PATCH" },
                  { "GET", "/v1/workers/pause", "POST" },
                  { "GET", "/v1/workers/resume", "POST" },
                  { "POST", "/v1/metrics", "GET" },
                  { "POST", "/v1/workers/status", "GET" } };

    start_with_two_graphs();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_reply r;
        const char *allow;

        exj_http(d.port, cases[i].method, cases[i].path, WITH_KEY, NULL, &r);
        allow = exj_reply_header(&r, "Allow");
        cr_expect_eq(r.status, 405, "%s %s: %d", cases[i].method, cases[i].path, r.status);
        cr_expect(allow && strncmp(allow, cases[i].allow, strlen(cases[i].allow)) == 0,
                  "%s: Allow: %s", cases[i].path, allow);
        exj_reply_release(&r);
    }
}

Test(http, patch_without_a_numeric_expected_version_is_400)
{
    static const char *const bodies[] = {
        "{\"operationalState\":\"Paused\"}",
        "{\"operationalState\":\"Paused\",\"expectedVersion\":\"1\"}",
        "{\"operationalState\":\"Paused\",\"expectedVersion\":null}",
    };

    start_with_two_graphs();
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        expect_error("PATCH", "/v1/graphs/g1/operational", WITH_KEY, bodies[i], 400,
                     "Bad Request", NULL, "expectedVersion (number) is required");
}

Test(http, patch_of_an_unknown_state_is_400_and_lists_the_allowed)
{
    static const char *const words[] = { "NotOperational", "Ready", "Running", "Paused",
                                         "Failed" };
    exj_reply r;

    start_with_two_graphs();
    exj_http(d.port, "PATCH", "/v1/graphs/g1/operational", WITH_KEY,
             "{\"operationalState\":\"Asleep\",\"expectedVersion\":1}", &r);
    cr_expect_eq(r.status, 400);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        cr_expect(strstr(r.body, words[i]), "%s is listed in %s", words[i], r.body);
    exj_reply_release(&r);
    exj_http(d.port, "PATCH", "/v1/graphs/g1/publication", WITH_KEY,
             "{\"publicationStatus\":\"Hidden\",\"expectedVersion\":1}", &r);
    cr_expect_eq(r.status, 400);
    cr_expect(strstr(r.body, "Draft") && strstr(r.body, "Published") &&
              strstr(r.body, "Archived"));
    exj_reply_release(&r);
}

Test(http, patch_counts_the_version_up_and_refuses_a_stale_one)
{
    exj_reply r;
    json_t *o = NULL, *g;

    start_with_two_graphs();
    cr_expect_eq(exj_daemon_call(&d, "PATCH", "/v1/graphs/g1/operational",
                                 "{\"operationalState\":\"Paused\",\"expectedVersion\":1}",
                                 &o), 200);
    cr_expect_eq(json_integer_value(json_object_get(o, "version")), 2);
    json_decref(o);
    exj_http(d.port, "PATCH", "/v1/graphs/g1/operational", WITH_KEY,
             "{\"operationalState\":\"Running\",\"expectedVersion\":1}", &r);
    cr_expect_eq(r.status, 409);
    cr_expect(strstr(r.body, "ConfigStoreConcurrencyError") && strstr(r.body, "2"),
              "names the current version: %s", r.body);
    exj_reply_release(&r);
    cr_expect_eq(exj_daemon_call(&d, "PATCH", "/v1/graphs/g1/publication",
                                 "{\"publicationStatus\":\"Archived\",\"expectedVersion\":2}",
                                 NULL), 200);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/graphs", NULL, &o), 200);
    g = json_array_get(json_is_array(o) ? o : json_object_get(o, "graphs"), 0);
    cr_expect_str_eq(text_of(g, "publicationStatus"), "Archived");
    cr_expect_str_eq(text_of(g, "operationalState"), "Paused");
    cr_expect_eq(json_integer_value(json_object_get(g, "version")), 3);
    json_decref(o);
    expect_error("PATCH", "/v1/graphs/nobody/operational", WITH_KEY,
                 "{\"operationalState\":\"Running\",\"expectedVersion\":1}", 404, "Not Found",
                 "ConfigStoreNotFoundError", NULL);
}

Test(http, workers_status_shows_what_runs)
{
    static const char *const numbers[] = { "activeJobs", "maxConcurrency" };
    json_t *o = NULL;

    start_with_two_graphs();
    cr_assert(exj_daemon_wait_done(&d, "m1", 5, 10000));
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/workers/status", NULL, &o), 200);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        cr_expect(json_is_integer(json_object_get(o, numbers[i])), "%s", numbers[i]);
    cr_expect(json_is_array(json_object_get(o, "assignedGraphIds")));
    cr_expect_str_eq(
        json_string_value(json_array_get(json_object_get(o, "assignedGraphIds"), 0)), "g1");
    cr_expect(json_is_false(json_object_get(o, "paused")));
    json_decref(o);
    cr_expect_eq(
        exj_daemon_call(&d, "GET", "/v1/workers/status?matrixCatalogId=m1", NULL, &o), 200);
    json_decref(o);
    exj_daemon_call(&d, "POST", "/v1/workers/pause", NULL, NULL);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/workers/status", NULL, &o), 200);
    cr_expect(json_is_true(json_object_get(o, "paused")));
    json_decref(o);
}

Test(http, metrics_are_all_there_and_count)
{
    static const char *const names[] = {
        "matrix_claims_started_total",    "matrix_claims_completed_total",
        "matrix_claims_failed_total",     "matrix_rows_materialized_total",
        "matrix_worker_idle_seconds_total", "matrix_worker_cycles_total",
        "matrix_execute_duration_seconds",
    };
    const char *type;
    exj_reply r;

    start_with_two_graphs();
    exj_daemon_matrix(&d, "bad", "[\"lonely\"]", "record",
                      "{\"count\":3,\"record\":{\"then\":\"final\"}}",
                      ",\"pollWhenEmptySeconds\":0.1");
    cr_assert(exj_daemon_wait_done(&d, "m1", 5, 10000));
    cr_assert(exj_daemon_wait_done(&d, "bad", 3, 10000));
    cr_assert(exj_daemon_wait_metric(&d, "matrix_worker_cycles_total",
                                     "matrix_catalog_id=\"bad\"", 3, 10000));
    exj_http(d.port, "GET", "/v1/metrics", NULL, NULL, &r);
    type = exj_reply_header(&r, "Content-Type");
    cr_expect_eq(r.status, 200);
    cr_expect(type && strcmp(type, "text/plain; version=0.0.4") == 0, "%s", type);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[128];

        snprintf(line, sizeof(line), "# TYPE %s %s\n", names[i],
                 i == 6 ? "histogram" : "counter");
        cr_expect(strstr(r.body, line), "%s is there", line);
    }
    exj_reply_release(&r);
#define VALUE(name, labels) exj_daemon_metric(&d, name, labels)
    cr_expect_float_eq(VALUE("matrix_claims_started_total", "graph_id=\"g1\""), 5, 0.1);
    cr_expect_float_eq(VALUE("matrix_claims_completed_total", "graph_id=\"g1\""), 5, 0.1);
    cr_expect_float_eq(VALUE("matrix_claims_failed_total", "graph_id=\"lonely\""), 3, 0.1);
    cr_expect_float_eq(VALUE("matrix_rows_materialized_total", "matrix_catalog_id=\"m1\""), 5,
                       0.1);
    cr_expect_float_eq(VALUE("matrix_rows_materialized_total", "matrix_catalog_id=\"bad\""),
                       3, 0.1);
    cr_expect_float_eq(VALUE("matrix_execute_duration_seconds_count", "graph_id=\"g1\""), 5,
                       0.1);
    cr_expect_geq(VALUE("matrix_worker_cycles_total", "empty=\"true\""), 1);
    cr_expect_gt(VALUE("matrix_worker_idle_seconds_total", "matrix_catalog_id=\"bad\""), 0);
#undef VALUE
}

Test(http, the_prefix_is_a_setting)
{
    exj_reply r;

    exj_daemon_set(&d, "JOBS_HTTP_PREFIX", "/jobs/v9");
    exj_daemon_spawn(&d);
    for (int64_t end = exj_test_now_ms() + 20000; exj_test_now_ms() < end;) {
        exj_http(d.port, "GET", "/jobs/v9/health", NULL, NULL, &r);
        if (r.status)
            break;
        cr_assert_eq(exj_prog_wait(&d.prog, 5), -1, "it ended");
    }
    cr_expect_eq(r.status, 200);
    exj_reply_release(&r);
    expect_error("GET", "/v1/health", NULL, NULL, 404, "Not Found", NULL,
                 "Route GET:/v1/health not found");
}

Test(http, bad_documents_are_refused_with_their_cause)
{
    static const struct {
        const char *path, *body, *names;
    } cases[] = {
        { "/v1/configs/graphs/g", "{\"graphId\":\"g\",", "byte 15" },
        { "/v1/configs/graphs/g", "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"h\"}}", "h" },
        { "/v1/configs/graphs/g", "{\"graphId\":\"g\",\"paylod\":{}}", "paylod" },
        { "/v1/configs/matrices/m",
          "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[]}}", "graphs" },
        { "/v1/configs/matrices/m",
          "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"concurrency\":-1,"
          "\"dataSource\":{\"kind\":\"event\"}}}",
          "-1" },
        { "/v1/configs/matrices/m",
          "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"input\":{\"x\":1e400},"
          "\"dataSource\":{\"kind\":\"event\"}}}",
          "number" },
    };
    json_t *o = NULL;

    cr_assert(exj_daemon_start(&d));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_reply r;

        exj_http(d.port, "PUT", cases[i].path, WITH_KEY, cases[i].body, &r);
        cr_expect_eq(r.status, 400, "%s: %d", cases[i].body, r.status);
        cr_expect(r.body && strstr(r.body, cases[i].names), "names %s: %s", cases[i].names,
                  r.body);
        exj_reply_release(&r);
    }
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/graphs", NULL, &o), 200);
    cr_expect_eq(json_array_size(json_object_get(o, "graphs")), 0, "nothing half-written");
    json_decref(o);
}
