/* core/base/sha256.h - SHA-256 (FIPS 180-4), for the identity of files and values.
 *
 * Not for secrets: comparing is the caller's business. Threads: no shared state.
 */
#ifndef EXJ_CORE_BASE_SHA256_H
#define EXJ_CORE_BASE_SHA256_H

#include "core/base/types.h"

typedef struct exj_sha256 {
    uint32_t h[8];
    uint64_t bytes;            /* seen so far */
    unsigned char block[64];   /* the last bytes % 64, not yet mixed in */
} exj_sha256;

void exj_sha256_init(exj_sha256 *s);
void exj_sha256_update(exj_sha256 *s, const void *p, size_t n);
/* `s` must be initialised anew before its next use. */
void exj_sha256_final(exj_sha256 *s, unsigned char ret[32]);
/* 64 lower-case hexadecimal digits and a NUL. */
void exj_sha256_final_hex(exj_sha256 *s, char ret[65]);
/* All at once. */
void exj_sha256_hex(const void *p, size_t n, char ret[65]);

#endif /* EXJ_CORE_BASE_SHA256_H */
