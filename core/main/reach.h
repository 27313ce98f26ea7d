/* core/main/reach.h - one way to every operation, beside a running daemon and without one.
 *
 * The first call decides: when somebody listens on DATA_DIR/exellix-jobs.sock the request
 * goes there; else the store is opened (read-only when the request only reads) and the same
 * router answers in this process. So a command does the same either way. Only a PUT
 * makes a store where there is none: a mistyped folder must not look like an empty one.
 *
 * Threads: main only.
 */
#ifndef EXJ_CORE_MAIN_REACH_H
#define EXJ_CORE_MAIN_REACH_H

#include "core/embed/wiring.h"
#include "core/main/house.h"
#include "core/main/out.h"

typedef struct exj_reach {
    const exj_cli *cli;  /* set before the first call */
    /* set before the first call: */
    bool only_daemon;    /* what only a worker can do */
    bool with_house;     /* without a daemon: what is remembered of plugins is needed, */
    bool without_store;  /* and nothing else: no store is opened */
    unsigned timeout_ms; /* of a daemon's answer; 0: 30 s */
    const char *content_type; /* of bodies; NULL: JSON */
    /* the rest is call_api's */
    bool decided, daemon, writable;
    exj_store *store;
    exj_registry *plugins;
    exj_house house;
    exj_api api;
    char socket[512], snapshots[4200];
} exj_reach;

#define EXJ_REACH_INIT(cli_) { .cli = (cli_) }

typedef struct exj_answer_json {
    unsigned status; /* HTTP; 0: no answer */
    json_t *body;    /* owned; NULL when it is not JSON */
} exj_answer_json;

/* Ask `method` `path` (below the prefix, encoded) `query` (encoded, without '?'). `body`: JSON
 * text or empty. An answer of 400 and more is an answer, not an error.
 * Errors: EXJ_BUSY (the store is held by another: says who; no daemon where one is needed),
 * EXJ_NOT_FOUND (no store yet), EXJ_UNSUPPORTED, EXJ_IO, … */
exj_code exj_call_api(exj_reach *r, const char *method, const char *path, const char *query,
                      exj_slice body, exj_answer_json *ret, exj_err *err);
/* The same for plugins alone: needs no store. */
exj_code exj_call_plugins(exj_reach *r, const char *path, const char *query,
                          exj_answer_json *ret, exj_err *err);
void exj_answer_json_release(exj_answer_json *a);
void exj_reach_release(exj_reach *r);

/* Ask; when the answer is 400 or more say why on standard error. EXJ_EXIT_OK: *ret is a 2xx
 * answer to release. `ret` is empty otherwise. */
exj_exit exj_ask(exj_reach *r, const char *method, const char *path, const char *query,
                 exj_slice body, exj_answer_json *ret);
exj_exit exj_answer_fail(const exj_cli *c, const exj_answer_json *a);

/* DATA_DIR/exellix-jobs.sock */
void exj_socket_path(const exj_settings *s, char *ret, size_t cap);
/* Opens the store of the settings under its lock. */
exj_code exj_open_store(const exj_settings *s, const char *note, exj_store **ret,
                        exj_err *err);

#endif /* EXJ_CORE_MAIN_REACH_H */
