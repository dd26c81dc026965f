#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/cache.h"
#include "kvcore/sst/format.h"
#include "tests/support/sst_kit.h"

#include <criterion/criterion.h>

/* A block of plain bytes that says who it is. */
static struct kv_block *block_of(uint64_t id, uint64_t offset, size_t len)
{
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    uint8_t *payload = kv_zalloc(1, len);
    kv_put_fixed64(payload, id);
    kv_put_fixed64(payload + 8, offset);
    cr_assert_eq(kv_block_store(kv_slice_of(payload, len), KV_CODEC_PLAIN, 0, NULL, offset, &stored), KV_OK);
    kv_free(payload);
    cr_assert_eq(kv_block_open_bytes(stored.data, stored.len, 0, NULL, offset, &block),
                 KV_OK); /* takes it over */
    return block;
}

static bool block_is(const struct kv_block *block, uint64_t id, uint64_t offset)
{
    return kv_get_fixed64(block->bytes.data) == id && kv_get_fixed64(block->bytes.data + 8) == offset;
}

Test(cache, finds_what_was_put_in_and_nothing_else)
{
    struct kv_cache *cache = NULL;
    cr_assert_eq(kv_cache_new(4 << 20, &cache), KV_OK);
    uint64_t a = kv_cache_new_id(cache), b = kv_cache_new_id(cache);
    cr_assert_neq(a, b);
    for (uint64_t i = 0; i < 200; i++)
        kv_block_unref(kv_cache_insert(cache, a, i * 4096, block_of(a, i * 4096, 1000)));
    for (uint64_t i = 0; i < 200; i++) {
        struct kv_block *block = kv_cache_lookup(cache, a, i * 4096);
        cr_assert(block && block_is(block, a, i * 4096));
        kv_block_unref(block);
        cr_assert_null(kv_cache_lookup(cache, b, i * 4096));
        cr_assert_null(kv_cache_lookup(cache, a, i * 4096 + 1));
    }
    struct kv_cache_stats stats;
    kv_cache_stats(cache, &stats);
    cr_assert_eq(stats.hits, 200);
    cr_assert_eq(stats.misses, 400);
    cr_assert_eq(stats.blocks, 200);
    cr_assert_gt(stats.bytes_used, 200 * 1000);
    kv_cache_drop(cache, a);
    kv_cache_stats(cache, &stats);
    cr_assert_eq(stats.blocks, 0);
    cr_assert_eq(stats.bytes_used, 0);
    kv_cache_free(cache);
}

Test(cache, stays_within_its_budget)
{
    struct kv_cache *cache = NULL;
    struct kv_cache_stats stats;
    cr_assert_eq(kv_cache_new(1 << 20, &cache), KV_OK);
    for (uint64_t i = 0; i < 20000; i++) {
        kv_block_unref(kv_cache_insert(cache, 1, i, block_of(1, i, 16 + i % 5000)));
        kv_cache_stats(cache, &stats);
        cr_assert_leq(stats.bytes_used, stats.bytes_max + 8192);
    }
    cr_assert_gt(stats.bytes_used, stats.bytes_max / 2, "it is used, too");
    cr_assert_gt(stats.evictions, 10000);
    kv_cache_free(cache);
}

Test(cache, keeps_what_is_used_when_a_scan_passes_through)
{
    struct kv_cache *cache = NULL;
    cr_assert_eq(kv_cache_new(1 << 20, &cache), KV_OK);
    for (uint64_t i = 0; i < 20; i++)
        kv_block_unref(kv_cache_insert(cache, 1, i, block_of(1, i, 4000)));
    int kept = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        kv_block_unref(kv_cache_insert(cache, 2, i, block_of(2, i, 4000)));
        kv_block_unref(kv_cache_lookup(cache, 1, i % 20));
    }
    for (uint64_t i = 0; i < 20; i++) {
        struct kv_block *block = kv_cache_lookup(cache, 1, i);
        kept += block != NULL;
        kv_block_unref(block);
    }
    cr_assert_geq(kept, 18);
    kv_cache_free(cache);
}

Test(cache, a_held_block_outlives_the_pressure)
{
    struct kv_cache *cache = NULL;
    struct kv_block *held[64];
    cr_assert_eq(kv_cache_new(256 << 10, &cache), KV_OK);
    for (uint64_t i = 0; i < 64; i++)
        held[i] = kv_cache_insert(cache, 1, i, block_of(1, i, 20000)); /* five times the budget */
    for (uint64_t i = 0; i < 3000; i++)
        kv_block_unref(kv_cache_insert(cache, 2, i, block_of(2, i, 3000)));
    kv_cache_drop(cache, 1);
    for (uint64_t i = 0; i < 64; i++) {
        cr_assert(block_is(held[i], 1, i));
        kv_block_unref(kv_block_ref(held[i]));
        kv_block_unref(held[i]);
    }
    for (uint64_t i = 0; i < 3000; i++)
        kv_block_unref(kv_cache_insert(cache, 3, i, block_of(3, i, 3000)));
    struct kv_cache_stats stats;
    kv_cache_stats(cache, &stats);
    cr_assert_leq(stats.bytes_used, stats.bytes_max + 4096);
    kv_cache_free(cache);
}

Test(cache, the_first_of_two_equal_inserts_stays)
{
    struct kv_cache *cache = NULL;
    cr_assert_eq(kv_cache_new(1 << 20, &cache), KV_OK);
    struct kv_block *first = kv_cache_insert(cache, 1, 2, block_of(1, 2, 100));
    struct kv_block *second = kv_cache_insert(cache, 1, 2, block_of(1, 2, 100));
    cr_assert_eq(first, second);
    kv_block_unref(first);
    kv_block_unref(second);
    kv_cache_free(cache);
}

Test(cache, a_block_too_large_for_it_lives_outside)
{
    struct kv_cache *cache = NULL;
    cr_assert_eq(kv_cache_new(64 << 10, &cache), KV_OK);
    struct kv_block *block = kv_cache_insert(cache, 1, 2, block_of(1, 2, 60000));
    cr_assert(block_is(block, 1, 2));
    cr_assert_null(kv_cache_lookup(cache, 1, 2));
    kv_block_unref(block);
    kv_cache_free(cache);
}

Test(cache, pinned_bytes_count_and_have_a_limit)
{
    struct kv_cache *cache = NULL;
    struct kv_cache_stats stats;
    cr_assert_eq(kv_cache_new(1 << 20, &cache), KV_OK);
    for (uint64_t i = 0; i < 400; i++)
        kv_block_unref(kv_cache_insert(cache, 1, i, block_of(1, i, 2500)));
    cr_assert(kv_cache_pin(cache, 500 << 10, false));
    cr_assert_not(kv_cache_pin(cache, 500 << 10, false));
    kv_cache_stats(cache, &stats);
    cr_assert_eq(stats.bytes_pinned, 500 << 10);
    cr_assert_leq(stats.bytes_used, stats.bytes_max + 4096, "blocks made room");
    cr_assert(kv_cache_pin(cache, 2 << 20, true));
    kv_cache_unpin(cache, 2 << 20);
    kv_cache_unpin(cache, 500 << 10);
    kv_cache_stats(cache, &stats);
    cr_assert_eq(stats.bytes_pinned, 0);
    kv_cache_free(cache);
}

Test(cache, a_failed_allocation_at_birth_is_reported)
{
    for (uint64_t nth = 1; nth <= 3; nth++) {
        struct kv_cache *cache = NULL;
        sst_malloc_fail_nth(nth);
        cr_assert_eq(kv_cache_new(1 << 20, &cache), KV_NO_MEMORY);
        sst_malloc_fail_nth(0);
    }
    struct kv_cache *tiny = NULL;
    cr_assert_eq(kv_cache_new(0, &tiny), KV_OK);
    kv_block_unref(kv_cache_insert(tiny, 1, 1, block_of(1, 1, 100)));
    kv_cache_free(tiny);
    kv_cache_free(NULL);
}
