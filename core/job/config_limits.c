#include "core/job/config_limits.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/job/rate.h"

#define PER_KEY_LIMIT 10000
#define UNIQUE_LIMIT_SECONDS (366.0 * 86400)
#define FINAL_ERRORS_LIMIT 64u
#define FINAL_ERROR_BYTES 128u

static void read_rate(exj_field_reader *r, const json_t *execution, exj_graph_config *c)
{
    static const char path[] = "payload.execution.rateLimit";
    static const char *const known[] = { "count", "perSeconds", NULL };
    const json_t *o = exj_field_object(r, execution, "payload.execution", "rateLimit");
    int64_t count = 0;

    if (!o)
        return;
    exj_field_known(r, o, path, known);
    c->rate_ms = 1000;
    if (!exj_field_int(r, o, path, "count", 1, EXJ_RATE_MAX, &count) && r->code == EXJ_OK)
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "%s.count: missing; how many rows may start in perSeconds", path);
    exj_field_seconds(r, o, path, "perSeconds", 0.001, EXJ_RATE_MS_MAX / 1000.0, &c->rate_ms);
    c->rate = (uint32_t)count;
}

static void read_final_errors(exj_field_reader *r, const json_t *execution,
                              exj_graph_config *c)
{
    const json_t *list = exj_field_array(r, execution, "payload.execution", "finalErrors");
    size_t n = json_array_size(list);
    char where[48];

    if (n > FINAL_ERRORS_LIMIT)
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "payload.execution.finalErrors: %zu codes; at most %u are "
                              "allowed",
                              n, FINAL_ERRORS_LIMIT);
    if (r->code != EXJ_OK || n == 0)
        return;
    c->final_errors = calloc(n, sizeof(*c->final_errors));
    if (!c->final_errors)
        exj_field_nomem(r);
    for (size_t i = 0; i < n && r->code == EXJ_OK; i++) {
        const json_t *item = json_array_get(list, i);
        exj_slice code = { json_string_value(item), json_string_length(item) };

        if (json_typeof(item) != JSON_STRING || code.n == 0 || code.n > FINAL_ERROR_BYTES) {
            snprintf(where, sizeof(where), "finalErrors[%zu]", i);
            exj_field_wrong(r, "payload.execution", where, item,
                            "an error code (a string of 1 to 128 bytes)");
            return;
        }
        c->final_errors[i] = exj_slice_dup(code);
        if (!c->final_errors[i])
            exj_field_nomem(r);
        else
            c->final_errors_len = i + 1;
    }
}

void exj_limits_read(exj_field_reader *r, const json_t *execution, exj_graph_config *c)
{
    int64_t v;

    read_rate(r, execution, c);
    if (exj_field_int(r, execution, "payload.execution", "concurrencyPerKey", 1, PER_KEY_LIMIT,
                      &v))
        c->per_key = (uint32_t)v;
    read_final_errors(r, execution, c);
}

void exj_key_fields_read(exj_field_reader *r, const json_t *payload, exj_key_fields *ret)
{
    static const char path[] = "payload.keys";
    static const char *const known[] = { "unique",   "uniqueSeconds", "concurrency",
                                         "priority", "runAfter",      NULL };
    const json_t *o = exj_field_object(r, payload, "payload", "keys");

    if (!o)
        return;
    exj_field_known(r, o, path, known);
    ret->unique = exj_field_id(r, o, path, "unique");
    ret->concurrency = exj_field_id(r, o, path, "concurrency");
    ret->priority = exj_field_id(r, o, path, "priority");
    ret->run_after = exj_field_id(r, o, path, "runAfter");
    exj_field_seconds(r, o, path, "uniqueSeconds", 0, UNIQUE_LIMIT_SECONDS, &ret->unique_ms);
}

bool exj_effective_is_final(const exj_effective *e, exj_slice code)
{
    for (size_t i = 0; i < e->final_errors_len; i++)
        if (exj_slice_is(code, e->final_errors[i]))
            return true;
    return false;
}
