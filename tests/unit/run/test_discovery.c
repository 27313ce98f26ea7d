/* A look at the documents that could not be a whole one changes nothing of what runs. */
#include "tests/unit/run/hand_engine.h"

TestSuite(discovery, .init = hand_make, .fini = hand_end, .timeout = 20);

static exj_code list_rc, graph_rc;
static bool has_matrix;
static unsigned loops; /* of matrices that were begun */

static exj_code page(exj_store *s, exj_doc_kind kind, exj_slice after, size_t limit,
                     exj_doc_visit visit, void *user, exj_err *err)
{
    static const char body[] = "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
                               "\"dataSource\":{\"kind\":\"storage\",\"resolver\":\"r\"}}}";

    (void)s, (void)after, (void)limit;
    cr_assert_eq(kind, EXJ_DOC_MATRIX);
    hand->e.stopping = true; /* one look is enough; and a loop that it makes ends at once */
    if (list_rc)
        return exj_err_set(err, list_rc, "no list");
    if (has_matrix)
        visit(user, EXJ_SLICE_LITERAL("m"), 1, exj_slice_of(body), 1, 1);
    return EXJ_OK;
}

static exj_code get(exj_store *s, exj_doc_kind kind, exj_slice id, exj_doc_visit visit, void *user,
                    exj_err *err)
{
    (void)s, (void)kind, (void)id, (void)visit, (void)user;
    return exj_err_set(err, graph_rc, "no graph");
}

static exj_code runs(exj_store *s, exj_run_visit visit, void *user, exj_err *err)
{
    (void)s, (void)visit, (void)user, (void)err;
    return EXJ_OK;
}

static void look(void)
{
    exj_engine *e = &hand->e;

    hand->v.doc_page = page;
    hand->v.doc_get = get;
    hand->v.runs = runs;
    e->o.metrics = hand->metrics;
    e->stopping = false;
    hand->pool.wanted = true;
    exj_run_discovery(e);
    while (e->matrices) {
        struct matrix *m = e->matrices;

        e->matrices = m->next;
        loops += m->has_thread;
        if (m->has_thread)
            pthread_join(m->thread, NULL);
        exj_matrix_free(m);
    }
}

Test(discovery, a_look_that_could_not_list_is_no_look)
{
    list_rc = EXJ_IO;
    look();
    cr_expect_not(hand->e.discovered);
    cr_expect(hand->pool.wanted);
    cr_expect(strstr(hand->said, "could not be listed: no list"), "%s", hand->said);
    hand->said[0] = '\0';
    look(); /* the same, soon after: it is not said twice */
    cr_expect_str_empty(hand->said);
    list_rc = EXJ_CORRUPT; /* this does not get well */
    look();
    cr_expect(hand->e.discovered);
    list_rc = EXJ_OK;
    look();
    cr_expect_not(hand->pool.wanted, "no matrix names its graph any more");
}

Test(discovery, a_graph_that_cannot_be_read_now_keeps_its_rows)
{
    static const exj_code passes[] = { EXJ_IO, EXJ_BUSY, EXJ_FULL, EXJ_NOMEM, EXJ_UNKNOWN };

    has_matrix = true;
    for (size_t i = 0; i < sizeof(passes) / sizeof(*passes); i++) {
        graph_rc = passes[i];
        look();
        cr_expect_not(hand->e.discovered);
        cr_expect(hand->pool.wanted, "%s", exj_code_name(graph_rc));
        hand->e.look_tell_at = 0;
    }
    graph_rc = EXJ_CORRUPT;
    look();
    cr_expect(hand->e.discovered);
    cr_expect_not(hand->pool.wanted, "a damaged graph runs no rows");
    cr_expect(strstr(hand->said, "graph g: no graph"), "%s", hand->said);
}

/* Else its source is asked once, and there is nowhere to put what it gives. */
Test(discovery, the_one_cycle_of_a_command_waits_for_its_pools)
{
    has_matrix = true;
    graph_rc = EXJ_IO;
    look();
    cr_expect_eq(loops, 1, "a daemon asks again and again");
    loops = 0;
    hand->e.o.one_cycle = true;
    look();
    cr_expect_eq(loops, 0);
    cr_expect_not(hand->e.discovered);
    graph_rc = EXJ_CORRUPT;
    look();
    cr_expect_eq(loops, 1);
}

/* A one-shot command on a store of its own ends, instead of waiting for ever. */
Test(discovery, a_list_that_can_never_be_read_ends_a_one_shot_engine)
{
    list_rc = EXJ_IO;
    for (int i = 0; i < 20; i++)
        look();
    cr_expect_not(hand->e.failed, "a daemon goes on");
    hand->e.o.one_cycle = true;
    hand->e.unlisted = 0;
    for (int i = 0; i < 9; i++)
        look();
    cr_expect_not(hand->e.failed);
    list_rc = EXJ_OK;
    look();
    list_rc = EXJ_IO;
    for (int i = 0; i < 9; i++)
        look();
    cr_expect_not(hand->e.failed, "it was well meanwhile");
    hand->v.shared = true;
    look();
    cr_expect_not(hand->e.failed, "that may pass");
    hand->v.shared = false;
    look();
    cr_expect(hand->e.failed);
    cr_expect(strstr(hand->said, "the store refused to list matrices: no list"), "%s", hand->said);
}

/* ---- waiting for the end --------------------------------------------------------------------- */

static unsigned counted;

static exj_code pools(exj_store *s, exj_pool_visit visit, void *user, exj_err *err)
{
    exj_pool_info i = { .pool = 5 };

    (void)s;
    if (counted++ < 2)
        return exj_err_set(err, EXJ_IO, "no pools");
    i.counts[EXJ_QUEUED] = counted == 3;
    visit(user, &i);
    return EXJ_OK;
}

Test(discovery, pools_that_cannot_be_read_are_not_empty)
{
    exj_engine *e = &hand->e;

    hand->v.pools = pools;
    e->discovered = true;
    cr_expect_not(exj_engine_wait_idle(e, exj_clock_mono_ns() + 1000000));
    hand->v.shared = true; /* rows of others end without our hearing of it */
    cr_expect(exj_engine_wait_idle(e, 0));
    cr_expect_eq(counted, 4);
    e->failed = true;
    hand->v.pools = NULL; /* nobody asks any more */
    cr_expect(exj_engine_wait_idle(e, 0));
}
