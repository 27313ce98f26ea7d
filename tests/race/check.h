/* tests/race/check.h - what the plain programs share: an assertion and a document. */
#ifndef EXJ_TESTS_RACE_CHECK_H
#define EXJ_TESTS_RACE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "core/store/store.h"

/* `err` is the nearest exj_err of that name. */
#define CHECK(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold: %s\n", __FILE__, __LINE__, #what,   \
                    err.text);                                                            \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

static inline void put(exj_store *s, exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    CHECK(exj_store_do(s, &op, &err) == EXJ_OK);
}

#endif /* EXJ_TESTS_RACE_CHECK_H */
