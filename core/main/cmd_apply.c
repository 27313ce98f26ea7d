/* apply and delete: config documents in and out. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "core/main/documents.h"
#include "core/main/reach.h"

static void tell_mistake(void *user, const char *line)
{
    exj_fail(user, EXJ_EXIT_INVALID, "%s", line);
}

static exj_exit put(exj_reach *r, const exj_input_doc *d, bool dry_run, exj_answer_json *ret)
{
    exj_buf path = EXJ_BUF_INIT;
    exj_exit status;
    exj_err err = { 0 };

    exj_buf_add_text(&path, exj_input_doc_path(d->kind));
    exj_add_encoded(&path, d->id);
    *ret = (exj_answer_json){ 0 };
    if (path.failed)
        exj_err_set(&err, EXJ_NOMEM, "out of memory");
    else
        exj_call_api(r, "PUT", path.p, dry_run ? "dryRun=true" : "", exj_slice_of(d->text),
                     ret, &err);
    exj_buf_release(&path);
    if (err.code == EXJ_OK && ret->status < 400)
        return EXJ_EXIT_OK;
    if (err.code != EXJ_OK) {
        exj_err_prefix(&err, "%s", d->where);
        status = exj_fail_err(r->cli, &err);
    } else {
        status = exj_answer_fail(r->cli, ret);
    }
    exj_answer_json_release(ret);
    return status;
}

static void print_side(const json_t *v)
{
    if (v && !json_is_null(v))
        json_dumpf(v, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
    else
        fputs("(absent)", stdout);
}

static void print_action(const json_t *a)
{
    json_t *change;
    size_t i;

    printf("%s %s %s (version %" PRId64 ")%s\n",
           json_string_value(json_object_get(a, "kind")),
           json_string_value(json_object_get(a, "id")),
           json_string_value(json_object_get(a, "action")),
           (int64_t)json_integer_value(json_object_get(a, "version")),
           json_is_true(json_object_get(a, "dryRun")) ? " (dry run)" : "");
    if (strcmp(json_string_value(json_object_get(a, "action")), "created") == 0)
        return;
    json_array_foreach(json_object_get(a, "changes"), i, change) {
        printf("  %s: ", json_string_value(json_object_get(change, "path")));
        print_side(json_object_get(change, "from"));
        fputs(" -> ", stdout);
        print_side(json_object_get(change, "to"));
        putchar('\n');
    }
}

/* Each one checked by whoever holds the store, nothing written. */
static exj_exit rehearse(exj_reach *r, const exj_input_docs *docs, json_t *list)
{
    exj_exit first = EXJ_EXIT_OK;

    for (size_t i = 0; i < docs->len; i++) {
        exj_answer_json a;
        exj_exit status = put(r, &docs->items[i], true, &a);

        if (status == EXJ_EXIT_OK && list)
            json_array_append(list, a.body);
        if (first == EXJ_EXIT_OK)
            first = status;
        exj_answer_json_release(&a);
        if (status == EXJ_EXIT_UNREACHABLE)
            break;
    }
    return first;
}

static exj_exit apply(exj_reach *r, const exj_input_docs *docs, json_t *list)
{
    for (size_t i = 0; i < docs->len; i++) {
        exj_answer_json a;
        exj_exit status = put(r, &docs->items[i], false, &a);

        if (status != EXJ_EXIT_OK) {
            if (i)
                exj_tell(r->cli, "exellix-jobs: %zu of %zu documents were applied before that",
                         i, docs->len);
            return status;
        }
        json_array_append(list, a.body);
        exj_answer_json_release(&a);
    }
    return EXJ_EXIT_OK;
}

exj_exit exj_cmd_apply(exj_cli *c)
{
    const char *from = c->flags[EXJ_CLI_FILE];
    bool dry_run = c->flags[EXJ_CLI_DRY_RUN] != NULL;
    exj_reach r = EXJ_REACH_INIT(c);
    exj_input_docs docs = { 0 };
    json_t *list = json_array(), *body = NULL, *item;
    exj_err err = { 0 };
    exj_exit status;
    exj_code rc;
    size_t i;

    if (!from || !*from) {
        status = exj_fail(c, EXJ_EXIT_USAGE, "'apply' needs -f FILE, -f DIR or -f -");
        goto out;
    }
    rc = exj_input_docs_read(from, &docs, tell_mistake, c, &err);
    if (rc != EXJ_OK) {
        status = err.code != EXJ_OK ? exj_fail_err(c, &err) : exj_exit_of(rc);
        goto out;
    }
    if (!docs.len)
        exj_tell(c, "exellix-jobs: no documents in %s", from);
    status = rehearse(&r, &docs, dry_run ? list : NULL);
    if (status == EXJ_EXIT_OK && !dry_run)
        status = apply(&r, &docs, list);
    body = json_pack("{s:b,s:O}", "dryRun", (int)dry_run, "items", list);
    if (c->json && status == EXJ_EXIT_OK)
        status = exj_out_json(c, body, false);
    else if (!c->json)
        json_array_foreach(list, i, item)
            print_action(item);
out:
    json_decref(list);
    json_decref(body);
    exj_input_docs_release(&docs);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

/* ---- delete -------------------------------------------------------------------------------- */

/* Asks on a terminal; elsewhere --yes must be given. */
static exj_exit make_sure(exj_cli *c, const char *kind, const char *id)
{
    char line[16] = "";

    if (c->flags[EXJ_CLI_YES] || c->flags[EXJ_CLI_DRY_RUN])
        return EXJ_EXIT_OK;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return exj_fail(c, EXJ_EXIT_USAGE,
                        "'%s' needs --yes when there is no terminal to ask on",
                        c->command->words);
    fprintf(stderr, "Delete %s %s? [y/N] ", kind, id);
    if (fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y'))
        return EXJ_EXIT_OK;
    return exj_fail(c, EXJ_EXIT_FAILED, "not deleted");
}

static exj_exit delete(exj_cli *c, const char *kind, const char *base)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_exit status = make_sure(c, kind, c->args[0]);

    if (status != EXJ_EXIT_OK)
        return status;
    exj_buf_add_text(&path, base);
    exj_add_encoded(&path, c->args[0]);
    status = path.failed ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                         : exj_ask(&r, "DELETE", path.p,
                                   c->flags[EXJ_CLI_DRY_RUN] ? "dryRun=true" : "",
                                   (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        if (c->json)
            status = exj_out_json(c, a.body, false);
        else
            print_action(a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}

exj_exit exj_cmd_delete_graph(exj_cli *c)
{
    return delete(c, "graph", "/configs/graphs/");
}

exj_exit exj_cmd_delete_matrix(exj_cli *c)
{
    return delete(c, "matrix", "/configs/matrices/");
}

exj_exit exj_cmd_delete_schedule(exj_cli *c)
{
    return delete(c, "schedule", "/configs/schedules/");
}
