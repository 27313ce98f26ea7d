#include "plugins/ffi/program.h"

#include <stdlib.h>

#include "exellix/plugin.h"

#define KEPT 64

/* Everything here is guarded by mu. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static exj_ffi_program *programs;
static unsigned programs_len, instances;
static uint64_t clock_now; /* counts uses */

static void *many(size_t n, size_t size, exj_ffi_trouble *t)
{
    void *p = calloc(n ? n : 1, size);

    if (!p)
        exj_ffi_trouble_set(t, EXJ_R_RETRY, "NoMemory", "no memory");
    return p;
}

static ffi_type *scalar(exj_ffi_kind k)
{
    switch (k) {
    case EXJ_FFI_VOID:
        return &ffi_type_void;
    case EXJ_FFI_BOOL:
    case EXJ_FFI_U8:
        return &ffi_type_uint8;
    case EXJ_FFI_I8:
        return &ffi_type_sint8;
    case EXJ_FFI_I16:
        return &ffi_type_sint16;
    case EXJ_FFI_U16:
        return &ffi_type_uint16;
    case EXJ_FFI_I32:
        return &ffi_type_sint32;
    case EXJ_FFI_U32:
        return &ffi_type_uint32;
    case EXJ_FFI_I64:
        return &ffi_type_sint64;
    case EXJ_FFI_U64:
        return &ffi_type_uint64;
    case EXJ_FFI_F32:
        return &ffi_type_float;
    case EXJ_FFI_F64:
        return &ffi_type_double;
    default:
        return &ffi_type_pointer;
    }
}

static ffi_type *type_of(exj_ffi_program *p, const exj_ffi_type *t)
{
    if (t->kind == EXJ_FFI_STRUCT)
        return &p->structs[t->st - p->manifest->structs];
    return scalar(t->kind == EXJ_FFI_ENUM ? t->en->underlying : t->kind);
}

static ffi_type *type_of_arg(exj_ffi_program *p, const exj_ffi_arg *a)
{
    switch (a->role) {
    case EXJ_FFI_IN:
    case EXJ_FFI_LENGTH_OF:
    case EXJ_FFI_CAPACITY_OF:
        return type_of(p, &a->type);
    default:
        return &ffi_type_pointer;
    }
}

/* The layout the manifest was checked against must be the one of libffi. */
static bool prepare_struct(const exj_ffi_struct *st, ffi_type *ret, exj_ffi_trouble *t)
{
    size_t offsets[EXJ_FFI_FIELDS_MAX];

    ret->type = FFI_TYPE_STRUCT;
    ret->elements = many(st->len + 1, sizeof *ret->elements, t);
    if (!ret->elements)
        return false;
    for (size_t k = 0; k < st->len; k++) {
        const exj_ffi_type *f = &st->fields[k].type;

        ret->elements[k] = scalar(f->kind == EXJ_FFI_ENUM ? f->en->underlying : f->kind);
    }
    if (ffi_get_struct_offsets(FFI_DEFAULT_ABI, ret, offsets) != FFI_OK)
        return exj_ffi_trouble_set(t, EXJ_R_INPUT, "ManifestInvalid",
                                   "structs.%s: libffi cannot pass it", st->name);
    for (size_t k = 0; k < st->len; k++)
        if (offsets[k] != st->fields[k].offset || ret->size != st->size)
            return exj_ffi_trouble_set(
                t, EXJ_R_INPUT, "ManifestInvalid",
                "structs.%s.%s: the manifest has it at %zu, this machine "
                "at %zu",
                st->name, st->fields[k].name, st->fields[k].offset, offsets[k]);
    return true;
}

static exj_ffi_loaded *library_of(const exj_ffi_manifest *m, const char *name,
                                  exj_ffi_trouble *t)
{
    const char *sha256 = NULL;

    for (size_t k = 0; k < m->libraries_len; k++)
        if (strcmp(m->libraries[k].name, name) == 0)
            sha256 = m->libraries[k].sha256;
    return exj_ffi_library_open(name, sha256, t);
}

static bool prepare_function(exj_ffi_program *p, size_t index, exj_ffi_trouble *t)
{
    const exj_ffi_function *f = &p->manifest->functions[index];
    exj_ffi_ready *ready = &p->functions[index];
    ffi_type *returns = type_of(p, &f->returns.type);
    ffi_status status;

    ready->library = library_of(p->manifest, f->library, t);
    if (!ready->library)
        return false;
    ready->code = exj_ffi_library_find(ready->library, f->symbol, t);
    ready->types = many(f->args_len, sizeof *ready->types, t);
    ready->free_arg = many(f->args_len, sizeof *ready->free_arg, t);
    if (!ready->code || !ready->types || !ready->free_arg)
        return false;
    for (uint32_t k = 0; k < f->args_len; k++) {
        ready->types[k] = type_of_arg(p, &f->args[k]);
        if (f->args[k].owner == EXJ_FFI_FREE &&
            !(ready->free_arg[k] =
                  exj_ffi_library_find(ready->library, f->args[k].free_with, t)))
            return false;
    }
    if (f->returns.owner == EXJ_FFI_FREE &&
        !(ready->free_return =
              exj_ffi_library_find(ready->library, f->returns.free_with, t)))
        return false;
    status = f->variadic ? ffi_prep_cif_var(&ready->cif, FFI_DEFAULT_ABI, f->fixed,
                                            f->args_len, returns, ready->types)
                         : ffi_prep_cif(&ready->cif, FFI_DEFAULT_ABI, f->args_len,
                                        returns, ready->types);
    if (status != FFI_OK)
        return exj_ffi_trouble_set(
            t, EXJ_R_INPUT, "ManifestInvalid",
            "node %s: libffi refuses this signature of %s (status %d)", f->node,
            f->symbol, (int)status);
    return true;
}

static bool prepare(exj_ffi_program *p, exj_ffi_trouble *t)
{
    const exj_ffi_manifest *m = p->manifest;

    p->structs = many(m->structs_len, sizeof *p->structs, t);
    p->functions = many(m->functions_len, sizeof *p->functions, t);
    p->closers = many(m->handles_len, sizeof *p->closers, t);
    if (!p->structs || !p->functions || !p->closers)
        return false;
    for (size_t k = 0; k < m->structs_len; k++)
        if (!prepare_struct(&m->structs[k], &p->structs[k], t))
            return false;
    for (size_t k = 0; k < m->functions_len; k++)
        if (!prepare_function(p, k, t))
            return false;
    for (size_t k = 0; k < m->handles_len; k++) {
        if (!m->handles[k].close)
            continue;
        p->closers[k].library = library_of(m, m->handles[k].library, t);
        if (!p->closers[k].library)
            return false;
        p->closers[k].code =
            exj_ffi_library_find(p->closers[k].library, m->handles[k].close, t);
        if (!p->closers[k].code)
            return false;
    }
    return true;
}

static void program_free(exj_ffi_program *p)
{
    for (size_t k = 0; p->manifest && p->functions && k < p->manifest->functions_len;
         k++) {
        free(p->functions[k].types);
        free(p->functions[k].free_arg);
    }
    for (size_t k = 0; p->manifest && p->structs && k < p->manifest->structs_len; k++)
        free(p->structs[k].elements);
    free(p->functions);
    free(p->structs);
    free(p->closers);
    free(p->text);
    exj_ffi_manifest_free(p->manifest);
    free(p);
}

static exj_ffi_program *program_new(const char *text, size_t n, exj_ffi_trouble *t)
{
    exj_ffi_program *p = many(1, sizeof *p, t);

    if (!p)
        return NULL;
    p->manifest = exj_ffi_manifest_read(text, n, t);
    p->text = p->manifest ? many(n, 1, t) : NULL;
    if (!p->text || !prepare(p, t)) {
        program_free(p);
        return NULL;
    }
    memcpy(p->text, text, n);
    p->text_n = n;
    return p;
}

/* ---- kept by text ------------------------------------------------------------------ */

static uint64_t hash_of(const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a; the text is compared as well */

    for (size_t k = 0; k < n; k++)
        h = (h ^ (unsigned char)text[k]) * UINT64_C(0x100000001b3);
    return h;
}

static void drop_oldest_locked(void)
{
    exj_ffi_program **oldest = NULL, *gone;

    for (exj_ffi_program **at = &programs; *at; at = &(*at)->next)
        if (!(*at)->users && (!oldest || (*at)->used < (*oldest)->used))
            oldest = at;
    if (!oldest)
        return;
    gone = *oldest;
    *oldest = gone->next;
    programs_len--;
    program_free(gone);
}

exj_ffi_program *exj_ffi_program_get(const char *text, size_t n, exj_ffi_trouble *t)
{
    uint64_t hash = hash_of(text, n);
    exj_ffi_program *p;

    pthread_mutex_lock(&mu);
    for (p = programs; p; p = p->next)
        if (p->hash == hash && p->text_n == n && memcmp(p->text, text, n) == 0)
            break;
    if (!p) {
        p = program_new(text, n, t);
        if (p) {
            p->hash = hash;
            p->next = programs;
            programs = p;
            programs_len++;
        }
    }
    if (p) {
        p->users++;
        p->used = ++clock_now;
        if (programs_len > KEPT)
            drop_oldest_locked();
    }
    pthread_mutex_unlock(&mu);
    return p;
}

void exj_ffi_program_put(exj_ffi_program *p)
{
    pthread_mutex_lock(&mu);
    p->users--;
    pthread_mutex_unlock(&mu);
}

void exj_ffi_program_arrive(void)
{
    pthread_mutex_lock(&mu);
    instances++;
    pthread_mutex_unlock(&mu);
}

void exj_ffi_program_leave(void)
{
    pthread_mutex_lock(&mu);
    if (--instances == 0) {
        while (programs) /* no instance, so no call and no user */
            drop_oldest_locked();
        exj_ffi_library_forget();
    }
    pthread_mutex_unlock(&mu);
}
