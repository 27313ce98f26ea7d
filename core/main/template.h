/* core/main/template.h - the files that `plugin new` writes, inside the binary: made at
 * build time from sdk/template and the plugin headers, so that they always fit it. */
#ifndef EXJ_CORE_MAIN_TEMPLATE_H
#define EXJ_CORE_MAIN_TEMPLATE_H

#include <stddef.h>

typedef struct exj_template {
    const char *path; /* "c/Makefile", "include/exellix/plugin.h" */
    const unsigned char *bytes;
    size_t n;
} exj_template;

extern const exj_template exj_templates[]; /* the last has no path */

#endif /* EXJ_CORE_MAIN_TEMPLATE_H */
