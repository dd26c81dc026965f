/*
 * tree_iter.h - walks a version's tables of one space in the order of kvcore/sst/entry.h: the runs of a cut
 * merged, the cuts one behind another, the tables of a run one behind another. Tables are opened for reading
 * only when they are reached, so at most one table of each run of one cut is being read.
 *
 * Threads    one at a time.  Ownership  holds a reference of the version.  Failure  as kv_entry_iter.
 */
#ifndef KV_TREE_ITER_H
#define KV_TREE_ITER_H

#include "kvcore/db/version.h"

struct kv_tree_iter_options {
    uint32_t space;
    kv_slice lower, upper; /* [lower, upper); empty: unbounded. Borrowed: they outlive the iterator */
    bool no_fill;          /* do not fill the block cache: merges */
    bool uncounted;        /* blocks read are not counted among what readers read: merges */
    struct kv_err *err;    /* outlives the iterator; may be NULL */
};
/* The most that kv_tree_sources appends for a space. */
size_t kv_tree_sources_max(const struct kv_version *version, uint32_t space);
/* Appends to sources what a walk of the space's tables has to merge, newest data first, and counts it in *n. On failure
 * too, what is there is the caller's to close. */
KV_MUST kv_status kv_tree_sources(struct kv_version *version, const struct kv_tree_iter_options *options,
                                  struct kv_entry_iter **sources, size_t *n);
/* Of one cut alone. */
KV_MUST kv_status kv_cut_iter_open(struct kv_version *version, const struct kv_cut *cut,
                                   const struct kv_tree_iter_options *options, struct kv_entry_iter **out);

/* The keys a range can hold of a run or tree: [*first, *last) of its tables or cuts. */
void kv_tree_cut_range(const struct kv_tree *tree, kv_slice lower, kv_slice upper, size_t *first,
                       size_t *last);

#endif
