/* What an operator orders of a row: retry, rerun, run, cancel, and the signals it is sent.
 * Each is one exj_effect; what a row allows is decided by the store (core/job/state.c). */
#include "core/http/command.h"
#include "core/job/outcome.h"

#define SIGNAL_NAME_MAX EXJ_SIGNAL_NAME_BYTES
#define SIGNAL_BODY_MAX (64u * 1024u)
#define REASON_MAX 512u

/* ---- shared ------------------------------------------------------------------------------- */

/* 409 when the row's state forbids it. */
static void answer_refusal(exj_exchange *x, const char *code, const exj_err *err)
{
    if (err->code == EXJ_REFUSED)
        exj_answer_error(x, 409, code, "%s", err->text);
    else if (err->code == EXJ_NOT_FOUND) /* it was there a moment ago */
        exj_answer_error(x, 404, "RowNotFound", "no row \"%.*s\"", (int)x->id.n, x->id.p);
    else
        exj_answer_failure(x, err);
}

static void tell_engine(const exj_exchange *x)
{
    if (x->api->engine)
        exj_engine_rows_changed(x->api->engine);
}

/* A body that is absent or an object with at most the member `name`, a text of 1 to `most`
 * bytes. False: answered 400. *ret points into *ret_body (owned); empty: it was not sent. */
static bool take_one_text(exj_exchange *x, const char *name, size_t most, json_t **ret_body,
                          exj_slice *ret)
{
    const json_t *value;
    const char *key;
    json_t *ignored;

    *ret_body = NULL;
    *ret = (exj_slice){ NULL, 0 };
    if (x->q->body.n == 0)
        return true;
    if (!exj_take_object(x, ret_body))
        return false;
    json_object_foreach(*ret_body, key, ignored) {
        if (strcmp(key, name) != 0) {
            exj_answer_error(x, 400, "ValidationError",
                             "the body has no member \"%.80s\"; only \"%s\"", key, name);
            return false;
        }
    }
    value = json_object_get(*ret_body, name);
    if (!value)
        return true;
    *ret = (exj_slice){ json_string_value(value), json_string_length(value) };
    if (!json_is_string(value) || ret->n == 0 || ret->n > most) {
        exj_answer_error(x, 400, "ValidationError", "%s must be a text of 1 to %zu bytes", name,
                         most);
        return false;
    }
    return true;
}

/* The row of the path as its page shows it, to be answered with what changes. False:
 * answered. */
static bool take_whole_row(exj_exchange *x, exj_found_row *ret)
{
    json_t *failures = NULL;
    exj_err err = { 0 };

    if (!exj_take_row(x, ret))
        return false;
    if (exj_row_failures(x, ret->seq, &failures, &err) == EXJ_OK &&
        !json_object_set_new(ret->shown, "failures", failures) &&
        !json_object_set(ret->shown, "input", ret->input))
        return true;
    exj_answer_failure(x, &err);
    exj_found_row_release(ret);
    return false;
}

/* ---- retry -------------------------------------------------------------------------------- */

/* The row as it is with this effect, without reading it again: the transaction is open. */
static void answer_queued_anew(exj_exchange *x, const exj_op *op, void *user)
{
    exj_found_row *f = user;
    bool good = !json_object_set_new(f->shown, "status", json_string("queued")) &&
                !json_object_set_new(f->shown, "attempts", json_integer(0)) &&
                !json_object_set_new(f->shown, "runAfter", json_null()) &&
                !json_object_set_new(f->shown, "finishedAt", json_null()) &&
                !json_object_set_new(f->shown, "error", json_null()) &&
                !json_object_set_new(f->shown, "lease", json_null()) &&
                !json_object_set_new(f->shown, "result", json_null());

    if (good && op->kind == EXJ_OP_RERUN)
        good = !json_object_set_new(f->shown, "stepsKept",
                                    json_integer((json_int_t)op->u.rerun.ret_kept)) &&
               !json_object_set_new(f->shown, "stepsDropped",
                                    json_integer((json_int_t)op->u.rerun.ret_dropped));
    exj_answer_take(x, 200, good ? json_incref(f->shown) : NULL);
}

void exj_route_row_retry(exj_exchange *x)
{
    exj_op op = { .kind = EXJ_OP_RETRY };
    exj_err err = { 0 };
    exj_found_row f;

    if (!take_whole_row(x, &f))
        return;
    op.u.retry.seq = f.seq;
    if (exj_effect(x, &op, 1, answer_queued_anew, &f, &err) != EXJ_OK)
        answer_refusal(x, "RowNotRetryable", &err);
    else
        tell_engine(x);
    exj_found_row_release(&f);
}

/* ---- rerun and run ------------------------------------------------------------------------- */

void exj_route_row_rerun(exj_exchange *x)
{
    exj_op op = { .kind = EXJ_OP_RERUN };
    json_t *body = NULL;
    exj_err err = { 0 };
    exj_found_row f = { 0 };
    exj_slice step;

    if (!take_one_text(x, "fromStep", EXJ_ENTRY_KEY_MAX, &body, &step) || !take_whole_row(x, &f))
        goto out;
    op.u.rerun.seq = f.seq;
    op.u.rerun.step = step;
    if (exj_effect(x, &op, 1, answer_queued_anew, &f, &err) == EXJ_OK)
        tell_engine(x);
    else if (err.code == EXJ_NOT_FOUND && step.n)
        exj_answer_error(x, 404, "StepNotFound", "%s", err.text);
    else
        answer_refusal(x, "RowNotRerunnable", &err);
out:
    json_decref(body);
    exj_found_row_release(&f);
}

/* A terminal row is not run again by being asked to: that needs `rerun`. What has not ended
 * runs by itself, or says what it waits for. */
void exj_route_row_run(exj_exchange *x)
{
    exj_found_row f;
    bool over;

    if (!exj_take_row(x, &f))
        return;
    over = exj_status_is_terminal(f.status);
    if (f.status == EXJ_BLOCKED || f.status == EXJ_SUSPENDED)
        exj_answer_error(x, 409, "RowNotRunnable",
                         "the row is %s: %s", exj_status_word(f.status),
                         f.status == EXJ_BLOCKED ? "send its signal, or retry it"
                                                 : "send its signal, or wait for its time");
    else
        exj_answer_take(x, 200,
                        json_object_update(f.shown, f.details) ||
                                json_object_set(f.shown, "result", f.result) ||
                                json_object_set_new(f.shown, "replayed", json_boolean(over))
                            ? NULL
                            : json_incref(f.shown));
    if (!over)
        tell_engine(x);
    exj_found_row_release(&f);
}

/* ---- cancel ------------------------------------------------------------------------------- */

static void answer_cancel(exj_exchange *x, const exj_op *op, void *user)
{
    bool asked = op->u.cancel.ret_to == EXJ_RUNNING;

    (void)user;
    exj_answer_take(x, 200, json_pack("{s:o,s:s,s:s}", "matrixRowId", exj_json_text(x->id),
                                      "outcome", asked ? "asked" : "canceled", "status",
                                      exj_status_word(op->u.cancel.ret_to)));
}

void exj_route_row_cancel(exj_exchange *x)
{
    exj_op op = { .kind = EXJ_OP_CANCEL };
    json_t *body = NULL;
    exj_err err = { 0 };
    exj_found_row f = { 0 };
    exj_slice reason;

    if (!take_one_text(x, "reason", REASON_MAX, &body, &reason) || !exj_take_row(x, &f))
        goto out;
    op.u.cancel.seq = f.seq;
    op.u.cancel.why = reason.n ? reason : EXJ_SLICE_LITERAL("by order");
    if (exj_effect(x, &op, 1, answer_cancel, NULL, &err) != EXJ_OK)
        answer_refusal(x, "RowNotCancelable", &err);
    else if (op.u.cancel.ret_to == EXJ_RUNNING && x->api->engine)
        exj_engine_cancel_row(x->api->engine, f.seq);
    else
        tell_engine(x); /* a key of concurrency may be free now */
out:
    json_decref(body);
    exj_found_row_release(&f);
}

/* ---- signals ------------------------------------------------------------------------------- */

/* False: answered. An absent body is null. */
static bool take_signal(exj_exchange *x, exj_slice *ret_body)
{
    exj_err err = { 0 };

    *ret_body = x->q->body.n ? x->q->body : EXJ_SLICE_LITERAL("null");
    if (x->name.n > SIGNAL_NAME_MAX) {
        exj_answer_error(x, 400, "ValidationError",
                         "a signal's name has 1 to %u bytes, not %zu", SIGNAL_NAME_MAX,
                         x->name.n);
        return false;
    }
    if (ret_body->n > SIGNAL_BODY_MAX) {
        exj_answer_error(x, 413, "BodyTooLarge",
                         "a signal's payload has at most %u bytes, not %zu: send a reference to it",
                         SIGNAL_BODY_MAX, ret_body->n);
        return false;
    }
    if (exj_json_check(*ret_body, EXJ_JSON_MAX_DEPTH, NULL, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        return false;
    }
    return true;
}

static void answer_signal(exj_exchange *x, const exj_op *op, void *user)
{
    (void)user;
    exj_answer_take(x, 200, json_pack("{s:o,s:o,s:s,s:s}", "matrixRowId", exj_json_text(x->id),
                                      "signal", exj_json_text(x->name), "outcome",
                                      op->u.signal.ret_delivered ? "delivered" : "kept",
                                      "status", exj_status_word(op->u.signal.ret_to)));
}

void exj_route_row_signal(exj_exchange *x)
{
    exj_op op = { .kind = EXJ_OP_SIGNAL };
    exj_err err = { 0 };
    exj_found_row f;
    exj_slice body;

    if (!take_signal(x, &body) || !exj_take_row(x, &f))
        return;
    op.u.signal.seq = f.seq;
    op.u.signal.name = x->name;
    op.u.signal.body = body;
    if (exj_effect(x, &op, 1, answer_signal, NULL, &err) != EXJ_OK)
        answer_refusal(x, "SignalRefused", &err);
    else
        tell_engine(x);
    exj_found_row_release(&f);
}
