/* plugins/ffi/library.h - shared libraries, opened once and never closed.
 *
 * A library may start threads or leave callbacks behind, so nothing proves that its code
 * can be unmapped. In a plugin host, where this plugin runs, the end of the process
 * unloads it.
 *
 * Threads: exj_ffi_library_open and exj_ffi_library_forget under the lock of program.c.
 * The symbol functions: any thread. `mu` serialises functions that are not thread-safe.
 */
#ifndef EXJ_PLUGINS_FFI_LIBRARY_H
#define EXJ_PLUGINS_FFI_LIBRARY_H

#include <pthread.h>
#include <sys/stat.h>

#include "plugins/ffi/trouble.h"

typedef struct exj_ffi_loaded exj_ffi_loaded;
struct exj_ffi_loaded {
    exj_ffi_loaded *next;
    void *dl;
    void *map; /* the linker's name for it: the same file is one library */
    char *name;
    char sha256[65];  /* of the file when that was asked for, else "" */
    struct stat file; /* when it was loaded; zeros of a bare name */
    pthread_mutex_t mu;
};

/* `sha256` may be NULL. Errors: "LibraryMissing", "LibraryUnfit" (will not load),
 * "LibraryChanged" (other digest). */
exj_ffi_loaded *exj_ffi_library_open(const char *name, const char *sha256,
                                     exj_ffi_trouble *t);
/* A function that this library itself defines. "SymbolMissing", "SymbolUnfit" (no
 * function, or of another library). */
typedef void (*exj_ffi_code)(void);
exj_ffi_code exj_ffi_library_find(const exj_ffi_loaded *l, const char *symbol,
                                  exj_ffi_trouble *t);
void exj_ffi_library_forget(void); /* frees the list; the libraries stay mapped */

#endif /* EXJ_PLUGINS_FFI_LIBRARY_H */
