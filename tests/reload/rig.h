/* tests/reload/rig.h - an engine with a plugin folder, for programs that change what is in it.
 *
 * The matrix "m" has graph "g" and as many rows as rig_feed last said; more matrices are put
 * beside it with rig_matrix. What fails that is not the subject aborts with a line.
 */
#ifndef EXJ_TESTS_RELOAD_RIG_H
#define EXJ_TESTS_RELOAD_RIG_H

#include "core/base/clock.h"
#include "core/plugin/remote.h"
#include "core/plugin/shelf.h"
#include "core/run/engine.h"
#include "tests/race/check.h"
#include "tests/support/support.h"

typedef struct rig {
    exj_tmp tmp;
    exj_registry_options ro;
    exj_remote_settings remote;
    exj_engine_options o; /* may be changed before rig_start */
    exj_engine *engine;
    exj_store *store;
    uint64_t fed;
} rig;

/* A row as it ended. */
typedef struct ended {
    char id[40], version[16], code[40];
    unsigned attempts;
    unsigned long who, count;
    exj_status status;
} ended;

void rig_make(rig *r, const char *lane);  /* folders, store; no plugin yet */
/* `to`.so in the plugins folder becomes the variant `file`, by rename, with `salt` behind its
 * end: other bytes than any other salt makes. */
void rig_drop(rig *r, const char *file, const char *to, unsigned salt);
void rig_sha(rig *r, const char *to, char ret[65]);
void rig_start(rig *r);
void rig_end_engine(rig *r); /* stops it with all time it may need; what it stood on goes too */
void rig_end(rig *r);
void rig_feed(rig *r, uint64_t rows);     /* so many in all */
void rig_matrix(rig *r, const char *id, const char *graph, const char *payload);
exj_code rig_order(rig *r, exj_plugin_order order, const char *what, json_t **ret, exj_err *err);
/* Wait; the time is limited. */
void rig_wait_done(rig *r, uint64_t rows);         /* so many ended, well or not */
void rig_wait_calm(rig *r);                        /* nothing watched, nothing drains */
json_t *rig_executor(rig *r);                      /* of plugin "sw"; new reference */
void rig_wait_state(rig *r, const char *state);
void rig_wait_running(rig *r, unsigned rows);
void rig_wait_version(rig *r, const char *version); /* is what new rows get */
size_t rig_rows(rig *r, const char *matrix, ended **ret); /* free() it */
bool rig_has_event(rig *r, const char *event, const char *version, const char *why);
unsigned rig_count_events(rig *r, const char *event);
unsigned rig_generations(rig *r);  /* of sw.so, all states */
/* A FIFO on which rows wait; rig_let lets so many go on. */
const char *rig_fifo(rig *r, const char *name);
void rig_let(rig *r, const char *name, unsigned rows);

/* Together: a first good version, `rows` rows fed; started, so many done; RELOAD that must go well,
 * and one that must not; all rows of "m" completed at the first attempt. */
void rig_begin(rig *r, const char *lane, const char *first, uint64_t rows);
void rig_start_done(rig *r, uint64_t rows);
void rig_reload(rig *r);
exj_code rig_refused(rig *r, exj_err *why);
void rig_check_all_good(rig *r, uint64_t rows);

/* switch_end.c: scenarios. */
void rig_stop_trial(const char *lane);
void rig_stop_replay(const char *lane);
void rig_stop_hold(const char *lane);
void rig_stop_canary(const char *lane);
void rig_gone(const char *lane);
void rig_watch(const char *lane);
void rig_config_map(const char *lane);

/* Ask again and again until it holds; not for ever. */
#define WAIT(what)                                                                        \
    do {                                                                                  \
        exj_nsec until_ = exj_clock_mono_ns() + (exj_nsec)90 * 1000000000;                \
                                                                                          \
        while (!(what))                                                                   \
            rig_breathe(until_, __FILE__, __LINE__, #what);                               \
    } while (0)
void rig_breathe(exj_nsec until, const char *file, int line, const char *what);

#endif /* EXJ_TESTS_RELOAD_RIG_H */
