/* tests/abi/anchor.c - a library whose exported functions mention every type of plugin.h.
 *
 * A plugin ABI exports no function that uses its types, so abidiff on a plugin or on the
 * host sees nothing at all. Here each type is the argument of a function of its own: a type
 * that goes, comes or changes is a change of this library. gate.sh writes list.inc from the
 * header. The export and the note are what every plugin has. */
#include "exellix/plugin.h"

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

static const exj_bundle bundle = { 0 };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, 0)
