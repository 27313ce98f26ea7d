/* core/main/progress.h - long work beside no worker: a bar, and an end on SIGINT. Main only. */
#ifndef EXJ_CORE_MAIN_PROGRESS_H
#define EXJ_CORE_MAIN_PROGRESS_H

#include "core/main/bar.h"
#include "core/main/cli.h"

typedef struct exj_progress {
    exj_bar bar;
    int signals;      /* -1: not watched */
    const char *what; /* is being counted */
} exj_progress;

void exj_progress_begin(exj_progress *p, const exj_cli *c);
/* `user` is an exj_progress. False: the user wants it to stop. */
bool exj_progress_tell(void *user, const char *what, int64_t done, int64_t total);
void exj_progress_end(exj_progress *p);

#endif /* EXJ_CORE_MAIN_PROGRESS_H */
