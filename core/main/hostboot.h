/* core/main/hostboot.h - the host bootstrap of EXELLIX_JOBS_HOST_BOOTSTRAP at work: what it sets,
 * adds and applies, and when it is told of start and stop. The border is in
 * include/exellix/jobs.h; the file is judged and loaded by core/plugin/bootstrap.h.
 *
 * Threads: main only.
 */
#ifndef EXJ_CORE_MAIN_HOSTBOOT_H
#define EXJ_CORE_MAIN_HOSTBOOT_H

#include "core/embed/wiring.h"
#include "core/main/settings.h"
#include "exellix/jobs.h"

typedef struct exj_hostboot_part { /* a static bundle, or documents */
    char *text;                /* owned: its name; JSON */
    const exj_bundle *bundle;  /* the bootstrap's; NULL: documents */
    struct exj_hostboot_part *next;
} exj_hostboot_part;

typedef struct exj_hostboot {
    exj_host_bootstrap table;
    bool loaded, running;
    const char *path;        /* of the settings; borrowed */
    exj_settings *settings;  /* borrowed; only while configure runs */
    exj_hostboot_part *parts;    /* owned, in the order they were given */
    exj_err said;            /* what error() was told */
    exj_err last;            /* of the last function that failed */
} exj_hostboot;

/* Load it, if one is set, and let it change `s`. `h` is zeroed.
 * Errors: those of exj_bootstrap_load; what configure answered, with its text. */
exj_code exj_hostboot_configure(exj_hostboot *h, exj_settings *s, exj_err *err);
/* Its bundles and documents, into a wiring that is open and not started. */
exj_code exj_hostboot_fill(exj_hostboot *h, exj_wiring *w, exj_err *err);
void exj_hostboot_started(exj_hostboot *h, exj_wiring *w);
void exj_hostboot_stopping(exj_hostboot *h); /* unless it was not told of a start */
void exj_hostboot_release(exj_hostboot *h);

#endif /* EXJ_CORE_MAIN_HOSTBOOT_H */
