/* Commands about the events that a sink gave up. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void print_page(exj_cli *c, const json_t *body)
{
    exj_table t = EXJ_TABLE("ID", "SINK", "EVENT", "KIND", "ROW", "TRIES", "SINCE", "ERROR");
    json_t *item, *next = json_object_get(body, "next");
    char id[24], number[24], tries[24];
    size_t i;

    json_array_foreach(json_object_get(body, "deadLetters"), i, item) {
        snprintf(id, sizeof(id), "%" PRId64, (int64_t)json_integer_value(json_object_get(item, "id")));
        snprintf(number, sizeof(number), "%" PRId64,
                 (int64_t)json_integer_value(json_object_get(item, "number")));
        snprintf(tries, sizeof(tries), "%" PRId64,
                 (int64_t)json_integer_value(json_object_get(item, "tries")));
        exj_table_add(&t, id);
        exj_table_add(&t, text_of(item, "sink"));
        exj_table_add(&t, number);
        exj_table_add(&t, text_of(item, "kind"));
        exj_table_add(&t, text_of(item, "matrixRowId"));
        exj_table_add(&t, tries);
        exj_table_add(&t, text_of(item, "since"));
        exj_table_add(&t, text_of(item, "error"));
    }
    exj_table_print(&t, c->color);
    if (json_is_integer(next))
        exj_tell(c, "more: --after %" PRId64, (int64_t)json_integer_value(next));
}

exj_exit exj_cmd_dead_letters_list(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_answer_json a = { 0 };
    char query[80];
    int64_t limit, after;
    exj_err err = { 0 };
    exj_exit status;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 1, 999, 100, &limit, &err) != EXJ_OK ||
        exj_cli_number(c, EXJ_CLI_AFTER, 0, INT64_MAX, 0, &after, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    snprintf(query, sizeof(query), "limit=%" PRId64 "&after=%" PRId64, limit, after);
    status = exj_ask(&r, "GET", "/dead-letters", query, (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print_page(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* `said`: printed with the id when it went well; NULL: the whole answer. */
static exj_exit ask_about(exj_cli *c, const char *method, const char *after, const char *said)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a = { 0 };
    exj_exit status;

    exj_buf_add_text(&path, "/dead-letters/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_add_text(&path, after);
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(&r, method, path.p, "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json || !said)
            status = exj_out_json(c, a.body, !c->json);
        else
            printf("dead letter %s %s\n", c->args[0], said);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_dead_letters_show(exj_cli *c)
{
    return ask_about(c, "GET", "", NULL);
}

exj_exit exj_cmd_dead_letters_replay(exj_cli *c)
{
    return ask_about(c, "POST", "/replay", "goes to its sink again");
}

exj_exit exj_cmd_dead_letters_drop(exj_cli *c)
{
    char line[16] = "";

    if (!c->flags[EXJ_CLI_YES]) {
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
            return exj_fail(c, EXJ_EXIT_USAGE,
                            "'%s' needs --yes when there is no terminal to ask on",
                            c->command->words);
        fprintf(stderr, "Drop dead letter %s for good? [y/N] ", c->args[0]);
        if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
            return exj_fail(c, EXJ_EXIT_FAILED, "not dropped");
    }
    return ask_about(c, "DELETE", "", "dropped");
}
