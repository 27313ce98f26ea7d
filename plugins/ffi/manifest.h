/* plugins/ffi/manifest.h - which C functions of which shared libraries a graph calls.
 *
 * The manifest is the graph's model: JSON of a closed schema (docs/ffi.md). Reading it
 * checks everything that can be known without the library: names, types, references from
 * one node to another, struct layouts, what may be variadic. A manifest that was accepted
 * can still be wrong about the library (an ELF file holds no types): that is what the
 * program exellix-jobs-ffi-verify is for.
 *
 * Memory:  everything a manifest points to is its own; exj_ffi_manifest_free ends it.
 * Threads: read-only after reading.
 */
#ifndef EXJ_PLUGINS_FFI_MANIFEST_H
#define EXJ_PLUGINS_FFI_MANIFEST_H

#include <jansson.h>
#include <stddef.h>

#include "plugins/ffi/trouble.h"

#define EXJ_FFI_TEXT_MAX (1024u * 1024u) /* bytes of a manifest */
#define EXJ_FFI_NAME_MAX 128u            /* bytes of a name */
#define EXJ_FFI_FUNCTIONS_MAX 64u
#define EXJ_FFI_ARGS_MAX 32u
#define EXJ_FFI_FIELDS_MAX 64u
#define EXJ_FFI_DEFS_MAX 64u
#define EXJ_FFI_CAPACITY_MAX (64u * 1024u * 1024u)

typedef enum exj_ffi_kind {
    EXJ_FFI_VOID,
    EXJ_FFI_BOOL,
    EXJ_FFI_I8,
    EXJ_FFI_U8,
    EXJ_FFI_I16,
    EXJ_FFI_U16,
    EXJ_FFI_I32,
    EXJ_FFI_U32,
    EXJ_FFI_I64,
    EXJ_FFI_U64,
    EXJ_FFI_F32,
    EXJ_FFI_F64,
    EXJ_FFI_STR,
    EXJ_FFI_BYTES,
    EXJ_FFI_ENUM,
    EXJ_FFI_STRUCT,
    EXJ_FFI_HANDLE
} exj_ffi_kind;

typedef struct exj_ffi_enum exj_ffi_enum;
typedef struct exj_ffi_struct exj_ffi_struct;
typedef struct exj_ffi_handle exj_ffi_handle;

typedef struct exj_ffi_type {
    exj_ffi_kind kind;
    const exj_ffi_enum *en;   /* of ENUM */
    const exj_ffi_struct *st; /* of STRUCT */
    const exj_ffi_handle *ha; /* of HANDLE */
} exj_ffi_type;

struct exj_ffi_enum {
    const char *name;
    exj_ffi_kind underlying; /* an integer kind */
    size_t len;
    struct exj_ffi_enumerator {
        const char *name;
        int64_t value;
    } * items;
};

typedef struct exj_ffi_field {
    const char *name;
    exj_ffi_type type; /* a scalar: bool, integer, float, enum */
    size_t offset;
} exj_ffi_field;

struct exj_ffi_struct {
    const char *name;
    size_t len, size, align;
    exj_ffi_field *fields;
};

struct exj_ffi_handle {
    const char *name;
    const char *close;   /* symbol of void f(T *); NULL: nothing ends it */
    const char *library; /* where `close` is; the manifest's own when it says none */
};

typedef enum exj_ffi_role {
    EXJ_FFI_IN,         /* a value */
    EXJ_FFI_IN_POINTER, /* "by":"pointer": the address of a value, read by the function */
    EXJ_FFI_OUT, /* "out": the address of a value it writes; with a source: reads too */
    EXJ_FFI_OUT_BUFFER,   /* "outBytes", "outStr" */
    EXJ_FFI_LENGTH_OF,    /* "lengthOf": byte length of a str or bytes argument */
    EXJ_FFI_CAPACITY_OF,  /* "capacityOf": by value */
    EXJ_FFI_LENGTH_IN_OUT /* "lengthInOut": the address of capacity in, length out */
} exj_ffi_role;

typedef enum exj_ffi_source {
    EXJ_FFI_FROM_NOTHING,
    EXJ_FFI_FROM_VALUE,
    EXJ_FFI_FROM_INPUT,
    EXJ_FFI_FROM_MEMORY,
    EXJ_FFI_FROM_NODE
} exj_ffi_source;

typedef enum exj_ffi_owner {
    EXJ_FFI_OWNER_NONE,
    EXJ_FFI_BORROWED,
    EXJ_FFI_STATIC,
    EXJ_FFI_FREE
} exj_ffi_owner;

#define EXJ_FFI_RETURN UINT32_MAX /* in place of an argument's index: the return value   \
                                   */
#define EXJ_FFI_NO_INDEX (UINT32_MAX - 1u)

typedef struct exj_ffi_arg {
    exj_ffi_role role;
    exj_ffi_source source;
    exj_ffi_type type;     /* of a buffer: BYTES or STR */
    const char *from;      /* as written: "input.text" */
    const char *field;     /* of input and memory: the name, part of `from` */
    const json_t *value;   /* of FROM_VALUE; or "default", NULL: none */
    uint32_t node, output; /* of FROM_NODE: function, and argument or EXJ_FFI_RETURN */
    bool nullable;         /* str, bytes, handle: null is NULL */
    bool closes;           /* a handle that is over after this call */
    bool hidden;           /* "answer": false */
    const char *out;       /* name of the output; NULL: none */
    uint32_t capacity;     /* of OUT_BUFFER */
    uint32_t target;       /* lengthOf, capacityOf, lengthInOut: which argument */
    uint32_t length;     /* OUT_BUFFER: lengthInOut or integer out argument that tells its
                          * length, EXJ_FFI_RETURN, or EXJ_FFI_NO_INDEX */
    exj_ffi_owner owner; /* of an out str */
    const char *free_with; /* of EXJ_FFI_FREE */
} exj_ffi_arg;

typedef enum exj_ffi_rule {
    EXJ_FFI_ANY,
    EXJ_FFI_NON_NULL,
    EXJ_FFI_EQ,
    EXJ_FFI_NE,
    EXJ_FFI_LT,
    EXJ_FFI_LE,
    EXJ_FFI_GT,
    EXJ_FFI_GE
} exj_ffi_rule;

typedef struct exj_ffi_returns {
    exj_ffi_type type;
    exj_ffi_rule rule;
    int64_t bound;       /* of EQ to GE */
    const char *success; /* as written */
    bool error_is_errno; /* else the returned number tells */
    int retry;           /* -1: as errno says; 0, 1 */
    bool hidden;
    bool nullable;
    exj_ffi_owner owner;
    const char *free_with;
    uint32_t length; /* of BYTES: the integer out argument with its length */
} exj_ffi_returns;

typedef struct exj_ffi_function {
    const char *node, *symbol, *library;
    uint32_t args_len;
    uint32_t fixed; /* of a variadic function: how many come first */
    bool variadic;
    bool thread_safe;
    uint32_t deadline_ms; /* 0: none; told, not enforced */
    exj_ffi_arg *args;
    exj_ffi_returns returns;
} exj_ffi_function;

typedef struct exj_ffi_library {
    const char *name;
    const char *sha256; /* 64 hex digits or NULL */
} exj_ffi_library;

typedef struct exj_ffi_manifest {
    json_t *json; /* all names point into it */
    const char *id;
    size_t functions_len, enums_len, structs_len, handles_len, libraries_len;
    exj_ffi_function *functions;
    exj_ffi_enum *enums;
    exj_ffi_struct *structs;
    exj_ffi_handle *handles;
    exj_ffi_library *libraries; /* each once; the first is the manifest's own */
} exj_ffi_manifest;

/* NULL and *t: EXJ_R_INPUT "ManifestInvalid" with the path in the manifest, what is wrong
 * and what is wanted; EXJ_R_RETRY without memory. */
exj_ffi_manifest *exj_ffi_manifest_read(const char *text, size_t n, exj_ffi_trouble *t);
void exj_ffi_manifest_free(exj_ffi_manifest *m);

/* The type of what an argument or EXJ_FFI_RETURN puts out. */
const exj_ffi_type *exj_ffi_output_type(const exj_ffi_function *f, uint32_t output);

bool exj_ffi_is_integer(exj_ffi_kind k); /* i8 to u64 */
bool exj_ffi_is_signed(exj_ffi_kind k);
/* Size and alignment in memory; of str, bytes and handles those of a pointer. */
size_t exj_ffi_size_of(const exj_ffi_type *t);
size_t exj_ffi_align_of(const exj_ffi_type *t);
const char *exj_ffi_kind_name(exj_ffi_kind k);
/* "i32", "struct:point": as written in a manifest. */
void exj_ffi_type_name(const exj_ffi_type *t, char *ret, size_t cap);
/* Edit distance; words above 63 bytes are far from everything. */
unsigned exj_ffi_distance(const char *a, const char *b);

#endif /* EXJ_PLUGINS_FFI_MANIFEST_H */
