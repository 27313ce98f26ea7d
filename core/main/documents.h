/* core/main/documents.h - config documents as people keep them: a file, a folder of *.json
 * (*.ndjson, *.jsonl), or standard input. What may be in them: core/embed/documents.h.
 */
#ifndef EXJ_CORE_MAIN_DOCUMENTS_H
#define EXJ_CORE_MAIN_DOCUMENTS_H

#include "core/embed/documents.h"

/* Read and check them all; each mistake goes to `tell` ("a.json#2: …") and counts.
 * Errors: EXJ_INVALID (mistakes were told), EXJ_NOT_FOUND, EXJ_IO, EXJ_NOMEM (in err). */
exj_code exj_input_docs_read(const char *from, exj_input_docs *ret,
                             void (*tell)(void *user, const char *line), void *user,
                             exj_err *err);

#endif /* EXJ_CORE_MAIN_DOCUMENTS_H */
