/* core/host/crash.h - the last words of a plugin host.
 *
 * A signal that ends the process for a mistake of the plugin's leaves, in the memory that the
 * core gave us (EXJ_HOST_FD_CRASH): which signal, in which call, and where. Then it takes its
 * usual course. A plugin may put handlers of its own in place: then it answers for itself.
 */
#ifndef EXJ_CORE_HOST_CRASH_H
#define EXJ_CORE_HOST_CRASH_H

#include <stdbool.h>
#include <stdint.h>

/* Maps the memory and sets the handlers. False: there is no such memory. */
bool exj_crash_setup(void);
/* A stack for the handler, for the calling thread: an overflow leaves no other. The second
 * gives it back, before the thread ends. */
void exj_crash_thread(void);
void exj_crash_thread_end(void);
/* The call that this thread is in; 0: none. */
void exj_crash_in_call(uint64_t call);
uint64_t exj_crash_call(void);

#endif /* EXJ_CORE_HOST_CRASH_H */
