#include "core/embed/wiring.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/embed/documents.h"
#include "core/history/recorded_store.h"
#include "core/http/stream.h"
#include "core/run/snapshot.h"

#define FAILED_START_GRACE_MS 30000
#define SINKS_GRACE_MS 5000 /* what they have not delivered comes with the next start */

static exj_code open_store(exj_wiring *w, exj_err *err)
{
    char note[1024];
    exj_sqlite_options s = { .dir = w->o.data_dir, .lock_note = note, .fast = w->o.fast };
    exj_code rc;

    snprintf(note, sizeof(note), "pid %ld %s worker %s socket %s", (long)getpid(), w->o.command,
             w->o.worker_id, w->o.socket ? w->o.socket : "none");
    rc = exj_sqlite_open(&s, &w->store, err);
    if (rc == EXJ_OK)
        w->store->v->health(w->store, &w->health);
    return rc;
}

/* From here on every operation of the store is recorded. */
static exj_code open_record(exj_wiring *w, exj_err *err)
{
    exj_code rc;

    if (!w->o.record)
        return EXJ_OK;
    rc = exj_recorder_open(w->o.record, "worker", &w->record, err);
    return rc == EXJ_OK ? exj_recorded_store(w->store, w->record, &w->store, err) : rc;
}

exj_code exj_wiring_open(exj_wiring *w, const exj_wiring_options *o, exj_err *err)
{
    char loaded[4200];
    exj_code rc;

    *w = (exj_wiring){ .o = *o };
    snprintf(loaded, sizeof(loaded), "%s/loaded", o->data_dir);
    if (asprintf(&w->snapshots_dir, "%s/snapshots", o->data_dir) < 0)
        w->snapshots_dir = NULL;
    rc = w->snapshots_dir ? open_store(w, err) : exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK)
        rc = open_record(w, err);
    if (rc == EXJ_OK) {
        exj_snapshot_sweep(w->snapshots_dir); /* the lock says that they are ours */
        rc = o->open_plugins(o->user, o->private_dir ? o->private_dir : loaded, &w->plugins,
                             err);
    }
    if (rc == EXJ_OK && !(w->metrics = exj_metrics_new()))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    w->api = (exj_api){
        .store = w->store,
        .plugins = w->plugins,
        .metrics = w->metrics,
        .shelf = w->o.shelf,
        .snapshots_dir = w->snapshots_dir,
        .prefix = o->prefix ? o->prefix : "",
        .api_key = o->api_key,
        .worker_id = o->worker_id,
        .build_id = EXJ_VERSION,
        .running_states = o->running_states,
        .scheduler_probe = o->scheduler_probe,
        .idempotency_hours = o->idempotency_hours,
        .started = exj_clock_mono_ns(),
    };
    if (rc != EXJ_OK)
        exj_wiring_close(w);
    return rc;
}

static exj_code open_engine(exj_wiring *w, exj_err *err)
{
    const exj_wiring_options *o = &w->o;
    exj_engine_options e = {
        .store = w->store,
        .plugins = w->plugins,
        .metrics = w->metrics,
        .record = w->record,
        .worker_id = o->worker_id,
        .executor = o->executor,
        .max_concurrent = o->max_concurrent,
        .prefetch = o->prefetch,
        .lease_ms = o->lease_ms,
        .running_states = o->running_states,
        .strict = o->strict,
        .exclusive_store = !w->store->v->shared, /* the lock says so */
        .shelf = o->shelf,
        .plugin_dirs = o->plugin_dirs,
        .snapshots_dir = w->snapshots_dir,
        .transform_exe = o->transform_exe,
        .manual_reload = o->manual_reload,
        .poll_ms = o->poll_ms,
        .canary_percent = o->canary_percent,
        .trial_rows = o->trial_rows,
        .drain_ms = o->drain_ms,
        .grace_ms = o->grace_ms,
        .row_crashes = o->row_crashes,
        .max_rows = o->max_rows,
        .one_cycle = o->one_cycle,
        .only_matrix = o->only_matrix,
        .only_seq = o->only_seq,
        .only_run = o->only_run,
    };

    return exj_engine_start(&e, &w->engine, err);
}

static exj_code open_doors(exj_wiring *w, exj_err *err)
{
    const exj_wiring_options *o = &w->o;
    exj_server_options d = {
        .api = &w->api,
        .tcp = o->tcp,
        .bind = o->bind,
        .port = o->port,
        .unix_path = o->socket,
    };
    exj_err why = { 0 };
    exj_code rc;

    if (!o->tcp && !o->socket)
        return EXJ_OK;
    rc = exj_server_start(&d, &w->server, &why);
    if (rc != EXJ_OK && !o->must_listen) {
        exj_log(EXJ_LOG_WARN, "main", "no local socket: %s", why.text);
        return EXJ_OK;
    }
    return rc == EXJ_OK ? rc : exj_err_set(err, rc, "%s", why.text);
}

static exj_code open_sinks(exj_wiring *w, exj_err *err)
{
    exj_code rc;

    if (!w->o.sinks)
        return EXJ_OK;
    rc = exj_sinks_open(w->store, w->plugins, exj_slice_of(w->o.sinks), &w->sinks, err);
    if (rc != EXJ_OK)
        exj_err_prefix(err, "event sinks");
    else
        rc = exj_sinks_start(w->sinks, w->news, err);
    w->api.sinks = w->sinks;
    return rc;
}

exj_code exj_wiring_start(exj_wiring *w, exj_err *err)
{
    exj_code rc = exj_news_open(w->store, &w->news, err);

    if (rc == EXJ_OK)
        rc = open_sinks(w, err);
    if (rc == EXJ_OK)
        rc = open_engine(w, err);
    w->api.engine = w->engine;
    w->api.started = exj_clock_mono_ns();
    if (rc == EXJ_OK)
        rc = exj_streams_open(w->store, w->news, &w->api.streams, err);
    if (rc == EXJ_OK)
        rc = open_doors(w, err);
    if (rc != EXJ_OK)
        exj_wiring_stop(w, FAILED_START_GRACE_MS); /* rows may run already */
    return rc;
}

exj_code exj_wiring_call(exj_wiring *w, const char *method, const char *path,
                         const char *query, exj_slice body, exj_response *ret, exj_err *err)
{
    exj_buf full = EXJ_BUF_INIT;
    exj_request q = { .method = method, .query = exj_slice_of(query), .body = body,
                      .trusted = true };

    exj_buf_printf(&full, "%s%s", w->api.prefix, path);
    if (full.failed) {
        exj_buf_release(&full);
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    q.path = exj_buf_slice(&full);
    exj_api_call(&w->api, &q, ret);
    exj_buf_release(&full);
    return EXJ_OK;
}

/* ---- documents ----------------------------------------------------------------------------- */

static void keep_first(void *user, const char *line)
{
    exj_err_set(user, EXJ_INVALID, "%s", line);
}

static exj_code code_of_status(unsigned status)
{
    switch (status) {
    case 404: return EXJ_NOT_FOUND;
    case 403: return EXJ_REFUSED;
    case 409: return EXJ_CONFLICT;
    case 501: return EXJ_UNSUPPORTED;
    case 503: return EXJ_BUSY;
    default: return status < 500 ? EXJ_INVALID : EXJ_IO;
    }
}

void exj_add_encoded(exj_buf *b, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
            strchr("-_.~", c))
            exj_buf_add_char(b, *text);
        else
            exj_buf_printf(b, "%%%02X", (unsigned)c);
    }
}

static exj_code put(exj_wiring *w, const exj_input_doc *d, bool dry_run, exj_err *err)
{
    exj_buf path = EXJ_BUF_INIT;
    exj_response answer = { 0 };
    json_t *body = NULL;
    const char *message;
    exj_code rc;

    exj_buf_add_text(&path, exj_input_doc_path(d->kind));
    exj_add_encoded(&path, d->id);
    rc = path.failed ? exj_err_set(err, EXJ_NOMEM, "out of memory")
                     : exj_wiring_call(w, "PUT", path.p, dry_run ? "dryRun=true" : NULL,
                                       exj_slice_of(d->text), &answer, err);
    if (rc == EXJ_OK && answer.status >= 400) {
        exj_json_parse(exj_buf_slice(&answer.body), &body, NULL);
        message = json_string_value(json_object_get(body, "message"));
        rc = exj_err_set(err, code_of_status(answer.status), "%s: %s", d->where,
                         message ? message : "refused");
    }
    json_decref(body);
    exj_response_release(&answer);
    exj_buf_release(&path);
    return rc;
}

exj_code exj_wiring_apply(exj_wiring *w, exj_slice text, exj_err *err)
{
    exj_input_docs docs = { 0 };
    exj_err first = { 0 };
    exj_code rc = exj_input_docs_take(&docs, "documents", text, keep_first, &first, err);

    if (rc == EXJ_INVALID)
        exj_err_set(err, rc, "%s", first.text);
    for (size_t i = 0; rc == EXJ_OK && i < docs.len; i++)
        rc = put(w, &docs.items[i], true, err);
    for (size_t i = 0; rc == EXJ_OK && i < docs.len; i++)
        rc = put(w, &docs.items[i], false, err);
    exj_input_docs_release(&docs);
    return rc;
}

/* ---- the end ------------------------------------------------------------------------------- */

uint32_t exj_wiring_stop(exj_wiring *w, exj_msec grace_ms)
{
    if (w->server)
        exj_server_stop(w->server);
    w->server = NULL;
    exj_streams_close(w->api.streams);
    w->api.streams = NULL;
    if (w->engine)
        w->left = exj_engine_stop(w->engine, grace_ms);
    w->engine = NULL;
    w->left += exj_sinks_stop(w->sinks, grace_ms < SINKS_GRACE_MS ? grace_ms : SINKS_GRACE_MS);
    w->sinks = NULL;
    w->api.sinks = NULL;
    exj_news_close(w->news);
    w->news = NULL;
    w->api.engine = NULL;
    return w->left;
}

void exj_wiring_close(exj_wiring *w)
{
    if (w->left)
        return;
    exj_registry_free(w->plugins);
    w->plugins = NULL;
    exj_metrics_free(w->metrics);
    w->metrics = NULL;
    if (w->store)
        w->store->v->close(w->store);
    w->store = NULL;
    exj_recorder_close(w->record);
    w->record = NULL;
    free(w->snapshots_dir);
    w->snapshots_dir = NULL;
}
