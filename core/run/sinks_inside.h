/* core/run/sinks_inside.h - what sinks.c, sinks_batch.c and sinks_config.c share. */
#ifndef EXJ_CORE_RUN_SINKS_INSIDE_H
#define EXJ_CORE_RUN_SINKS_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/job/retry.h"
#include "core/run/sinks.h"

#define EXJ_HELD_MOST 2000u
#define EXJ_SINK_RESULT_MAX 65536u /* bytes of a result inside an event */
#define EXJ_SEQ_SLOTS 8192u /* more than twice what may be in it */

struct held {
    int64_t number, seq;
    uint32_t tries;
    exj_msec at;
    char *body; /* owned */
    size_t body_n;
};

enum fate { DELIVERED, FAILED, AGAIN };

struct event { /* of the batch that is made now */
    int64_t number, seq;
    uint32_t tries;
    size_t body_at, body_n; /* in runtime */
    bool was_held;
    enum fate fate;
    exj_msec retry_after; /* 0: not said */
    char error[240];
};

/* A new event that is held because its row is. */
struct behind {
    int64_t number, seq;
    size_t body_at, body_n; /* in bodies */
};

/* What is known of rows while a batch is made: a small hash table. */
struct rows {
    int64_t seq[EXJ_SEQ_SLOTS]; /* 0: free */
    bool blocked[EXJ_SEQ_SLOTS];
    size_t len;
};

struct sink {
    exj_sinks *all;
    /* set by open, then read-only */
    char *name, *plugin, *config; /* owned */
    exj_lane lane;
    exj_retry_policy retry;
    bool from_now;
    bool results; /* events of completed rows carry their results */

    /* its own thread only */
    pthread_t thread;
    bool runs, placed, loaded; /* position known; held read */
    exj_guest *guest;
    exj_instance *instance;
    int64_t position;
    struct held *held; /* owned; by number */
    size_t held_len, held_cap;
    bool dead_full;    /* it has as many dead letters as it may; that is said once */
    bool held_came;    /* the last batch was of held ones: now new ones come first */
    size_t width;      /* events a batch may have now */
    uint32_t failures; /* turns that delivered nothing, of different rows */
    int64_t failed_seq;
    exj_msec rests_until;
    struct event events[EXJ_SINK_EVENTS];
    size_t events_len;
    struct behind *behind; /* owned */
    size_t behind_len, behind_cap;
    int64_t read_to; /* of this batch */
    exj_buf runtime, bodies;
    struct rows rows;

    /* set once by its thread, read by whoever stops it */
    _Atomic(exj_call_slot *) slot;
    atomic_bool calling;

    /* guarded by mu */
    pthread_mutex_t mu;
    pthread_cond_t news;
    bool woken, reread, stopping, ended;
    uint64_t delivered, failed, dead;
    uint64_t held_shown;
    int64_t position_shown;
    char error[300]; /* of now; empty: none */
};

struct exj_sinks {
    exj_store *store;
    exj_registry *plugins;
    exj_news *told; /* NULL: not started */
    exj_news_ear ear;
    struct sink *sinks; /* owned */
    size_t len;
};

/* sinks_config.c */
exj_code exj_sinks_read(exj_sinks *s, exj_slice config, exj_err *err);
void exj_sinks_release(exj_sinks *s);

/* sinks_batch.c: [its thread] */
/* Read position and held events from the store. */
exj_code exj_sink_load(struct sink *s, exj_err *err);
/* Make the next batch; events_len or behind_len may be 0. */
exj_code exj_sink_gather(struct sink *s, exj_msec now, exj_err *err);
/* Fate of each event from what the plugin said. EXJ_INVALID: it said nonsense. */
exj_code exj_sink_judge(struct sink *s, exj_slice answer, exj_err *err);
/* Events behind a failed one of their row come again. */
void exj_sink_hold_rows(struct sink *s);
/* Into the store. *ret_dead: how many are dead letters now. */
exj_code exj_sink_save(struct sink *s, exj_msec now, uint64_t *ret_dead, exj_err *err);
/* When the next held event is due; 0: none is. */
exj_msec exj_sink_next_due(struct sink *s);

#endif /* EXJ_CORE_RUN_SINKS_INSIDE_H */
