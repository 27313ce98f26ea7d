/* core/host/job.h - one call of the core's, from its CALL to its RESULT.
 *
 * A job is kept until nobody is in it any more: who runs it, the RESULT of a PENDING one, and
 * a cancel that comes meanwhile each hold it. Then it is used again with its buffers.
 *
 * Threads: see each field; the functions may be called from any.
 */
#ifndef EXJ_CORE_HOST_JOB_H
#define EXJ_CORE_HOST_JOB_H

#include "core/host/link.h"
#include "core/plugin/plugin.h"

/* A resolver's records are on their way while it makes the next ones: so many at most. A
 * refusal is told to one of the next emissions, or decides how the call ends. */
#define EXJ_EMITS_AHEAD 32u

typedef struct exj_job {
    struct exj_job *next; /* guarded by job.c's lock: of the open ones, or of the free ones */
    uint64_t call;        /* set before it is open, as all below */
    exj_call_slot *slot;  /* of answers up to: */
    size_t answer_max;
    exj_call_ports ports;
    exj_args args;
    exj_mem *mem, *model; /* owned; what args' texts lie in */
    int64_t begun;
    uint64_t deadline;    /* UINT64_MAX: none */
    atomic_int reason;    /* why it shall stop; 0: it shall not */
    atomic_uint refs;
    exj_ask emitted[EXJ_EMITS_AHEAD]; /* of a resolver, on their way; the oldest first at: */
    unsigned emitted_at, emitted_n;   /* one emission at a time: the door's lock guards them */
    exj_result refused;   /* how the core refused one of them; OK: none yet */
    bool answered;        /* guarded by the link's lock: RESULT has been said */
} exj_job;

/* An open job of `call` with an empty slot, held by the caller. Its reason is there already
 * when it was cancelled before. Ends the process when there is no memory. */
exj_job *exj_job_open(uint64_t call, size_t answer_max);
void exj_job_hold(exj_job *j);
void exj_job_drop(exj_job *j);
/* No cancel finds it any more. */
void exj_job_close(exj_job *j);
/* Tell an open job, or one that will be opened, why it shall stop. Gives the open one, held. */
exj_job *exj_job_cancel(uint64_t call, int reason);

/* What a plugin may ask in a call, as frames; `user` is the job. */
void exj_job_ports(exj_job *j, bool is_resolver);
/* Wait for the verdicts about what was emitted. Returns the first refusal, or EXJ_R_OK. */
exj_result exj_job_settle(exj_job *j);
/* For calls other than execute: cancelled() only. */
void exj_job_no_ports(exj_job *j);

#endif /* EXJ_CORE_HOST_JOB_H */
