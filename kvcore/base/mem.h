/*
 * mem.h - the only door to the heap outside the C library: counted, and failable in tests.
 *
 * Threads    any.
 * Ownership  what kv_alloc/kv_zalloc/kv_realloc/kv_dup return is freed by kv_free.
 * Failure    NULL; the caller reports KV_NO_MEMORY.
 */
#ifndef KV_MEM_H
#define KV_MEM_H

#include "kvcore/base/slice.h"

void *kv_alloc(size_t size);                 /* size 0 gives a valid unique pointer; contents undefined */
void *kv_zalloc(size_t count, size_t size);  /* zeroed array; an overflowing product fails */
void *kv_realloc(void *memory, size_t size); /* memory may be NULL; on failure the old block is untouched */
/* An array with room for `need` items of `size` bytes, at most doubled: `items` itself where *capacity is enough, else moved, with
 * *capacity set. NULL: no memory, and the array is as it was. items may be NULL with capacity 0. */
void *kv_grow(void *items, size_t *capacity, size_t need, size_t size);
void *kv_alloc_aligned(size_t alignment, size_t size); /* alignment: a power of two >= sizeof(void *) */
/* Aligned to KV_LARGE_PAGE and, if size is a multiple of it, in large pages where the system has them: for what is read
 * in random order, where finding the page would cost as much as reading it. */
enum { KV_LARGE_PAGE = 2 << 20 };
void *kv_alloc_large(size_t size);
void kv_free(void *memory);         /* NULL is fine; takes what the two above gave, too */
char *kv_dup_str(const char *text); /* a NUL-terminated copy */

/* Tests: when set, asked before each allocation; true makes that allocation fail. Set while no other thread
 * runs. */
extern bool (*kv_mem_should_fail)(size_t size);
/* Tests: what grows (kv_grow, buf.h) grows to exactly what is needed, so that each growth is an allocation that can fail. */
extern bool kv_mem_exact;

#endif
