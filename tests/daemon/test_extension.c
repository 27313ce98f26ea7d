/* exellix.kv/1 and exellix.metrics/1 from a plugin to the operator, through the program, with
 * the plugin's code on each lane. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"

static exj_daemon d;

static void start_on(const char *lane)
{
    exj_daemon_init(&d);
    exj_daemon_set(&d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "kv-engine");
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "%s", lane);
    cr_assert(exj_daemon_start(&d));
}

/* Three tests from one body. */
#define ON_EACH_LANE(name)                                                                 \
    static void name(void);                                                                \
    Test(extension, name##_in_process)                                                     \
    {                                                                                      \
        start_on("in-process");                                                            \
        name();                                                                            \
        exj_daemon_release(&d);                                                            \
    }                                                                                      \
    Test(extension, name##_in_a_host)                                                      \
    {                                                                                      \
        start_on("host");                                                                  \
        name();                                                                            \
        exj_daemon_release(&d);                                                            \
    }                                                                                      \
    Test(extension, name##_in_a_sandbox)                                                   \
    {                                                                                      \
        start_on("sandbox");                                                               \
        name();                                                                            \
        exj_daemon_release(&d);                                                            \
    }                                                                                      \
    static void name(void)

/* The value of a key; NULL: none. New reference. */
static json_t *value_of(const char *graph, const char *key)
{
    json_t *body = NULL, *value = NULL;
    char path[200];
    int status;

    snprintf(path, sizeof(path), "/v1/graphs/%s/kv?key=%s", graph, key);
    status = exj_daemon_call(&d, "GET", path, NULL, &body);
    cr_assert(status == 200 || status == 404, "%s: %d", path, status);
    if (status == 200)
        value = json_incref(json_object_get(body, "value"));
    json_decref(body);
    return value;
}

static int64_t number_of(const char *graph, const char *key)
{
    json_t *value = value_of(graph, key);
    int64_t n = json_is_integer(value) ? json_integer_value(value) : -1;

    json_decref(value);
    return n;
}

ON_EACH_LANE(rows_of_all_matrices_count_into_their_graph_and_a_restart_keeps_it)
{
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_graph(&d, "h", NULL);
    exj_daemon_matrix(&d, "a", "[\"g\"]", "record", "{\"count\":40,\"record\":{}}", "");
    exj_daemon_matrix(&d, "b", "[\"g\",\"h\"]", "record",
                      "{\"count\":25,\"prefix\":\"b\",\"record\":{}}", "");
    cr_assert(exj_daemon_wait_done(&d, "a", 40, 20000));
    cr_assert(exj_daemon_wait_done(&d, "b", 50, 20000));
    cr_assert_eq(exj_daemon_tally(&d, "").completed, 90);
    cr_assert_eq(number_of("g", "rows"), 65);
    cr_assert_eq(number_of("h", "rows"), 25);
    cr_assert_eq(number_of("none", "rows"), -1);
    cr_assert_float_eq(exj_daemon_metric(&d, "exellix_plugin_records_total",
                                         "plugin=\"kv-engine\",kind=\"plain\""),
                       90, 0.1);
    cr_assert_float_eq(exj_daemon_metric(&d, "exellix_plugin_busy_seconds_sum", NULL), 22.5, 0.01);
    cr_assert_float_eq(exj_daemon_metric(&d, "exellix_plugin_attempt", NULL), 1, 0.01);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    cr_assert(exj_daemon_start(&d));
    cr_assert_eq(number_of("g", "rows"), 65);
    cr_assert_float_eq(exj_daemon_metric(&d, "exellix_plugin_records_total", NULL), -1, 0.01,
                       "metrics begin anew");
}

ON_EACH_LANE(a_value_names_the_row_that_wrote_it_and_goes_when_told)
{
    json_t *body = NULL, *first;

    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":1,\"record\":{\"then\":\"keep\"}}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 20000));
    cr_assert_eq(exj_daemon_tally(&d, "m").completed, 1);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/graphs/g/kv", NULL, &body), 200);
    first = json_array_get(json_object_get(body, "keys"), 0);
    cr_assert_str_eq(json_string_value(json_object_get(first, "key")), "last");
    cr_assert_str_eq(json_string_value(json_object_get(first, "writtenBy")), "m||g|r-0000000");
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(first, "value"),
                                                       "record")),
                     "r-0000000");
    json_decref(body);
    cr_assert_eq(exj_daemon_call(&d, "DELETE", "/v1/graphs/g/kv?key=last", NULL, NULL), 200);
    cr_assert_null(value_of("g", "last"));
    cr_assert_eq(number_of("g", "rows"), 1);
}

ON_EACH_LANE(a_write_before_a_failure_stays_and_the_next_attempt_writes_again)
{
    exj_daemon_graph(&d, "g", "{\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":3,\"record\":{\"then\":\"fail\"}}", ",\"maxAttempts\":2");
    cr_assert(exj_daemon_wait_done(&d, "m", 3, 20000));
    cr_assert_eq(exj_daemon_tally(&d, "m").completed, 3);
    cr_assert_eq(number_of("g", "rows"), 6);
}

ON_EACH_LANE(a_plugin_that_floods_metrics_stops_at_its_bound_and_goes_on_working)
{
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":2,\"record\":{\"then\":\"flood\"}}", "");
    cr_assert(exj_daemon_wait_done(&d, "m", 2, 20000));
    cr_assert_eq(exj_daemon_tally(&d, "m").completed, 2);
    /* three of its own before, so 61 of the flood, each counted once a row */
    cr_assert_float_eq(exj_daemon_metric(&d, "exellix_plugin_flood_total", NULL), 122, 0.1);
    cr_assert_geq(exj_daemon_metric(&d, "exellix_jobs_plugin_misdeeds_total", NULL), 78);
}
