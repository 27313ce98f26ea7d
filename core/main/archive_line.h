/* core/main/archive_line.h - one line of an archive, read.
 *
 * {"format":1,"row":{…},"input":…,"result":…,"steps":{KEY:result,…}}; "row" has the rest, with the
 * steps' and failed attempts' facts and the journal. What `archive` wrote is read as it was; of a
 * line from elsewhere every number and name is inside what a row may have, or the line is refused.
 *
 * Memory:  texts point into the line, which is borrowed until release.
 * Threads: functions only; no state.
 */
#ifndef EXJ_CORE_MAIN_ARCHIVE_LINE_H
#define EXJ_CORE_MAIN_ARCHIVE_LINE_H

#include "core/base/json.h"
#include "core/store/store.h"

#define EXJ_ARCHIVE_DEPTH (2 * EXJ_JSON_MAX_DEPTH) /* of a line, which holds whole documents */

typedef struct exj_archive_line {
    exj_archived row;
    exj_slice matrix, run, graph;
    json_t *facts; /* owned; what the texts of `row` point into */
} exj_archive_line;

#define EXJ_ARCHIVE_LINE_INIT { .facts = NULL }

/* Release *ret also after an error. Errors: EXJ_INVALID (names the member), EXJ_NOMEM. */
exj_code exj_archive_line_parse(exj_slice line, exj_archive_line *ret, exj_err *err);
void exj_archive_line_release(exj_archive_line *l);

#endif /* EXJ_CORE_MAIN_ARCHIVE_LINE_H */
