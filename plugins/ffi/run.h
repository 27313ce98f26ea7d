/* plugins/ffi/run.h - one call of the engine: the functions of a manifest in their order.
 *
 * Threads: any; one call is one thread. */
#ifndef EXJ_PLUGINS_FFI_RUN_H
#define EXJ_PLUGINS_FFI_RUN_H

#include "plugins/ffi/program.h"
#include "plugins/ffi/value.h"

/* Emits the answer and returns EXJ_R_OK, or says the error to the host and returns it. */
exj_result exj_ffi_run(const exj_host *h, exj_call c, const exj_ffi_program *p,
                       const exj_args *a);

/* The result slot of ffi_call as a value: an integral return narrower than a register is
 * widened to an ffi_arg by libffi, so it is never read as what it was declared. */
bool exj_ffi_take_return(const exj_ffi_type *type, const void *slot, exj_ffi_arena *a,
                         exj_ffi_value *ret, exj_ffi_trouble *t);

#endif /* EXJ_PLUGINS_FFI_RUN_H */
