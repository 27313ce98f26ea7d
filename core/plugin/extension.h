/* core/plugin/extension.h - what a host offers by id, and how it gets into a call.
 *
 * An extension is a table of functions (include/exellix/ext/) that speak of a call as exj_host
 * does: each enters the call first, so the rules of core/plugin/call.c hold, then does its work
 * through the call's ports. The same file serves the core and a plugin host: there the ports
 * speak over the wire, and the core does what they ask through its own table, so what is
 * checked here is checked where it counts.
 *
 * Threads: any; functions and tables only.
 */
#ifndef EXJ_CORE_PLUGIN_EXTENSION_H
#define EXJ_CORE_PLUGIN_EXTENSION_H

#include "core/plugin/plugin.h"

/* The table of "exellix.kv/1", … NULL: none of that id (or no id). */
const void *exj_extension_find(const char *id);

/* Is it a series as include/exellix/ext/metrics.h describes it? Errors: EXJ_INVALID. */
exj_code exj_series_check(exj_slice series, exj_err *err);

/* ---- call.c ----------------------------------------------------------------------------- */
/* The call `c` of this instance, kept from ending until exj_call_leave. NULL: there is none,
 * which has been counted as a misdeed of `function`. */
exj_call_slot *exj_call_enter(exj_instance *i, exj_call c, const char *function);
void exj_call_leave(exj_call_slot *s);
const exj_call_ports *exj_call_ports_of(const exj_call_slot *s); /* while inside */
/* One thread of the call at a time; what kv's get gives lives in the buffer. */
exj_buf *exj_call_lock(exj_call_slot *s);
void exj_call_unlock(exj_call_slot *s);

#endif /* EXJ_CORE_PLUGIN_EXTENSION_H */
