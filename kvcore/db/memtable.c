#include "kvcore/db/memtable.h"
#include "kvcore/base/arena.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/ranges.h"
#include "kvcore/db/skiplist.h"
#include "kvcore/kv.h"

enum {
    RANGES_TAIL = 16, /* range deletions read one by one before they are indexed */
    FILTER_LINE_WORDS = 8,
    FILTER_PROBES = 4,
};

struct range_node {
    struct kv_range range;
    const struct range_node *older;
};
/* A set made of the nodes from `newest` back to where `older` begins. */
struct range_index {
    struct kv_ranges *set;
    const struct range_node *newest;
    const struct range_index *older;
    struct range_index *made_before; /* all that were ever made, for the end */
};

struct memtable_space {
    struct kv_skiplist list;
    _Atomic uint64_t entries;
    _Atomic(const struct range_node *) ranges; /* newest first */
    _Atomic(const struct range_index *) index;
    _Atomic uint64_t n_ranges;
    struct range_index *made; /* writer */
    size_t tail;              /* writer: nodes in front of the index */
};

struct kv_memtable {
    _Atomic uint32_t refs;
    uint32_t n_spaces;
    struct kv_arena arena;
    _Atomic size_t bytes;      /* arena.used, for other threads */
    _Atomic uint64_t *account; /* that they are counted in, too; NULL: none */
    _Atomic uint64_t version_oldest, version_newest;
    _Atomic bool unordered;   /* something was added behind a newer version */
    _Atomic uint64_t *filter; /* lines of memory; NULL: none */
    size_t filter_lines;
    struct memtable_space spaces[];
};

static void memtable_count_bytes(struct kv_memtable *memtable)
{
    size_t filter_bytes = memtable->filter_lines * FILTER_LINE_WORDS * sizeof *memtable->filter;
    size_t before = atomic_load_explicit(&memtable->bytes, memory_order_relaxed);
    size_t now = memtable->arena.used + filter_bytes;
    if (now == before)
        return;
    atomic_store_explicit(&memtable->bytes, now, memory_order_relaxed);
    if (memtable->account) /* it only grows */
        atomic_fetch_add_explicit(memtable->account, now - before, memory_order_relaxed);
}

void kv_memtable_account(struct kv_memtable *memtable, _Atomic uint64_t *account)
{
    KV_ASSERT(!memtable->account);
    memtable->account = account;
    atomic_fetch_add_explicit(account, kv_memtable_bytes(memtable), memory_order_relaxed);
}

kv_status kv_memtable_new(uint32_t n_spaces, struct kv_memtable **out)
{
    KV_ASSERT(n_spaces <= KV_SPACES_MAX);
    struct kv_memtable *memtable = kv_zalloc(1, sizeof *memtable + n_spaces * sizeof memtable->spaces[0]);
    if (!memtable)
        return KV_NO_MEMORY;
    atomic_init(&memtable->refs, 1);
    memtable->n_spaces = n_spaces;
    memtable->arena.large = true;
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
    for (uint32_t i = 0; i < memtable->n_spaces; i++)
        for (struct range_index *at = memtable->spaces[i].made, *next; at; at = next) {
            next = at->made_before;
            kv_ranges_unref(at->set);
            kv_free(at);
        }
    if (memtable->account)
        atomic_fetch_sub_explicit(memtable->account, kv_memtable_bytes(memtable), memory_order_relaxed);
    kv_arena_release(&memtable->arena);
    kv_free(memtable->filter);
    kv_free(memtable);
}

/* ---- filter: bits of one line of memory for each key, set by the writer before the entry can be visible */

void kv_memtable_filter(struct kv_memtable *memtable, size_t bytes)
{
    enum { LINE = FILTER_LINE_WORDS * sizeof *memtable->filter };
    KV_ASSERT(!memtable->filter && kv_memtable_entries_all(memtable) == 0);
    size_t lines = bytes / LINE;
    if (lines == 0)
        return;
    void *filter =
        bytes >= KV_LARGE_PAGE ? kv_alloc_large(lines * LINE) : kv_alloc_aligned(LINE, lines * LINE);
    if (!filter)
        return;
    memset(filter, 0, lines * LINE);
    memtable->filter = filter;
    memtable->filter_lines = lines;
    memtable_count_bytes(memtable);
}

static inline uint64_t filter_word(uint64_t hash, int probe, size_t *word)
{
    uint64_t bits = hash * UINT64_C(0x9e3779b97f4a7c15) >> (10 + 9 * probe);
    *word = (size_t)(bits >> 6 & (FILTER_LINE_WORDS - 1));
    return (uint64_t)1 << (bits & 63);
}

static inline _Atomic uint64_t *filter_line(const struct kv_memtable *memtable, uint64_t hash)
{
    return memtable->filter + (size_t)((hash >> 32) * memtable->filter_lines >> 32) * FILTER_LINE_WORDS;
}

/* The line that filter_set will want, on its way from memory; NULL: there is no filter. */
static _Atomic uint64_t *filter_fetch(const struct kv_memtable *memtable, uint32_t space, kv_slice key,
                                      uint64_t *hash)
{
    if (!memtable->filter)
        return NULL;
    *hash = kv_hash64(key, space);
    _Atomic uint64_t *line = filter_line(memtable, *hash);
    __builtin_prefetch((const void *)line, 1);
    return line;
}

static void filter_set(_Atomic uint64_t *line, uint64_t hash)
{
    for (int probe = 0; line && probe < FILTER_PROBES; probe++) {
        size_t word;
        uint64_t bit = filter_word(hash, probe, &word),
                 old = atomic_load_explicit(&line[word], memory_order_relaxed);
        atomic_store_explicit(&line[word], old | bit, memory_order_relaxed);
    }
}

static bool filter_may_hold(const struct kv_memtable *memtable, uint32_t space, kv_slice key)
{
    if (!memtable->filter)
        return true;
    uint64_t hash = kv_hash64(key, space);
    _Atomic uint64_t *line = filter_line(memtable, hash);
    for (int probe = 0; probe < FILTER_PROBES; probe++) {
        size_t word;
        uint64_t bit = filter_word(hash, probe, &word);
        if (!(atomic_load_explicit(&line[word], memory_order_relaxed) & bit))
            return false;
    }
    return true;
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

/* ---- range deletions
 *
 * The writer puts them in front of a list; past RANGES_TAIL of them it indexes the front, together with older
 * indexes that are not much larger, so that there are a logarithmic number of sets and each range is copied a
 * logarithmic number of times. Readers take the index first and the list second, so that the list's front lies
 * at or in front of what the index covers: they walk from the one to the other. Without memory for an index the
 * list in front of it is only longer. Indexes are not of the arena: its reserved room is for entries.
 */

static size_t ranges_gather(const struct range_node *from, const struct range_node *until,
                            struct kv_range *out)
{
    size_t n = 0;
    for (; from != until; from = from->older, n++)
        if (out)
            out[n] = from->range;
    return n;
}

static void ranges_index(struct memtable_space *in)
{
    const struct range_node *newest = atomic_load_explicit(&in->ranges, memory_order_relaxed);
    const struct range_index *older = atomic_load_explicit(&in->index, memory_order_relaxed);
    size_t n = in->tail;
    for (; older && kv_ranges_count(older->set) <= 2 * n; older = older->older)
        n += kv_ranges_count(older->set);
    struct kv_range *list = kv_alloc(n * sizeof *list);
    struct range_index *index = kv_alloc(sizeof *index);
    if (list && index) {
        *index = (struct range_index){.newest = newest, .older = older, .made_before = in->made};
        size_t found = ranges_gather(newest, older ? older->newest : NULL, list);
        KV_ASSERT(found == n);
        if (kv_ranges_new(list, n, &index->set) == KV_OK) {
            in->made = index;
            in->tail = 0;
            atomic_store_explicit(&in->index, index, memory_order_release);
            index = NULL;
        }
    }
    kv_free(index);
    kv_free(list);
}

static kv_status memtable_add_range(struct kv_memtable *memtable, struct memtable_space *in,
                                    const struct kv_entry *entry)
{
    struct range_node *node =
        kv_arena_alloc(&memtable->arena, sizeof *node + entry->key.len + entry->value.len);
    if (!node)
        return KV_NO_MEMORY;
    uint8_t *keys = (uint8_t *)(node + 1);
    memcpy(keys, entry->key.data, entry->key.len);
    memcpy(keys + entry->key.len, entry->value.data, entry->value.len);
    node->range = (struct kv_range){kv_slice_of(keys, entry->key.len),
                                    kv_slice_of(keys + entry->key.len, entry->value.len), entry->version};
    node->older = atomic_load_explicit(&in->ranges, memory_order_relaxed);
    atomic_store_explicit(&in->ranges, node, memory_order_release);
    atomic_fetch_add_explicit(&in->n_ranges, 1, memory_order_relaxed);
    if (++in->tail >= RANGES_TAIL)
        ranges_index(in);
    return KV_OK;
}

struct ranges_seen {
    const struct range_node *front;
    const struct range_index *index;
};
static struct ranges_seen ranges_see(const struct memtable_space *in)
{
    struct ranges_seen seen;
    seen.index = atomic_load_explicit(&in->index, memory_order_acquire);
    seen.front = atomic_load_explicit(&in->ranges, memory_order_acquire);
    return seen;
}

uint64_t kv_memtable_range_newest(struct kv_memtable *memtable, uint32_t space, kv_slice key,
                                  uint64_t version_max)
{
    struct ranges_seen seen = ranges_see(&memtable->spaces[space]);
    const struct range_node *until = seen.index ? seen.index->newest : NULL;
    uint64_t best = 0;
    for (const struct range_node *at = seen.front; at != until; at = at->older)
        if (at->range.version > best && at->range.version <= version_max &&
            kv_slice_compare(at->range.lower, key) <= 0 && kv_slice_compare(at->range.upper, key) > 0)
            best = at->range.version;
    for (const struct range_index *index = seen.index; index; index = index->older) {
        uint64_t version = kv_ranges_newest(index->set, key, version_max);
        best = version > best ? version : best;
    }
    return best;
}

bool kv_memtable_ranges_touch(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper,
                              uint64_t version)
{
    const struct memtable_space *in = &memtable->spaces[space];
    for (const struct range_node *at = ranges_see(in).front; at; at = at->older)
        if (at->range.version > version && kv_slice_compare(at->range.upper, lower) > 0 &&
            (upper.len == 0 || kv_slice_compare(at->range.lower, upper) < 0))
            return true;
    return false;
}

kv_status kv_memtable_ranges(struct kv_memtable *memtable, uint32_t space, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    const struct range_node *at = ranges_see(&memtable->spaces[space]).front;
    for (; at && rc == KV_OK; at = at->older)
        rc = kv_buf_append(out, kv_slice_of(&at->range, sizeof at->range));
    return rc;
}

uint64_t kv_memtable_range_count(const struct kv_memtable *memtable, uint32_t space)
{
    return atomic_load_explicit(&memtable->spaces[space].n_ranges, memory_order_relaxed);
}

/* ---- entries */

static void memtable_count_version(struct kv_memtable *memtable, uint64_t version)
{
    uint64_t oldest = atomic_load_explicit(&memtable->version_oldest, memory_order_relaxed);
    if (oldest == 0 || version < oldest)
        atomic_store_explicit(&memtable->version_oldest, version, memory_order_relaxed);
    if (version > atomic_load_explicit(&memtable->version_newest, memory_order_relaxed))
        atomic_store_explicit(&memtable->version_newest, version, memory_order_relaxed);
}

kv_status kv_memtable_add(struct kv_memtable *memtable, uint32_t space, const struct kv_entry *entry)
{
    KV_ASSERT(space < memtable->n_spaces);
    KV_ASSERT(entry->version <= KV_VERSION_STORED_MAX);
    KV_ASSERT(entry->key.len > 0 && entry->key.len <= KV_KEY_LEN_MAX);
    KV_ASSERT(entry->value.len <= KV_VALUE_LEN_MAX);
    struct memtable_space *in = &memtable->spaces[space];
    bool range = entry->kind == KV_KIND_RANGE;
    if (entry->version < atomic_load_explicit(&memtable->version_newest, memory_order_relaxed))
        atomic_store_explicit(&memtable->unordered, true, memory_order_relaxed); /* before it can be seen */
    uint64_t hash = 0;
    _Atomic uint64_t *line = range ? NULL : filter_fetch(memtable, space, entry->key, &hash);
    kv_status rc = range ? memtable_add_range(memtable, in, entry)
                         : kv_skiplist_insert(&in->list, &memtable->arena, entry);
    if (rc == KV_EXISTS)
        return KV_OK;
    if (rc < 0)
        return rc;
    filter_set(line, hash);
    memtable_count_version(memtable, entry->version);
    if (!range)
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
    if (!filter_may_hold(memtable, space, key))
        return KV_NOT_FOUND;
    const struct kv_skipnode *node = kv_skiplist_seek(&memtable->spaces[space].list, key, version);
    if (!node)
        return KV_NOT_FOUND;
    kv_skiplist_entry(node, &entry);
    if (!kv_slice_equal(entry.key, key))
        return KV_NOT_FOUND;
    *out = (struct kv_found){.version = entry.version, .kind = entry.kind, .value = entry.value};
    return KV_OK;
}

uint64_t kv_memtable_estimate(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper)
{
    return space < memtable->n_spaces ? kv_skiplist_estimate(&memtable->spaces[space].list, lower, upper) : 0;
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
        sum += kv_memtable_entries(memtable, i) + kv_memtable_range_count(memtable, i);
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
    kv_slice lower, upper;
};

static kv_status iter_show(struct memtable_iter *iter)
{
    struct kv_entry entry;
    if (!iter->node)
        return KV_END;
    kv_skiplist_entry(iter->node, &entry);
    if (iter->upper.len && kv_slice_compare(entry.key, iter->upper) >= 0) {
        iter->node = NULL;
        return KV_END;
    }
    iter->it.key = entry.key;
    iter->it.value = entry.value;
    iter->it.version = entry.version;
    iter->it.kind = entry.kind;
    kv_skiplist_prefetch(iter->node); /* while this one is used, the next comes from memory */
    return KV_OK;
}

static kv_status iter_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    if (kv_slice_compare(key, iter->lower) < 0) {
        key = iter->lower;
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

/* As iter_show, for a walk backward. */
static kv_status iter_show_backward(struct memtable_iter *iter)
{
    struct kv_entry entry;
    if (!iter->node)
        return KV_END;
    kv_skiplist_entry(iter->node, &entry);
    if (kv_slice_compare(entry.key, iter->lower) < 0) {
        iter->node = NULL;
        return KV_END;
    }
    return iter_show(iter);
}

static kv_status iter_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    kv_slice upper = iter->upper;
    if (upper.len && (key.len == 0 || kv_slice_compare(key, upper) > 0)) {
        key = upper;
        version = KV_VERSION_MAX;
    }
    iter->node = kv_skiplist_before(iter->list, key, version);
    return iter_show_backward(iter);
}

static kv_status iter_prev(struct kv_entry_iter *it)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    if (iter->node)
        iter->node = kv_skiplist_before(iter->list, it->key, it->version);
    return iter_show_backward(iter);
}

static void iter_close(struct kv_entry_iter *it)
{
    struct memtable_iter *iter = KV_CONTAINER(it, struct memtable_iter, it);
    kv_memtable_unref(iter->memtable);
    kv_free(iter);
}

kv_status kv_memtable_iter_open(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper,
                                struct kv_entry_iter **out)
{
    static const struct kv_entry_iter_ops ops = {iter_seek, iter_next, iter_seek_before, iter_prev,
                                                 iter_close};
    KV_ASSERT(space < memtable->n_spaces);
    struct memtable_iter *iter = kv_zalloc(1, sizeof *iter);
    if (!iter)
        return KV_NO_MEMORY;
    iter->it.ops = &ops;
    iter->it.version_max = UINT64_MAX; /* it may still be written to */
    iter->memtable = kv_memtable_ref(memtable);
    iter->list = &memtable->spaces[space].list;
    iter->lower = lower;
    iter->upper = upper;
    *out = &iter->it;
    return KV_OK;
}
