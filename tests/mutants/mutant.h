/* Only in the tree that tests/mutants/plant.sh makes: bugs on demand. */
#ifndef EXJ_CORE_BASE_MUTANT_H
#define EXJ_CORE_BASE_MUTANT_H

#include <stdbool.h>

extern const char *const exj_mutants[]; /* their names; NULL-terminated */
/* Is it the bug that the environment's EXJ_MUTANT names? */
bool exj_mutant(const char *name);

#endif /* EXJ_CORE_BASE_MUTANT_H */
