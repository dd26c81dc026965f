/*
 * range_plan.h - what a change of the tree means for its range deletions.
 *
 * A range deletion enters the tree with the flush of its memtable. Tables that one covers whole, and that hold
 * nothing newer, go in the same edit, unread. The others are read through it until a merge has applied it to
 * them. It is forgotten once no table can hold anything it covers (all that reach into it hold only newer
 * entries, or were written with it applied) and no live transaction has yet to notice it; or when a newer one
 * covers it whole.
 *
 * Threads    the holder of manifest_mutex.
 * Ownership  {0} is empty; release in any state.
 */
#ifndef KV_RANGE_PLAN_H
#define KV_RANGE_PLAN_H

#include "kvcore/db/version.h"

struct kv_edit;

/* Of each space, in tables and in one memtable, before kv_commit refuses more of them. */
enum { KV_RANGES_MAX = 65536, KV_RANGES_BYTES_MAX = 16 << 20 };

struct kv_range_add {
    uint32_t space;
    struct kv_range range;
};
struct kv_range_plan {
    struct kv_buf drops; /* uint64_t: numbers of the tables to drop, those of the change included */
    size_t n_covered;    /* of them, those that a range covers */
    struct kv_ranges *sets[KV_SPACES_MAX]; /* of spaces that get new ones: all of them */
    const struct kv_range_add *adds;
    size_t n_adds;
};
/* base: the tree before the change. drops: what the change drops by itself. */
KV_MUST kv_status kv_range_plan_begin(struct kv_range_plan *plan, const struct kv_version *base,
                                      const struct kv_range_add *adds, size_t n_adds, const uint64_t *drops,
                                      size_t n_drops, struct kv_edit *edit);
/* version: the tree after the change; gets its range deletions. */
KV_MUST kv_status kv_range_plan_finish(struct kv_range_plan *plan, struct kv_version *version,
                                       uint64_t oldest_txn, struct kv_edit *edit);
void kv_range_plan_release(struct kv_range_plan *plan);

#endif
