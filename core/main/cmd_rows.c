/* Commands about rows. */
#include <inttypes.h>
#include <stdio.h>

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

static void print_page(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("ROW", "STATUS", "ATTEMPTS", "CREATED", "FINISHED", "ERROR");
    json_t *row, *next = json_object_get(body, "next");
    size_t i;

    json_array_foreach(json_object_get(body, "rows"), i, row) {
        const json_t *error = json_object_get(row, "error");
        char attempts[48];

        snprintf(attempts, sizeof(attempts), "%" PRId64 "/%" PRId64,
                 (int64_t)json_integer_value(json_object_get(row, "attempts")),
                 (int64_t)json_integer_value(json_object_get(row, "maxAttempts")));
        exj_table_add(&t, text_of(row, "matrixRowId"));
        exj_table_add(&t, text_of(row, "status"));
        exj_table_add(&t, attempts);
        exj_table_add(&t, text_of(row, "createdAt"));
        exj_table_add(&t, text_of(row, "finishedAt"));
        exj_table_add(&t, text_of(error, "message"));
    }
    exj_table_print(&t, c->color);
    if (json_is_integer(next))
        exj_tell(c, "more: --after %" PRId64, (int64_t)json_integer_value(next));
}

exj_exit exj_cmd_rows_list(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf q = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_err err = { 0 };
    exj_exit status;
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 1000, 100, &n, &err) != EXJ_OK ||
        exj_cli_number(c, EXJ_CLI_AFTER, 0, INT64_MAX, 0, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    add_param(&q, "matrixCatalogId", c->flags[EXJ_CLI_MATRIX]);
    add_param(&q, "graphId", c->flags[EXJ_CLI_GRAPH]);
    add_param(&q, "matrixRunId", c->flags[EXJ_CLI_RUN]);
    add_param(&q, "status", c->flags[EXJ_CLI_STATUS]);
    add_param(&q, "limit", c->flags[EXJ_CLI_LIMIT]);
    add_param(&q, "after", c->flags[EXJ_CLI_AFTER]);
    status = q.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                      : exj_ask(&r, "GET", "/rows", q.n ? q.p : "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print_page(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&q);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

static exj_exit one_row(exj_cli *c, const char *method, const char *suffix, bool show)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_exit status;

    exj_buf_add_text(&path, "/rows/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_add_text(&path, suffix);
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(&r, method, path.p, "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (show || c->json)
            status = exj_out_json(c, a.body, !c->json);
        else
            printf("%s queued\n", c->args[0]);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_rows_show(exj_cli *c)
{
    return one_row(c, "GET", "", true);
}

exj_exit exj_cmd_rows_retry(exj_cli *c)
{
    return one_row(c, "POST", "/retry", false);
}
