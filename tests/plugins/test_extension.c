/* What a plugin meets when it uses exellix.kv/1 and exellix.metrics/1. */
#include "guests.h"

#include "exellix/ext/kv.h"
#include "exellix/ext/metrics.h"

/* A graph with one key, and the last number. */
struct desk {
    char key[300], value[128];
    bool has;
    int64_t number;
    exj_code answer; /* not EXJ_OK: what every port says */
    unsigned asked;
    char plugin[64], series[128];
    exj_sample_kind kind;
    double sample;
};

static exj_code refuse(struct desk *d, exj_err *err)
{
    d->asked++;
    return d->answer ? exj_err_set(err, d->answer, "the port says so") : EXJ_OK;
}

static exj_code get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    struct desk *d = user;
    exj_code rc = refuse(d, err);

    if (!rc && (!d->has || !exj_slice_is(key, d->key)))
        rc = exj_err_set(err, EXJ_NOT_FOUND, "no such key");
    if (!rc)
        exj_buf_add_text(ret, d->value);
    return rc;
}

static exj_code put(void *user, exj_slice key, exj_slice json, exj_err *err)
{
    struct desk *d = user;
    exj_code rc = refuse(d, err);

    if (rc)
        return rc;
    d->has = true;
    snprintf(d->key, sizeof d->key, "%.*s", (int)key.n, key.p);
    snprintf(d->value, sizeof d->value, "%.*s", (int)json.n, json.p);
    return EXJ_OK;
}

static exj_code take_away(void *user, exj_slice key, exj_err *err)
{
    struct desk *d = user;
    exj_code rc = refuse(d, err);

    if (rc)
        return rc;
    if (!d->has || !exj_slice_is(key, d->key))
        return exj_err_set(err, EXJ_NOT_FOUND, "no such key");
    d->has = false;
    return EXJ_OK;
}

static exj_code add(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err)
{
    struct desk *d = user;
    exj_code rc = refuse(d, err);

    (void)key;
    if (!rc)
        *ret = d->number += delta;
    return rc;
}

static exj_code metric(void *user, const exj_plugin_sample *m, exj_err *err)
{
    struct desk *d = user;
    exj_code rc = refuse(d, err);

    if (rc)
        return rc;
    snprintf(d->plugin, sizeof d->plugin, "%.*s", (int)m->plugin.n, m->plugin.p);
    snprintf(d->series, sizeof d->series, "%.*s", (int)m->series.n, m->series.p);
    d->kind = m->kind;
    d->sample = m->value;
    return EXJ_OK;
}

static exj_call_ports ports_of(struct desk *d)
{
    return (exj_call_ports){ .user = d, .kv_get = get, .kv_put = put, .kv_remove = take_away,
                             .kv_add = add, .metric = metric };
}

#define WITH                                                                                \
    "#include \"exellix/ext/kv.h\"\n#include \"exellix/ext/metrics.h\"\n"                   \
    "#define IS(x, r) do { exj_result got_ = (x); if (got_ != (r)) {"                       \
    " h->error(h->ctx, c, EXJ_R_FAILED, exj_text(\"Wrong\"), exj_text(#x \" is not \" #r));" \
    " return EXJ_R_FAILED; } } while (0)\n"                                                 \
    "#define KV const exj_ext_kv *kv = h->extension(h->ctx, EXJ_EXT_KV); exj_str got;"      \
    " int64_t sum = 0; (void)got; (void)sum; if (!kv) return EXJ_R_FAILED;\n"               \
    "#define METRICS const exj_ext_metrics *m = h->extension(h->ctx, EXJ_EXT_METRICS);"     \
    " if (!m) return EXJ_R_FAILED;\n"                                                       \
    "#define T(s) exj_text(s)\n"

/* Build an engine with this body and run it once on the desk. */
static void runs(const char *body_of_engine, const exj_call_ports *ports)
{
    struct room r = room_open();
    exj_call_slot *s = slot_of(1024);
    exj_call_end end;
    char text[200];

    build(&r, "ext", "", body_of_engine);
    end = run_once(instance_of(&r, "ext", EXJ_KIND_GRAPH_ENGINE), s, ports);
    snprintf(text, sizeof text, "%.*s", (int)end.error_text.n, end.error_text.p);
    cr_assert_eq(end.result, EXJ_R_OK, "result %d: %s", (int)end.result, text);
    exj_call_slot_free(s);
    room_close(&r);
}

Test(extension, kv_puts_gets_adds_and_removes)
{
    struct desk d = { .number = 40 };
    exj_call_ports ports = ports_of(&d);

    runs(ENGINE("0", WITH, "KV "
         "IS(kv->get(h->ctx, c, T(\"cursor\"), &got), EXJ_R_MISS);"
         "IS(kv->put(h->ctx, c, T(\"cursor\"), T(\"{\\\"at\\\":7}\")), EXJ_R_OK);"
         "IS(kv->get(h->ctx, c, T(\"cursor\"), &got), EXJ_R_OK);"
         "IS(got.n == 8 && !memcmp(got.p, \"{\\\"at\\\":7}\", 8), 1);"
         "IS(kv->get(h->ctx, c, T(\"cursor\"), NULL), EXJ_R_OK);"
         "IS(kv->add(h->ctx, c, T(\"n\"), 2, &sum), EXJ_R_OK); IS(sum == 42, 1);"
         "IS(kv->add(h->ctx, c, T(\"n\"), -2, NULL), EXJ_R_OK);"
         "IS(kv->remove(h->ctx, c, T(\"cursor\")), EXJ_R_OK);"
         "IS(kv->remove(h->ctx, c, T(\"cursor\")), EXJ_R_MISS);"
         "return " EMIT_OK ";"), &ports);
    cr_assert_eq(d.number, 40);
    cr_assert_str_eq(d.key, "cursor");
}

Test(extension, keys_and_values_that_break_a_rule_reach_no_port)
{
    struct desk d = { .has = false };
    exj_call_ports ports = ports_of(&d);
    uint64_t before = exj_plugin_misdeeds();

    runs(ENGINE("0", WITH, "KV static char big[70000]; exj_str none = { NULL, 3 };"
         "memset(big, '1', sizeof big);"
         "IS(kv->put(h->ctx, c, T(\"\"), T(\"1\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, none, T(\"1\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, T(\"a\\n\"), T(\"1\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, T(\"\\xff\"), T(\"1\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, ((exj_str){ \"a\\0b\", 3 }), T(\"1\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, ((exj_str){ big, 257 }), T(\"1\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, T(\"a\"), T(\"{oops\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, T(\"a\"), T(\"\")), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, T(\"a\"), none), EXJ_R_INPUT);"
         "IS(kv->put(h->ctx, c, T(\"a\"), ((exj_str){ big, 65537 })), EXJ_R_INPUT);"
         "IS(kv->get(h->ctx, c, none, &got), EXJ_R_INPUT);"
         "IS(kv->remove(h->ctx, c, T(\"\")), EXJ_R_INPUT);"
         "IS(kv->add(h->ctx, c, T(\"\\t\"), 1, &sum), EXJ_R_INPUT);"
         "return " EMIT_OK ";"), &ports);
    cr_assert_eq(d.asked, 0);
    cr_assert_eq(exj_plugin_misdeeds() - before, 13);
}

Test(extension, what_a_port_says_is_what_a_plugin_gets)
{
    static const struct {
        exj_code code;
        const char *result;
    } all[] = {
        { EXJ_FENCED, "EXJ_R_CANCELLED" }, { EXJ_REFUSED, "EXJ_R_FAILED" },
        { EXJ_INVALID, "EXJ_R_INPUT" },    { EXJ_FULL, "EXJ_R_RETRY" },
        { EXJ_NOMEM, "EXJ_R_RETRY" },      { EXJ_IO, "EXJ_R_INTERNAL" },
    };

    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        struct desk d = { .answer = all[k].code };
        exj_call_ports ports = ports_of(&d);
        char body[4096];

        snprintf(body, sizeof body, ENGINE("0", WITH, "KV METRICS "
                 "IS(kv->put(h->ctx, c, T(\"a\"), T(\"1\")), %s);"
                 "IS(kv->add(h->ctx, c, T(\"a\"), 1, &sum), %s);"
                 "IS(m->counter_add(h->ctx, c, T(\"a\"), 1), %s);"
                 "return " EMIT_OK ";"), all[k].result, all[k].result, all[k].result);
        runs(body, &ports);
        cr_assert_eq(d.asked, 3);
    }
}

Test(extension, a_call_without_ports_says_unsupported)
{
    runs(ENGINE("0", WITH, "KV METRICS "
         "IS(kv->get(h->ctx, c, T(\"a\"), &got), EXJ_R_UNSUPPORTED);"
         "IS(kv->put(h->ctx, c, T(\"a\"), T(\"1\")), EXJ_R_UNSUPPORTED);"
         "IS(kv->remove(h->ctx, c, T(\"a\")), EXJ_R_UNSUPPORTED);"
         "IS(kv->add(h->ctx, c, T(\"a\"), 1, &sum), EXJ_R_UNSUPPORTED);"
         "IS(m->gauge_set(h->ctx, c, T(\"a\"), 1), EXJ_R_UNSUPPORTED);"
         "return " EMIT_OK ";"), NULL);
}

Test(extension, outside_a_call_nothing_is_reached)
{
    struct desk d = { .has = false };
    exj_call_ports ports = ports_of(&d);
    uint64_t before = exj_plugin_misdeeds();

    runs(ENGINE("0", WITH, "KV METRICS static exj_call old;"
         "IS(kv->put(h->ctx, 0, T(\"a\"), T(\"1\")), EXJ_R_INTERNAL);"
         "IS(kv->get(h->ctx, c + 4096, T(\"a\"), &got), EXJ_R_INTERNAL);"
         "IS(m->counter_add(h->ctx, 0, T(\"a\"), 1), EXJ_R_INTERNAL);"
         "(void)old; return " EMIT_OK ";"), &ports);
    cr_assert_eq(d.asked, 0);
    cr_assert_eq(exj_plugin_misdeeds() - before, 3);
}

Test(extension, metrics_carry_the_plugins_id)
{
    struct desk d = { .has = false };
    exj_call_ports ports = ports_of(&d);

    runs(ENGINE("0", WITH, "METRICS "
         "IS(m->counter_add(h->ctx, c, T(\"pages_total{code=\\\"200\\\"}\"), 2), EXJ_R_OK);"
         "return " EMIT_OK ";"), &ports);
    cr_assert_str_eq(d.plugin, "test.guest");
    cr_assert_str_eq(d.series, "pages_total{code=\"200\"}");
    cr_assert_eq(d.kind, EXJ_SAMPLE_COUNTER);
    cr_assert_eq(d.sample, 2.0);
    runs(ENGINE("0", WITH, "METRICS "
         "IS(m->gauge_set(h->ctx, c, T(\"depth\"), -1.5), EXJ_R_OK);"
         "return " EMIT_OK ";"), &ports);
    cr_assert_eq(d.kind, EXJ_SAMPLE_GAUGE);
    cr_assert_eq(d.sample, -1.5);
    runs(ENGINE("0", WITH, "METRICS "
         "IS(m->observe_seconds(h->ctx, c, T(\"t_seconds\"), 0.25), EXJ_R_OK);"
         "return " EMIT_OK ";"), &ports);
    cr_assert_eq(d.kind, EXJ_SAMPLE_SECONDS);
}

Test(extension, numbers_and_names_that_break_a_rule_reach_no_port)
{
    struct desk d = { .has = false };
    exj_call_ports ports = ports_of(&d);
    uint64_t before = exj_plugin_misdeeds();

    runs(ENGINE("0", WITH "#include <math.h>\n", "METRICS exj_str none = { NULL, 3 };"
         "IS(m->counter_add(h->ctx, c, T(\"a\"), -1), EXJ_R_INPUT);"
         "IS(m->counter_add(h->ctx, c, T(\"a\"), NAN), EXJ_R_INPUT);"
         "IS(m->counter_add(h->ctx, c, T(\"a\"), 1e16), EXJ_R_INPUT);"
         "IS(m->gauge_set(h->ctx, c, T(\"a\"), INFINITY), EXJ_R_INPUT);"
         "IS(m->observe_seconds(h->ctx, c, T(\"a\"), -0.1), EXJ_R_INPUT);"
         "IS(m->counter_add(h->ctx, c, T(\"Bad Name\"), 1), EXJ_R_INPUT);"
         "IS(m->counter_add(h->ctx, c, none, 1), EXJ_R_INPUT);"
         "return " EMIT_OK ";"), &ports);
    cr_assert_eq(d.asked, 0);
    cr_assert_eq(exj_plugin_misdeeds() - before, 7);
}
