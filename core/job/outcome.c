#include "core/job/outcome.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/clock.h"
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
    { "resumeAt", K(EXJ_JSON_STRING) | K(EXJ_JSON_INTEGER), "a time" },
    { "signal", K(EXJ_JSON_STRING), "a string" },
    { "timeoutSeconds", K(EXJ_JSON_INTEGER) | K(EXJ_JSON_REAL), "a number" },
    { "pollAfter", K(EXJ_JSON_INTEGER) | K(EXJ_JSON_REAL), "a number" },
};
#define MEMBERS_LEN (sizeof(members) / sizeof(members[0]))
#define MEMBER_STATUS 0u
#define MEMBER_ERROR 7u
#define MEMBER_RESUME_AT 9u
#define MEMBER_SIGNAL 10u
#define MEMBER_TIMEOUT 11u
#define MEMBER_POLL 12u

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

/* A number of seconds as milliseconds, rounded up. */
static exj_code parse_seconds(exj_slice number, const char *name, exj_msec *ret, exj_err *err)
{
    char text[64];
    double seconds;

    if (number.n >= sizeof(text))
        return exj_err_set(err, EXJ_INVALID, "answer: `%s` has too many digits", name);
    memcpy(text, number.p, number.n);
    text[number.n] = '\0';
    seconds = strtod(text, NULL);
    if (!(seconds >= 0 && seconds <= (double)(EXJ_WAIT_MAX_MS / 1000)))
        return exj_err_set(err, EXJ_INVALID,
                           "answer: `%s` is %s; seconds from 0 to a hundred years are wanted",
                           name, text);
    *ret = (exj_msec)ceil(seconds * 1000);
    return EXJ_OK;
}

static exj_code parse_resume_at(exj_slice value, exj_json_kind kind, exj_msec *ret, exj_err *err)
{
    char text[24];
    bool good;

    if (kind == EXJ_JSON_STRING) {
        good = exj_clock_parse((exj_slice){ value.p + 1, value.n - 2 }, ret);
    } else {
        good = value.n < sizeof(text);
        if (good) {
            memcpy(text, value.p, value.n);
            text[value.n] = '\0';
            *ret = strtoll(text, NULL, 10);
            good = *ret > 0 && *ret < INT64_C(253402300800000); /* the year 10000 */
        }
    }
    if (good)
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID,
                       "answer: `resumeAt` is %.*s; milliseconds since 1970 or a text like "
                       "\"2026-01-31T04:05:06Z\" are wanted",
                       quote_len(value), value.p);
}

static exj_code parse_wait(unsigned m, const exj_json_iter *it, exj_answer_wait *w, exj_err *err)
{
    switch (m) {
    case MEMBER_RESUME_AT:
        w->has_resume_at = true;
        return parse_resume_at(it->value, it->kind, &w->resume_at, err);
    case MEMBER_SIGNAL:
        w->has_signal = true;
        w->signal = it->value;
        if (it->value.n > 2 && it->value.n <= EXJ_SIGNAL_NAME_BYTES + 2)
            return EXJ_OK;
        return exj_err_set(err, EXJ_INVALID, "answer: `signal` has %zu bytes; 1 to %u are wanted",
                           it->value.n - 2, EXJ_SIGNAL_NAME_BYTES);
    case MEMBER_TIMEOUT:
        w->has_timeout = true;
        return parse_seconds(it->value, "timeoutSeconds", &w->timeout_ms, err);
    default:
        w->has_poll = true;
        return parse_seconds(it->value, "pollAfter", &w->poll_ms, err);
    }
}

/* Do the wait's members go with the status and with each other? */
static exj_code check_wait(exj_answer answer, const exj_answer_wait *w, exj_err *err)
{
    int named = w->has_resume_at + w->has_signal + w->has_poll;

    if (answer == EXJ_ANSWER_SUSPENDED && named != 1)
        return exj_err_set(err, EXJ_INVALID,
                           "answer: \"suspended\" names %s; exactly one of `resumeAt`, `signal` "
                           "and `pollAfter` is wanted",
                           named ? "more than one thing to wait for" : "nothing to wait for");
    if (w->has_timeout && !(answer == EXJ_ANSWER_SUSPENDED && w->has_signal))
        return exj_err_set(err, EXJ_INVALID,
                           "answer: `timeoutSeconds` goes with \"suspended\" and `signal` only");
    if (answer == EXJ_ANSWER_SUSPENDED || named == 0 ||
        (answer == EXJ_ANSWER_BLOCKED && w->has_signal && named == 1))
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID,
                       "answer: `%s` goes with \"suspended\"%s only",
                       w->has_resume_at ? "resumeAt" : w->has_poll ? "pollAfter" : "signal",
                       w->has_resume_at || w->has_poll ? "" : " and \"blocked\"");
}

exj_code exj_answer_check(exj_slice text, exj_answer *ret, exj_slice *ret_error_code,
                          exj_slice *ret_error_message, exj_answer_wait *ret_wait,
                          exj_err *err)
{
    exj_answer_wait wait = { 0 };
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
                               "error, metrics, resumeAt, signal, timeoutSeconds, "
                               "pollAfter",
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
        else if (m >= MEMBER_RESUME_AT)
            rc = parse_wait(m, &it, &wait, err);
        if (rc != EXJ_OK)
            return rc;
    }
    if (!(seen & 1u << MEMBER_STATUS))
        return exj_err_set(err, EXJ_INVALID,
                           "answer: `status` is missing; \"completed\", \"failed\", "
                           "\"blocked\" or \"suspended\" is wanted");
    rc = check_wait(answer, &wait, err);
    if (rc != EXJ_OK)
        return rc;
    *ret = answer;
    if (ret_wait)
        *ret_wait = wait;
    if (ret_error_code)
        *ret_error_code = code;
    if (ret_error_message)
        *ret_error_message = message;
    return EXJ_OK;
}
