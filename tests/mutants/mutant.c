/* Only in the tree that tests/mutants/plant.sh makes: bugs on demand. */
#include "core/base/mutant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *chosen;

/* Before main, so that no thread has to look at the environment later. */
__attribute__((constructor)) static void choose(void)
{
    const char *name = getenv("EXJ_MUTANT");

    for (size_t i = 0; name && name[0] && !chosen && exj_mutants[i]; i++)
        if (!strcmp(name, exj_mutants[i]))
            chosen = exj_mutants[i];
    if (name && name[0] && !chosen) {
        fprintf(stderr, "EXJ_MUTANT: no bug is named \"%s\"\n", name);
        abort();
    }
}

bool exj_mutant(const char *name)
{
    return chosen && !strcmp(chosen, name);
}

