/* core/transform/border.h - between core/run/transform.c and exellix-jobs-transform.
 *
 *     exellix-jobs-transform MEMORY_MB SECONDS
 *
 * The program reads jq text and JSON values, and writes what jq makes of them, one JSON value a
 * line. It exits with one of the codes below, and what it wrote counts only with DONE.
 */
#ifndef EXJ_CORE_TRANSFORM_BORDER_H
#define EXJ_CORE_TRANSFORM_BORDER_H

enum {
    EXJ_TRANSFORM_FD_INPUT = 0,
    EXJ_TRANSFORM_FD_RESULTS = 1, /* 2 is /dev/null: jq's `stderr` writes there */
    EXJ_TRANSFORM_FD_PROGRAM = 3, /* read to its end */
    EXJ_TRANSFORM_FD_WORDS = 4    /* why it did not end with DONE; text */
};

enum {
    EXJ_TRANSFORM_DONE = 0,
    EXJ_TRANSFORM_NOT_JQ = 10, /* the program does not compile */
    EXJ_TRANSFORM_FAILED = 11, /* it ended with an error */
    EXJ_TRANSFORM_MEMORY = 12, /* it wanted more than MEMORY_MB */
    EXJ_TRANSFORM_INPUT = 13,  /* the input is not what jq can read without harm */
    EXJ_TRANSFORM_UNSAFE = 14  /* the cage could not be closed: nothing was run */
};

#define EXJ_TRANSFORM_PROGRAM_MAX 65536u /* bytes of jq text */
#define EXJ_TRANSFORM_WORDS_MAX 2048u

#endif /* EXJ_CORE_TRANSFORM_BORDER_H */
