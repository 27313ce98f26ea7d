/* tests/sim/sim.h - the simulated world: one OS thread, virtual time, seeded faults.
 *
 * The real code of core/job, core/run, core/plugin and core/store/sqlite is linked with
 * our own threads (fibers.c), clocks, randomness and memory (world.c) in place of the C
 * library's
 * (`-Wl,--wrap`), and SQLite is given a disk of ours (disk.c). So everything that happens
 * follows from one number, the seed.
 *
 * A WORKER'S LIFE (an incarnation) runs on fibers and in an arena. A crash drops both,
 * and puts the program's own variables back to what they were: all that remains is
 * `*sim`, which is mapped memory of its own, and the disk. So: NO VARIABLES OUTSIDE OF
 * struct sim in this folder.
 *
 * Time: mono_ns never goes back; wall clock = mono + wall_off_ns, which faults change.
 * Threads: there is one. "Fiber" is what the code under test takes for a thread.
 */
#ifndef EXJ_TESTS_SIM_H
#define EXJ_TESTS_SIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <ucontext.h>

#include "core/history/check.h"
#include "core/history/recorder.h"
#include "core/run/engine.h"
#include "core/store/store.h"

#define SIM_FIBERS 96
#define SIM_STACK_BYTES (512u * 1024u)
#define SIM_FAULTS 64
#define SIM_RECORDS 256
#define SIM_EFFECTS 16384
#define SIM_ENGINES 2
#define SIM_GRAPHS 4
#define SIM_COMMANDS 3
#define SIM_WORDS 2048 /* a message */

/* ---- faults
 * ------------------------------------------------------------------------------ */

typedef enum sim_fault_kind {
    SIM_CRASH,        /* kill -9: what was written stays, synced or not */
    SIM_POWER_CUT,    /* what was not synced stays, goes or is torn, sector by sector */
    SIM_LOST_REPLY,   /* kill -9 right after a commit is durable: nobody is told */
    SIM_LATE_REPLY,   /* the writer stands still there instead */
    SIM_PAUSE_ONE,    /* one thread stands still */
    SIM_PAUSE_ENGINE, /* all threads of one engine */
    SIM_PAUSE_ALL,    /* SIGSTOP and SIGCONT of the process, or of the machine */
    SIM_DISK_FULL,    /* for a while */
    SIM_IO_ERROR,     /* one write or sync fails: the store has failed */
    SIM_CLOCK_BACK,
    SIM_CLOCK_AHEAD, /* a day */
    SIM_CLOCK_FROZEN,
    SIM_CLOCK_STEPS,
    SIM_RESTART, /* an orderly end and a new start */
    SIM_KINDS
} sim_fault_kind;

typedef struct sim_fault {
    sim_fault_kind kind;
    int64_t at_ns;   /* not before */
    int64_t span_ns; /* how long it lasts */
    uint32_t after;  /* so many switches or disk accesses later */
} sim_fault;

/* ---- fibers
 * ------------------------------------------------------------------------------ */

typedef enum sim_wait {
    SIM_READY,
    SIM_MUTEX,
    SIM_COND,
    SIM_SLEEP,
    SIM_JOIN,
    SIM_SEMAPHORE,
    SIM_OVER
} sim_wait;

typedef struct sim_fiber {
    sim_wait wait;
    bool used, detached, timed_out;
    const void *on;    /* mutex, condition; fiber that is joined */
    int64_t until_ns;  /* mono; INT64_MAX: for ever */
    int64_t paused_ns; /* does not run before */
    void *(*fn)(void *);
    void *arg, *ret;
    int tag; /* engine it belongs to; -1: none */
    int saved_errno;
    uint32_t number; /* of its creation in this life, for traces */
    char name[20];
    ucontext_t context;
} sim_fiber;

typedef enum sim_end { SIM_GOES_ON, SIM_MAIN_OVER, SIM_CRASHED, SIM_FAILED } sim_end;

/* ---- what is known of rows from outside
 * ------------------------------------------------------ */

typedef struct sim_effect {
    uint64_t job; /* hash of its name */
    int64_t token, at_ns;
    uint32_t attempt;
} sim_effect;

/* A record that was pushed, or that the source has. */
typedef struct sim_record {
    char id[24];
    bool acked;    /* its insert was answered EXJ_OK */
    unsigned rows; /* of these, so many were new */
} sim_record;

/* Per row, by seq. */
#define SIM_SEQS 4096
typedef struct sim_seq {
    int64_t token, nonce;   /* of the newest claim that was answered; 0: none */
    int64_t accepted_nonce; /* of the newest outcome that was accepted */
    uint32_t life;          /* in which that claim was answered */
    int reset_pending;      /* retries and reruns that nobody knows the end of */
    bool holds;             /* that claim is not over, as far as is known */
    bool over;              /* terminal, as far as is known: `status` */
    bool acked;             /* its insert was answered EXJ_OK */
    exj_status status;
    uint32_t due_life;
    exj_msec due; /* not to be claimed before; 0: nothing known */
    int kept;     /* signals that are kept for it, at least */
} sim_seq;

/* A step that somebody has seen finished. */
#define SIM_STEPS 8192
typedef struct sim_step {
    uint64_t job, name, value; /* hashes; value 0: a rerun has dropped it */
} sim_step;

/* What a fenced client remembers of claims that it held once. */
#define SIM_OLD 32
typedef struct sim_old {
    int64_t seq, nonce, token;
    bool told; /* its holder has told of its end: told again, that is no stale write */
} sim_old;

typedef struct sim_totals {
    uint64_t seeds, failed, executions, lives, switches, accesses, virtual_ns, ops;
    uint64_t hit[SIM_KINDS];
    uint64_t tried[EXJ_CHECK_LAST + 1]; /* how often each invariant was put to the test */
    uint64_t stale_tried, stale_refused, fenced, reaped, torn, dropped, reruns, retries,
        cancels, signals, steps, replayed_steps, suspended, sink_events, ticks;
} sim_totals;

struct sim_file;

typedef struct sim_options {
    uint64_t seed;
    uint32_t rows;       /* 0: as the seed says */
    uint32_t horizon_ms; /* 0: as the seed says */
    uint64_t keep;       /* bit i: the i-th fault happens */
    const char *dir;     /* folder for what is not on the simulated disk */
} sim_options;

struct sim {
    sim_options o;
    FILE *trace; /* NULL: none */
    uint64_t digest;
    bool inside; /* code under test runs: its memory comes from the arena */

    uint64_t switches_left; /* of this seed */
    int first_fd;           /* those from here on are the life's */
    ucontext_t host;
    char *stacks;

    /* memory */
    char *arena, *arena_at, *arena_end;
    void *free_lists[64];

    /* the program's own variables, as they were */
    char *image;
    size_t image_len;

    struct sim_file *files[8]; /* the disk: disk.c */

    char *history; /* what was recorded in this seed: history.c */
    size_t history_cap;

    char per_seed; /* from here to `t`: zero when a seed begins */

    size_t history_len;
    exj_recorder *recorder, *second_recorder, *executor_recorder; /* of the life */

    /* the seed's streams, apart so that a shorter run of a seed is like the long one */
    uint64_t rng_sched, rng_load, rng_disk, rng_os, rng_fault;
    unsigned preempt;  /* of 256: how often a fiber is interrupted where it may be */
    unsigned spurious; /* of 4096: how often a wait ends without a cause */

    /* time */
    int64_t mono_ns, wall_off_ns, frozen_until_ns, frozen_wall_ns, steps_until_ns;

    /* fibers */
    sim_fiber fibers[SIM_FIBERS];
    sim_fiber *now; /* NULL: the host */
    uint32_t fibers_made;
    sim_end end;

    /* faults */
    sim_fault faults[SIM_FAULTS];
    unsigned faults_len, next_fault;
    bool armed;     /* of next_fault: its time has come; */
    uint32_t after; /* so many points later */
    bool faults_off;
    sim_fault_kind crash; /* how this life ends */
    bool want_restart;
    int64_t full_until_ns;
    bool io_error;

    /* the life that goes on */
    uint32_t life;
    exj_store *store;
    const void *real_vtable;
    exj_engine *engines[SIM_ENGINES];
    int engines_len;
    exj_registry *plugins;
    struct exj_sinks *sinks;
    struct exj_news *news;
    exj_metrics *metrics;
    bool has_documents, draining, stopping;
    int operators; /* fibers that still use the store */

    /* what this seed is like */
    unsigned workers, prefetch, lease_ms, graphs, rows, source_rows, max_attempts,
        executor_kind;
    int engines_wanted;
    bool same_id, done;
    int64_t horizon_ns, until_ns;

    /* the model */
    sim_record records[SIM_RECORDS];
    unsigned records_len;
    sim_effect effects[SIM_EFFECTS];
    unsigned effects_len;
    sim_seq seqs[SIM_SEQS];
    sim_step steps[SIM_STEPS];
    unsigned steps_len;
    struct {
        uint64_t job;
        int64_t token; /* of the newest attempt */
    } jobs[SIM_SEQS];
    unsigned jobs_len;
    int64_t versions[SIM_GRAPHS]; /* of graph documents, as acknowledged; 0: not known */
    int64_t sum_least, sum_most;  /* the operator's sum is between them */
    unsigned struck;              /* faults */
    bool commands[SIM_COMMANDS];  /* that were done */
    bool has_timeouts;
    const sim_fiber *stale; /* of the life: who writes with old claims */
    const char *keys;       /* what the matrix says of keys: a literal */
    int64_t deadline_ns;    /* of a stop; 0: none */
    uint32_t forgot;        /* reruns that may have dropped steps */
    bool delivered[65536];  /* by number of the event: the sink had it */
    int64_t seqs_most;
    sim_old old[SIM_OLD];

    sim_totals t;        /* over all seeds of this process */
    char why[SIM_WORDS]; /* of SIM_FAILED */
};
extern struct sim *sim; /* set once */

/* ---- world.c
 * ------------------------------------------------------------------------------ */

void sim_world_open(void); /* once a process: maps *sim, sets SQLite and jansson */
void sim_world_mark(
    void); /* after all that is set once: this is what a crash goes back to */
void sim_world_drop(void); /* forget the arena and every variable of the program */
uint64_t sim_random(uint64_t *stream);
uint64_t sim_below(uint64_t *stream, uint64_t n); /* 0..n-1; n > 0 */
bool sim_chance(uint64_t *stream, unsigned percent);
uint64_t sim_hash(const void *p, size_t n);
void sim_mix(uint64_t a, uint64_t b); /* into the digest */
/* One line of the trace; it counts into the digest whether it is written or not. */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
int64_t sim_wall_ns(void);

/* ---- history.c
 * ----------------------------------------------------------------------------
 */

exj_code sim_history_open(exj_err *err); /* the recorders of a life */
void sim_history_add(const exj_hist_event *e);
void sim_history_tell(exj_hist_op op, const char *outcome, int64_t value);
void sim_history_check(void);
int64_t sim_pid(void); /* of the life, made up */

/* ---- fibers.c
 * ----------------------------------------------------------------------------- */

/* Run `fn` as the first fiber of a life until it returns, or the life ends otherwise. */
sim_end sim_run(void *(*fn)(void *), void *arg);
/* [fiber] */
void sim_sleep(int64_t ns);
void sim_yield(void);
void sim_point(void); /* may switch: a place where a thread may be interrupted */
sim_fiber *sim_start(const char *name, void *(*fn)(void *), void *arg);
/* The run is over: this is wrong. Does not return in a fiber. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_leave(sim_end end) __attribute__((noreturn)); /* [fiber] */
void sim_dump(FILE *to);                               /* what every fiber waits for */

/* ---- faults.c
 * ----------------------------------------------------------------------------- */

extern const char *const sim_fault_words[SIM_KINDS];
void sim_faults_plan(void);
/* At every switch and disk access. `synced`: a commit has just become durable. */
void sim_fault_point(bool synced);

/* ---- disk.c
 * ------------------------------------------------------------------------------- */

void sim_disk_register(void);
void sim_disk_crash(bool power_cut); /* the process is gone */
void sim_disk_wipe(void);            /* for the next seed */

/* ---- guests.c, operator.c, life.c, check.c, record.c
 * -------------------------------------- */

exj_code sim_guests_add(exj_registry *r, exj_err *err);
/* A rerun is on its way: nothing is known of the job's steps. */
void sim_forget_steps(uint64_t job);
void sim_step_dropped(uint64_t job,
                      const char *name);    /* it has ended: this one is gone */
uint64_t sim_job_of(const exj_row_view *r); /* hash of its job's name */
void *sim_operator(void *arg);              /* fiber */
void *sim_audit(void *arg);                 /* fiber: looks at all rows now and then */
void *sim_stale(void *arg);                 /* fiber: writes with claims that are over */
bool sim_put_documents(exj_store *s);
bool sim_drain(
    exj_store *s); /* helps rows on that wait for somebody; true: all have ended */
bool sim_resume_all(exj_store *s);
/* The store as the engine sees it: what it answers is held against what it answered. */
exj_store *sim_record_store(exj_store *real);
/* [fiber] everything is over and the store is open: is it as it should be? */
void sim_check_end(void);
/* Run the seed of sim->o. True: all is well; else sim->why. */
bool sim_seed(void);

#endif /* EXJ_TESTS_SIM_H */
