/* core/plugin/call_journal.c - the steps of a call: looked up, begun, committed. What is behind
 * them is the caller's (exj_call_ports); here words are checked and results made. */
#include "core/plugin/call_inside.h"

#include "core/base/json.h"
#include "core/base/log.h"

#define STEP_NAME_BYTES 512u

static exj_result result_of_code(const exj_instance *i, exj_code code, const exj_err *err)
{
    switch (code) {
    case EXJ_OK:
    case EXJ_CONFLICT: /* it stands there already */
        return EXJ_R_OK;
    case EXJ_NOT_FOUND:
        return EXJ_R_MISS;
    case EXJ_FENCED:
    case EXJ_CANCELLED:
        return EXJ_R_CANCELLED;
    case EXJ_UNSUPPORTED:
        return EXJ_R_UNSUPPORTED;
    case EXJ_INVALID:
        exj_log(EXJ_LOG_WARN, "plugin", "%s: journal: %s", i->guest->id, err->text);
        return EXJ_R_INPUT;
    case EXJ_NOMEM:
    case EXJ_FULL:
    case EXJ_BUSY:
        return EXJ_R_RETRY;
    default:
        exj_log(EXJ_LOG_ERROR, "plugin", "%s: journal: %s", i->guest->id, err->text);
        return EXJ_R_INTERNAL;
    }
}

static exj_code check_step(exj_str step, exj_err *err)
{
    if (!exj_call_text_is_sane(step) || step.n == 0 || step.n > STEP_NAME_BYTES ||
        !exj_utf8_is_valid(exj_call_slice(step)))
        return exj_err_set(err, EXJ_INVALID, "a step's name is UTF-8 of 1 to %u bytes",
                           STEP_NAME_BYTES);
    return EXJ_OK;
}

exj_result exj_call_journal_lookup(void *ctx, exj_call c, exj_str step, exj_str *ret)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "journal_lookup");
    exj_err err = { 0 };
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    pthread_mutex_lock(&s->mu);
    exj_buf_reset(&s->step);
    rc = check_step(step, &err);
    if (!rc && !s->ports->step_get)
        rc = EXJ_UNSUPPORTED;
    if (!rc)
        rc = s->ports->step_get(s->ports->user, exj_call_slice(step), &s->step, &err);
    if (!rc && ret)
        *ret = (exj_str){ s->step.p ? s->step.p : "", s->step.n };
    pthread_mutex_unlock(&s->mu);
    exj_call_leave(s);
    return result_of_code(ctx, rc, &err);
}

/* Says that the step begins, durably: should we die before its commit, the journal shows that
 * nobody knows whether it ran. And a row that is not ours any more starts no effect. */
exj_result exj_call_journal_intent(void *ctx, exj_call c, exj_str step)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "journal_intent");
    exj_err err = { 0 };
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    rc = check_step(step, &err);
    if (!rc && !s->ports->step_put)
        rc = EXJ_UNSUPPORTED;
    if (!rc && s->ports->cancelled && s->ports->cancelled(s->ports->user))
        rc = EXJ_CANCELLED;
    if (!rc && s->ports->step_begin) {
        pthread_mutex_lock(&s->mu);
        rc = s->ports->step_begin(s->ports->user, exj_call_slice(step), &err);
        pthread_mutex_unlock(&s->mu);
    }
    exj_call_leave(s);
    return result_of_code(ctx, rc, &err);
}

exj_result exj_call_journal_commit(void *ctx, exj_call c, exj_str step, exj_str json)
{
    exj_call_slot *s = exj_call_enter(ctx, c, "journal_commit");
    exj_err err = { 0 };
    exj_code rc;

    if (!s)
        return EXJ_R_INTERNAL;
    rc = check_step(step, &err);
    if (!rc && (!exj_call_text_is_sane(json) || json.n > s->answer_max))
        rc = exj_err_set(&err, EXJ_INVALID, "a step's result has %zu bytes at most",
                         s->answer_max);
    if (!rc)
        rc = exj_json_check(exj_call_slice(json), EXJ_JSON_MAX_DEPTH, NULL, &err);
    if (!rc && !s->ports->step_put)
        rc = EXJ_UNSUPPORTED;
    if (!rc) {
        pthread_mutex_lock(&s->mu);
        rc = s->ports->step_put(s->ports->user, exj_call_slice(step), exj_call_slice(json), &err);
        pthread_mutex_unlock(&s->mu);
    }
    exj_call_leave(s);
    return result_of_code(ctx, rc, &err);
}
