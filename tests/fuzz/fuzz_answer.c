/* What plugins answer: of an engine the outcome of a row, of an event sink the fate of each event
 * of a batch. What is let through holds together, and it is what a parser of JSON sees.
 * The first byte says which. */
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/job/outcome.h"
#include "core/run/sinks_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool inside(exj_slice part, exj_slice whole)
{
    return part.p >= whole.p && part.n <= whole.n && part.p + part.n <= whole.p + whole.n;
}

/* `found` is the still-quoted text of `o`[key]. */
static void must_be_text(exj_slice found, exj_slice whole, json_t *o, const char *key)
{
    json_t *wanted = json_object_get(o, key), *got;

    if (!found.n) {
        must(!json_is_string(wanted));
        return;
    }
    must(inside(found, whole) && found.n >= 2);
    got = json_loadb(found.p, found.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    must(json_is_string(got) && json_equal(got, wanted));
    json_decref(got);
}

static void outcome(exj_slice text)
{
    static const char *const words[] = { "completed", "failed", "blocked", "suspended" };
    exj_slice code = { 0 }, message = { 0 };
    exj_answer_wait w = { 0 };
    exj_answer a = (exj_answer)9;
    exj_err err = { 0 };
    json_t *o, *error;
    int waits;

    if (exj_answer_check(text, &a, &code, &message, &w, &err) != EXJ_OK) {
        must(err.code == EXJ_INVALID && err.text[0] && a == (exj_answer)9 && !code.p);
        return;
    }
    o = json_loadb(text.p, text.n, JSON_ALLOW_NUL, NULL);
    must(json_is_object(o));
    must(a <= EXJ_ANSWER_SUSPENDED &&
         strcmp(json_string_value(json_object_get(o, "status")), words[a]) == 0);
    error = json_object_get(o, "error");
    must_be_text(code, text, error, "code");
    must_be_text(message, text, error, "message");
    waits = w.has_resume_at + w.has_signal + w.has_poll;
    must(a == EXJ_ANSWER_SUSPENDED ? waits == 1 : !w.has_resume_at && !w.has_poll);
    must(a == EXJ_ANSWER_SUSPENDED || a == EXJ_ANSWER_BLOCKED || waits == 0);
    must(!w.has_timeout || (w.has_signal && a == EXJ_ANSWER_SUSPENDED));
    must(w.timeout_ms >= 0 && w.timeout_ms <= EXJ_WAIT_MAX_MS);
    must(w.poll_ms >= 0 && w.poll_ms <= EXJ_WAIT_MAX_MS);
    must(w.resume_at >= 0 && w.resume_at < INT64_C(253402300800000));
    if (w.has_signal) {
        must(w.signal.n > 2 && w.signal.n <= EXJ_SIGNAL_NAME_BYTES + 2);
        must_be_text(w.signal, text, o, "signal");
    }
    json_decref(o);
}

static void fates(exj_slice text)
{
    static struct sink s;
    exj_err err = { 0 };
    exj_code rc;

    memset(&s, 0, sizeof s);
    s.events_len = 1 + text.n % 5;
    for (size_t i = 0; i < s.events_len; i++)
        s.events[i] = (struct event){ .number = 10 + (int64_t)i, .seq = 1 + (int64_t)i % 2 };
    rc = exj_sink_judge(&s, text, &err);
    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    for (size_t i = 0; i < s.events_len && rc == EXJ_OK; i++) {
        const struct event *e = &s.events[i];

        must(e->fate == DELIVERED || e->fate == FAILED || e->fate == AGAIN);
        must(memchr(e->error, 0, sizeof e->error) && e->retry_after >= 0);
        must(exj_utf8_is_valid(exj_slice_of(e->error)));
    }
    if (rc == EXJ_OK)
        exj_sink_hold_rows(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy;

    if (size == 0)
        return 0;
    copy = malloc(size); /* of exact length: one byte too far is seen */
    must(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    (data[0] == 's' ? fates : outcome)((exj_slice){ copy, size - 1 });
    free(copy);
    return 0;
}
