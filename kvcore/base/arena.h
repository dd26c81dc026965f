/*
 * arena.h - bulk lifetimes: allocate often, free once. One per request, query, memtable or parse.
 *
 * {0} is a valid empty arena without a maximum; kv_arena_init sets one. Memory is 16-aligned.
 * Threads    one at a time.
 * Failure    NULL past the maximum or when the heap is empty.
 */
#ifndef KV_ARENA_H
#define KV_ARENA_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct kv_arena_block;
struct kv_arena {
    struct kv_arena_block *blocks; /* newest first */
    uint8_t *at, *end;             /* free part of the newest block */
    size_t used;                   /* bytes taken from the heap, for memory accounts */
    size_t max;                    /* 0: none */
    bool large; /* grows by large pages once it is large: for much memory read in random order */
};

static inline void kv_arena_init(struct kv_arena *arena, size_t max)
{
    *arena = (struct kv_arena){.max = max};
}
KV_MUST void *kv_arena_alloc(struct kv_arena *arena, size_t size); /* contents undefined */
KV_MUST void *kv_arena_zalloc(struct kv_arena *arena, size_t count, size_t size);
/* A copy with a NUL behind it, not counted in the returned length; data is NULL on failure. */
KV_MUST kv_slice kv_arena_copy(struct kv_arena *arena, kv_slice bytes);
KV_MUST char *kv_arena_printf(struct kv_arena *arena, const char *format, ...) KV_PRINTF(2, 3);
void kv_arena_release(struct kv_arena *arena); /* frees everything; the arena is empty again, same maximum */

#endif
