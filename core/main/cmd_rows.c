/* Commands about rows: lists of them, and orders to one. (cmd_journal.c shows one.) */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
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

/* ---- orders to one row -------------------------------------------------------------------- */

#define PAYLOAD_MAX (64u * 1024u) /* core/http/api_row_orders.c refuses more */

/* Ask METHOD /rows/ROW/`suffix`; print the answer as JSON, or by `print`. */
static exj_exit order(exj_cli *c, const char *suffix, const char *name, exj_slice body,
                      void (*print)(const exj_cli *c, const json_t *body))
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_exit status;

    exj_buf_add_text(&path, "/rows/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_add_text(&path, suffix);
    if (name)
        exj_add_encoded(&path, name);
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(&r, "POST", path.p, "", body, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* {"member":"text"}, or nothing when the flag was not given. */
static exj_exit order_with(exj_cli *c, const char *suffix, const char *member, exj_flag flag,
                           void (*print)(const exj_cli *c, const json_t *body))
{
    exj_buf body = EXJ_BUF_INIT;
    exj_exit status;

    if (c->flags[flag]) {
        exj_buf_printf(&body, "{\"%s\":", member);
        exj_buf_add_json_string(&body, exj_slice_of(c->flags[flag]));
        exj_buf_add_char(&body, '}');
    }
    status = body.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : order(c, suffix, NULL, exj_buf_slice(&body), print);
    exj_buf_release(&body);
    return status;
}

static void print_queued(const exj_cli *c, const json_t *body)
{
    const json_t *kept = json_object_get(body, "stepsKept");

    printf("%s queued", c->args[0]);
    if (kept)
        printf("; %" PRId64 " finished steps kept, %" PRId64 " forgotten",
               (int64_t)json_integer_value(kept),
               (int64_t)json_integer_value(json_object_get(body, "stepsDropped")));
    putchar('\n');
}

exj_exit exj_cmd_rows_retry(exj_cli *c)
{
    return order(c, "/retry", NULL, (exj_slice){ 0 }, print_queued);
}

exj_exit exj_cmd_rows_rerun(exj_cli *c)
{
    return order_with(c, "/rerun", "fromStep", EXJ_CLI_FROM, print_queued);
}

static void print_canceled(const exj_cli *c, const json_t *body)
{
    if (strcmp(text_of(body, "outcome"), "asked") == 0)
        printf("%s runs: it was asked to stop\n", c->args[0]);
    else
        printf("%s canceled\n", c->args[0]);
}

exj_exit exj_cmd_rows_cancel(exj_cli *c)
{
    return order_with(c, "/cancel", "reason", EXJ_CLI_REASON, print_canceled);
}

static void print_signal(const exj_cli *c, const json_t *body)
{
    if (strcmp(text_of(body, "outcome"), "delivered") == 0)
        printf("%s has signal %s and is %s\n", c->args[0], c->args[1], text_of(body, "status"));
    else
        printf("%s is %s: signal %s is kept until it waits for it\n", c->args[0],
               text_of(body, "status"), c->args[1]);
}

/* False: said why. */
static bool read_payload(exj_cli *c, const char *path, exj_buf *ret)
{
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "re");
    size_t n = 1;
    bool good = f && exj_buf_reserve(ret, PAYLOAD_MAX + 2);

    while (good && n && ret->n <= PAYLOAD_MAX) {
        n = fread(ret->p + ret->n, 1, PAYLOAD_MAX + 1 - ret->n, f);
        ret->n += n;
    }
    good = good && !ferror(f);
    if (!good)
        exj_fail(c, EXJ_EXIT_FAILED, "cannot read %.300s: %s", path, strerror(errno));
    else if (ret->n > PAYLOAD_MAX)
        exj_fail(c, EXJ_EXIT_INVALID, "%.300s: a signal's payload has at most %u bytes", path,
                 PAYLOAD_MAX);
    if (f && !from_stdin)
        fclose(f);
    return good && ret->n <= PAYLOAD_MAX;
}

exj_exit exj_cmd_rows_signal(exj_cli *c)
{
    exj_buf body = EXJ_BUF_INIT;
    exj_exit status = EXJ_EXIT_INVALID;

    if (!c->flags[EXJ_CLI_FILE] || read_payload(c, c->flags[EXJ_CLI_FILE], &body))
        status = order(c, "/signals/", c->args[1], exj_buf_slice(&body), print_signal);
    exj_buf_release(&body);
    return status;
}
