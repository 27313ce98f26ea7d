/* From records, memory, constants and earlier nodes to what ffi_call takes. */
#include "plugins/ffi/run_inside.h"

/* The host has checked that it is JSON, so what is left is a number, a key or memory. */
static bool unparsed(exj_ffi_call *r, exj_str text, const json_error_t *e)
{
    int n = (int)(text.n < 40 ? text.n : 40);

    switch (json_error_code(e)) {
    case json_error_numeric_overflow:
        return exj_ffi_fail(
            r, EXJ_R_INPUT, "InputInvalid",
            "%.*s: %s; whole numbers beyond 2^53 are written as a string of digits", n,
            text.p, e->text);
    case json_error_duplicate_key:
    case json_error_null_byte_in_key:
    case json_error_stack_overflow:
        return exj_ffi_fail(r, EXJ_R_INPUT, "InputInvalid", "%.*s: %s", n, text.p,
                            e->text);
    default:
        return exj_ffi_fail(r, EXJ_R_RETRY, "NoMemory", "no memory for %.*s", n, text.p);
    }
}

static bool from_json(exj_ffi_frame *fr, const exj_ffi_arg *a, exj_ffi_value *ret)
{
    exj_ffi_call *r = fr->run;
    exj_str object = a->source == EXJ_FFI_FROM_INPUT ? r->input : r->memory, text = { 0 };
    const json_t *use = NULL;
    json_t *parsed = NULL;
    json_error_t e;
    bool good;

    if (a->source == EXJ_FFI_FROM_VALUE) {
        use = a->value;
    } else if (!exj_json_find(object, a->field, &text)) {
        use = a->value;
        if (!use)
            return exj_ffi_fail(r, EXJ_R_INPUT, "InputInvalid", "%s has no '%.100s'",
                                a->source == EXJ_FFI_FROM_INPUT ? "the record"
                                                                : "the execution memory",
                                a->field);
    } else {
        parsed =
            json_loadb(text.p, (size_t)text.n,
                       JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
        if (!parsed)
            return unparsed(r, text, &e);
        use = json_is_null(parsed) && a->value ? a->value : parsed;
    }
    good = exj_ffi_value_read(&a->type, a->nullable, use, &r->arena, ret, &r->trouble);
    json_decref(parsed);
    return good;
}

bool exj_ffi_copy_text(exj_ffi_call *r, const char *p, uint64_t n, exj_ffi_value *ret)
{
    char *copy = exj_ffi_arena_take(&r->arena, (size_t)n + 1);

    if (!copy)
        return exj_ffi_no_memory(r);
    memcpy(copy, p, (size_t)n);
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_TEXT, .p = copy, .n = (size_t)n };
    return true;
}

static bool read_source(exj_ffi_frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    const exj_ffi_function *from;
    exj_ffi_call *r = fr->run;

    if (a->source == EXJ_FFI_FROM_NOTHING)
        return true;
    if (a->source != EXJ_FFI_FROM_NODE)
        return from_json(fr, a, &fr->in[k]);
    from = &r->program->manifest->functions[a->node];
    if (!exj_ffi_value_convert(
            exj_ffi_output_type(from, a->output),
            &r->outputs[a->node]
                       [a->output == EXJ_FFI_RETURN ? from->args_len : a->output],
            &a->type, &fr->in[k], &r->trouble))
        return false;
    if (fr->in[k].form == EXJ_FFI_V_NULL && !a->nullable)
        return exj_ffi_fail(r, EXJ_R_FAILED, "ResultUnfit", "node %s gave null",
                            from->node);
    /* A function may write into its argument; the output of the other node stays as it
     * is. */
    if (fr->in[k].form == EXJ_FFI_V_TEXT)
        return exj_ffi_copy_text(r, fr->in[k].p, fr->in[k].n, &fr->in[k]);
    return true;
}

/* Memory that the function writes into, with a guard behind it. */
static void *guarded(exj_ffi_frame *fr, size_t n)
{
    unsigned char *p = n < SIZE_MAX - EXJ_FFI_GUARD_BYTES
                           ? exj_ffi_arena_take(&fr->run->arena, n + EXJ_FFI_GUARD_BYTES)
                           : NULL;

    if (p)
        memset(p + n, EXJ_FFI_GUARD_BYTE, EXJ_FFI_GUARD_BYTES);
    else
        exj_ffi_no_memory(fr->run);
    return p;
}

static bool set_in(exj_ffi_frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    exj_ffi_value *v = &fr->in[k];
    exj_ffi_held *h;

    switch (a->type.kind) {
    case EXJ_FFI_STRUCT:
        fr->values[k] = (void *)(uintptr_t)v->p;
        return true;
    case EXJ_FFI_HANDLE:
        if (v->form == EXJ_FFI_V_NULL)
            return true;
        h = &fr->run->held[v->handle - 1];
        if (!h->open)
            return exj_ffi_fail(fr->run, EXJ_R_FAILED, "HandleClosed",
                                "handle:%s#%u was closed by an earlier node",
                                a->type.ha->name, v->handle);
        fr->slots[k].p = h->p;
        return true;
    default:
        exj_ffi_value_store(&a->type, v, &fr->slots[k]);
        return true;
    }
}

static bool set_arg(exj_ffi_frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    const exj_ffi_value *v = &fr->in[k];
    exj_ffi_call *r = fr->run;
    size_t n;

    switch (a->role) {
    case EXJ_FFI_IN:
        return set_in(fr, k);
    case EXJ_FFI_IN_POINTER:
    case EXJ_FFI_OUT:
        if (a->role == EXJ_FFI_IN_POINTER && v->form == EXJ_FFI_V_NULL)
            return true; /* "nullable" */
        n = exj_ffi_size_of(&a->type);
        fr->memory[k] = guarded(fr, n);
        fr->slots[k].p = fr->memory[k];
        if (fr->memory[k] && a->source != EXJ_FFI_FROM_NOTHING)
            exj_ffi_value_store(&a->type, v, fr->memory[k]);
        return fr->memory[k] != NULL;
    case EXJ_FFI_OUT_BUFFER:
        fr->memory[k] = guarded(fr, a->capacity);
        fr->slots[k].p = fr->memory[k];
        return fr->memory[k] != NULL;
    case EXJ_FFI_LENGTH_OF:
        if (!exj_ffi_value_of_length(&a->type, fr->in[a->target].n, &fr->in[k],
                                     &r->trouble))
            return false;
        exj_ffi_value_store(&a->type, &fr->in[k], &fr->slots[k]);
        return true;
    case EXJ_FFI_CAPACITY_OF:
        if (!exj_ffi_value_of_length(&a->type, fr->f->args[a->target].capacity,
                                     &fr->in[k], &r->trouble))
            return false;
        exj_ffi_value_store(&a->type, &fr->in[k], &fr->slots[k]);
        return true;
    case EXJ_FFI_LENGTH_IN_OUT:
        if (!exj_ffi_value_of_length(&a->type, fr->f->args[a->target].capacity,
                                     &fr->in[k], &r->trouble))
            return false;
        fr->memory[k] = guarded(fr, exj_ffi_size_of(&a->type));
        fr->slots[k].p = fr->memory[k];
        if (fr->memory[k])
            exj_ffi_value_store(&a->type, &fr->in[k], fr->memory[k]);
        return fr->memory[k] != NULL;
    }
    return false;
}

bool exj_ffi_set_args(exj_ffi_frame *fr)
{
    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        fr->values[k] = &fr->slots[k];
        if (!read_source(fr, k))
            return exj_ffi_fail_at(fr, k);
    }
    for (uint32_t k = 0; k < fr->f->args_len; k++)
        if (!set_arg(fr, k))
            return exj_ffi_fail_at(fr, k);
    return true;
}
