#include "kvcore/base/hash.h"

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <xxhash.h>
#pragma GCC diagnostic pop

_Static_assert(KV_HASH_SECRET_LEN == XXH3_SECRET_DEFAULT_SIZE, "a whole secret");

uint64_t kv_hash64(kv_slice bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.len, seed);
}

kv_hash128 kv_hash128_of(kv_slice bytes, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(bytes.data, bytes.len, seed);
    return (kv_hash128){h.low64, h.high64};
}

kv_hash128 kv_hash128_keyed(kv_slice bytes, const uint8_t secret[KV_HASH_SECRET_LEN])
{
    XXH128_hash_t h = XXH3_128bits_withSecret(bytes.data, bytes.len, secret, KV_HASH_SECRET_LEN);
    return (kv_hash128){h.low64, h.high64};
}

void kv_hash_secret(kv_slice key, uint8_t secret[KV_HASH_SECRET_LEN])
{
    XXH3_generateSecret(secret, KV_HASH_SECRET_LEN, key.data, key.len);
}
