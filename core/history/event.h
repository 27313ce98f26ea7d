/* core/history/event.h - a history: what each process asked for, did and was told, line by
 * line, so that a checker (check.h) can say afterwards whether the promises held.
 *
 * A line is a JSON object; docs/history.md has the table of members. An operation is two
 * lines with the same `id`: "invoke", written before it may have any effect, and its end:
 * "ok", "fail" (certainly no effect) or "info" (nobody knows). An end that is missing, since
 * its process was killed, is the same as "info". An operation on many rows has one invoke
 * and an end for each row that was named or given.
 *
 * Nothing follows from the order of lines: a process may stop between its act and its line.
 * Order comes from tokens and entry numbers; `t` bounds an operation from outside: what it
 * did, it did between invoke and end.
 *
 * Threads: functions only; no state.
 */
#ifndef EXJ_CORE_HISTORY_EVENT_H
#define EXJ_CORE_HISTORY_EVENT_H

#include "core/base/err.h"
#include "core/base/str.h"
#include "core/base/types.h"

typedef enum exj_hist_op {
    /* written by the store's recorder (recorded_store.h): each is an operation of the store */
    EXJ_HIST_ENQUEUE,  /* ok: row, job, outcome "new" or "existing"; value: max attempts */
    EXJ_HIST_CLAIM,    /* ok: row, token, attempt; without row: nothing was granted */
    EXJ_HIST_RENEW,    /* row; ok, or fail: code "fenced" */
    EXJ_HIST_STEP,     /* a step's result; row, token, key, digest; code "conflict": the first
                          writer's stands */
    EXJ_HIST_WRITE,    /* progress, begin of a step, a key's value; row, token, key: which */
    EXJ_HIST_COMPLETE, /* an outcome: row, token, digest of the result, outcome: the event
                          ("succeed", "fail_retry", "fail_dead", "block", "suspend",
                          "cancel"); ok: to, the status that the row has now */
    EXJ_HIST_RELEASE,  /* row, token */
    EXJ_HIST_REAP,     /* ok: row, token (the one that is over), to */
    EXJ_HIST_RETRY,    /* an operator's; row */
    EXJ_HIST_RERUN,    /* row; key: from which step */
    EXJ_HIST_CANCEL,   /* row; ok: to "canceled", or "running": its holder was asked */
    EXJ_HIST_SIGNAL,   /* row; key: its name; ok: to */
    EXJ_HIST_REMOVE,   /* retention; row */
    EXJ_HIST_TICK,     /* of a schedule; key: its id; value: the tick, ms since 1970 */
    EXJ_HIST_COMMAND,  /* with an idempotency key; key; outcome "taken", "replayed" */
    /* written by the engine */
    EXJ_HIST_EXECUTE,  /* of an attempt: row, token, generation; ends "ok" when the plugin
                          answered, "fail" when its host died or it was given up */
    EXJ_HIST_GENERATION, /* generation, key: plugin; outcome "ready" (from here on it may be
                          called), "draining", "unmapped" (from here on it may not) */
    EXJ_HIST_CORE,     /* outcome "start" or "stop": of an incarnation; value: its pid */
    EXJ_HIST_HOST,     /* a plugin host: outcome "start", "exit", "crash"; value: its pid */
    /* written by executors of tests: beside the system, what really happened */
    EXJ_HIST_EFFECT,   /* invoke: it begins; ok: it is done; job, token, attempt */
    /* written by readers of the event stream, one line an event */
    EXJ_HIST_EVENT,    /* row, token, value: its number, key: its kind; outcome "gap": what is
                          missing was said to be missing, up to `value` */
    /* written by who drives a test */
    EXJ_HIST_FAULT,    /* outcome "kill", "stop", "continue", "full", "io", "clock",
                          "reload", "cut"; value: pid; key: of what */
    EXJ_HIST_QUIET,    /* from here on no faults */
    EXJ_HIST_SETTINGS, /* value: lease in ms; attempt: workers; token: rows a claim may take;
                          key: the only "matrix|run|graph" that is ordered; none: all */
    EXJ_HIST_FINAL,    /* a row as the store has it after the drain: row, job, to, token,
                          attempt, value: max attempts, digest of the result */
    EXJ_HIST_OP_COUNT
} exj_hist_op;

typedef enum exj_hist_phase {
    EXJ_HIST_INVOKE, EXJ_HIST_OK, EXJ_HIST_FAIL, EXJ_HIST_INFO, EXJ_HIST_PHASE_COUNT
} exj_hist_phase;

#define EXJ_HIST_LINE_MAX 4096u /* bytes with the newline: one write(2) is one line */
/* Bytes of one text as it is written, escapes included. Longer ones are clipped at a whole
 * character, a text always in the same place. Bytes that are not UTF-8 become U+FFFD. */
#define EXJ_HIST_TEXT_MAX 600u   /* key */
#define EXJ_HIST_JOB_MAX 2048u   /* job */
#define EXJ_HIST_WORKER_MAX 200u /* worker */
#define EXJ_HIST_WORD_MAX 64u    /* actor, outcome, to, code, digest */

typedef struct exj_hist_event {
    exj_nsec t;            /* CLOCK_MONOTONIC: one machine, one boot */
    exj_slice actor;       /* "worker", "host", "executor", "driver", a reader's name */
    uint64_t incarnation;  /* random, one for each start of a process; hexadecimal in a line */
    exj_hist_op op;
    exj_hist_phase phase;
    uint64_t id;           /* pairs invoke and ends, within an incarnation; 0: none; 63 bits */
    int64_t row;           /* the store's seq; 0: unknown; never negative, as the next */
    int64_t token;         /* 0: none */
    uint32_t attempt;      /* 0: none */
    int64_t value;         /* by op; 0: none */
    uint64_t generation;   /* of a plugin, within an incarnation; 0: none */
    exj_slice job;         /* "matrix|run|graph|record"; empty: none, as below */
    exj_slice worker;      /* holder of the claim */
    exj_slice outcome, to, code, key;
    exj_slice digest;      /* sha256 in hex, its first 16 digits, of a result or step */
} exj_hist_event;

const char *exj_hist_op_word(exj_hist_op op);          /* "enqueue", …; never NULL */
const char *exj_hist_phase_word(exj_hist_phase phase); /* "invoke", …; never NULL */

/* Append the event's line with its newline to `b`; members that are 0 or empty are left out.
 * False: no memory (b->failed). Allocates nothing when `b` has EXJ_HIST_LINE_MAX free. */
bool exj_hist_format(exj_buf *b, const exj_hist_event *e);

/* A line without its newline. Texts of *ret point into `texts`, which the caller keeps as long as
 * he needs them. Members that are not known are ignored, so that others may add their own.
 * t, actor, incarnation, op and phase must be there. Allocates nothing; *ret is set on success
 * only. Errors: EXJ_INVALID (the text says which member). */
exj_code exj_hist_parse(exj_slice line, exj_hist_event *ret, char texts[EXJ_HIST_LINE_MAX],
                        exj_err *err);

/* A process that is killed inside write(2), and a disk that is full, may leave the head of a
 * line, and the next line of another process stands right behind it. Of a line that could not
 * be read: the whole one at its end; empty when there is none. */
exj_slice exj_hist_behind_torn(exj_slice line);
/* Does it begin as a line does, and is no whole one? */
bool exj_hist_is_torn(exj_slice line);

/* What `digest` says of a result or of a step: the first 16 digits of its SHA-256, and a NUL. */
#define EXJ_HIST_DIGEST_BYTES 17
void exj_hist_digest(exj_slice of, char ret[EXJ_HIST_DIGEST_BYTES]);

#endif /* EXJ_CORE_HISTORY_EVENT_H */
