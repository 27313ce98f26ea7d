/* core/plugin/shelf.h - what this machine remembers of its plugins: which contents are
 * trusted, which crash, which are pinned, what happened, and a copy of what ran before.
 *
 * Folder (mode 0700, files 0600):
 *   trusted              lines "SHA256 DATE NAME"; '#' begins a comment line
 *   quarantine.json      {"version":1,"crashes":[...],"quarantined":[...]}
 *   pins.json            {"version":1,"pins":{ID:{"sha256","at"}}}
 *   kept.json            {"version":1,"kept":{SHA256:{"family","at","bytes"}}}
 *   kept/SHA256.so       copies
 *   history/ID.ndjson    one event a line, oldest first
 *   lock                 held while something is changed
 *
 * Files are replaced whole: a temporary file, fsync, rename, fsync of the folder. The
 * history is appended to without fsync: a power cut may take its last lines, nothing else.
 * A file that another process changed (a command beside the daemon) is read again before
 * it is used; changes are made under the lock, so none is lost. A file that does not parse
 * is an error that names it and its line, never an empty answer.
 *
 * A NULL folder keeps everything in memory, but copies. Ids are 1 to 80 bytes of UTF-8.
 *
 * Memory:  json_t results are new references; texts passed in are copied.
 * Threads: all calls from any thread; one mutex inside, held during disk access.
 */
#ifndef EXJ_CORE_PLUGIN_SHELF_H
#define EXJ_CORE_PLUGIN_SHELF_H

#include "core/base/json.h"

typedef struct exj_shelf exj_shelf;

typedef struct exj_shelf_config {
    unsigned crashes;    /* K; 0: 5; at most EXJ_SHELF_K_MAX */
    exj_msec within_ms;  /* T; 0: 60,000 */
} exj_shelf_config;

#define EXJ_SHELF_K_MAX 32u
#define EXJ_SHELF_TRUSTED_MAX 4096u     /* lines */
#define EXJ_SHELF_CRASHES_MAX 256u      /* over all contents; the oldest go first */
#define EXJ_SHELF_BACKTRACE_MAX 4096u   /* bytes; the rest is cut */
#define EXJ_SHELF_HISTORY_MAX 1000u     /* lines per id */
#define EXJ_SHELF_KEPT_MAX 1024u        /* copies */

/* `folder` is made, with the folders above it. `config` may be NULL.
 * Errors: EXJ_IO, EXJ_NOMEM, EXJ_INVALID (too large a K), EXJ_REFUSED (the folder is not
 * ours, or others may write to it). */
exj_code exj_shelf_new(const char *folder, const exj_shelf_config *config, exj_shelf **ret,
                       exj_err *err);
void exj_shelf_free(exj_shelf *s);

/* 64 lower-case hexadecimal digits? */
bool exj_is_sha256(const char *text);

/* Instants are milliseconds since the epoch, in calls as in answers ("at"). */

/* ---- trust ------------------------------------------------------------------------------ */
/* `name`: what a person reads, 1..200 printable characters. Adding what is there renews date
 * and name. Errors: EXJ_INVALID (sha256 or name; or the file, with the line number),
 * EXJ_FULL, EXJ_IO, EXJ_NOMEM. */
exj_code exj_shelf_trust_add(exj_shelf *s, const char *sha256, const char *name, exj_msec now,
                             exj_err *err);
exj_code exj_shelf_trust_remove(exj_shelf *s, const char *sha256, exj_err *err); /* EXJ_NOT_FOUND */
/* On any error *ret is false: what cannot be read is not trusted. */
exj_code exj_shelf_trust_has(exj_shelf *s, const char *sha256, bool *ret, exj_err *err);
/* [{"sha256","date","name"}] */
exj_code exj_shelf_trust_list(exj_shelf *s, json_t **ret, exj_err *err);

/* ---- quarantine ------------------------------------------------------------------------- */
/* The rule, pure: is there a run of `k` of these instants, in any order, that fits into
 * `within_ms`? */
bool exj_crash_rule(const exj_msec *at, size_t n, unsigned k, exj_msec within_ms);

typedef struct exj_shelf_crash {
    const char *sha256, *id, *version;
    const char *signal;     /* "SIGSEGV"; "" when it ended otherwise */
    const char *backtrace;  /* may be NULL */
    exj_msec at;
} exj_shelf_crash;

/* Keep a crash. *ret_quarantined (may be NULL): its content is in quarantine now.
 * Errors: EXJ_INVALID, EXJ_IO, EXJ_NOMEM. */
exj_code exj_shelf_crash_add(exj_shelf *s, const exj_shelf_crash *c, bool *ret_quarantined,
                             exj_err *err);
/* Put aside by hand, or for a failure of another kind. */
exj_code exj_shelf_quarantine(exj_shelf *s, const char *sha256, const char *id,
                              const char *version, const char *why, exj_msec now, exj_err *err);
/* *ret_why (may be NULL): owned text, or NULL. An error answers true: when the list cannot
 * be read nothing is known to be safe. */
exj_code exj_shelf_is_quarantined(exj_shelf *s, const char *sha256, bool *ret, char **ret_why,
                                  exj_err *err);
/* [{"sha256","id","version","at","why","crashes":[{"at","signal","version","backtrace"}]}] */
exj_code exj_shelf_quarantine_list(exj_shelf *s, json_t **ret, exj_err *err);
/* By content or by plugin id; its crashes are forgotten. *ret_count (may be NULL): contents
 * released. Errors: EXJ_NOT_FOUND, EXJ_IO, EXJ_NOMEM. */
exj_code exj_shelf_release(exj_shelf *s, const char *sha256_or_id, size_t *ret_count,
                           exj_err *err);

/* ---- pins ------------------------------------------------------------------------------- */
exj_code exj_shelf_pin(exj_shelf *s, const char *id, const char *sha256, exj_msec now,
                       exj_err *err);
exj_code exj_shelf_unpin(exj_shelf *s, const char *id, exj_err *err); /* EXJ_NOT_FOUND */
/* ret_sha256[0] is 0 when the id is not pinned; so it is on errors. */
exj_code exj_shelf_pinned(exj_shelf *s, const char *id, char ret_sha256[65], exj_err *err);
/* [{"id","sha256","at","path"}]; path is null when no copy is kept. */
exj_code exj_shelf_pins(exj_shelf *s, json_t **ret, exj_err *err);

/* ---- history ---------------------------------------------------------------------------- */
typedef enum exj_plugin_event {
    EXJ_PE_LOADED, EXJ_PE_REFUSED, EXJ_PE_TRIAL, EXJ_PE_CANARY, EXJ_PE_CURRENT,
    EXJ_PE_ROLLED_BACK, EXJ_PE_DRAINED, EXJ_PE_RETIRED, EXJ_PE_PINNED, EXJ_PE_UNPINNED,
    EXJ_PE_QUARANTINED, EXJ_PE_RELEASED
} exj_plugin_event;
const char *exj_plugin_event_word(exj_plugin_event e); /* "loaded" ... "rolled-back" ... */

typedef struct exj_shelf_event {
    exj_msec at;
    const char *id;       /* of the plugin; a file without one: its name */
    const char *version, *sha256; /* NULL: "" */
    uint64_t generation;
    exj_plugin_event event;
    const char *why;      /* NULL: "" ; cut at 1000 bytes */
    json_t *details;      /* borrowed; NULL: none; dropped when over 4000 bytes */
} exj_shelf_event;

exj_code exj_shelf_history_add(exj_shelf *s, const exj_shelf_event *e, exj_err *err);
/* [{"at","id","version","sha256","generation","event","why","details"?}], newest first, at
 * most `limit` (0: all). An id without history gives []. Lines that do not parse (cut by a
 * power failure) are left out. */
exj_code exj_shelf_history(exj_shelf *s, const char *id, size_t limit, json_t **ret,
                           exj_err *err);

/* ---- kept copies ------------------------------------------------------------------------ */
/* Copy the file, unless that content is kept already. `family` groups the versions of one
 * plugin for pruning: an id or a file name. Errors: EXJ_CONFLICT (the content is not
 * `sha256`), EXJ_FULL, EXJ_UNSUPPORTED (no folder), EXJ_IO, EXJ_NOMEM, EXJ_INVALID. */
exj_code exj_shelf_keep(exj_shelf *s, const char *file, const char *sha256, const char *family,
                        exj_msec now, exj_err *err);
/* Owned path, NULL when it is not kept (and on lack of memory). Who loads it judges its
 * content as that of any file: a disk may have lost some of it. */
char *exj_shelf_path_of(exj_shelf *s, const char *sha256);
/* [{"sha256","family","at","bytes","path"}], newest first. */
exj_code exj_shelf_kept(exj_shelf *s, json_t **ret, exj_err *err);
/* Of each family keep the `newest` ones and those that are pinned; remove the others. */
exj_code exj_shelf_prune(exj_shelf *s, unsigned newest, size_t *ret_removed, exj_err *err);

#endif /* EXJ_CORE_PLUGIN_SHELF_H */
