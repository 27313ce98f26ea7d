/* tests/support/inside.h - between the files of tests/support only. */
#ifndef EXJ_TESTS_SUPPORT_INSIDE_H
#define EXJ_TESTS_SUPPORT_INSIDE_H

#include "tests/support/support.h"

/* Prints "tests/support: …: strerror" and aborts. */
void exj_support_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Ends every program that this test started and that still runs. */
void exj_support_kill_all(void);
/* What exj_support_clean is to leave alone from now on: the caller ends it. */
void exj_support_forget(pid_t pid);
void exj_support_forget_tmp(const exj_tmp *t);
void exj_support_remove_tree(const char *path);

#endif /* EXJ_TESTS_SUPPORT_INSIDE_H */
