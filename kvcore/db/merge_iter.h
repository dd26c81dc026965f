/*
 * merge_iter.h - several sorted sources as one.
 *
 * The sources are kept in the order they come, which takes one comparison a step while one of them leads (a heap takes
 * two, always); equal (key, version) in several sources come once, from the
 * source that was given first. A change of direction puts every source on the other side of the shown entry.
 * Threads    one at a time.
 * Ownership  takes over its sources on success, and closes them with itself.
 * Failure    the first failing source's status, and nothing more until the next seek: an entry is never
 *            skipped silently.
 */
#ifndef KV_MERGE_ITER_H
#define KV_MERGE_ITER_H

#include "kvcore/sst/entry.h"

enum { KV_MERGE_SOURCES_MAX = 4096 };

/* sources: n iterators, newest data first (copied array). n 0 gives an empty iterator, n 1 the source itself.
 */
KV_MUST kv_status kv_merge_iter_open(struct kv_entry_iter **sources, size_t n, struct kv_entry_iter **out);

/* The only source left in a merge on its way, standing on the entry the merge shows: it may be walked instead,
 * as long as the direction stays. NULL while there are several. What is no merge answers itself. */
struct kv_entry_iter *kv_merge_iter_sole(struct kv_entry_iter *it);

#endif
