/* core/run/inside.h - what the files of this room share. Nobody else includes it.
 *
 * One mutex, exj_engine.mu, guards everything marked "mu". No plugin and no store call runs
 * under it. Workers take it once a BITE (up to BITE_MAX rows), never once a row.
 *
 *   claimer: claim ops ─▶ batch ─▶ ring of the pool ─▶ worker: bite ─▶ finish op ─▶ store
 */
#ifndef EXJ_CORE_RUN_INSIDE_H
#define EXJ_CORE_RUN_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/job/canary.h"
#include "core/job/config.h"
#include "core/plugin/watch.h"
#include "core/run/engine.h"

#define BITE_MAX 64u      /* rows a worker takes, executes and hands over at once */
#define BATCH_MAX 1024u   /* rows one claim may bring */
#define POLL_MS 5000      /* discovery without a wake-up */
#define POLL_AGAIN_MS 500 /* and when memory or a thread was short */
#define ANSWER_MAX (8u * 1024u * 1024u)

/* One generation of an executor's plugin, ready to run: its instances, one a worker unless it
 * is CONCURRENT. Made by the reloader (the first ones by discovery), freed by it once nobody
 * is on it. */
struct deck {
    struct deck *next;         /* mu; in executor.old */
    exj_guest *guest;          /* held */
    uint32_t flags;
    bool remote;               /* its calls go to another process: a bite is sent at once */
    bool pends;                /* an execution may leave its worker (ASYNC and CONCURRENT) */
    uint32_t instances_len;
    exj_instance **instances;
    exj_instance *control;     /* for the model resolver; may equal instances[0] */
    char *label;               /* "acme.score 1.2.0", for messages */
    uint64_t generation;
    uint32_t users;            /* mu; rows that are being executed on it */
    exj_canary_count count;    /* mu; rows that ended on it, and how many badly */
    exj_nsec since;            /* mu; when it got its share, or became current */
    exj_nsec drain_until;      /* mu; in executor.old */
};

/* What is configured as executor, on one lane. Made by discovery, never taken away while the
 * engine runs; which deck its rows run on changes with reloads. */
struct executor {
    struct executor *next;
    char *name;            /* as configured */
    exj_lane lane;
    bool found;            /* there was such a plugin when it was first looked for */
    struct deck *current;  /* mu; NULL: it cannot be used, `error` says why */
    struct deck *canary;   /* mu; has `share` percent of the rows; NULL: none */
    struct deck *before;   /* mu; what was current when a new one became it: taken back when
                              that proves worse; NULL: the new one is proven */
    struct deck *old;      /* mu; drain */
    uint32_t share;        /* mu */
    bool held;             /* mu; no row may start: state is carried over */
    bool stopped;          /* mu; its plugin may not run now (quarantine); `error` says why */
    exj_err refusal;       /* mu; of the last content that was refused; code EXJ_OK: none */
    exj_nsec canary_at;    /* mu; when the share began; and what `current` had counted then: */
    exj_canary_count canary_base; /* mu */
    uint64_t turn;         /* mu; raised with each change of `current` or `error` */
    /* The count of `current` at `traffic_at`, 10 to 20 s ago once it is that old; and the next
     * such mark, so that there is always one old enough. */
    exj_canary_count traffic, traffic_next; /* mu */
    exj_nsec traffic_at, traffic_next_at;   /* mu */
    exj_err error;         /* mu; code EXJ_OK: it can be used */
    exj_nsec again_at;     /* reloader only; its file is tried again: it was busy. 0: not */
};

/* What rows of one pool run with. Immutable, counted: a batch keeps the one it was claimed
 * under. */
struct spec {
    atomic_uint refs;
    exj_graph_config graph; /* zeroed when there is no config */
    int64_t version;        /* of the graph config; 0: absent */
    exj_effective eff;
    struct executor *executor;
    uint64_t turn;          /* of the executor, when this was made */
    char *model;            /* JSON */
    char *job_fields;       /* `,"matrixCatalogId":"m",…,"attempt":` */
    bool schedulable;       /* its graph may run: rows are materialized */
    bool runnable;          /* and its executor can be used: rows are claimed */
    exj_err why_not;        /* when not runnable */
};

struct matrix;

/* A cycle that a schedule asked for. Made and freed by discovery. */
struct asked {
    struct asked *next;
    char *run;
    bool done;          /* mu; its source was asked to the end, and the store knows */
    bool seen;          /* mu; by the look that is under way */
    exj_nsec not_before; /* mu; it failed: not again before. 0: it did not */
};

/* A graph's cap counts over all matrices that name the graph, as do its concurrency keys. */
struct gate {
    struct gate *next;
    char *graph_id;
    uint32_t executing; /* mu */
    uint32_t parked;    /* mu; pools of the graph that are `parked` */
    uint64_t freed;     /* mu; raised when rows of the graph ended or lost their claims */
};

/* One (matrix, run, graph). Lives as long as the engine. */
struct pool {
    struct pool *next;
    int64_t id;
    char *matrix_id, *run_id, *graph_id;
    struct gate *gate;
    struct spec *spec;      /* mu; replaced by discovery */
    bool wanted;            /* mu; named by a live matrix */
    bool seen;              /* mu; by the look that is under way */
    bool maybe_work;        /* mu; the store may hold claimable rows */
    bool stale;             /* mu; the config changed under a claim: look again */
    bool claiming;          /* mu; a claim of this pool is on its way */
    uint64_t freed;         /* mu; of its gate, when its claim was sent */
    bool parked;            /* mu; rows wait for a place of their concurrency key: an outcome
                               may let one in */
    exj_nsec rate_at;       /* mu; no claim before: its rate limit is used up. 0: none holds */
    struct row *head, *tail; /* mu; claimed, not started: first in, first out */
    uint32_t ready;          /* mu; length of that list */
    uint32_t depth;          /* mu; how many to claim ahead, adapted to their speed */
    uint32_t executing;      /* mu; executions at once */
    uint32_t uncommitted;    /* mu; claimed and not yet answered by the store */
    uint64_t claimed_total;  /* mu; since start */
    exj_nsec filled_at;      /* mu; when the ring was last filled */
    exj_nsec row_ns;         /* mu; recent mean of one execution */
    exj_series *started, *completed[EXJ_STATUS_COUNT], *failed, *fenced, *retries, *execute;
};

enum row_phase { ROW_READY, ROW_TAKEN, ROW_OVER };

struct row {
    struct row *next; /* in the ring */
    exj_claim claim;
    struct deck *deck;          /* what executes it; set when a worker takes it */
    exj_slice record_id, input; /* in the batch's arena */
    struct batch *batch;
    atomic_int phase; /* ROW_OVER is set by whoever ends it; read by the keeper */
    atomic_bool lost; /* the keeper saw that the claim is over */
    atomic_bool cancel; /* an operator wants it to stop */
    atomic_bool late; /* its outcome may be stored, the answer did not come: to be asked again */
    /* In process, with a time limit: when (monotonic) it should have come back, its grace
     * included. Afterwards its lease is not renewed and its worker is written off. 0: never. */
    _Atomic int64_t overdue_at;
    bool written_off; /* keeper, and who ends it; guarded by mu */
    bool unreadable;  /* claimer only; its input is lost: it fails and never lies in a ring */
};

/* Rows of one claim: one allocation, one arena. In the engine's list until all are over. */
struct batch {
    struct batch *prev, *next; /* mu */
    struct pool *pool;
    struct spec *spec; /* counted */
    atomic_uint open;  /* rows not over, and one for whoever fills or reads it */
    exj_nsec renew_at; /* keeper only, after it was listed */
    /* In a shared store: until when (monotonic) nobody else can have taken its rows back, as far
     * as we know. Past it no row begins, and calls are told to end. 0: the store is ours. */
    _Atomic int64_t kept_until;
    exj_buf arena;
    uint32_t len;
    exj_op op;
    exj_want want;
    exj_claim *claims; /* during the claim: inside `rows`' allocation */
    exj_loaded *loaded;
    struct row rows[];
};

/* What a worker waits on when the calls of its bite are in another process. */
struct latch {
    pthread_mutex_t mu;
    pthread_cond_t over;
    uint32_t left;  /* guarded by mu */
    exj_nsec last;  /* guarded by mu; when the call before ended */
};

/* One execution: what the plugin's calls back into the host need. Reused over and over;
 * a PENDING one leaves its worker, which takes a fresh one. */
struct execution {
    exj_engine *engine;
    struct row *row;
    exj_call_slot *slot;
    exj_call_ports ports; /* here and not on a stack: a call may outlive its worker's turn */
    exj_buf runtime;
    exj_buf name;
    exj_nsec deadline, began, took;
    uint64_t record_id; /* of the call in a history; 0: it is not recorded, or has ended */
    exj_nsec told; /* when progress was last journaled; 0: not yet. Of the call's thread */
    bool told_end; /* that it is at its end was journaled */
    uint64_t put[8]; /* a bit for each step put by this call, by hash; under the slot's lock */
    exj_call_end end;
    struct latch *latch;  /* sent to another process: who waits for it */
    struct outbox *alone; /* PENDING: the box for its outcome */
};

/* One bite's outcomes on their way to the store. */
struct outbox {
    struct outbox *next; /* mu; free list, late ones */
    exj_engine *engine;
    struct pool *pool;
    exj_op op;
    uint32_t len;
    exj_outcome items[BITE_MAX];
    struct row *rows[BITE_MAX];
    exj_buf text; /* results and error texts; items hold offsets until sealed */
};

/* One matrix and its loop. */
struct matrix {
    struct matrix *next;
    exj_engine *engine;
    char *id;
    exj_matrix_config config; /* mu; replaced by discovery (config_next) */
    exj_matrix_config config_next;
    bool has_next;            /* mu */
    int64_t version;          /* mu */
    bool gone, seen;          /* mu */
    bool ended;               /* mu; its thread is over */
    bool has_thread;
    pthread_t thread;
    struct asked *asked;      /* mu; oldest first */
    uint64_t cycles;          /* mu */
    bool scanning, idle;      /* mu; idle: waits for the next cycle */
    bool poked;               /* mu; exj_engine_wake: do not wait out an empty pass */
    exj_msec last_started, last_ended; /* mu; wall clock */
    exj_err last_error;       /* mu */
    exj_series *m_materialized, *m_idle, *m_cycles[2];
};

struct exj_engine {
    exj_engine_options o; /* texts owned; set before start, then read-only */
    pthread_mutex_t mu;
    pthread_cond_t work;    /* workers: something is ready */
    pthread_cond_t claim;   /* claimer: room, or news of work */
    pthread_cond_t keep;    /* keeper */
    pthread_cond_t look;    /* discovery */
    pthread_cond_t cycle;   /* cycle loops */
    pthread_cond_t idle;    /* wait_idle, stop */
    pthread_cond_t retire;  /* retirer */
    pthread_cond_t schedule; /* scheduler */
    bool schedules_changed; /* mu */
    pthread_cond_t calm;    /* the reloader: a deck has no users any more */
    struct pool *pools;     /* mu; only grows */
    struct gate *gates;     /* discovery only */
    struct matrix *matrices; /* mu */
    struct executor *executors; /* mu; only grows */
    struct batch *batches;  /* mu */
    struct outbox *outboxes; /* mu; free ones, no more than two a worker: */
    uint32_t outboxes_len;   /* mu */
    exj_nsec poll_at, poll_pause; /* claimer only; monotonic: when all pools of a shared store are
                               asked although nobody told of work, and how long until then */
    struct outbox *late;    /* mu; outcomes that a shared store did not take yet */
    exj_nsec late_at;       /* mu; monotonic: when they go to it again; 0: there are none */
    exj_nsec late_pause;    /* mu; how long they wait; 0: it took the last ones */
    bool gives_up;          /* mu; stop's grace is over: what is late now is left to its lease */
    uint32_t sleeping;      /* mu; workers waiting */
    bool starved;           /* mu; one of them for memory, that is for an outbox */
    uint32_t executing;     /* mu; over all pools */
    uint32_t stuck;         /* mu; workers written off: their calls do not come back */
    uint32_t ready;         /* mu */
    uint32_t outstanding;   /* mu; claimed and not yet answered by the store */
    uint64_t answers;       /* mu; answers of the store to rows, for wait_idle */
    bool paused, stopping, no_more_claims; /* mu */
    bool look_now;          /* mu */
    bool failed;            /* mu; the store failed: it is ours alone, or what it said does not pass */
    atomic_bool unwell;     /* written under mu: `unwell_since` is set */
    exj_nsec unwell_since;  /* mu; monotonic: a shared store did not do what we asked, and has done
                               nothing since. 0: it is well */
    exj_nsec unwell_told;   /* mu; when that was last said in the log; 0: never */
    bool unwell_open;       /* mu; it was said of this time: its end is said, too */
    exj_err unwell_error;   /* mu; what it said last */
    exj_nsec look_tell_at;  /* discovery only; monotonic: errors are not said again before */
    unsigned unlisted, uncounted; /* mu; matrices and pools could not be read so often in a row */
    exj_nsec ask_at, ask_pause; /* claimer only; monotonic: no claim and no promotion before; how
                               long the last such rest was. 0: none */
    bool discovered;        /* mu; a look is done since the start and the last wake */
    exj_msec next_due;      /* mu; store time when a waiting row is due; 0: none known */
    bool promote;           /* mu; the claimer is to promote what is due before it claims */
    bool promote_due;       /* mu; and there is something: pools want to claim at once */
    struct pool *turn;      /* mu; fairness between pools */
    exj_engine_counts counts; /* mu; in_flight, ready, open are filled on reading */
    exj_series *m_expiries;
    pthread_t discovery_thread, claimer_thread, keeper_thread, reloader_thread, retirer_thread,
        scheduler_thread;
    bool has_discovery, has_claimer, has_keeper, has_reloader, has_retirer, has_scheduler;
    exj_watch *watch;         /* set before start, then read-only; NULL: nothing is watched */
    uint32_t sweeps;          /* reloader only; to come: cycles may still run in an old resolver */
    struct order *orders;     /* mu; to the reloader, oldest first */
    pthread_cond_t ordered;   /* who waits for an order's end */
    uint32_t ordering;        /* mu; how many do: the engine is not freed before they left */
    uint32_t workers_len;     /* wanted; set before start, then read-only */
    uint32_t workers_started; /* start and stop only */
    pthread_t *workers;
    atomic_bool abandon; /* stop's grace is over: cancelled() says so */
};

/* deck.c */
/* Discovery's thread, or before the threads start. NULL only on lack of memory. */
struct executor *exj_run_executor(exj_engine *e, const char *name, exj_lane lane);
void exj_executor_free(struct executor *x);
/* What x runs first: the content that is pinned, though its file holds another. Held.
 * Errors: those of exj_registry_find_lane; EXJ_REFUSED: what is pinned cannot be had. */
exj_code exj_run_find_guest(exj_engine *e, const struct executor *x, exj_guest **ret, exj_err *err);
/* Instances of `guest` for every worker. The hold on the guest is the deck's from now on,
 * also on failure. */
exj_code exj_deck_new(exj_engine *e, exj_guest *guest, struct deck **ret, exj_err *err);
void exj_deck_free(struct deck *d); /* not while it has users */
/* The deck that this row runs on, counted as its user; NULL: the executor cannot be used. */
struct deck *exj_deck_take_locked(struct executor *x, exj_slice record_id);
void exj_deck_leave_locked(exj_engine *e, struct deck *d);
/* discovery.c */
void *exj_run_discovery(void *engine);
struct spec *exj_spec_ref(struct spec *s);
void exj_spec_unref(struct spec *s);
void exj_matrix_free(struct matrix *m);
void exj_pool_free(struct pool *p);
/* cycle.c */
void *exj_run_cycle(void *matrix);
/* claimer.c */
void *exj_run_claimer(void *engine);
/* Take the rows that wait in p's ring and give them back to the store. */
void exj_run_release_locked(exj_engine *e, struct pool *p);
/* Rows of this pool ended or lost their claims: where rows of its graph wait for a place of a
 * concurrency key, in whatever pool, there may be one now. True: there are such pools. */
bool exj_run_freed_locked(exj_engine *e, const struct pool *p);
/* Give back rows that a worker took and that nothing was done for. */
void exj_run_return(exj_engine *e, struct pool *p, struct row **rows, uint32_t n);
void exj_batch_row_over(exj_engine *e, struct row *r);
void exj_batch_unref(exj_engine *e, struct batch *b);
/* The leases of b are good for what a claim or a renewal said that was sent at `sent`. */
void exj_batch_keep(const exj_engine *e, struct batch *b, exj_nsec sent);
bool exj_batch_is_past(const struct batch *b); /* see kept_until */
/* outbox.c */
bool exj_box_spare(exj_engine *e); /* one more free outbox; false: no memory */
/* NULL: no memory. Each worker began with a spare one, so one comes back through its done. */
struct outbox *exj_box_take_locked(exj_engine *e);
void exj_box_give_locked(exj_engine *e, struct outbox *box); /* empty again; accepts NULL */
/* The one place where the end of an execution becomes an outcome. Returns whether the plugin
 * is to blame. */
bool exj_box_add(struct outbox *box, struct row *r, const exj_call_end *end);
/* A row whose input cannot be had, today or tomorrow: it is failed, and `why` says so. */
void exj_box_add_unreadable(struct outbox *box, struct row *r, const exj_err *why);
void exj_box_submit(struct outbox *box); /* not an empty one; comes back by itself */
/* Late outcomes go to the store again, if their time has come. True: it had, and mu was free
 * meanwhile. Keeper. */
bool exj_box_retry_locked(exj_engine *e);
/* No outcome is kept any more: those that are late, or will be, are left to their leases. */
void exj_box_give_up(exj_engine *e);
/* worker.c */
bool exj_run_start_worker(exj_engine *e, pthread_t *ret, uint32_t index);
/* The row's name (= job id) and the runtime object of spec 1.4. False: no memory. */
bool exj_run_request(const struct spec *spec, const struct pool *p, exj_slice record_id,
                     exj_slice input, uint32_t attempt, exj_buf *name, exj_buf *runtime);
/* The store did not do what a call asked for: a rest, longer than *pause, and then whether it may
 * be asked again: the call has not to end. */
bool exj_run_rest_in_call(struct execution *x, exj_nsec *pause);
/* recording.c: nothing, where the engine has no recorder */
/* A plugin is about to be called for x->row; x may be gone once it is. And it is over; before the
 * row leaves its deck. */
void exj_run_record_call(struct execution *x);
void exj_run_record_call_end(struct execution *x, const exj_call_end *end);
void exj_run_record_ready(const exj_engine *e, const struct deck *d);
void exj_run_record_draining(const exj_engine *e, const struct deck *d);
/* A visit of exj_registry_sweep; user: the engine. */
void exj_run_record_gone(void *engine, const exj_guest_info *i);
void exj_run_record_core(const exj_engine *e, const char *outcome);
/* reload.c */
void *exj_run_reloader(void *engine);
/* Tell of an executor's first version and keep a copy of it: a roll back leads there. */
void exj_run_note_first(exj_engine *e, const struct executor *x);
/* trial.c: let `guest`, a candidate for x, prove itself: create with `config`, self-test, and
 * the newest completed rows of x's pools again (x may be NULL without rows). *ret_report: {"selfTest","rows","same","different",
 * "differences":[{"matrixRowId","before","after"}]}, new reference, also on failure.
 * Errors: EXJ_INVALID, and the text says why it failed; EXJ_CANCELLED: the engine stops. */
exj_code exj_run_trial(exj_engine *e, struct executor *x, exj_guest *guest, exj_slice config,
                       unsigned rows, json_t **ret_report, exj_err *err);
/* kv.c: ports whose user is a struct execution */
exj_code exj_run_kv_get(void *user, exj_slice key, exj_buf *ret, exj_err *err);
exj_code exj_run_kv_put(void *user, exj_slice key, exj_slice json, exj_err *err);
exj_code exj_run_kv_remove(void *user, exj_slice key, exj_err *err);
exj_code exj_run_kv_add(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err);
exj_code exj_run_metric(void *user, const exj_plugin_sample *m, exj_err *err);
#define EXJ_RUN_EXTENSION_PORTS                                                        \
    .kv_get = exj_run_kv_get, .kv_put = exj_run_kv_put, .kv_remove = exj_run_kv_remove, \
    .kv_add = exj_run_kv_add, .metric = exj_run_metric
/* keeper.c */
void *exj_run_keeper(void *engine);
/* retire.c */
void *exj_run_retirer(void *engine);
/* schedules.c */
void *exj_run_scheduler(void *engine);
/* engine.c */
/* What an answered operation means for the engine. OK: it was done (items have verdicts of their
 * own). PASSES: the store is shared and may be well again soon; nothing is known of what was
 * asked: ask again. FAILED: the engine claims no more until a restart (`failed`).
 * Any thread, without mu. `what` is for the log: "claims". */
enum store_said { STORE_OK, STORE_PASSES, STORE_FAILED };
enum store_said exj_run_store_said(exj_engine *e, const char *what, const exj_op *op);
/* A read that a one-shot command's end depends on failed (err not NULL), or was done; *times
 * (mu): how often in a row it failed. Where the store is ours alone that does not get well: after
 * some the engine is failed. Without mu. */
void exj_run_note_read(exj_engine *e, unsigned *times, const char *what, const exj_err *err);
/* Whether an error of the store is one that passes. */
bool exj_run_passes(const exj_engine *e, exj_code rc);
/* The next rest before a store is asked again: 50 ms, twice as long each time, 2 s at most. */
exj_nsec exj_run_longer_pause(exj_nsec pause);
/* Discovery shall look at configs and executors now. */
void exj_run_look_again_locked(exj_engine *e);
/* Wait on `c` until `until` (monotonic; 0: for ever). False when the time passed. */
bool exj_run_wait_locked(exj_engine *e, pthread_cond_t *c, exj_nsec until);

#endif /* EXJ_CORE_RUN_INSIDE_H */
