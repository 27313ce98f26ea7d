/* tests/abi/types.c - holds plugin.h against what each minor promised. Only compiled:
 * gate.sh writes promises.inc, which includes frozen/types_1_*.h. */
#include "exellix/plugin.h"

/* Types are spelled without our typedefs, so that a changed typedef shows. */
#define MEMBER(T, m, ...)                                                                  \
    _Static_assert(_Generic(&((T *)0)->m, __typeof__(__VA_ARGS__) *: 1, default: 0),                   \
                   #T "." #m ": wanted " #__VA_ARGS__);
/* A callback: what it answers, what it is given. */
#define CALLBACK(T, m, answer, ...)                                                        \
    _Static_assert(_Generic(((T *)0)->m, answer(*) __VA_ARGS__: 1, default: 0),            \
                   #T "." #m ": wanted " #answer #__VA_ARGS__);
#define TYPEDEF(T, ...)                                                                    \
    _Static_assert(_Generic((T *)0, __typeof__(__VA_ARGS__) *: 1, default: 0),             \
                   #T ": wanted " #__VA_ARGS__);
#define NUMBER(name, type, value)                                                          \
    _Static_assert((name) == (value) && _Generic((name), type: 1, default: 0),             \
                   #name ": wanted " #value " of type " #type);
#define TEXT(name, value)                                                                  \
    _Static_assert(sizeof(name) == sizeof(value) && __builtin_strcmp(name, value) == 0,    \
                   #name ": wanted " #value);

static const exj_bundle bundle = { 0 };
EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, 0)

#include "promises.inc"
