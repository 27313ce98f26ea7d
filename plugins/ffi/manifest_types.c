/* Types of a manifest: the built-in ones, enums, structs, handles. */
#include <limits.h>
#include <stdlib.h>

#include "plugins/ffi/manifest_inside.h"

static const char *const kind_names[] = {
    [EXJ_FFI_VOID] = "void",     [EXJ_FFI_BOOL] = "bool",     [EXJ_FFI_I8] = "i8",
    [EXJ_FFI_U8] = "u8",         [EXJ_FFI_I16] = "i16",       [EXJ_FFI_U16] = "u16",
    [EXJ_FFI_I32] = "i32",       [EXJ_FFI_U32] = "u32",       [EXJ_FFI_I64] = "i64",
    [EXJ_FFI_U64] = "u64",       [EXJ_FFI_F32] = "f32",       [EXJ_FFI_F64] = "f64",
    [EXJ_FFI_STR] = "str",       [EXJ_FFI_BYTES] = "bytes",   [EXJ_FFI_ENUM] = "enum",
    [EXJ_FFI_STRUCT] = "struct", [EXJ_FFI_HANDLE] = "handle", [EXJ_FFI_HANDLE + 1] = NULL,
};

const char *exj_ffi_kind_name(exj_ffi_kind k)
{
    return kind_names[k];
}

bool exj_ffi_is_integer(exj_ffi_kind k)
{
    return k >= EXJ_FFI_I8 && k <= EXJ_FFI_U64;
}

bool exj_ffi_is_signed(exj_ffi_kind k)
{
    return k == EXJ_FFI_I8 || k == EXJ_FFI_I16 || k == EXJ_FFI_I32 || k == EXJ_FFI_I64;
}

size_t exj_ffi_size_of(const exj_ffi_type *t)
{
    switch (t->kind) {
    case EXJ_FFI_VOID:
        return 0;
    case EXJ_FFI_BOOL:
    case EXJ_FFI_I8:
    case EXJ_FFI_U8:
        return 1;
    case EXJ_FFI_I16:
    case EXJ_FFI_U16:
        return 2;
    case EXJ_FFI_I32:
    case EXJ_FFI_U32:
    case EXJ_FFI_F32:
        return 4;
    case EXJ_FFI_I64:
    case EXJ_FFI_U64:
    case EXJ_FFI_F64:
        return 8;
    case EXJ_FFI_ENUM:
        return exj_ffi_size_of(&(exj_ffi_type){ .kind = t->en->underlying });
    case EXJ_FFI_STRUCT:
        return t->st->size;
    default:
        return sizeof(void *);
    }
}

size_t exj_ffi_align_of(const exj_ffi_type *t)
{
    /* 8-byte scalars have an alignment of their own on some machines. */
    struct wide {
        char c;
        int64_t i;
    };
    struct real {
        char c;
        double d;
    };

    if (t->kind == EXJ_FFI_STRUCT)
        return t->st->align;
    if (t->kind == EXJ_FFI_F64)
        return offsetof(struct real, d);
    return exj_ffi_size_of(t) == 8 ? offsetof(struct wide, i) : exj_ffi_size_of(t);
}

void exj_ffi_type_name(const exj_ffi_type *t, char *ret, size_t cap)
{
    const char *name = t->kind == EXJ_FFI_ENUM     ? t->en->name
                       : t->kind == EXJ_FFI_STRUCT ? t->st->name
                       : t->kind == EXJ_FFI_HANDLE ? t->ha->name
                                                   : NULL;

    snprintf(ret, cap, "%s%s%s", kind_names[t->kind], name ? ":" : "", name ? name : "");
}

/* "enum:mode": the part after the colon in the list of its kind. */
static bool find_def(exj_ffi_reader *r, const char *at, const char *word,
                     exj_ffi_type *ret)
{
    const exj_ffi_manifest *m = r->m;
    const char *name = strchr(word, ':') + 1;

    if (strncmp(word, "enum:", 5) == 0) {
        ret->kind = EXJ_FFI_ENUM;
        for (size_t k = 0; k < m->enums_len; k++)
            if (strcmp(m->enums[k].name, name) == 0)
                ret->en = &m->enums[k];
    } else if (strncmp(word, "struct:", 7) == 0) {
        ret->kind = EXJ_FFI_STRUCT;
        for (size_t k = 0; k < m->structs_len; k++)
            if (strcmp(m->structs[k].name, name) == 0)
                ret->st = &m->structs[k];
    } else if (strncmp(word, "handle:", 7) == 0) {
        ret->kind = EXJ_FFI_HANDLE;
        for (size_t k = 0; k < m->handles_len; k++)
            if (strcmp(m->handles[k].name, name) == 0)
                ret->ha = &m->handles[k];
    }
    if (ret->en || ret->st || ret->ha)
        return true;
    return exj_ffi_wrong(r, at, "type '%.64s' is not defined; \"%ss\" has no '%.64s'",
                         word, ret->kind ? kind_names[ret->kind] : "enum", name);
}

bool exj_ffi_read_type(exj_ffi_reader *r, const char *at, const json_t *o,
                       const char *key, exj_ffi_type *ret)
{
    const char *word = NULL, *near;

    *ret = (exj_ffi_type){ 0 };
    if (!exj_ffi_text(r, at, o, key, true, EXJ_FFI_NAME_MAX + 8, &word))
        return false;
    if (strchr(word, ':'))
        return find_def(r, at, word, ret);
    for (int k = EXJ_FFI_VOID; k < EXJ_FFI_ENUM; k++)
        if (strcmp(kind_names[k], word) == 0) {
            ret->kind = (exj_ffi_kind)k;
            return true;
        }
    if (strcmp(word, "enum") == 0 || strcmp(word, "struct") == 0 ||
        strcmp(word, "handle") == 0)
        return exj_ffi_wrong(r, at, "type '%s' needs a name: \"%s:NAME\"", word, word);
    near = exj_ffi_nearest(word, kind_names);
    return exj_ffi_wrong(r, at, "unknown type '%.64s'%s%s%s", word,
                         near ? "; did you mean '"
                              : "; known are void, bool, i8 to u64, f32, "
                                "f64, str, bytes, enum:, struct:, handle:",
                         near ? near : "", near ? "'?" : "");
}

/* ---- enums ------------------------------------------------------------------------- */

static bool read_enum(exj_ffi_reader *r, const char *name, json_t *o, exj_ffi_enum *en)
{
    static const char *const known[] = { "type", "names", NULL };
    char at[EXJ_FFI_PATH_MAX];
    exj_ffi_type type = { .kind = EXJ_FFI_I32 };
    json_t *names, *value;
    const char *key;
    int64_t low, high;
    int bits;

    snprintf(at, sizeof at, "enums.%.64s", name);
    en->name = name;
    if (!exj_ffi_name(r, at, name) || !exj_ffi_keys(r, at, o, known))
        return false;
    if (json_object_get(o, "type") && !exj_ffi_read_type(r, at, o, "type", &type))
        return false;
    if (!exj_ffi_is_integer(type.kind))
        return exj_ffi_wrong(r, at, "\"type\" must be an integer type, i8 to u64");
    en->underlying = type.kind;
    names = json_object_get(o, "names");
    if (!json_is_object(names) || json_object_size(names) == 0)
        return exj_ffi_wrong(r, at, "needs \"names\": {\"NAME\": number}, at least one");
    if (json_object_size(names) > 4096)
        return exj_ffi_wrong(r, at, "has %zu names; at most 4096",
                             json_object_size(names));
    bits = (int)exj_ffi_size_of(&type) * 8;
    low = exj_ffi_is_signed(type.kind)
              ? (bits == 64 ? INT64_MIN : -(INT64_C(1) << (bits - 1)))
              : 0;
    high = bits == 64                     ? INT64_MAX
           : exj_ffi_is_signed(type.kind) ? (INT64_C(1) << (bits - 1)) - 1
                                          : (INT64_C(1) << bits) - 1;
    en->items = exj_ffi_many(r, json_object_size(names), sizeof *en->items);
    if (!en->items)
        return false;
    json_object_foreach(names, key, value)
    {
        if (!exj_ffi_number(r, at, names, key, low, high, &en->items[en->len].value))
            return false;
        en->items[en->len++].name = key;
    }
    return true;
}

/* ---- structs ----------------------------------------------------------------------- */

static bool read_field(exj_ffi_reader *r, const char *at, json_t *o, exj_ffi_struct *st)
{
    static const char *const known[] = { "name", "type", "offset", NULL };
    exj_ffi_field *f = &st->fields[st->len];
    int64_t offset = -1;
    size_t align;

    if (!exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_text(r, at, o, "name", true, EXJ_FFI_NAME_MAX, &f->name) ||
        !exj_ffi_name(r, at, f->name) || !exj_ffi_read_type(r, at, o, "type", &f->type) ||
        !exj_ffi_number(r, at, o, "offset", 0, 1 << 20, &offset))
        return false;
    if (f->type.kind == EXJ_FFI_VOID || f->type.kind == EXJ_FFI_STR ||
        f->type.kind == EXJ_FFI_BYTES || f->type.kind >= EXJ_FFI_STRUCT)
        return exj_ffi_wrong(r, at,
                             "a struct holds bool, integers, floats and enums; '%s' "
                             "needs glue in C",
                             kind_names[f->type.kind]);
    for (size_t k = 0; k < st->len; k++)
        if (strcmp(st->fields[k].name, f->name) == 0)
            return exj_ffi_wrong(r, at, "there are two fields '%s'", f->name);
    align = exj_ffi_align_of(&f->type);
    f->offset = (st->size + align - 1) / align * align;
    if (offset < 0)
        return exj_ffi_wrong(r, at, "needs \"offset\"; the C layout gives %zu",
                             f->offset);
    if ((size_t)offset != f->offset)
        return exj_ffi_wrong(r, at,
                             "\"offset\" is %lld, but the C layout of the fields before "
                             "it gives %zu",
                             (long long)offset, f->offset);
    st->size = f->offset + exj_ffi_size_of(&f->type);
    if (align > st->align)
        st->align = align;
    st->len++;
    return true;
}

static bool read_struct(exj_ffi_reader *r, const char *name, json_t *o,
                        exj_ffi_struct *st)
{
    static const char *const known[] = { "size", "fields", NULL };
    char at[EXJ_FFI_PATH_MAX];
    json_t *fields = json_object_get(o, "fields"), *field;
    int64_t size = -1;
    size_t k;

    snprintf(at, sizeof at, "structs.%.64s", name);
    st->name = name;
    st->align = 1;
    if (!exj_ffi_name(r, at, name) || !exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_number(r, at, o, "size", 1, 1 << 20, &size))
        return false;
    if (!json_is_array(fields) || json_array_size(fields) == 0 ||
        json_array_size(fields) > EXJ_FFI_FIELDS_MAX)
        return exj_ffi_wrong(r, at,
                             "needs \"fields\": 1 to %u of {\"name\",\"type\","
                             "\"offset\"}",
                             EXJ_FFI_FIELDS_MAX);
    st->fields = exj_ffi_many(r, json_array_size(fields), sizeof *st->fields);
    if (!st->fields)
        return false;
    json_array_foreach(fields, k, field)
    {
        snprintf(at, sizeof at, "structs.%.64s.fields[%zu]", name, k);
        if (!read_field(r, at, field, st))
            return false;
    }
    st->size = (st->size + st->align - 1) / st->align * st->align;
    snprintf(at, sizeof at, "structs.%.64s", name);
    if (size >= 0 && (size_t)size != st->size)
        return exj_ffi_wrong(r, at,
                             "\"size\" is %lld, but the C layout of its fields gives %zu",
                             (long long)size, st->size);
    return true;
}

/* ---- handles ----------------------------------------------------------------------- */

static bool read_handle_def(exj_ffi_reader *r, const char *name, json_t *o,
                            exj_ffi_handle *ha)
{
    static const char *const known[] = { "close", "library", NULL };
    char at[EXJ_FFI_PATH_MAX];

    snprintf(at, sizeof at, "handles.%.64s", name);
    ha->name = name;
    ha->library = r->m->libraries[0].name;
    if (!exj_ffi_name(r, at, name) || !exj_ffi_keys(r, at, o, known) ||
        !exj_ffi_text(r, at, o, "close", false, EXJ_FFI_NAME_MAX, &ha->close) ||
        !exj_ffi_text(r, at, o, "library", false, 1024, &ha->library))
        return false;
    if (ha->close && !exj_ffi_symbol(r, at, "close", ha->close))
        return false;
    return exj_ffi_add_library(r, at, ha->library, NULL);
}

/* ---- all of them ------------------------------------------------------------------- */

static bool open_list(exj_ffi_reader *r, const json_t *root, const char *key, size_t size,
                      json_t **ret_list, void *ret)
{
    json_t *list = json_object_get(root, key);
    void *items;

    *ret_list = list;
    if (!list)
        return true;
    if (!json_is_object(list) || json_object_size(list) > EXJ_FFI_DEFS_MAX)
        return exj_ffi_wrong(r, "",
                             "\"%s\" must be an object {\"NAME\": {…}} with at most %u "
                             "members",
                             key, EXJ_FFI_DEFS_MAX);
    items = exj_ffi_many(r, json_object_size(list), size);
    memcpy(ret, &items, sizeof items);
    return items != NULL;
}

bool exj_ffi_read_defs(exj_ffi_reader *r, const json_t *root)
{
    exj_ffi_manifest *m = r->m;
    json_t *list, *value;
    const char *key;

    if (!open_list(r, root, "enums", sizeof *m->enums, &list, &m->enums))
        return false;
    json_object_foreach(
        list, key,
        value) if (!read_enum(r, key, value, &m->enums[m->enums_len++])) return false;
    if (!open_list(r, root, "structs", sizeof *m->structs, &list, &m->structs))
        return false;
    json_object_foreach(
        list, key, value) if (!read_struct(r, key, value,
                                           &m->structs[m->structs_len++])) return false;
    if (!open_list(r, root, "handles", sizeof *m->handles, &list, &m->handles))
        return false;
    json_object_foreach(
        list, key,
        value) if (!read_handle_def(r, key, value,
                                    &m->handles[m->handles_len++])) return false;
    return true;
}
