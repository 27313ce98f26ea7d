/* Rates, keys, final errors, overflow: what config documents say about limits. */
#include <criterion/criterion.h>

#include "core/job/config.h"

static exj_code graph(const char *execution, exj_graph_config *ret, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc;

    *err = (exj_err){ 0 };
    exj_buf_printf(&b, "{\"graphId\":\"g\",\"payload\":{\"execution\":%s}}", execution);
    rc = exj_graph_config_parse(exj_buf_slice(&b), (exj_slice){ 0 }, ret, NULL, err);
    exj_buf_release(&b);
    return rc;
}

static exj_code matrix(const char *more, exj_matrix_config *ret, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc;

    *err = (exj_err){ 0 };
    exj_buf_printf(&b,
                   "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
                   "\"dataSource\":{\"kind\":\"event\"}%s}}",
                   more);
    rc = exj_matrix_config_parse(exj_buf_slice(&b), (exj_slice){ 0 }, ret, NULL, err);
    exj_buf_release(&b);
    return rc;
}

Test(config_limits, of_a_graph_reach_what_its_rows_run_with)
{
    exj_graph_config c = { 0 };
    exj_effective e;
    exj_err err;

    cr_assert_eq(graph("{\"rateLimit\":{\"count\":20,\"perSeconds\":0.5},"
                       "\"concurrencyPerKey\":3,\"finalErrors\":[\"BAD_INPUT\",\"GONE\"]}",
                       &c, &err), EXJ_OK, "%s", err.text);
    e = exj_effective_of(NULL, &c);
    cr_expect_eq(e.rate, 20);
    cr_expect_eq(e.rate_ms, 500);
    cr_expect_eq(e.per_key, 3);
    cr_expect(exj_effective_is_final(&e, EXJ_SLICE_LITERAL("GONE")));
    cr_expect_not(exj_effective_is_final(&e, EXJ_SLICE_LITERAL("GON")));
    cr_expect_not(exj_effective_is_final(&e, (exj_slice){ 0 }));
    exj_graph_config_release(&c);
}

Test(config_limits, are_off_by_default_and_a_key_has_one_place)
{
    exj_effective e = exj_effective_of(NULL, NULL);
    exj_matrix_config m = { 0 };
    exj_err err;

    cr_expect_eq(e.rate, 0);
    cr_expect_eq(e.per_key, 1);
    cr_expect_not(exj_effective_is_final(&e, EXJ_SLICE_LITERAL("ANY")));
    cr_assert_eq(matrix("", &m, &err), EXJ_OK, "%s", err.text);
    cr_expect_not(m.bounded);
    cr_expect_null(m.keys.unique);
    exj_matrix_config_release(&m);
}

Test(config_limits, a_rate_without_a_period_is_per_second)
{
    exj_graph_config c = { 0 };
    exj_err err;

    cr_assert_eq(graph("{\"rateLimit\":{\"count\":7}}", &c, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(c.rate, 7);
    cr_expect_eq(c.rate_ms, 1000);
    exj_graph_config_release(&c);
}

Test(config_limits, of_a_matrix_name_fields_of_the_record)
{
    exj_matrix_config m = { 0 };
    exj_err err;

    cr_assert_eq(matrix(",\"keys\":{\"unique\":\"order\",\"uniqueSeconds\":60,"
                        "\"concurrency\":\"customer\",\"priority\":\"rank\",\"runAfter\":\"at\"}",
                        &m, &err), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(m.keys.unique, "order");
    cr_expect_eq(m.keys.unique_ms, 60000);
    cr_expect_str_eq(m.keys.concurrency, "customer");
    cr_expect_str_eq(m.keys.priority, "rank");
    cr_expect_str_eq(m.keys.run_after, "at");
    exj_matrix_config_release(&m);
}

Test(config_limits, the_overflow_rule_holds_when_overflow_or_max_queue_is_said)
{
    static const struct { const char *more; bool bounded; } cases[] = {
        { "", false },
        { ",\"maxQueue\":5", true },
        { ",\"overflow\":\"queue\"", true },
        { ",\"overflow\":\"drop\",\"concurrency\":2", true },
        { ",\"concurrency\":2", false }, /* a cap alone makes rows wait, however many */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_matrix_config m = { 0 };
        exj_err err;

        cr_assert_eq(matrix(cases[i].more, &m, &err), EXJ_OK, "%s", err.text);
        cr_expect_eq(m.bounded, cases[i].bounded, "%s", cases[i].more);
        exj_matrix_config_release(&m);
    }
}

Test(config_limits, that_are_wrong_are_refused_with_the_path)
{
    static const char *const graphs[][2] = {
        { "{\"rateLimit\":5}", "payload.execution.rateLimit: found 5; wanted an object" },
        { "{\"rateLimit\":{}}", "payload.execution.rateLimit.count: missing" },
        { "{\"rateLimit\":{\"count\":0}}", "rateLimit.count: found 0" },
        { "{\"rateLimit\":{\"count\":1000001}}", "1 to 1000000" },
        { "{\"rateLimit\":{\"count\":1,\"perSeconds\":0}}", "rateLimit.perSeconds: found 0" },
        { "{\"rateLimit\":{\"count\":1,\"perSecond\":1}}", "did you mean \"perSeconds\"" },
        { "{\"concurrencyPerKey\":0}", "payload.execution.concurrencyPerKey: found 0" },
        { "{\"concurrencyPerKey\":10001}", "1 to 10000" },
        { "{\"finalErrors\":\"X\"}", "payload.execution.finalErrors: found \"X\"" },
        { "{\"finalErrors\":[\"A\",3]}", "payload.execution.finalErrors[1]: found 3" },
        { "{\"finalErrors\":[\"\"]}", "payload.execution.finalErrors[0]" },
    };
    static const char *const matrices[][2] = {
        { ",\"keys\":[]", "payload.keys: found []" },
        { ",\"keys\":{\"uniqe\":\"f\"}", "payload.keys.uniqe: unknown key; did you mean \"unique\"" },
        { ",\"keys\":{\"unique\":3}", "payload.keys.unique: found 3" },
        { ",\"keys\":{\"unique\":\"f\",\"uniqueSeconds\":-1}", "payload.keys.uniqueSeconds" },
    };
    exj_err err;

    for (size_t i = 0; i < sizeof(graphs) / sizeof(*graphs); i++) {
        exj_graph_config c = { 0 };

        cr_expect_eq(graph(graphs[i][0], &c, &err), EXJ_INVALID, "%s", graphs[i][0]);
        cr_expect(strstr(err.text, graphs[i][1]), "%s: %s", graphs[i][0], err.text);
    }
    for (size_t i = 0; i < sizeof(matrices) / sizeof(*matrices); i++) {
        exj_matrix_config m = { 0 };

        cr_expect_eq(matrix(matrices[i][0], &m, &err), EXJ_INVALID, "%s", matrices[i][0]);
        cr_expect(strstr(err.text, matrices[i][1]), "%s: %s", matrices[i][0], err.text);
    }
}
