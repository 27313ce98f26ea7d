/* The keys of a graph over HTTP: pages, one, and the operator's delete. */
#include "fixture.h"

TestSuite(kv, .init = fixture_open, .fini = fixture_close);

static void keep(const char *graph, const char *key, const char *value, const exj_claim *c)
{
    exj_op op = { .kind = EXJ_OP_KV_PUT };
    exj_err err = { 0 };

    op.u.kv.graph = exj_slice_of(graph);
    op.u.kv.key = exj_slice_of(key);
    op.u.kv.value = exj_slice_of(value);
    if (c) {
        op.u.kv.seq = c->seq;
        op.u.kv.nonce = c->nonce;
        op.u.kv.token = c->token;
    }
    cr_assert_eq(exj_store_do(f.store, &op, &err), EXJ_OK, "%s", err.text);
}

static json_t *ask(const char *method, const char *target, unsigned wanted)
{
    unsigned status;
    json_t *v = call_as(method, target, NULL, true, NULL, &status, NULL);

    cr_assert_eq(status, wanted, "%s %s: %u", method, target, status);
    return v;
}

static const char *text_at(const json_t *page, size_t i, const char *name)
{
    return json_string_value(
        json_object_get(json_array_get(json_object_get(page, "keys"), i), name));
}

static exj_claim row_running(void)
{
    exj_insert_item it = { .record_id = EXJ_SLICE_LITERAL("r 1"),
                           .input = EXJ_SLICE_LITERAL("{}") };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_claim c = { 0 };
    exj_want w = { .want = 1 };

    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    exj_store_do(f.store, &op, NULL);
    w.pool = op.u.pool.ret_pool;
    op = (exj_op){ .kind = EXJ_OP_INSERT };
    op.u.insert.pool = w.pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = &it;
    op.u.insert.len = 1;
    exj_store_do(f.store, &op, NULL);
    op = (exj_op){ .kind = EXJ_OP_CLAIM };
    op.u.claim.wants = &w;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "w";
    op.u.claim.nonce = 5;
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = &c;
    exj_store_do(f.store, &op, NULL);
    cr_assert_eq(op.u.claim.ret_len, 1);
    return c;
}

Test(kv, pages_go_on_and_name_who_wrote)
{
    exj_claim c = row_running();
    json_t *v;

    keep("g", "cursor/a b", "{\"at\":[1,2]}", &c);
    keep("g", "total", "12", NULL);
    keep("g", "z", "\"text\"", NULL);
    keep("h", "other", "1", NULL);
    v = ask("GET", "/v1/graphs/g/kv?limit=2", 200);
    cr_assert_eq(json_array_size(json_object_get(v, "keys")), 2);
    cr_assert_str_eq(text_at(v, 0, "key"), "cursor/a b");
    cr_assert_str_eq(text_at(v, 0, "writtenBy"), "m||g|r 1");
    cr_assert_not_null(text_at(v, 0, "updatedAt"));
    cr_assert(json_is_array(json_object_get(
        json_object_get(json_array_get(json_object_get(v, "keys"), 0), "value"), "at")));
    cr_assert_null(text_at(v, 1, "writtenBy"));
    cr_assert_str_eq(json_string_value(json_object_get(v, "next")), "total");
    json_decref(v);
    v = ask("GET", "/v1/graphs/g/kv?after=total&limit=1", 200);
    cr_assert_str_eq(text_at(v, 0, "key"), "z");
    cr_assert(json_is_null(json_object_get(v, "next")));
    json_decref(v);
    v = ask("GET", "/v1/graphs/none/kv", 200);
    cr_assert_eq(json_array_size(json_object_get(v, "keys")), 0);
    json_decref(v);
}

Test(kv, one_key_is_read_and_removed)
{
    json_t *v;

    keep("g", "cursor/a b", "{\"at\":7}", NULL);
    v = ask("GET", "/v1/graphs/g/kv?key=cursor%2Fa+b", 200);
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(v, "value"), "at")), 7);
    json_decref(v);
    v = ask("DELETE", "/v1/graphs/g/kv?key=cursor%2Fa+b", 200);
    cr_assert_str_eq(json_string_value(json_object_get(v, "action")), "deleted");
    json_decref(v);
    v = ask("GET", "/v1/graphs/g/kv?key=cursor%2Fa+b", 404);
    cr_assert_str_eq(json_string_value(json_object_get(v, "code")), "KeyNotFound");
    json_decref(v);
    v = ask("DELETE", "/v1/graphs/g/kv?key=cursor%2Fa+b", 404);
    cr_assert(strstr(json_string_value(json_object_get(v, "message")), "cursor/a b"));
    json_decref(v);
}

Test(kv, what_was_asked_wrongly_is_refused)
{
    static const struct {
        const char *method, *target;
        unsigned status;
    } all[] = {
        { "DELETE", "/v1/graphs/g/kv", 400 },
        { "DELETE", "/v1/graphs/g/kv?key=", 400 },
        { "DELETE", "/v1/graphs/g/kv?key=a&limit=1", 400 },
        { "GET", "/v1/graphs/g/kv?key=", 400 },
        { "GET", "/v1/graphs/g/kv?key=a&after=b", 400 },
        { "GET", "/v1/graphs/g/kv?after=", 400 },
        { "GET", "/v1/graphs/g/kv?limit=0", 400 },
        { "GET", "/v1/graphs/g/kv?limit=1001", 400 },
        { "GET", "/v1/graphs/g/kv?prefix=a", 400 },
        { "GET", "/v1/graphs/%00/kv", 400 },
        { "POST", "/v1/graphs/g/kv?key=a", 405 },
    };
    char target[600];

    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        json_decref(ask(all[k].method, all[k].target, all[k].status));
    snprintf(target, sizeof target, "/v1/graphs/g/kv?key=%0256d", 0);
    json_decref(ask("GET", target, 404));
    snprintf(target, sizeof target, "/v1/graphs/g/kv?key=%0257d", 0);
    json_decref(ask("GET", target, 400));
}

Test(kv, a_delete_over_tcp_needs_the_key)
{
    unsigned status;

    keep("g", "a", "1", NULL);
    json_decref(call_as("DELETE", "/v1/graphs/g/kv?key=a", NULL, false, NULL, &status, NULL));
    cr_assert_eq(status, 401);
    json_decref(call_as("GET", "/v1/graphs/g/kv?key=a", NULL, false, NULL, &status, NULL));
    cr_assert_eq(status, 200);
    json_decref(call_as("DELETE", "/v1/graphs/g/kv?key=a", NULL, false, KEY, &status, NULL));
    cr_assert_eq(status, 200);
}
