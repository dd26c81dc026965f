#include "kvcore/base/mem.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { GROW_FIRST = 8 };

bool (*kv_mem_should_fail)(size_t size);
bool kv_mem_exact;

static bool mem_refused(size_t size)
{
    return __builtin_expect(kv_mem_should_fail != NULL, 0) && kv_mem_should_fail(size);
}

void *kv_alloc(size_t size)
{
    return mem_refused(size) ? NULL : malloc(size ? size : 1);
}

void *kv_zalloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || mem_refused(bytes))
        return NULL;
    return bytes ? calloc(count, size) : calloc(1, 1);
}

void *kv_realloc(void *memory, size_t size)
{
    return mem_refused(size) ? NULL : realloc(memory, size ? size : 1);
}

void *kv_grow(void *items, size_t *capacity, size_t need, size_t size)
{
    size_t more = kv_mem_exact ? need : *capacity ? 2 * *capacity : GROW_FIRST, bytes;
    if (need <= *capacity && items)
        return items;
    if (more < need)
        more = need;
    void *grown = __builtin_mul_overflow(more, size, &bytes) ? NULL : kv_realloc(items, bytes);
    if (grown)
        *capacity = more;
    return grown;
}

void *kv_alloc_aligned(size_t alignment, size_t size)
{
    void *memory = NULL;
    if (mem_refused(size) || posix_memalign(&memory, alignment, size ? size : 1) != 0)
        return NULL;
    return memory;
}

void *kv_alloc_large(size_t size)
{
    void *memory = kv_alloc_aligned(KV_LARGE_PAGE, size);
#ifdef MADV_HUGEPAGE
    if (memory && size % KV_LARGE_PAGE == 0)
        (void)madvise(memory, size, MADV_HUGEPAGE); /* where the system has none, small pages do too */
#endif
    return memory;
}

void kv_free(void *memory)
{
    free(memory);
}

char *kv_dup_str(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = kv_alloc(size);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}
