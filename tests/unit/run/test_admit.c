/* Records that become rows: of every graph or of none, also when memory is short. */
#include "core/run/admit.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/fault.h"

static char dir[64];
static exj_store *store;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void put(exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    cr_assert_eq(exj_store_do(store, &op, &err), EXJ_OK, "%s", err.text);
}

static void matrix(const char *graphs, const char *more)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_printf(&b,
                   "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":%s,\"dataSource\":"
                   "{\"kind\":\"event\"}%s}}",
                   graphs, more);
    put(EXJ_DOC_MATRIX, "m", b.p);
    exj_buf_release(&b);
}

static void open_store(void)
{
    exj_sqlite_options o = { .dir = dir, .lock_note = "test", .fast = true };
    exj_err err = { 0 };

    snprintf(dir, sizeof(dir), "/tmp/exj-admit-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(exj_sqlite_open(&o, &store, &err), EXJ_OK, "%s", err.text);
}

static void close_store(void)
{
    store->v->close(store);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(admit, .init = open_store, .fini = close_store);

static bool add_counts(void *user, const exj_pool_info *p)
{
    int64_t *n = user;

    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        *n += p->counts[s];
    return true;
}

static int64_t rows(void)
{
    int64_t n = 0;

    cr_assert_eq(store->v->pools(store, add_counts, &n, NULL), EXJ_OK);
    return n;
}

/* Open, two records, submit, look. */
static exj_code admit(exj_err *err)
{
    exj_admit_options o = { .unique_key = EXJ_SLICE_LITERAL("k") };
    exj_admission *a = NULL;
    exj_code rc = exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("m"), (exj_slice){ 0 },
                                        &a, err);

    if (rc == EXJ_OK)
        rc = exj_admission_add(a, EXJ_SLICE_LITERAL("a"),
                               EXJ_SLICE_LITERAL("{\"who\":\"x\\\"y\"}"), &o, err);
    if (rc == EXJ_OK)
        rc = exj_admission_add(a, EXJ_SLICE_LITERAL("b"), EXJ_SLICE_LITERAL("{}"), NULL, err);
    if (rc == EXJ_OK)
        rc = exj_admission_submit(a, err);
    if (rc == EXJ_OK)
        for (size_t g = 0; g < 2; g++)
            for (size_t i = 0; i < 2; i++)
                cr_expect_eq(exj_admission_item(a, g, i)->verdict, EXJ_OK);
    exj_admission_free(a);
    return rc;
}

Test(admit, makes_all_rows_or_none_when_memory_is_short)
{
    long n;

    put(EXJ_DOC_GRAPH, "g", "{\"graphId\":\"g\",\"publicationStatus\":\"Published\"}");
    matrix("[\"g\",\"h\"]", ",\"keys\":{\"concurrency\":\"who\"}");
    for (n = 1; n < 10000; n++) {
        exj_err err = { 0 };
        exj_code rc;

        exj_fault_arm(n);
        rc = admit(&err);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK, "%s", err.text);
            break;
        }
        if (rc == EXJ_OK) /* what failed was spare: it is stored whole */
            break;
        cr_assert_eq(rc, EXJ_NOMEM, "allocation %ld: %s", n, err.text);
        cr_assert_eq(rows(), 0, "allocation %ld left rows", n);
    }
    cr_expect_geq(n, 8, "%ld allocations were tried", n);
    cr_expect_eq(rows(), 4);
}

Test(admit, takes_rows_only_for_graphs_that_are_published_or_have_no_config)
{
    exj_admission *a = NULL;
    exj_err err = { 0 };

    put(EXJ_DOC_GRAPH, "draft", "{\"graphId\":\"draft\"}");
    put(EXJ_DOC_GRAPH, "gone", "{\"graphId\":\"gone\",\"publicationStatus\":\"Published\","
                               "\"deletedAt\":\"2026-01-01T00:00:00Z\"}");
    put(EXJ_DOC_GRAPH, "paused", "{\"graphId\":\"paused\",\"publicationStatus\":\"Published\","
                                 "\"operationalState\":\"Paused\"}");
    matrix("[\"draft\",\"gone\",\"paused\",\"unknown\"]", "");
    cr_assert_eq(exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("m"), (exj_slice){ 0 },
                                       &a, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_admission_graphs(a), 2);
    cr_expect_str_eq(exj_admission_graph(a, 0), "paused");
    cr_expect_str_eq(exj_admission_graph(a, 1), "unknown");
    exj_admission_free(a);
    cr_expect_eq(exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("m"),
                                       EXJ_SLICE_LITERAL("gone"), &a, &err), EXJ_REFUSED);
    cr_expect(strstr(err.text, "is deleted"), "%s", err.text);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("m"),
                                       EXJ_SLICE_LITERAL("none"), &a, &err), EXJ_NOT_FOUND);
    cr_expect(strstr(err.text, "has no graph \"none\""), "%s", err.text);
    err = (exj_err){ 0 };
    cr_expect_eq(exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("none"), (exj_slice){ 0 },
                                       &a, &err), EXJ_NOT_FOUND);
}

Test(admit, refuses_a_record_and_keeps_those_before_it)
{
    exj_admit_options too_high = { .has_priority = true, .priority = 1001 };
    exj_admission *a = NULL;
    exj_err err = { 0 };

    matrix("[\"g\"]", "");
    cr_assert_eq(exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("m"), (exj_slice){ 0 },
                                       &a, &err), EXJ_OK);
    cr_expect_eq(exj_admission_add(a, EXJ_SLICE_LITERAL("a"), EXJ_SLICE_LITERAL("{}"), NULL,
                                   &err), EXJ_OK);
    cr_expect_eq(exj_admission_add(a, EXJ_SLICE_LITERAL(""), EXJ_SLICE_LITERAL("{}"), NULL,
                                   &err), EXJ_INVALID);
    cr_expect_eq(exj_admission_add(a, EXJ_SLICE_LITERAL("b"), EXJ_SLICE_LITERAL("[]"), NULL,
                                   NULL), EXJ_INVALID);
    cr_expect_eq(exj_admission_add(a, EXJ_SLICE_LITERAL("b"), EXJ_SLICE_LITERAL("{}"),
                                   &too_high, NULL), EXJ_INVALID);
    cr_expect_eq(exj_admission_len(a), 1);
    cr_assert_eq(exj_admission_submit(a, NULL), EXJ_OK);
    exj_admission_free(a);
    cr_expect_eq(rows(), 1);
}

Test(admit, is_bounded_in_rows)
{
    exj_admission *a = NULL;
    exj_buf graphs = EXJ_BUF_INIT;
    exj_err err = { 0 };
    unsigned n = 0;

    for (unsigned i = 0; i < 1000; i++)
        exj_buf_printf(&graphs, "%s\"g%u\"", i ? "," : "[", i);
    exj_buf_add_char(&graphs, ']');
    matrix(graphs.p, "");
    exj_buf_release(&graphs);
    cr_assert_eq(exj_admission_open_id(store, NULL, EXJ_SLICE_LITERAL("m"), (exj_slice){ 0 },
                                       &a, &err), EXJ_OK, "%s", err.text);
    while (exj_admission_add(a, EXJ_SLICE_LITERAL("r"), EXJ_SLICE_LITERAL("{}"), NULL, &err) ==
           EXJ_OK)
        n++;
    cr_expect_eq(n, 100);
    cr_expect_eq(err.code, EXJ_FULL);
    cr_expect(strstr(err.text, "more than 100000 rows at once (1000 graphs a record)"), "%s",
              err.text);
    exj_admission_free(a);
    cr_expect_eq(rows(), 0);
}
