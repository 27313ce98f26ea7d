/* Looking at the snapshot that rows were made from. */
#include <stdio.h>

#include "core/main/reach.h"

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static long long count_of(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static exj_exit print_snapshot(exj_cli *c, const json_t *body)
{
    const json_t *query = json_object_get(body, "query"), *record;
    const json_t *first = json_object_get(body, "first");
    const char *run = text_of(body, "matrixRunId");
    size_t i;

    printf("snapshot  %s\n", text_of(body, "snapshot"));
    printf("matrix    %s%s%s\n", text_of(body, "matrixCatalogId"), *run ? ", run " : "", run);
    printf("taken     %s\n", text_of(body, "at"));
    printf("records   %lld (%lld bytes)\n", count_of(body, "records"), count_of(body, "bytes"));
    printf("query     %lld records (%lld bytes), %s\n", count_of(query, "records"),
           count_of(query, "bytes"),
           json_is_true(json_object_get(body, "transformed")) ? "transformed by jq" : "as they were");
    json_array_foreach(first, i, record) {
        exj_buf b = EXJ_BUF_INIT;

        if (exj_json_print(record, false, &b, NULL) == EXJ_OK)
            printf("%s%s\n", i ? "" : "\n", b.p);
        exj_buf_release(&b);
    }
    if (json_array_size(first) < (size_t)count_of(body, "records"))
        exj_tell(c, "%zu of %lld records", json_array_size(first), count_of(body, "records"));
    return EXJ_EXIT_OK;
}

exj_exit exj_cmd_snapshots_show(exj_cli *c)
{
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT, query = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_err err = { 0 };
    exj_exit status;
    int64_t n;

    if (exj_cli_number(c, EXJ_CLI_LIMIT, 0, 100, 10, &n, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    exj_buf_add_text(&path, "/snapshots/");
    exj_add_encoded(&path, c->args[0]);
    exj_buf_printf(&query, "limit=%lld", (long long)n);
    status = path.failed || query.failed
                 ? exj_fail(c, EXJ_EXIT_FAILED, "out of memory")
                 : exj_ask(&r, "GET", path.p, query.p, (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        status = c->json ? exj_out_json(c, a.body, false) : print_snapshot(c, a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    exj_buf_release(&query);
    exj_reach_release(&r);
    return exj_out_finish(c, status);
}
