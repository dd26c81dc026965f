#include "kvcore/db/skiplist.h"
#include "kvcore/base/assert.h"

enum {
    ESTIMATE_ENOUGH = 64,
    NEAR_LEVEL = 3,     /* what this level does not pass over is near: some 64 nodes */
    NEAR_LEVEL_MAX = 5, /* what this one does is far */
};

struct kv_skipnode {
    struct kv_skipnode *before; /* inserted before this one */
    uint64_t version;
    uint32_t key_len, value_len;
    uint8_t kind, height;
    /* height links, then the key, then the value */
    _Atomic(struct kv_skipnode *) next[];
};

static size_t skipnode_bytes(size_t height, size_t key_len, size_t value_len)
{
    return sizeof(struct kv_skipnode) + height * sizeof(_Atomic(struct kv_skipnode *)) + key_len + value_len;
}

static inline kv_slice skipnode_key(const struct kv_skipnode *node)
{
    return kv_slice_of((const uint8_t *)(node->next + node->height), node->key_len);
}

static inline struct kv_skipnode *skipnode_next(const struct kv_skipnode *node, int level)
{
    return atomic_load_explicit(&((struct kv_skipnode *)(uintptr_t)node)->next[level], memory_order_acquire);
}

size_t kv_skiplist_node_bytes_max(size_t key_len, size_t value_len)
{
    return skipnode_bytes(KV_SKIPLIST_HEIGHT, key_len, value_len) + 16; /* the arena's alignment */
}

kv_status kv_skiplist_init(struct kv_skiplist *list, struct kv_arena *arena, uint64_t seed)
{
    list->head = kv_arena_zalloc(arena, 1, skipnode_bytes(KV_SKIPLIST_HEIGHT, 0, 0));
    if (!list->head)
        return KV_NO_MEMORY;
    list->head->height = KV_SKIPLIST_HEIGHT;
    for (int level = 0; level < KV_SKIPLIST_HEIGHT; level++)
        list->near[level] = list->head;
    atomic_init(&list->last, NULL);
    atomic_init(&list->height, 1);
    kv_prng_init(&list->prng, seed);
    return KV_OK;
}

static int skiplist_random_height(struct kv_skiplist *list)
{
    uint64_t bits = kv_prng_next(&list->prng);
    int height = 1;
    while (height < KV_SKIPLIST_HEIGHT && (bits & 3) == 0) {
        bits >>= 2;
        height++;
    }
    return height;
}

static inline bool skipnode_before(const struct kv_skipnode *node, kv_slice key, uint64_t version)
{
    return kv_entry_compare(skipnode_key(node), node->version, key, version) < 0;
}

/* As skiplist_find, if the place lies not far behind the node inserted last; else false. */
static bool skiplist_find_near(const struct kv_skiplist *list, kv_slice key, uint64_t version,
                               struct kv_skipnode **prev, struct kv_skipnode **found)
{
    struct kv_skipnode *const *near = list->near;
    struct kv_skipnode *at = NULL, *next = NULL; /* at: NULL while no node behind near[0] is passed */
    int top = NEAR_LEVEL;
    if (near[0] == list->head || !skipnode_before(near[0], key, version))
        return false;
    while ((next = skipnode_next(near[top], top)) && skipnode_before(next, key, version))
        if (++top > NEAR_LEVEL_MAX)
            return false;
    for (int level = KV_SKIPLIST_HEIGHT - 1; level >= top; level--)
        prev[level] =
            near[level]; /* that level has nothing between near[level] and the place, nor has any above it */
    for (int level = top - 1; level >= 0; level--) {
        prev[level] = at ? at : near[level];
        while ((next = skipnode_next(prev[level], level)) && skipnode_before(next, key, version))
            prev[level] = at = next;
    }
    *found = next;
    return true;
}

/* The first node at or after (key, version); prev (may be NULL) gets the last one before it on each level in
 * use. */
static struct kv_skipnode *skiplist_find(const struct kv_skiplist *list, kv_slice key, uint64_t version,
                                         struct kv_skipnode **prev)
{
    struct kv_skipnode *at = list->head, *behind = NULL, *next = NULL;
    for (int level = atomic_load_explicit(&list->height, memory_order_relaxed) - 1; level >= 0; level--) {
        /* What stopped the level above stops this one too: no need to compare with it again. While one node is
         * compared, the one that is next if it lies behind comes from memory already. */
        while ((next = skipnode_next(at, level)) && next != behind) {
            if (level > 0)
                __builtin_prefetch(skipnode_next(at, level - 1));
            if (!skipnode_before(next, key, version))
                break;
            at = next;
        }
        behind = next;
        if (prev)
            prev[level] = at;
    }
    return next;
}

kv_status kv_skiplist_insert(struct kv_skiplist *list, struct kv_arena *arena, const struct kv_entry *entry)
{
    struct kv_skipnode *prev[KV_SKIPLIST_HEIGHT];
    struct kv_skipnode *found;
    if (!skiplist_find_near(list, entry->key, entry->version, prev, &found))
        found = skiplist_find(list, entry->key, entry->version, prev);
    if (found && found->version == entry->version && kv_slice_equal(skipnode_key(found), entry->key))
        return KV_EXISTS;
    int height = skiplist_random_height(list),
        in_use = atomic_load_explicit(&list->height, memory_order_relaxed);
    struct kv_skipnode *node =
        kv_arena_alloc(arena, skipnode_bytes((size_t)height, entry->key.len, entry->value.len));
    if (!node)
        return KV_NO_MEMORY;
    node->version = entry->version;
    node->key_len = (uint32_t)entry->key.len;
    node->value_len = (uint32_t)entry->value.len;
    node->kind = (uint8_t)entry->kind;
    node->height = (uint8_t)height;
    uint8_t *bytes = (uint8_t *)(node->next + height);
    memcpy(bytes, entry->key.data, entry->key.len);
    if (entry->value.len)
        memcpy(bytes + entry->key.len, entry->value.data, entry->value.len);
    for (int level = in_use; level < height; level++)
        prev[level] = list->head;
    /* A reader that still sees the old height just starts lower; one that sees the new one finds NULL links
     * at worst. */
    if (height > in_use)
        atomic_store_explicit(&list->height, height, memory_order_relaxed);
    node->before = atomic_load_explicit(&list->last, memory_order_relaxed);
    atomic_store_explicit(&list->last, node, memory_order_release);
    for (int level = 0; level < KV_SKIPLIST_HEIGHT; level++)
        list->near[level] = level < height ? node : level < in_use ? prev[level] : list->head;
    for (int level = 0; level < height; level++) {
        atomic_init(&node->next[level], skipnode_next(prev[level], level));
        atomic_store_explicit(&prev[level]->next[level], node, memory_order_release);
    }
    return KV_OK;
}

const struct kv_skipnode *kv_skiplist_seek(const struct kv_skiplist *list, kv_slice key, uint64_t version)
{
    return skiplist_find(list, key, version, NULL);
}

const struct kv_skipnode *kv_skiplist_before(const struct kv_skiplist *list, kv_slice key, uint64_t version)
{
    struct kv_skipnode *at = list->head;
    for (int level = atomic_load_explicit(&list->height, memory_order_relaxed) - 1; level >= 0; level--)
        for (struct kv_skipnode *next;
             (next = skipnode_next(at, level)) && (key.len == 0 || skipnode_before(next, key, version));)
            at = next;
    return at == list->head ? NULL : at;
}

uint64_t kv_skiplist_estimate(const struct kv_skiplist *list, kv_slice lower, kv_slice upper)
{
    struct kv_skipnode *at = list->head;
    for (int level = atomic_load_explicit(&list->height, memory_order_relaxed) - 1;; level--) {
        struct kv_skipnode *next;
        uint64_t seen = 0;
        while ((next = skipnode_next(at, level)) && lower.len && skipnode_before(next, lower, KV_VERSION_MAX))
            at = next;
        while (next && (!upper.len || skipnode_before(next, upper, KV_VERSION_MAX))) {
            seen++;
            next = skipnode_next(next, level);
        }
        if (level == 0 || seen >= ESTIMATE_ENOUGH)
            return seen << (2 * level); /* branching 4 */
    }
}

const struct kv_skipnode *kv_skiplist_next(const struct kv_skipnode *node)
{
    return skipnode_next(node, 0);
}

void kv_skiplist_prefetch(const struct kv_skipnode *node)
{
    __builtin_prefetch(skipnode_next(node, 0));
}

const struct kv_skipnode *kv_skiplist_inserted(const struct kv_skiplist *list, const struct kv_skipnode *node)
{
    return node ? node->before
                : atomic_load_explicit(&((struct kv_skiplist *)(uintptr_t)list)->last, memory_order_acquire);
}

void kv_skiplist_entry(const struct kv_skipnode *node, struct kv_entry *out)
{
    out->key = skipnode_key(node);
    out->value = kv_slice_of(out->key.data + out->key.len, node->value_len);
    out->version = node->version;
    out->kind = (enum kv_kind)node->kind;
}
