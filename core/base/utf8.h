/* core/base/utf8.h - one character of UTF-8 at a time; inline for the JSON scanner. */
#ifndef EXJ_CORE_BASE_UTF8_H
#define EXJ_CORE_BASE_UTF8_H

#include "core/base/types.h"

/* Bytes of the well-formed character at `at`, of which `n` may be read; 0 when there is
 * none (cut short, overlong, a surrogate, beyond U+10FFFF). A NUL counts as a character. */
static inline unsigned exj_utf8_len(const char *at, size_t n)
{
    const unsigned char *p = (const unsigned char *)at;

    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < 2 || (p[1] & 0xc0) != 0x80)
        return 0;
    if (p[0] < 0xe0)
        return 2;
    if (n < 3 || (p[2] & 0xc0) != 0x80)
        return 0;
    if (p[0] < 0xf0) {
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
            return 0;
        return 3;
    }
    if (n < 4 || (p[3] & 0xc0) != 0x80)
        return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return 4;
}

#endif /* EXJ_CORE_BASE_UTF8_H */
