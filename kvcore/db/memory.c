#include "kvcore/db/memory.h"
#include "kvcore/sst/cache.h"

enum {
    CACHE_LEAST_SHARE = 8, /* of the budget, whatever memtables have */
    FLUSH_EIGHTHS = 3, /* past so many of it memtables are flushed early; as much again may wait for that */
    WORTH_SHARE = 64,  /* one smaller than that is not worth a flush, */
    STEP_SHARE = 64,   /* and a change of the cache's size smaller than that not worth a walk */
};

void kv_memory_init(struct kv_memory *memory, uint64_t bytes_max, uint64_t cache_most, struct kv_cache *cache)
{
    kv_mutex_init(&memory->mutex);
    kv_list_init(&memory->tenants);
    memory->bytes_max = bytes_max;
    memory->cache_most = cache_most;
    memory->cache = cache;
    kv_cache_set_bytes(cache, cache_most);
    kv_memory_settle(memory);
}

void kv_memory_release(struct kv_memory *memory)
{
    kv_mutex_release(&memory->mutex);
}

void kv_memory_join(struct kv_memory *memory, struct kv_memory_tenant *tenant)
{
    kv_mutex_lock(&memory->mutex);
    kv_list_push_back(&memory->tenants, &tenant->link);
    kv_mutex_unlock(&memory->mutex);
}

void kv_memory_leave(struct kv_memory *memory, struct kv_memory_tenant *tenant)
{
    if (!tenant->link.next)
        return;
    kv_mutex_lock(&memory->mutex);
    kv_list_remove(&tenant->link);
    kv_mutex_unlock(&memory->mutex);
}

void kv_memory_cache(struct kv_memory *memory, uint64_t bytes)
{
    atomic_store_explicit(&memory->cache_most, bytes, memory_order_relaxed);
    if (!memory->bytes_max)
        kv_cache_set_bytes(memory->cache, bytes);
    kv_memory_settle(memory);
}

void kv_memory_settle(struct kv_memory *memory)
{
    if (!memory->bytes_max)
        return;
    uint64_t most = atomic_load_explicit(&memory->cache_most, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&memory->memtables, memory_order_relaxed);
    uint64_t least = memory->bytes_max / CACHE_LEAST_SHARE;
    uint64_t left = used + least < memory->bytes_max ? memory->bytes_max - used : least;
    uint64_t want = left < most ? left : most, now = kv_cache_bytes_max(memory->cache);
    uint64_t apart = now > want ? now - want : want - now;
    if (apart > memory->bytes_max / STEP_SHARE)
        kv_cache_set_bytes(memory->cache, want);
    uint64_t sum = used + kv_cache_bytes_used(memory->cache);
    uint64_t peak = atomic_load_explicit(&memory->peak, memory_order_relaxed);
    while (sum > peak && !atomic_compare_exchange_weak_explicit(&memory->peak, &peak, sum,
                                                                memory_order_relaxed, memory_order_relaxed))
        ;
}

bool kv_memory_presses(struct kv_memory *memory, struct kv_memory_tenant *self, uint64_t bytes)
{
    uint64_t flush_at = memory->bytes_max / 8 * FLUSH_EIGHTHS, active = bytes;
    if (!memory->bytes_max ||
        atomic_load_explicit(&memory->memtables, memory_order_relaxed) + bytes <= flush_at)
        return false;
    struct kv_memory_tenant *largest = NULL;
    uint64_t most = memory->bytes_max / WORTH_SHARE;
    kv_mutex_lock(&memory->mutex);
    for (struct kv_list *at = memory->tenants.next; at != &memory->tenants; at = at->next) {
        struct kv_memory_tenant *tenant = KV_CONTAINER(at, struct kv_memory_tenant, link);
        uint64_t its = atomic_load_explicit(&tenant->active, memory_order_relaxed);
        active += its;
        if (its > most) {
            most = its;
            largest = tenant;
        }
    }
    if (active <= flush_at)
        largest = NULL; /* the rest is on its way to tables */
    if (largest)
        atomic_store_explicit(&largest->active, 0, memory_order_relaxed); /* and so is this one now */
    if (largest && largest != self)
        largest->give(largest->ctx);
    kv_mutex_unlock(&memory->mutex);
    return largest == self;
}

bool kv_memory_full(struct kv_memory *memory, uint64_t bytes)
{
    uint64_t used = atomic_load_explicit(&memory->memtables, memory_order_relaxed) + bytes;
    return memory->bytes_max && used > memory->bytes_max / 8 * (2 * FLUSH_EIGHTHS);
}
