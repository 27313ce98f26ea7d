/* tests/chaos/chaos.h - everything at once, with every fault, and a verdict (README.md).
 *
 * Threads: main makes faults and keeps the worker running; clients give orders over HTTP; a
 * reader follows the stream of events. What they share is in struct chaos.
 */
#ifndef EXJ_TESTS_CHAOS_H
#define EXJ_TESTS_CHAOS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/history/recorder.h"
#include "tests/support/support.h"

#define CLIENTS_MOST 8
#define ROWS_MOST 400000
#define OPEN_MOST 400 /* rows that have not ended: else the end takes longer than the faults */

enum fault {
    F_KILL, F_STOP, F_KILL_HOST, F_STOP_HOST, F_RELOAD, F_CLOCK, F_FULL, F_IO, F_PAUSE, F_COUNT
};
extern const char *const fault_words[F_COUNT];

/* What was answered about a row; by its client, read in the end. */
struct row {
    char matrix;   /* "n", "f" or "o" */
    bool there;    /* it was answered that it is inserted */
    bool canceled; /* it was answered that it is canceled, and nobody ordered anything since */
    bool ordered;  /* a cancel, retry or rerun was answered, or may have happened */
};

struct client {
    struct chaos *c;
    pthread_t thread;
    uint64_t seed;
    unsigned number;
    struct row *rows; /* owned; "c<number>-<k>" */
    unsigned rows_len, rows_most;
    uint64_t commands, replays, refused;
    char wrong[300]; /* an answer that must not be; empty: none */
};

struct chaos {
    uint64_t seed;
    exj_daemon d;
    exj_recorder *history;
    char history_path[300], sink_path[300], plugins[300];
    volatile int64_t *clock, *disk; /* control words of the preloaded libraries; disk[1]: how many
                                     * calls failed */
    int64_t clock_at;
    struct client clients[CLIENTS_MOST];
    unsigned clients_len;
    pthread_t reader;
    _Atomic bool orders_over; /* clients end */
    _Atomic bool over;        /* the reader reads to the end, then ends */
    _Atomic int64_t read_to;
    _Atomic uint64_t rows, ended; /* ended: as the reader was told, and not back since */
    bool *has_ended[CLIENTS_MOST]; /* reader; by row; owned */
    char reader_wrong[300];
    unsigned faults[F_COUNT], deaths, starts; /* deaths: that no fault of ours explains by itself */
    unsigned version;                         /* how often a plugin was replaced */
    int stopped[64];                          /* pidfds of hosts that were stopped, in turn */
    unsigned stopped_len;
};

/* main.c */
uint64_t chaos_any(uint64_t *seed, uint64_t n); /* 0..n-1 */
/* A line of the driver's. */
void chaos_tell(struct chaos *c, exj_hist_op op, const char *outcome, const char *key, int64_t value);

/* world.c: folders, files, configs */
void chaos_prepare(struct chaos *c);
void chaos_configure(struct chaos *c); /* graphs, matrices, the schedule; the worker runs */
/* `id`: "near" or "far". */
void chaos_put_plugin(struct chaos *c, const char *id, unsigned version);
/* A content that crashed too often runs again, as an operator would have it. */
void chaos_release_plugin(struct chaos *c);

/* faults.c */
void chaos_fault(struct chaos *c, enum fault f);
void chaos_calm(struct chaos *c); /* no fault is in effect any more */
/* Start the worker if it does not run. False: it cannot be started. */
bool chaos_keep_running(struct chaos *c);

/* client.c */
void *chaos_client(void *client);
void *chaos_reader(void *chaos);
/* Of a member; "" where it is no text. */
const char *chaos_text(const json_t *o, const char *key);
/* Send until it is answered; the status. *ret: the body or NULL, a new reference. */
int chaos_ask(struct client *l, const char *method, const char *path, const char *body, json_t **ret);

/* end.c: the store comes to rest, and is judged. The number of things that are wrong. False: no row
 * more came to its end in `ms`. */
bool chaos_drain(struct chaos *c, unsigned ms);
unsigned chaos_judge(struct chaos *c);

#endif /* EXJ_TESTS_CHAOS_H */
