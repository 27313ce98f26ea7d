/* core/base/err.h - how a call says that it failed.
 *
 * The code tells the caller what to do, the text tells a person what happened, with the
 * offending value quoted. The text is inline: reporting lack of memory needs none. The
 * first error set wins; callers may prefix. On success `err` is untouched.
 *
 * Threads: an exj_err belongs to one caller; no locks.
 */
#ifndef EXJ_CORE_BASE_ERR_H
#define EXJ_CORE_BASE_ERR_H

#include "core/base/types.h"

typedef enum exj_code {
    EXJ_OK = 0,
    EXJ_NOMEM,       /* no memory; nothing changed */
    EXJ_INVALID,     /* the input is wrong and will stay wrong: refuse it */
    EXJ_NOT_FOUND,   /* no such thing */
    EXJ_CONFLICT,    /* somebody changed it first, or it exists already: read again */
    EXJ_FENCED,      /* the caller's claim is over: stop, never retry */
    EXJ_FULL,        /* a bound is reached: later */
    EXJ_BUSY,        /* somebody else holds it */
    EXJ_REFUSED,     /* understood and not allowed (trust, state, permission) */
    EXJ_UNSUPPORTED, /* not offered here */
    EXJ_CANCELLED,   /* stopped on request */
    EXJ_IO,          /* disk, socket or system call failed; nothing changed */
    EXJ_UNKNOWN,     /* the change may or may not have happened: read before deciding */
    EXJ_CORRUPT,     /* stored bytes are not what was written: stop */
    EXJ_BUG          /* our own mistake */
} exj_code;

#define EXJ_ERR_TEXT_BYTES 512

typedef struct exj_err {
    exj_code code;
    char text[EXJ_ERR_TEXT_BYTES]; /* NUL-terminated UTF-8, cut when too long */
} exj_err;

/* A name for logs and tests, such as "EXJ_FENCED". Never NULL. */
const char *exj_code_name(exj_code code);

/* Set `err` (may be NULL) unless it already holds an error, and return `code`. */
exj_code exj_err_set(exj_err *err, exj_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "text: " in front of what `err` (may be NULL) says. Returns err's code, or EXJ_OK. */
exj_code exj_err_prefix(exj_err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Empty it, so that it can be set anew. */
void exj_err_clear(exj_err *err);

#endif /* EXJ_CORE_BASE_ERR_H */
