/*
 * cache.h - the block cache: decompressed, verified blocks, shared by every database of an environment,
 * bounded by bytes.
 *
 * A hit takes no mutex and moves no list: it reads tags, adds one to a slot's reference count, and marks the
 * slot as used. Misses insert under their shard's mutex; past the budget a clock hand (second chance) drops
 * what nobody holds. What readers hold can push the cache past its budget for as long as they hold it; a
 * block that finds no slot lives outside the cache until it is given back.
 * Threads    any.
 * Ownership  kv_block is counted: lookup and insert give a reference that kv_block_unref takes back. Every
 *            reference must be given back before kv_cache_free.
 * Failure    KV_NO_MEMORY at birth only.
 */
#ifndef KV_CACHE_H
#define KV_CACHE_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct kv_block;
struct kv_cache;

KV_MUST kv_status kv_cache_new(uint64_t bytes_max, struct kv_cache **out);
void kv_cache_free(struct kv_cache *cache); /* NULL is fine */
/* Another budget, at most the one it was made with (more is cut to that): what is over it is dropped now, unless it is
 * held. */
void kv_cache_set_bytes(struct kv_cache *cache, uint64_t bytes_max);
uint64_t kv_cache_bytes_max(const struct kv_cache *cache);
uint64_t kv_cache_bytes_used(const struct kv_cache *cache); /* pinned bytes included */

/* A number that names one opened table in this cache, never used again. */
uint64_t kv_cache_new_id(struct kv_cache *cache);
/* NULL on a miss. */
struct kv_block *kv_cache_lookup(struct kv_cache *cache, uint64_t id, uint64_t offset);
/* Hands over the caller's only reference and gives one back: to the same block, or to the one another thread
 * inserted first. */
struct kv_block *kv_cache_insert(struct kv_cache *cache, uint64_t id, uint64_t offset,
                                 struct kv_block *block);
/* Forgets the blocks of a closed table that nobody holds. */
void kv_cache_drop(struct kv_cache *cache, uint64_t id);

/* Counts bytes pinned elsewhere (top indexes, filters) against the budget. False, and nothing counted, when
 * pinned bytes would pass half of it; force counts them all the same. */
bool kv_cache_pin(struct kv_cache *cache, uint64_t bytes, bool force);
void kv_cache_unpin(struct kv_cache *cache, uint64_t bytes);

struct kv_cache_stats {
    uint64_t bytes_max, bytes_used, bytes_pinned; /* used includes pinned */
    uint64_t blocks;
    uint64_t hits, misses,
        evictions; /* hits and misses are counted without locked instructions: a few may be lost */
};
void kv_cache_stats(struct kv_cache *cache, struct kv_cache_stats *out);

#endif
