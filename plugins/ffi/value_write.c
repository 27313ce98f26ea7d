/* Values of C as JSON. */
#include <math.h>

#include "plugins/ffi/value.h"

#define UNFIT(...) exj_ffi_trouble_set(t, EXJ_R_FAILED, "ResultUnfit", __VA_ARGS__)

static bool is_utf8(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s, *end = p + n;

    while (p < end) {
        uint32_t u = *p, least;
        int more;

        if (u < 0x80) {
            p++;
            continue;
        }
        more = u >= 0xf0 ? 3 : u >= 0xe0 ? 2 : 1;
        if (u < 0xc2 || u > 0xf4 || end - p <= more)
            return false;
        least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
        u &= 0x3fu >> more;
        for (int k = 1; k <= more; k++) {
            if ((p[k] & 0xc0) != 0x80)
                return false;
            u = u << 6 | (p[k] & 0x3fu);
        }
        if (u < least || u > 0x10ffff || (u >= 0xd800 && u <= 0xdfff))
            return false;
        p += more + 1;
    }
    return true;
}

static void write_base64(exj_json_out *o, const char *key, const char *from, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)from;
    char quad[4];

    exj_json_lead_(o, key);
    exj_json_add_(o, "\"", 1);
    for (size_t at = 0; at < n; at += 3) {
        uint32_t v = (uint32_t)p[at] << 16 | (at + 1 < n ? (uint32_t)p[at + 1] << 8 : 0) |
                     (at + 2 < n ? p[at + 2] : 0);

        quad[0] = digits[v >> 18];
        quad[1] = digits[v >> 12 & 63];
        quad[2] = at + 1 < n ? digits[v >> 6 & 63] : '=';
        quad[3] = at + 2 < n ? digits[v & 63] : '=';
        exj_json_add_(o, quad, 4);
    }
    exj_json_add_(o, "\"", 1);
}

static bool write_real(exj_json_out *o, const char *key, exj_ffi_kind k, double d,
                       exj_ffi_trouble *t)
{
    char text[40];

    if (!isfinite(d))
        return UNFIT("%g is not finite, which JSON cannot say", d);
    /* The fewest digits that read back as the same number. */
    for (int digits = k == EXJ_FFI_F32 ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (k == EXJ_FFI_F32 ? strtof(text, NULL) == (float)d : strtod(text, NULL) == d)
            break;
    }
    for (char *c = text; *c; c++)
        if (*c == ',')
            *c = '.'; /* somebody has set a locale */
    exj_json_put_raw(o, key, exj_text(text));
    return true;
}

static void write_integer(exj_json_out *o, const char *key, const exj_ffi_value *v)
{
    bool big = v->form == EXJ_FFI_V_UINT
                   ? v->u > (uint64_t)EXJ_FFI_EXACT_MAX
                   : v->i > EXJ_FFI_EXACT_MAX || v->i < -EXJ_FFI_EXACT_MAX;
    char text[24];

    if (v->form == EXJ_FFI_V_UINT)
        snprintf(text, sizeof text, "%llu", (unsigned long long)v->u);
    else
        snprintf(text, sizeof text, "%lld", (long long)v->i);
    if (big)
        exj_json_put_text(o, key, text);
    else
        exj_json_put_raw(o, key, exj_text(text));
}

static void write_enum(exj_json_out *o, const char *key, const exj_ffi_enum *en,
                       const exj_ffi_value *v)
{
    int64_t number = v->form == EXJ_FFI_V_UINT ? (int64_t)v->u : v->i;

    for (size_t k = 0; k < en->len; k++)
        if (en->items[k].value == number) {
            exj_json_put_text(o, key, en->items[k].name);
            return;
        }
    write_integer(o, key, v);
}

bool exj_ffi_value_write(exj_json_out *o, const char *key, const exj_ffi_type *type,
                         const exj_ffi_value *v, exj_ffi_trouble *t)
{
    char text[160];

    switch (v->form) {
    case EXJ_FFI_V_NULL:
        exj_json_put_null(o, key);
        return true;
    case EXJ_FFI_V_BOOL:
        exj_json_put_bool(o, key, v->b);
        return true;
    case EXJ_FFI_V_REAL:
        return write_real(o, key, type->kind, v->d, t);
    case EXJ_FFI_V_INT:
    case EXJ_FFI_V_UINT:
        if (type->kind == EXJ_FFI_ENUM)
            write_enum(o, key, type->en, v);
        else
            write_integer(o, key, v);
        return true;
    case EXJ_FFI_V_TEXT:
        if (type->kind == EXJ_FFI_BYTES) {
            write_base64(o, key, v->p, v->n);
            return true;
        }
        if (!is_utf8(v->p, v->n))
            return UNFIT("the text is not UTF-8; take it as bytes");
        exj_json_put_string(o, key, (exj_str){ v->p, v->n });
        return true;
    case EXJ_FFI_V_HANDLE:
        snprintf(text, sizeof text, "handle:%s#%u", type->ha->name, v->handle);
        exj_json_put_text(o, key, text);
        return true;
    case EXJ_FFI_V_STRUCT:
        break;
    }
    exj_json_put_object(o, key);
    for (size_t k = 0; k < type->st->len; k++) {
        const exj_ffi_field *f = &type->st->fields[k];
        exj_ffi_trouble inner = { 0 };
        exj_ffi_arena none = { 0 };
        exj_ffi_value member;

        exj_ffi_value_load(&f->type, v->p + f->offset, &none, &member, &inner);
        if (!exj_ffi_value_write(o, f->name, &f->type, &member, &inner))
            return UNFIT("field '%s': %.500s", f->name, inner.text);
    }
    exj_json_end_object(o);
    return true;
}
