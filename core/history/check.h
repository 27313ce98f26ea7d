/* core/history/check.h - do the promises hold in a history (event.h)?
 *
 * Feed every event of every process, in any order of files but each file from its first line
 * to its last, then finish. Nothing is decided from the order of lines: of two operations one
 * is before the other only when its end lies before the other's invoke, or when tokens or
 * entry numbers say so. What may be either way raises no finding.
 *
 * What is read how:
 * - An operation without an end, and one whose end is "info", may have happened at any time
 *   after its invoke (until its process was killed, where a FAULT says so), or never. One on
 *   many rows whose invoke names none may then have been about any row (a COMPLETE, RELEASE,
 *   RENEW: any that this incarnation may hold). Of an incarnation without a CORE "stop" the
 *   last operation whose ends it wrote may lack some of them, and counts as unknown too.
 * - Each token of a row ends once: by COMPLETE, RELEASE or REAP. COMPLETE ends it whatever
 *   `to` is; completed, failed, canceled and dropped are terminal, so is a REAP or RELEASE with
 *   such a `to`. Suspended and released claims are no attempts. "ok" for the same outcome and
 *   digest once more is the same completion, told again.
 * - RETRY and RERUN, "ok" or unknown, make an ended row live again: a new chain, attempts begin
 *   anew; a RERUN uses up a token. SIGNAL does so for blocked rows.
 * - REMOVE, "ok" or unknown, takes a row away.
 * - Rows with a smaller number than any that this history enqueued are older than it: what it
 *   cannot know of them (who enqueued them, their first tokens) is not asked.
 * - FINAL says what the store holds after the drain. Rows that are queued or running then are
 *   stuck when a QUIET came before; without a QUIET nobody said that there was a drain.
 * - I8 is asked of rows of graphs whose executors record effects, and of workers that record
 *   executions.
 * - EXECUTE must end before its generation is given back, and GENERATION "unmapped" must be
 *   written when no call is inside any more: an unmapping during an execution is a torn reload.
 * - I12 is held against workers in flight + rows a claim may take when SETTINGS says both (its
 *   driver then promises one priority, no delays, caps or rates); else it is only reported.
 * - I13 takes FAULT "kill" of the pid (`value`) that a CORE "start" gave; a row is recovered when
 *   its claim is reaped, or claimed anew. A process that was killed in between starts it anew.
 * - I15 is judged after QUIET, and while one worker at least is started.
 *
 * Beside I1..I16 (docs/history.md): I17 a finished step is what every later attempt sees (spec
 * 2.10.6), I18 a command runs once for its key, I19 a tick fires once.
 *
 * Time:    e.t, of one machine and one boot.
 * Memory:  texts are copied once; about 100 bytes an event beside them, until free.
 * Threads: no locks; one owner at a time.
 */
#ifndef EXJ_CORE_HISTORY_CHECK_H
#define EXJ_CORE_HISTORY_CHECK_H

#include "core/history/event.h"

#define EXJ_CHECK_LAST 19u /* invariants 1..EXJ_CHECK_LAST */

typedef struct exj_check exj_check;

typedef struct exj_check_options {
    exj_msec lease_ms;      /* 0: as SETTINGS says */
    exj_msec restart_ms;    /* I13: what a restart may take beyond two leases; 0: 10 s */
    uint32_t findings_most; /* kept of each invariant; 0: 20 */
} exj_check_options;

typedef enum exj_check_verdict {
    EXJ_CHECK_VALID,
    EXJ_CHECK_INVALID,
    EXJ_CHECK_UNKNOWN /* no finding, but nothing was completed, or no fault ever hit */
} exj_check_verdict;

typedef struct exj_check_finding {
    unsigned invariant;  /* 1.. */
    const char *anomaly; /* "lost", "double-accepted", …: a literal */
    int64_t row;         /* 0: of no row */
    const char *text;    /* what happened, with tokens, times and ids of the lines; the check's */
} exj_check_finding;

typedef struct exj_check_line { /* of one invariant */
    const char *title;
    uint64_t findings;      /* all of them, printed or not */
    uint64_t tried;         /* how often it was put to the test */
    const char *not_tested; /* what never occurred; NULL: it was tested. A literal */
} exj_check_line;

typedef struct exj_check_counts {
    uint64_t events;      /* given to exj_check_add */
    uint64_t rows;        /* enqueued, or otherwise met */
    uint64_t older;       /* of these: older than the history */
    uint64_t finals;      /* rows in the final store */
    uint64_t enqueued, claims, renewals, completes, completed; /* ok; completed: to that */
    uint64_t steps;       /* ok */
    uint64_t refusals;    /* of stale writes: code "fenced" */
    uint64_t expiries;    /* REAP of a claim */
    uint64_t releases, retries, reruns, cancels, removed;
    uint64_t replays;     /* steps that a later attempt found finished and did not run again */
    uint64_t unknown;     /* operations of unknown outcome */
    uint64_t unpaired;    /* ends without an invoke */
    uint64_t effects, executions, reloads; /* reloads: generations that gave way */
    uint64_t kills, stops, other_faults;   /* FAULT */
    uint64_t cores, crashed_cores, host_crashes; /* CORE start; without a stop */
    uint64_t entries, readers;             /* of the event stream */
} exj_check_counts;

typedef struct exj_check_spread { /* of a measure; p99 of nothing is 0 */
    uint64_t n, p50, p99, max;
} exj_check_spread;

typedef struct exj_check_report {
    exj_check_verdict verdict;
    exj_check_counts counts;
    exj_check_line lines[EXJ_CHECK_LAST + 1]; /* [0] is not used */
    const exj_check_finding *findings;        /* by invariant, then row; the check's */
    size_t findings_len;
    exj_msec lease_ms;                        /* 0: not known */
    exj_check_spread overtaken;               /* I12: rows that came later and began before */
    exj_check_spread recovery_us;             /* I13: kill to its claim taken back */
    exj_check_spread reclaim_us;              /* I13: kill to the next claim of the row */
} exj_check_report;

/* `o` NULL: all defaults. NULL: no memory. */
exj_check *exj_check_new(const exj_check_options *o);
void exj_check_free(exj_check *c);
/* The event's texts are copied. Errors: EXJ_NOMEM (the check can only be freed then). */
exj_code exj_check_add(exj_check *c, const exj_hist_event *e, exj_err *err);
/* Once, after the last event. *ret borrows from the check. Errors: EXJ_NOMEM. */
exj_code exj_check_finish(exj_check *c, exj_check_report *ret, exj_err *err);

const char *exj_check_verdict_word(exj_check_verdict v); /* "valid", …; never NULL */

#endif /* EXJ_CORE_HISTORY_CHECK_H */
