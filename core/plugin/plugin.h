/* core/plugin/plugin.h - guests: found, judged before any of their code runs, loaded
 * beside each other, called through one door (lane L0, in process).
 *
 * A file is read with pread only (ELF header, segments and sections inside the file, the
 * note), copied into a private folder under a name that is never used twice, probed again,
 * and only then dlopen'ed (RTLD_NOW|RTLD_LOCAL) or given to a plugin host (lane.h).
 * Every refusal names file, field, wanted and found.
 *
 * A GENERATION is one content of one file on one lane; its number is never used twice. Of a
 * file and lane one generation is current: that is what finding gives. A candidate is loaded
 * beside it (exj_guest_candidate) and published when it has proved itself; what was current
 * then drains and is swept once nobody holds or uses it: dlclose'd when nothing of it can be
 * left behind (core/plugin/lint.h), else pinned, that is left mapped and counted.
 *
 * Threads: registry functions are serialised inside; calls run on the caller's thread with
 * no lock held.
 */
#ifndef EXJ_CORE_PLUGIN_PLUGIN_H
#define EXJ_CORE_PLUGIN_PLUGIN_H

#include "core/base/str.h"
#include "core/plugin/lane.h"
#include "exellix/plugin.h"

typedef struct exj_registry exj_registry;
typedef struct exj_guest exj_guest;       /* one plugin of one loaded file */
typedef struct exj_instance exj_instance; /* what create made */
typedef struct exj_call_slot exj_call_slot;

/* ---- judging a file without running it ----------------------------------------------- */
typedef struct exj_probe {
    uint32_t abi_major, abi_minor, kinds, flags;
    uint64_t bytes;
    char sha256[65]; /* of the content; lower-case hex */
} exj_probe;
/* Errors: EXJ_INVALID (file, field, wanted, found), EXJ_IO. */
exj_code exj_probe_file(const char *path, exj_probe *ret, exj_err *err);

/* ---- the registry --------------------------------------------------------------------- */
typedef struct exj_registry_options {
    const char *const *dirs; /* NULL-terminated, searched in order (missing ones are skipped) */
    const char *private_dir; /* made 0700 and emptied of old copies; NULL: a fresh folder under
                                $TMPDIR, removed at free */
    /* Lanes: of plugins that we did not ship; DEFAULT: IN_PROCESS. A file of `shipped_dirs`
     * (real paths) whose name (without ".so") is in `shipped` runs in process unless somebody
     * says otherwise. All borrowed for the registry's life. */
    exj_lane lane;
    const char *const *shipped_dirs, *const *shipped; /* NULL-terminated; NULL: none */
    const struct exj_remote_settings *remote; /* NULL: no plugin hosts; only IN_PROCESS */
    bool throw_away; /* this process is for one plugin and then gone: what must be isolated is */
    /* May this content be used? NULL: any. [any thread; the registry is loading meanwhile] */
    exj_code (*may_load)(void *user, const char *path, const char *sha256, exj_err *err);
    void *user;
} exj_registry_options;

exj_code exj_registry_open(const exj_registry_options *o, exj_registry **ret, exj_err *err);
/* The same with folders only: everything in process. */
exj_code exj_registry_new(const char *const *dirs, const char *private_dir,
                          exj_registry **ret, exj_err *err);
void exj_registry_free(exj_registry *r); /* destroys instances; leaves libraries mapped */

/* By plugin id ("exellix.stub"), file name with or without ".so", or a path (contains
 * '/'). Loads at first use. `kind`: EXJ_KIND_*; a plugin of another kind is EXJ_INVALID
 * naming both. EXJ_NOT_FOUND lists the directories searched and the names found there.
 * The guest is held until exj_guest_release: what is held is never swept. */
exj_code exj_registry_find(exj_registry *r, const char *name, uint32_t kind,
                           exj_guest **ret, exj_err *err);
/* On a lane of the caller's choice. EXJ_REFUSED: plugins that must not run there. */
exj_code exj_registry_find_lane(exj_registry *r, const char *name, uint32_t kind,
                                exj_lane lane, exj_guest **ret, exj_err *err);
void exj_guest_release(exj_guest *g); /* accepts NULL */

/* How the file at `path` is called as long as it is there: absolute, without "." and "//", and
 * links not followed: who turns a link over changes the content of the same plugin. Owned;
 * NULL: no such file, or no memory (errno). */
char *exj_plugin_source(const char *path);

/* The plugins of a bundle that is part of this program: judged as a file's are, called in
 * process for ever (they are trusted as the program is), found by id or by `name` (1..64 of
 * [A-Za-z0-9._-]; copied). The bundle is borrowed until the registry is freed.
 * Errors: EXJ_INVALID (names the plugin and what is wrong), EXJ_CONFLICT (name or id taken),
 * EXJ_NOMEM. */
exj_code exj_registry_add_static(exj_registry *r, const char *name, const exj_bundle *b,
                                 exj_err *err);

/* ---- generations ------------------------------------------------------------------------ */
typedef enum exj_gen_state {
    EXJ_GEN_TRIAL,    /* loaded beside the current one; nobody finds it */
    EXJ_GEN_CANARY,   /* has a share of the rows */
    EXJ_GEN_CURRENT,  /* what finding gives */
    EXJ_GEN_DRAINING, /* was current; what runs on it ends */
    EXJ_GEN_PINNED,   /* drained, but cannot be unmapped */
    EXJ_GEN_RETIRED   /* gone */
} exj_gen_state;
const char *exj_gen_word(exj_gen_state s);

/* Load the content that `path` (NULL: the source of `current`) has now as a new generation on
 * `lane` (DEFAULT: current's), and give its plugin of the same id and kind, held. Two callers
 * get the same generation of the same content. Errors: EXJ_CONFLICT (it is the content of
 * `current`), EXJ_INVALID (refused; or it has no such plugin any more), EXJ_REFUSED (not
 * trusted, quarantined), EXJ_FULL (EXJ_PINNED_MAX), EXJ_BUSY (it is being written), EXJ_IO,
 * EXJ_NOMEM. */
exj_code exj_guest_candidate(exj_guest *current, const char *path, exj_lane lane,
                             exj_guest **ret, exj_err *err);
void exj_guest_set_state(exj_guest *g, exj_gen_state s); /* of its generation; CURRENT publishes:
                                                            the one before becomes DRAINING */
/* The current generations of the file at `path` (one a lane), each by its first plugin, held.
 * Returns how many, at most `room`. */
size_t exj_registry_hold_current(exj_registry *r, const char *path, exj_guest **ret,
                                 size_t room);
bool exj_registry_has_hosts(const exj_registry *r); /* other lanes than IN_PROCESS */
/* Drop every generation that is not current and that nobody holds or uses any more. Returns
 * how many went; `visit` (may be NULL) is told of each before. Not while a call of it runs. */
typedef struct exj_guest_info exj_guest_info;
uint32_t exj_registry_sweep(exj_registry *r,
                            void (*visit)(void *user, const exj_guest_info *i), void *user);
/* Generations that stay mapped for ever. When there are EXJ_PINNED_MAX of them, nothing new is
 * loaded in process: a candidate is EXJ_FULL, other lanes go on. */
#define EXJ_PINNED_MAX 32u
uint32_t exj_registry_pinned(exj_registry *r);

/* What was measured of one plugin of one generation. Times in ns. */
typedef struct exj_guest_stats {
    uint64_t calls, errors, crashes;
    uint64_t p50_ns, p99_ns; /* within 12.5 %; 0: no call yet */
} exj_guest_stats;
void exj_guest_look(const exj_guest *g, exj_guest_stats *ret);
/* Count one call that ended after `ns`. */
void exj_guest_count(exj_guest *g, int64_t ns, bool failed, bool crashed);

struct exj_guest_info {
    const char *path, *id, *version, *sha256;
    uint32_t kind, flags, abi_minor;
    exj_slice describe;
    const char *error; /* not NULL: the file was refused, and why; id etc. are then "" */
    /* of a loaded one */
    bool loaded;
    uint64_t generation;
    exj_lane lane;
    exj_gen_state state;
    uint32_t uses; /* instances */
    const char *copy; /* the private copy: what runs, whatever has become of the file */
    exj_guest_stats stats;
};
/* Visit every .so of the directories, and every generation of it; then what else is loaded: by
 * its path, or from a file that is gone. `load` false: only probe (no
 * code runs; id, version and describe are empty unless it is loaded already). */
exj_code exj_registry_each(exj_registry *r, bool load,
                           bool (*visit)(void *user, const exj_guest_info *i), void *user,
                           exj_err *err);
void exj_guest_describe(const exj_guest *g, exj_guest_info *ret);

/* ---- instances and calls -------------------------------------------------------------- */
/* [control] `config`: JSON text. Errors carry plugin id, version and what error() said. */
exj_code exj_instance_new(exj_guest *g, exj_slice config, exj_instance **ret, exj_err *err);
void exj_instance_free(exj_instance *i); /* waits for pending calls and host threads */
exj_guest *exj_instance_guest(exj_instance *i);

/* One number of extension "exellix.metrics/1". Texts are borrowed. */
typedef enum exj_sample_kind {
    EXJ_SAMPLE_COUNTER = 1, /* add `value`; finite, 0 or more */
    EXJ_SAMPLE_GAUGE,       /* set to `value`; finite */
    EXJ_SAMPLE_SECONDS      /* observe `value`; finite, 0 or more */
} exj_sample_kind;
typedef struct exj_plugin_sample {
    exj_slice plugin; /* id of the plugin whose call it is */
    exj_sample_kind kind;
    exj_slice series; /* checked: `name` or `name{a="x",b="y"}`, labels in order */
    double value;
} exj_plugin_sample;

/* What a call needs from its caller; called on whatever thread the plugin uses. */
typedef struct exj_call_ports {
    void *user;
    /* A record or page end of a resolver, or an engine's answer. NULL: the host keeps the
     * (single) emission in ret->answer. Return EXJ_R_OK, EXJ_R_CANCELLED, EXJ_R_INPUT. */
    exj_result (*emit)(void *user, exj_slice json);
    int32_t (*cancelled)(void *user);                             /* may be NULL */
    void (*progress)(void *user, double at, exj_slice note);      /* may be NULL */
    exj_code (*step_get)(void *user, exj_slice key, exj_buf *ret, exj_err *err);   /* may be NULL */
    exj_code (*step_put)(void *user, exj_slice key, exj_slice body, exj_err *err); /* may be NULL */
    exj_code (*step_begin)(void *user, exj_slice key, exj_err *err);               /* may be NULL */
    /* The extensions (core/plugin/extension.c), each may be NULL: not offered. Keys, values
     * and series have been checked. Writes of kv: EXJ_FENCED, EXJ_REFUSED (the graph's room
     * is used up), EXJ_INVALID (kv_add: no integer, or the sum does not fit); get and remove:
     * EXJ_NOT_FOUND. metric: EXJ_INVALID (of another kind), EXJ_REFUSED (too many series). */
    exj_code (*kv_get)(void *user, exj_slice key, exj_buf *ret, exj_err *err);
    exj_code (*kv_put)(void *user, exj_slice key, exj_slice json, exj_err *err);
    exj_code (*kv_remove)(void *user, exj_slice key, exj_err *err);
    exj_code (*kv_add)(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err);
    exj_code (*metric)(void *user, const exj_plugin_sample *m, exj_err *err);
} exj_call_ports;

/* Results beside those of the ABI; only the core's own lanes give them. */
#define EXJ_R_CRASHED 64     /* the plugin host died with this call in it */
#define EXJ_R_NOT_STARTED 65 /* the plugin may not run now; nothing happened */

/* How a call ended. */
typedef struct exj_call_end {
    exj_result result;
    exj_slice answer; /* what was emitted; empty: nothing. Lives in the slot. */
    uint32_t emits;   /* how often emit was accepted or tried */
    exj_slice error_code, error_text; /* what error() said last; lives in the slot */
} exj_call_end;

/* A slot holds one call's buffers and is used over and over: no allocation per call once
 * warm. Answers over `answer_max` bytes are refused (EXJ_R_INPUT) and the call fails with
 * code AnswerTooLarge. */
exj_code exj_call_slot_new(size_t answer_max, exj_call_slot **ret, exj_err *err);
void exj_call_slot_free(exj_call_slot *s); /* not while a call is in it */

/* Run execute. Returns true when the call ended and *ret is filled; false when it is
 * PENDING: `done` runs exactly once later, on a thread of the plugin's, and until then slot,
 * args' texts, ports and user must stay. `done` may be NULL: then PENDING is waited for.
 * After the end every use of the call by the plugin is refused, logged as
 * plugin-misbehaves with id and version, and counted. */
bool exj_call_run(exj_instance *i, exj_call_slot *s, const exj_args *args,
                  const exj_call_ports *ports, exj_call_end *ret,
                  void (*done)(void *user, exj_call_slot *s, const exj_call_end *end));
/* The cancel hint, if the plugin has one; safe when the call is over. [any] */
void exj_call_cancel(exj_call_slot *s);
/* Model from the plugin's resolver. EXJ_NOT_FOUND: it has none or answered MISS. */
exj_code exj_instance_model(exj_instance *i, exj_slice graph_id, exj_buf *ret, exj_err *err);
/* The plugin's own test. EXJ_NOT_FOUND: it has none; EXJ_INVALID: it failed, and says why. */
exj_code exj_instance_self_test(exj_instance *i, exj_err *err);
/* The same; `cancelled` (as in exj_call_ports) ends it, in another process by force. */
exj_code exj_instance_self_test_until(exj_instance *i, int32_t (*cancelled)(void *user),
                                      void *user, exj_err *err);
/* State from an old generation to a new one [control, idle]. Save appends to *ret; it is
 * cancelled after 10 s, for rows wait meanwhile.
 * EXJ_NOT_FOUND: it has no such function; EXJ_INVALID: it refused. */
exj_code exj_instance_save_state(exj_instance *i, exj_buf *ret, exj_err *err);
exj_code exj_instance_load_state(exj_instance *i, uint32_t from_version, exj_slice state,
                                 exj_err *err);
uint32_t exj_guest_state_version(const exj_guest *g);
bool exj_guest_saves_state(const exj_guest *g); /* has save_state */
/* May a host of it be started now? EXJ_REFUSED says why not (quarantine). */
exj_code exj_guest_may_start(const exj_guest *g, exj_err *err);

/* How often plugins were caught misbehaving since start, for metrics. */
uint64_t exj_plugin_misdeeds(void);

#endif /* EXJ_CORE_PLUGIN_PLUGIN_H */
