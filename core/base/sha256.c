#include "core/base/sha256.h"

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned by)
{
    return x >> by | x << (32 - by);
}

static void mix(uint32_t h[8], const unsigned char *p)
{
    uint32_t w[64], v[8];

    for (unsigned i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];

        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof(v));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t big1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t big0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        uint32_t t = v[7] + big1 + choice + round_constants[i] + w[i];

        memmove(v + 1, v, 7 * sizeof(v[0]));
        v[4] += t;
        v[0] = t + big0 + majority;
    }
    for (unsigned i = 0; i < 8; i++)
        h[i] += v[i];
}

void exj_sha256_init(exj_sha256 *s)
{
    static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

    memcpy(s->h, start, sizeof(start));
    s->bytes = 0;
}

void exj_sha256_update(exj_sha256 *s, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t held = s->bytes % sizeof(s->block);

    s->bytes += n;
    if (held > 0 && n > 0) {
        size_t take = sizeof(s->block) - held;

        if (take > n)
            take = n;
        memcpy(s->block + held, p, take);
        if (held + take < sizeof(s->block))
            return;
        mix(s->h, s->block);
        p += take;
        n -= take;
    }
    for (; n >= sizeof(s->block); n -= sizeof(s->block), p += sizeof(s->block))
        mix(s->h, p);
    if (n > 0)
        memcpy(s->block, p, n);
}

void exj_sha256_final(exj_sha256 *s, unsigned char ret[32])
{
    static const unsigned char padding[64] = { 0x80 };
    uint64_t bits = s->bytes * 8;
    size_t held = s->bytes % sizeof(s->block);
    unsigned char length[8];

    exj_sha256_update(s, padding, held < 56 ? 56 - held : 120 - held);
    for (unsigned i = 0; i < 8; i++)
        length[i] = (unsigned char)(bits >> (56 - 8 * i));
    exj_sha256_update(s, length, sizeof(length));
    for (unsigned i = 0; i < 32; i++)
        ret[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void exj_sha256_final_hex(exj_sha256 *s, char ret[65])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char sum[32];

    exj_sha256_final(s, sum);
    for (unsigned i = 0; i < 32; i++) {
        ret[2 * i] = hex[sum[i] >> 4];
        ret[2 * i + 1] = hex[sum[i] & 15];
    }
    ret[64] = '\0';
}

void exj_sha256_hex(const void *p, size_t n, char ret[65])
{
    exj_sha256 s;

    exj_sha256_init(&s);
    exj_sha256_update(&s, p, n);
    exj_sha256_final_hex(&s, ret);
}
