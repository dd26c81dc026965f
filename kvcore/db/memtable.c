#include "kvcore/db/memtable.h"
#include "kvcore/base/arena.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/skiplist.h"
#include "kvcore/kv.h"

struct memtable_space {
    struct kv_skiplist list;
    _Atomic uint64_t entries;
};

struct kv_memtable {
    _Atomic uint32_t refs;
    uint32_t n_spaces;
    struct kv_arena arena;
    _Atomic size_t bytes; /* arena.used, for other threads */
    _Atomic uint64_t version_oldest, version_newest;
    _Atomic bool unordered; /* something was added behind a newer version */
    struct memtable_space spaces[];
};

static void memtable_count_bytes(struct kv_memtable *memtable)
{
    atomic_store_explicit(&memtable->bytes, memtable->arena.used, memory_order_relaxed);
}

kv_status kv_memtable_new(uint32_t n_spaces, struct kv_memtable **out)
{
    KV_ASSERT(n_spaces <= KV_SPACES_MAX);
    struct kv_memtable *memtable = kv_zalloc(1, sizeof *memtable + n_spaces * sizeof memtable->spaces[0]);
    if (!memtable)
        return KV_NO_MEMORY;
    atomic_init(&memtable->refs, 1);
    memtable->n_spaces = n_spaces;
    for (uint32_t i = 0; i < n_spaces; i++) {
        /* The seed decides node heights only; keys cannot be chosen against it, for they do not enter it. */
        if (kv_skiplist_init(&memtable->spaces[i].list, &memtable->arena, 0x746d + i) < 0) {
            kv_memtable_unref(memtable);
            return KV_NO_MEMORY;
        }
    }
    memtable_count_bytes(memtable);
    *out = memtable;
    return KV_OK;
}

struct kv_memtable *kv_memtable_ref(struct kv_memtable *memtable)
{
    atomic_fetch_add_explicit(&memtable->refs, 1, memory_order_relaxed);
    return memtable;
}

void kv_memtable_unref(struct kv_memtable *memtable)
{
    if (!memtable || atomic_fetch_sub_explicit(&memtable->refs, 1, memory_order_acq_rel) != 1)
        return;
    kv_arena_release(&memtable->arena);
    kv_free(memtable);
}

kv_status kv_memtable_reserve(struct kv_memtable *memtable, size_t entries, size_t bytes)
{
    size_t need;
    if (__builtin_mul_overflow(entries, kv_skiplist_node_bytes_max(0, 0), &need) ||
        __builtin_add_overflow(need, bytes, &need))
        return KV_NO_MEMORY;
    uint8_t *room = kv_arena_alloc(&memtable->arena, need);
    if (!room)
        return KV_NO_MEMORY;
    memtable->arena.at =
        room; /* given back: it lies at the front of the newest block, where the adds will take it */
    memtable_count_bytes(memtable);
    return KV_OK;
}

kv_status kv_memtable_add(struct kv_memtable *memtable, uint32_t space, const struct kv_entry *entry)
{
    KV_ASSERT(space < memtable->n_spaces);
    KV_ASSERT(entry->version <= KV_VERSION_STORED_MAX);
    KV_ASSERT(entry->key.len > 0 && entry->key.len <= KV_KEY_LEN_MAX);
    KV_ASSERT(entry->value.len <= KV_VALUE_LEN_MAX);
    struct memtable_space *in = &memtable->spaces[space];
    uint64_t newest = atomic_load_explicit(&memtable->version_newest, memory_order_relaxed);
    if (entry->version < newest) /* said before the entry can be seen */
        atomic_store_explicit(&memtable->unordered, true, memory_order_relaxed);
    kv_status rc = kv_skiplist_insert(&in->list, &memtable->arena, entry);
    if (rc == KV_EXISTS)
        return KV_OK;
    if (rc < 0)
        return rc;
    uint64_t oldest = atomic_load_explicit(&memtable->version_oldest, memory_order_relaxed);
    if (oldest == 0 || entry->version < oldest)
        atomic_store_explicit(&memtable->version_oldest, entry->version, memory_order_relaxed);
    if (entry->version > newest)
        atomic_store_explicit(&memtable->version_newest, entry->version, memory_order_relaxed);
    atomic_fetch_add_explicit(&in->entries, 1, memory_order_relaxed);
    memtable_count_bytes(memtable);
    return KV_OK;
}

kv_status kv_memtable_get(struct kv_memtable *memtable, uint32_t space, kv_slice key, uint64_t version,
                          struct kv_found *out)
{
    KV_ASSERT(space < memtable->n_spaces);
    struct kv_entry entry;
    *out = (struct kv_found){0};
    const struct kv_skipnode *node = kv_skiplist_seek(&memtable->spaces[space].list, key, version);
    if (!node)
        return KV_NOT_FOUND;
    kv_skiplist_entry(node, &entry);
    if (!kv_slice_equal(entry.key, key))
        return KV_NOT_FOUND;
    *out = (struct kv_found){.version = entry.version, .kind = entry.kind, .value = entry.value};
    return KV_OK;
}

bool kv_memtable_touches(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper)
{
    KV_ASSERT(space < memtable->n_spaces);
    struct kv_entry entry;
    const struct kv_skipnode *node = kv_skiplist_seek(&memtable->spaces[space].list, lower, KV_VERSION_MAX);
    if (!node)
        return false;
    kv_skiplist_entry(node, &entry);
    return upper.len == 0 || kv_slice_compare(entry.key, upper) < 0;
}

kv_status kv_memtable_newer(struct kv_memtable *memtable, uint32_t space, uint64_t since,
                            const struct kv_skipnode **at, struct kv_entry *entry)
{
    KV_ASSERT(space < memtable->n_spaces);
    while ((*at = kv_skiplist_inserted(&memtable->spaces[space].list, *at)) != NULL) {
        kv_skiplist_entry(*at, entry);
        if (entry->version > since)
            return KV_OK;
        if (!atomic_load_explicit(&memtable->unordered, memory_order_relaxed))
            break;
    }
    return KV_END;
}

size_t kv_memtable_bytes(const struct kv_memtable *memtable)
{
    return atomic_load_explicit(&memtable->bytes, memory_order_relaxed);
}

uint64_t kv_memtable_entries(const struct kv_memtable *memtable, uint32_t space)
{
    KV_ASSERT(space < memtable->n_spaces);
    return atomic_load_explicit(&memtable->spaces[space].entries, memory_order_relaxed);
}

uint64_t kv_memtable_entries_all(const struct kv_memtable *memtable)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < memtable->n_spaces; i++)
        sum += kv_memtable_entries(memtable, i);
    return sum;
}

uint64_t kv_memtable_version_oldest(const struct kv_memtable *memtable)
{
    return atomic_load_explicit(&memtable->version_oldest, memory_order_relaxed);
}

uint64_t kv_memtable_version_newest(const struct kv_memtable *memtable)
{
    return atomic_load_explicit(&memtable->version_newest, memory_order_relaxed);
}

/* ---- walking */

struct memtable_iter {
    struct kv_entry_iter it;
    struct kv_memtable *memtable;
    const struct kv_skiplist *list;
    const struct kv_skipnode *node;
    struct kv_buf lower, upper;
};

static kv_status iter_show(struct memtable_iter *iter)
{
    struct kv_entry entry;
    if (!iter->node)
        return KV_END;
    kv_skiplist_entry(iter->node, &entry);
    if (iter->upper.len && kv_slice_compare(entry.key, kv_buf_slice(&iter->upper)) >= 0) {
        iter->node = NULL;
        return KV_END;
    }
    iter->it.key = entry.key;
    iter->it.value = entry.value;
    iter->it.version = entry.version;
    iter->it.kind = entry.kind;
    return KV_OK;
}

static kv_status iter_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    if (kv_slice_compare(key, kv_buf_slice(&iter->lower)) < 0) {
        key = kv_buf_slice(&iter->lower);
        version = KV_VERSION_MAX;
    }
    iter->node = kv_skiplist_seek(iter->list, key, version);
    return iter_show(iter);
}

static kv_status iter_next(struct kv_entry_iter *it)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    if (iter->node)
        iter->node = kv_skiplist_next(iter->node);
    return iter_show(iter);
}

static void iter_close(struct kv_entry_iter *it)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    kv_memtable_unref(iter->memtable);
    kv_buf_release(&iter->lower);
    kv_buf_release(&iter->upper);
    kv_free(iter);
}

kv_status kv_memtable_iter_open(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper,
                                struct kv_entry_iter **out)
{
    static const struct kv_entry_iter_ops ops = {iter_seek, iter_next, iter_close};
    KV_ASSERT(space < memtable->n_spaces);
    struct memtable_iter *iter = kv_zalloc(1, sizeof *iter);
    if (!iter)
        return KV_NO_MEMORY;
    iter->it.ops = &ops;
    iter->it.version_max = UINT64_MAX; /* it may still be written to */
    iter->memtable = kv_memtable_ref(memtable);
    iter->list = &memtable->spaces[space].list;
    kv_status rc = kv_buf_append(&iter->lower, lower);
    if (rc == KV_OK)
        rc = kv_buf_append(&iter->upper, upper);
    if (rc < 0)
        iter_close(&iter->it);
    else
        *out = &iter->it;
    return rc;
}
