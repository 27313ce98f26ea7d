/* What a function left behind: guards, text, handles, the return; success or why not. */
#include <errno.h>

#include "plugins/ffi/run_inside.h"

#define TEXT_MAX (8u * 1024u * 1024u) /* of a returned string */

/* ---- the return and what belongs to it --------------------------------------------- */

bool exj_ffi_take_return(const exj_ffi_type *type, const void *slot, exj_ffi_arena *a,
                         exj_ffi_value *ret, exj_ffi_trouble *t)
{
    exj_ffi_kind k = type->kind == EXJ_FFI_ENUM ? type->en->underlying : type->kind;
    unsigned char own[8];
    ffi_arg wide;

    if (k != EXJ_FFI_BOOL && !exj_ffi_is_integer(k))
        return exj_ffi_value_load(type, slot, a, ret, t);
    if (exj_ffi_size_of(type) >= sizeof wide)
        return exj_ffi_value_load(type, slot, a, ret, t);
    memcpy(&wide, slot, sizeof wide);
    switch (exj_ffi_size_of(type)) {
    case 1:
        memcpy(own, &(uint8_t){ (uint8_t)wide }, 1);
        break;
    case 2:
        memcpy(own, &(uint16_t){ (uint16_t)wide }, 2);
        break;
    default:
        memcpy(own, &(uint32_t){ (uint32_t)wide }, 4);
        break;
    }
    return exj_ffi_value_load(type, own, a, ret, t);
}

bool exj_ffi_guards_hold(exj_ffi_frame *fr)
{
    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];
        const unsigned char *p = fr->memory[k];

        if (!p)
            continue;
        p += a->role == EXJ_FFI_OUT_BUFFER ? a->capacity : exj_ffi_size_of(&a->type);
        for (int i = 0; i < EXJ_FFI_GUARD_BYTES; i++)
            if (p[i] != EXJ_FFI_GUARD_BYTE) {
                exj_ffi_fail(fr->run, EXJ_R_FAILED, "OutOverrun",
                             "%s wrote beyond its end; the memory of this plugin host "
                             "cannot be trusted "
                             "any more, and the manifest is wrong about %s",
                             fr->f->symbol, fr->f->symbol);
                return exj_ffi_fail_at(fr, k);
            }
    }
    return true;
}

/* The library's text, copied while nobody else is in the library. */
static bool copy_string(exj_ffi_call *r, const char *p, exj_ffi_value *ret)
{
    size_t n;

    *ret = (exj_ffi_value){ 0 };
    if (!p)
        return true;
    n = strnlen(p, TEXT_MAX);
    if (n == TEXT_MAX)
        return exj_ffi_fail(r, EXJ_R_FAILED, "ResultUnfit",
                            "the text is longer than %u bytes", TEXT_MAX);
    return exj_ffi_copy_text(r, p, n, ret);
}

static void give_back(exj_ffi_code code, void *p)
{
    void (*end)(void *) = NULL;

    memcpy(&end, &code, sizeof end);
    if (code && p)
        end(p);
}

/* A length that the function has told: not negative. */
static bool length_of(exj_ffi_frame *fr, uint32_t where, uint64_t *ret)
{
    const exj_ffi_type *type =
        where == EXJ_FFI_RETURN ? &fr->f->returns.type : &fr->f->args[where].type;
    exj_ffi_value v = fr->returned;

    if (where != EXJ_FFI_RETURN &&
        !exj_ffi_value_load(type, fr->memory[where], &fr->run->arena, &v,
                            &fr->run->trouble))
        return false;
    if (v.form == EXJ_FFI_V_INT && v.i < 0)
        return exj_ffi_fail(fr->run, EXJ_R_FAILED, "ResultUnfit", "the length is %lld",
                            (long long)v.i);
    *ret = v.form == EXJ_FFI_V_UINT ? v.u : (uint64_t)v.i;
    return true;
}

bool exj_ffi_take_texts(exj_ffi_frame *fr, void *slot)
{
    const exj_ffi_returns *ret = &fr->f->returns;
    exj_ffi_call *r = fr->run;
    bool good = true;
    uint64_t n = 0;
    void *p;

    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];

        if (a->role != EXJ_FFI_OUT ||
            (a->type.kind != EXJ_FFI_STR && a->type.kind != EXJ_FFI_HANDLE))
            continue;
        memcpy(&p, fr->memory[k], sizeof p);
        if (a->type.kind == EXJ_FFI_STR) {
            good = (copy_string(r, p, &fr->out[k]) || exj_ffi_fail_at(fr, k)) && good;
            give_back(fr->ready->free_arg[k], p);
        } else if (p) {
            exj_ffi_held_add(r, p, a->type.ha, &fr->out[k]);
        }
    }
    if (ret->type.kind != EXJ_FFI_STR && ret->type.kind != EXJ_FFI_BYTES &&
        ret->type.kind != EXJ_FFI_HANDLE)
        return exj_ffi_take_return(&ret->type, slot, &r->arena, &fr->returned,
                                   &r->trouble) &&
               good;
    memcpy(&p, slot, sizeof p);
    if (ret->type.kind == EXJ_FFI_HANDLE) {
        if (p)
            exj_ffi_held_add(r, p, ret->type.ha, &fr->returned);
    } else if (ret->type.kind == EXJ_FFI_STR) {
        good =
            (copy_string(r, p, &fr->returned) || exj_ffi_fail_at(fr, EXJ_FFI_RETURN)) &&
            good;
    } else if (p) {
        if (!length_of(fr, ret->length, &n))
            good = exj_ffi_fail_at(fr, EXJ_FFI_RETURN);
        else if (n > EXJ_FFI_CAPACITY_MAX)
            good = exj_ffi_fail(r, EXJ_R_FAILED, "ResultUnfit",
                                "node %s: %llu bytes are returned; at most "
                                "%u are taken",
                                fr->f->node, (unsigned long long)n, EXJ_FFI_CAPACITY_MAX);
        else
            good = exj_ffi_copy_text(r, p, n, &fr->returned) && good;
    }
    give_back(fr->ready->free_return, p);
    return good;
}

/* ---- was it a success? ------------------------------------------------------------- */

static int compare(const exj_ffi_value *v, int64_t bound)
{
    if (v->form == EXJ_FFI_V_BOOL)
        return ((int64_t)v->b > bound) - ((int64_t)v->b < bound);
    if (v->form == EXJ_FFI_V_UINT)
        return bound < 0 ? 1 : (v->u > (uint64_t)bound) - (v->u < (uint64_t)bound);
    return (v->i > bound) - (v->i < bound);
}

bool exj_ffi_succeeded(const exj_ffi_frame *fr)
{
    const exj_ffi_returns *ret = &fr->f->returns;
    int d = compare(&fr->returned, ret->bound);

    switch (ret->rule) {
    case EXJ_FFI_NON_NULL:
        return fr->returned.form != EXJ_FFI_V_NULL;
    case EXJ_FFI_EQ:
        return d == 0;
    case EXJ_FFI_NE:
        return d != 0;
    case EXJ_FFI_LT:
        return d < 0;
    case EXJ_FFI_LE:
        return d <= 0;
    case EXJ_FFI_GT:
        return d > 0;
    case EXJ_FFI_GE:
        return d >= 0;
    default:
        return true;
    }
}

static bool passes_by_itself(int e) /* worth another attempt */
{
    return e == EAGAIN || e == EINTR || e == ENOMEM || e == EBUSY || e == ETIMEDOUT ||
           e == ENFILE || e == EMFILE || e == ENOBUFS || e == ECONNRESET ||
           e == ECONNREFUSED;
}

/* What else there is to say: a buffer that was too small, a text that was put out. */
static void add_hints(exj_ffi_frame *fr, char *text, size_t cap)
{
    size_t at = strlen(text);

    for (uint32_t k = 0; k < fr->f->args_len && at < cap; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];
        exj_ffi_trouble kept = fr->run->trouble;
        uint64_t n;

        if (a->role == EXJ_FFI_OUT_BUFFER && a->length < EXJ_FFI_NO_INDEX &&
            length_of(fr, a->length, &n) && n > a->capacity)
            at += (size_t)snprintf(text + at, cap - at,
                                   "; it asks for %llu bytes of '%s', whose "
                                   "capacity is %u",
                                   (unsigned long long)n, a->out, a->capacity);
        else if (a->role == EXJ_FFI_OUT && a->type.kind == EXJ_FFI_STR &&
                 fr->out[k].form == EXJ_FFI_V_TEXT)
            at += (size_t)snprintf(text + at, cap - at, "; %s: %.200s", a->out,
                                   fr->out[k].p);
        fr->run->trouble = kept;
    }
}

bool exj_ffi_explain_failure(exj_ffi_frame *fr)
{
    const exj_ffi_returns *ret = &fr->f->returns;
    const exj_ffi_value *v = &fr->returned;
    const char *name = NULL;
    char number[32] = "null", code[32], text[480];
    int e = fr->saved_errno;
    bool retry;

    if (v->form == EXJ_FFI_V_UINT)
        snprintf(number, sizeof number, "%llu", (unsigned long long)v->u);
    else if (v->form == EXJ_FFI_V_INT)
        snprintf(number, sizeof number, "%lld", (long long)v->i);
    else if (v->form == EXJ_FFI_V_BOOL)
        snprintf(number, sizeof number, "%s", v->b ? "true" : "false");
    for (size_t k = 0; ret->type.kind == EXJ_FFI_ENUM && k < ret->type.en->len; k++)
        if (compare(v, ret->type.en->items[k].value) == 0)
            name = ret->type.en->items[k].name;
    snprintf(text, sizeof text, "node %.100s: %.100s returned %s%s%s%s (success is %s)",
             fr->f->node, fr->f->symbol, number, name ? " (" : "", name ? name : "",
             name ? ")" : "", ret->success);
    if (ret->error_is_errno) {
        size_t at = strlen(text);

        if (e && strerrorname_np(e))
            snprintf(code, sizeof code, "%s", strerrorname_np(e));
        else
            snprintf(code, sizeof code, e ? "Errno%d" : "FunctionFailed", e);
        if (e && strerrordesc_np(e))
            snprintf(text + at, sizeof text - at, ": %s", strerrordesc_np(e));
        retry = passes_by_itself(e);
    } else {
        snprintf(code, sizeof code, "%s%s", name ? "" : "Returned", name ? name : number);
        retry = false;
    }
    if (ret->retry >= 0)
        retry = ret->retry;
    add_hints(fr, text, sizeof text);
    return exj_ffi_fail(fr->run, retry ? EXJ_R_RETRY : EXJ_R_FAILED, code, "%s", text);
}

/* ---- outputs ----------------------------------------------------------------------- */

static bool take_buffer(exj_ffi_frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    char *p = fr->memory[k];
    uint64_t n = a->capacity;
    exj_ffi_call *r = fr->run;

    if (a->length != EXJ_FFI_NO_INDEX && !length_of(fr, a->length, &n))
        return false;
    if (n > a->capacity)
        return exj_ffi_fail(r, EXJ_R_FAILED, "OutTooSmall",
                            "%s asks for %llu bytes; \"capacity\" is %u", fr->f->symbol,
                            (unsigned long long)n, a->capacity);
    if (a->type.kind == EXJ_FFI_STR && a->length == EXJ_FFI_NO_INDEX) {
        n = strnlen(p, a->capacity);
        if (n == a->capacity)
            return exj_ffi_fail(
                r, EXJ_R_FAILED, "OutTooSmall",
                "%s wrote no terminating NUL within \"capacity\", %u bytes",
                fr->f->symbol, a->capacity);
    } else if (a->type.kind == EXJ_FFI_STR) {
        n -= n > 0 && p[n - 1] == '\0'; /* some count it */
        if (n && memchr(p, 0, (size_t)n))
            return exj_ffi_fail(r, EXJ_R_FAILED, "ResultUnfit",
                                "the text has a NUL in it; take it as outBytes");
    }
    p[n] = '\0'; /* the guard was looked at already */
    fr->out[k] = (exj_ffi_value){ .form = EXJ_FFI_V_TEXT, .p = p, .n = (size_t)n };
    return true;
}

bool exj_ffi_take_outputs(exj_ffi_frame *fr)
{
    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];

        if (a->role == EXJ_FFI_OUT_BUFFER) {
            if (!take_buffer(fr, k))
                return exj_ffi_fail_at(fr, k);
        } else if (a->role == EXJ_FFI_OUT && a->type.kind != EXJ_FFI_STR &&
                   a->type.kind != EXJ_FFI_HANDLE) {
            if (!exj_ffi_value_load(&a->type, fr->memory[k], &fr->run->arena, &fr->out[k],
                                    &fr->run->trouble))
                return exj_ffi_fail_at(fr, k);
        }
    }
    fr->out[fr->f->args_len] = fr->returned;
    return true;
}
