/*
 * posting_lists.h - which new series of one commit go into which list of postings: members grouped by label and value (those of
 * "all series" by metric) through a hash table, and then put into the commit: a list a metric of "all series", one mixed list
 * for every other label pair (postings.h), so that a target's many metrics cost its labels an entry each, not one a metric.
 *
 * Ownership  the structure is the caller's, {0} is empty; labels and metrics are borrowed until it is cleared.
 * Threads    one at a time.
 * Failure    KV_NO_MEMORY; what was added before is still there.
 */
#ifndef TS_POSTING_LISTS_H
#define TS_POSTING_LISTS_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

#define TS_POSTING_END UINT32_MAX

struct ts_posting_list {
    uint64_t hash;
    const void *metric; /* told apart by its address; NULL: of all metrics */
    kv_slice name, value;
    uint32_t first, last; /* indexes into members; the others by next */
};
struct ts_posting_member {
    uint32_t member, next; /* next: TS_POSTING_END behind the last */
};
struct ts_posting_lists {
    struct ts_posting_list *lists; /* in the order of their first members */
    size_t n, capacity;
    struct ts_posting_member *members;
    size_t n_members, members_capacity;
    uint32_t *slots; /* by hash: index + 1 into lists */
    size_t n_slots;
};
/* Adds a series to the lists of its labels. Members of a list stay in the order in which they are added: that of their refs, if
 * it is known, saves sorting. */
KV_MUST kv_status ts_posting_lists_add(struct ts_posting_lists *lists, const void *metric, kv_slice canonical,
                                       uint32_t member);
/* refs[member], of n: its ref, 0: it is left out. */
struct kv_batch;
KV_MUST kv_status ts_posting_lists_put(const struct ts_posting_lists *lists, const uint64_t *refs, size_t n,
                                       struct kv_batch *batch);
/* Empties it; memory beyond bytes_kept an array is given back. */
void ts_posting_lists_clear(struct ts_posting_lists *lists, size_t bytes_kept);
void ts_posting_lists_release(struct ts_posting_lists *lists);

#endif
