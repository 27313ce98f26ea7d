/* core/host/serve.h - what a plugin host does once the plugin is loaded: the core's orders.
 *
 * Calls run one at a time, on the thread that calls exj_serve, through the same door as in the
 * core (core/plugin/call.c): so a plugin that misbehaves is refused here already. What the
 * plugin asks of its host becomes a frame, and waits for the core's answer where there is one.
 */
#ifndef EXJ_CORE_HOST_SERVE_H
#define EXJ_CORE_HOST_SERVE_H

#include "core/history/recorder.h"
#include "core/host/link.h"
#include "core/plugin/load.h"

/* Give log lines and misdeeds to the core from now on (HOST_HELLO has been said). */
void exj_serve_divert(void);
/* Listen for cancelled calls on EXJ_HOST_FD_CANCEL. */
void exj_serve_cancels(void);
/* Orders until BYE; then everything is destroyed and the process may end. `answer_max`: bytes
 * of an answer, an emission, a step. `record`: borrowed; NULL: no history. */
void exj_serve(exj_plugin_file *f, uint32_t answer_max, exj_recorder *record);

#endif /* EXJ_CORE_HOST_SERVE_H */
