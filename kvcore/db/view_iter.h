/*
 * view_iter.h - what a reader sees of a source of entries: the public iterator (kv_iter).
 *
 * Of each user key the newest entry at or below the read version, unless that is a deletion, has expired, or
 * lies under a range deletion; operands folded, attributes apart from the value. With one source left on the
 * way it is walked directly, without the heap; a source that promises unique plain puts is walked without
 * comparing keys.
 *
 * Backward a key's versions come oldest first, so the newest visible one is known only when the key before it
 * is reached: its value is copied, and the source stands one key further on than what is shown.
 * Threads    one at a time.
 * Ownership  takes over the source on success, and closes it with itself.
 * Failure    the source's status; after one only seeks and close.
 */
#ifndef KV_VIEW_ITER_H
#define KV_VIEW_ITER_H

#include "kvcore/kv.h"
#include "kvcore/sst/entry.h"

struct kv_view_options {
    uint64_t version;  /* read version */
    uint64_t since;    /* only what is newer */
    bool all_versions; /* each entry by itself, deletions and expired ones marked, operands refused */
    bool keys_only;
    bool large_values;                     /* those too long to be lent are shown by their length */
    const struct kv_merge_operator *merge; /* NULL: operands are KV_UNSUPPORTED */
    /* The newest version at or below version of a range deletion over key; 0: none. NULL: there are none. */
    uint64_t (*covered)(void *ctx, kv_slice key, uint64_t version);
    /* The value that a pointer into the value log leads to; NULL: KV_UNSUPPORTED. */
    kv_status (*fetch)(void *ctx, kv_slice pointer, struct kv_block **out);
    int64_t (*now_ms)(void *ctx); /* the retention clock; NULL: 0 */
    void *ctx;
    /* Called once after the source is closed, with ctx, e.g. to give back a snapshot. May be NULL. */
    void (*closed)(void *ctx);
};
KV_MUST kv_status kv_view_iter_open(struct kv_entry_iter *source, const struct kv_view_options *options,
                                    struct kv_iter **out);

#endif
