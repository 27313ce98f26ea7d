#include "core/main/hostboot.h"

#include <stdlib.h>

#include "core/base/log.h"
#include "core/embed/documents.h"
#include "core/main/out.h"
#include "core/plugin/bootstrap.h"

#define MESSAGE_MAX 400
#define PARTS_TEXT_MAX EXJ_JSON_MAX_BYTES

/* ---- what configure may call ----------------------------------------------------------------- */

static exj_jobs_code failed(exj_hostboot *h, const exj_err *err)
{
    h->last = *err;
    return (exj_jobs_code)err->code;
}

static const char *setting(void *ctx, const char *name)
{
    exj_hostboot *h = ctx;

    return name ? exj_settings_by_name(h->settings, name) : NULL;
}

static exj_jobs_code set(void *ctx, const char *name, const char *value)
{
    exj_hostboot *h = ctx;
    exj_err err = { 0 };

    if (exj_settings_set_host(h->settings, name ? name : "", value ? value : "", &err) == EXJ_OK)
        return EXJ_JOBS_OK;
    return failed(h, &err);
}

static exj_code add_part(exj_hostboot *h, char *text_take, const exj_bundle *b, exj_err *err)
{
    exj_hostboot_part **end = &h->parts, *p = calloc(1, sizeof(*p));

    if (!p || !text_take) {
        free(p);
        free(text_take);
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    *p = (exj_hostboot_part){ .text = text_take, .bundle = b };
    while (*end)
        end = &(*end)->next;
    *end = p;
    return EXJ_OK;
}

static exj_jobs_code add_plugins(void *ctx, const char *name, const exj_bundle *b)
{
    exj_hostboot *h = ctx;
    exj_err err = { 0 };

    if (!name || !b)
        exj_err_set(&err, EXJ_INVALID, "add_plugins: wanted a name and a bundle, found NULL");
    else
        add_part(h, strdup(name), b, &err);
    return err.code == EXJ_OK ? EXJ_JOBS_OK : failed(h, &err);
}

static void keep_first(void *user, const char *line)
{
    exj_err_set(user, EXJ_INVALID, "%s", line);
}

static exj_jobs_code apply(void *ctx, const char *json, uint64_t bytes)
{
    exj_hostboot *h = ctx;
    exj_input_docs docs = { 0 };
    exj_err err = { 0 };

    if (!json || !bytes || bytes > PARTS_TEXT_MAX) {
        exj_err_set(&err, EXJ_INVALID, "apply: wanted 1 to %u bytes of JSON, found %llu",
                    PARTS_TEXT_MAX, json ? (unsigned long long)bytes : 0);
    } else {
        exj_slice text = { json, (size_t)bytes };

        if (exj_input_docs_take(&docs, "apply", text, keep_first, &err, &err) == EXJ_OK)
            add_part(h, exj_slice_dup(text), NULL, &err);
        exj_input_docs_release(&docs);
    }
    return err.code == EXJ_OK ? EXJ_JOBS_OK : failed(h, &err);
}

static int shown_bytes(exj_str s)
{
    return !s.p ? 0 : s.n < MESSAGE_MAX ? (int)s.n : MESSAGE_MAX;
}

static void say(void *ctx, int32_t level, exj_str message)
{
    exj_log_level as = level <= EXJ_LOG_LEVEL_DEBUG   ? EXJ_LOG_DEBUG
                       : level == EXJ_LOG_LEVEL_INFO  ? EXJ_LOG_INFO
                       : level == EXJ_LOG_LEVEL_WARN  ? EXJ_LOG_WARN
                                                      : EXJ_LOG_ERROR;

    (void)ctx;
    exj_log(as, "host", "%.*s", shown_bytes(message), message.p ? message.p : "");
}

static void error(void *ctx, exj_str message)
{
    exj_hostboot *h = ctx;

    exj_err_clear(&h->said);
    exj_err_set(&h->said, EXJ_INVALID, "%.*s", shown_bytes(message),
                message.p ? message.p : "");
}

static const char *error_text(void *ctx)
{
    const exj_hostboot *h = ctx;

    return h->last.text;
}

/* ---- its life -------------------------------------------------------------------------------- */

/* A code from outside may be any number. */
static exj_code code_of(exj_jobs_code c)
{
    return c > 0 && c <= (exj_jobs_code)EXJ_BUG ? (exj_code)c : EXJ_INVALID;
}

exj_code exj_hostboot_configure(exj_hostboot *h, exj_settings *s, exj_err *err)
{
    const exj_host_config_api api = {
        .size_of = EXJ_SIZE(exj_host_config_api, error_text),
        .abi_minor = EXJ_HOST_MINOR,
        .ctx = h,
        .setting = setting,
        .set = set,
        .add_plugins = add_plugins,
        .apply = apply,
        .log = say,
        .error = error,
        .error_text = error_text,
    };
    const char *path = exj_settings_text(s, EXJ_SET_HOST);
    exj_jobs_code answer;
    exj_code rc;

    if (!path)
        return EXJ_OK;
    rc = exj_bootstrap_load(path, &h->table, err);
    if (rc != EXJ_OK) {
        exj_err_prefix(err, "EXELLIX_JOBS_HOST_BOOTSTRAP");
        return rc;
    }
    h->path = path;
    h->settings = s;
    answer = h->table.configure(h->table.ctx, &api);
    h->settings = NULL;
    if (s->at[EXJ_SET_LOG_LEVEL].origin == EXJ_FROM_HOST ||
        s->at[EXJ_SET_LOG_JSON].origin == EXJ_FROM_HOST)
        exj_log_from_settings(s);
    if (answer != EXJ_JOBS_OK)
        return exj_err_set(err, code_of(answer), "host bootstrap %s: configure answered %d%s%s",
                           path, (int)answer, h->said.text[0] || h->last.text[0] ? ": " : "",
                           h->said.text[0] ? h->said.text : h->last.text);
    h->loaded = true;
    exj_log(EXJ_LOG_INFO, "main", "host bootstrap %s%s%s (%s)",
            h->table.name ? h->table.name : "without a name", h->table.version ? " " : "",
            h->table.version ? h->table.version : "", path);
    return EXJ_OK;
}

exj_code exj_hostboot_fill(exj_hostboot *h, exj_wiring *w, exj_err *err)
{
    exj_code rc = EXJ_OK;

    for (const exj_hostboot_part *p = h->parts; p && rc == EXJ_OK; p = p->next)
        if (p->bundle)
            rc = exj_registry_add_static(w->plugins, p->text, p->bundle, err);
    for (const exj_hostboot_part *p = h->parts; p && rc == EXJ_OK; p = p->next)
        if (!p->bundle)
            rc = exj_wiring_apply(w, exj_slice_of(p->text), err);
    if (rc != EXJ_OK)
        exj_err_prefix(err, "host bootstrap %s", h->path);
    return rc;
}

void exj_hostboot_started(exj_hostboot *h, exj_wiring *w)
{
    const exj_host_worker info = {
        .size_of = EXJ_SIZE(exj_host_worker, data_dir),
        .port = w->server && w->o.tcp ? exj_server_port(w->server) : 0,
        .worker_id = w->o.worker_id,
        .data_dir = w->o.data_dir,
    };

    if (!h->loaded)
        return;
    h->running = true;
    if (h->table.started)
        h->table.started(h->table.ctx, &info);
}

void exj_hostboot_stopping(exj_hostboot *h)
{
    if (h->running && h->table.stopping)
        h->table.stopping(h->table.ctx);
    h->running = false;
}

void exj_hostboot_release(exj_hostboot *h)
{
    while (h->parts) {
        exj_hostboot_part *p = h->parts;

        h->parts = p->next;
        free(p->text);
        free(p);
    }
}
