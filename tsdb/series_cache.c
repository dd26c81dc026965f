/*
 * The cache: entries in order of first arrival, so that a body which repeats the last one walks through
 * memory in order, and a table of entry numbers in shards for those whose predecessor did not foretell them.
 *
 * An entry is read without a lock: its version is odd while it is being replaced, and changes with every
 * replacement. When the cache is full, a hand goes round and takes the first entry that was not used since it
 * last passed.
 */
#include "kvcore/base/mem.h"
#include "tsdb/postings.h"
#include "tsdb/series_internal.h"

enum {
    SHARDS = 64,
    SEGMENT_ENTRIES = 4096,
    ENTRY_COST = 32 + 8, /* with its share of a table at most half full on average */
    EVICT_LOOK = 64,     /* entries that the hand passes at most */
};
#define RECENT UINT32_C(0x80000000) /* in next: used since the hand passed */

struct entry {
    _Atomic uint64_t low, high, ref;
    _Atomic uint32_t version, next;
};

struct shard {
    kv_mutex lock;
    uint32_t *slots; /* entry + 1; 0: free */
    size_t n, capacity;
};

struct ts_series_cache {
    struct shard shards[SHARDS];
    kv_mutex insert; /* n, hand, which entry holds what */
    _Atomic uint32_t n;
    uint32_t max, hand;
    _Atomic uint64_t evicted, table_bytes;
    _Atomic(struct entry *) *segments;
};

kv_status ts_series_cache_new(uint64_t bytes_max, struct ts_series_cache **out)
{
    uint64_t max = bytes_max / ENTRY_COST;
    max = max < SEGMENT_ENTRIES ? SEGMENT_ENTRIES : max > TS_CACHE_NONE - 1 ? TS_CACHE_NONE - 1 : max;
    struct ts_series_cache *cache = kv_zalloc(1, sizeof *cache);
    if (!cache)
        return KV_NO_MEMORY;
    cache->max = (uint32_t)max;
    cache->segments = kv_zalloc(max / SEGMENT_ENTRIES + 1, sizeof *cache->segments);
    kv_mutex_init(&cache->insert);
    for (size_t i = 0; i < SHARDS; i++)
        kv_mutex_init(&cache->shards[i].lock);
    if (!cache->segments) {
        ts_series_cache_free(cache);
        return KV_NO_MEMORY;
    }
    *out = cache;
    return KV_OK;
}

void ts_series_cache_free(struct ts_series_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; cache->segments && i <= cache->max / SEGMENT_ENTRIES; i++)
        kv_free(atomic_load_explicit(&cache->segments[i], memory_order_relaxed));
    for (size_t i = 0; i < SHARDS; i++) {
        kv_free(cache->shards[i].slots);
        kv_mutex_release(&cache->shards[i].lock);
    }
    kv_mutex_release(&cache->insert);
    kv_free(cache->segments);
    kv_free(cache);
}

/* Numbers at or above n are nobody's yet: NULL. */
static struct entry *entry_at(struct ts_series_cache *cache, uint32_t number)
{
    if (number >= atomic_load_explicit(&cache->n, memory_order_acquire))
        return NULL;
    return atomic_load_explicit(&cache->segments[number / SEGMENT_ENTRIES], memory_order_relaxed) +
           number % SEGMENT_ENTRIES;
}

static void entry_used(struct entry *e)
{
    uint32_t next = atomic_load_explicit(&e->next, memory_order_relaxed);
    if (!(next & RECENT))
        atomic_store_explicit(&e->next, next | RECENT, memory_order_relaxed);
}

/* Acquire loads keep the second look at the version behind the fields. */
bool ts_series_cache_at(struct ts_series_cache *cache, uint32_t number, kv_hash128 id, uint64_t *ref)
{
    struct entry *e = entry_at(cache, number);
    if (!e)
        return false;
    uint32_t version = atomic_load_explicit(&e->version, memory_order_acquire);
    uint64_t low = atomic_load_explicit(&e->low, memory_order_acquire);
    uint64_t high = atomic_load_explicit(&e->high, memory_order_acquire);
    *ref = atomic_load_explicit(&e->ref, memory_order_acquire);
    if (low != id.low || high != id.high || version % 2 != 0 ||
        atomic_load_explicit(&e->version, memory_order_relaxed) != version)
        return false;
    entry_used(e);
    return true;
}

static struct shard *shard_of(struct ts_series_cache *cache, kv_hash128 id)
{
    return &cache->shards[id.high % SHARDS];
}

static size_t home(const struct shard *shard, uint64_t low)
{
    return (size_t)low & (shard->capacity - 1);
}

static uint64_t entry_low(struct ts_series_cache *cache, uint32_t number)
{
    return atomic_load_explicit(&entry_at(cache, number)->low, memory_order_relaxed);
}

static bool holds(struct ts_series_cache *cache, uint32_t number, kv_hash128 id)
{
    const struct entry *e = entry_at(cache, number);
    return atomic_load_explicit(&e->low, memory_order_relaxed) == id.low &&
           atomic_load_explicit(&e->high, memory_order_relaxed) == id.high;
}

/* Under the shard's lock an entry named by the table is not replaced. */
static uint32_t shard_find(struct ts_series_cache *cache, const struct shard *shard, kv_hash128 id)
{
    if (shard->capacity == 0)
        return TS_CACHE_NONE;
    for (size_t i = home(shard, id.low); shard->slots[i]; i = (i + 1) & (shard->capacity - 1))
        if (holds(cache, shard->slots[i] - 1, id))
            return shard->slots[i] - 1;
    return TS_CACHE_NONE;
}

bool ts_series_cache_find(struct ts_series_cache *cache, kv_hash128 id, uint32_t *number, uint64_t *ref)
{
    struct shard *shard = shard_of(cache, id);
    kv_mutex_lock(&shard->lock);
    *number = shard_find(cache, shard, id);
    if (*number != TS_CACHE_NONE) {
        *ref = atomic_load_explicit(&entry_at(cache, *number)->ref, memory_order_relaxed);
        entry_used(entry_at(cache, *number));
    }
    kv_mutex_unlock(&shard->lock);
    return *number != TS_CACHE_NONE;
}

static void shard_place(struct ts_series_cache *cache, struct shard *shard, uint32_t number)
{
    size_t i = home(shard, entry_low(cache, number));
    while (shard->slots[i])
        i = (i + 1) & (shard->capacity - 1);
    shard->slots[i] = number + 1;
}

static bool shard_room(struct ts_series_cache *cache, struct shard *shard)
{
    if (4 * (shard->n + 1) <= 3 * shard->capacity)
        return true;
    uint32_t *old = shard->slots;
    size_t n = shard->capacity, capacity = n ? n * 2 : 64;
    uint32_t *slots = kv_zalloc(capacity, sizeof *slots);
    if (!slots)
        return false;
    shard->slots = slots;
    shard->capacity = capacity;
    for (size_t i = 0; i < n; i++)
        if (old[i])
            shard_place(cache, shard, old[i] - 1);
    kv_free(old);
    atomic_fetch_add_explicit(&cache->table_bytes, (capacity - n) * sizeof *slots, memory_order_relaxed);
    return true;
}

/* Takes the entry out of its shard's table and closes the gap (linear probing without tombstones). */
static void shard_remove(struct ts_series_cache *cache, uint32_t number)
{
    struct entry *e = entry_at(cache, number);
    kv_hash128 id = {atomic_load_explicit(&e->low, memory_order_relaxed),
                     atomic_load_explicit(&e->high, memory_order_relaxed)};
    struct shard *shard = shard_of(cache, id);
    kv_mutex_lock(&shard->lock);
    size_t mask = shard->capacity - 1, hole = home(shard, id.low);
    if (shard->capacity == 0) { /* one that was forgotten */
        kv_mutex_unlock(&shard->lock);
        return;
    }
    while (shard->slots[hole] != 0 && shard->slots[hole] != number + 1)
        hole = (hole + 1) & mask;
    if (shard->slots[hole] != 0) {
        shard->n--;
        for (size_t i = (hole + 1) & mask; shard->slots[i]; i = (i + 1) & mask) {
            size_t want = home(shard, entry_low(cache, shard->slots[i] - 1));
            if (((i - want) & mask) >= ((i - hole) & mask)) {
                shard->slots[hole] = shard->slots[i];
                hole = i;
            }
        }
        shard->slots[hole] = 0;
    }
    kv_mutex_unlock(&shard->lock);
}

static uint32_t evict(struct ts_series_cache *cache)
{
    uint32_t n = atomic_load_explicit(&cache->n, memory_order_relaxed);
    for (int looked = 0;; looked++) {
        uint32_t number = cache->hand++ % n;
        struct entry *e = entry_at(cache, number);
        uint32_t next = atomic_load_explicit(&e->next, memory_order_relaxed);
        if ((next & RECENT) && looked < EVICT_LOOK) {
            atomic_store_explicit(&e->next, next & ~RECENT, memory_order_relaxed);
            continue;
        }
        shard_remove(cache, number);
        atomic_fetch_add_explicit(&cache->evicted, 1, memory_order_relaxed);
        return number;
    }
}

/* A number for a new entry, under cache->insert. A fresh one is counted in n by the caller, once it is
 * filled. */
static uint32_t entry_take(struct ts_series_cache *cache)
{
    uint32_t n = atomic_load_explicit(&cache->n, memory_order_relaxed);
    if (n < cache->max) {
        _Atomic(struct entry *) *segment = &cache->segments[n / SEGMENT_ENTRIES];
        if (atomic_load_explicit(segment, memory_order_relaxed))
            return n;
        struct entry *entries = kv_zalloc(SEGMENT_ENTRIES, sizeof *entries);
        if (entries) {
            atomic_store_explicit(segment, entries, memory_order_relaxed);
            return n;
        }
    }
    return n > 0 ? evict(cache) : TS_CACHE_NONE;
}

static void entry_fill(struct ts_series_cache *cache, uint32_t number, kv_hash128 id, uint64_t ref)
{
    struct entry *e = atomic_load_explicit(&cache->segments[number / SEGMENT_ENTRIES], memory_order_relaxed) +
                      number % SEGMENT_ENTRIES;
    uint32_t version = atomic_load_explicit(&e->version, memory_order_relaxed);
    atomic_store_explicit(&e->version, version + 1, memory_order_relaxed);
    atomic_store_explicit(&e->low, id.low,
                          memory_order_release); /* release: readers of it see the odd version */
    atomic_store_explicit(&e->high, id.high, memory_order_release);
    atomic_store_explicit(&e->ref, ref, memory_order_release);
    atomic_store_explicit(&e->next, number + 1,
                          memory_order_relaxed); /* until it is known: whoever comes in after it */
    atomic_store_explicit(&e->version, version + 2, memory_order_release);
    if (number == atomic_load_explicit(&cache->n, memory_order_relaxed))
        atomic_store_explicit(&cache->n, number + 1, memory_order_release);
}

void ts_series_cache_put(struct ts_series_cache *cache, kv_hash128 id, uint64_t ref)
{
    struct shard *shard = shard_of(cache, id);
    kv_mutex_lock(&cache->insert);
    kv_mutex_lock(&shard->lock);
    bool wanted = shard_find(cache, shard, id) == TS_CACHE_NONE && shard_room(cache, shard);
    kv_mutex_unlock(&shard->lock);
    uint32_t number = wanted ? entry_take(cache) : TS_CACHE_NONE;
    if (number != TS_CACHE_NONE) {
        entry_fill(cache, number, id, ref);
        kv_mutex_lock(&shard->lock);
        shard_place(cache, shard, number);
        shard->n++;
        kv_mutex_unlock(&shard->lock);
    }
    kv_mutex_unlock(&cache->insert);
}

uint32_t ts_series_cache_next(struct ts_series_cache *cache, uint32_t number)
{
    struct entry *e = entry_at(cache, number);
    return e ? atomic_load_explicit(&e->next, memory_order_relaxed) & ~RECENT : TS_CACHE_NONE;
}

void ts_series_cache_set_next(struct ts_series_cache *cache, uint32_t number, uint32_t next)
{
    struct entry *e = entry_at(cache, number);
    if (e)
        atomic_store_explicit(&e->next, next | RECENT, memory_order_relaxed);
}

void ts_series_cache_counts(struct ts_series_cache *cache, uint64_t *entries, uint64_t *bytes,
                            uint64_t *evicted)
{
    uint64_t n = atomic_load_explicit(&cache->n, memory_order_relaxed);
    *entries = n;
    *bytes = (n + SEGMENT_ENTRIES - 1) / SEGMENT_ENTRIES * SEGMENT_ENTRIES * sizeof(struct entry) +
             atomic_load_explicit(&cache->table_bytes, memory_order_relaxed);
    *evicted = atomic_load_explicit(&cache->evicted, memory_order_relaxed);
}

void ts_series_cache_forget(struct ts_series_cache *cache, const struct ts_refset *gone)
{
    enum { STEP = 4096 }; /* entries while inserts wait */
    uint32_t n = atomic_load_explicit(&cache->n, memory_order_acquire);
    for (uint32_t from = 0; from < n; from += STEP) {
        kv_mutex_lock(&cache->insert);
        for (uint32_t number = from; number < n && number < from + STEP; number++) {
            struct entry *e = entry_at(cache, number);
            if (!ts_refset_has(gone, atomic_load_explicit(&e->ref, memory_order_relaxed)))
                continue;
            shard_remove(cache, number);
            entry_fill(cache, number, (kv_hash128){0}, 0); /* in no table; the hand takes it one day */
        }
        kv_mutex_unlock(&cache->insert);
    }
}
