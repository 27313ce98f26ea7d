/* The scanner of the hot path against jansson: what it lets through jansson must parse, and
 * its walk over an object must see the members that jansson sees. Records and answers, which
 * are judged with it, must never read outside their text. */
#include <stdlib.h>

#include "core/base/json.h"
#include "core/job/outcome.h"
#include "core/job/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare_members(exj_slice text)
{
    json_t *parsed = json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    exj_json_iter it;
    size_t seen = 0;

    if (!parsed)
        abort(); /* the check let through what is not JSON */
    exj_json_iter_init(&it, text);
    while (json_is_object(parsed) && exj_json_iter_next(&it)) {
        seen++;
        if (exj_json_check(it.value, EXJ_JSON_MAX_DEPTH, NULL, NULL) != EXJ_OK)
            abort(); /* a member's value is not a value */
    }
    if (json_is_object(parsed) && seen < json_object_size(parsed))
        abort(); /* duplicates may make it more, never fewer */
    json_decref(parsed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of exact length: one byte too far is seen. */
    char *copy = malloc(size ? size : 1);
    exj_slice text = { copy, size }, code, message;
    json_t *parsed = NULL;
    exj_answer answer;
    bool checked;

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    checked = exj_json_check(text, EXJ_JSON_MAX_DEPTH, NULL, NULL) == EXJ_OK;
    if (checked)
        compare_members(text);
    if (exj_json_parse(text, &parsed, NULL) == EXJ_OK) {
        if (!checked)
            abort(); /* the parse is never laxer than the check */
        json_decref(parsed);
    }
    exj_record_check(text, NULL);
    exj_answer_check(text, &answer, &code, &message, NULL, NULL);
    free(copy);
    return 0;
}
