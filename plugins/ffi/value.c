#include "plugins/ffi/value.h"

#include <math.h>
#include <sys/mman.h>

/* ---- arena ------------------------------------------------------------------------- */

#define MAPPED_MIN (256u * 1024u)

struct exj_ffi_block {
    exj_ffi_block *next;
    size_t mapped; /* bytes of a mapping; 0: from malloc */
    _Alignas(16) unsigned char bytes[];
};

/* A large buffer is mostly not written to: pages come zeroed and only when they are
 * touched, where malloc, which has seen the size before, would clear all of it. */
static exj_ffi_block *map_block(size_t n)
{
    exj_ffi_block *b =
        mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (b == MAP_FAILED)
        return NULL;
    b->mapped = n;
    return b;
}

void *exj_ffi_arena_take(exj_ffi_arena *a, size_t n)
{
    exj_ffi_block *b;

    if (n > SIZE_MAX - sizeof *b)
        return NULL;
    b = n >= MAPPED_MIN ? map_block(sizeof *b + n) : calloc(1, sizeof *b + n);
    if (!b)
        return NULL;
    b->next = a->blocks;
    a->blocks = b;
    return b->bytes;
}

void exj_ffi_arena_release(exj_ffi_arena *a)
{
    while (a->blocks) {
        exj_ffi_block *b = a->blocks;

        a->blocks = b->next;
        if (b->mapped)
            munmap(b, b->mapped);
        else
            free(b);
    }
}

static bool no_memory(exj_ffi_trouble *t)
{
    return exj_ffi_trouble_set(t, EXJ_R_RETRY, "NoMemory", "no memory");
}

#define WRONG(...) exj_ffi_trouble_set(t, EXJ_R_INPUT, "InputInvalid", __VA_ARGS__)

/* ---- integers ---------------------------------------------------------------------- */

static exj_ffi_kind integer_kind(const exj_ffi_type *type)
{
    return type->kind == EXJ_FFI_ENUM ? type->en->underlying : type->kind;
}

static int width(exj_ffi_kind k)
{
    const exj_ffi_type type = { .kind = k };

    return (int)exj_ffi_size_of(&type) * 8;
}

/* Is the number -m (minus) or m within the type? Else says so. */
static bool in_range(exj_ffi_kind k, bool minus, uint64_t m, exj_ffi_trouble *t)
{
    int bits = width(k);
    uint64_t low, high;

    if (exj_ffi_is_signed(k)) {
        high = (UINT64_C(1) << (bits - 1)) - 1;
        low = high + 1;
    } else {
        high = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
        low = 0;
    }
    if (m <= (minus ? low : high))
        return true;
    return WRONG("%s%llu does not fit %s (%s%llu to %llu)", minus ? "-" : "",
                 (unsigned long long)m, exj_ffi_kind_name(k), low ? "-" : "",
                 (unsigned long long)low, (unsigned long long)high);
}

static bool take_integer(exj_ffi_kind k, bool minus, uint64_t m, exj_ffi_value *ret,
                         exj_ffi_trouble *t)
{
    if (!in_range(k, minus, m, t))
        return false;
    if (exj_ffi_is_signed(k)) {
        ret->form = EXJ_FFI_V_INT;
        ret->i = minus ? (int64_t)(0 - m) : (int64_t)m;
    } else {
        ret->form = EXJ_FFI_V_UINT;
        ret->u = m;
    }
    return true;
}

static const char *found(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    default:
        return "a number";
    }
}

static bool read_digits(exj_ffi_kind k, const char *s, size_t n, exj_ffi_value *ret,
                        exj_ffi_trouble *t)
{
    bool minus = n > 0 && s[0] == '-';
    size_t at = minus ? 1 : 0;
    uint64_t m = 0;

    if (at == n || n > 21)
        return WRONG("'%.32s' is no whole number in digits", s);
    for (; at < n; at++) {
        uint64_t d = (uint64_t)(unsigned char)s[at] - '0';

        if (s[at] < '0' || s[at] > '9')
            return WRONG("'%.32s' is no whole number in digits", s);
        if (m > (UINT64_MAX - d) / 10)
            return WRONG("%.32s does not fit %s", s, exj_ffi_kind_name(k));
        m = m * 10 + d;
    }
    return take_integer(k, minus && m > 0, m, ret, t);
}

static bool read_integer(exj_ffi_kind k, const json_t *json, exj_ffi_value *ret,
                         exj_ffi_trouble *t)
{
    double d;
    int64_t i;

    if (json_is_string(json) && (k == EXJ_FFI_I64 || k == EXJ_FFI_U64))
        return read_digits(k, json_string_value(json), json_string_length(json), ret, t);
    if (json_is_real(json)) {
        /* 3.0 is what some writers make of 3. */
        d = json_real_value(json);
        if (d != trunc(d))
            return WRONG("%.17g is not a whole number; wanted %s", d,
                         exj_ffi_kind_name(k));
        if (fabs(d) > (double)EXJ_FFI_EXACT_MAX)
            return WRONG(
                "%.17g is beyond 2^53, where JSON numbers lose digits; write %s", d,
                width(k) == 64 ? "it as a string of digits" : "a smaller number");
        i = (int64_t)d;
    } else if (json_is_integer(json)) {
        i = json_integer_value(json);
        if (i > EXJ_FFI_EXACT_MAX || i < -EXJ_FFI_EXACT_MAX)
            return WRONG("%lld is beyond 2^53, where JSON numbers lose digits; write %s",
                         (long long)i,
                         width(k) == 64 ? "it as a string of digits"
                                        : "a smaller number");
    } else {
        return WRONG("wanted a whole number (%s), found %s", exj_ffi_kind_name(k),
                     found(json));
    }
    return take_integer(k, i < 0, i < 0 ? 0 - (uint64_t)i : (uint64_t)i, ret, t);
}

/* ---- the other types --------------------------------------------------------------- */

static bool take_real(exj_ffi_kind k, double d, exj_ffi_value *ret, exj_ffi_trouble *t)
{
    /* Above this a float would round to infinity. */
    if (!isfinite(d) || (k == EXJ_FFI_F32 && fabs(d) >= 0x1.ffffffp127))
        return WRONG("%g does not fit %s", d, exj_ffi_kind_name(k));
    ret->form = EXJ_FFI_V_REAL;
    ret->d = d;
    return true;
}

static bool read_real(exj_ffi_kind k, const json_t *json, exj_ffi_value *ret,
                      exj_ffi_trouble *t)
{
    if (!json_is_number(json))
        return WRONG("wanted a number (%s), found %s", exj_ffi_kind_name(k), found(json));
    return take_real(k, json_number_value(json), ret, t);
}

static bool read_enum(const exj_ffi_enum *en, const json_t *json, exj_ffi_value *ret,
                      exj_ffi_trouble *t)
{
    const char *name = json_string_value(json), *best = NULL;
    unsigned least = UINT32_MAX;

    if (!name)
        return WRONG("wanted the name of an enum:%s as a string, found %s", en->name,
                     found(json));
    for (size_t k = 0; k < en->len; k++) {
        unsigned d;

        if (strcmp(en->items[k].name, name) == 0)
            return take_integer(en->underlying, en->items[k].value < 0,
                                en->items[k].value < 0 ? 0 - (uint64_t)en->items[k].value
                                                       : (uint64_t)en->items[k].value,
                                ret, t);
        d = exj_ffi_distance(name, en->items[k].name);
        if (d < least) {
            least = d;
            best = en->items[k].name;
        }
    }
    return WRONG("enum:%s has no '%.64s'; the nearest is '%s'", en->name, name,
                 best ? best : "");
}

static bool read_text(const json_t *json, exj_ffi_arena *a, exj_ffi_value *ret,
                      exj_ffi_trouble *t)
{
    const char *s = json_string_value(json);
    size_t n;
    char *copy;

    if (!s)
        return WRONG("wanted text (str), found %s", found(json));
    n = json_string_length(json);
    if (memchr(s, 0, n))
        return WRONG(
            "the text has U+0000 in it, which ends a C string; send it as bytes");
    copy = exj_ffi_arena_take(a, n + 1);
    if (!copy)
        return no_memory(t);
    memcpy(copy, s, n);
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_TEXT, .p = copy, .n = n };
    return true;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int64_t exj_ffi_base64_read(const char *from, size_t n, unsigned char *to)
{
    size_t pad = 0, len = 0;

    if (n % 4 != 0)
        return -1;
    while (pad < 2 && pad < n && from[n - 1 - pad] == '=')
        pad++;
    for (size_t at = 0; at < n; at += 4) {
        uint32_t v = 0;
        int keep = at + 4 == n ? 3 - (int)pad : 3;

        for (int k = 0; k < 4; k++) {
            int d = k > keep ? 0 : base64_digit(from[at + (size_t)k]);

            if (d < 0)
                return -1;
            v = v << 6 | (uint32_t)d;
        }
        if (v & ((UINT32_C(1) << (8 * (3 - keep))) - 1))
            return -1; /* bits beyond the end */
        for (int k = 0; k < keep; k++)
            to[len++] = (unsigned char)(v >> (16 - 8 * k));
    }
    return (int64_t)len;
}

static bool read_bytes(const json_t *json, exj_ffi_arena *a, exj_ffi_value *ret,
                       exj_ffi_trouble *t)
{
    const char *s = json_string_value(json);
    unsigned char *to;
    int64_t n;

    if (!s)
        return WRONG("wanted base64 (bytes), found %s", found(json));
    to = exj_ffi_arena_take(a, json_string_length(json) / 4 * 3 + 1);
    if (!to)
        return no_memory(t);
    n = exj_ffi_base64_read(s, json_string_length(json), to);
    if (n < 0)
        return WRONG("'%.32s' is not base64 (A-Z a-z 0-9 + /, padded with =)", s);
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_TEXT, .p = (char *)to, .n = (size_t)n };
    return true;
}

static bool read_struct(const exj_ffi_struct *st, const json_t *json, exj_ffi_arena *a,
                        exj_ffi_value *ret, exj_ffi_trouble *t)
{
    unsigned char *to = exj_ffi_arena_take(a, st->size);
    json_t *object;
    const char *key;
    json_t *member;

    if (!to)
        return no_memory(t);
    if (!json_is_object(json))
        return WRONG("wanted an object (struct:%s), found %s", st->name, found(json));
    object = json_incref((json_t *)(uintptr_t)json); /* the walk wants it without const */
    json_object_foreach(object, key, member)
    {
        size_t k = 0;

        while (k < st->len && strcmp(st->fields[k].name, key) != 0)
            k++;
        if (k == st->len) {
            json_decref(object);
            return WRONG("struct:%s has no field '%.64s'", st->name, key);
        }
    }
    json_decref(object);
    for (size_t k = 0; k < st->len; k++) {
        exj_ffi_value v = { 0 };
        exj_ffi_trouble inner = { 0 };

        member = json_object_get(json, st->fields[k].name);
        if (!member)
            return WRONG("struct:%s lacks its field '%s'", st->name, st->fields[k].name);
        if (!exj_ffi_value_read(&st->fields[k].type, false, member, a, &v, &inner))
            return exj_ffi_trouble_set(t, inner.result, inner.code, "field '%s': %.500s",
                                       st->fields[k].name, inner.text);
        exj_ffi_value_store(&st->fields[k].type, &v, to + st->fields[k].offset);
    }
    *ret = (exj_ffi_value){ .form = EXJ_FFI_V_STRUCT, .p = (char *)to, .n = st->size };
    return true;
}

bool exj_ffi_value_read(const exj_ffi_type *type, bool nullable, const json_t *json,
                        exj_ffi_arena *a, exj_ffi_value *ret, exj_ffi_trouble *t)
{
    *ret = (exj_ffi_value){ 0 };
    if (json_is_null(json)) {
        char name[160];

        if (nullable)
            return true;
        exj_ffi_type_name(type, name, sizeof name);
        return WRONG("wanted %s, found null", name);
    }
    switch (type->kind) {
    case EXJ_FFI_BOOL:
        if (!json_is_boolean(json))
            return WRONG("wanted true or false (bool), found %s", found(json));
        ret->form = EXJ_FFI_V_BOOL;
        ret->b = json_is_true(json);
        return true;
    case EXJ_FFI_F32:
    case EXJ_FFI_F64:
        return read_real(type->kind, json, ret, t);
    case EXJ_FFI_STR:
        return read_text(json, a, ret, t);
    case EXJ_FFI_BYTES:
        return read_bytes(json, a, ret, t);
    case EXJ_FFI_ENUM:
        return read_enum(type->en, json, ret, t);
    case EXJ_FFI_STRUCT:
        return read_struct(type->st, json, a, ret, t);
    case EXJ_FFI_HANDLE:
        return WRONG("a handle comes from an earlier node, never from JSON");
    case EXJ_FFI_VOID:
        return WRONG("nothing is of type void");
    default:
        return read_integer(type->kind, json, ret, t);
    }
}

/* ---- from one node to the next ----------------------------------------------------- */

static bool is_real(exj_ffi_kind k)
{
    return k == EXJ_FFI_F32 || k == EXJ_FFI_F64;
}

static bool is_text(exj_ffi_kind k)
{
    return k == EXJ_FFI_STR || k == EXJ_FFI_BYTES;
}

bool exj_ffi_fits(const exj_ffi_type *from, const exj_ffi_type *to)
{
    if (from->kind == to->kind)
        return from->en == to->en && from->st == to->st && from->ha == to->ha &&
               from->kind != EXJ_FFI_VOID;
    if (exj_ffi_is_integer(to->kind))
        return exj_ffi_is_integer(from->kind) || from->kind == EXJ_FFI_ENUM;
    if (is_real(to->kind))
        return is_real(from->kind) || exj_ffi_is_integer(from->kind);
    return is_text(from->kind) && is_text(to->kind);
}

bool exj_ffi_value_convert(const exj_ffi_type *from, const exj_ffi_value *v,
                           const exj_ffi_type *to, exj_ffi_value *ret, exj_ffi_trouble *t)
{
    *ret = *v;
    if (v->form == EXJ_FFI_V_NULL ||
        (from->kind == to->kind && from->kind != EXJ_FFI_STR))
        return true;
    if (exj_ffi_is_integer(to->kind)) {
        bool minus = v->form == EXJ_FFI_V_INT && v->i < 0;

        return take_integer(to->kind, minus,
                            v->form == EXJ_FFI_V_UINT ? v->u
                            : minus                   ? 0 - (uint64_t)v->i
                                                      : (uint64_t)v->i,
                            ret, t);
    }
    if (is_real(to->kind)) {
        double d = v->form == EXJ_FFI_V_REAL   ? v->d
                   : v->form == EXJ_FFI_V_UINT ? (double)v->u
                                               : (double)v->i;

        if (!is_real(from->kind) && fabs(d) > (double)EXJ_FFI_EXACT_MAX)
            return WRONG("%.17g is beyond 2^53, where %s loses digits", d,
                         exj_ffi_kind_name(to->kind));
        return take_real(to->kind, d, ret, t);
    }
    if (to->kind == EXJ_FFI_STR && v->n && memchr(v->p, 0, v->n))
        return WRONG("the bytes have a NUL in them, which ends a C string");
    return true;
}

bool exj_ffi_value_of_length(const exj_ffi_type *type, uint64_t n, exj_ffi_value *ret,
                             exj_ffi_trouble *t)
{
    *ret = (exj_ffi_value){ 0 };
    return take_integer(type->kind, false, n, ret, t);
}

/* ---- to and from memory ------------------------------------------------------------ */

#define STORE(T, from)                                                                   \
    do {                                                                                 \
        T x_ = (T)(from);                                                                \
        memcpy(slot, &x_, sizeof x_);                                                    \
    } while (0)

void exj_ffi_value_store(const exj_ffi_type *type, const exj_ffi_value *v, void *slot)
{
    switch (integer_kind(type)) {
    case EXJ_FFI_BOOL:
        STORE(uint8_t, v->b);
        break;
    case EXJ_FFI_I8:
        STORE(int8_t, v->i);
        break;
    case EXJ_FFI_U8:
        STORE(uint8_t, v->u);
        break;
    case EXJ_FFI_I16:
        STORE(int16_t, v->i);
        break;
    case EXJ_FFI_U16:
        STORE(uint16_t, v->u);
        break;
    case EXJ_FFI_I32:
        STORE(int32_t, v->i);
        break;
    case EXJ_FFI_U32:
        STORE(uint32_t, v->u);
        break;
    case EXJ_FFI_I64:
        STORE(int64_t, v->i);
        break;
    case EXJ_FFI_U64:
        STORE(uint64_t, v->u);
        break;
    case EXJ_FFI_F32:
        STORE(float, v->d);
        break;
    case EXJ_FFI_F64:
        STORE(double, v->d);
        break;
    case EXJ_FFI_STR:
    case EXJ_FFI_BYTES:
        memcpy(slot, &v->p, sizeof v->p);
        break;
    case EXJ_FFI_STRUCT:
        memcpy(slot, v->p, type->st->size);
        break;
    default:
        break;
    }
}

#define LOAD(T, f, to)                                                                   \
    do {                                                                                 \
        T x_;                                                                            \
        memcpy(&x_, slot, sizeof x_);                                                    \
        ret->form = (f);                                                                 \
        ret->to = x_;                                                                    \
    } while (0)

bool exj_ffi_value_load(const exj_ffi_type *type, const void *slot, exj_ffi_arena *a,
                        exj_ffi_value *ret, exj_ffi_trouble *t)
{
    void *copy;

    *ret = (exj_ffi_value){ 0 };
    switch (integer_kind(type)) {
    case EXJ_FFI_BOOL:
        ret->form = EXJ_FFI_V_BOOL;
        ret->b = *(const unsigned char *)slot != 0;
        break;
    case EXJ_FFI_I8:
        LOAD(int8_t, EXJ_FFI_V_INT, i);
        break;
    case EXJ_FFI_U8:
        LOAD(uint8_t, EXJ_FFI_V_UINT, u);
        break;
    case EXJ_FFI_I16:
        LOAD(int16_t, EXJ_FFI_V_INT, i);
        break;
    case EXJ_FFI_U16:
        LOAD(uint16_t, EXJ_FFI_V_UINT, u);
        break;
    case EXJ_FFI_I32:
        LOAD(int32_t, EXJ_FFI_V_INT, i);
        break;
    case EXJ_FFI_U32:
        LOAD(uint32_t, EXJ_FFI_V_UINT, u);
        break;
    case EXJ_FFI_I64:
        LOAD(int64_t, EXJ_FFI_V_INT, i);
        break;
    case EXJ_FFI_U64:
        LOAD(uint64_t, EXJ_FFI_V_UINT, u);
        break;
    case EXJ_FFI_F32:
        LOAD(float, EXJ_FFI_V_REAL, d);
        break;
    case EXJ_FFI_F64:
        LOAD(double, EXJ_FFI_V_REAL, d);
        break;
    case EXJ_FFI_STRUCT:
        copy = exj_ffi_arena_take(a, type->st->size);
        if (!copy)
            return no_memory(t);
        memcpy(copy, slot, type->st->size);
        ret->form = EXJ_FFI_V_STRUCT;
        ret->p = copy;
        ret->n = type->st->size;
        break;
    default:
        break;
    }
    return true;
}
