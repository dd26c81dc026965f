#include "kvcore/os/secret.h"
#include "kvcore/base/mem.h"

#include <sodium.h>

void *kv_secret_alloc(size_t size)
{
    if ((kv_mem_should_fail && kv_mem_should_fail(size)) || sodium_init() < 0)
        return NULL;
    return sodium_malloc(size);
}

void kv_secret_free(void *secret)
{
    sodium_free(secret);
}

void kv_secret_wipe(void *memory, size_t size)
{
    sodium_memzero(memory, size);
}
