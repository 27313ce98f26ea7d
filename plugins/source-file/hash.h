/* plugins/source-file/hash.h - SHA-256 (FIPS 180-4): ids of lines, and whether a file is still the
 * one that it was. Threads: no state. */
#ifndef EXJ_PLUGINS_SOURCE_FILE_HASH_H
#define EXJ_PLUGINS_SOURCE_FILE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct exj_src_hash {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
} exj_src_hash;

void exj_src_hash_begin(exj_src_hash *s);
void exj_src_hash_add(exj_src_hash *s, const void *p, size_t n);
/* The first `digits` (up to 64, even) hexadecimal digits, and a NUL. */
void exj_src_hash_end(exj_src_hash *s, size_t digits, char *ret);

#endif /* EXJ_PLUGINS_SOURCE_FILE_HASH_H */
