/* exellix/plugin.h - the plugin ABI of exellix-jobs, major 1. C11 and C++17.
 *
 * A plugin is a shared object that exports ONE function, exellix_plugin_v1, which returns
 * a bundle of plugins. A plugin is a graph engine (runs rows), a source resolver (yields
 * records) or an event sink (is told what happened). It links to nothing of ours: all it
 * needs is this header.
 *
 * THE SHORTEST PLUGIN: see README.md and examples/. EXJ_PLUGIN_EXPORT(bundle, kinds, flags)
 * writes both the export and the ELF note from which the host reads versions before it
 * loads anything.
 *
 * GROWTH. Every struct begins with size_of: the offset after the last member that its
 * maker knew (EXJ_SIZE). Members are only ever appended; a reader asks EXJ_HAS before it
 * touches a member beyond the required ones. Required for ever: create, execute, destroy.
 * A host refuses a plugin of another major (no such symbol) or of a newer minor.
 *
 * MEMORY. What a function is given is borrowed until it returns, or as said. What is
 * emitted is copied by the host. Nothing allocated on one side is freed on the other.
 *
 * THREADS. Tags in brackets: [control] one thread of the host, no other call into that
 * instance at the same time; [worker] a thread of the host, one call an instance at a time
 * unless EXJ_FLAG_CONCURRENT; [any]. No lock of the host is held during a call.
 *
 * TEXT is UTF-8 with a length; not NUL-terminated unless it is `const char *`.
 */
#ifndef EXELLIX_PLUGIN_H
#define EXELLIX_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EXJ_ABI_MAJOR 1u
#define EXJ_ABI_MINOR 2u

#define EXJ_SIZE(T, last) ((uint32_t)(offsetof(T, last) + sizeof(((T *)0)->last)))
#define EXJ_HAS(p, T, m) ((p)->size_of >= EXJ_SIZE(T, m) && (p)->m != NULL)

/* A call in progress. Issued by the host with a generation inside: a call that ended, or
 * one that was made up, is refused by every host function. */
typedef uint64_t exj_call;

typedef int32_t exj_result;
#define EXJ_R_OK 0          /* done; a graph engine has emitted exactly one answer */
#define EXJ_R_PENDING 1     /* goes on; complete() follows (EXJ_FLAG_ASYNC only) */
#define EXJ_R_FAILED 2      /* failed for good: no retry */
#define EXJ_R_RETRY 3       /* failed, worth another attempt */
#define EXJ_R_CANCELLED 4   /* stopped because it was asked to */
#define EXJ_R_DEADLINE 5    /* stopped because its time was over */
#define EXJ_R_INPUT 6       /* the record or config is wrong: no retry */
#define EXJ_R_UNSUPPORTED 7 /* not offered */
#define EXJ_R_INTERNAL 8    /* a mistake inside; retried */
#define EXJ_R_MISS 9        /* journal_lookup: no such step */

typedef struct exj_str {
    const char *p;
    uint64_t n;
} exj_str;

/* A string literal; text of a NUL-terminated string is (exj_str){ s, strlen(s) }. */
#define EXJ_STR(literal) { (literal), sizeof(literal) - 1 }

#define EXJ_LOG_LEVEL_DEBUG 0
#define EXJ_LOG_LEVEL_INFO 1
#define EXJ_LOG_LEVEL_WARN 2
#define EXJ_LOG_LEVEL_ERROR 3
#define EXJ_LOG_LEVEL_HOST_MISBEHAVES 4
#define EXJ_LOG_LEVEL_PLUGIN_MISBEHAVES 5

/* What the host offers. [any thread] unless marked; valid until destroy returns. `ctx` is
 * this table's own and goes first into each function. `c` = 0 where no call is meant. */
typedef struct exj_host {
    uint32_t size_of, abi_minor;
    void *ctx;
    void (*log)(void *ctx, exj_call c, int32_t level, exj_str message);
    /* The error of this call: a stable code ("FileMissing") and a text for people. The
     * last one written wins. In create (c = 0) it explains why create fails. */
    void (*error)(void *ctx, exj_call c, exj_result r, exj_str code, exj_str message);
    /* 0: go on. Else stop soon: EXJ_R_CANCELLED or EXJ_R_DEADLINE. */
    int32_t (*cancelled)(void *ctx, exj_call c);
    void (*progress)(void *ctx, exj_call c, double at, exj_str note); /* at: 0..1 */
    /* Graph engine: the answer, once. Source resolver: one record or the end of a page;
     * may block (back-pressure); EXJ_R_CANCELLED: no more is wanted, return.
     * EXJ_R_INPUT: refused (not JSON, too large, not of the schema; the call fails). */
    exj_result (*emit)(void *ctx, exj_call c, exj_str json);
    /* Durable steps [in call]. lookup: EXJ_R_OK and the stored JSON (borrowed until the
     * next journal call or the end of the call), or EXJ_R_MISS. intent says that a step
     * begins. commit is durable when it returns; a step is written once: a second commit
     * of the same name answers EXJ_R_OK and the first entry stands. EXJ_R_CANCELLED: the
     * row is no longer ours. */
    exj_result (*journal_lookup)(void *ctx, exj_call c, exj_str step, exj_str *ret);
    exj_result (*journal_intent)(void *ctx, exj_call c, exj_str step);
    exj_result (*journal_commit)(void *ctx, exj_call c, exj_str step, exj_str json);
    /* Ends a PENDING call, exactly once. A second or foreign one: EXJ_R_INTERNAL. */
    exj_result (*complete)(void *ctx, exj_call c, exj_result r);
    /* A thread that the host knows of and waits for before it unloads the plugin. */
    exj_result (*thread_start)(void *ctx, void (*fn)(void *), void *arg);
    const void *(*extension)(void *ctx, const char *id); /* "exellix.kv/1"; NULL: absent */
} exj_host;

/* One call. Valid until the call ends (PENDING: until complete). */
typedef struct exj_args {
    uint32_t size_of;
    uint32_t attempt;     /* first is 1 */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; UINT64_MAX: none */
    /* Graph engine: the model (JSON) and the runtime object of spec 1.4:
     *   {"jobId","job":{…},"input":{flat record},"executionMemory":{…}}
     * Source resolver: model = the matrix's payload.input; runtime =
     *   {"matrixCatalogId","matrixRunId":null|"…","kind":"record"|"storage",
     *    "cursor":null|"…","config":{…}}
     * Event sink: model is empty; runtime = {"sink":"NAME","events":[{…}, …]}, see below. */
    exj_str model, runtime;
    exj_str job_id;       /* idempotency key: the same over all attempts of a row */
    exj_str record_id;
    uint64_t token;       /* fencing token of this attempt; grows with each */
} exj_args;

#define EXJ_KIND_GRAPH_ENGINE 1u
#define EXJ_KIND_SOURCE_RESOLVER 2u
#define EXJ_KIND_EVENT_SINK 3u /* since minor 2 */

#define EXJ_FLAG_CONCURRENT 1u  /* execute may run in several threads on one instance */
#define EXJ_FLAG_SERIAL_ALL 2u  /* never two calls at once, over all instances */
#define EXJ_FLAG_BLOCKING 4u    /* mostly waits (disk, network): do not count on its CPU */
#define EXJ_FLAG_OWN_THREADS 8u /* starts threads of its own */
#define EXJ_FLAG_ASYNC 16u      /* may answer EXJ_R_PENDING */
/* Since minor 1. A row may be executed again to try a new version: the same record gives
 * the same answer and nothing outside is changed. */
#define EXJ_FLAG_REPLAYABLE 32u

/* Since minor 2. What an event sink is given at once: so many events, so many bytes. */
#define EXJ_SINK_EVENTS 100u
#define EXJ_SINK_BYTES 1048576u

/* A GRAPH ENGINE's execute emits one answer and returns EXJ_R_OK:
 *   {"status":"completed"|"failed"|"blocked"|"suspended", "jobId", "taskId", "graphId",
 *    "outputsByNodeId":{}, "stepsResponses":[], "engineSnapshot":{}, "error":{"code","message"}}
 * (status required, the rest optional, nothing else), or returns a failure after error().
 * A SOURCE RESOLVER's execute emits, for each record,
 *   {"id":"unique for ever within the matrix", "record":{flat object}}
 * and for kind "storage" at the end of a page {"next":"cursor"} or, at the very end,
 * nothing; then returns EXJ_R_OK. A page should hold at most a few thousand records.
 * An EVENT SINK's execute is given, in runtime.events, 1 to EXJ_SINK_EVENTS events in at most
 * EXJ_SINK_BYTES of text, oldest first, those of one row in the order in which they happened:
 *   {"number":7, "kind":"completed", "at":"2026-01-31T10:00:00.000Z", "matrixRowId",
 *    "matrixCatalogId", "matrixRunId":null|"…", "graphId", "status":null|"…", "attempt":1,
 *    "token":1, "key", "text"}
 * ("number" grows, is unique and is the same when the event comes again; the rest may be
 * missing and more may come). It returns EXJ_R_OK when all are kept for good where they
 * belong, or emits, once, those which are not:
 *   {"failed":[{"number":7, "error":"…", "retryAfterSeconds":2}]}  (the last is optional)
 * A failed event is given again, and so is what comes after it of the same row: do not send
 * on the latter. Every other result fails the whole batch (EXJ_R_FAILED and EXJ_R_INPUT too:
 * an event is set aside only after its tries). Events come at least once: a sink that must not repeat itself remembers numbers. */
typedef struct exj_plugin {
    uint32_t size_of, kind, flags, state_version;
    const char *id;      /* "acme.score": [a-z0-9._-], 1..64 bytes, stable for ever */
    const char *version; /* "1.2.0" */
    exj_str describe;    /* JSON: {"summary","config","input","output"}; may be empty */
    exj_result (*create)(const exj_host *h, exj_str config, void **instance); /* [control] only log, error and extension may be called */
    exj_result (*execute)(void *instance, exj_call c, const exj_args *a);     /* [worker] */
    void (*destroy)(void *instance);                                          /* [control, idle] */
    /* Optional, for ever: may be absent (size_of) or NULL. */
    void (*cancel)(void *instance, exj_call c);                /* [any] a hint to wake up */
    exj_result (*self_test)(void *instance, exj_call c);       /* [worker] */
    exj_result (*save_state)(void *instance, exj_call sink);   /* [control, idle] emits it */
    exj_result (*load_state)(void *instance, uint32_t from_version, exj_str state);
    const void *(*extension)(void *instance, const char *id);
    /* [any] the model of a graph when its config holds none: emit the JSON; EXJ_R_MISS:
     * the host's default { "id": graphId, "nodes": [] }. */
    exj_result (*resolve_model)(void *instance, exj_call c, exj_str graph_id);
} exj_plugin;

typedef struct exj_bundle {
    uint32_t size_of, abi_minor, n, reserved;
    const exj_plugin *const *plugins; /* n pointers */
} exj_bundle;

typedef const exj_bundle *(*exj_entry)(uint32_t host_minor);

/* The ELF note, section ".note.exellix", owner "exellix", type 1: readable from the file
 * before any of its code runs. Six little-endian u32. */
#define EXJ_NOTE_OWNER "exellix"
#define EXJ_NOTE_TYPE 1u
typedef struct exj_note {
    uint32_t namesz, descsz, type;
    char name[8]; /* "exellix\0" */
    uint32_t abi_major, abi_minor, kinds, flags, sdk, reserved;
} exj_note;

#if defined(__GNUC__)
#define EXJ_PLUGIN_VISIBLE __attribute__((visibility("default"), used))
#define EXJ_NOTE_SECTION __attribute__((section(".note.exellix"), used, aligned(4)))
#else
#error "exellix plugins need gcc or clang"
#endif

#ifdef __cplusplus
#define EXJ_EXTERN_C_ extern "C"
#else
#define EXJ_EXTERN_C_
#endif

/* Put this once at file scope. `bundle` is a static const exj_bundle; `kinds` the kinds in
 * it, 1u << kind or-ed; `flags` all flags or-ed. */
#define EXJ_PLUGIN_EXPORT(bundle, kinds_, flags_)                                         \
    EXJ_NOTE_SECTION static const exj_note exj_note_of_this_file_ = {                     \
        8u, 24u, EXJ_NOTE_TYPE, { 'e', 'x', 'e', 'l', 'l', 'i', 'x', 0 },                 \
        EXJ_ABI_MAJOR, EXJ_ABI_MINOR, (kinds_), (flags_), 1u, 0u                          \
    };                                                                                    \
    EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE const exj_bundle *exellix_plugin_v1(                 \
        uint32_t host_minor);                                                             \
    EXJ_EXTERN_C_ EXJ_PLUGIN_VISIBLE const exj_bundle *exellix_plugin_v1(                 \
        uint32_t host_minor)                                                              \
    {                                                                                     \
        (void)host_minor;                                                                 \
        return &(bundle);                                                                 \
    }

#ifdef __cplusplus
}
#endif

#endif /* EXELLIX_PLUGIN_H */
