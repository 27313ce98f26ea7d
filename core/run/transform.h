/* core/run/transform.h - jq over a query's result, in a program of its own
 * (exellix-jobs-transform; docs/snapshots.md).
 *
 * jq cannot be interrupted and has no limits, so it never runs in this process: it gets a
 * process in the cage of a sandboxed plugin (core/host/cage.h), with as much memory and time as
 * the options say, and is killed at the limits. What it writes is bounded and judged here.
 *
 * WHAT JQ SEES. The input is a stream of JSON values. As in jq on the command line the program
 * runs once for each of them; `input` and `inputs` take the ones that follow, so `[., inputs]` is
 * all of them in one array. $ENV is empty, `import` finds nothing, `debug`, `stderr` are silent.
 * Whole numbers beyond 2^53 in the input are refused: jq would change them.
 *
 * WHAT IT GIVES. Each value that comes out is {"id": string, "record": flat object} and nothing
 * else, under the rules of core/job/record.h.
 *
 * Threads: any; one call is one thread's, which waits for the end.
 */
#ifndef EXJ_CORE_RUN_TRANSFORM_H
#define EXJ_CORE_RUN_TRANSFORM_H

#include "core/base/str.h"

#define EXJ_TRANSFORM_MEMORY_MB 256u
#define EXJ_TRANSFORM_SECONDS 30u
#define EXJ_TRANSFORM_OUTPUT_BYTES (64u * 1024u * 1024u)
#define EXJ_TRANSFORM_RECORDS 1000000u

typedef struct exj_transform_options { /* all borrowed for the call */
    const char *exe;       /* path of exellix-jobs-transform */
    exj_slice program;     /* jq text, 1..65536 bytes, UTF-8 without NUL */
    uint32_t memory_mb;    /* RLIMIT_AS; 32..1024; 0: EXJ_TRANSFORM_MEMORY_MB */
    uint32_t seconds;      /* of wall time, the visits included; 1..3600; 0: EXJ_TRANSFORM_SECONDS */
    uint64_t output_bytes; /* all that it writes; 0: EXJ_TRANSFORM_OUTPUT_BYTES */
    uint64_t records;      /* 0: EXJ_TRANSFORM_RECORDS */
    bool (*cancelled)(void *user); /* asked every 100 ms; NULL: never */
    /* One record, valid during the visit: the plain id, the record's JSON, and the whole line as
     * it came, without its line break. False: stop, the call answers EXJ_CANCELLED. */
    bool (*visit)(void *user, exj_slice id, exj_slice record, exj_slice line);
    void *user;
} exj_transform_options;

typedef struct exj_transform_input {
    int fd;         /* JSON values, read from where it stands to its end; -1: `text` */
    exj_slice text;
} exj_transform_input;

/* Records may have been visited also when it fails: only EXJ_OK says that they are all there is.
 * Errors: EXJ_INVALID (the program, with jq's words and position; the input; a record: which
 * one, why), EXJ_FULL (ran out of time, memory, bytes or records: which, and the limit),
 * EXJ_CANCELLED, EXJ_IO (it could not be started), EXJ_UNSUPPORTED (the kernel has no cage for
 * it), EXJ_NOMEM. */
exj_code exj_transform_run(const exj_transform_options *o, exj_transform_input input,
                           exj_err *err);

#endif /* EXJ_CORE_RUN_TRANSFORM_H */
