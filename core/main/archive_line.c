#include "core/main/archive_line.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/job/keys.h"
#include "core/job/record.h"

static exj_slice text_of(const json_t *o, const char *key)
{
    return exj_slice_of(json_string_value(json_object_get(o, key)));
}

/* The first number that is none, or outside its bounds, is kept in `err`. */
struct numbers {
    const json_t *o;
    exj_err *err;
    exj_code rc;
};

static int64_t number(struct numbers *n, const char *key, int64_t low, int64_t high)
{
    const json_t *v = json_object_get(n->o, key);
    int64_t got = json_integer_value(v);

    if (n->rc || (!v && low <= 0))
        return 0;
    if (json_is_integer(v) && got >= low && got <= high)
        return got;
    n->rc = exj_err_set(n->err, EXJ_INVALID,
                        "%s: a whole number from %" PRId64 " to %" PRId64 " is wanted", key, low,
                        high);
    return 0;
}

void exj_archive_line_release(exj_archive_line *l)
{
    free(l->row.steps);
    free(l->row.failures);
    free(l->row.entries);
    json_decref(l->facts);
    *l = (exj_archive_line)EXJ_ARCHIVE_LINE_INIT;
}

/* ---- the lists ------------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    const exj_slice *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int c = n ? memcmp(x->p, y->p, n) : 0;

    return c ? c : (x->n > y->n) - (x->n < y->n);
}

/* The store has one step of a name. */
static exj_code check_keys(const exj_archived *a, exj_err *err)
{
    exj_slice *keys = malloc((a->steps_len + 1) * sizeof(*keys));
    exj_code rc = EXJ_OK;

    if (!keys)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    for (size_t i = 0; i < a->steps_len; i++)
        keys[i] = a->steps[i].key;
    qsort(keys, a->steps_len, sizeof(*keys), compare_keys);
    for (size_t i = 1; i < a->steps_len && !rc; i++)
        if (exj_slice_equal(keys[i - 1], keys[i]))
            rc = exj_err_set(err, EXJ_INVALID, "step \"%.*s\" is there twice",
                             (int)(keys[i].n > 100 ? 100 : keys[i].n), keys[i].n ? keys[i].p : "");
    free(keys);
    return rc;
}

static exj_code parse_steps(exj_archived *a, const json_t *steps, exj_slice bodies, exj_err *err)
{
    exj_json_iter it;
    json_t *o;
    size_t i;

    if (bodies.n)
        exj_json_iter_init(&it, bodies);
    json_array_foreach(steps, i, o) {
        exj_step_view *s = &a->steps[a->steps_len++];
        struct numbers n = { o, err, EXJ_OK };

        *s = (exj_step_view){ .key = text_of(o, "key"),
                              .done = json_is_true(json_object_get(o, "done")),
                              .token = number(&n, "token", 0, INT64_MAX),
                              .number = number(&n, "number", 0, INT64_MAX),
                              .attempt = (uint32_t)number(&n, "attempt", 0, UINT32_MAX),
                              .began_at = number(&n, "beganAt", 0, INT64_MAX),
                              .at = number(&n, "at", 0, INT64_MAX) };
        if (n.rc)
            return n.rc;
        if (!s->done)
            continue;
        /* In the same order: no search. */
        if (!bodies.n || !exj_json_iter_next(&it) || !s->key.n || !exj_json_key_is(it.key, s->key.p))
            return exj_err_set(err, EXJ_INVALID, "the result of step \"%.*s\" is not there",
                               (int)(s->key.n > 100 ? 100 : s->key.n), s->key.n ? s->key.p : "");
        s->body = it.value;
    }
    return check_keys(a, err);
}

static exj_code parse_failures(exj_archived *a, const json_t *failures, exj_err *err)
{
    json_t *o;
    size_t i;

    json_array_foreach(failures, i, o) {
        struct numbers n = { o, err, EXJ_OK };

        a->failures[a->failures_len++] =
            (exj_failure_view){ .token = number(&n, "token", 0, INT64_MAX),
                                .attempt = (uint32_t)number(&n, "attempt", 0, UINT32_MAX),
                                .at = number(&n, "at", 0, INT64_MAX),
                                .code = text_of(o, "code"),
                                .text = text_of(o, "text") };
        if (n.rc)
            return n.rc;
        /* Newest first: a claim failed once. */
        if (i && a->failures[i - 1].token <= a->failures[i].token)
            return exj_err_set(err, EXJ_INVALID, "failures: a token that is not below the one before");
    }
    return EXJ_OK;
}

static exj_code parse_journal(exj_archived *a, const json_t *journal, exj_err *err)
{
    json_t *o;
    size_t i;

    json_array_foreach(journal, i, o) {
        exj_journal_entry *e = &a->entries[a->entries_len++];
        struct numbers n = { o, err, EXJ_OK };

        *e = (exj_journal_entry){ .number = number(&n, "number", 0, INT64_MAX),
                                  .at = number(&n, "at", 0, INT64_MAX),
                                  .token = number(&n, "token", 0, INT64_MAX),
                                  .attempt = (uint32_t)number(&n, "attempt", 0, UINT32_MAX),
                                  .value = number(&n, "value", INT64_MIN, INT64_MAX),
                                  .key = text_of(o, "key"),
                                  .text = text_of(o, "text") };
        if (n.rc || exj_entry_parse(text_of(o, "kind"), &e->kind, err) != EXJ_OK)
            return EXJ_INVALID;
    }
    return EXJ_OK;
}

static exj_code parse_lists(exj_archive_line *l, exj_slice bodies, exj_err *err)
{
    const json_t *steps = json_object_get(l->facts, "steps");
    const json_t *failures = json_object_get(l->facts, "failures");
    const json_t *journal = json_object_get(l->facts, "journal");
    exj_archived *a = &l->row;
    exj_code rc;

    a->steps = calloc(json_array_size(steps) + 1, sizeof(*a->steps));
    a->failures = calloc(json_array_size(failures) + 1, sizeof(*a->failures));
    a->entries = calloc(json_array_size(journal) + 1, sizeof(*a->entries));
    if (!a->steps || !a->failures || !a->entries)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    rc = parse_steps(a, steps, bodies, err);
    if (!rc)
        rc = parse_failures(a, failures, err);
    return rc ? rc : parse_journal(a, journal, err);
}

/* ---- the row ---------------------------------------------------------------------------------- */

static exj_code parse_row(exj_archive_line *l, exj_err *err)
{
    struct numbers n = { l->facts, err, EXJ_OK };
    exj_archived *a = &l->row;
    exj_code rc;

    l->matrix = text_of(l->facts, "matrix");
    l->run = text_of(l->facts, "run");
    l->graph = text_of(l->facts, "graph");
    a->record_id = text_of(l->facts, "record");
    a->error_code = text_of(l->facts, "errorCode");
    a->error_text = text_of(l->facts, "errorText");
    a->unique_key = text_of(l->facts, "uniqueKey");
    a->concurrency_key = text_of(l->facts, "concurrencyKey");
    a->snapshot = text_of(l->facts, "snapshot");
    a->priority = (int32_t)number(&n, "priority", INT32_MIN, INT32_MAX);
    a->attempts = (uint32_t)number(&n, "attempts", 0, UINT32_MAX);
    a->max_attempts = (uint32_t)number(&n, "maxAttempts", 1, UINT32_MAX);
    a->token = number(&n, "token", 0, INT64_MAX);
    a->created_at = number(&n, "createdAt", 0, INT64_MAX);
    a->finished_at = number(&n, "finishedAt", 0, INT64_MAX);
    rc = n.rc;
    if (!rc)
        rc = exj_id_check(l->matrix, "row: matrix", err);
    if (!rc && l->run.n)
        rc = exj_id_check(l->run, "row: run", err);
    if (!rc)
        rc = exj_id_check(l->graph, "row: graph", err);
    if (!rc)
        rc = exj_id_check(a->record_id, "row: record", err);
    if (!rc && (a->unique_key.n > EXJ_KEY_MAX_BYTES || a->concurrency_key.n > EXJ_KEY_MAX_BYTES))
        rc = exj_err_set(err, EXJ_INVALID, "row: a key of more than %u bytes", EXJ_KEY_MAX_BYTES);
    return rc ? rc : exj_status_parse(text_of(l->facts, "status"), &a->status, err);
}

exj_code exj_archive_line_parse(exj_slice line, exj_archive_line *ret, exj_err *err)
{
    exj_slice row = { 0 }, bodies = { 0 }, format = { 0 };
    exj_json_kind kind;
    exj_json_iter it;
    exj_code rc = exj_json_check(line, EXJ_ARCHIVE_DEPTH, &kind, err);

    if (rc)
        return rc;
    if (kind != EXJ_JSON_OBJECT)
        return exj_err_set(err, EXJ_INVALID, "an object is wanted");
    exj_json_iter_init(&it, line);
    while (exj_json_iter_next(&it)) {
        if (exj_json_key_is(it.key, "format"))
            format = it.value;
        else if (exj_json_key_is(it.key, "row"))
            row = it.value;
        else if (exj_json_key_is(it.key, "input"))
            ret->row.input = it.value;
        else if (exj_json_key_is(it.key, "result"))
            ret->row.result = it.value;
        else if (exj_json_key_is(it.key, "steps") && it.kind == EXJ_JSON_OBJECT)
            bodies = it.value;
    }
    if (!exj_slice_is(format, "1") || !row.n || !ret->row.input.n)
        return exj_err_set(err, EXJ_INVALID, "\"format\":1, \"row\" and \"input\" are wanted: is it "
                           "a file of 'exellix-jobs archive'?");
    rc = exj_json_parse(row, &ret->facts, err);
    if (!rc)
        rc = parse_row(ret, err);
    return rc ? rc : parse_lists(ret, bodies, err);
}
