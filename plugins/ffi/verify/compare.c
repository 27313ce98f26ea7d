#include "plugins/ffi/verify/compare.h"

#include <stdlib.h>

/* ---- lines ------------------------------------------------------------------------- */

static exj_line *add(exj_report *r, const char *node, const char *symbol)
{
    static exj_line lost; /* written to when there is no memory for a line */

    if (r->len == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 32;
        exj_line *grown = realloc(r->lines, cap * sizeof *grown);

        if (!grown) {
            r->failed = true;
            return &lost;
        }
        r->lines = grown;
        r->cap = cap;
    }
    r->lines[r->len] = (exj_line){ .node = node, .symbol = symbol };
    return &r->lines[r->len++];
}

__attribute__((format(printf, 3, 4))) static void say(exj_line *l, exj_verdict v,
                                                      const char *format, ...)
{
    va_list ap;

    if (v <= l->verdict)
        return; /* the worst is kept, and the first of that */
    l->verdict = v;
    va_start(ap, format);
    vsnprintf(l->why, sizeof l->why, format, ap);
    va_end(ap);
}

/* ---- values ------------------------------------------------------------------------ */

static void check_value(exj_line *l, const exj_ffi_type *t, exj_c_type *c);

static void check_integer(exj_line *l, exj_ffi_kind k, exj_c_type *c)
{
    const exj_ffi_type type = { .kind = k };
    size_t size = exj_ffi_size_of(&type);

    if (c->class != EXJ_C_INTEGER && c->class != EXJ_C_ENUM) {
        say(l, EXJ_DIFFERS, "an integer in the manifest, none in the library");
        return;
    }
    if (c->size != size)
        say(l, EXJ_DIFFERS, "%zu bytes in the manifest, %llu in the library", size,
            (unsigned long long)c->size);
    else if (c->sign_known && c->is_signed != exj_ffi_is_signed(k))
        say(l, EXJ_DIFFERS, "%s in the manifest, %s in the library",
            exj_ffi_is_signed(k) ? "signed" : "unsigned",
            c->is_signed ? "signed" : "unsigned");
    else if (c->class == EXJ_C_ENUM)
        say(l, EXJ_NOTE, "the library has an enum here");
}

static bool enumerator(exj_c_type *c, const char *name, int64_t *ret)
{
    Dwarf_Die child;
    Dwarf_Attribute attribute;
    const char *have;

    if (dwarf_child(&c->die, &child) != 0)
        return false;
    do {
        have = dwarf_diename(&child);
        if (dwarf_tag(&child) == DW_TAG_enumerator && have &&
            (!name || strcmp(have, name) == 0)) {
            Dwarf_Sword s = 0;

            dwarf_formsdata(dwarf_attr(&child, DW_AT_const_value, &attribute), &s);
            if (name || s == *ret) {
                *ret = s;
                return true;
            }
        }
    } while (dwarf_siblingof(&child, &child) == 0);
    return false;
}

static void check_enum(exj_line *l, const exj_ffi_enum *en, exj_c_type *c)
{
    check_integer(l, en->underlying, c);
    if (c->class != EXJ_C_ENUM || l->verdict == EXJ_DIFFERS)
        return;
    l->verdict = EXJ_SAME; /* an enum was wanted */
    l->why[0] = '\0';
    for (size_t k = 0; k < en->len; k++) {
        int64_t value = en->items[k].value;

        if (enumerator(c, en->items[k].name, &value)) {
            if (value != en->items[k].value)
                say(l, EXJ_DIFFERS, "%s is %lld in the manifest, %lld in the library",
                    en->items[k].name, (long long)en->items[k].value, (long long)value);
        } else if (!enumerator(c, NULL, &value)) {
            say(l, EXJ_DIFFERS, "%s is %lld, which no enumerator of the library has",
                en->items[k].name, (long long)value);
        }
    }
}

static void check_struct(exj_line *l, const exj_ffi_struct *st, exj_c_type *c)
{
    Dwarf_Attribute attribute;
    Dwarf_Die member;
    size_t k = 0;

    if (c->class != EXJ_C_STRUCT) {
        say(l, EXJ_DIFFERS, "a struct in the manifest, none in the library");
        return;
    }
    if (dwarf_hasattr(&c->die, DW_AT_declaration)) {
        say(l, EXJ_DIFFERS,
            "the library keeps the members of this struct to itself; take a handle");
        return;
    }
    if (c->size != st->size)
        say(l, EXJ_DIFFERS, "struct:%s has %zu bytes, that of the library %llu", st->name,
            st->size, (unsigned long long)c->size);
    if (dwarf_child(&c->die, &member) != 0)
        return;
    do {
        const char *name = dwarf_diename(&member);
        exj_line inner = { 0 };
        exj_c_type type;
        Dwarf_Word at = 0;

        if (dwarf_tag(&member) != DW_TAG_member)
            continue;
        name = name ? name : "(no name)";
        if (k >= st->len) {
            say(l, EXJ_DIFFERS, "struct:%s lacks the library's member '%s'", st->name,
                name);
            return;
        }
        dwarf_formudata(dwarf_attr(&member, DW_AT_data_member_location, &attribute), &at);
        if (dwarf_hasattr(&member, DW_AT_bit_size))
            say(l, EXJ_DIFFERS, "member '%s' is a bit-field", name);
        if (at != st->fields[k].offset)
            say(l, EXJ_DIFFERS,
                "field '%s' is at %zu, member '%s' of the library at %llu",
                st->fields[k].name, st->fields[k].offset, name, (unsigned long long)at);
        type = exj_c_type_of(&member);
        check_value(&inner, &st->fields[k].type, &type);
        if (inner.verdict == EXJ_DIFFERS)
            say(l, EXJ_DIFFERS, "field '%s': %s", st->fields[k].name, inner.why);
        if (strcmp(name, st->fields[k].name) != 0)
            say(l, EXJ_NOTE, "field '%s' is called '%s' in the library",
                st->fields[k].name, name);
        k++;
    } while (dwarf_siblingof(&member, &member) == 0);
    if (k < st->len)
        say(l, EXJ_DIFFERS, "the struct of the library ends before field '%s'",
            st->fields[k].name);
}

/* A pointer to bytes: char of any sign, uint8_t, void. */
static void check_bytes(exj_line *l, exj_c_type *c, bool text, bool written)
{
    exj_c_type to;

    if (c->class != EXJ_C_POINTER) {
        say(l, EXJ_DIFFERS, "a pointer in the manifest, none in the library");
        return;
    }
    to = exj_c_pointee(c);
    if (written && to.is_const)
        say(l, EXJ_DIFFERS, "the library only reads through this pointer");
    if (to.class == EXJ_C_VOID) {
        if (text)
            say(l, EXJ_NOTE, "the library has a void * here");
    } else if (to.class != EXJ_C_INTEGER || to.size != 1) {
        say(l, EXJ_DIFFERS,
            "%s in the manifest, a pointer to something else in the library",
            text ? "text" : "bytes");
    } else if (text && !to.is_char) {
        say(l, EXJ_NOTE, "the library has bytes here");
    } else if (text && !to.is_const && !written) {
        say(l, EXJ_NOTE, "the library may write into it; it gets a copy");
    }
}

static void check_value(exj_line *l, const exj_ffi_type *t, exj_c_type *c)
{
    switch (t->kind) {
    case EXJ_FFI_VOID:
        if (c->class != EXJ_C_VOID)
            say(l, EXJ_NOTE, "what the library returns is dropped");
        break;
    case EXJ_FFI_BOOL:
        if (c->class != EXJ_C_BOOL || c->size != 1)
            say(l, EXJ_DIFFERS, "bool in the manifest, none in the library");
        break;
    case EXJ_FFI_F32:
    case EXJ_FFI_F64:
        if (c->class != EXJ_C_FLOAT || c->size != exj_ffi_size_of(t))
            say(l, EXJ_DIFFERS,
                "a float of %zu bytes in the manifest, none in the library",
                exj_ffi_size_of(t));
        break;
    case EXJ_FFI_STR:
    case EXJ_FFI_BYTES:
        check_bytes(l, c, t->kind == EXJ_FFI_STR, false);
        break;
    case EXJ_FFI_ENUM:
        check_enum(l, t->en, c);
        break;
    case EXJ_FFI_STRUCT:
        check_struct(l, t->st, c);
        break;
    case EXJ_FFI_HANDLE:
        if (c->class != EXJ_C_POINTER)
            say(l, EXJ_DIFFERS, "a pointer in the manifest, none in the library");
        break;
    default:
        check_integer(l, t->kind, c);
        break;
    }
}

/* ---- parameters -------------------------------------------------------------------- */

static void check_pointer(exj_line *l, const exj_ffi_type *t, exj_c_type *c, bool written)
{
    exj_c_type to;

    if (c->class != EXJ_C_POINTER) {
        say(l, EXJ_DIFFERS, "a pointer in the manifest, none in the library");
        return;
    }
    to = exj_c_pointee(c);
    if (written && to.is_const)
        say(l, EXJ_DIFFERS, "the library only reads through this pointer");
    if (to.class == EXJ_C_VOID) {
        say(l, EXJ_NOTE, "the library has a void * here: what it points to is not known");
        return;
    }
    check_value(l, t, &to);
    if (l->verdict == EXJ_NOTE && t->kind == EXJ_FFI_STR) {
        l->verdict = EXJ_SAME; /* notes on who writes are about parameters, not results */
        l->why[0] = '\0';
    }
}

static void check_parameter(exj_line *l, const exj_ffi_arg *a, exj_c_type *c)
{
    switch (a->role) {
    case EXJ_FFI_IN:
    case EXJ_FFI_LENGTH_OF:
    case EXJ_FFI_CAPACITY_OF:
        check_value(l, &a->type, c);
        break;
    case EXJ_FFI_IN_POINTER:
        check_pointer(l, &a->type, c, false);
        break;
    case EXJ_FFI_OUT:
    case EXJ_FFI_LENGTH_IN_OUT:
        check_pointer(l, &a->type, c, true);
        break;
    case EXJ_FFI_OUT_BUFFER:
        check_bytes(l, c, a->type.kind == EXJ_FFI_STR, true);
        break;
    }
}

static void name_parameter(const exj_ffi_arg *a, char *ret, size_t cap)
{
    static const char *const words[] = {
        [EXJ_FFI_IN] = "",
        [EXJ_FFI_IN_POINTER] = "pointer to ",
        [EXJ_FFI_OUT] = "out ",
        [EXJ_FFI_OUT_BUFFER] = "out ",
        [EXJ_FFI_LENGTH_OF] = "length ",
        [EXJ_FFI_CAPACITY_OF] = "capacity ",
        [EXJ_FFI_LENGTH_IN_OUT] = "in/out length ",
    };
    char type[160];

    exj_ffi_type_name(&a->type, type, sizeof type);
    snprintf(ret, cap, "%s%s%s", words[a->role], type,
             a->role == EXJ_FFI_OUT_BUFFER ? " buffer" : "");
}

/* ---- functions --------------------------------------------------------------------- */

static bool check_presence(exj_line *l, const char *symbol, exj_wanted *w, bool has_dwarf)
{
    snprintf(l->where, sizeof l->where, "function");
    snprintf(l->manifest, sizeof l->manifest, "%s", symbol);
    if (w->kind == EXJ_SYMBOL_NONE)
        say(l, EXJ_DIFFERS, "the library has no function of this name");
    else if (w->kind == EXJ_SYMBOL_DATA)
        say(l, EXJ_DIFFERS, "is data in the library");
    else if (!has_dwarf)
        say(l, EXJ_UNKNOWN, "no DWARF to compare with");
    else if (!w->found)
        say(l, EXJ_UNKNOWN,
            "its DWARF does not describe it (assembler, or another language?)");
    snprintf(l->binary, sizeof l->binary, "%s",
             w->kind == EXJ_SYMBOL_NONE ? ""
             : w->found                 ? dwarf_diename(&w->die)
                                        : symbol);
    return l->verdict == EXJ_SAME;
}

static unsigned count_parameters(Dwarf_Die *function, bool *ret_variadic)
{
    unsigned n = 0;
    Dwarf_Die child;

    *ret_variadic = false;
    if (dwarf_child(function, &child) != 0)
        return 0;
    do {
        n += dwarf_tag(&child) == DW_TAG_formal_parameter;
        *ret_variadic |= dwarf_tag(&child) == DW_TAG_unspecified_parameters;
    } while (dwarf_siblingof(&child, &child) == 0);
    return n;
}

static void check_shape(exj_line *l, const exj_ffi_function *f, unsigned have,
                        bool variadic)
{
    unsigned fixed = f->variadic ? f->fixed : f->args_len;

    if (variadic && !f->variadic)
        say(l, EXJ_DIFFERS, "is variadic: it needs \"variadicAfter\": %u", have);
    else if (!variadic && f->variadic)
        say(l, EXJ_DIFFERS, "is not variadic");
    else if (have != fixed)
        say(l, EXJ_DIFFERS, "has %u parameters; the manifest lists %u", have, fixed);
}

void exj_compare_function(const exj_ffi_function *f, exj_wanted *w, bool has_dwarf,
                          exj_report *r)
{
    exj_line *l = add(r, f->node, f->symbol);
    bool variadic;
    unsigned have, k = 0;
    exj_c_type type;
    Dwarf_Die child;

    if (!check_presence(l, f->symbol, w, has_dwarf))
        return;
    have = count_parameters(&w->die, &variadic);
    check_shape(l, f, have, variadic);

    l = add(r, f->node, f->symbol);
    snprintf(l->where, sizeof l->where, "returns");
    exj_ffi_type_name(&f->returns.type, l->manifest, sizeof l->manifest);
    exj_c_type_text(&w->die, l->binary, sizeof l->binary);
    type = exj_c_type_of(&w->die);
    if (type.class == EXJ_C_VOID && f->returns.type.kind != EXJ_FFI_VOID)
        say(l, EXJ_DIFFERS, "the library returns nothing");
    else if (f->returns.type.kind == EXJ_FFI_STR)
        check_bytes(l, &type, true,
                    !exj_c_pointee(&type).is_const); /* who writes is no matter */
    else
        check_value(l, &f->returns.type, &type);

    if (have == 0 || dwarf_child(&w->die, &child) != 0)
        return;
    do {
        if (dwarf_tag(&child) != DW_TAG_formal_parameter || k >= f->args_len)
            continue;
        l = add(r, f->node, f->symbol);
        snprintf(l->where, sizeof l->where, "argument %u", k);
        name_parameter(&f->args[k], l->manifest, sizeof l->manifest);
        exj_c_type_text(&child, l->binary, sizeof l->binary);
        type = exj_c_type_of(&child);
        check_parameter(l, &f->args[k], &type);
        k++;
    } while (dwarf_siblingof(&child, &child) == 0);
}

void exj_compare_ending(const char *node, const char *symbol, exj_wanted *w,
                        bool has_dwarf, exj_report *r)
{
    exj_line *l = add(r, node, symbol);
    exj_c_type type = { 0 };
    Dwarf_Die child;
    bool variadic;

    if (!check_presence(l, symbol, w, has_dwarf))
        return;
    if (count_parameters(&w->die, &variadic) != 1 || variadic ||
        dwarf_child(&w->die, &child) != 0) {
        say(l, EXJ_DIFFERS, "must have one parameter, a pointer");
        return;
    }
    while (dwarf_tag(&child) != DW_TAG_formal_parameter &&
           dwarf_siblingof(&child, &child) == 0)
        ;
    type = exj_c_type_of(&child);
    if (type.class != EXJ_C_POINTER)
        say(l, EXJ_DIFFERS, "its parameter is no pointer");
}
