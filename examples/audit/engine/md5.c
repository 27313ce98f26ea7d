#include "md5.h"

#include <string.h>

#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define G(x, y, z) ((y) ^ ((z) & ((x) ^ (y))))
#define H(x, y, z) ((x) ^ (y) ^ (z))
#define I(x, y, z) ((y) ^ ((x) | ~(z)))
#define STEP(f, a, b, c, d, k, t, s)                                                      \
    do {                                                                                  \
        (a) += f((b), (c), (d)) + x[k] + (uint32_t)(t);                                   \
        (a) = ROTATE((a), (s)) + (b);                                                     \
    } while (0)
/* Four steps: the words turn round once. */
#define FOUR(f, k0, k1, k2, k3, t0, t1, t2, t3, s0, s1, s2, s3)                           \
    STEP(f, a, b, c, d, k0, t0, s0);                                                      \
    STEP(f, d, a, b, c, k1, t1, s1);                                                      \
    STEP(f, c, d, a, b, k2, t2, s2);                                                      \
    STEP(f, b, c, d, a, k3, t3, s3)

static void add_blocks(struct md5 *m, const unsigned char *p, size_t blocks)
{
    uint32_t a, b, c, d, x[16];
    int i;

    for (; blocks > 0; blocks--, p += 64) {
        for (i = 0; i < 16; i++)
            x[i] = (uint32_t)p[i * 4] | (uint32_t)p[i * 4 + 1] << 8 |
                   (uint32_t)p[i * 4 + 2] << 16 | (uint32_t)p[i * 4 + 3] << 24;
        a = m->state[0];
        b = m->state[1];
        c = m->state[2];
        d = m->state[3];

        FOUR(F, 0, 1, 2, 3, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 7, 12, 17, 22);
        FOUR(F, 4, 5, 6, 7, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 7, 12, 17, 22);
        FOUR(F, 8, 9, 10, 11, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 7, 12, 17, 22);
        FOUR(F, 12, 13, 14, 15, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 7, 12, 17, 22);

        FOUR(G, 1, 6, 11, 0, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 5, 9, 14, 20);
        FOUR(G, 5, 10, 15, 4, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 5, 9, 14, 20);
        FOUR(G, 9, 14, 3, 8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 5, 9, 14, 20);
        FOUR(G, 13, 2, 7, 12, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 5, 9, 14, 20);

        FOUR(H, 5, 8, 11, 14, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 4, 11, 16, 23);
        FOUR(H, 1, 4, 7, 10, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 4, 11, 16, 23);
        FOUR(H, 13, 0, 3, 6, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 4, 11, 16, 23);
        FOUR(H, 9, 12, 15, 2, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 4, 11, 16, 23);

        FOUR(I, 0, 7, 14, 5, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 6, 10, 15, 21);
        FOUR(I, 12, 3, 10, 1, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1, 6, 10, 15, 21);
        FOUR(I, 8, 15, 6, 13, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 6, 10, 15, 21);
        FOUR(I, 4, 11, 2, 9, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391, 6, 10, 15, 21);

        m->state[0] += a;
        m->state[1] += b;
        m->state[2] += c;
        m->state[3] += d;
    }
}

void md5_init(struct md5 *m)
{
    *m = (struct md5){ .state = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 } };
}

void md5_add(struct md5 *m, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t waiting = (size_t)(m->bytes % 64), part;

    m->bytes += n;
    if (waiting > 0) {
        part = n < 64 - waiting ? n : 64 - waiting;
        memcpy(m->rest + waiting, p, part);
        p += part;
        n -= part;
        if (waiting + part < 64)
            return;
        add_blocks(m, m->rest, 1);
    }
    add_blocks(m, p, n / 64);
    memcpy(m->rest, p + n / 64 * 64, n % 64);
}

void md5_end(struct md5 *m, char ret[33])
{
    static const unsigned char padding[64] = { 0x80 };
    static const char hex[] = "0123456789abcdef";
    uint64_t bits = m->bytes * 8;
    size_t waiting = (size_t)(m->bytes % 64), i;
    unsigned char tail[8];

    for (i = 0; i < 8; i++)
        tail[i] = (unsigned char)(bits >> 8 * i);
    md5_add(m, padding, waiting < 56 ? 56 - waiting : 120 - waiting);
    md5_add(m, tail, sizeof(tail));
    for (i = 0; i < 16; i++) {
        unsigned byte = m->state[i / 4] >> 8 * (i % 4) & 0xff;

        ret[i * 2] = hex[byte >> 4];
        ret[i * 2 + 1] = hex[byte & 15];
    }
    ret[32] = '\0';
}
