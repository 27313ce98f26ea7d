/* plugins/ffi/manifest_inside.h - what the files that read a manifest share. */
#ifndef EXJ_PLUGINS_FFI_MANIFEST_INSIDE_H
#define EXJ_PLUGINS_FFI_MANIFEST_INSIDE_H

#include "plugins/ffi/manifest.h"

#define EXJ_FFI_PATH_MAX 200u

typedef struct exj_ffi_reader {
    exj_ffi_manifest *m;
    exj_ffi_trouble *t;
} exj_ffi_reader;

/* "functions[0].args[1]: …"; always false. */
bool exj_ffi_wrong(exj_ffi_reader *r, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void *exj_ffi_many(exj_ffi_reader *r, size_t n, size_t size); /* zeroed; NULL: said so */

/* Refuses a value that is no object, and each key that is not in the NULL-terminated
 * list, naming the nearest that is. */
bool exj_ffi_keys(exj_ffi_reader *r, const char *at, const json_t *o,
                  const char *const *known);
/* The nearest of a NULL-terminated list; NULL: none is near. */
const char *exj_ffi_nearest(const char *word, const char *const *known);

/* A member. Absent: untouched and true, unless `needed`. Text: 1 to max bytes, no control
 * characters. */
bool exj_ffi_text(exj_ffi_reader *r, const char *at, const json_t *o, const char *key,
                  bool needed, size_t max, const char **ret);
bool exj_ffi_bool(exj_ffi_reader *r, const char *at, const json_t *o, const char *key,
                  bool *ret);
bool exj_ffi_number(exj_ffi_reader *r, const char *at, const json_t *o, const char *key,
                    int64_t low, int64_t high, int64_t *ret);
/* Letter or _ first, then letters, digits, _ . $ @: what a symbol can be called. */
bool exj_ffi_symbol(exj_ffi_reader *r, const char *at, const char *key, const char *s);
/* Letters, digits, _ and -. */
bool exj_ffi_name(exj_ffi_reader *r, const char *at, const char *s);

/* enums, structs, handles of the manifest. */
bool exj_ffi_read_defs(exj_ffi_reader *r, const json_t *root);
/* "i32", "enum:mode"… at o[key]. */
bool exj_ffi_read_type(exj_ffi_reader *r, const char *at, const json_t *o,
                       const char *key, exj_ffi_type *ret);
/* Adds a library once. */
bool exj_ffi_add_library(exj_ffi_reader *r, const char *at, const char *name,
                         const char *sha256);
/* functions[] after the defs. */
bool exj_ffi_read_functions(exj_ffi_reader *r, const json_t *list);

#endif /* EXJ_PLUGINS_FFI_MANIFEST_INSIDE_H */
