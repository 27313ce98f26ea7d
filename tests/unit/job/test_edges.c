/* Values at the edges of what is allowed, and words for everything that there is. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/job/canary.h"
#include "core/job/config.h"
#include "core/job/config_limits.h"
#include "core/job/cron.h"
#include "core/job/journal.h"
#include "core/job/keys.h"
#include "core/job/outcome.h"
#include "core/job/rate.h"
#include "core/job/record.h"
#include "core/job/retry.h"
#include "core/job/schedule.h"

/* `n` times `c`, in one of a few buffers. */
static const char *many(char c, size_t n)
{
    static char text[4][3000];
    static unsigned at;
    char *ret = text[at++ % 4];

    cr_assert_lt(n, sizeof(text[0]));
    memset(ret, c, n);
    ret[n] = '\0';
    return ret;
}

static const char *join(const char *before, const char *middle, const char *after)
{
    static char text[8000];

    snprintf(text, sizeof(text), "%s%s%s", before, middle, after);
    return text;
}

/* ---- canary --------------------------------------------------------------------------- */

Test(canary_edges, bounds_stay_between_nothing_and_all)
{
    for (uint64_t calls = 0; calls < 400; calls++)
        for (int z = 0; z < 60; z++) {
            exj_canary_count none = { calls, 0 }, all = { calls, calls };

            cr_expect_geq(exj_wilson_lower(none, z / 10.0), 0);
            cr_expect_leq(exj_wilson_lower(none, z / 10.0), exj_wilson_upper(none, z / 10.0));
            cr_expect_leq(exj_wilson_upper(all, z / 10.0), 1);
        }
}

Test(canary_edges, its_own_thresholds_are_used)
{
    exj_canary_config c = exj_canary_defaults();
    exj_canary_count old = { 1000, 0 }, fresh = { 7, 0 };

    cr_expect_eq(exj_canary_judge(old, fresh, 0, &c), EXJ_CANARY_KEEP_WATCHING);
    c.good_calls = 7;
    cr_expect_eq(exj_canary_judge(old, fresh, 0, &c), EXJ_CANARY_PROMOTE);
}

Test(canary_edges, each_verdict_has_a_word)
{
    cr_expect_str_eq(exj_canary_verdict_word(EXJ_CANARY_KEEP_WATCHING), "keep-watching");
    cr_expect_str_eq(exj_canary_verdict_word(EXJ_CANARY_PROMOTE), "promote");
    cr_expect_str_eq(exj_canary_verdict_word(EXJ_CANARY_ROLL_BACK), "roll-back");
    cr_expect_str_eq(exj_canary_verdict_word((exj_canary_verdict)77), "?");
}

/* ---- words ---------------------------------------------------------------------------- */

Test(words, of_documents_go_and_come_back)
{
    exj_publication p;
    exj_operational o;
    exj_err err = { 0 };

    for (unsigned i = EXJ_DRAFT; i <= EXJ_ARCHIVED; i++) {
        cr_assert_eq(exj_publication_parse(exj_slice_of(exj_publication_word(i)), &p, NULL),
                     EXJ_OK);
        cr_expect_eq(p, i);
    }
    for (unsigned i = EXJ_NOT_OPERATIONAL; i <= EXJ_OP_FAILED; i++) {
        cr_assert_eq(exj_operational_parse(exj_slice_of(exj_operational_word(i)), &o, NULL),
                     EXJ_OK);
        cr_expect_eq(o, i);
    }
    cr_expect_str_eq(exj_publication_word((exj_publication)9), "unknown");
    cr_expect_str_eq(exj_operational_word((exj_operational)9), "unknown");
    cr_expect_eq(exj_publication_parse((exj_slice){ 0 }, &p, &err), EXJ_INVALID);
    cr_expect_str_eq(err.text,
                     "publicationStatus: \"\" is not allowed; allowed: Draft, Published, Archived");
    err = (exj_err){ 0 };
    cr_expect_eq(exj_operational_parse(exj_slice_of(many('x', 70)), &o, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, join("\"", many('x', 64), "\"")), "%s", err.text);
}

Test(words, that_are_none_say_so)
{
    exj_status s;
    exj_entry_kind k;
    exj_err err = { 0 };

    cr_expect_str_eq(exj_status_word((exj_status)99), "unknown");
    cr_expect_str_eq(exj_event_word((exj_event)99), "unknown");
    cr_expect_str_eq(exj_missed_word((exj_missed)9), "unknown");
    cr_expect_str_eq(exj_missed_word(EXJ_MISSED_ALL), "all");
    cr_expect_eq(exj_status_parse((exj_slice){ 0 }, &s, NULL), EXJ_INVALID);
    cr_expect_eq(exj_status_parse(exj_slice_of(many('s', 65)), &s, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, join("\"", many('s', 64), "\"")), "%s", err.text);
    cr_expect_eq(exj_entry_parse((exj_slice){ 0 }, &k, NULL), EXJ_INVALID);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_entry_parse(exj_slice_of(many('e', 65)), &k, &err), EXJ_INVALID);
    cr_expect(strstr(err.text, "allowed: queued, "), "%s", err.text);
    cr_expect(strstr(err.text, ", crashed"), "%s", err.text);
}

/* ---- documents ------------------------------------------------------------------------ */

struct refused {
    const char *doc, *id, *says;
};

Test(document_edges, of_graphs_are_refused_with_the_path)
{
    char join_codes[300], long_keys[2400] = "", items[4000] = "[", finals[400] = "[";
    const struct refused cases[] = {
        { "{}", "a\nb", "graphId \"a\" holds the control byte 0x0a" },
        { "{\"graphId\":\"a\\u0001b\"}", "", "graphId \"a\" holds the control byte 0x01" },
        { "{\"graphId\":\"g\"}", "h", "graphId: found \"g\"; wanted \"h\"" },
        { "{\"graphId\":\"g\"}", many('i', 90), "wanted \"iiii" },
        { "{\"graphId\":[1]}", "", "graphId: found [1]; wanted a string that is not empty" },
        { "{\"graphId\":\"g\",\"payload\":[]}", "", "payload: found []; wanted an object" },
        { "{\"graphId\":\"g\",\"payload\":{\"mappedInput\":7}}", "",
          "payload.mappedInput: found 7; wanted an array or an object" },
        { join_codes, "", "payload.execution.finalErrors[0]: found \"ccc" },
        { "{\"graphId\":\"g\",\"payload\":{\"mappedInput\":[{\"name\":3}]}}", "",
          "payload.mappedInput[0]: found {\"name\":3}; wanted a field name" },
        { "{\"graphId\":\"g\",\"payload\":{\"mappedInput\":[\"a\",{\"name\":\"x\"},2]}}", "",
          "payload.mappedInput[1]: found {\"name\":\"x\"}; wanted a field name" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"isolation\":\"moon\"}}}", "",
          "payload.execution.isolation: found \"moon\"; wanted in-process, host or" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"isolation\":3}}}", "",
          "payload.execution.isolation: found 3; wanted a string" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"executor\":\"a\\tb\"}}}", "",
          "payload.execution.executor" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"maxAttempts\":1.5}}}", "",
          "payload.execution.maxAttempts: found 1.5; wanted a whole number from 1 to 1000" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"retry\":{\"factor\":\"2\"}}}}", "",
          "payload.execution.retry.factor: found \"2\"; wanted a number from 1 to 100" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"retry\":{\"jitter\":2}}}}", "",
          "payload.execution.retry.jitter: found 2" },
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"finalErrors\":[\"A\",null]}}}", "",
          "payload.execution.finalErrors[1]: found null" },
        { join("{\"graphId\":\"g\",\"", many('k', 200), "\":1}"), "", "unknown key; did you mean" },
        { long_keys, "", "wanted an object" },
        { items, "", "payload.mappedInput: 1025 items; at most 1024 are allowed" },
        { finals, "", "payload.execution.finalErrors: 65 codes; at most 64 are allowed" },
    };

    snprintf(join_codes, sizeof(join_codes),
             "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"finalErrors\":[\"%s\"]}}}",
             many('c', 129));
    snprintf(long_keys, sizeof(long_keys), "{\"graphId\":\"g\",\"payload\":[%s\"%s\"]}",
             "\"some text\",", many('v', 120));
    snprintf(items, sizeof(items), "{\"graphId\":\"g\",\"payload\":{\"mappedInput\":[0");
    for (int i = 0; i < 1024; i++)
        strcat(items, ",0");
    strcat(items, "]}}");
    snprintf(finals, sizeof(finals),
             "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"finalErrors\":[\"a\"");
    for (int i = 0; i < 64; i++)
        strcat(finals, ",\"b\"");
    strcat(finals, "]}}}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_graph_config c = { 0 };
        exj_err err = { 0 };

        cr_expect_eq(exj_graph_config_parse(exj_slice_of(cases[i].doc),
                                            exj_slice_of(cases[i].id), &c, NULL, &err),
                     EXJ_INVALID, "%s", cases[i].doc);
        cr_expect(strstr(err.text, cases[i].says), "%s: %s", cases[i].doc, err.text);
        cr_expect_eq(exj_graph_config_parse(exj_slice_of(cases[i].doc),
                                            exj_slice_of(cases[i].id), &c, NULL, NULL),
                     EXJ_INVALID);
    }
}

Test(document_edges, of_graphs_that_are_allowed)
{
    static const struct {
        const char *doc;
        exj_isolation isolation;
        bool deleted;
    } cases[] = {
        { "{\"graphId\":\"g\",\"payload\":{\"execution\":{\"isolation\":\"in-process\"}}}",
          EXJ_ISOLATION_IN_PROCESS, false },
        { "{\"graphId\":\"g\",\"deletedAt\":null,\"tombstoneId\":\"t\","
          "\"payload\":{\"execution\":{\"isolation\":\"host\"}}}",
          EXJ_ISOLATION_HOST, true },
        { "{\"graphId\":\"g\",\"deletedAt\":\"x\",\"payload\":{\"graphId\":\"g\","
          "\"execution\":{\"isolation\":\"sandbox\"},\"mappedInput\":null}}",
          EXJ_ISOLATION_SANDBOX, true },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_graph_config c = { 0 };
        exj_err err = { 0 };

        cr_assert_eq(exj_graph_config_parse(exj_slice_of(cases[i].doc), EXJ_SLICE_LITERAL("g"),
                                            &c, NULL, &err), EXJ_OK, "%s", err.text);
        cr_expect_eq(c.isolation, cases[i].isolation);
        cr_expect_eq(c.tombstoned, cases[i].deleted);
        cr_expect_not(c.memory_needs_record);
        exj_graph_config_release(&c);
    }
}

Test(document_edges, stored_ones_are_read_with_items_nobody_knows)
{
    static const char doc[] =
        "{\"graphId\":\"g\",\"createdAt\":{\"$date\":1},\"payload\":{\"mappedInput\":["
        "7,{\"name\":3},{\"name\":\"n\"},{\"name\":\"v\",\"value\":1},"
        "{\"name\":\"f\",\"from\":\"x\"},{\"name\":\"f\",\"from\":\"y\"},"
        "{\"name\":\"h\",\"from\":\"x\"},{\"name\":\"v\",\"value\":2},5],"
        "\"graphEntry\":{\"inputs\":{\"f\":0,\"keep\":0}}}}";
    static const char *const seeds[][2] = {
        { "{\"x\":1,\"y\":2}", "{\"keep\":0,\"v\":2,\"f\":2,\"h\":1}" },
        { "{\"x\":1}", "{\"keep\":0,\"v\":2,\"f\":1,\"h\":1}" },
        { "{\"z\":1}", "{\"f\":0,\"keep\":0,\"v\":2}" },
    };
    exj_graph_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_graph_config_read(exj_slice_of(doc), &c, &err), EXJ_OK, "%s", err.text);
    for (size_t i = 0; i < 3; i++) {
        exj_buf b = EXJ_BUF_INIT;

        cr_assert_eq(exj_memory_seed_add(&c, exj_slice_of(seeds[i][0]), &b, NULL), EXJ_OK);
        cr_expect_str_eq(b.p, seeds[i][1]);
        exj_buf_release(&b);
    }
    exj_graph_config_release(&c);
}

Test(document_edges, a_graph_without_a_document_has_an_empty_memory)
{
    exj_graph_config c = { 0 };
    exj_buf b = EXJ_BUF_INIT;

    cr_assert_eq(exj_memory_seed_add(&c, EXJ_SLICE_LITERAL("{\"a\":1}"), &b, NULL), EXJ_OK);
    cr_expect_str_eq(b.p, "{}");
    exj_buf_release(&b);
}

Test(document_edges, numbers_of_a_graph_are_taken_and_odd_inputs_are_none)
{
    exj_graph_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_graph_config_parse(
                     EXJ_SLICE_LITERAL("{\"graphId\":\"g\",\"payload\":{\"graphEntry\":{"
                                       "\"inputs\":[1]},\"execution\":{\"concurrency\":5,"
                                       "\"maxAttempts\":4}}}"),
                     (exj_slice){ 0 }, &c, NULL, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(c.concurrency, 5);
    cr_expect_eq(c.retry.max_attempts, 4);
    cr_expect_str_eq(c.memory, "{}");
    exj_graph_config_release(&c);
}

Test(document_edges, a_time_of_next_to_nothing_is_a_millisecond)
{
    exj_graph_config c = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_graph_config_parse(
                     EXJ_SLICE_LITERAL("{\"graphId\":\"g\",\"payload\":{\"execution\":{"
                                       "\"timeoutSeconds\":1e-7}}}"),
                     (exj_slice){ 0 }, &c, NULL, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(c.timeout_ms, 1);
    exj_graph_config_release(&c);
}

Test(document_edges, a_program_for_jq_is_as_long_as_allowed)
{
    static char program[EXJ_JQ_MAX_BYTES + 2], doc[EXJ_JQ_MAX_BYTES + 300];

    for (size_t n = EXJ_JQ_MAX_BYTES; n <= EXJ_JQ_MAX_BYTES + 1; n++) {
        exj_matrix_config c = { 0 };
        exj_err err = { 0 };

        memset(program, '.', n);
        snprintf(doc, sizeof(doc),
                 "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"dataSource\":{"
                 "\"kind\":\"query-snapshot\",\"transform\":{\"jq\":\"%s\"}}}}", program);
        cr_expect_eq(exj_matrix_config_parse(exj_slice_of(doc), (exj_slice){ 0 }, &c, NULL,
                                             &err), n > EXJ_JQ_MAX_BYTES ? EXJ_INVALID : EXJ_OK,
                     "%s", err.text);
        exj_matrix_config_release(&c);
    }
}

#define MATRIX(more)                                                                      \
    "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g1\"],"                     \
    "\"dataSource\":{\"kind\":\"record\"}" more "}}"

Test(document_edges, of_matrices_are_refused_with_the_path)
{
    static const struct refused cases[] = {
        { "{\"matrixCatalogId\":3}", "", "matrixCatalogId: found 3" },
        { "7", "", "the document is not a JSON object" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"a\",\"\"]}}", "",
          "payload.graphs[1] is empty" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":\"a\"}}", "",
          "payload.graphs: found \"a\"; wanted an array" },
        { MATRIX(",\"retry\":{\"initialSeconds\":2,\"maxSeconds\":1}"), "",
          "payload.retry.maxSeconds: found 1; wanted at least initialSeconds" },
        { MATRIX(",\"retention\":{\"failedDays\":1,\"failedSeconds\":2}"), "", "not both" },
        { MATRIX(",\"retention\":{\"failedDays\":\"1\"}"), "",
          "payload.retention.failedDays: found \"1\"" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"dataSource\":{"
          "\"kind\":\"record\",\"transform\":{}}}}", "",
          "payload.dataSource.transform: only kind query-snapshot has it" },
        { "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],\"dataSource\":{"
          "\"kind\":\"query-snapshot\",\"transform\":{\"jq\":7}}}}", "",
          "payload.dataSource.transform.jq: found 7" },
        { MATRIX(""), "other", "matrixCatalogId: found \"m\"; wanted \"other\"" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_matrix_config c = { 0 };
        exj_err err = { 0 };

        cr_expect_eq(exj_matrix_config_parse(exj_slice_of(cases[i].doc),
                                             exj_slice_of(cases[i].id), &c, NULL, &err),
                     EXJ_INVALID, "%s", cases[i].doc);
        cr_expect(strstr(err.text, cases[i].says), "%s: %s", cases[i].doc, err.text);
        cr_expect_null(c.matrix_id);
    }
}

Test(document_edges, of_matrices_that_are_allowed)
{
    exj_matrix_config c = { 0 };

    cr_assert_eq(exj_matrix_config_parse(
                     EXJ_SLICE_LITERAL(MATRIX(",\"retention\":{\"failedDays\":1}")),
                     EXJ_SLICE_LITERAL("m"), &c, NULL, NULL), EXJ_OK);
    cr_expect_eq(c.retention_failed_ms, 86400000);
    exj_matrix_config_release(&c);
    /* What is stored may have members of its time. */
    cr_assert_eq(exj_matrix_config_read(
                     EXJ_SLICE_LITERAL("{\"matrixCatalogId\":\"m\",\"new\":1,\"payload\":{"
                                       "\"graphs\":[\"g\"],\"dataSource\":{\"kind\":"
                                       "\"storage\",\"transform\":7}}}"), &c, NULL), EXJ_OK);
    cr_expect_null(c.snapshot.jq);
    exj_matrix_config_release(&c);
}

/* Only one end of the range of delays was named: it wins over the default of the other. */
Test(document_edges, one_end_of_the_delays_wins_over_the_others_default)
{
    static const struct {
        const char *doc;
        exj_msec initial_ms, max_ms;
    } cases[] = {
        { MATRIX(",\"retry\":{\"maxSeconds\":0.0005}"), 1, 1 },
        { MATRIX(",\"retry\":{\"initialSeconds\":31000000}"), 31000000000, 31000000000 },
        { MATRIX(",\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}"), 0, 0 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_matrix_config c = { 0 };
        exj_err err = { 0 };

        cr_assert_eq(exj_matrix_config_parse(exj_slice_of(cases[i].doc), (exj_slice){ 0 }, &c,
                                             NULL, &err), EXJ_OK, "%s", err.text);
        cr_expect_eq(c.retry.initial_ms, cases[i].initial_ms);
        cr_expect_eq(c.retry.max_ms, cases[i].max_ms);
        exj_matrix_config_release(&c);
    }
}

Test(document_edges, each_word_of_a_graph_goes_over_its_matrix)
{
    exj_matrix_config m = { .retry = { .max_attempts = 2, .initial_ms = 10, .max_ms = 1000,
                                       .factor = 1, .jitter = 0.1 },
                            .concurrency = 3 };
    exj_graph_config g = { .retry = { .max_attempts = 9, .initial_ms = 5000, .max_ms = 5,
                                      .factor = 4, .jitter = 0.9 },
                           .has_max_attempts = true, .concurrency = 7 };
    exj_effective e = exj_effective_of(NULL, NULL);

    cr_expect_eq(e.per_key, 1);
    e = exj_effective_of(&m, &g);
    cr_expect_eq(e.concurrency, 7);
    cr_expect_eq(e.retry.max_attempts, 9);
    cr_expect_eq(e.retry.factor, 1);
    g.concurrency = 0;
    g.retry_set = EXJ_RETRY_HAS_FACTOR | EXJ_RETRY_HAS_JITTER | EXJ_RETRY_HAS_MAX;
    e = exj_effective_of(&m, &g);
    cr_expect_eq(e.concurrency, 3);
    cr_expect_eq(e.retry.factor, 4);
    cr_expect_eq(e.retry.jitter, 0.9);
    cr_expect_eq(e.retry.initial_ms, 5);
    cr_expect_eq(e.retry.max_ms, 5);
    g.retry_set = EXJ_RETRY_HAS_INITIAL;
    e = exj_effective_of(&m, &g);
    cr_expect_eq(e.retry.initial_ms, 5000);
    cr_expect_eq(e.retry.max_ms, 5000);
}

/* ---- schedules ------------------------------------------------------------------------ */

#define SCHEDULE(payload)                                                                 \
    "{\"scheduleId\":\"s\",\"payload\":{" payload "\"start\":{\"matrixCatalogId\":\"m\"}}}"

Test(schedule_edges, are_refused_with_the_path)
{
    static const struct refused cases[] = {
        { "[]", "", "the document is not a JSON object" },
        { "{\"scheduleId\":[]}", "", "scheduleId: found []" },
        { "{\"payload\":{}}", "", "scheduleId: missing" },
        { "{\"payload\":{}}", "a\nb", "control byte 0x0a" },
        { SCHEDULE("\"everySeconds\":5,\"paused\":1,"), "",
          "payload.paused: found 1; wanted true or false" },
        { SCHEDULE("\"everySeconds\":5,\"missed\":\"never\","), "", "payload.missed" },
        { SCHEDULE("\"cron\":\"0 3 * * *\",\"anchor\":\"tomorrow\","), "",
          "payload.anchor: found beside cron" },
        { "{\"scheduleId\":\"s\",\"payload\":{\"everySeconds\":5,\"start\":{"
          "\"matrixCatalogId\":\"m\",\"run\":\"x\"}}}", "", "payload.start.run: found \"x\"" },
    };
    char doc[200], id[120];

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_schedule s = { 0 };
        exj_err err = { 0 };

        cr_expect_eq(exj_schedule_parse(exj_slice_of(cases[i].doc), exj_slice_of(cases[i].id),
                                        &s, NULL, &err), EXJ_INVALID, "%s", cases[i].doc);
        cr_expect(strstr(err.text, cases[i].says), "%s: %s", cases[i].doc, err.text);
    }
    memset(id, 'i', sizeof(id));
    id[119] = '\0';
    for (int same = 0; same < 2; same++) {
        exj_schedule s = { 0 };
        exj_err err = { 0 };

        snprintf(doc, sizeof(doc), SCHEDULE("\"everySeconds\":5,"));
        cr_expect_eq(exj_schedule_parse(exj_slice_of(doc), exj_slice_of(same ? "s" : id), &s,
                                        NULL, &err), same ? EXJ_OK : EXJ_INVALID, "%s", err.text);
        if (!same)
            cr_expect(strstr(err.text, "scheduleId: found \"s\"; wanted \"iii"), "%s", err.text);
        exj_schedule_release(&s);
    }
}

Test(schedule_edges, words_for_true_false_and_null)
{
    static const struct {
        const char *doc;
        bool paused, run;
    } cases[] = {
        { SCHEDULE("\"everySeconds\":5,\"paused\":true,"), true, false },
        { SCHEDULE("\"everySeconds\":5,\"paused\":false,"), false, false },
        { SCHEDULE("\"everySeconds\":5,\"paused\":null,"), false, false },
        { "{\"scheduleId\":\"s\",\"payload\":{\"everySeconds\":5,\"start\":{"
          "\"matrixCatalogId\":\"m\",\"run\":true}}}", false, true },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_schedule s = { 0 };
        exj_err err = { 0 };

        cr_assert_eq(exj_schedule_parse(exj_slice_of(cases[i].doc), (exj_slice){ 0 }, &s, NULL,
                                        &err), EXJ_OK, "%s", err.text);
        cr_expect_eq(s.paused, cases[i].paused);
        cr_expect_eq(s.run, cases[i].run);
        exj_schedule_release(&s);
    }
}

Test(schedule_edges, anchors_are_instants_of_the_calendar)
{
    static const struct {
        const char *text;
        exj_msec at; /* -1: refused */
    } cases[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1970-01-01T01:00:00+01:00", 0 },
        { "1970-01-01T00:00:00-00:01", 60000 },
        { "1970-01-01T00:00:00.000Z", 0 },
        { "9999-12-31T23:59:59Z", 253402300799000 },
        { "1970-01-01T00:00:00+01:00", -1 },   /* before */
        { "9999-12-31T23:59:59-00:01", -1 },   /* after */
        { "1969-12-31T23:59:59Z", -1 },
        { "2026-00-01T00:00:00Z", -1 },
        { "2026-13-01T00:00:00Z", -1 },
        { "2026-01-00T00:00:00Z", -1 },
        { "2026-02-29T00:00:00Z", -1 },
        { "2026-01-01T24:00:00Z", -1 },
        { "2026-01-01T00:60:00Z", -1 },
        { "2026-01-01T00:00:60Z", -1 },
        { "2026-01-01T-1:00:00Z", -1 },
        { "2026-01-01T00:-1:00Z", -1 },
        { "2026-01-01T00:00:-1Z", -1 },
        { "2026-01-01T00:00:00.5Z", -1 },
        { "2026-01-01T00:00:00", -1 },
        { "2026-01-01T00:00:00+15:00", -1 },
        { "2026-01-01T00:00:00+01:60", -1 },
        { "2026-01-01T00:00:00+01:0", -1 },
        { "2026-01-01T00:00:00+01:00x", -1 },
        { "2026-01-01T00:00:00*01:00", -1 },
        { "2026-01-01T00:00:00+ 1:00", -1 },
        { "2026-1-1T00:00:00Z", -1 },
        { "2026- 1-01T00:00:00Z", -1 },
        { "tomorrow", -1 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        exj_schedule s = { 0 };
        exj_err err = { 0 };
        exj_code rc;
        char doc[200];

        snprintf(doc, sizeof(doc), SCHEDULE("\"everySeconds\":5,\"anchor\":\"%s\","),
                 cases[i].text);
        rc = exj_schedule_parse(exj_slice_of(doc), (exj_slice){ 0 }, &s, NULL, &err);
        cr_expect_eq(rc, cases[i].at < 0 ? EXJ_INVALID : EXJ_OK, "%s: %s", cases[i].text,
                     err.text);
        if (cases[i].at >= 0)
            cr_expect_eq(s.anchor_ms, cases[i].at, "%s", cases[i].text);
        exj_schedule_release(&s);
    }
}

Test(schedule_edges, intervals_end_with_the_year_9999)
{
    exj_schedule s = { .every_ms = 1000, .anchor_ms = 5000, .missed = EXJ_MISSED_ONCE };
    const exj_msec last = 253402300799000;
    exj_schedule_verdict v;
    exj_msec at = 0, ticks[2];

    cr_assert(exj_schedule_next(&s, 0, &at));
    cr_expect_eq(at, 5000);
    cr_expect_not(exj_schedule_next(&s, last, &at));
    cr_expect_not(exj_schedule_next(&s, last + 1, &at));
    exj_schedule_due(&s, last - 10000, INT64_MAX, ticks, 2, &v);
    cr_expect_eq(v.last_tick, last);
    cr_expect_not(v.has_next);
    exj_schedule_due(&s, last, INT64_MAX, ticks, 2, &v);
    cr_expect_eq(v.fire, 0);
    s.anchor_ms = 1000 + last % 7000; /* no tick falls on the last second */
    s.every_ms = 7000;
    exj_schedule_due(&s, last - 70000, INT64_MAX, ticks, 2, &v);
    cr_expect_eq(v.fire, 1);
    cr_expect_eq(v.skipped, 9);
    s.every_ms = 1000;
    s.paused = true;
    exj_schedule_due(&s, last - 10000, INT64_MAX, ticks, 2, &v);
    cr_expect_eq(v.skipped, 10);
}
