/* Documents and records when memory fails, one allocation after the other, those of jansson
 * among them. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/job/config.h"
#include "core/job/journal.h"
#include "core/job/record.h"
#include "core/job/schedule.h"
#include "tests/support/fault.h"

#define GRAPH                                                                                  \
    "{\"graphId\":\"g\",\"publicationStatus\":\"Published\",\"deletedAt\":null,\"payload\":{"  \
    "\"graphId\":\"g\",\"graphEntry\":{\"inputs\":{\"a\":1,\"b\":{\"c\":[2]}}},"               \
    "\"mappedInput\":[\"q\",{\"name\":\"v\",\"value\":[]},{\"name\":\"w\",\"from\":\"x\"}],"   \
    "\"execution\":{\"executor\":\"e\",\"isolation\":\"sandbox\",\"finalErrors\":[\"A\",\"B\"]," \
    "\"rateLimit\":{\"count\":3},\"retry\":{\"factor\":2,\"jitter\":0.5}}}}"
#define MATRIX                                                                                 \
    "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g1\",\"g2\"],\"dataSource\":{"      \
    "\"kind\":\"query-snapshot\",\"resolver\":\"r\",\"transform\":{\"jq\":\".[]\"}},"          \
    "\"keys\":{\"unique\":\"u\",\"concurrency\":\"c\",\"priority\":\"p\",\"runAfter\":\"t\"},"  \
    "\"retention\":{\"days\":2}}}"
#define SCHEDULE                                                                               \
    "{\"scheduleId\":\"s\",\"payload\":{\"cron\":\"0 3 * * *\",\"zone\":\"Europe/Berlin\","    \
    "\"start\":{\"matrixCatalogId\":\"m\",\"graphId\":\"g\"}}}"

/* The same document, its id told from outside or in it, to be printed for the store or not. */
struct how {
    const char *doc, *id;
    bool print;
};

static exj_code parse_graph(const struct how *h, exj_buf *canonical, exj_err *err)
{
    exj_graph_config c = { 0 };
    exj_code rc = exj_graph_config_parse(exj_slice_of(h->doc), exj_slice_of(h->id), &c,
                                         canonical, err);

    cr_assert_eq(rc == EXJ_OK, c.graph_id != NULL);
    exj_graph_config_release(&c);
    return rc;
}

static exj_code parse_matrix(const struct how *h, exj_buf *canonical, exj_err *err)
{
    exj_matrix_config c = { 0 };
    exj_code rc = exj_matrix_config_parse(exj_slice_of(h->doc), exj_slice_of(h->id), &c,
                                          canonical, err);

    cr_assert_eq(rc == EXJ_OK, c.matrix_id != NULL);
    exj_matrix_config_release(&c);
    return rc;
}

static exj_code parse_schedule(const struct how *h, exj_buf *canonical, exj_err *err)
{
    exj_schedule s = { 0 };
    exj_code rc = exj_schedule_parse(exj_slice_of(h->doc), exj_slice_of(h->id), &s, canonical,
                                     err);

    cr_assert_eq(rc == EXJ_OK, s.schedule_id != NULL);
    exj_schedule_release(&s);
    return rc;
}

/* Each allocation fails once; at last none does. */
static void try_all(exj_code (*parse)(const struct how *, exj_buf *, exj_err *),
                    const struct how *h)
{
    exj_buf wanted = EXJ_BUF_INIT;
    long n = 1;

    cr_assert_eq(parse(h, h->print ? &wanted : NULL, NULL), EXJ_OK, "%s", h->doc);
    for (;; n++) {
        exj_buf canonical = EXJ_BUF_INIT;
        exj_err err = { 0 };
        exj_code rc;
        bool reached;

        exj_fault_arm(n);
        rc = parse(h, h->print ? &canonical : NULL, &err);
        reached = exj_fault_disarm() >= n;
        if (reached)
            cr_assert_eq(rc, EXJ_NOMEM, "%s: allocation %ld: %s", h->doc, n, err.text);
        else if (h->print)
            cr_expect(exj_slice_is(exj_buf_slice(&canonical), wanted.p));
        exj_buf_release(&canonical);
        if (!reached) {
            cr_expect_eq(rc, EXJ_OK, "%s", err.text);
            break;
        }
    }
    cr_expect_gt(n, 10);
    exj_buf_release(&wanted);
}

Test(scarce, memory_for_a_graph)
{
    try_all(parse_graph, &(struct how){ GRAPH, "", true });
    try_all(parse_graph, &(struct how){ "{\"payload\":null}", "g", true });
    try_all(parse_graph, &(struct how){ "{\"graphId\":\"g\",\"payload\":{\"model\":{\"id\":1},"
                                        "\"mappedInput\":{\"a\":1}}}", "g", false });
    try_all(parse_graph, &(struct how){ "{\"graphId\":\"g\"}", "g", true });
}

Test(scarce, memory_for_a_matrix)
{
    try_all(parse_matrix, &(struct how){ MATRIX, "", true });
    try_all(parse_matrix, &(struct how){ "{\"payload\":{\"graphs\":[\"a\"],\"dataSource\":{"
                                         "\"kind\":\"record\",\"config\":{\"k\":1}},\"input\":{"
                                         "\"i\":1},\"matrixRunId\":\"r\"}}", "m", false });
}

Test(scarce, memory_for_a_schedule)
{
    try_all(parse_schedule, &(struct how){ SCHEDULE, "", true });
    try_all(parse_schedule, &(struct how){ "{\"payload\":{\"everySeconds\":5,\"start\":{"
                                           "\"matrixCatalogId\":\"m\",\"input\":{\"a\":1}}}}",
                                           "s", true });
}

/* A mistake stays a mistake, or there was no memory to find it. */
Test(scarce, memory_for_what_is_refused)
{
    static const char doc[] =
        "{\"scheduleId\":\"s\",\"payload\":{\"cron\":\"0 25 * * *\",\"start\":{"
        "\"matrixCatalogId\":\"m\"}}}";

    for (long n = 1;; n++) {
        exj_schedule s = { 0 };
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_schedule_parse(exj_slice_of(doc), (exj_slice){ 0 }, &s, NULL, &err);
        cr_assert_null(s.schedule_id);
        cr_assert_eq(rc, err.code);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_INVALID);
            break;
        }
        cr_assert(rc == EXJ_NOMEM || rc == EXJ_INVALID, "allocation %ld: %s", n, err.text);
    }
}

Test(scarce, memory_for_the_keys_of_a_record)
{
    exj_key_fields f = { .unique = (char[]){ "u" }, .concurrency = (char[]){ "c" } };
    exj_slice record = EXJ_SLICE_LITERAL("{\"u\":\"a\\nb\",\"c\":\"\\u00e9\",\"u\":\"\\t\"}");

    for (long n = 1;; n++) {
        exj_row_keys k;
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = exj_row_keys_read(&f, record, &k, &err);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK, "%s", err.text);
            cr_expect(exj_slice_is(k.unique, "\t"));
            cr_expect(exj_slice_is(k.concurrency, "\xc3\xa9"));
            exj_row_keys_release(&k);
            cr_assert_gt(n, 2);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %s", n, err.text);
        exj_row_keys_release(&k);
    }
}

Test(scarce, memory_for_the_name_of_a_row)
{
    exj_row_name name = { 0 };
    exj_err err = { 0 };

    exj_fault_arm(1);
    cr_expect_eq(exj_row_name_parse(EXJ_SLICE_LITERAL("m|r|g|1"), &name, &err), EXJ_NOMEM);
    cr_expect_eq(exj_fault_disarm(), 1);
    cr_expect_null(name.matrix);
}

/* What could not be appended is not half there. */
Test(scarce, memory_for_the_seed_of_a_memory)
{
    static const char *const docs[] = {
        "{\"graphId\":\"g\"}",
        "{\"graphId\":\"g\",\"payload\":{\"graphEntry\":{\"inputs\":{\"a\":1,\"b\":2}},"
        "\"mappedInput\":[{\"name\":\"a\",\"from\":\"x\"},{\"name\":\"a\",\"from\":\"y\"}]}}",
    };

    for (size_t i = 0; i < 2; i++) {
        exj_graph_config c = { 0 };
        char *before;
        exj_buf b = EXJ_BUF_INIT;

        cr_assert_eq(exj_graph_config_parse(exj_slice_of(docs[i]), (exj_slice){ 0 }, &c, NULL,
                                            NULL), EXJ_OK);
        exj_buf_add_text(&b, "before");
        while (b.n + 1 < b.cap) /* the next byte but one needs memory */
            exj_buf_add_char(&b, '.');
        before = exj_slice_dup(exj_buf_slice(&b));
        exj_fault_arm(1);
        cr_expect_eq(exj_memory_seed_add(&c, EXJ_SLICE_LITERAL("{\"x\":3,\"y\":4}"), &b, NULL),
                     EXJ_NOMEM);
        exj_fault_disarm();
        if (i == 1) /* the caller's buffer ends where it ended */
            cr_expect(exj_slice_is(exj_buf_slice(&b), before));
        free(before);
        exj_buf_release(&b);
        exj_graph_config_release(&c);
    }
}
