/* core/main/bar.h - how far a run is, to standard error: a bar on a terminal, else a line
 * every ten seconds. Time comes from the caller. Threads: main only. */
#ifndef EXJ_CORE_MAIN_BAR_H
#define EXJ_CORE_MAIN_BAR_H

#include "core/run/engine.h"

typedef struct exj_bar {
    bool on, live, drawn, color;
    exj_nsec started, said, rated;
    uint64_t rated_done;
    double rate; /* rows a second, smoothed */
    const char *unit; /* what is counted: "rows" */
} exj_bar;

void exj_bar_init(exj_bar *b, bool on, bool color, exj_nsec now);
void exj_bar_draw(exj_bar *b, const exj_engine_counts *c, exj_nsec now);
void exj_bar_clear(exj_bar *b);
/* Rows that came to an end in this run. */
uint64_t exj_bar_done(const exj_engine_counts *c);

#endif /* EXJ_CORE_MAIN_BAR_H */
