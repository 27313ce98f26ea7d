/* core/job/outcome.h - what an executor may answer (spec 1.4), judged without allocation. */
#ifndef EXJ_CORE_JOB_OUTCOME_H
#define EXJ_CORE_JOB_OUTCOME_H

#include "core/base/err.h"
#include "core/job/state.h"

typedef enum exj_answer {
    EXJ_ANSWER_COMPLETED, EXJ_ANSWER_FAILED, EXJ_ANSWER_BLOCKED, EXJ_ANSWER_SUSPENDED
} exj_answer;

#define EXJ_ANSWER_MAX_BYTES (8u * 1024u * 1024u)

/* Check one answer of an executor: an object with `status` (one of the four words);
 * optional jobId, taskId, graphId (strings or null), outputsByNodeId (object), stepsResponses
 * (array), engineSnapshot (object or null), error (object or null: code, message strings),
 * metrics (object). Other members: refused by name. `ret_error_*`: still-quoted JSON
 * strings inside the text, or empty.
 * Errors: EXJ_INVALID naming the member, wanted and found. */
exj_code exj_answer_check(exj_slice text, exj_answer *ret, exj_slice *ret_error_code,
                          exj_slice *ret_error_message, exj_err *err);

#endif /* EXJ_CORE_JOB_OUTCOME_H */
