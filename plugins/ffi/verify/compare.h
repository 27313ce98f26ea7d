/* plugins/ffi/verify/compare.h - one function of a manifest against its DWARF. */
#ifndef EXJ_PLUGINS_FFI_VERIFY_COMPARE_H
#define EXJ_PLUGINS_FFI_VERIFY_COMPARE_H

#include "plugins/ffi/manifest.h"
#include "plugins/ffi/verify/binary.h"

typedef enum exj_verdict { EXJ_SAME, EXJ_NOTE, EXJ_UNKNOWN, EXJ_DIFFERS } exj_verdict;

typedef struct exj_line {
    const char *node, *symbol; /* borrowed from the manifest */
    char where[40];            /* "returns", "argument 0", "function" */
    char manifest[180], binary[180];
    exj_verdict verdict;
    char why[400];
} exj_line;

typedef struct exj_report {
    exj_line *lines; /* owned */
    size_t len, cap;
    bool failed; /* no memory */
} exj_report;

/* One line for the function, its return and each of its arguments. */
void exj_compare_function(const exj_ffi_function *f, exj_wanted *w, bool has_dwarf,
                          exj_report *r);
/* A symbol that ends something: void f(T *). */
void exj_compare_ending(const char *node, const char *symbol, exj_wanted *w,
                        bool has_dwarf, exj_report *r);

#endif /* EXJ_PLUGINS_FFI_VERIFY_COMPARE_H */
