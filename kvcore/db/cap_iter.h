/*
 * cap_iter.h - a source without what is newer than a version: so that something may be laid over it whose versions
 * go on from there (a transaction's own writes over its snapshot).
 *
 * Threads    one at a time.
 * Ownership  takes over the source on success, and closes it with itself.
 * Failure    the source's statuses; KV_NO_MEMORY from open.
 */
#ifndef KV_CAP_ITER_H
#define KV_CAP_ITER_H

#include "kvcore/sst/entry.h"

/* *out is the source itself if that promises nothing newer. */
KV_MUST kv_status kv_cap_iter_open(struct kv_entry_iter *source, uint64_t version,
                                   struct kv_entry_iter **out);

#endif
