/* core/run/reload.h - between the reloader's thread (reload.c) and the orders it is given
 * (orders.c); nobody else's. All functions but the last are the reloader's thread's.
 */
#ifndef EXJ_CORE_RUN_RELOAD_H
#define EXJ_CORE_RUN_RELOAD_H

#include "core/plugin/shelf.h"
#include "core/run/inside.h"

/* Log, metric and history. `details` may be NULL. */
void exj_reload_tell(exj_engine *e, const exj_guest *g, exj_plugin_event event, const char *why,
                     json_t *details);
/* Load the content at `path` (NULL: the executor's own file) beside what is current, let it
 * prove itself, drop it again. */
exj_code exj_reload_try(exj_engine *e, struct executor *x, const char *path, unsigned rows,
                        json_t **ret_report, exj_err *err);
/* The whole way of one content: pin, trial, state, share or all rows. A refusal is told.
 * `by_order`: back to what is known; its rows are not tried again, and it takes all at once.
 * Errors: EXJ_CONFLICT (it runs already), EXJ_BUSY (later), else it was refused. */
exj_code exj_reload_take(exj_engine *e, struct executor *x, const char *path, bool by_order,
                         json_t **ret_report, exj_err *err);
/* An executor that could not be used: perhaps it can now. */
void exj_reload_look_for(exj_engine *e, struct executor *x);
/* `bad` is the canary, or what is current and not proven: what was before takes all rows. */
void exj_reload_back(exj_engine *e, struct executor *x, struct deck *bad, const char *why);
/* Carry out the orders that wait; with `stopping`: refuse them. */
void exj_reload_obey(exj_engine *e, bool stopping);

/* Executors are never taken away, new ones come first: from here the list can be walked.
 * [any thread] */
struct executor *exj_first_executor(exj_engine *e);

#endif /* EXJ_CORE_RUN_RELOAD_H */
