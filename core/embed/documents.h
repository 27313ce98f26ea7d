/* core/embed/documents.h - config documents in a text: one object, an array, NDJSON, or
 * {"kind","items"}. An object with graphId is a graph, with matrixCatalogId a matrix, with
 * scheduleId a schedule.
 */
#ifndef EXJ_CORE_EMBED_DOCUMENTS_H
#define EXJ_CORE_EMBED_DOCUMENTS_H

#include "core/base/json.h"
#include "core/store/store.h"

typedef struct exj_input_doc {
    char *where; /* owned; "a.json", "a.json#2" */
    char *id;    /* owned */
    char *text;  /* owned; JSON */
    exj_doc_kind kind;
} exj_input_doc;

typedef struct exj_input_docs {
    exj_input_doc *items; /* graphs, matrices, schedules: none names what is not there yet */
    size_t len, cap;
} exj_input_docs;

/* Read and check what is in `text` and put it among those of `d`; `where` names it. Each
 * mistake goes to `tell` ("a.json#2: …").
 * Errors: EXJ_INVALID (mistakes were told; err is untouched), EXJ_NOMEM (in err). */
exj_code exj_input_docs_take(exj_input_docs *d, const char *where, exj_slice text,
                             void (*tell)(void *user, const char *line), void *user,
                             exj_err *err);
/* "/configs/graphs/" */
const char *exj_input_doc_path(exj_doc_kind kind);
void exj_input_docs_release(exj_input_docs *d);

#endif /* EXJ_CORE_EMBED_DOCUMENTS_H */
