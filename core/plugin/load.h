/* core/plugin/load.h - from a file on disk to guests: copy, probe, dlopen, judge.
 *
 * Threads: none of its own; the registry serialises.
 */
#ifndef EXJ_CORE_PLUGIN_LOAD_H
#define EXJ_CORE_PLUGIN_LOAD_H

#include <sys/stat.h>

#include "core/plugin/guest.h"

#define EXJ_BUNDLE_MAX 64u

/* One content of one file on one lane: a generation (plugin.h). */
typedef struct exj_plugin_file {
    char *source; /* owned; exj_plugin_source */
    struct stat seen;
    exj_probe probe;
    exj_lane lane;
    uint64_t number;    /* 0: not loaded */
    exj_gen_state state; /* guarded by the registry's lock, as are holds and uses */
    unsigned holds, uses;
    bool loaded;
    bool closable;      /* dlclose leaves nothing behind */
    bool is_static;     /* no file: a bundle of the program, `source` is its name */
    char *copy;         /* owned */
    void *library;      /* what dlopen gave; NULL on other lanes */
    char *error;        /* owned; not NULL: refused, and why */
    exj_code error_code;
    exj_guest *guests;  /* owned; `guests_len` of them; never move once loaded */
    size_t guests_len;
    struct exj_plugin_file *next;
} exj_plugin_file;

/* Make a copy of `from` in `private_dir` under a name built with *generation (raised with
 * every use) and probe it: f->probe, seen, copy, number. Nothing of f changes on failure.
 * Errors: EXJ_INVALID (refused), EXJ_IO, EXJ_BUSY (it is being written), EXJ_NOMEM. */
exj_code exj_plugin_file_copy(exj_plugin_file *f, const char *from, const char *private_dir,
                              uint64_t *generation, exj_err *err);
/* Load the copy on f->lane and fill f->guests. `remote`: for the other lanes than IN_PROCESS.
 * Errors: EXJ_INVALID (refused), EXJ_IO, EXJ_NOMEM. */
exj_code exj_plugin_file_load(exj_plugin_file *f, exj_registry *owner,
                              const exj_remote_settings *remote, exj_err *err);
/* The same without a copy: `copy` is one already, `shown` names it in messages. The plugin
 * host's way in; `owner` NULL: its instances are in no list. */
exj_code exj_plugin_file_adopt(exj_plugin_file *f, const char *copy, const char *shown,
                               exj_err *err);
void exj_plugin_file_free(exj_plugin_file *f);

/* Judge the bundle that an entry returned and fill f->guests and f->probe (from `probe`).
 * Errors: EXJ_INVALID (names f->source), EXJ_NOMEM; nothing of f changes then. */
exj_code exj_plugin_file_take(exj_plugin_file *f, exj_registry *owner, const exj_probe *probe,
                              const exj_bundle *b, exj_err *err);

/* Put a loaded file among those of the registry, which owns it then.
 * Errors: EXJ_CONFLICT (its name or an id of it is taken); it stays the caller's. */
exj_code exj_registry_adopt(exj_registry *r, exj_plugin_file *f, exj_err *err);

/* The file at `path` of a registry, loaded; for who needs all its guests. */
exj_code exj_registry_open_file(exj_registry *r, const char *path, exj_plugin_file **ret,
                                exj_err *err);

/* Is this the name of a private copy? */
bool exj_is_copy_name(const char *name);

/* "exellix.stub", "graph engine" and the like, for messages. */
const char *exj_kind_name(uint32_t kind);

#endif /* EXJ_CORE_PLUGIN_LOAD_H */
