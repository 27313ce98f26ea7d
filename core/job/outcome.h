/* core/job/outcome.h - what an executor may answer (spec 1.4), judged without allocation. */
#ifndef EXJ_CORE_JOB_OUTCOME_H
#define EXJ_CORE_JOB_OUTCOME_H

#include "core/base/err.h"
#include "core/job/state.h"

typedef enum exj_answer {
    EXJ_ANSWER_COMPLETED, EXJ_ANSWER_FAILED, EXJ_ANSWER_BLOCKED, EXJ_ANSWER_SUSPENDED
} exj_answer;

#define EXJ_ANSWER_MAX_BYTES (8u * 1024u * 1024u)
#define EXJ_SIGNAL_NAME_BYTES 255u
#define EXJ_WAIT_MAX_MS (100 * (exj_msec)366 * 86400000) /* a hundred years */

/* What a suspended row waits for: a time, a signal (for so long), or the next poll; and which
 * signal alone releases a blocked one. */
typedef struct exj_answer_wait {
    bool has_resume_at, has_signal, has_timeout, has_poll;
    exj_msec resume_at;  /* wall clock */
    exj_slice signal;    /* still-quoted JSON string inside the text */
    exj_msec timeout_ms; /* of the signal */
    exj_msec poll_ms;
} exj_answer_wait;

/* Check one answer of an executor: an object with `status` (one of the four words);
 * optional jobId, taskId, graphId (strings or null), outputsByNodeId (object), stepsResponses
 * (array), engineSnapshot (object or null), error (object or null: code, message strings),
 * metrics (object). With "suspended" exactly one of resumeAt (milliseconds since 1970, or a
 * text like 2026-01-31T04:05:06Z), signal (1..255 bytes; timeoutSeconds may say how long) and
 * pollAfter (seconds); with "blocked" signal alone, if wanted. Other members: refused by name.
 * `ret_error_*`: still-quoted JSON strings inside the text, or empty.
 * Errors: EXJ_INVALID naming the member, wanted and found. */
exj_code exj_answer_check(exj_slice text, exj_answer *ret, exj_slice *ret_error_code,
                          exj_slice *ret_error_message, exj_answer_wait *ret_wait,
                          exj_err *err); /* each ret but the first may be NULL */

#endif /* EXJ_CORE_JOB_OUTCOME_H */
