#include "core/job/outcome.h"

#include "core/base/json.h"

/* Bit of a kind, and what a message calls a set of them. */
#define K(kind) (1u << (kind))
#define STRING_OR_NULL (K(EXJ_JSON_STRING) | K(EXJ_JSON_NULL))
#define OBJECT_OR_NULL (K(EXJ_JSON_OBJECT) | K(EXJ_JSON_NULL))

static const struct {
    const char *name;
    uint32_t kinds;
    const char *wanted;
} members[] = {
    { "status", K(EXJ_JSON_STRING), "a string" },
    { "jobId", STRING_OR_NULL, "a string or null" },
    { "taskId", STRING_OR_NULL, "a string or null" },
    { "graphId", STRING_OR_NULL, "a string or null" },
    { "outputsByNodeId", K(EXJ_JSON_OBJECT), "an object" },
    { "stepsResponses", K(EXJ_JSON_ARRAY), "an array" },
    { "engineSnapshot", OBJECT_OR_NULL, "an object or null" },
    { "error", OBJECT_OR_NULL, "an object or null" },
    { "metrics", K(EXJ_JSON_OBJECT), "an object" },
};
#define MEMBERS_LEN (sizeof(members) / sizeof(members[0]))
#define MEMBER_STATUS 0u
#define MEMBER_ERROR 7u

static const char *const kind_words[] = {
    [EXJ_JSON_OBJECT] = "an object", [EXJ_JSON_ARRAY] = "an array",
    [EXJ_JSON_STRING] = "a string",  [EXJ_JSON_INTEGER] = "a number",
    [EXJ_JSON_REAL] = "a number",    [EXJ_JSON_TRUE] = "true",
    [EXJ_JSON_FALSE] = "false",      [EXJ_JSON_NULL] = "null",
};

static int quote_len(exj_slice s)
{
    return (int)(s.n < 64 ? s.n : 64);
}

static exj_code parse_status(exj_slice quoted, exj_answer *ret, exj_err *err)
{
    static const char *const words[] = { "completed", "failed", "blocked", "suspended" };
    exj_slice word = { quoted.p + 1, quoted.n - 2 };

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (exj_json_key_is(word, words[i])) {
            *ret = (exj_answer)i;
            return EXJ_OK;
        }
    }
    return exj_err_set(err, EXJ_INVALID,
                       "answer: `status` must be \"completed\", \"failed\", \"blocked\" or "
                       "\"suspended\", found \"%.*s\"",
                       quote_len(word), word.p);
}

/* `code` and `message` of the error; what else it holds is the executor's own. */
static exj_code parse_error(exj_slice object, exj_slice *ret_code, exj_slice *ret_message,
                            exj_err *err)
{
    exj_json_iter it;

    exj_json_iter_init(&it, object);
    while (exj_json_iter_next(&it)) {
        bool is_code = exj_json_key_is(it.key, "code");
        exj_slice *ret = is_code ? ret_code : ret_message;

        if (!is_code && !exj_json_key_is(it.key, "message"))
            continue;
        if (it.kind != EXJ_JSON_STRING)
            return exj_err_set(err, EXJ_INVALID, "answer: `error.%s` must be a string, found %s",
                               is_code ? "code" : "message", kind_words[it.kind]);
        if (ret->n > 0)
            return exj_err_set(err, EXJ_INVALID, "answer: `error.%s` is there twice",
                               is_code ? "code" : "message");
        *ret = it.value;
    }
    return EXJ_OK;
}

exj_code exj_answer_check(exj_slice text, exj_answer *ret, exj_slice *ret_error_code,
                          exj_slice *ret_error_message, exj_err *err)
{
    exj_slice code = { 0 }, message = { 0 };
    exj_answer answer = EXJ_ANSWER_FAILED;
    exj_json_kind kind;
    exj_json_iter it;
    uint32_t seen = 0;
    exj_code rc;

    if (text.n > EXJ_ANSWER_MAX_BYTES)
        return exj_err_set(err, EXJ_INVALID, "answer: %zu bytes; at most %u are allowed",
                           text.n, EXJ_ANSWER_MAX_BYTES);
    rc = exj_json_check(text, EXJ_JSON_MAX_DEPTH, &kind, err);
    if (rc != EXJ_OK) {
        exj_err_prefix(err, "answer");
        return rc;
    }
    if (kind != EXJ_JSON_OBJECT)
        return exj_err_set(err, EXJ_INVALID, "answer: must be an object, found %s",
                           kind_words[kind]);
    exj_json_iter_init(&it, text);
    while (exj_json_iter_next(&it)) {
        unsigned m = 0;

        while (m < MEMBERS_LEN && !exj_json_key_is(it.key, members[m].name))
            m++;
        if (m == MEMBERS_LEN)
            return exj_err_set(err, EXJ_INVALID,
                               "answer: unknown member `%.*s`; allowed: status, jobId, taskId, "
                               "graphId, outputsByNodeId, stepsResponses, engineSnapshot, "
                               "error, metrics",
                               quote_len(it.key), it.key.p);
        if (seen >> m & 1)
            return exj_err_set(err, EXJ_INVALID, "answer: `%s` is there twice",
                               members[m].name);
        seen |= 1u << m;
        if (!(members[m].kinds & K(it.kind)))
            return exj_err_set(err, EXJ_INVALID, "answer: `%s` must be %s, found %s",
                               members[m].name, members[m].wanted, kind_words[it.kind]);
        if (m == MEMBER_STATUS)
            rc = parse_status(it.value, &answer, err);
        else if (m == MEMBER_ERROR && it.kind == EXJ_JSON_OBJECT)
            rc = parse_error(it.value, &code, &message, err);
        if (rc != EXJ_OK)
            return rc;
    }
    if (!(seen & 1u << MEMBER_STATUS))
        return exj_err_set(err, EXJ_INVALID,
                           "answer: `status` is missing; \"completed\", \"failed\", "
                           "\"blocked\" or \"suspended\" is wanted");
    *ret = answer;
    if (ret_error_code)
        *ret_error_code = code;
    if (ret_error_message)
        *ret_error_message = message;
    return EXJ_OK;
}
