/*
 * Threads that look up, insert, hold, drop and pin at once in one small cache: a block found is always the block asked for, and stays so
 * while it is held. Exit 0: so it was.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/thread.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/cache.h"

#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 4, ROUNDS = 60000, HELD = 24, OFFSETS = 300, BLOCK_LEN = 1500 };

static struct kv_cache *cache;

static struct kv_block *block_make(uint64_t id, uint64_t offset)
{
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    uint8_t payload[BLOCK_LEN] = {0};
    kv_put_fixed64(payload, id);
    kv_put_fixed64(payload + BLOCK_LEN - 8, offset);
    KV_ASSERT(kv_block_store(kv_slice_of(payload, sizeof payload), KV_CODEC_PLAIN, 0, NULL, offset,
                             &stored) == KV_OK);
    KV_ASSERT(kv_block_open_bytes(stored.data, stored.len, 0, NULL, offset, &block) == KV_OK);
    return block;
}

struct held {
    struct kv_block *block;
    uint64_t id, offset;
};

static void held_check(const struct held *held)
{
    if (!held->block)
        return;
    KV_ASSERT(kv_get_fixed64(held->block->bytes.data) == held->id);
    KV_ASSERT(kv_get_fixed64(held->block->bytes.data + BLOCK_LEN - 8) == held->offset);
}

static void run(void *ctx)
{
    struct kv_prng prng;
    struct held held[HELD] = {{0}};
    kv_prng_init(&prng, (uint64_t)(uintptr_t)ctx);
    for (int i = 0; i < ROUNDS; i++) {
        struct held *h = &held[kv_prng_below(&prng, HELD)];
        held_check(h);
        kv_block_unref(h->block);
        h->id = 1 + kv_prng_below(&prng, 4);
        h->offset = kv_prng_below(&prng, OFFSETS);
        h->block = kv_cache_lookup(cache, h->id, h->offset);
        if (!h->block)
            h->block = kv_cache_insert(cache, h->id, h->offset, block_make(h->id, h->offset));
        if (i % 64 == 0)
            kv_block_unref(kv_block_ref(h->block));
        if (i % 1000 == 0)
            kv_cache_drop(cache, 1 + kv_prng_below(&prng, 4));
        if (i % 100 == 0 && kv_cache_pin(cache, 5000, false))
            kv_cache_unpin(cache, 5000);
        held_check(h);
    }
    for (int i = 0; i < HELD; i++) {
        held_check(&held[i]);
        kv_block_unref(held[i].block);
    }
}

int main(void)
{
    kv_thread threads[THREADS] = {{0}};
    KV_ASSERT(kv_cache_new(512 << 10, &cache) == KV_OK);
    for (uintptr_t i = 0; i < THREADS; i++)
        KV_ASSERT(kv_thread_start(&threads[i], "cache", 0, run, (void *)(i + 1)) == KV_OK);
    for (int i = 0; i < THREADS; i++)
        kv_thread_join(&threads[i]);
    struct kv_cache_stats stats;
    kv_cache_stats(cache, &stats);
    KV_ASSERT(stats.bytes_pinned == 0);
    KV_ASSERT(stats.evictions > 0 && stats.hits > 0);
    for (uint64_t id = 1; id <= 4; id++)
        kv_cache_drop(cache, id);
    kv_cache_stats(cache, &stats);
    KV_ASSERT(stats.blocks == 0 && stats.bytes_used == 0);
    kv_cache_free(cache);
    printf("%llu hits, %llu misses, %llu evictions\n", (unsigned long long)stats.hits,
           (unsigned long long)stats.misses, (unsigned long long)stats.evictions);
    return 0;
}
