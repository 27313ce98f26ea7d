#include "plugins/ffi/run.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define GUARD_BYTES 32
#define GUARD_BYTE 0xa5
#define TEXT_MAX (8u * 1024u * 1024u) /* of a returned string */

/* A pointer of the library's, named by its place in this table and its type. */
struct held {
    void *p;
    const exj_ffi_handle *type;
    bool open;
};

struct run {
    const exj_host *h;
    exj_call c;
    const exj_args *args;
    const exj_ffi_program *program;
    exj_ffi_arena arena;
    exj_ffi_trouble trouble;
    exj_str input, memory;      /* objects of the runtime; empty: absent */
    exj_ffi_value **outputs;    /* of each function: one an argument, then the return */
    struct held *held;
    uint32_t held_len, held_cap;
};

/* One function being called. */
struct frame {
    struct run *run;
    const exj_ffi_function *f;
    const exj_ffi_ready *ready;
    union slot {
        unsigned char bytes[16];
        void *p;
    } slots[EXJ_FFI_ARGS_MAX];
    void *values[EXJ_FFI_ARGS_MAX];       /* what ffi_call takes */
    void *memory[EXJ_FFI_ARGS_MAX];       /* what a pointer points to */
    exj_ffi_value in[EXJ_FFI_ARGS_MAX];
    exj_ffi_value *out;                   /* = run->outputs[this] */
    exj_ffi_value returned;               /* before text is copied: V_NULL or its number */
    int saved_errno;
};

static bool fail(struct run *r, exj_result result, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool fail(struct run *r, exj_result result, const char *code, const char *format, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return exj_ffi_trouble_set(&r->trouble, result, code, "%s", text);
}

/* Puts "node score, argument 0 (input.text): " before what is said already. */
static bool fail_at(struct frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = k == EXJ_FFI_RETURN ? NULL : &fr->f->args[k];
    const char *what = !a ? "return" : a->out ? a->out : a->from ? a->from : "value";
    exj_ffi_trouble inner = fr->run->trouble;

    if (!a)
        return fail(fr->run, inner.result, inner.code, "node %s, what %s returned: %.450s",
                    fr->f->node, fr->f->symbol, inner.text);
    return fail(fr->run, inner.result, inner.code, "node %s, argument %u (%.100s): %.400s",
                fr->f->node, k, what, inner.text);
}

static bool no_memory(struct run *r)
{
    return fail(r, EXJ_R_RETRY, "NoMemory", "no memory");
}

/* ---- handles -------------------------------------------------------------------------------- */

/* Room for what a function can put out, made before it is called: afterwards a handle that
 * finds no place would never be closed. */
static bool held_reserve(struct run *r, const exj_ffi_function *f)
{
    uint32_t need = r->held_len + (f->returns.type.kind == EXJ_FFI_HANDLE);
    struct held *grown;

    for (uint32_t k = 0; k < f->args_len; k++)
        need += f->args[k].role == EXJ_FFI_OUT && f->args[k].type.kind == EXJ_FFI_HANDLE;
    if (need <= r->held_cap)
        return true;
    grown = realloc(r->held, need * sizeof *grown);
    if (!grown)
        return no_memory(r);
    r->held = grown;
    r->held_cap = need;
    return true;
}

static void held_add(struct run *r, void *p, const exj_ffi_handle *type, exj_ffi_value *ret)
{
    /* Some functions hand back what they were given: it is closed once. */
    for (uint32_t k = 0; k < r->held_len; k++)
        if (r->held[k].p == p && r->held[k].type == type && r->held[k].open) {
            *ret = (exj_ffi_value){ .form = EXJ_FFI_V_HANDLE, .handle = k + 1 };
            return;
        }
    r->held[r->held_len] = (struct held){ p, type, true };
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_HANDLE, .handle = ++r->held_len };
}

static void held_close_all(struct run *r)
{
    const exj_ffi_manifest *m = r->program->manifest;

    while (r->held_len > 0) {
        struct held *h = &r->held[--r->held_len];
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

/* ---- arguments ------------------------------------------------------------------------------ */

/* The host has checked that it is JSON, so what is left is a number, a key or memory. */
static bool unparsed(struct run *r, exj_str text, const json_error_t *e)
{
    int n = (int)(text.n < 40 ? text.n : 40);

    switch (json_error_code(e)) {
    case json_error_numeric_overflow:
        return fail(r, EXJ_R_INPUT, "InputInvalid",
                    "%.*s: %s; whole numbers beyond 2^53 are written as a string of digits", n,
                    text.p, e->text);
    case json_error_duplicate_key:
    case json_error_null_byte_in_key:
    case json_error_stack_overflow:
        return fail(r, EXJ_R_INPUT, "InputInvalid", "%.*s: %s", n, text.p, e->text);
    default: return fail(r, EXJ_R_RETRY, "NoMemory", "no memory for %.*s", n, text.p);
    }
}

static bool from_json(struct frame *fr, const exj_ffi_arg *a, exj_ffi_value *ret)
{
    struct run *r = fr->run;
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
            return fail(r, EXJ_R_INPUT, "InputInvalid", "%s has no '%.100s'",
                        a->source == EXJ_FFI_FROM_INPUT ? "the record"
                                                        : "the execution memory", a->field);
    } else {
        parsed = json_loadb(text.p, (size_t)text.n,
                            JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
        if (!parsed)
            return unparsed(r, text, &e);
        use = json_is_null(parsed) && a->value ? a->value : parsed;
    }
    good = exj_ffi_value_read(&a->type, a->nullable, use, &r->arena, ret, &r->trouble);
    json_decref(parsed);
    return good;
}

static bool copy_text(struct run *r, const char *p, uint64_t n, exj_ffi_value *ret)
{
    char *copy = exj_ffi_arena_take(&r->arena, (size_t)n + 1);

    if (!copy)
        return no_memory(r);
    memcpy(copy, p, (size_t)n);
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_TEXT, .p = copy, .n = (size_t)n };
    return true;
}

static bool read_source(struct frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    const exj_ffi_function *from;
    struct run *r = fr->run;

    if (a->source == EXJ_FFI_FROM_NOTHING)
        return true;
    if (a->source != EXJ_FFI_FROM_NODE)
        return from_json(fr, a, &fr->in[k]);
    from = &r->program->manifest->functions[a->node];
    if (!exj_ffi_value_convert(
            exj_ffi_output_type(from, a->output),
            &r->outputs[a->node][a->output == EXJ_FFI_RETURN ? from->args_len : a->output],
            &a->type, &fr->in[k], &r->trouble))
        return false;
    if (fr->in[k].form == EXJ_FFI_V_NULL && !a->nullable)
        return fail(r, EXJ_R_FAILED, "ResultUnfit", "node %s gave null", from->node);
    /* A function may write into its argument; the output of the other node stays as it is. */
    if (fr->in[k].form == EXJ_FFI_V_TEXT)
        return copy_text(r, fr->in[k].p, fr->in[k].n, &fr->in[k]);
    return true;
}

/* Memory that the function writes into, with a guard behind it. */
static void *guarded(struct frame *fr, size_t n)
{
    unsigned char *p = n < SIZE_MAX - GUARD_BYTES
                           ? exj_ffi_arena_take(&fr->run->arena, n + GUARD_BYTES)
                           : NULL;

    if (p)
        memset(p + n, GUARD_BYTE, GUARD_BYTES);
    else
        no_memory(fr->run);
    return p;
}

static bool set_in(struct frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    exj_ffi_value *v = &fr->in[k];
    struct held *h;

    switch (a->type.kind) {
    case EXJ_FFI_STRUCT:
        fr->values[k] = (void *)(uintptr_t)v->p;
        return true;
    case EXJ_FFI_HANDLE:
        if (v->form == EXJ_FFI_V_NULL)
            return true;
        h = &fr->run->held[v->handle - 1];
        if (!h->open)
            return fail(fr->run, EXJ_R_FAILED, "HandleClosed",
                        "handle:%s#%u was closed by an earlier node", a->type.ha->name,
                        v->handle);
        fr->slots[k].p = h->p;
        return true;
    default: exj_ffi_value_store(&a->type, v, &fr->slots[k]); return true;
    }
}

static bool set_arg(struct frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    const exj_ffi_value *v = &fr->in[k];
    struct run *r = fr->run;
    size_t n;

    switch (a->role) {
    case EXJ_FFI_IN: return set_in(fr, k);
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
        if (!exj_ffi_value_of_length(&a->type, fr->in[a->target].n, &fr->in[k], &r->trouble))
            return false;
        exj_ffi_value_store(&a->type, &fr->in[k], &fr->slots[k]);
        return true;
    case EXJ_FFI_CAPACITY_OF:
        if (!exj_ffi_value_of_length(&a->type, fr->f->args[a->target].capacity, &fr->in[k],
                                     &r->trouble))
            return false;
        exj_ffi_value_store(&a->type, &fr->in[k], &fr->slots[k]);
        return true;
    case EXJ_FFI_LENGTH_IN_OUT:
        if (!exj_ffi_value_of_length(&a->type, fr->f->args[a->target].capacity, &fr->in[k],
                                     &r->trouble))
            return false;
        fr->memory[k] = guarded(fr, exj_ffi_size_of(&a->type));
        fr->slots[k].p = fr->memory[k];
        if (fr->memory[k])
            exj_ffi_value_store(&a->type, &fr->in[k], fr->memory[k]);
        return fr->memory[k] != NULL;
    }
    return false;
}

static bool set_args(struct frame *fr)
{
    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        fr->values[k] = &fr->slots[k];
        if (!read_source(fr, k))
            return fail_at(fr, k);
    }
    for (uint32_t k = 0; k < fr->f->args_len; k++)
        if (!set_arg(fr, k))
            return fail_at(fr, k);
    return true;
}

/* ---- the call ------------------------------------------------------------------------------- */

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
    case 1: memcpy(own, &(uint8_t){ (uint8_t)wide }, 1); break;
    case 2: memcpy(own, &(uint16_t){ (uint16_t)wide }, 2); break;
    default: memcpy(own, &(uint32_t){ (uint32_t)wide }, 4); break;
    }
    return exj_ffi_value_load(type, own, a, ret, t);
}

static bool guards_hold(struct frame *fr)
{
    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];
        const unsigned char *p = fr->memory[k];

        if (!p)
            continue;
        p += a->role == EXJ_FFI_OUT_BUFFER ? a->capacity : exj_ffi_size_of(&a->type);
        for (int i = 0; i < GUARD_BYTES; i++)
            if (p[i] != GUARD_BYTE) {
                fail(fr->run, EXJ_R_FAILED, "OutOverrun",
                     "%s wrote beyond its end; the memory of this plugin host cannot be trusted "
                     "any more, and the manifest is wrong about %s", fr->f->symbol,
                     fr->f->symbol);
                return fail_at(fr, k);
            }
    }
    return true;
}

/* The library's text, copied while nobody else is in the library. */
static bool copy_string(struct run *r, const char *p, exj_ffi_value *ret)
{
    size_t n;

    *ret = (exj_ffi_value){ 0 };
    if (!p)
        return true;
    n = strnlen(p, TEXT_MAX);
    if (n == TEXT_MAX)
        return fail(r, EXJ_R_FAILED, "ResultUnfit", "the text is longer than %u bytes", TEXT_MAX);
    return copy_text(r, p, n, ret);
}

static void give_back(exj_ffi_code code, void *p)
{
    void (*end)(void *) = NULL;

    memcpy(&end, &code, sizeof end);
    if (code && p)
        end(p);
}

/* A length that the function has told: not negative. */
static bool length_of(struct frame *fr, uint32_t where, uint64_t *ret)
{
    const exj_ffi_type *type = where == EXJ_FFI_RETURN ? &fr->f->returns.type
                                                       : &fr->f->args[where].type;
    exj_ffi_value v = fr->returned;

    if (where != EXJ_FFI_RETURN &&
        !exj_ffi_value_load(type, fr->memory[where], &fr->run->arena, &v, &fr->run->trouble))
        return false;
    if (v.form == EXJ_FFI_V_INT && v.i < 0)
        return fail(fr->run, EXJ_R_FAILED, "ResultUnfit", "the length is %lld", (long long)v.i);
    *ret = v.form == EXJ_FFI_V_UINT ? v.u : (uint64_t)v.i;
    return true;
}

/* What must be read before the next caller enters the library. */
static bool take_texts(struct frame *fr, void *slot)
{
    const exj_ffi_returns *ret = &fr->f->returns;
    struct run *r = fr->run;
    bool good = true;
    uint64_t n = 0;
    void *p;

    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];

        if (a->role != EXJ_FFI_OUT || (a->type.kind != EXJ_FFI_STR &&
                                       a->type.kind != EXJ_FFI_HANDLE))
            continue;
        memcpy(&p, fr->memory[k], sizeof p);
        if (a->type.kind == EXJ_FFI_STR) {
            good = (copy_string(r, p, &fr->out[k]) || fail_at(fr, k)) && good;
            give_back(fr->ready->free_arg[k], p);
        } else if (p) {
            held_add(r, p, a->type.ha, &fr->out[k]);
        }
    }
    if (ret->type.kind != EXJ_FFI_STR && ret->type.kind != EXJ_FFI_BYTES &&
        ret->type.kind != EXJ_FFI_HANDLE)
        return exj_ffi_take_return(&ret->type, slot, &r->arena, &fr->returned, &r->trouble) &&
               good;
    memcpy(&p, slot, sizeof p);
    if (ret->type.kind == EXJ_FFI_HANDLE) {
        if (p)
            held_add(r, p, ret->type.ha, &fr->returned);
    } else if (ret->type.kind == EXJ_FFI_STR) {
        good = (copy_string(r, p, &fr->returned) || fail_at(fr, EXJ_FFI_RETURN)) && good;
    } else if (p) {
        if (!length_of(fr, ret->length, &n))
            good = fail_at(fr, EXJ_FFI_RETURN);
        else if (n > EXJ_FFI_CAPACITY_MAX)
            good = fail(r, EXJ_R_FAILED, "ResultUnfit", "node %s: %llu bytes are returned; at most "
                        "%u are taken", fr->f->node, (unsigned long long)n, EXJ_FFI_CAPACITY_MAX);
        else
            good = copy_text(r, p, n, &fr->returned) && good;
    }
    give_back(fr->ready->free_return, p);
    return good;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool call_function(struct frame *fr)
{
    const exj_ffi_type *type = &fr->f->returns.type;
    size_t n = exj_ffi_size_of(type) > sizeof(ffi_arg) ? exj_ffi_size_of(type) : sizeof(ffi_arg);
    void *slot = exj_ffi_arena_take(&fr->run->arena, n);
    int64_t began;
    bool good;

    if (!slot)
        return no_memory(fr->run);
    if (!fr->f->thread_safe)
        pthread_mutex_lock(&fr->ready->library->mu);
    began = fr->f->deadline_ms ? now_ms() : 0;
    errno = 0;
    /* A cif is only read here. */
    ffi_call((ffi_cif *)(uintptr_t)&fr->ready->cif, fr->ready->code, slot, fr->values);
    fr->saved_errno = errno;
    good = guards_hold(fr) && take_texts(fr, slot);
    if (!fr->f->thread_safe)
        pthread_mutex_unlock(&fr->ready->library->mu);
    for (uint32_t k = 0; k < fr->f->args_len; k++)
        if (fr->f->args[k].closes && fr->in[k].form == EXJ_FFI_V_HANDLE)
            fr->run->held[fr->in[k].handle - 1].open = false;
    if (fr->f->deadline_ms && now_ms() - began > fr->f->deadline_ms) {
        char text[300];
        int len = snprintf(text, sizeof text, "node %.100s took %lld ms; its deadlineMs is %u",
                           fr->f->node, (long long)(now_ms() - began), fr->f->deadline_ms);

        fr->run->h->log(fr->run->h->ctx, fr->run->c, EXJ_LOG_LEVEL_WARN,
                        (exj_str){ text, (uint64_t)len });
    }
    return good;
}

/* ---- was it a success? ------------------------------------------------------------------------ */

static int compare(const exj_ffi_value *v, int64_t bound)
{
    if (v->form == EXJ_FFI_V_BOOL)
        return ((int64_t)v->b > bound) - ((int64_t)v->b < bound);
    if (v->form == EXJ_FFI_V_UINT)
        return bound < 0 ? 1 : (v->u > (uint64_t)bound) - (v->u < (uint64_t)bound);
    return (v->i > bound) - (v->i < bound);
}

static bool succeeded(const struct frame *fr)
{
    const exj_ffi_returns *ret = &fr->f->returns;
    int d = compare(&fr->returned, ret->bound);

    switch (ret->rule) {
    case EXJ_FFI_NON_NULL: return fr->returned.form != EXJ_FFI_V_NULL;
    case EXJ_FFI_EQ: return d == 0;
    case EXJ_FFI_NE: return d != 0;
    case EXJ_FFI_LT: return d < 0;
    case EXJ_FFI_LE: return d <= 0;
    case EXJ_FFI_GT: return d > 0;
    case EXJ_FFI_GE: return d >= 0;
    default: return true;
    }
}

static bool passes_by_itself(int e) /* worth another attempt */
{
    return e == EAGAIN || e == EINTR || e == ENOMEM || e == EBUSY || e == ETIMEDOUT ||
           e == ENFILE || e == EMFILE || e == ENOBUFS || e == ECONNRESET || e == ECONNREFUSED;
}

/* What else there is to say: a buffer that was too small, a text that was put out. */
static void add_hints(struct frame *fr, char *text, size_t cap)
{
    size_t at = strlen(text);

    for (uint32_t k = 0; k < fr->f->args_len && at < cap; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];
        exj_ffi_trouble kept = fr->run->trouble;
        uint64_t n;

        if (a->role == EXJ_FFI_OUT_BUFFER && a->length < EXJ_FFI_NO_INDEX &&
            length_of(fr, a->length, &n) && n > a->capacity)
            at += (size_t)snprintf(text + at, cap - at, "; it asks for %llu bytes of '%s', whose "
                                   "capacity is %u", (unsigned long long)n, a->out, a->capacity);
        else if (a->role == EXJ_FFI_OUT && a->type.kind == EXJ_FFI_STR &&
                 fr->out[k].form == EXJ_FFI_V_TEXT)
            at += (size_t)snprintf(text + at, cap - at, "; %s: %.200s", a->out, fr->out[k].p);
        fr->run->trouble = kept;
    }
}

static bool explain_failure(struct frame *fr)
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
    return fail(fr->run, retry ? EXJ_R_RETRY : EXJ_R_FAILED, code, "%s", text);
}

/* ---- outputs -------------------------------------------------------------------------------- */

static bool take_buffer(struct frame *fr, uint32_t k)
{
    const exj_ffi_arg *a = &fr->f->args[k];
    char *p = fr->memory[k];
    uint64_t n = a->capacity;
    struct run *r = fr->run;

    if (a->length != EXJ_FFI_NO_INDEX && !length_of(fr, a->length, &n))
        return false;
    if (n > a->capacity)
        return fail(r, EXJ_R_FAILED, "OutTooSmall",
                    "%s asks for %llu bytes; \"capacity\" is %u", fr->f->symbol,
                    (unsigned long long)n, a->capacity);
    if (a->type.kind == EXJ_FFI_STR && a->length == EXJ_FFI_NO_INDEX) {
        n = strnlen(p, a->capacity);
        if (n == a->capacity)
            return fail(r, EXJ_R_FAILED, "OutTooSmall",
                        "%s wrote no terminating NUL within \"capacity\", %u bytes",
                        fr->f->symbol, a->capacity);
    } else if (a->type.kind == EXJ_FFI_STR) {
        n -= n > 0 && p[n - 1] == '\0'; /* some count it */
        if (n && memchr(p, 0, (size_t)n))
            return fail(r, EXJ_R_FAILED, "ResultUnfit",
                        "the text has a NUL in it; take it as outBytes");
    }
    p[n] = '\0'; /* the guard was looked at already */
    fr->out[k] = (exj_ffi_value){ .form = EXJ_FFI_V_TEXT, .p = p, .n = (size_t)n };
    return true;
}

static bool take_outputs(struct frame *fr)
{
    for (uint32_t k = 0; k < fr->f->args_len; k++) {
        const exj_ffi_arg *a = &fr->f->args[k];

        if (a->role == EXJ_FFI_OUT_BUFFER) {
            if (!take_buffer(fr, k))
                return fail_at(fr, k);
        } else if (a->role == EXJ_FFI_OUT && a->type.kind != EXJ_FFI_STR &&
                   a->type.kind != EXJ_FFI_HANDLE) {
            if (!exj_ffi_value_load(&a->type, fr->memory[k], &fr->run->arena, &fr->out[k],
                                    &fr->run->trouble))
                return fail_at(fr, k);
        }
    }
    fr->out[fr->f->args_len] = fr->returned;
    return true;
}

static bool run_function(struct run *r, size_t index)
{
    const exj_ffi_function *f = &r->program->manifest->functions[index];
    struct frame fr = { .run = r, .f = f, .ready = &r->program->functions[index] };

    r->outputs[index] = fr.out = exj_ffi_arena_take(&r->arena,
                                                    (f->args_len + 1) * sizeof *fr.out);
    if (!fr.out)
        return no_memory(r);
    if (!set_args(&fr) || !held_reserve(r, f) || !call_function(&fr))
        return false;
    return succeeded(&fr) ? take_outputs(&fr) : explain_failure(&fr);
}

/* ---- the answer ----------------------------------------------------------------------------- */

static bool write_node(struct run *r, size_t index, exj_json_out *o)
{
    const exj_ffi_function *f = &r->program->manifest->functions[index];
    struct frame fr = { .run = r, .f = f };
    const exj_ffi_value *out = r->outputs[index];

    exj_json_put_object(o, f->node);
    if (f->returns.type.kind != EXJ_FFI_VOID && !f->returns.hidden &&
        !exj_ffi_value_write(o, "return", &f->returns.type, &out[f->args_len], &r->trouble))
        return fail_at(&fr, EXJ_FFI_RETURN);
    for (uint32_t k = 0; k < f->args_len; k++)
        if (f->args[k].out && !f->args[k].hidden &&
            !exj_ffi_value_write(o, f->args[k].out, &f->args[k].type, &out[k], &r->trouble))
            return fail_at(&fr, k);
    exj_json_end_object(o);
    return true;
}

static bool emit_answer(struct run *r)
{
    exj_json_out o = EXJ_JSON_OUT_INIT;
    exj_result result;
    bool good = true;

    exj_json_begin_object(&o);
    exj_json_put_text(&o, "status", "completed");
    exj_json_put_object(&o, "outputsByNodeId");
    for (size_t k = 0; good && k < r->program->manifest->functions_len; k++)
        good = write_node(r, k, &o);
    exj_json_end_object(&o);
    exj_json_end_object(&o);
    if (good && o.failed)
        good = no_memory(r);
    if (good) {
        result = r->h->emit(r->h->ctx, r->c, exj_json_out_text(&o));
        if (result != EXJ_R_OK)
            good = fail(r, result, "AnswerRefused",
                        "the host did not take the answer of %zu bytes; \"answer\":false keeps a "
                        "large output out of it", o.n);
    }
    exj_json_out_release(&o);
    return good;
}

static bool run_all(struct run *r)
{
    size_t n = r->program->manifest->functions_len;
    int32_t stop;

    r->outputs = exj_ffi_arena_take(&r->arena, n * sizeof *r->outputs);
    if (!r->outputs)
        return no_memory(r);
    for (size_t k = 0; k < n; k++) {
        stop = r->h->cancelled(r->h->ctx, r->c);
        if (stop)
            return fail(r, stop, stop == EXJ_R_DEADLINE ? "Deadline" : "Cancelled",
                        "stopped before node %.100s",
                        r->program->manifest->functions[k].node);
        if (!run_function(r, k))
            return false;
    }
    return true;
}

exj_result exj_ffi_run(const exj_host *h, exj_call c, const exj_ffi_program *p,
                       const exj_args *a)
{
    struct run r = { .h = h, .c = c, .args = a, .program = p };
    bool good;

    exj_json_find(a->runtime, "input", &r.input);
    exj_json_find(a->runtime, "executionMemory", &r.memory);
    good = run_all(&r);
    /* Before the answer: a row is not done while its file is not closed. */
    held_close_all(&r);
    good = good && emit_answer(&r);
    exj_ffi_arena_release(&r.arena);
    if (good)
        return EXJ_R_OK;
    h->error(h->ctx, c, r.trouble.result, exj_text(r.trouble.code), exj_text(r.trouble.text));
    return r.trouble.result;
}
