/* core/plugin/shelf_inside.h - what the files of the shelf share; nobody else's. */
#ifndef EXJ_CORE_PLUGIN_SHELF_INSIDE_H
#define EXJ_CORE_PLUGIN_SHELF_INSIDE_H

#include <pthread.h>
#include <sys/stat.h>

#include "core/plugin/shelf.h"

#define EXJ_SHELF_FILE_MAX (16u * 1024u * 1024u)
#define EXJ_SHELF_COPY_MAX (256u * 1024u * 1024u)
#define EXJ_SHELF_QUARANTINED_MAX 1024u
#define EXJ_SHELF_ID_MAX 80u /* three bytes each still fit into a file name */

/* A file that is read whole and replaced whole. Guarded by the shelf's mu. */
typedef struct exj_shelf_doc {
    const char *name;
    int fd;          /* the file that `root` came from, held open so that its inode is not
                        used again and another file cannot look like it; -1: none */
    struct stat was; /* of it */
    json_t *root;    /* owned; NULL: not read */
    char *text;      /* owned; `trusted` only: the lines as they are, with comments */
    /* Make root (and text) from what the file holds; EXJ_CORRUPT with line or member. */
    exj_code (*parse)(struct exj_shelf_doc *d, exj_slice text, exj_err *err);
} exj_shelf_doc;

struct exj_shelf {
    char *folder; /* owned; NULL: memory only. Set at the start, as are the next four. */
    int dir, kept_dir, history_dir, lock;
    exj_shelf_config config;
    pthread_mutex_t mu;
    exj_shelf_doc trusted, quarantine, pins, kept; /* guarded by mu */
    json_t *history; /* guarded by mu: {ID: [events]} without a folder, else
                        {ID: {"lines","bytes"}} as of our last append */
};

/* Take the mutex; `change`: the lock of the folder too. Then bring `d` (may be NULL) up to
 * date. On failure nothing is held. */
exj_code exj_shelf_enter(exj_shelf *s, bool change, exj_shelf_doc *d, exj_err *err);
/* Bring another document up to date; enter has been called. */
exj_code exj_shelf_refresh(exj_shelf *s, exj_shelf_doc *d, exj_err *err);
/* Give back what enter took. */
void exj_shelf_leave(exj_shelf *s, bool change);
/* Write d->root (d->text, if there is one). On failure it is read again at its next use. */
exj_code exj_shelf_save(exj_shelf *s, exj_shelf_doc *d, exj_err *err);
/* Forget what was read: after a change that could not be finished in memory. */
exj_code exj_shelf_undo(exj_shelf *s, exj_shelf_doc *d, exj_err *err);

/* Write `name` in `dir` whole: temporary file, fsync, rename, fsync of the folder. */
exj_code exj_shelf_replace(const exj_shelf *s, int dir, const char *name, exj_slice text,
                           exj_err *err);
/* Append what is left of `fd` from its beginning to b. EXJ_INVALID over `most`. */
exj_code exj_shelf_read_fd(int fd, const char *shown, size_t most, exj_buf *b, exj_err *err);

/* A new string of printable UTF-8, at most `most` bytes; lines stay lines when `lines`. */
json_t *exj_shelf_text(const char *text, size_t most, bool lines);
exj_code exj_shelf_check_sha(const char *sha256, exj_err *err);
exj_code exj_shelf_check_id(const char *id, exj_err *err);

/* The parsers, each beside what it reads. */
exj_code exj_shelf_parse_trusted(exj_shelf_doc *d, exj_slice text, exj_err *err);
exj_code exj_shelf_parse_quarantine(exj_shelf_doc *d, exj_slice text, exj_err *err);
exj_code exj_shelf_parse_pins(exj_shelf_doc *d, exj_slice text, exj_err *err);
exj_code exj_shelf_parse_kept(exj_shelf_doc *d, exj_slice text, exj_err *err);
/* The root of a JSON document of version 1. *ret is NULL when the text is empty: then the
 * parser makes what it calls empty. */
exj_code exj_shelf_parse_root(const exj_shelf_doc *d, exj_slice text, json_t **ret,
                              exj_err *err);
/* Is `o` an object whose members `names` (NULL-terminated) are of the types `types`: 's'
 * string, 'i' integer? EXJ_CORRUPT names document, place and member. */
exj_code exj_shelf_check_entry(const exj_shelf_doc *d, const char *place, const json_t *o,
                               const char *const *names, const char *types, exj_err *err);
exj_code exj_shelf_no_memory(exj_err *err);

/* Kept copies as the pins need them; mu is held. Owned path or NULL. */
char *exj_shelf_path_locked(exj_shelf *s, const char *sha256);
#endif /* EXJ_CORE_PLUGIN_SHELF_INSIDE_H */
