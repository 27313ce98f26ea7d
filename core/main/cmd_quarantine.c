/* Commands about what was set aside because it crashes. */
#include <inttypes.h>
#include <stdio.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* Plugins first: one that is released may make its rows worth a retry. */
static void print_all(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("KIND", "NAME", "VERSION", "HASH", "SINCE", "WHY");
    json_t *item, *next = json_object_get(body, "next");
    char hash[13];
    size_t i;

    json_array_foreach(json_object_get(body, "plugins"), i, item) {
        snprintf(hash, sizeof(hash), "%s", text_of(item, "sha256"));
        exj_table_add(&t, "plugin");
        exj_table_add(&t, text_of(item, "id"));
        exj_table_add(&t, text_of(item, "version"));
        exj_table_add(&t, hash);
        exj_table_add(&t, text_of(item, "at"));
        exj_table_add(&t, text_of(item, "why"));
    }
    json_array_foreach(json_object_get(body, "rows"), i, item) {
        exj_table_add(&t, "row");
        exj_table_add(&t, text_of(item, "matrixRowId"));
        exj_table_add(&t, NULL);
        exj_table_add(&t, NULL);
        exj_table_add(&t, text_of(item, "finishedAt"));
        exj_table_add(&t, text_of(json_object_get(item, "error"), "message"));
    }
    exj_table_print(&t, c->color);
    if (json_is_integer(next))
        exj_tell(c, "more rows: --after %" PRId64, (int64_t)json_integer_value(next));
}

exj_exit exj_cmd_quarantine_list(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json a = { 0 };
    char query[80];
    int64_t limit, after;
    exj_err err = { 0 };
    exj_exit status;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 1000, 100, &limit, &err) != EXJ_OK ||
        exj_cli_number(c, EXJ_CLI_AFTER, 0, INT64_MAX, 0, &after, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    snprintf(query, sizeof(query), "limit=%" PRId64 "&after=%" PRId64, limit, after);
    r.with_house = true;
    status = exj_ask(&r, "GET", "/quarantine", query, (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print_all(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

static void print_released(exj_cli *c, const json_t *body)
{
    json_t *item;
    size_t i;

    (void)c;
    json_array_foreach(json_object_get(body, "released"), i, item)
        printf("%s %s (%.12s) may run again\n", text_of(item, "plugin"),
               text_of(item, "version"), text_of(item, "sha256"));
}

static void print_queued(exj_cli *c, const json_t *body)
{
    (void)c;
    printf("%s queued\n", text_of(body, "matrixRowId"));
}

/* POST `before`NAME`after`. */
static exj_exit release(exj_cli *c, exj_reach *r, const char *before, const char *name,
                        const char *after, void (*print)(exj_cli *, const json_t *))
{
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a = { 0 };
    exj_exit status;

    exj_buf_add_text(&path, before);
    exj_add_encoded(&path, name);
    exj_buf_add_text(&path, after);
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(r, "POST", path.p, "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_reach_release(r);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_plugin_release(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);

    r.with_house = r.without_store = true;
    return release(c, &r, "/quarantine/plugins/", c->args[0], "/release", print_released);
}

exj_exit exj_cmd_quarantine_release(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    const char *row = c->flags[EXJ_CLI_ROW];

    if ((row != NULL) == (c->args_len > 0))
        return exj_fail(c, EXJ_EXIT_USAGE, "'%s' needs a plugin (or its SHA-256), or --row ID%s",
                        c->command->words, row ? ", not both" : "");
    if (row)
        return release(c, &r, "/rows/", row, "/retry", print_queued);
    return exj_cmd_plugin_release(c);
}
