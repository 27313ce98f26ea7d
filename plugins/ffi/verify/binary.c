#include "plugins/ffi/verify/binary.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "plugins/ffi/sha256.h"

/* ---- the file ---------------------------------------------------------------------- */

static bool try_folder(const char *folder, size_t n, const char *name, char *ret,
                       size_t cap)
{
    return n > 0 && snprintf(ret, cap, "%.*s/%s", (int)n, folder, name) < (int)cap &&
           access(ret, R_OK) == 0;
}

static bool locate(const char *library, char *ret, size_t cap)
{
    static const char *const folders[] = {
        "/usr/local/lib/" EXJ_MULTIARCH,
        "/lib/" EXJ_MULTIARCH,
        "/usr/lib/" EXJ_MULTIARCH,
        "/usr/local/lib",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    };
    const char *path = getenv("LD_LIBRARY_PATH");

    if (library[0] == '/')
        return snprintf(ret, cap, "%s", library) < (int)cap && access(ret, R_OK) == 0;
    while (path && *path) {
        size_t n = strcspn(path, ":");

        if (try_folder(path, n, library, ret, cap))
            return true;
        path += n + (path[n] == ':');
    }
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++)
        if (try_folder(folders[k], strlen(folders[k]), library, ret, cap))
            return true;
    return false;
}

static bool read_digest(exj_binary *b, exj_ffi_trouble *t)
{
    int fd = open(b->path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && exj_ffi_sha256_fd(fd, b->sha256);

    if (!good)
        exj_ffi_trouble_set(t, 0, "LibraryUnread", "%.900s: %s", b->path,
                            strerror(errno));
    if (fd >= 0)
        close(fd);
    return good;
}

bool exj_binary_open(const char *library, exj_binary *ret, exj_ffi_trouble *t)
{
    static char *debug_path; /* NULL: the usual folders */
    static const Dwfl_Callbacks callbacks = {
        .find_elf = dwfl_build_id_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
        .debuginfo_path = &debug_path,
    };
    exj_binary b = { 0 };
    const unsigned char *id;
    GElf_Addr at;
    Dwarf_Addr bias;
    int n;

    if (!locate(library, b.path, sizeof b.path))
        return exj_ffi_trouble_set(t, 0, "LibraryMissing",
                                   "library %.300s is not there, or not readable",
                                   library);
    if (!read_digest(&b, t))
        return false;
    b.dwfl = dwfl_begin(&callbacks);
    if (b.dwfl)
        b.module = dwfl_report_offline(b.dwfl, b.path, b.path, -1);
    if (!b.module) {
        exj_ffi_trouble_set(t, 0, "LibraryUnfit", "%.300s: %.200s", b.path,
                            dwfl_errmsg(-1));
        exj_binary_close(&b);
        return false;
    }
    dwfl_report_end(b.dwfl, NULL, NULL);
    n = dwfl_module_build_id(b.module, &id, &at);
    for (int k = 0; k < n && k < 64; k++)
        snprintf(b.build_id + 2 * k, 3, "%02x", id[k]);
    b.has_dwarf = dwfl_module_getdwarf(b.module, &bias) != NULL;
    *ret = b;
    return true;
}

void exj_binary_close(exj_binary *b)
{
    if (b->dwfl)
        dwfl_end(b->dwfl);
    *b = (exj_binary){ 0 };
}

/* ---- functions --------------------------------------------------------------------- */

static void find_symbols(exj_binary *b, exj_wanted *wanted, size_t n)
{
    int count = dwfl_module_getsymtab(b->module);

    for (int k = 1; k < count; k++) {
        GElf_Sym sym;
        GElf_Addr at;
        GElf_Word section;
        Elf *elf;
        Dwarf_Addr bias;
        const char *name =
            dwfl_module_getsym_info(b->module, k, &sym, &at, &section, &elf, &bias);
        int type = GELF_ST_TYPE(sym.st_info);
        size_t len;

        if (!name || section == SHN_UNDEF || GELF_ST_BIND(sym.st_info) == STB_LOCAL)
            continue;
        len = strcspn(name, "@"); /* without the version */
        for (size_t i = 0; i < n; i++) {
            if (strlen(wanted[i].symbol) != len ||
                memcmp(wanted[i].symbol, name, len) != 0)
                continue;
            wanted[i].kind =
                type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE
                    ? EXJ_SYMBOL_FUNCTION
                    : EXJ_SYMBOL_DATA;
            wanted[i].address = at;
        }
    }
}

static const char *linkage_name(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;

    return dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute));
}

static void consider(exj_wanted *w, Dwarf_Die *die, Dwarf_Addr bias)
{
    const char *name = dwarf_diename(die), *linkage = linkage_name(die);
    Dwarf_Addr low;
    Dwarf_Attribute attribute;
    bool here = dwarf_lowpc(die, &low) == 0 && w->address && low + bias == w->address;
    bool named = (name && strcmp(name, w->symbol) == 0) ||
                 (linkage && strcmp(linkage, w->symbol) == 0);

    if (w->by_address ||
        (!here && (!named || w->found || !dwarf_hasattr_integrate(die, DW_AT_external))))
        return;
    w->found = true;
    w->by_address = here;
    w->die = *die;
    /* An out-of-line copy may have lost parameters that its origin has. */
    if (dwarf_attr(die, DW_AT_abstract_origin, &attribute))
        dwarf_formref_die(&attribute, &w->die);
}

void exj_binary_find(exj_binary *b, exj_wanted *wanted, size_t n)
{
    Dwarf_Die *unit = NULL, die;
    Dwarf_Addr bias = 0;

    find_symbols(b, wanted, n);
    while (b->has_dwarf && (unit = dwfl_module_nextcu(b->module, unit, &bias)) != NULL) {
        if (dwarf_child(unit, &die) != 0)
            continue;
        do {
            if (dwarf_tag(&die) != DW_TAG_subprogram ||
                dwarf_hasattr(&die, DW_AT_declaration))
                continue;
            for (size_t k = 0; k < n; k++)
                consider(&wanted[k], &die, bias);
        } while (dwarf_siblingof(&die, &die) == 0);
    }
}

/* ---- types ------------------------------------------------------------------------- */

/* The die that DW_AT_type names; false: none, which is void. */
static bool next_type(Dwarf_Die *die, Dwarf_Die *ret)
{
    Dwarf_Attribute attribute;

    return dwarf_attr_integrate(die, DW_AT_type, &attribute) &&
           dwarf_formref_die(&attribute, ret);
}

static bool is_cover(int tag)
{
    return tag == DW_TAG_typedef || tag == DW_TAG_const_type ||
           tag == DW_TAG_volatile_type || tag == DW_TAG_restrict_type ||
           tag == DW_TAG_atomic_type;
}

static void read_base(exj_c_type *c)
{
    Dwarf_Attribute attribute;
    Dwarf_Word encoding = 0;

    dwarf_formudata(dwarf_attr_integrate(&c->die, DW_AT_encoding, &attribute), &encoding);
    c->sign_known = true;
    switch (encoding) {
    case DW_ATE_boolean:
        c->class = EXJ_C_BOOL;
        break;
    case DW_ATE_float:
        c->class = EXJ_C_FLOAT;
        break;
    case DW_ATE_signed_char:
    case DW_ATE_signed:
        c->class = EXJ_C_INTEGER;
        c->is_signed = true;
        break;
    case DW_ATE_unsigned_char:
    case DW_ATE_unsigned:
    case DW_ATE_UTF:
        c->class = EXJ_C_INTEGER;
        break;
    default:
        c->class = EXJ_C_OTHER;
        break;
    }
    c->is_char = encoding == DW_ATE_signed_char || encoding == DW_ATE_unsigned_char;
}

static exj_c_type classify(Dwarf_Die *type)
{
    exj_c_type c = { .die = *type }, under;
    Dwarf_Word size = 0;
    Dwarf_Die inner;

    while (is_cover(dwarf_tag(&c.die))) {
        c.is_const |= dwarf_tag(&c.die) == DW_TAG_const_type;
        if (!next_type(&c.die, &inner))
            return c; /* const void */
        c.die = inner;
    }
    if (dwarf_aggregate_size(&c.die, &size) == 0)
        c.size = size;
    switch (dwarf_tag(&c.die)) {
    case DW_TAG_base_type:
        read_base(&c);
        break;
    case DW_TAG_pointer_type:
        c.class = EXJ_C_POINTER;
        c.size = sizeof(void *);
        break;
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
        c.class = EXJ_C_STRUCT;
        break;
    case DW_TAG_union_type:
        c.class = EXJ_C_UNION;
        break;
    case DW_TAG_enumeration_type:
        c.class = EXJ_C_ENUM;
        if (next_type(&c.die, &inner)) {
            under = classify(&inner);
            c.sign_known = under.class == EXJ_C_INTEGER;
            c.is_signed = under.is_signed;
        }
        break;
    default:
        c.class = EXJ_C_OTHER;
        break;
    }
    return c;
}

exj_c_type exj_c_type_of(Dwarf_Die *die)
{
    Dwarf_Die type;

    return next_type(die, &type) ? classify(&type) : (exj_c_type){ 0 };
}

exj_c_type exj_c_pointee(exj_c_type *pointer)
{
    return exj_c_type_of(&pointer->die);
}

static void type_text(Dwarf_Die *die, char *ret, size_t cap, int depth)
{
    const char *word, *name;
    Dwarf_Die inner;
    size_t n;

    ret[0] = '\0';
    if (depth > 8 || !next_type(die, &inner)) {
        snprintf(ret, cap, "%s", depth > 8 ? "…" : "void");
        return;
    }
    name = dwarf_diename(&inner);
    switch (dwarf_tag(&inner)) {
    case DW_TAG_const_type:
    case DW_TAG_volatile_type:
        word = dwarf_tag(&inner) == DW_TAG_const_type ? "const" : "volatile";
        type_text(&inner, ret, cap, depth + 1);
        n = strlen(ret);
        if (n && ret[n - 1] == '*')
            snprintf(ret + n, cap - n, " %s", word);
        else if (n + strlen(word) + 2 < cap) {
            memmove(ret + strlen(word) + 1, ret, n + 1);
            memcpy(ret, word, strlen(word));
            ret[strlen(word)] = ' ';
        }
        return;
    case DW_TAG_restrict_type:
    case DW_TAG_atomic_type:
        type_text(&inner, ret, cap, depth + 1);
        return;
    case DW_TAG_pointer_type:
        type_text(&inner, ret, cap, depth + 1);
        n = strlen(ret);
        snprintf(ret + n, cap - n, "%s*", n && ret[n - 1] == '*' ? "" : " ");
        return;
    case DW_TAG_structure_type:
        word = "struct ";
        break;
    case DW_TAG_union_type:
        word = "union ";
        break;
    case DW_TAG_enumeration_type:
        word = "enum ";
        break;
    case DW_TAG_subroutine_type:
        word = "function";
        break;
    case DW_TAG_array_type:
        word = "array";
        break;
    default:
        word = "";
        break;
    }
    snprintf(ret, cap, "%s%s", word, name ? name : "");
}

void exj_c_type_text(Dwarf_Die *die, char *ret, size_t cap)
{
    type_text(die, ret, cap, 0);
}
