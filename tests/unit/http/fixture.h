/* What the tests of core/http share: a real store in a temporary folder, and calls. */
#ifndef EXJ_TESTS_UNIT_HTTP_FIXTURE_H
#define EXJ_TESTS_UNIT_HTTP_FIXTURE_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/http/api.h"
#include "core/job/config.h"
#include "core/job/record.h"

#define KEY "correct horse battery staple"

struct fixture {
    char dir[64];
    exj_store *store;
    exj_metrics *metrics;
    exj_api api;
};

static struct fixture f;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void fixture_open(void)
{
    exj_sqlite_options o = { 0 };
    exj_err err = { 0 };

    snprintf(f.dir, sizeof f.dir, "/tmp/exj-http-XXXXXX");
    cr_assert(mkdtemp(f.dir));
    o.dir = f.dir;
    o.lock_note = "test";
    o.fast = true;
    cr_assert_eq(exj_sqlite_open(&o, &f.store, &err), EXJ_OK, "%s", err.text);
    f.metrics = exj_metrics_new();
    f.api = (exj_api){ .store = f.store,
                       .metrics = f.metrics,
                       .prefix = "/v1",
                       .api_key = KEY,
                       .worker_id = "w-1",
                       .build_id = "b-1",
                       .started = exj_clock_mono_ns() };
}

static void fixture_close(void)
{
    f.store->v->close(f.store);
    exj_metrics_free(f.metrics);
    nftw(f.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* One call as an operator at the Unix socket; status into *ret_status. New reference. */
static inline json_t *call_as(const char *method, const char *target, const char *body,
                              bool trusted, const char *key, unsigned *ret_status,
                              const char **ret_allow)
{
    const char *mark = strchr(target, '?');
    exj_request q = { .method = method,
                      .path = { target, mark ? (size_t)(mark - target) : strlen(target) },
                      .query = exj_slice_of(mark ? mark + 1 : NULL),
                      .body = exj_slice_of(body),
                      .trusted = trusted,
                      .api_key = exj_slice_of(key) };
    exj_response r;
    json_t *v;

    exj_api_call(&f.api, &q, &r);
    *ret_status = r.status;
    if (ret_allow)
        *ret_allow = r.allow;
    v = json_loadb(r.body.p ? r.body.p : "", r.body.n, JSON_DECODE_ANY, NULL);
    exj_response_release(&r);
    return v;
}

static inline json_t *call(const char *method, const char *target, const char *body,
                           unsigned *ret_status)
{
    return call_as(method, target, body, true, NULL, ret_status, NULL);
}

static inline const char *text_of(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "(none)";
}

static inline json_int_t number_of(json_t *o, const char *key)
{
    json_t *n = json_object_get(o, key);

    return json_is_integer(n) ? json_integer_value(n) : -999;
}

/* The whole error body, to the letter. */
#define assert_error(method, target, body, want_status, want_error, want_code, want_message) \
    do {                                                                                    \
        unsigned status_;                                                                   \
        json_t *o_ = call(method, target, body, &status_);                                  \
        cr_expect_eq(status_, want_status, "%s %s: %u", method, target, status_);           \
        cr_expect_eq(number_of(o_, "statusCode"), want_status);                             \
        cr_expect_str_eq(text_of(o_, "error"), want_error);                                 \
        cr_expect_str_eq(text_of(o_, "code"), want_code);                                   \
        cr_expect(strstr(text_of(o_, "message"), want_message), "%s %s said: %s", method,   \
                  target, text_of(o_, "message"));                                          \
        json_decref(o_);                                                                    \
    } while (0)

static inline void put(const char *target, const char *body)
{
    unsigned status;
    json_t *o = call("PUT", target, body, &status);

    cr_assert(status == 200 || status == 201, "%s: %u %s", target, status,
              text_of(o, "message"));
    json_decref(o);
}

#define GRAPH_G1                                                                            \
    "{\"graphId\":\"g1\",\"payload\":{\"graphId\":\"g1\",\"execution\":{\"priority\":20}}," \
    "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}"
#define MATRIX_M1                                                                           \
    "{\"matrixCatalogId\":\"m1\",\"payload\":{\"graphs\":[\"g1\"],\"dataSource\":"           \
    "{\"kind\":\"event\"}}}"

/* `n` rows r0, r1, … of m1|run|g1; the store's ids of the first goes to the caller. */
static inline int64_t insert_rows(const char *run, unsigned n)
{
    exj_op pool = { .kind = EXJ_OP_POOL };
    exj_op insert = { .kind = EXJ_OP_INSERT };
    exj_insert_item *items = calloc(n, sizeof *items);
    char(*ids)[32] = calloc(n, sizeof *ids);
    exj_err err = { 0 };

    pool.u.pool.matrix = EXJ_SLICE_LITERAL("m1");
    pool.u.pool.run = exj_slice_of(run);
    pool.u.pool.graph = EXJ_SLICE_LITERAL("g1");
    cr_assert_eq(exj_store_do(f.store, &pool, &err), EXJ_OK, "%s", err.text);
    for (unsigned i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "r/%u", i);
        items[i].record_id = exj_slice_of(ids[i]);
        items[i].input = EXJ_SLICE_LITERAL("{\"question\":\"why?\"}");
    }
    insert.u.insert.pool = pool.u.pool.ret_pool;
    insert.u.insert.max_attempts = 3;
    insert.u.insert.items = items;
    insert.u.insert.len = n;
    cr_assert_eq(exj_store_do(f.store, &insert, &err), EXJ_OK, "%s", err.text);
    free(items);
    free(ids);
    return pool.u.pool.ret_pool;
}

static inline exj_claim claim_one(int64_t pool)
{
    exj_want want = { .pool = pool, .want = 1 };
    exj_claim c = { 0 };
    exj_op op = { .kind = EXJ_OP_CLAIM };
    exj_err err = { 0 };

    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w-1";
    op.u.claim.nonce = 77;
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = &c;
    cr_assert_eq(exj_store_do(f.store, &op, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(op.u.claim.ret_len, 1);
    return c;
}

static inline void finish(const exj_claim *c, exj_event event, const char *result,
                          const char *code, const char *text)
{
    exj_outcome o = { .seq = c->seq, .nonce = c->nonce, .token = c->token, .event = event,
                      .result = exj_slice_of(result), .error_code = exj_slice_of(code),
                      .error_text = exj_slice_of(text) };
    exj_op op = { .kind = EXJ_OP_FINISH };
    exj_err err = { 0 };

    op.u.finish.items = &o;
    op.u.finish.len = 1;
    cr_assert_eq(exj_store_do(f.store, &op, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(o.verdict, EXJ_OK);
}

#endif /* EXJ_TESTS_UNIT_HTTP_FIXTURE_H */
