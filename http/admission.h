/*
 * admission.h - two bounds that requests wait for: a budget of bytes for bodies, and places for queries. A wait is bounded; past it the
 * caller answers 503 with Retry-After.
 *
 * Threads    any. First come, first served as far as the condition variable goes.
 */
#ifndef HTTP_ADMISSION_H
#define HTTP_ADMISSION_H

#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"

/* A pool of units: bytes, or places. */
struct http_pool {
    kv_mutex mutex;
    kv_cond freed;
    uint64_t total, used, used_max;
    uint64_t waited, refused; /* counters: takes that had to wait, and that gave up */
};
void http_pool_init(struct http_pool *pool, uint64_t total);
void http_pool_release(struct http_pool *pool);
/* KV_LIMIT: more than the whole pool; KV_TIMEOUT: not free within wait_ms; KV_CANCELED: canceled (may be NULL) said so. */
KV_MUST kv_status http_pool_take(struct http_pool *pool, uint64_t units, uint32_t wait_ms,
                                 struct kv_clock *clock, bool (*canceled)(void *ctx), void *ctx);
void http_pool_give(struct http_pool *pool, uint64_t units);
struct http_pool_stats {
    uint64_t total, used, used_max, waited, refused;
};
void http_pool_stats(struct http_pool *pool, struct http_pool_stats *out);

/* One request's share of a pool, growing with what arrives, given back at once. */
struct http_share {
    struct http_pool *pool; /* NULL: unbounded */
    uint64_t held;
    uint32_t wait_ms;
    struct kv_clock *clock;
};
/* Makes the share at least `units` in all. */
KV_MUST kv_status http_share_grow(struct http_share *share, uint64_t units);
void http_share_give(struct http_share *share);

#endif
