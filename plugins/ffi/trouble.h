/* plugins/ffi/trouble.h - what went wrong: a stable code and one line for a person.
 *
 * Threads: a value; belongs to its caller. */
#ifndef EXJ_PLUGINS_FFI_TROUBLE_H
#define EXJ_PLUGINS_FFI_TROUBLE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct exj_ffi_trouble {
    int32_t result; /* exj_result */
    char code[32];
    char text[640];
} exj_ffi_trouble;

/* Always false, so that a check can `return exj_ffi_trouble_set(…)`. */
__attribute__((format(printf, 4, 5))) static inline bool
exj_ffi_trouble_set(exj_ffi_trouble *t, int32_t result, const char *code,
                    const char *format, ...)
{
    va_list ap;

    t->result = result;
    snprintf(t->code, sizeof t->code, "%s", code);
    va_start(ap, format);
    vsnprintf(t->text, sizeof t->text, format, ap);
    va_end(ap);
    return false;
}

#endif /* EXJ_PLUGINS_FFI_TROUBLE_H */
