/* core/plugin/watch.h - notices that plugin files came, changed or went.
 *
 * Truth is what a scan of the directories finds: for every NAME.so the real path, device,
 * inode, size, mtime and ctime. Events of inotify, the poll interval and exj_watch_look
 * only say when to scan. So an event that is lost, misread or never sent (a network file
 * system, a queue that ran over) costs time and nothing else.
 *
 * A file is reported when its identity differs from what was reported last and two looks
 * `quiet_ms` apart found the same: a copy under way is left alone. With the defaults a file
 * is reported at most 400 ms after its last write where events are sent, and within
 * poll_ms + 400 ms where they are not. The content may be the same as before (touch): compare hashes.
 *
 * Watched, as far as there are such: each directory; the folder around it (so that a
 * directory replaced, or made later, is seen at once); the folders that links lead to (a
 * config map's ..data, a link whose target is rewritten). A missing directory is no error.
 *
 * Threads: one thread makes all calls of one watch, but exj_watch_wake and exj_watch_look,
 * which any thread may make until the watch is freed.
 */
#ifndef EXJ_CORE_PLUGIN_WATCH_H
#define EXJ_CORE_PLUGIN_WATCH_H

#include "core/base/err.h"

/* ---- deciding: pure, time comes from the caller ---------------------------------------- */

/* What a file is, seen from outside. All zero: there is none. */
typedef struct exj_file_id {
    uint64_t dev, ino, bytes;
    int64_t mtime_ns, ctime_ns;
    uint64_t real; /* a hash of the real path: a link that leads elsewhere is a change */
} exj_file_id;

typedef enum exj_file_news { EXJ_FILE_NEW, EXJ_FILE_CHANGED, EXJ_FILE_GONE } exj_file_news;
const char *exj_file_news_word(exj_file_news n); /* "new", "changed", "gone" */

typedef struct exj_file_change {
    exj_file_news news;
    char *path;         /* owned: DIRECTORY/NAME.so as it was configured, links not resolved */
    exj_file_id id;     /* all zero when gone */
    exj_nsec noticed;   /* when the first look found it different */
} exj_file_change;

typedef struct exj_file_changes {
    exj_file_change *items; /* owned */
    size_t len;
} exj_file_changes;
void exj_file_changes_release(exj_file_changes *c); /* accepts zeroes */

/* The memory between scans. */
typedef struct exj_notice exj_notice;
exj_code exj_notice_new(exj_nsec quiet_ns, exj_notice **ret, exj_err *err);
void exj_notice_free(exj_notice *n);
/* One scan: begin, see each file that is there, end. Files not seen between the two are
 * gone (a directory that cannot be read right now must be `kept` instead: its files stay
 * as they were). `end` appends what is due to *ret; on EXJ_NOMEM it is due again. */
void exj_notice_begin(exj_notice *n);
exj_code exj_notice_see(exj_notice *n, const char *path, const exj_file_id *id, exj_nsec now,
                        exj_err *err);
void exj_notice_keep(exj_notice *n, const char *directory);
exj_code exj_notice_end(exj_notice *n, exj_nsec now, exj_file_changes *ret, exj_err *err);
/* Take everything seen so far as reported. */
void exj_notice_settle(exj_notice *n);
/* Report `path` anew when it has been quiet, as if it had never been reported. */
void exj_notice_forget(exj_notice *n, const char *path, exj_nsec now);
/* When the next look is due; INT64_MAX: nothing is unsettled. */
exj_nsec exj_notice_due(const exj_notice *n);

/* ---- doing ------------------------------------------------------------------------------ */

typedef struct exj_watch exj_watch;

typedef struct exj_watch_config {
    unsigned quiet_ms;    /* 0: 200 */
    unsigned poll_ms;     /* 0: 5000 */
    bool report_existing; /* what is there at the start is new; else it is known already */
    bool poll_only;       /* no inotify, as if the system had none */
} exj_watch_config;

#define EXJ_WATCH_FILES_MAX 4096u /* per directory; what is beyond is not looked at */

/* `dirs`: NULL-terminated, copied. `config` may be NULL. Without inotify (none left, not
 * permitted) it polls. Errors: EXJ_NOMEM, EXJ_IO (no descriptors left). */
exj_code exj_watch_new(const char *const *dirs, const exj_watch_config *config,
                       exj_watch **ret, exj_err *err);
void exj_watch_free(exj_watch *w);

/* Readable when exj_watch_wait would have something to do. For a poll loop: then call it
 * with timeout 0. */
int exj_watch_fd(const exj_watch *w);

/* Wait until something changed, until `timeout_ms` passed (-1: no limit) or until
 * exj_watch_wake; with the last two *ret is empty. The caller releases *ret.
 * Errors: EXJ_NOMEM, EXJ_IO; nothing is lost, call it again. */
exj_code exj_watch_wait(exj_watch *w, int timeout_ms, exj_file_changes *ret, exj_err *err);

/* [any thread] The wait of now, or the next one, returns at once. Signal-safe. */
void exj_watch_wake(exj_watch *w);
/* [any thread] Scan now, without waiting for an event or the next poll. */
void exj_watch_look(exj_watch *w);

/* Report this file anew after the quiet time: its copy was torn, or a refusal is to be
 * tried again. */
void exj_watch_again(exj_watch *w, const char *path);

typedef struct exj_watch_stats {
    uint64_t scans, events, overflows;
    unsigned files;
    bool polls_only; /* there is no inotify, or one of the directories could not be added */
} exj_watch_stats;
void exj_watch_get_stats(const exj_watch *w, exj_watch_stats *ret);

#endif /* EXJ_CORE_PLUGIN_WATCH_H */
