/* tests/support/inside.h - between the files of tests/support only. */
#ifndef EXJ_TESTS_SUPPORT_INSIDE_H
#define EXJ_TESTS_SUPPORT_INSIDE_H

/* Prints "tests/support: …: strerror" and aborts. */
void exj_support_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Ends every program that this test started and that still runs. */
void exj_support_kill_all(void);

#endif /* EXJ_TESTS_SUPPORT_INSIDE_H */
