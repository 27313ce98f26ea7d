/* Commands that look at graphs, matrices and the worker, and those that pause it. */
#include <stdio.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int64_t number_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* "a,b,c" of an array of strings. */
static void add_joined(exj_table *t, const json_t *list)
{
    exj_buf b = EXJ_BUF_INIT;
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
        exj_buf_printf(&b, "%s%s", i ? "," : "", json_string_value(item));
    exj_table_add(t, b.p);
    exj_buf_release(&b);
}

/* Ask for a list and print it as JSON, or hand it to `rows`. */
static exj_exit show(exj_cli *c, const char *path, void (*rows)(exj_cli *c, const json_t *body))
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json a;
    exj_exit status = exj_ask(&r, "GET", path, "", (exj_slice){ 0 }, &a);

    if (status == EXJ_EXIT_OK) {
        if (c->json || !rows)
            status = exj_out_json(c, a.body, !c->json);
        else
            rows(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

static void graph_rows(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("GRAPH", "PUBLICATION", "OPERATIONAL", "VERSION", "MATRICES");
    json_t *g;
    size_t i;

    json_array_foreach(json_object_get(body, "graphs"), i, g) {
        exj_table_add(&t, text_of(g, "graphId"));
        exj_table_add(&t, text_of(g, "publicationStatus"));
        exj_table_add(&t, text_of(g, "operationalState"));
        exj_table_add_number(&t, number_of(g, "version"));
        add_joined(&t, json_object_get(g, "matrixCatalogIds"));
    }
    exj_table_print(&t, c->color);
}

exj_exit exj_cmd_graphs(exj_cli *c)
{
    return show(c, "/graphs", graph_rows);
}

static void matrix_rows(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("MATRIX", "KIND", "VERSION", "GRAPHS", "QUEUED", "RUNNING",
                            "COMPLETED", "FAILED", "BLOCKED");
    json_t *m, *n;
    size_t i;

    json_array_foreach(json_object_get(body, "matrices"), i, m) {
        n = json_object_get(m, "counts");
        exj_table_add(&t, text_of(m, "matrixCatalogId"));
        exj_table_add(&t, text_of(m, "kind"));
        exj_table_add_number(&t, number_of(m, "version"));
        add_joined(&t, json_object_get(m, "graphs"));
        exj_table_add_number(&t, number_of(n, "queued"));
        exj_table_add_number(&t, number_of(n, "running"));
        exj_table_add_number(&t, number_of(n, "completed"));
        exj_table_add_number(&t, number_of(n, "failed"));
        exj_table_add_number(&t, number_of(n, "blocked"));
    }
    exj_table_print(&t, c->color);
}

exj_exit exj_cmd_matrices(exj_cli *c)
{
    return show(c, "/matrices", matrix_rows);
}

static void document_rows(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("ID", "VERSION", "UPDATED");
    json_t *d;
    size_t i;

    json_array_foreach(json_object_get(body, "documents"), i, d) {
        static const char *const ids[] = { "graphId", "matrixCatalogId", "scheduleId" };
        const char *id = NULL;

        for (size_t k = 0; k < 3 && !id; k++)
            id = text_of(d, ids[k]);
        exj_table_add(&t, id);
        exj_table_add_number(&t, number_of(d, "version"));
        exj_table_add(&t, text_of(d, "updatedAt"));
    }
    exj_table_print(&t, c->color);
}

static exj_exit get(exj_cli *c, const char *base)
{
    exj_buf path = EXJ_BUF_INIT;
    exj_exit status;

    exj_buf_add_text(&path, base);
    if (c->args_len) {
        exj_buf_add_char(&path, '/');
        exj_add_encoded(&path, c->args[0]);
    }
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : show(c, path.p, c->args_len ? NULL : document_rows);
    exj_buf_release(&path);
    return status;
}

exj_exit exj_cmd_get_graph(exj_cli *c)
{
    return get(c, "/configs/graphs");
}

exj_exit exj_cmd_get_matrix(exj_cli *c)
{
    return get(c, "/configs/matrices");
}

exj_exit exj_cmd_get_schedule(exj_cli *c)
{
    return get(c, "/configs/schedules");
}

/* ---- the worker --------------------------------------------------------------------------- */

/* One cell of whatever a scalar is. */
static void add_scalar(exj_table *t, const json_t *v)
{
    char number[40];

    if (json_is_string(v)) {
        exj_table_add(t, json_string_value(v));
    } else if (json_is_boolean(v)) {
        exj_table_add(t, json_is_true(v) ? "true" : "false");
    } else if (json_is_integer(v)) {
        exj_table_add_number(t, json_integer_value(v));
    } else if (json_is_real(v)) {
        snprintf(number, sizeof(number), "%g", json_real_value(v));
        exj_table_add(t, number);
    } else {
        exj_table_add(t, NULL);
    }
}

static void status_rows(exj_cli *c, json_t *status)
{
    exj_table t = EXJ_TABLE("WHAT", "VALUE");
    const char *key;
    json_t *v;

    json_object_foreach(status, key, v) {
        if (json_is_object(v) || (json_is_array(v) && !json_is_string(json_array_get(v, 0))))
            continue;
        exj_table_add(&t, key);
        if (json_is_array(v))
            add_joined(&t, v);
        else
            add_scalar(&t, v);
    }
    exj_table_print(&t, c->color);
}

/* Beside a daemon: what it does, and the matrices' rows. Without one: the rows alone. */
exj_exit exj_cmd_status(exj_cli *c)
{
    const char *only = c->flags[EXJ_CLI_MATRIX];
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json worker = { 0 }, matrices = { 0 };
    exj_buf query = EXJ_BUF_INIT;
    exj_err err = { 0 };
    json_t *list = NULL, *m, *body = NULL;
    exj_exit status = EXJ_EXIT_OK;
    size_t i;

    if (only) {
        exj_buf_add_text(&query, "matrixCatalogId=");
        exj_add_encoded(&query, only);
    }
    if (query.failed)
        exj_err_set(&err, EXJ_NOMEM, "out of memory");
    else
        exj_call_api(&r, "GET", "/workers/status", only ? query.p : "", (exj_slice){ 0 },
                     &worker, &err);
    if (err.code != EXJ_OK) {
        status = exj_fail_err(c, &err);
        goto out;
    }
    if (worker.status >= 400 && r.daemon) {
        status = exj_answer_fail(c, &worker);
        goto out;
    }
    status = exj_ask(&r, "GET", "/matrices", "", (exj_slice){ 0 }, &matrices);
    if (status != EXJ_EXIT_OK)
        goto out;
    list = json_array();
    json_array_foreach(json_object_get(matrices.body, "matrices"), i, m) {
        const char *id = text_of(m, "matrixCatalogId");

        if (!only || (id && strcmp(id, only) == 0))
            json_array_append(list, m);
    }
    if (only && json_array_size(list) == 0) {
        status = exj_fail(c, EXJ_EXIT_NOT_FOUND, "no matrix \"%s\"", only);
        goto out;
    }
    body = json_pack("{s:b,s:s,s:O?,s:O}", "running", (int)r.daemon, "dataDir",
                     exj_settings_text(&c->settings, EXJ_SET_DATA_DIR), "worker",
                     r.daemon ? worker.body : NULL, "matrices", list);
    if (c->json) {
        status = exj_out_json(c, body, false);
        goto out;
    }
    if (r.daemon)
        status_rows(c, worker.body);
    else
        exj_tell(c, "no worker runs on %s; these are the rows in its store",
                 exj_settings_text(&c->settings, EXJ_SET_DATA_DIR));
    if (r.daemon && json_array_size(list))
        putchar('\n');
    matrix_rows(c, body);
out:
    json_decref(list);
    json_decref(body);
    exj_buf_release(&query);
    exj_answer_json_release(&worker);
    exj_answer_json_release(&matrices);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

static exj_exit tell_worker(exj_cli *c, const char *path, const char *said)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json a;
    exj_exit status;

    r.only_daemon = true;
    status = exj_ask(&r, "POST", path, "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            puts(said);
        exj_answer_json_release(&a);
    }
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_pause(exj_cli *c)
{
    return tell_worker(c, "/workers/pause", "paused");
}

exj_exit exj_cmd_resume(exj_cli *c)
{
    return tell_worker(c, "/workers/resume", "resumed");
}

/* ---- settings and version --------------------------------------------------------------- */

exj_exit exj_cmd_config(exj_cli *c)
{
    exj_table t = EXJ_TABLE("SETTING", "VALUE", "ORIGIN");
    json_t *list = json_array(), *body = NULL;
    exj_exit status = EXJ_EXIT_OK;

    for (int i = 0; i < EXJ_SETTING_COUNT; i++) {
        exj_buf value = EXJ_BUF_INIT, origin = EXJ_BUF_INIT;
        exj_err err = { 0 };

        if (exj_settings_show(&c->settings, (exj_setting)i, &value, &origin, &err) != EXJ_OK) {
            status = exj_fail_err(c, &err);
        } else if (c->json) {
            json_array_append_new(
                list, json_pack("{s:s,s:s?,s:s,s:s*}", "name", exj_setting_infos[i].name,
                                "value", c->settings.at[i].text ? value.p : NULL, "origin",
                                origin.p, "flag", exj_setting_infos[i].flag));
        } else {
            exj_table_add(&t, exj_setting_infos[i].name);
            exj_table_add(&t, value.p);
            exj_table_add(&t, origin.p);
        }
        exj_buf_release(&value);
        exj_buf_release(&origin);
    }
    body = json_pack("{s:O}", "settings", list);
    if (c->json)
        status = exj_out_json(c, body, false);
    else
        exj_table_print(&t, c->color);
    json_decref(list);
    json_decref(body);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_version(exj_cli *c)
{
    if (c->json)
        printf("{\"name\":\"exellix-jobs\",\"version\":\"%s\",\"pluginAbi\":\"%u.%u\"}\n",
               EXJ_VERSION, EXJ_ABI_MAJOR, EXJ_ABI_MINOR);
    else
        printf("exellix-jobs %s (plugin ABI %u.%u)\n", EXJ_VERSION, EXJ_ABI_MAJOR,
               EXJ_ABI_MINOR);
    return exj_out_finish(c, EXJ_EXIT_OK);
}
