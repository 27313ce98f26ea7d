/* core/job/journal.h - what happened to a row, entry by entry (spec 2.3, 2.7).
 *
 * One list of entries is a row's journal and, over all rows, the event stream: each entry
 * has a number, and numbers grow in the order of commits over the whole store. The row is a
 * view of its entries; exj_journal_apply builds that view again, for `journal verify`.
 *
 * Not entries, because no operator can see them: promote, park, unpark (all "queued"), and
 * renewals.
 *
 * Threads: functions only; no state.
 */
#ifndef EXJ_CORE_JOB_JOURNAL_H
#define EXJ_CORE_JOB_JOURNAL_H

#include "core/job/state.h"

/* The numbers are stored; they never change meaning. */
typedef enum exj_entry_kind {
    EXJ_ENTRY_QUEUED = 0,        /* inserted, claimable at once */
    EXJ_ENTRY_SCHEDULED = 1,     /* inserted, not before `value` */
    EXJ_ENTRY_CLAIMED = 2,       /* value: the holder's number */
    EXJ_ENTRY_COMPLETED = 3,
    EXJ_ENTRY_RETRYING = 4,      /* failed with attempts left, not before `value`; key: code */
    EXJ_ENTRY_FAILED = 5,        /* dead; key: code, text: message */
    EXJ_ENTRY_BLOCKED = 6,       /* key: code, text: message */
    EXJ_ENTRY_SUSPENDED = 7,     /* value: resumeAt or the signal's timeout, 0 none; key: signal */
    EXJ_ENTRY_RESUMED = 8,       /* key: signal; text: "time", "signal", "timeout", "poll" */
    EXJ_ENTRY_RELEASED = 9,      /* given back unstarted: the attempt does not count */
    EXJ_ENTRY_LEASE_EXPIRED = 10,
    EXJ_ENTRY_LEASE_EXPIRED_DEAD = 11,
    EXJ_ENTRY_RETRIED = 12,      /* by an operator: attempts begin anew */
    EXJ_ENTRY_RERUN = 13,        /* by an operator; key: from which step, empty: from the start */
    EXJ_ENTRY_CANCEL_ASKED = 14, /* of a running row; text: why */
    EXJ_ENTRY_CANCELED = 15,     /* text: why */
    EXJ_ENTRY_DROPPED = 16,      /* by the overflow policy; text: which */
    EXJ_ENTRY_UNBLOCKED = 17,    /* by a signal; key: its name */
    EXJ_ENTRY_STEP_BEGUN = 18,   /* key: step. Without its STEP: nobody knows whether it ran */
    EXJ_ENTRY_STEP = 19,         /* key: step, value: bytes of its result */
    EXJ_ENTRY_PROGRESS = 20,     /* value: millionths, -1 unknown; text: note */
    EXJ_ENTRY_SIGNAL = 21,       /* arrived; key: name, value: bytes of its payload */
    EXJ_ENTRY_CRASHED = 22,      /* its plugin host died; what became of the row follows */
    EXJ_ENTRY_COUNT = 23
} exj_entry_kind;

/* The value of these is a digest, of the row's input or of its result (0: none was taken): by it
 * the store tells damage. Nobody is shown it. */
static inline bool exj_entry_has_digest(exj_entry_kind k)
{
    return k == EXJ_ENTRY_QUEUED || k == EXJ_ENTRY_COMPLETED || k == EXJ_ENTRY_FAILED ||
           k == EXJ_ENTRY_BLOCKED || k == EXJ_ENTRY_CANCELED;
}

#define EXJ_ENTRY_KEY_MAX 512u  /* bytes; longer ones are clipped, at a whole character */
#define EXJ_ENTRY_TEXT_MAX 512u

typedef struct exj_journal_entry {
    exj_entry_kind kind;
    int64_t number;   /* 1.. over the whole store */
    int64_t previous; /* of the same row's entry before; 0: none */
    exj_msec at;
    int64_t seq;      /* the row */
    int64_t token;
    uint32_t attempt;
    int64_t value;
    exj_slice key, text;
} exj_journal_entry;

/* "queued", "scheduled", "claimed", "step", "lease_expired", … "unknown". Never NULL. */
const char *exj_entry_word(exj_entry_kind k);
/* From a word. Errors: EXJ_INVALID listing the words. */
exj_code exj_entry_parse(exj_slice word, exj_entry_kind *ret, exj_err *err);
/* Is it a move, and by which event of the table? False: the row stays as it is. */
bool exj_entry_event(exj_entry_kind k, exj_event *ret);
/* The entry that tells of this move. False: the move is invisible (promote, park, unpark). */
bool exj_entry_of(exj_event e, exj_entry_kind *ret);

/* A row as its entries tell it. QUEUED also stands for WAITING and PARKED. */
typedef struct exj_journal_view {
    bool known; /* it was inserted */
    exj_status status;
    uint32_t attempts;
    int64_t token, last; /* of the newest claim; number of the newest entry */
} exj_journal_view;

/* Let the row's next entry act on `v` (zeroed before the first). Errors: EXJ_CORRUPT, the
 * text says what does not fit: no such move from there, a token that did not grow, an
 * attempt out of order, an entry whose `previous` is not the one before. */
exj_code exj_journal_apply(exj_journal_view *v, const exj_journal_entry *e, exj_err *err);

#endif /* EXJ_CORE_JOB_JOURNAL_H */
