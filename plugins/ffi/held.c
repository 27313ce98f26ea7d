/* Handles: pointers that only their library understands, open as long as the row at most.
 */
#include <stdlib.h>

#include "plugins/ffi/run_inside.h"

bool exj_ffi_held_reserve(exj_ffi_call *r, const exj_ffi_function *f)
{
    uint32_t need = r->held_len + (f->returns.type.kind == EXJ_FFI_HANDLE);
    exj_ffi_held *grown;

    for (uint32_t k = 0; k < f->args_len; k++)
        need += f->args[k].role == EXJ_FFI_OUT && f->args[k].type.kind == EXJ_FFI_HANDLE;
    if (need <= r->held_cap)
        return true;
    grown = realloc(r->held, need * sizeof *grown);
    if (!grown)
        return exj_ffi_no_memory(r);
    r->held = grown;
    r->held_cap = need;
    return true;
}

void exj_ffi_held_add(exj_ffi_call *r, void *p, const exj_ffi_handle *type,
                      exj_ffi_value *ret)
{
    /* Some functions hand back what they were given: it is closed once. */
    for (uint32_t k = 0; k < r->held_len; k++)
        if (r->held[k].p == p && r->held[k].type == type && r->held[k].open) {
            *ret = (exj_ffi_value){ .form = EXJ_FFI_V_HANDLE, .handle = k + 1 };
            return;
        }
    r->held[r->held_len] = (exj_ffi_held){ p, type, true };
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_HANDLE, .handle = ++r->held_len };
}

void exj_ffi_held_close_all(exj_ffi_call *r)
{
    const exj_ffi_manifest *m = r->program->manifest;

    while (r->held_len > 0) {
        exj_ffi_held *h = &r->held[--r->held_len];
        const exj_ffi_closer *closer = &r->program->closers[h->type - m->handles];
        void (*end)(void *) = NULL;

        if (!h->open || !closer->code)
            continue;
        memcpy(&end, &closer->code, sizeof end);
        pthread_mutex_lock(&closer->library->mu);
        end(h->p);
        pthread_mutex_unlock(&closer->library->mu);
    }
    free(r->held);
}
