/* exellix/jobs.h - a worker of exellix-jobs inside a program of yours. C11 and C++17.
 *
 * Link libexellix-jobs.a (pkg-config --static exellix-jobs). A worker is opened on a data
 * folder, given its plugins (files, or static ones: a const exj_bundle of this program, see
 * exellix/plugin.h), given its graphs and matrices, started, and stopped:
 *
 *   exj_jobs_options o = EXJ_JOBS_OPTIONS_INIT;
 *   o.data_dir = "data"; o.executor = "my.engine";
 *   exj_jobs_open(&o, &jobs, why, sizeof why);
 *   exj_jobs_add_plugins(jobs, "mine", &bundle, why, sizeof why);
 *   exj_jobs_apply(jobs, json, strlen(json), why, sizeof why);
 *   exj_jobs_start(jobs, why, sizeof why);
 *   exj_jobs_wait_idle(jobs, 60000);
 *   exj_jobs_stop(jobs, 30000, NULL);
 *   exj_jobs_free(jobs);
 *
 * One data folder belongs to one worker at a time, of this process or another. Several
 * workers in one process need a folder each; the level of the log is the process's.
 *
 * ERRORS. A function that can fail returns a code (0 is good) and puts one line for a person
 * into `why` (`why_bytes` with its NUL; NULL, 0: not interested). exj_jobs_error has the last
 * one again.
 * MEMORY. All texts given are copied; a bundle is borrowed until exj_jobs_free.
 * THREADS. [owner]: one thread at a time, no other call at the same time. [any]: also beside
 * each other. No function may be called from inside a plugin, except those marked [plugin].
 * SIGNALS are the program's own: none is caught or blocked here. With EXJ_JOBS_HTTP ignore
 * SIGPIPE.
 * GROWTH as in exellix/plugin.h: structs begin with size_of and only grow at their end.
 *
 * The second half of this file is for host bootstraps: a .so named by
 * EXELLIX_JOBS_HOST_BOOTSTRAP by which an operator wires the daemon.
 */
#ifndef EXELLIX_JOBS_H
#define EXELLIX_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include "exellix/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exj_jobs exj_jobs;

typedef int32_t exj_jobs_code;
#define EXJ_JOBS_OK 0
#define EXJ_JOBS_NOMEM 1
#define EXJ_JOBS_INVALID 2      /* what was given is wrong and will stay wrong */
#define EXJ_JOBS_NOT_FOUND 3    /* no such plugin, row, … */
#define EXJ_JOBS_CONFLICT 4     /* taken already, or changed by somebody else */
#define EXJ_JOBS_FULL 6         /* a bound is reached */
#define EXJ_JOBS_BUSY 7         /* held by somebody else, or not yet */
#define EXJ_JOBS_REFUSED 8      /* understood and not allowed (not now, not here) */
#define EXJ_JOBS_UNSUPPORTED 9  /* not offered here */
#define EXJ_JOBS_IO 11          /* disk, socket or store failed */
#define EXJ_JOBS_UNKNOWN 12     /* may or may not have happened */
#define EXJ_JOBS_CORRUPT 13     /* stored bytes are not what was written */
#define EXJ_JOBS_BUG 14

#define EXJ_JOBS_HTTP 1u    /* open the TCP door of the HTTP API */
#define EXJ_JOBS_SOCKET 2u  /* open DATA_DIR/exellix-jobs.sock, for the commands of exellix-jobs */
#define EXJ_JOBS_ONCE 4u    /* ask each source once; else again and again */
#define EXJ_JOBS_STRICT 8u  /* refuse a row whose graph has no config */
#define EXJ_JOBS_FAST 16u   /* may lose the last commits when the power fails */
#define EXJ_JOBS_LOG_JSON 32u /* log lines are JSON objects */

#define EXJ_JOBS_LOG_WARN 0u  /* the default of a part of another program */
#define EXJ_JOBS_LOG_ERROR 1u
#define EXJ_JOBS_LOG_INFO 2u
#define EXJ_JOBS_LOG_DEBUG 3u

typedef struct exj_jobs_options {
    uint32_t size_of;
    uint32_t flags;          /* EXJ_JOBS_… or-ed */
    const char *data_dir;    /* where the store lies; made when absent; required */
    const char *const *plugin_dirs; /* NULL-terminated; NULL: no files, static plugins only */
    const char *private_dir; /* for the private copies of plugin files; NULL: DATA_DIR/loaded */
    const char *executor;    /* graph engine: a plugin's id, a bundle's or file's name, a path;
                                required unless every graph names its own */
    const char *worker_id;   /* in leases, health, metrics; NULL: host, pid, random */
    uint32_t max_concurrent; /* executions at once, 1 to 1024; 0: 4 */
    uint32_t prefetch;       /* rows claimed ahead, 1 to 8192; 0: 4096 */
    uint32_t lease_ms;       /* 1000 to 900000; 0: 60000 */
    uint32_t port;           /* EXJ_JOBS_HTTP; 0: any free one, see exj_jobs_port */
    const char *bind;        /* EXJ_JOBS_HTTP; NULL: 127.0.0.1; any other needs api_key */
    const char *http_prefix; /* NULL: "/v1" */
    const char *api_key;     /* for mutations over TCP; NULL: none are allowed there */
    uint64_t max_rows;       /* claim no more than so many; 0: no limit */
    const char *only_matrix; /* NULL: all */
    uint32_t log_level;      /* EXJ_JOBS_LOG_…; of the process: the last open sets it */
    uint32_t reserved;
    /* Plugin files run in this process, unless plugin_host is the path of the program
     * exellix-jobs-plugin-host. Then they run in hosts, which may not open data_dir. */
    const char *plugin_host;
    const char *isolation;   /* with plugin_host: "host" (NULL), "sandbox" or "in-process" */
} exj_jobs_options;

#define EXJ_JOBS_OPTIONS_INIT                                                              \
    {                                                                                      \
        EXJ_SIZE(exj_jobs_options, isolation), 0, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, \
            NULL, NULL, NULL, 0, NULL, 0, 0, NULL, NULL                                    \
    }

/* "0.1.0" [any] */
const char *exj_jobs_version(void);

/* Open the store, under its lock. Nothing runs yet. [owner]
 * Errors: INVALID (an option), BUSY (another worker holds the folder: says who), REFUSED (the
 * store is of a newer release), CORRUPT, IO, NOMEM. *ret is untouched then. */
exj_jobs_code exj_jobs_open(const exj_jobs_options *o, exj_jobs **ret, char *why,
                            size_t why_bytes);

/* Plugins of this program. They run in process, always. `name`: 1 to 64 of [A-Za-z0-9._-]; it
 * and the ids in the bundle may be named by executor, graphs and matrices. [owner], before
 * start. Errors: INVALID, CONFLICT (name or id taken), REFUSED (started), NOMEM. */
exj_jobs_code exj_jobs_add_plugins(exj_jobs *j, const char *name, const exj_bundle *b,
                                   char *why, size_t why_bytes);

/* Config documents, before or after start: one graph or matrix, an array of them, NDJSON, or
 * {"kind","items"}, as `exellix-jobs apply -f` takes them. All are checked before the first
 * is written. [any] Errors: INVALID (says where), CONFLICT, IO, NOMEM. */
exj_jobs_code exj_jobs_apply(exj_jobs *j, const char *json, size_t bytes, char *why,
                             size_t why_bytes);

/* Start to work, and open the doors that were asked for. [owner], once.
 * Errors: NOT_FOUND (no such executor), INVALID, BUSY (address in use), REFUSED (started
 * already; a bind that needs a key), FULL (no thread), NOMEM. The worker is then as before. */
exj_jobs_code exj_jobs_start(exj_jobs *j, char *why, size_t why_bytes);

/* No new claims once pause returns; what runs goes on. Nothing before start. [any] */
void exj_jobs_pause(exj_jobs *j);
void exj_jobs_resume(exj_jobs *j);

/* OK: every source has been asked, nothing waits or runs. BUSY: not within `timeout_ms`
 * (UINT32_MAX: for ever). IO: the store failed, stop and open anew. REFUSED: not started.
 * A row that waits for its next attempt is work. [any] */
exj_jobs_code exj_jobs_wait_idle(exj_jobs *j, uint32_t timeout_ms);

/* Since start, but for the last line; zeros before start and after stop. */
typedef struct exj_jobs_counts {
    uint32_t size_of;            /* set it before the call; members beyond it are not written */
    uint32_t paused;
    uint64_t scanned, materialized, claimed, completed, failed, blocked, suspended, retried,
        fenced;                  /* fenced: outcomes that came after their claim was over */
    uint64_t source_errors;      /* sources that could not be read to their end */
    uint64_t executing, ready, open; /* now: running; claimed; all that is not done */
} exj_jobs_counts;

#define EXJ_JOBS_COUNTS_INIT                                                               \
    {                                                                                      \
        EXJ_SIZE(exj_jobs_counts, open), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0          \
    }

void exj_jobs_get_counts(exj_jobs *j, exj_jobs_counts *ret); /* [any] */

/* OK, or what is wrong (an executor that cannot be made, a store that failed). [any] */
exj_jobs_code exj_jobs_health(exj_jobs *j, char *why, size_t why_bytes);

/* Any operation of the HTTP API (docs/http-api.md), without HTTP: `path` below the prefix and
 * percent-encoded, `query` without '?' or NULL. `take` is called once with the whole answer,
 * borrowed, on this thread; an answer of 400 and more is an answer. [any]
 * Errors: INVALID (no path), NOMEM. */
exj_jobs_code exj_jobs_ask(exj_jobs *j, const char *method, const char *path,
                           const char *query, const char *body, size_t body_bytes,
                           void (*take)(void *user, uint32_t status, const char *answer,
                                        size_t bytes),
                           void *user, char *why, size_t why_bytes);

uint32_t exj_jobs_port(exj_jobs *j); /* of the TCP door; 0: none. [any] */

/* Close the doors, claim no more, give back what has not begun, wait up to `grace_ms` for
 * what runs. BUSY: `*ret_left` (may be NULL) executions did not end. They cannot be taken
 * from their threads: their rows are left to their leases, the store stays open below them,
 * and the program should end soon. A second stop is OK and does nothing. [owner] */
exj_jobs_code exj_jobs_stop(exj_jobs *j, uint32_t grace_ms, uint32_t *ret_left);

/* Stop (without grace for what executes, unless it is stopped) and end it. NULL is accepted. After a stop that
 * was BUSY the memory stays with those executions. [owner] */
void exj_jobs_free(exj_jobs *j);

/* The text of the last error, "" when there was none. [any] */
void exj_jobs_error(exj_jobs *j, char *ret, size_t bytes);

/* ---- host bootstrap --------------------------------------------------------------------
 *
 * EXELLIX_JOBS_HOST_BOOTSTRAP=./host.so: `serve` and `run` load it before anything is opened,
 * hand it a table by which it wires the worker, and tell it of start and stop. It is trusted
 * like the program: in process, without a private copy, never unloaded. It exports ONE
 * function, exellix_host_v1; EXJ_HOST_EXPORT writes it, and the note from which the program
 * reads versions before it loads anything. It links to nothing of ours. */

#define EXJ_HOST_MAJOR 1u
#define EXJ_HOST_MINOR 0u

/* Given to configure and valid until it returns. [control] */
typedef struct exj_host_config_api {
    uint32_t size_of, abi_minor;
    void *ctx;
    /* The value of a setting by its name ("PORT", "EXELLIX_JOBS_DATA_DIR"); NULL: not set, or
     * no such setting. Borrowed until the next set. Keys are given as well: you are trusted. */
    const char *(*setting)(void *ctx, const char *name);
    /* Set it. This beats flag, environment and files. INVALID: no such setting, or a wrong or
     * empty value; see error_text. */
    exj_jobs_code (*set)(void *ctx, const char *name, const char *value);
    /* Plugins that live in this bootstrap, as exj_jobs_add_plugins takes them. The bundle is
     * read when the worker opens and must stay for ever; what is wrong with it is told then. */
    exj_jobs_code (*add_plugins)(void *ctx, const char *name, const exj_bundle *b);
    /* Documents to apply before the worker starts, every time it starts. Copied. INVALID when
     * they are no documents. */
    exj_jobs_code (*apply)(void *ctx, const char *json, uint64_t bytes);
    void (*log)(void *ctx, int32_t level, exj_str message); /* EXJ_LOG_LEVEL_… */
    /* Why configure fails: the text the start ends with. The last one counts. */
    void (*error)(void *ctx, exj_str message);
    /* Of the last of the above that failed; "" when none did. Borrowed until the next call. */
    const char *(*error_text)(void *ctx);
} exj_host_config_api;

typedef struct exj_host_worker { /* of a worker that runs */
    uint32_t size_of;
    uint32_t port;               /* of the TCP door; 0: none */
    const char *worker_id, *data_dir;
} exj_host_worker;

/* What the entry returns: constant, for ever. Only configure is required. */
typedef struct exj_host_bootstrap {
    uint32_t size_of, abi_minor;
    const char *name, *version; /* for the log; may be NULL */
    void *ctx;                  /* goes first into each function */
    /* [control] before anything is opened. Anything but OK ends the start with the text that
     * error() was given. */
    exj_jobs_code (*configure)(void *ctx, const exj_host_config_api *api);
    void (*started)(void *ctx, const exj_host_worker *w); /* [control] the worker runs */
    void (*stopping)(void *ctx); /* [control] before the doors close; only after started */
} exj_host_bootstrap;

typedef const exj_host_bootstrap *(*exj_host_entry)(uint32_t host_minor);

/* The note: owner "exellix" as a plugin's, type 2; kinds, flags and sdk are 0. */
#define EXJ_HOST_NOTE_TYPE 2u

/* Once at file scope; `table` is a static const exj_host_bootstrap. */
#define EXJ_HOST_EXPORT(table)                                                             \
    EXJ_NOTE_SECTION static const exj_note exj_host_note_of_this_file_ = {                 \
        8u, 24u, EXJ_HOST_NOTE_TYPE, { 'e', 'x', 'e', 'l', 'l', 'i', 'x', 0 },             \
        EXJ_HOST_MAJOR, EXJ_HOST_MINOR, 0u, 0u, 0u, 0u                                     \
    };                                                                                     \
    EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE const exj_host_bootstrap *exellix_host_v1(            \
        uint32_t host_minor);                                                              \
    EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE const exj_host_bootstrap *exellix_host_v1(            \
        uint32_t host_minor)                                                               \
    {                                                                                      \
        (void)host_minor;                                                                  \
        return &(table);                                                                   \
    }

#ifdef __cplusplus
}
#endif

#endif /* EXELLIX_JOBS_H */
