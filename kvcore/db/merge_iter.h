/*
 * merge_iter.h - several sorted sources as one, and versions collapsed to what a reader at one version sees.
 *
 * kv_merge_iter: a heap of sources, the smallest entry on top; equal (key, version) in several sources come
 * once, from the source that was given first. kv_view_iter: the public iterator (kv_iter) over such a source:
 * of each user key the newest entry at or below the read version, unless that is a deletion. With one source
 * left in the bounds both walk it directly, without the heap; a source that promises unique puts is walked
 * without comparing keys.
 * Threads    one at a time.
 * Ownership  both take over their sources on success, and close them with themselves.
 * Failure    the first failing source's status, and nothing more until the next seek: an entry is never
 *            skipped silently.
 */
#ifndef KV_MERGE_ITER_H
#define KV_MERGE_ITER_H

#include "kvcore/kv.h"
#include "kvcore/sst/entry.h"

enum { KV_MERGE_SOURCES_MAX = 4096 };

/* sources: n iterators, newest data first (copied array). n 0 gives an empty iterator, n 1 the source itself.
 */
KV_MUST kv_status kv_merge_iter_open(struct kv_entry_iter **sources, size_t n, struct kv_entry_iter **out);

struct kv_view_options {
    uint64_t version; /* read version */
    /* Called once after the sources are closed, e.g. to give back a snapshot. May be NULL. */
    void (*closed)(void *ctx);
    void *closed_ctx;
};
/* source: from kv_merge_iter_open, or any one. Its bounds are those of the view. */
KV_MUST kv_status kv_view_iter_open(struct kv_entry_iter *source, const struct kv_view_options *options,
                                    struct kv_iter **out);

#endif
