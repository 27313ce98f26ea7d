#include "tests/support/chaos_wire.h"

#include <string.h>

enum { OP_QUERY = 2004, OP_MSG = 2013 };

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

size_t exj_wire_length(const uint8_t *p, size_t n)
{
    uint32_t length;

    if (n < 4)
        return 0;
    length = u32(p);
    return length < EXJ_WIRE_HEADER || length > EXJ_WIRE_MAX ? SIZE_MAX : length;
}

uint32_t exj_wire_id(const uint8_t *p)
{
    return u32(p + 4);
}

uint32_t exj_wire_reply_to(const uint8_t *p)
{
    return u32(p + 8);
}

/* The first key of a document of at most n bytes: length, type, name, NUL. */
static void first_key(const uint8_t *doc, size_t n, char ret[static 32])
{
    size_t length = n > 5 ? strnlen((const char *)doc + 5, n - 5) : 0;

    if (length > 0 && length < 32 && length < n - 5) {
        memcpy(ret, doc + 5, length);
        ret[length] = '\0';
    }
}

void exj_wire_command(const uint8_t *p, size_t n, char ret[static 32])
{
    uint32_t op;
    size_t at = EXJ_WIRE_HEADER + 4; /* past the flags */

    ret[0] = '\0';
    if (n < at)
        return;
    op = u32(p + 12);
    if (op == OP_QUERY) {
        at +=
            strnlen((const char *)p + at, n - at) + 1 + 8; /* collection, skip, return */
        if (at < n)
            first_key(p + at, n - at, ret);
        return;
    }
    while (op == OP_MSG && at + 5 <= n) {
        uint8_t kind = p[at++];
        uint32_t length = u32(p + at);

        if (kind == 0) {
            first_key(p + at, n - at, ret);
            return;
        }
        if (length < 4 || length > n - at)
            return;
        at += length; /* a sequence of documents */
    }
}
