#include "kvcore/db/ranges.h"
#include "kvcore/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>

struct ranges_node {
    struct kv_range range;
    kv_slice upper_max;   /* of the subtree; points into some range of it */
    uint64_t version_max; /* of the subtree */
};
struct kv_ranges {
    _Atomic uint32_t refs;
    size_t n, bytes;
    struct ranges_node nodes[]; /* then the keys */
};

static int order_ranges(const void *a, const void *b)
{
    const struct kv_range *x = &((const struct ranges_node *)a)->range,
                          *y = &((const struct ranges_node *)b)->range;
    int c = kv_slice_compare(x->lower, y->lower);
    return c ? c : (x->version < y->version) - (x->version > y->version);
}

/* The root of nodes[low, high) is the middle one. Depth is at most 64. */
static void ranges_summarise(struct kv_ranges *set, size_t low, size_t high)
{
    size_t middle = low + (high - low) / 2;
    struct ranges_node *node = &set->nodes[middle];
    node->upper_max = node->range.upper;
    node->version_max = node->range.version;
    for (int side = 0; side < 2; side++) {
        size_t from = side ? middle + 1 : low, to = side ? high : middle;
        if (from == to)
            continue;
        ranges_summarise(set, from, to);
        const struct ranges_node *child = &set->nodes[from + (to - from) / 2];
        if (kv_slice_compare(child->upper_max, node->upper_max) > 0)
            node->upper_max = child->upper_max;
        if (child->version_max > node->version_max)
            node->version_max = child->version_max;
    }
}

kv_status kv_ranges_new(const struct kv_range *ranges, size_t n, struct kv_ranges **out)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += ranges[i].lower.len + ranges[i].upper.len;
    struct kv_ranges *set = kv_alloc(sizeof *set + n * sizeof set->nodes[0] + bytes);
    if (!set)
        return KV_NO_MEMORY;
    atomic_init(&set->refs, 1);
    set->n = n;
    set->bytes = bytes;
    uint8_t *keys = (uint8_t *)&set->nodes[n];
    for (size_t i = 0; i < n; i++) {
        struct kv_range *range = &set->nodes[i].range;
        memcpy(keys, ranges[i].lower.data, ranges[i].lower.len);
        range->lower = kv_slice_of(keys, ranges[i].lower.len);
        keys += range->lower.len;
        memcpy(keys, ranges[i].upper.data, ranges[i].upper.len);
        range->upper = kv_slice_of(keys, ranges[i].upper.len);
        keys += range->upper.len;
        range->version = ranges[i].version;
    }
    if (n > 1)
        qsort(set->nodes, n, sizeof set->nodes[0], order_ranges);
    if (n > 0)
        ranges_summarise(set, 0, n);
    *out = set;
    return KV_OK;
}

struct kv_ranges *kv_ranges_ref(struct kv_ranges *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void kv_ranges_unref(struct kv_ranges *set)
{
    if (set && atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) == 1)
        kv_free(set);
}

size_t kv_ranges_count(const struct kv_ranges *set)
{
    return set ? set->n : 0;
}

size_t kv_ranges_bytes(const struct kv_ranges *set)
{
    return set ? set->bytes : 0;
}

uint64_t kv_ranges_version_max(const struct kv_ranges *set)
{
    return set && set->n ? set->nodes[set->n / 2].version_max : 0;
}

const struct kv_range *kv_ranges_at(const struct kv_ranges *set, size_t i)
{
    return &set->nodes[i].range;
}

/* What is asked for, and the best answer so far. */
struct question {
    kv_slice first, last; /* both to be covered; exclusive: all of [first, last) */
    uint64_t version_max, best;
    bool exclusive;
};

static bool ranges_reach(const struct question *q, kv_slice upper)
{
    int c = kv_slice_compare(upper, q->last);
    return c > 0 || (c == 0 && q->exclusive);
}

static void ranges_search(const struct kv_ranges *set, size_t low, size_t high, struct question *q)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct ranges_node *node = &set->nodes[middle];
        if (node->version_max <= q->best || !ranges_reach(q, node->upper_max))
            return;
        if (kv_slice_compare(node->range.lower, q->first) <= 0) {
            uint64_t version = node->range.version;
            if (version > q->best && version <= q->version_max && ranges_reach(q, node->range.upper))
                q->best = version;
            ranges_search(set, middle + 1, high, q);
        }
        high = middle;
    }
}

uint64_t kv_ranges_newest_over(const struct kv_ranges *set, kv_slice first, kv_slice last,
                               uint64_t version_max)
{
    struct question q = {first, last, version_max, 0, false};
    if (set)
        ranges_search(set, 0, set->n, &q);
    return q.best;
}

uint64_t kv_ranges_newest_covering(const struct kv_ranges *set, kv_slice lower, kv_slice upper,
                                   uint64_t version_max)
{
    struct question q = {lower, upper, version_max, 0, true};
    if (set)
        ranges_search(set, 0, set->n, &q);
    return q.best;
}

uint64_t kv_ranges_newest(const struct kv_ranges *set, kv_slice key, uint64_t version_max)
{
    return kv_ranges_newest_over(set, key, key, version_max);
}

bool kv_ranges_touch(const struct kv_ranges *set, kv_slice lower, kv_slice upper, uint64_t version)
{
    for (size_t i = 0; i < kv_ranges_count(set); i++) {
        const struct kv_range *range = &set->nodes[i].range;
        if (upper.len && kv_slice_compare(range->lower, upper) >= 0)
            return false; /* they come by lower bound */
        if (range->version > version && kv_slice_compare(range->upper, lower) > 0)
            return true;
    }
    return false;
}
