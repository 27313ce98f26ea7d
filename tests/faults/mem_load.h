/* tests/faults/mem_load.h - a worker that has everything to do, and a ledger of what it
 * promised.
 *
 * One round applies configs, pushes rows of every manner, feeds sources, sends signals,
 * cancels, fires a schedule, reloads the engine's file, reads every GET route. Every change
 * carries an Idempotency-Key and is sent again until its answer is definite, as a careful
 * client does. What was answered is kept, and load_settle demands it: each row ends as it
 * should, the configs, the steps and the signals are there, the journal agrees.
 *
 * What is wrong goes to load_wrong, which prints it with the seed and counts it.
 *
 * Threads: one. */
#ifndef EXJ_TESTS_FAULTS_MEM_LOAD_H
#define EXJ_TESTS_FAULTS_MEM_LOAD_H

#include "tests/support/short.h"
#include "tests/support/support.h"

#define LOAD_ROWS_MAX 6000

enum load_kind { L_PLAIN, L_STEPS, L_SIGNAL, L_TIMER, L_POLLS, L_RETRIES, L_CANCEL, LOAD_KINDS };

typedef struct load {
    exj_daemon d;
    exj_short *ctl; /* NULL: nothing is short */
    const char *what;  /* the program's name, for messages */
    uint64_t seed, first_seed;
    int round, keys, wrong;
    const char *case_text; /* what is being tried, for messages */
    int reload_every;      /* rounds until the engine's file is replaced; 0: never */
    /* counted */
    int64_t requests, refused_5xx, unanswered, ended, restarts, rows_len;
    struct {
        uint8_t kind;
        bool there;
        bool told; /* that it is wrong */
    } rows[LOAD_ROWS_MAX];
    int fed; /* records of each source */
} load;

/* Folder, plugins, sinks, environment; with `preload` short.so and its control file.
 * Nothing is started. */
void load_init(load *l, const char *what, uint64_t seed, bool preload);
void load_start(load *l);   /* the worker; it must get ready */
void load_configs(load *l); /* the first documents */
void load_round(load *l, void (*midway)(load *l));
/* All rows of all rounds are as they must be, within `ms`. False: they are not. */
bool load_settle(load *l, unsigned ms);
/* Sinks, journal, store, after a stop. The worker runs before and has ended after. */
void load_judge(load *l);
void load_release(load *l);

/* The worker has ended although nobody told it to: it must have said why in one line that
 * has one of `words` (NULL-terminated); it is started again. */
void load_ended(load *l, int status);

void load_wrong(load *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
unsigned load_any(load *l, unsigned n);

/* Arm one allocation (or thread), or none. */
void load_arm(exj_short_of *s, int64_t nth, int64_t in_a_row);
void load_disarm(exj_short_of *s);

/* Send until the answer is definite. `json` NULL: none. *ret may be NULL. */
int load_ask(load *l, const char *method, const char *path, const char *json, json_t **ret);

#endif /* EXJ_TESTS_FAULTS_MEM_LOAD_H */
