/*
 * prng.h - seeded randomness (xoshiro256**, Blackman and Vigna 2018; seeded by splitmix64), so that a failing
 * seed replays exactly. Not for secrets: those come from kv_clock's entropy. One thread at a time.
 */
#ifndef KV_PRNG_H
#define KV_PRNG_H

#include <stdint.h>

struct kv_prng {
    uint64_t s[4];
};

static inline void kv_prng_init(struct kv_prng *prng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        prng->s[i] = z ^ (z >> 31);
    }
}

static inline uint64_t kv_prng_next(struct kv_prng *prng)
{
    uint64_t *s = prng->s;
    uint64_t x = s[1] * 5;
    uint64_t result = ((x << 7) | (x >> 57)) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in [0, n), n > 0 (multiply-shift; its bias is below 2^-64 * n). */
static inline uint64_t kv_prng_below(struct kv_prng *prng, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)kv_prng_next(prng) * n) >> 64);
}

/* Uniform in [0, 1), 53 bits. */
static inline double kv_prng_unit(struct kv_prng *prng)
{
    return (double)(kv_prng_next(prng) >> 11) * 0x1.0p-53;
}

#endif
