/*
 * posting_lists.h - which new series of one commit go into which list of postings: members grouped by metric, label and
 * value through a hash table, so that nothing has to be sorted.
 *
 * Ownership  the structure is the caller's, {0} is empty; names, values and metrics are borrowed until it is cleared.
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
    const void *metric; /* told apart by its address */
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
/* Members of one list stay in the order in which they are added. */
KV_MUST kv_status ts_posting_lists_add(struct ts_posting_lists *lists, const void *metric, kv_slice name,
                                       kv_slice value, uint32_t member);
/* Empties it; memory beyond bytes_kept an array is given back. */
void ts_posting_lists_clear(struct ts_posting_lists *lists, size_t bytes_kept);
void ts_posting_lists_release(struct ts_posting_lists *lists);

#endif
