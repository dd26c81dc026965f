#include "kvcore/base/arena.h"
#include "kvcore/base/mem.h"

#include <stdarg.h>
#include <stdio.h>

enum { ARENA_BLOCK_MIN = 4096, ARENA_BLOCK_MAX = 1 << 20, ARENA_ALIGN = 16 };

struct kv_arena_block {
    struct kv_arena_block *next;
    size_t size;
};

_Static_assert(sizeof(struct kv_arena_block) % ARENA_ALIGN == 0, "blocks keep the alignment");

static bool arena_grow(struct kv_arena *arena, size_t size)
{
    size_t want = arena->blocks ? arena->blocks->size * 2 : ARENA_BLOCK_MIN;
    size_t most = arena->large ? KV_LARGE_PAGE : ARENA_BLOCK_MAX;
    if (want > most)
        want = most;
    if (want < size + sizeof(struct kv_arena_block))
        want = size + sizeof(struct kv_arena_block);
    if (arena->max && (want > arena->max || arena->used > arena->max - want)) {
        want = size + sizeof(struct kv_arena_block);
        if (want > arena->max || arena->used > arena->max - want)
            return false;
    }
    struct kv_arena_block *block = want == KV_LARGE_PAGE ? kv_alloc_large(want) : kv_alloc(want);
    if (!block)
        return false;
    *block = (struct kv_arena_block){.next = arena->blocks, .size = want};
    arena->blocks = block;
    arena->used += want;
    arena->at = (uint8_t *)(block + 1);
    arena->end = (uint8_t *)block + want;
    return true;
}

void *kv_arena_alloc(struct kv_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if ((size_t)(arena->end - arena->at) < size && !arena_grow(arena, size))
        return NULL;
    void *memory = arena->at;
    arena->at += size;
    return memory;
}

void *kv_arena_zalloc(struct kv_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *memory = kv_arena_alloc(arena, bytes);
    if (memory && bytes)
        memset(memory, 0, bytes);
    return memory;
}

kv_slice kv_arena_copy(struct kv_arena *arena, kv_slice bytes)
{
    uint8_t *copy = kv_arena_alloc(arena, bytes.len + 1);
    if (!copy)
        return (kv_slice){NULL, 0};
    if (bytes.len)
        memcpy(copy, bytes.data, bytes.len);
    copy[bytes.len] = 0;
    return kv_slice_of(copy, bytes.len);
}

char *kv_arena_printf(struct kv_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : kv_arena_alloc(arena, (size_t)n + 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

void kv_arena_release(struct kv_arena *arena)
{
    while (arena->blocks) {
        struct kv_arena_block *next = arena->blocks->next;
        kv_free(arena->blocks);
        arena->blocks = next;
    }
    *arena = (struct kv_arena){.max = arena->max, .large = arena->large};
}
