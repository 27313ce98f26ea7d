/* Documents with a version, and claims that are guarded by one. */
#include "contract.h"

struct doc {
    char id[64], body[128];
    int64_t version;
    exj_msec created_at, updated_at;
    int seen;
};

static bool keep(void *user, exj_slice id, int64_t version, exj_slice body,
                 exj_msec created_at, exj_msec updated_at)
{
    struct doc *d = user;

    snprintf(d->id, sizeof(d->id), "%.*s", (int)id.n, id.p);
    snprintf(d->body, sizeof(d->body), "%.*s", (int)body.n, body.p);
    d->version = version;
    d->created_at = created_at;
    d->updated_at = updated_at;
    d->seen++;
    return true;
}

static struct doc get(struct fixture *f, exj_doc_kind kind, const char *id)
{
    struct doc d = { .version = -1 };

    expect_code(f->s->v->doc_get(f->s, kind, exj_slice_of(id), keep, &d, NULL), EXJ_OK);
    return d;
}

CONTRACT(docs, versions_count_up_and_are_compared)
{
    int64_t v = 0;
    struct doc d;

    expect_code(put(f, EXJ_DOC_GRAPH, "g1", 3, "{}", &v), EXJ_NOT_FOUND);
    expect_code(put(f, EXJ_DOC_GRAPH, "g1", 0, "{\"a\":1}", &v), EXJ_OK);
    expect_int(v, 1);
    expect_code(put(f, EXJ_DOC_GRAPH, "g1", 0, "{}", &v), EXJ_CONFLICT);
    expect_int(v, 1);
    advance(f, 500);
    expect_code(put(f, EXJ_DOC_GRAPH, "g1", 1, "{\"a\":2}", &v), EXJ_OK);
    expect_int(v, 2);
    expect_code(put(f, EXJ_DOC_GRAPH, "g1", 1, "{\"a\":3}", &v), EXJ_CONFLICT);
    expect_int(v, 2);
    expect_code(put(f, EXJ_DOC_GRAPH, "g1", -1, "{\"a\":4}", &v), EXJ_OK);
    d = get(f, EXJ_DOC_GRAPH, "g1");
    expect_int(d.version, 3);
    expect_int(d.created_at, START);
    expect_int(d.updated_at, START + 500);
    cr_assert_str_eq(d.body, "{\"a\":4}");
    /* A matrix of the same name is another document. */
    expect_code(f->s->v->doc_get(f->s, EXJ_DOC_MATRIX, exj_slice_of("g1"), keep, &d, NULL),
                EXJ_NOT_FOUND);
}

CONTRACT(docs, a_deleted_id_never_repeats_a_version)
{
    int64_t v = 0;

    expect_code(drop(f, EXJ_DOC_MATRIX, "m1", -1, &v), EXJ_NOT_FOUND);
    expect_code(put(f, EXJ_DOC_MATRIX, "m1", -1, "{}", &v), EXJ_OK);
    expect_code(put(f, EXJ_DOC_MATRIX, "m1", 1, "{}", &v), EXJ_OK);
    expect_code(drop(f, EXJ_DOC_MATRIX, "m1", 1, &v), EXJ_CONFLICT);
    expect_int(v, 2);
    expect_code(drop(f, EXJ_DOC_MATRIX, "m1", 2, &v), EXJ_OK);
    expect_code(drop(f, EXJ_DOC_MATRIX, "m1", 2, &v), EXJ_NOT_FOUND);
    expect_code(put(f, EXJ_DOC_MATRIX, "m1", 0, "{}", &v), EXJ_OK);
    expect_int(v, 3);
}

CONTRACT(docs, pages_go_by_id)
{
    struct doc d = { .seen = 0 };

    put(f, EXJ_DOC_GRAPH, "b", 0, "{}", NULL);
    put(f, EXJ_DOC_GRAPH, "c", 0, "{}", NULL);
    put(f, EXJ_DOC_GRAPH, "a", 0, "{}", NULL);
    expect_code(f->s->v->doc_page(f->s, EXJ_DOC_GRAPH, exj_slice_of(""), 2, keep, &d, NULL),
                EXJ_OK);
    expect_int(d.seen, 2);
    cr_assert_str_eq(d.id, "b");
    expect_code(f->s->v->doc_page(f->s, EXJ_DOC_GRAPH, exj_slice_of("b"), 9, keep, &d, NULL),
                EXJ_OK);
    expect_int(d.seen, 3);
    cr_assert_str_eq(d.id, "c");
}

static exj_code guarded(struct fixture *f, int64_t p, exj_doc_kind kind, int64_t version,
                        uint32_t *got)
{
    exj_claim c;
    exj_want w = { .pool = p,
                   .want = 1,
                   .guard_id = EXJ_SLICE_LITERAL("g1"),
                   .guard_kind = kind,
                   .guard_version = version };
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.wants = &w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w";
    op.u.claim.nonce = 7;
    op.u.claim.lease_ms = LEASE;
    op.u.claim.ret = &c;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    *got = w.got;
    return w.verdict;
}

/* spec 2.10: A claim never takes a row of a graph whose config, read after the last
 * acknowledged PATCH, is not schedulable. */
CONTRACT(docs, a_guarded_claim_wants_the_very_version)
{
    int64_t p = pool(f, "m", "", "g1");
    uint32_t got;

    for (int i = 0; i < 4; i++) {
        char id[8];

        snprintf(id, sizeof(id), "r%d", i);
        insert(f, p, id);
    }
    expect_code(guarded(f, p, EXJ_DOC_GRAPH, 1, &got), EXJ_CONFLICT);
    expect_int(got, 0);
    expect_code(guarded(f, p, EXJ_DOC_GRAPH, 0, &got), EXJ_OK); /* while it is absent */
    expect_int(got, 1);
    put(f, EXJ_DOC_GRAPH, "g1", 0, "{}", NULL);
    expect_code(guarded(f, p, EXJ_DOC_GRAPH, 0, &got), EXJ_CONFLICT);
    expect_code(guarded(f, p, EXJ_DOC_GRAPH, 1, &got), EXJ_OK);
    expect_int(got, 1);
    put(f, EXJ_DOC_GRAPH, "g1", 1, "{}", NULL);
    expect_code(guarded(f, p, EXJ_DOC_GRAPH, 1, &got), EXJ_CONFLICT);
    expect_code(guarded(f, p, EXJ_DOC_MATRIX, 0, &got), EXJ_OK);
    expect_int(got, 1);
    expect_int(count(f, p, EXJ_RUNNING), 3);
}
