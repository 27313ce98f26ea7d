/* Commands about schedules. */
#include <inttypes.h>
#include <stdio.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void add_when(exj_table *t, const json_t *schedule)
{
    const char *cron = text_of(schedule, "cron"), *zone = text_of(schedule, "zone");
    int64_t every = json_integer_value(json_object_get(schedule, "everySeconds"));
    exj_buf b = EXJ_BUF_INIT;

    if (cron)
        exj_buf_printf(&b, "%s %s", cron, zone ? zone : "UTC");
    else if (every)
        exj_buf_printf(&b, "every %" PRId64 " s", every);
    exj_table_add(t, b.p);
    exj_buf_release(&b);
}

static void print_list(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("SCHEDULE", "WHEN", "STARTS", "NEXT", "LAST", "FIRED", "SKIPPED",
                            "ERROR");
    json_t *s;
    size_t i;

    json_array_foreach(json_object_get(body, "schedules"), i, s) {
        const char *by = text_of(s, "pausedBy");
        char next[64] = "";

        if (by)
            snprintf(next, sizeof(next), "paused (%s)", by);
        exj_table_add(&t, text_of(s, "scheduleId"));
        add_when(&t, s);
        exj_table_add(&t, text_of(s, "matrixCatalogId"));
        exj_table_add(&t, by ? next : text_of(s, "nextTick"));
        exj_table_add(&t, text_of(s, "lastTick"));
        exj_table_add_number(&t, json_integer_value(json_object_get(s, "fired")));
        exj_table_add_number(&t, json_integer_value(json_object_get(s, "skipped")));
        exj_table_add(&t, text_of(json_object_get(s, "error"), "message"));
    }
    exj_table_print(&t, c->color);
    if (text_of(body, "next"))
        exj_tell(c, "more: --after %s", text_of(body, "next"));
}

exj_exit exj_cmd_schedules_list(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf q = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_err err = { 0 };
    exj_exit status;
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 1000, 100, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    exj_buf_printf(&q, "limit=%" PRId64, n);
    if (c->flags[EXJ_CLI_AFTER]) {
        exj_buf_add_text(&q, "&after=");
        exj_add_encoded(&q, c->flags[EXJ_CLI_AFTER]);
    }
    status = q.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                      : exj_ask(&r, "GET", "/schedules", q.p, (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print_list(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&q);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

static void print_one(exj_cli *c, const json_t *s)
{
    exj_table t = EXJ_TABLE("NEXT", "LOCAL");
    const char *error = text_of(json_object_get(s, "error"), "message");
    exj_buf when = EXJ_BUF_INIT;
    json_t *tick;
    size_t i;

    if (text_of(s, "cron"))
        exj_buf_printf(&when, "%s %s", text_of(s, "cron"), text_of(s, "zone"));
    else
        exj_buf_printf(&when, "every %" PRId64 " s",
                       (int64_t)json_integer_value(json_object_get(s, "everySeconds")));
    if (c->color) { /* heads for people; a table alone for programs */
        const char *by = text_of(s, "pausedBy"), *last = text_of(s, "lastTick");

        printf("%s: %s, starts %s%s%s\n", text_of(s, "scheduleId"), when.p ? when.p : "",
               json_is_true(json_object_get(s, "run")) ? "a cycle of " : "rows of ",
               text_of(s, "matrixCatalogId") ? text_of(s, "matrixCatalogId") : "?",
               by ? ", PAUSED" : "");
        printf("last tick %s, fired %" PRId64 ", skipped %" PRId64 "\n", last ? last : "none",
               (int64_t)json_integer_value(json_object_get(s, "fired")),
               (int64_t)json_integer_value(json_object_get(s, "skipped")));
    }
    json_array_foreach(json_object_get(s, "nextTicks"), i, tick) {
        exj_table_add(&t, text_of(tick, "at"));
        exj_table_add(&t, text_of(tick, "local"));
    }
    exj_table_print(&t, c->color);
    if (text_of(s, "pausedBy"))
        exj_tell(c, "it is paused (%s): none of these fires", text_of(s, "pausedBy"));
    if (error)
        exj_tell(c, "its last tick could not start: %s", error);
    exj_buf_release(&when);
}

static exj_exit one(exj_cli *c, const char *method, const char *suffix, const char *query,
                    void (*print)(exj_cli *c, const json_t *body))
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_exit status;

    exj_buf_add_text(&path, "/schedules/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_add_text(&path, suffix);
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(&r, method, path.p, query, (exj_slice){ 0 }, &a);
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

exj_exit exj_cmd_schedules_show(exj_cli *c)
{
    exj_err err = { 0 };
    char query[40];
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 1000, 10, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    snprintf(query, sizeof(query), "next=%" PRId64, n);
    return one(c, "GET", "", query, print_one);
}

static void print_paused(exj_cli *c, const json_t *body)
{
    const char *next = text_of(body, "nextTick");

    if (json_is_true(json_object_get(body, "paused")))
        printf("%s paused\n", c->args[0]);
    else
        printf("%s resumed; next tick %s\n", c->args[0], next ? next : "none");
}

exj_exit exj_cmd_schedules_pause(exj_cli *c)
{
    return one(c, "POST", "/pause", "", print_paused);
}

exj_exit exj_cmd_schedules_resume(exj_cli *c)
{
    return one(c, "POST", "/resume", "", print_paused);
}

static void print_triggered(exj_cli *c, const json_t *body)
{
    json_t *row;
    size_t i;

    if (text_of(body, "matrixRunId"))
        printf("%s: a cycle of %s as run %s\n", c->args[0], text_of(body, "matrixCatalogId"),
               text_of(body, "matrixRunId"));
    json_array_foreach(json_object_get(body, "rows"), i, row)
        printf("%s %s\n", text_of(row, "matrixRowId"), text_of(row, "status"));
}

exj_exit exj_cmd_schedules_trigger(exj_cli *c)
{
    return one(c, "POST", "/trigger", "", print_triggered);
}
