/* core/plugin/spawn.h - child processes that run somebody else's code.
 *
 * A child is started by ONE thread that lives as long as this process: PR_SET_PDEATHSIG,
 * which the plugin host asks for, follows the thread that spawned. It gets its own
 * session, default signals, an environment made of an allow-list, and the descriptors it
 * is given and no others. It is watched through a pidfd and always reaped; whatever is left
 * of its process group is killed before its leader is reaped, while the number cannot
 * belong to anybody else.
 *
 * Memory:  exj_child belongs to its caller until exj_child_end.
 * Threads: exj_spawn_host from any; one child is one thread's at a time, save
 *          exj_child_signal.
 */
#ifndef EXJ_CORE_PLUGIN_SPAWN_H
#define EXJ_CORE_PLUGIN_SPAWN_H

#include "core/plugin/remote.h"

typedef struct exj_child {
    int pid;    /* 0: none, or reaped */
    int pidfd;  /* readable: it has ended */
    int socket; /* our ends; each -1 when closed or moved away */
    int cancel, log, crash;
} exj_child;

#define EXJ_CHILD_NONE                                                                   \
    ((exj_child){ .pidfd = -1, .socket = -1, .cancel = -1, .log = -1, .crash = -1 })

/* How a child ended. */
typedef struct exj_child_fate {
    bool exited; /* `status` is what it gave exit(); else a signal */
    int status;
    bool forced; /* it lived, and was killed by us */
} exj_child_fate;

#define EXJ_SPAWN_FDS 8u

/* Start the program `exe` with `argv` (NULL-terminated, argv[0] first). Its descriptor k is a
 * copy of fds[k] (-1: /dev/null), for k below fds_len (<= EXJ_SPAWN_FDS), and it has no others.
 * `what` is it in messages: "plugin host". Fills pid and pidfd of *ret; our ends of its pipes
 * are the caller's to put in.
 * Errors: EXJ_IO (names exe and what to do), EXJ_NOMEM. */
exj_code exj_spawn(const char *what, const char *exe, char *const *argv, const int *fds,
                   size_t fds_len, exj_child *ret, exj_err *err);

/* A plugin host, with the descriptors of wire.h.
 * Errors: EXJ_IO (names host_exe and what to do), EXJ_NOMEM. */
exj_code exj_spawn_host(const exj_remote_settings *s, exj_lane lane, exj_child *ret,
                        exj_err *err);

/* To its whole process group. */
void exj_child_signal(const exj_child *c, int sig);

/* Wait `ms` for its end, then kill; kill what is left of its group and reap it. */
exj_child_fate exj_child_reap(exj_child *c, int ms);

/* Close what is open (kills and reaps it first if it lives). */
void exj_child_end(exj_child *c);

/* "SIGSEGV" into `ret`. */
void exj_signal_name(int sig, char *ret, size_t cap);

#endif /* EXJ_CORE_PLUGIN_SPAWN_H */
