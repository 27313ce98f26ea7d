/* examples/audit/engine/md5.h - MD5 (RFC 1321), because that is what dpkg records. It
 * tells a changed file from an unchanged one; it is no proof against a forger. */
#ifndef AUDIT_MD5_H
#define AUDIT_MD5_H

#include <stddef.h>
#include <stdint.h>

struct md5 {
    uint32_t state[4];
    uint64_t bytes;
    unsigned char rest[64]; /* the first bytes % 64 are waiting */
};

void md5_init(struct md5 *m);
void md5_add(struct md5 *m, const void *data, size_t n);
/* 32 lower-case hex digits and NUL. */
void md5_end(struct md5 *m, char ret[33]);

#endif /* AUDIT_MD5_H */
