/* plugins/ffi/value.h - values on their way from JSON to C and back.
 *
 * JSON in: true and false for bool; a whole number for an integer, checked against the
 * width of its type, up to 2^53 either way (beyond that as a string of digits, for i64
 * and u64 alone); finite numbers for f32 and f64; text without U+0000 for str; standard
 * base64 for bytes; the name of an enumerator; an object with exactly the fields of a
 * struct. JSON out: the same. A number of an enum that has no name is written as a
 * number.
 *
 * Memory:  what a value points to lives in the arena it was made with.
 * Threads: an arena belongs to one thread.
 */
#ifndef EXJ_PLUGINS_FFI_VALUE_H
#define EXJ_PLUGINS_FFI_VALUE_H

#include "exellix/json.h"
#include "plugins/ffi/manifest.h"

#define EXJ_FFI_EXACT_MAX 9007199254740992LL /* 2^53 */

typedef struct exj_ffi_block exj_ffi_block;

typedef struct exj_ffi_arena {
    exj_ffi_block *blocks; /* owned */
} exj_ffi_arena;

/* Zeroed, aligned for every type; NULL: no memory. */
void *exj_ffi_arena_take(exj_ffi_arena *a, size_t n);
void exj_ffi_arena_release(exj_ffi_arena *a);

typedef enum exj_ffi_form {
    EXJ_FFI_V_NULL,
    EXJ_FFI_V_BOOL,
    EXJ_FFI_V_INT,
    EXJ_FFI_V_UINT,
    EXJ_FFI_V_REAL,
    EXJ_FFI_V_TEXT,   /* str and bytes: p, n; NUL-terminated */
    EXJ_FFI_V_STRUCT, /* its bytes: p */
    EXJ_FFI_V_HANDLE  /* number in the table of handles */
} exj_ffi_form;

typedef struct exj_ffi_value {
    exj_ffi_form form;
    bool b;
    int64_t i;
    uint64_t u;
    double d;
    const char *p;
    size_t n;
    uint32_t handle;
} exj_ffi_value;

/* False and *t (EXJ_R_INPUT "InputInvalid", without saying where; or EXJ_R_RETRY). */
bool exj_ffi_value_read(const exj_ffi_type *type, bool nullable, const json_t *json,
                        exj_ffi_arena *a, exj_ffi_value *ret, exj_ffi_trouble *t);
/* A value of type `from` as one of type `to`; which pairs are possible: exj_ffi_fits. */
bool exj_ffi_value_convert(const exj_ffi_type *from, const exj_ffi_value *v,
                           const exj_ffi_type *to, exj_ffi_value *ret,
                           exj_ffi_trouble *t);
bool exj_ffi_fits(const exj_ffi_type *from, const exj_ffi_type *to);

/* Scalars and structs to and from memory of exj_ffi_size_of(type) bytes. */
void exj_ffi_value_store(const exj_ffi_type *type, const exj_ffi_value *v, void *slot);
bool exj_ffi_value_load(const exj_ffi_type *type, const void *slot, exj_ffi_arena *a,
                        exj_ffi_value *ret, exj_ffi_trouble *t);
/* An unsigned length as a value of the integer type; false: it does not fit. */
bool exj_ffi_value_of_length(const exj_ffi_type *type, uint64_t n, exj_ffi_value *ret,
                             exj_ffi_trouble *t);
/* A member of the answer. False: a number that is not finite, text that is not UTF-8. */
bool exj_ffi_value_write(exj_json_out *o, const char *key, const exj_ffi_type *type,
                         const exj_ffi_value *v, exj_ffi_trouble *t);

/* Standard base64 with padding. Returns the number of bytes, or -1: not base64. `to` has
 * room for n / 4 * 3. */
int64_t exj_ffi_base64_read(const char *from, size_t n, unsigned char *to);

#endif /* EXJ_PLUGINS_FFI_VALUE_H */
