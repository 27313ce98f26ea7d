/* core/main/documents.h - config documents as people keep them: a file, a folder of *.json
 * (*.ndjson, *.jsonl), or standard input; in it one object, an array, NDJSON, or
 * {"kind","items"}. An object with graphId is a graph, with matrixCatalogId a matrix.
 */
#ifndef EXJ_CORE_MAIN_DOCUMENTS_H
#define EXJ_CORE_MAIN_DOCUMENTS_H

#include "core/base/json.h"
#include "core/store/store.h"

typedef struct exj_input_doc {
    char *where; /* owned; "a.json", "a.json#2" */
    char *id;    /* owned */
    char *text;  /* owned; JSON */
    exj_doc_kind kind;
} exj_input_doc;

typedef struct exj_input_docs {
    exj_input_doc *items; /* graphs first, so that no matrix names what is not there yet */
    size_t len, cap;
} exj_input_docs;

/* Read and check them all; each mistake goes to `tell` ("a.json#2: …") and counts.
 * Errors: EXJ_INVALID (mistakes were told), EXJ_NOT_FOUND, EXJ_IO, EXJ_NOMEM (in err). */
exj_code exj_input_docs_read(const char *from, exj_input_docs *ret,
                             void (*tell)(void *user, const char *line), void *user,
                             exj_err *err);
void exj_input_docs_release(exj_input_docs *d);

#endif /* EXJ_CORE_MAIN_DOCUMENTS_H */
