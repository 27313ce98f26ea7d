/* tests/abi/layout.c - sizes and offsets of a header as numbers (no argument), or what is
 * wrong with the shape of its structs (any argument; exit status 1 when something is).
 * The scripts write border.h, which includes the header, and list.inc from it. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "border.h"

/* Structs that do not begin with size_of, and why they may not need it. */
static const char *const fixed[][2] = {
    { "exj_str", "two words, passed by value in every call: it never grows" },
    { "exj_note", "a record of an ELF file: its descsz tells its size" },
};

static const exj_bundle bundle = { 0 };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_ASYNC)

static size_t at;   /* the end of the member before */
static int wrong;

static bool is_fixed(const char *name)
{
    for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++)
        if (strcmp(fixed[k][0], name) == 0)
            return true;
    return false;
}

static void judge_first(const char *type, const char *member, bool is_u32)
{
    if (is_fixed(type))
        return;
    if (strcmp(member, "size_of") != 0 || !is_u32) {
        printf("%s: begins with %s: wanted uint32_t size_of\n", type, member);
        wrong = 1;
    }
}

static void judge_hole(const char *type, const char *before, size_t offset)
{
    if (offset != at) {
        printf("%s: %zu bytes of padding before %s: order or widen the members\n", type,
               offset - at, before);
        wrong = 1;
    }
}

int main(int argc, char **argv)
{
    const exj_note *n = &exj_note_of_this_file_;
    bool judge = argc > 1;

    (void)argv;
#define TYPE(T)                                                                            \
    if (!judge)                                                                            \
        printf("type %s size %zu align %zu\n", #T, sizeof(T), _Alignof(T));
#define MEMBER(T, m)                                                                       \
    if (!judge)                                                                            \
        printf("member %s.%s offset %zu size %zu until %u\n", #T, #m, offsetof(T, m),      \
               sizeof(((T *)0)->m), EXJ_SIZE(T, m));                                       \
    else                                                                                   \
        judge_hole(#T, #m, offsetof(T, m));                                                \
    at = offsetof(T, m) + sizeof(((T *)0)->m);
#define FIRST(T, m)                                                                        \
    at = 0;                                                                                \
    if (judge)                                                                             \
        judge_first(#T, #m, _Generic(((T *)0)->m, uint32_t: true, default: false));        \
    MEMBER(T, m)
#define LAST(T, m)                                                                         \
    if (judge)                                                                             \
        judge_hole(#T, "its end", sizeof(T));
#include "list.inc"
#ifndef ONLY_TYPES
    if (!judge) /* abi_minor and sdk grow */
        printf("note namesz %u descsz %u type %u name %.8s major %u kinds %u flags %u bytes %zu\n",
               n->namesz, n->descsz, n->type, n->name, n->abi_major, n->kinds, n->flags,
               sizeof *n);
#endif
    (void)n;
    return wrong;
}
