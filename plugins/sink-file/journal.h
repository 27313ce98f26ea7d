/* plugins/sink-file/journal.h - a file of lines that only grows, and what it was before.
 *
 * NAME, NAME.1 (the one before), NAME.2, … A line is there when append has returned true: it
 * was written and fsynced, and so was the name of a new file. Whatever fails half-way is cut
 * off again; what a crash left half-written is cut off when the file is next opened, because
 * nobody was told that it was kept.
 *
 * The file is opened, locked (flock) and looked at anew for each append: several writers, and
 * somebody who renames it, do no harm.
 *
 * Threads: no state but the struct, which is read-only after init.
 */
#ifndef EXJ_PLUGINS_SINK_FILE_JOURNAL_H
#define EXJ_PLUGINS_SINK_FILE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXJ_FILE_WHY_BYTES 400

typedef struct exj_file_journal {
    char *path;        /* owned; absolute */
    int64_t max_bytes; /* a file of more is set aside first; 0: never */
    unsigned keep;     /* how many that were set aside stay: 1 or more */
} exj_file_journal;

/* Can it be opened, and is what it holds ours? A torn last line is cut off. False: `why`. */
bool exj_file_journal_look(const exj_file_journal *j, char why[EXJ_FILE_WHY_BYTES]);
/* All lines of `text` (each with its '\n'), or none of them: false, `why`. */
bool exj_file_journal_append(const exj_file_journal *j, const char *text, size_t n,
                             char why[EXJ_FILE_WHY_BYTES]);

#endif /* EXJ_PLUGINS_SINK_FILE_JOURNAL_H */
