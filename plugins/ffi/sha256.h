/* plugins/ffi/sha256.h - SHA-256 (FIPS 180-4) of bytes and files. Threads: no state. */
#ifndef EXJ_PLUGINS_FFI_SHA256_H
#define EXJ_PLUGINS_FFI_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct exj_ffi_sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
} exj_ffi_sha256;

void exj_ffi_sha256_init(exj_ffi_sha256 *s);
void exj_ffi_sha256_add(exj_ffi_sha256 *s, const void *p, size_t n);
void exj_ffi_sha256_hex(exj_ffi_sha256 *s, char ret[65]); /* ends it */
/* What is read from fd, from where it stands to its end. False: errno. */
bool exj_ffi_sha256_fd(int fd, char ret[65]);

#endif /* EXJ_PLUGINS_FFI_SHA256_H */
