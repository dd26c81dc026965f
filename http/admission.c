#include "http/admission.h"

#include <stddef.h>

void http_pool_init(struct http_pool *pool, uint64_t total)
{
    *pool = (struct http_pool){.total = total};
    kv_mutex_init(&pool->mutex);
    kv_cond_init(&pool->freed);
}

void http_pool_release(struct http_pool *pool)
{
    kv_cond_release(&pool->freed);
    kv_mutex_release(&pool->mutex);
}

/* With the mutex held: waits until the units are free. */
static kv_status wait_free(struct http_pool *pool, uint64_t units, uint32_t wait_ms, struct kv_clock *clock,
                           bool (*canceled)(void *ctx), void *ctx)
{
    enum { SLICE_MS = 250 }; /* how often the client is looked after */
    uint64_t deadline = kv_clock_mono_ns(clock) + (uint64_t)wait_ms * 1000000;
    while (units > pool->total - pool->used) {
        uint64_t now = kv_clock_mono_ns(clock);
        if (now >= deadline)
            return KV_TIMEOUT;
        if (canceled && canceled(ctx))
            return KV_CANCELED;
        uint64_t left = deadline - now, slice = (uint64_t)SLICE_MS * 1000000;
        (void)kv_cond_wait_for(&pool->freed, &pool->mutex, left < slice ? left : slice);
    }
    return KV_OK;
}

kv_status http_pool_take(struct http_pool *pool, uint64_t units, uint32_t wait_ms, struct kv_clock *clock,
                         bool (*canceled)(void *ctx), void *ctx)
{
    kv_status rc = KV_OK;
    kv_mutex_lock(&pool->mutex);
    if (units > pool->total) {
        rc = KV_LIMIT;
    } else if (units > pool->total - pool->used) {
        pool->waited++;
        rc = wait_free(pool, units, wait_ms, clock, canceled, ctx);
    }
    if (rc == KV_OK) {
        pool->used += units;
        pool->used_max = pool->used > pool->used_max ? pool->used : pool->used_max;
    } else {
        pool->refused++;
    }
    kv_mutex_unlock(&pool->mutex);
    return rc;
}

void http_pool_give(struct http_pool *pool, uint64_t units)
{
    if (units == 0)
        return;
    kv_mutex_lock(&pool->mutex);
    pool->used -= units;
    kv_mutex_unlock(&pool->mutex);
    kv_cond_broadcast(&pool->freed);
}

void http_pool_stats(struct http_pool *pool, struct http_pool_stats *out)
{
    kv_mutex_lock(&pool->mutex);
    *out = (struct http_pool_stats){pool->total, pool->used, pool->used_max, pool->waited, pool->refused};
    kv_mutex_unlock(&pool->mutex);
}

kv_status http_share_grow(struct http_share *share, uint64_t units)
{
    if (!share->pool || units <= share->held)
        return KV_OK;
    kv_status rc = http_pool_take(share->pool, units - share->held, share->wait_ms, share->clock, NULL, NULL);
    if (rc == KV_OK)
        share->held = units;
    return rc;
}

void http_share_give(struct http_share *share)
{
    if (share->pool)
        http_pool_give(share->pool, share->held);
    share->held = 0;
}
