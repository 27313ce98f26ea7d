/* What is remembered of plugins, over HTTP, where no worker runs: pins, history, kept copies and
 * the quarantine. */
#include "core/base/sha256.h"
#include "fixture.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "aaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SHA_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static exj_shelf *shelf;
static char one[65], two[65]; /* kept contents of acme.score */

static void remember(const char *id, const char *version, const char *sha256,
                     exj_plugin_event event, exj_msec at)
{
    exj_err err = { 0 };

    cr_assert_eq(exj_shelf_history_add(shelf,
                                       &(exj_shelf_event){ .at = at, .id = id,
                                                           .version = version, .sha256 = sha256,
                                                           .generation = 3, .event = event,
                                                           .why = "because" },
                                       &err),
                 EXJ_OK, "%s", err.text);
}

static void keep(const char *text, const char *family, exj_msec at, char ret[65])
{
    char path[100];
    exj_err err = { 0 };
    FILE *file;

    snprintf(path, sizeof path, "%s/some.so", f.dir);
    file = fopen(path, "w");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
    exj_sha256_hex(text, strlen(text), ret);
    cr_assert_eq(exj_shelf_keep(shelf, path, ret, family, at, &err), EXJ_OK, "%s", err.text);
}

static void setup(void)
{
    char folder[100];
    exj_err err = { 0 };

    fixture_open();
    snprintf(folder, sizeof folder, "%s/plugins", f.dir);
    cr_assert_eq(exj_shelf_new(folder, NULL, &shelf, &err), EXJ_OK, "%s", err.text);
    f.api.shelf = shelf;
    keep("one", "acme.score", 1000, one);
    keep("two", "acme.score", 2000, two);
    remember("acme.score", "1.0.0", one, EXJ_PE_LOADED, 1000);
    remember("acme.score", "2.0.0", two, EXJ_PE_CURRENT, 2000);
}

static void teardown(void)
{
    exj_shelf_free(shelf);
    fixture_close();
}

TestSuite(plugin_past, .init = setup, .fini = teardown);

static json_t *ask(const char *method, const char *target, const char *body)
{
    unsigned status;
    json_t *o = call(method, target, body, &status);

    cr_assert_eq(status, 200, "%s %s: %u %s", method, target, status, text_of(o, "message"));
    return o;
}

static void expect_pinned(const char *sha256)
{
    char now[65];

    cr_assert_eq(exj_shelf_pinned(shelf, "acme.score", now, NULL), EXJ_OK);
    cr_expect_str_eq(now, sha256);
}

/* ---- orders ------------------------------------------------------------------------------------- */

Test(plugin_past, orders_need_a_worker)
{
    static const char *const targets[] = { "/v1/plugins/a/reload", "/v1/plugins/a/rollback",
                                           "/v1/plugins/a/trial" };

    for (int i = 0; i < 3; i++)
        assert_error("POST", targets[i], NULL, 503, "Service Unavailable", "WorkerNotRunning",
                     "exellix-jobs serve");
}

Test(plugin_past, bodies_are_closed)
{
    assert_error("POST", "/v1/plugins/a/trial", "{\"file\":\"/x\"}", 400, "Bad Request",
                 "ValidationError", "no member \"file\"");
    assert_error("POST", "/v1/plugins/a/trial", "{\"path\":\"x.so\"}", 400, "Bad Request",
                 "ValidationError", "absolute");
    assert_error("POST", "/v1/plugins/a/trial", "{\"path\":7}", 400, "Bad Request",
                 "ValidationError", "path must be a text");
    assert_error("POST", "/v1/plugins/a/pin", "{\"sha256\":\"\"}", 400, "Bad Request",
                 "ValidationError", "not empty");
    assert_error("POST", "/v1/plugins/a/pin", "[]", 400, "Bad Request", "ValidationError",
                 "object");
    assert_error("POST", "/v1/plugins/a/pin?force=1", NULL, 400, "Bad Request",
                 "ValidationError", "force");
}

Test(plugin_past, a_change_over_tcp_needs_the_key)
{
    static const char *const targets[] = {
        "/v1/plugins/acme.score/reload", "/v1/plugins/acme.score/rollback",
        "/v1/plugins/acme.score/trial",  "/v1/plugins/acme.score/pin",
        "/v1/plugins/acme.score/unpin",  "/v1/quarantine/plugins/acme.score/release"
    };

    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        unsigned status;
        json_t *o = call_as("POST", targets[i], NULL, false, "wrong", &status, NULL);

        cr_expect_eq(status, 401, "%s: %u", targets[i], status);
        json_decref(o);
    }
    expect_pinned("");
}

/* ---- pins ----------------------------------------------------------------------------------------- */

Test(plugin_past, what_ran_last_is_pinned_and_unpinned)
{
    json_t *o = ask("POST", "/v1/plugins/acme.score/pin", NULL);

    cr_expect_str_eq(text_of(o, "sha256"), two);
    cr_expect(json_is_false(json_object_get(o, "switched")));
    json_decref(o);
    expect_pinned(two);
    o = ask("POST", "/v1/plugins/acme.score/unpin", NULL);
    cr_expect_str_eq(text_of(o, "sha256"), two);
    json_decref(o);
    expect_pinned("");
    assert_error("POST", "/v1/plugins/acme.score/unpin", NULL, 404, "Not Found", "NotPinned",
                 "acme.score");
    o = ask("GET", "/v1/plugins/acme.score/history?limit=2", NULL);
    cr_expect_str_eq(text_of(json_array_get(json_object_get(o, "events"), 0), "event"),
                     "unpinned");
    cr_expect_str_eq(text_of(json_array_get(json_object_get(o, "events"), 1), "event"), "pinned");
    json_decref(o);
}

Test(plugin_past, a_kept_copy_is_named_by_its_first_digits)
{
    char body[100];
    json_t *o;

    for (unsigned n = 0; n <= 65; n++) {
        unsigned status;

        snprintf(body, sizeof body, "{\"sha256\":\"%.*s%s\"}", n > 64 ? 64 : (int)n, one,
                 n > 64 ? "0" : "");
        o = call("POST", "/v1/plugins/acme.score/pin", body, &status);
        cr_expect_eq(status, n >= 8 && n <= 64 ? 200 : 400, "%s: %u", body, status);
        json_decref(o);
    }
    expect_pinned(one);
    for (char *c = one; *c; c++)
        *c = (char)(*c >= 'a' ? *c - 32 : *c);
    snprintf(body, sizeof body, "{\"sha256\":\"%s\"}", one);
    json_decref(ask("POST", "/v1/plugins/acme.score/pin", body));
    assert_error("POST", "/v1/plugins/acme.score/pin", "{\"sha256\":\"01234567\"}", 404,
                 "Not Found", "VersionNotFound", "plugin versions acme.score");
    assert_error("POST", "/v1/plugins/acme.score/pin", "{\"sha256\":\"0123456g\"}", 400,
                 "Bad Request", "ValidationError", "hexadecimal");
    /* A copy of another plugin is none of this one. */
    snprintf(body, sizeof body, "{\"sha256\":\"%s\"}", two);
    assert_error("POST", "/v1/plugins/acme.other/pin", body, 404, "Not Found",
                 "VersionNotFound", "acme.other");
    assert_error("POST", "/v1/plugins/acme.other/pin", NULL, 404, "Not Found", "PluginNotFound",
                 "never ran");
}

Test(plugin_past, an_id_too_long_is_refused)
{
    char target[200] = "/v1/plugins/";

    memset(target + strlen(target), 'x', 81);
    strcat(target, "/history");
    assert_error("GET", target, NULL, 400, "Bad Request", "ValidationError", "80 bytes, not 81");
}

/* ---- looking ---------------------------------------------------------------------------------------- */

Test(plugin_past, the_history_is_newest_first_and_bounded)
{
    json_t *o = ask("GET", "/v1/plugins/acme.score/history", NULL), *events, *first;

    events = json_object_get(o, "events");
    cr_assert_eq(json_array_size(events), 2);
    first = json_array_get(events, 0);
    cr_expect_str_eq(text_of(first, "event"), "current");
    cr_expect_str_eq(text_of(first, "version"), "2.0.0");
    cr_expect_str_eq(text_of(first, "at"), "1970-01-01T00:00:02.000Z");
    cr_expect_str_eq(text_of(first, "why"), "because");
    json_decref(o);
    o = ask("GET", "/v1/plugins/acme.score/history?limit=1", NULL);
    cr_expect_eq(json_array_size(json_object_get(o, "events")), 1);
    json_decref(o);
    assert_error("GET", "/v1/plugins/acme.score/history?limit=0", NULL, 400, "Bad Request",
                 "ValidationError", "1 to 1000");
    assert_error("GET", "/v1/plugins/acme.none/history", NULL, 404, "Not Found",
                 "PluginNotFound", "acme.none");
}

Test(plugin_past, versions_are_the_kept_copies_with_their_pin)
{
    json_t *o, *list, *last;

    cr_assert_eq(exj_shelf_pin(shelf, "acme.score", one, 5, NULL), EXJ_OK);
    o = ask("GET", "/v1/plugins/acme.score/versions", NULL);
    list = json_object_get(o, "versions");
    cr_assert_eq(json_array_size(list), 2);
    cr_expect_str_eq(text_of(json_array_get(list, 0), "sha256"), two);
    cr_expect(json_is_false(json_object_get(json_array_get(list, 0), "pinned")));
    last = json_array_get(list, 1);
    cr_expect_str_eq(text_of(last, "sha256"), one);
    cr_expect_str_eq(text_of(last, "version"), "1.0.0");
    cr_expect_str_eq(text_of(last, "at"), "1970-01-01T00:00:01.000Z");
    cr_expect(json_is_true(json_object_get(last, "pinned")));
    cr_expect_eq(number_of(last, "bytes"), 3);
    json_decref(o);
    assert_error("GET", "/v1/plugins/acme.none/versions", NULL, 404, "Not Found",
                 "PluginNotFound", "acme.none");
}

/* ---- quarantine --------------------------------------------------------------------------------------- */

static void set_aside(const char *sha256, const char *id)
{
    cr_assert_eq(exj_shelf_quarantine(shelf, sha256, id, "1.0.0", "it crashed", 1000, NULL),
                 EXJ_OK);
}

static size_t still_in(void)
{
    json_t *o = ask("GET", "/v1/quarantine", NULL);
    size_t n = json_array_size(json_object_get(o, "plugins"));

    json_decref(o);
    return n;
}

Test(plugin_past, the_quarantine_shows_contents_with_their_crashes_and_rows)
{
    exj_shelf_crash crash = { SHA_A, "acme.bad", "1.0.0", "SIGSEGV", "#0 main", 1000 };
    json_t *o, *plugin;
    exj_claim c;
    int64_t pool;

    for (int i = 0; i < 5; i++)
        cr_assert_eq(exj_shelf_crash_add(shelf, &crash, NULL, NULL), EXJ_OK);
    pool = insert_rows("", 3);
    for (int i = 0; i < 3; i++) {
        c = claim_one(pool);
        finish(&c, EXJ_EV_BLOCK, "", i < 2 ? "Quarantined" : "Other", "SIGSEGV");
    }
    o = ask("GET", "/v1/quarantine?limit=1", NULL);
    plugin = json_array_get(json_object_get(o, "plugins"), 0);
    cr_expect_str_eq(text_of(plugin, "id"), "acme.bad");
    cr_expect_str_eq(text_of(plugin, "at"), "1970-01-01T00:00:01.000Z");
    plugin = json_array_get(json_object_get(plugin, "crashes"), 0);
    cr_expect_str_eq(text_of(plugin, "signal"), "SIGSEGV");
    cr_expect_str_eq(text_of(plugin, "backtrace"), "#0 main");
    cr_expect_str_eq(text_of(plugin, "at"), "1970-01-01T00:00:01.000Z");
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 1);
    cr_expect_gt(number_of(o, "next"), 0);
    json_decref(o);
    o = ask("GET", "/v1/quarantine", NULL);
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 2);
    cr_expect(json_is_null(json_object_get(o, "next")));
    json_decref(o);
    assert_error("GET", "/v1/quarantine?limit=0", NULL, 400, "Bad Request", "ValidationError",
                 "1 to 1000");
}

Test(plugin_past, a_content_is_released_by_its_first_digits_or_its_plugin)
{
    json_t *o;

    set_aside(SHA_A, "acme.one");
    set_aside(SHA_B, "acme.one");
    set_aside(SHA_C, "acme.two");
    assert_error("POST", "/v1/quarantine/plugins/aaaaaaaa/release", NULL, 400, "Bad Request",
                 "ValidationError", "more digits");
    assert_error("POST", "/v1/quarantine/plugins/aaaaaaa/release", NULL, 404, "Not Found",
                 "NotQuarantined", "quarantine list");
    assert_error("POST", "/v1/quarantine/plugins/dddddddd/release", NULL, 404, "Not Found",
                 "NotQuarantined", "dddddddd");
    cr_assert_eq(still_in(), 3);
    o = ask("POST", "/v1/quarantine/plugins/CCCCCCCC/release", NULL);
    cr_expect_str_eq(text_of(json_array_get(json_object_get(o, "released"), 0), "sha256"), SHA_C);
    json_decref(o);
    cr_assert_eq(still_in(), 2);
    o = ask("POST", "/v1/quarantine/plugins/acme.one/release", NULL);
    cr_expect_eq(json_array_size(json_object_get(o, "released")), 2);
    json_decref(o);
    cr_assert_eq(still_in(), 0);
    o = ask("GET", "/v1/plugins/acme.two/history", NULL);
    cr_expect_str_eq(text_of(json_array_get(json_object_get(o, "events"), 0), "event"),
                     "released");
    json_decref(o);
}

Test(plugin_past, health_names_what_is_in_quarantine)
{
    unsigned status;
    json_t *o;
    const char *detail;

    set_aside(SHA_C, "acme.two");
    f.api.plugins = NULL;
    cr_assert_eq(exj_registry_new((const char *const[]){ f.dir, NULL }, NULL, &f.api.plugins,
                                  NULL),
                 EXJ_OK);
    o = call("GET", "/v1/health?probe=dependencies", NULL, &status);
    detail = text_of(json_object_get(json_object_get(o, "checks"), "plugins"), "detail");
    cr_expect(strstr(detail, "in quarantine: acme.two 1.0.0 (cccccccccccc): it crashed"), "%s",
              detail);
    cr_expect(json_is_true(json_object_get(json_object_get(json_object_get(o, "checks"),
                                                           "plugins"), "ok")));
    json_decref(o);
    exj_registry_free(f.api.plugins);
}

/* ---- failing ------------------------------------------------------------------------------------------- */

Test(plugin_past, without_a_shelf_it_is_said)
{
    json_t *o;

    f.api.shelf = NULL;
    assert_error("POST", "/v1/plugins/a/pin", NULL, 503, "Service Unavailable", "Unavailable",
                 "no data folder");
    assert_error("POST", "/v1/plugins/a/unpin", NULL, 503, "Service Unavailable", "Unavailable",
                 "no data folder");
    assert_error("GET", "/v1/plugins/a/history", NULL, 503, "Service Unavailable",
                 "Unavailable", "no data folder");
    assert_error("GET", "/v1/plugins/a/versions", NULL, 503, "Service Unavailable",
                 "Unavailable", "no data folder");
    assert_error("POST", "/v1/quarantine/plugins/a/release", NULL, 503, "Service Unavailable",
                 "Unavailable", "no data folder");
    o = ask("GET", "/v1/quarantine", NULL); /* rows are there all the same */
    cr_expect_eq(json_array_size(json_object_get(o, "plugins")), 0);
    json_decref(o);
}

Test(plugin_past, a_damaged_file_is_named_and_nothing_is_released)
{
    char path[100];
    FILE *file;

    set_aside(SHA_C, "acme.two");
    snprintf(path, sizeof path, "%s/plugins/quarantine.json", f.dir);
    file = fopen(path, "w");
    cr_assert(file && fputs("{\"version\":1,", file) >= 0 && fclose(file) == 0);
    assert_error("GET", "/v1/quarantine", NULL, 500, "Internal Server Error", "StoreCorrupt",
                 "quarantine.json");
    assert_error("POST", "/v1/quarantine/plugins/acme.two/release", NULL, 500,
                 "Internal Server Error", "StoreCorrupt", "quarantine.json");
}

Test(plugin_past, a_row_shows_its_failures_newest_first)
{
    int64_t pool = insert_rows("", 1);
    json_t *o, *list;

    for (int i = 0; i < 2; i++) {
        exj_op promote = { .kind = EXJ_OP_PROMOTE };
        exj_claim c = claim_one(pool);

        finish(&c, i ? EXJ_EV_FAIL_DEAD : EXJ_EV_FAIL_RETRY, "", i ? "Second" : "First", "text");
        promote.u.promote.limit = 10;
        cr_assert_eq(exj_store_do(f.store, &promote, NULL), EXJ_OK);
    }
    o = ask("GET", "/v1/rows/m1%7C%7Cg1%7Cr%2F0", NULL);
    list = json_object_get(o, "failures");
    cr_assert_eq(json_array_size(list), 2);
    cr_expect_str_eq(text_of(json_array_get(list, 0), "code"), "Second");
    cr_expect_eq(number_of(json_array_get(list, 0), "attempt"), 2);
    cr_expect_str_eq(text_of(json_array_get(list, 1), "code"), "First");
    cr_expect_str_eq(text_of(json_array_get(list, 1), "message"), "text");
    json_decref(o);
    o = ask("POST", "/v1/rows/m1%7C%7Cg1%7Cr%2F0/retry", NULL);
    cr_expect_eq(json_array_size(json_object_get(o, "failures")), 2, "they stay known");
    json_decref(o);
}
