/* Orders to the reloader: whom they mean, where a roll back leads, and what is told of it. The
 * reloader's own functions are the test's, as are plugins and shelf. */
#include "core/run/reload.h"
#include "tests/unit/run/hand_plugins.h"

static exj_engine e;
static exj_guest a = { .i = { .id = "acme.a", .version = "1", .sha256 = SHA_A, .path = "/p/a.so",
                              .generation = 1 } };
static exj_guest b = { .i = { .id = "acme.a", .version = "2", .sha256 = SHA_B, .path = "/p/a.so",
                              .generation = 2 } };
static exj_guest c = { .i = { .id = "acme.c", .version = "1", .sha256 = SHA_C, .path = "/p/c.so",
                              .generation = 3 } };
static struct deck on_a = { .guest = &a }, on_b = { .guest = &b }, on_c = { .guest = &c };
static char a_name[] = "a.so", c_name[] = "c.so";
static struct executor x = { .name = a_name }, y = { .name = c_name };
static exj_err err;
static json_t *report;

/* What the reloader was asked, and says. */
static struct {
    exj_code take_rc, try_rc;
    struct deck *taken; /* is current after a take; NULL: as before */
    char path[100];     /* of a take or a trial */
    bool by_order;
    struct deck *looked; /* what looking for a lost plugin finds */
    char back[100], told[300];
    const char *history; /* JSON; newest first */
    exj_code history_rc, pin_rc;
    char pin[100]; /* what was pinned last, or "unpinned" */
} did;

void exj_run_record_gone(void *engine, const exj_guest_info *i)
{
    (void)engine, (void)i;
}

struct executor *exj_first_executor(exj_engine *engine)
{
    return engine->executors;
}

void exj_reload_tell(exj_engine *engine, const exj_guest *g, exj_plugin_event event,
                     const char *why, json_t *details)
{
    size_t n = strlen(did.told);

    (void)engine, (void)details;
    snprintf(did.told + n, sizeof(did.told) - n, "%s %s %s;", g->i.version,
             event == EXJ_PE_PINNED        ? "pinned"
             : event == EXJ_PE_ROLLED_BACK ? "rolled back"
             : event == EXJ_PE_LOADED      ? "loaded"
                                           : "?",
             why ? why : "-");
}

exj_code exj_reload_take(exj_engine *engine, struct executor *who, const char *path,
                         bool by_order, json_t **ret_report, exj_err *ret_err)
{
    (void)engine;
    snprintf(did.path, sizeof(did.path), "%s", path ? path : "its own");
    did.by_order = by_order;
    *ret_report = json_pack("{s:s}", "selfTest", "passed");
    if (did.take_rc)
        return exj_err_set(ret_err, did.take_rc, "not taken");
    if (did.taken)
        who->current = did.taken;
    return EXJ_OK;
}

exj_code exj_reload_try(exj_engine *engine, struct executor *who, const char *path,
                        unsigned rows, json_t **ret_report, exj_err *ret_err)
{
    (void)engine, (void)who, (void)rows;
    snprintf(did.path, sizeof(did.path), "%s", path);
    *ret_report = json_pack("{s:s}", "selfTest", did.try_rc ? "failed" : "passed");
    return did.try_rc ? exj_err_set(ret_err, did.try_rc, "its self-test failed") : EXJ_OK;
}

void exj_reload_look_for(exj_engine *engine, struct executor *who)
{
    (void)engine;
    who->current = did.looked;
}

void exj_reload_back(exj_engine *engine, struct executor *who, struct deck *bad, const char *why)
{
    (void)engine;
    snprintf(did.back, sizeof(did.back), "%s %s", bad->guest->i.version, why);
    if (bad == who->canary) {
        who->canary = NULL;
    } else {
        who->current = who->before;
        who->before = NULL;
    }
}

exj_code exj_shelf_history(exj_shelf *s, const char *id, size_t limit, json_t **ret,
                           exj_err *ret_err)
{
    (void)s, (void)id, (void)limit;
    if (did.history_rc)
        return exj_err_set(ret_err, did.history_rc, "no history");
    *ret = json_loads(did.history ? did.history : "[]", 0, NULL);
    cr_assert_not_null(*ret);
    return EXJ_OK;
}

exj_code exj_shelf_pin(exj_shelf *s, const char *id, const char *sha256, exj_msec now,
                       exj_err *ret_err)
{
    (void)s, (void)id, (void)now;
    if (did.pin_rc)
        return exj_err_set(ret_err, did.pin_rc, "not pinned");
    snprintf(did.pin, sizeof(did.pin), "%s", sha256);
    return EXJ_OK;
}

exj_code exj_shelf_unpin(exj_shelf *s, const char *id, exj_err *ret_err)
{
    (void)s, (void)id, (void)ret_err;
    snprintf(did.pin, sizeof(did.pin), "unpinned");
    return EXJ_OK;
}

/* The reloader's thread: it lives for one order. */
static pthread_t thread;
static bool has_thread;

static void *reloader(void *unused)
{
    (void)unused;
    exj_reload_obey(&e, false);
    return NULL;
}

void exj_watch_wake(exj_watch *w)
{
    (void)w;
    has_thread = pthread_create(&thread, NULL, reloader, NULL) == 0;
    cr_assert(has_thread);
}

static void make(void)
{
    pthread_mutex_init(&e.mu, NULL);
    pthread_cond_init(&e.ordered, NULL);
    e.o.shelf = HAND_SHELF;
    e.has_reloader = true;
    x.current = &on_a;
    y.current = &on_c;
    x.next = &y;
    e.executors = &x;
}

static void end(void)
{
    json_decref(report);
    cr_expect_null(e.orders);
    cr_expect_eq(e.ordering, 0);
}

TestSuite(orders, .init = make, .fini = end);

static exj_code order(exj_plugin_order kind, const char *plugin, const char *what)
{
    exj_code rc;

    json_decref(report);
    report = NULL;
    exj_err_clear(&err);
    did.told[0] = did.path[0] = did.pin[0] = did.back[0] = '\0';
    rc = exj_engine_order(&e, kind, plugin, what, &report, &err);
    if (has_thread)
        pthread_join(thread, NULL);
    has_thread = false;
    cr_expect_eq(rc, err.code);
    cr_expect_eq(report != NULL, rc == EXJ_OK);
    return rc;
}

static const char *shown(const char *key)
{
    const char *text = json_string_value(json_object_get(report, key));

    return text ? text : "(none)";
}

/* ---- whom it means --------------------------------------------------------------------------- */

Test(orders, a_plugin_is_meant_by_its_id_or_as_it_is_configured)
{
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(shown("plugin"), "acme.a");
    cr_expect_str_eq(did.path, "its own");
    cr_expect_not(did.by_order);
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "c.so", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(shown("plugin"), "acme.c");
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.c", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(shown("plugin"), "acme.c");
    x.current = NULL; /* it has no id then */
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_NOT_FOUND);
    cr_expect_str_eq(err.text, "no executor runs a plugin \"acme.a\"");
}

Test(orders, of_what_could_not_run_is_to_look_for_it)
{
    x.current = NULL;
    exj_err_set(&x.error, EXJ_REFUSED, "not trusted");
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "a.so", NULL), EXJ_REFUSED);
    cr_expect_str_eq(err.text, "not trusted");
    did.looked = &on_b;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "a.so", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(shown("version"), "2");
    cr_expect_str_empty(did.back);
}

Test(orders, are_refused_where_nothing_is_reloaded)
{
    e.has_reloader = false;
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_CANCELLED);
    cr_expect_str_eq(err.text, "plugins are not reloaded here");
    e.stopping = true;
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_CANCELLED);
    cr_expect_str_eq(err.text, "plugins are not reloaded here: the worker stops");
    e.has_reloader = true;
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_CANCELLED);
    cr_expect_str_empty(did.path);
}

Test(orders, a_kind_that_nobody_knows_changes_nothing)
{
    cr_expect_eq(order((exj_plugin_order)99, "acme.a", NULL), EXJ_OK);
    cr_expect_str_eq(shown("version"), "1");
    cr_expect_str_empty(did.path);
}

/* ---- switches and trials --------------------------------------------------------------------- */

Test(orders, a_trial_is_reported_and_changes_nothing)
{
    cr_expect_eq(order(EXJ_ORDER_TRIAL, "acme.a", "/new.so"), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(did.path, "/new.so");
    cr_expect_str_eq(shown("version"), "1");
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(report, "trial"),
                                                       "selfTest")),
                     "passed");
    cr_expect_eq(plug.sweeps, 1);
    did.try_rc = EXJ_INVALID;
    cr_expect_eq(order(EXJ_ORDER_TRIAL, "acme.a", "/new.so"), EXJ_INVALID);
    cr_expect_str_eq(err.text, "its self-test failed");
    cr_expect_eq(plug.sweeps, 2);
}

Test(orders, a_switch_needs_a_copy)
{
    cr_expect_eq(order(EXJ_ORDER_SWITCH, "acme.a", SHA_B), EXJ_NOT_FOUND);
    cr_expect(strstr(err.text, "no copy of the content bbbbbbbbbbbb"), "%s", err.text);
    plug.kept = "/kept/b.so";
    did.taken = &on_b;
    cr_expect_eq(order(EXJ_ORDER_SWITCH, "acme.a", SHA_B), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(did.path, "/kept/b.so");
    cr_expect(did.by_order);
    cr_expect_str_eq(shown("version"), "2");
}

/* The share of a new one is what is shown. */
Test(orders, what_has_its_share_is_shown)
{
    x.canary = &on_b;
    b.i.state = EXJ_GEN_CANARY;
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(shown("version"), "2");
    cr_expect_str_eq(shown("state"), "canary");
}

/* ---- roll backs ------------------------------------------------------------------------------ */

Test(orders, back_from_what_is_not_proven)
{
    x.current = &on_b;
    x.before = &on_a;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(did.back, "2 by order");
    cr_expect_str_eq(did.pin, SHA_A); /* or the file would be taken again */
    cr_expect_str_eq(did.told, "1 pinned by a roll back;");
    cr_expect_str_eq(shown("version"), "1");
}

Test(orders, back_from_a_share)
{
    x.canary = &on_b;
    plug.pinned = SHA_A; /* already: that is no news */
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(did.back, "2 by order");
    cr_expect_str_eq(did.pin, SHA_A);
    cr_expect_str_empty(did.told);
    x.canary = &on_b;
    did.pin_rc = EXJ_IO;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_IO);
    cr_expect_str_eq(err.text, "not pinned");
    cr_expect_str_empty(did.told);
}

#define LINE(event, sha) "{\"event\":\"" event "\",\"sha256\":\"" sha "\"}"

/* Newest first: B runs; C was rolled back, so what was current before it is not C. */
static const char history[] =
    "[{\"sha256\":\"" SHA_A "\"},{\"event\":\"current\"}," LINE("current", "") ","
    LINE("current", SHA_B) "," LINE("trial", SHA_A) "," LINE("rolled-back", SHA_C) ","
    LINE("current", SHA_C) "," LINE("current", SHA_A) "," LINE("loaded", SHA_B) "]";

static void to_b(void)
{
    x.current = &on_b;
    did.history = history;
    plug.kept = "/kept/a.so";
    did.taken = &on_a;
}

Test(orders, back_to_the_content_before)
{
    to_b();
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(did.pin, SHA_A);
    cr_expect_str_eq(did.path, "/kept/a.so");
    cr_expect_str_eq(did.told, "2 rolled back by order;1 pinned by a roll back;");
    to_b();
    did.history = "[" LINE("current", SHA_B) "," LINE("loaded", SHA_A) "]";
    plug.pinned = SHA_A;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(did.told, "2 rolled back by order;"); /* it was pinned there */
}

Test(orders, a_roll_back_that_fails_leaves_the_pin_as_it_was)
{
    to_b();
    did.take_rc = EXJ_BUSY;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_BUSY);
    cr_expect_str_eq(did.pin, "unpinned");
    plug.pinned = SHA_B;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_BUSY);
    cr_expect_str_eq(did.pin, SHA_B);
    plug.kept = NULL; /* the copy is gone */
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_NOT_FOUND);
    cr_expect_str_eq(did.pin, SHA_B);
    cr_expect_str_empty(did.told);
}

Test(orders, no_roll_back_without_knowing_where_to)
{
    x.current = &on_b;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_CONFLICT);
    cr_expect_str_eq(err.text, "plugin acme.a: no earlier version is known");
    did.history_rc = EXJ_IO;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_IO);
    cr_expect_str_eq(err.text, "no history");
    did.history_rc = EXJ_OK;
    to_b();
    did.pin_rc = EXJ_IO;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_IO);
    cr_expect_str_empty(did.path);
    plug.pinned_rc = EXJ_INVALID;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_INVALID);
    cr_expect(strstr(err.text, "cannot be read"), "%s", err.text);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static long json_left; /* so many allocations of jansson succeed */

static void *scarce(size_t n)
{
    return json_left-- > 0 ? malloc(n) : NULL;
}

Test(orders, without_memory_for_the_report_it_is_said_what_runs)
{
    did.taken = &on_b;
    json_set_alloc_funcs(scarce, free);
    json_left = 4;
    cr_expect_eq(order(EXJ_ORDER_RELOAD, "acme.a", NULL), EXJ_UNKNOWN);
    cr_expect_str_eq(err.text, "acme.a 2 runs; there was no memory for the report");
    json_left = 0;
    x.current = &on_b;
    cr_expect_eq(order(EXJ_ORDER_ROLL_BACK, "acme.a", NULL), EXJ_NOMEM);
    json_set_alloc_funcs(malloc, free);
}

/* ---- the first one --------------------------------------------------------------------------- */

Test(orders, the_first_version_is_kept_where_there_is_a_shelf)
{
    exj_run_note_first(&e, &x);
    cr_expect_eq(plug.keeps, 1);
    cr_expect_str_eq(did.told, "1 loaded -;");
    e.o.shelf = NULL;
    exj_run_note_first(&e, &x);
    e.o.shelf = HAND_SHELF;
    x.current = NULL;
    exj_run_note_first(&e, &x);
    cr_expect_eq(plug.keeps, 1);
}
