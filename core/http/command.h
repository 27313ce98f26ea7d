/* core/http/command.h - a change, done once however often it is sent (spec 2.6).
 *
 * Every mutation goes through exj_command_run. Without an Idempotency-Key that is a plain
 * call. With one the key is taken, the route runs, and its answer is kept with the key:
 *
 *   effect in the store    the route hands its operations to exj_effect; taking the key, the
 *                          effect and keeping the answer are one transaction, so after a
 *                          crash either all of it happened or nothing
 *   effect elsewhere       the key is taken first and the answer kept afterwards; the store
 *                          frees keys whose command nobody works on any more when it opens
 *
 * A key that was answered before gives the stored answer again (exj_response.replayed); one
 * that is being worked on gives 409 in_progress; one that came with another method, path,
 * query or body gives 422. What failed (400 and more) frees its key.
 *
 * Threads: an exchange belongs to one caller; answers of exj_effect are rendered on the
 * store's writer thread while the caller waits.
 */
#ifndef EXJ_CORE_HTTP_COMMAND_H
#define EXJ_CORE_HTTP_COMMAND_H

#include "core/http/exchange.h"

#define EXJ_COMMAND_KEY_MAX 255u   /* bytes; at least 1, printable ASCII */
#define EXJ_COMMAND_KEEP_HOURS 24u /* unless exj_api.idempotency_hours says otherwise */

/* `in_store`: the whole effect of `route` is one exj_effect, or none. */
void exj_command_run(exj_exchange *x, exj_route_fn route, bool in_store);

/* Answers from what `ops` gave, by exj_answer*. It runs inside the transaction, and again
 * when that has to be tried again: it must give the same each time and not touch the store. */
typedef void (*exj_effect_answer)(exj_exchange *x, const exj_op *ops, void *user);

/* Apply `ops` (an array of `n`, all or nothing) and answer. EXJ_OK: it is answered: by
 * `answer`, or because of the key (a replay, 409, 422). Else *err says why nothing was
 * applied, and the caller answers. */
exj_code exj_effect(exj_exchange *x, exj_op *ops, size_t n, exj_effect_answer answer,
                    void *user, exj_err *err);

#endif /* EXJ_CORE_HTTP_COMMAND_H */
