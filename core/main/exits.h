/* core/main/exits.h - what the exit status says. docs/cli.md has the same list. */
#ifndef EXJ_CORE_MAIN_EXITS_H
#define EXJ_CORE_MAIN_EXITS_H

typedef enum exj_exit {
    EXJ_EXIT_OK = 0,
    EXJ_EXIT_FAILED = 1,      /* it was tried and did not work */
    EXJ_EXIT_USAGE = 2,       /* the command line or a setting is wrong */
    EXJ_EXIT_NOT_FOUND = 3,
    EXJ_EXIT_AUTH = 4,
    EXJ_EXIT_CONFLICT = 5,    /* somebody changed it first */
    EXJ_EXIT_INVALID = 6,     /* a document or a plugin did not pass its checks */
    EXJ_EXIT_UNREACHABLE = 7, /* no daemon, or the store is held by another */
    EXJ_EXIT_PARTIAL = 8,     /* run: some rows are dead */
    EXJ_EXIT_TIMEOUT = 124,
    EXJ_EXIT_INTERRUPTED = 130
} exj_exit;

#endif /* EXJ_CORE_MAIN_EXITS_H */
