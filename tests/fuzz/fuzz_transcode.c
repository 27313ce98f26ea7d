/* JSON as BSON and back, and the BSON of others as JSON: both ways of core/store/mongo/transcode.h
 * on one input. As a text it must be taken where jansson takes it, mean the same afterwards, and
 * come out in a form that stays. As a document (its length and its end put right) it is read or
 * refused, never beyond its bytes; what comes out is JSON of ours.
 * sources: core/store/mongo/transcode*.c */
#include <stdlib.h>

#include "core/store/mongo/transcode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
    if (!holds)
        abort();
}

static void check_text(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    exj_buf once = EXJ_BUF_INIT, twice = EXJ_BUF_INIT;
    bson_t b = BSON_INITIALIZER, again = BSON_INITIALIZER;
    json_t *v = NULL, *back = NULL;
    exj_slice text = { copy, size };
    bson_iter_t it;
    exj_code rc;

    if (!copy)
        return;
    if (size)
        memcpy(copy, data, size);
    rc = exj_json_parse(text, &v, NULL);
    demand(exj_bson_append_json(&b, "v", text, NULL, NULL) == rc);
    if (rc == EXJ_OK) {
        demand(bson_validate(&b, BSON_VALIDATE_UTF8, NULL));
        demand(bson_iter_init_find(&it, &b, "v"));
        demand(exj_bson_value_to_json(&it, NULL, &once, NULL) == EXJ_OK);
        demand(once.n <= 4 * size + 64);
        demand(exj_json_parse(exj_buf_slice(&once), &back, NULL) == EXJ_OK);
        demand(json_equal(v, back));
        demand(exj_bson_append_json(&again, "v", exj_buf_slice(&once), NULL, NULL) == EXJ_OK);
        demand(bson_equal(&b, &again));
        demand(bson_iter_init_find(&it, &again, "v"));
        demand(exj_bson_value_to_json(&it, NULL, &twice, NULL) == EXJ_OK);
        demand(exj_slice_equal(exj_buf_slice(&once), exj_buf_slice(&twice)));
    }
    json_decref(v);
    json_decref(back);
    exj_buf_release(&once);
    exj_buf_release(&twice);
    bson_destroy(&b);
    bson_destroy(&again);
    free(copy);
}

static void check_document(const uint8_t *data, size_t size)
{
    uint8_t *copy = size >= 5 ? malloc(size) : NULL;
    exj_buf out = EXJ_BUF_INIT;
    exj_err err = { 0 };
    json_t *v = NULL;
    bson_t b;
    exj_code rc;

    if (!copy)
        return;
    memcpy(copy, data, size);
    for (unsigned i = 0; i < 4; i++)
        copy[i] = (uint8_t)(size >> (8 * i));
    copy[size - 1] = 0;
    demand(bson_init_static(&b, copy, size));
    rc = exj_bson_to_json(&b, NULL, &out, &err);
    if (rc == EXJ_OK) {
        demand(exj_json_check(exj_buf_slice(&out), EXJ_JSON_MAX_DEPTH, NULL, NULL) == EXJ_OK);
        demand(exj_json_parse(exj_buf_slice(&out), &v, NULL) == EXJ_OK);
    } else {
        demand(rc == EXJ_INVALID || rc == EXJ_CORRUPT);
        demand(out.n == 0 && err.text[0] && exj_utf8_is_valid(exj_slice_of(err.text)));
    }
    json_decref(v);
    exj_buf_release(&out);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_text(data, size);
    check_document(data, size);
    return 0;
}
