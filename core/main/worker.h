/* core/main/worker.h - what `serve` and `run` share: the host bootstrap, a wiring
 * (core/embed/wiring.h) filled from the settings, and the signals that end them.
 *
 * Threads: main only. exj_signals_block comes before the first thread, so that all inherit it.
 */
#ifndef EXJ_CORE_MAIN_WORKER_H
#define EXJ_CORE_MAIN_WORKER_H

#include "core/embed/wiring.h"
#include "core/main/hostboot.h"
#include "core/main/house.h"
#include "core/main/out.h"

typedef struct exj_worker {
    const exj_settings *settings; /* borrowed */
    exj_wiring wiring;
    exj_hostboot host;
    exj_house house;
    exj_buf sinks; /* the text of their file */
    char socket[512];
} exj_worker;

typedef struct exj_worker_options {
    const char *command;   /* "serve", for the note of the lock */
    bool serves;           /* opens TCP when the settings say so; no local socket is fatal */
    bool one_cycle;
    uint64_t max_rows;
    const char *only_matrix;
    /* May be NULL. Called before the engine starts, with everything else open: it may change
     * what the engine is started with (w->wiring.o). Not EXJ_OK: the opening ends with that. */
    exj_code (*prepare)(struct exj_worker *w, void *user, exj_err *err);
    void *user;
    bool no_engine;        /* store and plugins alone */
} exj_worker_options;

/* The host bootstrap, when there is one, changes `s` first. On failure everything that was
 * opened is closed again. */
exj_code exj_worker_open(exj_worker *w, exj_settings *s, const exj_worker_options *o,
                         exj_err *err);
/* The end of 1.6: doors, then the engine (waiting for what runs up to the grace), then the
 * store. Returns how many executions were left to their leases; then the store stays open,
 * because they may still use it, and the caller must end the process at once. */
uint32_t exj_worker_close(exj_worker *w);

/* Block SIGINT and SIGTERM and return a descriptor that tells of them; -1: errno. */
int exj_signals_open(void);
/* Wait up to `timeout_ms` for the first one (-1: for ever); 0: none came. */
int exj_signals_wait(int fd, int timeout_ms);
/* From here on the next one ends the process at once, status 130. */
void exj_signals_arm_exit(void);

/* To a service manager, when one listens ($NOTIFY_SOCKET). */
void exj_service_notify(const char *state);

#endif /* EXJ_CORE_MAIN_WORKER_H */
