/*
 * series_internal.h - what the registry's files share.
 *
 *     series_cache.c   identity -> ref, bounded, with successors
 *     series.c         the registry: metrics, refs, labels
 *     series_leave.c   series that leave
 *     resolver.c       one request's rows: resolve, stage, prepare, undo, apply
 *     series_limit.c   how many new series there may be
 *
 * Locks, in order: kvcore's commit lock, registry.lock, cache.insert, a cache shard's.
 */
#ifndef TS_SERIES_INTERNAL_H
#define TS_SERIES_INTERNAL_H

#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "tsdb/series.h"

#include <stdatomic.h>

/* ---- cache --------------------------------------------------------------------------------------------- */

struct ts_series_cache;
#define TS_CACHE_NONE UINT32_C(0x7fffffff)
KV_MUST kv_status ts_series_cache_new(uint64_t bytes_max, struct ts_series_cache **out);
void ts_series_cache_free(struct ts_series_cache *cache);
/* Whether entry holds id; no lock. entry: any value a call has handed out, or TS_CACHE_NONE. */
bool ts_series_cache_at(struct ts_series_cache *cache, uint32_t entry, kv_hash128 id, uint64_t *ref);
bool ts_series_cache_find(struct ts_series_cache *cache, kv_hash128 id, uint32_t *entry, uint64_t *ref);
/* Remembers; when memory is short it does not. */
void ts_series_cache_put(struct ts_series_cache *cache, kv_hash128 id, uint64_t ref);
/* The entry that followed last time. Hints: any value is safe. */
uint32_t ts_series_cache_next(struct ts_series_cache *cache, uint32_t entry);
void ts_series_cache_set_next(struct ts_series_cache *cache, uint32_t entry, uint32_t next);
/* No entry leads to one of gone any more. */
struct ts_refset;
void ts_series_cache_forget(struct ts_series_cache *cache, const struct ts_refset *gone);
void ts_series_cache_counts(struct ts_series_cache *cache, uint64_t *entries, uint64_t *bytes,
                            uint64_t *evicted);

/* ---- a small table from 128-bit hash to number, for one thread or under a lock ------------------------- */

struct ts_hash_slot {
    kv_hash128 key;
    uint64_t value; /* 0: free */
};
/* {0} is empty. Values are not 0. */
struct ts_hash_map {
    struct ts_hash_slot *slots;
    size_t n, capacity;
};
void ts_hash_map_release(struct ts_hash_map *map);
void ts_hash_map_clear(struct ts_hash_map *map); /* keeps the memory unless it is large */
uint64_t ts_hash_map_get(const struct ts_hash_map *map, kv_hash128 key); /* 0: none */
KV_MUST kv_status ts_hash_map_put(struct ts_hash_map *map, kv_hash128 key, uint64_t value);
void ts_hash_map_remove(struct ts_hash_map *map, kv_hash128 key);

/* ---- registry ------------------------------------------------------------------------------------------ */

enum {
    TS_RECENT_MAX = 1 << 16, /* series whose creation prepare remembers, so that it need not read */
    TS_RATE_BURST_S = 10,    /* so many seconds' worth of new series may come at once */
};

/* Lives as long as the registry; number and next change under the commit lock only (next is read by anyone, for the
 * limit). */
struct ts_metric {
    struct ts_metric *chain;
    uint64_t hash;
    _Atomic uint32_t number;   /* 0: none yet; read by anyone, for the limit */
    _Atomic uint32_t next;     /* series number to be given out next */
    _Atomic uint32_t reserved; /* series to be, of requests under way */
    uint32_t name_len;
    uint8_t name[];
};

struct ts_recent {
    kv_hash128 hash;
    uint64_t ref, seq;
};

struct ts_registry {
    struct kv_db *db;
    struct ts_registry_options options;
    uint8_t secret[KV_HASH_SECRET_LEN];
    struct ts_series_cache *cache;

    kv_mutex lock; /* metrics */
    struct ts_metric **buckets;
    size_t n_metrics, n_buckets;

    /* Under the commit lock. */
    _Atomic uint32_t next_metric; /* read by anyone for statistics */
    struct ts_hash_map recent;    /* hash of labels -> index + 1 into recents */
    struct ts_recent *recents;
    size_t n_recents, recents_capacity;
    uint64_t recent_floor; /* series created by commits above it are all in recent */

    _Atomic uint64_t series, reserved, created;
    _Atomic uint64_t
        rate_ns; /* by the monotonic clock: when all the new series so far would have come at the rate allowed
                                 (the token bucket's level, as a time) */
    _Atomic uint64_t predicted, found, missed;

    /* Leaving: series_leave.c. */
    _Atomic(struct ts_leaving *) leaving;
    struct ts_leaving *rested;  /* not to be found any more, but some may still have it */
    _Atomic uint64_t epoch;     /* counts up whenever `leaving` changes */
    _Atomic uint64_t in_use[2]; /* resolvers that came in while epoch was even, odd */
    _Atomic uint64_t removals;  /* commits that take series out, begun */
    kv_mutex leave_lock;        /* what leaving has of kept and removed; n_left: a leaf */
    struct ts_hash_map n_left;  /* by metric: how many of its series have left */
};

/* A request comes in and goes: what it resolves meanwhile does not leave. */
void ts_registry_enter(struct ts_registry *registry, int *entered);
void ts_registry_exit(struct ts_registry *registry, int *entered); /* twice is fine */
/* Whether the ref that was found may be used: if it was about to leave, it stays. False: it has left. */
bool ts_registry_use(struct ts_registry *registry, uint64_t ref);
/* How many series of a metric have left. */
uint64_t ts_registry_n_left(struct ts_registry *registry, uint32_t metric);
KV_MUST kv_status ts_registry_load_left(struct ts_registry *registry, struct kv_err *err);
void ts_registry_free_leaving(struct ts_registry *registry);
/* Puts next metric and number of series into batch. Under the commit lock. */
KV_MUST kv_status ts_registry_put_counters(const struct ts_registry *registry, struct kv_batch *batch);

kv_hash128 ts_registry_hash(const struct ts_registry *registry, kv_slice canonical);
/* The series with these canonical labels that is visible now. KV_NOT_FOUND; KV_CONFLICT: other labels have
 * the same hash. */
KV_MUST kv_status ts_registry_find_hash(struct ts_registry *registry, kv_hash128 hash, kv_slice canonical,
                                        uint64_t *ref, struct kv_err *err);
/* The entry of a metric name, read from kvcore the first time. */
KV_MUST kv_status ts_registry_metric_entry(struct ts_registry *registry, kv_slice name,
                                           struct ts_metric **out, struct kv_err *err);

/* Counts a series to be against the limits. KV_INVALID: refused, and *why says it. */
KV_MUST kv_status ts_registry_reserve(struct ts_registry *registry, struct ts_metric *metric,
                                      struct ts_refusal *why);
/* It is counted elsewhere now; or, give_back, it came to nothing and does not count against the rate either. */
void ts_registry_unreserve(struct ts_registry *registry, struct ts_metric *metric, bool give_back);

#endif
