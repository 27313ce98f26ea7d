/* plugins/ffi/program.h - a manifest made ready to be called, kept for the next row.
 *
 * Found by the text of the manifest: libraries are opened, symbols found and call
 * interfaces prepared once, under a lock (ffi_prep_cif writes into its types); afterwards
 * all of it is read-only and calls run side by side.
 *
 * Memory:  exj_ffi_program_get counts a user; exj_ffi_program_put takes him off. Of
 * programs without a user the KEPT last used stay. Threads: any.
 */
#ifndef EXJ_PLUGINS_FFI_PROGRAM_H
#define EXJ_PLUGINS_FFI_PROGRAM_H

#include <ffi.h>

#include "plugins/ffi/library.h"
#include "plugins/ffi/manifest.h"

typedef struct exj_ffi_ready {
    exj_ffi_loaded *library;
    exj_ffi_code code;
    ffi_cif cif;
    ffi_type **types;         /* one an argument */
    exj_ffi_code free_return; /* of owner free: */
    exj_ffi_code *free_arg;   /* one an argument; NULL: not that owner */
} exj_ffi_ready;

typedef struct exj_ffi_closer {
    exj_ffi_loaded *library;
    exj_ffi_code code; /* NULL: nothing to call */
} exj_ffi_closer;

typedef struct exj_ffi_program {
    exj_ffi_manifest *manifest;
    exj_ffi_ready *functions; /* as manifest->functions */
    exj_ffi_closer *closers;  /* as manifest->handles */
    /* inside of program.c */
    ffi_type *structs; /* as manifest->structs */
    char *text;
    size_t text_n;
    uint64_t hash, used;
    unsigned users;
    struct exj_ffi_program *next;
} exj_ffi_program;

exj_ffi_program *exj_ffi_program_get(const char *text, size_t n, exj_ffi_trouble *t);
void exj_ffi_program_put(exj_ffi_program *p);

/* Instances of the plugin: the last one to go takes everything with it. */
void exj_ffi_program_arrive(void);
void exj_ffi_program_leave(void);

#endif /* EXJ_PLUGINS_FFI_PROGRAM_H */
