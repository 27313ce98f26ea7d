/* core/plugin/remote.h - lanes L1 and L2: a guest whose code is in another process.
 *
 * To the rest of the core a remote guest is a guest like any other: its table of functions is
 * ours (exj_remote_vt), each of which speaks with a plugin host over the wire. `execute` sends
 * the call and answers PENDING; the pump, one thread a living host, receives what the plugin
 * says and does it through the instance's own exj_host table (emit, error, complete, …). So
 * every rule of a call (core/plugin/call.c) holds on every lane, and a host that lies is a
 * plugin that misbehaves.
 *
 *     worker ── execute ──▶ out-queue ──socket──▶ host ── dlopen'ed plugin
 *        ◀── done ── complete() ◀── pump ◀──socket──┘
 *
 * THE LIFE OF A HOST: none → starting → ready → (idle for idle_ms) → none. It is started by the
 * first call, by the one spawner thread of the process (PR_SET_PDEATHSIG follows the thread
 * that spawned). One instance has at most one host (sandbox: one that runs and one that was
 * started ahead).
 *
 * DEATH. EOF or a broken frame: the host is killed (its process group) and reaped; the first
 * unanswered call was in it: it ends with EXJ_R_CRASHED, code "PluginCrashed" and a text that
 * names plugin, version, the start of the sha256, the signal's name and the backtrace. Calls
 * behind it, never begun, are sent again to the next host. If several calls had answered
 * PENDING, the one the crash handler names is to blame, the others end with EXJ_R_RETRY, code
 * "HostDied". A respawn waits: 0, 10, 20, … 5000 ms after crashes in a row, 0 again after a
 * good call.
 *
 * TIME. A call's deadline begins when the host begins it. At the deadline the plugin sees
 * cancelled() and its cancel hint; grace_ms later SIGTERM, and as long again later SIGKILL to
 * the group; the call ends with EXJ_R_DEADLINE. A call that nobody wants any more (the port
 * cancelled() says so; asked every 100 ms) goes the same way and ends with EXJ_R_CANCELLED.
 *
 * QUARANTINE. When settings.may_start says no, calls that wait end with EXJ_R_NOT_STARTED: the
 * row goes back as it was.
 */
#ifndef EXJ_CORE_PLUGIN_REMOTE_H
#define EXJ_CORE_PLUGIN_REMOTE_H

#include "core/plugin/lane.h"
#include "core/plugin/plugin.h"
#include "core/plugin/wire.h"

typedef struct exj_remote_settings { /* texts are borrowed for the registry's life */
    const char *host_exe;   /* path of exellix-jobs-plugin-host */
    const char *hidden_dir; /* must not be opened by any plugin: the data directory; NULL */
    uint32_t memory_mb;     /* RLIMIT_AS of a host; 0: none */
    uint32_t idle_ms, grace_ms;
    uint32_t start_ms;      /* until HELLO and CREATED; 0: 10000 */
    void *user;
    /* A host died with a call in it. [pump] */
    void (*crashed)(void *user, const exj_guest *g, const char *signal, exj_slice backtrace);
    /* May a host of this content be started (again)? [spawner, pump]; *why is filled. */
    bool (*may_start)(void *user, const exj_guest *g, exj_err *why);
    /* A history (docs/history.md). Hosts append to this descriptor too (O_APPEND); 0: none. */
    int record_fd;
    void *record_user;
    /* A host of the plugin `id` ("": to describe a file) began ("start") or ended: "exit", when we
     * wanted that, else "crash". NULL: nobody wants to know. [spawner, pump] */
    void (*host_seen)(void *record_user, const char *id, int pid, const char *outcome);
} exj_remote_settings;

/* One plugin of a file as its host describes it. */
typedef struct exj_remote_plugin {
    char *id, *version; /* owned */
    uint32_t kind, flags, state_version, has; /* has: EXJ_VT_* */
    exj_buf describe;
} exj_remote_plugin;

/* Start a throw-away host on the private copy `copy`, let it load and describe itself.
 * `shown` is the source's name for messages. *ret: calloc'ed array, exj_remote_plugins_free.
 * Errors: EXJ_INVALID (refused, or it crashed: signal and backtrace in the text; or start_ms
 * passed), EXJ_IO, EXJ_NOMEM. */
exj_code exj_remote_describe(const exj_remote_settings *s, exj_lane lane, const char *copy,
                             const char *shown, exj_remote_plugin **ret, size_t *ret_len,
                             exj_err *err);
void exj_remote_plugins_free(exj_remote_plugin *p, size_t n);

/* The functions of a remote guest with these optional members. */
void exj_remote_vt(uint32_t has, exj_plugin *ret);

typedef struct exj_remote_view {
    int pid;              /* 0: no host now */
    uint32_t cage;        /* EXJ_CAGE_* that the last one reached */
    uint64_t starts, crashes;
    uint32_t open;        /* calls sent and not answered */
} exj_remote_view;
void exj_remote_look(exj_instance *i, exj_remote_view *ret); /* zeroed for in-process ones */

/* Kill its host: the calls in it end as if it had crashed. [any thread] No host: nothing. */
void exj_remote_kill(exj_instance *i);
/* End its host for a reason that is not its own: every call in it is worth another attempt (code
 * "HostDied"), and nothing is counted as a crash. [any thread] */
void exj_remote_retire(exj_instance *i);
/* Start the instance's host now, if it has none, without waiting for it. */
void exj_remote_warm(exj_instance *i);

#endif /* EXJ_CORE_PLUGIN_REMOTE_H */
