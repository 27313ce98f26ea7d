#include "core/store/mongo/life.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/store/mongo/transcode.h"
#include "core/store/mongo/value.h"

static const exj_slice none = { NULL, 0 };

exj_code exj_mvalue_add(bson_t *d, const char *name, const exj_mvalue *v, exj_err *err)
{
    char ref[64];

    if (v->ref) {
        snprintf(ref, sizeof(ref), "%sRef", name);
        BSON_APPEND_DOCUMENT(d, ref, v->ref);
        return EXJ_OK;
    }
    return v->text.n ? exj_bson_append_json(d, name, v->text, NULL, err) : EXJ_OK;
}

bool exj_life_holds(const exj_mrow *r, int64_t nonce, int64_t token)
{
    return r->status == EXJ_RUNNING && nonce != 0 && r->nonce == nonce && r->token == token;
}

exj_code exj_life_claim(exj_mrow *r, int64_t nonce, exj_slice holder, exj_msec now,
                        exj_msec until, exj_err *err)
{
    exj_status to;
    exj_code rc = exj_state_move(r->status, EXJ_EV_CLAIM, &to, err);

    if (rc)
        return rc;
    r->token++; /* the entry is of the new claim */
    r->attempts++;
    r->nonce = nonce;
    r->holder = holder;
    r->claimed_at = now;
    r->until = until;
    return exj_mrow_move(r, EXJ_EV_CLAIM, 0, none, holder, NULL, now, err);
}

/* ---- ends ---------------------------------------------------------------------------------- */

/* The row is where only an operator, or a signal, gets it away from. */
static exj_code end(exj_mrow *r, exj_slice code, exj_slice text, const exj_mvalue *result,
                    exj_msec now, exj_err *err)
{
    bson_t *set = exj_mrow_set(r);
    exj_code rc = result ? exj_mvalue_add(set, "result", result, err) : EXJ_OK;

    exj_bson_add_text(set, "errorCode", code);
    exj_bson_add_text(set, "errorText", text);
    exj_bson_add_msec(set, "finishedAt", now);
    if (!result || !(result->ref || result->text.n))
        exj_mrow_unset(r, "result");
    if (!result || !result->ref)
        exj_mrow_unset(r, "resultRef");
    return rc;
}

static void forget_end(exj_mrow *r)
{
    static const char *const members[] = { "result", "resultRef", "errorCode", "errorText",
                                           "finishedAt" };

    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++)
        exj_mrow_unset(r, members[i]);
    r->waits = false;
    r->signal = none;
}

static bool is_failure(exj_event e)
{
    return e == EXJ_EV_FAIL_RETRY || e == EXJ_EV_FAIL_DEAD;
}

/* What is kept of an attempt that failed (its entry's texts may be cut); and what a row that goes
 * on is shown with. */
static void add_failure(exj_mrow *r, bson_t *body, int64_t nonce, exj_slice code, exj_slice text)
{
    bson_t f;

    exj_bson_add_text(exj_mrow_set(r), "lastErrorCode", code);
    exj_bson_add_text(exj_mrow_set(r), "lastErrorText", text);
    BSON_APPEND_DOCUMENT_BEGIN(body, "failure", &f);
    BSON_APPEND_INT64(&f, "id", nonce);
    exj_bson_add_text(&f, "code", code);
    exj_bson_add_text(&f, "text", text);
    bson_append_document_end(body, &f);
}

/* ---- waits --------------------------------------------------------------------------------- */

/* A step of the row that the store itself writes: `prefix` + name, the second time
 * "…:2"; its body {"`member`":value}. */
static exj_code hear(exj_mrow *r, const char *prefix, exj_slice name, const char *member,
                     const exj_mvalue *value, size_t bytes, const exj_msteps *steps,
                     exj_msec now, exj_err *err)
{
    exj_buf key = EXJ_BUF_INIT;
    bson_t body = BSON_INITIALIZER, step, inner;
    size_t times = 1;
    exj_code rc = EXJ_OK;

    do {
        exj_buf_reset(&key);
        exj_buf_add_text(&key, prefix);
        exj_buf_add_slice(&key, name);
        if (times > 1)
            exj_buf_printf(&key, ":%zu", times);
        times++;
    } while (!key.failed && steps->has(steps->user, exj_buf_slice(&key)));
    if (key.failed) {
        rc = exj_err_set(err, EXJ_NOMEM, "no memory for a signal");
        goto out;
    }
    BSON_APPEND_DOCUMENT_BEGIN(&body, "step", &step);
    BSON_APPEND_BOOL(&step, "done", true);
    BSON_APPEND_UTF8(&step, "member", member);
    if (value->ref) {
        BSON_APPEND_DOCUMENT(&step, "valueRef", value->ref);
    } else {
        BSON_APPEND_DOCUMENT_BEGIN(&step, "value", &inner);
        rc = exj_bson_append_json(&inner, member, value->text, NULL, err);
        bson_append_document_end(&step, &inner);
    }
    bson_append_document_end(&body, &step);
    if (!rc)
        exj_mrow_tell(r, EXJ_ENTRY_STEP, (int64_t)bytes, exj_buf_slice(&key), none, &body, now);
out:
    bson_destroy(&body);
    exj_buf_release(&key);
    return rc;
}

static exj_code resume(exj_mrow *r, exj_slice signal, const char *why, exj_msec now, exj_err *err)
{
    r->run_after = 0;
    r->waits = false;
    return exj_mrow_move(r, EXJ_EV_RESUME, 0, signal, exj_slice_of(why), NULL, now, err);
}

/* The oldest signal of that name that came before. */
static bool find_kept(const exj_mrow *r, exj_slice name, bson_t *ret)
{
    bson_iter_t it, each;
    const uint8_t *p;
    uint32_t len;

    if (!r->doc || !exj_bson_find(r->doc, "signals", &it) || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &each))
        return false;
    while (bson_iter_next(&each)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(&each))
            continue;
        bson_iter_document(&each, &len, &p);
        if (bson_init_static(ret, p, len) && exj_slice_equal(exj_bson_text(ret, "name"), name))
            return true;
    }
    return false;
}

static exj_code deliver_kept(exj_mrow *r, const bson_t *kept, exj_slice name,
                             const exj_msteps *steps, exj_msec now, exj_err *err)
{
    exj_buf text = EXJ_BUF_INIT;
    bson_iter_t body, id;
    bson_t ref, by_id;
    exj_mvalue value = { 0 };
    const uint8_t *p;
    uint32_t len;
    exj_code rc = EXJ_OK;

    if (exj_bson_find(kept, "bodyRef", &body) && BSON_ITER_HOLDS_DOCUMENT(&body)) {
        bson_iter_document(&body, &len, &p);
        if (bson_init_static(&ref, p, len))
            value.ref = &ref;
    } else if (exj_bson_find(kept, "body", &body)) {
        rc = exj_bson_value_to_json(&body, NULL, &text, err);
    }
    value.text = exj_buf_slice(&text);
    if (!rc)
        rc = hear(r, "signal:", name, "payload", &value,
                  (size_t)exj_bson_i64(kept, "bytes", (int64_t)text.n), steps, now, err);
    if (!rc && exj_bson_find(kept, "id", &id)) {
        BSON_APPEND_DOCUMENT_BEGIN(exj_mrow_pull(r), "signals", &by_id);
        bson_append_iter(&by_id, "id", -1, &id);
        bson_append_document_end(exj_mrow_pull(r), &by_id);
    }
    exj_buf_release(&text);
    return rc ? rc : resume(r, name, "signal", now, err);
}

static exj_code suspend(exj_mrow *r, const exj_outcome *o, const exj_mvalue *snapshot,
                        const exj_msteps *steps, exj_msec now, exj_err *err)
{
    bson_t body = BSON_INITIALIZER, kept, s;
    exj_code rc;

    BSON_APPEND_DOCUMENT_BEGIN(&body, "snapshot", &s);
    BSON_APPEND_INT64(&s, "id", o->nonce);
    rc = exj_mvalue_add(&s, "body", snapshot, err);
    bson_append_document_end(&body, &s);
    if (!rc)
        rc = exj_mrow_move(r, EXJ_EV_SUSPEND, o->run_after, o->signal, none, &body, now, err);
    bson_destroy(&body);
    if (rc)
        return rc;
    if (r->attempts)
        r->attempts--; /* it did not fail: the attempt does not count */
    exj_mrow_end_claim(r, now);
    if (o->signal.n && find_kept(r, o->signal, &kept))
        return deliver_kept(r, &kept, o->signal, steps, now, err);
    r->run_after = o->run_after ? o->run_after : EXJ_MROW_NEVER;
    r->waits = true;
    r->wait = o->wait;
    r->signal = o->signal;
    return EXJ_OK;
}

/* ---- a holder ------------------------------------------------------------------------------ */

/* What an outcome means once the row is looked at: it never gets more attempts than it was
 * inserted with, and one that was asked to stop does not go on. */
static exj_event event_of(const exj_outcome *o, const exj_mrow *r)
{
    if (r->cancel_asked && o->event != EXJ_EV_SUCCEED)
        return EXJ_EV_CANCEL;
    if (o->event == EXJ_EV_FAIL_RETRY && r->attempts >= r->max_attempts)
        return EXJ_EV_FAIL_DEAD;
    return o->event;
}

exj_code exj_life_finish(exj_mrow *r, exj_outcome *o, const exj_mvalue *value,
                         const exj_msteps *steps, exj_msec now, exj_err *err)
{
    exj_event event = event_of(o, r);
    bool well = event == EXJ_EV_SUCCEED;
    bson_t body = BSON_INITIALIZER;
    exj_code rc;

    if (o->crashed)
        exj_mrow_tell(r, EXJ_ENTRY_CRASHED, 0, o->error_code, o->error_text, NULL, now);
    if (event == EXJ_EV_SUSPEND) {
        rc = suspend(r, o, value, steps, now, err);
        goto out;
    }
    if (is_failure(o->event))
        add_failure(r, &body, o->nonce, o->error_code, o->error_text);
    rc = exj_mrow_move(r, event, event == EXJ_EV_FAIL_RETRY ? o->run_after : 0,
                       well ? none : o->error_code, well ? none : o->error_text,
                       bson_empty(&body) ? NULL : &body, now, err);
    if (rc)
        goto out;
    exj_mrow_end_claim(r, now);
    if (event == EXJ_EV_FAIL_RETRY) {
        r->run_after = o->run_after;
        goto out;
    }
    rc = end(r, o->error_code, o->error_text, value, now, err);
    if (event == EXJ_EV_BLOCK && o->signal.n) {
        r->waits = true;
        r->wait = EXJ_WAIT_SIGNAL;
        r->signal = o->signal;
    }
out:
    bson_destroy(&body);
    if (!rc) {
        o->verdict = EXJ_OK;
        o->to = r->status;
    }
    return rc;
}

bool exj_life_finished(const exj_mrow *r, exj_outcome *o)
{
    exj_status to = EXJ_RUNNING;

    exj_state_move(EXJ_RUNNING, o->event, &to, NULL);
    o->verdict = EXJ_FENCED;
    if (!o->nonce || r->done_nonce != o->nonce || r->done_token != o->token)
        return false;
    /* This claim was ended by its holder, so by one of his outcomes: is it this one? The row may
     * have gone on since, where it could. */
    o->to = to;
    switch (r->status) {
    case EXJ_COMPLETED:
    case EXJ_BLOCKED:
        if (to != r->status)
            return false;
        break;
    case EXJ_CANCELED:
        if (o->event == EXJ_EV_SUCCEED)
            return false;
        o->to = EXJ_CANCELED;
        break;
    case EXJ_FAILED:
        if (!is_failure(o->event))
            return false;
        o->to = EXJ_FAILED;
        break;
    default:
        if (!is_failure(o->event) && o->event != EXJ_EV_SUSPEND && o->event != EXJ_EV_BLOCK)
            return false;
        break;
    }
    o->verdict = EXJ_OK;
    return true;
}

exj_code exj_life_release(exj_mrow *r, exj_msec now, exj_err *err)
{
    exj_code rc;

    if (r->cancel_asked) { /* it was asked to stop before it had begun */
        rc = exj_mrow_move(r, EXJ_EV_CANCEL, 0, none, none, NULL, now, err);
        exj_mrow_end_claim(r, now);
        return rc ? rc : end(r, EXJ_SLICE_LITERAL("Canceled"), none, NULL, now, err);
    }
    rc = exj_mrow_move(r, EXJ_EV_RELEASE, 0, none, none, NULL, now, err);
    if (rc)
        return rc;
    if (r->attempts)
        r->attempts--;
    exj_mrow_end_claim(r, now);
    return EXJ_OK;
}

/* ---- the keeper ---------------------------------------------------------------------------- */

exj_code exj_life_reap(exj_mrow *r, exj_msec now, exj_reaped *ret, exj_err *err)
{
    static const exj_slice code = EXJ_SLICE_LITERAL("LEASE_EXPIRED");
    static const exj_slice text =
        EXJ_SLICE_LITERAL("the holder's lease ended before an outcome came");
    exj_event event = EXJ_EV_REAP;
    bson_t body = BSON_INITIALIZER;
    exj_code rc;

    if (r->cancel_asked)
        event = EXJ_EV_CANCEL;
    else if (r->attempts >= r->max_attempts)
        event = EXJ_EV_REAP_DEAD;
    /* 0: no holder may take this for an outcome of its own. */
    add_failure(r, &body, 0, code, text);
    rc = exj_mrow_move(r, event, 0, code, text, &body, now, err);
    bson_destroy(&body);
    if (rc)
        return rc;
    exj_mrow_end_claim(r, now);
    r->done_nonce = 0;
    *ret = (exj_reaped){ .seq = r->seq, .pool = r->pool, .token = r->token,
                         .attempt = r->attempts, .to = r->status };
    return r->status == EXJ_QUEUED ? EXJ_OK : end(r, code, text, NULL, now, err);
}

exj_code exj_life_go_on(exj_mrow *r, const exj_msteps *steps, exj_msec now, exj_err *err)
{
    static const char *const words[] = { [EXJ_WAIT_TIME] = "time",
                                         [EXJ_WAIT_SIGNAL] = "timeout",
                                         [EXJ_WAIT_POLL] = "poll" };
    exj_mvalue value = { 0 };
    exj_slice signal = r->signal;
    char at[24];
    exj_code rc = EXJ_OK;

    if (r->status == EXJ_WAITING)
        return exj_mrow_move(r, EXJ_EV_PROMOTE, 0, none, none, NULL, now, err);
    if (r->status != EXJ_SUSPENDED)
        return exj_err_set(err, EXJ_REFUSED, "row %" PRId64 " waits for nothing", r->seq);
    if (r->wait == EXJ_WAIT_SIGNAL) {
        value.text = EXJ_SLICE_LITERAL("true");
        rc = hear(r, "signal:", signal, "timeout", &value, strlen("{\"timeout\":true}"), steps,
                  now, err);
    } else if (r->wait == EXJ_WAIT_TIME) {
        snprintf(at, sizeof(at), "%" PRId64, r->run_after);
        value.text = exj_slice_of(at);
        rc = hear(r, "timer", none, "resumeAt", &value,
                  strlen("{\"resumeAt\":}") + value.text.n, steps, now, err);
    }
    return rc ? rc : resume(r, signal, words[r->wait], now, err);
}

/* ---- operators ----------------------------------------------------------------------------- */

static exj_code come_back(exj_mrow *r, exj_event event, exj_slice key, const bson_t *body,
                          exj_msec now, exj_err *err)
{
    exj_status to;
    exj_code rc = exj_state_move(r->status, event, &to, err);

    if (rc)
        return rc;
    r->attempts = 0;
    r->run_after = 0;
    if (event == EXJ_EV_RERUN)
        r->token++; /* whoever ran it before is fenced from here on */
    rc = exj_mrow_move(r, event, 0, key, none, body, now, err);
    forget_end(r);
    return rc;
}

exj_code exj_life_retry(exj_mrow *r, exj_msec now, exj_err *err)
{
    exj_code rc = come_back(r, EXJ_EV_RETRY, none, NULL, now, err);

    if (!rc)
        r->retried_token = r->token;
    return rc;
}

exj_code exj_life_rerun(exj_mrow *r, exj_slice step, int64_t from, exj_msec now, exj_err *err)
{
    bson_t body = BSON_INITIALIZER;
    exj_status to;
    exj_code rc = exj_state_move(r->status, EXJ_EV_RERUN, &to, err);

    if (!rc && r->token == 0)
        rc = exj_err_set(err, EXJ_REFUSED,
                         "the row has never run: there is nothing to run again; retry it");
    if (!rc) {
        BSON_APPEND_INT64(&body, "forget", from);
        rc = come_back(r, EXJ_EV_RERUN, step, &body, now, err);
    }
    bson_destroy(&body);
    if (!rc)
        r->retried_token = r->token;
    return rc;
}

exj_code exj_life_cancel(exj_mrow *r, exj_slice why, exj_msec now, exj_status *ret_to,
                         bool *ret_changed, exj_err *err)
{
    exj_code rc;

    *ret_to = r->status;
    *ret_changed = false;
    if (r->status == EXJ_RUNNING) {
        if (r->cancel_asked)
            return EXJ_OK;
        rc = exj_mrow_move(r, EXJ_EV_CANCEL_ASK, 0, none, why, NULL, now, err);
        r->cancel_asked = *ret_changed = rc == EXJ_OK;
        return rc;
    }
    rc = exj_mrow_move(r, EXJ_EV_CANCEL, 0, none, why, NULL, now, err);
    if (rc)
        return rc;
    *ret_to = r->status;
    *ret_changed = true;
    r->waits = false;
    r->signal = none;
    r->run_after = 0;
    return end(r, EXJ_SLICE_LITERAL("Canceled"), why, NULL, now, err);
}

exj_code exj_life_drop(exj_mrow *r, exj_slice why, exj_msec now, exj_err *err)
{
    static const exj_slice code = EXJ_SLICE_LITERAL("Dropped");
    exj_code rc = exj_mrow_move(r, EXJ_EV_DROP, 0, code, why, NULL, now, err);

    return rc ? rc : end(r, code, why, NULL, now, err);
}

/* ---- signals ------------------------------------------------------------------------------- */

static unsigned kept_signals(const exj_mrow *r)
{
    bson_iter_t it, each;
    unsigned n = 0;

    if (r->doc && exj_bson_find(r->doc, "signals", &it) && BSON_ITER_HOLDS_ARRAY(&it) &&
        bson_iter_recurse(&it, &each))
        while (bson_iter_next(&each))
            n++;
    return n;
}

static exj_code keep(exj_mrow *r, exj_slice name, const exj_mvalue *body, size_t bytes,
                     exj_msec now, exj_err *err)
{
    exj_code rc = EXJ_OK;
    bson_oid_t id;
    bson_t s;

    if (kept_signals(r) >= EXJ_STORE_SIGNALS_KEPT)
        return exj_err_set(err, EXJ_REFUSED,
                           "%d signals are kept for the row already: it has to wait for some of "
                           "them first",
                           EXJ_STORE_SIGNALS_KEPT);
    bson_init(&s);
    bson_oid_init(&id, NULL);
    BSON_APPEND_OID(&s, "id", &id);
    exj_bson_add_text(&s, "name", name);
    exj_bson_add_msec(&s, "at", now);
    BSON_APPEND_INT64(&s, "bytes", (int64_t)bytes);
    rc = exj_mvalue_add(&s, "body", body, err);
    if (!rc) {
        exj_mrow_add(r, "signals", &s);
        exj_mrow_tell(r, EXJ_ENTRY_SIGNAL, (int64_t)bytes, name, none, NULL, now);
    }
    bson_destroy(&s);
    return rc;
}

exj_code exj_life_signal(exj_mrow *r, exj_slice name, const exj_mvalue *body, size_t bytes,
                         const exj_msteps *steps, exj_msec now, bool *ret_delivered,
                         exj_err *err)
{
    static const size_t around = sizeof("{\"payload\":}") - 1;
    exj_code rc;

    *ret_delivered = false;
    if (r->status == EXJ_BLOCKED) {
        if (r->waits && r->signal.n && !exj_slice_equal(r->signal, name))
            return exj_err_set(err, EXJ_REFUSED, "the row waits for the signal \"%.*s\"",
                               r->signal.n > 100 ? 100 : (int)r->signal.n, r->signal.p);
        rc = come_back(r, EXJ_EV_UNBLOCK, name, NULL, now, err);
        *ret_delivered = rc == EXJ_OK;
        return rc ? rc : hear(r, "signal:", name, "payload", body, bytes + around, steps, now, err);
    }
    if (exj_status_is_terminal(r->status)) {
        exj_status to;

        rc = exj_state_move(r->status, EXJ_EV_UNBLOCK, &to, err);
        return rc ? rc : exj_err_set(err, EXJ_BUG, "row %" PRId64 " takes a signal", r->seq);
    }
    if (r->status != EXJ_SUSPENDED ||
        (r->waits && !(r->wait == EXJ_WAIT_SIGNAL && exj_slice_equal(r->signal, name))))
        return keep(r, name, body, bytes, now, err);
    exj_mrow_tell(r, EXJ_ENTRY_SIGNAL, (int64_t)bytes, name, none, NULL, now);
    rc = hear(r, "signal:", name, "payload", body, bytes + around, steps, now, err);
    *ret_delivered = rc == EXJ_OK;
    return rc ? rc : resume(r, name, "signal", now, err);
}

/* ---- steps --------------------------------------------------------------------------------- */

exj_code exj_life_step(exj_mrow *r, exj_slice key, bool done, uint32_t attempt,
                       const exj_mvalue *value, size_t bytes, exj_msec now, exj_err *err)
{
    bson_t body = BSON_INITIALIZER, step;
    exj_code rc = EXJ_OK;

    BSON_APPEND_DOCUMENT_BEGIN(&body, "step", &step);
    BSON_APPEND_BOOL(&step, "done", done);
    BSON_APPEND_INT64(&step, "attempt", attempt);
    if (value)
        rc = exj_mvalue_add(&step, "value", value, err);
    bson_append_document_end(&body, &step);
    if (!rc)
        exj_mrow_tell(r, done ? EXJ_ENTRY_STEP : EXJ_ENTRY_STEP_BEGUN, (int64_t)bytes, key, none,
                      &body, now);
    bson_destroy(&body);
    return rc;
}

void exj_life_progress(exj_mrow *r, double at, exj_slice note, exj_msec now)
{
    bson_t p;

    if (!(at >= 0))
        at = -1;
    if (at > 1)
        at = 1;
    BSON_APPEND_DOCUMENT_BEGIN(exj_mrow_set(r), "progress", &p);
    BSON_APPEND_INT64(&p, "token", r->token);
    BSON_APPEND_DOUBLE(&p, "at", at);
    exj_bson_add_text(&p, "note", note);
    bson_append_document_end(exj_mrow_set(r), &p);
    exj_mrow_tell(r, EXJ_ENTRY_PROGRESS, at < 0 ? -1 : (int64_t)(at * 1e6), none, note, NULL, now);
}
