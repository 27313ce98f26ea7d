/* Manifests of exellix.ffi: whatever is accepted holds to what its callers rely on. Constants
 * that were accepted are read again, as a call does.
 *
 * sources: plugins/ffi/manifest.c plugins/ffi/manifest_types.c plugins/ffi/manifest_functions.c
 * sources: plugins/ffi/value.c plugins/ffi/value_write.c
 */
#include <stdint.h>
#include <stdlib.h>

#include "plugins/ffi/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(x)                                                                          \
    do {                                                                                  \
        if (!(x))                                                                         \
            abort();                                                                      \
    } while (0)

static void check_arg(const exj_ffi_manifest *m, const exj_ffi_function *f, uint32_t k)
{
    const exj_ffi_arg *a = &f->args[k];
    char name[200];

    exj_ffi_type_name(&a->type, name, sizeof name);
    HOLDS(a->type.kind != EXJ_FFI_VOID && strlen(name) > 0);
    HOLDS(exj_ffi_size_of(&a->type) > 0 && exj_ffi_align_of(&a->type) > 0);
    HOLDS(a->type.kind != EXJ_FFI_STRUCT || a->type.st);
    HOLDS(a->type.kind != EXJ_FFI_HANDLE || a->type.ha);
    HOLDS(a->role != EXJ_FFI_OUT_BUFFER || (a->capacity >= 1 && a->capacity <= EXJ_FFI_CAPACITY_MAX));
    HOLDS(a->role < EXJ_FFI_LENGTH_OF || a->target < f->args_len);
    HOLDS(a->role != EXJ_FFI_OUT_BUFFER || a->length >= EXJ_FFI_NO_INDEX || a->length < f->args_len);
    HOLDS(a->owner != EXJ_FFI_FREE || a->free_with);
    if (a->source == EXJ_FFI_FROM_NODE) {
        const exj_ffi_function *from = &m->functions[a->node];

        HOLDS(from < f && (a->output == EXJ_FFI_RETURN || a->output < from->args_len));
        HOLDS(exj_ffi_fits(exj_ffi_output_type(from, a->output), &a->type));
    } else if (a->value && a->type.kind != EXJ_FFI_HANDLE) {
        exj_ffi_arena arena = { 0 };
        exj_ffi_trouble t = { 0 };
        exj_ffi_value v;
        exj_json_out out = EXJ_JSON_OUT_INIT;
        unsigned char slot[1 << 16];

        HOLDS(exj_ffi_value_read(&a->type, a->nullable, a->value, &arena, &v, &t));
        if (v.form != EXJ_FFI_V_NULL && exj_ffi_size_of(&a->type) <= sizeof slot)
            exj_ffi_value_store(&a->type, &v, slot);
        exj_json_begin_object(&out);
        HOLDS(exj_ffi_value_write(&out, "v", &a->type, &v, &t));
        exj_json_out_release(&out);
        exj_ffi_arena_release(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exj_ffi_trouble t = { 0 };
    exj_ffi_manifest *m = exj_ffi_manifest_read((const char *)data, size, &t);

    HOLDS(m || (t.code[0] && t.text[0]));
    for (size_t k = 0; m && k < m->functions_len; k++) {
        const exj_ffi_function *f = &m->functions[k];

        HOLDS(f->node && f->symbol && f->library && f->args_len <= EXJ_FFI_ARGS_MAX);
        HOLDS(!f->variadic || (f->fixed >= 1 && f->fixed <= f->args_len));
        HOLDS(!strstr(f->symbol, "printf"));
        HOLDS(f->returns.type.kind != EXJ_FFI_BYTES || f->returns.length < f->args_len);
        for (uint32_t i = 0; i < f->args_len; i++)
            check_arg(m, f, i);
    }
    exj_ffi_manifest_free(m);
    return 0;
}
