#include "hash.h"

#include <string.h>

static const uint32_t round_words[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static uint32_t turn(uint32_t x, unsigned by)
{
    return x >> by | x << (32 - by);
}

static void mix(exj_src_hash *s)
{
    uint32_t w[64], v[8];

    for (size_t k = 0; k < 16; k++)
        w[k] = (uint32_t)s->block[4 * k] << 24 | (uint32_t)s->block[4 * k + 1] << 16 |
               (uint32_t)s->block[4 * k + 2] << 8 | s->block[4 * k + 3];
    for (size_t k = 16; k < 64; k++)
        w[k] = w[k - 16] + w[k - 7] +
               (turn(w[k - 15], 7) ^ turn(w[k - 15], 18) ^ w[k - 15] >> 3) +
               (turn(w[k - 2], 17) ^ turn(w[k - 2], 19) ^ w[k - 2] >> 10);
    memcpy(v, s->h, sizeof v);
    for (size_t k = 0; k < 64; k++) {
        /* v[j] of the standard stands at (j - k) mod 8: nothing is moved */
        uint32_t *h = &v[(7 - k) & 7], *d = &v[(3 - k) & 7];
        uint32_t x = v[(0 - k) & 7], y = v[(1 - k) & 7], z = v[(2 - k) & 7];
        uint32_t e = v[(4 - k) & 7], f = v[(5 - k) & 7], g = v[(6 - k) & 7];
        uint32_t t = *h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) +
                     round_words[k] + w[k];

        *d += t;
        *h = t + (turn(x, 2) ^ turn(x, 13) ^ turn(x, 22)) + ((x & y) ^ (x & z) ^ (y & z));
    }
    for (size_t k = 0; k < 8; k++)
        s->h[k] += v[k];
}

void exj_src_hash_begin(exj_src_hash *s)
{
    static const uint32_t first[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

    memcpy(s->h, first, sizeof first);
    s->bytes = 0;
}

void exj_src_hash_add(exj_src_hash *s, const void *p, size_t n)
{
    const unsigned char *from = p;

    while (n) {
        size_t at = s->bytes % 64, part = n < 64 - at ? n : 64 - at;

        memcpy(s->block + at, from, part);
        s->bytes += part;
        from += part;
        n -= part;
        if (s->bytes % 64 == 0)
            mix(s);
    }
}

void exj_src_hash_end(exj_src_hash *s, size_t digits, char *ret)
{
    static const unsigned char pad[64] = { 0x80 };
    static const char hex[] = "0123456789abcdef";
    uint64_t bits = s->bytes * 8;
    unsigned char length[8];

    for (size_t k = 0; k < 8; k++)
        length[k] = (unsigned char)(bits >> (56 - 8 * k));
    exj_src_hash_add(s, pad, s->bytes % 64 < 56 ? 56 - s->bytes % 64 : 120 - s->bytes % 64);
    exj_src_hash_add(s, length, sizeof length);
    for (size_t k = 0; k < digits; k++)
        ret[k] = hex[s->h[k / 8] >> (28 - 4 * (k % 8)) & 15];
    ret[digits] = '\0';
}
