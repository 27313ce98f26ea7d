/* The event sinks that are shipped: what they accept, what they refuse, what they do when the
 * other side or the disk does not do its part. */
#include "tests/plugins/sinks.h"

#include "core/plugin/check.h"

/* This very program is the child of `plugin check` when its first word says so. */
__attribute__((constructor)) static void be_the_child(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "check-child") == 0)
        _exit(exj_plugin_check_child(argv[2], atoi(argv[3]), argv[4]));
}

static json_t *check(const char *file, const char *config)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    json_t *report = NULL;
    exj_err err = { 0 };

    cr_assert_gt(n, 0);
    self[n] = 0;
    cr_assert_eq(exj_plugin_check(self, "check-child", file, EXJ_CHECK_LEVELS, config, 60000,
                                  &report, &err), EXJ_OK, "%s", err.text);
    return report;
}

static bool finds(const json_t *report, const char *level, const char *code)
{
    json_t *f;
    size_t k;

    json_array_foreach(json_object_get(report, "findings"), k, f)
        if (strcmp(json_string_value(json_object_get(f, "level")), level) == 0 &&
            strcmp(json_string_value(json_object_get(f, "code")), code) == 0)
            return true;
    return false;
}

static void passes(const char *file, const char *config)
{
    json_t *report = check(file, config);

    if (!json_is_true(json_object_get(report, "ok")))
        json_dumpf(report, stderr, JSON_INDENT(1));
    cr_assert(json_is_true(json_object_get(report, "ok")), "%s does not pass", file);
    cr_assert(finds(report, "ok", "SampleCall"), "%s was not called", file);
    json_decref(report);
}

TestSuite(sinks, .init = sinks_init, .fini = sinks_fini);

/* ---- plugin check ------------------------------------------------------------------------------- */

Test(sinks, plugin_check_judges_both_of_them)
{
    struct server s;
    char config[300];

    server_open(&s, ANSWER_OK);
    snprintf(config, sizeof config, "{\"url\":\"http://127.0.0.1:%u/\",\"timeoutSeconds\":1}",
             s.port);
    passes(WEBHOOK_SO, config);
    server_close(&s);
    snprintf(config, sizeof config, "{\"path\":\"%s/check.jsonl\"}", folder);
    passes(FILE_SO, config);
}

Test(sinks, plugin_check_finds_a_sink_that_answers_nonsense)
{
    static const char *const bodies[] = {
        "return h->emit(h->ctx, c, exj_text(\"{\\\"failed\\\":7}\"));",
        "return h->emit(h->ctx, c, exj_text(\"{\\\"failed\\\":[{\\\"number\\\":1}]}\"));",
        "return h->emit(h->ctx, c, exj_text(\"[]\"));",
    };
    struct room r = room_open();

    for (size_t k = 0; k < sizeof bodies / sizeof *bodies; k++) {
        char name[16], path[128], source[6000];
        json_t *report;

        snprintf(name, sizeof name, "bad%zu", k);
        snprintf(source, sizeof source,
                 PLUGIN_AROUND("EXJ_KIND_EVENT_SINK", "0", "", "/* */%s", ""), bodies[k]);
        build(&r, name, "", source);
        snprintf(path, sizeof path, "%s/%s.so", r.dir, name);
        report = check(path, "{}");
        cr_expect(finds(report, "fail", "AnswerFailed"), "%s", bodies[k]);
        json_decref(report);
    }
    room_close(&r);
}

/* ---- webhook: what is sent ----------------------------------------------------------------------- */

/* spec 2.7: Shipped sinks: webhook (HMAC-signed), JSONL file. */
Test(sinks, a_webhook_posts_a_batch_that_its_receiver_can_verify)
{
    struct server s;
    struct sink k;
    struct request *r;

    server_open(&s, ANSWER_OK);
    k = webhook(&s, "\"secret\":\"0123456789abcdef\",\"headers\":{\"X-Team\":\"blue\"}");
    accepts(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "a", "completed")));
    sink_close(&k);
    cr_assert_eq(s.n, 1u);
    r = &s.requests[0];
    cr_assert_eq(strncmp(r->head, "POST /hook HTTP/1.1\r\n", 21), 0, "%s", r->head);
    cr_assert_not_null(strstr(r->head, "Content-Type: application/json\r\n"));
    cr_assert_not_null(strstr(r->head, "X-Team: blue\r\n"));
    cr_assert_not_null(strstr(r->head, "X-Exellix-Events: 1-2\r\n"));
    cr_assert_null(strstr(r->head, "Expect"));
    cr_assert_str_eq(r->body, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "a", "completed")));
    signature_is(r, "0123456789abcdef");
    server_close(&s);
}

Test(sinks, a_webhook_reads_its_secret_from_a_file)
{
    struct server s;
    struct sink k;
    char more[300];

    server_open(&s, ANSWER_OK);
    spit("secret", "fedcba9876543210\n");
    snprintf(more, sizeof more, "\"secretFile\":\"%s/secret\"", folder);
    k = webhook(&s, more);
    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    signature_is(&s.requests[0], "fedcba9876543210");
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_without_a_secret_does_not_sign)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_OK);
    k = webhook(&s, "");
    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    cr_assert_null(strstr(s.requests[0].head, "X-Exellix-Signature"));
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_sends_only_the_chosen_events)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_OK);
    k = webhook(&s, "\"events\":[\"completed\",\"failed\"],\"graphs\":[\"g1\"]");
    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    cr_assert_eq(s.n, 0u, "nothing is chosen: nobody is asked");
    accepts(&k, BATCH(EVENT(2, "a", "queued") "," EVENT(3, "a", "completed") ","
                      "{\"number\":4,\"kind\":\"failed\",\"graphId\":\"g2\"}"));
    cr_assert_eq(s.n, 1u);
    cr_assert_str_eq(s.requests[0].body, BATCH(EVENT(3, "a", "completed")));
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_asks_no_proxy_and_follows_no_redirect)
{
    struct server s;
    struct sink k;

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    server_open(&s, ANSWER_REDIRECT);
    k = webhook(&s, "");
    fails(&k, BATCH(EVENT(1, "a", "queued")), "answered 302: redirects are not followed", 0, 1);
    cr_assert_eq(s.n, 1u, "the other address was asked");
    sink_close(&k);
    server_close(&s);
}

/* ---- webhook: what comes back --------------------------------------------------------------------- */

Test(sinks, a_webhook_that_answers_500_has_accepted_nothing)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_500);
    k = webhook(&s, "");
    fails(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "b", "queued")), "answered 500", 0, 2);
    s.answer = ANSWER_OK;
    accepts(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "b", "queued")));
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_that_answers_429_says_when_to_come_again)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_429);
    k = webhook(&s, "\"eventsPerRequest\":1");
    fails(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "b", "queued")), "answered 429", 7, 2);
    cr_assert_eq(s.n, 1u, "who is too busy is left in peace");
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_that_never_answers_costs_its_time_limit)
{
    struct server s;
    struct sink k;
    int64_t began;

    server_open(&s, ANSWER_NEVER);
    k = webhook(&s, "\"timeoutSeconds\":1");
    began = now_ms();
    fails(&k, BATCH(EVENT(1, "a", "queued")), "timed out", 0, 1);
    cr_assert_geq(now_ms() - began, 900);
    cr_assert_lt(now_ms() - began, 10000);
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_that_answers_10_gb_is_not_listened_to)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_10_GB);
    k = webhook(&s, "");
    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    sink_close(&k);
    server_close(&s);
    cr_assert_lt(s.sent, (int64_t)32 << 20, "%lld bytes were taken", (long long)s.sent);
}

Test(sinks, a_webhook_whose_head_never_ends_is_not_listened_to)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_ENDLESS_HEAD);
    k = webhook(&s, "");
    fails(&k, BATCH(EVENT(1, "a", "queued")), "64 KiB", 0, 1);
    sink_close(&k);
    server_close(&s);
    cr_assert_lt(s.sent, (int64_t)32 << 20, "%lld bytes were taken", (long long)s.sent);
}

Test(sinks, a_webhook_that_hangs_up_half_way_has_accepted_nothing)
{
    static const enum answer cases[] = { ANSWER_HALF_A_HEAD, ANSWER_HALF_A_BODY, ANSWER_NOTHING,
                                         ANSWER_NONSENSE };

    for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
        struct server s;
        struct sink k;

        server_open(&s, cases[at]);
        k = webhook(&s, "");
        fails(&k, BATCH(EVENT(1, "a", "queued")), "", 0, 1);
        sink_close(&k);
        server_close(&s);
    }
}

Test(sinks, a_webhook_that_is_not_there_is_said_to_be_so)
{
    struct server s;
    struct sink k;

    server_open(&s, ANSWER_OK);
    k = webhook(&s, "");
    server_close(&s);
    fails(&k, BATCH(EVENT(1, "a", "queued")), "connect", 0, 1);
    sink_close(&k);
}

Test(sinks, an_event_that_is_refused_holds_back_its_own_row_and_no_other)
{
    struct server s;
    struct sink k;
    exj_call_end end;
    json_t *o;

    server_open(&s, ANSWER_400_TO_A);
    k = webhook(&s, "\"eventsPerRequest\":1");
    end = sink_call(&k, BATCH(EVENT(1, "a", "queued") "," EVENT(2, "b", "queued") ","
                              EVENT(3, "a", "completed") "," EVENT(4, "b", "completed")));
    cr_assert_eq(end.result, EXJ_R_OK);
    o = json_loadb(end.answer.p, end.answer.n, 0, NULL);
    cr_assert_eq(json_array_size(json_object_get(o, "failed")), 1u, "%.*s", (int)end.answer.n,
                 end.answer.p);
    json_decref(o);
    cr_assert_eq(s.n, 3u, "the second event of the refused row was sent");
    cr_assert_not_null(strstr(s.requests[1].body, "\"number\":2"));
    cr_assert_not_null(strstr(s.requests[2].body, "\"number\":4"));
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_ends_soon_when_the_call_is_cancelled)
{
    struct server s;
    struct sink k;
    exj_call_end end;
    int64_t began = now_ms();

    server_open(&s, ANSWER_NEVER);
    k = webhook(&s, "\"timeoutSeconds\":60");
    k.ports.cancelled = cancelled_after_a_while;
    k.ports.user = &began;
    end = sink_call(&k, BATCH(EVENT(1, "a", "queued")));
    cr_assert_eq(end.result, EXJ_R_CANCELLED, "%d", (int)end.result);
    cr_assert_lt(now_ms() - began, 5000);
    sink_close(&k);
    server_close(&s);
}

Test(sinks, a_webhook_in_a_plugin_host_does_the_same)
{
    struct server s;
    struct house *h = house_new(EXJ_LANE_HOST);
    struct sink k;
    char config[200];

    server_open(&s, ANSWER_OK);
    snprintf(config, sizeof config,
             "{\"url\":\"http://127.0.0.1:%u/hook\",\"secret\":\"0123456789abcdef\"}", s.port);
    k = sink_open(h->r.registry, WEBHOOK_SO, config);
    accepts(&k, BATCH(EVENT(1, "a", "queued")));
    signature_is(&s.requests[0], "0123456789abcdef");
    s.answer = ANSWER_429;
    fails(&k, BATCH(EVENT(2, "a", "completed")), "answered 429", 7, 1);
    sink_drop(&k);
    house_close(h);
    server_close(&s);
}

Test(sinks, a_webhook_says_what_is_wrong_in_its_config)
{
    static const char *const cases[][2] = {
        { "{}", "config.url: is missing" },
        { "{\"url\":7}", "config.url: wanted a text" },
        { "{\"url\":\"ftp://x/\"}", "config.url: wanted https, or http" },
        { "{\"url\":\"not an address\"}", "config.url: wanted https://HOST" },
        { "{\"url\":\"http://example.org/\"}", "use https, or set allowInsecure" },
        { "{\"url\":\"http://127.0.0.1.example.org/\"}", "use https, or set allowInsecure" },
        { "{\"url\":\"https://u:p@example.org/\"}", "use headers.Authorization" },
        { "{\"url\":\"https://example.org/#x\"}", "fragment" },
        { "{\"url\":\"https://x/\",\"secret\":\"short\"}", "config.secret: wanted 16 to 4096" },
        { "{\"url\":\"https://x/\",\"secretFile\":\"/nowhere/at/all\"}", "/nowhere/at/all: No such" },
        { "{\"url\":\"https://x/\",\"secretFile\":\"/dev/zero\"}", "wanted a file" },
        { "{\"url\":\"https://x/\",\"secret\":\"0123456789abcdef\",\"secretFile\":\"/x\"}", "not both" },
        { "{\"url\":\"https://x/\",\"timeoutSeconds\":0}", "config.timeoutSeconds: wanted an integer" },
        { "{\"url\":\"https://x/\",\"timeoutSeconds\":301}", "1 to 300" },
        { "{\"url\":\"https://x/\",\"eventsPerRequest\":101}", "1 to 100" },
        { "{\"url\":\"https://x/\",\"headers\":{\"Host\":\"y\"}}", "config.headers: wanted" },
        { "{\"url\":\"https://x/\",\"headers\":{\"A\":\"b\\r\\nC: d\"}}", "config.headers: wanted" },
        { "{\"url\":\"https://x/\",\"headers\":{\"X-Exellix-Signature\":\"b\"}}", "config.headers" },
        { "{\"url\":\"https://x/\",\"events\":\"all\"}", "config.events: wanted a list" },
        { "{\"url\":\"https://x/\",\"graphs\":[1]}", "config.graphs: wanted a list" },
        { "{\"url\":\"https://x/\",\"uri\":\"y\"}", "config: unknown member; wanted url" },
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        is_refused(WEBHOOK_SO, cases[k][0], cases[k][1]);
    is_created(WEBHOOK_SO, "{\"url\":\"http://[::1]:8080/x\"}");
    is_created(WEBHOOK_SO, "{\"url\":\"http://LOCALHOST/x\",\"headers\":{\"X-A\":\"\"}}");
    is_created(WEBHOOK_SO, "{\"url\":\"http://10.0.0.1/x\",\"allowInsecure\":true}");
}

Test(sinks, both_refuse_a_batch_that_is_none)
{
    static const char *const bad[] = { "{}", "{\"events\":7}", BATCH("1"), BATCH("{\"kind\":\"x\"}"),
                                       BATCH("{\"number\":\"1\"}") };
    struct server s;
    struct sink both[2];

    server_open(&s, ANSWER_OK);
    both[0] = webhook(&s, "");
    both[1] = file_sink("");
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        for (int w = 0; w < 2; w++)
            cr_expect_eq(sink_call(&both[w], bad[k]).result, EXJ_R_INPUT, "%d %s", w, bad[k]);
    sink_close(&both[0]);
    sink_close(&both[1]);
    server_close(&s);
}
