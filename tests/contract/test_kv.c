/* Keys and values of a graph: durable, bounded, fenced by the claim that writes. */
#include "durable.h"

#include <stdlib.h>

#include "core/base/clock.h"

static exj_code kv(struct fixture *f, exj_op_kind kind, const exj_claim *c, const char *graph,
                   const char *key, const char *value, int64_t delta, int64_t *ret, exj_err *err)
{
    exj_op op = { .kind = kind };
    exj_code rc;

    op.u.kv.graph = exj_slice_of(graph);
    op.u.kv.key = exj_slice_of(key);
    if (c) {
        op.u.kv.seq = c->seq;
        op.u.kv.nonce = c->nonce;
        op.u.kv.token = c->token;
    }
    op.u.kv.value = exj_slice_of(value);
    op.u.kv.delta = delta;
    rc = exj_store_do(f->s, &op, err);
    if (ret)
        *ret = op.u.kv.ret_sum;
    return rc;
}

static exj_code kv_put(struct fixture *f, const exj_claim *c, const char *graph,
                       const char *key, const char *value)
{
    return kv(f, EXJ_OP_KV_PUT, c, graph, key, value, 0, NULL, NULL);
}

static exj_code kv_remove(struct fixture *f, const exj_claim *c, const char *graph,
                          const char *key)
{
    return kv(f, EXJ_OP_KV_REMOVE, c, graph, key, NULL, 0, NULL, NULL);
}

static exj_code kv_add(struct fixture *f, const char *key, int64_t delta, int64_t *ret)
{
    return kv(f, EXJ_OP_KV_ADD, NULL, "g", key, NULL, delta, ret, NULL);
}

static void expect_value(struct fixture *f, const char *graph, const char *key,
                         const char *wanted)
{
    exj_buf got = EXJ_BUF_INIT;
    exj_code rc = f->s->v->kv_get(f->s, exj_slice_of(graph), exj_slice_of(key), &got, NULL);

    if (!wanted) {
        expect_code(rc, EXJ_NOT_FOUND);
        expect_int(got.n, 0);
    } else {
        expect_code(rc, EXJ_OK);
        cr_assert(exj_slice_is(exj_buf_slice(&got), wanted), "%s is %s", key, got.p);
    }
    exj_buf_release(&got);
}

CONTRACT(kv, a_value_is_kept_per_graph_and_over_a_restart)
{
    exj_err err = { 0 };
    exj_buf got = EXJ_BUF_INIT;

    expect_value(f, "g", "a", NULL);
    expect_code(kv_put(f, NULL, "g", "a", "{\"x\":1}"), EXJ_OK);
    expect_code(kv_put(f, NULL, "h", "a", "\"other\""), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "b", "2"), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "b", "22"), EXJ_OK);
    fixture_reopen(f);
    expect_value(f, "g", "a", "{\"x\":1}");
    expect_value(f, "h", "a", "\"other\"");
    expect_value(f, "g", "b", "22");
    expect_value(f, "h", "b", NULL);
    expect_code(f->s->v->kv_get(f->s, exj_slice_of("h"), exj_slice_of("b"), &got, &err),
                EXJ_NOT_FOUND);
    cr_assert(strstr(err.text, "\"h\"") && strstr(err.text, "\"b\""), "%s", err.text);
    exj_buf_release(&got);
}

CONTRACT(kv, remove_takes_a_key_once)
{
    expect_code(kv_remove(f, NULL, "g", "a"), EXJ_NOT_FOUND);
    expect_code(kv_put(f, NULL, "g", "a", "1"), EXJ_OK);
    expect_code(kv_remove(f, NULL, "h", "a"), EXJ_NOT_FOUND);
    expect_code(kv_remove(f, NULL, "g", "a"), EXJ_OK);
    expect_value(f, "g", "a", NULL);
    expect_code(kv_remove(f, NULL, "g", "a"), EXJ_NOT_FOUND);
}

CONTRACT(kv, add_counts_from_nothing_and_never_wraps)
{
    int64_t sum = 0;
    exj_err err = { 0 };

    expect_code(kv_add(f, "n", 5, &sum), EXJ_OK);
    expect_int(sum, 5);
    expect_code(kv_add(f, "n", -12, &sum), EXJ_OK);
    expect_int(sum, -7);
    expect_value(f, "g", "n", "-7");
    expect_code(kv_put(f, NULL, "g", "n", " 9223372036854775800\n"), EXJ_OK);
    expect_code(kv_add(f, "n", 7, &sum), EXJ_OK);
    expect_int(sum, INT64_MAX);
    expect_code(kv(f, EXJ_OP_KV_ADD, NULL, "g", "n", NULL, 1, NULL, &err), EXJ_INVALID);
    cr_assert(strstr(err.text, "9223372036854775807"), "%s", err.text);
    expect_value(f, "g", "n", "9223372036854775807");
    expect_code(kv_put(f, NULL, "g", "n", "-9223372036854775808"), EXJ_OK);
    expect_code(kv_add(f, "n", -1, NULL), EXJ_INVALID);
    expect_code(kv_add(f, "n", 1, &sum), EXJ_OK);
    expect_int(sum, -INT64_MAX);
}

CONTRACT(kv, add_to_what_is_no_integer_is_refused_and_changes_nothing)
{
    static const char *const values[] = { "\"7\"", "1.5", "1e3", "null", "[1]", "{}" };

    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        expect_code(kv_put(f, NULL, "g", "v", values[i]), EXJ_OK);
        expect_code(kv_add(f, "v", 1, NULL), EXJ_INVALID);
        expect_value(f, "g", "v", values[i]);
    }
}

CONTRACT(kv, writes_of_a_claim_that_is_over_are_fenced)
{
    int64_t p = pool(f, "m", "", "g");
    exj_claim a, b, wrong;
    exj_err err = { 0 };

    insert(f, p, "r");
    a = claim_one(f, p, "A", 11);
    expect_code(kv_put(f, &a, "g", "k", "1"), EXJ_OK);
    wrong = a;
    wrong.token++;
    expect_code(kv_put(f, &wrong, "g", "k", "2"), EXJ_FENCED);
    wrong = a;
    wrong.nonce++;
    expect_code(kv_put(f, &wrong, "g", "k", "2"), EXJ_FENCED);
    expect_code(release(f, &a), EXJ_OK);
    b = claim_one(f, p, "B", 12);
    expect_code(kv_put(f, &a, "g", "k", "3"), EXJ_FENCED);
    expect_code(kv_remove(f, &a, "g", "k"), EXJ_FENCED);
    expect_code(kv(f, EXJ_OP_KV_ADD, &a, "g", "k", NULL, 1, NULL, &err), EXJ_FENCED);
    cr_assert(err.text[0]);
    expect_value(f, "g", "k", "1");
    expect_code(kv(f, EXJ_OP_KV_ADD, &b, "g", "k", NULL, 1, NULL, NULL), EXJ_OK);
    expect_code(finish(f, &b, EXJ_EV_SUCCEED, 0, "1"), EXJ_OK);
    expect_code(kv_put(f, &b, "g", "k", "4"), EXJ_FENCED);
    expect_value(f, "g", "k", "2");
}

CONTRACT(kv, keys_and_values_that_are_too_long_are_refused)
{
    static char long_value[EXJ_STORE_KV_VALUE_MAX + 2];
    char long_key[EXJ_STORE_KV_KEY_MAX + 2];
    exj_err err = { 0 };

    memset(long_key, 'k', sizeof(long_key));
    long_key[EXJ_STORE_KV_KEY_MAX + 1] = '\0';
    memset(long_value, '1', sizeof(long_value));
    long_value[EXJ_STORE_KV_VALUE_MAX + 1] = '\0';
    expect_code(kv(f, EXJ_OP_KV_PUT, NULL, "g", long_key, "1", 0, NULL, &err), EXJ_INVALID);
    cr_assert(strstr(err.text, "257"), "%s", err.text);
    expect_code(kv_put(f, NULL, "g", "", "1"), EXJ_INVALID);
    expect_code(kv_put(f, NULL, "g", "k", long_value), EXJ_INVALID);
    expect_code(kv_put(f, NULL, "g", "k", ""), EXJ_INVALID);
    long_key[EXJ_STORE_KV_KEY_MAX] = long_value[EXJ_STORE_KV_VALUE_MAX] = '\0';
    expect_code(kv_put(f, NULL, "g", long_key, long_value), EXJ_OK);
    expect_value(f, "g", long_key, long_value);
}

/* Keys "k<from>" … of graph "g", in one submission. */
static void fill_up(struct fixture *f, unsigned from, unsigned n, exj_slice value)
{
    exj_op *ops = calloc(n, sizeof(*ops));
    char (*keys)[16] = calloc(n, sizeof(*keys));

    cr_assert(ops && keys);
    for (unsigned i = 0; i < n; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%05u", from + i);
        ops[i].kind = EXJ_OP_KV_PUT;
        ops[i].u.kv.graph = exj_slice_of("g");
        ops[i].u.kv.key = exj_slice_of(keys[i]);
        ops[i].u.kv.value = value;
    }
    do_all(f, ops, n);
    for (unsigned i = 0; i < n; i++)
        cr_assert(ops[i].rc == EXJ_OK, "%s: %s", keys[i], ops[i].err.text);
    free(ops);
    free(keys);
}

CONTRACT(kv, a_graph_has_so_many_keys_and_no_more)
{
    exj_err err = { 0 };
    char most[24];

    snprintf(most, sizeof(most), "%" PRId64, f->maker->kv_keys);
    fill_up(f, 0, (unsigned)f->maker->kv_keys, EXJ_SLICE_LITERAL("1"));
    expect_code(kv(f, EXJ_OP_KV_PUT, NULL, "g", "more", "1", 0, NULL, &err), EXJ_REFUSED);
    cr_assert(strstr(err.text, most) && strstr(err.text, "\"g\""), "%s", err.text);
    expect_code(kv_add(f, "more", 1, NULL), EXJ_REFUSED);
    expect_code(kv_put(f, NULL, "g", "k00001", "2"), EXJ_OK); /* no new key */
    expect_code(kv_add(f, "k00001", 1, NULL), EXJ_OK);
    expect_code(kv_put(f, NULL, "h", "more", "1"), EXJ_OK);   /* another graph */
    fixture_reopen(f);
    expect_code(kv_put(f, NULL, "g", "more", "1"), EXJ_REFUSED);
    expect_code(kv_remove(f, NULL, "g", "k00000"), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "more", "1"), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "evenmore", "1"), EXJ_REFUSED);
}

CONTRACT(kv, a_graph_has_so_many_bytes_and_no_more)
{
    static char big[EXJ_STORE_KV_VALUE_MAX + 1];
    unsigned n = (unsigned)(f->maker->kv_bytes / (EXJ_STORE_KV_VALUE_MAX + 6));
    exj_err err = { 0 };
    char most[24];

    memset(big, '1', EXJ_STORE_KV_VALUE_MAX);
    for (unsigned i = 0; i < n; i += 64)
        fill_up(f, i, n - i < 64 ? n - i : 64, exj_slice_of(big));
    expect_code(kv(f, EXJ_OP_KV_PUT, NULL, "g", "k99999", big, 0, NULL, &err), EXJ_REFUSED);
    snprintf(most, sizeof(most), "%" PRId64, f->maker->kv_bytes);
    cr_assert(strstr(err.text, most), "%s", err.text);
    expect_code(kv_put(f, NULL, "g", "k00000", "1"), EXJ_OK); /* smaller: always */
    expect_code(kv_put(f, NULL, "g", "k99999", big), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "k00000", big), EXJ_REFUSED);
    expect_value(f, "g", "k00000", "1");
}

struct listing {
    char text[512];
    size_t stop_after, n;
    exj_msec at;
    int64_t seq;
    char by[64];
};

static bool list_one(void *user, const exj_kv_view *v)
{
    struct listing *l = user;
    size_t at = strlen(l->text);

    snprintf(l->text + at, sizeof(l->text) - at, "%.*s=%.*s;", (int)v->key.n, v->key.p,
             (int)v->value.n, v->value.p);
    l->at = v->updated_at;
    l->seq = v->seq;
    snprintf(l->by, sizeof(l->by), "%.*s|%.*s|%.*s|%.*s", (int)v->matrix.n, v->matrix.p,
             (int)v->run.n, v->run.p, (int)v->graph.n, v->graph.p, (int)v->record_id.n,
             v->record_id.p);
    return ++l->n != l->stop_after;
}

CONTRACT(kv, pages_go_by_key_and_say_who_wrote)
{
    int64_t p = pool(f, "m", "", "g");
    struct listing l = { .n = 0 };
    exj_claim c;

    insert(f, p, "r");
    c = claim_one(f, p, "A", 7);
    expect_code(kv_put(f, NULL, "g", "b", "2"), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "\xc3\xa4", "4"), EXJ_OK);
    expect_code(kv_put(f, NULL, "g", "a", "1"), EXJ_OK);
    expect_code(kv_put(f, NULL, "h", "x", "9"), EXJ_OK);
    advance(f, 1000);
    expect_code(kv_put(f, &c, "g", "c", "3"), EXJ_OK);

    expect_code(f->s->v->kv_page(f->s, exj_slice_of("g"), (exj_slice){ 0 }, 10, list_one, &l,
                                 NULL), EXJ_OK);
    cr_assert_str_eq(l.text, "a=1;b=2;c=3;\xc3\xa4=4;");
    l = (struct listing){ .n = 0 };
    expect_code(f->s->v->kv_page(f->s, exj_slice_of("g"), exj_slice_of("b"), 1, list_one, &l,
                                 NULL), EXJ_OK);
    cr_assert_str_eq(l.text, "c=3;");
    expect_int(l.seq, c.seq);
    expect_int(l.at, START + 1000);
    cr_assert_str_eq(l.by, "m||g|r");
    l = (struct listing){ .stop_after = 1 };
    expect_code(f->s->v->kv_page(f->s, exj_slice_of("g"), (exj_slice){ 0 }, 10, list_one, &l,
                                 NULL), EXJ_OK);
    cr_assert_str_eq(l.text, "a=1;");
    expect_int(l.seq, 0);
    cr_assert_str_eq(l.by, "|||");
    l = (struct listing){ .n = 0 };
    expect_code(f->s->v->kv_page(f->s, exj_slice_of("none"), (exj_slice){ 0 }, 10, list_one, &l,
                                 NULL), EXJ_OK);
    expect_int(l.n, 0);
    expect_code(f->s->v->kv_page(f->s, exj_slice_of("g"), (exj_slice){ 0 }, 0, list_one, &l,
                                 NULL), EXJ_INVALID);
    expect_code(f->s->v->kv_page(f->s, exj_slice_of("g"), (exj_slice){ 0 }, 1001, list_one, &l,
                                 NULL), EXJ_INVALID);
}

/* Random writes against a plain table; EXJ_SEED repeats a run. */
CONTRACT(kv, random_writes_agree_with_a_plain_table)
{
    enum { KEYS = 12 };
    int steps = (int)scaled(f, 1500);
    const char *given = getenv("EXJ_SEED");
    uint64_t x = given ? strtoull(given, NULL, 10) : exj_random_u64();
    struct {
        bool is_there;
        int64_t number;
    } table[KEYS] = { 0 };

    x = x ? x : 1;
    fprintf(stderr, "kv: EXJ_SEED=%" PRIu64 "\n", x);
    for (int step = 0; step < steps; step++) {
        char key[8], text[24];
        unsigned k, what;
        int64_t v, sum;

        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        k = (unsigned)(x % KEYS);
        what = (unsigned)(x >> 8) % 4;
        v = (int64_t)(x >> 20) % 1000000 - 500000;
        snprintf(key, sizeof(key), "k%u", k);
        if (what == 0) {
            snprintf(text, sizeof(text), "%" PRId64, v);
            expect_code(kv_put(f, NULL, "g", key, text), EXJ_OK);
            table[k].is_there = true;
            table[k].number = v;
        } else if (what == 1) {
            expect_code(kv_remove(f, NULL, "g", key), table[k].is_there ? EXJ_OK : EXJ_NOT_FOUND);
            table[k].is_there = false;
            table[k].number = 0;
        } else {
            expect_code(kv_add(f, key, v, &sum), EXJ_OK);
            table[k].is_there = true;
            table[k].number += v;
            expect_int(sum, table[k].number);
        }
        if (step == steps / 2)
            fixture_reopen(f);
    }
    for (unsigned k = 0; k < KEYS; k++) {
        char key[8], text[24];

        snprintf(key, sizeof(key), "k%u", k);
        snprintf(text, sizeof(text), "%" PRId64, table[k].number);
        expect_value(f, "g", key, table[k].is_there ? text : NULL);
    }
}
