/* Liveness, readiness, metrics, and what the workers do. */
#include <stdio.h>

#include "core/base/clock.h"
#include "core/http/exchange.h"

#define NO_DAEMON "no worker runs here: start one with exellix-jobs serve"

/* ---- liveness ---------------------------------------------------------------------------- */

/* {name, stub}, null without a worker; a stub is said so that nobody overlooks it. */
static json_t *executor_shown(const exj_api *api)
{
    exj_buf name = EXJ_BUF_INIT;
    bool stub = false;
    json_t *o;

    if (!api->engine)
        return json_null();
    exj_engine_executor(api->engine, &name, &stub);
    o = json_pack("{s:o,s:b}", "name", exj_json_text(exj_buf_slice(&name)), "stub",
                  (int)stub);
    exj_buf_release(&name);
    if (o && stub &&
        json_object_set_new(o, "warning",
                            json_string("NO EXECUTOR IS CONFIGURED: the stub completes every "
                                        "row with empty outputs; set "
                                        "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP"))) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

/* Touches nothing but memory. New reference; NULL: no memory. */
static json_t *liveness(const exj_api *api)
{
    exj_nsec up = exj_clock_mono_ns() - api->started;

    return json_pack("{s:b,s:s?,s:s?,s:I,s:s,s:o,s:o}", "ok", 1, "buildId", api->build_id,
                     "workerId", api->worker_id, "uptimeSeconds",
                     (json_int_t)(up / 1000000000), "version", EXJ_VERSION, "executor",
                     executor_shown(api), "paused",
                     api->engine ? json_boolean(exj_engine_is_paused(api->engine))
                                 : json_null());
}

/* ---- readiness --------------------------------------------------------------------------- */

struct probe {
    json_t *checks, *failing;
    char first[600]; /* "part: why" of the first that fails */
    bool no_memory;
};

static void probe_add(struct probe *p, const char *part, bool ok, const char *detail)
{
    json_t *check = json_pack("{s:b,s:o}", "ok", (int)ok, "detail",
                              exj_json_text(exj_slice_of(detail)));

    if (json_object_set_new(p->checks, part, check))
        p->no_memory = true;
    if (ok)
        return;
    if (json_array_append_new(p->failing, json_string(part)))
        p->no_memory = true;
    if (!p->first[0])
        snprintf(p->first, sizeof p->first, "%s: %s", part, detail);
}

static void probe_store(struct probe *p, const exj_api *api)
{
    exj_store_health h = { 0 };
    exj_code rc = api->store->v->health(api->store, &h);
    bool round_trip = rc == EXJ_OK;
    char good[700];

    if (!round_trip && !h.text[0])
        snprintf(h.text, sizeof h.text, "%s", exj_code_name(rc));
    snprintf(good, sizeof good, "%s, schema %d, %s", h.backend, h.schema_version, h.where);
    /* A failure that names neither side concerns both. */
    if (!round_trip && h.config_ok && h.execution_ok)
        h.config_ok = h.execution_ok = false;
    probe_add(p, "config_db", h.config_ok, h.config_ok ? good : h.text);
    probe_add(p, "execution_db", h.execution_ok, h.execution_ok ? good : h.text);
}

struct plugin_tally {
    unsigned files, refused;
    char why[400];
};

static bool visit_tally(void *user, const exj_guest_info *i)
{
    struct plugin_tally *t = user;

    t->files++;
    if (i->error && !t->refused++)
        snprintf(t->why, sizeof t->why, "%s", i->error);
    return true;
}

static void add_detail(exj_buf *b, const char *what, const char *name, const char *why)
{
    exj_buf_printf(b, "; %s %.80s: %.300s", what, name, why);
}

static const char *text_in(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* What the engine refused or took back, and what cannot be used. True: all can be used. */
static bool add_executors(exj_buf *b, const exj_api *api)
{
    json_t *list = api->engine ? exj_engine_executors(api->engine) : NULL, *item;
    bool ok = true;
    size_t i;

    json_array_foreach(list, i, item) {
        if (*text_in(item, "error")) {
            add_detail(b, "unusable:", text_in(item, "executor"), text_in(item, "error"));
            ok = false;
        }
        if (*text_in(item, "refusal"))
            add_detail(b, "a reload was refused:", text_in(item, "executor"),
                       text_in(item, "refusal"));
    }
    json_decref(list);
    return ok;
}

static void add_quarantined(exj_buf *b, const exj_api *api)
{
    json_t *list = NULL, *item;
    exj_err err = { 0 };
    size_t i;

    if (!api->shelf)
        return;
    if (exj_shelf_quarantine_list(api->shelf, &list, &err) != EXJ_OK)
        add_detail(b, "the quarantine", "", err.text);
    json_array_foreach(list, i, item) {
        char name[160];

        snprintf(name, sizeof name, "%.60s %.40s (%.12s)", text_in(item, "id"),
                 text_in(item, "version"), text_in(item, "sha256"));
        add_detail(b, "in quarantine:", name, text_in(item, "why"));
    }
    json_decref(list);
}

/* A refused file or content is told, yet takes nothing from the rest: an older version serves.
 * Only an executor that cannot be used at all fails the check. */
static void probe_plugins(struct probe *p, const exj_api *api)
{
    struct plugin_tally t = { 0 };
    exj_buf text = EXJ_BUF_INIT;
    exj_err err = { 0 };
    bool ok;

    if (!api->plugins) {
        probe_add(p, "plugins", true, "no plugins directory in use");
        return;
    }
    if (exj_registry_each(api->plugins, false, visit_tally, &t, &err) != EXJ_OK) {
        probe_add(p, "plugins", false, err.text);
        return;
    }
    exj_buf_printf(&text, "%u found, %u refused%s%s", t.files, t.refused, t.refused ? ": " : "",
                   t.why);
    ok = add_executors(&text, api);
    add_quarantined(&text, api);
    if (text.failed)
        p->no_memory = true;
    else
        probe_add(p, "plugins", ok, text.p);
    exj_buf_release(&text);
}

static void probe_engine(struct probe *p, const exj_api *api)
{
    exj_engine_counts counts = { 0 };
    char text[300] = "";
    bool ok = false;

    if (api->engine)
        ok = exj_engine_health(api->engine, text, sizeof text);
    else
        snprintf(text, sizeof text, "%s", NO_DAEMON);
    probe_add(p, "engine", ok, text[0] ? text : ok ? "ok" : "not ready");
    if (!api->scheduler_probe)
        return;
    if (api->engine)
        exj_engine_get_counts(api->engine, &counts);
    if (!api->engine)
        probe_add(p, "scheduler", false, NO_DAEMON);
    else if (counts.store_failed)
        probe_add(p, "scheduler", false, "the store failed: nothing is scheduled");
    else
        probe_add(p, "scheduler", ok, ok ? "scheduling" : text);
}

static void readiness(exj_exchange *x)
{
    struct probe p = { .checks = json_object(), .failing = json_array() };
    json_t *o = liveness(x->api);
    bool ok;

    probe_store(&p, x->api);
    probe_plugins(&p, x->api);
    probe_engine(&p, x->api);
    ok = !p.first[0];
    if (!o || p.no_memory || json_object_set(o, "checks", p.checks) ||
        json_object_set(o, "failing", p.failing) ||
        json_object_set_new(o, "ok", json_boolean(ok)) ||
        (!ok && json_object_update_new(
                    o, json_pack("{s:i,s:s,s:s,s:o}", "statusCode", 503, "error",
                                 exj_status_reason(503), "code", "DependencyUnavailable",
                                 "message", exj_json_text(exj_slice_of(p.first)))))) {
        json_decref(o);
        o = NULL;
    }
    exj_answer_take(x, ok ? 200 : 503, o);
    json_decref(p.checks);
    json_decref(p.failing);
}

void exj_route_health(exj_exchange *x)
{
    const exj_slice *probe = exj_param_find(x, "probe");

    if (!probe)
        exj_answer_take(x, 200, liveness(x->api));
    else if (exj_slice_is(*probe, "dependencies"))
        readiness(x);
    else
        exj_answer_error(x, 400, "ValidationError",
                         "probe must be dependencies, not \"%.*s\"", (int)probe->n, probe->p);
}

void exj_route_version(exj_exchange *x)
{
    exj_answer_take(x, 200, json_pack("{s:s,s:s,s:s?}", "name", "exellix-jobs", "version",
                                      EXJ_VERSION, "buildId", x->api->build_id));
}

/* ---- metrics ------------------------------------------------------------------------------ */

static void add_label_value(exj_buf *b, const char *text)
{
    for (; text && *text; text++) {
        if (*text == '\\' || *text == '"')
            exj_buf_add_char(b, '\\');
        if (*text == '\n')
            exj_buf_add_text(b, "\\n");
        else
            exj_buf_add_char(b, *text);
    }
}

static void add_gauge(exj_buf *b, const char *name, const char *help, long long value)
{
    exj_buf_printf(b, "# HELP %s %s\n# TYPE %s gauge\n%s %lld\n", name, help, name, name,
                   value);
}

/* True: there is one. */
static bool add_generation(exj_buf *b, const json_t *x, const char *state)
{
    const json_t *deck = json_object_get(x, state);

    if (!json_is_object(deck))
        return false;
    exj_buf_add_text(b, "exellix_jobs_plugin_info{executor=\"");
    add_label_value(b, text_in(x, "executor"));
    exj_buf_add_text(b, "\",plugin=\"");
    add_label_value(b, text_in(x, "plugin"));
    exj_buf_add_text(b, "\",version=\"");
    add_label_value(b, text_in(deck, "version"));
    exj_buf_printf(b, "\",generation=\"%lld\",lane=\"%s\",state=\"%s\"} 1\n",
                   (long long)json_integer_value(json_object_get(deck, "generation")),
                   text_in(x, "isolation"), state);
    return true;
}

static void add_generations(exj_buf *b, const exj_api *api)
{
    json_t *list = exj_engine_executors(api->engine), *item;
    unsigned current = 0, canary = 0;
    size_t i, draining = 0;

    exj_buf_add_text(b, "# HELP exellix_jobs_plugin_info Always 1; the generations that rows are "
                        "given to.\n# TYPE exellix_jobs_plugin_info gauge\n");
    json_array_foreach(list, i, item) {
        current += add_generation(b, item, "current");
        canary += add_generation(b, item, "canary");
        draining += json_array_size(json_object_get(item, "draining"));
    }
    json_decref(list);
    exj_buf_printf(b,
                   "# HELP exellix_jobs_plugin_generations Generations of plugins by state.\n"
                   "# TYPE exellix_jobs_plugin_generations gauge\n"
                   "exellix_jobs_plugin_generations{state=\"current\"} %u\n"
                   "exellix_jobs_plugin_generations{state=\"canary\"} %u\n"
                   "exellix_jobs_plugin_generations{state=\"draining\"} %zu\n"
                   "exellix_jobs_plugin_generations{state=\"pinned\"} %u\n",
                   current, canary, draining,
                   api->plugins ? exj_registry_pinned(api->plugins) : 0);
}

/* What the engine knows without a lock of the workers and without the store. */
static void add_gauges(exj_buf *b, const exj_api *api)
{
    exj_engine_counts c;

    exj_buf_add_text(b, "# HELP exellix_jobs_build_info Always 1; the build is in the labels."
                        "\n# TYPE exellix_jobs_build_info gauge\n"
                        "exellix_jobs_build_info{version=\"" EXJ_VERSION "\",build_id=\"");
    add_label_value(b, api->build_id);
    exj_buf_add_text(b, "\"} 1\n");
    exj_buf_printf(b,
                   "# HELP exellix_jobs_plugin_misdeeds_total Times a plugin broke the rules."
                   "\n# TYPE exellix_jobs_plugin_misdeeds_total counter\n"
                   "exellix_jobs_plugin_misdeeds_total %llu\n",
                   (unsigned long long)exj_plugin_misdeeds());
    if (!api->engine)
        return;
    exj_engine_get_counts(api->engine, &c);
    add_gauge(b, "exellix_jobs_claims_in_flight", "Executions running now.", c.in_flight);
    add_gauge(b, "exellix_jobs_claims_ready", "Rows claimed and waiting for a worker.",
              c.ready);
    add_gauge(b, "exellix_jobs_rows_open", "Rows queued, waiting or running.", c.open);
    add_generations(b, api);
    add_gauge(b, "exellix_jobs_paused", "1 while no new claims are made.",
              exj_engine_is_paused(api->engine));
}

void exj_route_metrics(exj_exchange *x)
{
    exj_err err = { 0 };

    if (!x->api->metrics) {
        exj_answer_error(x, 503, "Unavailable", NO_DAEMON);
        return;
    }
    if (exj_metrics_render(x->api->metrics, &x->ret->body, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        return;
    }
    add_gauges(&x->ret->body, x->api);
    if (x->ret->body.failed) {
        exj_answer_take(x, 500, NULL);
        return;
    }
    x->ret->status = 200;
    x->ret->content_type = EXJ_TYPE_METRICS;
}

/* ---- workers ------------------------------------------------------------------------------ */

/* False: answered 503. */
static bool take_engine(exj_exchange *x)
{
    if (!x->api->engine)
        exj_answer_error(x, 503, "WorkerNotRunning", NO_DAEMON);
    return x->api->engine != NULL;
}

void exj_route_workers_status(exj_exchange *x)
{
    if (take_engine(x))
        exj_answer_take(x, 200, exj_engine_status(x->api->engine,
                                                  exj_param_text(x, "matrixCatalogId")));
}

static void answer_paused(exj_exchange *x)
{
    exj_engine_counts c;

    exj_engine_get_counts(x->api->engine, &c);
    exj_answer_take(x, 200, json_pack("{s:b,s:i}", "paused",
                                      (int)exj_engine_is_paused(x->api->engine),
                                      "activeJobs", (int)c.in_flight));
}

void exj_route_workers_pause(exj_exchange *x)
{
    if (!take_engine(x))
        return;
    exj_engine_pause(x->api->engine);
    answer_paused(x);
}

void exj_route_workers_resume(exj_exchange *x)
{
    if (!take_engine(x))
        return;
    exj_engine_resume(x->api->engine);
    answer_paused(x);
}
