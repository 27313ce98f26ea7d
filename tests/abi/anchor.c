/* tests/abi/anchor.c - a library whose exported functions mention every type of a header.
 *
 * A plugin ABI exports no function that uses its types, so abidiff on a plugin or on the
 * host sees nothing at all. Here each type is the argument of a function of its own: a type
 * that goes, comes or changes is a change of this library. The scripts write
 * border.h, which includes the header, and list.inc from it. The export and the note are
 * what every plugin has. */
#include "border.h"

#define TYPE(T)                                                                            \
    EXJ_PLUGIN_VISIBLE void exj_anchor_of_##T(T *p);                                       \
    void exj_anchor_of_##T(T *p)                                                           \
    {                                                                                      \
        (void)p;                                                                           \
    }
#define FIRST(T, m)
#define MEMBER(T, m)
#define LAST(T, m)
#include "list.inc"

#ifndef ONLY_TYPES
static const exj_bundle bundle = { 0 };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, 0)
#endif
