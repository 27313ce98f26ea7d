/* core/history/check_inside.h - what the files of the checker share; nobody else includes it.
 *
 * An operation is one record: its invoke and its end together, one for each row. Records of a
 * row are looked at together (check_rows.c, check_claims.c), then what goes across rows
 * (check_world.c, check_stream.c).
 *
 * Threads: none.
 */
#ifndef EXJ_CORE_HISTORY_CHECK_INSIDE_H
#define EXJ_CORE_HISTORY_CHECK_INSIDE_H

#include "core/history/check.h"

#define CHECK_NEVER INT64_MAX /* t1: nobody knows; what it did it may do later */
#define CHECK_EVER INT64_MIN  /* t0: its invoke is not there */
#define CHECK_NONE UINT32_MAX

enum check_to { TO_NONE, TO_QUEUED, TO_WAITING, TO_RUNNING, TO_COMPLETED, TO_FAILED, TO_BLOCKED,
                TO_SUSPENDED, TO_CANCELED, TO_DROPPED, TO_OTHER };

enum check_word { /* of `outcome` */
    W_NONE, W_NEW, W_EXISTING, W_SUCCEED, W_FAIL_RETRY, W_FAIL_DEAD, W_BLOCK, W_SUSPEND, W_CANCEL,
    W_TAKEN, W_REPLAYED, W_READY, W_DRAINING, W_UNMAPPED, W_START, W_STOP, W_EXIT, W_CRASH, W_GAP,
    W_KILL, W_RESTORED, W_KEPT, W_KEY_DROPPED, W_OTHER };

enum check_code { C_NONE, C_FENCED, C_CONFLICT, C_OTHER };

typedef struct check_rec {
    exj_nsec t0, t1;       /* outer bounds of what it did */
    int64_t row, token, value;
    uint64_t digest, generation, id;
    uint32_t row_at;       /* index of its row; CHECK_NONE: of none */
    uint32_t attempt, inc; /* inc: index */
    uint32_t job, key;     /* texts; 0: none */
    uint8_t op, phase;     /* INVOKE: no end came */
    uint8_t to, outcome, code;
    bool many;             /* its invoke named no row: it may have been about several */
    bool ended;            /* the first end has taken this record */
} check_rec;

typedef struct check_inc {
    uint64_t number;
    uint32_t actor;        /* text */
    bool started, stopped; /* CORE */
    bool executes;         /* tells of its executions: what it completes, it executed */
    exj_nsec started_at, stopped_at, killed_at; /* CHECK_NEVER: not */
    int64_t pid;           /* 0: not told */
    check_rec *last;       /* the last operation of which it wrote an end */
    exj_nsec last_t;       /* of its newest line */
    exj_nsec wild0[EXJ_HIST_OP_COUNT]; /* unknown operations on any row: from the earliest invoke */
    exj_nsec wild1[EXJ_HIST_OP_COUNT]; /* to the latest end */
} check_inc;

typedef struct check_wild { /* unknown operations on any row; each list ascends */
    exj_nsec *t0, *t1;
    size_t len, cap;
} check_wild;

typedef struct check_row {
    int64_t seq;
    uint32_t job;          /* text; 0: not told */
    size_t first, n;       /* in exj_check.by_row */
    bool older, removed;   /* removed: perhaps */
    bool final;
} check_row;

typedef struct check_entry { /* of the event stream, as one reader saw it */
    int64_t number, row, token;
    exj_nsec t;
    uint32_t reader, kind; /* texts */
    uint32_t nth;          /* in the order of adding */
    bool gap;
} check_entry;

typedef struct check_table { /* open addressing; indices + 1 */
    uint32_t *slots;
    size_t cap, len;
} check_table;

typedef struct check_texts {
    exj_slice *at;         /* [0]: the empty text */
    uint32_t len;
    size_t cap;
    check_table table;
    char *room;            /* of the newest block; blocks are linked by their first pointer */
    size_t room_left;
    void *blocks;
} check_texts;

struct exj_check {
    exj_check_options o;
    check_texts texts;
    check_rec **chunks;
    size_t chunks_cap, recs_len;
    check_table pending;   /* (inc, id) to record */
    check_inc *incs;
    uint32_t incs_len;
    size_t incs_cap;
    check_table incs_table;
    check_row *rows;
    uint32_t rows_len;
    size_t rows_cap;
    check_table rows_table;
    check_entry *entries;
    size_t entries_len, entries_cap;
    exj_nsec last_t;       /* of any line */
    /* from finish on: */
    check_rec **by_row;    /* records of rows, row after row */
    uint32_t *row_of_job;  /* by text; CHECK_NONE */
    bool *graph_has_effect; /* by text: of a job without its record; */
    uint32_t *graph_of_job; /* by text */
    check_wild wild[EXJ_HIST_OP_COUNT]; /* of all incarnations */
    exj_nsec quiet;        /* CHECK_NEVER: no QUIET */
    exj_nsec final_t;      /* of the newest FINAL; CHECK_EVER: none */
    int64_t first_new;     /* smallest row that was enqueued; INT64_MAX: none */
    exj_nsec lease;        /* 0: not known */
    uint64_t in_flight;    /* I12: workers + rows of a claim; 0: not known */
    uint32_t ordered;      /* text: I12 is asked of this pool alone; 0: of all */
    check_rec **work;      /* room for the records of the row that is looked at */
    size_t work_cap;
    struct check_across *across; /* check_world.c: what rows left for it */
    exj_check_finding *findings;
    size_t findings_len, findings_cap;
    uint32_t kept[EXJ_CHECK_LAST + 1];
    exj_check_report report;
    exj_buf text;
    bool failed;           /* no memory */
};

/* ---- check.c ---------------------------------------------------------------------- */

uint64_t exj_check_hash(const void *p, size_t n);
/* The slot that `hash` and the test find, or the empty one it belongs in; NULL: no memory. */
uint32_t *exj_check_slot(check_table *t, uint64_t hash,
                         bool (*same)(const void *user, uint32_t index, const void *key),
                         const void *user, const void *key,
                         uint64_t (*hash_of)(const void *user, uint32_t index));
/* Room for one more in a list of elements of `each` bytes, which doubles; false: no memory. */
bool exj_check_room(void **list, size_t len, size_t *cap, size_t each);
exj_slice exj_check_text(const exj_check *c, uint32_t id);
uint32_t exj_check_intern(exj_check *c, exj_slice s); /* CHECK_NONE: no memory */
/* Index of the row with this number, made where there is none; CHECK_NONE: no memory. */
uint32_t exj_check_row_at(exj_check *c, int64_t seq);
static inline check_rec *check_at(const exj_check *c, size_t i)
{
    return &c->chunks[i >> 14][i & 16383];
}

/* ---- check_report.c --------------------------------------------------------------- */

/* A finding; up to two records are told with their times and ids. */
void exj_check_broken(exj_check *c, unsigned invariant, const char *anomaly, const check_row *r,
                      const check_rec *a, const check_rec *b, const char *format, ...)
    __attribute__((format(printf, 7, 8)));
const char *exj_check_to_word(unsigned to);
/* How many operations of unknown outcome on any row may have happened from `low` to `high`. */
uint64_t exj_check_wild(const exj_check *c, unsigned op, exj_nsec low, exj_nsec high);
void exj_check_spread_of(uint64_t *values, size_t n, exj_check_spread *ret); /* sorts */
static inline void check_try(exj_check *c, unsigned invariant)
{
    c->report.lines[invariant].tried++;
}

/* ---- times ------------------------------------------------------------------------ */

/* Instants that are the same say nothing: a simulated clock stands while much happens. */
static inline bool check_before(const check_rec *a, const check_rec *b)
{
    return a->t1 < b->t0;
}
static inline bool check_unknown(const check_rec *r)
{
    return r->phase == EXJ_HIST_INVOKE || r->phase == EXJ_HIST_INFO;
}
static inline bool check_maybe(const check_rec *r) /* it happened, or it may have */
{
    return r->phase != EXJ_HIST_FAIL;
}
static inline bool check_terminal(unsigned to)
{
    return to == TO_COMPLETED || to == TO_FAILED || to == TO_CANCELED || to == TO_DROPPED;
}
static inline bool check_ends(unsigned op)
{
    return op == EXJ_HIST_COMPLETE || op == EXJ_HIST_RELEASE || op == EXJ_HIST_REAP;
}

/* ---- one row ---------------------------------------------------------------------- */

typedef struct check_token {
    int64_t token;
    size_t first, n;      /* in check_life.recs */
    check_rec *claim;     /* granted; NULL: not known */
    check_rec *end;       /* the first "ok" that ended it; NULL */
} check_token;

typedef struct check_life {
    exj_check *c;
    check_row *row;
    check_rec **recs;     /* by token, then t0; those of orders (RETRY, …) and ends come first */
    size_t n, orders;     /* so many of the first are orders: token counts as 0 */
    check_token *tokens;  /* ascending; room is kept from row to row */
    size_t tokens_len, tokens_cap;
    check_rec *enqueue;   /* the first that is ok; NULL */
    check_rec *final;     /* the newest; NULL */
    uint32_t max_attempts; /* 0: not told */
} check_life;

bool exj_check_is_order(unsigned op);
/* May an operator have made the row live again between the two? */
bool exj_check_revived(const check_life *l, const check_rec *after, const check_rec *before,
                       bool with_signal);
/* May the claim have ended by an operation of unknown outcome that began before `before`? */
bool exj_check_may_have_ended(const check_life *l, const check_token *k, exj_nsec before);
/* The same completion told again? */
bool exj_check_same_outcome(const check_rec *a, const check_rec *b);

void exj_check_rows(exj_check *c);              /* check_rows.c: all of one row */
void exj_check_claims(const check_life *l);     /* check_claims.c: I6 I7 I10 I11 */
void exj_check_work(const check_life *l);       /* check_work.c: I8 I9 I17 */
/* check_world.c: I12..I15, I18, I19. Each row first leaves what is asked across rows. */
bool exj_check_across(const check_life *l);     /* false: no memory */
void exj_check_world(exj_check *c);
void exj_check_across_free(exj_check *c);
void exj_check_stream(exj_check *c);            /* check_stream.c: I16 */

#endif /* EXJ_CORE_HISTORY_CHECK_INSIDE_H */
