/* exellix/step.h - durable steps in one call. C11 and C++17, header only.
 *
 * A step is a piece of work with an effect or a cost. It runs once for a row, over all
 * attempts, crashes and restarts: its result is kept in the host's journal.
 *
 *     static exj_result fetch(void *user, exj_json_out *out) { …write JSON to out… }
 *     …
 *     exj_json_out got = EXJ_JSON_OUT_INIT;
 *     exj_result r = exj_step(host, call, "fetch", fetch, &job, &got);
 *
 * Hit: the stored JSON is in `got` and fetch does not run. Miss: the intent is told, fetch
 * runs, its JSON is committed and durable when exj_step returns. Names are stable over
 * releases of a plugin ("fetch", "item-17/upload"); a step holds no other step.
 *
 * Between the end of fetch and the commit the process can die: then fetch runs again at the
 * next attempt. An effect that must not happen twice carries a key of its own (job_id and
 * the step's name are good ones) or args->token, which grows with every attempt.
 */
#ifndef EXELLIX_STEP_H
#define EXELLIX_STEP_H

#include "exellix/json.h"
#include "exellix/plugin.h"

typedef exj_result (*exj_step_fn)(void *user, exj_json_out *out);

/* EXJ_R_OK and the result in `out` (which is emptied first); else what fn, lookup, intent
 * or commit answered: return it. EXJ_R_CANCELLED: the row is no longer ours, stop at once.
 * Without a journal (EXJ_R_UNSUPPORTED, as in `plugin check`) fn runs and nothing is kept. */
static inline exj_result exj_step(const exj_host *host, exj_call call, const char *name,
                                  exj_step_fn fn, void *user, exj_json_out *out)
{
    exj_str step = exj_text(name), stored = { NULL, 0 };
    bool kept = true;
    exj_result r;

    exj_json_out_reset(out);
    r = host->journal_lookup(host->ctx, call, step, &stored);
    if (r == EXJ_R_OK) {
        exj_json_put_raw(out, NULL, stored);
        return out->failed ? EXJ_R_RETRY : EXJ_R_OK;
    }
    if (r == EXJ_R_UNSUPPORTED)
        kept = false;
    else if (r != EXJ_R_MISS)
        return r;
    if (kept) {
        r = host->journal_intent(host->ctx, call, step);
        if (r != EXJ_R_OK)
            return r;
    }
    r = fn(user, out);
    if (r != EXJ_R_OK)
        return r;
    if (out->failed)
        return EXJ_R_RETRY;
    return kept ? host->journal_commit(host->ctx, call, step, exj_json_out_text(out)) : EXJ_R_OK;
}

#endif /* EXELLIX_STEP_H */
