/* A batch of the journal as it might lie in a damaged file: first and count from the first
 * bytes, the rest is its body. Entries must be in order, inside the batch and inside the bytes,
 * and a row's fold must answer each of them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/sqlite/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile unsigned char sink = 0;
    exj_journal_view view = { 0 };
    exj_journal_entry e;
    exj_events_iter it;
    int64_t first, n, last;
    char *copy;

    if (size < 4)
        return 0;
    first = data[0] & 0x80 ? INT64_MAX - 70000 : 1 + data[0];
    n = data[1] << 8 | data[2];
    copy = malloc(size - 3); /* of exact length: one byte too far is seen */
    if (!copy)
        return 0;
    memcpy(copy, data + 3, size - 3);
    last = first - 1;
    exj_events_iter_init(&it, (exj_slice){ copy, size - 3 }, first, n);
    while (exj_events_iter_next(&it, &e)) {
        exj_err err = { 0 };

        if (e.number <= last || e.number >= first + n || e.previous < 0 ||
            e.previous > e.number || e.kind >= EXJ_ENTRY_COUNT)
            abort();
        last = e.number;
        for (size_t i = 0; i < e.key.n; i++)
            sink = (unsigned char)(sink + (unsigned char)e.key.p[i]);
        for (size_t i = 0; i < e.text.n; i++)
            sink = (unsigned char)(sink + (unsigned char)e.text.p[i]);
        if (exj_journal_apply(&view, &e, &err) != EXJ_OK && !err.text[0])
            abort();
    }
    if (exj_events_iter_next(&it, &e))
        abort(); /* the end stays the end */
    free(copy);
    return 0;
}
