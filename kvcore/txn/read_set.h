/*
 * read_set.h - what a transaction has read: single keys, whole, and ranges of keys, of any space.
 *
 * Keys are kept in full (no fingerprints), so nobody conflicts by chance; ranges are sorted and disjoint once
 * they are asked for. Memory has a bound: past it the set is made coarser, never smaller. All that was read in a
 * space becomes one range from its first to its last key, so questions may be answered "yes" that were "no", and
 * never the other way round.
 *
 * Threads    one at a time.
 * Ownership  copies what it is given. {0} is no valid set: init, then release.
 * Failure    KV_NO_MEMORY from add: what was to be added is not in the set, so do not show what was read.
 */
#ifndef KV_READ_SET_H
#define KV_READ_SET_H

#include "kvcore/base/arena.h"
#include "kvcore/kv.h"

struct kv_read_key {
    uint32_t space;
    uint32_t hash; /* its low bits */
    kv_slice key;
};
struct kv_read_range {
    uint32_t space;
    kv_slice lower, upper; /* [lower, upper); empty: unbounded */
};
struct kv_read_set {
    struct kv_arena arena; /* the bytes of keys and bounds */
    struct kv_read_key *slots;
    size_t n_slots, n_keys; /* open addressing: n_slots is 0 or a power of two; key.data NULL: free */
    struct kv_read_range *ranges;
    size_t n_ranges, ranges_capacity;
    size_t n_sorted; /* ranges in order and disjoint; those behind were added since */
    uint32_t spaces; /* bit i: something of space i was read */
    size_t bytes_max;
    uint64_t coarsened; /* times the bound was met */
};

void kv_read_set_init(struct kv_read_set *set, size_t bytes_max);
void kv_read_set_release(struct kv_read_set *set);
KV_MUST kv_status kv_read_set_add_key(struct kv_read_set *set, uint32_t space, kv_slice key);
/* [lower, upper), empty: unbounded. */
KV_MUST kv_status kv_read_set_add_range(struct kv_read_set *set, uint32_t space, kv_slice lower,
                                        kv_slice upper);
/* Before the questions below, and after the last add: sorts the ranges. Never fails. */
void kv_read_set_seal(struct kv_read_set *set);
bool kv_read_set_has_key(const struct kv_read_set *set, uint32_t space, kv_slice key);
/* Was anything of [lower, upper) read? Empty: unbounded. */
bool kv_read_set_touches(const struct kv_read_set *set, uint32_t space, kv_slice lower, kv_slice upper);

#endif
