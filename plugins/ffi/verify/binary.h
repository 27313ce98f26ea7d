/* plugins/ffi/verify/binary.h - what a shared library says about its functions: its
 * symbol table, and the DWARF in it or in the separate debug file of its build id.
 *
 * No code of the library runs. Memory: a binary owns everything below it. One thread. */
#ifndef EXJ_PLUGINS_FFI_VERIFY_BINARY_H
#define EXJ_PLUGINS_FFI_VERIFY_BINARY_H

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#include "plugins/ffi/trouble.h"

typedef struct exj_binary {
    char path[1100];
    char sha256[65];
    char build_id[129]; /* hex; "" : none */
    Dwfl *dwfl;
    Dwfl_Module *module;
    bool has_dwarf;
} exj_binary;

/* "libz.so.1" is looked for where the dynamic linker looks, more or less: LD_LIBRARY_PATH
 * and the system's folders. */
bool exj_binary_open(const char *library, exj_binary *ret, exj_ffi_trouble *t);
void exj_binary_close(exj_binary *b);

typedef enum exj_symbol_kind {
    EXJ_SYMBOL_NONE,
    EXJ_SYMBOL_FUNCTION,
    EXJ_SYMBOL_DATA
} exj_symbol_kind;

typedef struct exj_wanted {
    const char *symbol;
    exj_symbol_kind kind;
    Dwarf_Addr address;
    bool found, by_address;
    Dwarf_Die die; /* of the function, complete with its parameters */
} exj_wanted;

/* Fills kind, address, found and die of all in one walk. */
void exj_binary_find(exj_binary *b, exj_wanted *wanted, size_t n);

typedef enum exj_c_class {
    EXJ_C_VOID,
    EXJ_C_BOOL,
    EXJ_C_INTEGER,
    EXJ_C_FLOAT,
    EXJ_C_POINTER,
    EXJ_C_STRUCT,
    EXJ_C_UNION,
    EXJ_C_ENUM,
    EXJ_C_OTHER
} exj_c_class;

typedef struct exj_c_type {
    exj_c_class class;
    uint64_t size;
    bool is_signed, is_char; /* of integers and enums */
    bool sign_known;
    bool is_const;
    Dwarf_Die die; /* without typedefs and qualifiers; of VOID: none */
} exj_c_type;

/* The type of a parameter, a member or (of a function) of what it returns. */
exj_c_type exj_c_type_of(Dwarf_Die *die);
exj_c_type exj_c_pointee(exj_c_type *pointer);
/* "const struct point *". */
void exj_c_type_text(Dwarf_Die *die, char *ret, size_t cap);

#endif /* EXJ_PLUGINS_FFI_VERIFY_BINARY_H */
