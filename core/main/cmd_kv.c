/* Commands about the keys that plugins keep for a graph. */
#include <stdio.h>
#include <unistd.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void add_param(exj_buf *q, const char *name, const char *value)
{
    if (!value)
        return;
    exj_buf_printf(q, "%s%s=", q->n ? "&" : "", name);
    exj_add_encoded(q, value);
}

static exj_exit print_page(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("KEY", "VALUE", "UPDATED", "WRITTEN BY");
    const char *next = text_of(body, "next");
    exj_buf value = EXJ_BUF_INIT;
    json_t *key;
    size_t i;

    json_array_foreach(json_object_get(body, "keys"), i, key) {
        exj_buf_reset(&value);
        if (exj_json_print(json_object_get(key, "value"), false, &value, NULL) != EXJ_OK) {
            t.failed = true;
            break;
        }
        exj_table_add(&t, text_of(key, "key"));
        exj_table_add(&t, value.p);
        exj_table_add(&t, text_of(key, "updatedAt"));
        exj_table_add(&t, text_of(key, "writtenBy"));
    }
    exj_buf_release(&value);
    exj_table_print(&t, c->color);
    if (next)
        exj_tell(c, "more: --after '%s'", next);
    return EXJ_EXIT_OK;
}

static exj_exit ask(exj_cli *c, const char *method, const exj_buf *query,
                    exj_exit (*print)(exj_cli *c, const json_t *body))
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_exit status;

    exj_buf_add_text(&path, "/graphs/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_add_text(&path, "/kv");
    status = path.failed || query->failed
                 ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                 : exj_ask(&r, method, path.p, query->n ? query->p : "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        status = c->json ? exj_out_json(c, a.body, false) : print(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_kv_list(exj_cli *c)
{
    exj_buf q = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_exit status;
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 1000, 100, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    add_param(&q, "limit", c->flags[EXJ_CLI_LIMIT]);
    add_param(&q, "after", c->flags[EXJ_CLI_AFTER]);
    status = ask(c, "GET", &q, print_page);
    exj_buf_release(&q);
    return status;
}

static exj_exit print_value(exj_cli *c, const json_t *body)
{
    return exj_out_json(c, json_object_get(body, "value"), true);
}

exj_exit exj_cmd_kv_get(exj_cli *c)
{
    exj_buf q = EXJ_BUF_INIT;
    exj_exit status;

    add_param(&q, "key", c->args[1]);
    status = ask(c, "GET", &q, print_value);
    exj_buf_release(&q);
    return status;
}

static exj_exit print_deleted(exj_cli *c, const json_t *body)
{
    (void)body;
    printf("%s of graph %s deleted\n", c->args[1], c->args[0]);
    return EXJ_EXIT_OK;
}

exj_exit exj_cmd_kv_delete(exj_cli *c)
{
    exj_buf q = EXJ_BUF_INIT;
    char line[16] = "";
    exj_exit status;

    if (!c->flags[EXJ_CLI_YES]) {
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
            return exj_fail(c, EXJ_EXIT_USAGE,
                            "'%s' needs --yes when there is no terminal to ask on",
                            c->command->words);
        fprintf(stderr, "Delete key %s of graph %s? [y/N] ", c->args[1], c->args[0]);
        if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
            return exj_fail(c, EXJ_EXIT_FAILED, "not deleted");
    }
    add_param(&q, "key", c->args[1]);
    status = ask(c, "DELETE", &q, print_deleted);
    exj_buf_release(&q);
    return status;
}
