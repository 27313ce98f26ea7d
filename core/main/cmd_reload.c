/* Commands about the versions of a plugin: what runs, what ran, and the switches. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/main/cmd_plugin.h"
#include "core/main/reach.h"

#define ORDER_TIMEOUT_MS 60000u /* a trial may take long; the daemon's door is open so long */

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int64_t number_of(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

/* The first 12 digits tell contents apart. */
static void add_hash(exj_table *t, const char *sha256)
{
    char text[13];

    snprintf(text, sizeof(text), "%s", sha256 ? sha256 : "");
    exj_table_add(t, text);
}

/* ---- plugin list, beside a worker ------------------------------------------------------------- */

static void add_ms(exj_table *t, const json_t *p)
{
    const json_t *p50 = json_object_get(p, "p50Ms"), *p99 = json_object_get(p, "p99Ms");
    char text[48] = "";

    if (json_is_number(p50) && json_is_number(p99))
        snprintf(text, sizeof(text), "%.3g/%.3g", json_number_value(p50), json_number_value(p99));
    exj_table_add(t, text);
}

static void tell_deck(const exj_cli *c, const char *executor, const char *what, const json_t *d)
{
    exj_tell(c, "%s: %s %s (%.12s), generation %" PRId64 ": %" PRId64 " of %" PRId64 " rows failed, "
             "%" PRId64 " running", executor, what, text_of(d, "version"), text_of(d, "sha256"),
             number_of(d, "generation"), number_of(d, "errors"), number_of(d, "calls"),
             number_of(d, "running"));
}

static void tell_executors(const exj_cli *c, const json_t *list)
{
    json_t *x, *d;
    size_t i, k;

    json_array_foreach(list, i, x) {
        const char *name = text_of(x, "executor"), *text;
        char what[64];

        if (json_is_object(d = json_object_get(x, "canary"))) {
            snprintf(what, sizeof(what), "canary with %" PRId64 " %% of the rows:",
                     number_of(x, "canaryPercent"));
            tell_deck(c, name, what, d);
        }
        json_array_foreach(json_object_get(x, "draining"), k, d)
            tell_deck(c, name, "draining:", d);
        if ((text = text_of(x, "error")))
            exj_tell(c, "%s: cannot be used: %s", name, text);
        if ((text = text_of(x, "refusal")))
            exj_tell(c, "%s: last refusal: %s", name, text);
    }
}

void exj_print_generations(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("PLUGIN", "VERSION", "GEN", "HASH", "LANE", "STATE", "CALLS", "ERRORS",
                            "CRASHES", "P50/P99 MS", "USES");
    json_t *p;
    size_t i;

    json_array_foreach(json_object_get(body, "plugins"), i, p) {
        const char *id = text_of(p, "id"), *error = text_of(p, "error");
        const char *pin = text_of(p, "pinnedTo"), *sha256 = text_of(p, "sha256");
        bool loaded = json_is_integer(json_object_get(p, "generation"));

        exj_table_add(&t, id && *id ? id : text_of(p, "name"));
        exj_table_add(&t, text_of(p, "version"));
        if (loaded)
            exj_table_add_number(&t, number_of(p, "generation"));
        else
            exj_table_add(&t, NULL);
        add_hash(&t, sha256);
        exj_table_add(&t, text_of(p, "lane"));
        exj_table_add(&t, text_of(p, "state"));
        exj_table_add_number(&t, number_of(p, "calls"));
        exj_table_add_number(&t, number_of(p, "errors"));
        exj_table_add_number(&t, number_of(p, "crashes"));
        add_ms(&t, p);
        exj_table_add_number(&t, number_of(p, "uses"));
        if (error)
            exj_tell(c, "exellix-jobs: refused: %s", error);
        if (pin && sha256 && !strcmp(pin, sha256))
            exj_tell(c, "%s is pinned to %.12s", id, pin);
    }
    exj_table_print(&t, c->color);
    tell_executors(c, json_object_get(body, "executors"));
}

/* ---- asking ------------------------------------------------------------------------------------- */

/* `method` /plugins/ID/`action`; `body` is taken, NULL: none. */
static exj_exit ask(exj_cli *c, exj_reach *r, const char *method, const char *action,
                    const char *query, json_t *body, void (*print)(exj_cli *, const json_t *))
{
    exj_buf path = EXJ_BUF_INIT, text = EXJ_BUF_INIT;
    exj_answer_json a = { 0 };
    exj_exit status;

    exj_buf_printf(&path, "/plugins/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_printf(&path, "/%s", action);
    if (path.failed || (body && exj_json_print(body, false, &text, NULL) != EXJ_OK))
        status = exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
    else
        status = exj_ask(r, method, path.p, query, exj_buf_slice(&text), &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print(c, a.body);
        exj_answer_json_release(&a);
    }
    json_decref(body);
    exj_buf_release(&path);
    exj_buf_release(&text);
    exj_reach_release(r);
    return exj_out_finish(c, status);
}

/* ---- orders --------------------------------------------------------------------------------------- */

static void print_trial(const json_t *t)
{
    json_t *d;
    size_t i;

    if (!json_is_object(t))
        return;
    printf("self-test: %s; rows done again: %" PRId64 ", same: %" PRId64 ", different: %" PRId64
           "\n",
           text_of(t, "selfTest"), number_of(t, "rows"), number_of(t, "same"),
           number_of(t, "different"));
    json_array_foreach(json_object_get(t, "differences"), i, d)
        printf("%s\n  before: %s\n  after:  %s\n", text_of(d, "matrixRowId"),
               text_of(d, "before"), text_of(d, "after"));
}

static void print_order(exj_cli *c, const json_t *o)
{
    (void)c;
    printf("%s %s (%.12s) is generation %" PRId64 ", %s\n", text_of(o, "plugin"),
           text_of(o, "version"), text_of(o, "sha256"), number_of(o, "generation"),
           text_of(o, "state"));
    print_trial(json_object_get(o, "trial"));
}

static void print_tried(exj_cli *c, const json_t *o)
{
    const json_t *t = json_object_get(o, "trial");
    const char *sha256 = text_of(t, "sha256");

    (void)c;
    printf("%s %s (%.12s) passed; %s (%.12s) stays\n", text_of(o, "plugin"),
           text_of(t, "version") ? text_of(t, "version") : "", sha256 ? sha256 : "",
           text_of(o, "version"), text_of(o, "sha256"));
    print_trial(t);
}

static exj_exit order(exj_cli *c, const char *action, json_t *body,
                      void (*print)(exj_cli *, const json_t *))
{
    exj_reach r = EXJ_REACH_INIT(c);

    r.only_daemon = true;
    r.timeout_ms = ORDER_TIMEOUT_MS;
    return ask(c, &r, "POST", action, "", body, print);
}

exj_exit exj_cmd_plugin_reload(exj_cli *c)
{
    return order(c, "reload", NULL, print_order);
}

exj_exit exj_cmd_plugin_rollback(exj_cli *c)
{
    return order(c, "rollback", NULL, print_order);
}

exj_exit exj_cmd_plugin_trial(exj_cli *c)
{
    json_t *body = NULL;
    char *real;

    if (c->args_len > 1) {
        real = realpath(c->args[1], NULL);
        if (!real)
            return exj_fail(c, EXJ_EXIT_NOT_FOUND, "no file \"%s\"", c->args[1]);
        body = json_pack("{s:s}", "path", real);
        free(real);
        if (!body)
            return exj_fail(c, EXJ_EXIT_INVALID, "\"%s\" is no UTF-8", c->args[1]);
    }
    return order(c, "trial", body, print_tried);
}

/* ---- what needs no worker --------------------------------------------------------------------------- */

static exj_exit ask_shelf(exj_cli *c, const char *method, const char *action, const char *query,
                          json_t *body, void (*print)(exj_cli *, const json_t *))
{
    exj_reach r = EXJ_REACH_INIT(c);

    r.with_house = r.without_store = true;
    r.timeout_ms = ORDER_TIMEOUT_MS;
    return ask(c, &r, method, action, query, body, print);
}

static void print_pin(exj_cli *c, const json_t *o)
{
    printf("%s is pinned to %.12s\n", text_of(o, "plugin"), text_of(o, "sha256"));
    if (json_is_object(json_object_get(o, "report")))
        print_order(c, json_object_get(o, "report"));
}

exj_exit exj_cmd_plugin_pin(exj_cli *c)
{
    json_t *body = NULL;

    if (c->args_len > 1 && !(body = json_pack("{s:s}", "sha256", c->args[1])))
        return exj_fail(c, EXJ_EXIT_INVALID, "\"%s\" is no SHA-256", c->args[1]);
    return ask_shelf(c, "POST", "pin", "", body, print_pin);
}

static void print_unpin(exj_cli *c, const json_t *o)
{
    (void)c;
    printf("%s is no longer pinned; it was to %.12s\n", text_of(o, "plugin"),
           text_of(o, "sha256"));
}

exj_exit exj_cmd_plugin_unpin(exj_cli *c)
{
    return ask_shelf(c, "POST", "unpin", "", NULL, print_unpin);
}

static void print_history(exj_cli *c, const json_t *o)
{
    exj_table t = EXJ_TABLE("AT", "EVENT", "VERSION", "GEN", "HASH", "WHY");
    json_t *e;
    size_t i;

    json_array_foreach(json_object_get(o, "events"), i, e) {
        exj_table_add(&t, text_of(e, "at"));
        exj_table_add(&t, text_of(e, "event"));
        exj_table_add(&t, text_of(e, "version"));
        if (number_of(e, "generation"))
            exj_table_add_number(&t, number_of(e, "generation"));
        else
            exj_table_add(&t, NULL);
        add_hash(&t, text_of(e, "sha256"));
        exj_table_add(&t, text_of(e, "why"));
    }
    exj_table_print(&t, c->color);
}

exj_exit exj_cmd_plugin_history(exj_cli *c)
{
    char query[40];
    exj_err err = { 0 };
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 1000, 100, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    snprintf(query, sizeof(query), "limit=%" PRId64, n);
    return ask_shelf(c, "GET", "history", query, NULL, print_history);
}

static void print_versions(exj_cli *c, const json_t *o)
{
    exj_table t = EXJ_TABLE("SHA256", "VERSION", "KEPT", "BYTES", "PINNED");
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(o, "versions"), i, v) {
        exj_table_add(&t, text_of(v, "sha256"));
        exj_table_add(&t, text_of(v, "version"));
        exj_table_add(&t, text_of(v, "at"));
        exj_table_add_number(&t, number_of(v, "bytes"));
        exj_table_add(&t, json_is_true(json_object_get(v, "pinned")) ? "pinned" : NULL);
    }
    exj_table_print(&t, c->color);
}

exj_exit exj_cmd_plugin_versions(exj_cli *c)
{
    return ask_shelf(c, "GET", "versions", "", NULL, print_versions);
}
