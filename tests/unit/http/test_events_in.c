/* The ingress of events: what is taken, what is named as wrong, what became of the others. */
#include "tests/unit/http/fixture.h"

TestSuite(events_in, .init = fixture_open, .fini = fixture_close);

#define NDJSON "application/x-ndjson"

static json_t *send_as(const char *target, const char *type, exj_slice body,
                       unsigned *ret_status)
{
    const char *mark = strchr(target, '?');
    exj_request q = { .method = "POST",
                      .path = { target, mark ? (size_t)(mark - target) : strlen(target) },
                      .query = exj_slice_of(mark ? mark + 1 : NULL),
                      .body = body,
                      .content_type = exj_slice_of(type),
                      .trusted = true };
    exj_response r;
    json_t *v;

    exj_api_call(&f.api, &q, &r);
    *ret_status = r.status;
    v = json_loadb(r.body.p ? r.body.p : "", r.body.n, JSON_DECODE_ANY, NULL);
    exj_response_release(&r);
    cr_assert(v, "POST %s: %u is not JSON", target, *ret_status);
    return v;
}

static json_t *push(const char *target, const char *type, const char *body,
                    unsigned *ret_status)
{
    return send_as(target, type, exj_slice_of(body), ret_status);
}

static void matrix(const char *id, const char *kind, const char *graphs, const char *more)
{
    char target[128], body[1024];

    snprintf(target, sizeof(target), "/v1/configs/matrices/%s", id);
    snprintf(body, sizeof(body),
             "{\"matrixCatalogId\":\"%s\",\"payload\":{\"graphs\":%s,\"dataSource\":"
             "{\"kind\":\"%s\"}%s}}",
             id, graphs, kind, more);
    put(target, body);
}

static void graph(const char *id, const char *publication, const char *execution)
{
    char target[128], body[1024];

    snprintf(target, sizeof(target), "/v1/configs/graphs/%s", id);
    snprintf(body, sizeof(body),
             "{\"graphId\":\"%s\",\"publicationStatus\":\"%s\",\"operationalState\":\"Ready\","
             "\"payload\":{\"execution\":%s}}",
             id, publication, execution);
    put(target, body);
}

static void usual(void)
{
    graph("g", "Published", "{}");
    matrix("m", "event", "[\"g\"]", "");
}

static size_t rows_of(const char *query)
{
    char target[256];
    unsigned status;
    size_t n;
    json_t *o;

    snprintf(target, sizeof(target), "/v1/rows?limit=1000&%s", query);
    o = call("GET", target, NULL, &status);
    n = json_array_size(json_object_get(o, "rows"));
    json_decref(o);
    return n;
}

static const char *nth_status(json_t *o, size_t i)
{
    return text_of(json_array_get(json_object_get(o, "events"), i), "status");
}

Test(events_in, one_event_becomes_a_row_of_each_graph)
{
    unsigned status;
    json_t *o;

    matrix("m", "event", "[\"g1\",\"g2\"]", "");
    o = push("/v1/matrices/m/events", NULL, "{\"id\":\"e1\",\"record\":{\"a\":1}}", &status);
    cr_expect_eq(status, 200);
    cr_expect_eq(number_of(o, "inserted"), 1);
    cr_expect_str_eq(nth_status(o, 0), "inserted");
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m&status=queued"), 2);
    o = call("GET", "/v1/rows/m%7C%7Cg2%7Ce1", NULL, &status);
    cr_expect_eq(number_of(json_object_get(o, "input"), "a"), 1);
    json_decref(o);
}

Test(events_in, the_same_id_again_does_nothing)
{
    unsigned status;
    json_t *o;

    usual();
    json_decref(push("/v1/matrices/m/events", NULL, "{\"id\":\"e\",\"record\":{}}", &status));
    o = push("/v1/matrices/m/events", NULL,
             "[{\"id\":\"e\",\"record\":{\"x\":2}},{\"id\":\"f\",\"record\":{}},"
             "{\"id\":\"f\",\"record\":{}}]", &status);
    cr_expect_eq(status, 200);
    cr_expect_eq(number_of(o, "duplicates"), 2);
    cr_expect_eq(number_of(o, "inserted"), 1);
    cr_expect_str_eq(nth_status(o, 0), "duplicate");
    cr_expect_str_eq(nth_status(o, 2), "duplicate");
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m"), 2);
}

Test(events_in, a_bad_line_is_named_and_the_others_are_stored)
{
    unsigned status;
    json_t *o, *bad;

    usual();
    o = push("/v1/matrices/m/events", NDJSON,
             "{\"id\":\"a\",\"record\":{}}\r\n"
             "\n"
             "{\"id\":\"b\",\"record\":{\"input\":{}}}\n"
             "{\"id\":\"c\",\"record\":{}", &status);
    cr_expect_eq(status, 207);
    cr_expect_eq(number_of(o, "received"), 3);
    cr_expect_eq(number_of(o, "inserted"), 1);
    cr_expect_eq(number_of(o, "rejectedCount"), 2);
    bad = json_object_get(o, "rejected");
    cr_expect_eq(json_array_size(bad), 2);
    cr_expect_eq(number_of(json_array_get(bad, 0), "line"), 3);
    cr_expect(strstr(text_of(json_array_get(bad, 0), "message"), "nested `input` is refused"));
    cr_expect_eq(number_of(json_array_get(bad, 1), "line"), 4);
    cr_expect_eq(number_of(json_array_get(json_object_get(o, "events"), 0), "line"), 1);
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m"), 1);
}

Test(events_in, atomic_takes_all_or_nothing)
{
    unsigned status;
    json_t *o;

    usual();
    o = push("/v1/matrices/m/events?atomic=true", NULL,
             "[{\"id\":\"a\",\"record\":{}},{\"id\":\"b\"}]", &status);
    cr_expect_eq(status, 400);
    cr_expect_str_eq(text_of(o, "code"), "EventsRejected");
    cr_expect_str_eq(text_of(o, "message"), "1 of 2 events are wrong; nothing was inserted");
    cr_expect_eq(number_of(json_array_get(json_object_get(o, "rejected"), 0), "line"), 2);
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m"), 0);
}

Test(events_in, what_is_wrong_with_an_event_is_said)
{
    static const char *const cases[][2] = {
        { "{\"record\":{}}", "id is missing" },
        { "{\"id\":null,\"record\":{}}", "autoId=true" },
        { "{\"id\":\"\",\"record\":{}}", "id is empty" },
        { "{\"id\":7,\"record\":{}}", "id: found 7; a string is wanted" },
        { "{\"id\":\"a\\u0007\",\"record\":{}}", "control byte" },
        { "{\"id\":\"e\"}", "record is missing" },
        { "{\"id\":\"e\",\"record\":[]}", "not a JSON object" },
        { "{\"id\":\"e\",\"record\":{},\"recrod\":1}", "member \"recrod\" is not known" },
        { "{\"id\":\"e\",\"id\":\"f\",\"record\":{}}", "\"id\" is given twice" },
        { "{\"id\":\"e\",\"record\":{},\"priority\":5000}", "priority: found 5000" },
        { "{\"id\":\"e\",\"record\":{},\"runAfter\":\"soon\"}", "runAfter: found \"soon\"" },
        { "{\"id\":\"e\",\"record\":{},\"uniqueKey\":\"\"}", "uniqueKey is empty" },
        { "{\"id\":\"e\",\"record\":{},\"concurrencyKey\":{}}", "concurrencyKey: found {}" },
        { "[]", "an event is a JSON object" },
        { "3", "an event is a JSON object" },
    };

    usual();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        unsigned status;
        char body[256];
        json_t *o;

        snprintf(body, sizeof(body), "[%s]", cases[i][0]);
        o = push("/v1/matrices/m/events", NULL, body, &status);
        cr_expect_eq(status, 400, "%s: %u", body, status);
        cr_expect(strstr(text_of(json_array_get(json_object_get(o, "rejected"), 0), "message"),
                         cases[i][1]),
                  "%s: %s", body,
                  text_of(json_array_get(json_object_get(o, "rejected"), 0), "message"));
        json_decref(o);
    }
    cr_expect_eq(rows_of("matrixCatalogId=m"), 0);
}

Test(events_in, bodies_that_cannot_be_read_are_refused_whole)
{
    usual();
    assert_error("POST", "/v1/matrices/m/events", "", 400, "Bad Request", "ValidationError",
                 "no events");
    assert_error("POST", "/v1/matrices/m/events", "[]", 400, "Bad Request", "ValidationError",
                 "no events");
    assert_error("POST", "/v1/matrices/m/events", "[{\"id\":\"a\",\"record\":{}},", 400,
                 "Bad Request", "ValidationError", "nothing was inserted");
    assert_error("POST", "/v1/matrices/m/events",
                 "{\"id\":\"a\",\"record\":{}}\n{\"id\":\"b\",\"record\":{}}", 400,
                 "Bad Request", "ValidationError", "application/x-ndjson");
    assert_error("POST", "/v1/matrices/m/events?auto=true", "[]", 400, "Bad Request",
                 "ValidationError", "allowed: autoId, atomic, brief");
    assert_error("POST", "/v1/matrices/none/events", "[]", 404, "Not Found",
                 "ConfigStoreNotFoundError", "no matrix config \"none\"");
    cr_expect_eq(rows_of("matrixCatalogId=m"), 0);
}

Test(events_in, only_matrices_of_kind_event_take_events)
{
    graph("g", "Published", "{}");
    matrix("r", "record", "[\"g\"]", "");
    assert_error("POST", "/v1/matrices/r/events", "{\"id\":\"a\",\"record\":{}}", 409,
                 "Conflict", "NotAnEventMatrix", "is of kind record");
}

Test(events_in, a_graph_that_waits_takes_rows_and_one_that_is_no_more_does_not)
{
    unsigned status;
    json_t *o;

    graph("g", "Published", "{}");
    graph("old", "Archived", "{}");
    matrix("m", "event", "[\"g\",\"old\"]", "");
    matrix("x", "event", "[\"old\"]", "");
    put("/v1/configs/graphs/g", "{\"graphId\":\"g\",\"publicationStatus\":\"Published\","
                                "\"operationalState\":\"Paused\"}");
    o = push("/v1/matrices/m/events", NULL, "{\"id\":\"a\",\"record\":{}}", &status);
    cr_expect_eq(status, 200);
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m"), 1);
    assert_error("POST", "/v1/matrices/x/events", "{\"id\":\"a\",\"record\":{}}", 409,
                 "Conflict", "GraphNotSchedulableError", "publicationStatus is Archived");
}

Test(events_in, ids_are_made_when_asked_for)
{
    unsigned status;
    json_t *o, *events;

    usual();
    o = push("/v1/matrices/m/events?autoId=true", NDJSON, "{\"record\":{}}\n{\"record\":{}}\n",
             &status);
    cr_expect_eq(status, 200);
    cr_expect_eq(number_of(o, "inserted"), 2);
    events = json_object_get(o, "events");
    cr_expect_str_neq(text_of(json_array_get(events, 0), "id"),
                      text_of(json_array_get(events, 1), "id"));
    json_decref(o);
}

Test(events_in, a_batch_is_bounded_and_over_the_bound_nothing_is_stored)
{
    exj_buf b = EXJ_BUF_INIT;
    unsigned status;
    json_t *o;

    usual();
    for (unsigned i = 0; i < 10000; i++)
        exj_buf_printf(&b, "{\"id\":\"e%u\",\"record\":{}}\n", i);
    o = send_as("/v1/matrices/m/events", NDJSON, exj_buf_slice(&b), &status);
    cr_expect_eq(status, 200);
    cr_expect_eq(number_of(o, "inserted"), 10000);
    cr_expect_eq(json_array_size(json_object_get(o, "events")), 1000);
    cr_expect(json_is_true(json_object_get(o, "eventsTruncated")));
    json_decref(o);
    exj_buf_printf(&b, "{\"id\":\"more\",\"record\":{}}\n");
    o = send_as("/v1/matrices/m/events", NDJSON, exj_buf_slice(&b), &status);
    cr_expect_eq(status, 413);
    cr_expect_str_eq(text_of(o, "code"), "TooManyEvents");
    json_decref(o);
    exj_buf_reset(&b);
    exj_buf_reserve(&b, 9u << 20);
    memset(b.p, ' ', 9u << 20);
    b.n = 9u << 20;
    o = send_as("/v1/matrices/m/events", NDJSON, exj_buf_slice(&b), &status);
    cr_expect_eq(status, 413);
    cr_expect_str_eq(text_of(o, "code"), "BodyTooLarge");
    cr_expect(strstr(text_of(o, "message"), "at most 8388608"), "%s", text_of(o, "message"));
    json_decref(o);
    exj_buf_release(&b);
}

Test(events_in, many_wrong_ones_are_counted_and_the_first_1000_named)
{
    exj_buf b = EXJ_BUF_INIT;
    unsigned status;
    json_t *o;

    usual();
    for (unsigned i = 0; i < 1500; i++)
        exj_buf_add_text(&b, "{\"id\":3}\n");
    exj_buf_add_text(&b, "{\"id\":\"e\",\"record\":{}}\n");
    o = send_as("/v1/matrices/m/events?brief=true", NDJSON, exj_buf_slice(&b), &status);
    cr_expect_eq(status, 207);
    cr_expect_eq(number_of(o, "rejectedCount"), 1500);
    cr_expect_eq(json_array_size(json_object_get(o, "rejected")), 1000);
    cr_expect_null(json_object_get(o, "events"));
    json_decref(o);
    exj_buf_release(&b);
}

Test(events_in, a_unique_key_that_is_taken_makes_no_second_row)
{
    unsigned status;
    json_t *o;

    usual();
    o = push("/v1/matrices/m/events", NULL,
             "[{\"id\":\"a\",\"record\":{},\"uniqueKey\":\"k\\u00e9\"},"
             "{\"id\":\"b\",\"record\":{},\"uniqueKey\":\"k\xc3\xa9\"}]", &status);
    cr_expect_eq(status, 200);
    cr_expect_eq(number_of(o, "uniqueKeyTaken"), 1);
    cr_expect_str_eq(nth_status(o, 1), "uniqueKeyTaken");
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m"), 1);
}

Test(events_in, what_the_config_names_in_the_record_counts_and_the_event_overrides_it)
{
    unsigned status;
    json_t *o;

    graph("g", "Published", "{}");
    matrix("m", "event", "[\"g\"]",
           ",\"keys\":{\"unique\":\"order\",\"priority\":\"rank\",\"runAfter\":\"at\"}");
    o = push("/v1/matrices/m/events", NULL,
             "[{\"id\":\"a\",\"record\":{\"order\":1,\"rank\":7}},"
             "{\"id\":\"b\",\"record\":{\"order\":1}},"
             "{\"id\":\"c\",\"record\":{\"order\":1,\"rank\":7},\"uniqueKey\":\"mine\","
             "\"priority\":9},"
             "{\"id\":\"d\",\"record\":{\"rank\":\"top\"}},"
             "{\"id\":\"e\",\"record\":{\"at\":\"2100-01-01T00:00:00Z\"}}]", &status);
    cr_expect_eq(status, 207);
    cr_expect_eq(number_of(o, "inserted"), 3);
    cr_expect_eq(number_of(o, "uniqueKeyTaken"), 1);
    json_decref(o);
    o = call("GET", "/v1/rows/m%7C%7Cg%7Ca", NULL, &status);
    cr_expect_eq(number_of(o, "priority"), 7);
    json_decref(o);
    o = call("GET", "/v1/rows/m%7C%7Cg%7Cc", NULL, &status);
    cr_expect_eq(number_of(o, "priority"), 9);
    json_decref(o);
    o = call("GET", "/v1/rows/m%7C%7Cg%7Ce", NULL, &status);
    cr_expect_str_eq(text_of(o, "runAfter"), "2100-01-01T00:00:00.000Z");
    json_decref(o);
}

Test(events_in, the_limits_of_a_matrix_drop_and_a_config_write_changes_them)
{
    unsigned status;
    json_t *o;

    graph("g", "Published", "{}");
    matrix("m", "event", "[\"g\"]", ",\"overflow\":\"drop\",\"concurrency\":2");
    o = push("/v1/matrices/m/events?autoId=true", NULL,
             "[{\"record\":{}},{\"record\":{}},{\"record\":{}}]", &status);
    cr_expect_eq(number_of(o, "inserted"), 2);
    cr_expect_eq(number_of(o, "dropped"), 1);
    cr_expect_str_eq(nth_status(o, 2), "dropped");
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m&status=dropped"), 1);

    matrix("m", "event", "[\"g\"]", ",\"overflow\":\"queue\",\"concurrency\":2,\"maxQueue\":3");
    o = push("/v1/matrices/m/events?autoId=true", NULL,
             "[{\"record\":{}},{\"record\":{}},{\"record\":{}},{\"record\":{}}]", &status);
    cr_expect_eq(number_of(o, "inserted"), 4);
    cr_expect_eq(number_of(o, "droppedOlder"), 1, "two have a place, three wait, one is over");
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m&status=queued"), 5);

    matrix("m", "event", "[\"g\"]", "");
    o = push("/v1/matrices/m/events?autoId=true", NULL, "[{\"record\":{}},{\"record\":{}}]",
             &status);
    cr_expect_eq(number_of(o, "inserted"), 2);
    cr_expect_eq(number_of(o, "droppedOlder"), 0);
    json_decref(o);
    cr_expect_eq(rows_of("matrixCatalogId=m&status=queued"), 7);
}

/* ---- triggers -------------------------------------------------------------------------------- */

Test(events_in, a_trigger_makes_a_row_of_a_matrix_of_any_kind)
{
    unsigned status;
    json_t *o;

    graph("g", "Published", "{}");
    matrix("r", "record", "[\"g\",\"h\"]", "");
    o = push("/v1/matrices/r/trigger", NULL, "", &status);
    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(o, "status"), "inserted");
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 2);
    json_decref(o);
    o = push("/v1/matrices/r/trigger?graphId=g", NULL,
             "{\"id\":\"t\",\"record\":{\"a\":1},\"priority\":4}", &status);
    cr_expect_str_eq(text_of(o, "id"), "t");
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 1);
    json_decref(o);
    o = call("GET", "/v1/rows/r%7C%7Cg%7Ct", NULL, &status);
    cr_expect_eq(number_of(o, "priority"), 4);
    json_decref(o);
    assert_error("POST", "/v1/matrices/r/trigger?graphId=none", "", 404, "Not Found",
                 "NotFound", "has no graph \"none\"");
    assert_error("POST", "/v1/matrices/r/trigger", "{\"recrod\":{}}", 400, "Bad Request",
                 "ValidationError", "member \"recrod\" is not known");
    assert_error("POST", "/v1/matrices/r/trigger", "[]", 400, "Bad Request", "ValidationError",
                 "an event is a JSON object");
}

Test(events_in, a_graph_is_triggered_in_the_one_matrix_that_names_it)
{
    unsigned status;
    json_t *o;

    graph("g", "Published", "{}");
    matrix("one", "record", "[\"g\",\"h\"]", "");
    o = push("/v1/graphs/g/trigger", NULL, "{\"id\":\"t\"}", &status);
    cr_expect_eq(status, 200);
    cr_expect_str_eq(text_of(o, "matrixCatalogId"), "one");
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 1);
    json_decref(o);
    matrix("two", "record", "[\"g\"]", "");
    assert_error("POST", "/v1/graphs/g/trigger", "", 409, "Conflict", "AmbiguousGraph",
                 "in 2 matrices (one, two)");
    assert_error("POST", "/v1/graphs/none/trigger", "", 404, "Not Found",
                 "ConfigStoreNotFoundError", "no matrix names a graph \"none\"");
}

/* ---- any array ------------------------------------------------------------------------------- */

static uint64_t seed_of_test(void)
{
    const char *v = getenv("EXJ_TEST_SEED");
    uint64_t seed = v && *v ? strtoull(v, NULL, 10) : exj_random_u64();

    fprintf(stderr, "events_in: EXJ_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static uint64_t roll(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static json_t *any_value(uint64_t *state, unsigned depth)
{
    static const char *const texts[] = { "", "]", "}", "\\", "\"", "a,b", "[{", "\\\"", "\n" };
    json_t *v;

    switch (roll(state) % (depth ? 6 : 4)) {
    case 0:
        return json_integer((json_int_t)(roll(state) >> 12));
    case 1:
        return json_null();
    case 2:
        return json_true();
    case 3:
        return json_string(texts[roll(state) % (sizeof texts / sizeof *texts)]);
    case 4:
        v = json_array();
        for (uint64_t i = roll(state) % 4; i; i--)
            json_array_append_new(v, any_value(state, depth - 1));
        return v;
    default:
        v = json_object();
        for (uint64_t i = roll(state) % 4; i; i--)
            json_object_set_new(v, texts[1 + roll(state) % 8], any_value(state, depth - 1));
        return v;
    }
}

Test(events_in, an_array_is_taken_apart_whatever_stands_in_it)
{
    uint64_t state = seed_of_test();

    usual();
    for (int round = 0; round < 40; round++) {
        size_t n = 1 + roll(&state) % 12;
        json_t *all = json_array(), *o;
        unsigned status;
        char *text;

        for (size_t i = 0; i < n; i++) {
            json_t *record = json_object();
            char id[32];

            json_object_set_new(record, "f", any_value(&state, 4));
            snprintf(id, sizeof id, "e%d-%zu", round, i);
            json_array_append_new(all, json_pack("{s:s,s:o}", "id", id, "record", record));
        }
        text = json_dumps(all, roll(&state) % 2 ? JSON_COMPACT : JSON_INDENT(2));
        o = push("/v1/matrices/m/events", NULL, text, &status);
        cr_expect_eq(status, 200, "%s", text);
        cr_expect_eq(number_of(o, "inserted"), (json_int_t)n, "%s", text);
        json_decref(o);
        for (size_t i = 0; i < n; i++) {
            char target[64];

            snprintf(target, sizeof target, "/v1/rows/m%%7C%%7Cg%%7Ce%d-%zu", round, i);
            o = call("GET", target, NULL, &status);
            cr_expect(json_equal(json_object_get(o, "input"),
                                 json_object_get(json_array_get(all, i), "record")),
                      "%s of %s", target, text);
            json_decref(o);
        }
        free(text);
        json_decref(all);
    }
}

/* ---- idempotency keys ------------------------------------------------------------------------- */

Test(events_in, a_command_that_is_sent_again_is_answered_from_memory)
{
    exj_request q = { .method = "POST",
                      .path = EXJ_SLICE_LITERAL("/v1/matrices/m/trigger"),
                      .idempotency_key = EXJ_SLICE_LITERAL("once"),
                      .trusted = true };
    exj_response first, second;

    usual();
    exj_api_call(&f.api, &q, &first);
    exj_api_call(&f.api, &q, &second);
    cr_expect_eq(first.status, 200);
    cr_expect_eq(second.status, 200);
    cr_expect(second.replayed);
    cr_expect_str_eq(first.body.p, second.body.p);
    cr_expect_eq(rows_of("matrixCatalogId=m"), 1);
    exj_response_release(&first);
    exj_response_release(&second);
}
