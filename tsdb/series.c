#include "tsdb/series.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/series_internal.h"

/* ---- hash map ------------------------------------------------------------------------------------------ */

void ts_hash_map_release(struct ts_hash_map *map)
{
    kv_free(map->slots);
    *map = (struct ts_hash_map){0};
}

void ts_hash_map_clear(struct ts_hash_map *map)
{
    if (map->capacity > 4096)
        ts_hash_map_release(map);
    else if (map->n > 0)
        memset(map->slots, 0, map->capacity * sizeof *map->slots);
    map->n = 0;
}

/* Keys are hashes already. */
static size_t hash_map_slot(const struct ts_hash_map *map, kv_hash128 key)
{
    size_t mask = map->capacity - 1, i = (size_t)key.low & mask;
    while (map->slots[i].value && !kv_hash128_equal(map->slots[i].key, key))
        i = (i + 1) & mask;
    return i;
}

uint64_t ts_hash_map_get(const struct ts_hash_map *map, kv_hash128 key)
{
    return map->capacity ? map->slots[hash_map_slot(map, key)].value : 0;
}

static KV_MUST kv_status hash_map_grow(struct ts_hash_map *map)
{
    struct ts_hash_map grown = {.n = map->n, .capacity = map->capacity ? map->capacity * 2 : 16};
    grown.slots = kv_zalloc(grown.capacity, sizeof *grown.slots);
    if (!grown.slots)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].value)
            grown.slots[hash_map_slot(&grown, map->slots[i].key)] = map->slots[i];
    kv_free(map->slots);
    *map = grown;
    return KV_OK;
}

kv_status ts_hash_map_put(struct ts_hash_map *map, kv_hash128 key, uint64_t value)
{
    KV_ASSERT(value != 0);
    bool there = ts_hash_map_get(map, key) != 0; /* replacing never fails */
    if (!there && 2 * map->n >= map->capacity && hash_map_grow(map) < 0)
        return KV_NO_MEMORY;
    struct ts_hash_slot *slot = &map->slots[hash_map_slot(map, key)];
    map->n += slot->value == 0;
    *slot = (struct ts_hash_slot){key, value};
    return KV_OK;
}

void ts_hash_map_remove(struct ts_hash_map *map, kv_hash128 key)
{
    size_t mask = map->capacity - 1, hole = map->capacity ? hash_map_slot(map, key) : 0;
    if (map->capacity == 0 || map->slots[hole].value == 0)
        return;
    for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        size_t want = (size_t)map->slots[i].key.low & mask;
        if (((i - want) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = 0;
    map->n--;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static struct ts_registry_options resolved(const struct ts_registry_options *asked)
{
    struct ts_registry_options o = asked ? *asked : (struct ts_registry_options){0};
    o.series_max = o.series_max ? o.series_max : 20000000;
    o.cache_bytes = o.cache_bytes ? o.cache_bytes : UINT64_C(512) << 20;
    o.clock = o.clock ? o.clock : kv_clock_system();
    o.metric_series_max = o.metric_series_max ? o.metric_series_max : UINT64_MAX;
    o.labels_max = o.labels_max ? o.labels_max : TS_LABELS_MAX_DEFAULT;
    o.label_name_len_max = o.label_name_len_max ? o.label_name_len_max : TS_LABEL_NAME_LEN_MAX_DEFAULT;
    o.label_value_len_max = o.label_value_len_max ? o.label_value_len_max : TS_LABEL_VALUE_LEN_MAX_DEFAULT;
    return o;
}

static KV_MUST kv_status read_counters(struct ts_registry *registry, struct kv_err *err)
{
    struct kv_pinned value = {0};
    struct ts_key key;
    ts_key_counters(&key);
    kv_status rc = kv_get(registry->db, NULL, TS_SPACE_SERIES, ts_key_slice(&key), &value, err);
    registry->next_metric = 1;
    if (rc == KV_NOT_FOUND)
        return KV_OK;
    if (rc == KV_OK && value.value.len != 12)
        rc = kv_fail(err, KV_CORRUPT, 0, "the registry's counters have %zu bytes, not 12", value.value.len);
    uint32_t next = rc == KV_OK ? kv_get_be32(value.value.data) : 1;
    if (next == 0 || next > TS_POSTINGS_MIXED)
        rc = kv_fail(err, KV_CORRUPT, 0, "the registry's counters are damaged: the next metric is %u", next);
    if (rc == KV_OK) {
        registry->next_metric = next;
        atomic_store(&registry->series, kv_get_be64(value.value.data + 4));
    }
    kv_pinned_release(&value);
    return rc;
}

kv_status ts_registry_open(struct kv_db *db, const struct ts_registry_options *options,
                           struct ts_registry **out, struct kv_err *err)
{
    struct ts_registry *registry = kv_zalloc(1, sizeof *registry);
    uint8_t uuid[16];
    kv_status rc;
    if (!registry)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening the series registry");
    registry->db = db;
    registry->options = resolved(options);
    kv_mutex_init(&registry->lock);
    kv_mutex_init(&registry->leave_lock);
    kv_uuid(db, uuid);
    kv_hash_secret(kv_slice_of(uuid, sizeof uuid), registry->secret);
    registry->recent_floor = kv_seq(db);
    registry->n_buckets = 1024;
    registry->buckets = kv_zalloc(registry->n_buckets, sizeof(struct ts_metric *));
    rc = registry->buckets ? ts_series_cache_new(registry->options.cache_bytes, &registry->cache)
                           : KV_NO_MEMORY;
    if (rc < 0)
        rc = kv_fail(err, rc, 0, "out of memory opening the series registry");
    else
        rc = read_counters(registry, err);
    if (rc == KV_OK)
        rc = ts_registry_load_left(registry, err);
    if (rc < 0) {
        ts_registry_close(registry);
        return rc;
    }
    *out = registry;
    return KV_OK;
}

void ts_registry_close(struct ts_registry *registry)
{
    if (!registry)
        return;
    for (size_t i = 0; registry->buckets && i < registry->n_buckets; i++) {
        for (struct ts_metric *m = registry->buckets[i], *chain; m; m = chain) {
            chain = m->chain;
            kv_free(m);
        }
    }
    kv_free(registry->buckets);
    kv_free(registry->recents);
    ts_hash_map_release(&registry->recent);
    ts_series_cache_free(registry->cache);
    ts_registry_free_leaving(registry);
    kv_mutex_release(&registry->leave_lock);
    kv_mutex_release(&registry->lock);
    kv_free(registry);
}

struct kv_db *ts_registry_db(struct ts_registry *registry)
{
    return registry->db;
}

void ts_registry_stats(struct ts_registry *registry, struct ts_registry_stats *out)
{
    *out = (struct ts_registry_stats){
        .series = atomic_load_explicit(&registry->series, memory_order_relaxed),
        .series_created = atomic_load_explicit(&registry->created, memory_order_relaxed),
        .predicted = atomic_load_explicit(&registry->predicted, memory_order_relaxed),
        .found = atomic_load_explicit(&registry->found, memory_order_relaxed),
        .missed = atomic_load_explicit(&registry->missed, memory_order_relaxed),
    };
    ts_series_cache_counts(registry->cache, &out->cache_series, &out->cache_bytes, &out->cache_evicted);
    out->metrics = atomic_load_explicit(&registry->next_metric, memory_order_relaxed) - 1;
}

/* ---- metrics ------------------------------------------------------------------------------------------- */

/* metric 0: the name is not known. */
static KV_MUST kv_status metric_read(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                     kv_slice name, uint32_t *metric, uint32_t *next, struct kv_err *err)
{
    struct kv_pinned value = {0};
    struct ts_key key;
    kv_slice full;
    ts_key_metric(&key, name);
    *metric = *next = 0;
    kv_status rc = kv_get(registry->db, snapshot, TS_SPACE_SERIES, ts_key_slice(&key), &value, err);
    if (rc != KV_OK)
        return rc == KV_NOT_FOUND ? KV_OK : rc;
    rc = ts_metric_value_read(value.value, metric, next, &full);
    bool cut = name.len > TS_KEY_TEXT_LEN_MAX;
    if (rc < 0 || (cut && full.len == 0))
        rc = kv_fail(err, KV_CORRUPT, 0, "metric \"%.*s\": damaged registry entry",
                     (int)(name.len > 100 ? 100 : name.len), (const char *)name.data);
    else if (cut && !kv_slice_equal(full, name))
        rc = kv_fail(err, KV_UNSUPPORTED, 0, "two metric names over %d bytes collide", TS_KEY_TEXT_LEN_MAX);
    kv_pinned_release(&value);
    return rc;
}

kv_status ts_registry_metric(struct ts_registry *registry, const struct kv_snapshot *snapshot, kv_slice name,
                             uint32_t *metric, uint32_t *next, struct kv_err *err)
{
    uint32_t ignored;
    kv_status rc = metric_read(registry, snapshot, name, metric, next ? next : &ignored, err);
    return rc == KV_OK && *metric == 0 ? KV_NOT_FOUND : rc;
}

static struct ts_metric *metric_find(const struct ts_registry *registry, uint64_t hash, kv_slice name)
{
    struct ts_metric *m = registry->buckets[hash & (registry->n_buckets - 1)];
    while (m && !(m->hash == hash && kv_slice_equal(kv_slice_of(m->name, m->name_len), name)))
        m = m->chain;
    return m;
}

/* More buckets when chains get long; without memory they just stay long. */
static void metric_rehash(struct ts_registry *registry)
{
    size_t n = registry->n_buckets * 2;
    struct ts_metric **buckets =
        registry->n_metrics > registry->n_buckets ? kv_zalloc(n, sizeof(struct ts_metric *)) : NULL;
    if (!buckets)
        return;
    for (size_t i = 0; i < registry->n_buckets; i++) {
        for (struct ts_metric *m = registry->buckets[i], *chain; m; m = chain) {
            chain = m->chain;
            m->chain = buckets[m->hash & (n - 1)];
            buckets[m->hash & (n - 1)] = m;
        }
    }
    kv_free(registry->buckets);
    registry->buckets = buckets;
    registry->n_buckets = n;
}

/*
 * Number and next as kvcore has them are right for a new entry: whoever gives out refs of a metric gets its
 * entry here first, so while there is none, none can be under way.
 */
kv_status ts_registry_metric_entry(struct ts_registry *registry, kv_slice name, struct ts_metric **out,
                                   struct kv_err *err)
{
    kv_hash128 h = kv_hash128_keyed(name, registry->secret);
    uint32_t number, next;
    kv_mutex_lock(&registry->lock);
    *out = metric_find(registry, h.low, name);
    kv_mutex_unlock(&registry->lock);
    if (*out)
        return KV_OK;
    kv_status rc = metric_read(registry, NULL, name, &number, &next, err);
    if (rc < 0)
        return rc;
    struct ts_metric *fresh = kv_zalloc(1, sizeof *fresh + name.len);
    if (!fresh)
        return KV_NO_MEMORY;
    *fresh =
        (struct ts_metric){.hash = h.low, .number = number, .next = next, .name_len = (uint32_t)name.len};
    memcpy(fresh->name, name.data, name.len);
    kv_mutex_lock(&registry->lock);
    *out = metric_find(registry, h.low, name);
    if (!*out) {
        metric_rehash(registry);
        struct ts_metric **bucket = &registry->buckets[h.low & (registry->n_buckets - 1)];
        fresh->chain = *bucket;
        *bucket = *out = fresh;
        registry->n_metrics++;
        fresh = NULL;
    }
    kv_mutex_unlock(&registry->lock);
    kv_free(fresh);
    return KV_OK;
}

/* ---- labels and refs ----------------------------------------------------------------------------------- */

kv_hash128 ts_registry_hash(const struct ts_registry *registry, kv_slice canonical)
{
    return kv_hash128_keyed(canonical, registry->secret);
}

static KV_MUST kv_status labels_get(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                    uint64_t ref, struct kv_pinned *value, struct kv_err *err)
{
    struct ts_key key;
    ts_key_labels(&key, ref);
    return kv_get(registry->db, snapshot, TS_SPACE_SERIES, ts_key_slice(&key), value, err);
}

static KV_MUST kv_status hash_get(struct ts_registry *registry, kv_hash128 hash, uint64_t *ref,
                                  struct kv_err *err)
{
    struct kv_pinned value = {0};
    struct ts_key key;
    ts_key_hash(&key, hash);
    kv_status rc = kv_get(registry->db, NULL, TS_SPACE_SERIES, ts_key_slice(&key), &value, err);
    if (rc == KV_OK)
        rc = ts_ref_value_read(value.value, ref);
    kv_pinned_release(&value);
    return rc;
}

kv_status ts_registry_find_hash(struct ts_registry *registry, kv_hash128 hash, kv_slice canonical,
                                uint64_t *ref, struct kv_err *err)
{
    struct kv_pinned value = {0};
    uint64_t first = 0;
    kv_status rc;
    for (;;) {
        rc = hash_get(registry, hash, ref, err);
        if (rc == KV_NOT_FOUND)
            return rc;
        if (rc == KV_OK)
            rc = labels_get(registry, NULL, *ref, &value, err);
        if (rc != KV_NOT_FOUND || *ref == first)
            break;
        first = *ref; /* it left between the two looks, unless it is there still */
    }
    if (rc == KV_NOT_FOUND || rc == KV_CORRUPT)
        rc = kv_fail(err, KV_CORRUPT, 0, "the registry has a hash of series %016llx, but not the series",
                     (unsigned long long)*ref);
    if (rc == KV_OK && !kv_slice_equal(value.value, canonical))
        rc = kv_fail(err, KV_CONFLICT, 0, "two label sets have the same 128-bit hash");
    kv_pinned_release(&value);
    return rc == KV_OK && !ts_registry_use(registry, *ref) ? KV_NOT_FOUND : rc;
}

kv_status ts_registry_find(struct ts_registry *registry, const struct ts_label *labels, size_t n_labels,
                           uint64_t *ref, struct kv_err *err)
{
    struct kv_buf canonical = {0};
    int entered = 0;
    ts_registry_enter(registry, &entered);
    kv_status rc = ts_labels_encode(labels, n_labels, &canonical);
    if (rc == KV_OK) {
        kv_slice bytes = kv_buf_slice(&canonical);
        rc = ts_registry_find_hash(registry, ts_registry_hash(registry, bytes), bytes, ref, err);
    }
    ts_registry_exit(registry, &entered);
    kv_buf_release(&canonical);
    return rc == KV_CONFLICT ? KV_NOT_FOUND : rc;
}

/* Stored canonical bytes to labels that live in the arena. */
static KV_MUST kv_status labels_copy(kv_slice stored, uint64_t ref, struct kv_arena *arena,
                                     struct ts_label **labels, size_t *n, struct kv_err *err)
{
    kv_slice copy = kv_arena_copy(arena, stored);
    if (!copy.data)
        return KV_NO_MEMORY;
    kv_status rc = ts_labels_decode(copy, arena, labels, n);
    if (rc == KV_CORRUPT)
        rc = kv_fail(err, rc, 0, "the labels of series %016llx are damaged", (unsigned long long)ref);
    return rc;
}

kv_status ts_registry_labels(struct ts_registry *registry, const struct kv_snapshot *snapshot, uint64_t ref,
                             struct kv_arena *arena, struct ts_label **labels, size_t *n, struct kv_err *err)
{
    struct kv_pinned value = {0};
    kv_status rc = labels_get(registry, snapshot, ref, &value, err);
    if (rc == KV_OK)
        rc = labels_copy(value.value, ref, arena, labels, n, err);
    kv_pinned_release(&value);
    return rc;
}

/* Moves the iterator to ref: a few steps if it is near, else a seek. KV_OK: it stands at ref; KV_NOT_FOUND:
 * there is no such series; KV_END. */
static KV_MUST kv_status labels_advance(struct kv_iter *it, bool *placed, uint64_t ref)
{
    enum { NEAR = 8 };
    struct ts_key key;
    kv_status rc = KV_OK;
    ts_key_labels(&key, ref);
    kv_slice target = ts_key_slice(&key);
    int c = *placed ? kv_slice_compare(it->key, target) : -1;
    for (int i = 0; *placed && c < 0 && i < NEAR; i++) {
        if ((rc = kv_iter_next(it)) != KV_OK)
            return rc;
        c = kv_slice_compare(it->key, target);
    }
    if (c < 0) {
        if ((rc = kv_iter_seek(it, target)) != KV_OK)
            return rc;
        c = kv_slice_compare(it->key, target);
    }
    *placed = true;
    return c == 0 ? KV_OK : KV_NOT_FOUND;
}

kv_status ts_labels_reader_open(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                uint64_t first, uint64_t last, struct ts_labels_reader *reader)
{
    struct ts_key lower, upper;
    *reader = (struct ts_labels_reader){.it = NULL};
    ts_key_labels(&lower, first);
    ts_key_labels(&upper, last);
    (void)ts_key_successor(&upper);
    return kv_iter_open(registry->db, snapshot, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper),
                        &reader->it);
}

kv_status ts_labels_reader_read(struct ts_labels_reader *reader, uint64_t ref, struct kv_arena *arena,
                                struct ts_labels *out, struct kv_err *err)
{
    *out = (struct ts_labels){0};
    kv_status rc = reader->ended ? KV_END : labels_advance(reader->it, &reader->placed, ref);
    reader->ended = rc == KV_END;
    if (rc != KV_OK)
        return rc < 0 ? rc : KV_OK;
    return labels_copy(reader->it->value, ref, arena, &out->labels, &out->n, err);
}

void ts_labels_reader_close(struct ts_labels_reader *reader)
{
    kv_iter_close(reader->it);
    reader->it = NULL;
}

kv_status ts_registry_labels_many(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                  const uint64_t *refs, size_t n, struct kv_arena *arena,
                                  struct ts_labels *out, struct kv_err *err)
{
    struct ts_labels_reader reader;
    if (n == 0)
        return KV_OK;
    memset(out, 0, n * sizeof *out);
    kv_status rc = ts_labels_reader_open(registry, snapshot, refs[0], refs[n - 1], &reader);
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = ts_labels_reader_read(&reader, refs[i], arena, &out[i], err);
    ts_labels_reader_close(&reader);
    return rc;
}
