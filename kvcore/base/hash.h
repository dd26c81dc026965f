/*
 * hash.h - XXH3 (xxHash 0.8) behind our names: 64 and 128 bits, seeded or keyed by a secret. Not
 * cryptographic by itself; keyed by a secret of the database it resists crafted collisions well enough for
 * tables. Any thread.
 */
#ifndef KV_HASH_H
#define KV_HASH_H

#include "kvcore/base/slice.h"

enum { KV_HASH_SECRET_LEN = 192 };

typedef struct kv_hash128 {
    uint64_t low, high;
} kv_hash128;

uint64_t kv_hash64(kv_slice bytes, uint64_t seed);
kv_hash128 kv_hash128_of(kv_slice bytes, uint64_t seed);
/* secret: KV_HASH_SECRET_LEN bytes made by kv_hash_secret. */
kv_hash128 kv_hash128_keyed(kv_slice bytes, const uint8_t secret[KV_HASH_SECRET_LEN]);
/* Stretches key (any length, at least 16 random bytes to be of use) to a secret. */
void kv_hash_secret(kv_slice key, uint8_t secret[KV_HASH_SECRET_LEN]);

static inline bool kv_hash128_equal(kv_hash128 a, kv_hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
