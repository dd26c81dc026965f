#include "kvcore/txn/read_set.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"

#include <stdlib.h>

enum { SLOTS_MIN = 16, RANGES_SORT_MIN = 64 };

void kv_read_set_init(struct kv_read_set *set, size_t bytes_max)
{
    *set = (struct kv_read_set){.bytes_max = bytes_max};
}

void kv_read_set_release(struct kv_read_set *set)
{
    kv_arena_release(&set->arena);
    kv_free(set->slots);
    kv_free(set->ranges);
    kv_read_set_init(set, set->bytes_max);
}

static size_t set_bytes(const struct kv_read_set *set)
{
    return set->arena.used + set->n_slots * sizeof *set->slots + set->ranges_capacity * sizeof *set->ranges;
}

/* ---- keys */

static struct kv_read_key *slot_of(struct kv_read_key *slots, size_t n, uint32_t space, kv_slice key,
                                   uint64_t hash)
{
    for (size_t i = (size_t)hash & (n - 1);; i = (i + 1) & (n - 1)) {
        struct kv_read_key *slot = &slots[i];
        if (!slot->key.data ||
            (slot->hash == (uint32_t)hash && slot->space == space && kv_slice_equal(slot->key, key)))
            return slot;
    }
}

/* Room for one more key, at most two thirds full. */
static kv_status slots_reserve(struct kv_read_set *set)
{
    if ((set->n_keys + 1) * 3 <= set->n_slots * 2)
        return KV_OK;
    size_t n = set->n_slots ? set->n_slots * 2 : SLOTS_MIN;
    struct kv_read_key *slots = kv_zalloc(n, sizeof *slots);
    if (!slots)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < set->n_slots; i++) {
        const struct kv_read_key *old = &set->slots[i];
        if (old->key.data)
            *slot_of(slots, n, old->space, old->key, kv_hash64(old->key, old->space)) = *old;
    }
    kv_free(set->slots);
    set->slots = slots;
    set->n_slots = n;
    return KV_OK;
}

/* ---- ranges */

/* Bounds of ranges: an empty upper one is behind every key. */
static bool upper_less(kv_slice a, kv_slice b)
{
    return a.len != 0 && (b.len == 0 || kv_slice_compare(a, b) < 0);
}

static bool begins_behind(kv_slice lower, kv_slice upper)
{
    return upper.len != 0 && kv_slice_compare(lower, upper) > 0;
}

/* The first of the n ranges (in order, disjoint) that ends behind `key` of the space; NULL: none does. */
static const struct kv_read_range *range_behind(const struct kv_read_set *set, size_t n, uint32_t space,
                                                kv_slice key)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct kv_read_range *range = &set->ranges[middle];
        bool before = range->space != space
                          ? range->space < space
                          : range->upper.len != 0 && kv_slice_compare(range->upper, key) <= 0;
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && set->ranges[low].space == space ? &set->ranges[low] : NULL;
}

static int order_ranges(const void *a, const void *b)
{
    const struct kv_read_range *x = a, *y = b;
    if (x->space != y->space)
        return x->space < y->space ? -1 : 1;
    return kv_slice_compare(x->lower, y->lower);
}

void kv_read_set_seal(struct kv_read_set *set)
{
    if (set->n_sorted == set->n_ranges)
        return;
    qsort(set->ranges, set->n_ranges, sizeof *set->ranges, order_ranges);
    size_t kept = 0;
    for (size_t i = 0; i < set->n_ranges; i++) {
        struct kv_read_range *last = kept ? &set->ranges[kept - 1] : NULL;
        const struct kv_read_range *range = &set->ranges[i];
        if (!last || last->space != range->space || begins_behind(range->lower, last->upper))
            set->ranges[kept++] = *range;
        else if (upper_less(last->upper, range->upper))
            last->upper = range->upper;
    }
    set->n_ranges = set->n_sorted = kept;
}

static kv_status ranges_reserve(struct kv_read_set *set)
{
    if (set->n_ranges >= RANGES_SORT_MIN && set->n_ranges >= 2 * set->n_sorted)
        kv_read_set_seal(set); /* the same places read again and again stay few ranges */
    struct kv_read_range *ranges =
        kv_grow(set->ranges, &set->ranges_capacity, set->n_ranges + 1, sizeof *ranges);
    if (!ranges)
        return KV_NO_MEMORY;
    set->ranges = ranges;
    return KV_OK;
}

static kv_status range_push(struct kv_read_set *set, uint32_t space, kv_slice lower, kv_slice upper)
{
    struct kv_read_range range = {space, {0}, {0}};
    kv_status rc = ranges_reserve(set);
    if (rc < 0)
        return rc;
    if (lower.len)
        range.lower = kv_arena_copy(&set->arena, lower);
    if (upper.len)
        range.upper = kv_arena_copy(&set->arena, upper);
    if ((lower.len && !range.lower.data) || (upper.len && !range.upper.data))
        return KV_NO_MEMORY;
    set->ranges[set->n_ranges++] = range;
    set->spaces |= 1u << space;
    return KV_OK;
}

/* ---- the bound */

struct cover {
    kv_slice lower, upper;
    bool any, upper_in; /* upper_in: upper is a key of it */
};

static void cover_add(struct cover *cover, kv_slice lower, kv_slice upper, bool upper_in)
{
    if (!cover->any || kv_slice_compare(lower, cover->lower) < 0)
        cover->lower = lower;
    if (!cover->any || upper_less(cover->upper, upper) || (upper_in && kv_slice_equal(cover->upper, upper))) {
        cover->upper = upper;
        cover->upper_in = upper_in;
    }
    cover->any = true;
}

/* One range for each space into `fresh`. */
static kv_status coarsen_into(const struct kv_read_set *set, struct kv_read_set *fresh)
{
    struct cover covers[KV_SPACES_MAX] = {0};
    struct kv_buf end = {0};
    kv_status rc = KV_OK;
    for (size_t i = 0; i < set->n_slots; i++)
        if (set->slots[i].key.data)
            cover_add(&covers[set->slots[i].space], set->slots[i].key, set->slots[i].key, true);
    for (size_t i = 0; i < set->n_ranges; i++)
        cover_add(&covers[set->ranges[i].space], set->ranges[i].lower, set->ranges[i].upper, false);
    for (uint32_t space = 0; space < KV_SPACES_MAX; space++) {
        if (!covers[space].any)
            continue;
        kv_buf_clear(&end);
        KV_TRY(kv_buf_append(&end, covers[space].upper));
        if (covers[space].upper_in)
            KV_TRY(kv_buf_append_byte(&end, 0)); /* the first key behind it */
        KV_TRY(range_push(fresh, space, covers[space].lower, kv_buf_slice(&end)));
    }
out:
    kv_buf_release(&end);
    return rc;
}

/* Over the bound, or without memory to go on exactly. */
static kv_status coarsen(struct kv_read_set *set)
{
    struct kv_read_set fresh;
    kv_read_set_init(&fresh, set->bytes_max);
    fresh.coarsened = set->coarsened + 1;
    kv_status rc = coarsen_into(set, &fresh);
    if (rc < 0) {
        kv_read_set_release(&fresh);
        return rc;
    }
    kv_read_set_release(set);
    *set = fresh;
    return KV_OK;
}

static kv_status keep_bound(struct kv_read_set *set)
{
    return set_bytes(set) > set->bytes_max ? coarsen(set) : KV_OK;
}

/* ---- adding, asking */

kv_status kv_read_set_add_key(struct kv_read_set *set, uint32_t space, kv_slice key)
{
    KV_ASSERT(space < KV_SPACES_MAX);
    KV_ASSERT(key.len > 0);
    uint64_t hash = kv_hash64(key, space);
    const struct kv_read_range *range = range_behind(set, set->n_sorted, space, key);
    if (range && kv_slice_compare(range->lower, key) <= 0)
        return KV_OK;
    kv_status rc = slots_reserve(set);
    if (rc < 0)
        return rc;
    struct kv_read_key *slot = slot_of(set->slots, set->n_slots, space, key, hash);
    if (slot->key.data)
        return KV_OK;
    kv_slice copy = kv_arena_copy(&set->arena, key);
    if (!copy.data)
        return KV_NO_MEMORY;
    *slot = (struct kv_read_key){space, (uint32_t)hash, copy};
    set->n_keys++;
    set->spaces |= 1u << space;
    return keep_bound(set);
}

kv_status kv_read_set_add_range(struct kv_read_set *set, uint32_t space, kv_slice lower, kv_slice upper)
{
    KV_ASSERT(space < KV_SPACES_MAX);
    if (upper.len && kv_slice_compare(lower, upper) >= 0)
        return KV_OK;
    const struct kv_read_range *range = range_behind(set, set->n_sorted, space, lower);
    if (range && kv_slice_compare(range->lower, lower) <= 0 && !upper_less(range->upper, upper))
        return KV_OK;
    kv_status rc = range_push(set, space, lower, upper);
    return rc < 0 ? rc : keep_bound(set);
}

bool kv_read_set_has_key(const struct kv_read_set *set, uint32_t space, kv_slice key)
{
    if (set->n_keys && slot_of(set->slots, set->n_slots, space, key, kv_hash64(key, space))->key.data)
        return true;
    KV_ASSERT(set->n_sorted == set->n_ranges);
    const struct kv_read_range *range = range_behind(set, set->n_ranges, space, key);
    return range && kv_slice_compare(range->lower, key) <= 0;
}

bool kv_read_set_touches(const struct kv_read_set *set, uint32_t space, kv_slice lower, kv_slice upper)
{
    KV_ASSERT(set->n_sorted == set->n_ranges);
    const struct kv_read_range *range = range_behind(set, set->n_ranges, space, lower);
    if (range && (upper.len == 0 || kv_slice_compare(range->lower, upper) < 0))
        return true;
    for (size_t i = 0; i < set->n_slots; i++) {
        const struct kv_read_key *slot = &set->slots[i];
        if (slot->key.data && slot->space == space && kv_slice_compare(slot->key, lower) >= 0 &&
            (upper.len == 0 || kv_slice_compare(slot->key, upper) < 0))
            return true;
    }
    return false;
}
