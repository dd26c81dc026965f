/*
 * ranges.h - range deletions: a set of [lower, upper) @version, asked for the newest one that covers a key.
 *
 * An immutable array ordered by lower bound, read as a balanced tree whose nodes also know the largest upper
 * bound and the newest version of their subtree (an augmented interval tree; Cormen et al., Introduction to
 * Algorithms, "Interval trees"): nested and overlapping ranges cost linear memory, and a question
 * touches only subtrees that can hold a newer answer.
 * Threads    a built set: any.
 * Ownership  counted. It holds copies of its keys.
 */
#ifndef KV_RANGES_H
#define KV_RANGES_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct kv_range {
    kv_slice lower, upper;
    uint64_t version;
};
struct kv_ranges;

/* Copies n ranges, in any order. */
KV_MUST kv_status kv_ranges_new(const struct kv_range *ranges, size_t n, struct kv_ranges **out);
struct kv_ranges *kv_ranges_ref(struct kv_ranges *ranges);
void kv_ranges_unref(struct kv_ranges *ranges); /* NULL is fine */

size_t kv_ranges_count(const struct kv_ranges *ranges);                        /* NULL: 0 */
size_t kv_ranges_bytes(const struct kv_ranges *ranges);                        /* of its keys; NULL: 0 */
uint64_t kv_ranges_version_max(const struct kv_ranges *ranges);                /* NULL: 0 */
const struct kv_range *kv_ranges_at(const struct kv_ranges *ranges, size_t i); /* by lower bound */

/* The newest version at or below version_max of a range that covers key; 0: none does. ranges NULL: 0. */
uint64_t kv_ranges_newest(const struct kv_ranges *ranges, kv_slice key, uint64_t version_max);
/* The same for ranges that cover all of [first, last], both keys included. */
uint64_t kv_ranges_newest_over(const struct kv_ranges *ranges, kv_slice first, kv_slice last,
                               uint64_t version_max);
/* The same for ranges that cover all of [lower, upper). */
uint64_t kv_ranges_newest_covering(const struct kv_ranges *ranges, kv_slice lower, kv_slice upper,
                                   uint64_t version_max);
/* Does a range newer than version reach into [lower, upper)? upper empty: unbounded. */
bool kv_ranges_touch(const struct kv_ranges *ranges, kv_slice lower, kv_slice upper, uint64_t version);

#endif
