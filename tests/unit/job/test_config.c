#include "core/job/config.h"

#include <criterion/criterion.h>
#include <stdio.h>

static exj_code graph(const char *text, exj_graph_config *ret, exj_err *err)
{
    *err = (exj_err){ 0 };
    return exj_graph_config_parse(exj_slice_of(text), (exj_slice){ 0 }, ret, NULL, err);
}

static exj_code matrix(const char *text, exj_matrix_config *ret, exj_err *err)
{
    *err = (exj_err){ 0 };
    return exj_matrix_config_parse(exj_slice_of(text), (exj_slice){ 0 }, ret, NULL, err);
}

Test(graph_config, omitted_fields_have_their_defaults)
{
    exj_graph_config c = { 0 };
    exj_err err;

    cr_assert_eq(graph("{\"graphId\":\"g\\\"1\"}", &c, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(c.publication, EXJ_DRAFT);
    cr_expect_eq(c.operational, EXJ_NOT_OPERATIONAL);
    cr_expect_str_eq(c.model, "{\"id\":\"g\\\"1\",\"nodes\":[]}");
    cr_expect_str_eq(c.memory, "{}");
    cr_expect_eq(c.retry.max_attempts, 3);
    cr_expect_eq(exj_graph_schedulable(&c, EXJ_RUNNING_STATES_DEFAULT, &err), EXJ_REFUSED);
    cr_expect(strstr(err.text, "GraphNotSchedulableError: ") == err.text, "%s", err.text);
    exj_graph_config_release(&c);
}

Test(graph_config, is_refused_with_the_path_and_the_cause)
{
    static const char *const cases[][2] = {
        { "[]", "not a JSON object" },
        { "{}", "graphId: missing" },
        { "{\"graphId\":\"\"}", "graphId" },
        { "{\"graphId\":\"g\",\"graphID\":\"g\"}", "graphID: unknown key; did you mean \"graphId\"" },
        { "{\"graphId\":\"g\",\"graphId\":\"g\"}", "duplicate" },
        { "{\"graphId\":\"g\",\"version\":1.5}", "version: found 1.5" },
        { "{\"graphId\":\"g\",\"publicationStatus\":\"Live\"}", "Draft, Published, Archived" },
        { "{\"graphId\":\"g\",\"operationalState\":\"On\"}", "NotOperational, Ready, Running" },
        { "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"h\"}}", "payload.graphId: found \"h\"" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"priroity\":1}}}",
          "payload.execution.priroity: unknown key; did you mean \"priority\"" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"priority\":1001}}}",
          "payload.execution.priority: found 1001" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"concurrency\":-1}}}",
          "payload.execution.concurrency: found -1" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"timeoutSeconds\":-0.5}}}",
          "payload.execution.timeoutSeconds: found -0.5" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"maxAttempts\":0}}}", "1 to 1000" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"retry\":{\"factor\":0.5}}}}",
          "payload.execution.retry.factor" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"retry\":{\"initialSeconds\":9,"
          "\"maxSeconds\":1}}}}", "at least initialSeconds" },
        { "{\"graphId\":\"g\",\"payload\":{\"model\":[]}}", "payload.model: found []" },
        { "{\"graphId\":\"g\",\"payload\":{\"mappedInput\":[3]}}", "payload.mappedInput[0]" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_graph_config c = { 0 };
        exj_err err;

        cr_expect_eq(graph(cases[i][0], &c, &err), EXJ_INVALID, "%s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
        cr_expect_null(c.graph_id);
    }
}

Test(graph_config, canonical_form_leaves_out_what_the_store_owns)
{
    exj_graph_config c = { 0 };
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };

    cr_assert_eq(exj_graph_config_parse(
                     exj_slice_of("{\"version\":7,\"createdAt\":\"x\",\"publicationStatus\":"
                                  "\"Published\",\"payload\":{\"metadata\":{\"any\":1}}}"),
                     exj_slice_of("g"), &c, &b, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect_str_eq(b.p, "{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"payload\":"
                          "{\"metadata\":{\"any\":1},\"graphId\":\"g\"}}");
    exj_buf_release(&b);
    exj_graph_config_release(&c);
    cr_expect_eq(exj_graph_config_parse(exj_slice_of("{\"graphId\":\"h\"}"), exj_slice_of("g"),
                                        &c, NULL, &err), EXJ_INVALID);
}

Test(graph_config, reading_lets_unknown_keys_through_and_reports_a_mismatch)
{
    exj_graph_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_graph_config_read(
                     exj_slice_of("{\"_id\":1,\"graphId\":\"g\",\"publicationStatus\":"
                                  "\"Published\",\"operationalState\":\"Ready\",\"payload\":"
                                  "{\"graphId\":\"h\",\"new\":1}}"), &c, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect(c.id_mismatch);
    cr_expect_eq(exj_graph_schedulable(&c, EXJ_RUNNING_STATES_DEFAULT, NULL), EXJ_REFUSED);
    c.id_mismatch = false;
    cr_expect_eq(exj_graph_schedulable(&c, EXJ_RUNNING_STATES_DEFAULT, NULL), EXJ_OK);
    cr_expect_eq(exj_graph_schedulable(&c, 1u << EXJ_OP_RUNNING, NULL), EXJ_REFUSED);
    c.tombstoned = true;
    cr_expect_eq(exj_graph_schedulable(&c, EXJ_RUNNING_STATES_DEFAULT, NULL), EXJ_REFUSED);
    exj_graph_config_release(&c);
}

Test(graph_config, memory_is_seeded_from_inputs_and_the_record)
{
    exj_graph_config c = { 0 };
    exj_buf b = EXJ_BUF_INIT;
    exj_err err;

    cr_assert_eq(graph("{\"graphId\":\"g\",\"payload\":{\"graphEntry\":{\"inputs\":{\"a\":1,"
                       "\"q\":2}},\"mappedInput\":[\"q\",{\"name\":\"v\",\"value\":[]},"
                       "{\"name\":\"w\",\"from\":\"x\"},\"gone\"]}}", &c, &err), EXJ_OK, "%s",
                 err.text);
    cr_expect(c.memory_needs_record);
    cr_assert_eq(exj_memory_seed_add(&c, exj_slice_of("{\"q\":\"z\",\"x\":{\"k\":0}}"), &b,
                                     NULL), EXJ_OK);
    cr_expect_str_eq(b.p, "{\"a\":1,\"v\":[],\"q\":\"z\",\"w\":{\"k\":0}}");
    exj_buf_reset(&b);
    cr_assert_eq(exj_memory_seed_add(&c, exj_slice_of("{}"), &b, NULL), EXJ_OK);
    cr_expect_str_eq(b.p, "{\"a\":1,\"q\":2,\"v\":[]}");
    exj_buf_release(&b);
    exj_graph_config_release(&c);
}

#define MATRIX(more)                                                                      \
    "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g1\",\"g2\"],"                 \
    "\"dataSource\":{\"kind\":\"record\"}" more "}}"

Test(matrix_config, reads_every_member)
{
    exj_matrix_config c = { 0 };
    exj_err err;

    cr_assert_eq(matrix(MATRIX(""), &c, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(c.poll_ms, 5000);
    cr_expect_eq(c.max_queue, 100);
    cr_expect_str_eq(c.input, "{}");
    cr_expect_str_eq(c.resolver_config, "{}");
    cr_expect_str_eq(c.run_id, "");
    cr_expect_eq(c.graphs_len, 2);
    exj_matrix_config_release(&c);
    cr_assert_eq(matrix(MATRIX(",\"pollWhenEmptySeconds\":0.1,\"maxAttempts\":9,\"overflow\":"
                               "\"drop\",\"concurrency\":2,\"maxQueue\":5,\"priority\":-3,"
                               "\"matrixRunId\":\"r\",\"input\":{\"any\":[1]},\"retry\":"
                               "{\"initialSeconds\":0.25,\"jitter\":0}"), &c, &err),
                 EXJ_OK, "%s", err.text);
    cr_expect_eq(c.poll_ms, 100);
    cr_expect_eq(c.retry.max_attempts, 9);
    cr_expect_eq(c.retry.initial_ms, 250);
    cr_expect_eq(c.overflow, EXJ_OVERFLOW_DROP);
    cr_expect_eq(c.priority, -3);
    cr_expect_str_eq(c.run_id, "r");
    exj_matrix_config_release(&c);
}

Test(matrix_config, is_refused_with_the_path_and_the_cause)
{
    static const char *const cases[][2] = {
        { "{\"matrixCatalogId\":\"m\"}", "payload: missing" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{}}", "payload.graphs: missing" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[]}}", "payload.graphs: empty" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"a\",2]}}", "payload.graphs[1]" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"a\",\"a\"]}}", "graphs[1]" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"a\"]}}",
          "payload.dataSource.kind: missing" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"a\"],\"dataSource\":"
          "{\"kind\":\"files\"}}}", "record, storage, query-snapshot, event" },
        { MATRIX(",\"concurrency\":-1"), "payload.concurrency: found -1" },
        { MATRIX(",\"maxQueue\":0"), "payload.maxQueue: found 0" },
        { MATRIX(",\"retention\":{\"days\":0}"), "payload.retention.days: found 0" },
        { MATRIX(",\"retention\":{\"days\":1,\"seconds\":1}"), "not both" },
        { MATRIX(",\"retention\":{\"day\":1}"), "did you mean \"days\"" },
        { MATRIX(",\"retention\":7"), "payload.retention: found 7" },
        { MATRIX(",\"pollWhenEmptySeconds\":0"), "payload.pollWhenEmptySeconds" },
        { MATRIX(",\"overflow\":\"stack\""), "queue, drop" },
        { MATRIX(",\"overfow\":\"drop\""), "did you mean \"overflow\"" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        exj_matrix_config c = { 0 };
        exj_err err;

        cr_expect_eq(matrix(cases[i][0], &c, &err), EXJ_INVALID, "%s", cases[i][0]);
        cr_expect(strstr(err.text, cases[i][1]), "%s: %s", cases[i][0], err.text);
        cr_expect_null(c.matrix_id);
    }
}

Test(config, the_graph_goes_over_the_matrix_over_the_defaults)
{
    exj_matrix_config m = { 0 };
    exj_graph_config g = { 0 };
    exj_effective e;
    exj_err err;

    cr_assert_eq(matrix(MATRIX(",\"priority\":5,\"maxAttempts\":7,\"retry\":{\"factor\":3,"
                               "\"maxSeconds\":10}"), &m, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(graph("{\"graphId\":\"g\",\"payload\":{\"execution\":{\"priority\":9,"
                       "\"timeoutSeconds\":1.5,\"retry\":{\"initialSeconds\":20}}}}", &g, &err),
                 EXJ_OK, "%s", err.text);
    e = exj_effective_of(&m, NULL);
    cr_expect_eq(e.priority, 5);
    cr_expect_eq(e.timeout_ms, 0);
    e = exj_effective_of(&m, &g);
    cr_expect_eq(e.priority, 9);
    cr_expect_eq(e.timeout_ms, 1500);
    cr_expect_eq(e.retry.max_attempts, 7);
    cr_expect_eq(e.retry.factor, 3);
    cr_expect_eq(e.retry.initial_ms, 20000);
    cr_expect_geq(e.retry.max_ms, e.retry.initial_ms);
    exj_matrix_config_release(&m);
    exj_graph_config_release(&g);
}
