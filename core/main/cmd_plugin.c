/* Commands about plugins and their files: none of them needs a store. */
#include <stdio.h>
#include <stdlib.h>

#include "core/main/cmd_plugin.h"
#include "core/main/reach.h"
#include "core/plugin/check.h"

#define CHECK_LEVEL 3
#define CHECK_TIMEOUT_MS 30000u
#define CONFIG_MAX (1024u * 1024u)

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void add_list(exj_table *t, const json_t *list)
{
    exj_buf b = EXJ_BUF_INIT;
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
        exj_buf_printf(&b, "%s%s", i ? "," : "", json_string_value(item));
    exj_table_add(t, b.p);
    exj_buf_release(&b);
}

static exj_exit ask(exj_cli *c, exj_reach *r, const char *path, exj_answer_json *ret)
{
    exj_err err = { 0 };
    exj_exit status;

    if (exj_call_plugins(r, path, "load=true", ret, &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    if (ret->status < 400)
        return EXJ_EXIT_OK;
    status = exj_answer_fail(c, ret);
    exj_answer_json_release(ret);
    return status;
}

static void print_files(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("PLUGIN", "VERSION", "KIND", "FLAGS", "STATE", "FILE");
    json_t *p;
    size_t i;

    json_array_foreach(json_object_get(body, "plugins"), i, p) {
        const char *id = text_of(p, "id"), *error = text_of(p, "error");

        exj_table_add(&t, id && *id ? id : text_of(p, "name"));
        exj_table_add(&t, text_of(p, "version"));
        exj_table_add(&t, text_of(p, "kind"));
        add_list(&t, json_object_get(p, "flags"));
        exj_table_add(&t, error ? "refused" : "ok");
        exj_table_add(&t, text_of(p, "path"));
        if (error)
            exj_tell(c, "exellix-jobs: refused: %s", error);
    }
    exj_table_print(&t, c->color);
}

/* Beside a worker: what it has loaded. Without one: what lies in the folders. */
exj_exit exj_cmd_plugin_list(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c), worker = EXJ_REACH_INIT(c);
    exj_answer_json a = { 0 };
    exj_err none = { 0 };
    exj_exit status;

    worker.only_daemon = true;
    if (exj_call_api(&worker, "GET", "/plugins", "", (exj_slice){ 0 }, &a, &none) == EXJ_OK &&
        a.status < 400)
        status = EXJ_EXIT_OK;
    else if (a.status)
        status = exj_answer_fail(c, &a);
    else if (worker.daemon)
        status = exj_fail_err(c, &none);
    else
        status = ask(c, &r, "/plugins", &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else if (worker.daemon)
            exj_print_generations(c, a.body);
        else
            print_files(c, a.body);
    }
    exj_answer_json_release(&a);
    exj_reach_release(&worker);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* A path is not in the directories: look at it with its folder as the only one. */
static exj_exit inspect_path(exj_cli *c, exj_reach *r, const char *file, exj_answer_json *ret)
{
    char *real = realpath(file, NULL), *slash;
    exj_buf path = EXJ_BUF_INIT;
    const char *dirs[2] = { NULL, NULL };
    exj_err err = { 0 };
    exj_exit status;

    if (!real)
        return exj_fail(c, EXJ_EXIT_NOT_FOUND, "no file \"%s\"", file);
    slash = strrchr(real, '/');
    *slash = '\0';
    dirs[0] = slash == real ? "/" : real;
    exj_buf_add_text(&path, "/plugins/");
    if (strlen(slash + 1) > 3 && strcmp(slash + strlen(slash + 1) - 2, ".so") == 0)
        slash[strlen(slash + 1) - 2] = '\0';
    exj_add_encoded(&path, slash + 1);
    if (path.failed || exj_house_open(&r->house, &c->settings, &err) != EXJ_OK ||
        exj_house_registry(&r->house, dirs, NULL, &r->plugins, &err) != EXJ_OK)
        status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                             : exj_fail_err(c, &err);
    else
        status = ask(c, r, path.p, ret);
    exj_buf_release(&path);
    free(real);
    return status;
}

static exj_exit inspect_name(exj_cli *c, exj_reach *r, const char *name, exj_answer_json *ret)
{
    exj_buf path = EXJ_BUF_INIT;
    size_t n = strlen(name);
    char *bare = strndup(name, n > 3 && strcmp(name + n - 3, ".so") == 0 ? n - 3 : n);
    exj_exit status;

    exj_buf_add_text(&path, "/plugins/");
    exj_add_encoded(&path, bare ? bare : "");
    status = !bare || path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                                  : ask(c, r, path.p, ret);
    exj_buf_release(&path);
    free(bare);
    return status;
}

exj_exit exj_cmd_plugin_inspect(exj_cli *c)
{
    const char *name = c->args[0];
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json a = { 0 };
    exj_exit status = strchr(name, '/') ? inspect_path(c, &r, name, &a)
                                        : inspect_name(c, &r, name, &a);

    if (status == EXJ_EXIT_OK) {
        const char *error = text_of(a.body, "error");

        status = exj_out_json(c, a.body, !c->json);
        if (error)
            status = exj_fail(c, EXJ_EXIT_INVALID, "refused: %s", error);
        exj_answer_json_release(&a);
    }
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

static void print_report(exj_cli *c, const json_t *report)
{
    exj_table t = EXJ_TABLE("LEVEL", "CODE", "MESSAGE");
    json_t *f;
    size_t i;

    json_array_foreach(json_object_get(report, "findings"), i, f) {
        const char *fix = text_of(f, "fix");
        exj_buf b = EXJ_BUF_INIT;

        exj_table_add(&t, text_of(f, "level"));
        exj_table_add(&t, text_of(f, "code"));
        exj_buf_printf(&b, "%s%s%s", text_of(f, "message"), fix && *fix ? "; " : "",
                       fix ? fix : "");
        exj_table_add(&t, b.p);
        exj_buf_release(&b);
    }
    exj_table_print(&t, c->color);
}

/* What --config gives, checked; "{}" without. */
static exj_code take_config(const exj_cli *c, exj_buf *ret, exj_err *err)
{
    const char *given = c->flags[EXJ_CLI_CONFIG] ? c->flags[EXJ_CLI_CONFIG] : "{}";
    exj_json_kind kind;
    exj_code rc = EXJ_OK;

    if (given[0] == '{')
        exj_buf_add_text(ret, given);
    else
        rc = exj_tool_read(given, CONFIG_MAX, ret, err);
    if (!rc && (ret->failed || !ret->p))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (!rc && (rc = exj_json_check(exj_buf_slice(ret), EXJ_JSON_MAX_DEPTH, &kind, err)) != EXJ_OK)
        exj_err_prefix(err, "--config");
    if (!rc && kind != EXJ_JSON_OBJECT)
        rc = exj_err_set(err, EXJ_INVALID, "--config: wanted a JSON object");
    return rc;
}

exj_exit exj_cmd_plugin_check(exj_cli *c)
{
    exj_buf config = EXJ_BUF_INIT;
    json_t *report = NULL;
    exj_err err = { 0 };
    exj_exit status = EXJ_EXIT_OK;
    int64_t level;
    char *file;

    if (exj_cli_number(c, EXJ_CLI_LEVEL, 1, EXJ_CHECK_LEVELS, CHECK_LEVEL, &level, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    file = exj_tool_find_plugin(c, c->args[0]);
    if (!file)
        return exj_fail(c, EXJ_EXIT_NOT_FOUND,
                        "no file \"%s\", neither here nor in the plugins directories",
                        c->args[0]);
    if (take_config(c, &config, &err) != EXJ_OK ||
        exj_plugin_check(c->settings.exe, EXJ_PLUGIN_CHECK_WORD, file, (int)level, config.p,
                         CHECK_TIMEOUT_MS, &report, &err) != EXJ_OK) {
        exj_buf_release(&config);
        free(file);
        return exj_fail_err(c, &err);
    }
    exj_buf_release(&config);
    if (c->json)
        status = exj_out_json(c, report, false);
    else
        print_report(c, report);
    if (status == EXJ_EXIT_OK && !json_is_true(json_object_get(report, "ok")))
        status = c->json ? EXJ_EXIT_INVALID
                         : exj_fail(c, EXJ_EXIT_INVALID, "%s did not pass", file);
    json_decref(report);
    free(file);
    return exj_out_finish(c, status);
}
