#include "core/main/reach.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/history/recorded_store.h"

#define TIMEOUT_MS 30000u

void exj_socket_path(const exj_settings *s, char *ret, size_t cap)
{
    snprintf(ret, cap, "%s/exellix-jobs.sock", exj_settings_text(s, EXJ_SET_DATA_DIR));
}

static bool store_exists(const exj_settings *s)
{
    char path[4200];

    snprintf(path, sizeof(path), "%s/exellix-jobs.db", exj_settings_text(s, EXJ_SET_DATA_DIR));
    return access(path, F_OK) == 0;
}

static exj_sqlite_options store_options(const exj_settings *s, const char *note)
{
    return (exj_sqlite_options){
        .dir = exj_settings_text(s, EXJ_SET_DATA_DIR),
        .lock_note = note,
        .fast = strcmp(exj_settings_text(s, EXJ_SET_DURABILITY), "fast") == 0,
    };
}

exj_code exj_open_store(const exj_settings *s, const char *note, exj_store **ret,
                        exj_err *err)
{
    const char *record = exj_settings_text(s, EXJ_SET_RECORD);
    exj_sqlite_options o = store_options(s, note);
    exj_store *store = NULL;
    exj_code rc = exj_settings_support(s, err);

    if (rc == EXJ_OK)
        rc = exj_sqlite_open(&o, &store, err);
    if (rc == EXJ_OK && record) {
        rc = exj_recorded_store_to(store, record, "command", &store, err);
        if (rc != EXJ_OK)
            store->v->close(store);
    }
    if (rc == EXJ_OK)
        *ret = store;
    return rc;
}

/* Opened for looking first: a daemon that starts meanwhile must not find the lock taken by
 * somebody who only looks. */
static exj_code open_for(exj_reach *r, bool writes, bool may_make, exj_err *err)
{
    const exj_settings *s = &r->cli->settings;
    exj_sqlite_options o = store_options(s, NULL);
    exj_err why = { 0 };
    exj_code rc = exj_settings_support(s, err);
    char note[160];

    if (rc != EXJ_OK)
        return rc;
    if (!may_make && !store_exists(s))
        return exj_err_set(err, EXJ_NOT_FOUND,
                           "no store in %.300s yet: apply a config or start a worker there, or "
                           "name another folder with --data-dir",
                           o.dir);
    if (!writes) {
        o.read_only = true;
        rc = exj_sqlite_open(&o, &r->store, &why);
        if (rc == EXJ_OK || rc == EXJ_CORRUPT || rc == EXJ_NOMEM)
            return rc == EXJ_OK ? rc : exj_err_set(err, rc, "%s", why.text);
    }
    snprintf(note, sizeof(note), "pid %ld command %s", (long)getpid(), r->cli->command->words);
    rc = exj_open_store(s, note, &r->store, err);
    r->writable = rc == EXJ_OK;
    return rc;
}

static void fill_api(exj_reach *r)
{
    const exj_settings *s = &r->cli->settings;

    snprintf(r->snapshots, sizeof(r->snapshots), "%s/snapshots",
             exj_settings_text(s, EXJ_SET_DATA_DIR));
    r->api = (exj_api){
        .snapshots_dir = r->snapshots,
        .store = r->store,
        .plugins = r->plugins,
        .shelf = r->house.shelf,
        .prefix = exj_settings_text(s, EXJ_SET_PREFIX),
        .worker_id = exj_settings_text(s, EXJ_SET_WORKER_ID),
        .build_id = EXJ_VERSION,
        .running_states = (uint32_t)exj_settings_number(s, EXJ_SET_RUNNING_STATES),
        .started = exj_clock_mono_ns(),
    };
    if (!r->api.prefix)
        r->api.prefix = "";
}

/* HTTP answer to JSON; ends `in`. */
static exj_code to_json(exj_response *in, exj_answer_json *ret, exj_err *err)
{
    exj_code rc = EXJ_OK;

    *ret = (exj_answer_json){ .status = in->status };
    if (in->body.n)
        rc = exj_json_parse(exj_buf_slice(&in->body), &ret->body, err);
    if (rc == EXJ_INVALID) {
        if (err)
            err->code = EXJ_IO;
        exj_err_prefix(err, "the answer is not JSON");
        rc = EXJ_IO;
    }
    exj_response_release(in);
    return rc;
}

static exj_code open_house(exj_reach *r, exj_err *err)
{
    return r->house.shelf ? EXJ_OK : exj_house_open(&r->house, &r->cli->settings, err);
}

static exj_code call_here(exj_reach *r, exj_request *q, bool writes, exj_response *ret,
                          exj_err *err)
{
    exj_code rc;

    if (r->with_house && (rc = open_house(r, err)) != EXJ_OK)
        return rc;
    if (r->without_store) {
        fill_api(r);
        exj_api_call(&r->api, q, ret);
        return EXJ_OK;
    }
    if (r->store && writes && !r->writable) { /* a look first, then a change */
        r->store->v->close(r->store);
        r->store = NULL;
    }
    if (!r->store) {
        rc = open_for(r, writes, strcmp(q->method, "PUT") == 0, err);
        if (rc != EXJ_OK)
            return rc;
    }
    fill_api(r);
    exj_api_call(&r->api, q, ret);
    return EXJ_OK;
}

exj_code exj_call_api(exj_reach *r, const char *method, const char *path, const char *query,
                      exj_slice body, exj_answer_json *ret, exj_err *err)
{
    const char *prefix = exj_settings_text(&r->cli->settings, EXJ_SET_PREFIX);
    bool writes = strcmp(method, "GET") != 0;
    exj_response answer = { 0 };
    exj_buf full = EXJ_BUF_INIT;
    exj_err why = { 0 };
    exj_request q = { .method = method, .query = exj_slice_of(query), .body = body,
                      .content_type = exj_slice_of(r->content_type), .trusted = true };
    exj_code rc = EXJ_NOT_FOUND;

    *ret = (exj_answer_json){ 0 };
    exj_buf_printf(&full, "%s%s", prefix ? prefix : "", path);
    if (full.failed) {
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        goto out;
    }
    q.path = exj_buf_slice(&full);
    if (!r->decided)
        exj_socket_path(&r->cli->settings, r->socket, sizeof(r->socket));
    if (!r->decided || r->daemon) {
        rc = exj_client_call(r->socket, &q, r->timeout_ms ? r->timeout_ms : TIMEOUT_MS, &answer,
                             &why);
        r->daemon = r->daemon || rc != EXJ_NOT_FOUND;
    }
    r->decided = true;
    if (!r->daemon && r->only_daemon)
        rc = exj_err_set(err, EXJ_BUSY,
                         "no worker runs on %.300s; start one with 'exellix-jobs serve'",
                         exj_settings_text(&r->cli->settings, EXJ_SET_DATA_DIR));
    else if (!r->daemon)
        rc = call_here(r, &q, writes, &answer, err);
    else if (rc != EXJ_OK)
        rc = exj_err_set(err, EXJ_BUSY, "the daemon at %s does not answer: %.200s", r->socket,
                         why.text);
    if (rc == EXJ_OK)
        rc = to_json(&answer, ret, err);
out:
    exj_buf_release(&full);
    return rc;
}

exj_code exj_call_plugins(exj_reach *r, const char *path, const char *query,
                          exj_answer_json *ret, exj_err *err)
{
    exj_response answer = { 0 };
    exj_request q = { .method = "GET", .path = exj_slice_of(path),
                      .query = exj_slice_of(query), .trusted = true };

    *ret = (exj_answer_json){ 0 };
    if (!r->plugins) {
        exj_code rc = open_house(r, err);

        if (rc == EXJ_OK)
            rc = exj_house_registry(&r->house, NULL, NULL, &r->plugins, err);
        if (rc != EXJ_OK)
            return rc;
    }
    fill_api(r);
    r->api.prefix = "";
    exj_api_call(&r->api, &q, &answer);
    return to_json(&answer, ret, err);
}

void exj_answer_json_release(exj_answer_json *a)
{
    json_decref(a->body);
    *a = (exj_answer_json){ 0 };
}

void exj_reach_release(exj_reach *r)
{
    if (r->store)
        r->store->v->close(r->store);
    exj_registry_free(r->plugins);
    exj_house_close(&r->house);
    *r = (exj_reach){ .cli = r->cli };
}

static exj_exit exit_of_http(unsigned status)
{
    switch (status) {
    case 400:
    case 413:
    case 422:
        return EXJ_EXIT_INVALID;
    case 401:
    case 403:
    case 501:
        return EXJ_EXIT_AUTH;
    case 404:
        return EXJ_EXIT_NOT_FOUND;
    case 409:
    case 412:
        return EXJ_EXIT_CONFLICT;
    case 503:
        return EXJ_EXIT_UNREACHABLE;
    case 504:
        return EXJ_EXIT_TIMEOUT;
    default:
        return EXJ_EXIT_FAILED;
    }
}

exj_exit exj_answer_fail(const exj_cli *c, const exj_answer_json *a)
{
    const char *message = json_string_value(json_object_get(a->body, "message"));
    const char *code = json_string_value(json_object_get(a->body, "code"));
    exj_exit status = exit_of_http(a->status);

    if (c->json && json_is_object(a->body)) { /* the same object as over HTTP */
        fflush(stdout);
        json_dumpf(a->body, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        return status;
    }
    if (!message)
        return exj_fail(c, status, "the answer was %u", a->status);
    if (status == EXJ_EXIT_CONFLICT && code)
        return exj_fail(c, status, "%s: %s", code, message);
    return exj_fail(c, status, "%s", message);
}

exj_exit exj_ask(exj_reach *r, const char *method, const char *path, const char *query,
                 exj_slice body, exj_answer_json *ret)
{
    exj_err err = { 0 };
    exj_exit status;

    if (exj_call_api(r, method, path, query, body, ret, &err) != EXJ_OK)
        return exj_fail_err(r->cli, &err);
    if (ret->status < 400)
        return EXJ_EXIT_OK;
    status = exj_answer_fail(r->cli, ret);
    exj_answer_json_release(ret);
    return status;
}
