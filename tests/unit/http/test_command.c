/* Idempotency keys at the router: who works on one, what is kept, what is released. */
#include "fixture.h"

#include "core/base/sha256.h"
#include "tests/support/fault.h"

TestSuite(command, .init = fixture_open, .fini = fixture_close);

static json_t *keyed(const char *method, const char *path, const char *body, const char *key,
                     unsigned *ret_status, bool *ret_replayed)
{
    exj_request q = { .method = method, .path = exj_slice_of(path), .body = exj_slice_of(body),
                      .trusted = true, .idempotency_key = exj_slice_of(key) };
    exj_response r;
    json_t *v;

    exj_api_call(&f.api, &q, &r);
    *ret_status = r.status;
    *ret_replayed = r.replayed;
    v = json_loadb(r.body.p ? r.body.p : "", r.body.n, JSON_DECODE_ANY, NULL);
    exj_response_release(&r);
    return v;
}

/* Somebody else works on this request. */
static exj_op somebody_takes(const char *method, const char *path, const char *body,
                             const char *key)
{
    exj_op op = { .kind = EXJ_OP_COMMAND_TAKE };
    const char *parts[] = { method, path, "", body };
    exj_err err = { 0 };
    exj_sha256 s;

    exj_sha256_init(&s);
    for (size_t i = 0; i < 4; i++)
        exj_sha256_update(&s, parts[i], strlen(parts[i]) + 1);
    exj_sha256_final(&s, op.u.command.fingerprint);
    op.u.command.key = exj_slice_of(key);
    op.u.command.owner = 4711;
    op.u.command.keep_ms = 3600000;
    cr_assert_eq(exj_store_do(f.store, &op, &err), EXJ_OK, "%s", err.text);
    return op;
}

Test(command, one_that_is_still_running_answers_in_progress)
{
    static const char *const target = "/v1/configs/graphs/g1";
    exj_op theirs = somebody_takes("PUT", target, GRAPH_G1, "k");
    exj_err err = { 0 };
    unsigned status;
    bool replayed;
    json_t *o = keyed("PUT", target, GRAPH_G1, "k", &status, &replayed);

    cr_expect_eq(status, 409, "%u", status);
    cr_expect_str_eq(text_of(o, "code"), "in_progress");
    json_decref(o);
    o = call("GET", target, NULL, &status);
    cr_expect_eq(status, 404, "nothing was done");
    json_decref(o);
    /* a request that is wrong in itself is still not the one that came first */
    json_decref(keyed("PUT", target, "{", "k", &status, &replayed));
    cr_expect_eq(status, 422, "%u", status);

    theirs.kind = EXJ_OP_COMMAND_DROP; /* theirs failed */
    cr_assert_eq(exj_store_do(f.store, &theirs, &err), EXJ_OK, "%s", err.text);
    json_decref(keyed("PUT", target, GRAPH_G1, "k", &status, &replayed));
    cr_expect_eq(status, 201, "%u", status);
    cr_expect_not(replayed);
}

Test(command, a_stored_answer_is_given_in_place_of_an_error)
{
    unsigned status;
    bool replayed;
    json_t *first, *again;

    put("/v1/configs/graphs/g1", GRAPH_G1);
    first = keyed("DELETE", "/v1/configs/graphs/g1", NULL, "k", &status, &replayed);
    cr_expect_eq(status, 200);
    again = keyed("DELETE", "/v1/configs/graphs/g1", NULL, "k", &status, &replayed);
    cr_expect(status == 200 && replayed && json_equal(first, again), "%u", status);
    json_decref(first);
    json_decref(again);
}

Test(command, keys_of_the_wrong_form_are_refused_before_anything_happens)
{
    char key[257];
    unsigned status;
    bool replayed;

    memset(key, 'a', sizeof key);
    key[256] = '\0';
    json_decref(keyed("PUT", "/v1/configs/graphs/g1", GRAPH_G1, key, &status, &replayed));
    cr_expect_eq(status, 400);
    json_decref(keyed("PUT", "/v1/configs/graphs/g1", GRAPH_G1, "", &status, &replayed));
    cr_expect_eq(status, 400);
    json_decref(keyed("PUT", "/v1/configs/graphs/g1", GRAPH_G1, "a\tb", &status, &replayed));
    cr_expect_eq(status, 400);
    json_decref(call("GET", "/v1/configs/graphs/g1", NULL, &status));
    cr_expect_eq(status, 404);
    json_decref(keyed("PUT", "/v1/configs/graphs/g1", GRAPH_G1, key + 1, &status, &replayed));
    cr_expect_eq(status, 201);
}

Test(command, reads_take_no_notice_of_a_key)
{
    unsigned status;
    bool replayed;

    for (int i = 0; i < 2; i++) {
        json_decref(keyed("GET", "/v1/graphs", NULL, "k", &status, &replayed));
        cr_expect(status == 200 && !replayed);
    }
    json_decref(keyed("PUT", "/v1/configs/graphs/g1", GRAPH_G1, "k", &status, &replayed));
    cr_expect_eq(status, 201);
}

/* A store that cannot write says so, and nothing is half done. */
Test(command, a_store_for_reading_refuses)
{
    exj_sqlite_options o = { .dir = f.dir, .read_only = true };
    exj_store *writable = f.store;
    exj_err err = { 0 };
    unsigned status;
    bool replayed;

    cr_assert_eq(exj_sqlite_open(&o, &f.api.store, &err), EXJ_OK, "%s", err.text);
    json_decref(keyed("PUT", "/v1/configs/graphs/g1", GRAPH_G1, "k", &status, &replayed));
    cr_expect_eq(status, 403, "%u", status);
    f.api.store->v->close(f.api.store);
    f.api.store = NULL;
    json_decref(keyed("POST", "/v1/workers/pause", NULL, "k", &status, &replayed));
    cr_expect_eq(status, 503, "no store: %u", status);
    f.api.store = writable;
}

/* Whichever allocation fails: the change is there with its answer, or neither is. */
Test(command, without_memory_a_change_and_its_answer_are_there_or_neither)
{
    long n = 0, seen;

    do {
        char key[32], target[64], body[160];
        unsigned status, again;
        bool replayed;
        json_t *o;

        n++;
        snprintf(key, sizeof key, "k%ld", n);
        snprintf(target, sizeof target, "/v1/configs/graphs/g%ld", n);
        snprintf(body, sizeof body, "{\"graphId\":\"g%ld\",\"payload\":{\"graphId\":\"g%ld\"}}", n,
                 n);
        exj_fault_arm(n);
        o = keyed("PUT", target, body, key, &status, &replayed);
        seen = exj_fault_disarm();
        json_decref(o);
        cr_expect(status == 201 || status >= 500, "allocation %ld: %u", n, status);
        o = keyed("PUT", target, body, key, &again, &replayed);
        cr_expect_eq(again, 201, "allocation %ld: %u %s", n, again, text_of(o, "message"));
        cr_expect_eq(number_of(o, "version"), 1, "allocation %ld", n);
        cr_expect_eq(replayed, status == 201, "allocation %ld: %u", n, status);
        json_decref(o);
    } while (seen >= n && n < 1000);
    cr_expect_gt(n, 5, "%ld", n);
}
