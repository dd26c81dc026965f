/*
 * Slots stand in sets of 16; a block's hash names its set, and 16 tags of a set fill one line of memory. A
 * slot's `meta` is a count of references and the bit VISIBLE. Readers only ever add one and take it back. A
 * slot changes its content only while it is not visible and its shard's mutex is held; it becomes invisible
 * only by swapping exactly "visible, no references" for 0, so whoever added a reference and saw VISIBLE owns
 * what the slot holds until it takes the reference back. A reader that comes too early or too late sees no
 * VISIBLE, takes its one back, and has missed.
 */
#include "kvcore/sst/cache.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "kvcore/sst/block.h"

enum {
    CACHE_WAYS = 16,
    CACHE_SHARDS_MAX = 16,
    CACHE_BLOCK_BYTES_EXPECTED =
        2048, /* one slot for that much budget: half of what blocks usually are, so sets rarely fill */
    CACHE_SCAN_SLOTS = 64,    /* of one shard before the hand moves on to the next */
    CACHE_SHRINK_SHARDS = 64, /* visits an insert makes at most */
};
#define CACHE_VISIBLE ((uint32_t)1 << 31)

struct kv_cache_slot {
    _Atomic uint32_t meta;
    _Atomic uint8_t used; /* since the hand last passed */
    uint64_t id, offset;
    struct kv_block *block;
};

struct cache_set {
    _Atomic uint32_t tags[CACHE_WAYS]; /* 0: nothing there */
};

struct cache_shard {
    _Alignas(64) kv_mutex mutex;
    size_t hand; /* slot, relative to the shard's first */
    size_t turn; /* the way a full set is searched from: another each time, or the newest block would always
                    be the one to go */
    _Alignas(64) _Atomic uint64_t hits;
    _Atomic uint64_t misses;
};

struct kv_cache {
    struct cache_shard shards[CACHE_SHARDS_MAX];
    size_t n_shards;
    size_t n_sets, sets_per_shard;
    struct cache_set *sets;
    struct kv_cache_slot *slots; /* CACHE_WAYS a set */
    uint64_t bytes_most;         /* what its slots were made for */
    _Atomic uint64_t bytes_max;
    _Atomic uint64_t bytes_used, bytes_pinned, blocks, evictions, next_id;
    _Atomic size_t next_shard;
};

static inline uint64_t cache_hash(uint64_t id, uint64_t offset)
{
    uint64_t h = (id + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ offset;
    h = (h ^ (h >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    return (h ^ (h >> 32)) * UINT64_C(0xd6e8feb86659fd93);
}
static inline size_t cache_set_of(const struct kv_cache *cache, uint64_t hash)
{
    return (size_t)((hash >> 32) * cache->n_sets >> 32);
}
static inline uint32_t cache_tag_of(uint64_t hash)
{
    return (uint32_t)hash | 1;
}

kv_status kv_cache_new(uint64_t bytes_max, struct kv_cache **out)
{
    size_t sets = (size_t)(bytes_max / (CACHE_BLOCK_BYTES_EXPECTED * CACHE_WAYS));
    size_t shards = 1;
    while (shards < CACHE_SHARDS_MAX && sets / (shards * 2) >= 16)
        shards *= 2;
    sets = sets < shards ? shards : sets - sets % shards;
    struct kv_cache *cache = kv_alloc_aligned(64, sizeof *cache);
    if (!cache)
        return KV_NO_MEMORY;
    memset(cache, 0, sizeof *cache);
    cache->sets = kv_alloc_aligned(64, sets * sizeof *cache->sets);
    cache->slots = kv_zalloc(sets * CACHE_WAYS, sizeof *cache->slots);
    if (!cache->sets || !cache->slots) {
        kv_free(cache->sets);
        kv_free(cache->slots);
        kv_free(cache);
        return KV_NO_MEMORY;
    }
    memset(cache->sets, 0, sets * sizeof *cache->sets);
    cache->n_shards = shards;
    cache->n_sets = sets;
    cache->sets_per_shard = sets / shards;
    cache->bytes_most = bytes_max;
    cache->bytes_max = bytes_max;
    for (size_t i = 0; i < shards; i++)
        kv_mutex_init(&cache->shards[i].mutex);
    *out = cache;
    return KV_OK;
}

void kv_cache_free(struct kv_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->n_sets * CACHE_WAYS; i++) {
        uint32_t meta = atomic_load(&cache->slots[i].meta);
        KV_ASSERT((meta & ~CACHE_VISIBLE) == 0);
        if (meta)
            kv_block_free(cache->slots[i].block);
    }
    for (size_t i = 0; i < cache->n_shards; i++)
        kv_mutex_release(&cache->shards[i].mutex);
    kv_free(cache->sets);
    kv_free(cache->slots);
    kv_free(cache);
}

uint64_t kv_cache_bytes_max(const struct kv_cache *cache)
{
    return atomic_load_explicit(&cache->bytes_max, memory_order_relaxed);
}

uint64_t kv_cache_bytes_used(const struct kv_cache *cache)
{
    return atomic_load_explicit(&cache->bytes_used, memory_order_relaxed);
}

uint64_t kv_cache_new_id(struct kv_cache *cache)
{
    return atomic_fetch_add(&cache->next_id, 1) + 1;
}

static inline void cache_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Adds a reference if the slot holds that block. */
static inline struct kv_block *cache_slot_take(struct kv_cache_slot *slot, uint64_t id, uint64_t offset)
{
    uint32_t before = atomic_fetch_add_explicit(&slot->meta, 1, memory_order_acquire);
    if (KV_LIKELY((before & CACHE_VISIBLE) && slot->id == id && slot->offset == offset)) {
        kv_block_prefetch(slot->block);
        if (!atomic_load_explicit(&slot->used, memory_order_relaxed))
            atomic_store_explicit(&slot->used, 1, memory_order_relaxed);
        return slot->block;
    }
    atomic_fetch_sub_explicit(&slot->meta, 1, memory_order_release);
    return NULL;
}

struct kv_block *kv_cache_lookup(struct kv_cache *cache, uint64_t id, uint64_t offset)
{
    uint64_t hash = cache_hash(id, offset);
    size_t at = cache_set_of(cache, hash);
    struct cache_set *set = &cache->sets[at];
    struct cache_shard *shard = &cache->shards[at / cache->sets_per_shard];
    uint32_t tag = cache_tag_of(hash);
    for (size_t way = 0; way < CACHE_WAYS; way++) {
        if (atomic_load_explicit(&set->tags[way], memory_order_relaxed) != tag)
            continue;
        struct kv_block *block = cache_slot_take(&cache->slots[at * CACHE_WAYS + way], id, offset);
        if (block) {
            cache_count(&shard->hits);
            return block;
        }
    }
    cache_count(&shard->misses);
    return NULL;
}

/* ---- under a shard's mutex */

/* Empties the slot unless it is held. */
static bool cache_slot_evict(struct kv_cache *cache, size_t at)
{
    struct kv_cache_slot *slot = &cache->slots[at];
    uint32_t unheld = CACHE_VISIBLE;
    if (!atomic_compare_exchange_strong_explicit(&slot->meta, &unheld, 0, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    atomic_store_explicit(&cache->sets[at / CACHE_WAYS].tags[at % CACHE_WAYS], 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&cache->bytes_used, slot->block->charge, memory_order_relaxed);
    atomic_fetch_sub_explicit(&cache->blocks, 1, memory_order_relaxed);
    kv_block_free(slot->block);
    slot->block = NULL;
    return true;
}

/* One step of the hand: second chance for what was used since it last passed. */
static bool cache_slot_pass(struct kv_cache *cache, size_t at)
{
    struct kv_cache_slot *slot = &cache->slots[at];
    if (!(atomic_load_explicit(&slot->meta, memory_order_relaxed) & CACHE_VISIBLE))
        return false;
    if (atomic_load_explicit(&slot->used, memory_order_relaxed)) {
        atomic_store_explicit(&slot->used, 0, memory_order_relaxed);
        return false;
    }
    return cache_slot_evict(cache, at);
}

/* A slot of the set that holds nothing, made if need be; SIZE_MAX when all are held. */
static size_t cache_set_room(struct kv_cache *cache, size_t set)
{
    size_t turn = cache->shards[set / cache->sets_per_shard].turn++;
    for (size_t way = 0; way < CACHE_WAYS; way++)
        if (!(atomic_load_explicit(&cache->slots[set * CACHE_WAYS + way].meta, memory_order_relaxed) &
              CACHE_VISIBLE))
            return set * CACHE_WAYS + way;
    for (size_t i = 0; i < (size_t)2 * CACHE_WAYS; i++) {
        size_t at = set * CACHE_WAYS + (turn + i) % CACHE_WAYS;
        if (cache_slot_pass(cache, at)) {
            atomic_fetch_add_explicit(&cache->evictions, 1, memory_order_relaxed);
            return at;
        }
    }
    return SIZE_MAX;
}

static struct kv_block *cache_set_find(struct kv_cache *cache, size_t set, uint32_t tag, uint64_t id,
                                       uint64_t offset)
{
    for (size_t way = 0; way < CACHE_WAYS; way++) {
        if (atomic_load_explicit(&cache->sets[set].tags[way], memory_order_relaxed) != tag)
            continue;
        struct kv_block *block = cache_slot_take(&cache->slots[set * CACHE_WAYS + way], id, offset);
        if (block)
            return block;
    }
    return NULL;
}

/* ---- inserting */

static void cache_shrink_shard(struct kv_cache *cache, size_t which)
{
    struct cache_shard *shard = &cache->shards[which];
    size_t slots = cache->sets_per_shard * CACHE_WAYS, first = which * slots;
    kv_mutex_lock(&shard->mutex);
    for (int i = 0; i < CACHE_SCAN_SLOTS; i++) {
        if (atomic_load_explicit(&cache->bytes_used, memory_order_relaxed) <= kv_cache_bytes_max(cache))
            break;
        if (cache_slot_pass(cache, first + shard->hand))
            atomic_fetch_add_explicit(&cache->evictions, 1, memory_order_relaxed);
        shard->hand = (shard->hand + 1) % slots;
    }
    kv_mutex_unlock(&shard->mutex);
}

/* So many visits, but passes each slot twice at most: where what is pinned alone is over the budget, there is nothing to
 * be had. */
static void cache_shrink(struct kv_cache *cache, size_t most)
{
    size_t visits = 2 * cache->n_sets * CACHE_WAYS / CACHE_SCAN_SLOTS + cache->n_shards;
    for (size_t i = 0; i < visits && i < most; i++) {
        if (atomic_load_explicit(&cache->bytes_used, memory_order_relaxed) <= kv_cache_bytes_max(cache) ||
            atomic_load_explicit(&cache->blocks, memory_order_relaxed) == 0)
            return;
        size_t which =
            atomic_fetch_add_explicit(&cache->next_shard, 1, memory_order_relaxed) % cache->n_shards;
        cache_shrink_shard(cache, which);
    }
}

void kv_cache_set_bytes(struct kv_cache *cache, uint64_t bytes_max)
{
    bytes_max = bytes_max < cache->bytes_most ? bytes_max : cache->bytes_most;
    atomic_store_explicit(&cache->bytes_max, bytes_max, memory_order_relaxed);
    cache_shrink(cache, SIZE_MAX); /* what was used since the hand last passed goes the second time */
}

static struct kv_block *cache_insert_locked(struct kv_cache *cache, size_t set, uint32_t tag, uint64_t id,
                                            uint64_t offset, struct kv_block *block)
{
    struct kv_block *found = cache_set_find(cache, set, tag, id, offset);
    if (found) {
        kv_block_free(block);
        return found;
    }
    size_t at = cache_set_room(cache, set);
    if (at == SIZE_MAX)
        return block; /* it lives until its reader gives it back */
    struct kv_cache_slot *slot = &cache->slots[at];
    slot->id = id;
    slot->offset = offset;
    slot->block = block;
    block->slot = slot;
    atomic_store_explicit(&slot->used, 0, memory_order_relaxed);
    atomic_store_explicit(&cache->sets[set].tags[at % CACHE_WAYS], tag, memory_order_relaxed);
    atomic_fetch_add_explicit(&cache->bytes_used, block->charge, memory_order_relaxed);
    atomic_fetch_add_explicit(&cache->blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&slot->meta, CACHE_VISIBLE + 1, memory_order_release);
    return block;
}

struct kv_block *kv_cache_insert(struct kv_cache *cache, uint64_t id, uint64_t offset, struct kv_block *block)
{
    KV_ASSERT(!block->slot);
    if (block->charge > kv_cache_bytes_max(cache) / 4)
        return block;
    uint64_t hash = cache_hash(id, offset);
    size_t set = cache_set_of(cache, hash);
    struct cache_shard *shard = &cache->shards[set / cache->sets_per_shard];
    kv_mutex_lock(&shard->mutex);
    block = cache_insert_locked(cache, set, cache_tag_of(hash), id, offset, block);
    kv_mutex_unlock(&shard->mutex);
    cache_shrink(cache, CACHE_SHRINK_SHARDS);
    return block;
}

void kv_cache_drop(struct kv_cache *cache, uint64_t id)
{
    size_t slots = cache->sets_per_shard * CACHE_WAYS;
    for (size_t which = 0; which < cache->n_shards; which++) {
        kv_mutex_lock(&cache->shards[which].mutex);
        for (size_t at = which * slots; at < (which + 1) * slots; at++)
            if (cache->slots[at].block && cache->slots[at].id == id)
                (void)cache_slot_evict(cache, at); /* a held one goes when the hand passes */
        kv_mutex_unlock(&cache->shards[which].mutex);
    }
}

/* ---- what others pin, and counts */

bool kv_cache_pin(struct kv_cache *cache, uint64_t bytes, bool force)
{
    uint64_t pinned = atomic_load_explicit(&cache->bytes_pinned, memory_order_relaxed);
    do {
        if (!force && pinned + bytes > kv_cache_bytes_max(cache) / 2)
            return false;
    } while (!atomic_compare_exchange_weak(&cache->bytes_pinned, &pinned, pinned + bytes));
    atomic_fetch_add_explicit(&cache->bytes_used, bytes, memory_order_relaxed);
    cache_shrink(cache, CACHE_SHRINK_SHARDS);
    return true;
}

void kv_cache_unpin(struct kv_cache *cache, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&cache->bytes_pinned, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&cache->bytes_used, bytes, memory_order_relaxed);
}

void kv_cache_stats(struct kv_cache *cache, struct kv_cache_stats *out)
{
    *out = (struct kv_cache_stats){
        .bytes_max = kv_cache_bytes_max(cache),
        .bytes_used = atomic_load(&cache->bytes_used),
        .bytes_pinned = atomic_load(&cache->bytes_pinned),
        .blocks = atomic_load(&cache->blocks),
        .evictions = atomic_load(&cache->evictions),
    };
    for (size_t i = 0; i < cache->n_shards; i++) {
        out->hits += atomic_load_explicit(&cache->shards[i].hits, memory_order_relaxed);
        out->misses += atomic_load_explicit(&cache->shards[i].misses, memory_order_relaxed);
    }
}

void kv_block_ref_slot(struct kv_cache_slot *slot)
{
    atomic_fetch_add_explicit(&slot->meta, 1, memory_order_relaxed);
}

void kv_block_unref_slot(struct kv_cache_slot *slot)
{
    atomic_fetch_sub_explicit(&slot->meta, 1, memory_order_release);
}
